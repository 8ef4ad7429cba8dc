// Made of kps.js by `npm run build`. Do not edit.
(() => {
'use strict';

// The JavaScript client of KPS: publish/subscribe over WebSockets, with acknowledged publishing.
// One file, no dependencies. kps.cjs and kps.global.js are made of it by `npm run build`.

const SECOND = 1000;
const ID_TAKEN = 4001; // close code: another connection registered under this client's id
const FRAME_BYTES = 64 * 1024; // what one WebSocket message gathers at most
const LONE_BYTES = 2000; // a message of this size travels alone, see Outbox
const HIGH_WATER = 1024 * 1024; // bytes not yet on the network, beyond which publish() waits
const OFFLINE_BYTES = 16 * 1024 * 1024;
const MAX_ERROR = 1000; // characters of a subscriber's error that a server passes on
const ACK_GRACE = SECOND; // the server's last word leaves it when the time is over
const CLOSE_TIMEOUT = 5 * SECOND;
const HEARTBEAT = 25 * SECOND; // silence after which the server is asked whether it is there
const PATIENCE = 20 * SECOND; // for its answer
const SHORT_PATIENCE = 5 * SECOND; // for its answer when there is reason to doubt
const LATE = 3 * SECOND; // a timer later than this means that the machine or the page slept
const LONE_SURROGATES = /[\ud800-\udfff]/gu;
const BACKOFF = { first: SECOND / 4, factor: 2, longest: 30 * SECOND, jitter: 0.5 };
const ASKING_AGAIN = { ...BACKOFF, first: SECOND / 2 }; // about topics that were refused for now
const OPPOSITE = { subscribe: 'unsubscribe', unsubscribe: 'subscribe' };
const TEMPORARY = ['rate_limited', 'limit_reached', 'unavailable']; // codes of the server

// -- errors: their names are set as texts because minifiers change those of classes -------------

/** Every error that the client raises on purpose is one of these. */
class KPSError extends Error {
  static { this.prototype.name = 'KPSError'; }
  constructor(message, details) {
    super(message, details);
    Object.assign(this, details);
  }
}

/** The program passed something that cannot go on the wire; nothing was sent. */
class InvalidArgument extends KPSError {
  static { this.prototype.name = 'InvalidArgument'; }
}

/** The message is larger than the server accepts; nothing was sent. */
class MessageTooLarge extends InvalidArgument {
  static { this.prototype.name = 'MessageTooLarge'; }
}

/** There is no connection at the moment. */
class NotConnected extends KPSError {
  static { this.prototype.name = 'NotConnected'; }
}

/** The client was closed, by the program or for good by the server. */
class ClientClosed extends NotConnected {
  static { this.prototype.name = 'ClientClosed'; }
}

/** No connection could be made. `status` is the HTTP status of a refusal, where it can be seen. */
class ConnectFailed extends KPSError {
  static { this.prototype.name = 'ConnectFailed'; }
}

/** The connection ended, with close code `code`, while something waited for an answer on it. */
class ConnectionLost extends KPSError {
  static { this.prototype.name = 'ConnectionLost'; }
}

/** The server did not answer in time. */
class RequestTimeout extends KPSError {
  static { this.prototype.name = 'RequestTimeout'; }
}

/** A bounded queue has no room. */
class QueueFull extends KPSError {
  static { this.prototype.name = 'QueueFull'; }
}

/** The server refused something. On level 2 `code` tells why, and `request` which action. */
class ServerError extends KPSError {
  static { this.prototype.name = 'ServerError'; }

  /** Whether the same may succeed later. */
  get isTemporary() {
    return TEMPORARY.includes(this.code);
  }
}

// -- small things --------------------------------------------------------------------------------

const text = (value) => (typeof value === 'string' ? value : '');

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The members of what should be an object. */
const entries = (value) => (isObject(value) ? Object.entries(value) : []);

const isThenable = (value) => typeof value?.then === 'function';

const describe = (error) => String(error?.message || error);

function byteLength(string) {
  return /^[\0-\x7f]*$/.test(string) ? string.length : new TextEncoder().encode(string).length;
}

/** JSON of a payload. */
function encode(value = null) {
  try {
    const json = JSON.stringify(value);
    // The server could not read half of a surrogate pair, nor what else is in the same frame.
    if (json && !/(^|[^\\])(\\\\)*\\ud[89a-f]/.test(json)) return json;
  } catch (cause) {
    throw new InvalidArgument(`the data is not JSON: ${describe(cause)}`, { cause });
  }
  throw new InvalidArgument('the data is not JSON');
}

/** A message with one member whose JSON is there already. */
function compose(fields, key, json) {
  return `${JSON.stringify(fields).slice(0, -1)},"${key}":${json}}`;
}

function nonEmpty(value, what) {
  if (text(value) && value.search(LONE_SURROGATES) < 0) return value;
  throw new InvalidArgument(`${what} is a string that is not empty`);
}

function randomId() {
  const [number] = crypto.getRandomValues(new BigUint64Array(1));
  return `client-${number.toString(16).padStart(16, '0')}`;
}

/** The WebSocket URL of `host`, `host:port` or a URL; in a page without an address, its own. */
function parseAddress(address, path, secure) {
  const { location } = globalThis;
  const given = address ?? (location?.host ? location.origin : 'localhost');
  try {
    // A scheme without a port of its own does not hide that of an address.
    const url = new URL(given.includes('://') ? given : `kps://${given}`);
    const { protocol, host, port, pathname, search } = url;
    const [, family, tls] = /^(ws|http|kps)(s?):$/.exec(protocol);
    const isBare = family === 'kps';
    const isSecure = isBare ? secure ?? location?.protocol === 'https:' : tls;
    const authority = isBare && !port ? `${host}:9313` : host;
    const target = pathname.length > 1 ? pathname : path.replace(/^\/?/, '/');
    return new URL(`ws${isSecure ? 's' : ''}://${authority}${target}${search}`).href;
  } catch { // whose error may show the query, and a token in it
    throw new InvalidArgument(`not a server address: ${withoutQuery(`${given}`)}`);
  }
}

const withoutQuery = (url) => url.split('?')[0];

/** How long to wait before an attempt: longer after each, up to a maximum, a part at random. */
function waitBefore(attempt, { first, factor, longest, jitter }) {
  return Math.min(first * factor ** attempt, longest) * (1 - jitter * Math.random());
}

/** A promise and its ends. That nobody waits for it is no error. */
function deferred() {
  const ends = {};
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }));
  ends.promise.catch(() => {});
  return ends;
}

// -- sending -------------------------------------------------------------------------------------

/**
 * What waits to be written. Batches and arrays are formed of it at the moment of writing, but not
 * with large messages: only they can be nested so deeply that the server cannot read the frame.
 */
class Outbox {
  size = 0;
  level = 1;
  limit = Infinity; // bytes that the server accepts in one message
  #items = [];
  #isScheduled = false;
  #write;

  constructor(write) {
    this.#write = write;
  }

  push(json) {
    const size = byteLength(json);
    this.#check(size);
    this.#add({ json, size, isLone: size >= LONE_BYTES });
  }

  /** Publications of a topic that follow each other become one message. Level 2 only. */
  publish(topic, payload) {
    const head = `{"action":"publish","topic":${JSON.stringify(topic)}`;
    const added = byteLength(payload) + ','.length;
    const size = byteLength(head) + ',"batch":[]}'.length + added;
    const isLone = added >= LONE_BYTES;
    const last = this.#items.at(-1);
    if (last?.topic === topic && !last.isLone && !isLone && last.size + added <= this.#room) {
      last.payloads.push(payload);
      last.size += added;
      this.size += added;
    } else {
      this.#check(size - 4); // as a single message it has `data` in place of `batch`
      this.#add({ topic, head, payloads: [payload], size, isLone });
    }
  }

  flush() {
    const items = this.#items;
    this.#items = [];
    this.size = 0;
    let frame = [];
    let room = 0;
    const write = () => {
      if (frame.length) this.#write(frame.length > 1 ? `[${frame}]` : frame[0]);
      frame = [];
      room = this.#room - '[]'.length;
    };
    for (const { json, head, payloads, size, isLone } of items) {
      const isAlone = isLone || this.level < 2;
      if (isAlone || size > room) write();
      if (json) frame.push(json);
      else frame.push(`${head},${payloads[1] ? `"batch":[${payloads}]` : `"data":${payloads}`}}`);
      room -= size + ','.length;
      if (isAlone) write();
    }
    write();
  }

  get #room() {
    return Math.min(FRAME_BYTES, this.limit);
  }

  #check(size) {
    if (size > this.limit) {
      throw new MessageTooLarge(`a message of ${size} bytes; the server takes ${this.limit}`);
    }
  }

  #add(item) {
    this.#items.push(item);
    this.size += item.size;
    if (!this.#isScheduled) this.#flushSoon();
  }

  /** Write once nothing is added any more, which lets a loop that awaits each publish() go on. */
  async #flushSoon() {
    this.#isScheduled = true;
    let seen;
    do {
      seen = this.size;
      for (let turns = 3; turns; turns--) await null;
    } while (this.size !== seen && this.size < FRAME_BYTES);
    this.#isScheduled = false;
    this.flush();
  }
}

// -- asking again --------------------------------------------------------------------------------

/**
 * The topics of a connection about which the server has not given its last word: it refused them
 * for now, or was silent. They are asked about again, all at the same time.
 */
class Unsettled {
  #topics = new Map(); // topic -> { error, isDue }: why it is here; whether it is to be asked about
  #attempt = 0;
  #timer;
  #ask;

  constructor(ask) {
    this.#ask = ask;
  }

  has(topic) {
    return this.#topics.has(topic);
  }

  /** The error that brought a topic here, if one did. The program knows it. */
  reason(topic) {
    return this.#topics.get(topic)?.error;
  }

  /** Ask about a topic again later. Tells whether it is new here. */
  add(topic, error) {
    const isNew = !this.has(topic);
    this.#topics.set(topic, { error: this.reason(topic) ?? error, isDue: true });
    if (!this.#timer) this.#start();
    return isNew;
  }

  /** Note that a topic is being asked about. Tells whether it waited for that. */
  asked(topic) {
    const entry = this.#topics.get(topic);
    if (!entry?.isDue) return false;
    entry.isDue = false;
    return true;
  }

  /** The server has given its last word. Where it agreed, it may agree to the others soon. */
  settle(topic, isConfirmed) {
    if (!this.#topics.delete(topic) || !isConfirmed) return;
    this.#attempt = 0;
    if (!this.#timer) return;
    this.stop();
    if (this.#topics.size) this.#start();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #start() {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      for (const [topic, { isDue }] of this.#topics) if (isDue) this.#ask(topic);
    }, waitBefore(this.#attempt++, ASKING_AGAIN));
  }
}

// -- a connection --------------------------------------------------------------------------------

/** One WebSocket, from its opening to its end, with all that waits for an answer on it. */
class Connection {
  level = 1;
  id;
  registered = false;
  ended = false; // nothing more is to be sent or handled
  acks = new Map();
  #client;
  #config;
  #socket;
  #outbox = new Outbox((json) => this.#socket.send(json));
  #timer; // for whatever is due next: opening, registering, the heartbeat, closing
  #wasHeard = false; // since it was last asked whether it is there
  #heardAt = 0;
  #heartbeat = HEARTBEAT;
  #trouble = '';
  #questions = new Map(); // what is asked -> those that wait for the answer, in order
  #unsettled = new Unsettled((topic) => this.#askAgain(topic));
  #count = 0;

  constructor(url, config, client) {
    const { WebSocket, headers, requestTimeout } = config;
    this.#client = client;
    this.#config = config;
    this.id = config.id;
    const socket = headers ? new WebSocket(url, { headers }) : new WebSocket(url);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    const giveUpLater = () => this.#after(requestTimeout, () => this.drop('no answer in time'));
    socket.onopen = async () => {
      giveUpLater();
      try {
        let { token } = config;
        if (typeof token === 'function') token = await token();
        if (this.ended) return;
        socket.send(JSON.stringify({ action: 'ping', from: this.id, proto: 2, token }));
      } catch (error) {
        if (!this.ended) this.drop(`the function for the token failed: ${describe(error)}`);
      }
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onerror = ({ message }) => { this.#trouble = text(message); };
    socket.onclose = ({ code, reason }) => this.#end(code, reason || this.#trouble);
    giveUpLater();
  }

  /** Bytes that are not yet on the network. */
  get backlog() {
    return this.#outbox.size + this.#socket.bufferedAmount;
  }

  /** Send a message, of which one member may be JSON already. */
  send(fields, json, key = 'data') {
    const all = this.level < 2 ? { ...fields, from: this.id } : fields;
    this.#outbox.push(json ? compose(all, key, json) : JSON.stringify(all));
  }

  /** Send what the program publishes without a wish to hear what became of it. */
  publish(fields, payload) {
    const isForTopic = fields.action === 'publish';
    if (isForTopic && this.level > 1) this.#outbox.publish(fields.topic, payload);
    else this.send(fields, payload);
  }

  /** Publish; how many subscribers it was passed on to, which level 1 does not tell. */
  async publishWithReceipt(topic, payload) {
    if (this.level > 1) {
      const receipt = String(++this.#count);
      this.send({ action: 'publish', topic, receipt }, payload);
      return this.#expect(`receipt ${receipt}`);
    }
    this.send({ action: 'publish', topic }, payload);
    await this.flush();
  }

  /** Learn when the server has handled all that was sent before. */
  flush() {
    const nonce = String(++this.#count);
    // All pongs of level 1 are alike. It answers a question about an ack by name, even if there
    // is no such ack.
    if (this.level < 2) return this.askStatus(`barrier_${this.id}_${nonce}`);
    this.send({ action: 'ping', from: this.id, nonce }); // without its id it would get another one
    return this.#expect(`ping ${nonce}`);
  }

  /** Subscribe or unsubscribe. */
  ask(action, topic) {
    // What was to be asked again is the opposite, and not wanted any more: nobody need wait for it.
    if (this.#unsettled.asked(topic)) this.#next(`${OPPOSITE[action]} ${topic}`)?.resolve();
    try {
      this.send({ action, topic });
    } catch (error) { // the topic is too large for the server: that stops no other
      this.#client._endTopic(topic, error);
      throw error;
    }
    return this.#expectAbout(action, topic);
  }

  /** The server's word on a subscription, if it is still to come. */
  confirmation(topic) {
    const asked = this.#questions.get(`subscribe ${topic}`)?.at(-1);
    if (asked) return asked.promise;
    return this.#unsettled.has(topic) ? this.#expectAbout('subscribe', topic) : undefined;
  }

  request(fields, json, timeout, signal) {
    const id = `client_ack_${this.id}_${++this.#count}`;
    const updates = this.level > 1 || undefined;
    this.send({ ...fields, ack_id: id, timeout: timeout / SECOND, updates }, json);
    return new Ack(this, id, timeout, signal);
  }

  askStatus(ackId) {
    this.send({ action: 'get_ack_status', ack_id: ackId });
    return this.#expect(`status ${ackId}`);
  }

  /** Tell the server how handling a message went that somebody wants an ack for. */
  answer(ackId, failure, result) {
    if (this.ended) return;
    const success = failure === undefined;
    const error = failure?.slice(0, MAX_ERROR).replace(LONE_SURROGATES, '\ufffd');
    const fields = { action: 'ack', ack_id: ackId };
    if (this.level < 2) {
      this.send({ ...fields, data: { ack_id: ackId, client_id: this.id, success, error } });
    } else if (!success || result === undefined || typeof result === 'function') {
      this.send({ ...fields, success, error });
    } else {
      try {
        this.send({ ...fields, success }, encode(result), 'result');
      } catch (reason) {
        this.answer(ackId, `the result of the callback cannot be sent: ${describe(reason)}`);
      }
    }
  }

  /** Find out whether the server is still there, now that there is reason to doubt it. */
  check() {
    if (this.registered && !this.ended) this.#probe(SHORT_PATIENCE);
  }

  /** Close in an orderly way, behind what is queued. What waits for answers ends now. */
  close() {
    this.#fail(new ClientClosed('the client was closed'));
    if (!this.registered) return this.drop();
    this.#outbox.flush();
    this.#socket.onmessage = null;
    this.#after(CLOSE_TIMEOUT, () => this.drop());
    this.#socket.close(1000);
  }

  /** End at once, without waiting for the server to take part in closing. */
  drop(reason, isServerAlive = false) {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // some libraries throw what nobody listens to
    if (socket.terminate && !isServerAlive) socket.terminate();
    else socket.close();
    this.#end(1006, reason);
  }

  #end(code, reason) {
    clearTimeout(this.#timer);
    const error = new ConnectionLost(`the connection ended: ${reason || code}`, { code });
    this.#fail(error);
    this.#client._connectionEnded(this, error, reason);
  }

  #fail(error) {
    this.ended = true;
    this.#unsettled.stop();
    for (const what of this.#questions.keys()) {
      for (let question; (question = this.#next(what)); ) question.reject(error);
    }
    for (const ack of this.acks.values()) ack._finish(error);
  }

  #after(delay, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, delay);
  }

  // -- questions: a name for each, which its answer or refusal has too ---------------------------

  /** The answer to a question; without one in time, the error that `timedOut` makes. */
  #expect(what, timedOut = () => new RequestTimeout(`no answer in time: ${what}`)) {
    const question = deferred();
    question.timer = setTimeout(() => {
      this.#remove(what, question);
      question.reject(timedOut());
    }, this.#config.requestTimeout);
    this.#questions.set(what, [...(this.#questions.get(what) ?? []), question]);
    return question.promise;
  }

  #expectAbout(action, topic) {
    return this.#expect(`${action} ${topic}`, () => this.#unanswered(action, topic));
  }

  /** The one of those who asked the same that has waited longest. It waits no more. */
  #next(what) {
    const question = this.#questions.get(what)?.[0];
    clearTimeout(question?.timer);
    if (question) this.#remove(what, question);
    return question;
  }

  #remove(what, question) {
    const others = this.#questions.get(what).filter((each) => each !== question);
    if (others.length) this.#questions.set(what, others);
    else this.#questions.delete(what);
  }

  /** Older servers leave out the nonce: they answer what has waited longest. */
  #oldestPing() {
    return [...this.#questions.keys()].find((what) => what.startsWith('ping '));
  }

  // -- topics: the last word about each is what the program wants now -----------------------------

  #isWanted(action, topic) {
    return this.#client._wants(topic) === (action === 'subscribe');
  }

  /** The server did not get the question, or did not name it in its refusal. */
  #unanswered(action, topic) {
    const cause = this.#unsettled.reason(topic);
    const error = new RequestTimeout(`no answer in time: ${action} ${topic}`, cause && { cause });
    if (this.#isWanted(action, topic)) this.#unsettled.add(topic, error);
    return error;
  }

  #askAgain(topic) {
    const action = this.#client._wants(topic) ? 'subscribe' : 'unsubscribe';
    if (!this.#questions.has(`${action} ${topic}`)) return this.#client._ask(action, topic);
    this.#unsettled.asked(topic); // somebody has waited since it was first asked
    this.send({ action, topic });
  }

  #confirmed(action, topic) {
    const what = `${action} ${topic}`;
    this.#next(what)?.resolve();
    if (this.#questions.has(what) || !this.#isWanted(action, topic)) return; // not the last word
    this.#unsettled.settle(topic, true);
    if (action === 'subscribe') this.#client._inForce(topic);
  }

  #refusedAbout(action, topic, error) {
    const what = `${action} ${topic}`;
    const count = this.#questions.get(what)?.length ?? 0;
    if (!count && !this.#unsettled.has(topic)) return this.#client._report(error); // nobody asked
    // Of several questions about a topic the last one says whether it is wanted now.
    const isLast = count < 2 && this.#isWanted(action, topic);
    if (isLast && this.#client._isWorthAskingAgain(error)) {
      if (this.#unsettled.add(topic, error)) this.#client._report(error);
      return;
    }
    const question = this.#next(what);
    if (question) question.reject(error);
    else this.#client._report(error);
    if (!isLast) return;
    this.#unsettled.settle(topic, false);
    if (action === 'subscribe') this.#client._endTopic(topic, error);
  }

  // -- heartbeat: a page does not see the pings of WebSocket, so it asks with its own ------------

  #watch() {
    const silence = Date.now() - this.#heardAt; // below 0 when the clock was set back
    const rest = this.#heartbeat - silence;
    if (rest > 0 && silence >= 0) this.#after(rest, () => this.#watch());
    else this.#probe(PATIENCE);
  }

  #probe(patience, isLast = false) {
    const due = Date.now() + patience;
    this.#wasHeard = false;
    if (this.level < 2) this.send({ action: 'ping' }); // any message is an answer
    else this.flush();
    this.#after(patience, () => {
      // A late timer says nothing: what has come meanwhile may not have been handed over yet.
      if (this.#wasHeard) this.#watch();
      else if (!isLast && Date.now() - due > LATE) this.#probe(SHORT_PATIENCE, true);
      else this.drop('the server is silent');
    });
  }

  // -- receiving ---------------------------------------------------------------------------------

  #receive(data) {
    this.#wasHeard = true;
    this.#heardAt = Date.now();
    let parsed;
    try {
      parsed = JSON.parse(typeof data === 'string' ? data : new TextDecoder().decode(data));
    } catch (cause) {
      return this.#client._report(new KPSError('unreadable message from the server', { cause }));
    }
    for (const fields of Array.isArray(parsed) ? parsed : [parsed]) {
      if (this.ended) return;
      if (isObject(fields)) {
        this.#client._onFrame(fields);
        this.#handle(fields);
      } else this.#client._report(new KPSError('unreadable message from the server'));
    }
  }

  #handle(fields) {
    const topic = text(fields.topic);
    const ack = this.acks.get(fields.ack_id);
    switch (fields.action) {
      case 'publish':
        return this.#client._deliver(this, topic, ...this.#open(fields));
      case 'publish_ack':
        return this.#question(topic, fields);
      case 'direct_message':
        return this.#client._deliver(this, undefined, [fields.data], text(fields.from));
      case 'pong':
        return this.registered ? this.#pong(fields) : this.#register(fields);
      case 'subscribed':
      case 'unsubscribed':
        return this.#confirmed(fields.action.slice(0, -1), topic);
      case 'published':
        return this.#next(`receipt ${fields.receipt}`)?.resolve(fields.delivered);
      case 'ack_update':
      case 'ack_response':
        return ack?._told(fields);
      case 'ack_status':
        return this.#next(`status ${fields.ack_id}`)?.resolve(
          new Map(entries(fields.status).map(([id, known]) => [id, known === true])),
        );
      case 'error':
        return this.#error(fields);
    } // what later levels bring is passed over
  }

  #pong({ id, nonce }) {
    this.id = text(id) || this.id;
    this.#client._named(this.id);
    this.#next(nonce ? `ping ${nonce}` : this.#oldestPing())?.resolve();
  }

  #register({ id, proto, limits }) {
    this.registered = true;
    this.id = text(id) || this.id;
    this.level = this.#outbox.level = proto === 2 ? 2 : 1;
    if (limits?.max_message > 0) this.#outbox.limit = limits.max_message;
    if (limits?.heartbeat > 0) this.#heartbeat = limits.heartbeat * SECOND;
    this.#watch();
    this.#client._registered(this);
  }

  /** Payloads and sender. On level 1 both are wrapped in `data`, by every server. */
  #open({ data, batch, from }) {
    if (this.level > 1) return [Array.isArray(batch) ? batch : [data], text(from)];
    const isWrapped = isObject(data) && 'data' in data;
    return isWrapped ? [[data.data], text(data.from)] : [[data], text(from)];
  }

  #question(topic, fields) {
    const ackId = text(fields.ack_id);
    const opened = this.#open(fields);
    const isDirect = this.level > 1 ? !topic : topic.startsWith(`__direct_${this.id}`);
    const deliver = (to) => this.#client._deliver(this, to, ...opened, ackId);
    if (!deliver(topic) && !(isDirect && deliver()) && ackId) {
      this.answer(ackId, 'no subscriber for topic');
    }
  }

  /** The server refused one message, or a whole frame and names the messages that it held. */
  #error(fields) {
    const named = Array.isArray(fields.refused) ? fields.refused.filter(isObject) : [];
    for (const message of named.length ? named : [fields]) {
      if (!this.ended) this.#refused(fields, message);
    }
  }

  /** Tell who waits for what is refused, as far as the server names it. */
  #refused({ error: reason, code }, { request, topic, to, receipt, nonce, ack_id: ackId }) {
    const error = new ServerError(text(reason), { code, request, topic, to });
    if (!this.registered) return this.#client._turnedAway(this, error);
    if (OPPOSITE[request]) return this.#refusedAbout(request, text(topic), error);
    const ack = /^publish/.test(request) && this.acks.get(ackId);
    if (ack) return ack._finish(error);
    const question = this.#next({
      publish: `receipt ${receipt}`,
      get_ack_status: `status ${ackId}`,
      ping: nonce ? `ping ${nonce}` : this.#oldestPing(),
    }[request]);
    if (question) question.reject(error);
    else this.#client._report(error);
  }
}

// -- acks ----------------------------------------------------------------------------------------

/** The answers to one message, as they come. Those who wait get an error if they cannot come. */
class Ack {
  #connection;
  #responses = new Map();
  #isFinished = false;
  #error;
  #end = deferred();
  #news = deferred();
  #timer;
  #signal;
  #abort = () => this.#giveUp(this.#signal.reason);

  constructor(connection, id, timeout, signal) {
    this.id = id;
    this.#connection = connection;
    this.#signal = signal;
    connection.acks.set(id, this);
    this.#timer = setTimeout(() => this.#giveUp(), timeout + ACK_GRACE);
    signal?.addEventListener('abort', this.#abort);
    if (signal?.aborted) this.#abort();
  }

  /** Wait until all have answered or the time is over; the outcomes by client id. */
  async wait() {
    await this.#end.promise;
    return new Map(this.#responses);
  }

  /** Wait for the first outcome; `undefined` if the request ends without one. */
  async waitAny() {
    for await (const response of this) return response;
  }

  async *[Symbol.asyncIterator]() {
    for (let given = 0; ; ) {
      const responses = [...this.#responses.values()];
      if (given < responses.length) yield responses[given++];
      else if (this.#isFinished) return this.#end.promise;
      else await this.#news.promise;
    }
  }

  /** Ask the server who was addressed, and who of them has answered. */
  async status() {
    const told = this.#isFinished ? this.#end.promise : this.#connection.askStatus(this.id);
    const status = await Promise.race([told, this.#end.promise]);
    const known = [...this.#responses].map(([id, { error }]) => [id, error !== 'timeout']);
    return status ?? new Map(known);
  }

  /** Whether all who were addressed have answered. */
  async isComplete() {
    if (this.#error) return false;
    const answered = [...(await this.status()).values()];
    return answered.length > 0 && answered.every(Boolean);
  }

  /** Stop waiting: whoever waits gets what has come so far. */
  cancel() {
    this.#giveUp();
  }

  _told({ action, responses, missing }) {
    for (const [clientId, outcome] of entries(responses)) this.#add(clientId, outcome);
    for (const clientId of missing ?? []) this.#add(clientId, { error: 'timeout' });
    if (action === 'ack_response') this._finish();
    else this.#announce();
  }

  _finish(error) {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#error = error;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#connection.acks.delete(this.id);
    if (error) this.#end.reject(error);
    else this.#end.resolve();
    this.#announce();
  }

  #add(clientId, outcome) {
    const response = { clientId, success: outcome?.success === true };
    if (outcome?.error) response.error = text(outcome.error);
    if (outcome?.result !== undefined) response.result = outcome.result;
    this.#responses.set(clientId, response);
  }

  #giveUp(error) {
    if (this.#isFinished) return;
    this._finish(error);
    this.#connection.send({ action: 'cancel_ack', ack_id: this.id });
  }

  #announce() {
    this.#news.resolve();
    this.#news = deferred();
  }

  // -- the unified spelling ----------------------------------------------------------------------

  async Wait() {
    const responses = await this.wait();
    return Object.fromEntries([...responses].map(([id, outcome]) => [id, this.#unified(outcome)]));
  }

  async WaitAny() {
    const response = await this.waitAny();
    return { response: response ? this.#unified(response) : {}, success: Boolean(response) };
  }

  async GetStatus() {
    return Object.fromEntries(await this.status());
  }

  IsComplete() {
    return this.isComplete();
  }

  Cancel() {
    this.cancel();
  }

  #unified({ clientId, ...outcome }) {
    return { ack_id: this.id, client_id: clientId, ...outcome };
  }
}

/** The answer that one message still owes, from all `remaining` subscriptions that got it. */
function acknowledgement(remaining, send) {
  let error;
  let result;
  const reply = (value) => { result ??= value; };
  const settle = (reason, value) => {
    error ??= reason;
    reply(value);
    if (--remaining === 0) send(error, result);
  };
  return { reply, settle };
}

// -- subscriptions -------------------------------------------------------------------------------

/** One message, as callbacks and iterators get it. */
class Message {
  #acknowledgement;

  constructor(topic, data, from, acknowledgement) {
    this.topic = topic;
    this.data = data;
    this.from = from;
    this.#acknowledgement = acknowledgement;
  }

  /** Give a publisher who wants an ack a result, as the return value of a callback does. */
  reply(result) {
    this.#acknowledgement?.reply(result);
  }

  _settle(error, result) {
    this.#acknowledgement?.settle(error, result);
    this.#acknowledgement = undefined; // a second time means nothing
  }
}

/** What can be awaited, and is then no promise any more: it could not be the outcome of one. */
async function untilConfirmed(thenable, confirmation) {
  await confirmation;
  thenable.then = undefined;
  return thenable;
}

/** What `subscribe` returns: to be awaited, iterated over, and ended. */
class Subscription {
  dropped = 0;
  #client;
  #callback;
  #incoming = [];
  #outgoing = []; // the older part of the queue, reversed
  #busy = false;
  #isFull = false;
  #ended = false;
  #error;
  #current; // what an iterator's user is handling
  #idle = []; // iterators that wait
  #signal;
  #abort = () => this.#leave();
  _confirmation; // the server's, if it is still to come
  _isAwaited = false;

  constructor(client, topic, callback, signal) {
    this.#client = client;
    this.topic = topic;
    this.#callback = callback;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort);
  }

  /** End the subscription. What still waits in it is given up. */
  unsubscribe() {
    this.#settleCurrent();
    this.#leave();
  }

  /** Waits until the server has confirmed the subscription; from then on this is no promise. */
  then(resolve, reject) {
    this._isAwaited = true;
    return untilConfirmed(this, this.#client._confirmed(this)).then(resolve, reject);
  }

  [Symbol.asyncIterator]() {
    if (this.#callback) throw new InvalidArgument('iterate over a subscription without callback');
    return this;
  }

  /** The next message. The one before counts as handled. */
  async next() {
    this.#settleCurrent();
    for (;;) {
      const value = this.#take();
      if (value) {
        this.#current = value;
        return { done: false, value };
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return { done: true, value: undefined };
      await new Promise((resolve) => this.#idle.push(resolve));
    }
  }

  /** A loop was left: by `break` or by an exception looks the same, so nothing is claimed. */
  async return(value) {
    this.#settleCurrent('the subscription was left');
    this.#leave();
    return { done: true, value };
  }

  _put(message) {
    if (this.#ended) {
      message._settle('unsubscribed');
      return;
    }
    if (this.#incoming.length + this.#outgoing.length >= this.#client._mailbox) {
      this.dropped++;
      message._settle('queue full');
      if (this.#isFull) return;
      this.#isFull = true;
      this.#client._report(new QueueFull(`too slow, messages dropped: ${this.topic || 'direct'}`));
      return;
    }
    this.#incoming.push(message);
    if (!this.#callback) this.#idle.shift()?.();
    else if (!this.#busy) this.#run();
  }

  /** End without a word to the server. With an error, what has come is still handed over. */
  _end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#signal?.removeEventListener('abort', this.#abort);
    for (let message; !error && (message = this.#take()); ) message._settle('unsubscribed');
    for (const resolve of this.#idle) resolve();
  }

  #take() {
    if (!this.#outgoing.length) {
      this.#outgoing = this.#incoming.reverse();
      this.#incoming = [];
    }
    this.#isFull = false;
    return this.#outgoing.pop();
  }

  #leave() {
    if (this.#ended) return;
    this._end();
    this.#client._unsubscribed(this);
  }

  #settleCurrent(error) {
    this.#current?._settle(error);
    this.#current = undefined;
  }

  async #run() {
    this.#busy = true;
    for (let message; (message = this.#take()); ) {
      try {
        let result = this.#callback(message);
        if (isThenable(result)) result = await result;
        message._settle(undefined, result);
      } catch (error) {
        message._settle(describe(error));
        this.#client._report(error);
      }
    }
    this.#busy = false;
  }
}

// -- the client ----------------------------------------------------------------------------------

/** A connection to the bus that restores itself. */
class Client {
  #url;
  #config;
  #backoff;
  #connection; // the current one, registered or not yet
  #retry;
  #attempt = 0;
  #wasConnected = false;
  #isClosing = false;
  #hasEnded = false;
  #error; // why it ended, unless the program closed it
  #opened; // set once connect() was called
  #closed = deferred();
  #topics = new Map(); // topic -> its subscriptions, a list that is never changed
  #wereInForce = new Set(); // those of the topics that a server has confirmed at any time
  #direct; // the subscription to direct messages, if there is one, as a list
  #kept = []; // publications for the next connection, as [fields, JSON of the payload]
  #keptBytes = 0;
  #dropped = 0;
  #stopListening = () => {};

  constructor(address, options = {}) {
    if (isObject(address)) [address, options] = [undefined, address];
    const config = {
      path: '/ws/bus',
      reconnect: true,
      offlineQueue: 0,
      requestTimeout: 10 * SECOND,
      mailbox: 65_536,
      onError: (error) => console.error(error),
      WebSocket: globalThis.WebSocket,
    };
    for (const [name, value] of Object.entries(options)) {
      if (value !== undefined) config[name] = value;
    }
    if (!config.WebSocket) {
      throw new InvalidArgument('there is no WebSocket here: pass one as option (npm install ws)');
    }
    config.id = nonEmpty(config.id ?? randomId(), 'an id');
    this.#config = config;
    this.#url = parseAddress(address, config.path, config.secure);
    const first = config.reconnect;
    const fixed = typeof first === 'number' && { first, factor: 1, longest: first, jitter: 0 };
    this.#backoff = { ...BACKOFF, ...config.backoff, ...fixed };
    if (config.onDirect) this.#direct = [new Subscription(this, '', config.onDirect)];
  }

  static connect(address, options) {
    return new this(address, options).connect();
  }

  /** The id under which others reach this client. */
  get id() {
    return this.#config.id;
  }

  get Id() {
    return this.id;
  }

  /** Whether the server knows this client at the moment. */
  get connected() {
    return Boolean(this.#connection?.registered) && !this.#isClosing;
  }

  /** The level of the protocol that is spoken at the moment; `undefined` without a connection. */
  get level() {
    return this.connected ? this.#connection.level : undefined;
  }

  /** How many of the publications that were kept for a connection were never sent. */
  get dropped() {
    return this.#dropped;
  }

  /** Connect; fulfilled when the server knows this client for the first time. */
  connect() {
    if (this.#isOver) return Promise.reject(this.#refusal());
    if (!this.#opened) {
      this.#opened = deferred();
      this.#listen();
      if (!this.#isOver) this.#open();
    }
    return this.#opened.promise;
  }

  /** Close for good, behind what is queued. What is pending ends at once. */
  close() {
    if (!this.#isOver) {
      this.#isClosing = true;
      this.#endSubscriptions();
      if (this.#connection) this.#connection.close();
      else this.#end();
    }
    return this.#closed.promise;
  }

  subscribe(topic, callback, options) {
    nonEmpty(topic, 'a topic');
    if (typeof callback !== 'function') [callback, options] = [undefined, options ?? callback];
    if (this.#isOver) throw this.#refusal();
    const subscription = new Subscription(this, topic, callback, options?.signal);
    const others = this.#topics.get(topic) ?? [];
    this.#topics.set(topic, [...others, subscription]);
    if (this.connected) this.#confirm(subscription, !others.length);
    if (options?.signal?.aborted) subscription.unsubscribe();
    return subscription;
  }

  /** End all subscriptions to a topic. */
  unsubscribe(topic) {
    for (const subscription of this.#topics.get(topic) ?? []) subscription.unsubscribe();
  }

  async publish(topic, data) {
    await this.#sendOrKeep({ action: 'publish', topic: nonEmpty(topic, 'a topic') }, data);
  }

  async publishToId(id, data) {
    await this.#sendOrKeep({ action: 'direct_message', to: nonEmpty(id, 'an id') }, data);
  }

  /** Have the server send a message to another server. */
  async publishToServer(address, data, secure = false) {
    const to = nonEmpty(address, 'an address');
    const status = { is_secure: secure };
    await this.#sendOrKeep({ action: 'publish_to_server', to, status }, data);
  }

  async publishWithReceipt(topic, data) {
    nonEmpty(topic, 'a topic');
    return this.#ready().publishWithReceipt(topic, encode(data));
  }

  async publishWithAck(topic, data, options) {
    return this.#askTopic(topic, data, options);
  }

  async publishToIdWithAck(id, data, options) {
    return this.#askId(id, data, options);
  }

  /** Wait until the server has handled everything that was sent before. */
  async flush() {
    await this.#ready().flush();
  }

  // -- what connections and subscriptions call --------------------------------------------------

  _deliver(connection, topic, payloads, from, ackId) {
    const targets = topic === undefined ? this.#direct : this.#topics.get(topic);
    if (!targets) return false;
    const answer = (...outcome) => connection.answer(ackId, ...outcome);
    const asked = ackId ? acknowledgement(targets.length, answer) : undefined;
    for (const data of payloads) {
      for (const target of targets) target._put(new Message(topic ?? '', data, from, asked));
    }
    return true;
  }

  get _mailbox() {
    return this.#config.mailbox;
  }

  _onFrame(fields) {
    this.#notify(this.#config.onFrame, fields, this);
  }

  // -- connecting --------------------------------------------------------------------------------

  #open() {
    clearTimeout(this.#retry);
    try {
      this.#connection = new Connection(this.#url, this.#config, this);
    } catch (error) {
      this.#end(this.#failure(describe(error)));
    }
  }

  _registered(connection) {
    const reconnected = this.#wasConnected;
    const { id, level } = connection;
    this._named(id);
    this.#attempt = 0;
    this.#wasConnected = true;
    for (const topic of this.#topics.keys()) this._ask('subscribe', topic);
    this.#sendKept(connection);
    this.#notify(this.#config.onConnect, { id, level, reconnected });
    this.#opened.resolve(this);
  }

  /** The id that the server knows this client by is what it asks for when it comes back. */
  _named(id) {
    this.#config.id = id;
  }

  _turnedAway(connection, error) {
    const mayComeBack = error.isTemporary && this.#config.reconnect !== false;
    if (mayComeBack) return connection.drop(error.message, true);
    this.#connection = undefined;
    connection.drop('the server refused this client', true);
    this.#end(error);
  }

  _connectionEnded(connection, lost, reason) {
    if (connection !== this.#connection) return;
    this.#connection = undefined;
    if (this.#isClosing) return this.#end();
    const error = connection.registered ? lost : this.#failure(reason);
    const { status } = error;
    const isDenied = status === 401 || status === 403; // a proxy says other things for a while
    const isRefused = isDenied || (status >= 400 && status < 500 && !this.#wasConnected);
    const isFinal = this.#config.reconnect === false || lost.code === ID_TAKEN || isRefused;
    const retryIn = isFinal ? undefined : waitBefore(this.#attempt++, this.#backoff);
    if (connection.registered) {
      this.#notify(this.#config.onDisconnect, { code: lost.code, reason, retryIn });
    } else if (!isFinal) this._report(error);
    // A callback may have closed the client meanwhile.
    if (isFinal) this.#end(error);
    else if (!this.#hasEnded) this.#retry = setTimeout(() => this.#comeBack(), retryIn);
  }

  #failure(reason) {
    // That is how `ws` tells; others do not tell.
    const status = Number(/server response: (\d+)/.exec(reason)?.[1]) || undefined;
    const url = withoutQuery(this.#url);
    return new ConnectFailed(`cannot connect to ${url}: ${reason || '?'}`, { status });
  }

  /** Without a network an attempt must fail, so wait: the event `online` calls `#wake`. */
  #comeBack() {
    if (globalThis.navigator?.onLine !== false) this.#open();
  }

  /** The network or the page is back: do not wait for what was due before. */
  #wake() {
    if (this.#connection) this.#connection.check();
    else if (!this.#hasEnded) this.#open();
  }

  #listen() {
    const { document } = globalThis;
    const wake = () => this.#wake();
    const show = () => document.visibilityState === 'visible' && this.#wake();
    const { signal } = this.#config;
    const close = () => this.close();
    globalThis.addEventListener?.('online', wake);
    document?.addEventListener('visibilitychange', show);
    signal?.addEventListener('abort', close);
    this.#stopListening = () => {
      globalThis.removeEventListener?.('online', wake);
      document?.removeEventListener('visibilitychange', show);
      signal?.removeEventListener('abort', close);
    };
    if (signal?.aborted) close();
  }

  #end(error) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#error = error;
    clearTimeout(this.#retry);
    this.#stopListening();
    this.#endSubscriptions(error);
    if (this.#kept.length) {
      this.#dropped += this.#kept.length;
      this._report(new NotConnected(`${this.#kept.length} publications were kept and never sent`));
    }
    this.#opened?.reject(error ?? this.#refusal());
    this.#notify(this.#config.onClose, error);
    this.#closed.resolve();
  }

  // -- subscriptions -----------------------------------------------------------------------------

  #confirm(subscription, isFirst) {
    const { topic } = subscription;
    const connection = this.#connection;
    const answer = isFirst ? connection.ask('subscribe', topic) : connection.confirmation(topic);
    subscription._confirmation = answer;
    answer?.catch((error) => subscription._isAwaited || this.#reportUnlessTold(error));
  }

  /** Subscribe or unsubscribe, with nobody who waits for the outcome. */
  _ask(action, topic) {
    const ask = () => this.#connection.ask(action, topic);
    this.#attemptTo(ask, (error) => this.#reportUnlessTold(error));
  }

  /** The cause of an error is one that the program has been told. */
  #reportUnlessTold(error) {
    const isTold = error instanceof ConnectionLost || error instanceof ClientClosed || error.cause;
    if (!isTold) this._report(error);
  }

  _wants(topic) {
    return this.#topics.has(topic);
  }

  _inForce(topic) {
    this.#wereInForce.add(topic);
  }

  /** Beyond a limit a new subscription fails, but the client restores one that was in force. */
  _isWorthAskingAgain({ isTemporary, code, topic }) {
    return isTemporary && (code !== 'limit_reached' || this.#wereInForce.has(topic));
  }

  /** Without a connection a subscription is as good as made: the next one will have it. */
  async _confirmed(subscription) {
    try {
      await subscription._confirmation;
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
    if (this.#isOver) throw this.#refusal();
  }

  _unsubscribed(subscription) {
    const { topic } = subscription;
    const others = (this.#topics.get(topic) ?? []).filter((each) => each !== subscription);
    if (others.length) return this.#topics.set(topic, others);
    this.#wereInForce.delete(topic);
    if (this.#topics.delete(topic) && this.connected) this._ask('unsubscribe', topic);
  }

  #endSubscriptions(error) {
    for (const topic of this.#topics.keys()) this._endTopic(topic, error);
    this.#direct?.[0]._end(error);
  }

  _endTopic(topic, error) {
    for (const subscription of this.#topics.get(topic) ?? []) subscription._end(error);
    this.#topics.delete(topic);
    this.#wereInForce.delete(topic);
  }

  // -- sending -----------------------------------------------------------------------------------

  get #isOver() {
    return this.#isClosing || this.#hasEnded;
  }

  #ready() {
    if (!this.connected) throw this.#refusal();
    return this.#connection;
  }

  #refusal() {
    if (this.#error) return new ClientClosed(`the client has ended: ${describe(this.#error)}`);
    if (this.#isOver) return new ClientClosed('the client was closed');
    return new NotConnected('not connected to the server at the moment');
  }

  async #sendOrKeep(fields, data) {
    const json = encode(data);
    const isOffline = !this.connected && !this.#isOver;
    if (isOffline && this.#config.offlineQueue > 0) return this.#keep(fields, json);
    const connection = this.#ready();
    connection.publish(fields, json);
    // There is no event for it, in any WebSocket.
    while (connection.backlog > HIGH_WATER && !connection.ended) {
      await new Promise((resolve) => { setTimeout(resolve, 4); });
    }
  }

  #keep(fields, json) {
    const size = this.#keptBytes + json.length;
    if (this.#kept.length >= this.#config.offlineQueue || size > OFFLINE_BYTES) {
      throw new QueueFull('the offline queue is full');
    }
    this.#kept.push([fields, json]);
    this.#keptBytes = size;
  }

  /** Only the connection tells how large a message may be. One that is too large stops no other. */
  #sendKept(connection) {
    this.#keptBytes = 0;
    for (const message of this.#kept.splice(0)) {
      try {
        connection.publish(...message);
      } catch (error) {
        this.#dropped++;
        this._report(error);
      }
    }
  }

  #askTopic(topic, ...rest) {
    nonEmpty(topic, 'a topic');
    return this.#request({ action: 'publish_with_ack', topic }, ...rest);
  }

  #askId(to, ...rest) {
    nonEmpty(to, 'an id');
    return this.#request({ action: 'publish_to_id_with_ack', to }, ...rest);
  }

  #request(fields, data, { timeout = 5 * SECOND, signal } = {}) {
    if (!(typeof timeout === 'number' && timeout > 0)) {
      throw new InvalidArgument('timeout is a number of milliseconds above 0');
    }
    return this.#ready().request(fields, encode(data), timeout, signal);
  }

  // -- telling the program -----------------------------------------------------------------------

  _report(error) {
    this.#attemptTo(() => this.#config.onError(error), (failure) => console.error(failure));
  }

  #notify(hook, ...values) {
    this.#attemptTo(() => hook?.(...values));
  }

  /** Do what may fail, now or as a promise, without harm to whoever wanted it done. */
  #attemptTo(act, failed = (error) => this._report(error)) {
    try {
      const result = act();
      if (isThenable(result)) result.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  // -- the unified spelling, shared with the clients in other languages --------------------------
  // Programs that use it need not await: what fails is reported as well.

  static NewClient(options = {}) {
    const { Address, Path, Secure, Id, OnDataWs, OnId, OnOpen, OnClose } = options;
    const { AutoRestart = options.Autorestart, RestartEvery = 10 * SECOND } = options;
    return this.connect(Address, {
      id: Id || undefined,
      path: Path || undefined,
      secure: Secure,
      reconnect: AutoRestart ? RestartEvery : false,
      onFrame: OnDataWs,
      onDirect: OnId && (({ data, from }) => OnId({ data, from }, () => {})),
      onConnect: OnOpen,
      onClose: OnClose,
    });
  }

  Subscribe(topic, callback) {
    const subscription = this.subscribe(topic, ({ data, from }) => callback({ data, from }, end));
    const end = () => subscription.unsubscribe();
    end.then = (...ends) => untilConfirmed(end, subscription).then(...ends);
    return end;
  }

  Unsubscribe(topic) {
    this.unsubscribe(topic);
  }

  Publish(topic, data) {
    return this.#unawaited(this.publish(topic, data));
  }

  PublishToID(id, data) {
    return this.#unawaited(this.publishToId(id, data));
  }

  PublishToServer(address, data, secure) {
    return this.#unawaited(this.publishToServer(address, data, secure));
  }

  PublishWithAck(topic, data, timeout) {
    return this.#askTopic(topic, data, { timeout });
  }

  PublishToIDWithAck(id, data, timeout) {
    return this.#askId(id, data, { timeout });
  }

  Close() {
    return this.close();
  }

  /** Fulfilled when the client is closed. */
  Run() {
    return this.#closed.promise;
  }

  OnClose(callback) {
    this.#config.onClose = callback;
  }

  #unawaited(promise) {
    promise.catch((error) => this._report(error));
    return promise;
  }
}

// What other clients of the family call the same.
const ClientAck = Ack;
const ClientSubscription = Subscription;
const ClientSubscriber = Subscription;

globalThis.KPS = globalThis.BusClient = {
  KPSError,
  InvalidArgument,
  MessageTooLarge,
  NotConnected,
  ClientClosed,
  ConnectFailed,
  ConnectionLost,
  RequestTimeout,
  QueueFull,
  ServerError,
  Ack,
  Subscription,
  Client,
  ClientAck,
  ClientSubscription,
  ClientSubscriber,
};
})();

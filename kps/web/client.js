// Made of kps.js by `npm run build`. Do not edit.
((module) => {
'use strict';

// The JavaScript client of KPS: publish/subscribe over WebSockets, with acknowledged publishing.
// One file, no dependencies. client.js and kps.cjs are made of it by `npm run build`.

const SECOND = 1000;
const DENIED = [401, 403]; // statuses: this client may not connect
const FOR_NOW = [408, 429]; // the request came too slowly, or too many did
const FOR_GOOD = [4001, 4003]; // close codes: another connection took this client's id, or the deployment ended it
const NO_CODE = 1006; // in place of a close code where there was none
const REFUSED = 1008; // close code: the server does not take this client
const TOO_BIG = 1009; // close code: a message over the limit
const FRAME_BYTES = 64 * 1024; // what one WebSocket message gathers at most
const LONE_BYTES = 2000; // a message of this size travels alone, see Outbox
const HIGH_WATER = 1024 * 1024; // bytes not yet on the network, beyond which publish() waits
const MOST_UNSENT = 64 * 1024 * 1024; // beyond which nothing is taken: not all programs wait for publish()
const OFFLINE_BYTES = 16 * 1024 * 1024;
const MAX_NAME = 65_536; // characters of a topic or an id, whatever the server takes
const MAX_ADDRESS = 1024; // characters of the address of another server
const MAX_MESSAGE_ID = 256; // characters
const MAX_ERROR = 1000; // characters of an error text of the other side
const ACK_GRACE = SECOND; // the server's last word leaves it when the time is over
const SENDING = 5 * SECOND; // in which an ack request is sent, if it is not given more time itself
const SILENT_END = 4.5 * SECOND; // an end without outcomes then means on level 1: nobody answered
const FORGIVEN = 3; // connections in a row that may soon end before the waits grow
const HEARTBEAT = 25 * SECOND; // silence after which the server is asked whether it is there
const PATIENCE = 20 * SECOND; // for its answer
const SHORT_PATIENCE = 5 * SECOND; // for its answer when there is reason to doubt
const FAILING = SECOND / 10; // a WebSocket that failed says so within this time, or never (Node 22)
const CLOSING = 2; // the state of a WebSocket in its closing handshake
const LATE = 3 * SECOND; // a timer later than this means that the machine or the page slept
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; setTimeout fires at once for longer times
const CROWDED = 1 / 32; // Above this part of a mailbox the client stops reading, if the WebSocket can pause.
const RELIEVED = 1 / 64; // Below this part it reads again.
const LOOK = SECOND / 4; // how often one looks whether a mailbox drains, or a request is sent
const LONE_SURROGATES = /[\ud800-\udfff]/gu;
const UNNAMEABLE = /[\p{Cc}\p{Cs}]/u; // control characters and lone surrogates
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu; // what ends lines, moves cursors, turns text round
const BACKOFF = { first: SECOND / 4, factor: 2, longest: 30 * SECOND, jitter: 0.5 };
const LEAST_WAIT = SECOND / 100; // with less, a client would try in a busy loop
const ASKING_AGAIN = { ...BACKOFF, first: SECOND / 2 }; // about what was refused for now
const SLASH = 47; // its code as a character
const BYTES = '$base64'; // the single member of an object that stands for bytes
const BASE64 = /^[A-Za-z\d+/]*={0,2}$/; // if its length can be divided by 4
const CHUNK = 8192; // bytes that one call takes as its arguments
const MOST_ROUTES = 4096; // topics of which the client remembers which subscriptions have them
const LONGEST_ROUTE = 1024; // characters of such a topic
const MOST_PLACES = 10_000; // topics of which the client remembers where it stands in their history
const MOST_NAMED = 1000; // of them, those that the place of a pattern names, the latest
const LONGEST_PLACE = 1024; // characters of such a topic, and of an epoch
const BREAK = 2 ** 32; // At each multiple of it a server may have left out offsets.
const NO_SUBSCRIBER = 'no subscriber for topic'; // the outcome of a client that has just unsubscribed
const NO_MEMBER = 'no member'; // the outcome of a group without members
const LEFT_UNSEEN = 'unknown'; // why a member has left, when nobody was told
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

/** The program asked for something at the wrong time; nothing was sent. */
class InvalidState extends KPSError {
  static { this.prototype.name = 'InvalidState'; }
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

/** A request has reached nobody: the topic has no subscriber, or nobody has the id. */
class NobodyThere extends KPSError {
  static { this.prototype.name = 'NobodyThere'; }
}

/** Those who were asked have failed. `errors` has the texts by client id, `target` is the topic or id. */
class RequestFailed extends KPSError {
  static { this.prototype.name = 'RequestFailed'; }
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

/** The server lacks a feature: it is older, or speaks level 1. Nothing was sent. */
class Unsupported extends KPSError {
  static { this.prototype.name = 'Unsupported'; }
}

// -- small things --------------------------------------------------------------------------------

const text = (value) => (typeof value === 'string' ? value : '');

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The items of what should be an array. */
const list = (value) => (Array.isArray(value) ? value : []);

/** The members of what should be an object. */
const entries = (value) => (isObject(value) ? Object.entries(value) : []);

const isThenable = (value) => typeof value?.then === 'function';

/** Whether it is a generator function, or what it or another iterator function gave. */
const isIterator = (value) => /Generator|Iterator/.test(value?.[Symbol.toStringTag]);

/** A value of the program, unless it is work that nobody would do: that of a generator. */
function finished(value) {
  if (!isObject(value) || !isIterator(value)) return value;
  throw new InvalidArgument('nobody iterates over the iterator that is given here');
}

/** What was thrown, as text. It may be anything, and even refuse to be shown. */
function describe(error) {
  try {
    return String(error?.message || error) || 'an empty text was thrown';
  } catch {
    return 'something was thrown that cannot be shown';
  }
}

/** Show an error, or its text if that fails. */
function show(error) {
  for (const what of [error, describe(error)]) {
    try {
      return console.error(what);
    } catch { /* a console that fails must not end the program */ }
  }
}

/** Words of the other side for an error text: they must not look like lines of a log. */
function quoted(words) {
  const escape = (each) => `\\u{${each.codePointAt(0).toString(16)}}`;
  return text(words).slice(0, MAX_ERROR).replace(INVISIBLE, escape);
}

/** Act later, after a time of any length, or never. Returns what stops that. */
function after(delay, act) {
  let timer;
  const wait = (rest) => {
    const part = Math.min(rest, LONGEST_TIMER);
    timer = setTimeout(() => (rest > part ? wait(rest - part) : act()), part);
  };
  if (delay < Infinity) wait(delay);
  return () => clearTimeout(timer);
}

/** Hear of an event, where there is such a thing. Returns what ends that. */
function listen(target, event, act) {
  target?.addEventListener?.(event, act);
  return () => target?.removeEventListener?.(event, act);
}

/** Seconds from any beginning, where possible by a clock that nobody can set. It may stand still while the machine sleeps. */
const clock = () => (globalThis.performance ?? Date).now() / SECOND;

const pause = (delay) => new Promise((resolve) => { after(delay, resolve); });

const opposite = (action) => (action === 'subscribe' ? 'unsubscribe' : 'subscribe');

function byteLength(string) {
  return /^[\0-\x7f]*$/.test(string) ? string.length : new TextEncoder().encode(string).length;
}

/** JSON of a payload. */
function encode(value = null) {
  try {
    if (ArrayBuffer.isView(value)) throw new InvalidArgument(NO_BYTES); // it would become an object of numbers
    let json = JSON.stringify(value);
    // NaN and the like have become `null`, promises and ArrayBuffers `{}`, which may be there by right.
    if (json?.includes('null') || json?.includes('{}')) json = JSON.stringify(value, refuseNothings);
    // The server could not read half of a surrogate pair, nor what else is in the same frame.
    const isWhole = !json?.includes('\\ud') || !/\\ud[89a-f]/.test(json.replaceAll('\\\\', ''));
    if (json && isWhole) return json;
  } catch (cause) {
    throw new InvalidArgument(`the data is not JSON: ${describe(cause)}`, { cause });
  }
  throw new InvalidArgument('the data is not JSON');
}

/** For JSON.stringify: throws for what would be lost. Members of objects may be undefined. */
function refuseNothings(key, value) {
  if (isThenable(value)) throw new InvalidArgument('JSON has no promise: await it');
  if (isBytes(value) && !value.length) throw new InvalidArgument(NO_BYTES);
  finished(value);
  const isNumber = typeof value === 'number' || value instanceof Number;
  const isLost = isNumber ? !Number.isFinite(Number(value)) : Array.isArray(this) && isNothing(value);
  if (isLost) throw new InvalidArgument(`JSON has no ${isNumber ? value : typeof value}`);
  return value;
}

/** Whether JSON leaves out a member of that value. */
const isNothing = (value) => ['undefined', 'function', 'symbol'].includes(typeof value);

/** A message with one member whose JSON is there already. */
function compose(fields, key, json) {
  return `${JSON.stringify(fields).slice(0, -1)},"${key}":${json}}`;
}

/** Whether a string is within its limits, counted as the server does: in characters, not in halves. */
const isWithin = (value, most) => value.length <= most
  || (value.length <= 2 * most && [...value].length <= most);

/** What can be a name: all that text has, but no control characters, nor what UTF-8 cannot say. */
const isName = (value, most = MAX_NAME) => typeof value === 'string' && value !== ''
  && isWithin(value, most) && !UNNAMEABLE.test(value);

/** A value of the program that is as it must be: a check, and the words for it. */
function right(value, what, [isRight, words]) {
  if (isRight(value)) return value;
  throw new InvalidArgument(`${what} is ${words}`);
}

const nameUpTo = (most) => [
  (value) => isName(value, most), `a string of 1 to ${most} characters, none a control character or half of one`,
];
const NAME = nameUpTo(MAX_NAME);

const named = (value, what) => right(value, what, NAME);

/** The token of a function. The page of an error, or a text with a line end, is none. */
async function tokenOf(give) {
  let token;
  try {
    token = await give();
  } catch (error) {
    throw new Error(`the function for the token failed: ${describe(error)}`);
  }
  if (isName(token) && /^[!-~]+$/.test(token)) return token;
  throw new InvalidArgument('the function gave no valid token: a token is ASCII, without spaces and line ends');
}

/** An id that nobody has. It need not be secret, so it can do without `crypto` (React Native). */
function randomId() {
  const numbers = new Uint32Array(2).map(() => Math.random() * 2 ** 32);
  globalThis.crypto?.getRandomValues?.(numbers);
  return numbers.reduce((id, each) => id + each.toString(16).padStart(8, '0'), 'client-');
}

/** The WebSocket URL of `host`, `host:port` or a URL; in a page without an address, its own. */
function parseAddress(address, path, secure) {
  const { location } = globalThis;
  const given = address?.href ?? address ?? (location?.host ? location.origin : 'localhost');
  try {
    // A scheme without a port of its own does not hide that of an address.
    const url = new URL(given.includes('://') ? given : `kps://${given}`);
    const { protocol, host, port, pathname, search } = url;
    const [, family, tls] = /^(ws|http|kps)(s?):$/.exec(protocol);
    const isBare = family === 'kps';
    const isSecure = isBare ? secure ?? location?.protocol === 'https:' : tls;
    const authority = isBare && !port ? `${host}:9313` : host;
    const target = pathname.length > 1 ? pathname : path.replace(/^\/?/, '/');
    const found = new URL(`ws${isSecure ? 's' : ''}://${authority}${target}${search}`);
    // Nothing is left out, nor sent in clear against the program's wish, nor to the host 0.0.31.144,
    // which is what 8080 says.
    const isOdd = UNNAMEABLE.test(given) || url.username || url.password || url.hash || found.hash
      || (secure && !isSecure) || (/^[\d.]+$/.test(found.hostname) && !given.includes(found.hostname));
    if (!isOdd) return found.href;
  } catch { /* whose error may show the query, and a token in it */ }
  const shown = isText(given) ? `"${quoted(withoutSecrets(given))}"` : typeof given;
  throw new InvalidArgument(`not a server address: ${shown}`);
}

/** An address for a text about it. A user, a password and a query may be secret. */
function withoutSecrets(address) {
  const path = withoutQuery(address);
  if (address.slice(path.length).includes('@')) return '…'; // the question mark is in a password
  return path.replace(/^.*@/s, '…@');
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

// -- bytes ---------------------------------------------------------------------------------------

const NO_BYTES = 'JSON has no bytes: see packBytes';

/** Whether it is an ArrayBuffer, perhaps a shared one, or a view of one. It may come from another frame. */
const isBytes = (value) => isObject(value)
  && (ArrayBuffer.isView(value) || /ArrayBuffer/.test(value[Symbol.toStringTag]));

/** Whether the other side takes it for bytes. */
const isMarked = (value) => isObject(value) && !isNothing(value[BYTES])
  && Object.values(value).filter((each) => !isNothing(each)).length === 1;

/** An array or a plain object, with what `change` makes of its members. All else remains as it is. */
function withMembers(value, change) {
  if (Array.isArray(value)) return value.map((each) => change(each));
  if (!isPlain(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, change(each)]));
}

/** Whether it is an object of no class. It may come from another frame. */
function isPlain(value) {
  const prototype = isObject(value) ? Object.getPrototypeOf(value) : undefined;
  return prototype === null || Boolean(prototype && !Object.getPrototypeOf(prototype));
}

/** A payload for sending, in which bytes stand as JSON. */
function packBytes(value) {
  if (isBytes(value)) return { [BYTES]: toBase64(value) };
  if (isMarked(value)) throw new InvalidArgument(`an object with ${BYTES} alone stands for bytes`);
  return withMembers(value, packBytes);
}

/** A payload that came, with its bytes: the reverse of `packBytes`. */
function unpackBytes(value) {
  return isMarked(value) ? fromBase64(value[BYTES]) : withMembers(value, unpackBytes);
}

function toBase64(value) {
  const bytes = new Uint8Array(value.buffer ?? value, value.byteOffset, value.byteLength);
  let binary = '';
  for (let index = 0; index < bytes.length; index += CHUNK) {
    binary += String.fromCharCode(...bytes.subarray(index, index + CHUNK));
  }
  return btoa(binary);
}

function fromBase64(value) {
  if (!isText(value) || value.length % 4 || !BASE64.test(value)) {
    throw new InvalidArgument(`this is not base64: ${isText(value) ? quoted(value) : typeof value}`);
  }
  const binary = atob(value);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

// -- patterns, and keys --------------------------------------------------------------------------

/** A pattern of topics: `**` stands for any characters, `*` for any but `/`, each also for none. */
class Pattern {
  #text;
  #head; // all before the first star
  #length = 0; // of all behind, without the stars
  #blocks = []; // of 32 characters of that: where each one is, and which have which star before them

  constructor(value) {
    this.#text = named(value, 'a pattern');
    this.#head = value.split('*', 1)[0];
    const begin = () => this.#blocks.push({ places: new Map(), stars: 0, doubleStars: 0 });
    begin();
    for (const [symbol] of value.slice(this.#head.length).matchAll(/\*+|[^*]/g)) {
      const block = this.#blocks.at(-1);
      const bit = 1 << this.#length; // of 32: shifts take the rest of a division by that
      if (symbol[0] === '*') {
        block.stars |= bit;
        if (symbol[1]) block.doubleStars |= bit;
      } else {
        const code = symbol.charCodeAt();
        block.places.set(code, block.places.get(code) | bit);
        if (++this.#length % 32 === 0) begin();
      }
    }
  }

  get text() {
    return this.#text;
  }

  /**
   * Whether a topic matches. It is read once, whatever the pattern is. Bit n of `reached` is set if
   * the first n characters behind the head, and the stars in between, match what was read so far.
   */
  matches(topic) {
    right(topic, 'a topic', TEXT);
    if (!topic.startsWith(this.#head)) return false;
    const blocks = this.#blocks;
    const reached = blocks.map(() => 0);
    reached[0] = 1;
    for (let index = this.#head.length; index < topic.length; index++) {
      const code = topic.charCodeAt(index);
      for (let block = 0, moved = 0; block < blocks.length; block++) {
        const { places, stars, doubleStars } = blocks[block];
        const stay = reached[block] & (code === SLASH ? doubleStars : stars);
        const carry = moved >>> 31;
        moved = reached[block] & places.get(code);
        reached[block] = moved << 1 | carry | stay;
      }
    }
    return Boolean(reached.at(-1) >>> this.#length & 1);
  }

  /** Whether a subscription to it has a topic: one that begins with `__` only if the pattern says so. */
  _selects(topic) {
    const hidden = topic.startsWith('__') ? /^[^/]*\/?/.exec(topic)[0] : '';
    return this.#head.startsWith(hidden) && this.matches(topic);
  }
}

/**
 * The *key* of what a message is about: a topic, a pattern, or a group of either. It says which of
 * these it is, because they may have the same name.
 */
function keyIn({ topic, pattern, group }) {
  const scope = text(pattern) ? `pattern ${pattern}` : `topic ${text(topic)}`;
  return text(group) ? `group ${JSON.stringify(group)} of ${scope}` : scope;
}

/** The key of what the program subscribes to. */
const keyOf = (wanted, group) => keyIn(
  wanted instanceof Pattern ? { pattern: wanted.text, group } : { topic: named(wanted, 'a topic'), group },
);

/** The key of direct messages, which have no topic. */
const DIRECT = keyIn({});

/** The opposite of `keyIn`. */
function fieldsOf(key) {
  const [, group, kind, name] = /^(?:group ("(?:[^"\\]|\\.)*") of )?(\w+) (.*)/s.exec(key);
  return { [kind]: name, ...(group && { group: JSON.parse(group) }) };
}

const isOfGroup = (key) => key.startsWith('group ');

/** The topic, if that is what a key names. */
const topicOf = (key) => (isOfGroup(key) ? undefined : fieldsOf(key).topic);

// -- options -------------------------------------------------------------------------------------

const isEpoch = (value) => isName(value, LONGEST_PLACE);
const isTime = (value) => typeof value === 'number' && value > 0; // milliseconds; Infinity is one
const isInterval = (value) => isTime(value) && value >= LEAST_WAIT;
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isFunction = (value) => typeof value === 'function';
const isSignal = (value) => isFunction(value?.addEventListener);
const isText = (value) => typeof value === 'string';
const isHook = (value) => isFunction(value) && !isIterator(value);

/** Whether it is an object, and one in JSON. */
const isJsonObject = (value) => isObject(value) && /^{/.test(encode(value));

function isBackoff(value) {
  if (!isObject(value)) return false;
  refuseUnknown(value, BACKOFF);
  const all = { ...BACKOFF, ...value };
  const { first, factor, longest, jitter } = all;
  return Object.values(all).every((each) => typeof each === 'number')
    && first >= LEAST_WAIT && first <= longest && factor >= 1 && jitter >= 0 && jitter <= 1;
}

/** A misspelt option would have no effect, which nobody would notice. */
function refuseUnknown(options, known) {
  const names = Object.keys(known);
  for (const name of Object.keys(options).filter((each) => !names.includes(each))) {
    const pairs = [...name].map((_, index) => name.slice(index, index + 2).toLowerCase());
    const likeness = (other) => pairs.filter((pair) => other.toLowerCase().includes(pair)).length;
    const [nearest] = names.sort((one, other) => likeness(other) - likeness(one));
    throw new InvalidArgument(`there is no option ${quoted(name)}; the nearest one is ${nearest}`);
  }
}

const TEXT = [isText, 'a string'];
const TIME = [isTime, 'a number of milliseconds above 0'];
const COUNT = [isCount, 'a whole number, from 0'];
const LIMIT = [(value) => isCount(value) && value > 0, 'a whole number, from 1'];
const HOOK = [isHook, 'a function, and no generator, which would never run'];
const SIGNAL = [isSignal, 'an AbortSignal'];
const NAMES = [(value) => Array.isArray(value) && [...value].every((each) => isName(each)), 'an array of names'];
const HEADERS = [
  (value) => isObject(value) && !value[Symbol.iterator] && Object.values(value).every(isText) && isJsonObject(value),
  'an object of strings',
];
const OBJECT = [isObject, 'an object'];
const INFO = [isJsonObject, 'an object'];
const BOOLEAN = [(value) => typeof value === 'boolean', 'true or false'];
const POSITION = [(value) => isObject(value) && isEpoch(value.epoch) && isCount(value.offset),
  'the position of a message: { epoch, offset }'];

/** The options of a client that are called when something happens. */
const HOOKS = {
  onDirect: HOOK,
  onConnect: HOOK,
  onDisconnect: HOOK,
  onError: HOOK,
  onRecovered: HOOK,
  onLost: HOOK,
  onFrame: HOOK,
  onClose: HOOK,
};

/** What each option of a client must be: a check, the words for it, and the default, if there is one. */
const OPTIONS = {
  id: NAME,
  path: [(value) => isText(value) && !UNNAMEABLE.test(value), 'a string without control characters', '/ws/bus'],
  secure: BOOLEAN,
  token: [(value) => isName(value) || isHook(value), `a function, and no generator, or ${NAME[1]}`],
  headers: OBJECT,
  level: [(value) => value === 1 || value === 2, '1 or 2', 2],
  reconnect: [(value) => typeof value === 'boolean' || isInterval(value),
    `true, false, or a number of milliseconds from ${LEAST_WAIT}`, true],
  backoff: [isBackoff, `an object with ${LEAST_WAIT} <= first <= longest, factor >= 1, 0 <= jitter <= 1`],
  WebSocket: [isFunction, 'a class: pass one where there is none (npm install ws)'],
  requestTimeout: [...TIME, 10 * SECOND],
  closeTimeout: [(value) => value === 0 || isTime(value), 'a number of milliseconds, from 0', 5 * SECOND],
  offlineQueue: [...COUNT, 0],
  mailbox: [...COUNT, 65_536],
  mailboxBytes: [...COUNT, 64 * 1024 * 1024],
  mailboxPatience: [...TIME, 10 * SECOND],
  overflow: [(value) => value === 'drop_newest' || value === 'drop_oldest', 'drop_newest or drop_oldest', 'drop_newest'],
  signal: SIGNAL,
  ...HOOKS,
};

const SUBSCRIBING = {
  signal: SIGNAL, last: COUNT, since: POSITION, presence: HOOK, info: INFO, group: NAME, concurrency: LIMIT,
};
const PUBLISHING = { headers: HEADERS };
const WAITING = { ...PUBLISHING, messageId: nameUpTo(MAX_MESSAGE_ID) };
const ASKING = { timeout: [...TIME, 5 * SECOND], signal: SIGNAL, ...WAITING };
const ASKING_GROUPS = { ...ASKING, key: NAME, retry: COUNT };
const ASKING_ALL = { ...ASKING_GROUPS, expect: NAMES, expectGroups: NAMES };

/** Those of a client in the unified spelling. What is empty or 0 is none. */
const UNIFIED = {
  Address: [() => true],
  Path: TEXT,
  Secure: BOOLEAN,
  Id: TEXT,
  AutoRestart: BOOLEAN,
  Autorestart: BOOLEAN,
  RestartEvery: [(value) => value === 0 || isInterval(value), `a number of milliseconds from ${LEAST_WAIT}`],
  OnDataWs: HOOK,
  OnId: HOOK,
  OnOpen: HOOK,
  OnClose: HOOK,
};

const called = (callback) => right(callback, 'the callback', HOOK);

/** The options that are given, checked, and the defaults. `null` is as good as none where there is no default. */
function checked(options, known) {
  right(options, 'what has options', OBJECT);
  refuseUnknown(options, known);
  const given = {};
  for (const [name, must] of Object.entries(known)) {
    const usual = must[2];
    const value = options[name] === undefined ? usual : options[name];
    if (value !== usual && (value !== null || must.length > 2)) right(value, name, must);
    given[name] = value ?? undefined;
  }
  return given;
}

/** The options of a subscription, checked, also against each other. */
function checkedSubscribing(options, pattern) {
  const given = checked(options ?? {}, SUBSCRIBING);
  const { last, since, presence, info, group, concurrency } = given;
  const refuse = (why) => { throw new InvalidArgument(why); };
  if (group && (since || last || presence || info)) refuse('a group has neither a past nor presence');
  if (!group && concurrency > 1) refuse('concurrency is for a member of a group');
  if (since && (last || pattern)) refuse('since is for a topic, and without last');
  if (pattern && (presence || info)) refuse('presence and info are for a topic, not for a pattern');
  return info ? { ...given, info: JSON.parse(encode(info)) } : given; // as it is now
}

// -- history -------------------------------------------------------------------------------------

const isOffset = (value) => isCount(value) && value > 0 && value < 2 ** 53 - BREAK; // and so are those behind it
const positionOf = ({ epoch, offset }) => ({ epoch, offset });

/** Where a subscription begins, or an answer, as the server tells. What cannot be read is missing. */
function standingIn({ epoch, offset, mark, coming, recovered, lost }) {
  const count = (value) => (isCount(value) ? value : 0);
  return {
    epoch: isEpoch(epoch) ? epoch : undefined,
    offset: count(offset),
    mark: count(mark),
    coming: count(coming),
    recovered: typeof recovered === 'boolean' ? recovered : undefined,
    lost: isCount(lost) ? lost : null,
  };
}

/** Where the client stands in the topics that have history, so that it can resume there. */
class Standings {
  #places = new Map(); // topic -> { epoch, offset, isApart } of its last message, the latest one last
  #marks = new Map(); // key of a pattern -> { epoch, mark }
  #epochs = new Map(); // key -> the epoch with which this connection has confirmed it
  #having;

  /** `having(topic)` gives the subscriptions that have a topic. */
  constructor(having) {
    this.#having = having;
  }

  /** A new connection has confirmed nothing. */
  connected() {
    this.#epochs.clear();
  }

  /** Note where a subscription begins. */
  begin(key, pattern, { epoch, offset, mark, recovered }) {
    if (!epoch) {
      // A server tells it once, however often it is asked.
      if (!this.#epochs.has(key)) this.forget(key, pattern, () => false);
      return;
    }
    this.#epochs.set(key, epoch);
    if (!pattern) return this.#note(topicOf(key), epoch, offset);
    // The first mark remains: some of what came after it may not be here yet.
    if (this.#marks.get(key)?.epoch !== epoch) this.#marks.set(key, { epoch, mark });
    if (recovered !== false) return;
    for (const [topic, place] of this.#places) {
      // How many are missing was told, also for topics: those are confirmed before patterns.
      if (pattern._selects(topic) && !this.#epochs.has(keyIn({ topic }))) place.isApart = true;
    }
  }

  /** Note that a subscription has ended, and forget the places in its topics that are not wanted otherwise. */
  forget(key, pattern, isWanted = (topic) => this.#having(topic).length) {
    this.#epochs.delete(key);
    this.#marks.delete(key);
    for (const topic of pattern ? this.#places.keys() : [topicOf(key)]) {
      if ((!pattern || pattern._selects(topic)) && !isWanted(topic)) this.#places.delete(topic);
    }
  }

  /** What resumes a subscription on a new connection, if anything does, in so many bytes. */
  since(key, pattern, room) {
    if (!pattern) {
      const topic = topicOf(key);
      const place = this.#places.get(topic);
      // Of a topic that comes already, by a subscription to a pattern, nothing was missed.
      return place && !this.#epochOf(topic) ? positionOf(place) : undefined;
    }
    const found = this.#marks.get(key);
    if (!found) return undefined;
    const named = [];
    for (const [topic, place] of [...this.#places].reverse()) {
      if (!pattern._selects(topic)) continue;
      const entry = [topic, positionOf(place)];
      room -= byteLength(JSON.stringify(entry));
      if (room < 0 || named.push(entry) === MOST_NAMED) break;
    }
    return { ...found, topics: Object.fromEntries(named) };
  }

  /**
   * Note messages that have come. Gives the place of the first, how many before it are missing (`null`: nobody knows,
   * as the epoch is another one), and how many of them the client has had before.
   */
  passed(topic, { epoch: told, offset }, count) {
    const epoch = isEpoch(told) ? told : this.#epochOf(topic);
    if (!epoch) return {};
    const known = this.#places.get(topic);
    const first = { epoch, offset };
    const isSame = known?.epoch === epoch;
    const gap = isSame ? offset - known.offset - 1 : 0;
    this.#note(topic, epoch, offset - 1 + Math.max(count, -gap));
    if (!known || known.isApart) return { first, missing: 0, repeated: -gap };
    const isCounted = Math.floor(known.offset / BREAK) === Math.floor(offset / BREAK);
    const missing = isCounted ? Math.max(0, gap) : 0;
    return { first, missing: isSame ? missing : null, repeated: -gap };
  }

  /** The epoch of a message that tells none. */
  #epochOf(topic) {
    return this.#epochs.get(this.#having(topic).find(({ _key }) => this.#epochs.has(_key))?._key);
  }

  #note(topic, epoch, offset) {
    this.#places.delete(topic); // it goes to the end
    if (!isName(topic, LONGEST_PLACE)) return;
    if (this.#places.size >= MOST_PLACES) this.#places.delete(this.#places.keys().next().value);
    this.#places.set(topic, { epoch, offset });
  }
}

// -- presence ------------------------------------------------------------------------------------

/** What members say about themselves, by id. What cannot be read is missing. */
function infosIn(members) {
  return new Map(list(members).filter((one) => isText(one?.id)).map(({ id, info = null }) => [id, info]));
}

/** What asks, in place of a subscription, that a topic is not observed any more. Its refusal ends no subscription. */
const NO_OBSERVER = { _wish: { presence: false } };

/**
 * Who is subscribed to a topic, as the server tells, and what has changed. `known` are the members that the program
 * knows; `null` if there were so many that it knows their number only.
 */
function presenceIn(topic, { members: listed, joined: came, left: went, count, version }, known = null) {
  const isList = Array.isArray(listed);
  const isChange = !isList && known !== null && (Array.isArray(came) || Array.isArray(went));
  const members = isList ? infosIn(listed) : isChange ? new Map(known) : null;
  const [joined, updated, left] = [new Map(), new Map(), new Map()];
  if (isChange) {
    for (const one of list(went)) {
      if (members.delete(one?.id)) left.set(one.id, text(one.reason) || LEFT_UNSEEN);
    }
  } else if (isList) {
    for (const id of known?.keys() ?? []) if (!members.has(id)) left.set(id, LEFT_UNSEEN);
  }
  for (const [id, info] of isChange ? infosIn(came) : members ?? []) {
    members.set(id, info);
    if (!known?.has(id)) joined.set(id, info);
    else if (JSON.stringify(known.get(id)) !== JSON.stringify(info)) updated.set(id, info);
  }
  const counted = isCount(count) ? count : members?.size ?? 0;
  return { topic, members, count: counted, version: isCount(version) ? version : null, joined, updated, left };
}

// -- groups and headers --------------------------------------------------------------------------

/** How a group fared with a message, but for what every outcome tells. What cannot be read is missing. */
function groupIn({ member, group, topic, pattern, attempts, failures }) {
  return {
    clientId: text(member),
    group: text(group),
    ...(text(pattern) ? { pattern } : { topic: text(topic) }),
    attempts: isCount(attempts) ? attempts : 0,
    failures: list(failures).filter(isObject)
      .map((each) => ({ clientId: text(each.member), error: text(each.error) })),
  };
}

/** The name of an outcome among those of its request. */
function nameOf({ clientId, group, topic, pattern }) {
  return group === undefined ? clientId : `${group} of ${pattern ?? topic}`;
}

/** An object that has the headers of a message, and nothing else. What is no text counts as missing. */
function headersIn(headers) {
  const texts = entries(headers).filter(([, value]) => isText(value));
  return Object.freeze(Object.assign(Object.create(null), Object.fromEntries(texts)));
}

const NO_HEADERS = headersIn();

/** The headers among the options of a publication. */
const headersGiven = (options) => (options === undefined ? undefined : checked(options, PUBLISHING).headers);

/** A message with headers, as they are now. An object without members is as none. */
function withHeaders(fields, headers = {}) {
  return Object.keys(headers).length ? { ...fields, headers: { ...headers } } : fields;
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
  #socket;
  #failed;
  #written = 0; // bytes handed to the socket
  #frames = []; // those that it may still hold: { end, count }, the publications and where they end
  #most = 64; // frames, before those that have gone are forgotten
  #gone; // bytes that are on the network, where the socket tells (`ws`)

  /** `failed` is told when the socket takes nothing. */
  constructor(socket, failed) {
    this.#socket = socket;
    this.#failed = failed;
  }

  /** Bytes that are not yet on the network. */
  get backlog() {
    return this.size + this.#held;
  }

  /** Where what was added so far ends, for `hasSent`. */
  get end() {
    return this.#written + this.size;
  }

  /** Whether everything up to there is on the network. */
  hasSent(end) {
    return this.#sent >= end;
  }

  /** How many publications are not yet on the network. */
  get unsent() {
    this.#forgetWritten();
    return [...this.#items, ...this.#frames].reduce((sum, { count }) => sum + count, 0);
  }

  /** `count` is the number of publications in it whose fate nobody waits for. */
  push(json, count = 0) {
    const size = byteLength(json);
    this.#check(size);
    this.#add({ json, size, count, isLone: size >= LONE_BYTES });
  }

  /** Publications of a topic that follow each other become one message. Level 2 only. */
  publish(topic, payload) {
    const added = byteLength(payload) + ','.length;
    const isLone = added >= LONE_BYTES;
    const last = this.#items.at(-1);
    if (last?.topic === topic && !last.isLone && !isLone && last.size + added <= this.#room) {
      last.payloads.push(payload);
      last.count++;
      last.size += added;
      this.size += added;
    } else {
      const head = `{"action":"publish","topic":${JSON.stringify(topic)}`;
      const size = byteLength(head) + ',"batch":[]}'.length + added;
      this.checkRoom();
      this.#check(size - 4); // as a single message it has `data` in place of `batch`
      this.#add({ topic, head, payloads: [payload], size, count: 1, isLone });
    }
  }

  /** Before what may be large: the payloads of the program. */
  checkRoom() {
    if (this.backlog > MOST_UNSENT) throw new QueueFull('the network is slower than the program');
  }

  flush() {
    const items = this.#items;
    this.#items = [];
    this.size = 0;
    let frame = [];
    let room = 0;
    let bytes = 0;
    let publications = 0;
    const write = () => {
      if (frame.length) this.#write(frame.length > 1 ? `[${frame}]` : frame[0], bytes, publications);
      frame = [];
      bytes = publications = 0;
      room = this.#room - '[]'.length;
    };
    for (const { json, head, payloads, size, count, isLone } of items) {
      const isAlone = isLone || this.level < 2;
      if (isAlone || size > room) write();
      if (json) frame.push(json);
      else frame.push(`${head},${payloads[1] ? `"batch":[${payloads}]` : `"data":${payloads}`}}`);
      room -= size + ','.length;
      bytes += size;
      publications += count;
      if (isAlone) write();
    }
    write();
  }

  #write(json, bytes, count) {
    const end = this.#written += bytes;
    if (count) this.#frames.push({ end, count });
    try {
      // Not every WebSocket tells that it takes nothing any more.
      if (this.#socket.readyState === CLOSING) throw new ConnectionLost('the server is closing');
      this.#socket.send(json, (error) => { this.#gone = error ? this.#gone ?? 0 : end; });
    } catch (error) {
      this.#gone = Math.min(this.#sent, end - bytes);
      this.#failed(error);
    }
    if (this.#frames.length > this.#most) this.#forgetWritten();
  }

  get #sent() {
    return this.#gone ?? this.#written - this.#held;
  }

  /** Bytes that the socket holds, where it tells: that of React Native does not. */
  get #held() {
    return this.#socket.bufferedAmount || 0;
  }

  #forgetWritten() {
    const sent = this.#sent;
    this.#frames = this.#frames.filter(({ end }) => end > sent);
    this.#most = 64 + 2 * this.#frames.length;
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
 * The keys about which the server has not given its last word on this connection: it refused them
 * for now, or was silent. They are asked about again, all at the same time.
 */
class Unsettled {
  #entries = new Map(); // key -> { error, isDue }: why it is here; whether it is to be asked about
  #attempt = 0;
  #stop; // the timer
  #ask;

  constructor(ask) {
    this.#ask = ask;
  }

  has(key) {
    return this.#entries.has(key);
  }

  /** The error that brought a key here, if one did. The program knows it. */
  reason(key) {
    return this.#entries.get(key)?.error;
  }

  /** Ask about a key again later. Tells whether it is new here. */
  add(key, error) {
    const isNew = !this.has(key);
    this.#entries.set(key, { error: this.reason(key) ?? error, isDue: true });
    if (!this.#stop) this.#start();
    return isNew;
  }

  /** Note that a key is being asked about. Tells whether it waited for that. */
  asked(key) {
    const entry = this.#entries.get(key);
    if (!entry?.isDue) return false;
    entry.isDue = false;
    return true;
  }

  /** The server has given its last word. Where it agreed, it may agree to the others soon. */
  settle(key, isConfirmed) {
    if (!this.#entries.delete(key) || !isConfirmed) return;
    this.#attempt = 0;
    if (!this.#stop) return;
    this.stop();
    if (this.#entries.size) this.#start();
  }

  stop() {
    this.#stop?.();
    this.#stop = undefined;
  }

  #start() {
    this.#stop = after(waitBefore(this.#attempt++, ASKING_AGAIN), () => {
      this.#stop = undefined;
      for (const [key, { isDue }] of this.#entries) if (isDue) this.#ask(key);
    });
  }
}

// -- a connection --------------------------------------------------------------------------------

/** One WebSocket, from its opening to its end, with all that waits for an answer on it. */
class Connection {
  level = 1;
  id;
  registered = false;
  registeredAt = 0;
  ended = false; // nothing more is to be sent or handled
  error; // why it ended
  acks = new Map();
  memory = { most: 0 }; // of the server for messages with ids: none, or { window, most, ahead }
  #client;
  #config;
  #socket;
  #outbox;
  #isPaused = false;
  #stopTimer = () => {}; // for whatever is due next: opening, registering, the heartbeat, closing
  #weight = 0; // bytes of each message in what is being handled
  #wasHeard = false; // since it was last asked whether it is there
  #heardAt = 0;
  #heartbeat = HEARTBEAT;
  #isFailing = false;
  #trouble = '';
  #features = new Set(); // of the server
  #narrow = new Set(); // keys of patterns with too many places for the server
  #inForce = new Set(); // keys whose subscription the server has confirmed, and not ended
  #questions = new Map(); // what is asked -> those that wait for the answer, in order
  #unsettled = new Unsettled((key) => this.#askAgain(key));
  // For refusals on level 1, which name nothing but come in the order of what they answer:
  #sent = 1; // messages that have an answer, the first ping included
  #answered = 0; // of these
  #mute = 0; // messages without an answer of their own, which may be refused as well
  #muteBefore = 0; // those before the latest answer to a question
  #doubts = 0; // later questions that are under way because of refusals

  constructor(url, config, client) {
    const { WebSocket, headers, requestTimeout, level } = config;
    this.#client = client;
    this.#config = config;
    this.id = config.id;
    const socket = headers ? new WebSocket(url, { headers }) : new WebSocket(url);
    this.#socket = socket;
    this.#outbox = new Outbox(socket, (error) => {
      // Behind the closing handshake comes a close code, if the server takes part in it.
      this.#failing(describe(error), error instanceof ConnectionLost ? SHORT_PATIENCE : FAILING);
    });
    socket.binaryType = 'arraybuffer';
    const giveUpLater = () => this.#after(requestTimeout, () => this.drop('no answer in time'));
    socket.onopen = async () => {
      giveUpLater();
      try {
        let { token } = config;
        if (isFunction(token)) token = await tokenOf(token);
        if (this.ended) return;
        const proto = level > 1 ? level : undefined;
        socket.send(JSON.stringify({ action: 'ping', from: this.id, proto, token }));
      } catch (error) {
        if (!this.ended) this.drop(describe(error));
      }
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onerror = (event) => this.#failing(text(event?.message));
    socket.onclose = ({ code, reason }) => this.#end(code, reason || this.#trouble);
    giveUpLater();
  }

  /** The WebSocket says that it failed. What comes next should be its end. */
  #failing(trouble, patience = FAILING) {
    if (this.#isFailing) return;
    this.#isFailing = true;
    this.#trouble = trouble;
    if (!this.ended) this.#after(patience, () => this.drop(trouble));
  }

  /** Bytes that are not yet on the network. */
  get backlog() {
    return this.#outbox.backlog;
  }

  /** Whether the program may wait for an answer. */
  get isAsking() {
    return this.acks.size + this.#questions.size > 0;
  }

  /** Send a message, of which one member may be JSON already. */
  send(fields, json, key = 'data', count = 0) {
    const all = this.level < 2 ? { ...fields, from: this.id } : fields;
    if (json) this.#outbox.checkRoom();
    this.#outbox.push(json ? compose(all, key, json) : JSON.stringify(all), count);
    if (/^(direct_|publish_|ack$)/.test(fields.action)) this.#mute++;
    else this.#sent++;
  }

  /** Send what the program does not wait for: that it cannot be sent is reported. */
  tell(...message) {
    try {
      this.send(...message);
    } catch (error) {
      this.#client._report(error);
    }
  }

  /** Send what the program publishes without a wish to hear what became of it. */
  publish(fields, payload) {
    const isForBatch = fields.action === 'publish' && !fields.headers;
    if (isForBatch && this.level > 1) this.#outbox.publish(fields.topic, payload);
    else this.send(fields, payload, 'data', 1);
  }

  /** Read on, or do not for a while, where the WebSocket can be told that (`ws`). */
  setReading(isReading) {
    if (!this.#socket.pause || !this.registered || this.ended || isReading !== this.#isPaused) return;
    this.#isPaused = !isReading;
    if (isReading) {
      this.#socket.resume();
      this.#heardAt = Date.now();
      this.#watch();
    } else {
      this.#socket.pause();
      this.#stopTimer(); // from silence follows nothing meanwhile
    }
  }

  /** Publish; how many subscribers it was passed on to, which level 1 does not tell. */
  async publishWithReceipt(fields, payload) {
    this.needsFor(fields);
    if (this.level > 1) {
      const receipt = String(++this.#client._count);
      const message = [{ ...fields, receipt }, payload];
      this.send(...message);
      const what = `publish ${receipt}`;
      const answer = this.#expect(what);
      this.#client._sent(this, this.#questions.get(what)[0], message);
      return answer;
    }
    this.send(fields, payload);
    await this.flush();
  }

  /** Learn when the server has handled all that was sent before. */
  flush() {
    // All pongs of level 1 are alike. It answers a question about an ack by name, even if there
    // is no such ack.
    if (this.level < 2) return this.askStatus(`barrier_${this.id}_${++this.#client._count}`);
    return this.#askFor({ action: 'ping', from: this.id }); // without its id it would get another one
  }

  /** Subscribe or unsubscribe. `asker` is the new subscription, besides which there may be others to the same. */
  ask(action, key, asker) {
    const { pattern, group } = fieldsOf(key);
    const isUnsupported = (pattern && !this.has('patterns')) || (group && !this.has('groups'));
    if (isUnsupported && action === 'unsubscribe') return undefined; // from what never was in force
    try {
      this.send(this.#about(action, key, asker));
    } catch (error) { // also one that is too large for the server: that stops no other
      this.#client._endSubscriptions(key, error, asker && ((each) => each === asker));
      throw error;
    }
    const wasDue = this.#unsettled.asked(key);
    // What was to be asked again is the opposite, and not wanted any more: nobody need wait for it.
    if (wasDue) this.#next(`${opposite(action)} ${key}`)?.resolve();
    const earlier = wasDue ? this.#next(`${action} ${key}`) : undefined;
    const answer = this.#expectAbout(action, key, asker);
    earlier?.resolve(answer);
    return answer;
  }

  /** The question about a key, with what of the past the program wants, or has missed. */
  #about(action, key, asker) {
    const fields = fieldsOf(key);
    const start = this.#client._start(key);
    if (fields.pattern) this.needs('patterns', fields);
    if (fields.group) this.needs('groups', fields);
    if (start) this.needs('history', fields);
    const mayHaveMissed = !start && this.has('history');
    const room = this.#narrow.has(key) ? 0 : this.#outbox.limit / 4;
    const since = mayHaveMissed ? this.#client._since(key, room) : undefined;
    // While the key is unsettled, the server does not know what earlier subscriptions want.
    const wish = asker && !this.#unsettled.has(key) ? asker._wish : this.#client._wish(key);
    if (asker === NO_OBSERVER) wish.presence = false;
    return { action, ...fields, since, ...start, ...(fields.group || this.has('presence') ? wish : {}) };
  }

  has(feature) {
    return this.#features.has(feature);
  }

  needs(feature, about) {
    if (this.has(feature)) return;
    throw new Unsupported(`the server does not have ${feature}`, { feature, ...about });
  }

  /** Refuse a message with something in it that the server would pass over. */
  needsFor({ topic, expect = [], key, retry, headers, message_id: messageId }) {
    if (expect.some(isText)) this.needs('expect', { topic });
    if (expect.some(isObject) || key || retry) this.needs('groups', { topic });
    if (headers) this.needs('headers', { topic });
    if (messageId) this.needs('message_ids', { topic });
  }

  /** Ask about a topic: for its `history` or its `presence`. The answer of the server. */
  askAbout(topic, action, more) {
    this.needs(action, { topic });
    return this.#askFor({ action, topic, ...more });
  }

  /** The answer has the nonce of the question. */
  #askFor(fields) {
    const nonce = String(++this.#client._count);
    this.send({ ...fields, nonce });
    return this.#expect(`${fields.action} ${nonce}`);
  }

  /** The server's word on a subscription, if it is still to come. */
  confirmation(key) {
    const asked = this.#questions.get(`subscribe ${key}`)?.at(-1).promise;
    const answer = asked ?? (this.#unsettled.has(key) ? this.#expectAbout('subscribe', key) : undefined);
    return answer?.catch((error) => {
      if (!this.#inForce.has(key)) throw error; // otherwise it is about what another one wants besides
    });
  }

  request(fields, json, timeout, signal) {
    this.needsFor(fields);
    const id = `client_ack_${this.id}_${++this.#client._count}`;
    const message = [{ ...fields, ack_id: id }, json];
    if (!signal?.aborted) this.sendRequest(message, timeout);
    const { end } = this.#outbox;
    const ack = new Ack(this, id, timeout, () => this.ended || this.#outbox.hasSent(end), signal);
    if (!signal?.aborted) this.#client._sent(this, ack, message);
    return ack;
  }

  sendRequest([fields, json], timeout) {
    const seconds = Math.min(timeout / SECOND, LONGEST_TIMER); // JSON has no Infinity
    this.send({ ...fields, timeout: seconds, updates: this.level > 1 || undefined }, json);
  }

  /** An ack has ended. */
  forget(ack) {
    this.acks.delete(ack.id);
    this.#client._answered(ack);
  }

  askStatus(ackId) {
    if (this.ended) throw this.error;
    this.send({ action: 'get_ack_status', ack_id: ackId });
    return this.#expect(`get_ack_status ${ackId}`);
  }

  /** Tell the server how handling a message went that somebody wants an ack for. */
  answer(ackId, failure, result, hasBegun = true) {
    if (this.ended) return;
    const success = failure === undefined;
    const error = failure?.slice(0, MAX_ERROR).replace(LONE_SURROGATES, '\ufffd');
    const fields = { action: 'ack', ack_id: ackId };
    if (this.level < 2) {
      this.tell({ ...fields, data: { ack_id: ackId, client_id: this.id, success, error } });
    } else if (!success || result === undefined || typeof result === 'function') {
      this.tell({ ...fields, success, error, begun: hasBegun ? undefined : false });
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
    if (this.registered && !this.ended && !this.#isPaused) this.#probe(SHORT_PATIENCE);
  }

  /** Close in an orderly way, behind what is queued. What waits for answers ends now. */
  close() {
    this.setReading(true);
    this.#fail(new ClientClosed('the client was closed'));
    if (!this.registered) return this.drop();
    this.#socket.onmessage = null;
    this.#after(this.#config.closeTimeout, () => this.drop('the server did not take it in time'));
    this.#outbox.flush();
    try {
      this.#socket.close(1000);
    } catch (error) {
      this.drop(describe(error));
    }
  }

  /** End at once, without waiting for the server to take part in closing. */
  drop(reason, isServerAlive = false) {
    const socket = this.#socket;
    const { unsent } = this.#outbox; // which terminate() forgets
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // some libraries throw what nobody listens to
    try {
      if (socket.terminate && !isServerAlive) socket.terminate();
      else socket.close(socket.pause && REFUSED); // a page cannot choose that code
    } catch { /* there is nothing more to ask of it */ }
    this.#end(NO_CODE, reason, unsent);
  }

  #end(code, reason, unsent = this.#outbox.unsent) {
    this.#stopTimer();
    const error = new ConnectionLost(`the connection ended: ${quoted(reason) || code}`, { code });
    this.#fail(error);
    this.#client._connectionEnded(this, error, reason, unsent);
  }

  #fail(error) {
    this.ended = true;
    this.error ??= error;
    this.#unsettled.stop();
    for (const call of [...this.#questions.values(), ...this.acks.values()].flat()) {
      if (!this.#client._unanswered.has(call)) call._fail(error);
    }
  }

  #after(delay, act) {
    this.#stopTimer();
    this.#stopTimer = after(delay, act);
  }

  // -- questions: a name for each, which its answer or refusal has too ---------------------------

  /** The answer to a question; without one in time, the error that `timedOut` makes. */
  #expect(what, timedOut = () => new RequestTimeout(`no answer in time: ${what}`)) {
    const question = deferred();
    let connection = this;
    question._fail = (error) => {
      connection.#remove(what, question);
      question.reject(error);
    };
    question._sendAgain = (next, message) => {
      next.send(...message);
      next.#questions.set(what, [question]);
      connection = next;
    };
    question.place = [this.#sent, this.#mute];
    question.stop = after(this.#config.requestTimeout, () => question._fail(timedOut()));
    this.#questions.set(what, [...(this.#questions.get(what) ?? []), question]);
    return question.promise;
  }

  #expectAbout(action, key, asker) {
    const what = `${action} ${key}`;
    const answer = this.#expect(what, () => this.#unanswered(action, key));
    this.#questions.get(what).at(-1).asker = asker;
    return answer;
  }

  /** The one of those who asked the same that has waited longest. It waits no more. */
  #next(what) {
    const question = this.#questions.get(what)?.[0];
    if (question) this.#remove(what, question);
    if (question?.place[0] >= this.#answered) [this.#answered, this.#muteBefore] = question.place;
    return question;
  }

  #remove(what, question) {
    question.stop();
    this.#client._answered(question);
    const others = this.#questions.get(what).filter((each) => each !== question);
    if (others.length) this.#questions.set(what, others);
    else this.#questions.delete(what);
  }

  // -- subscribing: the last word about each key is what the program wants now -------------------

  #isWanted(action, key) {
    return this.#client._wants(key) === (action === 'subscribe');
  }

  /** The server did not get the question, or did not name it in its refusal. */
  #unanswered(action, key) {
    const cause = this.#unsettled.reason(key);
    const error = new RequestTimeout(`no answer in time: ${action} ${key}`, cause && { cause });
    if (this.#isWanted(action, key)) this.#unsettled.add(key, error);
    return error;
  }

  #askAgain(key) {
    const action = this.#client._wants(key) ? 'subscribe' : 'unsubscribe';
    if (!this.#questions.has(`${action} ${key}`)) return this.#client._ask(action, key);
    this.#unsettled.asked(key); // somebody has waited since it was first asked
    this.tell(this.#about(action, key));
  }

  #confirmed(action, key, fields) {
    const what = `${action} ${key}`;
    this.#next(what)?.resolve();
    if (action === 'subscribe') this.#inForce.add(key);
    else this.#inForce.delete(key);
    if (!this.#isWanted(action, key)) return;
    const isLast = !this.#questions.has(what);
    if (isLast) this.#unsettled.settle(key, true);
    if (action !== 'subscribe') return;
    // An earlier subscription is over if one has unsubscribed since.
    if (!this.#questions.has(`unsubscribe ${key}`)) this.#client._inForce(key, isLast);
    this.#client._stands(key, standingIn(this.has('history') ? fields : {}));
    if (!isObject(fields.presence) || !topicOf(key)) return;
    if (this.#client._wish(key).presence) this.#client._toldMembers(key, fields.presence, true);
    // Whoever asked for them has ended meanwhile; or has just ended all, when told that messages are lost.
    else if (this.#isWanted(action, key) && !this.#isToBeIgnored(what)) this.#client._unobserved(key);
  }

  /** Whether the last question about members, if one is open, tells to ignore them. */
  #isToBeIgnored(what) {
    const asked = (this.#questions.get(what) ?? []).filter(({ asker }) => asker?._wish.presence !== undefined);
    return asked.at(-1)?.asker === NO_OBSERVER;
  }

  #refusedAbout(action, key, error) {
    const what = `${action} ${key}`;
    const count = this.#questions.get(what)?.length ?? 0;
    if (!count && !this.#unsettled.has(key)) return this.#client._report(error); // nobody asked
    const isWanted = this.#isWanted(action, key);
    // Of several questions about a key the last one says whether it is wanted now.
    const isLast = count < 2 && isWanted;
    // Then the server has refused what one wants besides, and the subscription goes on.
    const isPart = action === 'subscribe' && this.#inForce.has(key);
    if (error.code === 'limit_reached') this.#narrow.add(key); // What is not named comes again, and is dropped here.
    const isForNow = isWanted && this.#client._isWorthAskingAgain(key, error, isPart);
    if (isForNow && isLast) {
      if (this.#unsettled.add(key, error)) this.#client._report(error);
      return;
    }
    const question = this.#next(what);
    const later = this.#questions.get(what)?.at(-1);
    if (isForNow && later) return question.resolve(later.promise);
    if (question) question.reject(error);
    else this.#client._report(error);
    if (isLast) this.#unsettled.settle(key, false);
    if (action !== 'subscribe' || !isWanted) return;
    const asker = question?.asker;
    const isMeant = (each) => (asker ? each === asker : each._info || each._observer);
    this.#client._endSubscriptions(key, error, isPart || !isLast ? isMeant : undefined);
    if (isPart && !this.ended && !this.#client._wants(key)) this.#client._ask('unsubscribe', key);
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
    try {
      if (this.level < 2) this.send({ action: 'ping' }); // any message is an answer
      else this.flush();
    } catch (error) { // the server takes no message of that size, if one believes it
      this.#client._report(error);
    }
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
    const messages = Array.isArray(parsed) ? parsed : [parsed];
    this.#weight = (data.length ?? data.byteLength) / messages.length;
    for (const fields of messages) {
      if (this.ended) return;
      try {
        if (!isObject(fields)) throw new KPSError('unreadable message from the server');
        this.#client._onFrame(fields);
        if (!this.ended) this.#handle(fields);
      } catch (error) { // a mistake in here: it must not end the program
        this.#client._report(error);
      }
    }
  }

  #handle(fields) {
    const topic = text(fields.topic);
    const ack = this.acks.get(fields.ack_id);
    // Older servers of the family send errors without an action.
    const action = text(fields.action) || (this.level < 2 && fields.error && 'error');
    if (/ed$|^pong|_status/.test(action)) this.#answered++;
    switch (action) {
      case 'publish':
        return !topic || this.#awaitsPast(fields) || this.#deliver(topic, this.#open(fields, true));
      case 'publish_ack':
        return this.#question(topic, fields);
      case 'direct_message':
        return this.#deliver('', {
          payloads: [fields.data ?? null], from: text(fields.from), headers: this.#headersOf(fields),
        });
      case 'pong':
        return this.#pong(fields);
      case 'subscribed':
      case 'unsubscribed':
        return this.#confirmed(fields.action.slice(0, -1), keyIn(fields), fields);
      case 'published':
        return this.#next(`publish ${text(fields.receipt)}`)?.resolve(
          isCount(fields.delivered) ? fields.delivered : undefined,
        );
      case 'presence':
        if (!text(fields.nonce)) return this.#client._toldMembers(keyIn({ topic }), fields);
      // falls through: it is an answer
      case 'history':
        return this.#next(`${fields.action} ${text(fields.nonce)}`)?.resolve(fields);
      case 'ack_update':
      case 'ack_response':
        return ack?._told(fields);
      case 'ack_status':
        return this.#next(`get_ack_status ${text(fields.ack_id)}`)?.resolve(
          new Map(entries(fields.status).map(([id, known]) => [id, known === true])),
        );
      case 'error':
        return this.#error(fields);
    } // what later levels bring is passed over
  }

  /** Note for how long the server remembers messages with ids: what it gets now, until our time plus `ahead` by its clock. */
  #remember(memory) {
    const { window, seconds, most, time } = memory ?? {};
    const isTold = text(window) && [seconds, most, time].every(Number.isFinite) && this.has('message_ids');
    if (isTold) this.memory = { window, most, ahead: time + seconds - clock() };
  }

  /** The first one registers this client. */
  #pong({ id, nonce, message_ids: memory, ...agreement }) {
    const isFirst = !this.registered;
    if (isFirst) this.#agree(agreement);
    if (isName(id)) this.id = id;
    this.#client._named(this.id);
    this.#remember(memory);
    if (!isFirst) return this.#next(`ping ${text(nonce)}`)?.resolve();
    this.#watch();
    this.#client._registered(this);
  }

  /** Note what the server has and takes. */
  #agree({ proto, limits, features }) {
    this.registered = true;
    this.registeredAt = Date.now();
    this.level = this.#outbox.level = proto === 2 && this.#config.level === 2 ? 2 : 1;
    const { max_message: most, heartbeat } = isObject(limits) ? limits : {};
    if (this.level > 1) this.#features = new Set(list(features));
    if (isTime(most)) this.#outbox.limit = most;
    if (isTime(heartbeat)) this.#heartbeat = Math.max(heartbeat, 1) * SECOND;
  }

  /**
   * What a message brings. One for a member of a group has the key of that group. On level 1 payload
   * and sender are wrapped in `data`, by every server.
   */
  #open(fields, mayBeBatch) {
    const { data, batch, from, epoch, offset, group, attempt } = fields;
    if (this.level < 2 && isObject(data) && 'data' in data) return { payloads: [data.data], from: text(data.from) };
    const isBatch = this.level > 1 && mayBeBatch && Array.isArray(batch);
    const groupKey = this.has('groups') && text(group) ? keyIn(fields) : undefined;
    const isPlaced = this.has('history') && isOffset(offset) && !groupKey;
    return {
      payloads: isBatch ? batch : [data ?? null],
      from: text(from),
      place: isPlaced ? { epoch, offset } : undefined,
      groupKey,
      attempt: isCount(attempt) && attempt > 0 ? attempt : undefined,
      headers: this.#headersOf(fields),
    };
  }

  #headersOf({ headers }) {
    return headers && this.has('headers') ? headersIn(headers) : undefined;
  }

  /** Whether messages of a topic are on their way for an earlier subscription: the past of this one comes first. */
  #awaitsPast({ topic, group }) {
    const key = keyIn({ topic, group });
    return this.#client._start(key) && this.#questions.has(`subscribe ${key}`) && !this.#unsettled.has(key);
  }

  #deliver(topic, opened, ackId) {
    const weight = this.#weight / opened.payloads.length;
    return this.#client._deliver(this, topic, opened, weight, ackId);
  }

  #question(topic, fields) {
    const ackId = text(fields.ack_id);
    const opened = this.#open(fields);
    const isDirect = this.level < 2 && topic.startsWith(`__direct_${this.id}`);
    const deliver = (to) => this.#deliver(to, opened, ackId);
    if (!deliver(topic) && !(isDirect && deliver('')) && ackId) {
      this.answer(ackId, NO_SUBSCRIBER, undefined, !opened.groupKey);
    }
  }

  /** The server refused one message, or a whole frame and names the messages that it held. */
  #error(fields) {
    const named = list(fields.refused).filter(isObject);
    for (const message of named.length ? named : [fields]) {
      if (!this.ended) this.#refused(fields, message);
    }
  }

  /** Tell who waits for what is refused, as far as the server names it. */
  #refused({ error: reason, code }, { request, topic, pattern, group, to, receipt, nonce, ack_id: ackId }) {
    const named = { code, request, topic, pattern, group, to };
    for (const [key, value] of Object.entries(named)) named[key] = text(value) || undefined;
    const error = new ServerError(quoted(reason), named);
    if (!this.registered) return this.#client._turnedAway(this, error);
    if (request === 'subscribe' || request === 'unsubscribe') return this.#refusedAbout(request, keyIn(named), error);
    // The outcome of a relay comes later than its turn.
    const hasTurn = this.level < 2 && !named.request && !/^failed to relay/.test(error.message);
    if (hasTurn) return this.#refusedUnnamed(error);
    const call = /_ack$/.test(named.request) ? this.acks.get(ackId)
      : this.#questions.get(`${named.request} ${text(receipt ?? nonce ?? ackId)}`)?.[0];
    // Of a repeat that says nothing about the first one, which was lost.
    const lost = code !== 'outcome_unknown' && this.#client._unanswered.get(call)?.lost;
    if (call) call._fail(lost || error);
    else this.#client._report(error);
  }

  /**
   * Level 1 does not say what it refuses, but answers in order. If a message without an answer may have been refused in place
   * of the question that is next, a later question tells: what is then still open was refused.
   */
  async #refusedUnnamed(error) {
    const open = [...this.#questions].filter(([what]) => /^(un)?subscribe /.test(what));
    const next = `${[this.#answered + 1, this.#muteBefore]}`;
    let refused = open.find(([, [{ place }]]) => `${place}` === next);
    if (!refused && this.#mute === this.#muteBefore) this.#answered++;
    // The later question may be refused as well: that must not lead to another one.
    else if (!refused && this.#doubts < open.length) {
      this.#doubts++;
      try {
        await this.flush();
      } catch { /* then nothing is open any more */ }
      this.#doubts--;
      if (this.ended) return;
      refused = open.find(([what, asked]) => this.#questions.get(what)?.some((each) => asked.includes(each)));
    }
    if (!refused) return this.#client._report(error);
    const [, action, key] = /(\w+) (.*)/s.exec(refused[0]);
    this.#refusedAbout(action, key, error);
  }
}

// -- acks ----------------------------------------------------------------------------------------

/** The answers to one message, as they come. Those who wait get an error if they cannot come. */
class Ack {
  presence = null;
  degraded = false;
  #connection;
  #responses = new Map();
  #order = []; // the responses, as they came
  #isFinished = false;
  #hasFailed = false;
  #end = deferred();
  #news = deferred();
  #stop; // the timer
  #startedAt = Date.now(); // when it was last seen to wait here
  #timeout;
  #isSent;
  #stopListening;

  constructor(connection, id, timeout, isSent, signal) {
    this.id = id;
    this.#connection = connection;
    this.#timeout = timeout;
    connection.acks.set(id, this);
    this.#isSent = isSent;
    this.#look(timeout + ACK_GRACE, Math.max(timeout, SENDING));
    this.#stopListening = listen(signal, 'abort', () => this.#giveUp({ error: signal.reason }));
    if (signal?.aborted) this._fail(signal.reason);
  }

  /** The outcomes so far, by client id, also of a request that failed. */
  get responses() {
    return new Map(this.#responses);
  }

  /** Wait until all have answered or the time is over; the outcomes by client id. */
  async wait() {
    await this.#end.promise;
    return this.responses;
  }

  /** Wait for the first outcome; `undefined` if the request ends without one. */
  async waitAny() {
    for await (const response of this) return response;
  }

  async *[Symbol.asyncIterator]() {
    for (let given = 0; ; ) {
      if (given < this.#order.length) yield this.#order[given++];
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
    if (this.#hasFailed) return false;
    const answered = [...(await this.status()).values()];
    return answered.length > 0 && answered.every(Boolean);
  }

  /** Stop waiting: whoever waits gets what has come so far. */
  cancel() {
    this.#giveUp();
  }

  /** The time of a request begins when it is on the network. */
  #look(lasts, rest) {
    const giveUp = (reason) => this.#giveUp({ error: new RequestTimeout(reason) });
    this.#stop = after(LOOK, () => {
      if (this.#isSent()) {
        const late = 'the server did not tell in time how the request ended';
        this.#stop = after(lasts - LOOK, () => giveUp(late));
        return;
      }
      this.#startedAt = Date.now();
      if (rest > LOOK) this.#look(lasts, rest - LOOK);
      else giveUp('the network was too slow for the request');
    });
  }

  _told({ action, responses, groups, missing, presence, degraded }) {
    for (const [clientId, outcome] of entries(responses)) this.#add({ clientId }, outcome);
    for (const outcome of list(groups).filter(isObject)) this.#add(groupIn(outcome), outcome);
    for (const clientId of list(missing)) {
      if (text(clientId)) this.#add({ clientId }, { error: 'timeout' });
    }
    if (action !== 'ack_response') return this.#announce();
    if (isCount(presence)) this.presence = presence;
    this.degraded = degraded === true;
    const isSilence = this.#connection.level < 2 && !this.#responses.size
      && Date.now() - this.#startedAt >= SILENT_END;
    const error = isSilence && new RequestTimeout('nobody had answered when the time was over');
    this.#finish(error ? { error } : undefined);
  }

  _fail(error) {
    this.#finish({ error });
  }

  /** Ask again on another connection, with what is left of the time. */
  _sendAgain(connection, message) {
    const rest = this.#timeout - (Date.now() - this.#startedAt);
    if (rest <= 0) throw this.#connection.error;
    connection.sendRequest(message, rest);
    connection.acks.set(this.id, this);
    this.#connection = connection;
  }

  /** `failure` wraps the error, because an abort reason may be any value, also `undefined`. */
  #finish(failure) {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#hasFailed = Boolean(failure);
    this.#stop();
    this.#stopListening();
    this.#connection.forget(this);
    if (failure) this.#end.reject(failure.error);
    else this.#end.resolve();
    this.#announce();
  }

  #add(who, outcome) {
    const response = { ...who, success: outcome?.success === true };
    if (outcome?.error) response.error = text(outcome.error);
    if (outcome?.result !== undefined) response.result = outcome.result;
    const name = nameOf(who);
    if (!this.#responses.has(name)) this.#order.push(response);
    this.#responses.set(name, response);
  }

  #giveUp(failure) {
    if (this.#isFinished) return;
    this.#finish(failure);
    if (!this.#connection.ended) this.#connection.tell({ action: 'cancel_ack', ack_id: this.id });
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

/** The first result that comes; nobody waits for the others. The error of a request that gets none. */
async function resultOf(ack, target) {
  const errors = new Map();
  try {
    for await (const response of ack) {
      const { clientId, success, result, error = '', attempts } = response;
      if (success) return result;
      const wasNobody = error === NO_SUBSCRIBER || (error === NO_MEMBER && !attempts);
      if (!wasNobody) errors.set(clientId || nameOf(response), error);
    }
  } finally {
    ack.cancel();
  }
  const all = [...errors.values()];
  const to = `the request to ${quoted(target)}`;
  if (!all.length) throw new NobodyThere(`nobody takes ${to}`);
  if (all.every((each) => each === 'timeout')) throw new RequestTimeout(`no answer in time to ${to}`);
  const told = all.find((each) => each !== 'timeout' && each !== 'disconnected') ?? all[0];
  throw new RequestFailed(quoted(told) || `${to} failed`, { errors, target });
}

/** The answer that one message still owes, from all `remaining` subscriptions that got it. */
function acknowledgement(remaining, send) {
  let error;
  let result;
  const reply = (value) => { result ??= value; };
  const settle = (reason, value, hasBegun = true) => {
    error ??= reason;
    reply(value);
    if (--remaining === 0) send(error, result, hasBegun);
  };
  return { reply, settle };
}

// -- subscriptions -------------------------------------------------------------------------------

/** One message, as callbacks and iterators get it. */
class Message {
  #headers;
  #attempt;
  #place;
  #weight;
  #acknowledgement;

  constructor(topic, data, { from, headers = NO_HEADERS, attempt = 1 }, place, weight = 0, acknowledgement) {
    this.topic = topic;
    this.data = data;
    this.from = from;
    this.#headers = headers;
    this.#attempt = attempt;
    this.#place = place;
    this.#weight = weight;
    this.#acknowledgement = acknowledgement;
  }

  /** The texts that its publisher has sent beside the payload. */
  get headers() {
    return this.#headers;
  }

  /** How many members of a group have been asked to handle it, with this one. */
  get attempt() {
    return this.#attempt;
  }

  /** Its number among all messages of its topic, if that has history. */
  get offset() {
    return this.#place?.offset ?? null;
  }

  /** Its place in the history of its topic, to resume behind it. */
  get position() {
    return this.#place ? positionOf(this.#place) : null;
  }

  get _place() {
    return this.#place;
  }

  /** About as many bytes as it came in. */
  get _weight() {
    return this.#weight;
  }

  /** Give a publisher who wants an ack a result, as the return value of a callback does. */
  reply(result) {
    this.#acknowledgement?.reply(result);
  }

  _settle(error, result, hasBegun) {
    this.#acknowledgement?.settle(error, result, hasBegun);
    this.#acknowledgement = undefined; // a second time means nothing
  }
}

/** What can be awaited, and is then no promise any more: it could not be the outcome of one. */
async function untilConfirmed(thenable, confirmation) {
  await confirmation;
  thenable.then = undefined;
  return thenable;
}

/** The messages that wait for one subscription, in order and bounded in number and bytes. */
class Mailbox {
  taken = 0;
  #most;
  #mostBytes;
  #bytes = 0;
  #incoming = [];
  #outgoing = []; // the older part, reversed

  constructor({ mailbox, mailboxBytes }) {
    this.#most = mailbox;
    this.#mostBytes = mailboxBytes;
  }

  get length() {
    return this.#incoming.length + this.#outgoing.length;
  }

  /** An empty one has room for anything. */
  hasRoomFor({ _weight: bytes }) {
    const { length } = this;
    return !length || (length < this.#most && this.#bytes + bytes <= this.#mostBytes);
  }

  /** Whether more than a part of it is full. */
  fills(part) {
    return this.length > part * this.#most || this.#bytes > part * this.#mostBytes;
  }

  push(message) {
    this.#incoming.push(message);
    this.#bytes += message._weight;
  }

  take() {
    const message = this.dropOldest();
    if (message) this.taken++;
    return message;
  }

  /** This is no progress of the program, so it does not count as taken. */
  dropOldest() {
    if (!this.#outgoing.length) {
      this.#outgoing = this.#incoming.reverse();
      this.#incoming = [];
    }
    const message = this.#outgoing.pop();
    if (message) this.#bytes -= message._weight;
    return message;
  }
}

/**
 * Decides whether to read: not while a mailbox is crowded, so that the server notices how slow this
 * program is. A callback that hangs must not block the others: after a time in which nothing was
 * taken from its mailbox, reading goes on, until something is. If an answer of the server is due,
 * the callback may wait for that: then reading goes on soon, until the mailbox has drained.
 */
class Flow {
  #crowded = new Map(); // subscription -> { taken, idle }: since when nothing was taken from it
  #hung = new Map(); // subscription -> how many had been taken from it, or nothing if it asks
  #patience;
  #isAsking;
  #changed;
  #stop = () => {}; // the timer

  constructor(patience, isAsking, changed) {
    this.#patience = patience;
    this.#isAsking = isAsking;
    this.#changed = changed;
  }

  get isPaused() {
    return this.#crowded.size > 0;
  }

  crowded(subscription) {
    const { _taken: taken } = subscription;
    if (this.#crowded.has(subscription)) return;
    if (this.#hung.has(subscription) && !(taken > this.#hung.get(subscription))) return;
    this.#hung.delete(subscription);
    this.#crowded.set(subscription, { taken, idle: 0 });
    if (this.#crowded.size > 1) return;
    this.#changed();
    this.#look();
  }

  relieved(subscription) {
    this.#hung.delete(subscription);
    this.#leave(subscription);
  }

  #leave(subscription) {
    if (!this.#crowded.delete(subscription) || this.isPaused) return;
    this.#stop();
    this.#changed();
  }

  #look() {
    this.#stop = after(LOOK, () => {
      this.#look();
      const isAsking = this.#isAsking();
      const patience = isAsking ? LOOK : this.#patience;
      for (const [subscription, { taken, idle }] of this.#crowded) {
        const now = subscription._taken;
        const rest = now === taken ? idle + LOOK : 0;
        this.#crowded.set(subscription, { taken: now, idle: rest });
        if (rest < patience) continue;
        this.#hung.set(subscription, isAsking ? undefined : now);
        this.#leave(subscription);
      }
    });
  }
}

/** What `subscribe` returns: to be awaited, iterated over, and ended. */
class Subscription {
  dropped = 0;
  #client;
  #callback;
  #mailbox;
  #concurrency; // how many messages it takes at a time, as a member of a group
  #busy = 0; // callbacks that are under way
  #isFull = false;
  #isCrowded = false;
  #told = 0; // of the dropped messages
  #ended = false;
  #error;
  #place; // of the last message that the program was given
  #inWork = new Map(); // who iterates -> the message that is being handled there
  #idle = []; // iterators that wait
  #stopListening;
  #left = deferred(); // by the program, which may not wait for the confirmation then
  _confirmation; // the server's, if it was still to come
  _isAwaited = false;
  _observer; // what is called with the members of the topic
  _info; // what the client says about itself there

  constructor(client, key, callback, { signal, presence, info, concurrency = 1 } = {}) {
    this.#client = client;
    this._key = key;
    this._observer = presence;
    this._info = info;
    this.#concurrency = concurrency;
    const { group = null, ...scope } = fieldsOf(key);
    this._scope = keyIn(scope);
    [this.topic] = Object.values(scope);
    this.group = group;
    this.#callback = callback;
    this.#mailbox = new Mailbox(client._limits);
    const abort = () => {
      this.#left.reject(signal.reason);
      this.#leave();
    };
    this.#stopListening = listen(signal, 'abort', abort);
    if (signal?.aborted) abort();
  }

  /** Settled when the program has left it: rejected by its signal, with the reason. */
  get _left() {
    return this.#left.promise;
  }

  /** The position of the last message that the program was given. */
  get position() {
    return this.#place ? positionOf(this.#place) : null;
  }

  /** What it wants besides messages, as fields of a message. */
  get _wish() {
    const concurrency = this.#concurrency > 1 ? this.#concurrency : undefined;
    return { info: this._info, presence: this._observer && true, concurrency };
  }

  /** How many messages were taken out of its mailbox. */
  get _taken() {
    return this.#mailbox.taken;
  }

  /** End the subscription. What still waits in it is given up. */
  unsubscribe() {
    if (this.#inWork.size < 2) for (const loop of this.#inWork.keys()) this.#settle(loop);
    this.#leave(); // of several loops each tells about its own message
  }

  /** Waits until the server has confirmed the subscription; from then on this is no promise. */
  then(resolve, reject) {
    return this.#confirmed().then(resolve, reject);
  }

  catch(reject) {
    return this.#confirmed().catch(reject);
  }

  finally(end) {
    return this.#confirmed().finally(end);
  }

  #confirmed() {
    this._isAwaited = true;
    return untilConfirmed(this, this.#client._confirmed(this));
  }

  /** Each loop has an iterator of its own, which settles the messages that it took. */
  [Symbol.asyncIterator]() {
    if (this.#callback) throw new InvalidArgument('iterate over a subscription without callback');
    const loop = {
      next: () => this.#next(loop),
      return: (value) => this.#return(loop, value),
      [Symbol.asyncIterator]: () => loop,
    };
    if (this.#inWork.has(this)) this.#inWork.set(loop, this.#inWork.get(this));
    this.#inWork.delete(this);
    return loop;
  }

  /** The next message. The one before counts as handled. */
  next() {
    return this.#next(this);
  }

  return(value) {
    return this.#return(this, value);
  }

  async #next(loop) {
    this.#settle(loop);
    for (;;) {
      const value = this.#take();
      if (value) {
        this.#inWork.set(loop, value);
        this.#place = value._place;
        return { done: false, value };
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return { done: true, value: undefined };
      await new Promise((resolve) => this.#idle.push(resolve));
    }
  }

  /** A loop was left: by `break` or by an exception looks the same, so nothing is claimed. */
  async #return(loop, value) {
    this.#settle(loop, 'the subscription was left');
    this.#leave();
    return { done: true, value };
  }

  _put(message) {
    if (this.#ended) return this.#giveBack(message, 'unsubscribed');
    if (this.#callback && this.#busy < this.#concurrency) return this.#run(message); // then nothing waits
    const mailbox = this.#mailbox;
    const { overflow, mailboxBytes } = this.#client._limits;
    // A message that is larger than the whole mailbox must not empty it.
    const dropsOldest = overflow === 'drop_oldest' && message._weight <= mailboxBytes;
    while (dropsOldest && !mailbox.hasRoomFor(message)) this.#drop(mailbox.dropOldest());
    if (this.#ended) return this.#giveBack(message, 'unsubscribed'); // the program did that when it was told of the drop
    if (!mailbox.hasRoomFor(message)) return this.#drop(message);
    mailbox.push(message);
    this.#idle.shift()?.();
    if (!mailbox.fills(CROWDED)) return;
    this.#isCrowded = true;
    this.#client._flow.crowded(this);
  }

  #drop(message) {
    this.dropped++;
    this.#giveBack(message, 'queue full');
    if (!this.#isFull && this.dropped >= 2 * this.#told) this.#tellDropped();
    this.#isFull = true;
  }

  /** End with a message that the program has not begun to handle. If it is a member's, another one may. */
  #giveBack(message, error) {
    message._settle(error, undefined, !isOfGroup(this._key));
  }

  #tellDropped() {
    this.#told = this.dropped;
    const what = `too slow, messages dropped so far: ${this.dropped} of ${this.topic || 'direct'}`;
    this.#client._report(new QueueFull(what, { dropped: this.dropped }));
  }

  /** End without a word to the server. With an error, what has come is still handed over. */
  _end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#stopListening();
    for (let message; !error && (message = this.#take()); ) this.#giveBack(message, 'unsubscribed');
    for (const resolve of this.#idle) resolve();
    if (this.dropped > this.#told) this.#tellDropped();
  }

  #take() {
    this.#isFull = false;
    const message = this.#mailbox.take();
    if (!this.#isCrowded || this.#mailbox.fills(RELIEVED)) return message;
    this.#isCrowded = false;
    this.#client._flow.relieved(this);
    return message;
  }

  #leave() {
    if (this.#ended) return;
    this.#left.resolve();
    // A member of a group first leaves it, so that it gets nothing back that it gives back.
    if (isOfGroup(this._key)) this.#client._unsubscribed(this);
    this._end();
    if (!isOfGroup(this._key)) this.#client._unsubscribed(this);
  }

  #settle(loop, error) {
    this.#inWork.get(loop)?._settle(error);
    this.#inWork.delete(loop);
  }

  #run(first) {
    this.#busy++;
    for (let message = first; message; message = this.#take()) {
      this.#place = message._place;
      try {
        const result = this.#callback(message);
        if (isThenable(result)) return this.#goOn(message, result);
        message._settle(undefined, finished(result));
      } catch (error) {
        this.#failed(message, error);
      }
      if (this.#client._isClosing) break; // also behind an end that hands over what has come
    }
    this.#busy--;
  }

  async #goOn(message, pending) {
    try {
      message._settle(undefined, finished(await pending));
    } catch (error) {
      this.#failed(message, error);
    }
    this.#busy--;
    this.#run(this.#client._isClosing ? undefined : this.#take());
  }

  #failed(message, error) {
    message._settle(describe(error));
    this.#client._report(error);
  }
}

// -- the client ----------------------------------------------------------------------------------

/** A connection to the bus that restores itself. */
class Client {
  #url;
  #config;
  #backoff;
  #connection; // the current one, registered or not yet
  #stopRetry = () => {};
  #attempt = 0; // failed attempts, and before them connections that soon ended
  #shortLived = 0; // connections in a row that soon ended
  #wasConnected = false;
  #mayAskWhy; // whether this is a page of another origin, and has neither connected nor asked
  _isClosing = false;
  #hasEnded = false;
  #error; // why it ended, unless the program closed it
  #opened; // set once connect() was called
  #closed = deferred();
  #subscriptions = new Map(); // key -> the subscriptions of that, a list that is never changed
  #patterns = new Map(); // key -> pattern, without those of groups
  #routes = new Map(); // topic -> the subscriptions that have it, for some of the latest
  #wereInForce = new Set(); // the keys that a server has confirmed at any time
  #starts = new Map(); // key -> with what of the past it is to begin, until it is in force
  #infos = new Map(); // key -> the subscriptions with something about this client: once confirmed, the last one
  #members = new Map(); // key -> the members that the program knows, by id, or `null`
  #standings = new Standings((topic) => this.#having(topic));
  #listeners = {}; // name of an option -> what is called then: the option, or nothing, and those that were added
  #kept = []; // publications for the next connection, as [fields, JSON of the payload]
  #keptBytes = 0;
  _count = 0; // of questions, to name each, on all connections
  _unanswered = new Map(); // what waits for the answer to a message with an id -> how that was sent; in this order
  #unansweredBytes = 0;
  #countWithIds = 0; // of messages
  #dropped = 0;
  #stopListening = () => {};
  _limits;
  _flow;

  constructor(address, options) {
    const isAddress = !isObject(address) || isText(address.href);
    if (options === undefined) [address, options] = isAddress ? [address, {}] : [undefined, address];
    const config = this.#config = checked(options, OPTIONS);
    config.WebSocket ??= globalThis.WebSocket;
    const { mailbox, mailboxBytes, overflow } = config;
    this._limits = { mailbox, mailboxBytes, overflow };
    right(config.WebSocket, 'WebSocket', OPTIONS.WebSocket);
    config.id ??= randomId();
    this.#url = parseAddress(address, config.path, config.secure);
    const { origin } = globalThis.location ?? {};
    this.#mayAskWhy = origin && !this.#url.startsWith(`${origin.replace('http', 'ws')}/`);
    const first = config.reconnect;
    const fixed = typeof first === 'number' && { first, factor: 1, longest: first, jitter: 0 };
    this.#backoff = { ...BACKOFF, ...config.backoff, ...fixed };
    for (const name of Object.keys(HOOKS)) this.#listeners[name] = [config[name]];
    if (config.onDirect) this.on('direct', config.onDirect);
    this._flow = new Flow(
      config.mailboxPatience,
      () => this.#connection?.isAsking,
      () => this.#connection?.setReading(!this._flow.isPaused),
    );
  }

  static async connect(address, options) {
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
    return Boolean(this.#connection?.registered) && !this.#connection.ended && !this._isClosing;
  }

  /** The level of the protocol that is spoken at the moment; `undefined` without a connection. */
  get level() {
    return this.connected ? this.#connection.level : undefined;
  }

  /** How many of the publications that the client took were never sent. */
  get dropped() {
    return this.#dropped;
  }

  /** Connect; fulfilled when the server knows this client for the first time. */
  connect() {
    if (this.#isOver) return Promise.reject(this.#refusal());
    if (!this.#opened) {
      this.#opened = deferred();
      this.#listen();
      Promise.resolve().then(() => this.#wake()); // whoever closes in the same turn has opened nothing
    }
    return this.#opened.promise;
  }

  /** Close for good, behind what is queued. What is pending ends at once, and no callback begins. */
  close() {
    if (!this._isClosing) {
      this._isClosing = true;
      this.#endAll();
      if (this.#connection) this.#connection.close();
      else this.#end();
    }
    return this.#closed.promise;
  }

  /** Have a function called when the option for that event is, at `connect` as `onConnect`. Returns what ends that. */
  on(event, listener) {
    const name = text(event).replace(/^./, (first) => `on${first.toUpperCase()}`);
    refuseUnknown({ [name]: called(listener) }, HOOKS);
    if (name === 'onDirect') {
      const subscription = new Subscription(this, DIRECT, listener);
      this.#set(DIRECT, [...this.#having(''), subscription]);
      return () => subscription.unsubscribe();
    }
    const own = (...values) => listener(...values);
    this.#listeners[name] = [...this.#listeners[name], own];
    return () => { this.#listeners[name] = this.#listeners[name].filter((each) => each !== own); };
  }

  /** Subscribe to a topic, or to a pattern of topics; or become a member of a group of either. */
  subscribe(topic, callback, options) {
    if (options === undefined && isObject(callback)) [callback, options] = [undefined, callback];
    checked({ callback }, { callback: HOOK });
    const pattern = topic instanceof Pattern ? topic : undefined;
    const given = checkedSubscribing(options, pattern);
    const { signal, last, since, presence, info, group } = given;
    const key = keyOf(topic, group);
    const hasWish = presence || info;
    if (this.#isOver) throw this.#refusal();
    if (hasWish && this.connected) this.#connection.needs('presence', { topic });
    if ((since || last) && this.#hasSome(key, pattern)) {
      throw new InvalidArgument(`this client has ${quoted(key)} already: ask for the history instead`);
    }
    const others = this.#subscriptions.get(key) ?? [];
    if (group && others.length) throw new InvalidState(`this client is a member already: ${quoted(key)}`);
    const subscription = new Subscription(this, key, callback, given);
    if (signal?.aborted) return subscription;
    this.#set(key, [...others, subscription]);
    if (info) this.#infos.set(key, [...(this.connected && this.#infos.get(key)) || [], subscription]);
    if (pattern && !group) this.#patterns.set(key, pattern);
    if (since) this.#starts.set(key, { since: positionOf(since) });
    else if (last) this.#starts.set(key, { last });
    if (this.connected) this.#confirm(subscription, hasWish || !others.length);
    return subscription;
  }

  /** End all subscriptions to a topic, or to a pattern, groups included. */
  unsubscribe(topic) {
    const scope = keyOf(topic);
    const meant = [...this.#subscriptions.values()].flat().filter(({ _scope }) => _scope === scope);
    for (const subscription of meant) subscription.unsubscribe();
  }

  async publish(topic, data, options) {
    await this.#sendOrKeep({ action: 'publish', topic: named(topic, 'a topic') }, data, options);
  }

  async publishToId(id, data, options) {
    await this.#sendOrKeep({ action: 'direct_message', to: named(id, 'an id') }, data, options);
  }

  /** Have the server send a message to another server. */
  async publishToServer(address, data, secure = false) {
    const to = right(address, 'an address', nameUpTo(MAX_ADDRESS));
    const status = { is_secure: right(secure, 'secure', BOOLEAN) };
    await this.#sendOrKeep({ action: 'publish_to_server', to, status }, data);
  }

  async publishWithReceipt(topic, data, options = {}) {
    const { headers, messageId } = checked(options, WAITING);
    const fields = { action: 'publish', topic: named(topic, 'a topic'), message_id: messageId };
    return this.#ready(messageId).publishWithReceipt(withHeaders(fields, headers), encode(data));
  }

  async publishWithAck(topic, data, options) {
    return this.#askTopic(topic, data, options, ASKING_ALL);
  }

  async publishToIdWithAck(id, data, options) {
    return this.#askId(id, data, options);
  }

  /** Ask the subscribers of a topic; the first result. */
  async request(topic, data, options) {
    return resultOf(this.#askTopic(topic, data, options, ASKING_GROUPS), topic);
  }

  /** Ask the client, or server, of that id; its result. */
  async requestToId(id, data, options) {
    return resultOf(this.#askId(id, data, options), id);
  }

  /** Messages of a topic with history: those behind `since`, or else the latest. */
  async history(topic, options = {}) {
    named(topic, 'a topic');
    const { since, limit } = checked(options, { since: POSITION, limit: [...LIMIT, 100] });
    const past = { messages: [], position: since ? positionOf(since) : null, recovered: true, lost: null };
    for (;;) {
      const start = { since: past.position ?? undefined, last: limit - past.messages.length };
      const fields = await this.#ready().askAbout(topic, 'history', start);
      const { epoch, offset, coming, recovered, lost } = standingIn(fields);
      const told = list(fields.messages).filter((one) => isOffset(one?.offset));
      const messages = told.map(({ from, data = null, offset: own, headers }) => (
        new Message(topic, data, { from: text(from), headers: headersIn(headers) }, epoch && { epoch, offset: own })
      ));
      const isOther = past.messages.length > 0 && epoch !== past.position.epoch;
      if (isOther) return { ...past, recovered: false, lost: null }; // what came before was forgotten meanwhile
      if (recovered === false) {
        past.lost = past.recovered ? lost : null;
        past.recovered = false;
      }
      if (epoch) past.position = messages.at(-1)?.position ?? { epoch, offset };
      past.messages = past.messages.concat(messages);
      const isAll = !epoch || !messages.length || messages.length >= coming;
      if (isAll || past.messages.length >= limit) return past;
    }
  }

  /** Who is subscribed to a topic. That is compared with nothing, so nobody is new. */
  async presence(topic) {
    named(topic, 'a topic');
    return { ...presenceIn(topic, await this.#ready().askAbout(topic, 'presence')), joined: new Map() };
  }

  /** Wait until the server has handled everything that was sent before. */
  async flush() {
    await this.#ready().flush();
  }

  // -- what connections and subscriptions call --------------------------------------------------

  /** Hand over what a message has brought: a direct one, if there is no topic. Tells whether anybody takes it. */
  _deliver(connection, topic, opened, weight, ackId) {
    const { payloads, place, groupKey } = opened;
    const targets = groupKey ? this.#subscriptions.get(groupKey) : this.#having(topic);
    if (!targets?.length) return false;
    const answer = (...outcome) => connection.answer(ackId, ...outcome);
    const asked = ackId ? acknowledgement(targets.length, answer) : undefined;
    const { first, repeated } = topic && place ? this.#passed(topic, place, payloads.length) : {};
    payloads.forEach((data, index) => {
      if (!ackId && index < repeated) return;
      const own = first && { epoch: first.epoch, offset: first.offset + index };
      for (const target of targets) {
        target._put(new Message(topic, data, opened, own, weight, asked));
      }
    });
    return true;
  }

  /** Note that messages have come, and tell if some before them have not. */
  #passed(topic, place, count) {
    const passed = this.#standings.passed(topic, place, count);
    const { first, missing } = passed;
    if (first && missing !== 0) this.#notify('onLost', { topic, messages: missing });
    return passed;
  }

  /** With what of the past the program wants a subscription to begin. */
  _start(key) {
    return this.#starts.get(key);
  }

  /** What resumes a subscription that was in force. */
  _since(key, room) {
    if (!this.#wereInForce.has(key)) return undefined;
    return this.#standings.since(key, this.#patterns.get(key), room);
  }

  /** Where a subscription stands, as its confirmation tells. */
  _stands(key, standing) {
    if (isOfGroup(key)) return;
    this.#standings.begin(key, this.#patterns.get(key), standing);
    const { coming, recovered, lost } = standing;
    const [topic] = Object.values(fieldsOf(key));
    if (recovered) this.#notify('onRecovered', { topic, messages: coming });
    else if (recovered === false) this.#notify('onLost', { topic, messages: lost });
  }

  /** What the program wants of a key besides messages, as fields of a message. */
  _wish(key) {
    const all = this.#subscriptions.get(key);
    if (isOfGroup(key)) return all?.[0]._wish ?? {};
    const isObserved = all?.some(({ _observer }) => _observer);
    return { info: this.#infos.get(key)?.at(-1)?._info, presence: isObserved || undefined };
  }

  /** The server tells who is subscribed to a topic, at first and after a reconnect, or what has changed. */
  _toldMembers(key, fields, isBeginning) {
    const isKnown = this.#members.has(key);
    if (!this._wish(key).presence || !(isKnown || isBeginning)) return;
    const now = presenceIn(topicOf(key), fields, isKnown ? this.#members.get(key) : new Map());
    this.#members.set(key, now.members && new Map(now.members)); // the program may change its own
    for (const subscription of this.#subscriptions.get(key)) {
      // A callback may end others.
      if (!this.#subscriptions.get(key)?.includes(subscription)) continue;
      this.#attemptTo(() => subscription._observer?.(now));
    }
  }

  _onFrame(fields) {
    this.#notify('onFrame', fields, this);
  }

  // -- connecting --------------------------------------------------------------------------------

  #open() {
    this.#stopRetry();
    try {
      this.#connection = new Connection(this.#url, this.#config, this);
    } catch (error) {
      const failure = this.#failure(describe(error));
      // Where the first cannot be made, no other can: a page may not use the address, for example.
      if (!this.#wasConnected || this.#config.reconnect === false) return this.#end(failure);
      const retryIn = waitBefore(this.#attempt++, this.#backoff);
      this._report(failure);
      this.#retry(retryIn);
    }
  }

  #retry(delay) {
    if (this.#hasEnded) return; // a callback may have closed the client meanwhile
    this.#stopRetry = after(delay, () => this.#open());
  }

  _registered(connection) {
    const reconnected = this.#wasConnected;
    const { id, level } = connection;
    this.#wasConnected = true;
    this.#mayAskWhy = false;
    this.#attempt = Math.max(0, this.#shortLived - FORGIVEN);
    connection.setReading(!this._flow.isPaused);
    this.#standings.connected();
    // First to the topics: their places are exact, and what comes by them does not come by patterns again.
    for (const kind of ['topic', 'pattern', 'group']) {
      for (const key of this.#subscriptions.keys()) if (key.startsWith(kind)) this._ask('subscribe', key);
    }
    this.#sendAgain(connection);
    this.#reportLackOfPresence(connection);
    this.#sendKept(connection);
    this.#notify('onConnect', { id, level, reconnected });
    if (!this.#isOver) this.#opened.resolve(this); // a callback may have closed it
  }

  /** Report for which topics this server lacks the presence that the program wants. Their subscriptions go on. */
  #reportLackOfPresence(connection) {
    for (const key of this.#subscriptions.keys()) {
      const { info, presence } = this._wish(key);
      if (info || presence) this.#attemptTo(() => connection.needs('presence', fieldsOf(key)));
    }
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

  /** `count` publications were not sent. */
  async _connectionEnded(connection, lost, reason, count) {
    if (count) {
      const { code, message } = lost;
      this.#dropped += count;
      this._report(new ConnectionLost(`${count} publications were not sent: ${message}`, { code, count }));
    }
    if (connection !== this.#connection) return;
    let why = reason || lost.code;
    if (why === NO_CODE && this.#mayAskWhy && !this._isClosing) {
      this.#mayAskWhy = false;
      why = await this.#askWhy() || why; // meanwhile this connection is the current one, so no other is made
      if (this.#hasEnded) return;
    }
    this.#connection = undefined;
    if (this._isClosing) return this.#end();
    const isTooLong = !connection.registered && lost.code === TOO_BIG; // as it will be each time
    const tooLong = 'the id is too long for the server';
    const error = connection.registered ? lost : this.#failure(isTooLong ? tooLong : why);
    const { status } = error;
    // While a server restarts, a proxy in front of it may answer anything.
    const isForNow = this.#wasConnected || FOR_NOW.includes(status);
    const isRefused = DENIED.includes(status) || (status >= 400 && status < 500 && !isForNow);
    const isFinal = this.#config.reconnect === false || FOR_GOOD.includes(lost.code) || isRefused
      || isTooLong;
    if (connection.registered) {
      // A server that accepts each client and ends it at once must not be hammered.
      if (Date.now() - connection.registeredAt >= this.#backoff.longest) this.#attempt = this.#shortLived = 0;
      this.#shortLived++;
    }
    const retryIn = isFinal ? undefined : waitBefore(this.#attempt++, this.#backoff);
    if (connection.registered) {
      this.#notify('onDisconnect', { code: lost.code, reason, retryIn });
    } else if (!isFinal) this._report(error);
    if (isFinal) this.#end(error);
    else this.#retry(retryIn);
  }

  /** Why the server refuses pages of this origin, if it does. The WebSocket of a browser does not tell, but the server does. */
  async #askWhy() {
    try {
      const { status, body } = await fetch(withoutQuery(this.#url).replace('ws', 'http'), {
        credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(SHORT_PATIENCE),
      });
      if (status !== 403) return;
      const { value } = await body.getReader().read(); // its beginning, however long it is
      const why = `server response: 403, ${quoted(new TextDecoder().decode(value).trim())}`;
      console.warn(why);
      return why;
    } catch { /* nothing that this page may read: there is another reason */ }
  }

  /** `reason` is a text, or else a close code. */
  #failure(reason) {
    // That is how `ws`, Deno and Bun tell; others do not tell.
    const status = Number(/(?:server response|status code): (\d{3})\b/.exec(reason)?.[1]) || undefined;
    const ended = reason === NO_CODE ? 'the WebSocket does not tell why' : `it ended with code ${reason}`;
    const why = quoted(reason) || ended;
    return new ConnectFailed(`cannot connect to ${withoutQuery(this.#url)}: ${why}`, { status });
  }

  /** The network or the page is back: do not wait for what was due before. */
  #wake() {
    if (this.#connection) this.#connection.check();
    else if (!this.#hasEnded) this.#open();
  }

  #listen() {
    const { document } = globalThis;
    const { signal } = this.#config;
    const ends = [
      listen(globalThis, 'online', () => this.#wake()),
      listen(document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#wake()),
      listen(signal, 'abort', () => this.close()),
    ];
    this.#stopListening = () => { for (const end of ends) end(); };
    if (signal?.aborted) this.close();
  }

  #end(error) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#error = error;
    this.#stopRetry();
    this.#stopListening();
    this.#endAll(error);
    if (this.#kept.length) {
      this.#dropped += this.#kept.length;
      this._report(new NotConnected(`${this.#kept.length} publications were kept and never sent`));
    }
    this.#opened?.reject(error ?? this.#refusal());
    this.#notify('onClose', error);
    this.#closed.resolve();
  }

  // -- subscriptions -----------------------------------------------------------------------------

  #confirm(subscription, asks) {
    const { _key: key } = subscription;
    const connection = this.#connection;
    const answer = asks ? connection.ask('subscribe', key, subscription) : connection.confirmation(key);
    subscription._confirmation = answer;
    answer?.catch((error) => subscription._isAwaited || this.#reportUnlessTold(error));
  }

  /** Subscribe or unsubscribe, with nobody who waits for the outcome. */
  _ask(...question) {
    if (question[1] === DIRECT) return; // for which there is nothing to ask
    const ask = () => this.#connection.ask(...question);
    this.#attemptTo(ask, (error) => this.#reportUnlessTold(error));
  }

  /** The cause of an error is one that the program has been told. */
  #reportUnlessTold(error) {
    const isTold = error instanceof ConnectionLost || error instanceof ClientClosed || error.cause;
    if (!isTold) this._report(error);
  }

  /** The subscriptions that have a topic: those to it, then those to patterns. */
  #having(topic) {
    let found = this.#routes.get(topic);
    if (found) return found;
    // Without a topic it is a direct message, which no pattern has.
    const matching = [...this.#patterns].filter(([, pattern]) => topic && pattern._selects(topic));
    const exact = this.#subscriptions.get(`topic ${topic}`) ?? [];
    found = [exact, ...matching.map(([key]) => this.#subscriptions.get(key))].flat();
    if (this.#routes.size >= MOST_ROUTES) this.#routes.clear();
    if (topic.length <= LONGEST_ROUTE) this.#routes.set(topic, found);
    return found;
  }

  /** Whether some of the topics of a subscription come already. */
  #hasSome(key, pattern) {
    if (!pattern) return this.#having(topicOf(key)).length > 0;
    const topics = [...this.#subscriptions.keys()].map(topicOf);
    return this._wants(key) || topics.some((topic) => topic && pattern._selects(topic));
  }

  _wants(key) {
    return this.#subscriptions.has(key);
  }

  _inForce(key, isLast) {
    this.#wereInForce.add(key);
    this.#starts.delete(key);
    if (isLast && this.#infos.has(key)) this.#infos.set(key, this.#infos.get(key).slice(-1));
  }

  /** Beyond a limit what is new fails, but the client restores what was in force. */
  _isWorthAskingAgain(key, { isTemporary, code }, isPart) {
    return isTemporary && (code !== 'limit_reached' || (this.#wereInForce.has(key) && !isPart));
  }

  /** Without a connection a subscription is as good as made: the next one will have it. */
  async _confirmed({ _confirmation: confirmation, _left: left }) {
    try {
      await Promise.race(confirmation ? [confirmation, left] : [left, undefined]);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
    if (this.#isOver) throw this.#refusal();
  }

  _unsubscribed(subscription) {
    const { _key: key } = subscription;
    const others = (this.#subscriptions.get(key) ?? []).filter((each) => each !== subscription);
    if (!others.length) {
      if (this.#forget(key) && this.connected) this._ask('unsubscribe', key);
      return;
    }
    this.#set(key, others);
    if (subscription._observer && !this._wish(key).presence) this._unobserved(key);
  }

  /** A topic that the program has goes on, and no subscription observes it any more. */
  _unobserved(key) {
    this.#members.delete(key);
    const isTold = this.connected && this.#connection.has('presence');
    if (isTold) this._ask('subscribe', key, NO_OBSERVER);
  }

  #endAll(error) {
    for (const key of this.#subscriptions.keys()) this._endSubscriptions(key, error);
    for (const [call, { connection }] of this._unanswered) call._fail(connection.error ?? this.#refusal());
  }

  /** End the subscriptions of a key: all, or some. */
  _endSubscriptions(key, error, isMeant = () => true) {
    const all = this.#subscriptions.get(key) ?? [];
    const others = all.filter((each) => !isMeant(each));
    if (others.length) this.#set(key, others);
    else this.#forget(key);
    if (this.#infos.has(key)) this.#infos.set(key, this.#infos.get(key).filter((each) => !isMeant(each)));
    if (this.#members.has(key) && !this._wish(key).presence) this._unobserved(key);
    for (const subscription of all) if (isMeant(subscription)) subscription._end(error);
  }

  #set(key, subscriptions) {
    this.#subscriptions.set(key, subscriptions);
    this.#routes.clear();
  }

  /** Tells whether there was anything to forget. */
  #forget(key) {
    const pattern = this.#patterns.get(key);
    this.#routes.clear();
    this.#wereInForce.delete(key);
    this.#starts.delete(key);
    this.#infos.delete(key);
    this.#members.delete(key);
    this.#patterns.delete(key);
    const isKnown = this.#subscriptions.delete(key);
    if (isKnown && !this.#isOver && !isOfGroup(key)) this.#standings.forget(key, pattern);
    return isKnown;
  }

  // -- sending -----------------------------------------------------------------------------------

  get #isOver() {
    return this._isClosing || this.#hasEnded;
  }

  #ready(messageId) {
    if (!this.connected) throw this.#refusal();
    if (messageId && this.#unansweredBytes > MOST_UNSENT) throw new QueueFull('the server is slower than the program');
    return this.#connection;
  }

  #refusal() {
    if (this.#error) return new ClientClosed(`the client has ended: ${describe(this.#error)}`);
    if (this.#isOver) return new ClientClosed('the client was closed');
    return new NotConnected('not connected to the server at the moment');
  }

  async #sendOrKeep(message, data, options) {
    const fields = withHeaders(message, headersGiven(options));
    const json = encode(data);
    const isOffline = !this.connected && !this.#isOver;
    if (isOffline && this.#config.offlineQueue > 0) return this.#keep(fields, json);
    const connection = this.#ready();
    if (fields.headers) connection.needsFor(fields);
    connection.publish(fields, json);
    // There is no event for it, in any WebSocket.
    while (connection.backlog > HIGH_WATER) {
      await pause(4);
      if (connection.ended) throw connection.error;
    }
  }

  #keep(fields, json) {
    const headers = fields.headers ? JSON.stringify(fields.headers).length : 0;
    const size = this.#keptBytes + json.length + (fields.topic ?? fields.to).length + headers;
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
    named(topic, 'a topic');
    return this.#ask({ action: 'publish_with_ack', topic }, ...rest);
  }

  #askId(to, ...rest) {
    named(to, 'an id');
    return this.#ask({ action: 'publish_to_id_with_ack', to }, ...rest);
  }

  /** `known` are the options that this kind of request has. */
  #ask(fields, data, options = {}, known = ASKING) {
    const given = checked(options, known);
    const { timeout, signal, headers, expect = [], expectGroups = [], key, retry, messageId } = given;
    const there = [...expect, ...expectGroups.map((group) => ({ group }))];
    const demands = { expect: there.length ? there : undefined, key, retry: retry || undefined };
    const asked = withHeaders({ ...fields, ...demands, message_id: messageId }, headers);
    return this.#ready(messageId).request(asked, encode(data), timeout, signal);
  }

  // -- messages with ids -------------------------------------------------------------------------

  /** Note what waits for the answer to a message that is sent just now, if that has an id. */
  _sent(connection, call, [fields, json]) {
    if (!fields.message_id) return;
    const { window, ahead } = connection.memory;
    const repeat = [{ ...fields, repeat_until: clock() + ahead }, json];
    this.#unansweredBytes += json.length;
    const number = ++this.#countWithIds;
    this._unanswered.set(call, { connection, repeat, window, id: this.id, number });
  }

  _answered(call) {
    this.#unansweredBytes -= this._unanswered.get(call)?.repeat[1].length ?? 0;
    this._unanswered.delete(call);
  }

  /** Send again what has no answer, if it is the same server, which may still remember it. */
  #sendAgain(connection) {
    const { window, most } = connection.memory;
    for (const [call, sent] of this._unanswered) {
      const { error } = sent.connection;
      if (!error) continue; // a callback has sent it on this connection
      const isSafe = window === sent.window && this.id === sent.id && this.#countWithIds - sent.number < most;
      try {
        if (!isSafe) throw error;
        call._sendAgain(connection, sent.repeat);
        sent.connection = connection;
        sent.lost = error;
      } catch {
        call._fail(error);
      }
    }
  }

  // -- telling the program -----------------------------------------------------------------------

  _report(error) {
    const listeners = this.#listeners.onError.filter(Boolean);
    for (const listener of listeners.length ? listeners : [show]) this.#attemptTo(() => listener(error), show);
  }

  #notify(name, ...values) {
    for (const listener of this.#listeners[name]) this.#attemptTo(() => listener?.(...values));
  }

  /** Do what may fail, now or as a promise, without harm to whoever wanted it done. */
  #attemptTo(act, failed = (error) => this._report(error)) {
    try {
      const result = finished(act());
      if (isThenable(result)) result.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  // -- the unified spelling, shared with the clients in other languages --------------------------
  // Programs that use it need not await: what fails is reported as well.

  static async NewClient(options = {}) {
    const given = checked(options, UNIFIED);
    const { Address, Path, Secure, Id, OnDataWs, OnId, OnOpen, OnClose } = given;
    const { AutoRestart = given.Autorestart, RestartEvery } = given;
    return this.connect(Address, {
      id: Id || undefined,
      path: Path || undefined,
      secure: Secure,
      reconnect: AutoRestart ? RestartEvery || 10 * SECOND : false,
      level: OnDataWs ? 1 : undefined, // those who read frames know this one
      onFrame: OnDataWs,
      onDirect: OnId && (({ data, from }) => OnId({ data, from }, () => {})),
      onConnect: OnOpen,
      onClose: OnClose,
    });
  }

  Subscribe(topic, callback) {
    called(callback);
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

  /** Fulfilled when the program has closed the client, rejected when it ended otherwise. */
  Run() {
    const run = this.#closed.promise.then(() => { if (this.#error) throw this.#error; });
    run.catch(() => {}); // told by OnClose
    return run;
  }

  OnClose(callback) {
    this.#listeners.onClose[0] = called(callback);
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

module.exports = {
  KPSError,
  InvalidArgument,
  MessageTooLarge,
  InvalidState,
  NotConnected,
  ClientClosed,
  ConnectFailed,
  ConnectionLost,
  RequestTimeout,
  NobodyThere,
  RequestFailed,
  QueueFull,
  ServerError,
  Unsupported,
  packBytes,
  unpackBytes,
  Pattern,
  Ack,
  Subscription,
  Client,
  ClientAck,
  ClientSubscription,
  ClientSubscriber,
};
})(typeof module === 'object' && module.exports ? module : {
  set exports(names) { globalThis.KPS = globalThis.BusClient = names; },
});

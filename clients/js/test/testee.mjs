// The testee of this client: plays the program of client vectors for a judge (spec/CLIENTS.md, "The testee").

import { createInterface } from 'node:readline';

import WebSocket from 'ws';

import { Client, ConnectFailed, Pattern } from '../kps.js';

const SECOND = 1000;
const LAST = SECOND / 10; // for the server to take part in closing at the end of a vector
const NEEDS = ['level_1', 'patterns', 'history', 'presence', 'groups', 'headers', 'message_ids', 'tokens', 'offline'];

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Let happen what needs no network. */
const settled = () => new Promise((resolve) => { setImmediate(resolve); });

const seconds = (value) => (value === undefined ? undefined : value * SECOND);

const object = (map) => map && Object.fromEntries(map);

/** A callback fails as the vector says. */
class Failed extends Error {}

/** InvalidArgument -> invalid_argument */
const kindOf = ({ name }) => name.replace(/\B[A-Z]/g, '_$&').toLowerCase();

function ofError(error) {
  const { code, errors } = error;
  return { error: kindOf(error), code: error.name === 'ServerError' ? code : undefined, errors: object(errors) };
}

/** What callbacks throw is theirs, and vectors do not know that each attempt to connect is reported. */
const isForJudge = (error) => !(error instanceof Failed || error instanceof ConnectFailed);

const ofDirect = ({ data, from, headers }) => (
  { data, from, headers: Object.keys(headers).length ? headers : undefined }
);

function ofMessage(message) {
  const { topic, offset, attempt } = message;
  return { topic, ...ofDirect(message), offset: offset ?? undefined, attempt: attempt > 1 ? attempt : undefined };
}

const ofOutcome = ({ clientId, failures, error, ...outcome }) => ({
  ...outcome,
  id: clientId || undefined,
  error: error || undefined,
  failures: failures?.length ? failures.map((each) => [each.clientId, each.error]) : undefined,
});

const ofPast = ({ messages, recovered, lost }) => (
  { messages: messages.map(({ data }) => data), complete: recovered, lost }
);

/** The options of a client, without its hooks. */
function optionsIn({ id, level, token, tokens, reconnect, offline, request_timeout: timeout = 5 }) {
  const left = [...tokens ?? []];
  return {
    id,
    level,
    token: tokens ? () => (left.length > 1 ? left.shift() : left[0]) : token,
    reconnect: seconds(reconnect) || reconnect,
    offlineQueue: offline,
    requestTimeout: seconds(timeout),
    WebSocket,
  };
}

/** The options of what waits for the answers of others. */
function askingIn({ timeout, expect_groups: expectGroups, message_id: messageId, ...same }) {
  const all = { timeout: seconds(timeout), expectGroups, messageId, ...same };
  return object(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** The program of one vector. */
class Program {
  #client;
  #isOver = false;
  #isClosing = false;
  #subscriptions = new Map();
  #held = new Map(); // subscription -> what lets its callbacks return, the oldest first
  #acks = new Map();

  constructor(url, options) {
    const tell = (told) => (event) => this.#tell(told, event);
    this.#client = new Client(url, {
      ...optionsIn(options),
      closeTimeout: LAST,
      onConnect: ({ id }) => this.#tell('connected', { id }),
      onDisconnect: ({ code }) => this.#tell('disconnected', { code }),
      onError: (error) => isForJudge(error) && this.#tell('error', ofError(error)),
      onRecovered: tell('recovered'),
      onLost: tell('lost'),
      onDirect: options.reports_direct && ((message) => this.#tell('direct', ofDirect(message))),
      onClose: (error) => this.#tell('ended', error && !this.#isClosing && ofError(error)),
    });
  }

  async begin(step) {
    const { do: verb, as = verb } = step;
    const act = this[verb];
    if (!act) return this.#tell('failed', { as, error: 'unsupported' });
    try {
      const result = await act.call(this, step);
      if (result !== undefined) this.#tell('done', { as, result: result ?? undefined });
    } catch (error) {
      if (verb !== 'connect') this.#tell('failed', { as, ...ofError(error) });
    }
  }

  async end() {
    this.#isOver = true;
    await this.#client.close();
  }

  #tell(told, fields) {
    if (!this.#isOver) write({ told, ...fields });
  }

  // -- what it does, one method for each verb. `null` is an end without a result, nothing: no end to tell of

  async connect() {
    await this.#client.connect();
  }

  async close() {
    this.#isClosing = true;
    await this.#client.close();
  }

  async subscribe({ as, topic, pattern, answer = {}, presence, ...options }) {
    const held = [];
    const { group, concurrency, last, since, info } = options;
    const handle = async (message) => {
      this.#tell('message', { as, ...ofMessage(message) });
      const { result, error } = answer.hold ? await new Promise((resolve) => { held.push(resolve); }) : answer;
      if (error) throw new Failed(error);
      return result;
    };
    const observe = ({ members, count }) => (
      this.#tell('members', { as, members: members && [...members.keys()].sort(), count })
    );
    const subscription = this.#client.subscribe(pattern ? new Pattern(pattern) : topic, handle, {
      group, concurrency, last, since, info, presence: presence && observe,
    });
    this.#subscriptions.set(as, subscription);
    this.#held.set(as, held);
    await subscription;
    return null;
  }

  async answer({ as, ...answer }) {
    this.#held.get(as).shift()(answer);
  }

  async unsubscribe({ as }) {
    this.#subscriptions.get(as).unsubscribe();
  }

  async publish({ topic, data, headers }) {
    await this.#client.publish(topic, data, { headers });
  }

  async publish_to_id({ to, data, headers }) {
    await this.#client.publishToId(to, data, { headers });
  }

  async publish_with_receipt({ topic, data, headers, message_id: messageId }) {
    return await this.#client.publishWithReceipt(topic, data, { headers, messageId }) ?? null;
  }

  async publish_with_ack({ do: _, as, topic, to, data, ...more }) {
    const options = askingIn(more);
    const client = this.#client;
    const ack = await (to ? client.publishToIdWithAck(to, data, options) : client.publishWithAck(topic, data, options));
    this.#acks.set(as, ack);
    for await (const outcome of ack) this.#tell('outcome', { as, ...ofOutcome(outcome) });
    return null;
  }

  async request({ do: _, as, topic, to, data, ...more }) {
    const options = askingIn(more);
    const client = this.#client;
    return await (to ? client.requestToId(to, data, options) : client.request(topic, data, options)) ?? null;
  }

  async cancel({ as }) {
    this.#acks.get(as).cancel();
  }

  async status({ of }) {
    return object(await this.#acks.get(of).status());
  }

  async history({ topic, since, last }) {
    return ofPast(await this.#client.history(topic, { since, limit: last }));
  }

  async presence({ topic }) {
    const { members, count } = await this.#client.presence(topic);
    return { members: object(members), count };
  }

  async flush() {
    await this.#client.flush();
    return null;
  }
}

write({ testee: 'kps-client', needs: NEEDS });
let program;
for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line);
  if ('vector' in said) {
    program = new Program(said.url, said.options);
  } else if ('sync' in said) {
    await settled();
    write({ synced: said.sync });
  } else if ('end' in said) {
    await program.end();
    write({ ended: true });
  } else {
    program.begin(said);
  }
}

// The vectors of the specification, against `kps serve`: what a server must answer, as data.
// spec/README.md explains the steps.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import WebSocket from 'ws';

import { parseExactly, stringifyExactly } from './json.js';
import { serve } from './kps-serve.js';

const folder = new URL('../../../spec/vectors/', import.meta.url);
const vectors = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .flatMap((name) => parseExactly(readFileSync(new URL(name, folder), 'utf8')).vectors);

const OPTIONS = ['--id', 'refserver', '--relay-to', '**', '--history', 'kept/**=5'];
const PATIENCE = 20_000;
const PLACEHOLDER = /(\$(?:(?:ack|new)\d+|epoch|generated|address|n|text)(?![a-z0-9]))/g;
const MARKS = ['$mark', '$later']; // which stand for numbers

/** The messages in one WebSocket message: its text, or those of the array that it holds. */
const messagesIn = (text) => (
  text.startsWith('[') ? parseExactly(text).map((message) => stringifyExactly(message)) : [text]
);

/** One raw connection, with what came and was not yet asked for. */
class Peer {
  inbox = [];
  over = false;
  #news = () => {};

  constructor(url) {
    const options = { perMessageDeflate: false, maxPayload: 0 };
    this.socket = new WebSocket(url, options);
    this.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false, 'a binary message came');
      for (const message of messagesIn(String(data))) this.#take(message);
    });
    this.socket.on('close', (code) => {
      this.over = true;
      this.#take(code);
    });
    this.socket.on('error', () => {}); // the close code tells
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
  }

  /** Wait until something has come for which `condition` holds, or for a while. */
  async until(condition) {
    const end = Date.now() + PATIENCE;
    while (!condition() && !this.over && Date.now() < end) {
      const timer = new AbortController();
      const news = new Promise((resolve) => { this.#news = resolve; });
      await Promise.race([news, sleep(end - Date.now(), undefined, { signal: timer.signal })]);
      timer.abort();
    }
  }

  /** An action that does not exist is answered in every state, and changes nothing. */
  async drain(mark) {
    if (this.over) return;
    const answer = `"unknown action: ${mark}"`;
    const isAnswered = () => this.inbox.some((text) => String(text).includes(answer));
    this.socket.send(JSON.stringify({ action: mark }));
    await this.until(isAnswered);
    this.inbox = this.inbox.filter((text) => !String(text).includes(answer));
  }

  async close() {
    const ended = new Promise((resolve) => { this.socket.once('close', resolve); });
    if (this.over) return;
    this.socket.close(1000);
    await ended;
  }

  #take(received) {
    this.inbox.push(received);
    this.#news();
  }
}

/** A server behind a socket, and the clients of one vector. */
class Target {
  #url;
  #peers = new Map();
  #last;
  #marks = 0;

  constructor(url) {
    this.#url = url;
    this.address = new URL(url).host;
  }

  has(client) {
    return this.#peers.has(client);
  }

  get clients() {
    return [...this.#peers.keys()];
  }

  async open(client) {
    const peer = new Peer(this.#url);
    this.#peers.set(client, peer);
    await peer.opened;
  }

  async send(client, data, options) {
    await this.#turnOf(client);
    this.#peers.get(client).socket.send(data, options);
  }

  async sendRaw(client, digits) {
    await this.#turnOf(client);
    this.#peers.get(client).socket._socket.write(Buffer.from(digits.replaceAll(' ', ''), 'hex'));
  }

  async close(client) {
    const peer = this.#peers.get(client);
    this.#peers.delete(client);
    await peer.close();
  }

  drop(client) {
    this.#peers.get(client).socket.terminate();
    this.#peers.delete(client);
  }

  /** Everything that has come for a client, once it is certain that this is all. */
  async receive(client, count) {
    // In the first round the server handles what was sent, in the second what it led to arrives.
    for (let round = 0; round < 2; round++) {
      for (const each of this.#peers.values()) await each.drain(`mark-${++this.#marks}`);
    }
    const peer = this.#peers.get(client);
    await peer.until(() => peer.inbox.length >= count);
    return peer.inbox.splice(0);
  }

  async closeAll() {
    for (const client of this.clients) await this.close(client);
  }

  /** Others send once the server has handled what the last one sent. */
  async #turnOf(client) {
    const last = this.#peers.get(this.#last);
    if (this.#last !== client && last) await last.drain(`mark-${++this.#marks}`);
    this.#last = client;
  }
}

/** The placeholders of a vector, and what they have been found to stand for. */
class Names {
  #bound;
  #marks = {};

  constructor(address) {
    this.#bound = { $address: address };
  }

  /** The value with what the placeholders in it stand for. */
  fill(value) {
    if (MARKS.includes(value)) {
      assert.ok(value in this.#marks, `${value} is not known yet`);
      return this.#marks[value];
    }
    if (typeof value === 'string') {
      return value.replace(PLACEHOLDER, (name) => {
        if (name.startsWith('$new')) this.#bound[name] ??= randomUUID();
        assert.ok(name in this.#bound, `${name} is not known yet`);
        return this.#bound[name];
      });
    }
    if (Array.isArray(value)) return value.map((item) => this.fill(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.fill(key), this.fill(item)]));
  }

  /** Whether a number is what a mark stands for, which is known from then on. */
  matchMark(mark, number) {
    this.#marks[mark] ??= number;
    return number === this.#marks[mark];
  }

  /** Whether a text is what a pattern says; its placeholders are known from then on. */
  match(pattern, actual) {
    const found = [];
    const source = pattern.split(PLACEHOLDER).map((piece, index) => {
      if (index % 2 === 0) return escape(piece);
      if (piece === '$n') return '\\d+';
      if (piece === '$text') return '.+';
      if (piece in this.#bound) return escape(this.#bound[piece]);
      found.push(piece);
      return '(.+)';
    });
    const matched = new RegExp(`^${source.join('')}$`, 's').exec(actual);
    const isNew = matched && found.every((name, i) => !Object.values(this.#bound).includes(matched[i + 1]));
    if (isNew) found.forEach((name, i) => { this.#bound[name] = matched[i + 1]; });
    return Boolean(isNew);
  }
}

const escape = (string) => string.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

const isNumber = (value) => typeof value === 'number' || typeof value === 'bigint';

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Where a JSON value is not what it should be; nothing if it is. */
function difference(expected, actual, names, path = '', inOrder = false) {
  const wrong = `${path}: ${stringifyExactly(actual)} instead of ${stringifyExactly(expected)}`;
  if (typeof expected === 'string' && typeof actual === 'string') {
    return names.match(expected, actual) ? '' : wrong;
  }
  if (expected === '$time' && isNumber(actual)) return '';
  if (MARKS.includes(expected) && isNumber(actual)) return names.matchMark(expected, actual) ? '' : wrong;
  // BigInt and number are compared by value, and exactly.
  if (isNumber(expected) && isNumber(actual)) return expected == actual ? '' : wrong;
  if (isObject(expected) && Object.keys(expected).join() === '$in_order') {
    return difference(expected.$in_order, actual, names, path, true);
  }
  const sameKind = isObject(expected) ? isObject(actual) : Array.isArray(expected) && Array.isArray(actual);
  if (!sameKind) return expected === actual ? '' : wrong;
  const keys = Object.keys(expected);
  const others = Object.keys(actual);
  const arranged = (list) => (inOrder ? list : [...list].sort()).join();
  if (arranged(keys) !== arranged(others)) return `${path}: has [${others}] instead of [${keys}]`;
  for (const key of keys) {
    const inner = difference(expected[key], actual[key], names, `${path}.${key}`, inOrder);
    if (inner) return inner;
  }
  return '';
}

function compareMessage(expected, received, names) {
  if (typeof received === 'number') {
    const code = received === 1006 ? null : received;
    return expected.$closed === code ? '' : `: closed with code ${received}`;
  }
  return difference(expected, parseExactly(received), names);
}

function compare(expected, received, names) {
  const complaints = expected.length === received.length ? [] : [`${received.length} messages instead of ${expected.length}`];
  expected.slice(0, received.length).forEach((wanted, index) => {
    const complaint = compareMessage(wanted, received[index], names);
    if (complaint) complaints.push(`[${index}]${complaint}`);
  });
  if (complaints.length) assert.fail(`${complaints.join('\n')}\nreceived: ${received.join('\n')}`);
}

const spelledOut = (text) => (
  typeof text === 'string' ? text : text.map(([piece, times]) => piece.repeat(times)).join('')
);

/** What a server says when it registers a client, on a level. */
const welcome = (client, level) => (
  level === 2
    ? {
      action: 'pong', id: client, proto: 2, limits: { max_message: 1_048_576, heartbeat: 25 },
      features: ['patterns', 'history', 'expect', 'presence', 'groups', 'headers', 'message_ids'],
      message_ids: { window: '$text', seconds: 120, most: 10_000, time: '$time' },
    }
    : { action: 'pong', id: client }
);

async function open({ open: client, registered, level }, target, names) {
  await target.open(client);
  if (!registered) return;
  const proto = level > 1 ? level : undefined;
  await target.send(client, JSON.stringify({ action: 'ping', from: client, proto }));
  compare([welcome(client, level)], await target.receive(client, 1), names);
}

async function runStep(step, target, names) {
  const { client } = step;
  const concerned = client ?? step.close ?? step.drop;
  assert.ok(concerned === undefined || target.has(concerned), `${concerned} has no connection`);
  if ('open' in step) await open(step, target, names);
  else if ('close' in step) await target.close(step.close);
  else if ('drop' in step) target.drop(step.drop);
  else if ('wait_s' in step) await sleep(step.wait_s * 1000);
  else if ('send' in step) await target.send(client, stringifyExactly(names.fill(step.send)));
  else if ('send_text' in step) await target.send(client, names.fill(spelledOut(step.send_text)));
  else if ('send_binary' in step) await target.send(client, Buffer.from(names.fill(spelledOut(step.send_binary))));
  else if ('send_raw' in step) await target.sendRaw(client, step.send_raw);
  else if ('receives' in step) compare(step.receives, await target.receive(client, step.receives.length), names);
  else assert.fail('there is no such step');
}

async function run({ steps }, url) {
  const target = new Target(url);
  const names = new Names(target.address);
  try {
    for (const [index, step] of steps.entries()) {
      await runStep(step, target, names).catch((error) => {
        error.message = `step ${index + 1}: ${stringifyExactly(step)}\n${error.message}`;
        throw error;
      });
    }
    for (const client of target.clients) compare([], await target.receive(client, 0), names);
  } finally {
    await target.closeAll();
  }
}

const waits = ({ steps }) => steps.some(({ wait_s: seconds = 0 }) => seconds >= 1);

describe('vectors', () => {
  let server;
  before(async () => { server = await serve(...OPTIONS); });
  after(() => server.stop());

  for (const vector of vectors.filter((each) => !waits(each))) {
    test(vector.name, () => run(vector, server.url));
  }

  const wrong = (...steps) => run({ steps: [{ open: 'a', registered: true }, ...steps] }, server.url);
  const subscribe = { client: 'a', send: { action: 'subscribe', topic: 't' } };
  const receives = (...messages) => ({ client: 'a', receives: messages });

  test('what a server does otherwise is found', async () => {
    const subscribed = { action: 'subscribed', topic: 't' };
    const publish = (data) => ({ client: 'a', send: { action: 'publish', topic: 't', data } });
    const delivered = (data) => receives(
      { action: 'publish', topic: 't', data: { data, from: 'a' } },
      { action: 'published', topic: 't' },
    );
    const published = [subscribe, receives(subscribed)];
    for (const [steps, complaint] of [
      [[subscribe], /1 messages instead of 0/],
      [[subscribe, receives()], /step 3.*\n.*1 messages instead of 0/],
      [[subscribe, receives({ action: 'published', topic: 't' })], /"subscribed" instead of "published"/],
      [[subscribe, receives({ action: 'subscribed' })], /has \[action,topic\] instead of \[action\]/],
      [[subscribe, receives({ $closed: 1000 })], /has \[action,topic\]/],
      [[subscribe, subscribe, receives({ ...subscribed, topic: '$ack1' }, { ...subscribed, topic: '$ack2' })], /"t" instead of "\$ack2"/],
      [[subscribe, receives({ ...subscribed, topic: '$n' })], /"t" instead of "\$n"/],
      [[{ client: 'a', send: { action: '$ack1' } }], /\$ack1 is not known yet/],
      [[{ client: 'a', send: { mark: '$mark' } }], /\$mark is not known yet/],
      [[subscribe, receives({ ...subscribed, topic: '$mark' })], /"t" instead of "\$mark"/],
      [[...published, publish(1), delivered('$mark'), publish(2), delivered('$mark')], /2 instead of "\$mark"/],
      [[{ client: 'b', send: {} }], /b has no connection/],
      [[{ client: 'a', sends: {} }], /no such step/],
      [[{ client: 'a', send_raw: '8100' }, receives({ $closed: 1000 })], /closed with code 1002/],
      [[...published, publish(2n ** 63n + 1n), delivered(2n ** 63n)], /9223372036854775809 instead of 9223372036854775808/],
      [[...published, publish(2n ** 63n + 1n), delivered(2 ** 63)], /9223372036854775809 instead of/],
      [[...published, publish(1), delivered(true)], /1 instead of true/],
      [[...published, publish({ b: 1, a: 2 }), delivered({ $in_order: { a: 2, b: 1 } })], /has \[b,a\] instead of \[a,b\]/],
    ]) {
      await assert.rejects(wrong(...steps), complaint);
    }
  });
});

describe('vectors that wait', { concurrency: true }, () => {
  for (const vector of vectors.filter(waits)) {
    test(vector.name, async () => {
      const server = await serve(...OPTIONS);
      try {
        await run(vector, server.url);
      } finally {
        await server.stop();
      }
    });
  }
});

test('the reader keeps integers of any size', () => {
  const text = '{"a":[18446744073709551615,-9223372036854775808,1,1.5,1e2,"x\\"]",null,true,{}],"__proto__":1}';
  const value = parseExactly(text);
  assert.deepEqual(value.a, [2n ** 64n - 1n, -(2n ** 63n), 1, 1.5, 100, 'x"]', null, true, {}]);
  assert.deepEqual(Object.keys(value), ['a', '__proto__']);
  assert.equal(stringifyExactly(value), text.replace('1e2', '100'));
  assert.throws(() => parseExactly('{"a":}'), SyntaxError);
});

// What servers and callbacks may do, and what must not end the program.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Client, InvalidArgument, KPSError, MessageTooLarge, Pattern, ServerError } from '../kps.js';
import { connected, fakeNetwork, LEVEL_1, LEVEL_2, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const hostile = JSON.parse('{"toString": 1, "valueOf": 1, "then": 1, "__proto__": {"x": 1}, "constructor": 1}');
const nested = JSON.parse('['.repeat(500) + ']'.repeat(500));
const VALUES = [
  hostile, null, 5, -1, 1e308, true, '', 'constructor', '__proto__', 'toString', '\ud800', [], [hostile], [null], nested, {},
];
const FIELDS = [
  'topic', 'pattern', 'data', 'batch', 'from', 'id', 'proto', 'limits', 'features', 'nonce', 'receipt', 'delivered', 'ack_id', 'responses',
  'missing', 'status', 'error', 'code', 'request', 'to', 'refused', 'complete', 'action', 'epoch', 'offset', 'mark', 'coming',
  'recovered', 'lost', 'messages', 'presence', 'members', 'joined', 'left', 'count', 'version', 'group', 'groups', 'attempt', 'headers',
];
const ACTIONS = [
  'publish', 'publish_ack', 'direct_message', 'pong', 'subscribed', 'unsubscribed', 'published', 'ack_update',
  'ack_response', 'ack_status', 'error', 'history', 'presence', 'unknown',
];

/** No error but the client's own, and each can be shown. */
function assertKnown(errors) {
  for (const error of errors) assert.ok(error instanceof KPSError, error?.stack);
}

/** A client of which something of each kind waits for an answer. */
async function asking(agreement) {
  const world = await connected({ reconnect: 1000, onDirect: () => 1 }, agreement);
  const { client } = world;
  client.subscribe('t', () => 1, agreement.features && { presence: () => 1 });
  if (agreement.features) {
    client.subscribe(new Pattern('**'), () => 1);
    client.subscribe('t', () => 1, { group: 'workers' });
  }
  const ack = await client.publishWithAck('t', 1);
  const waiting = [client.flush(), client.publishWithReceipt('t', 1), ack.status(), ack.wait(), client.history('t'), client.presence('t')];
  for (const promise of waiting) promise.catch(() => {});
  await world.socket.sent();
  return { ...world, ack };
}

for (const [level, agreement] of [[1, LEVEL_1], [2, LEVEL_2]]) {
  describe(`fields of the wrong type, level ${level}`, () => {
    for (const action of ACTIONS) {
      test(action, async () => {
        for (const field of FIELDS) {
          for (const value of VALUES) {
            const { client, socket, errors, ack } = await asking(agreement);
            const plain = {
              action, topic: 't', data: 1, from: 'bob', ack_id: ack.id, receipt: '1', nonce: '1', error: 'x',
              responses: { bob: { success: true } }, missing: ['carol'], status: { bob: true },
            };
            socket.says({ ...plain, group: 'workers', [field]: value });
            socket.says({ ...plain, [field]: value }, { ...plain, request: 'subscribe', refused: [{ ...plain, [field]: value }] });
            await settled();
            assertKnown(errors);
            assert.equal(client.connected, true);
            client.close();
            socket.end(1000);
          }
        }
      });
    }

    test('within outcomes and their states', async () => {
      for (const value of VALUES) {
        const { socket, errors, ack } = await asking(agreement);
        for (const outcome of [value, { success: value }, { success: true, error: value, result: value }]) {
          socket.says({ action: 'ack_update', ack_id: ack.id, responses: { bob: outcome }, missing: value });
        }
        socket.says({ action: 'ack_response', ack_id: ack.id, responses: JSON.parse('{"__proto__": {"success": true}}') });
        assertKnown(errors);
        const responses = await ack.Wait();
        assert.equal(Object.getPrototypeOf(responses), Object.prototype);
        assert.equal(responses.__proto__.success, true);
        for (const { clientId, success, error } of ack.responses.values()) {
          assert.deepEqual([typeof clientId, typeof success], ['string', 'boolean']);
          assert.ok(error === undefined || typeof error === 'string');
        }
      }
    });
  });
}

test('fields of the wrong type around history: what the program and the next server get is of the right one', async () => {
  const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
  const isPosition = (value) => typeof value.epoch === 'string' && value.epoch.length > 0 && isCount(value.offset);
  const more = [-1, 1.5, 2 ** 53, 1e400, '5', 0, false, 'x'.repeat(2000), { epoch: 'e', offset: 1 }];
  for (const field of ['epoch', 'offset', 'mark', 'coming', 'recovered', 'lost', 'messages', 'batch', 'topic', 'pattern']) {
    for (const value of [...VALUES, ...more]) {
      const events = [];
      const take = ({ offset, position }) => { assert.ok(position ? isPosition(position) && offset === position.offset : offset === null); };
      const { client, socket, sockets, errors } = await connected({ reconnect: 100, onLost: (event) => events.push(event), onRecovered: (event) => events.push(event) });
      client.subscribe('t', take);
      client.subscribe(new Pattern('**'), take);
      const past = client.history('t');
      const { nonce } = (await socket.sent()).at(-1);
      const place = { epoch: 'e', offset: 5, mark: 5, coming: 1, recovered: false, lost: 1, [field]: value };
      for (const known of [{}, { epoch: 'e', offset: 1, mark: 1 }]) {
        socket.says({ action: 'subscribed', topic: 't', ...known }, { action: 'subscribed', pattern: '**', ...known });
        socket.says({ action: 'subscribed', topic: 't', ...place }, { action: 'subscribed', pattern: '**', ...place });
        for (const topic of ['t', 'u']) {
          socket.says({ action: 'publish', topic, data: 1, ...place }, { action: 'publish', topic, data: 2, ...place, batch: [2, 3] });
          socket.says({ action: 'publish_ack', ack_id: 'a', topic, data: 1, ...place });
        }
      }
      const kept = [{ offset: 6, data: 1, [field]: value }, value];
      socket.says({ action: 'history', topic: 't', messages: kept, ...place, nonce });
      const next = (await socket.sent()).find(({ action }) => action === 'history'); // more were announced
      if (next) socket.says({ action: 'history', nonce: next.nonce, [field]: value });
      const { messages, position, recovered, lost } = await past;
      assert.ok(position === null || isPosition(position));
      assert.ok(typeof recovered === 'boolean' && (lost === null || isCount(lost)));
      messages.forEach(take);
      for (const { topic, messages: count } of events) assert.ok(typeof topic === 'string' && (count === null || isCount(count)));
      socket.end();
      await pass(100);
      await welcome(sockets[1], 'me');
      for (const { since, topic } of await sockets[1].sent()) {
        if (since === undefined) continue;
        const all = topic ? [since] : [{ ...since, offset: since.mark }, ...Object.values(since.topics)];
        assert.ok(all.every(isPosition), JSON.stringify(since));
      }
      assertKnown(errors);
      client.close();
      sockets[1].end(1000);
    }
  }
});

test('fields of the wrong type in the first pong, and limits that no server has', async () => {
  for (const value of [...VALUES, { max_message: hostile, heartbeat: hostile }, { max_message: [], heartbeat: 'x' }, { max_message: -1, heartbeat: -1 }]) {
    for (const fields of [
      { id: value }, { proto: value }, { limits: value }, { limits: { max_message: value, heartbeat: value } }, { features: value }, { message_ids: value },
    ]) {
      const { WebSocket, sockets } = fakeNetwork();
      const errors = [];
      const client = new Client('h', { WebSocket, id: 'me', onError: (error) => errors.push(error) });
      client.connect().catch(() => {});
      await settled();
      await welcome(sockets[0], 'me', { ...LEVEL_2, ...fields });
      assert.equal(client.connected, true);
      assert.match(client.id, /^\S+$/);
      await pass(120_000, 10_000);
      assertKnown(errors);
      client.close();
      sockets[0].end(1000);
    }
  }
});

test('whatever a server says of what it remembers, a repeat tells a number', async () => {
  for (const value of VALUES) {
    for (const name of Object.keys(LEVEL_2.message_ids)) {
      const agreement = { ...LEVEL_2, message_ids: { ...LEVEL_2.message_ids, [name]: value } };
      const { client, socket, sockets, errors } = await connected({ reconnect: 100 }, agreement);
      client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(() => {});
      await socket.sent();
      socket.end();
      await pass(100);
      await welcome(sockets[1], 'me', agreement);
      const repeats = await sockets[1].sent();
      assert.ok(repeats.every(({ repeat_until: until }) => typeof until === 'number'), JSON.stringify([name, value]));
      assert.deepEqual(errors, []);
      client.close();
      sockets[1].end(1000);
    }
  }
});

test('a server that takes next to nothing: what cannot be sent is reported, also by timers', async () => {
  const { client, socket, errors, sockets } = await connected({ reconnect: 100 });
  const topics = ['one', 'two'].map((topic) => client.subscribe(topic));
  await settled();
  socket.says({ action: 'error', error: 'wait', code: 'unavailable', request: 'subscribe', topic: 'one' });
  errors.length = 0;
  socket.end();
  await pass(100);
  await welcome(sockets[1], 'me', { proto: 2, limits: { max_message: 1, heartbeat: 1 } });
  assert.deepEqual(errors.map(({ name }) => name), Array(2).fill('MessageTooLarge'));
  for (const topic of topics) await assert.rejects(topic.next(), MessageTooLarge);
  await pass(1000);
  assert.equal(errors.length, 3, 'the heartbeat');
  await assert.rejects(client.flush(), MessageTooLarge);
  await assert.rejects(client.publishWithAck('t', 1), MessageTooLarge);
  assert.throws(() => client.subscribe('t'), MessageTooLarge);
  assert.equal(client.connected, true);
});

test('a heartbeat that no server means', async () => {
  for (const [heartbeat, most] of [[1e-9, 60], [1e300, 0], [3_000_000, 0]]) {
    const { socket, client } = await connected({}, { proto: 2, limits: { heartbeat } });
    for (let second = 0; second < 60; second++) {
      await pass(1000, 50);
      socket.says({ action: 'pong', id: 'me' });
    }
    const { length } = await socket.sent();
    assert.ok(length <= most, `${length} pings in a minute`);
    assert.equal(client.connected, true);
  }
});

test('what is no message, and what cannot be read', async () => {
  const { client, socket, errors } = await connected();
  for (const data of ['', '{', 'null', '5', '"x"', '[null, 5, [[]]]', new Uint8Array([0xff]).buffer, { size: 5 }, undefined]) {
    socket.onmessage({ data });
  }
  assertKnown(errors);
  assert.ok(errors.length >= 9);
  assert.equal(client.connected, true);
});

test('a failure of the client itself is reported, and the messages behind it are handled', async () => {
  const { client, socket, errors } = await connected();
  const got = [];
  client.subscribe('t', ({ data }) => { got.push(data); });
  const failing = { action: 'publish', get topic() { throw new TypeError('a mistake'); } };
  mock.method(JSON, 'parse', () => [failing, { action: 'publish', topic: 't', data: 2 }]);
  socket.onmessage({ data: '[]' });
  mock.restoreAll();
  assert.deepEqual(got, [2]);
  assert.deepEqual(errors.map(({ message }) => message), ['a mistake']);
});

describe('what is thrown', () => {
  class Nasty extends Error {
    get message() { throw new Error('no message'); }
  }
  const untold = {
    null: null, undefined, 'an empty text': '', 'a text': 'x', 'a number': 5, 'a big number': 5n, 'a symbol': Symbol('x'),
    'an object without prototype': Object.create(null), 'an object that has no text': { toString() { throw new Error('no'); } },
    'an error without message': new Error(''), 'an error whose message fails': Object.assign(Object.create(Nasty.prototype)),
    'half a character': 'half \ud800', 'a revoked proxy': (() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })(),
    'a long text': 'x'.repeat(1e6), 'an object': { message: { toString: 1 } },
  };
  const ways = {
    thrown: (value) => { throw value; },
    rejected: (value) => Promise.reject(value),
    'rejected later': async (value) => { await null; throw value; },
    'by a then that fails': (value) => ({ then() { throw value; } }),
    'by a then that cannot be read': (value) => ({ get then() { throw value; } }),
  };
  for (const [what, value] of Object.entries(untold)) {
    for (const [how, fail] of Object.entries(ways)) {
      test(`${what}, ${how}: one failed message, and the next is handled`, async () => {
        const { client, socket, errors } = await connected();
        const got = [];
        client.subscribe('t', ({ data }) => {
          got.push(data);
          if (data === 1) return fail(value);
          return 'fine';
        });
        await socket.sent();
        for (const data of [1, 2]) socket.says({ action: 'publish_ack', topic: 't', ack_id: `a${data}`, data, from: 'bob' });
        await settled();
        assert.deepEqual(got, [1, 2]);
        const [failure, success] = await socket.sent();
        assert.deepEqual([failure.ack_id, failure.success], ['a1', false]);
        assert.ok(failure.error.length > 0 && failure.error.length <= 1000);
        assert.ok(failure.error.isWellFormed?.() ?? true);
        assert.deepEqual(success, { action: 'ack', ack_id: 'a2', success: true, result: 'fine' });
        assert.equal(errors.length, 1);
        assert.ok(Object.is(errors[0], value));
      });
    }

    test(`${what}, by hooks, the function for the token, and onError itself`, async () => {
      const shown = mock.method(console, 'error', () => {});
      const fail = () => { throw value; };
      const { WebSocket, sockets } = fakeNetwork();
      let isFirst = true;
      const token = () => {
        if (!isFirst) return 'x';
        isFirst = false;
        throw value;
      };
      const client = new Client('h', {
        WebSocket, token, reconnect: 100,
        onConnect: fail, onDisconnect: fail, onError: fail, onFrame: fail, onClose: fail, onDirect: fail,
      });
      client.connect();
      await settled();
      sockets[0].open();
      await settled();
      await pass(100);
      await welcome(sockets[1], 'me');
      sockets[1].says({ action: 'direct_message', data: 1, from: 'bob' });
      await settled();
      assert.equal(client.connected, true);
      sockets[1].end();
      await client.close();
      assert.ok(shown.mock.callCount() >= 6);
    });
  }

  test('even console.error may fail', async () => {
    const { client, socket } = await connected({ onError: undefined });
    const shown = [];
    mock.method(console, 'error', (value) => {
      if (typeof value !== 'string') throw new Error('cannot show that');
      shown.push(value);
    });
    client.subscribe('t', () => { throw new Error('x'); });
    socket.says({ action: 'publish', topic: 't', data: 1 });
    assert.deepEqual(shown, ['x']);
    mock.method(console, 'error', () => { throw new Error('no console'); });
    socket.says({ action: 'publish', topic: 't', data: 2 });
    assert.equal(client.connected, true);
  });

  test('a signal may have any reason: who waits is told it', async () => {
    for (const reason of [null, 0, '', false, 'x']) {
      const { client } = await connected();
      const abort = new AbortController();
      const ack = await client.publishWithAck('t', 1, { signal: abort.signal });
      abort.abort(reason);
      await assert.rejects(ack.wait(), (error) => Object.is(error, reason));
      assert.equal(await ack.isComplete(), false);
    }
  });
});

test('a result that cannot be sent is a failure of the message, whatever it is', async () => {
  const { client, socket } = await connected();
  const circular = {};
  circular.self = circular;
  const results = [5n, Symbol('x'), circular, NaN, [undefined], { toJSON() { throw Object.create(null); } }, 'half \ud800'];
  client.subscribe('t', ({ data }) => results[data]);
  await socket.sent();
  results.forEach((_, data) => socket.says({ action: 'publish_ack', topic: 't', ack_id: `a${data}`, data, from: 'bob' }));
  await settled();
  const answers = await socket.sent();
  assert.deepEqual(answers.map(({ success }) => success), results.map(() => false));
  for (const { error } of answers) assert.match(error, /^the result of the callback cannot be sent/);
});

const generators = [function* () {}, async function* () {}, { * m() {} }.m, function* () {}.bind(null)];

test('a generator function is refused: a call would run nothing of it', async () => {
  const { WebSocket } = fakeNetwork();
  const { client, socket } = await connected();
  for (const generator of generators) {
    for (const name of ['token', 'onDirect', 'onConnect', 'onDisconnect', 'onError', 'onFrame', 'onClose']) {
      assert.throws(() => new Client('h', { WebSocket, [name]: generator }), InvalidArgument, name);
    }
    for (const attempt of [
      () => client.subscribe('t', generator), () => client.Subscribe('t', generator), () => client.OnClose(generator),
    ]) assert.throws(attempt, InvalidArgument);
  }
  assert.deepEqual(await socket.sent(), []);
});

test('a callback that returns what nobody iterates over has failed, and so has a hook', async () => {
  const gives = [...generators, () => [].values(), async () => new Map().keys()];
  const give = ({ data }) => gives[data]();
  const { client, socket, errors } = await connected({ onDirect: give, onFrame: ({ data }) => generators[data]?.() });
  client.subscribe('t', give);
  await socket.sent();
  gives.forEach((_, data) => socket.says({ action: 'publish_ack', topic: 't', ack_id: `a${data}`, data, from: 'bob' }));
  socket.says({ action: 'direct_message', data: 0, from: 'bob' });
  const answers = await socket.sent();
  assert.deepEqual(answers.map(({ success }) => success), gives.map(() => false));
  for (const { error } of answers) assert.match(error, /iterator/);
  assert.deepEqual(errors.map(({ name }) => name), Array(gives.length + generators.length + 2).fill('InvalidArgument'));
});

test('promises and iterators are no data, however deep: JSON would make {} of them', async () => {
  const { client, socket } = await connected();
  const pending = [Promise.resolve(1), generators[0](), generators[1](), [1].values(), { then() {} }];
  for (const one of pending) {
    for (const data of [one, [one], { a: { b: one } }]) await assert.rejects(client.publish('t', data), InvalidArgument);
  }
  client.subscribe('t', (message) => message.reply([pending[message.data]]));
  await socket.sent();
  pending.forEach((_, data) => socket.says({ action: 'publish_ack', topic: 't', ack_id: `a${data}`, data, from: 'bob' }));
  for (const { error } of await socket.sent()) assert.match(error, /^the result of the callback cannot be sent/);
  for (const data of [{}, [{}], { a: {} }, new Map(), new (class X {})()]) await client.publish('t', data);
  assert.equal((await socket.sent())[0].batch.length, 5);
});

test('an answer that is larger than the server takes is a failure that is told, or else reported', async () => {
  const { client, socket, errors } = await connected({}, { proto: 2, limits: { max_message: 200 } });
  client.subscribe('t', ({ data }) => { if (data) throw new Error('x'.repeat(500)); return 'x'.repeat(500); });
  await socket.sent();
  for (const data of [0, 1]) socket.says({ action: 'publish_ack', topic: 't', ack_id: `a${data}`, data, from: 'bob' });
  await settled();
  const [answer] = await socket.sent();
  assert.match(answer.error, /^the result of the callback cannot be sent: a message of/);
  assert.deepEqual(errors.map(({ name }) => name), ['MessageTooLarge', 'Error']);
});

test('no words of a server look like lines of a log, or move the cursor', async () => {
  const words = 'no\n2030-01-01 all is well\r\x1b[2J\u202e\u2028\ud800';
  const shown = [];
  mock.method(console, 'error', (error) => shown.push(error));
  const { socket, sockets, client } = await connected({ onError: undefined, reconnect: 1000 });
  const topic = client.subscribe('t').next();
  client.publish('t', 1);
  socket.says({ action: 'error', error: words }, { action: 'error', error: 'x'.repeat(1e6) });
  socket.end(1011, words);
  await pass(1000);
  sockets[1].fail(words);
  await pass(1000);
  sockets[2].open();
  sockets[2].says({ action: 'error', error: words });
  await topic.catch((error) => shown.push(error));
  assert.deepEqual(shown.map(({ name }) => name), ['ServerError', 'ServerError', 'ConnectionLost', 'ConnectFailed', 'ServerError']);
  for (const { message } of shown) {
    assert.ok(message.length <= 1100);
    assert.doesNotMatch(message, /[\p{C}\p{Zl}\p{Zp}]/u);
  }
  assert.equal(shown[0].message, String.raw`no\u{a}2030-01-01 all is well\u{d}\u{1b}[2J\u{202e}\u{2028}\u{d800}`);
});

test('a refusal is about what it names, and names are texts', async () => {
  const { socket, errors } = await connected();
  socket.says({ action: 'error', error: 'no', code: hostile, request: 'constructor', topic: hostile, pattern: [], to: 5 });
  const [error] = errors;
  assert.ok(error instanceof ServerError);
  assert.deepEqual([error.code, error.request, error.topic, error.pattern, error.to], [undefined, 'constructor', undefined, undefined, undefined]);
});

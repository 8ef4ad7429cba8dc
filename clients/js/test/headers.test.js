// Headers: texts beside the payload, of what is published and of what comes.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { InvalidArgument, MessageTooLarge, NotConnected, QueueFull } from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const OLD = { ...LEVEL_2, features: LEVEL_2.features.filter((feature) => feature !== 'headers') };
const nothing = () => {};
const headers = { traceparent: '00-1-2-01', 'content-type': 'é😀' };

/** Each way to publish: what sends it, with options, and which message goes out. */
const WAYS = {
  publish: [(client, options) => client.publish('t', 1, options), 'publish'],
  publishToId: [(client, options) => client.publishToId('bob', 1, options), 'direct_message'],
  publishWithReceipt: [(client, options) => client.publishWithReceipt('t', 1, options), 'publish'],
  publishWithAck: [(client, options) => client.publishWithAck('t', 1, options), 'publish_with_ack'],
  publishToIdWithAck: [(client, options) => client.publishToIdWithAck('bob', 1, options), 'publish_to_id_with_ack'],
  request: [(client, options) => client.request('t', 1, options), 'publish_with_ack'],
  requestToId: [(client, options) => client.requestToId('bob', 1, options), 'publish_to_id_with_ack'],
};

describe('what is published', () => {
  for (const [name, [send, action]] of Object.entries(WAYS)) {
    test(`${name} has them`, async () => {
      const { client, socket } = await connected();
      send(client, { headers })?.catch(nothing);
      const [message] = await socket.sent();
      assert.deepEqual([message.action, message.data, message.headers], [action, 1, headers]);
      for (const options of [undefined, {}, { headers: {} }, { headers: null }, { headers: undefined }, { headers: Object.create(null) }]) {
        send(client, options)?.catch(nothing);
        const [plain] = await socket.sent();
        assert.deepEqual([plain.action, plain.data, 'headers' in plain], [action, 1, false]);
      }
    });

    test(`${name} takes an object of strings`, async () => {
      const { client, socket } = await connected();
      const wrong = [
        5, 'x', [], ['a'], [['a', 'b']], true, nothing, new Map([['a', 'b']]), new Map(), new Headers({ a: 'b' }), new URLSearchParams('a=b'), new Date(),
        Promise.resolve({}), { a: 5 }, { a: null }, { a: undefined }, { a: ['b'] }, { a: {} }, { a: new String('b') }, { a: '\ud800' }, { '\ud800': 'a' },
        { a: 'b', toJSON: () => ({ a: 5 }) },
      ];
      for (const each of wrong) await assert.rejects(async () => send(client, { headers: each }), InvalidArgument);
      for (const options of [{ Headers: headers }, { header: headers }, 5]) await assert.rejects(async () => send(client, options), InvalidArgument);
      assert.deepEqual(await socket.sent(), []);
    });

    for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1, 'of level 1, whatever it says': { features: LEVEL_2.features } })) {
      test(`${name} is refused where the server, ${what}, has none`, async () => {
        const { client, socket } = await connected({ offlineQueue: 10 }, agreement);
        await assert.rejects(async () => send(client, { headers }), { name: 'Unsupported', feature: 'headers', message: 'the server does not have headers' });
        assert.deepEqual(await socket.sent(), []);
        send(client, { headers: {} })?.catch(nothing);
        assert.equal((await socket.sent())[0].headers, undefined);
      });
    }
  }

  test('to another server has none', async () => {
    const { client, socket } = await connected();
    await client.publishToServer('h:1', 1, false, { headers });
    assert.equal((await socket.sent())[0].headers, undefined);
  });

  test('goes beside batches, in its order', async () => {
    const { client, socket } = await connected();
    for (const [data, options] of [[1], [2], [3, { headers }], [4, { headers }], [5, {}], [6, { headers: {} }]]) client.publish('t', data, options);
    const about = { action: 'publish', topic: 't' };
    assert.deepEqual(await socket.sent(), [
      { ...about, batch: [1, 2] }, { ...about, headers, data: 3 }, { ...about, headers, data: 4 }, { ...about, batch: [5, 6] },
    ]);
  });

  test('may have any names', async () => {
    const { client, socket } = await connected();
    const odd = JSON.parse('{"__proto__": "a", "constructor": "b", "toString": "c", "": "d", "a\\nb": "\\u0000"}');
    client.publish('t', 1, { headers: odd });
    await settled();
    assert.equal(socket.frames[0], `{"action":"publish","topic":"t","headers":${JSON.stringify(odd)},"data":1}`);
  });

  test('counts with them for what the server takes', async () => {
    const { client } = await connected({}, { ...LEVEL_2, limits: { max_message: 200 } });
    for (const [send] of Object.values(WAYS)) await assert.rejects(async () => send(client, { headers: { a: 'x'.repeat(200) } }), MessageTooLarge);
  });
});

describe('what is kept without a connection', () => {
  test('has them as they were, and goes to any server', async () => {
    for (const agreement of [LEVEL_2, OLD, LEVEL_1]) {
      const { client, sockets, errors } = await connected({ reconnect: 100, offlineQueue: 10 });
      sockets[0].end();
      const changing = { ...headers };
      await client.publish('t', 1, { headers: changing });
      await client.publishToId('bob', 2, { headers: changing });
      await client.publish('t', 3);
      await assert.rejects(client.publishWithReceipt('t', 4, { headers }), NotConnected);
      changing.traceparent = 'another';
      await pass(100);
      await welcome(sockets[1], 'me', agreement);
      assert.deepEqual((await sockets[1].sent()).map(({ data, headers: own }) => [data, own]), [[1, headers], [2, headers], [3, undefined]]);
      assert.deepEqual([errors, client.dropped], [[], 0]);
    }
  });

  test('counts with them', async () => {
    const { client, socket } = await connected({ reconnect: 1e6, offlineQueue: 100, onError: nothing });
    socket.end();
    const large = { a: 'x'.repeat(4 * 1024 * 1024) };
    const outcomes = Array.from({ length: 5 }, () => outcomeOf(client.publish('t', 1, { headers: large })));
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is instanceof QueueFull), [false, false, false, true, true]);
  });
});

describe('what comes', () => {
  /** All that comes to a client, by its payload. */
  async function receiving(agreement) {
    const got = new Map();
    const take = (message) => { got.set(message.data, message); };
    const world = await connected({ onDirect: take }, agreement);
    world.client.subscribe('t', take);
    const all = () => Object.fromEntries([...got].map(([data, message]) => [data, { ...message.headers }]));
    return { ...world, got, take, all };
  }

  test('has them, whichever way it comes', async () => {
    const { client, socket, take, all } = await receiving();
    client.subscribe('t', take, { group: 'g' });
    const about = { topic: 't', from: 'bob', headers };
    socket.says({ action: 'publish', ...about, data: 'a' }, { action: 'publish', ...about, batch: ['b', 'c'] }, { action: 'publish_ack', ...about, ack_id: '1', data: 'd' });
    socket.says({ action: 'publish', ...about, group: 'g', data: 'e' }, { action: 'publish_ack', ...about, group: 'g', ack_id: '2', data: 'f' });
    socket.says({ action: 'direct_message', ...about, data: 'g' }, { action: 'publish_ack', ...about, topic: undefined, ack_id: '3', data: 'h' });
    socket.says({ action: 'publish', ...about, headers: undefined, data: 'i' }, { action: 'publish', ...about, headers: {}, data: 'j' });
    assert.deepEqual(all(), { a: headers, b: headers, c: headers, d: headers, e: headers, f: headers, g: headers, h: headers, i: {}, j: {} });
  });

  test('and of the past', async () => {
    const { client, socket } = await receiving();
    await socket.sent();
    const past = client.history('t');
    const [{ nonce }] = await socket.sent();
    const messages = [{ offset: 1, from: 'bob', data: 1, headers }, { offset: 2, from: 'bob', data: 2 }, { offset: 3, from: 'bob', data: 3, headers: { a: 5, b: 'c' } }];
    socket.says({ action: 'history', topic: 't', nonce, epoch: 'e', offset: 3, coming: 3, messages });
    assert.deepEqual((await past).messages.map((message) => ({ ...message.headers })), [headers, {}, { b: 'c' }]);
  });

  test('has nothing else, and nobody can change it', async () => {
    const { client, socket, got, take } = await receiving();
    client.subscribe('t', take);
    socket.onmessage({ data: '{"action":"publish","topic":"t","data":1,"headers":{"__proto__":"a","toString":"b"}}' });
    socket.says({ action: 'publish', topic: 't', data: 2 });
    const [{ headers: some }, { headers: none }] = got.values();
    assert.deepEqual(Object.entries(some), [['__proto__', 'a'], ['toString', 'b']]);
    for (const each of [some, none]) {
      assert.equal(Object.getPrototypeOf(each), null);
      assert.throws(() => { each.a = 'b'; }, TypeError);
    }
    assert.deepEqual([none.toString, none.constructor], [undefined, undefined]);
    await socket.sent();
    client.publish('u', 1, { headers: some });
    await settled();
    assert.match(socket.frames[0], /"headers":\{"__proto__":"a","toString":"b"\}/, 'it can go on with another message');
  });

  test('on level 1, or from a server without headers, has none', async () => {
    for (const agreement of [OLD, LEVEL_1, { features: LEVEL_2.features }]) {
      const { socket, all } = await receiving(agreement);
      socket.says({ action: 'publish', topic: 't', data: 1, headers }, { action: 'direct_message', data: 2, from: 'bob', headers });
      socket.says({ action: 'publish', topic: 't', data: { data: 3, from: 'bob' }, headers });
      assert.deepEqual(Object.values(all()), [{}, {}, {}]);
    }
  });

  test('of the wrong type counts as missing', async () => {
    const { socket, all, errors } = await receiving();
    const wrong = [null, 5, true, 'x', [], ['a'], [['a', 'b']], { a: 5 }, { a: null }, { a: {} }, { a: ['b'] }];
    wrong.forEach((value, data) => socket.says({ action: 'publish', topic: 't', data, headers: value }));
    socket.says({ action: 'publish', topic: 't', data: 'mixed', headers: { a: 5, b: 'c', d: null } });
    assert.deepEqual(all(), { ...wrong.map(() => ({})), mixed: { b: 'c' } });
    assert.deepEqual(errors, []);
  });
});

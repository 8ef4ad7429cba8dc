// The client against a WebSocket without a network.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { inspect } from 'node:util';

import {
  Ack, Client, ClientAck, ClientClosed, ClientSubscriber, ClientSubscription, ConnectFailed, ConnectionLost,
  InvalidArgument, KPSError, MessageTooLarge, NobodyThere, NotConnected, QueueFull, RequestFailed, RequestTimeout, ServerError,
  Subscription, Unsupported,
} from '../kps.js';
import { connected, fakeNetwork, LEVEL_1, LEVEL_2, outcomeOf, pass, PausableSocket, settled, welcome } from './fake.js';

const plain = (messages) => messages.map(({ topic, data, from }) => ({ topic, data, from }));

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

async function offline(options = {}) {
  const world = await connected(options);
  world.socket.end();
  return world;
}

describe('addresses', () => {
  const url = async (address, options) => {
    const { WebSocket, sockets } = fakeNetwork();
    new Client(address, { WebSocket, ...options }).connect().catch(() => {});
    await settled();
    return sockets[0].url;
  };

  for (const [address, options, expected] of [
    ['h:1', {}, 'ws://h:1/ws/bus'],
    ['h', {}, 'ws://h:9313/ws/bus'],
    ['h:80', {}, 'ws://h/ws/bus'],
    ['h:443', { secure: true }, 'wss://h/ws/bus'],
    ['[::1]', {}, 'ws://[::1]:9313/ws/bus'],
    ['[::1]:5', {}, 'ws://[::1]:5/ws/bus'],
    ['h/x', {}, 'ws://h:9313/x'],
    ['h:1', { path: 'x?token=1' }, 'ws://h:1/x?token=1'],
    ['h:1?token=1', {}, 'ws://h:1/ws/bus?token=1'],
    ['ws://h', {}, 'ws://h/ws/bus'],
    ['wss://h/x?token=1', { path: '/y', secure: false }, 'wss://h/x?token=1'],
    ['http://h:8000', {}, 'ws://h:8000/ws/bus'],
    ['https://h/', {}, 'wss://h/ws/bus'],
    ['127.0.0.1', {}, 'ws://127.0.0.1:9313/ws/bus'],
    ['ws://127.0.0.1:1', {}, 'ws://127.0.0.1:1/ws/bus'],
    ['h?x=a@b', {}, 'ws://h:9313/ws/bus?x=a@b'],
    ['h:1/@me/bus', {}, 'ws://h:1/@me/bus'],
    [undefined, { secure: true }, 'wss://localhost:9313/ws/bus'],
    [undefined, {}, 'ws://localhost:9313/ws/bus'],
    [new URL('wss://h:1/x'), {}, 'wss://h:1/x'],
  ]) {
    test(`${address} ${JSON.stringify(options)}`, async () => assert.equal(await url(address, options), expected));
  }

  for (const [origin, expected] of [
    ['https://app.example', 'wss://app.example/ws/bus'],
    ['http://app.example:8000', 'ws://app.example:8000/ws/bus'],
  ]) {
    test(`none, in a page of ${origin}`, async (t) => {
      globalThis.location = new URL(origin);
      t.after(() => delete globalThis.location);
      assert.equal(await url(undefined, {}), expected);
    });
  }

  test('a bare host in a page over https is secure', async (t) => {
    globalThis.location = new URL('https://app.example');
    t.after(() => delete globalThis.location);
    assert.equal(await url('h:1', {}), 'wss://h:1/ws/bus');
    assert.equal(await url('h:1', { secure: false }), 'ws://h:1/ws/bus');
  });

  test('one that contradicts `secure` is none: what was to be encrypted would go in clear', async () => {
    for (const address of ['ws://h', 'http://h:1/x']) await assert.rejects(url(address, { secure: true }), InvalidArgument);
  });

  for (const address of ['wss://h/x#there', 'h#x', 'ws://me:secret@h', 'me@h:1', '8080', '0', 'ws://127.1', '0x7f000001', '',
    'ftp://h', 'h:port', 'ws://', 'a b', 5, true, 5n, Symbol('h'), [],
    'h\nost', 'h:1/a\tb', '\0', 'h:1/\x7f', 'h/\ud800']) {
    test(`${inspect(address)} is none`, async () => {
      await assert.rejects(url(address, {}), InvalidArgument);
    });
  }

  test('the error shows what is none, also where that is nothing', async () => {
    for (const [address, shown] of [['', '""'], ['a b?x', '"a b"'], ['h\n', '"h\\u{a}"'], [5, 'number'], [[], 'object']]) {
      await assert.rejects(url(address, {}), (error) => error.message.endsWith(shown) || assert.fail(error.message));
    }
  });
});

describe('connecting', () => {
  test('offers level 2 with the id, and takes what the server says', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const met = [];
    const client = new Client('h', { WebSocket, id: 'me', onConnect: (event) => met.push(event) });
    const opened = client.connect();
    await settled();
    sockets[0].open();
    assert.deepEqual(await sockets[0].sent(), [{ action: 'ping', from: 'me', proto: 2 }]);
    assert.equal(client.connected, false);
    assert.equal(client.level, undefined);
    sockets[0].says({ action: 'pong', id: 'other', ...LEVEL_2 });
    assert.equal(await opened, client);
    assert.equal(client.id, 'other');
    assert.equal(client.level, 2);
    assert.equal(client.connected, true);
    assert.deepEqual(met, [{ id: 'other', level: 2, reconnected: false }]);
  });

  test('a pong without proto means level 1', async () => {
    const { client } = await connected({}, LEVEL_1);
    assert.equal(client.level, 1);
  });

  test('makes up an id that nobody has', () => {
    const ids = Array.from({ length: 100 }, () => new Client('h', { WebSocket: fakeNetwork().WebSocket }).id);
    assert.equal(new Set(ids).size, 100);
    assert.match(ids[0], /^client-[0-9a-f]{16}$/);
  });

  test('headers are passed to the WebSocket, which otherwise gets the URL alone', async () => {
    const { socket } = await connected({ headers: { authorization: 'x' } });
    assert.deepEqual(socket.options, { headers: { authorization: 'x' } });
    const { socket: other } = await connected();
    assert.equal(other.options, undefined);
  });

  test('without a WebSocket it says what to do', () => {
    assert.throws(() => new Client('h', { WebSocket: null }), /npm install ws/);
  });

  test('an error in place of the first pong ends the client', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const told = [];
    const tell = (event) => told.push(event);
    const client = new Client('h', { WebSocket, onConnect: tell, onDisconnect: tell, onError: tell });
    const opened = client.connect();
    await settled();
    sockets[0].open();
    sockets[0].says([{ action: 'error', error: "this id is the server's own" }, { action: 'pong', id: 'x' }]);
    await assert.rejects(opened, ServerError);
    assert.deepEqual(told, []);
    assert.equal(sockets[0].closedWith, 'no code');
    await assert.rejects(client.connect(), ClientClosed);
    await pass(60_000);
    assert.equal(sockets.length, 1);
  });

  test('it closes with code 1008 where a program may choose that, as with `ws`', async () => {
    const { WebSocket, sockets } = fakeNetwork(PausableSocket);
    const opened = new Client('h', { WebSocket }).connect();
    await settled();
    sockets[0].open();
    sockets[0].says({ action: 'error', error: 'no', code: 'id_unavailable', request: 'ping' });
    await assert.rejects(opened, { code: 'id_unavailable' });
    assert.equal(sockets[0].closedWith, 1008);
    assert.equal(sockets[0].terminated, false);
  });

  test('without reconnect a failure is told to who connects', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const opened = new Client('h', { WebSocket, reconnect: false }).connect();
    await settled();
    sockets[0].fail('connection refused');
    await assert.rejects(opened, (error) => (
      error instanceof ConnectFailed && /connection refused/.test(error.message)
    ));
  });

  test('a refusal with 403 is final, but not with 503', async () => {
    for (const [status, count] of [[403, 1], [503, 2]]) {
      const { WebSocket, sockets } = fakeNetwork();
      const errors = [];
      const onError = (error) => errors.push(error);
      const opened = new Client('h', { WebSocket, onError }).connect();
      await settled();
      opened.catch(() => {});
      sockets[0].fail(`Unexpected server response: ${status}`);
      await pass(1000);
      assert.equal(sockets.length, count);
      if (count === 1) await assert.rejects(opened, { name: 'ConnectFailed', status });
      else assert.deepEqual(errors.map((error) => error.status), [status]);
    }
  });

  test('a server that does not answer is given up, at both stages', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const opened = new Client('h', { WebSocket, reconnect: 1000, onError() {} }).connect();
    await settled();
    await pass(9_750);
    assert.equal(sockets.length, 1);
    await pass(1_250);
    assert.equal(sockets.length, 2);
    sockets[0].open();
    assert.deepEqual(sockets[0].frames, [], 'what was given up is not taken up again');
    await pass(5_000);
    sockets[1].open();
    await pass(9_750);
    assert.equal(sockets.length, 2);
    await pass(1_250);
    await welcome(sockets[2], 'me');
    assert.equal((await opened).connected, true);
  });

  test('a WebSocket that cannot be made is told', async () => {
    class WebSocket { constructor() { throw new SyntaxError('not allowed here'); } }
    await assert.rejects(new Client('h', { WebSocket }).connect(), /not allowed here/);
  });

  test('one that cannot be made later on is a failed attempt', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const errors = [];
    let failures = 0;
    class Scarce extends WebSocket {
      constructor(...values) {
        if (failures-- > 0) throw new Error('no more sockets');
        super(...values);
      }
    }
    const client = new Client('h', { WebSocket: Scarce, reconnect: 100, onError: (error) => errors.push(error) });
    client.connect();
    await settled();
    await welcome(sockets[0], 'me');
    failures = 2;
    sockets[0].end();
    await pass(300, 100);
    await welcome(sockets[1], 'me');
    assert.equal(client.connected, true);
    assert.deepEqual(errors.map(({ name, message }) => [name, /: no more sockets$/.test(message)]), Array(2).fill(['ConnectFailed', true]));
    failures = Infinity;
    sockets[1].end();
    await pass(1000, 100);
    const { length } = errors;
    await client.close();
    await pass(1000, 100);
    assert.equal(errors.length, length, 'closing ends the attempts');
  });

  test('one that throws where it is to end has ended', async () => {
    for (const fails of [['close'], ['terminate'], ['close', 'terminate']]) {
      const { client, socket, sockets, errors } = await connected({ isPausable: true, reconnect: 100 });
      for (const name of fails) socket[name] = () => { throw new Error('no'); };
      await pass(45_000, 5000);
      assert.equal(client.connected, false, 'the server is silent');
      await pass(100);
      await welcome(sockets[1], 'me');
      for (const name of fails) sockets[1][name] = () => { throw new Error('no'); };
      const closed = outcomeOf(client.close());
      await pass(5000);
      assert.equal(closed.is, undefined);
      assert.deepEqual(errors, []);
    }
  });

  test('connecting twice is connecting once', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const client = new Client('h', { WebSocket });
    assert.equal(client.connect(), client.connect());
    await settled();
    assert.equal(sockets.length, 1);
  });
});

describe('tokens', () => {
  /** A client that connects with a token, its sockets, and what it reports. */
  async function connecting(token, options) {
    const { WebSocket, sockets } = fakeNetwork();
    const errors = [];
    const onError = (error) => errors.push(error);
    const client = new Client('h', { WebSocket, id: 'me', token, reconnect: 100, onError, ...options });
    const opened = client.connect();
    await settled();
    opened.catch(() => {});
    return { client, sockets, errors, opened };
  }

  test('one is in the first message, and nowhere else', async () => {
    const { client, sockets: [socket], opened } = await connecting('secret');
    socket.open();
    assert.deepEqual(await socket.sent(), [{ action: 'ping', from: 'me', proto: 2, token: 'secret' }]);
    assert.doesNotMatch(socket.url, /secret/);
    socket.says({ action: 'pong', id: 'me', ...LEVEL_2 });
    await opened;
    client.flush().catch(() => {});
    const [ping] = await socket.sent();
    assert.deepEqual(ping, { action: 'ping', from: 'me', nonce: ping.nonce });
  });

  test('a function gives one for each connection, also when its time is over', async () => {
    let count = 0;
    const events = [];
    const give = () => Promise.resolve(`token-${++count}`);
    const { client, sockets, opened } = await connecting(give, { onDisconnect: ({ code }) => events.push(code) });
    assert.equal(count, 0, 'not before there is a connection');
    sockets[0].fail('no server');
    for (const expected of ['token-1', 'token-2']) {
      await pass(100);
      const socket = sockets.at(-1);
      socket.open();
      assert.equal((await socket.sent())[0].token, expected);
      socket.says({ action: 'pong', id: 'me', ...LEVEL_2 });
      await opened;
      assert.equal(client.connected, true);
      socket.end(4002, 'the time of the token is over');
    }
    assert.deepEqual(events, [4002, 4002]);
  });

  test('a function that fails makes the attempt fail', async () => {
    const ways = [() => { throw new Error('no network'); }, () => Promise.reject(new Error('no network')), () => 'good'];
    const { sockets, errors, opened } = await connecting(() => ways.shift()());
    for (const index of [0, 1]) {
      sockets[index].open();
      assert.deepEqual(await sockets[index].sent(), []);
      await pass(100);
    }
    assert.deepEqual(errors.map(String), Array(2).fill(
      'ConnectFailed: cannot connect to ws://h:9313/ws/bus: the function for the token failed: no network',
    ));
    await welcome(sockets[2], 'me');
    await opened;
  });

  test('what is no token is not sent', async () => {
    const given = ['<h1>not found</h1>', 'secret\n', '', undefined];
    const { sockets, errors } = await connecting(() => given[sockets.length - 1]);
    for (const index of given.keys()) {
      sockets[index].open();
      assert.deepEqual(await sockets[index].sent(), []);
      await pass(100);
    }
    const why = 'the function gave no valid token: a token is ASCII, without spaces and line ends';
    assert.deepEqual(errors.map((error) => error.message), Array(4).fill(
      `cannot connect to ws://h:9313/ws/bus: ${why}`,
    ));
  });

  for (const way of ['gives one too late', 'fails too late']) {
    test(`a function that ${way} is not waited for`, async () => {
      const ends = [];
      const { sockets, errors } = await connecting(() => new Promise((...both) => ends.push(both)));
      sockets[0].open();
      await pass(10_250);
      assert.match(String(errors), /no answer in time/);
      ends[0][way === 'fails too late' ? 1 : 0](new Error('late'));
      await settled();
      assert.deepEqual(sockets[0].frames, []);
      assert.equal(errors.length, 1);
    });
  }

  test('closing meanwhile', async () => {
    const { client, sockets, opened } = await connecting(async () => 'secret');
    sockets[0].open();
    client.close();
    await assert.rejects(opened, ClientClosed);
    assert.deepEqual(await sockets[0].sent(), []);
  });

  test('no error shows one that is in an address', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    assert.throws(() => new Client('h', { WebSocket, path: '/x#there' }), InvalidArgument);
    for (const address of ['a b?token=secret', 'ws://h:port/?token=secret', 'me:secret@h:1', 'ws://me:secret@h',
      'me:secret?secret@h:1', 'me:secret/@h x']) {
      assert.throws(() => new Client(address, { WebSocket }), (error) => !/secret/.test(inspect(error)));
    }
    const opened = new Client('h/x?token=secret', { WebSocket, reconnect: false }).connect();
    await settled();
    sockets[0].fail('refused');
    await assert.rejects(opened, (error) => /h:9313\/x: refused/.test(error) && !/secret/.test(inspect(error)));
  });
});

describe('publishing', () => {
  test('on level 1 each message is a frame of its own, with from', async () => {
    const { client, socket } = await connected({}, LEVEL_1);
    client.publish('t', 1);
    client.publish('t', { a: [null] });
    await settled();
    assert.deepEqual(socket.frames.map(JSON.parse), [
      { action: 'publish', topic: 't', from: 'me', data: 1 },
      { action: 'publish', topic: 't', from: 'me', data: { a: [null] } },
    ]);
  });

  test('on level 2 consecutive ones on a topic are a batch, and all are one array', async () => {
    const { client, socket } = await connected();
    for (const [topic, data] of [['a', 1], ['a', 2], ['b', 3], ['a', 4]]) client.publish(topic, data);
    client.publishToId('bob', 5);
    client.publishToServer('h:1', 6, true);
    await settled();
    assert.deepEqual(socket.frames.map(JSON.parse), [[
      { action: 'publish', topic: 'a', batch: [1, 2] },
      { action: 'publish', topic: 'b', data: 3 },
      { action: 'publish', topic: 'a', data: 4 },
      { action: 'direct_message', to: 'bob', data: 5 },
      { action: 'publish_to_server', to: 'h:1', status: { is_secure: true }, data: 6 },
    ]]);
  });

  test('a single message is no array and no batch', async () => {
    const { client, socket } = await connected();
    await client.publish('t', 'x');
    await settled();
    assert.deepEqual(socket.frames.map(JSON.parse), [{ action: 'publish', topic: 't', data: 'x' }]);
  });

  test('a loop that awaits each one makes batches too', async () => {
    const { client, socket } = await connected();
    for (let i = 0; i < 100; i++) await client.publish('t', i);
    await settled();
    assert.equal(socket.frames.length, 1);
    assert.equal(JSON.parse(socket.frames[0]).batch.length, 100);
  });

  test('frames hold about 64 KiB, and the order is kept', async () => {
    const { client, socket } = await connected();
    for (let i = 0; i < 300; i++) client.publish(i % 6 ? 't' : 'u', [i, 'x'.repeat(1000)]);
    await settled();
    const sizes = socket.frames.map((frame) => frame.length);
    assert.ok(sizes.every((size) => size <= 65_536), sizes);
    assert.ok(sizes.slice(0, -1).every((size) => size > 55_000), sizes);
    const messages = await socket.sent();
    const numbers = messages.flatMap(({ data, batch }) => (batch ?? [data]).map(([i]) => i));
    assert.deepEqual(numbers, [...Array(300).keys()]);
  });

  test('no frame is larger than the server takes, counted in bytes', async () => {
    const limits = { max_message: 500 };
    const { client, socket } = await connected({}, { proto: 2, limits });
    for (let i = 0; i < 100; i++) {
      client.publish('тема', 'é'.repeat(i % 40));
      client.publishToId('bob', '日本');
    }
    await settled();
    const sizes = socket.frames.map((frame) => Buffer.byteLength(frame));
    assert.ok(Math.max(...sizes) <= 500, sizes);
    assert.ok(Math.max(...sizes) > 400, sizes);
  });

  test('a message that is too large is refused, one that just fits is not', async () => {
    const limits = { max_message: 1000 };
    const { client, socket } = await connected({}, { proto: 2, limits });
    const overhead = JSON.stringify({ action: 'publish', topic: 't', data: '' }).length;
    await client.publish('t', 'é'.repeat((1000 - overhead) / 2));
    await assert.rejects(client.publish('t', 'é'.repeat((1000 - overhead) / 2) + 'x'), MessageTooLarge);
    await assert.rejects(client.publishWithAck('t', 'x'.repeat(1000)), MessageTooLarge);
    await assert.rejects(client.publishToId('bob', 'x'.repeat(1000)), MessageTooLarge);
    await settled();
    assert.deepEqual(socket.frames.map((frame) => Buffer.byteLength(frame)), [1000 - (1000 - overhead) % 2]);
  });

  test('a large message travels alone: if it cannot be read, the others can', async () => {
    const { client, socket } = await connected();
    client.publish('t', 1);
    client.publish('t', 'x'.repeat(3000));
    client.publish('t', 2);
    client.publish('t', 3);
    client.publishToId('bob', 'x'.repeat(3000));
    client.publishToId('bob', 4);
    await settled();
    const shapes = socket.frames.map(JSON.parse).map(({ batch, data }) => batch ?? String(data).length);
    assert.deepEqual(shapes, [1, 3000, [2, 3], 3000, 1]);
  });

  test('what is not JSON is refused', async () => {
    const { client, socket } = await connected();
    const circular = {};
    circular.self = circular;
    for (const data of [circular, 1n, () => {}, Symbol('x'), 'half \ud800', { '\udc00': 1 }, ['\\\ud800']]) {
      await assert.rejects(client.publish('t', data), InvalidArgument);
    }
    await assert.rejects(client.publish('', 1), InvalidArgument);
    await assert.rejects(client.publish(5, 1), InvalidArgument);
    await assert.rejects(client.publish('\ud800', 1), InvalidArgument);
    await assert.rejects(client.publishToId('', 1), InvalidArgument);
    await client.publish('t', ['😀', '\\ud800']);
    await client.publish('t');
    assert.deepEqual(await socket.sent(), [{ action: 'publish', topic: 't', batch: [['😀', '\\ud800'], null] }]);
  });

  test('a receipt tells how many got it', async () => {
    const { client, socket } = await connected();
    const first = client.publishWithReceipt('t', 'x');
    const second = client.publishWithReceipt('t', 'y');
    const [one, two] = await socket.sent();
    assert.deepEqual(one, { action: 'publish', topic: 't', receipt: one.receipt, data: 'x' });
    assert.notEqual(one.receipt, two.receipt);
    socket.says({ action: 'published', topic: 't', receipt: two.receipt, delivered: 7 });
    socket.says({ action: 'published', topic: 't', receipt: one.receipt, delivered: 0 });
    assert.deepEqual(await Promise.all([first, second]), [0, 7]);
  });

  test('a receipt that does not come in time', async () => {
    const { client, socket, errors } = await connected({ requestTimeout: 500 });
    const first = outcomeOf(client.publishWithReceipt('t', 'x'));
    const [{ receipt }] = await socket.sent();
    await pass(500);
    assert.ok(first.is instanceof RequestTimeout);
    const second = outcomeOf(client.publishWithReceipt('t', 'x'));
    socket.says({ action: 'published', topic: 't', receipt, delivered: 1 });
    await settled();
    assert.equal(second.is, 'waits');
    socket.says({ action: 'error', error: 'no', code: 'rate_limited', request: 'publish', topic: 't', receipt });
    assert.equal(errors.length, 1, 'nobody waits for it any more');
  });

  test('publish waits while the network is slower than the program', async () => {
    const { client, socket } = await connected();
    socket.bufferedAmount = 2 * 1024 * 1024;
    let isDone = false;
    client.publish('t', 1).then(() => { isDone = true; });
    await pass(100, 4);
    assert.equal(isDone, false);
    socket.bufferedAmount = 0;
    await pass(4);
    assert.equal(isDone, true);
  });
});

describe('flush', () => {
  test('is a ping with a nonce, and with the own id so that nobody is renamed', async () => {
    const { client, socket } = await connected();
    client.flush();
    client.flush();
    const [one, two] = await socket.sent();
    assert.deepEqual(one, { action: 'ping', from: 'me', nonce: one.nonce });
    assert.equal(typeof one.nonce, 'string');
    assert.notEqual(one.nonce, two.nonce);
  });

  test('is answered by its nonce, in whatever order', async () => {
    const { client, socket } = await connected();
    const outcomes = [client.flush(), client.flush()].map(outcomeOf);
    const [, two] = await socket.sent();
    for (const nonce of ['of nobody', two.nonce, two.nonce]) socket.says({ action: 'pong', id: 'me', nonce });
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is), ['waits', undefined]);
  });

  test('an answer without its nonce is another one\'s', async () => {
    const { client, socket, errors } = await connected();
    const outcome = outcomeOf(client.flush());
    await socket.sent();
    socket.says({ action: 'pong', id: 'me' }, { action: 'error', error: 'too much', code: 'rate_limited', request: 'ping' });
    await settled();
    assert.equal(outcome.is, 'waits');
    assert.deepEqual(errors.map(({ code }) => code), ['rate_limited']);
  });

  test('fails with the refusal that has its nonce', async () => {
    const { client, socket, errors } = await connected();
    const outcomes = [client.flush(), client.flush()].map(outcomeOf);
    const [, { nonce }] = await socket.sent();
    socket.says({ action: 'error', error: 'too much', code: 'rate_limited', request: 'ping', nonce });
    await settled();
    assert.equal(outcomes[0].is, 'waits');
    assert.ok(outcomes[1].is instanceof ServerError);
    assert.equal(outcomes[1].is.isTemporary, true);
    assert.deepEqual(errors, []);
  });

  test('ends in RequestTimeout without an answer; a late one is nobody else\'s', async () => {
    const { client, socket } = await connected({ requestTimeout: 500 });
    const first = outcomeOf(client.flush());
    const [{ nonce }] = await socket.sent();
    await pass(500);
    assert.ok(first.is instanceof RequestTimeout);
    const second = outcomeOf(client.flush());
    socket.says({ action: 'pong', id: 'me', nonce });
    await settled();
    assert.equal(second.is, 'waits');
  });

  test('one that was never answered shifts no later one', async () => {
    const { client, socket, errors } = await connected({ requestTimeout: 500 });
    outcomeOf(client.flush());
    socket.says({ action: 'error', error: 'too much', code: 'rate_limited' }); // whose, it does not say
    await pass(500);
    await socket.sent();
    const second = outcomeOf(client.flush());
    const [{ nonce }] = await socket.sent();
    socket.says({ action: 'pong', id: 'me', nonce });
    await settled();
    assert.equal(second.is, undefined);
    assert.equal(errors.length, 1);
  });

  describe('on level 1', () => {
    test('is a question about an ack that nobody else asks', async () => {
      const { client, socket } = await connected({}, LEVEL_1);
      const outcomes = [client.flush(), client.flush()].map(outcomeOf);
      const [one, two] = await socket.sent();
      assert.deepEqual(one, { action: 'get_ack_status', from: 'me', ack_id: one.ack_id });
      assert.match(one.ack_id, /^barrier_me_\d+$/);
      assert.notEqual(one.ack_id, two.ack_id);
      socket.says({ action: 'pong', id: 'me' }, { action: 'ack_status', ack_id: two.ack_id });
      await settled();
      assert.deepEqual(outcomes.map(({ is }) => is), ['waits', undefined]);
    });

    test('an error tells nothing about it: it comes to its end by itself', async () => {
      const { client, socket, errors } = await connected({ requestTimeout: 500 }, LEVEL_1);
      const first = outcomeOf(client.flush());
      const [{ ack_id }] = await socket.sent();
      socket.says({ action: 'error', error: 'no' });
      await pass(250);
      assert.equal(first.is, 'waits');
      await pass(250);
      assert.ok(first.is instanceof RequestTimeout);
      const second = outcomeOf(client.flush());
      socket.says({ action: 'ack_status', ack_id });
      await settled();
      assert.equal(second.is, 'waits');
      assert.equal(errors.length, 1);
    });

    test('a receipt tells only that the server has handled it', async () => {
      const { client, socket } = await connected({}, LEVEL_1);
      const receipt = outcomeOf(client.publishWithReceipt('t', 'x'));
      const [publication, barrier] = await socket.sent();
      assert.deepEqual(publication, { action: 'publish', topic: 't', from: 'me', data: 'x' });
      socket.says({ action: 'published', topic: 't' });
      await settled();
      assert.equal(receipt.is, 'waits');
      socket.says({ action: 'ack_status', ack_id: barrier.ack_id });
      await settled();
      assert.equal(receipt.is, undefined);
    });
  });
});

describe('errors of the server', () => {
  test('end what waits for the answer, if they name it', async () => {
    const { client, socket, errors } = await connected();
    const receipt = client.publishWithReceipt('t', 'x');
    const ack = await client.publishWithAck('t', 'x');
    const [sent] = await socket.sent();
    socket.says(
      { action: 'error', error: 'too deep', code: 'bad_message', request: 'publish', topic: 't', receipt: sent.receipt },
      { action: 'error', error: 'in use', code: 'ack_id_in_use', request: 'publish_with_ack', ack_id: ack.id },
    );
    await assert.rejects(receipt, { name: 'ServerError', message: 'too deep', code: 'bad_message' });
    await assert.rejects(ack.wait(), { code: 'ack_id_in_use', request: 'publish_with_ack' });
    await assert.rejects(ack.waitAny(), ServerError);
    assert.deepEqual(errors, []);
  });

  test('otherwise come to onError', async () => {
    const { socket, errors } = await connected();
    socket.says({ action: 'error', error: 'nobody', code: 'no_such_client', request: 'direct_message', to: 'bob' });
    assert.equal(errors.length, 1);
    assert.ok(errors[0] instanceof ServerError);
    assert.equal(errors[0].to, 'bob');
  });

  test('a refused subscription was not made', async () => {
    const { client, socket, errors } = await connected();
    const refused = client.subscribe('t');
    const outcome = assert.rejects(async () => { await refused; }, { code: 'bad_request' });
    await socket.sent();
    socket.says({ action: 'error', error: 'no', code: 'bad_request', request: 'subscribe', topic: 't' });
    await outcome;
    await assert.rejects(refused.next(), { code: 'bad_request' });
    assert.deepEqual(errors, []);
    client.subscribe('t', () => {});
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't' }]);
    socket.says({ action: 'error', error: 'no', code: 'bad_request', request: 'subscribe', topic: 't' });
    await settled();
    assert.equal(errors.length, 1, 'told, since nobody waited');
  });

  test('a subscription may be refused after a reconnect', async () => {
    const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
    const got = [];
    const messages = client.subscribe('t');
    client.subscribe('t', ({ data }) => { got.push(data); });
    client.subscribe('u', () => {});
    socket.says({ action: 'subscribed', topic: 't' }, { action: 'publish', topic: 't', batch: [1, 2] });
    const refusal = { action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 't' };
    const topics = [['t', 'u'], ['u']];
    for (const [index, asked] of topics.entries()) {
      sockets[index].end(4002);
      await pass(100);
      await welcome(sockets[index + 1], 'me');
      assert.deepEqual((await sockets[index + 1].sent()).map(({ topic }) => topic), asked);
      if (index === 0) sockets[1].says(refusal);
    }
    assert.deepEqual(errors.map(({ code, topic }) => [code, topic]), [['forbidden', 't']]);
    assert.deepEqual(got, [1, 2]);
    for (const data of [1, 2]) assert.equal((await messages.next()).value.data, data);
    await assert.rejects(messages.next(), { name: 'ServerError', code: 'forbidden' });
  });

  test('an earlier question about a topic says nothing about a later one', async () => {
    const { client, socket, errors } = await connected();
    client.subscribe('t', () => {}).unsubscribe();
    const got = [];
    const later = client.subscribe('t', ({ data }) => { got.push(data); });
    socket.says(
      { action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 't' },
      { action: 'unsubscribed', topic: 't' },
      { action: 'subscribed', topic: 't' },
    );
    await later;
    socket.says({ action: 'publish', topic: 't', data: 1 });
    // Nor does one that nobody asked.
    socket.says({ action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 't' });
    socket.says({ action: 'publish', topic: 't', data: 2 });
    await settled();
    assert.deepEqual(got, [1, 2]);
    assert.equal(errors.length, 2);
  });

  test('end a question about an ack', async () => {
    const { client, socket, errors } = await connected();
    const ack = await client.publishWithAck('t', 1);
    const status = outcomeOf(ack.status());
    socket.says({ action: 'error', error: 'too much', code: 'rate_limited', request: 'get_ack_status', ack_id: ack.id });
    await settled();
    assert.equal(status.is.code, 'rate_limited');
    socket.says({ action: 'ack_response', ack_id: ack.id, responses: { bob: { success: true } } });
    assert.equal((await ack.wait()).size, 1, 'the request itself goes on');
    assert.deepEqual(errors, []);
  });

  test('say whether trying again can help', async () => {
    const { socket, errors } = await connected();
    const codes = ['rate_limited', 'limit_reached', 'unavailable', 'forbidden', 'bad_request', 'of a later level', undefined];
    for (const code of codes) socket.says({ action: 'error', error: 'no', code, request: 'publish', topic: 't' });
    assert.deepEqual(errors.map(({ isTemporary }) => isTemporary), [true, true, true, false, false, false, false]);
  });

  test('about a whole frame are errors of each of its messages', async () => {
    const { client, socket, errors } = await connected();
    const flushed = outcomeOf(client.flush());
    const receipt = outcomeOf(client.publishWithReceipt('t', 1));
    const ack = await client.publishWithAck('t', 2);
    const status = outcomeOf(ack.status());
    const subscribed = outcomeOf(client.subscribe('u', () => {}));
    const other = outcomeOf(client.flush());
    client.publishToId('bob', 3);
    const frame = await socket.sent();
    const refused = frame.map(({ action, data, batch, from, timeout, updates, ...named }) => ({ request: action, ...named }));
    refused.splice(refused.findIndex(({ nonce }) => nonce === frame.findLast((each) => each.nonce).nonce), 1);
    socket.says({ action: 'error', error: 'too deep', code: 'bad_message', refused: [...refused, 'unreadable', null] });
    await settled();
    for (const { is } of [flushed, receipt, outcomeOf(ack.wait()), subscribed]) {
      await settled();
      assert.deepEqual([is.name, is.message, is.code], ['ServerError', 'too deep', 'bad_message']);
    }
    assert.ok(status.is instanceof ServerError);
    assert.equal(other.is, 'waits');
    assert.deepEqual(errors.map(({ request, to }) => [request, to]), [['direct_message', 'bob']]);
    socket.says({ action: 'error', error: 'no', code: 'bad_message', refused: [] });
    assert.equal(errors.length, 2, 'one that names none is told as it is');
  });

  test('about a whole frame are told no further once the program has closed the client', async () => {
    const told = [];
    const { client, socket } = await connected({ onError: (error) => { told.push(error.to); client.close(); } });
    const refused = ['bob', 'carol'].map((to) => ({ request: 'direct_message', to }));
    socket.says({ action: 'error', error: 'no', code: 'bad_message', refused });
    assert.deepEqual(told, ['bob']);
  });

  test('in place of the first pong: one that is temporary is no reason to give up', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const errors = [];
    const onError = (error) => errors.push(error);
    const opened = new Client('h', { WebSocket, id: 'me', reconnect: 100, onError }).connect();
    await settled();
    sockets[0].open();
    sockets[0].says({ action: 'error', error: 'too much to do', code: 'unavailable', request: 'ping' });
    await pass(100);
    assert.match(String(errors), /ConnectFailed: .*too much to do/);
    await welcome(sockets[1], 'me');
    assert.equal((await opened).connected, true);
    const ended = new Client('h', { WebSocket, reconnect: false }).connect();
    await settled();
    sockets[2].open();
    sockets[2].says({ action: 'error', error: 'too much to do', code: 'unavailable', request: 'ping' });
    await assert.rejects(ended, { name: 'ServerError', isTemporary: true });
  });

  test('unreadable messages are reported, and the connection goes on', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    client.subscribe('t', (message) => { got.push(message.data); });
    socket.onmessage({ data: '{' });
    socket.onmessage({ data: '5' });
    socket.says([{ action: 'publish', topic: 't', data: 1 }, [1], { action: 'publish', topic: 't', data: 2 }]);
    socket.says({ action: 'of a later level' }, {}, []);
    assert.equal(errors.length, 3);
    assert.ok(errors.every((error) => error instanceof KPSError));
    assert.deepEqual(got, [1, 2]);
  });

  test('without onError they are shown', async () => {
    const shown = mock.method(console, 'error', () => {});
    const { socket } = await connected({ onError: undefined });
    socket.says({ action: 'error', error: 'x' });
    assert.equal(shown.mock.callCount(), 1);
    assert.ok(shown.mock.calls[0].arguments[0] instanceof ServerError);
  });

  test('callbacks that fail do no harm, and are not forgotten', async () => {
    const shown = mock.method(console, 'error', () => {});
    const errors = [];
    const fail = (text) => () => { throw new Error(text); };
    const { client, socket } = await connected({
      onConnect: fail('connect'),
      onFrame: async () => { throw new Error('frame'); },
      onDirect: fail('direct'),
      onError: (error) => { errors.push(error.message); throw new Error('error'); },
    });
    socket.says({ action: 'direct_message', from: 'bob', data: 1 });
    await settled();
    assert.deepEqual(errors.sort(), ['connect', 'direct', 'frame', 'frame']);
    assert.equal(shown.mock.callCount(), 4);
    assert.equal(client.connected, true);
  });
});

describe('listeners', () => {
  test('are called besides the option, in the order in which they came, until they are removed', async () => {
    const told = [];
    const { client, socket, sockets } = await connected({ reconnect: 100, onConnect: () => told.push('option') });
    const [first, second] = [1, 2].map((name) => client.on('connect', ({ id, reconnected }) => told.push([name, id, reconnected])));
    client.on('disconnect', ({ code }) => told.push(code));
    const again = async () => {
      sockets.at(-1).end(1001);
      await pass(100);
      await welcome(sockets.at(-1), 'me');
    };
    await again();
    assert.deepEqual(told.splice(0), ['option', 1001, 'option', [1, 'me', true], [2, 'me', true]]);
    first();
    first();
    await again();
    assert.deepEqual(told.splice(0), [1001, 'option', [2, 'me', true]]);
    second();
    await again();
    assert.deepEqual(told, [1001, 'option']);
    assert.equal(socket, sockets[0]);
  });

  test('one function may be several of them', async () => {
    const errors = [];
    const { client, socket } = await connected({ onError: undefined });
    const take = (error) => { errors.push(error.message); };
    const [remove] = [client.on('error', take), client.on('error', take)];
    socket.says({ action: 'error', error: 'a' });
    remove();
    socket.says({ action: 'error', error: 'b' });
    assert.deepEqual(errors, ['a', 'a', 'b']);
  });

  test('errors are shown only where nobody listens for them', async () => {
    const shown = mock.method(console, 'error', () => {});
    const { client, socket } = await connected({ onError: undefined });
    const remove = client.on('error', () => {});
    socket.says({ action: 'error', error: 'a' });
    assert.equal(shown.mock.callCount(), 0);
    remove();
    socket.says({ action: 'error', error: 'b' });
    assert.deepEqual(shown.mock.calls.map(({ arguments: [error] }) => error.message), ['b']);
  });

  test('one that fails does no harm to the others, and one may remove itself', async () => {
    const told = [];
    const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
    client.on('disconnect', async () => { throw new Error('no'); });
    const remove = client.on('disconnect', () => { told.push('once'); remove(); });
    client.on('disconnect', () => { told.push('each time'); });
    socket.end(1001);
    await pass(100);
    await welcome(sockets[1], 'me');
    sockets[1].end(1001);
    await settled();
    assert.deepEqual(told, ['once', 'each time', 'each time']);
    assert.deepEqual(errors.map(({ message }) => message), ['no', 'no']);
  });

  test('hear of what is recovered and lost, of frames, and of the end', async () => {
    const told = [];
    const { client, socket } = await connected();
    for (const event of ['recovered', 'lost', 'close']) client.on(event, (value) => { told.push([event, value]); });
    client.on('frame', ({ action }) => { told.push(['frame', action]); });
    client.subscribe('t', () => {}, { since: { epoch: 'e', offset: 1 } });
    client.subscribe('u', () => {}, { since: { epoch: 'e', offset: 1 } });
    socket.says({ action: 'subscribed', topic: 't', epoch: 'e', offset: 3, coming: 2, recovered: true });
    socket.says({ action: 'subscribed', topic: 'u', epoch: 'e', offset: 3, coming: 0, recovered: false, lost: 2 });
    client.close();
    socket.end(1000);
    assert.deepEqual(told, [
      ['frame', 'subscribed'], ['recovered', { topic: 't', messages: 2 }],
      ['frame', 'subscribed'], ['lost', { topic: 'u', messages: 2 }], ['close', undefined],
    ]);
  });

  test('of direct messages: each gets all, and while there is one, who asks is answered', async () => {
    const told = [];
    const { client, socket, sockets } = await connected({ reconnect: 100 });
    const ask = async () => {
      sockets.at(-1).says({ action: 'direct_message', from: 'bob', data: 1 }, { action: 'publish_ack', ack_id: 'q', from: 'bob', data: 2 });
      await settled();
      return (await sockets.at(-1).sent()).map(({ action, success, error, result }) => ({ action, success, error, result }));
    };
    const nobody = { action: 'ack', success: false, error: 'no subscriber for topic', result: undefined };
    assert.deepEqual(await ask(), [nobody]);
    const ends = ['a', 'b'].map((name) => client.on('direct', ({ data, topic, from }) => { told.push([name, data, topic, from]); return name; }));
    assert.deepEqual(await ask(), [{ action: 'ack', success: true, error: undefined, result: 'a' }]);
    assert.deepEqual(told.splice(0), [['a', 1, '', 'bob'], ['b', 1, '', 'bob'], ['a', 2, '', 'bob'], ['b', 2, '', 'bob']]);
    ends[0]();
    socket.end(1001);
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.deepEqual(await ask(), [{ action: 'ack', success: true, error: undefined, result: 'b' }], 'and there is nothing to subscribe to');
    ends[1]();
    ends[1]();
    assert.deepEqual(await ask(), [nobody]);
    assert.deepEqual(told.map(([name]) => name), ['b', 'b']);
  });

  test('of direct messages get no publications, whatever the server calls their topic', async () => {
    const got = [];
    const { client, socket } = await connected({ onDirect: (message) => got.push(message) });
    client.on('direct', (message) => got.push(message));
    socket.says({ action: 'publish', data: 1 }, { action: 'publish', topic: '', data: 1 }, { action: 'publish', topic: 'direct', data: 1 });
    assert.deepEqual(got, []);
  });

  test('of direct messages get one at a time, and none behind the end', async () => {
    const got = [];
    let finish;
    const { client, socket } = await connected();
    client.on('direct', ({ data }) => { got.push(data); return new Promise((resolve) => { finish = resolve; }); });
    socket.says({ action: 'direct_message', from: 'bob', data: 1 }, { action: 'direct_message', from: 'bob', data: 2 });
    assert.deepEqual(got, [1]);
    finish();
    await settled();
    assert.deepEqual(got, [1, 2]);
    client.close();
    finish();
    await settled();
    assert.deepEqual(got, [1, 2]);
  });

  test('to what there is not are refused, and so is what is no function', async () => {
    const { client } = await connected();
    assert.throws(() => client.on('conect', () => {}), { name: 'InvalidArgument', message: /onConnect$/ });
    for (const event of ['', 'onConnect', 'token', 'constructor', undefined, 5, {}]) {
      assert.throws(() => client.on(event, () => {}), InvalidArgument, String(event));
    }
    for (const listener of [undefined, null, 5, {}, function* () {}]) {
      assert.throws(() => client.on('connect', listener), InvalidArgument);
      assert.throws(() => client.on('direct', listener), InvalidArgument);
    }
  });

  test('OnClose of the unified spelling replaces the option, and no listener', async () => {
    const closed = [];
    const { client, socket } = await connected({ onClose: () => closed.push('option') });
    client.on('close', () => closed.push('listener'));
    client.OnClose(() => closed.push('first'));
    client.OnClose(() => closed.push('second'));
    client.close();
    socket.end(1000);
    assert.deepEqual(closed, ['second', 'listener']);
  });
});

describe('topics that are refused for now', () => {
  const refusal = (topic, code = 'rate_limited', request = 'subscribe') => (
    { action: 'error', error: `not now: ${code}`, code, request, topic });
  const confirmation = (topic) => ({ action: 'subscribed', topic });
  const asked = async (socket) => (await socket.sent()).map(({ action, topic }) => `${action} ${topic}`);
  const subscribes = (...topics) => topics.map((topic) => `subscribe ${topic}`);

  beforeEach(() => mock.method(Math, 'random', () => 0));

  /** A client that comes back with subscriptions that had been in force, and has asked for them. */
  async function restoring(topics, options = {}) {
    const world = await connected({ reconnect: 100, ...options });
    const { client, socket, sockets, errors } = world;
    const subscriptions = topics.map((topic) => client.subscribe(topic));
    await socket.sent();
    for (const topic of topics) socket.says(confirmation(topic));
    const comeBack = async () => {
      sockets.at(-1).end();
      await pass(100);
      await welcome(sockets.at(-1), 'me');
      assert.deepEqual(await asked(sockets.at(-1)), subscribes(...topics));
      return sockets.at(-1);
    };
    return { client, sockets, errors, subscriptions, comeBack, socket: await comeBack() };
  }

  test('are asked for together until each is confirmed, with waits that grow', async () => {
    const { socket, subscriptions: [a] } = await restoring(['a', 'b', 'c']);
    socket.says(refusal('a'), refusal('b', 'limit_reached'), refusal('c', 'unavailable'));
    for (const wait of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      for (let rest = wait - 1; rest > 0; rest -= 20_000) {
        await pass(Math.min(rest, 20_000), 20_000);
        socket.says({ action: 'sign of life' });
      }
      assert.deepEqual((await asked(socket)).filter((each) => !each.startsWith('ping')), []);
      await pass(1);
      assert.deepEqual(await asked(socket), subscribes('a', 'b', 'c'));
      socket.says(refusal('a'), refusal('b'), refusal('c'));
    }
    socket.says(...['a', 'b', 'c'].map(confirmation));
    await pass(20_000);
    assert.deepEqual(await asked(socket), []);
    socket.says({ action: 'publish', topic: 'a', data: 1 });
    assert.equal((await a.next()).value.data, 1);
  });

  test('the wait is small again once one is confirmed', async () => {
    const { socket } = await restoring(['a', 'b', 'c']);
    for (const wait of [0, 500, 1000, 2000]) {
      await pass(wait);
      await socket.sent();
      socket.says(refusal('a'), refusal('b'), refusal('c'));
    }
    socket.says(confirmation('b'));
    await pass(499);
    assert.deepEqual(await asked(socket), []);
    await pass(1);
    assert.deepEqual(await asked(socket), subscribes('a', 'c'));
    socket.says(confirmation('a'), refusal('c'));
    await pass(500);
    assert.deepEqual(await asked(socket), subscribes('c'));
  });

  test('a part of each wait is random', async () => {
    mock.method(Math, 'random', () => 1);
    const { socket } = await restoring(['a']);
    socket.says(refusal('a'));
    await pass(250);
    assert.deepEqual(await asked(socket), subscribes('a'));
  });

  test('the program is told once per topic and connection', async () => {
    const { socket, errors, comeBack } = await restoring(['a', 'b']);
    const told = () => errors.splice(0).map(({ name, code, topic, isTemporary }) => [name, code, topic, isTemporary]);
    const expected = ['a', 'b'].map((topic) => ['ServerError', 'rate_limited', topic, true]);
    for (const wait of [0, 500, 1000, 2000, 4000]) {
      await pass(wait);
      socket.says(refusal('a'), refusal('b'));
    }
    assert.deepEqual(told(), expected);
    await pass(8000); // also those who wait for an answer no more are not told again
    assert.deepEqual(told(), []);
    (await comeBack()).says(refusal('a'), refusal('b'));
    assert.deepEqual(told(), expected);
  });

  test('one that is refused for good after all has ended', async () => {
    const { socket, errors, subscriptions: [a] } = await restoring(['a', 'b']);
    socket.says(refusal('a'), confirmation('b'));
    await pass(500);
    assert.deepEqual(await asked(socket), subscribes('a'));
    socket.says(refusal('a', 'forbidden'));
    await assert.rejects(a.next(), { code: 'forbidden' });
    await pass(20_000);
    assert.deepEqual(await asked(socket), []);
    assert.deepEqual(errors.map(({ code }) => code), ['rate_limited', 'forbidden']);
  });

  test('one that is refused for good after who asked first has stopped waiting', async () => {
    const { socket, errors, subscriptions: [a] } = await restoring(['a'], { requestTimeout: 600 });
    socket.says(refusal('a'));
    await pass(500);
    await socket.sent();
    await pass(100);
    await pass(1000);
    assert.deepEqual(await asked(socket), subscribes('a'));
    socket.says(refusal('a', 'forbidden'));
    await assert.rejects(a.next(), { code: 'forbidden' });
    assert.deepEqual(errors.map(({ code }) => code), ['rate_limited', 'forbidden']);
  });

  test('a last word that comes late is one', async () => {
    const { client, socket, errors } = await connected({ requestTimeout: 500 });
    const messages = client.subscribe('t');
    await socket.sent();
    await pass(600);
    socket.says(refusal('t', 'forbidden'));
    await assert.rejects(messages.next(), { code: 'forbidden' });
    await pass(20_000);
    assert.deepEqual(await asked(socket), []);
    assert.deepEqual(errors.map(({ name }) => name), ['RequestTimeout', 'ServerError']);
  });

  test('one that the program gives up is not asked for again', async () => {
    const { client, socket, errors } = await restoring(['a', 'b']);
    socket.says(refusal('a'), refusal('b'));
    client.unsubscribe('a');
    assert.deepEqual(await asked(socket), ['unsubscribe a']);
    socket.says({ action: 'unsubscribed', topic: 'a' });
    await pass(500);
    assert.deepEqual(await asked(socket), subscribes('b'));
    await pass(20_000);
    assert.deepEqual(errors.map(({ topic }) => topic), ['a', 'b']);
  });

  test('are asked for anew by another connection alone', async () => {
    const { socket, comeBack } = await restoring(['a']);
    socket.says(refusal('a'));
    const next = await comeBack();
    next.says(confirmation('a'));
    await pass(20_000);
    assert.deepEqual([await asked(socket), await asked(next)], [[], []]);
  });

  test('closing leaves no wait', async () => {
    const { client, socket } = await restoring(['a']);
    socket.says(refusal('a'));
    client.close();
    socket.end(1000);
    await pass(60_000);
    assert.deepEqual(await asked(socket), []);
  });

  for (const code of ['rate_limited', 'unavailable']) {
    test(`${code}: a new one is asked for again while its promise waits`, async () => {
      const { client, socket, errors } = await connected();
      const first = outcomeOf(client.subscribe('t', () => {}));
      await socket.sent();
      socket.says(refusal('t', code));
      const second = outcomeOf(client.subscribe('t', () => {}));
      await pass(500);
      assert.deepEqual(await asked(socket), subscribes('t'));
      assert.deepEqual([first.is, second.is], ['waits', 'waits']);
      socket.says(confirmation('t'));
      await settled();
      assert.deepEqual([first.is.topic, second.is.topic], ['t', 't']);
      assert.deepEqual(errors.map((error) => error.code), [code]);
      await pass(20_000);
      assert.deepEqual(await asked(socket), []);
    });
  }

  test('a promise waits for the request timeout at most, and asking goes on', async () => {
    const { client, socket, errors } = await connected({ requestTimeout: 700 });
    const got = [];
    const first = outcomeOf(client.subscribe('t', ({ data }) => { got.push(data); }));
    await socket.sent();
    socket.says(refusal('t'));
    await pass(500);
    socket.says(refusal('t'));
    await pass(200);
    assert.ok(first.is instanceof RequestTimeout);
    assert.equal(first.is.cause.code, 'rate_limited');
    const later = outcomeOf(client.subscribe('t'));
    await pass(699);
    assert.equal(later.is, 'waits');
    await pass(1);
    assert.ok(later.is instanceof RequestTimeout);
    await pass(100);
    assert.deepEqual(await asked(socket), subscribes('t', 't'));
    socket.says(confirmation('t'), { action: 'publish', topic: 't', data: 1 });
    assert.deepEqual(got, [1]);
    const last = outcomeOf(client.subscribe('t'));
    await pass(20_000);
    assert.equal(last.is.topic, 't');
    assert.deepEqual(await asked(socket), []);
    assert.equal(errors.length, 1);
  });

  test('limit_reached is final for a new one, but not for one that was in force', async () => {
    const { client, socket, sockets, errors, comeBack } = await restoring(['a']);
    const fresh = client.subscribe('b');
    const outcome = outcomeOf(fresh);
    await socket.sent();
    socket.says(confirmation('a'), refusal('b', 'limit_reached'));
    await settled();
    assert.equal(outcome.is.code, 'limit_reached');
    await assert.rejects(fresh.next(), { code: 'limit_reached' });
    assert.deepEqual(errors, []);
    const next = await comeBack();
    next.says(refusal('a', 'limit_reached'));
    await pass(500);
    assert.deepEqual(await asked(next), subscribes('a'));
    client.unsubscribe('a');
    const again = outcomeOf(client.subscribe('a'));
    next.says(confirmation('a'), { action: 'unsubscribed', topic: 'a' }, refusal('a', 'limit_reached'));
    await settled();
    assert.equal(again.is.code, 'limit_reached', 'another subscription to the same topic is a new one');
    client.subscribe('a', () => {});
    next.says(confirmation('a'));
    (await comeBack()).says(refusal('a', 'forbidden'));
    const last = outcomeOf(client.subscribe('a'));
    sockets.at(-1).says(refusal('a', 'limit_reached'));
    await settled();
    assert.equal(last.is.code, 'limit_reached', 'also when the server ended the former');
  });

  test('an end that is refused for now is asked for again', async () => {
    const { client, socket, errors } = await connected();
    client.subscribe('t', () => {});
    client.unsubscribe('t');
    await socket.sent();
    socket.says(confirmation('t'), refusal('t', 'rate_limited', 'unsubscribe'));
    await pass(500);
    assert.deepEqual(await asked(socket), ['unsubscribe t']);
    socket.says(refusal('t', 'rate_limited', 'unsubscribe'));
    const again = outcomeOf(client.subscribe('t', () => {}));
    assert.deepEqual(await asked(socket), subscribes('t'), 'unless it is wanted again');
    socket.says(confirmation('t'));
    await pass(20_000);
    assert.equal(again.is.topic, 't');
    assert.deepEqual(await asked(socket), []);
    assert.equal(errors.length, 1);
  });

  test('what the server does not answer is asked again too, and told once', async () => {
    const { client, socket, errors } = await connected({ requestTimeout: 500 });
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); });
    await socket.sent();
    socket.says({ action: 'error', error: 'too much', code: 'rate_limited' }); // whose, it does not say
    await pass(500);
    await pass(500);
    assert.deepEqual(await asked(socket), subscribes('t'));
    await pass(500);
    await pass(1000);
    assert.deepEqual(await asked(socket), subscribes('t'));
    const later = outcomeOf(client.subscribe('t'));
    await pass(500);
    assert.ok(later.is.cause instanceof RequestTimeout);
    assert.equal(later.is.cause.cause, undefined, 'no chain of errors grows');
    socket.says(confirmation('t'), { action: 'publish', topic: 't', data: 1 });
    await pass(20_000);
    assert.deepEqual(await asked(socket), []);
    assert.deepEqual(got, [1]);
    assert.deepEqual(errors.map(({ name }) => name), ['ServerError', 'RequestTimeout']);
  });

  test('what the server does not answer and nobody wants any more is not asked again', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', () => {}).unsubscribe();
    await socket.sent();
    socket.says({ action: 'unsubscribed', topic: 't' });
    await pass(20_000);
    assert.deepEqual(await asked(socket), []);
  });

  test('an answer tells nothing about a question of the other kind', async () => {
    const { client, socket } = await connected();
    const first = client.subscribe('t', () => {});
    first.unsubscribe();
    const later = outcomeOf(client.subscribe('t', () => {}));
    socket.says({ action: 'unsubscribed', topic: 't' }, { action: 'unsubscribed', topic: 't' });
    await settled();
    assert.equal(later.is, 'waits');
    socket.says(confirmation('t'), confirmation('t'));
    await settled();
    assert.equal(later.is.topic, 't');
  });
});

describe('subscribing', () => {
  test('messages of level 2 come as they are, batches one by one', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', (message) => { got.push(message); });
    socket.says(
      { action: 'publish', topic: 't', from: 'bob', data: { data: 1, from: 'x' } },
      { action: 'publish', topic: 't', from: 'bob', batch: [1, null, [2]] },
      { action: 'publish', topic: 'other', from: 'bob', data: 3 },
    );
    assert.deepEqual(plain(got), [{ data: 1, from: 'x' }, 1, null, [2]].map((data) => ({ topic: 't', data, from: 'bob' })));
  });

  test('those of level 1 are unwrapped once', async () => {
    const { client, socket } = await connected({}, LEVEL_1);
    const got = [];
    client.subscribe('t', (message) => { got.push(message); });
    socket.says(
      { action: 'publish', topic: 't', data: { data: { data: 5 }, from: 'bob' } },
      { action: 'publish', topic: 't', data: 'bare', from: 'bob' },
      { action: 'publish', topic: 't', batch: [1], data: { data: 6, from: 'bob' } },
    );
    assert.deepEqual(got.map(({ data, from }) => [data, from]), [[{ data: 5 }, 'bob'], ['bare', 'bob'], [6, 'bob']]);
  });

  test('a binary message is read like a text', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); });
    const bytes = new TextEncoder().encode('{"action":"publish","topic":"t","data":"é"}');
    socket.onmessage({ data: bytes.buffer });
    assert.equal(socket.binaryType, 'arraybuffer');
    assert.deepEqual(got, ['é']);
  });

  test('awaiting it waits for the server', async () => {
    const { client, socket } = await connected();
    let subscription;
    (async () => { subscription = await client.subscribe('t', () => {}); })();
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't' }]);
    assert.equal(subscription, undefined);
    socket.says({ action: 'subscribed', topic: 't' });
    await settled();
    assert.equal(subscription.topic, 't');
    assert.equal(await subscription, subscription);
  });

  test('several of one topic share one on the wire', async () => {
    const { client, socket } = await connected();
    const got = [];
    const first = client.subscribe('t', ({ data }) => { got.push(['first', data]); });
    const second = client.subscribe('t', ({ data }) => { got.push(['second', data]); });
    let isSecond = false;
    second.then(() => { isSecond = true; });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't' }]);
    assert.equal(isSecond, false);
    socket.says({ action: 'subscribed', topic: 't' });
    await settled();
    assert.equal(isSecond, true);
    socket.says({ action: 'publish', topic: 't', data: 1 });
    first.unsubscribe();
    first.unsubscribe();
    socket.says({ action: 'publish', topic: 't', data: 2 });
    assert.deepEqual(await socket.sent(), []);
    second.unsubscribe();
    socket.says({ action: 'publish', topic: 't', data: 3 });
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't' }]);
    assert.deepEqual(got, [['first', 1], ['second', 1], ['second', 2]]);
  });

  test('that it was ended is confirmed too; otherwise this is reported', async () => {
    for (const [answer, count] of [['unsubscribed', 0], ['of another kind', 1]]) {
      const { client, socket, errors } = await connected();
      client.subscribe('t', () => {}).unsubscribe();
      socket.says({ action: 'subscribed', topic: 't' }, { action: answer, topic: 't' });
      await pass(10_000);
      assert.deepEqual(errors.map(({ name }) => name), Array(count).fill('RequestTimeout'));
    }
  });

  test('client.unsubscribe ends all of a topic', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', () => {});
    client.subscribe('t', () => {});
    client.unsubscribe('t');
    client.unsubscribe('never');
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['subscribe', 'unsubscribe']);
  });

  test('one subscription handles one message at a time, others do not wait', async () => {
    const { client, socket } = await connected();
    const order = [];
    const free = [];
    client.subscribe('t', async ({ data }) => {
      order.push(`begin ${data}`);
      await new Promise((resolve) => { free.push(resolve); });
      order.push(`end ${data}`);
    });
    client.subscribe('t', ({ data }) => { order.push(`other ${data}`); });
    socket.says({ action: 'publish', topic: 't', batch: [1, 2] });
    await settled();
    assert.deepEqual(order, ['begin 1', 'other 1', 'other 2']);
    free.shift()();
    await settled();
    assert.deepEqual(order.slice(3), ['end 1', 'begin 2']);
  });

  test('a callback that fails does not end its subscription', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    client.subscribe('t', ({ data }) => {
      got.push(data);
      throw new Error(`failed at ${data}`);
    });
    socket.says({ action: 'publish', topic: 't', batch: [1, 2] });
    await settled();
    assert.deepEqual(got, [1, 2]);
    assert.deepEqual(errors.map(({ message }) => message), ['failed at 1', 'failed at 2']);
  });

  test('the mailbox is bounded; what is dropped is counted and told once', async () => {
    const { client, socket, errors } = await connected({ mailbox: 3 });
    const slow = client.subscribe('t', () => new Promise(() => {}));
    const messages = client.subscribe('t');
    socket.says({ action: 'publish', topic: 't', batch: [0, 1, 2, 3, 4, 5] });
    assert.equal(slow.dropped, 2, 'one is being handled, three wait');
    assert.equal(messages.dropped, 3);
    assert.equal(errors.length, 2);
    assert.ok(errors[0] instanceof QueueFull);
    assert.equal((await messages.next()).value.data, 0);
    socket.says({ action: 'publish', topic: 't', batch: [6, 7] });
    assert.equal(errors.length, 3, 'another episode');
    const rest = [];
    for (let i = 0; i < 3; i++) rest.push((await messages.next()).value.data);
    assert.deepEqual(rest, [1, 2, 6]);
  });

  test('the default bound is 65536 messages', async () => {
    const { client, socket } = await connected();
    const messages = client.subscribe('t');
    socket.says({ action: 'publish', topic: 't', batch: Array(65_540).fill(0) });
    assert.equal(messages.dropped, 4);
  });

  test('a signal ends it', async () => {
    const { client, socket } = await connected();
    const abort = new AbortController();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { signal: abort.signal });
    socket.says({ action: 'publish', topic: 't', data: 1 });
    abort.abort();
    socket.says({ action: 'publish', topic: 't', data: 2 });
    assert.deepEqual(got, [1]);
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['subscribe', 'unsubscribe']);
  });

  test('with a signal that is aborted already it sends nothing, and rejects with the reason', async () => {
    const { client, socket } = await connected();
    const kept = [];
    client.subscribe('t', ({ data }) => { kept.push(data); });
    await socket.sent();
    for (const reason of [undefined, 5, new Error('enough')]) {
      const signal = AbortSignal.abort(reason);
      for (const topic of ['t', 'u']) {
        const refused = client.subscribe(topic, () => assert.fail('it is over'), { signal });
        await assert.rejects(async () => refused, (error) => error === signal.reason);
        assert.equal((await client.subscribe(topic, { signal }).next()).done, true);
      }
    }
    socket.says({ action: 'publish', topic: 't', data: 1 });
    assert.deepEqual(kept, [1]);
    assert.deepEqual(await socket.sent(), []);
    const end = client.Subscribe('u', () => {}); // which sends as before
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 'u' }]);
    end();
  });

  test('a signal that is aborted before it is in force rejects it at once, one that comes later does not', async () => {
    for (const world of [await connected(), await offline()]) {
      const abort = new AbortController();
      const [awaited, later, other] = ['t', 't', 'u'].map((topic) => world.client.subscribe(topic, () => {}, { signal: abort.signal }));
      const waits = world.client.connected && outcomeOf(awaited);
      abort.abort();
      await settled();
      if (waits) assert.equal(waits.is.name, 'AbortError');
      for (const each of [awaited, later, other]) await assert.rejects(async () => each, { name: 'AbortError' });
    }
    const { client, socket } = await connected();
    const abort = new AbortController();
    const inForce = client.subscribe('t', () => {}, { signal: abort.signal });
    socket.says({ action: 'subscribed', topic: 't' });
    await settled();
    abort.abort();
    assert.equal(await inForce, inForce);
  });

  test('who unsubscribes while it is pending waits no longer, whatever the server says later', async () => {
    for (const answer of [{ action: 'subscribed', topic: 't' }, { action: 'error', code: 'forbidden', error: 'no', request: 'subscribe', topic: 't' }]) {
      const { client, socket, errors } = await connected();
      const pending = client.subscribe('t', () => {});
      const waits = outcomeOf(pending);
      await settled();
      assert.equal(waits.is, 'waits');
      pending.unsubscribe();
      await settled();
      assert.equal(waits.is, pending);
      socket.says(answer, { action: 'unsubscribed', topic: 't' });
      assert.deepEqual((await socket.sent()).map(({ action }) => action), ['subscribe', 'unsubscribe']);
      assert.deepEqual(errors, []);
    }
  });

  test('a topic that is too large for the server is refused, now or with the next connection', async () => {
    const { client, sockets, errors } = await connected({ reconnect: 100 }, { proto: 2, limits: { max_message: 100 } });
    const large = 'x'.repeat(100);
    assert.throws(() => client.subscribe(large), MessageTooLarge);
    sockets[0].end();
    client.subscribe(large, () => {});
    client.subscribe('t', () => {});
    for (const index of [1, 2]) {
      await pass(100);
      await welcome(sockets[index], 'me', { proto: 2, limits: { max_message: 100 } });
      assert.deepEqual(await sockets[index].sent(), [{ action: 'subscribe', topic: 't' }]);
      sockets[index].end();
    }
    assert.deepEqual(errors.map(({ name }) => name), ['MessageTooLarge']);
  });

  test('with a topic that is none it throws', async () => {
    const { client } = await connected();
    assert.throws(() => client.subscribe(''), InvalidArgument);
  });
});

describe('iterating', () => {
  async function iterating(options) {
    const world = await connected();
    const messages = world.client.subscribe('t', options);
    await world.socket.sent();
    return { ...world, messages };
  }

  test('gives the messages in order, and leaving the loop unsubscribes', async () => {
    const { socket, messages } = await iterating();
    const got = [];
    const loop = (async () => {
      for await (const { data } of messages) {
        got.push(data);
        if (data === 3) break;
      }
    })();
    socket.says({ action: 'publish', topic: 't', batch: [1, 2] });
    await settled();
    socket.says({ action: 'publish', topic: 't', batch: [3, 4] });
    await loop;
    assert.deepEqual(got, [1, 2, 3]);
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't' }]);
  });

  test('ends with a signal, unsubscribe and close; loops that wait too', async () => {
    for (const end of [(world, abort) => abort.abort(), (world) => world.messages.unsubscribe(), (world) => world.client.close()]) {
      const abort = new AbortController();
      const world = await iterating({ signal: abort.signal });
      const got = [];
      const loop = (async () => {
        for await (const { data } of world.messages) got.push(data);
      })();
      world.socket.says({ action: 'publish', topic: 't', data: 1 });
      await settled();
      end(world, abort);
      await loop;
      assert.deepEqual(got, [1]);
    }
  });

  test('throws when the client ends with an error, behind what has come', async () => {
    const { socket, messages } = await iterating();
    socket.says({ action: 'publish', topic: 't', data: 1 });
    socket.end(4001);
    assert.equal((await messages.next()).value.data, 1);
    await assert.rejects(messages.next(), { name: 'ConnectionLost', code: 4001 });
  });

  test('with a callback it is not possible', async () => {
    const { client } = await connected();
    await assert.rejects(async () => {
      for await (const message of client.subscribe('t', () => {})) assert.fail(message);
    }, InvalidArgument);
  });

  test('a message counts as handled when the next one is asked for, or after unsubscribe', async () => {
    const { socket, messages } = await iterating();
    const ask = (id) => socket.says({ action: 'publish_ack', topic: 't', ack_id: id, from: 'bob', data: id });
    const loop = (async () => {
      for await (const message of messages) {
        if (message.data === 'a2') message.reply('done');
        if (message.data === 'a3') {
          messages.unsubscribe();
          break;
        }
      }
    })();
    ['a1', 'a2', 'a3', 'a4'].forEach(ask);
    await loop;
    assert.deepEqual((await socket.sent()).filter(({ action }) => action === 'ack'), [
      { action: 'ack', ack_id: 'a1', success: true },
      { action: 'ack', ack_id: 'a2', success: true, result: 'done' },
      { action: 'ack', ack_id: 'a3', success: true },
      { action: 'ack', ack_id: 'a4', success: false, error: 'unsubscribed' },
    ]);
  });

  test('loops that share a subscription answer for their own messages', async () => {
    const { socket, messages } = await iterating();
    const finish = {};
    const worker = async () => {
      for await (const message of messages) {
        await new Promise((resolve) => { finish[message.data] = resolve; });
        message.reply(`${message.data} is done`);
      }
    };
    const workers = [worker(), worker()];
    await settled();
    for (const id of ['a1', 'a2', 'a3']) socket.says({ action: 'publish_ack', topic: 't', ack_id: id, from: 'bob', data: id });
    await settled();
    assert.deepEqual(await socket.sent(), [], 'both are at work');
    finish.a2();
    await settled();
    assert.deepEqual(await socket.sent(), [{ action: 'ack', ack_id: 'a2', success: true, result: 'a2 is done' }]);
    messages.unsubscribe();
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['unsubscribe'], 'nothing is claimed of the others');
    finish.a3();
    finish.a1();
    await Promise.all(workers);
    assert.deepEqual((await socket.sent()).map(({ ack_id: id, result }) => [id, result]), [['a3', 'a3 is done'], ['a1', 'a1 is done']]);
  });

  test('a loop goes on where next() has begun', async () => {
    const { socket, messages } = await iterating();
    for (const id of ['a1', 'a2']) socket.says({ action: 'publish_ack', topic: 't', ack_id: id, from: 'bob', data: id });
    await messages.next();
    for await (const { data } of messages) {
      assert.equal(data, 'a2');
      assert.deepEqual(await socket.sent(), [{ action: 'ack', ack_id: 'a1', success: true }]);
      break;
    }
  });

  test('of a message at which the loop was left nothing is claimed', async () => {
    const { socket, messages } = await iterating();
    socket.says({ action: 'publish_ack', topic: 't', ack_id: 'a1', from: 'bob', data: 1 });
    await assert.rejects(async () => {
      for await (const { data } of messages) throw new Error(`failed at ${data}`);
    }, /failed at 1/);
    assert.deepEqual((await socket.sent())[0], { action: 'ack', ack_id: 'a1', success: false, error: 'the subscription was left' });
  });
});

describe('answering ack requests', () => {
  const question = { action: 'publish_ack', topic: 't', ack_id: 'a1', from: 'bob', data: 5 };

  async function answers(subscribe, agreement, message = question, options = {}) {
    const { client, socket, errors } = await connected(options, agreement);
    subscribe(client);
    await socket.sent();
    socket.says(message);
    return { sent: await socket.sent(), errors };
  }

  test('what the callback returns is the result, what it throws the error', async () => {
    for (const [callback, outcome] of [
      [({ data }) => data + 1, { success: true, result: 6 }],
      [async ({ data }) => ({ data }), { success: true, result: { data: 5 } }],
      [() => null, { success: true, result: null }],
      [() => {}, { success: true }],
      [() => () => {}, { success: true }],
      [() => { throw new Error('no broom'); }, { success: false, error: 'no broom' }],
      [async () => { throw new TypeError(); }, { success: false, error: 'TypeError' }],
      [() => { throw 'a "text"'; }, { success: false, error: 'a "text"' }],
      [() => { throw new Error('half \ud800'); }, { success: false, error: 'half \ufffd' }],
      [() => { throw new Error('x'.repeat(5000)); }, { success: false, error: 'x'.repeat(1000) }],
      [() => 1n, { success: false, error: 'the result of the callback cannot be sent: the data is not JSON: Do not know how to serialize a BigInt' }],
      [() => 'x'.repeat(999_943), { success: true, result: 'x'.repeat(999_943) }],
      [() => 'x'.repeat(999_944), { success: false, error: 'the result of the callback cannot be sent: a message of 1000001 bytes; the server takes 1000000' }],
    ]) {
      const { sent } = await answers((client) => client.subscribe('t', callback));
      assert.deepEqual(sent, [{ action: 'ack', ack_id: 'a1', ...outcome }]);
    }
  });

  test('a question is one message, whatever else is in it', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', ({ data }) => data);
    await socket.sent();
    for (const batch of [[], [1, 2]]) socket.says({ action: 'publish_ack', topic: 't', ack_id: 'a', data: 'x', batch });
    const answer = { action: 'ack', ack_id: 'a', success: true, result: 'x' };
    assert.deepEqual(await socket.sent(), [answer, answer]);
  });

  test('several subscriptions answer when all are done: a failure counts, and the first result', async () => {
    const { sent } = await answers((client) => {
      client.subscribe('t', () => new Promise(() => {}));
      client.subscribe('t', () => 'first');
      client.subscribe('t', () => 'second');
    });
    assert.deepEqual(sent, []);
    const { sent: failed } = await answers((client) => {
      client.subscribe('t', () => 'fine');
      client.subscribe('t', () => { throw new Error('one'); });
      client.subscribe('t', () => { throw new Error('two'); });
    });
    assert.deepEqual(failed, [{ action: 'ack', ack_id: 'a1', success: false, error: 'one' }]);
    const { sent: both } = await answers((client) => {
      client.subscribe('t', () => {});
      client.subscribe('t', () => 'first');
      client.subscribe('t', () => 'second');
    });
    assert.deepEqual(both, [{ action: 'ack', ack_id: 'a1', success: true, result: 'first' }]);
  });

  test('on level 1 the answer is in data, without results', async () => {
    const wrapped = { ...question, data: { data: 5, from: 'bob' } };
    const answer = (data) => [{ action: 'ack', from: 'me', ack_id: 'a1', data: { ack_id: 'a1', client_id: 'me', ...data } }];
    const { sent } = await answers((client) => client.subscribe('t', ({ data }) => data), LEVEL_1, wrapped);
    assert.deepEqual(sent, answer({ success: true }));
    const { sent: failed } = await answers((client) => client.subscribe('t', () => { throw new Error('no'); }), LEVEL_1, wrapped);
    assert.deepEqual(failed, answer({ success: false, error: 'no' }));
  });

  test('who does not subscribe says so', async () => {
    const { sent } = await answers(() => {});
    assert.deepEqual(sent, [{ action: 'ack', ack_id: 'a1', success: false, error: 'no subscriber for topic' }]);
  });

  test('direct ones are for onDirect, on both levels', async () => {
    for (const [agreement, message] of [
      [LEVEL_2, { ...question, topic: undefined }],
      [LEVEL_1, { ...question, topic: '__direct_me_3', data: { data: 5, from: 'bob' } }],
    ]) {
      const got = [];
      const onDirect = (direct) => { got.push(direct); };
      const { sent } = await answers(() => {}, agreement, message, { onDirect });
      assert.equal(sent[0].success ?? sent[0].data.success, true);
      assert.deepEqual(plain(got), [{ topic: '', data: 5, from: 'bob' }]);
      const { sent: without } = await answers(() => {}, agreement, message);
      assert.equal(without[0].error ?? without[0].data.error, 'no subscriber for topic');
    }
  });

  test('a full mailbox and an ended subscription are told', async () => {
    const { client, socket } = await connected({ mailbox: 1 });
    const slow = client.subscribe('t', () => new Promise(() => {}));
    await socket.sent();
    for (const id of ['a1', 'a2', 'a3']) socket.says({ ...question, ack_id: id });
    assert.deepEqual((await socket.sent()).map(({ ack_id, error }) => [ack_id, error]), [['a3', 'queue full']]);
    slow.unsubscribe();
    assert.deepEqual((await socket.sent()).map(({ ack_id, error }) => [ack_id, error]), [['a2', 'unsubscribed'], [undefined, undefined]]);
  });

  test('an answer does not go to another connection', async () => {
    const { client, socket, sockets } = await connected({ reconnect: 100 });
    let finish;
    client.subscribe('t', () => new Promise((resolve) => { finish = resolve; }));
    socket.says(question);
    socket.end();
    await pass(100);
    await welcome(sockets[1], 'me');
    await sockets[1].sent();
    finish();
    assert.deepEqual(await sockets[1].sent(), []);
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['subscribe']);
  });
});

describe('publishing with ack', () => {
  async function asking(options, agreement) {
    const world = await connected({}, agreement);
    const ack = await world.client.publishWithAck('t', 'sweep', options);
    const [request] = await world.socket.sent();
    const says = (action, fields) => world.socket.says({ action, ack_id: ack.id, ...fields });
    return { ...world, ack, request, says };
  }

  test('the request', async () => {
    const { ack, request, client, socket } = await asking({ timeout: 1500 });
    assert.deepEqual(request, { action: 'publish_with_ack', topic: 't', data: 'sweep', ack_id: ack.id, timeout: 1.5, updates: true });
    assert.match(ack.id, /^client_ack_me_\d+$/);
    const direct = await client.publishToIdWithAck('bob', 'psst');
    const [sent] = await socket.sent();
    assert.deepEqual(sent, { action: 'publish_to_id_with_ack', to: 'bob', data: 'psst', ack_id: direct.id, timeout: 5, updates: true });
    assert.notEqual(direct.id, ack.id);
    const { request: first } = await asking({}, LEVEL_1);
    assert.equal('updates' in first, false);
    assert.equal(first.from, 'me');
  });

  test('outcomes come as they are known', async () => {
    const { ack, says } = await asking();
    const got = [];
    const loop = (async () => { for await (const response of ack) got.push(response); })();
    const any = ack.waitAny();
    says('ack_update', { responses: { bob: { success: true, result: [1] } } });
    await settled();
    assert.deepEqual(got, [{ clientId: 'bob', success: true, result: [1] }]);
    assert.deepEqual(await any, got[0]);
    says('ack_update', { responses: { carol: { success: false, error: 'no broom' }, dave: {} } });
    says('ack_response', { complete: false, missing: ['erin'] });
    await loop;
    assert.deepEqual(got.slice(1), [
      { clientId: 'carol', success: false, error: 'no broom' },
      { clientId: 'dave', success: false },
      { clientId: 'erin', success: false, error: 'timeout' },
    ]);
    assert.deepEqual([...(await ack.wait()).keys()], ['bob', 'carol', 'dave', 'erin']);
    assert.deepEqual(await ack.status(), new Map([['bob', true], ['carol', true], ['dave', true], ['erin', false]]));
    assert.equal(await ack.isComplete(), false);
  });

  test('all at the end, from level 1', async () => {
    const { ack, says } = await asking({}, LEVEL_1);
    says('ack_response', { responses: { bob: { ack_id: 'a1', client_id: 'bob', success: true } } });
    assert.deepEqual(await ack.wait(), new Map([['bob', { clientId: 'bob', success: true }]]));
    assert.equal(await ack.isComplete(), true);
  });

  test('nobody there: no outcome', async () => {
    const { ack, says } = await asking();
    says('ack_response', { complete: true });
    assert.deepEqual(await ack.wait(), new Map());
    assert.equal(await ack.waitAny(), undefined);
    assert.equal(await ack.isComplete(), false);
  });

  test('the server is asked for the status while it lasts', async () => {
    const { ack, socket, says } = await asking();
    const status = ack.status();
    const complete = ack.isComplete();
    assert.deepEqual(await socket.sent(), Array(2).fill({ action: 'get_ack_status', ack_id: ack.id }));
    says('ack_status', { status: { bob: true, carol: false } });
    assert.deepEqual(await status, new Map([['bob', true], ['carol', false]]));
    says('ack_status', { status: { bob: true, carol: true } });
    assert.equal(await complete, true);
    const late = ack.status();
    says('ack_response', { responses: { bob: { success: true } } });
    assert.deepEqual(await late, new Map([['bob', true]]));
  });

  test('cancelling: who waits gets what has come', async () => {
    const { ack, socket, says } = await asking();
    says('ack_update', { responses: { bob: { success: true } } });
    const outcomes = ack.wait();
    ack.cancel();
    ack.cancel();
    assert.deepEqual([...(await outcomes).keys()], ['bob']);
    assert.deepEqual(await socket.sent(), [{ action: 'cancel_ack', ack_id: ack.id }]);
    says('ack_response', { responses: { carol: { success: true } } });
    assert.deepEqual([...(await ack.wait()).keys()], ['bob']);
  });

  test('a signal cancels, and who waits is told the reason', async () => {
    const abort = new AbortController();
    const removed = mock.method(abort.signal, 'removeEventListener');
    const { ack: other, says } = await asking({ signal: abort.signal });
    says('ack_response', {});
    assert.deepEqual(await other.wait(), new Map());
    assert.equal(removed.mock.callCount(), 1);
    const { ack, socket } = await asking({ signal: abort.signal });
    const outcome = assert.rejects(ack.wait(), { name: 'AbortError' });
    abort.abort();
    await outcome;
    assert.deepEqual(await socket.sent(), [{ action: 'cancel_ack', ack_id: ack.id }]);
    for (const [level, agreement] of [[1, LEVEL_1], [2, LEVEL_2]]) {
      const world = await connected({}, agreement);
      const late = await world.client.publishWithAck('t', 1, { signal: abort.signal });
      await assert.rejects(late.wait(), { name: 'AbortError' });
      assert.deepEqual(await world.socket.sent(), [], `level ${level}: nothing is sent for it`);
    }
  });

  test('a silent server is given one second more than the subscribers', async () => {
    const { ack, socket } = await asking({ timeout: 2000 });
    const outcome = outcomeOf(ack.wait());
    await pass(2750);
    assert.equal(outcome.is, 'waits');
    await pass(250);
    assert.ok(outcome.is instanceof RequestTimeout, 'it does not say that nobody was there');
    assert.deepEqual(await socket.sent(), [{ action: 'cancel_ack', ack_id: ack.id }]);
  });

  test('a lost connection ends it at once', async () => {
    const { ack, client, socket } = await asking();
    const waiting = [ack.wait(), ack.waitAny(), ack.status(), client.flush(), client.publishWithReceipt('t', 1)];
    const outcomes = Promise.allSettled(waiting);
    socket.end(1006);
    for (const { reason } of await outcomes) {
      assert.ok(reason instanceof ConnectionLost, reason);
      assert.equal(reason.code, 1006);
    }
    assert.equal(await ack.isComplete(), false);
  });

  test('no time is no time', async () => {
    const { client } = await connected();
    for (const timeout of [0, -1, NaN, '5', null]) {
      await assert.rejects(client.publishWithAck('t', 1, { timeout }), InvalidArgument);
    }
  });
});

describe('who must be there', () => {
  const EXPECTING = { ...LEVEL_2, features: ['expect'] };

  test('is in the request, and who is absent has an outcome', async () => {
    const { client, socket } = await connected({}, EXPECTING);
    const ack = await client.publishWithAck('t', 1, { expect: ['bob', 'carol'] });
    const [{ expect }] = await socket.sent();
    assert.deepEqual(expect, ['bob', 'carol']);
    socket.says({ action: 'ack_update', ack_id: ack.id, responses: { carol: { success: false, error: 'absent' } } });
    assert.deepEqual(await ack.waitAny(), { clientId: 'carol', success: false, error: 'absent' });
  });

  test('nobody is nothing to ask for', async () => {
    const { client, socket } = await connected({}, LEVEL_1);
    await client.publishWithAck('t', 1, { expect: [] });
    const [request] = await socket.sent();
    assert.equal('expect' in request, false);
  });

  for (const [name, agreement] of [['older', { ...LEVEL_2, features: ['history'] }], ['on level 1', LEVEL_1]]) {
    test(`a server that is ${name} cannot tell`, async () => {
      const { client, socket } = await connected({}, agreement);
      const isRight = (error) => error instanceof Unsupported && error.feature === 'expect' && error.topic === 't';
      await assert.rejects(client.publishWithAck('t', 1, { expect: ['bob'] }), isRight);
      assert.deepEqual(await socket.sent(), []);
    });
  }

  test('they are ids, of the receivers of a topic', async () => {
    const { client, socket } = await connected({}, EXPECTING);
    for (const expect of ['bob', [5], [''], [, 'bob'], {}, 5]) {
      await assert.rejects(client.publishWithAck('t', 1, { expect }), InvalidArgument);
    }
    for (const attempt of [client.publishToIdWithAck('t', 1, { expect: ['bob'] }), client.request('t', 1, { expect: ['bob'] })]) {
      await assert.rejects(attempt, InvalidArgument);
    }
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('requests', () => {
  async function requesting(options, agreement) {
    const world = await connected({}, agreement);
    const outcome = outcomeOf(world.client.request('t', 'sweep', options));
    const [request] = await world.socket.sent();
    const says = async (action, fields) => {
      world.socket.says({ action, ack_id: request?.ack_id, ...fields });
      await settled();
    };
    return { ...world, outcome, request, says };
  }
  const failed = (error) => ({ success: false, error });

  test('the first result ends it, and the others are cancelled', async () => {
    const { outcome, request, says, socket } = await requesting({ timeout: 1500 });
    assert.equal(request.action, 'publish_with_ack');
    assert.equal(request.timeout, 1.5);
    await says('ack_update', { responses: { bob: failed('no broom') } });
    assert.equal(outcome.is, 'waits');
    await says('ack_update', { responses: { carol: { success: true, result: [1] } } });
    assert.deepEqual(outcome.is, [1]);
    assert.deepEqual(await socket.sent(), [{ action: 'cancel_ack', ack_id: request.ack_id }]);
  });

  test('nothing is cancelled when all have answered', async () => {
    const { outcome, says, socket } = await requesting({}, LEVEL_1);
    await says('ack_response', { responses: { bob: { success: true } } });
    assert.equal(outcome.is, undefined);
    assert.deepEqual(await socket.sent(), []);
  });

  test('to an id', async () => {
    const { client, socket } = await connected();
    const outcome = outcomeOf(client.requestToId('bob', 'psst', { timeout: 2000 }));
    const [{ ack_id: id, ...request }] = await socket.sent();
    assert.deepEqual(request, { action: 'publish_to_id_with_ack', to: 'bob', data: 'psst', timeout: 2, updates: true });
    socket.says({ action: 'ack_response', ack_id: id, responses: { bob: { success: true, result: 5 } } });
    await settled();
    assert.equal(outcome.is, 5);
  });

  for (const [name, responses] of [['nobody', {}], ['who has just left', { bob: failed('no subscriber for topic') }]]) {
    test(`${name} is nobody`, async () => {
      const { outcome, says } = await requesting();
      await says('ack_response', { responses });
      assert.ok(outcome.is instanceof NobodyThere, outcome.is);
    });
  }

  for (const [name, errors, message] of [
    ['of a receiver rather than that it left', { bob: 'timeout', carol: 'disconnected', dave: 'no broom' }, 'no broom'],
    ['that they left, if that is all', { bob: 'disconnected', carol: 'timeout' }, 'disconnected'],
    ['without what would look like another line of a log', { bob: 'a\nb' }, 'a\\u{a}b'],
    ['our own, if there is none', { bob: '' }, 'the request to t failed'],
  ]) {
    test(`if all fail, the text is one ${name}`, async () => {
      const { outcome, says } = await requesting();
      const responses = Object.fromEntries(Object.entries(errors).map(([id, error]) => [id, failed(error)]));
      await says('ack_response', { responses: { ...responses, eve: failed('no subscriber for topic') } });
      assert.ok(outcome.is instanceof RequestFailed, outcome.is);
      assert.equal(outcome.is.message, message);
      assert.deepEqual(outcome.is.errors, new Map(Object.entries(errors)));
      assert.equal(outcome.is.target, 't');
    });
  }

  test('if all are silent, its time is over', async () => {
    const { outcome, says } = await requesting();
    await says('ack_response', { missing: ['bob', 'carol'] });
    assert.ok(outcome.is instanceof RequestTimeout, outcome.is);
  });

  test('a lost connection and a refusal are what they are', async () => {
    const lost = await requesting();
    lost.socket.end(1006);
    await settled();
    assert.ok(lost.outcome.is instanceof ConnectionLost, lost.outcome.is);
    const refused = await requesting();
    await refused.says('error', { error: 'no', code: 'forbidden', request: 'publish_with_ack' });
    assert.equal(refused.outcome.is.code, 'forbidden');
    await assert.rejects((await offline()).client.request('t', 1), NotConnected);
  });

  test('who does not wait any more cancels it', async () => {
    const abort = new AbortController();
    const { outcome, request, socket } = await requesting({ signal: abort.signal });
    abort.abort('enough');
    assert.deepEqual(await socket.sent(), [{ action: 'cancel_ack', ack_id: request.ack_id }]);
    assert.equal(outcome.is, 'enough');
  });
});

describe('reconnecting', () => {
  test('waits longer each time, up to a maximum, half of it at random', async () => {
    for (const [chance, factor] of [[0, 1], [0.5, 0.75]]) {
      mock.method(Math, 'random', () => chance);
      const { sockets, errors } = await offline();
      const waits = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map((wait) => wait * factor);
      for (const [index, wait] of waits.entries()) {
        await pass(wait - 1);
        assert.equal(sockets.length, index + 1);
        await pass(1);
        assert.equal(sockets.length, index + 2);
        sockets.at(-1).fail('refused');
      }
      assert.equal(errors.length, waits.length);
      assert.ok(errors.every((error) => error instanceof ConnectFailed));
      await pass(30_000);
      for (const [life, wait] of [[29_999, 250], [0, 250], [0, 250], [0, 500], [0, 1000], [30_000, 250], [0, 250]]) {
        await welcome(sockets.at(-1), 'me');
        await pass(life);
        const before = sockets.length;
        sockets.at(-1).end();
        await pass(wait * factor - 1);
        assert.equal(sockets.length, before);
        await pass(1);
        assert.equal(sockets.length, before + 1, 'they start anew, but not behind the fourth that soon ends');
      }
      mock.restoreAll();
    }
  });

  test('a server that takes no message as long as the first one will never take it', async () => {
    const { sockets, WebSocket } = fakeNetwork();
    const opened = new Client('h', { WebSocket, id: 'x'.repeat(60_000), reconnect: 100 }).connect();
    await settled();
    sockets[0].open();
    sockets[0].end(1009, 'message too big');
    await assert.rejects(opened, (error) => error instanceof ConnectFailed && /id is too long/.test(error.message));
    await pass(60_000);
    assert.equal(sockets.length, 1);
  });

  test('a refusal is not final for a client that was connected before', async () => {
    const { sockets } = await offline({ reconnect: 100 });
    await pass(100);
    sockets[1].fail('Unexpected server response: 404');
    await pass(100);
    assert.equal(sockets.length, 3);
  });

  test('unless it says that this client may not connect', async () => {
    for (const status of [401, 403]) {
      const ends = [];
      const { client, sockets } = await offline({ reconnect: 100, onClose: (error) => ends.push(error) });
      const messages = client.subscribe('t');
      await pass(100);
      sockets[1].fail(`Unexpected server response: ${status}`);
      await pass(1000);
      assert.equal(sockets.length, 2);
      assert.deepEqual(ends.map((error) => [error.name, error.status]), [['ConnectFailed', status]]);
      await assert.rejects(messages.next(), { status });
    }
  });

  test('or a fixed time', async () => {
    const { sockets } = await offline({ reconnect: 3000 });
    for (let count = 2; count < 5; count++) {
      await pass(2999);
      assert.equal(sockets.length, count - 1);
      await pass(1);
      assert.equal(sockets.length, count);
      sockets.at(-1).fail('refused');
    }
  });

  test('or as the program wants', async () => {
    const { sockets } = await offline({ backoff: { first: 10, jitter: 0 } });
    await pass(10);
    assert.equal(sockets.length, 2);
  });

  test('the program is told, and asks for the same id and topics', async () => {
    const events = [];
    const { client, socket, sockets } = await connected({
      reconnect: 1000,
      onConnect: (event) => events.push(event),
      onDisconnect: (event) => events.push(event),
    });
    client.subscribe('t', () => {});
    client.subscribe('t', () => {});
    client.subscribe('gone', () => {}).unsubscribe();
    socket.end(1001, 'the server is stopping');
    assert.equal(client.connected, false);
    client.subscribe('u', () => {});
    await pass(1000);
    sockets[1].open();
    assert.deepEqual(await sockets[1].sent(), [{ action: 'ping', from: 'me', proto: 2 }]);
    sockets[1].says({ action: 'pong', id: 'me', ...LEVEL_1 });
    assert.deepEqual((await sockets[1].sent()).map(({ action, topic }) => [action, topic]), [['subscribe', 't'], ['subscribe', 'u']]);
    assert.equal(client.level, 1, 'each connection has its level');
    assert.deepEqual(events, [
      { id: 'me', level: 2, reconnected: false },
      { code: 1001, reason: 'the server is stopping', retryIn: 1000 },
      { id: 'me', level: 1, reconnected: true },
    ]);
  });

  test('the id that it asks for is the one that it had, also after a rename', async () => {
    const { client, socket, sockets } = await connected({ reconnect: 100 });
    for (const [index, rename] of [
      () => socket.says({ action: 'pong', id: 'renamed' }),
      () => welcome(sockets[1], 'given'),
    ].entries()) {
      await rename();
      const { id } = client;
      assert.equal(id, ['renamed', 'given'][index]);
      client.flush().catch(() => {});
      assert.equal((await sockets[index].sent()).at(-1).from, id);
      sockets[index].end();
      await pass(100);
      sockets[index + 1].open();
      assert.deepEqual(await sockets[index + 1].sent(), [{ action: 'ping', from: id, proto: 2 }]);
    }
  });

  test('awaiting a subscription does not wait for a connection', async () => {
    const { client, socket } = await connected();
    const pending = client.subscribe('t', () => {});
    const outcome = (async () => await pending)();
    socket.end();
    assert.equal((await outcome).topic, 't');
    assert.equal((await client.subscribe('u', () => {})).topic, 'u');
  });

  test('but is told when there will be none', async () => {
    const { client, socket } = await connected();
    const pending = client.subscribe('t', () => {});
    const outcome = assert.rejects(async () => { await pending; }, ClientClosed);
    socket.end(4001);
    await outcome;
  });

  test('who was replaced does not come back', async () => {
    const closed = [];
    const { client, socket, sockets } = await connected({ onClose: (error) => closed.push(error) });
    socket.end(4001, 'another connection took this id');
    await pass(60_000);
    assert.equal(sockets.length, 1);
    assert.equal(closed.length, 1);
    assert.equal(closed[0].code, 4001);
    await assert.rejects(client.publish('t', 1), ClientClosed);
    assert.throws(() => client.subscribe('t'), ClientClosed);
  });

  test('without reconnect the client ends with its connection', async () => {
    const closed = [];
    const { client, socket, sockets } = await connected({ reconnect: false, onClose: (error) => closed.push(error) });
    socket.end(1006);
    await pass(60_000);
    assert.equal(sockets.length, 1);
    assert.ok(closed[0] instanceof ConnectionLost);
    await client.close();
    assert.equal(closed.length, 1);
  });

  test('without a connection publishing is refused', async () => {
    const { client } = await offline();
    for (const attempt of [
      client.publish('t', 1), client.publishToId('bob', 1), client.publishToServer('h:1', 1),
      client.publishWithReceipt('t', 1), client.publishWithAck('t', 1), client.publishToIdWithAck('bob', 1),
      client.flush(),
    ]) {
      await assert.rejects(attempt, (error) => error instanceof NotConnected && !(error instanceof ClientClosed));
    }
  });

  test('or kept in the offline queue, which is bounded, and sent in order', async () => {
    const { client, sockets } = await offline({ reconnect: 100, offlineQueue: 3 });
    await client.publish('t', 1);
    await client.publishToId('bob', 2);
    await client.publish('t', 3);
    await assert.rejects(client.publish('t', 4), QueueFull);
    await assert.rejects(client.publishWithAck('t', 5), NotConnected);
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.deepEqual(await sockets[1].sent(), [
      { action: 'publish', topic: 't', data: 1 },
      { action: 'direct_message', to: 'bob', data: 2 },
      { action: 'publish', topic: 't', data: 3 },
    ]);
  });

  test('the offline queue is bounded in size as well', async () => {
    const { client, sockets } = await offline({ offlineQueue: 100, reconnect: 100 });
    const large = 'x'.repeat(4 * 1024 * 1024 - 3); // with the quotes and the topic 4 MiB
    for (let i = 0; i < 4; i++) await client.publish('t', large);
    await assert.rejects(client.publish('t', 1), QueueFull);
    await pass(100);
    await welcome(sockets[1], 'me', LEVEL_1);
    await settled();
    assert.equal(sockets[1].frames.length, 4);
    sockets[1].end();
    await client.publish('t', 1);
  });

  test('what was kept and is never sent is counted and reported', async () => {
    const { client, errors } = await offline({ offlineQueue: 3 });
    await client.publish('t', 1);
    await client.publish('t', 2);
    assert.equal(client.dropped, 0);
    await client.close();
    assert.match(errors.at(-1).message, /2 publications/);
    assert.equal(client.dropped, 2);
  });

  test('what was kept and is too large for the server is counted and reported, the rest is sent', async () => {
    const { client, sockets, errors } = await offline({ reconnect: 100, offlineQueue: 9 });
    await client.publish('t', 1);
    await client.publish('t', 'x'.repeat(1000));
    await client.publish('t', 'é'.repeat(300));
    await client.publish('t', 2);
    await client.publishToId('bob', 'x'.repeat(1000));
    await client.publishToId('bob', 3);
    await pass(100);
    await welcome(sockets[1], 'me', { proto: 2, limits: { max_message: 500 } });
    assert.deepEqual(await sockets[1].sent(), [
      { action: 'publish', topic: 't', batch: [1, 2] },
      { action: 'direct_message', to: 'bob', data: 3 },
    ]);
    assert.equal(client.dropped, 3);
    assert.deepEqual(errors.map(({ name }) => name), Array(3).fill('MessageTooLarge'));
    await client.publish('t', 4);
    assert.equal(client.dropped, 3);
  });
});

describe('heartbeat', () => {
  const pings = async (socket) => (await socket.sent()).filter(({ action }) => action === 'ping').length;

  test('asks after silence, and any message is an answer', async () => {
    const { client, socket } = await connected({}, { proto: 2, limits: { heartbeat: 10 } });
    await pass(9_750);
    assert.equal(await pings(socket), 0);
    socket.says({ action: 'subscribed', topic: 't' });
    await pass(9_750);
    assert.equal(await pings(socket), 0, 'the silence was interrupted');
    await pass(250);
    assert.equal(await pings(socket), 1);
    await pass(19_000);
    socket.says({ action: 'published', topic: 't' });
    await pass(9_750);
    assert.equal(client.connected, true);
    assert.equal(await pings(socket), 0);
    await pass(250);
    assert.equal(await pings(socket), 1);
  });

  test('25 seconds unless the server says otherwise', async () => {
    const { socket } = await connected({}, LEVEL_1);
    await pass(24_750);
    assert.equal(await pings(socket), 0);
    await pass(250);
    assert.equal(await pings(socket), 1);
  });

  test('a server that is silent for 20 seconds more is dropped', async () => {
    const left = [];
    const { client, socket, sockets } = await connected({ reconnect: 1000, onDisconnect: (event) => left.push(event) });
    await pass(44_750);
    assert.equal(client.connected, true);
    await pass(250);
    assert.equal(client.connected, false);
    assert.deepEqual(left, [{ code: 1006, reason: 'the server is silent', retryIn: 1000 }]);
    assert.equal(socket.closedWith, 'no code');
    await pass(1000);
    assert.equal(sockets.length, 2);
    socket.end(1006);
    socket.says({ action: 'pong', id: 'me' });
    await pass(10_000);
    assert.equal(left.length, 1, 'what the old connection still does means nothing');
  });

  test('its answer is nobody else\'s', async () => {
    const { client, socket } = await connected();
    await pass(25_000);
    const flushed = outcomeOf(client.flush());
    const [heartbeat, flush] = await socket.sent();
    socket.says({ action: 'pong', id: 'me', nonce: heartbeat.nonce });
    await settled();
    assert.equal(flushed.is, 'waits');
    socket.says({ action: 'pong', id: 'me', nonce: flush.nonce });
    await settled();
    assert.equal(flushed.is, undefined);
  });

  test('on level 1 it asks with what every server answers, and waits for nothing', async () => {
    const { client, socket } = await connected({}, LEVEL_1);
    await pass(25_000);
    const flushed = outcomeOf(client.flush());
    const [heartbeat] = await socket.sent();
    assert.deepEqual(heartbeat, { action: 'ping', from: 'me' });
    socket.says({ action: 'pong', id: 'me' });
    await settled();
    assert.equal(flushed.is, 'waits');
  });

  test('after sleep the server gets another chance, with a short time', async () => {
    const { client, socket } = await connected();
    await pass(25_000);
    assert.equal(await pings(socket), 1);
    mock.timers.tick(3_600_000);
    await settled();
    assert.equal(client.connected, true);
    assert.equal(await pings(socket), 1);
    await pass(4_750);
    assert.equal(client.connected, true);
    await pass(250);
    assert.equal(client.connected, false);
  });

  test('timers that are always late, as in a hidden page, do not keep a dead connection', async () => {
    const { client } = await connected();
    for (const connection of [true, true, false]) {
      mock.timers.tick(60_000);
      await settled();
      assert.equal(client.connected, connection);
    }
  });

  test('a clock that is set back does not stop it', async () => {
    const { socket } = await connected();
    const { now } = Date;
    mock.method(Date, 'now', () => now() - 3_600_000);
    await pass(25_000);
    assert.equal(await pings(socket), 1);
  });

  test('after sleep in the middle of silence the server is asked at once', async () => {
    const { client, socket } = await connected();
    await pass(5_000);
    mock.timers.tick(3_600_000);
    assert.equal(await pings(socket), 1);
    socket.says({ action: 'pong', id: 'me' });
    await pass(20_000);
    assert.equal(client.connected, true);
  });
});

describe('in a page', () => {
  let page;
  let shown;

  beforeEach(() => {
    page = new EventTarget();
    shown = Object.assign(new EventTarget(), { visibilityState: 'visible' });
    mock.method(page, 'addEventListener');
    mock.method(page, 'removeEventListener');
    mock.method(shown, 'addEventListener');
    mock.method(shown, 'removeEventListener');
    globalThis.addEventListener = page.addEventListener.bind(page);
    globalThis.removeEventListener = page.removeEventListener.bind(page);
    globalThis.document = shown;
    Object.defineProperty(globalThis, 'navigator', { value: { onLine: true }, configurable: true, writable: true });
  });

  afterEach(() => {
    for (const name of ['addEventListener', 'removeEventListener', 'document', 'navigator']) delete globalThis[name];
  });

  const online = () => page.dispatchEvent(new Event('online'));
  const turn = (state) => {
    shown.visibilityState = state;
    shown.dispatchEvent(new Event('visibilitychange'));
  };

  for (const [name, wake] of [['online', online], ['visible', () => turn('visible')]]) {
    test(`${name}: the server is asked at once, and has little time`, async () => {
      const { client, socket } = await connected();
      wake();
      assert.deepEqual((await socket.sent()).map(({ action, from }) => [action, from]), [['ping', 'me']]);
      await pass(4_750);
      assert.equal(client.connected, true);
      await pass(250);
      assert.equal(client.connected, false);
    });

    test(`${name}: an answer keeps the connection`, async () => {
      const { client, socket } = await connected();
      wake();
      await settled();
      socket.says({ action: 'pong', id: 'me' });
      await pass(20_000);
      assert.equal(client.connected, true);
    });

    test(`${name}: comes back at once, and only once`, async () => {
      const { sockets } = await offline({ reconnect: 10_000 });
      wake();
      wake();
      assert.equal(sockets.length, 2);
      await pass(9_000);
      assert.equal(sockets.length, 2);
      await welcome(sockets[1], 'me');
      await pass(9_000);
      assert.equal(sockets.length, 2, 'the former wait is forgotten');
    });
  }

  test('hidden is no reason for anything', async () => {
    const { socket } = await connected();
    turn('hidden');
    assert.deepEqual(await socket.sent(), []);
  });

  test('a machine that calls itself offline can have a server: attempts go on, `online` hurries', async () => {
    globalThis.navigator.onLine = false;
    const { sockets } = await offline({ reconnect: 10_000 });
    await pass(10_000);
    assert.equal(sockets.length, 2);
    sockets[1].fail('refused');
    await pass(1000);
    globalThis.navigator.onLine = true;
    online();
    assert.equal(sockets.length, 3);
  });

  test('all listeners are removed at the end', async () => {
    const abort = new AbortController();
    const removed = mock.method(abort.signal, 'removeEventListener');
    const { client, sockets, socket } = await connected({ signal: abort.signal });
    assert.equal(page.addEventListener.mock.callCount(), 1);
    assert.equal(shown.addEventListener.mock.callCount(), 1);
    client.close();
    socket.end(1000);
    for (const target of [page, shown]) {
      assert.deepEqual(
        target.removeEventListener.mock.calls.map((call) => call.arguments),
        target.addEventListener.mock.calls.map((call) => call.arguments),
      );
    }
    assert.equal(removed.mock.callCount(), 1);
    online();
    turn('visible');
    await pass(60_000);
    assert.equal(sockets.length, 1);
  });
});

describe('closing', () => {
  test('lets out what is queued, closes with 1000 and waits for the end', async () => {
    const closed = [];
    const { client, socket } = await connected({ onClose: (error) => closed.push(error) });
    client.publish('t', 1);
    const ack = await client.publishWithAck('t', 2);
    const lost = assert.rejects(ack.wait(), ClientClosed);
    let isClosed = false;
    client.close().then(() => { isClosed = true; });
    assert.deepEqual(JSON.parse(socket.frames[0]).map(({ action }) => action), ['publish', 'publish_with_ack']);
    assert.equal(socket.closedWith, 1000);
    await lost;
    assert.equal(isClosed, false);
    assert.equal(client.connected, false);
    await assert.rejects(client.publish('t', 3), ClientClosed);
    socket.end(1000);
    await settled();
    assert.equal(isClosed, true);
    assert.deepEqual(closed, [undefined]);
    await client.close();
    await assert.rejects(client.connect(), ClientClosed);
  });

  test('gives a silent server five seconds', async () => {
    const { client } = await connected();
    let isClosed = false;
    client.close().then(() => { isClosed = true; });
    await pass(4_750);
    assert.equal(isClosed, false);
    await pass(250);
    assert.equal(isClosed, true);
  });

  test('ends an attempt and a wait to connect', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const client = new Client('h', { WebSocket });
    const opened = client.connect();
    await settled();
    await client.close();
    await assert.rejects(opened, ClientClosed);
    assert.equal(sockets[0].closedWith, 'no code');
    const { client: other, sockets: others } = await offline();
    await other.close();
    await pass(60_000);
    assert.equal(others.length, 1);
    await new Client('h', { WebSocket }).close();
  });

  test('from a callback about the connection', async () => {
    const { socket, client, sockets } = await connected({ onDisconnect: () => client.close() });
    socket.end(1006);
    await client.close();
    await pass(60_000);
    assert.equal(sockets.length, 1);
  });

  test('by a signal, before or after connecting', async () => {
    const abort = new AbortController();
    const { client, socket } = await connected({ signal: abort.signal });
    abort.abort();
    assert.equal(socket.closedWith, 1000);
    socket.end(1000);
    await client.close();
    const { WebSocket, sockets } = fakeNetwork();
    await assert.rejects(Client.connect('h', { WebSocket, signal: abort.signal }), ClientClosed);
    assert.equal(sockets.length, 0);
  });

  test('leaves no timer', async () => {
    const timers = new Set();
    const { setTimeout: start, clearTimeout: stop } = globalThis;
    globalThis.setTimeout = (act, delay) => {
      const timer = start(() => { timers.delete(timer); act(); }, delay);
      timers.add(timer);
      return timer;
    };
    globalThis.clearTimeout = (timer) => { timers.delete(timer); stop(timer); };
    try {
      const { client, socket } = await connected();
      client.subscribe('t', () => {});
      client.unsubscribe('t');
      client.flush().catch(() => {});
      client.publishWithReceipt('t', 1).catch(() => {});
      const ack = await client.publishWithAck('t', 1);
      ack.status().catch(() => {});
      assert.ok(timers.size > 5);
      client.close();
      socket.end(1000);
      await settled();
      assert.equal(timers.size, 0);
    } finally {
      Object.assign(globalThis, { setTimeout: start, clearTimeout: stop });
    }
  });
});

describe('the unified spelling', () => {
  async function unified(options = {}) {
    const { WebSocket, sockets } = fakeNetwork();
    const original = globalThis.WebSocket;
    globalThis.WebSocket = WebSocket;
    try {
      const opened = Client.NewClient({ Address: 'h:1', Id: 'me', ...options });
      await settled();
      await welcome(sockets[0], 'me');
      return { client: await opened, socket: sockets[0], sockets };
    } finally {
      globalThis.WebSocket = original;
    }
  }

  test('NewClient', async () => {
    const got = [];
    const { client, socket, sockets } = await unified({
      Path: '/x', Secure: true, OnDataWs: (data, conn) => got.push([data, conn]),
      OnId: (data, unsub) => { got.push([data, typeof unsub]); },
      OnOpen: () => got.push('open'), OnClose: () => got.push('close'),
    });
    assert.equal(socket.url, 'wss://h:1/x');
    const direct = { action: 'direct_message', from: 'bob', data: 1 };
    socket.says(direct);
    socket.end();
    assert.deepEqual(got.slice(1), ['open', [direct, client], [{ data: 1, from: 'bob' }, 'function'], 'close']);
    assert.equal(sockets.length, 1);
  });

  for (const name of ['AutoRestart', 'Autorestart']) {
    test(`${name} comes back, after RestartEvery milliseconds`, async () => {
      for (const [options, wait] of [[{}, 10_000], [{ RestartEvery: 2000 }, 2000]]) {
        const { socket, sockets } = await unified({ [name]: true, ...options });
        socket.end();
        await pass(wait - 1);
        assert.equal(sockets.length, 1);
        await pass(1);
        assert.equal(sockets.length, 2);
      }
    });
  }

  test('Subscribe gives a function that unsubscribes, at once or when awaited', async () => {
    const { client, socket } = await unified();
    const got = [];
    const unsubscribe = client.Subscribe('t', (data, unsub) => { got.push([data, unsub]); });
    const awaited = (async () => await unsubscribe)();
    socket.says({ action: 'publish', topic: 't', from: 'bob', data: 1 });
    assert.deepEqual(got, [[{ data: 1, from: 'bob' }, unsubscribe]]);
    socket.says({ action: 'subscribed', topic: 't' });
    assert.equal(await awaited, unsubscribe);
    got[0][1]();
    client.Subscribe('u', () => {});
    client.Unsubscribe('u');
    assert.deepEqual((await socket.sent()).map(({ action, topic }) => `${action} ${topic}`), ['subscribe t', 'unsubscribe t', 'subscribe u', 'unsubscribe u']);
  });

  test('publishing', async () => {
    const { client, socket } = await unified();
    await client.Publish('t', 1);
    await client.PublishToID('bob', 2);
    await client.PublishToServer('h:2', 3);
    assert.deepEqual(await socket.sent(), [
      { action: 'publish', topic: 't', data: 1 },
      { action: 'direct_message', to: 'bob', data: 2 },
      { action: 'publish_to_server', to: 'h:2', status: { is_secure: false }, data: 3 },
    ]);
  });

  test('acks', async () => {
    const { client, socket } = await unified();
    const ack = await client.PublishWithAck('t', 1, 2000);
    const direct = client.PublishToIDWithAck('bob', 2);
    assert.deepEqual((await socket.sent()).map(({ timeout }) => timeout), [2, 5]);
    const status = ack.GetStatus();
    const complete = ack.IsComplete();
    socket.says(...Array(2).fill({ action: 'ack_status', ack_id: ack.id, status: { bob: true } }));
    assert.deepEqual(await status, { bob: true });
    assert.equal(await complete, true);
    const response = { ack_id: ack.id, client_id: 'bob', success: true, result: 5 };
    socket.says({ action: 'ack_response', ack_id: ack.id, responses: { bob: { success: true, result: 5 } } });
    assert.deepEqual(await ack.Wait(), { bob: response });
    assert.deepEqual(await ack.WaitAny(), { response, success: true });
    direct.Cancel();
    assert.deepEqual(await direct.WaitAny(), { response: {}, success: false });
  });

  test('what fails without being awaited is reported, and ends no process', async () => {
    const shown = mock.method(console, 'error', () => {});
    const { client, socket } = await unified({ AutoRestart: true });
    socket.end();
    client.Publish('t', 1);
    client.PublishToID('bob', 1);
    client.PublishToServer('h:2', 1);
    await settled();
    assert.equal(shown.mock.callCount(), 3);
    assert.throws(() => client.PublishWithAck('t', 1), NotConnected);
  });

  test('the names of the family', async () => {
    const { client } = await unified();
    assert.equal(client.Id, 'me');
    assert.ok(client.PublishWithAck('t', 1) instanceof ClientAck);
    assert.ok(await client.publishToIdWithAck('bob', 1) instanceof ClientAck);
    const subscription = client.subscribe('t');
    assert.ok(subscription instanceof ClientSubscription);
    assert.ok(subscription instanceof ClientSubscriber);
    assert.deepEqual([ClientAck, ClientSubscription, ClientSubscriber], [Ack, Subscription, Subscription]);
  });

  test('Close, Run and OnClose', async () => {
    const { client, socket } = await unified();
    let closes = 0;
    client.OnClose(() => { closes++; });
    const run = client.Run();
    const close = client.Close();
    socket.end(1000);
    await Promise.all([run, close]);
    assert.equal(closes, 1);
  });
});

test('errors have names that survive minifiers, and a hierarchy', () => {
  for (const type of [ClientClosed, ConnectFailed, ConnectionLost, InvalidArgument, MessageTooLarge, NotConnected, QueueFull, RequestTimeout, ServerError, Unsupported]) {
    const error = new type('x');
    assert.equal(error.name, type.name);
    assert.ok(error instanceof KPSError);
    assert.ok(error instanceof Error);
  }
  assert.ok(new MessageTooLarge('x') instanceof InvalidArgument);
  assert.ok(new ClientClosed('x') instanceof NotConnected);
});

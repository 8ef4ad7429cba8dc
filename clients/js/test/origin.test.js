// A page of another origin than the server's learns why it may not connect.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Client } from '../kps.js';
import { fakeNetwork, outcomeOf, pass, settled, welcome } from './fake.js';

const ADVICE = 'pages of http://localhost:8000 may not connect: start the server with --origin http://localhost:8000';
const original = globalThis.fetch;
let asked; // the arguments of each call of fetch
let warnings;

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 });
  globalThis.location = new URL('http://localhost:8000/page.html');
  warnings = [];
  mock.method(console, 'warn', (...words) => warnings.push(words.join(' ')));
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  delete globalThis.location;
  globalThis.fetch = original;
});

/** Have `fetch` do that, once it is called. */
function answering(act) {
  asked = [];
  globalThis.fetch = async (...values) => {
    asked.push(values);
    return act();
  };
}

const refusing = (text = `${ADVICE}\n`, status = 403) => answering(() => new Response(text, { status }));

/** A client whose first connection is under way. */
async function connecting(address = 'localhost:9313', options = {}) {
  const { WebSocket, sockets } = fakeNetwork();
  const errors = [];
  const client = new Client(address, { WebSocket, reconnect: 100, onError: (error) => errors.push(error), ...options });
  const outcome = outcomeOf(client.connect());
  await settled();
  return { client, sockets, errors, outcome };
}

/** Let the first connection fail, as a browser tells it, and time pass. */
async function failed(world) {
  world.sockets[0].onerror?.({});
  world.sockets[0].end();
  await settled();
  await settled();
  await pass(1000, 100);
  return world;
}

describe('the answer of the server', () => {
  test('is the error, and a warning, and the end', async () => {
    refusing();
    const { sockets, errors, outcome } = await failed(await connecting('ws://localhost:9313/ws/bus?token=secret'));
    assert.equal(outcome.is.name, 'ConnectFailed');
    assert.equal(outcome.is.status, 403);
    assert.ok(outcome.is.message.endsWith(ADVICE), outcome.is.message);
    assert.equal(warnings.length, 1);
    assert.ok(warnings[0].endsWith(ADVICE));
    assert.deepEqual([sockets.length, errors], [1, []]);
    assert.equal(asked.length, 1);
    const [[url, { credentials, redirect }]] = asked;
    assert.deepEqual([url, credentials, redirect], ['http://localhost:9313/ws/bus', 'omit', 'error']);
  });

  test('comes from where the WebSocket is', async () => {
    refusing();
    await failed(await connecting('wss://bus.example/x'));
    assert.equal(asked[0][0], 'https://bus.example/x');
  });

  test('is told also where the client does not reconnect', async () => {
    refusing();
    const { outcome } = await failed(await connecting('h', { reconnect: false }));
    assert.equal(outcome.is.status, 403);
  });

  test('is cut short, and cannot look like another line', async () => {
    refusing(`one\nkps: two\u202e${'x'.repeat(100_000)}`);
    const { outcome } = await failed(await connecting());
    assert.ok(outcome.is.message.includes('one\\u{a}kps: two\\u{202e}x'));
    assert.ok(outcome.is.message.length < 2000);
    assert.ok(warnings[0].length < 2000);
  });

  test('is read to its end only if it is short', async () => {
    let pulls = 0;
    const endless = { pull(stream) { pulls++; stream.enqueue(new TextEncoder().encode('no ')); } };
    answering(() => new Response(new ReadableStream(endless), { status: 403 }));
    const { outcome } = await failed(await connecting());
    assert.ok(outcome.is.message.endsWith(': server response: 403, no'), outcome.is.message);
    assert.ok(pulls < 5);
  });
});

describe('it is asked once', () => {
  for (const [what, act] of [
    ['that is not there', () => { throw new TypeError('Failed to fetch'); }],
    ['of another kind', () => new Response('not found', { status: 404 })],
    ['that refuses without a word', () => new Response(null, { status: 403 })],
  ]) {
    test(`a server ${what}: the client goes on as ever`, async () => {
      answering(act);
      const world = await failed(await connecting());
      assert.equal(world.outcome.is, 'waits');
      assert.equal(world.errors.length, 1);
      assert.match(world.errors[0].message, /the WebSocket does not tell why$/);
      for (let count = 1; count < 4; count++) {
        world.sockets.at(-1).end();
        await pass(200, 100);
      }
      assert.equal(world.errors.length, 4);
      assert.deepEqual([asked.length, warnings], [1, []]);
    });
  }

  test('by the time of the answer the program may have closed the client', async () => {
    let respond;
    answering(() => new Promise((resolve) => { respond = resolve; }));
    const { client, sockets, errors, outcome } = await failed(await connecting());
    assert.equal(sockets.length, 1);
    await client.close();
    assert.equal(outcome.is.name, 'ClientClosed');
    respond(new Response(ADVICE, { status: 403 }));
    await pass(1000, 100);
    assert.deepEqual([sockets.length, errors], [1, []]);
  });

  test('meanwhile there is no other attempt, also if the network comes back', async () => {
    let respond;
    answering(() => new Promise((resolve) => { respond = resolve; }));
    const listeners = [];
    globalThis.addEventListener = (event, act) => event === 'online' && listeners.push(act);
    const { sockets, outcome } = await failed(await connecting());
    delete globalThis.addEventListener;
    for (const act of listeners) act();
    await settled();
    assert.equal(sockets.length, 1);
    respond(new Response(ADVICE, { status: 403 }));
    await pass(100, 100);
    assert.equal(outcome.is.status, 403);
  });

  test('not if the client was connected before', async () => {
    refusing();
    const { sockets, errors } = await connecting();
    await welcome(sockets[0], 'me');
    sockets[0].end();
    await pass(200, 100);
    sockets[1].end();
    await pass(200, 100);
    assert.deepEqual([asked, sockets.length, errors.length], [[], 3, 1]);
  });
});

describe('nobody is asked', () => {
  const isNotAsked = async (address, end = (socket) => socket.end()) => {
    refusing();
    const world = await connecting(address);
    end(world.sockets[0]);
    await pass(1000, 100);
    assert.equal(world.errors.length, 1);
    assert.deepEqual(asked, []);
  };

  test('by a page of the server', () => isNotAsked('localhost:8000'));

  test('by a page of the server, by the port of its scheme', async () => {
    globalThis.location = new URL('https://bus.example/');
    await isNotAsked('wss://bus.example:443/x');
  });

  test('outside a page', async () => {
    delete globalThis.location;
    await isNotAsked('localhost:9313');
  });

  test('about what the WebSocket tells', () => isNotAsked('h', (socket) => socket.fail('connection refused')));

  test('about a close code', () => isNotAsked('h', (socket) => socket.end(1011)));
});

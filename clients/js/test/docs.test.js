// The hook for React that docs/web.md shows.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';

import { Client, ServerError } from '../kps.js';
import { fakeNetwork, settled, welcome } from './fake.js';

const page = readFileSync(new URL('../../../docs/web.md', import.meta.url), 'utf8');
const [source] = /import \{ useEffect[\s\S]*?(?=```)/.exec(page);
const { WebSocket: original } = globalThis;
let network;
let load;

/** A React with one component. */
const react = { useState: () => [undefined, (value) => react.shown.push(value)], useEffect: (effect) => { react.effect = effect; } };

before(() => {
  globalThis.kpsDocs = { react, client: { Client } };
  const code = source
    .replace("import { useEffect, useState } from 'react'", 'const { useEffect, useState } = globalThis.kpsDocs.react')
    .replace("import { Client } from 'kps-client'", 'const { Client } = globalThis.kpsDocs.client');
  let count = 0;
  load = () => import(`data:text/javascript,${encodeURIComponent(`${code}// ${count++}`)}`);
});

beforeEach(() => {
  network = fakeNetwork();
  globalThis.WebSocket = network.WebSocket;
  react.shown = [];
});

after(() => {
  delete globalThis.kpsDocs;
  globalThis.WebSocket = original;
});

test('importing it opens nothing, also where there is no WebSocket', async () => {
  delete globalThis.WebSocket;
  await load();
  assert.equal(network.sockets.length, 0);
});

test('it shows messages, and a refused topic does no harm', async (t) => {
  const told = [];
  t.mock.method(console, 'error', (error) => told.push(error));
  const { useTopic } = await load();
  useTopic('news');
  react.effect()(); // in development React does everything twice
  const leave = react.effect();
  await settled();
  const [socket] = network.sockets;
  await welcome(socket, 'me');
  assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 'news' }]);
  socket.says({ action: 'subscribed', topic: 'news' }, { action: 'publish', topic: 'news', data: 1, from: 'bob' });
  assert.deepEqual(react.shown.map(({ data }) => data), [1]);
  useTopic('secret');
  react.effect();
  socket.says({ action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 'secret' });
  await settled();
  assert.ok(told.some((error) => error instanceof ServerError));
  leave();
  assert.deepEqual((await socket.sent()).at(-1), { action: 'unsubscribe', topic: 'news' });
  assert.equal(network.sockets.length, 1);
  // Nothing holds the test back: the client has no timer of its own but the heartbeat's.
  socket.end(4001);
});

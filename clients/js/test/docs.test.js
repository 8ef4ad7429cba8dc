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
let rendered; // the component that is being rendered

/** What the hook uses of React, for the component that is being rendered. */
const react = {
  useState: () => [rendered.state, (state) => { rendered.state = state; }],
  useEffect: (effect, dependencies) => { rendered.effects.push([effect, ...dependencies]); },
};

/** A component with one hook. A server renders it, and a page runs the effect then, in strict mode twice. */
class Component {
  state;
  effects = [];
  leave = () => {};

  constructor(hook) {
    this.hook = hook;
  }

  render(topic) {
    rendered = this;
    return this.hook(topic);
  }

  show(topic, { isStrict = false } = {}) {
    this.render(topic);
    const [[, before], [effect, now]] = [[], ...this.effects].slice(-2);
    if (before === now) return;
    for (let runs = isStrict ? 2 : 1; runs; runs--) {
      this.leave();
      this.leave = effect();
    }
  }
}

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
});

after(() => {
  delete globalThis.kpsDocs;
  globalThis.WebSocket = original;
});

test('importing it opens nothing, nor does rendering on a server, also where there is no WebSocket', async () => {
  delete globalThis.WebSocket;
  const { useTopic } = await load();
  assert.equal(new Component(useTopic).render('news'), undefined);
  assert.equal(network.sockets.length, 0);
});

test('in strict mode there is one connection, and one subscription', async () => {
  const { useTopic } = await load();
  const component = new Component(useTopic);
  component.show('news', { isStrict: true });
  await settled();
  const [socket] = network.sockets;
  await welcome(socket, 'me');
  assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 'news' }]);
  socket.says({ action: 'subscribed', topic: 'news' }, { action: 'publish', topic: 'news', data: 1, from: 'bob' });
  assert.equal(component.render('news').data, 1);
  const other = new Component(useTopic);
  other.show('weather', { isStrict: true });
  assert.deepEqual((await socket.sent()).map(({ action, topic }) => [action, topic]), [
    ['subscribe', 'weather'], ['unsubscribe', 'weather'], ['subscribe', 'weather'],
  ]);
  assert.equal(network.sockets.length, 1);
  socket.end(4001); // or the heartbeat would hold the test back
});

test('it shows messages of its topic, and a refused one does no harm', async (t) => {
  const told = [];
  t.mock.method(console, 'error', (error) => told.push(error));
  const { useTopic } = await load();
  const component = new Component(useTopic);
  component.show('news');
  await settled();
  const [socket] = network.sockets;
  await welcome(socket, 'me');
  socket.says({ action: 'subscribed', topic: 'news' }, { action: 'publish', topic: 'news', data: 1, from: 'bob' });
  component.show('news');
  assert.equal(component.render('news').data, 1);
  await socket.sent();
  component.show('secret');
  assert.equal(component.render('secret'), undefined, 'not what the topic before had');
  assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 'news' }, { action: 'subscribe', topic: 'secret' }]);
  socket.says({ action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 'secret' });
  await settled();
  assert.ok(told.some((error) => error instanceof ServerError));
  component.leave();
  assert.deepEqual(await socket.sent(), []);
  socket.end(4001);
});

// The client against `kps serve`.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import WebSocket, { WebSocketServer } from 'ws';

import { Client, ClientClosed, ConnectFailed, ConnectionLost, MessageTooLarge, ServerError } from '../kps.js';
import { serve } from './kps-serve.js';

let server;
before(async () => { server = await serve('--id', 'hub', '--max-message', '100000', '--relay-to', '*'); });
after(() => server.stop());

/** A client that is closed when the test is over. */
async function connect(t, options) {
  const client = new Client(server.url, { WebSocket, onError: () => {}, ...options });
  t.after(() => client.close());
  return client.connect();
}

/** A server of the original's kind, which knows level 1 only: a `kps serve` behind a filter. */
async function originalServer(t) {
  const proxy = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  proxy.on('connection', (down) => {
    const up = new WebSocket(server.url);
    const opened = new Promise((resolve) => { up.once('open', resolve); });
    down.on('message', async (data) => {
      await opened;
      up.send(JSON.stringify({ ...JSON.parse(data), proto: undefined }));
    });
    up.on('message', (data) => down.send(String(data)));
    down.on('close', () => up.close());
    up.on('close', () => down.close());
  });
  await new Promise((resolve) => { proxy.once('listening', resolve); });
  t.after(() => {
    for (const client of proxy.clients) client.terminate();
    return new Promise((resolve) => { proxy.close(resolve); });
  });
  return `ws://127.0.0.1:${proxy.address().port}`;
}

for (const level of [2, 1]) {
  describe(`level ${level}`, () => {
    async function pair(t) {
      if (level === 2) return Promise.all([connect(t, { id: 'alice' }), connect(t, { id: 'bob' })]);
      const url = await originalServer(t);
      return Promise.all(['alice', 'bob'].map(async (id) => {
        const client = new Client(url, { WebSocket, id, onError: () => {} });
        t.after(() => client.close());
        return client.connect();
      }));
    }

    test('publishing and subscribing', async (t) => {
      const [alice, bob] = await pair(t);
      assert.equal(alice.level, level);
      const got = [];
      await bob.subscribe('news', (message) => { got.push({ ...message }); });
      const payloads = [1, { data: 5 }, null, '', 'é😀', [[]], { b: 1, a: 2 }, false];
      for (const data of payloads) await alice.publish('news', data);
      await alice.flush();
      await bob.flush();
      assert.deepEqual(got, payloads.map((data) => ({ topic: 'news', data, from: 'alice' })));
    });

    test('many messages keep their order', async (t) => {
      const [alice, bob] = await pair(t);
      const messages = await bob.subscribe('many');
      const sending = (async () => {
        for (let i = 0; i < 20_000; i++) await alice.publish('many', i);
      })();
      let next = 0;
      for await (const { data } of messages) {
        assert.equal(data, next++);
        if (next === 20_000) break;
      }
      await sending;
    });

    test('direct messages, also to nobody', async (t) => {
      const [alice, bob] = await pair(t);
      const errors = [];
      const carol = new Client(server.url, {
        WebSocket, id: 'carol', onDirect: ({ from, data }) => bob.publishToId(from, data + 1), onError: (error) => errors.push(error),
      });
      t.after(() => carol.close());
      await carol.connect();
      await alice.publishToId('carol', 1);
      await carol.publishToId('nobody', 1);
      await carol.flush();
      assert.match(errors[0].message, /no client has the id nobody/);
    });

    test('acks: handled, failed, nobody', async (t) => {
      const [alice, bob] = await pair(t);
      await bob.subscribe('jobs', async ({ data }) => {
        await sleep(5);
        if (data === 'fail') throw new Error('no "broom"');
        return { did: data };
      });
      const result = level === 2 ? { result: { did: 'sweep' } } : {};
      const ack = await alice.publishWithAck('jobs', 'sweep');
      assert.deepEqual(await ack.wait(), new Map([['bob', { clientId: 'bob', success: true, ...result }]]));
      assert.equal(await ack.isComplete(), true);
      const failed = await (await alice.publishWithAck('jobs', 'fail')).waitAny();
      assert.deepEqual(failed, { clientId: 'bob', success: false, error: 'no "broom"' });
      assert.equal((await (await alice.publishWithAck('nobody', 1)).wait()).size, 0);
      assert.equal(await (await alice.publishToIdWithAck('nobody', 1)).waitAny(), undefined);
    });

    test('acks: who does not answer in time, who leaves, and cancelling', async (t) => {
      const [alice, bob] = await pair(t);
      for (const topic of ['slow', 'lost']) await bob.subscribe(topic, () => new Promise(() => {}));
      const ack = await alice.publishWithAck('slow', 1, { timeout: 50 });
      assert.deepEqual(await ack.wait(), new Map([['bob', { clientId: 'bob', success: false, error: 'timeout' }]]));
      const lost = await alice.publishWithAck('lost', 1);
      assert.deepEqual(await lost.status(), new Map([['bob', false]]));
      assert.equal(await lost.isComplete(), false);
      const cancelled = await alice.publishWithAck('slow', 1);
      await cancelled.cancel();
      assert.equal((await cancelled.wait()).size, 0);
      await bob.close();
      assert.equal((await lost.waitAny()).error, 'disconnected');
    });

    test('the unified spelling', async (t) => {
      const [alice, bob] = await pair(t);
      const got = [];
      const unsubscribe = await bob.Subscribe('events', (data, unsub) => { got.push([data, unsub]); });
      const ack = await alice.PublishWithAck('events', 'From JavaScript!', 3000);
      const responses = await ack.Wait();
      assert.equal(responses.bob.success, true);
      assert.equal(responses.bob.client_id, 'bob');
      assert.deepEqual(got, [[{ data: 'From JavaScript!', from: 'alice' }, unsubscribe]]);
      unsubscribe();
      await bob.flush();
      assert.deepEqual(await (await alice.PublishWithAck('events', 1)).Wait(), {});
    });

    test('receipts', async (t) => {
      const [alice, bob] = await pair(t);
      await bob.subscribe('r', () => {});
      await alice.subscribe('r', () => {});
      assert.equal(await alice.publishWithReceipt('r', 1), level === 2 ? 2 : undefined);
    });
  });
}

describe('level 2 alone', () => {
  test('outcomes come one by one', async (t) => {
    const alice = await connect(t, { id: 'alice' });
    const bob = await connect(t, { id: 'bob' });
    const carol = await connect(t, { id: 'carol' });
    let finish;
    await bob.subscribe('jobs', () => 'bob is done');
    await carol.subscribe('jobs', () => new Promise((resolve) => { finish = resolve; }));
    const got = [];
    for await (const { clientId, result } of await alice.publishWithAck('jobs', 1)) {
      got.push([clientId, result]);
      if (clientId === 'bob') finish('carol too');
    }
    assert.deepEqual(got, [['bob', 'bob is done'], ['carol', 'carol too']]);
  });

  test('what is too large is refused, not sent', async (t) => {
    const alice = await connect(t);
    await assert.rejects(alice.publish('t', 'x'.repeat(100_000)), MessageTooLarge);
    await alice.publish('t', 'x'.repeat(99_000));
    await alice.flush();
  });

  test('what is nested too deeply harms no other message', async (t) => {
    const errors = [];
    const alice = await connect(t, { onError: (error) => errors.push(error) });
    const got = [];
    await alice.subscribe('t', ({ data }) => { got.push(data); });
    const deep = (levels) => JSON.parse('['.repeat(levels) + ']'.repeat(levels));
    const sent = [alice.publish('t', 1), alice.publish('t', deep(300)), alice.publish('t', deep(3000)), alice.publish('t', 2)];
    await Promise.all(sent);
    await alice.flush();
    assert.deepEqual(got, [1, 2]);
    assert.deepEqual(errors.map(({ code }) => code), ['bad_message', 'bad_message']);
    await assert.rejects(alice.publishWithReceipt('t', deep(300)), ServerError);
  });
});

test('a message to another server, which is the same one', async (t) => {
  const alice = await connect(t, { id: 'alice' });
  const got = new Promise((resolve) => { alice.subscribe('news', resolve); });
  const { host } = new URL(server.url);
  await alice.publishToServer(host, { topic: 'news', data: 5 });
  const { data, from } = await got;
  assert.equal(data, 5);
  assert.match(from, /^alice---ws:/);
});

test('a server that restarts: back by itself, with its subscriptions', async (t) => {
  const first = await serve();
  t.after(first.stop);
  const { host } = new URL(first.url);
  const events = [];
  const client = new Client(first.url, {
    WebSocket, reconnect: 50, onError: () => {},
    onConnect: () => events.push('connect'), onDisconnect: ({ code }) => events.push(code),
  });
  t.after(() => client.close());
  await client.connect();
  const got = [];
  await client.subscribe('t', ({ data }) => { got.push(data); return new Promise(() => {}); });
  const ack = await client.publishWithAck('t', 1);
  const lost = assert.rejects(ack.wait(), ConnectionLost);
  await first.stop();
  await lost;
  const second = await serve('--address', host);
  t.after(second.stop);
  const deadline = Date.now() + 10_000;
  while (!client.connected && Date.now() < deadline) await sleep(10);
  assert.deepEqual(events, ['connect', 1001, 'connect']);
  assert.equal(await client.publishWithReceipt('t', 2), 1);
});

test('a callback that is slower than the publisher loses nothing: the client reads no faster', async (t) => {
  const errors = [];
  const fast = await connect(t);
  const count = 90_000; // more than a mailbox takes
  let handled = 0;
  let isInOrder = true;
  let end;
  const done = new Promise((resolve) => { end = resolve; });
  const slow = await connect(t, { onError: (error) => end(errors.push(error)) });
  await slow.subscribe('numbers', async ({ data }) => {
    await new Promise(setImmediate);
    isInOrder &&= data === handled;
    if (++handled === count) end();
  });
  for (let number = 0; number < count; number++) {
    await fast.publish('numbers', number);
    if (number % 5000 === 0) await fast.flush(); // the server's queue has a bound, too
  }
  await done;
  assert.equal(isInOrder, true);
  assert.deepEqual(errors, []);
});

test('a server that refuses what comes too fast: all topics, new or restored, come through', async (t) => {
  const busy = await serve('--message-rate', '50', '--rate-policy', 'error');
  t.after(() => busy.stop());
  const sockets = [];
  class Recorded extends WebSocket {
    constructor(...values) {
      super(...values);
      sockets.push(this);
    }
  }
  const errors = [];
  const onError = (error) => errors.push(error);
  const client = await Client.connect(busy.url, { WebSocket: Recorded, reconnect: 10, onError });
  t.after(() => client.close());
  const topics = Array.from({ length: 120 }, (_, i) => `topic ${i}`);
  await Promise.all(topics.map((topic) => client.subscribe(topic, () => {})));
  errors.length = 0;
  sockets[0].terminate();
  const health = `${busy.url.replace(/^ws/, 'http').replace('/ws/bus', '')}/healthz`;
  const deadline = Date.now() + 20_000;
  let restored = 0;
  while (restored < topics.length && Date.now() < deadline) {
    await sleep(50);
    const { clients, topics: count } = await (await fetch(health)).json();
    restored = sockets.length > 1 && clients === 1 ? count : 0;
  }
  assert.equal(restored, topics.length);
  const refused = errors.filter((error) => error instanceof ServerError);
  assert.ok(refused.length > 0 && refused.every(({ isTemporary }) => isTemporary));
  assert.equal(new Set(refused.map(({ topic }) => topic)).size, refused.length, 'each was told once');
});

test('who is replaced under its id does not come back', async (t) => {
  const closed = new Promise((resolve) => { connect(t, { id: 'twin', onClose: resolve }); });
  await sleep(50);
  const second = await connect(t, { id: 'twin' });
  assert.equal((await closed).code, 4001);
  await sleep(300);
  assert.equal(second.connected, true);
});

test('refusals', async (t) => {
  const options = { WebSocket, onError: () => {} };
  await assert.rejects(Client.connect(server.url.replace('/ws/bus', '/elsewhere'), options), { name: 'ConnectFailed', status: 404 });
  await assert.rejects(Client.connect(server.url, { ...options, id: 'hub' }), ServerError);
  const free = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => { free.once('listening', resolve); });
  const { port } = free.address();
  await new Promise((resolve) => { free.close(resolve); });
  await assert.rejects(Client.connect(`127.0.0.1:${port}`, { ...options, reconnect: false }), ConnectFailed);
});

test('a server that wants tokens', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'kps-'));
  t.after(() => rm(folder, { recursive: true }));
  const tokens = join(folder, 'tokens.toml');
  await writeFile(tokens, '[me]\ntoken = "a-token-of-my-own"\nsubscribe = ["news"]\n', { mode: 0o600 });
  const guarded = await serve('--tokens', tokens);
  t.after(() => guarded.stop());
  const open = (options) => Client.connect(guarded.url, { WebSocket, requestTimeout: 600_000, ...options });
  for (const [token, message] of [['wrong', 'the token is not valid'], [undefined, 'a token is needed']]) {
    await assert.rejects(open({ token }), { name: 'ServerError', message });
  }
  const headers = { authorization: 'Bearer wrong' };
  await assert.rejects(open({ headers }), { name: 'ConnectFailed', status: 401 });
  const client = await open({ token: async () => 'a-token-of-my-own' });
  t.after(() => client.close());
  await client.subscribe('news', () => {});
  await assert.rejects(async () => { await client.subscribe('other'); }, { code: 'forbidden', request: 'subscribe', topic: 'other' });
});

test('headers are sent', async (t) => {
  const seen = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await new Promise((resolve) => { seen.once('listening', resolve); });
  t.after(() => { seen.close(); });
  const header = new Promise((resolve) => {
    seen.on('connection', (socket, request) => {
      resolve(request.headers.authorization);
      socket.terminate();
    });
  });
  const address = `127.0.0.1:${seen.address().port}`;
  await Client.connect(address, { WebSocket, headers: { authorization: 'Bearer x' }, reconnect: false }).catch(() => {});
  assert.equal(await header, 'Bearer x');
});

test('closing while the attempt is under way', async (t) => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => { silent.once('listening', resolve); });
  t.after(() => { silent.close(); });
  const client = new Client(`127.0.0.1:${silent.address().port}`, { WebSocket });
  const opened = client.connect();
  await sleep(20);
  await client.close();
  await assert.rejects(opened, ClientClosed);
});

test('a process ends by itself once its client is closed, with either kind of WebSocket', async () => {
  const program = (source) => `
    import { Client } from ${JSON.stringify(new URL('../kps.js', import.meta.url).href)};
    import ws from ${JSON.stringify(import.meta.resolve('ws'))};
    const client = await Client.connect(process.argv[1], { WebSocket: ${source} });
    await client.subscribe('t', () => {});
    const ack = await client.publishWithAck('t', 1);
    await ack.wait();
    await client.close();
    console.log('level', 2, ack.id.length > 10);
  `;
  const run = promisify(execFile);
  for (const [source, flags] of [['ws', []], ['globalThis.WebSocket', ['--experimental-websocket', '--no-warnings']]]) {
    const began = Date.now();
    const { stdout } = await run(process.execPath, [...flags, '--input-type=module', '-e', program(source), server.url], { timeout: 20_000 });
    assert.equal(stdout, 'level 2 true\n');
    assert.ok(Date.now() - began < 4000, 'something kept it alive');
  }
});

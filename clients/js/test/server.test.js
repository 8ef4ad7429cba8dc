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

import { Client, ClientClosed, ConnectFailed, ConnectionLost, MessageTooLarge, NobodyThere, Pattern, RequestFailed, RequestTimeout, ServerError, Unsupported } from '../kps.js';
import { serve } from './kps-serve.js';

let server;
before(async () => {
  server = await serve('--id', 'hub', '--max-message', '100000', '--relay-to', '**', '--history', 'kept/**=5', '--history', 'all/**=100000');
});
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

    test('requests: the first result, failures, silence, nobody', async (t) => {
      const [alice, bob] = await pair(t);
      await bob.subscribe('sum', ({ data: [a, b] }) => a + b);
      await bob.subscribe('broken', () => { throw new Error('no broom'); });
      await bob.subscribe('silent', () => new Promise(() => {}));
      assert.equal(await alice.request('sum', [1, 2]), level === 2 ? 3 : undefined);
      await assert.rejects(alice.request('broken', 1), (error) => (
        error instanceof RequestFailed && error.message === 'no broom' && error.errors.get('bob') === 'no broom'
      ));
      await assert.rejects(alice.request('silent', 1, { timeout: 50 }), RequestTimeout);
      await assert.rejects(alice.request('nobody', 1), NobodyThere);
      await assert.rejects(alice.requestToId('nobody', 1), NobodyThere);
    });

    test('acks: who must be there', async (t) => {
      const [alice, bob] = await pair(t);
      await bob.subscribe('expected', () => 'here');
      const asking = alice.publishWithAck('expected', 1, { expect: ['bob', 'carol'] });
      if (level === 1) return assert.rejects(asking, Unsupported);
      assert.deepEqual(await (await asking).wait(), new Map([
        ['carol', { clientId: 'carol', success: false, error: 'absent' }],
        ['bob', { clientId: 'bob', success: true, result: 'here' }],
      ]));
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

    test('patterns', async (t) => {
      const [alice, bob] = await pair(t);
      const got = [];
      const subscribe = () => bob.subscribe(new Pattern('rooms/*/light'), ({ topic, data }) => { got.push([topic, data]); });
      if (level === 1) return assert.throws(subscribe, Unsupported);
      await subscribe();
      await bob.subscribe('rooms/2/light', ({ data }) => { got.push(data); });
      for (const [index, topic] of ['rooms/1/light', 'rooms/2/light', 'rooms/1/2/light', 'rooms//light'].entries()) await alice.publish(topic, index);
      await alice.flush();
      await bob.flush();
      assert.deepEqual(got, [['rooms/1/light', 0], 1, ['rooms/2/light', 1], ['rooms//light', 3]]);
      assert.equal((await (await alice.publishWithAck('rooms/2/light', 5)).wait()).size, 1);
      bob.unsubscribe(new Pattern('rooms/*/light'));
      await bob.flush();
      assert.equal(await alice.publishWithReceipt('rooms/1/light', 1), 0);
      assert.equal(await alice.publishWithReceipt('rooms/2/light', 1), 1);
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

describe('history', () => {
  /** A client whose connections are at hand, and what it is told. */
  async function followed(t, options) {
    const sockets = [];
    class Recorded extends WebSocket {
      constructor(...values) {
        super(...values);
        sockets.push(this);
      }
    }
    const told = [];
    const client = await connect(t, {
      WebSocket: Recorded, reconnect: 10, ...options,
      onRecovered: ({ topic, messages }) => told.push(['recovered', topic, messages]),
      onLost: ({ topic, messages }) => told.push(['lost', topic, messages]),
    });
    const back = async () => {
      while (!client.connected) await sleep(1);
      await client.flush();
    };
    return { client, sockets, told, back };
  }

  test('the latest, what is behind a place, and who asks', async (t) => {
    const alice = await connect(t, { id: 'alice' });
    for (let data = 1; data <= 8; data++) await alice.publishWithReceipt('kept/1', data);
    const { client: bob, told } = await followed(t);
    const got = [];
    const subscription = await bob.subscribe('kept/1', ({ data, offset }) => { got.push([data, offset]); }, { last: 2 });
    await alice.publish('kept/1', 9);
    await alice.flush();
    await bob.flush();
    assert.deepEqual(got, [[7, 7], [8, 8], [9, 9]]);
    assert.throws(() => bob.subscribe('kept/1', { last: 2 }), /already/);
    const { epoch } = subscription.position;
    const place = JSON.stringify({ epoch, offset: 6 });
    const { client: carol, ...carols } = await followed(t);
    const loop = carol.subscribe('kept/1', { since: JSON.parse(place) });
    for (const offset of [7, 8, 9]) assert.deepEqual((await loop.next()).value.position, { epoch, offset });
    assert.deepEqual(carols.told, [['recovered', 'kept/1', 3]]);
    const older = { epoch, offset: 2 };
    await carol.subscribe('kept/none', { since: older });
    loop.unsubscribe();
    await carol.subscribe('kept/1', { since: older });
    await carol.subscribe('unkept', { since: older });
    assert.deepEqual(carols.told.slice(1), [['lost', 'kept/none', null], ['lost', 'kept/1', 2], ['lost', 'unkept', null]]);
    const past = await bob.history('kept/1', { since: older });
    assert.deepEqual(past.messages.map(({ data, offset, from, topic }) => [data, offset, from, topic]), [5, 6, 7, 8, 9].map((each) => [each, each, 'alice', 'kept/1']));
    assert.deepEqual({ ...past, messages: [] }, { messages: [], position: { epoch, offset: 9 }, recovered: false, lost: 2 });
    assert.deepEqual((await bob.history('kept/1', { limit: 2 })).messages.map(({ data }) => data), [8, 9]);
    assert.deepEqual((await bob.history('kept/1', { since: { epoch, offset: 5 }, limit: 2 })).messages.map(({ data }) => data), [6, 7]);
    assert.deepEqual(await bob.history('kept/1', { since: past.position }), { messages: [], position: past.position, recovered: true, lost: null });
    await assert.rejects(bob.history('unkept'), { name: 'ServerError', code: 'no_history', topic: 'unkept' });
    assert.deepEqual(told, []);
  });

  test('an answer of several parts', async (t) => {
    const alice = await connect(t);
    for (const letter of 'abcdef') await alice.publishWithReceipt('kept/large', letter.repeat(30_000));
    for (const [limit, letters] of [[100, 'bcdef'], [4, 'cdef']]) {
      const { messages, position, recovered } = await alice.history('kept/large', { limit });
      assert.equal(messages.map(({ data }) => data[0]).join(''), letters);
      assert.deepEqual([position, recovered], [messages.at(-1).position, true]);
    }
  });

  test('patterns, each topic with its own past', async (t) => {
    const alice = await connect(t);
    for (const topic of ['kept/p/1', 'kept/p/2', 'kept/p/1']) await alice.publishWithReceipt(topic, topic);
    const got = [];
    const subscription = await alice.subscribe(new Pattern('kept/p/*'), ({ topic, offset }) => { got.push([topic, offset]); }, { last: 1 });
    await alice.publishWithReceipt('kept/p/3', 1);
    assert.deepEqual(got.sort(), [['kept/p/1', 2], ['kept/p/2', 1], ['kept/p/3', 1]]);
    assert.equal(subscription.position.offset, 1);
  });

  test('after a reconnect: what was missed comes, or how much is lost is told once', async (t) => {
    const alice = await connect(t);
    let comeBack = Promise.resolve('a-token-for-which-the-client-waits');
    const { client: bob, sockets, told, back } = await followed(t, { token: () => comeBack });
    const whileAway = async (act) => {
      let end;
      const token = await comeBack;
      comeBack = new Promise((resolve) => { end = () => resolve(token); });
      sockets.at(-1).terminate();
      while (bob.connected) await sleep(1);
      await act();
      end();
      await back();
    };
    const got = [];
    const take = ({ topic, offset }) => { got.push(`${topic} ${offset}`); };
    await bob.subscribe(new Pattern('kept/r/**'), take);
    await bob.subscribe('kept/s', take);
    const publish = async (...topics) => { for (const topic of topics) await alice.publishWithReceipt(topic, 1); };
    await publish('kept/s', 'kept/r/1');
    await bob.flush(); // then it has got them
    await whileAway(() => publish('kept/s', 'kept/r/1', 'kept/r/2', 'kept/s'));
    assert.deepEqual(told.splice(0), [['recovered', 'kept/s', 2], ['recovered', 'kept/r/**', 2]]);
    await publish('kept/s');
    await bob.flush();
    assert.deepEqual(got.splice(0), ['kept/s 1', 'kept/r/1 1', 'kept/s 2', 'kept/s 3', 'kept/r/1 2', 'kept/r/2 1', 'kept/s 4']);
    await whileAway(() => publish(...Array(7).fill('kept/s'), ...Array(8).fill('kept/r/1')));
    assert.deepEqual(told, [['lost', 'kept/s', 2], ['lost', 'kept/r/**', 3]]);
    assert.deepEqual(got, [...[7, 8, 9, 10, 11].map((each) => `kept/s ${each}`), ...[6, 7, 8, 9, 10].map((each) => `kept/r/1 ${each}`)]);
  });

  test('connections that break at any moment, also while the past is coming: each message comes once, in order', async (t) => {
    const alice = await connect(t);
    const { client: bob, sockets, told, back } = await followed(t);
    const got = new Map();
    let rest = 0; // messages until the connection breaks
    const take = ({ topic, data: [number] }) => {
      got.set(topic, [...(got.get(topic) ?? []), number]);
      if (--rest === 0) sockets.at(-1).terminate();
    };
    await bob.subscribe('all/1', take);
    await bob.subscribe(new Pattern('all/*'), take);
    await bob.subscribe(new Pattern('**/3'), take);
    const counts = new Map();
    for (let round = 0; round < 10; round++) {
      sockets.at(-1).terminate();
      for (let message = 0; message < 120; message++) {
        if (message % 40 === 0) rest = 1 + (round * 13 + message) % 60;
        const topic = `all/${round * 5 + message % 7}`;
        counts.set(topic, (counts.get(topic) ?? 0) + 1);
        await alice.publish(topic, [counts.get(topic), 'x'.repeat(3000)]); // more than the server sends at once
        if (message % 10 === 0) await sleep(1);
      }
    }
    rest = 0;
    await alice.flush();
    await back();
    const times = (topic) => (['all/1', 'all/3'].includes(topic) ? 2 : 1);
    const isWhole = ([topic, count]) => got.get(topic)?.length >= times(topic) * count;
    const end = Date.now() + 20_000;
    while (![...counts].every(isWhole) && Date.now() < end) await sleep(5);
    for (const [topic, count] of counts) {
      const expected = Array.from({ length: count * times(topic) }, (_, index) => 1 + Math.floor(index / times(topic)));
      assert.deepEqual(got.get(topic), expected, topic);
    }
    assert.ok(sockets.length > 1);
    assert.deepEqual(told.filter(([what]) => what === 'lost'), []);
  });

  test('a server that was restarted, and knows nothing any more', async (t) => {
    const first = await serve('--history', '**=5');
    t.after(first.stop);
    const told = [];
    const client = new Client(first.url, { WebSocket, reconnect: 50, onError: () => {}, onLost: ({ topic, messages }) => told.push([topic, messages]) });
    t.after(() => client.close());
    await client.connect();
    const got = [];
    const take = ({ position }) => { got.push(position); };
    await client.subscribe('t', take);
    await client.subscribe(new Pattern('p/*'), take);
    for (const topic of ['t', 'p/1']) for (const data of [1, 2]) await client.publishWithReceipt(topic, data);
    await first.stop();
    const second = await serve('--history', '**=5', '--address', new URL(first.url).host);
    t.after(second.stop);
    while (!client.connected) await sleep(5);
    for (const topic of ['t', 'p/1']) await client.publishWithReceipt(topic, 3);
    assert.deepEqual(told, [['t', null], ['p/*', null]]);
    const [old] = got;
    assert.deepEqual(got.map(({ epoch, offset }) => [epoch === old.epoch, offset]), [[true, 1], [true, 2], [true, 1], [true, 2], [false, 1], [false, 1]]);
  });

  test('a server of the original kind has none', async (t) => {
    const client = await Client.connect(await originalServer(t), { WebSocket, onError: () => {} });
    t.after(() => client.close());
    assert.throws(() => client.subscribe('kept/1', { last: 1 }), Unsupported);
    await assert.rejects(client.history('kept/1'), { name: 'Unsupported', feature: 'history' });
    const message = (await client.subscribe('kept/1')).next();
    await client.publish('kept/1', 1);
    assert.deepEqual([(await message).value.offset, (await message).value.position], [null, null]);
  });
});

describe('presence', () => {
  /** A client whose connections are at hand, and how it sees a topic. */
  async function observing(t, url, topic, options) {
    const sockets = [];
    class Recorded extends WebSocket {
      constructor(...values) {
        super(...values);
        sockets.push(this);
      }
    }
    const { info, ...others } = options;
    const client = await Client.connect(url, { WebSocket: Recorded, reconnect: 10, onError: () => {}, ...others });
    t.after(() => client.close());
    let now;
    let seen = [];
    const presence = (each) => { seen.push(now = each); };
    await client.subscribe(topic, () => 'fine', { info, presence });
    /** What has changed until the members are these. */
    const until = async (expected) => {
      const wanted = JSON.stringify(Object.entries(expected));
      const deadline = Date.now() + 10_000;
      while (JSON.stringify([...now.members].sort()) !== wanted && Date.now() < deadline) await sleep(5);
      assert.deepEqual([Object.fromEntries(now.members), now.count], [expected, Object.keys(expected).length]);
      const all = (name) => seen.flatMap((each) => [...each[name]]);
      const changes = { joined: new Map(all('joined')), updated: new Map(all('updated')), left: new Map(all('left')) };
      seen = [];
      return { joined: [...changes.joined.keys()].sort(), updated: [...changes.updated.keys()], left: Object.fromEntries(changes.left) };
    };
    return { client, sockets, now: () => now, until };
  }

  test('who is there, who comes and goes, and why', async (t) => {
    const { client: alice, now, until } = await observing(t, server.url, 'room', { id: 'alice', info: { name: 'Alice' } });
    const me = { alice: { name: 'Alice' } };
    assert.deepEqual(await until(me), { joined: ['alice'], updated: [], left: {} });
    const bob = await connect(t, { id: 'bob' });
    const carol = await Client.connect(server.url, { WebSocket, id: 'carol', level: 1 });
    await bob.subscribe('room', () => {}, { info: { name: 'Bob' } });
    await carol.subscribe('room', () => {});
    assert.deepEqual(await until({ ...me, bob: { name: 'Bob' }, carol: null }), { joined: ['bob', 'carol'], updated: [], left: {} });
    (await bob.subscribe('room', () => {}, { info: { name: 'Bobby' } })).unsubscribe();
    assert.deepEqual(await until({ ...me, bob: { name: 'Bobby' }, carol: null }), { joined: [], updated: ['bob'], left: {} });
    const ack = await bob.publishWithAck('room', 'hello');
    assert.deepEqual([...(await ack.wait()).keys()].sort(), ['alice', 'bob', 'carol']);
    assert.equal(ack.presence, now().version);
    const { members, count, version } = await bob.presence('room');
    assert.deepEqual([[...members.keys()].sort(), count, version], [['alice', 'bob', 'carol'], 3, ack.presence]);
    bob.unsubscribe('room');
    await carol.close();
    assert.deepEqual(await until(me), { joined: [], updated: [], left: { bob: 'unsubscribed', carol: 'closed' } });
    alice.unsubscribe('room');
    const nobody = await bob.presence('room');
    assert.deepEqual([nobody.members, nobody.count, nobody.version], [new Map(), 0, null]);
    assert.equal((await bob.publishWithAck('room', 1)).presence, null);
  });

  test('who comes back has not left', async (t) => {
    const { until } = await observing(t, server.url, 'inn', { id: 'alice' });
    const bob = await observing(t, server.url, 'inn', { id: 'bob', info: { n: 1 } });
    await until({ alice: null, bob: { n: 1 } });
    bob.sockets[0].terminate();
    while (bob.sockets.length < 2 || !bob.client.connected) await sleep(1);
    await bob.client.subscribe('inn', () => {}, { info: { n: 2 } });
    assert.deepEqual(await until({ alice: null, bob: { n: 2 } }), { joined: [], updated: ['bob'], left: {} });
    assert.deepEqual((await bob.until({ alice: null, bob: { n: 2 } })).left, {});
  });

  test('a server that restarts: all come back, each once', async (t) => {
    const first = await serve('--presence-grace', '0.01');
    t.after(first.stop);
    const alice = await observing(t, first.url, 'room', { id: 'alice', info: { name: 'Alice' } });
    const bob = await observing(t, first.url, 'room', { id: 'bob', info: { name: 'Bob' } });
    const carol = await observing(t, first.url, 'room', { id: 'carol', reconnect: false });
    const both = { alice: { name: 'Alice' }, bob: { name: 'Bob' } };
    for (const { until } of [alice, bob]) await until({ ...both, carol: null });
    carol.sockets[0].terminate();
    for (const { until } of [alice, bob]) assert.deepEqual(await until(both), { joined: [], updated: [], left: { carol: 'lost' } });
    await first.stop();
    const second = await serve('--address', new URL(first.url).host);
    t.after(second.stop);
    for (const { client, sockets, until } of [alice, bob]) {
      while (sockets.length < 2 || !client.connected) await sleep(5);
      await client.flush();
      const { joined, left } = await until(both);
      // Whoever is back first sees that the other one is not there yet.
      assert.deepEqual(joined, Object.keys(left));
      assert.ok(Object.values(left).every((reason) => reason === 'unknown'));
    }
    assert.equal((await bob.client.presence('room')).count, 2);
  });

  test('so many that only their number is told', async (t) => {
    const small = await serve('--max-members', '2');
    t.after(small.stop);
    const { now } = await observing(t, small.url, 'crowd', { id: 'alice' });
    for (const id of ['bob', 'carol']) {
      const client = await Client.connect(small.url, { WebSocket, id });
      t.after(() => client.close());
      await client.subscribe('crowd', () => {});
    }
    while (now().count < 3) await sleep(5);
    assert.equal(now().members, null);
  });

  test('who may not see the members has the topic nevertheless', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'kps-'));
    t.after(() => rm(folder, { recursive: true }));
    const tokens = join(folder, 'tokens.toml');
    await writeFile(tokens, '[me]\ntoken = "a-token-of-my-own"\n', { mode: 0o600 });
    const guarded = await serve('--tokens', tokens);
    t.after(() => guarded.stop());
    const client = await Client.connect(guarded.url, { WebSocket, token: 'a-token-of-my-own' });
    t.after(() => client.close());
    const refused = { code: 'forbidden', message: 'this client may not see who is subscribed to this topic' };
    const messages = client.subscribe('news');
    await assert.rejects(async () => { await client.subscribe('news', () => {}, { presence: () => {} }); }, refused);
    await assert.rejects(client.presence('news'), refused);
    assert.equal(await client.publishWithReceipt('news', 1), 1);
    assert.equal((await messages.next()).value.data, 1);
    await assert.rejects(async () => { await client.subscribe('news', () => {}, { info: { x: 'y'.repeat(2000) } }); }, { code: 'bad_request' });
    await client.subscribe('news', () => {}, { info: { name: 'me' } });
  });

  test('a server of the original kind has none', async (t) => {
    const client = await Client.connect(await originalServer(t), { WebSocket, onError: () => {} });
    t.after(() => client.close());
    assert.throws(() => client.subscribe('room', () => {}, { presence: () => {} }), Unsupported);
    await assert.rejects(client.presence('room'), { name: 'Unsupported', feature: 'presence' });
  });
});

describe('groups', () => {
  /** A member of a group, and what it has got. */
  async function joining(t, id, topic, options, handle = () => id) {
    const client = await connect(t, { id });
    const got = [];
    await client.subscribe(topic, (message) => {
      got.push(message.data);
      return handle(message);
    }, { group: 'workers', ...options });
    return { client, got };
  }

  test('the members share the messages, others get all', async (t) => {
    const [one, two] = [await joining(t, 'one', 'jobs'), await joining(t, 'two', 'jobs')];
    const all = [];
    const boss = await connect(t, { id: 'boss' });
    await boss.subscribe('jobs', ({ data, attempt }) => { all.push([data, attempt]); });
    for (const data of [1, 2, 3, 4]) assert.equal(await boss.publishWithReceipt('jobs', data), 2);
    for (const { client } of [one, two, { client: boss }]) await client.flush();
    assert.deepEqual([...one.got, ...two.got].sort(), [1, 2, 3, 4]);
    assert.deepEqual([one.got.length, two.got.length], [2, 2]);
    assert.deepEqual(all, [[1, 1], [2, 1], [3, 1], [4, 1]]);
    one.client.unsubscribe('jobs');
    await one.client.flush();
    await boss.publishWithReceipt('jobs', 5);
    await two.client.flush();
    assert.equal(two.got.at(-1), 5);
  });

  test('each group is one outcome, and one result', async (t) => {
    await joining(t, 'one', 'sums', {}, ({ data: [a, b] }) => a + b);
    await joining(t, 'two', new Pattern('su*'), { group: 'watchers' }, () => { throw new Error('not today'); });
    const boss = await connect(t, { id: 'boss' });
    const ack = await boss.publishWithAck('sums', [1, 2], { expectGroups: ['workers', 'nobody'], key: 'k', retry: 1 });
    const outcomes = Object.fromEntries([...await ack.wait()].sort());
    const failed = { clientId: 'two', group: 'watchers', pattern: 'su*', attempts: 2, success: false, error: 'not today' };
    assert.deepEqual(outcomes, {
      'nobody of sums': { clientId: '', group: 'nobody', topic: 'sums', attempts: 0, failures: [], success: false, error: 'no member' },
      'watchers of su*': { ...failed, failures: [{ clientId: 'two', error: 'not today' }] },
      'workers of sums': { clientId: 'one', group: 'workers', topic: 'sums', attempts: 1, failures: [], success: true, result: 3 },
    });
    assert.deepEqual([...(await ack.status()).keys()].sort(), Object.keys(outcomes));
    assert.equal(await boss.request('sums', [3, 4], { key: 'k', retry: 1 }), 7);
    await assert.rejects(boss.request('summary', 1), { name: 'RequestFailed', errors: new Map([['two', 'not today']]) });
    await assert.rejects(boss.request('elsewhere', 1, { key: 'k' }), NobodyThere);
  });

  test('what a member has when it is lost goes to another one, and messages with one key to the same', async (t) => {
    const sockets = [];
    class Recorded extends WebSocket {
      constructor(...values) {
        super(...values);
        sockets.push(this);
      }
    }
    const lost = await Client.connect(server.url, { WebSocket: Recorded, id: 'lost', reconnect: false, onError: () => {} });
    const begun = new Promise((resolve) => {
      lost.subscribe('risky', () => { resolve(); return new Promise(() => {}); }, { group: 'workers' });
    });
    await lost.flush();
    const boss = await connect(t, { id: 'boss' });
    const asked = boss.request('risky', 'first');
    await begun;
    const [one, two] = [await joining(t, 'one', 'risky', {}, ({ attempt }) => attempt), await joining(t, 'two', 'risky')];
    sockets[0].terminate();
    assert.ok([2, 'two'].includes(await asked));
    assert.deepEqual([...one.got, ...two.got], ['first']);
    const results = await Promise.all(Array.from({ length: 6 }, (_, data) => boss.request('risky', data, { key: 'a customer' })));
    assert.equal(new Set(results).size, 1);
  });

  test('as many callbacks as a member says are under way at once', async (t) => {
    const underWay = [];
    /** Each ends when there are three. */
    const work = () => new Promise((resolve) => {
      if (underWay.push(resolve) === 3) for (const end of underWay.splice(0)) end('done');
    });
    await joining(t, 'one', 'busy', { concurrency: 3 }, work);
    const boss = await connect(t, { id: 'boss' });
    const results = await Promise.all(Array.from({ length: 12 }, () => boss.request('busy', 1)));
    assert.deepEqual(results, Array(12).fill('done'));
  });

  test('a server that restarts: a member again', async (t) => {
    const first = await serve();
    t.after(first.stop);
    const open = () => Client.connect(first.url, { WebSocket, reconnect: 10, onError: () => {} });
    const [member, boss] = [await open(), await open()];
    t.after(() => Promise.all([member.close(), boss.close()]));
    await member.subscribe(new Pattern('p/*'), ({ data }) => data + 1, { group: 'workers' });
    assert.equal(await boss.request('p/1', 1), 2);
    await first.stop();
    const second = await serve('--address', new URL(first.url).host);
    t.after(second.stop);
    for (const client of [member, boss]) while (!client.connected) await sleep(5);
    await member.flush();
    assert.equal(await boss.request('p/1', 2), 3);
  });

  test('a server of the original kind has none', async (t) => {
    const client = await Client.connect(await originalServer(t), { WebSocket, onError: () => {} });
    t.after(() => client.close());
    assert.throws(() => client.subscribe('jobs', () => {}, { group: 'workers' }), Unsupported);
    await assert.rejects(client.request('jobs', 1, { key: 'k' }), { name: 'Unsupported', feature: 'groups' });
  });
});

describe('headers beside the payload', () => {
  const headers = { traceparent: '00-1-2-01', 'content-type': 'é😀' };

  test('come with the message, whichever way it goes', async (t) => {
    const got = [];
    const take = ({ data, headers: own }) => { got.push([data, { ...own }]); };
    const alice = await connect(t, { id: 'alice', onDirect: take });
    const bob = await connect(t, { id: 'bob' });
    await alice.subscribe('kept/headers', take);
    for (const [data, own] of [[1, undefined], [2, undefined], [3, headers], [4, headers], [5, {}]]) await bob.publish('kept/headers', data, { headers: own });
    await bob.publishWithReceipt('kept/headers', 6, { headers });
    await (await bob.publishWithAck('kept/headers', 7, { headers })).wait();
    await bob.publishToId('alice', 8, { headers });
    await bob.requestToId('alice', 9, { headers });
    await bob.request('kept/headers', 10, { headers });
    assert.deepEqual(got, [[1, {}], [2, {}], [3, headers], [4, headers], [5, {}], ...[6, 7, 8, 9, 10].map((data) => [data, headers])]);
    const { messages } = await bob.history('kept/headers');
    assert.deepEqual(messages.map((message) => [message.data, { ...message.headers }]), [[4, headers], [5, {}], ...[6, 7, 10].map((data) => [data, headers])]);
    const past = bob.subscribe('kept/headers', { last: 1 });
    assert.deepEqual({ ...(await past.next()).value.headers }, headers);
  });

  test('also to a member of a group; not to level 1', async (t) => {
    const url = await originalServer(t);
    const old = await Client.connect(url, { WebSocket, onError: () => {} });
    t.after(() => old.close());
    await old.subscribe('traced', (message) => { seen.push(['old', { ...message.headers }]); });
    const seen = [];
    const worker = await connect(t);
    await worker.subscribe('traced', (message) => { seen.push(['worker', { ...message.headers }]); }, { group: 'workers' });
    const boss = await connect(t);
    await (await boss.publishWithAck('traced', 1, { headers })).wait();
    assert.deepEqual(seen.sort(), [['old', {}], ['worker', headers]]);
    await assert.rejects(old.publish('traced', 1, { headers }), { name: 'Unsupported', feature: 'headers' });
  });
});

describe('messages with ids', () => {
  /** A client that comes back at once, and its sockets. `read` changes what the server says. */
  async function coming(t, read = (data) => data, options = {}) {
    const sockets = [];
    class Recorded extends WebSocket {
      constructor(...values) {
        super(...values);
        sockets.push(this);
      }

      set onmessage(handle) {
        super.onmessage = handle && (({ data }) => handle({ data: read(data) }));
      }
    }
    const client = await connect(t, { id: 'alice', WebSocket: Recorded, reconnect: 20, ...options });
    return { client, sockets };
  }

  /** Ask; the connection breaks when something has happened and before the answer can come. */
  async function broken(sockets, ask, happens) {
    const socket = sockets.at(-1);
    const isAnswered = new Promise((resolve) => { socket.onmessage = resolve; }); // the answer gets lost
    const answer = ask();
    await happens(isAnswered);
    socket.terminate();
    return answer;
  }

  test('each is handled once, although connections break before the answer', async (t) => {
    const got = [];
    let handle;
    const take = ({ data }) => {
      got.push(data);
      return handle();
    };
    const bob = await connect(t, { id: 'bob', onDirect: take });
    await bob.subscribe('once', take);
    let back;
    const { client: alice, sockets } = await coming(t, undefined, { onConnect: () => back?.() });
    const asked = (ask, result) => broken(sockets, ask, async () => {
      await new Promise((resolve) => {
        handle = () => {
          resolve();
          return result;
        };
      });
      await bob.flush(); // the outcome is at the server, unless bob is not done
    });
    assert.equal(await asked(() => alice.publishWithReceipt('once', 1, { messageId: 'a' })), 1);
    assert.equal(await asked(() => alice.request('once', 2, { messageId: 'b' }), 'two'), 'two');
    assert.equal(await asked(() => alice.requestToId('bob', 3, { messageId: 'c' }), 'three'), 'three');
    const isBack = new Promise((resolve) => { back = resolve; });
    const later = isBack.then(() => alice.flush()).then(() => 'four');
    const ack = await asked(() => alice.publishWithAck('once', 4, { messageId: 'd' }), later);
    assert.deepEqual([...(await ack.wait()).values()], [{ clientId: 'bob', success: true, result: 'four' }]);
    assert.equal(sockets.length, 5);
    const other = await connect(t, { id: 'alice' }); // a program may send them again itself
    assert.equal(await other.request('once', 2, { messageId: 'b' }), 'two');
    const refused = { name: 'ServerError', code: 'message_id_in_use' };
    await assert.rejects(other.request('other', 2, { messageId: 'b' }), refused);
    await assert.rejects(other.request('once', 3, { messageId: 'b' }), refused);
    assert.deepEqual(got, [1, 2, 3, 4]);
  });

  test('one that nobody has got is handled when it comes again', async (t) => {
    const bob = await connect(t, { id: 'bob' });
    const { client: alice, sockets } = await coming(t);
    const got = [];
    const delivered = await broken(sockets, () => alice.publishWithReceipt('later', 1, { messageId: 'later' }), async (isAnswered) => {
      await isAnswered;
      await bob.subscribe('later', ({ data }) => got.push(data));
    });
    assert.equal(delivered, 1);
    await bob.flush();
    assert.deepEqual(got, [1]);
    assert.equal(sockets.length, 2);
  });

  test('one that comes again when it may be forgotten is refused', async (t) => {
    const longAgo = (data) => data.replace(/"time": ?[\d.]+/, '"time": -1e9');
    const { client: alice, sockets } = await coming(t, longAgo);
    const ask = () => alice.publishWithReceipt('nobody', 1, { messageId: 'old' });
    const answer = broken(sockets, ask, (isAnswered) => isAnswered);
    await assert.rejects(answer, { name: 'ServerError', code: 'outcome_unknown', request: 'publish' });
    assert.equal(sockets.length, 2);
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
  await client.subscribe(new Pattern('p/*'), () => {});
  const ack = await client.publishWithAck('t', 1);
  const lost = assert.rejects(ack.wait(), ConnectionLost);
  await first.stop();
  await lost;
  const second = await serve('--address', host);
  t.after(second.stop);
  const deadline = Date.now() + 10_000;
  while (!client.connected && Date.now() < deadline) await sleep(10);
  assert.deepEqual(events, ['connect', 1001, 'connect']);
  for (const topic of ['t', 'p/1']) assert.equal(await client.publishWithReceipt(topic, 2), 1);
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
  const client = await Client.connect(busy.url, { WebSocket: Recorded, reconnect: 10, requestTimeout: 60_000, onError });
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
  let end;
  const closed = new Promise((resolve) => { end = resolve; });
  await connect(t, { id: 'twin', onClose: end });
  const second = await connect(t, { id: 'twin' });
  assert.equal((await closed).code, 4001);
  await sleep(300);
  assert.equal(second.connected, true);
});

test('refusals', async (t) => {
  const options = { WebSocket, onError: () => {} };
  await assert.rejects(Client.connect(server.url.replace('/ws/bus', '/elsewhere'), options), { name: 'ConnectFailed', status: 404 });
  await assert.rejects(Client.connect(server.url, { ...options, id: 'hub' }), ServerError);
  await assert.rejects(Client.connect('127.0.0.1:1', { ...options, reconnect: false }), ConnectFailed); // where nobody listens
});

test('a server that wants tokens', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'kps-'));
  t.after(() => rm(folder, { recursive: true }));
  const tokens = join(folder, 'tokens.toml');
  await writeFile(tokens, '[me]\ntoken = "a-token-of-my-own"\nids = ["me/*"]\nsubscribe = ["news", "rooms/**"]\n', { mode: 0o600 });
  const guarded = await serve('--tokens', tokens);
  t.after(() => guarded.stop());
  const open = (options) => Client.connect(guarded.url, { WebSocket, requestTimeout: 600_000, ...options });
  for (const [token, message] of [['wrong', 'the token is not valid'], [undefined, 'a token is needed']]) {
    await assert.rejects(open({ token }), { name: 'ServerError', message, code: 'unauthorized' });
    await assert.rejects(open({ token, level: 1 }), { name: 'ServerError', message, code: undefined });
  }
  const headers = { authorization: 'Bearer wrong' };
  await assert.rejects(open({ headers }), { name: 'ConnectFailed', status: 401 });
  const mine = { id: 'me/1', token: async () => 'a-token-of-my-own' };
  await assert.rejects(open({ ...mine, id: 'you' }), { message: 'this client may not use this id', code: 'forbidden' });
  const client = await open(mine);
  t.after(() => client.close());
  await client.subscribe('news', () => {});
  await assert.rejects(async () => { await client.subscribe('other'); }, { code: 'forbidden', request: 'subscribe', topic: 'other' });
  await client.subscribe(new Pattern('rooms/*/light'), () => {});
  await assert.rejects(async () => { await client.subscribe(new Pattern('*')); }, { code: 'forbidden', request: 'subscribe', pattern: '*' });
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
    const closed = performance.now();
    process.once('exit', () => console.log(performance.now() - closed < 4000 ? 'ended' : 'something kept it alive'));
  `;
  const run = promisify(execFile);
  for (const [source, flags] of [['ws', []], ['globalThis.WebSocket', ['--experimental-websocket', '--no-warnings']]]) {
    const { stdout } = await run(process.execPath, [...flags, '--input-type=module', '-e', program(source), server.url], { timeout: 60_000 });
    assert.equal(stdout, 'level 2 true\nended\n');
  }
});

// Time limits of any length; and answers that do not come in time.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Client, ClientClosed, ConnectFailed, RequestTimeout, ServerError } from '../kps.js';
import { connected, fakeNetwork, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

const DAY = 24 * 3_600_000;
const LONG = 2 ** 31; // milliseconds, beyond what setTimeout can do

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

describe('times that setTimeout does not know', () => {
  test('no timer is set for one', async () => {
    const delays = [];
    const start = globalThis.setTimeout;
    mock.method(globalThis, 'setTimeout', (act, delay) => {
      delays.push(delay);
      return start(act, delay);
    });
    const { WebSocket, sockets } = fakeNetwork();
    const client = new Client('h', { WebSocket, id: 'me', requestTimeout: Infinity, closeTimeout: 1e300, reconnect: 1e12, onError: () => {} });
    client.connect();
    await settled();
    await welcome(sockets[0], 'me', { proto: 2, limits: { heartbeat: 1e12 } });
    for (const timeout of [LONG, 1e300, Number.MAX_VALUE, Infinity]) {
      const ack = await client.publishWithAck('t', 1, { timeout });
      ack.wait().catch(() => {});
      const { timeout: wired } = (await sockets[0].sent()).at(-1);
      assert.ok(wired > 1e6, 'as long as the server lets it');
    }
    client.flush().catch(() => {});
    sockets[0].end();
    assert.ok(delays.length >= 4);
    for (const delay of delays) assert.ok(delay >= 0 && delay < LONG, `${delay}`);
    client.close();
  });

  for (const timeout of [LONG, Infinity]) {
    test(`an ack request of ${timeout} ms waits`, async () => {
      const { client, socket } = await connected({}, { proto: 2, limits: { heartbeat: 1e9 } });
      const ack = await client.publishWithAck('t', 1, { timeout });
      const outcome = outcomeOf(ack.wait());
      await pass(20 * DAY, DAY);
      assert.equal(outcome.is, 'waits');
      socket.says({ action: 'ack_response', ack_id: ack.id, responses: { bob: { success: true } } });
      await settled();
      assert.equal(outcome.is.size, 1);
    });

    test(`requestTimeout ${timeout}: connecting and asking wait`, async () => {
      const { WebSocket, sockets } = fakeNetwork();
      const opened = new Client('h', { WebSocket, id: 'me', requestTimeout: timeout }).connect();
      await settled();
      await pass(DAY, 3_600_000);
      await welcome(sockets[0], 'me', { proto: 2, limits: { heartbeat: 1e9 } });
      const client = await opened;
      const flushed = outcomeOf(client.flush());
      await pass(DAY, 3_600_000);
      assert.equal(flushed.is, 'waits');
      assert.equal(client.connected, true);
    });

    test(`reconnect ${timeout}: no attempt before`, async () => {
      const { socket, sockets } = await connected({ reconnect: timeout });
      socket.end();
      await pass(20 * DAY, DAY);
      assert.equal(sockets.length, 1);
    });
  }

  test('one that is longer ends when it should', async () => {
    const { client } = await connected({ requestTimeout: LONG + 5000 }, { proto: 2, limits: { heartbeat: 1e9 } });
    const flushed = outcomeOf(client.flush());
    await pass(LONG, DAY);
    assert.equal(flushed.is, 'waits');
    await pass(6000);
    assert.ok(flushed.is instanceof RequestTimeout);
  });

  test('a backoff may be as long', async () => {
    const { socket, sockets } = await connected({ backoff: { first: 1000, factor: 1e300, longest: Infinity, jitter: 0 } });
    socket.end();
    await pass(1000);
    assert.equal(sockets.length, 2);
    sockets[1].fail('refused');
    await pass(20 * DAY, DAY);
    assert.equal(sockets.length, 2);
  });
});

describe('an ack request whose server is silent', () => {
  for (const [level, agreement] of [[1, LEVEL_1], [2, LEVEL_2]]) {
    test(`level ${level}: ends with RequestTimeout, and keeps what was answered`, async () => {
      const { client, socket } = await connected({}, agreement);
      const ack = await client.publishWithAck('t', 1, { timeout: 2000 });
      await settled();
      const got = [];
      const loop = assert.rejects(async () => { for await (const { clientId } of ack) got.push(clientId); }, RequestTimeout);
      const waiting = [ack.wait(), ack.Wait(), ack.status(), ack.GetStatus()].map((each) => assert.rejects(each, RequestTimeout));
      const complete = outcomeOf(ack.isComplete());
      const answers = { bob: { success: true, result: 1 } };
      if (level > 1) socket.says({ action: 'ack_update', ack_id: ack.id, responses: answers });
      await pass(3000);
      await Promise.all([loop, ...waiting]);
      assert.deepEqual([...ack.responses.keys()], level > 1 ? ['bob'] : []);
      assert.deepEqual(got, level > 1 ? ['bob'] : []);
      await assert.rejects(ack.wait(), RequestTimeout);
      if (level > 1) assert.equal((await ack.waitAny()).clientId, 'bob');
      else await assert.rejects(ack.waitAny(), RequestTimeout);
      assert.ok(complete.is instanceof RequestTimeout);
      assert.equal(await ack.isComplete(), false);
    });
  }

  test('its time begins when the request is on the network', async () => {
    const { client, socket } = await connected();
    socket.bufferedAmount = 100_000;
    const ack = await client.publishWithAck('t', 1, { timeout: 2000 });
    await settled();
    const outcome = outcomeOf(ack.wait());
    await pass(4000);
    socket.bufferedAmount = 0;
    await pass(2750);
    assert.equal(outcome.is, 'waits');
    await pass(250);
    assert.match(outcome.is.message, /^the server did not tell/);
  });

  test('a network that does not take it is not waited for without end', async () => {
    for (const [timeout, wait] of [[1000, 5000], [8000, 8000]]) {
      const { client, socket } = await connected();
      socket.bufferedAmount = 100_000;
      const ack = await client.publishWithAck('t', 1, { timeout });
      await settled();
      const outcome = outcomeOf(ack.wait());
      await pass(wait - 250);
      assert.equal(outcome.is, 'waits');
      await pass(250);
      assert.ok(outcome.is instanceof RequestTimeout);
      assert.match(outcome.is.message, /network was too slow/);
    }
  });

  test('an original server that ends it after its own 5 s, without a word of anybody', async () => {
    for (const [wait, responses, isKnown] of [[100, undefined, true], [5000, {}, false], [5000, undefined, false], [5000, { bob: { success: true } }, true]]) {
      const { client, socket } = await connected({}, LEVEL_1);
      const ack = await client.publishWithAck('t', 1, { timeout: 20_000 });
      await settled();
      const outcome = outcomeOf(ack.wait());
      await pass(wait);
      socket.says({ action: 'ack_response', ack_id: ack.id, responses });
      await settled();
      if (isKnown) assert.equal(outcome.is.size, Object.keys(responses ?? {}).length);
      else assert.ok(outcome.is instanceof RequestTimeout);
    }
  });

  test('a WebSocket that does not tell what it holds is taken to send at once', async () => {
    const { client, socket } = await connected();
    delete socket.bufferedAmount;
    const ack = await client.publishWithAck('t', 1, { timeout: 2000 });
    const outcome = outcomeOf(ack.wait());
    await settled();
    await pass(3000);
    assert.match(outcome.is.message, /^the server did not tell/);
    client.publish('t', 1);
    await settled();
    socket.end();
    assert.equal(client.dropped, 0);
  });

  test('its answers are a copy', async () => {
    const { client, socket } = await connected();
    const ack = await client.publishWithAck('t', 1);
    await settled();
    ack.responses.set('mallory', {});
    socket.says({ action: 'ack_response', ack_id: ack.id });
    assert.deepEqual(await ack.wait(), new Map());
  });

  test('that nobody waits for is no unhandled rejection', async () => {
    const { client } = await connected();
    await client.publishWithAck('t', 1, { timeout: 1 });
    client.PublishWithAck('t', 1, 1);
    await settled();
    await pass(2000);
  });

  test('an answer that cannot be read is none', async () => {
    const { client, socket } = await connected({ onError: () => {} });
    const ack = await client.publishWithAck('t', 1);
    await settled();
    const outcome = assert.rejects(ack.wait(), RequestTimeout);
    socket.onmessage({ data: `{"action": "ack_response", "ack_id": "${ack.id}", "responses": {"a"b": {}}}` });
    await pass(6000);
    await outcome;
  });
});

describe('level 1, which does not say what it refuses', () => {
  const sentAbout = async (socket) => (await socket.sent()).map(({ action, topic, ack_id: id }) => [action, topic ?? id]);

  const subscribing = (client, ...topics) => topics.map((topic) => outcomeOf((async () => await client.subscribe(topic, () => {}))()));

  test('but answers in order: an error answers what is next', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publish('t', 1);
    const [denied, allowed, other] = subscribing(client, 'denied', 'allowed', 'other one');
    client.publish('t', 2);
    await socket.sent();
    socket.says({ action: 'published', topic: 't' }, { action: 'error', error: 'not this one' }, { action: 'subscribed', topic: 'allowed' });
    socket.says({ action: 'error', error: 'nor this' }, { action: 'error', error: 'nor that' });
    await settled();
    assert.ok(denied.is instanceof ServerError);
    assert.deepEqual([denied, other].map(({ is }) => is.message), ['not this one', 'nor this']);
    assert.equal(allowed.is.topic, 'allowed');
    assert.deepEqual(errors.map(({ message }) => message), ['nor that']);
    assert.deepEqual(await socket.sent(), []);
  });

  test('the answers to pings and to questions about acks count as well', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    await pass(25_000); // that of the heartbeat
    const ack = await client.publishWithAck('t', 1);
    ack.status().catch(() => {});
    ack.cancel();
    const [refused] = subscribing(client, 't');
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['ping', 'publish_with_ack', 'get_ack_status', 'cancel_ack', 'subscribe']);
    socket.says({ action: 'pong', id: 'me' }, { action: 'ack_status', ack_id: ack.id }, { action: 'ack_cancelled', ack_id: ack.id });
    socket.says({ action: 'error', error: 'no' });
    await settled();
    assert.equal(refused.is.message, 'no');
    assert.deepEqual(errors, []);
  });

  test('an error about an earlier message is reported at once, and refuses no topic', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publish('secret', 1);
    const [asked] = subscribing(client, 't');
    await socket.sent();
    socket.says({ action: 'error', error: 'not there' });
    assert.deepEqual(errors.map(({ message }) => message), ['not there']);
    socket.says({ action: 'subscribed', topic: 't' });
    await settled();
    assert.equal(asked.is.topic, 't');
    socket.says({ action: 'error', error: 'another' });
    assert.equal(errors.length, 2, 'with no question open there is nothing to find out');
    assert.deepEqual(await socket.sent(), []);
  });

  test('the outcome of a relay comes when it likes', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publishToServer('other.example', 1);
    client.subscribe('t', () => {});
    await socket.sent();
    socket.says({ action: 'subscribed', topic: 't' });
    const [asked] = subscribing(client, 'u');
    await socket.sent();
    socket.says({ action: 'error', error: 'failed to relay to server: nobody is there' }, { action: 'subscribed', topic: 'u' });
    await settled();
    assert.equal(asked.is.topic, 'u');
    assert.equal(errors.length, 1);
  });

  test('behind a message without an answer, a later question tells which topic was refused', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publishToId('bob', 1);
    const [denied, allowed] = subscribing(client, 'denied', 'allowed');
    await socket.sent();
    socket.says({ action: 'error', error: 'not this one' }, { action: 'subscribed', topic: 'allowed' });
    const [[action, barrier]] = await sentAbout(socket);
    assert.equal(action, 'get_ack_status');
    assert.equal(denied.is, 'waits');
    socket.says({ action: 'ack_status', ack_id: barrier });
    await settled();
    assert.ok(denied.is instanceof ServerError);
    assert.equal(denied.is.message, 'not this one');
    assert.equal(allowed.is.topic, 'allowed');
    assert.deepEqual(errors, []);
    const [next] = subscribing(client, 'next');
    await socket.sent();
    socket.says({ action: 'error', error: 'nor this' }); // from here on it is certain again
    await settled();
    assert.equal(next.is.message, 'nor this');
  });

  test('several are refused in order, each with its own words', async () => {
    const { client, socket } = await connected({}, LEVEL_1);
    client.publishToId('bob', 1);
    const outcomes = subscribing(client, 'a b', 'ok', 'c');
    await socket.sent();
    socket.says({ action: 'error', error: 'first' }, { action: 'subscribed', topic: 'ok' }, { action: 'error', error: 'second' });
    for (const [, barrier] of await sentAbout(socket)) socket.says({ action: 'ack_status', ack_id: barrier });
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is.message ?? is.topic), ['first', 'ok', 'second']);
  });

  test('an error about such a message is reported, and refuses no topic', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publishToId('bob', 1);
    const [asked] = subscribing(client, 't');
    await socket.sent();
    socket.says({ action: 'error', error: 'no client' }, { action: 'subscribed', topic: 't' });
    for (const [, barrier] of await sentAbout(socket)) socket.says({ action: 'ack_status', ack_id: barrier });
    await settled();
    assert.equal(asked.is.topic, 't');
    assert.deepEqual(errors.map(({ message }) => message), ['no client']);
  });

  test('a server that refuses everything is not asked again and again', async () => {
    const { client, socket, errors } = await connected({}, LEVEL_1);
    client.publishToId('bob', 1);
    const topics = ['t', 'u'].map((topic) => outcomeOf(client.subscribe(topic)));
    let sent = 0;
    for (let i = 0; i < 240; i++) {
      const messages = await socket.sent();
      sent += messages.length;
      for (const { action } of messages) {
        if (action === 'ping') socket.says({ action: 'pong' });
        else socket.says({ action: 'error', error: 'no' });
      }
      await pass(250);
    }
    assert.ok(sent < 40, `${sent} messages in a minute`);
    assert.ok(errors.length < 40, `${errors.length} errors`);
    for (const { is } of topics) assert.ok(is instanceof RequestTimeout);
  });

  test('of the earlier servers of the family they have no action', async () => {
    const { socket, errors } = await connected({}, LEVEL_1);
    socket.says({ error: 'no' }, { error: '' }, { action: 'unknown', error: 'x' });
    assert.deepEqual(errors.map(({ name, message }) => [name, message]), [['ServerError', 'no']]);
    const { socket: later, errors: none } = await connected();
    later.says({ error: 'no' });
    assert.deepEqual(none, []);
  });
});

describe('failures to connect', () => {
  test('an error without a close, as Node 22 has it, is one at once', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const errors = [];
    const client = new Client('h', { WebSocket, reconnect: 500, onError: (error) => errors.push(error) });
    client.connect();
    for (let count = 1; count < 4; count++) {
      await pass(500);
      assert.equal(sockets.length, count);
      sockets.at(-1).onerror({ message: 'refused' });
      await pass(100, 100);
      assert.equal(errors.length, count);
      assert.ok(errors.at(-1) instanceof ConnectFailed);
      assert.match(errors.at(-1).message, /refused/);
    }
  });

  test('without reconnecting it is told at once', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const opened = assert.rejects(new Client('h', { WebSocket, reconnect: false }).connect(), ConnectFailed);
    await settled();
    sockets[0].onerror({});
    await pass(100, 100);
    await opened;
  });

  test('so is a function that gives no token', async () => {
    for (const value of [undefined, null, 5, '', '\ud800', {}]) {
      const { WebSocket, sockets } = fakeNetwork();
      const opened = assert.rejects(new Client('h', { WebSocket, reconnect: false, token: async () => value }).connect(), /a token is ASCII/);
      await settled();
      sockets[0].open();
      await opened;
    }
  });

  test('an error of a connection that is open ends it as well', async () => {
    const left = [];
    const { socket } = await connected({ onDisconnect: ({ reason }) => left.push(reason) });
    socket.onerror({ message: 'broken' });
    await pass(100, 100);
    assert.deepEqual(left, ['broken']);
  });

  for (const [library, message] of [['ws', 'Unexpected server response: 404'], ['Deno', 'Invalid status code: 404'], ['Bun', 'Expected 101 status code: 404']]) {
    test(`the status of a refusal, as ${library} tells it`, async () => {
      const { WebSocket, sockets } = fakeNetwork();
      const opened = assert.rejects(new Client('h', { WebSocket }).connect(), { name: 'ConnectFailed', status: 404 });
      await settled();
      sockets[0].fail(message);
      await opened;
      await pass(60_000);
      assert.equal(sockets.length, 1);
    });
  }

  for (const status of [408, 429, 503]) {
    test(`status ${status} blames the moment, and another attempt follows`, async () => {
      const { WebSocket, sockets } = fakeNetwork();
      const client = new Client('h', { WebSocket, reconnect: 100, onError: () => {} });
      client.connect().catch(() => {});
      await settled();
      sockets[0].fail(`Unexpected server response: ${status}`);
      await pass(1000, 100);
      assert.equal(sockets.length, 2);
      client.close();
    });
  }

  test('a connection that ends before it is one: its code is told, if there is one', async () => {
    for (const [code, words] of [[1011, 'it ended with code 1011'], [1006, 'the WebSocket does not tell why']]) {
      const { WebSocket, sockets } = fakeNetwork();
      const errors = [];
      new Client('h', { WebSocket, reconnect: 100, onError: (error) => errors.push(error) }).connect();
      await settled();
      sockets[0].open();
      sockets[0].end(code);
      assert.ok(errors[0] instanceof ConnectFailed);
      assert.ok(errors[0].message.endsWith(`/ws/bus: ${words}`), errors[0].message);
    }
  });

  test('what tells none is no refusal', async () => {
    for (const message of ['Expected 101 status code', 'connect ECONNREFUSED 127.0.0.1:404', 'Invalid status code: 4041', '']) {
      const { WebSocket, sockets } = fakeNetwork();
      const errors = [];
      new Client('h', { WebSocket, reconnect: 100, onError: (error) => errors.push(error) }).connect();
      await settled();
      sockets[0].fail(message);
      await pass(100);
      assert.equal(sockets.length, 2);
      assert.equal(errors[0].status, undefined);
      assert.match(errors[0].message, /cannot connect to ws:\/\/h:9313\/ws\/bus: \w/);
    }
  });

  test('a server that accepts and ends at once is not hammered', async () => {
    const { socket, sockets } = await connected();
    socket.end();
    for (let second = 0; second < 100; second++) {
      await pass(1000, 50);
      if (sockets.at(-1).onclose) {
        await welcome(sockets.at(-1), 'me');
        sockets.at(-1).end();
        sockets.at(-1).onclose = null;
      }
    }
    assert.ok(sockets.length < 16, `${sockets.length} connections in 100 s`);
  });

  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 3000, 4000, 4002]) {
    test(`a server that ends the connection with ${code}: the client comes back`, async () => {
      const { socket, sockets } = await connected({ reconnect: 100 });
      socket.end(code);
      await pass(100);
      assert.equal(sockets.length, 2);
    });
  }

  test('connect() and NewClient() reject, and do not throw', async () => {
    for (const attempt of [
      () => Client.connect('ftp://h'), () => Client.connect('h', { id: '' }), () => Client.connect('h', { WebSocket: null }),
      () => Client.NewClient({ Address: 'ftp://h' }), () => Client.NewClient({ Address: 'h', Id: 5 }), () => Client.NewClient(null),
    ]) {
      const promise = attempt();
      assert.ok(promise instanceof Promise);
      await assert.rejects(promise, { name: 'InvalidArgument' });
    }
  });

  test('opening and closing in one turn opens no WebSocket', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const client = new Client('h', { WebSocket });
    const opened = assert.rejects(client.connect(), ClientClosed);
    await client.close();
    await opened;
    await settled();
    assert.equal(sockets.length, 0);
  });
});

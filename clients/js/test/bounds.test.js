// What is bounded, and told when a bound is reached: mailboxes, what is not sent, options, the end.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { Client, ClientClosed, ConnectionLost, InvalidArgument, QueueFull } from '../kps.js';
import { connected, fakeNetwork, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const MIB = 1024 * 1024;
const forTopic = (data, topic = 't') => ({ action: 'publish', topic, data, from: 'bob' });

/** A callback that handles one message whenever it is told so. */
function slow() {
  const waiting = [];
  const got = [];
  const callback = ({ data }) => {
    got.push(data);
    return new Promise((resolve) => waiting.push(resolve));
  };
  const finish = async (count = 1) => {
    for (; count; count--) {
      waiting.shift()?.();
      await settled();
    }
  };
  return { callback, got, finish };
}

describe('mailboxes', () => {
  test('are bounded in bytes: 64 MiB unless the program says otherwise', async () => {
    const { client, socket, errors } = await connected();
    const messages = client.subscribe('t');
    const large = 'x'.repeat(MIB);
    for (let i = 0; i < 70; i++) socket.says(forTopic(large));
    assert.ok(messages.dropped >= 6 && messages.dropped < 9, `${messages.dropped} dropped`);
    assert.ok(errors[0] instanceof QueueFull);
    assert.match(errors[0].message, /dropped so far: 1 of t/);
    assert.equal(errors[0].dropped, 1);
    assert.equal(errors.length, 1);
  });

  test('count bytes of batches and arrays by their parts', async () => {
    const { client, socket } = await connected({ mailboxBytes: 10_000 });
    const messages = client.subscribe('t');
    socket.says({ action: 'publish', topic: 't', batch: Array(8).fill('x'.repeat(1000)) });
    assert.equal(messages.dropped, 0);
    socket.onmessage({ data: JSON.stringify(Array(8).fill(forTopic('x'.repeat(1000)))) });
    assert.equal(messages.dropped, 7);
    for (let i = 0; i < 9; i++) await messages.next();
    socket.says(forTopic('x'.repeat(9000)));
    assert.equal(messages.dropped, 7, 'there is room again');
  });

  test('bytes of a binary message count, too', async () => {
    const { client, socket } = await connected({ mailboxBytes: 100 });
    const messages = client.subscribe('t');
    for (let i = 0; i < 3; i++) socket.onmessage({ data: new TextEncoder().encode(JSON.stringify(forTopic('x'.repeat(50)))).buffer });
    assert.equal(messages.dropped, 2);
  });

  test('an empty one takes any message', async () => {
    const { client, socket } = await connected({ mailboxBytes: 10, mailbox: 1 });
    const messages = client.subscribe('t');
    socket.says(forTopic('x'.repeat(1000)), forTopic(2));
    assert.equal((await messages.next()).value.data.length, 1000);
    assert.equal(messages.dropped, 1);
  });

  test('drop the oldest, if that is the policy; who wants an ack is told', async () => {
    const { client, socket } = await connected({ mailbox: 2, overflow: 'drop_oldest' });
    const messages = client.subscribe('t');
    await socket.sent();
    for (const data of [1, 2, 3, 4]) socket.says({ action: 'publish_ack', topic: 't', data, ack_id: `a${data}`, from: 'bob' });
    assert.deepEqual([(await messages.next()).value.data, (await messages.next()).value.data], [3, 4]);
    assert.equal(messages.dropped, 2);
    const refused = (await socket.sent()).filter(({ success }) => success === false);
    assert.deepEqual(refused.map(({ ack_id: id, error }) => [id, error]), [['a1', 'queue full'], ['a2', 'queue full']]);
  });

  test('a message that is larger than the whole mailbox does not empty it', async () => {
    const { client, socket, errors } = await connected({ mailboxBytes: 10_000, overflow: 'drop_oldest' });
    const messages = client.subscribe('t');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    socket.says(forTopic('x'.repeat(20_000)));
    assert.equal(messages.dropped, 1);
    assert.equal(errors[0].dropped, 1);
    for (let i = 0; i < 20; i++) assert.equal((await messages.next()).value.data, i);
  });

  test('who is told that messages are dropped may unsubscribe: then no callback begins', async () => {
    for (const overflow of ['drop_newest', 'drop_oldest']) {
      const { callback, got, finish } = slow();
      const onError = () => subscription.unsubscribe();
      const { client, socket } = await connected({ mailbox: 2, overflow, onError });
      const subscription = client.subscribe('t', callback);
      await socket.sent();
      for (let i = 0; i < 4; i++) socket.says({ action: 'publish_ack', topic: 't', data: i, ack_id: `a${i}`, from: 'bob' });
      await finish(4);
      assert.deepEqual(got, [0]);
      const told = (await socket.sent()).filter(({ action }) => action === 'ack');
      assert.deepEqual(told.map(({ ack_id: id }) => id).sort(), ['a0', 'a1', 'a2', 'a3']);
    }
  });

  test('in an overload that lasts, what is dropped is told each time that it has doubled', async () => {
    const { client, socket, errors } = await connected({ mailbox: 1 });
    const messages = client.subscribe('t');
    socket.says(forTopic(0));
    for (let i = 1; i <= 1000; i++) {
      socket.says(forTopic(i));
      await messages.next();
      socket.says(forTopic(i));
    }
    assert.equal(messages.dropped, 1000);
    assert.deepEqual(errors.map(({ dropped }) => dropped), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
  });

  test('the last number of dropped messages is told at the end', async () => {
    const { client, socket, errors } = await connected({ mailbox: 1 });
    const messages = client.subscribe('t');
    for (let i = 0; i < 5; i++) socket.says(forTopic(i));
    messages.unsubscribe();
    assert.deepEqual(errors.map(({ dropped }) => dropped), [1, 4]);
    assert.equal(messages.dropped, 4);
  });

  test('those of direct messages as well', async () => {
    const { socket, errors } = await connected({ mailboxBytes: 1000, onDirect: () => new Promise(() => {}) });
    for (let i = 0; i < 5; i++) socket.says({ action: 'direct_message', data: 'x'.repeat(500), from: 'bob' });
    assert.match(errors[0].message, /of direct$/);
  });
});

describe('a WebSocket that can pause', () => {
  const crowding = { isPausable: true, mailbox: 320 }; // pauses above 10, reads on below 6
  const subscribed = (socket, ...topics) => topics.forEach((topic) => socket.says({ action: 'subscribed', topic }));

  test('is not read while a callback is behind, and nothing is lost', async () => {
    const { client, socket, errors } = await connected(crowding);
    const { callback, got, finish } = slow();
    const subscription = client.subscribe('t', callback);
    for (let sent = 0; sent < 1000; ) {
      if (socket.isPaused) await finish();
      else socket.says(forTopic(sent++));
    }
    await finish(1000);
    assert.equal(got.length, 1000);
    assert.equal(subscription.dropped, 0);
    assert.equal(socket.isPaused, false);
    assert.deepEqual(errors, []);
  });

  test('nor while there are many bytes', async () => {
    const { client, socket } = await connected({ isPausable: true });
    const { callback, finish } = slow();
    client.subscribe('t', callback);
    let sent = 0;
    while (!socket.isPaused) { socket.says(forTopic('x'.repeat(MIB))); sent++; }
    assert.ok(sent <= 4, 'a 32nd of 64 MiB, and what is being handled');
    await finish(2);
    assert.equal(socket.isPaused, false);
  });

  test('a callback that is slow is waited for as long as it finishes anything', async () => {
    const { client, socket } = await connected(crowding);
    const { callback, finish } = slow();
    client.subscribe('t', callback);
    subscribed(socket, 't');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    for (let i = 0; i < 8; i++) {
      assert.equal(socket.isPaused, true);
      await finish();
      await pass(9000);
    }
  });

  for (const overflow of ['drop_newest', 'drop_oldest']) test(`one that hangs is not, and its mailbox stays bounded: ${overflow}`, async () => {
    const { client, socket, errors } = await connected({ ...crowding, overflow });
    const hanging = client.subscribe('t', () => new Promise(() => {}));
    const others = [];
    client.subscribe('u', ({ data }) => { others.push(data); });
    subscribed(socket, 't', 'u');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    assert.equal(socket.isPaused, true);
    await pass(9750);
    assert.equal(socket.isPaused, true);
    await pass(250);
    assert.equal(socket.isPaused, false);
    for (let i = 0; i < 1000; i++) socket.says(forTopic(i), forTopic(i, 'u'));
    assert.equal(socket.isPaused, false);
    assert.equal(others.length, 1000);
    assert.equal(hanging.dropped, 1019 - 320);
    assert.ok(errors[0] instanceof QueueFull);
  });

  test('one that goes on after all is waited for again; how long one waits is an option', async () => {
    const { client, socket, errors } = await connected({ ...crowding, mailboxPatience: 1000 });
    const { callback, got, finish } = slow();
    client.subscribe('t', callback);
    subscribed(socket, 't');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    await pass(1000);
    assert.equal(socket.isPaused, false);
    socket.says(forTopic(20));
    assert.equal(socket.isPaused, false, 'nothing has changed');
    await finish();
    socket.says(forTopic(21));
    assert.equal(socket.isPaused, true);
    for (let sent = 22; sent < 2000; ) {
      if (socket.isPaused) await finish();
      else socket.says(forTopic(sent++));
    }
    await finish(2000);
    assert.equal(got.length, 2000);
    assert.deepEqual(errors, []);
  });

  test('nor is an iterator that nobody reads, until it is read', async () => {
    const { client, socket } = await connected(crowding);
    const messages = client.subscribe('t');
    subscribed(socket, 't');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    await pass(10_000);
    assert.equal(socket.isPaused, false);
    for (let i = 0; i < 20; i++) await messages.next();
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    assert.equal(socket.isPaused, true);
  });

  test('a callback that waits for an answer of the server gets it, soon', async () => {
    const { client, socket } = await connected(crowding);
    const outcomes = [];
    client.subscribe('t', async ({ data }) => {
      if (data) await client.flush();
      else await (await client.publishWithAck('u', 1, { timeout: 100 })).wait();
      outcomes.push(data);
    });
    subscribed(socket, 't');
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    assert.equal(socket.isPaused, true);
    await pass(250);
    assert.equal(socket.isPaused, false);
    const { ack_id: id } = (await socket.sent()).at(-1);
    socket.says({ action: 'ack_response', ack_id: id });
    const { nonce } = (await socket.sent()).at(-1);
    socket.says({ action: 'pong', id: 'me', nonce });
    await settled();
    assert.deepEqual(outcomes, [0, 1]);
  });

  test('silence tells nothing meanwhile, and the server is watched again afterwards', async () => {
    const { client, socket } = await connected(crowding);
    const { callback, finish } = slow();
    client.subscribe('t', callback);
    subscribed(socket, 't');
    await socket.sent();
    for (let i = 0; i < 35; i++) socket.says(forTopic(i));
    for (let i = 0; i < 25; i++) {
      await pass(4000);
      await finish();
    }
    assert.equal(client.connected, true);
    assert.equal(socket.isPaused, true);
    await finish(10);
    assert.equal(socket.isPaused, false);
    assert.deepEqual(await socket.sent(), []);
    await pass(25_000);
    assert.equal((await socket.sent())[0].action, 'ping');
    await pass(20_000);
    assert.equal(client.connected, false);
  });

  test('ending the subscription is a relief, and so is closing', async () => {
    for (const end of ['unsubscribe', 'close']) {
      const { client, socket } = await connected(crowding);
      const subscription = client.subscribe('t', () => new Promise(() => {}));
      for (let i = 0; i < 20; i++) socket.says(forTopic(i));
      assert.equal(socket.isPaused, true);
      if (end === 'close') client.close();
      else subscription.unsubscribe();
      assert.equal(socket.isPaused, false);
    }
  });

  test('the next connection is not read either', async () => {
    const { client, socket, sockets } = await connected({ ...crowding, reconnect: 100 });
    const { callback, finish } = slow();
    client.subscribe('t', callback);
    for (let i = 0; i < 20; i++) socket.says(forTopic(i));
    socket.end();
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.equal(sockets[1].isPaused, true);
    await finish(15);
    assert.equal(sockets[1].isPaused, false);
  });
});

for (const [level, agreement] of [[1, LEVEL_1], [2, LEVEL_2]]) {
  test(`level ${level}: who publishes without waiting is refused beyond 64 MiB`, async () => {
    const { client, socket } = await connected({}, agreement);
    client.subscribe('t', () => 'x');
    await socket.sent();
    const large = 'x'.repeat(MIB / 2);
    const outcomes = Array.from({ length: 200 }, () => outcomeOf(client.publish('t', large)));
    socket.bufferedAmount = 65 * MIB; // of a network that takes nothing
    await settled();
    const taken = outcomes.filter(({ is }) => !(is instanceof QueueFull)).length;
    assert.ok(taken >= 127 && taken <= 129, `${taken} taken`);
    for (const attempt of [
      client.publish('u', 1), client.publishToId('bob', 1), client.publishWithReceipt('t', 1), client.publishWithAck('t', 1),
    ]) await assert.rejects(attempt, QueueFull);
    client.subscribe('u');
    socket.says({ action: 'publish_ack', topic: 't', ack_id: 'a', data: level > 1 ? 1 : { data: 1, from: 'bob' } });
    const actions = (await socket.sent()).map(({ action }) => action);
    assert.equal(actions.length, taken + 2);
    assert.deepEqual(actions.slice(-2), ['subscribe', 'ack'], 'what is small is sent all the same');
    socket.bufferedAmount = 0;
    await client.publish('u', 1);
  });
}

describe('a loop that is slower than messages come', () => {
  /** A loop whose body ends whenever it is told so, and leaves the loop where that throws. */
  async function looping(options) {
    const world = await connected(options);
    const messages = world.client.subscribe('t');
    world.socket.says({ action: 'subscribed', topic: 't' });
    const { callback, got, finish } = slow();
    const loop = (async () => { for await (const message of messages) await callback(message); })();
    loop.catch(() => {});
    return { ...world, messages, loop, got, finish };
  }

  test('is waited for, where the WebSocket can pause', async () => {
    const { socket, errors, messages, got, finish } = await looping({ isPausable: true, mailbox: 320 });
    let most = 0;
    for (let sent = 0; sent < 1000; ) {
      if (socket.isPaused) await finish();
      else socket.says(forTopic(sent++));
      most = Math.max(most, sent - got.length);
    }
    await finish(1000);
    assert.deepEqual(got, Array.from({ length: 1000 }, (_, index) => index));
    assert.ok(most < 15, `${most} messages have waited`);
    assert.deepEqual([messages.dropped, errors], [0, []]);
  });

  for (const [overflow, kept] of [['drop_newest', [0, 1, 2, 3]], ['drop_oldest', [0, 997, 998, 999]]]) {
    test(`has a mailbox that is bounded, where it cannot: ${overflow}`, async () => {
      const { socket, errors, messages, got, finish } = await looping({ mailbox: 3, overflow });
      socket.says(forTopic(0));
      await settled();
      for (let i = 1; i < 1000; i++) socket.says(forTopic(i));
      assert.equal(messages.dropped, 996);
      assert.ok(errors[0] instanceof QueueFull);
      await finish(4);
      assert.deepEqual(got, kept);
      socket.says(forTopic('and on it goes'));
      await settled();
      assert.equal(got.at(-1), 'and on it goes');
    });
  }

  for (const how of ['break', 'return', 'throw']) {
    test(`unsubscribes when it is left by ${how}; what waits is given up, and reading goes on`, async () => {
      const { client, socket } = await connected({ isPausable: true, mailbox: 320 });
      const messages = client.subscribe('t');
      socket.says({ action: 'subscribed', topic: 't' });
      await socket.sent();
      for (let i = 0; i < 20; i++) socket.says({ ...forTopic(i), action: 'publish_ack', ack_id: `q${i}` });
      assert.equal(socket.isPaused, true);
      const loop = (async () => {
        for await (const { data } of messages) {
          if (data < 2) continue;
          if (how === 'break') break;
          if (how === 'return') return;
          throw new Error('enough');
        }
      })();
      if (how === 'throw') await assert.rejects(loop, { message: 'enough' });
      else await loop;
      const sent = await socket.sent();
      assert.deepEqual(sent.filter(({ action }) => action !== 'ack'), [{ action: 'unsubscribe', topic: 't' }]);
      const outcomes = sent.filter(({ action }) => action === 'ack').map(({ success, error }) => error ?? success);
      assert.deepEqual(outcomes, [true, true, 'the subscription was left', ...Array(17).fill('unsubscribed')]);
      assert.equal(socket.isPaused, false);
      socket.says(forTopic(20));
      assert.deepEqual(await messages.next(), { done: true, value: undefined });
    });
  }
});

describe('what was not sent when the connection ended', () => {
  const published = async (socket) => (await socket.sent()).filter(({ action }) => action === 'publish').length;

  for (const [level, agreement] of [[1, LEVEL_1], [2, LEVEL_2]]) {
    test(`level ${level}: what has not been written yet, and what the WebSocket still holds, is counted and told`, async () => {
      const { client, socket, errors } = await connected({}, agreement);
      for (let i = 0; i < 10; i++) client.publish('t', i);
      await published(socket);
      socket.bufferedAmount = 5000;
      for (let i = 0; i < 5; i++) client.publish('u', 'x'.repeat(3000));
      await settled();
      socket.bufferedAmount = 7000; // the last two, and a part of the one before
      client.publish('v', 1);
      client.publishToId('bob', 1);
      client.publishWithAck('v', 1).then((ack) => ack.wait()).catch(() => {});
      socket.end();
      assert.equal(client.dropped, 5);
      assert.ok(errors[0] instanceof ConnectionLost);
      assert.deepEqual([errors[0].count, errors[0].code], [5, 1006]);
      assert.match(errors[0].message, /^5 publications were not sent: the connection ended/);
    });
  }

  test('a WebSocket that tells what it has sent, as `ws`, is believed also when it holds nothing any more', async () => {
    const { client, socket, errors } = await connected();
    const told = [];
    mock.method(socket, 'send', (text, sent) => { socket.frames.push(text); told.push(sent); });
    for (const topic of ['a', 'b', 'c', 'd']) {
      client.publish(topic, 1);
      await settled();
    }
    const [first, second, ...rest] = told;
    first();
    second(null);
    for (const failed of rest) failed(new Error('it is closed'));
    socket.end();
    assert.equal(client.dropped, 2);
    assert.equal(errors[0].count, 2);
  });

  test('a WebSocket that refuses to send: what it did not take is counted', async () => {
    const { client, socket, errors } = await connected();
    await client.publish('t', 1);
    await published(socket);
    socket.send = () => { throw new Error('no'); };
    for (let i = 0; i < 3; i++) await client.publish('t', i);
    await settled();
    await client.publish('u', 1);
    await pass(100, 50);
    assert.equal(client.connected, false);
    assert.equal(client.dropped, 4);
    assert.match(errors[0].message, /^4 publications were not sent: .*: no$/);
  });

  test('a WebSocket in its closing handshake takes nothing, and does not say so: that is counted', async () => {
    for (const code of [1012, undefined]) {
      const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
      await client.publish('t', 1);
      await published(socket);
      socket.readyState = 2;
      for (let i = 0; i < 3; i++) await client.publish('t', i);
      await settled();
      assert.deepEqual(socket.frames, []);
      await pass(4000);
      assert.equal(client.connected, true, 'its close code may still come');
      if (code) socket.end(code);
      else await pass(1000);
      assert.equal(client.dropped, 3);
      assert.equal(errors[0].code, code ?? 1006);
      await pass(100);
      assert.equal(sockets.length, 2);
    }
  });

  test('who is told of it can publish nothing more on that connection', async () => {
    const outcomes = [];
    const onError = () => outcomes.push(outcomeOf(client.publish('t', 'late')));
    const { client, socket, sockets } = await connected({ onError, offlineQueue: 1, reconnect: 100 });
    client.publish('t', 1);
    socket.end();
    await settled();
    assert.deepEqual(outcomes, [{ is: undefined }]);
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.deepEqual((await sockets[1].sent()).map(({ data }) => data), ['late']);
    assert.equal(client.dropped, 1);
  });

  test('each is counted once, and nothing is told when all was sent', async () => {
    const { client, socket, errors, sockets } = await connected({ reconnect: 100 });
    for (let i = 0; i < 1000; i++) {
      client.publish('t', 'x'.repeat(2500));
      await settled();
    }
    socket.end();
    assert.equal(client.dropped, 0);
    await pass(100);
    await welcome(sockets[1], 'me');
    client.publish('t', 1);
    sockets[1].end();
    await settled();
    assert.equal(client.dropped, 1);
    assert.equal(errors.length, 1);
  });

  test('who waits for room is told', async () => {
    for (const [end, type] of [[(client, socket) => socket.end(), ConnectionLost], [(client) => client.close(), ClientClosed]]) {
      const { client, socket } = await connected();
      socket.bufferedAmount = 2 * MIB;
      const waiting = assert.rejects(client.publish('t', 1), type);
      await settled();
      end(client, socket);
      await pass(4);
      await waiting;
    }
  });
});

describe('closing', () => {
  test('may be given more time, or less; what could not be sent is told', async () => {
    for (const [options, time] of [[{}, 5000], [{ closeTimeout: 1000 }, 1000], [{ closeTimeout: 60_000 }, 60_000]]) {
      const { client, socket, errors } = await connected({ ...options, isPausable: true });
      client.publish('t', 1);
      client.publish('t', 2);
      socket.bufferedAmount = 1000;
      const closed = outcomeOf(client.close());
      assert.equal(socket.frames.length, 1, 'it was written at once');
      await pass(time - 1);
      assert.equal(closed.is, 'waits');
      assert.equal(socket.terminated, false);
      await pass(1);
      assert.equal(closed.is, undefined);
      assert.equal(socket.terminated, true);
      assert.equal(client.dropped, 2);
      assert.deepEqual(errors.map(({ count }) => count), [2]);
    }
  });

  test('everything that waits is told', async () => {
    const { client, socket } = await connected();
    const ack = await client.publishWithAck('t', 1);
    const waiting = [
      client.flush(), client.publishWithReceipt('t', 1), ack.wait(), ack.waitAny(), ack.status(),
      ack.Wait(), ack.WaitAny(), ack.GetStatus(), (async () => await client.subscribe('t', () => {}))(),
      (async () => { for await (const response of ack) assert.fail(response); })(),
    ];
    const outcomes = Promise.allSettled(waiting);
    const next = client.subscribe('u').next();
    client.close();
    for (const { reason } of await outcomes) assert.ok(reason instanceof ClientClosed, String(reason));
    assert.equal((await next).done, true);
    socket.end(1000);
    for (const attempt of [client.flush(), client.publish('t', 1), client.publishToId('x', 1), client.connect()]) {
      await assert.rejects(attempt, ClientClosed);
    }
  });

  test('no callback begins afterwards', async () => {
    const begun = [];
    let finish;
    const { client, socket } = await connected({ onDirect: ({ data }) => { begun.push(`direct ${data}`); } });
    client.subscribe('t', ({ data }) => {
      begun.push(data);
      return new Promise((resolve) => { finish = resolve; });
    });
    for (let i = 0; i < 5; i++) socket.says(forTopic(i));
    client.close();
    finish();
    socket.says(forTopic(5), { action: 'direct_message', data: 6, from: 'bob' });
    socket.end(1000);
    await settled();
    await pass(10_000);
    assert.deepEqual(begun, [0]);
  });

  test('nor from within a batch, or from the hook for frames', async () => {
    const begun = [];
    const { client, socket } = await connected();
    client.subscribe('t', ({ data }) => { begun.push(data); client.close(); });
    client.subscribe('t', ({ data }) => { begun.push(`other ${data}`); });
    socket.says({ action: 'publish', topic: 't', batch: [1, 2, 3], from: 'bob' });
    await settled();
    assert.deepEqual(begun, [1]);
    const { client: second, socket: its } = await connected({ onFrame: ({ action }, self) => { if (action === 'publish') self.close(); } });
    second.subscribe('t', ({ data }) => { begun.push(data); });
    its.says(forTopic(1));
    assert.deepEqual(begun, [1]);
  });

  test('nor when the client had ended with an error before, and was handing over what had come', async () => {
    for (const topic of ['t', undefined]) {
      const { callback, got, finish } = slow();
      const { client, socket } = await connected({ onDirect: callback });
      client.subscribe('t', callback);
      for (let i = 0; i < 5; i++) socket.says(topic ? forTopic(i) : { action: 'direct_message', data: i, from: 'bob' });
      socket.end(4001);
      await finish();
      assert.deepEqual(got, [0, 1]);
      client.close();
      await finish(5);
      assert.deepEqual(got, [0, 1]);
    }
  });

  test('nor when it is closed before it was connected, or by a hook', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const events = [];
    const client = new Client('h', {
      WebSocket, onConnect: () => events.push('connect'), onClose: () => events.push('close'),
      onFrame: (frame, self) => { events.push(frame.action); self.close(); },
    });
    const opened = assert.rejects(client.connect(), ClientClosed);
    await settled();
    await welcome(sockets[0], 'me');
    await opened;
    assert.deepEqual(events, ['pong', 'close']);
    const { WebSocket: Second, sockets: others } = fakeNetwork();
    const second = new Client('h', { WebSocket: Second, onConnect: () => second.close() });
    const rejected = assert.rejects(second.connect(), ClientClosed);
    await settled();
    await welcome(others[0], 'me');
    others[0].end(1000);
    await rejected;
  });

  test('a callback that never ends does not keep it', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', () => new Promise(() => {}));
    socket.says(forTopic(1));
    const closed = client.close();
    socket.end(1000);
    await closed;
  });

  test('Run() tells why the client ended, unless the program closed it', async () => {
    const { client, socket } = await connected();
    const run = client.Run();
    client.Run(); // nobody need wait for it
    socket.end(4001);
    await assert.rejects(run, { code: 4001 });
    await assert.rejects(client.Run(), ConnectionLost);
    await client.close();
  });
});

describe('arguments', () => {
  const { WebSocket } = fakeNetwork();
  const wrong = {
    id: ['', 5, {}, [], true, '\ud800', 'x\udc00y', 'a\nb', '\0', '\x7f', '\x9f', 'x'.repeat(65_537), '\u{1f600}'.repeat(65_537)],
    path: [5, {}, null, true, '/a\nb', '\0', '/\ud800'],
    secure: ['yes', 1, 0, 'false'],
    token: [5, {}, true, ['x'], '', '\ud800', 'line\n'],
    headers: ['x', 5, ['x']],
    level: [0, 3, '1', null, true],
    reconnect: [0, -1, 1e-9, 9.9, NaN, '5', null, {}, -Infinity],
    backoff: [5, 'x', { first: 0 }, { first: -1 }, { first: 9.9 }, { first: NaN }, { first: 31_000 }, { factor: 0.5 }, { factor: '2' },
      { longest: 1 }, { longest: NaN }, { jitter: -1 }, { jitter: 2 }, { jitter: '0' }, { first: Infinity, longest: 5 }],
    WebSocket: [5, {}, 'ws'],
    requestTimeout: [0, -1, NaN, '5', null, {}, true, 5n],
    closeTimeout: [-1, NaN, '5', null],
    offlineQueue: [-1, 1.5, NaN, Infinity, '5', null, true],
    mailbox: [-1, 1.5, NaN, Infinity, '5', null],
    mailboxBytes: [-1, 1.5, NaN, Infinity, '5', null],
    mailboxPatience: [0, -1, NaN, '5', null],
    overflow: ['close', 5, null, ''],
    signal: [5, {}, 'x'],
    onDirect: [5, 'x', {}], onConnect: [5], onDisconnect: [5], onError: [5], onFrame: [5], onClose: [5],
  };
  for (const [name, values] of Object.entries(wrong)) {
    test(`${name}: what is refused`, () => {
      for (const value of values) {
        assert.throws(() => new Client('h', { WebSocket, [name]: value }), (error) => {
          assert.ok(error instanceof InvalidArgument, `${String(value)}: ${error}`);
          return error.message.includes(name);
        });
      }
    });
  }

  test('what is none is no option', async () => {
    const none = { id: null, token: null, headers: null, backoff: null, signal: null, onDirect: null, onError: null, secure: undefined, mailbox: undefined };
    const client = new Client('h', { WebSocket, ...none });
    assert.match(client.id, /^client-/);
    for (const options of [5, 'x', null, [], () => {}]) assert.throws(() => new Client('h', options), InvalidArgument);
  });

  test('an option that there is not is refused, with the name of the nearest', async () => {
    const { client, socket } = await connected();
    const says = (name, nearest) => ({ name: 'InvalidArgument', message: `there is no option ${name}; the nearest one is ${nearest}` });
    for (const [name, nearest] of [
      ['offlinequeue', 'offlineQueue'], ['request_timeout', 'requestTimeout'], ['Id', 'id'], ['onDirectMessage', 'onDirect'],
      ['closeTimeOut', 'closeTimeout'], ['tokn', 'token'], ['constructor', 'reconnect'], ['signals', 'signal'], ['', 'id'],
    ]) {
      for (const value of [5, undefined, null]) {
        assert.throws(() => new Client('h', { WebSocket, [name]: value }), says(name, nearest));
        assert.throws(() => new Client({ WebSocket, [name]: value }), says(name, nearest));
      }
      await assert.rejects(Client.connect('h', { WebSocket, [name]: 5 }), says(name, nearest));
    }
    assert.throws(() => new Client('h', { WebSocket, backoff: { frist: 5 } }), says('frist', 'first'));
    assert.throws(() => client.subscribe('t', () => {}, { singal: 5 }), says('singal', 'signal'));
    assert.throws(() => client.subscribe('t', { lost: 5 }), says('lost', 'last'));
    await assert.rejects(client.publishWithAck('t', 1, { timeOut: 5 }), says('timeOut', 'timeout'));
    await assert.rejects(client.publishToIdWithAck('bob', 1, { sginal: 5 }), says('sginal', 'signal'));
    await assert.rejects(Client.NewClient({ Adress: 'h' }), says('Adress', 'Address'));
    await assert.rejects(Client.NewClient({ address: 'h' }), says('address', 'Address'));
    assert.deepEqual(await socket.sent(), []);
  });

  test('an address that is an object of options has no further options', () => {
    assert.throws(() => new Client({ WebSocket }, { WebSocket }), InvalidArgument);
  });

  test('in the unified spelling', async () => {
    for (const [name, values] of Object.entries({
      Address: ['', 5], Path: [5], Secure: ['yes', 1], Id: [5, 0, 'a\nb'], AutoRestart: ['yes', 1], Autorestart: [1],
      RestartEvery: ['5', -1, 9.9, NaN], OnDataWs: [5], OnId: [5, 'x'], OnOpen: [5], OnClose: [5, async function* () {}],
    })) {
      for (const value of values) await assert.rejects(Client.NewClient({ [name]: value }), InvalidArgument, name);
    }
  });

  test('an id without the Web Crypto of browsers and Node', (t) => {
    const crypto = Object.getOwnPropertyDescriptor(globalThis, 'crypto');
    t.after(() => Object.defineProperty(globalThis, 'crypto', crypto));
    for (const value of [undefined, {}]) {
      Object.defineProperty(globalThis, 'crypto', { value, configurable: true });
      const ids = Array.from({ length: 100 }, () => new Client('h', { WebSocket }).id);
      assert.equal(new Set(ids).size, 100);
      for (const id of ids) assert.match(id, /^client-[0-9a-f]{16}$/);
    }
  });

  test('data that JSON would change', async () => {
    const { client, socket } = await connected();
    const sparse = [];
    sparse[1] = 1;
    const wrong = [
      NaN, Infinity, -Infinity, new Number(NaN), { a: new Number(Infinity) }, [NaN], { a: { b: [Infinity] } }, [undefined], sparse, [() => {}], [Symbol('x')], { null: NaN },
      { toJSON: () => NaN }, 5n, { a: 5n }, { toJSON() { throw null; } }, { get a() { throw Object.create(null); } },
    ];
    for (const data of wrong) {
      for (const attempt of [
        client.publish('t', data), client.publishToId('bob', data), client.publishToServer('h:1', data),
        client.publishWithReceipt('t', data), client.publishWithAck('t', data), client.publishToIdWithAck('bob', data),
      ]) await assert.rejects(attempt, InvalidArgument);
    }
    const right = [null, [null], { a: null }, 'null', 'NaN', { null: 'null' }, [0, -0, 1e308], { a: undefined, b: 1 }, new Date(NaN), [new Number(0), null]];
    for (const data of right) await client.publish('t', data);
    assert.deepEqual((await socket.sent()).flatMap(({ batch }) => batch), JSON.parse(JSON.stringify(right)));
  });

  test('halves of characters, and what only looks like them', async () => {
    const { client, socket } = await connected({}, { proto: 2, limits: { max_message: 1e9 } });
    for (const data of ['\ud800', '\\\ud800', '\n\\\udfff', { '\udc00': 1 }, ['x', '\ud83d'], '\\ud800\ud800']) {
      await assert.rejects(client.publish('t', data), InvalidArgument);
    }
    const right = ['\\ud800', '\\\\ud800', '"\\ud800"', '\ud83d\ude00', `${'\\'.repeat(1e7)}\\ud800`];
    for (const data of right) {
      client.publish('t', data);
      const [{ data: sent }] = await socket.sent();
      assert.ok(sent === data, 'it comes through unchanged');
    }
  });

  test('names and the rest', async () => {
    const { client, socket } = await connected();
    const tooLong = ['x'.repeat(65_537), '\u{1f600}'.repeat(65_537)];
    for (const name of ['', 5, null, undefined, {}, ['t'], new String('t'), '\ud800', 'a\udfff', 'a\nb', 't\0', '\x7f', '\x80', '\x9f', ...tooLong]) {
      for (const attempt of [
        () => client.publish(name, 1), () => client.publishToId(name, 1), () => client.publishToServer(name, 1),
        () => client.publishWithReceipt(name, 1), () => client.publishWithAck(name, 1), () => client.publishToIdWithAck(name, 1),
        async () => client.subscribe(name, () => {}), async () => client.Subscribe(name, () => {}), async () => client.unsubscribe(name), async () => client.PublishWithAck(name, 1),
      ]) await assert.rejects(attempt, InvalidArgument);
    }
    for (const attempt of [
      () => client.subscribe('t', null, 5), () => client.subscribe('t', () => {}, 'x'), () => client.subscribe('t', () => {}, []),
      () => client.subscribe('t', () => {}, { signal: 5 }), () => client.subscribe('t', { signal: {} }),
      () => client.Subscribe('t'), () => client.Subscribe('t', {}), () => client.OnClose(5),
    ]) assert.throws(attempt, InvalidArgument);
    for (const callback of [5, 'x', true, [], Symbol('x')]) {
      for (const options of [undefined, {}]) assert.throws(() => client.subscribe('t', callback, options), /^InvalidArgument: callback is a function/);
    }
    assert.throws(() => client.subscribe('t', {}, {}), /^InvalidArgument: callback is a function/);
    await assert.rejects(client.publishToServer('h:1', 1, 'yes'), InvalidArgument);
    await assert.rejects(client.publishToServer('h'.repeat(1025), 1), InvalidArgument);
    assert.deepEqual(await socket.sent(), []);
    for (const name of [' ', 'a b', '\xa0', '\u2028', '\u{1f600}'.repeat(65_536)]) await client.publish(name, 1); // as the server takes them
    await client.publishToServer('h'.repeat(1024), 1);
    assert.equal((await socket.sent()).length, 6);
    for (const options of [5, null, [], 'x', { signal: 5 }, { timeout: 0 }, { timeout: -Infinity }, { timeout: 5n }, { timeout: {} }]) {
      await assert.rejects(client.publishWithAck('t', 1, options), InvalidArgument);
    }
    for (const timeout of [0, -1, NaN, '5', null]) assert.throws(() => client.PublishWithAck('t', 1, timeout), InvalidArgument);
  });
});

test('a direct message without data is null, on both levels, and so is a publication', async () => {
  for (const agreement of [LEVEL_1, LEVEL_2]) {
    const got = [];
    const { client, socket } = await connected({ onDirect: ({ data }) => { got.push(data); } }, agreement);
    client.subscribe('t', ({ data }) => { got.push(data); });
    socket.says({ action: 'direct_message', from: 'bob' }, { action: 'publish', topic: 't', from: 'bob' });
    assert.deepEqual(got, [null, null]);
  }
});

describe('level 1 on request', () => {
  test('is what the client offers, whatever the server says', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const client = new Client('h', { WebSocket, id: 'me', level: 1 });
    client.connect();
    await settled();
    sockets[0].open();
    assert.deepEqual(await sockets[0].sent(), [{ action: 'ping', from: 'me' }]);
    sockets[0].says({ action: 'pong', id: 'me', ...LEVEL_2 });
    assert.equal(client.level, 1);
  });

  test('who wants the frames in the unified spelling gets those of level 1', async () => {
    for (const [OnDataWs, level] of [[() => {}, undefined], [undefined, 2]]) {
      const { WebSocket, sockets } = fakeNetwork();
      const original = globalThis.WebSocket;
      globalThis.WebSocket = WebSocket;
      Client.NewClient({ Address: 'h', OnDataWs });
      globalThis.WebSocket = original;
      await settled();
      sockets[0].open();
      assert.equal((await sockets[0].sent())[0].proto, level);
    }
  });

  test('RestartEvery 0 is ten seconds, as in the family', async () => {
    const { WebSocket, sockets } = fakeNetwork();
    const original = globalThis.WebSocket;
    globalThis.WebSocket = WebSocket;
    Client.NewClient({ Address: 'h', AutoRestart: true, RestartEvery: 0 });
    globalThis.WebSocket = original;
    mock.method(console, 'error', () => {});
    await settled();
    sockets[0].fail('refused');
    await pass(9_999);
    assert.equal(sockets.length, 1);
    await pass(1);
    assert.equal(sockets.length, 2);
  });
});

// Messages with ids, which the client sends again when their connection ends before the answer.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { ClientClosed, ConnectionLost, InvalidArgument, NotConnected, QueueFull, RequestTimeout, ServerError } from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

const BEGINNING = 1e12;
let stoodStill; // milliseconds, in which the date went on and the clock of the client did not

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: BEGINNING });
  stoodStill = 0;
  mock.method(performance, 'now', () => Date.now() - BEGINNING - stoodStill);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const OLD = { ...LEVEL_2, features: LEVEL_2.features.filter((feature) => feature !== 'message_ids') };
const MIB = 1024 * 1024;
const nothing = () => {};

/** An agreement with a server that remembers messages otherwise. */
const remembering = (memory) => ({ ...LEVEL_2, message_ids: { ...LEVEL_2.message_ids, ...memory } });

/** Until when a server is sure to remember a message that it gets when it has agreed. */
const UNTIL = LEVEL_2.message_ids.time + LEVEL_2.message_ids.seconds;

/** Each call that takes an id: what makes it, to its outcome, and which message goes out. */
const CALLS = {
  publishWithReceipt: [(client, options) => client.publishWithReceipt('t', 1, options), 'publish'],
  publishWithAck: [async (client, options) => (await client.publishWithAck('t', 1, options)).wait(), 'publish_with_ack'],
  publishToIdWithAck: [async (client, options) => (await client.publishToIdWithAck('bob', 1, options)).wait(), 'publish_to_id_with_ack'],
  request: [(client, options) => client.request('t', 1, options), 'publish_with_ack'],
  requestToId: [(client, options) => client.requestToId('bob', 1, options), 'publish_to_id_with_ack'],
};

/** The server's answer to a message that succeeds. */
const answerTo = ({ receipt, ack_id: ackId }) => (
  receipt ? { action: 'published', topic: 't', receipt, delivered: 3 }
    : { action: 'ack_response', ack_id: ackId, complete: true, responses: { bob: { success: true, result: 'yes' } } }
);

/** The server's refusal of a message. */
const refusalOf = ({ action, receipt, ack_id: ackId }, code) => (
  { action: 'error', error: 'no', code, request: action, receipt, ack_id: ackId }
);

/** What the program makes of an answer. */
const OUTCOMES = {
  publishWithReceipt: 3,
  publishWithAck: new Map([['bob', { clientId: 'bob', success: true, result: 'yes' }]]),
  publishToIdWithAck: new Map([['bob', { clientId: 'bob', success: true, result: 'yes' }]]),
  request: 'yes',
  requestToId: 'yes',
};

/** A client that comes back after 100 ms, with one subscription. */
async function coming(options, agreement) {
  const world = await connected({ reconnect: 100, ...options }, agreement);
  const { client, sockets } = world;
  client.subscribe('news', nothing);
  await sockets[0].sent();
  /** The connection ends, and another one follows: what is sent on it behind its subscription. */
  const again = async (next = agreement, code = 1006) => {
    sockets.at(-1).end(code);
    await pass(100);
    await welcome(sockets.at(-1), 'me', next);
    const [{ action, topic }, ...others] = await sockets.at(-1).sent();
    assert.deepEqual([action, topic], ['subscribe', 'news']);
    return others;
  };
  return { ...world, again, says: (...messages) => sockets.at(-1).says(...messages) };
}

describe('an id', () => {
  for (const [name, [call, action]] of Object.entries(CALLS)) {
    test(`${name} has one`, async () => {
      const { client, socket } = await connected();
      const longest = '😀'.repeat(256);
      for (const messageId of ['order 5', longest]) {
        const outcome = outcomeOf(call(client, { messageId }));
        const [message] = await socket.sent();
        assert.deepEqual([message.action, message.data, message.message_id], [action, 1, messageId]);
        socket.says(answerTo(message));
        await settled();
        assert.deepEqual(outcome.is, OUTCOMES[name]);
      }
      for (const options of [undefined, {}, { messageId: undefined }, { messageId: null }]) {
        call(client, options).catch(nothing);
        assert.equal('message_id' in (await socket.sent())[0], false);
      }
    });

    test(`${name} takes a text of 1 to 256 characters`, async () => {
      const { client, socket } = await connected();
      for (const messageId of ['', 'x'.repeat(257), 5, 0, true, [], ['a'], {}, nothing, '\ud800', 'a\nb']) {
        await assert.rejects(call(client, { messageId }), { name: 'InvalidArgument', message: /^messageId is a string of 1 to 256 characters/ });
      }
      await assert.rejects(call(client, { messageID: 'a' }), { message: 'there is no option messageID; the nearest one is messageId' });
      assert.deepEqual(await socket.sent(), []);
    });

    for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1 })) {
      test(`${name} is refused where the server, ${what}, knows none`, async () => {
        const { client, socket } = await connected({}, agreement);
        await assert.rejects(call(client, { messageId: 'a' }), { name: 'Unsupported', feature: 'message_ids', message: 'the server does not have message_ids' });
        assert.deepEqual(await socket.sent(), []);
      });
    }

    test(`${name} is refused without a connection`, async () => {
      const { client, socket } = await connected({ offlineQueue: 10 });
      socket.end();
      await assert.rejects(call(client, { messageId: 'a' }), NotConnected);
    });
  }

  test('is for calls that wait for an answer', async () => {
    const { client, socket } = await connected();
    const options = { messageId: 'a' };
    await assert.rejects(client.publish('t', 1, options), InvalidArgument);
    await assert.rejects(client.publishToId('bob', 1, options), InvalidArgument);
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('a connection that ends before the answer', () => {
  for (const [name, [call, action]] of Object.entries(CALLS)) {
    test(`${name}: the next one sends it again, and has the answer`, async () => {
      const { client, socket, again, says, errors } = await coming();
      const headers = { a: 'b' };
      const outcome = outcomeOf(call(client, { messageId: 'a', headers }));
      const [first] = await socket.sent();
      headers.a = 'c';
      const [message, ...others] = await again();
      assert.equal(outcome.is, 'waits');
      assert.deepEqual(others, []);
      assert.deepEqual([message.action, message.data, message.message_id, message.headers], [action, 1, 'a', { a: 'b' }]);
      assert.equal('repeat_until' in first, false);
      assert.deepEqual({ ...message, timeout: undefined }, { ...first, repeat_until: UNTIL, timeout: undefined });
      says(answerTo(message));
      await settled();
      assert.deepEqual(outcome.is, OUTCOMES[name]);
      assert.deepEqual(await again(), [], 'it is answered');
      assert.deepEqual(errors, []);
    });

    test(`${name}: without an id it ends`, async () => {
      const { client, socket, again } = await coming();
      const outcome = outcomeOf(call(client));
      await socket.sent();
      socket.end(1001);
      await settled();
      assert.ok(outcome.is instanceof ConnectionLost);
      assert.equal(outcome.is.code, 1001);
      assert.deepEqual(await again(), []);
    });

    test(`${name}: as often as it takes, also behind attempts that fail`, async () => {
      const { client, socket, sockets, again, says } = await coming();
      const outcome = outcomeOf(call(client, { messageId: 'a' }));
      await socket.sent();
      assert.equal((await again()).length, 1);
      sockets.at(-1).end();
      await pass(100);
      const [message] = await again(undefined, 1006); // of the one that had not registered
      assert.equal(message.message_id, 'a');
      says(answerTo(message));
      await settled();
      assert.deepEqual(outcome.is, OUTCOMES[name]);
    });

    /** What ends the call in place of a repeat: with the error of the connection on which it was sent. */
    const ENDS = {
      'a server that was restarted': ({ again }) => again(remembering({ window: 'another' }), 1001),
      'a server that lacks them': ({ again }) => again(OLD, 1001),
      'a server of level 1': ({ again }) => again(LEVEL_1, 1001),
      'another id': async ({ sockets }) => {
        sockets[0].end(1001);
        await pass(100);
        await welcome(sockets[1], 'another');
        return (await sockets[1].sent()).slice(1);
      },
      'the program closes meanwhile': async ({ client, sockets }) => {
        sockets[0].end(1001);
        client.close();
        return [];
      },
      'the program closes while it connects': async ({ client, sockets }) => {
        sockets[0].end(1001);
        await pass(100);
        client.close();
        return [];
      },
      'the next server refuses this client': async ({ sockets }) => {
        sockets[0].end(1001);
        await pass(100);
        sockets[1].open();
        await settled();
        sockets[1].says({ action: 'error', error: 'no', code: 'unauthorized' });
        return [];
      },
    };
    for (const [what, end] of Object.entries(ENDS)) {
      test(`${name}, ${what}: it ends`, async () => {
        const world = await coming();
        const outcome = outcomeOf(call(world.client, { messageId: 'a' }));
        await world.socket.sent();
        assert.deepEqual(await end(world), []);
        await settled();
        assert.ok(outcome.is instanceof ConnectionLost, `${outcome.is}`);
        assert.equal(outcome.is.code, 1001);
      });
    }

    for (const [what, options, code] of [['without reconnect', { reconnect: false }, 1006], ['that another one has replaced', {}, 4001]]) {
      test(`${name}, of a client ${what}: it ends at once`, async () => {
        const { client, socket } = await coming(options);
        const outcome = outcomeOf(call(client, { messageId: 'a' }));
        await socket.sent();
        socket.end(code);
        await settled();
        assert.ok(outcome.is instanceof ConnectionLost);
        assert.equal(outcome.is.code, code);
      });
    }

    test(`${name}: closing with a connection ends it at once, also after a repeat`, async () => {
      for (const times of [0, 1]) {
        const { client, socket, again } = await coming();
        const outcome = outcomeOf(call(client, { messageId: 'a' }));
        await socket.sent();
        if (times) await again();
        client.close();
        await settled();
        assert.ok(outcome.is instanceof ClientClosed, `${outcome.is}`);
      }
    });

    for (const code of ['rate_limited', 'limit_reached', 'forbidden', 'message_id_in_use', undefined]) {
      test(`${name}: a refusal of the repeat, ${code}, says nothing about the first`, async () => {
        const { client, socket, again, says, errors } = await coming();
        const outcome = outcomeOf(call(client, { messageId: 'a' }));
        await socket.sent();
        const [message] = await again(undefined, 1001);
        says(refusalOf(message, code));
        await settled();
        assert.ok(outcome.is instanceof ConnectionLost, `${outcome.is}`);
        assert.equal(outcome.is.code, 1001);
        assert.deepEqual(await again(), []);
        assert.deepEqual(errors, []);
      });
    }

    test(`${name}: that its outcome is unknown is told`, async () => {
      const { client, socket, again, says } = await coming();
      const outcome = outcomeOf(call(client, { messageId: 'a' }));
      await socket.sent();
      const [message] = await again();
      says(refusalOf(message, 'outcome_unknown'));
      await settled();
      assert.ok(outcome.is instanceof ServerError, `${outcome.is}`);
      assert.equal(outcome.is.code, 'outcome_unknown');
      assert.deepEqual(await again(), []);
    });

    test(`${name}: a refusal of the first is one`, async () => {
      const { client, socket, again, says } = await coming();
      const outcome = outcomeOf(call(client, { messageId: 'a' }));
      const [message] = await socket.sent();
      says(refusalOf(message, 'rate_limited'));
      await settled();
      assert.ok(outcome.is instanceof ServerError, `${outcome.is}`);
      assert.deepEqual(await again(), []);
    });
  }

  test('a refusal of a repeat is the loss of the connection before it, however many there were', async () => {
    const { client, socket, again, says } = await coming();
    const outcome = outcomeOf(client.request('t', 1, { messageId: 'a' }));
    await socket.sent();
    await again(undefined, 1001);
    const [message] = await again(undefined, 1011);
    says(refusalOf(message, 'forbidden'));
    await settled();
    assert.equal(outcome.is.code, 1011);
  });

  test('a refusal of the whole frame ends all that is named there', async () => {
    const { client, socket, again, says } = await coming();
    const outcomes = Object.values(CALLS).map(([call], index) => outcomeOf(call(client, { messageId: `${index}` })));
    await socket.sent();
    const messages = await again(undefined, 1001);
    const refused = messages.map((message) => ({ ...refusalOf(message), action: undefined, error: undefined }));
    says({ action: 'error', error: 'no', code: 'rate_limited', refused });
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is.code), Array(5).fill(1001));
  });

  test('all are sent again in the order in which they were first sent, before what was kept', async () => {
    const { client, socket, again, says } = await coming({ offlineQueue: 10 });
    const calls = Object.values(CALLS);
    calls.forEach(([call], index) => call(client, { messageId: `${index}` }).catch(nothing));
    CALLS.request[0](client).catch(nothing);
    const first = await socket.sent();
    says(answerTo(first[1]));
    socket.end();
    await client.publish('kept', 5);
    const repeats = await again();
    assert.deepEqual(repeats.map(({ message_id: id, data }) => id ?? data), ['0', '2', '3', '4', 5]);
    client.publishWithReceipt('t', 1, { messageId: 'new' }).catch(nothing);
    const { action, topic } = (await again()).at(-1);
    assert.deepEqual([action, topic], ['publish', 't']);
    assert.deepEqual((await again()).map(({ message_id: id }) => id), ['0', '2', '3', '4', 'new']);
  });

  test('what a callback sends meanwhile is sent once', async () => {
    const { client, socket, sockets, errors } = await coming({
      onError: () => client.publishWithReceipt('t', 2, { messageId: 'b' }).catch((error) => errors.push(error)),
    });
    client.subscribe('members', nothing, { group: 'g' });
    client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    await socket.sent();
    socket.end();
    await pass(100);
    await welcome(sockets[1], 'me', { ...LEVEL_2, features: ['message_ids'] });
    const ids = (await sockets[1].sent()).map(({ message_id: id }) => id).filter(Boolean);
    assert.deepEqual(ids.sort(), ['a', 'b']);
    assert.deepEqual(errors, []);
  });

  test('one that is too large now ends, and the others are sent', async () => {
    const { client, socket, again } = await coming();
    const large = outcomeOf(client.publishWithReceipt('t', 'x'.repeat(1000), { messageId: 'a' }));
    const small = outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'b' }));
    await socket.sent();
    const repeats = await again({ ...LEVEL_2, limits: { max_message: 500 } }, 1001);
    assert.deepEqual(repeats.map(({ message_id: id }) => id), ['b']);
    assert.equal(large.is.code, 1001);
    assert.equal(small.is, 'waits');
  });

  test('the names of its answers are those of no others', async () => {
    const { client, socket, again, says } = await coming();
    const first = await client.publishWithAck('t', 1, { messageId: 'a' });
    const receipt = outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'b' }));
    await socket.sent();
    const repeats = await again();
    assert.equal(repeats[0].ack_id, first.id);
    const others = await Promise.all([1, 2, 3].map(() => client.publishWithAck('t', 1)));
    const receipts = [1, 2, 3].map(() => outcomeOf(client.publishWithReceipt('t', 1)));
    assert.equal(others.some(({ id }) => id === first.id), false);
    says({ action: 'published', receipt: repeats[1].receipt, delivered: 7 });
    await settled();
    assert.equal(receipt.is, 7);
    assert.deepEqual(receipts.map(({ is }) => is), ['waits', 'waits', 'waits']);
  });

  test('what was not yet on the network is sent then', async () => {
    const { client, socket, again } = await coming();
    client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    const ack = outcomeOf(client.request('t', 1, { messageId: 'b' }));
    assert.deepEqual(socket.frames, []);
    assert.deepEqual((await again()).map(({ message_id: id }) => id), ['a', 'b']);
    assert.equal(ack.is, 'waits');
  });
});

describe('what the server remembers', () => {
  /** Whether a message is sent again, with so many others in between. */
  async function isRepeated(memory, others = 0) {
    const { client, socket, sockets } = await coming({}, remembering(memory));
    client.publishWithAck('t', 1, { messageId: 'a', timeout: 1e6 }).then((ack) => ack.wait()).catch(nothing);
    for (let count = 0; count < others; count++) client.publishWithReceipt('t', 1, { messageId: `${count}` }).catch(nothing);
    for (let count = 0; count < 10; count++) client.publishWithReceipt('t', 1).catch(nothing);
    await socket.sent();
    socket.end();
    await pass(100);
    await welcome(sockets[1], 'me', remembering(memory));
    return (await sockets[1].sent()).some(({ message_id: id }) => id === 'a');
  }

  test('is so for as many messages with ids', async () => {
    assert.equal(await isRepeated({ most: 5 }, 4), true);
    assert.equal(await isRepeated({ most: 5 }, 5), false);
    assert.equal(await isRepeated({ most: 0 }), false);
  });

  test('is nothing if it does not tell that', async () => {
    for (const value of [undefined, null, true, 5, '', '5', [], {}, 'x']) {
      for (const memory of [{ window: value }, { seconds: value }, { most: value }, { time: value }]) {
        const [[name]] = Object.entries(memory);
        const isMeant = name === 'window' ? typeof value === 'string' && value !== '' : value === 5;
        assert.equal(await isRepeated(memory), isMeant, JSON.stringify(memory));
      }
    }
  });

  test('nor if it tells nothing at all', async () => {
    for (const value of [undefined, null, 5, 'x', [], {}]) {
      const { client, socket, again } = await coming({}, { ...LEVEL_2, message_ids: value });
      const outcome = outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'a' }));
      await socket.sent();
      assert.deepEqual(await again(), []);
      assert.ok(outcome.is instanceof ConnectionLost);
    }
  });

  test('is asked of each connection', async () => {
    const { client, socket, again } = await coming();
    const outcome = outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'a' }));
    await socket.sent();
    assert.equal((await again()).length, 1);
    assert.deepEqual(await again(remembering({ window: 'another' }), 1001), []);
    assert.equal(outcome.is.code, 1001, 'that of the last connection on which it was sent');
  });
});

describe('until when a repeat is one', () => {
  /** A message that was sent so long after the agreement, and its repeats. */
  async function asking(later = 0) {
    const world = await coming();
    await pass(later);
    world.client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    await world.socket.sent();
    return { until: async (...next) => (await world.again(...next))[0].repeat_until };
  }

  test('is reckoned from when it was first sent', async () => {
    const { until } = await asking(3000);
    assert.equal(await until(remembering({ time: 7500, seconds: 1 })), UNTIL + 3);
    assert.equal(await until(remembering({ time: -8, seconds: 1000 })), UNTIL + 3, 'it is that of the first time');
  });

  test('is for the server to judge: its clock alone counts', async () => {
    const { client, socket, sockets } = await coming({ reconnect: 1e6, requestTimeout: 2e6 });
    client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    await socket.sent();
    socket.end();
    await pass(1e6, 1e5);
    await welcome(sockets[1], 'me', remembering({ time: 1e9 }));
    assert.equal((await sockets[1].sent())[1].repeat_until, UNTIL);
  });

  for (const [what, change] of [['forward', 3600_000], ['back', -3600_000]]) {
    test(`is another clock's matter than that of the date, which was set ${what}`, async () => {
      const { client, socket, again } = await coming();
      await pass(1000);
      mock.timers.setTime(Date.now() + change);
      stoodStill += change;
      client.publishWithAck('t', 1, { messageId: 'a', timeout: 1e7 }).then((ack) => ack.wait()).catch(nothing);
      await socket.sent();
      assert.equal((await again())[0].repeat_until, UNTIL + 1);
    });
  }

  test('is reckoned by the date where there is no other clock', async () => {
    const { performance } = globalThis;
    globalThis.performance = undefined;
    try {
      const { until } = await asking(3000);
      assert.ok(Math.abs(await until() - UNTIL - 3) < 0.001);
    } finally {
      globalThis.performance = performance;
    }
  });

  test('is reckoned with the latest pong before that', async () => {
    const { client, socket, again } = await coming();
    const told = { ...LEVEL_2.message_ids, time: 8000 };
    const flushed = client.flush();
    const [{ nonce }] = await socket.sent();
    stoodStill += 500;
    await pass(1500);
    socket.says({ ...LEVEL_2, action: 'pong', id: 'me', nonce, message_ids: told });
    await flushed;
    await pass(2000);
    client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    await socket.sent();
    socket.says({ ...LEVEL_2, action: 'pong', id: 'me', message_ids: { ...told, time: 9000 } });
    assert.equal((await again())[0].repeat_until, 8000 + 2 + 120);
  });

  test('is that of an earlier pong when a later one tells nothing', async () => {
    const { client, socket, again } = await coming();
    for (const value of [undefined, null, 5, 'x', [], {}, { ...LEVEL_2.message_ids, time: '8000' }]) {
      socket.says({ ...LEVEL_2, action: 'pong', id: 'me', message_ids: value });
    }
    client.publishWithReceipt('t', 1, { messageId: 'a' }).catch(nothing);
    await socket.sent();
    assert.equal((await again())[0].repeat_until, UNTIL);
  });
});

describe('time', () => {
  test('goes on: the repeat has what is left', async () => {
    const { client, socket, sockets } = await coming();
    client.publishWithAck('t', 1, { messageId: 'a', timeout: 5000 }).then((ack) => ack.wait()).catch(nothing);
    client.publishWithAck('t', 1, { messageId: 'b', timeout: Infinity }).then((ack) => ack.wait()).catch(nothing);
    await socket.sent();
    await pass(1000);
    for (const [index, rest] of [3.9, 3.8, 3.7].entries()) {
      sockets.at(-1).end();
      await pass(100);
      await welcome(sockets.at(-1), 'me');
      const [, { timeout }, { timeout: endless }] = await sockets.at(-1).sent();
      assert.equal(timeout, rest, `${index}`);
      assert.equal(endless, 2 ** 31 - 1);
    }
  });

  test('begins at the end of the connection for what was still to be sent', async () => {
    const { client, socket, sockets } = await coming();
    client.publishWithAck('t', 1, { messageId: 'a', timeout: 5000 }).then((ack) => ack.wait()).catch(nothing);
    socket.bufferedAmount = 1e6;
    await pass(2000);
    socket.end();
    await pass(1000);
    await welcome(sockets[1], 'me');
    const [, { timeout }] = await sockets[1].sent();
    assert.ok(timeout >= 3.75 && timeout <= 4, `${timeout}`);
  });

  test('is over without a connection, too', async () => {
    const { client, socket, sockets } = await coming({ reconnect: 20_000, requestTimeout: 8000 });
    const ack = await client.publishWithAck('t', 1, { messageId: 'a', timeout: 3000 });
    const outcome = outcomeOf(ack.wait());
    const request = outcomeOf(client.request('t', 1, { messageId: 'b', timeout: 3000 }));
    const receipt = outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'c' }));
    await socket.sent();
    await pass(1000);
    socket.end();
    await pass(2750);
    assert.deepEqual([outcome.is, request.is], ['waits', 'waits']);
    await pass(250);
    for (const { is } of [outcome, request]) assert.ok(is instanceof RequestTimeout, `${is}`);
    await pass(3750);
    assert.equal(receipt.is, 'waits');
    await pass(250);
    assert.ok(receipt.is instanceof RequestTimeout);
    assert.deepEqual(await socket.sent(), [], 'nobody is told that it is over');
    await pass(20_000);
    await welcome(sockets[1], 'me');
    assert.deepEqual((await sockets[1].sent()).slice(1), []);
  });

  test('is over after a repeat as it was before', async () => {
    const { client, socket, sockets, again } = await coming({ requestTimeout: 2000 });
    const ack = await client.publishWithAck('t', 1, { messageId: 'a', timeout: 2000 });
    const outcomes = [outcomeOf(ack.wait()), outcomeOf(client.publishWithReceipt('t', 1, { messageId: 'b' }))];
    await socket.sent();
    await pass(900);
    await again();
    await pass(999);
    assert.equal(outcomes[1].is, 'waits');
    await pass(1);
    assert.ok(outcomes[1].is instanceof RequestTimeout);
    assert.equal(outcomes[0].is, 'waits');
    await pass(1000);
    assert.ok(outcomes[0].is instanceof RequestTimeout);
    assert.deepEqual(await sockets[1].sent(), [{ action: 'cancel_ack', ack_id: ack.id }]);
  });

  test('without any left nothing is sent again', async () => {
    const { client, socket, sockets } = await coming({ reconnect: 1500 });
    const outcome = outcomeOf(client.request('t', 1, { messageId: 'a', timeout: 1000 }));
    await socket.sent();
    socket.end(1001);
    await pass(1500);
    assert.equal(outcome.is, 'waits');
    await welcome(sockets[1], 'me');
    assert.deepEqual((await sockets[1].sent()).slice(1), []);
    assert.equal(outcome.is.code, 1001);
  });
});

describe('an ack', () => {
  async function asking(options) {
    const world = await coming();
    const ack = await world.client.publishWithAck('t', 1, { messageId: 'a', ...options });
    await world.socket.sent();
    const told = (action, fields) => world.says({ action, ack_id: ack.id, ...fields });
    return { ...world, ack, told };
  }

  test('keeps its outcomes, and tells each once', async () => {
    const { ack, told, again } = await asking();
    const got = [];
    const loop = (async () => { for await (const { clientId } of ack) got.push(clientId); })();
    const bob = { bob: { success: true, result: 1 } };
    told('ack_update', { responses: bob });
    await settled();
    const [{ updates }] = await again();
    assert.equal(updates, true);
    assert.deepEqual([...ack.responses.keys()], ['bob']);
    assert.equal((await ack.waitAny()).result, 1);
    told('ack_update', { responses: bob });
    told('ack_update', { responses: { carol: { success: false, error: 'no' } } });
    await settled();
    assert.deepEqual(got, ['bob', 'carol']);
    await again();
    told('ack_response', { complete: true, responses: { ...bob, carol: { success: false, error: 'no' }, dave: { success: true } } });
    await loop;
    assert.deepEqual(got, ['bob', 'carol', 'dave']);
    assert.deepEqual([...(await ack.wait()).keys()], got);
    assert.equal(await ack.isComplete(), true);
  });

  test('is cancelled without a connection, and not sent again', async () => {
    const { ack, socket, sockets, told } = await asking();
    told('ack_update', { responses: { bob: { success: true } } });
    const outcome = ack.wait();
    socket.end();
    ack.cancel();
    assert.deepEqual([...(await outcome).keys()], ['bob']);
    assert.deepEqual(await socket.sent(), []);
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.deepEqual((await sockets[1].sent()).slice(1), []);
  });

  test('is cancelled on the connection that has it', async () => {
    const { ack, sockets, again } = await asking();
    await again();
    ack.cancel();
    assert.deepEqual(await sockets[1].sent(), [{ action: 'cancel_ack', ack_id: ack.id }]);
    assert.deepEqual(await ack.wait(), new Map());
  });

  for (const when of ['without a connection', 'after a repeat']) {
    test(`a signal ends it ${when}`, async () => {
      const abort = new AbortController();
      const removed = mock.method(abort.signal, 'removeEventListener');
      const { ack, client, socket, again } = await asking({ signal: abort.signal });
      const request = outcomeOf(client.request('t', 1, { messageId: 'b', signal: abort.signal }));
      await socket.sent();
      if (when === 'after a repeat') assert.equal((await again()).length, 2);
      else socket.end();
      const outcome = outcomeOf(ack.wait());
      await settled();
      assert.equal(outcome.is, 'waits');
      abort.abort();
      await settled();
      assert.deepEqual([outcome.is.name, request.is.name], ['AbortError', 'AbortError']);
      assert.equal(removed.mock.callCount(), 2);
      if (when === 'after a repeat') assert.deepEqual(await again(), []);
    });
  }

  test('with a signal that is aborted already nothing is sent, now or later', async () => {
    const { client, socket, again } = await coming();
    const ack = await client.publishWithAck('t', 1, { messageId: 'a', signal: AbortSignal.abort() });
    await assert.rejects(ack.wait(), { name: 'AbortError' });
    assert.deepEqual(await socket.sent(), []);
    assert.deepEqual(await again(), []);
  });

  test('asks for its status where there is a connection', async () => {
    const { ack, socket, sockets, again } = await asking();
    const status = outcomeOf(ack.status());
    socket.end(1001);
    await settled();
    assert.equal(status.is.code, 1001);
    await assert.rejects(ack.status(), { name: 'ConnectionLost', code: 1001 });
    await assert.rejects(ack.isComplete(), ConnectionLost);
    await again();
    const later = ack.status();
    assert.deepEqual(await sockets.at(-1).sent(), [{ action: 'get_ack_status', ack_id: ack.id }]);
    sockets.at(-1).says({ action: 'ack_status', ack_id: ack.id, status: { bob: false } });
    assert.deepEqual(await later, new Map([['bob', false]]));
  });

  test('has its demands again', async () => {
    const { client, socket, again } = await coming({}, { ...LEVEL_2, features: [...LEVEL_2.features, 'expect'] });
    const expect = ['bob'];
    const data = { n: 1 };
    client.publishWithAck('t', data, { messageId: 'a', expect, expectGroups: ['g'], key: 'k', retry: 2 }).then((ack) => ack.wait()).catch(nothing);
    const [first] = await socket.sent();
    expect.push('carol');
    data.n = 2;
    const [message] = await again();
    assert.deepEqual({ ...message, timeout: 5 }, { ...first, repeat_until: UNTIL });
    assert.deepEqual([message.data, message.expect], [{ n: 1 }, ['bob', { group: 'g' }]]);
  });
});

test('what waits for answers is bounded in bytes', async () => {
  const { client, socket, says } = await coming({}, { ...LEVEL_2, limits: { max_message: 2 * MIB } });
  const large = 'x'.repeat(MIB);
  const acks = [];
  for (let count = 0; count < 64; count++) {
    acks.push(await client.publishWithAck('t', large, { messageId: `${count}` }));
    await socket.sent();
  }
  for (const [call] of Object.values(CALLS)) await assert.rejects(call(client, { messageId: 'a' }), QueueFull);
  await client.publishWithAck('t', large);
  says({ action: 'ack_response', ack_id: acks[0].id });
  await client.publishWithAck('t', large, { messageId: 'a' });
  await assert.rejects(client.publishWithReceipt('t', 1, { messageId: 'b' }), QueueFull);
  client.close();
});

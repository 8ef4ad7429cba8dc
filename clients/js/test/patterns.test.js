// Patterns of topics: what they match, and subscriptions to them.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { runInNewContext } from 'node:vm';

import { InvalidArgument, MessageTooLarge, Pattern, ServerError } from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** All words of some letters, up to a length. */
function words(letters, most) {
  const all = [''];
  for (let from = 0, length = 0; length < most; length++) {
    const to = all.length;
    for (; from < to; from++) all.push(...letters.map((letter) => all[from] + letter));
  }
  return all;
}

/** The definition, word for word. */
function matches(symbols, topic) {
  const [symbol, ...others] = symbols;
  if (!symbol) return topic === '';
  if (symbol[0] !== '*') return topic[0] === symbol && matches(others, topic.slice(1));
  if (matches(others, topic)) return true;
  const mayGoOn = topic !== '' && (symbol.length > 1 || topic[0] !== '/');
  return mayGoOn && matches(symbols, topic.slice(1));
}

describe('a pattern', () => {
  test('matches what the definition says', () => {
    const check = (text, topic) => assert.equal(
      new Pattern(text).matches(topic), matches(text.match(/\*+|[^*]/g), topic), `${text} with ${topic}`,
    );
    const topics = words(['a', 'b', '/'], 5);
    for (const text of words(['*', 'a', '/'], 5).slice(1)) for (const topic of topics) check(text, topic);
    // Pieces with slashes in them, and more than 32 characters.
    const pieces = ['*', '**', 'a/', '/b', 'c'];
    for (const text of words(pieces, 4).slice(1)) for (const topic of words(['a', 'a/', '/b', 'c'], 4)) check(text, topic);
    for (const length of [31, 32, 33, 63, 64, 65]) {
      for (const text of words(['*', '**', 'a', 'a'.repeat(length)], 4).slice(1)) {
        for (const more of ['', 'a', 'b', '/', '/a']) check(text, 'a'.repeat(length) + more);
      }
    }
  });

  test('has a text, and no character but the star means anything else', () => {
    const pattern = new Pattern('sensors/*/temperature');
    assert.equal(pattern.text, 'sensors/*/temperature');
    for (const [text, right, wrong] of [
      ['sensors/*/temperature', ['sensors/7/temperature', 'sensors//temperature'], ['sensors/7/a/temperature', 'sensors/temperature']],
      ['sensors/**', ['sensors/7/a/temperature', 'sensors/'], ['sensors']],
      ['a.?[b]+\\*', ['a.?[b]+\\', 'a.?[b]+\\x'], ['axb']],
      ['\u{1f600}*\u{1f601}', ['\u{1f600}\u{1f602}\u{1f601}', '\u{1f600}\u{1f601}'], ['\u{1f600}']],
      ['a*\u2028', ['a\u2028\u2028'], ['a\u2028b']],
      ['no star', ['no star'], ['no star ', ' no star', '']],
      ['**', ['', '/', '__kps/stats', 'x\ny'], []],
    ]) {
      for (const topic of right) assert.equal(new Pattern(text).matches(topic), true, `${text} with ${topic}`);
      for (const topic of wrong) assert.equal(new Pattern(text).matches(topic), false, `${text} with ${topic}`);
    }
  });

  test('takes little time, whatever it is, and whatever the topic is', () => {
    const script = readFileSync(new URL('../client.js', import.meta.url), 'utf8');
    const results = runInNewContext(`${script}
      [
        ['*a'.repeat(30_000) + 'b', 'a'.repeat(65_536)],
        ['**a'.repeat(20_000) + 'b', 'a'.repeat(65_536)],
        ['**a*'.repeat(10_000) + 'b', 'a/'.repeat(32_000)],
        ['**' + '/*'.repeat(16_000) + 'b**', '/a'.repeat(32_000)],
        ['**a*b*c', 'ab/'.repeat(1_000_000)],
        ['*'.repeat(65_536), 'a/'.repeat(1_000_000)],
      ].map(([text, topic]) => new KPS.Pattern(text).matches(topic))`, { setTimeout, clearTimeout }, { timeout: 120_000 });
    assert.deepEqual([...results], [false, false, false, false, false, true]);
  });

  test('is of what a topic could be', async () => {
    const { client, socket } = await connected();
    for (const text of ['', 5, null, undefined, {}, ['*'], new Pattern('*'), '\ud800*', '*\n', '*'.repeat(65_537)]) {
      assert.throws(() => new Pattern(text), InvalidArgument);
    }
    for (const topic of [5, null, undefined, new Pattern('*')]) assert.throws(() => new Pattern('*').matches(topic), InvalidArgument);
    const pattern = new Pattern('a/*');
    for (const attempt of [
      () => client.publish(pattern, 1), () => client.publishWithReceipt(pattern, 1), () => client.publishWithAck(pattern, 1),
      () => client.publishToId(pattern, 1), async () => client.subscribe({ text: 'a/*', matches: () => true }),
    ]) await assert.rejects(attempt, InvalidArgument);
    assert.throws(() => { pattern.text = 'b/*'; }, TypeError);
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('a subscription to a pattern', () => {
  const publication = (topic, data = 1) => ({ action: 'publish', topic, from: 'bob', data });

  test('is confirmed and ended under its name', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    const pending = client.subscribe(new Pattern('t/*'), ({ topic, data }) => { got.push([topic, data]); });
    const outcome = outcomeOf(pending);
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', pattern: 't/*' }]);
    socket.says({ action: 'subscribed', topic: 't/*' });
    await settled();
    assert.equal(outcome.is, 'waits', 'that is a topic');
    socket.says({ action: 'subscribed', pattern: 't/*' });
    await settled();
    assert.equal(outcome.is, pending);
    assert.equal(pending.topic, 't/*');
    socket.says(publication('t/1'), { action: 'publish', topic: 't/2', batch: [2, 3] }, publication('t/1/2'), publication('u'));
    assert.deepEqual(got, [['t/1', 1], ['t/2', 2], ['t/2', 3]]);
    client.unsubscribe(new Pattern('t/*'));
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', pattern: 't/*' }]);
    socket.says(publication('t/1'), { action: 'unsubscribed', pattern: 't/*' });
    await pass(10_000);
    assert.equal(got.length, 3);
    assert.deepEqual(errors, []);
  });

  test('several of one pattern share one on the wire', async () => {
    const { client, socket } = await connected();
    const first = client.subscribe(new Pattern('*'), () => {});
    const second = client.subscribe(new Pattern('*'), () => {});
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', pattern: '*' }]);
    socket.says({ action: 'subscribed', pattern: '*' });
    await Promise.all([first, second]);
    first.unsubscribe();
    assert.deepEqual(await socket.sent(), []);
    second.unsubscribe();
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', pattern: '*' }]);
  });

  test('is a promise until it is in force', async () => {
    const { client, socket, errors } = await connected();
    const [good, bad] = ['good', 'bad'].map((topic) => client.subscribe(topic, () => {}));
    const ends = [];
    const outcomes = Promise.all([
      good.catch(() => 'caught'),
      good.finally(() => ends.push('good')),
      bad.catch((error) => error.code),
      bad.finally(() => ends.push('bad')).catch((error) => error.code),
    ]);
    await socket.sent();
    socket.says({ action: 'subscribed', topic: 'good' }, { action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 'bad' });
    const [caught, passed, ...codes] = await outcomes;
    assert.ok(caught === good && passed === good);
    assert.deepEqual([codes, ends.sort(), errors], [['forbidden', 'forbidden'], ['bad', 'good'], []]);
    assert.equal(await good.catch(() => 'caught'), good); // also when it is in force
  });

  test('is another than one to the topic of the same characters', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    const topic = client.subscribe('t*', () => { got.push('topic'); });
    const refused = assert.rejects(async () => { await topic; }, { code: 'forbidden', topic: 't*', pattern: undefined });
    const pattern = client.subscribe(new Pattern('t*'), () => { got.push('pattern'); });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't*' }, { action: 'subscribe', pattern: 't*' }]);
    socket.says({ action: 'subscribed', pattern: 't*' }, { action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', topic: 't*' });
    await Promise.all([pattern, refused]);
    client.subscribe('t*', () => { got.push('topic again'); });
    socket.says({ action: 'subscribed', topic: 't*' }, publication('t1'), publication('t*'));
    assert.deepEqual(got.splice(0), ['pattern', 'topic again', 'pattern']);
    client.unsubscribe('t*');
    socket.says(publication('t*'));
    assert.deepEqual(got, ['pattern']);
    assert.deepEqual(errors, []);
  });

  test('a message comes once to each subscription that has the topic, first to those of the topic', async () => {
    const { client, socket } = await connected();
    const got = [];
    for (const [name, wanted] of [
      ['**', new Pattern('**')], ['t/1', 't/1'], ['t/*', new Pattern('t/*')], ['u', new Pattern('u')], ['t/1 too', 't/1'], ['** too', new Pattern('**')],
    ]) client.subscribe(wanted, () => { got.push(name); });
    socket.says(publication('t/1'));
    assert.deepEqual(got.splice(0), ['t/1', 't/1 too', '**', '** too', 't/*']);
    socket.says(publication('t/2'));
    assert.deepEqual(got.splice(0), ['**', '** too', 't/*']);
    socket.says(publication('u'));
    assert.deepEqual(got, ['**', '** too', 'u']);
  });

  test('which subscriptions have a topic is known anew after each change', async () => {
    const { client, socket } = await connected();
    const got = [];
    const subscribe = (name, wanted) => client.subscribe(wanted, () => { got.push(name); });
    const expect = (...names) => {
      const long = `t/${'x'.repeat(5000)}`;
      for (const topic of ['t/1', long, 't/1']) {
        socket.says(publication(topic));
        assert.deepEqual(got.splice(0), names, topic);
      }
    };
    expect();
    const one = subscribe('t/*', new Pattern('t/*'));
    expect('t/*');
    const two = subscribe('t/* too', new Pattern('t/*'));
    expect('t/*', 't/* too');
    subscribe('**', new Pattern('**'));
    expect('t/*', 't/* too', '**');
    one.unsubscribe();
    expect('t/* too', '**');
    two.unsubscribe();
    expect('**');
    socket.says({ action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', pattern: '**' });
    expect();
    await socket.sent();
    socket.says({ ...publication('t/1'), action: 'publish_ack', ack_id: 'a' });
    assert.deepEqual((await socket.sent()).map(({ error }) => error), ['no subscriber for topic']);
    subscribe('** again', new Pattern('**'));
    for (let topic = 0; topic < 10_000; topic++) socket.says(publication(`${topic}`));
    assert.equal(got.splice(0).length, 10_000);
    expect('** again');
  });

  test('has a topic that begins with __ only if it begins likewise', async () => {
    const { client, socket } = await connected();
    const got = [];
    for (const text of ['**', '_*', '__*', '__*/**', '__own*', '__own/*', '__own/a*', '__own']) client.subscribe(new Pattern(text), () => { got.push(text); });
    for (const [topic, expected] of [
      ['__own/x', ['__own/*']], ['__own/abc', ['__own/*', '__own/a*']], ['__own', ['__own*', '__own']], ['__other/x', []], ['__', ['__*']],
      ['_x', ['**', '_*']], ['x/__own', ['**']],
    ]) {
      socket.says(publication(topic));
      assert.deepEqual(got.splice(0).sort(), expected.sort(), topic);
    }
  });

  test('an ack is answered once, when all subscriptions have handled the message', async () => {
    const { client, socket } = await connected();
    let finish;
    client.subscribe('t', () => new Promise((resolve) => { finish = resolve; }));
    client.subscribe(new Pattern('*'), () => 'of the pattern');
    await socket.sent();
    socket.says({ ...publication('t'), action: 'publish_ack', ack_id: 'a1' });
    assert.deepEqual(await socket.sent(), []);
    finish('of the topic');
    assert.deepEqual(await socket.sent(), [{ action: 'ack', ack_id: 'a1', success: true, result: 'of the pattern' }]);
    socket.says({ ...publication('u'), action: 'publish_ack', ack_id: 'a2' });
    assert.deepEqual(await socket.sent(), [{ action: 'ack', ack_id: 'a2', success: true, result: 'of the pattern' }]);
    socket.says({ ...publication('u/v'), action: 'publish_ack', ack_id: 'a3' });
    assert.deepEqual(await socket.sent(), [{ action: 'ack', ack_id: 'a3', success: false, error: 'no subscriber for topic' }]);
  });

  test('a direct message is none of a topic', async () => {
    const got = [];
    const { client, socket } = await connected({ onDirect: () => { got.push('direct'); } });
    client.subscribe(new Pattern('**'), () => { got.push('pattern'); });
    await socket.sent();
    socket.says({ action: 'direct_message', from: 'bob', data: 1 }, { action: 'publish_ack', ack_id: 'a', from: 'bob', data: 1 }, { action: 'publish', data: 1 });
    assert.deepEqual(got, ['direct', 'direct']);
  });

  test('comes back with a new connection, and may be refused there', async () => {
    const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
    const got = [];
    client.subscribe(new Pattern('t/*'), ({ data }) => { got.push(data); });
    const refused = client.subscribe(new Pattern('u/*'));
    client.subscribe('v', () => {});
    socket.says({ action: 'subscribed', pattern: 't/*' }, { action: 'subscribed', pattern: 'u/*' }, { action: 'subscribed', topic: 'v' });
    const refusal = { action: 'error', error: 'no', code: 'forbidden', request: 'subscribe', pattern: 'u/*' };
    for (const [index, asked] of [['v', 't/*', 'u/*'], ['v', 't/*']].entries()) {
      sockets[index].end();
      await pass(100);
      await welcome(sockets[index + 1], 'me');
      assert.deepEqual((await sockets[index + 1].sent()).map(({ pattern, topic }) => pattern ?? topic), asked);
      if (index === 0) sockets[1].says({ action: 'error', error: 'no', code: 'forbidden', refused: [refusal] });
    }
    sockets[2].says(publication('t/1'), publication('u/1', 2));
    assert.deepEqual(got, [1]);
    assert.deepEqual(errors.map(({ code, pattern, topic }) => [code, pattern, topic]), [['forbidden', 'u/*', undefined]]);
    await assert.rejects(refused.next(), { name: 'ServerError', pattern: 'u/*' });
  });

  test('one that is refused for now is asked for again', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, socket, errors } = await connected();
    const outcome = outcomeOf(client.subscribe(new Pattern('*')));
    await socket.sent();
    for (const code of ['rate_limited', 'unavailable']) {
      socket.says({ action: 'error', error: 'not now', code, request: 'subscribe', pattern: '*' });
      await pass(1000);
      assert.deepEqual(await socket.sent(), [{ action: 'subscribe', pattern: '*' }]);
    }
    assert.deepEqual(errors.map(({ pattern, isTemporary }) => [pattern, isTemporary]), [['*', true]]);
    socket.says({ action: 'error', error: 'no', code: 'limit_reached', request: 'subscribe', pattern: '*' });
    await settled();
    assert.ok(outcome.is instanceof ServerError && outcome.is.code === 'limit_reached', 'it had never been in force');
  });

  test('one without an answer is asked for again, and so is the end of one', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, socket } = await connected();
    const subscription = client.subscribe(new Pattern('*'), () => {});
    await pass(10_500);
    assert.deepEqual(await socket.sent(), Array(2).fill({ action: 'subscribe', pattern: '*' }));
    subscription.unsubscribe();
    await pass(11_000);
    assert.deepEqual(await socket.sent(), Array(2).fill({ action: 'unsubscribe', pattern: '*' }));
  });

  test('one that is too large for the server is refused', async () => {
    const { client, socket } = await connected({}, { ...LEVEL_2, limits: { max_message: 100 } });
    assert.throws(() => client.subscribe(new Pattern(`${'x'.repeat(100)}*`)), MessageTooLarge);
    assert.deepEqual(await socket.sent(), []);
  });

  test('in the unified spelling', async () => {
    const { client, socket } = await connected();
    const got = [];
    const unsubscribe = client.Subscribe(new Pattern('t/*'), ({ data }) => { got.push(data); });
    socket.says({ action: 'subscribed', pattern: 't/*' }, publication('t/1'));
    await unsubscribe;
    unsubscribe();
    client.Subscribe(new Pattern('u/*'), () => {});
    client.Unsubscribe(new Pattern('u/*'));
    assert.deepEqual(got, [1]);
    assert.deepEqual((await socket.sent()).map(({ action, pattern }) => `${action} ${pattern}`),
      ['subscribe t/*', 'unsubscribe t/*', 'subscribe u/*', 'unsubscribe u/*']);
  });
});

describe('a server without patterns', () => {
  const { features, ...OLD } = LEVEL_2;
  const told = { name: 'Unsupported', feature: 'patterns', pattern: 't/*', message: 'the server does not have patterns' };

  for (const [what, agreement] of Object.entries({
    'of level 2': OLD,
    'of level 1': LEVEL_1,
    'of level 1, whatever it says': { features },
    'with other features': { ...OLD, features: ['pattern', 'Patterns', '', 5, null, ['patterns'], { patterns: true }] },
    'with features that are no array': { ...OLD, features: 'patterns' },
    'with features that are an object': { ...OLD, features: { patterns: true, 0: 'patterns', length: 1 } },
  })) {
    test(`${what}: a subscription is refused, and nothing has happened`, async () => {
      const { client, socket, sockets, errors } = await connected({ reconnect: 100 }, agreement);
      const { signal } = new AbortController();
      mock.method(signal, 'addEventListener');
      mock.method(signal, 'removeEventListener');
      for (const attempt of [
        () => client.subscribe(new Pattern('t/*'), () => {}, { signal }), () => client.subscribe(new Pattern('t/*')),
        () => client.Subscribe(new Pattern('t/*'), () => {}),
      ]) assert.throws(attempt, told);
      assert.equal(signal.addEventListener.mock.callCount(), signal.removeEventListener.mock.callCount());
      client.unsubscribe(new Pattern('t/*'));
      client.subscribe('t/*', () => {});
      assert.deepEqual((await socket.sent()).map(({ topic, pattern }) => [topic, pattern]), [['t/*', undefined]]);
      socket.end();
      await pass(100);
      await welcome(sockets[1], 'me');
      assert.deepEqual(await sockets[1].sent(), [{ action: 'subscribe', topic: 't/*' }]);
      assert.deepEqual(errors, []);
    });
  }

  test('after a reconnect: the subscriptions to patterns end, and the program is told', async () => {
    for (const agreement of [OLD, LEVEL_1]) {
      const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
      const got = [];
      const messages = client.subscribe(new Pattern('t/*'));
      client.subscribe(new Pattern('t/*'), ({ data }) => { got.push(data); });
      client.subscribe('t/1', ({ data }) => { got.push(data); });
      socket.says({ action: 'subscribed', pattern: 't/*' }, { action: 'publish', topic: 't/2', data: 1 });
      await settled();
      for (const [index, ...others] of [[1, agreement], [2]]) {
        sockets[index - 1].end();
        await pass(100);
        await welcome(sockets[index], 'me', ...others);
        const asked = await sockets[index].sent();
        assert.deepEqual(asked.map(({ action, topic, pattern }) => [action, topic, pattern]), [['subscribe', 't/1', undefined]]);
      }
      sockets[2].says({ action: 'publish', topic: 't/1', data: 2 });
      assert.deepEqual(got, [1, 2]);
      assert.equal(errors.length, 1);
      assert.throws(() => { throw errors[0]; }, told);
      assert.equal((await messages.next()).value.data, 1, 'what has come is handed over');
      await assert.rejects(messages.next(), told);
      const again = client.subscribe(new Pattern('t/*'));
      assert.deepEqual(await sockets[2].sent(), [{ action: 'subscribe', pattern: 't/*' }], 'each connection has its features');
      sockets[2].says({ action: 'subscribed', pattern: 't/*' });
      await again;
    }
  });

  test('who unsubscribes from the others when told so hears of none of them', async () => {
    const errors = [];
    const patterns = ['a*', 'b*'].map((text) => new Pattern(text));
    const { client, socket, sockets } = await connected({
      reconnect: 100,
      onError: (error) => {
        errors.push(error);
        for (const pattern of patterns) client.unsubscribe(pattern);
      },
    });
    for (const pattern of patterns) client.subscribe(pattern, () => {});
    socket.end();
    await pass(100);
    await welcome(sockets[1], 'me', OLD);
    assert.deepEqual(await sockets[1].sent(), []);
    assert.deepEqual(errors.map(({ pattern }) => pattern), ['a*']);
  });

  test('a later pong of the connection changes nothing', async () => {
    const { client, socket } = await connected({}, OLD);
    socket.says({ action: 'pong', id: 'me', ...LEVEL_2 });
    assert.throws(() => client.subscribe(new Pattern('t/*')), told);
  });
});

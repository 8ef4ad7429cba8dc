// Groups, whose members share the messages among them: being a member, and publishing to them.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import {
  ClientClosed, ConnectionLost, InvalidArgument, InvalidState, MessageTooLarge, NobodyThere, Pattern, RequestFailed, RequestTimeout,
  ServerError, Unsupported,
} from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const OLD = { ...LEVEL_2, features: LEVEL_2.features.filter((feature) => feature !== 'groups') };
const FULL = { ...LEVEL_2, features: [...LEVEL_2.features, 'expect'] };
const nothing = () => {};
const never = () => new Promise(nothing);

const publication = (data, more) => ({ action: 'publish', topic: 't', from: 'bob', data, ...more });
const question = (id, more) => ({ action: 'publish_ack', topic: 't', from: 'bob', data: id, ack_id: id, group: 'g', ...more });
const refusal = (code, more) => ({ action: 'error', error: `no: ${code}`, code, request: 'subscribe', topic: 't', group: 'g', ...more });
const subscribed = (more) => ({ action: 'subscribed', topic: 't', group: 'g', ...more });
const answer = (id, more = { success: true }) => ({ action: 'ack', ack_id: id, ...more });
const failure = (id, error) => answer(id, { success: false, error });

/** A client that comes back after 100 ms. */
async function followed(agreement, options) {
  const world = await connected({ reconnect: 100, ...options }, agreement);
  /** End the connection; what is asked on the next one. */
  const comeBack = async (next) => {
    world.sockets.at(-1).end();
    await pass(100);
    await welcome(world.sockets.at(-1), 'me', next);
    return world.sockets.at(-1).sent();
  };
  return { ...world, comeBack, sent: () => world.sockets.at(-1).sent(), says: (...messages) => world.sockets.at(-1).says(...messages) };
}

describe('a member', () => {
  test('says so when it begins and when it ends', async () => {
    const { client, socket, errors } = await connected();
    const pending = client.subscribe('t', nothing, { group: 'g' });
    const loop = client.subscribe(new Pattern('p/*'), { group: 'h', concurrency: 4 });
    assert.deepEqual(await socket.sent(), [
      { action: 'subscribe', topic: 't', group: 'g' }, { action: 'subscribe', pattern: 'p/*', group: 'h', concurrency: 4 },
    ]);
    const waits = outcomeOf(pending);
    socket.says({ action: 'subscribed', topic: 't' });
    await settled();
    assert.equal(waits.is, 'waits', 'that was about the topic itself');
    socket.says(subscribed(), { action: 'subscribed', pattern: 'p/*', group: 'h' });
    assert.equal(await pending, pending);
    assert.equal(await loop, loop);
    assert.deepEqual([pending.topic, pending.group, loop.topic, loop.group], ['t', 'g', 'p/*', 'h']);
    assert.equal(client.subscribe('u', nothing).group, null);
    await socket.sent();
    pending.unsubscribe();
    loop.unsubscribe();
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't', group: 'g' }, { action: 'unsubscribe', pattern: 'p/*', group: 'h' }]);
    socket.says({ action: 'unsubscribed', topic: 't', group: 'g' }, { action: 'unsubscribed', pattern: 'p/*', group: 'h' });
    assert.deepEqual(errors, []);
  });

  test('gets what is for its group, and nothing else; others do not', async () => {
    const { client, socket } = await connected();
    const got = [];
    const take = (name) => ({ topic, data }) => { got.push([name, topic, data]); };
    client.subscribe('t', take('plain'));
    client.subscribe(new Pattern('*'), take('pattern'));
    client.subscribe('t', take('g'), { group: 'g' });
    client.subscribe('t', take('h'), { group: 'h' });
    client.subscribe(new Pattern('*'), take('g of *'), { group: 'g' });
    client.subscribe('*', take('g of the topic *'), { group: 'g' });
    socket.says(publication(1), publication(2, { group: 'g' }), publication(3, { group: 'g', pattern: '*' }));
    socket.says({ ...publication(), topic: '*', group: 'g', batch: [4, 5] }, publication(6, { group: 'x' }), publication(7, { group: 'h', pattern: '*' }));
    assert.deepEqual(got, [
      ['plain', 't', 1], ['pattern', 't', 1], ['g', 't', 2], ['g of *', 't', 3], ['g of the topic *', '*', 4], ['g of the topic *', '*', 5],
    ]);
  });

  test('of a group is another one than of a group whose name looks like that', async () => {
    const { client, sent, says, comeBack } = await followed();
    const got = [];
    const groups = [
      { group: 'a', topic: 'b' }, { group: 'a of topic b', topic: 'c' }, { group: 'a', topic: 'b of topic c' }, { group: 'a" of topic b', topic: 'c' },
      { group: 'a\\', topic: 'b' }, { group: 'a\\"', topic: 'b' }, { group: '\u2028', topic: '\u2028' }, { group: '__proto__', topic: 'group "a" of topic b' },
    ];
    const all = groups.map(({ topic, ...options }, index) => client.subscribe(topic, ({ data }) => { got.push([index, data]); }, options));
    client.subscribe('group "a" of topic b', ({ data }) => { got.push(['plain', data]); });
    const asked = [...groups, { topic: 'group "a" of topic b' }].map((fields) => ({ action: 'subscribe', ...fields }));
    const order = (one, other) => (JSON.stringify(Object.entries(one).sort()) < JSON.stringify(Object.entries(other).sort()) ? -1 : 1);
    assert.deepEqual((await sent()).sort(order), [...asked].sort(order));
    groups.forEach((fields, index) => says(publication(index, fields)));
    assert.deepEqual(got, groups.map((_, index) => [index, index]));
    assert.deepEqual(all.map(({ topic, group }) => ({ group, topic })), groups);
    assert.deepEqual((await comeBack()).sort(order), [...asked].sort(order));
  });

  test('can a client be once', async () => {
    const { client, socket, sockets } = await connected({ reconnect: 100 });
    const message = /^this client is a member already: group "g" of topic t$/;
    const first = client.subscribe('t', nothing, { group: 'g' });
    const again = () => client.subscribe('t', nothing, { group: 'g', concurrency: 2 });
    assert.throws(again, (error) => error instanceof InvalidState && error.name === 'InvalidState' && message.test(error.message));
    client.subscribe('t', nothing, { group: 'h' });
    assert.equal((await socket.sent()).length, 2);
    first.unsubscribe();
    again();
    assert.deepEqual((await socket.sent()).map(({ action, concurrency }) => [action, concurrency]), [['unsubscribe', undefined], ['subscribe', 2]]);
    socket.end();
    assert.throws(again, InvalidState, 'also without a connection');
    await pass(100);
    await welcome(sockets[1], 'me');
    assert.deepEqual((await sockets[1].sent()).map(({ group }) => group), ['h', 'g']);
    client.close();
    assert.throws(again, ClientClosed);
  });

  test('has neither a past nor presence', async () => {
    const { client, socket } = await connected();
    for (const options of [{ last: 5 }, { since: { epoch: 'e', offset: 1 } }, { info: { n: 1 } }, { presence: nothing }]) {
      for (const topic of ['t', new Pattern('*')]) {
        assert.throws(() => client.subscribe(topic, nothing, { group: 'g', ...options }), { name: 'InvalidArgument', message: 'a group has neither a past nor presence' });
      }
    }
    client.subscribe('t', nothing, { group: 'g', last: 0, since: null, info: null, presence: null, concurrency: 1 });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', group: 'g' }]);
  });

  test('names a group, and a number', async () => {
    const { client, socket } = await connected();
    for (const group of ['', 5, {}, ['g'], true, 'a\nb', '\ud800', 'x'.repeat(65_537)]) {
      assert.throws(() => client.subscribe('t', nothing, { group }), /^InvalidArgument: group is a string of 1 to 65536 characters/);
    }
    for (const concurrency of [0, -1, 1.5, '2', true, Infinity, NaN, 2 ** 53]) {
      assert.throws(() => client.subscribe('t', nothing, { group: 'g', concurrency }), /^InvalidArgument: concurrency is a whole number, from 1/);
    }
    assert.throws(() => client.subscribe('t', nothing, { concurrency: 2 }), /^InvalidArgument: concurrency is for a member of a group/);
    assert.throws(() => client.subscribe(5, nothing, { group: 'g' }), InvalidArgument);
    assert.deepEqual(await socket.sent(), []);
    client.subscribe('t', nothing, { group: null, concurrency: 1 });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't' }]);
  });

  test('ends with a signal, and with all that is unsubscribed from', async () => {
    const { client, socket } = await connected();
    const abort = new AbortController();
    const aborted = client.subscribe('t', nothing, { group: 'g', signal: abort.signal });
    abort.abort();
    await aborted.next();
    client.subscribe('t', nothing, { group: 'not asked', signal: abort.signal });
    client.subscribe('t', nothing, { group: 'g' });
    client.subscribe('t', nothing);
    client.subscribe('t', nothing);
    client.subscribe('*', nothing, { group: 'g' });
    client.subscribe(new Pattern('*'), nothing, { group: 'g' });
    await socket.sent();
    client.unsubscribe('t');
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't', group: 'g' }, { action: 'unsubscribe', topic: 't' }]);
    client.unsubscribe(new Pattern('*'));
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', pattern: '*', group: 'g' }]);
    client.unsubscribe(new Pattern('*'));
    client.unsubscribe('g');
    assert.deepEqual(await socket.sent(), []);
  });
});

const givenBack = (id, error) => ({ ...failure(id, error), begun: false });

describe('an answer of a member', () => {
  test('goes under the id of its group, and the callback knows the attempt', async () => {
    const { client, socket } = await connected();
    const attempts = [];
    client.subscribe('t', nothing);
    client.subscribe('t', async ({ data, attempt }) => {
      attempts.push([data, attempt]);
      if (data === 'b') throw new Error('a mistake');
      return `${data} is done`;
    }, { group: 'g' });
    await socket.sent();
    for (const more of [question('a'), question('b', { attempt: 2 }), question('c', { attempt: 0 }), question('d', { attempt: '2' })]) socket.says(more);
    socket.says(publication('e', { group: 'g' }), question('f', { group: undefined }));
    assert.deepEqual((await socket.sent()).sort((one, other) => (one.ack_id < other.ack_id ? -1 : 1)), [
      answer('a', { success: true, result: 'a is done' }), failure('b', 'a mistake'), answer('c', { success: true, result: 'c is done' }),
      answer('d', { success: true, result: 'd is done' }), answer('f'),
    ]);
    assert.deepEqual(attempts, [['a', 1], ['b', 2], ['c', 1], ['d', 1], ['e', 1]]);
  });

  test('is that it has not begun, where the client is no member, or is one no more', async () => {
    const { client, socket, errors } = await connected({ onDirect: () => assert.fail('it is for a group') });
    client.subscribe('t', nothing);
    client.subscribe(new Pattern('*'), nothing);
    client.subscribe('t', nothing, { group: 'g' }).unsubscribe();
    await socket.sent();
    socket.says(question('a'), question('b', { pattern: '*' }), question('c', { topic: undefined }), publication(1, { group: 'g' }));
    assert.deepEqual(await socket.sent(), ['a', 'b', 'c'].map((id) => givenBack(id, 'no subscriber for topic')));
    assert.deepEqual(errors, []);
  });

  test('of what waits when it leaves: not begun; of what is under way: what becomes of it', async () => {
    const { client, socket } = await connected();
    let end;
    const member = client.subscribe('t', () => new Promise((resolve) => { end = resolve; }), { group: 'g' });
    await socket.sent();
    socket.says(question('a'), question('b'));
    member.unsubscribe();
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't', group: 'g' }, givenBack('b', 'unsubscribed')]);
    end(5);
    assert.deepEqual(await socket.sent(), [answer('a', { success: true, result: 5 })]);
  });

  test('of what has no room, and when the client closes: not begun', async () => {
    const { client, socket } = await connected({ mailbox: 1, onError: nothing });
    client.subscribe('t', never, { group: 'g' });
    await socket.sent();
    socket.says(question('a'), question('b'), question('c'));
    assert.deepEqual(await socket.sent(), [givenBack('c', 'queue full')]);
    client.close();
    assert.deepEqual(await socket.sent(), [givenBack('b', 'unsubscribed')]);
  });

  test('is not sent on another connection: somebody else has the message', async () => {
    const { client, says, sent, comeBack } = await followed();
    let end;
    client.subscribe('t', () => new Promise((resolve) => { end = resolve; }), { group: 'g' });
    says(question('a'));
    await comeBack();
    end(1);
    assert.deepEqual(await sent(), []);
    says(question('b', { attempt: 2 }));
    await settled();
    end(2);
    assert.deepEqual(await sent(), [answer('b', { success: true, result: 2 })]);
  });
});

describe('concurrency', () => {
  /** A member whose callbacks end when the test says so. */
  async function working(options) {
    const world = await connected();
    const ends = new Map();
    const began = [];
    world.client.subscribe('t', ({ data }) => {
      began.push(data);
      return new Promise((resolve, reject) => { ends.set(data, { resolve, reject }); });
    }, { group: 'g', ...options });
    await world.socket.sent();
    return { ...world, began, ends };
  }

  test('one callback at a time, unless more are wanted', async () => {
    const { socket, began, ends } = await working();
    socket.says(question('a'), question('b'));
    assert.deepEqual(began, ['a']);
    ends.get('a').resolve();
    await settled();
    assert.deepEqual(began, ['a', 'b']);
  });

  test('so many may be under way, and the next begins when one ends, however it ends', async () => {
    const { socket, began, ends, errors } = await working({ concurrency: 3 });
    socket.says(...['a', 'b', 'c', 'd', 'e', 'f'].map((id) => question(id)));
    assert.deepEqual(began, ['a', 'b', 'c']);
    ends.get('b').resolve(1);
    assert.deepEqual(await socket.sent(), [answer('b', { success: true, result: 1 })]);
    assert.deepEqual(began, ['a', 'b', 'c', 'd']);
    ends.get('a').reject(new Error('a mistake'));
    ends.get('c').resolve();
    assert.deepEqual(await socket.sent(), [failure('a', 'a mistake'), answer('c')]);
    assert.deepEqual(began, ['a', 'b', 'c', 'd', 'e', 'f']);
    for (const id of ['d', 'e', 'f']) ends.get(id).resolve();
    assert.equal((await socket.sent()).length, 3);
    socket.says(...['g', 'h', 'i', 'j'].map((id) => publication(id, { group: 'g' })));
    assert.deepEqual(began.slice(6), ['g', 'h', 'i'], 'without ack likewise');
    assert.deepEqual(errors.map(({ message }) => message), ['a mistake']);
  });

  test('a callback that is not async blocks none, and one that throws at once neither', async () => {
    const { client, socket } = await connected({ onError: nothing });
    const began = [];
    client.subscribe('t', ({ data }) => {
      began.push(data);
      if (data === 'throws') throw new Error('a mistake');
      return data.startsWith('waits') ? never() : undefined;
    }, { group: 'g', concurrency: 2 });
    const ids = ['throws', 'ends', 'waits', 'throws', 'ends', 'waits too', 'too late'];
    socket.says(...ids.map((id) => question(id)));
    await settled();
    assert.deepEqual(began, ids.slice(0, -1));
  });

  test('none begins when the client is closed', async () => {
    const { client, socket, began, ends } = await working({ concurrency: 2 });
    socket.says(question('a'), question('b'), question('c'));
    client.close();
    for (const id of ['a', 'b']) ends.get(id).resolve();
    await settled();
    assert.deepEqual(began, ['a', 'b']);
  });

  test('several loops share what is there, and each answers for its own', async () => {
    const { client, socket } = await connected();
    const member = client.subscribe('t', { group: 'g', concurrency: 2 });
    const [one, other] = [member[Symbol.asyncIterator](), member[Symbol.asyncIterator]()];
    await socket.sent();
    socket.says(question('a', { attempt: 3 }), question('b'));
    assert.deepEqual([(await one.next()).value.attempt, (await other.next()).value.data], [3, 'b']);
    other.next();
    assert.deepEqual(await socket.sent(), [answer('b')]);
  });
});

describe('after a reconnect', () => {
  test('a client is a member again, behind its topics and patterns', async () => {
    const { client, says, comeBack } = await followed();
    const got = [];
    client.subscribe(new Pattern('*'), ({ data }) => { got.push(data); }, { group: 'h', concurrency: 3 });
    client.subscribe('t', ({ data }) => { got.push(data); }, { group: 'g' });
    client.subscribe(new Pattern('*'), nothing);
    client.subscribe('t', nothing);
    says(subscribed());
    assert.deepEqual(await comeBack(), [
      { action: 'subscribe', topic: 't' }, { action: 'subscribe', pattern: '*' }, { action: 'subscribe', pattern: '*', group: 'h', concurrency: 3 },
      { action: 'subscribe', topic: 't', group: 'g' },
    ]);
    says(publication(1, { group: 'g' }), publication(2, { group: 'h', pattern: '*' }));
    assert.deepEqual(got, [1, 2]);
  });

  for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1 })) {
    test(`to a server without groups, ${what}: it is no member any more, and is told so; all else goes on`, async () => {
      const { client, says, sent, comeBack, errors } = await followed();
      const got = [];
      client.subscribe('t', ({ data }) => { got.push(data); });
      const members = [client.subscribe('t', { group: 'g' }), client.subscribe('t', { group: 'h' }), client.subscribe(new Pattern('*'), { group: 'g' })];
      says({ action: 'subscribed', topic: 't' }, subscribed());
      const asked = await comeBack(agreement);
      assert.deepEqual(asked.map(({ action, topic, group }) => [action, topic, group]), [['subscribe', 't', undefined]]);
      for (const member of members) {
        await assert.rejects(member.next(), { name: 'Unsupported' });
        member.unsubscribe();
      }
      assert.deepEqual(errors.map(({ name, topic, pattern, group }) => [name, topic ?? pattern, group]), [
        ['Unsupported', 't', 'g'], ['Unsupported', 't', 'h'], ['Unsupported', '*', 'g'],
      ]);
      says({ action: 'publish', topic: 't', data: { data: 1, from: 'bob' } });
      assert.equal(got.length, 1);
      assert.deepEqual(await sent(), []);
    });
  }

  test('to a server without groups, where the program leaves all as soon as it hears of one', async () => {
    const told = [];
    const onError = ({ group }) => {
      told.push(group);
      client.unsubscribe('t');
    };
    const { client, sent, comeBack } = await followed(LEVEL_2, { onError });
    for (const group of ['g', 'h']) client.subscribe('t', nothing, { group });
    await sent();
    assert.deepEqual(await comeBack(OLD), [], 'it would have ended the topic itself');
    assert.deepEqual(told, ['g']);
  });

  test('to a server without presence and history: that is nothing to a member', async () => {
    const { client, comeBack, errors } = await followed();
    client.subscribe('t', nothing, { group: 'g', concurrency: 2 });
    assert.deepEqual(await comeBack({ ...LEVEL_2, features: ['groups'] }), [{ action: 'subscribe', topic: 't', group: 'g', concurrency: 2 }]);
    assert.deepEqual(errors, []);
  });
});

describe('beside history and presence', () => {
  const kept = (data, more) => publication(data, { offset: data, ...more });

  test('the place of the client in its topic is its own', async () => {
    const onLost = mock.fn();
    const { client, says, comeBack } = await followed(LEVEL_2, { onLost });
    const got = [];
    const member = mock.fn();
    client.subscribe('t', ({ data, offset }) => { got.push([data, offset]); });
    client.subscribe('t', member, { group: 'g' });
    client.subscribe(new Pattern('*'), member, { group: 'g' });
    says({ action: 'subscribed', topic: 't', epoch: 'e', offset: 4, coming: 0 }, kept(5), subscribed(), { action: 'subscribed', pattern: '*', group: 'g' });
    says(publication(9, { group: 'g' }), publication(9, { group: 'g', offset: 9 }), kept(6));
    assert.deepEqual(got, [[5, 5], [6, 6]]);
    assert.deepEqual(member.mock.calls.map(({ arguments: [{ data, offset, position }] }) => [data, offset, position]), [[9, null, null], [9, null, null]]);
    assert.deepEqual(await comeBack(), [
      { action: 'subscribe', topic: 't', since: { epoch: 'e', offset: 6 } }, { action: 'subscribe', topic: 't', group: 'g' }, { action: 'subscribe', pattern: '*', group: 'g' },
    ]);
    says({ action: 'subscribed', topic: 't', epoch: 'e', offset: 6, coming: 0, recovered: true }, subscribed({ epoch: 'f', offset: 7, recovered: false, lost: 3 }));
    client.subscribe('t', nothing, { group: 'h' }).unsubscribe();
    assert.deepEqual((await comeBack())[0].since, { epoch: 'e', offset: 6 });
    assert.equal(onLost.mock.callCount(), 0);
  });

  test('a member has not got the topic, so the past of it can be had', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(['g', data]); }, { group: 'g' });
    client.subscribe(new Pattern('*'), nothing, { group: 'g' });
    client.subscribe('t', ({ data }) => { got.push(['t', data]); }, { last: 1 });
    client.subscribe(new Pattern('t*'), nothing, { group: 'g' });
    assert.deepEqual((await socket.sent()).filter(({ last }) => last), [{ action: 'subscribe', topic: 't', last: 1 }]);
    socket.says(publication(1), publication(2, { group: 'g' }), { action: 'subscribed', topic: 't', epoch: 'e', offset: 2, coming: 1 }, kept(3));
    assert.deepEqual(got, [['g', 2], ['t', 3]], 'the first one was for an earlier subscription');
    client.unsubscribe('t');
    client.subscribe('t', nothing, { group: 'g' });
    client.subscribe(new Pattern('*'), nothing, { last: 2 });
  });

  test('who is there has nothing to do with groups', async () => {
    const { client, says, comeBack } = await followed();
    const seen = [];
    client.subscribe('t', nothing, { info: { n: 1 }, presence: ({ members, joined }) => { seen.push([[...members.keys()], [...joined.keys()]]); } });
    const member = client.subscribe('t', nothing, { group: 'g', concurrency: 2 });
    says({ action: 'subscribed', topic: 't', presence: { count: 1, version: 1, members: [{ id: 'me' }] } });
    says(subscribed({ presence: { count: 1, version: 1, members: [{ id: 'x' }] } }));
    member.unsubscribe();
    client.subscribe('t', nothing, { group: 'g' });
    says({ action: 'unsubscribed', topic: 't', group: 'g' }, refusal('forbidden'));
    says({ action: 'presence', topic: 't', count: 2, version: 2, joined: [{ id: 'bob' }] });
    assert.deepEqual(seen, [[['me'], ['me']], [['me', 'bob'], ['bob']]]);
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't', info: { n: 1 }, presence: true }]);
  });
});

describe('a server without groups', () => {
  for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1, 'of level 1, whatever it says': { features: LEVEL_2.features } })) {
    test(`${what}: it is refused, and nothing has happened`, async () => {
      const { client, socket, errors } = await connected({}, agreement);
      const unsupported = { name: 'Unsupported', feature: 'groups', topic: 't', message: 'the server does not have groups' };
      assert.throws(() => client.subscribe('t', nothing, { group: 'g' }), { ...unsupported, group: 'g' });
      assert.throws(() => client.subscribe('t', { group: 'g' }), { ...unsupported, group: 'g' });
      assert.throws(() => client.subscribe(new Pattern('*'), { group: 'g' }), Unsupported);
      for (const options of [{ key: 'k' }, { retry: 1 }]) {
        await assert.rejects(client.request('t', 1, options), unsupported);
        await assert.rejects(client.publishWithAck('t', 1, options), unsupported);
      }
      await assert.rejects(client.publishWithAck('t', 1, { expectGroups: ['g'] }), unsupported);
      assert.deepEqual(await socket.sent(), []);
      for (const options of [{ retry: 0, expectGroups: [] }, { key: null, retry: null, expectGroups: null }]) {
        await client.publishWithAck('t', 1, options);
        assert.deepEqual(Object.keys((await socket.sent())[0]).filter((name) => ['key', 'retry', 'expect'].includes(name)), []);
      }
      assert.deepEqual(errors, []);
    });
  }

  test('one that has no patterns: not even of a group', async () => {
    const { client, socket } = await connected({}, { ...LEVEL_2, features: ['groups'] });
    assert.throws(() => client.subscribe(new Pattern('*'), { group: 'g' }), { name: 'Unsupported', feature: 'patterns', pattern: '*', group: 'g' });
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('a refusal', () => {
  test('ends the membership, and nothing else', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); });
    client.subscribe('t', ({ data }) => { got.push(data); }, { group: 'h' });
    const awaited = outcomeOf(client.subscribe('t', nothing, { group: 'g' }));
    socket.says({ action: 'subscribed', topic: 't' }, subscribed({ group: 'h' }), refusal('forbidden'));
    socket.says(publication(1), publication(2, { group: 'h' }));
    await settled();
    assert.ok(awaited.is instanceof ServerError);
    assert.deepEqual([awaited.is.code, awaited.is.topic, awaited.is.group], ['forbidden', 't', 'g']);
    assert.deepEqual([got, errors], [[1, 2], []]);
    await socket.sent();
    client.subscribe('t', nothing, { group: 'g' });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', group: 'g' }]);
  });

  test('of the topic leaves its groups', async () => {
    const { client, socket } = await connected({ onError: nothing });
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { group: 'g' });
    const plain = client.subscribe('t');
    socket.says(subscribed(), refusal('forbidden', { group: undefined }), publication(1, { group: 'g' }));
    await assert.rejects(plain.next(), { code: 'forbidden', group: undefined });
    assert.deepEqual(got, [1]);
  });

  test('for now: the client asks again, with what it takes at a time', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, socket, errors } = await connected();
    const member = outcomeOf(client.subscribe('t', nothing, { group: 'g', concurrency: 2 }));
    assert.equal((await socket.sent()).length, 1);
    socket.says(refusal('rate_limited'));
    await pass(500);
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', group: 'g', concurrency: 2 }]);
    assert.equal(member.is, 'waits');
    socket.says(subscribed());
    await settled();
    assert.equal(member.is.group, 'g');
    assert.deepEqual(errors.map(({ code, group }) => [code, group]), [['rate_limited', 'g']]);
  });

  test('because of a limit ends what is new, and not what is restored', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack } = await followed(LEVEL_2, { onError: nothing });
    client.subscribe('t', nothing, { group: 'g' });
    const refused = client.subscribe('t', { group: 'h' });
    says(subscribed(), refusal('limit_reached', { group: 'h' }));
    await assert.rejects(refused.next(), { code: 'limit_reached', group: 'h' });
    await comeBack();
    says(refusal('limit_reached'));
    await pass(500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't', group: 'g' }]);
  });

  test('of silence is told in words that fit on a line', async () => {
    const { client } = await connected({ onError: nothing });
    const awaited = outcomeOf(client.subscribe('t', nothing, { group: 'a group' }));
    await pass(10_000);
    assert.ok(awaited.is instanceof RequestTimeout);
    assert.equal(awaited.is.message, 'no answer in time: subscribe group "a group" of topic t');
  });

  test('of the client itself, because the message is too large', async () => {
    const { client, socket } = await connected({}, { ...LEVEL_2, limits: { max_message: 200 } });
    assert.throws(() => client.subscribe('t', nothing, { group: 'x'.repeat(200) }), MessageTooLarge);
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('publishing with ack', () => {
  const outcome = (more) => ({ topic: 't', group: 'g', success: true, attempts: 1, member: 'bob', ...more });

  test('says what is wanted of groups', async () => {
    const { client, socket } = await connected({}, FULL);
    const wanted = async (options, ask = 'publishWithAck') => {
      client[ask]('t', 1, options).catch(nothing);
      const [{ key, retry, expect }] = await socket.sent();
      return { key, retry, expect };
    };
    assert.deepEqual(await wanted(), { key: undefined, retry: undefined, expect: undefined });
    assert.deepEqual(await wanted({ key: 'k', retry: 2 }), { key: 'k', retry: 2, expect: undefined });
    assert.deepEqual(await wanted({ key: 'k', retry: 2 }, 'request'), { key: 'k', retry: 2, expect: undefined });
    assert.deepEqual((await wanted({ expect: ['bob'], expectGroups: ['g', 'h'] })).expect, ['bob', { group: 'g' }, { group: 'h' }]);
    assert.deepEqual((await wanted({ expectGroups: ['g'] })).expect, [{ group: 'g' }]);
    assert.deepEqual((await wanted({ expect: ['bob'] })).expect, ['bob']);
  });

  test('takes what can be said', async () => {
    const { client, socket } = await connected({}, FULL);
    for (const options of [
      { key: '' }, { key: 5 }, { key: 'a\nb' }, { retry: -1 }, { retry: 1.5 }, { retry: '1' }, { retry: Infinity }, { expectGroups: 'g' }, { expectGroups: [''] },
      { expectGroups: [5] }, { expectGroups: [{ group: 'g' }] }, { expect: [{ group: 'g' }] }, { group: 'g' },
    ]) await assert.rejects(client.publishWithAck('t', 1, options), InvalidArgument, JSON.stringify(options));
    for (const options of [{ expectGroups: ['g'] }, { expect: ['bob'] }]) await assert.rejects(client.request('t', 1, options), InvalidArgument);
    for (const options of [{ key: 'k' }, { retry: 1 }, { expectGroups: ['g'] }]) {
      await assert.rejects(client.publishToIdWithAck('bob', 1, options), InvalidArgument);
      await assert.rejects(client.requestToId('bob', 1, options), InvalidArgument);
    }
    assert.deepEqual(await socket.sent(), []);
  });

  test('each thing needs what the server has for it', async () => {
    const { client, socket } = await connected({}, { ...LEVEL_2, features: ['expect'] });
    await client.publishWithAck('t', 1, { expect: ['bob'] });
    await assert.rejects(client.publishWithAck('t', 1, { expect: ['bob'], key: 'k' }), { feature: 'groups' });
    await assert.rejects(client.publishWithAck('t', 1, { expect: ['bob'], expectGroups: ['g'] }), { feature: 'groups' });
    const { client: other } = await connected();
    await other.publishWithAck('t', 1, { expectGroups: ['g'] });
    await assert.rejects(other.publishWithAck('t', 1, { expect: ['bob'], expectGroups: ['g'] }), { feature: 'expect' });
    assert.equal((await socket.sent()).length, 1);
  });

  test('gives the outcomes of groups among those of clients', async () => {
    const { client, socket } = await connected();
    const ack = await client.publishWithAck('t', 1);
    const seen = [];
    const loop = (async () => { for await (const response of ack) seen.push(response); })();
    socket.says({ action: 'ack_update', ack_id: ack.id, responses: { carol: { success: true } }, groups: [outcome({ result: 5 })] });
    socket.says({
      action: 'ack_response', ack_id: ack.id, complete: false, missing: ['dave'], groups: [
        outcome({ pattern: '*', topic: undefined, success: false, error: 'a mistake', attempts: 2, failures: [{ member: 'bob', error: 'no' }, { member: 'bob', error: '' }] }),
        { topic: 't', group: 'h', success: false, error: 'no member', attempts: 0 },
      ],
    });
    await loop;
    const carol = { clientId: 'carol', success: true };
    const g = { clientId: 'bob', group: 'g', topic: 't', attempts: 1, failures: [], success: true, result: 5 };
    const failed = {
      clientId: 'bob', group: 'g', pattern: '*', attempts: 2, failures: [{ clientId: 'bob', error: 'no' }, { clientId: 'bob', error: '' }],
      success: false, error: 'a mistake',
    };
    const none = { clientId: '', group: 'h', topic: 't', attempts: 0, failures: [], success: false, error: 'no member' };
    const dave = { clientId: 'dave', success: false, error: 'timeout' };
    assert.deepEqual(seen, [carol, g, failed, none, dave]);
    assert.deepEqual(await ack.wait(), new Map([['carol', carol], ['g of t', g], ['g of *', failed], ['h of t', none], ['dave', dave]]));
    assert.deepEqual(await ack.status(), new Map([['carol', true], ['g of t', true], ['g of *', true], ['h of t', true], ['dave', false]]));
    assert.equal(await ack.isComplete(), false);
    const { 'g of t': { clientId: _, ...unified } = {} } = await ack.Wait();
    assert.deepEqual(unified, { ack_id: ack.id, client_id: 'bob', group: 'g', topic: 't', attempts: 1, failures: [], success: true, result: 5 });
  });

  test('whatever a server says of groups', async () => {
    const wrong = [null, 5, -1, 1.5, true, '', '__proto__', [], {}, [null], [{}], [5], [{ member: 5, error: {} }], 'x'];
    for (const field of ['groups', 'topic', 'pattern', 'group', 'member', 'attempts', 'failures', 'success', 'error']) {
      for (const value of wrong) {
        const { client, socket, errors } = await connected();
        const ack = await client.publishWithAck('t', 1);
        socket.says({ action: 'ack_response', ack_id: ack.id, complete: true, groups: [outcome({ failures: [{ member: 'bob', error: 'no' }], [field]: value }), value], ...(field === 'groups' && { groups: value }) });
        for (const [name, { clientId, success, error = '', group = '', attempts = 0, failures = [], topic, pattern = topic }] of await ack.wait()) {
          for (const each of [name, clientId, error, group, pattern, ...failures.flatMap((one) => [one.clientId, one.error])]) assert.equal(typeof each, 'string', field);
          assert.equal(typeof success, 'boolean');
          assert.ok(Number.isSafeInteger(attempts) && attempts >= 0);
        }
        assert.deepEqual(errors, []);
      }
    }
  });

  test('when the connection ends it is unknown what became of it', async () => {
    const { client, socket } = await connected({ reconnect: 100 });
    const asked = assert.rejects(client.request('t', 1, { key: 'k' }), ConnectionLost);
    await settled();
    socket.end();
    await asked;
  });

  /** What a request comes to if these are the outcomes. */
  async function requested(groups, responses) {
    const { client, socket } = await connected();
    const asked = client.request('t', 1);
    asked.catch(nothing);
    const [{ ack_id: id }] = await socket.sent();
    socket.says({ action: 'ack_response', ack_id: id, complete: true, groups, responses });
    return asked;
  }

  test('a request takes the result of a group like that of a client', async () => {
    assert.equal(await requested([outcome({ result: 5 })], { carol: { success: false, error: 'no' } }), 5);
    assert.equal(await requested([outcome()]), undefined);
    assert.equal(await requested([outcome({ success: false, error: 'no' })], { carol: { success: true, result: 6 } }), 6);
  });

  test('a request fails as its groups do', async () => {
    const none = (more) => ({ topic: 't', group: 'h', success: false, error: 'no member', attempts: 0, ...more });
    await assert.rejects(requested([none()], { carol: { success: false, error: 'no subscriber for topic' } }), NobodyThere);
    const failed = outcome({ success: false, error: 'a mistake' });
    await assert.rejects(requested([none(), failed]), { name: 'RequestFailed', message: 'a mistake', errors: new Map([['bob', 'a mistake']]), target: 't' });
    await assert.rejects(requested([none({ error: 'busy' })]), { message: 'busy', errors: new Map([['h of t', 'busy']]) });
    await assert.rejects(requested([none({ error: 'timeout', member: undefined })]), RequestTimeout);
    // One has had it, so it may have been handled.
    const gone = none({ attempts: 1, failures: [{ member: 'bob', error: 'disconnected' }] });
    await assert.rejects(requested([gone]), (error) => error instanceof RequestFailed && error.errors.get('h of t') === 'no member');
  });
});

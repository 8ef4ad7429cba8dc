// Who is subscribed to a topic: observing it, saying something about oneself, and asking.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import {
  ClientClosed, ConnectionLost, InvalidArgument, MessageTooLarge, NotConnected, Pattern, RequestTimeout, ServerError, Unsupported,
} from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const OLD = { ...LEVEL_2, features: ['patterns', 'history'] };
const nothing = () => {};

/** Members as a server lists them: those of names without an info, or with the one that is given. */
const listed = (members) => Object.entries(members).map(([id, info]) => (info ? { id, info } : { id }));
const there = (version, members) => ({ count: Object.keys(members).length, version, members: listed(members) });
const subscribed = (presence, topic = 't') => ({ action: 'subscribed', topic, presence });
const told = (more, topic = 't') => ({ action: 'presence', topic, ...more });
const refusal = (code, more) => ({ action: 'error', error: `no: ${code}`, code, request: 'subscribe', topic: 't', ...more });
const publication = (data, more) => ({ action: 'publish', topic: 't', from: 'bob', data, ...more });

/** What a callback got, in short: who is there, and what has changed. */
const short = ({ members, joined, updated, left }) => [
  members && [...members.keys()].join(), [...joined.keys()].join(), [...updated.keys()].join(), Object.fromEntries(left),
];

/** A client that comes back after 100 ms. */
async function followed(agreement, options) {
  const world = await connected({ reconnect: 100, ...options }, agreement);
  const sent = () => world.sockets.at(-1).sent();
  /** End the connection; what is asked on the next one. */
  const comeBack = async (next) => {
    world.sockets.at(-1).end();
    await pass(100);
    await welcome(world.sockets.at(-1), 'me', next);
    return sent();
  };
  return { ...world, comeBack, sent, says: (...messages) => world.sockets.at(-1).says(...messages) };
}

describe('observing', () => {
  test('begins with who is there, and goes on with what has changed', async () => {
    const { client, socket, errors } = await connected();
    const got = [];
    const pending = client.subscribe('t', nothing, { presence: (presence) => { got.push(presence); }, info: { name: 'Me' } });
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', info: { name: 'Me' }, presence: true }]);
    socket.says(subscribed(there(3, { me: { name: 'Me' }, bob: undefined })));
    assert.equal(await pending, pending);
    socket.says(told({ count: 3, version: 4, joined: listed({ carol: { name: 'C' } }) }));
    socket.says(told({ count: 2, version: 6, joined: listed({ carol: { name: 'Carol' } }), left: [{ id: 'bob', reason: 'lost' }] }));
    socket.says(told({ count: 1, version: 7, left: [{ id: 'carol', reason: 'of a later version' }] }));
    const none = { updated: new Map(), left: new Map(), joined: new Map() };
    const me = ['me', { name: 'Me' }];
    assert.deepEqual(got, [
      { topic: 't', ...none, members: new Map([me, ['bob', null]]), count: 2, version: 3, joined: new Map([me, ['bob', null]]) },
      { topic: 't', ...none, members: new Map([me, ['bob', null], ['carol', { name: 'C' }]]), count: 3, version: 4, joined: new Map([['carol', { name: 'C' }]]) },
      {
        topic: 't', ...none, members: new Map([me, ['carol', { name: 'Carol' }]]), count: 2, version: 6,
        updated: new Map([['carol', { name: 'Carol' }]]), left: new Map([['bob', 'lost']]),
      },
      { topic: 't', ...none, members: new Map([me]), count: 1, version: 7, left: new Map([['carol', 'of a later version']]) },
    ]);
    assert.deepEqual(errors, []);
  });

  test('what is known already is no change, and a list takes the place of changes', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', nothing, { presence: (presence) => { got.push(short(presence)); } });
    socket.says(subscribed(there(1, { a: { n: 1 }, b: undefined })));
    socket.says(told({ count: 2, version: 2, joined: listed({ a: { n: 1 }, b: undefined }), left: [{ id: 'c', reason: 'lost' }] }));
    socket.says(told(there(9, { c: undefined, a: { n: 2 } })));
    assert.deepEqual(got, [['a,b', 'a,b', '', {}], ['a,b', '', '', {}], ['c,a', 'c', 'a', { b: 'unknown' }]]);
  });

  test('only the number, where there are too many', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', nothing, { presence: (presence) => { got.push([presence.count, ...short(presence)]); } });
    socket.says(subscribed({ count: 1001, version: 1 }), told({ count: 1002, version: 2, joined: listed({ a: undefined }) }));
    socket.says(told(there(3, { a: undefined })), told({ count: 5000, version: 4 }), told(there(5, { b: undefined })));
    assert.deepEqual(got, [
      [1001, null, '', '', {}], [1002, null, '', '', {}], [1, 'a', 'a', '', {}], [5000, null, '', '', {}], [1, 'b', 'b', '', {}],
    ]);
  });

  test('an id may be called like a property of all objects', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', nothing, { presence: (presence) => { got.push(presence); } });
    socket.says(subscribed({ count: 1, version: 1, members: [{ id: '__proto__', info: { n: 1 } }] }));
    socket.says(told({ count: 2, version: 2, joined: [{ id: 'constructor' }] }), told({ count: 1, version: 3, left: [{ id: '__proto__', reason: 'closed' }] }));
    assert.deepEqual(got.map(({ members }) => [...members]), [
      [['__proto__', { n: 1 }]], [['__proto__', { n: 1 }], ['constructor', null]], [['constructor', null]],
    ]);
    assert.deepEqual([...got[2].left], [['__proto__', 'closed']]);
  });

  test('the program may do with its members what it wants', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', nothing, {
      presence: (presence) => {
        got.push(short(presence));
        presence.members.clear();
      },
    });
    socket.says(subscribed(there(1, { a: undefined })), told({ count: 2, version: 2, joined: listed({ b: undefined }) }));
    assert.deepEqual(got, [['a', 'a', '', {}], ['a,b', 'b', '', {}]]);
  });

  test('may begin later, on a topic that is subscribed to: all who observe are told', async () => {
    const { client, socket } = await connected();
    const got = [];
    const observe = (name) => client.subscribe('t', nothing, { presence: (presence) => { got.push([name, ...short(presence)]); } });
    client.subscribe('t', nothing);
    socket.says({ action: 'subscribed', topic: 't' });
    await socket.sent();
    const first = observe('first');
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', presence: true }]);
    socket.says(subscribed(there(1, { me: undefined })));
    assert.equal(await first, first);
    observe('second');
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', presence: true }]);
    socket.says(subscribed(there(1, { me: undefined })), told({ count: 2, version: 2, joined: listed({ bob: undefined }) }));
    const both = (...what) => [['first', ...what], ['second', ...what]];
    assert.deepEqual(got, [['first', 'me', 'me', '', {}], ...both('me', '', '', {}), ...both('me,bob', 'bob', '', {})]);
  });

  test('ends with the subscription, and begins anew', async () => {
    const { client, socket } = await connected();
    const got = [];
    const observe = () => client.subscribe('t', nothing, { presence: (presence) => { got.push(short(presence)); } });
    client.subscribe('t', nothing);
    const [one, other] = [observe(), observe()];
    socket.says({ action: 'subscribed', topic: 't' }, subscribed(there(1, { me: undefined })), subscribed(there(1, { me: undefined })));
    await socket.sent();
    got.length = 0;
    one.unsubscribe();
    assert.deepEqual(await socket.sent(), []);
    socket.says(told({ count: 2, version: 2, joined: listed({ bob: undefined }) }));
    assert.deepEqual(got.splice(0), [['me,bob', 'bob', '', {}]]);
    other.unsubscribe();
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', presence: false }]);
    socket.says(told({ count: 1, version: 3, left: [{ id: 'bob', reason: 'lost' }] }), { action: 'subscribed', topic: 't' });
    observe();
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', presence: true }]);
    socket.says(told({ count: 9, version: 3 }), subscribed(there(3, { me: undefined })));
    assert.deepEqual(got.splice(0), [['me', 'me', '', {}]], 'what came before was for an earlier one');
    client.unsubscribe('t');
    assert.deepEqual((await socket.sent()).map(({ action }) => action).filter((action) => action === 'unsubscribe'), ['unsubscribe']);
    observe();
    socket.says(told({ count: 9, version: 4 }), { action: 'unsubscribed', topic: 't' }, subscribed(there(3, { me: undefined })));
    assert.deepEqual(got, [['me', 'me', '', {}]]);
  });

  test('nobody is called who has ended, not even by another one', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', nothing, { presence: () => { got.push(1); second.unsubscribe(); } });
    const second = client.subscribe('t', nothing, { presence: () => { got.push(2); } });
    client.subscribe('t', nothing, { presence: () => { got.push(3); client.close(); } });
    client.subscribe('t', nothing, { presence: () => { got.push(4); } });
    socket.says(subscribed(there(1, { me: undefined })), told({ count: 9 }));
    assert.deepEqual(got, [1, 3]);
  });

  test('what the callback throws is reported', async () => {
    const { client, socket, errors } = await connected();
    const fail = () => { throw new Error('a mistake'); };
    client.subscribe('t', nothing, { presence: fail });
    client.subscribe('t', nothing, { presence: async () => fail() });
    socket.says(subscribed(there(1, { me: undefined })));
    await settled();
    assert.deepEqual(errors.map(({ message }) => message), ['a mistake', 'a mistake']);
  });

  test('what nobody observes is not told', async () => {
    const { client, socket, errors } = await connected();
    const observer = mock.fn();
    client.subscribe('t', nothing);
    client.subscribe('u', nothing, { presence: observer });
    socket.says(subscribed(there(1, { me: undefined })), told({ count: 1 }), told({ count: 1 }, 'u'), told({ count: 1 }, 'v'));
    assert.equal(observer.mock.callCount(), 0);
    assert.deepEqual(errors, []);
  });

  test('and the past: it comes, also when both are asked for in the same turn', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { last: 2 });
    client.subscribe('t', nothing, { presence: nothing });
    socket.says(
      { action: 'subscribed', topic: 't', epoch: 'e', offset: 7, coming: 2 }, publication(8, { offset: 8 }), publication(9, { offset: 9 }),
      subscribed(there(1, { me: undefined })), publication(10, { offset: 10 }),
    );
    assert.deepEqual(got, [8, 9, 10]);
  });
});

describe('what the client says about itself', () => {
  const asked = (info) => [{ action: 'subscribe', topic: 't', info }];

  test('is what it was then, an object, and JSON', async () => {
    const { client, sent, comeBack } = await followed();
    const info = { name: 'Me', more: [1, { toJSON: () => 'x' }] };
    client.subscribe('t', nothing, { info });
    info.name = 'You';
    for (const each of [await sent(), await comeBack()]) assert.deepEqual(each, asked({ name: 'Me', more: [1, 'x'] }));
    client.subscribe('t', nothing, { info: {} });
    client.subscribe('t', nothing, { info: null, presence: null });
    assert.deepEqual(await sent(), asked({}));
  });

  test('stays with the topic until another one is given, also over a reconnect', async () => {
    const { client, socket, says, comeBack } = await followed();
    const first = client.subscribe('t', nothing, { info: { n: 1 } });
    says({ action: 'subscribed', topic: 't' });
    await socket.sent();
    client.subscribe('t', nothing, { info: { n: 2 } }).unsubscribe();
    assert.deepEqual(await socket.sent(), asked({ n: 2 }));
    says({ action: 'subscribed', topic: 't' });
    assert.deepEqual(await comeBack(), asked({ n: 2 }));
    client.subscribe('t', nothing);
    first.unsubscribe();
    assert.deepEqual(await comeBack(), asked({ n: 2 }));
    client.unsubscribe('t');
    client.subscribe('t', nothing);
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't' }]);
  });

  test('when it is refused, the one before counts', async () => {
    const { client, socket, says, comeBack, errors } = await followed();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { info: { n: 1 }, presence: nothing });
    says(subscribed(there(1, { me: { n: 1 } })));
    const refused = client.subscribe('t', { info: { n: 2 } });
    client.subscribe('t', nothing, { info: { n: 3 } }).unsubscribe();
    says(refusal('limit_reached'), refusal('limit_reached'), publication(1));
    await assert.rejects(refused.next(), { code: 'limit_reached' });
    await settled();
    assert.deepEqual(got, [1]);
    assert.deepEqual(errors.map(({ code }) => code), ['limit_reached', 'limit_reached']);
    await socket.sent();
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't', info: { n: 1 }, presence: true }]);
  });

  test('nobody hears of what cannot be', async () => {
    const { client, socket } = await connected();
    const circular = {};
    circular.self = circular;
    for (const options of [
      { info: 5 }, { info: 'x' }, { info: [] }, { info: nothing }, { info: new Date() }, { info: { n: NaN } }, { info: { n: 5n } }, { info: circular },
      { info: { x: '\ud800' } }, { info: Promise.resolve() }, { info: { toJSON: () => [] } }, { presence: true }, { presence: {} }, { presence: function* () {} },
    ]) assert.throws(() => client.subscribe('t', nothing, options), InvalidArgument, JSON.stringify(Object.keys(options)));
    for (const options of [{ info: {} }, { presence: nothing }]) {
      assert.throws(() => client.subscribe(new Pattern('*'), nothing, options), /presence and info are for a topic, not for a pattern/);
    }
    assert.deepEqual(await socket.sent(), []);
  });
});

describe('after a reconnect', () => {
  test('the wish is sent again, and told is what has changed', async () => {
    const { client, says, comeBack } = await followed();
    const got = [];
    client.subscribe('t', nothing, { presence: (presence) => { got.push([presence.version, ...short(presence)]); } });
    client.subscribe('t', nothing, { info: { n: 1 } });
    client.subscribe('u', nothing);
    says(subscribed(there(50, { me: { n: 1 }, bob: undefined, carol: { n: 1 } })), { action: 'subscribed', topic: 't' });
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't', info: { n: 1 }, presence: true }, { action: 'subscribe', topic: 'u' }]);
    says(subscribed(there(2, { me: { n: 1 }, carol: { n: 2 }, dave: undefined })));
    await comeBack();
    says(subscribed({ count: 2000, version: 3 }));
    await comeBack();
    says(subscribed(there(4, { me: { n: 1 } })));
    assert.deepEqual(got, [
      [50, 'me,bob,carol', 'me,bob,carol', '', {}], [2, 'me,carol,dave', 'dave', 'carol', { bob: 'unknown' }],
      [3, null, '', '', {}], [4, 'me', 'me', '', {}],
    ]);
  });

  test('who unsubscribes when told that messages are lost leaves nothing at the server', async () => {
    const { client, says, sent, comeBack } = await followed(LEVEL_2, { onLost: () => client.unsubscribe('t') });
    client.subscribe('t', nothing, { presence: nothing });
    says({ ...subscribed(there(1, { me: undefined })), epoch: 'e', offset: 4, coming: 0 });
    await comeBack();
    says({ ...subscribed(there(1, { me: undefined })), epoch: 'f', offset: 0, coming: 0, recovered: false });
    assert.deepEqual(await sent(), [{ action: 'unsubscribe', topic: 't' }]);
  });

  test('a server that lacks it: the subscriptions go on, and the program is told', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack, errors } = await followed();
    const [got, seen] = [[], []];
    client.subscribe('t', ({ data }) => { got.push(data); }, { presence: (presence) => { seen.push(short(presence)); } });
    client.subscribe('u', nothing);
    client.subscribe('v', nothing, { info: { n: 1 } });
    says(subscribed(there(1, { me: undefined, bob: undefined })));
    assert.deepEqual(await comeBack(OLD), ['t', 'u', 'v'].map((topic) => ({ action: 'subscribe', topic })));
    says(refusal('rate_limited'));
    await pass(500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't' }]);
    says({ action: 'subscribed', topic: 't' }, publication(1));
    assert.deepEqual(got, [1]);
    assert.deepEqual(errors.map(({ name, feature, topic, code }) => [name, feature ?? code, topic]), [
      ['Unsupported', 'presence', 't'], ['Unsupported', 'presence', 'v'], ['ServerError', 'rate_limited', 't'],
    ]);
    assert.deepEqual((await comeBack()).map(({ presence }) => presence), [true, undefined, undefined]);
    says(subscribed(there(1, { me: undefined })));
    assert.deepEqual(seen, [['me,bob', 'me,bob', '', {}], ['me', '', '', { bob: 'unknown' }]]);
  });

  test('who subscribed without a connection is told as well, and who ends says nothing to that server', async () => {
    const { client, sockets, says, sent, comeBack, errors } = await followed();
    sockets[0].end();
    client.subscribe('t', nothing);
    const subscription = client.subscribe('t', nothing, { presence: nothing, info: { n: 1 } });
    assert.equal(await subscription, subscription);
    assert.deepEqual(await comeBack(LEVEL_1), [{ action: 'subscribe', topic: 't', from: 'me' }]);
    assert.deepEqual(errors.map(({ feature, topic }) => [feature, topic]), [['presence', 't']]);
    says({ action: 'subscribed', topic: 't' });
    subscription.unsubscribe();
    assert.deepEqual(await sent(), []);
  });

  test('of several infos that were given without a connection the last one counts', async () => {
    const { client, sockets, comeBack } = await followed();
    sockets[0].end();
    for (const n of [1, 2, 3]) client.subscribe('t', nothing, { info: { n } });
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't', info: { n: 3 } }]);
  });
});

describe('a server without presence', () => {
  for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1, 'of level 1, whatever it says': { features: LEVEL_2.features } })) {
    test(`${what}: it is refused, and nothing has happened`, async () => {
      const { client, socket, errors, says } = await followed(agreement);
      const got = [];
      client.subscribe('u', ({ data }) => { got.push(data); });
      await socket.sent();
      const unsupported = { name: 'Unsupported', feature: 'presence', topic: 'u', message: 'the server does not have presence' };
      for (const options of [{ presence: nothing }, { info: {} }]) {
        assert.throws(() => client.subscribe('u', nothing, options), unsupported);
        assert.throws(() => client.subscribe('u', options), unsupported);
      }
      await assert.rejects(client.presence('u'), unsupported);
      assert.deepEqual(await socket.sent(), []);
      says(publication(1, { topic: 'u' }));
      assert.deepEqual([got, errors], [[1], []]);
    });
  }
});

describe('a refusal', () => {
  test('of a new subscription ends it', async () => {
    const { client, socket, errors } = await connected();
    const refused = outcomeOf(client.subscribe('t', nothing, { presence: nothing }));
    socket.says(refusal('forbidden'));
    await settled();
    assert.ok(refused.is instanceof ServerError && refused.is.code === 'forbidden' && refused.is.topic === 't');
    assert.deepEqual(errors, []);
    client.subscribe('t', nothing);
    assert.deepEqual((await socket.sent()).at(-1), { action: 'subscribe', topic: 't' });
  });

  test('of presence on a topic that is subscribed to ends only those that observe', async () => {
    const { client, socket, sockets, errors, comeBack } = await followed();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); });
    socket.says({ action: 'subscribed', topic: 't' });
    const observer = mock.fn();
    const awaited = outcomeOf(client.subscribe('t', nothing, { presence: observer }));
    const loop = client.subscribe('t', { presence: observer });
    const joined = outcomeOf(client.subscribe('t', ({ data }) => { got.push(data); }));
    socket.says(refusal('forbidden'), refusal('forbidden'), publication(1), told({ count: 5 }));
    await assert.rejects(loop.next(), { code: 'forbidden' });
    await settled();
    assert.equal(awaited.is.code, 'forbidden');
    assert.equal(joined.is.topic, 't', 'it is in force');
    assert.deepEqual(got, [1, 1]);
    assert.equal(observer.mock.callCount(), 0);
    assert.deepEqual(errors.map(({ code }) => code), ['forbidden'], 'of the one for which nobody waited');
    assert.deepEqual((await sockets[0].sent()).filter(({ action }) => action !== 'subscribe'), []);
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't' }]);
  });

  test('before the answer to one that has ended leaves nobody who observes, and the server is told', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', nothing);
    socket.says({ action: 'subscribed', topic: 't' });
    const refused = outcomeOf(client.subscribe('t', nothing, { info: { n: 1 }, presence: nothing }));
    client.subscribe('t', nothing, { presence: nothing }).unsubscribe();
    await socket.sent();
    socket.says(refusal('forbidden'), subscribed(there(1, { me: null })));
    await settled();
    assert.equal(refused.is.code, 'forbidden');
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', presence: false }]);
  });

  test('for now does not hide that nobody observes any more', async () => {
    const { client, socket, says } = await followed();
    const observer = client.subscribe('t', nothing, { presence: nothing });
    says(subscribed(there(1, { me: null })));
    client.subscribe('t', nothing);
    client.subscribe('t', nothing, { info: { n: 1 } });
    says(refusal('unavailable'));
    await socket.sent();
    observer.unsubscribe();
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', info: { n: 1 }, presence: false }]);
  });

  test('also where the subscription itself was confirmed meanwhile', async () => {
    const { client, socket } = await connected();
    const got = [];
    const plain = client.subscribe('t', ({ data }) => { got.push(data); });
    const refused = outcomeOf(client.subscribe('t', nothing, { presence: nothing }));
    socket.says({ action: 'subscribed', topic: 't' }, refusal('forbidden'), publication(1));
    assert.equal(await plain, plain);
    await settled();
    assert.equal(refused.is.code, 'forbidden');
    assert.deepEqual(got, [1]);
  });

  test('and the others have nothing to do with it, whatever becomes of them', async () => {
    const { client, socket } = await connected();
    const got = [];
    const take = ({ data }) => { got.push(data); };
    const large = outcomeOf(client.subscribe('t', take, { info: { n: 1 } }));
    const small = client.subscribe('t', take, { info: { n: 2 } });
    const joined = client.subscribe('t', take);
    socket.says(refusal('limit_reached'), { action: 'subscribed', topic: 't' }, publication(1));
    assert.deepEqual([await small, await joined], [small, joined]);
    await settled();
    assert.equal(large.is.code, 'limit_reached');
    assert.deepEqual(got, [1, 1]);
    assert.deepEqual((await socket.sent()).map(({ action }) => action), ['subscribe', 'subscribe']);
  });

  test('of a topic that was subscribed to before, and is no more, ends all', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', nothing).unsubscribe();
    const outcomes = [client.subscribe('t', nothing, { info: { n: 1 } }), client.subscribe('t', nothing)].map((each) => outcomeOf(each));
    const loop = client.subscribe('t');
    socket.says({ action: 'subscribed', topic: 't' }, { action: 'unsubscribed', topic: 't' }, refusal('forbidden'));
    await assert.rejects(loop.next(), { code: 'forbidden' });
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is.code), ['forbidden', 'forbidden']);
  });

  test('of the last one that is left: the client unsubscribes', async () => {
    const { client, socket } = await connected();
    const plain = client.subscribe('t', nothing);
    const refused = client.subscribe('t', { presence: nothing });
    socket.says({ action: 'subscribed', topic: 't' });
    plain.unsubscribe();
    await socket.sent();
    socket.says(refusal('forbidden'));
    assert.deepEqual(await socket.sent(), [{ action: 'unsubscribe', topic: 't' }]);
    await assert.rejects(refused.next(), { code: 'forbidden' });
  });

  test('behind which the program closes the client', async () => {
    const { client, socket, says, sent } = await followed(LEVEL_2, { onError: ({ code }) => code && client.close() });
    client.subscribe('t', nothing);
    says({ action: 'subscribed', topic: 't' });
    client.subscribe('t', nothing, { presence: nothing });
    await pass(10_000); // its answer comes too late: nobody waits for it
    await sent();
    says(refusal('forbidden'));
    assert.deepEqual(await sent(), []);
    assert.equal(socket.closedWith, 1000);
  });

  test('for now: the client asks again, for all that is wanted', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, errors } = await followed();
    const got = [];
    const all = [
      client.subscribe('t', nothing), client.subscribe('t', nothing, { presence: (presence) => { got.push(short(presence)); } }),
      client.subscribe('t', nothing, { info: { n: 1 } }), client.subscribe('t', nothing, { info: { n: 2 } }),
    ];
    const outcomes = all.map((each) => outcomeOf(each));
    assert.equal((await sent()).length, 4);
    for (let time = 0; time < 4; time++) says(refusal('rate_limited'));
    await pass(500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't', info: { n: 2 }, presence: true }]);
    assert.deepEqual(outcomes.map(({ is }) => is), ['waits', 'waits', 'waits', 'waits']);
    says(subscribed(there(1, { me: { n: 2 } })));
    await settled();
    assert.deepEqual(outcomes.map(({ is }) => is), all);
    assert.deepEqual(got, [['me', 'me', '', {}]]);
    assert.deepEqual(errors.map(({ code }) => code), ['rate_limited']);
    await pass(60_000);
    assert.deepEqual((await sent()).filter(({ action }) => action !== 'ping'), []);
  });

  test('for now, of what is wanted besides: the same, also if more is wanted meanwhile', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, errors } = await followed();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); });
    says({ action: 'subscribed', topic: 't' });
    await sent();
    const observer = outcomeOf(client.subscribe('t', nothing, { presence: nothing }));
    says(refusal('unavailable'), publication(1));
    await sent();
    const other = outcomeOf(client.subscribe('t', nothing, { info: { n: 1 } }));
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't', info: { n: 1 }, presence: true }]);
    assert.deepEqual([observer.is, other.is], ['waits', 'waits']);
    says(subscribed(there(1, { me: { n: 1 } })));
    await settled();
    assert.ok([observer, other].every(({ is }) => is.topic === 't'));
    await pass(20_000);
    assert.deepEqual(await sent(), []);
    assert.deepEqual([got, errors.map(({ code }) => code)], [[1], ['unavailable']]);
  });

  test('behind an answer that did not come in time: what is wanted besides ends', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, errors } = await followed();
    const [got, seen] = [[], []];
    const presence = (each) => { seen.push(short(each)); };
    client.subscribe('t', ({ data }) => { got.push(data); });
    client.subscribe('t', nothing, { presence });
    says({ action: 'subscribed', topic: 't' }, subscribed(there(1, { me: undefined })));
    const late = client.subscribe('t', { presence: nothing });
    const [awaited, joined] = [late, client.subscribe('t', nothing)].map((each) => outcomeOf(each));
    await sent();
    await pass(10_000);
    assert.ok(awaited.is instanceof RequestTimeout);
    assert.equal(joined.is.topic, 't', 'it is in force');
    await pass(500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't', presence: true }]);
    says(refusal('forbidden'), publication(1), told({ count: 2, version: 2, joined: listed({ bob: undefined }) }));
    await assert.rejects(late.next(), { code: 'forbidden' });
    assert.deepEqual(got, [1]);
    assert.deepEqual(errors.map(({ code }) => code), ['forbidden']);
    client.subscribe('t', nothing, { presence });
    says(subscribed(there(1, { me: undefined })));
    assert.deepEqual(seen, [['me', 'me', '', {}], ['me', 'me', '', {}]]);
  });

  test('of the client itself, because the message is too large', async () => {
    const { client, socket } = await connected({}, { ...LEVEL_2, limits: { max_message: 200 } });
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { info: { n: 1 } });
    assert.throws(() => client.subscribe('t', nothing, { info: { n: 'x'.repeat(200) } }), MessageTooLarge);
    assert.throws(() => client.subscribe('u', nothing, { info: { n: 'x'.repeat(200) } }), MessageTooLarge);
    socket.says({ action: 'subscribed', topic: 't' }, publication(1));
    assert.deepEqual(got, [1]);
    assert.deepEqual(await socket.sent(), [{ action: 'subscribe', topic: 't', info: { n: 1 } }]);
  });
});

describe('asking who is there', () => {
  const answer = (nonce, more) => told({ nonce, ...more });

  test('gives the members, and nothing has changed', async () => {
    const { client, socket } = await connected();
    const observer = mock.fn();
    client.subscribe('t', nothing, { presence: observer });
    await socket.sent();
    const asked = client.presence('t');
    const [{ nonce, ...question }] = await socket.sent();
    assert.deepEqual(question, { action: 'presence', topic: 't' });
    socket.says(answer('other', { count: 9 }), answer(nonce, { count: 2, members: listed({ a: undefined, b: { n: 1 } }) }));
    assert.deepEqual(await asked, {
      topic: 't', members: new Map([['a', null], ['b', { n: 1 }]]), count: 2, version: null, joined: new Map(), updated: new Map(), left: new Map(),
    });
    assert.equal(observer.mock.callCount(), 0);
    const many = client.presence('t');
    socket.says(answer((await socket.sent())[0].nonce, { count: 5000, version: 7 }));
    const { members, count, version } = await many;
    assert.deepEqual([members, count, version], [null, 5000, 7]);
  });

  test('may be refused, or not answered', async () => {
    const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
    const refused = client.presence('t');
    const unanswered = assert.rejects(client.presence('t'), RequestTimeout);
    const [{ nonce }] = await socket.sent();
    socket.says(refusal('forbidden', { request: 'presence', nonce }));
    await assert.rejects(refused, (error) => error instanceof ServerError && error.code === 'forbidden' && error.topic === 't');
    await pass(10_000);
    await unanswered;
    const lost = assert.rejects(client.presence('t'), ConnectionLost);
    socket.end();
    await lost;
    await assert.rejects(client.presence('t'), (error) => error instanceof NotConnected && !(error instanceof ClientClosed));
    await pass(100);
    await welcome(sockets[1], 'me');
    const closed = assert.rejects(client.presence('t'), ClientClosed);
    client.close();
    await closed;
    await assert.rejects(client.presence('t'), ClientClosed);
    assert.deepEqual(errors, []);
  });

  test('takes what can be a topic', async () => {
    const { client, socket } = await connected();
    for (const topic of ['', 5, undefined, new Pattern('*')]) await assert.rejects(client.presence(topic), InvalidArgument);
    assert.deepEqual(await socket.sent(), []);
  });
});

test('an ack tells at which version its message was published', async () => {
  const { client, socket } = await connected();
  for (const [presence, expected] of [[5, 5], [undefined, null], ['5', null], [-1, null]]) {
    const ack = await client.publishWithAck('t', 1);
    socket.says({ action: 'ack_update', ack_id: ack.id, responses: { bob: { success: true } }, presence: 9 });
    assert.equal(ack.presence, null);
    socket.says({ action: 'ack_response', ack_id: ack.id, complete: true, presence });
    await ack.wait();
    assert.equal(ack.presence, expected);
  }
});

test('an ack tells whether its server could not reach the other nodes', async () => {
  const { client, socket } = await connected();
  for (const [degraded, expected] of [[true, true], [undefined, false], ['yes', false]]) {
    const ack = await client.publishWithAck('t', 1);
    assert.equal(ack.degraded, false);
    socket.says({ action: 'ack_response', ack_id: ack.id, complete: true, degraded });
    await ack.wait();
    assert.equal(ack.degraded, expected);
  }
});

test('fields of the wrong type', async () => {
  const wrong = [null, 5, -1, true, '', '__proto__', [], {}, [null], [[]], [{}], [{ id: 5 }], [{ id: 'bob', reason: {} }], { length: 1 }];
  for (const field of ['count', 'version', 'members', 'joined', 'left', 'presence', 'topic']) {
    for (const value of wrong) {
      const { client, socket, errors } = await connected();
      const check = ({ topic, members, count, version, joined, updated, left }) => {
        assert.equal(topic, 't');
        assert.ok(members === null || members instanceof Map);
        assert.ok(Number.isSafeInteger(count) && count >= 0 && (version === null || Number.isSafeInteger(version)));
        assert.ok([members ?? joined, joined, updated, left].every((each) => each instanceof Map && [...each.keys()].every((id) => typeof id === 'string')));
        assert.ok([...left.values()].every((reason) => typeof reason === 'string' && reason !== ''));
      };
      client.subscribe('t', nothing, { presence: check });
      client.subscribe(new Pattern('*'), nothing);
      const asked = client.presence('t');
      const { nonce } = (await socket.sent()).at(-1);
      const start = there(1, { me: undefined, bob: undefined });
      socket.says(subscribed({ ...start, [field]: value }), { ...subscribed(start), [field]: value }, { action: 'subscribed', pattern: '*', presence: start });
      socket.says(subscribed(start), told({ count: 2, version: 2, joined: listed({ carol: undefined }), left: [{ id: 'me', reason: 'lost' }], [field]: value }));
      socket.says(told({ ...start, nonce, [field]: value }));
      check({ ...await asked, topic: 't' });
      await settled();
      assert.deepEqual(errors, []);
    }
  }
});

test('a client that the server has ended for good does not come back', async () => {
  const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
  const loop = client.subscribe('t');
  socket.end(4003, 'enough');
  await assert.rejects(loop.next(), { name: 'ConnectionLost', code: 4003 });
  await assert.rejects(client.publish('t', 1), ClientClosed);
  await client.close();
  await pass(60_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(errors, []);
});

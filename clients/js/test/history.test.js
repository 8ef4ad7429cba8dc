// Messages of the past: subscribing with them, resuming, what is lost, and asking for them.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import {
  ClientClosed, ConnectionLost, InvalidArgument, NotConnected, Pattern, RequestTimeout, ServerError, Unsupported,
} from '../kps.js';
import { connected, LEVEL_1, LEVEL_2, outcomeOf, pass, settled, welcome } from './fake.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const OLD = { ...LEVEL_2, features: ['patterns'] };
const BREAK = 2 ** 32;
const at = (offset, epoch = 'e') => ({ epoch, offset });
const subscribed = (topic, more) => ({ action: 'subscribed', topic, ...more });
const patternSubscribed = (pattern, more) => ({ action: 'subscribed', pattern, ...more });
const publication = (topic, offset, more) => ({ action: 'publish', topic, from: 'bob', data: offset, offset, ...more });
const refusal = (code, more) => ({ action: 'error', error: 'no', code, request: 'subscribe', ...more });

/** A client that comes back after 100 ms, and what it is told. */
async function followed(agreement, options) {
  const told = [];
  const world = await connected({
    reconnect: 100,
    onRecovered: ({ topic, messages }) => told.push(['recovered', topic, messages]),
    onLost: ({ topic, messages }) => told.push(['lost', topic, messages]),
    ...options,
  }, agreement);
  /** End the connection; what is asked on the next one. */
  const comeBack = async (next) => {
    world.sockets.at(-1).end();
    await pass(100);
    await welcome(world.sockets.at(-1), 'me', next);
    return world.sockets.at(-1).sent();
  };
  const sent = () => world.sockets.at(-1).sent();
  return { ...world, told, comeBack, sent, says: (...messages) => world.sockets.at(-1).says(...messages) };
}

describe('a message', () => {
  test('has an offset and a position, where its topic has history', async () => {
    const { client, socket } = await connected();
    const got = [];
    client.subscribe('t', (message) => { got.push(message); });
    socket.says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }));
    socket.says(publication('t', 5), { ...publication('t', 6), batch: ['x', 'y'] }, publication('t', 1, { epoch: 'other' }));
    assert.deepEqual(got.map(({ offset }) => offset), [5, 6, 7, 1]);
    assert.deepEqual(got.map(({ position }) => position), [at(5), at(6), at(7), at(1, 'other')]);
    assert.deepEqual({ ...got[0] }, { topic: 't', data: 5, from: 'bob' });
    got[0].position.offset = 9;
    assert.deepEqual(JSON.parse(JSON.stringify(got[0].position)), at(5));
  });

  test('has none where it has not', async () => {
    for (const [agreement, message] of [
      [LEVEL_2, publication('t')], [OLD, publication('t', 5, { epoch: 'e' })],
      [LEVEL_1, { ...publication('t', 5, { epoch: 'e' }), data: { data: 1, offset: 5, epoch: 'e' } }],
    ]) {
      const { client, socket } = await connected({}, agreement);
      const got = [];
      client.subscribe('t', (each) => { got.push(each); });
      socket.says(subscribed('t', agreement === LEVEL_2 ? {} : { epoch: 'e', offset: 4, coming: 0 }), message);
      assert.deepEqual(got.map(({ offset, position }) => [offset, position]), [[null, null]]);
    }
  });

  test('has them also with a wish for an ack, and by a pattern; a direct message never', async () => {
    const got = [];
    const take = ({ topic, position }) => { got.push([topic, position]); };
    const { client, socket } = await connected({ onDirect: take });
    client.subscribe('t', take);
    client.subscribe(new Pattern('p/*'), take);
    socket.says(subscribed('t', { epoch: 'e', offset: 0, coming: 0 }), patternSubscribed('p/*', { epoch: 'f', mark: 7, coming: 0 }));
    socket.says(
      publication('t', 1, { action: 'publish_ack', ack_id: 'a' }), publication('p/1', 2), publication('p/1', 8, { epoch: 'g' }),
      publication(undefined, 3, { action: 'direct_message', epoch: 'e' }), publication(undefined, 3, { action: 'publish_ack', ack_id: 'b', epoch: 'e' }),
    );
    assert.deepEqual(got, [['t', at(1)], ['p/1', at(2, 'f')], ['p/1', at(8, 'g')], ['', null], ['', null]]);
  });

  test('the position of a subscription is that of the message that the program was given last', async () => {
    const { client, socket } = await connected();
    let finish;
    const loop = client.subscribe('t');
    const called = client.subscribe('t', () => new Promise((resolve) => { finish = resolve; }));
    socket.says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }));
    assert.deepEqual([loop.position, called.position], [null, null]);
    socket.says(publication('t', 5), publication('t', 6));
    assert.deepEqual([loop.position, called.position], [null, at(5)]);
    await loop.next();
    assert.deepEqual(loop.position, at(5));
    finish();
    await settled();
    assert.deepEqual([loop.position, called.position], [at(5), at(6)]);
    loop.unsubscribe();
    assert.deepEqual(loop.position, at(5), 'what was given up was not given');
    called.position.offset = 99;
    assert.deepEqual(called.position, at(6));
  });
});

describe('subscribing with the past', () => {
  test('asks for the latest, or for what is behind a place', async () => {
    const { client, socket, told } = await followed();
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { last: 2 });
    client.subscribe('u', ({ data }) => { got.push(data); }, { since: { ...at(3), more: 1 } });
    client.subscribe(new Pattern('p/*'), () => {}, { last: 1 });
    client.subscribe('v', { last: 0, since: null });
    assert.deepEqual(await socket.sent(), [
      { action: 'subscribe', topic: 't', last: 2 }, { action: 'subscribe', topic: 'u', since: at(3) },
      { action: 'subscribe', pattern: 'p/*', last: 1 }, { action: 'subscribe', topic: 'v' },
    ]);
    socket.says(
      subscribed('t', { epoch: 'e', offset: 7, coming: 2 }), publication('t', 8), publication('t', 9),
      subscribed('u', { epoch: 'e', offset: 3, coming: 1, recovered: true }), publication('u', 4), publication('u', 5),
    );
    assert.deepEqual(got, [8, 9, 4, 5]);
    assert.deepEqual(told, [['recovered', 'u', 1]]);
  });

  test('is for what the client does not have already', async () => {
    const { client, socket } = await connected();
    const { signal } = new AbortController();
    mock.method(signal, 'addEventListener');
    const refused = (wanted, options = { last: 1 }) => assert.throws(() => client.subscribe(wanted, () => {}, { signal, ...options }), InvalidArgument);
    client.subscribe('t', () => {});
    refused('t');
    refused('t', { since: at(1) });
    refused(new Pattern('*'));
    const pattern = client.subscribe(new Pattern('p/*'), () => {});
    refused('p/1');
    refused(new Pattern('p/*'));
    assert.equal(signal.addEventListener.mock.callCount(), 0);
    await socket.sent();
    client.subscribe('p/1/2', () => {}, { last: 1 });
    client.subscribe(new Pattern('p/**'), () => {});
    pattern.unsubscribe();
    client.unsubscribe(new Pattern('p/**'));
    client.subscribe('p/1', () => {}, { last: 1 });
    assert.deepEqual((await socket.sent()).filter(({ last }) => last).map(({ topic }) => topic), ['p/1/2', 'p/1']);
  });

  test('what cannot be is refused, and nothing has happened', async () => {
    const { client, socket } = await connected();
    for (const options of [
      { last: -1 }, { last: 1.5 }, { last: '1' }, { last: Infinity }, { last: true }, { since: 5 }, { since: 'e' }, { since: [] }, { since: {} },
      { since: at(-1) }, { since: at('1') }, { since: at(2 ** 53) }, { since: at(1, '') }, { since: at(1, 5) }, { since: at(1, '\ud800') },
      { since: at(1, 'x'.repeat(1025)) }, { since: at(1), last: 1 }, { Since: at(1) },
    ]) assert.throws(() => client.subscribe('t', () => {}, options), InvalidArgument, JSON.stringify(options));
    assert.throws(() => client.subscribe(new Pattern('*'), () => {}, { since: at(1) }), /since is for a topic/);
    assert.deepEqual(await socket.sent(), []);
  });

  test('goes on until the server has confirmed it: after refusals that pass, and on the next connection', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack, told } = await followed();
    client.subscribe('t', () => {}, { last: 3 });
    client.subscribe('u', () => {}, { since: at(0) });
    const asked = [{ action: 'subscribe', topic: 't', last: 3 }, { action: 'subscribe', topic: 'u', since: at(0) }];
    assert.deepEqual(await sent(), asked);
    assert.deepEqual(await comeBack(), asked);
    says(refusal('rate_limited', { topic: 't' }), subscribed('u', { epoch: 'e', offset: 0, coming: 0, recovered: true }));
    await pass(500);
    assert.deepEqual(await sent(), asked.slice(0, 1));
    says(subscribed('t', { epoch: 'e', offset: 5, coming: 0 }));
    assert.deepEqual((await comeBack()).map(({ topic, last, since }) => [topic, last, since]), [['t', undefined, at(5)], ['u', undefined, at(0)]]);
    assert.deepEqual(told, [['recovered', 'u', 0]]);
  });

  test('what is on its way for an earlier subscription is not given to it', async () => {
    const { client, says, sent, told } = await followed();
    const got = [];
    client.subscribe('t', () => {}).unsubscribe();
    client.subscribe('t', ({ data }) => { got.push(data); return 'fine'; }, { last: 2 });
    await sent();
    says(publication('t', 7), publication('t', 8, { action: 'publish_ack', ack_id: 'a' }), publication('t'));
    assert.deepEqual(got, [8]);
    assert.equal((await sent()).length, 1, 'who waits for an answer gets one');
    says({ action: 'subscribed', topic: 't' }, { action: 'unsubscribed', topic: 't' }, publication('t', 9));
    assert.deepEqual(got, [8]);
    says(subscribed('t', { epoch: 'e', offset: 7, coming: 2 }), publication('t', 8), publication('t', 9), publication('t', 10));
    assert.deepEqual(got, [8, 8, 9, 10]);
    assert.deepEqual(told, []);
  });

  test('nothing else waits for it, once the server has refused it for now', async () => {
    const { client, says } = await followed();
    const got = [];
    client.subscribe('p/1', () => {}, { last: 2 });
    client.subscribe(new Pattern('p/*'), ({ data }) => { got.push(data); });
    says(refusal('rate_limited', { topic: 'p/1' }), patternSubscribed('p/*', { epoch: 'e', mark: 4, coming: 0 }), publication('p/1', 5));
    assert.deepEqual(got, [5]);
  });

  test('what was wanted of an earlier subscription is forgotten with it', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', () => {}, { last: 3 }).unsubscribe();
    client.subscribe('u', { last: 3 }).next().catch(() => {});
    socket.says(refusal('forbidden', { topic: 'u' }));
    for (const topic of ['t', 'u']) client.subscribe(topic, () => {});
    assert.deepEqual((await socket.sent()).map(({ action, topic, last }) => [action, topic, last]), [
      ['subscribe', 't', 3], ['unsubscribe', 't', undefined], ['subscribe', 'u', 3], ['subscribe', 't', undefined], ['subscribe', 'u', undefined],
    ]);
  });

  test('somebody may join before it is confirmed, and nobody is asked twice', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent } = await followed();
    client.subscribe('t', () => {}, { last: 3 });
    await sent();
    await pass(5000);
    const joined = outcomeOf(client.subscribe('t', () => {}));
    await pass(5500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't', last: 3 }], 'the server was silent');
    says(subscribed('t', { epoch: 'e', offset: 0, coming: 0 }));
    await settled();
    assert.notEqual(joined.is, 'waits');
  });
});

describe('resuming', () => {
  test('behind the last message of each topic, or the confirmation if none has come', async () => {
    const { client, says, comeBack, told } = await followed();
    const got = [];
    for (const topic of ['t', 'u', 'plain']) client.subscribe(topic, ({ data }) => { got.push(data); });
    says(
      subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), subscribed('u', { epoch: 'f', offset: 9, coming: 0 }), subscribed('plain'),
      publication('t', 5), publication('t', 6, { batch: [6, 7] }), publication('plain'),
    );
    const asked = await comeBack();
    assert.deepEqual(asked, [
      { action: 'subscribe', topic: 't', since: at(7) }, { action: 'subscribe', topic: 'u', since: at(9, 'f') }, { action: 'subscribe', topic: 'plain' },
    ]);
    says(
      subscribed('t', { epoch: 'e', offset: 7, coming: 1, recovered: true }), subscribed('u', { epoch: 'f', offset: 12, coming: 0, recovered: false, lost: 3 }),
      subscribed('plain'), publication('t', 8), publication('u', 13),
    );
    assert.deepEqual(told, [['recovered', 't', 1], ['lost', 'u', 3]]);
    assert.deepEqual(got, [5, 6, 7, null, 8, 13]);
    assert.deepEqual((await comeBack()).map(({ since }) => since), [at(8), at(13, 'f'), undefined]);
  });

  test('asks again with the same, where it was refused for now', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack } = await followed();
    client.subscribe('t', () => {});
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }));
    const asked = await comeBack();
    says(refusal('limit_reached', { topic: 't' }));
    await pass(500);
    assert.deepEqual(await sent(), asked);
    assert.deepEqual(asked[0].since, at(4));
    assert.deepEqual(await comeBack(), asked);
  });

  test('how many are lost may be unknown, as in another epoch, and where there is no history any more', async () => {
    const { client, says, comeBack, told } = await followed();
    for (const topic of ['t', 'u']) client.subscribe(topic, () => {});
    client.subscribe(new Pattern('p/*'), () => {});
    for (const topic of ['t', 'u']) says(subscribed(topic, { epoch: 'e', offset: 4, coming: 0 }));
    says(patternSubscribed('p/*', { epoch: 'e', mark: 4, coming: 0 }));
    await comeBack();
    says(subscribed('t', { epoch: 'f', offset: 0, coming: 2, recovered: false }), subscribed('u', { recovered: false }));
    says(publication('t', 1), publication('t', 2), patternSubscribed('p/*', { recovered: false }));
    assert.deepEqual(told, [['lost', 't', null], ['lost', 'u', null], ['lost', 'p/*', null]]);
    assert.deepEqual((await comeBack()).map(({ since }) => since), [at(2, 'f'), undefined, undefined]);
  });

  test('a server that has no history: the subscriptions go on', async () => {
    const { client, says, comeBack, told, errors } = await followed();
    const got = [];
    client.subscribe('t', ({ offset }) => { got.push(offset); });
    client.subscribe(new Pattern('p'), () => {});
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), patternSubscribed('p', { epoch: 'e', mark: 4, coming: 0 }));
    for (const agreement of [OLD, LEVEL_2]) {
      const asked = await comeBack(agreement);
      assert.deepEqual(asked, [{ action: 'subscribe', topic: 't' }, { action: 'subscribe', pattern: 'p' }]);
      says(subscribed('t', { epoch: 'e', offset: 9, recovered: true }), patternSubscribed('p'));
      says(publication('t', 5));
      if (agreement === OLD) assert.deepEqual(got, [null]);
    }
    assert.deepEqual(told, [['recovered', 't', 0]], 'nobody asked, but it says so');
    assert.deepEqual(errors, []);
  });

  test('a subscription that ended begins anew', async () => {
    const { client, says, comeBack } = await followed();
    const subscribe = () => [client.subscribe('t', () => {}), client.subscribe(new Pattern('p/*'), () => {})];
    const subscriptions = subscribe();
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), patternSubscribed('p/*', { epoch: 'e', mark: 6, coming: 0 }), publication('p/1', 2));
    for (const subscription of subscriptions) subscription.unsubscribe();
    says(publication('t', 5), publication('p/1', 3));
    subscribe();
    assert.deepEqual((await comeBack()).map(({ since }) => since), [undefined, undefined]);
    says(subscribed('t', { epoch: 'e', offset: 7, coming: 0 }), patternSubscribed('p/*', { epoch: 'e', mark: 9, coming: 0 }));
    assert.deepEqual((await comeBack()).map(({ since }) => since), [at(7), { epoch: 'e', mark: 9, topics: {} }]);
  });

  test('a second confirmation, which tells nothing, changes nothing', async () => {
    const { client, says, comeBack } = await followed();
    const got = [];
    client.subscribe('t', ({ position }) => { got.push(position); });
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), publication('t', 5), subscribed('t'), publication('t', 6));
    assert.deepEqual(got, [at(5), at(6)]);
    assert.deepEqual((await comeBack())[0].since, at(6));
  });

  test('who unsubscribes when told so has unsubscribed', async () => {
    const { client, says, sent, comeBack } = await followed(LEVEL_2, { onLost: () => client.unsubscribe('t') });
    client.subscribe('t', () => {});
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }));
    await comeBack();
    says(subscribed('t', { epoch: 'f', offset: 0, coming: 0, recovered: false }));
    assert.deepEqual(await sent(), [{ action: 'unsubscribe', topic: 't' }]);
    client.subscribe('t', () => {});
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 't' }]);
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', topic: 't' }]);
  });

  test('what the hooks throw is reported', async () => {
    const fail = () => { throw new Error('a mistake'); };
    const { client, says, errors } = await followed(LEVEL_2, { onLost: fail, onRecovered: async () => fail() });
    const got = [];
    client.subscribe('t', ({ data }) => { got.push(data); }, { since: at(1) });
    says(subscribed('t', { epoch: 'e', offset: 1, coming: 0, recovered: true }), publication('t', 4));
    await settled();
    assert.deepEqual(got, [4]);
    assert.deepEqual(errors.map(({ message }) => message), ['a mistake', 'a mistake']);
  });

  test('what nobody wanted is not told', async () => {
    const { client, says, told } = await followed();
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 1, recovered: true }), patternSubscribed('*', { epoch: 'e', mark: 4, recovered: false }));
    client.subscribe('t', () => {}).unsubscribe();
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 1, recovered: true }), publication('t', 7));
    assert.deepEqual(told, []);
  });
});

describe('resuming with patterns', () => {
  test('first the topics, then the patterns, which name the topics that have had messages', async () => {
    const { client, says, comeBack, told } = await followed();
    client.subscribe(new Pattern('p/*'), () => {});
    client.subscribe('p/1', () => {});
    client.subscribe(new Pattern('**/x'), () => {});
    says(
      patternSubscribed('p/*', { epoch: 'e', mark: 20, coming: 0 }), subscribed('p/1', { epoch: 'e', offset: 3, coming: 0 }),
      patternSubscribed('**/x', { epoch: 'e', mark: 21, coming: 0 }),
      publication('p/2', 8), publication('p/x', 1, { epoch: 'f' }), publication('q/x', 5), publication('p/2', 9),
    );
    assert.deepEqual(await comeBack(), [
      { action: 'subscribe', topic: 'p/1', since: at(3) },
      { action: 'subscribe', pattern: 'p/*', since: { epoch: 'e', mark: 20, topics: { 'p/2': at(9), 'p/x': at(1, 'f'), 'p/1': at(3) } } },
      { action: 'subscribe', pattern: '**/x', since: { epoch: 'e', mark: 21, topics: { 'q/x': at(5), 'p/x': at(1, 'f') } } },
    ]);
    says(patternSubscribed('p/*', { epoch: 'e', mark: 30, coming: 2, recovered: true }), patternSubscribed('**/x', { epoch: 'e', mark: 30, coming: 0, recovered: false }));
    assert.deepEqual(told, [['recovered', 'p/*', 2], ['lost', '**/x', null]]);
  });

  test('a topic that a pattern has as well keeps its place when its own subscription ends', async () => {
    const { client, says, comeBack } = await followed();
    const subscription = client.subscribe('p/1', () => {});
    client.subscribe(new Pattern('p/*'), () => {});
    const other = client.subscribe(new Pattern('**'), () => {});
    says(subscribed('p/1', { epoch: 'e', offset: 3, coming: 0 }));
    for (const pattern of ['p/*', '**']) says(patternSubscribed(pattern, { epoch: 'e', mark: 3, coming: 0 }));
    says(publication('p/1', 4), publication('q', 1));
    subscription.unsubscribe();
    other.unsubscribe();
    assert.deepEqual(await comeBack(), [{ action: 'subscribe', pattern: 'p/*', since: { epoch: 'e', mark: 3, topics: { 'p/1': at(4) } } }]);
    client.subscribe(new Pattern('*'), () => {});
    says(patternSubscribed('p/*', { epoch: 'e', mark: 9, coming: 0, recovered: true }), patternSubscribed('*', { epoch: 'e', mark: 9, coming: 0 }));
    assert.deepEqual((await comeBack())[1].since, { epoch: 'e', mark: 9, topics: {} }, 'the place in q was forgotten');
  });

  test('a new subscription to a topic that a pattern has resumes nothing', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack } = await followed();
    client.subscribe(new Pattern('p/*'), () => {});
    says(patternSubscribed('p/*', { epoch: 'e', mark: 3, coming: 0 }), publication('p/1', 4));
    await sent();
    client.subscribe('p/1', () => {});
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 'p/1' }]);
    says(subscribed('p/1', { epoch: 'e', offset: 4, coming: 0 }));
    assert.deepEqual((await comeBack())[0], { action: 'subscribe', topic: 'p/1', since: at(4) });
    says(refusal('rate_limited', { topic: 'p/1' }), patternSubscribed('p/*', { epoch: 'e', mark: 4, coming: 0, recovered: true }), publication('p/1', 5));
    await pass(500);
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 'p/1' }], 'it comes by the pattern already');
    client.unsubscribe('p/1');
    await comeBack();
    client.subscribe('p/1', () => {});
    assert.deepEqual(await sent(), [{ action: 'subscribe', topic: 'p/1' }], 'the pattern is not confirmed yet');
  });

  test('an epoch that a message does not tell is that of the confirmation on this connection', async () => {
    const { client, says, comeBack } = await followed();
    const got = [];
    client.subscribe(new Pattern('p/*'), ({ position }) => { got.push(position); });
    says(publication('p/1', 6), publication('p/1', 2 ** 53 - BREAK, { epoch: 'e' }), patternSubscribed('p/*', { epoch: 'e', mark: 3, coming: 0 }), publication('p/1', 7));
    await comeBack();
    says(patternSubscribed('p/*', { epoch: 'f', mark: 1, coming: 1, recovered: false }), publication('p/1', 1), publication('p/2', 5, { epoch: 'g' }), publication('p/2', 1));
    assert.deepEqual(got, [null, null, at(7), at(1, 'f'), at(5, 'g'), at(1, 'f')]);
    assert.deepEqual((await comeBack())[0].since, { epoch: 'f', mark: 1, topics: { 'p/1': at(1, 'f'), 'p/2': at(1, 'f') } });
  });

  test('a connection that ends before all of the past has come: the first mark remains', async () => {
    const { client, says, comeBack } = await followed();
    client.subscribe(new Pattern('p/*'), () => {});
    says(patternSubscribed('p/*', { epoch: 'e', mark: 3, coming: 0 }));
    await comeBack();
    says(patternSubscribed('p/*', { epoch: 'e', mark: 9, coming: 3, recovered: true }), publication('p/1', 1), publication('p/1', 2));
    assert.deepEqual((await comeBack())[0].since, { epoch: 'e', mark: 3, topics: { 'p/1': at(2) } });
    says(patternSubscribed('p/*', { epoch: 'f', mark: 2, coming: 2, recovered: false }));
    assert.deepEqual((await comeBack())[0].since.mark, 2, 'marks of different epochs have nothing in common');
  });

  test('what comes a second time is not given to the program again', async () => {
    const { client, says, sent, comeBack, told } = await followed();
    const got = [];
    client.subscribe(new Pattern('p/*'), ({ data, offset }) => { got.push([data, offset]); return 'fine'; });
    says(patternSubscribed('p/*', { epoch: 'e', mark: 3, coming: 0 }), publication('p/1', 4, { batch: ['a', 'b'] }));
    await comeBack();
    says(patternSubscribed('p/*', { epoch: 'e', mark: 9, coming: 5, recovered: true }));
    says(publication('p/1', 2), publication('p/1', 3, { batch: ['x', 'x', 'x', 'c', 'd'] }), publication('p/1', 7), publication('p/1', 8), publication('p/1', 10));
    assert.deepEqual(got.splice(0), [['a', 4], ['b', 5], ['c', 6], ['d', 7], [8, 8], [10, 10]]);
    assert.deepEqual(told, [['recovered', 'p/*', 5], ['lost', 'p/1', 1]]);
    await sent();
    says(publication('p/1', 9, { action: 'publish_ack', ack_id: 'a' }), publication('p/1', 1, { epoch: 'f' }));
    assert.deepEqual(got, [[9, 9], [1, 1]]);
    assert.equal((await sent()).length, 1, 'who waits for an answer gets one');
  });

  test('a place names the latest 1000 topics, and takes no more than a quarter of a message', async () => {
    const { client, says, comeBack } = await followed();
    client.subscribe(new Pattern('**'), () => {});
    says(patternSubscribed('**', { epoch: 'e', mark: 3, coming: 0 }));
    for (let topic = 1; topic <= 1500; topic++) says(publication(`t${topic}`, 1));
    says(publication('t1', 2));
    const [{ since: { topics } }] = await comeBack();
    assert.equal(Object.keys(topics).length, 1000);
    assert.deepEqual([topics.t1, topics.t1500, topics.t502, topics.t501], [at(2), at(1), at(1), undefined]);
    says(patternSubscribed('**', { epoch: 'e', mark: 3, coming: 0 }));
    const small = { ...LEVEL_2, limits: { max_message: 2000 } };
    const [asked] = await comeBack(small);
    assert.ok(Object.keys(asked.since.topics).length > 5);
    assert.ok(JSON.stringify(asked).length < 700);
    assert.deepEqual(asked.since.topics.t1, at(2));
  });

  test('where that is too much for the server, it names none', async () => {
    mock.method(Math, 'random', () => 0);
    const { client, says, sent, comeBack } = await followed();
    client.subscribe(new Pattern('*'), () => {});
    says(patternSubscribed('*', { epoch: 'e', mark: 3, coming: 0 }), publication('t', 4));
    for (const topics of [{ t: at(4) }, {}]) {
      const [{ since }] = topics.t ? await comeBack() : await sent();
      assert.deepEqual(since, { epoch: 'e', mark: 3, topics });
      says(refusal('limit_reached', { pattern: '*' }));
      await pass(1000);
    }
  });

  test('memory is bounded: 10 000 topics, and no long ones', async () => {
    const { client, says, comeBack, told } = await followed();
    client.subscribe('first', () => {});
    client.subscribe(new Pattern('**'), () => {});
    says(subscribed('first', { epoch: 'e', offset: 0, coming: 0 }), patternSubscribed('**', { epoch: 'e', mark: 3, coming: 0 }));
    const long = 'x'.repeat(1025);
    says(publication(long, 1), publication('half \ud800', 1), publication('t', 1, { epoch: long }));
    for (let topic = 0; topic < 9998; topic++) says(publication(`t${topic}`, 1));
    says(publication('t', 3), publication('first', 5), publication(long, 7));
    assert.deepEqual(told, [['lost', 't', 1], ['lost', 'first', 4]]);
    says(publication('one more', 1), publication('t0', 5));
    assert.deepEqual(told.length, 2, 't0 was forgotten');
    const [topic, { since: { topics } }] = await comeBack();
    assert.deepEqual(topic.since, at(5));
    assert.deepEqual(Object.keys(topics).slice(0, 4), ['t0', 'one more', 'first', 't']);
    assert.equal(Object.keys(topics).find((each) => each.length > 10), undefined);
  });

  test('a topic may be called like a property of all objects', async () => {
    const { client, says, comeBack, sockets } = await followed();
    client.subscribe(new Pattern('**'), () => {});
    says(patternSubscribed('**', { epoch: 'e', mark: 3, coming: 0 }), publication('_proto_', 1), publication('constructor', 2), publication('toString', 3));
    const [{ since }] = await comeBack();
    assert.deepEqual(since.topics, { _proto_: at(1), constructor: at(2), toString: at(3) });
    client.subscribe(new Pattern('__proto__*'), () => {});
    says(patternSubscribed('__proto__*', { epoch: 'e', mark: 3, coming: 0 }), publication('__proto__', 4));
    sockets.at(-1).end();
    await pass(100);
    sockets.at(-1).open();
    await sockets.at(-1).sent();
    sockets.at(-1).says({ action: 'pong', id: 'me', ...LEVEL_2 });
    await settled();
    assert.match(sockets.at(-1).frames.join(), /"__proto__":\{"epoch":"e","offset":4\}/);
  });

  test('a server without patterns ends them, and their places are forgotten', async () => {
    const { client, says, comeBack, errors } = await followed();
    client.subscribe(new Pattern('*'), () => {});
    says(patternSubscribed('*', { epoch: 'e', mark: 3, coming: 0 }), publication('t', 4));
    assert.deepEqual(await comeBack({ ...LEVEL_2, features: ['history'] }), []);
    assert.deepEqual(errors.map(({ feature }) => feature), ['patterns']);
    await comeBack();
    client.subscribe(new Pattern('*'), () => {});
    says(patternSubscribed('*', { epoch: 'e', mark: 9, coming: 0 }));
    assert.deepEqual((await comeBack())[0].since, { epoch: 'e', mark: 9, topics: {} });
  });
});

describe('gaps', () => {
  test('are told, in messages, before the message behind them', async () => {
    const { client, says, told } = await followed();
    client.subscribe('t', ({ offset }) => { told.push(offset); });
    client.subscribe('t', () => {});
    client.subscribe(new Pattern('*'), () => {});
    says(
      subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), patternSubscribed('*', { epoch: 'e', mark: 3, coming: 0 }),
      publication('t', 5), publication('t', 8, { batch: [1, 2] }), publication('t', 10), publication('t', 12, { action: 'publish_ack', ack_id: 'a' }),
      publication('u', 9), publication('u', 11),
    );
    assert.deepEqual(told, [5, ['lost', 't', 2], 8, 9, 10, ['lost', 't', 1], 12, ['lost', 'u', 1]]);
  });

  test('not across breaks, nor backwards; with another epoch nobody knows how many', async () => {
    const { client, says, told } = await followed();
    client.subscribe('t', () => {});
    says(subscribed('t', { epoch: 'e', offset: BREAK - 3, coming: 0 }));
    says(publication('t', BREAK + 5));
    says(publication('t', BREAK + 7), publication('t', BREAK + 9, { epoch: 'f' }), publication('t', BREAK + 3, { epoch: 'f' }));
    says(publication('t', 5 * BREAK + 1, { epoch: 'f' }), publication('t', 5 * BREAK + 1, { epoch: 'f', batch: [] }));
    says(publication('t', 5 * BREAK + 2, { epoch: 'f' }));
    assert.deepEqual(told, [['lost', 't', 1], ['lost', 't', null]]);
  });

  test('at the first message behind the confirmation', async () => {
    const { client, says, told } = await followed();
    client.subscribe('t', () => {}, { last: 5 });
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 3 }), publication('t', 7));
    assert.deepEqual(told, [['lost', 't', 2]]);
  });

  test('what a confirmation has told is not told again', async () => {
    const { client, says, told, comeBack } = await followed();
    for (const pattern of ['*', 'p/*']) client.subscribe(new Pattern(pattern), () => {});
    client.subscribe('t', () => {});
    for (const pattern of ['*', 'p/*']) says(patternSubscribed(pattern, { epoch: 'e', mark: 3, coming: 0 }));
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), publication('u', 1), publication('p/1', 1));
    await comeBack();
    says(
      patternSubscribed('p/*', { epoch: 'e', mark: 30, coming: 0 }),
      subscribed('t', { epoch: 'e', offset: 9, coming: 1, recovered: false, lost: 5 }),
      patternSubscribed('*', { epoch: 'e', mark: 30, coming: 1, recovered: false, lost: 3 }),
      publication('t', 11), publication('u', 5), publication('u', 7), publication('p/1', 3),
    );
    assert.deepEqual(told, [['lost', 't', 5], ['lost', '*', 3], ['lost', 't', 1], ['lost', 'u', 1], ['lost', 'p/1', 1]]);
    await comeBack();
    says(patternSubscribed('*', { epoch: 'e', mark: 31, coming: 0, recovered: true }), publication('u', 9));
    assert.deepEqual(told.slice(5), [['recovered', '*', 0], ['lost', 'u', 1]]);
  });

  test('who closes the client when told so gets no message any more', async () => {
    const got = [];
    const { client, says, socket } = await followed(LEVEL_2, { onLost: () => { client.close(); } });
    client.subscribe('t', ({ data }) => { got.push(data); });
    says(subscribed('t', { epoch: 'e', offset: 4, coming: 0 }), publication('t', 7), publication('t', 8));
    assert.deepEqual(got, []);
    assert.equal(socket.closedWith, 1000);
  });
});

describe('a server without history', () => {
  for (const [what, agreement] of Object.entries({ 'of level 2': OLD, 'of level 1': LEVEL_1, 'of level 1, whatever it says': { features: LEVEL_2.features } })) {
    test(`${what}: the past is refused, and nothing has happened`, async () => {
      const { client, socket, told, comeBack } = await followed(agreement);
      for (const options of [{ last: 1 }, { since: at(1) }]) {
        for (const attempt of [() => client.subscribe('t', () => {}, options), () => client.subscribe('t', options)]) {
          assert.throws(attempt, { name: 'Unsupported', feature: 'history', topic: 't', message: 'the server does not have history' });
        }
      }
      await assert.rejects(client.history('t'), { name: 'Unsupported', feature: 'history', topic: 't' });
      assert.deepEqual(await socket.sent(), []);
      assert.deepEqual(await comeBack(), []);
      assert.deepEqual(told, []);
    });
  }

  test('who subscribed without a connection hears of it then', async () => {
    const { client, comeBack, errors, sockets } = await followed();
    sockets[0].end();
    const loop = client.subscribe('t', { last: 1 });
    client.subscribe(new Pattern('p/*'), () => {}, { last: 1 });
    assert.deepEqual(await comeBack(OLD), []);
    assert.deepEqual(errors.map(({ feature, topic, pattern }) => [feature, topic, pattern]), [['history', 't', undefined], ['history', undefined, 'p/*']]);
    await assert.rejects(loop.next(), Unsupported);
    client.subscribe('t', () => {});
    assert.deepEqual(await sockets.at(-1).sent(), [{ action: 'subscribe', topic: 't' }]);
  });
});

describe('asking for the past', () => {
  const answer = (nonce, more) => ({ action: 'history', topic: 't', nonce, epoch: 'e', offset: 0, coming: 0, messages: [], ...more });
  const kept = (...offsets) => offsets.map((offset) => ({ offset, from: 'bob', data: offset * 10 }));

  test('gives messages, and the place behind the last of them', async () => {
    const { client, socket, told } = await followed();
    const past = client.history('t');
    const [asked] = await socket.sent();
    assert.deepEqual(asked, { action: 'history', topic: 't', nonce: asked.nonce, last: 100 });
    socket.says(answer('other', { coming: 1, messages: kept(9) }), answer(asked.nonce, { offset: 3, coming: 2, messages: kept(4, 5) }));
    const { messages, ...more } = await past;
    assert.deepEqual(more, { position: at(5), recovered: true, lost: null });
    assert.deepEqual(messages.map((one) => ({ ...one })), [40, 50].map((data) => ({ topic: 't', data, from: 'bob' })));
    assert.deepEqual(messages.map(({ offset, position }) => [offset, position]), [[4, at(4)], [5, at(5)]]);
    messages[0].reply('nobody asked');
    assert.deepEqual(await socket.sent(), []);
    assert.deepEqual(told, []);
  });

  test('behind a place; without any, the place is that of the answer', async () => {
    const { client, socket } = await connected();
    const past = client.history('t', { since: { ...at(7), more: 1 }, limit: 5 });
    const [asked] = await socket.sent();
    assert.deepEqual(asked, { action: 'history', topic: 't', nonce: asked.nonce, since: at(7), last: 5 });
    socket.says(answer(asked.nonce, { offset: 7, recovered: true }));
    assert.deepEqual(await past, { messages: [], position: at(7), recovered: true, lost: null });
    const other = client.history('t', { since: null });
    socket.says(answer((await socket.sent())[0].nonce));
    assert.deepEqual((await other).position, at(0));
  });

  test('asks for the rest, up to the limit', async () => {
    const { client, socket } = await connected();
    const past = client.history('t', { limit: 5 });
    for (const [index, [since, last]] of [[undefined, 5], [at(2), 3], [at(4), 1]].entries()) {
      const [asked] = await socket.sent();
      assert.deepEqual([asked.since, asked.last], [since, last]);
      socket.says(answer(asked.nonce, { coming: 7 - 2 * index, messages: kept(2 * index + 1, 2 * index + 2).slice(0, last) }));
    }
    const { messages, position } = await past;
    assert.deepEqual(messages.map(({ offset }) => offset), [1, 2, 3, 4, 5]);
    assert.deepEqual(position, at(5));
    assert.deepEqual(await socket.sent(), []);
  });

  test('tells what is missing, also between its answers', async () => {
    for (const [pages, recovered, lost] of [
      [[{ recovered: false, lost: 3 }, { recovered: true }], false, 3],
      [[{ recovered: false }, { recovered: true }], false, null],
      [[{ recovered: true }, { recovered: false, lost: 2 }], false, 2],
      [[{ recovered: false, lost: 3 }, { recovered: false, lost: 2 }], false, null],
      [[{ recovered: true }, { recovered: true }], true, null],
    ]) {
      const { client, socket } = await connected();
      const past = client.history('t', { since: at(1) });
      for (const [index, page] of pages.entries()) socket.says(answer((await socket.sent())[0].nonce, { ...page, coming: 2 - index, messages: kept(5 + index) }));
      const found = await past;
      assert.deepEqual([found.recovered, found.lost, found.messages.length], [recovered, lost, 2], JSON.stringify(pages));
    }
  });

  test('ends where the offsets of a further answer stand for something else', async () => {
    const { client, socket } = await connected();
    const past = client.history('t', { since: at(1) });
    for (const page of [{ coming: 3, messages: kept(2) }, { coming: 3, epoch: 'f', recovered: false, lost: 4, messages: kept(1) }]) {
      socket.says(answer((await socket.sent())[0].nonce, page));
    }
    const { messages, ...more } = await past;
    assert.deepEqual(messages.map(({ position }) => position), [at(2)]);
    assert.deepEqual(more, { position: at(2), recovered: false, lost: null });
  });

  test('ends, whatever a server announces', async () => {
    for (const [page, length] of [
      [{ coming: 5, messages: [] }, 0], [{ coming: 5, messages: [null, 'x', {}, { offset: 0 }, { offset: '1' }, { offset: 2 ** 53 }] }, 0],
      [{ coming: 5, messages: 'x' }, 0], [{ coming: 'x', messages: kept(1) }, 1], [{ coming: 5, epoch: 5, messages: [{ offset: 3 }] }, 1],
      [{ coming: 5, messages: kept(1, 2, 3, 4) }, 4],
    ]) {
      const { client, socket } = await connected();
      const past = client.history('t', { limit: 3 });
      socket.says(answer((await socket.sent())[0].nonce, page));
      assert.equal((await past).messages.length, length);
    }
    const { client, socket } = await connected();
    const past = client.history('t', { limit: 4 });
    for (let time = 0; time < 4; time++) socket.says(answer((await socket.sent())[0].nonce, { coming: 9, messages: kept(1) }));
    assert.equal((await past).messages.length, 4);
  });

  test('may be refused, or not answered', async () => {
    const { client, socket, sockets, errors } = await connected({ reconnect: 100 });
    const refused = client.history('t');
    const unanswered = assert.rejects(client.history('t'), RequestTimeout);
    const lost = (async () => { await pass(10_000); return assert.rejects(client.history('t'), ConnectionLost); })();
    const [{ nonce }] = await socket.sent();
    socket.says({ action: 'error', error: 'this topic has no history', code: 'no_history', request: 'history', topic: 't', nonce });
    await assert.rejects(refused, (error) => error instanceof ServerError && error.code === 'no_history' && error.topic === 't' && !error.isTemporary);
    await unanswered;
    await settled();
    socket.end();
    await lost;
    await assert.rejects(client.history('t'), (error) => error instanceof NotConnected && !(error instanceof ClientClosed));
    await pass(100);
    await welcome(sockets[1], 'me');
    const closed = assert.rejects(client.history('t'), ClientClosed);
    sockets[1].says({ action: 'error', error: 'too late', code: 'no_history', request: 'history', topic: 't', nonce: 'x' });
    client.close();
    await closed;
    await assert.rejects(client.history('t'), ClientClosed);
    assert.deepEqual(errors.map(({ message }) => message), ['too late']);
  });

  test('takes what it can use', async () => {
    const { client, socket } = await connected();
    for (const [topic, options] of [
      [''], [5], [new Pattern('*')], ['t', { limit: 0 }], ['t', { limit: 1.5 }], ['t', { limit: '1' }], ['t', { limit: Infinity }], ['t', { last: 1 }],
      ['t', { since: 5 }], ['t', { since: { epoch: 'e' } }], ['t', null], ['t', 5],
    ]) await assert.rejects(client.history(topic, options), InvalidArgument, JSON.stringify([topic, options]));
    assert.deepEqual(await socket.sent(), []);
  });
});

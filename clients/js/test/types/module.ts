// What a program may write, and with `@ts-expect-error` what it may not. Only compiled, never run.

import {
  Ack, Client, ClientAck, ClientClosed, ClientSubscriber, ClientSubscription, ConnectionLost, InvalidState, NotConnected, Pattern,
  RequestFailed, ServerError, Subscription, Unsupported, packBytes, unpackBytes, type AckResponse, type GroupResponse, type Message,
  type Outcome, type Past, type Position, type Presence,
} from 'kps-client';

interface Order { id: number }

export async function idiomatic(signal: AbortSignal): Promise<void> {
  const client: Client = await Client.connect('localhost:9313', { id: 'alice', reconnect: 500, signal });
  await new Client({ backoff: { first: 100 }, headers: { a: 'b' }, WebSocket, onDirect: ({ from }) => from }).connect();
  await Client.connect({ token: 'secret' });
  await Client.connect(new URL('ws://h'), { level: 1, closeTimeout: Infinity, mailboxBytes: 1, overflow: 'drop_oldest' });
  await Client.connect({ token: () => 'secret' });
  await Client.connect({ token: async () => (await fetch('/token')).text() });
  const id: string = client.id;
  const level: 1 | 2 | undefined = client.level;

  const subscription = await client.subscribe<Order>('orders', async ({ data, from, topic }: Message<Order>) => {
    const order: number = data.id;
    return { order, from, topic };
  }, { signal });
  const dropped: number = subscription.dropped + client.dropped;
  const next: IteratorResult<Message<Order>> = await client.subscribe<Order>('orders').next();
  if (!next.done) console.log(next.value.data.id);
  subscription.unsubscribe();
  for await (const message of client.subscribe<Order>('orders', { signal })) message.reply(message.data.id + dropped);

  const found: Subscription<Order> | undefined = await client.subscribe<Order>('orders').catch(() => undefined);
  const again: Subscription<Order> = await client.subscribe<Order>('orders').finally(() => found?.unsubscribe());
  again.unsubscribe();

  const pattern = new Pattern('orders/*');
  await client.subscribe<Order>(pattern, ({ topic }) => pattern.matches(topic), { signal });
  for await (const { topic } of client.subscribe(pattern)) console.log(topic, pattern.text);
  client.unsubscribe(pattern);

  const kept: Position | null = subscription.position;
  await client.subscribe<Order>('orders', ({ offset, position }) => [offset?.toFixed(), position?.epoch], { since: kept, signal });
  for await (const { position } of client.subscribe<Order>(pattern, { last: 5 })) localStorage.setItem('place', JSON.stringify(position));
  const past: Past<Order> = await client.history<Order>('orders', { since: { epoch: 'e', offset: 1 }, limit: 10 });
  const more = await client.history('orders', { since: past.position });
  console.log(past.messages[0]?.data.id, past.lost?.toFixed(), more.recovered);
  const remove: () => void = client.on('disconnect', ({ code, retryIn }) => code + (retryIn ?? 0));
  client.on('direct', (message) => message.reply(message.data));
  client.on('close', (error) => error?.message);
  client.on('error', async (error) => { if (error instanceof ServerError) remove(); });
  await Client.connect({ onLost: ({ topic, messages }) => topic + (messages ?? 'some'), onRecovered: ({ messages }) => messages.toFixed() });

  const members: string[] = [];
  await client.subscribe<Order>('orders', () => {}, {
    info: { name: 'Alice' },
    presence: ({ members: all, left, version }) => members.push(...all?.keys() ?? [], left.get('bob') ?? 'here', version?.toFixed() ?? ''),
  });
  const all: Presence<{ name: string }> = await client.presence<{ name: string }>('orders');
  console.log(all.members?.get('bob')?.name, all.count.toFixed());

  const member = await client.subscribe<Order>('orders', async ({ data, attempt }) => data.id + attempt, { group: 'workers', concurrency: 4, signal });
  for await (const { data } of client.subscribe<Order>(pattern, { group: 'workers' })) console.log(data.id, member.group?.length);
  const work = await client.publishWithAck<string>('orders', { id }, { key: 'customer', retry: 2, expectGroups: ['workers'] });
  for (const [name, outcome] of await work.wait()) {
    if ('group' in outcome) console.log(name, outcome.group, outcome.topic ?? outcome.pattern, outcome.attempts.toFixed(), outcome.failures[0]?.error, outcome.result?.length);
    else console.log(outcome.clientId);
  }
  const one: GroupResponse<string> | AckResponse<string> | undefined = await work.waitAny();
  const every: Map<string, Outcome<string>> = work.responses;
  console.log(one, every, await client.request<string>('orders', { id }, { key: 'customer', retry: 1 }));

  const headers = { traceparent: '00-1-2-01' };
  await client.publish('orders', { id }, { headers });
  await client.publishToId('bob', 1, { headers });
  await client.publishToIdWithAck('bob', await client.publishWithReceipt('orders', 1, { headers }), { headers, timeout: 100 });
  await client.requestToId('bob', await client.request('orders', 1, { headers }), { headers });
  await client.subscribe('orders', (message) => client.publish('copies', message.data, { headers: message.headers }));
  await client.subscribe('orders', (message) => message.headers['traceparent']?.length);

  const messageId = crypto.randomUUID();
  const receipts: number | undefined = await client.publishWithReceipt('orders', 1, { messageId, headers });
  await client.publishWithAck('orders', receipts, { messageId, key: 'customer' });
  await client.publishToIdWithAck('bob', await client.request('orders', 1, { messageId }), { messageId: null });
  await client.requestToId('bob', 1, { messageId, timeout: 100, signal });

  await client.subscribe('photos', ({ data }) => unpackBytes(data).image, { info: packBytes({ image: new ArrayBuffer(1) }) });
  const photo: { image: Uint8Array } = unpackBytes<{ image: Uint8Array }>(packBytes({ image: new Uint8Array(1) }));
  await client.publish('photos', packBytes(photo.image));

  await client.publish('orders', { id });
  const delivered: number | undefined = await client.publishWithReceipt('orders', level);
  const ack = await client.publishWithAck<string>('orders', delivered, { timeout: 100, signal });
  for await (const { clientId, result } of ack) console.log(clientId.length, result?.length);
  const outcomes: Map<string, AckResponse<string>> = await ack.wait();
  const first: AckResponse<string> | undefined = await ack.waitAny();
  const status: Map<string, boolean> = await ack.status();
  const partial: Map<string, AckResponse<string>> = ack.responses;
  const version: number | null = ack.presence;
  console.log(outcomes, first, status, partial, version);
  const sum: number = await client.request<number>('sum', [1, 2], { timeout: 100, signal });
  const own: string = await client.requestToId<string>('bob', sum);
  await client.publishWithAck('orders', own, { expect: ['bob'] });
  await client.flush();
  await client.close();

  // @ts-expect-error: there is no such event
  client.on('disconnected', () => {});
  // @ts-expect-error: what is lost has no code
  client.on('lost', ({ code }) => code);
  // @ts-expect-error: a topic is a string
  await client.publish(5, 1);
  // @ts-expect-error: nobody publishes to a pattern
  await client.publish(pattern, 1);
  // @ts-expect-error: what looks like a pattern is none
  client.unsubscribe({ text: 'orders/*', matches: () => true });
  // @ts-expect-error: an offset says nothing without its epoch
  await client.subscribe('orders', () => {}, { since: 5 });
  // @ts-expect-error: what a client says about itself is an object
  await client.subscribe('orders', () => {}, { info: 'Alice' });
  // @ts-expect-error: somebody is told who is there
  await client.subscribe('orders', () => {}, { presence: true });
  // @ts-expect-error: without a list nobody is in it
  (await client.presence('orders')).members.get('bob');
  // @ts-expect-error: a group has a name
  await client.subscribe('orders', () => {}, { group: 5 });
  // @ts-expect-error: who asks one client has no groups
  await client.requestToId('bob', 1, { key: 'x' });
  // @ts-expect-error: who wants one result does not say who must be there
  await client.request('orders', 1, { expectGroups: ['workers'] });
  // @ts-expect-error: headers are texts
  await client.publish('orders', 1, { headers: { n: 5 } });
  // @ts-expect-error: those that came are as they came
  await client.subscribe('orders', (message) => { message.headers['n'] = '5'; });
  // @ts-expect-error: another server gets none
  await client.publishToServer('h:1', 1, { headers });
  // @ts-expect-error: without an answer nobody knows whether to send again
  await client.publish('orders', 1, { messageId });
  // @ts-expect-error: nor here
  await client.publishToId('bob', 1, { messageId });
  // @ts-expect-error: an id is a text
  await client.request('orders', 1, { messageId: 5 });
  // @ts-expect-error: a receipt has the client's timeout
  await client.publishWithReceipt('orders', 1, { messageId, timeout: 100 });
  // @ts-expect-error: bytes come as a Uint8Array
  const wrong: string = unpackBytes<Uint8Array>(photo);
  // @ts-expect-error: a client is no group
  ack.responses.get('bob')?.attempts;
  // @ts-expect-error: history has a limit
  await client.history('orders', { last: 5 });
  // @ts-expect-error: nobody knows how many
  await Client.connect({ onLost: ({ messages }) => messages.toFixed() });
  // @ts-expect-error: the text stays
  pattern.text = 'x';
  // @ts-expect-error: the result of an awaited subscription is no promise
  subscription.then(() => {});
  // @ts-expect-error: nobody makes acks but the client
  new Ack();
  // @ts-expect-error: nor subscriptions
  new Subscription();
  // @ts-expect-error: a token is a string
  new Client('h', { token: () => 5 });
  // @ts-expect-error: there is no such option
  new Client('h', { Id: 'x' });
  // @ts-expect-error: the timeout is in an object
  await client.publishWithAck('t', 1, 500);
  // @ts-expect-error: a direct message has one receiver
  await client.publishToIdWithAck('bob', 1, { expect: ['bob'] });
  // @ts-expect-error: only the client says whether it is connected
  client.connected = true;
}

export async function unified(): Promise<void> {
  const client = await Client.NewClient({ Address: 'h:1', Autorestart: true, RestartEvery: 1000, OnId: ({ data, from }, unsub) => [data, from, unsub()] });
  const unsubscribe: () => void = await client.Subscribe('t', ({ data, from }, unsub) => [data, from, unsub]);
  client.Subscribe('t', () => {})();
  client.Subscribe(new Pattern('t/*'), () => {})();
  client.Unsubscribe(new Pattern('t/*'));
  const ack: Ack = client.PublishWithAck('t', 1, 1000);
  const same: Ack = await client.PublishToIDWithAck('bob', 1);
  const responses = await ack.Wait();
  const any = await same.WaitAny();
  if (any.success) console.log(any.response.client_id.length, responses['bob']?.error);
  unsubscribe();
  const named: ClientAck<Order> = await client.publishWithAck<Order>('t', 1);
  const subscription: ClientSubscription<Order> = client.subscribe<Order>('t');
  const subscriber: ClientSubscriber<Order> = subscription;
  const classes: boolean[] = [named instanceof ClientAck, subscriber instanceof ClientSubscription];
  const id: string = client.Id;
  console.log(classes, id);
  // @ts-expect-error: the server gives the id
  client.Id = 'x';
  await client.Run();
}

export function errors(error: unknown): string | number | undefined {
  if (error instanceof ServerError) {
    const mayTryAgain: boolean = error.isTemporary;
    return mayTryAgain ? 'later' : error.code ?? error.pattern;
  }
  if (error instanceof RequestFailed) return error.errors.get('bob') ?? error.target;
  if (error instanceof Unsupported) return error.feature + error.pattern + error.group;
  if (error instanceof InvalidState) return error.message;
  if (error instanceof ConnectionLost) return error.code;
  const closed: NotConnected = new ClientClosed('x');
  return closed.message;
}

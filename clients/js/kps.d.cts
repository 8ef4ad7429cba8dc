// Made of kps.js by `npm run build`. Do not edit.
/** The JavaScript client of KPS: publish/subscribe over WebSockets, with acknowledged publishing. */

/**
 * A place in the history of a topic: behind the message with that offset. A plain object, which may be kept as JSON
 * and used by another program.
 */
export interface Position {
  /** Says that the offsets go on. In another epoch they stand for other messages. */
  readonly epoch: string;
  readonly offset: number;
}

/** One message, as callbacks and iterators get it. */
export interface Message<T = any> {
  /** The topic; empty for a direct message. */
  readonly topic: string;
  /** The payload: any JSON value. */
  readonly data: T;
  /** The id of who published it. */
  readonly from: string;
  /** Its number among all messages of its topic, from 1; `null` if that has no history. */
  readonly offset: number | null;
  /** Its place in the history of its topic, to go on behind it; `null` if that has none. */
  readonly position: Position | null;
  /** The texts that its publisher has sent beside the payload: an object without prototype, empty if there are none. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * How many members of a group have been asked to handle it, with this one. Above 1 it may have been handled before, in part
   * or wholly, by a member that has vanished or failed.
   */
  readonly attempt: number;
  /**
   * Give a publisher who wants an ack a result: any JSON value. It goes with the ack, when the
   * message has been handled. What a callback returns does the same. Level 2 only.
   */
  reply(result: unknown): void;
}

/** How one addressed subscriber fared with a message. */
export interface AckResponse<R = any> {
  clientId: string;
  /** Whether its callback returned. */
  success: boolean;
  /** What went wrong: its own text, or `disconnected`, `timeout`, `queue full` and the like. */
  error?: string;
  /** What its callback returned. Level 2 only. */
  result?: R;
}

/** How a group fared with a message. It is among the outcomes as `GROUP of TOPIC`. */
export interface GroupResponse<R = any> extends AckResponse<R> {
  /** The member that had the message last; empty if none had it, and with the error `no member`. */
  clientId: string;
  /** Its name. */
  group: string;
  /** The topic of the group, unless it is that of a pattern. */
  topic?: string;
  /** The text of its pattern. */
  pattern?: string;
  /** How many members had the message, counting each time. */
  attempts: number;
  /** Which member each earlier attempt was made with, and why it failed. */
  failures: { clientId: string; error: string }[];
}

/** The outcome of a message for one client, or for one group: `'group' in outcome` tells. */
export type Outcome<R = any> = AckResponse<R> | GroupResponse<R>;

/** How one addressed subscriber, or group, fared with a message, in the unified spelling. */
export interface UnifiedResponse<R = any> extends Partial<Omit<GroupResponse, keyof AckResponse>> {
  ack_id: string;
  client_id: string;
  success: boolean;
  error?: string;
  result?: R;
}

/**
 * The answers to one message, as they come. They are gathered from the moment of publishing.
 * Those who wait get `ConnectionLost` (but see `messageId`) or `ClientClosed` at once when the connection ends, and
 * `RequestTimeout` when the server has not told the end of the request within a second after its time,
 * which begins when the request is on the network.
 */
export class Ack<R = any> implements AsyncIterable<Outcome<R>> {
  private constructor();
  /** The publisher's id of the request. */
  readonly id: string;
  /** The outcomes so far by client id, or `GROUP of TOPIC`: a copy; also those of a request that ended with an error. */
  readonly responses: Map<string, Outcome<R>>;
  /**
   * The `version` of the topic's `Presence` at which the message was published. Known at the end of the request; `null` if
   * nobody observed the topic.
   */
  readonly presence: number | null;
  /**
   * Whether only the clients of one node were asked, because it could not reach the other nodes of its cluster. Known at the
   * end of the request.
   */
  readonly degraded: boolean;
  /** Wait until all have answered or the time is over; the outcomes by client id, or `GROUP of TOPIC`. */
  wait(): Promise<Map<string, Outcome<R>>>;
  /**
   * Wait for the first outcome; `undefined` if the request ends without one.
   * A server on level 1 tells all outcomes together, at the end.
   */
  waitAny(): Promise<Outcome<R> | undefined>;
  /**
   * Ask the server who was addressed, and who of them has answered. Rejected with `ConnectionLost` while there is no connection,
   * and as `wait` is.
   */
  status(): Promise<Map<string, boolean>>;
  /** Whether all who were addressed have answered. */
  isComplete(): Promise<boolean>;
  /** Stop waiting: whoever waits gets what has come so far. */
  cancel(): void;
  [Symbol.asyncIterator](): AsyncGenerator<Outcome<R>, void, void>;

  Wait(): Promise<Record<string, UnifiedResponse<R>>>;
  WaitAny(): Promise<
    | { response: UnifiedResponse<R>; success: true }
    | { response: Partial<UnifiedResponse<R>>; success: false }
  >;
  GetStatus(): Promise<Record<string, boolean>>;
  IsComplete(): Promise<boolean>;
  Cancel(): void;
}

/**
 * A pattern of topics: `**` stands for any characters, `*` for any but `/`, each also for none; all others stand
 * for themselves. Throws `InvalidArgument` for what could not be a topic.
 */
export class Pattern {
  #private;
  constructor(text: string);
  readonly text: string;
  /** Whether a topic matches. It takes little time, whatever the pattern and the topic are. */
  matches(topic: string): boolean;
}

/**
 * A subscription to one topic, or to one pattern. Without a callback it is iterated over; leaving the loop ends it, and gives
 * up what waits.
 *
 * While a callback is busy, or the body of a loop, messages wait: a WebSocket that can pause (`ws`) is read no faster, and nothing
 * is lost. Elsewhere as many wait as `mailbox` and `mailboxBytes` say; what has no room is dropped, counted and reported.
 *
 * A message that wants an ack counts as handled when the next one is asked for, or when
 * `unsubscribe` is called. Leaving the loop otherwise tells the publisher of a failure.
 */
export class Subscription<T = any> implements AsyncIterableIterator<Message<T>> {
  private constructor();
  /** The topic, or the text of the pattern. */
  readonly topic: string;
  /** The name of the group of which it is a member, or `null`. */
  readonly group: string | null;
  /** Messages that were dropped because they were handled too slowly. */
  readonly dropped: number;
  /**
   * The position of the last message that the program was given: for which the callback was called, or which was
   * taken by an iterator. `null` before the first one, and if the topic of that has no history.
   */
  readonly position: Position | null;
  /** End the subscription. May be called twice. */
  unsubscribe(): void;
  /** The next message. The one before counts as handled. */
  next(): Promise<IteratorResult<Message<T>>>;
  return(value?: any): Promise<IteratorResult<Message<T>>>;
  /** Several loops may share a subscription. Each gets other messages, and answers for its own. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message<T>>;
}

/**
 * A subscription that can be awaited: fulfilled when it is in force on the server, or at once while there is
 * no connection (the next one has it), or when the program unsubscribes meanwhile; rejected with `ServerError`
 * when the server refuses the topic, with `ClientClosed` when the client ends, and with the reason of the signal
 * when that is aborted before the subscription is in force. Iterating over it throws that error as well, also
 * when the topic is refused after a reconnect; and `Unsupported` if it is to a pattern, or a member of a group, or wants the
 * past and was not confirmed before, and a new connection is to a server that has none. If the server refuses what this one wants besides
 * (`presence`, `info`) of a topic to which the client is subscribed already, only this one ends.
 *
 * When the server refuses the topic only for now (`rate_limited`, `unavailable`) or does not answer, the
 * client asks for it again, until the server confirms it or refuses it for good, or the program ends
 * the subscription. After `requestTimeout` whoever awaits it gets `RequestTimeout`; the subscription goes on.
 */
export interface PendingSubscription<T = any> extends Subscription<T>, PromiseLike<Subscription<T>> {
  /** What to do when the server refuses the subscription, as with a promise. */
  catch<R = never>(reject?: ((reason: any) => R | PromiseLike<R>) | null): Promise<Subscription<T> | R>;
  /** What to do when it is in force or refused, as with a promise. */
  finally(end?: (() => void) | null): Promise<Subscription<T>>;
}

/**
 * With `last` or `since`, messages of the past come before any new one. Only the first subscription of a client that
 * has the topic can have them.
 */
export interface SubscribeOptions {
  /** Ends the subscription. With one that is aborted already, nothing is sent. */
  signal?: AbortSignal;
  /** How many of the latest messages come, or as many as are kept; of a pattern, of each topic. Default 0. */
  last?: number;
  /**
   * The place behind which all comes that is kept; `onRecovered` or `onLost` tells whether that is all. Not with a
   * pattern, nor with `last`.
   */
  since?: Position | null;
  /**
   * Called with who is subscribed to the topic: at first, after each change, and after a reconnect. Needs the permission
   * `presence`. What it throws comes to `onError`. Not with a pattern.
   */
  presence?: ((presence: Presence) => unknown) | null;
  /**
   * What this client says about itself to those who see who is subscribed to the topic: an object, as JSON; a server takes
   * 1024 bytes unless told otherwise. To subscribe again with another one replaces it; `{}` is as none. It stays as long as
   * the client is subscribed to the topic. Not with a pattern.
   */
  info?: object | null;
  /**
   * Makes this client a member of the group of that name: each message goes to one of its members. Those without ack go round.
   * One with ack goes to the member that has the least to do, and to another one when it is gone before it has answered
   * (`message.attempt`). A group is one of its topic or pattern: the same name elsewhere is another one. A client is a member
   * of a group once. Not with `last`, `since`, `presence` or `info`.
   */
  group?: string | null;
  /**
   * How many messages this member of a group takes at a time. Default 1. With more, so many calls of an async callback may be
   * under way at once.
   */
  concurrency?: number;
}

/** Who is subscribed to a topic, and what has changed since the last time. */
export interface Presence<I = any> {
  readonly topic: string;
  /**
   * What each member says about itself (its `info`, or `null`), by id. `null`: there are so many that the server tells only
   * their number.
   */
  readonly members: Map<string, I | null> | null;
  /** Number of the members. */
  readonly count: number;
  /** The number of the latest change, which grows; `null` if nobody observes the topic. */
  readonly version: number | null;
  /** The members that are new, and what each says about itself. */
  readonly joined: Map<string, I | null>;
  /** Those that say something else about themselves. */
  readonly updated: Map<string, I | null>;
  /**
   * Why each has left: `unsubscribed`, `closed`, `lost` (its connection broke), `replaced` (another connection took its
   * id), `renamed`; or `unknown`, if it left while this client had no connection or read too slowly.
   */
  readonly left: Map<string, string>;
}

export interface HistoryOptions {
  /** The place behind which the messages are. Without one: the latest. */
  since?: Position | null;
  /** How many at most, from 1. Default 100. */
  limit?: number;
}

/** Messages of the past. */
export interface Past<T = any> {
  /** The oldest first. */
  messages: Message<T>[];
  /** The place behind the last of them: the next `since`. */
  position: Position | null;
  /** Whether there were no others between the `since` that was asked for and these. */
  recovered: boolean;
  /** If there were, how many; `null` if nobody knows. */
  lost: number | null;
}

/** The client gets all that was published on a topic, or on those of a pattern, while it was away. */
export interface Recovered {
  /** The topic, or the text of the pattern. */
  topic: string;
  /** How many messages come, before any new one. */
  messages: number;
}

/**
 * The client does not get some messages: the server has kept fewer than it missed, or was restarted without a file for
 * its history, or drops them because the client reads too slowly.
 */
export interface Lost {
  /** The topic, or the text of the pattern. */
  topic: string;
  /** How many; `null` if nobody knows. */
  messages: number | null;
}

export interface PublishOptions {
  /**
   * Texts that go with the message beside its payload, such as a `traceparent`; who gets it has them as `message.headers`. A
   * server takes 4096 bytes of them, as JSON, unless told otherwise. Where the server does not know that, the message is
   * refused with `Unsupported`.
   */
  headers?: Readonly<Record<string, string>> | null;
}

/** Of what waits for an answer of the server. */
export interface ReceiptOptions extends PublishOptions {
  /**
   * A text of 1 to 256 characters that no other message of this client id has. The server then handles the message once, however
   * often it is sent. When the connection ends before the answer, the client sends it again on the next one, by itself, and goes
   * on waiting for as long as it would have done. Only if the message might then be handled twice (the server was restarted, or
   * has forgotten the id), or the server refuses what was sent again, or the client does not come back, it is `ConnectionLost` as
   * without an id; and `ServerError` with the code `outcome_unknown`, if the server does not know any more what became of it. A
   * program may send the message again, too, under the same client id and for as long as the server remembers it (two minutes,
   * unless told otherwise): it gets the answer to the first one; or the code `outcome_unknown`, if that was handled and nobody
   * knows the outcome any more, or `message_id_in_use` if that had another topic, receiver or payload, or is still under way. What
   * nobody got is not remembered, unless the topic has history. Where the server does not know ids, the message is refused with
   * `Unsupported`.
   */
  messageId?: string | null;
}

export interface AckOptions extends ReceiptOptions {
  /** How long the subscribers may take, in milliseconds above 0. Default 5000. `Infinity`: as long as the server lets. */
  timeout?: number;
  /** Cancels the request; who waits for it gets the signal's reason. */
  signal?: AbortSignal;
}

/** Where the server does not know one of these, the request is rejected with `Unsupported`. */
export interface RequestOptions extends AckOptions {
  /** Each group gives all messages with the same key to the same member, as long as its members are the same. */
  key?: string | null;
  /**
   * How many failures of members of a group are not final: another member gets the message. Default 0. That a member is gone
   * before it has answered does not count here.
   */
  retry?: number;
}

/** Where the server does not know one of these, the request is rejected with `Unsupported`. */
export interface PublishWithAckOptions extends RequestOptions {
  /** Ids that must be among the receivers: each that is not gets an outcome at once, a failure with the error `absent`. */
  expect?: readonly string[];
  /** Names of groups of the topic that must have members: each that has none gets the error `no member` at once. */
  expectGroups?: readonly string[];
}

/**
 * Exponential backoff with jitter. Times in milliseconds. It starts anew behind a connection; but from
 * the fifth in a row on that lived for less than `longest`, one step later each time.
 */
export interface Backoff {
  /** Before the first retry, at least 10. Default 250. */
  first?: number;
  /** At least 1. Default 2. */
  factor?: number;
  /** At least `first`. Default 30 000. */
  longest?: number;
  /** Which part of a wait is random, from 0 to 1. Default 0.5. */
  jitter?: number;
}

export interface Connected {
  /** The id under which others reach this client. */
  id: string;
  level: 1 | 2;
  /** Whether there was a connection before. */
  reconnected: boolean;
}

export interface Disconnected {
  /** The WebSocket close code; 1006 when there was none. */
  code: number;
  reason: string;
  /** Milliseconds until the next attempt; `undefined` when there is none. */
  retryIn: number | undefined;
}

/** A message of the protocol, as it came. */
export interface Frame {
  action?: string;
  [field: string]: unknown;
}

/** What the client needs of a WebSocket class: that of browsers, of Node, or of `ws`. */
export interface WebSocketClass {
  new (url: string, options?: any): any;
}

/**
 * What the client cannot use is refused with `InvalidArgument`, such as generator functions and options that
 * there are not. Times in milliseconds may be `Infinity`.
 */
export interface ClientOptions {
  /** The id under which others reach this client, of 1 to 65 536 characters; random if not given. */
  id?: string;
  /**
   * Path and query of the server's WebSocket, unless the address has one, without control characters.
   * Default `/ws/bus`.
   */
  path?: string;
  /** Whether to use TLS, if the address does not say so; `true` refuses one without. Default: as the page was loaded. */
  secure?: boolean;
  /**
   * What shows a server that wants one who this is: a text, or a function that gives one for each
   * connection, also as a promise. What it throws makes the attempt to connect fail. A token has 1 to
   * 65 536 characters, none of them a control character; one that a function gives is ASCII, without spaces and line ends.
   */
  token?: string | (() => string | Promise<string>);
  /** Headers of the opening request. Not in browsers. */
  headers?: Record<string, string>;
  /** The highest level of the protocol to speak. Default 2. */
  level?: 1 | 2;
  /** `true` (default): with backoff; a number from 10: that many milliseconds each time; or not. */
  reconnect?: boolean | number;
  backoff?: Backoff;
  /** The WebSocket class. Default: the global one. */
  WebSocket?: WebSocketClass;
  /** Milliseconds for the server to answer, above 0. Default 10 000. */
  requestTimeout?: number;
  /** Milliseconds that `close()` gives the server to take what was published, from 0. Default 5000. */
  closeTimeout?: number;
  /**
   * How many publications to keep while there is no connection, and at most 16 Mi characters of them.
   * Default 0. Beyond, `publish` is rejected with `QueueFull`.
   */
  offlineQueue?: number;
  /**
   * How many messages may wait in one subscription. Default 65 536. A WebSocket that can pause (`ws`)
   * is not read while a 32nd of that, or of the bytes, waits. What one read brings is handed over together:
   * 64 KiB, or more if one message is larger; of tiny publications that is 32 768. So a mailbox below 40 000 can
   * overflow where a callback waits for anything.
   */
  mailbox?: number;
  /**
   * How many bytes of messages may, as they came. Default 64 MiB; what JSON becomes of them is more. An empty
   * mailbox takes any one message.
   */
  mailboxBytes?: number;
  /**
   * Milliseconds, above 0, that reading waits for a subscription of which the program finishes no message.
   * Default 10 000. Then it goes on, and the mailbox may fill. While an answer of the server is due, for
   * which a callback may wait, it goes on after 250.
   */
  mailboxPatience?: number;
  /** What becomes of the messages for which there is no room. Default `drop_newest`. */
  overflow?: 'drop_newest' | 'drop_oldest';
  /** Closes the client. */
  signal?: AbortSignal;
  /** Gets direct messages. */
  onDirect?: (message: Message) => unknown;
  /** Called after each (re)connect. */
  onConnect?: (event: Connected) => unknown;
  /** Called when a connection ends. */
  onDisconnect?: (event: Disconnected) => unknown;
  /**
   * Gets what is told to nobody else: refusals of the server, failed attempts to connect, what
   * callbacks throw, dropped messages. That a topic is refused only for now comes here once for each
   * connection, and so does `Unsupported` for a topic with `presence` or `info` on a server that lacks it: the
   * subscription goes on without. Default: `console.error`, unless there is a listener (`client.on`).
   */
  onError?: (error: unknown) => unknown;
  /**
   * Called when the client has come back, or has subscribed with `since`, and gets all messages of a topic with
   * history that it has missed.
   */
  onRecovered?: (event: Recovered) => unknown;
  /** Called when it does not get some of them, or any other messages of such a topic. */
  onLost?: (event: Lost) => unknown;
  /** Gets every message of the server as it came. */
  onFrame?: (frame: Frame, client: Client) => unknown;
  /** Called once when the client has closed, with the error unless the program closed it. */
  onClose?: (error?: KPSError) => unknown;
}

/** What `client.on` hears of, by its name. Each is also an option: `connect` is `onConnect`. */
export interface ClientEvents {
  direct: Message;
  connect: Connected;
  disconnect: Disconnected;
  error: unknown;
  recovered: Recovered;
  lost: Lost;
  frame: Frame;
  close: KPSError | undefined;
}

/** The payload and sender of a message, in the unified spelling. */
export interface UnifiedMessage<T = any> {
  data: T;
  from: string;
}

export type UnifiedCallback<T = any> = (message: UnifiedMessage<T>, unsub: () => void) => unknown;

/** What is empty or 0 counts as not given. Others are refused with `InvalidArgument`. */
export interface UnifiedOptions {
  Address?: string;
  Path?: string;
  Secure?: boolean;
  Id?: string;
  /** Whether to reconnect. Default `false`. */
  AutoRestart?: boolean;
  Autorestart?: boolean;
  /** Milliseconds between attempts, at least 10. Default 10 000. */
  RestartEvery?: number;
  /** Gets every message of the server as it came. The client then speaks level 1. */
  OnDataWs?: (frame: Frame, client: Client) => unknown;
  OnId?: UnifiedCallback;
  OnOpen?: (event: Connected) => unknown;
  OnClose?: (error?: KPSError) => unknown;
}

// What other clients of the family call the same.
export { Ack as ClientAck };
export { Subscription as ClientSubscription };
export { Subscription as ClientSubscriber };

/**
 * A connection to the bus that restores itself.
 *
 * Topics and ids have 1 to 65 536 characters (a server takes 256 unless told otherwise), none of them a control
 * character or half of one. With others every method throws `InvalidArgument`, or its promise rejects.
 */
export class Client {
  /**
   * @param address `host:port`, or a URL, also as an object (`ws`, `wss`, `http`, `https`) with path and query.
   *   Without one: the page's own host, and `localhost:9313` elsewhere.
   */
  constructor(address?: string | URL, options?: ClientOptions);
  constructor(options: ClientOptions);
  /** Make a client and connect it. */
  static connect(address?: string | URL, options?: ClientOptions): Promise<Client>;
  static connect(options: ClientOptions): Promise<Client>;

  /** The id under which others reach this client. */
  readonly id: string;
  /** The same, in the unified spelling. */
  readonly Id: string;
  /** Whether the server knows this client at the moment. */
  readonly connected: boolean;
  /** The level of the protocol that is spoken at the moment. */
  readonly level: 1 | 2 | undefined;
  /**
   * How many of the publications that the client took were never sent: kept and too large for the
   * server, kept and no connection came, or not yet on the network when the connection ended.
   * `onError` hears of them.
   */
  readonly dropped: number;

  /**
   * Connect; fulfilled when the server knows this client. While reconnecting is on, a server that
   * is down is waited for. Rejected with `ConnectFailed`, `ServerError` or `ClientClosed`.
   */
  connect(): Promise<this>;
  /**
   * Close for good. What is pending ends at once, and no callback of a subscription begins any more.
   * What was published is still sent, for up to `closeTimeout`. May be called twice.
   */
  close(): Promise<void>;

  /**
   * Have a function called at each event of that name, as the option for it is, besides that and after it. Returns what ends
   * this. While there is one for `direct`, direct messages have somebody who handles them; each gets all, one at a time. While
   * there is one for `error`, errors are not shown by `console.error`. Throws `InvalidArgument`.
   */
  on<E extends keyof ClientEvents>(event: E, listener: (event: ClientEvents[E]) => unknown): () => void;

  /**
   * Subscribe to a topic, or to all that a pattern has: those that match, but one that begins with `__` only if the
   * pattern begins likewise, up to the topic's first `/`. A message comes once to each subscription that has its topic.
   * Throws `InvalidArgument`, `ClientClosed`, `MessageTooLarge` for the topic, `InvalidState` for a group of which the client is a
   * member already, or `Unsupported` for a pattern, the past, `presence`, `info` or a group, if the server has none. The callback
   * gets one message at a time, in order, unless `concurrency` says otherwise; it may be async. What it returns
   * is the result for a publisher who wants an ack, what it throws is the error. A generator function is
   * refused with `InvalidArgument`, since a call runs nothing of it; that one is returned is an error.
   */
  subscribe<T = any>(
    topic: string | Pattern,
    callback: (message: Message<T>) => unknown,
    options?: SubscribeOptions,
  ): PendingSubscription<T>;
  subscribe<T = any>(topic: string | Pattern, options?: SubscribeOptions): PendingSubscription<T>;
  /** End all subscriptions to a topic, or to a pattern, also in groups. That leaves those to a topic of the same characters. */
  unsubscribe(topic: string | Pattern): void;

  /**
   * Publish to everyone who subscribes to the topic. Fulfilled when it is queued, and there is room:
   * while more than 1 MiB is not yet on the network, it waits. Who does not await it gets `QueueFull`
   * beyond 64 MiB.
   * Rejected with `NotConnected` (unless there is an offline queue), `QueueFull`, `ConnectionLost`
   * or `ClientClosed` (while it waits for room), `MessageTooLarge`, or `InvalidArgument`: for what JSON
   * cannot say, such as NaN, `undefined` in an array, a promise, a generator or bytes (see `packBytes`). It leaves out
   * members that are undefined.
   */
  publish(topic: string, data?: unknown, options?: PublishOptions): Promise<void>;
  /**
   * Publish, and learn how many subscribers it was passed on to; `undefined` on level 1. Rejected as `publish`
   * is, without a connection always, and with `ServerError`, `RequestTimeout` or `ConnectionLost` (but see `messageId`).
   */
  publishWithReceipt(topic: string, data?: unknown, options?: ReceiptOptions): Promise<number | undefined>;
  /**
   * Send a direct message to the client, or server, of that id. Fulfilled and rejected as `publish` is;
   * `onError` hears that nobody has the id.
   */
  publishToId(id: string, data?: unknown, options?: PublishOptions): Promise<void>;
  /** Have the server send a message to another server: `host:port[/path][::address]`, up to 1024 characters. */
  publishToServer(address: string, data?: unknown, secure?: boolean): Promise<void>;
  /**
   * Publish, and learn how each subscriber, and each group, fared. Rejected with `NotConnected`, `ClientClosed`, `QueueFull`,
   * `MessageTooLarge` or `InvalidArgument`; what comes later rejects the methods of the ack.
   */
  publishWithAck<R = any>(topic: string, data?: unknown, options?: PublishWithAckOptions): Promise<Ack<R>>;
  /** Send a direct message, and learn how its receiver fared, likewise. No response: nobody there. */
  publishToIdWithAck<R = any>(id: string, data?: unknown, options?: AckOptions): Promise<Ack<R>>;
  /**
   * Ask the subscribers of a topic, and its groups, and get the first result: what a callback of one of them has returned. The
   * others are not waited for. Rejected with `RequestFailed` if all fail, `RequestTimeout` if all are silent, `NobodyThere` if
   * the topic has no subscriber, `ConnectionLost` when the connection ends (but see `messageId`), and as `publishWithAck` is. From a
   * subscriber on level 1 the result is `undefined`.
   */
  request<R = any>(topic: string, data?: unknown, options?: RequestOptions): Promise<R>;
  /** Ask the client, or server, of that id, and get its result. Rejected as `request` is. */
  requestToId<R = any>(id: string, data?: unknown, options?: AckOptions): Promise<R>;
  /**
   * Messages of a topic with history: those behind `since`, or else the latest. Rejected with `ServerError` of the code
   * `no_history` if the topic has none, or `forbidden` if this client may not subscribe to it, and with `Unsupported`,
   * `NotConnected`, `ClientClosed`, `ConnectionLost`, `RequestTimeout` or `InvalidArgument`.
   */
  history<T = any>(topic: string, options?: HistoryOptions): Promise<Past<T>>;
  /**
   * Who is subscribed to a topic now (not: to patterns that have it). Nothing has `joined` or `left`. Rejected with
   * `ServerError` of the code `forbidden` if this client lacks the permission `presence` or `subscribe`, and with
   * `Unsupported`, `NotConnected`, `ClientClosed`, `ConnectionLost`, `RequestTimeout` or `InvalidArgument`.
   */
  presence<I = any>(topic: string): Promise<Presence<I>>;
  /**
   * Wait until the server has handled everything that was sent before. Rejected with `NotConnected`,
   * `ClientClosed`, `ConnectionLost` or `RequestTimeout`.
   */
  flush(): Promise<void>;

  static NewClient(options?: UnifiedOptions): Promise<Client>;
  Subscribe<T = any>(topic: string | Pattern, callback: UnifiedCallback<T>): (() => void) & PromiseLike<() => void>;
  Unsubscribe(topic: string | Pattern): void;
  Publish(topic: string, data?: unknown): Promise<void>;
  PublishToID(id: string, data?: unknown): Promise<void>;
  PublishToServer(address: string, data?: unknown, secure?: boolean): Promise<void>;
  PublishWithAck<R = any>(topic: string, data?: unknown, timeout?: number): Ack<R>;
  PublishToIDWithAck<R = any>(id: string, data?: unknown, timeout?: number): Ack<R>;
  Close(): Promise<void>;
  /** Fulfilled when the program has closed the client, rejected when it ended otherwise. */
  Run(): Promise<void>;
  OnClose(callback: (error?: KPSError) => unknown): void;
}

/**
 * A payload for sending in which bytes stand as JSON, `{ $base64: '…' }`, from which `unpackBytes` makes bytes again at the
 * other side, as the clients in other languages do. Bytes are an `ArrayBuffer` or a view of one, such as `Uint8Array` and
 * Node's `Buffer`, at any depth of arrays and plain objects; all else remains as it is. They take a third more room. Throws
 * `InvalidArgument` for an object that looks like such bytes itself.
 */
export function packBytes(value: unknown): any;
/**
 * A payload that came, with its bytes, each as a `Uint8Array`: the reverse of `packBytes`. Throws `InvalidArgument` for
 * something that is marked as bytes and is not base64.
 */
export function unpackBytes<T = any>(value: unknown): T;

/** Every error that the client raises on purpose is one of these. */
export class KPSError extends Error {}

/** The program passed something that cannot go on the wire; nothing was sent. */
export class InvalidArgument extends KPSError {}

/** The message is larger than the server accepts; nothing was sent. */
export class MessageTooLarge extends InvalidArgument {}

/** The program asked for something at the wrong time; nothing was sent. */
export class InvalidState extends KPSError {}

/** There is no connection at the moment. */
export class NotConnected extends KPSError {}

/** The client was closed, by the program or for good by the server. */
export class ClientClosed extends NotConnected {}

/** No connection could be made. */
export class ConnectFailed extends KPSError {
  /** The HTTP status of the server's refusal, where it can be seen: in browsers only 403, for pages of another origin. */
  readonly status?: number;
}

/** The connection ended while something waited for an answer on it; the outcome is unknown. */
export class ConnectionLost extends KPSError {
  /** The WebSocket close code; 1006 when there was none. */
  readonly code: number;
  /** How many publications were not sent, when it tells that. */
  readonly count?: number;
}

/** The server, or those who were asked, did not answer in time. */
export class RequestTimeout extends KPSError {}

/** A request has reached nobody: the topic has no subscriber, or nobody has the id. */
export class NobodyThere extends KPSError {}

/**
 * Those who were asked have failed. The message is the error of one of them: what its callback has thrown, or
 * `disconnected`. It is unknown how far each of them has got.
 */
export class RequestFailed extends KPSError {
  /** The errors of all, by client id; of a group by that of its member, or `GROUP of TOPIC` if it has none. */
  readonly errors: Map<string, string>;
  /** The topic or id that was asked. */
  readonly target: string;
}

/** A bounded queue has no room. */
export class QueueFull extends KPSError {
  /** How many messages the subscription has dropped so far, when it tells that. */
  readonly dropped?: number;
}

/** The server lacks what was asked for: it is older, or speaks level 1. Nothing was sent. */
export class Unsupported extends KPSError {
  /** What it lacks: `patterns`, `history`, `expect`, `presence`, `groups`, `headers` or `message_ids`. */
  readonly feature: string;
  readonly topic?: string;
  /** The text of the pattern. */
  readonly pattern?: string;
  /** The name of the group. */
  readonly group?: string;
}

/** The server refused something. */
export class ServerError extends KPSError {
  /** What a program can rely on, such as `no_such_client`. Level 2 only. */
  readonly code?: string;
  /** Whether the same can succeed later: `rate_limited`, `limit_reached` or `unavailable`. */
  readonly isTemporary: boolean;
  /** The action that was refused. Level 2 only. */
  readonly request?: string;
  readonly topic?: string;
  /** Of a subscription to one, the text of the pattern. */
  readonly pattern?: string;
  /** Of a subscription as a member of one, the name of the group. */
  readonly group?: string;
  readonly to?: string;
}

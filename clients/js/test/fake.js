// A WebSocket without a network, and the server's side of it, for tests.

import { mock } from 'node:test';

import { Client } from '../kps.js';

/** Let everything happen that needs no time. */
export const settled = () => new Promise((resolve) => { setImmediate(resolve); });

/** What a promise has come to by now: its value, its error, or 'waits'. */
export function outcomeOf(promise) {
  const outcome = { is: 'waits' };
  promise.then((value) => { outcome.is = value; }, (error) => { outcome.is = error; });
  return outcome;
}

/** Let mocked time pass, with everything that happens on the way. */
export async function pass(milliseconds, step = 250) {
  for (let rest = milliseconds; rest > 0; rest -= step) {
    mock.timers.tick(Math.min(step, rest));
    await settled();
  }
}

class FakeSocket {
  bufferedAmount = 0;
  /** What the client sent: the texts, until somebody takes them. */
  frames = [];
  closedWith = undefined;
  terminated = false;

  constructor(url, options) {
    this.url = url;
    this.options = options;
  }

  // -- what the client calls

  send(text) {
    this.frames.push(text);
  }

  close(code) {
    this.closedWith = code ?? 'no code';
  }

  // -- the other side

  /** The messages that the client sent since the last call, without regard to arrays. */
  async sent() {
    await settled();
    return this.frames.splice(0).flatMap((text) => JSON.parse(text));
  }

  open() {
    this.onopen?.({});
  }

  says(...messages) {
    for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) });
  }

  end(code = 1006, reason = '') {
    this.onclose?.({ code, reason });
  }

  fail(message) {
    this.onerror?.({ message });
    this.end();
  }
}

/** One that can be told not to read, as that of `ws`. */
export class PausableSocket extends FakeSocket {
  isPaused = false;

  pause() {
    this.isPaused = true;
  }

  resume() {
    this.isPaused = false;
  }

  terminate() {
    this.terminated = true;
  }
}

/** A network in which every connection that a client opens is at hand. */
export function fakeNetwork(Socket = FakeSocket) {
  const sockets = [];
  class WebSocket extends Socket {
    constructor(...values) {
      super(...values);
      sockets.push(this);
    }
  }
  return { WebSocket, sockets };
}

export const LEVEL_1 = {};
const FEATURES = ['patterns', 'history', 'presence', 'groups', 'headers', 'message_ids'];
export const LEVEL_2 = {
  proto: 2,
  limits: { max_message: 1_000_000, heartbeat: 25 },
  features: FEATURES,
  message_ids: { window: 'w', seconds: 120, most: 10_000, time: 7000.5 },
};

/** The server's part of registering. */
export async function welcome(socket, id, agreement = LEVEL_2) {
  socket.open();
  await socket.sent();
  socket.says({ action: 'pong', id, ...agreement });
}

/** A client that is connected, and what surrounds it. */
export async function connected({ isPausable = false, ...options } = {}, agreement = LEVEL_2) {
  const network = fakeNetwork(isPausable ? PausableSocket : FakeSocket);
  const errors = [];
  const onError = (error) => errors.push(error);
  const client = new Client('bus.example', { WebSocket: network.WebSocket, id: 'me', onError, ...options });
  const opened = client.connect();
  await settled();
  const [socket] = network.sockets;
  await welcome(socket, 'me', agreement);
  await opened;
  return { client, socket, sockets: network.sockets, errors };
}

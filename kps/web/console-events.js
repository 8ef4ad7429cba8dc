// What happens on the server: clients that come and go, what is refused, nodes. It is told on request, from before this page was
// opened on.

import { Latest, inOrder } from './console-latest.js';
import { byId, clientName, clock, count, make, number, reveal, setText, some } from './console-view.js';

const TOPIC = '__kps/events';
const KEPT = 200; // refusals, and as many other events, as the server keeps
const REFUSALS = ['refused', 'login_refused', 'origin_refused', 'fault'];
const NORMAL = [1000, 1001, 1005, 4001, 4003]; // close codes by which clients leave, are replaced or dismissed

const quoted = (text) => `“${reveal(String(text))}”`;

/** What is said of an event behind the client that it is about, if it is about one. */
const WORDS = {
  connected: ({ address }) => `connected from ${reveal(String(address))}`,
  renamed: ({ before }) => `was ${reveal(String(before))} before`,
  left: ({ code, reason, dropped }) => [
    `left: ${reveal(reason || (code === 1006 ? 'the connection broke' : 'closed'))} (${number(code)})`,
    dropped > 0 && `${count(dropped)} messages for it were dropped`,
  ].filter(Boolean).join('; '),
  dismissed: ({ by, identity, by_address: address }) =>
    `is disconnected by ${reveal(String(by))}${identity ? ` (${reveal(identity)})` : ''}${address ? ` from ${reveal(address)}` : ''}`,
  refused: ({ request, topic, pattern, group, to, error }) => {
    const about = [topic ?? pattern ?? to, group && `group ${group}`].filter((each) => each !== undefined && each !== '').map(quoted).join(', ');
    return `${reveal(request || 'a message')}${about && ` ${about}`} refused: ${reveal(String(error))}`;
  },
  login_refused: ({ address, reason }) => `A login from ${reveal(String(address))} was refused: ${reveal(String(reason))}`,
  origin_refused: ({ address, origin }) => `A page of ${reveal(String(origin))} from ${reveal(String(address))} may not connect`,
  fault: ({ where }) => `A fault of the server: ${reveal(String(where))}. Its log has more`,
  node_up: ({ other }) => `reaches ${reveal(String(other))}`,
  node_down: ({ other, reason }) => `no longer reaches ${reveal(String(other))}: ${reveal(String(reason))}`,
};

const isTrouble = ({ event, code, dropped }) =>
  !['connected', 'renamed', 'node_up', 'dismissed', 'left'].includes(event) || (event === 'left' && (!NORMAL.includes(code) || dropped > 0));

export class Events {
  #client;
  #openClient;
  #refusals = new Latest(KEPT); // by the node, its run and the id
  #others = new Latest(KEPT);
  #seen = {}; // what the server has told, by node
  #count; // of all events, as the figures told when they were asked for last
  #isAsking = false;
  #said = 'Loading …';
  #section = byId('events');

  /** `openClient(id)` shows a client in full. */
  constructor(client, openClient) {
    this.#client = client;
    this.#openClient = openClient;
    byId('events-form').addEventListener('change', () => this.#draw());
    this.#draw();
  }

  /** There were so many events, as the figures say; ask for those that are new. */
  async take(howMany) {
    if (howMany === this.#count || this.#isAsking) return;
    this.#isAsking = true;
    try {
      const { events, seen } = await this.#client.request(TOPIC, { since: this.#seen }, { timeout: 10_000 });
      this.#count = howMany;
      this.#seen = { ...this.#seen, ...seen };
      for (const event of Array.isArray(events) ? events : []) this.#add(event, seen?.[event.node]?.[0]);
      this.#said = 'Nothing has happened yet. Clients that come and go, and what the server refuses, appear here.';
      this.#draw();
    } catch (error) {
      if (error.name === 'ServerError' && !error.isTemporary) this.refuse(`The server does not tell its events: ${reveal(error.message)}.`);
    } finally {
      this.#isAsking = false;
    }
  }

  /** There is a new connection, perhaps to a server that has begun anew. */
  connected() {
    this.#count = undefined;
  }

  /** The server tells nothing. */
  refuse(reason) {
    this.#refusals.clear();
    this.#others.clear();
    this.#seen = {};
    this.#said = reason;
    this.#draw();
  }

  /** A node that begins anew counts its events anew, so `run` says which one of its lives it was. */
  #add(event, run) {
    const key = `${event.node} ${run} ${number(event.id)}`;
    const place = REFUSALS.includes(event.event) ? this.#refusals : this.#others;
    place.add(event.network, key, { ...event, time: Date.now() - number(event.ago) * 1000 });
  }

  #draw() {
    const wantsTrouble = byId('events-form').elements.kind.value === 'trouble';
    const all = inOrder(this.#refusals, this.#others).reverse().filter(({ thing }) => WORDS[thing.event]);
    const chosen = all.filter(({ thing }) => !wantsTrouble || isTrouble(thing));
    const list = byId('happened');
    const known = new Map([...list.children].map((line) => [line.key, line]));
    const lines = chosen.map(({ key, thing: event }) => {
      const line = known.get(key);
      return line && line.count === event.count ? line : this.#line(key, event);
    });
    const { parentElement: view } = list;
    const before = view.scrollHeight;
    const focused = document.activeElement;
    if (lines.length !== list.children.length || lines.some((line, index) => line !== list.children[index])) list.replaceChildren(...lines);
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
    // Whoever reads further down keeps the place.
    if (view.scrollTop > 0) view.scrollTop += view.scrollHeight - before;
    const troubles = all.filter(({ thing }) => isTrouble(thing)).length;
    const note = [all.length && count(all.length), troubles && some(troubles, 'problem')].filter(Boolean).join(' · ');
    setText(this.#section.querySelector('.note'), note);
    const said = this.#section.querySelector('.said');
    said.hidden = chosen.length > 0;
    setText(said, all.length ? 'No problems among the latest events.' : this.#said);
  }

  #line(key, event) {
    const { event: kind, client, node, time } = event;
    const about = ['node_up', 'node_down'].includes(kind) ? make('b', {}, reveal(String(node)))
      : client ? clientName(String(client), client === this.#client.id, () => this.#openClient(String(client))) : undefined;
    const words = `${WORDS[kind](event)}${event.count > 1 ? ` (${count(event.count)} times)` : ''}`;
    const line = make('li', { className: isTrouble(event) ? 'trouble' : '' }, make('time', {}, clock(time)),
      make('div', {}, ...(about ? [about, ' '] : []), make('span', { className: 'words' }, words)));
    line.key = key;
    line.count = event.count;
    return line;
  }
}


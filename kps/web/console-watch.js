// The panel that shows messages as they come, at a pace that a page can bear.

import { alien, byId, clock, count, make, reveal, setText, shown } from './console-view.js';

const KEPT = 500; // lines in the list
const PACE = 250; // milliseconds between changes of the list
const AT_ONCE = 50; // messages that one change shows; the older ones are skipped, and counted
const PREVIEW = 300;
const LONGEST = 64 * 1024; // characters of a payload that are kept

/** The newest messages that wait to be shown. */
class Inbox {
  #messages = [];
  total = 0;

  push(message) {
    this.#messages.push(message);
    this.total++;
    if (this.#messages.length > 2 * KEPT) this.#messages = this.#messages.slice(-KEPT);
  }

  take(limit) {
    const newest = this.#messages.slice(-limit).reverse();
    this.#messages = [];
    return newest;
  }
}

export class Watch {
  #client;
  #changed;
  #subscriptions = new Map(); // topic -> subscription
  #inbox = new Inbox();
  #list = byId('messages');
  #isPaused = false;
  #timer;
  #drawnAt = 0;
  #accounted = 0; // messages that were shown or skipped
  #skipped = 0;

  /** `changed` is called when other topics are watched than before. */
  constructor(client, changed) {
    this.#client = client;
    this.#changed = changed;
    byId('watch-form').addEventListener('submit', (event) => this.#submit(event));
    byId('pause').addEventListener('click', () => this.#pause(!this.#isPaused));
    byId('clear').addEventListener('click', () => this.#clear());
  }

  has(topic) {
    return this.#subscriptions.has(topic);
  }

  toggle(topic) {
    if (this.has(topic)) this.remove(topic);
    else this.add(topic);
  }

  add(topic) {
    if (this.has(topic)) return;
    try {
      const subscription = this.#client.subscribe(topic, (message) => { this.take(message); });
      this.#subscriptions.set(topic, subscription);
      subscription.then(undefined, (error) => this.#lost(topic, error));
      this.#say();
    } catch (error) {
      this.#say(`Cannot watch that: ${error.message}.`);
    }
    this.#show();
  }

  remove(topic) {
    this.#subscriptions.get(topic)?.unsubscribe();
    this.#subscriptions.delete(topic);
    this.#say();
    this.#show();
  }

  /** Take a message of a watched topic, or a direct one, which has no topic. */
  take({ topic, from, data }) {
    this.#inbox.push({ time: Date.now(), topic, from, data });
    this.#drawSoon();
  }

  /** The server refused something; tells whether it was a topic that is watched here. */
  refused(error) {
    const isOurs = error.request === 'subscribe' && this.has(error.topic);
    // The client asks again for what is refused for now.
    if (isOurs && error.isTemporary) this.#say(`${shown(error.topic)} is not watched for now: ${reveal(error.message)}.`);
    else if (isOurs) this.#lost(error.topic, error);
    return isOurs;
  }

  #lost(topic, error) {
    this.remove(topic);
    this.#say(`${shown(topic)} is not watched: ${reveal(error.message)}.`);
  }

  #say(problem = '') {
    setText(byId('watch-status'), problem);
  }

  #submit(event) {
    event.preventDefault();
    const field = byId('watch-topic');
    this.add(field.value);
    if (this.has(field.value)) field.value = '';
  }

  #show() {
    byId('watched').replaceChildren(...[...this.#subscriptions.keys()].map((topic) => {
      const chip = make('button', { type: 'button', onclick: () => this.#close(topic) }, alien('span', topic));
      chip.ariaLabel = `Stop watching ${shown(topic)}`;
      return make('li', {}, chip);
    }));
    this.#changed();
  }

  #close(topic) {
    this.remove(topic);
    byId('watch-topic').focus(); // the button that had the focus is gone
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    byId('pause').ariaPressed = isPaused;
    this.#draw(KEPT);
  }

  #clear() {
    this.#inbox.take(0);
    this.#inbox.total = this.#accounted = this.#skipped = 0;
    this.#list.replaceChildren();
    this.#draw(0);
  }

  #drawSoon() {
    this.#timer ??= setTimeout(() => this.#draw(AT_ONCE), Math.max(0, this.#drawnAt + PACE - Date.now()));
  }

  #draw(limit) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#drawnAt = Date.now();
    if (!this.#isPaused) this.#insert(this.#inbox.take(limit));
    const waiting = this.#inbox.total - this.#accounted;
    const parts = [[this.#inbox.total, 'received'], [this.#skipped, 'skipped'], [waiting, 'wait']];
    setText(byId('watch-count'), parts.map(([number, what]) => number && `${count(number)} ${what}`).filter(Boolean).join(' · '));
    byId('watch').querySelector('.empty').hidden = this.#list.childElementCount > 0;
  }

  #insert(messages) {
    const skipped = this.#inbox.total - this.#accounted - messages.length;
    this.#accounted = this.#inbox.total;
    this.#skipped += skipped;
    const lines = messages.map(line);
    if (skipped) lines.push(make('li', { className: 'skipped' }, `skipped ${count(skipped)}: they came faster than anyone can read`));
    const { parentElement: view } = this.#list;
    const before = view.scrollHeight;
    this.#list.prepend(...lines);
    // Whoever reads further down keeps the place.
    if (view.scrollTop > 0) view.scrollTop += view.scrollHeight - before;
    while (this.#list.childElementCount > KEPT) this.#list.lastElementChild.remove();
  }
}

function line({ time, topic, from, data }) {
  const json = JSON.stringify(data ?? null);
  const kept = json.slice(0, LONGEST);
  const stamp = `${clock(time)}.${String(time % 1000).padStart(3, '0')}`;
  const preview = make('code', { className: 'alien' }, reveal(kept.slice(0, PREVIEW)));
  const name = topic ? alien('b', topic) : make('b', {}, 'to this console');
  const sender = alien('span', from);
  sender.classList.add('from');
  const details = make('details', {}, make('summary', {}, make('time', {}, stamp), name, sender, preview));
  details.addEventListener('toggle', () => details.append(make('pre', { textContent: pretty(kept, json.length) })), { once: true });
  return make('li', {}, details);
}

function pretty(kept, length) {
  if (kept.length < length) return `${reveal(kept)}… (${count(length - kept.length)} more characters)`;
  // Line ends and the like are escapes within JSON: those that are here now are for people.
  return JSON.stringify(JSON.parse(kept), null, 2).split('\n').map(reveal).join('\n');
}

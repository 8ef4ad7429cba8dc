// The panel that shows messages as they come, at a pace that a page can bear.

import { Pattern, Unsupported } from './kps.js';
import { alien, byId, clock, count, keyOf, make, reveal, setText, shown, subjectName } from './console-view.js';

const KEPT = 500; // lines in the list
const PACE = 250; // milliseconds between changes of the list
const AT_ONCE = 50; // messages that one change shows; the older ones are skipped, and counted
const PREVIEW = 300;
const ALL = '**'; // the pattern of all topics
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
  #watched = new Map(); // key of a topic or pattern -> its kind and name, and the subscription
  #inbox = new Inbox();
  #list = byId('messages');
  #isPaused = false;
  #timer;
  #drawnAt = 0;
  #accounted = 0; // messages that were shown or skipped
  #skipped = 0;

  /** `changed` is called when other topics or patterns are watched than before. */
  constructor(client, changed) {
    this.#client = client;
    this.#changed = changed;
    byId('watch-form').addEventListener('submit', (event) => this.#submit(event));
    byId('watch-form').addEventListener('change', () => this.#showKind());
    byId('pause').addEventListener('click', () => this.#pause(!this.#isPaused));
    byId('clear').addEventListener('click', () => this.#clear());
    this.#showKind();
  }

  has(key) {
    return this.#watched.has(key);
  }

  toggle(kind, name) {
    const key = keyOf(kind, name);
    if (this.has(key)) this.remove(key);
    else this.add(kind, name);
  }

  add(kind, name) {
    const key = keyOf(kind, name);
    if (this.has(key)) return;
    try {
      const pattern = kind === 'pattern' && new Pattern(name);
      const subscription = this.#client.subscribe(pattern || name, (message) => { this.#takeOnce(key, message); });
      this.#watched.set(key, { kind, name, pattern, subscription });
      subscription.then(undefined, (error) => this.#lost(key, error));
      this.#say();
    } catch (error) {
      this.#say(`Cannot watch that: ${error.message}.`);
    }
    this.#show();
  }

  remove(key) {
    this.#watched.get(key)?.subscription.unsubscribe();
    this.#watched.delete(key);
    this.#say();
    this.#show();
  }

  /** Several of what is watched may have a topic: the topic itself, or else the first, shows it. */
  #takeOnce(key, message) {
    const { topic } = message;
    const own = keyOf('topic', topic);
    const isHidden = topic.startsWith('__'); // then only patterns have it that say so
    const hasIt = ({ pattern }) => pattern && pattern.matches(topic) && (!isHidden || pattern.text.startsWith('__'));
    const first = this.has(own) ? own : [...this.#watched.keys()].find((each) => hasIt(this.#watched.get(each)));
    if (key === first) this.take(message);
  }

  /** Take a message of a watched topic, or a direct one, which has no topic. */
  take({ topic, from, data }) {
    this.#inbox.push({ time: Date.now(), topic, from, data });
    this.#drawSoon();
  }

  /** The server refused something; tells whether it was a subscription from here. */
  refused(error) {
    const { topic, pattern, request } = error;
    const key = pattern ? keyOf('pattern', pattern) : keyOf('topic', topic);
    const isOurs = (request === 'subscribe' || error instanceof Unsupported) && this.has(key);
    // The client asks again for what is refused for now.
    if (isOurs && error.isTemporary) this.#say(`${shown(pattern ?? topic)} is not watched for now: ${reveal(error.message)}.`);
    else if (isOurs) this.#lost(key, error);
    return isOurs;
  }

  #lost(key, error) {
    const { name } = this.#watched.get(key) ?? {};
    if (name === undefined) return; // it was told before
    this.remove(key);
    this.#say(`${shown(name)} is not watched: ${reveal(error.message)}.`);
  }

  #say(problem = '') {
    setText(byId('watch-status'), problem);
  }

  get #kind() {
    return byId('watch-form').elements.kind.value;
  }

  #showKind() {
    const isTopic = this.#kind === 'topic';
    const field = byId('watch-topic');
    setText(byId('watch-label'), isTopic ? 'Topic to watch' : 'Pattern to watch');
    field.placeholder = isTopic ? 'Topic' : 'Pattern, such as sensors/**';
    field.disabled = this.#kind === 'all';
    if (isTopic) field.setAttribute('list', 'topic-names');
    else field.removeAttribute('list');
  }

  #submit(event) {
    event.preventDefault();
    if (this.#kind === 'all') {
      this.add('pattern', ALL);
      return;
    }
    const field = byId('watch-topic');
    const { value } = field;
    this.add(this.#kind, value);
    if (!this.has(keyOf(this.#kind, value))) return;
    field.value = '';
    if (this.#kind === 'topic' && value.includes('*')) this.#say('This is one topic, with a star in its name. For all that match, choose Pattern.');
  }

  #show() {
    byId('watched').replaceChildren(...[...this.#watched].map(([key, { kind, name }]) => {
      const does = make('span', { className: 'hidden' }, 'Stop watching ');
      const chip = make('button', { type: 'button', onclick: () => this.#close(key) }, does, subjectName(kind, name));
      return make('li', {}, chip);
    }));
    this.#changed();
  }

  #close(key) {
    this.remove(key);
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
    byId('watch').querySelector('.said').hidden = this.#list.childElementCount > 0;
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

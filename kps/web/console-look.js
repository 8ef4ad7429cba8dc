// What is common to all that is shown beside the rest of the page: facts, lists, and that it looks again and again.

import { make, reveal, setText } from './console-view.js';

const PACE = 2000; // milliseconds between two looks

/** A list of terms with their values, which change; a value of undefined leaves its term out. */
class Facts {
  element = make('dl', { className: 'facts' });
  #values = new Map();

  show(facts) {
    for (const [term, value] of Object.entries(facts)) {
      const isLeftOut = value === undefined || value === '';
      let known = this.#values.get(term);
      if (!known && !isLeftOut) {
        known = make('div', {}, make('dt', {}, term), make('dd'));
        this.#values.set(term, known);
        this.element.append(known);
      }
      if (known) known.hidden = isLeftOut;
      if (!isLeftOut) setText(known.lastChild, value);
    }
  }
}

/** A titled list that is made anew only if what it shows has changed. */
export class Part {
  element;
  #title;
  #list = make('ul', { tabIndex: 0 }); // it may be long, and be scrolled with the keyboard
  #rest = make('p', { className: 'rest' });
  #key;

  constructor() {
    this.#title = make('h3');
    this.element = make('section', { hidden: true }, this.#title, this.#list, this.#rest);
  }

  /** `line(item)` returns what a line has; `rest` says what is not in the list. */
  show(title, items, line, rest = '') {
    setText(this.#title, title);
    this.#list.ariaLabel = title;
    setText(this.#rest, rest);
    this.#rest.hidden = !rest;
    this.element.hidden = false;
    const key = JSON.stringify(items);
    if (key === this.#key) return;
    this.#key = key;
    const focused = this.#list.contains(document.activeElement);
    this.#list.replaceChildren(...items.map((item) => make('li', {}, ...[line(item)].flat())));
    if (focused) this.element.closest('dialog').focus();
  }

  hide() {
    this.element.hidden = true;
  }
}

/** One thing that is shown, as long as it is open. `topic` is where the server is asked about it, `question` what. */
export class Look {
  #timer;
  rates = undefined; // counts of the look before, and when

  constructor(client, page, topic, question) {
    this.client = client;
    this.page = page;
    this.topic = topic;
    this.question = question;
    this.status = make('p', { className: 'said', role: 'status' }, 'Loading …');
    this.facts = new Facts();
    this.actions = make('div', { className: 'actions' });
    this.parts = make('div', { className: 'parts' });
    this.elements = [this.actions, this.status, this.facts.element, this.parts];
  }

  async look() {
    clearTimeout(this.#timer);
    try {
      const told = await this.client.request(this.topic, this.question, { timeout: 10_000 });
      if (this.isClosed) return;
      setText(this.status, '');
      this.show(told);
    } catch (error) {
      if (this.isClosed) return;
      this.failed(error);
    }
    this.status.hidden = !this.status.textContent;
    clearTimeout(this.#timer); // of another look that was under way
    if (!this.isClosed) this.#timer = setTimeout(() => this.look(), PACE);
  }

  failed(error) {
    const isAway = ['NotConnected', 'ConnectionLost', 'RequestTimeout'].includes(error.name);
    setText(this.status, isAway ? 'There is no answer at the moment. What is shown may be old.' : `${reveal(error.message)}.`);
  }

  /** How much counts have grown in a second since the look before. */
  growth(counts) {
    const now = performance.now();
    const { before, time } = this.rates ?? {};
    this.rates = { before: counts, time: now };
    if (!before) return counts.map(() => undefined);
    return counts.map((each, index) => Math.max(0, each - before[index]) / ((now - time) / 1000));
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.#timer);
  }
}

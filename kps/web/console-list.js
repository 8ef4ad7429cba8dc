// A list of very many things: what the figures tell of the first ones, or what the server finds among all of them.

import { Table } from './console-table.js';
import { count, make, reveal, setText } from './console-view.js';

const AT_ONCE = 200; // rows of one step
const MOST = 1000; // rows that a server tells of a search
const PACE = 2000; // milliseconds between two searches for the same
const TYPING = 250; // milliseconds in which more may be typed
const PATIENCE = 10_000; // milliseconds for an answer

/**
 * `search`: `{ topic, key, sorts, read(found), withRates(rows, before, seconds) }`: where the server searches, what it calls the
 * list, by what it sorts for a column, and how its answers are read. `words`: `{ empty, what }`: what is said while there
 * are none, and what they are called.
 */
export class List {
  #section;
  #client;
  #columns;
  #table;
  #search;
  #words;
  #rows; // of the figures
  #total = 0;
  #isEmpty = false;
  #refusal = '';
  #limit = AT_ONCE;
  #found; // the latest answer to a search: when it came, how many there are, and the rows
  #failure = '';
  #timer;
  #isAsking = false;

  constructor(section, client, columns, keyOf, search, words) {
    this.#section = section;
    this.#client = client;
    this.#columns = columns;
    this.#search = search;
    this.#words = words;
    this.#table = new Table(section, columns, keyOf, () => this.#changed());
    this.#filter.addEventListener('input', () => this.#changed());
    this.#further.addEventListener('click', () => { this.#limit = Math.min(MOST, this.#limit + AT_ONCE); this.#changed(); });
    this.draw();
  }

  /** Take what the figures tell: the first rows, and how many there are. `isEmpty` is said of those that count. */
  take(rows, total, isEmpty) {
    this.#rows = rows;
    this.#total = total;
    this.#isEmpty = isEmpty;
    this.#refusal = '';
    if (!this.#needsSearch) this.#found = undefined;
    this.draw();
    this.#searchIn(PACE);
  }

  /** The server tells nothing. */
  refuse(reason) {
    this.#rows = this.#found = undefined;
    this.#total = 0;
    this.#refusal = reason;
    this.draw();
  }

  draw() {
    const { rows, found } = this.#shown();
    this.#table.draw(rows);
    const total = count(this.#total);
    const isCut = this.#filter.value.trim() && rows.length < found;
    const part = isCut ? `${count(rows.length)} of ${count(found)} found` : `${count(rows.length)} of ${total}`;
    setText(this.#section.querySelector('.note'), !this.#rows ? '' : rows.length < this.#total ? part : total);
    this.#further.hidden = rows.length >= found || rows.length >= MOST || rows.length < this.#limit;
    this.#say(rows, found);
  }

  get #filter() {
    return this.#section.querySelector('input[type=search]');
  }

  get #further() {
    return this.#section.querySelector('.further');
  }

  /** Whether the figures do not tell all there are. */
  get #needsSearch() {
    return this.#total > (this.#rows?.length ?? Infinity);
  }

  get #question() {
    const { name, descending } = this.#table.sort;
    return { filter: this.#filter.value.trim() || undefined, sort: this.#search.sorts[name], descending, limit: this.#limit };
  }

  #shown() {
    if (this.#found) return this.#found;
    const rows = this.#rows ?? [];
    const wanted = this.#filter.value.trim().toLowerCase();
    const texts = this.#columns.filter(({ isText }) => isText);
    const fits = (row) => texts.some(({ value }) => value(row).toLowerCase().includes(wanted));
    const chosen = this.#table.sorted(wanted ? rows.filter(fits) : rows);
    return { rows: chosen, found: chosen.length };
  }

  #say(rows, found) {
    const said = this.#section.querySelector('.said');
    const wanted = this.#filter.value.trim();
    const words = this.#refusal || (this.#failure && `The search has failed: ${this.#failure}`)
      || (!this.#rows && 'Loading …')
      || (wanted && !rows.length && `No ${this.#words.what} fits “${reveal(wanted)}”.`)
      || (this.#isEmpty && !wanted && this.#words.empty)
      || (found > MOST && rows.length >= MOST && `These are the first ${count(MOST)}. Filter to find others.`) || '';
    said.hidden = !words;
    if (said.words === words) return;
    said.words = words;
    // Commands in the words are between backquotes.
    said.replaceChildren(...words.split('`').map((part, index) => (index % 2 ? make('code', {}, part) : part)));
  }

  /** Another filter, order or length. */
  #changed() {
    if (!this.#needsSearch) this.draw();
    else this.#searchIn(TYPING, true);
  }

  #searchIn(delay, isNew = false) {
    if (!this.#needsSearch || (this.#timer && !isNew)) return;
    clearTimeout(this.#timer);
    const isFirst = !this.#found && !isNew;
    this.#timer = setTimeout(() => this.#searchNow(), isFirst ? 0 : delay);
  }

  async #searchNow() {
    this.#timer = undefined;
    if (this.#isAsking || document.hidden || !this.#needsSearch) return;
    const question = this.#question;
    this.#isAsking = true;
    try {
      this.#takeFound(await this.#client.request(this.#search.topic, question, { timeout: PATIENCE }));
      this.#failure = '';
    } catch (error) {
      // The list stays as it was. When the server is busy or away, the next search may do better.
      const isForNow = error.isTemporary || error.name !== 'ServerError';
      this.#failure = isForNow ? '' : reveal(error.message);
    } finally {
      this.#isAsking = false;
    }
    this.draw();
    const isOutdated = JSON.stringify(this.#question) !== JSON.stringify(question);
    if (isOutdated) this.#searchIn(0, true);
  }

  #takeFound(answer) {
    if (!this.#needsSearch) return; // there are few by now, and the figures tell all
    const time = performance.now();
    const before = this.#found;
    const seconds = before ? (time - before.time) / 1000 : 0;
    const rows = this.#search.withRates(this.#search.read(answer?.[this.#search.key]), before?.rows ?? [], seconds);
    this.#found = { time, rows, found: Math.max(rows.length, Number(answer?.found) || 0) };
  }
}

// A table that follows what the server tells: rows are kept, moved and changed, not made anew.

import { count, make, setText } from './console-view.js';

const { compare } = new Intl.Collator('en', { numeric: true });
const holdsStill = matchMedia('(hover: hover)');

/**
 * `columns`: `{ name, label, value(row), text(row), build(cell, key) }`. `value` is what is sorted by,
 * and a number unless `isText`; `text` is shown, or what `build` puts into the cell once: it returns
 * a function that is called with each new row.
 */
export class Table {
  #section;
  #columns;
  #keyOf;
  #body;
  #rows = [];
  #total = 0;
  #lines = new Map(); // key -> the table's row, and what updates it
  #sort;

  constructor(section, columns, keyOf) {
    this.#section = section;
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#body = section.querySelector('tbody');
    this.#sort = { column: columns[0], sign: 1 };
    section.querySelector('thead').append(make('tr', {}, ...columns.map((column) => this.#heading(column))));
    section.querySelector('input')?.addEventListener('input', () => this.draw());
    this.#markSort();
  }

  /** `total` is how many there are, of which `rows` may be only the first; `others` whether any is not our own. */
  show(rows, total = rows.length, others = true) {
    this.#rows = rows;
    this.#total = total;
    const hint = this.#section.querySelector('.empty');
    if (hint) hint.hidden = others;
    this.draw();
  }

  draw() {
    const wanted = this.#section.querySelector('input')?.value.trim().toLowerCase();
    const matches = (row) => this.#columns.some(({ isText, value }) => isText && value(row).toLowerCase().includes(wanted));
    const rows = wanted ? this.#rows.filter(matches) : this.#rows;
    const { column: { value, isText }, sign } = this.#sort;
    const order = isText ? compare : (a, b) => a - b;
    const sorted = [...rows].sort((a, b) => sign * order(value(a), value(b)) || compare(this.#keyOf(a), this.#keyOf(b)));
    this.#place(sorted);
    const total = count(this.#total);
    setText(this.#section.querySelector('.note'), rows.length < this.#total ? `${rows.length} of ${total}` : total);
  }

  #place(rows) {
    const focused = document.activeElement;
    const keys = new Set(rows.map(this.#keyOf));
    for (const [key, { element }] of this.#lines) {
      if (!keys.has(key)) { element.remove(); this.#lines.delete(key); }
    }
    // What is about to be clicked must not move away.
    const isHeld = holdsStill.matches && this.#body.matches(':hover');
    let next = this.#body.firstElementChild;
    for (const row of rows) {
      const known = this.#lines.get(this.#keyOf(row));
      const { element, updates } = known ?? this.#line(row);
      for (const update of updates) update(row);
      if (isHeld) { if (!known) this.#body.append(element); }
      else if (element === next) next = next.nextElementSibling;
      else this.#body.insertBefore(element, next);
    }
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
  }

  #line(row) {
    const key = this.#keyOf(row);
    const element = make('tr');
    const updates = this.#columns.map((column, index) => {
      const cell = make(index ? 'td' : 'th', { className: this.#classOf(column) });
      if (!index) cell.scope = 'row';
      element.append(cell);
      return column.build?.(cell, key, row) ?? ((now) => this.#fill(cell, column, now));
    });
    const line = { element, updates };
    this.#lines.set(key, line);
    return line;
  }

  #fill(cell, { text, value, isAlarm }, row) {
    setText(cell, text(row));
    cell.classList.toggle('zero', !value(row));
    cell.classList.toggle('alarm', Boolean(isAlarm && value(row)));
  }

  #classOf({ name, isText, isPlain }) {
    return `c-${name}${isText || isPlain ? '' : ' number'}`;
  }

  #heading(column) {
    const { label, value } = column;
    const content = value ? make('button', { type: 'button', onclick: () => this.#sortBy(column) }, label)
      : make('span', { className: 'hidden' }, label);
    return make('th', { scope: 'col', className: this.#classOf(column) }, content);
  }

  #sortBy(column) {
    const isSame = this.#sort.column === column;
    this.#sort = { column, sign: isSame ? -this.#sort.sign : column.isText ? 1 : -1 };
    this.#markSort();
    this.draw();
  }

  #markSort() {
    const { column, sign } = this.#sort;
    [...this.#section.querySelector('thead tr').children].forEach((heading, index) => {
      heading.ariaSort = this.#columns[index] === column ? (sign > 0 ? 'ascending' : 'descending') : null;
    });
  }
}

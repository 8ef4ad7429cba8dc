// A table that follows what the server tells: rows are kept, moved and changed, not made anew.

import { make, setText } from './console-view.js';

const { compare } = new Intl.Collator('en', { numeric: true });
const holdsStill = matchMedia('(hover: hover)');

/**
 * `columns`: `{ name, label, value(row), text(row), build(cell, key) }`. `value` is what is sorted by,
 * and a number unless `isText`; `text` is shown, or what `build` puts into the cell once: it returns
 * a function that is called with each new row. `onSort` is called when another order is chosen.
 */
export class Table {
  #section;
  #columns;
  #keyOf;
  #onSort;
  #body;
  #lines = new Map(); // key -> the table's row, and what updates it
  #sort;
  #choice; // of the column to sort by, where not all columns have room
  #direction;

  constructor(section, columns, keyOf, onSort) {
    this.#section = section;
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#onSort = onSort;
    this.#body = section.querySelector('tbody');
    this.#sort = { column: columns[0], sign: 1 };
    section.querySelector('thead').append(make('tr', {}, ...columns.map((column) => this.#heading(column))));
    this.#offerOrder(section.querySelector('.sorter'));
    this.#markSort();
  }

  /** The name of the column that rows are sorted by, and whether the largest value is first. */
  get sort() {
    const { column, sign } = this.#sort;
    return { name: column.name, descending: sign < 0 };
  }

  /** Put rows in the order that was chosen. */
  sorted(rows) {
    const { column: { value, isText }, sign } = this.#sort;
    const order = isText ? compare : (a, b) => a - b;
    return [...rows].sort((a, b) => sign * order(value(a), value(b)) || compare(this.#keyOf(a), this.#keyOf(b)));
  }

  /** Show rows, in the order in which they are. */
  draw(rows) {
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

  #classOf({ name, isText, isPlain, isName }) {
    return `c-${name}${isText || isPlain ? '' : ' number'}${isName ? ' alien' : ''}`;
  }

  #heading(column) {
    const { label, value } = column;
    const content = value ? make('button', { type: 'button', onclick: () => this.#sortBy(column) }, label)
      : make('span', { className: 'hidden' }, label);
    return make('th', { scope: 'col', className: this.#classOf(column) }, content);
  }

  /** Offer all orders beside the table: it may have no room for some columns. */
  #offerOrder(place) {
    if (!place) return;
    const sortable = this.#columns.filter(({ value }) => value);
    const choose = () => this.#sortBy(sortable.find(({ name }) => name === this.#choice.value));
    const title = this.#section.querySelector('h2').textContent.toLowerCase();
    this.#choice = make('select', { ariaLabel: `Sort ${title} by`, onchange: choose },
      ...sortable.map(({ name, label }) => make('option', { value: name }, label)));
    this.#direction = make('button', { type: 'button', onclick: choose });
    place.append(this.#choice, this.#direction);
  }

  #sortBy(column) {
    const isSame = this.#sort.column === column;
    this.#sort = { column, sign: isSame ? -this.#sort.sign : column.isText ? 1 : -1 };
    this.#markSort();
    this.#onSort();
  }

  #markSort() {
    const { column, sign } = this.#sort;
    [...this.#section.querySelector('thead tr').children].forEach((heading, index) => {
      heading.ariaSort = this.#columns[index] === column ? (sign > 0 ? 'ascending' : 'descending') : null;
    });
    if (!this.#choice) return;
    this.#choice.value = column.name;
    this.#direction.ariaLabel = sign > 0 ? 'Ascending, change to descending' : 'Descending, change to ascending';
    setText(this.#direction, sign > 0 ? '▲' : '▼');
  }
}

// How the console makes elements and writes values. Everything from the bus is hostile: it gets
// into the page as text only, through `shown` if it is a name.

const LONGEST_NAME = 160;
// What shows nothing, or only as a blank, or changes the order of what is beside it.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\u2800]|[^\P{Zs} ]/gu;
// In a name also a space that is not between two characters, and what looks like an escape of ours.
const DOUBTFUL = /^ +| +$|(?<= ) +|\\(?=u)/gu;
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

export const byId = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An element that shows a name given by others. Where it has no room, a tip has all of it. */
export const alien = (tag, name) => make(tag, { className: 'alien', textContent: shown(name), fullName: reveal(name) });

/** A word beside a name that says what it is. */
export const badge = (word) => make('span', { className: 'badge' }, word);

/** A client's id, marked if it is this page's own; a button, if there is something to do `onClick`. */
export function clientName(id, isOwn, onClick) {
  const name = make('div', { className: 'name' }, nameOf(id, onClick));
  if (isOwn) name.append(badge('you'));
  return name;
}

/** A topic or a pattern as one text: both may have the same name. */
export const keyOf = (kind, name) => `${kind} ${name}`;

/** A topic's name, or a pattern, which is marked; a button, if there is something to do `onClick`. */
export function subjectName(kind, name, onClick) {
  const element = make('div', { className: 'name' }, nameOf(name, onClick));
  if (kind === 'pattern') element.append(badge('pattern'));
  return element;
}

function nameOf(name, onClick) {
  const element = alien(onClick ? 'button' : 'span', name);
  if (onClick) Object.assign(element, { type: 'button', onclick: onClick });
  return element;
}

/** What is stored under a key, or from now on is. Storage can be forbidden; then it lasts as long as the page. */
export function stored(kind, key, value) {
  try {
    if (value !== undefined) window[kind].setItem(key, value);
    return window[kind].getItem(key);
  } catch {
    return value;
  }
}

/** A number of a statistic, 0 if there is none. */
export const number = (value) => (Number.isFinite(value) ? value : 0);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function escaped(character) {
  const code = character.codePointAt().toString(16);
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, '0')}`;
}

/** A text of others, with everything invisible as an escape. */
export const reveal = (text) => text.replace(INVISIBLE, escaped);

/** A name as people can read it: not endless, and nothing that makes it look like another. */
export function shown(name) {
  const visible = name.replace(DOUBTFUL, (found) => [...found].map(escaped).join(''));
  return reveal(visible.length > LONGEST_NAME ? `${visible.slice(0, LONGEST_NAME)}…` : visible);
}

export const count = (number) => (number < 1e5 ? whole : short).format(number);

export function rate(number) {
  if (number === undefined) return '–';
  return number < 10 ? fine.format(number) : count(number);
}

export function bytes(number) {
  if (number === undefined) return '–';
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(number || 1) / 3)));
  const value = number / 1000 ** power;
  return `${(value < 10 && power ? fine : whole).format(value)} ${['B', 'kB', 'MB', 'GB', 'TB'][power]}`;
}

export function duration(seconds) {
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return '0 s';
  return units.slice(first, first + 2).map(([name, size], index) => {
    const value = Math.floor((index ? seconds % units[first][1] : seconds) / size);
    return index && !value ? '' : `${value} ${name}`;
  }).join(' ').trim();
}

export const some = (howMany, what) => `${count(howMany)} ${what}${howMany === 1 ? '' : 's'}`;

export const clock = (time) => new Date(time).toLocaleTimeString('en-GB');

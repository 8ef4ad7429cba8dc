// The last minutes as lines. SVG is crisp at every density, and takes its colours from the style sheet.

import { bytes, clock, rate, setText } from './console-view.js';

const MINUTES = 5;
const SPAN = MINUTES * 60_000;
const GAP = 3500; // milliseconds without figures, over which no line is drawn
const FLOOR = 20; // pixels below the lines, for the labels of the time axis
const ROOM = 10; // above them
const GUTTER = 44; // left of them
const LABEL = 62; // pixels that a label of the time axis takes, with room beside it
const STEPS = { ArrowLeft: 1000, ArrowDown: 1000, ArrowRight: -1000, ArrowUp: -1000, PageDown: 30_000, PageUp: -30_000, Home: SPAN, End: -SPAN };

export function svg(tag, attributes, text = '') {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** The path through `points`, [x, y] each; a point without y, or after a gap, begins anew. */
const path = (points) => points.map(([x, y, isNew], index) =>
  `${isNew || !index ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/** A line that fills its box; `points` are how long ago, from 1 on the left to 0, and a value. */
export function sparkPath(points, width, height) {
  const top = Math.max(...points.map(([, value]) => value), 1e-9);
  return path(points.map(([ago, value]) => [width * (1 - ago), height - 1.5 - (value / top) * (height - 3)]));
}

/** The distance of ticks, a round number, so that three of them reach `top`. */
function tickStep(top) {
  const rough = top / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

class Chart {
  #card;
  #svg;
  #names;
  #format;

  constructor(card) {
    this.#card = card;
    this.#svg = card.querySelector('svg');
    this.#names = [...card.querySelectorAll('[data-series]')].map(({ dataset }) => dataset.series);
    this.#format = this.#names.length > 1 ? bytes : rate;
  }

  /** What it shows, for those who hear it. */
  get text() {
    return [...this.#card.querySelectorAll('h2, p')].map(({ innerText }) => innerText).join(' ');
  }

  /** The lines end at the time `end`; `chosen` is the sample under the cursor, if there is one. */
  draw(samples, end, chosen) {
    const { clientWidth: width, clientHeight: height } = this.#svg;
    const top = Math.max(1, ...samples.flatMap((sample) => this.#names.map((name) => sample[name])));
    const step = tickStep(top);
    const ticks = Array.from({ length: Math.ceil(top / step) + 1 }, (_, index) => index * step);
    const x = (time) => width - 4 - ((end - time) / SPAN) * (width - GUTTER - 4);
    const y = (value) => height - FLOOR - (value / ticks.at(-1)) * (height - FLOOR - ROOM);
    const parts = ticks.flatMap((value) => this.#tick(value, y(value), width));
    const minute = (width - GUTTER - 4) / MINUTES;
    const apart = [1, 2, 4].find((minutes) => minutes * minute >= LABEL) ?? MINUTES;
    for (let ago = 0; ago < MINUTES; ago += apart) parts.push(this.#minute(ago, x(end - ago * 60_000), height));
    this.#names.forEach((name, index) => {
      const isFirst = index === 0;
      const points = samples.map((sample) => [x(sample.time), y(sample[name]), sample.isNew]);
      if (isFirst) parts.push(...this.#areas(points, y(0)));
      parts.push(svg('path', { class: isFirst ? 'series' : 'series second', d: path(points) }));
    });
    if (chosen) parts.push(...this.#cursor(chosen, x(chosen.time), y, height));
    this.#svg.replaceChildren(...parts);
    this.#tell(chosen ?? samples.at(-1), chosen && clock(chosen.time));
  }

  #tick(value, y, width) {
    return [
      svg('line', { class: 'grid', x1: GUTTER, x2: width, y1: Math.round(y), y2: Math.round(y) }),
      svg('text', { x: GUTTER - 6, y: y + 4, 'text-anchor': 'end' }, this.#format(value)),
    ];
  }

  #minute(ago, x, height) {
    const label = { x, y: height - 5, 'text-anchor': ago ? 'middle' : 'end' };
    return svg('text', label, ago ? `−${ago} min` : 'now');
  }

  /** What is under the first line, for each stretch without a gap. */
  #areas(points, floor) {
    const stretches = [];
    for (const point of points) {
      if (point[2] || !stretches.length) stretches.push([]);
      stretches.at(-1).push([point[0], point[1]]);
    }
    return stretches.map((line) => {
      const closed = [[line[0][0], floor], ...line, [line.at(-1)[0], floor]];
      return svg('path', { class: 'area', d: path(closed) });
    });
  }

  #cursor(sample, x, y, height) {
    const dots = this.#names.map((name, index) =>
      svg('circle', { class: index ? 'dot second' : 'dot', cx: x, cy: y(sample[name]), r: 4 }));
    const at = Math.round(x);
    return [svg('line', { class: 'cursor', x1: at, x2: at, y1: ROOM, y2: height - FLOOR }), ...dots];
  }

  #tell(sample, moment = '') {
    for (const name of this.#names) {
      setText(this.#card.querySelector(`[data-series=${name}]`), this.#format(sample?.[name]));
    }
    setText(this.#card.querySelector('.moment'), moment);
  }
}

/** Charts that share their time axis and a cursor, which the pointer or the arrow keys move. */
export class Charts {
  #root;
  #charts;
  #samples = [];
  #ago; // where the cursor is: milliseconds before the newest sample

  constructor(root) {
    this.#root = root;
    this.#charts = [...root.querySelectorAll('.chart')].map((card) => new Chart(card));
    root.addEventListener('pointermove', (event) => this.#point(event));
    root.addEventListener('pointerdown', (event) => this.#point(event));
    for (const event of ['pointerleave', 'focus', 'blur']) root.addEventListener(event, () => this.#move(undefined));
    root.addEventListener('keydown', (event) => this.#press(event));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  add(sample) {
    if (this.#samples.at(-1)?.time > sample.time) this.#samples = []; // the clock was set back
    const before = this.#samples.at(-1);
    this.#samples.push({ ...sample, isNew: !before || sample.time - before.time > GAP });
    while (this.#samples[0].time < sample.time - SPAN) this.#samples.shift();
  }

  /** Take what the server has recorded, second by second, in place of what was seen here. */
  fill(record) {
    const { age, ...columns } = record;
    const newest = Date.now() - age * 1000;
    const length = Math.max(...Object.values(columns).map((column) => column.length));
    const at = (column, ago) => column[column.length - ago] ?? 0;
    const told = Array.from({ length }, (_, index) => length - index).map((ago) => ({
      time: newest - (ago - 1) * 1000,
      published: at(columns.published, ago),
      delivered: at(columns.delivered, ago),
      in: at(columns.bytes_in, ago),
      out: at(columns.bytes_out, ago),
    }));
    const begin = told[0]?.time ?? Infinity;
    const earlier = this.#samples.filter(({ time }) => time < begin - 500);
    const later = this.#samples.filter(({ time }) => time > newest + 500);
    this.#samples = [];
    for (const sample of [...earlier, ...told, ...later]) this.add(sample);
    this.draw();
  }

  draw() {
    const end = this.#samples.at(-1)?.time ?? Date.now();
    const chosen = this.#chosen(end);
    for (const chart of this.#charts) chart.draw(this.#samples, end, chosen);
  }

  #chosen(end) {
    if (this.#ago === undefined) return undefined;
    const distance = ({ time }) => Math.abs(end - this.#ago - time);
    return this.#samples.reduce((best, each) => (best && distance(best) <= distance(each) ? best : each), undefined);
  }

  #point({ target, clientX }) {
    const box = target.closest('.chart')?.querySelector('svg').getBoundingClientRect();
    if (box) this.#move(((box.right - 4 - clientX) / (box.width - GUTTER - 4)) * SPAN);
  }

  #press(event) {
    const step = STEPS[event.key];
    if (event.key === 'Escape') this.#move(undefined);
    if (!step) return;
    event.preventDefault();
    this.#move((this.#ago ?? 0) + step);
  }

  #move(ago) {
    this.#ago = ago === undefined ? undefined : Math.max(0, Math.min(SPAN, ago));
    this.draw();
    this.#root.ariaValueNow = -Math.round((this.#ago ?? 0) / 1000);
    this.#root.ariaValueText = this.#charts.map(({ text }) => text).join(', ');
  }
}

// What the server tells once a second: its figures, with what they say about the time since those before.

import { byId, bytes, count, duration, keyOf, number, setText, shown } from './console-view.js';

const MINUTE = 60_000; // milliseconds of a topic's small line

const list = (value, key) => (Array.isArray(value) ? value.filter((each) => typeof each?.[key] === 'string') : []);
const byKey = (rows, key) => new Map(rows.map((row) => [row[key], row]));

/** The clients in an answer of the server. */
export const clientsIn = (value) => list(value, 'id');

/** The topics and the patterns in an answer of the server. */
export const subjectsIn = (value) => ['topic', 'pattern'].flatMap((kind) =>
  list(value, kind).map((each) => ({ ...each, kind, name: each[kind], key: keyOf(kind, each[kind]) })));

/** How much a count grows in a second. */
const growth = (now, then, name, seconds) => (then && seconds > 0 ? Math.max(0, number(now[name]) - number(then[name])) / seconds : undefined);

/** Clients with their rates, by what they were `seconds` before. What the server says about them is better. */
export function withClientRates(clients, before, seconds) {
  const known = byKey(before, 'id');
  return clients.map((each) => ({
    ...each,
    in: each.received_rate ?? growth(each, known.get(each.id), 'received', seconds),
    out: each.delivered_rate ?? growth(each, known.get(each.id), 'delivered', seconds),
  }));
}

/** Topics and patterns with their rates, likewise. */
export function withSubjectRates(subjects, before, seconds) {
  const known = byKey(before, 'key');
  return subjects.map((each) => ({ ...each, rate: each.rate ?? growth(each, known.get(each.key), 'published', seconds) }));
}

/** Whether a node tells its figures. */
export const isUp = ({ state }) => state === 'up';

/** Deliveries a second of a node, by its own time: it may have begun again. */
function rateOfNode(now, then) {
  const seconds = number(now.uptime) - number(then?.uptime);
  return then && isUp(now) && isUp(then) ? growth(now, then, 'delivered', seconds) : undefined;
}

/** The rates of topics and patterns in the last minute, as far as they were told. */
export class Sparks {
  #points = new Map(); // key of a topic or pattern -> [time, rate] of each time
  #noted = 0; // when there were rates last

  /** Note the rates of some. */
  note(subjects) {
    const now = Date.now();
    if (now < this.#noted) this.#points.clear(); // the clock was set back
    this.#noted = now;
    for (const { key, rate } of subjects) {
      if (rate === undefined) continue;
      if (!this.#points.has(key)) this.#points.set(key, []);
      this.#points.get(key).push([now, rate]);
    }
    for (const [key, points] of this.#points) {
      while (points.length && points[0][0] < now - MINUTE) points.shift();
      if (!points.length) this.#points.delete(key);
    }
  }

  /** The rates of one: how long ago in parts of a minute, and the rate. */
  of(key) {
    const now = Date.now();
    return (this.#points.get(key) ?? []).map(([time, rate]) => [Math.min(1, (now - time) / MINUTE), rate]);
  }

  /** How much there was of it, to compare topics. */
  sum(key) {
    return (this.#points.get(key) ?? []).reduce((sum, [, rate]) => sum + rate, 0);
  }
}

export class Figures {
  latest; // with rates
  #sparks;

  constructor(sparks) {
    this.#sparks = sparks;
  }

  /** Take figures of the server. What is only there because somebody looks at this page is taken out. */
  take(stats, ownTopic) {
    const before = this.latest;
    const seconds = before?.id === stats.id ? number(stats.uptime) - number(before.uptime) : 0;
    const isComparable = before && seconds > 0;
    const own = keyOf('topic', ownTopic);
    const all = subjectsIn(stats.topics);
    const nodes = byKey(before?.nodes ?? [], 'id');
    const perSecond = (name) => (isComparable ? growth(stats, before, name, seconds) : undefined);
    const without = (name, part) => isComparable && Math.max(0, perSecond(name) - perSecond(part));
    this.latest = {
      ...stats,
      rates: isComparable && {
        published: without('published', 'own_published'),
        delivered: without('delivered', 'own_delivered'),
        in: perSecond('bytes_in'),
        out: perSecond('bytes_out'),
      },
      nodes: list(stats.nodes, 'id').map((each) => ({ ...each, rate: rateOfNode(each, nodes.get(each.id)) })),
      clients: withClientRates(clientsIn(stats.clients), before?.clients ?? [], seconds),
      topics: withSubjectRates(all.filter(({ key }) => key !== own), before?.topics ?? [], seconds),
      topic_count: Math.max(0, number(stats.topic_count) - 1), // that on which these come
    };
    this.#sparks.note(this.latest.topics);
  }

  show() {
    const stats = this.latest;
    const name = shown(String(stats.id));
    setText(byId('bus'), name);
    document.title = `${name} · KPS console`;
    setText(byId('version'), `KPS ${shown(String(stats.version))}`);
    setText(byId('uptime'), `up ${duration(number(stats.uptime))}`);
    for (const element of document.querySelectorAll('[data-figure]')) {
      const { figure, alarm } = element.dataset;
      const value = number(stats[figure]);
      setText(element.firstChild, count(value));
      element.classList.toggle('zero', !value);
      element.classList.toggle('alarm', alarm !== undefined && value > 0);
    }
    const kept = number(stats.history_bytes);
    setText(byId('history-bytes'), kept ? bytes(kept) : '');
  }
}

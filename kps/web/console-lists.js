// The lists of clients, of topics with patterns, and of nodes.

import { sparkPath, svg } from './console-charts.js';
import { clientsIn, isUp, subjectsIn, withClientRates, withSubjectRates } from './console-figures.js';
import { List } from './console-list.js';
import { Table } from './console-table.js';
import { badge, byId, clientName, count, duration, make, number, rate, setText, shown, some, subjectName } from './console-view.js';

const figure = (name, label, key, text = (value) => count(number(value))) => ({
  name, label, value: (row) => number(row[key]), text: (row) => text(row[key]),
});

/**
 * Put a name into a cell, and below it what has no column where there is little room: the style sheet knows which `parts` that are.
 * Returned is a function that takes the texts of all parts.
 */
function withMore(cell, name, parts) {
  const elements = parts.map((part) => make('span', { className: `m-${part}` }));
  cell.append(name, make('span', { className: 'more' }, ...elements));
  return (texts) => elements.forEach((element, index) => {
    setText(element, texts[index]);
    element.hidden = !texts[index];
  });
}

/** `openClient(id)` shows one in full, `message(id)` begins a message to it. */
export function clientList(client, { openClient, message }) {
  function build(cell, id) {
    const name = clientName(id, id === client.id, () => openClient(id));
    const show = withMore(cell, name, ['identity', 'address', 'level', 'age', 'queue', 'dropped']);
    return (row) => show([
      shown(String(row.identity ?? '')), shown(String(row.address)), `level ${shown(String(row.level))}`, duration(number(row.age)),
      row.queue_messages > 0 ? `${count(row.queue_messages)} queued` : '', row.dropped > 0 ? `${count(row.dropped)} dropped` : '',
    ]);
  }

  function buildMessage(cell, id) {
    const button = make('button', { type: 'button', onclick: () => message(id) }, 'Message');
    button.ariaLabel = `Message ${shown(id)}`;
    cell.append(button);
    return () => {};
  }

  const text = (name, label) => ({
    name, label, isText: true, isName: true, value: (row) => String(row[name] ?? ''), text: (row) => shown(String(row[name] ?? '')),
  });
  const columns = [
    { name: 'id', label: 'Id', isText: true, value: ({ id }) => id, build },
    text('identity', 'Identity'),
    text('address', 'Address'),
    { ...figure('level', 'Level', 'level', (level) => shown(String(level))), isPlain: true },
    figure('age', 'Connected', 'age', (age) => duration(number(age))),
    figure('queue', 'Queue', 'queue_messages'),
    { ...figure('dropped', 'Drops', 'dropped'), isAlarm: true },
    figure('received', 'In/s', 'in', rate),
    figure('delivered', 'Out/s', 'out', rate),
    { name: 'act', label: 'Actions', isPlain: true, build: buildMessage },
  ];
  const search = {
    topic: '__kps/clients',
    key: 'clients',
    sorts: {
      id: 'id', identity: 'identity', address: 'address', level: 'level', age: 'age', queue: 'queue_messages', dropped: 'dropped',
      received: 'received_rate', delivered: 'delivered_rate',
    },
    read: clientsIn,
    withRates: withClientRates,
  };
  const empty = 'Nobody else is connected. A first client: `kps sub news`';
  return new List(byId('clients'), client, columns, ({ id }) => id, search, { empty, what: 'client' });
}

/** `openTopic(kind, name)` shows one in full; `watch` is what watches; `sparks` has the rates of the last minute. */
export function topicList(client, { openTopic, watch, sparks }) {
  function build(cell, key, { kind, name }) {
    const extras = make('span', { className: 'extras' });
    const element = subjectName(kind, name, () => openTopic(kind, name));
    element.append(extras);
    cell.append(element);
    return ({ groups, kept, observers }) => {
      const words = [groups > 0 && some(groups, 'group'), kept > 0 && 'history', observers > 0 && 'presence'].filter(Boolean);
      const key = words.join();
      if (extras.key === key) return;
      extras.key = key;
      extras.replaceChildren(...words.map(badge));
    };
  }

  function buildSpark(cell) {
    const line = svg('path', { class: 'series' });
    const image = svg('svg', { class: 'spark', viewBox: '0 0 86 20', preserveAspectRatio: 'none', 'aria-hidden': true });
    image.append(line);
    cell.append(image);
    return ({ key }) => line.setAttribute('d', sparkPath(sparks.of(key), 86, 20));
  }

  function buildWatch(cell, key, { kind, name }) {
    const word = make('span', {}, 'Watch');
    const what = make('span', { className: 'hidden' }, kind === 'topic' ? ` ${shown(name)}` : ` pattern ${shown(name)}`);
    const button = make('button', { type: 'button', onclick: () => watch.toggle(kind, name) }, word, what);
    cell.append(button);
    return () => {
      button.ariaPressed = watch.has(key);
      setText(word, watch.has(key) ? 'Watching' : 'Watch');
    };
  }

  const columns = [
    { name: 'topic', label: 'Topic', isText: true, value: ({ name }) => name, build },
    figure('subscribers', 'Subs', 'subscribers'),
    figure('rate', 'Msgs/s', 'rate', rate),
    { name: 'spark', label: 'Last minute', value: ({ key }) => sparks.sum(key), build: buildSpark },
    { name: 'act', label: 'Actions', isPlain: true, build: buildWatch },
  ];
  const search = {
    topic: '__kps/topics',
    key: 'topics',
    sorts: { topic: 'name', subscribers: 'subscribers', rate: 'rate', spark: 'rate' },
    read: subjectsIn,
    withRates(found, before, seconds) {
      const rows = withSubjectRates(found, before, seconds);
      sparks.note(rows);
      return rows;
    },
  };
  const empty = 'A topic or pattern is here while somebody subscribes to it. Watch one below, or run `kps sub news`';
  return new List(byId('topics'), client, columns, ({ key }) => key, search, { empty, what: 'topic or pattern' });
}

/** The nodes of a server that has several. */
export class NodeList {
  #section = byId('nodes');
  #nodes = [];
  #table;

  constructor() {
    /** A figure of a node, if that tells any. */
    const ofNode = (column) => ({ ...column, text: (row) => (isUp(row) ? column.text(row) : '–') });
    // How many links a node lacks, or all if it tells nothing.
    const missing = (row) => this.#nodes.length - (isUp(row) ? 1 + number(row.links) : 0);
    const linked = (row) => `${count(number(row.links))} of ${count(this.#nodes.length - 1)}`;
    const state = ({ state: word }) => shown(String(word));
    const build = (cell, id) => {
      const show = withMore(cell, clientName(id), ['links', 'age', 'drops']);
      return (row) => show(isUp(row)
        ? [`${linked(row)} linked`, duration(number(row.uptime)), row.dropped > 0 ? `${count(row.dropped)} dropped` : ''] : ['', '', '']);
    };
    this.#table = new Table(this.#section, [
      { name: 'node', label: 'Node', isText: true, value: ({ id }) => id, build },
      { name: 'state', label: 'State', isPlain: true, isAlarm: true, value: (row) => (isUp(row) ? 0 : 1), text: state },
      { ...ofNode({ name: 'links', label: 'Links', value: missing, text: linked }), isAlarm: true },
      ofNode(figure('age', 'Running', 'uptime', (age) => duration(number(age)))),
      ofNode(figure('crowd', 'Clients', 'client_count')),
      ofNode(figure('delivered', 'Out/s', 'rate', rate)),
      { ...ofNode(figure('drops', 'Drops', 'dropped')), isAlarm: true },
    ], ({ id }) => id, () => this.#draw());
  }

  show(nodes) {
    this.#nodes = nodes;
    this.#section.hidden = nodes.length < 2;
    this.#draw();
  }

  #draw() {
    const up = this.#nodes.filter(isUp).length;
    const all = count(this.#nodes.length);
    setText(this.#section.querySelector('.note'), up < this.#nodes.length ? `${count(up)} of ${all} up` : `${all}, all up`);
    this.#table.draw(this.#table.sorted(this.#nodes));
  }
}

/** Offer names where they can be typed. */
export function suggest(stats) {
  offer('topic-names', stats.topics.filter(({ kind }) => kind === 'topic').map(({ name }) => name));
  offer('client-names', stats.clients.map(({ id }) => id));
}

function offer(listId, names) {
  const options = byId(listId);
  const key = JSON.stringify(names);
  if (options.key === key) return;
  options.key = key;
  options.replaceChildren(...names.map((value) => make('option', { value, label: shown(value) })));
}


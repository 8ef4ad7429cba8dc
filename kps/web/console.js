// The live console of a KPS server: what its statistics tell, and a client of the bus.

import { Client } from './kps.js';
import { Charts, sparkPath, svg } from './console-charts.js';
import { Publish } from './console-publish.js';
import { Table } from './console-table.js';
import { byId, clientName, count, duration, keyOf, make, rate, reveal, setText, shown, subjectName } from './console-view.js';
import { Watch } from './console-watch.js';

const STATS = '__kps/stats';
const RETRY = 2000 + Math.random() * 1000; // milliseconds; consoles do not come back all at once
const SPARKS = 60; // seconds in a topic's small line
const SILENCE = 5000; // without statistics, after which the page says so

// -- theme ---------------------------------------------------------------------------------------

const THEMES = ['auto', 'light', 'dark'];

/** Storage can be forbidden; then the choice lasts as long as the page. */
function store(kind, key, value) {
  try {
    if (value !== undefined) window[kind].setItem(key, value);
    return window[kind].getItem(key);
  } catch {
    return value;
  }
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(byId('theme'), theme[0].toUpperCase() + theme.slice(1));
  byId('theme').ariaLabel = `Theme: ${theme}`;
}

showTheme(store('localStorage', 'kps-theme') ?? 'auto');
byId('theme').addEventListener('click', () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  store('localStorage', 'kps-theme', next);
  showTheme(next);
});

// -- the connection ------------------------------------------------------------------------------

const bus = new URL(document.querySelector('meta[name=kps-path]').content, location.href);

/** This page's token. One in its URL moves to where nobody reads or shares it. */
function ownToken() {
  const page = new URL(location.href);
  const given = page.searchParams.get('token');
  const known = store('sessionStorage', 'kps-token');
  if (given !== null) {
    page.searchParams.delete('token');
    history.replaceState(null, '', page);
  }
  // Whoever made a link must not choose as whom its readers publish.
  const question = 'The address of this page has another token than the one in use. Use that from now on?';
  if (!given || (known && known !== given && !confirm(question))) return known;
  return store('sessionStorage', 'kps-token', given);
}

const ownId = `console-${[...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
const ENDS = { 1001: 'The server stopped', 1012: 'The server stopped', 4002: 'The time of the token is over' }; // by close code
let retryAt = 0;
let silenceTimer;
let mayHaveFigures = true;

/** `notice` says in words what the state means; without it the one that is there stays. */
function showState(state, word, notice) {
  document.body.dataset.state = state;
  setText(byId('state-word'), word);
  setText(byId('countdown'), '');
  clearTimeout(silenceTimer);
  if (notice !== undefined) showNotice(notice);
}

function showNotice(text) {
  const box = byId('notice');
  setText(box.firstElementChild, text);
  box.hidden = !text;
  box.lastElementChild.hidden = document.body.dataset.state !== 'gone';
}

function connected() {
  showState('connected', 'Connected', '');
  silenceTimer = setTimeout(showNotice, SILENCE, 'This server tells no statistics. Watching and publishing work.');
  if (!mayHaveFigures) askForFigures(); // it may have changed its mind
}

function askForFigures() {
  mayHaveFigures = true;
  client.subscribe(STATS, take).then(undefined, (error) => error.topic === STATS && figuresRefused(error));
}

function figuresRefused({ code, message }) {
  mayHaveFigures = false;
  clearTimeout(silenceTimer);
  for (const hint of document.querySelectorAll('.list .empty')) hint.hidden = true; // it would not be true
  const reason = code === 'forbidden' ? 'only clients with a permission for it get them' : reveal(message);
  showNotice(`The server does not show its figures to this page: ${reason}. Watching and publishing work, where they are allowed.`);
}

function waiting(delay, notice) {
  retryAt = Date.now() + delay;
  showState('waiting', navigator.onLine ? 'Reconnecting' : 'Offline', notice);
  countDown();
}

function countDown() {
  if (document.body.dataset.state !== 'waiting') return;
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  setText(byId('countdown'), seconds > 0 ? ` in ${seconds} s` : ' …');
}

/** Browsers do not tell why a WebSocket failed; plain HTTP tells at least whether there is a server. */
async function whyNot() {
  try {
    const { ok } = await fetch('healthz', { cache: 'no-store' });
    if (ok) return 'The server is there, but does not let this page in.';
  } catch { /* said below */ }
  if (!navigator.onLine) return 'This browser is offline. The console comes back with the network.';
  return 'The server does not answer. The console keeps trying, and then watches the same topics again.';
}

async function attemptFailed() {
  waiting(RETRY);
  const reason = await whyNot();
  if (document.body.dataset.state === 'waiting') showNotice(reason);
}

function ended({ message }) {
  const isAboutToken = /\btoken\b/.test(message);
  if (isAboutToken) store('sessionStorage', 'kps-token', ''); // the next one is welcome
  const advice = isAboutToken ? ' Open this page with ?token=… in its address.' : '';
  showState('gone', 'Gone', `This page does not come back by itself: ${reveal(message)}.${advice}`);
}

const client = new Client(bus, {
  id: ownId,
  token: ownToken() || undefined,
  reconnect: RETRY,
  onConnect: connected,
  onDisconnect: ({ code, retryIn }) => waiting(retryIn, `${ENDS[code] ?? `The connection broke (${code})`}. What is published meanwhile is not shown later.`),
  onClose: ended,
  onDirect: (message) => { watch.take(message); },
  onError: failed,
});

function failed(error) {
  if (error.name === 'ConnectFailed') attemptFailed();
  else if (error.request === 'subscribe' && error.topic === STATS) {
    if (!error.isTemporary) figuresRefused(error); // otherwise the client asks again
  } else if (!watch.refused(error) && !publish.refused(error)) console.warn(`${error.name}: ${error.message}`);
}

setInterval(countDown, 250);
byId('notice').lastElementChild.addEventListener('click', () => location.reload());

// -- statistics ----------------------------------------------------------------------------------

const number = (value) => (Number.isFinite(value) ? value : 0);
const list = (value, key) => (Array.isArray(value) ? value.filter((each) => typeof each?.[key] === 'string') : []);
const byKey = (rows, key) => new Map(rows.map((row) => [row[key], row]));

/** The topics and the patterns in statistics. */
const subjects = (value) => ['topic', 'pattern'].flatMap((kind) =>
  list(value, kind).map((each) => ({ ...each, kind, name: each[kind], key: keyOf(kind, each[kind]) })));

/** Whether a node tells its figures. */
const isUp = ({ state }) => state === 'up';

/** Deliveries a second of a node, by its own time: it may have begun again. */
function rateOfNode(now, then) {
  const seconds = number(now.uptime) - number(then?.uptime);
  const isComparable = then && isUp(now) && isUp(then) && seconds > 0;
  return isComparable ? Math.max(0, number(now.delivered) - number(then.delivered)) / seconds : undefined;
}

let latest; // the newest statistics, with rates
let sparks = new Map(); // key of a topic or pattern -> its rates

/** Add rates to what the server tells: the differences to what it told before. */
function withRates(stats, before) {
  const seconds = number(stats.uptime) - number(before?.uptime);
  const isComparable = before && stats.id === before.id && seconds > 0;
  const perSecond = (now, then, name) => isComparable && then
    ? Math.max(0, number(now[name]) - number(then[name])) / seconds : undefined;
  const nodes = byKey(before?.nodes ?? [], 'id');
  const clients = byKey(before?.clients ?? [], 'id');
  const topics = byKey(before?.topics ?? [], 'key');
  return {
    ...stats,
    rates: Object.fromEntries(['published', 'delivered', 'bytes_in', 'bytes_out'].map((name) => [name, perSecond(stats, before, name)])),
    nodes: list(stats.nodes, 'id').map((each) => ({ ...each, rate: rateOfNode(each, nodes.get(each.id)) })),
    clients: list(stats.clients, 'id').map((each) => ({
      ...each,
      in: perSecond(each, clients.get(each.id), 'received'),
      out: perSecond(each, clients.get(each.id), 'delivered'),
    })),
    topics: subjects(stats.topics).map((each) => ({ ...each, rate: perSecond(each, topics.get(each.key), 'published') })),
  };
}

/** Take out what is only there because somebody looks at this page. */
function withoutConsoles({ rates, topics, ...rest }) {
  const own = topics.find(({ key }) => key === keyOf('topic', STATS));
  const [published, delivered] = [own?.rate ?? 0, (own?.rate ?? 0) * number(own?.subscribers)];
  const less = (value, part) => value && Math.max(0, value - part);
  return {
    ...rest,
    rates: { ...rates, published: less(rates.published, published), delivered: less(rates.delivered, delivered) },
    topics: topics.filter((each) => each !== own),
    topic_count: number(rest.topic_count) - (own ? 1 : 0),
  };
}

function take({ data, from }) {
  // Only the server itself tells these, under its own id.
  if (typeof data !== 'object' || data?.id !== from) return;
  showState('connected', 'Connected', '');
  const rated = withRates(data, take.before);
  take.before = rated;
  latest = withoutConsoles(rated);
  const { published, delivered, bytes_in, bytes_out } = latest.rates;
  if (published !== undefined) charts.add({ time: Date.now(), published, delivered, in: bytes_in, out: bytes_out });
  sparks = new Map(latest.topics.map(({ key, rate: now }) => [key, [...(sparks.get(key) ?? []), ...(now === undefined ? [] : [now])].slice(-SPARKS)]));
  if (!document.hidden) show();
}

function show() {
  if (!latest) return;
  showFigures(latest);
  charts.draw();
  byId('nodes').hidden = latest.nodes.length < 2;
  nodes.show(latest.nodes);
  clients.show(latest.clients, number(latest.client_count), latest.clients.some(({ id }) => id !== client.id));
  topics.show(latest.topics, latest.topic_count, latest.topics.length > 0);
  suggest('topic-names', latest.topics.filter(({ kind }) => kind === 'topic').map(({ name }) => name));
  suggest('client-names', latest.clients.map(({ id }) => id));
}

function showFigures(stats) {
  const name = shown(String(stats.id));
  setText(byId('bus'), name);
  document.title = `${name} · KPS console`;
  setText(byId('version'), `KPS ${shown(String(stats.version))}`);
  setText(byId('uptime'), `up ${duration(number(stats.uptime))}`);
  for (const figure of document.querySelectorAll('[data-figure]')) {
    const value = number(stats[figure.dataset.figure]);
    setText(figure, count(value));
    figure.classList.toggle('alarm', figure.dataset.figure === 'dropped' && value > 0);
  }
}

function suggest(listId, names) {
  const options = byId(listId);
  const key = JSON.stringify(names);
  if (options.key === key) return;
  options.key = key;
  options.replaceChildren(...names.map((value) => make('option', { value, label: shown(value) })));
}

// -- tables --------------------------------------------------------------------------------------

const figure = (name, label, key, text = (value) => count(number(value))) => ({
  name, label, value: (row) => number(row[key]), text: (row) => text(row[key]),
});

function buildClient(cell, id) {
  const more = make('span', { className: 'more alien' });
  cell.append(clientName(id, id === client.id), more);
  return (row) => setText(more, [duration(number(row.age)), shown(String(row.address)),
    row.queue_messages > 0 && `${count(row.queue_messages)} queued`, row.dropped > 0 && `${count(row.dropped)} dropped`].filter(Boolean).join(' · '));
}

function buildMessageButton(cell, id) {
  const button = make('button', { type: 'button', onclick: () => publish.address(id) }, 'Message');
  button.ariaLabel = `Message ${shown(id)}`;
  cell.append(button);
  return () => {};
}

function buildSpark(cell) {
  const line = svg('path', { class: 'series' });
  const image = svg('svg', { class: 'spark', viewBox: '0 0 86 20', preserveAspectRatio: 'none', 'aria-hidden': true });
  image.append(line);
  cell.append(image);
  return ({ key }) => line.setAttribute('d', sparkPath(sparks.get(key), 86, 20, SPARKS));
}

function buildSubject(cell, key, { kind, name }) {
  cell.append(subjectName(kind, name));
  return () => {};
}

function buildWatchButton(cell, key, { kind, name }) {
  const button = make('button', { type: 'button', onclick: () => watch.toggle(kind, name) }, 'Watch');
  button.ariaLabel = kind === 'topic' ? `Watch ${shown(name)}` : `Watch pattern ${shown(name)}`;
  cell.append(button);
  return () => {
    button.ariaPressed = watch.has(key);
    setText(button, watch.has(key) ? 'Watching' : 'Watch');
  };
}

/** A figure of a node, if that tells any. */
const ofNode = (column) => ({ ...column, text: (row) => (isUp(row) ? column.text(row) : '–') });

/** How many links a node lacks, or all if it tells nothing. */
const missingLinks = (row) => latest.nodes.length - (isUp(row) ? 1 + number(row.links) : 0);

const nodes = new Table(byId('nodes'), [
  { name: 'node', label: 'Node', isText: true, value: ({ id }) => id, text: ({ id }) => shown(id) },
  {
    name: 'links', label: 'Links', isAlarm: true, value: missingLinks,
    text: (row) => (isUp(row) ? `${count(number(row.links))} up` : shown(String(row.state))),
  },
  ofNode(figure('age', 'Running', 'uptime', (age) => duration(number(age)))),
  ofNode(figure('crowd', 'Clients', 'client_count')),
  ofNode(figure('delivered', 'Out/s', 'rate', rate)),
  { ...ofNode(figure('drops', 'Drops', 'dropped')), isAlarm: true },
], ({ id }) => id);

const clients = new Table(byId('clients'), [
  { name: 'id', label: 'Id', isText: true, value: ({ id }) => id, build: buildClient },
  { name: 'address', label: 'Address', isText: true, value: ({ address }) => String(address), text: ({ address }) => shown(String(address)) },
  { ...figure('level', 'Level', 'level', (level) => shown(String(level))), isPlain: true },
  figure('age', 'Connected', 'age', (age) => duration(number(age))),
  figure('queue', 'Queue', 'queue_messages'),
  { ...figure('dropped', 'Drops', 'dropped'), isAlarm: true },
  figure('received', 'In/s', 'in', rate),
  figure('delivered', 'Out/s', 'out', rate),
  { name: 'act', label: 'Actions', isPlain: true, build: buildMessageButton },
], ({ id }) => id);

const topics = new Table(byId('topics'), [
  { name: 'topic', label: 'Topic', isText: true, value: ({ name }) => name, build: buildSubject },
  figure('subscribers', 'Subs', 'subscribers'),
  figure('rate', 'Msgs/s', 'rate', rate),
  { name: 'spark', label: 'Last minute', isPlain: true, build: buildSpark },
  { name: 'act', label: 'Actions', isPlain: true, build: buildWatchButton },
], ({ key }) => key);

// -- together ------------------------------------------------------------------------------------

const charts = new Charts(byId('charts'));
const watch = new Watch(client, () => topics.draw());
const publish = new Publish(client);
document.addEventListener('visibilitychange', () => !document.hidden && show());
askForFigures();
client.connect().catch(() => {}); // told by onClose

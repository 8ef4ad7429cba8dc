// The live console of a KPS server: what the server tells of itself, and a client of the bus.

import { Charts } from './console-charts.js';
import { DetailsDialog } from './console-details.js';
import { Events } from './console-events.js';
import { Figures, Sparks } from './console-figures.js';
import { Link } from './console-link.js';
import { NodeList, clientList, suggest, topicList } from './console-lists.js';
import { Publish } from './console-publish.js';
import { offerThemes } from './console-theme.js';
import { showTips } from './console-tips.js';
import { byId, number } from './console-view.js';
import { Watch } from './console-watch.js';

const STATS = '__kps/stats';
const RECORD = '__kps/record';

offerThemes();
showTips();

let mayHaveFigures = true;
const link = new Link({ connected, failed, took: (message) => { watch.take(message); } });
const { client } = link;
const sparks = new Sparks();
const figures = new Figures(sparks);
const charts = new Charts(byId('charts'));
const watch = new Watch(client, () => topics.draw());
const publish = new Publish(client);
const details = new DetailsDialog(client, {
  message: (id) => publish.address('client', id),
  publish: (topic) => publish.address('topic', topic),
  isWatched: (key) => watch.has(key),
  toggleWatch: (kind, name) => watch.toggle(kind, name),
});
const openClient = (id) => details.openClient(id);
const openTopic = (kind, name) => details.openTopic(kind, name);
const nodes = new NodeList();
const clients = clientList(client, { openClient, message: (id) => publish.address('client', id) });
const topics = topicList(client, { openTopic, watch, sparks });
const events = new Events(client, openClient);

let recalls = 0; // how often the record is still to be asked for

function connected() {
  if (!mayHaveFigures) askForFigures(); // it may have changed its mind
  events.connected();
  recalls = 2; // at once, and when figures go on where the record ends
  recall();
}

/** Ask what happened before this page was there, or while it had no connection. */
function recall() {
  recalls--;
  client.request(RECORD, {}, { timeout: 10_000 }).then((record) => charts.fill(record), () => {});
}

function askForFigures() {
  mayHaveFigures = true;
  client.subscribe(STATS, take).then(undefined, (error) => error.topic === STATS && figuresRefused(error));
}

function figuresRefused({ code, message }) {
  mayHaveFigures = false;
  link.tellsNothing(code, message);
  const reason = 'The server does not show this to this page.';
  for (const list of [clients, topics, events]) list.refuse(reason);
  reveal();
}

function failed(error) {
  if (error.request === 'subscribe' && error.topic === STATS) {
    if (!error.isTemporary) figuresRefused(error); // otherwise the client asks again
  } else if (!watch.refused(error) && !publish.refused(error)) console.warn(`${error.name}: ${error.message}`);
}

function take({ data, from }) {
  // Only the server itself tells these, under its own id.
  if (typeof data !== 'object' || data?.id !== from) return;
  link.heard();
  figures.take(data, STATS);
  const { rates } = figures.latest;
  if (rates) {
    charts.add({ time: Date.now(), ...rates });
    if (recalls > 0) recall();
  }
  if (!document.hidden) show();
}

function show() {
  const { latest } = figures;
  if (!latest) return;
  figures.show();
  charts.draw();
  nodes.show(latest.nodes);
  byId('clients').classList.toggle('has-identities', latest.clients.some(({ identity }) => identity));
  clients.take(latest.clients, number(latest.client_count), latest.client_count === 1 && latest.clients[0]?.id === client.id);
  topics.take(latest.topics, latest.topic_count, latest.topic_count === 0);
  events.take(number(latest.events));
  suggest(latest);
  reveal();
}

/** All comes at once, when the first figures are there, so that nothing moves when they come. */
function reveal() {
  document.body.dataset.shown = '';
}

setTimeout(reveal, 1000);
document.addEventListener('visibilitychange', () => !document.hidden && show());
askForFigures();
link.begin();

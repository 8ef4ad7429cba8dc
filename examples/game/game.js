import { Client, address } from './bus.js';

const DIRECTIONS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0], w: [0, -1], s: [0, 1], a: [-1, 0], d: [1, 0],
};
const [enter, arena, dots, players, scores, wins, news, state] =
  ['#enter', '#arena', '#dots', '#players', '#scores', '#wins', '#news', '#state'].map((name) => document.querySelector(name));

// The server gives an id to who has come with it first: to this tab, also when it is loaded again.
sessionStorage.id ??= crypto.randomUUID();
sessionStorage.secret ??= crypto.randomUUID();
const client = new Client(address, {
  id: sessionStorage.id,
  token: sessionStorage.secret,
  onConnect: () => { state.textContent = 'connected'; sent = ''; steer(); },
  onDisconnect: () => { state.textContent = 'no connection; trying again'; },
  onClose: (error) => { if (error) state.textContent = `gone: ${error.message}`; },
});
let members = new Map(); // what the players say about themselves, by id

// -- drawing --------------------------------------------------------------------------------------------------------

const nameOf = (info) => String(info?.name ?? '').slice(0, 20);
const colourOf = (id) => `hsl(${[...id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt()) % 360, 7)} 62% 48%)`;

function element(tag, text = '') {
  return Object.assign(document.createElement(tag), { textContent: text });
}

function shape(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Draw what there is in the arena. Each state is whole, so it does not matter which ones came before. */
function draw({ data }) {
  if (changes(dots, data.dots)) dots.replaceChildren(...data.dots.map(([cx, cy]) => shape('circle', { cx, cy, r: 0.9 })));
  for (const one of [...players.children]) if (!(one.dataset.id in data.players)) one.remove();
  for (const [id, [x, y]] of Object.entries(data.players)) {
    const one = players.querySelector(`[data-id="${CSS.escape(id)}"]`) ?? players.appendChild(newcomer(id));
    one.style.transform = `translate(${x}px, ${y}px)`;
    if (changes(one, members.get(id))) one.lastChild.textContent = nameOf(members.get(id));
  }
  const ranks = Object.entries(data.players).map(([id, [, , score]]) => ({ id, score, name: nameOf(members.get(id)) }));
  ranks.sort((one, other) => other.score - one.score);
  if (changes(scores, ranks)) scores.replaceChildren(...ranks.map(line));
}

const drawn = new WeakMap(); // what an element shows, as JSON

function changes(where, what) {
  const text = JSON.stringify(what);
  if (drawn.get(where) === text) return false;
  drawn.set(where, text);
  return true;
}

function line({ id, name, score }) {
  const made = element('li');
  made.style.setProperty('--colour', colourOf(id));
  made.className = id === client.id ? 'you' : '';
  made.append(element('span', name), String(score));
  return made;
}

function newcomer(id) {
  const made = shape('g', { 'data-id': id }, shape('circle', { r: 2 }), shape('text', { y: -2.8 }));
  made.classList.toggle('you', id === client.id);
  made.style.setProperty('--colour', colourOf(id));
  return made;
}

// -- steering -------------------------------------------------------------------------------------------------------

const held = new Map(); // directions, by key or pointer
let sent = '0,0';

/** Tell the program where to go, if that has changed. No receipt: the next states show whether it has heard. */
function steer() {
  const heading = [...held.values()].reduce(([x, y], [dx, dy]) => [x + dx, y + dy], [0, 0]);
  if (String(heading) === sent || !client.connected) return;
  sent = String(heading);
  client.publishToId('game', heading).catch(() => { sent = ''; });
}

function hold(name, direction) {
  if (direction) held.set(name, direction);
  else held.delete(name);
  steer();
}

const keyOf = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);
addEventListener('keydown', (event) => {
  const direction = DIRECTIONS[keyOf(event)];
  if (!direction || event.target.matches('input') || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // the page does not scroll
  hold(keyOf(event), direction);
});
addEventListener('keyup', (event) => hold(keyOf(event)));
addEventListener('blur', () => { held.clear(); steer(); });

function point(event) {
  const me = players.querySelector('.you circle')?.getBoundingClientRect();
  if (!me || !event.buttons) return;
  const [x, y] = [event.clientX - me.x - me.width / 2, event.clientY - me.y - me.height / 2];
  const length = Math.hypot(x, y) || 1;
  hold('pointer', [x / length, y / length].map((part) => Math.round(part * 8) / 8)); // few directions, so few messages
}
arena.addEventListener('pointerdown', point);
arena.addEventListener('pointermove', point);
for (const end of ['pointerup', 'pointercancel']) addEventListener(end, () => hold('pointer'));

// -- coming and going -----------------------------------------------------------------------------------------------

function tell(list, text) {
  list.prepend(element('li', text));
  while (list.childElementCount > 5) list.lastChild.remove();
}

function showPresence({ members: now, joined, updated, left }) {
  const isFirst = members.size === 0; // later this page itself is among them
  for (const [id, info] of [...joined, ...updated]) {
    if (info && !members.get(id) && !isFirst) tell(news, `${nameOf(info)} has come`);
  }
  for (const id of left.keys()) if (members.get(id)) tell(news, `${nameOf(members.get(id))} has left`);
  members = now ?? new Map();
}

/** Play under a name. Everybody watches before that. */
async function play(name) {
  enter.hidden = true;
  arena.focus();
  await client.subscribe('arena', () => {}, { info: { name } });
}

enter.addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.name = enter.elements.name.value;
  play(sessionStorage.name);
});
addEventListener('pagehide', () => client.close()); // who says goodbye has left at once
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
await client.connect();
await client.subscribe('arena', draw, { presence: showPresence });
await client.subscribe('wins', ({ data }) => tell(wins, data.name), { last: 5 });
if (sessionStorage.name) await play(sessionStorage.name);

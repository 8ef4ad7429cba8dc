import { Client, address } from './bus.js';

const ROOMS = ['lobby', 'music', 'travel'];
const [enter, main, rooms, people, lines, write, to] =
  ['#enter', 'main', '#rooms', '#people', '#lines', '#write', '#to'].map((name) => document.querySelector(name));
const say = (id, text) => { document.getElementById(id).textContent = text; };
const typing = new Map(); // when it is over, by name
const readers = new Map(); // what to say below a line of ours, by its key
let client;
let room;
let receiver = ''; // of private lines
let leave = () => {};

// -- what others write: it may be anything, so it goes into the page as text only -----------------------------------

function element(tag, text, className = '') {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

function draw(from, data, kind = '') {
  const line = element('li', '', `${kind} ${from === client.id ? 'mine' : ''}`);
  const time = new Date(data?.at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  line.append(element('b', kind ? `${from} → ${data?.to}` : from), element('small', time), element('div', String(data?.text)));
  if (from === client.id) line.append(element('small', readers.get(data.key) ?? '', 'read'));
  line.dataset.key = data?.key;
  lines.append(line);
  lines.scrollTop = lines.scrollHeight;
}

/** Fulfilled when somebody looks at this page: what returns it to the bus has then been read. */
async function seen() {
  if (document.hidden) document.title = '● Chat';
  while (document.hidden) await new Promise((done) => { document.addEventListener('visibilitychange', done, { once: true }); });
  document.title = 'Chat';
}

function showTyping({ from }) {
  if (from !== client.id) typing.set(from, Date.now() + 2500);
}

setInterval(() => {
  for (const [name, end] of typing) if (end < Date.now()) typing.delete(name);
  say('typing', typing.size ? `${[...typing.keys()].join(', ')} is typing…` : '');
}, 200);

// -- rooms ----------------------------------------------------------------------------------------------------------

async function join(name) {
  leave();
  const here = new AbortController();
  leave = () => here.abort();
  room = name;
  location.hash = name;
  say('room', `# ${name}`);
  lines.replaceChildren();
  typing.clear();
  writeTo('');
  rooms.replaceChildren(...ROOMS.map((one) => entry(one, () => join(one), one === name)));
  const { signal } = here;
  try {
    // The past first, then what is new, each line once. A line counts as handled when `seen` is fulfilled.
    await client.subscribe(`rooms/${name}`, ({ from, data }) => {
      typing.delete(from);
      draw(from, data);
      return seen();
    }, { last: 50, presence: showPeople, signal });
    await client.subscribe(`typing/${name}`, showTyping, { signal });
  } catch (error) {
    if (!signal.aborted) say('state', error.message); // else somebody is in another room already
  }
}

function entry(name, act, isCurrent = false) {
  const button = element('button', name);
  button.onclick = act;
  if (isCurrent) button.ariaCurrent = 'true';
  const item = element('li', '');
  item.append(button);
  return item;
}

function showPeople({ members, count }) {
  say('count', count);
  const names = [...members?.keys() ?? []].sort();
  people.replaceChildren(...names.map((name) => (
    name === client.id ? entry(`${name} (you)`, () => writeTo('')) : entry(name, () => writeTo(name)))));
}

function writeTo(name) {
  receiver = name;
  to.hidden = !name;
  to.textContent = `only ${name} ✕`;
  write.elements.text.placeholder = name ? `A line that only ${name} gets` : `A line to # ${room}`;
  write.elements.text.focus();
}

// -- writing --------------------------------------------------------------------------------------------------------

function tell(key, text) {
  readers.set(key, text);
  const line = lines.querySelector(`.mine[data-key="${key}"] .read`);
  if (line) line.textContent = text;
}

/** Tell below a line who has read it, as the answers come. */
async function follow(ack, key) {
  const asked = new Set((await ack.status()).keys());
  const read = [];
  const missing = [];
  const show = () => {
    const parts = [
      read.length && `read by ${read.join(', ')}`,
      asked.size && `not yet by ${[...asked].join(', ')}`,
      missing.length && `not by ${missing.join(', ')}`,
    ];
    tell(key, parts.filter(Boolean).join(' · ') || 'nobody is here');
  };
  asked.delete(client.id);
  show();
  for await (const { clientId, success, error } of ack) {
    if (clientId === client.id) continue;
    asked.delete(clientId);
    if (success) read.push(clientId);
    else missing.push(`${clientId} (${error})`);
    show();
  }
}

async function send(text) {
  const key = crypto.randomUUID();
  const data = { text, key, at: Date.now(), to: receiver };
  // With an id it is handled once, also if the connection breaks now and the client has to send it again.
  const options = { messageId: key, timeout: Infinity };
  const ack = await (receiver ? client.publishToIdWithAck(receiver, data, options)
    : client.publishWithAck(`rooms/${room}`, data, options));
  if (receiver) draw(client.id, data, 'private'); // a line to the room comes back from there
  follow(ack, key).catch((error) => tell(key, `nobody knows who has read it: ${error.message}`));
}

write.addEventListener('submit', async (event) => {
  event.preventDefault();
  const { text } = write.elements;
  try {
    await send(text.value);
    text.value = '';
  } catch (error) {
    say('state', `not sent: ${error.message}`);
  }
});

let told = 0;
write.elements.text.addEventListener('input', () => {
  if (receiver || Date.now() - told < 1000) return;
  told = Date.now();
  client.publish(`typing/${room}`).catch(() => {}); // nobody misses it: it is told again a second later
});
to.addEventListener('click', () => writeTo(''));
write.addEventListener('keydown', ({ key }) => key === 'Escape' && writeTo(''));

// -- coming and going -----------------------------------------------------------------------------------------------

enter.addEventListener('submit', async (event) => {
  event.preventDefault();
  const name = enter.elements.name.value;
  localStorage.secret ??= crypto.randomUUID();
  client = new Client(address, {
    id: name,
    token: `${name}:${localStorage.secret}`,
    onConnect: () => say('state', `you are ${name}`),
    onDisconnect: () => say('state', 'no connection; trying again'),
    onClose: (error) => error && say('state', `gone: ${error.message}`),
    onLost: ({ messages }) => lines.append(element('li', `${messages ?? 'Some'} lines are lost`, 'notice')),
    onDirect: ({ from, data }) => { draw(from, data, 'private'); return seen(); },
  });
  try {
    await client.connect();
  } catch (error) {
    enter.querySelector('[role=alert]').textContent = `${name} may be somebody else's name: ${error.message}`;
    return;
  }
  sessionStorage.name = name;
  [enter.hidden, main.hidden] = [true, false];
  await join(ROOMS.find((one) => `#${one}` === location.hash) ?? ROOMS[0]);
});
addEventListener('pagehide', () => client?.close()); // who says goodbye has left at once
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
if (sessionStorage.name) {
  enter.elements.name.value = sessionStorage.name;
  enter.requestSubmit();
}

import { Client, address } from './bus.js';
import { Text, changed, editOf } from './text.js';

const [people, name, mirror, area, state] =
  ['#people', '#name', 'pre', 'textarea', '#state'].map((one) => document.querySelector(one));
const PASSING = ['ConnectionLost', 'NotConnected', 'ClientClosed', 'RequestTimeout']; // who tries again may succeed
const id = crypto.randomUUID().slice(0, 13); // a new author each time, so no two letters have the same id
let text = new Text();
let shown = []; // the marks whose letters are in the textarea
let unsent = []; // edits that the program may not have yet
let isSending = false;
let isOpen = false; // whether all edits come that are not in the text
let isComposing = false; // a letter of several keys, into which nothing may come
let selected = {}; // the ends of the selection as it was shown last, and the marks before them
let others = []; // who else is here: id, name, and the mark behind which their cursor is

const client = new Client(address, {
  id,
  token: crypto.randomUUID(),
  onConnect: () => (isOpen ? send() : open()),
  onDisconnect: () => say(),
  onLost: () => open(), // away for so long that not all edits are kept
  onClose: (error) => { area.disabled = true; if (error) state.textContent = `gone: ${error.message}`; },
});

function say() {
  const where = client.connected ? '' : 'No connection: go on writing, it is kept here. ';
  const what = unsent.length ? `${unsent.length} edits are to be sent.` : 'All is saved.';
  state.textContent = where + what;
}

// -- what others write ----------------------------------------------------------------------------------------------

/** Get the whole text, and then all edits from there on, so that there is no gap between the two. */
async function open() {
  isOpen = false;
  client.unsubscribe('edits');
  try {
    const { marks, position } = await client.requestToId('editor', 'open');
    text = new Text(marks);
    for (const edit of unsent) text.apply(edit);
    show();
    await client.subscribe('edits', ({ data }) => {
      text.apply(data); // also our own, which changes nothing any more
      show();
    }, { since: position });
    isOpen = true;
  } catch (error) {
    if (error instanceof RangeError) unsent = []; // they are about another text: the program has begun anew
    if (client.connected) setTimeout(open, 500); // else `onConnect` opens it
    return;
  }
  if (area.disabled) {
    area.disabled = false;
    area.focus();
  }
  send();
}

/** Show the text. The selection stays at its letters, wherever they are now. */
function show() {
  if (isComposing) return;
  // Where nobody has moved the selection, its letters are those of before, although they may have been removed.
  const isMoved = area.selectionStart !== selected.start || area.selectionEnd !== selected.end;
  const marks = isMoved ? [area.selectionStart, area.selectionEnd].map(markAt) : selected.marks;
  area.value = text;
  shown = text.shown.map((mark) => [...mark]);
  const [start, end] = marks.map((mark) => text.lengthTo(mark));
  area.setSelectionRange(start, end);
  selected = { start, end, marks };
  showCursors();
}

/** The mark before a place in the textarea, or `null`. */
function markAt(place) {
  let [length, found] = [0, null];
  for (const mark of shown) {
    if (length >= place) break;
    length += mark[2].length;
    found = mark;
  }
  return found;
}

function showCursors() {
  const whole = String(text);
  const cursors = others.map((one) => ({ ...one, place: text.lengthTo(one.at) }));
  cursors.sort((one, other) => one.place - other.place);
  let from = 0;
  mirror.replaceChildren(...cursors.flatMap(({ name: who, colour, place }) => {
    const flag = document.createElement('i');
    flag.dataset.name = who;
    flag.style.setProperty('--colour', colour);
    const before = whole.slice(from, place);
    from = place;
    return [before, flag];
  }), `${whole.slice(from)}\n`);
}

// -- what this author writes ----------------------------------------------------------------------------------------

function write() {
  if (isComposing) return;
  const edit = editOf(shown, area.value, text.next, id);
  if (!edit.insert && !edit.remove.length) return;
  text.apply(edit); // at once: nobody waits for the network to see what they type
  shown = changed(shown, edit);
  unsent.push(edit);
  show();
  send();
}

/** Send what is unsent, until the program has said that it has it. What it gets twice changes nothing. */
async function send() {
  say();
  if (isSending || !isOpen || !unsent.length || !client.connected) return;
  isSending = true;
  const sent = [...unsent];
  try {
    await client.requestToId('editor', sent);
    unsent = unsent.filter((edit) => !sent.includes(edit));
  } catch (error) {
    if (!PASSING.includes(error.name)) { // it does not take them
      unsent = [];
      await open();
      state.textContent = `Not taken: ${error.message}`;
      return;
    }
  } finally {
    isSending = false;
  }
  send(); // what has come meanwhile; without connection `onConnect` goes on
}

area.addEventListener('input', write);
area.addEventListener('compositionstart', () => { isComposing = true; });
area.addEventListener('compositionend', () => { isComposing = false; write(); show(); });

// -- who is here ----------------------------------------------------------------------------------------------------

const colourOf = (one) => `hsl(${[...one].reduce((sum, letter) => (sum * 31 + letter.charCodeAt()) % 360, 7)} 60% 38%)`;
const nameOf = (info) => String(info?.name || 'somebody').slice(0, 20);
const isPlace = (at) => at === null || (Array.isArray(at) && at.length === 2); // `null` is before all letters

function showPeople({ members }) {
  const all = [...members ?? []].map(([one, info]) => ({ one, name: nameOf(info), colour: colourOf(one), at: info?.at }));
  people.replaceChildren(...all.map(({ one, name: who, colour }) => {
    const item = document.createElement('li');
    item.textContent = one === id ? `${who} (you)` : who;
    item.style.setProperty('--colour', colour);
    return item;
  }));
  others = all.filter(({ one, at }) => one !== id && isPlace(at));
  showCursors();
}

/** Tell the others where the cursor is: behind which letter, so that it is right in their text as well. */
async function tellCursor() {
  const info = { name: name.value, at: markAt(area.selectionEnd)?.slice(0, 2) ?? null };
  // Another info replaces the one before, and stays when its own subscription ends.
  (await client.subscribe('cursors', () => {}, { info })).unsubscribe();
}

let soon;
function tellCursorSoon() {
  soon ??= setTimeout(() => { soon = undefined; tellCursor().catch(() => {}); }, 150);
}
document.addEventListener('selectionchange', tellCursorSoon);
area.addEventListener('input', tellCursorSoon);
name.addEventListener('input', () => { localStorage.name = name.value; tellCursorSoon(); });

name.value = localStorage.name ?? '';
addEventListener('pagehide', () => client.close()); // who says goodbye has left at once
addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
await client.connect();
await client.subscribe('cursors', () => {}, { presence: showPeople });
tellCursorSoon();

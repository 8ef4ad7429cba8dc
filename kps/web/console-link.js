// The connection of this page: its token, its client, and what is said of them.

import { Client } from './kps.js';
import { byId, reveal, setText, stored } from './console-view.js';

const RETRY = 2000 + Math.random() * 1000; // milliseconds; consoles do not come back all at once
const SILENCE = 5000; // without statistics, after which the page says so
const TOKEN = 'kps-token';
const ENDS = { 1001: 'The server stopped', 1012: 'The server stopped', 4002: 'The time of the token is over' }; // by close code

const address = new URL(document.querySelector('meta[name=kps-path]').content, location.href);
const ownId = `console-${[...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;

/** This page's token. One in its URL moves to where nobody reads or shares it. */
function ownToken() {
  const page = new URL(location.href);
  const given = page.searchParams.get('token');
  const known = stored('sessionStorage', TOKEN);
  if (given !== null) {
    page.searchParams.delete('token');
    history.replaceState(null, '', page);
  }
  // Whoever made a link must not choose as whom its readers publish.
  const question = 'The address of this page has another token than the one in use. Use that from now on?';
  if (!given || (known && known !== given && !confirm(question))) return known;
  return stored('sessionStorage', TOKEN, given);
}

/** The connection. `events`: `{ connected(), failed(error), took(message) }`, of its client. */
export class Link {
  client;
  #events;
  #hasToken;
  #retryAt = 0;
  #silence;

  constructor(events) {
    this.#events = events;
    const token = ownToken() || undefined;
    this.#hasToken = token !== undefined;
    this.client = new Client(address, {
      id: ownId,
      token,
      reconnect: RETRY,
      onConnect: () => this.#connected(),
      onDisconnect: ({ code, retryIn }) => {
        this.#waiting(retryIn, `${ENDS[code] ?? `The connection broke (${code})`}. What is published meanwhile is not shown later.`);
      },
      onClose: (error) => this.#ended(error),
      onDirect: (message) => { events.took(message); },
      onError: (error) => (error.name === 'ConnectFailed' ? this.#attemptFailed() : events.failed(error)),
    });
    byId('login').addEventListener('submit', (event) => this.#login(event));
    byId('other-token').addEventListener('click', () => this.askForToken('Another token is used from now on.'));
    byId('reload').addEventListener('click', () => location.reload());
    setInterval(() => this.#countDown(), 250);
  }

  begin() {
    this.client.connect().catch(() => {}); // told by onClose
  }

  /** Figures have come. */
  heard() {
    this.#showState('connected', 'Connected', '');
  }

  /** The server tells this page nothing of itself. */
  tellsNothing(code, message) {
    clearTimeout(this.#silence);
    const reason = code === 'forbidden' ? 'that takes the permission “console”' : reveal(message);
    this.#showNotice(`The server does not show its figures to this page: ${reason}. Watching and publishing work, where they are allowed.`);
    byId('other-token').hidden = !this.#hasToken;
  }

  /** Let the user type a token; `why` says what for. */
  askForToken(why, isWrong = false) {
    this.#showState('locked', 'Token needed', '');
    const field = byId('token');
    setText(byId('login-why'), why);
    byId('login').hidden = false;
    byId('login-why').classList.toggle('problem', isWrong);
    field.ariaInvalid = isWrong;
    field.focus();
  }

  #login(event) {
    event.preventDefault();
    stored('sessionStorage', TOKEN, byId('token').value.trim());
    location.reload(); // nothing is lost: without a token there was nothing
  }

  /** `notice` says in words what the state means; without it the one that is there stays. */
  #showState(state, word, notice) {
    document.body.dataset.state = state;
    setText(byId('state-word'), word);
    setText(byId('countdown'), '');
    clearTimeout(this.#silence);
    if (notice !== undefined) this.#showNotice(notice);
  }

  #showNotice(text) {
    setText(byId('notice').firstElementChild, text);
    byId('notice').hidden = !text;
    byId('reload').hidden = document.body.dataset.state !== 'gone';
    byId('other-token').hidden = true;
  }

  #connected() {
    this.#showState('connected', 'Connected', '');
    this.#silence = setTimeout(() => this.#showNotice('This server tells no statistics. Watching and publishing work.'), SILENCE);
    this.#events.connected();
  }

  #waiting(delay, notice) {
    this.#retryAt = Date.now() + delay;
    this.#showState('waiting', navigator.onLine ? 'Reconnecting' : 'Offline', notice);
    this.#countDown();
  }

  #countDown() {
    if (document.body.dataset.state !== 'waiting') return;
    const seconds = Math.ceil((this.#retryAt - Date.now()) / 1000);
    setText(byId('countdown'), seconds > 0 ? ` in ${seconds} s` : ' …');
  }

  async #attemptFailed() {
    this.#waiting(RETRY);
    const reason = await whyNot();
    if (document.body.dataset.state === 'waiting') this.#showNotice(reason);
  }

  #ended({ code, message }) {
    if (code !== 'unauthorized') {
      this.#showState('gone', 'Gone', `This page does not come back by itself: ${reveal(message)}.`);
      return;
    }
    stored('sessionStorage', TOKEN, ''); // the next one is welcome
    if (this.#hasToken) this.askForToken('The server does not accept this token. It may be mistyped, or its time may be over.', true);
    else this.askForToken('This server lets in who has a token.');
  }
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

// The panel that publishes, and tells what became of it.

import { ConnectionLost, MessageTooLarge, NotConnected, RequestTimeout } from './kps.js';
import { alien, byId, clientName, clock, make, reveal, setText, some } from './console-view.js';

const KEPT = 30; // outcomes in the list
const MOST_ANSWERS = 200; // shown of one outcome; all are counted
const RESULT = 300; // characters of a result that are shown

function inWords(error) {
  if (error instanceof NotConnected) return 'Not sent: there is no connection at the moment.';
  if (error instanceof ConnectionLost) return 'The connection broke: what became of it is unknown.';
  if (error instanceof RequestTimeout) return 'The server did not answer in time.';
  if (error instanceof MessageTooLarge) return `Not sent: ${error.message} bytes.`;
  if (error.code === 'no_such_client') return 'No client has this id.';
  return `Refused: ${reveal(error.message)}.`;
}

/** The value of a payload, or why there is none; and what one should know about it. */
export function readPayload(text, isJson) {
  if (!isJson) return { value: text, hint: `${some(text.length, 'character')} of text` };
  if (!text.trim()) return { value: null, hint: 'Empty: null is sent' };
  let losesDigits = false;
  try {
    const value = JSON.parse(text, (key, each) => {
      losesDigits ||= Number.isInteger(each) && !Number.isSafeInteger(each);
      return each;
    });
    const warning = losesDigits && 'A number is too large for browsers and loses digits: send it as a string';
    return { value, hint: warning || 'Valid JSON', isDoubtful: losesDigits };
  } catch (error) {
    return { problem: `Not JSON yet: ${error.message}` };
  }
}

/** One message that was sent, in the list. */
class Outcome {
  #word = make('span');
  #button = make('button', { type: 'button', hidden: true }, 'Cancel');
  #answers = make('ul', { className: 'answers', hidden: true });
  #lines = new Map(); // client id -> what shows its answer
  #tally = { asked: 0, handled: 0, failed: 0, missing: 0 };
  #startedAt = performance.now();
  #ownId;

  constructor(what, destination, ownId) {
    this.what = what;
    this.#ownId = ownId;
    const title = alien('b', destination);
    const head = make('div', { className: 'outcome' }, make('small', {}, clock(Date.now())), title, this.#word, this.#button);
    const list = byId('outcomes');
    list.prepend(make('li', {}, head, this.#answers));
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
    this.tell('…', 'wait');
  }

  tell(text, mood) {
    setText(this.#word, text);
    this.#word.className = mood;
    if (mood !== 'wait') setText(byId('publish-status'), `${this.what}: ${text}`);
  }

  /** Show the answers to an ack as they come, from everyone who was asked. */
  async follow(ack) {
    this.#button.hidden = false;
    this.#button.onclick = () => { this.isCancelled = true; ack.cancel(); };
    ack.status().then((asked) => this.#ask([...asked.keys()]), () => {});
    try {
      for await (const response of ack) this.#answered(response);
      this.#finish();
    } finally {
      this.#button.hidden = true;
    }
  }

  #ask(ids) {
    this.#tally.asked = ids.length;
    for (const id of ids) this.#line(id);
    if (!this.#button.hidden) this.#progress();
  }

  /** The function that shows how a client fared; there are not endlessly many lines for it. */
  #line(id) {
    const known = this.#lines.get(id);
    if (known || this.#lines.size >= MOST_ANSWERS) return known;
    const [sign, said, time] = [make('span'), make('span'), make('small')];
    this.#answers.append(make('li', {}, sign, clientName(id, id === this.#ownId), said, time));
    this.#answers.hidden = false;
    const show = (mark, mood, text, moment = '') => {
      setText(sign, mark);
      said.textContent = said.title = text;
      sign.className = mood;
      said.className = `alien ${mood}`;
      setText(time, moment);
    };
    show('·', 'wait', 'has not answered yet');
    this.#lines.set(id, show);
    return show;
  }

  #answered({ clientId, success, error, result }) {
    const isMissing = error === 'timeout' || error === 'disconnected';
    const fate = success ? 'handled' : isMissing ? 'missing' : 'failed';
    const said = success ? JSON.stringify(result) : error === 'timeout' ? 'no answer in time' : error;
    this.#tally[fate]++;
    const [mark, mood] = { handled: ['✓', 'good'], failed: ['✗', 'bad'], missing: ['?', 'bad'] }[fate];
    const text = success && said ? said : said ? `${fate}: ${said}` : fate;
    const time = error === 'timeout' ? '' : `${Math.round(performance.now() - this.#startedAt)} ms`;
    this.#line(clientId)?.(mark, mood, reveal(text.slice(0, RESULT)), time);
    this.#progress();
  }

  get #answeredCount() {
    return this.#tally.handled + this.#tally.failed + this.#tally.missing;
  }

  #progress() {
    this.tell(`${this.#answeredCount} of ${Math.max(this.#tally.asked, this.#answeredCount)} answered`, 'wait');
  }

  #finish() {
    const { handled, failed, missing } = this.#tally;
    const all = this.#answeredCount;
    const troubles = [failed && `${failed} failed`, missing && `${missing} missing`].filter(Boolean).join(', ');
    if (this.isCancelled) this.tell(`Cancelled; ${all} had answered.`, 'bad');
    else if (!all) this.tell('Nobody is there to answer.', 'bad');
    else if (troubles) this.tell(`${handled} of ${all} handled it; ${troubles}.`, 'bad');
    else this.tell(all === 1 ? 'It was handled.' : `All ${all} handled it.`, 'good');
  }
}

export class Publish {
  #client;
  #form = byId('publish-form');
  #payload = byId('payload');
  #sending = new Set(); // what could be refused: { destination, error }

  constructor(client) {
    this.#client = client;
    this.#form.addEventListener('submit', (event) => this.#submit(event));
    this.#form.addEventListener('change', () => this.#showKind());
    this.#form.addEventListener('input', () => this.#check());
    this.#payload.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.#form.requestSubmit();
    });
    this.#showKind();
    this.#check();
  }

  /** Make the form ready for a message to one `client` or on one `topic`. */
  address(kind, name) {
    this.#form.elements.to.value = kind;
    byId('destination').value = name;
    this.#showKind();
    this.#form.scrollIntoView({ block: 'nearest' });
    this.#payload.focus({ preventScroll: true });
  }

  /** The server refused something; tells whether it was of ours. */
  refused(error) {
    const ours = [...this.#sending].find(({ destination }) => destination === (error.to ?? error.topic));
    if (ours) ours.error = error;
    return Boolean(ours);
  }

  get #isDirect() {
    return this.#form.elements.to.value === 'client';
  }

  #showKind() {
    const word = this.#isDirect ? 'Client id' : 'Topic';
    setText(byId('destination-label'), word);
    byId('destination').placeholder = word;
    byId('destination').setAttribute('list', this.#isDirect ? 'client-names' : 'topic-names');
    this.#form.querySelector('[value=publish]').textContent = this.#isDirect ? 'Send' : 'Publish';
    this.#form.querySelector('[value=receipt]').disabled = this.#isDirect;
  }

  #check() {
    const read = readPayload(this.#payload.value, this.#form.elements.as.value === 'json');
    const verdict = byId('verdict');
    setText(verdict, read.problem ?? read.hint);
    verdict.title = verdict.textContent;
    verdict.className = read.problem || read.isDoubtful ? 'problem' : '';
    this.#payload.ariaInvalid = Boolean(read.problem);
    return read;
  }

  async #submit(event) {
    event.preventDefault();
    const { value, problem } = this.#check();
    if (problem) {
      setText(byId('publish-status'), problem);
      return this.#payload.focus();
    }
    const kind = event.submitter?.value ?? 'publish';
    const destination = byId('destination').value;
    const outcome = new Outcome(kind, destination, this.#client.id);
    byId('publish').querySelector('.said').hidden = true;
    try {
      await this[kind](outcome, destination, value);
    } catch (error) {
      outcome.tell(inWords(error), 'bad');
    }
  }

  /** What nobody answers counts as sent when the server has handled it without a refusal. */
  async publish(outcome, destination, value) {
    const isDirect = this.#isDirect;
    const note = { destination };
    this.#sending.add(note);
    try {
      await this.#client[isDirect ? 'publishToId' : 'publish'](destination, value);
      await this.#client.flush();
    } finally {
      this.#sending.delete(note);
    }
    if (note.error) throw note.error;
    outcome.tell(isDirect ? 'Sent.' : 'Published.', 'good');
  }

  async receipt(outcome, topic, value) {
    const receivers = await this.#client.publishWithReceipt(topic, value);
    if (receivers === undefined) outcome.tell('Published.', 'good');
    else outcome.tell(receivers ? `Passed on to ${some(receivers, 'subscriber')}.` : 'Nobody subscribes to it.', receivers ? 'good' : 'bad');
  }

  async ack(outcome, destination, value) {
    const send = this.#isDirect ? 'publishToIdWithAck' : 'publishWithAck';
    const timeout = byId('timeout').valueAsNumber * 1000;
    const ack = await this.#client[send](destination, value, { timeout });
    await outcome.follow(ack);
  }
}

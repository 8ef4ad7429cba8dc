// All about one topic or pattern.

import { Look, Part } from './console-look.js';
import { alien, badge, clientName, count, duration, keyOf, make, number, rate, reveal, setText, some, subjectName } from './console-view.js';

const PAST = 20; // messages of the past that are shown
const PREVIEW = 400; // characters of a payload

export class TopicDetails extends Look {
  #kind;
  #name;
  #watch;
  #groups = new Part();
  #subscribers = new Part();
  #patterns = new Part();
  #members = new Part();
  #past = new Part();
  #pastAsOf; // the offset of the latest message that is shown

  constructor(client, page, kind, name) {
    super(client, page, '__kps/topic', { [kind]: name });
    this.#kind = kind;
    this.#name = name;
    this.name = subjectName(kind, name);
    this.label = `${kind === 'topic' ? 'Topic' : 'Pattern'} ${reveal(name)}`;
    this.#watch = make('button', { type: 'button', onclick: () => { page.toggleWatch(kind, name); this.#showWatch(); } });
    this.#showWatch();
    this.actions.append(this.#watch);
    if (kind === 'topic') this.actions.append(make('button', { type: 'button', onclick: () => page.publish(name) }, 'Publish'));
    this.parts.append(...[this.#groups, this.#subscribers, this.#patterns, this.#members, this.#past].map(({ element }) => element));
  }

  show(told) {
    const [speed] = this.growth([number(told.published)]);
    const { history } = told;
    this.facts.show({
      Subscribers: count(number(told.subscribers)),
      Messages: `${count(number(told.published))} since somebody subscribed · ${rate(speed)}/s`,
      History: history && `${some(number(history.kept), 'message')} of up to ${count(number(history.size))}`
        + (number(history.ttl) ? `, each for ${duration(number(history.ttl))}` : ''),
      Offsets: history?.kept ? `${number(history.first)} to ${number(history.last)}` : undefined,
      Presence: told.observers ? `${some(number(told.observers), 'client')} observe who is here` : undefined,
    });
    const list = (value) => (Array.isArray(value) ? value : []);
    const [groups, subscriptions, patterns] = [list(told.groups), list(told.subscriptions), list(told.patterns)];
    const groupCount = number(told.group_count) || groups.length;
    const rest = groups.length < groupCount ? `The first ${count(groups.length)} are shown.` : '';
    if (groups.length) this.#groups.show(`Groups (${count(groupCount)})`, groups, this.#group, rest);
    else this.#groups.hide();
    const all = number(told.subscribers);
    this.#subscribers.show(`Subscribers (${count(all)})`, subscriptions, (one) => this.#subscriber(one),
      subscriptions.length < all ? `The first ${count(subscriptions.length)} are shown.` : all ? '' : 'Nobody subscribes to it.');
    if (patterns.length) this.#patterns.show(`Patterns that have it (${count(patterns.length)})`, patterns, (one) => this.#pattern(one));
    else this.#patterns.hide();
    if (told.observers) this.#showMembers();
    else this.#members.hide();
    if (history?.kept && history.last !== this.#pastAsOf) this.#showPast(history.last);
  }

  #showWatch() {
    const isWatched = this.page.isWatched(keyOf(this.#kind, this.#name));
    this.#watch.ariaPressed = isWatched;
    setText(this.#watch, isWatched ? 'Watching' : 'Watch');
  }

  #group = ({ group, members, waiting }) => [
    alien('b', String(group)), ` ${some(number(members), 'member')}${number(waiting) ? ` · ${some(number(waiting), 'message')} wait` : ''}`,
  ];

  #subscriber({ id, group }) {
    const name = clientName(String(id), id === this.client.id, () => this.page.openClient(String(id)));
    return group === undefined ? name : [name, badge(`group ${reveal(String(group))}`)];
  }

  #pattern({ pattern, subscribers }) {
    const name = subjectName('pattern', String(pattern), () => this.page.openTopic('pattern', String(pattern)));
    return [name, make('small', {}, some(number(subscribers), 'subscriber'))];
  }

  async #showMembers() {
    const told = await this.client.presence(this.#name).catch((error) => ({ refusal: error.message }));
    if (this.isClosed) return;
    const { members, refusal } = told;
    const all = number(told.count);
    const line = ([id, info]) => {
      const name = clientName(id, id === this.client.id, () => this.page.openClient(id));
      return info ? [name, make('code', { className: 'alien' }, reveal(JSON.stringify(info).slice(0, PREVIEW)))] : name;
    };
    const rest = refusal ? `Who they are is not told: ${reveal(refusal)}.` : members ? '' : 'They are too many to be told.';
    this.#members.show(`Present (${count(all)})`, [...(members ?? [])], line, rest);
  }

  async #showPast(last) {
    this.#pastAsOf = last;
    const told = await this.client.history(this.#name, { limit: PAST }).catch((error) => ({ refusal: error.message }));
    if (this.isClosed) return;
    const messages = (told.messages ?? []).map(({ position, from, data }) => [position?.offset, from, JSON.stringify(data ?? null)]).reverse();
    const line = ([offset, from, json]) => [
      make('small', {}, `${number(offset)}`), alien('span', String(from)), make('code', { className: 'alien' }, reveal(json.slice(0, PREVIEW))),
    ];
    this.#past.show('Latest messages', messages, line, told.refusal ? `They are not told: ${reveal(told.refusal)}.` : '');
  }
}

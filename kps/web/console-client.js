// All about one client.

import { Look, Part } from './console-look.js';
import { badge, bytes, clientName, clock, count, duration, make, number, rate, reveal, setText, some, subjectName } from './console-view.js';

export class ClientDetails extends Look {
  #subscriptions = new Part();
  #disconnect = make('button', { type: 'button', className: 'danger' }, 'Disconnect');
  #question = make('p', { className: 'confirm', hidden: true, role: 'alert' });
  #hint = make('p', { className: 'hint', hidden: true }, 'This page may not disconnect clients: that takes the permission “disconnect”.');

  constructor(client, page, id) {
    super(client, page, '__kps/client', { id });
    this.name = clientName(id, id === client.id);
    this.label = `Client ${reveal(id)}`;
    const message = make('button', { type: 'button', onclick: () => page.message(id) }, 'Message');
    this.#disconnect.onclick = () => this.#confirm(id);
    this.#disconnect.hidden = true;
    this.actions.append(message, this.#disconnect, this.#question, this.#hint);
    this.parts.append(this.#subscriptions.element);
  }

  show(told) {
    const [into, out] = this.growth([number(told.received), number(told.delivered)]);
    const waiting = number(told.queue_messages);
    this.facts.show({
      Identity: told.identity ? reveal(String(told.identity)) : 'none (anonymous)',
      Address: reveal(String(told.address)),
      Connected: `${duration(number(told.age))}, since ${clock(Date.now() - number(told.age) * 1000)}`,
      'Level of the protocol': reveal(String(told.level)),
      Node: reveal(String(told.node)),
      'Messages from it': `${count(number(told.received))} · ${rate(into)}/s`,
      'Messages to it': `${count(number(told.delivered))} · ${rate(out)}/s`,
      Queue: waiting ? `${some(waiting, 'message')}, ${bytes(number(told.queue_bytes))}` : 'empty',
      Dropped: some(number(told.dropped), 'message'),
    });
    const subscriptions = Array.isArray(told.subscriptions) ? told.subscriptions : [];
    const all = number(told.topics);
    this.#subscriptions.show(`Subscriptions (${count(all)})`, subscriptions, (one) => this.#subscription(one),
      subscriptions.length < all ? `The first ${count(subscriptions.length)} are shown.` : all ? '' : 'It subscribes to nothing.');
    this.#disconnect.hidden = !told.may_disconnect || !this.#question.hidden;
    this.#hint.hidden = Boolean(told.may_disconnect);
  }

  failed(error) {
    if (error.name !== 'RequestFailed') return super.failed(error);
    this.#disconnect.hidden = true;
    this.#question.hidden = true;
    setText(this.status, this.wasDisconnected ? 'It is disconnected.' : 'It is not connected any more.');
  }

  #subscription({ topic, pattern, group }) {
    const [kind, name] = pattern === undefined ? ['topic', topic] : ['pattern', pattern];
    const element = subjectName(kind, String(name), () => this.page.openTopic(kind, String(name)));
    return group === undefined ? element : [element, badge(`group ${reveal(String(group))}`)];
  }

  #confirm(id) {
    const yes = make('button', { type: 'button', className: 'danger' }, 'Disconnect now');
    const no = make('button', { type: 'button' }, 'Cancel');
    const close = () => {
      this.#question.hidden = true;
      this.#disconnect.hidden = false;
      this.#disconnect.focus();
    };
    no.onclick = close;
    yes.onclick = async () => {
      yes.disabled = true;
      try {
        await this.client.request('__kps/disconnect', { id }, { timeout: 10_000 });
        this.wasDisconnected = true;
        this.look();
        no.focus();
      } catch (error) {
        close();
        this.status.hidden = false;
        setText(this.status, `It was not disconnected: ${reveal(error.message)}.`);
      }
    };
    this.#question.replaceChildren('Clients of KPS do not come back by themselves when they are disconnected.', yes, no);
    this.#question.hidden = false;
    this.#disconnect.hidden = true;
    yes.focus();
  }
}

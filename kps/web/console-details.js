// The dialog that shows all about one client, or one topic or pattern, beside the rest of the page.

import { ClientDetails } from './console-client.js';
import { TopicDetails } from './console-topic.js';
import { byId } from './console-view.js';

/** The dialog, which shows one at a time. `page` has what one can do from there: see `console.js`. */
export class DetailsDialog {
  #client;
  #page;
  #dialog = byId('details');
  #shown;

  constructor(client, page) {
    this.#client = client;
    this.#page = { ...page, openClient: (id) => this.openClient(id), openTopic: (kind, name) => this.openTopic(kind, name) };
    for (const does of ['message', 'publish']) {
      this.#page[does] = (name) => { this.#dialog.close(); page[does](name); };
    }
    this.#dialog.addEventListener('close', () => this.#shown?.close());
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close()); // beside it
    this.#dialog.querySelector('.close').addEventListener('click', () => this.#dialog.close());
  }

  openClient(id) {
    this.#open(new ClientDetails(this.#client, this.#page, id));
  }

  openTopic(kind, name) {
    this.#open(new TopicDetails(this.#client, this.#page, kind, name));
  }

  #open(details) {
    this.#shown?.close();
    this.#shown = details;
    this.#dialog.ariaLabel = details.label;
    const name = details.name.querySelector('.alien');
    name.textContent = name.fullName; // however long it is
    byId('details-name').replaceChildren(details.name);
    byId('details-body').replaceChildren(...details.elements);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.focus();
    details.look();
  }
}

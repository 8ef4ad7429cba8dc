// Keeps the latest of very many things, as the server does: nobody who causes most pushes out the others.

/** Up to `most` things, each from a source. When there is one too many, the oldest goes of the source that has most. */
export class Latest {
  #most;
  #all = new Map(); // by key, in the order of time: the thing, and its source
  #of = new Map(); // by source: the keys of its things, in the order of time

  constructor(most) {
    this.#most = most;
  }

  /** The keys and the things, the latest one last. */
  get entries() {
    return [...this.#all].map(([key, { thing }]) => [key, thing]);
  }

  /** Keep a thing, in place of the one with the same key, as the latest one. */
  add(source, key, thing) {
    this.#remove(key);
    this.#all.set(key, { thing, source });
    const keys = this.#of.get(source) ?? new Set();
    this.#of.delete(source); // which was heard last is behind the others
    this.#of.set(source, keys.add(key));
    if (this.#all.size <= this.#most) return;
    const busiest = [...this.#of.values()].reduce((most, each) => (each.size > most.size ? each : most));
    this.#remove(busiest.values().next().value);
  }

  clear() {
    this.#all.clear();
    this.#of.clear();
  }

  #remove(key) {
    const known = this.#all.get(key);
    if (!known) return;
    this.#all.delete(key);
    const keys = this.#of.get(known.source);
    keys.delete(key);
    if (!keys.size) this.#of.delete(known.source);
  }
}

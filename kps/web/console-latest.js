// Keeps the latest of very many things, as the server does: nobody who causes most pushes out the others.

let count = 0; // of all that was added, anywhere

/** What several keep, the oldest first: objects with `key` and `thing`. */
export const inOrder = (...several) => several.flatMap((one) => one.kept).sort((one, other) => one.number - other.number);

/** Up to `most` things, each from a source. When there is one too many, the oldest goes of the source that has most. */
export class Latest {
  #most;
  #all = new Map(); // by key: the thing, its source, and its place in the order of time
  #of = new Map(); // by source: the keys of its things, in the order of time

  constructor(most) {
    this.#most = most;
  }

  get kept() {
    return [...this.#all.values()];
  }

  /** Keep a thing, in place of the one with the same key, as the latest one. */
  add(source, key, thing) {
    this.#remove(key);
    this.#all.set(key, { key, thing, source, number: count++ });
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

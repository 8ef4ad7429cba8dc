/** Of two letters behind the same one, that with the larger id comes first: the larger number, or else author. */
const comesFirst = ([number, author], [otherNumber, other]) => (number === otherNumber ? author > other : number > otherNumber);

/** The text as editor.py has it: marks of a number, an author and a letter, which is '' when it has been removed. */
export class Text {
  constructor(marks = []) { this.marks = marks; }

  /** The marks that can be seen. */
  get shown() { return this.marks.filter(([, , letter]) => letter); }

  toString() { return this.marks.map(([, , letter]) => letter).join(''); }

  indexOf([number, author]) { return this.marks.findIndex((mark) => mark[0] === number && mark[1] === author); }

  find(mark) {
    const index = this.indexOf(mark);
    if (index < 0) throw new RangeError('the text has no such letter');
    return index;
  }

  /** The number for the next letter of this author. */
  get next() { return 1 + this.marks.reduce((most, [number]) => Math.max(most, number), 0); }

  /** How many characters of the text end with that mark: where a cursor behind it is, also when it has been removed. */
  lengthTo(mark) {
    const end = mark ? this.indexOf(mark) + 1 : 0;
    return this.marks.slice(0, end).reduce((length, [, , letter]) => length + letter.length, 0);
  }

  /** Make an edit. One that was made before changes nothing. Throws `RangeError` if it is about another text. */
  apply({ remove, insert, id: [number, author], after }) {
    for (const one of remove) this.marks[this.find(one)][2] = '';
    let place = after ? this.find(after) + 1 : 0;
    for (const [offset, letter] of [...insert].entries()) {
      const mark = [number + offset, author, letter];
      const known = this.indexOf(mark);
      if (known >= 0) {
        place = known;
      } else {
        while (place < this.marks.length && comesFirst(this.marks[place], mark)) place++;
        this.marks.splice(place, 0, mark);
      }
      place++;
    }
  }
}

/** The edit that makes of the marks that were shown what the author has made of them. */
export function editOf(shown, value, number, author) {
  const [before, now] = [shown.map(([, , letter]) => letter), [...value]];
  let start = 0;
  while (start < before.length && before[start] === now[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, now.length) - start && before.at(-1 - end) === now.at(-1 - end)) end++;
  const idOf = (mark) => mark?.slice(0, 2) ?? null;
  return {
    remove: shown.slice(start, shown.length - end).map(idOf),
    insert: now.slice(start, now.length - end).join(''),
    id: [number, author],
    after: idOf(shown[start - 1]),
  };
}

/** The marks that are shown when its author has made an edit of `editOf`. */
export function changed(shown, { remove, insert, id: [number, author], after }) {
  const start = after ? 1 + new Text(shown).indexOf(after) : 0;
  const letters = [...insert].map((letter, offset) => [number + offset, author, letter]);
  return shown.toSpliced(start, remove.length, ...letters);
}

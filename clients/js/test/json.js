// JSON with integers of any size kept exact: those that a number cannot hold become BigInts.

const TOKEN = /\s*(?:([{}[\],:])|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|(true|false|null))/y;

export function parseExactly(text) {
  JSON.parse(text); // whatever is wrong with it is told here
  TOKEN.lastIndex = 0;
  return readValue(text, nextToken(text));
}

export function stringifyExactly(value) {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return `[${value.map(stringifyExactly)}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([key, member]) => (
    `${JSON.stringify(key)}:${stringifyExactly(member)}`
  ));
  return `{${members}}`;
}

function nextToken(text) {
  const [, punctuation, string, number, word] = TOKEN.exec(text);
  return { punctuation, string, number, word };
}

function readValue(text, { punctuation, string, number, word }) {
  if (number !== undefined) return readNumber(number);
  if (punctuation === '[') return readItems(text, ']').map(([item]) => item);
  if (punctuation === '{') return Object.fromEntries(readItems(text, '}'));
  return JSON.parse(string ?? word);
}

function readNumber(digits) {
  const number = Number(digits);
  return /^-?\d+$/.test(digits) && !Number.isSafeInteger(number) ? BigInt(digits) : number;
}

/** The items of an array or the members of an object, each as a list. */
function readItems(text, end) {
  const items = [];
  for (let token = nextToken(text); token.punctuation !== end; token = nextToken(text)) {
    if (token.punctuation === ',') continue;
    const value = readValue(text, token);
    if (end === ']') items.push([value]);
    else {
      nextToken(text); // the colon
      items.push([value, readValue(text, nextToken(text))]);
    }
  }
  return items;
}

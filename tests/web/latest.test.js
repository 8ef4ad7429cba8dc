// What the console keeps of very many events. Without a browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const source = await readFile(new URL('../../kps/web/console-latest.js', import.meta.url), 'utf8');
const { Latest } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const things = (latest) => latest.entries.map(([, thing]) => thing);

test('the oldest goes, of one source and of many', () => {
  for (const source of [() => 'a', (number) => `${number}`]) {
    const latest = new Latest(3);
    for (let number = 0; number < 10; number++) latest.add(source(number), number, number);
    assert.deepEqual(things(latest), [7, 8, 9]);
  }
});

test('a busy source pushes out nothing of another one', () => {
  const latest = new Latest(3);
  latest.add('quiet', 'x', 'first');
  for (let number = 0; number < 10; number++) latest.add('busy', number, number);
  assert.deepEqual(things(latest), ['first', 8, 9]);
});

test('one that comes again is the latest, and counts once', () => {
  const latest = new Latest(2);
  latest.add('a', 'x', 1);
  latest.add('a', 'y', 2);
  latest.add('b', 'x', 3);
  assert.deepEqual(latest.entries, [['y', 2], ['x', 3]]);
  latest.clear();
  assert.deepEqual(things(latest), []);
});

// What the console keeps of very many events. Without a browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const source = await readFile(new URL('../../kps/web/console-latest.js', import.meta.url), 'utf8');
const { Latest, inOrder } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const things = (...several) => inOrder(...several).map(({ thing }) => thing);

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
  assert.deepEqual(inOrder(latest).map(({ key, thing }) => [key, thing]), [['y', 2], ['x', 3]]);
  latest.clear();
  assert.deepEqual(things(latest), []);
});

test('what floods one from very many sources pushes out nothing of another, and both are in order', () => {
  const [refusals, others] = [new Latest(3), new Latest(3)];
  others.add('a', 1, 'first');
  for (let number = 0; number < 10; number++) refusals.add(`${number}`, number, number);
  others.add('a', 2, 'last');
  assert.deepEqual(things(refusals, others), ['first', 7, 8, 9, 'last']);
});

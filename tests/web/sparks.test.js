// The rates of topics in the last minute, as the console keeps them. Without a browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const read = (name) => readFile(new URL(`../../kps/web/${name}`, import.meta.url), 'utf8');
const within = (source) => `data:text/javascript,${encodeURIComponent(source).replaceAll("'", '%27')}`;
const view = within(await read('console-view.js'));
const { Sparks } = await import(within((await read('console-figures.js')).replace('./console-view.js', view)));

const SECOND = 1000;

test('when the clock is set back, no rate is in the future', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 100 * SECOND });
  const sparks = new Sparks();
  const note = (...keys) => sparks.note(keys.map((key) => ({ key, rate: 1 })));
  for (let seconds = 100; seconds <= 130; seconds++) {
    t.mock.timers.setTime(seconds * SECOND);
    note('busy', 'quiet');
  }
  assert.equal(sparks.of('busy').length, 31);
  t.mock.timers.setTime(120 * SECOND);
  note('busy');
  assert.deepEqual(sparks.of('busy'), [[0, 1]]);
  assert.deepEqual(sparks.of('quiet'), []);
});

test('what is older than a minute is forgotten', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 100 * SECOND });
  const sparks = new Sparks();
  sparks.note([{ key: 'a', rate: 2 }]);
  t.mock.timers.setTime(159 * SECOND);
  sparks.note([]);
  assert.equal(sparks.sum('a'), 2);
  t.mock.timers.setTime(161 * SECOND);
  sparks.note([]);
  assert.equal(sparks.sum('a'), 0);
});

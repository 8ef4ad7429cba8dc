// How the console writes what others named. Without a browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

const source = await readFile(new URL('../../kps/web/console-view.js', import.meta.url), 'utf8');
const { reveal, shown } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const NAME = 'alice';
const HIDDEN = [
  0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180e, 0x180f, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028,
  0x2029, 0x202a, 0x202e, 0x2060, 0x2064, 0x2065, 0x2066, 0x2069, 0x206f, 0x2800, 0x3164, 0xfe00, 0xfe0f, 0xfeff, 0xffa0,
  0xfff0, 0xfff9, 0xfffb, 0xfffe, 0xffff, 0x110bd, 0x1bca0, 0x1d173, 0xe0000, 0xe0001, 0xe0041, 0xe007f, 0xe0100, 0xe0fff,
  0x1fffe, 0, 7, 9, 0xa, 0xd, 0x1b, 0x7f, 0x85, 0x9b, 0xa0, 0x1680, 0x2000, 0x2003, 0x2009, 0x200a, 0x202f, 0x205f, 0x3000,
];

test('nothing invisible makes a name look like another', () => {
  const seen = new Set([NAME]);
  for (const code of HIDDEN) {
    const character = String.fromCodePoint(code);
    for (const name of [`${NAME}${character}`, `${character}${NAME}`, `al${character}ice`]) {
      const written = shown(name);
      assert.match(written, /^[!-~]+$/, `U+${code.toString(16)}`);
      assert.equal(seen.has(written), false, written);
      seen.add(written);
    }
    assert.match(reveal(character), /^\\u/);
  }
});

test('blanks are seen where no blank is expected', () => {
  const names = [NAME, ` ${NAME}`, `${NAME} `, 'al ice', 'al  ice', 'al   ice', '  ', ' '];
  assert.equal(new Set(names.map(shown)).size, names.length);
  for (const name of names) assert.doesNotMatch(shown(name), /^ | $| {2}/);
  assert.equal(shown('al ice'), 'al ice');
  assert.equal(reveal('  "in JSON": 1'), '  "in JSON": 1');
});

test('a name that only looks like an escape is another', () => {
  assert.notEqual(shown('a\u200b'), shown('a\\u200b'));
  assert.notEqual(shown('\\\u200b'), shown('\\\\u200b'));
  assert.equal(shown('C:\\files'), 'C:\\files');
});

test('halves of characters, also where a long name is cut', () => {
  assert.equal(shown('\ud800'), '\\ud800');
  assert.match(shown(`${'x'.repeat(159)}😀`), /^x+\\ud83d…$/);
});

test('what can be read stays as it is', () => {
  for (const name of ['alice', 'Ålice', 'алиса', 'アリス', '爱丽丝', 'علی', 'अ', '😀', 'a-b_c/d.e', '€ 5', 'ﬁ']) assert.equal(shown(name), name);
});

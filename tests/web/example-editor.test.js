// The editor of examples/editor, in the browsers of several authors.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';

import { comeBack, goAway, lend } from './away.js';
import { freePort, launch, run } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';
import { until } from './how-to.js';

describe('the editor', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  const begin = async (t) => (await start(t, 'editor', '127.0.0.1:0', '0')).url;
  const paper = (page) => page.getByLabel('Text');
  const textOf = (page) => paper(page).inputValue();
  const isSaved = (page) => page.locator('#state', { hasText: 'All is saved.' }).waitFor();

  async function enter(t, url, name) {
    const page = await open(t, browser, url);
    await lend(page);
    await page.locator('textarea:enabled').waitFor();
    await page.getByLabel('You are').fill(name);
    await page.locator('#people', { hasText: `${name} (you)` }).waitFor();
    return page;
  }

  /** Wait until a page has the text that the condition wants. */
  const hasText = (page, condition) => until(async () => condition(await textOf(page)), () => textOf(page));

  /** Put the cursor somewhere, as a click does. */
  const goTo = (page, place) => paper(page).evaluate((area, at) => { area.focus(); area.setSelectionRange(at, at); }, place);

  test('several type at the same time, and all end with the same text', async (t) => {
    const url = await begin(t);
    const [alice, bob] = [await enter(t, url, 'alice'), await enter(t, url, 'bob')];
    await paper(alice).fill('Shopping\n\nTea, bread and apples\n');
    await hasText(bob, (text) => text.endsWith('apples\n'));
    await goTo(alice, 'Shopping\n\n'.length);
    await goTo(bob, (await textOf(bob)).length);
    await Promise.all([alice.keyboard.type('For Friday evening: '), bob.keyboard.type('Who brings the chairs?')]);
    const both = 'Shopping\n\nFor Friday evening: Tea, bread and apples\nWho brings the chairs?';
    await Promise.all([alice, bob].map((page) => hasText(page, (text) => text === both)));

    // Both at one place, one of them removing what the other one writes into.
    await goTo(bob, both.indexOf('bread') + 5);
    await paper(alice).evaluate((area, at) => { area.focus(); area.setSelectionRange(at, at + 5); }, both.indexOf('bread'));
    // Once bob has begun behind the word: if it went before that, he would write behind what alice has written.
    await bob.keyboard.type(',');
    await Promise.all([alice.keyboard.type('cake'), bob.keyboard.type(' milk')]);
    const carol = await enter(t, url, 'carol');
    await Promise.all([alice, bob].map(isSaved));
    const result = both.replace('bread', 'cake, milk');
    for (const page of [alice, bob, carol]) await hasText(page, (text) => text === result);

    await goTo(bob, result.indexOf('Tea') + 3);
    await goTo(carol, result.length);
    await carol.keyboard.type('\nI do.');
    await hasText(alice, (text) => text.endsWith('I do.'));
    await alice.locator('i[data-name=bob]').waitFor();
    await alice.locator('i[data-name=carol]').waitFor();
    /** What stands before a cursor of somebody else. */
    const before = (page, name) => page.evaluate((who) => {
      const range = document.createRange();
      range.setStart(document.querySelector('pre'), 0);
      range.setEndBefore(document.querySelector(`i[data-name=${who}]`));
      return range.toString();
    }, name);
    await until(async () => (await before(alice, 'bob')).endsWith('Tea'));
    await until(async () => (await before(alice, 'carol')).endsWith('I do.'));
    await picture(alice, 'editor');
    await fits(alice);
  });

  test('who writes without a connection comes back with it, and gets what others wrote', async (t) => {
    const url = await begin(t);
    const [alice, bob] = [await enter(t, url, 'alice'), await enter(t, url, 'bob')];
    await paper(alice).fill('one 🍎 three');
    await hasText(bob, (text) => text === 'one 🍎 three');
    await goAway(bob);
    await bob.locator('#state', { hasText: 'No connection' }).waitFor();
    await goTo(bob, 0);
    await bob.keyboard.type('zero ');
    await goTo(alice, 'one 🍎 three'.length);
    await alice.keyboard.type(' four');
    await isSaved(alice);
    assert.equal(await textOf(alice), 'one 🍎 three four');
    assert.equal(await textOf(bob), 'zero one 🍎 three');
    await comeBack(bob);
    for (const page of [alice, bob]) await hasText(page, (text) => text === 'zero one 🍎 three four');
    await isSaved(bob);
  });

  test('a program that has begun anew has a new text, in which one goes on', async (t) => {
    const ports = [`127.0.0.1:${await freePort()}`, String(await freePort())];
    const program = run('examples/editor/editor.py', ...ports);
    await once(program.stdout, 'data');
    const bob = await enter(t, `http://127.0.0.1:${ports[1]}`, 'bob');
    await paper(bob).fill('old');
    await isSaved(bob);
    program.kill('SIGINT');
    await program.ended;
    await bob.locator('#state', { hasText: 'No connection' }).waitFor();
    await goTo(bob, 3);
    await bob.keyboard.type('er');
    assert.equal(await textOf(bob), 'older');
    const url = (await start(t, 'editor', ...ports)).url;
    await hasText(bob, (text) => text === '');
    await paper(bob).fill('new');
    const carol = await enter(t, url, 'carol');
    await hasText(carol, (text) => text === 'new');
  });
});

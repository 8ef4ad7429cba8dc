// The game of examples/game, in the browsers of several players.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launch } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';
import { until } from './how-to.js';

describe('the game', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  const begin = async (t) => (await start(t, 'game', '127.0.0.1:0', '0')).url;

  async function play(t, url, name) {
    const page = await open(t, browser, url);
    await page.getByLabel('Your name').fill(name);
    await page.keyboard.press('Enter');
    await player(page, name).waitFor();
    return page;
  }

  const player = (page, name) => page.locator('#players g', { hasText: name });

  /** Where a page draws a player. */
  const placeOf = async (page, name) => {
    const [, x, y] = /translate\((.+)px, (.+)px\)/.exec(await player(page, name).getAttribute('style'));
    return { x: Number(x), y: Number(y) };
  };

  /** Wait until a page draws a player where the condition says. */
  const comes = (page, name, condition) => until(async () => condition(await placeOf(page, name)));

  test('players see each other move, by keys and by pointer', async (t) => {
    const url = await begin(t);
    const [alice, bob] = [await play(t, url, 'alice'), await play(t, url, 'bob')];
    await alice.locator('#news', { hasText: 'bob has come' }).waitFor();
    const from = await placeOf(bob, 'alice');
    const [key, sign] = from.x < 50 ? ['ArrowRight', 1] : ['a', -1];
    await alice.keyboard.down(key);
    await comes(bob, 'alice', ({ x }) => (x - from.x) * sign > 15);
    await alice.keyboard.up(key);

    const arena = await bob.locator('#arena').boundingBox();
    await bob.mouse.move(arena.x + 30, arena.y + 30);
    await bob.mouse.down();
    await comes(alice, 'bob', ({ x, y }) => x === 0 || y === 0);
    await bob.mouse.up();

    await bob.close();
    await player(alice, 'bob').waitFor({ state: 'detached' });
    await alice.locator('#news', { hasText: 'bob has left' }).waitFor();
  });

  test('who collects ten dots wins, and who comes later reads of it', async (t) => {
    const url = await begin(t);
    const [alice, bob] = [await play(t, url, 'alice'), await play(t, url, 'bob')];
    await alice.evaluate(() => {
      const press = (type, key) => document.body.dispatchEvent(new KeyboardEvent(type, { key, cancelable: true, bubbles: true }));
      const all = ['ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight'];
      document.body.dataset.robot = setInterval(() => { // goes to the dot that is nearest
        const [, x, y] = /translate\((.+)px, (.+)px\)/.exec(document.querySelector('.you').getAttribute('style')).map(Number);
        const ways = [...document.querySelectorAll('#dots circle')]
          .map((dot) => [dot.getAttribute('cx') - x, dot.getAttribute('cy') - y])
          .sort((one, other) => Math.hypot(...one) - Math.hypot(...other));
        const [[right, down]] = ways;
        const wanted = [right > 1 && 'ArrowRight', right < -1 && 'ArrowLeft', down > 1 && 'ArrowDown', down < -1 && 'ArrowUp'];
        for (const key of all) press(wanted.includes(key) ? 'keydown' : 'keyup', key);
      }, 50);
    });
    const score = (page, name, number) => page.locator('#scores li', { hasText: new RegExp(`${name}${number}$`) });
    await score(bob, 'alice', '[3-9]').waitFor();
    const carol = await play(t, url, 'carol');
    await carol.locator('#wins', { hasText: 'alice' }).waitFor({ timeout: 60_000 });
    await alice.evaluate(() => clearInterval(Number(document.body.dataset.robot)));
    await bob.keyboard.down('ArrowDown');
    const late = await open(t, browser, url); // watches
    await late.locator('#wins', { hasText: 'alice' }).waitFor();
    for (const name of ['alice', 'bob', 'carol']) await player(late, name).waitFor();
    assert.equal(await late.locator('#players g').count(), 3);
    await picture(alice, 'game');
    await fits(alice);
  });

  test('a page that is loaded again goes on with its player', async (t) => {
    const url = await begin(t);
    const [alice, bob] = [await play(t, url, 'alice'), await play(t, url, 'bob')];
    const id = await player(bob, 'alice').getAttribute('data-id');
    await alice.reload();
    await player(alice, 'alice').waitFor();
    await alice.keyboard.down('ArrowLeft');
    await comes(bob, 'alice', ({ x }) => x === 0);
    assert.equal(await player(bob, 'alice').getAttribute('data-id'), id);
    assert.equal(await player(bob, 'alice').count(), 1);
  });
});

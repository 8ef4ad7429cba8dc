// The chat of examples/chat, in the browsers of several people.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { comeBack, goAway, lend } from './away.js';
import { launch } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';
import { until } from './how-to.js';

describe('the chat', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  const begin = async (t) => (await start(t, 'chat', '127.0.0.1:0', '0')).url;

  async function enter(t, chat, name) {
    const page = await open(t, browser, chat);
    await page.getByLabel('Your name').fill(name);
    await page.keyboard.press('Enter');
    await page.locator('#state', { hasText: `you are ${name}` }).waitFor();
    await page.locator('#people', { hasText: `${name} (you)` }).waitFor();
    return page;
  }

  async function write(page, text) {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
  }

  const line = (page, text) => page.locator('#lines li', { hasText: text });
  const isRead = (page, text, words) => line(page, text).locator('.read', { hasText: words }).waitFor();
  const shown = (page) => page.locator('#lines li > div').allTextContents();

  /** Have nobody look at the page, or somebody again. */
  const hide = (page, isHidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);

  test('a line is read when somebody looks at it, and its writer learns of each', async (t) => {
    const chat = await begin(t);
    const [alice, bob, carol] = [await enter(t, chat, 'alice'), await enter(t, chat, 'bob'), await enter(t, chat, 'carol')];
    await alice.locator('#count', { hasText: '3' }).waitFor();
    await hide(bob, true);
    await write(alice, 'Anybody for the <b>Kino</b> tonight?');
    await isRead(alice, 'Kino', 'read by carol · not yet by bob');
    await line(bob, '<b>Kino</b>').waitFor();
    await hide(bob, false);
    await isRead(alice, 'Kino', 'read by carol, bob');

    await until(async () => { // it is shown for a short time only, so it may be over before we look
      await carol.getByLabel('Message').pressSequentially('me');
      return alice.locator('#typing', { hasText: 'carol is typing' }).isVisible();
    });
    await write(carol, 'me');
    await line(alice, 'me').waitFor();
    await alice.locator('#typing', { hasText: /^$/ }).waitFor({ state: 'attached' });

    await hide(bob, true);
    await write(alice, 'At eight then');
    await isRead(alice, 'At eight', 'read by carol · not yet by bob');
    await bob.close();
    await isRead(alice, 'At eight', 'read by carol · not by bob (disconnected)');
    await alice.locator('#count', { hasText: '2' }).waitFor();
    await write(carol, 'I bring the tickets');
    await isRead(carol, 'tickets', 'read by alice');
    await alice.getByLabel('Message').focus();
    await picture(alice, 'chat');
    await fits(alice);
  });

  test('who comes late sees what was said, once, and only in that room', async (t) => {
    const chat = await begin(t);
    const alice = await enter(t, chat, 'alice');
    for (const text of ['one', 'two', 'three']) {
      await write(alice, text);
      await isRead(alice, text, 'nobody is here');
    }
    const bob = await enter(t, chat, 'bob');
    await line(bob, 'three').waitFor();
    assert.deepEqual(await shown(bob), ['one', 'two', 'three']);
    await bob.getByRole('button', { name: 'music' }).click();
    await write(bob, 'la');
    await line(bob, 'la').waitFor();
    assert.deepEqual(await shown(bob), ['la']);
    await bob.getByRole('button', { name: 'lobby' }).click();
    await line(bob, 'three').waitFor();
    assert.deepEqual(await shown(bob), ['one', 'two', 'three']);
    assert.deepEqual(await shown(alice), ['one', 'two', 'three']);
  });

  test('who has had no connection gets what was said meanwhile, once and in order', async (t) => {
    const chat = await begin(t);
    const [alice, bob] = [await enter(t, chat, 'alice'), await enter(t, chat, 'bob')];
    await lend(bob);
    await bob.locator('#people', { hasText: 'bob (you)' }).waitFor();
    await write(alice, 'one');
    await isRead(alice, 'one', 'read by bob');
    await goAway(bob);
    await bob.locator('#state', { hasText: 'no connection' }).waitFor();
    await write(bob, 'mine');
    await bob.locator('#state', { hasText: 'not sent' }).waitFor();
    for (const text of ['two', 'three']) {
      await write(alice, text);
      await isRead(alice, text, 'nobody is here');
    }
    await comeBack(bob);
    await line(bob, 'three').waitFor();
    await bob.getByLabel('Message').press('Enter'); // it is still there
    for (const page of [alice, bob]) await line(page, 'mine').waitFor();
    for (const page of [alice, bob]) assert.deepEqual(await shown(page), ['one', 'two', 'three', 'mine']);
  });

  test('a private line goes to one person, and says whether that one is there', async (t) => {
    const chat = await begin(t);
    const [alice, bob, carol] = [await enter(t, chat, 'alice'), await enter(t, chat, 'bob'), await enter(t, chat, 'carol')];
    await alice.getByRole('button', { name: 'bob' }).click();
    await write(alice, 'a secret');
    await isRead(alice, 'a secret', 'read by bob');
    await line(bob, 'alice → bob').waitFor();
    await bob.goto('about:blank');
    await alice.locator('#people', { hasText: 'bob' }).waitFor({ state: 'detached' });
    await write(alice, 'are you there?');
    await isRead(alice, 'are you there?', 'nobody is here');
    await alice.keyboard.press('Escape');
    await write(alice, 'to all');
    await isRead(alice, 'to all', 'read by carol');
    assert.deepEqual(await shown(carol), ['to all']);
  });

  test('a name belongs to the browser that has taken it first', async (t) => {
    const chat = await begin(t);
    const alice = await enter(t, chat, 'alice');
    const other = await open(t, browser, chat);
    await other.getByLabel('Your name').fill('alice');
    await other.keyboard.press('Enter');
    await other.getByRole('alert').getByText("may be somebody else's name").waitFor();
    await alice.reload();
    await alice.locator('#state', { hasText: 'you are alice' }).waitFor();
  });
});

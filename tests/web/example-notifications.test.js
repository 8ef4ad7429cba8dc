// examples/notifications in a browser: two users, of whom one has two devices.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launch } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';

const SIGNED_OUT = /status of 401/; // what browsers write when the page asks whose it is

describe('notifications', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  async function device(t, url, user) {
    const page = await open(t, browser, url, { allowed: SIGNED_OUT });
    await page.getByRole('button', { name: user }).click();
    await page.locator('form').waitFor();
    return page;
  }

  async function send(page, to, text) {
    await page.getByLabel('To').selectOption({ label: to });
    await page.getByLabel('Text').fill(text);
    await page.keyboard.press('Enter');
    await page.locator('input[name=text]:placeholder-shown').waitFor(); // it was sent
    return page.locator('output').textContent();
  }

  const shown = (page) => page.locator('li p').allTextContents();
  const isShown = (page, text) => page.locator('li', { hasText: text }).waitFor();
  const unread = (page, count) => page.locator(`#unread[data-count='${count}']`).waitFor({ state: 'attached' });

  test('live, kept for who is away, and read on all devices', async (t) => {
    const { url } = await start(t, 'notifications', '0');
    const [ann, phone, desk] = [await device(t, url, 'Ann'), await device(t, url, 'Bob'), await device(t, url, 'Bob')];

    assert.equal(await send(ann, 'Bob', 'The build is green again.'), 'Shown to Bob on 2 devices.');
    for (const page of [phone, desk]) assert.deepEqual(await shown(page), ['The build is green again.']);
    assert.deepEqual(await shown(ann), []); // it is not hers

    await desk.getByRole('button', { name: 'Mark as read' }).click();
    for (const page of [phone, desk]) await unread(page, 0);

    await phone.goto('about:blank'); // away
    const told = await send(ann, 'Everybody', 'Cake in the kitchen.');
    assert.match(told, /^Shown to (Ann on 1 device, Bob on 1 device|Bob on 1 device, Ann on 1 device)\. Kept for Cid\.$/);
    assert.equal(await send(desk, 'Ann', 'Thank you <3'), 'Shown to Ann on 1 device.');
    await phone.goto(url);
    await isShown(phone, 'Cake');
    assert.deepEqual(await shown(phone), ['Cake in the kitchen.', 'The build is green again.']);
    await unread(phone, 1);

    const cid = await device(t, url, 'Cid'); // for the first time
    await isShown(cid, 'Cake');
    assert.deepEqual(await shown(cid), ['Cake in the kitchen.']);

    await send(desk, 'Ann', 'The report is in your folder.');
    await ann.locator('li', { hasText: 'Cake' }).getByRole('button').click();
    await unread(ann, 2);
    await send(ann, 'Everybody', 'The lift works again.');
    await fits(ann);
    await picture(ann, 'notifications');
    await ann.getByRole('button', { name: 'Mark all as read' }).click();
    await unread(ann, 0);
  });

  test('a connection that breaks leaves no gap, and nothing twice', async (t) => {
    const { url } = await start(t, 'notifications', '0');
    const [ann, bob] = [await device(t, url, 'Ann'), await device(t, url, 'Bob')];
    const texts = ['one', 'two', 'three', 'four'];
    await send(ann, 'Bob', texts[0]);
    await bob.context().setOffline(true);
    for (const text of texts.slice(1, 3)) await send(ann, 'Bob', text);
    await bob.context().setOffline(false);
    await isShown(bob, 'three');
    assert.equal(await send(ann, 'Bob', texts[3]), 'Shown to Bob on 1 device.');
    assert.deepEqual(await shown(bob), texts.toReversed());
  });
});

// examples/iot_collector in a browser: two dashboards.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launch } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';

describe('iot_collector', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  const card = (page, sensor) => page.locator(`article[data-sensor=${sensor}]`);
  const isOnline = (page, sensor) => card(page, sensor).locator('.state', { hasText: 'online' }).waitFor();
  const points = (page, sensor) => card(page, sensor).locator('polyline').getAttribute('points');

  test('two dashboards see readings, the past, who is offline, and who takes care of an alarm', async (t) => {
    const { url } = await start(t, 'iot_collector', '0', '0');
    const ann = await open(t, browser, url);
    for (const sensor of ['boiler', 'cellar', 'greenhouse', 'workshop']) await isOnline(ann, sensor);
    await ann.locator('#collector', { hasText: /process \d+/ }).waitFor();
    await ann.locator('article[data-sensor=cellar] small', { hasText: /reading (1[2-9]|[2-9]\d|\d{3,}),/ }).waitFor();

    const bob = await open(t, browser, url); // comes late, and sees the past
    await isOnline(bob, 'cellar'); // the page asks for that once it has the past
    assert.ok((await points(bob, 'cellar')).split(' ').length >= 10);

    await card(ann, 'boiler').getByRole('button', { name: 'Heat or cool' }).click();
    const alarm = (page, text) => page.locator('#alarms p', { hasText: text }).waitFor();
    for (const page of [ann, bob]) await alarm(page, 'Dashboards that show this: 2. Nobody takes care yet.');
    await card(ann, 'greenhouse').getByRole('button', { name: 'Unplug' }).click();
    await card(bob, 'greenhouse').locator('.state', { hasText: 'offline' }).waitFor();
    await picture(ann, 'iot_collector');
    await bob.getByRole('button', { name: 'I take care' }).click();
    const name = await bob.locator('#state').textContent();
    for (const page of [ann, bob]) await alarm(page, `${name} takes care.`);
    await card(bob, 'boiler').getByRole('button', { name: 'Heat or cool' }).click();
    await ann.locator('#alarms p').waitFor({ state: 'detached' });
    await isOnline(ann, 'greenhouse');
    await fits(ann);
  });
});

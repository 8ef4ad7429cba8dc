// examples/monitoring in a browser: charts with the past, an agent that falls silent, and questions to one.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { launch } from './bus.js';
import { fits, missing, open, picture, start } from './examples.js';

describe('monitoring', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  const agent = (page, name) => page.locator(`section[data-agent=${name}]`);
  const status = (page, name, text) => agent(page, name).locator('.status', { hasText: text }).waitFor();
  const points = async (page, name) => (await agent(page, name).locator('path').first().getAttribute('d')).split(/[ML]/).length - 1;

  test('live charts, the past of them, silence, and answers', async (t) => {
    const { url } = await start(t, 'monitoring', '0', '0');
    const page = await open(t, browser, url);
    await Promise.all([status(page, 'ash', 'live'), status(page, 'birch', 'live')]);
    const figures = process.env.KPS_PICTURES === '1' ? 120 : 8; // a picture shows more of them
    await page.waitForFunction(
      (count) => document.querySelector('path').getAttribute('d').split('L').length > count, figures, { timeout: 180_000 },
    );

    await page.reload(); // or another operator: the past is there at once
    await status(page, 'ash', 'live');
    assert.ok(await points(page, 'ash') > 8);
    assert.match(await agent(page, 'ash').locator('figcaption').first().textContent(), /^CPU\d+ %$/);

    await agent(page, 'birch').getByRole('button', { name: 'top' }).click();
    await agent(page, 'birch').locator('.answer tr').nth(5).waitFor();
    assert.equal(await agent(page, 'ash').locator('.answer').textContent(), '');
    await fits(page);

    const pid = Number(/process (\d+)/.exec(await agent(page, 'ash').locator('.about').textContent())[1]);
    process.kill(pid, 'SIGSTOP');
    await status(page, 'ash', 'silent for');
    await status(page, 'birch', 'live');
    await picture(page, 'monitoring');
    process.kill(pid, 'SIGCONT');
    await status(page, 'ash', 'live');
    process.kill(pid, 'SIGKILL');
    await status(page, 'ash', 'gone');
    await agent(page, 'ash').getByRole('button', { name: 'uptime' }).click();
    await agent(page, 'ash').locator('.answer', { hasText: 'ash' }).waitFor();
  });

  test('without the token there is nothing to see', async (t) => {
    const { url } = await start(t, 'monitoring', '0', '0');
    const page = await open(t, browser, new URL('/', url).href, { allowed: /ServerError/ });
    await page.getByRole('status').filter({ hasText: 'open the address that the program has printed' }).waitFor();
    assert.equal(await page.locator('section').count(), 0);
  });
});

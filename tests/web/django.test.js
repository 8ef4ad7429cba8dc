// The Django project of the examples: its page in two tabs, while the bus behind it restarts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { TIME_LIMIT, chromium, launch, launcher, python, runIn, serve, urlOf } from './bus.js';

const missing = !(await launcher()) ? 'playwright-core is missing: npm install'
  : !chromium() ? 'Chromium is missing: install it, or set KPS_CHROMIUM'
    : spawnSync(python(), ['-c', 'import channels, daphne, django, uvicorn']).status ? 'Django, Channels, Daphne or uvicorn is missing' : false;

const SERVERS = {
  daphne: ['-m', 'daphne', '-e', 'tcp:0:interface=127.0.0.1', 'chatsite.asgi:application'],
  uvicorn: ['-m', 'uvicorn', '--port', '0', 'chatsite.asgi:application'],
};

describe('in Django', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  /** Wait until the channel layer is connected with a bus. */
  async function isThere(bus) {
    for (const end = Date.now() + TIME_LIMIT; Date.now() < end; await sleep(50)) {
      const { clients } = await (await fetch(`${bus.page}healthz`)).json();
      if (clients === 1) return;
    }
    throw new Error('the channel layer does not come back');
  }

  async function say(page, text) {
    await page.getByPlaceholder('Say something').fill(text);
    await page.keyboard.press('Enter');
  }

  for (const [name, command] of Object.entries(SERVERS)) {
    test(`two tabs chat, served by ${name}, also when the bus has restarted`, async (t) => {
      let bus = await serve();
      t.after(() => bus.kill());
      const web = runIn('examples/django_chat', { KPS_ADDRESS: new URL(bus.url).host }, ...command);
      t.after(() => { web.kill('SIGKILL'); return web.ended; });
      const url = await urlOf(web);
      const [alice, bob, eve] = await Promise.all(['red', 'red', 'blue'].map(async (room) => {
        const page = await browser.newPage();
        t.after(() => page.close());
        page.setDefaultTimeout(TIME_LIMIT);
        const entered = page.waitForEvent('websocket');
        await page.goto(`${url}/rooms/${room}/`);
        await entered;
        return page;
      }));
      const isOpen = () => socket.readyState === WebSocket.OPEN; // the page's own socket
      for (const page of [alice, bob, eve]) await page.waitForFunction(isOpen);
      const areShown = (page, ...texts) => page.waitForFunction((wanted) => {
        const shown = [...document.querySelectorAll('li')].map(({ textContent }) => textContent);
        return JSON.stringify(shown) === wanted;
      }, JSON.stringify(texts));
      const bothShow = (...texts) => Promise.all([alice, bob].map((page) => areShown(page, ...texts)));

      await say(alice, '<b>hello</b>');
      await bothShow('<b>hello</b>');
      await say(bob, 'hello yourself');
      await bothShow('<b>hello</b>', 'hello yourself');
      await bus.kill();
      bus = await serve({ port: bus.port });
      await isThere(bus);
      await say(bob, 'still there?');
      await bothShow('<b>hello</b>', 'hello yourself', 'still there?');
      await say(alice, 'yes');
      await bothShow('<b>hello</b>', 'hello yourself', 'still there?', 'yes');
      await areShown(eve);
      for (const page of [alice, bob, eve]) assert.ok(await page.evaluate(isOpen));
    });
  }
});

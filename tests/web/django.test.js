// The Django project of the examples: its page of two people who have logged in, while the bus behind it restarts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { TIME_LIMIT, launch, python, runIn, serve, urlOf } from './bus.js';
import { missing as noBrowser } from './pages.js';

const missing = noBrowser
  || (spawnSync(python(), ['-c', 'import channels, daphne, django, uvicorn']).status !== 0 && 'Django, Channels, Daphne or uvicorn is missing');

const SERVERS = {
  daphne: ['-m', 'daphne', '-e', 'tcp:0:interface=127.0.0.1', 'chatsite.asgi:application'],
  uvicorn: ['-m', 'uvicorn', '--port', '0', 'chatsite.asgi:application'],
};

// Each has the name as the password.
const PEOPLE = `
from django.contrib.auth.models import User
for name in ("alice", "bob", "eve"):
    User.objects.create_user(name, password=name)
`;

describe('in Django', { skip: missing }, () => {
  let browser;
  let folder;
  let site; // the environment of its programs
  before(async () => {
    browser = await launch();
    folder = await mkdtemp(join(tmpdir(), 'kps-'));
    site = { CHAT_DATABASE: join(folder, 'db.sqlite3') };
    for (const words of [['migrate', '--verbosity', '0'], ['shell', '-c', PEOPLE]]) {
      const program = runIn('examples/django_chat', site, 'manage.py', ...words);
      program.stdout.resume();
      program.stderr.resume();
      assert.equal(await program.ended, 0, words[0]);
    }
  });
  after(() => Promise.all([browser?.close(), folder && rm(folder, { recursive: true })]));

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
      const web = runIn('examples/django_chat', { ...site, KPS_ADDRESS: new URL(bus.url).host }, ...command);
      t.after(() => { web.kill('SIGKILL'); return web.ended; });
      const url = await urlOf(web);
      const [alice, bob, eve] = await Promise.all(['alice red', 'bob red', 'eve blue'].map(async (who) => {
        const [person, room] = who.split(' ');
        const page = await browser.newPage(); // in a context of its own
        t.after(() => page.close());
        page.setDefaultTimeout(TIME_LIMIT);
        await page.goto(`${url}/rooms/${room}/`);
        await page.getByLabel('Username').fill(person);
        await page.getByLabel('Password').fill(person);
        const entered = page.waitForEvent('websocket');
        await page.keyboard.press('Enter');
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

      for (const page of [alice, bob]) await page.getByText('Here: alice, bob').waitFor();
      await say(alice, '<b>hello</b>');
      await bothShow('alice: <b>hello</b>');
      await say(bob, 'hello yourself');
      await bothShow('alice: <b>hello</b>', 'bob: hello yourself');
      await bus.kill();
      bus = await serve({ port: bus.port });
      await isThere(bus);
      await say(bob, 'still there?');
      const lines = ['alice: <b>hello</b>', 'bob: hello yourself', 'bob: still there?'];
      await bothShow(...lines);
      await say(alice, 'yes');
      await bothShow(...lines, 'alice: yes');
      await areShown(eve);
      for (const page of [alice, bob, eve]) assert.ok(await page.evaluate(isOpen));
    });
  }
});

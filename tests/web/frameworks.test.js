// A page of a web framework, and the console, with the bus mounted in the application.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';

import { TIME_LIMIT, launch, python, run, urlOf } from './bus.js';
import { missing as noBrowser } from './pages.js';

const missing = noBrowser
  || (spawnSync(python(), ['-c', 'import fastapi, litestar, uvicorn']).status !== 0 && 'FastAPI, Litestar or uvicorn is missing');

/** An application in a folder of the project that uvicorn serves: its URL, and its process. */
async function serve(application, folder) {
  const server = run('-m', 'uvicorn', '--app-dir', folder, '--port', '0', application);
  return { url: await urlOf(server), async kill() { server.kill('SIGKILL'); await server.ended; } };
}

describe('in a framework', { skip: missing }, () => {
  let browser;
  let server;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  async function open(t, application, folder, path) {
    server = await serve(application, folder);
    t.after(() => server.kill());
    const page = await browser.newPage();
    page.setDefaultTimeout(TIME_LIMIT);
    t.after(() => page.close());
    await page.goto(server.url + path);
    return page;
  }

  test('a page of FastAPI shows what the application publishes', async (t) => {
    const page = await open(t, 'fastapi_bus:app', 'examples', '/');
    await page.waitForFunction(() => document.querySelector('#votes').textContent.includes('"tea":0'));
    await page.click('button[value=tea]');
    await page.waitForFunction(() => document.querySelector('#votes').textContent.includes('"tea":1'));
    assert.equal(await page.textContent('#votes'), '{"tea":1,"coffee":0}');
  });

  test('notes of Litestar come to all who have signed in', async (t) => {
    const ann = await open(t, 'litestar_bus:app', 'examples', '/login?name=ann');
    const note = (page, text) => page.locator('li', { hasText: text }).first().waitFor();
    await ann.getByPlaceholder('A note').fill('<b>tea</b>');
    await ann.keyboard.press('Enter');
    await note(ann, 'ann: <b>tea</b>');
    const context = await browser.newContext();
    t.after(() => context.close());
    const bob = await context.newPage();
    await bob.goto(new URL('/login?name=bob', ann.url()).href);
    await note(bob, 'ann: <b>tea</b>'); // from the history
    await bob.getByPlaceholder('A note').fill('yes, please');
    await bob.keyboard.press('Enter');
    await Promise.all([ann, bob].map((page) => note(page, 'bob: yes, please')));
  });

  test('the console finds the bus below its own place', async (t) => {
    const page = await open(t, 'mounted_console:app', 'tests/web', '/deep/bus');
    await page.waitForFunction(() => document.body.textContent.includes('Connected'));
    assert.equal(new URL(page.url()).pathname, '/deep/bus/');
  });
});

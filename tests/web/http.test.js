// What the page about HTTP shows for browsers, in one.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { TIME_LIMIT, launch, serve } from './bus.js';
import { missing } from './pages.js';

const page = await readFile(new URL('../../docs/http.md', import.meta.url), 'utf8');
const [posts, listens] = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
const options = ['--history', 'orders/**=1000'];

describe('an event stream in a browser', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  test('begins with the latest messages, goes on, and tells what is lost', async (t) => {
    let server = await serve({ options });
    t.after(() => server.kill());
    const order = (number) =>
      fetch(`${server.page}publish?topic=orders/new`, { method: 'POST', body: String(number) });
    for (let number = 0; number < 12; number += 1) await order(number);

    const tab = await browser.newPage();
    t.after(() => tab.close());
    const lines = [];
    tab.on('console', (message) => message.type() === 'log' && lines.push(message.text()));
    const told = (line) => lines.includes(line)
      || tab.waitForEvent('console', { predicate: (message) => message.text() === line, timeout: TIME_LIMIT });
    await tab.goto(server.page);
    const type = (code) =>
      tab.evaluate(`(async () => {${code.replaceAll('localhost:9313', new URL(server.page).host)}})()`);
    await type(listens);
    await told('11');
    await type(posts);
    await told('{item: tea, count: 2}');
    assert.deepEqual(lines, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, '{item: tea, count: 2}'].map(String));

    const { port } = server;
    await server.kill();
    server = await serve({ port, options }); // which has kept nothing
    await told('some are lost: {"topic":"orders/new","lost":null}');
  });
});

// The page of the tutorial's chat, without and with tokens.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';

import { launch, publish, serve } from './bus.js';
import { browse, connect, isShown, missing, tokenFile } from './pages.js';

const tutorial = await readFile(new URL('../../docs/tutorial.md', import.meta.url), 'utf8');
const [, plain] = /```html\n(.*?)```/s.exec(tutorial);
const [, connects] = /```js\n(.*?)```/s.exec(tutorial);
const withToken = plain.replace(/^ {2}const client = .*\n/m, connects);

describe("the tutorial's page", { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  /** A bus, and the page from a server of its own, whose reader answers its questions. */
  async function start(t, html, options, answers, ofPage) {
    const pages = createServer((_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(html.replaceAll('localhost:9313', new URL(bus.page).host));
    }).listen(0, '127.0.0.1');
    t.after(() => pages.close());
    await once(pages, 'listening');
    const origin = `http://127.0.0.1:${pages.address().port}`;
    const bus = await serve({ options: ['--history', 'chat/**=100', '--origin', origin, ...options] });
    t.after(() => bus.kill());
    const page = await (await browse(t, browser, ofPage)).newPage();
    page.on('dialog', (dialog) => dialog.accept(answers.shift()));
    return { bus, page, open: () => page.goto(`${origin}/chat.html`) };
  }

  async function say(page, text) {
    await page.fill('#line', text);
    await page.press('#line', 'Enter');
  }

  test('shows who said what, before and now', async (t) => {
    const { bus, page, open } = await start(t, plain, [], ['carol']);
    await publish(bus, 'chat/lobby', 'is it on?', '--id', 'alice');
    await open();
    await isShown(page, 'li', 'alice: is it on?');
    await say(page, 'yes');
    await isShown(page, 'li', 'carol: yes');
  });

  test('keeps a line that was entered before the bus is there', async (t) => {
    const { page, open } = await start(t, plain, [], ['carol'], { allowed: /NotConnected/ });
    await page.routeWebSocket('**/ws/bus', () => {}); // a bus that does not answer
    await open();
    const refused = page.waitForEvent('pageerror');
    await say(page, 'too early');
    await refused;
    assert.equal(await page.inputValue('#line'), 'too early');
  });

  test('asks for the token', async (t) => {
    assert.notEqual(withToken, plain);
    const tokens = await tokenFile(t);
    await tokens.write('[alice]\ntoken = "a-token-of-the-test"\nids = ["alice", "alice/*"]\n');
    const token = 'a-token-of-the-test';
    const { bus, page, open } = await start(t, withToken, ['--tokens', tokens.path], ['alice/page', token]);
    const terminal = await connect(t, bus, { id: 'alice', token });
    await open();
    await terminal.publish('chat/lobby', 'hello');
    await isShown(page, 'li', 'alice: hello');
    await say(page, 'hello');
    await isShown(page, 'li', 'alice/page: hello');
  });
});

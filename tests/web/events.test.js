// Event streams in a browser, read with EventSource by a page of another origin.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { TIME_LIMIT, launch, serve, serveExamples } from './bus.js';
import { missing } from './pages.js';

/** Publish JSON over HTTP. */
async function post(bus, topic, data) {
  const url = `${bus.page}publish?topic=${encodeURIComponent(topic)}`;
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(data) });
  assert.equal(answer.status, 204);
}

describe('event streams in a browser', { skip: missing }, () => {
  let browser;
  let examples;
  before(async () => {
    examples = await serveExamples();
    browser = await launch();
  });
  after(() => Promise.all([browser?.close(), examples?.close()]));

  /** A page of another origin that keeps what a stream brings. */
  async function listen(t, bus, query, options = {}) {
    const page = await browser.newPage();
    t.after(() => page.close());
    page.setDefaultTimeout(TIME_LIMIT);
    await page.goto(`${examples.origin}/README.md`);
    await page.evaluate(([url, given]) => {
      window.got = [];
      window.gaps = [];
      window.source = new EventSource(url, given);
      window.source.onmessage = ({ data, lastEventId }) => window.got.push([JSON.parse(data).data, lastEventId]);
      window.source.addEventListener('gap', ({ data }) => window.gaps.push(data));
    }, [`${bus.page}sse?${query}`, options]);
    return page;
  }

  const isOpen = (page) => page.waitForFunction(() => window.source.readyState === EventSource.OPEN);
  const isConnecting = (page) => page.waitForFunction(() => window.source.readyState === EventSource.CONNECTING);
  const has = (page, count) => page.waitForFunction((wanted) => window.got.length >= wanted, count);

  const numbers = (end) => Array.from({ length: end }, (_, number) => number);

  /** Restart a server, and publish while pages are there, away, and back. Tell what came, and how much there was. */
  async function restart(t, how, rounds) {
    const folder = await mkdtemp(join(tmpdir(), 'kps-'));
    t.after(() => rm(folder, { recursive: true }));
    const options = ['--origin', examples.origin, '--history', 'h/**=1000', '--history-file', join(folder, 'history.db')];
    let bus = await serve({ options });
    t.after(() => bus.kill());
    const pages = await Promise.all([
      listen(t, bus, 'topic=h/1'),
      listen(t, bus, 'topic=h/1&topic=h/2', { withCredentials: true }),
      listen(t, bus, 'pattern=h/*'),
    ]);
    let next = 0;
    for (let round = 0; round < rounds; round++) {
      for (const page of pages) await isOpen(page);
      for (let i = 0; i < 5; i++) await post(bus, 'h/1', next++);
      for (const page of pages) await has(page, next);
      await bus[how]();
      for (const page of pages) await isConnecting(page);
      bus = await serve({ port: bus.port, options });
      for (let i = 0; i < 5; i++) await post(bus, 'h/1', next++); // most pages are not back yet
    }
    for (const page of pages) await has(page, next);
    await post(bus, 'h/1', next++); // behind it nothing can come twice
    for (const page of pages) await has(page, next);
    const told = await Promise.all(pages.map((page) => page.evaluate(() => ({ got: window.got, gaps: window.gaps }))));
    return { next, told };
  }

  test('a page of another origin goes on where it was after restarts, without a gap or a double', async (t) => {
    const { next, told } = await restart(t, 'stop', 3);
    for (const { got, gaps } of told) {
      assert.deepEqual(got.map(([data]) => data), numbers(next));
      assert.deepEqual(gaps, []);
    }
    assert.equal(new Set(told[0].got.map(([, id]) => id)).size, next);
  });

  test('after the server was killed it is told of a gap, and nothing comes twice', async (t) => {
    const { next, told } = await restart(t, 'kill', 1);
    for (const { got, gaps } of told) {
      assert.deepEqual(got.map(([data]) => data), numbers(next));
      assert.ok(gaps.length >= 1);
      for (const gap of gaps) assert.equal(JSON.parse(gap).lost, null);
    }
  });

  test('a page of an origin that is not allowed gets nothing, and does not come again', async (t) => {
    const bus = await serve();
    t.after(() => bus.kill());
    const page = await listen(t, bus, 'topic=h/1');
    await page.waitForFunction(() => window.source.readyState === EventSource.CLOSED);
    await post(bus, 'h/1', 1);
    assert.deepEqual(await page.evaluate(() => window.got), []);
    assert.equal((await (await fetch(`${bus.page}healthz`)).json()).clients, 0);
  });
});

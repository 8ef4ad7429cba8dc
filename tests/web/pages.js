// What tests of pages share: a browser, pages that may not complain, and clients beside them.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import WebSocket from 'ws';

import { Client } from '../../clients/js/kps.js';
import { TIME_LIMIT, chromium, ending, launcher } from './bus.js';

/** Why there can be no tests in a browser, or `false`. */
export const missing = !(await launcher()) ? 'playwright-core is missing: npm install'
  : !chromium() ? 'Chromium is missing: install it, or set KPS_CHROMIUM' : false;

export const UNREACHABLE = /net::ERR_|WebSocket connection to/; // what browsers write when a server is away

export const isConnected = (page) => page.waitForSelector('body[data-state=connected]');
export const isShown = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor();
export const hasGone = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor({ state: 'detached' });

const AWAY = new RegExp(`${UNREACHABLE.source}|^ConnectFailed`);

/**
 * A context whose pages may write nothing to their consoles but what `allowed` matches; and that a server is away, once
 * one has been ended. What a test has started ends in the order in which it was, so a server ends before its pages do.
 */
export async function browse(t, browser, { allowed = /^$/, ...options } = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(TIME_LIMIT);
  const complaints = [];
  const endedBefore = ending.count;
  const complain = (text) => (ending.count > endedBefore && AWAY.test(text)) || complaints.push(text);
  context.on('console', (message) => ['error', 'warning'].includes(message.type()) && complain(message.text()));
  context.on('weberror', (error) => complain(String(error.error().stack)));
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !allowed.test(text)), []);
  });
  return context;
}

/** The console of a server, which is connected. */
export async function openConsole(t, browser, { page: url }, options) {
  const page = await (await browse(t, browser, options)).newPage();
  await page.goto(url);
  await isConnected(page);
  return page;
}

/** A client in this process, until the test is over. */
export async function connect(t, { url }, options) {
  const client = await Client.connect(url, { WebSocket, onError: () => {}, ...options });
  t.after(() => client.close());
  return client;
}

/** A file of tokens, which can be written anew. */
export async function tokenFile(t) {
  const folder = await mkdtemp(join(tmpdir(), 'kps-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'tokens.toml');
  return { path, write: (text) => writeFile(path, text, { mode: 0o600 }) };
}

/** What is cut off at a width although it has little room; and whether the page itself is too wide. */
export async function cutAt(page, width, selector, most = Infinity) {
  await page.setViewportSize({ width, height: 900 });
  await page.evaluate(() => new Promise(requestAnimationFrame));
  return page.evaluate(([wanted, longest]) => [
    ...[...document.querySelectorAll(wanted)]
      .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth && element.clientWidth < longest)
      .map((element) => element.textContent),
    ...(document.documentElement.scrollWidth > innerWidth ? ['the page'] : []),
  ], [selector, most]);
}

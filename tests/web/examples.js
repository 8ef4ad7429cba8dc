// What the tests of examples/NAME/ share: the program in a process of its own, pages of several users, and the picture.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';

import { runIn } from './bus.js';
import { UNREACHABLE, browse } from './pages.js';

export { missing } from './pages.js';

/** Start an example; the line that it prints first, and the URL in it. It ends with Ctrl-C after the test. */
export async function start(t, name, ...options) {
  const program = runIn('', {}, `examples/${name}/${name}.py`, ...options);
  let complaints = '';
  program.stderr.on('data', (data) => { complaints += data; });
  t.after(async () => {
    program.kill('SIGINT');
    await program.ended;
  });
  for await (const line of createInterface({ input: program.stdout })) {
    program.stdout.resume();
    return { line, url: /http:\S+/.exec(line)?.[0] };
  }
  throw new Error(`it has not started; KPS_PYTHON names the Python that has kps\n${complaints}`);
}

/** A page of another user, who sees what `allowed` matches, and that the program is away: it ends before the pages. */
export async function open(t, browser, url, { allowed = /^$/, ...options } = {}) {
  const mayComplain = RegExp(`${UNREACHABLE.source}|ConnectFailed|${allowed.source}`);
  const viewport = { width: 1000, height: 600 };
  const context = await browse(t, browser, { viewport, ...options, allowed: mayComplain });
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

/** At both widths nothing is cut off. */
export async function fits(page) {
  const before = page.viewportSize();
  for (const width of [390, 1440]) {
    await page.setViewportSize({ width, height: 800 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `too wide for ${width} px`);
  }
  await page.setViewportSize(before);
}

/** With KPS_PICTURES=1, make the picture of the documentation anew: docs/pictures/example-NAME.png. */
export async function picture(page, name) {
  if (process.env.KPS_PICTURES !== '1') return;
  const path = fileURLToPath(new URL(`../../docs/pictures/example-${name}.png`, import.meta.url));
  await page.setViewportSize({ width: 1000, height: 200 }); // it becomes as high as the page
  await page.screenshot({ path, fullPage: true, animations: 'disabled', caret: 'hide' });
}

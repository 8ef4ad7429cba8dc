// How many messages a second a page takes from a Python publisher without losing one, and how its
// frames fare meanwhile: `npm run throughput [messages a second] [seconds]`.

import { chromium, launch, run, serve } from './bus.js';

const [rate, seconds] = [Number(process.argv[2] ?? 100_000), Number(process.argv[3] ?? 10)];
const PUBLISHER = `
import asyncio, sys, time, kps
async def main(address, rate, seconds):
    async with kps.Client(address) as client:
        began = time.monotonic()
        for tick in range(seconds * 100):
            for number in range(rate // 100):
                await client.publish("flood", {"n": tick * (rate // 100) + number, "text": "x" * 43})
            await asyncio.sleep(max(0, began + (tick + 1) / 100 - time.monotonic()))
        await client.flush()
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))`;
const PAGE = `
import { Client } from './kps.js';
Object.assign(window, { received: 0, inOrder: true, frames: 0, longest: 0 });
const client = await Client.connect();
window.subscription = await client.subscribe('flood', ({ data }) => {
  if (data.n !== received) inOrder = false;
  if (received === 0) Object.assign(window, { began: performance.now(), frames: 0, longest: 0 });
  received += 1;
  window.ended = performance.now();
});
let last = performance.now();
(function frame(now) {
  frames += 1;
  longest = Math.max(longest, now - last);
  last = now;
  requestAnimationFrame(frame);
})(last);
window.isReady = true;`;

if (!chromium()) throw new Error('Chromium is missing: install it, or set KPS_CHROMIUM');
const server = await serve();
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.route('**/flood.js', (route) => route.fulfill({ contentType: 'text/javascript', body: PAGE }));
  await page.goto(`${server.page}healthz`); // a page of the server with nothing on it
  await page.addScriptTag({ type: 'module', url: 'flood.js' });
  await page.waitForFunction(() => window.isReady);
  const publisher = run('-c', PUBLISHER, new URL(server.url).host, rate, seconds);
  await publisher.ended;
  const total = Math.floor(rate / 100) * 100 * seconds;
  await page.waitForFunction((all) => window.received + window.subscription.dropped >= all, total, { timeout: 60_000 });
  const { received, took, dropped, ...rest } = await page.evaluate(() => ({
    received,
    dropped: subscription.dropped,
    inOrder,
    took: (ended - began) / 1000,
    frames: frames / ((ended - began) / 1000),
    longest,
  }));
  console.log(`received ${received} of ${total} (${dropped} dropped, in order: ${rest.inOrder}) in ${took.toFixed(1)} s: ${Math.round(received / took)} a second`);
  console.log(`frames a second: ${rest.frames.toFixed(0)}; the longest took ${rest.longest.toFixed(0)} ms`);
} finally {
  await browser.close();
  await server.kill();
}

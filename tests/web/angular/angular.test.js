// What docs/how-to tells about Angular, in the project that Angular's own tool makes, in a browser.

import { after, before, describe, test } from 'node:test';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium, freePort, launch, launcher } from '../bus.js';
import { develop, folder, read, run, tryAll, words, write, writeOthers } from '../how-to.js';

const here = fileURLToPath(new URL('./', import.meta.url));
const ng = join(here, 'node_modules', '@angular', 'cli', 'bin', 'ng.js');
const missing = !(await launcher()) ? 'playwright-core is missing: npm install'
  : !chromium() ? 'Chromium is missing: install it, or set KPS_CHROMIUM' : false;

describe('how to use it', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  test('in Angular', async (t) => {
    const page = await read('angular.md');
    const made = await folder(t, page, here);
    const options = words(page, 'npx @angular/cli@21');
    await run(made, process.execPath, ng, ...options, '--skip-install', '--skip-git', '--interactive=false');
    const project = join(made, 'my-app');
    const [port, ownPort] = [await freePort(), await freePort()];
    await write(project, page, port);
    await writeOthers(project, page);
    await develop(t, project, ng, ['serve', '--port', String(ownPort)], /Local:/); // it prints that if all types are right
    await tryAll(t, { browser, page, project, port, origin: `http://localhost:${ownPort}` });
  });
});

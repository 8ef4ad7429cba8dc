// What docs/how-to tells about React and Vue, in the projects that Vite's own tool makes, in a browser.

import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

import { freePort, launch } from './bus.js';
import { develop, folder, read, run, tryAll, words, write, writeOthers } from './how-to.js';
import { missing } from './pages.js';

const here = fileURLToPath(new URL('./', import.meta.url));
const installed = (path) => join(here, 'node_modules', path);

describe('how to use it', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  for (const [framework, name] of [['React', 'react.md'], ['Vue', 'vue.md']]) {
    test(`in ${framework}`, async (t) => {
      const page = await read(name);
      const [, ...options] = words(page, 'npm create vite@latest').filter((word) => word !== '--');
      const made = await folder(t, page, here);
      await run(made, process.execPath, installed('create-vite/index.js'), 'my-app', ...options, '--no-interactive');
      const project = join(made, 'my-app');
      const [port, ownPort] = [await freePort(), await freePort()];
      await t.test('its types are right, and it can be built', async () => {
        await write(project, page, port);
        await writeOthers(project, page);
        await run(project, 'npm', 'run', 'build');
      });
      await develop(t, project, installed('vite/bin/vite.js'), ['--port', String(ownPort), '--strictPort'], /Local:/);
      await tryAll(t, { browser, page, project, port, origin: `http://localhost:${ownPort}` });
    });
  }
});

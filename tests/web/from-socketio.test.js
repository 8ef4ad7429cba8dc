// The chat of docs/how-to/from-socketio.md, before and after, each with two people in a browser; and the service.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { Client, RequestFailed } from '../../clients/js/kps.js';
import { TIME_LIMIT, chromium, launch, launcher, python, serve } from './bus.js';
import { freePort, read, until, words } from './how-to.js';

const packages = fileURLToPath(new URL('./node_modules', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const page = await read('from-socketio.md');
const missing = !(await launcher()) ? 'playwright-core is missing: npm install'
  : !chromium() ? 'Chromium is missing: install it, or set KPS_CHROMIUM'
    : spawnSync(python(), ['-c', 'import socketio, uvicorn']).status ? 'python-socketio is missing' : false;

/** Run Python in a folder until the test is over. */
function start(t, folder, ...options) {
  const child = spawn(python(), options, { cwd: folder, env: { ...process.env, PYTHONPATH: root }, stdio: 'ignore' });
  const ended = new Promise((resolve) => { child.once('exit', resolve); });
  t.after(() => child.kill('SIGKILL') && ended);
}

describe('from Socket.IO', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  /** A folder with a file of the page, in which the ports are those of this test. */
  async function folder(t, ports, ...files) {
    const made = await mkdtemp(join(tmpdir(), 'kps-from-socketio-'));
    t.after(() => rm(made, { recursive: true, force: true }));
    for (const [name, version] of files) {
      const code = page.files.get(name)[version].replaceAll('localhost:9313', `127.0.0.1:${ports.bus}`);
      await writeFile(join(made, name), code.replace('port=8000', `port=${ports.web}`));
    }
    return made;
  }

  /** The pages of people in the chat, when all of them can be loaded. */
  function open(t, port, path, ...names) {
    return Promise.all(names.map(async (name) => {
      const one = await browser.newPage();
      one.setDefaultTimeout(TIME_LIMIT);
      t.after(() => one.close());
      const url = `http://localhost:${port}/${path}${name ? `?name=${name}` : ''}`;
      await until(() => one.goto(url).then(() => true, () => false));
      return one;
    }));
  }

  async function say(from, text) {
    await from.fill('input', text);
    await from.click('button');
  }

  const shows = (one, text) => one.getByText(text, { exact: true }).waitFor();

  test('before', async (t) => {
    const ports = { web: await freePort() };
    const made = await folder(t, ports, ['server.py', 0], ['chat.html', 0]);
    await symlink(packages, join(made, 'node_modules'));
    start(t, made, 'server.py');
    const [alice, bob, nobody] = await open(t, ports.web, '', 'alice', 'bob', '');
    await shows(nobody, 'who are you?');
    await until(async () => {
      await say(alice, 'is anybody there?');
      return (await bob.locator('li').count()) > 0;
    });
    await say(bob, 'I am');
    await shows(alice, 'bob: I am');
    await shows(bob, 'sent');
  });

  test('after', async (t) => {
    const ports = { web: await freePort(), bus: await freePort() };
    const made = await folder(t, ports, ['chat.html', 1]);
    const options = words(page, 'kps serve').map((word) => word.replace(':8000', `:${ports.web}`).replaceAll("'", ''));
    const server = await serve({ port: ports.bus, options });
    t.after(() => server.kill());
    const [module, ...rest] = words(page, 'python -m');
    start(t, made, '-m', module, ...rest.map((word) => word.replace('8000', ports.web)), '--bind', '127.0.0.1');
    const [alice] = await open(t, ports.web, 'chat.html', 'alice');
    await say(alice, 'is anybody there?');
    await shows(alice, 'seen by nobody');
    const [bob] = await open(t, ports.web, 'chat.html', 'bob');
    await shows(bob, 'alice: is anybody there?');
    await say(bob, 'I am');
    await shows(alice, 'bob: I am');
    await shows(bob, 'seen by alice');
  });

  test('the service lets pass what may', async (t) => {
    const server = await serve();
    t.after(() => server.kill());
    start(t, await folder(t, { bus: server.port }, ['service.py', 0]), 'service.py');
    const alice = await Client.connect(server.url, { id: 'alice', WebSocket });
    t.after(() => alice.close());
    const lines = [];
    await alice.subscribe('chat/lobby', ({ data }) => lines.push(data));
    await until(() => alice.request('say', 'hello').then((answer) => answer === 'sent', () => false)); // until it is there
    await assert.rejects(alice.request('say', ' '), new RequestFailed('say something'));
    await alice.flush();
    assert.deepEqual(lines, ['alice: hello']);
  });
});

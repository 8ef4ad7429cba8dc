// The chat of docs/how-to/from-socketio.md, before and after, each with two people in a browser; and the service.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { Client, Pattern, RequestFailed } from '../../clients/js/kps.js';
import { TIME_LIMIT, freePort, launch, python, serve } from './bus.js';
import { read, until, words } from './how-to.js';
import { missing as noBrowser } from './pages.js';

const packages = fileURLToPath(new URL('./node_modules', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const page = await read('from-socketio.md');
const missing = noBrowser
  || (spawnSync(python(), ['-c', 'import socketio, uvicorn']).status !== 0 && 'python-socketio is missing');

/** Run Python in a folder until the test is over. */
const start = (t, folder, ...options) => startWith({}, t, folder, ...options);

/** The same, with more in its environment. */
function startWith(environment, t, folder, ...options) {
  const env = { ...process.env, PYTHONPATH: root, ...environment };
  const child = spawn(python(), options, { cwd: folder, env, stdio: 'ignore' });
  const ended = new Promise((resolve) => { child.once('exit', resolve); });
  t.after(() => child.kill('SIGKILL') && ended);
}

describe('from Socket.IO', { skip: missing }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  afterAll(() => browser?.close());

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

  const shows = (one, text) => one.getByText(text, { exact: true }).first().waitFor();

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

  /** The ports of the page after, its folder and the options of its bus, once its web server runs. */
  async function after(t, change = (code) => code) {
    const ports = { web: await freePort(), bus: await freePort() };
    const made = await folder(t, ports, ['chat.html', 1]);
    const path = join(made, 'chat.html');
    await writeFile(path, change(await readFile(path, 'utf8')));
    const options = words(page, 'kps serve').map((word) => word.replace(':8000', `:${ports.web}`).replaceAll("'", ''));
    const [module, ...rest] = words(page, 'python -m');
    start(t, made, '-m', module, ...rest.map((word) => word.replace('8000', ports.web)), '--bind', '127.0.0.1');
    return { ports, made, options };
  }

  /** The file of tokens that the page shows, of that number, in which the token of NAME is NAME-token-of-the-test. */
  async function tokens(made, version) {
    const file = page.files.get('tokens.toml')[version].replace(/\[(\w+)\]\ntoken = .*/g, '[$1]\ntoken = "$1-token-of-the-test"');
    await writeFile(join(made, 'tokens.toml'), file, { mode: 0o600 });
    return ['--tokens', join(made, 'tokens.toml')];
  }

  const tokenOf = (name) => `${name}-token-of-the-test`;

  test('after', async (t) => {
    const { ports, options } = await after(t);
    const server = await serve({ port: ports.bus, options });
    t.after(() => server.kill());
    const [alice, nobody] = await open(t, ports.web, 'chat.html', 'alice', '');
    await shows(nobody, 'who are you?');
    await say(alice, 'is anybody there?');
    await shows(alice, 'seen by nobody');
    const [bob, second] = await open(t, ports.web, 'chat.html', 'bob', 'alice');
    await Promise.all([bob, second].map((one) => shows(one, 'alice: is anybody there?')));
    await say(bob, 'I am');
    await Promise.all([alice, second].map((one) => shows(one, 'bob: I am')));
    await shows(bob, 'seen by alice');
    await say(alice, 'so am I'); // the second tab has not ended the first
    await shows(bob, 'alice: so am I');
  });

  test('after, with names that nobody can take', async (t) => {
    const { ports, made, options } = await after(t);
    const server = await serve({ port: ports.bus, options: [...options, ...await tokens(made, 0)] });
    t.after(() => server.kill());
    const people = await open(t, ports.web, 'chat.html', `alice&token=${tokenOf('alice')}`, `bob&token=${tokenOf('alice')}`, 'bob&token=x');
    const [alice, thief, stranger] = people;
    await shows(thief, 'this client may not use this id');
    await shows(stranger, 'the token is not valid');
    for (const one of [thief, stranger]) assert.ok(await one.locator('button').isDisabled());
    await say(alice, 'hello');
    await shows(alice, 'alice: hello');
  });

  test('the service lets pass what may', async (t) => {
    const made = await mkdtemp(join(tmpdir(), 'kps-from-socketio-'));
    t.after(() => rm(made, { recursive: true, force: true }));
    const server = await serve({ options: await tokens(made, 1) });
    t.after(() => server.kill());
    const environment = { TOKEN: tokenOf('service') };
    startWith(environment, t, await folder(t, { bus: server.port }, ['service.py', 0]), 'service.py');
    const alice = await Client.connect(server.url, { id: 'alice/1', token: tokenOf('alice'), WebSocket });
    t.after(() => alice.close());
    const lines = [];
    await alice.subscribe('chat/lobby', ({ data }) => lines.push(data));
    for (const topic of ['say', new Pattern('**')]) {
      await assert.rejects(alice.subscribe(topic).finally(() => {}), { code: 'forbidden' });
    }
    await assert.rejects(alice.publishWithReceipt('chat/lobby', 'past the service'), { code: 'forbidden' });
    await until(() => alice.request('say', 'hello').then((answer) => answer === 'sent', () => false)); // until it is there
    await assert.rejects(alice.request('say', ' '), new RequestFailed('say something'));
    await alice.flush();
    assert.deepEqual(lines, [{ from: 'alice', text: 'hello' }]);
  });

  test('the page asks the service', async (t) => {
    const [changed] = [...page.text.matchAll(/^```js\n(const show.*?)^```$/gms)].map(([, code]) => code);
    const [show, send] = changed.split('\n\n').map((code) => code.trim());
    const { ports } = await after(t, (code) => code
      .replace(/^ {2}const show = .*?^ {2}};$/ms, show).replace(/^ {2}async function send.*?^ {2}}$/ms, send));
    const server = await serve({ port: ports.bus, options: ['--origin', `http://localhost:${ports.web}`] });
    t.after(() => server.kill());
    start(t, await folder(t, ports, ['service.py', 0]), 'service.py');
    const [alice, bob] = await open(t, ports.web, 'chat.html', 'alice', 'bob');
    await until(async () => {
      await say(alice, 'hello');
      return (await bob.locator('li').count()) > 0;
    });
    await shows(alice, 'sent');
    await shows(bob, 'alice: hello');
    await say(bob, ' ');
    await shows(bob, 'say something');
  });

  test('several requests are handled at the same time', async (t) => {
    const server = await serve();
    t.after(() => server.kill());
    const made = await folder(t, { bus: server.port }, ['several.py', 0]);
    const path = join(made, 'several.py');
    const code = await readFile(path, 'utf8');
    const waits = /await asyncio\.sleep\(0\.5\).*/;
    assert.match(code, waits);
    // Each waits for all of them, but for the one that only asks if the program is there.
    const meets = 'if message.data != "there?":\n        await ALL.wait()';
    await writeFile(path, code.replace(waits, meets).replace('async def say', 'ALL = asyncio.Barrier(15)\n\n\nasync def say'));
    start(t, made, 'several.py');
    const alice = await Client.connect(server.url, { id: 'alice', WebSocket });
    t.after(() => alice.close());
    await until(() => alice.request('say', 'there?').then((answer) => answer === 'sent', () => false));
    const asked = Array.from({ length: 15 }, (_, number) => alice.request('say', number % 5 ? 'hello' : ' ', { timeout: TIME_LIMIT }));
    const answers = await Promise.all(asked.map((answer) => answer.catch((error) => error.message)));
    assert.deepEqual(answers, Array.from({ length: 15 }, (_, number) => (number % 5 ? 'sent' : 'say something')));
    assert.equal(await alice.request('say', 'there?'), 'sent'); // all tasks go on behind a refusal
  });
});

// The pages of docs/how-to about web front ends, as a reader follows them: a project made by the framework's own tool, the client
// installed in it by the page's command, the page's files, the tool's development server, and a browser.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

import { Client } from '../../clients/js/kps.js';
import { TIME_LIMIT, serve } from './bus.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const CLIENT = join(root, 'clients', 'js');
const SECRET = randomBytes(32).toString('hex');
const START_LIMIT = 300_000; // milliseconds for a development server
// What a page may write to its console while the server is away, or does not take its token.
const EXPECTED = /net::ERR_|WebSocket connection to|WebSocket does not tell|status of 503|no token: 503|token is (needed|not valid)/;

/** What a page of docs/how-to shows: its commands, and its files by path, each with all versions of it. */
export async function read(name) {
  const text = await readFile(join(root, 'docs', 'how-to', name), 'utf8');
  const files = new Map();
  const commands = [];
  for (const [, language, code] of text.matchAll(/^```(\w+)\n(.*?)^```$/gms)) {
    if (language === 'sh') commands.push(...code.split(/\n|&&/).map((line) => line.replace(/ #.*/, '').trim()));
    const path = /^(?:\/\/|<!--|#) ([\w/-]+\.\w+)/.exec(code)?.[1];
    if (path) files.set(path, [...files.get(path) ?? [], code]);
  }
  return { files, commands, text };
}

/** The words behind the beginning of a command that the page shows. */
export function words({ commands }, beginning) {
  const found = commands.find((command) => command.startsWith(`${beginning} `));
  assert.ok(found, `the page does not say: ${beginning}`);
  return found.slice(beginning.length).trim().split(/ +/);
}

// As in a CI: without questions, and without colours.
const environment = { ...process.env, CI: 'true', NO_COLOR: '1', NG_CLI_ANALYTICS: 'false' };
const stdio = ['ignore', 'pipe', 'pipe'];

/** Run a program to its end; what it printed. */
export async function run(folder, program, ...options) {
  const child = spawn(program, options, { cwd: folder, env: environment, stdio });
  const printed = Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
  const [code] = await once(child, 'close');
  const text = (await printed).flat().join('');
  assert.equal(code, 0, `${program} ${options.join(' ')}\n${text}`);
  return text;
}

/** A folder in which the page's command has installed the client. The packages of the tests are found from there as well. */
export async function folder(t, page, parent) {
  const made = await mkdtemp(join(parent, '.how-to-'));
  t.after(() => rm(made, { recursive: true, force: true }));
  await writeFile(join(made, 'package.json'), '{"private": true}');
  const options = words(page, 'npm install --install-links');
  assert.ok(options[0].endsWith('/clients/js'));
  await run(made, 'npm', 'install', '--install-links', '--no-package-lock', '--no-audit', '--no-fund', '--offline', CLIENT);
  return made;
}

/** Write the files of the page, of each the version of that number, with the server's address in place of the usual one. */
export async function write(project, { files }, port, version = 0) {
  for (const [path, versions] of files) {
    const code = versions[version] ?? versions[0];
    await mkdir(dirname(join(project, path)), { recursive: true });
    await writeFile(join(project, path), code.replace('localhost:9313', `127.0.0.1:${port}`));
  }
}

/** Write what the page shows of a file later, under other names, so that the types of that are checked as well. */
export async function writeOthers(project, { files }) {
  for (const [path, [, ...others]] of files) {
    for (const [index, code] of others.entries()) await writeFile(join(project, path.replace('.', `${index}.`)), code);
  }
}

/** Start a development server; fulfilled when it prints what `ready` matches. */
export async function develop(t, project, script, options, ready) {
  const server = spawn(process.execPath, [script, ...options], { cwd: project, env: environment, stdio });
  const ended = once(server, 'exit');
  const kill = () => server.kill(); // in an orderly way, as it has children
  process.once('exit', kill);
  const timer = setTimeout(kill, START_LIMIT); // it waits for better files if it cannot build these
  t.after(async () => {
    kill();
    await ended;
    process.off('exit', kill);
  });
  let printed = '';
  server.stderr.on('data', (data) => { printed += data; });
  for await (const line of createInterface({ input: server.stdout })) {
    printed += `${line}\n`;
    if (!ready.test(line)) continue;
    clearTimeout(timer);
    server.stdout.resume();
    return;
  }
  throw new Error(`it has not started\n${printed}`);
}

/** Start the server as the page says, but for the project's origin; with a secret as its file about tokens says. */
async function bus(t, port, page, origin, secret) {
  const [withTokens] = /kps serve .*/.exec([...page.files.values()].flat().join('\n'));
  const shown = words(secret ? { commands: [withTokens] } : page, 'kps serve');
  const options = shown.map((word) => word.replace(/^http:.*/, origin).replace('secret.key', secret));
  assert.ok(options.includes(origin));
  const server = await serve({ port, options });
  t.after(() => server.kill());
  return server;
}

/** Wait for something that no event tells. `explain` says how it is. */
export async function until(condition, explain = () => '') {
  const end = Date.now() + TIME_LIMIT;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `it never came true: ${await explain()}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

function token(seconds) {
  const parts = [{ alg: 'HS256' }, { sub: 'alice', exp: Math.floor(Date.now() / 1000) + seconds }];
  const body = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

/** Have a user try all that the page promises. */
export async function tryAll(t, { browser, page: text, project, port, origin }) {
  const context = await browser.newContext();
  context.setDefaultTimeout(TIME_LIMIT);
  const complaints = [];
  context.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  context.on('weberror', (error) => complaints.push(String(error.error().stack)));
  t.after(() => context.close());
  const page = await context.newPage();
  const state = (name) => page.getByText(name, { exact: true }).waitFor();
  const button = page.getByRole('button');
  const shown = () => page.locator('li').allTextContents();
  const connect = async (id) => {
    const client = await Client.connect(`127.0.0.1:${port}`, { id, WebSocket, onError: () => {} });
    t.after(() => client.close());
    return client;
  };
  let server = await bus(t, port, text, origin);
  const [bob, carol] = await Promise.all(['bob', 'carol'].map(connect));
  await bob.subscribe('news', () => {});
  await carol.subscribe('news', () => { throw new Error('no paper'); });

  await t.test('it publishes, and says who has it', async () => {
    await page.goto(origin);
    await state('connected');
    await page.locator('input[name=text]').fill('hello');
    await button.click();
    await page.locator('output').getByText('has it').waitFor();
    const outcomes = (await page.locator('output').textContent()).split(', ').sort();
    assert.deepEqual(outcomes, ['bob has it', 'carol failed: no paper']);
  });

  await t.test('it shows each message once, and says that it has it', async () => {
    const ack = await bob.publishWithAck('news', 'good morning');
    const outcomes = [...(await ack.wait()).values()];
    assert.deepEqual(outcomes.map(({ success }) => success).sort(), [false, true, true]);
    await page.getByText('bob: good morning').waitFor();
    assert.match((await shown()).join(), /^[\w-]+: hello,bob: good morning$/);
  });

  await t.test('a component that goes unsubscribes', async () => {
    await page.locator('input[type=checkbox]').uncheck();
    await until(async () => await bob.publishWithReceipt('news', 'unseen') === 2);
    await page.locator('input[type=checkbox]').check();
    await until(async () => await bob.publishWithReceipt('news', 'seen') === 3);
    await page.getByText('bob: seen').waitFor();
    assert.deepEqual(await shown(), ['bob: seen']);
  });

  await t.test('a connection that breaks comes back', async () => {
    await server.kill();
    await state('connecting');
    assert.equal(await button.isDisabled(), true);
    server = await bus(t, port, text, origin);
    await state('connected');
    // Who is connected has asked for its topics, and may not have them yet.
    await until(async () => bob.connected && await bob.publishWithReceipt('news', 'here again') === 3);
    await page.getByText('bob: here again').last().waitFor();
    await button.click();
    await page.locator('output').getByText('bob has it').waitFor();
  });

  await t.test('each connection has a new token', async () => {
    await server.kill();
    const secret = join(project, 'secret.key');
    await writeFile(secret, SECRET, { mode: 0o600 });
    let answer = { status: 503 };
    let asked = 0;
    await context.route('**/bus-token', (route) => {
      asked++;
      return route.fulfill(typeof answer === 'function' ? answer() : answer);
    });
    server = await bus(t, port, text, origin, secret);
    await write(project, text, port, 1);
    await until(async () => {
      await page.goto(origin).catch(() => {}); // until it is the new one; the tool may load it as well
      return asked;
    });
    await state('connecting');
    answer = () => ({ body: token(2) }); // from when it is asked for
    await until(async () => {
      // Where the machine stood still the time was over on the way, and that is for good.
      if (await page.getByText('closed', { exact: true }).isVisible()) await page.reload();
      return page.getByText('connected', { exact: true }).isVisible();
    });
    const before = asked;
    answer = { body: token(3600) };
    await until(() => asked > before); // the time of the other one is over
    await state('connected');
    answer = { body: 'one-that-it-does-not-know' };
    await server.kill();
    server = await bus(t, port, text, origin, secret);
    await state('closed');
  });

  const unexpected = complaints.filter((complaint) => !EXPECTED.test(complaint));
  assert.deepEqual(unexpected, []);
}

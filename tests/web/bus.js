// What the tests start: a KPS server in a process of its own, and a browser.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../clients/js/test/kps-serve.js';

export { freePort };

const root = fileURLToPath(new URL('../../', import.meta.url));
export const TIME_LIMIT = 60_000; // milliseconds for anything that a test waits for, also on a machine that stands still at times

export function python() {
  const own = `${root}.venv/bin/python`;
  return process.env.KPS_PYTHON ?? (existsSync(own) ? own : 'python3');
}

/** The environment without the options of `kps serve`. */
const cleanEnvironment = () =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('KPS_')));

/** Run `python -m kps …`. */
export const kps = (...options) => run('-m', 'kps', ...options);

/** Run Python in the project. */
export const run = (...options) => runIn('', {}, ...options);

/** Run Python in a folder of the project, with more in its environment; it ends with the tests at the latest. */
export function runIn(folder, environment, ...options) {
  const child = spawn(python(), options, { cwd: join(root, folder), env: { ...cleanEnvironment(), ...environment } });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.ended = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', resolve);
  }).finally(() => process.off('exit', kill));
  return child;
}

/** The URL that a web server in a process of its own tells; the rest of what it tells is dropped. */
export async function urlOf(server) {
  server.stdout.resume();
  const told = [];
  for await (const line of createInterface({ input: server.stderr })) {
    told.push(line);
    const found = /(?:running on http:\/\/|listening on tcp address )(127\.0\.0\.1:\d+)/i.exec(line);
    if (!found) continue;
    server.stderr.resume();
    return `http://${found[1]}`;
  }
  throw new Error(`no web server\n${told.join('\n')}`);
}

/** Start a server; on the port of another one that has gone, if it is given. */
export async function serve({ port, options = [] } = {}) {
  const server = kps('serve', '--address', `127.0.0.1:${port ?? await freePort()}`, '--id', 'hub', ...options);
  let complaints = '';
  server.stderr.on('data', (data) => { complaints += data; });
  for await (const line of createInterface({ input: server.stdout })) {
    const found = /ws:\/\/(127\.0\.0\.1:(\d+))\/ws\/bus/.exec(line);
    if (!found) continue;
    server.stdout.resume();
    return {
      url: found[0],
      page: `http://${found[1]}/`,
      port: Number(found[2]),
      async kill() { await end(server, 'SIGKILL'); },
      async stop() { await end(server, 'SIGTERM'); },
    };
  }
  throw new Error(`no server; KPS_PYTHON names the Python that has kps\n${complaints}`);
}

/** How many servers have been told to end: from then on a page may find that one is away. */
export const ending = { count: 0 };

async function end(server, signal) {
  ending.count++;
  server.kill(signal);
  await server.ended;
}

/** Serve the project's files, as `python -m http.server` does, from an origin of their own. */
export async function serveExamples() {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const file = await readFile(`${root}${pathname}`).catch(() => undefined);
    const type = pathname.endsWith('.js') ? 'text/javascript' : 'text/html';
    response.writeHead(file ? 200 : 404, { 'content-type': type }).end(file);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Publish with the command line; what it printed. */
export async function publish(server, topic, payload, ...options) {
  const child = kps('pub', topic, JSON.stringify(payload), '--address', server.url, ...options);
  const printed = child.stdout.toArray();
  const [code] = await once(child, 'close');
  return { code, text: String(Buffer.concat(await printed)) };
}

/** The path of Chromium, or nothing. */
export function chromium() {
  const name = process.env.KPS_CHROMIUM ?? 'chromium';
  const found = spawnSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' });
  return found.status === 0 ? found.stdout.trim() : undefined;
}

/** playwright-core's launcher, or nothing if it is not installed. */
export async function launcher() {
  try {
    return (await import('playwright-core')).chromium;
  } catch {
    return undefined;
  }
}

export async function launch() {
  return (await launcher()).launch({ executablePath: chromium(), args: ['--no-sandbox'] });
}

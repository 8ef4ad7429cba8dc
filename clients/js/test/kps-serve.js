// A KPS server in a process of its own, for as long as a test needs it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const own = `${root}.venv/bin/python`;
const python = process.env.KPS_PYTHON ?? (existsSync(own) ? own : 'python3');
const given = Object.entries(process.env).filter(([name]) => !name.startsWith('KPS_'));

/** Start a command of `kps`, whatever the environment says about its options. */
export const kps = (...words) => spawn(python, ['-m', 'kps', ...words], { cwd: root, env: Object.fromEntries(given) });

/** A port that nobody has at the moment, and that the system gives to nobody who leaves the choice to it. */
export async function freePort() {
  for (let attempt = 1; ; attempt++) {
    const server = createServer().listen(15_000 + Math.floor(Math.random() * 15_000), '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      if (attempt < 100) continue;
      throw error;
    }
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Start `kps serve`; its URL, and a function that stops it. */
export async function serve(...options) {
  const server = kps('serve', '--address', `127.0.0.1:${await freePort()}`, ...options);
  const ended = new Promise((resolve) => {
    server.on('close', resolve);
    server.on('error', resolve);
  });
  const stop = async () => {
    server.kill();
    await ended;
  };
  process.once('exit', () => server.kill());
  let complaints = '';
  server.stderr.on('data', (data) => { complaints += data; });
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /ws:\/\/127\.0\.0\.1:\d+\/ws\/bus/.exec(line)?.[0];
    if (url) {
      server.stdout.resume();
      return { url, stop };
    }
  }
  throw new Error(`no server; KPS_PYTHON names the Python that has kps\n${complaints}`);
}

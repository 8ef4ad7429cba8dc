// What docs/how-to tells about Node, in a folder made as the page says.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { TIME_LIMIT, kps, serve } from './bus.js';
import { folder, read, run, words, write } from './how-to.js';

const here = fileURLToPath(new URL('./', import.meta.url));
const page = await read('node.md');

/** A program of the page that runs, and what it prints. */
class Program {
  constructor(t, project, file, server, environment = {}) {
    const env = { ...process.env, BUS: server.url, ...environment };
    this.child = spawn(process.execPath, [file], { cwd: project, env });
    t.after(() => this.child.kill('SIGKILL'));
    this.ended = once(this.child, 'close');
    this.complaints = this.child.stderr.toArray();
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async prints(line) {
    const limit = setTimeout(() => this.child.kill('SIGKILL'), TIME_LIMIT);
    for (;;) {
      const { done, value } = await this.lines.next();
      assert.ok(!done, `it has ended without: ${line}`);
      if (value === line) return clearTimeout(limit);
    }
  }
}

async function made(t) {
  const project = await folder(t, page, here);
  assert.deepEqual(words(page, 'npm pkg set'), ['type=module']);
  await run(project, 'npm', 'pkg', 'set', 'type=module');
  await write(project, page);
  return project;
}

const ask = async (project, server, number) => {
  const child = spawn(process.execPath, ['ask.js', String(number)], { cwd: project, env: { ...process.env, BUS: server.url } });
  const printed = child.stdout.toArray();
  const [code] = await once(child, 'close');
  return { code, text: (await printed).join('').trim() };
};

describe('in Node', () => {
  test('the types are right', async (t) => {
    const project = await made(t);
    const strict = ['--noEmit', '--strict', '--checkJs', '--skipLibCheck'];
    const options = [...strict, '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
    const compiler = join(here, 'node_modules', 'typescript', 'bin', 'tsc');
    await run(project, process.execPath, compiler, ...options, ...page.files.keys());
  });

  test('a worker answers, fails, comes back, and ends in an orderly way', async (t) => {
    const project = await made(t);
    let server = await serve();
    t.after(() => server.kill());
    assert.deepEqual(await ask(project, server, 16), { code: 1, text: 'nobody failed: no member' });

    const worker = new Program(t, project, 'worker.js', server);
    const name = `worker/${worker.child.pid}`;
    await worker.prints('connected');
    assert.deepEqual(await ask(project, server, 16), { code: 0, text: `${name} has done it: 4` });
    assert.deepEqual(await ask(project, server, -16), { code: 1, text: `${name} failed: -16 has no root` });

    await server.kill();
    await worker.prints('no connection, trying again');
    server = await serve({ port: server.port });
    await worker.prints('connected');
    const answer = ask(project, server, 25);
    await worker.prints('begins with 25');
    worker.child.kill('SIGTERM');
    assert.deepEqual(await answer, { code: 0, text: `${name} has done it: 5` });
    assert.deepEqual(await worker.ended, [0, null]);
  });

  test('a worker has a token, or ends', async (t) => {
    const project = await made(t);
    const [, file] = words(page, 'kps serve');
    const path = join(project, file);
    const child = kps('token', 'worker');
    const [table, told] = await Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
    await appendFile(path, table.join(''), { mode: 0o600 });
    const server = await serve({ options: ['--tokens', path] });
    t.after(() => server.kill());
    const good = new Program(t, project, 'worker.js', server, { BUS_TOKEN: /\S+$/.exec(told.join('').trim())[0] });
    await good.prints('connected');
    const bad = new Program(t, project, 'worker.js', server, { BUS_TOKEN: 'none that it knows' });
    assert.deepEqual(await bad.ended, [1, null]);
    assert.notEqual((await bad.complaints).join(''), '');
  });
});

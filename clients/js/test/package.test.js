// What is published: the variants of kps.js, its size, and what the package exports.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';

import { transformSync } from 'esbuild';

import { variants } from '../build.js';
import * as kps from '../kps.js';

const LIMIT = 18_700;
const root = new URL('../', import.meta.url);
const read = (name) => readFileSync(new URL(name, root), 'utf8');
const NAMES = Object.keys(kps).sort();

test('the variants are up to date: otherwise run `npm run build`', () => {
  for (const [name, content] of Object.entries(variants())) assert.ok(read(name) === content, name);
});

test(`minified and compressed it is below ${LIMIT} bytes`, (t) => {
  const { code } = transformSync(read('kps.js'), { minify: true, format: 'esm' });
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size < LIMIT, `${size} bytes`);
  const stated = Number(/([\d.]+) KB minified and compressed/.exec(read('README.md'))[1]);
  assert.equal(stated, Math.round(size / 100) / 10, 'the README states another size');
});

test('it has no dependencies', () => {
  assert.equal(JSON.parse(read('package.json')).dependencies, undefined);
  assert.doesNotMatch(read('kps.js'), /^import\b|\brequire\(/m);
});

test('require gives the same as import', () => {
  const required = createRequire(import.meta.url)('kps-client');
  assert.deepEqual(Object.keys(required).sort(), NAMES);
  assert.equal(typeof required.Client.connect, 'function');
});

test('the package can be imported by its name', async () => {
  assert.equal((await import('kps-client')).Client, kps.Client);
});

describe('client.js', () => {
  /** What a program that stands beside the file prints, as JSON; with what its folder has besides. */
  function run(t, name, program, others = {}) {
    const folder = mkdtempSync(join(tmpdir(), 'kps-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const files = { 'client.js': read('client.js'), [name]: program, ...others };
    for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content);
    return JSON.parse(execFileSync(process.execPath, [join(folder, name)]));
  }

  for (const [what, more] of Object.entries({ '': {}, ', also with an element of the id `module`': { module: {} } })) {
    test(`as a classic script makes two globals, and no others${what}`, () => {
      const own = { console, setTimeout, clearTimeout, ...more };
      const page = { ...own };
      runInNewContext(read('client.js'), page);
      const added = Object.keys(page).filter((name) => !(name in own));
      assert.deepEqual(added.sort(), ['BusClient', 'KPS']);
      assert.equal(page.KPS, page.BusClient);
      assert.deepEqual(Object.keys(page.KPS).sort(), NAMES);
      assert.equal(typeof page.BusClient.Client.NewClient, 'function');
    });
  }

  test('can be required, and then makes no globals', (t) => {
    const program = "console.log(JSON.stringify([Object.keys(require('./client.js')), typeof KPS]));";
    const [names, global] = run(t, 'program.cjs', program);
    assert.deepEqual([names.sort(), global], [NAMES, 'undefined']);
  });

  test('can be imported by names, too', (t) => {
    const program = `import { ${NAMES.join(', ')} } from './client.js';
      console.log(JSON.stringify([${NAMES.map((name) => `typeof ${name}`)}]));`;
    assert.deepEqual(new Set(run(t, 'program.mjs', program)), new Set(['function']));
  });

  test('makes its globals as a module of a page, or of a package of modules', (t) => {
    const program = "import './client.js'; console.log(JSON.stringify(Object.keys(KPS)));";
    const names = run(t, 'program.js', program, { 'package.json': '{ "type": "module" }' });
    assert.deepEqual(names.sort(), NAMES);
  });
});

test('what is exported has types, and the other way round', () => {
  const declarations = read('kps.d.ts').matchAll(/^export (?:class|function|{ \w+ as) (\w+)/gm);
  const declared = [...declarations].map(([, name]) => name);
  assert.deepEqual(declared.sort(), NAMES);
});

test('what a client has is declared, but for what begins with an underscore', () => {
  const types = read('kps.d.ts');
  for (const { prototype, name } of [kps.Client, kps.Ack, kps.Pattern]) {
    for (const member of Object.getOwnPropertyNames(prototype)) {
      if (member === 'constructor' || member.startsWith('_')) continue;
      assert.match(types, new RegExp(`^  (readonly |static )?${member}[(<:]`, 'm'), `${name}.${member}`);
    }
  }
});

test('the files of the package are there, with the licence of the project', () => {
  const { files, license, main, module, types } = JSON.parse(read('package.json'));
  for (const name of [...files, main, module, types]) assert.ok(read(name), name);
  assert.equal(license, 'MIT');
  assert.equal(read('LICENSE'), read('../../LICENSE'));
});

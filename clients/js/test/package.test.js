// What is published: the variants of kps.js, its size, and what the package exports.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';

import { transformSync } from 'esbuild';

import { variants } from '../build.js';
import * as kps from '../kps.js';

const LIMIT = 18_200;
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

test('a classic script makes two globals, and no others', () => {
  const page = { console, setTimeout, clearTimeout };
  runInNewContext(read('kps.global.js'), page);
  const added = Object.keys(page).filter((name) => !['console', 'setTimeout', 'clearTimeout'].includes(name));
  assert.deepEqual(added.sort(), ['BusClient', 'KPS']);
  assert.equal(page.KPS, page.BusClient);
  assert.deepEqual(Object.keys(page.KPS).sort(), NAMES);
  assert.equal(typeof page.BusClient.Client.NewClient, 'function');
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

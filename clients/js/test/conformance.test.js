// The judge of the specification, `kps conformance`, on this client by way of its testee.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { kps } from './kps-serve.js';

const TESTEE = fileURLToPath(new URL('testee.mjs', import.meta.url));

/** The exit code of a command, and what it has written. */
function run(...words) {
  const started = kps(...words);
  let output = '';
  for (const stream of [started.stdout, started.stderr]) stream.on('data', (data) => { output += data; });
  return new Promise((resolve) => {
    started.on('error', ({ message }) => resolve({ code: undefined, output: message }));
    started.on('close', (code) => resolve({ code, output }));
  });
}

test('the client does what the vectors for clients say', async (t) => {
  const { code, output } = await run('--version');
  if (code !== 0) return t.skip(`KPS_PYTHON names the Python that has kps: ${output}`);
  const judged = await run('conformance', '--client', `"${process.execPath}" "${TESTEE}"`, '--jobs', '2');
  assert.equal(judged.code, 0, judged.output);
  const leftOut = judged.output.split('\n').filter((line) => line.startsWith('left out'));
  // A page cannot show a token in its request.
  assert.ok(leftOut.every((line) => line.endsWith('the client does not have request_tokens')), judged.output);
});

// Makes the variants of kps.js that need no ES module support, and the server's copy: `npm run build`.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (name) => new URL(name, import.meta.url);
const read = (name) => readFileSync(here(name), 'utf8');
const NOTE = '// Made of kps.js by `npm run build`. Do not edit.\n';

/** The source without its exports, and their names. */
function withoutExports(source) {
  const declaration = /^export (?=(?:class|const|function) (\w+))/gm;
  const names = [...source.matchAll(declaration)].map(([, name]) => name);
  const body = source.replace(declaration, '');
  if (/^(export|import)\b/m.test(body)) throw new Error('kps.js exports or imports otherwise');
  return { body, exported: `{\n  ${names.join(',\n  ')},\n}` };
}

/** What the committed files must contain, by name. */
export function variants() {
  const source = read('kps.js');
  const { body, exported } = withoutExports(source);
  const script = `globalThis.KPS = globalThis.BusClient = ${exported};`;
  return {
    'kps.cjs': `${NOTE}'use strict';\n\n${body}\nmodule.exports = ${exported};\n`,
    'kps.global.js': `${NOTE}(() => {\n'use strict';\n\n${body}\n${script}\n})();\n`,
    'kps.d.cts': NOTE + read('kps.d.ts'),
    '../../kps/web/kps.js': source,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, content] of Object.entries(variants())) writeFileSync(here(name), content);
}

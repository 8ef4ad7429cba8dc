// Makes the variant of kps.js that is no ES module, and the server's copies: `npm run build`.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (name) => new URL(name, import.meta.url);
const read = (name) => readFileSync(here(name), 'utf8');
const NOTE = '// Made of kps.js by `npm run build`. Do not edit.\n';

// Where there is a `module`, that exports; Node finds the names also for `import`. A page may have an element of that id.
const BEGINNING = `((module) => {
'use strict';
`;
const END = `})(typeof module === 'object' && module.exports ? module : {
  set exports(names) { globalThis.KPS = globalThis.BusClient = names; },
});
`;

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
  const script = `${NOTE}${BEGINNING}\n${body}\nmodule.exports = ${exported};\n${END}`;
  return {
    'client.js': script,
    'kps.cjs': script, // under the name by which Node requires it from this package, which is one of ES modules
    'kps.d.cts': NOTE + read('kps.d.ts'),
    '../../kps/web/client.js': script,
    '../../kps/web/kps.js': source,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, content] of Object.entries(variants())) writeFileSync(here(name), content);
}

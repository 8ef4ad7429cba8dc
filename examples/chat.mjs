// A chat room in the terminal, in which the writer sees who has got each line.
//
//     kps serve
//     node examples/chat.mjs alice            # in one terminal
//     node examples/chat.mjs bob              # in another; then type lines
//
// Arguments: your name, then optionally the server's address and the room. Node before 22 has no
// WebSocket of its own, and takes that of the package ws: `npm install ws`.

import process from 'node:process';
import { createInterface } from 'node:readline';

import { Client } from '../clients/js/kps.js';

const WebSocket = globalThis.WebSocket ?? (await import('ws')).default;
const [name, address = 'localhost:9313', room = 'lobby'] = process.argv.slice(2);

const client = await Client.connect(address, { id: name, WebSocket });
await client.subscribe(room, ({ data, from }) => {
  if (from !== name) console.log(`${from}: ${typeof data === 'string' ? data : JSON.stringify(data)}`);
});
console.log(`you are ${name} in ${room}`);
for await (const line of createInterface({ input: process.stdin })) {
  const ack = await client.publishWithAck(room, line, { timeout: 5000 });
  const responses = await ack.wait();
  const seen = [...responses].filter(([who, { success }]) => success && who !== name).map(([who]) => who);
  console.log(`  seen by ${seen.sort().join(', ') || 'nobody'}`);
}
await client.close();

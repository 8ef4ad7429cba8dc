// Bytes in payloads: what stands for them, how they come back, and what is refused.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, mock, test } from 'node:test';
import { runInNewContext } from 'node:vm';

import { packBytes, unpackBytes } from '../kps.js';
import { connected } from './fake.js';

before(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
after(() => mock.timers.reset());

const bytes = (...values) => Uint8Array.from(values);
const AS_JSON = { $base64: 'AP8=' };
const { buffer } = bytes(9, 0, 255, 9);
const shared = new Uint8Array(new SharedArrayBuffer(2));
shared[1] = 255;

/** Each kind of bytes, all with the same in them. */
const KINDS = {
  Uint8Array: bytes(0, 255),
  Uint8ClampedArray: Uint8ClampedArray.from([0, 255]),
  Int8Array: Int8Array.from([0, -1]),
  Uint16Array: new Uint16Array(bytes(0, 255).buffer),
  ArrayBuffer: bytes(0, 255).buffer,
  SharedArrayBuffer: shared.buffer,
  Buffer: Buffer.from([0, 255]),
  'view of a part': new Uint8Array(buffer, 1, 2),
  'DataView of a part': new DataView(buffer, 1, 2),
  'view of shared memory': shared,
  'Uint8Array of another frame': runInNewContext('Uint8Array.from([0, 255])'),
  'ArrayBuffer of another frame': runInNewContext('Uint8Array.from([0, 255]).buffer'),
};

describe('bytes are packed', () => {
  for (const [kind, value] of Object.entries(KINDS)) {
    test(`of the kind ${kind}`, () => {
      assert.deepEqual(packBytes(value), AS_JSON);
      assert.deepEqual(packBytes({ a: [1, { b: value }] }), { a: [1, { b: AS_JSON }] });
    });
  }

  test('and come back as they were, of any length', () => {
    for (const length of [0, 1, 2, 3, 4, 255, 256, 8191, 8192, 8193, 3 * 8192 + 1]) {
      const given = Uint8Array.from({ length }, (_, index) => index * 7);
      const packed = packBytes(given);
      assert.equal(packed.$base64, Buffer.from(given).toString('base64'));
      assert.deepEqual(unpackBytes(JSON.parse(JSON.stringify(packed))), given);
    }
  });

  test('beside all else, which remains', () => {
    class Order { id = 1; }
    const given = { a: [1, 'x', null, true, { b: bytes(0, 255) }], c: new Order(), d: new Date(0), e: undefined, f: [], g: {} };
    const packed = packBytes(given);
    assert.deepEqual(packed, { ...given, a: [1, 'x', null, true, { b: AS_JSON }] });
    assert.deepEqual(given.a[4].b, bytes(0, 255), 'what the program gave is not changed');
    assert.deepEqual(unpackBytes(packed), given);
    for (const value of [null, undefined, 5, 'ArrayBuffer', 'AP8=', true, NaN]) {
      assert.deepEqual([packBytes(value), unpackBytes(value)], [value, value]);
    }
  });

  test('at any depth, and in objects of another frame or without prototype', () => {
    const wrap = (value) => Array.from({ length: 500 }).reduce((inner) => [{ inner }], value);
    assert.deepEqual(packBytes(wrap(bytes(0, 255))), wrap(AS_JSON));
    assert.deepEqual(unpackBytes(wrap(AS_JSON)), wrap(bytes(0, 255)));
    for (const holder of [runInNewContext('({})'), Object.create(null)]) {
      holder.a = bytes(0, 255);
      assert.deepEqual(packBytes(holder), { a: AS_JSON });
    }
  });

  test('under any name', () => {
    const packed = packBytes(JSON.parse('{ "__proto__": 1, "constructor": 2, "": 3 }'));
    assert.equal(JSON.stringify(packed), '{"__proto__":1,"constructor":2,"":3}');
    assert.equal(JSON.stringify(unpackBytes(packed)), '{"__proto__":1,"constructor":2,"":3}');
  });
});

describe('an object that stands for bytes', () => {
  test('is refused where bytes are packed', () => {
    const looksSo = [
      AS_JSON, { $base64: 5 }, { $base64: null }, { $base64: bytes(1) }, { $base64: 'AP8=', other: undefined }, { $base64: '', other() {} },
    ];
    for (const value of looksSo) {
      for (const given of [value, [value], { a: value }]) {
        assert.throws(() => packBytes(given), { name: 'InvalidArgument', message: 'an object with $base64 alone stands for bytes' });
      }
    }
  });

  test('has no other member', () => {
    const others = [{ $base64: 'AP8=', more: { $BASE64: 'AP8=' } }, { $base64: '?', more: null }, { base64: 'AP8=' }, ['$base64'], { $base64: undefined, more: 1 }];
    for (const value of others) assert.deepEqual([packBytes(value), unpackBytes(value)], [value, value]);
    assert.deepEqual(packBytes({ $base64: bytes(0, 255), more: 1 }), { $base64: AS_JSON, more: 1 });
  });

  test('has base64 in it', () => {
    const wrong = [
      'A', 'AP', 'AP8', 'AP8==', 'AP8===', 'A===', '====', '=', '=AP8', 'AP=8', 'AP8=AP8=', 'A P8=', 'AP8=\n', '\nAP8', ' AP8=', 'AP8= ',
      '-_8=', 'ä8==', 'AP8\0', '＋／8=', 5, null, true, ['AP8='], {}, bytes(1),
    ];
    for (const each of wrong) {
      for (const given of [{ $base64: each }, [{ $base64: each }], { a: { $base64: each } }]) {
        assert.throws(() => unpackBytes(given), { name: 'InvalidArgument', message: /^this is not base64: / });
      }
    }
    assert.throws(() => unpackBytes({ $base64: 'a\n\u202e' }), { message: 'this is not base64: a\\u{a}\\u{202e}' });
    assert.deepEqual(unpackBytes({ $base64: '+/8=' }), bytes(251, 255));
  });
});

test('a page needs nothing of Node', () => {
  const page = { console, setTimeout, clearTimeout, atob, btoa };
  runInNewContext(readFileSync(new URL('../client.js', import.meta.url), 'utf8'), page);
  const { packed, unpacked } = runInNewContext(`({
    packed: JSON.stringify(KPS.packBytes([Uint8Array.from([0, 255]), new Uint8Array(2).buffer])),
    unpacked: KPS.unpackBytes([{ $base64: 'AP8=' }])[0],
  })`, page);
  assert.equal(packed, '[{"$base64":"AP8="},{"$base64":"AAA="}]');
  assert.equal(unpacked.constructor.name, 'Uint8Array');
  assert.deepEqual([...unpacked], [0, 255]);
});

describe('publishing', () => {
  const refused = { name: 'InvalidArgument', message: 'the data is not JSON: JSON has no bytes: see packBytes' };

  test('packed bytes is publishing JSON', async () => {
    const { client, socket } = await connected();
    await client.publish('t', packBytes({ image: bytes(0, 255) }));
    assert.deepEqual(await socket.sent(), [{ action: 'publish', topic: 't', data: { image: AS_JSON } }]);
  });

  for (const [kind, value] of Object.entries(KINDS)) {
    test(`bytes that are not packed is refused: ${kind}`, async () => {
      const { client, socket } = await connected();
      await assert.rejects(client.publish('t', value), refused);
      await assert.rejects(client.request('t', value), refused);
      assert.deepEqual(await socket.sent(), []);
    });
  }

  test('what would be lost within other data is refused; of a typed array there remain the numbers', async () => {
    const { client, socket } = await connected();
    for (const value of [buffer, new DataView(buffer), bytes()]) await assert.rejects(client.publish('t', { a: [value] }), refused);
    await client.publish('t', [bytes(1, 2), null, {}]);
    assert.deepEqual(await socket.sent(), [{ action: 'publish', topic: 't', data: [{ 0: 1, 1: 2 }, null, {}] }]);
  });

  test('a result that is bytes is an error of the callback', async () => {
    const { client, socket } = await connected();
    client.subscribe('t', () => bytes(1));
    await socket.sent();
    socket.says({ action: 'publish_ack', topic: 't', ack_id: '1', data: 1, from: 'bob' });
    const [{ success, error }] = await socket.sent();
    assert.deepEqual([success, error], [false, 'the result of the callback cannot be sent: the data is not JSON: JSON has no bytes: see packBytes']);
  });
});

// One payload model for all dialects: a message is JSON, text or bytes.

import assert from 'node:assert/strict';
import { connectNode } from './clients/node.js';
import { connectPython } from './clients/python.js';
import { startWebsocat } from './clients/websocat.js';
import { MSGPACK_SUBPROTOCOL, Native } from './native.js';
import { serverTest } from './server.js';

const ROOM = 'room:42';
const RAW = `/ws?channel=${ROOM}`;
const BYTES = new Uint8Array([0x00, 0xff, 0x0a, 0xc3, 0x28]);
const BYTES_BASE64 = 'AP8Kwyg=';
// websocat sends a typed line with its line feed unless told otherwise.
const STRIPPED = ['--linemode-strip-newlines'];

/** A JSON and a MessagePack subscriber of the room, and a raw one by `ws`. */
async function audience(t, server) {
  const json = new Native(await connectPython(t, server.url('/ws')));
  const packed = new Native(await connectNode(t, server.url('/ws'), { subprotocols: [MSGPACK_SUBPROTOCOL] }));
  for (const session of [json, packed]) {
    assert.equal((await session.request({ type: 'subscribe', channel: ROOM })).type, 'subscribed');
  }
  const raw = await connectNode(t, server.url(RAW));
  // A raw subscriber has no reply to wait for; what it says itself is the first thing it hears.
  raw.sendText('joined');
  assert.deepEqual(await nextFrame(raw), { text: 'joined' });
  assert.equal((await json.message()).data, 'joined');
  assert.equal((await packed.message()).data, 'joined');
  return { json, packed, raw };
}

function nextFrame(raw) {
  return raw.inbox.take('a frame', (event) => 'text' in event || 'bytes' in event);
}

/** What the three dialects make of one publication. */
async function checkHeard({ json, packed, raw }, expected) {
  const { data, data_base64 } = await json.message();
  assert.deepEqual({ data, data_base64 }, { data: expected.json, data_base64: expected.json_base64 });
  const message = await packed.message();
  assert.deepEqual(message.data, expected.packed ?? expected.json);
  assert.equal(message.data_base64, undefined);
  const frame = await nextFrame(raw);
  if (expected.rawJson === undefined) {
    assert.deepEqual(frame, expected.raw);
  } else {
    assert.deepEqual(JSON.parse(frame.text), expected.rawJson);
  }
}

serverTest('a line typed into websocat is a string for JSON clients, an object is an object', async (t, server) => {
  const room = await audience(t, server);
  const websocat = startWebsocat(t, server.url(RAW), STRIPPED);

  websocat.type('hello, wörld 🦀');
  await checkHeard(room, { json: 'hello, wörld 🦀', raw: { text: 'hello, wörld 🦀' } });
  assert.equal(await websocat.line(), 'hello, wörld 🦀');
  websocat.type('{"text":"hi","list":[1,null]}');
  await checkHeard(room, { json: { text: 'hi', list: [1, null] }, rawJson: { text: 'hi', list: [1, null] } });
  assert.deepEqual(JSON.parse(await websocat.line()), { text: 'hi', list: [1, null] });
  websocat.type('[1,2]');
  await checkHeard(room, { json: [1, 2], rawJson: [1, 2] });
});

serverTest('a raw line that is JSON but no object or array is text', async (t, server) => {
  const room = await audience(t, server);
  for (const text of ['42', 'true', 'null', '"quoted"', '{"half":', '{} {}']) {
    room.raw.sendText(text);
    await checkHeard(room, { json: text, raw: { text } });
  }
});

serverTest('websocat without options speaks and hears', async (t, server) => {
  const { json } = await audience(t, server);
  const websocat = startWebsocat(t, server.url(RAW));
  websocat.type('hello');
  assert.equal((await json.message()).data.trimEnd(), 'hello');
  assert.equal(await websocat.line(), 'hello');
  websocat.type('{"text":"hi"}');
  assert.deepEqual((await json.message()).data, { text: 'hi' });
  assert.deepEqual(JSON.parse(await websocat.line()), { text: 'hi' });
});

serverTest('a JSON string reaches raw clients as its bare characters, other JSON as its text', async (t, server) => {
  const room = await audience(t, server);
  const websocat = startWebsocat(t, server.url(RAW), STRIPPED);
  websocat.type('here');
  await checkHeard(room, { json: 'here', raw: { text: 'here' } });
  assert.equal(await websocat.line(), 'here');
  const publish = (data) => room.json.request({ type: 'publish', channel: ROOM, data });

  await publish('say "hi" to ž');
  await checkHeard(room, { json: 'say "hi" to ž', raw: { text: 'say "hi" to ž' } });
  assert.equal(await websocat.line(), 'say "hi" to ž');
  for (const data of [{ text: 'yo', deep: [{ a: 1.5 }] }, [1, 'two'], 42, true, null]) {
    await publish(data);
    await checkHeard(room, { json: data, rawJson: data });
    assert.deepEqual(JSON.parse(await websocat.line()), data);
  }
});

serverTest('bytes of a raw client are data_base64 for JSON and bytes for MessagePack', async (t, server) => {
  const room = await audience(t, server);
  room.raw.sendBytes(BYTES);
  await checkHeard(room, { json_base64: BYTES_BASE64, packed: BYTES, raw: { bytes: BYTES } });
});

serverTest('bytes of a raw Python client are the same', async (t, server) => {
  const room = await audience(t, server);
  const python = await connectPython(t, server.url(RAW));
  python.sendBytes(BYTES);
  await checkHeard(room, { json_base64: BYTES_BASE64, packed: BYTES, raw: { bytes: BYTES } });
  assert.deepEqual(await nextFrame(python), { bytes: BYTES });
});

serverTest('data_base64 of a JSON client is bytes for all others', async (t, server) => {
  const room = await audience(t, server);
  const reply = await room.json.request({ type: 'publish', channel: ROOM, data_base64: BYTES_BASE64 });
  assert.equal(reply.type, 'published');
  await checkHeard(room, { json_base64: BYTES_BASE64, packed: BYTES, raw: { bytes: BYTES } });
});

serverTest('MessagePack values reach JSON and raw clients as JSON, strings as text, bin as bytes', async (t, server) => {
  const room = await audience(t, server);
  const publish = (data) => room.packed.request({ type: 'publish', channel: ROOM, data });
  const value = { text: 'ž', numbers: [0, -1, 300, 1.5], none: null, yes: true };
  await publish(value);
  await checkHeard(room, { json: value, rawJson: value });
  await publish('bare');
  await checkHeard(room, { json: 'bare', raw: { text: 'bare' } });
  await publish(BYTES);
  await checkHeard(room, { json_base64: BYTES_BASE64, packed: BYTES, raw: { bytes: BYTES } });
});

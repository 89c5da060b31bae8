// Connections: handshake, origin, limits, errors, ping, close, and the server's stop.

import assert from 'node:assert/strict';
import { connectNode } from './clients/node.js';
import { connectPython } from './clients/python.js';
import { startWebsocat } from './clients/websocat.js';
import { JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL, Native } from './native.js';
import { serverTest } from './server.js';

const ROOM = 'room:42';
const LIBRARIES = [
  ['ws', connectNode],
  ['websockets', connectPython],
];

function closed(peer) {
  return peer.inbox.take('its close', (event) => 'closed' in event);
}

function text(peer) {
  return peer.inbox.take('a text message', (event) => 'text' in event);
}

/** Text that does not deflate by more than a server may accept (100 : 1). */
function varied(size) {
  let state = 1;
  const letter = () => {
    state = (state * 48_271) % 2_147_483_647;
    return 'abcdefghijklmnopqrstuvwxyz'[state % 26];
  };
  return Array.from({ length: size }, letter).join('');
}

for (const [library, connect] of LIBRARIES) {
  serverTest(`${library}: the server chooses the first subprotocol it knows`, async (t, server) => {
    const offers = [
      [[], ''],
      [[JSON_SUBPROTOCOL], JSON_SUBPROTOCOL],
      [[MSGPACK_SUBPROTOCOL], MSGPACK_SUBPROTOCOL],
      [['chat.v9', MSGPACK_SUBPROTOCOL], MSGPACK_SUBPROTOCOL],
    ];
    for (const [subprotocols, chosen] of offers) {
      assert.equal((await connect(t, server.url('/ws'), { subprotocols })).subprotocol, chosen);
    }
  });

  serverTest(`${library}: an unknown subprotocol is refused with 400`, async (t, server) => {
    await assert.rejects(connect(t, server.url('/ws'), { subprotocols: ['chat.v9'] }), { status: 400 });
  });

  serverTest(`${library}: loopback origins and no origin are accepted, others refused with 403`, async (t, server) => {
    const own = `http://127.0.0.1:${server.port}`;
    for (const origin of [undefined, own, 'http://localhost:3000', 'http://[::1]:3000', 'https://localhost']) {
      await connect(t, server.url('/ws'), { origin });
    }
    const foreign = ['https://evil.example', 'http://localhost.evil.example', 'http://127.0.0.1.evil.example', 'null'];
    for (const origin of foreign) {
      await assert.rejects(connect(t, server.url('/ws'), { origin }), { status: 403 }, origin);
    }
  });

  serverTest(`${library}: permessage-deflate is used when it is offered, and only then`, async (t, server) => {
    assert.match(String((await connect(t, server.url('/echo'))).extensions), /permessage-deflate/);
    assert.equal(String((await connect(t, server.url('/echo'), { deflate: false })).extensions), '');
  });

  for (const deflate of [true, false]) {
    serverTest(`${library}: /echo returns what it gets, deflate ${deflate ? 'on' : 'off'}`, async (t, server) => {
      const peer = await connect(t, server.url('/echo'), { deflate });
      for (const size of [0, 1, 125, 126, 65_535, 65_536]) {
        const sent = varied(size);
        peer.sendText(sent);
        assert.equal((await text(peer)).text, sent);
        const bytes = Uint8Array.from({ length: size }, (_, index) => sent.charCodeAt(index) * 2 + 1);
        peer.sendBytes(bytes);
        const event = await peer.inbox.take('bytes', (received) => 'bytes' in received);
        assert.deepEqual(event.bytes, bytes);
      }
    });

    serverTest(`${library}: a message of 1 MB is refused with 1009, deflate ${deflate ? 'on' : 'off'}`, async (t, server) => {
      const peer = await connect(t, server.url('/ws'), { deflate });
      const neighbour = new Native(await connect(t, server.url('/ws')));
      peer.sendText('a'.repeat(1_000_000));
      assert.equal((await closed(peer)).closed, 1009);
      assert.equal((await neighbour.request({ type: 'publish', channel: ROOM, data: 1 })).type, 'published');
    });
  }

  serverTest(`${library}: a malformed command is answered by bad_request and the connection goes on`, async (t, server) => {
    const peer = await connect(t, server.url('/ws'));
    const session = new Native(peer);
    for (const malformed of ['{"type":', 'hello', 'null', '42', '[]', '""', '{}', '{"type":"levitate"}', '']) {
      peer.sendText(malformed);
      const error = await session.next('error');
      assert.equal(error.code, 'bad_request', malformed);
      assert.equal(typeof error.message, 'string');
    }
    const reply = await session.request({ type: 'publish', channel: ROOM, data: 1 });
    assert.equal(reply.type, 'published');
  });

  serverTest(`${library}: an error carries the id of the command it answers`, async (t, server) => {
    const session = new Native(await connect(t, server.url('/ws')));
    const reply = await session.request({ type: 'publish', channel: '', data: 1 });
    assert.equal(reply.type, 'error');
    assert.equal(typeof reply.code, 'string');
  });

  serverTest(`${library}: a ping is answered by a pong with its payload`, async (t, server) => {
    const peer = await connect(t, server.url('/ws'));
    for (const payload of ['first', 'second', 'x'.repeat(125)]) {
      peer.ping(payload);
      const event = await peer.inbox.take('a pong', (received) => 'pong' in received);
      assert.equal(event.pong, payload);
    }
  });

  serverTest(`${library}: close codes are echoed`, async (t, server) => {
    for (const code of [1000, 1001, 1008, 3000, 4999]) {
      const peer = await connect(t, server.url('/ws'));
      peer.close(code, 'bye');
      assert.equal((await closed(peer)).closed, code);
    }
  });
}

serverTest('ws: a Close without a code is answered by one without a code', async (t, server) => {
  const peer = await connectNode(t, server.url('/ws'));
  peer.close();
  assert.equal((await closed(peer)).closed, 1005);
});

serverTest('ws: fragments are one message', async (t, server) => {
  for (const deflate of [true, false]) {
    const peer = await connectNode(t, server.url('/echo'), { deflate });
    peer.sendFragments(['one, ', '', 'two, ', 'three']);
    assert.equal((await text(peer)).text, 'one, two, three');
  }
});

serverTest('malformed MessagePack is answered by bad_request and the connection goes on', async (t, server) => {
  const peer = await connectNode(t, server.url('/ws'), { subprotocols: [MSGPACK_SUBPROTOCOL] });
  const session = new Native(peer);
  // Nothing; a map that breaks off; a reserved byte; nil; a map with trailing bytes.
  for (const malformed of [[], [0x81, 0xa4], [0xc1], [0xc0], [0x80, 0x00]]) {
    peer.sendBytes(Uint8Array.from(malformed));
    assert.equal((await session.next('error')).code, 'bad_request');
  }
  assert.equal((await session.request({ type: 'publish', channel: ROOM, data: 1 })).type, 'published');
});

serverTest('a stopping server says goodbye and closes every connection with 1001', async (t, server) => {
  const json = new Native(await connectPython(t, server.url('/ws')));
  const packed = new Native(await connectNode(t, server.url('/ws'), { subprotocols: [MSGPACK_SUBPROTOCOL] }));
  for (const session of [json, packed]) await session.request({ type: 'subscribe', channel: ROOM });
  const raw = await connectNode(t, server.url(`/ws?channel=${ROOM}`));
  // Without the option it lives until its standard input ends.
  const websocat = startWebsocat(t, server.url(`/ws?channel=${ROOM}`), ['--exit-on-eof']);
  websocat.type('here');
  await websocat.line();

  server.terminate();
  for (const session of [json, packed]) {
    const goodbye = await session.next('goodbye');
    assert.ok(Number.isInteger(goodbye.code));
    assert.equal(typeof goodbye.reason, 'string');
    assert.equal((await session.closed()).closed, 1001);
  }
  assert.equal((await closed(raw)).closed, 1001);
  assert.equal(await websocat.ended(), 0);
});

// Rooms: order, acknowledgement, history, with different libraries in one room.

import assert from 'node:assert/strict';
import { connectNode } from './clients/node.js';
import { connectPython } from './clients/python.js';
import { JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL, Native } from './native.js';
import { serverTest } from './server.js';

const ROOM = 'room:42';

async function join(peer, channel = ROOM) {
  const session = new Native(peer);
  const subscribed = await session.request({ type: 'subscribe', channel });
  assert.equal(subscribed.type, 'subscribed');
  assert.equal(subscribed.channel, channel);
  return session;
}

async function publish(session, data, channel = ROOM) {
  const published = await session.request({ type: 'publish', channel, data });
  assert.equal(published.type, 'published');
  return published;
}

const pairs = [
  ['Python with permessage-deflate and ws', connectPython, {}, connectNode, {}],
  ['Python without permessage-deflate and ws', connectPython, { deflate: false }, connectNode, {}],
  ['ws with permessage-deflate and ws without', connectNode, {}, connectNode, { deflate: false }],
  ['Python and MessagePack', connectPython, {}, connectNode, { subprotocols: [MSGPACK_SUBPROTOCOL] }],
];
for (const [name, connectAna, anaOptions, connectBen, benOptions] of pairs) {
  serverTest(`${name} hear one order with increasing offsets`, async (t, server) => {
    const ana = await join(await connectAna(t, server.url('/ws'), anaOptions));
    const ben = await join(await connectBen(t, server.url('/ws'), benOptions));

    const talk = async (session, speaker) => {
      for (let count = 0; count < 20; count += 1) await publish(session, { speaker, count });
    };
    await Promise.all([talk(ana, 'ana'), talk(ben, 'ben')]);

    const heardByAna = await ana.messages(40);
    const heardByBen = await ben.messages(40);
    assert.deepEqual(heardByAna, heardByBen);
    assertIncreasing(heardByAna.map((message) => message.offset));
    for (const speaker of ['ana', 'ben']) {
      const counts = heardByAna.filter(({ data }) => data.speaker === speaker).map(({ data }) => data.count);
      assert.deepEqual(counts, [...Array(20).keys()]);
    }
  });
}

serverTest('an acknowledgement names the offset and position that subscribers see', async (t, server) => {
  const ana = await join(await connectPython(t, server.url('/ws')));
  const ben = await join(await connectNode(t, server.url('/ws')));

  const { offset, position } = await publish(ana, { text: 'hi' });
  const message = await ben.message();
  assert.deepEqual(message.data, { text: 'hi' });
  assert.equal(message.channel, ROOM);
  assert.equal(message.offset, offset);
  assert.equal(message.position, position);
  assert.equal(typeof position, 'string');
  assert.ok(Number.isSafeInteger(message.at));
});

serverTest('connect is answered by a welcome, and may be left out', async (t, server) => {
  const ana = new Native(await connectPython(t, server.url('/ws'), { subprotocols: [JSON_SUBPROTOCOL] }));
  const welcome = await ana.request({ type: 'connect' });
  assert.equal(welcome.type, 'welcome');
  assert.equal(typeof welcome.session, 'string');
  assert.ok(welcome.heartbeat_ms > 0);

  const ben = new Native(await connectNode(t, server.url('/ws')));
  assert.equal((await ben.request({ type: 'publish', channel: ROOM, data: 1 })).type, 'published');
});

serverTest('a session hears its own channels and no other', async (t, server) => {
  const ana = await join(await connectNode(t, server.url('/ws')), 'room:1');
  const ben = await join(await connectPython(t, server.url('/ws')), 'room:2');

  await publish(ben, 'for two', 'room:2');
  await publish(ben, 'for one', 'room:1');
  assert.equal((await ana.message()).data, 'for one');
  assert.equal((await ben.message()).data, 'for two');
});

serverTest('nothing is heard after unsubscribe, until subscribing again', async (t, server) => {
  const ana = await join(await connectNode(t, server.url('/ws')));
  const ben = new Native(await connectPython(t, server.url('/ws')));

  await publish(ben, 'before');
  const unsubscribed = await ana.request({ type: 'unsubscribe', channel: ROOM });
  assert.equal(unsubscribed.type, 'unsubscribed');
  assert.equal(unsubscribed.channel, ROOM);
  await publish(ben, 'between');
  assert.equal((await ana.request({ type: 'subscribe', channel: ROOM })).type, 'subscribed');
  await publish(ben, 'after');

  // Both came in the channel's order, so `between` would stand in the middle.
  const heard = await ana.messages(2);
  assert.deepEqual(
    heard.map(({ data }) => data),
    ['before', 'after'],
  );
});

for (const subprotocol of [JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL]) {
  serverTest(`history is read by position and limit (${subprotocol})`, async (t, server) => {
    const ana = new Native(await connectNode(t, server.url('/ws'), { subprotocols: [subprotocol] }));
    const published = [];
    for (let count = 1; count <= 5; count += 1) published.push(await publish(ana, { count }));
    const read = (options) => ana.request({ type: 'history', channel: ROOM, ...options });
    const counts = (history) => history.messages.map(({ data }) => data.count);

    const all = await read({ limit: 50 });
    assert.equal(all.type, 'history');
    assert.equal(all.channel, ROOM);
    assert.deepEqual(counts(all), [1, 2, 3, 4, 5]);
    assert.equal(all.more, false);
    assert.deepEqual(
      all.messages.map(({ offset, position }) => ({ offset, position })),
      published.map(({ offset, position }) => ({ offset, position })),
    );

    const page = await read({ since: published[1].position, limit: 2 });
    assert.deepEqual(counts(page), [3, 4]);
    assert.equal(page.more, true);
    const rest = await read({ since: page.position, limit: 2 });
    assert.deepEqual(counts(rest), [5]);
    assert.equal(rest.more, false);
    const nothing = await read({ since: rest.position, limit: 2 });
    assert.deepEqual(counts(nothing), []);
  });
}

function assertIncreasing(offsets) {
  for (let index = 1; index < offsets.length; index += 1) {
    assert.ok(offsets[index] > offsets[index - 1], `offsets do not increase: ${offsets}`);
  }
}

// The client in networks that refuse, swallow, keep and cut.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { Switchboard } from 'switchboard-client';
import WebSocket from 'ws';
import { Middlebox } from './middlebox.mjs';
import { client, count, eventually, hear, messages, reaches, Server, soon } from './support.mjs';

let server;
let backend;

before(async () => {
  server = await Server.start({ SWITCHBOARD_LIMITS__COMMANDS_PER_S: 'unlimited' });
  backend = client(server, 'websocket');
});

after(async () => {
  backend?.close();
  await server?.remove();
});

/** A client that may use every transport, behind a middlebox. */
const through = (box, options = {}) =>
  new Switchboard(box.origin, { WebSocket, backoff: { baseMs: 20, capMs: 200 }, patienceMs: 700, ...options });

const works = async (one, name, transport) => {
  const { heard, subscription } = hear(one.channel(name));
  await soon(subscription.ready, `subscribed by ${transport}`);
  assert.equal(one.state.transport, transport);
  await backend.publish(name, 1);
  await one.publish(name, 2);
  await eventually('both are there', () => heard.length === 2);
  assert.deepEqual(messages(heard), [1, 2]);
  return heard;
};

test('where WebSockets are refused it reads an event stream', async () => {
  const box = await Middlebox.start(server.origin);
  box.websocket = 'refuse';
  const one = through(box);
  await works(one, 'refused', 'sse');
  one.close();
  await box.stop();
});

test('where frames are swallowed it finds out, and where streams are kept back it polls', async () => {
  const box = await Middlebox.start(server.origin);
  box.websocket = 'swallow';
  box.sse = 'keep';
  const one = through(box);
  await works(one, 'swallowed', 'poll');
  assert.ok(box.asked.websocket > 0 && box.asked.sse > 0);
  one.close();
  await box.stop();
});

test('a better transport is tried again, and takes over without a loss', async () => {
  const box = await Middlebox.start(server.origin);
  box.websocket = 'refuse';
  box.sse = 'refuse';
  const one = through(box, { upgradeAfterMs: 100 });
  const heard = await works(one, 'upgraded', 'poll');
  let isDone = false;
  const publishing = (async () => {
    let number = 3;
    for (; !isDone; number++) {
      await backend.publish('upgraded', number);
      await new Promise((next) => setTimeout(next, 5));
    }
    return number;
  })();
  await eventually('it has been tried', () => box.asked.websocket > 2);
  box.websocket = 'pass';
  await eventually('it is better', () => one.state.transport === 'websocket');
  await new Promise((later) => setTimeout(later, 100));
  isDone = true;
  const end = await publishing;
  await eventually('all are there', () => heard.length >= end - 1);
  // What took over is missed as any other when it is gone.
  const waiting = reaches(one, 'waiting');
  box.cut();
  await soon(waiting, 'it finds out');
  await soon(one.publish('upgraded', end), 'published');
  await eventually('it goes on', () => heard.length >= end);
  assert.deepEqual(messages(heard), count(1, end + 1));
  one.close();
  await box.stop();
});

for (const transport of ['websocket', 'sse', 'poll']) {
  test(`a connection with a newer token is missed when it is gone, by ${transport}`, async () => {
    const box = await Middlebox.start(server.origin);
    let asked = 0;
    const token = () => {
      const exp = Math.floor(Date.now() / 1_000) + (++asked === 1 ? 3 : 3_600);
      return `x.${Buffer.from(JSON.stringify({ exp })).toString('base64url')}.x`;
    };
    const one = through(box, { transports: [transport], token });
    const { heard, subscription } = hear(one.channel(`newer:${transport}`));
    await soon(subscription.ready, 'subscribed');
    const opened = soon(new Promise((resolve) => one.once('state', resolve)), 'another one takes over');
    assert.equal((await opened).status, 'open');
    assert.equal(asked, 2);
    await one.publish(`newer:${transport}`, 1);
    const waiting = reaches(one, 'waiting');
    box.cut();
    await waiting;
    await soon(one.publish(`newer:${transport}`, 2), 'published');
    await eventually('all is heard', () => heard.length === 2);
    one.close();
    await box.stop();
  });
}

test('a server that is away for a moment is no reason for another transport', async () => {
  const box = await Middlebox.start(server.origin);
  const one = through(box);
  await works(one, 'away', 'websocket');
  box.websocket = 'cut';
  const waiting = reaches(one, 'waiting');
  box.cut();
  await waiting;
  box.websocket = 'pass';
  await reaches(one, 'open');
  assert.equal(one.state.transport, 'websocket');
  assert.equal(box.asked.sse, 0);
  one.close();
  await box.stop();
});

test('cuts at any moment: nothing missing, nothing twice, by every transport', async () => {
  for (const transport of ['websocket', 'sse', 'poll']) {
    const box = await Middlebox.start(server.origin);
    const one = through(box, { transports: [transport] });
    const name = `cuts:${transport}`;
    const { heard, subscription } = hear(one.channel(name));
    await soon(subscription.ready, 'subscribed');
    const published = [];
    for (const number of count(0, 150)) {
      // Half of them by the client itself, whose answers are cut off, too.
      published.push(number % 2 ? one.publish(name, number) : backend.publish(name, number));
      if (number % 15 === 7) box.cut();
      await new Promise((next) => setTimeout(next, 4));
    }
    await soon(Promise.all(published), 'all are published');
    await eventually('all are there', () => heard.length >= 150);
    const seen = messages(heard);
    assert.equal(seen.length, 150, transport);
    assert.deepEqual([...seen].sort((one, other) => one - other), count(0, 150), transport);
    // Each publisher's own are in its order.
    for (const parity of [0, 1]) {
      const own = seen.filter((number) => number % 2 === parity);
      assert.deepEqual(own, count(0, 75).map((index) => 2 * index + parity), transport);
    }
    one.close();
    await box.stop();
  }
});

test('a server that is killed and starts again is found again', async () => {
  const other = await Server.start();
  const one = client(other, 'websocket');
  const { heard, subscription } = hear(one.channel('killed'));
  await soon(subscription.ready, 'subscribed');
  await one.publish('killed', 1);
  await eventually('it is there', () => heard.length === 1);
  const waiting = reaches(one, 'waiting');
  await other.kill();
  await waiting;
  const published = one.publish('killed', 2);
  await other.start();
  await soon(published, 'it is published');
  await eventually('it is there', () => heard.length === 3);
  // In memory the log has begun anew.
  assert.deepEqual(heard, [['message', 1], ['reset'], ['message', 2]]);
  one.close();
  await other.remove();
});

test('curl -N prints events as they come', async () => {
  const curl = spawn('curl', ['-sN', `${server.origin}/sse?channel=curl`]);
  let printed = '';
  curl.stdout.on('data', (bytes) => { printed += bytes; });
  await eventually('it is subscribed', () => printed.includes('event: subscribed'));
  await backend.publish('curl', 'one');
  await eventually('it prints the first', () => printed.includes('"data":"one"'));
  await backend.publish('curl', 'two');
  await eventually('it prints the second', () => printed.endsWith('\n\n') && printed.includes('"data":"two"'));
  curl.kill();
  await new Promise((closed) => curl.once('close', closed));
});

test('a server that stops says when to come back', async () => {
  const other = await Server.start();
  const one = client(other, 'websocket', { backoff: { baseMs: 1, capMs: 1 } });
  await reaches(one, 'open');
  const waiting = reaches(one, 'waiting');
  await other.stop();
  const { retryAt } = await waiting;
  assert.ok(retryAt - Date.now() > -8_000 && retryAt - Date.now() < 8_100);
  await other.start();
  one.retry();
  await reaches(one, 'open');
  one.close();
  await other.remove();
});

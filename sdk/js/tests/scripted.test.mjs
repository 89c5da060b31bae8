// The client against a server that says what a script says: what it does then is written in spec/client.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { Switchboard } from 'switchboard-client';
import WebSocket, { WebSocketServer } from 'ws';
import { eventually, hear, reaches, soon } from './support.mjs';

const vectors = JSON.parse(readFileSync(new URL('../../../spec/vectors/client.json', import.meta.url)));

let http;
let origin;
let script;
const links = [];
const clients = [];

before(async () => {
  http = createServer((_, answer) => answer.writeHead(404).end());
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (socket) => {
    const link = {
      heard: [],
      say: (event) => socket.send(JSON.stringify(event)),
      close: (code) => socket.close(code),
      cut: () => socket.terminate(),
      isOpen: () => socket.readyState === 1,
    };
    links.push(link);
    socket.on('message', (data) => {
      const command = JSON.parse(data);
      link.heard.push(command);
      script(link, command, links.length);
    });
  });
  await new Promise((listening) => http.listen(0, '127.0.0.1', listening));
  origin = `http://127.0.0.1:${http.address().port}`;
});

afterEach(() => {
  for (const one of clients.splice(0)) one.close();
  for (const link of links.splice(0)) link.cut();
});

after(() => http.close());

const welcome = { type: 'welcome', session: 's', user: 'u', heartbeat_ms: 25_000, resume: 'r1' };

function connect(options = {}, behave = () => {}) {
  script = (link, command, number) => {
    if (command.type === 'connect') link.say(welcome);
    behave(link, command, number);
  };
  const one = new Switchboard(origin, { WebSocket, transports: ['websocket'], backoff: { baseMs: 5, capMs: 20 }, ...options });
  clients.push(one);
  return one;
}

const subscribed = (link, { id, channel, since }) =>
  link.say({ type: 'subscribed', id, channel, offset: 0, position: since ?? 'p0', ...(since && { recovered: true }) });

const message = (offset, data) => ({ type: 'message', channel: 'a', offset, position: `p${offset}`, data, at: 0 });

test('a close code is the end or is not', async () => {
  for (const { code, final: isFinal } of vectors.ends) {
    const one = connect({ backoff: { baseMs: 60_000, capMs: 60_000 } });
    await reaches(one, 'open');
    links.at(-1).close(code);
    const state = await reaches(one, isFinal ? 'closed' : 'waiting');
    if (code === 4401) assert.equal(state.reason.code, 'unauthorized');
    one.close();
  }
});

test('waits are those of the vectors', async () => {
  const { random } = Math;
  try {
    for (const { base_ms: baseMs, cap_ms: capMs, longest_ms: longest } of vectors.waits) {
      Math.random = () => 1 - 2 ** -53;
      const one = connect({ backoff: { baseMs, capMs }, lastingMs: 600_000 });
      for (const ms of longest) {
        await reaches(one, 'open');
        await new Promise((later) => setTimeout(later, 2));
        const begun = Date.now();
        const waiting = reaches(one, 'waiting');
        links.at(-1).cut();
        const { retryAt } = await waiting;
        assert.ok(retryAt - begun >= ms - 2 && retryAt - Date.now() <= ms, `${retryAt - begun} of ${ms}`);
        one.retry();
      }
      one.close();
    }
  } finally {
    Math.random = random;
  }
});

/** Whether what was heard has what was expected; `null` is what must not be there. */
const matches = (heard, expected) =>
  Object.entries(expected).every(([name, value]) =>
    value === null ? heard[name] === undefined : JSON.stringify(heard[name]) === JSON.stringify(value));

for (const { name, steps } of vectors.transcripts) {
  test(`transcript: ${name}`, async () => {
    let link;
    let heard;
    let taken = 0;
    const delivered = {};
    const results = {};
    let one;
    for (const [kind, value] of steps.map((step) => Object.entries(step)[0])) {
      if (kind === 'accept') {
        const number = links.length;
        if (one) {
          await eventually('it connects again', () => links.length > number - (link ? 0 : 1) && links.at(-1) !== link);
        } else {
          one = connect();
          await eventually('it connects', () => links.length > 0);
        }
        link = links.at(-1);
        taken = 0;
        await eventually('it says connect', () => link.heard.length > 0);
        assert.ok(matches(link.heard[taken++], { type: 'connect', ...value }), JSON.stringify(link.heard[0]));
      } else if (kind === 'subscribe') {
        const channel = one.channel(value);
        const seen = (delivered[value] = []);
        channel.on('gap', ({ from, to }) => seen.push({ gap: [from, to] }));
        channel.on('reset', () => seen.push({ reset: true }));
        channel.on('error', ({ code }) => seen.push({ error: code }));
        channel.subscribe(({ data }) => seen.push({ message: data }));
      } else if (kind === 'publish') {
        const { channel, data, key, as } = value;
        one.publish(channel, data, { key }).then(
          ({ offset }) => { results[as] = { offset }; },
          ({ code }) => { results[as] = { error: code }; },
        );
      } else if (kind === 'hear') {
        heard = await eventually(`hears ${JSON.stringify(value)}`, () => link.heard[taken]);
        taken++;
        assert.ok(matches(heard, value), `${JSON.stringify(heard)} is not ${JSON.stringify(value)}`);
      } else if (kind === 'say') {
        link.say(value.id === 'the last' ? { ...value, id: heard.id } : value);
      } else if (kind === 'cut') {
        link.cut();
      } else if (kind === 'close') {
        link.close(value);
      } else if (kind === 'deliver') {
        await eventually(`delivers ${JSON.stringify(value)}`, () => delivered[value.channel].length >= value.all.length);
        assert.deepEqual(delivered[value.channel], value.all);
      } else if (kind === 'settle') {
        await eventually('it settles', () => Object.keys(value).every((as) => results[as]));
        assert.deepEqual(results, value);
      } else {
        throw new Error(`no step ${kind}`);
      }
    }
  });
}

test('waits grow, have full jitter, and begin anew only after a connection that has lasted', async () => {
  const { random } = Math;
  try {
    for (const [share, lastingMs, expected] of [
      [0.999, 60_000, [100, 200, 400, 800, 1_000, 1_000]],
      [0.5, 60_000, [50, 100, 200, 400, 500]],
      [0, 60_000, [0, 0, 0]],
      [0.999, 0, [100, 100, 100]],
    ]) {
      Math.random = () => share;
      const one = connect({ backoff: { baseMs: 100, capMs: 1_000 }, lastingMs });
      for (const [index, ms] of expected.entries()) {
        await reaches(one, 'open');
        // What is to happen at once happens in a timer.
        await new Promise((later) => setTimeout(later, 5));
        const begun = Date.now();
        const waiting = reaches(one, 'waiting');
        links.at(-1).cut();
        const { retryAt, attempt } = await waiting;
        assert.equal(attempt, lastingMs ? index + 1 : 1);
        assert.ok(retryAt - begun >= ms - 2, `${retryAt - begun} of ${ms}`);
        one.retry();
      }
      one.close();
    }
  } finally {
    Math.random = random;
  }
});

test('a goodbye says when to come back, once', async () => {
  const one = connect({ backoff: { baseMs: 1, capMs: 1 } });
  await reaches(one, 'open');
  const begun = Date.now();
  links[0].say({ type: 'goodbye', code: 1001, reason: 'stopping', retry_after_ms: 30_000 });
  links[0].close(1001);
  const { retryAt } = await reaches(one, 'waiting');
  assert.ok(retryAt - begun >= 29_900 && retryAt - begun < 60_000);
  one.retry();
  await reaches(one, 'open');
  const again = reaches(one, 'waiting');
  links.at(-1).cut();
  assert.ok((await again).retryAt - Date.now() < 1_000);
});

test('a silent server is found dead', async () => {
  const one = connect({ patienceMs: 100 }, (link, { type }) => {
    // It welcomes and never says anything again.
    if (type === 'connect') link.say({ ...welcome, heartbeat_ms: 100 });
  });
  await reaches(one, 'open');
  await eventually('it was asked, and left', () => links.length > 1);
  assert.ok(links[0].heard.some(({ type }) => type === 'ping'));
});

test('whatever a server says keeps it alive', async () => {
  const one = connect({ patienceMs: 200 }, (link, { type, id }) => {
    if (type === 'connect') link.say({ ...welcome, heartbeat_ms: 50 });
    if (type === 'ping') link.say({ type: 'pong', id });
  });
  await reaches(one, 'open');
  await eventually('it was asked some times', () => links[0].heard.filter(({ type }) => type === 'ping').length > 5);
  assert.equal(links.length, 1);
  assert.equal(one.state.status, 'open');
});

test('the next connection is the same session and goes on in its channels', async () => {
  const one = connect({}, (link, command) => {
    if (command.type === 'subscribe') subscribed(link, command);
  });
  const { heard, subscription } = hear(one.channel('a'));
  await soon(subscription.ready, 'subscribed');
  links[0].say(message(1, 'one'));
  links[0].say(message(2, 'two'));
  await eventually('both are there', () => heard.length === 2);
  links[0].cut();
  await eventually('it is back', () => links[1]?.heard.length >= 2);
  const [hello, again] = links[1].heard;
  assert.equal(hello.resume, 'r1');
  assert.deepEqual([again.type, again.channel, again.since], ['subscribe', 'a', 'p2']);
  // A server that repeats what is known is not believed.
  links[1].say(message(2, 'two'));
  links[1].say(message(3, 'three'));
  await eventually('the third is there', () => heard.length === 3);
  assert.deepEqual(heard.map(([, data]) => data), ['one', 'two', 'three']);
  // After a reset offsets begin anew.
  links[1].say({ type: 'reset', channel: 'a', offset: 0, position: 'q0' });
  links[1].say(message(1, 'new'));
  await eventually('the new one is there', () => heard.length === 5);
  assert.deepEqual(heard.slice(3), [['reset'], ['message', 'new']]);
});

test('what was not answered is said again in its order, with the same keys', async () => {
  const one = connect({}, (link, command, number) => {
    if (command.type === 'publish' && number > 1) {
      link.say({ type: 'published', id: command.id, offset: Number(command.data), position: 'p' });
    }
  });
  await reaches(one, 'open');
  const published = [1, 2, 3].map((data) => one.publish('a', data));
  await eventually('they were said', () => links[0].heard.length === 4);
  links[0].cut();
  const offsets = (await soon(Promise.all(published), 'published')).map(({ offset }) => offset);
  assert.deepEqual(offsets, [1, 2, 3]);
  const said = (link) => link.heard.filter(({ type }) => type === 'publish').map(({ data, key }) => [data, key]);
  assert.deepEqual(said(links[1]), said(links[0]));
  assert.equal(new Set(said(links[0]).map(([, key]) => key)).size, 3);
});

test('what is refused for now is said again, with all behind it', async () => {
  let refusals = 4;
  const taken = [];
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    // A server refuses what stands behind something that it refused.
    if (refusals > 0 && command.data >= 2) {
      refusals--;
      link.say({ type: 'error', id: command.id, code: 'overloaded', message: 'busy', retry_after_ms: 20 });
    } else {
      taken.push(command.data);
      link.say({ type: 'published', id: command.id, offset: taken.length, position: 'p' });
    }
  });
  const published = [0, 1, 2, 3, 4, 5].map((data) => one.publish('a', data));
  await soon(Promise.all(published), 'published');
  assert.deepEqual(taken, [0, 1, 2, 3, 4, 5]);
});

test('what is refused for good is told to who asked', async () => {
  const one = connect({}, (link, command) => {
    const refuse = (code) => link.say({ type: 'error', id: command.id, code, message: 'no' });
    if (command.type === 'publish') refuse('bad_payload');
    if (command.type === 'subscribe') refuse('bad_channel');
    if (command.type === 'history') refuse('bad_position');
  });
  const room = one.channel('a');
  const { heard, subscription } = hear(room);
  await assert.rejects(subscription.ready, { code: 'bad_channel', retryable: false });
  assert.deepEqual(heard, [['error', 'bad_channel']]);
  await assert.rejects(room.publish(1), { code: 'bad_payload' });
  await assert.rejects(room.history(), { code: 'bad_position' });
  assert.equal(one.state.status, 'open');
});

test('a subscription that is refused for now is asked for again', async () => {
  let asked = 0;
  const one = connect({}, (link, command) => {
    if (command.type !== 'subscribe') return;
    if (++asked < 3) link.say({ type: 'error', id: command.id, code: 'unavailable', message: 'no', retry_after_ms: 10 });
    else subscribed(link, command);
  });
  await soon(one.channel('a').subscribe().ready, 'subscribed');
  assert.equal(asked, 3);
});

test('a message that is too large for the server does not keep the others', async () => {
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    if (command.data.length > 1_000) link.close(1009);
    else link.say({ type: 'published', id: command.id, offset: 1, position: 'p' });
  });
  await reaches(one, 'open');
  const [small, large, last] = ['x', 'x'.repeat(2_000), 'y'].map((data) => one.publish('a', data));
  await assert.rejects(soon(large, 'refused'), { code: 'message_too_big' });
  await soon(Promise.all([small, last]), 'the others are there');
});

const jwt = (exp) => `x.${Buffer.from(JSON.stringify({ exp })).toString('base64url')}.x`;

test('a token is shown, fetched for every connection, and before it expires', async () => {
  let asked = 0;
  const one = connect({ token: async () => jwt(Math.floor(Date.now() / 1_000) + (++asked < 3 ? 31 : 3_600)) });
  await eventually('a new one was shown before the old one expired', () => asked === 3 && links.length === 3);
  const shown = links.map((link) => link.heard[0].token);
  assert.equal(new Set(shown).size >= 2, true);
  await eventually('the old connections are over', () => links.filter((link) => link.isOpen()).length === 1);
  assert.equal(one.state.status, 'open');
  const plain = connect({ token: 'secret' });
  await reaches(plain, 'open');
  assert.equal(links.at(-1).heard[0].token, 'secret');
});

test('no token is the end; a token that cannot be had is tried again', async () => {
  const none = connect({ token: () => null });
  assert.equal((await reaches(none, 'closed')).reason.code, 'unauthorized');
  assert.equal(links.length, 0);

  let asked = 0;
  const later = connect({
    token: () => {
      if (++asked < 3) throw new Error('the network is away');
      return 'good';
    },
  });
  await reaches(later, 'open');
  assert.equal(asked, 3);
});

test('a token that is refused later is fetched once more, and refused again it is the end', async () => {
  let asked = 0;
  const one = connect({ token: () => `t${++asked}` });
  await reaches(one, 'open');
  const waiting = reaches(one, 'waiting');
  links[0].close(4401);
  await waiting;
  script = (link) => link.close(4401);
  assert.equal((await reaches(one, 'closed')).reason.code, 'unauthorized');
  assert.equal(asked, 2);
});

test('a thousand connections leave nothing behind', async () => {
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const timers = new Set();
  globalThis.setTimeout = (callback, ...rest) => {
    const timer = set((...all) => {
      timers.delete(timer);
      callback(...all);
    }, ...rest);
    timers.add(timer);
    return timer;
  };
  globalThis.clearTimeout = (timer) => {
    timers.delete(timer);
    clear(timer);
  };
  try {
    const one = connect({ backoff: { baseMs: 0, capMs: 0 } }, (link, command) => {
      if (command.type === 'subscribe') subscribed(link, command);
    });
    const room = one.channel('a');
    room.subscribe();
    await eventually('it is there', () => room.subscribed);
    const before = timers.size;
    for (let round = 0; round < 1_000; round++) {
      const waiting = reaches(one, 'waiting');
      one.cut();
      await waiting;
      await reaches(one, 'open');
    }
    await eventually('no timer more than before', () => timers.size <= before + 2);
    one.close();
    assert.deepEqual([...timers].filter((timer) => !timer._idleTimeout || timer._idleTimeout < 15_000).length <= 2, true);
  } finally {
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
  }
});

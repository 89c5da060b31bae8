// The client against a server that says what a script says: what it does then is written in spec/client.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Switchboard } from 'switchboard-client';
import WebSocket, { WebSocketServer } from 'ws';
import { count, eventually, hear, reaches, soon } from './support.mjs';

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
      ping: (answered) => socket.once('pong', answered).ping(),
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

test('what was refused is not overtaken, however long the way is', async () => {
  const taken = [];
  let room = 20;
  // As long as it does not know that the client knows, a server refuses what stands behind a refusal.
  let isHeld = false;
  // What is on its way to the server, and back; one each in a millisecond.
  const ways = [[], []];
  const travel = (way, what) => ways[way].push([Date.now() + 40, what]);
  const clock = setInterval(() => {
    for (const way of ways) if (way[0]?.[0] <= Date.now()) way.shift()[1]();
  }, 1);
  const refill = setInterval(() => { room = 20; }, 70);
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    travel(0, () => {
      const isTaken = !isHeld && room-- > 0;
      const asks = !isTaken && !isHeld;
      if (isTaken) taken.push(command.data);
      if (asks) isHeld = true;
      travel(1, () => {
        if (isTaken) link.say({ type: 'published', id: command.id, offset: 1, position: 'p' });
        else link.say({ type: 'error', id: command.id, code: 'rate_limited', message: 'too many', retry_after_ms: 0 });
        if (asks) link.ping(() => travel(0, () => { isHeld = false; }));
      });
    });
  });
  try {
    const published = [];
    for (const data of count(0, 300)) {
      published.push(one.publish('a', data));
      // Only what comes by and by can be on its way when a refusal comes.
      await new Promise((after) => setTimeout(after, 2));
    }
    await soon(Promise.all(published), 'published');
  } finally {
    clearInterval(clock);
    clearInterval(refill);
  }
  assert.deepEqual(taken, count(0, 300));
  assert.ok(links[0].heard.length > 310, 'some were refused');
});

test('whoever goes on publishing is not kept waiting for it', async () => {
  let isRefused = true;
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    if (isRefused) link.say({ type: 'error', id: command.id, code: 'overloaded', message: 'busy', retry_after_ms: 60 });
    else link.say({ type: 'published', id: command.id, offset: 1, position: 'p' });
  });
  const first = one.publish('a', 0);
  await eventually('it is refused', () => links[0]?.heard.length > 1);
  isRefused = false;
  const others = [];
  const stream = setInterval(() => others.push(one.publish('a', others.length)), 5);
  await soon(first, 'the first is published').finally(() => clearInterval(stream));
  await soon(Promise.all(others), 'so are the others');
});

test('after a refusal it begins with one', async () => {
  let number = 0;
  let answer;
  const released = new Promise((resolve) => { answer = resolve; });
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    if (++number <= 64) link.say({ type: 'error', id: command.id, code: 'rate_limited', message: 'busy', retry_after_ms: 5 });
    else released.then(() => link.say({ type: 'published', id: command.id, offset: 1, position: 'p' }));
  });
  const published = count(0, 64).map((data) => one.publish('a', data));
  await eventually('it says one again', () => number > 64);
  await new Promise((later) => setTimeout(later, 50));
  assert.equal(number, 65);
  answer();
  await soon(Promise.all(published), 'published');
});

test('a channel that there is no room for keeps back no other', async () => {
  const one = connect({}, (link, command) => {
    if (command.type !== 'publish') return;
    if (command.channel === 'full') link.say({ type: 'error', id: command.id, code: 'too_many_channels', message: 'full', retry_after_ms: 60_000 });
    else link.say({ type: 'published', id: command.id, offset: 1, position: 'p' });
  });
  await assert.rejects(soon(one.publish('full', 1), 'an answer'), { code: 'too_many_channels', retryable: true });
  await soon(one.publish('a', 1), 'published');
});

test('a subscription that is refused for now is asked for when it is time, whatever others do', async () => {
  const one = connect({}, (link, command) => {
    if (command.type !== 'subscribe') return;
    if (command.channel === 'full') link.say({ type: 'error', id: command.id, code: 'too_many_channels', message: 'full', retry_after_ms: 60_000 });
    else subscribed(link, command);
  });
  one.channel('full').subscribe();
  for (const number of count(0, 5)) await soon(one.channel(`a${number}`).subscribe().ready, 'subscribed');
  assert.equal(links[0].heard.filter(({ channel }) => channel === 'full').length, 1);
});

test('what comes before the answer is of the subscription before', async () => {
  const one = connect();
  const room = one.channel('a');
  const first = room.subscribe();
  await eventually('it asks', () => links[0]?.heard.length === 2);
  subscribed(links[0], links[0].heard[1]);
  await soon(first.ready, 'subscribed');
  links[0].say(message(5, 'five'));
  await eventually('it is there', () => room.position === 'p5');
  first.unsubscribe();
  const heard = [];
  room.subscribe(({ data }) => heard.push(data), { since: 'p1' });
  await eventually('it asks for more', () => links[0].heard.length === 4);
  const [unsubscribe, again] = links[0].heard.slice(2);
  assert.deepEqual([unsubscribe.type, again.type, again.since], ['unsubscribe', 'subscribe', 'p1']);
  links[0].say(message(6, 'six'));
  links[0].say({ type: 'unsubscribed', id: unsubscribe.id, channel: 'a' });
  links[0].say({ type: 'subscribed', id: again.id, channel: 'a', offset: 1, position: 'p1' });
  for (const offset of count(2, 8)) links[0].say(message(offset, offset));
  await eventually('all is there', () => heard.at(-1) === 7);
  assert.deepEqual(heard, count(2, 8));
});

test('a channel that was left before its answer goes with the connection', async () => {
  const one = connect();
  const room = one.channel('a');
  const use = room.subscribe();
  await eventually('it asks', () => links[0]?.heard.length === 2);
  subscribed(links[0], links[0].heard[1]);
  links[0].say(message(1, 'one'));
  await eventually('it is somewhere', () => room.position === 'p1');
  links[0].cut();
  await eventually('it asks again', () => links[1]?.heard.length === 2);
  use.unsubscribe();
  await new Promise((later) => setTimeout(later, 200));
  links[1].cut();
  await eventually('it is back', () => links[2]?.heard.length === 1);
  await reaches(one, 'open');
  assert.equal(room.position, undefined);
  // Much later somebody begins, from then on.
  room.subscribe();
  await eventually('it asks anew', () => links[2].heard.length === 2);
  assert.equal(links[2].heard[1].since, undefined);
});

test('who begins elsewhere hears nothing before that, however long it takes', async () => {
  const one = connect({}, (link, command) => {
    if (command.channel === 'b') link.say({ type: 'error', id: command.id, code: 'rate_limited', message: 'no', retry_after_ms: 10 });
  });
  await reaches(one, 'open');
  const room = one.channel('a');
  room.subscribe().unsubscribe();
  const heard = [];
  room.subscribe(({ data }) => heard.push(data), { since: 'p2' });
  one.channel('b').subscribe();
  const asked = () => links[0].heard.filter(({ type, channel }) => type === 'subscribe' && channel === 'a');
  await eventually('both are asked for', () => links[0].heard.length >= 3);
  // Of the first use, while none may be asked for.
  links[0].say({ type: 'subscribed', id: asked()[0].id, channel: 'a', offset: 9, position: 'p9' });
  links[0].say(message(10, 'ten'));
  await eventually('it is asked for where it begins', () => asked().length === 2);
  assert.equal(asked()[1].since, 'p2');
  links[0].say({ type: 'subscribed', id: asked()[1].id, channel: 'a', offset: 2, position: 'p2' });
  for (const offset of count(3, 11)) links[0].say(message(offset, offset));
  await eventually('all is there', () => heard.at(-1) === 10);
  assert.deepEqual(heard, count(3, 11));
});

test('a message is what it was when it was published', async () => {
  const one = connect({}, (link, command) => {
    if (command.type === 'publish') link.say({ type: 'published', id: command.id, offset: 1, position: 'p' });
  });
  const score = { points: 1, team: { name: 'red' } };
  const published = [];
  for (const points of [1, 2, 3]) {
    score.points = score.team.points = points;
    published.push(one.publish('a', score));
  }
  score.team.name = 'blue';
  await soon(Promise.all(published), 'published');
  const said = links[0].heard.filter(({ type }) => type === 'publish').map(({ data }) => data);
  assert.deepEqual(said, [1, 2, 3].map((points) => ({ points, team: { name: 'red', points } })));
});

test('a loop that is too slow gets what was before the hole, and an error', async () => {
  const one = connect({}, (link, command) => {
    if (command.type === 'subscribe') subscribed(link, command);
  });
  const seen = [];
  const loop = one.channel('a')[Symbol.asyncIterator]();
  const first = loop.next();
  await eventually('it is subscribed', () => one.channel('a').subscribed);
  links[0].say(message(1, 1));
  seen.push((await soon(first, 'the first')).value.data);
  for (let offset = 2; offset <= 1_200; offset++) links[0].say(message(offset, offset));
  let last = 0;
  one.channel('a').on('message', ({ offset }) => { last = offset; });
  await eventually('it has fallen behind', () => last >= 1_199);
  await assert.rejects(async () => {
    for (;;) {
      const { value } = await loop.next();
      seen.push(value.data);
      // What comes while there is room again stands behind the hole.
      if (value.data === 100) links[0].say(message(1_201, 1_201));
      await new Promise(setImmediate);
    }
  }, { code: 'iteration_full' });
  assert.deepEqual(seen, count(1, seen.length + 1));
  assert.equal(seen.length, 1_025);
  assert.deepEqual(await loop.next(), { done: true, value: undefined });
});

test('a loop that waits can be ended', async () => {
  const one = connect({}, (link, command) => {
    if (command.type === 'subscribe') subscribed(link, command);
  });
  const room = one.channel('a');
  const loop = room[Symbol.asyncIterator]();
  const waiting = [loop.next(), loop.next()];
  await eventually('it is subscribed', () => room.subscribed);
  await soon(loop.return(), 'it ends');
  assert.deepEqual(await soon(Promise.all(waiting), 'whoever waited is told'), Array(2).fill({ done: true, value: undefined }));
  await eventually('it has left', () => !room.subscribed);
});

test('a listener that another one ended hears nothing more', async () => {
  const one = connect({}, (link, command) => {
    if (command.type === 'subscribe') subscribed(link, command);
  });
  const room = one.channel('a');
  const heard = [];
  let second;
  room.subscribe(() => {
    heard.push('first');
    second.unsubscribe();
  });
  second = room.subscribe(() => heard.push('second'));
  await eventually('it is subscribed', () => room.subscribed);
  links[0].say(message(1, 1));
  await eventually('it came', () => heard.length > 0);
  links[0].say(message(2, 2));
  await eventually('the other one, too', () => heard.length > 1);
  assert.deepEqual(heard, ['first', 'first']);
});

test('what is closed stays closed until it is told to connect', async () => {
  const one = connect();
  await reaches(one, 'open');
  one.close();
  const room = one.channel('a');
  const subscription = room.subscribe();
  await assert.rejects(subscription.ready, { code: 'closed' });
  one.retry();
  await assert.rejects(one.publish('a', 1), { code: 'closed' });
  await assert.rejects(room[Symbol.asyncIterator]().next(), { code: 'closed' });
  assert.equal(one.state.status, 'closed');
  assert.equal(links.length, 1);
  one.connect();
  await eventually('it asks for what it uses', () => links[1]?.heard.some(({ channel }) => channel === 'a'));
});

test('ready is of the subscription that there is', async () => {
  let answers = true;
  const one = connect({}, (link, command) => {
    if (command.type === 'subscribe' && answers) subscribed(link, command);
  });
  const room = one.channel('a');
  await soon(room.subscribe().ready, 'subscribed');
  answers = false;
  const waiting = reaches(one, 'waiting');
  links[0].cut();
  await waiting;
  let isReady = false;
  const { ready } = room.subscribe();
  ready.then(() => { isReady = true; }, () => {});
  await eventually('it asks', () => links[1]?.heard.length === 2);
  assert.equal(isReady, false);
  subscribed(links[1], links[1].heard[1]);
  await soon(ready, 'subscribed again');
});

test('a channel that nobody has any more is forgotten', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const one = connect({}, (link, command) => {
    if (command.type !== 'subscribe') return;
    if (!command.channel.startsWith('refused')) subscribed(link, command);
    else link.say({ type: 'error', id: command.id, code: 'bad_channel', message: 'no' });
  });
  await reaches(one, 'open');
  const use = async (number) => {
    const room = one.channel(`room:${number}`);
    const { ready, unsubscribe } = room.subscribe(() => {});
    const off = room.on('gap', () => {});
    await ready;
    unsubscribe();
    if (number % 2) await eventually('it has left', () => !room.subscribed);
    off();
    return new WeakRef(room);
  };
  const refused = async (number) => {
    const room = one.channel(`refused:${number}`);
    await assert.rejects(room.subscribe(() => {}).ready);
    return new WeakRef(room);
  };
  const listened = (number) => {
    const room = one.channel(`listened:${number}`);
    room.on('message', () => {})();
    return new WeakRef(room);
  };
  const rooms = [
    ...await Promise.all([...count(0, 20).map(use), ...count(0, 20).map(refused)]),
    ...count(0, 20).map(listened),
  ];
  await eventually('none of them is kept', () => {
    gc();
    return rooms.every((room) => !room.deref());
  });
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
  const one = connect({ token: async () => jwt(Math.floor(Date.now() / 1_000) + (++asked < 2 ? 3 : 3_600)) });
  await eventually('a new one was shown before the old one expired', () => asked === 2 && links[1]?.heard.length > 0);
  const shown = links.map((link) => link.heard[0].token);
  assert.equal(new Set(shown).size, 2);
  await eventually('the old connections are over', () => links.filter((link) => link.isOpen()).length === 1);
  assert.equal(one.state.status, 'open');
  const plain = connect({ token: 'secret' });
  await reaches(plain, 'open');
  assert.equal(links.at(-1).heard[0].token, 'secret');
});

test('what a token says of its end is believed within reason', async () => {
  for (const exp of [Math.floor(Date.now() / 1_000) - 60, 'soon', null, {}]) {
    let asked = 0;
    const one = connect({
      token: () => {
        asked++;
        return jwt(exp);
      },
    });
    await reaches(one, 'open');
    await new Promise((later) => setTimeout(later, 1_300));
    assert.equal(asked, 1, String(exp));
    one.close();
  }
});

test('a better way is tried again although its token could not be had once', async () => {
  let asked = 0;
  let isThere = false;
  const server = createServer((request, answer) => {
    const hello = { position: 'p0', events: [welcome] };
    answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(hello));
  });
  server.on('upgrade', (_, socket) => {
    isThere = true;
    socket.destroy();
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const url = `http://127.0.0.1:${server.address().port}`;
  const one = new Switchboard(url, {
    WebSocket,
    transports: ['websocket', 'poll'],
    upgradeAfterMs: 50,
    token: () => {
      if (++asked === 3) throw new Error('the network is away');
      return 'good';
    },
  });
  clients.push(one);
  one.channel('a').subscribe();
  await eventually('it polls', () => one.state.transport === 'poll' && one.isOpen);
  await eventually('the token was not to be had', () => asked === 3);
  isThere = false;
  await eventually('it tries again', () => isThere);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('by HTTP nothing overtakes a publication that is refused for now', async () => {
  const heard = [];
  const server = createServer(async (question, answer) => {
    if (!question.url.startsWith('/publish')) {
      if (question.url.includes('wait=0')) answer.end(JSON.stringify({ position: 'p0', events: [welcome] }));
      return;
    }
    let body = '';
    for await (const part of question) body += part;
    heard.push(JSON.parse(body).data);
    const isRefused = heard.length === 2;
    const said = isRefused
      ? { type: 'error', code: 'overloaded', message: 'later', retry_after_ms: 20 }
      : { type: 'published', offset: heard.length, position: `p${heard.length}` };
    answer.writeHead(isRefused ? 503 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(said));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, { transports: ['poll'] });
  clients.push(one);
  one.channel('a').subscribe();
  await Promise.all([1, 2, 3, 4].map((number) => one.publish('a', number)));
  assert.deepEqual(heard, [1, 2, 2, 3, 4]);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('what a poll is told behind a message is no hole where it goes on', async () => {
  const gap = { type: 'gap', channel: 'a', from: 2, to: 3, position: 'p3' };
  const message = { type: 'message', channel: 'a', offset: 1, position: 'p1', data: 1 };
  const list = { type: 'presence', channel: 'a', count: 0, users: 0, members: [] };
  for (const [events, expected] of [
    [[message, gap], true],
    [[{ ...gap, conflated: true }, message], true],
    [[list, gap], true],
    [[gap, message], false],
    [[], true],
  ]) {
    let polls = 0;
    const server = createServer((_, answer) => {
      if (++polls > 1) return;
      answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ position: 'p3', events }));
    });
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
    const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, { transports: ['poll'] });
    clients.push(one);
    const { recovered } = await one.channel('a').subscribe({ since: 'p0' }).ready;
    assert.equal(recovered, expected, JSON.stringify(events));
    one.close();
    server.closeAllConnections();
    server.close();
  }
});

test('an event stream is read by its lines, whatever else breaks a line of text', async () => {
  const events = [
    welcome,
    { type: 'subscribed', channel: 'a', position: 'p0' },
    { type: 'message', channel: 'a', offset: 1, position: 'p1', data: 'one\u2028data:two\u2029three' },
  ];
  const server = createServer((_, answer) => {
    answer.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const event of events) answer.write(`event: x\r\ndata: ${JSON.stringify(event)}\r\n\r\n`);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, { transports: ['sse'] });
  clients.push(one);
  const heard = [];
  one.channel('a').subscribe(({ data }) => heard.push(data));
  await eventually('it hears', () => heard.length === 1);
  assert.deepEqual(heard, ['one\u2028data:two\u2029three']);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('who is there also says that a channel goes on, where a poll has more of others', async () => {
  let polls = 0;
  const list = { type: 'presence', channel: 'a', count: 0, users: 0, members: [] };
  const server = createServer((_, answer) => {
    if (++polls > 1) return;
    const said = { position: 'p3', more: true, events: [list] };
    answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(said));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, { transports: ['poll'] });
  clients.push(one);
  const told = [];
  const a = one.channel('a');
  a.on('presence', ({ count }) => told.push(count));
  const { recovered } = await a.subscribe({ since: 'p0', presence: 'watch' }).ready;
  assert.equal(recovered, true);
  await eventually('it is told', () => told.length === 1);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('a poll that comes too early is asked again, at once where it is not to wait, and soon where nothing is said of that', async () => {
  let polls = 0;
  const early = { 2: { retry_after_ms: 0 }, 3: {} };
  const asked = [];
  const server = createServer((_, answer) => {
    polls++;
    asked.push(Date.now());
    const isEarly = polls in early;
    const said = isEarly
      ? { type: 'error', code: 'rate_limited', message: 'too many', ...early[polls] }
      : { position: 'p0', events: polls === 1 ? [welcome] : [] };
    if (polls < 5) answer.writeHead(isEarly ? 429 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(said));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, { transports: ['poll'] });
  clients.push(one);
  const states = [];
  one.on('state', ({ status }) => states.push(status));
  one.channel('a').subscribe();
  await eventually('it polls on', () => polls === 5);
  assert.ok(asked[3] - asked[2] > 900, 'not a storm');
  assert.deepEqual(states, ['open']);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('an answer to a poll may take long as long as it comes, and is given up when it does not', async () => {
  const patienceMs = 1_500;
  const message = { type: 'message', channel: 'a', offset: 1, position: 'p1', data: 'x'.repeat(2_000) };
  const events = [welcome, { type: 'subscribed', channel: 'a', position: 'p0' }, message];
  const said = JSON.stringify({ position: 'p1', events });
  let polls = 0;
  const server = createServer(async (_, answer) => {
    polls++;
    if (polls > 2) return;
    answer.writeHead(200, { 'content-type': 'application/json' });
    // The first one stands still in the middle.
    const pieces = polls === 1 ? 3 : 10;
    for (let piece = 0; piece < pieces; piece++) {
      answer.write(said.slice((said.length / 10) * piece, (said.length / 10) * (piece + 1)));
      await new Promise((resolve) => setTimeout(resolve, (patienceMs * 2) / 10));
    }
    if (polls === 2) answer.end();
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const options = { transports: ['poll'], patienceMs, backoff: { baseMs: 1, capMs: 1 } };
  const one = new Switchboard(`http://127.0.0.1:${server.address().port}`, options);
  clients.push(one);
  const states = [];
  one.on('state', ({ status }) => states.push(status));
  const heard = [];
  one.channel('a').subscribe(({ data }) => heard.push(data.length));
  await eventually('it hears', () => heard.length === 1);
  assert.equal(states.filter((status) => status === 'connecting').length, 1, states.join());
  assert.deepEqual(heard, [2_000]);
  one.close();
  server.closeAllConnections();
  server.close();
});

test('a server that cannot read who this is ends it, with its words', async () => {
  const one = new Switchboard(origin, { WebSocket, transports: ['websocket'], token: 'x' });
  clients.push(one);
  script = (link) => link.say({ type: 'error', code: 'bad_request', message: 'a token has at most 8 KiB' });
  const { reason } = await reaches(one, 'closed');
  assert.deepEqual([reason.code, reason.message], ['bad_request', 'a token has at most 8 KiB']);
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

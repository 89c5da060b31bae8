// The playground against a scripted server: what a real server does rarely, on demand. The page's
// files are served from the tree with the policy they must live under; time is the test's own.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Browser } from './browser.mjs';

const ASSETS = join(import.meta.dirname, '../../crates/server/assets');
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; connect-src 'self' ws: wss:";
const ORIGIN = 'http://127.0.0.1:9';

let browser;
before(async () => { browser = await Browser.start(); });
after(async () => { await browser?.close(); });

/**
 * The server's side of the script. Answers every command from `replies[type]`, or as a small server
 * with an empty log would; `sent` holds what the page has sent, `say` sends to the page.
 */
class Script {
  sent = [];
  connections = 0;
  #waiting = [];
  #socket;

  constructor(replies = {}) {
    this.replies = replies;
  }

  accept(socket) {
    this.#socket = socket;
    this.connections += 1;
    socket.onMessage((text) => {
      const command = JSON.parse(text);
      this.sent.push(command);
      this.#waiting = this.#waiting.filter((look) => !look());
      const reply = (this.replies[command.type] ?? DEFAULTS[command.type])(command, this);
      if (reply) this.say({ id: command.id, ...reply });
    });
  }

  say(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  message(offset, data, more = {}) {
    this.say({ type: 'message', channel: 'room:lobby', ...entry(offset, data), ...more });
  }

  close(code, reason) {
    return this.#socket.close({ code, reason });
  }

  /** The `number`th command of this type, once it has come. */
  command(type, number = 1) {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.sent.filter((command) => command.type === type)[number - 1];
        if (found) resolve(found);
        return found !== undefined;
      };
      if (!look()) this.#waiting.push(look);
    });
  }
}

const entry = (offset, data) => ({ offset, position: `p${offset}`, data, from: 'guest-far', at: Date.now() });
const DEFAULTS = {
  connect: () => ({ type: 'welcome', session: 's_1', user: 'guest-near', heartbeat_ms: 25_000 }),
  subscribe: ({ channel, since }) => ({ type: 'subscribed', channel, offset: 0, position: since ?? 'p0', ...(since && { recovered: true }) }),
  unsubscribe: ({ channel }) => ({ type: 'unsubscribed', channel }),
  history: ({ channel }) => ({ type: 'history', channel, messages: [], position: 'p0', more: false }),
  ping: () => ({ type: 'pong' }),
  publish: () => null,
};

async function visitWith(script) {
  const visit = await browser.visit();
  await visit.context.route(`${ORIGIN}/**`, async (route) => {
    const { pathname } = new URL(route.request().url());
    const name = pathname === '/' ? 'index.html' : pathname.replace('/assets/', '');
    const headers = { 'content-type': `${TYPES[extname(name)]}; charset=utf-8`, 'content-security-policy': POLICY };
    await route.fulfill({ headers, body: await readFile(join(ASSETS, name)) });
  });
  await visit.context.routeWebSocket('**/ws', (socket) => script.accept(socket));
  await visit.context.clock.install();
  await visit.context.addInitScript(() => { Math.random = () => 0.5; });
  return { visit, tab: await visit.open(`${ORIGIN}/?name=Ada`) };
}

test('it reads the newest messages and subscribes behind them', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  const said = script.sent.slice(0, 3).map(({ id, ...command }) => command);
  assert.deepEqual(said, [
    { type: 'connect' },
    { type: 'history', channel: 'room:lobby', limit: 50 },
    { type: 'subscribe', channel: 'room:lobby', since: 'p0', presence: true, info: { name: 'Ada' } },
  ]);
  await visit.end();
});

test('what is said while it joins comes behind what was there, each once', async () => {
  const script = new Script({
    history: ({ channel }) => ({ type: 'history', channel, messages: [entry(1, 'one'), entry(2, 'two')], position: 'p2', more: false }),
    subscribe: ({ channel, since, id }, server) => {
      server.say({ type: 'subscribed', id, channel, offset: 2, position: since, recovered: true });
      server.message(2, 'two');
      server.message(3, 'three');
    },
  });
  const { visit, tab } = await visitWith(script);
  await tab.hears('three');
  assert.deepEqual(await tab.transcript(), ['one', 'two', 'three']);
  await visit.end();
});

/** Answers the next `subscribe` as a server does whose log has this. */
const replay = (recovered, ...frames) => ({ channel, since, id }, server) => {
  server.say({ type: 'subscribed', id, channel, offset: 0, position: since, recovered });
  for (const frame of frames) server.say({ channel, ...frame });
};

const message = (offset, data) => ({ type: 'message', ...entry(offset, data) });

test('after a broken line it goes on where it was', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(7, 'seven');
  await tab.hears('seven');
  script.replies.subscribe = replay(true, message(8, 'eight'), message(9, 'nine'), message(10, 'ten'));
  await script.close(1012, 'restarting');
  assert.equal((await script.command('subscribe', 2)).since, 'p7');
  assert.equal(await tab.divider('caught-up'), 'caught up 3 messages');
  assert.deepEqual(await tab.transcript(), ['seven', '(the line closed: 1012 · the server restarts · “restarting”)', 'eight', 'nine', 'ten', '(caught up 3 messages)']);
  await visit.end();
});

test('a log that no longer reaches back tells which messages are missing', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(11, 'eleven');
  await tab.hears('eleven');
  script.replies.subscribe = replay(false, { type: 'gap', from: 12, to: 15, position: 'p15' }, message(16, 'sixteen'));
  await script.close(1006);
  assert.match(await tab.divider('gap'), /^messages 12 to 15 are missing/);
  await tab.hears('sixteen');
  await visit.end();
});

test('a reset lets offsets start anew', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(40, 'of the old log');
  await tab.hears('of the old log');
  script.replies.subscribe = replay(false, { type: 'reset', offset: 0, position: 'q0' }, message(1, 'of the new log'));
  await script.close(1001, 'stopping');
  assert.match(await tab.divider('reset'), /positions start anew/);
  await tab.hears('of the new log');
  script.message(2, 'and on');
  await tab.hears('and on');
  await visit.end();
});

test('a live gap is told', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.say({ type: 'gap', channel: 'room:lobby', from: 2, to: 2, position: 'p2' });
  assert.match(await tab.divider('gap'), /^message 2 is missing/);
  script.message(3, 'three');
  await tab.hears('three');
  await visit.end();
});

test('it waits as long as a goodbye asks', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.page.clock.pauseAt(Date.now() + 1_000);
  script.say({ type: 'goodbye', code: 1001, reason: 'stopping', retry_after_ms: 30_000 });
  await tab.atStep('closing');
  assert.match(await tab.at('close-words').innerText(), /^1001 · .*“stopping”/);
  await script.close(1001, 'stopping');
  await tab.atStep('closed');
  assert.match(await tab.at('countdown').innerText(), /attempt 1 in (30\.0|29\.9) s/);
  await tab.page.clock.runFor(29_000);
  assert.equal(script.connections, 1);
  await tab.page.clock.runFor(1_100);
  await script.command('connect', 2);
  await visit.end();
});

test('a refused message says why and can be sent again under the same key', async () => {
  const script = new Script({ publish: () => ({ type: 'error', code: 'forbidden', message: 'you may not publish here' }) });
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.say('let me speak');
  await tab.at('pending').filter({ hasText: 'You may not publish here (forbidden)' }).waitFor();
  script.replies.publish = ({ data }, server) => {
    server.message(1, data, { from: 'guest-near' });
    return { type: 'published', offset: 1, position: 'p1' };
  };
  await tab.page.getByRole('button', { name: 'Send again' }).click();
  await tab.hears('let me speak');
  const [first, second] = script.sent.filter(({ type }) => type === 'publish');
  assert.equal(first.key, second.key);
  assert.equal(await tab.at('pending').count(), 0);
  assert.equal(await tab.said('let me speak').getAttribute('data-own'), 'true');
  await visit.end();
});

test('a message whose line broke before the answer is sent again under the same key', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.say('once only');
  const first = await script.command('publish');
  script.replies.publish = ({ data }, server) => {
    server.message(1, data, { from: 'guest-near' });
    return { type: 'published', offset: 1, position: 'p1' };
  };
  await script.close(1012, 'restarting');
  assert.equal((await script.command('publish', 2)).key, first.key);
  await tab.hears('once only');
  assert.equal(await tab.at('pending').count(), 0);
  await visit.end();
});

test('a rate limit is waited out', async () => {
  const script = new Script({ publish: () => ({ type: 'error', code: 'rate_limited', message: 'too fast', retry_after_ms: 400 }) });
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.page.clock.pauseAt(Date.now() + 1_000);
  await tab.say('patience');
  await script.command('publish');
  await tab.at('pending').filter({ hasText: 'on its way' }).waitFor();
  await tab.page.clock.runFor(390);
  assert.equal(script.sent.filter(({ type }) => type === 'publish').length, 1);
  await tab.page.clock.runFor(20);
  await script.command('publish', 2);
  await visit.end();
});

test('a room that the server refuses says why', async () => {
  const script = new Script({ subscribe: () => ({ type: 'error', code: 'channel_invalid', message: 'the name has too many segments' }) });
  const { visit, tab } = await visitWith(script);
  await tab.at('empty').filter({ hasText: 'The name has too many segments (channel_invalid)' }).waitFor();
  assert.equal(await tab.at('room-phase').innerText(), 'not joined');
  await visit.end();
});

test('a name that cannot be a room is refused before the server hears of it', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  for (const [name, words] of [
    ['', 'A room needs a name.'],
    ['two words', 'no blanks'],
    ['a::b', 'both sides of each colon'],
    ['room:*', 'reserved'],
    ['ä'.repeat(126), '255 bytes; this one has 257'],
  ]) {
    await tab.at('room-name').fill(name);
    await tab.at('join').click();
    await tab.page.locator('#room-fault').filter({ hasText: words }).waitFor();
  }
  assert.equal(await tab.at('room-title').innerText(), 'room:lobby');
  assert.equal(script.sent.filter(({ type }) => type === 'subscribe').length, 1);
  await visit.end();
});

test('a handler that throws costs neither the line nor the other handlers', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  visit.excuse(/a handler of "frame" threw: .*planted/);
  await tab.joined();
  await tab.page.evaluate(() => globalThis.switchboard.on('frame', () => { throw new Error('planted'); }));
  script.message(1, 'one');
  script.message(2, 'two');
  await tab.hears('two');
  await tab.atStep('open');
  await visit.end();
});

test('frames that mean nothing are shown and do no harm', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  for (const frame of [null, [], 7, 'text', {}, { type: 'novelty' }, { type: 'message' }, { type: 'message', channel: 'room:lobby' }]) script.say(frame);
  script.message(1, '<img src=x onerror=alert(1)>');
  script.message(2, { name: '', text: 'nameless' });
  script.message(3, null);
  script.message(4, undefined, { data_base64: '***' });
  script.message(5, 'the end', { from: undefined, at: undefined });
  await tab.hears('the end');
  assert.deepEqual((await tab.transcript()).map((row) => row.split('\n').at(-1)), ['<img src=x onerror=alert(1)>', 'nameless', 'null', 'nothing', 'the end']);
  await tab.frames('in', 'unknown').nth(1).waitFor();
  await visit.end();
});

test('the conversation and the frames are bounded', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  for (let offset = 1; offset <= 700; offset += 1) script.message(offset, `message ${offset}`);
  await tab.hears('message 700');
  assert.equal(await tab.page.locator('[data-testid=rows] > li').count(), 500);
  await tab.frames('in', 'message').filter({ hasText: 'message 700' }).waitFor();
  assert.ok(await tab.at('frame').count() <= 500);
  await visit.end();
});

test('a paused inspector stands still and loses nothing', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.at('frame-filter').fill('room:lobby');
  const before = await tab.at('frame').count();
  await tab.at('pause').click();
  script.message(1, 'unseen');
  await tab.hears('unseen');
  assert.equal(await tab.at('frame').count(), before);
  await tab.at('pause').click();
  await tab.frames('in', 'message').filter({ hasText: 'unseen' }).waitFor();
  await visit.end();
});

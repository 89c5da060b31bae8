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
  subscribe: ({ channel }) => ({ type: 'subscribed', channel, offset: 0, position: 'p0' }),
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

test('it dials, subscribes and asks for the newest messages', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  assert.deepEqual(script.sent.slice(0, 3), [
    { type: 'connect', id: 1 },
    { type: 'subscribe', id: 2, channel: 'room:lobby', presence: true, info: { name: 'Ada' } },
    { type: 'history', id: 3, channel: 'room:lobby', limit: 50 },
  ]);
  await visit.end();
});

test('live messages that arrive while history is read come after it, each once', async () => {
  const script = new Script({
    history: ({ channel }, server) => {
      server.message(3, 'three, live');
      server.message(4, 'four, live');
      return { type: 'history', channel, messages: [entry(1, 'one'), entry(2, 'two'), entry(3, 'three, live')], position: 'p3', more: false };
    },
  });
  const { visit, tab } = await visitWith(script);
  await tab.hears('four, live');
  assert.deepEqual(await tab.transcript(), ['one', 'two', 'three, live', 'four, live']);
  await visit.end();
});

test('after a broken line it reads on from its last position, page by page', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(7, 'seven');
  await tab.hears('seven');
  const pages = {
    p7: { messages: [entry(8, 'eight'), entry(9, 'nine')], position: 'p9', more: true },
    p9: { messages: [entry(10, 'ten')], position: 'p10', more: false },
  };
  script.replies.history = ({ channel, since }) => ({ type: 'history', channel, ...pages[since] });
  await script.close(1012, 'restarting');
  await script.command('subscribe', 2);
  assert.equal(await tab.divider('caught-up'), 'caught up 3 messages');
  assert.deepEqual(await tab.transcript(), ['seven', '(the line closed: 1012 · the server restarts · “restarting”)', 'eight', 'nine', 'ten', '(caught up 3 messages)']);
  assert.deepEqual(script.sent.filter(({ since }) => since).map(({ since }) => since), ['p7', 'p9']);
  await visit.end();
});

test('a history that no longer reaches back tells which messages are missing', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(11, 'eleven');
  await tab.hears('eleven');
  script.replies.history = ({ channel }) =>
    ({ type: 'history', channel, gap: { from: 12, to: 15 }, messages: [entry(16, 'sixteen')], position: 'p16', more: false });
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
  script.replies.history = ({ channel }) =>
    ({ type: 'history', channel, reset: true, messages: [entry(1, 'of the new log')], position: 'p1', more: false });
  await script.close(1001, 'stopping');
  assert.match(await tab.divider('reset'), /positions start anew/);
  await tab.hears('of the new log');
  script.message(2, 'and on');
  await tab.hears('and on');
  await visit.end();
});

test('a live gap is mended from the log where the log still holds it', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.message(1, 'one');
  await tab.hears('one');
  script.replies.history = ({ channel, since }, server) => {
    assert.equal(since, 'p1');
    server.message(5, 'five');
    return { type: 'history', channel, messages: [entry(2, 'two'), entry(3, 'three'), entry(4, 'four')], position: 'p4', more: false };
  };
  script.say({ type: 'gap', channel: 'room:lobby', from: 2, to: 4, position: 'p4' });
  await tab.hears('five');
  assert.deepEqual(await tab.transcript(), ['one', 'two', 'three', 'four', 'five']);
  await visit.end();
});

test('a live gap that the log does not hold is told', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  script.replies.history = ({ channel }) => ({ type: 'error', code: 'no_history', message: `${channel} keeps none` });
  script.say({ type: 'gap', channel: 'room:lobby', from: 2, to: 2, position: 'p2' });
  assert.match(await tab.divider('gap'), /^message 2 is missing/);
  script.message(3, 'three');
  await tab.hears('three');
  await visit.end();
});

test('it waits as long as a goodbye asks, and its jitter on top', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.page.clock.pauseAt(Date.now() + 1_000);
  script.say({ type: 'goodbye', code: 1001, reason: 'stopping', retry_after_ms: 90_000 });
  await tab.atStep('closing');
  assert.match(await tab.at('close-words').innerText(), /^1001 · .*“stopping”/);
  await script.close(1001, 'stopping');
  await tab.atStep('closed');
  // 90 s by the server's advice, and half of the first ceiling of 0.5 s, for the dice always show a half.
  assert.match(await tab.at('countdown').innerText(), /attempt 1 in 90\.[23] s/);
  await tab.page.clock.runFor(90_000);
  assert.equal(script.connections, 1);
  await tab.page.clock.runFor(300);
  await script.command('connect', 2);
  await visit.end();
});

test('each attempt in vain doubles the ceiling of the wait, up to 30 s', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.page.clock.pauseAt(Date.now() + 1_000);
  script.replies.connect = (command, server) => { server.close(1013, 'not now'); };
  await tab.page.evaluate(() => {
    globalThis.waits = [];
    switchboard.on('status', ({ retry }) => { if (retry) waits.push(retry.delayMs); });
  });
  await script.close(1013, 'not now');
  const waits = [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000];
  for (const [attempt, wait] of waits.entries()) {
    await tab.page.waitForFunction((number) => waits.length === number, attempt + 1);
    await tab.page.clock.runFor(wait + 10);
  }
  assert.deepEqual((await tab.page.evaluate(() => waits)).slice(0, waits.length), waits);
  await visit.end();
});

test('two pings without an answer end the line', async () => {
  const script = new Script();
  const { visit, tab } = await visitWith(script);
  await tab.joined();
  await tab.frames('in', 'pong').first().waitFor();
  await tab.page.clock.pauseAt(Date.now() + 1_000);
  script.replies.ping = () => null;
  await tab.page.clock.runFor(9_000);
  await tab.atStep('open');
  await tab.page.clock.runFor(9_000);
  await tab.frames('line', 'closing').filter({ hasText: 'no answer to a ping' }).waitFor();
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
  await tab.at('pending').filter({ hasText: 'the server asks for a moment' }).waitFor();
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
  visit.excuse(/a handler of "message" threw: .*planted/);
  await tab.joined();
  await tab.page.evaluate(() => globalThis.switchboard.on('message', () => { throw new Error('planted'); }));
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
  assert.deepEqual((await tab.transcript()).map((row) => row.split('\n').at(-1)), ['<img src=x onerror=alert(1)>', 'nameless', 'null', '***', 'the end']);
  await tab.frames('in', 'unknown').nth(4).waitFor();
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

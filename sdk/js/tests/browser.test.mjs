// The client in a real browser.

import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { createServer as createVite } from 'vite';
import { Browser } from '../../../conformance/browser/browser.mjs';
import { Middlebox } from './middlebox.mjs';
import { client, count, eventually, Server, soon } from './support.mjs';

const HERE = import.meta.dirname;

let server;
let backend;
let browser;
let pages;
let origin;

before(async () => {
  server = await Server.start();
  backend = client(server, 'websocket');
  browser = await Browser.start();
  const { outputFiles } = await build({
    entryPoints: [join(HERE, 'page/page.jsx')],
    bundle: true,
    write: false,
    format: 'esm',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  const script = outputFiles[0].text;
  pages = createServer((request, answer) => {
    if (request.url === '/page.js') answer.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
    else if (request.url === '/') {
      answer.writeHead(200, { 'content-type': 'text/html' });
      answer.end('<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/page.js"></script>');
    } else answer.writeHead(404).end();
  });
  await new Promise((listening) => pages.listen(0, '127.0.0.1', listening));
  origin = `http://127.0.0.1:${pages.address().port}`;
});

after(async () => {
  pages?.close();
  await browser?.close();
  backend?.close();
  await server?.remove();
});

/** A page of another origin than the server's, with a console that may complain of lost connections. */
async function open() {
  const visit = await browser.visit();
  visit.excuse(/WebSocket connection|ERR_|Failed to load resource|EventSource|CORS/);
  const { page } = await visit.open(origin);
  await page.waitForFunction(() => globalThis.listen);
  return { visit, page };
}

const heard = (page) => page.evaluate(() => heard);
const hears = (page, expected) =>
  eventually(`the page hears ${expected.length}`, async () => (await heard(page)).length >= expected.length)
    .then(async () => assert.deepEqual(await heard(page), expected));
const isOpen = (page) => page.waitForFunction(() => client.state.status === 'open' && room.subscribed);

test('offline it waits, online it is back at once, with everything', async () => {
  const box = await Middlebox.start(server.origin);
  const { visit, page } = await open();
  // Nobody would wait that long for the next attempt.
  const patient = { backoff: { baseMs: 600_000, capMs: 600_000 }, transports: ['websocket'] };
  await page.evaluate(([url, patient]) => listen(url, 'offline', patient), [box.origin, patient]);
  await isOpen(page);
  await backend.publish('offline', 1);
  await hears(page, [1]);
  await visit.context.setOffline(true);
  box.cut();
  await page.waitForFunction(() => client.state.status === 'waiting');
  await backend.publish('offline', 2);
  await page.evaluate(() => { globalThis.published = client.publish('offline', 3); });
  await visit.context.setOffline(false);
  await page.evaluate(() => published);
  await hears(page, [1, 2, 3]);
  await visit.end();
  await box.stop();
});

test('a server that is killed during a chat: no message missing, none doubled', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'switchboard-data-'));
  const own = await Server.start({ SWITCHBOARD_DATA__DIR: directory });
  const chats = await Promise.all([open(), open()]);
  for (const { page } of chats) {
    await page.evaluate((url) => listen(url, 'chat', { backoff: { baseMs: 50, capMs: 200 } }), own.origin);
    await isOpen(page);
  }
  const talk = chats.map(({ page }, who) => page.evaluate(async (who) => {
    for (let number = 0; number < 60; number++) {
      void client.publish('chat', `${who}:${number}`);
      await new Promise((next) => setTimeout(next, 20));
    }
    await client.drained();
  }, who));
  for (let round = 0; round < 2; round++) {
    await new Promise((later) => setTimeout(later, 300));
    await own.kill();
    await own.start();
  }
  await soon(Promise.all(talk), 'everything is said');
  const all = await Promise.all(chats.map(async ({ page }) => {
    await eventually('everything is heard', async () => (await heard(page)).length >= 120);
    return heard(page);
  }));
  assert.deepEqual(all[0], all[1], 'both hear the same, in one order');
  for (const who of [0, 1]) {
    const own = all[0].filter((words) => words.startsWith(`${who}:`));
    assert.deepEqual(own, count(0, 60).map((number) => `${who}:${number}`));
  }
  for (const { visit } of chats) await visit.end();
  await own.remove();
  await rm(directory, { recursive: true });
});

test('a page that was frozen wakes up and has everything', async () => {
  const box = await Middlebox.start(server.origin);
  const { visit, page } = await open();
  await page.evaluate((url) => listen(url, 'frozen', { backoff: { baseMs: 600_000, capMs: 600_000 } }), box.origin);
  await isOpen(page);
  const devtools = await visit.context.newCDPSession(page);
  for (const isCut of [false, true]) {
    const from = (await heard(page)).length;
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    for (const number of count(from, from + 20)) await backend.publish('frozen', number);
    if (isCut) box.cut();
    await new Promise((later) => setTimeout(later, 300));
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    // What a browser says when it wakes a page up; DevTools do not.
    await page.evaluate(() => document.dispatchEvent(new Event('resume')));
    await hears(page, count(0, from + 20));
  }
  await visit.end();
  await box.stop();
});

test('where WebSockets are refused or swallowed it goes on by other ways', async () => {
  for (const [websocket, sse, expected] of [['refuse', 'pass', 'sse'], ['swallow', 'pass', 'sse'], ['swallow', 'refuse', 'poll']]) {
    const box = await Middlebox.start(server.origin);
    Object.assign(box, { websocket, sse });
    const { visit, page } = await open();
    await page.evaluate(([url, name]) => listen(url, name, { patienceMs: 1_000 }), [box.origin, `ways:${websocket}:${sse}`]);
    await isOpen(page);
    assert.equal(await page.evaluate(() => client.state.transport), expected);
    await backend.publish(`ways:${websocket}:${sse}`, 1);
    await page.evaluate((name) => client.publish(name, 2), `ways:${websocket}:${sse}`);
    await hears(page, [1, 2]);
    // Another page of the same tab begins with what works.
    const asked = box.asked.websocket;
    await page.reload();
    await page.waitForFunction(() => globalThis.listen);
    await page.evaluate((url) => listen(url, 'again'), box.origin);
    await isOpen(page);
    assert.equal(box.asked.websocket, asked);
    await visit.end();
    await box.stop();
  }
});

test('a thousand connections leave no listener, no timer, no memory behind', async () => {
  const { visit, page } = await open();
  const { listeners } = await page.evaluate(() => counted);
  const devtools = await visit.context.newCDPSession(page);
  const used = async () => {
    await devtools.send('HeapProfiler.collectGarbage');
    return (await devtools.send('Runtime.getHeapUsage')).usedSize;
  };
  await page.evaluate((url) => listen(url, 'thousand', { backoff: { baseMs: 0, capMs: 0 } }), server.origin);
  await isOpen(page);
  const reconnect = (times) => page.evaluate(async (times) => {
    for (let round = 0; round < times; round++) {
      const back = new Promise((resolve) => {
        const off = client.on('state', ({ status }) => {
          if (status !== 'open') return;
          off();
          resolve();
        });
      });
      client.cut();
      await back;
    }
    // What is kept of them must not be of use any more.
    states.length = counted.sent.length = 0;
    return { ...counted };
  }, times);
  const first = await reconnect(100);
  const before = await used();
  const last = await reconnect(1_000);
  assert.equal(last.sockets - first.sockets, 1_000);
  assert.equal(last.listeners, first.listeners);
  await page.waitForFunction(() => counted.open === 1);
  const kept = (await used()) - before;
  assert.ok(kept < 1_000_000, `${kept} bytes of 1,000 connections`);
  await page.evaluate(() => client.close());
  assert.equal(await page.evaluate(() => counted.listeners), listeners, 'a client that is closed listens to nothing');
  await visit.end();
});

test('the EventSource of the browser goes on by itself, nothing missing and nothing twice', async () => {
  const box = await Middlebox.start(server.origin);
  const { visit, page } = await open();
  await page.evaluate((url) => {
    const channels = 'channel=source:a&channel=source:b';
    const source = new EventSource(`${url}/sse?${channels}`);
    const heard = { a: [], b: [], opened: 0, errors: 0 };
    source.addEventListener('open', () => heard.opened++);
    source.addEventListener('error', () => heard.errors++);
    source.addEventListener('message', ({ data }) => {
      const { channel, data: value } = JSON.parse(data);
      heard[channel.at(-1)].push(value);
    });
    Object.assign(globalThis, { source, sourced: heard });
  }, box.origin);
  await page.waitForFunction(() => sourced.opened === 1);
  for (const number of count(0, 60)) {
    for (const name of ['a', 'b']) await backend.publish(`source:${name}`, number);
    // In the middle of what is on its way.
    if (number % 20 === 10) {
      box.cut();
      await page.waitForFunction(([opened]) => sourced.opened > opened, [Math.floor(number / 20) + 1]);
    }
  }
  await page.waitForFunction(() => sourced.a.length >= 60 && sourced.b.length >= 60);
  const { a, b, errors } = await page.evaluate(() => sourced);
  assert.deepEqual([a, b], [count(0, 60), count(0, 60)]);
  assert.ok(errors >= 3);
  await page.evaluate(() => source.close());
  await visit.end();
  await box.stop();
});

test('React: mounted twice it subscribes once, and unmounted it leaves', async () => {
  const { visit, page } = await open();
  await backend.publish('strict:latest', 'kept');
  const { listeners } = await page.evaluate(() => counted);
  await page.evaluate((url) => mount(url, 'strict'), server.origin);
  await page.locator('#status', { hasText: 'open' }).waitFor();
  await page.locator('#words[data-subscribed=true]').waitFor({ state: 'attached' });
  await page.locator('#people', { hasText: '1: Ana' }).waitFor();
  await page.locator('#latest', { hasText: 'kept' }).waitFor();
  const counts = await page.evaluate(() => counted);
  // StrictMode made the first client for nothing; it may have connected.
  await page.waitForFunction(() => counted.open === 1);
  assert.equal(counts.sent.filter((type) => type === 'unsubscribe').length, 0);
  assert.ok(counts.sent.filter((type) => type === 'subscribe').length <= 2 * counts.sockets, 'one of each channel');

  for (const word of ['one', 'two']) await backend.publish('strict', word);
  await page.locator('#words', { hasText: /^one two$/ }).waitFor();
  await page.locator('#say').click();
  await page.locator('#words', { hasText: /^one two said$/ }).waitFor();
  // A component that comes back hears what comes then.
  await page.locator('#toggle').click();
  await page.locator('#words').waitFor({ state: 'detached' });
  await page.locator('#toggle').click();
  await page.locator('#words[data-subscribed=true]').waitFor({ state: 'attached' });
  await backend.publish('strict', 'three');
  await page.locator('#words', { hasText: /^three$/ }).waitFor();
  await backend.publish('strict:latest', 'newer');
  await page.locator('#latest', { hasText: 'newer' }).waitFor();

  await page.evaluate(() => unmount());
  await page.waitForFunction(() => counted.open === 0);
  assert.equal(await page.evaluate(() => counted.listeners), listeners);
  await visit.end();
});

test('React: hidden it leaves, shown again it has one connection', async () => {
  const { visit, page } = await open();
  await page.evaluate((url) => mountHidable(url, 'hidable'), server.origin);
  await page.locator('#people', { hasText: '1: Ana' }).waitFor();
  for (let round = 0; round < 3; round++) {
    await page.evaluate(() => show(false));
    await page.waitForFunction(() => counted.open === 0);
    await page.evaluate(() => show(true));
    await page.locator('#words[data-subscribed=true]').waitFor({ state: 'attached' });
    await page.locator('#people', { hasText: '1: Ana' }).waitFor();
    assert.equal(await page.evaluate(() => counted.open), 1);
  }
  await page.evaluate(() => unmount());
  await page.waitForFunction(() => counted.open === 0);
  await visit.end();
});

test('React: the newest value is that of the log there is', async () => {
  const own = await Server.start();
  const teller = client(own, 'websocket');
  const { visit, page } = await open();
  await page.evaluate((url) => mountHidable(url, 'prices'), own.origin);
  for (const price of count(1, 21)) await teller.publish('prices:latest', price);
  await page.locator('#latest', { hasText: /^20$/ }).waitFor();
  // Without a data directory its log is another one then, and offsets begin anew.
  await own.kill();
  await own.start();
  await page.locator('#words[data-subscribed=true]').waitFor({ state: 'attached' });
  await teller.publish('prices:latest', 101);
  await page.locator('#latest', { hasText: /^101$/ }).waitFor();
  await page.evaluate(() => unmount());
  teller.close();
  await visit.end();
  await own.remove();
});

test('a module that is replaced while the page runs keeps its connection', async () => {
  const project = await mkdtemp(join(tmpdir(), 'switchboard-vite-'));
  await writeFile(join(project, 'index.html'), '<link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/main.jsx"></script>');
  const page = await readFile(join(HERE, 'page/hot.jsx'), 'utf8');
  await writeFile(join(project, 'hot.jsx'), page);
  await cp(join(HERE, 'page/hot-main.jsx'), join(project, 'main.jsx'));
  const vite = await createVite({
    root: project,
    configFile: false,
    logLevel: 'silent',
    cacheDir: join(project, '.vite'),
    server: { host: '127.0.0.1', port: 0, fs: { strict: false } },
    esbuild: { jsx: 'automatic' },
    oxc: { jsx: { runtime: 'automatic' } },
    resolve: {
      alias: Object.fromEntries([
        ['switchboard-client/react', join(HERE, '../dist/react.js')],
        ['switchboard-client', join(HERE, '../dist/index.js')],
        ['react-dom', join(HERE, '../node_modules/react-dom')],
        ['react', join(HERE, '../node_modules/react')],
      ]),
    },
  });
  await vite.listen();
  const visit = await browser.visit();
  const { page: tab } = await visit.open(`http://127.0.0.1:${vite.httpServer.address().port}/?server=${encodeURIComponent(server.origin)}`);
  await tab.locator('#hot[data-subscribed=true]', { hasText: 'first:' }).waitFor();
  await backend.publish('hot', 'a');
  await tab.locator('#hot', { hasText: 'first: a' }).waitFor();
  await tab.evaluate(() => { globalThis.isTheSamePage = true; });
  await writeFile(join(project, 'hot.jsx'), page.replace('first:', 'second:'));
  await tab.locator('#hot', { hasText: 'second:' }).waitFor();
  await backend.publish('hot', 'b');
  await tab.locator('#hot', { hasText: /b$/ }).waitFor();
  assert.equal(await tab.evaluate(() => isTheSamePage), true);
  assert.equal(await tab.evaluate(() => opened), 1, 'one connection all the time');
  await visit.end();
  await vite.close();
  await rm(project, { recursive: true, force: true });
});

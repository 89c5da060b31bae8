// Every example, run as its reader runs it, and looked at from outside.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { Browser } from '../conformance/browser/browser.mjs';
import { Server } from '../conformance/browser/server.mjs';
import { EXAMPLES, start } from './run.mjs';

const HERE = import.meta.dirname;
const REPORTS = join(HERE, 'reports');
const TERMINAL_CHAT = resolve(HERE, '../target/debug/examples/terminal-chat');
const WAIT_MS_MAX = 20_000;

let browser;

before(async () => {
  await mkdir(REPORTS, { recursive: true });
  browser = await Browser.start();
});
after(() => browser?.close());

/** A server of its own and the example, which end with the test. `open` opens a window, as somebody. */
async function stage(t, name) {
  const server = await Server.start();
  t.after(() => server.remove());
  const example = await start(name, { url: server.origin });
  t.after(() => example.close());
  const visits = [];
  return {
    server,
    async open(person = 'Ana', options = {}) {
      const visit = await browser.visit({ viewport: { width: 1100, height: 720 }, ...options });
      visit.context.setDefaultTimeout(WAIT_MS_MAX);
      visits.push(visit);
      const { page } = await visit.open(`${example.origin}/?name=${person}`);
      await page.locator('#connection[data-status=open]').waitFor();
      page.visit = visit;
      return page;
    },
    async end() {
      for (const visit of visits) await visit.end();
    },
  };
}

async function eventually(what, isSo) {
  const deadline = Date.now() + WAIT_MS_MAX;
  let seen;
  while (Date.now() < deadline) {
    seen = await isSo();
    if (seen) return seen;
    await new Promise((again) => { setTimeout(again, 50); });
  }
  assert.fail(`${what}: not within ${WAIT_MS_MAX} ms`);
}

async function picture(page, name) {
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)));
  await page.screenshot({ path: join(REPORTS, `${name}.png`) });
}

const line = (page, text) => page.locator('#lines li, .lines li', { hasText: text });
const person = (page, name) => page.locator('.people li', { hasText: name });

test('chat: what is said, who is here, who types', async (t) => {
  const { server, open, end } = await stage(t, 'chat');
  const ana = await open('Ana');
  const ben = await open('Ben');
  for (const page of [ana, ben]) {
    await person(page, 'Ana').waitFor();
    await person(page, 'Ben').waitFor();
  }
  await ana.locator('#text').fill('Is anybody here?');
  await ben.locator('#typing', { hasText: 'Ana is typing' }).waitFor();
  await ana.locator('#text').press('Enter');
  await line(ben, 'Is anybody here?').waitFor();
  await ana.locator('#lines .mine', { hasText: 'Is anybody here?' }).waitFor();
  await ben.locator('#typing', { hasText: /^\s*$/ }).waitFor();
  await ben.locator('#text').fill('I am. Good morning!');
  await ben.locator('#text').press('Enter');
  await line(ana, 'I am. Good morning!').waitFor();
  await ben.locator('#text').fill('What');
  await ana.locator('#typing', { hasText: 'Ben is typing' }).waitFor();
  await picture(ana, 'chat');

  // The log has what was said, and nothing of who typed.
  const { messages } = await (await fetch(`http://127.0.0.1:${server.internalPort}/api/v1/history?channel=room:lobby`)).json();
  assert.deepEqual(messages.map(({ data }) => data.text), ['Is anybody here?', 'I am. Good morning!']);

  // Another name is another name for everybody; who comes later reads what was said before; who closes the page is gone.
  await ben.locator('#name').fill('Benjamin');
  await ben.locator('#name').press('Enter');
  await person(ana, 'Benjamin').waitFor();
  const cleo = await open('Cleo', { viewport: { width: 390, height: 740 }, colorScheme: 'dark' });
  await line(cleo, 'Is anybody here?').waitFor();
  await person(cleo, 'Benjamin').waitFor();
  await picture(cleo, 'chat-dark-phone');
  await end();
});

test('notifications: from a backend, from the page, and what came while it was closed', async (t) => {
  const { server, open, end } = await stage(t, 'notifications');
  const page = await open();
  const notification = (text) => page.locator('#list li', { hasText: text });
  const curl = (await page.locator('#curl').textContent())
    .replace('INTERNAL-ADDRESS', `127.0.0.1:${server.internalPort}`)
    .replace('curl', 'curl --silent --fail --max-time 30');
  execFileSync('bash', ['-c', curl]);
  await notification('All tests passed').waitFor();
  await page.locator('#send button').click();
  await notification('Your order is on its way').waitFor();
  await picture(page, 'notifications');

  // A page that is left breaks off its stream.
  page.visit.excuse(/ERR_ABORTED|EventSource/);
  await page.goto('about:blank');
  execFileSync('bash', ['-c', curl.replace('118', '119')]);
  await page.goBack();
  await notification('Build 119').waitFor();
  assert.equal(await page.locator('#list li').count(), 1, 'only what is new');
  await end();
});

test('ticker: the newest price of each symbol', async (t) => {
  const { server, open, end } = await stage(t, 'ticker');
  const page = await open();
  const row = (symbol) => page.locator(`#stocks li[data-symbol=${symbol}]`);
  await eventually('twenty symbols', async () => await page.locator('#stocks li').count() === 20);
  const price = () => row('ACME').locator('.number').textContent();
  const first = await price();
  await eventually('another price', async () => await price() !== first);
  await picture(page, 'ticker');

  // What is not read while it is paused comes as the newest of each symbol, and as a word about the rest.
  const log = async () => (await fetch(`http://127.0.0.1:${server.internalPort}/api/v1/history?channel=ticker:stocks&limit=1`)).json();
  await page.locator('#pause').click();
  const [{ offset }] = (await log()).messages;
  await eventually('a hundred prices', async () => (await log()).messages[0].offset > offset + 100);
  await page.locator('#pause').click();
  await page.locator('#skipped', { hasText: /\d+ prices skipped/ }).waitFor();
  await eventually('prices again', async () => /^[1-9]/.test(await page.locator('#rate').textContent()));

  // A page that comes later has them all from the log.
  const later = await open('Ben', { viewport: { width: 390, height: 740 }, colorScheme: 'dark' });
  await eventually('twenty symbols', async () => await later.locator('#stocks li').count() === 20);
  await picture(later, 'ticker-dark-phone');
  await end();
});

test('cursors: each sees those of the others, as long as they are there', async (t) => {
  const { open, end } = await stage(t, 'cursors');
  const ana = await open('Ana');
  const ben = await open('Ben');
  await ben.locator('#count', { hasText: '2 here' }).waitFor();
  const cursor = ben.locator('.cursor[data-name=Ana]');
  const box = await ana.locator('#stage').boundingBox();
  const sees = (x, y) => eventually(`the cursor at ${x}, ${y}`, async () => {
    const seen = await cursor.evaluate((element) => new DOMMatrix(element.style.transform)).catch(() => undefined);
    return seen && Math.abs(seen.e - x) < 3 && Math.abs(seen.f - y) < 3;
  });
  await ana.mouse.move(box.x + 100, box.y + 100);
  await ana.mouse.move(box.x + 200, box.y + 150, { steps: 5 });
  await sees(200, 150);
  await ana.mouse.move(box.x + 700, box.y + 400, { steps: 200 });
  await sees(700, 400);
  const cleo = await open('Cleo');
  await ben.locator('#count', { hasText: '3 here' }).waitFor();
  await cleo.mouse.move(box.x + 300, box.y + 200);
  await cleo.mouse.move(box.x + 320, box.y + 300, { steps: 3 });
  await ben.locator('.cursor[data-name=Cleo]').waitFor();
  await picture(ben, 'cursors');
  await ana.close();
  await cursor.waitFor({ state: 'detached' });
  await ben.locator('#count', { hasText: '2 here' }).waitFor();
  await end();
});

test('collaborative text: edits at the same time converge, also while the server is away', async (t) => {
  const { server, open, end } = await stage(t, 'collaborative-text');
  const text = (page) => page.locator('#text');
  const value = (page) => text(page).inputValue();
  const agree = (pages, words) => eventually(`all have ${words}`, async () => {
    const values = await Promise.all(pages.map(value));
    return values.every((one) => one === values[0] && words.every((word) => one.includes(word)));
  });
  const type = async (page, words, where) => {
    // A press waits for nothing, and what is pressed before the log has been read goes nowhere.
    await page.locator('#text:enabled').waitFor();
    await text(page).press(where);
    await text(page).pressSequentially(words, { delay: 5 });
  };
  const ana = await open('Ana');
  await type(ana, 'The middle 🙂', 'End');
  const ben = await open('Ben');
  await agree([ana, ben], ['The middle 🙂']);
  await Promise.all([type(ana, 'From Ana: ', 'Control+Home'), type(ben, ', and from Ben.', 'Control+End')]);
  await agree([ana, ben], ['From Ana: The middle 🙂, and from Ben.']);

  // Without a server both go on writing. It comes back without a log.
  for (const page of [ana, ben]) page.visit.excuse(/WebSocket connection|ERR_|Failed to load resource|CORS/);
  await server.kill();
  for (const page of [ana, ben]) await page.locator('#connection:not([data-status=open])').waitFor();
  await type(ana, 'Ana was alone. ', 'Control+Home');
  await type(ben, ' Ben was alone.', 'Control+End');
  await server.start();
  const all = ['Ana was alone. From Ana: The middle 🙂, and from Ben. Ben was alone.'];
  await agree([ana, ben], all);

  // Who comes now has the text from the others, though its beginning is in no log; many edits leave a snapshot there.
  const cleo = await open('Cleo');
  await agree([ana, ben, cleo], all);
  await type(cleo, '\n' + 'All of us can write here, at the same time, and nobody has to wait. '.repeat(2), 'Control+End');
  await agree([ana, ben, cleo], ['nobody has to wait. All of us']);
  await picture(cleo, 'collaborative-text');
  const final = await value(ana);
  const log = async () => (await fetch(`http://127.0.0.1:${server.internalPort}/api/v1/history?channel=doc:readme&latest=true`)).json();
  await eventually('a snapshot', async () => (await log()).messages.some(({ conflate }) => conflate === 'snapshot'));
  for (const page of [ana, ben, cleo]) await page.close();
  const dora = await open('Dora');
  await eventually('the text of the log', async () => await value(dora) === final);
  await end();
});

test('React room: it talks, it has a topic, and there are several', async (t) => {
  const { open, end } = await stage(t, 'react-room');
  const ana = await open('Ana');
  const ben = await open('Ben');
  for (const page of [ana, ben]) {
    await person(page, 'Ana').waitFor();
    await person(page, 'Ben').waitFor();
    await page.locator('h2', { hasText: 'Here: 2' }).waitFor();
  }
  const say = async (page, words) => {
    await page.getByLabel('Message', { exact: true }).fill(words);
    await page.getByRole('button', { name: 'Send' }).click();
  };
  await say(ana, 'The tomatoes are ripe.');
  await line(ben, 'The tomatoes are ripe.').waitFor();
  await say(ben, 'I bring a basket.');
  await line(ana, 'I bring a basket.').waitFor();
  await ana.getByLabel('Topic').fill('What grows');
  await ana.getByLabel('Topic').press('Enter');
  await eventually('the topic', async () => await ben.getByLabel('Topic').inputValue() === 'What grows');
  await picture(ana, 'react-room');

  await ben.getByRole('button', { name: 'kitchen' }).click();
  await person(ana, 'Ben').waitFor({ state: 'detached' });
  assert.equal(await line(ben, 'tomatoes').count(), 0);
  await ben.getByRole('button', { name: 'garden' }).click();
  await line(ben, 'I bring a basket.').waitFor();
  assert.equal(await line(ben, 'tomatoes').count(), 1, 'once, though it is in the log and came live');
  await end();
});

test('dashboard: numbers change, and the charts move', async (t) => {
  const { open, end } = await stage(t, 'dashboard');
  const page = await open();
  for (const name of ['requests', 'latency', 'errors', 'visitors']) {
    const path = page.locator(`[data-metric=${name}] .line`);
    const drawn = () => path.getAttribute('d');
    const first = await eventually(`a chart of ${name}`, drawn);
    await eventually(`the chart of ${name} moves`, async () => await drawn() !== first);
  }
  const points = async (tab) => (await tab.locator('[data-metric=requests] .line').getAttribute('d') ?? '').split('L').length;
  await eventually('a few points', async () => await points(page) > 20);
  await picture(page, 'dashboard');
  // A page that comes later draws what is in the log.
  const later = await open();
  await later.locator('[data-metric=requests] .line[d]').waitFor({ state: 'attached' });
  assert.ok(await points(later) > 20);
  await end();
});

test('terminal chat: two of them talk, see the server go and come back', async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const open = (name) => {
    const child = spawn(TERMINAL_CHAT, ['room:lobby', name, `${server.origin.replace('http', 'ws')}/ws`], { stdio: 'pipe' });
    t.after(() => { if (child.exitCode === null) child.kill('SIGKILL'); });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => { output += bytes; });
    return {
      say: (text) => child.stdin.write(`${text}\n`),
      shows: (text) => eventually(`${name} sees "${text}"`, () => output.includes(text)).catch((error) => {
        throw new Error(`${error.message}\n${output}`);
      }),
      end: async () => {
        child.stdin.end();
        if (child.exitCode === null) await once(child, 'exit');
        return child.exitCode;
      },
    };
  };
  const ana = open('Ana');
  await ana.shows('-- here: 1');
  const ben = open('Ben');
  await ana.shows('-- here: 2');
  await ben.shows('-- here: 2');
  ana.say('Good morning');
  await ben.shows('Ana: Good morning');
  ben.say('Good evening, here');
  await ana.shows('Ben: Good evening, here');
  await fetch(`http://127.0.0.1:${server.internalPort}/api/v1/publish?channel=room:lobby`, { method: 'POST', body: 'dinner is ready' });
  await ana.shows('the server: dinner is ready');

  await server.kill();
  await ana.shows('-- waiting');
  ana.say('Is anybody there?');
  await server.start();
  await ana.shows('-- connected');
  await ana.shows('-- the server has begun a new log');
  await ana.shows('Ana: Is anybody there?');
  assert.equal(await ana.end(), 0);
  assert.equal(await ben.end(), 0);
});

test('the settings are such that a server starts with them', () => {
  const server = process.env.SERVER_UNDER_TEST ?? join(HERE, '../target/debug/switchboard');
  execFileSync(server, ['config', 'check', join(HERE, 'switchboard.toml')], { stdio: 'pipe' });
});

test('every folder is an example', async () => {
  const folders = (await readdir(HERE, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  assert.deepEqual(EXAMPLES, folders.filter((name) => !['node_modules', 'reports'].includes(name)).sort());
});

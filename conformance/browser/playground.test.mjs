// The playground as the server serves it: two tabs of a real browser talk through the real binary.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Browser } from './browser.mjs';
import { BINARY, Server } from './server.mjs';

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await Browser.start();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

const address = (room, name) => `${server.origin}/?room=${room}&name=${name}`;

/** Two tabs of one window in the same room, both joined. */
async function twoTabs(room, options) {
  const visit = await browser.visit(options);
  const ada = await visit.open(address(room, 'Ada'));
  const ben = await visit.open(address(room, 'Ben'));
  await ada.joined();
  await ben.joined();
  return { visit, ada, ben };
}

test('two tabs in a room hear each other, in one order', async () => {
  const { visit, ada, ben } = await twoTabs('talk');
  await ada.say('is anybody there?');
  await ben.hears('is anybody there?');
  await ben.say('loud and clear');
  await ada.hears('loud and clear');

  assert.deepEqual(await ada.transcript(), ['is anybody there?', 'loud and clear']);
  assert.deepEqual(await ben.transcript(), await ada.transcript());
  assert.equal(await ada.said('is anybody there?').getAttribute('data-own'), 'true');
  assert.equal(await ben.said('is anybody there?').getAttribute('data-own'), 'false');
  assert.deepEqual(await ada.at('speaker').locator('b').allInnerTexts(), ['Ben', 'Ada (you)']);
  await visit.end();
});

test('a room says who is in it', async () => {
  const { visit, ada, ben } = await twoTabs('crowd');
  const present = (tab, words) => tab.at('room-present').getByText(words, { exact: true }).waitFor();
  await present(ada, '2 here');
  await present(ben, '2 here');
  assert.deepEqual((await ada.at('room-present').getAttribute('title')).split(', ').sort(), ['Ada', 'Ben']);
  await ada.picture('presence');
  await ben.at('disconnect').click();
  await present(ada, '1 here');
  assert.equal(await ada.at('room-present').getAttribute('title'), 'Ada');
  await ben.at('connect').click();
  await present(ada, '2 here');
  await visit.end();
});

test('a room says nothing of another room, and its link opens it', async () => {
  const { visit, ada, ben } = await twoTabs('north');
  await ben.at('room-name').fill('south');
  await ben.at('join').click();
  await ben.joined();
  assert.match(ben.page.url(), /\?room=south$/);
  assert.equal(await ben.at('room-title').innerText(), 'room:south');
  await ada.say('said in the north');
  await ada.hears('said in the north');
  await ben.say('said in the south');
  await ben.hears('said in the south');
  assert.deepEqual(await ada.transcript(), ['said in the north']);
  assert.deepEqual(await ben.transcript(), ['said in the south']);

  await ben.page.goBack();
  await ben.hears('said in the north');
  assert.deepEqual(await ben.transcript(), ['said in the north']);
  await visit.end();
});

test('the button opens a second tab in the same room under another name', async () => {
  const visit = await browser.visit();
  const ada = await visit.open(address('pair', 'Ada'));
  await ada.joined();
  const [page] = await Promise.all([visit.context.waitForEvent('page'), ada.at('second-tab').click()]);
  await page.locator('[data-testid=room-phase][data-phase=joined]').waitFor();
  assert.equal(await page.getByTestId('room-title').innerText(), 'room:pair');
  assert.notEqual(await page.getByTestId('name').inputValue(), 'Ada');
  await ada.say('hello, second tab');
  await page.getByTestId('said').filter({ hasText: 'hello, second tab' }).waitFor();
  await visit.end();
});

test('the inspector shows the frames of a conversation', async () => {
  const { visit, ada, ben } = await twoTabs('frames');
  await ada.say('look inside');
  await ben.hears('look inside');
  for (const [direction, type] of [
    ['out', 'connect'], ['in', 'welcome'], ['out', 'subscribe'], ['in', 'subscribed'], ['out', 'history'], ['in', 'history'],
    ['out', 'publish'], ['in', 'published'], ['in', 'message'], ['out', 'ping'], ['in', 'pong'],
  ]) await ada.frames(direction, type).first().waitFor();
  await ben.frames('in', 'message').first().waitFor();
  assert.equal(await ben.frames('out', 'publish').count(), 0);
  await ada.page.getByText(/round trip [\d.]+ ms/).waitFor();

  await ada.frames('in', 'message').first().locator('summary').click();
  const frame = JSON.parse(await ada.frames('in', 'message').first().locator('pre').innerText());
  assert.equal(frame.channel, 'room:frames');
  assert.deepEqual(frame.data, { name: 'Ada', text: 'look inside' });

  await ada.at('frame-filter').fill('welcome');
  await ada.frames('out', 'publish').first().waitFor({ state: 'detached' });
  assert.deepEqual(await ada.at('frame').locator('.type').allInnerTexts(), ['welcome']);
  await visit.end();
});

test('a terminal’s text, JSON and bytes are shown as what they are', async () => {
  const visit = await browser.visit();
  const ada = await visit.open(address('terminal', 'Ada'));
  await ada.joined();
  const bare = await ada.page.evaluateHandle(async () => {
    const socket = new WebSocket(`ws://${location.host}/ws?channel=room:terminal`);
    socket.received = [];
    socket.onmessage = ({ data }) => socket.received.push(data);
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    socket.send('hello from a terminal');
    socket.send('{"celsius":21.5,"tags":["hall"]}');
    socket.send(new Uint8Array([0x53, 0x42, 0x00, 0xff]));
    return socket;
  });
  await ada.hears('hello from a terminal');
  await ada.hears('"celsius": 21.5');
  await ada.hears('53 42 00 ff');
  await ada.say('hello, terminal');
  await ada.page.waitForFunction((socket) => socket.received.some((data) => typeof data === 'string' && data.includes('hello, terminal')), bare);
  await bare.evaluate((socket) => socket.close());
  await visit.end();
});

test('what it says for terminals does what it says', async () => {
  const visit = await browser.visit();
  const ada = await visit.open(address('shell', 'Ada'));
  await ada.joined();
  const recipe = async (name) => {
    await ada.page.getByRole('tab', { name, exact: true }).click();
    return ada.at('recipe').innerText();
  };
  const listener = spawn('bash', ['-c', `exec ${await recipe('curl')}`], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    let heard = '';
    const hears = async (words) => {
      for await (const bytes of listener.stdout.iterator({ destroyOnReturn: false })) {
        heard += bytes;
        if (heard.includes(words)) return;
      }
      assert.fail(`curl ended, it printed: ${heard}`);
    };
    await hears('event: subscribed');
    await ada.say('hello, terminal');
    await hears('event: message');
    assert.match(heard, /hello, terminal/);
  } finally {
    listener.kill();
  }
  const command = await recipe('publish');
  assert.match(command, /^switchboard publish /);
  await promisify(execFile)('bash', ['-c', command.replace(/^switchboard/, BINARY)], { timeout: 30_000 });
  await ada.hears('hello');
  await visit.end();
});

test('hanging up shows closing, closed and the code; what was said meanwhile is caught up', async () => {
  const { visit, ada, ben } = await twoTabs('hangup');
  await ada.say('before');
  await ben.hears('before');
  await ben.at('disconnect').click();
  await ben.atStep('closed');
  assert.match(await ben.at('close-words').innerText(), /^1000\b/);
  assert.deepEqual(await ben.page.locator('[data-testid=frame][data-direction=line] .type').allInnerTexts(),
    ['connecting', 'open', 'closing', 'closed']);
  assert.match(await ben.frames('line', 'closed').innerText(), /1000/);
  await ben.picture('hung-up-light');

  await ada.say('while you were away');
  await ada.hears('while you were away');
  await ben.say('written on a closed line');
  await ben.at('pending').filter({ hasText: 'waits for the line' }).waitFor();
  await ben.at('connect').click();
  await ben.hears('written on a closed line');
  assert.equal(await ben.divider('caught-up'), 'caught up 1 message');
  await ada.hears('written on a closed line');
  assert.deepEqual((await ben.transcript()).filter((row) => !row.startsWith('(')), ['before', 'while you were away', 'written on a closed line']);
  assert.equal(await ben.at('pending').count(), 0);
  await visit.end();
});

test('a server that restarts is seen to close and to come back, and both tabs talk again', async () => {
  const { visit, ada, ben } = await twoTabs('restart');
  await ada.say('before the restart');
  await ben.hears('before the restart');

  // The browser itself reports each attempt that nobody answers; no page can prevent that.
  visit.excuse(/^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/ws' failed|ERR_CONNECTION_REFUSED/);
  await server.stop();
  for (const tab of [ada, ben]) {
    await tab.frames('line', 'closed').filter({ hasText: '1001' }).waitFor();
    assert.match(await tab.divider('lost'), /the line closed/);
  }
  await server.start();
  for (const tab of [ada, ben]) {
    await tab.back();
    await tab.divider('reset');
  }
  await ada.say('after the restart');
  await ben.hears('after the restart');
  await ben.say('all is well');
  await ada.hears('all is well');
  assert.equal(await ada.said('after the restart').count(), 1);
  await visit.end();
});

test('a stopped server leaves a countdown and a way to hurry it', async () => {
  const { visit, ada } = await twoTabs('countdown', { colorScheme: 'dark' });
  await ada.say('this line will be cut');
  await ada.hears('this line will be cut');
  visit.excuse(/^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/ws' failed|ERR_CONNECTION_REFUSED/);
  await server.stop();
  await ada.page.getByText(/attempt [3-9] in \d+\.\d s/).waitFor({ timeout: 60_000 });
  await ada.picture('disconnected-dark');
  await server.start();
  // It may have come back by itself in this moment; then there is nothing to hurry.
  await ada.page.evaluate(() => document.querySelector('#retry-now').click());
  await ada.back();
  await visit.end();
});

test('a burst moves the chart and is one row of the conversation', async () => {
  const { visit, ada, ben } = await twoTabs('burst');
  await ada.at('load').click();
  await ben.hears('100 test messages');
  await ada.hears('100 test messages');
  assert.equal(await ada.at('said').count(), 1);
  await ada.at('total-messages-out').filter({ hasText: /^100$/ }).waitFor();
  await ben.at('total-messages-in').filter({ hasText: /^100$/ }).waitFor();
  await ada.page.getByText(/^last 60 s, busiest: [1-9]/).waitFor();
  await ada.at('load-words').filter({ hasText: '100 acknowledged' }).waitFor();
  await visit.end();
});

test('a connection that is cut comes back with what was said meanwhile, by every transport', async () => {
  const [here, there] = [await browser.visit(), await browser.visit()];
  const ada = await here.open(address('cut', 'Ada'));
  const ben = await there.open(address('cut', 'Ben'));
  await ada.joined();
  await ben.joined();
  there.excuse(/ERR_/);
  const said = [];
  for (const [transport, words] of [['websocket', 'by WebSocket'], ['sse', 'by Server-Sent Events'], ['poll', 'by polling']]) {
    await ben.at('transport').selectOption(transport);
    await ben.page.getByTestId('line-transport').filter({ hasText: words }).waitFor();
    await ben.joined();
    for (let round = 0; round < 3; round += 1) {
      // In the first round it cannot be back before the message is said.
      await there.context.setOffline(round === 0);
      await ben.at('cut').click();
      await ada.say(`${transport} ${round}`);
      await ada.hears(`${transport} ${round}`);
      said.push(`${transport} ${round}`);
      await there.context.setOffline(false);
      await ben.joined();
      await ben.hears(`${transport} ${round}`);
    }
    await ben.say(`answer by ${transport}`);
    said.push(`answer by ${transport}`);
    await ada.hears(`answer by ${transport}`);
    await ben.picture(`by-${transport}`);
  }
  assert.deepEqual(await ada.transcript(), said);
  const transcript = await ben.transcript();
  assert.deepEqual(transcript.filter((row) => !row.startsWith('(')), said);
  assert.ok(transcript.filter((row) => /caught up 1 message/.test(row)).length >= 3, transcript.join('\n'));
  await here.end();
  await there.end();
});

for (const scheme of ['light', 'dark']) {
  test(`it has a ${scheme} face, on a desk and on a phone`, async () => {
    const { visit, ada, ben } = await twoTabs(`face-${scheme}`, { colorScheme: scheme });
    await ada.picture(`empty-${scheme}`);
    await ada.say('Good evening. Is anybody on this line?');
    await ben.hears('Good evening.');
    await ben.say('Loud and clear. Shall we patch the second board in?');
    await ada.hears('Loud and clear.');
    await ada.picture(`desk-${scheme}`);

    const phone = await browser.visit({ colorScheme: scheme, viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
    const carmen = await phone.open(address(`face-${scheme}`, 'Carmen'));
    await carmen.hears('Loud and clear.');
    await carmen.say('Hello from a small one');
    await ada.hears('Hello from a small one');
    for (const view of ['room', 'frames', 'rate', 'chat']) {
      await carmen.at(`view-${view}`).click();
      const width = await carmen.page.evaluate(() => document.documentElement.scrollWidth);
      assert.equal(width, 390, `the ${view} view does not scroll sideways`);
      await carmen.picture(`phone-${view}-${scheme}`);
    }
    await phone.end();
    await visit.end();
  });
}

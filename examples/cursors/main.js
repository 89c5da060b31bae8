// Live cursors: every page says where its pointer is, up to sixty times a second, and draws those of the others.

import { Switchboard } from 'switchboard-client';
import { me, showConnection } from '../shared.js';

// The server takes 100 commands a second of each connection; a screen may have 144 frames.
const SAY_EVERY_MS = 1_000 / 60;
const BUFFERED_BYTES_MAX = 8_192;
// A cursor is this far behind, and moves smoothly in between.
const EASE_MS = 40;

const stage = document.getElementById('stage');
// SWITCHBOARD_URL is where the server is; the runner puts it in.
const client = new Switchboard(SWITCHBOARD_URL);
const channel = client.channel('cursors:lobby');
showConnection(client);

// ---- ours

let moved;          // where the pointer is, if nobody was told yet
let nextAt = 0;

stage.addEventListener('pointermove', (event) => {
  const box = stage.getBoundingClientRect();
  // Parts of the stage: others have a window of another size.
  moved = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
});

function say(now) {
  if (!moved || now < nextAt) return;
  // What the network does not take now is not said later: the pointer is somewhere else by then.
  if (!client.isOpen || client.bufferedAmount > BUFFERED_BYTES_MAX) return;
  channel.publish(moved, { conflate: me.id }).catch(() => {});
  moved = undefined;
  nextAt = Math.max(nextAt, now - SAY_EVERY_MS) + SAY_EVERY_MS;
}

// ---- theirs

const cursors = new Map();      // by user
let people = new Map();

channel.subscribe(({ data, from }) => {
  if (from === client.state.user || !people.has(from)) return;
  const cursor = cursors.get(from) ?? addCursor(from, data);
  cursor.target = data;
}, { latest: true, presence: true, info: { name: me.name, hue: me.hue } });

channel.on('presence', ({ members, count }) => {
  document.getElementById('count').textContent = count > 1 ? `${count} here` : 'You are alone here: open a second window.';
  people = new Map([...members.values()].map(({ user, info }) => [user, info ?? {}]));
  for (const [user, { element }] of cursors) {
    if (people.has(user)) continue;
    element.remove();
    cursors.delete(user);
  }
});

function addCursor(user, { x, y }) {
  const { name = user, hue = 200 } = people.get(user);
  const element = document.createElement('div');
  element.className = 'cursor';
  element.dataset.name = name;
  element.style.setProperty('--hue', hue);
  element.innerHTML = '<svg viewBox="0 0 20 20"><path d="M2 2l15 6.5-6.4 2L8 17z"/></svg><span><b></b></span>';
  element.querySelector('b').textContent = name;
  stage.append(element);
  const cursor = { element, x, y };
  cursors.set(user, cursor);
  return cursor;
}

let drawnAt = performance.now();

function draw(now) {
  const share = 1 - Math.exp(-(now - drawnAt) / EASE_MS);
  drawnAt = now;
  const { clientWidth, clientHeight } = stage;
  for (const cursor of cursors.values()) {
    cursor.x += (cursor.target.x - cursor.x) * share;
    cursor.y += (cursor.target.y - cursor.y) * share;
    cursor.element.style.transform = `translate(${cursor.x * clientWidth}px, ${cursor.y * clientHeight}px)`;
  }
}

requestAnimationFrame(function frame(now) {
  say(now);
  draw(now);
  requestAnimationFrame(frame);
});

// A page that is closed leaves at once; without a word it would be there for some seconds more, as somebody who may come back.
addEventListener('pagehide', ({ persisted }) => {
  if (!persisted) client.close();
});

// The playground: one line to the server, one room on it, and the views that show both.
// Reading order: line.js, room.js, outbox.js (no page in them; around the client package), then this, then the views.

import { Chat } from './chat.js';
import { stored } from './dom.js';
import { Frames } from './frames.js';
import { Identity, anotherName } from './identity.js';
import { Line } from './line.js';
import { LinePanel, closeWords } from './line-panel.js';
import { Outbox } from './outbox.js';
import { Load, Rate } from './rate.js';
import { Room } from './room.js';
import { Speakers } from './speakers.js';
import { Terminal } from './terminal.js';

const DEFAULT_CHANNEL = 'room:lobby';
const CHANNEL_BYTES_MAX = 255;
const RECENT_ROOMS_MAX = 8;
const NAMES_MAX = 30;

const find = (selector) => document.querySelector(selector);
const address = new URL(location.href);

const line = new Line(location.origin);
const identity = new Identity(address.searchParams.get('name'));
const outbox = new Outbox(line);
const chat = new Chat(identity, outbox);
const speakers = new Speakers(identity);
const frames = new Frames();
const rate = new Rate();
const terminal = new Terminal();
const message = find('#message');
let room = null;
let unread = 0;

new LinePanel(line);
new Load(line, (number) => ({
  channel: room.channel,
  data: { name: identity.name, text: `test message ${number}`, burst: true },
}));

// ---- rooms

/** `lobby` means `room:lobby`; a name with a colon is taken as it is. */
function channelOf(name) {
  const trimmed = name.trim();
  return trimmed === '' || trimmed.includes(':') ? trimmed : `room:${trimmed}`;
}

function nameOf(channel) {
  return channel.startsWith('room:') && !channel.slice(5).includes(':') ? channel.slice(5) : channel;
}

function channelFault(channel) {
  if (channel === '') return 'A room needs a name.';
  if (/[\s\p{C}]/u.test(channel)) return 'A room’s name has no blanks and no invisible characters.';
  if (channel.split(':').includes('')) return 'Something must stand on both sides of each colon.';
  if (channel.includes('*') || channel.startsWith('$')) return '“*” anywhere and “$” in front are reserved.';
  const bytes = new TextEncoder().encode(channel).length;
  return bytes > CHANNEL_BYTES_MAX ? `A room’s name may have ${CHANNEL_BYTES_MAX} bytes; this one has ${bytes}.` : '';
}

function enter(channel) {
  room?.leave();
  room = new Room(line, channel, { name: identity.name });
  chat.open(channel);
  speakers.clear();
  terminal.open(channel);
  outbox.seen(channel, -1);
  room.on('entry', showEntry);
  room.on('phase', showPhase);
  room.on('presence', showPresence);
  find('#room-present').textContent = '';
  room.enter();
  find('#room-title').textContent = channel;
  message.placeholder = `Say something to ${channel}`;
  find('#room-name').value = nameOf(channel);
  rememberRoom(channel);
  linkSecondTab();
  setUnread(0);
}

function showEntry(entry) {
  chat.add(entry);
  if (entry.kind === 'reset') outbox.seen(room.channel, Infinity);
  if (entry.kind !== 'message') return;
  outbox.seen(room.channel, entry.message.offset);
  speakers.heard(entry.message);
  if (document.hidden && entry.origin !== 'earlier') setUnread(unread + 1);
}

function showPresence({ members, count }) {
  const present = find('#room-present');
  const names = members?.map(({ info, user }) => String(info?.name ?? user));
  present.textContent = `${count} here`;
  present.title = names ? names.slice(0, NAMES_MAX).join(', ') + (names.length > NAMES_MAX ? ', …' : '') : '';
}

function showPhase(phase) {
  const words = { away: 'line not open', joining: 'joining…', joined: 'joined', refused: 'not joined' };
  find('#room-phase').textContent = words[phase.name];
  find('#room-phase').dataset.phase = phase.name;
  find('#room-present').hidden = phase.name !== 'joined';
  chat.showPhase(phase);
  outbox.flow(phase.name === 'joined' || phase.name === 'refused');
}

function rememberRoom(channel) {
  const known = stored.read(localStorage, 'rooms', []).filter((name) => typeof name === 'string' && name !== channel);
  const rooms = [channel, ...known].slice(0, RECENT_ROOMS_MAX);
  stored.write(localStorage, 'rooms', rooms);
  const list = find('#rooms');
  const order = new Set([...[...list.children].map((node) => node.dataset.channel), ...rooms]);
  const shown = [...order].filter((name) => rooms.includes(name));
  list.replaceChildren(...shown.map((name) => roomRow(name, name === channel)));
}

function roomRow(channel, current) {
  const row = document.createElement('li');
  row.dataset.channel = channel;
  const link = document.createElement('a');
  link.href = `?room=${encodeURIComponent(nameOf(channel))}`;
  link.textContent = channel;
  if (current) link.setAttribute('aria-current', 'page');
  link.addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    visit(channel);
  });
  row.append(link);
  return row;
}

function visit(channel) {
  if (channel === room?.channel) return;
  history.pushState(null, '', `?room=${encodeURIComponent(nameOf(channel))}`);
  enter(channel);
}

function linkSecondTab() {
  const link = find('#second-tab');
  link.href = `?room=${encodeURIComponent(nameOf(room.channel))}&name=${encodeURIComponent(anotherName(identity.name))}`;
}

/** The room that the address names, or the lobby; a name that cannot be one is said beside the field. */
function channelInAddress() {
  const name = new URL(location.href).searchParams.get('room') ?? '';
  const channel = channelOf(name);
  const fault = channelFault(channel);
  find('#room-fault').textContent = name.trim() === '' ? '' : fault;
  return fault === '' ? channel : DEFAULT_CHANNEL;
}

find('#room-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const channel = channelOf(find('#room-name').value);
  const fault = channelFault(channel);
  find('#room-fault').textContent = fault;
  if (fault !== '') return;
  find('#room-name').value = nameOf(channel);
  visit(channel);
  showView('chat');
});
find('#room-name').addEventListener('focus', ({ target }) => target.select());
addEventListener('popstate', () => {
  const channel = channelInAddress();
  if (channel !== room.channel) enter(channel);
});
find('#second-tab').addEventListener('click', () => setTimeout(linkSecondTab));

// ---- speaking

function speak() {
  const text = message.value.trim();
  if (text === '') return;
  const taken = outbox.write(room.channel, { name: identity.name, text });
  find('#composer-fault').textContent = taken ? '' : 'Too much is waiting to be sent. It goes out when the line is back.';
  if (taken) message.value = '';
  fitMessage();
}

/** The field grows with what is written, up to the height that the style sheet allows. */
function fitMessage() {
  message.style.height = '';
  // An empty field would be measured by its placeholder.
  if (message.value !== '') message.style.height = `${message.scrollHeight + 2}px`;
}

find('#composer').addEventListener('submit', (event) => {
  event.preventDefault();
  speak();
  message.focus();
});
message.addEventListener('input', fitMessage);
message.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  speak();
});

const nameField = find('#name');
nameField.value = identity.name;
nameField.addEventListener('change', () => {
  nameField.value = identity.rename(nameField.value);
  linkSecondTab();
});
nameField.addEventListener('keydown', (event) => {
  if (event.key === 'Enter') message.focus();
});

// ---- the line

line.on('frame', (frame) => frames.add(frame));
line.on('frame', (frame) => rate.add(frame));
line.on('welcome', ({ user }) => identity.welcome(user));

let stepShown = '';
let wasReady = false;
line.on('status', (status) => {
  if (status.step !== stepShown) {
    stepShown = status.step;
    frames.addStep(status.step, closeWords(status));
  }
  if (wasReady && !status.ready) chat.add({ kind: 'lost', words: closeWords(status) });
  wasReady = status.ready;
});

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) setUnread(0);
});

function setUnread(number) {
  unread = number;
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${room ? nameOf(room.channel) : ''} · Switchboard`;
}

// ---- views on a small screen

function showView(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll('[data-shows-view]')) {
    if (button.dataset.showsView === view) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }
}
for (const button of document.querySelectorAll('[data-shows-view]')) {
  button.addEventListener('click', () => showView(button.dataset.showsView));
}

// ---- begin

setInterval(() => { rate.draw(); speakers.draw(); }, 1_000);
showView('chat');
enter(channelInAddress());
history.replaceState(null, '', `?room=${encodeURIComponent(nameOf(room.channel))}`);
line.connect();

/** For the browser's console: `switchboard.client.channel('room:lobby').on('message', console.log)`. */
globalThis.switchboard = line;

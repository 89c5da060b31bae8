// A chat room: its messages, who is here, and who is typing.

import { Switchboard } from 'switchboard-client';
import { me, showConnection } from '../shared.js';

const TYPING_SHOWN_MS = 4_000;
const TYPING_SAID_MS = 2_000;

const at = (id) => document.getElementById(id);
// SWITCHBOARD_URL is where the server is; the runner puts it in.
const client = new Switchboard(SWITCHBOARD_URL);
const room = client.channel('room:lobby');
// A channel of its own: who types is no part of the conversation, and must not push messages out of the room's log.
const typing = client.channel('typing:lobby');
showConnection(client);

// ---- what is said

room.on('message', hear);
room.on('gap', ({ from, to }) => add(`messages ${from} to ${to} are missing`, 'notice'));
room.on('reset', () => add('the server has begun a new log', 'notice'));

function hear({ data, from }) {
  // Others may say something else than this page does: curl, websocat, the terminal chat.
  const text = typeof data === 'string' ? data : data?.text ?? JSON.stringify(data);
  add(text, from === client.state.user ? 'mine' : '', data?.name ?? from ?? 'the server');
  noLongerTyping(from);
}

function add(text, kind, name) {
  const line = document.createElement('li');
  line.className = kind;
  if (name) line.append(Object.assign(document.createElement('strong'), { textContent: name }));
  line.append(text);
  at('lines').append(line);
  line.scrollIntoView({ block: 'nearest' });
}

at('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('text').value.trim();
  if (!text) return;
  at('text').value = at('fault').textContent = '';
  saidAt = 0;
  // Without a connection it waits for one; it is never published twice.
  room.publish({ name: me.name, text }).catch((error) => { at('fault').textContent = `not sent: ${error.message}`; });
});

// ---- who is here

let here;

/** Subscribes, and is seen by the others. The second time it only changes what they see. */
function appear(options) {
  const before = here;
  here = room.subscribe({ presence: true, info: { name: me.name, hue: me.hue }, ...options });
  before?.unsubscribe();
}

room.on('presence', ({ members, count }) => {
  at('count').textContent = `Here: ${count}`;
  at('people').replaceChildren(...[...members.values()].map(({ user, info }) => {
    const person = document.createElement('li');
    person.textContent = `${info?.name ?? user}${user === client.state.user ? ' (you)' : ''}`;
    person.style.setProperty('--hue', info?.hue);
    return person;
  }));
});

at('name').value = me.name;
at('name').addEventListener('change', () => {
  me.name = at('name').value.trim() || me.name;
  sessionStorage.setItem('me', JSON.stringify(me));
  appear();
});

// ---- who is typing

const typists = new Map();
let saidAt = 0;

at('text').addEventListener('input', () => {
  // It is worth nothing later, so it does not wait for a connection.
  if (!client.isOpen || Date.now() - saidAt < TYPING_SAID_MS) return;
  saidAt = Date.now();
  typing.publish({ name: me.name }).catch(() => {});
});

typing.subscribe(({ data, from }) => {
  if (from === client.state.user) return;
  clearTimeout(typists.get(from)?.timer);
  typists.set(from, { name: data.name, timer: setTimeout(noLongerTyping, TYPING_SHOWN_MS, from) });
  showTyping();
});

function noLongerTyping(user) {
  clearTimeout(typists.get(user)?.timer);
  typists.delete(user);
  showTyping();
}

function showTyping() {
  const names = [...typists.values()].map(({ name }) => name);
  at('typing').textContent = names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} typing …` : '\u00a0';
}

// ---- begin with what was said before, and go on from there. Only a WebSocket can ask; others begin now.

const past = await room.history({ limit: 50 }).catch(() => ({ messages: [] }));
past.messages.forEach(hear);
appear({ since: past.position });

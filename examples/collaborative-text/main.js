// One text that several people write at once. Yjs merges: it does not matter in which order its updates come, or how often. The
// channel carries them, and its log has them for whoever comes later.

import { Switchboard } from 'switchboard-client';
import * as Y from 'yjs';
import { me, showConnection } from '../shared.js';

const SNAPSHOT_EVERY = 100;
const SNAPSHOT = 'snapshot';
const ASK_AFTER_MS = 300;
// The server takes messages of 64 KiB, in which bytes are written as base64.
const UPDATE_BYTES_MAX = 45_000;

const area = document.getElementById('text');
const fault = document.getElementById('fault');
const doc = new Y.Doc();
const text = doc.getText();
// SWITCHBOARD_URL is where the server is; the runner puts it in.
const client = new Switchboard(SWITCHBOARD_URL);
const channel = client.channel('doc:readme');
showConnection(client);

// ---- updates out: what is typed here is published as bytes

doc.on('update', (update, origin) => {
  if (origin !== channel) publish(update);
});

function publish(update, options) {
  if (update.length > UPDATE_BYTES_MAX) return void (fault.textContent = 'too long for one message: others do not have this');
  channel.publish(update, options).catch((error) => { fault.textContent = `not sent: ${error.message}`; });
}

// ---- updates in

let sinceSnapshot = 0;

function apply({ data, conflate }) {
  if (!(data instanceof Uint8Array)) return;
  Y.applyUpdate(doc, data, channel);
  sinceSnapshot = conflate === SNAPSHOT ? 0 : sinceSnapshot + 1;
}

function hear(message) {
  apply(message);
  if (message.data.sync) answer(message.data);
  // The log forgets old messages, so now and then all of it is said anew. All count the same; who said the last one does it.
  if (sinceSnapshot >= SNAPSHOT_EVERY && message.from === client.state.user) {
    publish(Y.encodeStateAsUpdate(doc), { conflate: SNAPSHOT });
  }
  // What builds on something that is nowhere in the log.
  if (doc.store.pendingStructs) ask();
}

// ---- what the log does not have, the others may: they are told what is here, and answer with the rest

let asking;

function ask() {
  // Several reasons at once are one question.
  asking ??= setTimeout(() => {
    asking = undefined;
    channel.publish({ sync: [...Y.encodeStateVector(doc)], by: doc.clientID }).catch(() => {});
  }, ASK_AFTER_MS);
}

function answer({ sync, by }) {
  if (by === doc.clientID) return;
  const rest = Y.encodeStateAsUpdate(doc, Uint8Array.from(sync));
  // Two bytes say: nothing.
  if (rest.length > 2) publish(rest);
}

channel.on('gap', ask);
channel.on('reset', ask);

// ---- begin with the log, read backwards from the newest message to the first

async function catchUp() {
  const newest = await channel.history({ limit: 1_000 });
  const messages = newest.messages;
  for (let more = messages.length > 0; more;) {
    const page = await channel.history({ before: messages[0].position, limit: 1_000 });
    messages.unshift(...page.messages);
    more = page.more;
  }
  messages.forEach(apply);
  return newest.position;
}

const since = await catchUp().catch((error) => { fault.textContent = `the log cannot be read: ${error.message}`; });
channel.subscribe(hear, { since, presence: true, info: { name: me.name, hue: me.hue } });
ask();
area.disabled = false;

channel.on('presence', ({ members }) => {
  document.getElementById('people').replaceChildren(...[...members.values()].map(({ user, info }) => {
    const person = document.createElement('li');
    person.textContent = `${info?.name ?? user}${user === client.state.user ? ' (you)' : ''}`;
    person.style.setProperty('--hue', info?.hue);
    return person;
  }));
});

// ---- the text area: what differs from before is an edit

area.addEventListener('input', () => {
  const before = text.toString();
  const after = area.value;
  let start = 0;
  while (start < before.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  // A character outside of the basic plane has two halves, which stay together.
  if (/[\ud800-\udbff]/.test(after[start - 1])) start--;
  if (end && /[\udc00-\udfff]/.test(after.at(-end))) end--;
  doc.transact(() => {
    text.delete(start, before.length - start - end);
    text.insert(start, after.slice(start, after.length - end));
  });
});

text.observe(({ changes, transaction }) => {
  if (transaction.local) return;
  // The caret stays between the characters where it is.
  let [from, to] = [area.selectionStart, area.selectionEnd];
  let index = 0;
  for (const { retain = 0, insert = '', delete: deleted = 0 } of changes.delta) {
    index += retain;
    const move = (caret) => (caret <= index ? caret : Math.max(index, caret + insert.length - deleted));
    [from, to] = [move(from), move(to)];
    index += insert.length;
  }
  area.value = text.toString();
  area.setSelectionRange(from, to);
});
area.value = text.toString();

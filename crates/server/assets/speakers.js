// Who speaks in the room: the latest speakers first, each with when and how often.

import { cordOf, count, element } from './dom.js';
import { present } from './payload.js';

const SPEAKERS_MAX = 40;
const LAMP_MS = 4_000;

export class Speakers {
  #list = document.querySelector('#speakers');
  #nobody = document.querySelector('#nobody');
  #number = document.querySelector('#speaker-count');
  #speakers = new Map();
  #identity;
  #stale = false;

  constructor(identity) {
    this.#identity = identity;
  }

  clear() {
    this.#speakers.clear();
    this.draw();
  }

  heard(message) {
    const { name } = present(message);
    const own = this.#identity.wrote(message);
    const known = this.#speakers.get(name) ?? { times: 0 };
    this.#speakers.delete(name);
    this.#speakers.set(name, { name, own, from: message.from, at: message.at, times: known.times + 1 });
    if (this.#speakers.size > SPEAKERS_MAX) this.#speakers.delete(this.#speakers.keys().next().value);
    if (!this.#stale) {
      this.#stale = true;
      setTimeout(() => this.draw(), 50);
    }
  }

  /** Called once a second too: "12 s ago" ages. */
  draw() {
    this.#stale = false;
    const now = Date.now();
    const latest = [...this.#speakers.values()].reverse();
    const known = new Map([...this.#list.children].map((row) => [row.dataset.name, row]));
    this.#list.replaceChildren(...latest.map((speaker) => drawSpeaker(known.get(speaker.name) ?? row(speaker), speaker, now)));
    this.#nobody.hidden = latest.length > 0;
    this.#number.textContent = latest.length > 0 ? String(latest.length) : '';
  }
}

function row(speaker) {
  return element('li', { class: `speaker ${cordOf(speaker.name)}`, 'data-name': speaker.name, 'data-testid': 'speaker' },
    element('span', { class: 'avatar', 'aria-hidden': 'true' }, [...speaker.name][0].toUpperCase()),
    element('span', { class: 'who' }, element('b', {}), element('span', { class: 'from' })),
    element('span', { class: 'when' }));
}

function drawSpeaker(node, { name, own, from, at, times }, now) {
  const [, who, when] = node.children;
  set(who.firstChild, own ? `${name} (you)` : name);
  set(who.lastChild, [from && from !== name ? from : '', count(times, 'message')].filter(Boolean).join(' · '));
  set(when, ago(now - at));
  node.classList.toggle('lit', now - at < LAMP_MS);
  return node;
}

/** Writes only what differs, so that nothing is laid out anew every second for nothing. */
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function ago(ms) {
  const seconds = Math.round(ms / 1_000);
  if (!(seconds >= 2)) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3_600)} h ago`;
}

// The frames inspector: every frame in and out and every step of the line, newest last.

import { Batch, byteSize, clock, count, element, keepingEnd, stored } from './dom.js';
import { prettyNodes } from './payload.js';

const ROWS_MAX = 500;
const KEPT_CHARACTERS_MAX = 70_000;
const EXCERPT_CHARACTERS = 160;

export class Frames {
  #scroller = document.querySelector('#frames-scroller');
  #list = document.querySelector('#frame-rows');
  #words = document.querySelector('#frames-words');
  #none = document.querySelector('#no-frames');
  #pauseButton = document.querySelector('#pause');
  #filter = document.querySelector('#frame-filter');
  #direction = document.querySelector('#frame-direction');
  #pings = document.querySelector('#frame-pings');
  #records = [];
  #held = 0;
  #paused = false;
  #pingIds = new Set();
  #batch = new Batch(ROWS_MAX, (records) => this.#append(records));

  constructor() {
    this.#pings.checked = stored.read(localStorage, 'pings', true);
    this.#pings.addEventListener('change', () => {
      stored.write(localStorage, 'pings', this.#pings.checked);
      this.#redraw();
    });
    this.#filter.addEventListener('input', () => this.#redraw());
    this.#direction.addEventListener('change', () => this.#redraw());
    this.#pauseButton.addEventListener('click', () => this.#pause(!this.#paused));
    document.querySelector('#clear-frames').addEventListener('click', () => {
      this.#records = [];
      this.#held = 0;
      this.#redraw();
    });
    this.#say();
  }

  /** A frame as the line emits it. */
  add({ direction, at, bytes, text, value }) {
    const type = typeof value?.type === 'string' ? value.type : 'unknown';
    this.#keep({ direction, at, bytes, type, text: text.slice(0, KEPT_CHARACTERS_MAX), ping: this.#isPing(direction, type, value) });
  }

  /** A step of the line, shown between the frames it explains. */
  addStep(step, words) {
    this.#keep({ direction: 'line', at: Date.now(), bytes: null, type: step, text: words, ping: false });
  }

  #isPing(direction, type, value) {
    if (direction === 'out') {
      if (type !== 'ping') return false;
      this.#pingIds.add(value.id);
      if (this.#pingIds.size > 16) this.#pingIds.delete(this.#pingIds.values().next().value);
      return true;
    }
    return type === 'pong' || this.#pingIds.delete(value?.id);
  }

  #keep(record) {
    this.#records.push(record);
    if (this.#records.length > ROWS_MAX) this.#records.shift();
    if (!this.#paused) {
      this.#batch.push(record);
    } else {
      this.#held = Math.min(this.#held + 1, ROWS_MAX);
      this.#say();
    }
  }

  #pause(paused) {
    this.#paused = paused;
    this.#held = 0;
    this.#pauseButton.setAttribute('aria-pressed', String(paused));
    this.#pauseButton.querySelector('span').textContent = paused ? 'Resume' : 'Pause';
    if (!paused) this.#redraw();
    this.#say();
  }

  #wanted(record) {
    if (record.ping && !this.#pings.checked) return false;
    const direction = this.#direction.value;
    if (direction !== 'all' && record.direction !== direction) return false;
    const words = this.#filter.value.trim().toLowerCase();
    return words === '' || record.text.toLowerCase().includes(words) || record.type.includes(words);
  }

  #append(records) {
    keepingEnd(this.#scroller, () => {
      this.#list.append(...records.filter((record) => this.#wanted(record)).map(row));
      while (this.#list.children.length > ROWS_MAX) this.#list.firstElementChild.remove();
    });
    this.#say();
  }

  #redraw() {
    this.#batch.clear();
    const known = this.#records.slice(0, Math.max(0, this.#records.length - this.#held));
    this.#list.replaceChildren(...known.filter((record) => this.#wanted(record)).map(row));
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#say();
  }

  #say() {
    const shown = this.#list.children.length;
    const hidden = this.#records.length - shown - this.#held;
    const parts = [count(shown, 'row')];
    if (hidden > 0) parts.push(`${hidden} filtered out`);
    if (this.#paused) parts.push(`paused, ${this.#held} newer`);
    this.#words.textContent = parts.join(' · ');
    this.#none.hidden = shown > 0;
    this.#none.textContent = this.#records.length > this.#held ? 'No frame matches the filter.' : 'No frames yet. They appear as soon as the line is dialled.';
  }
}

const ARROWS = { in: '↓', out: '↑', line: '●' };
const SPOKEN = { in: 'in', out: 'out', line: 'line' };

function row(record) {
  const summary = element('summary', {},
    element('time', {}, clock(record.at, 'milliseconds')),
    element('span', { class: 'arrow' }, element('span', { 'aria-hidden': 'true' }, ARROWS[record.direction]),
      element('span', { class: 'spoken' }, SPOKEN[record.direction])),
    element('span', { class: 'type' }, record.type),
    element('span', { class: 'excerpt' }, excerpt(record)),
    element('span', { class: 'size' }, record.bytes === null ? '' : byteSize(record.bytes)));
  const attributes = { class: `frame ${record.direction}`, 'data-testid': 'frame', 'data-direction': record.direction, 'data-type': record.type };
  if (record.direction === 'line') return element('li', attributes, element('p', {}, ...summary.childNodes));
  const details = element('details', {}, summary);
  details.addEventListener('toggle', () => {
    if (!details.open) return;
    if (details.childElementCount === 1) details.append(element('pre', { tabindex: '0', 'aria-label': 'The frame' }, pretty(record.text)));
    details.scrollIntoView({ block: 'nearest' });
  });
  return element('li', attributes, details);
}

/** The frame without what its row says already. */
function excerpt({ type, text }) {
  const named = `{"type":"${type}",`;
  const rest = text.startsWith(named) ? text.slice(named.length, text.endsWith('}') ? -1 : undefined) : text;
  return rest.slice(0, EXCERPT_CHARACTERS);
}

function pretty(text) {
  try {
    return prettyNodes(JSON.parse(text));
  } catch {
    return text;
  }
}

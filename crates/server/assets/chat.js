// The conversation: what was said in the room, what became of the line meanwhile, and what the user
// wrote that is still on its way.

import { Batch, clock, cordOf, count, element, keepingEnd } from './dom.js';
import { present } from './payload.js';

const ROWS_MAX = 500;
/** Messages of one speaker this close together share one byline. */
const TOGETHER_MS = 120_000;

const EMPTY = {
  away: ['The line is not open.', 'Once it is, what is said in this room appears here.'],
  joining: ['Joining…', 'Asking the server for the room and its latest messages.'],
  joined: ['Nobody has spoken here yet.', 'Say something, open a second tab, or join from a terminal.'],
  refused: ['The server did not let us in.', ''],
};

export class Chat {
  #log = document.querySelector('#log');
  #rows = document.querySelector('#rows');
  #pending = document.querySelector('#pending');
  #empty = document.querySelector('#empty');
  #newer = document.querySelector('#newer');
  #batch = new Batch(ROWS_MAX, (entries) => this.#draw(entries));
  #identity;
  #outbox;
  #last = null;
  #unseen = 0;
  #channel = '';

  constructor(identity, outbox) {
    this.#identity = identity;
    this.#outbox = outbox;
    this.#newer.addEventListener('click', () => {
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#log.focus();
    });
    this.#log.addEventListener('scroll', () => this.#noticeEnd(), { passive: true });
    outbox.on('change', () => this.#drawPending());
    new ResizeObserver(() => { if (this.#unseen === 0) this.#toEnd(); }).observe(this.#log);
  }

  /** Empties the page for another room. */
  open(channel) {
    this.#channel = channel;
    this.#batch.clear();
    this.#rows.replaceChildren();
    this.#last = null;
    this.#unseen = 0;
    this.#noticeEnd();
    this.#drawPending();
    this.showPhase({ name: 'away' });
  }

  add(entry) {
    this.#batch.push(entry);
  }

  showPhase({ name, refusal }) {
    const [heading, words] = EMPTY[name];
    this.#log.setAttribute('aria-busy', String(name === 'joining'));
    this.#empty.dataset.phase = name;
    this.#empty.querySelector('h3').textContent = heading;
    this.#empty.querySelector('p').textContent = refusal ? refusalWords(refusal) : words;
    this.#showEmpty(name === 'refused');
  }

  #showEmpty(force = this.#empty.dataset.phase === 'refused') {
    const spoken = this.#rows.children.length > 0 || this.#pending.children.length > 0;
    this.#empty.hidden = spoken && !force;
  }

  #draw(entries) {
    const before = this.#rows.children.length;
    const atEnd = keepingEnd(this.#log, () => {
      for (const entry of entries) this.#rows.append(...this.#rowsFor(entry));
      while (this.#rows.children.length > ROWS_MAX) this.#rows.firstElementChild.remove();
      this.#showEmpty();
    });
    if (!atEnd && before > 0) this.#unseen += entries.filter(({ kind }) => kind === 'message').length;
    this.#noticeEnd();
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #noticeEnd() {
    const below = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
    if (below < 40) this.#unseen = 0;
    this.#newer.hidden = this.#unseen === 0;
    this.#newer.querySelector('span').textContent = count(this.#unseen, 'new message');
  }

  #rowsFor(entry) {
    if (entry.kind !== 'message') {
      // "Nothing was missed" would be a bold claim about a log that has just begun anew.
      if (entry.kind === 'caught-up' && entry.count === 0 && entry.anew) return [];
      this.#last = null;
      return [divider(entry)];
    }
    const { message } = entry;
    const shown = present(message);
    const own = this.#identity.wrote(message);
    const speaker = `${own} ${shown.name} ${message.from}`;
    const last = this.#last;
    const together = last?.speaker === speaker && Math.abs(message.at - last.at) < TOGETHER_MS;
    if (together && shown.kind === 'burst' && last.burst) {
      last.burst.grow(message.offset);
      last.at = message.at;
      return [];
    }
    const burst = shown.kind === 'burst' ? new Burst(message.offset) : null;
    this.#last = { speaker, at: message.at, burst };
    return [said(message, shown, { own, together, burst })];
  }

  #drawPending() {
    const entries = this.#outbox.entries.filter(({ channel }) => channel === this.#channel);
    const known = new Map([...this.#pending.children].map((node) => [node.dataset.key, node]));
    keepingEnd(this.#log, () => {
      this.#pending.replaceChildren(...entries.map((entry) => this.#pendingRow(entry, known.get(entry.key))));
      this.#showEmpty();
    });
    if (entries.some(({ state }) => state === 'waiting' || state === 'sending')) this.#toEnd();
  }

  #pendingRow(entry, known) {
    const words = pendingWords(entry);
    if (known?.dataset.words === words) return known;
    const row = element('li', {
      class: `said own pending ${cordOf(entry.data.name)}`, 'data-key': entry.key, 'data-state': entry.state,
      'data-words': words, 'data-testid': 'pending',
    });
    row.append(element('div', { class: 'spoken-part' },
      element('p', { class: 'bubble' }, entry.data.text),
      element('p', { class: 'meta' }, words)));
    if (entry.state === 'refused') {
      const again = element('button', { type: 'button', class: 'small' }, 'Send again');
      again.addEventListener('click', () => this.#outbox.tryAgain(entry));
      const discard = element('button', { type: 'button', class: 'small' }, 'Discard');
      discard.addEventListener('click', () => this.#outbox.discard(entry));
      row.lastChild.append(element('p', { class: 'choices' }, again, discard));
    }
    return row;
  }
}

/** A run of test messages, shown as one row that counts. */
class Burst {
  #first;
  #count = 1;
  words = element('p', { class: 'bubble burst' });
  place = element('span', { class: 'offset' });

  constructor(offset) {
    this.#first = offset;
    this.grow(offset, 0);
  }

  grow(offset, by = 1) {
    this.#count += by;
    this.words.textContent = count(this.#count, 'test message');
    this.place.textContent = this.#count > 1 ? `#${this.#first} – #${offset}` : `#${offset}`;
  }
}

function said(message, shown, { own, together, burst }) {
  const classes = ['said', cordOf(shown.name), own ? 'own' : '', together ? 'together' : ''];
  const row = element('li', { class: classes.join(' '), 'data-testid': 'said', 'data-own': String(own), 'data-offset': message.offset });
  const name = own ? `${shown.name} (you)` : shown.name;
  const byline = element('p', { class: together ? 'byline spoken' : 'byline' }, element('b', {}, name));
  if (message.from && message.from !== shown.name) byline.append(' ', element('span', { class: 'from' }, message.from));
  const body = burst?.words ?? bubble(shown);
  const place = burst?.place ?? element('span', { class: 'offset' }, `#${message.offset}`);
  const at = Number.isFinite(message.at) ? new Date(message.at) : null;
  const time = at ? element('time', { datetime: at.toISOString(), title: at.toLocaleString() }, clock(at)) : '';
  row.append(
    element('span', { class: 'avatar', 'aria-hidden': 'true' }, [...shown.name][0].toUpperCase()),
    element('div', { class: 'spoken-part' }, byline, body, element('p', { class: 'meta' }, time, ' ', place)),
  );
  return row;
}

function bubble(shown) {
  if (shown.kind === 'text' && shown.note !== 'text') return element('p', { class: 'bubble' }, shown.text);
  if (shown.kind === 'text') return element('p', { class: 'bubble plain' }, shown.text);
  return element('div', { class: 'bubble shaped' },
    element('span', { class: 'shape' }, shown.note),
    element('pre', { tabindex: '0', 'aria-label': shown.note }, shown.text));
}

function divider(entry) {
  const [kind, words] = dividerWords(entry);
  return element('li', { class: `divider ${kind}`, 'data-testid': 'divider', 'data-kind': entry.kind }, element('span', {}, words));
}

function dividerWords(entry) {
  switch (entry.kind) {
    case 'caught-up':
      return ['good', entry.count === 0 ? 'back on the line, nothing was missed' : `caught up ${count(entry.count, 'message')}`];
    case 'gap':
      return ['bad', entry.from === entry.to
        ? `message ${entry.from} is missing: the server no longer has it`
        : `messages ${entry.from} to ${entry.to} are missing: the server no longer has them`];
    case 'reset':
      return ['warn', 'a new log began here: positions start anew'];
    case 'lost':
      return ['quiet', `the line closed${entry.words ? `: ${entry.words}` : ''}`];
    default:
      return ['quiet', entry.kind];
  }
}

function pendingWords({ state, refusal }) {
  if (state === 'refused') return `not sent: ${refusalWords(refusal)}`;
  return state === 'waiting' ? 'waits for the line' : 'on its way';
}

export function refusalWords(refusal) {
  const words = refusal.message && refusal.message !== refusal.code ? `${refusal.message} (${refusal.code})` : refusal.code;
  return words.charAt(0).toUpperCase() + words.slice(1);
}

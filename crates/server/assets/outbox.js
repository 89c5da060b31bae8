// What the user wrote and the server has not acknowledged yet. One publication at a time, oldest
// first, so that their order is the order of writing; each carries a key, so that sending it again
// after a broken line cannot make it appear twice.
//
// Event: `change`, after anything in `entries` changed. An entry is `{channel, data, key, state,
// refusal, offset}` with state waiting, sending, acknowledged or refused.

import { Emitter } from './emitter.js';

const ENTRIES_MAX = 20;

export class Outbox extends Emitter {
  #line;
  #flowing = false;
  #busy = false;
  #wake = 0;
  #writer = Math.random().toString(36).slice(2, 10);
  #written = 0;
  #seen = { channel: null, offset: -1 };
  entries = [];

  constructor(line) {
    super();
    this.#line = line;
  }

  /**
   * Whether to send now. Held back while the room is still being read, so that what the user wrote
   * on a closed line comes after what was missed there, and is not counted among it.
   */
  flow(flowing) {
    this.#flowing = flowing;
    this.#next();
  }

  /** Returns false, and keeps nothing, when too much is waiting already. */
  write(channel, data) {
    if (this.entries.length >= ENTRIES_MAX) return false;
    this.#written += 1;
    const key = `${this.#writer}-${this.#written}`;
    this.entries.push({ channel, data, key, state: 'waiting', refusal: null, offset: null });
    this.emit('change');
    this.#next();
    return true;
  }

  tryAgain(entry) {
    entry.state = 'waiting';
    entry.refusal = null;
    this.emit('change');
    this.#next();
  }

  discard(entry) {
    this.entries = this.entries.filter((other) => other !== entry);
    this.emit('change');
  }

  /** The page has read `channel` up to `offset`: what stands for messages up to there may go. */
  seen(channel, offset) {
    this.#seen = { channel, offset };
    this.#settle();
  }

  /** An acknowledged entry stays only while its message is still to come through the room on show. */
  #settle() {
    const { channel, offset } = this.#seen;
    const stays = (entry) => entry.offset === null || (entry.channel === channel && entry.offset > offset);
    if (this.entries.every(stays)) return;
    this.entries = this.entries.filter(stays);
    this.emit('change');
  }

  async #next() {
    const entry = this.entries.find(({ state }) => state === 'waiting');
    if (!this.#flowing || this.#busy || this.#wake || !entry || !this.#line.status.ready) return;
    this.#busy = true;
    entry.state = 'sending';
    this.emit('change');
    try {
      const { channel, data, key } = entry;
      const published = await this.#line.request({ type: 'publish', channel, data, key });
      entry.state = 'acknowledged';
      entry.offset = published.offset ?? 0;
      this.#settle();
    } catch (refusal) {
      this.#refused(entry, refusal);
    }
    this.#busy = false;
    this.emit('change');
    this.#next();
  }

  #refused(entry, refusal) {
    const again = refusal.code === 'not_connected' || refusal.code === 'no_answer' || refusal.retryAfterMs !== null;
    entry.state = again ? 'waiting' : 'refused';
    entry.refusal = refusal;
    if (refusal.retryAfterMs === null || this.#wake) return;
    this.#wake = setTimeout(() => { this.#wake = 0; this.#next(); }, refusal.retryAfterMs);
  }
}

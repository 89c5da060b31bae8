// What the user wrote and the server has not acknowledged yet. The client package keeps it, in its
// order and once, while the line is away; this is what the page shows of that, and what outlives a
// client that was closed.
//
// Event: `change`, after anything in `entries` changed. An entry is `{channel, data, key, state,
// refusal, offset}` with state waiting, sending, acknowledged or refused.

import { Emitter } from './emitter.js';

const ENTRIES_MAX = 20;

export class Outbox extends Emitter {
  #line;
  #writer = Math.random().toString(36).slice(2, 10);
  #written = 0;
  #seen = { channel: null, offset: -1 };
  #flowing = false;
  entries = [];

  constructor(line) {
    super();
    this.#line = line;
  }

  /**
   * Whether to send now. Held back while the room is not joined, so that what the user wrote on a
   * closed line comes after what was missed there.
   */
  flow(flowing) {
    this.#flowing = flowing;
    for (const entry of this.entries) this.#send(entry);
  }

  /** Returns false, and keeps nothing, when too much is waiting already. */
  write(channel, data) {
    if (this.entries.length >= ENTRIES_MAX) return false;
    this.#written += 1;
    const key = `${this.#writer}-${this.#written}`;
    const entry = { channel, data, key, state: 'waiting', refusal: null, offset: null };
    this.entries.push(entry);
    this.#send(entry);
    this.emit('change');
    return true;
  }

  tryAgain(entry) {
    entry.state = 'waiting';
    entry.refusal = null;
    this.#send(entry);
    this.emit('change');
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

  async #send(entry) {
    const { client } = this.#line;
    if (!this.#flowing || !client || entry.state !== 'waiting') return;
    entry.state = 'sending';
    try {
      const { channel, data, key } = entry;
      const { offset } = await client.publish(channel, data, { key });
      entry.state = 'acknowledged';
      entry.offset = offset;
      this.#settle();
    } catch (error) {
      // A client that was closed: the next one takes it.
      entry.state = error.code === 'closed' ? 'waiting' : 'refused';
      entry.refusal = entry.state === 'refused' ? error : null;
    }
    this.emit('change');
  }
}

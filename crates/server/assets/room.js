// One room, followed across connections: subscribe, fetch what was missed, then live. A room is a
// cursor over its channel's log: `#offset` and `#position` say how far this page has read.
//
// While a page of history is being fetched, live frames are held back, so that entries come out in
// the log's order and each once. Should too many be held, they are forgotten and read from the log.
//
// Events: `entry` with `{kind: 'message', message, origin}` where origin is earlier, missed or live,
// or `{kind: 'caught-up', count, anew}`, `{kind: 'gap', from, to}`, `{kind: 'reset'}`, `{kind: 'cut'}`;
// `presence` with `{members, count, users}`, members null where there are too many to be listed;
// `phase` with `{name, refusal?}`, name one of away, joining, joined, refused.

import { Emitter } from './emitter.js';

const PAGE_MESSAGES = 50;
const PAGES_MAX = 100;
const HELD_MAX = 1_000;
const PATIENCE_MAX = 5;

export class Room extends Emitter {
  #line;
  #position = null;
  #offset = -1;
  #held = null;
  #heldTooMany = false;
  #life = 0;
  #members = new Map();
  #info;
  #endings = [];
  phase = { name: 'away' };

  /** `info` is what the others see of us. */
  constructor(line, channel, info) {
    super();
    this.#line = line;
    this.#info = info;
    this.channel = channel;
  }

  enter() {
    const own = (act) => (frame) => { if (frame.channel === this.channel) act(frame); };
    this.#endings = [
      this.#line.on('welcome', () => this.#join()),
      this.#line.on('status', (status) => { if (!status.ready && this.phase.name !== 'away') this.#lose(); }),
      this.#line.on('presence', own((frame) => this.#fold(frame))),
      ...['message', 'gap', 'reset'].map((kind) => this.#line.on(kind, own((frame) => this.#arrive(frame)))),
    ];
    if (this.#line.status.ready) this.#join();
    else this.#enterPhase('away');
  }

  leave() {
    this.#life += 1;
    for (const end of this.#endings) end();
    if (this.#line.status.ready) this.#line.request({ type: 'unsubscribe', channel: this.channel }).catch(() => {});
  }

  #enterPhase(name, refusal) {
    this.phase = { name, refusal };
    this.emit('phase', this.phase);
  }

  #lose() {
    this.#life += 1;
    this.#held = null;
    this.#enterPhase('away');
  }

  async #join() {
    const life = ++this.#life;
    this.#held = [];
    this.#enterPhase('joining');
    try {
      const subscribed = await this.#ask({ type: 'subscribe', channel: this.channel, presence: true, info: this.#info });
      if (life !== this.#life) return;
      if (this.#position === null) await this.#readNewest(life, subscribed);
      else await this.#readMissed(life, true);
      if (life !== this.#life) return;
      this.#release();
      this.#enterPhase('joined');
    } catch (refusal) {
      if (life !== this.#life) return;
      this.#held = null;
      this.#enterPhase('refused', refusal);
    }
  }

  /** The first visit: the newest page, as scroll-back. A room that keeps no history still works. */
  async #readNewest(life, subscribed) {
    try {
      const page = await this.#ask({ type: 'history', channel: this.channel, limit: PAGE_MESSAGES });
      if (life !== this.#life) return;
      for (const message of page.messages ?? []) this.#take(message, 'earlier');
      this.#position ??= page.position ?? subscribed.position;
    } catch (refusal) {
      if (refusal.code === 'not_connected') throw refusal;
      if (life === this.#life) this.#position = subscribed.position;
    }
  }

  /** Reads on from the last position to the head of the log, page by page. */
  async #readMissed(life, announce) {
    let count = 0;
    let pages = 0;
    let anew = false;
    let page;
    do {
      this.#heldTooMany = false;
      page = await this.#ask({ type: 'history', channel: this.channel, since: this.#position, limit: PAGE_MESSAGES });
      if (life !== this.#life) return;
      if (page.reset) { anew = true; this.#startAnew(); }
      if (page.gap) this.#tellGap(page.gap);
      for (const message of page.messages ?? []) count += this.#take(message, 'missed');
      this.#position = page.position ?? this.#position;
      pages += 1;
    } while (pages < PAGES_MAX && ((page.more && page.messages?.length > 0) || this.#heldTooMany));
    if (page.more) this.emit('entry', { kind: 'cut' });
    if (announce) this.emit('entry', { kind: 'caught-up', count, anew });
  }

  /** Who is there: a whole list, a change of it, or how many, where there are too many to be listed. */
  #fold({ members, joined, left, count, users }) {
    const name = ({ user, session }) => `${session} ${user}`;
    if (members) this.#members = new Map(members.map((member) => [name(member), member]));
    else if (!joined && !left) this.#members = null;
    for (const member of joined ?? []) this.#members?.set(name(member), member);
    for (const member of left ?? []) this.#members?.delete(name(member));
    this.emit('presence', { members: this.#members && [...this.#members.values()], count, users });
  }

  /** A live frame: taken at once, or held while history is being read. */
  #arrive(frame) {
    if (this.#held === null) {
      if (this.phase.name === 'joined') this.#takeLive(frame);
      return;
    }
    if (this.#held.length < HELD_MAX) {
      this.#held.push(frame);
    } else {
      this.#held = [];
      this.#heldTooMany = true;
    }
  }

  #takeLive(frame) {
    if (frame.type === 'message') {
      this.#take(frame, 'live');
    } else if (frame.type === 'reset') {
      this.#startAnew();
      this.#position = frame.position ?? this.#position;
    } else if (frame.to > this.#offset) {
      this.#mend(frame);
    }
  }

  #release() {
    const held = this.#held;
    this.#held = null;
    while (held.length > 0) {
      this.#takeLive(held.shift());
      if (this.#held !== null) {
        // A gap among the held frames started another reading: the rest waits for it.
        this.#held.push(...held);
        return;
      }
    }
  }

  /** The server skipped messages for us. The log may still hold them: ask before telling of a loss. */
  async #mend(gap) {
    const life = this.#life;
    this.#held = [];
    try {
      await this.#readMissed(life, false);
    } catch { /* what could not be read is told below */ }
    if (life !== this.#life) return;
    if (this.#offset < gap.to) {
      this.#tellGap({ from: Math.max(gap.from, this.#offset + 1), to: gap.to });
      this.#position = gap.position ?? this.#position;
    }
    this.#release();
  }

  #tellGap({ from, to }) {
    this.emit('entry', { kind: 'gap', from, to });
    this.#offset = Math.max(this.#offset, to);
  }

  /** Positions of another life of the log say nothing about this one. */
  #startAnew() {
    this.#offset = -1;
    this.emit('entry', { kind: 'reset' });
  }

  /** Takes a message unless it was taken before; offsets strictly increase within one life of the log. */
  #take(message, origin) {
    if (!(message.offset > this.#offset)) return 0;
    this.#offset = message.offset;
    this.#position = message.position ?? this.#position;
    this.emit('entry', { kind: 'message', message, origin });
    return 1;
  }

  /** A request that waits and tries again, a few times, where the server says when. */
  async #ask(command) {
    for (let patience = PATIENCE_MAX; ; patience -= 1) {
      try {
        return await this.#line.request(command);
      } catch (refusal) {
        if (refusal.retryAfterMs === null || patience === 0) throw refusal;
        await new Promise((resume) => { setTimeout(resume, refusal.retryAfterMs); });
      }
    }
  }
}

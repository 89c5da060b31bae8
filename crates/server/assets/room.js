// One room, followed across connections and clients: the newest messages first, then live. Where the
// page has read to is the channel's position, which a new client goes on from.
//
// Events: `entry` with `{kind: 'message', message, origin}` where origin is earlier, missed or live,
// or `{kind: 'caught-up', count, anew}`, `{kind: 'gap', from, to}`, `{kind: 'reset'}`;
// `presence` with `{members, count, users}`, members null where there are too many to be listed;
// `phase` with `{name, refusal?}`, name one of away, joining, joined, refused.

import { Emitter } from './emitter.js';

const PAGE_MESSAGES = 50;
/** What was missed comes at once; a pause ends it. */
const CAUGHT_UP_AFTER_MS = 150;

export class Room extends Emitter {
  #line;
  #position;
  #offset = -1;
  #life = 0;
  #info;
  #endings = [];
  #missed = null;
  #wasJoined = false;
  phase = { name: 'away' };

  /** `info` is what the others see of us. */
  constructor(line, channel, info) {
    super();
    this.#line = line;
    this.#info = info;
    this.channel = channel;
  }

  enter() {
    this.#endings = [
      this.#line.on('client', (client) => this.#join(client)),
      this.#line.on('status', (status) => { if (!status.ready && this.phase.name !== 'refused') this.#enterPhase('away'); }),
    ];
    this.#enterPhase('away');
    if (this.#line.client) this.#join(this.#line.client);
  }

  leave() {
    this.#life += 1;
    for (const end of this.#endings) end();
    this.#endings = [];
  }

  #enterPhase(name, refusal) {
    if (this.phase.name === name && !refusal) return;
    this.phase = { name, refusal };
    this.emit('phase', this.phase);
  }

  async #join(client) {
    const life = ++this.#life;
    const channel = client.channel(this.channel);
    if (this.#position === undefined) await this.#readNewest(client, channel, life);
    if (life !== this.#life) return;
    this.#enterPhase('joining');
    const { subscription, offs } = this.#subscribe(channel, life);
    this.#endings.push(() => {
      for (const off of offs) off();
      subscription.unsubscribe();
    });
  }

  /** The first visit: the newest page, as scroll-back. Not everywhere there is one. */
  async #readNewest(client, channel, life) {
    try {
      const { messages, position } = await channel.history({ limit: PAGE_MESSAGES });
      if (life !== this.#life) return;
      for (const message of messages) this.#take(message, 'earlier');
      this.#position = position;
    } catch (error) {
      if (error.code === 'closed') this.#life += 1;
    }
  }

  #subscribe(channel, life) {
    const own = (act) => (value) => { if (life === this.#life) act(value); };
    const offs = [
      channel.on('subscribed', own(({ recovered, position }) => {
        this.#position ??= position;
        if (recovered !== undefined && this.#wasJoined) this.#catchUp();
        else this.#enterPhase('joined');
        this.#wasJoined = true;
      })),
      channel.on('message', own((message) => this.#take(message, this.#missed ? 'missed' : 'live'))),
      channel.on('gap', own(({ from, to, position }) => {
        this.#position = position;
        this.#offset = Math.max(this.#offset, to);
        this.emit('entry', { kind: 'gap', from, to });
      })),
      channel.on('reset', own(({ position }) => {
        this.#position = position;
        this.#offset = -1;
        if (this.#missed) this.#missed.anew = true;
        this.emit('entry', { kind: 'reset' });
      })),
      channel.on('presence', own(({ members, count, users, listed }) => {
        this.emit('presence', { members: listed ? [...members.values()] : null, count, users });
      })),
      channel.on('error', own((error) => this.#enterPhase('refused', error))),
    ];
    const subscription = channel.subscribe({ since: this.#position, presence: true, info: this.#info });
    return { subscription, offs };
  }

  /** It is back: what comes at once is what it has missed. */
  #catchUp() {
    clearTimeout(this.#missed?.timer);
    const missed = { count: 0, anew: false };
    missed.wait = () => {
      clearTimeout(missed.timer);
      missed.timer = setTimeout(() => {
        if (this.#missed !== missed) return;
        this.#missed = null;
        this.emit('entry', { kind: 'caught-up', count: missed.count, anew: missed.anew });
        if (this.#line.status.ready) this.#enterPhase('joined');
      }, CAUGHT_UP_AFTER_MS);
    };
    this.#missed = missed;
    missed.wait();
  }

  #take(message, origin) {
    if (!(message.offset > this.#offset)) return;
    this.#offset = message.offset;
    this.#position = message.position ?? this.#position;
    if (this.#missed) {
      this.#missed.count += 1;
      this.#missed.wait();
    }
    this.emit('entry', { kind: 'message', message, origin });
  }
}

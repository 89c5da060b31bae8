// The JavaScript clients of a history: they do what their plans say, and write down what happens to them, in the format of
// `switchboard_check::log`. One process runs all of one history. Its first line of input says what is to be done, each further one is a
// phase; what was reached it says on its output.
//
//     {"origin_ns":"…","url":"…","directory":"…","sdk":"…","clients":[…]}

import { writeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { Buffer } from 'node:buffer';
import * as zlib from 'node:zlib';

/** Publications without an answer. Beyond, a client waits for one. */
const OUTSTANDING_MAX = 200;
/** A channel that nobody uses stays subscribed for 0.1 s; after that one that begins again is a subscription of its own. */
const LEFT_AFTER_MS = 250;
/** Before a subscription that the server has ended is begun again. */
const AGAIN_MS = 50;

// ── what payloads are ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? 0xedb88320 ^ (sum >>> 1) : sum >>> 1;
  return sum;
});

function tableCrc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

const crc32 = zlib.crc32 ?? tableCrc32;
const sum = ({ p, n, c, b }) => crc32(Buffer.from(`${p}\n${n}\n${c}\n${b}`)).toString(16).padStart(8, '0');

/** What came, if it is what somebody said. */
function read(data) {
  try {
    const text = data instanceof Uint8Array ? Buffer.from(data).toString() : data;
    const payload = typeof text === 'string' ? JSON.parse(text) : text;
    return payload.s === sum(payload) ? payload : undefined;
  } catch {
    return undefined;
  }
}

// ── choices from a seed (mulberry32) ─────────────────────────────────────────────────────────────────────────────────────────────────

class Random {
  constructor(seed) {
    this.state = Number(BigInt(seed) & 0xffffffffn) ^ Number(BigInt(seed) >> 32n);
  }

  number() {
    let mixed = (this.state = (this.state + 0x6d2b79f5) | 0);
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  between(low, high) {
    return low + (this.number() % (high - low + 1));
  }

  percent(percent) {
    return this.between(1, 100) <= percent;
  }

  one(of) {
    return of[this.number() % of.length];
  }
}

// ── one client ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Actor {
  constructor(world, plan) {
    this.world = world;
    this.plan = plan;
    this.random = new Random(plan.seed);
    this.file = openSync(join(world.directory, `${plan.name}.log`), 'a');
    this.streams = new Map();
    this.lastStream = 0;
    this.incarnation = 0;
    this.number = 0;
    this.outstanding = 0;
    this.timers = new Set();
    this.open(plan.streams.map((wish) => ({ wish, since: undefined })));
  }

  write(event, line = {}) {
    if (this.isWhole) return;
    // What follows is the end of the harness.
    this.isWhole = event === 'ended';
    const at = Number((process.hrtime.bigint() - this.world.origin) / 1000n);
    writeSync(this.file, `${JSON.stringify({ at, event, ...line })}\n`);
    setImmediate(look);
  }

  after(ms, callback) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      callback();
    }, ms);
    this.timers.add(timer);
  }

  every(ms, callback) {
    if (!ms || this.world.phase !== 0) return;
    this.after(this.random.between(Math.ceil(ms / 2), Math.ceil(ms * 1.5)), () => {
      if (this.world.phase === 0) callback();
      this.every(ms, callback);
    });
  }

  /** Begins as a new client, as a page does. */
  open(streams) {
    this.incarnation++;
    this.number = 0;
    this.publisher = `${this.plan.name}/${this.incarnation}`;
    this.session = undefined;
    this.client = new this.world.Switchboard(this.world.url, {
      WebSocket: this.world.WebSocket,
      transports: [this.plan.transport],
      backoff: { baseMs: 50, capMs: 800 },
      patienceMs: 3_000,
      trace: (direction, what) => direction === 'out' && this.asked(what),
    });
    let isOpen = false;
    const client = this.client;
    this.client.on('state', ({ status }) => {
      if (client !== this.client) return;
      // It may be another session over the same connection.
      this.stand();
      if ((status === 'open') === isOpen) return;
      isOpen = status === 'open';
      this.write(isOpen ? 'connected' : 'disconnected');
      if (isOpen) this.stand();
    });
    for (const { wish, since } of streams) this.begin(wish, since);
    const { publishes, restless_ms, reloads_ms } = this.plan;
    if (publishes) this.every(publishes.every_ms, () => this.publish(publishes));
    this.every(restless_ms, () => this.leaveOne());
    if (reloads_ms && this.world.phase === 0) {
      this.after(this.random.between(Math.ceil(reloads_ms / 2), Math.ceil(reloads_ms * 1.5)), () => {
        if (this.world.phase === 0) this.reload();
      });
    }
  }

  /** Subscriptions are asked for by commands, or by requests that read several channels. */
  asked({ type, channel }) {
    if (!['subscribe', 'sse', 'poll'].includes(type)) return;
    for (const stream of this.streams.values()) {
      if (type === 'subscribe' && stream.wish.channel !== channel) continue;
      this.write('asked', { stream: stream.number });
    }
  }

  reload() {
    const streams = [...this.streams.values()].map(({ wish, position }) => ({ wish, since: position }));
    this.close();
    this.open(streams);
  }

  close() {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    // A page says nothing to its channels when it goes.
    for (const { number } of this.streams.values()) this.write('unsubscribed', { stream: number });
    this.streams.clear();
    this.client.close();
    this.write('disconnected');
  }

  begin(wish, since) {
    const number = ++this.lastStream;
    const channel = this.client.channel(wish.channel);
    const stream = { number, wish, channel, position: since, isSubscribed: false, members: undefined, offs: [] };
    this.streams.set(number, stream);
    this.write('subscribing', { stream: number, channel: wish.channel, since, conflates: wish.latest || undefined });
    if (wish.hears) this.write('hears', { stream: number });
    const isThere = () => this.streams.has(number);
    const on = (name, listener) => stream.offs.push(channel.on(name, (value) => isThere() && listener(value)));
    on('subscribed', ({ position, recovered: isRecovered }) => {
      // A poll that goes on is not told whether something is missing: the client only saw no gap yet, or one, which where slow
      // readers are told gaps may be one of those.
      const isUnknown = this.plan.transport === 'poll' && (isRecovered || this.plan.drops);
      const recovered = isUnknown ? undefined : isRecovered;
      stream.isSubscribed = true;
      stream.position ??= position;
      this.write('subscribed', { stream: number, position, recovered });
      this.stand();
    });
    on('gap', ({ from, position, conflated }) => {
      stream.position = position;
      this.write('gap', { stream: number, from, position, conflated: conflated || undefined });
    });
    on('reset', ({ position }) => {
      stream.position = position;
      this.write('reset', { stream: number, position });
    });
    on('presence', ({ members, count, listed }) => this.hear(stream, members, count, listed));
    const over = (error) => {
      if (!isThere()) return;
      this.mind(error);
      this.end(stream, 'closed');
      this.after(AGAIN_MS, () => this.begin(wish, stream.position));
    };
    on('error', over);
    const subscription = channel.subscribe(
      // What comes after the end is written down, too: it should not.
      ({ data, position }) => {
        stream.position = position;
        const payload = read(data);
        if (!payload) return this.write('altered', { stream: number, position });
        const { p: publisher, n, c } = payload;
        this.write('received', { stream: number, position, channel: c, publisher, n });
      },
      {
        since,
        latest: wish.latest || undefined,
        presence: wish.member && wish.hears ? true : wish.member ? 'member' : wish.hears ? 'watch' : undefined,
      },
    );
    stream.offs.push(() => subscription.unsubscribe());
    // Where the error event was, this is the same.
    subscription.ready.catch((error) => setImmediate(over, error));
  }

  end(stream, event = 'unsubscribed') {
    this.streams.delete(stream.number);
    for (const off of stream.offs) off();
    this.write(event, { stream: stream.number });
  }

  leaveOne() {
    const stream = this.random.one([...this.streams.values()]);
    if (!stream) return;
    this.end(stream);
    const since = this.random.percent(80) ? stream.position : undefined;
    this.leaving = (this.leaving ?? 0) + 1;
    const client = this.client;
    setTimeout(() => {
      this.leaving--;
      // Of another page: it begins what the one before had.
      this.begin(stream.wish, client === this.client ? since : stream.position);
    }, LEFT_AFTER_MS);
  }

  /** The session with which it is seen may be another one since the last connection. */
  stand() {
    // A poll that goes on is not told its session again: it is the same, or a welcome would have come.
    const session = (this.session = this.client.state.session || this.session);
    if (!session) return;
    for (const stream of this.streams.values()) {
      if (!stream.wish.member || !stream.isSubscribed || stream.stands === session) continue;
      stream.stands = session;
      this.write('stands', { stream: stream.number, member: session });
    }
  }

  hear(stream, members, count, listed) {
    const sessions = [...members.keys()];
    stream.members = listed ? sessions.sort() : undefined;
    stream.count = listed ? undefined : count;
    const complete = listed || undefined;
    this.write('members', { stream: stream.number, count, complete });
    if (listed) for (const member of sessions) this.write('member', { stream: stream.number, member });
  }

  publish({ channels, conflate_percent, large_percent }) {
    if (this.outstanding >= OUTSTANDING_MAX) return;
    const { random, publisher } = this;
    const c = random.one(channels);
    const n = ++this.number;
    const bytes = random.percent(large_percent) ? random.between(4_000, 30_000) : random.between(0, 300);
    let b = '';
    while (b.length < bytes) b += random.number().toString(16).padStart(8, '0');
    const payload = { p: publisher, n, c, b };
    payload.s = sum(payload);
    const how = random.between(0, 9);
    const json = JSON.stringify(payload);
    const data = how === 0 ? json : how === 1 ? new Uint8Array(Buffer.from(json)) : payload;
    const conflate = random.percent(conflate_percent) ? `state-${random.between(1, 3)}` : undefined;
    this.write('invoked', { publisher, n, channel: c, keyed: true, conflate });
    this.outstanding++;
    this.client.publish(c, data, { conflate }).then(
      ({ position }) => this.answered('acknowledged', { publisher, n, position }),
      (error) => {
        const isUnknown = ['closed', 'unavailable'].includes(error.code);
        if (error.code !== 'closed') this.mind(error);
        this.answered(isUnknown ? 'unknown' : 'refused', { publisher, n });
      },
    );
  }

  answered(event, line) {
    this.outstanding--;
    this.write(event, line);
  }

  /** A server that cannot now says when to come back; what it says is wrong for good is not, for these clients do nothing wrong. */
  mind({ code, message, retryable }) {
    if (retryable && code !== 'internal') return;
    say({ trouble: `${this.plan.name} was told: ${code}: ${message}` });
  }

  hasReached({ phase, heads, rosters }) {
    const streams = [...this.streams.values()];
    const isWhole = !this.leaving && streams.length === this.plan.streams.length;
    const areSubscribed = isWhole && streams.every(({ isSubscribed }) => isSubscribed);
    switch (phase) {
      case 'load':
        return areSubscribed;
      case 'calm':
        return areSubscribed && !this.outstanding;
      case 'heads':
        return areSubscribed && streams.every(({ wish, position }) => position === heads[wish.channel]);
      case 'rosters':
        return streams.every(
          ({ wish, members, count }) => {
            const roster = rosters[wish.channel] ?? [];
            const hasAll = members && String(members) === String(roster);
            return !wish.hears || hasAll || count === roster.length;
          },
        );
      default:
        return false;
    }
  }
}

// ── the process ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const PHASES = ['load', 'calm', 'heads', 'rosters', 'end'];
let world;
let actors = [];
let wanted = { phase: 'load' };
let reached = -1;

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function tell(phase) {
  const stands = actors.flatMap(({ streams }) =>
    [...streams.values()].filter(({ stands }) => stands).map(({ wish, stands }) => [wish.channel, stands]),
  );
  say({ phase, stands });
}

/** Whether what is wanted is reached, by all. */
function look() {
  const number = PHASES.indexOf(wanted.phase);
  if (reached === number || !actors.length || !actors.every((actor) => actor.hasReached(wanted))) return;
  reached = number;
  tell(number);
}

async function begin({ origin_ns, url, directory, sdk, clients }) {
  const { Switchboard } = await import(pathToFileURL(join(sdk, 'dist/index.js')));
  const WebSocket = globalThis.WebSocket ?? createRequire(join(sdk, 'package.json'))('ws');
  world = { origin: BigInt(origin_ns), url, directory, Switchboard, WebSocket, phase: 0 };
  actors = clients.map((plan) => new Actor(world, plan));
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line);
  if (!world) {
    await begin(said);
    continue;
  }
  wanted = said;
  world.phase = PHASES.indexOf(said.phase);
  if (said.phase === 'end') {
    for (const actor of actors) {
      actor.stand();
      actor.write('ended');
    }
    for (const { client } of actors) client.close();
    tell(world.phase);
    break;
  }
  look();
}
// Nobody asks any more, or all is done: nothing is to be waited for.
process.exit(0);

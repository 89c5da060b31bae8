// The line to the server: one WebSocket at a time, its four steps, requests with answers, the
// round-trip time, and reconnecting. It knows commands and replies, but nothing of rooms or pages.
//
//            connect()            welcome                 goodbye, disconnect(), silence
//   closed ────────────► connecting ────► open ────────────────────────────► closing ───► closed
//     ▲                      │                                                              │
//     └──────────────────────┴──── unless disconnect() was asked: wait, then connect ◄──────┘
//
// Events: `status` (a snapshot, see `status`), `frame` (every frame in and out), `welcome`, `message`,
// `gap`, `reset`, `presence`, `refusal` (an error that answers no request), `round-trip` (milliseconds).

import { Emitter } from './emitter.js';

const SUBPROTOCOL = 'switchboard.v1.json';

const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 30_000;
/** A server may ask for patience, but not for ever. */
const RETRY_ADVICE_MS_MAX = 300_000;
/** A line that was open for less than this was not a success: the backoff goes on growing. */
const STABLE_MS = 5_000;
const WELCOME_MS_MAX = 10_000;
const CLOSING_MS_MAX = 5_000;
const REPLY_MS_MAX = 10_000;
const PING_EVERY_MS = 5_000;
/** Sooner, the first round trip would measure how busy a loading page is. */
const FIRST_PING_MS = 600;
const UNANSWERED_PINGS_MAX = 2;
const REQUESTS_MAX = 256;

const encoder = new TextEncoder();

/** A request that got no answer, or an `error` for an answer. */
export class Refusal extends Error {
  /** @param {{code: string, message?: string, retry_after_ms?: number}} reply */
  constructor(reply) {
    super(reply.message || reply.code);
    this.code = reply.code;
    this.retryAfterMs = Number.isFinite(reply.retry_after_ms) ? reply.retry_after_ms : null;
  }
}

/**
 * How long to wait before retry number `attempt` (from 0): full jitter from the first retry on, so
 * that a crowd cut off together does not come back together. The server's own advice comes on top.
 */
export function retryDelayMs(attempt, adviceMs, random) {
  const ceiling = Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** Math.min(attempt, 16));
  return Math.min(adviceMs ?? 0, RETRY_ADVICE_MS_MAX) + random() * ceiling;
}

export class Line extends Emitter {
  #url;
  #socket = null;
  #wanted = false;
  #requests = new Map();
  #nextId = 1;
  #attempt = 0;
  #adviceMs = null;
  #timers = { step: 0, stable: 0, ping: 0, retry: 0 };
  #unansweredPings = 0;
  /** Makes the next connection the same session, so that a reconnect is not seen by others. */
  #resume = null;

  /**
   * What is true now. `step` is one of connecting, open, closing, closed; `ready` says that the
   * welcome has come; `code` and `reason` describe the latest close; `retry` is null or
   * `{at, delayMs, attempt}` with `at` on the clock of `performance.now()`.
   */
  status = {
    step: 'closed', ready: false, code: null, reason: '', session: null, user: null, retry: null, asked: false,
  };

  constructor(url) {
    super();
    this.#url = url;
  }

  connect() {
    this.#wanted = true;
    this.#attempt = 0;
    if (!this.#socket) this.#dial();
  }

  disconnect() {
    this.#wanted = false;
    clearTimeout(this.#timers.retry);
    if (this.#socket) this.#hangUp(1000, 'bye', true);
    else this.#show({ retry: null, asked: true });
  }

  /** Ends the wait between two attempts. */
  retryNow() {
    if (this.#wanted && !this.#socket) this.#dial();
  }

  /**
   * Sends a command and returns its reply. Rejects with a `Refusal`: the server's error, or
   * `not_connected`, `no_answer` or `too_many_requests` of our own.
   */
  request(command) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new Refusal({ code: 'not_connected', message: 'the line is not open' }));
        return;
      }
      if (this.#requests.size >= REQUESTS_MAX) {
        reject(new Refusal({ code: 'too_many_requests', message: `${REQUESTS_MAX} requests are unanswered` }));
        return;
      }
      const id = this.#nextId++;
      const timer = setTimeout(() => {
        this.#requests.delete(id);
        reject(new Refusal({ code: 'no_answer', message: `no answer within ${REPLY_MS_MAX / 1000} s` }));
      }, REPLY_MS_MAX);
      this.#requests.set(id, { resolve, reject, timer });
      const { type, ...rest } = command;
      this.#send({ type, id, ...rest });
    });
  }

  #send(command) {
    const text = JSON.stringify(command);
    this.#socket.send(text);
    this.emit('frame', { direction: 'out', at: Date.now(), bytes: encoder.encode(text).length, text, value: command });
  }

  #show(change) {
    this.status = { ...this.status, ...change };
    this.emit('status', this.status);
  }

  #dial() {
    clearTimeout(this.#timers.retry);
    const socket = new WebSocket(this.#url, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#adviceMs = null;
    this.#timers.step = setTimeout(() => this.#hangUp(4000, 'no welcome in time'), WELCOME_MS_MAX);
    // A socket we have given up on may still speak: only the current one is listened to.
    const current = (act) => (event) => { if (this.#socket === socket) act(event); };
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current((event) => this.#received(event.data));
    socket.onclose = current((event) => this.#closed(event.code, event.reason));
    this.#show({ step: 'connecting', ready: false, code: null, reason: '', retry: null, asked: false });
  }

  #opened() {
    this.#unansweredPings = 0;
    this.#show({ step: 'open' });
    const connect = { type: 'connect' };
    if (this.#resume !== null) connect.resume = this.#resume;
    this.request(connect).then(
      (welcome) => this.#welcomed(welcome),
      (refusal) => { if (refusal.code !== 'not_connected') this.#hangUp(4000, `refused: ${refusal.code}`); },
    );
  }

  #welcomed(welcome) {
    if (this.status.step !== 'open') return;
    this.#resume = typeof welcome.resume === 'string' ? welcome.resume : null;
    clearTimeout(this.#timers.step);
    this.#timers.stable = setTimeout(() => { this.#attempt = 0; }, STABLE_MS);
    this.#timers.ping = setInterval(() => this.#ping(), PING_EVERY_MS);
    this.#show({ ready: true, session: String(welcome.session ?? ''), user: String(welcome.user ?? '') });
    this.emit('welcome', welcome);
    setTimeout(() => { if (this.status.ready) this.#ping(); }, FIRST_PING_MS);
  }

  #ping() {
    // Pings are counted, not seconds: after a sleep, or in a hidden tab, minutes pass between two of
    // them although the peer is well.
    if (this.#unansweredPings >= UNANSWERED_PINGS_MAX) {
      this.#hangUp(4000, 'no answer to a ping');
      return;
    }
    this.#unansweredPings += 1;
    const sentAt = performance.now();
    const measure = () => this.emit('round-trip', performance.now() - sentAt);
    this.request({ type: 'ping' }).then(measure, () => {});
  }

  #received(data) {
    this.#unansweredPings = 0;
    if (typeof data !== 'string') {
      this.emit('frame', { direction: 'in', at: Date.now(), bytes: data.byteLength, text: '(binary)', value: undefined });
      return;
    }
    let value;
    try { value = JSON.parse(data); } catch { /* shown in the inspector as it came */ }
    this.emit('frame', { direction: 'in', at: Date.now(), bytes: encoder.encode(data).length, text: data, value });
    if (value === null || typeof value !== 'object') return;
    const request = this.#requests.get(value.id);
    if (request) this.#answer(value.id, request, value);
    else if (value.type === 'goodbye') this.#bidden(value);
    else if (value.type === 'error') this.emit('refusal', new Refusal(value));
    else if (['message', 'gap', 'reset', 'presence'].includes(value.type)) this.emit(value.type, value);
  }

  #answer(id, { resolve, reject, timer }, reply) {
    this.#requests.delete(id);
    clearTimeout(timer);
    if (reply.type === 'error') reject(new Refusal(reply));
    else resolve(reply);
  }

  /** The server announces its close; the Close frame follows, or we close when it does not. */
  #bidden(goodbye) {
    this.#adviceMs = Number.isFinite(goodbye.retry_after_ms) ? Math.max(0, goodbye.retry_after_ms) : null;
    this.#show({ step: 'closing', ready: false, code: goodbye.code ?? null, reason: String(goodbye.reason ?? '') });
    this.#limitClosing();
  }

  #hangUp(code, reason, asked = false) {
    this.#show({ step: 'closing', ready: false, code, reason, asked });
    this.#socket.close(code, reason);
    this.#limitClosing();
  }

  #limitClosing() {
    clearTimeout(this.#timers.step);
    const abandon = () => {
      this.#socket.close();
      this.#closed(1006, 'the closing handshake was not finished');
    };
    this.#timers.step = setTimeout(abandon, CLOSING_MS_MAX);
  }

  #closed(code, reason) {
    this.#socket = null;
    for (const timer of ['step', 'stable']) clearTimeout(this.#timers[timer]);
    clearInterval(this.#timers.ping);
    const said = this.status.step === 'closing' ? this.status.reason : '';
    const unanswered = [...this.#requests.values()];
    this.#requests.clear();
    for (const { reject, timer } of unanswered) {
      clearTimeout(timer);
      reject(new Refusal({ code: 'not_connected', message: 'the line closed before the answer came' }));
    }
    const retry = this.#wanted ? this.#scheduleRetry() : null;
    this.#show({ step: 'closed', ready: false, code, reason: reason || said, session: null, user: null, retry });
  }

  #scheduleRetry() {
    const delayMs = retryDelayMs(this.#attempt, this.#adviceMs, Math.random);
    this.#attempt += 1;
    this.#timers.retry = setTimeout(() => this.retryNow(), delayMs);
    return { at: performance.now() + delayMs, delayMs, attempt: this.#attempt };
  }
}

// The line to the server: the client package, in the words of this page. It knows nothing of rooms.
//
//            connect()            welcome                 goodbye, disconnect(), cut()
//   closed ────────────► connecting ────► open ────────────────────────────► closing ───► closed
//     ▲                                                                                     │
//     └──────────────────────── unless disconnect() was asked: the package comes back ◄─────┘
//
// While it waits to come back it is closed, too, and `retry` says until when.
//
// Events: `status` (a snapshot, see `status`), `frame` (what is said and heard), `client` (a new one takes over),
// `welcome`, `round-trip` (milliseconds).

import { Emitter } from './emitter.js';
import { Switchboard } from './switchboard-client.js';

const PING_EVERY_MS = 5_000;
/** Sooner, the first round trip would measure how busy a loading page is. */
const FIRST_PING_MS = 600;

const encoder = new TextEncoder();

export class Line extends Emitter {
  #url;
  #pings = 0;
  /** When what was published and has no answer left, by other ways than a WebSocket; they have no pings. */
  #publishedAt = 0;
  /** The client that is used now; null while nobody wants a line. */
  client = null;
  /** Which transports may be used; all where there is none. */
  transports = undefined;

  /**
   * What is true now. `step` is one of connecting, open, closing, closed; `ready` says that the
   * welcome has come, by `transport`; `code` and `reason` describe the latest end; `retry` is null
   * or `{at, delayMs, attempt}` with `at` on the clock of `performance.now()`.
   */
  status = {
    step: 'closed', ready: false, transport: null, code: null, reason: '', session: null, user: null, retry: null, asked: false,
  };

  constructor(url) {
    super();
    this.#url = url;
  }

  connect() {
    if (this.client) return;
    const { transports } = this;
    const client = new Switchboard(this.#url, { transports, lazy: true, trace: (...what) => this.#trace(client, ...what) });
    this.client = client;
    client.on('state', (state) => this.#follow(state));
    client.connect();
    this.emit('client', client);
  }

  disconnect() {
    const { client } = this;
    if (!client) return;
    this.client = null;
    if (this.status.step === 'open') this.#show({ step: 'closing', ready: false, code: 1000, reason: 'bye', asked: true });
    client.close();
    this.#rest();
    this.#show({ step: 'closed', ready: false, code: 1000, reason: 'bye', session: null, user: null, retry: null, asked: true });
  }

  /** Drops the connection as the network would. */
  cut() {
    this.client?.cut();
  }

  /** Ends the wait between two attempts. */
  retryNow() {
    this.client?.retry();
  }

  /** Uses these transports from now on. */
  choose(transports) {
    this.transports = transports;
    if (!this.client) return;
    this.disconnect();
    this.connect();
  }

  #show(change) {
    this.status = { ...this.status, ...change };
    this.emit('status', this.status);
  }

  #follow(state) {
    switch (state.status) {
      case 'connecting':
        return this.#show({ step: 'connecting', ready: false, transport: state.transport, code: null, reason: '', retry: null, asked: false });
      case 'open': {
        const { transport, session, user } = state;
        const isNew = !this.status.ready || this.status.transport !== transport;
        this.#show({ step: 'open', ready: true, transport, session, user });
        if (user) this.emit('welcome', { user });
        if (isNew && transport === 'websocket') this.#begin();
        return undefined;
      }
      case 'waiting': {
        this.#rest();
        // Only a WebSocket's end has a code.
        const { attempt, retryAt, reason, code = this.status.transport === 'websocket' ? 1006 : null } = state;
        const delayMs = Math.max(0, retryAt - Date.now());
        const retry = { at: performance.now() + delayMs, delayMs, attempt };
        return this.#show({ step: 'closed', ready: false, code, reason, session: null, user: null, retry });
      }
      case 'closed':
        this.#rest();
        if (!this.client) return undefined;
        this.client = null;
        return this.#show({ step: 'closed', ready: false, code: 4401, reason: state.reason.message, session: null, user: null, retry: null });
      default:
        return undefined;
    }
  }

  #trace(client, direction, value) {
    if (client !== this.client) return;
    const text = JSON.stringify(value);
    this.emit('frame', { direction, at: Date.now(), bytes: encoder.encode(text).length, text, value });
    if (this.status.transport !== 'websocket') this.#measure(direction, value?.type);
    // The server announces its close.
    if (direction === 'in' && value?.type === 'goodbye') {
      this.#show({ step: 'closing', ready: false, code: value.code ?? null, reason: String(value.reason ?? '') });
    }
  }

  /** One after the other is published, so an answer is that of the last. */
  #measure(direction, type) {
    if (direction === 'out' && type === 'publish') this.#publishedAt = performance.now();
    if (direction === 'in' && type === 'published') this.emit('round-trip', performance.now() - this.#publishedAt);
  }

  #begin() {
    this.#rest();
    const ping = () => {
      const { client } = this;
      if (this.status.ready) client?.ping().then((ms) => { if (client === this.client) this.emit('round-trip', ms); }, () => {});
    };
    setTimeout(ping, FIRST_PING_MS);
    this.#pings = setInterval(ping, PING_EVERY_MS);
  }

  #rest() {
    clearInterval(this.#pings);
  }
}

import { advised, isFinal, wait, type Backoff } from "./backoff.js";
import { Channel, type PublishOptions } from "./channel.js";
import { Emitter } from "./emitter.js";
import { SwitchboardError } from "./errors.js";
import { payload, type Command, type Published, type ServerEvent } from "./protocol.js";
import { recall, remember } from "./memory.js";
import { timed, type Context, type Ended, type Transport, type TransportName } from "./transport.js";
import { eventStream, poll } from "./transports/http.js";
import { webSocket } from "./transports/websocket.js";

/** A token, or what gives one. `null`: there is none, and will be none. What throws is tried again. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** How to connect. All is optional. */
export interface Options {
  /** Who the client is. A function is asked for every connection, and before a token (a JWT with `exp`) expires. */
  token?: Token;
  /** Which transports may be used, best first. Default: all, WebSocket first. */
  transports?: TransportName[];
  /** Waits between attempts. Default: 0.5 s, up to 30 s. */
  backoff?: Partial<Backoff>;
  /** For how long a connection attempt, or an answer to a heartbeat, may take. Default 10,000. */
  patienceMs?: number;
  /** A connection that has lasted for so long ends a series of failures. Default 10,000. */
  lastingMs?: number;
  /** When a better transport is tried again; doubles each time. Default 60,000. */
  upgradeAfterMs?: number;
  /** Publications that may wait for the network. Default: 1,000 of 1 MiB together. */
  queue?: { messages?: number; bytes?: number };
  /** Connect only when {@link Switchboard.connect} or a subscription says so. Default: false, at once. */
  lazy?: boolean;
  /** For inspection: what is said (`out`) and what is heard (`in`), as it is. */
  trace?: (direction: "in" | "out", what: object) => void;
  /** The WebSocket class, where there is no global one. */
  WebSocket?: unknown;
  /** The function that makes requests, where it is not the global one. */
  fetch?: typeof fetch;
}

/** What the connection is doing. */
export type State =
  | { status: "idle" }
  | { status: "connecting"; transport: TransportName; attempt: number }
  | { status: "open"; transport: TransportName; session: string; user: string }
  /** The next attempt begins at `retryAt`, in milliseconds since 1970. */
  | { status: "waiting"; attempt: number; retryAt: number; reason: string; code?: number }
  /** For good: {@link Switchboard.connect} begins anew. */
  | { status: "closed"; reason: SwitchboardError };

/** What the client tells. */
export interface ClientEvents {
  state: State;
  /** Every publication has its answer. */
  drained: undefined;
}

interface Publication {
  command: Command;
  bytes: number;
  /** On its way, as this connection's command. */
  id: number | undefined;
  resolve: (published: Published) => void;
  reject: (error: SwitchboardError) => void;
  promise?: Promise<unknown>;
}

interface Ask {
  command: Command;
  resolve: (event: ServerEvent) => void;
  reject: (error: SwitchboardError) => void;
  promise?: Promise<unknown>;
}

const TRANSPORTS = { websocket: webSocket, sse: eventStream, poll };
const NAMES = Object.keys(TRANSPORTS) as TransportName[];
/** Publications without an answer on one connection, and subscriptions. */
const WINDOW = 64;
/** For so long none are asked for where they were too many: by then the server takes some again. */
const SUBSCRIBES_HELD_MS = 1_000;
/** Attempts that fail before a transport that has worked is doubted. */
const DOUBT_AFTER = 3;
/** So long before it expires a token is fetched anew. */
const EXPIRES_MS = 30_000;
/** No token is asked for again sooner; one that could not be had, then. */
const TOKEN_MIN_MS = 5_000;
/** No timer runs for longer than 2^31 ms. */
const TIMER_MS_MAX = 2e9;

/**
 * A connection to a Switchboard: made again when it is lost, by the best transport there is.
 *
 * What is lost on the way is said again, publications never twice; channels go on where they were, and say what is missing.
 */
export class Switchboard extends Emitter<ClientEvents> {
  #options: Options;
  #base: string;
  #names: TransportName[];
  #state: State = { status: "idle" };
  #link: Transport | undefined;
  /** Takes the place of `#link` once it is welcome. */
  #candidate: Transport | undefined;
  #attempt = 0;
  #failures = 0;
  #best: TransportName;
  #hasWorked = false;
  #retryAfterMs: number | undefined;
  /** When there was last a reason to look at once. */
  #wokeAt = -Infinity;
  #resume: string | undefined;
  /** The token of the last connection. */
  #shown: string | undefined;
  #generation = 0;
  /** Those that are used, or may be. */
  #channels = new Map<string, Channel>();
  /** Those that have been, and that the application still has. */
  #known = new Map<string, WeakRef<Channel>>();
  #publications: Publication[] = [];
  #bytes = 0;
  /** When what was refused may be said again, once all that is on its way has its answer. */
  #heldMs: number | undefined;
  /** Publications that may be on their way: after a refusal one, and one more for each that is taken. */
  #window = WINDOW;
  #asks = new Map<number, Ask>();
  #lastId = 0;
  #name = Math.random().toString(36).slice(2) + Date.now();
  #lastKey = 0;
  #upgradeMs: number;
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #unlisten: (() => void) | undefined;

  /**
   * @param url Where the server is: `https://chat.example`, `wss://chat.example/ws`, a path of this page's origin. By default this
   * page's origin.
   */
  constructor(url?: string | URL, options?: Options) {
    super();
    this.#options = options = { ...options };
    this.#base = base(url);
    this.#names = [options.transports ?? NAMES].flat();
    const unknown = this.#names.find((name) => !NAMES.includes(name));
    if (unknown || !this.#names.length) {
      throw new TypeError(`transports: ${unknown} is not one of ${NAMES}`);
    }
    const known = this.#names.length > 1 ? recall(this.#base) : undefined;
    this.#best = this.#names.find((name) => name === known) ?? this.#names[0]!;
    // A wait that is no number would be none.
    const { baseMs = 0, capMs = 0 } = { ...options.backoff };
    if (!(baseMs >= 0 && capMs >= 0)) throw new TypeError("backoff: milliseconds");
    this.#upgradeMs = options.upgradeAfterMs ?? 60_000;
    if (!options.lazy) this.connect();
  }

  /** What the connection is doing. The same object until it changes. */
  get state(): State {
    return this.#state;
  }

  /** Whether there is a connection. */
  get isOpen(): boolean {
    return this.#state.status === "open";
  }

  /** Bytes of publications without an answer. */
  get bufferedAmount(): number {
    return this.#bytes;
  }

  /** Settles when every publication has its answer. */
  drained(): Promise<void> {
    if (!this.#publications.length) return Promise.resolve();
    return new Promise((resolve) => this.once("drained", resolve));
  }

  /** A channel. The same object for the same name, as long as somebody has it. */
  channel<T = unknown, Info = Record<string, unknown>>(name: string): Channel<T, Info> {
    check(name);
    let channel = this.#channels.get(name) ?? this.#known.get(name)?.deref();
    if (!channel) {
      channel = new Channel(this, name);
      for (const [other, ref] of this.#known) if (!ref.deref()) this.#known.delete(other);
      this.#known.set(name, new WeakRef(channel));
    }
    return channel as unknown as Channel<T, Info>;
  }

  /** Publishes. Settles when the server has the message; waits for a connection, and is never published twice. */
  publish(channel: string, data: unknown, options?: PublishOptions): Promise<Published> {
    check(channel);
    if (this.#state.status === "closed") return Promise.reject(this.#state.reason);
    const { key = `${this.#name}-${++this.#lastKey}`, conflate } = { ...options };
    const json = JSON.stringify({ type: "publish", channel, key, conflate, ...payload(data) });
    // What is said again is the same, whatever becomes of the object.
    const command = JSON.parse(json) as Command;
    if (!("data" in command || "data_base64" in command)) throw new TypeError(`${typeof data} is not JSON`);
    const bytes = new TextEncoder().encode(json).length;
    const { messages = 1_000, bytes: bytesMax = 1 << 20 } = { ...this.#options.queue };
    const isFull = this.#publications.length >= messages || this.#bytes + bytes > bytesMax;
    if (isFull && this.#publications.length) {
      return Promise.reject(new SwitchboardError("queue_full", "await drained()"));
    }
    this.#bytes += bytes;
    this.begin();
    let publication: Publication;
    const promise = new Promise<Published>((resolve, reject) => {
      publication = { command, bytes, id: undefined, resolve, reject };
      this.#publications.push(publication);
      this.#flush();
    });
    publication!.promise = promise;
    return promise;
  }

  /** The time that a question to the server takes, in milliseconds. Needs a WebSocket. */
  ping(): Promise<number> {
    const begun = performance.now();
    return this.ask({ type: "ping" }, () => performance.now() - begun);
  }

  /** Connects, if it is not connected and does not wait for that; also where it is closed. */
  connect(): void {
    if (this.#state.status === "closed") this.#state = { status: "idle" };
    this.begin();
  }

  /** @internal The same, but what is closed stays so. */
  begin(): void {
    if (this.#state.status !== "idle") return;
    this.#listen();
    this.#attempt = 0;
    void this.#try();
  }

  /** Tries at once, where it waits for the next attempt. */
  retry(): void {
    if (this.#state.status === "waiting") void this.#try();
    else if (this.isOpen) this.#link?.check();
    else this.begin();
  }

  /** Drops the connection as the network would; it comes back. For trying out what happens then. */
  cut(): void {
    if (this.#link) this.#lost({ reason: "cut" });
  }

  /** Ends all: subscriptions, publications that wait, listeners. */
  close(): void {
    const reason = new SwitchboardError("closed", "closed here");
    this.#end(reason);
    for (const channel of this.#channels.values()) channel.end(reason);
    this.#channels.clear();
    this.removeListeners();
  }

  /** @internal A question with one answer; asked again on the next connection, if this one is lost. */
  ask<T>(command: Command, read: (event: ServerEvent) => T): Promise<T> {
    if (this.#state.status === "closed") return Promise.reject(this.#state.reason);
    this.begin();
    const id = ++this.#lastId;
    const asked = new Promise<ServerEvent>((resolve, reject) => this.#asks.set(id, { command, resolve, reject }));
    const promise = asked.then(read);
    this.#asks.get(id)!.promise = promise;
    if (this.isOpen) this.#link?.send({ ...command, id });
    return promise;
  }

  /** @internal Whether no subscription can be asked for now. */
  get isBusy(): boolean {
    return !this.isOpen || this.#asked.length >= WINDOW || this.#timers.has("subscribe");
  }

  get #asked(): Channel[] {
    return [...this.#channels.values()].filter((channel) => channel.isAsked);
  }

  /** @internal Returns its number. */
  say(command: Command): number {
    const id = ++this.#lastId;
    this.#link?.send({ ...command, id });
    return id;
  }

  /** @internal Somebody uses it, or nobody any more. */
  use(channel: object & { name: string }, isUsed: boolean): void {
    if (isUsed) this.#channels.set(channel.name, channel as Channel);
    else this.#channels.delete(channel.name);
  }

  #set(state: State): void {
    this.#state = state;
    this.emit("state", state);
  }

  #after(name: string, ms: number, callback: () => void): void {
    this.#clear(name);
    const fire = (): void => {
      this.#timers.delete(name);
      callback();
    };
    this.#timers.set(name, setTimeout(fire, ms));
  }

  #clear(name: string): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  /** One attempt, by the transport that is held for the best. */
  async #try(name = this.#best): Promise<void> {
    const generation = ++this.#generation;
    this.#clear("retry");
    this.#set({ status: "connecting", transport: name, attempt: this.#attempt });
    // An attempt that neither works nor fails has failed.
    this.#after("patience", this.#patienceMs, () => {
      this.#lost({ reason: "no welcome" }, name);
    });
    const token = await this.#token();
    if (generation !== this.#generation) return;
    if (token instanceof SwitchboardError) {
      this.#clear("patience");
      return token.retryable ? this.#wait(token.message) : this.#end(token);
    }
    this.#shown = token;
    const link = (this.#link = this.#open(name, token));
    const commands: Command[] = [];
    for (const channel of this.#channels.values()) {
      const command = commands.length < WINDOW && channel.asked();
      if (command) commands.push({ ...command, id: (channel.askedAs = ++this.#lastId) });
    }
    link.start(commands);
  }

  get #patienceMs(): number {
    return this.#options.patienceMs ?? 10_000;
  }

  #open(name: TransportName, token: string | undefined): Transport {
    const context: Context = {
      base: this.#base,
      token,
      resume: this.#resume,
      fetch: this.#options.fetch ?? ((input, init) => fetch(input, init)),
      WebSocket: (this.#options.WebSocket ?? globalThis.WebSocket) as typeof WebSocket | undefined,
      patienceMs: this.#patienceMs,
      event: (event) => {
        this.#options.trace?.("in", event);
        this.#handle(transport, event);
      },
      heard: () => this.#clear("patience"),
      said: (what) => this.#options.trace?.("out", what),
      end: (ended) => {
        if (transport === this.#link) this.#lost(ended, name);
        else if (transport === this.#candidate) this.#give();
      },
    };
    const transport = TRANSPORTS[name](context);
    return transport;
  }

  async #token(): Promise<string | undefined | SwitchboardError> {
    const { token } = this.#options;
    if (typeof token !== "function") return token;
    try {
      const fresh = await timed(token(), this.#patienceMs);
      return fresh ? String(fresh) : new SwitchboardError("unauthorized", "no token");
    } catch (error) {
      return new SwitchboardError("no_token", `no token: ${error}`);
    }
  }

  /** Nothing goes on with this connection, or with the attempt. */
  #drop(): void {
    this.#generation++;
    this.#link?.close();
    this.#candidate?.close();
    this.#link = this.#candidate = undefined;
    for (const name of [...this.#timers.keys()]) this.#clear(name);
  }

  /** The connection is gone, or an attempt has failed. */
  #lost({ code, reason }: Ended, name?: TransportName): void {
    const wasOpen = this.isOpen;
    this.#drop();
    for (const channel of this.#channels.values()) channel.disconnected();
    this.#retreat(code);
    if (isFinal(code)) {
      const isRefused = code === 4401;
      // One that was good may have expired on the way.
      if (!isRefused || typeof this.#options.token !== "function" || !wasOpen) {
        return this.#end(new SwitchboardError(isRefused ? "unauthorized" : "closed", reason));
      }
    }
    if (!wasOpen && name) {
      this.#failures++;
      const next = this.#names[this.#names.indexOf(name) + 1];
      const isDoubted = !this.#hasWorked || this.#failures >= DOUBT_AFTER;
      const isOnline = globalThis.navigator?.onLine !== false;
      if (next && isDoubted && isOnline) return void this.#try(next);
      if (isDoubted) this.#best = this.#names[0]!;
    }
    // What was lost while the machine slept is known only now.
    const isWakeUp = wasOpen && this.#retryAfterMs === undefined && Date.now() - this.#wokeAt < 10_000;
    this.#wokeAt = -Infinity;
    this.#wait(reason, code, isWakeUp ? 0 : undefined);
  }

  /** What was on its way has to be said again. What the server cannot take is not. */
  #retreat(code: number | undefined): void {
    if (code === 1009) {
      const sent = this.#publications.filter(({ id }) => id !== undefined);
      const largest = sent.sort((one, other) => other.bytes - one.bytes)[0];
      if (largest) {
        this.#settle(largest);
        largest.reject(new SwitchboardError("message_too_big", "too large"));
      }
    }
    for (const publication of this.#publications) publication.id = undefined;
    this.#heldMs = undefined;
  }

  #wait(reason: string, code?: number, atOnce?: number): void {
    const { baseMs = 500, capMs = 30_000 } = { ...this.#options.backoff };
    const ms =
      atOnce ?? (this.#retryAfterMs !== undefined
        ? advised(this.#retryAfterMs)
        : wait({ baseMs, capMs }, this.#attempt, Math.random()));
    this.#retryAfterMs = undefined;
    this.#attempt++;
    this.#set({ status: "waiting", attempt: this.#attempt, retryAt: Date.now() + ms, reason, code });
    this.#after("retry", ms, () => void this.#try());
  }

  /** For good. */
  #end(reason: SwitchboardError): void {
    this.#drop();
    this.#unlisten?.();
    this.#unlisten = undefined;
    const waiting = [...this.#publications, ...this.#asks.values()];
    this.#publications = [];
    this.#bytes = 0;
    this.#asks.clear();
    for (const channel of this.#channels.values()) channel.disconnected(reason);
    if (this.#state.status !== "closed") this.#set({ status: "closed", reason });
    for (const { reject, promise } of waiting) {
      // Whoever closes need not look at what that ends.
      promise?.catch(() => {});
      reject(reason);
    }
    this.emit("drained", undefined);
  }

  #handle(link: Transport, event: ServerEvent): void {
    if (link !== this.#link && link !== this.#candidate) return;
    switch (event.type) {
      case "welcome":
        return this.#welcome(link, event);
      case "goodbye":
        this.#retryAfterMs = event.retry_after_ms;
        return;
      case "published": {
        const publication = this.#publication(event.id);
        if (!publication) return;
        this.#settle(publication);
        if (this.#window < WINDOW) this.#window++;
        publication.resolve({ offset: event.offset, position: event.position });
        return this.#flush();
      }
      case "history":
      case "members":
      case "pong": {
        const ask = this.#asks.get(event.id!);
        this.#asks.delete(event.id!);
        return ask?.resolve(event);
      }
      case "error":
        return this.#refused(event);
      default:
        this.#channels.get(event.channel)?.handle(event);
        if (event.type === "subscribed" && !this.#asked.length) this.sync();
    }
  }

  #welcome(link: Transport, { session, user, resume }: ServerEvent): void {
    this.#resume = resume ?? this.#resume;
    const known = this.#state.status === "open" ? this.#state : undefined;
    if (link === this.#candidate) {
      const old = this.#link;
      this.#link = link;
      this.#candidate = undefined;
      old?.close();
      this.#retreat(undefined);
      for (const channel of this.#channels.values()) channel.disconnected();
    } else if (known) {
      // Of an event stream that has begun anew.
      if (session && known.session !== session) this.#set({ ...known, session, user });
      return;
    }
    this.#clear("patience");
    this.#failures = 0;
    this.#hasWorked = true;
    this.#best = link.name;
    if (this.#names.length > 1) remember(this.#base, link.name);
    this.#after("lasting", this.#options.lastingMs ?? 10_000, () => (this.#attempt = 0));
    this.#set({ status: "open", transport: link.name, session: session ?? "", user: user ?? "" });
    // A listener may have closed it.
    if (link !== this.#link) return;
    this.sync();
    for (const [id, { command }] of this.#asks) link.send({ ...command, id });
    this.#flush();
    this.#clear("token");
    // One that has expired by our clock, and yet was taken, says nothing of when.
    const leftMs = expiry(this.#shown) - Date.now();
    this.#plan(Math.max(leftMs - EXPIRES_MS, leftMs / 2));
  }

  /** Another connection is to take the place of this one: a better one, or one with a newer token. */
  #plan(tokenMs: number): void {
    const { name } = this.#link!;
    if (name !== this.#names[0]) {
      this.#after("upgrade", this.#upgradeMs, () => {
        this.#upgradeMs *= 2;
        void this.#replace(this.#names[0]!);
      });
    }
    if (tokenMs > 0 && typeof this.#options.token === "function" && !this.#timers.has("token")) {
      const inMs = Math.min(Math.max(tokenMs, TOKEN_MIN_MS), TIMER_MS_MAX);
      this.#after("token", inMs, () => void this.#replace(name));
    }
  }

  /** @internal Asks for what could not be asked for before. */
  sync(): void {
    for (const channel of this.#channels.values()) channel.sync();
  }

  /** Opens another connection beside this one, which takes its place if it is welcome. */
  async #replace(name: TransportName): Promise<void> {
    const old = this.#link;
    const token = await this.#token();
    if (!old || old !== this.#link || this.#candidate) return;
    if (token instanceof SwitchboardError) return this.#give();
    this.#shown = token;
    const candidate = (this.#candidate = this.#open(name, token));
    this.#after("patience", this.#patienceMs, () => this.#give());
    candidate.start([]);
  }

  /** The connection there is goes on; the other one was not to be had. */
  #give(): void {
    this.#candidate?.close();
    this.#candidate = undefined;
    this.#clear("patience");
    this.#plan(expiry(this.#shown) && TOKEN_MIN_MS);
  }

  #refused({ id = -1, code, message = "", retry_after_ms = 1_000 }: ServerEvent): void {
    const error = new SwitchboardError(code as SwitchboardError["code"], message, retry_after_ms);
    const channel = this.#asked.find(({ askedAs }) => askedAs === id);
    if (channel) {
      // Too many at once, so for a while there are none.
      if (code === "rate_limited") {
        this.#after("subscribe", Math.max(retry_after_ms, SUBSCRIBES_HELD_MS), () => this.sync());
      }
      channel.refused(error);
      return this.sync();
    }
    const ask = this.#asks.get(id);
    if (ask) {
      if (error.retryable) {
        setTimeout(() => {
          if (this.#asks.has(id) && this.isOpen) this.#link?.send({ ...ask.command, id });
        }, retry_after_ms);
        return;
      }
      this.#asks.delete(id);
      return ask.reject(error);
    }
    const publication = this.#publication(id);
    if (!publication) {
      // The server cannot be told who this is.
      if (!this.isOpen && !error.retryable) this.#end(error);
      return;
    }
    // A channel that there is no room for is no reason to keep back those of others.
    if (!error.retryable || /many/.test(error.code)) {
      this.#settle(publication);
      publication.reject(error);
      return this.#flush();
    }
    publication.id = undefined;
    this.#heldMs = retry_after_ms;
    this.#window = 1;
    this.#flush();
  }

  #publication(id = -1): Publication | undefined {
    return this.#publications.find((publication) => publication.id === id);
  }

  #settle(publication: Publication): void {
    this.#publications.splice(this.#publications.indexOf(publication), 1);
    this.#bytes -= publication.bytes;
    if (!this.#publications.length) this.emit("drained", undefined);
  }

  /** Says what waits, in its order. */
  #flush(): void {
    if (!this.isOpen) return;
    if (this.#heldMs !== undefined) {
      // What is behind it is refused, too, but how much is known only by the answers.
      if (this.#timers.has("publish") || this.#publications.some(({ id }) => id !== undefined)) return;
      return this.#after("publish", this.#heldMs, () => {
        this.#heldMs = undefined;
        this.#flush();
      });
    }
    // Requests of their own keep no order, so one follows the other.
    for (const publication of this.#publications.slice(0, this.#link!.name === "websocket" ? this.#window : 1)) {
      if (publication.id !== undefined) continue;
      publication.id = ++this.#lastId;
      this.#link?.send({ ...publication.command, id: publication.id });
    }
  }

  /** The network is back, the page is seen again, the machine wakes up: no reason to wait any longer. */
  #listen(): void {
    if (this.#unlisten) return;
    const retry = (): void => {
      this.#wokeAt = Date.now();
      if (this.#state.status === "waiting" || this.isOpen) this.retry();
    };
    const shown = (event: Event): void => {
      if ((event as PageTransitionEvent).persisted) retry();
    };
    const seen = (): void => {
      if (globalThis.document?.visibilityState === "visible") retry();
    };
    const targets: [EventTarget | undefined, string, (event: Event) => void][] = [
      [globalThis.window, "online", retry],
      [globalThis.window, "pageshow", shown],
      [globalThis.document, "visibilitychange", seen],
      [globalThis.document, "resume", retry],
    ];
    for (const [target, name, listener] of targets) target?.addEventListener?.(name, listener);
    this.#unlisten = () => {
      for (const [target, name, listener] of targets) target?.removeEventListener?.(name, listener);
    };
  }
}

/** When a JWT expires, in milliseconds since 1970; `NaN` of other tokens, which do not say it. */
function expiry(token: string | undefined): number {
  try {
    const claims = token!.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(claims)) as { exp: number };
    return exp * 1_000;
  } catch {
    return NaN;
  }
}

/** Which names are right is the server's to say (spec/protocol.md, section 7). */
function check(name: unknown): void {
  if (typeof name !== "string" || !name) throw new TypeError(`not the name of a channel: ${String(name)}`);
}

/** Where the server is, as an http or https URL that ends with a slash. */
function base(url: string | URL | undefined): string {
  try {
    const { protocol, host, pathname } = new URL(url ?? "/", globalThis.location?.href);
    const scheme = /^(http|ws)(s?:)$/.exec(protocol)!;
    return `http${scheme[2]}//${host}${pathname.replace(/(\/ws)?\/*$/, "/")}`;
  } catch {
    throw new TypeError(`not the URL of a server: ${url}`);
  }
}

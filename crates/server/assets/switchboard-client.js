// The package of sdk/js, as `npm run playground` builds it.
// src/backoff.ts
function wait({ baseMs, capMs }, attempt, random) {
  return Math.floor(random * Math.min(capMs, baseMs * 2 ** attempt));
}
var RETRY_AFTER_MAX_MS = 6e4;
var advised = (retryAfterMs) => Math.min(retryAfterMs, RETRY_AFTER_MAX_MS);
var isFinal = (code) => [1002, 1003, 1007, 1010, 4401].includes(code);

// src/emitter.ts
var Emitter = class {
  #listeners = /* @__PURE__ */ new Map();
  /** Calls `listener` from now on. Returns what ends that. */
  on(name, listener) {
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    let set = this.#listeners.get(name);
    if (!set) this.#listeners.set(name, set = /* @__PURE__ */ new Set());
    const own = (value) => listener(value);
    set.add(own);
    return () => {
      set.delete(own);
    };
  }
  /** Calls `listener` once. */
  once(name, listener) {
    const off = this.on(name, (value) => {
      off();
      listener(value);
    });
    return off;
  }
  /** Whether anybody listens to anything. */
  get hasListeners() {
    return [...this.#listeners.values()].some((set) => set.size > 0);
  }
  emit(name, value) {
    for (const listener of [...this.#listeners.get(name) ?? []]) {
      if (this.#listeners.get(name)?.has(listener)) guarded(listener, value);
    }
  }
  removeListeners() {
    this.#listeners.clear();
  }
};
function guarded(callback, value) {
  try {
    callback(value);
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}

// src/codes.ts
var RETRYABLE = [
  "too_many_channels",
  "rate_limited",
  "overloaded",
  "unavailable",
  "lagged",
  "stopping",
  "internal",
  "queue_full",
  "no_token"
];

// src/errors.ts
var SwitchboardError = class extends Error {
  constructor(code, message, retryAfterMs) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.name = "SwitchboardError";
  }
  /** Whether the same may succeed later, without a change. */
  get retryable() {
    return RETRYABLE.includes(this.code);
  }
};

// src/protocol.ts
function withData(event) {
  const { type: _type, data_base64: base64, ...message } = event;
  if (base64 !== void 0) {
    try {
      message.data = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    } catch {
    }
  }
  return message;
}
function payload(data) {
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
  if (ArrayBuffer.isView(bytes)) {
    const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let binary = "";
    for (const byte of view) binary += String.fromCharCode(byte);
    return { data_base64: btoa(binary) };
  }
  return { data };
}

// src/channel.ts
var ITERATION_MAX = 1024;
var LEAVE_AFTER_MS = 100;
var Channel = class extends Emitter {
  /** @internal */
  constructor(client, name) {
    super();
    this.name = name;
    this.#client = client;
  }
  #client;
  #uses = /* @__PURE__ */ new Map();
  #stage = "idle";
  #said = "";
  #begun;
  #since;
  /** Where it is to begin instead, once what was asked for is answered. */
  #again;
  #offset = -1;
  #leaving;
  #presence;
  #waiters = /* @__PURE__ */ new Set();
  /** @internal Who listens has it. */
  on(name, listener) {
    const off = super.on(name, listener);
    this.#client.use(this, true);
    return () => {
      off();
      this.#release();
    };
  }
  /** Whether the server delivers its messages now. */
  get subscribed() {
    return this.#stage === "subscribed";
  }
  /** @internal Whether the server has to answer. */
  get isAsked() {
    return this.#stage === "asked";
  }
  /** Who is there, if a subscription asked for that. */
  get presence() {
    return this.#presence;
  }
  /** Where this client is in the channel. */
  get position() {
    return this.#since;
  }
  subscribe(listener, options) {
    if (typeof listener === "object") [listener, options] = [void 0, listener];
    JSON.stringify(options);
    const use = {};
    const off = listener && this.on("message", listener);
    const wishes = { ...options, off };
    const { since } = wishes;
    if (!this.#uses.size && since && since !== this.#since) {
      this.#leave();
      if (this.isAsked) this.#again = since;
    }
    this.#uses.set(use, wishes);
    clearTimeout(this.#leaving);
    this.#since ??= since;
    const begun = this.#begun;
    const ready = new Promise((resolve, reject) => {
      if (begun) resolve(begun);
      else this.#waiters.add({ resolve, reject });
    });
    ready.catch(() => {
    });
    this.#client.use(this, true);
    const { state } = this.#client;
    if (state.status === "closed") this.#giveUp(state.reason);
    this.#client.begin();
    this.sync();
    const unsubscribe = () => {
      off?.();
      if (!this.#uses.delete(use)) return;
      if (this.#uses.size) this.sync();
      else this.#leaving = setTimeout(() => this.#leave(), LEAVE_AFTER_MS);
    };
    return { ready, unsubscribe };
  }
  /** Messages as they come, for as long as the loop goes on. */
  [Symbol.asyncIterator]() {
    const waiting = [];
    const wakes = [];
    let failed;
    let hasEnded = false;
    const wake = (error) => {
      failed ??= error;
      for (const resolve of wakes.splice(0)) resolve();
    };
    const subscription = this.subscribe((message) => {
      if (failed) return;
      const isFull = waiting.length >= ITERATION_MAX;
      if (!isFull) waiting.push(message);
      wake(isFull ? new SwitchboardError("iteration_full", `${ITERATION_MAX} messages behind`) : void 0);
    });
    subscription.ready.catch(wake);
    const offs = [
      this.on("error", wake),
      this.#client.on("state", (state) => {
        if (state.status === "closed") wake(state.reason);
      })
    ];
    const end = () => {
      hasEnded = true;
      subscription.unsubscribe();
      for (const off of offs) off();
      wake();
      return Promise.resolve({ done: true, value: void 0 });
    };
    return {
      async next() {
        for (; ; ) {
          if (hasEnded) return end();
          const value = waiting.shift();
          if (value) return { done: false, value };
          if (failed) {
            void end();
            throw failed;
          }
          await new Promise((resolve) => wakes.push(resolve));
        }
      },
      return: end
    };
  }
  /** Publishes. Settles with the place of the message when the server has it. */
  publish(data, options) {
    return this.#client.publish(this.name, data, options);
  }
  /** Reads the log: the newest messages by default. */
  history(options) {
    return this.#client.ask({ ...options, type: "history", channel: this.name }, (event) => ({
      ...event,
      messages: (event.messages ?? []).map((message) => withData({ ...message, channel: this.name }))
    }));
  }
  /** Asks who is in the channel, without subscribing. */
  members(options) {
    const command = { ...options, type: "members", channel: this.name };
    return this.#client.ask(command, (event) => event);
  }
  /** @internal What is to be said so that the server knows what is wanted; nothing if it does. */
  command() {
    if (!this.#uses.size) return void 0;
    const uses = [...this.#uses.values()];
    const wishes = new Set(uses.map((use) => use.presence).filter(Boolean));
    const presence = wishes.size > 1 ? true : [...wishes][0];
    return {
      type: "subscribe",
      channel: this.name,
      since: this.#since,
      latest: uses.some((use) => use.latest) || void 0,
      presence,
      info: presence === "watch" ? void 0 : uses.find((use) => use.info)?.info
    };
  }
  /** @internal The same, and it is said. */
  asked() {
    const again = this.#again;
    if (again) {
      this.#forget();
      this.#since = again;
    }
    const command = this.command();
    if (!command?.presence) this.#presence = void 0;
    this.#stage = command ? "asked" : "idle";
    this.#said = wish(command);
    return command;
  }
  /** @internal Says what the server does not know yet. */
  sync() {
    if (this.#client.isBusy || this.isAsked || this.#stage === "held") return;
    if (this.#stage === "subscribed") {
      if (wish(this.command()) === this.#said) return;
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    const command = this.asked();
    if (command) this.askedAs = this.#client.say(command);
  }
  #leave() {
    clearTimeout(this.#leaving);
    this.#leaving = void 0;
    if (this.isAsked) return;
    if (this.#stage === "subscribed" && this.#client.isOpen) {
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    this.#forget();
    this.#release();
  }
  /** Nobody has it any more, as far as this client knows. */
  #release() {
    if (!this.#uses.size && this.#stage === "idle" && !this.hasListeners) this.#client.use(this, false);
  }
  #forget() {
    this.#stage = "idle";
    this.#begun = this.#since = this.#again = this.#presence = void 0;
    this.#offset = -1;
  }
  /** @internal The connection is gone; for good, if there is an error. */
  disconnected(error) {
    this.#stage = "idle";
    this.#begun = void 0;
    if (error) this.#giveUp(error);
    if (!this.#uses.size && !this.#leaving) this.#leave();
  }
  #giveUp(error) {
    for (const { reject } of this.#waiters) reject(error);
    this.#waiters.clear();
  }
  /** @internal The client is closed: nothing comes any more. */
  end(error) {
    clearTimeout(this.#leaving);
    this.#giveUp(error);
    this.#uses.clear();
    this.#forget();
    this.removeListeners();
  }
  /** @internal The server refuses the subscription. */
  refused(error) {
    this.#stage = "idle";
    if (!this.#uses.size) return this.#leave();
    if (error.retryable) {
      this.#stage = "held";
      setTimeout(() => {
        if (this.#stage === "held") this.#stage = "idle";
        this.sync();
      }, error.retryAfterMs);
      return;
    }
    this.#giveUp(error);
    for (const { off } of this.#uses.values()) off?.();
    this.#uses.clear();
    this.#forget();
    this.emit("error", error);
    this.#release();
  }
  /** @internal Something of this channel. */
  handle(event) {
    if (event.type === "subscribed") this.#stage = "subscribed";
    if (this.isAsked || this.#again && event.type !== "subscribed") return;
    if (!this.#uses.size) return this.#leave();
    switch (event.type) {
      case "subscribed": {
        if (this.#again) {
          this.#said = "";
          return this.sync();
        }
        this.#since = event.position ?? this.#since;
        if (event.offset !== void 0 && this.#offset < 0) this.#offset = event.offset;
        const subscribed = this.#begun = plain(event);
        for (const { resolve } of this.#waiters) resolve(subscribed);
        this.#waiters.clear();
        this.emit("subscribed", subscribed);
        return this.sync();
      }
      case "message":
        if (!(event.offset > this.#offset)) return;
        this.#at(event);
        return this.emit("message", withData(event));
      case "gap":
        if ((event.to ?? 0) <= this.#offset) return;
        this.#since = event.position;
        this.#offset = event.to ?? this.#offset;
        return this.emit("gap", plain(event));
      case "reset":
        this.#at(event);
        return this.emit("reset", plain(event));
      case "presence":
        return this.#handlePresence(event);
    }
  }
  #at({ position, offset }) {
    this.#since = position;
    this.#offset = offset;
  }
  #handlePresence({ members, joined = [], left = [], count, users }) {
    const isWhole = members !== void 0;
    const isChange = joined.length + left.length > 0;
    const known = new Map(isWhole || !isChange ? [] : this.#presence?.members);
    for (const { session } of left) known.delete(session);
    for (const member of [...members ?? [], ...joined]) known.set(member.session, member);
    this.#presence = { members: known, count, users, listed: isWhole || isChange && known.size === count };
    this.emit("presence", this.#presence);
  }
};
var wish = (command) => command ? JSON.stringify([command.latest, command.presence, command.info]) : "";
function plain({ type: _type, id: _id, ...rest }) {
  return rest;
}

// src/memory.ts
var PREFIX = "switchboard:";
function recall(server) {
  try {
    return sessionStorage.getItem(PREFIX + server);
  } catch {
    return void 0;
  }
}
function remember(server, name) {
  try {
    sessionStorage.setItem(PREFIX + server, name);
  } catch {
  }
}

// src/transport.ts
var SILENCE = 1.5;
function timed(promise, afterMs) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("silent")), afterMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// src/transports/http.ts
var HELD_S = "30";
var eventStream = (context) => http(context, "sse");
var poll = (context) => http(context, "poll");
function http(context, name) {
  const { base: base2, patienceMs } = context;
  const readers = [{ channels: /* @__PURE__ */ new Map() }];
  const life = new AbortController();
  let { resume } = context;
  let heartbeatMs = 25e3;
  let isWelcome = false;
  const dirty = /* @__PURE__ */ new Set();
  const end = (reason) => {
    if (life.signal.aborted) return;
    transport.close();
    const { status, message } = reason;
    context.end({ reason: message ?? String(reason), code: status === 401 ? 4401 : void 0 });
  };
  const request = async (path, init, timeoutMs) => {
    context.said(init.body ? { ...parse(init.body), type: path } : { type: name, query: path.slice(name.length + 1) });
    const headers = {};
    if (context.token) headers.Authorization = `Bearer ${context.token}`;
    const response = await timed(context.fetch(base2 + path, { ...init, headers, cache: "no-store" }), timeoutMs);
    if (response.ok) return response;
    const body = await timed(response.json(), timeoutMs).catch(() => {
    }) ?? {};
    const { status } = response;
    throw Object.assign(new Error(body.message ?? `HTTP ${status}`), { status, body });
  };
  const deliver = (reader, event) => {
    if (life.signal.aborted) return;
    if (event.type === "welcome") {
      resume = event.resume ?? resume;
      heartbeatMs = event.heartbeat_ms;
      isWelcome = true;
      for (const other of readers) if (!other.abort) read(other);
    }
    const wish2 = reader?.channels.get(event.channel);
    if (event.channel && !wish2?.isRead) return;
    if (wish2 && event.position) wish2.since = event.position;
    if (event.type === "error") return end(event);
    context.event(event);
  };
  const query = (reader, wait2) => {
    const positions = [...reader.channels.values()].map((known) => known.since).filter(Boolean);
    let path = `${name}?resume=${encodeURIComponent(resume ?? "")}` + put("since", reader.token ?? positions.join(".")) + put("wait", wait2);
    const groups = /* @__PURE__ */ new Map();
    for (const [channel, wish2] of reader.channels) {
      const { latest, presence, info } = wish2;
      wish2.isRead = true;
      const wishes = put("latest", latest) + put("presence", presence) + put("info", info && JSON.stringify(info));
      groups.set(wishes, (groups.get(wishes) ?? "") + put("channel", channel));
    }
    for (const [wishes, channels] of [...groups].sort()) path += channels + wishes;
    return path;
  };
  const read = (reader) => {
    reader.abort?.abort();
    reader.abort = void 0;
    if (life.signal.aborted || !reader.channels.size) return;
    const isFirst = !readers.some((other) => other.abort);
    if (!isWelcome && !isFirst) return;
    const abort = reader.abort = new AbortController();
    const loop = name === "sse" ? stream : polls;
    loop(reader, abort.signal).catch((error) => {
      if (abort.signal.aborted || dirty.has(reader)) return;
      if (isFinal2(error)) refuse(reader, error);
      else end(error);
    });
  };
  const refuse = (reader, { body }) => {
    const { size } = reader.channels;
    if (size > 1) {
      const half = { channels: new Map([...reader.channels].slice(size >> 1)) };
      for (const channel of half.channels.keys()) reader.channels.delete(channel);
      readers.push(half);
      reader.token = void 0;
      read(reader);
      return read(half);
    }
    if (!isWelcome) hello();
    const { code = "bad_request", message } = body;
    for (const { id, channel } of reader.channels.values()) {
      context.event({ type: "error", id, channel, code, message });
    }
    reader.channels.clear();
    reader.abort = void 0;
  };
  const stream = async (reader, signal) => {
    const response = await request(query(reader), { signal }, patienceMs);
    const silenceMs = () => isWelcome ? heartbeatMs * SILENCE : patienceMs;
    await chunks(response, silenceMs, (text) => {
      const blocks = text.split(/\r?\n\r?\n/);
      const unread = blocks.pop();
      for (const block of blocks) {
        const lines = block.match(/^data:[^\n]*/gm);
        if (lines && !signal.aborted) deliver(reader, parse(lines.map((line) => line.slice(5)).join("\n")));
      }
      return unread;
    });
    throw new Error("ended");
  };
  const polls = async (reader, signal) => {
    const begun = /* @__PURE__ */ new Set();
    while (reader.channels.size && !dirty.has(reader)) {
      const waitS = [...reader.channels.keys()].some((channel) => !begun.has(channel)) ? "0" : HELD_S;
      let answer;
      try {
        answer = await request(query(reader, waitS), { signal }, +waitS * 1e3 + patienceMs);
      } catch (error) {
        const { body } = error;
        if (body?.code !== "rate_limited") throw error;
        await new Promise((resolve) => setTimeout(resolve, body.retry_after_ms ?? 1e3));
        continue;
      }
      isWelcome || context.heard();
      const all = await chunks(answer, () => patienceMs, (text) => text);
      const { position, events, more } = parse(all);
      if (signal.aborted) return;
      if (!isWelcome && events[0]?.type !== "welcome") hello();
      for (const [channel, { since, isRead }] of reader.channels) {
        const first = events.find((event) => event.channel === channel && !event.conflated);
        if (begun.has(channel) || more && !first) continue;
        begun.add(channel);
        if (since && isRead)
          context.event({
            type: "subscribed",
            channel,
            position: since,
            recovered: !first || !/gap|reset/.test(first.type)
          });
      }
      for (const event of events) {
        deliver(reader, event);
        if (signal.aborted) return;
      }
      reader.token = position;
    }
  };
  const post = async ({ id, ...publish }) => {
    let answer;
    const init = { method: "POST", body: JSON.stringify({ ...publish, resume }), signal: life.signal };
    try {
      answer = await timed((await request("publish", init, patienceMs * 2)).json(), patienceMs);
    } catch (error) {
      const { status = 0, message, body } = error;
      if (!body || status === 401 || !body.code && (status > 499 || status === 408 || status === 429)) return end(error);
      answer = { type: "error", code: status === 413 ? "message_too_big" : "bad_request", message, ...body };
    }
    if (!life.signal.aborted) context.event({ ...answer, id });
  };
  const later = (event) => queueMicrotask(() => context.event(event));
  const hello = () => deliver(void 0, { type: "welcome", heartbeat_ms: heartbeatMs, resume });
  const change = (reader) => {
    if (!dirty.size) {
      setTimeout(() => {
        const changed = [...dirty];
        dirty.clear();
        for (const reader2 of changed) {
          reader2.token = void 0;
          read(reader2);
        }
      });
    }
    dirty.add(reader);
  };
  const transport = {
    name,
    start(subscribe) {
      subscribe.forEach(this.send);
      if (subscribe.length) return;
      request(`${name}?`, { signal: life.signal }, patienceMs).then(end, (error) => {
        if (isFinal2(error) && error.body?.type === "error") hello();
        else end(error);
      });
    },
    send(command) {
      const { type, id, channel = "" } = command;
      if (type === "subscribe") {
        const [first] = readers;
        first.channels.set(channel, { ...command });
        change(first);
      } else if (type === "unsubscribe") {
        for (const reader of readers) if (reader.channels.delete(channel)) change(reader);
        later({ type: "unsubscribed", id, channel });
      } else if (type === "publish") {
        void post({ ...command, type: void 0 });
      } else {
        later({ type: "error", id, code: "unsupported", message: `${type} needs a WebSocket` });
      }
    },
    check() {
      for (const reader of readers) if (reader.abort) read(reader);
    },
    close() {
      life.abort();
      for (const reader of readers) reader.abort?.abort();
    }
  };
  return transport;
}
var isFinal2 = ({ status = 0, body }) => status === 414 || status === 431 || status >= 400 && status < 500 && ![401, 403, 408, 429].includes(status) && !!body?.code;
var chunks = async ({ body }, silenceMs, take) => {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (; ; ) {
    const { done, value } = await timed(reader.read(), silenceMs());
    if (done) return unread;
    unread = take(unread + value);
  }
};
var put = (name, value) => value ? `&${name}=${encodeURIComponent(value)}` : "";
var parse = (json) => JSON.parse(json);

// src/transports/websocket.ts
var SUBPROTOCOL = "switchboard.v1.json";
var CHECK_MS = 5e3;
function webSocket(context) {
  const { token, resume, patienceMs } = context;
  let socket;
  let heartbeatMs = 25e3;
  let timer;
  let ended = false;
  const end = (reason, code) => {
    if (ended) return;
    transport.close();
    context.end({ reason, code });
  };
  const send = (command) => {
    if (socket?.readyState !== 1) return;
    context.said(command);
    socket.send(JSON.stringify(command));
  };
  const watch = (silenceMs) => {
    clearTimeout(timer);
    timer = setTimeout(() => ask(patienceMs), silenceMs);
  };
  const ask = (answerMs) => {
    send({ type: "ping", id: 0 });
    clearTimeout(timer);
    timer = setTimeout(() => end("silent"), answerMs);
  };
  const transport = {
    name: "websocket",
    start(subscribe) {
      try {
        const url = context.base.replace(/^http/, "ws") + "ws";
        socket = new context.WebSocket(url, SUBPROTOCOL);
      } catch (error) {
        return queueMicrotask(() => end(String(error)));
      }
      socket.onopen = () => {
        send({ type: "connect", token, resume });
        subscribe.forEach(send);
      };
      socket.onmessage = ({ data }) => {
        if (ended) return;
        let event;
        try {
          event = JSON.parse(data);
        } catch {
          return end("not JSON");
        }
        if (typeof event !== "object" || !event) return watch(heartbeatMs * SILENCE);
        if (event.type === "welcome") heartbeatMs = event.heartbeat_ms;
        watch(heartbeatMs * SILENCE);
        context.event(event);
      };
      socket.onclose = ({ code, reason }) => end(reason || "lost", code);
      socket.onerror = () => {
      };
    },
    send,
    check: () => ask(CHECK_MS),
    close() {
      ended = true;
      clearTimeout(timer);
      if (!socket) return;
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1e3);
    }
  };
  return transport;
}

// src/client.ts
var TRANSPORTS = { websocket: webSocket, sse: eventStream, poll };
var NAMES = Object.keys(TRANSPORTS);
var WINDOW = 64;
var SUBSCRIBES_HELD_MS = 1e3;
var DOUBT_AFTER = 3;
var EXPIRES_MS = 3e4;
var TOKEN_MIN_MS = 5e3;
var TIMER_MS_MAX = 2e9;
var Switchboard = class extends Emitter {
  #options;
  #base;
  #names;
  #state = { status: "idle" };
  #link;
  /** Takes the place of `#link` once it is welcome. */
  #candidate;
  #attempt = 0;
  #failures = 0;
  #best;
  #hasWorked = false;
  #retryAfterMs;
  /** When there was last a reason to look at once. */
  #wokeAt = -Infinity;
  #resume;
  /** The token of the last connection. */
  #shown;
  #generation = 0;
  /** Those that are used, or may be. */
  #channels = /* @__PURE__ */ new Map();
  /** Those that have been, and that the application still has. */
  #known = /* @__PURE__ */ new Map();
  #publications = [];
  #bytes = 0;
  /** When what was refused may be said again, once all that is on its way has its answer. */
  #heldMs;
  /** Publications that may be on their way: after a refusal one, and one more for each that is taken. */
  #window = WINDOW;
  #asks = /* @__PURE__ */ new Map();
  #lastId = 0;
  #name = Math.random().toString(36).slice(2) + Date.now();
  #lastKey = 0;
  #upgradeMs;
  #timers = /* @__PURE__ */ new Map();
  #unlisten;
  /**
   * @param url Where the server is: `https://chat.example`, `wss://chat.example/ws`, a path of this page's origin. By default this
   * page's origin.
   */
  constructor(url, options) {
    super();
    this.#options = options = { ...options };
    this.#base = base(url);
    this.#names = [options.transports ?? NAMES].flat();
    const unknown = this.#names.find((name) => !NAMES.includes(name));
    if (unknown || !this.#names.length) {
      throw new TypeError(`transports: ${unknown} is not one of ${NAMES}`);
    }
    const known = this.#names.length > 1 ? recall(this.#base) : void 0;
    this.#best = this.#names.find((name) => name === known) ?? this.#names[0];
    const { baseMs = 0, capMs = 0 } = { ...options.backoff };
    if (!(baseMs >= 0 && capMs >= 0)) throw new TypeError("backoff: milliseconds");
    this.#upgradeMs = options.upgradeAfterMs ?? 6e4;
    if (!options.lazy) this.connect();
  }
  /** What the connection is doing. The same object until it changes. */
  get state() {
    return this.#state;
  }
  /** Whether there is a connection. */
  get isOpen() {
    return this.#state.status === "open";
  }
  /** Bytes of publications without an answer. */
  get bufferedAmount() {
    return this.#bytes;
  }
  /** Settles when every publication has its answer. */
  drained() {
    if (!this.#publications.length) return Promise.resolve();
    return new Promise((resolve) => this.once("drained", resolve));
  }
  /** A channel. The same object for the same name, as long as somebody has it. */
  channel(name) {
    check(name);
    let channel = this.#channels.get(name) ?? this.#known.get(name)?.deref();
    if (!channel) {
      channel = new Channel(this, name);
      for (const [other, ref] of this.#known) if (!ref.deref()) this.#known.delete(other);
      this.#known.set(name, new WeakRef(channel));
    }
    return channel;
  }
  /** Publishes. Settles when the server has the message; waits for a connection, and is never published twice. */
  publish(channel, data, options) {
    check(channel);
    if (this.#state.status === "closed") return Promise.reject(this.#state.reason);
    const { key = `${this.#name}-${++this.#lastKey}`, conflate } = { ...options };
    const json = JSON.stringify({ type: "publish", channel, key, conflate, ...payload(data) });
    const command = JSON.parse(json);
    if (!("data" in command || "data_base64" in command)) throw new TypeError(`${typeof data} is not JSON`);
    const bytes = new TextEncoder().encode(json).length;
    const { messages = 1e3, bytes: bytesMax = 1 << 20 } = { ...this.#options.queue };
    const isFull = this.#publications.length >= messages || this.#bytes + bytes > bytesMax;
    if (isFull && this.#publications.length) {
      return Promise.reject(new SwitchboardError("queue_full", "await drained()"));
    }
    this.#bytes += bytes;
    this.begin();
    let publication;
    const promise = new Promise((resolve, reject) => {
      publication = { command, bytes, id: void 0, resolve, reject };
      this.#publications.push(publication);
      this.#flush();
    });
    publication.promise = promise;
    return promise;
  }
  /** The time that a question to the server takes, in milliseconds. Needs a WebSocket. */
  ping() {
    const begun = performance.now();
    return this.ask({ type: "ping" }, () => performance.now() - begun);
  }
  /** Connects, if it is not connected and does not wait for that; also where it is closed. */
  connect() {
    if (this.#state.status === "closed") this.#state = { status: "idle" };
    this.begin();
  }
  /** @internal The same, but what is closed stays so. */
  begin() {
    if (this.#state.status !== "idle") return;
    this.#listen();
    this.#attempt = 0;
    void this.#try();
  }
  /** Tries at once, where it waits for the next attempt. */
  retry() {
    if (this.#state.status === "waiting") void this.#try();
    else if (this.isOpen) this.#link?.check();
    else this.begin();
  }
  /** Drops the connection as the network would; it comes back. For trying out what happens then. */
  cut() {
    if (this.#link) this.#lost({ reason: "cut" });
  }
  /** Ends all: subscriptions, publications that wait, listeners. */
  close() {
    const reason = new SwitchboardError("closed", "closed here");
    this.#end(reason);
    for (const channel of this.#channels.values()) channel.end(reason);
    this.#channels.clear();
    this.removeListeners();
  }
  /** @internal A question with one answer; asked again on the next connection, if this one is lost. */
  ask(command, read) {
    if (this.#state.status === "closed") return Promise.reject(this.#state.reason);
    this.begin();
    const id = ++this.#lastId;
    const asked = new Promise((resolve, reject) => this.#asks.set(id, { command, resolve, reject }));
    const promise = asked.then(read);
    this.#asks.get(id).promise = promise;
    if (this.isOpen) this.#link?.send({ ...command, id });
    return promise;
  }
  /** @internal Whether no subscription can be asked for now. */
  get isBusy() {
    return !this.isOpen || this.#asked.length >= WINDOW || this.#timers.has("subscribe");
  }
  get #asked() {
    return [...this.#channels.values()].filter((channel) => channel.isAsked);
  }
  /** @internal Returns its number. */
  say(command) {
    const id = ++this.#lastId;
    this.#link?.send({ ...command, id });
    return id;
  }
  /** @internal Somebody uses it, or nobody any more. */
  use(channel, isUsed) {
    if (isUsed) this.#channels.set(channel.name, channel);
    else this.#channels.delete(channel.name);
  }
  #set(state) {
    this.#state = state;
    this.emit("state", state);
  }
  #after(name, ms, callback) {
    this.#clear(name);
    const fire = () => {
      this.#timers.delete(name);
      callback();
    };
    this.#timers.set(name, setTimeout(fire, ms));
  }
  #clear(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
  /** One attempt, by the transport that is held for the best. */
  async #try(name = this.#best) {
    const generation = ++this.#generation;
    this.#clear("retry");
    this.#set({ status: "connecting", transport: name, attempt: this.#attempt });
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
    const link = this.#link = this.#open(name, token);
    const commands = [];
    for (const channel of this.#channels.values()) {
      const command = commands.length < WINDOW && channel.asked();
      if (command) commands.push({ ...command, id: channel.askedAs = ++this.#lastId });
    }
    link.start(commands);
  }
  get #patienceMs() {
    return this.#options.patienceMs ?? 1e4;
  }
  #open(name, token) {
    const context = {
      base: this.#base,
      token,
      resume: this.#resume,
      fetch: this.#options.fetch ?? ((input, init) => fetch(input, init)),
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
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
      }
    };
    const transport = TRANSPORTS[name](context);
    return transport;
  }
  async #token() {
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
  #drop() {
    this.#generation++;
    this.#link?.close();
    this.#candidate?.close();
    this.#link = this.#candidate = void 0;
    for (const name of [...this.#timers.keys()]) this.#clear(name);
  }
  /** The connection is gone, or an attempt has failed. */
  #lost({ code, reason }, name) {
    const wasOpen = this.isOpen;
    this.#drop();
    for (const channel of this.#channels.values()) channel.disconnected();
    this.#retreat(code);
    if (isFinal(code)) {
      const isRefused = code === 4401;
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
      if (isDoubted) this.#best = this.#names[0];
    }
    const isWakeUp = wasOpen && this.#retryAfterMs === void 0 && Date.now() - this.#wokeAt < 1e4;
    this.#wokeAt = -Infinity;
    this.#wait(reason, code, isWakeUp ? 0 : void 0);
  }
  /** What was on its way has to be said again. What the server cannot take is not. */
  #retreat(code) {
    if (code === 1009) {
      const sent = this.#publications.filter(({ id }) => id !== void 0);
      const largest = sent.sort((one, other) => other.bytes - one.bytes)[0];
      if (largest) {
        this.#settle(largest);
        largest.reject(new SwitchboardError("message_too_big", "too large"));
      }
    }
    for (const publication of this.#publications) publication.id = void 0;
    this.#heldMs = void 0;
  }
  #wait(reason, code, atOnce) {
    const { baseMs = 500, capMs = 3e4 } = { ...this.#options.backoff };
    const ms = atOnce ?? (this.#retryAfterMs !== void 0 ? advised(this.#retryAfterMs) : wait({ baseMs, capMs }, this.#attempt, Math.random()));
    this.#retryAfterMs = void 0;
    this.#attempt++;
    this.#set({ status: "waiting", attempt: this.#attempt, retryAt: Date.now() + ms, reason, code });
    this.#after("retry", ms, () => void this.#try());
  }
  /** For good. */
  #end(reason) {
    this.#drop();
    this.#unlisten?.();
    this.#unlisten = void 0;
    const waiting = [...this.#publications, ...this.#asks.values()];
    this.#publications = [];
    this.#bytes = 0;
    this.#asks.clear();
    for (const channel of this.#channels.values()) channel.disconnected(reason);
    if (this.#state.status !== "closed") this.#set({ status: "closed", reason });
    for (const { reject, promise } of waiting) {
      promise?.catch(() => {
      });
      reject(reason);
    }
    this.emit("drained", void 0);
  }
  #handle(link, event) {
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
        const ask = this.#asks.get(event.id);
        this.#asks.delete(event.id);
        return ask?.resolve(event);
      }
      case "error":
        return this.#refused(event);
      default:
        this.#channels.get(event.channel)?.handle(event);
        if (event.type === "subscribed" && !this.#asked.length) this.sync();
    }
  }
  #welcome(link, { session, user, resume }) {
    this.#resume = resume ?? this.#resume;
    const known = this.#state.status === "open" ? this.#state : void 0;
    if (link === this.#candidate) {
      const old = this.#link;
      this.#link = link;
      this.#candidate = void 0;
      old?.close();
      this.#retreat(void 0);
      for (const channel of this.#channels.values()) channel.disconnected();
    } else if (known) {
      if (session && known.session !== session) this.#set({ ...known, session, user });
      return;
    }
    this.#clear("patience");
    this.#failures = 0;
    this.#hasWorked = true;
    this.#best = link.name;
    if (this.#names.length > 1) remember(this.#base, link.name);
    this.#after("lasting", this.#options.lastingMs ?? 1e4, () => this.#attempt = 0);
    this.#set({ status: "open", transport: link.name, session: session ?? "", user: user ?? "" });
    if (link !== this.#link) return;
    this.sync();
    for (const [id, { command }] of this.#asks) link.send({ ...command, id });
    this.#flush();
    this.#clear("token");
    const leftMs = expiry(this.#shown) - Date.now();
    this.#plan(Math.max(leftMs - EXPIRES_MS, leftMs / 2));
  }
  /** Another connection is to take the place of this one: a better one, or one with a newer token. */
  #plan(tokenMs) {
    const { name } = this.#link;
    if (name !== this.#names[0]) {
      this.#after("upgrade", this.#upgradeMs, () => {
        this.#upgradeMs *= 2;
        void this.#replace(this.#names[0]);
      });
    }
    if (tokenMs > 0 && typeof this.#options.token === "function" && !this.#timers.has("token")) {
      const inMs = Math.min(Math.max(tokenMs, TOKEN_MIN_MS), TIMER_MS_MAX);
      this.#after("token", inMs, () => void this.#replace(name));
    }
  }
  /** @internal Asks for what could not be asked for before. */
  sync() {
    for (const channel of this.#channels.values()) channel.sync();
  }
  /** Opens another connection beside this one, which takes its place if it is welcome. */
  async #replace(name) {
    const old = this.#link;
    const token = await this.#token();
    if (!old || old !== this.#link || this.#candidate) return;
    if (token instanceof SwitchboardError) return this.#give();
    this.#shown = token;
    const candidate = this.#candidate = this.#open(name, token);
    this.#after("patience", this.#patienceMs, () => this.#give());
    candidate.start([]);
  }
  /** The connection there is goes on; the other one was not to be had. */
  #give() {
    this.#candidate?.close();
    this.#candidate = void 0;
    this.#clear("patience");
    this.#plan(expiry(this.#shown) && TOKEN_MIN_MS);
  }
  #refused({ id = -1, code, message = "", retry_after_ms = 1e3 }) {
    const error = new SwitchboardError(code, message, retry_after_ms);
    const channel = this.#asked.find(({ askedAs }) => askedAs === id);
    if (channel) {
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
      if (!this.isOpen && !error.retryable) this.#end(error);
      return;
    }
    if (!error.retryable || /many/.test(error.code)) {
      this.#settle(publication);
      publication.reject(error);
      return this.#flush();
    }
    publication.id = void 0;
    this.#heldMs = retry_after_ms;
    this.#window = 1;
    this.#flush();
  }
  #publication(id = -1) {
    return this.#publications.find((publication) => publication.id === id);
  }
  #settle(publication) {
    this.#publications.splice(this.#publications.indexOf(publication), 1);
    this.#bytes -= publication.bytes;
    if (!this.#publications.length) this.emit("drained", void 0);
  }
  /** Says what waits, in its order. */
  #flush() {
    if (!this.isOpen) return;
    if (this.#heldMs !== void 0) {
      if (this.#timers.has("publish") || this.#publications.some(({ id }) => id !== void 0)) return;
      return this.#after("publish", this.#heldMs, () => {
        this.#heldMs = void 0;
        this.#flush();
      });
    }
    for (const publication of this.#publications.slice(0, this.#link.name === "websocket" ? this.#window : 1)) {
      if (publication.id !== void 0) continue;
      publication.id = ++this.#lastId;
      this.#link?.send({ ...publication.command, id: publication.id });
    }
  }
  /** The network is back, the page is seen again, the machine wakes up: no reason to wait any longer. */
  #listen() {
    if (this.#unlisten) return;
    const retry = () => {
      this.#wokeAt = Date.now();
      if (this.#state.status === "waiting" || this.isOpen) this.retry();
    };
    const shown = (event) => {
      if (event.persisted) retry();
    };
    const seen = () => {
      if (globalThis.document?.visibilityState === "visible") retry();
    };
    const targets = [
      [globalThis.window, "online", retry],
      [globalThis.window, "pageshow", shown],
      [globalThis.document, "visibilitychange", seen],
      [globalThis.document, "resume", retry]
    ];
    for (const [target, name, listener] of targets) target?.addEventListener?.(name, listener);
    this.#unlisten = () => {
      for (const [target, name, listener] of targets) target?.removeEventListener?.(name, listener);
    };
  }
};
function expiry(token) {
  try {
    const claims = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(claims));
    return exp * 1e3;
  } catch {
    return NaN;
  }
}
function check(name) {
  if (typeof name !== "string" || !name) throw new TypeError(`not the name of a channel: ${String(name)}`);
}
function base(url) {
  try {
    const { protocol, host, pathname } = new URL(url ?? "/", globalThis.location?.href);
    const scheme = /^(http|ws)(s?:)$/.exec(protocol);
    return `http${scheme[2]}//${host}${pathname.replace(/(\/ws)?\/*$/, "/")}`;
  } catch {
    throw new TypeError(`not the URL of a server: ${url}`);
  }
}
export {
  Channel,
  Switchboard,
  SwitchboardError
};

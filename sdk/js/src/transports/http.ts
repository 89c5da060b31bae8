import type { ErrorCode } from "../codes.js";
import type { Command, ServerEvent } from "../protocol.js";
import { SILENCE, timed, type Context, type Transport, type TransportName } from "../transport.js";

/** What a poll is answered with. */
interface Polled {
  position: string;
  events: ServerEvent[];
  more?: boolean;
}

/** For how long the server may hold a poll, in seconds. */
const HELD_S = "30";

/** What a request may fail with: an answer that says why not, or, without these two, that there is none. */
interface Refused extends Error {
  readonly status?: number;
  readonly body?: Partial<ServerEvent>;
}

/** Server-Sent Events, with publications by POST. */
export const eventStream = (context: Context): Transport => http(context, "sse");
/** Polling, with publications by POST. */
export const poll = (context: Context): Transport => http(context, "poll");

/** A subscription, and whether the request that runs is for it. */
type Wish = Command & { isRead?: boolean };

/** Channels that are read by one request. */
interface Reader {
  channels: Map<string, Wish>;
  abort?: AbortController | undefined;
  /** Where it is in all its channels, as the last answer to a poll says. */
  token?: string | undefined;
}

function http(context: Context, name: TransportName): Transport {
  const { base, patienceMs } = context;
  // One, or its parts where a mistake in one channel is looked for.
  const readers: Reader[] = [{ channels: new Map() }];
  const life = new AbortController();
  let { resume } = context;
  let heartbeatMs = 25_000;
  let isWelcome = false;
  const dirty = new Set<Reader>();

  const end = (reason: unknown): void => {
    if (life.signal.aborted) return;
    transport.close();
    const { status, message } = reason as Refused;
    context.end({ reason: message ?? String(reason), code: status === 401 ? 4401 : undefined });
  };

  const request = async (path: string, init: RequestInit, timeoutMs: number): Promise<Response> => {
    context.said(init.body ? { ...parse(init.body as string), type: path } : { type: name, query: path.slice(name.length + 1) });
    const headers: Record<string, string> = {};
    if (context.token) headers.Authorization = `Bearer ${context.token}`;
    const response = await timed(context.fetch(base + path, { ...init, headers, cache: "no-store" }), timeoutMs);
    if (response.ok) return response;
    // A proxy's answer may be anything.
    const body = ((await timed(response.json(), timeoutMs).catch(() => {})) ?? {}) as Partial<ServerEvent>;
    const { status } = response;
    throw Object.assign(new Error(body.message ?? `HTTP ${status}`), { status, body });
  };

  /** Something happened in a channel of a reader. */
  const deliver = (reader: Reader | undefined, event: ServerEvent): void => {
    if (life.signal.aborted) return;
    if (event.type === "welcome") {
      resume = event.resume ?? resume;
      heartbeatMs = event.heartbeat_ms;
      // Of several readers the others go on as the same session.
      isWelcome = true;
      for (const other of readers) if (!other.abort) read(other);
    }
    const wish = reader?.channels.get(event.channel);
    // What is still on its way may be for other wishes than these.
    if (event.channel && !wish?.isRead) return;
    if (wish && event.position) wish.since = event.position;
    if (event.type === "error") return end(event);
    context.event(event);
  };

  const query = (reader: Reader, wait?: string): string => {
    const positions = [...reader.channels.values()].map((known) => known.since).filter(Boolean);
    let path = `${name}?resume=${encodeURIComponent(resume ?? "")}` + put("since", reader.token ?? positions.join(".")) + put("wait", wait);
    // Wishes are of the channels before them; those without any come last, as a comma comes behind an ampersand.
    const groups = new Map<string, string>();
    for (const [channel, wish] of reader.channels) {
      const { latest, presence, info } = wish;
      wish.isRead = true;
      const wishes = put("latest", latest) + put("presence", presence) + put("info", info && JSON.stringify(info));
      groups.set(wishes, (groups.get(wishes) ?? "") + put("channel", channel));
    }
    for (const [wishes, channels] of [...groups].sort()) path += channels + wishes;
    return path;
  };

  const read = (reader: Reader): void => {
    reader.abort?.abort();
    reader.abort = undefined;
    if (life.signal.aborted || !reader.channels.size) return;
    // Who it is must be known before a second one asks.
    const isFirst = !readers.some((other) => other.abort);
    if (!isWelcome && !isFirst) return;
    const abort = (reader.abort = new AbortController());
    const loop = name === "sse" ? stream : polls;
    loop(reader, abort.signal).catch((error: Refused) => {
      if (abort.signal.aborted || dirty.has(reader)) return;
      if (isFinal(error)) refuse(reader, error);
      else end(error);
    });
  };

  /** What is wrong is in what was asked for: nobody gets it by asking again. Halves find out in which channel. */
  const refuse = (reader: Reader, { body }: Refused): void => {
    const { size } = reader.channels;
    if (size > 1) {
      const half: Reader = { channels: new Map([...reader.channels].slice(size >> 1)) };
      for (const channel of half.channels.keys()) reader.channels.delete(channel);
      readers.push(half);
      reader.token = undefined;
      read(reader);
      return read(half);
    }
    if (!isWelcome) hello();
    const { code = "bad_request", message } = body!;
    for (const { id, channel } of reader.channels.values()) {
      context.event({ type: "error", id, channel, code, message } as ServerEvent);
    }
    reader.channels.clear();
    reader.abort = undefined;
  };

  const stream = async (reader: Reader, signal: AbortSignal): Promise<void> => {
    const response = await request(query(reader), { signal }, patienceMs);
    // A proxy that keeps what it should pass on is found out by the first event.
    const silenceMs = (): number => (isWelcome ? heartbeatMs * SILENCE : patienceMs);
    await chunks(response, silenceMs, (text) => {
      const blocks = text.split(/\r?\n\r?\n/);
      const unread = blocks.pop()!;
      for (const block of blocks) {
        const lines = block.match(/^data:[^\n]*/gm);
        if (lines && !signal.aborted) deliver(reader, parse(lines.map((line) => line.slice(5)).join("\n")));
      }
      return unread;
    });
    throw new Error("ended");
  };

  const polls = async (reader: Reader, signal: AbortSignal): Promise<void> => {
    const begun = new Set<string>();
    while (reader.channels.size && !dirty.has(reader)) {
      // The first one is not held: it says that all works.
      const waitS = [...reader.channels.keys()].some((channel) => !begun.has(channel)) ? "0" : HELD_S;
      let answer;
      try {
        answer = await request(query(reader, waitS), { signal }, +waitS * 1_000 + patienceMs);
      } catch (error) {
        const { body } = error as Refused;
        if (body?.code !== "rate_limited") throw error;
        // Too many at once: the next one brings more.
        await new Promise((resolve) => setTimeout(resolve, body.retry_after_ms ?? 1_000));
        continue;
      }
      // A large answer takes its time over a slow network. The next attempt would begin with the same one.
      isWelcome || context.heard();
      const all = await chunks(answer, () => patienceMs, (text) => text);
      const { position, events, more } = parse(all) as unknown as Polled;
      if (signal.aborted) return;
      if (!isWelcome && events[0]?.type !== "welcome") hello();
      // What goes on is not said to be subscribed: what is missing, or nothing, tells.
      for (const [channel, { since, isRead }] of reader.channels) {
        // What is missing behind a message, or behind who is there, is none of this; a conflated gap says that nothing is.
        const first = events.find((event) => event.channel === channel && !event.conflated);
        // Where there is more, a channel of which nothing is said may not have been read.
        if (begun.has(channel) || (more && !first)) continue;
        begun.add(channel);
        if (since && isRead)
          context.event({
            type: "subscribed",
            channel,
            position: since,
            recovered: !first || !/gap|reset/.test(first.type),
          } as ServerEvent);
      }
      for (const event of events) {
        deliver(reader, event);
        if (signal.aborted) return;
      }
      reader.token = position;
    }
  };

  const post = async ({ id, ...publish }: Command): Promise<void> => {
    let answer: Partial<ServerEvent>;
    const init = { method: "POST", body: JSON.stringify({ ...publish, resume }), signal: life.signal };
    try {
      answer = (await timed((await request("publish", init, patienceMs * 2)).json(), patienceMs)) as ServerEvent;
    } catch (error) {
      const { status = 0, message, body } = error as Refused;
      // A box between us and the server has no words of ours.
      if (!body || status === 401 || (!body.code && (status > 499 || status === 408 || status === 429))) return end(error);
      answer = { type: "error", code: status === 413 ? "message_too_big" : "bad_request", message, ...body };
    }
    if (!life.signal.aborted) context.event({ ...answer, id } as ServerEvent);
  };

  const later = (event: object): void => queueMicrotask(() => context.event(event as ServerEvent));
  /** Where no answer says who we are, a Switchboard is there all the same. */
  const hello = (): void => deliver(undefined, { type: "welcome", heartbeat_ms: heartbeatMs, resume } as ServerEvent);

  /** Reads what has changed, all changes of one moment at once. */
  const change = (reader: Reader): void => {
    if (!dirty.size) {
      setTimeout(() => {
        const changed = [...dirty];
        dirty.clear();
        for (const reader of changed) {
          reader.token = undefined;
          read(reader);
        }
      });
    }
    dirty.add(reader);
  };

  const transport: Transport = {
    name,
    start(subscribe) {
      subscribe.forEach(this.send);
      if (subscribe.length) return;
      // Without channels there is nothing to read. Only a Switchboard says what is missing.
      request(`${name}?`, { signal: life.signal }, patienceMs).then(end, (error: Refused) => {
        if (isFinal(error) && error.body?.type === "error") hello();
        else end(error);
      });
    },
    send(command) {
      const { type, id, channel = "" } = command;
      if (type === "subscribe") {
        const [first] = readers as [Reader];
        first.channels.set(channel, { ...command });
        change(first);
      } else if (type === "unsubscribe") {
        for (const reader of readers) if (reader.channels.delete(channel)) change(reader);
        later({ type: "unsubscribed", id, channel });
      } else if (type === "publish") {
        void post({ ...command, type: undefined } as unknown as Command);
      } else {
        later({ type: "error", id, code: "unsupported" satisfies ErrorCode, message: `${type} needs a WebSocket` });
      }
    },
    check() {
      for (const reader of readers) if (reader.abort) read(reader);
    },
    close() {
      life.abort();
      for (const reader of readers) reader.abort?.abort();
    },
  };
  return transport;
}

/** Whether an answer stays the same until the question is another one. */
const isFinal = ({ status = 0, body }: Refused): boolean =>
  status === 414 || status === 431 || (status >= 400 && status < 500 && ![401, 403, 408, 429].includes(status) && !!body?.code);

/** Reads an answer, none of it after too long a silence. What has come so far is taken, and what of it has to wait for more stays. */
const chunks = async ({ body }: Response, silenceMs: () => number, take: (text: string) => string): Promise<string> => {
  const reader = body!.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (;;) {
    const { done, value } = await timed(reader.read(), silenceMs());
    if (done) return unread;
    unread = take(unread + value);
  }
};

/** A parameter, if it is there. */
const put = (name: string, value: string | boolean | undefined): string =>
  value ? `&${name}=${encodeURIComponent(value)}` : "";

const parse = (json: string): ServerEvent => JSON.parse(json) as ServerEvent;

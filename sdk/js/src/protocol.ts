import type { ErrorCode } from "./codes.js";

/** A message of a channel. */
export interface Message<T = unknown> {
  channel: string;
  /** What was published: JSON, or a `Uint8Array` where it was bytes. */
  data: T;
  /** Its place in the channel, strictly increasing; not necessarily without holes. */
  offset: number;
  /** Where a subscription goes on behind it. Opaque. */
  position: string;
  /** The user who published it; none of a backend's. */
  from?: string;
  /** When, in milliseconds since 1970. */
  at: number;
  /** What it is the newest state of. */
  conflate?: string;
}

/** Messages that this client did not get and will not get. */
export interface Gap {
  channel: string;
  /** The first missing offset. */
  from: number;
  /** The last missing offset. */
  to: number;
  position: string;
  /** Newer messages of the same conflation keys follow in their place. */
  conflated?: boolean;
}

/** Positions of the channel start anew: its log of before is gone. */
export interface Reset {
  channel: string;
  offset: number;
  position: string;
}

/** A subscription has begun, or gone on. */
export interface Subscribed {
  channel: string;
  /** Of `position`; polls that go on do not say it. */
  offset?: number;
  position: string;
  /** Whether nothing is missing since the connection before; absent the first time. If not, a `gap` or `reset` follows. */
  recovered?: boolean;
}

/** Somebody in a channel, by one session. */
export interface Member<Info = Record<string, unknown>> {
  user: string;
  session: string;
  info?: Info;
}

/** Who is in a channel. */
export interface Presence<Info = Record<string, unknown>> {
  /** By session. Empty where there are too many to be listed. */
  members: ReadonlyMap<string, Member<Info>>;
  /** How many sessions. */
  count: number;
  /** How many different users. */
  users: number;
  /** Whether `members` are all. */
  listed: boolean;
}

/** Where a message is. */
export interface Published {
  offset: number;
  position: string;
}

/** A part of a channel's log. */
export interface History<T = unknown> {
  channel: string;
  messages: Message<T>[];
  /** Where to go on. */
  position: string;
  /** Whether there is more. */
  more: boolean;
  /** What is missing before the first message. */
  gap?: { from: number; to: number };
  /** The position asked for is of another life of the log. */
  reset?: boolean;
}

/** A part of the members of a channel. */
export interface Members<Info = Record<string, unknown>> {
  channel: string;
  members: Member<Info>[];
  count: number;
  users: number;
  next?: string;
}

/** Whether to be in the channel (`member`), to hear who is (`watch`), or both. */
export type PresenceWish = boolean | "member" | "watch";

/** What is said to the server (spec/protocol.md, section 4). */
export interface Command {
  type: "connect" | "subscribe" | "unsubscribe" | "publish" | "history" | "members" | "ping";
  id?: number;
  channel?: string;
  data?: unknown;
  data_base64?: string;
  key?: string;
  conflate?: string;
  since?: string;
  before?: string;
  after?: string;
  latest?: boolean;
  sample?: boolean;
  limit?: number;
  token?: string;
  resume?: string;
  presence?: PresenceWish;
  info?: object;
}

/** What the server says (section 5). Fields are there as its type says. */
export interface ServerEvent {
  type: string;
  id?: number;
  channel: string;
  offset: number;
  position: string;
  recovered?: boolean;
  conflated?: boolean;
  data?: unknown;
  data_base64?: string;
  messages?: ServerEvent[];
  from?: string | number;
  to?: number;
  members?: Member[];
  joined?: Member[];
  left?: { user: string; session: string }[];
  count: number;
  users: number;
  code: ErrorCode | number;
  message?: string;
  retry_after_ms?: number;
  session: string;
  user: string;
  heartbeat_ms: number;
  resume?: string;
}

/** The payload of a message or of a history. */
export function withData(event: ServerEvent): Message {
  const { type: _type, data_base64: base64, ...message } = event;
  if (base64 !== undefined) {
    try {
      message.data = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    } catch {
      // No server says that.
    }
  }
  return message as unknown as Message;
}

/** The fields that carry a payload. */
export function payload(data: unknown): Pick<Command, "data" | "data_base64"> {
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
  if (ArrayBuffer.isView(bytes)) {
    const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let binary = "";
    for (const byte of view) binary += String.fromCharCode(byte);
    return { data_base64: btoa(binary) };
  }
  return { data };
}

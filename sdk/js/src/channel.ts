import type { Switchboard } from "./client.js";
import { Emitter } from "./emitter.js";
import { SwitchboardError } from "./errors.js";
import {
  withData,
  type Command,
  type Gap,
  type History,
  type Member,
  type Members,
  type Message,
  type Presence,
  type PresenceWish,
  type Published,
  type Reset,
  type ServerEvent,
  type Subscribed,
} from "./protocol.js";

/** What a channel tells. */
export interface ChannelEvents<T = unknown, Info = Record<string, unknown>> {
  message: Message<T>;
  gap: Gap;
  reset: Reset;
  subscribed: Subscribed;
  presence: Presence<Info>;
  /** The server does not take the subscription. */
  error: SwitchboardError;
}

/** How to subscribe. */
export interface SubscribeOptions {
  /** Go on behind this position, of an earlier message. Of the first subscription of a channel. */
  since?: string;
  /** Where messages cannot be had one by one, only the newest of each conflation key. */
  latest?: boolean;
  /** Be there (`"member"`), hear who is (`"watch"`), or both (`true`). */
  presence?: PresenceWish;
  /** What others see of this member: an object of at most 1 KiB of JSON. */
  info?: object;
}

/** How to publish. */
export interface PublishOptions {
  /** Makes a repetition the same message; by default every publication has one of its own. */
  key?: string;
  /** What the message is the newest state of. */
  conflate?: string;
}

/** A part of a log. */
export interface HistoryOptions {
  since?: string;
  before?: string;
  latest?: boolean;
  limit?: number;
}

/** A part of the members. */
export interface MembersOptions {
  after?: string;
  sample?: boolean;
  limit?: number;
}

/** One use of a channel. The channel is subscribed as long as it has any. */
export interface Subscription {
  /** Settles when the subscription has begun, or is refused. */
  readonly ready: Promise<Subscribed>;
  /** Ends this use. */
  unsubscribe(): void;
}

/** Messages that an iteration may be behind. Beyond it fails: nothing is lost silently. */
const ITERATION_MAX = 1_024;
/** For so long a channel that nobody uses stays subscribed: whoever ends and begins anew at once loses nothing. */
const LEAVE_AFTER_MS = 100;

/** What of the subscription the server knows. */
type Stage = "idle" | "asked" | "subscribed";

/** A channel of messages of type `T`. Get it with {@link Switchboard.channel}. */
export class Channel<T = unknown, Info = Record<string, unknown>> extends Emitter<ChannelEvents<T, Info>> {
  #client: Switchboard;
  #uses = new Map<object, SubscribeOptions & { off?: (() => void) | undefined }>();
  #stage: Stage = "idle";
  #said = "";
  #begun: Subscribed | undefined;
  #since: string | undefined;
  #offset = -1;
  #leaving: ReturnType<typeof setTimeout> | undefined;
  #presence: Presence<Info> | undefined;
  #waiters = new Set<{ resolve: (value: Subscribed) => void; reject: (error: Error) => void }>();

  /** @internal */
  constructor(
    client: Switchboard,
    /** Its name. */
    readonly name: string,
  ) {
    super();
    this.#client = client;
  }

  /** @internal Who listens has it. */
  override on<Name extends keyof ChannelEvents<T, Info>>(
    name: Name,
    listener: (value: ChannelEvents<T, Info>[Name]) => void,
  ): () => void {
    this.#client.use(this, true);
    return super.on(name, listener);
  }

  /** Whether the server delivers its messages now. */
  get subscribed(): boolean {
    return this.#stage === "subscribed";
  }

  /** Who is there, if a subscription asked for that. */
  get presence(): Presence<Info> | undefined {
    return this.#presence;
  }

  /** Where this client is in the channel. */
  get position(): string | undefined {
    return this.#since;
  }

  /** Begins a use of the channel. `listener` gets its messages for as long. */
  subscribe(listener?: (message: Message<T>) => void, options?: SubscribeOptions): Subscription;
  subscribe(options?: SubscribeOptions): Subscription;
  subscribe(
    listener?: ((message: Message<T>) => void) | SubscribeOptions,
    options: SubscribeOptions = {},
  ): Subscription {
    if (typeof listener === "object") [listener, options] = [undefined, listener];
    if (listener !== undefined && typeof listener !== "function") {
      throw new TypeError("subscribe() takes a function and options");
    }
    // What cannot be said is not begun.
    JSON.stringify(options);
    const use = {};
    const off = listener && this.on("message", listener);
    this.#uses.set(use, { ...options, off });
    clearTimeout(this.#leaving);
    this.#since ??= options.since;
    const begun = this.#begun;
    const ready = new Promise<Subscribed>((resolve, reject) => {
      if (begun) resolve(begun);
      else this.#waiters.add({ resolve, reject });
    });
    // Nobody need look at it.
    ready.catch(() => {});
    this.#client.use(this, true);
    this.#client.connect();
    this.sync();
    const unsubscribe = (): void => {
      off?.();
      if (!this.#uses.delete(use)) return;
      clearTimeout(this.#leaving);
      if (this.#uses.size) this.sync();
      else this.#leaving = setTimeout(() => this.#leave(), LEAVE_AFTER_MS);
    };
    return { ready, unsubscribe };
  }

  /** Messages as they come, for as long as the loop goes on. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<Message<T>> {
    const waiting: Message<T>[] = [];
    let failed: SwitchboardError | undefined;
    let wake = (): void => {};
    const subscription = this.subscribe((message) => {
      if (waiting.length >= ITERATION_MAX) failed = new SwitchboardError("iteration_full", FULL);
      else waiting.push(message);
      wake();
    });
    subscription.ready.catch((error: unknown) => {
      failed = error as SwitchboardError;
      wake();
    });
    const offs = [
      this.on("error", (error) => {
        failed = error;
        wake();
      }),
      this.#client.on("state", ({ status }) => {
        if (status === "closed") failed = new SwitchboardError("closed", "closed here");
        wake();
      }),
    ];
    try {
      for (;;) {
        const message = waiting.shift();
        if (message) yield message;
        else if (failed) throw failed;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      subscription.unsubscribe();
      for (const off of offs) off();
    }
  }

  /** Publishes. Settles with the place of the message when the server has it. */
  publish(data: T, options?: PublishOptions): Promise<Published> {
    return this.#client.publish(this.name, data, options);
  }

  /** Reads the log: the newest messages by default. */
  history(options: HistoryOptions = {}): Promise<History<T>> {
    return this.#client.ask({ type: "history", channel: this.name, ...options }, (event) => ({
      ...(event as unknown as History<T>),
      messages: (event.messages ?? []).map((message) => withData({ ...message, channel: this.name }) as Message<T>),
    }));
  }

  /** Asks who is in the channel, without subscribing. */
  members(options: MembersOptions = {}): Promise<Members<Info>> {
    const command: Command = { type: "members", channel: this.name, ...options };
    return this.#client.ask(command, (event) => event as unknown as Members<Info>);
  }

  /** @internal What is to be said so that the server knows what is wanted; nothing if it does. */
  command(): Command | undefined {
    if (!this.#uses.size) return undefined;
    const uses = [...this.#uses.values()];
    const wishes = new Set(uses.map((use) => use.presence).filter(Boolean));
    const presence = wishes.size > 1 ? true : [...wishes][0];
    return {
      type: "subscribe",
      channel: this.name,
      since: this.#since,
      latest: uses.some((use) => use.latest) || undefined,
      presence,
      info: presence === "watch" ? undefined : uses.find((use) => use.info)?.info,
    };
  }

  /** @internal The same, and it is said. */
  asked(): Command | undefined {
    const command = this.command();
    if (!command?.presence) this.#presence = undefined;
    this.#stage = command ? "asked" : "idle";
    this.#said = wish(command);
    return command;
  }

  /** @internal Says what the server does not know yet. */
  sync(): void {
    if (!this.#client.isOpen || this.#stage === "asked") return;
    if (this.#stage === "subscribed") {
      if (wish(this.command()) === this.#said) return;
      // Other wishes are another subscription, which goes on where this one was.
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    const command = this.asked();
    if (command) this.#client.say(command);
  }

  #leave(): void {
    if (this.#stage !== "idle" && this.#client.isOpen) {
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    this.#forget();
    if (!this.hasListeners) this.#client.use(this, false);
  }

  #forget(): void {
    this.#stage = "idle";
    this.#begun = this.#since = this.#presence = undefined;
    this.#offset = -1;
  }

  /** @internal The connection is gone; for good, if there is an error. */
  disconnected(error?: SwitchboardError): void {
    this.#stage = "idle";
    if (error) this.#giveUp(error);
  }

  #giveUp(error: SwitchboardError): void {
    for (const { reject } of this.#waiters) reject(error);
    this.#waiters.clear();
  }

  /** @internal The client is closed: nothing comes any more. */
  end(error: SwitchboardError): void {
    clearTimeout(this.#leaving);
    this.#giveUp(error);
    this.#uses.clear();
    this.#forget();
    this.removeListeners();
  }

  /** @internal The server refuses the subscription. */
  refused(error: SwitchboardError): void {
    this.#stage = "idle";
    if (error.retryable) {
      setTimeout(() => this.sync(), error.retryAfterMs ?? 1_000);
      return;
    }
    this.#giveUp(error);
    for (const { off } of this.#uses.values()) off?.();
    this.#uses.clear();
    this.#forget();
    this.emit("error", error);
  }

  /** @internal Something of this channel. */
  handle(event: ServerEvent): void {
    // Whoever ends and begins anew wants to know that it is subscribed.
    if (!this.#uses.size && event.type !== "subscribed") return;
    switch (event.type) {
      case "subscribed": {
        this.#stage = "subscribed";
        this.#since = event.position ?? this.#since;
        if (event.offset !== undefined && this.#offset < 0) this.#offset = event.offset;
        const subscribed = (this.#begun = plain<Subscribed>(event));
        for (const { resolve } of this.#waiters) resolve(subscribed);
        this.#waiters.clear();
        this.emit("subscribed", subscribed);
        // More may be wanted than when it was asked for.
        return this.sync();
      }
      case "message":
        // It came by another connection, too.
        if (!(event.offset > this.#offset)) return;
        this.#at(event);
        return this.emit("message", withData(event) as Message<T>);
      case "gap":
        if ((event.to ?? 0) <= this.#offset) return;
        this.#since = event.position;
        this.#offset = event.to ?? this.#offset;
        return this.emit("gap", plain<Gap>(event));
      case "reset":
        this.#at(event);
        return this.emit("reset", plain<Reset>(event));
      case "presence":
        return this.#handlePresence(event);
    }
  }

  #at({ position, offset }: ServerEvent): void {
    this.#since = position;
    this.#offset = offset;
  }

  #handlePresence({ members, joined = [], left = [], count, users }: ServerEvent): void {
    const isWhole = members !== undefined;
    const isChange = joined.length + left.length > 0;
    const known = new Map<string, Member<Info>>(isWhole || !isChange ? [] : this.#presence?.members);
    for (const { session } of left) known.delete(session);
    for (const member of [...(members ?? []), ...joined]) known.set(member.session, member as Member<Info>);
    this.#presence = { members: known, count, users, listed: isWhole || (isChange && known.size === count) };
    this.emit("presence", this.#presence);
  }
}

const FULL = `the loop is ${ITERATION_MAX} messages behind`;

/** What of a subscription the server would have to be told anew. */
const wish = (command: Command | undefined): string =>
  command ? JSON.stringify([command.latest, command.presence, command.info]) : "";

/** An event without its type and id. */
function plain<T>({ type: _type, id: _id, ...rest }: ServerEvent): T {
  return rest as T;
}


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
  since?: string | undefined;
  /** Where messages cannot be had one by one, only the newest of each conflation key. */
  latest?: boolean | undefined;
  /** Be there (`"member"`), hear who is (`"watch"`), or both (`true`). */
  presence?: PresenceWish | undefined;
  /** What others see of this member: an object of at most 1 KiB of JSON. */
  info?: object | undefined;
}

/** How to publish. */
export interface PublishOptions {
  /** Makes a repetition the same message; by default every publication has one of its own. */
  key?: string | undefined;
  /** What the message is the newest state of. */
  conflate?: string | undefined;
}

/** A part of a log. */
export interface HistoryOptions {
  since?: string | undefined;
  before?: string | undefined;
  latest?: boolean | undefined;
  limit?: number | undefined;
}

/** A part of the members. */
export interface MembersOptions {
  after?: string | undefined;
  sample?: boolean | undefined;
  limit?: number | undefined;
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
/** For so long a channel that nobody uses stays subscribed, if nothing comes: whoever ends and begins anew at once costs nothing. */
const LEAVE_AFTER_MS = 100;

/** What a use wants. */
interface Use extends SubscribeOptions {
  /** Ends its listener. */
  off: (() => void) | undefined;
}

/** What of the subscription the server knows. */
type Stage = "idle" | "asked" | "held" | "subscribed";

/** A channel of messages of type `T`. Get it with {@link Switchboard.channel}. */
export class Channel<T = unknown, Info = Record<string, unknown>> extends Emitter<ChannelEvents<T, Info>> {
  #client: Switchboard;
  #uses = new Map<object, Use>();
  #stage: Stage = "idle";
  #said = "";
  #begun: Subscribed | undefined;
  #since: string | undefined;
  /** Where it is to begin instead, once what was asked for is answered. */
  #again: string | undefined;
  #offset = -1;
  #leaving: ReturnType<typeof setTimeout> | undefined;
  #presence: Presence<Info> | undefined;
  #waiters = new Set<{ resolve: (value: Subscribed) => void; reject: (error: Error) => void }>();

  /** @internal The number of the last command that asked for it. */
  askedAs: number | undefined;

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
    const off = super.on(name, listener);
    this.#client.use(this, true);
    return () => {
      off();
      this.#release();
    };
  }

  /** Whether the server delivers its messages now. */
  get subscribed(): boolean {
    return this.#stage === "subscribed";
  }

  /** @internal Whether the server has to answer. */
  get isAsked(): boolean {
    return this.#stage === "asked";
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
    options?: SubscribeOptions,
  ): Subscription {
    if (typeof listener === "object") [listener, options] = [undefined, listener];
    // What cannot be said is not begun.
    JSON.stringify(options);
    const use = {};
    const off = listener && this.on("message", listener);
    const wishes: Use = { ...options, off };
    const { since } = wishes;
    // One that is kept, or under way, is of use where it goes on from there.
    if (!this.#uses.size && since && since !== this.#since) {
      this.#leave();
      if (this.isAsked) this.#again = since;
    }
    this.#uses.set(use, wishes);
    clearTimeout(this.#leaving);
    this.#since ??= since;
    const begun = this.#begun;
    const ready = new Promise<Subscribed>((resolve, reject) => {
      if (begun) resolve(begun);
      else this.#waiters.add({ resolve, reject });
    });
    // Nobody need look at it.
    ready.catch(() => {});
    this.#client.use(this, true);
    const { state } = this.#client;
    if (state.status === "closed") this.#giveUp(state.reason);
    this.#client.begin();
    this.sync();
    const unsubscribe = (): void => {
      off?.();
      if (!this.#uses.delete(use)) return;
      if (this.#uses.size) this.sync();
      else this.#leaving = setTimeout(() => this.#leave(), LEAVE_AFTER_MS);
    };
    return { ready, unsubscribe };
  }

  /** Messages as they come, for as long as the loop goes on. */
  [Symbol.asyncIterator](): AsyncIterator<Message<T>, undefined> {
    const waiting: Message<T>[] = [];
    const wakes: (() => void)[] = [];
    let failed: SwitchboardError | undefined;
    let hasEnded = false;
    const wake = (error?: SwitchboardError): void => {
      failed ??= error;
      for (const resolve of wakes.splice(0)) resolve();
    };
    const subscription = this.subscribe((message) => {
      // Behind a hole nothing more is taken.
      if (failed) return;
      const isFull = waiting.length >= ITERATION_MAX;
      if (!isFull) waiting.push(message);
      wake(isFull ? new SwitchboardError("iteration_full", `${ITERATION_MAX} messages behind`) : undefined);
    });
    subscription.ready.catch(wake);
    const offs = [
      this.on("error", wake),
      this.#client.on("state", (state) => {
        if (state.status === "closed") wake(state.reason);
      }),
    ];
    const end = (): Promise<IteratorReturnResult<undefined>> => {
      hasEnded = true;
      subscription.unsubscribe();
      for (const off of offs) off();
      wake();
      return Promise.resolve({ done: true, value: undefined });
    };
    return {
      async next() {
        for (;;) {
          if (hasEnded) return end();
          const value = waiting.shift();
          if (value) return { done: false, value };
          if (failed) {
            void end();
            throw failed;
          }
          await new Promise<void>((resolve) => wakes.push(resolve));
        }
      },
      return: end,
    };
  }

  /** Publishes. Settles with the place of the message when the server has it. */
  publish(data: T, options?: PublishOptions): Promise<Published> {
    return this.#client.publish(this.name, data, options);
  }

  /** Reads the log: the newest messages by default. */
  history(options?: HistoryOptions): Promise<History<T>> {
    return this.#client.ask({ ...options, type: "history", channel: this.name }, (event) => ({
      ...(event as unknown as History<T>),
      messages: (event.messages ?? []).map((message) => withData({ ...message, channel: this.name }) as Message<T>),
    }));
  }

  /** Asks who is in the channel, without subscribing. */
  members(options?: MembersOptions): Promise<Members<Info>> {
    const command: Command = { ...options, type: "members", channel: this.name };
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
    const again = this.#again;
    if (again) {
      this.#forget();
      this.#since = again;
    }
    const command = this.command();
    if (!command?.presence) this.#presence = undefined;
    this.#stage = command ? "asked" : "idle";
    this.#said = wish(command);
    return command;
  }

  /** @internal Says what the server does not know yet. */
  sync(): void {
    if (this.#client.isBusy || this.isAsked || this.#stage === "held") return;
    if (this.#stage === "subscribed") {
      if (wish(this.command()) === this.#said) return;
      // Other wishes are another subscription, which goes on where this one was.
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    const command = this.asked();
    if (command) this.askedAs = this.#client.say(command);
  }

  #leave(): void {
    clearTimeout(this.#leaving);
    this.#leaving = undefined;
    // Once it is answered it is left.
    if (this.isAsked) return;
    if (this.#stage === "subscribed" && this.#client.isOpen) {
      this.#client.say({ type: "unsubscribe", channel: this.name });
    }
    this.#forget();
    this.#release();
  }

  /** Nobody has it any more, as far as this client knows. */
  #release(): void {
    if (!this.#uses.size && this.#stage === "idle" && !this.hasListeners) this.#client.use(this, false);
  }

  #forget(): void {
    this.#stage = "idle";
    this.#begun = this.#since = this.#again = this.#presence = undefined;
    this.#offset = -1;
  }

  /** @internal The connection is gone; for good, if there is an error. */
  disconnected(error?: SwitchboardError): void {
    this.#stage = "idle";
    this.#begun = undefined;
    if (error) this.#giveUp(error);
    if (!this.#uses.size && !this.#leaving) this.#leave();
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
  handle(event: ServerEvent): void {
    if (event.type === "subscribed") this.#stage = "subscribed";
    // What comes before the answer is of the subscription before, and comes again.
    if (this.isAsked || (this.#again && event.type !== "subscribed")) return;
    // Whoever ends and begins anew wants to miss nothing.
    if (!this.#uses.size) return this.#leave();
    switch (event.type) {
      case "subscribed": {
        if (this.#again) {
          this.#said = "";
          return this.sync();
        }
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

/** What of a subscription the server would have to be told anew. */
const wish = (command: Command | undefined): string =>
  command ? JSON.stringify([command.latest, command.presence, command.info]) : "";

/** An event without its type and id. */
function plain<T>({ type: _type, id: _id, ...rest }: ServerEvent): T {
  return rest as T;
}


/** React hooks. Safe under StrictMode, and where pages are rendered on a server: nothing connects there. */
import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from "react";
import {
  Switchboard,
  SwitchboardError,
  type Channel,
  type Gap,
  type Member,
  type Message,
  type Options,
  type Presence,
  type PublishOptions,
  type Published,
  type Reset,
  type State,
  type SubscribeOptions,
} from "./index.js";

const Context = createContext<Switchboard | undefined>(undefined);
const IDLE: State = { status: "idle" };
const nothing = (): void => {};

/** Where the server is, or a client that there is already. */
export type ProviderProps = { children?: ReactNode } & (
  | { client: Switchboard; url?: undefined; options?: undefined }
  | { client?: undefined; url?: string; options?: Options }
);

/**
 * Gives the hooks below it a client. One that it makes itself from `url` it also closes; `options` are those of the first rendering.
 */
export function SwitchboardProvider({ client, url, options, children }: ProviderProps): ReactNode {
  const [own, setOwn] = useState<Switchboard>();
  const first = useRef(options);
  useEffect(() => {
    if (client) return;
    const made = new Switchboard(url, first.current);
    setOwn(made);
    return () => {
      made.close();
      // What comes back is given another one, and does not use this one meanwhile.
      setOwn(undefined);
    };
  }, [client, url]);
  return createElement(Context.Provider, { value: client ?? own }, children);
}

/** The client of the provider above; `undefined` before there is one. */
export function useSwitchboard(): Switchboard | undefined {
  return useContext(Context);
}

/** What the connection is doing. */
export function useConnection(): State {
  const client = useSwitchboard();
  const subscribe = useCallback((changed: () => void) => client?.on("state", changed) ?? nothing, [client]);
  return useSyncExternalStore(subscribe, () => client?.state ?? IDLE, () => IDLE);
}

/** What a component wants of a channel. Functions may be others in every rendering. */
export interface ChannelHandlers<T, Info = Record<string, unknown>> extends SubscribeOptions {
  onMessage?: (message: Message<T>) => void;
  onGap?: (gap: Gap) => void;
  onReset?: (reset: Reset) => void;
  onPresence?: (presence: Presence<Info>) => void;
  onError?: (error: SwitchboardError) => void;
}

/** What a component has of a channel. */
export interface UsedChannel<T> {
  /** Whether messages come now. */
  subscribed: boolean;
  /** Publishes; what is published before there is a client is refused. */
  publish: (data: T, options?: PublishOptions) => Promise<Published>;
}

/** Subscribes to a channel for as long as the component is there. Without a name it does nothing. */
export function useChannel<T = unknown, Info = Record<string, unknown>>(
  name: string | undefined,
  handlers: ((message: Message<T>) => void) | ChannelHandlers<T, Info> = {},
): UsedChannel<T> {
  const client = useSwitchboard();
  const given = typeof handlers === "function" ? { onMessage: handlers } : handlers;
  const latest = useRef<ChannelHandlers<T, Info>>(given);
  useEffect(() => {
    latest.current = given;
  });
  const [subscribed, setSubscribed] = useState(false);
  const { presence, latest: conflates, since } = given;
  // An object is another one in every rendering; what it says is not.
  const info = given.info && JSON.stringify(given.info);
  useEffect(() => {
    if (!client || name === undefined) return;
    const channel: Channel<T, Info> = client.channel<T, Info>(name);
    const offs = [
      channel.on("message", (message) => latest.current.onMessage?.(message)),
      channel.on("gap", (gap) => latest.current.onGap?.(gap)),
      channel.on("reset", (reset) => latest.current.onReset?.(reset)),
      channel.on("presence", (presence) => latest.current.onPresence?.(presence)),
      channel.on("error", (error) => latest.current.onError?.(error)),
      channel.on("subscribed", () => setSubscribed(true)),
      client.on("state", () => setSubscribed(channel.subscribed)),
    ];
    const wishes = { presence, latest: conflates, since, info: info && (JSON.parse(info) as object) };
    const subscription = channel.subscribe(wishes as SubscribeOptions);
    setSubscribed(channel.subscribed);
    return () => {
      subscription.unsubscribe();
      for (const off of offs) off();
      setSubscribed(false);
    };
  }, [client, name, presence, conflates, since, info]);
  const publish = useCallback(
    (data: T, options?: PublishOptions) => {
      if (client && name !== undefined) return client.channel<T>(name).publish(data, options);
      const words = "there is no client yet, or no channel: publish in an effect or a handler";
      return Promise.reject(new SwitchboardError("closed", words));
    },
    [client, name],
  );
  return useMemo(() => ({ subscribed, publish }), [subscribed, publish]);
}

/** Who is in a channel. */
export interface UsedPresence<Info> {
  members: Member<Info>[];
  count: number;
  users: number;
}

/** Is in a channel, or (without `info`) only looks who is. */
export function usePresence<Info extends object = Record<string, unknown>>(
  name: string | undefined,
  { info, join = info !== undefined }: { info?: Info; join?: boolean } = {},
): UsedPresence<Info> {
  const [presence, setPresence] = useState<UsedPresence<Info>>(NOBODY as UsedPresence<Info>);
  const client = useSwitchboard();
  useChannel<unknown, Info>(name, {
    presence: join ? true : "watch",
    info: join ? info : undefined,
    onPresence: ({ members, count, users }) => setPresence({ members: [...members.values()], count, users }),
  });
  useEffect(() => {
    // Others may have asked for it before.
    const known = name === undefined ? undefined : client?.channel<unknown, Info>(name).presence;
    if (known) setPresence({ members: [...known.members.values()], count: known.count, users: known.users });
    return () => setPresence(NOBODY as UsedPresence<Info>);
  }, [client, name]);
  return presence;
}

const NOBODY: UsedPresence<unknown> = { members: [], count: 0, users: 0 };

/** The newest message of a channel: a score, a price, a state. From the log first, if that can be read here. */
export function useLatest<T = unknown>(name: string | undefined): T | undefined;
export function useLatest<T = unknown>(name: string | undefined, initial: T): T;
export function useLatest<T = unknown>(name: string | undefined, initial?: T): T | undefined {
  const [latest, setLatest] = useState<{ name?: string; data?: T; offset: number }>({ offset: -1 });
  const client = useSwitchboard();
  const newer = useCallback(
    ({ data, offset, channel }: Message<T>) =>
      setLatest((known) => (known.name === channel && known.offset >= offset ? known : { name: channel, data, offset })),
    [],
  );
  useChannel<T>(name, {
    latest: true,
    onMessage: newer,
    // Offsets begin anew; what there was is still the newest that is known.
    onReset: () => setLatest((known) => ({ ...known, offset: -1 })),
  });
  useEffect(() => {
    let isHere = true;
    if (client && name !== undefined) {
      // By other ways than a WebSocket it cannot be read, and the next message has to do.
      client.channel<T>(name).history({ limit: 1 }).then(
        ({ messages: [message] }) => {
          if (isHere && message) newer(message);
        },
        () => {},
      );
    }
    return () => {
      isHere = false;
    };
  }, [client, name, newer]);
  return latest.name === name && latest.name !== undefined ? latest.data : initial;
}

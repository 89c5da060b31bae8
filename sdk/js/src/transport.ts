import type { Command, ServerEvent } from "./protocol.js";

/** How bytes travel. */
export type TransportName = "websocket" | "sse" | "poll";

/** Why a transport ended. */
export interface Ended {
  /** Close code of a WebSocket; the catalogue's where an HTTP answer says as much. */
  code?: number;
  reason: string;
}

/** What a transport is made with. */
export interface Context {
  /** Where the server is: an http or https URL that ends with a slash. */
  base: string;
  token: string | undefined;
  /** Makes it the same session as before. */
  resume: string | undefined;
  fetch: typeof fetch;
  WebSocket: typeof WebSocket | undefined;
  /** For how long nothing may come when something must. */
  patienceMs: number;
  event(event: ServerEvent): void;
  /** An answer that says who we are has begun to come, and is watched. */
  heard(): void;
  /** Something is being said. */
  said(what: object): void;
  /** Once, and nothing after it. */
  end(ended: Ended): void;
}

/** One connection. Says `connect` by itself; `welcome` tells that it works. */
export interface Transport {
  readonly name: TransportName;
  /** Begins, with these subscriptions. */
  start(subscribe: Command[]): void;
  send(command: Command): void;
  /** Looks whether it still works: the machine may have slept, the network may be another one. */
  check(): void;
  /** Ends it; `end` is not called. */
  close(): void;
}

/** After so much silence, as a part of the heartbeat, the other side is asked or taken for dead. */
export const SILENCE = 1.5;

/** What does not come in time fails. */
export function timed<T>(promise: T | PromiseLike<T>, afterMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("silent")), afterMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

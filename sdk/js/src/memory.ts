import type { TransportName } from "./transport.js";

/** Where there is no storage: for as long as this module lives. */
const here = new Map<string, string>();
const PREFIX = "switchboard:";

/** Which transport worked last in this session of the browser. */
export function recall(server: string): TransportName | undefined {
  try {
    return sessionStorage.getItem(PREFIX + server) as TransportName;
  } catch {
    return here.get(server) as TransportName | undefined;
  }
}

/** Remembers it. */
export function remember(server: string, name: TransportName): void {
  try {
    sessionStorage.setItem(PREFIX + server, name);
  } catch {
    here.set(server, name);
  }
}

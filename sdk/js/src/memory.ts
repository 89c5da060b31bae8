import type { TransportName } from "./transport.js";

const PREFIX = "switchboard:";

/** Which transport worked last in this session of the browser. */
export function recall(server: string): TransportName | undefined {
  try {
    return sessionStorage.getItem(PREFIX + server) as TransportName;
  } catch {
    // Not a page, or one that may keep nothing: it begins with the best.
    return undefined;
  }
}

/** Remembers it. */
export function remember(server: string, name: TransportName): void {
  try {
    sessionStorage.setItem(PREFIX + server, name);
  } catch {
    // As above.
  }
}

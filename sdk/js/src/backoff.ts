/** How long to wait before attempts, from the first one on (spec/client.md, section 3). */
export interface Backoff {
  /** Upper bound of the first wait. */
  baseMs: number;
  /** Upper bound of every wait. */
  capMs: number;
}

/** Full jitter: between 0 and min(cap, base × 2^attempt). `random` is within [0, 1). */
export function wait({ baseMs, capMs }: Backoff, attempt: number, random: number): number {
  return Math.floor(random * Math.min(capMs, baseMs * 2 ** attempt));
}

/** No server is left alone for longer, whatever it says. */
const RETRY_AFTER_MAX_MS = 60_000;

/** The wait that the server asks for. */
export const advised = (retryAfterMs: number): number => Math.min(retryAfterMs, RETRY_AFTER_MAX_MS);

/** Whether a close code means that the same client had better not come back (spec/protocol.md, section 11). */
export const isFinal = (code: number | undefined): boolean => [1002, 1003, 1007, 1010, 4401].includes(code!);

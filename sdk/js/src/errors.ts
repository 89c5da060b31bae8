import { RETRYABLE, type ErrorCode } from "./codes.js";

/** What this client says by itself, beside the codes of the server. */
export type ClientCode =
  /** `close()` was called, or the server does not want this client. */
  | "closed"
  /** More publications wait than may; wait for `drained()`. */
  | "queue_full"
  /** An iteration was slower than its channel. */
  | "iteration_full"
  /** The token could not be had. */
  | "no_token";

/** An error of this client or of the server. */
export class SwitchboardError extends Error {
  override name = "SwitchboardError";

  constructor(
    /** A word for what went wrong: of `spec/errors.toml`, or of this client. */
    readonly code: ErrorCode | ClientCode,
    message: string,
    /** When to try again. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }

  /** Whether the same may succeed later, without a change. */
  get retryable(): boolean {
    return RETRYABLE.includes(this.code);
  }
}

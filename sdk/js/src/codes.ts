// Of spec/errors.toml; written by codes.mjs.

/** What the server says of what went wrong. */
export type ErrorCode =
  /** This is not a command of this protocol. */
  | "bad_request"
  /** This is not a valid channel name. */
  | "bad_channel"
  /** This is not a position that this server gave out. */
  | "bad_position"
  /** This payload cannot be carried to every subscriber. */
  | "bad_payload"
  /** The JSON or MessagePack value is nested too deeply or has too many keys. */
  | "too_complex"
  /** The message is larger than this server takes. */
  | "message_too_big"
  /** connect comes once, before every other command. */
  | "already_connected"
  /** This server wants a valid token before anything else. */
  | "unauthorized"
  /** This session is already subscribed to the channel. */
  | "already_subscribed"
  /** This session is not subscribed to the channel. */
  | "not_subscribed"
  /** This session has as many subscriptions as it may have. */
  | "too_many_subscriptions"
  /** The server has as many channels as it may keep. */
  | "too_many_channels"
  /** Too many commands in too short a time. */
  | "rate_limited"
  /** The server cannot take this now. */
  | "overloaded"
  /** The broker did not do this; whether it took effect is unknown. */
  | "unavailable"
  /** This server does not do this. */
  | "unsupported"
  /** The client read too slowly and its channel asks for disconnection then. */
  | "lagged"
  /** The server is stopping. */
  | "stopping"
  /** The server made a mistake; its log says more. */
  | "internal";

/** What may succeed later without a change; the last ones are this client's own. */
export const RETRYABLE: readonly string[] = [
  "too_many_channels",
  "rate_limited",
  "overloaded",
  "unavailable",
  "lagged",
  "stopping",
  "internal",
  "queue_full",
  "no_token",
];

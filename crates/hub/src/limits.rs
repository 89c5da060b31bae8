//! The bounds of the hub, each with its unit in its name. What happens at a bound stands where it is checked.

use std::time::Duration;

use switchboard_proto::limits::{HISTORY_BYTES_MAX, HISTORY_MESSAGES_MAX, KEY_BYTES_MAX};

/// Idempotency keys that one log remembers; beyond, the oldest is forgotten.
pub const KEYS_MAX: usize = 10_000;
/// How long a log remembers an idempotency key.
pub const KEY_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Messages that one log keeps, where the settings say nothing else.
pub const LOG_MESSAGES_MAX_DEFAULT: usize = 1_000;
/// Bytes that one log keeps, where the settings say nothing else.
pub const LOG_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// How long a log keeps a message, where the settings say nothing else.
pub const LOG_AGE_MAX_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Logs of one home, where the settings say nothing else. Beyond: `TooManyChannels`.
pub const CHANNELS_MAX_DEFAULT: usize = 1_000_000;
/// After how long an empty log that nobody used is forgotten, where the settings say nothing else.
pub const FORGET_AFTER_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Requests that one home has open at its broker, together with the subscribers who wait for a watch to begin.
/// Beyond: `Overloaded`.
pub const IN_FLIGHT_MAX: usize = 16_384;
/// Channels that one [`Home::handle_timeout`](crate::home::Home::handle_timeout) looks after; the rest follow next time.
pub const RETRIES_PER_TIMEOUT_MAX: usize = 1_024;
/// Time between two announcements of who came to and left a channel.
pub const PRESENCE_PERIOD: Duration = Duration::from_millis(100);
/// The same where there are too many to be listed.
pub const PRESENCE_PERIOD_UNLISTED: Duration = Duration::from_secs(2);
/// Absences and channels that one [`Presence::handle_timeout`](crate::presence::Presence::handle_timeout) looks at; the rest follow
/// next time.
pub const PRESENCE_PER_TIMEOUT_MAX: usize = 4_096;

// One page of history can hold what an answer may hold, and a default log can fill several answers.
const _: () = assert!(HISTORY_MESSAGES_MAX <= LOG_MESSAGES_MAX_DEFAULT);
const _: () = assert!(HISTORY_BYTES_MAX <= LOG_BYTES_MAX_DEFAULT);
// The keys of one log stay within a few megabytes.
const _: () = assert!(KEYS_MAX * (KEY_BYTES_MAX + 128) <= 4 * 1024 * 1024);
// A log outlives its keys, or a repeated publication could be taken for a new one.
const _: () = assert!(KEY_WINDOW.as_secs() <= FORGET_AFTER_DEFAULT.as_secs());

//! The bounds of the protocol, each with its unit in its name. Those that an operator may change are fields of
//! [`SessionLimits`]; the rest is part of the protocol.

use std::time::Duration;

/// Longest channel name, in bytes of UTF-8.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;
/// Most segments (separated by `:`) of a channel name.
pub const CHANNEL_NAME_SEGMENTS_MAX: usize = 16;
/// Deepest nesting of a command, its payload included.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most keys of one JSON object.
pub const JSON_KEYS_MAX: usize = 256;
/// Largest command id: what a JavaScript number holds exactly (2^53 − 1).
pub const COMMAND_ID_MAX: u64 = (1 << 53) - 1;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// What a member of a channel may say of itself, in bytes of JSON.
pub const INFO_BYTES_MAX: usize = 1024;
/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most messages of one history answer; a larger `limit` is cut to this.
pub const HISTORY_MESSAGES_MAX: usize = 1_000;
/// Messages of one history answer without `limit`.
pub const HISTORY_MESSAGES_DEFAULT: usize = 100;
/// Most members of one members answer; a larger `limit` is cut to this.
pub const MEMBERS_MAX: usize = 1_000;
/// Members of one members answer without `limit`.
pub const MEMBERS_DEFAULT: usize = 100;
/// Bytes of payload of one history answer, and of names and infos of one members answer; what goes beyond is left for the next page (`more`).
pub const HISTORY_BYTES_MAX: usize = 192 * 1024;

/// What one session may cost. Every shard holds one of these, shared by its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionLimits {
    /// Largest message a client may send, in bytes, before and after inflating. Beyond: close 1009.
    pub message_bytes_max: usize,
    /// Most bytes an inflated message may have per byte received, once it has more than 64 KiB. Beyond: close 1009.
    pub inflate_ratio_max: usize,
    /// Time to finish a fragmented message. Beyond: close 1008.
    pub unfinished_message: Duration,
    /// Silence after which the server sends a ping (each session ± 20 %).
    pub ping_interval: Duration,
    /// Time to answer a ping with anything at all. Beyond: the connection is terminated.
    pub pong_timeout: Duration,
    /// Time for which the socket may accept nothing while there is something to send. Beyond: terminated.
    pub write_stall: Duration,
    /// Time for the peer to answer our Close. Beyond: dropped.
    pub close_handshake: Duration,
    /// Time to read what the peer had still sent after both Close frames. Beyond: dropped.
    pub linger: Duration,
    /// Bytes of memory that may wait for the socket. Beyond: the channel's `on_lag`.
    pub outbox_bytes_max: usize,
    /// Messages that wait for the socket. Beyond: the channel's `on_lag`.
    pub outbox_messages_max: usize,
    /// Subscriptions of one session. Beyond: `too_many_subscriptions`.
    pub subscriptions_max: usize,
    /// Commands per second, and how many may come at once. Beyond: `rate_limited`, and close 4029 if it goes on.
    pub commands: Rate,
    /// Bytes per second of inbound messages, and how many may come at once. Beyond: as for `commands`.
    pub inbound_bytes: Rate,
    /// Control frames per second, and how many may come at once. Beyond: close 1008.
    pub control_frames: Rate,
    /// Subscribe commands per second, and how many may come at once. Beyond: `rate_limited`.
    pub subscribes: Rate,
}

/// A sustained rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per second; 0 means no limit (settings spell it "unlimited").
    pub per_second: u32,
    /// Units that may come at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Rate = Rate {
        per_second: 0,
        burst: 0,
    };
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            message_bytes_max: 64 * 1024,
            inflate_ratio_max: 100,
            unfinished_message: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            close_handshake: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            outbox_bytes_max: 256 * 1024,
            outbox_messages_max: 1_024,
            subscriptions_max: 128,
            commands: Rate {
                per_second: 100,
                burst: 200,
            },
            inbound_bytes: Rate {
                per_second: 256 * 1024,
                burst: 512 * 1024,
            },
            control_frames: Rate {
                per_second: 20,
                burst: 50,
            },
            subscribes: Rate {
                per_second: 50,
                burst: 128,
            },
        }
    }
}

// An answer to `history` must fit into an empty outbox beside its framing.
const _: () = assert!(HISTORY_BYTES_MAX < 256 * 1024);

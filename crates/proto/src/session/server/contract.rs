//! What a session and its shell have to do with each other: what it is made with, what it asks for, and how it ends.

use std::time::Duration;

#[cfg(doc)]
use super::Session;
use crate::channel::ChannelName;
use crate::dialect::DialectId;
#[cfg(doc)]
use crate::dialect::Event;
use crate::entry::{Key, User};
use crate::error_code::ErrorCode;
use crate::limits::SessionLimits;
use crate::payload::Payload;
use crate::position::{Position, Range};
use crate::presence::{Attendance, Which};
use crate::session::resume::ResumeKey;
use crate::ws::MessageKind;
#[cfg(doc)]
use crate::ws::frame::encode_message;

/// Settings of all sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds.
    pub limits: SessionLimits,
    /// Whether a client without a token is taken.
    pub anonymous: bool,
    /// Signs what lets a client be the same session on its next connection.
    pub resume_key: ResumeKey,
    /// Broadcasts below this size are not compressed.
    pub compress_bytes_min: usize,
    /// 1 (fast) to 9 (small).
    pub compression_level: u8,
}

/// How a session speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A dialect with subscriptions chosen by commands.
    Native(DialectId),
    /// The raw dialect, for one channel.
    Raw(ChannelName),
    /// Every message comes back as it is: for conformance suites and connectivity checks.
    Echo,
    /// Server-Sent Events of the channels that the URL named.
    EventStream,
    /// The answer to one request for what the channels that the URL named have.
    Poll,
}

/// Why a poll is answered with an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which error.
    pub code: ErrorCode,
    /// A sentence for a developer.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// Who a session is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Names the session.
    pub session: SessionId,
    /// Who it is held for.
    pub user: User,
}

/// The name of a session: 64 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s_{:016x}", self.0)
    }
}

/// What a client wants of the hub.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Answer with [`Event::Subscribed`] or an error.
    Subscribe {
        /// Of the command.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Resume after this position, which is one of this channel.
        since: Option<Position>,
        /// Conflate what cannot be had one by one.
        latest: bool,
        /// Be there, hear who is.
        presence: Option<Attendance>,
    },
    /// Answer with [`Event::Unsubscribed`] or an error.
    Unsubscribe {
        /// Of the command.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
    },
    /// Answer with [`Event::Published`] if it has an id, or an error.
    Publish {
        /// Of the command.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// The content.
        payload: Payload,
        /// Idempotency key.
        key: Option<Key>,
        /// Conflation key.
        conflate: Option<Key>,
    },
    /// Send the last `bytes` bytes that were taken off the input as one message of this kind, as [`encode_message`] or
    /// [`encode_message_head`](crate::ws::frame::encode_message_head) does, behind what waits. They lie there unmasked. Only
    /// for a long message that came whole: it need not be copied to go back.
    Echo {
        /// Text or binary.
        kind: MessageKind,
        /// Length of the content.
        bytes: usize,
    },
    /// Answer with [`Event::Members`] or an error, then call [`Session::handle_read_answered`].
    Members {
        /// Of the command.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Which members.
        which: Which,
        /// How many at most.
        limit: Option<u32>,
    },
    /// Answer with [`Event::History`] or an error, then call [`Session::handle_read_answered`].
    History {
        /// Of the command.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Which part. Its position is one of this channel.
        range: Range,
        /// How many messages at most.
        limit: Option<u32>,
    },
}

/// What the shell does with the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Read and write.
    Open,
    /// Write what is left, then shut the sending direction; read and discard.
    Lingering,
    /// Drop it.
    Ended,
}

/// Why a session ended, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// The peer closed in good order and does not mean to come back: close 1000, or without a code.
    Left,
    /// The peer closed with another code.
    Closed,
    /// The peer went without a Close.
    Gone,
    /// The peer broke the WebSocket protocol.
    Misbehaved,
    /// The peer went on beyond its rate, or sent too much at once.
    Excessive,
    /// The peer answered no ping.
    Silent,
    /// The socket accepted nothing for too long.
    Stalled,
    /// The subscriber was too slow for a channel that disconnects then.
    Lagged,
    /// The command or its token was not acceptable.
    Refused,
    /// The server stops.
    Stopping,
}

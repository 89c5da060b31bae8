//! Dialects: how the frames of a client map to commands and events.
//!
//! | dialect | subprotocol | frames |
//! |---|---|---|
//! | [`json`] | `switchboard.v1.json`, or none offered | text, one JSON object each |
//! | [`msgpack`] | `switchboard.v1.msgpack` | binary, one MessagePack map each |
//! | [`raw`] | none, with `?channel=NAME` | bare payloads of one channel |
//! | [`event_stream`] | no WebSocket | Server-Sent Events |
//! | [`poll`] | no WebSocket | items of an answer |
//!
//! The first two are two notations of one protocol; what they say is written once, in [`native`], and read by the client's
//! side in [`notice`]. A dialect has no
//! state: what a session remembers is in [`crate::session`].
//!
//! To add one: a file with an implementation of [`Dialect`], and a row in [`DialectId`].

pub mod event_stream;
pub mod json;
pub mod msgpack;
pub mod native;
pub mod notice;
pub mod poll;
pub mod raw;

use std::sync::Arc;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::entry::{Entry, Key, User};
use crate::error_code::ErrorCode;
use crate::limits::COMMAND_ID_MAX;
use crate::payload::Payload;
use crate::position::{Position, Range};
use crate::presence::{Announcement, Attendance, Members, Which};
use crate::ws::MessageKind;

/// What a client asks for. The `id` comes back in the answer; a publish or ping without one is not answered unless it fails.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Begin the session, with a token where the server wants one.
    Connect {
        /// Comes back in `welcome`.
        id: Option<u64>,
        /// Proof of identity.
        token: Option<String>,
        /// Go on as the session that was given this.
        resume: Option<String>,
    },
    /// Receive what is published to a channel from now on.
    Subscribe {
        /// Comes back in `subscribed`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Resume after this position.
        since: Option<Position>,
        /// Where messages cannot be had one by one, only the newest of each conflation key.
        latest: bool,
        /// Be there, hear who is.
        presence: Option<Attendance>,
    },
    /// Receive no more of a channel.
    Unsubscribe {
        /// Comes back in `unsubscribed`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
    },
    /// Append a message to a channel's log.
    Publish {
        /// Comes back in `published`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// The content.
        payload: Payload,
        /// A second publish with this key within the window is the same message.
        key: Option<Key>,
        /// Replaces older messages of the same conflation key for who conflates.
        conflate: Option<Key>,
    },
    /// Read the log of a channel.
    History {
        /// Comes back in `history`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Which part.
        range: Range,
        /// At most this many messages.
        limit: Option<u32>,
    },
    /// Ask who is in a channel.
    Members {
        /// Comes back in `members`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Which members.
        which: Which,
        /// At most this many.
        limit: Option<u32>,
    },
    /// Ask for a `pong`: browsers cannot see WebSocket pings.
    Ping {
        /// Comes back in `pong`.
        id: Option<u64>,
    },
}

impl Command {
    /// The id that comes back in the answer.
    pub fn id(&self) -> Option<u64> {
        match self {
            Command::Connect { id, .. }
            | Command::Subscribe { id, .. }
            | Command::Unsubscribe { id, .. }
            | Command::Publish { id, .. }
            | Command::History { id, .. }
            | Command::Members { id, .. }
            | Command::Ping { id } => *id,
        }
    }
}

/// What a server says. Borrowed: it is encoded at once.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The session has begun.
    Welcome {
        /// Of the `connect`.
        id: Option<u64>,
        /// Names the session in logs and in the API.
        session: &'a str,
        /// Who the server holds the client for.
        user: &'a User,
        /// The server pings after this much silence.
        heartbeat: Duration,
        /// Gives a later connection this session and this user.
        resume: &'a str,
    },
    /// The subscription has begun; messages after `position` follow.
    Subscribed {
        /// Of the `subscribe`.
        id: Option<u64>,
        /// Which channel.
        channel: &'a ChannelName,
        /// Where it begins: where the log was, or the position to resume at.
        position: Position,
        /// Whether nothing is missing after the position to resume at; `None` where none was given.
        recovered: Option<bool>,
    },
    /// The subscription has ended; nothing of the channel follows.
    Unsubscribed {
        /// Of the `unsubscribe`.
        id: Option<u64>,
        /// Which channel.
        channel: &'a ChannelName,
    },
    /// The message is in the log.
    Published {
        /// Of the `publish`.
        id: Option<u64>,
        /// Its place.
        position: Position,
    },
    /// A part of a log.
    History {
        /// Of the `history`.
        id: Option<u64>,
        /// Which channel.
        channel: &'a ChannelName,
        /// The part.
        page: HistoryPage<'a>,
    },
    /// Some of those who are in a channel.
    Members {
        /// Of the `members` command.
        id: Option<u64>,
        /// Which channel.
        channel: &'a ChannelName,
        /// Who.
        members: &'a Members,
    },
    /// The answer to `ping`.
    Pong {
        /// Of the `ping`.
        id: Option<u64>,
    },
    /// Who is in a channel, for those who hear of it.
    Presence {
        /// Which channel.
        channel: &'a ChannelName,
        /// What is to be said.
        announcement: &'a Announcement,
    },
    /// A message of a channel. Byte for byte the same for every subscriber of a dialect.
    Message {
        /// Which channel.
        channel: &'a ChannelName,
        /// The message.
        entry: &'a Entry,
    },
    /// Messages of a channel that this subscriber did not get and will not get.
    Gap {
        /// Which channel.
        channel: &'a ChannelName,
        /// Which ones.
        gap: Gap,
        /// Newer messages of the same conflation keys follow in their place.
        conflated: bool,
    },
    /// Positions of the channel start anew: what came before cannot be compared with what comes now.
    Reset {
        /// Which channel.
        channel: &'a ChannelName,
        /// Where the new life of the log is.
        position: Position,
    },
    /// A command failed, or the session is about to be ended.
    Error {
        /// Of the command, where it had one that could be read.
        id: Option<u64>,
        /// Which error.
        code: ErrorCode,
        /// A sentence for a developer; the catalogue's where there is nothing to add.
        message: &'a str,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The connection ends in good order; come back later.
    Goodbye {
        /// The close code that follows.
        code: u16,
        /// Why.
        reason: &'a str,
        /// When to come back: a different moment for every client.
        retry_after: Duration,
    },
}

impl Event<'_> {
    /// The channel whose subscriber this takes to a place.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Event::Subscribed { channel, .. }
            | Event::Message { channel, .. }
            | Event::Gap { channel, .. }
            | Event::Reset { channel, .. } => Some(channel),
            _ => None,
        }
    }
}

/// Offsets that are missing, both included. Not every offset between them need have been a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first missing offset.
    pub from: u64,
    /// The last missing offset.
    pub to: u64,
    /// Where the subscriber is after the gap.
    pub position: Position,
}

/// A part of a log, as an answer to `history`.
#[derive(Clone, Debug)]
pub struct HistoryPage<'a> {
    /// How the part continues what the asker had.
    pub start: HistoryStart,
    /// The messages, oldest first.
    pub entries: &'a [Arc<Entry>],
    /// Where to go on reading forwards.
    pub position: Position,
    /// Whether there is more in the direction of reading.
    pub more: bool,
}

/// How a part of a log continues the position it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryStart {
    /// Nothing is missing between them.
    Continues,
    /// The log no longer holds these offsets, both included.
    Gap {
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
    },
    /// The position is of another life of the log.
    Reset,
}

/// Why a message is no command.
#[derive(Clone, PartialEq, Debug)]
pub struct Rejected {
    /// The id, where it could be read.
    pub id: Option<u64>,
    /// Which error.
    pub code: ErrorCode,
    /// A sentence for a developer; `None`: the catalogue's.
    pub detail: Option<String>,
}

impl Rejected {
    pub(crate) fn new(id: Option<u64>, code: ErrorCode, detail: impl ToString) -> Rejected {
        /// Parsers quote what they did not understand, and peers choose how long that is.
        const DETAIL_CHARACTERS_MAX: usize = 200;
        let detail = detail.to_string().chars().take(DETAIL_CHARACTERS_MAX).collect();
        Rejected {
            id,
            code,
            detail: Some(detail),
        }
    }

    pub(crate) fn too_complex() -> Rejected {
        Rejected {
            id: None,
            code: ErrorCode::TooComplex,
            detail: None,
        }
    }

    /// The same of the command with this id, if it is one.
    pub(crate) fn of(self, id: Option<u64>) -> Rejected {
        let id = id.filter(|id| *id <= COMMAND_ID_MAX);
        Rejected { id, ..self }
    }
}

/// A whole message from the peer.
#[derive(Clone, Copy, Debug)]
pub enum Inbound<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl Inbound<'_> {
    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Inbound::Text(text) => text.as_bytes(),
            Inbound::Binary(bytes) => bytes,
        }
    }
}

/// One mapping between messages and what they mean. Stateless.
pub trait Dialect: Sync {
    /// The value of `Sec-WebSocket-Protocol`; `None` where it is spoken without one.
    fn subprotocol(&self) -> Option<&'static str>;

    /// What a message from a client asks for. `bound` is the channel that the URL named.
    ///
    /// Total, linear in the message, bounded by [`crate::limits`].
    fn decode(&self, message: Inbound<'_>, bound: Option<&ChannelName>) -> Result<Command, Rejected>;

    /// Appends the message that says `event`. `None`, and nothing is appended, where the dialect has no way to say it.
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind>;

    /// Whether it can say that messages are missing. Where it cannot, a subscriber that lags is disconnected, because
    /// nothing is ever lost silently.
    fn says_gaps(&self) -> bool;
}

/// The dialects there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DialectId {
    /// [`json::Json`]
    Json,
    /// [`msgpack::Msgpack`]
    Msgpack,
    /// [`raw::Raw`]
    Raw,
    /// [`event_stream::EventStream`]
    EventStream,
    /// [`poll::Poll`]
    Poll,
}

impl DialectId {
    /// All of them; a dialect's place here is `id as usize`.
    pub const ALL: [DialectId; 5] = [
        DialectId::Json,
        DialectId::Msgpack,
        DialectId::Raw,
        DialectId::EventStream,
        DialectId::Poll,
    ];

    /// The implementation.
    pub fn dialect(self) -> &'static dyn Dialect {
        match self {
            DialectId::Json => &json::Json,
            DialectId::Msgpack => &msgpack::Msgpack,
            DialectId::Raw => &raw::Raw,
            DialectId::EventStream => &event_stream::EventStream,
            DialectId::Poll => &poll::Poll,
        }
    }

    /// The dialect of a subprotocol.
    pub fn by_subprotocol(subprotocol: &str) -> Option<DialectId> {
        DialectId::ALL
            .into_iter()
            .find(|id| id.dialect().subprotocol() == Some(subprotocol))
    }
}

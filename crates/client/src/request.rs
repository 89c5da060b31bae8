//! What is asked of the driver, and who waits for the answer.

use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::{History, Members};
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::Which;
use tokio::sync::oneshot;

use crate::channels::JoinReply;
use crate::error::{End, PingError, PublishError, ReadError, SubscribeError};
use crate::subscription::SubscribeOptions;
use crate::surroundings::Surroundings;

/// What is asked of the driver.
pub(crate) enum Request {
    Subscribe {
        channel: ChannelName,
        options: SubscribeOptions,
        reply: JoinReply,
    },
    Publish {
        channel: ChannelName,
        payload: Payload,
        key: Option<Key>,
        conflate: Option<Key>,
        reply: oneshot::Sender<Result<Position, PublishError>>,
    },
    History {
        channel: ChannelName,
        range: Range,
        limit: Option<u32>,
        reply: oneshot::Sender<Result<History, ReadError>>,
    },
    Members {
        channel: ChannelName,
        which: Which,
        limit: Option<u32>,
        reply: oneshot::Sender<Result<Members, ReadError>>,
    },
    Ping {
        reply: oneshot::Sender<Result<(), PingError>>,
    },
}

/// A command that is not answered.
pub(crate) struct Unanswered {
    pub(crate) command: Command,
    pub(crate) who: Waiting,
    /// Whether it was handed to the connection that there is.
    pub(crate) sent: bool,
    /// An earlier connection may have carried it out.
    pub(crate) doubtful: bool,
}

/// Who waits for the answer to a command.
pub(crate) enum Waiting {
    Subscribe(ChannelName),
    Unsubscribe(ChannelName),
    Publish(oneshot::Sender<Result<Position, PublishError>>),
    History(oneshot::Sender<Result<History, ReadError>>),
    Members(oneshot::Sender<Result<Members, ReadError>>),
    Ping(oneshot::Sender<Result<(), PingError>>),
}

/// Idempotency keys for publications that have none of their own.
pub(crate) struct Keys {
    prefix: String,
    last: u64,
}

impl Keys {
    pub(crate) fn new(surroundings: &dyn Surroundings) -> Keys {
        let mut random = [0; 8];
        // Without random numbers no connection is opened at all.
        let _drawn = surroundings.random(&mut random);
        Keys {
            prefix: format!("c{:016x}-", u64::from_be_bytes(random)),
            last: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Option<Key> {
        self.last += 1;
        Key::parse(&format!("{}{}", self.prefix, self.last))
    }
}

impl Unanswered {
    pub(crate) fn new(command: Command, who: Waiting, sent: bool) -> Unanswered {
        Unanswered {
            command,
            who,
            sent,
            doubtful: false,
        }
    }

    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.command, Command::Publish { .. })
    }

    /// Whether it cannot be said again: it might be published twice.
    pub(crate) fn is_bound(&self) -> bool {
        self.sent && matches!(self.command, Command::Publish { key: None, .. })
    }

    /// There will be no answer.
    pub(crate) fn end(self, end: End) {
        match self.who {
            // Those who wait for it are told by `Channels::end`.
            Waiting::Subscribe(_) | Waiting::Unsubscribe(_) => {}
            Waiting::Publish(reply) if self.sent || self.doubtful => {
                drop(reply.send(Err(PublishError::Unanswered(end))))
            }
            Waiting::Publish(reply) => drop(reply.send(Err(PublishError::NotSent(end)))),
            Waiting::History(reply) => drop(reply.send(Err(ReadError::Ended(end)))),
            Waiting::Members(reply) => drop(reply.send(Err(ReadError::Ended(end)))),
            Waiting::Ping(reply) => drop(reply.send(Err(PingError::Ended(end)))),
        }
    }
}

impl Request {
    /// There will be no answer.
    pub(crate) fn end(self, end: End) {
        match self {
            Request::Subscribe { reply, .. } => drop(reply.send(Err(SubscribeError::Ended(end)))),
            Request::Publish { reply, .. } => drop(reply.send(Err(PublishError::NotSent(end)))),
            Request::History { reply, .. } => drop(reply.send(Err(ReadError::Ended(end)))),
            Request::Members { reply, .. } => drop(reply.send(Err(ReadError::Ended(end)))),
            Request::Ping { reply } => drop(reply.send(Err(PingError::Ended(end)))),
        }
    }
}

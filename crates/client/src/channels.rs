//! The channels of one connection, from `subscribe` to `unsubscribed`. No I/O and no clock: what is to be said to the
//! server comes back as [`Say`].
//!
//! ```text
//!              subscribed                the subscription is dropped
//!   Joining ──────────────► Joined ─────────────────────────────────► Leaving ── unsubscribed ──► (gone)
//!      ▲  │ nobody waits for it any more ────────────────────────────────►│
//!      │  └─ refused ──► (gone)                                           │
//!      └───────────────────────────────── unsubscribed, and the next subscriber waits
//! ```
//!
//! The server answers a `subscribe` that an `unsubscribe` has overtaken with nothing, so one follows the other only when it is
//! answered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::position::Position;
use switchboard_proto::time::Time;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::driver::Attention;
use crate::error::{End, Refusal, SubscribeError};
use crate::subscription::Event;

/// When a refused `unsubscribe` is said again, if the server does not say.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) type JoinReply = oneshot::Sender<Result<Joined, SubscribeError>>;

/// A subscription that has begun.
pub(crate) struct Joined {
    pub(crate) position: Position,
    pub(crate) events: mpsc::Receiver<Event>,
    // Behind `events`: fields are dropped in this order, and the driver must find the receiver gone.
    _tells_the_driver: TellsWhenDropped,
}

struct TellsWhenDropped(Arc<Attention>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        self.0.call();
    }
}

/// What is to be said to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    Subscribe(ChannelName),
    Unsubscribe(ChannelName),
}

enum Channel {
    Joining {
        reply: JoinReply,
    },
    Joined {
        events: mpsc::Sender<Event>,
    },
    Leaving {
        /// The server did not take the `unsubscribe`; it is said again then.
        retry_at: Option<Time>,
        /// Who subscribes again meanwhile.
        next: Option<JoinReply>,
    },
}

impl Channel {
    const LEAVING: Channel = Channel::Leaving {
        retry_at: None,
        next: None,
    };
}

/// What became of an event.
pub(crate) enum Delivery {
    /// Delivered, or nobody wants it.
    Done,
    /// There is no room for it.
    Full(mpsc::Sender<Event>, Event),
}

/// See the module.
pub(crate) struct Channels {
    by_name: HashMap<ChannelName, Channel>,
    /// The earliest `retry_at`.
    retry_at: Option<Time>,
    buffer: usize,
    attention: Arc<Attention>,
}

impl Channels {
    /// None yet. Each will have a buffer of `buffer` events, at least one.
    pub(crate) fn new(buffer: usize, attention: Arc<Attention>) -> Channels {
        Channels {
            by_name: HashMap::new(),
            retry_at: None,
            buffer: buffer.max(1),
            attention,
        }
    }

    /// Somebody wants to subscribe.
    pub(crate) fn subscribe(&mut self, channel: ChannelName, reply: JoinReply) -> Option<Say> {
        let entry = match self.by_name.entry(channel) {
            Entry::Vacant(vacant) => {
                let say = Say::Subscribe(vacant.key().clone());
                vacant.insert(Channel::Joining { reply });
                return Some(say);
            }
            Entry::Occupied(occupied) => occupied,
        };
        let name = entry.key().clone();
        match entry.into_mut() {
            // Whoever asked first does not wait any more: the answer is for us.
            Channel::Joining { reply: first } if first.is_closed() => *first = reply,
            joined @ Channel::Joined { .. } if joined.is_dropped() => {
                *joined = Channel::Leaving {
                    retry_at: None,
                    next: Some(reply),
                };
                return Some(Say::Unsubscribe(name));
            }
            Channel::Leaving { next, .. } if next.as_ref().is_none_or(JoinReply::is_closed) => {
                *next = Some(reply);
            }
            Channel::Joining { .. } | Channel::Joined { .. } | Channel::Leaving { .. } => {
                let refusal = Refusal::certain(ErrorCode::AlreadySubscribed);
                let _gone = reply.send(Err(SubscribeError::Refused(refusal)));
            }
        }
        None
    }

    /// The server says `subscribed`.
    pub(crate) fn handle_subscribed(&mut self, channel: &ChannelName, position: Position) -> Option<Say> {
        let state = self.by_name.get_mut(channel)?;
        let Channel::Joining { reply } = std::mem::replace(state, Channel::LEAVING) else {
            // The answers to what `Joining` said come while it is `Joining`.
            return None;
        };
        let (events, receiver) = mpsc::channel(self.buffer);
        let joined = Joined {
            position,
            events: receiver,
            _tells_the_driver: TellsWhenDropped(self.attention.clone()),
        };
        match reply.send(Ok(joined)) {
            Ok(()) => {
                *state = Channel::Joined { events };
                None
            }
            Err(_nobody_waits) => Some(Say::Unsubscribe(channel.clone())),
        }
    }

    /// The server refused a `subscribe`.
    pub(crate) fn handle_subscribe_refused(&mut self, channel: &ChannelName, refusal: Refusal) {
        if let Some(Channel::Joining { reply }) = self.by_name.remove(channel) {
            let _gone = reply.send(Err(SubscribeError::Refused(refusal)));
        }
    }

    /// The server says `unsubscribed`, asked or not.
    pub(crate) fn handle_unsubscribed(&mut self, channel: &ChannelName) -> Option<Say> {
        match self.by_name.remove(channel)? {
            Channel::Leaving {
                next: Some(reply), ..
            } if !reply.is_closed() => {
                self.by_name.insert(channel.clone(), Channel::Joining { reply });
                Some(Say::Subscribe(channel.clone()))
            }
            Channel::Leaving { .. } | Channel::Joined { .. } => None,
            joining @ Channel::Joining { .. } => {
                self.by_name.insert(channel.clone(), joining);
                None
            }
        }
    }

    /// The server refused an `unsubscribe`.
    pub(crate) fn handle_unsubscribe_refused(
        &mut self,
        now: Time,
        channel: &ChannelName,
        refusal: &Refusal,
    ) -> Option<Say> {
        if refusal.error_code() == Some(ErrorCode::NotSubscribed) {
            return self.handle_unsubscribed(channel);
        }
        if let Some(Channel::Leaving { retry_at, .. }) = self.by_name.get_mut(channel) {
            let at = now + refusal.retry_after.unwrap_or(RETRY);
            *retry_at = Some(at);
            self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
        }
        None
    }

    /// Something of a channel, for its subscriber.
    pub(crate) fn deliver(&mut self, channel: &ChannelName, event: Event) -> Delivery {
        let Some(Channel::Joined { events }) = self.by_name.get(channel) else {
            return Delivery::Done;
        };
        match events.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => Delivery::Done,
            Err(TrySendError::Full(event)) => Delivery::Full(events.clone(), event),
        }
    }

    /// When [`Channels::leave_dropped`] has to be called.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Leaves the channels whose subscription was dropped. Costs a look at each.
    pub(crate) fn leave_dropped(&mut self, now: Time) -> Vec<Say> {
        let mut says = Vec::new();
        self.retry_at = None;
        for (name, channel) in &mut self.by_name {
            match channel {
                joined @ Channel::Joined { .. } if joined.is_dropped() => {
                    *joined = Channel::LEAVING;
                    says.push(Say::Unsubscribe(name.clone()));
                }
                Channel::Leaving {
                    retry_at: retry @ Some(_),
                    ..
                } if retry.is_some_and(|at| at <= now) => {
                    *retry = None;
                    says.push(Say::Unsubscribe(name.clone()));
                }
                Channel::Leaving {
                    retry_at: Some(at), ..
                } => self.retry_at = Some(self.retry_at.map_or(*at, |earliest| earliest.min(*at))),
                Channel::Leaving { retry_at: None, .. }
                | Channel::Joining { .. }
                | Channel::Joined { .. } => {}
            }
        }
        says
    }

    /// The connection has ended: tells whoever waits, and ends all streams.
    pub(crate) fn end(&mut self, end: &End) {
        for (_, channel) in self.by_name.drain() {
            if let Channel::Joining { reply }
            | Channel::Leaving {
                next: Some(reply), ..
            } = channel
            {
                let _gone = reply.send(Err(SubscribeError::Ended(end.clone())));
            }
        }
    }
}

impl Channel {
    fn is_dropped(&self) -> bool {
        matches!(self, Channel::Joined { events } if events.is_closed())
    }
}

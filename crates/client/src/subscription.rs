//! A subscription as the application holds it: a stream of what happens in one channel.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{Message, Who};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Position;
use switchboard_proto::presence::{Attendance, Counts, Role, is_info};

use crate::channels::Joined;
use crate::client::Handle;
use crate::error::End;

/// What happens in a channel, in order.
///
/// A message or a gap follows on what came before without a hole; nothing is missing, repeated or reordered unless a `Gap` or a
/// `Reset` says so.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages that did not come and will not.
    Gap {
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
        /// Where the subscriber is now.
        position: Position,
        /// Newer messages of the same conflation keys follow in their place.
        conflated: bool,
    },
    /// Positions start anew: what came before cannot be compared with what comes now, and what is missing is not known.
    Reset {
        /// Where the new life of the log is.
        position: Position,
    },
    /// Who is in the channel, for a subscription that asked to hear of it ([`SubscribeOptions::presence`]). Not in the order of
    /// messages. After a reconnect it begins with a list again, or with counts where there are too many to be listed.
    Presence {
        /// How many there are now.
        counts: Counts,
        /// Who.
        who: Who,
    },
}

impl Event {
    /// Where a subscriber is who has seen this, if it is of the log.
    pub fn position(&self) -> Option<Position> {
        match self {
            Event::Message(message) => Some(message.position),
            Event::Gap { position, .. } | Event::Reset { position } => Some(*position),
            Event::Presence { .. } => None,
        }
    }
}

/// A member may not say this of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the info of a member is a JSON object of at most 1 KiB")]
pub struct BadInfo;

/// How to subscribe. The default is from now on, without presence.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SubscribeOptions {
    pub(crate) since: Option<Position>,
    pub(crate) latest: bool,
    pub(crate) attendance: Option<Attendance>,
}

impl SubscribeOptions {
    /// From now on.
    pub fn new() -> SubscribeOptions {
        SubscribeOptions::default()
    }

    /// From after this position on: what is in the log, then live. What the log does not hold any longer is a `Gap`.
    pub fn since(self, position: Position) -> SubscribeOptions {
        SubscribeOptions {
            since: Some(position),
            ..self
        }
    }

    /// Conflate: where messages cannot be had one by one, because this client was away or reads slowly, the newest of each
    /// conflation key, and a `Gap` with `conflated` for those that it replaces.
    pub fn latest(self) -> SubscribeOptions {
        SubscribeOptions { latest: true, ..self }
    }

    /// Be seen in the channel, hear who else is, or both. A reconnect within the server's grace period (10 s by default) is not seen by
    /// the others.
    pub fn presence(self, role: Role) -> SubscribeOptions {
        let info = self.attendance.and_then(|attendance| attendance.info);
        SubscribeOptions {
            attendance: Some(Attendance { role, info }),
            ..self
        }
    }

    /// What the others see beside the user. Whoever says something of itself is a [`Role::Participant`] if nothing else was said; of a
    /// [`Role::Watcher`] the server refuses it.
    ///
    /// # Errors
    /// It is not a JSON object of at most 1 KiB.
    pub fn info(self, info: Payload) -> Result<SubscribeOptions, BadInfo> {
        if !is_info(&info) {
            return Err(BadInfo);
        }
        let role = self
            .attendance
            .map_or(Role::Participant, |attendance| attendance.role);
        let info = Some(info);
        Ok(SubscribeOptions {
            attendance: Some(Attendance { role, info }),
            ..self
        })
    }
}

/// A subscription to one channel. Dropping it ends it.
///
/// It is a [`Stream`] of events, over all connections of its client: after a reconnect it goes on where it was. When the client ends,
/// the events that had come are followed by one `Err` with the reason, and then by nothing. Nothing without an `Err` before means that
/// the server ended this subscription alone.
///
/// # A slow consumer
///
/// The events that have come and are not yet taken wait in a buffer of
/// [`subscription_buffer`](crate::Builder::subscription_buffer) events. **While it is full, nothing more is read from the
/// connection**, so that nothing is lost here: all other subscriptions of this client wait too, and so do the answers to its calls. The
/// server then holds back what it can and says `Gap` for the rest, or disconnects, as the channel's settings want it; it
/// gives up on a connection that takes nothing for too long (10 s by default).
///
/// So take events promptly, and **never wait for one thing of a client while another is full**: whoever awaits a publication, or the next event
/// of another channel, in the loop that takes the events of this one, may wait for ever. Either another task goes on taking,
/// or one task waits for all of them together ([`Subscription::poll_event`]). A subscription that is no longer wanted is dropped.
pub struct Subscription {
    channel: ChannelName,
    position: Position,
    joined: Joined,
    ended: bool,
    handle: Arc<Handle>,
}

impl Subscription {
    pub(crate) fn new(channel: ChannelName, joined: Joined, handle: Arc<Handle>) -> Subscription {
        Subscription {
            channel,
            position: joined.position,
            joined,
            ended: false,
            handle,
        }
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Where the subscription began, then the position of the last event taken. Another client can go on from here
    /// ([`SubscribeOptions::since`]).
    pub fn position(&self) -> Position {
        self.position
    }

    /// Of a subscription that began at a position: whether nothing was missing behind it.
    pub fn recovered(&self) -> Option<bool> {
        self.joined.recovered
    }

    /// The next event, or why there are no more. Cancel-safe: an event is taken only when this returns it.
    pub async fn next(&mut self) -> Option<Result<Event, End>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// As [`Subscription::next`], for who waits for several things in one task.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, End>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(event) = ready!(self.joined.events.poll_recv(cx)) {
            self.position = event.position().unwrap_or(self.position);
            return Poll::Ready(Some(Ok(event)));
        }
        self.ended = true;
        let refused = || self.joined.refused.get().cloned().map(End::Unsubscribed);
        let end = self.handle.ended().or_else(refused);
        Poll::Ready(end.map(Err))
    }
}

impl Stream for Subscription {
    type Item = Result<Event, End>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Event, End>>> {
        self.get_mut().poll_event(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .field("position", &self.position)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

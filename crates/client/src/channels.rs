//! The channels of one connection, from `subscribe` to `unsubscribed`. No I/O and no clock: what is to be said to the
//! server comes back as [`Say`].
//!
//! ```text
//!              subscribed                the subscription is dropped
//!   Joining ──────────────► Joined ─────────────────────────────────► Leaving ── unsubscribed ──► (gone)
//!      ▲  │ nobody waits for it any more, or somebody for another ──────►│
//!      │  └─ refused ──► (gone)                                           │
//!      └───────────────────────────────── unsubscribed, and the next subscriber waits
//! ```
//!
//! A connection that is lost takes nothing away from this but what is leaving. On the next one, what is joined is subscribed to again
//! from where it is.
//!
//! The server answers a `subscribe` that an `unsubscribe` has overtaken with nothing, so one follows the other only when it is
//! answered: what leaves before that says so after it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::position::Position;
use switchboard_proto::time::Time;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::driver::Attention;
use crate::error::{End, Refusal, SubscribeError};
use crate::subscription::{Event, SubscribeOptions};

/// When what was refused is said again, if the server does not say.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) type JoinReply = oneshot::Sender<Result<Joined, SubscribeError>>;

/// A subscription that has begun.
pub(crate) struct Joined {
    pub(crate) position: Position,
    pub(crate) recovered: Option<bool>,
    /// Why the server does not take it any longer.
    pub(crate) refused: Arc<OnceLock<Refusal>>,
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
    Subscribe(ChannelName, SubscribeOptions),
    Unsubscribe(ChannelName),
}

enum Channel {
    Joining {
        options: SubscribeOptions,
        reply: JoinReply,
    },
    Joined {
        events: mpsc::Sender<Event>,
        /// Where it is, and what else it was asked for with.
        options: SubscribeOptions,
        again: Again,
        refused: Arc<OnceLock<Refusal>>,
        /// There was no room for something that does not wait any more. Nothing that comes behind it is delivered.
        is_cut: bool,
    },
    Leaving {
        leave: Leave,
        /// Who subscribes again meanwhile.
        next: Option<(SubscribeOptions, JoinReply)>,
    },
}

/// Whether something joined is being subscribed to again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// The server has it.
    No,
    /// It is asked for, and not answered.
    Asked,
    /// It is to be asked for again then.
    At(Time),
}

/// How far the `unsubscribe` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It is said when the `subscribe` before it is answered.
    AfterAnswer,
    /// It is not answered.
    Said,
    /// The server did not take it; it is said again then.
    At(Time),
}

impl Channel {
    const LEAVING: Channel = Channel::Leaving {
        leave: Leave::Said,
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
    by_name: BTreeMap<ChannelName, Channel>,
    /// The earliest `retry_at`.
    retry_at: Option<Time>,
    buffer: usize,
    attention: Arc<Attention>,
}

impl Channels {
    /// None yet. Each will have a buffer of `buffer` events, at least one.
    pub(crate) fn new(buffer: usize, attention: Arc<Attention>) -> Channels {
        Channels {
            by_name: BTreeMap::new(),
            retry_at: None,
            buffer: buffer.max(1),
            attention,
        }
    }

    /// Somebody wants to subscribe.
    pub(crate) fn subscribe(
        &mut self,
        channel: ChannelName,
        options: SubscribeOptions,
        reply: JoinReply,
    ) -> Option<Say> {
        let mut entry = match self.by_name.entry(channel) {
            Entry::Vacant(vacant) => {
                let say = Say::Subscribe(vacant.key().clone(), options.clone());
                vacant.insert(Channel::Joining { options, reply });
                return Some(say);
            }
            Entry::Occupied(occupied) => occupied,
        };
        let name = entry.key().clone();
        match entry.get_mut() {
            // Whoever asked first does not wait any more: the answer is for us, if we want the same.
            Channel::Joining {
                options: asked,
                reply: first,
            } if first.is_closed() && *asked == options => *first = reply,
            Channel::Joining { reply: first, .. } if first.is_closed() => {
                let (leave, next) = (Leave::AfterAnswer, Some((options, reply)));
                entry.insert(Channel::Leaving { leave, next });
            }
            Channel::Joined { events, again, .. } if events.is_closed() => {
                let (leave, say) = match again {
                    Again::No => (Leave::Said, Some(Say::Unsubscribe(name))),
                    Again::Asked => (Leave::AfterAnswer, None),
                    // The server does not have it.
                    Again::At(_) => {
                        let say = Say::Subscribe(name, options.clone());
                        entry.insert(Channel::Joining { options, reply });
                        return Some(say);
                    }
                };
                let next = Some((options, reply));
                entry.insert(Channel::Leaving { leave, next });
                return say;
            }
            Channel::Leaving { next, .. } if next.as_ref().is_none_or(|(_, next)| next.is_closed()) => {
                *next = Some((options, reply));
            }
            Channel::Joining { .. } | Channel::Joined { .. } | Channel::Leaving { .. } => {
                let refusal = Refusal::certain(ErrorCode::AlreadySubscribed);
                let _gone = reply.send(Err(SubscribeError::Refused(refusal)));
            }
        }
        None
    }

    /// The server says `subscribed`.
    pub(crate) fn handle_subscribed(
        &mut self,
        channel: &ChannelName,
        position: Position,
        recovered: Option<bool>,
    ) -> Option<Say> {
        let state = self.by_name.get_mut(channel)?;
        let (options, reply) = match std::mem::replace(state, Channel::LEAVING) {
            Channel::Joining { options, reply } => (options, reply),
            mut joined @ Channel::Joined { .. } => {
                // It was joined on an earlier connection.
                if let Channel::Joined { again, .. } = &mut joined {
                    *again = Again::No;
                }
                let is_dropped = joined.is_dropped();
                if !is_dropped {
                    *state = joined;
                }
                return is_dropped.then(|| Say::Unsubscribe(channel.clone()));
            }
            Channel::Leaving { leave, next } => {
                let is_awaited = leave == Leave::AfterAnswer;
                let leave = if is_awaited { Leave::Said } else { leave };
                *state = Channel::Leaving { leave, next };
                return is_awaited.then(|| Say::Unsubscribe(channel.clone()));
            }
        };
        let (events, receiver) = mpsc::channel(self.buffer);
        let refused = Arc::new(OnceLock::new());
        let joined = Joined {
            position,
            recovered,
            refused: refused.clone(),
            events: receiver,
            _tells_the_driver: TellsWhenDropped(self.attention.clone()),
        };
        match reply.send(Ok(joined)) {
            Ok(()) => {
                *state = Channel::Joined {
                    events,
                    options: options.since(position),
                    again: Again::No,
                    refused,
                    is_cut: false,
                };
                None
            }
            Err(_nobody_waits) => Some(Say::Unsubscribe(channel.clone())),
        }
    }

    /// The server refused a `subscribe`.
    pub(crate) fn handle_subscribe_refused(
        &mut self,
        now: Time,
        channel: &ChannelName,
        refusal: Refusal,
    ) -> Option<Say> {
        match self.by_name.get_mut(channel) {
            // The server has nothing to be left.
            Some(Channel::Leaving {
                leave: Leave::AfterAnswer,
                ..
            }) => return self.handle_left(channel),
            Some(Channel::Joined { again, .. }) if refusal.is_retryable() => {
                let at = now + refusal.retry_after.unwrap_or(RETRY);
                *again = Again::At(at);
                self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
                return None;
            }
            Some(Channel::Joining { .. } | Channel::Joined { .. }) => {}
            Some(Channel::Leaving { .. }) | None => return None,
        }
        match self.by_name.remove(channel) {
            Some(Channel::Joining { reply, .. }) => {
                let _gone = reply.send(Err(SubscribeError::Refused(refusal)));
            }
            // The end of its stream tells.
            Some(Channel::Joined { refused, .. }) => drop(refused.set(refusal)),
            Some(Channel::Leaving { .. }) | None => {}
        }
        None
    }

    /// The connection is lost.
    pub(crate) fn handle_disconnected(&mut self) {
        self.retry_at = None;
        self.by_name.retain(|_, channel| match channel {
            Channel::Joining { reply, .. } => !reply.is_closed(),
            Channel::Joined { .. } => !channel.is_dropped(),
            Channel::Leaving { next, .. } => match next.take() {
                Some((options, reply)) if !reply.is_closed() => {
                    *channel = Channel::Joining { options, reply };
                    true
                }
                _ => false,
            },
        });
    }

    /// What will be said on the next connection.
    pub(crate) fn wanted(&self) -> Vec<Say> {
        let says = self.by_name.iter().filter_map(|(name, channel)| match channel {
            channel if channel.is_dropped() => None,
            Channel::Joining { options, .. } | Channel::Joined { options, .. } => {
                Some(Say::Subscribe(name.clone(), options.clone()))
            }
            Channel::Leaving { .. } => None,
        });
        says.collect()
    }

    /// There is a connection, which knows nothing yet.
    pub(crate) fn resume(&mut self) -> Vec<Say> {
        let mut says = Vec::new();
        self.by_name.retain(|name, channel| {
            if channel.is_dropped() {
                return false;
            }
            match channel {
                Channel::Joining { options, .. } => says.push(Say::Subscribe(name.clone(), options.clone())),
                Channel::Joined { options, again, .. } => {
                    *again = Again::Asked;
                    says.push(Say::Subscribe(name.clone(), options.clone()));
                }
                // Nothing leaves without a connection; who waits for that need not wait any more.
                Channel::Leaving { next, .. } => match next.take() {
                    Some((options, reply)) if !reply.is_closed() => {
                        says.push(Say::Subscribe(name.clone(), options.clone()));
                        *channel = Channel::Joining { options, reply };
                    }
                    _ => return false,
                },
            }
            true
        });
        says
    }

    /// The server says `unsubscribed`, asked or not.
    pub(crate) fn handle_unsubscribed(&mut self, channel: &ChannelName) -> Option<Say> {
        match self.by_name.get(channel)? {
            // What it ends was there before; the answer to what is asked now is still to come.
            Channel::Joining { .. }
            | Channel::Leaving {
                leave: Leave::AfterAnswer,
                ..
            } => None,
            Channel::Joined { .. } | Channel::Leaving { .. } => self.handle_left(channel),
        }
    }

    /// The server does not have the channel any more: whoever waits for that subscribes.
    fn handle_left(&mut self, channel: &ChannelName) -> Option<Say> {
        let Some(Channel::Leaving {
            next: Some((options, reply)),
            ..
        }) = self.by_name.remove(channel)
        else {
            return None;
        };
        if reply.is_closed() {
            return None;
        }
        let say = Say::Subscribe(channel.clone(), options.clone());
        self.by_name
            .insert(channel.clone(), Channel::Joining { options, reply });
        Some(say)
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
        if let Some(Channel::Leaving { leave, .. }) = self.by_name.get_mut(channel) {
            let at = now + refusal.retry_after.unwrap_or(RETRY);
            *leave = Leave::At(at);
            self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
        }
        None
    }

    /// Something of a channel, for its subscriber. What it has got before is passed over.
    pub(crate) fn deliver(&mut self, channel: &ChannelName, event: Event) -> Delivery {
        let Some(Channel::Joined {
            events,
            options,
            is_cut: false,
            ..
        }) = self.by_name.get_mut(channel)
        else {
            return Delivery::Done;
        };
        if let Some(position) = event.position() {
            let is_old = |place: Position| place.epoch == position.epoch && position.offset <= place.offset;
            if matches!(event, Event::Message(_)) && options.since.is_some_and(is_old) {
                return Delivery::Done;
            }
            options.since = Some(position);
        }
        match events.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => Delivery::Done,
            Err(TrySendError::Full(event)) => Delivery::Full(events.clone(), event),
        }
    }

    /// What found no room there is dropped, and so is all that comes behind it: a hole would be silent.
    pub(crate) fn cut(&mut self, full: &mpsc::Sender<Event>) {
        for channel in self.by_name.values_mut() {
            if let Channel::Joined { events, is_cut, .. } = channel {
                *is_cut |= events.same_channel(full);
            }
        }
    }

    /// When [`Channels::leave_dropped`] has to be called.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Leaves the channels whose subscription was dropped. Costs a look at each.
    pub(crate) fn leave_dropped(&mut self, now: Time) -> Vec<Say> {
        let mut says = Vec::new();
        let mut next_retry: Option<Time> = None;
        let mut is_due = |at: Time| {
            if at > now {
                next_retry = Some(next_retry.map_or(at, |earliest| earliest.min(at)));
            }
            at <= now
        };
        self.by_name.retain(|name, channel| {
            let is_dropped = channel.is_dropped();
            match channel {
                Channel::Joined { again: Again::No, .. } if is_dropped => {
                    *channel = Channel::LEAVING;
                    says.push(Say::Unsubscribe(name.clone()));
                }
                // The server does not have it.
                Channel::Joined {
                    again: Again::At(_), ..
                } if is_dropped => return false,
                Channel::Joined { again, options, .. } => match *again {
                    Again::At(at) if is_due(at) => {
                        *again = Again::Asked;
                        says.push(Say::Subscribe(name.clone(), options.clone()));
                    }
                    Again::No | Again::Asked | Again::At(_) => {}
                },
                Channel::Leaving { leave, .. } => match *leave {
                    Leave::At(at) if is_due(at) => {
                        *leave = Leave::Said;
                        says.push(Say::Unsubscribe(name.clone()));
                    }
                    Leave::AfterAnswer | Leave::Said | Leave::At(_) => {}
                },
                Channel::Joining { .. } => {}
            }
            true
        });
        self.retry_at = next_retry;
        says
    }

    /// The connection has ended: tells whoever waits, and ends all streams.
    pub(crate) fn end(&mut self, end: &End) {
        for (_, channel) in std::mem::take(&mut self.by_name) {
            if let Channel::Joining { reply, .. }
            | Channel::Leaving {
                next: Some((_, reply)),
                ..
            } = channel
            {
                let _gone = reply.send(Err(SubscribeError::Ended(end.clone())));
            }
        }
    }
}

impl Channel {
    fn is_dropped(&self) -> bool {
        matches!(self, Channel::Joined { events, .. } if events.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::position::Epoch;

    use super::*;

    const NOW: Time = Time::from_nanoseconds(0);

    fn name() -> ChannelName {
        ChannelName::parse("room:1").unwrap()
    }

    fn subscribe(channels: &mut Channels, options: SubscribeOptions) -> (Option<Say>, Answer) {
        let (reply, answer) = oneshot::channel();
        (channels.subscribe(name(), options, reply), answer)
    }

    type Answer = oneshot::Receiver<Result<Joined, SubscribeError>>;

    fn joined(position: Position) -> (Channels, Joined) {
        let mut channels = Channels::new(8, Arc::default());
        let (_said, mut answer) = subscribe(&mut channels, SubscribeOptions::new());
        assert_eq!(channels.handle_subscribed(&name(), position, None), None);
        (channels, answer.try_recv().unwrap().unwrap())
    }

    fn start() -> Position {
        Position::start(Epoch::of(&name(), 1))
    }

    fn unavailable() -> Refusal {
        Refusal::certain(ErrorCode::Unavailable)
    }

    /// It was told that the runtime had stopped.
    #[test]
    fn what_is_left_and_wanted_again_without_a_connection_is_wanted_on_the_next() {
        let (mut channels, first) = joined(start());
        channels.handle_disconnected();
        drop(first);
        let options = SubscribeOptions::new().since(start());
        let (_unsaid, mut answer) = subscribe(&mut channels, options.clone());
        assert_eq!(channels.resume(), [Say::Subscribe(name(), options)]);
        assert_eq!(channels.handle_subscribed(&name(), start(), Some(true)), None);
        assert_eq!(answer.try_recv().unwrap().unwrap().recovered, Some(true));
    }

    /// It was told `already_subscribed`, as it was by the two tests below.
    #[test]
    fn what_is_left_and_wanted_again_while_it_is_resumed_is_left_and_joined() {
        let (mut channels, first) = joined(start());
        channels.handle_disconnected();
        let _asked = channels.resume();
        drop(first);
        let options = SubscribeOptions::new();
        let (say, mut answer) = subscribe(&mut channels, options.clone());
        assert_eq!(say, None, "the subscription before it is not answered");
        assert_eq!(channels.leave_dropped(NOW), []);
        let left = channels.handle_subscribed(&name(), start(), Some(true));
        assert_eq!(left, Some(Say::Unsubscribe(name())));
        let again = channels.handle_unsubscribed(&name());
        assert_eq!(again, Some(Say::Subscribe(name(), options)));
        assert_eq!(channels.handle_subscribed(&name(), start(), None), None);
        assert_eq!(answer.try_recv().unwrap().unwrap().position, start());
    }

    #[test]
    fn what_is_left_and_wanted_again_is_joined_at_once_if_it_is_not_resumed() {
        // Refused while it waits for the answer, and refused before.
        for is_dropped_first in [true, false] {
            let (mut channels, first) = joined(start());
            channels.handle_disconnected();
            let _asked = channels.resume();
            let mut first = Some(first);
            let (options, mut answer, say);
            options = SubscribeOptions::new();
            if is_dropped_first {
                drop(first.take());
                let (unsaid, waits) = subscribe(&mut channels, options.clone());
                assert_eq!(unsaid, None);
                answer = waits;
                say = channels.handle_subscribe_refused(NOW, &name(), unavailable());
            } else {
                assert_eq!(
                    channels.handle_subscribe_refused(NOW, &name(), unavailable()),
                    None
                );
                drop(first.take());
                (say, answer) = subscribe(&mut channels, options.clone());
            }
            assert_eq!(say, Some(Say::Subscribe(name(), options)));
            assert_eq!(channels.handle_subscribed(&name(), start(), None), None);
            assert!(answer.try_recv().unwrap().is_ok());
        }
    }

    #[test]
    fn who_gave_up_does_not_keep_another_from_subscribing_otherwise() {
        let mut channels = Channels::new(8, Arc::default());
        let (_said, gave_up) = subscribe(&mut channels, SubscribeOptions::new());
        drop(gave_up);
        let options = SubscribeOptions::new().since(start());
        let (say, mut answer) = subscribe(&mut channels, options.clone());
        assert_eq!(say, None);
        assert_eq!(channels.handle_unsubscribed(&name()), None, "of what was before");
        let left = channels.handle_subscribed(&name(), start(), None);
        assert_eq!(left, Some(Say::Unsubscribe(name())));
        let again = channels.handle_unsubscribed(&name());
        assert_eq!(again, Some(Say::Subscribe(name(), options)));
        assert_eq!(channels.handle_subscribed(&name(), start(), Some(true)), None);
        assert_eq!(answer.try_recv().unwrap().unwrap().recovered, Some(true));
    }

    #[test]
    fn what_is_dropped_while_the_server_does_not_take_it_is_not_asked_for_again() {
        let (mut channels, first) = joined(start());
        channels.handle_disconnected();
        let _asked = channels.resume();
        assert_eq!(
            channels.handle_subscribe_refused(NOW, &name(), unavailable()),
            None
        );
        let at = channels.deadline().unwrap();
        drop(first);
        assert_eq!(channels.leave_dropped(at), []);
        assert_eq!(channels.deadline(), None);
        let options = SubscribeOptions::new();
        let (say, _waits) = subscribe(&mut channels, options.clone());
        assert_eq!(say, Some(Say::Subscribe(name(), options)));
    }
}

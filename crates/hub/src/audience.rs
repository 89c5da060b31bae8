//! The subscribers of one shard: for each channel, who of its sessions gets what arrives from the home.
//!
//! ```text
//!               begin                attach (the home said Subscribed)
//!   (nobody) ───────────► pending ───────────────────────────────────► attached ──detach, remove──► (nobody)
//!                            └── abort (the home refused), remove ──► (nobody)
//! ```
//!
//! **Calling contract:**
//!
//! 1. **[`Audience::begin`], then `Subscribe` to the home; its answer leads to [`Audience::attach`] or [`Audience::abort`].
//!    An answer for a session that is gone leads to neither:** [`Audience::remove`] has forgotten it, and its
//!    [`SubscriberId`] may be somebody else's by now, so the shell recognises its sessions by more than this id.
//! 2. **Whatever says `leave` means: send `Leave` to the home, now, behind every `Subscribe` sent before.** If it cannot be
//!    sent, it may be dropped: the next `Deliver` says `leave` again; or it may be sent later, if [`Audience::wants`] is still false.
//! 3. **Pass every `Deliver` and `Head` to [`Audience::deliver`] and [`Audience::head`], then what they give to everyone in
//!    [`Audience::subscribers`]: first `broken`, then the fresh entries.**
//! 4. **A subscriber who cannot take something lags: say so with [`Audience::lag`], and give it nothing more, of any
//!    channel, but `lag`, until [`Audience::recover`] has told what it missed.** So the gap stands before what follows it.
//!
//! It is not: an outbox, nor a memory of what each subscriber got. All subscribers of a channel are at the same place, except
//! those that lag.
//!
//! Costs O(1) in channels and sessions, except where a method says otherwise. To find one subscription, the shorter of the
//! subscriber's list and the channel's list is scanned.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use slab::Slab;
use smallvec::SmallVec;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Epoch, Position};

/// A session of this shard, as the shell numbers them: densely from 0, and again after one is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubscriberId(pub u32);

/// A channel of this shard. Valid until the next call of a method that takes subscribers away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelIndex(u32);

/// A break in what subscribers get, which they must be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// These offsets were missed.
    Gap {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
        /// The place of `to`, where the subscriber is now.
        position: Position,
    },
    /// The log began a new life; positions before mean nothing any longer.
    Reset {
        /// Where the subscriber is now.
        position: Position,
    },
}

/// Why a subscription cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BeginError {
    /// The subscriber is attached.
    #[error("already subscribed to this channel")]
    AlreadySubscribed,
    /// It has asked before and the answer is still to come.
    #[error("already about to be subscribed to this channel")]
    Pending,
}

/// The subscriber is not attached to the channel; one that is pending is not yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not subscribed to this channel")]
pub struct NotSubscribed;

/// A subscription that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Its channel. The new subscriber is the last one in [`Audience::subscribers`].
    pub channel: ChannelIndex,
    /// Where the new subscriber is, to be told to it.
    pub position: Position,
    /// What the *other* subscribers of the channel must be told, because a delivery was refused before.
    pub broken: Option<Break>,
}

/// What to do with entries from the home.
#[must_use = "the subscribers do not have it yet"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Give them to the subscribers of this channel.
    Fresh {
        /// The channel.
        channel: ChannelIndex,
        /// What all subscribers must be told first.
        broken: Option<Break>,
        /// Which of the entries they have not got yet; perhaps none.
        fresh: Range<usize>,
    },
    /// Nobody is attached.
    Nobody {
        /// Nobody waits either, so the home need not send any more: say `Leave` to it.
        leave: bool,
    },
}

/// What a subscriber could not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missed {
    /// Entries, this offset being the first.
    Entries {
        /// The offset.
        from: u64,
    },
    /// That positions start anew.
    Reset,
}

impl From<Break> for Missed {
    /// What is missed by who cannot be told of the break.
    fn from(broken: Break) -> Missed {
        match broken {
            Break::Gap { from, .. } => Missed::Entries { from },
            Break::Reset { .. } => Missed::Reset,
        }
    }
}

/// The subscribers of one shard.
///
/// Memory: 16 bytes per subscription beyond the first few of each list, 96 and the name per channel, 24 per session. A session
/// with a channel of its own costs about 130 bytes and the name.
#[derive(Debug)]
pub struct Audience {
    hasher: FixedState,
    /// By name: where in `channels`.
    index: HashTable<u32>,
    channels: Slab<Channel>,
    /// By [`SubscriberId`].
    subscribers: Vec<Subscriptions>,
    subscriptions: usize,
    /// Only those that lag; by channel and subscriber.
    lags: HashMap<(u32, SubscriberId), Lag, FixedState>,
}

/// One channel with at least one subscription.
#[derive(Debug)]
struct Channel {
    name: ChannelName,
    /// Where all attached subscribers are. Means nothing while there are none.
    last: Position,
    /// Who, the attached before the pending ones.
    members: SmallVec<[SubscriberId; 4]>,
    /// For each member, where in its list of subscriptions this one is.
    backs: SmallVec<[u32; 4]>,
    attached: u32,
}

/// What one subscriber subscribes to, in no order.
type Subscriptions = SmallVec<[Subscription; 2]>;

#[derive(Clone, Copy, Debug)]
struct Subscription {
    channel: u32,
    /// Where among the channel's members.
    slot: u32,
}

#[derive(Clone, Copy, Debug)]
struct Lag {
    epoch: Epoch,
    missed: Missed,
}

// 20,000 sessions with a channel each are to stay within a few megabytes.
const _: () = assert!(size_of::<Channel>() <= 96);
const _: () = assert!(size_of::<Option<Channel>>() == size_of::<Channel>());
const _: () = assert!(size_of::<Subscription>() == 8);
const _: () = assert!(size_of::<Subscriptions>() == 24);

impl Audience {
    /// Nobody yet. `hash_seed` is 64 random bits that no peer knows: channel names are chosen by peers.
    pub fn new(hash_seed: u64) -> Audience {
        let hasher = FixedState::with_seed(hash_seed);
        Audience {
            hasher: hasher.clone(),
            index: HashTable::new(),
            channels: Slab::new(),
            subscribers: Vec::new(),
            subscriptions: 0,
            lags: HashMap::with_hasher(hasher),
        }
    }

    /// A session wants to subscribe. After `Ok`, ask the home.
    pub fn begin(&mut self, channel: &ChannelName, subscriber: SubscriberId) -> Result<(), BeginError> {
        let index = match self.find(channel) {
            Some(index) => index,
            None => self.open(channel.clone()),
        };
        if let Some(slot) = self.slot(index, subscriber) {
            return Err(match self.channels[index as usize].is_attached(slot) {
                true => BeginError::AlreadySubscribed,
                false => BeginError::Pending,
            });
        }
        let list = self.list(subscriber);
        let back = list.len() as u32;
        let held = &mut self.channels[index as usize];
        let slot = held.members.len() as u32;
        held.members.push(subscriber);
        held.backs.push(back);
        self.list(subscriber).push(Subscription { channel: index, slot });
        self.subscriptions += 1;
        Ok(())
    }

    /// The home has said `Subscribed`: from after `position` on, entries come. `None` if nothing was pending.
    #[must_use = "the other subscribers may have to be told of a break"]
    pub fn attach(
        &mut self,
        channel: &ChannelName,
        subscriber: SubscriberId,
        position: Position,
    ) -> Option<Attached> {
        let index = self.find(channel)?;
        let slot = self.slot(index, subscriber)?;
        let held = &mut self.channels[index as usize];
        if held.is_attached(slot) {
            return None;
        }
        let broken = if held.attached == 0 {
            held.last = position;
            None
        } else {
            held.advance(position)
        };
        let attached = Attached {
            channel: ChannelIndex(index),
            position: held.last,
            broken,
        };
        let first_pending = held.attached;
        held.attached += 1;
        self.swap(index, slot, first_pending);
        Some(attached)
    }

    /// The home has refused. Says whether to leave: nobody else of this shard is attached or waits.
    #[must_use = "the home must be told of what is left"]
    pub fn abort(&mut self, channel: &ChannelName, subscriber: SubscriberId) -> bool {
        match self.find_slot(channel, subscriber) {
            Some((index, slot)) if !self.channels[index as usize].is_attached(slot) => {
                self.take(index, slot).is_some()
            }
            _ => false,
        }
    }

    /// A session unsubscribes. Says whether to leave: nobody else of this shard is attached or waits.
    pub fn detach(&mut self, channel: &ChannelName, subscriber: SubscriberId) -> Result<bool, NotSubscribed> {
        match self.find_slot(channel, subscriber) {
            Some((index, slot)) if self.channels[index as usize].is_attached(slot) => {
                Ok(self.take(index, slot).is_some())
            }
            _ => Err(NotSubscribed),
        }
    }

    /// A session is gone. Gives the channels to leave. Costs what the session was subscribed to.
    #[must_use = "the home must be told of what is left"]
    pub fn remove(&mut self, subscriber: SubscriberId) -> Vec<ChannelName> {
        let mut leave = Vec::new();
        while let Some(Subscription { channel, slot }) = self.subscriptions_of(subscriber).last().copied() {
            leave.extend(self.take(channel, slot));
        }
        self.forget_subscribers();
        leave
    }

    /// How many channels a session is subscribed to or waits for.
    pub fn subscriptions(&self, subscriber: SubscriberId) -> usize {
        self.subscriptions_of(subscriber).len()
    }

    /// Whether a session of this shard is subscribed to `channel` or waits for it.
    pub fn wants(&self, channel: &ChannelName) -> bool {
        self.find(channel).is_some()
    }

    /// Entries from the home, which follow `after` and each other without hole. Those that were delivered before are passed
    /// over; a hole before them is told. Costs the length of `entries`.
    ///
    /// Should there be a hole inside, what is behind it is not fresh: it is part of the gap that is told with the next delivery.
    pub fn deliver(&mut self, channel: &ChannelName, after: Position, entries: &[Arc<Entry>]) -> Delivery {
        let Some(index) = self.find(channel) else {
            return Delivery::Nobody { leave: true };
        };
        let held = &mut self.channels[index as usize];
        if held.attached == 0 {
            return Delivery::Nobody { leave: false };
        }
        let broken = held.advance(after);
        let is_old = |entry: &&Arc<Entry>| {
            entry.position.epoch == held.last.epoch && entry.position.offset <= held.last.offset
        };
        let first = entries.iter().take_while(is_old).count();
        let mut end = first;
        for entry in &entries[first..] {
            if entry.position.epoch != held.last.epoch || entry.previous != held.last.offset {
                break;
            }
            held.last = entry.position;
            end += 1;
        }
        Delivery::Fresh {
            channel: ChannelIndex(index),
            broken,
            fresh: first..end,
        }
    }

    /// Where the channel is, from the home: like a delivery without entries.
    pub fn head(&mut self, channel: &ChannelName, position: Position) -> Delivery {
        self.deliver(channel, position, &[])
    }

    /// Who is attached, in no order. An index that is not valid any longer gives nobody or somebody else.
    pub fn subscribers(&self, channel: ChannelIndex) -> &[SubscriberId] {
        self.channels
            .get(channel.0 as usize)
            .map_or(&[], Channel::attached)
    }

    /// The name of a channel.
    pub fn name(&self, channel: ChannelIndex) -> Option<&ChannelName> {
        self.channels.get(channel.0 as usize).map(|held| &held.name)
    }

    /// An attached subscriber could not take something; the earliest of what it missed is kept.
    pub fn lag(&mut self, channel: ChannelIndex, subscriber: SubscriberId, missed: Missed) {
        let Some(slot) = self.slot(channel.0, subscriber) else {
            return;
        };
        let held = &self.channels[channel.0 as usize];
        if !held.is_attached(slot) {
            return;
        }
        let epoch = held.last.epoch;
        let lag = self
            .lags
            .entry((channel.0, subscriber))
            .or_insert(Lag { epoch, missed });
        lag.missed = match (lag.missed, missed) {
            _ if lag.epoch != epoch => Missed::Reset,
            (Missed::Entries { from }, Missed::Entries { from: other }) => Missed::Entries {
                from: from.min(other),
            },
            _ => Missed::Reset,
        };
    }

    /// What a subscriber missed in each channel, up to where the channel is now; it does not lag any longer. Costs what the
    /// session is subscribed to.
    #[must_use = "the subscriber must be told what it missed"]
    pub fn recover(&mut self, subscriber: SubscriberId) -> Vec<(ChannelName, Break)> {
        let mut missed = Vec::new();
        if self.lags.is_empty() {
            return missed;
        }
        let list = self.subscribers.get(subscriber.0 as usize);
        for subscription in list.into_iter().flatten() {
            let Some(lag) = self.lags.remove(&(subscription.channel, subscriber)) else {
                continue;
            };
            let held = &self.channels[subscription.channel as usize];
            let position = held.last;
            let broken = match lag.missed {
                Missed::Entries { from } if lag.epoch == position.epoch => Break::Gap {
                    from,
                    to: position.offset,
                    position,
                },
                _ => Break::Reset { position },
            };
            missed.push((held.name.clone(), broken));
        }
        self.forget_lag_capacity();
        missed
    }

    /// Channels that somebody of this shard is subscribed to or waits for.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Subscriptions of all sessions, the pending ones included.
    pub fn subscriptions_total(&self) -> usize {
        self.subscriptions
    }

    /// Subscriptions that lag.
    pub fn lagging(&self) -> usize {
        self.lags.len()
    }

    fn find(&self, channel: &ChannelName) -> Option<u32> {
        let hash = self.hasher.hash_one(channel.as_str());
        let found = self
            .index
            .find(hash, |index| self.channels[*index as usize].name == *channel);
        found.copied()
    }

    fn find_slot(&self, channel: &ChannelName, subscriber: SubscriberId) -> Option<(u32, u32)> {
        let index = self.find(channel)?;
        Some((index, self.slot(index, subscriber)?))
    }

    /// Where among the members of a channel a subscriber is.
    fn slot(&self, index: u32, subscriber: SubscriberId) -> Option<u32> {
        let members = &self.channels.get(index as usize)?.members;
        let list = self.subscriptions_of(subscriber);
        if list.len() <= members.len() {
            let found = list.iter().find(|subscription| subscription.channel == index);
            found.map(|subscription| subscription.slot)
        } else {
            let found = members.iter().position(|member| *member == subscriber);
            found.map(|slot| slot as u32)
        }
    }

    fn subscriptions_of(&self, subscriber: SubscriberId) -> &[Subscription] {
        self.subscribers
            .get(subscriber.0 as usize)
            .map_or(&[], |list| list.as_slice())
    }

    fn list(&mut self, subscriber: SubscriberId) -> &mut Subscriptions {
        let index = subscriber.0 as usize;
        if index >= self.subscribers.len() {
            self.subscribers.resize_with(index + 1, Subscriptions::new);
        }
        &mut self.subscribers[index]
    }

    fn open(&mut self, name: ChannelName) -> u32 {
        let hash = self.hasher.hash_one(name.as_str());
        let index = self.channels.insert(Channel {
            name,
            last: Position::start(Epoch(0)),
            members: SmallVec::new(),
            backs: SmallVec::new(),
            attached: 0,
        }) as u32;
        let (channels, hasher) = (&self.channels, &self.hasher);
        self.index.insert_unique(hash, index, |index| {
            hasher.hash_one(channels[*index as usize].name.as_str())
        });
        index
    }

    /// Exchanges two members of a channel.
    fn swap(&mut self, index: u32, one: u32, other: u32) {
        let held = &mut self.channels[index as usize];
        held.members.swap(one as usize, other as usize);
        held.backs.swap(one as usize, other as usize);
        for slot in [one, other] {
            let member = held.members[slot as usize];
            let back = held.backs[slot as usize];
            self.subscribers[member.0 as usize][back as usize].slot = slot;
        }
    }

    /// Takes a member out of a channel. Gives the channel's name if it was the last one.
    fn take(&mut self, index: u32, mut slot: u32) -> Option<ChannelName> {
        let held = &mut self.channels[index as usize];
        let subscriber = held.members[slot as usize];
        if held.is_attached(slot) {
            held.attached -= 1;
            let last_attached = held.attached;
            self.swap(index, slot, last_attached);
            slot = last_attached;
        }
        let last = self.channels[index as usize].members.len() as u32 - 1;
        self.swap(index, slot, last);
        let held = &mut self.channels[index as usize];
        held.members.pop();
        let back = held.backs.pop().unwrap_or_default();
        shrink(&mut held.members);
        shrink(&mut held.backs);
        let is_empty = held.members.is_empty();
        self.take_from_list(subscriber, back);
        self.subscriptions -= 1;
        if !self.lags.is_empty() && self.lags.remove(&(index, subscriber)).is_some() {
            self.forget_lag_capacity();
        }
        is_empty.then(|| self.close(index))
    }

    /// Takes the subscription at `back` out of a subscriber's list; the last one moves to its place.
    fn take_from_list(&mut self, subscriber: SubscriberId, back: u32) {
        let list = &mut self.subscribers[subscriber.0 as usize];
        list.swap_remove(back as usize);
        shrink(list);
        if let Some(moved) = list.get(back as usize).copied() {
            self.channels[moved.channel as usize].backs[moved.slot as usize] = back;
        }
    }

    fn close(&mut self, index: u32) -> ChannelName {
        let name = self.channels.remove(index as usize).name;
        let hash = self.hasher.hash_one(name.as_str());
        if let Ok(entry) = self.index.find_entry(hash, |kept| *kept == index) {
            entry.remove();
        }
        if self.channels.is_empty() && self.channels.capacity() > IDLE_CAPACITY {
            self.channels = Slab::new();
        }
        if self.index.capacity() > 4 * self.index.len().max(IDLE_CAPACITY) {
            let (channels, hasher) = (&self.channels, &self.hasher);
            self.index.shrink_to(2 * self.index.len(), |index| {
                hasher.hash_one(channels[*index as usize].name.as_str())
            });
        }
        name
    }

    /// Gives back the places behind the last session that is subscribed to anything.
    fn forget_subscribers(&mut self) {
        while self.subscribers.last().is_some_and(|list| list.is_empty()) {
            self.subscribers.pop();
        }
        if self.subscribers.capacity() > 4 * self.subscribers.len().max(IDLE_CAPACITY) {
            self.subscribers.shrink_to(2 * self.subscribers.len());
        }
    }

    fn forget_lag_capacity(&mut self) {
        if self.lags.capacity() > 4 * self.lags.len().max(IDLE_CAPACITY) {
            self.lags.shrink_to(2 * self.lags.len());
        }
    }
}

/// Places that stay when what filled them is gone.
const IDLE_CAPACITY: usize = 1_024;

/// Gives back what a list does not need, long after it was long.
fn shrink<A: smallvec::Array>(list: &mut SmallVec<A>) {
    if list.spilled() && list.capacity() > 4 * list.len() {
        list.shrink_to_fit();
    }
}

impl Channel {
    fn attached(&self) -> &[SubscriberId] {
        &self.members[..self.attached as usize]
    }

    fn is_attached(&self, slot: u32) -> bool {
        slot < self.attached
    }

    /// The attached subscribers are to go on from `position`: what they must be told if they are not there yet.
    fn advance(&mut self, position: Position) -> Option<Break> {
        let last = self.last;
        if position.epoch != last.epoch {
            self.last = position;
            return Some(Break::Reset { position });
        }
        if position.offset <= last.offset {
            return None;
        }
        self.last = position;
        Some(Break::Gap {
            from: last.offset + 1,
            to: position.offset,
            position,
        })
    }
}

#[cfg(test)]
mod tests;

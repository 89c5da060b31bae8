//! The subscribers of one shard: for each channel, who of its sessions gets what arrives from the home.
//!
//! ```text
//!               begin                attach (the home said Subscribed)
//!   (nobody) ───────────► pending ───────────────────────────────────► live ──detach, remove──► (nobody)
//!                            │ │                                       │  ▲                       ▲
//!                            │ └── attach_behind ──────┐           lag │  │ advance, skip         │
//!                            │                         ▼               ▼  │                       │
//!                            │                        behind, with a cursor ──── detach, remove ──┘
//!                            └── abort (the home refused), remove ──► (nobody)
//! ```
//!
//! Live subscribers get what arrives; they are all at the same place, the channel's. Whoever is behind has a place of its own, its
//! cursor, gets nothing that arrives, and reads the log from there until it is where the channel is. Resuming after a reconnect, a
//! reader that is too slow, and a shard that missed something are the same: a cursor behind the channel.
//!
//! **Calling contract:**
//!
//! 1. **[`Audience::begin`], then `Subscribe` to the home; its answer leads to [`Audience::attach`], [`Audience::attach_behind`] or
//!    [`Audience::abort`]. An answer for a session that is gone leads to none of them:** [`Audience::remove`] has forgotten it, and
//!    its [`SubscriberId`] may be somebody else's by now, so the shell recognises its sessions by more than this id.
//! 2. **Whatever says `leave` means: send `Leave` to the home, now, behind every `Subscribe` sent before.** If it cannot be
//!    sent, it may be dropped: the next `Deliver` says `leave` again; or it may be sent later, if [`Audience::wants`] is still false.
//! 3. **Pass every `Deliver` and `Head` to [`Audience::deliver`] and [`Audience::head`], then what they give to everyone in
//!    [`Audience::subscribers`]: first `missed`, then the fresh entries.** A subscriber that cannot take one of them, or is to read
//!    what it missed, falls behind: [`Audience::lag`].
//! 4. **Whoever is behind gets pages read from its [`Audience::cursor`], as [`Audience::advance`] says, or is told what it does not
//!    get and is brought up by [`Audience::skip`].**
//!
//! It is not: an outbox, nor a memory of what each subscriber got.
//!
//! Costs O(1) in channels and sessions, except where a method says otherwise. To find one subscription, the shorter of the
//! subscriber's list and the channel's list is scanned.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet, HashTable};
use slab::Slab;
use smallvec::SmallVec;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Epoch, Position};

use crate::log::{Page, PageStart};

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

/// What all live subscribers of a channel missed together: they were here, and the channel goes on there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Where they were.
    pub after: Position,
    /// Where the channel is.
    pub position: Position,
}

impl Missed {
    /// What they are told if they are not to read it from the log.
    pub fn told(&self) -> Break {
        let Missed { after, position } = *self;
        if after.epoch != position.epoch {
            return Break::Reset { position };
        }
        Break::Gap {
            from: after.offset + 1,
            to: position.offset,
            position,
        }
    }
}

/// How far a subscriber has been served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The home has not answered yet.
    Pending,
    /// Everything up to here.
    At(Position),
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
    /// Its channel. A new live subscriber is the last one in [`Audience::subscribers`].
    pub channel: ChannelIndex,
    /// Where the new subscriber is, to be told to it.
    pub position: Position,
    /// What the *other* live subscribers of the channel missed, because a delivery was refused before.
    pub missed: Option<Missed>,
}

/// What to do with entries from the home.
#[must_use = "the subscribers do not have it yet"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Give them to the subscribers of this channel.
    Fresh {
        /// The channel.
        channel: ChannelIndex,
        /// What all live subscribers missed before.
        missed: Option<Missed>,
        /// Where they are before the fresh entries.
        after: Position,
        /// Which of the entries they have not got yet; perhaps none.
        fresh: Range<usize>,
    },
    /// Nobody is attached.
    Nobody {
        /// Nobody waits either, so the home need not send any more: say `Leave` to it.
        leave: bool,
    },
}

/// What a page has for a subscriber that is behind.
#[must_use = "the subscriber does not have it yet"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What it must be told first.
    pub broken: Option<Break>,
    /// Which of the page's entries it gets. Those beyond reach it live.
    pub entries: Range<usize>,
    /// Whether it is where the channel is, and live from now on.
    pub live: bool,
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
    /// Of those that are behind, where they are; by channel and subscriber.
    cursors: HashMap<(u32, SubscriberId), Cursor, FixedState>,
    /// Subscriptions that conflate whatever their channel says.
    latest: HashSet<(u32, SubscriberId), FixedState>,
}

/// One channel with at least one subscription.
#[derive(Debug)]
struct Channel {
    name: ChannelName,
    /// Where all live subscribers are. Means nothing while nobody is attached.
    last: Position,
    /// Who: the live ones, then those behind, then the pending ones.
    members: SmallVec<[SubscriberId; 4]>,
    /// For each member, where in its list of subscriptions this one is.
    backs: SmallVec<[u32; 4]>,
    live: u32,
    /// The live ones and those behind.
    attached: u32,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    at: Position,
    /// It has been behind from the beginning.
    resumes: bool,
}

/// What one subscriber subscribes to, in no order.
type Subscriptions = SmallVec<[Subscription; 2]>;

#[derive(Clone, Copy, Debug)]
struct Subscription {
    channel: u32,
    /// Where among the channel's members.
    slot: u32,
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
            cursors: HashMap::with_hasher(hasher.clone()),
            latest: HashSet::with_hasher(hasher),
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
    #[must_use = "the other subscribers may have missed something"]
    pub fn attach(
        &mut self,
        channel: &ChannelName,
        subscriber: SubscriberId,
        position: Position,
    ) -> Option<Attached> {
        let (index, missed) = self.admit(channel, subscriber, position)?;
        self.make_live(index, subscriber);
        Some(Attached {
            channel: ChannelIndex(index),
            position: self.channels[index as usize].last,
            missed,
        })
    }

    /// The same for a subscriber that goes on from `since`, which nobody has checked yet.
    #[must_use = "the other subscribers may have missed something"]
    pub fn attach_behind(
        &mut self,
        channel: &ChannelName,
        subscriber: SubscriberId,
        position: Position,
        since: Position,
    ) -> Option<Attached> {
        let (index, missed) = self.admit(channel, subscriber, position)?;
        let cursor = Cursor {
            at: since,
            resumes: true,
        };
        self.cursors.insert((index, subscriber), cursor);
        Some(Attached {
            channel: ChannelIndex(index),
            position: since,
            missed,
        })
    }

    /// Makes a pending subscriber an attached one, neither live nor with a cursor.
    fn admit(
        &mut self,
        channel: &ChannelName,
        subscriber: SubscriberId,
        position: Position,
    ) -> Option<(u32, Option<Missed>)> {
        let (index, slot) = self.find_slot(channel, subscriber)?;
        let held = &mut self.channels[index as usize];
        if held.is_attached(slot) {
            return None;
        }
        let missed = if held.attached == 0 {
            held.last = position;
            None
        } else {
            held.advance(position)
        };
        let first_pending = held.attached;
        held.attached += 1;
        self.swap(index, slot, first_pending);
        Some((index, missed))
    }

    /// The subscription of an attached subscriber conflates, whatever its channel says.
    pub fn conflate(&mut self, channel: ChannelIndex, subscriber: SubscriberId) {
        if self.slot(channel.0, subscriber).is_some() {
            self.latest.insert((channel.0, subscriber));
        }
    }

    /// Whether [`Audience::conflate`] was said of a subscription.
    pub fn conflates(&self, channel: ChannelIndex, subscriber: SubscriberId) -> bool {
        !self.latest.is_empty() && self.latest.contains(&(channel.0, subscriber))
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
    /// Should there be a hole inside, what is behind it is not fresh: it is part of what is missed before the next delivery.
    pub fn deliver(&mut self, channel: &ChannelName, after: Position, entries: &[Arc<Entry>]) -> Delivery {
        let Some(index) = self.find(channel) else {
            return Delivery::Nobody { leave: true };
        };
        let held = &mut self.channels[index as usize];
        if held.attached == 0 {
            return Delivery::Nobody { leave: false };
        }
        let missed = held.advance(after);
        let is_old = |entry: &&Arc<Entry>| {
            entry.position.epoch == held.last.epoch && entry.position.offset <= held.last.offset
        };
        let first = entries.iter().take_while(is_old).count();
        let after = held.last;
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
            missed,
            after,
            fresh: first..end,
        }
    }

    /// Where the channel is, from the home: like a delivery without entries.
    pub fn head(&mut self, channel: &ChannelName, position: Position) -> Delivery {
        self.deliver(channel, position, &[])
    }

    /// Who is live, in no order. An index that is not valid any longer gives nobody or somebody else.
    pub fn subscribers(&self, channel: ChannelIndex) -> &[SubscriberId] {
        self.channels.get(channel.0 as usize).map_or(&[], Channel::live)
    }

    /// The name of a channel.
    pub fn name(&self, channel: ChannelIndex) -> Option<&ChannelName> {
        self.channels.get(channel.0 as usize).map(|held| &held.name)
    }

    /// Where a channel's live subscribers are.
    pub fn position(&self, channel: ChannelIndex) -> Option<Position> {
        self.channels.get(channel.0 as usize).map(|held| held.last)
    }

    /// How far a subscriber has been served. `None` if it is not subscribed.
    pub fn standing(&self, channel: &ChannelName, subscriber: SubscriberId) -> Option<Standing> {
        let (index, slot) = self.find_slot(channel, subscriber)?;
        let held = &self.channels[index as usize];
        Some(match self.cursors.get(&(index, subscriber)) {
            Some(cursor) => Standing::At(cursor.at),
            None if held.is_attached(slot) => Standing::At(held.last),
            None => Standing::Pending,
        })
    }

    /// A live subscriber has everything up to `after` and does not get what follows: it is behind.
    pub fn lag(&mut self, channel: ChannelIndex, subscriber: SubscriberId, after: Position) {
        let Some(slot) = self.slot(channel.0, subscriber) else {
            return;
        };
        let held = &mut self.channels[channel.0 as usize];
        if slot >= held.live {
            return;
        }
        held.live -= 1;
        let last_live = held.live;
        self.swap(channel.0, slot, last_live);
        let cursor = Cursor {
            at: after,
            resumes: false,
        };
        self.cursors.insert((channel.0, subscriber), cursor);
    }

    /// Where a subscriber is that is behind in this channel.
    pub fn cursor(&self, channel: ChannelIndex, subscriber: SubscriberId) -> Option<Position> {
        Some(self.cursors.get(&(channel.0, subscriber))?.at)
    }

    /// Whether a subscriber has been behind since it was attached. It reads until it is live, whatever its channel does with those
    /// who lag.
    pub fn resumes(&self, channel: ChannelIndex, subscriber: SubscriberId) -> bool {
        let cursor = self.cursors.get(&(channel.0, subscriber));
        cursor.is_some_and(|cursor| cursor.resumes)
    }

    /// The channels in which a subscriber is behind. Costs what the session is subscribed to, nothing while nobody is behind.
    pub fn behind(&self, subscriber: SubscriberId) -> impl Iterator<Item = ChannelIndex> {
        let list = match self.cursors.is_empty() {
            true => &[],
            false => self.subscriptions_of(subscriber),
        };
        let channels = list.iter().map(|subscription| subscription.channel);
        channels
            .filter(move |channel| self.cursors.contains_key(&(*channel, subscriber)))
            .map(ChannelIndex)
    }

    /// What `page`, which was read from `since`, has for a subscriber that is there; its cursor moves. `None` if it is elsewhere, or
    /// not behind.
    ///
    /// A page may end before the place where the channel is: read again. It may go on behind it, if this shard was not told of
    /// everything yet: what lies behind is left out, because it comes live. Where the shard has not heard of the page's epoch
    /// yet, or the cursor is before the channel, nothing can be joined: read again after the next delivery.
    pub fn advance(
        &mut self,
        channel: ChannelIndex,
        subscriber: SubscriberId,
        since: Position,
        page: &Page,
    ) -> Option<Step> {
        let last = self.channels.get(channel.0 as usize)?.last;
        let cursor = self.cursors.get_mut(&(channel.0, subscriber))?;
        if cursor.at != since {
            return None;
        }
        // Whether what lies behind `last` comes live.
        let joins = page.begin.epoch == last.epoch;
        let (broken, begin) = match page.start {
            PageStart::Continues => (None, page.begin),
            // Who is before the channel already is told when the channel is there.
            PageStart::Gap { from, .. } if joins && from > last.offset => (None, since),
            // The rest is missed by everyone, and told with the next delivery.
            PageStart::Gap { from, to } => {
                let position = match joins && to > last.offset {
                    true => last,
                    false => page.begin,
                };
                let to = position.offset;
                (Some(Break::Gap { from, to, position }), position)
            }
            PageStart::Reset => (Some(Break::Reset { position: page.begin }), page.begin),
        };
        let comes = |entry: &&Arc<Entry>| !joins || entry.position.offset <= last.offset;
        let end = page.entries.iter().take_while(comes).count();
        cursor.at = match end.checked_sub(1) {
            Some(newest) => page.entries[newest].position,
            None => begin,
        };
        let live = cursor.at == last;
        if live {
            self.make_live(channel.0, subscriber);
        }
        Some(Step {
            broken,
            entries: 0..end,
            live,
        })
    }

    /// A subscriber that fell behind gets nothing of what it missed and is live again: what it is told of that. Not for those
    /// that have read since ([`Audience::resumes`]).
    #[must_use = "the subscriber must be told what it missed"]
    pub fn skip(&mut self, channel: ChannelIndex, subscriber: SubscriberId) -> Option<Break> {
        let after = self.cursor(channel, subscriber)?;
        let position = self.position(channel)?;
        self.make_live(channel.0, subscriber);
        let is_there = after.epoch == position.epoch && after.offset >= position.offset;
        (!is_there).then(|| Missed { after, position }.told())
    }

    fn make_live(&mut self, index: u32, subscriber: SubscriberId) {
        let Some(slot) = self.slot(index, subscriber) else {
            return;
        };
        let held = &mut self.channels[index as usize];
        if slot < held.live || !held.is_attached(slot) {
            return;
        }
        let first_behind = held.live;
        held.live += 1;
        self.swap(index, slot, first_behind);
        self.cursors.remove(&(index, subscriber));
        self.forget_cursor_capacity();
    }

    /// Channels that somebody of this shard is subscribed to or waits for.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Subscriptions of all sessions, the pending ones included.
    pub fn subscriptions_total(&self) -> usize {
        self.subscriptions
    }

    /// Subscriptions that are behind.
    pub fn behind_total(&self) -> usize {
        self.cursors.len()
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
            live: 0,
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
        if slot < held.live {
            held.live -= 1;
            let last_live = held.live;
            self.swap(index, slot, last_live);
            slot = last_live;
        }
        let held = &mut self.channels[index as usize];
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
        if !self.cursors.is_empty() && self.cursors.remove(&(index, subscriber)).is_some() {
            self.forget_cursor_capacity();
        }
        if !self.latest.is_empty() && self.latest.remove(&(index, subscriber)) {
            self.latest.shrink_to(2 * self.latest.len());
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

    fn forget_cursor_capacity(&mut self) {
        if self.cursors.capacity() > 4 * self.cursors.len().max(IDLE_CAPACITY) {
            self.cursors.shrink_to(2 * self.cursors.len());
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
    fn live(&self) -> &[SubscriberId] {
        &self.members[..self.live as usize]
    }

    fn is_attached(&self, slot: u32) -> bool {
        slot < self.attached
    }

    /// The live subscribers are to go on from `position`: what they missed if they are not there yet.
    fn advance(&mut self, position: Position) -> Option<Missed> {
        let after = self.last;
        if position.epoch == after.epoch && position.offset <= after.offset {
            return None;
        }
        self.last = position;
        Some(Missed { after, position })
    }
}

#[cfg(test)]
mod tests;

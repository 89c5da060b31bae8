//! Who is in the channels whose home is here.
//!
//! ```text
//!   shards ──join, leave, vanish──► Presence ──Announcement, once per interested shard and period──► shards ──► who hears it
//! ```
//!
//! **Calling contract: after any change make sure that [`Presence::handle_timeout`] is called at [`Presence::deadline`] or soon
//! after, and call [`Presence::poll_announcement`] until it gives `None`.**
//!
//! - A member is there while at least one connection of its session is. When the last has vanished it is there for the grace
//!   period still; when it leaves with intent, or its user is back with another session, it is not.
//! - A shard is told from when it asks ([`Presence::hear`]) until it says that nobody there hears ([`Presence::deaf`]).
//! - Announcements of one channel are at least [`PRESENCE_PERIOD`] apart, of one with too many members to be listed
//!   [`PRESENCE_PERIOD_UNLISTED`]: a join costs what it costs to note it, not a message to each of the others.
//!
//! It is not: who of a shard is told, nor what happens when that fails. Whoever has missed an announcement takes a snapshot
//! ([`Presence::snapshot`]).

mod roster;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::presence::{Announcement, Counts, Member, MemberKey, Members, Which, Who};
use switchboard_proto::time::Time;

use self::roster::Absence;
pub use self::roster::{Listing, Roster, Stay};
use crate::home::ShardId;
use crate::limits::{PRESENCE_PER_TIMEOUT_MAX, PRESENCE_PERIOD, PRESENCE_PERIOD_UNLISTED};

/// What holds for all channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long somebody whose connections have vanished is still there.
    pub grace: Duration,
    /// Beyond, members are counted and not listed.
    pub listing: Listing,
}

/// See the module. Costs O(log n) per change, in members of the channel and channels that wait to be announced.
#[derive(Debug)]
pub struct Presence {
    settings: Settings,
    rosters: HashMap<ChannelName, Roster, FixedState>,
    /// In the order in which they end.
    absences: VecDeque<Absent>,
    last_absence: u64,
    /// Channels that have changed, and when that is announced.
    changed: BTreeSet<(Time, ChannelName)>,
    /// Those of them whose time has come.
    due: VecDeque<ChannelName>,
    /// Of all channels.
    members: usize,
}

/// An announcement, and whom it is for.
#[must_use = "who hears of the channel does not know yet"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Of which channel.
    pub channel: ChannelName,
    /// For these shards.
    pub shards: SmallVec<[ShardId; 4]>,
    /// What they are told.
    pub announcement: Announcement,
}

#[derive(Debug)]
struct Absent {
    until: Time,
    channel: ChannelName,
    key: MemberKey,
    absence: Absence,
}

impl Presence {
    /// Nobody yet. `hash_seed` is 64 random bits that no peer knows: channel names are chosen by peers.
    pub fn new(settings: Settings, hash_seed: u64) -> Presence {
        Presence {
            settings,
            rosters: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            absences: VecDeque::new(),
            last_absence: 0,
            changed: BTreeSet::new(),
            due: VecDeque::new(),
            members: 0,
        }
    }

    /// Somebody is there, with this stay.
    pub fn join(&mut self, now: Time, channel: &ChannelName, member: Member, stay: Stay) {
        self.change(now, channel, |roster| roster.join(member, stay));
    }

    /// Somebody left with intent.
    pub fn leave(&mut self, now: Time, channel: &ChannelName, key: &MemberKey, stay: Stay) {
        self.change(now, channel, |roster| roster.leave(key, stay));
    }

    /// A connection is gone, and may come back.
    pub fn vanish(&mut self, now: Time, channel: &ChannelName, key: MemberKey, stay: Stay) {
        let Some(roster) = self.rosters.get_mut(channel) else {
            return;
        };
        self.last_absence += 1;
        let absence = Absence(self.last_absence);
        if roster.vanish(&key, stay, absence) {
            self.absences.push_back(Absent {
                until: now + self.settings.grace,
                channel: channel.clone(),
                key,
                absence,
            });
        }
    }

    /// Somebody of this shard hears of a channel: the shard gets all announcements from now on. Take a snapshot for it.
    pub fn hear(&mut self, channel: &ChannelName, shard: ShardId) {
        let roster = self.rosters.entry_ref(channel).or_default();
        roster.set_hears(shard, true);
    }

    /// Nobody of this shard hears of a channel any longer.
    pub fn deaf(&mut self, channel: &ChannelName, shard: ShardId) {
        if let Some(roster) = self.rosters.get_mut(channel) {
            roster.set_hears(shard, false);
            self.forget_idle(channel);
        }
    }

    /// Who is there, for somebody who gets all announcements from now on.
    pub fn snapshot(&mut self, channel: &ChannelName) -> Announcement {
        let listing = self.settings.listing;
        match self.rosters.get_mut(channel) {
            Some(roster) => roster.snapshot(listing),
            None => Announcement {
                counts: Counts::default(),
                who: Who::All(Vec::new()),
            },
        }
    }

    /// Some of the members of a channel. `random` chooses the sample.
    pub fn members(&self, channel: &ChannelName, which: &Which, limit: Listing, random: u64) -> Members {
        let Some(roster) = self.rosters.get(channel) else {
            return Members {
                counts: Counts::default(),
                members: Vec::new(),
                next: None,
            };
        };
        let (members, more) = match which {
            Which::After(after) => roster.page(after.as_ref(), limit),
            Which::Sample => (roster.sample(limit, random), false),
        };
        let next = members.last().filter(|_| more).map(|member| member.key.clone());
        let counts = roster.counts();
        Members {
            counts,
            members,
            next,
        }
    }

    /// The members of a channel.
    pub fn roster(&self, channel: &ChannelName) -> Option<&Roster> {
        self.rosters.get(channel)
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Time> {
        let absence = self.absences.front().map(|absent| absent.until);
        let changed = self.changed.first().map(|(at, _)| *at);
        absence.into_iter().chain(changed).min()
    }

    /// Ends absences and finds what is to be announced: at most [`PRESENCE_PER_TIMEOUT_MAX`] of each.
    pub fn handle_timeout(&mut self, now: Time) {
        let over = self.absences.iter().take_while(|absent| absent.until <= now);
        let over = over.take(PRESENCE_PER_TIMEOUT_MAX).count();
        for _ in 0..over {
            if let Some(over) = self.absences.pop_front() {
                self.change(now, &over.channel, |roster| {
                    roster.expire(&over.key, over.absence);
                });
            }
        }
        for _ in 0..PRESENCE_PER_TIMEOUT_MAX {
            match self.changed.first() {
                Some((at, _)) if *at <= now => self
                    .due
                    .extend(self.changed.pop_first().map(|(_, channel)| channel)),
                _ => break,
            }
        }
        if self.absences.is_empty() {
            self.absences = VecDeque::new();
        }
    }

    /// What those who hear of a channel are to be told.
    pub fn poll_announcement(&mut self) -> Option<Due> {
        while let Some(channel) = self.due.pop_front() {
            let Some(roster) = self.rosters.get_mut(&channel) else {
                continue;
            };
            let announcement = roster.announce(self.settings.listing);
            let shards = SmallVec::from_slice(roster.hearers());
            self.forget_idle(&channel);
            if let Some(announcement) = announcement
                && !shards.is_empty()
            {
                return Some(Due {
                    channel,
                    shards,
                    announcement,
                });
            }
        }
        None
    }

    /// Channels in which somebody is, or of which somebody hears.
    pub fn channels(&self) -> usize {
        self.rosters.len()
    }

    /// Members of all channels.
    pub fn members_total(&self) -> usize {
        self.members
    }

    fn change(&mut self, now: Time, channel: &ChannelName, change: impl FnOnce(&mut Roster)) {
        let roster = self.rosters.entry_ref(channel).or_default();
        let was_changed = roster.has_changed();
        let members = roster.counts().members as usize;
        change(roster);
        self.members = self.members + roster.counts().members as usize - members;
        if roster.has_changed() && !was_changed {
            let period = match roster.is_unlisted() {
                true => PRESENCE_PERIOD_UNLISTED,
                false => PRESENCE_PERIOD,
            };
            self.changed.insert((now + period, channel.clone()));
        }
        self.forget_idle(channel);
    }

    fn forget_idle(&mut self, channel: &ChannelName) {
        if self.rosters.get(channel).is_some_and(Roster::is_idle) {
            self.rosters.remove(channel);
        }
        if self.rosters.capacity() > 4 * self.rosters.len().max(IDLE_CAPACITY) {
            self.rosters.shrink_to(2 * self.rosters.len());
        }
    }
}

/// Places that stay when the channels that filled them are gone.
const IDLE_CAPACITY: usize = 1_024;

#[cfg(test)]
mod tests;

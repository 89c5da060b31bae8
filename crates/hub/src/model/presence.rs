//! Who is in channels, under arbitrary operations, against a plain account of stays.
//!
//! [`run`] takes any bytes as a sequence of operations: sessions of a few users come, go and vanish in several channels, shards hear of
//! these and cease to, time passes. It panics where a promise is broken:
//!
//! - whoever folds what is announced over a list has the members, and the same counts;
//! - somebody who vanished is there for the grace period and not longer, or until the user is back with another session;
//! - pages, one after the other, name everyone once, a sample nobody twice;
//! - once all have left and nobody hears, nothing is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::User;
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::{Announcement, Member, MemberKey, Which, Who};
use switchboard_proto::session::server::SessionId;
use switchboard_proto::time::Time;

use super::script::Script;
use crate::home::ShardId;
use crate::limits::PRESENCE_PERIOD_UNLISTED;
use crate::presence::{Listing, Presence, Settings, Stay};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const SHARDS: usize = 3;
const GRACE: Duration = Duration::from_secs(10);

/// Runs the operations that `bytes` stand for, then lets time pass and everybody leave.
///
/// # Panics
///
/// Where presence breaks a promise.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut world = World::new(&mut script);
    while !script.is_over() {
        world.operate(&mut script);
        world.check();
    }
    world.settle();
    world.everybody_leaves();
}

/// A member, as a plain account has it.
#[derive(Default)]
struct Account {
    stays: BTreeSet<Stay>,
    info: Option<Payload>,
    /// Without stays: until when it is there.
    until: Time,
}

/// What somebody has who folds what is announced.
#[derive(Default)]
pub(crate) struct Fold {
    /// `None`: it has no list.
    pub(crate) members: Option<BTreeMap<MemberKey, Option<Payload>>>,
    count: usize,
}

struct World {
    presence: Presence,
    channels: Vec<ChannelName>,
    listing: Listing,
    now: Time,
    accounts: BTreeMap<(ChannelName, MemberKey), Account>,
    /// Of a shard as many as have begun to hear there.
    folds: BTreeMap<(ChannelName, ShardId), Vec<Fold>>,
    stays: Vec<(ChannelName, MemberKey, Stay)>,
}

impl World {
    fn new(script: &mut Script<'_>) -> World {
        let listing = Listing {
            members_max: 1 + script.choose(10),
            bytes_max: [200, 100_000][script.choose(2)],
        };
        let names = CHANNELS.iter().filter_map(|name| ChannelName::parse(name).ok());
        World {
            presence: Presence::new(
                Settings {
                    grace: GRACE,
                    listing,
                },
                7,
            ),
            channels: names.collect(),
            listing,
            now: Time::ZERO,
            accounts: BTreeMap::new(),
            folds: BTreeMap::new(),
            stays: Vec::new(),
        }
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        let Some(channel) = script.pick(self.channels.clone()) else {
            return;
        };
        match script.choose(16) {
            0..=5 => self.join(script, channel),
            6..=7 => self.end(script, true),
            8..=9 => self.end(script, false),
            10 => self.hear(script, channel),
            11 => self.fall_deaf(script, channel),
            12..=14 => self.pass(Duration::from_millis(
                [1, 50, 100, 900, 2_000, 9_000][script.choose(6)],
            )),
            _ => self.read(script, &channel),
        }
    }

    fn join(&mut self, script: &mut Script<'_>, channel: ChannelName) {
        let key = MemberKey {
            user: User::new(["ana", "ben", "eve", "mo"][script.choose(4)]),
            session: SessionId(script.choose(4) as u64),
        };
        let info = ["", "1", "\"x\""][script.choose(3)];
        let info = Payload::json(info).ok();
        let stay = Stay {
            shard: ShardId(script.choose(SHARDS) as u16),
            number: self.stays.len() as u64,
        };
        let place = (channel.clone(), key.clone());
        if !self.accounts.contains_key(&place) {
            // The user is back with another session.
            self.accounts.retain(|(known, other), account| {
                *known != channel || other.user != key.user || !account.stays.is_empty()
            });
        }
        let account = self.accounts.entry(place).or_default();
        account.stays.insert(stay);
        account.info.clone_from(&info);
        let member = Member {
            key: key.clone(),
            info,
        };
        self.presence.join(self.now, &channel, member, stay);
        self.stays.push((channel, key, stay));
    }

    /// Of all stays so far, also of those that have ended.
    fn end(&mut self, script: &mut Script<'_>, with_intent: bool) {
        let Some((channel, key, stay)) = script.pick(self.stays.iter().cloned()) else {
            return;
        };
        self.end_stay(&channel, key, stay, with_intent);
    }

    fn end_stay(&mut self, channel: &ChannelName, key: MemberKey, stay: Stay, with_intent: bool) {
        let place = (channel.clone(), key.clone());
        if let Some(account) = self.accounts.get_mut(&place)
            && account.stays.remove(&stay)
            && account.stays.is_empty()
        {
            account.until = self.now + GRACE;
            if with_intent {
                self.accounts.remove(&place);
            }
        }
        match with_intent {
            true => self.presence.leave(self.now, channel, &key, stay),
            false => self.presence.vanish(self.now, channel, key, stay),
        }
    }

    fn hear(&mut self, script: &mut Script<'_>, channel: ChannelName) {
        let shard = ShardId(script.choose(SHARDS) as u16);
        self.presence.hear(&channel, shard);
        let snapshot = self.presence.snapshot(&channel);
        let mut fold = Fold::default();
        fold.hear(&snapshot);
        self.folds.entry((channel, shard)).or_default().push(fold);
    }

    fn fall_deaf(&mut self, script: &mut Script<'_>, channel: ChannelName) {
        let shard = ShardId(script.choose(SHARDS) as u16);
        self.presence.deaf(&channel, shard);
        self.folds.remove(&(channel, shard));
    }

    /// Time passes as it does for a shard, which looks when something is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.presence.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.handle_timeout();
        }
        self.now = end;
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        let now = self.now;
        self.presence.handle_timeout(now);
        self.accounts
            .retain(|_, account| !account.stays.is_empty() || account.until > now);
        while let Some(due) = self.presence.poll_announcement() {
            let mut told = BTreeSet::new();
            for shard in due.shards {
                assert!(told.insert(shard), "told twice");
                let Some(folds) = self.folds.get_mut(&(due.channel.clone(), shard)) else {
                    panic!("{shard:?} does not hear of {}", due.channel);
                };
                for fold in folds {
                    fold.hear(&due.announcement);
                }
            }
        }
    }

    fn members(&self, channel: &ChannelName) -> BTreeMap<MemberKey, Option<Payload>> {
        let accounts = self.accounts.iter();
        let members = accounts.filter(|((known, _), _)| known == channel);
        members
            .map(|((_, key), account)| (key.clone(), account.info.clone()))
            .collect()
    }

    fn read(&mut self, script: &mut Script<'_>, channel: &ChannelName) {
        let limit = Listing {
            members_max: 1 + script.choose(5),
            bytes_max: 1 + script.choose(200),
        };
        let members = self.members(channel);
        let mut read = Vec::new();
        let mut after = None;
        loop {
            let page = self.presence.members(channel, &Which::After(after), limit, 0);
            assert!(page.members.len() <= limit.members_max);
            read.extend(page.members);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(read.is_sorted_by(|one, other| one.key < other.key));
        let read: BTreeMap<_, _> = read.into_iter().map(|member| (member.key, member.info)).collect();
        assert_eq!(read, members);
        let random = script.choose(256) as u64;
        let sample = self.presence.members(channel, &Which::Sample, limit, random);
        let mut seen = BTreeSet::new();
        for member in &sample.members {
            assert!(seen.insert(&member.key), "named twice");
            assert_eq!(members.get(&member.key), Some(&member.info));
        }
        assert!(!sample.members.is_empty() || members.is_empty());
    }

    /// The counts are always those of the account.
    fn check(&self) {
        let mut total = 0;
        for channel in &self.channels {
            let members = self.members(channel);
            let users: BTreeSet<_> = members.keys().map(|key| &key.user).collect();
            let nobody = Listing {
                members_max: 0,
                bytes_max: 0,
            };
            let counts = self
                .presence
                .members(channel, &Which::After(None), nobody, 0)
                .counts;
            let counted = (counts.members as usize, counts.users as usize);
            assert_eq!(counted, (members.len(), users.len()), "{channel}");
            total += members.len();
        }
        assert_eq!(self.presence.members_total(), total);
    }

    /// Nobody is absent any longer and everything is announced: each fold is the account.
    fn settle(&mut self) {
        self.pass(GRACE + 2 * PRESENCE_PERIOD_UNLISTED);
        let Listing {
            members_max,
            bytes_max,
        } = self.listing;
        for ((channel, _), fold) in self.folds() {
            let members = self.members(channel);
            assert_eq!(fold.count, members.len(), "{channel}");
            match &fold.members {
                Some(listed) => assert_eq!(*listed, members, "{channel}"),
                // As long as they are not well below the bound again.
                None => assert!(members.len() > members_max - members_max / 10 || bytes_max < 1_000),
            }
        }
    }

    fn folds(&self) -> impl Iterator<Item = (&(ChannelName, ShardId), &Fold)> {
        let folds = self.folds.iter();
        folds.flat_map(|(place, folds)| folds.iter().map(move |fold| (place, fold)))
    }

    fn everybody_leaves(&mut self) {
        for (number, (channel, key, stay)) in std::mem::take(&mut self.stays).into_iter().enumerate() {
            self.end_stay(&channel, key, stay, number % 2 == 0);
        }
        self.settle();
        assert!(self.accounts.is_empty());
        self.check();
        for (channel, shard) in std::mem::take(&mut self.folds).into_keys() {
            self.presence.deaf(&channel, shard);
        }
        assert_eq!((self.presence.channels(), self.presence.deadline()), (0, None));
    }
}

impl Fold {
    pub(crate) fn hear(&mut self, announcement: &Announcement) {
        let listed = |members: &[Member]| -> Vec<_> {
            let members = members.iter();
            members
                .map(|member| (member.key.clone(), member.info.clone()))
                .collect()
        };
        match &announcement.who {
            Who::All(members) => self.members = Some(listed(members).into_iter().collect()),
            Who::Unlisted => self.members = None,
            Who::Changed { joined, left } => {
                let Some(members) = &mut self.members else {
                    panic!("changes of a list that it does not have");
                };
                members.extend(listed(joined));
                for key in left {
                    assert!(!joined.iter().any(|member| member.key == *key));
                    members.remove(key);
                }
            }
        }
        let counts = announcement.counts;
        self.count = counts.members as usize;
        if let Some(members) = &self.members {
            let users: BTreeSet<_> = members.keys().map(|key| &key.user).collect();
            let listed = (members.len(), users.len());
            let counted = (self.count, counts.users as usize);
            assert_eq!(listed, counted, "the counts are those of the list");
        }
    }
}

//! Who is in one channel.
//!
//! ```text
//!             join                      vanish (the last connection)
//!   (away) ─────────► Here ◄──────────────────────────► Absent
//!      ▲               │               join               │
//!      │  leave        │                                  │ the grace period is over, or
//!      └───────────────┴──────────────────────────────────┘ the user is back with another session
//! ```
//!
//! An absent member is still listed and counted: nobody hears of a reconnect.
//!
//! **What is announced:** [`Roster::announce`] gives what has changed since the last call. Whoever folds the announcements over a
//! [`Roster::snapshot`] (upsert who joined, remove who left) has the roster as it was at the last call, whenever the snapshot
//! was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use smallvec::SmallVec;
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::{Announcement, Counts, Member, MemberKey, Who};
use switchboard_proto::session::server::SessionId;

use crate::home::ShardId;

/// One stay of a connection in a channel. No two are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stay {
    /// The shard of the connection.
    pub shard: ShardId,
    /// The shard counts.
    pub number: u64,
}

/// Names one absence of a member: no two are alike, also of rosters that were forgotten in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absence(pub u64);

/// How long a list of members may be. Up to there all members of a channel are announced one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Members.
    pub members_max: usize,
    /// Bytes of their names and infos.
    pub bytes_max: usize,
}

/// See the module. Costs O(log n) per change in members, and memory for each.
#[derive(Default, Debug)]
pub struct Roster {
    members: BTreeMap<MemberKey, Present>,
    /// The same members, to choose from.
    places: Vec<MemberKey>,
    absent: BTreeSet<MemberKey>,
    users: u32,
    /// Of what a list of all would say.
    bytes: usize,
    /// Since the last announcement, while all are listed.
    changed: BTreeMap<MemberKey, KnownTo>,
    has_changed: bool,
    /// Taken so far.
    snapshots: u64,
    /// Whether those who fold have no list.
    unlisted: bool,
    /// Shards in which somebody hears of it.
    hearers: SmallVec<[ShardId; 4]>,
}

#[derive(Debug)]
struct Present {
    info: Option<Payload>,
    /// Connections. None: it is absent.
    stays: SmallVec<[Stay; 1]>,
    /// The last one.
    absence: Option<Absence>,
    place: u32,
}

/// Who knows of a member that has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KnownTo {
    Others,
    /// Nobody, unless a snapshot was taken after this many.
    SnapshotsAfter(u64),
}

impl Roster {
    /// Somebody is there, with this stay. Says nothing that it did not say before: nothing is announced.
    pub fn join(&mut self, member: Member, stay: Stay) {
        let Member { key, info } = member;
        let bytes = listed_bytes(&key, info.as_ref());
        match self.members.get_mut(&key) {
            Some(present) => {
                if present.stays.is_empty() {
                    self.absent.remove(&key);
                }
                present.stays.push(stay);
                if present.info != info {
                    self.bytes = self.bytes + bytes - listed_bytes(&key, present.info.as_ref());
                    present.info = info;
                    self.note(key, KnownTo::Others);
                }
            }
            None => {
                self.replace_absent(&key);
                self.users += u32::from(!self.has_others_of(&key));
                self.bytes += bytes;
                let present = Present {
                    info,
                    stays: SmallVec::from_slice(&[stay]),
                    absence: None,
                    place: self.places.len() as u32,
                };
                self.places.push(key.clone());
                self.members.insert(key.clone(), present);
                self.note(key, KnownTo::SnapshotsAfter(self.snapshots));
            }
        }
    }

    /// Somebody left with intent. Nothing happens if the stay has ended before.
    pub fn leave(&mut self, key: &MemberKey, stay: Stay) {
        if self.end(key, stay) {
            self.remove(key);
        }
    }

    /// A connection is gone. Whether it was the member's last, so that this absence has begun.
    pub fn vanish(&mut self, key: &MemberKey, stay: Stay, absence: Absence) -> bool {
        let has_begun = self.end(key, stay);
        if has_begun && let Some(present) = self.members.get_mut(key) {
            present.absence = Some(absence);
            self.absent.insert(key.clone());
        }
        has_begun
    }

    /// The grace period of an absence is over.
    pub fn expire(&mut self, key: &MemberKey, absence: Absence) {
        let is_absent = |present: &Present| present.stays.is_empty() && present.absence == Some(absence);
        if self.members.get(key).is_some_and(is_absent) {
            self.remove(key);
        }
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts {
            members: self.members.len() as u32,
            users: self.users,
        }
    }

    /// Whether nobody is there, nobody hears of it, and nothing is to be announced.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.hearers.is_empty() && !self.has_changed
    }

    /// Somebody of this shard hears of it from now on, or nobody any longer.
    pub fn set_hears(&mut self, shard: ShardId, hears: bool) {
        self.hearers.retain(|hearer| *hearer != shard);
        if hears {
            self.hearers.push(shard);
        }
    }

    /// Shards in which somebody hears of it.
    pub fn hearers(&self) -> &[ShardId] {
        &self.hearers
    }

    /// Whether there is something to announce.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Whether the last announcement or snapshot had no list.
    pub fn is_unlisted(&self) -> bool {
        self.unlisted
    }

    /// What has changed since the last call, if anything has.
    pub fn announce(&mut self, listing: Listing) -> Option<Announcement> {
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        let changed = std::mem::take(&mut self.changed);
        let was_unlisted = self.unlisted;
        self.unlisted = !self.fits(listing);
        let who = match self.unlisted {
            true => Who::Unlisted,
            false if was_unlisted => Who::All(self.all()),
            false => {
                let (mut joined, mut left) = (Vec::new(), Vec::new());
                for key in changed.into_keys() {
                    match self.members.get(&key) {
                        Some(present) => joined.push(present.member(&key)),
                        None => left.push(key),
                    }
                }
                if joined.is_empty() && left.is_empty() {
                    return None;
                }
                Who::Changed { joined, left }
            }
        };
        let counts = self.counts();
        Some(Announcement { counts, who })
    }

    /// Who is there, for somebody who folds what is announced from now on.
    pub fn snapshot(&mut self, listing: Listing) -> Announcement {
        self.snapshots += 1;
        // Whoever begins without a list must not get changes of one.
        self.unlisted |= !self.fits(listing);
        let who = match self.unlisted {
            true => Who::Unlisted,
            false => Who::All(self.all()),
        };
        let counts = self.counts();
        Announcement { counts, who }
    }

    /// The members behind `after`, in their order, and whether there are more.
    pub fn page(&self, after: Option<&MemberKey>, limit: Listing) -> (Vec<Member>, bool) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.members.range((start, Bound::Unbounded));
        take(rest, limit)
    }

    /// Different members from the place that `random` points to, in no order.
    pub fn sample(&self, limit: Listing, random: u64) -> Vec<Member> {
        let places = self.places.len();
        let start = random.checked_rem(places as u64).unwrap_or(0) as usize;
        let (before, behind) = self.places.split_at(start);
        let chosen = behind.iter().chain(before);
        take(
            chosen.filter_map(|key| Some((key, self.members.get(key)?))),
            limit,
        )
        .0
    }

    fn all(&self) -> Vec<Member> {
        let all = self.members.iter();
        all.map(|(key, present)| present.member(key)).collect()
    }

    fn fits(&self, listing: Listing) -> bool {
        // One that has grown beyond its bound is listed again only when it is well below, or it would be listed every other time.
        let of = |max: usize| if self.unlisted { max - max / 10 } else { max };
        self.members.len() <= of(listing.members_max) && self.bytes <= of(listing.bytes_max)
    }

    /// Takes a stay away. Whether it was the member's last.
    fn end(&mut self, key: &MemberKey, stay: Stay) -> bool {
        let Some(present) = self.members.get_mut(key) else {
            return false;
        };
        let Some(found) = present.stays.iter().position(|known| *known == stay) else {
            return false;
        };
        present.stays.swap_remove(found);
        present.stays.is_empty()
    }

    /// A user who is back with another session does not wait for the end of the grace period.
    fn replace_absent(&mut self, key: &MemberKey) {
        let first = MemberKey {
            user: key.user.clone(),
            session: SessionId(0),
        };
        let absent = self.absent.range(first..);
        let replaced: Vec<_> = absent
            .take_while(|absent| absent.user == key.user)
            .cloned()
            .collect();
        for key in &replaced {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &MemberKey) {
        let Some(present) = self.members.remove(key) else {
            return;
        };
        self.absent.remove(key);
        self.bytes -= listed_bytes(key, present.info.as_ref());
        self.users -= u32::from(!self.has_others_of(key));
        self.places.swap_remove(present.place as usize);
        if let Some(moved) = self.places.get(present.place as usize)
            && let Some(moved) = self.members.get_mut(moved)
        {
            moved.place = present.place;
        }
        match self.changed.get(key) {
            Some(KnownTo::SnapshotsAfter(before)) if *before == self.snapshots => {
                self.changed.remove(key);
            }
            _ => self.note(key.clone(), KnownTo::Others),
        }
    }

    /// Whether this user has another session here.
    fn has_others_of(&self, key: &MemberKey) -> bool {
        let before = self.members.range(..key).next_back();
        let behind = self
            .members
            .range((Bound::Excluded(key), Bound::Unbounded))
            .next();
        let mut neighbours = before.into_iter().chain(behind);
        neighbours.any(|(neighbour, _)| neighbour.user == key.user)
    }

    fn note(&mut self, key: MemberKey, known_to: KnownTo) {
        self.has_changed = true;
        if !self.unlisted {
            // Whoever knew of it before still does.
            self.changed.entry(key).or_insert(known_to);
        }
    }
}

impl Present {
    fn member(&self, key: &MemberKey) -> Member {
        Member {
            key: key.clone(),
            info: self.info.clone(),
        }
    }
}

/// Members up to a limit, or one, and whether there are more.
fn take<'a>(
    members: impl Iterator<Item = (&'a MemberKey, &'a Present)>,
    limit: Listing,
) -> (Vec<Member>, bool) {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for (key, present) in members {
        bytes += listed_bytes(key, present.info.as_ref());
        if taken.len() >= limit.members_max || (bytes > limit.bytes_max && !taken.is_empty()) {
            return (taken, true);
        }
        taken.push(present.member(key));
    }
    (taken, false)
}

/// What a member adds to a list, about.
fn listed_bytes(key: &MemberKey, info: Option<&Payload>) -> usize {
    /// Field names and the session.
    const AROUND: usize = 48;
    AROUND + key.user.as_str().len() + info.map_or(0, |info| info.as_bytes().len())
}

#[cfg(test)]
mod tests;

//! What records say of the logs that were there when the last one was stored.
//!
//! Records come in the order in which they were stored, those that were copied for the sake of space once more at their new place.
//! Between them may be damage. **A log is recovered whole, from some entry to its newest, or not at all:** wherever a record of it may
//! be missing, it is broken, and its channel begins a new epoch. So a damaged store costs a `reset` and never gives a wrong message,
//! nor passes over one in silence.
//!
//! What shows that nothing is missing: each entry names the fingerprint of the one before it, and each [`Record::Log`] the newest entry.
//! Damage whose log is known breaks that one. Damage of which nothing is known breaks every log that might have been in it:
//! those whose newest entry, and the last `Record::Log`, stand before it.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::{Entry, Key};
use switchboard_proto::position::{Epoch, Position};

use super::{Record, Stored};

/// See the module. **Call [`Recovery::handle_record`] and [`Recovery::handle_damage`] in the order of the store, then
/// [`Recovery::finish`].**
#[derive(Debug)]
pub struct Recovery {
    logs: HashMap<Epoch, Found, FixedState>,
    /// Records and damages so far.
    place: u64,
    /// Where there was damage of which nothing is known, the last time.
    unknown_damage: Option<u64>,
}

/// What was recovered.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// In no order.
    pub logs: Vec<Stored>,
    /// Those that are not recovered.
    pub broken: Vec<Broken>,
}

/// A log that is not recovered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its channel; `None` where that is among what is missing.
    pub channel: Option<ChannelName>,
    /// Its epoch.
    pub epoch: Epoch,
}

#[derive(Debug, Default)]
struct Found {
    channel: Option<ChannelName>,
    before: Option<Position>,
    head: Option<Position>,
    /// Where the last [`Record::Log`] stands.
    told_at: u64,
    entries: Vec<FoundEntry>,
    keys: Vec<(Position, u64, Key)>,
    is_damaged: bool,
    is_forgotten: bool,
}

#[derive(Debug)]
struct FoundEntry {
    entry: Arc<Entry>,
    key: Option<Key>,
    previous_tag: u32,
    at: u64,
}

impl Recovery {
    /// Nothing yet. `hash_seed` is random: whoever publishes has a hand in epochs.
    pub fn new(hash_seed: u64) -> Recovery {
        Recovery {
            logs: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            place: 0,
            unknown_damage: None,
        }
    }

    /// The next record.
    pub fn handle_record(&mut self, record: Record) {
        self.place += 1;
        let place = self.place;
        match record {
            Record::Log {
                channel,
                before,
                head,
            } => {
                let found = self.log(before.epoch);
                found.channel = Some(channel);
                found.before = newer(found.before, before);
                found.head = newer(found.head, head);
                found.told_at = place;
            }
            Record::Entry {
                entry,
                key,
                previous_tag,
            } => self.log(entry.position.epoch).entries.push(FoundEntry {
                entry,
                key,
                previous_tag,
                at: place,
            }),
            Record::Key { position, at_ms, key } => {
                self.log(position.epoch).keys.push((position, at_ms, key))
            }
            Record::Forgotten { epoch } => {
                let found = self.log(epoch);
                *found = Found {
                    is_forgotten: true,
                    ..Found::default()
                };
            }
        }
    }

    /// One record of this log, or, without, any number of records of any logs.
    pub fn handle_damage(&mut self, epoch: Option<Epoch>) {
        self.place += 1;
        match epoch {
            Some(epoch) => self.log(epoch).is_damaged = true,
            None => self.unknown_damage = Some(self.place),
        }
    }

    /// No more records.
    pub fn finish(self) -> Recovered {
        let unknown_damage = self.unknown_damage.unwrap_or(0);
        let mut recovered = Recovered::default();
        // Of two logs of a channel the one that was told of later is its log: the other was forgotten, and that was not stored.
        let mut by_name: HashMap<ChannelName, (u64, Epoch, Option<Stored>), FixedState> =
            HashMap::with_hasher(self.logs.hasher().clone());
        for (epoch, found) in self.logs {
            if found.is_forgotten {
                continue;
            }
            let (channel, told_at) = (found.channel.clone(), found.told_at);
            let stored = found.check(unknown_damage);
            let Some(channel) = channel else {
                let channel = None;
                recovered.broken.push(Broken { channel, epoch });
                continue;
            };
            let is_newer = |(other, ..): &(u64, Epoch, Option<Stored>)| *other < told_at;
            if by_name.get(&channel).is_none_or(is_newer) {
                by_name.insert(channel, (told_at, epoch, stored));
            }
        }
        for (channel, (_, epoch, stored)) in by_name {
            match stored {
                Some(stored) => recovered.logs.push(stored),
                None => recovered.broken.push(Broken {
                    channel: Some(channel),
                    epoch,
                }),
            }
        }
        recovered
    }

    fn log(&mut self, epoch: Epoch) -> &mut Found {
        self.logs.entry(epoch).or_default()
    }
}

fn newer(one: Option<Position>, other: Position) -> Option<Position> {
    match one {
        Some(one) if one.offset >= other.offset => Some(one),
        _ => Some(other),
    }
}

impl Found {
    /// The log, if nothing of it is missing.
    fn check(mut self, unknown_damage: u64) -> Option<Stored> {
        if self.is_damaged {
            return None;
        }
        let channel = self.channel?;
        let mut before = self.before?;
        // Copies come later; a copy is as good as what it is a copy of, and shows where it stands.
        self.entries
            .sort_by_key(|found| (found.entry.position.offset, std::cmp::Reverse(found.at)));
        let mut proven_at = self.told_at;
        let mut entries: Vec<(Arc<Entry>, Option<Key>)> = Vec::new();
        for found in self.entries {
            let position = found.entry.position;
            let last = entries.last().map_or(before, |(entry, _)| entry.position);
            if position.offset <= last.offset {
                // A copy of the one before, or of one that is not wanted any longer.
                if position.offset == last.offset && position != last {
                    return None;
                }
                let at_ms = found.entry.at_ms;
                let key = found.key.map(|key| (position, at_ms, key));
                self.keys.extend(key.filter(|_| position.offset <= before.offset));
                continue;
            }
            let previous = Position {
                epoch: position.epoch,
                offset: position.offset - 1,
                tag: found.previous_tag,
            };
            if entries.is_empty() && previous.offset > before.offset {
                // What came before it is not wanted any longer.
                before = previous;
            } else if previous != last {
                return None;
            }
            proven_at = self.told_at.max(found.at);
            entries.push((found.entry, found.key));
        }
        let head = entries.last().map_or(before, |(entry, _)| entry.position);
        let is_short = self.head.is_some_and(|told| told.offset > head.offset);
        if is_short || proven_at <= unknown_damage && unknown_damage > 0 {
            return None;
        }
        self.keys
            .sort_by_key(|(position, at_ms, _)| (*at_ms, position.offset));
        Some(Stored {
            channel,
            before,
            entries,
            keys: self.keys,
        })
    }
}

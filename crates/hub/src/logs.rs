//! The embedded broker: all logs of one home, in memory, completing every request at once.
//!
//! By itself it keeps nothing beyond the process; a new process has new epochs, so that every old position becomes a `reset`.
//! [`durable`] has a disk under it.
//!
//! **Calling contract: pass every [`Request`] that the home puts out to [`Logs::handle_request`] and every completion it
//! leaves back to the home, in order. Call [`Logs::handle_timeout`] now and then: it trims by age and forgets idle logs, a
//! bounded piece per call. Time never goes backwards.**

pub mod durable;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::time::Time;

use crate::broker::{BrokerError, Completion, Op, Request, Ticket};
use crate::limits::{CHANNELS_MAX_DEFAULT, FORGET_AFTER_DEFAULT};
use crate::log::{Draft, Log};
use crate::settings::{LogSettings, Namespaces};

/// The bounds of one home's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsSettings {
    /// Most channels that have a log; default 1,000,000. Beyond: [`BrokerError::TooManyChannels`].
    pub channels_max: usize,
    /// An empty log that is not watched and was not used for this long is forgotten; default 1 h. Its channel begins a
    /// new epoch when it is used again. A log that still remembers idempotency keys is kept.
    pub forget_after: Duration,
}

impl Default for LogsSettings {
    fn default() -> LogsSettings {
        LogsSettings {
            channels_max: CHANNELS_MAX_DEFAULT,
            forget_after: FORGET_AFTER_DEFAULT,
        }
    }
}

/// The logs of all channels of one home.
#[derive(Debug)]
pub struct Logs {
    settings: LogsSettings,
    namespaces: Arc<Namespaces>,
    epochs: Epochs,
    hasher: FixedState,
    /// By name: where in `slots`.
    index: HashTable<u32>,
    /// Dense: whatever is forgotten is replaced by the last one.
    slots: Vec<Slot>,
    /// Which slot [`Logs::handle_timeout`] looks at next.
    cursor: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    channel: ChannelName,
    log: Log,
    watch: Option<Ticket>,
    used: Time,
}

impl Logs {
    /// No logs yet.
    ///
    /// Both seeds are 64 random bits, drawn anew for every home and every start of the process. They must be independent:
    /// clients see epochs, and from an epoch its seed can be computed, which would tell how names are hashed.
    pub fn new(epoch_seed: u64, hash_seed: u64, settings: LogsSettings, namespaces: Arc<Namespaces>) -> Logs {
        Logs {
            settings,
            namespaces,
            hasher: FixedState::with_seed(hash_seed),
            epochs: Epochs { state: epoch_seed },
            index: HashTable::new(),
            slots: Vec::new(),
            cursor: 0,
            bytes: 0,
        }
    }

    /// Does `request` and puts its completion, and what a watch of its channel sees of it, behind `completions`.
    ///
    /// Reading and watching a channel that has no log begins one, because the answer is a position. `at_ms` is the wall
    /// clock: milliseconds since 1970-01-01T00:00:00Z.
    pub fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        let Request { ticket, channel, op } = request;
        match op {
            Op::Append(draft) => self.append(now, at_ms, ticket, channel, draft, completions),
            Op::Read { range, limit } => {
                let result = self.with_slot(now, &channel, |slot, settings| {
                    Box::new(slot.log.read(now, range, limit, settings))
                });
                completions.push_back(Completion::Read { ticket, result });
            }
            // These logs lose nothing that they handed out, so where the home had been (`since`) changes nothing.
            Op::Watch { since: _ } => {
                let result = self.with_slot(now, &channel, |slot, _| {
                    slot.watch = Some(ticket);
                    slot.log.head()
                });
                completions.push_back(Completion::Watching { ticket, result });
            }
            Op::Unwatch => {
                if let Some(index) = self.find(&channel)
                    && self.slots[index].watch == Some(ticket)
                {
                    self.slots[index].watch = None;
                    self.slots[index].used = now;
                }
            }
        }
    }

    /// Looks at the next `budget` logs, at most each one once: trims them by age and forgets the idle ones.
    /// Gives how many were forgotten. Costs `budget` and what is trimmed.
    pub fn handle_timeout(&mut self, now: Time, budget: usize) -> usize {
        self.look_after(now, budget, |_| {})
    }

    /// The same, saying what is lost.
    fn look_after(&mut self, now: Time, budget: usize, mut lost: impl FnMut(Lost)) -> usize {
        let mut forgotten = 0;
        for _ in 0..budget.min(self.slots.len()) {
            if self.cursor >= self.slots.len() {
                self.cursor = 0;
            }
            let slot = &mut self.slots[self.cursor];
            let (bytes_before, before) = (slot.log.bytes(), slot.log.before());
            slot.log.trim(now, &self.namespaces.settings(&slot.channel).log);
            if slot.log.before() != before {
                lost(Lost::Entries(slot.log.before()));
            }
            self.bytes = self.bytes - bytes_before + slot.log.bytes();
            let is_idle = slot.log.is_empty()
                && slot.log.keys() == 0
                && slot.watch.is_none()
                && now.since(slot.used) >= self.settings.forget_after;
            if is_idle {
                lost(Lost::Log(slot.log.before().epoch));
                self.forget(self.cursor);
                forgotten += 1;
            } else {
                self.cursor += 1;
            }
        }
        forgotten
    }

    /// Channels that have a log, at most [`LogsSettings::channels_max`].
    pub fn channels(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that all logs keep, as [`Log::bytes`] counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Channels that are watched. Costs a pass over all logs: for tests and inspection.
    pub fn watched(&self) -> usize {
        self.slots.iter().filter(|slot| slot.watch.is_some()).count()
    }

    fn append(
        &mut self,
        now: Time,
        at_ms: u64,
        ticket: Ticket,
        channel: ChannelName,
        draft: Draft,
        completions: &mut VecDeque<Completion>,
    ) {
        let appended = self.with_slot(now, &channel, |slot, settings| {
            (slot.log.append(now, at_ms, draft, settings), slot.watch)
        });
        let result = match &appended {
            Ok((appended, _)) => Ok(appended.position),
            Err(error) => Err(*error),
        };
        completions.push_back(Completion::Appended { ticket, result });
        let Ok((appended, Some(ticket))) = appended else {
            return;
        };
        if let Some(entry) = appended.entry {
            completions.push_back(Completion::Live {
                ticket,
                channel,
                entries: vec![entry],
            });
        }
    }

    /// Uses the slot of `channel`, begun if there is none, and keeps the sum of bytes.
    fn with_slot<T>(
        &mut self,
        now: Time,
        channel: &ChannelName,
        use_slot: impl FnOnce(&mut Slot, &LogSettings) -> T,
    ) -> Result<T, BrokerError> {
        let index = match self.find(channel) {
            Some(index) => index,
            None => self.begin(now, channel)?,
        };
        let slot = &mut self.slots[index];
        slot.used = now;
        let bytes_before = slot.log.bytes();
        let result = use_slot(slot, &self.namespaces.settings(channel).log);
        self.bytes = self.bytes - bytes_before + slot.log.bytes();
        Ok(result)
    }

    fn begin(&mut self, now: Time, channel: &ChannelName) -> Result<usize, BrokerError> {
        let log = Log::new(self.epochs.next(channel));
        self.insert(now, channel, log)
    }

    fn insert(&mut self, now: Time, channel: &ChannelName, log: Log) -> Result<usize, BrokerError> {
        let index = self.slots.len();
        let Some(index_kept) = u32::try_from(index)
            .ok()
            .filter(|_| index < self.settings.channels_max)
        else {
            return Err(BrokerError::TooManyChannels);
        };
        self.slots.push(Slot {
            channel: channel.clone(),
            log,
            watch: None,
            used: now,
        });
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index
            .insert_unique(hasher.hash_one(channel.as_str()), index_kept, |index| {
                hasher.hash_one(slots[*index as usize].channel.as_str())
            });
        Ok(index)
    }

    fn find(&self, channel: &ChannelName) -> Option<usize> {
        let hash = self.hasher.hash_one(channel.as_str());
        let index = self
            .index
            .find(hash, |index| self.slots[*index as usize].channel == *channel)?;
        Some(*index as usize)
    }

    /// Takes the slot at `index` out and moves the last one to its place.
    fn forget(&mut self, index: usize) {
        let last = self.slots.len() - 1;
        let hash_at = |index: usize| self.hasher.hash_one(self.slots[index].channel.as_str());
        let (hash, hash_of_last) = (hash_at(index), hash_at(last));
        if let Ok(entry) = self.index.find_entry(hash, |kept| *kept as usize == index) {
            entry.remove();
        }
        if let Some(moved) = self.index.find_mut(hash_of_last, |kept| *kept as usize == last) {
            *moved = index as u32;
        }
        let forgotten = self.slots.swap_remove(index);
        self.bytes -= forgotten.log.bytes();
        if self.slots.capacity() > 4 * self.slots.len().max(256) {
            let (slots, hasher) = (&mut self.slots, &self.hasher);
            slots.shrink_to(2 * slots.len());
            self.index.shrink_to(2 * slots.len(), |index| {
                hasher.hash_one(slots[*index as usize].channel.as_str())
            });
        }
    }
}

/// What time takes away.
enum Lost {
    /// The entries of a log up to this place.
    Entries(Position),
    /// The log of this epoch.
    Log(Epoch),
}

/// A sequence of epochs from [SplitMix64](https://doi.org/10.1145/2660193.2660195). Two lives of one channel have the same with a
/// probability of 2^-48.
#[derive(Debug)]
struct Epochs {
    state: u64,
}

impl Epochs {
    fn next(&mut self, channel: &ChannelName) -> Epoch {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Epoch::of(channel, mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests;

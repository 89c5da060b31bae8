//! The embedded broker with something durable under it: logs in memory, and a [`Record`] of whatever changes them, which is stored
//! before anybody hears of the change.
//!
//! ```text
//!   home ──Request──► Durable ──Output::Store──► whoever writes, in order
//!        ◄─Completion─   │ ▲                         │
//!              reads ◄── Logs └─── handle_stored, ◄──┘
//!                                  handle_refused
//! ```
//!
//! Logs hold stored entries only, so whatever is read, delivered or acknowledged survives. An append is ordered when it is asked for and
//! waits for its record; what is asked of the same channel behind it waits with it.
//!
//! **Calling contract:**
//!
//! 1. **After any `handle_*`, call [`Durable::poll_output`] until it gives `None`.** What completes is put behind the `completions` that
//!    were passed in.
//! 2. **Records are stored in the order of their numbers.** [`Durable::handle_stored`] says up to which; it may skip.
//! 3. **Where one cannot be stored, neither are those behind it, up to [`Output::Resume`]:** they may stand on it.
//!    [`Durable::handle_refused`] says so, once.
//! 4. **At the start, every log that was stored is passed to [`Durable::restore`], before anything else.**

pub mod recovery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::{Entry, Key};
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::time::Time;

use super::{Logs, LogsSettings, Lost};
use crate::broker::{BrokerError, Completion, Op, Request, Ticket};
use crate::log::{Draft, Log, entry_after};
use crate::settings::Namespaces;

/// The number of a record, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RecordNumber(pub u64);

/// A change that is to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A log is there, and this far: its entries up to `before` are gone, its newest one is at `head`.
    Log {
        /// Of this channel.
        channel: ChannelName,
        /// The place before its oldest entry.
        before: Position,
        /// The place of its newest entry.
        head: Position,
    },
    /// A log has a further entry.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
        /// Its idempotency key.
        key: Option<Key>,
        /// The fingerprint of the entry before it.
        previous_tag: u32,
    },
    /// The entry at this place, which is gone, had this key.
    Key {
        /// Where it was.
        position: Position,
        /// When it was appended.
        at_ms: u64,
        /// The key.
        key: Key,
    },
    /// A log is gone.
    Forgotten {
        /// Its epoch.
        epoch: Epoch,
    },
}

/// What [`Durable`] wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Store this.
    Store(RecordNumber, Record),
    /// Entries up to this place, at least, are not wanted any longer. Nothing is to be stored.
    Trimmed(Position),
    /// Records are stored again from here on.
    Resume,
}

/// A log as it was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Of this channel.
    pub channel: ChannelName,
    /// The place before its oldest entry.
    pub before: Position,
    /// Its entries, without hole, the oldest first, with their idempotency keys.
    pub entries: Vec<(Arc<Entry>, Option<Key>)>,
    /// Keys of entries that are gone, with when those were appended.
    pub keys: Vec<(Position, u64, Key)>,
}

/// See the module.
#[derive(Debug)]
pub struct Durable {
    logs: Logs,
    /// Channels of which something is not stored yet.
    pending: HashMap<ChannelName, Pending, FixedState>,
    /// What is done when a record is stored, in the order in which it was asked for.
    waiting: VecDeque<(RecordNumber, Waiting)>,
    /// Channels whose log could not be stored: it is stored with their next entry.
    unstored: BTreeSet<ChannelName>,
    outputs: VecDeque<Output>,
    last: RecordNumber,
}

/// A channel as it will be when everything is stored.
#[derive(Debug)]
struct Pending {
    head: Position,
    /// Keys of entries that are not stored yet.
    keys: BTreeMap<Key, Position>,
    /// The last record.
    last: RecordNumber,
}

#[derive(Debug)]
enum Waiting {
    /// The log itself: somebody waits behind it.
    Log,
    /// An entry.
    Append {
        ticket: Ticket,
        channel: ChannelName,
        /// When it was asked for: what its age is counted from, here and after a restart.
        at: Time,
        entry: Arc<Entry>,
        key: Option<Key>,
    },
    /// The same message again.
    Repeated { ticket: Ticket, position: Position },
    /// Something that changes nothing.
    Request(Request),
}

impl Durable {
    /// No logs yet. As [`Logs::new`].
    pub fn new(
        epoch_seed: u64,
        hash_seed: u64,
        settings: LogsSettings,
        namespaces: Arc<Namespaces>,
    ) -> Durable {
        Durable {
            logs: Logs::new(epoch_seed, hash_seed, settings, namespaces),
            pending: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            waiting: VecDeque::new(),
            unstored: BTreeSet::new(),
            outputs: VecDeque::new(),
            last: RecordNumber(0),
        }
    }

    /// Takes a log that was stored. What is older than the settings keep is forgotten at once. Keys are remembered for a whole window from
    /// now on, whatever the clock of the calendar says: set forward, it would make them old, and what is said again be appended twice.
    pub fn restore(&mut self, now: Time, at_ms: u64, stored: Stored) -> Result<(), BrokerError> {
        let Stored {
            channel,
            before,
            entries,
            keys,
        } = stored;
        // A clock that was set back makes nothing younger than now.
        let then = |then_ms: u64| {
            let age_ms = at_ms.saturating_sub(then_ms);
            now - std::time::Duration::from_millis(age_ms)
        };
        let settings = self.logs.namespaces.settings(&channel).log.clone();
        let mut log = Log::after(before);
        for (position, _, key) in keys {
            log.remember(now, key, position);
        }
        for (entry, key) in entries {
            if let Some(key) = key {
                log.remember(now, key, entry.position);
            }
            log.store(then(entry.at_ms), entry, None, &settings);
        }
        log.trim(now, &settings);
        let bytes = log.bytes();
        self.logs.insert(now, &channel, log)?;
        self.logs.bytes += bytes;
        Ok(())
    }

    /// Takes a request. What completes without a record is put behind `completions`.
    pub fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        let begins = !matches!(request.op, Op::Unwatch) && self.logs.find(&request.channel).is_none();
        if begins && let Err(error) = self.begin(now, &request.channel) {
            let ticket = request.ticket;
            return completions.push_back(match request.op {
                Op::Append(_) => Completion::Appended {
                    ticket,
                    result: Err(error),
                },
                Op::Read { .. } => Completion::Read {
                    ticket,
                    result: Err(error),
                },
                Op::Watch { .. } | Op::Unwatch => Completion::Watching {
                    ticket,
                    result: Err(error),
                },
            });
        }
        let Request { ticket, channel, op } = request;
        match op {
            Op::Append(draft) => self.append(now, at_ms, ticket, channel, draft, completions),
            op => {
                let request = Request { ticket, channel, op };
                match self.pending.get(&request.channel) {
                    Some(pending) => self.waiting.push_back((pending.last, Waiting::Request(request))),
                    None => self.logs.handle_request(now, at_ms, request, completions),
                }
            }
        }
    }

    /// All records up to this one are stored.
    pub fn handle_stored(
        &mut self,
        now: Time,
        at_ms: u64,
        up_to: RecordNumber,
        completions: &mut VecDeque<Completion>,
    ) {
        while self.waiting.front().is_some_and(|(number, _)| *number <= up_to)
            && let Some((number, waiting)) = self.waiting.pop_front()
        {
            match waiting {
                Waiting::Log => {}
                Waiting::Append {
                    ticket,
                    channel,
                    at,
                    entry,
                    key,
                } => self.stored(at, number, ticket, channel, entry, key, completions),
                Waiting::Repeated { ticket, position } => completions.push_back(Completion::Appended {
                    ticket,
                    result: Ok(position),
                }),
                Waiting::Request(request) => self.logs.handle_request(now, at_ms, request, completions),
            }
        }
        self.pending.retain(|_, pending| pending.last > up_to);
        if self.pending.is_empty() && self.pending.capacity() > IDLE_CAPACITY {
            self.pending.shrink_to(IDLE_CAPACITY);
        }
    }

    /// A record could not be stored: none that was put out and not stored is, and `error` is why.
    pub fn handle_refused(
        &mut self,
        now: Time,
        at_ms: u64,
        error: BrokerError,
        completions: &mut VecDeque<Completion>,
    ) {
        for (channel, _) in self.pending.drain() {
            // Perhaps it is stored; twice does no harm.
            self.unstored.insert(channel);
        }
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Log => {}
                Waiting::Append { ticket, .. } | Waiting::Repeated { ticket, .. } => {
                    completions.push_back(Completion::Appended {
                        ticket,
                        result: Err(error),
                    });
                }
                // Reading goes on.
                Waiting::Request(request) => self.logs.handle_request(now, at_ms, request, completions),
            }
        }
        self.outputs.push_back(Output::Resume);
    }

    /// Looks at the next `budget` logs: see [`Logs::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Time, budget: usize) {
        let mut lost = Vec::new();
        self.logs.look_after(now, budget, |what| lost.push(what));
        for what in lost {
            match what {
                Lost::Entries(before) => self.outputs.push_back(Output::Trimmed(before)),
                Lost::Log(epoch) => {
                    self.put(Record::Forgotten { epoch });
                }
            }
        }
        if !self.unstored.is_empty() {
            let logs = &self.logs;
            self.unstored.retain(|channel| logs.find(channel).is_some());
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() && self.outputs.capacity() > IDLE_CAPACITY {
            self.outputs.shrink_to(IDLE_CAPACITY);
        }
        output
    }

    /// The logs, with what is stored.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// What waits for a record to be stored.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn put(&mut self, record: Record) -> RecordNumber {
        self.last.0 += 1;
        self.outputs.push_back(Output::Store(self.last, record));
        self.last
    }

    /// Begins a log, which is to be stored, too.
    fn begin(&mut self, now: Time, channel: &ChannelName) -> Result<(), BrokerError> {
        let index = self.logs.begin(now, channel)?;
        let start = self.logs.slots[index].log.head();
        self.put_log(channel, start, start);
        Ok(())
    }

    fn put_log(&mut self, channel: &ChannelName, before: Position, head: Position) {
        let number = self.put(Record::Log {
            channel: channel.clone(),
            before,
            head,
        });
        self.waiting.push_back((number, Waiting::Log));
        self.pending
            .entry(channel.clone())
            .or_insert_with(|| Pending {
                head,
                keys: BTreeMap::new(),
                last: number,
            })
            .last = number;
    }

    fn append(
        &mut self,
        now: Time,
        at_ms: u64,
        ticket: Ticket,
        channel: ChannelName,
        mut draft: Draft,
        completions: &mut VecDeque<Completion>,
    ) {
        let Some(index) = self.logs.find(&channel) else {
            return;
        };
        let slot = &mut self.logs.slots[index];
        slot.used = now;
        let pending = self.pending.get(&channel);
        if let Some(key) = &draft.key {
            if let Some(position) = pending.and_then(|pending| pending.keys.get(key)) {
                let waiting = Waiting::Repeated {
                    ticket,
                    position: *position,
                };
                let last = pending.map_or(self.last, |pending| pending.last);
                return self.waiting.push_back((last, waiting));
            }
            if let Some(position) = slot.log.seen(now, key) {
                let repeated = Waiting::Repeated { ticket, position };
                return match pending {
                    Some(pending) => self.waiting.push_back((pending.last, repeated)),
                    None => completions.push_back(Completion::Appended {
                        ticket,
                        result: Ok(position),
                    }),
                };
            }
        }
        let (before, stored) = (slot.log.before(), slot.log.head());
        let head = pending.map_or(stored, |pending| pending.head);
        if self.unstored.remove(&channel) {
            self.put_log(&channel, before, stored);
        }
        let key = draft.key.take();
        let entry = entry_after(head, at_ms, draft);
        let number = self.put(Record::Entry {
            entry: entry.clone(),
            key: key.clone(),
            previous_tag: head.tag,
        });
        let pending = self.pending.entry(channel.clone()).or_insert_with(|| Pending {
            head,
            keys: BTreeMap::new(),
            last: number,
        });
        pending.head = entry.position;
        pending.last = number;
        if let Some(key) = &key {
            pending.keys.insert(key.clone(), entry.position);
        }
        let waiting = Waiting::Append {
            ticket,
            channel,
            at: now,
            entry,
            key,
        };
        self.waiting.push_back((number, waiting));
    }

    /// An entry is stored: it is in the log, and may be heard of.
    #[allow(clippy::too_many_arguments)] // what an append is made of
    fn stored(
        &mut self,
        at: Time,
        number: RecordNumber,
        ticket: Ticket,
        channel: ChannelName,
        entry: Arc<Entry>,
        key: Option<Key>,
        completions: &mut VecDeque<Completion>,
    ) {
        if let Some(key) = &key
            && let Some(pending) = self.pending.get_mut(&channel)
            && pending.last > number
        {
            pending.keys.remove(key);
        }
        let stored = self.logs.with_slot(at, &channel, |slot, settings| {
            let before = slot.log.before().offset;
            slot.log.store(at, entry.clone(), key, settings);
            let now_before = slot.log.before();
            let trimmed = (now_before.offset / TRIM_STEP != before / TRIM_STEP).then_some(now_before);
            (slot.watch, trimmed)
        });
        completions.push_back(Completion::Appended {
            ticket,
            result: Ok(entry.position),
        });
        // A log with something pending is not forgotten: it was used just now.
        let Ok((watch, trimmed)) = stored else { return };
        self.outputs.extend(trimmed.map(Output::Trimmed));
        if let Some(ticket) = watch {
            completions.push_back(Completion::Live {
                ticket,
                channel,
                entries: vec![entry],
            });
        }
    }
}

/// A full log forgets an entry with every one that comes. So often it is said.
const TRIM_STEP: u64 = 64;

/// Places that stay when what filled them is gone.
const IDLE_CAPACITY: usize = 1_024;

#[cfg(test)]
mod tests;

//! A broker around [`Logs`] that may be slow, fail, drop what is live, interrupt watches, and lose everything; or one around
//! [`Durable`], which is restarted with what was stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::time::Time;

use super::script::Script;
use super::truth::Truth;
use crate::broker::{BrokerError, Completion, Op, Request, Ticket};
use crate::log::Draft;
use crate::log::ReadLimit;
use crate::logs::durable::recovery::Recovery;
use crate::logs::durable::{Durable, Output, Record, RecordNumber};
use crate::logs::{Logs, LogsSettings};
use crate::settings::Namespaces;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Temper {
    /// Completes at once.
    Immediate,
    /// Completes when an operation says so.
    Slow,
    /// Slow, and does not keep its promises to the letter.
    Faulty,
    /// Slow, with a store that is sometimes full; restarted with what it has.
    Durable,
}

/// Where the logs are.
enum Keeper {
    Memory(Logs),
    Disk(Box<Disk>),
}

/// A durable broker and its store.
struct Disk {
    durable: Durable,
    /// Put out, not stored.
    written: VecDeque<(RecordNumber, Record)>,
    store: Vec<Record>,
    /// Until [`Output::Resume`].
    is_refusing: bool,
    /// What is not answered.
    open: BTreeMap<Ticket, Request>,
}

pub(super) struct Broker {
    pub(super) temper: Temper,
    keeper: Keeper,
    namespaces: Arc<Namespaces>,
    seed: u64,
    requests: VecDeque<Request>,
    completions: VecDeque<(ChannelName, Completion)>,
    watches: BTreeMap<ChannelName, Ticket>,
    /// Watches of which something live was dropped.
    dropped: BTreeSet<ChannelName>,
}

impl Broker {
    pub(super) fn new(temper: Temper, seed: u64, namespaces: Arc<Namespaces>) -> Broker {
        Broker {
            temper,
            keeper: match temper {
                Temper::Durable => Keeper::Disk(Box::new(Disk::new(seed, &namespaces))),
                _ => Keeper::Memory(new_logs(seed, &namespaces)),
            },
            namespaces,
            seed,
            requests: VecDeque::new(),
            completions: VecDeque::new(),
            watches: BTreeMap::new(),
            dropped: BTreeSet::new(),
        }
    }

    pub(super) fn submit(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_stored = match &self.keeper {
            Keeper::Memory(_) => true,
            Keeper::Disk(disk) => disk.written.is_empty() && disk.durable.waiting() == 0,
        };
        self.requests.is_empty() && self.completions.is_empty() && is_stored
    }

    /// Channels, bytes and watches that the logs hold.
    pub(super) fn held(&self) -> (usize, usize, usize) {
        let logs = match &self.keeper {
            Keeper::Memory(logs) => logs,
            Keeper::Disk(disk) => disk.durable.logs(),
        };
        (logs.channels(), logs.bytes(), logs.watched())
    }

    pub(super) fn handle_timeout(&mut self, now: Time, budget: usize) {
        match &mut self.keeper {
            Keeper::Memory(logs) => drop(logs.handle_timeout(now, budget)),
            Keeper::Disk(disk) => {
                disk.durable.handle_timeout(now, budget);
                disk.drain();
            }
        }
    }

    /// Does the oldest request.
    pub(super) fn step(&mut self, now: Time, script: &mut Script<'_>, truth: &mut Truth) {
        if let Keeper::Disk(_) = &self.keeper {
            return self.step_on_disk(now, script, truth);
        }
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let is_faulty = self.temper == Temper::Faulty;
        if is_faulty && script.one_in(8) && request.op != Op::Unwatch {
            return self.fail(script, truth, request);
        }
        let channel = request.channel.clone();
        let draft = match &request.op {
            Op::Append(draft) => Some(draft.clone()),
            Op::Watch { .. } => {
                self.dropped.remove(&channel);
                self.watches.insert(channel.clone(), request.ticket);
                None
            }
            Op::Unwatch => {
                if self.watches.get(&channel) == Some(&request.ticket) {
                    self.watches.remove(&channel);
                    self.dropped.remove(&channel);
                }
                None
            }
            Op::Read { .. } => None,
        };
        let mut completions = VecDeque::new();
        let Keeper::Memory(logs) = &mut self.keeper else {
            return;
        };
        logs.handle_request(now, now.nanoseconds(), request, &mut completions);
        for mut completion in completions {
            match &mut completion {
                Completion::Appended { result, .. } => {
                    if let (Some(draft), Ok(position)) = (&draft, &*result) {
                        truth.append(now, &channel, draft, *position);
                    }
                    if is_faulty && script.one_in(8) {
                        *result = Err(BrokerError::Unavailable);
                    }
                }
                Completion::Live { .. } if is_faulty && script.one_in(4) => {
                    self.dropped.insert(channel.clone());
                    continue;
                }
                _ => {}
            }
            self.completions.push_back((channel.clone(), completion));
        }
    }

    /// The oldest request goes in, or records are stored, or cannot be.
    fn step_on_disk(&mut self, now: Time, script: &mut Script<'_>, truth: &mut Truth) {
        let Keeper::Disk(disk) = &mut self.keeper else {
            return;
        };
        let at_ms = milliseconds(now);
        let mut completions = VecDeque::new();
        let wants_in = disk.written.is_empty() || script.one_in(2);
        let request = match wants_in {
            true => self.requests.pop_front(),
            false => None,
        };
        match request {
            Some(request) => {
                match request.op {
                    Op::Watch { .. } => {
                        self.watches.insert(request.channel.clone(), request.ticket);
                    }
                    Op::Unwatch if self.watches.get(&request.channel) == Some(&request.ticket) => {
                        self.watches.remove(&request.channel);
                    }
                    _ => {}
                }
                if request.op != Op::Unwatch {
                    disk.open.insert(request.ticket, request.clone());
                }
                disk.durable.handle_request(now, at_ms, request, &mut completions);
            }
            None if script.one_in(16) => {
                disk.written.clear();
                disk.is_refusing = true;
                disk.durable
                    .handle_refused(now, at_ms, BrokerError::Overloaded, &mut completions);
            }
            None => {
                let mut up_to = None;
                for _ in 0..=script.choose(4) {
                    let Some((number, record)) = disk.written.pop_front() else {
                        break;
                    };
                    if let Record::Entry { entry, key, .. } = &record {
                        let draft = Draft {
                            from: entry.from.clone(),
                            payload: entry.payload.clone(),
                            key: key.clone(),
                            conflate: entry.conflate.clone(),
                        };
                        let at = Time::from_nanoseconds(entry.at_ms * 1_000_000);
                        truth.append(at, &disk.channel(entry.position), &draft, entry.position);
                    }
                    disk.store.push(record);
                    up_to = Some(number);
                }
                if let Some(up_to) = up_to {
                    disk.durable.handle_stored(now, at_ms, up_to, &mut completions);
                }
            }
        }
        disk.drain();
        for completion in completions {
            let channel = match &completion {
                Completion::Live { channel, .. } | Completion::Interrupted { channel, .. } => channel.clone(),
                Completion::Appended { ticket, .. }
                | Completion::Read { ticket, .. }
                | Completion::Watching { ticket, .. } => {
                    let Some(request) = disk.open.remove(ticket) else {
                        panic!("{completion:?} of nothing that was asked");
                    };
                    if let (Op::Append(draft), Completion::Appended { result: Err(_), .. }) =
                        (&request.op, &completion)
                    {
                        truth.refuse(draft);
                    }
                    request.channel
                }
            };
            self.completions.push_back((channel, completion));
        }
    }

    /// The store is all that is left; what was asked and not answered may have been done or not.
    fn restart(&mut self, now: Time) {
        self.seed += 1_000_000;
        let Keeper::Disk(disk) = &mut self.keeper else {
            return;
        };
        let mut next = Disk::new(self.seed, &self.namespaces);
        let mut recovery = Recovery::new(self.seed);
        for record in &disk.store {
            recovery.handle_record(record.clone());
        }
        let recovered = recovery.finish();
        assert!(recovered.broken.is_empty(), "{:?}", recovered.broken);
        for stored in recovered.logs {
            let restored = next.durable.restore(now, milliseconds(now), stored);
            assert!(restored.is_ok());
        }
        next.store = std::mem::take(&mut disk.store);
        let open = std::mem::take(&mut disk.open);
        **disk = next;
        for (ticket, request) in open {
            let result = BrokerError::Unavailable;
            let completion = match request.op {
                Op::Append(_) => Completion::Appended {
                    ticket,
                    result: Err(result),
                },
                Op::Read { .. } => Completion::Read {
                    ticket,
                    result: Err(result),
                },
                Op::Watch { .. } | Op::Unwatch => {
                    self.watches.retain(|_, watch| *watch != ticket);
                    Completion::Watching {
                        ticket,
                        result: Err(result),
                    }
                }
            };
            self.completions.push_back((request.channel, completion));
        }
        for (channel, ticket) in std::mem::take(&mut self.watches) {
            let interrupted = Completion::Interrupted {
                ticket,
                channel: channel.clone(),
            };
            self.completions.push_back((channel, interrupted));
        }
    }

    /// Answers with an error and does nothing.
    fn fail(&mut self, script: &mut Script<'_>, truth: &mut Truth, request: Request) {
        let Request { ticket, channel, op } = request;
        let errors = [
            BrokerError::Unavailable,
            BrokerError::Overloaded,
            BrokerError::TooManyChannels,
        ];
        let error = errors[script.choose(errors.len())];
        let completion = match op {
            Op::Append(draft) => {
                if error != BrokerError::Unavailable {
                    truth.refuse(&draft);
                }
                let result = Err(error);
                Completion::Appended { ticket, result }
            }
            Op::Read { .. } => {
                let result = Err(error);
                Completion::Read { ticket, result }
            }
            Op::Watch { .. } | Op::Unwatch => {
                let result = Err(error);
                Completion::Watching { ticket, result }
            }
        };
        self.completions.push_back((channel, completion));
    }

    /// The next completion: the oldest of one channel.
    pub(super) fn complete(&mut self, script: &mut Script<'_>) -> Option<Completion> {
        let chosen = match self.temper {
            Temper::Immediate => 0,
            Temper::Slow | Temper::Faulty | Temper::Durable => script.choose(self.completions.len()),
        };
        let (channel, _) = self.completions.get(chosen)?.clone();
        let oldest = self.completions.iter().position(|(other, _)| *other == channel)?;
        let (_, completion) = self.completions.remove(oldest)?;
        Some(completion)
    }

    /// Loses one watch.
    pub(super) fn interrupt(&mut self, now: Time, channel: &ChannelName) {
        let Some(ticket) = self.watches.remove(channel) else {
            return;
        };
        self.dropped.remove(channel);
        let request = Request {
            ticket,
            channel: channel.clone(),
            op: Op::Unwatch,
        };
        if let Keeper::Memory(logs) = &mut self.keeper {
            logs.handle_request(now, 0, request, &mut VecDeque::new());
        }
        self.completions.push_back((
            channel.clone(),
            Completion::Interrupted {
                ticket,
                channel: channel.clone(),
            },
        ));
    }

    pub(super) fn watched(&self) -> Vec<ChannelName> {
        self.watches.keys().cloned().collect()
    }

    /// What was dropped must come out.
    pub(super) fn own_up(&mut self, now: Time) {
        for channel in self.dropped.clone() {
            self.interrupt(now, &channel);
        }
    }

    /// Loses all logs; others begin.
    pub(super) fn crash(&mut self, now: Time) {
        if self.temper == Temper::Durable {
            return self.restart(now);
        }
        for channel in self.watched() {
            self.interrupt(now, &channel);
        }
        self.seed += 1_000_000;
        self.keeper = Keeper::Memory(new_logs(self.seed, &self.namespaces));
    }

    /// Where a channel is.
    pub(super) fn head(&mut self, now: Time, channel: &ChannelName) -> Position {
        let request = Request {
            ticket: Ticket(0),
            channel: channel.clone(),
            op: Op::Read {
                range: Range::Newest,
                limit: ReadLimit::default(),
            },
        };
        let mut completions = VecDeque::new();
        match &mut self.keeper {
            Keeper::Memory(logs) => logs.handle_request(now, 0, request, &mut completions),
            Keeper::Disk(disk) => {
                disk.durable
                    .handle_request(now, milliseconds(now), request, &mut completions);
                disk.drain();
                if let Some((number, _)) = disk.written.back() {
                    let up_to = *number;
                    disk.store
                        .extend(disk.written.drain(..).map(|(_, record)| record));
                    disk.durable
                        .handle_stored(now, milliseconds(now), up_to, &mut completions);
                }
            }
        }
        match completions.pop_front() {
            Some(Completion::Read { result: Ok(page), .. }) => page.head,
            other => panic!("{other:?}"),
        }
    }
}

impl Disk {
    fn new(seed: u64, namespaces: &Arc<Namespaces>) -> Disk {
        Disk {
            durable: Durable::new(seed, seed, LogsSettings::default(), namespaces.clone()),
            written: VecDeque::new(),
            store: Vec::new(),
            is_refusing: false,
            open: BTreeMap::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.durable.poll_output() {
            match output {
                Output::Store(..) if self.is_refusing => {}
                Output::Store(number, record) => self.written.push_back((number, record)),
                Output::Resume => self.is_refusing = false,
                Output::Trimmed(_) => {}
            }
        }
    }

    /// Whose epoch it is.
    fn channel(&self, position: Position) -> ChannelName {
        let found = self.store.iter().rev().find_map(|record| match record {
            Record::Log { channel, before, .. } if before.epoch == position.epoch => Some(channel.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{position:?} is of no log that is stored"))
    }
}

fn milliseconds(now: Time) -> u64 {
    now.nanoseconds() / 1_000_000
}

fn new_logs(seed: u64, namespaces: &Arc<Namespaces>) -> Logs {
    Logs::new(seed, seed, LogsSettings::default(), namespaces.clone())
}

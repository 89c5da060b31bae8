//! A broker around [`Logs`] that may be slow, fail, drop what is live, interrupt watches, and lose everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::time::Time;

use super::script::Script;
use super::truth::Truth;
use crate::broker::{BrokerError, Completion, Op, Request, Ticket};
use crate::log::ReadLimit;
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
}

pub(super) struct Broker {
    pub(super) temper: Temper,
    pub(super) logs: Logs,
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
            logs: new_logs(seed, &namespaces),
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
        self.requests.is_empty() && self.completions.is_empty()
    }

    /// Does the oldest request.
    pub(super) fn step(&mut self, now: Time, script: &mut Script<'_>, truth: &mut Truth) {
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
        self.logs
            .handle_request(now, now.nanoseconds(), request, &mut completions);
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
            Temper::Slow | Temper::Faulty => script.choose(self.completions.len()),
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
        self.logs.handle_request(now, 0, request, &mut VecDeque::new());
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
        for channel in self.watched() {
            self.interrupt(now, &channel);
        }
        self.seed += 1_000_000;
        self.logs = new_logs(self.seed, &self.namespaces);
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
        self.logs.handle_request(now, 0, request, &mut completions);
        match completions.pop_front() {
            Some(Completion::Read { result: Ok(page), .. }) => page.head,
            other => panic!("{other:?}"),
        }
    }
}

fn new_logs(seed: u64, namespaces: &Arc<Namespaces>) -> Logs {
    Logs::new(seed, seed, LogsSettings::default(), namespaces.clone())
}

//! A broker that several nodes share, by the contract of [`switchboard_hub::broker`] and with everything that the contract allows: answers
//! that are late or never come, pushes that are lost or come twice, a fail-over that costs the end of a log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use switchboard_hub::broker::{BrokerError, Completion, Op, Request, Ticket};
use switchboard_hub::home::ShardId;
use switchboard_hub::log::Draft;
use switchboard_hub::logs::{Logs, LogsSettings};
use switchboard_hub::settings::Namespaces;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::Position;
use switchboard_proto::time::Time;
use switchboard_server::broker::{Broker, Factory, Seat};
use switchboard_server::clock::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::coverage::{Mark, Marks};
use crate::moving::{keep_moving, own};
use crate::wall;

/// The tickets of the model itself.
const OWN: Ticket = Ticket(u64::MAX);
/// For so long an answer is awaited across a cut.
const PATIENCE: Duration = Duration::from_secs(2);
/// So much later a lost push is told, if nothing has shown it.
const TOLD_AFTER: Duration = Duration::from_millis(500);

/// How it treats its homes.
#[derive(Clone, Debug)]
pub struct Manners {
    /// One way, at most.
    pub latency: Duration,
    /// Of 1,000 pushes, those that are lost.
    pub lost: u32,
    /// Of 1,000 pushes, those that come twice.
    pub doubled: u32,
    /// Of 1,000 appends, those whose answer is that nobody knows.
    pub unknown: u32,
    /// After a lost tail the log goes on as if nothing had happened. A bug.
    pub keeps_epoch: bool,
}

/// Which home.
type HomeId = (usize, ShardId);

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Shared {
    core: Arc<Mutex<Core>>,
    changed: Arc<Notify>,
}

struct Core {
    chance: Chance,
    manners: Manners,
    namespaces: Arc<Namespaces>,
    start: Instant,
    channels: BTreeMap<ChannelName, Kept>,
    homes: BTreeMap<HomeId, Line>,
    marks: Marks,
}

/// A channel.
struct Kept {
    logs: Logs,
    watchers: BTreeMap<HomeId, Ticket>,
    /// All that was appended, for a fail-over: a history has hundreds.
    drafts: Vec<Draft>,
    /// What its epoch comes from.
    seeds: [u64; 2],
}

impl Kept {
    fn new(seeds: [u64; 2], namespaces: Arc<Namespaces>) -> Kept {
        let [epoch, hash] = seeds;
        Kept {
            logs: Logs::new(epoch, hash, LogsSettings::default(), namespaces),
            watchers: BTreeMap::new(),
            drafts: Vec::new(),
            seeds,
        }
    }
}

/// The way to one home and back.
struct Line {
    seat: Seat,
    /// When they arrive, and when they were sent.
    requests: VecDeque<(Instant, Instant, Request)>,
    completions: VecDeque<(Instant, Completion)>,
    ready: VecDeque<Completion>,
    cut_until: Option<Instant>,
    /// Its connection broke: what was sent until then has no effect.
    broken_until: Option<Instant>,
    /// Of these channels a push was lost, and has to be told.
    lost: BTreeMap<ChannelName, Instant>,
}

impl Shared {
    /// Nothing is kept.
    pub fn new(chance: Chance, manners: Manners, namespaces: Arc<Namespaces>, marks: Marks) -> Shared {
        let core = Core {
            chance,
            manners,
            namespaces,
            start: Instant::now(),
            channels: BTreeMap::new(),
            homes: BTreeMap::new(),
            marks,
        };
        Shared {
            core: Arc::new(Mutex::new(core)),
            changed: Arc::default(),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        own(&self.core)
    }

    /// Makes the brokers of a node's homes.
    pub fn factory(&self, node: usize) -> Factory {
        let shared = self.clone();
        Arc::new(move |seat| {
            let home = (node, seat.shard);
            let line = Line {
                seat,
                requests: VecDeque::new(),
                completions: VecDeque::new(),
                ready: VecDeque::new(),
                cut_until: None,
                broken_until: None,
                lost: BTreeMap::new(),
            };
            shared.core().homes.insert(home, line);
            Box::new(Local {
                shared: shared.clone(),
                home,
            })
        })
    }

    /// Moves what is due, for ever.
    pub async fn run(self) {
        keep_moving(&self.changed, |now| self.core().step(now)).await;
    }

    /// A node is gone, and so is what was on its way to it.
    pub fn forget(&self, node: usize) {
        let mut core = self.core();
        core.homes.retain(|(of, _), _| *of != node);
        for kept in core.channels.values_mut() {
            kept.watchers.retain(|(of, _), _| *of != node);
        }
    }

    /// A node cannot reach it until then.
    pub fn cut(&self, node: usize, until: Instant) {
        let mut core = self.core();
        for ((of, _), line) in &mut core.homes {
            if *of == node {
                line.cut_until = Some(until);
            }
        }
        drop(core);
        self.changed.notify_one();
    }

    /// The newest `lost` messages of every log are gone, as in a fail-over to a replica that had not got them.
    pub fn fail_over(&self, lost: usize) {
        self.core().fail_over(lost);
        self.changed.notify_one();
    }
}

impl Core {
    fn now(&self) -> Time {
        Time::ZERO + Duration::from_secs(86_400) + self.start.elapsed()
    }

    fn permille(&mut self, of: u32) -> bool {
        self.chance.below(1_000) < of as usize
    }

    fn latency(&mut self) -> Duration {
        let most = self.manners.latency;
        self.chance.about(most / 4).min(most)
    }

    /// Does what is due, and says when the next is.
    fn step(&mut self, now: Instant) -> Option<Instant> {
        let homes: Vec<HomeId> = self.homes.keys().copied().collect();
        for home in &homes {
            self.end_cut(*home, now);
            self.tell_lost(*home, now);
            while let Some((sent, request)) = self.take_request(*home, now) {
                self.handle(*home, sent, request);
            }
        }
        let mut next = None;
        for line in self.homes.values_mut() {
            let mut has_some = false;
            while line.completions.front().is_some_and(|(at, _)| *at <= now)
                && let Some((_, completion)) = line.completions.pop_front()
            {
                line.ready.push_back(completion);
                has_some = true;
            }
            if has_some {
                line.seat.look();
            }
            let times = [
                line.requests.front().map(|(at, ..)| *at),
                line.completions.front().map(|(at, _)| *at),
                line.cut_until,
                line.lost.values().min().copied(),
            ];
            next = times.into_iter().flatten().chain(next).min();
        }
        next
    }

    fn take_request(&mut self, home: HomeId, now: Instant) -> Option<(Instant, Request)> {
        let line = self.homes.get_mut(&home)?;
        let due = line.requests.front().is_some_and(|(at, ..)| *at <= now);
        due.then(|| {
            line.requests
                .pop_front()
                .map(|(_, sent, request)| (sent, request))
        })?
    }

    /// The home can be reached again: what it would have been sent is lost.
    fn end_cut(&mut self, home: HomeId, now: Instant) {
        let Some(line) = self.homes.get_mut(&home) else {
            return;
        };
        if line.cut_until.is_none_or(|until| until > now) {
            return;
        }
        line.cut_until = None;
        for channel in self.channels.keys().cloned().collect::<Vec<_>>() {
            self.interrupt(home, &channel);
        }
    }

    /// Where nothing has shown a lost push, it is told.
    fn tell_lost(&mut self, home: HomeId, now: Instant) {
        let Some(line) = self.homes.get_mut(&home) else {
            return;
        };
        let due: Vec<_> = line.lost.iter().filter(|(_, at)| **at <= now).collect();
        for channel in due
            .into_iter()
            .map(|(channel, _)| channel.clone())
            .collect::<BTreeSet<_>>()
        {
            self.interrupt(home, &channel);
        }
    }

    /// Ends the watch of a home.
    fn interrupt(&mut self, home: HomeId, channel: &ChannelName) {
        let watch = self
            .channels
            .get_mut(channel)
            .and_then(|kept| kept.watchers.remove(&home));
        if let Some(line) = self.homes.get_mut(&home) {
            line.lost.remove(channel);
        }
        if let Some(ticket) = watch {
            self.marks.see(Mark::WatchInterrupted);
            let channel = channel.clone();
            self.send(home, Completion::Interrupted { ticket, channel });
        }
    }

    /// When it arrives.
    fn send(&mut self, home: HomeId, completion: Completion) -> Instant {
        let at = Instant::now() + self.latency();
        let Some(line) = self.homes.get_mut(&home) else {
            return at;
        };
        let at = line.completions.back().map_or(at, |(last, _)| at.max(*last));
        line.completions.push_back((at, completion));
        at
    }

    fn kept(&mut self, channel: &ChannelName) -> &mut Kept {
        let (chance, namespaces) = (&mut self.chance, &self.namespaces);
        self.channels.entry(channel.clone()).or_insert_with(|| {
            let seeds = [chance.number(), chance.number()];
            Kept::new(seeds, namespaces.clone())
        })
    }

    fn handle(&mut self, home: HomeId, sent: Instant, request: Request) {
        let Request { ticket, channel, op } = request;
        let is_cut = self.homes.get(&home).is_some_and(|line| line.cut_until.is_some());
        match op {
            Op::Append(draft) => {
                let broken = self.homes.get(&home).and_then(|line| line.broken_until);
                let is_lost = broken.is_some_and(|until| sent <= until);
                let unknown = self.manners.unknown;
                let is_unknown = is_lost || is_cut || self.permille(unknown);
                // What is on its way when a connection breaks has its effect up to some place, and from there on none.
                let takes_effect = !is_unknown || !is_lost && self.chance.percent(50);
                let appended = match takes_effect {
                    true => self.append(&channel, draft),
                    false => Err(BrokerError::Unavailable),
                };
                if !is_unknown {
                    self.send(
                        home,
                        Completion::Appended {
                            ticket,
                            result: appended,
                        },
                    );
                    return;
                }
                self.marks.see(Mark::BrokerUnavailable);
                let result = Err(BrokerError::Unavailable);
                let known_at = self.send(home, Completion::Appended { ticket, result });
                if let Some(line) = self.homes.get_mut(&home) {
                    line.broken_until = Some(known_at);
                }
            }
            Op::Read { .. } if is_cut => {
                let result = Err(BrokerError::Unavailable);
                self.send(home, Completion::Read { ticket, result });
            }
            Op::Read { .. } => {
                let (now, at_ms) = (self.now(), wall::unix_ms());
                let mut completions = VecDeque::new();
                let request = Request {
                    ticket,
                    channel: channel.clone(),
                    op,
                };
                self.kept(&channel)
                    .logs
                    .handle_request(now, at_ms, request, &mut completions);
                for completion in completions {
                    self.send(home, completion);
                }
            }
            Op::Watch { .. } if is_cut => {
                let result = Err(BrokerError::Unavailable);
                self.send(home, Completion::Watching { ticket, result });
            }
            Op::Watch { .. } => {
                let result = self.head(&channel);
                if result.is_ok() {
                    self.kept(&channel).watchers.insert(home, ticket);
                }
                if let Some(line) = self.homes.get_mut(&home) {
                    line.lost.remove(&channel);
                }
                self.send(home, Completion::Watching { ticket, result });
            }
            Op::Unwatch => {
                let watchers = &mut self.kept(&channel).watchers;
                if watchers.get(&home) == Some(&ticket) {
                    watchers.remove(&home);
                }
            }
        }
    }

    fn head(&mut self, channel: &ChannelName) -> Result<Position, BrokerError> {
        let (now, at_ms) = (self.now(), wall::unix_ms());
        let request = Request {
            ticket: OWN,
            channel: channel.clone(),
            op: Op::Watch { since: None },
        };
        let mut completions = VecDeque::new();
        self.kept(channel)
            .logs
            .handle_request(now, at_ms, request, &mut completions);
        match completions.pop_front() {
            Some(Completion::Watching { result, .. }) => result,
            _ => Err(BrokerError::Unavailable),
        }
    }

    /// Appends, and pushes to all that watch.
    fn append(&mut self, channel: &ChannelName, draft: Draft) -> Result<Position, BrokerError> {
        // The model's own watch sees what is appended.
        self.head(channel)?;
        let (now, at_ms) = (self.now(), wall::unix_ms());
        let request = Request {
            ticket: OWN,
            channel: channel.clone(),
            op: Op::Append(draft.clone()),
        };
        let mut completions = VecDeque::new();
        let kept = self.kept(channel);
        kept.logs.handle_request(now, at_ms, request, &mut completions);
        let (mut result, mut is_new) = (Err(BrokerError::Unavailable), false);
        for completion in completions {
            match completion {
                Completion::Appended { result: appended, .. } => result = appended,
                Completion::Live { entries, .. } => {
                    is_new = true;
                    let kept = self.kept(channel);
                    kept.drafts.push(draft.clone());
                    let watchers: Vec<_> = kept
                        .watchers
                        .iter()
                        .map(|(home, watch)| (*home, *watch))
                        .collect();
                    for (home, watch) in watchers {
                        self.push(home, watch, channel, &entries);
                    }
                }
                _ => {}
            }
        }
        if result.is_ok() && !is_new {
            self.marks.see(Mark::PublishRetried);
        }
        result
    }

    fn push(&mut self, home: HomeId, ticket: Ticket, channel: &ChannelName, entries: &[Arc<Entry>]) {
        let live = |channel: &ChannelName| Completion::Live {
            ticket,
            channel: channel.clone(),
            entries: entries.to_vec(),
        };
        let Manners { lost, doubled, .. } = self.manners;
        let is_lost = self.permille(lost);
        let Some(line) = self.homes.get_mut(&home) else {
            return;
        };
        if line.cut_until.is_some() {
            return;
        }
        if is_lost {
            self.marks.see(Mark::LostPushSeen);
            line.lost
                .entry(channel.clone())
                .or_insert(Instant::now() + TOLD_AFTER);
            return;
        }
        // It shows the hole by its `previous`.
        line.lost.remove(channel);
        self.send(home, live(channel));
        if self.permille(doubled) {
            self.marks.see(Mark::DuplicatePushDropped);
            self.send(home, live(channel));
        }
    }

    fn fail_over(&mut self, lost: usize) {
        self.marks.see(Mark::FailOver);
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for channel in names {
            let Some(old) = self.channels.remove(&channel) else {
                continue;
            };
            if old.drafts.is_empty() {
                self.channels.insert(channel, old);
                continue;
            }
            let lost = lost.min(old.drafts.len());
            let left = old.drafts.len() - lost;
            let homes: Vec<HomeId> = old.watchers.keys().copied().collect();
            let seeds = match self.manners.keeps_epoch {
                true => old.seeds,
                false => [self.chance.number(), self.chance.number()],
            };
            let kept = Kept::new(seeds, self.namespaces.clone());
            let kept = self.channels.entry(channel.clone()).or_insert(kept);
            kept.watchers = old.watchers;
            for home in homes {
                self.interrupt(home, &channel);
            }
            for draft in old.drafts.into_iter().take(left) {
                let _appended = self.append(&channel, draft);
            }
        }
    }
}

/// The broker of one home.
struct Local {
    shared: Shared,
    home: HomeId,
}

impl Broker for Local {
    fn handle_request(
        &mut self,
        _now: Time,
        _at_ms: u64,
        request: Request,
        _completions: &mut VecDeque<Completion>,
    ) {
        let mut core = self.shared.core();
        let latency = core.latency();
        if let Some(line) = core.homes.get_mut(&self.home) {
            // Across a cut the request is on its way until nobody waits for it any longer.
            let wait = line.cut_until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now()).min(PATIENCE)
            });
            let at = Instant::now() + latency + wait;
            let at = line.requests.back().map_or(at, |(last, ..)| at.max(*last));
            line.requests.push_back((at, Instant::now(), request));
        }
        drop(core);
        self.shared.changed.notify_one();
    }

    fn poll(&mut self, _now: Time, _clock: &Clock, completions: &mut VecDeque<Completion>) {
        if let Some(line) = self.shared.core().homes.get_mut(&self.home) {
            completions.append(&mut line.ready);
        }
    }
}

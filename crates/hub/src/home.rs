//! The home of channels: it orders what happens to them, fronts the broker, and sends each entry once per interested shard.
//!
//! ```text
//!   shards ──publish, subscribe, leave, history──► Home ──Request──► broker
//!          ◄──Deliver, Head, Reply───────────────      ◄─Completion─
//! ```
//!
//! **Calling contract:**
//!
//! 1. **After any `handle_*`, call [`Home::poll_output`] until it gives `None`. That is one turn: live entries of one channel
//!    that arrive within it leave as one [`Output::Deliver`] per interested shard.** Completions that a broker gives at once
//!    are passed back inside the same loop.
//! 2. **Between a home and a shard everything travels in the order in which it was put out.** So a reply `Subscribed` stands
//!    behind the entries up to its position and before those after it.
//! 3. **A reply is never refused by a mailbox: whoever sends a request keeps a place for its answer.** A `Deliver` or `Head`
//!    that finds the mailbox full is dropped and reported by [`Home::handle_delivery_refused`].
//! 4. **Every publish, subscribe and history request is answered exactly once.**
//! 5. **Call [`Home::handle_timeout`] every second or so.**
//!
//! It is not: a subscriber list (each shard has its own, [`crate::audience`]) nor a log ([`crate::logs`]).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as MapEntry;
use smallvec::SmallVec;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::Members;

use crate::broker::{BrokerError, Completion, Op, Request, Ticket};
use crate::limits::{IN_FLIGHT_MAX, RETRIES_PER_TIMEOUT_MAX};
use crate::log::{Draft, Page, ReadLimit};

/// A shard: one thread with its own sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);

/// What a [`Home`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<W> {
    /// For the broker.
    Broker(Request),
    /// New entries for one shard's audience.
    Deliver {
        /// Of this channel.
        channel: ChannelName,
        /// For this shard.
        shard: ShardId,
        /// The place before the first entry.
        after: Position,
        /// At least one; they follow `after` and each other without hole. Shared between the shards.
        entries: Arc<[Arc<Entry>]>,
    },
    /// Where a channel is, for a shard that may have missed entries.
    Head {
        /// Of this channel.
        channel: ChannelName,
        /// For this shard.
        shard: ShardId,
        /// The place after the last entry that was put out.
        position: Position,
    },
    /// An answer.
    Reply {
        /// To whom, as the request said.
        who: W,
        /// What.
        answer: Answer,
    },
}

/// The answer to a request of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message is in the log, here.
    Published(Position),
    /// From after this place on, entries are delivered to the shard that asked.
    Subscribed(Position),
    /// A page of the log.
    History(Box<Page>),
    /// Some of those who are in the channel. Not a home's own answer: the shell has it from [`crate::presence`], and it goes the same
    /// way ([`Home::answer`]).
    Members(Box<Members>),
    /// It was not done.
    Refused(BrokerError),
}

/// The channels whose home is here. `W` is how the shell knows who asked; nothing here looks into it.
///
/// Costs O(1) per request in channels and sessions, and one output per interested shard and turn. A channel is held only
/// while a shard is interested in it or somebody waits for it, so the subscriptions of all sessions bound the memory.
#[derive(Debug)]
pub struct Home<W> {
    channels: HashMap<ChannelName, Channel<W>, FixedState>,
    in_flight: HashMap<Ticket, InFlight<W>, FixedState>,
    /// Subscribers in the `waiters` of all channels.
    waiting: usize,
    last_ticket: u64,
    outputs: VecDeque<Output<W>>,
    turn: Turn,
    /// Shards to which a delivery was refused, and channels without a watch (with perhaps no shard). Only channels that
    /// exist, only shards that are interested.
    behind: BTreeMap<ChannelName, Shards>,
    /// The last channel that [`Home::handle_timeout`] looked after.
    looked_after: Option<ChannelName>,
}

/// Few on most machines; a scan of 64 costs less than a hash.
type Shards = SmallVec<[ShardId; 8]>;

#[derive(Debug)]
struct Channel<W> {
    state: State<W>,
    interested: Shards,
    /// Where in [`Turn`] its entries of this turn are.
    fresh: Option<u32>,
}

/// What the home has of a channel in which somebody is interested.
///
/// ```text
///            subscribe            Watching(head)
///   (idle) ─────────────► Starting ─────────────► Live ──last shard leaves──► (idle)
///      ▲                   │   ▲  ▲                │
///      │    no watch, and  │   │  └────────────────┘ Interrupted, or a hole between two entries
///      └── none was before ┘   │
///                   no watch, but one was before
///                          │   │ timeout, subscribe
///                          ▼   │
///                          Lost
/// ```
#[derive(Debug)]
enum State<W> {
    /// The watch is asked for.
    Starting(Box<Starting<W>>),
    /// Entries arrive.
    Live {
        watch: Ticket,
        /// The place after the last entry seen.
        last: Position,
    },
    /// There was a watch, and the next one could not be had.
    Lost { last: Position },
}

#[derive(Debug)]
struct Starting<W> {
    watch: Ticket,
    /// Who is told when it has begun.
    waiters: Vec<W>,
    /// The place up to which an earlier watch has come.
    since: Option<Position>,
}

#[derive(Debug)]
enum InFlight<W> {
    Publish(W),
    History(W),
    Watch(ChannelName),
}

/// Entries that arrived in this turn and have not left yet.
#[derive(Debug, Default)]
struct Turn {
    runs: Vec<Run>,
    /// Those before have left.
    next: usize,
}

#[derive(Debug)]
struct Run {
    channel: ChannelName,
    after: Position,
    entries: Vec<Arc<Entry>>,
}

impl<W> Home<W> {
    /// No channels yet. `hash_seed` is 64 random bits that no peer knows: channel names are chosen by peers.
    pub fn new(hash_seed: u64) -> Home<W> {
        let hasher = FixedState::with_seed(hash_seed);
        Home {
            channels: HashMap::with_hasher(hasher.clone()),
            in_flight: HashMap::with_hasher(hasher),
            waiting: 0,
            last_ticket: 0,
            outputs: VecDeque::new(),
            turn: Turn::default(),
            behind: BTreeMap::new(),
            looked_after: None,
        }
    }

    /// A session publishes. The answer is `Published` once the message is in the log.
    pub fn handle_publish(&mut self, channel: ChannelName, draft: Draft, who: W) {
        if !self.has_room() {
            return self.refuse(who, BrokerError::Overloaded);
        }
        self.ask(channel, Op::Append(draft), InFlight::Publish(who));
    }

    /// A session reads the log. The answer is `History`.
    pub fn handle_history(&mut self, channel: ChannelName, range: Range, limit: ReadLimit, who: W) {
        if !self.has_room() {
            return self.refuse(who, BrokerError::Overloaded);
        }
        self.ask(channel, Op::Read { range, limit }, InFlight::History(who));
    }

    /// A session of `shard` subscribes. Registering the shard and taking the position it hears of are one step: after
    /// `Subscribed`, the shard gets every later entry, or learns what it missed.
    pub fn handle_subscribe(&mut self, channel: ChannelName, shard: ShardId, who: W) {
        match self.channels.get(&channel).map(|held| &held.state) {
            Some(State::Live { last, .. }) => {
                let answer = Answer::Subscribed(*last);
                // What came before belongs before the answer, and to those who were there before.
                self.flush(&channel);
                self.register(&channel, shard);
                return self.outputs.push_back(Output::Reply { who, answer });
            }
            _ if !self.has_room() => return self.refuse(who, BrokerError::Overloaded),
            Some(State::Starting(_)) => {}
            Some(State::Lost { last }) => {
                let last = *last;
                self.watch(channel.clone(), Some(last));
            }
            None => self.watch(channel.clone(), None),
        }
        self.register(&channel, shard);
        if let Some(State::Starting(starting)) = self.state(&channel) {
            starting.waiters.push(who);
            self.waiting += 1;
        }
    }

    /// Nobody in `shard` is subscribed or waits any longer. Sessions of it that still wait are answered all the same.
    pub fn handle_leave(&mut self, channel: &ChannelName, shard: ShardId) {
        let Some(held) = self.channels.get_mut(channel) else {
            return;
        };
        held.interested.retain(|interested| *interested != shard);
        if let Some(shards) = self.behind.get_mut(channel) {
            shards.retain(|behind| *behind != shard);
        }
        if held.interested.is_empty() {
            match held.state {
                // Ended when the watch has begun, if nobody has come until then.
                State::Starting(_) => {}
                State::Live { watch, .. } => self.end(channel, Some(watch)),
                State::Lost { .. } => self.end(channel, None),
            }
        }
    }

    /// The broker answers or tells. A completion that fits no open request or watch is passed over.
    pub fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Appended { ticket, result } => {
                if let MapEntry::Occupied(open) = self.in_flight.entry(ticket)
                    && let InFlight::Publish(_) = open.get()
                    && let InFlight::Publish(who) = open.remove()
                {
                    let answer = result.map_or_else(Answer::Refused, Answer::Published);
                    self.outputs.push_back(Output::Reply { who, answer });
                }
            }
            Completion::Read { ticket, result } => {
                if let MapEntry::Occupied(open) = self.in_flight.entry(ticket)
                    && let InFlight::History(_) = open.get()
                    && let InFlight::History(who) = open.remove()
                {
                    let answer = result.map_or_else(Answer::Refused, Answer::History);
                    self.outputs.push_back(Output::Reply { who, answer });
                }
            }
            Completion::Watching { ticket, result } => {
                if let MapEntry::Occupied(open) = self.in_flight.entry(ticket)
                    && let InFlight::Watch(_) = open.get()
                    && let InFlight::Watch(channel) = open.remove()
                {
                    self.watching(channel, ticket, result);
                }
            }
            Completion::Live {
                ticket,
                channel,
                entries,
            } => self.live(ticket, channel, entries),
            Completion::Interrupted { ticket, channel } => {
                if let Some(State::Live { watch, last }) = self.state(&channel)
                    && *watch == ticket
                {
                    let last = *last;
                    self.flush(&channel);
                    self.watch_or_lose(channel, last);
                }
            }
        }
    }

    /// A `Deliver` or `Head` for `shard` found its mailbox full. The shard is told later where the channel is.
    pub fn handle_delivery_refused(&mut self, channel: &ChannelName, shard: ShardId) {
        if let Some(held) = self.channels.get(channel)
            && held.interested.contains(&shard)
        {
            let behind = self.behind.entry(channel.clone()).or_default();
            if !behind.contains(&shard) {
                behind.push(shard);
            }
        }
    }

    /// Tells shards that are behind where the channel is, and asks again for watches that could not be had: for at most
    /// [`RETRIES_PER_TIMEOUT_MAX`] channels, the next ones at the next call.
    pub fn handle_timeout(&mut self) {
        let after = match self.looked_after.take() {
            Some(channel) => Bound::Excluded(channel),
            None => Bound::Unbounded,
        };
        // Round and round, each channel at most once per call.
        let channels: Vec<_> = self
            .behind
            .range((after, Bound::Unbounded))
            .chain(&self.behind)
            .map(|(channel, _)| channel.clone())
            .take(RETRIES_PER_TIMEOUT_MAX.min(self.behind.len()))
            .collect();
        self.looked_after = channels.last().cloned();
        for channel in channels {
            self.look_after(channel);
        }
    }

    /// What to do next. `None` ends the turn.
    pub fn poll_output(&mut self) -> Option<Output<W>> {
        while self.outputs.is_empty() {
            let Some(run) = self.turn.runs.get(self.turn.next) else {
                self.rest();
                return None;
            };
            // Nothing leaves here if the run has left before, or its channel is not held any longer.
            let channel = run.channel.clone();
            self.turn.next += 1;
            self.flush(&channel);
        }
        self.outputs.pop_front()
    }

    /// Channels in which a shard is interested or for which somebody waits.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Open requests and waiting subscribers, at most [`IN_FLIGHT_MAX`].
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.waiting
    }

    /// Channels that wait for [`Home::handle_timeout`].
    pub fn behind(&self) -> usize {
        self.behind.len()
    }

    fn has_room(&self) -> bool {
        self.in_flight() < IN_FLIGHT_MAX
    }

    fn state(&mut self, channel: &ChannelName) -> Option<&mut State<W>> {
        self.channels.get_mut(channel).map(|held| &mut held.state)
    }

    fn ask(&mut self, channel: ChannelName, op: Op, open: InFlight<W>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.in_flight.insert(ticket, open);
        self.outputs
            .push_back(Output::Broker(Request { ticket, channel, op }));
        ticket
    }

    /// A request that is not to be done: it is answered in its turn.
    pub fn refuse(&mut self, who: W, error: BrokerError) {
        self.answer(who, Answer::Refused(error));
    }

    /// A request that somebody else has done: it is answered in its turn.
    pub fn answer(&mut self, who: W, answer: Answer) {
        self.outputs.push_back(Output::Reply { who, answer });
    }

    fn register(&mut self, channel: &ChannelName, shard: ShardId) {
        if let Some(held) = self.channels.get_mut(channel)
            && !held.interested.contains(&shard)
        {
            held.interested.push(shard);
        }
    }

    /// Asks for a watch: `(idle)`, `Live` or `Lost` becomes `Starting`.
    fn watch(&mut self, channel: ChannelName, since: Option<Position>) {
        let watch = self.ask(
            channel.clone(),
            Op::Watch { since },
            InFlight::Watch(channel.clone()),
        );
        let state = State::Starting(Box::new(Starting {
            watch,
            waiters: Vec::new(),
            since,
        }));
        match self.channels.entry(channel) {
            MapEntry::Occupied(mut held) => held.get_mut().state = state,
            MapEntry::Vacant(place) => {
                place.insert(Channel {
                    state,
                    interested: Shards::new(),
                    fresh: None,
                });
            }
        }
    }

    /// Asks for a watch that goes on from `last`, if there is room for a request: now, or at a later timeout.
    fn watch_or_lose(&mut self, channel: ChannelName, last: Position) {
        if self.has_room() {
            self.watch(channel, Some(last));
        } else {
            self.lose(channel, last);
        }
    }

    fn lose(&mut self, channel: ChannelName, last: Position) {
        if let Some(state) = self.state(&channel) {
            *state = State::Lost { last };
            self.behind.entry(channel).or_default();
        }
    }

    /// The broker has answered a `Watch`.
    fn watching(&mut self, channel: ChannelName, ticket: Ticket, result: Result<Position, BrokerError>) {
        let Some(held) = self.channels.get_mut(&channel) else {
            return;
        };
        let State::Starting(starting) = &mut held.state else {
            return;
        };
        if starting.watch != ticket {
            return;
        }
        let waiters = std::mem::take(&mut starting.waiters);
        let since = starting.since;
        let nobody = held.interested.is_empty();
        self.waiting -= waiters.len();
        let answer = match (result, since) {
            (Ok(head), since) => {
                held.state = State::Live {
                    watch: ticket,
                    last: head,
                };
                if since.is_some_and(|since| since != head) {
                    let interested = held.interested.clone();
                    self.tell_head(&channel, head, interested);
                }
                if nobody {
                    self.end(&channel, Some(ticket));
                }
                Answer::Subscribed(head)
            }
            (Err(error), Some(last)) if !nobody => {
                self.lose(channel, last);
                Answer::Refused(error)
            }
            (Err(error), _) => {
                self.end(&channel, None);
                Answer::Refused(error)
            }
        };
        for who in waiters {
            let answer = answer.clone();
            self.outputs.push_back(Output::Reply { who, answer });
        }
    }

    /// Entries of a watched channel: collected for the end of the turn.
    fn live(&mut self, ticket: Ticket, channel: ChannelName, entries: Vec<Arc<Entry>>) {
        let Some(held) = self.channels.get_mut(&channel) else {
            return;
        };
        let State::Live { watch, last } = &mut held.state else {
            return;
        };
        if *watch != ticket {
            return;
        }
        for entry in entries {
            let Position { epoch, offset, .. } = entry.position;
            if epoch == last.epoch && offset <= last.offset {
                continue;
            }
            if epoch != last.epoch || entry.previous != last.offset {
                // The place behind the hole is not known whole: an entry names the offset before it, not its tag. A new
                // watch tells it, and whatever is missed meanwhile is part of the same gap.
                let (last, watch) = (*last, *watch);
                self.flush(&channel);
                self.unwatch(channel.clone(), watch);
                return self.watch_or_lose(channel, last);
            }
            let run = match held
                .fresh
                .and_then(|index| self.turn.runs.get_mut(index as usize))
            {
                Some(run) => run,
                None => {
                    held.fresh = Some(self.turn.runs.len() as u32);
                    self.turn.begin(channel.clone(), *last)
                }
            };
            *last = entry.position;
            run.entries.push(entry);
        }
    }

    /// Puts out what arrived for `channel` in this turn.
    fn flush(&mut self, channel: &ChannelName) {
        let Some(held) = self.channels.get_mut(channel) else {
            return;
        };
        let Some(run) = held
            .fresh
            .take()
            .and_then(|index| self.turn.runs.get_mut(index as usize))
        else {
            return;
        };
        let entries: Arc<[Arc<Entry>]> = std::mem::take(&mut run.entries).into();
        let after = run.after;
        for shard in &held.interested {
            self.outputs.push_back(Output::Deliver {
                channel: channel.clone(),
                shard: *shard,
                after,
                entries: entries.clone(),
            });
        }
    }

    fn tell_head(&mut self, channel: &ChannelName, position: Position, shards: Shards) {
        for shard in shards {
            self.outputs.push_back(Output::Head {
                channel: channel.clone(),
                shard,
                position,
            });
        }
    }

    /// One channel of `behind`.
    fn look_after(&mut self, channel: ChannelName) {
        let has_room = self.has_room();
        match self.state(&channel) {
            Some(State::Live { last, .. }) => {
                let last = *last;
                self.flush(&channel);
                let shards = self.behind.remove(&channel).unwrap_or_default();
                self.tell_head(&channel, last, shards);
            }
            Some(State::Lost { last }) if has_room => {
                let last = *last;
                self.watch(channel, Some(last));
            }
            // Not yet.
            Some(State::Lost { .. } | State::Starting(_)) => {}
            None => {
                self.behind.remove(&channel);
            }
        }
    }

    fn unwatch(&mut self, channel: ChannelName, watch: Ticket) {
        self.outputs.push_back(Output::Broker(Request {
            ticket: watch,
            channel,
            op: Op::Unwatch,
        }));
    }

    /// Nobody is interested any longer.
    fn end(&mut self, channel: &ChannelName, watch: Option<Ticket>) {
        self.channels.remove(channel);
        self.behind.remove(channel);
        if let Some(watch) = watch {
            self.unwatch(channel.clone(), watch);
        }
    }

    /// The end of a turn: what a burst has taken is given back.
    fn rest(&mut self) {
        self.turn.runs.clear();
        self.turn.next = 0;
        self.turn.runs.shrink_to(IDLE_CAPACITY);
        self.outputs.shrink_to(IDLE_CAPACITY);
        shrink(&mut self.channels);
        shrink(&mut self.in_flight);
    }
}

/// Places that a queue keeps between turns.
const IDLE_CAPACITY: usize = 1_024;

fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V, FixedState>) {
    if map.capacity() > 4 * map.len().max(IDLE_CAPACITY) {
        map.shrink_to(2 * map.len());
    }
}

impl Turn {
    fn begin(&mut self, channel: ChannelName, after: Position) -> &mut Run {
        let index = self.runs.len();
        self.runs.push(Run {
            channel,
            after,
            entries: Vec::new(),
        });
        &mut self.runs[index]
    }
}

#[cfg(test)]
mod tests;

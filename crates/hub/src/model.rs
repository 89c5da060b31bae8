//! The whole hub under arbitrary operations, against a plain list per channel and a set of members.
//!
//! [`run`] takes any bytes as a sequence of operations: several shards, each a [`Home`], an
//! [`Audience`](crate::audience::Audience) and [`Logs`](crate::logs::Logs), with bounded mailboxes between them that refuse,
//! sessions whose outboxes fill up, brokers that are slow and fail. It panics where a promise is broken:
//!
//! - every subscriber reads a strictly increasing, complete run, every break is explicit and covers exactly the hole;
//! - where nothing was refused, dropped or lost, there is no break at all;
//! - a position names one message everywhere; an acknowledged message is in the log, a refused one is not, one key once;
//! - whoever asks is answered exactly once;
//! - once everything has settled everyone is at the head, and once all have left nothing is held.
//!
//! [`run_presence`] does the same with [`Presence`](crate::presence::Presence).

mod broker;
mod presence;
mod script;
mod session;
mod shard;
mod truth;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::time::Time;

use self::broker::{Broker, Temper};
#[cfg(test)]
pub(crate) use self::presence::Fold;
pub use self::presence::run as run_presence;
use self::script::Script;
use self::session::Session;
use self::shard::{Asked, Message, Shard, Who};
use self::truth::Truth;
use crate::audience::SubscriberId;
use crate::home::{Answer, Home, Output, ShardId};
use crate::limits::FORGET_AFTER_DEFAULT;
use crate::log::{Draft, ReadLimit};
use crate::settings::{ChannelSettings, LogSettings, Namespaces, OnLag};

/// Most operations of one run.
const OPERATIONS_MAX: usize = 20_000;
/// Most sessions of one shard at a time.
const SESSIONS_MAX: usize = 5;
/// Rounds after which everything has settled, or never will.
const ROUNDS_MAX: usize = 1_000;

/// Runs the operations that `bytes` stand for, then lets everything settle and everybody leave.
///
/// # Panics
///
/// Where the hub breaks a promise.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut world = World::new(&mut script);
    for _ in 0..OPERATIONS_MAX {
        if script.is_over() {
            break;
        }
        world.operate(&mut script);
    }
    world.settle();
    world.check_settled();
    world.everybody_leaves();
}

struct World {
    shards: Vec<Shard>,
    channels: Vec<ChannelName>,
    namespaces: Arc<Namespaces>,
    truth: Truth,
    now: Time,
    /// Nothing is refused, dropped or lost.
    is_calm: bool,
    /// A `Leave` that found the mailbox full is sent again, or else left to the next delivery.
    repeats_leave: bool,
    mailbox_max: usize,
    outbox_max: usize,
    /// Requests, sessions and messages are numbered.
    last_number: u64,
    breaks: usize,
    /// The newest acknowledged message of each channel.
    acknowledged: BTreeMap<ChannelName, Position>,
}

impl World {
    fn new(script: &mut Script<'_>) -> World {
        let mut keeping = |messages_max| ChannelSettings {
            log: LogSettings {
                messages_max,
                ..LogSettings::default()
            },
            on_lag: [OnLag::Resync, OnLag::Latest, OnLag::Drop][script.choose(3)],
        };
        let namespaces = Arc::new(Namespaces {
            default: keeping(1_000),
            by_name: [("few".into(), keeping(3)), ("none".into(), keeping(0))].into(),
        });
        let shards = 1 + script.choose(3);
        let temper = [Temper::Immediate, Temper::Slow, Temper::Faulty, Temper::Durable][script.choose(4)];
        let is_calm = !matches!(temper, Temper::Faulty | Temper::Durable) && script.one_in(3);
        let bounds = [1, 2, 4, 8];
        let (mailbox_max, outbox_max) = (bounds[script.choose(4)], bounds[script.choose(4)]);
        let names = ["few:1", "all:1", "none:1", "few:2", "all:2"];
        let channels = names.iter().filter_map(|name| ChannelName::parse(name).ok());
        World {
            shards: (0..shards)
                .map(|index| {
                    Shard::new(
                        index,
                        Broker::new(temper, index as u64, namespaces.clone()),
                        shards,
                    )
                })
                .collect(),
            channels: channels.take(1 + script.choose(5)).collect(),
            namespaces,
            truth: Truth::default(),
            now: Time::ZERO,
            is_calm,
            repeats_leave: script.one_in(2),
            mailbox_max: if is_calm { usize::MAX } else { mailbox_max },
            outbox_max: if is_calm { usize::MAX } else { outbox_max },
            last_number: 0,
            breaks: 0,
            acknowledged: BTreeMap::new(),
        }
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        let operation = script.choose(64);
        let shard = script.choose(self.shards.len());
        match operation {
            0..=11 => self.publish(script, shard),
            12..=13 => self.open_session(shard),
            14..=19 => self.subscribe(script, shard),
            20..=22 => self.unsubscribe(script, shard),
            23 => self.drop_session(script, shard),
            24..=25 => self.history(script, shard),
            26..=37 => self.turn(script, shard),
            38..=43 => self.shards[shard].broker.step(self.now, script, &mut self.truth),
            44..=49 => self.complete(script, shard),
            50..=57 => self.read(script, shard),
            58..=60 => self.time_out(shard, script.choose(8)),
            61 => {
                let seconds = [1, 10, 100, 400][script.choose(4)];
                self.now = self.now + Duration::from_secs(seconds);
            }
            62 => self.fault(script, shard),
            _ => {
                if script.one_in(4) {
                    self.settle();
                    self.check_settled();
                }
            }
        }
    }

    fn publish(&mut self, script: &mut Script<'_>, shard: usize) {
        let Some(channel) = script.pick(self.channels.clone()) else {
            return;
        };
        let key = match script.choose(4) {
            0 => Key::parse(["a", "b", "c"][script.choose(3)]),
            _ => None,
        };
        self.last_number += 1;
        let draft = Draft {
            from: None,
            payload: Payload::text(self.last_number.to_string()),
            key,
            conflate: Key::parse(["", "x", "y"][script.choose(3)]),
        };
        let after = self.acknowledged.get(&channel).copied();
        let asked = Asked::Publish {
            channel: channel.clone(),
            draft: draft.clone(),
            after,
        };
        let who = self.expect_answer(shard, asked);
        let message = Message::Publish {
            channel: channel.clone(),
            draft: draft.clone(),
            who,
        };
        if !self.send_home(shard, &channel, message) {
            self.shards[shard].asked.remove(&who.number);
            self.truth.refuse(&draft);
        }
    }

    fn history(&mut self, script: &mut Script<'_>, shard: usize) {
        let Some(channel) = script.pick(self.channels.clone()) else {
            return;
        };
        let position = script.pick(self.truth.positions(&channel));
        let range = match (script.choose(6), position) {
            (1 | 2, Some(position)) => Range::After(position),
            (3, Some(position)) => Range::Before(position),
            (4, after) => Range::Latest { after },
            (5, _) => Range::Latest { after: None },
            _ => Range::Newest,
        };
        let limit = ReadLimit {
            messages: script.choose(5),
            bytes: 1 + script.choose(10),
        };
        let asked = Asked::History {
            channel: channel.clone(),
            range,
            limit,
        };
        self.ask_for_history(shard, channel, range, limit, asked);
    }

    /// Whether the home could be asked.
    fn ask_for_history(
        &mut self,
        shard: usize,
        channel: ChannelName,
        range: Range,
        limit: ReadLimit,
        asked: Asked,
    ) -> bool {
        let who = self.expect_answer(shard, asked);
        let message = Message::History {
            channel: channel.clone(),
            range,
            limit,
            who,
        };
        let is_sent = self.send_home(shard, &channel, message);
        if !is_sent {
            self.shards[shard].asked.remove(&who.number);
        }
        is_sent
    }

    fn open_session(&mut self, shard: usize) {
        self.last_number += 1;
        let (generation, outbox_max) = (self.last_number, self.outbox_max);
        let sessions = &mut self.shards[shard].sessions;
        // The lowest free number, so that numbers are soon used again.
        if let Some(id) = (0..SESSIONS_MAX as u32)
            .map(SubscriberId)
            .find(|id| !sessions.contains_key(id))
        {
            let namespaces = self.namespaces.clone();
            sessions.insert(id, Session::new(id, generation, outbox_max, namespaces));
        }
    }

    fn subscribe(&mut self, script: &mut Script<'_>, shard: usize) {
        let held = &mut self.shards[shard];
        let session = script.pick(held.sessions.keys().copied());
        let (Some(subscriber), Some(channel)) = (session, script.pick(self.channels.clone())) else {
            return;
        };
        let session = &held.sessions[&subscriber];
        let is_attached = session.attached.contains(&channel);
        let begun = held.audience.begin(&channel, subscriber);
        assert!(!(begun.is_ok() && is_attached));
        if begun.is_err() {
            return;
        }
        let generation = session.generation;
        let since = match script.choose(2) {
            0 => None,
            _ => script.pick(self.truth.positions(&channel)),
        };
        let asked = Asked::Subscribe {
            channel: channel.clone(),
            subscriber,
            generation,
            since,
            latest: script.one_in(4),
        };
        let who = self.expect_answer(shard, asked);
        let message = Message::Subscribe {
            channel: channel.clone(),
            shard: ShardId(shard as u16),
            who,
        };
        if !self.send_home(shard, &channel, message) {
            self.shards[shard].asked.remove(&who.number);
            if self.shards[shard].audience.abort(&channel, subscriber) {
                self.leave(shard, &channel);
            }
        }
    }

    fn unsubscribe(&mut self, script: &mut Script<'_>, shard: usize) {
        let held = &mut self.shards[shard];
        let Some(subscriber) = script.pick(held.sessions.keys().copied()) else {
            return;
        };
        let Some(channel) = script.pick(self.channels.clone()) else {
            return;
        };
        let detached = held.audience.detach(&channel, subscriber);
        let Some(session) = held.sessions.get_mut(&subscriber) else {
            return;
        };
        assert_eq!(detached.is_ok(), session.attached.contains(&channel));
        if let Ok(leave) = detached {
            session.unsubscribed(channel.clone());
            if leave {
                self.leave(shard, &channel);
            }
        }
    }

    fn drop_session(&mut self, script: &mut Script<'_>, shard: usize) {
        let held = &mut self.shards[shard];
        if let Some(subscriber) = script.pick(held.sessions.keys().copied()) {
            held.sessions.remove(&subscriber);
            for channel in held.audience.remove(subscriber) {
                self.leave(shard, &channel);
            }
        }
    }

    /// A shard takes some of what another one (or itself) sent to it, as one turn.
    fn turn(&mut self, script: &mut Script<'_>, shard: usize) {
        let from = script.choose(self.shards.len());
        let count = 1 + script.choose(6);
        for _ in 0..count {
            let Some(message) = self.shards[shard].inboxes[from].pop_front() else {
                break;
            };
            self.take(shard, message);
        }
        // A turn may go on with something else.
        if !script.one_in(4) {
            self.pump(shard, script);
        }
    }

    fn complete(&mut self, script: &mut Script<'_>, shard: usize) {
        for _ in 0..1 + script.choose(3) {
            if let Some(completion) = self.shards[shard].broker.complete(script) {
                self.shards[shard].home.handle_completion(completion);
            }
        }
        if !script.one_in(4) {
            self.pump(shard, script);
        }
    }

    fn read(&mut self, script: &mut Script<'_>, shard: usize) {
        let sessions = &mut self.shards[shard].sessions;
        let Some(subscriber) = script.pick(sessions.keys().copied()) else {
            return;
        };
        if let Some(session) = sessions.get_mut(&subscriber) {
            self.breaks += session.read(&self.truth, 1 + script.choose(6));
        }
        let limit = ReadLimit {
            messages: 1 + script.choose(5),
            bytes: 1 + script.choose(10),
        };
        self.catch_up(shard, subscriber, limit);
    }

    /// A session that is behind asks for what it missed.
    fn catch_up(&mut self, shard: usize, subscriber: SubscriberId, limit: ReadLimit) {
        let Shard {
            sessions, audience, ..
        } = &mut self.shards[shard];
        let Some(session) = sessions.get_mut(&subscriber) else {
            return;
        };
        let generation = session.generation;
        for wanted in session.catch_up(audience) {
            let channel = wanted.channel;
            let range = match wanted.latest {
                true => Range::Latest {
                    after: Some(wanted.cursor),
                },
                false => Range::After(wanted.cursor),
            };
            let asked = Asked::Page {
                channel: channel.clone(),
                subscriber,
                generation,
                range,
                limit,
            };
            if !self.ask_for_history(shard, channel.clone(), range, limit, asked) {
                self.refuse_page(shard, &channel, subscriber);
            }
        }
    }

    fn refuse_page(&mut self, shard: usize, channel: &ChannelName, subscriber: SubscriberId) {
        let Shard {
            sessions, audience, ..
        } = &mut self.shards[shard];
        if let Some(session) = sessions.get_mut(&subscriber)
            && session.refuse_page(channel)
        {
            session.unsubscribed(channel.clone());
            if audience.detach(channel, subscriber) == Ok(true) {
                self.leave(shard, channel);
            }
        }
    }

    fn time_out(&mut self, shard: usize, budget: usize) {
        let held = &mut self.shards[shard];
        held.home.handle_timeout();
        held.broker.handle_timeout(self.now, budget);
        for channel in std::mem::take(&mut held.to_leave) {
            if !self.shards[shard].audience.wants(&channel) {
                self.leave(shard, &channel);
            }
        }
        self.pump(shard, &mut Script::new(&[]));
    }

    fn fault(&mut self, script: &mut Script<'_>, shard: usize) {
        let broker = &mut self.shards[shard].broker;
        match broker.temper {
            Temper::Faulty => {}
            Temper::Durable if script.one_in(4) => return broker.crash(self.now),
            Temper::Immediate | Temper::Slow | Temper::Durable => return,
        }
        if script.one_in(8) {
            broker.crash(self.now);
        } else if let Some(channel) = script.pick(broker.watched()) {
            broker.interrupt(self.now, &channel);
        }
    }

    fn expect_answer(&mut self, shard: usize, asked: Asked) -> Who {
        self.last_number += 1;
        let number = self.last_number;
        self.shards[shard].asked.insert(number, asked);
        Who { shard, number }
    }

    fn home_of(&self, channel: &ChannelName) -> usize {
        let index = self.channels.iter().position(|other| other == channel);
        index.map_or(0, |index| index % self.shards.len())
    }

    fn send_home(&mut self, shard: usize, channel: &ChannelName, message: Message) -> bool {
        let home = self.home_of(channel);
        self.send(shard, home, message)
    }

    /// Whether there was room.
    fn send(&mut self, from: usize, to: usize, message: Message) -> bool {
        let inbox = &mut self.shards[to].inboxes[from];
        // A place is kept for every answer.
        let waiting = inbox
            .iter()
            .filter(|other| !matches!(other, Message::Answer { .. }))
            .count();
        let has_room = matches!(message, Message::Answer { .. }) || waiting < self.mailbox_max;
        if has_room {
            inbox.push_back(message);
        }
        has_room
    }

    fn leave(&mut self, shard: usize, channel: &ChannelName) {
        let message = Message::Leave {
            channel: channel.clone(),
            shard: ShardId(shard as u16),
        };
        if !self.send_home(shard, channel, message) && self.repeats_leave {
            self.shards[shard].to_leave.insert(channel.clone());
        }
    }

    /// A shard handles one message of its mailbox.
    fn take(&mut self, shard: usize, message: Message) {
        let held = &mut self.shards[shard];
        match message {
            Message::Publish { channel, draft, who } => held.home.handle_publish(channel, draft, who),
            Message::History {
                channel,
                range,
                limit,
                who,
            } => {
                held.home.handle_history(channel, range, limit, who);
            }
            Message::Subscribe { channel, shard, who } => held.home.handle_subscribe(channel, shard, who),
            Message::Leave { channel, shard } => held.home.handle_leave(&channel, shard),
            Message::Deliver {
                channel,
                after,
                entries,
            } => {
                if held.deliver(&channel, after, &entries) {
                    self.leave(shard, &channel);
                }
            }
            Message::Answer { number, answer } => self.answered(shard, number, answer),
        }
    }

    fn answered(&mut self, shard: usize, number: u64, answer: Answer) {
        let held = &mut self.shards[shard];
        match (held.asked.remove(&number), answer) {
            (None, answer) => panic!("nobody asked, or it was answered before: {answer:?}"),
            (
                Some(Asked::Publish {
                    channel,
                    draft,
                    after,
                }),
                Answer::Published(position),
            ) => {
                let is_new = self.truth.check_published(&channel, &draft, position);
                if let Some(after) = after
                    && is_new
                    && after.epoch == position.epoch
                {
                    assert!(after.offset < position.offset, "acknowledged before it was sent");
                }
                let newest = self.acknowledged.entry(channel).or_insert(position);
                if newest.epoch != position.epoch || newest.offset < position.offset {
                    *newest = position;
                }
            }
            (
                Some(Asked::History {
                    channel,
                    range,
                    limit,
                }),
                Answer::History(page),
            ) => {
                let settings = &self.namespaces.settings(&channel).log;
                self.truth
                    .check_page(self.now, &channel, range, limit, settings, &page);
            }
            (
                Some(Asked::Page {
                    channel,
                    subscriber,
                    generation,
                    range,
                    limit,
                }),
                answer,
            ) => {
                let session = held.sessions.get_mut(&subscriber);
                let Some(session) = session.filter(|session| session.generation == generation) else {
                    return;
                };
                match answer {
                    Answer::History(page) => {
                        let settings = &self.namespaces.settings(&channel).log;
                        self.truth
                            .check_page(self.now, &channel, range, limit, settings, &page);
                        let Some(since) = range.position() else {
                            panic!("{range:?} is not from a cursor");
                        };
                        session.give_page(&mut held.audience, &channel, since, &page);
                    }
                    Answer::Refused(_) => self.refuse_page(shard, &channel, subscriber),
                    answer => panic!("{answer:?} to a reader"),
                }
            }
            (
                Some(Asked::Subscribe {
                    channel,
                    subscriber,
                    generation,
                    since,
                    latest,
                }),
                answer,
            ) => {
                if held
                    .sessions
                    .get(&subscriber)
                    .is_none_or(|session| session.generation != generation)
                {
                    return;
                }
                match answer {
                    Answer::Subscribed(position) => held.attach(channel, subscriber, position, since, latest),
                    Answer::Refused(_) => {
                        if held.audience.abort(&channel, subscriber) {
                            self.leave(shard, &channel);
                        }
                    }
                    answer => panic!("{answer:?} to a subscription"),
                }
            }
            (Some(Asked::Publish { .. } | Asked::History { .. }), Answer::Refused(_)) => {}
            (Some(_), answer) => panic!("{answer:?} to another question"),
        }
    }

    /// Does what a home wants done, to the end of its turn.
    fn pump(&mut self, shard: usize, script: &mut Script<'_>) {
        while let Some(output) = self.shards[shard].home.poll_output() {
            match output {
                Output::Broker(request) => {
                    let held = &mut self.shards[shard];
                    held.broker.submit(request);
                    if held.broker.temper == Temper::Immediate {
                        held.broker.step(self.now, script, &mut self.truth);
                        while let Some(completion) = held.broker.complete(script) {
                            held.home.handle_completion(completion);
                        }
                    }
                }
                Output::Deliver {
                    channel,
                    shard: to,
                    after,
                    entries,
                } => {
                    assert!(!entries.is_empty());
                    self.deliver(shard, to, channel, after, entries);
                }
                Output::Head {
                    channel,
                    shard: to,
                    position,
                } => {
                    self.deliver(shard, to, channel, position, Arc::new([]));
                }
                Output::Reply { who, answer } => {
                    let message = Message::Answer {
                        number: who.number,
                        answer,
                    };
                    self.send(shard, who.shard, message);
                }
            }
        }
    }

    fn deliver(
        &mut self,
        from: usize,
        to: ShardId,
        channel: ChannelName,
        after: Position,
        entries: shard::Entries,
    ) {
        let message = Message::Deliver {
            channel: channel.clone(),
            after,
            entries,
        };
        if !self.send(from, usize::from(to.0), message) {
            self.shards[from].home.handle_delivery_refused(&channel, to);
        }
    }

    /// No more faults; everything that waits is done.
    fn settle(&mut self) {
        let calm = &mut Script::new(&[]);
        for shard in 0..self.shards.len() {
            self.shards[shard].broker.own_up(self.now);
        }
        for _ in 0..ROUNDS_MAX {
            let mut is_settled = true;
            for shard in 0..self.shards.len() {
                for from in 0..self.shards.len() {
                    while let Some(message) = self.shards[shard].inboxes[from].pop_front() {
                        self.take(shard, message);
                        self.pump(shard, calm);
                    }
                }
                while !self.shards[shard].broker.is_idle() {
                    self.shards[shard].broker.step(self.now, calm, &mut self.truth);
                    self.complete(calm, shard);
                }
                self.time_out(shard, 0);
                let sessions: Vec<_> = self.shards[shard].sessions.keys().copied().collect();
                for subscriber in sessions {
                    if let Some(session) = self.shards[shard].sessions.get_mut(&subscriber) {
                        self.breaks += session.read(&self.truth, usize::MAX);
                    }
                    self.catch_up(shard, subscriber, ReadLimit::default());
                }
                is_settled &= self.shards[shard].is_idle();
            }
            if is_settled && self.shards.iter().all(Shard::is_idle) {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn check_settled(&mut self) {
        self.truth.check_nothing_refused_is_there();
        assert!(!self.is_calm || self.breaks == 0, "a break without reason");
        for channel in self.channels.clone() {
            let home = self.home_of(&channel);
            let head = self.shards[home].broker.head(self.now, &channel);
            assert_eq!(
                head,
                self.truth.end(&channel, head.epoch),
                "all acknowledged is there"
            );
            for session in self.shards.iter().flat_map(|shard| shard.sessions.values()) {
                if let Some(place) = session.places().get(&channel) {
                    assert_eq!(*place, head, "everyone is at the head of {channel}");
                }
            }
        }
    }

    /// Exactly those channels are watched in which somebody is. A `Leave` that was dropped is made up for when the channel
    /// speaks again.
    fn check_interest(&mut self) {
        for channel in self.channels.clone() {
            if self.repeats_leave {
                self.check_watched(&channel);
            }
            let home = self.home_of(&channel);
            self.last_number += 1;
            let draft = Draft {
                from: None,
                payload: Payload::text(self.last_number.to_string()),
                key: None,
                conflate: None,
            };
            let asked = Asked::Publish {
                channel: channel.clone(),
                draft: draft.clone(),
                after: None,
            };
            let who = self.expect_answer(home, asked);
            self.take(
                home,
                Message::Publish {
                    channel: channel.clone(),
                    draft,
                    who,
                },
            );
            self.pump(home, &mut Script::new(&[]));
            self.settle();
            self.check_watched(&channel);
        }
        self.check_settled();
    }

    fn check_watched(&self, channel: &ChannelName) {
        let wanted = self.shards.iter().any(|shard| shard.audience.wants(channel));
        let broker = &self.shards[self.home_of(channel)].broker;
        assert_eq!(broker.watched().contains(channel), wanted, "{channel} is watched");
    }

    fn everybody_leaves(&mut self) {
        self.check_interest();
        let calm = &mut Script::new(&[]);
        for shard in 0..self.shards.len() {
            while !self.shards[shard].sessions.is_empty() {
                self.drop_session(calm, shard);
            }
        }
        self.settle();
        self.check_interest();
        self.now = self.now + 2 * FORGET_AFTER_DEFAULT;
        for shard in &mut self.shards {
            shard.broker.handle_timeout(self.now, usize::MAX);
            assert_eq!(shard.broker.held(), (0, 0, 0));
            let home: &Home<Who> = &shard.home;
            assert_eq!((home.channels(), home.in_flight(), home.behind()), (0, 0, 0));
            let audience = &shard.audience;
            let held = (
                audience.channels(),
                audience.subscriptions_total(),
                audience.behind_total(),
            );
            assert_eq!(held, (0, 0, 0));
        }
    }
}

#[cfg(test)]
mod tests;

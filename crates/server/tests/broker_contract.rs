//! One contract, every broker: the rules written at `switchboard_hub::broker`, for the embedded broker and for one that is
//! slow and fails; and what clients may rely on above a broker of that kind.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchboard_hub::broker::{BrokerError, Completion, Op, Request, Ticket};
use switchboard_hub::home::ShardId;
use switchboard_hub::log::{Draft, PageStart, ReadLimit};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::time::Time;
use switchboard_server::broker::{Broker, Seat, memory::Memory};

use support::broker::{Slow, Temper};
use support::client::{Client, publish};
use support::order::{Workload, work};

/// A broker and what it has said.
struct Subject {
    name: &'static str,
    broker: Box<dyn Broker>,
    /// Completions that came later.
    later: Option<Receiver<Completion>>,
    now: Time,
    last_ticket: u64,
    asked: BTreeMap<Ticket, Request>,
    said: Vec<Completion>,
}

/// Every broker there is, and the slow one in each temper.
fn subjects() -> Vec<Subject> {
    let seat = seat();
    let mut subjects = vec![subject("memory", Box::new(Memory::new(&seat)), None)];
    for (name, temper) in [("slow", Temper::SLOW), ("failing", Temper::FAILING)] {
        let (sender, later) = channel();
        let complete = move |completion| {
            let _test_is_over = sender.send(completion);
        };
        let slow = Slow::new(temper, seat.seeds, seat.namespaces.clone(), complete);
        subjects.push(subject(name, Box::new(slow), Some(later)));
    }
    subjects
}

fn subject(name: &'static str, broker: Box<dyn Broker>, later: Option<Receiver<Completion>>) -> Subject {
    Subject {
        name,
        broker,
        later,
        now: Time::ZERO,
        last_ticket: 0,
        asked: BTreeMap::new(),
        said: Vec::new(),
    }
}

/// A seat can only be had from a server.
fn seat() -> Seat {
    let (sender, seats) = channel();
    let factory = Arc::new(move |seat: Seat| {
        sender.send(seat.clone()).unwrap();
        Box::new(Memory::new(&seat)) as Box<dyn Broker>
    });
    support::run_with(&support::config(1), factory, async |_| {});
    seats.recv().unwrap()
}

impl Subject {
    fn ask(&mut self, channel: &str, op: Op) -> Ticket {
        let ticket = match op {
            Op::Unwatch => panic!("use `unwatch`, which names the watch"),
            _ => {
                self.last_ticket += 1;
                Ticket(self.last_ticket)
            }
        };
        let request = Request {
            ticket,
            channel: name(channel),
            op,
        };
        self.asked.insert(ticket, request.clone());
        self.hand_over(request);
        ticket
    }

    fn unwatch(&mut self, channel: &str, watch: Ticket) {
        self.hand_over(Request {
            ticket: watch,
            channel: name(channel),
            op: Op::Unwatch,
        });
    }

    fn hand_over(&mut self, request: Request) {
        self.now = self.now + Duration::from_millis(1);
        let mut completions = VecDeque::new();
        self.broker
            .handle_request(self.now, 1_700_000_000_000, request, &mut completions);
        self.said.extend(completions);
    }

    fn append(&mut self, channel: &str, words: &str) -> Ticket {
        self.ask(channel, Op::Append(draft(words)))
    }

    /// Waits until everything is answered and nothing more comes.
    fn settle(&mut self) {
        const QUIET: Duration = Duration::from_millis(20);
        const SOON: Duration = Duration::from_secs(20);
        if let Some(later) = &self.later {
            let answered = |said: &[Completion]| said.iter().filter_map(answers).count();
            while answered(&self.said) < self.asked.len() {
                self.said
                    .push(later.recv_timeout(SOON).expect("every request is answered"));
            }
            while let Ok(more) = later.recv_timeout(QUIET) {
                self.said.push(more);
            }
        }
    }

    /// Appends until one is acknowledged.
    fn insist_on_appending(&mut self, channel: &str, words: &str) -> Position {
        loop {
            let ticket = self.append(channel, words);
            self.settle();
            if let Ok(position) = self.appended(ticket) {
                return position;
            }
        }
    }

    /// Watches until it is granted.
    fn insist_on_watching(&mut self, channel: &str) -> (Ticket, Position) {
        loop {
            let ticket = self.ask(channel, Op::Watch { since: None });
            self.settle();
            let granted = self.said.iter().find_map(|completion| match completion {
                Completion::Watching {
                    ticket: of,
                    result: Ok(head),
                } if *of == ticket => Some(*head),
                _ => None,
            });
            if let Some(head) = granted {
                return (ticket, head);
            }
        }
    }

    fn appended(&self, ticket: Ticket) -> Result<Position, BrokerError> {
        let found = self.said.iter().find_map(|completion| match completion {
            Completion::Appended { ticket: of, result } if *of == ticket => Some(*result),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{}: no answer to {:?}", self.name, self.asked[&ticket]))
    }

    /// The log of a channel, from its first entry: payloads by offset.
    fn log(&mut self, channel: &str, epoch: switchboard_proto::position::Epoch) -> BTreeMap<u64, String> {
        loop {
            let range = Range::After(Position::start(epoch));
            let limit = ReadLimit {
                messages: 1_000,
                bytes: usize::MAX,
            };
            let ticket = self.ask(channel, Op::Read { range, limit });
            self.settle();
            let page = self.said.iter().find_map(|completion| match completion {
                Completion::Read { ticket: of, result } if *of == ticket => Some(result.clone()),
                _ => None,
            });
            if let Some(Ok(page)) = page {
                assert_eq!(page.start, PageStart::Continues, "{}", self.name);
                let entries = page.entries.iter();
                return entries
                    .map(|entry| {
                        let words = entry.payload.as_str().unwrap().to_owned();
                        (entry.position.offset, words)
                    })
                    .collect();
            }
        }
    }

    /// Everything that was said live for one watch: previous offset, offset, payload.
    fn live(&self, watch: Ticket) -> Vec<(u64, u64, String)> {
        let mut live = Vec::new();
        for completion in &self.said {
            if let Completion::Live { ticket, entries, .. } = completion
                && *ticket == watch
            {
                live.extend(entries.iter().map(|entry| {
                    let words = entry.payload.as_str().unwrap().to_owned();
                    (entry.previous, entry.position.offset, words)
                }));
            }
        }
        live
    }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

fn draft(words: &str) -> Draft {
    Draft {
        from: None,
        payload: Payload::text(words),
        key: None,
        conflate: None,
    }
}

/// The ticket of the request that a completion answers.
fn answers(completion: &Completion) -> Option<Ticket> {
    match completion {
        Completion::Appended { ticket, .. }
        | Completion::Read { ticket, .. }
        | Completion::Watching { ticket, .. } => Some(*ticket),
        Completion::Live { .. } | Completion::Interrupted { .. } => None,
    }
}

/// Something of everything, on several channels.
fn mixed(subject: &mut Subject) {
    const CHANNELS: [&str; 3] = ["a", "b", "c"];
    let mut watches: BTreeMap<&str, Ticket> = BTreeMap::new();
    for round in 0..200 {
        let channel = CHANNELS[round % 3];
        match round % 10 {
            3 => {
                let range = Range::Newest;
                let limit = ReadLimit::default();
                subject.ask(channel, Op::Read { range, limit });
            }
            0 | 5 => {
                watches.insert(channel, subject.ask(channel, Op::Watch { since: None }));
            }
            9 => {
                if let Some(watch) = watches.remove(channel) {
                    subject.unwatch(channel, watch);
                }
            }
            _ => {
                subject.append(channel, &format!("{round}"));
            }
        }
    }
    subject.settle();
}

#[test]
fn every_append_read_and_watch_is_completed_once_with_its_ticket_and_kind() {
    for mut subject in subjects() {
        mixed(&mut subject);
        let mut answered = BTreeSet::new();
        for completion in &subject.said {
            let Some(ticket) = answers(completion) else {
                continue;
            };
            let op = &subject.asked[&ticket].op;
            let fits = match completion {
                Completion::Appended { .. } => matches!(op, Op::Append(_)),
                Completion::Read { .. } => matches!(op, Op::Read { .. }),
                _ => matches!(op, Op::Watch { .. }),
            };
            assert!(fits, "{}: {completion:?} answers {op:?}", subject.name);
            assert!(answered.insert(ticket), "{}: {ticket:?} twice", subject.name);
        }
        assert_eq!(answered.len(), subject.asked.len(), "{}", subject.name);
    }
}

#[test]
fn requests_on_one_channel_take_effect_and_are_completed_in_order() {
    for mut subject in subjects() {
        mixed(&mut subject);
        for channel in ["a", "b", "c"] {
            let of_channel = |completion: &Completion| {
                answers(completion).filter(|ticket| subject.asked[ticket].channel == name(channel))
            };
            let tickets: Vec<Ticket> = subject.said.iter().filter_map(of_channel).collect();
            assert!(tickets.is_sorted(), "{}: {tickets:?}", subject.name);
            let positions: Vec<u64> = subject
                .said
                .iter()
                .filter(|completion| of_channel(completion).is_some())
                .filter_map(|completion| match completion {
                    Completion::Appended { result, .. } => result.ok(),
                    _ => None,
                })
                .map(|position| position.offset)
                .collect();
            assert!(
                positions.is_sorted_by(|one, next| one < next),
                "{}: {positions:?}",
                subject.name
            );
        }
    }
}

#[test]
fn an_acknowledged_append_is_in_the_log_where_the_answer_says() {
    for mut subject in subjects() {
        let first = subject.insist_on_appending("a", "first");
        let tickets: Vec<_> = (0..50)
            .map(|n| (n, subject.append("a", &format!("{n}"))))
            .collect();
        subject.settle();
        let log = subject.log("a", first.epoch);
        for (n, ticket) in tickets {
            match subject.appended(ticket) {
                Ok(position) => {
                    assert_eq!(position.epoch, first.epoch, "{}", subject.name);
                    assert_eq!(
                        log.get(&position.offset),
                        Some(&format!("{n}")),
                        "{}",
                        subject.name
                    );
                }
                // It may have taken effect, once.
                Err(error) => {
                    assert_eq!(error, BrokerError::Unavailable, "{}", subject.name);
                    let copies = log.values().filter(|words| **words == format!("{n}")).count();
                    assert!(copies <= 1, "{}", subject.name);
                }
            }
        }
    }
}

#[test]
fn a_watch_tells_what_comes_after_its_head_in_order_or_that_it_was_interrupted() {
    for mut subject in subjects() {
        let mut interrupted = false;
        // When the failing one interrupts depends on how its threads run; it has to be seen to.
        let expected = subject.name == "failing";
        for round in 0..1_000 {
            if round >= 20 && interrupted == expected {
                break;
            }
            subject.insist_on_appending("a", "before");
            let (watch, head) = subject.insist_on_watching("a");
            for n in 0..10 {
                subject.append("a", &format!("{round}.{n}"));
            }
            subject.settle();
            let log = subject.log("a", head.epoch);
            let live = subject.live(watch);
            // What is told follows the head and itself without hole, and is what the log holds.
            let mut last = head.offset;
            for (previous, offset, words) in &live {
                assert_eq!(
                    (*previous, log.get(offset)),
                    (last, Some(words)),
                    "{}",
                    subject.name
                );
                last = *offset;
            }
            let end = subject.said.iter().position(
                |completion| matches!(completion, Completion::Interrupted { ticket, .. } if *ticket == watch),
            );
            match end {
                // And it is all that the log holds, unless the broker says otherwise.
                None => assert_eq!(log.keys().next_back(), Some(&last), "{}", subject.name),
                Some(end) => {
                    interrupted = true;
                    let silent = subject.said[end + 1..]
                        .iter()
                        .all(|completion| !matches!(completion, Completion::Live { ticket, .. } if *ticket == watch));
                    assert!(silent, "{}: after Interrupted nothing more comes", subject.name);
                }
            }
        }
        assert_eq!(interrupted, expected, "{}", subject.name);
    }
}

#[test]
fn nothing_is_told_before_watching_nor_to_a_watch_that_was_replaced_or_ended() {
    for mut subject in subjects() {
        mixed(&mut subject);
        let mut begun = BTreeSet::new();
        for completion in &subject.said {
            match completion {
                Completion::Watching {
                    ticket,
                    result: Ok(_),
                } => {
                    begun.insert(*ticket);
                }
                Completion::Live { ticket, .. } => assert!(begun.contains(ticket), "{}", subject.name),
                _ => {}
            }
        }
        let (first, _) = subject.insist_on_watching("a");
        let (second, _) = subject.insist_on_watching("a");
        let told = subject.said.len();
        subject.insist_on_appending("a", "to the second");
        let is_of = |completion: &Completion, watch| match completion {
            Completion::Live { ticket, .. } | Completion::Interrupted { ticket, .. } => *ticket == watch,
            _ => false,
        };
        let since = &subject.said[told..];
        assert!(
            !since.iter().any(|completion| is_of(completion, first)),
            "{}",
            subject.name
        );
        assert!(
            since.iter().any(|completion| is_of(completion, second)),
            "{}",
            subject.name
        );
        subject.unwatch("a", second);
        let told = subject.said.len();
        subject.insist_on_appending("a", "to nobody");
        let since = &subject.said[told..];
        assert!(
            !since.iter().any(|completion| is_of(completion, second)),
            "{}",
            subject.name
        );
    }
}

#[test]
fn within_an_epoch_a_log_only_grows() {
    for mut subject in subjects() {
        let first = subject.insist_on_appending("a", "0");
        let mut before = subject.log("a", first.epoch);
        for n in 1..20 {
            subject.append("a", &format!("{n}"));
            subject.settle();
            let after = subject.log("a", first.epoch);
            assert!(after.len() >= before.len(), "{}", subject.name);
            assert!(
                before
                    .iter()
                    .all(|(offset, words)| after.get(offset) == Some(words)),
                "{}",
                subject.name
            );
            before = after;
        }
    }
}

const WORKLOAD: Workload = Workload {
    channels: 4,
    subscribers: 6,
    publishers: 6,
    messages: 120,
    window: 10,
};

#[test]
fn order_holds_above_a_slow_broker_and_nothing_is_missing() {
    for shards in support::SHARDS {
        let config = support::config(shards);
        support::run_with(&config, Slow::factory(Temper::SLOW), async |live| {
            let outcome = work(live, &WORKLOAD).await;
            outcome.judge(|_| false);
            assert_eq!((outcome.refused(), outcome.gaps()), (0, 0));
        });
    }
}

#[test]
fn a_failing_broker_is_reported_to_publishers_and_its_lost_watches_are_made_up_for_from_the_log() {
    for shards in support::SHARDS {
        let config = support::config(shards);
        support::run_with(&config, Slow::factory(Temper::FAILING), async |live| {
            let outcome = work(live, &WORKLOAD).await;
            // Behind what failed everything is refused that was sent before that was known.
            outcome.judge(|code| matches!(code, "unavailable" | "overloaded"));
            assert!(
                outcome.refused() > 0,
                "one request in {} fails",
                Temper::FAILING.fails_one_in
            );
            assert!(live.count(|shard| &shard.replay_pages) > 0, "watches were lost");
            assert_eq!(outcome.gaps(), 0, "the log holds everything");
        });
    }
}

/// A broker that may be made to keep its shard busy, to answer late, and to talk without end.
struct Talkative {
    inner: Memory,
    seat: Seat,
    homes: Homes,
}

/// Which shard is the home of a channel, as far as anything was asked of it.
type Homes = Arc<Mutex<BTreeMap<String, (ShardId, Seat)>>>;

impl Broker for Talkative {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        let home = (self.seat.shard, self.seat.clone());
        let channel = request.channel.as_str().to_owned();
        self.homes.lock().unwrap().insert(channel, home);
        let words = match &request.op {
            Op::Append(draft) => draft.payload.as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        let mut done = VecDeque::new();
        self.inner.handle_request(now, at_ms, request, &mut done);
        match words.as_str() {
            "keep the shard busy" => std::thread::sleep(Duration::from_millis(600)),
            "answer late" => {
                let seat = self.seat.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(300));
                    done.into_iter()
                        .for_each(|completion| complete(&seat, completion));
                });
                return;
            }
            _ => {}
        }
        completions.append(&mut done);
    }
}

fn complete(seat: &Seat, completion: Completion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(seat.complete(completion));
}

#[test]
fn an_answer_finds_room_however_much_a_broker_has_to_tell() {
    let homes: Homes = Arc::default();
    let factory = {
        let homes = homes.clone();
        Arc::new(move |seat: Seat| {
            Box::new(Talkative {
                inner: Memory::new(&seat),
                seat,
                homes: homes.clone(),
            }) as Box<dyn Broker>
        })
    };
    let mut config = support::config(2);
    config.limits.mailbox_messages_max = 64;
    support::run_with(&config, factory, async |live| {
        let (shard, mut client) = live.shard_of(Client::connect(live)).await;
        for n in 0..20 {
            client.publish(&format!("c:{n}"), Payload::text("")).await;
        }
        let home = |wanted: bool| {
            let homes = homes.lock().unwrap();
            let is_here = |(home, _): &(ShardId, Seat)| (usize::from(home.0) == shard) == wanted;
            let (channel, (_, seat)) = homes.iter().find(|(_, home)| is_here(home)).unwrap();
            (channel.clone(), seat.clone())
        };
        let ((here, seat), (there, _)) = (home(true), home(false));
        let stop = Arc::new(AtomicBool::new(false));
        let talking: Vec<_> = (0..4)
            .map(|_| {
                let (seat, stop, channel) = (seat.clone(), stop.clone(), name(&here));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        while !stop.load(Ordering::Relaxed) {
                            // Of a watch that the home does not know.
                            let (ticket, channel) = (Ticket(u64::MAX), channel.clone());
                            seat.complete(Completion::Interrupted { ticket, channel }).await;
                        }
                    });
                })
            })
            .collect();
        let commands = [
            publish(Some(101), &there, Payload::text("answer late")),
            publish(Some(102), &here, Payload::text("keep the shard busy")),
        ];
        client.say(&commands).await.unwrap();
        for id in [101, 102] {
            assert!(matches!(client.answer(id).await, Notice::Published { .. }));
        }
        stop.store(true, Ordering::Relaxed);
        talking.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Which channels are watched, at all homes.
type Watched = Arc<Mutex<BTreeSet<String>>>;

/// The embedded broker, with an eye on its watches.
struct Observed {
    inner: Memory,
    watched: Watched,
}

impl Broker for Observed {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        let channel = request.channel.as_str().to_owned();
        match request.op {
            Op::Watch { .. } => self.watched.lock().unwrap().insert(channel),
            Op::Unwatch => self.watched.lock().unwrap().remove(&channel),
            Op::Append(_) | Op::Read { .. } => false,
        };
        self.inner.handle_request(now, at_ms, request, completions);
    }
}

#[test]
fn a_channel_that_everyone_left_is_not_watched_although_mailboxes_were_full() {
    for shards in support::SHARDS {
        let watched = Watched::default();
        let factory = {
            let watched = watched.clone();
            Arc::new(move |seat: Seat| {
                Box::new(Observed {
                    inner: Memory::new(&seat),
                    watched: watched.clone(),
                }) as Box<dyn Broker>
            })
        };
        let mut config = support::config(shards);
        config.limits.mailbox_messages_max = 8;
        support::run_with(&config, factory, async |live| {
            let mut clients = Vec::new();
            for number in 0..2 {
                let mut client = Client::connect(live).await;
                for n in 0..60 {
                    let name = format!("c:{number}.{n}");
                    support::order::insist_on_subscribing(&mut client, &name, "overloaded").await;
                }
                clients.push(client);
            }
            assert_eq!(watched.lock().unwrap().len(), 120);
            // Sixty subscriptions of each end at once, and there is room for eight to say so.
            drop(clients);
            support::eventually("nothing is watched", async || {
                watched.lock().unwrap().is_empty().then_some(())
            })
            .await;
        });
    }
}

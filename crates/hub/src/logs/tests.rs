use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};

use super::*;
use switchboard_proto::entry::Key;

use crate::log::{PageStart, ReadLimit};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn publish(text: &str, key: Option<&str>) -> Op {
    Op::Append(Draft {
        from: None,
        payload: Payload::text(text),
        key: key.map(|key| Key::parse(key).unwrap()),
        conflate: None,
    })
}

fn read(since: Option<Position>) -> Op {
    Op::Read {
        range: since.map_or(Range::Newest, Range::After),
        limit: ReadLimit::default(),
    }
}

const WATCH: Op = Op::Watch { since: None };

struct Broker {
    logs: Logs,
    now: Time,
    tickets: u64,
}

impl Broker {
    fn new(settings: LogsSettings) -> Broker {
        Broker {
            logs: Logs::new(1, 2, settings, Arc::new(Namespaces::default())),
            now: at(0),
            tickets: 0,
        }
    }

    /// Makes a request; gives its completions as text: `appended 1; live@1 a`.
    fn ask(&mut self, channel: &str, op: Op) -> String {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.ask_with(ticket, channel, op)
    }

    fn ask_with(&mut self, ticket: Ticket, channel: &str, op: Op) -> String {
        let request = Request {
            ticket,
            channel: name(channel),
            op,
        };
        let texts: Vec<_> = self.completions(request).iter().map(transcript).collect();
        texts.join("; ")
    }

    fn completions(&mut self, request: Request) -> Vec<Completion> {
        let mut completions = VecDeque::new();
        self.logs.handle_request(self.now, 0, request, &mut completions);
        completions.into()
    }

    fn head(&mut self, channel: &str) -> Position {
        let request = Request {
            ticket: Ticket(0),
            channel: name(channel),
            op: read(None),
        };
        match self.completions(request).pop() {
            Some(Completion::Read { result: Ok(page), .. }) => page.head,
            other => panic!("{other:?}"),
        }
    }
}

fn transcript(completion: &Completion) -> String {
    let texts = |entries: &[Arc<switchboard_proto::entry::Entry>]| {
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| entry.payload.as_str().unwrap())
            .collect();
        texts.join(" ")
    };
    match completion {
        Completion::Appended {
            result: Ok(position), ..
        } => format!("appended {}", position.offset),
        Completion::Read { result: Ok(page), .. } => format!("{:?}: {}", page.start, texts(&page.entries)),
        Completion::Watching { result: Ok(head), .. } => format!("watching from {}", head.offset),
        Completion::Live { ticket, entries, .. } => format!("live@{} {}", ticket.0, texts(entries)),
        Completion::Appended {
            result: Err(error), ..
        }
        | Completion::Read {
            result: Err(error), ..
        }
        | Completion::Watching {
            result: Err(error), ..
        } => format!("{error:?}"),
        Completion::Interrupted { ticket, .. } => format!("interrupted@{}", ticket.0),
    }
}

#[test]
fn a_watch_sees_what_is_appended_after_its_head() {
    let mut broker = Broker::new(LogsSettings::default());
    assert_eq!(broker.ask("a", publish("one", None)), "appended 1");
    assert_eq!(broker.ask("a", WATCH), "watching from 1");
    assert_eq!(
        broker.ask("a", publish("two", Some("k"))),
        "appended 2; live@2 two"
    );
    assert_eq!(broker.ask("a", publish("two", Some("k"))), "appended 2");
    assert_eq!(broker.ask("b", publish("elsewhere", None)), "appended 1");
    assert_eq!(broker.ask("a", WATCH), "watching from 2");
    assert_eq!(
        broker.ask("a", publish("three", None)),
        "appended 3; live@6 three"
    );
    // Only the ticket of the present watch ends it.
    assert_eq!(broker.ask_with(Ticket(2), "a", Op::Unwatch), "");
    assert_eq!(broker.logs.watched(), 1);
    assert_eq!(broker.ask_with(Ticket(6), "a", Op::Unwatch), "");
    assert_eq!(broker.ask("a", publish("four", None)), "appended 4");
    assert_eq!(broker.ask("a", read(None)), "Continues: one two three four");
}

#[test]
fn reading_an_unknown_channel_begins_its_log() {
    let mut broker = Broker::new(LogsSettings::default());
    assert_eq!(broker.ask("a", read(None)), "Continues: ");
    assert_eq!(broker.logs.channels(), 1);
    let start = broker.head("a");
    broker.ask("a", publish("one", None));
    assert_eq!(broker.ask("a", read(Some(start))), "Continues: one");
}

#[test]
fn no_two_logs_have_the_same_epoch() {
    let mut broker = Broker::new(LogsSettings::default());
    let mut epochs: Vec<_> = (0..1_000)
        .map(|number| broker.head(&number.to_string()).epoch)
        .collect();
    // The first outputs of SplitMix64 from seed 1, as its authors' program prints them.
    let random = [0x910a2dec89025cc1, 0xbeeb8da1658eec67];
    for (number, random) in random.into_iter().enumerate() {
        assert_eq!(epochs[number], Epoch::of(&name(&number.to_string()), random));
    }
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 1_000);
}

#[test]
fn channels_are_bounded() {
    let mut broker = Broker::new(LogsSettings {
        channels_max: 2,
        ..LogsSettings::default()
    });
    broker.ask("a", WATCH);
    broker.ask("b", WATCH);
    for op in [publish("x", None), read(None), WATCH] {
        assert_eq!(broker.ask("c", op), "TooManyChannels");
    }
    assert_eq!(broker.ask("a", publish("x", None)), "appended 1; live@1 x");
    assert_eq!(broker.logs.channels(), 2);
}

#[test]
fn an_idle_empty_unwatched_log_is_forgotten_and_begins_anew() {
    let mut broker = Broker::new(LogsSettings::default());
    for channel in ["used", "idle", "watched"] {
        broker.ask(channel, publish("x", None));
    }
    broker.ask("watched", WATCH);
    let old = broker.head("idle");
    broker.now = at(3_000);
    broker.ask("used", read(None));
    broker.now = at(3_599);
    assert_eq!(broker.logs.handle_timeout(broker.now, 10), 0);
    broker.now = at(3_600);
    assert_eq!(broker.logs.handle_timeout(broker.now, 10), 1);
    assert_eq!(broker.logs.channels(), 2);
    let expected = format!("{:?}: ", PageStart::Reset);
    assert_eq!(broker.ask("idle", read(Some(old))), expected);
    assert_ne!(broker.head("idle").epoch, old.epoch);
    // The last use counts from the end of the watch.
    broker.ask_with(Ticket(4), "watched", Op::Unwatch);
    broker.now = at(7_199);
    broker.logs.handle_timeout(broker.now, 10);
    assert_eq!(broker.logs.channels(), 2);
    broker.now = at(7_200);
    broker.logs.handle_timeout(broker.now, 10);
    assert_eq!(broker.logs.channels(), 0);
}

#[test]
fn a_log_that_remembers_keys_is_not_forgotten() {
    let mut broker = Broker::new(LogsSettings {
        forget_after: Duration::from_secs(1),
        ..LogsSettings::default()
    });
    broker.ask("a", publish("x", Some("k")));
    broker.now = at(299);
    assert_eq!(broker.logs.handle_timeout(broker.now, 10), 0);
    assert_eq!(broker.ask("a", publish("x", Some("k"))), "appended 1");
    broker.now = at(301);
    assert_eq!(broker.logs.handle_timeout(broker.now, 10), 1);
}

#[test]
fn forgetting_goes_in_bounded_pieces_and_finds_everything() {
    let mut broker = Broker::new(LogsSettings::default());
    for number in 0..1_000 {
        broker.ask(&number.to_string(), publish("x", None));
    }
    let bytes = broker.logs.bytes();
    assert!(bytes > 1_000);
    broker.now = at(300);
    broker.logs.handle_timeout(broker.now, 10);
    assert_eq!(broker.logs.bytes(), bytes / 1_000 * 990);
    broker.ask("500", publish("y", None));
    broker.now = at(3_600);
    for _ in 0..10 {
        assert!((89..=90).contains(&broker.logs.handle_timeout(broker.now, 90)));
    }
    broker.logs.handle_timeout(broker.now, 1_000);
    assert_eq!(broker.logs.channels(), 1);
    broker.now = at(3_900);
    assert_eq!(broker.ask("500", publish("z", None)), "appended 3");
    broker.now = at(9_000);
    broker.logs.handle_timeout(broker.now, 1_000);
    assert_eq!((broker.logs.channels(), broker.logs.bytes()), (0, 0));
}

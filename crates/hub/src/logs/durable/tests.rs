use std::time::Duration;

use proptest::prelude::*;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Range;

use super::recovery::Recovery;
use super::*;
use crate::limits::KEY_WINDOW;
use crate::log::{Page, PageStart, ReadLimit};
use crate::settings::{ChannelSettings, LogSettings};

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

/// The broker, and a store that keeps a record when it is told to.
struct Broker {
    durable: Durable,
    now: Time,
    tickets: u64,
    completions: VecDeque<Completion>,
    /// Put out, not stored.
    written: VecDeque<(RecordNumber, Record)>,
    store: Vec<Record>,
    /// Until [`Output::Resume`].
    is_refusing: bool,
    /// What was said to be trimmed.
    trimmed: Vec<u64>,
    life: u64,
}

fn namespaces() -> Arc<Namespaces> {
    let few = ChannelSettings {
        log: LogSettings {
            messages_max: 2,
            ..LogSettings::default()
        },
        ..ChannelSettings::default()
    };
    Arc::new(Namespaces {
        by_name: [("few".into(), few)].into(),
        ..Namespaces::default()
    })
}

impl Broker {
    fn new() -> Broker {
        Broker {
            durable: Durable::new(1, 2, LogsSettings::default(), namespaces()),
            // There was time before it.
            now: Time::ZERO + Duration::from_secs(1_000_000),
            tickets: 0,
            completions: VecDeque::new(),
            written: VecDeque::new(),
            store: Vec::new(),
            is_refusing: false,
            trimmed: Vec::new(),
            life: 1,
        }
    }

    fn at_ms(&self) -> u64 {
        self.now.nanoseconds() / 1_000_000
    }

    fn drain(&mut self) {
        while let Some(output) = self.durable.poll_output() {
            match output {
                Output::Store(..) if self.is_refusing => {}
                Output::Store(number, record) => self.written.push_back((number, record)),
                Output::Resume => self.is_refusing = false,
                Output::Trimmed(before) => self.trimmed.push(before.offset),
            }
        }
    }

    fn ask(&mut self, channel: &str, op: Op) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let request = Request {
            ticket,
            channel: name(channel),
            op,
        };
        self.durable
            .handle_request(self.now, self.at_ms(), request, &mut self.completions);
        self.drain();
        ticket
    }

    fn publish(&mut self, channel: &str, text: &str, key: Option<&str>) -> Ticket {
        let draft = Draft {
            from: None,
            payload: Payload::text(text),
            key: key.map(|key| Key::parse(key).unwrap()),
            conflate: None,
        };
        self.ask(channel, Op::Append(draft))
    }

    /// So many records are stored.
    fn store(&mut self, count: usize) {
        let mut up_to = None;
        for (number, record) in self.written.drain(..count.min(self.written.len())) {
            self.store.push(record);
            up_to = Some(number);
        }
        if let Some(up_to) = up_to {
            self.durable
                .handle_stored(self.now, self.at_ms(), up_to, &mut self.completions);
            self.drain();
        }
    }

    fn refuse(&mut self) {
        self.written.clear();
        self.is_refusing = true;
        self.durable.handle_refused(
            self.now,
            self.at_ms(),
            BrokerError::Overloaded,
            &mut self.completions,
        );
        self.drain();
    }

    /// A new process finds what is stored. How many logs are broken.
    fn restart(&mut self) -> usize {
        self.life += 1;
        self.written.clear();
        self.completions.clear();
        self.is_refusing = false;
        self.durable = Durable::new(self.life << 32, 2, LogsSettings::default(), namespaces());
        let mut recovery = Recovery::new(3);
        for record in &self.store {
            recovery.handle_record(record.clone());
        }
        let recovered = recovery.finish();
        for stored in recovered.logs {
            self.durable.restore(self.now, self.at_ms(), stored).unwrap();
        }
        recovered.broken.len()
    }

    /// What has come of these, once each.
    fn done(&mut self) -> Vec<String> {
        self.completions
            .drain(..)
            .map(|completion| match completion {
                Completion::Appended { ticket, result } => match result {
                    Ok(position) => format!("#{} at {}", ticket.0, position.offset),
                    Err(error) => format!("#{} {error:?}", ticket.0),
                },
                Completion::Read { ticket, result } => {
                    format!("#{} {}", ticket.0, texts(&result.unwrap()).join(" "))
                }
                Completion::Watching { ticket, result } => {
                    format!("#{} watches {}", ticket.0, result.unwrap().offset)
                }
                Completion::Live { ticket, entries, .. } => {
                    format!("live #{} {}", ticket.0, entries[0].payload.as_str().unwrap())
                }
                Completion::Interrupted { .. } => panic!("interrupted"),
            })
            .collect()
    }

    fn page(&mut self, channel: &str, range: Range) -> Page {
        let ticket = self.ask(channel, Op::Read { range, limit: ALL });
        self.store(usize::MAX);
        let found = self.completions.iter().position(
            |completion| matches!(completion, Completion::Read { ticket: of, .. } if *of == ticket),
        );
        match self.completions.remove(found.unwrap()) {
            Some(Completion::Read { result, .. }) => *result.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

const ALL: ReadLimit = ReadLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

fn texts(page: &Page) -> Vec<String> {
    let text = |entry: &Arc<Entry>| entry.payload.as_str().unwrap().to_owned();
    page.entries.iter().map(text).collect()
}

const READ: Op = Op::Read {
    range: Range::Newest,
    limit: ALL,
};

const NOTHING: [&str; 0] = [];

#[test]
fn nobody_hears_of_an_entry_before_it_is_stored() {
    let mut broker = Broker::new();
    broker.ask("c", Op::Watch { since: None });
    assert_eq!(broker.done(), NOTHING, "the log itself is to be stored");
    broker.store(1);
    assert_eq!(broker.done(), ["#1 watches 0"]);
    broker.publish("c", "one", None);
    broker.publish("c", "two", None);
    broker.ask("c", READ);
    broker.ask("d", READ);
    assert_eq!(broker.done(), NOTHING);
    broker.store(1);
    assert_eq!(broker.done(), ["#2 at 1", "live #1 one"]);
    broker.store(1);
    assert_eq!(broker.done(), ["#3 at 2", "live #1 two", "#4 one two"]);
    broker.store(1);
    assert_eq!(broker.done(), ["#5 "]);
    broker.ask("c", READ);
    assert_eq!(broker.done(), ["#6 one two"], "nothing of it waits");
    assert_eq!(broker.durable.waiting(), 0);
}

#[test]
fn the_same_key_is_the_same_message_also_before_it_is_stored() {
    let mut broker = Broker::new();
    broker.publish("c", "one", Some("k"));
    broker.publish("c", "again", Some("k"));
    broker.store(1);
    assert_eq!(broker.done(), NOTHING);
    broker.store(1);
    assert_eq!(broker.done(), ["#1 at 1", "#2 at 1"]);
    broker.publish("c", "again", Some("k"));
    assert_eq!(broker.done(), ["#3 at 1"]);
    broker.restart();
    broker.publish("c", "again", Some("k"));
    broker.store(9);
    assert_eq!(broker.done(), ["#4 at 1"], "the next process remembers");
    // A clock that was set forward looks like this, and the key is as young as it was.
    broker.now = broker.now + KEY_WINDOW;
    broker.restart();
    broker.publish("c", "again", Some("k"));
    broker.store(9);
    assert_eq!(broker.done(), ["#5 at 1"], "for a whole window from its start on");
    broker.now = broker.now + KEY_WINDOW;
    broker.publish("c", "later", Some("k"));
    broker.store(9);
    assert_eq!(broker.done(), ["#6 at 2"], "and no longer");
}

#[test]
fn what_cannot_be_stored_is_refused_and_reading_goes_on() {
    let mut broker = Broker::new();
    broker.publish("c", "one", None);
    broker.store(9);
    broker.done();
    broker.publish("c", "lost", Some("k"));
    broker.publish("c", "lost, too", Some("k"));
    broker.ask("c", READ);
    broker.ask("new", Op::Watch { since: None });
    broker.refuse();
    assert_eq!(
        broker.done(),
        ["#2 Overloaded", "#3 Overloaded", "#4 one", "#5 watches 0"]
    );
    broker.publish("c", "two", Some("k"));
    broker.publish("new", "first", None);
    broker.store(9);
    assert_eq!(broker.done(), ["#6 at 2", "#7 at 1", "live #5 first"]);
    assert_eq!(broker.restart(), 0);
    let page = broker.page("c", Range::Newest);
    assert_eq!(texts(&page), ["one", "two"]);
    let page = broker.page("new", Range::Newest);
    assert_eq!(texts(&page), ["first"]);
}

#[test]
fn positions_go_on_after_a_restart_also_of_logs_that_are_empty() {
    let mut broker = Broker::new();
    broker.ask("empty", Op::Watch { since: None });
    for text in ["1", "2", "3", "4"] {
        broker.publish("few:1", text, None);
    }
    broker.publish("old", "gone", None);
    broker.store(99);
    let empty = broker.page("empty", Range::Newest).head;
    let few = broker.page("few:1", Range::Newest).head;
    let old = broker.page("old", Range::Newest).head;
    broker.now = broker.now + Duration::from_secs(200);
    broker.publish("few:1", "5", None);
    broker.store(9);
    broker.now = broker.now + Duration::from_secs(200);
    assert_eq!(broker.restart(), 0);
    let page = broker.page("empty", Range::After(empty));
    assert_eq!((page.start, page.head), (PageStart::Continues, empty));
    let page = broker.page("few:1", Range::After(few));
    assert_eq!(
        (page.start, texts(&page)),
        (PageStart::Continues, vec!["5".to_owned()])
    );
    assert_eq!(
        texts(&broker.page("few:1", Range::Newest)),
        ["5"],
        "as old as they are"
    );
    let page = broker.page("old", Range::After(old));
    assert_eq!(
        (page.start, page.head, page.entries.len()),
        (PageStart::Continues, old, 0)
    );
}

#[test]
fn a_forgotten_log_is_not_there_after_a_restart() {
    let mut broker = Broker::new();
    broker.publish("c", "x", None);
    broker.store(9);
    let before = broker.page("c", Range::Newest).head;
    broker.now = broker.now + Duration::from_secs(2 * 3_600);
    broker.durable.handle_timeout(broker.now, 9);
    broker.drain();
    assert_eq!(broker.durable.logs().channels(), 0);
    // The next life begins before the end of the last one is stored: the later one counts.
    broker.publish("c", "y", None);
    let forgotten = broker.written.pop_front();
    assert!(matches!(forgotten, Some((_, Record::Forgotten { .. }))));
    broker.store(9);
    assert_eq!(broker.restart(), 0);
    let page = broker.page("c", Range::After(before));
    assert_eq!(
        (page.start, texts(&page)),
        (PageStart::Reset, vec!["y".to_owned()])
    );
}

#[test]
fn a_full_log_says_now_and_then_what_it_has_forgotten_and_when_time_passes() {
    let mut broker = Broker::new();
    for number in 0..200 {
        broker.publish("few:1", &number.to_string(), None);
        broker.store(9);
    }
    assert_eq!(broker.trimmed, [64, 128, 192]);
    broker.now = broker.now + Duration::from_secs(400);
    broker.durable.handle_timeout(broker.now, 9);
    broker.drain();
    assert_eq!(broker.trimmed, [64, 128, 192, 200]);
}

/// Records of three logs: "a" with 3 entries, "b" with 2, "few:1" with 4 of which 2 are kept.
fn stored() -> Broker {
    let mut broker = Broker::new();
    for text in ["1", "2", "3"] {
        broker.publish("a", text, Some(text));
        broker.publish("few:1", text, None);
    }
    for text in ["1", "2"] {
        broker.publish("b", text, None);
    }
    broker.publish("few:1", "4", None);
    broker.store(99);
    broker
}

fn epoch_of(record: &Record) -> Epoch {
    match record {
        Record::Log { before, .. } => before.epoch,
        Record::Entry { entry, .. } => entry.position.epoch,
        Record::Key { position, .. } => position.epoch,
        Record::Forgotten { epoch } => *epoch,
    }
}

/// Recovers with one record damaged: the channels that are there, and those that are broken.
fn recovered(records: &[Record], damaged: usize, is_known: bool) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut recovery = Recovery::new(3);
    for (index, record) in records.iter().enumerate() {
        match index == damaged {
            true => recovery.handle_damage(is_known.then(|| epoch_of(record))),
            false => recovery.handle_record(record.clone()),
        }
    }
    let recovered = recovery.finish();
    let there = recovered.logs.iter().map(|stored| stored.channel.to_string());
    let broken = recovered.broken.iter();
    let broken = broken.map(|broken| {
        broken
            .channel
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    });
    (there.collect(), broken.collect())
}

#[test]
fn a_damaged_record_breaks_its_log_and_no_other() {
    let broker = stored();
    let all = BTreeSet::from(["a", "b", "few:1"].map(str::to_owned));
    for damaged in 0..broker.store.len() {
        let (there, broken) = recovered(&broker.store, damaged, true);
        let epoch = epoch_of(&broker.store[damaged]);
        let channel = broker.store.iter().find_map(|record| match record {
            Record::Log { channel, before, .. } if before.epoch == epoch => Some(channel.to_string()),
            _ => None,
        });
        let channel = channel.unwrap();
        assert!(!there.contains(&channel));
        assert_eq!(there.len(), all.len() - 1);
        let is_name = matches!(broker.store[damaged], Record::Log { .. });
        let named = if is_name { String::new() } else { channel };
        assert_eq!(broken, BTreeSet::from([named]));
    }
}

#[test]
fn damage_of_which_nothing_is_known_breaks_what_may_have_been_in_it() {
    let broker = stored();
    for damaged in 0..broker.store.len() {
        let (there, broken) = recovered(&broker.store, damaged, false);
        let epoch = epoch_of(&broker.store[damaged]);
        for channel in &there {
            let log = broker.store.iter().find_map(|record| match record {
                Record::Log {
                    channel: of, before, ..
                } if of.as_str() == channel => Some(before.epoch),
                _ => None,
            });
            // Without its oldest entry a log looks as if that had not been wanted any longer, and says `gap`.
            let is_oldest =
                matches!(&broker.store[damaged], Record::Entry { entry, .. } if entry.previous == 0);
            assert!(is_oldest || log != Some(epoch), "the one that was damaged");
            let goes_on = broker.store[damaged + 1..]
                .iter()
                .any(|record| Some(epoch_of(record)) == log);
            assert!(goes_on, "{channel} may have had something there");
        }
        assert!(there.len() + broken.len() <= 3);
        if damaged == 0 {
            assert_eq!(there.len(), 2, "whose later entries show that nothing is missing");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish { channel: usize, key: Option<u8> },
    Read { channel: usize },
    Watch { channel: usize },
    Store { count: usize },
    Refuse,
    Wait { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..3, prop::option::weighted(0.3, 0u8..4)).prop_map(|(channel, key)| Step::Publish { channel, key }),
        2 => (0usize..3).prop_map(|channel| Step::Read { channel }),
        1 => (0usize..3).prop_map(|channel| Step::Watch { channel }),
        6 => (1usize..6).prop_map(|count| Step::Store { count }),
        1 => Just(Step::Refuse),
        1 => (0u64..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

const CHANNELS: [&str; 3] = ["a", "few:b", "c"];

proptest! {
    /// Whatever was acknowledged is in the log, at its place, in every later process; nothing else is but what nobody was told of;
    /// and a reader of an earlier process goes on without a reset.
    #[test]
    fn what_was_acknowledged_survives(steps in prop::collection::vec(step(), 1..120)) {
        let mut broker = Broker::new();
        let mut published: BTreeMap<Ticket, (usize, String, Option<u8>)> = BTreeMap::new();
        // Per channel and offset.
        let mut acknowledged: BTreeMap<(usize, u64), (Position, Ticket)> = BTreeMap::new();
        let mut texts_of: BTreeMap<(Epoch, u64, u32), String> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish { channel, key } => {
                    let text = (broker.tickets + 1).to_string();
                    let word = key.map(|key| key.to_string());
                    let ticket = broker.publish(CHANNELS[channel], &text, word.as_deref());
                    published.insert(ticket, (channel, text, key));
                }
                Step::Read { channel } => drop(broker.ask(CHANNELS[channel], READ)),
                Step::Watch { channel } => drop(broker.ask(CHANNELS[channel], Op::Watch { since: None })),
                Step::Store { count } => broker.store(count),
                Step::Refuse => broker.refuse(),
                Step::Wait { seconds } => broker.now = broker.now + Duration::from_secs(seconds),
                Step::Restart => {
                    prop_assert_eq!(broker.restart(), 0);
                    published.clear();
                }
            }
            for completion in std::mem::take(&mut broker.completions) {
                match completion {
                    Completion::Appended { ticket, result: Ok(position) } => {
                        let (channel, text, key) = &published[&ticket];
                        let (first, _) = *acknowledged
                            .entry((*channel, position.offset))
                            .or_insert((position, ticket));
                        prop_assert_eq!(first, position, "one message at one place");
                        if key.is_none() {
                            let known = texts_of.entry(place(&position)).or_insert_with(|| text.clone());
                            prop_assert_eq!(&*known, text);
                        }
                    }
                    Completion::Live { entries, .. } => for entry in entries {
                        let stored = broker.store.iter().any(|record| matches!(record, Record::Entry { entry: of, .. } if *of == entry));
                        prop_assert!(stored, "live before it was stored");
                    },
                    Completion::Read { result: Ok(page), .. } => for entry in &page.entries {
                        let stored = broker.store.iter().any(|record| matches!(record, Record::Entry { entry: of, .. } if of == entry));
                        prop_assert!(stored, "read before it was stored");
                    },
                    _ => {}
                }
            }
        }
        prop_assert_eq!(broker.restart(), 0);
        for (channel, name) in CHANNELS.into_iter().enumerate() {
            let own = acknowledged.range((channel, 0)..=(channel, u64::MAX));
            let Some((_, (newest, _))) = own.clone().next_back() else { continue };
            let page = broker.page(name, Range::After(*newest));
            prop_assert_ne!(page.start, PageStart::Reset);
            let page = broker.page(name, Range::After(Position::start(newest.epoch)));
            for (_, (position, _)) in own {
                let kept = page.entries.iter().find(|entry| entry.position.offset == position.offset);
                match kept {
                    Some(entry) => {
                        prop_assert_eq!(entry.position, *position);
                        if let Some(text) = texts_of.get(&place(position)) {
                            prop_assert_eq!(entry.payload.as_str(), Some(text.as_str()));
                        }
                    }
                    // Trimmed: by count or by age, and then everything before it, too.
                    None => prop_assert!(position.offset <= page.begin.offset),
                }
            }
        }
    }
}

fn place(position: &Position) -> (Epoch, u64, u32) {
    (position.epoch, position.offset, position.tag)
}

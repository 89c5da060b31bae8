//! Who published what, and what stands where in which log: everything that all logs together say of it.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;

use super::words;
use super::{Court, Where};
use crate::event::{Client, Message, Name, What};
use crate::place::Place;
use crate::verdict::Rule;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    pub(super) publications: Map<Message, Publication>,
    /// By epoch.
    pub(super) lives: Map<u64, Life>,
}

/// What its publisher says of a message.
#[derive(Clone, Copy)]
pub(super) struct Publication {
    pub(super) channel: Name,
    pub(super) conflate: Option<Name>,
    pub(super) invoked_at: u64,
    pub(super) answer: Answer,
    pub(super) client: Client,
    /// Of the event in the client's log.
    pub(super) index: u32,
}

impl Publication {
    /// When its publisher knew what had become of it.
    pub(super) fn answered_at(&self) -> u64 {
        match self.answer {
            Answer::Acknowledged { at, .. } => at,
            Answer::Outstanding | Answer::Refused | Answer::Unknown => u64::MAX,
        }
    }
}

/// Where it was said.
pub(super) fn whose(publication: &Publication) -> Where {
    Where {
        channel: Some(publication.channel),
        client: Some(publication.client),
        stream: None,
        at: Some(publication.invoked_at),
        index: Some(publication.index as usize),
    }
}

/// What the server said to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Outstanding,
    /// Of this life of its log.
    Acknowledged {
        at: u64,
        epoch: u64,
    },
    Refused,
    Unknown,
}

/// One life of a log, as far as anyone saw it.
pub(super) struct Life {
    pub(super) channel: Name,
    /// When anything of it was said or seen for the first time.
    pub(super) seen_at: u64,
    /// In the order of offsets.
    pub(super) entries: Vec<Entry>,
    places: Map<u64, u32>,
}

/// A message at its place.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) offset: u64,
    tag: u32,
    pub(super) message: Message,
    /// When anyone saw it for the first time.
    pub(super) seen_at: u64,
    /// When it, or what stands before it, was said last: at that moment it was not there yet.
    said_at: u64,
    /// In the final history.
    pub(super) is_kept: bool,
}

impl Life {
    /// The first entry behind `offset`, as a place in `entries`.
    pub(super) fn behind(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset <= offset)
    }

    /// Whether this place has another tag than the message that stands there.
    pub(super) fn is_misnamed(&self, place: Place) -> bool {
        let entry = self.entries.get(self.behind(place.offset.saturating_sub(1)));
        entry.is_some_and(|entry| entry.offset == place.offset && entry.tag != place.tag)
    }

    /// The last offset that may have been there at this moment; nothing is known where nobody said anything later.
    pub(super) fn head_at_most(&self, at: u64) -> Option<u64> {
        let later = self.entries.partition_point(|entry| entry.said_at <= at);
        self.entries
            .get(later)
            .map(|entry| entry.offset.saturating_sub(1))
    }

    /// The entries between two offsets, without both.
    pub(super) fn between(&self, after: u64, before: u64) -> &[Entry] {
        let from = self.behind(after);
        let to = self.entries.partition_point(|entry| entry.offset < before);
        self.entries.get(from..to).unwrap_or_default()
    }
}

impl Book {
    /// Reads all logs and final histories.
    pub(super) fn read(&mut self, court: &mut Court<'_>) {
        let history = court.history;
        for (number, log) in history.logs().iter().enumerate() {
            let client = Client(number as u32);
            for (index, event) in log.events.iter().enumerate() {
                self.read_publication(court, client, index, event.at, &event.what);
            }
        }
        for (number, log) in history.logs().iter().enumerate() {
            let client = Client(number as u32);
            // Of the streams, by their numbers.
            let mut channels: Map<u32, Name> = Map::default();
            for (index, event) in log.events.iter().enumerate() {
                let mut found = Where {
                    client: Some(client),
                    stream: event.what.stream(),
                    at: Some(event.at),
                    index: Some(index),
                    channel: None,
                };
                match event.what {
                    What::Subscribing { stream, channel, .. } => {
                        channels.insert(stream.0, channel);
                    }
                    What::Received {
                        stream,
                        place,
                        message,
                        ..
                    } => {
                        // A stream that was never asked for is told of elsewhere.
                        let Some(channel) = channels.get(&stream.0) else {
                            continue;
                        };
                        found.channel = Some(*channel);
                        self.enter(court, found, place, message, false);
                    }
                    What::Acknowledged { message, place } => {
                        found.channel = self
                            .publications
                            .get(&message)
                            .map(|publication| publication.channel);
                        self.enter(court, found, place, message, false);
                    }
                    _ => {}
                }
            }
        }
        for last in &history.finals {
            for (place, message) in &last.entries {
                let found = Where {
                    channel: Some(last.channel),
                    ..Where::default()
                };
                self.enter(court, found, *place, *message, true);
            }
        }
        for life in self.lives.values_mut() {
            life.places = Map::default();
            life.entries.sort_unstable_by_key(|entry| entry.offset);
            let mut last = 0;
            for entry in &mut life.entries {
                entry.said_at = entry.said_at.max(last);
                last = entry.said_at;
            }
        }
        court.counts.publications = self.publications.len() as u64;
    }

    fn read_publication(
        &mut self,
        court: &mut Court<'_>,
        client: Client,
        index: usize,
        at: u64,
        what: &What,
    ) {
        let (message, answer) = match *what {
            What::Invoked {
                message,
                channel,
                conflate,
                ..
            } => {
                let publication = Publication {
                    channel,
                    conflate,
                    invoked_at: at,
                    answer: Answer::Outstanding,
                    client,
                    index: index as u32,
                };
                if self.publications.insert(message, publication).is_some() {
                    let name = words::message(court.history, message);
                    let found = whose(&publication);
                    court.tell(Rule::Once, found, format!("{name} is said for the second time"));
                }
                return;
            }
            What::Acknowledged { message, place } => {
                let epoch = place.epoch;
                (message, Answer::Acknowledged { at, epoch })
            }
            What::Refused { message } => (message, Answer::Refused),
            What::Unknown { message } => (message, Answer::Unknown),
            _ => return,
        };
        let found = Where {
            client: Some(client),
            at: Some(at),
            index: Some(index),
            ..Where::default()
        };
        let name = words::message(court.history, message);
        match self.publications.get_mut(&message) {
            Some(publication) if publication.answer == Answer::Outstanding => publication.answer = answer,
            Some(_) => court.tell(Rule::Once, found, format!("{name} was answered twice")),
            None => court.tell(
                Rule::Genuine,
                found,
                format!("{name} was answered, and was never said"),
            ),
        }
        if let Answer::Acknowledged { .. } = answer {
            court.counts.acknowledged += 1;
        }
    }

    /// Somebody says that `message` is at `place`.
    fn enter(&mut self, court: &mut Court<'_>, found: Where, place: Place, message: Message, is_kept: bool) {
        let history = court.history;
        // A final history is read when everything is over.
        let at = found.at.unwrap_or(u64::MAX);
        let channel = found.channel;
        let life = self.lives.entry(place.epoch).or_insert_with(|| Life {
            // Of a message that nobody said; told of elsewhere.
            channel: channel.unwrap_or(Name(u32::MAX)),
            seen_at: at,
            entries: Vec::new(),
            places: Map::default(),
        });
        // It was there when its first message was said, or soon after.
        let invoked_at = self.publications.get(&message).map(|said| said.invoked_at);
        life.seen_at = life.seen_at.min(at).min(invoked_at.unwrap_or(at));
        if channel.is_some_and(|channel| channel != life.channel) {
            let what = format!(
                "a life of the log of {} is also one of another channel",
                history.text(life.channel)
            );
            court.tell(Rule::OneName, found, what);
            return;
        }
        match life.places.entry(place.offset) {
            Slot::Vacant(slot) => {
                slot.insert(life.entries.len() as u32);
                life.entries.push(Entry {
                    offset: place.offset,
                    tag: place.tag,
                    message,
                    seen_at: at,
                    said_at: invoked_at.unwrap_or(0),
                    is_kept,
                });
            }
            Slot::Occupied(slot) => {
                let entry = &mut life.entries[*slot.get() as usize];
                entry.seen_at = entry.seen_at.min(at);
                entry.is_kept |= is_kept;
                if entry.message == message && entry.tag == place.tag {
                    return;
                }
                let source = match (found.client, is_kept) {
                    (_, true) => "the final history".to_owned(),
                    (Some(client), false) => history.client_name(client).to_owned(),
                    (None, false) => "somebody".to_owned(),
                };
                let known = words::message(history, entry.message);
                let said = words::message(history, message);
                let at = words::place(place);
                let what = match entry.message == message {
                    true => format!("{at} is {known} with one tag for some, and with another for {source}"),
                    false => format!("{at} is {known} for some, and {said} for {source}"),
                };
                court.tell(Rule::OneName, found, what);
            }
        }
    }
}

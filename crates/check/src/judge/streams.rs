//! What each subscriber saw: rules 1, 3, 4, 8, and the head of rule 10.
//!
//! A stream is a cursor over a log, over all connections of its client. What moves it on is a message, a gap or a reset; everything between
//! two places of the cursor must have been told.

use std::collections::BTreeMap;

use super::book::{Answer, Book, Life};
use super::words;
use super::{Court, Where};
use crate::event::{Client, Event, Message, Name, Stream, What};
use crate::history::Final;
use crate::place::Place;
use crate::verdict::Rule;

pub(super) fn check(court: &mut Court<'_>, book: &Book) {
    let history = court.history;
    let mut finals = BTreeMap::new();
    for last in &history.finals {
        finals.insert(last.channel, last);
    }
    for (number, log) in history.logs().iter().enumerate() {
        let mut reading = Reading {
            court,
            book,
            finals: &finals,
            client: Client(number as u32),
            connected_at: 0,
            streams: BTreeMap::new(),
        };
        for (index, event) in log.events.iter().enumerate() {
            reading.read(index, event);
        }
        if let Some(Event {
            at,
            what: What::Ended,
        }) = log.events.last()
        {
            reading.end(*at);
        }
    }
}

/// One client's log, read from its beginning.
struct Reading<'c, 'h> {
    court: &'c mut Court<'h>,
    book: &'c Book,
    finals: &'c BTreeMap<Name, &'h Final>,
    client: Client,
    connected_at: u64,
    streams: BTreeMap<Stream, Subscriber>,
}

/// One stream.
struct Subscriber {
    channel: Name,
    conflates: bool,
    phase: Phase,
    /// Where the cursor is; nowhere before the server has answered.
    place: Option<Place>,
    subscribed: bool,
    /// Lives that are over.
    past: Vec<u64>,
    /// What `subscribed` said of what comes next.
    announced: Option<bool>,
    /// When it was asked for.
    asked_at: u64,
    /// When it was asked for again, if that was written down and is not answered.
    asked: Option<u64>,
    /// When it came into this life of the log.
    since_at: u64,
    /// Of each conflation key, the newest message that was left out for a newer one. Those without a key are of one key, too.
    left_out: BTreeMap<Option<Name>, u64>,
    /// … and the newest that came.
    came: BTreeMap<Option<Name>, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Unsubscribed,
    Closed,
}

impl Reading<'_, '_> {
    fn read(&mut self, index: usize, event: &Event) {
        let what = event.what;
        match what {
            What::Connected => self.connected_at = event.at,
            // What was announced would have come by this connection. The next one announces anew, if it tells at all.
            What::Disconnected => {
                for subscriber in self.streams.values_mut() {
                    subscriber.announced = None;
                }
            }
            _ => {}
        }
        let Some(number) = what.stream() else { return };
        let mut found = Where {
            channel: None,
            client: Some(self.client),
            stream: Some(number),
            at: Some(event.at),
            index: Some(index),
        };
        if let What::Subscribing {
            channel,
            since,
            conflates,
            ..
        } = what
        {
            self.court.counts.streams += 1;
            let subscriber = Subscriber {
                channel,
                conflates,
                phase: Phase::Open,
                place: since,
                subscribed: false,
                past: Vec::new(),
                announced: None,
                asked_at: event.at,
                asked: None,
                since_at: event.at,
                left_out: BTreeMap::new(),
                came: BTreeMap::new(),
            };
            if self.streams.insert(number, subscriber).is_some() {
                found.channel = Some(channel);
                let what =
                    "it subscribes under a number that it used before, so what came then cannot be judged";
                self.court.tell(Rule::Complete, found, what.to_owned());
            }
            return;
        }
        let Some(mut subscriber) = self.streams.remove(&number) else {
            let what = "something came for a subscription that nobody asked for".to_owned();
            return self.court.tell(Rule::Genuine, found, what);
        };
        found.channel = Some(subscriber.channel);
        if let What::Subscribed { place, .. } | What::Gap { place, .. } | What::Reset { place, .. } = what
            && self.life(place).is_some_and(|life| life.is_misnamed(place))
        {
            let what = format!("{} has another tag for others", words::place(place));
            self.court.tell(Rule::OneName, found, what);
        }
        if let What::Subscribed { place, .. } | What::Gap { place, .. } | What::Reset { place, .. } = what
            && let Some(last) = self.finals.get(&subscriber.channel)
            && last.head.epoch == place.epoch
            && last.head.offset < place.offset
        {
            let end = words::place(last.head);
            let what = format!("{} is behind the end of the log, {end}", words::place(place));
            self.court.tell(Rule::OneName, found, what);
        }
        match what {
            What::Subscribed { place, recovered, .. } => {
                self.handle_subscribed(&mut subscriber, found, place, recovered);
            }
            What::Received {
                place,
                message,
                channel,
                ..
            } => self.handle_received(&mut subscriber, found, place, message, channel),
            What::Altered { place, .. } => {
                let what = "what came is not what anyone said".to_owned();
                self.court.tell(Rule::Genuine, found, what);
                self.advance(&mut subscriber, found, place);
            }
            What::Gap {
                from,
                place,
                conflated,
                ..
            } => self.handle_gap(&mut subscriber, found, from, place, conflated),
            What::Reset { place, .. } => self.handle_reset(&mut subscriber, found, place),
            What::Asked { .. } => {
                subscriber.asked = Some(event.at);
                // By HTTP a client asks in another request because it wants other channels too: what was announced in the one
                // before does not come any more.
                subscriber.announced = None;
            }
            What::Unsubscribed { .. } => {
                self.check_left(&subscriber, found);
                subscriber.phase = Phase::Unsubscribed;
            }
            What::Closed { .. } => subscriber.phase = Phase::Closed,
            _ => {}
        }
        self.streams.insert(number, subscriber);
    }

    fn handle_subscribed(
        &mut self,
        subscriber: &mut Subscriber,
        found: Where,
        place: Place,
        recovered: Option<bool>,
    ) {
        let again = std::mem::replace(&mut subscriber.subscribed, true);
        self.court.counts.resumes += u64::from(again);
        match subscriber.asked.take() {
            Some(asked_at) => subscriber.asked_at = asked_at,
            None if again => subscriber.asked_at = self.connected_at,
            None => {}
        }
        let Some(was) = subscriber.place else {
            subscriber.place = Some(place);
            return;
        };
        self.handle_silence(subscriber, found);
        subscriber.announced = recovered;
        if recovered == Some(false) {
            self.check_announced(subscriber, found, was, place);
        }
        if recovered == Some(true) && place != was {
            let what = format!(
                "it is told that nothing is missing, from {} on; it was at {}",
                words::place(place),
                words::place(was)
            );
            self.court.tell(Rule::Complete, found, what);
        }
    }

    /// Nothing is said to be missing of what the log held. (That it holds what it no longer can hold, it may say: to whoever comes back soon
    /// goes what was read for it before.)
    fn check_announced(&mut self, subscriber: &Subscriber, found: Where, was: Place, place: Place) {
        let last = self.finals.get(&subscriber.channel);
        let lives = |last: &&&Final| last.head.epoch == was.epoch && place.epoch == was.epoch;
        let next = was.offset.saturating_add(1);
        if let Some(last) = last.filter(lives)
            && self.head_while_held(last, was, next, found.at).is_some()
        {
            let what = format!(
                "it is told that something is missing behind {}, and the log held all of it",
                was.offset
            );
            self.court.tell(Rule::Complete, found, what);
        }
    }

    /// Where a life of a log, that of `of`, ended at most, if it has to have held `offset` still at that moment.
    fn head_while_held(&self, last: &Final, of: Place, offset: u64, at: Option<u64>) -> Option<u64> {
        let head = self.life(of).and_then(|life| life.head_at_most(at?));
        let head = head.or_else(|| (last.head.epoch == of.epoch).then_some(last.head.offset))?;
        let least = self.court.history.promises.log_messages_min;
        (head < offset.saturating_add(least)).then_some(head)
    }

    /// Something else than a gap or a reset came behind `subscribed`.
    fn handle_silence(&mut self, subscriber: &mut Subscriber, found: Where) {
        if subscriber.announced.take() == Some(false) {
            let what =
                "it was told that something is missing, and neither a gap nor a reset followed".to_owned();
            self.court.tell(Rule::Complete, found, what);
        }
    }

    fn handle_received(
        &mut self,
        subscriber: &mut Subscriber,
        found: Where,
        place: Place,
        message: Message,
        channel: Name,
    ) {
        self.court.counts.deliveries += 1;
        self.check_genuine(subscriber, found, message, channel);
        self.check_wanted(subscriber, found);
        self.check_prompt(found, place, message);
        // Where messages are left out for newer ones, others may come before the gap.
        if !subscriber.conflates && self.court.history.promises.resyncs {
            self.handle_silence(subscriber, found);
        }
        // A gap behind it is one of a slow reader.
        subscriber.announced = subscriber.announced.filter(|recovered| !recovered);
        if let Some(said) = self.book.publications.get(&message) {
            subscriber.came.insert(said.conflate, place.offset);
        }
        self.advance(subscriber, found, place);
    }

    /// Rule 1.
    fn check_genuine(&mut self, subscriber: &Subscriber, found: Where, message: Message, channel: Name) {
        let history = self.court.history;
        let name = words::message(history, message);
        let Some(publication) = self.book.publications.get(&message) else {
            return self
                .court
                .tell(Rule::Genuine, found, format!("nobody said {name}"));
        };
        for other in [channel, publication.channel] {
            if other != subscriber.channel {
                let what = format!("{name} was said to {}", history.text(other));
                return self.court.tell(Rule::Genuine, found, what);
            }
        }
        if found.at.is_some_and(|at| at < publication.invoked_at) {
            self.court
                .tell(Rule::Genuine, found, format!("{name} came before it was said"));
        }
    }

    /// Rule 8.
    fn check_wanted(&mut self, subscriber: &Subscriber, found: Where) {
        let over = match subscriber.phase {
            Phase::Open => None,
            Phase::Unsubscribed => Some("it came after the end of the subscription"),
            Phase::Closed => Some("it came after the server had ended the subscription"),
        };
        if let Some(what) = over {
            self.court.tell(Rule::Ended, found, what.to_owned());
        }
        let history = self.court.history;
        let allowed = history.promises.revocation.as_micros() as u64;
        let at = found.at.unwrap_or(0);
        let mut revocations = history.revocations.iter();
        let late = revocations.find(|revocation| {
            revocation.client == self.client
                && revocation.channel == subscriber.channel
                && at > revocation.at.saturating_add(allowed)
        });
        if let Some(revocation) = late {
            let ago = at - revocation.at;
            let what = format!("it came {ago} µs after the right to hear of the channel was taken away");
            self.court.tell(Rule::Ended, found, what);
        }
    }

    /// Rule 10, of a message: it is not late once everything is calm.
    fn check_prompt(&mut self, found: Where, place: Place, message: Message) {
        let history = self.court.history;
        let at = found.at.unwrap_or(0);
        let Some(publication) = self.book.publications.get(&message) else {
            return;
        };
        let Answer::Acknowledged {
            at: acknowledged_at, ..
        } = publication.answer
        else {
            return;
        };
        let began = history.calm_since().max(acknowledged_at).max(self.connected_at);
        let late = at.saturating_sub(began);
        if late > history.promises.quiet.as_micros() as u64 {
            let what = format!("{} came {late} µs after everything was calm", words::place(place));
            self.court.tell(Rule::Live, found, what);
        }
    }

    /// A message is at `place`: rules 3, 4 and 8.
    fn advance(&mut self, subscriber: &mut Subscriber, found: Where, place: Place) {
        let Some(was) = subscriber.place.replace(place) else {
            let what = "it came before the server had answered that it is subscribed".to_owned();
            return self.court.tell(Rule::Increasing, found, what);
        };
        if !subscriber.subscribed {
            subscriber.subscribed = true;
            let what = "it came before the server had answered that it is subscribed".to_owned();
            self.court.tell(Rule::Increasing, found, what);
        }
        if place.epoch != was.epoch {
            return match subscriber.past.contains(&place.epoch) {
                true => {
                    // The cursor stays in the life that goes on.
                    subscriber.place = Some(was);
                    let what = format!(
                        "{} came after a reset: that life of the log is over",
                        words::place(place)
                    );
                    self.court.tell(Rule::Ended, found, what);
                }
                false => {
                    subscriber.past.push(was.epoch);
                    let what = format!(
                        "{} came behind {} without a reset",
                        words::place(place),
                        words::place(was)
                    );
                    self.court.tell(Rule::Complete, found, what);
                }
            };
        }
        if place.offset <= was.offset {
            // What came before is no measure for what comes next.
            subscriber.place = Some(was);
            let what = match place.offset == was.offset {
                true => format!("{} came twice", words::place(place)),
                false => format!("{} came behind {}", words::place(place), was.offset),
            };
            return self.court.tell(Rule::Increasing, found, what);
        }
        self.check_hole(found, was, place.offset, "nothing was told of it");
    }

    /// Rule 4: everything between `was` and `next` is missing.
    fn check_hole(&mut self, found: Where, was: Place, next: u64, told: &str) {
        if next == was.offset.saturating_add(1) {
            return;
        }
        let missing = self
            .life(was)
            .map_or(&[][..], |life| life.between(was.offset, next));
        let what = match missing {
            [] if !self.court.history.promises.dense => return,
            [] => format!(
                "{next} came behind {}, and offsets have no holes; {told}",
                was.offset
            ),
            missing => {
                let names: Vec<String> = missing
                    .iter()
                    .take(5)
                    .map(|entry| {
                        format!(
                            "{} ({})",
                            entry.offset,
                            words::message(self.court.history, entry.message)
                        )
                    })
                    .collect();
                let more = if missing.len() > names.len() { ", …" } else { "" };
                let names = names.join(", ");
                format!(
                    "{next} came behind {}; the log has {names}{more} between them, and {told}",
                    was.offset
                )
            }
        };
        self.court.tell(Rule::Complete, found, what);
    }

    fn handle_gap(
        &mut self,
        subscriber: &mut Subscriber,
        found: Where,
        from: u64,
        place: Place,
        conflated: bool,
    ) {
        self.court.counts.gaps += 1;
        self.check_wanted(subscriber, found);
        let announced = subscriber.announced.take();
        if announced == Some(true) && !conflated && self.was_gone(place, from, subscriber.asked_at) {
            let what = "it was told that nothing is missing, and a gap followed at once".to_owned();
            self.court.tell(Rule::Complete, found, what);
        }
        let Some(was) = subscriber.place.replace(place) else {
            let what = "a gap came before the server had answered that it is subscribed".to_owned();
            return self.court.tell(Rule::Complete, found, what);
        };
        if place.epoch != was.epoch {
            let what = format!("a gap to {} came at {}", words::place(place), words::place(was));
            return self.court.tell(Rule::Complete, found, what);
        }
        if from <= was.offset || place.offset < from {
            let what = format!("a gap from {from} to {} came at {}", place.offset, was.offset);
            return self.court.tell(Rule::Complete, found, what);
        }
        self.check_hole(found, was, from, "the gap does not cover it");
        if conflated {
            if self.court.history.promises.resyncs && !subscriber.conflates {
                let what = "messages were left out for newer ones, and nobody asked for that".to_owned();
                self.court.tell(Rule::Complete, found, what);
            }
            self.leave_out(subscriber, was, place);
            return;
        }
        // A newer one may be among what the log had forgotten.
        if let Some(life) = self.life(place) {
            for entry in life.between(was.offset, place.offset.saturating_add(1)) {
                if let Some(said) = self.book.publications.get(&entry.message) {
                    subscriber.came.insert(said.conflate, entry.offset);
                }
            }
        }
        // Whoever resumes reads from the log, also where it is not to read what it was too slow for.
        if self.court.history.promises.resyncs || announced == Some(false) {
            self.check_gone(subscriber, found, from, place);
        }
    }

    /// Whether the log cannot have held this message any more at that moment, because it had so many behind it.
    fn was_gone(&self, place: Place, offset: u64, at: u64) -> bool {
        let promises = &self.court.history.promises;
        // What another server has trimmed, this one may not know yet.
        let most = promises.log_messages_max.filter(|_| promises.alone);
        let (Some(most), Some(life)) = (most, self.life(place)) else {
            return false;
        };
        let behind = &life.entries[life.behind(offset.saturating_add(most).saturating_sub(1))..];
        behind.iter().any(|entry| entry.seen_at < at)
    }

    /// A gap over what the log still holds, or held then, is as wrong as a hole.
    fn check_gone(&mut self, subscriber: &Subscriber, found: Where, from: u64, place: Place) {
        let Some(last) = self.finals.get(&subscriber.channel) else {
            return;
        };
        if let Some(head) = self.head_while_held(last, place, place.offset, found.at) {
            let least = self.court.history.promises.log_messages_min;
            let what = format!(
                "the gap from {from} to {} covers what the log held: it ended at {head} at most, and keeps {least}",
                place.offset
            );
            return self.court.tell(Rule::Complete, found, what);
        }
        if last.head.epoch == place.epoch && last.kept_from <= place.offset && from <= last.head.offset {
            let what = format!(
                "the gap from {from} to {} covers what the log holds still at the end, from {} on",
                place.offset, last.kept_from
            );
            self.court.tell(Rule::Complete, found, what);
        }
    }

    fn leave_out(&self, subscriber: &mut Subscriber, was: Place, place: Place) {
        let Some(life) = self.life(place) else { return };
        // Messages without a key are of one key, too.
        for entry in life.between(was.offset, place.offset.saturating_add(1)) {
            if let Some(said) = self.book.publications.get(&entry.message) {
                subscriber.left_out.insert(said.conflate, entry.offset);
            }
        }
    }

    fn handle_reset(&mut self, subscriber: &mut Subscriber, found: Where, place: Place) {
        self.court.counts.resets += 1;
        self.check_wanted(subscriber, found);
        let at = found.at.unwrap_or(0);
        let asked_at = subscriber.asked_at;
        // What another server has lost, this one may not know yet.
        let knows = self.court.history.promises.alone && !self.court.history.may_have_lost(asked_at, at);
        if subscriber.announced.take() == Some(true) && knows {
            let what = "it was told that nothing is missing, and a reset followed at once".to_owned();
            self.court.tell(Rule::Complete, found, what);
        }
        subscriber.left_out.clear();
        let since_at = std::mem::replace(&mut subscriber.since_at, at);
        let Some(was) = subscriber.place.replace(place) else {
            let what = "a reset came before the server had answered that it is subscribed".to_owned();
            return self.court.tell(Rule::Complete, found, what);
        };
        if place.epoch == was.epoch {
            let what = format!(
                "a reset, and the log lives on: {} behind {}",
                words::place(place),
                words::place(was)
            );
            return self.court.tell(Rule::Complete, found, what);
        }
        if subscriber.past.contains(&place.epoch) {
            let what = format!(
                "a reset back to {}: that life of the log is over",
                words::place(place)
            );
            self.court.tell(Rule::Ended, found, what);
        }
        subscriber.past.push(was.epoch);
        // Nobody knows of a message in it. What a full disk did not take of such a log is its name.
        let was_empty = was.offset == 0 && self.life(was).is_none();
        let seen_at = self.life(was).map_or(0, |life| life.seen_at);
        if !was_empty && !self.court.history.may_have_lost(seen_at.min(since_at), at) {
            let what = "the log began anew, and nothing was done that may cost it".to_owned();
            self.court.tell(Rule::Kept, found, what);
        }
    }

    fn life(&self, place: Place) -> Option<&Life> {
        self.book.lives.get(&place.epoch)
    }

    /// Whoever leaves, long after everything was calm, has everything that was acknowledged long before.
    fn check_left(&mut self, subscriber: &Subscriber, found: Where) {
        let history = self.court.history;
        let (Some(place), Some(at)) = (subscriber.place, found.at) else {
            return;
        };
        let there = history
            .calm_since()
            .max(self.connected_at)
            .max(subscriber.asked_at);
        let quiet = history.promises.quiet.as_micros() as u64;
        let mut missing = self
            .life(place)
            .map_or(&[][..], |life| life.between(place.offset, u64::MAX))
            .iter();
        let late = missing.find(|entry| {
            let said = self.book.publications.get(&entry.message);
            said.is_some_and(|said| at.saturating_sub(there.max(said.answered_at())) > quiet)
        });
        if let Some(entry) = late {
            let name = words::message(history, entry.message);
            let what = format!(
                "{name}, at {}, was acknowledged and had not come when it left",
                entry.offset
            );
            self.court.tell(Rule::Kept, found, what);
        }
    }

    /// The client was there to the end, when everything had been quiet for long enough.
    fn end(&mut self, at: u64) {
        for (number, mut subscriber) in std::mem::take(&mut self.streams) {
            if subscriber.phase != Phase::Open {
                continue;
            }
            let found = Where {
                channel: Some(subscriber.channel),
                client: Some(self.client),
                stream: Some(number),
                at: Some(at),
                index: self.court.history.logs()[self.client.0 as usize]
                    .events
                    .len()
                    .checked_sub(1),
            };
            self.handle_silence(&mut subscriber, found);
            let place = subscriber.place.filter(|_| subscriber.subscribed);
            let Some(place) = place else {
                let what = "the server never answered that it is subscribed".to_owned();
                self.court.tell(Rule::Live, found, what);
                continue;
            };
            self.check_newest(&subscriber, found, place);
            let Some(last) = self.finals.get(&subscriber.channel) else {
                continue;
            };
            if last.head.epoch != place.epoch {
                let what = format!(
                    "at the end it was at {}, and the log at {}",
                    words::place(place),
                    words::place(last.head)
                );
                self.court.tell(Rule::Live, found, what);
                continue;
            }
            if last.head.offset <= place.offset {
                continue;
            }
            let missing = self
                .life(place)
                .map_or(&[][..], |life| life.between(place.offset, u64::MAX));
            let acknowledged = missing.iter().find(|entry| {
                let publication = self.book.publications.get(&entry.message);
                publication
                    .is_some_and(|publication| matches!(publication.answer, Answer::Acknowledged { .. }))
            });
            if let Some(entry) = acknowledged {
                let name = words::message(self.court.history, entry.message);
                let what = format!("{name}, at {}, was acknowledged and never came", entry.offset);
                self.court.tell(Rule::Kept, found, what);
            }
            let what = format!(
                "at the end it was at {}, and the log at {}",
                place.offset, last.head.offset
            );
            self.court.tell(Rule::Live, found, what);
        }
    }

    /// Where messages were left out for newer ones, the newest came.
    fn check_newest(&mut self, subscriber: &Subscriber, found: Where, place: Place) {
        for (key, left_out) in &subscriber.left_out {
            let came = subscriber.came.get(key).copied().unwrap_or(0);
            if came < *left_out && *left_out <= place.offset {
                let key = match key {
                    Some(key) => format!("of the conflation key {}", self.court.history.text(*key)),
                    None => "without a conflation key".to_owned(),
                };
                let what = format!("{left_out}, {key}, was left out, and no newer one came");
                self.court.tell(Rule::Complete, found, what);
            }
        }
    }
}

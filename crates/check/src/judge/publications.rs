//! What became of what was said: rules 5, 6 and 7, and the answers of rule 10.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::book::{Answer, Book, Life, Publication, whose};
use super::words;
use super::{Court, Where};
use crate::event::{Event, Message, Name, What};
use crate::history::Final;
use crate::place::Place;
use crate::verdict::Rule;

pub(super) fn check(court: &mut Court<'_>, book: &Book) {
    let finals: BTreeMap<Name, &Final> = court
        .history
        .finals
        .iter()
        .map(|last| (last.channel, last))
        .collect();
    // In one order, so that the verdict is one.
    let mut lives: Vec<(&u64, &Life)> = book.lives.iter().collect();
    lives.sort_unstable_by_key(|(epoch, life)| (life.channel, life.seen_at, **epoch));
    check_appearances(court, book, &lives);
    for (epoch, life) in &lives {
        check_order(court, book, **epoch, life);
        if let Some(last) = finals.get(&life.channel) {
            check_kept(court, book, **epoch, life, last);
        }
    }
    for last in finals.values() {
        check_dense(court, last);
    }
    check_read(court, book, &finals);
    check_answers(court, book);
}

/// Rule 7: a message appears once in a life of a log, and a refused one never.
fn check_appearances(court: &mut Court<'_>, book: &Book, lives: &[(&u64, &Life)]) {
    let mut first: HashMap<Message, (usize, u64), foldhash::fast::FixedState> = HashMap::default();
    for (number, (_, life)) in lives.iter().enumerate() {
        for entry in &life.entries {
            let Some(publication) = book.publications.get(&entry.message) else {
                if entry.is_kept {
                    let name = words::message(court.history, entry.message);
                    let found = Where {
                        channel: Some(life.channel),
                        ..Where::default()
                    };
                    let what = format!(
                        "{name} is in the final history, at {}, and nobody said it",
                        entry.offset
                    );
                    court.tell(Rule::Genuine, found, what);
                }
                continue;
            };
            let name = words::message(court.history, entry.message);
            if publication.channel != life.channel {
                let what = format!(
                    "{name} was said to {}, and is in the log of another channel at {}",
                    court.history.text(publication.channel),
                    entry.offset
                );
                court.tell(Rule::Genuine, whose(publication), what);
            }
            if publication.answer == Answer::Refused {
                let what = format!("{name} was refused, and is in the log at {}", entry.offset);
                court.tell(Rule::Once, whose(publication), what);
            }
            // Where a log was lost, so was what it knew of keys.
            if let Some((other, offset)) = first.insert(entry.message, (number, entry.offset))
                && other == number
            {
                let what = format!("{name} is in the log twice, at {offset} and at {}", entry.offset);
                court.tell(Rule::Once, whose(publication), what);
            }
        }
    }
}

/// Rule 6.
fn check_order(court: &mut Court<'_>, book: &Book, epoch: u64, life: &Life) {
    // A copy that was on its way for long comes into the next life, where nothing is known of the first one.
    let is_late =
        |said: &Publication| matches!(said.answer, Answer::Acknowledged { epoch: of, .. } if of != epoch);
    // Of what is behind the entry, what was acknowledged first.
    let mut earliest: Option<(u64, Message, u64)> = None;
    for entry in life.entries.iter().rev() {
        let Some(publication) = book.publications.get(&entry.message) else {
            continue;
        };
        if let Some((acknowledged_at, message, offset)) = earliest
            && acknowledged_at < publication.invoked_at
            && !is_late(publication)
        {
            let before = words::message(court.history, message);
            let after = words::message(court.history, entry.message);
            let what = format!(
                "{after} was said after {before} was acknowledged, and stands before it: at {} and {offset}",
                entry.offset
            );
            court.tell(Rule::Ordered, whose(publication), what);
        }
        if let Answer::Acknowledged { at, .. } = publication.answer
            && !is_late(publication)
            && earliest.is_none_or(|(earliest, ..)| at < earliest)
        {
            earliest = Some((at, entry.message, entry.offset));
        }
    }
    if !court.history.promises.ordered {
        return;
    }
    let mut last: HashMap<Name, (u32, u64), foldhash::fast::FixedState> = HashMap::default();
    for entry in &life.entries {
        let Message { publisher, number } = entry.message;
        // What nobody knows of may arrive when its publisher has long gone on by another connection.
        let said = book.publications.get(&entry.message);
        if said.is_some_and(|said| said.answer == Answer::Unknown || is_late(said)) {
            continue;
        }
        let Some((before, offset)) = last.insert(publisher, (number, entry.offset)) else {
            continue;
        };
        if number < before
            && let Some(publication) = book.publications.get(&entry.message)
            // What was lost and said again stands behind what was said after it.
            && !court.history.may_have_lost(publication.invoked_at, publication.answered_at())
        {
            let name = words::message(court.history, entry.message);
            let what = format!(
                "{name} stands behind #{before} of the same publisher: at {} and {offset}",
                entry.offset
            );
            court.tell(Rule::Ordered, whose(publication), what);
        }
    }
}

/// Rule 5: what was acknowledged or delivered is in the final history.
fn check_kept(court: &mut Court<'_>, book: &Book, epoch: u64, life: &Life, last: &Final) {
    let lives_on = last.head.epoch == epoch;
    if lives_on {
        check_forgotten(court, life, last);
    }
    for entry in &life.entries {
        if entry.is_kept {
            continue;
        }
        let publication = book.publications.get(&entry.message);
        let name = words::message(court.history, entry.message);
        let found = publication.map(whose).unwrap_or_default();
        if lives_on {
            let is_trimmed = entry.offset < last.kept_from;
            if !is_trimmed {
                let what = format!(
                    "{name} was at {}, and the final history, from {} to {}, does not have it",
                    entry.offset, last.kept_from, last.head.offset
                );
                court.tell(Rule::Kept, found, what);
            }
        } else if let Some(Publication {
            answer: Answer::Acknowledged { .. },
            invoked_at,
            ..
        }) = publication
            // The acknowledgement may have been on its way for long.
            && !court.history.may_have_lost(*invoked_at, u64::MAX)
        {
            let what = format!(
                "{name} was acknowledged at {}, in a life of the log that is over, and nothing was done since it was said that may cost it",
                entry.offset
            );
            court.tell(Rule::Kept, found, what);
        }
    }
}

/// A log forgets no more than it may.
fn check_forgotten(court: &mut Court<'_>, life: &Life, last: &Final) {
    let kept = last.head.offset.saturating_add(1).saturating_sub(last.kept_from);
    let least = court
        .history
        .promises
        .log_messages_min
        .min(life.entries.len() as u64);
    if kept < least {
        let found = Where {
            channel: Some(last.channel),
            ..Where::default()
        };
        let what = format!(
            "the final history, from {} to {}, holds {kept} messages, and has to keep {least}",
            last.kept_from, last.head.offset
        );
        court.tell(Rule::Kept, found, what);
    }
}

/// Without a final history nothing can be said of what is kept.
fn check_read(court: &mut Court<'_>, book: &Book, finals: &BTreeMap<Name, &Final>) {
    let channels: BTreeSet<Name> = book.publications.values().map(|said| said.channel).collect();
    for channel in channels
        .into_iter()
        .filter(|channel| !finals.contains_key(channel))
    {
        let found = Where {
            channel: Some(channel),
            ..Where::default()
        };
        let what = "its final history was not read, so nobody knows what is kept".to_owned();
        court.tell(Rule::Kept, found, what);
    }
}

/// The final history itself has no hole.
fn check_dense(court: &mut Court<'_>, last: &Final) {
    if !court.history.promises.dense {
        return;
    }
    let found = Where {
        channel: Some(last.channel),
        ..Where::default()
    };
    let mut next = last.kept_from;
    for (Place { offset, epoch, .. }, _) in &last.entries {
        if *epoch != last.head.epoch || *offset != next {
            let what = format!("the final history has {offset} where {next} should be");
            return court.tell(Rule::Kept, found, what);
        }
        next = next.saturating_add(1);
    }
    if next != last.head.offset.saturating_add(1) {
        let what = format!(
            "the final history ends before {next}, and the log is at {}",
            last.head.offset
        );
        court.tell(Rule::Kept, found, what);
    }
}

/// Rule 10: every publication of a client that was there to the end has an answer.
fn check_answers(court: &mut Court<'_>, book: &Book) {
    for log in court.history.logs() {
        if !matches!(
            log.events.last(),
            Some(Event {
                what: What::Ended,
                ..
            })
        ) {
            continue;
        }
        for event in &log.events {
            let What::Invoked { message, .. } = event.what else {
                continue;
            };
            let Some(publication) = book.publications.get(&message) else {
                continue;
            };
            if publication.answer == Answer::Outstanding {
                let name = words::message(court.history, message);
                court.tell(
                    Rule::Live,
                    whose(publication),
                    format!("{name} never had an answer"),
                );
            }
        }
    }
}

//! The rules, applied.
//!
//! [`judge`] is a pure function: the same history, the same verdict. It takes a few passes over the events, and keeps one entry for each message,
//! each publication and each member beside the history itself.
//!
//! Reading order: `book` (who published what, and what stands where in which log), `streams` (what each subscriber saw: rules 1, 3, 4, 8
//! and 10), `publications` (what became of what was said: rules 5, 6, 7 and 10), `presence` (rule 9, by the `stays` of members). Rule 2 is
//! checked where places are entered into the book, rule 11 here.

mod book;
mod presence;
mod publications;
mod stays;
mod streams;
mod words;

use self::book::Book;
use crate::event::{Client, Name, Stream, What};
use crate::history::{History, Log};
use crate::verdict::{At, Counts, Rule, Verdict, Violation};

/// Violations of one rule that are told in words.
const TOLD_PER_RULE_MAX: usize = Verdict::VIOLATIONS_MAX / Rule::ALL.len();
/// What a client wrote down before and after what is told.
const AROUND: usize = 4;
/// A fault that ended longer ago than this is not told of, in microseconds.
const FAULT_TOLD: u64 = 60_000_000;

/// Whether the server kept its word.
pub fn judge(history: &History) -> Verdict {
    let mut court = Court::new(history);
    let mut book = Book::default();
    book.read(&mut court);
    streams::check(&mut court, &book);
    publications::check(&mut court, &book);
    presence::check(&mut court);
    check_logs(&mut court);
    check_resources(&mut court);
    court.finish()
}

/// Of whoever wrote nothing down, or not to the end, nobody can say what it did not get.
fn check_logs(court: &mut Court<'_>) {
    let history = court.history;
    for client in &history.expected {
        let log = history.logs().iter().find(|log| log.name == *client);
        let what = match log {
            Some(log) if is_whole(log) => continue,
            Some(_) => "was to be there to the end, and its log has none",
            None => "was to be there, and has no log",
        };
        let name = history.text(*client);
        court.tell(Rule::Live, Where::default(), format!("{name} {what}"));
    }
}

fn check_resources(court: &mut Court<'_>) {
    // Whoever knows whose logs there are has run servers, and can look at them.
    if court.history.resources.is_empty() && !court.history.expected.is_empty() {
        let what = "nobody has looked at what is used when all have gone".to_owned();
        court.tell(Rule::Freed, Where::default(), what);
    }
    for resource in &court.history.resources {
        if resource.after > resource.before.saturating_add(resource.tolerance) {
            let crate::history::Resource {
                what,
                before,
                after,
                tolerance,
            } = resource;
            court.tell(
                Rule::Freed,
                Where::default(),
                format!(
                    "{what}: {before} before the load, {after} after it; at most {tolerance} more may be left"
                ),
            );
        }
    }
}

/// Where something happened.
#[derive(Clone, Copy, Default)]
struct Where {
    channel: Option<Name>,
    client: Option<Client>,
    stream: Option<Stream>,
    at: Option<u64>,
    /// The place of the event in the client's log.
    index: Option<usize>,
}

/// What has been found so far.
struct Court<'a> {
    history: &'a History,
    counts: Counts,
    violations: Vec<Violation>,
    told: [usize; Rule::ALL.len()],
    broken: u64,
}

fn is_whole(log: &Log) -> bool {
    log.events.last().is_some_and(|last| last.what == What::Ended)
}

impl<'a> Court<'a> {
    fn new(history: &'a History) -> Court<'a> {
        Court {
            history,
            counts: Counts {
                events: history.events() as u64,
                kept: history.finals.iter().map(|last| last.entries.len() as u64).sum(),
                faults: history.faults.len() as u64,
                logs: history.logs().len() as u64,
                ended: history.logs().iter().filter(|log| is_whole(log)).count() as u64,
                ..Counts::default()
            },
            violations: Vec::new(),
            told: [0; Rule::ALL.len()],
            broken: 0,
        }
    }

    fn tell(&mut self, rule: Rule, place: Where, what: String) {
        self.broken += 1;
        let told = &mut self.told[rule as usize];
        if *told == TOLD_PER_RULE_MAX {
            return;
        }
        *told += 1;
        let history = self.history;
        let client = place.client.map(|client| history.client_name(client));
        let subscriber = match (client, place.stream) {
            (Some(client), Some(stream)) => Some(format!("{client}, subscription {}", stream.0)),
            (Some(client), None) => Some(client.to_owned()),
            (None, _) => None,
        };
        self.violations.push(Violation {
            rule,
            what,
            channel: place.channel.map(|channel| history.text(channel).to_owned()),
            subscriber,
            at: place.at,
            around: self.around(place),
            fault: place.at.and_then(|at| self.fault(at)),
        });
    }

    /// What the client wrote down about the same thing shortly before and after.
    fn around(&self, place: Where) -> Vec<String> {
        let (Some(client), Some(index)) = (place.client, place.index) else {
            return Vec::new();
        };
        let events = &self.history.logs()[client.0 as usize].events;
        let belongs = |at: usize| {
            let what = &events[at].what;
            what.stream() == place.stream || matches!(what, What::Connected | What::Disconnected)
        };
        let before = (0..index).rev().filter(|at| belongs(*at)).take(AROUND);
        let after = (index + 1..events.len())
            .filter(|at| belongs(*at))
            .take(AROUND / 2);
        let mut all: Vec<usize> = before.chain(after).chain([index]).collect();
        all.sort_unstable();
        let line = |at: usize| {
            let mark = if at == index { "→" } else { " " };
            let event = &events[at];
            format!(
                "{mark} {} {}",
                At(event.at),
                words::event(self.history, &event.what)
            )
        };
        all.into_iter().map(line).collect()
    }

    /// What was done to the server last before `at`.
    fn fault(&self, at: u64) -> Option<String> {
        let begun = self.history.faults.iter().filter(|fault| fault.from <= at);
        let last = begun.max_by_key(|fault| fault.from)?;
        let is_recent = at.saturating_sub(last.until) <= FAULT_TOLD;
        is_recent.then(|| format!("{}, {} to {}", last.what, At(last.from), At(last.until)))
    }

    fn finish(self) -> Verdict {
        Verdict {
            title: self.history.title.clone(),
            counts: self.counts,
            violations: self.violations,
            broken: self.broken,
        }
    }
}

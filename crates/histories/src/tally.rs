//! Counts what occurred in a history, from what its clients wrote down.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_check::History;
use switchboard_check::event::{Event, Message, What};
use switchboard_check::verdict::{Counts, Verdict};

use crate::coverage::Situation;
use crate::fault::Kind;
use crate::injector::Outcome;
use crate::plan::{Client, Plan};
use crate::report::Report;

/// A client has come back when it is told something by its new connection; after so long it has, in microseconds.
const BACK: u64 = 500_000;

/// The report of a history.
pub fn report(plan: &Plan, history: &History, verdict: &Verdict, outcome: Outcome) -> Report {
    let mut tally = Tally::default();
    let mut clients = Vec::new();
    for log in history.logs() {
        let name = history.text(log.name);
        let client = plan.clients.iter().find(|client| client.name == name);
        if let Some(client) = client {
            clients.push((client.sdk, client.transport));
            tally.read(client, &log.events);
        }
    }
    tally.find_repeated(history);
    let faults: Vec<(Kind, bool)> = outcome
        .done
        .iter()
        .map(|done| (done.kind, tally.is_in_resume(done.from)))
        .collect();
    let mut seen = tally.seen;
    for (kind, in_resume) in &faults {
        seen.insert(Situation::Fault(*kind));
        let inside = match kind {
            Kind::KillWithData | Kind::KillWithoutData => Situation::KillInResume,
            Kind::Drain => Situation::DrainInResume,
            Kind::Cut => Situation::CutInResume,
            _ => continue,
        };
        if *in_resume {
            seen.insert(inside);
        }
    }
    if outcome.refused > 0 {
        seen.insert(Situation::Lagged);
    }
    if history.finals.iter().any(|last| last.kept_from > 1) {
        seen.insert(Situation::Trimmed);
    }
    let mut told: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
    told.extend(outcome.troubles.iter().cloned());
    Report {
        seed: plan.seed,
        violations: verdict.broken + outcome.troubles.len() as u64,
        told,
        troubles: outcome.troubles,
        faults,
        skipped: outcome.skipped,
        clients,
        counts: Counts {
            // Here also those that went on in another client.
            resumes: tally.resumes,
            ..verdict.counts
        },
        seen,
    }
}

#[derive(Default)]
struct Tally {
    seen: BTreeSet<Situation>,
    resumes: u64,
    /// When a client had lost its connection and was not back yet.
    away: Vec<(u64, u64)>,
}

impl Tally {
    fn read(&mut self, client: &Client, events: &[Event]) {
        let mut open: BTreeSet<u32> = BTreeSet::new();
        let mut lost_at = None;
        // Nothing is left of what the client had: it begins as a page that is loaded again.
        let mut is_new = false;
        // Since when there is another connection, and which streams it has told nothing yet.
        let mut again: Option<(u64, u64, BTreeSet<u32>)> = None;
        for event in events {
            if let Some(stream) = event.what.stream()
                && !matches!(event.what, What::Subscribing { .. })
                && let Some((lost, _, silent)) = &mut again
                && silent.remove(&stream.0)
            {
                self.resumes += 1;
                self.seen.insert(Situation::Resumed(client.sdk, client.transport));
                let until = event.at;
                let lost = *lost;
                if silent.is_empty() {
                    again = None;
                }
                self.away.push((lost, until));
            }
            match event.what {
                What::Connected => {
                    is_new |= open.is_empty();
                    if let Some(lost) = lost_at.take() {
                        self.away.push((lost, event.at));
                        again = Some((lost, event.at, open.clone()));
                    }
                }
                What::Disconnected => {
                    is_new = open.is_empty();
                    lost_at = Some(event.at);
                }
                What::Subscribing { stream, since, .. } => {
                    open.insert(stream.0);
                    self.resumes += u64::from(since.is_some());
                    if since.is_some() && is_new {
                        self.seen.insert(Situation::Reloaded(client.sdk));
                    }
                }
                What::Received { .. } => is_new = false,
                What::Unsubscribed { stream } | What::Closed { stream } => {
                    open.remove(&stream.0);
                }
                _ => {}
            }
            self.note(&event.what);
            if again.as_ref().is_some_and(|(_, at, _)| event.at > at + BACK) {
                again = None;
            }
        }
    }

    fn note(&mut self, what: &What) {
        let situation = match what {
            What::Subscribed {
                recovered: Some(true),
                ..
            } => Situation::Recovered,
            What::Subscribed {
                recovered: Some(false),
                ..
            } => Situation::NotRecovered,
            What::Gap { conflated: true, .. } => Situation::Conflated,
            What::Gap { .. } => Situation::Gap,
            What::Reset { .. } => Situation::Reset,
            What::Unknown { .. } => Situation::Unknown,
            What::Joined { .. } => Situation::Joined,
            What::Left { .. } => Situation::Left,
            _ => return,
        };
        self.seen.insert(situation);
    }

    fn is_in_resume(&self, at: u64) -> bool {
        self.away
            .iter()
            .any(|(from, until)| (*from..=*until).contains(&at))
    }

    /// Somebody had the message before its publisher lost the connection, and the publisher had its answer only by the next one.
    fn find_repeated(&mut self, history: &History) {
        let mut came: BTreeMap<Message, u64> = BTreeMap::new();
        for event in history.logs().iter().flat_map(|log| &log.events) {
            if let What::Received { message, .. } = event.what {
                let first = came.entry(message).or_insert(event.at);
                *first = event.at.min(*first);
            }
        }
        for log in history.logs() {
            let mut lost_at = None;
            for event in &log.events {
                match event.what {
                    What::Disconnected => lost_at = Some(event.at),
                    What::Acknowledged { message, .. } => {
                        let was_there = came.get(&message).zip(lost_at);
                        if was_there.is_some_and(|(came, lost)| *came < lost) {
                            self.seen.insert(Situation::Repeated);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

//! What came of one history, and of many.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use switchboard_check::verdict::Counts;

use crate::coverage::Situation;
use crate::fault::Kind;
use crate::plan::{Sdk, Transport};

/// What came of one history.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Report {
    /// Of which seed.
    pub seed: u64,
    /// Rules that were broken, and what the server did that it should not.
    pub violations: u64,
    /// The same in words.
    pub told: Vec<String>,
    /// What of it no log tells.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// What was done, and whether a client was just coming back.
    pub faults: Vec<(Kind, bool)>,
    /// What could not be done here.
    pub skipped: Vec<Kind>,
    /// Who took part.
    pub clients: Vec<(Sdk, Transport)>,
    /// How much was looked at.
    pub counts: Counts,
    /// What occurred.
    pub seen: BTreeSet<Situation>,
}

/// What came of many.
#[derive(Default, Debug)]
pub struct Summary {
    /// How many.
    pub histories: u64,
    /// … in which nothing was wrong.
    pub clean: u64,
    /// Without a verdict: the harness failed.
    pub failed: Vec<(u64, String)>,
    /// Violations of all.
    pub violations: u64,
    /// Which seeds.
    pub violated: Vec<u64>,
    /// By kind: how many, and how many of them while a client was just coming back.
    pub faults: BTreeMap<Kind, (u64, u64)>,
    /// By kind, how often it could not be done.
    pub skipped: BTreeMap<Kind, u64>,
    /// Who took part.
    pub clients: BTreeMap<(Sdk, Transport), u64>,
    /// How much was looked at.
    pub counts: Counts,
    /// What occurred, and in how many.
    pub seen: BTreeMap<Situation, u64>,
    /// How many were not run, or not to their ends, because nobody wanted to wait any longer.
    pub interrupted: Option<u64>,
}

impl Summary {
    /// One more.
    pub fn add(&mut self, report: &Report) {
        self.histories += 1;
        self.clean += u64::from(report.violations == 0);
        self.violations += report.violations;
        if report.violations > 0 {
            self.violated.push(report.seed);
        }
        for (kind, in_resume) in &report.faults {
            let (count, inside) = self.faults.entry(*kind).or_default();
            *count += 1;
            *inside += u64::from(*in_resume);
        }
        for kind in &report.skipped {
            *self.skipped.entry(*kind).or_default() += 1;
        }
        for client in &report.clients {
            *self.clients.entry(*client).or_default() += 1;
        }
        self.counts += report.counts;
        for situation in &report.seen {
            *self.seen.entry(*situation).or_default() += 1;
        }
    }

    /// One that has no verdict.
    pub fn add_failed(&mut self, seed: u64, why: String) {
        self.histories += 1;
        self.failed.push((seed, why));
    }

    /// Of all faults, those while a client was just coming back, in a hundred.
    pub fn in_resume_percent(&self) -> u64 {
        let (count, inside) = self.all_faults();
        inside * 100 / count.max(1)
    }

    fn all_faults(&self) -> (u64, u64) {
        let all = self.faults.values();
        all.fold((0, 0), |(count, inside), (more, also)| {
            (count + more, inside + also)
        })
    }

    /// What did not occur, also where it cannot on this machine.
    pub fn missing(&self) -> Vec<Situation> {
        let all = Situation::all();
        all.into_iter()
            .filter(|situation| !self.seen.contains_key(situation))
            .collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults by kind{:>46}{:>18}", "count", "inside a resume")?;
        for (kind, (count, inside)) in &self.faults {
            writeln!(f, "  {:<52}{count:>6}{inside:>18}", kind.text())?;
        }
        let (count, inside) = self.all_faults();
        writeln!(
            f,
            "  {:<52}{count:>6}{inside:>18}  ({} %)",
            "all",
            self.in_resume_percent()
        )?;
        for (kind, count) in &self.skipped {
            writeln!(
                f,
                "  left out {count} times, because it cannot be had on this machine: {}",
                kind.text()
            )?;
        }
        writeln!(f, "clients")?;
        for ((sdk, transport), count) in &self.clients {
            writeln!(
                f,
                "  {:<52}{count:>6}",
                format!("{sdk:?}, {transport:?}").to_lowercase()
            )?;
        }
        let Counts {
            events,
            publications,
            acknowledged,
            deliveries,
            streams,
            resumes,
            gaps,
            resets,
            ..
        } = self.counts;
        writeln!(
            f,
            "checked: {deliveries} deliveries to {streams} subscriptions, {publications} publications ({acknowledged} acknowledged), \
             {resumes} resumes, {gaps} gaps, {resets} resets, {events} events"
        )?;
        let missing = self.missing();
        let possible = self.seen.len() + missing.len();
        writeln!(f, "coverage: {} of {possible} situations", self.seen.len())?;
        for situation in &missing {
            writeln!(f, "  did not occur: {situation}")?;
        }
        for (seed, why) in &self.failed {
            writeln!(f, "seed {seed} has no verdict: {why}")?;
        }
        write!(
            f,
            "{} histories, {} clean, {} without a verdict, {} violations",
            self.histories,
            self.clean,
            self.failed.len(),
            self.violations
        )?;
        match self.interrupted {
            Some(missing) => write!(f, "; interrupted, {missing} were not run to their ends"),
            None => Ok(()),
        }
    }
}

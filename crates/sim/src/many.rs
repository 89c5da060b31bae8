//! Many histories, on several threads, and what they come to together.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use switchboard_check::Rule;
use switchboard_check::verdict::Counts;

use crate::bug::Bug;
use crate::coverage::Marks;
use crate::panics;
use crate::plan::Plan;
use crate::world::{self, Outcome};

/// What many histories came to.
#[derive(Default)]
pub struct Sum {
    /// How many there were.
    pub histories: u64,
    /// What was looked at in all of them.
    pub counts: Counts,
    /// What was seen in them.
    pub marks: Marks,
    /// By kind: how often, and how often inside a resume.
    pub faults: BTreeMap<&'static str, (u64, u64)>,
    /// Seeds of those in which a rule was broken, at most [`Sum::BROKEN_MAX`], each with the first violation in words.
    pub broken: Vec<(u64, String)>,
    /// How many those are.
    pub broken_count: u64,
    /// Violations in all of them.
    pub violations: u64,
}

impl Sum {
    /// Broken histories that are told.
    pub const BROKEN_MAX: usize = 20;

    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.histories += 1;
        self.counts += outcome.verdict.counts;
        self.marks.add(&outcome.marks);
        for (kind, inside) in &outcome.faults {
            let (all, within) = self.faults.entry(kind).or_default();
            *all += 1;
            *within += u64::from(*inside);
        }
        if outcome.wrong() > 0 {
            self.broken_count += 1;
            self.violations += outcome.wrong();
            let broken = outcome.verdict.violations.first().map(ToString::to_string);
            if self.broken.len() < Sum::BROKEN_MAX
                && let Some(first) = broken.or_else(|| outcome.troubles.first().cloned())
            {
                self.broken.push((seed, first));
            }
        }
    }

    fn add_panic(&mut self, seed: u64) {
        self.histories += 1;
        self.broken_count += 1;
        self.violations += 1;
        if self.broken.len() < Sum::BROKEN_MAX {
            self.broken.push((seed, panics::take().join("\n")));
        }
    }

    /// Faults, and those of them inside a resume.
    pub fn all_faults(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), one: &(u64, u64)| (sum.0 + one.0, sum.1 + one.1);
        self.faults.values().fold((0, 0), add)
    }
}

/// Runs the plans of these seeds. `done` is called after each, with its seed and how much was wrong in it.
pub fn run(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    plan: impl Fn(u64) -> Plan + Sync,
    done: impl Fn(u64, u64) + Sync,
) -> Sum {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let run = AssertUnwindSafe(|| world::run(&plan(seed), None));
                    let outcome = std::panic::catch_unwind(run).ok();
                    if let Ok(mut sum) = sum.lock() {
                        match &outcome {
                            Some(outcome) => sum.add(seed, outcome),
                            None => sum.add_panic(seed),
                        }
                    }
                    done(seed, outcome.map_or(1, |outcome| outcome.wrong()));
                }
            });
        }
    });
    let mut sum = sum
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.broken.sort_unstable();
    sum
}

/// The first seed in which one of the rules that should finds a bug, and which.
///
/// # Panics
/// As [`world::run`].
pub fn find(bug: Bug, mut seeds: std::ops::Range<u64>) -> Option<(u64, Rule)> {
    seeds.find_map(|seed| {
        let rules = world::run(&Plan::of(seed), Some(bug)).verdict.rules();
        let rule = rules.into_iter().find(|rule| bug.rules().contains(rule))?;
        Some((seed, rule))
    })
}

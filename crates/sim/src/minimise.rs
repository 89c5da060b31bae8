//! Finds what of a plan is needed for a rule to be broken: fewer faults, fewer clients, less time.

use std::time::Duration;

use switchboard_check::Rule;

use crate::bug::Bug;
use crate::plan::{Plan, Reduction};
use crate::world;

/// The smallest reduction of a seed's plan that still breaks one of the same rules, or, where it breaks none, has a client told what no
/// server should tell it; `None` where nothing is wrong with the whole plan. `tried` is called before every attempt.
///
/// # Panics
/// As [`world::run`].
pub fn minimise(seed: u64, bug: Option<Bug>, mut tried: impl FnMut(&Reduction)) -> Option<Reduction> {
    let plan = Plan::of(seed);
    let whole = world::run(&plan, bug);
    if whole.wrong() == 0 {
        return None;
    }
    let rules = whole.verdict.rules();
    let mut breaks = |reduction: &Reduction| {
        tried(reduction);
        let outcome = world::run(&plan.clone().reduced(reduction), bug);
        let broken = outcome.verdict.rules();
        match rules.is_empty() {
            true => !outcome.troubles.is_empty(),
            false => broken.iter().any(|rule: &Rule| rules.contains(rule)),
        }
    };
    let mut least = Reduction::default();
    // Every step takes something away for good, so this ends.
    loop {
        let mut smaller = Vec::new();
        for fault in 0..plan.faults.len() {
            if !least.without_faults.contains(&fault) {
                let mut next = least.clone();
                next.without_faults.push(fault);
                smaller.push(next);
            }
        }
        for client in 0..plan.clients.len() {
            if !least.without_clients.contains(&client) {
                let mut next = least.clone();
                next.without_clients.push(client);
                smaller.push(next);
            }
        }
        let lasts = least.at_most.unwrap_or(plan.lasts);
        if lasts > Duration::from_millis(200) {
            smaller.push(Reduction {
                at_most: Some(lasts * 2 / 3),
                ..least.clone()
            });
        }
        match smaller.into_iter().find(|next| breaks(next)) {
            Some(next) => least = next,
            None => return Some(least),
        }
    }
}

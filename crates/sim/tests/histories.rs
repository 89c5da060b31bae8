//! Some hundred histories, in which no rule may be broken; `sim run` lets a hundred thousand happen.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use switchboard_sim::bug::Bug;
use switchboard_sim::many::{self, Sum};
use switchboard_sim::plan::Plan;
use switchboard_sim::world;

const JOBS: usize = 2;

fn assert_clean(sum: &Sum, option: &str) {
    let broken: Vec<String> = sum
        .broken
        .iter()
        .map(|(seed, first)| format!("sim show {seed}{option}\n{first}"))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn without_faults_no_rule_is_broken() {
    let sum = many::run(1..51, JOBS, |seed| Plan::of(seed).without_faults(), |_, _| {});
    assert_clean(&sum, " --calm");
    assert_eq!((sum.histories, sum.all_faults()), (50, (0, 0)));
    assert!(sum.counts.deliveries > 0);
}

#[test]
fn no_rule_is_broken() {
    let sum = many::run(1..201, JOBS, Plan::of, |_, _| {});
    assert_clean(&sum, "");
    assert_eq!(sum.histories, 200);
    let (faults, inside) = sum.all_faults();
    assert!(
        inside * 10 >= faults * 3,
        "{inside} of {faults} faults fell inside a resume: too few"
    );
}

#[test]
fn a_seed_is_a_history() {
    for seed in [1, 2, 3, 5, 8, 13] {
        let plan = Plan::of(seed);
        let (one, other) = (world::run(&plan, None), world::run(&plan, None));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert_ne!(one.hash, world::run(&Plan::of(seed + 100), None).hash);
    }
}

#[test]
fn every_planted_bug_is_found_by_its_rules() {
    for bug in Bug::ALL {
        assert!(many::find(*bug, 1..40).is_some(), "{bug:?}: {}", bug.text());
    }
}

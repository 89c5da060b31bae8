//! Every fuzz target on its seeds and on inputs made of them: the same ones in every run, and few enough for every run of the
//! tests. `fuzz/run` goes further.

use std::fs;
use std::path::{Path, PathBuf};

use switchboard_fuzz::{TARGETS, Target};

/// Longest input that is made, in bytes.
const INPUT_BYTES_MAX: usize = 2_048;
/// Most changes of one seed.
const CHANGES_MAX: usize = 6;

#[test]
fn frames() {
    run_briefly("frames", 600);
}

#[test]
fn handshake() {
    run_briefly("handshake", 3_000);
}

#[test]
fn deflate() {
    run_briefly("deflate", 300);
}

#[test]
fn dialects() {
    run_briefly("dialects", 2_000);
}

#[test]
fn session() {
    run_briefly("session", 1_000);
}

#[test]
fn notice() {
    run_briefly("notice", 1_500);
}

#[test]
fn position() {
    run_briefly("position", 3_000);
}

#[test]
fn readers() {
    run_briefly("readers", 2_000);
}

#[test]
fn segments() {
    run_briefly("segments", 1_500);
}

#[test]
fn hub() {
    run_briefly("hub", 300);
}

#[test]
fn presence() {
    run_briefly("presence", 1_000);
}

#[test]
fn every_target_has_a_binary_and_seeds_and_nothing_else_has() {
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    names.sort();
    assert_eq!(entries(&root().join("corpus")), names);
    let binaries: Vec<_> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(entries(&root().join("fuzz_targets")), binaries);
    for target in TARGETS {
        assert!(!seeds(target).is_empty(), "{} has seeds", target.name);
    }
}

fn run_briefly(name: &str, made: usize) {
    let target = TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .expect("tests are named after targets");
    let seeds = seeds(target);
    for (seed, bytes) in &seeds {
        run(target, seed, bytes);
    }
    let mut numbers = Numbers(0x5eed);
    for index in 0..made {
        let bytes = if index % 4 == 0 {
            numbers.bytes()
        } else {
            numbers.mixed(&seeds)
        };
        run(target, "made", &bytes);
    }
}

fn run(target: Target, seed: &str, bytes: &[u8]) {
    let _told = TellInput { target, seed, bytes };
    (target.run)(bytes);
}

/// Tells which input it was if it ends in a panic.
struct TellInput<'a> {
    target: Target,
    seed: &'a str,
    bytes: &'a [u8],
}

impl Drop for TellInput<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!(
                "{} failed on {}, in hexadecimal: {hex}",
                self.target.name, self.seed
            );
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the files and folders in `folder`, sorted.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is in the repository");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").file_name())
        .map(|name| name.into_string().expect("names are ASCII"))
        .collect();
    names.sort();
    names
}

fn seeds(target: Target) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(target.name);
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).expect("a readable file");
        (name, bytes)
    };
    entries(&folder).into_iter().map(read).collect()
}

/// Pseudo-random numbers: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Any bytes, short ones more often.
    fn bytes(&mut self) -> Vec<u8> {
        let length_max = 1 << self.below(INPUT_BYTES_MAX.ilog2() as usize + 1);
        let length = self.below(length_max + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A seed with some changes.
    fn mixed(&mut self, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
        let pick = |numbers: &mut Numbers| seeds[numbers.below(seeds.len())].1.clone();
        let mut bytes = pick(self);
        for _ in 0..=self.below(CHANGES_MAX) {
            let place = self.below(bytes.len() + 1);
            let end = (place + 1 + self.below(8)).min(bytes.len());
            match self.below(7) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, self.next() as u8),
                2 => drop(bytes.drain(place..end)),
                3 => bytes
                    .splice(place..place, bytes[place..end].to_vec())
                    .for_each(drop),
                4 => {
                    let other = pick(self);
                    let from = self.below(other.len() + 1);
                    bytes.truncate(place);
                    bytes.extend_from_slice(&other[from..]);
                }
                5 => bytes
                    .iter_mut()
                    .skip(place)
                    .take(1)
                    .for_each(|byte| *byte ^= 1 << (place % 8)),
                _ => {
                    let byte = self.next() as u8;
                    bytes.iter_mut().skip(place).take(1).for_each(|old| *old = byte);
                }
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }
}

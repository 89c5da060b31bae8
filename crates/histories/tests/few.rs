//! A few small histories with a real server, and the same with a bug planted in what a client wrote down: nothing is found in the first, and
//! each bug is.
//!
//! JavaScript clients take part where their package is built; the step `histories` of `./test` builds it.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use switchboard_histories::fault::When;
use switchboard_histories::machine::Machine;
use switchboard_histories::plan::Plan;
use switchboard_histories::report::Report;
use switchboard_histories::{history, sdk_of_this_repository};

/// Clients of a small history.
const CLIENTS: usize = 6;
/// A small history is so many times shorter.
const SHORTER: u64 = 3;

/// The server, built: beside the program of this package, where cargo puts all.
fn server() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "switchboard-server",
        "--bin",
        "switchboard",
    ]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_histories")).with_file_name("switchboard")
}

/// A directory that is gone with the test, unless that fails.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("histories-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A real history does not come again: what a failed test leaves is all there is of it.
        if thread::panicking() {
            eprintln!("the histories are in {}", self.0.display());
        } else {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }
}

/// The same faults and clients, in a shorter time.
fn small(seed: u64) -> Plan {
    let mut plan = Plan::new(seed);
    plan.clients.truncate(CLIENTS);
    plan.load_ms /= SHORTER;
    plan.faults.truncate(3);
    for fault in &mut plan.faults {
        fault.for_ms /= SHORTER;
        match &mut fault.when {
            When::At { ms } => *ms /= SHORTER,
            When::InResume { from_ms, .. } => *from_ms /= SHORTER,
        }
    }
    plan
}

fn run(seed: u64, server: &Path, directory: &Path) -> Report {
    let sdk = Machine::probe(&sdk_of_this_repository()).sdk;
    let machine = Machine {
        sdk,
        ..Machine::default()
    };
    history::run(&small(seed), &machine, server, directory, pending()).unwrap()
}

#[test]
fn a_few_small_histories_break_no_rule() {
    let server = server();
    let directory = Directory::new("few");
    // A kill with a data directory and one without, a drain, stalled bytes.
    let seeds = [15, 16, 19, 22];
    let reports: Vec<Report> = thread::scope(|scope| {
        let running = seeds.map(|seed| {
            let (server, path) = (&server, directory.0.join(seed.to_string()));
            scope.spawn(move || run(seed, server, &path))
        });
        running
            .into_iter()
            .map(|running| running.join().unwrap())
            .collect()
    });
    for report in &reports {
        assert_eq!(
            report.violations,
            0,
            "seed {}: {}",
            report.seed,
            report.told.join("\n")
        );
        assert!(report.counts.deliveries > 0 && report.counts.resumes > 0 && !report.faults.is_empty());
    }
}

/// A client's log, line by line.
fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// The log of a client, and the place of a line in the middle of those that are received behind each other by one subscription.
fn in_a_run(directory: &Path) -> (PathBuf, Vec<String>, usize) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let lines = lines(&path);
        let is_received = |line: &String, of: &Value| {
            let line = event(line);
            line["event"] == "received" && line["stream"] == of["stream"]
        };
        let found = lines.windows(3).position(|three| {
            let first = event(&three[0]);
            three.iter().all(|line| is_received(line, &first))
        });
        if let Some(at) = found {
            return (path, lines, at + 1);
        }
    }
    panic!("nobody got three messages behind each other");
}

/// Has the directory judged by the command; what it says, if it finds something.
fn judged(directory: &Path) -> Option<String> {
    let ran = Command::new(env!("CARGO_BIN_EXE_histories"))
        .arg("judge")
        .arg(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    match ran.status.code() {
        Some(0) => None,
        Some(1) => Some(said),
        code => panic!("{code:?}: {said}{}", String::from_utf8_lossy(&ran.stderr)),
    }
}

#[test]
fn a_bug_planted_in_a_log_is_found() {
    let server = server();
    let directory = Directory::new("planted");
    let report = run(6, &server, &directory.0);
    assert_eq!(report.violations, 0, "{}", report.told.join("\n"));
    assert_eq!(judged(&directory.0), None);

    let (path, clean, at) = in_a_run(&directory.0);
    let message = event(&clean[at]);
    let answered = clean_answer(&directory.0);
    let cases: [(&str, &Path, Vec<String>, &str); 4] = [
        (
            "a delivery that did not come",
            &path,
            without(&clean, at),
            "rule 4",
        ),
        ("a delivery that came twice", &path, twice(&clean, at), "rule 3"),
        (
            "a delivery of what nobody said",
            &path,
            replaced(&clean, at, &message["publisher"], "nobody"),
            "rule 1",
        ),
        (
            "a publication without an answer",
            &answered.0,
            without(&answered.1, answered.2),
            "rule 10",
        ),
    ];
    for (bug, path, planted, rule) in cases {
        let before = fs::read(path).unwrap();
        fs::write(path, planted.join("\n") + "\n").unwrap();
        let said = judged(&directory.0).unwrap_or_default();
        assert!(said.contains(rule), "{bug}: {rule} expected, {said}");
        fs::write(path, before).unwrap();
    }
    assert_eq!(judged(&directory.0), None, "as it was");

    // What no log tells, when it was run.
    let path = directory.0.join("report.json");
    let mut report: Report = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    report.troubles.push("the server ended by itself".to_owned());
    fs::write(&path, serde_json::to_vec(&report).unwrap()).unwrap();
    let said = judged(&directory.0).unwrap_or_default();
    assert!(said.contains("the server ended by itself"), "{said}");
}

/// The log of a client, and the place of an acknowledgement.
fn clean_answer(directory: &Path) -> (PathBuf, Vec<String>, usize) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let lines = lines(&path);
            let found = lines
                .iter()
                .position(|line| event(line)["event"] == "acknowledged");
            if let Some(at) = found {
                return (path, lines, at);
            }
        }
    }
    panic!("nobody had an answer");
}

fn without(lines: &[String], at: usize) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.remove(at);
    lines
}

fn twice(lines: &[String], at: usize) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.insert(at, lines[at].clone());
    lines
}

fn replaced(lines: &[String], at: usize, old: &Value, new: &str) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines[at] = lines[at].replace(old.as_str().unwrap(), new);
    lines
}

//! Many histories, each in a process of its own, some at a time.
//!
//! A process of its own, because a history has namespaces of its own where the machine allows them, and because what goes wrong in one
//! must not touch another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::process::{Child, Command};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::machine::{Machine, UNSHARE};
use crate::report::{Report, Summary};

/// For one history.
const HISTORY: Duration = Duration::from_secs(180);
/// For its end, when it is told that nobody waits.
const END: Duration = Duration::from_secs(5);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The first seed; the others follow.
    pub seed: u64,
    /// How many.
    pub count: u64,
    /// How many at once.
    pub jobs: usize,
    /// The server.
    pub binary: PathBuf,
    /// What this machine allows.
    pub machine: Machine,
    /// Directories of histories are made here.
    pub directory: PathBuf,
    /// Directories of clean histories stay.
    pub keep: bool,
}

/// Runs them, and says what is violated as soon as it is known. What has ended when it is interrupted is in the summary, too.
///
/// # Errors
/// Of the system. What goes wrong in one history is in the summary.
pub fn run(batch: &Batch, program: &Path) -> io::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    fs::create_dir_all(&batch.directory)?;
    let tasks = LocalSet::new();
    let mut summary = Summary::default();
    let running = async {
        tokio::select! {
            // The children are told, too, and what becomes of them then is no verdict.
            biased;
            _ = tokio::signal::ctrl_c() => true,
            () = all(batch, program, &mut summary) => false,
        }
    };
    // What still runs ends with `tasks`: each child, and what it started, when the pipe to it is closed.
    let is_interrupted = runtime.block_on(tasks.run_until(running));
    summary.interrupted = is_interrupted.then(|| batch.count.saturating_sub(summary.histories));
    Ok(summary)
}

async fn all(batch: &Batch, program: &Path, summary: &mut Summary) {
    let bar = ProgressBar::new(batch.count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} histories, {elapsed} {msg}") {
        bar.set_style(style);
    }
    let mut seeds = batch.seed..batch.seed.saturating_add(batch.count);
    let mut running = JoinSet::new();
    let shared = Rc::new((batch.clone(), program.to_owned()));
    loop {
        while running.len() < batch.jobs.max(1)
            && let Some(seed) = seeds.next()
        {
            let shared = shared.clone();
            running.spawn_local(async move { (seed, one(&shared.0, &shared.1, seed).await) });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        match ended {
            Ok((seed, Ok(report))) => {
                if report.violations > 0 {
                    bar.suspend(|| tell(batch, seed, &report.told));
                }
                summary.add(&report);
            }
            Ok((seed, Err(error))) => {
                bar.suspend(|| tell(batch, seed, std::slice::from_ref(&error)));
                summary.add_failed(seed, error);
            }
            Err(error) => summary.add_failed(0, error.to_string()),
        }
        bar.set_message(format!(
            "{} deliveries, {} violations",
            summary.counts.deliveries, summary.violations
        ));
        bar.inc(1);
    }
    bar.finish();
}

fn tell(batch: &Batch, seed: u64, told: &[String]) {
    eprintln!("seed {seed}:");
    for line in told.iter().flat_map(|told| told.lines()) {
        eprintln!("  {line}");
    }
    eprintln!("  logs: {}", directory(batch, seed).display());
    eprintln!("  again: cargo run --release -p switchboard-histories -- --seed {seed} --count 1");
}

fn directory(batch: &Batch, seed: u64) -> PathBuf {
    batch.directory.join(format!("seed-{seed}"))
}

/// One history; why there is no verdict, if there is none.
async fn one(batch: &Batch, program: &Path, seed: u64) -> Result<Report, String> {
    let directory = directory(batch, seed);
    let text = |error: io::Error| format!("{}: {error}", directory.display());
    if directory.exists() {
        // Only what an earlier run left.
        let is_of_a_run = directory.join("plan.json").exists();
        if !is_of_a_run && fs::read_dir(&directory).map_err(text)?.next().is_some() {
            return Err(format!("{} is there, and not of a history", directory.display()));
        }
        fs::remove_dir_all(&directory).map_err(text)?;
    }
    fs::create_dir_all(&directory).map_err(text)?;
    let mut child = start(batch, program, seed, &directory).map_err(text)?;
    let stdin = child.stdin.take();
    let ended = match timeout(HISTORY, child.wait()).await {
        Ok(ended) => ended.map_err(text)?,
        Err(_) => {
            drop(stdin);
            let _ended = timeout(END, child.wait()).await;
            let _killed = child.kill().await;
            return Err(format!("it took longer than {} s", HISTORY.as_secs()));
        }
    };
    let report = fs::read(directory.join("report.json"));
    match report {
        Ok(report) => {
            let report: Report = serde_json::from_slice(&report).map_err(|error| error.to_string())?;
            if report.violations == 0 && !batch.keep {
                fs::remove_dir_all(&directory).map_err(text)?;
            }
            Ok(report)
        }
        Err(_) => {
            let said = fs::read_to_string(directory.join("worker.txt")).unwrap_or_default();
            Err(format!("it ended with {ended}: {}", said.trim()))
        }
    }
}

fn start(batch: &Batch, program: &Path, seed: u64, directory: &Path) -> io::Result<Child> {
    let mut command = match batch.machine.namespaces {
        true => {
            let mut command = Command::new(UNSHARE[0]);
            command.args(&UNSHARE[1..]).arg(program);
            command
        }
        false => Command::new(program),
    };
    command
        .args(["worker", "--seed", &seed.to_string(), "--server"])
        .arg(&batch.binary)
        .args(["--machine", &serde_json::to_string(&batch.machine)?])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("worker.txt"))?)
        .spawn()
}

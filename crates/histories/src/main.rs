//! The `histories` command.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use clap::Parser as _;
use switchboard_check::{History, judge};
use switchboard_histories::cli::{Cli, Run, What};
use switchboard_histories::machine::{LOOPBACK_UP, Machine};
use switchboard_histories::plan::Plan;
use switchboard_histories::report::Report;
use switchboard_histories::runner::{self, Batch};
use switchboard_histories::{history, sdk_of_this_repository};
use tokio::sync::oneshot;

/// From so many histories on everything that can occur has to.
const FULL_RUN: u64 = 100;
/// Of a hundred faults, so many have to come while somebody comes back.
const IN_RESUME_PERCENT: u64 = 30;

fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    let done = match command {
        None => many(run),
        Some(What::Judge { directory }) => judge_again(&directory),
        Some(What::Plan { seed }) => show(seed),
        Some(What::Worker {
            seed,
            server,
            machine,
            directory,
        }) => one(seed, &server, &machine, &directory),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

fn many(run: Run) -> Result<bool, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let beside = program.with_file_name("switchboard");
    let binary = run.server.unwrap_or(beside);
    if !binary.exists() {
        let name = binary.display();
        return Err(format!("there is no server {name}: build it, or name one with --server").into());
    }
    let machine = Machine::probe(&run.sdk.unwrap_or_else(sdk_of_this_repository));
    if machine.sdk.is_none() {
        eprintln!("without JavaScript clients: the package is not built, or there is no Node");
    }
    let temporary = || std::env::temp_dir().join(format!("switchboard-histories-{}", std::process::id()));
    let batch = Batch {
        seed: run.seed,
        count: run.count,
        jobs: run.jobs.into(),
        binary: std::path::absolute(binary)?,
        machine,
        keep: run.keep.is_some(),
        directory: std::path::absolute(run.keep.unwrap_or_else(temporary))?,
    };
    let summary = runner::run(&batch, &program)?;
    println!("{summary}");
    if summary.interrupted.is_some() {
        let directory = batch.directory.display();
        let told = format!("interrupted; what there is of unfinished histories is in {directory}");
        // What is known to be wrong is, also if nobody waited for the rest.
        if summary.violations == 0 {
            return Err(told.into());
        }
        eprintln!("{told}");
        return Ok(false);
    }
    // Only empty ones go.
    let _kept = std::fs::remove_dir(&batch.directory);
    let is_covered = summary.missing().is_empty() && summary.in_resume_percent() >= IN_RESUME_PERCENT;
    let is_covered = run.count < FULL_RUN || is_covered;
    Ok(summary.violations == 0 && summary.failed.is_empty() && is_covered)
}

fn judge_again(directory: &Path) -> Result<bool, Box<dyn Error>> {
    let verdict = judge(&History::read(directory)?);
    println!("{verdict}");
    // A history that was not run by this program, or not to its end, has no report.
    let troubles = match std::fs::read(directory.join("report.json")) {
        Ok(report) => serde_json::from_slice::<Report>(&report)?.troubles,
        Err(_) => Vec::new(),
    };
    for trouble in &troubles {
        println!("when it was run: {trouble}");
    }
    Ok(verdict.is_clean() && troubles.is_empty())
}

fn show(seed: u64) -> Result<bool, Box<dyn Error>> {
    println!("{}", serde_json::to_string_pretty(&Plan::new(seed))?);
    Ok(true)
}

fn one(seed: u64, server: &Path, machine: &str, directory: &Path) -> Result<bool, Box<dyn Error>> {
    let machine: Machine = serde_json::from_str(machine)?;
    if machine.namespaces {
        let up = Command::new("sh").args(["-c", LOOPBACK_UP]).status()?;
        if !up.success() {
            return Err("the loopback interface of the namespace cannot be used".into());
        }
    }
    // Whoever started this has ended, or waits no more, when its end of the pipe is closed.
    let (told, interrupted) = oneshot::channel();
    thread::spawn(move || {
        let _end = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _over = told.send(());
    });
    let interrupted = async {
        let _told = interrupted.await;
    };
    let report = history::run(&Plan::new(seed), &machine, server, directory, interrupted)?;
    Ok(report.violations == 0)
}

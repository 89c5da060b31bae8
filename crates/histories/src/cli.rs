//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs histories: a real server and real clients of both libraries, through faults, each judged by what its clients wrote down.
///
/// A seed is a plan: the server's settings, the clients and what they do, the faults. The same seed gives the same plan, not the same
/// history: which bytes are under way when a fault comes is up to the machine.
///
/// Exit codes: 0 nothing is wrong, 1 a rule was broken, a history has no verdict, or of a hundred and more something that should occur did
/// not, 2 the command line is wrong, 3 it was interrupted before anything was found, or something cannot be started or read.
#[derive(Parser, Debug)]
#[command(name = "histories", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What else there is.
    #[command(subcommand)]
    pub command: Option<What>,
    /// How histories are run.
    #[command(flatten)]
    pub run: Run,
}

/// How histories are run.
#[derive(Args, Debug)]
pub struct Run {
    /// How many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..1 << 32))]
    pub count: u64,
    /// How many at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// The seed of the first; each further one has the next.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1 << 63))]
    pub seed: u64,
    /// Keep the directories of all histories here. Otherwise only those of histories in which something is wrong stay, in a temporary
    /// directory.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The server. By default `switchboard` beside this program.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// The JavaScript client, built. By default that of this repository.
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

/// What else there is.
#[derive(Subcommand, Debug)]
pub enum What {
    /// Judges the directory of a history again.
    Judge {
        /// Its directory.
        directory: PathBuf,
    },
    /// Prints the plan of a seed, on a machine that can do all of it.
    Plan {
        /// The seed.
        seed: u64,
    },
    /// One history, in this process.
    #[command(hide = true)]
    Worker {
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// The server.
        #[arg(long)]
        server: PathBuf,
        /// What the machine allows.
        #[arg(long)]
        machine: String,
        /// Its directory.
        directory: PathBuf,
    },
}

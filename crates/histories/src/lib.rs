//! Real histories: a real server and real clients of both libraries go through faults, and the checker judges what the clients wrote down.
//!
//! What it is not: a simulation. A [`plan`] comes from a seed and is the same every time; what becomes of it is up to the machine.
//!
//! ```text
//!  runner ── a process each ──► history ─┬─ server (process) ◄── proxy ◄─┬─ clients::rust
//!    ▲                                   ├─ injector: faults             └─ clients::node (process)
//!    └────────── report.json ◄── tally ◄─┴─ run.json, NAME.log ──► switchboard-check
//! ```
//!
//! `histories --count 300` runs them and says what came of it; `histories judge DIR` judges the directory of one again.
//!
//! Reading order: [`plan`] with [`fault`] (what is to happen), [`history`] (one of them, from its beginning to its verdict), [`injector`] and
//! [`proxy`] (how faults are done), [`clients`] (who writes down what), [`tally`], [`coverage`], [`troubles`] and [`report`] (what came of it), [`runner`]
//! (many of them), [`machine`] (what a machine allows).

pub mod api;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod coverage;
pub mod fault;
pub mod history;
pub mod injector;
pub mod journal;
pub mod machine;
pub mod payloads;
pub mod plan;
pub mod proxy;
pub mod random;
pub mod report;
pub mod runner;
pub mod server;
pub mod tally;
pub mod troubles;

use std::path::{Path, PathBuf};

/// Where the JavaScript client of this repository is.
pub fn sdk_of_this_repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/js")
}

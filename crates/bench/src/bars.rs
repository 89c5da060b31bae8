//! `bench bars`: all that Switchboard promises of its speed, measured, each beside its bar.
//!
//! Two set-ups that are compared with each other (compressed and plain, 2 shards and 1) are compared by their ratios to the
//! reference, which each has beside it in time.

use std::path::PathBuf;

use clap::Args;

use crate::report::Report;

/// Measure everything that Switchboard promises of its speed, each beside its bar. Takes about twenty minutes.
#[derive(Args, Clone, Debug)]
pub struct Bars {
    /// Only these: fanout, echo, accept, idle, own, channels, rooms, compress, shards, durable, slow-reader, restart-storm, presence, sse, sse-idle, churn. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<Work>,
    /// Write each report as JSON into this directory.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Work {
    Fanout,
    Echo,
    Accept,
    Idle,
    Own,
    Channels,
    Rooms,
    Compress,
    Shards,
    Durable,
    SlowReader,
    RestartStorm,
    Presence,
    Sse,
    SseIdle,
    Churn,
}

/// Of 15,000 connections, each pinged when it has been silent for 25 s.
const HEARTBEATS_PER_S: f64 = 15_000.0 / 25.0;

impl Work {
    /// All, in the order of the table.
    pub const ALL: [Work; 16] = [
        Work::Fanout,
        Work::Echo,
        Work::Accept,
        Work::Idle,
        Work::Own,
        Work::Channels,
        Work::Rooms,
        Work::Compress,
        Work::Shards,
        Work::Durable,
        Work::SlowReader,
        Work::RestartStorm,
        Work::Presence,
        Work::Sse,
        Work::SseIdle,
        Work::Churn,
    ];

    /// Its name on the command line, and of its file.
    pub fn name(self) -> &'static str {
        match self {
            Work::Fanout => "fanout",
            Work::Echo => "echo",
            Work::Accept => "accept",
            Work::Idle => "idle",
            Work::Own => "own",
            Work::Channels => "channels",
            Work::Rooms => "rooms",
            Work::Compress => "compress",
            Work::Shards => "shards",
            Work::Durable => "durable",
            Work::SlowReader => "slow-reader",
            Work::RestartStorm => "restart-storm",
            Work::Presence => "presence",
            Work::Sse => "sse",
            Work::SseIdle => "sse-idle",
            Work::Churn => "churn",
        }
    }

    /// The arguments of `switchboard bench` that do it.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Work::Fanout => &["fanout", "--spawn", "--burst", "1,10"],
            Work::Echo => &["echo", "--spawn", "--bytes", "64,65536", "--rounds", "11"],
            Work::Accept => &["accept", "--spawn"],
            Work::Idle => &["idle", "--spawn", "--seconds", "30", "--rounds", "3"],
            Work::Own => &["idle", "--spawn", "--own", "--rounds", "3"],
            Work::Channels => &[
                "idle",
                "--spawn",
                "--subscriptions",
                "1,100",
                "--after",
                "0",
                "--rounds",
                "1",
            ],
            Work::Rooms => &[
                "publish",
                "--spawn",
                "--rooms",
                "10,15000",
                "--publishers",
                "1",
                "--messages",
                "20000",
                "--rounds",
                "7",
            ],
            Work::Compress => &["fanout", "--spawn", "--bytes", "1024", "--compress"],
            Work::Shards => &["fanout", "--spawn", "--shards", "1,2"],
            Work::Durable => &["publish", "--spawn", "--rooms", "1000", "--data", "none,interval"],
            Work::SlowReader => &["slow-reader", "--spawn", "--rounds", "9"],
            Work::RestartStorm => &["restart-storm", "--spawn", "--rounds", "3"],
            Work::Presence => &["presence", "--spawn", "--members", "100,20000"],
            Work::Sse => &["fanout", "--spawn", "--burst", "1,10", "--sse"],
            Work::SseIdle => &["idle", "--spawn", "--sse", "--after", "0", "--rounds", "3"],
            Work::Churn => &["churn", "--spawn"],
        }
    }

    /// What is to be read off its report.
    pub fn findings(self, report: &Report) -> Vec<Finding> {
        let at = |index: usize| {
            report
                .series
                .iter()
                .filter(|series| !series.is_reference)
                .nth(index)
        };
        let ratio = |index: usize, what: &str| at(index).and_then(|series| series.figure(what)?.ratio);
        let median = |index: usize, what: &str| at(index).and_then(|series| series.figure(what)?.median());
        let beside = |what: &str| Some(ratio(1, what)? / ratio(0, what)?);
        let burst_beside = |what: &str| Some(ratio(3, what)? / ratio(2, what)?);
        let size_beside = |what: &str| Some(median(1, what)? / median(0, what)?);
        // From the price of one: how many fall into the time of the measurement depends on when they began.
        let heartbeat =
            median(0, "CPU per heartbeat").map(|each_ns| each_ns * HEARTBEATS_PER_S / 1e9 * 100.0);
        match self {
            Work::Fanout => vec![
                most(
                    "CPU per delivery, single messages",
                    ratio(0, "CPU per delivery"),
                    1.15,
                    "×",
                ),
                most(
                    "CPU per delivery, bursts of 10",
                    ratio(1, "CPU per delivery"),
                    0.15,
                    "×",
                ),
            ],
            Work::Echo => vec![
                most("CPU per echo of 64 B", ratio(0, "CPU per echo"), 1.3, "×"),
                most("CPU per echo of 64 KiB", ratio(1, "CPU per echo"), 1.1, "×"),
            ],
            Work::Accept => vec![most(
                "CPU per connection, handshake included",
                ratio(0, "CPU per connection"),
                1.5,
                "×",
            )],
            Work::Idle => vec![
                most(
                    "resident per connection, one channel",
                    median(0, "resident per connection"),
                    1_536.0,
                    "B",
                ),
                most(
                    "kept 10 s after closing",
                    median(0, "kept per former connection"),
                    64.0,
                    "B",
                ),
                most("CPU of the heartbeat of all", heartbeat, 1.0, "%"),
            ],
            Work::Own => vec![most(
                "resident per connection, a channel of its own",
                median(0, "resident per connection"),
                2_560.0,
                "B",
            )],
            Work::Channels => {
                let what = "resident per connection";
                let further = median(0, what)
                    .zip(median(1, what))
                    .map(|(one, all)| (all - one) / 99.0);
                vec![most("resident per further subscription", further, 120.0, "B")]
            }
            Work::Rooms => vec![Finding {
                least: 0.9,
                ..most(
                    "a publish with 15,000 rooms, beside 10",
                    beside("CPU per publish"),
                    1.1,
                    "×",
                )
            }],
            Work::Compress => vec![most(
                "a compressed delivery, beside a plain one",
                beside("CPU per delivery"),
                1.3,
                "×",
            )],
            Work::Shards => vec![most(
                "a delivery of two shards, beside one",
                beside("CPU per delivery"),
                1.15,
                "×",
            )],
            Work::Durable => vec![most(
                "a durable publish (interval), beside memory",
                beside("CPU per publish"),
                2.0,
                "×",
            )],
            Work::SlowReader => vec![
                most(
                    "latency p99 beside a reader that stopped",
                    median(0, "p99, one stopped, beside all read"),
                    1.2,
                    "×",
                ),
                most(
                    "resident for a reader that stopped",
                    median(0, "resident for the one that stopped"),
                    262_144.0,
                    "B",
                ),
            ],
            Work::RestartStorm => vec![
                most(
                    "15,000 back after a kill, with every message",
                    median(0, "all back after").map(|ns| ns / 1e9),
                    15.0,
                    "s",
                ),
                most(
                    "latency p99 of others while they come back",
                    ratio(0, "live p99, while they come back"),
                    1.5,
                    "×",
                ),
            ],
            Work::Presence => vec![
                most(
                    "a join and leave with 20,000 members, beside 100",
                    beside("CPU per join and leave"),
                    1.25,
                    "×",
                ),
                most(
                    "resident per member",
                    median(1, "resident per member"),
                    512.0,
                    "B",
                ),
            ],
            Work::Sse => vec![
                most(
                    "a delivery by SSE, beside WebSocket",
                    beside("CPU per delivery"),
                    1.3,
                    "×",
                ),
                most(
                    "the same in bursts of 10",
                    burst_beside("CPU per delivery"),
                    1.3,
                    "×",
                ),
            ],
            Work::Churn => vec![most(
                "kept of a million connections that were closed",
                median(0, "resident above the beginning"),
                1_048_576.0,
                "B",
            )],
            Work::SseIdle => vec![most(
                "resident per event stream, beside a WebSocket",
                size_beside("resident per connection"),
                1.3,
                "×",
            )],
        }
    }
}

/// A figure and its bar.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How much; `None` where it could not be measured.
    pub value: Option<f64>,
    /// The bar: no less.
    pub least: f64,
    /// The bar: no more.
    pub most: f64,
    /// Its unit.
    pub unit: &'static str,
}

fn most(what: &'static str, value: Option<f64>, most: f64, unit: &'static str) -> Finding {
    Finding {
        what,
        value,
        least: f64::NEG_INFINITY,
        most,
        unit,
    }
}

impl Finding {
    /// Whether the bar is met.
    pub fn is_met(&self) -> bool {
        self.value
            .is_some_and(|value| (self.least..=self.most).contains(&value))
    }

    /// A line of the table. Of a measurement that was interrupted nothing is said but that it was.
    pub fn line(&self, interrupted: bool) -> String {
        let number = |value: f64| match self.unit {
            "B" => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        };
        let value = self.value.map_or("not measured".to_owned(), |value| {
            format!("{} {}", number(value), self.unit)
        });
        let bar = match self.least.is_finite() {
            true => format!("{} to {} {}", number(self.least), number(self.most), self.unit),
            false => format!("{} {}", number(self.most), self.unit),
        };
        let verdict = match (interrupted, self.is_met()) {
            (true, _) => "interrupted",
            (false, true) => "met",
            (false, false) => "MISSED",
        };
        format!("{:<48} {value:>14}   bar {bar:>14}   {verdict}", self.what)
    }
}

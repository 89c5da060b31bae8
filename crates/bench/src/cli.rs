//! `switchboard bench`: what a person may type.

mod options;
mod progress;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::options::Options;
use crate::bars::{Bars, Work};
use crate::coordinator::Stopped;
use crate::report::{self, Machine, Report, table};
use crate::scenario::{self, Scenario};
use crate::{process, reference, worker};

const EXAMPLES: &str = "\
Examples:
  switchboard bench fanout --spawn                        a server started for it, on its own core
  switchboard bench fanout --spawn --burst 1,10           messages by themselves, and ten together
  switchboard bench latency --rate 100                    the Switchboard that runs here
  switchboard bench fanout --spawn --peer ws --peer nats  others, with the same work
  switchboard bench echo --url ws://127.0.0.1:9000/echo   any WebSocket server that echoes
  switchboard bench fanout --url ws://127.0.0.1:9000/ \\
      --subscribe 'SUB {channel}' --publish 'PUB {channel} {payload}'

Every figure stands beside the same figure of a reference, measured in turns with it: a bare
epoll loop that accepts, sends once per subscriber and does nothing else. So the ratio says
what a server adds to the system calls.

Exit codes: 0 done; 1 messages were lost, a bar is missed, or it failed; 2 wrong usage;
130 interrupted (what was measured is printed).";

/// Where the reference listens by itself, also in the words below.
const REFERENCE_ADDRESS: &str = "127.0.0.1:8100";

const REFERENCE: &str = "\
What it does, by the path of the handshake:
  /room/N          the connection gets what is published in room N
  /room/N/publish  every message of the connection goes to room N
  /echo            every message comes back
  /ping/SECONDS    a ping so often, and nothing else

To measure it as any other server:
  switchboard bench fanout --url 'ws://127.0.0.1:8100/room/{room}' \\
      --publish-url 'ws://127.0.0.1:8100/room/{room}/publish'";

/// Measure what a WebSocket server costs.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// One message to many subscribers.
    Fanout {
        #[command(flatten)]
        scenario: scenario::fanout::Fanout,
        #[command(flatten)]
        options: Options,
    },
    /// Connections that say nothing: memory and heartbeat.
    Idle {
        #[command(flatten)]
        scenario: scenario::idle::Idle,
        #[command(flatten)]
        options: Options,
    },
    /// Connections that come: the handshake.
    Accept {
        #[command(flatten)]
        scenario: scenario::accept::Accept,
        #[command(flatten)]
        options: Options,
    },
    /// Messages that come back.
    Echo {
        #[command(flatten)]
        scenario: scenario::echo::Echo,
        #[command(flatten)]
        options: Options,
    },
    /// How long a message takes, at a constant rate.
    Latency {
        #[command(flatten)]
        scenario: scenario::latency::Latency,
        #[command(flatten)]
        options: Options,
    },
    /// Many publishers, many channels.
    Publish {
        #[command(flatten)]
        scenario: scenario::publish::Publish,
        #[command(flatten)]
        options: Options,
    },
    /// Small rooms in which everyone speaks.
    Mesh {
        #[command(flatten)]
        scenario: scenario::mesh::Mesh,
        #[command(flatten)]
        options: Options,
    },
    /// One of many subscribers stops reading: what the others notice. Needs --spawn.
    SlowReader {
        #[command(flatten)]
        scenario: scenario::slow_reader::SlowReader,
        #[command(flatten)]
        options: Options,
    },
    /// The server is killed and started again, and all its clients come back at once. Needs --spawn.
    RestartStorm {
        #[command(flatten)]
        scenario: scenario::restart_storm::RestartStorm,
        #[command(flatten)]
        options: Options,
    },
    /// Members of a channel: what it costs that one more comes and goes. Needs --spawn.
    Presence {
        #[command(flatten)]
        scenario: scenario::presence::Presence,
        #[command(flatten)]
        options: Options,
    },
    /// The same clients by WebSocket, by Server-Sent Events and by polls: what each costs. Needs --spawn.
    PollingStorm {
        #[command(flatten)]
        scenario: scenario::polling_storm::PollingStorm,
        #[command(flatten)]
        options: Options,
    },
    /// A million connections that come and go: what memory is left of them.
    Churn {
        #[command(flatten)]
        scenario: scenario::churn::Churn,
        #[command(flatten)]
        options: Options,
    },
    /// All that Switchboard promises of its speed, each figure beside its bar.
    Bars(Bars),
    /// Write saved reports as a table for documents, or as a chart.
    Render {
        /// A chart (SVG) of this figure, such as "CPU per delivery"; without, Markdown tables of all figures.
        #[arg(long, value_name = "FIGURE")]
        chart: Option<String>,
        /// Reports, as --json writes them.
        #[arg(value_name = "FILE", required = true)]
        reports: Vec<PathBuf>,
    },
    /// Run the bare server by itself.
    #[command(after_help = REFERENCE)]
    Reference {
        /// Where.
        #[arg(long, value_name = "ADDR", default_value = REFERENCE_ADDRESS)]
        listen: SocketAddr,
    },
    /// Hold connections, as the standard input says.
    #[command(hide = true)]
    Worker,
    /// Become another program, on one core.
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        parent: u32,
        #[arg(long)]
        core: Option<usize>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All is well.
    Done,
    /// Messages were lost, or a server could not be measured.
    Fault,
    /// Ctrl-C.
    Interrupted,
}

/// Why a call did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// It cannot be done.
    #[error("{0}")]
    Failed(String),
    /// The system does not do it, or the output is gone.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Stopped> for BenchError {
    fn from(stopped: Stopped) -> BenchError {
        BenchError::Failed(stopped.to_string())
    }
}

/// Runs a call.
pub fn run(args: BenchArgs) -> Result<Outcome, BenchError> {
    match args.command {
        Command::Fanout { scenario, options } => measure(&scenario, &options),
        Command::Idle { scenario, options } => measure(&scenario, &options),
        Command::Accept { scenario, options } => measure(&scenario, &options),
        Command::Echo { scenario, options } => measure(&scenario, &options),
        Command::Latency { scenario, options } => measure(&scenario, &options),
        Command::Publish { scenario, options } => measure(&scenario, &options),
        Command::Mesh { scenario, options } => measure(&scenario, &options),
        Command::SlowReader { scenario, options } => measure(&scenario, &options),
        Command::RestartStorm { scenario, options } => measure(&scenario, &options),
        Command::Presence { scenario, options } => measure(&scenario, &options),
        Command::PollingStorm { scenario, options } => measure(&scenario, &options),
        Command::Churn { scenario, options } => measure(&scenario, &options),
        Command::Bars(bars) => measure_bars(&bars),
        Command::Render { chart, reports } => {
            let reports = reports
                .iter()
                .map(|path| read_report(path))
                .collect::<Result<Vec<_>, _>>()?;
            let words = match chart {
                Some(figure) => {
                    check_figure(&reports, &figure)?;
                    report::chart(&reports, &figure)
                }
                None => report::markdown(&reports),
            };
            io::stdout().lock().write_all(words.as_bytes())?;
            Ok(Outcome::Done)
        }
        Command::Reference { listen } => {
            crate::sources::raise_files_max();
            let cannot = |error: io::Error| BenchError::Failed(format!("cannot listen on {listen}: {error}"));
            let listener = TcpListener::bind(listen).map_err(cannot)?;
            let address = listener.local_addr()?;
            let words = REFERENCE.replace(REFERENCE_ADDRESS, &address.to_string());
            writeln!(
                io::stdout(),
                "The reference listens on {address}; Ctrl-C ends it.\n\n{words}"
            )?;
            reference::run(listener)?;
            Ok(Outcome::Done)
        }
        Command::Worker => {
            worker::run()?;
            Ok(Outcome::Done)
        }
        Command::Exec {
            parent,
            core,
            command,
        } => match command.split_first() {
            Some((program, arguments)) => {
                let error = process::exec(parent, core, program, arguments);
                Err(BenchError::Failed(format!("{}: {error}", program.display())))
            }
            None => Err(BenchError::Usage("what is to be run is missing".to_owned())),
        },
    }
}

/// One scenario: measured, written to the standard output.
fn measure<S: Scenario>(scenario: &S, options: &Options) -> Result<Outcome, BenchError> {
    let report = report_of(scenario, options)?;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        out.write_all(table(&report, colour).as_bytes())?;
    }
    Ok(outcome(&report))
}

fn outcome(report: &Report) -> Outcome {
    let faulty = report.series.iter().any(|series| series.fault.is_some());
    match (report.interrupted, faulty) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Fault,
        (false, false) => Outcome::Done,
    }
}

/// Every measurement that has a bar, by the same words that a person would type.
fn measure_bars(bars: &Bars) -> Result<Outcome, BenchError> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let cannot_save = |path: &Path, error: io::Error| {
        BenchError::Failed(format!("--save: cannot write {}: {error}", path.display()))
    };
    // Now, and not when the first figures have been waited for.
    if let Some(directory) = &bars.save {
        std::fs::create_dir_all(directory)
            .and_then(|()| Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?))
            .map_err(|error| cannot_save(directory, error))?;
    }
    let mut all = Outcome::Done;
    let chosen = |work: &&Work| bars.only.is_empty() || bars.only.contains(work);
    for work in Work::ALL.iter().filter(chosen) {
        let words = [&["bench"], work.arguments()].concat();
        let line = <Line as clap::Parser>::try_parse_from(&words)
            .map_err(|error| BenchError::Failed(error.to_string()))?;
        let mut report = match &line.command {
            Command::Fanout { scenario, options } => report_of(scenario, options),
            Command::Idle { scenario, options } => report_of(scenario, options),
            Command::Accept { scenario, options } => report_of(scenario, options),
            Command::Echo { scenario, options } => report_of(scenario, options),
            Command::Publish { scenario, options } => report_of(scenario, options),
            Command::SlowReader { scenario, options } => report_of(scenario, options),
            Command::RestartStorm { scenario, options } => report_of(scenario, options),
            Command::Presence { scenario, options } => report_of(scenario, options),
            _ => continue,
        }?;
        report.command = format!("switchboard {}", words.join(" "));
        // What was cut short takes the place of nothing.
        if let Some(directory) = bars.save.as_ref().filter(|_| !report.interrupted) {
            let mut bytes = serde_json::to_vec_pretty(&report).map_err(io::Error::from)?;
            bytes.push(b'\n');
            let path = directory.join(format!("{}.json", work.name()));
            std::fs::write(&path, bytes).map_err(|error| cannot_save(&path, error))?;
        }
        let mut out = io::stdout().lock();
        // What was not measured for want of time has missed nothing.
        let findings = work.findings(&report).into_iter();
        for finding in findings.filter(|finding| finding.value.is_some() || !report.interrupted) {
            writeln!(out, "{}", finding.line(report.interrupted))?;
            if !finding.is_met() && all == Outcome::Done {
                all = Outcome::Fault;
            }
        }
        for series in &report.series {
            if let Some(fault) = &series.fault {
                writeln!(out, "  {}: {fault}", series.name)?;
            }
        }
        if outcome(&report) == Outcome::Interrupted {
            writeln!(
                out,
                "Interrupted: what was under way had fewer rounds than it takes, and what follows was not measured."
            )?;
            return Ok(Outcome::Interrupted);
        }
    }
    Ok(all)
}

fn read_report(path: &Path) -> Result<Report, BenchError> {
    let wrong = |error: &dyn std::fmt::Display| BenchError::Usage(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| wrong(&format!("no report, as --json writes one: {error}")))
}

/// A chart of a figure that nobody has would be an empty picture.
fn check_figure(reports: &[Report], figure: &str) -> Result<(), BenchError> {
    let series = reports.iter().flat_map(|report| &report.series);
    let mut figures: Vec<_> = series
        .flat_map(|series| &series.figures)
        .filter(|figure| figure.ratio.is_some())
        .map(|figure| figure.what.as_str())
        .collect();
    figures.sort_unstable();
    figures.dedup();
    match figures.contains(&figure) {
        true => Ok(()),
        false if figures.is_empty() => Err(BenchError::Usage(
            "--chart: in these reports nothing stands beside a reference: they ended before a round did"
                .to_owned(),
        )),
        false => Err(BenchError::Usage(format!(
            "--chart: no report has a ratio of {figure:?}; there are: {}",
            figures.join(", ")
        ))),
    }
}

fn report_of<S: Scenario>(scenario: &S, options: &Options) -> Result<Report, BenchError> {
    scenario.check().map_err(BenchError::Usage)?;
    if let Some(option) = scenario.needs_spawn().filter(|_| !options.spawn) {
        let words = format!("{option} is for a server that the bench starts: --spawn is missing");
        return Err(BenchError::Usage(words));
    }
    let (mut field, mut notes) = options.field()?;
    notes.extend(scenario.notes(&field.place));
    let found = scenario::run(&mut field, scenario);
    field.coordinator.progress().end();
    notes.extend(scenario.judge(&found.series));
    // All of them are about figures.
    if found.series.iter().all(|series| series.figures.is_empty()) {
        notes.clear();
    }
    let mut report = Report {
        bench: scenario.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command_line(),
        machine: Machine::this(),
        parameters: scenario.parameters(),
        series: found.series,
        notes,
        interrupted: found.interrupted,
    };
    report.settle();
    Ok(report)
}

/// The words that reproduce this call.
fn command_line() -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:,=".contains(char);
    let words = std::env::args()
        .skip(1)
        .map(|word| match word.chars().all(is_plain) && !word.is_empty() {
            true => word,
            false => format!("'{}'", word.replace('\'', "'\\''")),
        });
    let words: Vec<_> = words.collect();
    format!("switchboard {}", words.join(" "))
}

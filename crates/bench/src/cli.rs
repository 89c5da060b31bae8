//! `switchboard bench`: what a person may type.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::bars::{Bars, Work};
use crate::charge::Meter;
use crate::contestant::{Contestant, Place};
use crate::coordinator::{Coordinator, Progress, Stopped};
use crate::peers::Peer;
use crate::report::{self, Machine, Report, table};
use crate::scenario::{self, Field, Scenario};
use crate::target::{self, Dialect, Hello, Target};
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

/// How long a look whether somebody listens may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What all scenarios may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server to measure; without any other word about it, a Switchboard.
    /// [default: ws://127.0.0.1:8000/ws]
    #[arg(long, value_name = "URL", conflicts_with = "spawn")]
    url: Option<String>,
    /// Start a Switchboard for it. Its settings are the defaults, whatever the environment says, without the rate limits of a
    /// connection: here a few publish what a thousand would.
    #[arg(long)]
    spawn: bool,
    /// Measure another server as well, or instead without --spawn and --url. Repeatable.
    #[arg(long, value_name = "NAME")]
    peer: Vec<Peer>,
    /// Where the scripts are that run the peers.
    #[arg(long, value_name = "DIR", default_value = "crates/bench/peers")]
    peers_dir: PathBuf,
    /// How subscribers of a Switchboard speak. [default: json]
    #[arg(long, value_name = "NAME", value_enum)]
    dialect: Option<Dialect>,
    /// Subprotocol to ask for.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    subprotocol: Option<String>,
    /// Data frames that the server sends before it is asked anything.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    greeting: u32,
    /// Text that every connection sends first; one frame is awaited as its answer. Repeatable.
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    hello: Vec<String>,
    /// Text that subscribes to {channel}; one frame is awaited as its answer. Without it the URL does, by {channel} in it.
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    subscribe: Option<String>,
    /// Text that publishes {payload}, of {length} bytes, to {channel}. [default: {payload}]
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    publish: Option<String>,
    /// URL of connections that only publish, where it is another one. Without it and --subscribe they hear the messages, too.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    publish_url: Option<String>,
    /// Form of a channel's name, with {room} for its number, which may stand in the other texts and in the URLs as well.
    /// [default: bench-, a number of this call, -{room}]
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "spawn",
        help_heading = "Another server"
    )]
    channel: Option<String>,
    /// Process of the server, where it is not the one that listens on the address: behind a proxy, or another user's.
    #[arg(long, value_name = "PID", conflicts_with = "spawn")]
    pid: Option<u32>,
    /// Core of the servers that are started. [default: the first that this process may use and the load does not]
    #[arg(long, value_name = "N")]
    server_core: Option<usize>,
    /// Core of the load. [default: another one than the servers', where there is one]
    #[arg(long, value_name = "N")]
    load_core: Option<usize>,
    /// Rounds after a warm-up; each measures the server, then the reference.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections that one process of the load holds at most; by default what its open-file limit allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections_per_process: Option<u32>,
    /// JSON in place of a table.
    #[arg(long)]
    json: bool,
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
            if report.interrupted {
                writeln!(out, "{}   interrupted", finding.figures())?;
                continue;
            }
            writeln!(out, "{}", finding.line())?;
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

impl Options {
    /// What is measured with what, and what a reader has to know of it.
    fn field(&self) -> Result<(Field, Vec<String>), BenchError> {
        let run = format!("{:06x}", random()? & 0xff_ffff);
        let (server_core, load_core) = self.cores()?;
        let peers: Vec<_> = self.peer.iter().map(|peer| peer.name()).collect();
        scenario::distinct("--peer", &peers).map_err(BenchError::Usage)?;
        let mut notes = Vec::new();
        // A server that runs already is where it is.
        if server_core == load_core && (self.spawn || !self.peer.is_empty()) {
            notes.push(format!(
                "Server and load share core {load_core}: what is charged to the server is its own, but rates and latencies are those of \
                 both together."
            ));
        }
        let mut contestants = Vec::new();
        let mut publishes_per_s = None;
        if self.spawn {
            contestants.push(Contestant::Spawned {
                dialect: self.dialect.unwrap_or(Dialect::Json),
            });
        } else if self.peer.is_empty() || self.url.is_some() {
            let running = self.running(&run, &mut notes)?;
            self.check_listens(&running)?;
            if matches!(&running, Contestant::Running { target, .. } if target.is_switchboard) {
                publishes_per_s = Some(scenario::PUBLISHES_PER_S);
            }
            contestants.push(running);
        }
        contestants.extend(self.peer.iter().map(|peer| Contestant::Peer {
            peer: *peer,
            scripts: self.peers_dir.clone(),
        }));
        let coordinator = Coordinator::new(
            Some(load_core),
            self.connections_per_process,
            Box::new(Bar::new()),
        )?;
        let field = Field {
            coordinator,
            contestants,
            place: Place {
                core: server_core,
                run,
                publishes_per_s,
            },
            rounds: self.rounds,
        };
        Ok((field, notes))
    }

    /// The core of the servers, and that of the load.
    fn cores(&self) -> Result<(usize, usize), BenchError> {
        let cores = process::cores()?;
        let known = |option: &str, asked: Option<usize>, default: usize| match asked {
            None => Ok(default),
            Some(core) if cores.contains(&core) => Ok(core),
            Some(core) => {
                let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
                let words = format!("{option} {core}: this process may use {}", cores.join(", "));
                Err(BenchError::Usage(words))
            }
        };
        let other = |taken: Option<usize>| {
            let free = cores.iter().find(|core| Some(**core) != taken);
            free.copied().or(taken).unwrap_or(0)
        };
        let server = known("--server-core", self.server_core, other(self.load_core))?;
        Ok((server, known("--load-core", self.load_core, other(Some(server)))?))
    }

    /// Whether anybody is there. Where nobody is, everything else that can be said of it confuses.
    fn check_listens(&self, contestant: &Contestant) -> Result<(), BenchError> {
        let Contestant::Running { target, .. } = contestant else {
            return Ok(());
        };
        let address = target.address;
        let Err(error) = TcpStream::connect_timeout(&address, CONNECT_MAX) else {
            return Ok(());
        };
        let more = match self.url {
            Some(_) => error.to_string(),
            None => {
                "start a Switchboard with `switchboard serve`, let --spawn start one, or say --url".to_owned()
            }
        };
        Err(BenchError::Failed(format!(
            "nothing listens on {address}: {more}"
        )))
    }

    /// A server that runs already.
    fn running(&self, run: &str, notes: &mut Vec<String>) -> Result<Contestant, BenchError> {
        let url = self.url.as_deref().unwrap_or("ws://127.0.0.1:8000/ws");
        let (host, path) = split_url("--url", url)?;
        let address = host
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| BenchError::Usage(format!("--url: {host} is not found")))?;
        let listening = Meter::listening(address);
        let meter = match self.pid {
            Some(pid) => {
                let wrong = |words: String| BenchError::Usage(format!("--pid {pid}: {words}"));
                let meter = Meter::of(pid).map_err(|error| wrong(error.to_string()))?;
                if meter.includes(std::process::id()) {
                    return Err(wrong(
                        "the load descends from it and would be charged to the server".to_owned(),
                    ));
                }
                Some(meter)
            }
            None => listening.first().copied(),
        };
        notes.push(charged_note(address, meter, &listening));
        let is_other = path != "/ws"
            || self.publish.is_some()
            || self.subscribe.is_some()
            || self.channel.is_some()
            || self.subprotocol.is_some()
            || self.greeting > 0
            || !self.hello.is_empty();
        if !is_other {
            return Ok(Contestant::Running {
                name: "switchboard".to_owned(),
                target: Box::new(Target::switchboard(
                    address,
                    self.dialect.unwrap_or(Dialect::Json),
                    run,
                )),
                meter,
            });
        }
        if self.dialect.is_some() {
            let words = "--dialect is for a Switchboard, and --url and the other options say that this is another server";
            return Err(BenchError::Usage(words.to_owned()));
        }
        let hello = self.hello.iter().map(|text| ("--hello", text.as_str()));
        let others = [
            ("--url", self.url.as_deref()),
            ("--publish-url", self.publish_url.as_deref()),
            ("--subscribe", self.subscribe.as_deref()),
            ("--publish", self.publish.as_deref()),
            ("--channel", self.channel.as_deref()),
        ];
        for (option, text) in others
            .into_iter()
            .filter_map(|(option, text)| Some((option, text?)))
            .chain(hello)
        {
            if let Some(word) = target::unknown_placeholder(text) {
                let known = target::PLACEHOLDERS.join(", ");
                return Err(BenchError::Usage(format!(
                    "{option}: {word} stands for nothing; there are {known}"
                )));
            }
        }
        if self
            .publish
            .as_ref()
            .is_some_and(|text| text.matches("{payload}").count() != 1)
        {
            return Err(BenchError::Usage(
                "--publish: {payload} has to be there once".to_owned(),
            ));
        }
        let publisher_path = match &self.publish_url {
            Some(other) => match split_url("--publish-url", other)? {
                (other_host, path) if other_host == host => path,
                _ => {
                    return Err(BenchError::Usage(
                        "--publish-url: publishers connect to the server of --url".to_owned(),
                    ));
                }
            },
            None => path.clone(),
        };
        let target = Target {
            host,
            echo_path: Some(path.clone()),
            path,
            publisher_path,
            subprotocol: self.subprotocol.clone(),
            greeting: self.greeting,
            hello: self.hello.iter().map(|text| Hello::new(text)).collect(),
            subscribe: self.subscribe.as_deref().map(Hello::new),
            publish: self.publish.clone().unwrap_or_else(|| "{payload}".to_owned()),
            channel: self
                .channel
                .clone()
                .unwrap_or_else(|| format!("bench-{run}-{{room}}")),
            ..Target::bare(address)
        };
        Ok(Contestant::Running {
            name: url.to_owned(),
            target: Box::new(target),
            meter,
        })
    }
}

/// Whose CPU and memory the figures of a running server are.
fn charged_note(address: SocketAddr, meter: Option<Meter>, listening: &[Meter]) -> String {
    let Some(meter) = meter else {
        return format!(
            "No process is seen that listens on {address}: it is another user's or another machine's, so there is nothing of its CPU \
             and memory. --pid names it."
        );
    };
    let mut words = format!(
        "Charged: {}. It runs where it was started, while the reference is bound to one core: compare rates and latencies with those \
         of --spawn.",
        meter.described()
    );
    let others = listening.iter().filter(|other| !meter.includes(other.pid()));
    let others: Vec<_> = others.map(|other| other.described()).collect();
    if !others.is_empty() {
        words.push_str(&format!(
            " Not charged, though it listens on {address}: {}.",
            others.join(", ")
        ));
    }
    words
}

/// `host:port`, and path with query, of the value of an option.
fn split_url(option: &str, url: &str) -> Result<(String, String), BenchError> {
    let wrong = |why: &str| BenchError::Usage(format!("{option} {url:?}: {why}"));
    let rest = match url.split_once("://") {
        Some(("ws" | "http", rest)) => rest,
        Some(("wss" | "https", _)) => return Err(wrong("TLS is not measured; give a ws:// URL")),
        _ => return Err(wrong("give a URL such as ws://127.0.0.1:8000/ws")),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let authority: http::uri::Authority = authority.parse().map_err(|_| wrong("its host is no host"))?;
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => 80,
        Some(port) => {
            let port = port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
            port.filter(|port| *port > 0)
                .ok_or_else(|| wrong("a port is a number from 1 to 65535"))?
        }
        None => return Err(wrong("a user in it is not sent")),
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok((format!("{}:{port}", authority.host()), path))
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
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

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            date: today(),
        }
    }
}

/// Today in UTC.
fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.map_or(0, |now| now.as_secs() / 86_400);
    // Years of 365.2425 days, counted from a first of March (Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// A bar on the standard error, if that is a terminal.
struct Bar(indicatif::ProgressBar);

impl Bar {
    fn new() -> Bar {
        let bar = indicatif::ProgressBar::new(0);
        if let Ok(style) =
            indicatif::ProgressStyle::with_template("{msg:16} {wide_bar} {human_pos}/{human_len}")
        {
            bar.set_style(style);
        }
        Bar(bar)
    }
}

impl Progress for Bar {
    fn show(&mut self, doing: &str, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        // The last, because it may draw.
        if self.0.message() != doing {
            self.0.set_message(doing.to_owned());
        }
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}

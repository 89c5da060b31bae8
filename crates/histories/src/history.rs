//! One history, from an empty directory to a verdict.
//!
//! ```text
//!  server, proxy, clients ──► all are there ──► load and faults ──► calm ──► all have everything ──► final histories, lists, verdict
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use switchboard_check::event::Message;
use switchboard_check::history::{Fault, Final, Promises, Resource, Roster};
use switchboard_check::{History, judge};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::ApiError;
use crate::clients::node::Node;
use crate::clients::rust::{self, World};
use crate::clients::{Phase, Reached};
use crate::clock::RunClock;
use crate::fault::Kind;
use crate::injector::{Injector, Outcome};
use crate::journal::Journal;
use crate::machine::Machine;
use crate::plan::{Plan, Sdk};
use crate::proxy::Proxy;
use crate::report::Report;
use crate::server::{How, Server, StartError, Usage, errors, is_panic};
use crate::tally;
use crate::troubles::Troubles;

/// For everybody to be there at first, on a machine that does many other things.
const THERE: Duration = Duration::from_secs(40);
/// Presence is true so long after its time-to-live.
const PRESENCE: Duration = Duration::from_secs(2);
/// Beyond what is promised, before the harness goes on and the judge says what is missing.
const SLACK: Duration = Duration::from_secs(8);
/// For the server to let go of what the clients used.
const FREED: Duration = Duration::from_secs(15);
/// Between two looks at what only a question tells.
const LOOK: Duration = Duration::from_millis(25);
/// Looks that have to show the same.
const ALIKE: u32 = 3;
/// Files that a process may have open beyond those that it began with: the segments of its data directory, and what an allocator or a
/// runtime opens later.
const FILES: u64 = 8;
/// Memory that a process may have beyond that with which it began: its logs (3 MiB), its keys, and what an allocator keeps for next time.
const MEMORY_BYTES: u64 = 64 << 20;
/// Size of a small disk: the segments of a data directory take 24 MiB.
const DISK: &str = "size=32m";

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Of the system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no server.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The server's API does not say what it should.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The clients were not all there before anything was done to them.
    #[error("of {of} only {there} were there before anything was done to them")]
    Absent {
        /// How many were.
        there: usize,
        /// How many should be.
        of: usize,
    },
    /// Logs cannot be read.
    #[error("{0}")]
    Read(#[from] switchboard_check::log::ReadError),
    /// Nobody wants to know any more.
    #[error("interrupted")]
    Interrupted,
    /// There is no server any more.
    #[error("there is no server at the end")]
    Gone,
    /// One of these, after something had gone wrong with the server.
    #[error("{0}; before that: {1}")]
    Told(Box<RunError>, String),
}

/// Runs a history in a directory, which must be empty or not exist, and judges it. Ends early when `interrupted` does; all processes end
/// with it in any case.
///
/// # Errors
/// There is no verdict. What a server does wrong is in the report.
pub fn run(
    plan: &Plan,
    machine: &Machine,
    binary: &Path,
    directory: &Path,
    interrupted: impl Future<Output = ()>,
) -> Result<Report, RunError> {
    fs::create_dir_all(directory)?;
    let plan = &plan.clone().on(machine);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    let performed = async {
        tokio::select! {
            performed = perform(plan, machine, binary, directory) => performed,
            () = interrupted => Err(RunError::Interrupted),
        }
    };
    let ending = runtime.block_on(tasks.run_until(performed));
    // What is still running is of no use any more.
    drop(tasks);
    let report = verdict(plan, directory, ending?)?;
    fs::write(
        directory.join("report.json"),
        serde_json::to_vec_pretty(&report).map_err(io::Error::from)?,
    )?;
    Ok(report)
}

/// What was there when all was over.
struct Ending {
    history: History,
    outcome: Outcome,
}

/// Everything that runs.
struct Running {
    injector: Rc<Injector>,
    clients: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    reached: mpsc::Receiver<Reached>,
    /// How many say what they have reached.
    count: usize,
    /// Of a process that nobody uses.
    before: Usage,
}

async fn perform(
    plan: &Plan,
    machine: &Machine,
    binary: &Path,
    directory: &Path,
) -> Result<Ending, RunError> {
    fs::write(
        directory.join("plan.json"),
        serde_json::to_vec_pretty(plan).map_err(io::Error::from)?,
    )?;
    let mut running = begin(plan, machine, binary, directory).await?;
    let injector = running.injector.clone();
    let ending = async {
        running.load(plan).await?;
        running.end(plan).await
    };
    ending.await.map_err(|error| {
        let mut told = injector.troubles.told();
        told.extend(said_wrong(&injector));
        match told.is_empty() {
            true => error,
            false => RunError::Told(Box::new(error), told.join("; ")),
        }
    })
}

/// What the server said that it should not have to say, whatever was done to it.
fn said_wrong(injector: &Injector) -> Vec<String> {
    // Of what it runs out of it has to tell.
    let runs_out = |kind| matches!(kind, Kind::DiskFull | Kind::FileLimit | Kind::Memory);
    let has_to_tell = injector.outcome().done.iter().any(|done| runs_out(done.kind));
    let errors = errors(&injector.how.said).into_iter();
    // Without memory zlib panics, before the process ends.
    let is_of_zlib = |line: &str| line.contains("zlib-rs") && has_to_tell;
    errors
        .filter(|line| !has_to_tell || is_panic(line) && !is_of_zlib(line))
        .map(|line| format!("the server said: {line}"))
        .collect()
}

async fn begin(plan: &Plan, machine: &Machine, binary: &Path, directory: &Path) -> Result<Running, RunError> {
    let clock = RunClock::start();
    let disk = small_disk(plan, machine, directory).await?;
    let data = plan.server.data.then(|| match &disk {
        Some(disk) => disk.join("data"),
        None => directory.join("data"),
    });
    let wall_clock = machine.wall_clocks.clone().filter(|_| plan.server.wall_clock);
    let how = How {
        binary: binary.to_owned(),
        settings: plan.server.settings.clone(),
        data,
        said: directory.join("server.txt"),
        wall_clock: wall_clock.map(|library| (library, directory.join("wall-clock.txt"))),
    };
    if let Some((_, file)) = &how.wall_clock {
        fs::write(file, "+0\n")?;
    }
    let server = Server::start(&how, None, None).await?;
    let before = settled(&server).await?;
    let proxy = Proxy::start(server.public).await?;
    let url = format!("ws://{}/ws", proxy.address);
    let (phase, phases) = watch::channel(Phase::Load);
    let (reach, reached) = mpsc::channel(64);
    let (storm, storms) = watch::channel(false);
    let troubles = Troubles::default();

    let (rust, js): (Vec<_>, Vec<_>) = plan
        .clients
        .iter()
        .cloned()
        .partition(|client| client.sdk == Sdk::Rust);
    let mut clients = Vec::new();
    for client in rust {
        let journal = Journal::create(directory, &client.name, clock)?;
        let world = World {
            url: url.clone(),
            phase: phases.clone(),
            storm: storms.clone(),
            reached: reach.clone(),
            troubles: troubles.clone(),
        };
        clients.push(rust::start(clients.len(), client, world, journal));
    }
    let mut count = clients.len();
    let node = match &machine.sdk {
        Some(sdk) if !js.is_empty() => {
            let ends = (phases, reach);
            count += 1;
            Some(Node::start(
                clients.len(),
                sdk,
                directory,
                &url,
                clock,
                &js,
                ends,
                troubles.clone(),
            )?)
        }
        _ => None,
    };
    let injector = Injector::new(
        server,
        how,
        disk,
        machine.clone(),
        clock,
        proxy,
        node,
        storm,
        troubles,
    );
    Ok(Running {
        injector: Rc::new(injector),
        clients,
        phase,
        reached,
        count,
        before,
    })
}

/// What a server uses that has begun, and that nobody uses: its shards open what they need a moment after it listens.
async fn settled(server: &Server) -> Result<Usage, RunError> {
    server.api.get("/metrics").await?;
    let mut alike = 0;
    let mut usage = server.usage()?;
    while alike < ALIKE {
        sleep(LOOK).await;
        let now = server.usage()?;
        alike = if now.files == usage.files { alike + 1 } else { 0 };
        usage = now;
    }
    Ok(usage)
}

/// A file system of its own, which goes with the mount namespace.
async fn small_disk(plan: &Plan, machine: &Machine, directory: &Path) -> Result<Option<PathBuf>, RunError> {
    if !plan.server.small_disk || !machine.disks {
        return Ok(None);
    }
    let disk = directory.join("disk");
    fs::create_dir_all(&disk)?;
    let mounted = tokio::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", DISK, "none"])
        .arg(&disk)
        .status()
        .await?;
    match mounted.success() {
        true => Ok(Some(disk)),
        false => Err(io::Error::other("the small disk cannot be mounted").into()),
    }
}

impl Running {
    /// Until the last fault is over.
    async fn load(&mut self, plan: &Plan) -> Result<(), RunError> {
        let there = self.everybody(&Phase::Load, THERE).await;
        if there.len() < self.count {
            return Err(RunError::Absent {
                there: there.len(),
                of: self.count,
            });
        }
        let at_least = Instant::now() + Duration::from_millis(plan.load_ms);
        self.injector.run(&plan.faults).await;
        sleep_until(at_least).await;
        Ok(())
    }

    /// Waits until everybody has reached what a phase asks for, but no longer than this. Who has, with its sessions.
    async fn everybody(&mut self, phase: &Phase, within: Duration) -> BTreeMap<usize, Vec<(String, String)>> {
        let mut there = BTreeMap::new();
        let waiting = async {
            while there.len() < self.count
                && let Some(reached) = self.reached.recv().await
            {
                if reached.phase == phase.number() {
                    there.insert(reached.who, reached.stands);
                }
            }
        };
        // Who is missing then is the judge's to tell.
        let _late = timeout(within, waiting).await;
        there
    }

    async fn tell(&mut self, phase: Phase, within: Duration) -> BTreeMap<usize, Vec<(String, String)>> {
        self.phase.send_replace(phase.clone());
        self.everybody(&phase, within).await
    }

    async fn end(mut self, plan: &Plan) -> Result<Ending, RunError> {
        let mut server = self.injector.server().await.ok_or(RunError::Gone)?;
        let api = server.api;
        let quiet = Promises::default().quiet;
        let deadline = Instant::now() + quiet + SLACK;
        let left = || deadline.saturating_duration_since(Instant::now());
        let stands = self.tell(Phase::Calm, left()).await;
        let mut heads = BTreeMap::new();
        for channel in plan.channels() {
            heads.insert(channel.to_owned(), api.head(channel).await?);
        }
        let mut now = self.tell(Phase::Heads { heads }, left()).await;
        for (who, stands) in stands {
            now.entry(who).or_insert(stands);
        }
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (channel, session) in now.into_values().flatten() {
            expected.entry(channel).or_default().insert(session);
        }
        // Who vanished is still there for a while.
        let within = Duration::from_millis(plan.server.grace_ms) + PRESENCE + SLACK;
        let rosters = rosters(&api, plan, &expected, within).await?;
        self.tell(Phase::Rosters { rosters }, PRESENCE + SLACK).await;

        let mut history = History::new(&format!("seed {}", plan.seed));
        for client in &plan.clients {
            let client = history.name(&client.name);
            history.expected.push(client);
        }
        history.promises.resyncs = !plan.server.drops;
        history.promises.grace = Duration::from_millis(plan.server.grace_ms);
        history.promises.noticed = Duration::from_millis(plan.server.noticed_ms);
        history.promises.log_messages_max = Some(plan.server.log_messages_max);
        history.promises.log_messages_min = plan.log_messages_min();
        history.promises.listed_max = plan.server.lists.then_some(u64::MAX);
        for channel in plan.channels() {
            let log = api.log(channel).await?;
            let channel_name = history.name(channel);
            let mut entries = Vec::with_capacity(log.entries.len());
            for (place, publisher, number) in log.entries {
                let publisher = history.name(&publisher);
                entries.push((place, Message { publisher, number }));
            }
            let members = api.roster(channel).await?;
            let members = members.iter().map(|member| history.name(member)).collect();
            history.finals.push(Final {
                channel: channel_name,
                head: log.head,
                kept_from: log.kept_from,
                entries,
            });
            history.rosters.push(Roster {
                channel: channel_name,
                members,
            });
        }
        let ended = self.tell(Phase::End, quiet).await.len();
        if ended < self.count {
            // The judge expects nothing of whoever does not end in good order, so it is told here.
            let of = self.count;
            self.injector.troubles.tell(format!(
                "of {of} clients and processes of clients only {ended} ended in good order"
            ));
        }
        history.resources = self.leave(&mut server).await?;
        let mut outcome = self.injector.outcome();
        outcome.refused += api.metric("switchboard_deliveries_refused_total").await?;
        if let Some(status) = server.ended() {
            outcome
                .troubles
                .push(format!("the server ended by itself, with {status}"));
        } else if let Err(trouble) = server.drain().await {
            outcome.troubles.push(trouble);
        }
        outcome.troubles.extend(said_wrong(&self.injector));
        history.faults = outcome
            .done
            .iter()
            .map(|done| Fault {
                what: done.what.clone(),
                from: done.from,
                until: done.until,
                loses: done.loses,
            })
            .collect();
        Ok(Ending { history, outcome })
    }

    /// All clients have gone: what is left of them in the server.
    async fn leave(&mut self, server: &mut Server) -> Result<Vec<Resource>, RunError> {
        let clients = std::mem::take(&mut self.clients);
        let gone = async {
            for client in clients {
                if let Err(error) = client.await {
                    self.injector
                        .troubles
                        .tell(format!("the harness failed: {error}"));
                }
            }
        };
        if timeout(FREED, gone).await.is_err() {
            self.injector
                .troubles
                .tell("a Rust client did not end when it was closed".to_owned());
        }
        self.injector.proxy.cut(100, false);
        if let Some(node) = &self.injector.node {
            // One that still runs has not done what it was told to.
            let _ended_already = node.signal(Signal::TERM);
        }
        let mut resources = Vec::new();
        for metric in ["switchboard_sessions", "switchboard_presence_members"] {
            let deadline = Instant::now() + FREED;
            let mut after = server.api.metric(metric).await?;
            while after > 0 && Instant::now() < deadline {
                sleep(LOOK).await;
                after = server.api.metric(metric).await?;
            }
            resources.push(resource(metric, 0, after, 0));
        }
        let deadline = Instant::now() + FREED;
        let mut after = server.usage()?;
        while after.files > self.before.files && Instant::now() < deadline {
            sleep(LOOK).await;
            after = server.usage()?;
        }
        if after.files > self.before.files + FILES {
            let files = server.files().join("\n");
            fs::write(self.injector.how.said.with_file_name("files.txt"), files)?;
        }
        resources.push(resource("open files", self.before.files, after.files, FILES));
        resources.push(resource(
            "resident memory, in bytes",
            self.before.resident_bytes,
            after.resident_bytes,
            MEMORY_BYTES,
        ));
        Ok(resources)
    }
}

fn resource(what: &str, before: u64, after: u64, tolerance: u64) -> Resource {
    Resource {
        what: what.to_owned(),
        before,
        after,
        tolerance,
    }
}

/// Who is in each channel, as soon as that is who should be, or when it should have been.
async fn rosters(
    api: &crate::api::Api,
    plan: &Plan,
    expected: &BTreeMap<String, BTreeSet<String>>,
    within: Duration,
) -> Result<BTreeMap<String, Vec<String>>, RunError> {
    let deadline = Instant::now() + within;
    loop {
        let mut rosters = BTreeMap::new();
        for channel in plan.channels() {
            rosters.insert(channel.to_owned(), api.roster(channel).await?);
        }
        let is_so = rosters.iter().all(|(channel, roster)| {
            let expected = expected.get(channel).into_iter().flatten();
            roster.iter().eq(expected)
        });
        if is_so || Instant::now() >= deadline {
            return Ok(rosters);
        }
        sleep(LOOK).await;
    }
}

/// Writes down what was done and how it ended, reads everything as anybody would who has only the directory, and judges.
fn verdict(plan: &Plan, directory: &Path, ending: Ending) -> Result<Report, RunError> {
    let Ending { history, outcome } = ending;
    history.write_run(directory)?;
    let history = History::read(directory)?;
    let verdict = judge(&history);
    let text = verdict.to_string();
    fs::write(directory.join("verdict.txt"), format!("{text}\n"))?;
    Ok(tally::report(plan, &history, &verdict, outcome))
}

//! Who is measured, and how each comes to run: a spawned Switchboard, the reference, a peer, or a server that runs already.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::charge::Meter;
use crate::coordinator::Stopped;
use crate::peers::Peer;
use crate::ports;
use crate::process::{Pipes, Process};
use crate::target::{Dialect, Target};

/// Time for a server to listen.
const START_MAX: Duration = Duration::from_secs(20);

/// Settings of a spawned Switchboard: one load process says what a thousand clients would, so what one client may say in a
/// second is no limit here. How many connections it may have is known by its files.
const UNHURRIED: &[(&str, &str)] = &[
    ("SWITCHBOARD_LIMITS__COMMANDS_PER_S", "1000000/s"),
    ("SWITCHBOARD_LIMITS__COMMANDS_BURST", "1000000"),
    ("SWITCHBOARD_LIMITS__INBOUND_BYTES_PER_S", "1GiB/s"),
    ("SWITCHBOARD_LIMITS__INBOUND_BYTES_BURST", "1GiB"),
    ("SWITCHBOARD_LIMITS__SUBSCRIBES_PER_S", "100000/s"),
    ("SWITCHBOARD_LIMITS__SUBSCRIBES_BURST", "100000"),
    ("SWITCHBOARD_LIMITS__CONNECTIONS_MAX", "1000000"),
    ("SWITCHBOARD_LIMITS__PRESENCE_GRACE", "1h"),
];

/// Somebody to measure.
#[derive(Clone, Debug)]
pub enum Contestant {
    /// This program, started for the purpose.
    Spawned {
        /// How its subscribers speak.
        dialect: Dialect,
    },
    /// A server that runs already.
    Running {
        /// Its name in the report.
        name: String,
        /// How to speak with it.
        target: Box<Target>,
        /// Its process, where known.
        meter: Option<Meter>,
    },
    /// Another server, installed by the script in `crates/bench/peers`.
    Peer {
        /// Which.
        peer: Peer,
        /// Where the scripts are.
        scripts: PathBuf,
    },
    /// The bare server.
    Reference,
}

/// What a spawned Switchboard keeps on the disk, and when it is synced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Data {
    /// Nothing: logs are in memory.
    #[default]
    None,
    /// Logs, never synced.
    Never,
    /// Logs, synced every 200 ms.
    Interval,
    /// Logs, synced before anybody hears of a message.
    Always,
}

impl Data {
    /// As `data.fsync` says it; `None` where nothing is kept.
    pub fn fsync(self) -> Option<&'static str> {
        match self {
            Data::None => None,
            Data::Never => Some("never"),
            Data::Interval => Some("interval"),
            Data::Always => Some("always"),
        }
    }
}

/// A data directory that is gone with its server.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("switchboard-bench-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Where and how servers run.
#[derive(Clone, Debug)]
pub struct Place {
    /// The core of servers with one thread.
    pub core: usize,
    /// Makes the channels of this call its own.
    pub run: String,
    /// What one connection may publish in a second, at everyone alike: a server that runs already may limit it. `None` where
    /// nobody does.
    pub publishes_per_s: Option<u32>,
}

/// A contestant that runs.
#[derive(Debug)]
pub struct Side {
    /// Its name in the report.
    pub name: String,
    /// Its version, where known.
    pub version: Option<String>,
    /// How to speak with it.
    pub target: Target,
    /// What it costs, where that can be seen.
    pub meter: Option<Meter>,
    /// The internal listener of a Switchboard that was started here.
    pub internal: Option<SocketAddr>,
    /// It is the reference.
    pub is_reference: bool,
    /// Of [`Place`].
    pub publishes_per_s: Option<u32>,
    /// How it was started, if it was.
    program: Option<Program>,
    /// Ends with this.
    process: Option<Process>,
    // Behind the process, which uses it.
    _data: Option<Directory>,
}

impl Contestant {
    /// Its name in the report.
    pub fn name(&self) -> &str {
        match self {
            Contestant::Spawned { .. } => "switchboard",
            Contestant::Running { name, .. } => name,
            Contestant::Peer { peer, .. } => peer.name(),
            Contestant::Reference => "reference",
        }
    }

    /// Starts it, on `place.core` where it has one shard. Only a spawned Switchboard heeds `shards` and `data`.
    pub fn start(&self, place: &Place, shards: u16, data: Data) -> Result<Side, Stopped> {
        let this = || std::env::current_exe().map(PathBuf::into_os_string);
        let core = (shards == 1).then_some(place.core);
        let [port, internal_port] = ports::free()?;
        let [address, internal] =
            [port, internal_port].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let [listen, internal_listen] =
            [address, internal].map(|address| OsString::from(address.to_string()));
        match self {
            Contestant::Spawned { dialect } => {
                let shards = shards.to_string();
                let mut arguments: Vec<OsString> = vec![
                    "serve".into(),
                    "--listen".into(),
                    listen,
                    "--internal-listen".into(),
                    internal_listen,
                    "--shards".into(),
                    shards.into(),
                ];
                let mut variables = UNHURRIED.to_vec();
                let mut directory = None;
                if let Some(fsync) = data.fsync() {
                    variables.push(("SWITCHBOARD_DATA__FSYNC", fsync));
                    let made = Directory::new()?;
                    arguments.extend(["--data-dir".into(), made.0.clone().into_os_string()]);
                    directory = Some(made);
                }
                let program = Program {
                    core,
                    path: this()?,
                    arguments,
                    variables,
                };
                let target = Target::switchboard(address, *dialect, &place.run);
                let version = Some(env!("CARGO_PKG_VERSION").to_owned());
                let started = self.started(place, program, target, version)?;
                Ok(Side {
                    internal: Some(internal),
                    _data: directory,
                    ..started
                })
            }
            Contestant::Reference => {
                let program = Program {
                    core,
                    path: this()?,
                    arguments: vec!["bench".into(), "reference".into(), "--listen".into(), listen],
                    variables: Vec::new(),
                };
                self.started(place, program, Target::bare(address), None)
            }
            Contestant::Peer { peer, scripts } => {
                let script = scripts.join("run");
                let version = peer_version(&script, *peer)?;
                let program = Program {
                    core,
                    path: script.into_os_string(),
                    arguments: vec![peer.name().into(), port.to_string().into()],
                    variables: Vec::new(),
                };
                self.started(place, program, peer.target(address, &place.run), Some(version))
            }
            Contestant::Running { name, target, meter } => Ok(Side {
                name: name.clone(),
                version: None,
                target: (**target).clone(),
                meter: *meter,
                internal: None,
                is_reference: false,
                publishes_per_s: place.publishes_per_s,
                program: None,
                process: None,
                _data: None,
            }),
        }
    }

    fn started(
        &self,
        place: &Place,
        program: Program,
        target: Target,
        version: Option<String>,
    ) -> Result<Side, Stopped> {
        let (process, meter) = program.start(self.name(), target.address)?;
        Ok(Side {
            name: self.name().to_owned(),
            version,
            target,
            meter: Some(meter),
            internal: None,
            is_reference: matches!(self, Contestant::Reference),
            publishes_per_s: place.publishes_per_s,
            program: Some(program),
            process: Some(process),
            _data: None,
        })
    }
}

/// A program that is a server.
#[derive(Debug)]
struct Program {
    core: Option<usize>,
    path: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Program {
    /// Runs it until it listens.
    fn start(&self, name: &str, address: SocketAddr) -> Result<(Process, Meter), Stopped> {
        let Program {
            core,
            path,
            arguments,
            variables,
        } = self;
        let mut process = Process::start(*core, path, arguments, variables, Pipes::Quiet)?;
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if process.has_ended() || begun.elapsed() > START_MAX {
                let ending = process.ending().map(|ending| format!(" ({ending})"));
                let ending = ending.unwrap_or_default();
                let words = process.words();
                return Err(Stopped::Failed(format!(
                    "{name} does not listen{ending}: {words}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let meter = Meter::of(process.pid())?;
        Ok((process, meter))
    }
}

impl Side {
    /// How it has ended, if it has, or does now, and what it said last.
    pub fn ending(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let ending = process.ending()?;
        match process.words() {
            // Who was killed had no time to say why.
            words if words.is_empty() || ending.contains("SIGKILL") => Some(ending),
            words => Some(format!("{ending}; it had said: {words}")),
        }
    }

    /// Kills it (SIGKILL) and starts it again at once, where and as it was, with the data that it had. Returns when it listens.
    pub fn restart(&mut self) -> Result<(), Stopped> {
        let Some(program) = &self.program else {
            let words = "only a server that the bench starts can be restarted";
            return Err(Stopped::Failed(words.to_owned()));
        };
        // Gone with its sockets when this is done.
        self.process = None;
        let (process, meter) = program.start(&self.name, self.target.address)?;
        (self.process, self.meter) = (Some(process), Some(meter));
        Ok(())
    }

    /// Whether it runs because the bench has started it.
    pub fn is_started_here(&self) -> bool {
        self.process.is_some()
    }

    /// One of the numbers of its `/metrics`; `None` of who is no Switchboard that was started here.
    pub fn counter(&self, name: &str) -> Result<Option<u64>, Stopped> {
        let read = |address| Api::new(address).counter(name);
        Ok(self.internal.map(read).transpose()?)
    }

    /// Files that it has open, and how many it may have, where that can be seen.
    pub fn files(&self) -> Option<(u64, u64)> {
        self.meter?.files().ok()
    }
}

fn peer_version(script: &Path, peer: Peer) -> Result<String, Stopped> {
    let output = std::process::Command::new(script)
        .args([peer.name(), "--version"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let words = String::from_utf8_lossy(&output.stdout);
            let line = words.lines().next().unwrap_or_default();
            // The script says the name as well.
            let version = line.strip_prefix(peer.name()).unwrap_or(line);
            Ok(version.trim().to_owned())
        }
        Ok(output) => Err(Stopped::Failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Err(error) => Err(Stopped::Failed(format!(
            "{}: {error}; --peers-dir says where the scripts of the peers are (crates/bench/peers)",
            script.display()
        ))),
    }
}

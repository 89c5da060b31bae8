//! What all scenarios may be told, and whom and where they measure then.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::BenchError;
use super::progress::Bar;
use crate::charge::Meter;
use crate::contestant::{Contestant, Place};
use crate::coordinator::Coordinator;
use crate::peers::Peer;
use crate::process;
use crate::scenario::{self, Field};
use crate::target::{self, Dialect, Hello, Target};

/// How long a look whether somebody listens may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What all scenarios may be told.
#[derive(Args, Clone, Debug)]
pub(super) struct Options {
    /// The server to measure; without any other word about it, a Switchboard.
    /// [default: ws://127.0.0.1:8000/ws]
    #[arg(long, value_name = "URL", conflicts_with = "spawn")]
    url: Option<String>,
    /// Start a Switchboard for it. Its settings are the defaults, whatever the environment says, without the rate limits of a
    /// connection: here a few publish what a thousand would.
    #[arg(long)]
    pub(super) spawn: bool,
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
    pub(super) json: bool,
}

impl Options {
    /// What is measured with what, and what a reader has to know of it.
    pub(super) fn field(&self) -> Result<(Field, Vec<String>), BenchError> {
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
            Some(pid) => Some(meter_of(pid)?),
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
        let (name, target) = match is_other {
            true => (url, self.other_target(host, path, address, run)?),
            false => {
                let dialect = self.dialect.unwrap_or(Dialect::Json);
                ("switchboard", Target::switchboard(address, dialect, run))
            }
        };
        self.check_listens(address)?;
        Ok(Contestant::Running {
            name: name.to_owned(),
            target: Box::new(target),
            meter,
        })
    }

    /// How to speak with a server that is no Switchboard, as the options say.
    fn other_target(
        &self,
        host: String,
        path: String,
        address: SocketAddr,
        run: &str,
    ) -> Result<Target, BenchError> {
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
        Ok(Target {
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
        })
    }

    /// Whether anybody is there. Where nobody is, everything else that can be said of it confuses.
    fn check_listens(&self, address: SocketAddr) -> Result<(), BenchError> {
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
}

/// The process that --pid names.
fn meter_of(pid: u32) -> Result<Meter, BenchError> {
    let wrong = |words: String| BenchError::Usage(format!("--pid {pid}: {words}"));
    let meter = Meter::of(pid).map_err(|error| wrong(error.to_string()))?;
    if meter.includes(std::process::id()) {
        return Err(wrong(
            "the load descends from it and would be charged to the server".to_owned(),
        ));
    }
    Ok(meter)
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

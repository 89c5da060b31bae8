//! The server as a process: started, killed, stopped, limited, and watched.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::api::Api;

/// For a start, on a machine that does many other things.
const START: Duration = Duration::from_secs(30);
/// For an end, beyond `server.drain_deadline`.
const STOP: Duration = Duration::from_secs(15);

/// How to start a server.
#[derive(Clone, Debug)]
pub struct How {
    /// The binary.
    pub binary: PathBuf,
    /// Settings (`SECTION__KEY`, value).
    pub settings: Vec<(String, String)>,
    /// Where its logs outlive it.
    pub data: Option<PathBuf>,
    /// What it says goes there.
    pub said: PathBuf,
    /// libfaketime, and the file that says how far the wall clock is off.
    pub wall_clock: Option<(PathBuf, PathBuf)>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Of the system.
    #[error("the server cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It ended at once, or said nothing.
    #[error("the server does not listen; its log says why")]
    Silent,
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    pid: Pid,
    /// For clients.
    pub public: SocketAddr,
    /// The internal listener.
    pub api: Api,
}

/// What a process uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Open files.
    pub files: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub address_bytes: u64,
}

impl Server {
    /// Starts one. `ports`: where an earlier one was, which it takes again; another one if somebody has it. `ahead_s`: its monotonic clock is
    /// ahead of the machine's.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn start(
        how: &How,
        ports: Option<(SocketAddr, SocketAddr)>,
        ahead_s: Option<u64>,
    ) -> Result<Server, StartError> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (public, internal) = ports.unwrap_or((free, free));
        match Server::try_start(how, public, internal, ahead_s).await {
            // Somebody else got one of them meanwhile.
            Err(StartError::Silent) if ports.is_some() && is_taken(&how.said) => {
                Server::try_start(how, free, free, ahead_s).await
            }
            started => started,
        }
    }

    async fn try_start(
        how: &How,
        public: SocketAddr,
        internal: SocketAddr,
        ahead_s: Option<u64>,
    ) -> Result<Server, StartError> {
        let mut command = match ahead_s {
            None => Command::new(&how.binary),
            Some(ahead_s) => {
                let mut command = Command::new("unshare");
                let ahead = ahead_s.to_string();
                command.args(["--time", "--monotonic", &ahead, "--boottime", &ahead]);
                command.arg(&how.binary);
                command
            }
        };
        command
            .args(["serve", "--listen", &public.to_string()])
            .args(["--internal-listen", &internal.to_string()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Without memory it would take seconds to say where it was, and end then.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(data) = &how.data {
            command.arg("--data-dir").arg(data);
        }
        for (key, value) in &how.settings {
            command.env(format!("SWITCHBOARD_{key}"), value);
        }
        if let Some((library, file)) = &how.wall_clock {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", file)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or(StartError::Silent)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
        let (listening, heard) = oneshot::channel();
        spawn_local(keep(stderr, how.said.clone(), listening));
        let heard = timeout(START, heard).await;
        let (Ok(Ok((public, internal))), Some(pid)) = (heard, pid) else {
            return Err(StartError::Silent);
        };
        Ok(Server {
            child,
            pid,
            public,
            api: Api(internal),
        })
    }

    /// Its addresses.
    pub fn ports(&self) -> (SocketAddr, SocketAddr) {
        (self.public, self.api.0)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// `kill -9`, and waits for its end.
    pub async fn kill(mut self) {
        // It may have ended already.
        let _ended = self.child.kill().await;
    }

    /// SIGTERM, and waits for its end; what is wrong with it, if something is.
    pub async fn drain(mut self) -> Result<(), String> {
        self.signal(Signal::TERM).map_err(|error| error.to_string())?;
        match timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("after SIGTERM the server ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("after SIGTERM the server did not end".to_owned()),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it uses.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn usage(&self) -> io::Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.pid.as_raw_nonzero()));
        let files = fs::read_dir(process.join("fd"))?.count() as u64;
        let status = fs::read_to_string(process.join("status"))?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        };
        let missing = || io::Error::from(io::ErrorKind::InvalidData);
        Ok(Usage {
            files,
            resident_bytes: bytes("VmRSS:").ok_or_else(missing)?,
            address_bytes: bytes("VmSize:").ok_or_else(missing)?,
        })
    }

    /// Its open files, in words: for who wants to know what was left open.
    pub fn files(&self) -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()));
        let links = files
            .into_iter()
            .flatten()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let mut words: Vec<String> = links.map(|link| link.display().to_string()).collect();
        words.sort_unstable();
        words
    }

    /// Lets it have no more than this of something; nothing: what this process may have.
    ///
    /// # Errors
    /// Of the system.
    pub fn limit(&self, resource: Resource, most: Option<u64>) -> io::Result<()> {
        let own = getrlimit(resource);
        let limit = Rlimit {
            current: most.or(own.maximum),
            maximum: own.maximum,
        };
        prlimit(Some(self.pid), resource, limit)?;
        Ok(())
    }
}

/// Keeps what a server says, and tells where it listens.
async fn keep(
    stderr: ChildStderr,
    into: PathBuf,
    listening: oneshot::Sender<(SocketAddr, SocketAddr)>,
) -> io::Result<()> {
    let mut file = tokio::fs::File::options()
        .create(true)
        .append(true)
        .open(&into)
        .await?;
    let mut listening = Some(listening);
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await? {
        file.write_all(format!("{line}\n").as_bytes()).await?;
        file.flush().await?;
        if let Ok(said) = serde_json::from_str::<Value>(&line)
            && said["message"] == "listening"
            && let Some(listening) = listening.take()
        {
            let address = |key: &str| said[key].as_str()?.parse().ok();
            if let (Some(public), Some(internal)) = (address("public"), address("internal")) {
                // Whoever does not wait any more has given up.
                let _given_up = listening.send((public, internal));
            }
        }
    }
    Ok(())
}

/// Whether the last that a server said is that it cannot listen where it should.
fn is_taken(said: &Path) -> bool {
    let text = fs::read_to_string(said).unwrap_or_default();
    text.lines()
        .next_back()
        .is_some_and(|line| line.contains("in use"))
}

/// What a server said at the level of errors, and of panics.
pub fn errors(said: &Path) -> Vec<String> {
    let text = fs::read_to_string(said).unwrap_or_default();
    let is_error = |line: &str| {
        let said = serde_json::from_str::<Value>(line);
        said.is_ok_and(|said| said["level"] == "ERROR")
    };
    let lines = text.lines().filter(|line| is_panic(line) || is_error(line));
    lines.map(str::to_owned).collect()
}

/// Whether a line tells of a panic.
pub fn is_panic(line: &str) -> bool {
    line.contains("panicked at")
}

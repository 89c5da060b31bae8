//! The server as a process, for what can only happen to one.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Live;

/// A running `switchboard serve`. Dropping it kills it, without a word to anybody.
pub struct Served {
    child: Killed,
    pub public: SocketAddr,
    pub internal: SocketAddr,
    /// What it said before it listened.
    pub log: Vec<Value>,
    _rest: BufReader<ChildStderr>,
}

impl Served {
    /// Without rates, on free ports, with these settings (`SECTION__KEY`, value).
    pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Served {
        Served::try_start(
            Command::new(env!("CARGO_BIN_EXE_switchboard")),
            directory,
            settings,
        )
        .unwrap()
    }

    /// The same by way of another command; what it said, if it ended.
    pub fn try_start(
        mut command: Command,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Served, String> {
        let quiet = [
            ("LIMITS__COMMANDS_PER_S", "unlimited"),
            ("LIMITS__INBOUND_BYTES_PER_S", "unlimited"),
            ("LIMITS__SUBSCRIBES_PER_S", "unlimited"),
            ("SERVER__SHARDS", "2"),
        ];
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--internal-listen",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (key, value) in quiet.iter().chain(settings) {
            command.env(format!("SWITCHBOARD_{key}"), value);
        }
        let mut child = Killed(command.spawn().unwrap());
        let mut rest = BufReader::new(child.0.stderr.take().unwrap());
        let mut log = Vec::new();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if rest.read_line(&mut line).unwrap() == 0 {
                return Err(said);
            }
            said.push_str(&line);
            let Ok(line) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if line["message"] == "listening" {
                let address = |key: &str| line[key].as_str().unwrap().parse().unwrap();
                return Ok(Served {
                    public: address("public"),
                    internal: address("internal"),
                    child,
                    log,
                    _rest: rest,
                });
            }
            log.push(line);
        }
    }

    /// For clients. It counts nothing.
    pub fn live(&self) -> Live {
        Live {
            public: self.public,
            internal: self.internal,
            stats: Arc::new([]),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    pub fn kill(self) {}

    /// SIGTERM, and its end.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.0.wait().unwrap().success());
    }

    /// A line of its log, by its message.
    pub fn said(&self, message: &str) -> Option<&Value> {
        self.log.iter().find(|line| line["message"] == message)
    }
}

/// A process that does not outlive its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A directory that is gone with the test.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("switchboard-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// Bytes of all files in it.
    pub fn bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.0).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    /// The segments, the oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.0).unwrap();
        let mut segments: Vec<PathBuf> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        segments.sort();
        segments
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

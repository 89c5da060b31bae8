//! The process of the JavaScript clients: told phases on its input, says what it has reached on its output.

use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};

use super::{Phase, Reached};
use crate::clock::RunClock;
use crate::plan::Client as Plan;
use crate::troubles::Troubles;

/// The program of the clients.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/client.mjs");

/// The running process. Dropping it kills it.
pub struct Node {
    /// Kills it when this is dropped.
    _child: Child,
    pid: Option<Pid>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Reached {
        phase: u8,
        stands: Vec<(String, String)>,
    },
    Trouble {
        trouble: String,
    },
}

impl Node {
    /// Starts it with these clients.
    ///
    /// # Errors
    /// Of the system.
    #[expect(clippy::too_many_arguments)] // each is one thing that the process is told
    pub fn start(
        who: usize,
        sdk: &Path,
        directory: &Path,
        url: &str,
        clock: RunClock,
        clients: &[Plan],
        (phase, reached): (watch::Receiver<Phase>, mpsc::Sender<Reached>),
        troubles: Troubles,
    ) -> io::Result<Node> {
        let said = std::fs::File::options()
            .create(true)
            .append(true)
            .open(directory.join("node.txt"))?;
        let mut child = Command::new("node")
            .arg(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
        let (stdin, stdout) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let begin = json!({
            "origin_ns": clock.origin_ns().to_string(),
            "url": url,
            "directory": directory,
            "sdk": sdk,
            "clients": clients,
        });
        let telling = spawn_local(async move {
            // Whoever does not read any more has ended, which its silence tells.
            let _silent = tell(stdin, begin, phase).await;
        });
        let hearing = spawn_local(hear(who, stdout, reached, troubles));
        Ok(Node {
            _child: child,
            pid,
            tasks: [telling, hearing],
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.pid {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn tell(
    mut stdin: tokio::process::ChildStdin,
    begin: serde_json::Value,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    stdin.write_all(format!("{begin}\n").as_bytes()).await?;
    loop {
        let line = serde_json::to_string(&*phase.borrow_and_update())?;
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        stdin.flush().await?;
        if phase.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn hear(who: usize, stdout: ChildStdout, reached: mpsc::Sender<Reached>, troubles: Troubles) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Said::Reached { phase, stands }) => {
                let reached = reached.send(Reached { who, phase, stands }).await;
                if reached.is_err() {
                    return;
                }
            }
            Ok(Said::Trouble { trouble }) => troubles.tell(trouble),
            Err(error) => troubles.tell(format!("the JavaScript clients said {line:?}: {error}")),
        }
    }
}

//! Child processes: on the core they are meant for, gone when the bench is gone, however it goes.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A child that ends with its owner: when this is dropped, and by the kernel's hand should the bench be killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    words: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// Bytes kept of what a child says on its standard error: the newest.
const WORDS_BYTES_MAX: usize = 4_096;
/// Time for a process to end whose connections have ended.
const END_MAX: Duration = Duration::from_millis(200);
/// Time to read what a child has said that has ended; longer only where a descendant holds the pipe.
const WORDS_MAX: Duration = Duration::from_secs(1);

impl Process {
    /// Starts a program through [`exec`], which pins it. `core`: where it runs; `None`: anywhere.
    pub fn start(
        core: Option<usize>,
        program: &OsString,
        arguments: &[OsString],
        variables: &[(&str, &str)],
        pipes: Pipes,
    ) -> io::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        if !variables.is_empty() {
            // What is measured depends on nothing in the caller's shell.
            let inherited = std::env::vars_os().map(|(name, _)| name);
            for name in inherited.filter(|name| name.to_string_lossy().starts_with("SWITCHBOARD_")) {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        command.args(["bench", "exec", "--parent", &std::process::id().to_string()]);
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        command.arg("--").arg(program).args(arguments);
        // A Ctrl-C at the terminal is for the bench alone: it asks its children for what they have first.
        command.process_group(0);
        let (stdin, stdout, stderr) = match pipes {
            Pipes::Control => (Stdio::piped(), Stdio::piped(), Stdio::inherit()),
            Pipes::Quiet => (Stdio::null(), Stdio::null(), Stdio::piped()),
        };
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
        let words: Arc<Mutex<Vec<u8>>> = Arc::default();
        let reader = child.stderr.take().map(|mut stderr| {
            let words = words.clone();
            // Read all the time: a full pipe would stop the child.
            std::thread::spawn(move || {
                let mut piece = [0; 1_024];
                while let Ok(length @ 1..) = stderr.read(&mut piece) {
                    let Ok(mut words) = words.lock() else { return };
                    words.extend_from_slice(&piece[..length]);
                    let excess = words.len().saturating_sub(WORDS_BYTES_MAX);
                    words.drain(..excess);
                }
            })
        });
        Ok(Process { child, words, reader })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its ends of the pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The end of what it has said on its standard error. For one that has ended.
    pub fn words(&self) -> String {
        let begun = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && begun.elapsed() < WORDS_MAX
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let words = self
            .words
            .lock()
            .map(|words| String::from_utf8_lossy(&words).trim().to_owned());
        words.unwrap_or_default()
    }

    /// How it has ended, `signal: 9 (SIGKILL)`, if it has, or does soon: its connections end before it does.
    pub fn ending(&mut self) -> Option<String> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if begun.elapsed() > END_MAX => return None,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) => return Some(status.to_string()),
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; nobody else is to be told.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// What of a child's standard streams is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pipes {
    /// Input and output, to talk with it.
    Control,
    /// Its errors alone, to say why it ended.
    Quiet,
}

/// Becomes another program, on one core, killed when `parent` ends, which has started this process. Returns only if that
/// fails.
pub fn exec(parent: u32, core: Option<usize>, program: &OsString, arguments: &[OsString]) -> io::Error {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have ended before that was said.
    if rustix::process::getppid().is_none_or(|now| now.as_raw_nonzero().get().unsigned_abs() != parent) {
        return io::Error::other("the bench has ended");
    }
    if let Some(core) = core
        && let Err(error) = pin(core)
    {
        return error;
    }
    Command::new(program).args(arguments).exec()
}

/// The cores that this process may use.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None::<Pid>)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Binds this thread, and what it starts, to one core of [`cores`].
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None::<Pid>, &set)
        .map_err(|error| io::Error::other(format!("core {core} cannot be had: {error}")))
}

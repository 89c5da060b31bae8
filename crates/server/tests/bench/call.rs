//! Calls of the program, and what it said.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use switchboard_bench::report::{Report, Series};

use crate::kernel::Process;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");
/// Whatever is waited for comes within this time, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// Runs `switchboard bench` with these words.
pub fn bench(words: &str) -> Ended {
    Running::start(words).ended()
}

/// The same with words that hold blanks.
pub fn bench_with(words: &str, more: &[&str]) -> Ended {
    let mut command = command(words);
    command.args(more);
    Running::run(command).ended()
}

/// The same in a process that may open `files` files and no more.
pub fn bench_with_files(files: u32, words: &str) -> Ended {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            &format!("ulimit -n {files} && exec \"$@\""),
            "sh",
            PROGRAM,
            "bench",
        ])
        .args(words.split_whitespace())
        .env_clear();
    Running::run(command).ended()
}

/// The same in a network of its own, where `ports` (`FIRST LAST`) are the ones that a client may have. `None`: the system lets
/// nobody make one.
pub fn bench_with_ports(ports: &str, words: &str) -> Option<Ended> {
    const NO_NETWORK: i32 = 99;
    let mut command = Command::new("unshare");
    let script = format!(
        "(ip link set lo up && echo '{ports}' > /proc/sys/net/ipv4/ip_local_port_range) >/dev/null 2>&1 || exit {NO_NETWORK}; exec \"$@\""
    );
    command
        .args([
            "--map-root-user",
            "--net",
            "/bin/sh",
            "-c",
            &script,
            "sh",
            PROGRAM,
            "bench",
        ])
        .args(words.split_whitespace());
    let ended = Running::run(command).ended();
    let made = ended.code != Some(NO_NETWORK) && !ended.err.starts_with("unshare: ");
    made.then_some(ended)
}

/// Runs `switchboard bench` with a variable in its environment.
pub fn bench_in(name: &str, value: &str, words: &str) -> Ended {
    let mut command = command(words);
    command.env(name, value);
    Running::run(command).ended()
}

fn command(words: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("bench").args(words.split_whitespace()).env_clear();
    command
}

/// A call that goes on. Killed when the value goes.
pub struct Running {
    child: Child,
    out: Stream,
    err: Stream,
}

/// What comes out of a process.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(mut stream: impl Read + Send + 'static) -> Stream {
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let ours = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let length @ 1.. = stream.read(&mut piece).unwrap() {
                ours.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Stream {
            text,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}

impl Running {
    /// Begins to run `switchboard bench` with these words.
    pub fn start(words: &str) -> Running {
        Running::run(command(words))
    }

    fn run(mut command: Command) -> Running {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running {
            child,
            out: Stream::of(out),
            err: Stream::of(err),
        }
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::of(self.child.id()).unwrap()
    }

    /// The first line that it prints.
    #[track_caller]
    pub fn first_line(&self) -> String {
        until("a line", || {
            let text = self.out.so_far();
            Some(text.split_once('\n')?.0.to_owned())
        })
    }

    /// How it ends, and what it said until then.
    pub fn ended(mut self) -> Ended {
        let status = until("the bench ends", || self.child.try_wait().unwrap());
        Ended {
            code: status.code(),
            out: self.out.whole(),
            err: self.err.whole(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do where it has ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// These words are in the output, wherever its lines end.
    #[track_caller]
    pub fn says(self, words: &str) -> Ended {
        let out: Vec<_> = self.out.split_whitespace().collect();
        assert!(out.join(" ").contains(words), "expected {words:?} in\n{self}");
        self
    }

    /// These words are on the standard error.
    #[track_caller]
    pub fn complains(self, words: &str) -> Ended {
        assert!(self.err.contains(words), "expected {words:?} in\n{self}");
        self
    }

    /// What `--json` printed.
    #[track_caller]
    pub fn report(&self) -> Report {
        match serde_json::from_str(&self.out) {
            Ok(report) => report,
            Err(error) => panic!("{error}: {self}"),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}\n{}", self.code, self.out, self.err)
    }
}

/// Everyone of a report but the reference.
pub fn measured(report: &Report) -> Vec<&Series> {
    report
        .series
        .iter()
        .filter(|series| !series.is_reference)
        .collect()
}

/// The only one that was measured beside the reference.
#[track_caller]
pub fn only(report: &Report) -> &Series {
    let measured = measured(report);
    assert_eq!(measured.len(), 1, "{report:?}");
    measured[0]
}

/// The least sample of a figure.
#[track_caller]
pub fn least(series: &Series, what: &str) -> f64 {
    match series.figure(what).and_then(|figure| figure.minimum()) {
        Some(least) => least,
        None => panic!("no {what} in {series:?}"),
    }
}

/// Looks until there is something to see.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

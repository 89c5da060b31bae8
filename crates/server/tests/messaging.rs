//! `switchboard serve`, `listen` and `publish` together, each a process of its own.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For what comes, if it comes at all.
const PATIENCE: Duration = Duration::from_secs(30);

fn switchboard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.args(args).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

struct Server {
    process: Process,
    address: SocketAddr,
    _log: BufReader<ChildStderr>,
}

impl Server {
    fn start() -> Server {
        Server::with("127.0.0.1:0", &[])
    }

    fn with(listen: &str, environment: &[(&str, &str)]) -> Server {
        let mut command = switchboard(&["serve", "--listen", listen, "--internal-listen", "127.0.0.1:0"]);
        command.envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let process = Process(child);
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                let address = line["public"].as_str().unwrap().parse().unwrap();
                return Server {
                    process,
                    address,
                    _log: log,
                };
            }
        }
    }

    fn url(&self) -> String {
        url(self.address)
    }

    fn kill(self) -> SocketAddr {
        self.address
    }
}

fn url(address: SocketAddr) -> String {
    format!("ws://{address}/ws")
}

/// A running `switchboard listen`.
struct Listener {
    process: Process,
    lines: Receiver<String>,
}

impl Listener {
    /// Starts, and waits until it receives: `probe` is one of its channels.
    fn start(url: &str, args: &[&str], probe: &str) -> Listener {
        let listener = Listener::spawn(url, args);
        let deadline = Instant::now() + PATIENCE;
        while listener.lines.recv_timeout(Duration::from_millis(20)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            publish(url, &[probe, "probe"]);
        }
        listener
    }

    fn spawn(url: &str, args: &[&str]) -> Listener {
        let mut child = switchboard(&[&["listen", "--url", url][..], args].concat())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                if sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Listener {
            process: Process(child),
            lines,
        }
    }

    /// The next line that is not about a probe.
    fn line(&self) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            if !line.contains("probe") {
                return line;
            }
        }
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Its exit code, and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.process.0.wait().unwrap().code();
        let mut said = String::new();
        self.process
            .0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (code, said)
    }
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || {
        // It may end before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Publishes, and returns the acknowledgements.
fn publish(url: &str, args: &[&str]) -> Vec<Value> {
    published(url, args, "")
}

fn published(url: &str, args: &[&str], input: &str) -> Vec<Value> {
    let ended = run(
        switchboard(&[&["publish", "--url", url][..], args].concat()),
        input,
    );
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}");
    ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_one_publishes_everyone_who_listens_sees() {
    let server = Server::start();
    let url = server.url();
    let json = Listener::start(&url, &["room:1", "room:2", "room:1"], "room:1");
    let data = Listener::start(&url, &["--data", "room:1"], "room:1");

    let acknowledged = publish(&url, &["room:1", r#"{"text":"hi"}"#]);
    let event = json.event();
    assert_eq!(event["type"], "message");
    assert_eq!(
        (&event["channel"], &event["offset"], &event["position"]),
        (
            &acknowledged[0]["channel"],
            &acknowledged[0]["offset"],
            &acknowledged[0]["position"]
        )
    );
    assert_eq!(event["data"]["text"], "hi");
    assert!(event["from"].as_str().unwrap().starts_with("guest-"), "{event}");
    assert!(event["at"].as_u64().unwrap() > 1_700_000_000_000, "{event}");
    assert_eq!(data.line(), r#"{"text":"hi"}"#);

    publish(&url, &["room:2", "--base64", "AAEC/w=="]);
    let event = json.event();
    assert_eq!(event["channel"], "room:2");
    assert_eq!(event["data_base64"], "AAEC/w==");
    publish(&url, &["room:1", "--text", "42"]);
    assert_eq!(json.event()["data"], "42");
    assert_eq!(data.line(), "42");
}

#[test]
fn listen_ends_after_count_messages() {
    let server = Server::start();
    let listener = Listener::start(&server.url(), &["--data", "--count", "3", "jobs"], "jobs");
    // The first may have been a probe already, and more probes than one.
    let probes = 1 + listener.lines.try_iter().count();
    for _ in probes..3 {
        publish(&server.url(), &["jobs", "go"]);
    }
    assert_eq!(listener.end(), (Some(0), String::new()));
}

#[test]
fn lines_of_standard_input_arrive_in_order_at_the_pace_of_the_server() {
    // More than the server takes at once: 200, and 100 in a second.
    const LINES: usize = 350;
    let server = Server::start();
    let listener = Listener::start(&server.url(), &["--data", "logs"], "logs");
    let input: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    let acknowledged = published(&server.url(), &["logs", "-"], &input);
    assert_eq!(acknowledged.len(), LINES);
    let offsets: Vec<u64> = acknowledged
        .iter()
        .map(|line| line["offset"].as_u64().unwrap())
        .collect();
    assert!(offsets.is_sorted_by(|a, b| a < b));
    for number in 0..LINES {
        assert_eq!(listener.line(), format!("line {number}"));
    }
}

#[test]
fn a_server_that_takes_less_than_usual_gets_the_lines_in_order_too() {
    let limits = [
        ("SWITCHBOARD_LIMITS__COMMANDS_PER_S", "2/s"),
        ("SWITCHBOARD_LIMITS__COMMANDS_BURST", "10"),
    ];
    let server = Server::with("127.0.0.1:0", &limits);
    let input: String = (0..12).map(|number| format!("{number}\n")).collect();
    let acknowledged = published(&server.url(), &["--text", "logs", "-"], &input);
    assert_eq!(acknowledged.len(), 12);
    let offsets: Vec<_> = acknowledged.iter().map(|line| line["offset"].as_u64()).collect();
    assert_eq!(offsets, (1..=12).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_line_that_is_no_message_ends_publishing_after_those_before_it() {
    let server = Server::start();
    let url = server.url();
    let ended = run(
        switchboard(&["publish", "--url", &url, "--json", "--key", "k", "logs", "-"]),
        "1\n2\nthree\n4\n",
    );
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.out.lines().count(), 2);
    assert_eq!(ended.err, "error: line 3 of standard input: not valid JSON\n");
    // The keys of the lines: the same again publish nothing.
    let again = published(&url, &["--json", "--key", "k", "logs", "-"], "1\n2\n3\n");
    let offsets: Vec<_> = again
        .iter()
        .map(|line| line["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [1, 2, 3]);
}

#[test]
fn without_a_server_both_fail_and_say_so() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = url(nobody);
    for args in [
        &["listen", "--url", &url, "room:1"][..],
        &["publish", "--url", &url, "room:1", "hi"],
        &["publish", "--url", &url, "room:1", "-"],
    ] {
        let ended = run(switchboard(args), "hi\n");
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{args:?}");
        let expected = format!("error: cannot connect to {url}: cannot reach {nobody}: ");
        assert!(ended.err.starts_with(&expected), "{}", ended.err);
    }
}

#[test]
fn a_wrong_address_is_wrong_usage_and_a_wrong_path_is_not() {
    let secure = run(
        switchboard(&["listen", "--url", "wss://127.0.0.1:1/ws", "room:1"]),
        "",
    );
    assert_eq!(secure.code, Some(2));
    assert!(
        secure.err.contains("wss:// is not supported yet"),
        "{}",
        secure.err
    );
    let server = Server::start();
    let url = format!("ws://{}/nothing", server.address);
    let elsewhere = run(switchboard(&["publish", "--url", &url, "room:1", "hi"]), "");
    assert_eq!(elsewhere.code, Some(1));
    assert!(
        elsewhere.err.contains("404 Not Found: Nothing is here."),
        "{}",
        elsewhere.err
    );
}

#[test]
fn what_is_too_large_for_the_server_is_not_published() {
    let server = Server::start();
    let ended = run(
        switchboard(&["publish", "--url", &server.url(), "room:1", "-"]),
        &format!("small\n{}\n", rather_random(70_000)),
    );
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.out.lines().count(), 1);
    assert!(
        ended.err.starts_with(
            "error: line 2 of standard input: sent, but not acknowledged: closed by the server with code 1009"
        ),
        "{}",
        ended.err
    );
}

/// Letters that do not compress well.
fn rather_random(length: u32) -> String {
    let letter = |number: u32| char::from(b'a' + (number.wrapping_mul(2_654_435_761) >> 27) as u8 % 26);
    (0..length).map(letter).collect()
}

#[test]
fn ctrl_c_ends_listen_in_good_order() {
    let server = Server::start();
    let listener = Listener::start(&server.url(), &["room:1"], "room:1");
    listener.process.signal(rustix::process::Signal::INT);
    assert_eq!(listener.end(), (Some(0), String::new()));
}

#[test]
fn a_reader_that_goes_away_ends_listen_quietly() {
    let server = Server::start();
    let mut child = switchboard(&["listen", "--url", &server.url(), "room:1"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut process = Process(child);
    let deadline = Instant::now() + PATIENCE;
    // It finds out when it has something to write.
    while process.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
        publish(&server.url(), &["room:1", "hi"]);
    }
    let mut said = String::new();
    process
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((process.0.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_restarted_server_is_found_again_and_its_new_log_is_no_continuation() {
    let server = Server::start();
    let listener = Listener::start(&server.url(), &["room:1"], "room:1");
    publish(&server.url(), &["room:1", "before"]);
    assert_eq!(listener.event()["data"], "before");
    let address = server.kill();
    let server = Server::with(&address.to_string(), &[]);
    publish(&server.url(), &["room:1", "after"]);
    assert_eq!(listener.event()["type"], "reset");
    assert_eq!(listener.event()["data"], "after");
    publish(&server.url(), &["room:1", "live"]);
    assert_eq!(listener.event()["data"], "live");
}

#[test]
fn a_listener_survives_kills_of_a_server_with_data_and_misses_nothing() {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let directory = std::env::temp_dir().join(format!("switchboard-{:016x}", u64::from_ne_bytes(random)));
    let data = [("SWITCHBOARD_DATA__DIR", directory.to_str().unwrap())];
    let mut server = Server::with("127.0.0.1:0", &data);
    let listener = Listener::start(&server.url(), &["room:1"], "room:1");
    for round in 0..5 {
        for number in 0..20 {
            publish(&server.url(), &["room:1", "--text", &format!("{round}.{number}")]);
        }
        // Some were on their way, and some come when it is back.
        let address = server.kill();
        server = Server::with(&address.to_string(), &data);
        for number in 20..25 {
            publish(&server.url(), &["room:1", "--text", &format!("{round}.{number}")]);
        }
        for number in 0..25 {
            let event = listener.event();
            assert_eq!(event["type"], "message", "no gap, no reset: {event}");
            assert_eq!(event["data"], format!("{round}.{number}"));
        }
    }
    drop(server);
    std::fs::remove_dir_all(directory).unwrap();
}

/// It stands still for so long that the log has forgotten what it had not read.
#[test]
fn a_listener_that_was_stopped_is_told_exactly_what_the_log_no_longer_holds() {
    const KEPT: u64 = 5;
    let server = Server::with(
        "127.0.0.1:0",
        &[
            ("SWITCHBOARD_CHANNELS__LOG_MESSAGES_MAX", "5"),
            ("SWITCHBOARD_LIMITS__INBOUND_BYTES_PER_S", "unlimited"),
            ("SWITCHBOARD_LIMITS__COMMANDS_PER_S", "unlimited"),
            // A reader that takes nothing is given up, and comes back when it goes on.
            ("SWITCHBOARD_LIMITS__WRITE_STALL", "500ms"),
        ],
    );
    let listener = Listener::start(&server.url(), &["room:1"], "room:1");
    publish(&server.url(), &["room:1", "--text", "before"]);
    assert_eq!(listener.event()["data"], "before");
    listener.process.signal(rustix::process::Signal::STOP);
    // More than all buffers between them hold, also when it is compressed.
    let mut state = 1u64;
    let mut character = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 40) as u8 % 64)
    };
    let line: String = (0..40_000).map(|_| character()).chain(['\n']).collect();
    let acknowledged = published(&server.url(), &["--text", "room:1", "-"], &line.repeat(500));
    let last = acknowledged.last().unwrap()["offset"].as_u64().unwrap();
    listener.process.signal(rustix::process::Signal::CONT);
    let mut at = last - 500;
    let mut gaps = Vec::new();
    while at < last {
        let event = listener.event();
        let number = |key: &str| event[key].as_u64().unwrap();
        if event["type"] == "gap" {
            assert_eq!(number("from"), at + 1, "it begins where the messages end");
            at = number("to");
            gaps.push(at);
        } else {
            assert_eq!((&event["type"], number("offset")), (&"message".into(), at + 1));
            at += 1;
        }
    }
    // Buffers may take a little more while it stands still, so there may have been smaller ones before.
    assert_eq!(
        gaps.last(),
        Some(&(last - KEPT)),
        "the last ends where the log begins: {gaps:?}"
    );
}

/// A network between listener and server that can be cut.
struct Network {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Network {
    fn to(server: SocketAddr) -> Network {
        let entrance = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Network {
            address: entrance.local_addr().unwrap(),
            cut: Arc::default(),
            streams: Arc::default(),
        };
        let (cut, streams) = (network.cut.clone(), network.streams.clone());
        std::thread::spawn(move || {
            while let Ok((near, _)) = entrance.accept() {
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let far = TcpStream::connect(server).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        network
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

#[test]
fn what_was_missed_while_the_network_was_cut_is_shown_in_its_place() {
    let server = Server::start();
    let direct = server.url();
    let network = Network::to(server.address);
    let listener = Listener::start(&url(network.address), &["room:1", "room:2"], "room:1");
    for round in 0..3 {
        network.cut();
        for number in 0..5 {
            publish(&direct, &["room:1", &format!("{round} missed {number}")]);
        }
        network.mend();
        for number in 0..5 {
            assert_eq!(listener.event()["data"], format!("{round} missed {number}"));
        }
        publish(&direct, &["room:2", &format!("{round} live")]);
        assert_eq!(listener.event()["data"], format!("{round} live"));
    }
}

#[test]
fn what_the_log_no_longer_holds_is_said_to_be_missing() {
    let server = Server::with("127.0.0.1:0", &[("SWITCHBOARD_CHANNELS__LOG_MESSAGES_MAX", "2")]);
    let direct = server.url();
    let network = Network::to(server.address);
    let listener = Listener::start(&url(network.address), &["room:1"], "room:1");
    publish(&direct, &["room:1", "seen"]);
    let seen = listener.event()["offset"].as_u64().unwrap();
    network.cut();
    for number in 0..5 {
        publish(&direct, &["room:1", &format!("{number}")]);
    }
    network.mend();
    let gap = listener.event();
    assert_eq!(
        (&gap["type"], gap["from"].as_u64(), gap["to"].as_u64()),
        (&"gap".into(), Some(seen + 1), Some(seen + 3))
    );
    assert_eq!(listener.event()["data"], 3);
    assert_eq!(listener.event()["data"], 4);
}

#[test]
fn a_server_that_stops_well_is_waited_for_as_long_as_it_asks() {
    let server = Server::start();
    let mut listener = Listener::start(&server.url(), &["room:1"], "room:1");
    server.process.signal(rustix::process::Signal::TERM);
    let mut process = server.process;
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    assert!(listener.process.0.try_wait().unwrap().is_none(), "it tries again");
    // As whoever started it would.
    listener.process.signal(rustix::process::Signal::TERM);
    let (code, notes) = listener.end();
    assert_eq!(code, Some(0));
    let expected = "closed by the server with code 1001: stopping; connecting again in ";
    assert!(notes.starts_with(expected), "a job's log says it, too: {notes}");
}

//! The CPU that is charged, beside what the kernel says of the same process in another place.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use switchboard_bench::charge::Meter;

use crate::call::{PROGRAM, bench, least, only, until};
use crate::kernel::user_and_system_ns;

/// A server, and where it listens. Ends with this.
struct Server(Child, String);

impl Server {
    fn start(settings: &[(&str, &str)]) -> Server {
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--internal-listen",
                "127.0.0.1:0",
                "--shards",
                "2",
            ])
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        // Read until the end: a full pipe would stop the server.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _not_wanted_any_more = sender.send(line);
            }
        });
        let address = until("the server listens", || {
            let line: serde_json::Value = serde_json::from_str(&lines.try_recv().ok()?).ok()?;
            Some(line["public"].as_str()?.to_owned())
        });
        Server(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// `utime` and `stime` are what `getrusage` gives. They come in steps of 10 ms, and are read when more than 2 s of work are
/// done; so the steps make less than a hundredth.
#[test]
fn the_charge_agrees_with_user_and_system_time() {
    const ECHOES: u64 = 1_000;
    let server = Server::start(&[]);
    let pid = server.0.id();
    let meter = Meter::of(pid).unwrap();
    let read = || (meter.cpu_ns().unwrap() as f64, user_and_system_ns(pid) as f64);
    let (charged_before, known_before) = read();
    let mut figures = 0.0;
    let known = until("the server has worked for 2 s", || {
        let ended = bench(&format!(
            "echo --url ws://{}/echo --connections 4 --bytes 65000 --echoes {ECHOES} --rounds 1 --json",
            server.1
        ))
        .expect(0);
        figures += least(only(&ended.report()), "CPU per echo") * ECHOES as f64;
        let known = read().1 - known_before;
        (known >= 2e9).then_some(known)
    });
    let charged = read().0 - charged_before;
    let ratio = charged / known;
    assert!(
        (0.95..=1.05).contains(&ratio),
        "{charged} ns by schedstat, {known} ns by user and system time"
    );

    // And the figures are made of it: the warm-up, which is in none, has a quarter of a round. So four fifths are, less what
    // connecting has cost.
    let share = figures / known;
    assert!(
        (0.6..=0.95).contains(&share),
        "{figures} ns in the figures, {known} ns in all"
    );
}

/// Every connection is pinged when it has been silent for an interval, give or take 20 %, so that the rate is known.
#[test]
fn heartbeats_are_counted() {
    const CONNECTIONS: f64 = 200.0;
    const INTERVAL: f64 = 1.0;
    let server = Server::start(&[("SWITCHBOARD_LIMITS__PING_INTERVAL", "1s")]);
    let ended = bench(&format!(
        "idle --url ws://{}/ws --connections {CONNECTIONS} --seconds 5 --after 0 --rounds 1 --json",
        server.1
    ))
    .expect(0);
    let report = ended.report();
    let rate = least(only(&report), "heartbeats");
    let expected = CONNECTIONS / INTERVAL;
    // Whoever answers late is asked late, so a busy machine has fewer.
    assert!((expected * 0.2..=expected * 1.5).contains(&rate), "{ended}");
    let busy = least(only(&report), "CPU while idle");
    let each = least(only(&report), "CPU per heartbeat");
    let product = each * rate / 1e9 * 100.0;
    assert!((0.99..=1.01).contains(&(product / busy)), "{ended}");
}

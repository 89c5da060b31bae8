//! Every scenario against servers that the bench starts itself, and against a Switchboard that runs already.

use switchboard_bench::report::{Report, Series};

use crate::call::{Ended, Running, bench, bench_in, least, measured, until};
use crate::kernel::Process;

/// A report without faults, in which everyone has all samples of every figure, and a ratio.
#[track_caller]
fn whole(ended: Ended, rounds: usize, variants: &[&str]) -> Report {
    let ended = ended.expect(0);
    assert_eq!(ended.err, "", "{ended}");
    let report = ended.report();
    assert!(!report.interrupted, "{ended}");
    let of = |series: &[&Series]| -> Vec<String> { series.iter().map(|one| one.variant.clone()).collect() };
    let references: Vec<_> = report
        .series
        .iter()
        .filter(|series| series.is_reference)
        .collect();
    assert_eq!(of(&measured(&report)), variants, "{ended}");
    assert_eq!(of(&references), variants, "{ended}");
    for series in &report.series {
        assert_eq!(series.fault, None, "{ended}");
        assert!(!series.figures.is_empty(), "{ended}");
        for figure in &series.figures {
            assert_eq!(figure.samples.len(), rounds, "{}: {ended}", figure.what);
            assert!(
                figure.samples.iter().all(|sample| *sample >= 0.0),
                "{}: {ended}",
                figure.what
            );
        }
    }
    for (series, reference) in measured(&report).iter().zip(references) {
        assert_eq!(series.name, "switchboard");
        assert_eq!(series.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        for figure in &series.figures {
            // So few connections may fit into what the bare server has anyway, and some of it it does not have at all.
            let beside = reference.figure(&figure.what);
            let nothing = beside.is_none_or(|beside| beside.median() == Some(0.0));
            assert_eq!(figure.ratio.is_none(), nothing, "{}: {ended}", figure.what);
        }
    }
    report
}

#[track_caller]
fn figures(report: &Report, expected: &[&str]) {
    for series in &report.series {
        let whats: Vec<_> = series.figures.iter().map(|figure| figure.what.as_str()).collect();
        assert_eq!(whats, expected);
    }
}

#[test]
fn fanout() {
    let ended = bench(
        "fanout --spawn --subscribers 20 --messages 20 --burst 1,10 --compress --shards 1,2 --rounds 2 --json",
    );
    let report = whole(
        ended,
        2,
        &[
            "single messages, 1 shard, plain",
            "single messages, 1 shard, compressed",
            "bursts of 10, 1 shard, plain",
            "bursts of 10, 1 shard, compressed",
            "single messages, 2 shards, plain",
            "single messages, 2 shards, compressed",
            "bursts of 10, 2 shards, plain",
            "bursts of 10, 2 shards, compressed",
        ],
    );
    let noted = |words: &str| report.notes.iter().any(|note| note.contains(words));
    assert!(noted("With more than one shard "), "{:?}", report.notes);
    assert!(noted("The reference compresses nothing"), "{:?}", report.notes);
    assert!(
        noted("The shortest round is the work of 87 deliveries"),
        "{:?}",
        report.notes
    );
    figures(&report, &["CPU per delivery", "deliveries"]);
    assert!(
        report
            .command
            .starts_with("switchboard bench fanout --spawn --subscribers 20 ")
    );
}

#[test]
fn fanout_in_a_table() {
    let ended = bench("fanout --spawn --dialect raw --subscribers 20 --messages 20 --rounds 2").expect(0);
    assert_eq!(ended.err, "");
    let rows = |name: &str| {
        ended
            .out
            .lines()
            .filter(|line| line.trim_start().starts_with(name))
            .count()
    };
    assert_eq!((rows("switchboard"), rows("reference")), (2, 2), "{ended}");
    ended
        .says("fanout · 20 subscribers, 64 bytes")
        .says("min median max ratio")
        .says("1 ×");
}

#[test]
fn event_streams_beside_websockets() {
    std::thread::scope(|scope| {
        let idle = scope.spawn(|| bench("idle --spawn --sse --connections 300 --after 0 --rounds 1 --json"));
        let ended = bench("fanout --spawn --sse --subscribers 20 --messages 20 --rounds 2 --json");
        let report = whole(ended, 2, &["by WebSocket", "by SSE"]);
        figures(&report, &["CPU per delivery", "deliveries"]);
        let report = whole(
            idle.join().unwrap(),
            1,
            &["one channel, by WebSocket", "one channel, by SSE"],
        );
        figures(&report, &["resident per connection"]);
    });
}

#[test]
fn polling_storm() {
    let ended = bench(
        "polling-storm --spawn --clients 40 --rooms 4 --interval 1 --every 1 --messages 2 --rounds 1 --json",
    );
    let ways = [
        "by WebSocket",
        "by SSE",
        "by held polls",
        "by polls at an interval",
    ];
    let ended = ended.expect(0);
    // Into a pipe, too.
    let told: Vec<_> = ended.err.lines().collect();
    let [begins, done @ ..] = &told[..] else {
        panic!("{ended}");
    };
    assert!(
        begins.starts_with("polling-storm: 40 clients") && begins.ends_with(": about 24 seconds."),
        "{begins}"
    );
    assert_eq!(done, ways.map(|way| format!("switchboard, {way}: done")));
    let report = ended.report();
    assert!(
        report.series.iter().all(|series| series.fault.is_none()),
        "{ended}"
    );
    let series = measured(&report);
    let variants: Vec<_> = series.iter().map(|series| &*series.variant).collect();
    assert_eq!(variants, ways);
    // One reference, with all its rounds.
    let references: Vec<_> = report
        .series
        .iter()
        .filter(|series| series.is_reference)
        .collect();
    let [reference] = references[..] else {
        panic!("{ended}");
    };
    assert_eq!(reference.variant, "");
    assert!(reference.figures.iter().all(|figure| figure.samples.len() == 4));
    // Without polls nothing is asked; 40 clients that ask once a second ask 40 times.
    let requests = |way: usize| least(series[way], "requests");
    assert_eq!((requests(0), requests(1)), (0.0, 0.0));
    assert!(requests(2) > 0.0);
    assert!((30.0..=50.0).contains(&requests(3)), "{}", requests(3));
    // A poll takes its head along, each time.
    let bytes = |way: usize| least(series[way], "bytes per client and minute");
    assert!(
        bytes(0) < bytes(1) && bytes(1) < bytes(2),
        "{} {} {}",
        bytes(0),
        bytes(1),
        bytes(2)
    );
}

#[test]
fn churn() {
    std::thread::scope(|scope| {
        let call = |words: &str| {
            bench(&format!(
                "churn --spawn --connections 150 --at-once 100 --after 1 --rounds 2 --json {words}"
            ))
        };
        let sse = scope.spawn(move || call("--sse"));
        for (ended, variant) in [(call(""), ""), (sse.join().unwrap(), "by SSE")] {
            let report = ended.expect(0).report();
            assert!(
                report
                    .parameters
                    .starts_with("200 connections a round, 100 at once")
            );
            let [series] = measured(&report)[..] else {
                panic!("{:?}", report.series);
            };
            assert_eq!((series.variant.as_str(), &series.fault), (variant, &None));
            let whats: Vec<_> = series.figures.iter().map(|figure| figure.what.as_str()).collect();
            assert_eq!(
                whats,
                [
                    "resident above the beginning",
                    "kept per former connection",
                    "connections",
                    "CPU per connection, its end included",
                ]
            );
            // It may be less than at the beginning.
            assert!(series.figures.iter().all(|figure| figure.samples.len() == 2));
            assert!(least(series, "connections") > 0.0);
        }
    });
}

#[test]
fn idle() {
    let call = |words: &str| {
        bench(&format!(
            "idle --spawn --connections 300 --rounds 1 --json {words}"
        ))
    };
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| call("--subscriptions 0 --seconds 1 --after 1"));
        let report = whole(
            call("--subscriptions 100 --after 0"),
            1,
            &["100 channels in common"],
        );
        // What is kept at once is what has not yet been given back.
        figures(&report, &["resident per connection"]);
        let report = whole(silent.join().unwrap(), 1, &["no channel"]);
        let noted = |words: &str| report.notes.iter().any(|note| note.starts_with(words));
        assert!(noted(
            "Memory is what came on top of a warm-up of 200 connections;"
        ));
        assert!(
            noted("switchboard had 0 heartbeats a second and the reference 1"),
            "{:?}",
            report.notes
        );
        for series in &report.series {
            let whats: Vec<_> = series.figures.iter().map(|figure| figure.what.as_str()).collect();
            let mut expected = vec![
                "resident per connection",
                "CPU while idle",
                "CPU per heartbeat",
                "heartbeats",
                "kept per former connection",
            ];
            if !series.is_reference {
                // The first is due after 20 s; the reference begins at once.
                expected.retain(|what| *what != "CPU per heartbeat");
            }
            assert_eq!(whats, expected);
        }
    });
}

#[test]
fn accept() {
    let ended = bench("accept --spawn --connections 50 --in-flight 10 --rounds 2 --json");
    let report = whole(ended, 2, &[""]);
    figures(&report, &["CPU per connection", "connections"]);
}

#[test]
fn echo() {
    let ended = bench("echo --spawn --connections 4 --bytes 64,65536 --echoes 40 --rounds 2 --json");
    let report = whole(ended, 2, &["64 bytes", "65,536 bytes"]);
    figures(
        &report,
        // Of 40 values none is above the 99th percentile.
        &["CPU per echo", "echoes", "latency p50", "latency max"],
    );
}

/// Both at once: they go by the clock.
#[test]
fn latency_and_mesh() {
    const LATENCY: [&str; 4] = ["latency p50", "latency p99", "latency p99.9", "latency max"];
    const DELIVERY: [&str; 2] = ["CPU per delivery", "deliveries"];
    std::thread::scope(|scope| {
        let mesh = scope
            .spawn(|| bench("mesh --spawn --rooms 8 --members 3 --rate 20 --seconds 1 --rounds 1 --json"));
        let ended = bench("latency --spawn --subscribers 10 --rate 120 --seconds 1 --rounds 1 --json");
        let latency = whole(ended, 1, &[""]);
        figures(&latency, &[&LATENCY[..], &DELIVERY].concat());
        let mesh = whole(mesh.join().unwrap(), 1, &[""]);
        figures(&mesh, &[&DELIVERY[..], &LATENCY].concat());
        for series in latency.series.iter().chain(&mesh.series) {
            let latencies = LATENCY.map(|what| series.figure(what).unwrap().samples[0]);
            assert!(latencies.is_sorted() && latencies[0] > 0.0, "{latencies:?}");
        }
    });
}

#[test]
fn publish() {
    let ended = bench("publish --spawn --rooms 4,30 --publishers 4 --messages 200 --rounds 2 --json");
    let report = whole(ended, 2, &["4 rooms", "30 rooms"]);
    figures(&report, &["CPU per publish", "CPU per delivery", "deliveries"]);
}

#[test]
fn publish_to_a_server_with_a_disk() {
    let words = "--spawn --rooms 4 --publishers 4 --messages 200 --rounds 2 --data none,always --json";
    let report = whole(
        bench(&format!("publish {words}")),
        2,
        &["4 rooms, in memory", "4 rooms, fsync always"],
    );
    figures(&report, &["CPU per publish", "CPU per delivery", "deliveries"]);
}

/// The one that stopped was behind, and has missed nothing: or there would be a fault.
#[test]
fn slow_reader() {
    let ended = bench("slow-reader --spawn --subscribers 10 --rate 20 --seconds 1 --rounds 2 --json");
    let report = whole(ended, 2, &[""]);
    figures(
        &report,
        &[
            "latency p50, all read",
            "latency p50, one stopped",
            "p50, one stopped, beside all read",
            "latency p99, all read",
            "latency p99, one stopped",
            "p99, one stopped, beside all read",
            "resident, all read",
            "resident for the one that stopped",
        ],
    );
}

/// Everyone is back with everything that was acknowledged, and nothing twice: or there would be a fault. Two processes of the load.
#[test]
fn restart_storm() {
    let ended = bench(
        "restart-storm --spawn --clients 40 --connections-per-process 30 --rooms 4 --messages 4 --seconds 1 --rounds 2 --json",
    );
    let report = whole(ended, 2, &[""]);
    figures(
        &report,
        &[
            "all back after",
            "listens again after",
            "attempts per client",
            "live p50, while they come back",
            "live p99, while they come back",
            "live p50, when all are back",
            "live p99, when all are back",
            "resident before the kill",
            "most resident after it",
        ],
    );
    for series in &report.series {
        // Each was cut off, and had to connect again.
        assert!(least(series, "attempts per client") >= 1.0, "{series:?}");
    }
}

/// All members were there, or there would be a fault.
#[test]
fn presence() {
    let ended = bench("presence --spawn --members 20,2000 --watchers 3 --visitors 20 --rounds 2 --json");
    let report = whole(ended, 2, &["20 members", "2,000 members"]);
    for series in &report.series {
        assert!(least(series, "CPU per join and leave") > 0.0, "{series:?}");
        let is_weighed = series.variant == "2,000 members" && !series.is_reference;
        assert_eq!(series.figure("resident per member").is_some(), is_weighed);
    }
}

/// A process of the load holds 50 connections, so that there are several of them on each side of a message.
#[test]
fn more_connections_than_one_process_holds() {
    let words = "--spawn --subscribers 120 --connections-per-process 50 --json";
    whole(
        bench(&format!("fanout {words} --messages 30 --rounds 3")),
        3,
        &[""],
    );
    whole(
        bench(&format!("fanout {words} --messages 60 --burst 20 --rounds 3")),
        3,
        &[""],
    );
    let echo = "echo --spawn --connections 20 --connections-per-process 6 --echoes 203 --rounds 3 --json";
    whole(bench(echo), 3, &[""]);

    let running = Running::start(&format!("latency {words} --seconds 1 --rounds 1"));
    let process = running.process();
    // 120 and one that publishes, twice: 50, 50, 21 + 29, 50, 42.
    until("five processes of the load", || {
        let all = process.descendants();
        let is_worker = |one: &&Process| one.command.ends_with(" bench worker ");
        (all.iter().filter(is_worker).count() == 5).then_some(())
    });
    whole(running.ended(), 1, &[""]);
}

#[test]
fn a_process_that_may_open_few_files_shares_the_work() {
    // 36 connections each, beside what a process needs for itself.
    let words = "fanout --spawn --subscribers 50 --messages 8 --rounds 1 --json";
    whole(crate::call::bench_with_files(100, words), 1, &[""]);
}

#[test]
fn what_is_measured_depends_on_nothing_in_the_shell() {
    let words = "fanout --spawn --subscribers 5 --messages 4 --rounds 1";
    // The one is no setting and would be refused, the other would leave room for no subscriber.
    bench_in("SWITCHBOARD_PEERS", "/nowhere", words).expect(0);
    bench_in("SWITCHBOARD_LIMITS__CONNECTIONS_MAX", "1", words).expect(0);
}

/// It limits what one client may say.
#[test]
fn a_switchboard_that_runs_already() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut server = std::process::Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .args(["serve", "--listen", &address, "--internal-listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("a server", || std::net::TcpStream::connect(&address).ok());
    let ended: Vec<_> = [
        "fanout --subscribers 20 --messages 20",
        "idle --connections 20 --seconds 1 --after 0",
        "accept --connections 20",
        "echo --connections 20 --echoes 200",
        "latency --subscribers 20 --seconds 1",
        "publish --rooms 64 --messages 3200",
        "mesh --rooms 4 --seconds 1",
    ]
    .map(|words| bench(&format!("{words} --url ws://{address}/ws --rounds 1")))
    .into();
    server.kill().unwrap();
    server.wait().unwrap();
    for ended in ended {
        let ended = ended.expect(0);
        assert!(!ended.out.contains("did not arrive"), "{ended}");
    }
}

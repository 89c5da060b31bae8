//! What cannot be done: it is said, and the call ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::call::{Running, bench, bench_with, bench_with_files, bench_with_ports, measured};
use crate::scripted;

/// A server that reads, gives every connection the same answer, and keeps it.
fn answers(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answered = stream
                .read(&mut [0; 4_096])
                .and_then(|_| stream.write_all(answer.as_bytes()));
            // One who has gone wants no answer.
            drop(answered);
            held.push(stream);
        }
    });
    address
}

#[test]
fn nobody_is_there() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    bench(&format!("fanout --url ws://{address}/ws --subscribers 10"))
        .expect(1)
        .complains(&format!("nothing listens on {address}: Connection refused"));
}

/// At once, and not after the first of its measurements.
#[test]
fn reports_that_cannot_be_saved() {
    bench("bars --save /dev/null/reports")
        .expect(1)
        .complains("--save: cannot write /dev/null/reports: Not a directory");
}

#[test]
fn the_handshake_is_refused() {
    let address = answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    for scenario in [
        "fanout --subscribers 10",
        "echo --connections 10",
        "accept --connections 10",
    ] {
        bench(&format!("{scenario} --url ws://{address}/nowhere"))
            .expect(1)
            .says("0 of ")
            .says(&address.to_string())
            .says("404");
    }
}

#[test]
fn what_answers_is_no_websocket() {
    let address = answers("220 mail.example ESMTP\r\n\r\n");
    bench(&format!("fanout --url ws://{address}/ --subscribers 10"))
        .expect(1)
        .says("0 of 10 connections")
        .says("the handshake failed");
}

/// One waits for 15 s in vain. Meanwhile: servers that may not open enough files.
#[test]
fn no_answer_and_too_few_files() {
    let silent = answers("");
    let able = scripted::relay(|message| vec![message.text]);
    thread::scope(|scope| {
        scope.spawn(|| {
            bench(&format!("fanout --url ws://{silent}/ --subscribers 10"))
                .expect(1)
                .says(&format!("0 of 10 connections to {silent} opened"))
                .says("got no further for 15 s");
        });
        scope.spawn(|| {
            bench_with_files(100, "accept --spawn --connections 300 --rounds 1")
                .expect(1)
                .says("switchboard: 300 connections are too many for the open-file limit of its process")
                .says("which is 100 with");
        });
        // Here it is the reference that may not, and nobody else is blamed.
        let ended =
            bench_with_files(100, &format!("fanout {able} --subscribers 120 --rounds 1 --json")).expect(1);
        for series in &ended.report().series {
            let fault = series.fault.as_deref().unwrap_or_default();
            assert!(series.is_reference, "{ended}");
            assert!(
                fault.starts_with("136 connections are too many for the open-file limit"),
                "{ended}"
            );
        }
    });
    // The bench itself, and the load.
    bench_with_files(20, "fanout --spawn --subscribers 120 --rounds 1")
        .expect(1)
        .complains("the open-file limit (ulimit -n) is 20");
    bench("fanout --spawn --subscribers 500 --connections-per-process 5 --rounds 1")
        .expect(1)
        .says("the load cannot hold them: 500 connections would take 100 load processes with 5 each, and there may be 64");
}

#[test]
fn no_free_port() {
    let call = "accept --spawn --connections 300 --rounds 1";
    // Not where nobody may make a network: there is nothing to see.
    if let Some(ended) = bench_with_ports("50000 50100", call) {
        ended
            .expect(1)
            .says("no port is free at 127.0.1.1")
            .says("net.ipv4.ip_local_port_range is too narrow");
    }
}

/// The default is the Switchboard that runs here. Where it does not, a newcomer hears how to start one.
#[test]
fn no_switchboard_runs_here() {
    // Bound without listening, so that nobody listens there meanwhile. Where it is somebody's, there is nothing to see.
    let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 8_000));
    if port.bind(&address.into()).is_err() {
        return;
    }
    bench("fanout")
        .expect(1)
        .complains("nothing listens on 127.0.0.1:8000: start a Switchboard with `switchboard serve`");
}

#[test]
fn wrong_usage() {
    bench("").expect(2).complains("Usage:");
    bench("fanout --subscribers 0")
        .expect(2)
        .complains("--subscribers");
    bench("fanout --url wss://127.0.0.1/")
        .expect(2)
        .complains("TLS is not measured");
    for url in ["127.0.0.1:80", "localhost", "file:///etc/passwd"] {
        bench(&format!("fanout --url {url}"))
            .expect(2)
            .complains("give a URL such as ws://127.0.0.1:8000/ws");
    }
    bench_with("fanout", &["--url", ""])
        .expect(2)
        .complains("give a URL such as ws://127.0.0.1:8000/ws");
    bench("fanout --url ws:///room")
        .expect(2)
        .complains("its host is no host");
    for port in ["", "0", "99999", "http"] {
        bench(&format!("fanout --url ws://127.0.0.1:{port}/"))
            .expect(2)
            .complains("--url")
            .complains("127.0.0.1");
    }
    bench("fanout --url ws://127.0.0.1:99999/")
        .expect(2)
        .complains("a port is a number from 1 to 65535");
    bench("fanout --url ws://nowhere.invalid/")
        .expect(2)
        .complains("nowhere.invalid:80 is not found");
    bench("fanout --spawn --url ws://127.0.0.1/")
        .expect(2)
        .complains("--spawn");
    bench("fanout --pid 0").expect(2).complains("--pid 0");
    for (option, text) in [
        ("--subscribe", r#"{"join":"{nonsense}"}"#),
        ("--publish", "PUB {nonsense} {payload}"),
        ("--hello", "{nonsense}"),
        ("--channel", "a-{nonsense}"),
        ("--publish-url", "ws://127.0.0.1:8000/{nonsense}"),
    ] {
        let url = "ws://127.0.0.1:8000/other";
        bench_with("fanout", &["--url", url, option, text])
            .expect(2)
            .complains(&format!(
                "{option}: {{nonsense}} stands for nothing; there are {{channel}}"
            ));
    }
    bench("latency --spawn --rate 4000000000")
        .expect(2)
        .complains("--rate: no connection publishes more than 50 messages a second");
    bench("echo --peer nobody").expect(2).complains("socket.io");
}

/// Rather than to do something else than was asked for, it says that it cannot.
#[test]
fn what_would_have_no_effect() {
    for (words, complaint) in [
        ("fanout --spawn --burst 1,10,1", "--burst: 1 is there twice"),
        ("fanout --spawn --shards 2,2", "--shards: 2 is there twice"),
        ("echo --spawn --bytes 64,64", "--bytes: 64 is there twice"),
        (
            "idle --spawn --subscriptions 1,1",
            "--subscriptions: 1 is there twice",
        ),
        ("publish --spawn --rooms 9,10,9", "--rooms: 9 is there twice"),
        (
            "publish --spawn --data none,always,none",
            "--data: none is there twice",
        ),
        (
            "publish --data always",
            "--data is for a server that the bench starts: --spawn is missing",
        ),
        (
            "slow-reader --subscribers 10",
            "slow-reader is for a server that the bench starts: --spawn is missing",
        ),
        ("slow-reader --spawn --seconds 7", "--seconds"),
        (
            "presence",
            "presence is for a server that the bench starts: --spawn is missing",
        ),
        ("presence --spawn --members 5,5", "--members: 5 is there twice"),
        (
            "restart-storm --clients 10 --rooms 2",
            "restart-storm is for a server that the bench starts: --spawn is missing",
        ),
        (
            "restart-storm --spawn --clients 10 --rooms 11",
            "--rooms: there are 10 clients",
        ),
        ("fanout --peer ws --peer ws", "--peer: ws is there twice"),
        ("fanout --shards 2", "--spawn is missing"),
        ("fanout --peer ws --shards 2", "--spawn is missing"),
        ("fanout --spawn --shards 257", "--shards"),
        ("fanout --spawn --messages 0", "--messages"),
        ("echo --spawn --echoes 0", "--echoes"),
        (
            "fanout --spawn --burst 10000 --bytes 2000",
            "20,000,000 bytes together, at most 16,777,216",
        ),
        ("publish --spawn --rooms 10 --publishers 11", "there are 10 rooms"),
        ("fanout --url ws://127.0.0.1:9/room --dialect raw", "--dialect"),
        (
            "fanout --url ws://127.0.0.1:9/room --publish hello",
            "{payload} has to be there once",
        ),
        (
            "mesh --spawn --rooms 100000 --members 100000",
            "--rooms, --members, --rate",
        ),
        ("mesh --spawn --rate 4294967295", "--rate"),
        ("mesh --spawn --seconds 86401", "--seconds"),
    ] {
        bench(words).expect(2).complains(complaint);
    }
}

/// Or one channel would be measured under the name of many.
#[test]
fn a_url_names_one_channel() {
    for (words, option) in [
        (
            "idle --subscriptions 1,100 --connections 10 --after 0",
            "--subscriptions 100",
        ),
        ("idle --subscriptions 0 --connections 10", "--subscriptions 0"),
        (
            "publish --rooms 20 --rooms-each 10 --messages 64",
            "--rooms-each 10",
        ),
    ] {
        bench(&format!("{words} --spawn --dialect raw --rounds 1"))
            .expect(1)
            .says(&format!("{option}: here the URL names the channel"));
    }
}

/// Or it would be measured as a server whose compression is free.
#[test]
fn a_server_that_does_not_compress() {
    let server = scripted::relay(|message| vec![message.text]);
    let ended = bench(&format!(
        "fanout {server} --compress --subscribers 2 --messages 8 --rounds 1 --json"
    ))
    .expect(1);
    let report = ended.report();
    for series in measured(&report) {
        match series.variant.as_str() {
            "plain" => assert_eq!(series.fault, None, "{ended}"),
            _ => assert!(
                series
                    .fault
                    .as_deref()
                    .unwrap()
                    .contains("does not agree on permessage-deflate"),
                "{ended}"
            ),
        }
    }
}

#[test]
fn a_figure_that_nobody_has() {
    let reports = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks/echo.json");
    bench_with("render", &[reports, "--chart", "CPU per miracle"])
        .expect(2)
        .complains("CPU per echo");
    let interrupted = concat!(env!("CARGO_TARGET_TMPDIR"), "/interrupted.json");
    let mut report: serde_json::Value = serde_json::from_slice(&std::fs::read(reports).unwrap()).unwrap();
    report["series"] = serde_json::json!([]);
    std::fs::write(interrupted, report.to_string()).unwrap();
    bench_with("render", &["/dev/null"])
        .expect(2)
        .complains("/dev/null: no report, as --json writes one");
    bench_with("render", &[interrupted, "--chart", "CPU per echo"])
        .expect(2)
        .complains("they ended before a round did");
    bench_with("render", &[reports, "--chart", "CPU per echo"])
        .expect(0)
        .says("</svg>");
}

#[test]
fn the_reference_says_what_it_does_and_why_it_cannot() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    bench(&format!("reference --listen {address}"))
        .expect(1)
        .complains(&format!("cannot listen on {address}: Address already in use"));
    let reference = Running::start("reference --listen 127.0.0.1:0");
    let said = reference.first_line();
    let address: SocketAddr = said
        .strip_prefix("The reference listens on ")
        .and_then(|rest| rest.split(';').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    bench(&format!(
        "echo --url ws://{address}/echo --connections 2 --echoes 4 --rounds 1"
    ))
    .expect(0);
    // A shell lets what it runs in the background ignore SIGINT.
    reference.process().signal(rustix::process::Signal::TERM);
    assert_eq!(reference.ended().code, None);
}

/// A proxy listens, the server is behind it: only the user knows. The report says whose costs it tells.
#[test]
fn the_process_that_is_charged_is_named() {
    let server = scripted::relay(|message| vec![message.text]);
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let words = format!("fanout {server} --subscribers 2 --messages 8 --rounds 1");
    let (its, others) = (bench(&words), bench(&format!("{words} --pid {}", other.id())));
    other.kill().unwrap();
    other.wait().unwrap();
    let here = std::process::id();
    its.expect(0).says(&format!("Charged: process {here} ("));
    others
        .expect(0)
        .says(&format!("Charged: process {} (sleep, threads: 1,", other.id()))
        .says("Not charged, though it listens on ")
        .says(&format!("process {here} ("));
    // The load descends from it.
    bench(&format!("{words} --pid {here}"))
        .expect(2)
        .complains("would be charged to the server");
    bench("fanout --spawn --pid 1").expect(2).complains("--pid");
}

#[test]
fn a_core_that_is_not_there() {
    let words = "fanout --spawn --subscribers 5 --messages 4 --rounds 1";
    for option in ["--server-core", "--load-core"] {
        for core in ["1000", "100000"] {
            bench(&format!("{words} {option} {core}"))
                .expect(2)
                .complains(&format!("{option} {core}: this process may use "));
        }
    }
}

#[test]
fn one_core_for_all_is_noted() {
    let cores = rustix::thread::sched_getaffinity(None).unwrap();
    let core = (0..).find(|core| cores.is_set(*core)).unwrap();
    let words = "fanout --spawn --subscribers 5 --messages 4 --rounds 1";
    bench(&format!("{words} --server-core {core} --load-core {core}"))
        .expect(0)
        .says(&format!("Server and load share core {core}:"));
}

#[test]
fn a_peer_that_is_not_installed_keeps_nobody_from_being_measured() {
    let ended = bench(
        "fanout --spawn --peer ws --peers-dir /nonexistent --peer nats --subscribers 5 --messages 8 --rounds 2 --json",
    )
    .expect(1);
    let report = ended.report();
    let [switchboard, ws, nats] = measured(&report)[..] else {
        panic!("{ended}");
    };
    assert_eq!(switchboard.fault, None);
    assert!(
        switchboard
            .figures
            .iter()
            .all(|figure| figure.samples.len() == 2 && figure.ratio.is_some())
    );
    for (peer, name) in [(ws, "ws"), (nats, "nats")] {
        let fault = peer.fault.as_deref().unwrap();
        assert_eq!(peer.name, name);
        assert!(
            fault.starts_with("/nonexistent/run: No such file or directory"),
            "{fault}"
        );
        assert!(fault.contains("--peers-dir"), "{fault}");
    }
    bench("fanout --peer ws --peers-dir /nonexistent --subscribers 5")
        .expect(1)
        .says("ws: /nonexistent/run: No such file");
}

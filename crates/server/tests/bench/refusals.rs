//! What cannot be done: it is said, and the call ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::call::{bench, bench_with_files, measured};
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
        .says(&format!(
            "0 of 10 connections to {address} opened, then: Connection refused"
        ));
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

/// One waits for 15 s in vain, and so does one whose server may not open enough files. Both at once.
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
                .says("switchboard: ")
                .says("of 150 connections")
                .says("of the 100 files that its limit allows");
        });
        // Here it is the reference that may not, and nobody else is blamed.
        let ended =
            bench_with_files(100, &format!("fanout {able} --subscribers 120 --rounds 1 --json")).expect(1);
        for series in &ended.report().series {
            let fault = series.fault.as_deref().unwrap_or_default();
            assert!(series.is_reference, "{ended}");
            assert!(fault.contains("of 120 connections"), "{ended}");
            assert!(
                fault.contains("the server has ended: error: Too many open files"),
                "{ended}"
            );
        }
    });
    // And one that does not get as far.
    bench_with_files(20, "fanout --spawn --subscribers 120 --rounds 1")
        .expect(1)
        .says("Too many open files");
}

#[test]
fn wrong_usage() {
    bench("").expect(2).complains("Usage:");
    bench("fanout --subscribers 0")
        .expect(2)
        .complains("--subscribers");
    bench("fanout --url wss://127.0.0.1/")
        .expect(2)
        .complains("wss://127.0.0.1/ is no ws:// URL");
    bench("fanout --url 127.0.0.1:80")
        .expect(2)
        .complains("is no ws:// URL");
    bench("fanout --url ws:///room")
        .expect(2)
        .complains("is no ws:// URL");
    bench("fanout --url ws://nowhere.invalid/")
        .expect(2)
        .complains("nowhere.invalid:80 is not found");
    bench("fanout --spawn --url ws://127.0.0.1/")
        .expect(2)
        .complains("--spawn");
    bench("fanout --pid 0").expect(2).complains("--pid 0");
    bench("echo --peer nobody").expect(2).complains("socket.io");
}

#[test]
fn a_process_that_is_not_the_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let ended = bench(&format!("fanout --url ws://{address}/ws --pid {}", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    ended
        .expect(2)
        .complains(&format!("it does not listen at {address}"));
    bench("fanout --spawn --pid 1").expect(2).complains("--pid");
}

#[test]
fn a_core_that_is_not_there() {
    let words = "fanout --spawn --subscribers 5 --messages 4 --rounds 1";
    bench(&format!("{words} --server-core 1000"))
        .expect(1)
        .says("core 1000 cannot be had");
    bench(&format!("{words} --server-core 100000"))
        .expect(1)
        .says("there is no core 100000");
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

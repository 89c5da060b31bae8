//! How a call ends that does not end by itself, and who is left then.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::call::{Running, only, until};
use crate::kernel::{Process, clients};

/// Messages of a round, and of the warm-up.
const ROUND: u64 = 4;
const WARM_UP: u64 = 2;
const ENDLESS: &str =
    "fanout --spawn --subscribers 5 --messages 4 --connections-per-process 8 --rounds 1000000";

/// Waits until a round is over, with the reference's. Gives all processes that the bench has started.
fn measuring(running: &Running) -> Vec<Process> {
    let bench = running.process();
    let server = until("a server", || {
        bench
            .descendants()
            .into_iter()
            .find(|one| one.command.contains(" serve --listen "))
    });
    until("the second round", || {
        // The bench knows where it listens for clients; the other one tells how far it is.
        let published = server.listens().into_iter().filter_map(published).max();
        (published? > WARM_UP + ROUND).then_some(())
    });
    bench.descendants()
}

/// How many messages a Switchboard has taken, if it is asked at the right address.
fn published(internal: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(internal).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
        .write_all(
            format!("GET /metrics HTTP/1.1\r\nHost: {internal}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("switchboard_publishes_total "));
    line?.parse().ok()
}

#[track_caller]
fn everyone_is_gone(processes: &[Process]) {
    for process in processes {
        let command = &process.command;
        until(&format!("{} ends: {command}", process.pid), || {
            (!process.runs()).then_some(())
        });
    }
}

#[track_caller]
fn everyone_is_there(processes: &[Process]) {
    for role in [" serve --listen ", " bench reference --listen ", " bench worker "] {
        assert!(
            processes.iter().any(|one| one.command.contains(role)),
            "{role}: {processes:?}"
        );
    }
}

/// Each on its core, where there are two; the load comes from addresses of its own, of which each has its own ports.
#[test]
fn server_and_load_have_their_places() {
    let running = Running::start(ENDLESS);
    let processes = measuring(&running);
    let cores_of = |role: &str| -> BTreeSet<String> {
        let its = processes.iter().filter(|one| one.command.contains(role));
        its.map(Process::cores).collect()
    };
    let servers = cores_of(" serve --listen ");
    let load = cores_of(" bench worker ");
    assert_eq!(cores_of(" bench reference --listen "), servers);
    for cores in [&servers, &load] {
        let core: Vec<_> = cores.iter().map(|core| core.parse::<usize>()).collect();
        assert!(matches!(core[..], [Ok(_)]), "{cores:?}");
    }
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert_ne!(servers, load);
    }
    let server = processes
        .iter()
        .find(|one| one.command.contains(" serve --listen "));
    let sources: BTreeSet<_> = server.unwrap().listens().into_iter().flat_map(clients).collect();
    assert!(!sources.is_empty());
    for source in sources {
        assert!(source.is_loopback() && source > Ipv4Addr::LOCALHOST, "{source}");
    }
}

#[test]
fn ctrl_c_gives_what_was_measured_and_leaves_nobody() {
    for signal in [Signal::INT, Signal::TERM] {
        let running = Running::start(ENDLESS);
        let processes = measuring(&running);
        everyone_is_there(&processes);
        running.process().signal(signal);
        let ended = running.ended().expect(130);
        assert_eq!(ended.err, "");
        for name in ["switchboard", "reference"] {
            let rows = ended
                .out
                .lines()
                .filter(|line| line.trim_start().starts_with(name));
            assert_eq!(rows.count(), 2, "{ended}");
        }
        let ended = ended
            .says("1 ×")
            .says("Interrupted: fewer rounds than asked for.");
        assert!(!ended.out.contains("did not arrive"), "{ended}");
        // It has waited for them itself.
        for process in &processes {
            assert!(!process.runs(), "{process:?}");
        }
    }
}

#[test]
fn an_interrupted_report_says_so() {
    let running = Running::start(&format!("{ENDLESS} --json"));
    measuring(&running);
    running.process().signal(Signal::INT);
    let ended = running.ended().expect(130);
    let report = ended.report();
    assert!(report.interrupted);
    for series in &report.series {
        assert_eq!(series.fault, None, "{ended}");
        assert!(
            series.figures.iter().all(|figure| !figure.samples.is_empty()),
            "{ended}"
        );
    }
    assert_eq!(report.series.len(), 2, "{ended}");
    // A ratio is that of the rounds which stand beside it.
    let rounds = |index: usize| {
        report.series[index]
            .figure("deliveries")
            .map(|figure| figure.samples.len())
    };
    assert_eq!(rounds(0), rounds(1), "{ended}");
}

#[test]
fn an_interrupted_bar_is_neither_judged_nor_saved() {
    let directory = concat!(env!("CARGO_TARGET_TMPDIR"), "/bars");
    let report = format!("{directory}/accept.json");
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(&report, "the report of a whole measurement").unwrap();
    let running = Running::start(&format!("bars --only accept --save {directory}"));
    until("a server", || {
        let processes = running.process().descendants();
        processes
            .into_iter()
            .find(|one| one.command.contains(" bench worker"))
    });
    running.process().signal(Signal::INT);
    let ended = running.ended().expect(130).says("Interrupted: ");
    assert!(
        !ended.out.contains("MISSED") && !ended.out.contains("  met"),
        "{ended}"
    );
    assert_eq!(
        std::fs::read_to_string(&report).unwrap(),
        "the report of a whole measurement"
    );
}

#[test]
fn ctrl_c_does_not_wait_for_a_server_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let running = Running::start(&format!("fanout --url ws://{address}/ --subscribers 3 --json"));
    // Somebody looks whether anyone is there.
    listener.accept().unwrap();
    let (mut silent, _) = listener.accept().unwrap();
    // It has asked for a handshake, which never comes.
    silent.read_exact(&mut [0; 4]).unwrap();
    let processes = running.process().descendants();
    running.process().signal(Signal::INT);
    let report = running.ended().expect(130).report();
    assert!(report.interrupted);
    assert!(report.series.is_empty(), "{report:?}");
    everyone_is_gone(&processes);
}

/// Nor for a load process that does not: one that is busy hears nothing for as long.
#[test]
fn ctrl_c_does_not_wait_for_a_load_process() {
    let running = Running::start(ENDLESS);
    let processes = measuring(&running);
    for worker in processes
        .iter()
        .filter(|one| one.command.contains(" bench worker "))
    {
        worker.signal(Signal::STOP);
    }
    running.process().signal(Signal::INT);
    running
        .ended()
        .expect(130)
        .says("Interrupted: fewer rounds than asked for.");
    everyone_is_gone(&processes);
}

#[test]
fn who_is_killed_takes_its_processes_along() {
    let running = Running::start(ENDLESS);
    let processes = measuring(&running);
    everyone_is_there(&processes);
    running.process().signal(Signal::KILL);
    assert_eq!(running.ended().code, None);
    everyone_is_gone(&processes);
}

/// A load process that is gone is no reason to wait.
#[test]
fn a_load_process_that_dies_is_told() {
    let running = Running::start(ENDLESS);
    let processes = measuring(&running);
    let worker = processes
        .iter()
        .find(|one| one.command.contains(" bench worker "))
        .unwrap();
    worker.signal(Signal::KILL);
    running
        .ended()
        .expect(1)
        .says("a load process has ended (signal: 9 (SIGKILL))");
    everyone_is_gone(&processes);
}

/// Nor is a server that is gone, whoever has its turn then.
#[test]
fn a_server_that_dies_is_told() {
    let running = Running::start(&format!("{ENDLESS} --json"));
    let processes = measuring(&running);
    let server = processes
        .iter()
        .find(|one| one.command.contains(" serve --listen "))
        .unwrap();
    server.signal(Signal::KILL);
    let ended = running.ended().expect(1);
    let report = ended.report();
    let fault = only(&report).fault.as_deref().unwrap();
    // 5 subscribers and 16 publishers.
    assert!(fault.contains("21 connections were lost"), "{ended}");
    assert!(
        fault.contains("the server has ended, signal: 9 (SIGKILL)"),
        "{ended}"
    );
    assert!(
        report
            .series
            .iter()
            .all(|series| series.is_reference == series.fault.is_none()),
        "{ended}"
    );
    everyone_is_gone(&processes);
}

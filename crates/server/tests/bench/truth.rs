//! Servers of which it is known what is wrong with them.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use switchboard_proto::ws::frame::{Opcode, encode};

use crate::call::{Ended, Running, bench, least, measured, only, until};
use crate::kernel::Process;
use crate::scripted::{self, Event, Message};

const MS: f64 = 1e6;
/// Here every peer is the bare server.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers");

#[test]
fn a_delay_of_50_ms_is_in_every_latency() {
    let server = scripted::relay(|message| {
        thread::sleep(Duration::from_millis(50).saturating_sub(message.at.elapsed()));
        vec![message.text]
    });
    let ended = bench(&format!(
        "latency {server} --subscribers 60 --rate 20 --seconds 1 --rounds 1 --json"
    ))
    .expect(0);
    let report = ended.report();
    let slow = only(&report);
    for what in ["latency p50", "latency p99", "latency p99.9", "latency max"] {
        assert!(least(slow, what) >= 50.0 * MS, "{what}: {ended}");
        assert!(slow.figure(what).unwrap().ratio.is_some(), "{what}: {ended}");
    }
}

/// Of 50 messages a second the 5th meets a second in which nothing moves. So it is late by 1000 ms, the one after it by 980,
/// and so on down to 100 ms for the 50th, by the clock of the rate; half of them by 500 ms or more.
#[track_caller]
fn a_second_is_missing(ended: &Ended) {
    let report = ended.report();
    let stalled = only(&report);
    assert!(least(stalled, "latency max") >= 1_000.0 * MS, "{ended}");
    assert!(least(stalled, "latency p99") >= 980.0 * MS, "{ended}");
    assert!(least(stalled, "latency p50") >= 480.0 * MS, "{ended}");
}

const RATE: &str = "--subscribers 2 --rate 50 --seconds 1 --rounds 1 --json";
const RATE_WARM_UP: u64 = 50;

/// Who lets a message leave when the one before has arrived sees one late message and 49 fast ones.
#[test]
fn a_stall_is_in_the_messages_that_were_due_meanwhile() {
    let server = scripted::relay(|message| {
        if message.number == RATE_WARM_UP + 5 {
            thread::sleep(Duration::from_secs(1));
        }
        vec![message.text]
    });
    a_second_is_missing(&bench(&format!("latency {server} {RATE}")).expect(0));
}

/// It is the load that stands still. Who counts from when a message left sees nothing at all.
#[test]
fn a_message_that_leaves_late_counts_from_when_it_was_due() {
    let load = Arc::new(OnceLock::<Process>::new());
    let its = Arc::clone(&load);
    let server = scripted::relay(move |message| {
        if message.number == RATE_WARM_UP + 5 {
            let load = until("it is known", || its.get());
            load.signal(Signal::STOP);
            thread::sleep(Duration::from_secs(1));
            load.signal(Signal::CONT);
        }
        vec![message.text]
    });
    let running = Running::start(&format!("latency {server} {RATE}"));
    let worker = until("a load process", || {
        let mut all = running.process().descendants().into_iter();
        all.find(|one| one.command.ends_with(" bench worker "))
    });
    load.set(worker).unwrap();
    a_second_is_missing(&running.ended().expect(0));
}

/// Its sockets fill up for 2 s, and then everything arrives that was sent. What could not be sent is missing all the same.
#[test]
fn a_server_that_does_not_read_for_a_while_is_told() {
    const WARM_UP: u64 = 100;
    let server = scripted::relay(|message| {
        if message.number == WARM_UP + 10 {
            thread::sleep(Duration::from_secs(2));
        }
        vec![message.text]
    });
    bench(&format!(
        "latency {server} --subscribers 1 --rate 100 --bytes 262144 --seconds 2 --rounds 1"
    ))
    .expect(1)
    .says("did not arrive; the server read no more of what publisher");
}

/// It takes 2 ms for each of 2,000 messages that are due in a second.
#[test]
fn a_rate_that_was_not_held_is_noted() {
    let server = scripted::relay(|message| {
        thread::sleep(Duration::from_millis(2));
        vec![message.text]
    });
    bench(&format!(
        "latency {server} --subscribers 1 --rate 2000 --seconds 1 --rounds 1"
    ))
    .expect(0)
    .says("of the 2,000 a second that were asked for (it took ")
    .says("its latencies are those of a queue that grew");
}

/// A warm-up of 2 bursts of 40 and rounds of 4.
const WORK: &str = "--burst 40 --messages 160";
const WARM_UP: u64 = 80;
const ROUND: u64 = 160;

/// Every 10th is lost from the second round on. Its first burst then waits for 4 messages of 40, 3 subscribers each.
fn lossy() -> String {
    scripted::relay(|message| match message.number {
        number if number > WARM_UP + ROUND && number.is_multiple_of(10) => vec![],
        _ => vec![message.text],
    })
}

#[test]
fn a_loss_is_told_with_its_number() {
    const LOSS: &str = "12 of 120 deliveries did not arrive";
    let call = |format: &str| {
        let server = lossy();
        bench(&format!(
            "fanout {server} --subscribers 3 {WORK} --rounds 3 {format}"
        ))
        .expect(1)
    };
    thread::scope(|scope| {
        let table = scope.spawn(|| call("").says(LOSS).says("reference"));
        let ended = call("--json");
        let report = ended.report();
        assert_eq!(only(&report).fault.as_deref(), Some(LOSS), "{ended}");
        // The round before was whole, and its figures stand.
        assert_eq!(
            only(&report).figure("deliveries").unwrap().samples.len(),
            1,
            "{ended}"
        );
        assert!(
            report
                .series
                .iter()
                .any(|series| series.is_reference && series.fault.is_none())
        );
        table.join().unwrap();
    });
}

/// At the end of a round, so that what is measured next may be the reference: it is not to blame.
#[test]
fn a_server_that_hangs_up_is_told() {
    let server = scripted::channel(|clients, subscribers, message| {
        for subscriber in subscribers {
            clients.say(*subscriber, &[&message.text]);
        }
        if message.number == WARM_UP + ROUND {
            clients.close(subscribers[0], 1011, "tired");
        }
    });
    let ended = bench(&format!(
        "fanout {server} --subscribers 3 {WORK} --rounds 3 --json"
    ))
    .expect(1);
    let report = ended.report();
    let fault = only(&report).fault.clone().unwrap();
    assert!(fault.contains("1 connection was lost"), "{ended}");
    assert!(fault.contains("1011 tired"), "{ended}");
    assert!(
        report
            .series
            .iter()
            .all(|series| series.is_reference == series.fault.is_none()),
        "{ended}"
    );
}

#[test]
fn a_message_that_comes_twice_is_told() {
    let server = scripted::relay(|message| match message.number {
        // The last one of the first round.
        number if number == WARM_UP + ROUND => vec![message.text.clone(), message.text],
        _ => vec![message.text],
    });
    let ended = bench(&format!(
        "fanout {server} --subscribers 1 {WORK} --rounds 2 --json"
    ))
    .expect(1);
    let fault = only(&ended.report()).fault.clone();
    assert_eq!(
        fault.as_deref(),
        Some("1 delivery more than the 160 expected arrived"),
        "{ended}"
    );
}

#[test]
fn messages_that_change_places_are_told() {
    let mut held = None;
    let server = scripted::relay(move |message| match message.number {
        number if number == WARM_UP + 20 => {
            held = Some(message.text);
            vec![]
        }
        _ => [message.text].into_iter().chain(held.take()).collect(),
    });
    bench(&format!("fanout {server} --subscribers 3 {WORK} --rounds 2"))
        .expect(1)
        .says("3 deliveries arrived out of order");
}

/// One copy too many, one loss: the count is right.
#[test]
fn a_copy_does_not_make_up_for_a_loss() {
    let mut copied = None;
    let server = scripted::relay(move |message| match message.number {
        number if number == WARM_UP + 20 => {
            copied = Some(message.text.clone());
            vec![message.text]
        }
        number if number == WARM_UP + 21 => copied.take().into_iter().collect(),
        _ => vec![message.text],
    });
    bench(&format!("fanout {server} --subscribers 3 {WORK} --rounds 2"))
        .expect(1)
        .says("some deliveries came twice and others not at all");
}

/// A server that goes on sending when its turn is over, and one that is measured after it.
#[test]
fn what_one_server_does_is_not_charged_to_the_next() {
    let mut haunted = false;
    let server = scripted::channel(move |clients, subscribers, message| {
        for subscriber in subscribers {
            clients.say(*subscriber, &[&message.text]);
        }
        if message.number > WARM_UP && !std::mem::replace(&mut haunted, true) {
            haunt(clients.stream(subscribers[0]), message);
        }
    });
    let ended = bench(&format!(
        "fanout {server} --peer ws --peers-dir {PEERS} --subscribers 2 {WORK} --rounds 20 --json"
    ))
    .expect(1);
    let report = ended.report();
    let [haunting, innocent] = measured(&report)[..] else {
        panic!("{ended}");
    };
    assert!(haunting.fault.is_some(), "{ended}");
    assert_eq!(innocent.fault, None, "{ended}");
    assert_eq!(
        innocent.figure("deliveries").unwrap().samples.len(),
        20,
        "{ended}"
    );
    assert_eq!(
        (innocent.name.as_str(), innocent.version.as_deref()),
        ("ws", Some("1.2.3"))
    );
}

/// Sends a message again and again, until nobody is there.
fn haunt(mut subscriber: std::net::TcpStream, message: Message) {
    let mut frame = Vec::new();
    encode(Opcode::Text, false, message.text.as_bytes(), None, &mut frame);
    thread::spawn(move || {
        while subscriber.write_all(&frame).is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
}

/// The publishers are in three processes: together they send what was asked for, one burst after the other.
#[test]
fn a_round_has_as_many_messages_as_it_says() {
    let heard = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&heard);
    let server = scripted::relay(move |message| {
        counter.store(message.number, Ordering::Relaxed);
        vec![message.text]
    });
    bench(&format!(
        "fanout {server} --subscribers 5 {WORK} --connections-per-process 8 --rounds 2"
    ))
    .expect(0);
    assert_eq!(heard.load(Ordering::Relaxed), WARM_UP + 2 * ROUND);
}

/// Memory by connection is a lie when there are fewer of them.
#[test]
fn idle_connections_that_were_lost_are_told() {
    let mut count = 0;
    let address = scripted::serve(move |clients, client, event| {
        if let Event::Came { .. } = event {
            count += 1;
            if count % 10 == 0 {
                clients.close(client, 1001, "no more");
            }
        }
    });
    bench(&format!(
        "idle --url ws://{address}/ --connections 50 --rounds 1 --after 0"
    ))
    .expect(1)
    .says("5 of 50 connections were lost");
}

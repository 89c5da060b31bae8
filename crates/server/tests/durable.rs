//! A server with a data directory, killed, restarted, on full and damaged disks: what was acknowledged is there, who was subscribed goes
//! on, and what is damaged is said.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use support::client::{Client, channel, publish};
use support::order::data;
use support::runs::Run;
use support::served::{Directory, Served};
use switchboard_proto::dialect::Command as ClientCommand;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};

/// Logs that keep everything.
const EVERYTHING: [(&str, &str); 3] = [
    ("CHANNELS__LOG_MESSAGES_MAX", "unlimited"),
    ("CHANNELS__LOG_BYTES_MAX", "unlimited"),
    ("CHANNELS__LOG_AGE_MAX", "1h"),
];

async fn read_to(client: &mut Client, run: &mut Run, offset: u64) {
    while run.reached() < offset {
        let notice = client.hear().await;
        assert!(run.take(&notice), "{notice:?}");
    }
}

/// Everything that follows `since`.
async fn read_on(client: &mut Client, of: &str, since: Position) -> Vec<(Position, String)> {
    let mut read = Vec::new();
    let mut since = since;
    loop {
        let page = client.history(of, Range::After(since), Some(1_000)).await;
        assert_eq!((page.gap, page.reset), (None, false), "{of}");
        let messages = page.messages.iter();
        read.extend(messages.map(|message| (message.position, data(message).to_owned())));
        since = page.position;
        if !page.more {
            return read;
        }
    }
}

#[test]
fn a_restart_is_no_break_for_who_was_subscribed() {
    let directory = Directory::new();
    support::block_on(async {
        let server = Served::start(&directory.0, &[]);
        let live = server.live();
        let mut publisher = Client::connect(&live).await;
        let mut listener = Client::connect(&live).await;
        let mut run = Run::begin("room:1", listener.subscribe("room:1").await);
        let quiet = listener.subscribe("quiet").await;
        for number in 0..50 {
            publisher
                .publish("room:1", Payload::text(number.to_string()))
                .await;
        }
        let keyed = |id| ClientCommand::Publish {
            id: Some(id),
            channel: channel("room:1"),
            payload: Payload::text("once"),
            key: Key::parse("order 17"),
            conflate: Key::parse("order"),
        };
        publisher.say(&[keyed(100)]).await.unwrap();
        let Notice::Published { position: once, .. } = publisher.answer(100).await else {
            panic!("not published")
        };
        read_to(&mut listener, &mut run, 40).await;
        server.kill();

        let server = Served::start(&directory.0, &[]);
        assert_eq!(server.said("logs are read").unwrap()["messages"], 51);
        let live = server.live();
        let mut publisher = Client::connect(&live).await;
        let mut listener = Client::connect(&live).await;
        assert!(listener.resume("room:1", run.position()).await);
        assert!(
            listener.resume("quiet", quiet).await,
            "also where nothing was published yet"
        );
        publisher.say(&[keyed(101)]).await.unwrap();
        match publisher.answer(101).await {
            Notice::Published { position, .. } => assert_eq!(position, once, "its key is remembered"),
            other => panic!("{other:?}"),
        }
        let next = publisher.publish("room:1", Payload::text("next")).await;
        assert_eq!(next.offset, 52);
        read_to(&mut listener, &mut run, 52).await;
        assert_eq!((run.messages().count(), run.gaps()), (52, vec![]));
        let kept = run.messages().nth(50).unwrap();
        assert_eq!((data(kept), kept.conflate.as_deref()), ("once", Some("order")));
        server.stop();

        // In good order it is the same.
        let server = Served::start(&directory.0, &[]);
        let mut listener = Client::connect(&server.live()).await;
        assert!(listener.resume("room:1", run.position()).await);
    });
}

/// As if the machine had lost its power: another system has started since.
fn lose_power(directory: &Directory) {
    let path = directory.0.join("life");
    let mut left: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    left["boot"] = "another".into();
    std::fs::write(&path, serde_json::to_vec(&left).unwrap()).unwrap();
}

/// The next messages got the offsets of those that were lost, in the same epoch: one place named two messages.
#[test]
fn a_power_failure_that_may_cost_the_end_of_a_log_begins_another_life() {
    for (fsync, survives) in [("interval", false), ("never", false), ("always", true)] {
        let directory = Directory::new();
        support::block_on(async {
            let server = Served::start(&directory.0, &[("DATA__FSYNC", fsync)]);
            let mut client = Client::connect(&server.live()).await;
            let before = client.publish("room:1", Payload::text("kept")).await;
            server.kill();

            lose_power(&directory);
            let server = Served::start(&directory.0, &[("DATA__FSYNC", fsync)]);
            let said = server.said("the system ended before everything was synced: all channels are reset");
            assert_eq!(said.is_some(), !survives, "{fsync}");
            let mut client = Client::connect(&server.live()).await;
            assert_eq!(client.resume("room:1", before).await, survives, "{fsync}");
            let page = client.history("room:1", Range::Newest, None).await;
            assert_eq!(data(&page.messages[0]), "kept", "what is there is there");
            assert_eq!(page.position.epoch == before.epoch, survives, "{fsync}");
            let next = client.publish("room:1", Payload::text("next")).await;
            server.kill();

            // A kill costs nothing, in the new life too.
            let server = Served::start(&directory.0, &[("DATA__FSYNC", fsync)]);
            let mut client = Client::connect(&server.live()).await;
            assert!(client.resume("room:1", next).await, "{fsync}");
            server.stop();

            // What was stopped in good order lacks nothing.
            lose_power(&directory);
            let server = Served::start(&directory.0, &[("DATA__FSYNC", fsync)]);
            let mut client = Client::connect(&server.live()).await;
            assert!(client.resume("room:1", next).await, "{fsync}");
        });
    }
}

/// What was acknowledged, as one publisher knows it.
type Acknowledged = BTreeMap<u64, (Position, String)>;

/// Publishes numbered messages, several at once, until the server is gone.
async fn storm(mut client: Client, to: &str, round: usize) -> Acknowledged {
    const WINDOW: u64 = 16;
    let mut acknowledged = Acknowledged::new();
    let mut next = 0;
    loop {
        let texts: Vec<_> = (next..next + WINDOW)
            .map(|id| (id, format!("{round}.{id}")))
            .collect();
        let commands: Vec<_> = texts
            .iter()
            .map(|(id, text)| publish(Some(*id), to, Payload::text(text)))
            .collect();
        if client.say(&commands).await.is_err() {
            return acknowledged;
        }
        for (id, text) in texts {
            match client.next().await {
                Ok(Notice::Published { id: of, position }) if of == Some(id) => {
                    acknowledged.insert(position.offset, (position, text));
                }
                Ok(Notice::Goodbye { .. }) | Err(_) => return acknowledged,
                Ok(other) => panic!("{other:?}"),
            }
        }
        next += WINDOW;
    }
}

/// Ends the server in the middle of a storm, so often. Nothing that was acknowledged is missing, every time; nothing is there twice; a
/// subscriber goes on.
fn end_in_a_storm(fsync: &str, rounds: usize, end: impl AsyncFn(Served)) {
    let directory = Directory::new();
    let settings: Vec<_> = EVERYTHING.into_iter().chain([("DATA__FSYNC", fsync)]).collect();
    support::block_on(async {
        let names = ["a", "b"];
        let mut verified: Vec<Option<Position>> = vec![None; names.len()];
        let mut total = 0;
        for round in 0..rounds {
            let server = Served::start(&directory.0, &settings);
            let live = server.live();
            let mut storms = Vec::new();
            for name in names {
                let client = Client::connect(&live).await;
                storms.push(tokio::task::spawn_local(storm(client, name, round)));
            }
            // Somewhere in a write, or between two.
            tokio::time::sleep(Duration::from_micros(20_000 + (round as u64 * 7_919) % 20_000)).await;
            end(server).await;
            let mut acknowledged = Vec::new();
            for storm in storms {
                acknowledged.push(storm.await.unwrap());
            }

            let server = Served::start(&directory.0, &settings);
            let mut client = Client::connect(&server.live()).await;
            for (index, name) in names.into_iter().enumerate() {
                let since = match verified[index] {
                    Some(position) => position,
                    None => {
                        let head = client.history(name, Range::Newest, Some(0)).await.position;
                        Position::start(head.epoch)
                    }
                };
                assert!(client.resume(name, since).await, "round {round}: {name} goes on");
                let mut run = Run::begin(name, since);
                let head = client.history(name, Range::Newest, Some(0)).await.position;
                read_to(&mut client, &mut run, head.offset).await;
                assert_eq!(run.gaps(), []);
                let there: BTreeMap<u64, _> = run
                    .messages()
                    .map(|message| {
                        (
                            message.position.offset,
                            (message.position, data(message).to_owned()),
                        )
                    })
                    .collect();
                for (offset, expected) in &acknowledged[index] {
                    assert_eq!(
                        there.get(offset),
                        Some(expected),
                        "round {round}: {name} {offset}"
                    );
                }
                total += acknowledged[index].len();
                verified[index] = Some(head);
            }
            server.kill();
        }
        assert!(total > rounds, "{total} messages in {rounds} storms");
        // At the end once more from the beginning: no message is there twice, and none has moved.
        let server = Served::start(&directory.0, &settings);
        let mut client = Client::connect(&server.live()).await;
        for (index, name) in names.into_iter().enumerate() {
            let Some(head) = verified[index] else { continue };
            let log = read_on(&mut client, name, Position::start(head.epoch)).await;
            assert_eq!(log.last().map(|(position, _)| *position), Some(head));
            let texts: std::collections::BTreeSet<_> = log.iter().map(|(_, text)| text).collect();
            assert_eq!(texts.len(), log.len(), "{name}: a message twice");
        }
    });
}

#[test]
fn with_fsync_always_a_hundred_kills_lose_nothing_that_was_acknowledged() {
    end_in_a_storm("always", 100, async |server| server.kill());
}

#[test]
fn with_fsync_interval_a_kill_loses_nothing_that_was_acknowledged() {
    end_in_a_storm("interval", 15, async |server| server.kill());
}

#[test]
fn with_fsync_never_a_kill_loses_nothing_that_was_acknowledged() {
    end_in_a_storm("never", 15, async |server| server.kill());
}

#[test]
fn a_stop_loses_nothing_that_was_acknowledged() {
    // The storm goes on while it stops.
    let stop = async |server: Served| {
        let stopping = tokio::task::spawn_blocking(move || server.stop());
        stopping.await.unwrap();
    };
    end_in_a_storm("never", 15, stop);
}

#[test]
fn a_damaged_file_costs_its_channel_a_reset_and_is_reported() {
    let directory = Directory::new();
    support::block_on(async {
        let server = Served::start(&directory.0, &[]);
        let mut client = Client::connect(&server.live()).await;
        let mut positions = Vec::new();
        for text in ["one", "two", "three"] {
            positions.push(client.publish("hurt", Payload::text(text)).await);
            positions.push(client.publish("whole", Payload::text(text)).await);
        }
        server.kill();
        let path = directory.segments().remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        // The second message of the first channel: the payloads stand there as they are.
        let at = bytes.windows(3).position(|bytes| bytes == b"two").unwrap();
        bytes[at] ^= 0x20;
        std::fs::write(&path, bytes).unwrap();

        let server = Served::start(&directory.0, &[]);
        let said = server
            .said("this channel begins anew: a part of its log is damaged")
            .unwrap();
        assert_eq!(said["channel"], "hurt");
        let mut client = Client::connect(&server.live()).await;
        assert!(client.resume("whole", positions[1]).await);
        let mut run = Run::begin("whole", positions[1]);
        read_to(&mut client, &mut run, 3).await;
        assert!(!client.resume("hurt", positions[0]).await);
        assert!(matches!(client.hear().await, Notice::Reset { .. }));
        let anew = client.publish("hurt", Payload::text("anew")).await;
        assert_eq!(anew.offset, 1);
        assert_ne!(anew.epoch, positions[0].epoch);
        server.kill();

        // It costs that once.
        let server = Served::start(&directory.0, &[]);
        assert!(
            server
                .said("this channel begins anew: a part of its log is damaged")
                .is_none()
        );
        let mut client = Client::connect(&server.live()).await;
        assert!(client.resume("hurt", anew).await);
        assert!(client.resume("whole", positions[5]).await);
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_said_and_nothing_starts() {
    let directory = Directory::new();
    let _first = Served::start(&directory.0, &[]);
    let command = || Command::new(env!("CARGO_BIN_EXE_switchboard"));
    let Err(said) = Served::try_start(command(), &directory.0, &[]) else {
        panic!("two processes in one directory")
    };
    assert!(said.contains("is used by another process"), "{said}");
    let mut doctor = command();
    let doctor = doctor.arg("doctor").arg("--data-dir").arg(&directory.0);
    let doctor = doctor.output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("is used by a process that runs"), "{said}");
    assert_eq!(doctor.status.code(), Some(3));
    let file = directory.0.join("file");
    std::fs::write(&file, "x").unwrap();
    let Err(said) = Served::try_start(command(), &file, &[]) else {
        panic!("a file for a directory")
    };
    assert!(said.contains("cannot use the data directory"), "{said}");
}

/// A server whose data directory is a file system of its own, of 4 MiB. `None` where the system lets nobody make one.
fn on_a_small_disk(directory: &Directory) -> Option<Served> {
    let script = r#"mount -t tmpfs -o size=4m none "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&directory.0)
        .arg(env!("CARGO_BIN_EXE_switchboard"));
    let settings: Vec<_> = EVERYTHING.into_iter().collect();
    match Served::try_start(command, &directory.0, &settings) {
        Ok(server) => Some(server),
        Err(said) => {
            eprintln!("no file system of its own here: {said}");
            None
        }
    }
}

#[test]
fn a_full_disk_refuses_publications_serves_readers_and_is_noticed_when_it_is_full_no_longer() {
    let directory = Directory::new();
    let Some(server) = on_a_small_disk(&directory) else {
        return;
    };
    support::block_on(async {
        let live = server.live();
        let mut client = Client::connect(&live).await;
        let mut listener = Client::connect(&live).await;
        let mut run = Run::begin("a", listener.subscribe("a").await);
        let first = client.publish("a", Payload::text("first")).await;
        // Its disk, as seen from here.
        let filler = format!("/proc/{}/root{}/filler", server.pid(), directory.0.display());
        std::fs::write(&filler, vec![0; 2 * 1024 * 1024]).unwrap();
        let large = "x".repeat(50_000);
        let mut acknowledged = 1u64;
        let mut refused = 0;
        for id in 1_000..1_300 {
            client
                .say(&[publish(Some(id), "a", Payload::text(&large))])
                .await
                .unwrap();
            match client.answer(id).await {
                Notice::Published { position, .. } => {
                    acknowledged += 1;
                    assert_eq!(position.offset, acknowledged, "without hole");
                }
                Notice::Error {
                    code, retry_after, ..
                } => {
                    assert_eq!((code.as_str(), retry_after.is_some()), ("overloaded", true));
                    refused += 1;
                    if refused == 20 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 20, "it fills up");
        // Reading goes on: the log, a new subscription, also to a channel that nobody has used.
        let log = read_on(&mut client, "a", Position::start(first.epoch)).await;
        assert_eq!(log.len() as u64, acknowledged);
        read_to(&mut listener, &mut run, acknowledged).await;
        assert_eq!(client.subscribe("new").await.offset, 0);
        let metrics = support::http::get(server.internal, "/metrics").await.body;
        let refusals = metrics
            .lines()
            .find(|line| line.starts_with("switchboard_disk_refusals_total"));
        assert!(refusals.is_some_and(|line| !line.ends_with(" 0")), "{refusals:?}");

        std::fs::remove_file(&filler).unwrap();
        let next = client.publish("a", Payload::text("there is room again")).await;
        assert_eq!(next.offset, acknowledged + 1, "what was refused is nowhere");
        client.publish("new", Payload::text("here, too")).await;
        read_to(&mut listener, &mut run, next.offset).await;
    });
}

#[test]
fn what_logs_forget_frees_the_disk() {
    let directory = Directory::new();
    let settings = [("CHANNELS__LOG_MESSAGES_MAX", "20")];
    support::block_on(async {
        let server = Served::start(&directory.0, &settings);
        let mut client = Client::connect(&server.live()).await;
        let kept = client.publish("kept", Payload::text("of long ago")).await;
        let large = "x".repeat(60_000);
        for round in 0..100 {
            let commands: Vec<_> = (0..10)
                .map(|id| publish(Some(round * 10 + id), "a", Payload::text(&large)))
                .collect();
            client.say(&commands).await.unwrap();
            for id in 0..10 {
                assert!(matches!(
                    client.answer(round * 10 + id).await,
                    Notice::Published { .. }
                ));
            }
        }
        support::eventually("60 MB are forgotten", async || {
            (directory.bytes() < 30 * 1024 * 1024).then_some(())
        })
        .await;
        server.kill();
        let server = Served::start(&directory.0, &settings);
        let mut client = Client::connect(&server.live()).await;
        assert!(client.resume("kept", kept).await);
        let page = client.history("a", Range::Newest, Some(100)).await;
        assert!(
            page.messages.len() < 20 && page.position.offset == 1_000,
            "by bytes, of 1 MiB"
        );
    });
}

#[test]
fn files_that_were_removed_take_no_publications() {
    let directory = Directory::new();
    let server = Served::start(&directory.0, &[]);
    support::block_on(async {
        let mut client = Client::connect(&server.live()).await;
        client.publish("a", Payload::text("kept")).await;
        for segment in directory.segments() {
            std::fs::remove_file(segment).unwrap();
        }
        let id = client.id();
        let lost = publish(Some(id), "a", Payload::text("would be lost"));
        client.say(&[lost]).await.unwrap();
        match client.answer(id).await {
            Notice::Error { code, .. } => assert_eq!(code, "overloaded"),
            other => panic!("{other:?}"),
        }
        let page = client.history("a", Range::Newest, None).await;
        assert_eq!(page.messages.len(), 1, "reads go on");
    });
}

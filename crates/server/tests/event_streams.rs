//! Server-Sent Events from outside: what stands on the wire, where a stream that was cut off goes on, and what becomes of those
//! that nobody reads. What holds at every door is in `doors.rs`.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::door::{Stream, publish};
use support::peer::{Ended, Peer};
use support::{Live, eventually, http, run, run_on_shards};
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::Which;

async fn open(live: &Live, query: &str) -> Stream {
    let mut stream = Stream::open(live, query, "", None).await;
    let retry = stream.next().await.unwrap();
    assert!(retry.retry.is_some());
    stream
}

/// The data of the next event with this name; others are passed over.
async fn hear(stream: &mut Stream, name: &str) -> (Value, Option<String>) {
    loop {
        let event = stream.next().await.unwrap();
        if event.event == name {
            return (serde_json::from_str(&event.data).unwrap(), event.id);
        }
    }
}

#[test]
fn a_stream_is_kept_from_caches_and_buffers_and_comes_back_after_a_delay_of_its_own() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut delays = BTreeSet::new();
            let mut streams = Vec::new();
            for _ in 0..100 {
                let mut stream = Stream::open(live, "channel=a", "", None).await;
                for (name, value) in [
                    ("content-type", "text/event-stream"),
                    ("cache-control", "no-store, no-transform"),
                    ("x-accel-buffering", "no"),
                    ("connection", "close"),
                    ("content-length", ""),
                    ("transfer-encoding", ""),
                ] {
                    assert_eq!(stream.header(name), value, "{name}");
                }
                assert!(stream.header("date").ends_with(" GMT"));
                let retry = stream.next().await.unwrap().retry.unwrap();
                assert!((1_000..3_000).contains(&retry), "{retry}");
                delays.insert(retry);
                streams.push(stream);
            }
            assert!(delays.len() > 80, "{delays:?}");
        },
    );
}

#[test]
fn a_stream_that_was_cut_anywhere_goes_on_behind_its_last_whole_event() {
    /// Small enough that a read ends within an event.
    const READ_BYTES: usize = 97;
    run_on_shards(
        |_| {},
        async |live| {
            let query = "channel=cut:a&channel=cut:b";
            let mut stream = open(live, query).await;
            let mut id = None;
            for _ in 0..2 {
                id = hear(&mut stream, "subscribed").await.1;
            }
            let mut publisher = Client::connect(live).await;
            for number in 0..60_u64 {
                for name in ["cut:a", "cut:b"] {
                    publisher.publish(name, Payload::text(number.to_string())).await;
                }
            }
            let mut heard = [0_u64, 0];
            let mut cuts = 0;
            while heard != [60, 60] {
                let header = format!("Last-Event-ID: {}\r\n", id.clone().unwrap());
                let mut stream = Stream::open(live, query, &header, None).await;
                stream.read_at_most(READ_BYTES * (1 + cuts % 17)).await;
                cuts += 1;
                while let Some(event) = stream.next_whole() {
                    if event.event == "message" {
                        let message: Value = serde_json::from_str(&event.data).unwrap();
                        let channel = usize::from(message["channel"] == "cut:b");
                        let number: u64 = message["data"].as_str().unwrap().parse().unwrap();
                        assert_eq!(number, heard[channel], "nothing twice, nothing missing");
                        heard[channel] += 1;
                    }
                    id = event.id.or(id);
                }
            }
            assert!(cuts > 20, "{cuts}");
        },
    );
}

#[test]
fn the_last_event_id_is_newer_than_the_url() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut positions = Vec::new();
            for number in 0..4 {
                let body = format!(r#"{{"channel":"a","data":{number}}}"#);
                positions.push(publish(live, &body).await.unwrap());
            }
            let query = format!("channel=a&since={}", positions[0]);
            let mut stream = Stream::open(live, &query, "", None).await;
            assert_eq!(hear(&mut stream, "message").await.0["data"], 1);
            let header = format!("Last-Event-ID: {}\r\n", positions[2]);
            let mut stream = Stream::open(live, &query, &header, None).await;
            assert_eq!(hear(&mut stream, "message").await.0["data"], 3);
            let bad = http::request(
                live.public,
                "GET",
                "/sse?channel=a",
                &["Last-Event-ID: \u{fc}"],
                b"",
            );
            assert!(bad.await.expect(400).body.contains("bad_position"));
        },
    );
}

#[test]
fn lines_in_a_payload_are_lines_of_the_event() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut stream = open(live, "channel=a").await;
            hear(&mut stream, "subscribed").await;
            let sent = ["{\n \"a\": [1,\r\n2,\r3]\n}", "\"x\\r\\n\\u2028\"", "\r7\r"];
            for json in sent {
                let body = format!(r#"{{"channel":"a","data":{json}}}"#);
                publish(live, &body).await.unwrap();
            }
            for json in sent {
                let (message, _) = hear(&mut stream, "message").await;
                let expected: Value = serde_json::from_str(json).unwrap();
                assert_eq!(message["data"], expected);
            }
        },
    );
}

#[test]
fn a_quiet_stream_is_kept_alive_by_comments_and_needs_no_answer() {
    let mut config = support::config(2);
    config.limits.session.ping_interval = Duration::from_millis(100);
    config.limits.session.pong_timeout = Duration::from_millis(100);
    run(&config, async |live| {
        let mut stream = open(live, "channel=a").await;
        hear(&mut stream, "subscribed").await;
        for _ in 0..10 {
            let event = stream.next().await.unwrap();
            assert_eq!((event.comments, &*event.data), (1, ""));
        }
        publish(live, r#"{"channel":"a","data":1}"#).await.unwrap();
        assert_eq!(hear(&mut stream, "message").await.0["data"], 1);
    });
}

#[test]
fn a_stream_begins_on_a_connection_that_has_asked_for_other_things() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut peer = Peer::connect(live.public).await;
            // All at once, and the stream is the last that is answered.
            peer.send(
                "GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n\
                 GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n\
                 GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n\
                 GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
            .await;
            assert!(peer.answer().await.expect(200).body.contains("subscribed"));
            peer.answer().await.expect(404);
            let mut stream = Stream::of(peer).await;
            hear(&mut stream, "subscribed").await;
            publish(live, r#"{"channel":"a","data":1}"#).await.unwrap();
            assert_eq!(hear(&mut stream, "message").await.0["data"], 1);
            assert_eq!(
                live.count(|shard| &shard.polls),
                1,
                "what is behind it is not answered"
            );
        },
    );
}

#[test]
fn a_stream_behind_an_answer_that_nobody_reads_waits_for_it() {
    run_on_shards(
        |_| {},
        async |live| {
            // Answers larger than any buffer.
            let large = "x".repeat(60_000);
            let mut publisher = Client::connect(live).await;
            let start = publisher.subscribe("large").await;
            for _ in 0..10 {
                publisher.publish("large", Payload::text(&*large)).await;
            }
            let mut peer = Peer::connect_with(live.public, None, Some(4 * 1024))
                .await
                .unwrap();
            let poll = format!("GET /poll?channel=large&since={start} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            for _ in 0..50 {
                peer.send(&poll).await;
            }
            peer.send("GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            for _ in 0..50 {
                assert!(peer.answer().await.expect(200).body.ends_with("]}"));
            }
            let mut stream = Stream::of(peer).await;
            hear(&mut stream, "subscribed").await;
        },
    );
}

#[test]
fn an_old_client_and_one_that_sends_its_head_in_pieces_get_a_stream_too() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut old = Peer::connect(live.public).await;
            old.send("GET /sse?channel=a HTTP/1.0\r\n\r\n").await;
            let mut slow = Peer::connect(live.public).await;
            for piece in ["GET /sse?chan", "nel=a HTTP/1.1\r\nHo", "st: localhost\r\n\r\n"] {
                slow.send(piece).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for peer in [old, slow] {
                let mut stream = Stream::of(peer).await;
                hear(&mut stream, "subscribed").await;
            }
        },
    );
}

#[test]
fn what_a_reader_sends_is_passed_over_and_its_end_is_the_end() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut stream = open(live, "channel=a&presence=true").await;
            hear(&mut stream, "presence").await;
            stream.peer.send(vec![b'x'; 100_000]).await;
            publish(live, r#"{"channel":"a","data":1}"#).await.unwrap();
            hear(&mut stream, "message").await;
            eventually("it is counted", async || (live.sessions() == 1).then_some(())).await;
            drop(stream);
            eventually("it is gone", async || (live.sessions() == 0).then_some(())).await;
        },
    );
}

#[test]
fn a_stream_that_nobody_reads_is_ended() {
    let mut config = support::config(2);
    config.limits.session.write_stall = Duration::from_millis(300);
    run(&config, async |live| {
        let mut stream = Stream::open(live, "channel=a", "", Some(4 * 1024)).await;
        let mut publisher = Client::connect(live).await;
        let large = "x".repeat(60_000);
        eventually("it is ended", async || {
            publisher.publish("a", Payload::text(&*large)).await;
            let stalled = live.count(|shard| &shard.sessions_stalled);
            (stalled > 0).then_some(())
        })
        .await;
        while stream.next().await.is_ok() {}
    });
}

/// In a network of its own, whose only way is cut off and comes back: the client's end of the stream is there all the time.
const VANISH: &str = r#"
ip link set lo up || exit 99
"$1" serve --listen 127.0.0.1:8000 --internal-listen 127.0.0.1:8001 >/dev/null 2>&1 &
trap "kill $!" EXIT
until exec 3<>/dev/tcp/127.0.0.1/8000; do sleep 0.1; done 2>/dev/null
printf 'GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
while read -r line <&3; do [ "${line%%$'\r'}" = "event: subscribed" ] && break; done
sessions() {
  exec 4<>/dev/tcp/127.0.0.1/8001 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&4 && sed -n 's/^switchboard_sessions //p' <&4
}
await() { for look in $(seq 100); do [ "$(sessions)" = "$1" ] && break; sleep 0.1; done; sessions; }
await 1
ip link set lo down
sleep 3
ip link set lo up
await 0
"#;

#[test]
fn a_reader_that_has_vanished_is_given_up() {
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "bash", "-c", VANISH, "bash"])
        .arg(env!("CARGO_BIN_EXE_switchboard"))
        .env("SWITCHBOARD_LIMITS__PING_INTERVAL", "300ms")
        .env("SWITCHBOARD_LIMITS__WRITE_STALL", "500ms")
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.code() == Some(99) || complained.starts_with("unshare: ") {
        eprintln!("no network of its own here: {complained}");
        return;
    }
    assert_eq!(said, "1\n0\n", "{complained}");
}

#[test]
fn one_stream_has_channels_with_wishes_of_their_own() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut stream = open(live, "channel=a&channel=b&presence=true&channel=c").await;
            let mut there = BTreeSet::new();
            while there.len() < 2 {
                let (event, _) = hear(&mut stream, "presence").await;
                there.insert(event["channel"].as_str().unwrap().to_owned());
            }
            assert_eq!(there, ["a", "b"].map(str::to_owned).into());
            let members = async |channel: &str| {
                let mut client = Client::connect(live).await;
                client.members(channel, Which::Sample, None).await.counts.members
            };
            for (channel, expected) in [("a", 1), ("b", 1), ("c", 0)] {
                assert_eq!(members(channel).await, expected, "{channel}");
            }
            // All of them go on from one place.
            for channel in ["c", "a", "b"] {
                publish(live, &format!(r#"{{"channel":"{channel}","data":1}}"#))
                    .await
                    .unwrap();
            }
            let mut last = None;
            for _ in 0..3 {
                last = hear(&mut stream, "message").await.1;
            }
            drop(stream);
            let since = last.unwrap();
            let query = format!("channel=a&channel=b&presence=true&channel=c&since={since}");
            let mut stream = open(live, &query).await;
            for _ in 0..3 {
                assert_eq!(hear(&mut stream, "subscribed").await.0["recovered"], true);
            }
        },
    );
}

#[test]
fn what_is_not_asked_for_as_it_should_be() {
    run_on_shards(
        |_| {},
        async |live| {
            for (method, target, headers, body, status) in [
                ("POST", "/sse?channel=a", &[][..], &b""[..], 405),
                ("HEAD", "/sse?channel=a", &[], b"", 405),
                ("GET", "/sse?channel=a", &[], b"x", 400),
                ("GET", "/sse?channel=a", &["Transfer-Encoding: chunked"], b"", 400),
                ("GET", "/sse", &[], b"", 400),
                ("GET", "/sse?channel=a&since=x", &[], b"", 400),
                ("GET", "/sse?channel=%24x", &[], b"", 400),
            ] {
                let answer = http::request(live.public, method, target, headers, body).await;
                assert_eq!(answer.status, status, "{method} {target}");
                if status == 405 {
                    assert_eq!(answer.header("allow"), "GET, OPTIONS");
                } else {
                    assert_eq!(answer.header("content-type"), "application/json");
                }
            }
        },
    );
}

#[test]
fn a_server_that_stops_says_so_and_ends_the_stream() {
    let server = support::start(&support::config(2));
    let live = Live::of(&server);
    support::block_on(async {
        let mut stream = open(&live, "channel=a").await;
        hear(&mut stream, "subscribed").await;
        let stopping = std::thread::spawn(move || server.stop());
        let goodbye = stream.next().await.unwrap();
        let data: Value = serde_json::from_str(&goodbye.data).unwrap();
        assert_eq!((&*goodbye.event, &goodbye.id), ("goodbye", &None));
        assert_eq!(data["retry_after_ms"].as_u64(), goodbye.retry);
        assert_eq!(stream.next().await, Err(Ended::Eof));
        drop(stream);
        eventually("the server has stopped", async || {
            stopping.is_finished().then_some(())
        })
        .await;
        stopping.join().unwrap();
    });
    support::assert_faultless();
}

#[test]
fn whoever_is_refused_for_now_comes_back_after_the_delay_of_its_own() {
    run_on_shards(
        |config| {
            config.channels.log_messages_max = 0;
            config.limits.channels_max = 1;
        },
        async |live| {
            let mut streams = Vec::new();
            let mut refused = 0;
            for number in 0..40 {
                let mut stream = open(live, &format!("channel=c:{number}&presence=true")).await;
                let event = loop {
                    let event = stream.next().await.unwrap();
                    if event.event != "welcome" {
                        break event;
                    }
                };
                streams.push(stream);
                if event.event == "refused" {
                    let data: Value = serde_json::from_str(&event.data).unwrap();
                    assert_eq!(data["code"], "too_many_channels");
                    assert!(data["retry_after_ms"].is_u64(), "{data}");
                    // That is the same for all who are refused.
                    assert_eq!(event.retry, None);
                    refused += 1;
                }
            }
            assert!(refused > 30, "{refused}");
        },
    );
}

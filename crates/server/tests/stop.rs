//! Stopping in good order: a word to everyone, and an end that nobody can delay.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::thread::JoinHandle;
use std::time::Duration;

use support::client::{Client, Closed};
use support::peer::{self, Ended, Peer};
use support::{Live, block_on, eventually, http};
use switchboard_proto::dialect::notice::Notice;
use switchboard_server::server::Server;
use tokio::net::TcpStream;

/// Starts, runs `before`, stops, runs `after` while it stops, and waits for the end.
fn stop<T>(
    shards: usize,
    drain_deadline: Duration,
    before: impl AsyncFnOnce(&Live) -> T,
    after: impl AsyncFnOnce(&Live, T),
) {
    let mut config = support::config(shards);
    config.server.drain_deadline = drain_deadline;
    let server = support::start(&config);
    let live = Live::of(&server);
    block_on(async {
        let open = before(&live).await;
        let stopping = stop_on_a_thread(server);
        after(&live, open).await;
        eventually("the server has stopped", async || {
            stopping.is_finished().then_some(())
        })
        .await;
        stopping.join().unwrap();
    });
    support::assert_faultless();
}

fn stop_on_a_thread(server: Server) -> JoinHandle<()> {
    std::thread::spawn(move || server.stop())
}

/// Longer than any test waits: the end must come without it.
const NEVER: Duration = Duration::from_secs(3_600);

#[test]
fn everyone_hears_goodbye_and_a_close_with_1001() {
    for shards in support::SHARDS {
        stop(
            shards,
            NEVER,
            async |live| {
                let mut clients = Vec::new();
                for _ in 0..8 {
                    let mut client = Client::connect(live).await;
                    client.subscribe("a").await;
                    clients.push(client);
                }
                let raw = Peer::open(live.public, "/ws?channel=a").await;
                (clients, raw)
            },
            async |_, (clients, mut raw)| {
                for mut client in clients {
                    let Notice::Goodbye {
                        code, retry_after, ..
                    } = client.hear().await
                    else {
                        panic!("no goodbye")
                    };
                    assert_eq!(code, 1001);
                    assert!(retry_after <= Duration::from_secs(8));
                    let closed = Closed {
                        code: Some(1001),
                        reason: "stopping".to_owned(),
                    };
                    assert_eq!(client.next().await, Err(closed));
                }
                assert_eq!(raw.hear_close(1001).await, "stopping");
                raw.send(peer::close(1001)).await;
                raw.hear_end().await;
            },
        );
    }
}

#[test]
fn what_was_acknowledged_before_the_stop_is_delivered_before_the_goodbye() {
    for shards in support::SHARDS {
        stop(
            shards,
            NEVER,
            async |live| {
                let mut client = Client::connect(live).await;
                client.subscribe("a").await;
                let mut publisher = Client::connect(live).await;
                let text = switchboard_proto::payload::Payload::text("last words");
                publisher.publish("a", text).await;
                (client, publisher)
            },
            async |_, (mut client, _publisher)| {
                assert!(matches!(client.hear().await, Notice::Message { .. }));
                assert!(matches!(client.hear().await, Notice::Goodbye { .. }));
            },
        );
    }
}

#[test]
fn who_never_answers_does_not_delay_the_end_beyond_the_drain_deadline() {
    for shards in support::SHARDS {
        stop(
            shards,
            Duration::from_millis(300),
            async |live| {
                let mute = Peer::open(live.public, "/ws").await;
                let half = Peer::connect(live.public).await;
                (mute, half)
            },
            async |_, (mut mute, mut half)| {
                mute.hear(r#"{"type":"goodbye","code":1001,"reason":"stopping","retry_after_ms":*}"#)
                    .await;
                mute.hear_close(1001).await;
                // Says nothing, and sees the end all the same.
                let _cut_off = mute.until_end().await;
                let _cut_off = half.until_end().await;
            },
        );
    }
}

#[test]
fn nobody_is_let_in_while_it_stops_and_it_is_not_ready() {
    for shards in support::SHARDS {
        stop(
            shards,
            Duration::from_secs(2),
            async |live| {
                http::get(live.internal, "/readyz").await.expect(200);
                Peer::open(live.public, "/ws").await
            },
            async |live, mut mute| {
                mute.hear_close(1001).await;
                let answer = http::get(live.internal, "/readyz").await.expect(503);
                assert_eq!(answer.body, "stopping\n");
                http::get(live.internal, "/healthz").await.expect(200);
                eventually("connections are refused", async || {
                    TcpStream::connect(live.public).await.is_err().then_some(())
                })
                .await;
                drop(mute);
            },
        );
    }
}

#[test]
fn a_handshake_that_ends_while_it_stops_is_not_left_hanging() {
    for shards in support::SHARDS {
        stop(
            shards,
            NEVER,
            async |live| {
                // Keeps the server draining.
                let mute = Peer::open(live.public, "/ws").await;
                let mut late = Peer::connect(live.public).await;
                late.send(peer::handshake("/ws")).await;
                http::get(live.public, "/").await.expect(200);
                (mute, late)
            },
            async |_, (mut mute, mut late)| {
                mute.hear_close(1001).await;
                let _gone = late.try_send("\r\n").await;
                match late.next_answer().await {
                    Ok(answer) => {
                        answer.expect(101);
                        late.hear_close(1001).await;
                    }
                    Err(ended) => assert!(matches!(ended, Ended::Eof | Ended::Reset)),
                }
                drop(late);
                drop(mute);
            },
        );
    }
}

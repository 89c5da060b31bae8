//! Every state of a connection has a deadline. Who lets one pass is ended, as the table of limits says; who does not is
//! left alone.
//!
//! The limits are short here and no test measures a time: what has to happen happens before the test gives up, or never.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::time::Duration;

use support::client::Client;
use support::peer::{self, CLOSE, Ended, FIN, PING, PONG, Peer, TEXT, frame};
use support::{Live, eventually, http, run, run_on_shards};
use switchboard_proto::payload::Payload;
use switchboard_server::config::Config;
use switchboard_server::stats::{Counter, ShardStats};

/// Of the deadline that a test is about; all others are far away.
const SHORT: Duration = Duration::from_millis(300);
const FAR: Duration = Duration::from_secs(3_600);

fn all_far(config: &mut Config) {
    config.limits.http_head_deadline = FAR;
    let session = &mut config.limits.session;
    for deadline in [
        &mut session.ping_interval,
        &mut session.pong_timeout,
        &mut session.write_stall,
        &mut session.close_handshake,
        &mut session.linger,
        &mut session.unfinished_message,
    ] {
        *deadline = FAR;
    }
}

/// Somebody who does as one should, beside whatever a test is about.
struct Innocent(Client);

impl Innocent {
    async fn beside(live: &Live) -> Innocent {
        let mut client = Client::connect(live).await;
        client.subscribe("innocent").await;
        Innocent(client)
    }

    /// It still has its session, and the session works.
    async fn is_well(&mut self) {
        let position = self.0.publish("innocent", Payload::text("well")).await;
        let notice = self.0.hear().await;
        assert!(
            matches!(&notice, switchboard_proto::dialect::notice::Notice::Message { message, .. } if message.position == position),
            "{notice:?}"
        );
    }
}

async fn counted(live: &Live, what: &str, counter: impl Fn(&ShardStats) -> &Counter) {
    eventually(what, async || (live.count(&counter) == 1).then_some(())).await;
}

#[test]
fn a_slow_first_head_leaves_the_whole_time_to_the_next_one() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.http_head_deadline = Duration::from_secs(5);
    };
    run_on_shards(set, async |live| {
        let mut peer = Peer::connect(live.public).await;
        // More than half of the deadline each time: what is left of the first would not do for the second.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            peer.send("GET /assets/playground.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            peer.answer().await.expect(200);
        }
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_gets_408() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.http_head_deadline = SHORT;
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let mut slow = Peer::connect(live.public).await;
        let head = peer::handshake("/ws");
        let mut bytes = head.bytes().cycle();
        let answer = loop {
            tokio::select! {
                answer = slow.next_answer() => break answer,
                () = tokio::time::sleep(Duration::from_millis(30)) => {}
            }
            let byte = bytes.next().unwrap();
            let _gone = slow.try_send([byte]).await;
        };
        answer.unwrap().expect(408);
        innocent.is_well().await;
    });
}

#[test]
fn who_connects_and_says_nothing_is_let_go() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.http_head_deadline = SHORT;
    };
    run_on_shards(set, async |live| {
        let mut mute = Peer::connect(live.public).await;
        let mut idle = Peer::connect(live.public).await;
        idle.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        idle.answer().await.expect(200);
        mute.answer().await.expect(408);
        mute.hear_end().await;
        // After an answer there is nothing to complain about.
        idle.hear_end().await;
    });
}

#[test]
fn who_answers_no_ping_is_terminated() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.session.ping_interval = SHORT;
        // Whoever answers has time to do so on a busy machine.
        config.limits.session.pong_timeout = 4 * SHORT;
    };
    run_on_shards(set, async |live| {
        let mut silent = Peer::open(live.public, "/ws").await;
        let mut answering = Peer::open(live.public, "/ws").await;
        let mut talking = Peer::open(live.public, "/ws?channel=a").await;
        assert_eq!(silent.frame().await.first, FIN | PING);
        let mut pings = 0;
        let ended = loop {
            tokio::select! {
                ended = silent.until_end() => break ended,
                ping = answering.frame() => {
                    assert_eq!(ping.first, FIN | PING);
                    answering.send(frame(FIN | PONG, &ping.payload)).await;
                    pings += 1;
                }
                () = tokio::time::sleep(SHORT / 4) => talking.say("I am here").await,
            }
        };
        // It is dead; there is nobody to say Close to.
        assert_eq!(ended, Ended::Eof);
        assert!(pings > 0);
        counted(live, "one silent session", |shard| &shard.sessions_silent).await;
        answering.say(r#"{"type":"ping","id":1}"#).await;
        while answering.frame().await.payload != br#"{"type":"pong","id":1}"# {}
        // Whatever a peer says is a sign of life.
        talking.say("the last").await;
        while talking.frame().await.payload != b"the last" {}
    });
}

#[test]
fn a_socket_that_takes_nothing_is_terminated() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.session.write_stall = SHORT;
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let mut reluctant = Peer::open_small(live.public, "/ws").await;
        reluctant
            .ask(
                r#"{"type":"subscribe","id":1,"channel":"a"}"#,
                r#"{"type":"subscribed",*}"#,
            )
            .await;
        let words = "x".repeat(60_000);
        eventually("it is terminated", async || {
            http::post(live.internal, "/api/v1/publish?channel=a", "text/plain", &words)
                .await
                .expect(200);
            (live.count(|shard| &shard.sessions_stalled) == 1).then_some(())
        })
        .await;
        eventually("only the innocent is left", async || {
            (live.sessions() == 1).then_some(())
        })
        .await;
        innocent.is_well().await;
        drop(reluctant);
    });
}

#[test]
fn a_slow_reader_is_not_taken_for_a_silent_one() {
    let mut config = support::config(2);
    all_far(&mut config);
    config.limits.session.ping_interval = 2 * SHORT;
    config.limits.session.pong_timeout = 2 * SHORT;
    run(&config, async |live| {
        let mut slow = Peer::open_small(live.public, "/ws").await;
        slow.say(r#"{"type":"subscribe","id":1,"channel":"a"}"#).await;
        // It may have been pinged before.
        while !slow.frame().await.payload.starts_with(br#"{"type":"subscribed"#) {}
        let words = "x".repeat(60_000);
        let publish = async || {
            let target = "/api/v1/publish?channel=a";
            http::post(live.internal, target, "text/plain", &words)
                .await
                .expect(200);
        };
        eventually("every buffer on the way is full", async || {
            slow.say(r#"{"type":"ping"}"#).await;
            publish().await;
            (live.count(|shard| &shard.deliveries_refused) > 0).then_some(())
        })
        .await;
        // It reads a little, there is always more, and so the server does not read what it says for longer than a silent
        // peer has.
        for _ in 0..25 {
            tokio::time::sleep(SHORT / 2).await;
            slow.frame().await;
            slow.say(r#"{"type":"ping"}"#).await;
            publish().await;
        }
        slow.say(r#"{"type":"ping","id":2}"#).await;
        while !slow
            .frame()
            .await
            .payload
            .starts_with(br#"{"type":"pong","id":2"#)
        {}
    });
}

#[test]
fn a_message_that_is_not_finished_in_time_gets_1008() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.session.unfinished_message = SHORT;
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let fragment = frame(TEXT, "{");
        let half_a_frame = &peer::text(r#"{"type":"ping"}"#)[..9];
        let half_a_header = &peer::header(FIN | TEXT, 300)[..3];
        for beginning in [&fragment[..], half_a_frame, half_a_header] {
            let mut peer = Peer::open(live.public, "/ws").await;
            peer.ask(r#"{"type":"ping","id":1}"#, r#"{"type":"pong","id":1}"#)
                .await;
            peer.send(beginning).await;
            peer.hear_close(1008).await;
            peer.send(peer::close(1008)).await;
            drop(peer);
        }
        // Signs of life do not finish it.
        let mut peer = Peer::open(live.public, "/echo").await;
        peer.send(&fragment).await;
        let closed = loop {
            peer.send(frame(FIN | PONG, "")).await;
            tokio::select! {
                frame = peer.frame() => break frame,
                () = tokio::time::sleep(Duration::from_millis(60)) => {}
            }
        };
        assert_eq!(closed.close_code(), Some(1008));
        innocent.is_well().await;
    });
}

#[test]
fn a_close_that_is_not_answered_ends_in_the_end_of_the_connection() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.session.close_handshake = SHORT;
        config.limits.session.control_frames.per_second = 1;
        config.limits.session.control_frames.burst = 2;
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let mut peer = Peer::open(live.public, "/ws").await;
        for _ in 0..3 {
            peer.send(frame(FIN | PONG, "")).await;
        }
        peer.hear_close(1008).await;
        // Whatever it says in place of a Close, the end comes.
        let ended = loop {
            tokio::select! {
                ended = peer.until_end() => break ended,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            let _gone = peer.try_send(frame(FIN | PING, "still here")).await;
        };
        assert!(matches!(ended, Ended::Eof | Ended::Reset));
        innocent.is_well().await;
    });
}

#[test]
fn who_does_not_leave_after_both_closes_is_dropped() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.session.linger = SHORT;
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let mut polite = Peer::open(live.public, "/ws").await;
        polite.send(frame(FIN | CLOSE, "")).await;
        assert_eq!(polite.frame().await.first, FIN | CLOSE);
        // The server has said all: it shuts its direction at once, and keeps reading for a while.
        polite.hear_end().await;
        eventually("the other is dropped", async || {
            (live.sessions() == 1).then_some(())
        })
        .await;
        innocent.is_well().await;
        drop(polite);
    });
}

#[test]
fn a_page_that_nobody_reads_does_not_hold_its_connection() {
    let set = |config: &mut Config| {
        all_far(config);
        config.limits.http_head_deadline = SHORT;
        config.limits.session.write_stall = SHORT;
        config.limits.connections_max = switchboard_server::config::Auto::Fixed(2);
    };
    run_on_shards(set, async |live| {
        let mut innocent = Innocent::beside(live).await;
        let mut reluctant = Peer::connect_with(live.public, None, Some(4 * 1024))
            .await
            .unwrap();
        // More pages than any buffer on the way holds.
        let requests = "GET /assets/playground.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5_000);
        tokio::select! {
            _all_read = reluctant.try_send(requests) => {}
            () = tokio::time::sleep(SHORT) => {}
        }
        eventually("its place is free again", async || {
            let (_peer, answer) = Peer::upgrade(live.public, "/ws", &[]).await;
            (answer.status == 101).then_some(())
        })
        .await;
        innocent.is_well().await;
        drop(reluctant);
    });
}

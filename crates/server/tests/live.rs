//! Transcripts over a real socket: what a client says, what it hears.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use support::client::{Client, How};
use support::http;
use support::peer::{self, BINARY, FIN, Peer, RSV1, TEXT, field, frame};
use support::{Live, run, run_on_shards};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::DialectId;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::limits::Rate;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_server::config::{Config, Origin};

/// A native session in JSON, as a browser's bare `new WebSocket(url)` gets it.
async fn open(live: &Live) -> Peer {
    Peer::open(live.public, "/ws").await
}

#[test]
fn connect_is_welcomed_once_and_may_be_left_out() {
    run_on_shards(
        |config| config.limits.session.ping_interval = std::time::Duration::from_secs(25),
        async |live| {
            let mut ana = open(live).await;
            let welcome = ana
                .ask(
                    r#"{"type":"connect","id":1}"#,
                    r#"{"type":"welcome","id":1,"session":"s_*","user":"guest-*","heartbeat_ms":25000,"resume":"r*"}"#,
                )
                .await;
            ana.ask(
                r#"{"type":"connect","id":2}"#,
                r#"{"type":"error","id":2,"code":"already_connected","message":"*"}"#,
            )
            .await;
            let mut ben = open(live).await;
            ben.ask(
                r#"{"type":"subscribe","id":1,"channel":"room:1"}"#,
                r#"{"type":"subscribed","id":1,"channel":"room:1","offset":0,"position":"*"}"#,
            )
            .await;
            ben.ask(
                r#"{"type":"connect","id":2}"#,
                r#"{"type":"error","id":2,"code":"already_connected","message":"*"}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"publish","id":3,"channel":"room:1","data":1}"#,
                r#"{"type":"published","id":3,"offset":1,"position":"*"}"#,
            )
            .await;
            let user = field(&welcome, "user");
            ben.hear(&format!(
                r#"{{"type":"message","channel":"room:1","offset":1,"position":"*","data":1,"from":"{user}","at":*}}"#
            ))
            .await;
        },
    );
}

#[test]
fn a_message_reaches_every_subscriber_and_only_them() {
    run_on_shards(
        |_| {},
        async |live| {
            let (mut ana, mut ben, mut eve) = (open(live).await, open(live).await, open(live).await);
            for peer in [&mut ana, &mut ben] {
                peer.ask(
                    r#"{"type":"subscribe","id":1,"channel":"room:1"}"#,
                    r#"{"type":"subscribed","id":1,"channel":"room:1","offset":0,"position":"*"}"#,
                )
                .await;
            }
            eve.ask(
                r#"{"type":"subscribe","id":1,"channel":"room:2"}"#,
                r#"{"type":"subscribed","id":1,"channel":"room:2","offset":0,"position":"*"}"#,
            )
            .await;
            // Without an id there is no answer.
            ana.say(r#"{"type":"publish","channel":"room:1","data":{"text":"hi"}}"#)
                .await;
            let heard = ana
                .hear(r#"{"type":"message","channel":"room:1","offset":1,"position":"*","data":{"text":"hi"},"from":"guest-*","at":*}"#)
                .await;
            assert_eq!(ben.frame().await.text(), heard, "the same bytes for everyone");
            ben.ask(
                r#"{"type":"unsubscribe","id":2,"channel":"room:1"}"#,
                r#"{"type":"unsubscribed","id":2,"channel":"room:1"}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"publish","channel":"room:1","data":2}"#,
                r#"{"type":"message","channel":"room:1","offset":2,*"data":2,*}"#,
            )
            .await;
            ben.hears_nothing().await;
            eve.hears_nothing().await;
            ben.ask(
                r#"{"type":"subscribe","id":3,"channel":"room:1"}"#,
                r#"{"type":"subscribed","id":3,"channel":"room:1","offset":2,"position":"*"}"#,
            )
            .await;
        },
    );
}

#[test]
fn a_key_makes_a_repeated_publish_the_same_message() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut ana = open(live).await;
            ana.ask(
                r#"{"type":"subscribe","id":1,"channel":"a"}"#,
                r#"{"type":"subscribed","id":1,*}"#,
            )
            .await;
            for id in [2, 3] {
                ana.say(&format!(
                    r#"{{"type":"publish","id":{id},"channel":"a","data":1,"key":"k"}}"#
                ))
                .await;
            }
            let mut heard = [
                ana.frame().await.text().to_owned(),
                ana.frame().await.text().to_owned(),
                ana.frame().await.text().to_owned(),
            ];
            heard.sort();
            assert!(peer::matches(
                r#"{"type":"message","channel":"a","offset":1,*}"#,
                &heard[0]
            ));
            let first = field(&heard[1], "position").to_owned();
            let published =
                |id| format!(r#"{{"type":"published","id":{id},"offset":1,"position":"{first}"}}"#);
            assert_eq!(heard[1..], [published(2), published(3)]);
            ana.hears_nothing().await;
        },
    );
}

#[test]
fn history_by_position_and_limit_page_by_page() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut ana = open(live).await;
            let empty = ana
                .ask(
                    r#"{"type":"history","id":1,"channel":"a"}"#,
                    r#"{"type":"history","id":1,"channel":"a","messages":[],"position":"*","more":false}"#,
                )
                .await;
            for n in 1..=7 {
                ana.ask(
                    &format!(r#"{{"type":"publish","id":{n},"channel":"a","data":"m{n}"}}"#),
                    &format!(r#"{{"type":"published","id":{n},"offset":{n},"position":"*"}}"#),
                )
                .await;
            }
            // Without `since`: the newest, oldest first.
            ana.ask(
                r#"{"type":"history","id":8,"channel":"a","limit":2}"#,
                r#"{"type":"history","id":8,"channel":"a","messages":[{"offset":6,"position":"*","data":"m6","from":"guest-*","at":*},{"offset":7,"position":"*","data":"m7","from":"guest-*","at":*}],"position":"*","more":false}"#,
            )
            .await;
            let mut since = field(&empty, "position").to_owned();
            for (first, more) in [(1, true), (4, true), (7, false)] {
                let question =
                    format!(r#"{{"type":"history","id":9,"channel":"a","since":"{since}","limit":3}}"#);
                let page = ana
                    .ask(&question, &format!(r#"{{"type":"history","id":9,"channel":"a","messages":[{{"offset":{first},*}}],"position":"*","more":{more}}}"#))
                    .await;
                let position = page.rsplit_once(r#""position":""#).unwrap().1;
                since = position.split('"').next().unwrap().to_owned();
            }
            ana.ask(
                &format!(r#"{{"type":"history","id":10,"channel":"a","since":"{since}"}}"#),
                &format!(r#"{{"type":"history","id":10,"channel":"a","messages":[],"position":"{since}","more":false}}"#),
            )
            .await;
            // A position of another channel belongs to another life of a log.
            let other = ana
                .ask(
                    r#"{"type":"history","id":11,"channel":"b"}"#,
                    r#"{"type":"history","id":11,*}"#,
                )
                .await;
            let other = field(&other, "position");
            for since in ["since", "before"] {
                ana.ask(
                    &format!(r#"{{"type":"history","id":12,"channel":"a","{since}":"{other}","limit":1}}"#),
                    r#"{"type":"error","id":12,"code":"bad_position","message":"this is a position of another channel"}"#,
                )
                .await;
            }
            let other_life = Position::start(Epoch::of(&ChannelName::parse("a").unwrap(), 7));
            let other_life = other_life.token();
            let other_life = other_life.as_str();
            ana.ask(
                &format!(r#"{{"type":"history","id":12,"channel":"a","since":"{other_life}","limit":1}}"#),
                r#"{"type":"history","id":12,"channel":"a","reset":true,"messages":[{"offset":1,*}],"position":"*","more":true}"#,
            )
            .await;
        },
    );
}

#[test]
fn history_says_what_the_log_no_longer_holds() {
    run_on_shards(
        |config| config.channels.log_messages_max = 3,
        async |live| {
            let mut ana = open(live).await;
            let empty = ana
                .ask(
                    r#"{"type":"history","id":1,"channel":"a"}"#,
                    r#"{"type":"history",*}"#,
                )
                .await;
            let start = field(&empty, "position").to_owned();
            for _ in 1..=5 {
                ana.ask(
                    r#"{"type":"publish","id":2,"channel":"a","data":0}"#,
                    r#"{"type":"published",*}"#,
                )
                .await;
            }
            ana.ask(
                &format!(r#"{{"type":"history","id":3,"channel":"a","since":"{start}"}}"#),
                r#"{"type":"history","id":3,"channel":"a","gap":{"from":1,"to":2},"messages":[{"offset":3,*},{"offset":4,*},{"offset":5,*}],"position":"*","more":false}"#,
            )
            .await;
        },
    );
}

#[test]
fn errors_name_the_command_and_leave_the_session_open() {
    run_on_shards(
        |config| config.limits.session.subscriptions_max = 2,
        async |live| {
            let mut ana = open(live).await;
            for (id, channel) in [(1, "a"), (2, "b")] {
                ana.ask(
                    &format!(r#"{{"type":"subscribe","id":{id},"channel":"{channel}"}}"#),
                    &format!(r#"{{"type":"subscribed","id":{id},"channel":"{channel}",*}}"#),
                )
                .await;
            }
            let long = "x".repeat(256);
            let segments = vec!["x"; 17].join(":");
            let start = Position::start(Epoch::of(&ChannelName::parse("a").unwrap(), 7))
                .token()
                .as_str()
                .to_owned();
            for (said, code) in [
                (
                    r#"{"type":"subscribe","id":9,"channel":"c"}"#.to_owned(),
                    "too_many_subscriptions",
                ),
                (
                    r#"{"type":"unsubscribe","id":9,"channel":"c"}"#.to_owned(),
                    "not_subscribed",
                ),
                (
                    r#"{"type":"subscribe","id":9,"channel":""}"#.to_owned(),
                    "bad_channel",
                ),
                (
                    format!(r#"{{"type":"subscribe","id":9,"channel":"{long}"}}"#),
                    "bad_channel",
                ),
                (
                    format!(r#"{{"type":"publish","id":9,"channel":"{segments}","data":1}}"#),
                    "bad_channel",
                ),
                (
                    r#"{"type":"history","id":9,"channel":"a\u0000"}"#.to_owned(),
                    "bad_channel",
                ),
                (
                    format!(r#"{{"type":"subscribe","id":9,"channel":"c","since":"{start}"}}"#),
                    "bad_position",
                ),
                (
                    r#"{"type":"history","id":9,"channel":"a","since":"here"}"#.to_owned(),
                    "bad_position",
                ),
                (
                    r#"{"type":"publish","id":9,"channel":"a"}"#.to_owned(),
                    "bad_request",
                ),
                (
                    r#"{"type":"publish","id":9,"channel":"a","data":1,"key":""}"#.to_owned(),
                    "bad_request",
                ),
                (
                    r#"{"type":"publish","id":9,"channel":"a","data_base64":"?"}"#.to_owned(),
                    "bad_payload",
                ),
                (r#"{"type":"shout","id":9}"#.to_owned(), "bad_request"),
            ] {
                let answer = format!(r#"{{"type":"error","id":9,"code":"{code}","message":"*"*}}"#);
                ana.ask(&said, &answer).await;
            }
            // No id can be read from these.
            for (said, code) in [("{", "bad_request"), ("7", "bad_request"), ("{}", "bad_request")] {
                let answer = format!(r#"{{"type":"error","code":"{code}","message":"*"}}"#);
                ana.ask(said, &answer).await;
            }
            ana.send(frame(FIN | BINARY, b"\x80")).await;
            ana.hear(r#"{"type":"error","code":"bad_request","message":"*"}"#)
                .await;
            ana.ask(r#"{"type":"ping","id":10}"#, r#"{"type":"pong","id":10}"#)
                .await;
            // Leaving makes room.
            ana.ask(
                r#"{"type":"unsubscribe","id":11,"channel":"a"}"#,
                r#"{"type":"unsubscribed",*}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"subscribe","id":12,"channel":"c"}"#,
                r#"{"type":"subscribed","id":12,*}"#,
            )
            .await;
        },
    );
}

#[test]
fn subscribing_twice_is_an_error_and_changes_nothing() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut ana = open(live).await;
            ana.ask(
                r#"{"type":"subscribe","id":1,"channel":"a"}"#,
                r#"{"type":"subscribed","id":1,*}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"subscribe","id":2,"channel":"a"}"#,
                r#"{"type":"error","id":2,"code":"already_subscribed","message":"*"}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"publish","channel":"a","data":1}"#,
                r#"{"type":"message",*}"#,
            )
            .await;
            ana.hears_nothing().await;
        },
    );
}

#[test]
fn a_client_over_its_rate_is_told_and_then_closed() {
    run_on_shards(
        |config| {
            config.limits.session.commands = Rate {
                per_second: 1,
                burst: 5,
            };
        },
        async |live| {
            let mut ana = open(live).await;
            for id in 1..=5 {
                ana.ask(
                    &format!(r#"{{"type":"ping","id":{id}}}"#),
                    &format!(r#"{{"type":"pong","id":{id}}}"#),
                )
                .await;
            }
            ana.ask(
                r#"{"type":"ping","id":6}"#,
                r#"{"type":"error","id":6,"code":"rate_limited","message":"*","retry_after_ms":*}"#,
            )
            .await;
            for _ in 0..200 {
                // The server may have closed already.
                let _gone = ana.try_send(peer::text(r#"{"type":"ping","id":7}"#)).await;
            }
            assert_eq!(ana.hear_close(4029).await, "rate_limited");
        },
    );
}

#[test]
fn raw_frames_are_bare_payloads_both_ways() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut json = open(live).await;
            json.ask(
                r#"{"type":"subscribe","id":1,"channel":"room:1"}"#,
                r#"{"type":"subscribed",*}"#,
            )
            .await;
            let how = How {
                dialect: Some(DialectId::Msgpack),
                ..How::default()
            };
            let mut msgpack = Client::connect_with(live, how).await;
            msgpack.subscribe("room:1").await;
            let mut raw = Peer::open(live.public, "/ws?channel=room:1").await;
            // A raw client hears that it is subscribed by hearing itself.
            let from_raw: [(u8, &[u8], &str, Payload); 6] = [
                (
                    TEXT,
                    br#"{"a": [1]}"#,
                    r#""data":{"a": [1]}"#,
                    Payload::json(r#"{"a":[1]}"#).unwrap(),
                ),
                (TEXT, b"[1]", r#""data":[1]"#, Payload::json("[1]").unwrap()),
                (TEXT, b"17", r#""data":"17""#, Payload::text("17")),
                (
                    TEXT,
                    br#"say "hi""#,
                    r#""data":"say \"hi\"""#,
                    Payload::text(r#"say "hi""#),
                ),
                (TEXT, b"{broken", r#""data":"{broken""#, Payload::text("{broken")),
                (
                    BINARY,
                    b"\x00\xff",
                    r#""data_base64":"AP8=""#,
                    Payload::bytes(&b"\x00\xff"[..]),
                ),
            ];
            for (opcode, bytes, as_json, payload) in from_raw {
                raw.send(frame(FIN | opcode, bytes)).await;
                let echo = raw.frame().await;
                assert_eq!((echo.first, &echo.payload[..]), (FIN | opcode, bytes));
                json.hear(&format!(r#"{{"type":"message","channel":"room:1","offset":*,"position":"*",{as_json},"from":"guest-*","at":*}}"#)).await;
                let Notice::Message { message, .. } = msgpack.hear().await else {
                    panic!("no message")
                };
                assert_eq!(message.payload, payload);
            }
            let to_raw: [(&str, u8, &[u8]); 5] = [
                (r#""data":"a string""#, TEXT, b"a string"),
                (r#""data":{"n":1}"#, TEXT, br#"{"n":1}"#),
                (r#""data":null"#, TEXT, b"null"),
                (r#""data":1.50"#, TEXT, b"1.50"),
                (r#""data_base64":"AP8=""#, BINARY, b"\x00\xff"),
            ];
            for (data, opcode, bytes) in to_raw {
                json.say(&format!(r#"{{"type":"publish","channel":"room:1",{data}}}"#))
                    .await;
                json.hear(&format!(r#"{{"type":"message",*{data}*}}"#)).await;
                let heard = raw.frame().await;
                assert_eq!((heard.first, &heard.payload[..]), (FIN | opcode, bytes));
            }
            msgpack.publish("room:1", Payload::bytes(&b"\x01"[..])).await;
            assert_eq!(raw.frame().await.payload, b"\x01");
        },
    );
}

#[test]
fn msgpack_speaks_the_same_protocol() {
    run_on_shards(
        |_| {},
        async |live| {
            let how = How {
                dialect: Some(DialectId::Msgpack),
                ..How::default()
            };
            let mut ana = Client::connect_with(live, how).await;
            let start = ana.subscribe("a").await;
            let payload = Payload::bytes(&b"\x00\x01"[..]);
            let position = ana.publish("a", payload.clone()).await;
            let Notice::Message { message, .. } = ana.hear().await else {
                panic!("no message")
            };
            assert_eq!((message.position, &message.payload), (position, &payload));
            let history = ana.history("a", Range::After(start), None).await;
            assert_eq!(history.messages, [message]);
            let (mut peer, answer) = Peer::upgrade(
                live.public,
                "/ws",
                &["Sec-WebSocket-Protocol: x, switchboard.v1.msgpack"],
            )
            .await;
            assert_eq!(
                answer.expect(101).header("sec-websocket-protocol"),
                "switchboard.v1.msgpack"
            );
            peer.send(frame(FIN | TEXT, "{}")).await;
            assert_eq!(
                peer.frame().await.first,
                FIN | BINARY,
                "errors too are MessagePack"
            );
        },
    );
}

#[test]
fn echo_returns_what_it_gets_in_development_only() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut peer = Peer::open(live.public, "/echo").await;
            peer.send(frame(FIN | TEXT, "hi")).await;
            assert_eq!(peer.frame().await.text(), "hi");
            peer.send(frame(TEXT, "in ")).await;
            peer.send(frame(FIN | peer::PING, "?")).await;
            assert_eq!(peer.frame().await.first, FIN | peer::PONG);
            peer.send(frame(FIN, "two")).await;
            assert_eq!(peer.frame().await.text(), "in two");
            peer.send(peer::close(1000)).await;
            peer.hear_close(1000).await;
            peer.hear_end().await;
        },
    );
    let mut config = support::config(1);
    config.development.echo = switchboard_server::config::Auto::Fixed(false);
    run(&config, async |live| {
        let (_, answer) = Peer::upgrade(live.public, "/echo", &[]).await;
        answer.expect(404);
    });
}

#[test]
fn what_comes_right_behind_the_handshake_is_kept() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut ana = Peer::connect(live.public).await;
            let mut bytes = format!("{}\r\n", peer::handshake("/ws")).into_bytes();
            bytes.extend(peer::text(r#"{"type":"subscribe","id":1,"channel":"a"}"#));
            let publish = peer::text(r#"{"type":"publish","channel":"a","data":1}"#);
            bytes.extend(&publish[..9]);
            ana.send(bytes).await;
            ana.answer().await.expect(101);
            ana.hear(r#"{"type":"subscribed","id":1,*}"#).await;
            ana.send(&publish[9..]).await;
            ana.hear(r#"{"type":"message",*"data":1,*}"#).await;
        },
    );
}

#[test]
fn a_broadcast_is_the_same_for_compressed_and_plain_clients() {
    run_on_shards(
        |config| config.compression.bytes_min = 64,
        async |live| {
            let takeover = DeflatePolicy {
                server_takeover: true,
                client_takeover: true,
                ..DeflatePolicy::default()
            };
            let small = DeflatePolicy {
                server_max_window_bits: 9,
                ..DeflatePolicy::default()
            };
            let mut clients = Vec::new();
            for compression in [None, Some(DeflatePolicy::default()), Some(takeover), Some(small)] {
                for dialect in [None, Some(DialectId::Msgpack)] {
                    let how = How {
                        dialect,
                        compression,
                        ..How::default()
                    };
                    let mut client = Client::connect_with(live, how).await;
                    client.subscribe("a").await;
                    clients.push(client);
                }
            }
            for length in [1, 63, 200, 5_000, 60_000] {
                let payload = Payload::text("so very compressible ".repeat(3_000)[..length].to_owned());
                let publisher = length % clients.len();
                let position = clients[publisher].publish("a", payload.clone()).await;
                for client in &mut clients {
                    let Notice::Message { message, .. } = client.hear().await else {
                        panic!("no message")
                    };
                    assert_eq!((message.position, &message.payload), (position, &payload));
                }
            }
            // And it is compressed indeed.
            let offer = "Sec-WebSocket-Extensions: permessage-deflate";
            let (mut peer, answer) = Peer::upgrade(live.public, "/ws?channel=a", &[offer]).await;
            let answer = answer.expect(101);
            assert!(
                answer
                    .header("sec-websocket-extensions")
                    .starts_with("permessage-deflate")
            );
            // A raw client is not told that it is subscribed; once it hears itself, it is.
            peer.say("here").await;
            assert_eq!(peer.frame().await.text(), "here");
            clients[0].publish("a", Payload::text("x".repeat(1_000))).await;
            let frame = peer.frame().await;
            assert_eq!(frame.first, FIN | RSV1 | TEXT);
            assert!(frame.payload.len() < 100);
        },
    );
}

#[test]
fn the_playground_is_served_with_its_types_and_policy() {
    run_on_shards(
        |_| {},
        async |live| {
            let page = http::get(live.public, "/").await.expect(200);
            assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
            assert!(
                page.header("content-security-policy")
                    .contains("default-src 'self'")
            );
            assert_eq!(page.header("x-content-type-options"), "nosniff");
            assert!(page.body.to_ascii_lowercase().contains("<!doctype html>"));
            // Whatever the page asks for is there.
            let mut assets = 0;
            for part in page.body.split('"').filter(|part| part.contains("assets/")) {
                let target = format!("/{}", part.trim_start_matches('/'));
                let asset = http::get(live.public, &target).await.expect(200);
                let expected = match target.rsplit_once('.').unwrap().1 {
                    "js" => "text/javascript; charset=utf-8",
                    "css" => "text/css; charset=utf-8",
                    "svg" => "image/svg+xml",
                    other => panic!("{other}"),
                };
                assert_eq!(asset.header("content-type"), expected);
                assets += 1;
            }
            assert!(assets >= 2, "a script and a style at least");
            let head = http::request(live.public, "HEAD", "/", &[], b"")
                .await
                .expect(200);
            assert_eq!(head.body, "");
            for target in [
                "/nothing",
                "/assets/",
                "/assets/../Cargo.toml",
                "/assets/%2e%2e/x.js",
                "/wss",
            ] {
                http::get(live.public, target).await.expect(404);
            }
            let post = http::post(live.public, "/", "text/plain", "x").await.expect(405);
            assert_eq!(post.header("allow"), "GET, HEAD");
        },
    );
    let mut config = support::config(1);
    config.development.playground = switchboard_server::config::Auto::Fixed(false);
    run(&config, async |live| {
        http::get(live.public, "/").await.expect(404);
    });
}

#[test]
fn a_handshake_that_is_none_is_answered_by_what_is_wrong_with_it() {
    run_on_shards(
        |_| {},
        async |live| {
            let plain = http::get(live.public, "/ws").await.expect(426);
            assert_eq!(plain.header("upgrade"), "websocket");
            let old = peer::handshake("/ws").replace("Version: 13", "Version: 8");
            let mut peer = Peer::connect(live.public).await;
            peer.send(format!("{old}\r\n")).await;
            assert_eq!(
                peer.answer().await.expect(426).header("sec-websocket-version"),
                "13"
            );

            let offered = "Sec-WebSocket-Protocol: chat, switchboard.v9.json";
            let (_, answer) = Peer::upgrade(live.public, "/ws", &[offered]).await;
            assert!(answer.expect(400).body.contains("switchboard.v1.json"));
            for (target, headers) in [
                ("/ws?channel=a&channel=b", &[][..]),
                (
                    "/ws?channel=a",
                    &["Sec-WebSocket-Protocol: switchboard.v1.json"][..],
                ),
                ("/ws?channel=", &[]),
                ("/ws?channel=a%00b", &[]),
                ("/ws?channel=%ff", &[]),
                ("/ws", &["Content-Length: 5"]),
                ("/ws", &["Transfer-Encoding: chunked"]),
                ("/ws", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]),
            ] {
                let (_, answer) = Peer::upgrade(live.public, target, headers).await;
                assert_eq!(answer.status, 400, "{target} {headers:?}: {answer:?}");
            }
            // A name that needs escapes in a URL.
            let mut raw = Peer::open(live.public, "/ws?channel=room%3Agr%C3%BC%C3%9Fe").await;
            raw.say("hi").await;
            assert_eq!(raw.frame().await.text(), "hi");
            let mut ana = open(live).await;
            ana.ask(
                r#"{"type":"history","id":1,"channel":"room:grüße"}"#,
                r#"{"type":"history","id":1,"channel":"room:grüße","messages":[{*"data":"hi"*}],*}"#,
            )
            .await;
        },
    );
}

#[test]
fn a_handshake_may_come_behind_other_requests_and_with_other_options() {
    run_on_shards(
        |_| {},
        async |live| {
            for connection in ["keep-alive, Upgrade", "upgrade", "Upgrade, close"] {
                let head = peer::handshake("/ws")
                    .replace("Connection: Upgrade", &format!("Connection: {connection}"));
                let mut peer = Peer::connect(live.public).await;
                let page = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
                let ping = peer::text(r#"{"type":"ping","id":1}"#);
                let mut bytes = format!("{page}{head}\r\n").into_bytes();
                bytes.extend(ping);
                peer.send(bytes).await;
                peer.answer().await.expect(404);
                peer.answer().await.expect(101);
                peer.hear(r#"{"type":"pong","id":1}"#).await;
            }
        },
    );
}

#[test]
fn pages_of_other_origins_are_turned_away_before_the_handshake() {
    async fn check(live: &Live, origins: &[&str], status: u16) {
        let headers: Vec<String> = origins.iter().map(|origin| format!("Origin: {origin}")).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        for target in ["/ws", "/ws?channel=a", "/echo"] {
            let (_, answer) = Peer::upgrade(live.public, target, &headers).await;
            assert_eq!(answer.status, status, "{target} {origins:?}");
        }
    }
    run_on_shards(
        |config| config.origins.allow = vec![Origin::parse("https://chat.example").unwrap()],
        async |live| {
            check(live, &[], 101).await;
            check(live, &["http://localhost:3000"], 101).await;
            check(live, &["http://127.0.0.1:8000"], 101).await;
            check(live, &["https://chat.example"], 101).await;
            check(live, &["https://evil.example"], 403).await;
            check(live, &["https://chat.example.evil.example"], 403).await;
            check(live, &["null"], 403).await;
            check(live, &[""], 403).await;
            check(live, &["http://localhost", "https://evil.example"], 403).await;
        },
    );
}

#[test]
fn the_internal_api_publishes_and_reads() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut ana = open(live).await;
            ana.ask(
                r#"{"type":"subscribe","id":1,"channel":"room:1"}"#,
                r#"{"type":"subscribed",*}"#,
            )
            .await;
            for (media_type, body, data) in [
                ("application/json", &br#"{"a":1}"#[..], r#""data":{"a":1}"#),
                ("application/json; charset=utf-8", br#""s""#, r#""data":"s""#),
                ("text/plain", br#"{"a":1}"#, r#""data":"{\"a\":1}""#),
                ("application/octet-stream", b"hi", r#""data_base64":"aGk=""#),
                (
                    "application/x-www-form-urlencoded",
                    br#"{"a":1}"#,
                    r#""data":{"a":1}"#,
                ),
                ("application/x-www-form-urlencoded", b"hi", r#""data":"hi""#),
                ("image/png", b"\xff", r#""data_base64":"/w==""#),
            ] {
                let answer =
                    http::post(live.internal, "/api/v1/publish?channel=room:1", media_type, body).await;
                let answer = answer.expect(200);
                assert_eq!(answer.header("content-type"), "application/json");
                assert!(peer::matches(
                    r#"{"type":"published","offset":*,"position":"*"}"#,
                    &answer.body
                ));
                // No user stands behind it.
                ana.hear(&format!(
                    r#"{{"type":"message","channel":"room:1","offset":*,"position":"*",{data},"at":*}}"#
                ))
                .await;
            }
            let target = "/api/v1/publish?channel=room:1&key=once";
            let first = http::post(live.internal, target, "text/plain", "x")
                .await
                .expect(200);
            let second = http::post(live.internal, target, "text/plain", "x")
                .await
                .expect(200);
            assert_eq!(first.body, second.body);

            let newest = http::get(live.internal, "/api/v1/history?channel=room:1&limit=1")
                .await
                .expect(200);
            assert!(
                peer::matches(
                    r#"{"type":"history","channel":"room:1","messages":[{"offset":8,*"data":"x",*}],"position":"*","more":false}"#,
                    &newest.body
                ),
                "{newest:?}"
            );
            let since = field(&newest.body, "position");
            let target = format!("/api/v1/history?channel=room:1&since={since}");
            let none = http::get(live.internal, &target).await.expect(200);
            assert!(none.body.contains(r#""messages":[]"#));

            for (method, target, body, code) in [
                ("POST", "/api/v1/publish?channel=", &b"x"[..], "bad_channel"),
                ("POST", "/api/v1/publish?channel=a&key=", b"x", "bad_request"),
                ("GET", "/api/v1/history?channel=a&since=x", b"", "bad_position"),
                ("GET", "/api/v1/history?channel=", b"", "bad_channel"),
            ] {
                let answer = http::request(live.internal, method, target, &[], body)
                    .await
                    .expect(400);
                assert!(answer.body.contains(&format!(r#""code":"{code}""#)), "{answer:?}");
            }
            for body in [&b"{"[..], b"\xff"] {
                let answer = http::post(
                    live.internal,
                    "/api/v1/publish?channel=a",
                    "application/json",
                    body,
                )
                .await;
                assert!(answer.expect(400).body.contains(r#""code":"bad_payload""#));
            }
            http::get(live.internal, "/api/v1/publish?channel=a")
                .await
                .expect(405);
            http::post(live.internal, "/api/v1/publish", "text/plain", "x")
                .await
                .expect(400);
            http::get(live.internal, "/api/v2").await.expect(404);
            // What is inside is not outside.
            for target in ["/metrics", "/healthz", "/api/v1/history?channel=room:1"] {
                http::get(live.public, target).await.expect(404);
            }
        },
    );
}

#[test]
fn foreign_pages_in_a_browser_of_this_machine_cannot_use_the_internal_api() {
    run_on_shards(
        |_| {},
        async |live| {
            // What a page may send without being asked for permission.
            let target = "/api/v1/publish?channel=a";
            for (origin, status) in [
                ("https://evil.example", 403),
                ("null", 403),
                ("http://localhost:3000", 200),
            ] {
                let headers = ["Content-Type: text/plain", &format!("Origin: {origin}")];
                http::request(live.internal, "POST", target, &headers, b"x")
                    .await
                    .expect(status);
            }
            let history = http::get(live.internal, "/api/v1/history?channel=a").await;
            assert_eq!(history.body.matches(r#""data":"x""#).count(), 1);
        },
    );
}

#[test]
fn a_body_above_the_limit_is_refused_and_one_below_is_not() {
    run(&support::config(2), async |live| {
        let target = "/api/v1/publish?channel=a";
        http::post(live.internal, target, "text/plain", "x".repeat(1024 * 1024))
            .await
            .expect(200);
        http::post(live.internal, target, "text/plain", "x".repeat(1024 * 1024 + 1))
            .await
            .expect(413);
    });
}

#[test]
fn health_readiness_and_metrics() {
    run_on_shards(
        |_| {},
        async |live| {
            assert_eq!(
                http::get(live.internal, "/healthz").await.expect(200).body,
                "alive\n"
            );
            assert_eq!(
                http::get(live.internal, "/readyz").await.expect(200).body,
                "ready\n"
            );
            let mut ana = open(live).await;
            ana.ask(
                r#"{"type":"subscribe","id":1,"channel":"a"}"#,
                r#"{"type":"subscribed",*}"#,
            )
            .await;
            ana.ask(
                r#"{"type":"publish","channel":"a","data":1}"#,
                r#"{"type":"message",*}"#,
            )
            .await;
            let metrics = support::eventually("the session is counted", async || {
                let metrics = http::get(live.internal, "/metrics").await.expect(200);
                metrics
                    .body
                    .contains("\nswitchboard_sessions 1\n")
                    .then_some(metrics)
            })
            .await;
            assert_eq!(
                metrics.header("content-type"),
                "text/plain; version=0.0.4; charset=utf-8"
            );
            for line in [
                "# TYPE switchboard_publishes_total counter",
                "switchboard_publishes_total 1",
                "switchboard_deliveries_total 1",
                "# TYPE switchboard_sessions gauge",
            ] {
                assert!(
                    metrics.body.lines().any(|known| known == line),
                    "{line}\n{}",
                    metrics.body
                );
            }
        },
    );
}

#[test]
fn a_full_server_refuses_politely_and_takes_the_next_one_when_someone_left() {
    let set = |config: &mut Config| {
        config.limits.connections_max = switchboard_server::config::Auto::Fixed(3);
    };
    run_on_shards(set, async |live| {
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(open(live).await);
        }
        let refused = http::get(live.public, "/").await.expect(503);
        assert_eq!(refused.header("retry-after"), "5");
        // Also who has a lot to say hears why nobody listens.
        let body = vec![b'x'; 1024 * 1024];
        http::request(live.public, "POST", "/", &[], &body)
            .await
            .expect(503);
        peers.pop();
        support::eventually("there is room again", async || {
            let (_peer, answer) = Peer::upgrade(live.public, "/ws", &[]).await;
            (answer.status == 101).then_some(())
        })
        .await;
    });
}

#[test]
fn a_long_echo_whose_head_came_in_two_reads_is_whole() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut peer = Peer::open(live.public, "/echo").await;
            let content = "x".repeat(20_000);
            let bytes = frame(FIN | TEXT, &content);
            let head = bytes.len() - content.len();
            // Before the content there is then less room, down to none, than the head of the answer takes.
            for read_before in 1..=head {
                peer.send(&bytes[..read_before]).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                peer.send(&bytes[read_before..]).await;
                let echo = peer.frame().await;
                assert_eq!(echo.first, FIN | TEXT, "split behind {read_before} bytes");
                assert!(echo.text() == content, "split behind {read_before} bytes");
            }
        },
    );
}

#[test]
fn long_echoes_to_a_reader_that_waits_come_whole_and_in_order() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut peer = Peer::open_small(live.public, "/echo").await;
            let long = |digit: &str| digit.repeat(40_000);
            let digits = ["1", "2", "3", "4", "5", "6", "7", "8"];
            // More than the sockets hold, and short ones between: the first are cut where the socket was full.
            for digit in digits {
                peer.send(frame(FIN | TEXT, long(digit))).await;
                peer.send(frame(FIN | TEXT, digit)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            for digit in digits {
                assert!(peer.frame().await.text() == long(digit), "the long {digit}");
                assert_eq!(peer.frame().await.text(), digit);
            }
        },
    );
}

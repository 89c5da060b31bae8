//! Polling from outside. What holds at every door is in `doors.rs`.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::door::publish;
use support::peer::Peer;
use support::{Live, eventually, http, run, run_on_shards};
use switchboard_proto::dialect::notice::{Notice, Who};
use switchboard_proto::limits::Rate;
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::Role;

/// A poll over a connection of its own, so to any of the shards.
async fn poll(live: &Live, query: &str) -> Value {
    let answer = http::get(live.public, &format!("/poll?{query}"))
        .await
        .expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store, no-transform");
    serde_json::from_str(&answer.body).unwrap()
}

fn position(answer: &Value) -> &str {
    answer["position"].as_str().unwrap()
}

fn types(answer: &Value) -> Vec<&str> {
    let events = answer["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn ask(query: &str) -> String {
    format!("GET /poll?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_anywhere() {
    run_on_shards(
        |_| {},
        async |live| {
            let start = poll(live, "channel=a&channel=b").await;
            assert_eq!(types(&start), ["welcome", "subscribed", "subscribed"]);
            for number in 0..3 {
                for name in ["a", "b"] {
                    let body = format!(r#"{{"channel":"{name}","data":{number}}}"#);
                    publish(live, &body).await.unwrap();
                }
            }
            let query = format!("channel=a&channel=b&since={}", position(&start));
            let mut seen = Vec::new();
            let mut at = position(&start).to_owned();
            while seen.len() < 6 {
                let answer = poll(live, &format!("channel=a&channel=b&since={at}")).await;
                at = position(&answer).to_owned();
                seen.extend(answer["events"].as_array().unwrap().clone());
            }
            assert!(seen.iter().all(|event| event["type"] == "message"));
            // Whatever was answered in between.
            let again = poll(live, &query).await;
            let first = &again["events"].as_array().unwrap()[0];
            assert!(seen.contains(first));
            assert_eq!(first["data"], 0);
        },
    );
}

#[test]
fn a_poll_is_held_while_there_is_nothing_and_its_wait_shortens_that() {
    run_on_shards(
        |config| config.limits.poll_wait_max = Duration::from_secs(3_600),
        async |live| {
            let start = poll(live, "channel=a").await;
            let query = format!("channel=a&since={}", position(&start));
            for wait in ["0", "1"] {
                let answer = poll(live, &format!("{query}&wait={wait}")).await;
                assert_eq!(answer["events"], serde_json::json!([]));
                assert_eq!(position(&answer), position(&start));
            }
            let mut peer = Peer::connect(live.public).await;
            peer.send(ask(&query)).await;
            peer.hears_nothing().await;
            publish(live, r#"{"channel":"a","data":1}"#).await.unwrap();
            let answer: Value = serde_json::from_str(&peer.answer().await.expect(200).body).unwrap();
            assert_eq!(types(&answer), ["message"]);
        },
    );
}

#[test]
fn a_request_that_goes_away_takes_its_poll_along() {
    run_on_shards(
        |config| config.limits.poll_wait_max = Duration::from_secs(3_600),
        async |live| {
            let start = poll(live, "channel=a").await;
            let query = format!("channel=a&since={}&presence=member", position(&start));
            let mut peers = Vec::new();
            for _ in 0..3 {
                let mut peer = Peer::connect(live.public).await;
                peer.send(ask(&query)).await;
                peers.push(peer);
            }
            eventually("they are held", async || (live.sessions() == 3).then_some(())).await;
            drop(peers);
            eventually("they are gone", async || (live.sessions() == 0).then_some(())).await;
        },
    );
}

#[test]
fn so_it_does_whatever_was_sent_behind_it() {
    run_on_shards(
        |config| config.limits.poll_wait_max = Duration::from_secs(3_600),
        async |live| {
            let start = poll(live, "channel=a").await;
            let held = ask(&format!("channel=a&since={}", position(&start)));
            let next = ask("channel=a");
            let many = next.repeat(2_000);
            let mut peers = Vec::new();
            for behind in ["x", "\r\n", &held, &next, &many] {
                for resets in [false, true] {
                    let mut peer = Peer::connect(live.public).await;
                    peer.send(&held).await;
                    peers.push((peer, behind, resets));
                }
            }
            let held = peers.len() as u64;
            eventually("they are held", async || (live.sessions() == held).then_some(())).await;
            for (mut peer, behind, resets) in peers {
                peer.send(behind).await;
                if resets {
                    let at_once = Some(Duration::ZERO);
                    rustix::net::sockopt::set_socket_linger(&peer.stream, at_once).unwrap();
                }
            }
            eventually("they are gone", async || (live.sessions() == 0).then_some(())).await;
        },
    );
}

#[test]
fn nothing_is_lost_between_polls_whose_time_is_over() {
    const MESSAGES: u64 = 800;
    const READERS: usize = 16;
    run_on_shards(
        |config| {
            config.channels.log_messages_max = 10_000;
            config.limits.poll_wait_max = Duration::from_millis(100);
        },
        async |live| {
            let start = poll(live, "channel=a").await;
            let mut reading = Vec::new();
            for reader in 0..READERS {
                let (live, start) = (live.clone(), position(&start).to_owned());
                // Some are not held at all, others until a time at which many come to their end.
                let wait = if reader % 2 == 0 { "&wait=0" } else { "" };
                reading.push(tokio::task::spawn_local(async move {
                    let mut peer = Peer::connect(live.public).await;
                    let (mut at, mut next) = (start, 0);
                    while next < MESSAGES {
                        peer.send(ask(&format!("channel=a&since={at}{wait}"))).await;
                        let answer: Value =
                            serde_json::from_str(&peer.answer().await.expect(200).body).unwrap();
                        at = position(&answer).to_owned();
                        for event in answer["events"].as_array().unwrap() {
                            assert_eq!(event["data"], next.to_string(), "{answer}");
                            next += 1;
                        }
                    }
                }));
            }
            let mut publisher = Client::connect(live).await;
            for number in 0..MESSAGES {
                publisher.publish("a", Payload::text(number.to_string())).await;
                if number % 3 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            for reading in reading {
                reading.await.unwrap();
            }
        },
    );
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    run_on_shards(
        |_| {},
        async |live| {
            let start = poll(live, "channel=a").await;
            let query = format!("channel=a&since={}", position(&start));
            let mut peer = Peer::connect(live.public).await;
            let body = r#"{"channel":"a","data":1}"#;
            let ahead = format!(
                "{}{}POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}{}",
                ask(&format!("{query}&wait=0")),
                ask(&format!("{query}&wait=1")),
                body.len(),
                ask(&query),
            );
            peer.send(ahead).await;
            for _ in 0..2 {
                let answer = peer.answer().await.expect(200);
                assert!(answer.body.ends_with(r#""events":[]}"#), "{answer:?}");
            }
            assert!(peer.answer().await.expect(200).body.contains("published"));
            let answer = serde_json::from_str(&peer.answer().await.expect(200).body).unwrap();
            assert_eq!(types(&answer), ["message"]);
        },
    );
}

#[test]
fn a_list_that_a_poll_knows_is_not_told_again() {
    run_on_shards(
        |config| config.limits.presence_grace = Duration::from_millis(200),
        async |live| {
            let first = poll(live, "channel=a&presence=watch").await;
            let query = |at: &str| format!("channel=a&presence=watch&since={at}");
            // The list may have been in time for the first answer.
            let empty = match types(&first).contains(&"presence") {
                true => first,
                false => poll(live, &query(position(&first))).await,
            };
            assert_eq!(types(&empty).last(), Some(&"presence"));
            let none = poll(live, &format!("{}&wait=1", query(position(&empty)))).await;
            assert_eq!(types(&none), [""; 0]);
            assert_eq!(position(&none), position(&empty), "the list is the same");

            let mut held = Peer::connect(live.public).await;
            held.send(ask(&query(position(&none)))).await;
            held.hears_nothing().await;
            let mut ana = Client::connect(live).await;
            ana.attend("a", Role::Member, Some(r#"{"n":1}"#)).await;
            let one: Value = serde_json::from_str(&held.answer().await.expect(200).body).unwrap();
            assert_eq!(types(&one), ["presence"]);
            assert_eq!(one["events"][0]["members"][0]["info"]["n"], 1);

            held.send(ask(&query(position(&one)))).await;
            held.hears_nothing().await;
            drop(ana);
            let nobody: Value = serde_json::from_str(&held.answer().await.expect(200).body).unwrap();
            assert_eq!(nobody["events"][0]["count"], 0);
        },
    );
}

/// Its position said that the list was told, and it never was.
#[test]
fn a_list_that_has_no_room_beside_messages_comes_with_a_later_poll() {
    run_on_shards(
        |config| config.limits.session.outbox_messages_max = 8,
        async |live| {
            let query = |at: &str| format!("channel=a&presence=watch&since={at}&wait=1");
            let mut at = position(&poll(live, "channel=a&presence=watch").await).to_owned();
            let mut ana = Client::connect(live).await;
            ana.attend("a", Role::Member, None).await;
            let mut publisher = Client::connect(live).await;
            for number in 0..100 {
                publisher.publish("a", Payload::text(number.to_string())).await;
            }
            let mut counts = Vec::new();
            loop {
                let answer = poll(live, &query(&at)).await;
                at = position(&answer).to_owned();
                let events = answer["events"].as_array().unwrap();
                let lists = events.iter().filter(|event| event["type"] == "presence");
                counts.extend(lists.map(|list| list["count"].as_u64().unwrap()));
                if events.is_empty() {
                    break;
                }
            }
            assert_eq!(counts.last(), Some(&1), "{counts:?}");
        },
    );
}

/// What one channel had filled the answer, and another that was not read looked as if nothing were missing there.
#[test]
fn an_answer_says_whether_each_of_its_channels_was_read() {
    for room in [8, 1_024] {
        run_on_shards(
            |config| {
                config.limits.session.outbox_messages_max = room;
                config.channels.log_messages_max = 20;
            },
            async |live| {
                let channels = ["a", "b", "c", "d", "e"];
                let names = channels.map(|name| format!("channel={name}")).join("&");
                let start = poll(live, &names).await;
                let mut publisher = Client::connect(live).await;
                for number in 0..50 {
                    for name in channels {
                        publisher.publish(name, Payload::text(number.to_string())).await;
                    }
                }
                let (mut at, mut unread) = (position(&start).to_owned(), channels.to_vec());
                loop {
                    let answer = poll(live, &format!("{names}&since={at}&wait=5")).await;
                    at = position(&answer).to_owned();
                    let events = answer["events"].as_array().unwrap();
                    for name in std::mem::take(&mut unread) {
                        let first = events.iter().find(|event| event["channel"] == name);
                        match first {
                            Some(first) => assert_eq!(first["type"], "gap", "{name}: 30 of 50 are gone"),
                            None => unread.push(name),
                        }
                    }
                    if answer["more"] != true {
                        assert_eq!(unread, [""; 0]);
                        break;
                    }
                }
            },
        );
    }
}

#[test]
fn polls_that_follow_each_other_are_one_member() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut watcher = Client::connect(live).await;
            watcher.attend("a", Role::Watcher, None).await;
            let first = poll(live, "channel=a").await;
            let resume = first["events"][0]["resume"].as_str().unwrap();
            let user = first["events"][0]["user"].as_str().unwrap();
            let mut at = position(&first).to_owned();
            for number in 0..20 {
                let query = format!("channel=a&presence=member&since={at}&resume={resume}");
                let mut peer = Peer::connect(live.public).await;
                peer.send(ask(&query)).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                let body = format!(r#"{{"channel":"a","data":{number},"resume":"{resume}"}}"#);
                publish(live, &body).await.unwrap();
                let answer: Value = serde_json::from_str(&peer.answer().await.expect(200).body).unwrap();
                at = position(&answer).to_owned();
            }
            let mut messages = 0;
            while messages < 20 {
                match watcher.hear().await {
                    Notice::Message { message, .. } => {
                        assert_eq!(message.from.as_deref(), Some(user));
                        messages += 1;
                    }
                    Notice::Presence { who, .. } => match who {
                        Who::All(members) => assert!(members.iter().all(|member| member.key.user == user)),
                        Who::Changed { left, .. } => assert_eq!(left, [], "it never left"),
                        Who::Unlisted => panic!("it is alone"),
                    },
                    other => panic!("{other:?}"),
                }
            }
        },
    );
}

#[test]
fn whoever_is_not_known_any_more_is_told_who_it_is_now() {
    run_on_shards(
        |_| {},
        async |live| {
            let first = poll(live, "channel=a").await;
            let at = position(&first).to_owned();
            let query = format!("channel=a&since={at}&presence=true");
            // As after a restart: a token that this server did not give.
            let again = poll(live, &format!("{query}&resume=rAAAA")).await;
            assert_eq!(types(&again)[0], "welcome");
            let resume = again["events"][0]["resume"].as_str().unwrap();
            let mut at = position(&again).to_owned();
            for _ in 0..20 {
                let query = format!("channel=a&since={at}&presence=true&resume={resume}&wait=0");
                at = position(&poll(live, &query).await).to_owned();
            }
            let members = http::get(live.internal, "/api/v1/presence?channel=a").await;
            let members: Value = serde_json::from_str(&members.body).unwrap();
            // The first one within its time to come back, and the one that polls.
            assert!(members["count"].as_u64().unwrap() <= 2, "{members}");
        },
    );
}

#[test]
fn a_look_finds_everything_that_is_there() {
    run_on_shards(
        |_| {},
        async |live| {
            let names: Vec<_> = (0..8).map(|number| format!("look:{number}")).collect();
            let channels: Vec<_> = names.iter().map(|name| format!("channel={name}")).collect();
            let channels = channels.join("&");
            let start = poll(live, &channels).await;
            for name in &names {
                publish(live, &format!(r#"{{"channel":"{name}","data":1}}"#))
                    .await
                    .unwrap();
            }
            for _ in 0..30 {
                let look = poll(live, &format!("{channels}&since={}&wait=0", position(&start))).await;
                assert_eq!(types(&look), ["message"; 8], "{look}");
            }
        },
    );
}

#[test]
fn only_the_newest_of_each_key_where_that_is_asked_for() {
    run_on_shards(
        |_| {},
        async |live| {
            let start = poll(live, "channel=a").await;
            for number in 0..20 {
                let key = number % 2;
                let body = format!(r#"{{"channel":"a","data":{number},"conflate":"k{key}"}}"#);
                publish(live, &body).await.unwrap();
            }
            let query = format!("channel=a&latest=true&since={}", position(&start));
            let answer = poll(live, &query).await;
            let events = answer["events"].as_array().unwrap();
            let messages = events.iter().filter(|event| event["type"] == "message");
            let data: Vec<_> = messages.map(|event| event["data"].as_u64().unwrap()).collect();
            assert_eq!(data, [18, 19], "{answer}");
        },
    );
}

#[test]
fn whoever_polls_too_often_is_told_to_wait() {
    let mut config = support::config(2);
    config.limits.session.commands = Rate {
        per_second: 1,
        burst: 3,
    };
    run(&config, async |live| {
        let mut peer = Peer::connect(live.public).await;
        for _ in 0..3 {
            peer.send(ask("channel=a")).await;
            peer.answer().await.expect(200);
        }
        peer.send(ask("channel=a")).await;
        let refused = peer.answer().await.expect(429);
        assert_eq!(refused.header("retry-after"), "1");
        assert!(refused.body.contains(r#""code":"rate_limited""#), "{refused:?}");
    });
}

#[test]
fn a_poll_larger_than_an_outbox_comes_in_parts() {
    run_on_shards(
        |config| {
            config.limits.session.outbox_messages_max = 16;
            config.channels.log_messages_max = 10_000;
        },
        async |live| {
            let start = poll(live, "channel=a").await;
            let mut publisher = Client::connect(live).await;
            for number in 0..500 {
                publisher.publish("a", Payload::text(number.to_string())).await;
            }
            let mut at = position(&start).to_owned();
            let mut numbers = Vec::new();
            while numbers.len() < 500 {
                let answer = poll(live, &format!("channel=a&since={at}")).await;
                at = position(&answer).to_owned();
                for event in answer["events"].as_array().unwrap() {
                    numbers.push(event["data"].as_str().unwrap().parse::<u64>().unwrap());
                }
            }
            assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        },
    );
}

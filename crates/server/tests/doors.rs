//! What holds for every subscriber holds for each way to be one: WebSocket in both notations, event stream, poll.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::client::Client;
use support::door::{DOORS, Door, Refused, Visitor, Wish};
use support::order::data;
use support::runs::Run;
use support::{Live, SHARDS, block_on, run_on_shards};
use switchboard_proto::dialect::notice::{Notice, Who};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Position;
use switchboard_proto::presence::Role;
use switchboard_server::config::{Config, OnLag};

/// Runs a scenario for every door, each on servers with one, two and four shards.
fn each(set: impl Fn(&mut Config), scenario: impl AsyncFn(&Live, Door)) {
    run_on_shards(set, async |live| {
        for door in DOORS {
            scenario(live, door).await;
        }
    });
}

async fn publish_numbers(live: &Live, to: &[&str], numbers: std::ops::Range<u64>) {
    let mut publisher = Client::connect(live).await;
    for number in numbers {
        for name in to {
            publisher.publish(name, Payload::text(number.to_string())).await;
        }
    }
}

/// Judges what a visitor hears of its channels until each has reached its offset. What it has heard before it began is in `runs`.
async fn read_to(visitor: &mut Visitor, runs: &mut [Run], offset: u64) {
    while runs.iter().any(|run| run.reached() < offset) {
        let notice = visitor.hear().await;
        assert!(runs.iter_mut().any(|run| run.take(&notice)), "{notice:?}");
    }
}

fn runs(at: &BTreeMap<String, Position>) -> Vec<Run> {
    at.iter().map(|(name, at)| Run::begin(name, *at)).collect()
}

fn numbers(run: &Run) -> Vec<u64> {
    run.messages()
        .map(|message| data(message).parse().unwrap())
        .collect()
}

#[test]
fn everything_of_all_channels_in_their_order() {
    each(
        |_| {},
        async |live, door| {
            let names = [
                format!("{door:?}:a"),
                format!("{door:?}:b"),
                format!("{door:?}:c"),
            ];
            let names = [&*names[0], &*names[1], &*names[2]];
            let mut visitor = Visitor::enter(live, door, Wish::of(&names)).await;
            visitor.subscribed().await;
            let mut runs = runs(&visitor.at);
            publish_numbers(live, &names, 0..50).await;
            read_to(&mut visitor, &mut runs, 50).await;
            for run in &runs {
                assert_eq!(numbers(run), (0..50).collect::<Vec<_>>(), "{door:?}");
            }
        },
    );
}

#[test]
fn whoever_comes_back_goes_on_by_whatever_door() {
    run_on_shards(
        |_| {},
        async |live| {
            for (index, (first, then)) in DOORS
                .iter()
                .flat_map(|first| DOORS.map(|then| (*first, then)))
                .enumerate()
            {
                let names = [format!("one:{index}"), format!("two:{index}")];
                let names = [&*names[0], &*names[1]];
                let mut visitor = Visitor::enter(live, first, Wish::of(&names)).await;
                visitor.subscribed().await;
                let mut runs = runs(&visitor.at);
                publish_numbers(live, &names, 0..3).await;
                read_to(&mut visitor, &mut runs, 2).await;
                // Somewhere, and of what has come since it knows nothing.
                let runs_before = runs.clone();
                let at = visitor.go_away();
                publish_numbers(live, &names, 3..200).await;

                let mut visitor = Visitor::enter(live, then, Wish::of(&names).since(&at)).await;
                read_to(&mut visitor, &mut runs, 200).await;
                publish_numbers(live, &names, 200..203).await;
                read_to(&mut visitor, &mut runs, 203).await;
                for run in &runs {
                    assert_eq!(numbers(run), (0..203).collect::<Vec<_>>(), "{first:?} {then:?}");
                }
                // The same place again, as if the second visit had never been.
                let mut again = Visitor::enter(live, then, Wish::of(&names).since(&at)).await;
                let mut runs = runs_before;
                read_to(&mut again, &mut runs, 203).await;
                for run in &runs {
                    assert_eq!(run.gaps(), []);
                }
            }
        },
    );
}

#[test]
fn what_the_log_has_no_more_is_a_gap() {
    each(
        |config| config.channels.log_messages_max = 10,
        async |live, door| {
            let name = &*format!("{door:?}");
            let mut visitor = Visitor::enter(live, door, Wish::of(&[name])).await;
            visitor.subscribed().await;
            let at = visitor.go_away();
            publish_numbers(live, &[name], 0..25).await;
            let mut runs = runs(&at);
            let mut visitor = Visitor::enter(live, door, Wish::of(&[name]).since(&at)).await;
            read_to(&mut visitor, &mut runs, 25).await;
            assert_eq!(runs[0].gaps(), [(1, 15)], "{door:?}");
            assert_eq!(numbers(&runs[0]), (15..25).collect::<Vec<_>>(), "{door:?}");
        },
    );
}

#[test]
fn a_position_of_another_life_is_a_reset() {
    for shards in SHARDS {
        let mut elsewhere = BTreeMap::new();
        support::run(&support::config(shards), async |live| {
            for door in DOORS {
                let name = &*format!("{door:?}");
                publish_numbers(live, &[name], 0..5).await;
                let mut visitor = Visitor::enter(live, door, Wish::of(&[name])).await;
                visitor.subscribed().await;
                elsewhere.extend(visitor.go_away());
            }
        });
        support::run(&support::config(shards), async |live| {
            for door in DOORS {
                let name = &*format!("{door:?}");
                publish_numbers(live, &[name], 0..3).await;
                let since = BTreeMap::from([(name.to_owned(), elsewhere[name])]);
                let mut visitor = Visitor::enter(live, door, Wish::of(&[name]).since(&since)).await;
                let first = visitor.hear().await;
                assert!(matches!(first, Notice::Reset { .. }), "{door:?}: {first:?}");
                let mut runs = runs(&visitor.at);
                read_to(&mut visitor, &mut runs, 3).await;
                assert_eq!(numbers(&runs[0]), [0, 1, 2], "{door:?}");
            }
        });
    }
}

/// Messages of 8 KiB: together more than sockets and outbox hold.
const FLOOD: u64 = 1_000;

/// What a visitor gets who reads only when everything has been published.
async fn flooded(live: &Live, door: Door) -> Run {
    let name = &*format!("{door:?}");
    let wish = Wish {
        receive_bytes: Some(4 * 1024),
        ..Wish::of(&[name])
    };
    let mut visitor = Visitor::enter(live, door, wish).await;
    visitor.subscribed().await;
    let mut runs = runs(&visitor.at);
    let mut publisher = Client::connect(live).await;
    let large = "x".repeat(8 * 1024);
    for _ in 0..FLOOD {
        publisher.publish(name, Payload::text(&*large)).await;
    }
    read_to(&mut visitor, &mut runs, FLOOD).await;
    runs.remove(0)
}

#[test]
fn whoever_reads_slowly_reads_the_rest_from_the_log() {
    each(
        |config| {
            config.limits.session.outbox_messages_max = 64;
            config.channels.log_messages_max = 10_000;
            config.channels.log_bytes_max = 64 * 1024 * 1024;
        },
        async |live, door| {
            let run = flooded(live, door).await;
            assert_eq!(run.gaps(), [], "{door:?}");
            assert_eq!(run.messages().count(), FLOOD as usize, "{door:?}");
            let refused = live.count(|shard| &shard.deliveries_refused);
            assert!(door == Door::Poll || refused > 0, "{door:?} was not slow");
        },
    );
}

#[test]
fn what_a_slow_reader_misses_without_a_log_is_a_gap() {
    each(
        |config| {
            config.limits.session.outbox_messages_max = 64;
            config.channels.log_messages_max = 0;
            config.channels.on_lag = OnLag::Drop;
        },
        async |live, door| {
            let run = flooded(live, door).await;
            assert!(!run.gaps().is_empty(), "{door:?}");
        },
    );
}

#[test]
fn who_is_there_is_known_to_everyone() {
    each(
        |config| config.limits.presence_grace = Duration::from_millis(300),
        async |live, door| {
            let name = &*format!("{door:?}");
            let mut ana = Visitor::enter(live, door, Wish::of(&[name]).present(Role::Participant)).await;
            let mut there = Vec::new();
            heard_users(&mut ana, &mut there, 1).await;
            let me = ana.user.clone().unwrap();
            let mut others = Vec::new();
            for other in DOORS {
                let wish = Wish {
                    info: Some(r#"{"name":"Ben"}"#),
                    ..Wish::of(&[name]).present(Role::Member)
                };
                let mut visitor = Visitor::enter(live, other, wish).await;
                if other == Door::Poll {
                    // Held, so that it is there.
                    let polling = tokio::task::spawn_local(async move {
                        let _forever = visitor.next().await;
                    });
                    others.push(Err(polling));
                } else {
                    visitor.subscribed().await;
                    others.push(Ok(visitor));
                }
            }
            heard_users(&mut ana, &mut there, 1 + DOORS.len()).await;
            assert!(there.contains(&me), "{door:?}: {there:?}");
            for other in others {
                if let Err(polling) = other {
                    polling.abort();
                }
            }
            heard_users(&mut ana, &mut there, 1).await;
            assert_eq!(there, [me], "{door:?}");
        },
    );
}

/// Folds what a visitor hears of who is there until there are so many.
async fn heard_users(visitor: &mut Visitor, there: &mut Vec<String>, count: usize) {
    while there.len() != count {
        match visitor.hear().await {
            Notice::Presence { who, counts, .. } => {
                match who {
                    Who::All(members) => {
                        *there = members.into_iter().map(|member| member.key.user).collect();
                    }
                    Who::Changed { joined, left } => {
                        let joined: Vec<_> = joined.into_iter().map(|member| member.key.user).collect();
                        there.retain(|user| !joined.contains(user));
                        there.retain(|user| !left.iter().any(|key| key.user == *user));
                        there.extend(joined);
                    }
                    Who::Unlisted => panic!("so many are not here"),
                }
                assert_eq!(counts.members as usize, there.len(), "{there:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_published_with_a_key_is_there_once_and_has_its_publisher() {
    each(
        |_| {},
        async |live, door| {
            let name = &*format!("{door:?}");
            let mut ana = Visitor::enter(live, door, Wish::of(&[name])).await;
            ana.subscribed().await;
            let mut runs = runs(&ana.at);
            let first = ana.publish(name, r#""1""#, Some("k")).await.unwrap();
            let again = ana.publish(name, r#""1""#, Some("k")).await.unwrap();
            assert_eq!(first, again, "{door:?}");
            ana.publish(name, r#""2""#, None).await.unwrap();
            read_to(&mut ana, &mut runs, 2).await;
            assert_eq!(numbers(&runs[0]), [1, 2], "{door:?}");
            if door != Door::Json && door != Door::Msgpack {
                for message in runs[0].messages() {
                    let from = message.from.as_deref();
                    assert_eq!(from, ana.user.as_deref(), "{door:?}");
                }
            }
        },
    );
}

#[test]
fn a_mistake_has_the_same_word_at_every_door() {
    each(
        |config| config.limits.session.subscriptions_max = 2,
        async |live, door| {
            let name = &*format!("{door:?}");
            let mut visitor = Visitor::enter(live, door, Wish::of(&[name])).await;
            visitor.subscribed().await;
            let at = visitor.at[name];
            for (wish, code) in [
                (Wish::of(&["a", "b", "c"]), "too_many_subscriptions"),
                (Wish::of(&["a", "a"]), "already_subscribed"),
                (
                    Wish::of(&["other"]).since(&BTreeMap::from([("other".to_owned(), at)])),
                    "bad_position",
                ),
            ] {
                let refused = match Visitor::try_enter(live, door, wish).await {
                    Err(refused) => refused,
                    Ok(mut visitor) if door == Door::Poll => visitor.ask("").await.unwrap_err(),
                    Ok(mut visitor) => error(&mut visitor).await,
                };
                assert_eq!(refused.code, code, "{door:?}");
                let is_http = matches!(door, Door::EventStream | Door::Poll);
                assert_eq!(refused.status, is_http.then_some(400), "{door:?}");
            }
        },
    );
}

async fn error(visitor: &mut Visitor) -> Refused {
    loop {
        if let Notice::Error { code, .. } = visitor.hear().await {
            return Refused { code, status: None };
        }
    }
}

#[test]
fn when_the_server_stops_everyone_hears_when_to_come_back() {
    for shards in SHARDS {
        let server = support::start(&support::config(shards));
        let live = Live::of(&server);
        block_on(async {
            let mut visitors = Vec::new();
            for door in DOORS {
                for number in 0..4 {
                    let name = &*format!("{door:?}:{number}");
                    let mut visitor = Visitor::enter(&live, door, Wish::of(&[name])).await;
                    visitor.subscribed().await;
                    visitors.push((door, visitor));
                }
            }
            let hearing: Vec<_> = visitors
                .into_iter()
                .map(|(door, mut visitor)| {
                    tokio::task::spawn_local(async move {
                        let notice = visitor.hear().await;
                        let Notice::Goodbye { retry_after, .. } = notice else {
                            panic!("{door:?}: {notice:?}");
                        };
                        if door == Door::EventStream {
                            let told = visitor.retry_ms.unwrap();
                            assert_eq!(u128::from(told), retry_after.as_millis());
                        }
                        if door != Door::Poll {
                            assert_eq!(visitor.next().await, None, "{door:?}");
                        }
                        retry_after
                    })
                })
                .collect();
            // All of the polls are held.
            support::eventually("everyone is there", async || {
                (live.count(|shard| &shard.polls) >= 8).then_some(())
            })
            .await;
            let stopping = std::thread::spawn(move || server.stop());
            let mut delays = Vec::new();
            for hearing in hearing {
                delays.push(hearing.await.unwrap());
            }
            delays.sort_unstable();
            delays.dedup();
            assert!(delays.len() > 1, "they come back one after another");
            assert!(delays.iter().all(|delay| *delay < Duration::from_secs(8)));
            support::eventually("the server has stopped", async || {
                stopping.is_finished().then_some(())
            })
            .await;
            stopping.join().unwrap();
        });
        support::assert_faultless();
    }
}

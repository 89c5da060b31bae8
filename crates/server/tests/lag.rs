//! Subscribers that do not keep up, and mailboxes that overflow: what is missing is said, and nobody else notices.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::time::Duration;

use support::client::{Client, Closed, How, publish};
use support::order::data;
use support::peer::Peer;
use support::process::resident_bytes;
use support::runs::Run;
use support::{Live, http, run, run_on_shards};
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::dialect::{Command, DialectId};
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_server::config::{Config, OnLag, UNLIMITED};

/// A small outbox, and deadlines that do not come while a test looks elsewhere.
fn small_outbox(config: &mut Config) {
    config.limits.session.outbox_bytes_max = 256 * 1024;
    config.limits.session.write_stall = Duration::from_secs(3_600);
    config.limits.session.close_handshake = Duration::from_secs(3_600);
}

/// What does not fit is left out.
fn dropping(config: &mut Config) {
    small_outbox(config);
    config.channels.on_lag = OnLag::Drop;
}

/// What does not fit is read from a log that holds everything.
fn remembering(config: &mut Config) {
    small_outbox(config);
    config.channels.log_messages_max = UNLIMITED;
    config.channels.log_bytes_max = UNLIMITED;
}

/// Of a message, so that a few fill every buffer on the way.
const LARGE_BYTES: usize = 60 * 1024;

fn large(number: usize) -> Payload {
    let words = format!("{number:0width$}", width = LARGE_BYTES);
    Payload::bytes(words.into_bytes())
}

/// A client that takes bytes as they are, which is quick.
async fn quick(live: &Live) -> Client {
    let how = How {
        dialect: Some(DialectId::Msgpack),
        ..How::default()
    };
    Client::connect_with(live, how).await
}

/// One whose own buffers are small.
async fn reluctant(live: &Live) -> Client {
    let how = How {
        dialect: Some(DialectId::Msgpack),
        receive_bytes: Some(4 * 1024),
        ..How::default()
    };
    Client::connect_with(live, how).await
}

/// Publishes large messages, each when `fast` has got the one before, until `live` has refused some to the one who does not
/// read, and a few more. Gives how many.
async fn publish_until_lag(live: &Live, publisher: &mut Client, fast: &mut Client, run: &mut Run) -> usize {
    let mut published = 0;
    let mut more = 10;
    while more > 0 {
        assert!(published < 2_000, "nobody lags");
        let position = publisher.publish("a", large(published)).await;
        published += 1;
        while run.reached() < position.offset {
            assert!(run.take(&fast.hear().await));
        }
        if published == 1 {
            live.somebody_does_not_read().await;
        }
        if live.count(|shard| &shard.deliveries_refused) > 0 {
            more -= 1;
        }
    }
    published
}

#[test]
fn who_stops_reading_gets_everything_when_it_reads_again() {
    run_on_shards(remembering, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        let mut slow_run = Run::begin("a", slow.subscribe("a").await);
        let published = publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
        assert_eq!(live.count(|shard| &shard.replayed), 0, "its socket takes nothing");
        while slow_run.reached() < published as u64 {
            assert!(slow_run.take(&slow.hear().await));
        }
        assert!(live.count(|shard| &shard.replayed) > 0);
        // It is live again.
        let after = publisher.publish("a", Payload::text("after")).await;
        while slow_run.reached() < after.offset {
            assert!(slow_run.take(&slow.hear().await));
        }
        assert_eq!(
            (slow_run.messages().count(), slow_run.gaps()),
            (published + 1, vec![])
        );
        assert_eq!(fast_run.messages().count(), published);
        let of_slow = slow_run.messages().take(published);
        assert!(of_slow.eq(fast_run.messages()), "the same as everyone");
        assert_eq!(live.count(|shard| &shard.gaps), 0);
    });
}

#[test]
fn what_the_kernel_holds_for_one_who_does_not_read_is_bounded() {
    /// Twice the default.
    const UNSENT_BYTES_MAX: usize = 256 * 1024;
    /// The kernel takes whole segments.
    const SEGMENT_BYTES: u64 = 64 * 1024;
    let set = |config: &mut Config| {
        remembering(config);
        config.limits.unsent_bytes_max = UNSENT_BYTES_MAX;
    };
    run_on_shards(set, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        slow.subscribe("a").await;
        publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
        let held = live.sockets().iter().map(|socket| socket.unacknowledged).max();
        assert!(held.unwrap() >= UNSENT_BYTES_MAX as u64, "{held:?}");
        assert!(
            held.unwrap() <= UNSENT_BYTES_MAX as u64 + SEGMENT_BYTES,
            "{held:?}"
        );
    });
}

#[test]
fn who_reads_later_than_the_log_goes_back_is_told_what_the_log_no_longer_holds() {
    const KEPT: u64 = 5;
    let set = |config: &mut Config| {
        small_outbox(config);
        config.channels.log_messages_max = KEPT as usize;
    };
    run_on_shards(set, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        let mut slow_run = Run::begin("a", slow.subscribe("a").await);
        let published = publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await as u64;
        while slow_run.reached() < published {
            assert!(slow_run.take(&slow.hear().await));
        }
        let [(from, to)] = slow_run.gaps()[..] else {
            panic!("one gap, not {:?}", slow_run.gaps())
        };
        assert_eq!(to, published - KEPT, "nothing that the log still holds");
        assert!(from > 1, "what was on its way arrived");
        assert_eq!(slow_run.messages().count() as u64, published - (to - from + 1));
    });
}

#[test]
fn on_lag_latest_leaves_out_what_newer_messages_replace() {
    let set = |config: &mut Config| {
        remembering(config);
        config.channels.on_lag = OnLag::Latest;
    };
    run_on_shards(set, async |live| conflated(live, false).await);
}

#[test]
fn a_subscriber_may_ask_for_latest_by_itself() {
    run_on_shards(remembering, async |live| conflated(live, true).await);
}

/// One that stops reading gets the newest message of each key when it reads again.
async fn conflated(live: &Live, asks: bool) {
    let keys = ["x", "y", "z"];
    let mut publisher = quick(live).await;
    let mut slow = reluctant(live).await;
    let (start, _) = slow.subscribe_with("a", None, asks).await;
    let mut run = Run::begin("a", start);
    let (mut published, mut missed) = (0, 0);
    // Of each key several.
    while missed < 12 || published % keys.len() != 0 {
        assert!(published < 2_000, "nobody lags");
        let key = Key::parse(keys[published % keys.len()]);
        let id = publisher.id();
        let command = match publish(Some(id), "a", large(published)) {
            Command::Publish {
                id, channel, payload, ..
            } => Command::Publish {
                id,
                channel,
                payload,
                key: None,
                conflate: key,
            },
            other => other,
        };
        publisher.say(&[command]).await.unwrap();
        assert!(matches!(publisher.answer(id).await, Notice::Published { .. }));
        published += 1;
        missed += usize::from(live.count(|shard| &shard.deliveries_refused) > 0);
        if published == 1 {
            live.somebody_does_not_read().await;
        }
    }
    let mut conflated = 0;
    while run.reached() < published as u64 {
        let notice = slow.hear().await;
        conflated += usize::from(matches!(notice, Notice::Gap { conflated: true, .. }));
        assert!(run.take(&notice));
    }
    assert_eq!((run.gaps().len(), conflated), (1, 1));
    let newest: Vec<_> = run
        .messages()
        .rev()
        .take(3)
        .map(|message| message.conflate.as_deref())
        .collect();
    assert_eq!(newest, [Some("z"), Some("y"), Some("x")]);
    assert!(run.messages().count() < published);
    let after = publisher.publish("a", Payload::text("after")).await;
    while run.reached() < after.offset {
        assert!(run.take(&slow.hear().await));
    }
    assert_eq!(data(run.messages().last().unwrap()), "after");
}

#[test]
fn who_stops_reading_is_told_exactly_what_it_missed_and_others_miss_nothing() {
    run_on_shards(dropping, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        let mut slow_run = Run::begin("a", slow.subscribe("a").await);
        let published = publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
        assert_eq!(fast_run.messages().count(), published);
        assert_eq!(fast_run.gaps(), []);

        // It reads again, and what is published from now on arrives.
        while slow_run.gaps().is_empty() {
            assert!(slow_run.take(&slow.hear().await));
        }
        let after = publisher.publish("a", Payload::text("after")).await;
        while slow_run.reached() < after.offset {
            assert!(slow_run.take(&slow.hear().await));
        }
        let [(from, to)] = slow_run.gaps()[..] else {
            panic!("one gap, not {:?}", slow_run.gaps())
        };
        assert_eq!(to, published as u64, "up to the last one that it could not take");
        assert!(from > 1, "what was on its way arrived");
        assert_eq!(data(slow_run.messages().last().unwrap()), "after");
        assert_eq!(
            slow_run.messages().count(),
            published - (to - from + 1) as usize + 1
        );
    });
}

#[test]
fn a_gap_is_told_for_the_channel_that_was_missed_and_no_other() {
    run_on_shards(dropping, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        let mut runs = Vec::new();
        for name in ["a", "b", "c"] {
            runs.push(Run::begin(name, slow.subscribe(name).await));
        }
        publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
        // Small messages of other channels still fit.
        for _ in 0..3 {
            publisher.publish("b", Payload::text("not missed")).await;
        }
        while runs[0].gaps().is_empty() {
            let notice = slow.hear().await;
            assert!(runs.iter_mut().any(|run| run.take(&notice)));
        }
        let mut last = Vec::new();
        for name in ["a", "b", "c"] {
            last.push(publisher.publish(name, Payload::text("after")).await.offset);
        }
        while runs.iter().zip(&last).any(|(run, last)| run.reached() < *last) {
            let notice = slow.hear().await;
            assert!(runs.iter_mut().any(|run| run.take(&notice)));
        }
        assert_eq!(runs[0].gaps().len(), 1);
        assert_eq!(runs[1].messages().count(), 4);
        assert_eq!((runs[1].gaps(), runs[2].gaps()), (vec![], vec![]));
    });
}

#[test]
fn on_lag_disconnect_says_so_and_closes() {
    let set = |config: &mut Config| {
        small_outbox(config);
        config.channels.on_lag = OnLag::Disconnect;
    };
    run_on_shards(set, async |live| {
        let mut publisher = quick(live).await;
        let mut fast = quick(live).await;
        let mut slow = reluctant(live).await;
        let mut fast_run = Run::begin("a", fast.subscribe("a").await);
        let mut slow_run = Run::begin("a", slow.subscribe("a").await);
        let published = publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
        assert_eq!(fast_run.messages().count(), published);
        // Up to there it gets everything, then the reason.
        let code = loop {
            match slow.hear().await {
                Notice::Error { id: None, code, .. } => break code,
                notice => assert!(slow_run.take(&notice)),
            }
        };
        assert_eq!(code, "lagged");
        let closed = Closed {
            code: Some(4008),
            reason: "lagged".to_owned(),
        };
        assert_eq!(slow.next().await, Err(closed));
        assert_eq!(slow_run.gaps(), []);
        assert!(slow_run.reached() > 0);
        drop(slow);
        support::eventually("it is counted", async || {
            (live.count(|shard| &shard.sessions_lagged) == 1).then_some(())
        })
        .await;
    });
}

/// A raw client of `a` that has not read while so many messages were published that its outbox is full.
async fn raw_that_lags(live: &Live) -> (Peer, usize) {
    let mut publisher = quick(live).await;
    let mut fast = quick(live).await;
    let mut raw = Peer::open_small(live.public, "/ws?channel=a").await;
    raw.say("here").await;
    assert_eq!(raw.frame().await.text(), "here");
    let mut fast_run = Run::begin("a", fast.subscribe("a").await);
    let published = publish_until_lag(live, &mut publisher, &mut fast, &mut fast_run).await;
    (raw, published)
}

#[test]
fn a_raw_client_that_stops_reading_gets_everything_when_it_reads_again() {
    run_on_shards(remembering, async |live| {
        let (mut raw, published) = raw_that_lags(live).await;
        for number in 0..published {
            assert_eq!(raw.frame().await.payload, large(number).as_bytes());
        }
    });
}

#[test]
fn a_raw_client_cannot_be_told_of_a_gap_and_is_closed_with_4008() {
    run_on_shards(dropping, async |live| {
        let (mut raw, published) = raw_that_lags(live).await;
        let mut got = 0;
        let close = loop {
            let frame = raw.frame().await;
            if let Some(code) = frame.close_code() {
                break code;
            }
            assert_eq!(frame.payload, large(got).as_bytes(), "in order, up to the Close");
            got += 1;
        };
        assert_eq!(close, 4008);
        assert!(0 < got && got < published);
    });
}

#[test]
fn those_who_do_not_read_cost_their_outbox_and_no_more() {
    const RELUCTANT: usize = 40;
    const MESSAGES: usize = 300;
    const MESSAGE_BYTES: usize = 1024 * 1024;
    /// A fifth of what was published, so a queue without a bound is seen. Outboxes share the messages in them; the rest is
    /// for allocators and for the tests that run beside this one.
    const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let mut config = support::config(2);
    small_outbox(&mut config);
    run(&config, async |live| {
        let mut slow = Vec::new();
        for _ in 0..RELUCTANT {
            let mut client = reluctant(live).await;
            client.subscribe("a").await;
            slow.push(client);
        }
        let message = "x".repeat(MESSAGE_BYTES);
        let mut before = 0;
        for number in 0..MESSAGES {
            if number == 5 {
                before = resident_bytes();
            }
            let target = "/api/v1/publish?channel=a";
            http::post(live.internal, target, "text/plain", &message)
                .await
                .expect(200);
        }
        let growth = resident_bytes().saturating_sub(before);
        assert!(live.count(|shard| &shard.deliveries_refused) > 0);
        assert!(
            growth < GROWTH_BYTES_MAX,
            "{growth} bytes more after {MESSAGES} messages of {MESSAGE_BYTES}"
        );
    });
}

/// One message in a mailbox, and a shard that is busy for a moment is a shard whose mailbox is full.
fn tiny_mailboxes(config: &mut Config) {
    config.limits.mailbox_messages_max = 1;
}

async fn two_on_each_shard(live: &Live, shards: usize) -> Vec<Client> {
    let mut clients: Vec<Vec<Client>> = (0..shards).map(|_| Vec::new()).collect();
    while clients.iter().any(|clients| clients.len() < 2) {
        let (shard, client) = live.shard_of(Client::connect(live)).await;
        if clients[shard].len() < 2 {
            clients[shard].push(client);
        }
    }
    clients.into_iter().flatten().collect()
}

#[test]
fn an_overflowing_mailbox_refuses_publishers_and_loses_nothing() {
    const CHANNELS: usize = 40;
    for shards in [2, 4] {
        let mut config = support::config(shards);
        tiny_mailboxes(&mut config);
        run(&config, async |live| {
            let names: Vec<String> = (0..CHANNELS).map(|n| format!("c:{n}")).collect();
            let mut subscribers = Vec::new();
            for mut client in two_on_each_shard(live, shards).await {
                let mut runs = Vec::new();
                for name in &names {
                    runs.push(Run::begin(name, insist_on_subscribing(&mut client, name).await));
                }
                subscribers.push((client, runs));
            }
            // Several, and each begins elsewhere: of each, what is behind something refused is refused, too, and a mailbox overflows
            // only when a home has messages of two channels in a turn.
            let mut publishers = two_on_each_shard(live, shards).await;
            let channel = |number: usize, id: usize| (7 * number + id) % CHANNELS;
            let mut acknowledged = vec![Vec::new(); CHANNELS];
            let (mut refused, mut rounds) = (0, 0);
            while refused == 0 || live.count(|shard| &shard.mailbox_refusals) == 0 {
                rounds += 1;
                assert!(rounds <= 200, "nothing overflows");
                let words = |number: usize, id: usize| format!("{rounds}.{number}.{id}");
                for (number, publisher) in publishers.iter_mut().enumerate() {
                    let command = |id: usize| {
                        let words = Payload::text(words(number, id));
                        publish(Some(id as u64), &names[channel(number, id)], words)
                    };
                    let commands: Vec<_> = (0..2 * CHANNELS).map(command).collect();
                    publisher.say(&commands).await.unwrap();
                }
                for (number, publisher) in publishers.iter_mut().enumerate() {
                    for id in 0..2 * CHANNELS {
                        match publisher.answer(id as u64).await {
                            Notice::Published { position, .. } => {
                                acknowledged[channel(number, id)].push((position.offset, words(number, id)));
                            }
                            Notice::Error {
                                code, retry_after, ..
                            } => {
                                assert_eq!(code, "overloaded");
                                assert!(retry_after.is_some());
                                refused += 1;
                            }
                            other => panic!("{other:?} in place of an answer"),
                        }
                    }
                }
            }
            for channel in &mut acknowledged {
                channel.sort();
            }
            // The subscribers get everything.
            for (client, runs) in &mut subscribers {
                while !caught_up(runs, &acknowledged) {
                    let notice = client.hear().await;
                    assert!(runs.iter_mut().any(|run| run.take(&notice)));
                }
            }
            // What was refused is nowhere, what was acknowledged is in the log.
            for (name, acknowledged) in names.iter().zip(&acknowledged) {
                let log = support::order::whole_log(&mut publishers[0], name, "overloaded").await;
                let log: Vec<_> = log
                    .iter()
                    .map(|message| (message.position.offset, data(message).to_owned()))
                    .collect();
                assert_eq!(&log, acknowledged, "{name}");
            }
            for (_, runs) in &subscribers {
                for (run, acknowledged) in runs.iter().zip(&acknowledged) {
                    for message in run.messages() {
                        let (offset, words) = &acknowledged[message.position.offset as usize - 1];
                        assert_eq!(
                            (message.position.offset, data(message)),
                            (*offset, words.as_str())
                        );
                    }
                }
            }
            let gaps: usize = subscribers
                .iter()
                .flat_map(|(_, runs)| runs)
                .map(|run| run.gaps().len())
                .sum();
            assert_eq!(gaps, 0, "what overflowed was read from the log");
            assert!(live.count(|shard| &shard.replay_pages) > 0);
            http::get(live.internal, "/healthz").await.expect(200);
        });
    }
}

/// A publisher that repeats what was refused before anything new has its messages in the log in its order, although it had sent
/// others behind those that were refused.
#[test]
fn overload_does_not_disturb_the_order_of_a_publisher() {
    const MESSAGES: usize = 2_000;
    const WINDOW: usize = 40;
    for shards in [2, 4] {
        let mut config = support::config(shards);
        tiny_mailboxes(&mut config);
        run(&config, async |live| {
            let mut refused = 0;
            // Its home is another shard than that of the client, for some of these.
            for name in ["a", "b", "c", "d"] {
                let mut client = Client::connect(live).await;
                let mut waiting: std::collections::VecDeque<usize> = (0..MESSAGES / 4).collect();
                let mut acknowledged = Vec::new();
                while !waiting.is_empty() {
                    let window: Vec<usize> = waiting.iter().copied().take(WINDOW).collect();
                    let said = |number: &usize| {
                        let words = Payload::text(number.to_string());
                        publish(Some(*number as u64), name, words)
                    };
                    client
                        .say(&window.iter().map(said).collect::<Vec<_>>())
                        .await
                        .unwrap();
                    for number in &window {
                        match client.answer(*number as u64).await {
                            Notice::Published { .. } => {
                                acknowledged.push(*number);
                                waiting.retain(|other| other != number);
                            }
                            Notice::Error { code, .. } => {
                                assert_eq!(code, "overloaded");
                                refused += 1;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
                assert!(
                    acknowledged.is_sorted(),
                    "nothing was taken behind what was refused"
                );
                let log = support::order::whole_log(&mut client, name, "overloaded").await;
                let log: Vec<usize> = log.iter().map(|message| data(message).parse().unwrap()).collect();
                assert!(log.iter().copied().eq(0..MESSAGES / 4), "{name}");
            }
            assert!(refused > 0, "nothing overflowed");
        });
    }
}

fn caught_up(runs: &[Run], acknowledged: &[Vec<(u64, String)>]) -> bool {
    let heads = acknowledged
        .iter()
        .map(|channel| channel.last().map_or(0, |(offset, _)| *offset));
    runs.iter().zip(heads).all(|(run, head)| run.reached() >= head)
}

async fn insist_on_subscribing(client: &mut Client, to: &str) -> switchboard_proto::position::Position {
    support::order::insist_on_subscribing(client, to, "overloaded").await
}

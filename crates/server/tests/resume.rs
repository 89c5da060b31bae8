//! Subscribing where one has been before: every message once and in order, first from the log and then live, whatever is
//! published meanwhile; and what cannot be had is said.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::client::{Client, How, channel, publish};
use support::order::data;
use support::runs::Run;
use support::{Live, SHARDS, eventually, run, run_on_shards, run_with};
use switchboard_hub::broker::{Completion, Op, Request};
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::dialect::{Command, DialectId};
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::time::Time;
use switchboard_server::broker::{Broker, Seat, memory::Memory};
use switchboard_server::clock::Clock;
use switchboard_server::config::Config;

async fn read_to(client: &mut Client, run: &mut Run, offset: u64) {
    while run.reached() < offset {
        assert!(run.take(&client.hear().await));
    }
}

async fn publish_numbers(client: &mut Client, to: &str, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let mut positions = Vec::new();
    for number in numbers {
        positions.push(client.publish(to, Payload::text(number.to_string())).await);
    }
    positions
}

fn numbers(run: &Run) -> Vec<u64> {
    run.messages()
        .map(|message| data(message).parse().unwrap())
        .collect()
}

#[test]
fn a_client_goes_on_where_it_was_in_both_notations() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut publisher = Client::connect(live).await;
            for dialect in [DialectId::Json, DialectId::Msgpack] {
                let how = How {
                    dialect: Some(dialect),
                    ..How::default()
                };
                let name = &format!("{dialect:?}");
                let mut before = Client::connect_with(live, how.clone()).await;
                let mut run = Run::begin(name, before.subscribe(name).await);
                publish_numbers(&mut publisher, name, 0..3).await;
                read_to(&mut before, &mut run, 3).await;
                let since = run.position();
                drop(before);
                publish_numbers(&mut publisher, name, 3..300).await;

                let mut after = Client::connect_with(live, how.clone()).await;
                assert!(after.resume(name, since).await);
                read_to(&mut after, &mut run, 300).await;
                let last = publish_numbers(&mut publisher, name, 300..303).await[2];
                read_to(&mut after, &mut run, 303).await;
                assert_eq!(numbers(&run), (0..303).collect::<Vec<_>>());
                assert_eq!(run.gaps(), []);

                // Where nothing was missed, it is live at once.
                let mut again = Client::connect_with(live, how).await;
                assert!(again.resume(name, last).await);
                publish_numbers(&mut publisher, name, 303..304).await;
                read_to(&mut again, &mut run, 304).await;
            }
        },
    );
}

#[test]
fn nothing_falls_between_history_and_live_whoever_publishes_meanwhile() {
    const PUBLISHERS: u64 = 3;
    const MESSAGES: u64 = 600;
    let set = |config: &mut Config| config.channels.log_messages_max = 1_000_000;
    run_on_shards(set, async |live| {
        let mut watcher = Client::connect(live).await;
        let mut run = Run::begin("a", watcher.subscribe("a").await);
        let done = Rc::new(Cell::new(0));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|_| {
                let (live, done) = (live.clone(), done.clone());
                tokio::task::spawn_local(async move {
                    let mut client = Client::connect(&live).await;
                    for number in 0..MESSAGES / 10 {
                        let burst: Vec<_> = (0..10)
                            .map(|id| publish(Some(number * 10 + id), "a", Payload::text("x")))
                            .collect();
                        client.say(&burst).await.unwrap();
                        for id in 0..10 {
                            let answer = client.answer(number * 10 + id).await;
                            assert!(matches!(answer, Notice::Published { .. }));
                        }
                    }
                    done.set(done.get() + 1);
                })
            })
            .collect();
        let mut lives = 0;
        while done.get() < PUBLISHERS {
            // It comes back in the middle of it, and is gone again after a few messages.
            let mut client = Client::connect(live).await;
            assert!(client.resume("a", run.position()).await);
            for _ in 0..7 * (lives % 5) {
                if run.reached() < PUBLISHERS * MESSAGES {
                    assert!(run.take(&client.hear().await));
                }
            }
            lives += 1;
        }
        for publisher in publishers {
            publisher.await.unwrap();
        }
        let mut client = Client::connect(live).await;
        assert!(client.resume("a", run.position()).await);
        read_to(&mut client, &mut run, PUBLISHERS * MESSAGES).await;
        assert_eq!(
            (run.messages().count() as u64, run.gaps()),
            (PUBLISHERS * MESSAGES, vec![])
        );
        assert!(lives > 3, "{lives} resumptions");
    });
}

#[test]
fn what_the_log_no_longer_holds_is_a_gap_and_the_rest_follows() {
    let set = |config: &mut Config| config.channels.log_messages_max = 3;
    run_on_shards(set, async |live| {
        let mut publisher = Client::connect(live).await;
        let positions = publish_numbers(&mut publisher, "a", 1..11).await;
        for (since, gap) in [(0, (1, 7)), (4, (5, 7)), (6, (7, 7))] {
            let position = match since {
                0 => Position::start(positions[0].epoch),
                since => positions[since - 1],
            };
            let mut client = Client::connect(live).await;
            assert!(!client.resume("a", position).await, "it is not recovered");
            let mut run = Run::begin("a", position);
            read_to(&mut client, &mut run, 10).await;
            assert_eq!((run.gaps(), numbers(&run)), (vec![gap], vec![8, 9, 10]));
        }
        let mut client = Client::connect(live).await;
        assert!(client.resume("a", positions[6]).await, "just kept");
        let mut run = Run::begin("a", positions[6]);
        read_to(&mut client, &mut run, 10).await;
        assert_eq!(run.gaps(), []);
    });
}

#[test]
fn a_position_of_another_life_is_a_reset_and_one_of_another_channel_an_error() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut publisher = Client::connect(live).await;
            let positions = publish_numbers(&mut publisher, "a", 1..4).await;
            let lost = Position {
                tag: positions[2].tag ^ 1,
                ..positions[2]
            };
            let beyond = Position {
                offset: 9,
                ..positions[2]
            };
            let other_life = Position {
                epoch: Epoch::of(&channel("a"), 7),
                ..positions[1]
            };
            for since in [lost, beyond, other_life] {
                let mut client = Client::connect(live).await;
                assert!(!client.resume("a", since).await);
                match client.hear().await {
                    Notice::Reset { channel, position } => {
                        assert_eq!(
                            (channel.as_str(), position),
                            ("a", Position::start(positions[0].epoch))
                        );
                    }
                    other => panic!("{other:?} in place of a reset"),
                }
                let mut run = Run::begin("a", Position::start(positions[0].epoch));
                read_to(&mut client, &mut run, 3).await;
                assert_eq!(numbers(&run), [1, 2, 3], "what there is follows");
            }
            let mut client = Client::connect(live).await;
            let id = client.id();
            let foreign = Command::Subscribe {
                id: Some(id),
                channel: channel("b"),
                since: Some(positions[1]),
                latest: false,
                presence: None,
            };
            client.say(&[foreign]).await.unwrap();
            match client.answer(id).await {
                Notice::Error { code, .. } => assert_eq!(code, "bad_position"),
                other => panic!("{other:?} in place of an error"),
            }
            client.subscribe("b").await;
        },
    );
}

#[test]
fn an_ephemeral_channel_says_how_much_is_missing() {
    let set = |config: &mut Config| config.channels.log_messages_max = 0;
    run_on_shards(set, async |live| {
        let mut publisher = Client::connect(live).await;
        let positions = publish_numbers(&mut publisher, "a", 1..6).await;
        let mut client = Client::connect(live).await;
        assert!(client.resume("a", positions[4]).await, "nothing was missed");
        let mut client = Client::connect(live).await;
        assert!(!client.resume("a", positions[1]).await);
        let mut run = Run::begin("a", positions[1]);
        publish_numbers(&mut publisher, "a", 6..7).await;
        read_to(&mut client, &mut run, 6).await;
        assert_eq!((run.gaps(), numbers(&run)), (vec![(3, 5)], vec![6]));
    });
}

/// The embedded broker; what is read from it comes when the gate is open.
struct Gated {
    inner: Memory,
    is_open: Arc<AtomicBool>,
    waiting: Vec<(u64, Request)>,
}

impl Broker for Gated {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        match request.op {
            Op::Read { .. } if !self.is_open.load(Ordering::Relaxed) => self.waiting.push((at_ms, request)),
            _ => self.inner.handle_request(now, at_ms, request, completions),
        }
    }

    fn poll(&mut self, now: Time, _clock: &Clock, completions: &mut VecDeque<Completion>) {
        if self.is_open.load(Ordering::Relaxed) {
            for (at_ms, request) in self.waiting.drain(..) {
                self.inner.handle_request(now, at_ms, request, completions);
            }
        }
    }
}

#[test]
fn many_who_resume_share_the_pages() {
    const CLIENTS: usize = 300;
    const MESSAGES: u64 = 500;
    /// They were lost at a few different places.
    const PLACES: usize = 5;
    /// One from each place to where pages end, and what follows for all of them: 128 to 256, to 384, to 500.
    const PAGES: u64 = PLACES as u64 + 3;
    for shards in SHARDS {
        let gate = Arc::new(AtomicBool::new(false));
        let is_open = gate.clone();
        let broker = Arc::new(move |seat: Seat| {
            Box::new(Gated {
                inner: Memory::new(&seat),
                is_open: is_open.clone(),
                waiting: Vec::new(),
            }) as Box<dyn Broker>
        });
        run_with(&support::config(shards), broker, async |live| {
            let mut publisher = Client::connect(live).await;
            let positions = publish_numbers(&mut publisher, "a", 1..MESSAGES + 1).await;
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(Client::connect(live).await);
            }
            let mut waiting = Vec::new();
            for (number, mut client) in clients.into_iter().enumerate() {
                let since = positions[number % PLACES];
                let command = Command::Subscribe {
                    id: Some(1),
                    channel: channel("a"),
                    since: Some(since),
                    latest: false,
                    presence: None,
                };
                client.say(&[command]).await.unwrap();
                waiting.push((client, Run::begin("a", since)));
            }
            eventually("everyone has asked", async || {
                (live.count(|shard| &shard.replays_waiting) == CLIENTS as u64).then_some(())
            })
            .await;
            gate.store(true, Ordering::Relaxed);
            for (client, run) in &mut waiting {
                let answer = client.answer(1).await;
                assert!(matches!(
                    answer,
                    Notice::Subscribed {
                        recovered: Some(true),
                        ..
                    }
                ));
                read_to(client, run, MESSAGES).await;
                assert_eq!(run.gaps(), []);
            }
            let given = live.count(|shard| &shard.replayed);
            assert!(given >= CLIENTS as u64 * (MESSAGES - PLACES as u64), "{given}");
            let read = live.count(|shard| &shard.replay_pages);
            assert!(
                read <= PAGES * shards as u64,
                "{read} pages for {CLIENTS} clients on {shards} shards"
            );
        });
    }
}

#[test]
fn as_few_pages_at_once_as_the_operator_wants_serve_everyone() {
    const CHANNELS: u64 = 40;
    let set = |config: &mut Config| config.limits.replays_max = 1;
    run_on_shards(set, async |live| {
        let mut publisher = Client::connect(live).await;
        let mut clients = Vec::new();
        for number in 0..CHANNELS {
            let name = format!("c:{number}");
            let positions = publish_numbers(&mut publisher, &name, 0..3).await;
            let mut client = Client::connect(live).await;
            let resume = |name: &str, since| Command::Subscribe {
                id: None,
                channel: channel(name),
                since: Some(since),
                latest: false,
                presence: None,
            };
            // A second channel of the same session is not forgotten over the first.
            let first = publisher
                .publish(&format!("d:{number}"), Payload::text("0"))
                .await;
            let start = Position::start(first.epoch);
            client
                .say(&[resume(&name, positions[0]), resume(&format!("d:{number}"), start)])
                .await
                .unwrap();
            clients.push((
                client,
                Run::begin(&name, positions[0]),
                Run::begin(&format!("d:{number}"), start),
            ));
        }
        for (client, run, other) in &mut clients {
            while run.reached() < 3 || other.reached() < 1 {
                let notice = client.hear().await;
                let is_answer = matches!(
                    notice,
                    Notice::Subscribed {
                        recovered: Some(true),
                        ..
                    }
                );
                assert!(
                    is_answer || run.take(&notice) || other.take(&notice),
                    "{notice:?}"
                );
            }
        }
    });
}

#[test]
fn a_late_joiner_of_a_ticker_gets_the_state_and_then_the_stream() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut publisher = Client::connect(live).await;
            let mut say = async |symbol: &str, price: &str| {
                let id = publisher.id();
                let command = Command::Publish {
                    id: Some(id),
                    channel: channel("ticker"),
                    payload: Payload::text(price),
                    key: None,
                    conflate: Key::parse(symbol),
                };
                publisher.say(&[command]).await.unwrap();
                match publisher.answer(id).await {
                    Notice::Published { position, .. } => position,
                    other => panic!("{other:?}"),
                }
            };
            for (symbol, price) in [
                ("eur", "1"),
                ("usd", "2"),
                ("eur", "3"),
                ("yen", "4"),
                ("usd", "5"),
            ] {
                say(symbol, price).await;
            }
            let mut client = Client::connect(live).await;
            let state = client
                .history("ticker", Range::Latest { after: None }, None)
                .await;
            let prices: Vec<_> = state.messages.iter().map(data).collect();
            let symbols: Vec<_> = state
                .messages
                .iter()
                .map(|message| message.conflate.as_deref())
                .collect();
            assert_eq!(prices, ["3", "4", "5"]);
            assert_eq!(symbols, [Some("eur"), Some("yen"), Some("usd")]);
            assert!(!state.more);

            for (symbol, price) in [("eur", "6"), ("eur", "7"), ("eur", "8")] {
                say(symbol, price).await;
            }
            let (_, recovered) = client.subscribe_with("ticker", Some(state.position), true).await;
            assert_eq!(recovered, Some(true));
            let mut run = Run::begin("ticker", state.position);
            read_to(&mut client, &mut run, 8).await;
            assert_eq!(
                (run.gaps(), numbers(&run)),
                (vec![(6, 7)], vec![8]),
                "the newest of what it missed"
            );
            say("eur", "9").await;
            say("eur", "10").await;
            read_to(&mut client, &mut run, 10).await;
            assert_eq!(numbers(&run), [8, 9, 10], "live, it gets every one");
        },
    );
}

#[test]
fn history_goes_backwards_page_by_page() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut client = Client::connect(live).await;
            publish_numbers(&mut client, "a", 1..11).await;
            let mut page = client.history("a", Range::Newest, Some(3)).await;
            let mut read = page.messages.clone();
            loop {
                let first = page.messages[0].position;
                page = client.history("a", Range::Before(first), Some(4)).await;
                read.splice(0..0, page.messages.clone());
                if !page.more {
                    break;
                }
            }
            let read: Vec<_> = read.iter().map(data).collect();
            assert_eq!(read, (1..11).map(|number| number.to_string()).collect::<Vec<_>>());
        },
    );
}

/// Whoever resumes and leaves again, in any order and at any moment, leaves nothing behind.
#[test]
fn who_resumes_may_leave_before_it_is_answered() {
    let mut config = support::config(2);
    config.limits.replays_max = 1;
    run(&config, async |live| {
        let mut publisher = Client::connect(live).await;
        let positions = publish_numbers(&mut publisher, "a", 0..200).await;
        for (round, since) in positions.into_iter().enumerate().take(100) {
            let mut client = Client::connect(live).await;
            let resume = Command::Subscribe {
                id: Some(1),
                channel: channel("a"),
                since: Some(since),
                latest: false,
                presence: None,
            };
            let leave = Command::Unsubscribe {
                id: Some(2),
                channel: channel("a"),
            };
            client.say(&[resume, leave]).await.unwrap();
            if round % 2 == 0 {
                continue;
            }
            match client.answer(2).await {
                Notice::Unsubscribed { .. } => {}
                Notice::Error { code, .. } => {
                    assert_eq!(code, "not_subscribed", "as long as it is not answered");
                    assert!(matches!(client.answer(1).await, Notice::Subscribed { .. }));
                }
                other => panic!("{other:?}"),
            }
        }
        waits_for_nothing(live).await;
    });
}

async fn waits_for_nothing(live: &Live) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    support::eventually("nobody waits for a page", async || {
        (live.count(|shard| &shard.replays_waiting) == 0).then_some(())
    })
    .await;
}

//! One order per channel, whoever publishes and whoever listens, on whatever shard they are.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use support::broker::{Slow, Temper};
use support::client::{self, Client, channel, publish};
use support::order::{Workload, work};
use support::runs::Run;
use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Range;

#[test]
fn every_subscriber_of_a_channel_sees_the_same_order() {
    let workload = Workload {
        channels: 5,
        subscribers: 8,
        publishers: 8,
        messages: 150,
        window: 10,
    };
    support::run_on_shards(
        |_| {},
        async |live| {
            let outcome = work(live, &workload).await;
            outcome.judge(|_| false);
            assert_eq!(outcome.gaps(), 0, "nobody was slow");
            for (log, name) in outcome.history.iter().zip(&outcome.channels) {
                for runs in &outcome.runs {
                    let run = runs
                        .iter()
                        .find(|run| run.reached() > 0 && run.is_of(name))
                        .unwrap();
                    assert!(run.messages().eq(log), "{name}");
                }
            }
            let log_lengths: usize = outcome.history.iter().map(Vec::len).sum();
            assert_eq!(log_lengths, 8 * 150 + outcome.channels.len());
        },
    );
}

/// One after the other, sessions that ask for everything and leave at any moment.
async fn come_and_go(live: support::Live, worker: u64, lives: u64) {
    let own = format!("own:{worker}");
    for life in 0..lives {
        let mut client = Client::connect(&live).await;
        // No two sessions use the same number, so an answer to another one is recognised.
        let number = 1 + worker * 10_000 + life * 10;
        let of_own = || channel(&own);
        let commands = [
            Command::Subscribe {
                id: Some(number),
                channel: of_own(),
                since: None,
                latest: false,
                presence: None,
            },
            publish(Some(number + 1), &own, Payload::text(number.to_string())),
            publish(None, "everyone", Payload::text("to nobody here")),
            Command::History {
                id: Some(number + 2),
                channel: of_own(),
                range: Range::Newest,
                limit: Some(1),
            },
        ];
        client.say(&commands).await.unwrap();
        let mut messages = 0;
        for _ in 0..(worker + life) % 6 {
            // There are three answers and, if the subscription comes first, a message.
            if messages + 4 <= (worker + life) % 6 {
                break;
            }
            match client.hear().await {
                Notice::Message { channel, .. } => {
                    assert_eq!(channel, of_own());
                    messages += 1;
                }
                notice => {
                    let id = client::id(&notice).expect("nothing but answers and messages");
                    assert!(
                        (number..number + 3).contains(&id),
                        "{notice:?} in session {number}"
                    );
                }
            }
        }
    }
}

#[test]
fn answers_to_who_has_left_reach_nobody_else() {
    for shards in support::SHARDS {
        let config = support::config(shards);
        support::run_with(&config, Slow::factory(Temper::SLOW), async |live| {
            let workers: Vec<_> = (0..20)
                .map(|worker| tokio::task::spawn_local(come_and_go(live.clone(), worker, 40)))
                .collect();
            for worker in workers {
                worker.await.unwrap();
            }
            // Nothing of it is left that would be in the way of somebody new.
            let mut client = Client::connect(live).await;
            for worker in 0..20 {
                let own = format!("own:{worker}");
                let start = client.subscribe(&own).await;
                let position = client.publish(&own, Payload::text("new")).await;
                // The last words of those who left may come before.
                let mut run = Run::begin(&own, start);
                while run.reached() < position.offset {
                    assert!(run.take(&client.hear().await));
                }
            }
        });
    }
}

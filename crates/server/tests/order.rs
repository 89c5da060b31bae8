//! One order per channel, whoever publishes and whoever listens, on whatever shard they are.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use support::order::{Workload, work};

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

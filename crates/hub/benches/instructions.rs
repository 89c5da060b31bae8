//! How many instructions the way of a publication through this crate takes, as callgrind counts them. `.ci/instructions` runs
//! this and compares the counts with those in `.ci/instructions.json`.
//!
//! What is counted and what is not: see the benchmark of the same name in `proto`.

// What the macros make is public, and names a file where the counter is perf. In a benchmark a panic is the failure.
#![allow(missing_docs, clippy::disallowed_types, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use gungraun::{library_benchmark, library_benchmark_group, main};
use switchboard_hub::audience::{Audience, Delivery, SubscriberId};
use switchboard_hub::broker::Completion;
use switchboard_hub::home::{Answer, Home, Output, ShardId};
use switchboard_hub::limits::LOG_MESSAGES_MAX_DEFAULT;
use switchboard_hub::log::Draft;
use switchboard_hub::logs::{Logs, LogsSettings};
use switchboard_hub::settings::Namespaces;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::{Entry, User};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Position;
use switchboard_proto::time::Time;

const SUBSCRIBERS: u32 = 100;

/// A home, its broker and an audience, without the mailboxes between them.
struct Shard {
    home: Home<SubscriberId>,
    logs: Logs,
    completions: VecDeque<Completion>,
    audience: Audience,
    channel: ChannelName,
}

/// The shard of a channel whose log is full, and messages to publish to it in one turn.
fn publishing(messages: usize) -> (Box<Shard>, Vec<Draft>) {
    let mut shard = Box::new(Shard {
        home: Home::new(1),
        logs: Logs::new(2, 3, LogsSettings::default(), Arc::new(Namespaces::default())),
        completions: VecDeque::new(),
        audience: Audience::new(4),
        channel: ChannelName::parse("room:42").unwrap(),
    });
    for subscriber in (0..SUBSCRIBERS).map(SubscriberId) {
        shard.audience.begin(&shard.channel, subscriber).unwrap();
        shard
            .home
            .handle_subscribe(shard.channel.clone(), ShardId(0), subscriber);
        shard.turn();
    }
    let draft = || Draft {
        from: Some(User::new("ana")),
        payload: Payload::text("m".repeat(128)),
        key: None,
        conflate: None,
    };
    for _ in 0..2 * LOG_MESSAGES_MAX_DEFAULT / messages {
        let given = shard.publish((0..messages).map(|_| draft()).collect());
        assert_eq!(given, messages * SUBSCRIBERS as usize);
    }
    (shard, (0..messages).map(|_| draft()).collect())
}

impl Shard {
    /// Publishes in one turn; how many deliveries that makes.
    fn publish(&mut self, drafts: Vec<Draft>) -> usize {
        for draft in drafts {
            self.home
                .handle_publish(self.channel.clone(), draft, SubscriberId(0));
        }
        self.turn()
    }

    fn turn(&mut self) -> usize {
        let mut given = 0;
        loop {
            while let Some(output) = self.home.poll_output() {
                given += self.handle_output(output);
            }
            if self.completions.is_empty() {
                return given;
            }
            while let Some(completion) = self.completions.pop_front() {
                self.home.handle_completion(completion);
            }
        }
    }

    fn handle_output(&mut self, output: Output<SubscriberId>) -> usize {
        match output {
            Output::Broker(request) => {
                let (now, at_ms) = (Time::from_nanoseconds(1_000_000_000), 1_760_000_000_000);
                self.logs
                    .handle_request(now, at_ms, request, &mut self.completions);
                0
            }
            Output::Deliver {
                channel,
                after,
                entries,
                ..
            } => self.deliver(&channel, after, &entries),
            Output::Reply {
                who,
                answer: Answer::Subscribed(position),
            } => {
                let attached = self.audience.attach(&self.channel, who, position);
                assert!(attached.is_some());
                0
            }
            Output::Reply { .. } | Output::Head { .. } => 0,
        }
    }

    fn deliver(&mut self, channel: &ChannelName, after: Position, entries: &[Arc<Entry>]) -> usize {
        let delivery = self.audience.deliver(channel, after, entries);
        let Delivery::Fresh { channel, fresh, .. } = delivery else {
            panic!("the channel has subscribers");
        };
        let subscribers = self.audience.subscribers(channel);
        for subscriber in subscribers {
            black_box((subscriber, &entries[fresh.clone()]));
        }
        subscribers.len() * fresh.len()
    }
}

#[library_benchmark(setup = publishing)]
#[bench::one(1)]
#[bench::ten_in_a_turn(10)]
fn publish((mut shard, drafts): (Box<Shard>, Vec<Draft>)) -> Box<Shard> {
    black_box(shard.publish(drafts));
    shard
}

library_benchmark_group!(name = hot_paths, benchmarks = publish);

main!(library_benchmark_groups = hot_paths);

//! One message to many subscribers: what each delivery costs.

use clap::Args;

use super::{
    Crowd, MANY_DELIVERIES, Sample, Scenario, Setup, by_words, check_stream, delivery_samples, distinct, few,
    hearers, published,
};
use crate::contestant::{Data, Place, Side};
use crate::control::{Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::quantity::{counted, grouped};
use crate::target::Way;

/// Bursts (or single messages) times subscribers of one round, if nothing else is asked for: a server that sends a burst
/// in one write is measured over as many writes as with single messages. Fewer are mostly the cold start of a round.
const WRITES: u64 = 150_000;
/// With few subscribers: each burst waits for the one before.
const BURSTS_MAX: u64 = 10_000;
/// With large bursts, down to `BURSTS_MIN` of them.
const DELIVERIES_MAX: u64 = 1_500_000;
const BURSTS_MIN: u64 = 4;
/// Publishers take turns: with the thousands of subscribers that a message goes to, none comes near a rate that a server may
/// limit.
const PUBLISHERS: u32 = 16;

/// What a burst may weigh: a publisher keeps it until the server has taken it.
const BURST_BYTES_MAX: usize = 16 << 20;

/// One message to many subscribers of a channel: what each delivery costs the server.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Fanout {
    /// Subscribers of the channel.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Messages that are published together; the next ones follow when these have arrived. Several: 1,10. The reference
    /// sends every message by itself. 10,000 at most.
    #[arg(long, value_name = "N", default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub burst: Vec<u32>,
    /// Threads of a spawned server; several: 1,2. With more than one it runs on all cores.
    #[arg(long, value_name = "N", default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Vec<u16>,
    /// Measure twice: subscribers that agree on permessage-deflate, and others that do not.
    #[arg(long)]
    pub compress: bool,
    /// Measure twice: subscribers by WebSocket, and others by Server-Sent Events, of a Switchboard.
    #[arg(long, conflicts_with = "compress")]
    pub sse: bool,
    /// Messages of a round, rounded up to whole bursts, of which it has four at least. By default 150,000 deliveries, and at
    /// most 10,000 messages; with --burst as many bursts instead, as long as that is no more than 1,500,000 deliveries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=super::MESSAGES_MAX))]
    pub messages: Option<u64>,
}

/// The choices of one set-up.
struct Choice {
    burst: u32,
    shards: u16,
    compress: bool,
    sse: bool,
}

impl Fanout {
    /// How many bursts of this size a round has; of one message for single ones.
    fn bursts(&self, burst: u32) -> u64 {
        let (burst, subscribers) = (u64::from(burst), u64::from(self.subscribers));
        let bursts = match self.messages {
            Some(messages) => messages.div_ceil(burst),
            None => (WRITES / subscribers)
                .min(BURSTS_MAX)
                .min(DELIVERIES_MAX / subscribers / burst),
        };
        bursts.max(BURSTS_MIN)
    }

    /// How much work the shortest round is, which may be the reference's, in single deliveries.
    fn work_min(&self) -> u64 {
        /// One more message in a write costs about a hundredth of the write: ten together cost 1.1 (docs/benchmarks.md).
        const WRITE: u64 = 100;
        let work = self.burst.iter().chain(&[1]).map(|&burst| {
            let writes = self.bursts(burst) * u64::from(self.subscribers);
            writes + writes * u64::from(burst - 1) / WRITE
        });
        work.min().unwrap_or_default()
    }

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for &shards in &self.shards {
            for &burst in &self.burst {
                let twice = self.compress || self.sse;
                for other in if twice { &[false, true][..] } else { &[false] } {
                    choices.push(Choice {
                        burst,
                        shards,
                        compress: self.compress && *other,
                        sse: self.sse && *other,
                    });
                }
            }
        }
        choices
    }
}

fn bursts_words(burst: u32) -> String {
    format!("bursts of {}", grouped(burst.into()))
}

impl Scenario for Fanout {
    type Open = Crowd;

    fn name(&self) -> &'static str {
        "fanout"
    }

    fn parameters(&self) -> String {
        let mut words = vec![
            counted(self.subscribers, "subscriber"),
            format!("{} bytes", grouped(self.bytes as u64)),
        ];
        // Several stand beside their figures.
        if let [burst @ (2..)] = self.burst[..] {
            words.push(bursts_words(burst));
        }
        if let [shards @ (2..)] = self.shards[..] {
            words.push(counted(shards, "shard"));
        }
        words.join(", ")
    }

    fn check(&self) -> Result<(), String> {
        distinct("--burst", &self.burst)?;
        distinct("--shards", &self.shards)?;
        let together = self.burst.iter().max().copied().unwrap_or(1) as usize * self.bytes;
        if together > BURST_BYTES_MAX {
            return Err(format!(
                "the messages of a burst have {} bytes together, at most {}",
                grouped(together as u64),
                grouped(BURST_BYTES_MAX as u64)
            ));
        }
        Ok(())
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        (self.shards != [1]).then_some("--shards")
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let mut notes = Vec::new();
        if self.shards.iter().any(|shards| *shards > 1) {
            notes.push("With more than one shard the server runs on all cores, beside the load.".to_owned());
        }
        if self.compress {
            notes.push(
                "The reference compresses nothing; beside compressed deliveries, too, it sends plain ones."
                    .to_owned(),
            );
        }
        notes.extend(few(self.work_min(), MANY_DELIVERIES, "delivery"));
        notes
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.subscribers) + u64::from(PUBLISHERS)
    }

    fn setups(&self) -> Vec<Setup> {
        let choices = self.choices();
        let several = choices.len() > 1;
        let words = |choice: &Choice| {
            let mut words = Vec::new();
            if self.burst.len() > 1 {
                words.push(match choice.burst {
                    1 => "single messages".to_owned(),
                    burst => bursts_words(burst),
                });
            }
            if self.shards.len() > 1 {
                words.push(counted(choice.shards, "shard"));
            }
            if self.compress {
                words.push(if choice.compress { "compressed" } else { "plain" }.to_owned());
            }
            if self.sse {
                words.push(by_words(choice.sse).to_owned());
            }
            words.join(", ")
        };
        choices
            .iter()
            .map(|choice| Setup {
                variant: if several { words(choice) } else { String::new() },
                shards: choice.shards,
                data: Data::None,
            })
            .collect()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Self::Open, Stopped> {
        let choice = &self.choices()[setup];
        let mut wanted = Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: self.subscribers,
            rooms: Rooms::ONE,
            in_flight: 64,
        };
        wanted.target.compress = choice.compress && !side.is_reference;
        if choice.sse && !side.is_reference {
            wanted.target.way = Way::EventStream;
        }
        check_stream(side, choice.sse)?;
        let subscribers = wanted.clone();
        wanted.target.compress = false;
        let publishers = Wanted {
            role: Role::Publisher,
            count: PUBLISHERS,
            ..wanted
        };
        Crowd::open(coordinator, &subscribers, &publishers)
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        setup: usize,
        crowd: &mut Crowd,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let burst = if side.is_reference {
            1
        } else {
            self.choices()[setup].burst
        };
        let mut bursts = self.bursts(burst);
        if warm_up {
            bursts = bursts.div_ceil(2);
        }
        let publish = Publish {
            group: 0,
            bytes: self.bytes,
            burst,
            subscribers: hearers(side, self.subscribers, PUBLISHERS),
            pace: Pace::Closed { at_once: 1, bursts },
            latency: false,
        };
        let expected = bursts * u64::from(burst) * u64::from(publish.subscribers);
        let (driven, cpu_ns) = published(coordinator, side, crowd.publishers, publish, expected)?;
        Ok(delivery_samples(&driven, cpu_ns))
    }

    fn close(&self, coordinator: &mut Coordinator, crowd: Crowd) -> Result<(), Stopped> {
        crowd.close(coordinator)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn fanout(words: &[&str]) -> Fanout {
        let command = Fanout::augment_args(clap::Command::new("fanout").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        Fanout::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn a_round_has_as_many_bursts_as_single_messages_within_limits() {
        let bursts = |words, burst| fanout(words).bursts(burst);
        assert_eq!(bursts(&[], 1), 30);
        assert_eq!(bursts(&[], 10), 30);
        assert_eq!(bursts(&[], 20), 15, "1,500,000 deliveries");
        assert_eq!(bursts(&[], 10_000), 4);
        assert_eq!(bursts(&["--subscribers", "1"], 10), 10_000);
        assert_eq!(bursts(&["--subscribers", "4294967295"], 1), 4);
        assert_eq!(bursts(&["--messages", "41"], 10), 5);
    }

    #[test]
    fn the_shortest_round_may_be_the_one_of_the_reference() {
        let work_min = |words| fanout(words).work_min();
        assert_eq!(
            work_min(&["--subscribers", "100", "--burst", "10", "--messages", "3"]),
            400
        );
        assert_eq!(work_min(&[]), 150_000);
        // 4 bursts of 10,000 to 200 are few writes, and much work.
        let large = ["--subscribers", "200", "--burst", "10000", "--messages", "40000"];
        assert_eq!(work_min(&large), 800 + 8 * 9_999);
        // The largest of everything.
        let words = [
            "--subscribers",
            "4294967295",
            "--burst",
            "10000",
            "--messages",
            "1000000000",
        ];
        assert!(work_min(&words) > 40_000_000_000_000_000);
    }

    #[test]
    fn what_is_the_same_in_all_rounds_stands_at_the_head() {
        let head = |words| fanout(words).parameters();
        assert_eq!(head(&[]), "5,000 subscribers, 64 bytes");
        assert_eq!(
            head(&["--burst", "10"]),
            "5,000 subscribers, 64 bytes, bursts of 10"
        );
        assert_eq!(head(&["--burst", "1,10"]), "5,000 subscribers, 64 bytes");
        assert_eq!(head(&["--shards", "2"]), "5,000 subscribers, 64 bytes, 2 shards");
    }
}

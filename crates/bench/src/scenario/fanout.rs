//! One message to many subscribers: what each delivery costs.

use clap::Args;

use super::{Crowd, Sample, Scenario, Setup, delivery_samples, distinct, few, hearers, published};
use crate::contestant::{Place, Side};
use crate::control::{Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::quantity::{counted, grouped};

/// Bursts (or single messages) times subscribers of one round, if nothing else is asked for: a server that sends a burst
/// in one write is measured over as many writes as with single messages. Fewer are mostly the cold start of a round.
const WRITES: u64 = 150_000;
/// Where bursts are so large that this comes first, a round has this many deliveries.
const DELIVERIES_MAX: u64 = 1_500_000;
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
    /// Messages of a round, at least four bursts. By default as many as make 150,000 deliveries; with bursts, as many bursts
    /// as that were messages, but 1,500,000 deliveries at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
}

/// The choices of one set-up.
struct Choice {
    burst: u32,
    shards: u16,
    compress: bool,
}

impl Fanout {
    /// How many bursts of this size a round has; of one message for single ones.
    fn bursts(&self, burst: u32) -> u64 {
        let (burst, subscribers) = (u64::from(burst), u64::from(self.subscribers));
        let bursts = match self.messages {
            Some(messages) => messages.div_ceil(burst),
            None => (WRITES / subscribers).min(DELIVERIES_MAX / subscribers / burst),
        };
        bursts.max(4)
    }

    /// Deliveries of the shortest round.
    fn deliveries_min(&self) -> u64 {
        let messages = self
            .burst
            .iter()
            .map(|&burst| self.bursts(burst) * u64::from(burst));
        messages.min().unwrap_or_default() * u64::from(self.subscribers)
    }

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for &shards in &self.shards {
            for &burst in &self.burst {
                for &compress in if self.compress {
                    &[false, true][..]
                } else {
                    &[false]
                } {
                    choices.push(Choice {
                        burst,
                        shards,
                        compress,
                    });
                }
            }
        }
        choices
    }
}

impl Scenario for Fanout {
    type Open = Crowd;

    fn name(&self) -> &'static str {
        "fanout"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {} bytes",
            counted(self.subscribers, "subscriber"),
            grouped(self.bytes as u64)
        )
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
        notes.extend(few(self.deliveries_min(), "delivery", "deliveries"));
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
                    burst => format!("bursts of {burst}"),
                });
            }
            if self.shards.len() > 1 {
                words.push(match choice.shards {
                    1 => "1 shard".to_owned(),
                    shards => format!("{shards} shards"),
                });
            }
            if self.compress {
                words.push(if choice.compress { "compressed" } else { "plain" }.to_owned());
            }
            words.join(", ")
        };
        choices
            .iter()
            .map(|choice| Setup {
                variant: if several { words(choice) } else { String::new() },
                shards: choice.shards,
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
        side: &Side,
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

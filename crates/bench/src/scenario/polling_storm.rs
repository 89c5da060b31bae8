//! The same clients by every way there is: what polling costs.

use clap::Args;

use super::{
    Crowd, Sample, Scenario, Setup, charged, check_stream, complete, hearers, latency_samples, sample,
};
use crate::contestant::{Data, Place, Side};
use crate::control::{Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::counted;
use crate::target::Way;

const SECOND_NS: u64 = 1_000_000_000;

/// The same clients with the same messages by every way a Switchboard has: by WebSocket, by Server-Sent Events, by polls that the
/// server holds until there is something, and by polls at a fixed interval, answered at once. What each costs the server, how
/// many requests and bytes that is, and how old a message is when it arrives.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct PollingStorm {
    /// Clients.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// Channels, one for each client: at most as many as there are clients.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Seconds between two polls of a client, where the server does not hold them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub interval: u32,
    /// Seconds between two messages of a channel.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub every: u32,
    /// Messages of each channel in a round, so that a round takes so many times the seconds between them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub messages: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
}

/// The connections, and what they have cost so far.
pub struct Open {
    crowd: Crowd,
    resident_each: Option<f64>,
}

impl PollingStorm {
    fn ways(&self) -> [(&'static str, Way); 4] {
        [
            ("by WebSocket", Way::WebSocket),
            ("by SSE", Way::EventStream),
            ("by held polls", Way::Polls { interval_ns: 0 }),
            (
                "by polls at an interval",
                Way::Polls {
                    interval_ns: u64::from(self.interval) * SECOND_NS,
                },
            ),
        ]
    }

    /// Clients of one channel.
    fn members(&self) -> u32 {
        self.clients.div_ceil(self.rooms)
    }

    /// Channels that have as many.
    fn rooms(&self) -> u32 {
        (self.clients / self.members()).max(1)
    }

    /// Clients, a whole number for each channel.
    fn clients(&self) -> u32 {
        self.rooms() * self.members()
    }
}

impl Scenario for PollingStorm {
    type Open = Open;

    fn name(&self) -> &'static str {
        "polling-storm"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {}, a message of each every {}; polls every {}",
            counted(self.clients(), "client"),
            counted(self.rooms(), "channel"),
            counted(self.every, "second"),
            counted(self.interval, "second"),
        )
    }

    fn check(&self) -> Result<(), String> {
        match self.rooms > self.clients {
            true => Err(format!("--rooms: there are {}", counted(self.clients, "client"))),
            false => Ok(()),
        }
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        Some("polling-storm")
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        vec![
            "The reference is one: a bare WebSocket server with the same clients and messages, measured in turns with each of these ways. So \
             a ratio says how much more a way takes, or how much later its messages are, than by bare WebSocket frames."
                .to_owned(),
        ]
    }

    fn round_seconds(&self, warm_up: bool) -> Option<u64> {
        let messages = if warm_up { 1 } else { self.messages };
        Some(u64::from(self.every) * u64::from(messages))
    }

    fn has_one_reference(&self) -> bool {
        true
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.clients()) + u64::from(self.rooms())
    }

    fn setups(&self) -> Vec<Setup> {
        let variants = self.ways().map(|(words, _)| Setup {
            variant: words.to_owned(),
            shards: 1,
            data: Data::None,
        });
        variants.into()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Open, Stopped> {
        let (_, way) = self.ways()[setup];
        check_stream(side, way != Way::WebSocket)?;
        let mut target = side.target.clone();
        if !side.is_reference {
            target.way = way;
        }
        let subscribers = Wanted {
            target,
            role: Role::Subscriber,
            count: self.clients(),
            rooms: Rooms {
                members: self.members(),
                first: 0,
                each: 1,
            },
            in_flight: 64,
        };
        let publishers = Wanted {
            role: Role::Publisher,
            count: self.rooms(),
            rooms: Rooms {
                members: 1,
                first: 0,
                each: 1,
            },
            ..subscribers.clone()
        };
        let resident = || side.meter.and_then(|meter| meter.resident_bytes().ok());
        let before = resident();
        let crowd = Crowd::open(coordinator, &subscribers, &publishers)?;
        let each =
            |(before, after): (u64, u64)| after.saturating_sub(before) as f64 / f64::from(self.clients());
        Ok(Open {
            crowd,
            resident_each: before.zip(resident()).map(each),
        })
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        open: &mut Open,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let messages = if warm_up { 1 } else { self.messages };
        let publish = Publish {
            group: 0,
            bytes: self.bytes,
            burst: 1,
            subscribers: hearers(side, self.members(), 1),
            pace: Pace::Rate {
                interval_ns: u64::from(self.every) * SECOND_NS,
                bursts: messages.into(),
            },
            latency: true,
        };
        let expected = u64::from(messages) * u64::from(self.rooms()) * u64::from(publish.subscribers);
        let publishers = open.crowd.publishers;
        let begun = std::time::Instant::now();
        let (driven, cpu_ns) = charged(side, || coordinator.publish(publishers, publish, expected))?;
        let seconds = begun.elapsed().as_secs_f64();
        let driven = complete(driven, "delivery")?;
        let clients = f64::from(self.clients());
        let mut samples = latency_samples(&driven);
        if let Some(cpu_ns) = cpu_ns {
            let share = cpu_ns as f64 / 1e9 / seconds * 100.0;
            samples.push(sample("CPU", Unit::PercentOfCore, share));
        }
        samples.push(sample(
            "requests",
            Unit::PerSecond,
            driven.requests as f64 / seconds,
        ));
        samples.push(sample(
            "bytes per client and minute",
            Unit::Bytes,
            driven.bytes as f64 / clients / seconds * 60.0,
        ));
        if let Some(each) = open.resident_each {
            samples.push(sample("resident per client", Unit::Bytes, each));
        }
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, open: Open) -> Result<(), Stopped> {
        open.crowd.close(coordinator)
    }
}

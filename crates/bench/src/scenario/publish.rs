//! Many publishers, many channels: what a message costs that few want.

use clap::Args;

use super::{Crowd, Sample, Scenario, Setup, delivery_samples, published, sample};
use crate::contestant::Side;
use crate::control::{Pace, Publish as Publishing, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::grouped;

/// Many publishers, many channels with few subscribers each: what a published message costs the server.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Publish {
    /// Channels. Several: 10,15000.
    #[arg(long, value_name = "N", default_value = "1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: Vec<u32>,
    /// Subscribers of each channel.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub members: u32,
    /// Channels of each subscriber.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rooms_each: u32,
    /// Publishers, spread over the channels, all at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Messages of a round.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
}

impl Scenario for Publish {
    type Open = Crowd;

    fn name(&self) -> &'static str {
        "publish"
    }

    fn parameters(&self) -> String {
        format!(
            "{} publishers, rooms of {}, {} bytes",
            grouped(self.publishers.into()),
            self.members,
            grouped(self.bytes as u64)
        )
    }

    fn setups(&self) -> Vec<Setup> {
        self.rooms
            .iter()
            .map(|rooms| Setup {
                variant: format!("{} rooms", grouped((*rooms).into())),
                shards: 1,
            })
            .collect()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Self::Open, Stopped> {
        let rooms = self.rooms[setup];
        // The bare protocols know one room per connection.
        let each = match side.target.subscribe {
            Some(_) => self.rooms_each.min(rooms),
            None => 1,
        };
        let held = if side.is_reference {
            rooms.min(self.publishers.max(1_000))
        } else {
            rooms
        };
        let wanted = Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: held.div_ceil(each) * self.members,
            rooms: Rooms {
                members: self.members,
                first: 0,
                each,
            },
            in_flight: 64,
        };
        let publishers = Wanted {
            role: Role::Publisher,
            count: self.publishers,
            rooms: Rooms {
                members: 1,
                first: 0,
                each: (held / self.publishers).max(1),
            },
            ..wanted.clone()
        };
        Crowd::open(coordinator, &wanted, &publishers)
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &Side,
        setup: usize,
        crowd: &mut Crowd,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let rooms = self.rooms[setup];
        if self.publishers > rooms {
            let words = format!(
                "{} publishers need as many rooms, and there are {rooms}",
                self.publishers
            );
            return Err(Stopped::Failed(words));
        }
        let bursts = if warm_up {
            self.messages.div_ceil(4)
        } else {
            self.messages
        };
        let publish = Publishing {
            group: 0,
            bytes: self.bytes,
            burst: 1,
            subscribers: self.members,
            pace: Pace::Closed {
                at_once: self.publishers,
                bursts,
            },
            latency: false,
        };
        let expected = bursts * u64::from(self.members);
        let (driven, cpu_ns) = published(coordinator, side, crowd.publishers, publish, expected)?;
        let mut samples = Vec::new();
        if let Some(cpu_ns) = cpu_ns {
            let each = cpu_ns as f64 / driven.published.max(1) as f64;
            samples.push(sample("CPU per publish", Unit::Nanoseconds, each));
        }
        samples.extend(delivery_samples(&driven, cpu_ns));
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, crowd: Crowd) -> Result<(), Stopped> {
        crowd.close(coordinator)
    }
}

//! Many publishers, many channels: what a message costs that few want.

use clap::Args;

use super::{
    Crowd, MANY, Sample, Scenario, Setup, channels_each, check_channels, delivery_samples, distinct, few,
    hearers, published, sample,
};
use crate::contestant::{Data, Place, Side};
use crate::control::{Pace, Publish as Publishing, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};

/// Many publishers, many channels with few subscribers each: what a published message costs the server. They publish as fast as
/// the messages arrive; beside a Switchboard that runs already (without another path in --url, or other words about it) each 50
/// a second, because it limits what one client may say (limits.commands_per_s).
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
    /// Channels of each subscriber, as far as there are. [default: 10; 1 where the URL names the channel]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rooms_each: Option<u32>,
    /// Publishers, spread over the channels, all at once; no more than channels. [default: 64, or as many as there are channels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: Option<u32>,
    /// What a spawned server keeps on the disk: none, never (not synced), interval, always. Several: none,interval.
    #[arg(long, value_enum, default_value = "none", value_delimiter = ',')]
    pub data: Vec<Data>,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Messages of a round. [default: 50,000, or what 5 seconds take where the rate is limited]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=super::MESSAGES_MAX))]
    pub messages: Option<u64>,
}

/// Channels of a subscriber, if nothing else is asked for.
const ROOMS_EACH: u32 = 10;

/// Publishers, if nothing else is asked for and there are as many rooms.
const PUBLISHERS: u32 = 64;

/// Messages of a round, if nothing else is asked for.
const MESSAGES: u64 = 50_000;
/// The same, where the rate is limited: seconds.
const LIMITED_SECONDS: u64 = 5;

/// What one set-up opens.
struct Crowds {
    /// Rooms with members.
    rooms: u32,
    /// Rooms of a subscriber.
    each: u32,
    subscribers: u64,
}

impl Publish {
    /// The fewest rooms of all set-ups: so many publish in each of them, or the set-ups could not be compared.
    fn fewest_rooms(&self) -> u32 {
        self.rooms.iter().min().copied().unwrap_or(1)
    }

    /// The rooms and the data of a set-up.
    fn choice(&self, setup: usize) -> (u32, Data) {
        let (data, rooms) = (setup % self.data.len(), setup / self.data.len());
        (self.rooms[rooms], self.data[data])
    }

    fn publishers(&self) -> u32 {
        self.publishers.unwrap_or(PUBLISHERS.min(self.fewest_rooms()))
    }

    /// Of a round, if each publisher says so many a second: then each has as many.
    fn messages(&self, publishes_per_s: Option<u32>) -> u64 {
        let publishers = u64::from(self.publishers());
        match publishes_per_s {
            Some(rate) => {
                let default = u64::from(rate) * publishers * LIMITED_SECONDS;
                self.messages.unwrap_or(default).next_multiple_of(publishers)
            }
            None => self.messages.unwrap_or(MESSAGES),
        }
    }

    fn crowds(&self, side: &Side, setup: usize) -> Crowds {
        let (all, _) = self.choice(setup);
        let each = channels_each(side, self.rooms_each.unwrap_or(ROOMS_EACH)).min(all);
        let rooms = match side.is_reference {
            true => all.min(self.publishers().max(1_000)),
            false => all,
        };
        Crowds {
            rooms,
            each,
            subscribers: u64::from(rooms.div_ceil(each)) * u64::from(self.members),
        }
    }
}

impl Scenario for Publish {
    type Open = Crowd;

    fn name(&self) -> &'static str {
        "publish"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, rooms of {}, {} bytes",
            counted(self.publishers(), "publisher"),
            grouped(self.members.into()),
            grouped(self.bytes as u64)
        )
    }

    fn check(&self) -> Result<(), String> {
        distinct("--rooms", &self.rooms)?;
        let words: Vec<_> = self
            .data
            .iter()
            .map(|data| data.fsync().unwrap_or("none"))
            .collect();
        distinct("--data", &words)?;
        match (self.publishers, self.fewest_rooms()) {
            (Some(publishers), rooms) if publishers > rooms => Err(format!(
                "--publishers: each has a room of its own, and there are {}",
                counted(rooms, "room")
            )),
            _ => Ok(()),
        }
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        (self.data != [Data::None]).then_some("--data")
    }

    fn notes(&self, place: &Place) -> Vec<String> {
        let limited = place.publishes_per_s.map(|rate| {
            format!(
                "Each publisher had {rate} messages a second, which a Switchboard takes of one client: a server at its limit is what \
                 --spawn measures."
            )
        });
        let few = few(self.messages(place.publishes_per_s), MANY, "message");
        limited.into_iter().chain(few).collect()
    }

    fn connections(&self, side: &Side, setup: usize) -> u64 {
        self.crowds(side, setup).subscribers + u64::from(self.publishers())
    }

    fn setups(&self) -> Vec<Setup> {
        let setups = 0..self.rooms.len() * self.data.len();
        setups
            .map(|setup| {
                let (rooms, data) = self.choice(setup);
                let rooms = counted(rooms, "room");
                let variant = match (self.data.len(), data.fsync()) {
                    (1, None) => rooms,
                    (_, None) => format!("{rooms}, in memory"),
                    (_, Some(fsync)) => format!("{rooms}, fsync {fsync}"),
                };
                Setup {
                    variant,
                    shards: 1,
                    data,
                }
            })
            .collect()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Self::Open, Stopped> {
        check_channels(side, "--rooms-each", self.rooms_each.unwrap_or(1))?;
        let Crowds {
            rooms,
            each,
            subscribers,
        } = self.crowds(side, setup);
        let too_many = |_| Stopped::Failed("more subscribers than there are numbers for them".to_owned());
        let wanted = Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: u32::try_from(subscribers).map_err(too_many)?,
            rooms: Rooms {
                members: self.members,
                first: 0,
                each,
            },
            in_flight: 64,
        };
        let publishers = Wanted {
            role: Role::Publisher,
            count: self.publishers(),
            rooms: Rooms {
                members: 1,
                first: 0,
                each: (rooms / self.publishers()).max(1),
            },
            ..wanted.clone()
        };
        Crowd::open(coordinator, &wanted, &publishers)
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        crowd: &mut Crowd,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let mut messages = self.messages(side.publishes_per_s);
        if warm_up {
            messages = messages.div_ceil(4);
        }
        let publishers = self.publishers();
        let pace = match side.publishes_per_s {
            Some(rate) => {
                messages = messages.next_multiple_of(publishers.into());
                Pace::Rate {
                    interval_ns: 1_000_000_000 / u64::from(rate),
                    bursts: messages / u64::from(publishers),
                }
            }
            None => Pace::Closed {
                at_once: publishers,
                bursts: messages,
            },
        };
        let publish = Publishing {
            group: 0,
            bytes: self.bytes,
            burst: 1,
            subscribers: hearers(side, self.members, 1),
            pace,
            latency: false,
        };
        let expected = messages * u64::from(publish.subscribers);
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

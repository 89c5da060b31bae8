//! Small rooms in which everyone speaks: a chat, a game.

use clap::Args;

use super::{
    DAY, MANY_DELIVERIES, Sample, Scenario, Setup, delivery_samples, few, latency_samples, published,
    rate_notes,
};
use crate::contestant::{Place, Side};
use crate::control::{Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, GroupId, Stopped, Wanted};
use crate::report::Series;
use crate::report::quantity::{counted, grouped};

/// Small rooms in which every subscriber publishes at a constant rate: a chat, or a game with 60 updates a second.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Mesh {
    /// Rooms.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Members of each room; everyone gets what everyone says.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub members: u32,
    /// Messages per second of each member, at most 10,000.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Seconds of a round, at most 86,400.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAY)))]
    pub seconds: u32,
}

impl Mesh {
    /// Of a round; `None` where that is no number.
    fn deliveries(&self) -> Option<u64> {
        let messages = u64::from(self.rate) * u64::from(self.seconds) * u64::from(self.rooms);
        messages
            .checked_mul(self.members.into())?
            .checked_mul(self.members.into())
    }
}

impl Scenario for Mesh {
    type Open = GroupId;

    fn name(&self) -> &'static str {
        "mesh"
    }

    fn parameters(&self) -> String {
        format!(
            "{} of {}, each member {} a second, {} bytes",
            counted(self.rooms, "room"),
            grouped(self.members.into()),
            counted(self.rate, "message"),
            grouped(self.bytes as u64)
        )
    }

    fn check(&self) -> Result<(), String> {
        match self.rooms.checked_mul(self.members).and(self.deliveries()) {
            Some(_) => Ok(()),
            None => Err(
                "--rooms, --members, --rate: more members or deliveries than there are numbers for them"
                    .to_owned(),
            ),
        }
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let few = few(self.deliveries().unwrap_or(u64::MAX), MANY_DELIVERIES, "delivery");
        few.into_iter().collect()
    }

    fn judge(&self, series: &[Series]) -> Vec<String> {
        let members = f64::from(self.members);
        rate_notes(
            series,
            f64::from(self.rooms) * members * members * f64::from(self.rate),
        )
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.rooms) * u64::from(self.members)
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup::only()]
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, _: usize) -> Result<GroupId, Stopped> {
        coordinator.open(&Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: self.rooms * self.members,
            rooms: Rooms {
                members: self.members,
                first: 0,
                each: 1,
            },
            in_flight: 64,
        })
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        group: &mut GroupId,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let seconds = if warm_up { 1 } else { self.seconds };
        let bursts = u64::from(self.rate) * u64::from(seconds);
        let publish = Publish {
            group: 0,
            bytes: self.bytes,
            burst: 1,
            subscribers: self.members,
            pace: Pace::Rate {
                interval_ns: 1_000_000_000 / u64::from(self.rate),
                bursts,
            },
            latency: true,
        };
        let expected = bursts * u64::from(self.rooms) * u64::from(self.members).pow(2);
        let (driven, cpu_ns) = published(coordinator, side, *group, publish, expected)?;
        let mut samples = delivery_samples(&driven, cpu_ns);
        samples.extend(latency_samples(&driven));
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, group: GroupId) -> Result<(), Stopped> {
        coordinator.close(group)
    }
}

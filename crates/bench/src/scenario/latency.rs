//! How long a message takes, at a constant rate.

use clap::Args;

use super::{
    Crowd, DAY, MANY_DELIVERIES, PUBLISHES_PER_S, Sample, Scenario, Setup, delivery_samples, few, hearers,
    latency_samples, published, rate_notes,
};
use crate::contestant::{Place, Side};
use crate::control::{Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Series;
use crate::report::quantity::{counted, grouped};

/// How long a message takes from when it was due to every subscriber, at a constant rate. A message that leaves late
/// because the one before was slow counts from when it was due (no coordinated omission).
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Latency {
    /// Subscribers of the channel.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Messages per second.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Seconds of a round, at most 86,400.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAY)))]
    pub seconds: u32,
}

impl Latency {
    /// As many as it takes for each to stay far from what a server may take for abuse.
    fn publishers(&self) -> u32 {
        self.rate.div_ceil(PUBLISHES_PER_S)
    }
}

impl Scenario for Latency {
    type Open = Crowd;

    fn name(&self) -> &'static str {
        "latency"
    }

    fn check(&self) -> Result<(), String> {
        /// Each is a connection.
        const PUBLISHERS_MAX: u32 = 10_000;
        match self.publishers() {
            0..=PUBLISHERS_MAX => Ok(()),
            publishers => Err(format!(
                "--rate: no connection publishes more than {PUBLISHES_PER_S} messages a second, so that {} would publish",
                counted(publishers, "connection")
            )),
        }
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {} bytes, {} per second",
            counted(self.subscribers, "subscriber"),
            grouped(self.bytes as u64),
            counted(self.rate, "message")
        )
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let messages = u64::from(self.rate) * u64::from(self.seconds);
        let deliveries = messages.saturating_mul(self.subscribers.into());
        few(deliveries, MANY_DELIVERIES, "delivery").into_iter().collect()
    }

    fn judge(&self, series: &[Series]) -> Vec<String> {
        rate_notes(series, f64::from(self.rate) * f64::from(self.subscribers))
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.subscribers) + u64::from(self.publishers())
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup::only()]
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, _: usize) -> Result<Self::Open, Stopped> {
        let wanted = Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: self.subscribers,
            rooms: Rooms::ONE,
            in_flight: 64,
        };
        let publishers = Wanted {
            role: Role::Publisher,
            count: self.publishers(),
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
        let seconds = if warm_up { 1 } else { self.seconds };
        let count = u64::from(self.publishers());
        let messages = u64::from(self.rate) * u64::from(seconds);
        let publish = Publish {
            group: 0,
            bytes: self.bytes,
            burst: 1,
            subscribers: hearers(side, self.subscribers, self.publishers()),
            pace: Pace::Rate {
                interval_ns: count * 1_000_000_000 / u64::from(self.rate),
                bursts: (messages / count).max(1),
            },
            latency: true,
        };
        let expected = messages * u64::from(publish.subscribers);
        let (driven, cpu_ns) = published(coordinator, side, crowd.publishers, publish, expected)?;
        let mut samples = latency_samples(&driven);
        samples.extend(delivery_samples(&driven, cpu_ns));
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, crowd: Crowd) -> Result<(), Stopped> {
        crowd.close(coordinator)
    }
}

//! One of many subscribers stops reading: what the others notice of it, and what it costs.
//!
//! ```text
//!   a round:   all read ─► fill, publish by the clock ─► one stops ─► fill, publish by the clock ─► it reads on, and has all
//! ```
//!
//! The fill is as much as the stopped one's sockets and its outbox hold, so that what is measured then is a server that has
//! given up on it for the time being (in the words of the settings, `channels.on_lag`), and `/metrics` has to say so. It is
//! published in both halves of a round, so that these differ in nothing but the reader.
//!
//! A server of the default settings terminates a connection that takes nothing for 10 s (`limits.write_stall`), so the reader
//! stops for less than that, and reads on in between. A longer limit would do as well, but would not be what people run.

use std::time::Duration;

use clap::Args;

use super::{
    Crowd, MANY_DELIVERIES, PUBLISHES_PER_S, Sample, Scenario, Setup, few, hearers, percentile, published,
    sample,
};
use crate::contestant::{Place, Side};
use crate::control::{Driven, Pace, Publish, Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::observer::{self, Observer};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};

/// Messages of the fill, together some 500 KiB: an outbox (256 KiB), what the narrow sockets of the reader hold (some 48 KiB), and
/// half as much again. The log holds them (1 MiB) with what follows.
const FILL_MESSAGES: u64 = 32;
const FILL_BYTES: usize = 16_000;
/// Time for the reader to have everything, once it reads on.
const CATCH_UP_MAX: Duration = Duration::from_secs(20);

/// One of many subscribers of a channel stops reading, again and again, while messages are published at a constant rate: how long
/// these take to the others meanwhile, beside how long they take while all read, and what memory it costs the server. The
/// one that stopped must miss nothing in the end. It stops for less than the 10 s after which a server terminates it
/// (limits.write_stall). Only with --spawn: what is said below of other
/// servers is of other scenarios.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct SlowReader {
    /// Subscribers of the channel, the one that stops among them.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub subscribers: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Messages per second, at most 50.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=i64::from(PUBLISHES_PER_S)))]
    pub rate: u32,
    /// Seconds of each half of a round, at most 6.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=6))]
    pub seconds: u32,
}

/// What stays open between rounds.
pub struct Open {
    /// All but the reader, and one who publishes.
    crowd: Crowd,
    /// The one that stops.
    reader: Observer,
    /// Messages since it came.
    published: u64,
}

/// A half of a round.
struct Half {
    driven: Driven,
    /// Resident bytes at its end, where they are known.
    resident: Option<u64>,
}

impl SlowReader {
    fn others(&self) -> u32 {
        self.subscribers - 1
    }

    fn half(
        &self,
        coordinator: &mut Coordinator,
        side: &Side,
        open: &mut Open,
        seconds: u32,
    ) -> Result<Half, Stopped> {
        let mut publish = |bytes, pace, messages: u64| {
            let publish = Publish {
                group: 0,
                bytes,
                burst: 1,
                subscribers: hearers(side, self.others(), 1),
                pace,
                latency: true,
            };
            let expected = messages * u64::from(publish.subscribers);
            let publishers = open.crowd.publishers;
            let (driven, _) = published(coordinator, side, publishers, publish, expected)?;
            open.published += messages;
            Ok::<_, Stopped>(driven)
        };
        let fill = Pace::Closed {
            at_once: 1,
            bursts: FILL_MESSAGES,
        };
        publish(FILL_BYTES, fill, FILL_MESSAGES)?;
        let messages = u64::from(self.rate) * u64::from(seconds);
        let pace = Pace::Rate {
            interval_ns: 1_000_000_000 / u64::from(self.rate),
            bursts: messages,
        };
        let driven = publish(self.bytes, pace, messages)?;
        let resident = side.meter.map(|meter| meter.resident_bytes()).transpose()?;
        Ok(Half { driven, resident })
    }

    /// Fails where the reader did not stop: the figures would be of something else.
    fn stopped_half(
        &self,
        coordinator: &mut Coordinator,
        side: &Side,
        open: &mut Open,
        seconds: u32,
    ) -> Result<Half, Stopped> {
        const REFUSED: &str = "deliveries_refused";
        const STALLED: &str = "sessions_stalled";
        let before = (side.counter(REFUSED)?, side.counter(STALLED)?);
        open.reader.stop();
        let half = self.half(coordinator, side, open, seconds);
        let after = (side.counter(REFUSED)?, side.counter(STALLED)?);
        open.reader.resume();
        let half = half?;
        if side.internal.is_some() && after.0 == before.0 {
            let words = "the reader that stopped was never behind: its sockets held everything";
            return Err(Stopped::Failed(words.to_owned()));
        }
        if after.1 != before.1 {
            let words = "the server terminated the reader that stopped (limits.write_stall): --seconds is too long for this machine";
            return Err(Stopped::Failed(words.to_owned()));
        }
        Ok(half)
    }
}

fn reader(coordinator: &Coordinator, side: &Side) -> Result<Observer, Stopped> {
    Observer::open(&observer::Wanted {
        target: side.target.clone(),
        room: 0,
        subscribers: 1,
        narrow: true,
        publish: None,
        core: coordinator.core(),
    })
}

impl Scenario for SlowReader {
    type Open = Open;

    fn name(&self) -> &'static str {
        "slow-reader"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, one of them stops, {} bytes, {} per second",
            counted(self.subscribers, "subscriber"),
            grouped(self.bytes as u64),
            counted(self.rate, "message")
        )
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        Some("slow-reader")
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let messages = u64::from(self.rate) * u64::from(self.seconds);
        let deliveries = messages * u64::from(self.others());
        few(deliveries, MANY_DELIVERIES, "delivery").into_iter().collect()
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.subscribers) + 1
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup::only()]
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, _: usize) -> Result<Open, Stopped> {
        let subscribers = Wanted {
            target: side.target.clone(),
            role: Role::Subscriber,
            count: self.others(),
            rooms: Rooms::ONE,
            in_flight: 64,
        };
        let publishers = Wanted {
            role: Role::Publisher,
            count: 1,
            ..subscribers.clone()
        };
        Ok(Open {
            crowd: Crowd::open(coordinator, &subscribers, &publishers)?,
            reader: reader(coordinator, side)?,
            published: 0,
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
        let seconds = if warm_up { 1 } else { self.seconds };
        let before = self.half(coordinator, side, open, seconds)?;
        open.reader.await_received(open.published, CATCH_UP_MAX)?;
        // The more a connection has carried, the more the system keeps for it: a new one is full within the fill.
        open.reader = reader(coordinator, side)?;
        open.published = 0;
        let during = self.stopped_half(coordinator, side, open, seconds)?;
        open.reader.await_received(open.published, CATCH_UP_MAX)?;

        let mut samples = Vec::new();
        for (share, all_read, one_stopped, beside) in [
            (
                0.5,
                "latency p50, all read",
                "latency p50, one stopped",
                "p50, one stopped, beside all read",
            ),
            (
                0.99,
                "latency p99, all read",
                "latency p99, one stopped",
                "p99, one stopped, beside all read",
            ),
        ] {
            let before = percentile(&before.driven.latency, share);
            let during = percentile(&during.driven.latency, share);
            if let (Some(before), Some(during)) = (before, during) {
                samples.push(sample(all_read, Unit::Nanoseconds, before));
                samples.push(sample(one_stopped, Unit::Nanoseconds, during));
                samples.push(sample(beside, Unit::Count, during / before));
            }
        }
        if let (Some(before), Some(during)) = (before.resident, during.resident) {
            samples.push(sample("resident, all read", Unit::Bytes, before as f64));
            let more = during.saturating_sub(before) as f64;
            samples.push(sample("resident for the one that stopped", Unit::Bytes, more));
        }
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, open: Open) -> Result<(), Stopped> {
        open.crowd.close(coordinator)
    }
}

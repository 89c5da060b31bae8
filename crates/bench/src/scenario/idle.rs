//! Connections that say nothing: their memory, and what their heartbeat costs.

use std::time::Duration;

use clap::Args;

use super::{
    DAY, Sample, Scenario, Setup, by_words, channels_each, charged, check_channels, check_stream, distinct,
    sample,
};
use crate::contestant::{Data, Place, Side};
use crate::control::{Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::quantity::{counted, grouped};
use crate::report::{Series, Unit};
use crate::target::Way;

/// Connections of the warm-up: the code is in memory then, and buffers have their size.
const WARM_UP: u32 = 200;
/// Time for a server to come to rest after the last connection.
const REST: Duration = Duration::from_secs(1);

/// Connections that say nothing: resident memory of each, what stays when they have gone, and what their heartbeat costs.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Idle {
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Channels that each connection is subscribed to, at most 128. Several: 1,100.
    #[arg(long, value_name = "N", default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=128))]
    pub subscriptions: Vec<u32>,
    /// Every connection has channels of its own; otherwise all have the same.
    #[arg(long)]
    pub own: bool,
    /// Measure twice: WebSockets, and Server-Sent Events of a Switchboard.
    #[arg(long)]
    pub sse: bool,
    /// Seconds for which the idle connections are watched, at most 86,400: 30 show one heartbeat of each Switchboard connection.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=u64::from(DAY)))]
    pub seconds: u64,
    /// Seconds after closing, before what stays is measured, at most 86,400; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=u64::from(DAY)))]
    pub after: u64,
}

/// Resident bytes before the first connection.
pub struct Base(Option<u64>);

impl Idle {
    /// Channels of each connection, and whether it is an event stream.
    fn choices(&self) -> Vec<(u32, bool)> {
        let ways: &[bool] = if self.sse { &[false, true] } else { &[false] };
        let each = self.subscriptions.iter();
        each.flat_map(|each| ways.iter().map(|sse| (*each, *sse)))
            .collect()
    }

    fn wanted(&self, side: &Side, setup: usize, count: u32) -> Wanted {
        let (each, sse) = self.choices()[setup];
        let each = channels_each(side, each);
        let mut target = side.target.clone();
        if sse && !side.is_reference {
            target.way = Way::EventStream;
        }
        if side.is_reference {
            // It says nothing to anyone but a ping, as often as the server under test does.
            target.path = "/ping/25".to_owned();
        }
        Wanted {
            target,
            role: if each == 0 { Role::Silent } else { Role::Subscriber },
            count,
            rooms: Rooms {
                members: if self.own { 1 } else { u32::MAX },
                first: 0,
                each,
            },
            in_flight: 64,
        }
    }
}

impl Scenario for Idle {
    type Open = Base;

    fn name(&self) -> &'static str {
        "idle"
    }

    fn parameters(&self) -> String {
        counted(self.connections, "connection")
    }

    fn check(&self) -> Result<(), String> {
        if self.sse && self.subscriptions.contains(&0) {
            return Err("--sse: an event stream has at least one channel".to_owned());
        }
        distinct("--subscriptions", &self.subscriptions)
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        /// So many times the warm-up, and what that has left is little beside them.
        const MANY: u32 = 10;
        let mut notes = Vec::new();
        if self.connections < MANY * WARM_UP {
            notes.push(format!(
                "Memory is what came on top of a warm-up of {}; with fewer than {} of them it is mostly what a process \
                 takes and gives back in large pieces.",
                counted(WARM_UP.min(self.connections), "connection"),
                grouped((MANY * WARM_UP).into())
            ));
        }
        notes
    }

    fn judge(&self, series: &[Series]) -> Vec<String> {
        let rate = |series: &Series| series.figure("heartbeats")?.median();
        let reference = series.iter().find(|series| series.is_reference).and_then(rate);
        let others = series.iter().filter(|series| !series.is_reference);
        let others = others.filter_map(|series| Some((&series.name, rate(series)?, reference?)));
        others
            .filter(|(_, rate, reference)| *rate < reference / 2.0 || *rate > reference * 2.0)
            .map(|(name, rate, reference)| {
                format!(
                    "{name} had {rate:.0} heartbeats a second and the reference {reference:.0}: what they cost is not comparable."
                )
            })
            .collect()
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        self.connections.into()
    }

    fn setups(&self) -> Vec<Setup> {
        let channels = if self.own {
            "own channels"
        } else {
            "channels in common"
        };
        let words = |(each, sse): (u32, bool)| {
            let words = match (each, self.own) {
                (0, _) => "no channel".to_owned(),
                (1, true) => "a channel of its own".to_owned(),
                (1, false) => "one channel".to_owned(),
                (each, _) => format!("{each} {channels}"),
            };
            match self.sse {
                true => format!("{words}, {}", by_words(sse)),
                false => words,
            }
        };
        self.choices()
            .into_iter()
            .map(|choice| Setup {
                variant: words(choice),
                shards: 1,
                data: Data::None,
            })
            .collect()
    }

    fn open(&self, _: &mut Coordinator, side: &Side, setup: usize) -> Result<Base, Stopped> {
        let (each, sse) = self.choices()[setup];
        check_stream(side, sse)?;
        check_channels(side, "--subscriptions", each)?;
        Ok(Base(None))
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        setup: usize,
        Base(base): &mut Base,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let Some(meter) = side.meter else {
            return Err(Stopped::Failed(
                "its process is not known, so nothing of its memory: give --pid, or run the bench beside it"
                    .to_owned(),
            ));
        };
        if warm_up {
            let group = coordinator.open(&self.wanted(side, setup, WARM_UP.min(self.connections)))?;
            coordinator.close(group)?;
            coordinator.wait("warming up", REST)?;
            *base = Some(meter.resident_bytes()?);
            return Ok(Vec::new());
        }
        let base = base.unwrap_or(0) as f64;
        let each = |resident: u64| (resident as f64 - base).max(0.0) / f64::from(self.connections);
        let group = coordinator.open(&self.wanted(side, setup, self.connections))?;
        coordinator.wait("coming to rest", REST)?;
        let open = each(meter.resident_bytes()?);
        let mut samples = vec![sample("resident per connection", Unit::Bytes, open)];
        if self.seconds > 0 {
            let time = Duration::from_secs(self.seconds);
            let before = coordinator.heartbeats()?;
            let begun = std::time::Instant::now();
            let ((), cpu_ns) = charged(side, || coordinator.wait("idle", time))?;
            let heartbeats = (coordinator.heartbeats()? - before) as f64;
            let elapsed = begun.elapsed();
            if let Some(cpu_ns) = cpu_ns {
                let share = cpu_ns as f64 / elapsed.as_nanos() as f64;
                samples.push(sample("CPU while idle", Unit::PercentOfCore, share * 100.0));
                if heartbeats > 0.0 {
                    let each = cpu_ns as f64 / heartbeats;
                    samples.push(sample("CPU per heartbeat", Unit::Nanoseconds, each));
                }
            }
            let rate = heartbeats / elapsed.as_secs_f64();
            samples.push(sample("heartbeats", Unit::PerSecond, rate));
        }
        coordinator.close(group)?;
        if self.after > 0 {
            coordinator.wait("after closing", Duration::from_secs(self.after))?;
            let kept = each(meter.resident_bytes()?);
            samples.push(sample("kept per former connection", Unit::Bytes, kept));
        }
        Ok(samples)
    }

    fn close(&self, _: &mut Coordinator, _: Base) -> Result<(), Stopped> {
        Ok(())
    }
}

//! Connections that come and go, very many: whether anything of them stays.

use std::time::Duration;

use clap::Args;

use super::{Sample, Scenario, Setup, charged, check_stream, sample};
use crate::contestant::{Data, Place, Side};
use crate::control::{Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};
use crate::target::Way;

/// Waves after which an allocator has what it keeps for the next one.
const WARM_UP: u32 = 8;

/// A great many connections that are opened, subscribe to a channel of their own, and are closed, wave by wave: how much memory is left
/// of them. A round measures from the beginning on, so that what grows shows; five rounds, the default, are a million.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Churn {
    /// Connections of a round, rounded up to whole waves.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Connections that are open at once: a wave.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub at_once: u32,
    /// Seconds after the last wave of a round, before memory is looked at: Switchboard's allocator gives most back after 10 s.
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub after: u64,
    /// Event streams in place of WebSockets.
    #[arg(long)]
    pub sse: bool,
}

/// Resident bytes before the first round, and connections so far.
pub struct Base {
    resident: u64,
    connections: u64,
}

impl Churn {
    fn waves(&self) -> u32 {
        self.connections.div_ceil(self.at_once)
    }
}

impl Scenario for Churn {
    type Open = Base;

    fn name(&self) -> &'static str {
        "churn"
    }

    fn parameters(&self) -> String {
        format!(
            "{} a round, {} at once",
            counted(self.waves().saturating_mul(self.at_once), "connection"),
            grouped(self.at_once.into())
        )
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        vec![
            "What stays is measured against the time before the first round, so a leak grows from round to round. The warm-up is eight waves."
                .to_owned(),
        ]
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        self.at_once.into()
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup {
            variant: if self.sse { "by SSE" } else { "" }.to_owned(),
            shards: 1,
            data: Data::None,
        }]
    }

    fn open(&self, _: &mut Coordinator, side: &Side, _: usize) -> Result<Base, Stopped> {
        check_stream(side, self.sse)?;
        Ok(Base {
            resident: 0,
            connections: 0,
        })
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        base: &mut Base,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let Some(meter) = side.meter else {
            return Err(Stopped::Failed(
                "its process is not known, so nothing of its memory: give --pid, or run the bench beside it"
                    .to_owned(),
            ));
        };
        let mut target = side.target.clone();
        if self.sse && !side.is_reference {
            target.way = Way::EventStream;
        }
        let wanted = Wanted {
            target,
            role: Role::Subscriber,
            count: self.at_once,
            rooms: Rooms {
                members: 1,
                first: 0,
                each: 1,
            },
            in_flight: 64,
        };
        let waves = if warm_up { WARM_UP } else { self.waves() };
        let begun = std::time::Instant::now();
        let ((), cpu_ns) = charged(side, || {
            for _ in 0..waves {
                let group = coordinator.open(&wanted)?;
                coordinator.close(group)?;
            }
            Ok(())
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        coordinator.wait("after closing", Duration::from_secs(self.after))?;
        let resident = meter.resident_bytes()?;
        if warm_up {
            base.resident = resident;
            return Ok(Vec::new());
        }
        let count = u64::from(waves) * u64::from(self.at_once);
        base.connections += count;
        let count = count as f64;
        let grown = resident as f64 - base.resident as f64;
        let mut samples = vec![
            sample("resident above the beginning", Unit::Bytes, grown),
            sample(
                "kept per former connection",
                Unit::Bytes,
                grown / base.connections as f64,
            ),
            sample("connections", Unit::PerSecond, count / seconds),
        ];
        if let Some(cpu_ns) = cpu_ns {
            let each = cpu_ns as f64 / count;
            samples.push(sample(
                "CPU per connection, its end included",
                Unit::Nanoseconds,
                each,
            ));
        }
        Ok(samples)
    }

    fn close(&self, _: &mut Coordinator, _: Base) -> Result<(), Stopped> {
        Ok(())
    }
}

//! Connections that come: what each costs, handshake included.

use clap::Args;

use super::{MANY, Sample, Scenario, Setup, charged, few, sample};
use crate::contestant::{Place, Side};
use crate::control::{Role, Rooms};
use crate::coordinator::{Coordinator, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};

/// Connections that come: what each costs the server, handshake included. Closing them is not counted.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Accept {
    /// Connections of a round.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Connections under way at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: u32,
}

impl Scenario for Accept {
    type Open = ();

    fn name(&self) -> &'static str {
        "accept"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {} under way at once",
            counted(self.connections, "connection"),
            grouped(self.in_flight.into())
        )
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        few(self.connections.into(), MANY, "connection")
            .into_iter()
            .collect()
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        self.connections.into()
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup::only()]
    }

    fn open(&self, _: &mut Coordinator, _: &Side, _: usize) -> Result<(), Stopped> {
        Ok(())
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        (): &mut (),
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let count = if warm_up {
            self.connections.div_ceil(2)
        } else {
            self.connections
        };
        let mut target = side.target.clone();
        // The handshake alone: nobody subscribes.
        target.path.clone_from(&target.publisher_path);
        let wanted = Wanted {
            target,
            role: Role::Silent,
            count,
            rooms: Rooms::ONE,
            in_flight: self.in_flight,
        };
        let begun = std::time::Instant::now();
        let (group, cpu_ns) = charged(side, || coordinator.open(&wanted))?;
        let seconds = begun.elapsed().as_secs_f64();
        coordinator.close(group)?;
        // The server notices, outside of what is measured.
        coordinator.wait("closing", std::time::Duration::from_millis(300))?;
        let mut samples = Vec::new();
        if let Some(cpu_ns) = cpu_ns {
            let each = cpu_ns as f64 / f64::from(count);
            samples.push(sample("CPU per connection", Unit::Nanoseconds, each));
        }
        samples.push(sample("connections", Unit::PerSecond, f64::from(count) / seconds));
        Ok(samples)
    }

    fn close(&self, _: &mut Coordinator, (): ()) -> Result<(), Stopped> {
        Ok(())
    }
}

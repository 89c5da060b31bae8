//! Messages that come back: what a request and its answer cost.

use clap::Args;

use super::{MANY, Sample, Scenario, Setup, charged, complete, distinct, few, latency_samples, sample};
use crate::contestant::{Data, Place, Side};
use crate::control::{Role, Rooms};
use crate::coordinator::{Coordinator, GroupId, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};

/// Bytes echoed in a round, if nothing else is asked for: 100,000 small messages, or as many large ones as weigh this.
const ECHOES: u64 = 100_000;
const BYTES: u64 = 400 << 20;

/// Messages that come back, every connection with one under way: what each costs the server.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Echo {
    /// Busy connections.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Bytes of a message, at least 35. Several: 64,65536.
    #[arg(long, value_name = "N", default_value = "64", value_delimiter = ',', value_parser = super::message_bytes)]
    pub bytes: Vec<usize>,
    /// Messages of a round; by default 100,000 small ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=super::MESSAGES_MAX))]
    pub echoes: Option<u64>,
}

impl Scenario for Echo {
    type Open = GroupId;

    fn name(&self) -> &'static str {
        "echo"
    }

    fn parameters(&self) -> String {
        let bytes: Vec<_> = self.bytes.iter().map(|bytes| grouped(*bytes as u64)).collect();
        format!(
            "{}, {} bytes",
            counted(self.connections, "busy connection"),
            bytes.join(" and ")
        )
    }

    fn check(&self) -> Result<(), String> {
        distinct("--bytes", &self.bytes)
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let fewest = self.echoes.unwrap_or(ECHOES);
        few(fewest, MANY, "echo").into_iter().collect()
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        self.connections.into()
    }

    fn setups(&self) -> Vec<Setup> {
        let several = self.bytes.len() > 1;
        let variant = |bytes: &usize| match several {
            true => format!("{} bytes", grouped(*bytes as u64)),
            false => String::new(),
        };
        self.bytes
            .iter()
            .map(|bytes| Setup {
                variant: variant(bytes),
                shards: 1,
                data: Data::None,
            })
            .collect()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, _: usize) -> Result<GroupId, Stopped> {
        if side.target.echo_path.is_none() {
            return Err(Stopped::Failed("it has no echo".to_owned()));
        }
        coordinator.open(&Wanted {
            target: side.target.clone(),
            role: Role::Echo,
            count: self.connections,
            rooms: Rooms::ONE,
            in_flight: 64,
        })
    }

    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        setup: usize,
        group: &mut GroupId,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        let bytes = self.bytes[setup];
        let default = ECHOES
            .min(BYTES / bytes.max(1) as u64)
            .max(u64::from(self.connections) * 2);
        let mut echoes = self.echoes.unwrap_or(default);
        if warm_up {
            echoes = echoes.div_ceil(4);
        }
        let (driven, cpu_ns) = charged(side, || {
            complete(coordinator.echo(*group, bytes, echoes)?, "echo")
        })?;
        let received = driven.received.max(1) as f64;
        let mut samples = Vec::new();
        if let Some(cpu_ns) = cpu_ns {
            samples.push(sample(
                "CPU per echo",
                Unit::Nanoseconds,
                cpu_ns as f64 / received,
            ));
        }
        samples.push(sample(
            "echoes",
            Unit::PerSecond,
            received * 1e9 / driven.elapsed_ns.max(1) as f64,
        ));
        samples.extend(latency_samples(&driven));
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, group: GroupId) -> Result<(), Stopped> {
        coordinator.close(group)
    }
}

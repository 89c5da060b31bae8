//! Members of one channel: what it costs that one more comes and goes, and the memory of those who are there.
//!
//! ```text
//!   once:      members come, in waves, and their connections go ─► rest ─► memory        (they stay for the grace period)
//!   a round:   visitors: join, leave, join, leave, …
//! ```
//!
//! A member is there for a while after its connection has vanished (`limits.presence_grace`), so there can be more members
//! than files, and their memory can be seen without that of connections.
//!
//! The reference knows no members. Its visitors say as many messages, and each comes back.

use std::time::Duration;

use clap::Args;

use super::{MANY, Sample, Scenario, Setup, charged, distinct, few, sample};
use crate::contestant::{Data, Place, Side};
use crate::control::{Role, Rooms};
use crate::coordinator::{Coordinator, GroupId, Stopped, Wanted};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};
use crate::target::Hello;

/// Connections of members that are open at once.
const WAVE: u32 = 10_000;
/// Time for a server to give back what connections had that are gone: 3 s, and what it takes to notice.
const REST: Duration = Duration::from_secs(6);
/// Time for it to notice that they are gone, where memory is no matter.
const NOTICE: Duration = Duration::from_secs(1);
/// With fewer members their memory is mostly what a process takes and gives back in large pieces.
const MEMORY_MEMBERS_MIN: u32 = 2_000;
/// Joins of a visitor, one after the other.
const JOINS_EACH: u32 = 50;

const JOIN: &str =
    r#"{"type":"subscribe","id":1,"channel":"{channel}","presence":"member","info":{"name":"member {n}"}}"#;
const LEAVE: &str = r#"{"type":"unsubscribe","id":2,"channel":"{channel}"}"#;
const WATCH: &str = r#"{"type":"subscribe","id":1,"channel":"{channel}","presence":"watch"}"#;

/// Members of one channel: what it costs the server that another comes and goes (a `subscribe` with presence and an `unsubscribe`,
/// with their answers), in a channel of few and of many, and the memory of each member. Beside it what two messages cost a bare
/// loop that sends them back. Only with --spawn: what is said below of other
/// servers is of other scenarios.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct Presence {
    /// Members of the channel. Several: 100,1000,20000.
    #[arg(long, value_name = "N", default_value = "100,1000,20000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub members: Vec<u32>,
    /// Sessions that hear who comes and goes.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub watchers: u32,
    /// Visitors of a round, each of whom joins and leaves 50 times, 64 of them at once.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub visitors: u32,
}

/// What stays open between rounds.
pub struct Open {
    watchers: Option<GroupId>,
    /// Of a member, where that could be seen.
    resident_each: Option<f64>,
}

impl Presence {
    fn wanted(side: &Side, count: u32, say: &[Hello]) -> Wanted {
        let mut target = side.target.clone();
        if side.is_reference
            && let Some(echo_path) = &target.echo_path
        {
            target.path.clone_from(echo_path);
        }
        target.subscribe = None;
        target.hello = say.to_vec();
        Wanted {
            target,
            role: Role::Subscriber,
            count,
            rooms: Rooms::ONE,
            in_flight: 64,
        }
    }

    /// Members who come, and whose connections go.
    fn fill(coordinator: &mut Coordinator, side: &Side, members: u32, rest: Duration) -> Result<(), Stopped> {
        let mut missing = members;
        while missing > 0 {
            let wave = missing.min(WAVE);
            let group = coordinator.open(&Presence::wanted(side, wave, &[Hello::new(JOIN)]))?;
            coordinator.close(group)?;
            missing -= wave;
            let time = if missing == 0 { rest } else { NOTICE };
            coordinator.wait("connections of members go", time)?;
        }
        let there = side.counter("presence_members")?;
        match there {
            Some(there) if there != u64::from(members) => Err(Stopped::Failed(format!(
                "{} of {} are there",
                grouped(there),
                counted(members, "member")
            ))),
            _ => Ok(()),
        }
    }
}

impl Scenario for Presence {
    type Open = Open;

    fn name(&self) -> &'static str {
        "presence"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {}, each joins and leaves {JOINS_EACH} times",
            counted(self.watchers, "watcher"),
            counted(self.visitors, "visitor")
        )
    }

    fn check(&self) -> Result<(), String> {
        distinct("--members", &self.members)
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        Some("presence")
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        let joins = u64::from(self.visitors) * u64::from(JOINS_EACH);
        let mut notes: Vec<_> = few(joins, MANY, "join and leave").into_iter().collect();
        if self.members.iter().any(|members| *members < MEMORY_MEMBERS_MIN) {
            notes.push(format!(
                "Memory is not told of fewer than {}.",
                counted(MEMORY_MEMBERS_MIN, "member")
            ));
        }
        notes
    }

    fn connections(&self, _: &Side, setup: usize) -> u64 {
        let most = self.members[setup].min(WAVE).max(self.visitors);
        u64::from(most) + u64::from(self.watchers)
    }

    fn setups(&self) -> Vec<Setup> {
        let members = self.members.iter();
        members
            .map(|members| Setup {
                variant: counted(*members, "member"),
                shards: 1,
                data: Data::None,
            })
            .collect()
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Open, Stopped> {
        if side.is_reference {
            return Ok(Open {
                watchers: None,
                resident_each: None,
            });
        }
        if side.target.subscribe.is_none() {
            let words = "presence has no words in the raw dialect: leave --dialect out";
            return Err(Stopped::Failed(words.to_owned()));
        }
        let members = self.members[setup];
        let is_weighed = members >= MEMORY_MEMBERS_MIN;
        let resident = || side.meter.map(|meter| meter.resident_bytes()).transpose();
        let mut resident_each = None;
        if is_weighed {
            // As many connections as of the largest wave: what these leave behind is there before.
            let others = Presence::wanted(side, members.min(WAVE), &[]);
            let group = coordinator.open(&others)?;
            coordinator.close(group)?;
            coordinator.wait("warming up", REST)?;
            let before = resident()?;
            Presence::fill(coordinator, side, members, REST)?;
            if let (Some(before), Some(after)) = (before, resident()?) {
                resident_each = Some(after.saturating_sub(before) as f64 / f64::from(members));
            }
        } else {
            Presence::fill(coordinator, side, members, NOTICE)?;
        }
        let watchers = match self.watchers {
            0 => None,
            // A list of who is there is the second answer.
            watchers => Some(coordinator.open(&Presence::wanted(
                side,
                watchers,
                &[Hello {
                    text: WATCH.to_owned(),
                    replies: 2,
                }],
            ))?),
        };
        Ok(Open {
            watchers,
            resident_each,
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
        let visitors = if warm_up {
            self.visitors.div_ceil(4)
        } else {
            self.visitors
        };
        let say: Vec<_> = (0..JOINS_EACH)
            .flat_map(|_| [Hello::new(JOIN), Hello::new(LEAVE)])
            .collect();
        let wanted = Presence::wanted(side, visitors, &say);
        let (group, cpu_ns) = charged(side, || coordinator.open(&wanted))?;
        coordinator.close(group)?;
        coordinator.wait("closing", NOTICE)?;
        let joins = f64::from(visitors) * f64::from(JOINS_EACH);
        let mut samples = Vec::new();
        if let Some(cpu_ns) = cpu_ns {
            let each = cpu_ns as f64 / joins;
            samples.push(sample("CPU per join and leave", Unit::Nanoseconds, each));
        }
        if let Some(each) = open.resident_each {
            samples.push(sample("resident per member", Unit::Bytes, each));
        }
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, open: Open) -> Result<(), Stopped> {
        match open.watchers {
            Some(watchers) => coordinator.close(watchers),
            None => Ok(()),
        }
    }
}

//! A server is killed and started again, and everyone comes back at once.
//!
//! ```text
//!   a round:   publish, acknowledged ──────── goes on, each message until it is acknowledged ────────►
//!                          kill, start ─► live: one channel of its own ──────────────────────────────►
//!                               everyone: waits, connects, resumes, has everything ─► rest
//! ```
//!
//! Everyone waits before it connects as the project's clients do: base 0.5 s, cap 30 s, full jitter from the first wait on. That is
//! part of the time that is measured, for the reference as well: it forgets everything when it is killed, so that its clients come
//! back to nothing but a handshake.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::{Sample, Scenario, Setup, percentile, sample};
use crate::api::Api;
use crate::contestant::{Data, Place, Side};
use crate::control::{Role, Rooms, Tally};
use crate::coordinator::{Coordinator, GroupId, Stopped, Wanted};
use crate::observer::{self, Observer};
use crate::report::Unit;
use crate::report::quantity::{counted, grouped};
use crate::stamp::Stamp;
use crate::target::Target;
use crate::worker::now_ns;

/// Subscribers of the channel whose latency is measured, which come after the restart.
const LIVE_SUBSCRIBERS: u32 = 5;
/// Nanoseconds between two of its messages.
const LIVE_INTERVAL_NS: u64 = 20_000_000;
/// Time for all to come back.
const BACK_MAX: Duration = Duration::from_secs(120);
/// Between two looks how far they are.
const LOOK: Duration = Duration::from_millis(50);
/// Before a message that was not acknowledged is said again.
const AGAIN: Duration = Duration::from_millis(10);

/// A server is killed (SIGKILL) and started again on its data while messages are published, and all its clients come back: how
/// long until each has resumed and has every message that was acknowledged. They connect again as Switchboard's clients do,
/// with a random wait that grows from 0.5 s to 30 s. Meanwhile, and for some seconds after it, the latency of one channel's
/// messages whose few subscribers were not among them. Only with --spawn: what is said below of other
/// servers is of other scenarios.
#[derive(Args, Clone, Debug)]
// Each flag by itself: the group that clap would make has the name of the subcommand's.
#[group(skip)]
pub struct RestartStorm {
    /// Clients.
    #[arg(long, value_name = "N", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// Channels, one for each client: at most as many as there are clients.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Messages of each channel in a round: half of them before the kill, the others from then on. At most 500.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub messages: u32,
    /// Bytes of a message, at least 35.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::message_bytes)]
    pub bytes: usize,
    /// Seconds after all have come back in which the latency is measured again, at most 600.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
}

/// What stays open between rounds.
pub struct Open {
    clients: GroupId,
    /// Messages of each channel so far.
    published: u32,
}

/// Publishes the messages of a round one after the other, each until it is acknowledged.
struct Publisher<'a> {
    api: Api,
    target: &'a Target,
    rooms: u32,
    bytes: usize,
    acknowledged: &'a AtomicU64,
    ended: &'a AtomicBool,
}

impl Publisher<'_> {
    fn run(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            for room in 0..self.rooms {
                let mut text = Vec::new();
                let stamp = Stamp {
                    publisher: room,
                    sequence: number,
                    due_ns: now_ns(),
                };
                stamp.write(self.bytes, &mut text);
                let text = String::from_utf8_lossy(&text);
                let (channel, key) = (self.target.channel(room), format!("{room}-{number}"));
                while self.api.publish(&channel, &key, &text).is_err() {
                    if self.ended.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(AGAIN);
                }
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What a kill came to.
struct Storm {
    /// From the kill to when the server listened again.
    listening_ns: u64,
    /// From the kill to when all had come back and had everything.
    back_ns: u64,
    attempts: u64,
    resident_before: Option<u64>,
    resident_max: Option<u64>,
    /// Due before everyone was back, and later.
    live: [Vec<(u64, u64)>; 2],
}

impl RestartStorm {
    /// Clients of one channel.
    fn members(&self) -> u32 {
        self.clients.div_ceil(self.rooms)
    }

    /// Channels that have clients.
    fn rooms(&self) -> u32 {
        self.clients.div_ceil(self.members())
    }

    /// Kills the server when half of what is published is acknowledged, and waits until everyone has everything.
    fn storm(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        open: &mut Open,
        acknowledged: &AtomicU64,
    ) -> Result<Storm, Stopped> {
        let resident = |side: &Side| side.meter.map(|meter| meter.resident_bytes()).transpose();
        let publishes = side.internal.is_some();
        let half = u64::from(self.messages / 2) * u64::from(self.rooms());
        let begun = Instant::now();
        while publishes && acknowledged.load(Ordering::Relaxed) < half {
            if begun.elapsed() > BACK_MAX {
                let words = "the server does not acknowledge what is published";
                return Err(Stopped::Failed(words.to_owned()));
            }
            coordinator.wait("publishing", AGAIN)?;
        }
        let resident_before = resident(side)?;
        let killed_ns = now_ns();
        side.restart()?;
        let listening_ns = now_ns() - killed_ns;
        let live = Observer::open(&observer::Wanted {
            target: side.target.clone(),
            // Behind those of the clients.
            room: self.rooms,
            subscribers: LIVE_SUBSCRIBERS,
            narrow: false,
            publish: Some(observer::Publish {
                bytes: self.bytes,
                interval_ns: LIVE_INTERVAL_NS,
            }),
            core: coordinator.core(),
        })?;
        let tally = self.await_back(coordinator, open)?;
        coordinator.wait("after it", Duration::from_secs(self.seconds.into()))?;
        let heard = live.heard();
        if let Some(lost) = heard.lost {
            return Err(Stopped::Failed(format!("a subscriber who came later: {lost}")));
        }
        if heard.disordered > 0 {
            let words = counted(heard.disordered, "message");
            return Err(Stopped::Failed(format!(
                "a subscriber who came later: {words} did not follow the one before"
            )));
        }
        let resident_max = side.meter.map(|meter| meter.resident_bytes_max()).transpose()?;
        let meanwhile = |(due_ns, _): &(u64, u64)| *due_ns <= tally.last_ns;
        let (during, after) = heard.latency.into_iter().partition(meanwhile);
        Ok(Storm {
            listening_ns,
            back_ns: tally.last_ns.saturating_sub(killed_ns),
            attempts: tally.attempts,
            resident_before,
            resident_max,
            live: [during, after],
        })
    }

    fn await_back(&self, coordinator: &mut Coordinator, open: &Open) -> Result<Tally, Stopped> {
        let begun = Instant::now();
        loop {
            let tally = coordinator.tally(open.clients)?;
            if let Some(fault) = self.fault(&tally, begun.elapsed() > BACK_MAX) {
                let words = tally.words.map(|words| format!(" (the last word: {words})"));
                return Err(Stopped::Failed(format!("{fault}{}", words.unwrap_or_default())));
            }
            if tally.done == self.clients {
                return Ok(tally);
            }
            coordinator.wait("coming back", LOOK)?;
        }
    }

    fn fault(&self, tally: &Tally, is_over: bool) -> Option<String> {
        if tally.missing > 0 {
            return Some(format!("{} left out", counted(tally.missing, "message")));
        }
        if tally.repeated > 0 {
            return Some(format!("{} came twice", counted(tally.repeated, "message")));
        }
        if tally.broken > 0 {
            return Some(format!("{} broken", counted(tally.broken, "resumption")));
        }
        let away = self.clients - tally.done.min(self.clients);
        (is_over && away > 0).then(|| {
            format!(
                "{} of {} had not come back with everything after {} s",
                grouped(away.into()),
                counted(self.clients, "client"),
                BACK_MAX.as_secs()
            )
        })
    }
}

impl Scenario for RestartStorm {
    type Open = Open;

    fn name(&self) -> &'static str {
        "restart-storm"
    }

    fn parameters(&self) -> String {
        format!(
            "{}, {}, {} of each in a round, {} bytes",
            counted(self.clients, "client"),
            counted(self.rooms(), "channel"),
            counted(self.messages, "message"),
            grouped(self.bytes as u64)
        )
    }

    fn check(&self) -> Result<(), String> {
        match self.rooms > self.clients {
            true => Err(format!("--rooms: there are {}", counted(self.clients, "client"))),
            false => Ok(()),
        }
    }

    fn needs_spawn(&self) -> Option<&'static str> {
        Some("restart-storm")
    }

    fn notes(&self, _: &Place) -> Vec<String> {
        vec![
            "Before each attempt a client waits a random time, at first up to 0.5 s, which is in these figures, the reference's as well. \
             The reference keeps nothing: its clients come back to a handshake."
                .to_owned(),
        ]
    }

    fn connections(&self, _: &Side, _: usize) -> u64 {
        u64::from(self.clients) + u64::from(LIVE_SUBSCRIBERS) + 1
    }

    fn setups(&self) -> Vec<Setup> {
        vec![Setup {
            data: Data::Interval,
            ..Setup::only()
        }]
    }

    fn open(&self, coordinator: &mut Coordinator, side: &Side, _: usize) -> Result<Open, Stopped> {
        let clients = Wanted {
            target: side.target.clone(),
            role: Role::Returning,
            count: self.clients,
            rooms: Rooms {
                members: self.members(),
                first: 0,
                each: 1,
            },
            in_flight: 64,
        };
        Ok(Open {
            clients: coordinator.open(&clients)?,
            published: 0,
        })
    }

    /// A warm-up would be a storm as well: there is none.
    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        _: usize,
        open: &mut Open,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped> {
        if warm_up {
            return Ok(Vec::new());
        }
        let numbers = open.published..open.published + self.messages;
        let publishes = side.internal;
        if publishes.is_some() {
            open.published = numbers.end;
        }
        coordinator.expect(open.clients, open.published)?;
        let (acknowledged, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let target = side.target.clone();
        let storm = std::thread::scope(|scope| {
            if let Some(internal) = publishes {
                let mut publisher = Publisher {
                    api: Api::new(internal),
                    target: &target,
                    rooms: self.rooms(),
                    bytes: self.bytes,
                    acknowledged: &acknowledged,
                    ended: &ended,
                };
                scope.spawn(move || publisher.run(numbers));
            }
            let storm = self.storm(coordinator, side, open, &acknowledged);
            ended.store(true, Ordering::Relaxed);
            storm
        })?;
        let [during, after] = &storm.live;
        let mut samples = vec![
            sample("all back after", Unit::Nanoseconds, storm.back_ns as f64),
            sample(
                "listens again after",
                Unit::Nanoseconds,
                storm.listening_ns as f64,
            ),
            sample(
                "attempts per client",
                Unit::Count,
                storm.attempts as f64 / f64::from(self.clients),
            ),
        ];
        for (what, latency, share) in [
            ("live p50, while they come back", during, 0.5),
            ("live p99, while they come back", during, 0.99),
            ("live p50, when all are back", after, 0.5),
            ("live p99, when all are back", after, 0.99),
        ] {
            let latency: Vec<_> = latency.iter().map(|(_, took_ns)| (*took_ns, 1)).collect();
            let value = percentile(&latency, share);
            samples.extend(value.map(|value| sample(what, Unit::Nanoseconds, value)));
        }
        if let (Some(before), Some(most)) = (storm.resident_before, storm.resident_max) {
            samples.push(sample("resident before the kill", Unit::Bytes, before as f64));
            samples.push(sample("most resident after it", Unit::Bytes, most as f64));
        }
        Ok(samples)
    }

    fn close(&self, coordinator: &mut Coordinator, open: Open) -> Result<(), Stopped> {
        coordinator.close(open.clients)
    }
}

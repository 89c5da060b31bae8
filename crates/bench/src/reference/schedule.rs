//! When which connection is pinged.
//!
//! A wheel for each period: a connection stays in one group of it, by its slot, and each tick it is the turn of the
//! next group. So a ping moves nothing, and the pings of a period are spread over it evenly.
//!
//! **The calling contract: while it is not empty, call [`poll_due`](Schedule::poll_due) at least once a [`TICK`] until
//! it returns `None`, and ping the members of each group that it returns.** Turns that were missed are made up for.

use std::time::Instant;

use rustix::event::Timespec;

use super::connection::Slot;
use super::groups::{Groups, Seat};
use super::request::Period;

/// Ticks in a second.
const TICKS_PER_SECOND: u32 = 10;

/// How coarse the time is.
pub(super) const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000_000 / TICKS_PER_SECOND as i64,
};

/// Different periods at a time; a load has one.
const WHEELS_MAX: usize = 16;

/// The wheels, and how far they were turned.
pub(super) struct Schedule {
    started: Instant,
    /// Of all wheels.
    pub(super) groups: Groups,
    wheels: Vec<Wheel>,
    connections: usize,
    /// The tick whose turns are being taken.
    tick: u64,
    /// The first wheel that did not have its turn at this tick.
    next_wheel: usize,
}

/// A period; its groups are numbered `first_group` and up, one for each tick of it.
struct Wheel {
    ticks: u32,
    first_group: u32,
}

impl Schedule {
    pub(super) fn starting_at(now: Instant) -> Self {
        Self {
            started: now,
            groups: Groups::default(),
            wheels: Vec::new(),
            connections: 0,
            tick: 0,
            next_wheel: 0,
        }
    }

    /// Nobody is pinged.
    pub(super) fn is_empty(&self) -> bool {
        self.connections == 0
    }

    /// Puts a connection on the wheel of its period; `None` if that would be one wheel too many.
    pub(super) fn join(&mut self, period: Period, slot: Slot, now: Instant) -> Option<Seat> {
        if self.is_empty() {
            // Nobody missed the turns since the last one left.
            self.tick = self.ticks_until(now);
            self.next_wheel = self.wheels.len();
        }
        let ticks = u32::from(period.seconds()) * TICKS_PER_SECOND;
        let wheel = match self.wheels.iter().find(|wheel| wheel.ticks == ticks) {
            Some(wheel) => wheel,
            None if self.wheels.len() == WHEELS_MAX => return None,
            None => {
                let first_group = self.wheels.last().map_or(0, |last| last.first_group + last.ticks);
                self.wheels.push(Wheel { ticks, first_group });
                self.wheels.last()?
            }
        };
        self.connections += 1;
        Some(self.groups.join(wheel.first_group + slot.0 % ticks, slot))
    }

    /// Takes a connection off its wheel; see [`Groups::leave`].
    pub(super) fn leave(&mut self, seat: Seat) -> Option<Slot> {
        self.connections -= 1;
        self.groups.leave(seat)
    }

    /// The next group whose turn has come.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<u32> {
        loop {
            if let Some(wheel) = self.wheels.get(self.next_wheel) {
                self.next_wheel += 1;
                let turn = self.tick % u64::from(wheel.ticks);
                return Some(wheel.first_group + turn as u32);
            }
            if self.tick >= self.ticks_until(now) {
                return None;
            }
            self.tick += 1;
            self.next_wheel = 0;
        }
    }

    fn ticks_until(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        elapsed.as_secs() * u64::from(TICKS_PER_SECOND)
            + u64::from(elapsed.subsec_millis() * TICKS_PER_SECOND / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// How often each connection is pinged from `from` to `until`, looked at every `step_ms` milliseconds.
    fn pings(schedule: &mut Schedule, ms: std::ops::Range<u64>, step_ms: usize) -> BTreeMap<u32, u32> {
        let mut pings = BTreeMap::new();
        for at_ms in ms.step_by(step_ms) {
            let now = schedule.started + Duration::from_millis(at_ms);
            while let Some(group) = schedule.poll_due(now) {
                for at in 0.. {
                    let Some(slot) = schedule.groups.member(group, at) else {
                        break;
                    };
                    *pings.entry(slot.0).or_default() += 1;
                }
            }
        }
        pings
    }

    fn seconds(seconds: u16) -> Period {
        Period::from_seconds(seconds).unwrap()
    }

    #[test]
    fn each_connection_has_its_turn_once_a_period() {
        for step_ms in [10, 100, 170, 900] {
            let start = Instant::now();
            let mut schedule = Schedule::starting_at(start);
            for slot in 0..50 {
                schedule.join(seconds(2), Slot(slot), start).unwrap();
            }
            schedule.join(seconds(5), Slot(50), start).unwrap();
            let pings = pings(&mut schedule, 0..20_001 + step_ms as u64, step_ms);
            for slot in 0..50 {
                assert!((10..=11).contains(&pings[&slot]), "slot {slot}: {}", pings[&slot]);
            }
            assert!((4..=5).contains(&pings[&50]), "slot 50: {}", pings[&50]);
        }
    }

    #[test]
    fn the_turns_of_a_period_are_spread_evenly() {
        let start = Instant::now();
        let mut schedule = Schedule::starting_at(start);
        for slot in 0..100 {
            schedule.join(seconds(1), Slot(slot), start).unwrap();
        }
        assert_eq!(pings(&mut schedule, 0..401, 100).len(), 50);
    }

    #[test]
    fn who_left_is_not_pinged_and_the_time_without_anyone_is_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::starting_at(start);
        let seat = schedule.join(seconds(1), Slot(3), start).unwrap();
        assert_eq!(schedule.leave(seat), None);
        assert!(schedule.is_empty());
        let later = start + Duration::from_secs(86_400);
        schedule.join(seconds(1), Slot(4), later).unwrap();
        let pings = pings(&mut schedule, 86_400_000..86_401_000, 100);
        assert_eq!(pings, BTreeMap::from([(4, 1)]));
    }

    #[test]
    fn one_period_too_many_is_refused() {
        let start = Instant::now();
        let mut schedule = Schedule::starting_at(start);
        for period in 1..=WHEELS_MAX as u16 {
            assert!(schedule.join(seconds(period), Slot(0), start).is_some());
        }
        assert!(schedule.join(seconds(99), Slot(0), start).is_none());
        assert!(schedule.join(seconds(1), Slot(1), start).is_some());
    }
}

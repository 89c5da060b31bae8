//! One coarse timer wheel per shard: heartbeats, deadlines, whatever a link must be looked at for.
//!
//! Coarse on purpose: everything it serves is measured in seconds, so one tick of 100 ms serves all and arming costs a push.

use std::time::Duration;

use switchboard_proto::time::Time;

/// Resolution. An entry fires at most this much late, plus the length of a turn.
pub const TICK: Duration = Duration::from_millis(100);
/// A deadline further away than the whole wheel (51 s) fires at its end and is armed again by its owner.
const SLOTS: usize = 512;

/// Names a link, and which of those that had the same slab key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkRef {
    /// Slab key.
    pub key: u32,
    /// Distinguishes successive owners of the key.
    pub generation: u32,
}

/// See the module.
pub struct Wheel {
    slots: Vec<Vec<LinkRef>>,
    /// The next tick to fire.
    tick: u64,
}

impl Wheel {
    /// Begins at `now`.
    pub fn new(now: Time) -> Wheel {
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            tick: tick_of(now) + 1,
        }
    }

    /// Fires `link` at `deadline` or at the end of the wheel, whichever is earlier; never before the next tick.
    pub fn arm(&mut self, link: LinkRef, deadline: Time) {
        // The tick after the deadline: nothing fires early.
        let tick = (tick_of(deadline) + 1).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        self.slots[(tick % SLOTS as u64) as usize].push(link);
    }

    /// Appends what is due at `now` to `due`.
    pub fn poll(&mut self, now: Time, due: &mut Vec<LinkRef>) {
        let current = tick_of(now);
        // After a long stall every slot is due, but none twice.
        let ticks = (current + 1).saturating_sub(self.tick).min(SLOTS as u64);
        for tick in self.tick..self.tick + ticks {
            let slot = &mut self.slots[(tick % SLOTS as u64) as usize];
            due.append(slot);
            if slot.capacity() > 64 {
                *slot = Vec::new();
            }
        }
        self.tick = self.tick.max(current + 1);
    }
}

fn tick_of(time: Time) -> u64 {
    time.nanoseconds() / TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    fn link(key: u32) -> LinkRef {
        LinkRef { key, generation: 0 }
    }

    fn due(wheel: &mut Wheel, now: Time) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.poll(now, &mut due);
        due.iter().map(|link| link.key).collect()
    }

    #[test]
    fn entries_fire_once_not_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(link(1), at(250));
        wheel.arm(link(2), at(0));
        wheel.arm(link(3), at(25_000));
        assert_eq!(due(&mut wheel, at(50)), [0; 0]);
        assert_eq!(due(&mut wheel, at(150)), [2]);
        assert_eq!(due(&mut wheel, at(299)), [0; 0]);
        assert_eq!(due(&mut wheel, at(300)), [1]);
        assert_eq!(due(&mut wheel, at(24_999)), [0; 0]);
        assert_eq!(due(&mut wheel, at(25_100)), [3]);
        assert_eq!(due(&mut wheel, at(500_000)), [0; 0]);
    }

    #[test]
    fn a_far_deadline_fires_at_the_end_of_the_wheel() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(link(1), at(3_600_000));
        assert_eq!(due(&mut wheel, at(51_000)), [0; 0]);
        assert_eq!(due(&mut wheel, at(51_300)), [1]);
    }

    #[test]
    fn a_stall_longer_than_the_wheel_fires_everything_once() {
        let mut wheel = Wheel::new(at(0));
        for key in 0..100 {
            wheel.arm(link(key), at(u64::from(key) * 500));
        }
        assert_eq!(due(&mut wheel, at(1_000_000)).len(), 100);
        wheel.arm(link(7), at(1_000_100));
        assert_eq!(due(&mut wheel, at(1_000_200)), [7]);
    }
}

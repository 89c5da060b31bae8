//! One coarse timer wheel per shard: heartbeats, deadlines, whatever a link must be looked at for.
//!
//! Coarse on purpose: everything it serves is measured in seconds, so one tick of 100 ms serves all and arming costs a push.
//! Nothing is ever taken out: an entry whose deadline has moved fires all the same, and [`Armed`] tells that it means
//! nothing any more.

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

/// What one link knows of its entries in the wheel: only the earliest one counts.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    at: Time,
}

impl Armed {
    /// No entry.
    pub const NOT: Armed = Armed {
        at: Time::from_nanoseconds(u64::MAX),
    };

    /// An entry fires at `now`. Says whether it is the one that counts, which is used up then.
    pub fn fires(&mut self, now: Time) -> bool {
        // An older entry, or a second one of the same tick. Were it taken for the one that counts, its link would be armed
        // once more, and every moved deadline would leave one entry more in the wheel for ever.
        let counts = now >= self.at;
        if counts {
            *self = Armed::NOT;
        }
        counts
    }
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

    /// Fires `link` at `deadline` or at the end of the wheel, whichever is earlier; never before the next tick. Does
    /// nothing if it fires by then anyway.
    pub fn arm(&mut self, link: LinkRef, armed: &mut Armed, deadline: Time) {
        if deadline >= armed.at {
            return;
        }
        // The tick after the deadline: nothing fires early.
        let tick = (tick_of(deadline) + 1).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        self.slots[(tick % SLOTS as u64) as usize].push(link);
        armed.at = deadline.min(time_of(tick));
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

fn time_of(tick: u64) -> Time {
    Time::from_nanoseconds(tick.saturating_mul(TICK.as_nanos() as u64))
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

    fn arm(wheel: &mut Wheel, key: u32, deadline: Time) {
        wheel.arm(link(key), &mut Armed::NOT.clone(), deadline);
    }

    #[test]
    fn entries_fire_once_not_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(at(0));
        arm(&mut wheel, 1, at(250));
        arm(&mut wheel, 2, at(0));
        arm(&mut wheel, 3, at(25_000));
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
        arm(&mut wheel, 1, at(3_600_000));
        assert_eq!(due(&mut wheel, at(51_000)), [0; 0]);
        assert_eq!(due(&mut wheel, at(51_300)), [1]);
    }

    #[test]
    fn a_stall_longer_than_the_wheel_fires_everything_once() {
        let mut wheel = Wheel::new(at(0));
        for key in 0..100 {
            arm(&mut wheel, key, at(u64::from(key) * 500));
        }
        assert_eq!(due(&mut wheel, at(1_000_000)).len(), 100);
        arm(&mut wheel, 7, at(1_000_100));
        assert_eq!(due(&mut wheel, at(1_000_200)), [7]);
    }

    #[test]
    fn deadlines_that_move_leave_nothing_behind() {
        // A link whose heartbeat is far away and whose socket stalls for a moment, again and again.
        let (mut wheel, mut armed) = (Wheel::new(at(0)), Armed::NOT);
        let mut heartbeats = 0;
        let mut heartbeat = at(25_000);
        for second in 0..1_000 {
            let now = at(second * 1_000);
            for _ in due(&mut wheel, now) {
                if armed.fires(now) {
                    if now >= heartbeat {
                        heartbeats += 1;
                        heartbeat = now + Duration::from_secs(25);
                    }
                    wheel.arm(link(0), &mut armed, heartbeat);
                }
            }
            wheel.arm(link(0), &mut armed, now + Duration::from_millis(500));
        }
        assert!(heartbeats >= 38, "{heartbeats} heartbeats of 25 s in 1,000 s");
        let left: usize = wheel.slots.iter().map(Vec::len).sum();
        assert!(left <= 30, "{left} entries of one link");
    }

    #[test]
    fn an_entry_at_the_end_of_the_wheel_counts() {
        let (mut wheel, mut armed) = (Wheel::new(at(0)), Armed::NOT);
        wheel.arm(link(0), &mut armed, at(3_600_000));
        wheel.arm(link(0), &mut armed, at(3_600_000));
        assert_eq!(due(&mut wheel, at(51_300)), [0], "once");
        assert!(armed.fires(at(51_300)));
        assert!(!armed.fires(at(51_300)), "it is used up");
    }
}

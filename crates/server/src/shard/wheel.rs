//! One coarse timer wheel per shard: heartbeats, deadlines, whatever a link must be looked at for.
//!
//! Coarse on purpose: everything it serves is measured in seconds, so one tick of 100 ms serves all and arming costs a push.
//! Ticks at which nothing is due need not come: a thread that is woken for nothing costs as much as several heartbeats.
//! Nothing is ever taken out. The wheel knows for every link which of its entries counts and when it wants to be looked at:
//! an entry whose deadline has moved away is moved after it without a look at the link, which is memory that nobody has
//! touched for seconds. Nearly every deadline moves: the one for the answer to a ping does when the answer comes.

use std::time::Duration;

use switchboard_proto::time::Time;

/// Resolution. An entry fires at most two of these late, plus the length of a turn; how soon what has fired is looked at is
/// the caller's.
pub const TICK: Duration = Duration::from_millis(100);
/// A deadline further away than the whole wheel (51 s) is moved at its end.
const SLOTS: usize = 512;
/// Room for entries that a slot keeps when it is empty. All slots: 1 MiB.
const SLOT_KEPT: usize = 256;

/// Names a link, and which of those that had the same slab key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkRef {
    /// Slab key.
    pub key: u32,
    /// Distinguishes successive owners of the key.
    pub generation: u32,
}

/// What is known of one link.
#[derive(Clone, Copy, Debug)]
struct Armed {
    generation: u32,
    /// The tick of its earliest entry, which is the one that counts; [`NO_ENTRY`] without one.
    entry: u64,
    /// The tick in which it is to be looked at: that of the entry, or a later one.
    wanted: u64,
}

const NO_ENTRY: u64 = u64::MAX;

impl Armed {
    fn new(generation: u32) -> Armed {
        Armed {
            generation,
            entry: NO_ENTRY,
            wanted: NO_ENTRY,
        }
    }
}

/// See the module.
pub struct Wheel {
    slots: Vec<Vec<LinkRef>>,
    /// By slab key.
    armed: Vec<Armed>,
    /// The next tick to fire.
    tick: u64,
    /// Empty between two polls.
    moved: Vec<LinkRef>,
    /// The tick at which to poll next; never later than the first one that has an entry.
    alarm: u64,
}

impl Wheel {
    /// Begins at `now`.
    pub fn new(now: Time) -> Wheel {
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            armed: Vec::new(),
            tick: tick_of(now) + 1,
            moved: Vec::new(),
            alarm: tick_of(now) + 1,
        }
    }

    /// Fires `link` at `deadline`, in place of what was said of it before; never before the next tick.
    pub fn arm(&mut self, link: LinkRef, deadline: Time) {
        // The tick after the deadline: nothing fires early.
        let wanted = (tick_of(deadline) + 1).max(self.tick);
        let key = link.key as usize;
        if key >= self.armed.len() {
            self.armed.resize(key + 1, Armed::new(link.generation));
        }
        if self.armed[key].generation != link.generation {
            self.armed[key] = Armed::new(link.generation);
        }
        self.armed[key].wanted = wanted;
        if wanted < self.armed[key].entry {
            self.enter(link);
        }
    }

    /// Appends what is due at `now` to `due`. Each has to be armed again to fire again.
    pub fn poll(&mut self, now: Time, due: &mut Vec<LinkRef>) {
        let current = tick_of(now);
        // After a long stall every slot is due, but none twice.
        let ticks = (current + 1).saturating_sub(self.tick).min(SLOTS as u64);
        let mut moved = std::mem::take(&mut self.moved);
        for tick in self.tick..self.tick + ticks {
            let mut slot = std::mem::take(&mut self.slots[(tick % SLOTS as u64) as usize]);
            for link in slot.drain(..) {
                let Some(armed) = self.armed.get_mut(link.key as usize) else {
                    continue;
                };
                // Of one who had the key before, or an older one of the same link, or a second one of this tick.
                if armed.generation != link.generation || armed.entry != tick {
                    continue;
                }
                armed.entry = NO_ENTRY;
                if armed.wanted > current {
                    moved.push(link);
                } else {
                    due.push(link);
                }
            }
            if slot.capacity() <= SLOT_KEPT {
                self.slots[(tick % SLOTS as u64) as usize] = slot;
            }
        }
        self.tick = self.tick.max(current + 1);
        // Only now: a slot that is still to be emptied is no place for the future.
        for link in moved.drain(..) {
            self.enter(link);
        }
        self.moved = moved;
    }

    /// When to poll next. Arming may make it earlier.
    pub fn alarm(&self) -> Time {
        Time::ZERO + TICK * u32::try_from(self.alarm).unwrap_or(u32::MAX)
    }

    /// Moves the alarm to the next tick that has an entry, or `ticks` away if that is earlier.
    pub fn rest(&mut self, ticks: u64) {
        let is_free = |tick: &u64| self.slots[(tick % SLOTS as u64) as usize].is_empty();
        let free = (self.tick..)
            .take_while(is_free)
            .take(ticks.saturating_sub(1) as usize);
        self.alarm = self.tick + free.count() as u64;
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = Vec::new());
        self.armed = Vec::new();
        self.moved = Vec::new();
    }

    /// Makes the entry that counts: at the tick that the link wants, or at the end of the wheel.
    fn enter(&mut self, link: LinkRef) {
        let armed = &mut self.armed[link.key as usize];
        armed.entry = armed.wanted.min(self.tick + SLOTS as u64 - 1);
        self.alarm = self.alarm.min(armed.entry);
        self.slots[(armed.entry % SLOTS as u64) as usize].push(link);
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

    fn entries(wheel: &Wheel) -> usize {
        wheel.slots.iter().map(Vec::len).sum()
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
    fn the_newest_deadline_counts_whichever_way_it_moved() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(link(1), at(10_000));
        wheel.arm(link(1), at(25_000));
        wheel.arm(link(2), at(25_000));
        wheel.arm(link(2), at(10_000));
        assert_eq!(due(&mut wheel, at(10_100)), [2]);
        assert_eq!(due(&mut wheel, at(25_000)), [0; 0]);
        assert_eq!(due(&mut wheel, at(25_100)), [1]);
        assert_eq!(due(&mut wheel, at(100_000)), [0; 0]);
    }

    #[test]
    fn a_deadline_behind_the_end_of_the_wheel_fires_when_it_comes() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(link(1), at(3_600_000));
        for second in 1..3_600 {
            assert_eq!(due(&mut wheel, at(second * 1_000)), [0; 0]);
        }
        assert_eq!(due(&mut wheel, at(3_600_100)), [1]);
    }

    #[test]
    fn a_stall_longer_than_the_wheel_fires_everything_once_and_nothing_early() {
        let mut wheel = Wheel::new(at(0));
        for key in 0..100 {
            wheel.arm(link(key), at(u64::from(key) * 500));
        }
        wheel.arm(link(100), at(1_030_000));
        assert_eq!(due(&mut wheel, at(1_000_000)).len(), 100);
        wheel.arm(link(7), at(1_000_100));
        assert_eq!(due(&mut wheel, at(1_000_200)), [7]);
        assert_eq!(due(&mut wheel, at(1_030_000)), [0; 0]);
        assert_eq!(due(&mut wheel, at(1_030_100)), [100]);
    }

    #[test]
    fn the_alarm_is_at_the_first_entry_or_where_the_rest_ends() {
        let mut wheel = Wheel::new(at(0));
        wheel.rest(5);
        assert_eq!(wheel.alarm(), at(500));
        wheel.arm(link(1), at(25_000));
        assert_eq!(wheel.alarm(), at(500));
        wheel.arm(link(2), at(150));
        assert_eq!(wheel.alarm(), at(200));
        assert_eq!(due(&mut wheel, at(200)), [2]);
        wheel.rest(1);
        assert_eq!(wheel.alarm(), at(300));
        wheel.rest(5);
        assert_eq!(wheel.alarm(), at(700));
        assert_eq!(due(&mut wheel, at(24_900)), [0; 0]);
        wheel.rest(5);
        assert_eq!(wheel.alarm(), at(25_100));
        assert_eq!(due(&mut wheel, at(25_100)), [1]);
    }

    #[test]
    fn deadlines_that_move_leave_nothing_behind() {
        // A link whose heartbeat is far away and whose socket stalls for a moment, again and again.
        let mut wheel = Wheel::new(at(0));
        let mut heartbeats = 0;
        let mut heartbeat = at(25_000);
        for second in 0..1_000 {
            let now = at(second * 1_000);
            for _ in due(&mut wheel, now) {
                if now >= heartbeat {
                    heartbeats += 1;
                    heartbeat = now + Duration::from_secs(25);
                }
                wheel.arm(link(0), heartbeat);
            }
            wheel.arm(link(0), now + Duration::from_millis(500));
        }
        assert!(heartbeats >= 38, "{heartbeats} heartbeats of 25 s in 1,000 s");
        let left = entries(&wheel);
        assert!(left <= 30, "{left} entries of one link");
    }

    #[test]
    fn who_has_a_key_after_another_one_has_deadlines_of_its_own() {
        let mut wheel = Wheel::new(at(0));
        let (former, latter) = (
            link(3),
            LinkRef {
                key: 3,
                generation: 1,
            },
        );
        wheel.arm(former, at(1_000));
        wheel.arm(latter, at(5_000));
        assert_eq!(due(&mut wheel, at(1_100)), [0; 0]);
        assert_eq!(due(&mut wheel, at(5_100)), [3]);
        wheel.arm(latter, at(9_000));
        wheel.clear();
        assert_eq!(entries(&wheel), 0);
        assert_eq!(due(&mut wheel, at(20_000)), [0; 0]);
    }
}

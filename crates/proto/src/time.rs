//! Time as a value: integer nanoseconds since a start that the caller chose.
//!
//! Nothing in this crate reads a clock. The shell reads its monotonic clock once per turn and hands the value down.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in nanoseconds since the caller's start. Monotonic; says nothing about the date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time(u64);

impl Time {
    /// The caller's start.
    pub const ZERO: Time = Time(0);

    /// The moment `nanoseconds` after the start.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Time {
        Time(nanoseconds)
    }

    /// Nanoseconds since the start.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// How long `self` is after `earlier`; zero if it is not.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates after 584 years.
    fn add(self, duration: Duration) -> Time {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanoseconds))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Saturates at the start.
    fn sub(self, duration: Duration) -> Time {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_sub(nanoseconds))
    }
}

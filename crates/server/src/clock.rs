//! The one place that reads clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchboard_proto::time::Time;
use tokio::time::Instant;

/// Time is counted from so long before the start of the process, so that what an earlier process has left can be as old as it is. The
/// oldest that settings allow is a year.
const BEFORE: Duration = Duration::from_secs(2 * 366 * 86_400);

/// Monotonic time, the runtime's: where that stands still, this does. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    unix_ms: fn() -> u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock::with_calendar(unix_ms)
    }

    /// Starts now, with another answer to what day it is.
    pub fn with_calendar(unix_ms: fn() -> u64) -> Clock {
        Clock {
            start: Instant::now(),
            unix_ms,
        }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time::ZERO + (BEFORE + self.start.elapsed())
    }

    /// A time as an instant, for timers.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.since(Time::ZERO + BEFORE)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, by the system's clock.
    pub fn unix_ms(&self) -> u64 {
        (self.unix_ms)()
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, by the system's clock.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

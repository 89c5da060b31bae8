//! One clock for everybody who writes a log: microseconds since the run began, by `CLOCK_MONOTONIC`, which Node's
//! `process.hrtime.bigint()` reads too.

use rustix::time::{ClockId, clock_gettime};

/// The clock of a run. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    origin_ns: u64,
}

impl RunClock {
    /// The run begins now.
    pub fn start() -> RunClock {
        RunClock {
            origin_ns: monotonic_ns(),
        }
    }

    /// When it began, for other processes of this machine.
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// Microseconds since it began.
    pub fn micros(&self) -> u64 {
        monotonic_ns().saturating_sub(self.origin_ns) / 1_000
    }
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Since the machine was started, so neither is negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

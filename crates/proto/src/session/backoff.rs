//! Exponential backoff with full jitter: how a client waits before it connects again.

use std::time::Duration;

/// How long to wait between attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Upper bound of the first wait. Default 0.5 s.
    pub base: Duration,
    /// Upper bound of every wait. Default 30 s.
    pub cap: Duration,
    attempt: u32,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            attempt: 0,
        }
    }
}

impl Backoff {
    /// The wait before the next attempt: uniform between zero and min(cap, base × 2^attempt), from the first one on, so
    /// that clients which lost the same server do not come back at the same moment. `random` is uniform over `u32`.
    pub fn next_wait(&mut self, random: u32) -> Duration {
        let factor = 1u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(factor).min(self.cap);
        self.attempt = (self.attempt + 1).min(31);
        let nanoseconds = bound.as_nanos() * u128::from(random) / u128::from(u32::MAX);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How many waits there have been since the last reset.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A connection has lasted: begin anew.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_jittered_from_the_first() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..9).map(|_| backoff.next_wait(u32::MAX).as_millis()).collect();
        assert_eq!(
            longest,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        );
        backoff.reset();
        assert_eq!(backoff.next_wait(0), Duration::ZERO);
        assert_eq!(backoff.next_wait(u32::MAX / 2).as_millis(), 499);
        for _ in 0..100 {
            assert!(backoff.next_wait(u32::MAX) <= Duration::from_secs(30));
        }
    }
}

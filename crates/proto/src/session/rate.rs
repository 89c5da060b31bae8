//! A rate limit in one number: the generic cell rate algorithm.

use std::time::Duration;

use crate::limits::Rate;
use crate::time::Time;

/// Meters one peer against one [`Rate`]. Holds only the moment at which the peer's credit will be whole again.
#[derive(Clone, Copy, Default, Debug)]
pub struct Meter {
    whole_at: Time,
}

impl Meter {
    /// Takes `units` at `now`, or tells how long until they can be had. Units that exceed the burst are taken from a
    /// whole credit, so that one large message is late but not impossible.
    pub fn take(&mut self, now: Time, units: u32, rate: Rate) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Ok(());
        }
        let cost =
            |units: u32| Duration::from_nanos(u64::from(units) * 1_000_000_000 / u64::from(rate.per_second));
        let start = self.whole_at.max(now);
        let credit_after = start + cost(units);
        let allowed_until = now + cost(rate.burst.max(units));
        if credit_after > allowed_until {
            return Err(credit_after.since(allowed_until));
        }
        self.whole_at = credit_after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut meter = Meter::default();
        for _ in 0..3 {
            assert_eq!(meter.take(at(0), 1, RATE), Ok(()));
        }
        assert_eq!(meter.take(at(0), 1, RATE), Err(Duration::from_millis(100)));
        assert_eq!(meter.take(at(40), 1, RATE), Err(Duration::from_millis(60)));
        assert_eq!(meter.take(at(100), 1, RATE), Ok(()));
        assert_eq!(meter.take(at(100), 1, RATE), Err(Duration::from_millis(100)));
        for _ in 0..3 {
            assert_eq!(
                meter.take(at(5_000), 1, RATE),
                Ok(()),
                "a pause gives the burst back, not more"
            );
        }
        assert!(meter.take(at(5_000), 1, RATE).is_err());
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let mut meter = Meter::default();
        for _ in 0..3 {
            assert_eq!(meter.take(at(0), 1, RATE), Ok(()));
        }
        for _ in 0..1_000 {
            assert!(meter.take(at(50), 1, RATE).is_err());
        }
        assert_eq!(meter.take(at(100), 1, RATE), Ok(()));
    }

    #[test]
    fn more_than_the_burst_at_once_waits_for_a_whole_credit() {
        let mut meter = Meter::default();
        assert_eq!(meter.take(at(0), 30, RATE), Ok(()));
        assert_eq!(meter.take(at(0), 1, RATE), Err(Duration::from_millis(2_800)));
        assert_eq!(meter.take(at(0), 1, Rate::UNLIMITED), Ok(()));
    }
}

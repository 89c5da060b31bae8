//! Heartbeat: whoever has been silent for the ping interval is asked, whoever does not answer is dead.
//!
//! Anything that arrives counts as a sign of life, so a busy peer is never pinged.
//!
//! ```text
//!            anything arrives                 silent for the interval
//!   Quiet ◄──────────────────── Asked ◄───────────────────────────── Quiet
//!                                 │ nothing for the pong timeout
//!                                 ▼
//!                               Dead
//! ```

use std::time::Duration;

use crate::time::Time;

/// The liveness of one peer.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// When the peer was heard last, or was asked.
    since: Time,
    /// In milliseconds: 49 days are enough.
    interval_ms: u32,
    asked: bool,
}

/// What a [`Heartbeat`] wants at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// Nothing until this moment.
    Wait(Time),
    /// Send a ping now.
    Ping,
    /// The peer is dead.
    Dead,
}

impl Heartbeat {
    /// Begins at `now`. `jitter` (0 to 255) places this peer's interval within ± 20 % of `interval`, so that peers which
    /// arrived together do not answer together for ever.
    pub fn new(now: Time, interval: Duration, jitter: u8) -> Heartbeat {
        let thousandths = 800 + u64::from(jitter) * 400 / 255;
        let interval_ms = u64::try_from(interval.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(thousandths)
            / 1_000;
        Heartbeat {
            since: now,
            interval_ms: u32::try_from(interval_ms).unwrap_or(u32::MAX),
            asked: false,
        }
    }

    /// Something arrived.
    pub fn handle_heard(&mut self, now: Time) {
        self.since = now;
        self.asked = false;
    }

    /// A ping that [`Heartbeat::poll`] asked for is on its way. From now on, however late that is, the peer has the whole
    /// pong timeout.
    pub fn handle_pinged(&mut self, now: Time) {
        self.since = now;
        self.asked = true;
    }

    /// When [`Heartbeat::poll`] will want something.
    pub fn deadline(&self, pong_timeout: Duration) -> Time {
        let wait = match self.asked {
            true => pong_timeout,
            false => Duration::from_millis(u64::from(self.interval_ms)),
        };
        self.since + wait
    }

    /// What is to be done at `now`.
    pub fn poll(&self, now: Time, pong_timeout: Duration) -> Beat {
        let deadline = self.deadline(pong_timeout);
        match self.asked {
            _ if now < deadline => Beat::Wait(deadline),
            false => Beat::Ping,
            true => Beat::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PONG: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_asked_and_then_dead() {
        let mut heartbeat = Heartbeat::new(at(0), Duration::from_secs(25), 127);
        let ping_at = heartbeat.deadline(PONG);
        assert!(at(24) < ping_at && ping_at < at(26));
        assert_eq!(heartbeat.poll(at(24), PONG), Beat::Wait(ping_at));
        assert_eq!(heartbeat.poll(at(26), PONG), Beat::Ping);
        heartbeat.handle_pinged(at(26));
        assert_eq!(heartbeat.poll(at(26), PONG), Beat::Wait(at(36)));
        assert_eq!(heartbeat.poll(at(36), PONG), Beat::Dead);
    }

    #[test]
    fn a_ping_that_went_late_leaves_the_whole_time_for_its_answer() {
        let mut heartbeat = Heartbeat::new(at(0), Duration::from_secs(25), 127);
        // The process was stopped for an hour.
        assert_eq!(heartbeat.poll(at(3_600), PONG), Beat::Ping);
        heartbeat.handle_pinged(at(3_600));
        assert_eq!(heartbeat.poll(at(3_600), PONG), Beat::Wait(at(3_610)));
        assert_eq!(heartbeat.poll(at(3_610), PONG), Beat::Dead);
    }

    #[test]
    fn anything_that_arrives_is_a_sign_of_life() {
        let mut heartbeat = Heartbeat::new(at(0), Duration::from_secs(25), 127);
        heartbeat.handle_heard(at(20));
        assert!(matches!(heartbeat.poll(at(40), PONG), Beat::Wait(_)));
        assert_eq!(heartbeat.poll(at(46), PONG), Beat::Ping);
        heartbeat.handle_pinged(at(46));
        heartbeat.handle_heard(at(50));
        assert!(matches!(heartbeat.poll(at(60), PONG), Beat::Wait(_)));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let deadline = |jitter| Heartbeat::new(at(0), Duration::from_secs(25), jitter).deadline(PONG);
        assert_eq!(deadline(0), at(20));
        assert_eq!(deadline(255), at(30));
    }
}

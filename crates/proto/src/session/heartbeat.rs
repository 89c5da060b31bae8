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
    heard_at: Time,
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
            heard_at: now,
            interval_ms: u32::try_from(interval_ms).unwrap_or(u32::MAX),
            asked: false,
        }
    }

    /// Something arrived.
    pub fn handle_heard(&mut self, now: Time) {
        self.heard_at = now;
        self.asked = false;
    }

    /// A ping that [`Heartbeat::poll`] asked for is on its way.
    pub fn handle_pinged(&mut self) {
        self.asked = true;
    }

    /// When [`Heartbeat::poll`] will want something.
    pub fn deadline(&self, pong_timeout: Duration) -> Time {
        let silent = self.heard_at + Duration::from_millis(u64::from(self.interval_ms));
        if self.asked { silent + pong_timeout } else { silent }
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
        heartbeat.handle_pinged();
        assert_eq!(heartbeat.poll(at(26), PONG), Beat::Wait(ping_at + PONG));
        assert_eq!(heartbeat.poll(at(36), PONG), Beat::Dead);
    }

    #[test]
    fn anything_that_arrives_is_a_sign_of_life() {
        let mut heartbeat = Heartbeat::new(at(0), Duration::from_secs(25), 127);
        heartbeat.handle_heard(at(20));
        assert!(matches!(heartbeat.poll(at(40), PONG), Beat::Wait(_)));
        assert_eq!(heartbeat.poll(at(46), PONG), Beat::Ping);
        heartbeat.handle_pinged();
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

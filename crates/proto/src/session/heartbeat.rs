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
    /// arrived together and have different ones do not answer together for ever.
    pub fn new(now: Time, interval: Duration, jitter: u8) -> Heartbeat {
        // The rest of the 20 % is what a wave is away.
        let thousandths = 840 + u64::from(jitter) * 320 / 255;
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
        if self.asked {
            return self.since + pong_timeout;
        }
        let interval = Duration::from_millis(u64::from(self.interval_ms));
        nearest_wave(self.since + interval, interval)
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

/// The moment next to `wanted` that it shares with others: at most a 32nd of the interval away.
///
/// Hundreds of pings in a row cost less than the same number one by one, between which everything gets cold and all threads
/// fall asleep.
fn nearest_wave(wanted: Time, interval: Duration) -> Time {
    let shortest = (interval.as_nanos() / 16).max(1);
    // A power of two, so that different intervals have waves in common. An interval is at most 49 days.
    let between = 1 << shortest.ilog2();
    let nanoseconds = wanted.nanoseconds().saturating_add(between / 2);
    Time::from_nanoseconds(nanoseconds & !(between - 1))
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
    fn jitter_stays_within_a_fifth_and_reaches_a_sixth() {
        let wait = |jitter, from: Time| {
            let heartbeat = Heartbeat::new(from, Duration::from_secs(25), jitter);
            heartbeat.deadline(PONG).since(from).as_secs_f64()
        };
        let from = |step: u64| Time::from_nanoseconds(step * 77_777_777);
        let waits = || (0..=255).flat_map(|jitter| (0..100).map(move |step| wait(jitter, from(step))));
        assert!(waits().all(|wait| (20.0..=30.0).contains(&wait)));
        assert!(waits().any(|wait| wait < 21.5) && waits().any(|wait| wait > 28.5));
        let mean = waits().sum::<f64>() / waits().count() as f64;
        assert!((24.9..25.1).contains(&mean), "{mean} s");
    }

    #[test]
    fn who_arrived_at_different_times_is_asked_in_common_waves() {
        let mut waves: Vec<Time> = (0..1_000)
            .map(|number: u64| {
                let from = Time::from_nanoseconds(number * 9_999_999);
                Heartbeat::new(from, Duration::from_secs(25), number as u8).deadline(PONG)
            })
            .collect();
        waves.sort_unstable();
        waves.dedup();
        assert!(waves.len() < 25, "{} waves in 20 s", waves.len());
        let gaps = || waves.windows(2).map(|pair| pair[1].since(pair[0]));
        assert!(gaps().all(|gap| gap >= Duration::from_secs(1)));
    }

    #[test]
    fn the_shortest_interval_still_waits() {
        for interval in [0, 1, 10] {
            let heartbeat = Heartbeat::new(at(1), Duration::from_millis(interval), 127);
            assert!(heartbeat.deadline(PONG) >= at(1), "{interval} ms");
            assert!(heartbeat.deadline(PONG) <= at(1) + Duration::from_millis(interval + 1));
        }
    }
}

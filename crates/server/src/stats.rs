//! Counters: written by one shard each, read by whoever wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and others read.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning thread may call this, so a plain store suffices.
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Replaces. Only the owning thread may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads, from any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! shard_stats {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident;)+) => {
        /// What one shard has counted.
        #[derive(Default, Debug)]
        pub struct ShardStats {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl ShardStats {
            /// Every number: its name, whether it is a `counter` or a `gauge`, what it means, and how to read it.
            pub const TABLE: &'static [(&'static str, &'static str, &'static str, fn(&ShardStats) -> u64)] = &[
                $((stringify!($name), stringify!($kind), concat!($($doc),+), |stats| stats.$name.value()),)+
            ];
        }
    };
}

shard_stats! {
    /// TCP connections accepted.
    counter connections_accepted;
    /// TCP connections refused because the process has as many as it may have.
    counter connections_refused;
    /// WebSocket handshakes completed.
    counter sessions_opened;
    /// Event streams begun.
    counter event_streams_opened;
    /// Polls taken.
    counter polls;
    /// WebSocket handshakes refused.
    counter handshakes_refused;
    /// Sessions now.
    gauge sessions;
    /// Sessions that ended because the peer broke the WebSocket protocol.
    counter sessions_misbehaved;
    /// Sessions that ended because the peer answered no ping.
    counter sessions_silent;
    /// Sessions that ended because the socket accepted nothing for too long.
    counter sessions_stalled;
    /// Sessions that ended because the subscriber was too slow.
    counter sessions_lagged;
    /// Sessions that ended because the peer sent too much.
    counter sessions_excessive;
    /// Bytes read from sessions.
    counter received_bytes;
    /// Bytes written to sessions.
    counter sent_bytes;
    /// Publish commands of sessions.
    counter publishes;
    /// Messages handed to subscribers, each counted once per subscriber.
    counter deliveries;
    /// Deliveries that did not fit into a subscriber's outbox.
    counter deliveries_refused;
    /// Gaps told to subscribers.
    counter gaps;
    /// Messages that subscribers got from the log because they resumed or had fallen behind; counted as deliveries, too.
    counter replayed;
    /// Pages read from logs for those.
    counter replay_pages;
    /// Subscribers that wait for such a page.
    gauge replays_waiting;
    /// Members of channels, each counted once per channel, those who have vanished within the grace period included.
    gauge presence_members;
    /// Changes of who is in a channel that were announced, one for all that happened within a period.
    counter presence_announcements;
    /// Such announcements and lists handed to sessions, each counted once per session.
    counter presence_events;
    /// Lists sent because a session had missed an announcement.
    counter presence_resyncs;
    /// Requests refused because a mailbox was full.
    counter overloads;
    /// Deliveries to another shard refused because its mailbox was full.
    counter mailbox_refusals;
}

/// The counters of all shards.
pub type AllStats = Arc<[Arc<ShardStats>]>;

/// Prometheus text format, version 0.0.4, one series per metric summed over the shards.
pub fn prometheus(stats: &AllStats) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for (name, kind, help, read) in ShardStats::TABLE {
        let total: u64 = stats.iter().map(|shard| read(shard)).sum();
        let suffix = if *kind == "counter" { "_total" } else { "" };
        // Writing into a String cannot fail.
        let _infallible = write!(
            out,
            "# HELP switchboard_{name}{suffix} {}\n# TYPE switchboard_{name}{suffix} {kind}\nswitchboard_{name}{suffix} {total}\n",
            help.trim()
        );
    }
    out
}

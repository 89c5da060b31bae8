//! What the coordinator and its workers say to each other: one JSON object a line, over the worker's standard input and
//! output.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::target::Target;

/// To a worker.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub enum Command {
    /// Open connections. Answered by [`Report::Opened`].
    Open(Box<Open>),
    /// Drop the connections of a group, with a reset so that no port stays taken. Answered by [`Report::Closed`].
    Close {
        /// Which.
        group: u32,
    },
    /// Count what comes from now on. Answered by [`Report::Prepared`].
    Prepare(Drive),
    /// Begin to send, now that everyone counts. Answered by [`Report::Finished`] where something is to be sent.
    Begin,
    /// Deliveries, seen by another worker, of messages that this one has published.
    Delivered(Vec<Count>),
    /// End what is being driven. Answered by [`Report::Driven`].
    Collect {
        /// Groups of the server that was driven: what they have lost so far, in between as well, is its fault.
        groups: Vec<u32>,
    },
    /// From now on each connection of a group of [`Role::Returning`] is to be lost, to come back, and to have all messages of its
    /// channel up to this number. Answered by [`Report::Tally`].
    Expect {
        /// Which.
        group: u32,
        /// From the first one of all on.
        messages: u32,
    },
    /// How far that is. Answered by [`Report::Tally`].
    Tally {
        /// Which.
        group: u32,
    },
    /// How many heartbeats were answered so far. Answered by [`Report::Heartbeats`].
    Heartbeats,
}

/// Connections to open.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Open {
    /// Names them.
    pub group: u32,
    /// Where to.
    pub target: Target,
    /// As what.
    pub role: Role,
    /// Number of the first connection; the others follow.
    pub first: u32,
    /// Which channels each has, and where from.
    pub count: u32,
    /// The channels of a connection.
    pub rooms: Rooms,
    /// Connections that may be under way at once.
    pub in_flight: u32,
    /// Source addresses, used in turn for [`crate::sources::PER_ADDRESS`] connections each.
    pub sources: Vec<Ipv4Addr>,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Role {
    /// Gets messages, and may publish on the same connection.
    Subscriber,
    /// Gets messages, notes its position, and comes back with it when it is lost, as the clients of Switchboard do.
    Returning,
    /// Publishes only.
    Publisher,
    /// Echoes.
    Echo,
    /// Only holds the connection: the path of a subscriber, and not a word.
    Silent,
}

/// Which channels a connection has: `each` channels from a first one on.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Rooms {
    /// So many connections after each other have the same channels.
    pub members: u32,
    /// Number of the first channel.
    pub first: u32,
    /// Channels per connection.
    pub each: u32,
}

impl Rooms {
    /// Everyone in one channel.
    pub const ONE: Rooms = Rooms {
        members: u32::MAX,
        first: 0,
        each: 1,
    };

    /// The channels of connection `n`.
    pub fn of(self, n: u32) -> std::ops::Range<u32> {
        let first = self.first + n / self.members * self.each;
        first..first + self.each
    }
}

/// Something to do with open connections.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub enum Drive {
    /// Publish.
    Publish(Publish),
    /// Every connection of the group has one message under way, until `echoes` have come back.
    Echo {
        /// Which connections.
        group: u32,
        /// Bytes of a message.
        bytes: usize,
        /// How many, all connections together.
        echoes: u64,
    },
}

/// Publishing by the connections of a group.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Publish {
    /// Who publishes, each on the first of its channels. A worker without such connections only listens.
    pub group: u32,
    /// Bytes of a message.
    pub bytes: usize,
    /// Messages that leave together.
    pub burst: u32,
    /// Subscribers of each publisher's channel.
    pub subscribers: u32,
    /// When.
    pub pace: Pace,
    /// Record latencies.
    pub latency: bool,
}

/// When messages are published.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub enum Pace {
    /// The next burst leaves when the one before has arrived everywhere: `at_once` bursts are under way, `bursts` in all,
    /// the publishers take turns.
    Closed {
        /// Bursts under way.
        at_once: u32,
        /// Bursts in all.
        bursts: u64,
    },
    /// Every publisher by the clock, whatever happens.
    Rate {
        /// Nanoseconds between two bursts of one publisher.
        interval_ns: u64,
        /// Bursts per publisher.
        bursts: u64,
    },
}

impl Pace {
    /// What of it falls to the publishers from `first` on, `share` of `count`: all parts together are the whole.
    #[must_use]
    pub fn part(self, first: u32, share: u32, count: u32) -> Pace {
        match self {
            Pace::Closed { at_once, bursts } => {
                let until = |n: u32| u64::from(at_once) * u64::from(n) / u64::from(count.max(1));
                let (before, after) = (until(first), until(first + share));
                // As many bursts as fall to those under way: who has none of these has nothing to do.
                let bursts_until = |under_way: u64| bursts * under_way / u64::from(at_once.max(1));
                Pace::Closed {
                    at_once: u32::try_from(after - before).unwrap_or(at_once),
                    bursts: bursts_until(after) - bursts_until(before),
                }
            }
            // Every publisher has its own clock.
            Pace::Rate { .. } => self,
        }
    }
}

/// A number of deliveries of one publisher's messages.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Count {
    /// Of these messages.
    pub publisher: u32,
    /// So many.
    pub deliveries: u64,
}

/// From a worker.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub enum Report {
    /// How many connections of the group under way are ready.
    Opening {
        /// Ready ones.
        ready: u32,
    },
    /// The answer to [`Command::Open`].
    Opened {
        /// Ready ones.
        ready: u32,
        /// Why the others are not.
        error: Option<String>,
    },
    /// The answer to [`Command::Close`].
    Closed {
        /// Connections of the group that were not there any more.
        lost: u32,
    },
    /// The answer to [`Command::Prepare`].
    Prepared,
    /// Deliveries of messages that other workers have published.
    Delivered(Vec<Count>),
    /// Deliveries or echoes so far, now and then.
    Driving {
        /// How many.
        received: u64,
    },
    /// Everything is sent and has arrived, or nothing has come for long.
    Finished,
    /// The answer to [`Command::Heartbeats`].
    Heartbeats {
        /// By all connections that this worker ever had.
        answered: u64,
    },
    /// The answer to [`Command::Expect`] and [`Command::Tally`].
    Tally(Tally),
    /// What was driven.
    Driven(Box<Driven>),
    /// The worker cannot go on.
    Failed(String),
}

/// What connections that come back have come to.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct Tally {
    /// Those that have done as [`Command::Expect`] says.
    pub done: u32,
    /// When the last one of these had, by the machine's monotonic clock.
    pub last_ns: u64,
    /// Attempts to connect again.
    pub attempts: u64,
    /// Messages that were left out.
    pub missing: u64,
    /// Messages that came twice, or behind a later one.
    pub repeated: u64,
    /// Times that the server said something is missing: `recovered: false`, `gap`, `reset`.
    pub broken: u64,
    /// The last thing that the server said of that, or why a connection was lost.
    pub words: Option<String>,
}

impl Tally {
    /// Adds what another worker found.
    pub fn add(&mut self, other: Tally) {
        self.done += other.done;
        self.last_ns = self.last_ns.max(other.last_ns);
        self.attempts += other.attempts;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.broken += other.broken;
        self.words = self.words.take().or(other.words);
    }
}

/// What a drive came to.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct Driven {
    /// Messages sent.
    pub published: u64,
    /// Deliveries that these must lead to.
    pub expected: u64,
    /// The sum of their digests, each times its subscribers.
    pub expected_digest: u64,
    /// Deliveries or echoes that came.
    pub received: u64,
    /// The sum of their digests.
    pub digest: u64,
    /// Deliveries that came before an older one of the same publisher, or twice.
    pub disordered: u64,
    /// From the first message sent to the last one received.
    pub elapsed_ns: u64,
    /// Latency in nanoseconds, and how often.
    pub latency: Vec<(u64, u64)>,
    /// Polls of all connections.
    pub requests: u64,
    /// Bytes that all connections read and wrote.
    pub bytes: u64,
    /// Connections that were lost.
    pub lost: u64,
    /// What was said when they were lost, or what a publisher was told.
    pub words: Option<String>,
    /// A publisher of whose messages the server took too few, so that the rest was not sent.
    pub stalled: Option<u32>,
}

impl Driven {
    /// Adds what another worker found.
    pub fn add(&mut self, other: Driven) {
        self.published += other.published;
        self.expected += other.expected;
        self.expected_digest = self.expected_digest.wrapping_add(other.expected_digest);
        self.received += other.received;
        self.digest = self.digest.wrapping_add(other.digest);
        self.disordered += other.disordered;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.latency.extend(other.latency);
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.words = self.words.take().or(other.words);
        self.stalled = self.stalled.or(other.stalled);
    }
}

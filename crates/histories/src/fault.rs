//! What is done to the server, its machine and its network, as data.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A kind of fault. What the report counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `kill -9` and a new process on the same data directory.
    KillWithData,
    /// `kill -9` and a new process that knows nothing.
    KillWithoutData,
    /// SIGSTOP, and later SIGCONT, to the server.
    StopServer,
    /// The same to the process of the JavaScript clients.
    StopClients,
    /// SIGTERM, the end of the process, and a new one.
    Drain,
    /// The proxy passes everything on late.
    Delay,
    /// The proxy ends connections, by FIN or RST.
    Cut,
    /// The proxy passes nothing on, in one direction or in both.
    Stall,
    /// The proxy passes everything on in small pieces.
    Split,
    /// The kernel drops packets (nftables, in a network namespace of the history).
    Loss,
    /// The server may have hardly more memory than it has (`RLIMIT_AS`), while much is published to readers who do not read.
    Memory,
    /// The file system of the data directory is full.
    DiskFull,
    /// The server may open no more files (`RLIMIT_NOFILE`), and somebody takes those that are left.
    FileLimit,
    /// The server's wall clock jumps, and jumps back.
    WallClock,
    /// `kill -9`, and the new process has another monotonic clock (a time namespace).
    MonotonicClock,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::KillWithData,
        Kind::KillWithoutData,
        Kind::StopServer,
        Kind::StopClients,
        Kind::Drain,
        Kind::Delay,
        Kind::Cut,
        Kind::Stall,
        Kind::Split,
        Kind::Loss,
        Kind::Memory,
        Kind::DiskFull,
        Kind::FileLimit,
        Kind::WallClock,
        Kind::MonotonicClock,
    ];

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Kind::KillWithData => "kill -9 and restart, with a data directory",
            Kind::KillWithoutData => "kill -9 and restart, without a data directory",
            Kind::StopServer => "SIGSTOP and SIGCONT of the server",
            Kind::StopClients => "SIGSTOP and SIGCONT of the JavaScript clients",
            Kind::Drain => "drain and restart",
            Kind::Delay => "delayed bytes",
            Kind::Cut => "cut connections",
            Kind::Stall => "stalled bytes",
            Kind::Split => "re-split bytes",
            Kind::Loss => "packet loss",
            Kind::Memory => "memory limit",
            Kind::DiskFull => "full disk",
            Kind::FileLimit => "file limit",
            Kind::WallClock => "jump of the wall clock",
            Kind::MonotonicClock => "kill -9 and restart with another monotonic clock",
        }
    }
}

/// In which direction, seen from the clients.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To the server.
    Up,
    /// From the server.
    Down,
    /// Both.
    Both,
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Act {
    /// [`Kind::KillWithData`] or [`Kind::KillWithoutData`].
    Kill {
        /// So long there is no process.
        down_ms: u64,
    },
    /// [`Kind::StopServer`].
    StopServer,
    /// [`Kind::StopClients`].
    StopClients,
    /// [`Kind::Drain`].
    Drain {
        /// So long there is no process.
        down_ms: u64,
    },
    /// [`Kind::Delay`].
    Delay {
        /// By so much, each piece.
        by_ms: u64,
    },
    /// [`Kind::Cut`].
    Cut {
        /// Of a hundred connections.
        percent: u64,
        /// By RST. Otherwise by FIN.
        reset: bool,
    },
    /// [`Kind::Stall`].
    Stall {
        /// Which.
        way: Way,
        /// Of a hundred connections.
        percent: u64,
    },
    /// [`Kind::Split`].
    Split {
        /// Pieces have at most so many bytes.
        bytes_max: usize,
    },
    /// [`Kind::Loss`].
    Loss {
        /// Of a hundred packets.
        percent: u64,
    },
    /// [`Kind::Memory`].
    Memory {
        /// Beyond what the process has.
        more_bytes: u64,
    },
    /// [`Kind::DiskFull`].
    DiskFull,
    /// [`Kind::FileLimit`].
    FileLimit {
        /// Beyond what the process has.
        more: u64,
    },
    /// [`Kind::WallClock`].
    WallClock {
        /// By so much.
        by_s: i64,
    },
    /// [`Kind::MonotonicClock`].
    MonotonicClock {
        /// Ahead of what the machine says.
        ahead_s: u64,
    },
}

impl Act {
    /// Which kind it is.
    pub fn kind(self, with_data: bool) -> Kind {
        match self {
            Act::Kill { .. } if with_data => Kind::KillWithData,
            Act::Kill { .. } => Kind::KillWithoutData,
            Act::StopServer => Kind::StopServer,
            Act::StopClients => Kind::StopClients,
            Act::Drain { .. } => Kind::Drain,
            Act::Delay { .. } => Kind::Delay,
            Act::Cut { .. } => Kind::Cut,
            Act::Stall { .. } => Kind::Stall,
            Act::Split { .. } => Kind::Split,
            Act::Loss { .. } => Kind::Loss,
            Act::Memory { .. } => Kind::Memory,
            Act::DiskFull => Kind::DiskFull,
            Act::FileLimit { .. } => Kind::FileLimit,
            Act::WallClock { .. } => Kind::WallClock,
            Act::MonotonicClock { .. } => Kind::MonotonicClock,
        }
    }

    /// One of this kind.
    pub fn of(kind: Kind, random: &mut Random) -> Act {
        match kind {
            Kind::KillWithData | Kind::KillWithoutData => Act::Kill {
                down_ms: random.one(&[0, 0, 100, 400]),
            },
            Kind::StopServer => Act::StopServer,
            Kind::StopClients => Act::StopClients,
            Kind::Drain => Act::Drain {
                down_ms: random.one(&[0, 0, 200]),
            },
            Kind::Delay => Act::Delay {
                by_ms: random.between(2, 80),
            },
            Kind::Cut => Act::Cut {
                percent: random.one(&[30, 60, 100]),
                reset: random.percent(50),
            },
            Kind::Stall => Act::Stall {
                way: random.one(&[Way::Up, Way::Down, Way::Both]),
                percent: random.one(&[40, 100]),
            },
            Kind::Split => Act::Split {
                bytes_max: random.one(&[1, 3, 17, 200]),
            },
            Kind::Loss => Act::Loss {
                percent: random.between(3, 25),
            },
            Kind::Memory => Act::Memory {
                more_bytes: random.one(&[0, 1 << 20, 8 << 20]),
            },
            Kind::DiskFull => Act::DiskFull,
            Kind::FileLimit => Act::FileLimit {
                more: random.between(0, 6),
            },
            Kind::WallClock => Act::WallClock {
                by_s: random.one(&[-86_400, -3_600, -2, 2, 3_600, 86_400 * 400]),
            },
            Kind::MonotonicClock => Act::MonotonicClock {
                ahead_s: random.between(1, 400 * 86_400),
            },
        }
    }

    /// In words, with the numbers.
    pub fn text(self, kind: Kind) -> String {
        let text = kind.text();
        match self {
            Act::Delay { by_ms } => format!("{text}: by {by_ms} ms"),
            Act::Cut { percent, reset } => {
                let how = if reset { "RST" } else { "FIN" };
                format!("{text}: {percent} % by {how}")
            }
            Act::Stall { way, percent } => format!("{text}: {percent} %, {way:?}").to_lowercase(),
            Act::Split { bytes_max } => format!("{text}: at most {bytes_max} bytes at a time"),
            Act::Loss { percent } => format!("{text}: {percent} %"),
            Act::Memory { more_bytes } => format!("{text}: {} KiB more", more_bytes / 1024),
            Act::FileLimit { more } => format!("{text}: {more} more"),
            Act::WallClock { by_s } => format!("{text}: by {by_s} s"),
            Act::MonotonicClock { ahead_s } => format!("{text}: {ahead_s} s ahead"),
            Act::Kill { .. } | Act::StopServer | Act::StopClients | Act::Drain { .. } | Act::DiskFull => {
                text.to_owned()
            }
        }
    }
}

/// When something is done.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case", tag = "when")]
pub enum When {
    /// So long after the clients are there.
    At {
        /// Milliseconds.
        ms: u64,
    },
    /// So long after a client that had lost its connection makes another one. If none has by itself, a few connections are cut first, which is
    /// a fault of its own.
    InResume {
        /// Not before so long after the clients are there, in milliseconds.
        from_ms: u64,
        /// Microseconds after the new connection.
        after_us: u64,
    },
}

/// A fault of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Fault {
    /// When it begins.
    pub when: When,
    /// What is done.
    pub act: Act,
    /// How long it takes, where it has a duration.
    pub for_ms: u64,
}

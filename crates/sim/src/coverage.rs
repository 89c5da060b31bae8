//! What a run has been through. A run of many histories that never came into one of these situations proves nothing of it.

use std::sync::{Arc, Mutex};

macro_rules! marks {
    ($($name:ident $text:literal,)+) => {
        /// A situation.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mark {
            $(#[doc = $text] $name,)+
        }

        impl Mark {
            /// All of them.
            pub const ALL: &'static [Mark] = &[$(Mark::$name,)+];

            /// In words.
            pub fn text(self) -> &'static str {
                match self {
                    $(Mark::$name => $text,)+
                }
            }
        }
    };
}

marks! {
    ResumeByWebSocket "resume by WebSocket",
    ResumeByEventStream "resume by event stream",
    ResumeByPoll "resume by polls",
    ResumeOnAnotherNode "resume on another node",
    ResumeDuringDrain "resume during a drain",
    ResumeAfterSleep "resume after a sleep",
    ResumeWithReset "reset when resuming",
    ResetWhileCatchingUp "reset while catching up",
    GapAtTrimEdge "gap at the trim edge",
    GapWhileReading "gap of a slow reader",
    ConflatedGap "gap over what newer messages replace",
    SinceRecovered "subscribed since a position, recovered",
    SinceNotRecovered "subscribed since a position, not recovered",
    ReloadedPage "page reloaded, went on from its last position",
    LaggedAndResynced "subscriber that lagged read it from the log",
    MailboxFull "mailbox full, delivery refused",
    Overloaded "request refused because a mailbox was full",
    PublishRefused "publication refused",
    PublishUnknown "publication unknown",
    PublishRetried "publication unknown to its client, said again, found by its key",
    PublishDuringDrain "publication answered by a server that stops",
    DuplicatePushDropped "duplicate push of the broker dropped",
    LostPushSeen "push of the broker lost, seen by the hole or told",
    WatchInterrupted "watch of the broker interrupted",
    BrokerUnavailable "broker unavailable, effect unknown",
    FailOver "fail-over of the broker with a lost tail",
    DiskTorn "torn record cut off",
    DiskTailLost "unsynced tail lost in a power failure",
    DiskFull "disk full, publication refused",
    DiskRestored "restart with what the disk had",
    MemoryLost "restart without anything",
    SilentPeer "peer that answers nothing found dead",
    StalledPeer "peer that takes nothing found dead",
    ConnectionRefused "connection refused, made later",
    Frozen "server that stood still",
    ClockStepped "clock of the calendar stepped",
    GraceExpiredInPartition "presence grace expired during a partition",
    GraceKept "member back within the grace",
    PresenceResynced "list of members sent again, because an announcement was missed",
    FellBack "another transport than before",
    Compressed "compressed connection",
    Drained "drain to its end",
}

/// How often each was seen. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Marks {
    counts: Arc<Mutex<Vec<u64>>>,
}

impl Marks {
    /// It was seen.
    pub fn see(&self, mark: Mark) {
        self.see_times(mark, 1);
    }

    /// It was seen so often.
    pub fn see_times(&self, mark: Mark, times: u64) {
        if let Ok(mut counts) = self.counts.lock() {
            counts.resize(Mark::ALL.len(), 0);
            counts[mark as usize] += times;
        }
    }

    /// How often it was seen.
    pub fn count(&self, mark: Mark) -> u64 {
        let counts = self.counts.lock().ok();
        counts
            .and_then(|counts| counts.get(mark as usize).copied())
            .unwrap_or(0)
    }

    /// Those of another run, too.
    pub fn add(&self, other: &Marks) {
        for mark in Mark::ALL {
            self.see_times(*mark, other.count(*mark));
        }
    }

    /// Those that were never seen.
    pub fn missing(&self) -> Vec<Mark> {
        let unseen = Mark::ALL.iter().copied();
        unseen.filter(|mark| self.count(*mark) == 0).collect()
    }
}

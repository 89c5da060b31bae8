//! What a [`Home`](crate::home::Home) and the place where its logs live say to each other.
//!
//! A request goes out; its completion comes back, some time later, perhaps with an error. The embedded broker
//! ([`Logs`](crate::logs::Logs)) completes at once; an engine outside completes whenever its answer arrives. Nothing here is
//! a trait: a broker is whoever takes [`Request`]s and gives [`Completion`]s by this contract.
//!
//! **The contract of a broker:**
//!
//! 1. **Every `Append`, `Read` and `Watch` is completed exactly once, with its ticket: at once or much later, perhaps with an
//!    error. `Unwatch` is not completed; it carries the ticket of the watch that it ends.**
//! 2. **Requests on one channel take effect, and are completed, in the order in which they were made.** Channels are
//!    independent of each other.
//! 3. **After `Watching`, whatever anyone appends after its `head` arrives as `Live`, in the order of the log; nothing arrives
//!    as `Live` before `Watching`, and nothing at or before `head`.** Whether an `Appended` or its `Live` comes first is
//!    left open.
//! 4. **Entries may be dropped on the way (a slow link, a broker's own bound). Then the next `Live` shows the hole by its
//!    `previous`, or the broker says `Interrupted`; one of both comes.** After `Interrupted` nothing more comes for that
//!    ticket; the home watches again, and what happened in between is visible by offsets.
//! 5. **Within one epoch a log only grows. A broker that finds that entries are lost which it had handed out (a fail-over,
//!    judged by `since`) starts a new epoch before it answers the `Watch`.**
//! 6. **`Unavailable` leaves open whether an append took effect; the other errors say that it did not.**

use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Position, Range};

use crate::log::{Draft, Page, ReadLimit};

/// What ties a completion to its request. Chosen by the home, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Something for a broker to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For the completion; with [`Op::Unwatch`], the ticket of the watch.
    pub ticket: Ticket,
    /// On which channel.
    pub channel: ChannelName,
    /// What.
    pub op: Op,
}

/// What a broker can do with a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Order, store and de-duplicate one message.
    Append(Draft),
    /// Read a page of the log.
    Read {
        /// Which part.
        range: Range,
        /// How much.
        limit: ReadLimit,
    },
    /// Send whatever is appended from now on. A channel has at most one watch; a second one replaces the first.
    Watch {
        /// The place up to which the home has seen the channel; `None` at the first watch.
        since: Option<Position>,
    },
    /// Stop sending.
    Unwatch,
}

/// What a broker answers or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The answer to [`Op::Append`].
    Appended {
        /// The ticket of the request.
        ticket: Ticket,
        /// Where the message is, or where the first one with its key is.
        result: Result<Position, BrokerError>,
    },
    /// The answer to [`Op::Read`].
    Read {
        /// The ticket of the request.
        ticket: Ticket,
        /// What was read. On the heap, because every completion is moved about, and most are small.
        result: Result<Box<Page>, BrokerError>,
    },
    /// The answer to [`Op::Watch`].
    Watching {
        /// The ticket of the request.
        ticket: Ticket,
        /// The head of the log at the moment from which entries are sent.
        result: Result<Position, BrokerError>,
    },
    /// Entries of a watched channel.
    Live {
        /// The ticket of the watch.
        ticket: Ticket,
        /// Of which channel.
        channel: ChannelName,
        /// The entries, in the order of the log.
        entries: Vec<Arc<Entry>>,
    },
    /// The watch was lost: entries may have been missed, and no more come.
    Interrupted {
        /// The ticket of the watch.
        ticket: Ticket,
        /// Of which channel.
        channel: ChannelName,
    },
}

/// Why a broker did not do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached or did not answer. Whether an append took effect is unknown.
    #[error("the broker did not answer; whether it took effect is unknown")]
    Unavailable,
    /// Too many requests are open. Nothing took effect.
    #[error("too many requests are open at the broker")]
    Overloaded,
    /// No further channel can be kept. Nothing took effect.
    #[error("the broker keeps as many channels as it may")]
    TooManyChannels,
}

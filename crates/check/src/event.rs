//! What a client writes down: what it asked, and what it saw, in the order in which it happened to it.
//!
//! An event is small, because a run has millions: names are numbers of a [`History`](crate::History).

use crate::place::Place;

/// Somebody who writes a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Client(pub u32);

/// A name: of a channel, a member, a conflation key, a kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Name(pub u32);

/// One subscription of one client, over all its connections. Numbered by the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Stream(pub u32);

/// One message of a run: who published it, and the how-manieth of that publisher, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Message {
    /// The name of the publisher.
    pub publisher: Name,
    /// From 1.
    pub number: u32,
}

/// Something that happened to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, in microseconds since the run began. All clients of a run have one clock.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The application asks to publish.
    Invoked {
        /// This message.
        message: Message,
        /// To this channel.
        channel: Name,
        /// With an idempotency key, which is no other message's.
        keyed: bool,
        /// What it is the newest state of.
        conflate: Option<Name>,
    },
    /// The server says that it is published.
    Acknowledged {
        /// Which.
        message: Message,
        /// Where.
        place: Place,
    },
    /// The server says that it is not published, or the client never sent it.
    Refused {
        /// Which.
        message: Message,
    },
    /// Nobody knows.
    Unknown {
        /// Which.
        message: Message,
    },
    /// The application asks to subscribe. A stream begins.
    Subscribing {
        /// Its number.
        stream: Stream,
        /// To this channel.
        channel: Name,
        /// From here on.
        since: Option<Place>,
        /// The newest of each conflation key is enough.
        conflates: bool,
    },
    /// The stream is to be told who is there.
    Hears {
        /// Which.
        stream: Stream,
    },
    /// The client asks for it, at first or again: the server looks at the log after this, for the next [`What::Subscribed`]. Where it is not
    /// written down, the server is taken to have looked when its answer came; a slow network needs it.
    Asked {
        /// Which.
        stream: Stream,
    },
    /// The server says that it is subscribed, at first or again.
    Subscribed {
        /// Which.
        stream: Stream,
        /// Where the log is.
        place: Place,
        /// Whether everything since the place where it was will follow, if it said one. What a client only takes for that may be written
        /// down where slow readers are not told gaps.
        recovered: Option<bool>,
    },
    /// A message.
    Received {
        /// By which.
        stream: Stream,
        /// From where.
        place: Place,
        /// Which one.
        message: Message,
        /// To which channel it was said, as it says itself.
        channel: Name,
    },
    /// A message that is not what somebody said.
    Altered {
        /// By which.
        stream: Stream,
        /// From where.
        place: Place,
    },
    /// The server says that these do not come.
    Gap {
        /// To which.
        stream: Stream,
        /// The first that does not come.
        from: u64,
        /// Where the stream is now: at the last one.
        place: Place,
        /// Newer ones of their keys come in their place.
        conflated: bool,
    },
    /// The server says that the log began anew.
    Reset {
        /// To which.
        stream: Stream,
        /// Where the stream is now.
        place: Place,
    },
    /// The application has ended the stream, and knows that the server knows. Nothing may come.
    Unsubscribed {
        /// Which.
        stream: Stream,
    },
    /// The server has ended the stream, and said so.
    Closed {
        /// Which.
        stream: Stream,
    },
    /// From now on the client is a member of the stream's channel.
    Stands {
        /// Which.
        stream: Stream,
        /// Under this name.
        member: Name,
    },
    /// The beginning of a list of who is there. What follows until the next event that is no [`What::Member`] is on it.
    Members {
        /// To which.
        stream: Stream,
        /// How many there are.
        count: u32,
        /// Whether all of them follow.
        complete: bool,
    },
    /// On a list.
    Member {
        /// To which.
        stream: Stream,
        /// Who.
        member: Name,
    },
    /// Somebody came.
    Joined {
        /// To which.
        stream: Stream,
        /// Who.
        member: Name,
    },
    /// Somebody went.
    Left {
        /// To which.
        stream: Stream,
        /// Who.
        member: Name,
    },
    /// The client has a connection.
    Connected,
    /// It has none any more.
    Disconnected,
    /// The client's log is whole, and it was connected until here. Of one whose log ends otherwise nothing is expected.
    Ended,
}

impl What {
    /// The stream that it happened to.
    pub fn stream(&self) -> Option<Stream> {
        match *self {
            What::Subscribing { stream, .. }
            | What::Hears { stream }
            | What::Asked { stream }
            | What::Subscribed { stream, .. }
            | What::Received { stream, .. }
            | What::Altered { stream, .. }
            | What::Gap { stream, .. }
            | What::Reset { stream, .. }
            | What::Unsubscribed { stream }
            | What::Closed { stream }
            | What::Stands { stream, .. }
            | What::Members { stream, .. }
            | What::Member { stream, .. }
            | What::Joined { stream, .. }
            | What::Left { stream, .. } => Some(stream),
            What::Invoked { .. }
            | What::Acknowledged { .. }
            | What::Refused { .. }
            | What::Unknown { .. }
            | What::Connected
            | What::Disconnected
            | What::Ended => None,
        }
    }
}

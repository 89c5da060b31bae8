//! Peers that only read what the channels they name have: an event stream, which is a link like any other, and a poll, which is a
//! link without a socket.
//!
//! ```text
//!   GET /poll ─► Shard::poll ─► subscribe each channel from where the peer is ─► … what comes lies in the outbox
//!                                                                                   │ end of the turn
//!   200 ◄──────────────────────── Answer { events, where the peer is now } ◄────────┘
//! ```
//!
//! So a poll is a subscriber as long as it is held, and reads the log where it is behind. It is answered at the end of the turn in
//! which something for it came; at once when its time is over, when something is refused, or when the server stops: from then on
//! nothing is delivered to it, so where it is must not move any more. A request that goes away takes it along.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use switchboard_hub::audience::Standing;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::session::places::{Places, Roster};
use switchboard_proto::session::server::{Link as Wanted, Refusal, Session};
use tokio::sync::oneshot;

use super::link::{LinkGuard, Pipe};
use super::replay::{Replay, Resuming};
use super::wheel::LinkRef;
use super::{Shard, State};
use crate::http::Slot;
use crate::http::reading::Wish;
use crate::net::Stream;

/// What a peer that only reads wants, all of which its request says.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Which channels, each from where.
    pub places: Places,
    /// What of each of them.
    pub each: Vec<Wish>,
    /// It is to be told who it is.
    pub introduction: bool,
    /// A poll: it waits until there is something.
    pub holds: bool,
}

/// What a poll comes to.
#[derive(Debug)]
pub struct Answer {
    /// Events, each followed by a comma; or why there are none.
    pub events: Result<Vec<u8>, Refusal>,
    /// Where the peer is after them.
    pub places: Places,
    /// There is more, or something has not been read, for which there was no room.
    pub more: bool,
}

/// A poll that is held. Dropped, it is over.
pub struct Held {
    answer: oneshot::Receiver<Answer>,
    _guard: LinkGuard,
}

impl Future for Held {
    /// `None`: something ended in the middle, and the peer had better ask again.
    type Output = Option<Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        Pin::new(&mut self.answer).poll(cx).map(Result::ok)
    }
}

impl Shard {
    /// Takes over a socket on which an event stream has begun.
    pub fn open_stream(self: &Rc<Self>, stream: Stream, session: Session, wishes: Wishes, slot: Slot) {
        let link = self.open_link(Pipe::Socket(stream), session, Some(slot), |state, link| {
            state.begin_reading(link, wishes);
        });
        self.serve(link);
    }

    /// Holds a poll.
    pub fn poll(self: &Rc<Self>, session: Session, wishes: Wishes) -> Held {
        let (sender, answer) = oneshot::channel();
        let pipe = Pipe::Answer {
            sender: Some(sender),
            holds: wishes.holds,
        };
        let link = self.open_link(pipe, session, None, |state, link| {
            state.begin_reading(link, wishes);
        });
        Held {
            answer,
            _guard: self.guard(link),
        }
    }
}

impl State {
    fn begin_reading(&mut self, at: LinkRef, wishes: Wishes) {
        let Wishes {
            places,
            each,
            introduction,
            ..
        } = wishes;
        let shared = &mut self.shared;
        if introduction && let Some(link) = self.links.get_mut(at.key as usize) {
            link.session.welcome(None, shared);
        }
        for (place, wish) in places.iter().zip(each) {
            let Wish { latest, presence } = wish;
            let since = place.position;
            let resuming = (since.is_some() || latest).then(|| Resuming {
                channel: place.channel.clone(),
                id: None,
                since,
                latest,
            });
            // Where one of them is refused, all are.
            if self.link(at).is_some_and(|link| link.session.is_open()) {
                self.subscribe(at, None, place.channel.clone(), resuming, presence);
            }
        }
        self.send_replies(at);
    }

    /// A link without a socket may have something to answer with: it is looked at when the turn ends, or now if it is over.
    pub(super) fn touch_poll(&mut self, at: LinkRef) {
        let Some(link) = self.link(at) else { return };
        if !link.pipe.is_answer() {
            return;
        }
        if link.session.link() == Wanted::Ended {
            return self.answer_poll(at);
        }
        if !link.touched {
            link.touched = true;
            self.touched.push(at);
            self.wake();
        }
    }

    /// Answers a poll, if it is time.
    pub(super) fn answer_poll(&mut self, at: LinkRef) {
        let subscriber = super::turn::subscriber(at);
        let State { links, audience, .. } = self;
        let Some(link) = links.get_mut(at.key as usize) else {
            return;
        };
        if link.generation != at.generation {
            return;
        }
        let is_over = link.session.link() == Wanted::Ended;
        let Some(mut places) = link.session.places().cloned() else {
            return;
        };
        let mut is_pending = false;
        for place in places.iter_mut() {
            match audience.standing(&place.channel, subscriber) {
                Some(Standing::At(position)) => place.position = Some(position),
                Some(Standing::Pending) => is_pending = true,
                None => {}
            }
        }
        // All there is, as far as it fits into one answer: nothing said of a channel means that nothing is missing there. One that
        // is to read and has no turn has no room for what it would get.
        let is_reading = link.is_to_read() && link.replay != Replay::Idle;
        let waits = match &link.pipe {
            Pipe::Answer { holds: false, .. } => is_reading,
            _ => is_reading || link.session.outbox().is_empty(),
        };
        if !is_over && (is_pending || waits) {
            return;
        }
        let more = is_pending || link.is_to_read();
        let events = match link.session.take_refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(link.session.outbox().to_vec()),
        };
        if let Pipe::Answer { sender, .. } = &mut link.pipe
            && let Some(sender) = sender.take()
        {
            // It may have gone this very moment.
            let _gone = sender.send(Answer { events, places, more });
        }
        self.close(at);
    }

    /// Whether a poll knows this list of members already.
    pub(super) fn knows_roster(&mut self, at: LinkRef, channel: &ChannelName, said: &[u8]) -> bool {
        let known = self.roster(at, channel);
        known.is_some_and(|known| *known == Some(Roster::of(said)))
    }

    /// A poll is told this list: its position says so from now on.
    pub(super) fn learn_roster(&mut self, at: LinkRef, channel: &ChannelName, said: &[u8]) {
        if let Some(known) = self.roster(at, channel) {
            *known = Some(Roster::of(said));
        }
    }

    /// Of a poll: the list that it knows.
    fn roster(&mut self, at: LinkRef, channel: &ChannelName) -> Option<&mut Option<Roster>> {
        let link = self.link(at).filter(|link| link.pipe.is_answer())?;
        let place = link.session.places()?.place(channel)?;
        Some(&mut place.roster)
    }
}

//! One socket and its session.
//!
//! A link has one task, and the task does one thing: wait until the socket can be read, or written while something waits in
//! the outbox. The fan-out loop writes past it, straight into the socket; only what the socket does not take is left for the
//! task.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Event;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::presence::MemberKey;
use switchboard_proto::session::server::{End, Identity, Link as Wanted, Mode, Request, Session};
use switchboard_proto::time::Time;
use switchboard_proto::ws::MessageKind;
use switchboard_proto::ws::frame::encode_message_head;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::sync::oneshot;

use super::presence::Membership;
use super::reader::Answer;
use super::replay::{Replay, Resuming};
use super::wheel::LinkRef;
use super::{Shard, State};
use crate::http::Slot;
use crate::net::Stream;

/// Reads from one socket before the others get their turn.
const READS_PER_POLL: usize = 8;
/// Slices of one vectored write.
const SLICES_MAX: usize = 32;
/// Memory for replies that is kept between sessions.
const REPLIES_KEPT_BYTES: usize = 256 * 1024;

/// See the module.
// In this order, because what a heartbeat looks at is memory that nobody has touched for seconds: all before the session, and
// its beginning.
#[repr(C)]
pub(super) struct Link {
    pub(super) pipe: Pipe,
    /// Wakes the task of this link.
    waker: Option<Waker>,
    pub(super) generation: u32,
    /// Its task is running: it looks at everything anyway.
    polled: bool,
    /// In the list of those to flush at the end of the turn.
    pub(super) touched: bool,
    /// The sending direction is shut.
    shut: bool,
    /// In some channel.
    pub(super) behind: bool,
    pub(super) replay: Replay,
    /// Pages that it got: its channels that are behind take turns.
    pub(super) turns: u8,
    /// Nothing for most.
    resuming: Option<Box<SmallVec<[Resuming; 1]>>>,
    /// Nothing for most.
    pub(super) memberships: Option<Box<SmallVec<[Membership; 1]>>>,
    /// Of some channel.
    pub(super) has_lost_presence: bool,
    pub(super) session: Session,
    /// Its place among the connections of the process. A poll's is its connection's.
    _slot: Option<Slot>,
}

/// Where what a session says goes.
pub(super) enum Pipe {
    Socket(Stream),
    /// All at once, once.
    Answer {
        sender: Option<oneshot::Sender<Answer>>,
        /// It waits until there is something.
        holds: bool,
    },
}

impl Pipe {
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Pipe::Answer { .. })
    }
}

impl Link {
    /// Whether some channel has something for it that it is still to read.
    pub(super) fn is_to_read(&self) -> bool {
        self.behind || self.resuming.is_some()
    }

    pub(super) fn is_resuming(&self, channel: &ChannelName) -> bool {
        let mut resuming = self.resuming.iter().flat_map(|list| list.iter());
        resuming.any(|resuming| resuming.channel == *channel)
    }

    /// What the unanswered `subscribe` to this channel said, if it said more than that. The caller answers.
    pub(super) fn take_resuming(&mut self, channel: &ChannelName) -> Option<Resuming> {
        let list = self.resuming.as_mut()?;
        let found = list.iter().position(|resuming| resuming.channel == *channel)?;
        let resuming = list.swap_remove(found);
        if list.is_empty() {
            self.resuming = None;
        }
        Some(resuming)
    }

    /// Until it is answered.
    pub(super) fn keep_resuming(&mut self, resuming: Resuming) {
        self.resuming.get_or_insert_default().push(resuming);
    }

    fn wake(&self) {
        if !self.polled
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    /// Writes what waits, as far as the socket takes it. Returns the bytes written.
    pub(super) fn flush(&mut self, now: Time) -> u64 {
        let mut total = 0;
        let Pipe::Socket(stream) = &mut self.pipe else {
            return total;
        };
        while !self.session.outbox().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.session.outbox().slices(&mut slices);
            match stream.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    total += written as u64;
                    self.session.handle_written(now, written);
                }
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::WouldBlock => self.session.handle_blocked(now),
                        _ => self.session.handle_eof(),
                    }
                    self.wake();
                    break;
                }
            }
        }
        total
    }

    /// Writes `bytes` unless something waits before them; a copy of what the socket does not take waits. Returns the bytes
    /// written.
    fn write(&mut self, now: Time, bytes: &[u8]) -> usize {
        let mut written = 0;
        if self.session.outbox().is_empty() {
            match send(&self.pipe, bytes) {
                Ok(length) => written = length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.session.handle_eof(),
            }
        }
        if written < bytes.len() {
            self.session
                .handle_unwritten(now, Bytes::copy_from_slice(&bytes[written..]), 0);
        }
        written
    }

    /// Writes `bytes` at once if nothing waits before them; what the socket does not take waits. Returns the bytes written.
    pub(super) fn write_through(&mut self, now: Time, bytes: &Bytes, messages: u32) -> u64 {
        match send(&self.pipe, bytes) {
            Ok(written) if written == bytes.len() => written as u64,
            Ok(written) => {
                self.session.handle_unwritten(now, bytes.clone(), messages);
                self.session.handle_written(now, written);
                self.wake();
                written as u64
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.session.handle_unwritten(now, bytes.clone(), messages);
                self.wake();
                0
            }
            Err(_) => {
                self.session.handle_eof();
                self.wake();
                0
            }
        }
    }
}

/// Writes to a socket without waiting. Where it takes nothing, the task of the link waits.
fn send(pipe: &Pipe, bytes: &[u8]) -> io::Result<usize> {
    match pipe {
        Pipe::Socket(stream) => stream.send(bytes),
        Pipe::Answer { .. } => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Shard {
    /// Takes over a socket whose handshake is done. `read` is what the client has sent behind it.
    pub fn open(self: &Rc<Self>, stream: Stream, read: &[u8], session: Session, slot: Slot) {
        let link = self.open_link(Pipe::Socket(stream), session, Some(slot), |state, link| {
            if let Some(Mode::Raw(channel)) = state.link(link).map(|link| link.session.mode().clone()) {
                state.subscribe(link, None, channel, None, None);
                state.send_replies(link);
            }
            state.handle_input(link, &mut read.to_vec());
        });
        self.serve(link);
    }

    pub(super) fn open_link(
        &self,
        pipe: Pipe,
        session: Session,
        slot: Option<Slot>,
        begin: impl FnOnce(&mut State, LinkRef),
    ) -> LinkRef {
        let mut state = self.state.borrow_mut();
        state.now = self.clock.now();
        let link = state.open(pipe, session, slot);
        begin(&mut state, link);
        link
    }

    /// The task of a link with a socket.
    pub(super) fn serve(self: &Rc<Self>, link: LinkRef) {
        let guard = self.guard(link);
        tokio::task::spawn_local(async move {
            std::future::poll_fn(|cx| guard.shard.state.borrow_mut().poll_link(cx, &guard)).await;
        });
    }

    pub(super) fn guard(self: &Rc<Self>, link: LinkRef) -> LinkGuard {
        LinkGuard {
            shard: self.clone(),
            link,
        }
    }
}

/// Removes the link when its task, or the request that it answers, ends, however it ends.
pub(super) struct LinkGuard {
    pub(super) shard: Rc<Shard>,
    pub(super) link: LinkRef,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        // Tasks are dropped while nothing else of the shard runs; were that ever untrue, the link would only live longer.
        if let Ok(mut state) = self.shard.state.try_borrow_mut() {
            if std::thread::panicking() {
                state.handle_panic();
            }
            state.close(self.link);
        }
    }
}

impl State {
    fn open(&mut self, pipe: Pipe, session: Session, slot: Option<Slot>) -> LinkRef {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let opened = match session.mode() {
            Mode::Native(_) | Mode::Raw(_) | Mode::Echo => &self.stats.sessions_opened,
            Mode::EventStream => &self.stats.event_streams_opened,
            Mode::Poll => &self.stats.polls,
        };
        opened.add(1);
        let link = Link {
            pipe,
            waker: None,
            generation,
            polled: false,
            touched: false,
            shut: false,
            behind: false,
            replay: Replay::Idle,
            turns: 0,
            resuming: None,
            memberships: None,
            has_lost_presence: false,
            session,
            _slot: slot,
        };
        let key = self.links.insert(Box::new(link)) as u32;
        let link = LinkRef { key, generation };
        if self.stopping {
            self.stop_link(link);
        }
        link
    }

    pub(super) fn close(&mut self, link: LinkRef) {
        if self.link(link).is_none() {
            return;
        }
        let mut closed = self.links.remove(link.key as usize);
        if let Some(memberships) = closed.memberships.take() {
            let Identity { session, user } = closed.session.identity().clone();
            let has_left = closed.session.end() == Some(End::Left);
            for membership in *memberships {
                let user = user.clone();
                self.end_membership(link, MemberKey { user, session }, membership, has_left);
            }
        }
        for channel in self.audience.remove(super::turn::subscriber(link)) {
            self.leave(channel);
        }
        let ended = match closed.session.end() {
            Some(End::Misbehaved) => &self.stats.sessions_misbehaved,
            Some(End::Silent) => &self.stats.sessions_silent,
            Some(End::Stalled) => &self.stats.sessions_stalled,
            Some(End::Lagged) => &self.stats.sessions_lagged,
            Some(End::Excessive) => &self.stats.sessions_excessive,
            Some(End::Left | End::Closed | End::Gone | End::Refused | End::Stopping) | None => return,
        };
        ended.add(1);
    }

    /// The task of a link: as long as the socket gives or takes something.
    fn poll_link(&mut self, cx: &mut Context<'_>, guard: &LinkGuard) -> Poll<()> {
        self.now = guard.shard.clock.now();
        let Some(link) = self.link(guard.link) else {
            return Poll::Ready(());
        };
        link.polled = true;
        if !link
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            link.waker = Some(cx.waker().clone());
        }
        let poll = self.pump(cx, guard.link);
        if let Some(link) = self.link(guard.link) {
            link.polled = false;
        }
        self.arm(guard.link);
        poll
    }

    fn pump(&mut self, cx: &mut Context<'_>, at: LinkRef) -> Poll<()> {
        for _ in 0..READS_PER_POLL {
            let written = self.pump_out(cx, at);
            let Some(link) = self.link(at) else {
                return Poll::Ready(());
            };
            if link.session.link() == Wanted::Ended {
                return Poll::Ready(());
            }
            if !link.session.wants_input() && link.session.link() == Wanted::Open {
                return written;
            }
            let mut buffer = std::mem::take(&mut self.read_buffer);
            let mut filled = ReadBuf::new(&mut buffer);
            // Unlike `try_read`, this knows that a socket which did not fill the buffer is empty, and does not ask it again.
            let read = match self.link(at) {
                Some(Link {
                    pipe: Pipe::Socket(stream),
                    ..
                }) => Pin::new(stream).poll_read(cx, &mut filled),
                Some(_) | None => Poll::Pending,
            };
            let length = filled.filled().len();
            match read {
                Poll::Ready(Ok(())) if length > 0 => {
                    self.stats.received_bytes.add(length as u64);
                    self.handle_input(at, &mut buffer[..length]);
                }
                Poll::Ready(Ok(()) | Err(_)) => {
                    if let Some(link) = self.link(at) {
                        link.session.handle_eof();
                    }
                }
                Poll::Pending => {}
            }
            self.read_buffer = buffer;
            if read.is_pending() {
                return Poll::Pending;
            }
        }
        // Others first, then the rest.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what waits; registers for more room where the socket is full; shuts the sending direction when all is said.
    fn pump_out(&mut self, cx: &mut Context<'_>, at: LinkRef) -> Poll<()> {
        let now = self.now;
        loop {
            let Some(link) = self.link(at) else {
                return Poll::Pending;
            };
            let Pipe::Socket(stream) = &mut link.pipe else {
                return Poll::Pending;
            };
            if link.session.outbox().is_empty() {
                if link.session.link() == Wanted::Lingering && !link.shut {
                    link.shut = true;
                    let _shut = stream.shut();
                }
                return Poll::Pending;
            }
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {
                    let written = link.flush(now);
                    self.stats.sent_bytes.add(written);
                    self.catch_up(at);
                    if self
                        .link(at)
                        .is_some_and(|link| link.session.link() == Wanted::Ended)
                    {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(_)) => {
                    link.session.handle_eof();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    link.session.handle_blocked(now);
                    return Poll::Pending;
                }
            }
        }
    }

    /// What a client has sent.
    fn handle_input(&mut self, at: LinkRef, bytes: &mut [u8]) {
        let mut taken = 0;
        loop {
            let now = self.now;
            // The borrow of the link ends with the request: what follows may need the whole state.
            let Some(link) = self.links.get_mut(at.key as usize) else {
                return;
            };
            let mut input = &mut bytes[taken..];
            let request = link.session.poll_request(now, &mut input, &mut self.shared);
            let left = input.len();
            taken = bytes.len() - left;
            match request {
                Some(Request::Echo { kind, bytes: length }) => {
                    self.echo(at, kind, &mut bytes[..taken], length);
                }
                Some(request) => self.handle_request(at, request),
                None => break,
            }
        }
        self.send_replies(at);
    }

    /// Sends a message back from where it was read: the last `length` bytes of `input`, of which all has been handled.
    fn echo(&mut self, at: LinkRef, kind: MessageKind, input: &mut [u8], length: usize) {
        // Earlier answers go first.
        self.send_replies(at);
        let now = self.now;
        let Some(link) = self.links.get_mut(at.key as usize) else {
            return;
        };
        let head = &mut self.shared.replies;
        encode_message_head(kind, length, head);
        let content = input.len() - length;
        // Before the content stood the longer head of the client, unless that came with an earlier read.
        let Some(start) = content.checked_sub(head.len()) else {
            head.extend_from_slice(&input[content..]);
            return;
        };
        input[start..content].copy_from_slice(head);
        head.clear();
        let written = link.write(now, &input[start..]);
        self.stats.sent_bytes.add(written as u64);
    }

    /// Says something to one client. The caller sends the replies.
    pub(super) fn say(&mut self, at: LinkRef, event: &Event<'_>) {
        if let Some(link) = self.links.get_mut(at.key as usize) {
            link.session.say(event, &mut self.shared);
        }
    }

    pub(super) fn refuse(
        &mut self,
        at: LinkRef,
        id: Option<u64>,
        code: ErrorCode,
        retry_after: Option<Duration>,
    ) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(at.key as usize) {
            link.session
                .refuse(now, id, code, None, retry_after, &mut self.shared);
        }
    }

    pub(super) fn refuse_publish(
        &mut self,
        at: LinkRef,
        id: Option<u64>,
        code: ErrorCode,
        retry_after: Duration,
    ) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(at.key as usize) {
            link.session
                .refuse_publish(now, id, code, Some(retry_after), &mut self.shared);
        }
    }

    /// Sends what the session has just said.
    pub(super) fn send_replies(&mut self, at: LinkRef) {
        let now = self.now;
        let replies = &mut self.shared.replies;
        if let Some(link) = self.links.get_mut(at.key as usize) {
            if !replies.is_empty() {
                let written = link.write(now, replies);
                self.stats.sent_bytes.add(written as u64);
            }
            if link.session.link() != Wanted::Open || !link.session.outbox().is_empty() {
                link.wake();
            }
        }
        replies.clear();
        if replies.capacity() > REPLIES_KEPT_BYTES {
            *replies = Vec::new();
        }
        self.arm(at);
        self.touch_poll(at);
    }

    /// Makes sure that the wheel fires at the session's deadline.
    pub(super) fn arm(&mut self, at: LinkRef) {
        let link = self.links.get(at.key as usize);
        // The deadlines of a key are those of whoever has it now.
        let Some(link) = link.filter(|link| link.generation == at.generation) else {
            return;
        };
        let deadline = link.session.deadline(&self.shared.settings);
        self.wheel.arm(at, deadline);
        if self.wheel.alarm() < self.sleeps_until {
            self.wake();
        }
    }

    pub(super) fn handle_link_due(&mut self, at: LinkRef) {
        let now = self.now;
        if self.link(at).is_none() {
            return;
        }
        let link = &mut self.links[at.key as usize];
        if now >= link.session.deadline(&self.shared.settings) {
            link.session.handle_timeout(now, &mut self.shared);
        }
        self.send_replies(at);
    }

    /// Says goodbye to one client.
    pub(super) fn stop_link(&mut self, at: LinkRef) {
        use rand_chacha::rand_core::Rng;
        /// Clients come back spread over this time.
        const SPREAD_MS: u64 = 8_000;
        let retry_after = Duration::from_millis(self.rng.next_u64() % SPREAD_MS);
        let now = self.now;
        if let Some(link) = self.links.get_mut(at.key as usize) {
            link.session.handle_stop(now, retry_after, &mut self.shared);
        }
        self.send_replies(at);
    }
}

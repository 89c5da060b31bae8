//! The server's side of one connection.
//!
//! **Calling contract. After every `handle_*` or `poll_*` call the shell (1) sends [`Shared::replies`], if there are any,
//! through the socket or into the session's outbox, before it touches another session with the same [`Shared`]; (2) looks at
//! [`Session::link`]; (3) makes sure that [`Session::handle_timeout`] is called at [`Session::deadline`] or soon after.
//! While bytes are at hand it calls [`Session::poll_request`] until that returns `None`.**
//!
//! ```text
//!                peer's Close, or a protocol error (our Close goes out)
//!          ┌──────────────────────────────────────────────────┐
//!          │                                                  ▼
//!        Open ──── our Close ────► Closing ── peer's Close ► Lingering ── peer's EOF, or the deadline ──► Ended
//!          │                          │ deadline                                                           ▲
//!          └── EOF, dead peer, stalled socket ─────────────────────────────────────────────────────────────┘
//! ```
//!
//! Lingering: both Close frames are on their way. The shell shuts the sending direction as soon as the outbox is empty and
//! reads what the peer had still sent, because an early close would become a RST that destroys our Close frame
//! (RFC 6455 section 7.1.1).
//!
//! A peer that only reads ([`Session::event_stream`], [`Session::poll`]) has no Close: its stream just ends. The answer to a poll
//! begins Held instead of Open: until the shell has something to answer with, or the deadline.

mod commands;
mod contract;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use self::wire::{Reader, Wire};
use super::broadcast::Form;
use super::heartbeat::{Beat, Heartbeat};
use super::hold::Hold;
use super::outbox::Outbox;
use super::places::Places;
use super::rate::Meter;
use crate::channel::ChannelName;
use crate::dialect::{Command, DialectId, Event, Inbound, Rejected};
use crate::error_code::ErrorCode;
use crate::limits::Rate;
use crate::position::Position;
use crate::time::Time;
use crate::ws::close::CloseCode;
use crate::ws::deflate::{Agreed, Contexts};
use crate::ws::frame::encode_message;
use crate::ws::{Connection, MessageKind, PeerMisbehaved, Received};

pub use contract::{End, Identity, Link, Mode, Refusal, Request, SessionId, Settings};

/// Above this amount of unsent bytes nothing more is read from the peer, so that what it asks for stays bounded.
const READ_PAUSE_BYTES: usize = 64 * 1024;
/// From this length on, an echo is sent from where it was read. A shorter one is cheaper copied, and joins its neighbours.
const ECHO_IN_PLACE_BYTES_MIN: usize = 16 * 1024;

/// What every session of a shard shares.
pub struct Shared {
    /// Settings.
    pub settings: Arc<Settings>,
    /// Pooled compression contexts.
    pub contexts: Contexts,
    /// Frames that a session has just said; see the calling contract.
    pub replies: Vec<u8>,
    scratch: Vec<u8>,
}

impl Shared {
    /// For one shard.
    pub fn new(settings: Arc<Settings>) -> Shared {
        let contexts = Contexts::new(settings.compression_level);
        Shared {
            settings,
            contexts,
            replies: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Open,
    Held { until: Time },
    Closing { until: Time },
    Lingering { until: Time },
    Ended,
}

/// What a peer has said, owned.
enum Said {
    Command {
        bytes: usize,
        command: Result<Command, Rejected>,
    },
    /// The content is in the scratch buffer.
    Echo(MessageKind),
    /// It has gone back.
    Echoed,
    /// The last bytes that were taken off the input, so many, are to go back.
    EchoInPlace(MessageKind, usize),
    /// A Ping, which is answered, or a Pong.
    Control,
    /// A Pong that was waited for.
    Known,
    Close(Option<CloseCode>),
}

/// See the module.
// In this order: what a ping and its pong look at comes first, because it is memory that nobody has touched for seconds.
#[repr(C)]
pub struct Session {
    phase: Phase,
    heartbeat: Heartbeat,
    unfinished_since: Option<Time>,
    stalled_since: Option<Time>,
    outbox: Outbox,
    wire: Wire,
    control_frames: Meter,
    mode: Mode,
    form: Form,
    identity: Identity,
    commands: Meter,
    inbound_bytes: Meter,
    subscribes: Meter,
    hold: Hold,
    /// The newest ping that waits for the socket: older ones need no answer (RFC 6455 section 5.5.3).
    pong_owed: Option<Box<[u8]>>,
    strikes: u16,
    reads_unanswered: u8,
    connected: bool,
    end: Option<End>,
}

impl Session {
    /// A session whose handshake is done. `jitter` spreads its heartbeat.
    pub fn new(
        now: Time,
        mode: Mode,
        identity: Identity,
        compression: Option<Agreed>,
        jitter: u8,
        settings: &Settings,
    ) -> Session {
        let limits = &settings.limits;
        let ws_limits = crate::ws::Limits {
            message_bytes_max: limits.message_bytes_max,
            inflate_ratio_max: limits.inflate_ratio_max,
        };
        let wire = Wire::WebSocket(Connection::server(ws_limits, compression));
        Session::over(wire, now, mode, identity, jitter, settings)
    }

    /// A session whose peer reads an event stream. What that says of where the peer is tells of all of `places`.
    pub fn event_stream(
        now: Time,
        identity: Identity,
        jitter: u8,
        places: Places,
        settings: &Settings,
    ) -> Session {
        // Of one channel the shared chunks say it.
        let places = (places.iter().count() > 1).then(|| Box::new(places));
        let wire = Wire::Reader(Reader::Stream { places });
        Session::over(wire, now, Mode::EventStream, identity, jitter, settings)
    }

    /// A session whose outbox becomes the answer to one request, at `until` at the latest.
    pub fn poll(now: Time, until: Time, identity: Identity, places: Places, settings: &Settings) -> Session {
        let places = Box::new(places);
        let wire = Wire::Reader(Reader::Poll {
            places,
            refusal: None,
        });
        let session = Session::over(wire, now, Mode::Poll, identity, 0, settings);
        Session {
            phase: Phase::Held { until },
            ..session
        }
    }

    fn over(
        wire: Wire,
        now: Time,
        mode: Mode,
        identity: Identity,
        jitter: u8,
        settings: &Settings,
    ) -> Session {
        let limits = &settings.limits;
        let dialect = match &mode {
            Mode::Native(dialect) => *dialect,
            Mode::Raw(_) | Mode::Echo => DialectId::Raw,
            Mode::EventStream => DialectId::EventStream,
            Mode::Poll => DialectId::Poll,
        };
        let form = Form {
            dialect,
            framing: wire.framing(),
        };
        Session {
            wire,
            outbox: Outbox::default(),
            heartbeat: Heartbeat::new(now, limits.ping_interval, jitter),
            phase: Phase::Open,
            mode,
            form,
            identity,
            commands: Meter::default(),
            inbound_bytes: Meter::default(),
            control_frames: Meter::default(),
            subscribes: Meter::default(),
            hold: Hold::default(),
            unfinished_since: None,
            stalled_since: None,
            pong_owed: None,
            strikes: 0,
            reads_unanswered: 0,
            connected: false,
            end: None,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it speaks.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// How broadcasts look to it.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What waits for the socket.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What to do with the socket.
    pub fn link(&self) -> Link {
        match self.phase {
            Phase::Open | Phase::Held { .. } | Phase::Closing { .. } => Link::Open,
            Phase::Lingering { .. } => Link::Lingering,
            Phase::Ended => Link::Ended,
        }
    }

    /// Whether deliveries and answers still reach the peer.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Held { .. })
    }

    /// Where the peer of a stream of several channels, or of a poll, is.
    pub fn places(&mut self) -> Option<&mut Places> {
        match &mut self.wire {
            Wire::Reader(reader) => reader.places(),
            Wire::WebSocket(_) => None,
        }
    }

    /// `chunk`, events of `channel`, as this session says it.
    pub fn own(&mut self, channel: &ChannelName, chunk: &Bytes) -> Bytes {
        if self.form.dialect == DialectId::EventStream
            && let Some(places) = self.places()
        {
            return places.localize(channel, chunk);
        }
        chunk.clone()
    }

    /// What [`Session::own`] made of the last events of `channel` did not reach the peer, who is still at `position`.
    pub fn retract(&mut self, channel: &ChannelName, position: Position) {
        if let Some(place) = self.places().and_then(|places| places.place(channel)) {
            place.position = Some(position);
        }
    }

    /// Why a poll is answered with an error.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        match &mut self.wire {
            Wire::Reader(Reader::Poll { refusal, .. }) => refusal.take().map(|refusal| *refusal),
            _ => None,
        }
    }

    /// Why it ended or is about to.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether the shell should read from the socket now. Not while much waits to be sent: a peer that does not read its
    /// answers may not ask for more. Its heartbeat does not suffer, the write stall deadline is what counts then.
    pub fn wants_input(&self) -> bool {
        self.outbox.bytes() < READ_PAUSE_BYTES
    }

    /// Memory that an unfinished message holds, in bytes.
    pub fn unfinished_bytes(&self) -> usize {
        self.wire.unfinished_bytes()
    }

    /// The next thing that the peer wants of the hub, taken off the front of `input`. Everything that the session can
    /// answer by itself goes to [`Shared::replies`].
    pub fn poll_request(&mut self, now: Time, input: &mut &mut [u8], shared: &mut Shared) -> Option<Request> {
        self.heartbeat.handle_heard(now);
        loop {
            let hears = matches!(self.wire, Wire::WebSocket(_));
            if !hears || matches!(self.phase, Phase::Lingering { .. } | Phase::Ended) {
                *input = &mut [];
                return None;
            }
            let said = match self.receive(input, shared) {
                Ok(Some(said)) => said,
                Ok(None) => {
                    self.note_unfinished(now);
                    return None;
                }
                Err(misbehaved) => {
                    self.handle_misbehaviour(now, &misbehaved, shared);
                    continue;
                }
            };
            match said {
                Said::Command { bytes, command } => {
                    self.unfinished_since = None;
                    let request = self.handle_command(now, bytes, command, shared);
                    if request.is_some() {
                        return request;
                    }
                }
                Said::Echo(kind) => {
                    self.unfinished_since = None;
                    let contexts = &mut shared.contexts;
                    self.wire
                        .send(kind, &shared.scratch, contexts, &mut shared.replies);
                }
                Said::Echoed => self.unfinished_since = None,
                Said::EchoInPlace(kind, bytes) => {
                    self.unfinished_since = None;
                    return Some(Request::Echo { kind, bytes });
                }
                Said::Control => self.count_control_frame(now, shared),
                // Asked for, so it is not counted.
                Said::Known => {}
                Said::Close(code) => self.handle_close(now, code, shared),
            }
        }
    }

    /// One message or control frame, as far as it can be understood without the rest of the session. A Ping is answered
    /// here, and the content of an echo goes to the scratch buffer, because both are borrowed from the connection.
    fn receive(
        &mut self,
        input: &mut &mut [u8],
        shared: &mut Shared,
    ) -> Result<Option<Said>, PeerMisbehaved> {
        let Wire::WebSocket(connection) = &mut self.wire else {
            return Ok(None);
        };
        let compresses = connection.compresses();
        let input_range = input.as_ptr_range();
        let Some(received) = connection.receive(input, &mut shared.contexts)? else {
            return Ok(None);
        };
        let (kind, content) = match received {
            Received::Text(text) => (MessageKind::Text, text.as_bytes()),
            Received::Binary(bytes) => (MessageKind::Binary, bytes),
            Received::Ping(payload) => {
                let payload: SmallVec<[u8; 128]> = payload.into();
                self.answer_ping(&payload, shared);
                return Ok(Some(Said::Control));
            }
            Received::Pong(payload) => {
                return Ok(Some(match self.hold.handle_pong(payload) {
                    true => Said::Known,
                    false => Said::Control,
                }));
            }
            Received::Close(frame) => return Ok(Some(Said::Close(frame.map(|frame| frame.code)))),
        };
        let bound = match &self.mode {
            Mode::Native(_) | Mode::EventStream | Mode::Poll => None,
            Mode::Raw(channel) => Some(channel),
            // What goes back as it is needs no turn through the connection.
            Mode::Echo if !compresses && self.phase == Phase::Open => {
                // What came in several reads or frames was put together elsewhere.
                let is_in_place = input_range.contains(&content.as_ptr());
                if is_in_place && content.len() >= ECHO_IN_PLACE_BYTES_MIN {
                    return Ok(Some(Said::EchoInPlace(kind, content.len())));
                }
                encode_message(kind, content, false, &mut shared.replies);
                return Ok(Some(Said::Echoed));
            }
            Mode::Echo => {
                shared.scratch.clear();
                shared.scratch.extend_from_slice(content);
                return Ok(Some(Said::Echo(kind)));
            }
        };
        let message = match received {
            Received::Text(text) => Inbound::Text(text.as_str()),
            _ => Inbound::Binary(content),
        };
        let command = self.form.dialect.dialect().decode(message, bound);
        Ok(Some(Said::Command {
            bytes: content.len(),
            command,
        }))
    }

    /// Answers every ping while the socket takes the answers, and only the newest one otherwise.
    fn answer_ping(&mut self, payload: &[u8], shared: &mut Shared) {
        if self.outbox.is_empty() {
            self.wire.pong(payload, &mut shared.replies);
        } else {
            self.pong_owed = Some(payload.into());
        }
    }

    fn ping(&mut self, shared: &mut Shared) {
        let question = self.hold.question();
        let payload = question.as_ref().map_or(&[][..], |question| &question[..]);
        self.wire.ping(payload, &mut shared.replies);
    }

    fn count_control_frame(&mut self, now: Time, shared: &mut Shared) {
        let rate: Rate = shared.settings.limits.control_frames;
        if self.control_frames.take(now, 1, rate).is_err() && self.phase == Phase::Open {
            self.end.get_or_insert(End::Excessive);
            self.close(
                now,
                CloseCode::POLICY_VIOLATION,
                "too many control frames",
                shared,
            );
        }
    }

    fn note_unfinished(&mut self, now: Time) {
        match self.wire.message_is_unfinished() {
            true => {
                self.unfinished_since.get_or_insert(now);
            }
            false => self.unfinished_since = None,
        }
    }

    fn handle_misbehaviour(&mut self, now: Time, misbehaved: &PeerMisbehaved, shared: &mut Shared) {
        self.end.get_or_insert(End::Misbehaved);
        let reason = misbehaved.to_string();
        self.wire
            .close(misbehaved.close_code(), &reason, &mut shared.replies);
        self.linger(now, shared);
    }

    fn handle_close(&mut self, now: Time, code: Option<CloseCode>, shared: &mut Shared) {
        self.end.get_or_insert(match code {
            None | Some(CloseCode::NORMAL) => End::Left,
            Some(_) => End::Closed,
        });
        self.wire.answer_close(&mut shared.replies);
        self.linger(now, shared);
    }

    fn linger(&mut self, now: Time, shared: &Shared) {
        let limits = &shared.settings.limits;
        let until = now
            + limits.linger
            + if self.outbox.is_empty() {
                Duration::ZERO
            } else {
                limits.write_stall
            };
        self.phase = Phase::Lingering { until };
    }

    /// Sends our Close, if none was sent, and waits for the peer's.
    pub fn close(&mut self, now: Time, code: CloseCode, reason: &str, shared: &mut Shared) {
        match self.phase {
            Phase::Open => {}
            // Its answer is all that it says.
            Phase::Held { .. } => return self.phase = Phase::Ended,
            Phase::Closing { .. } | Phase::Lingering { .. } | Phase::Ended => return,
        }
        if let Wire::Reader(_) = self.wire {
            return self.linger(now, shared);
        }
        self.wire.close(code, reason, &mut shared.replies);
        self.phase = Phase::Closing {
            until: now + shared.settings.limits.close_handshake,
        };
    }

    /// Says `event` to the client, if the dialect can.
    pub fn say(&mut self, event: &Event<'_>, shared: &mut Shared) {
        if !self.is_open() {
            return;
        }
        shared.scratch.clear();
        let Some(kind) = self.form.dialect.dialect().encode(event, &mut shared.scratch) else {
            return;
        };
        if self.form.dialect == DialectId::EventStream
            && let (Some(channel), Some(places)) = (event.channel(), self.places())
        {
            shared.scratch = places.localize(channel, &shared.scratch).into();
        }
        self.wire
            .send(kind, &shared.scratch, &mut shared.contexts, &mut shared.replies);
    }

    /// Tells the client that something failed, and closes where the catalogue says so or the dialect cannot tell.
    pub fn refuse(
        &mut self,
        now: Time,
        id: Option<u64>,
        code: ErrorCode,
        detail: Option<&str>,
        retry_after: Option<Duration>,
        shared: &mut Shared,
    ) {
        let message = detail.unwrap_or(code.text());
        if let Wire::Reader(Reader::Poll { refusal, .. }) = &mut self.wire {
            let message = message.to_owned();
            *refusal = Some(Box::new(Refusal {
                code,
                message,
                retry_after,
            }));
            self.end.get_or_insert(End::Refused);
            self.phase = Phase::Ended;
            return;
        }
        self.say(
            &Event::Error {
                id,
                code,
                message,
                retry_after,
            },
            shared,
        );
        let close = match self.mode {
            Mode::Native(_) => code.close_code(),
            Mode::Raw(_) | Mode::Echo => code.raw_close_code(),
            // It comes back, and asks again.
            Mode::EventStream | Mode::Poll => Some(CloseCode::TRY_AGAIN_LATER.value()),
        };
        if let Some(close) = close {
            self.end.get_or_insert(match code {
                ErrorCode::Lagged => End::Lagged,
                ErrorCode::RateLimited | ErrorCode::MessageTooBig => End::Excessive,
                ErrorCode::Stopping => End::Stopping,
                _ => End::Refused,
            });
            self.close(now, close_code(close), code.as_str(), shared);
        }
    }

    /// The server stops: goodbye, then Close 1001. The client may come back after `retry_after`.
    pub fn handle_stop(&mut self, now: Time, retry_after: Duration, shared: &mut Shared) {
        let code = CloseCode::GOING_AWAY;
        self.end.get_or_insert(End::Stopping);
        self.say(
            &Event::Goodbye {
                code: code.value(),
                reason: "stopping",
                retry_after,
            },
            shared,
        );
        self.close(now, code, "stopping", shared);
    }

    /// Queues a delivery. `Refused`: the outbox is full but for an eighth, which is for answers, and the channel's `on_lag`
    /// decides.
    pub fn handle_delivery(
        &mut self,
        bytes: Bytes,
        messages: u32,
        settings: &Settings,
    ) -> super::outbox::Queued {
        let limits = &settings.limits;
        self.outbox.offer(
            bytes,
            messages,
            limits.outbox_bytes_max / 8 * 7,
            limits.outbox_messages_max,
        )
    }

    /// Queues bytes that the socket did not take at once. What it took of them is said next, by [`Session::handle_written`].
    pub fn handle_unwritten(&mut self, now: Time, bytes: Bytes, messages: u32) {
        self.outbox.push(bytes, messages);
        // What is held does not wait for the peer.
        if !self.outbox.is_empty() && !matches!(self.phase, Phase::Held { .. }) {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// The socket took `written` bytes off the front of the outbox.
    pub fn handle_written(&mut self, now: Time, written: usize) {
        self.outbox.handle_written(written);
        self.stalled_since = (!self.outbox.is_empty()).then_some(now);
        if self.outbox.is_empty()
            && let Some(payload) = self.pong_owed.take()
        {
            let mut pong = Vec::new();
            self.wire.pong(&payload, &mut pong);
            self.outbox.push(pong.into(), 0);
        }
    }

    /// The socket takes nothing while the outbox is not empty.
    pub fn handle_blocked(&mut self, now: Time) {
        self.stalled_since.get_or_insert(now);
    }

    /// The peer sends nothing more.
    pub fn handle_eof(&mut self) {
        self.end.get_or_insert(End::Gone);
        self.phase = Phase::Ended;
    }

    /// The next moment at which something is due.
    pub fn deadline(&self, settings: &Settings) -> Time {
        let limits = &settings.limits;
        let phase = match self.phase {
            Phase::Open => self.heartbeat.deadline(limits.pong_timeout),
            Phase::Held { until } | Phase::Closing { until } | Phase::Lingering { until } => until,
            Phase::Ended => Time::ZERO,
        };
        let stalled = self.stalled_since.map(|since| since + limits.write_stall);
        // Once we are closing it no longer matters.
        let unfinished = self
            .unfinished_since
            .filter(|_| self.phase == Phase::Open)
            .map(|since| since + limits.unfinished_message);
        [stalled, unfinished].into_iter().flatten().fold(phase, Time::min)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time, shared: &mut Shared) {
        let limits = &shared.settings.limits;
        let past = |since: Option<Time>, limit: Duration| since.is_some_and(|since| now >= since + limit);
        if past(self.stalled_since, limits.write_stall) {
            self.end.get_or_insert(End::Stalled);
            self.phase = Phase::Ended;
        }
        let unfinished_too_long = past(self.unfinished_since, limits.unfinished_message);
        match self.phase {
            Phase::Held { until } | Phase::Closing { until } | Phase::Lingering { until } if now >= until => {
                self.phase = Phase::Ended;
            }
            Phase::Open if unfinished_too_long => {
                self.end.get_or_insert(End::Excessive);
                self.unfinished_since = None;
                self.close(
                    now,
                    CloseCode::POLICY_VIOLATION,
                    "the message was not finished in time",
                    shared,
                );
            }
            // What is not read cannot show that the peer lives; the write stall deadline does, as long as much waits.
            Phase::Open if !self.wants_input() => self.heartbeat.handle_heard(now),
            Phase::Open => match self.heartbeat.poll(now, limits.pong_timeout) {
                Beat::Wait(_) => {}
                Beat::Ping => {
                    self.ping(shared);
                    match self.wire {
                        Wire::WebSocket(_) => self.heartbeat.handle_pinged(now),
                        // Answers nothing; where it takes nothing, the kernel says so.
                        Wire::Reader(_) => self.heartbeat.handle_heard(now),
                    }
                }
                Beat::Dead => {
                    self.end.get_or_insert(End::Silent);
                    self.phase = Phase::Ended;
                }
            },
            Phase::Held { .. } | Phase::Closing { .. } | Phase::Lingering { .. } | Phase::Ended => {}
        }
    }
}

/// The catalogue holds only codes that may be sent; a test of it says so.
fn close_code(code: u16) -> CloseCode {
    CloseCode::new(code).unwrap_or(CloseCode::POLICY_VIOLATION)
}

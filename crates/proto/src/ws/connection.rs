//! One established connection, after the handshake: bytes in, messages out, and the other way round.

use std::fmt;

use super::close::{self, CloseCode, CloseFrame};
use super::compression::Compression;
use super::deflate::{Agreed, Contexts};
use super::error::PeerMisbehaved;
use super::frame::{self, CONTROL_BYTES_MAX, Header, MessageKind, Opcode};
use super::mask::{self, MaskKeys};
use super::unfinished::{Message, Unfinished, text_not_utf8};
use super::utf8::Text;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}

/// What a peer may make a connection hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes, both as it arrives and after inflating; default 64 KiB. A longer one is answered by
    /// 1009 when its length is declared, before any of it is stored.
    pub message_bytes_max: usize,
    /// Largest factor by which a compressed message may grow, looked at once it has grown beyond 64 KiB; default 100.
    /// A larger one is answered by 1009.
    pub inflate_ratio_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            inflate_ratio_max: 100,
        }
    }
}

/// One thing that arrived, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text message.
    Text(Text<'a>),
    /// A binary message.
    Binary(&'a [u8]),
    /// A Ping, which wants [`Connection::pong`] with the same payload. It is only reported, so that the caller can
    /// answer several by one Pong: "the endpoint MAY elect to send a Pong frame for only the most recently processed
    /// Ping frame" ([RFC 6455 section 5.5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3)).
    Ping(&'a [u8]),
    /// A Pong, asked for or not.
    Pong(&'a [u8]),
    /// The peer's last frame. Answer it with [`Connection::answer_close`], which does nothing if our Close went first.
    Close(Option<CloseFrame<'a>>),
}

/// Whether a frame was appended to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a frame that was not appended will never be sent"]
pub enum Sent {
    /// The frame is in the output.
    Appended,
    /// Nothing was appended: a Close was sent, received or is due, and after it no data may follow.
    NotOpen,
    /// Nothing was appended: the payload of a control frame holds at most
    /// [`CONTROL_BYTES_MAX`] bytes.
    TooLong,
}

/// How far the connection is on its way to the end.
///
/// ```text
///            close()                     Close arrives, or a misdeed
///   Open ───────────────► CloseSent ─────────────────────────────────► Closed
///    │ │                                                                 ▲
///    │ └─ Close arrives ► CloseReceived ── answer_close() or close() ────┤
///    │                                                                   │
///    └─── a misdeed ────► Failed ───────── close() ──────────────────────┘
/// ```
///
/// Input is interpreted in `Open` and `CloseSent` only. `Closed` means that no frame goes either way any more: the
/// transport is closed, by the server first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Messages flow both ways.
    Open,
    /// We sent a Close and wait for the peer's. Whatever else arrives is read past and forgotten.
    CloseSent,
    /// The peer sent a Close with this code, or with none, and waits for ours.
    CloseReceived(Option<CloseCode>),
    /// The peer misbehaved; our Close that says so is due.
    Failed,
    /// It is over.
    Closed,
}

impl State {
    /// Whether input is interpreted.
    fn reads(self) -> bool {
        matches!(self, Self::Open | Self::CloseSent)
    }
    fn close_arrived(self, code: Option<CloseCode>) -> Self {
        match self {
            Self::Open => Self::CloseReceived(code),
            Self::CloseSent => Self::Closed,
            Self::CloseReceived(_) | Self::Failed | Self::Closed => self,
        }
    }

    fn peer_misbehaved(self) -> Self {
        match self {
            Self::Open => Self::Failed,
            // Our one Close has been sent.
            Self::CloseSent => Self::Closed,
            Self::CloseReceived(_) | Self::Failed | Self::Closed => self,
        }
    }

    /// The state after sending a Close; `None` if none may be sent.
    fn close_sent(self) -> Option<Self> {
        match self {
            Self::Open => Some(Self::CloseSent),
            Self::CloseReceived(_) | Self::Failed => Some(Self::Closed),
            Self::CloseSent | Self::Closed => None,
        }
    }
}

/// An established connection. See the [module](super) for how to call it.
///
/// Small, as very many of them are idle: it owns heap only while a frame or message is unfinished, for the masking
/// keys of a client, and for the contexts of a compression that was agreed to keep them.
pub struct Connection {
    limits: Limits,
    /// Present in the client role, and only there.
    masks: Option<Box<MaskKeys>>,
    compression: Option<Compression>,
    unfinished: Option<Box<Unfinished>>,
    state: State,
}

const _: () = assert!(size_of::<Connection>() <= 64, "there is one per idle connection");

/// A complete frame or message, before its payload is judged.
struct Complete<'i> {
    /// Never [`Opcode::Continuation`]: a message has the opcode of its first frame.
    opcode: Opcode,
    compressed: bool,
    /// The payload, unmasked in place; `None` if it was put together in [`Unfinished::finished`].
    payload: Option<&'i mut [u8]>,
    /// The payload was seen to be ASCII.
    is_ascii: bool,
}

impl Connection {
    /// The server's end of a connection, `Open`. `compression` is what the handshake agreed.
    pub fn server(limits: Limits, compression: Option<Agreed>) -> Self {
        Self::new(limits, compression, None)
    }

    /// The client's end of a connection, `Open`. `compression` is what the handshake agreed.
    pub fn client(limits: Limits, compression: Option<Agreed>, masks: MaskKeys) -> Self {
        Self::new(limits, compression, Some(Box::new(masks)))
    }

    fn new(limits: Limits, compression: Option<Agreed>, masks: Option<Box<MaskKeys>>) -> Self {
        let role = if masks.is_some() {
            Role::Client
        } else {
            Role::Server
        };
        let compression = compression.map(|agreed| Compression::new(agreed, role));
        Self {
            limits,
            masks,
            compression,
            unfinished: None,
            state: State::Open,
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        if self.masks.is_some() {
            Role::Client
        } else {
            Role::Server
        }
    }

    /// How far the connection is on its way to the end.
    pub fn state(&self) -> State {
        self.state
    }

    /// Bytes of heap held for an unfinished frame or message, 0 if there is none. After
    /// [`receive`](Self::receive) returned something, it may count that until the next call.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished
            .as_ref()
            .map_or(0, |unfinished| unfinished.heap_bytes())
    }

    /// Whether a frame or a message has begun to arrive and has not ended. How long that may last is the caller's
    /// to decide; a deadline starts anew with every message that is received.
    pub fn message_is_unfinished(&self) -> bool {
        self.unfinished
            .as_ref()
            .is_some_and(|unfinished| !unfinished.is_whole())
    }

    /// Takes bytes off the front of `input` until one message or control frame is complete; `None` means that the
    /// input is used up.
    ///
    /// The payload of a message that came as one frame, whole within `input`, is unmasked in place and borrowed from
    /// there, without copy or allocation. What does not end within `input` is copied, so the caller needs to keep none
    /// of it. Bytes that arrive when the state is neither `Open` nor `CloseSent` are taken and forgotten.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
        contexts: &mut Contexts,
    ) -> Result<Option<Received<'a>>, PeerMisbehaved> {
        self.forget_finished();
        let complete = if self.state.reads() {
            self.next_inflated(input, contexts)
        } else {
            Ok(None)
        };
        let complete = match complete {
            Ok(Some(complete)) => complete,
            Ok(None) => {
                *input = &mut [];
                // What was read past after our Close may have ended, too.
                self.forget_finished();
                return Ok(None);
            }
            Err(misdeed) => {
                self.state = self.state.peer_misbehaved();
                self.unfinished = None;
                *input = &mut [];
                return Err(misdeed);
            }
        };
        let payload: &'a [u8] = match complete.payload {
            Some(payload) => payload,
            None => self
                .unfinished
                .as_ref()
                .map_or(&[], |unfinished| &unfinished.finished),
        };
        let received = judge(complete.opcode, payload, complete.is_ascii);
        match received {
            Ok(Received::Close(frame)) => {
                self.state = self.state.close_arrived(frame.map(|frame| frame.code))
            }
            Ok(_) => {}
            Err(_) => {
                self.state = self.state.peer_misbehaved();
                *input = &mut [];
            }
        }
        received.map(Some)
    }

    fn forget_finished(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.finished = Vec::new();
            if unfinished.is_whole() || !self.state.reads() {
                self.unfinished = None;
            }
        }
    }

    fn next_inflated<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        contexts: &mut Contexts,
    ) -> Result<Option<Complete<'i>>, PeerMisbehaved> {
        let complete = self.next_complete(input)?;
        match (&mut self.compression, complete) {
            (Some(compression), Some(complete)) if complete.compressed => {
                let unfinished = self.unfinished.get_or_insert_default();
                let payload = complete.payload.as_deref().unwrap_or(&unfinished.finished);
                unfinished.finished = compression.decompress(payload, &self.limits, contexts)?;
                Ok(Some(Complete {
                    payload: None,
                    is_ascii: false,
                    ..complete
                }))
            }
            (_, complete) => Ok(complete),
        }
    }

    fn next_complete<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Complete<'i>>, PeerMisbehaved> {
        loop {
            let open = self
                .unfinished
                .as_mut()
                .and_then(|unfinished| unfinished.frame.take());
            let begun = open.is_some();
            let mut frame = match open {
                Some(frame) => frame,
                None => match self.take_header(input)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            let (piece, is_ascii) = take_payload(&mut frame, input);
            let complete = if frame.opcode.is_control() {
                self.take_control(&frame, begun, piece)?
            } else if self.state == State::Open {
                self.take_data(&frame, begun, piece, is_ascii)?
            } else {
                self.skip_data(&frame);
                None
            };
            if frame.payload_bytes > 0 {
                self.unfinished.get_or_insert_default().frame = Some(frame);
                return Ok(None);
            }
            if complete.is_some() {
                return Ok(complete);
            }
        }
    }

    /// The next frame's header, off the front of `input`.
    fn take_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, PeerMisbehaved> {
        let (header, taken) = match &mut self.unfinished {
            Some(unfinished) if unfinished.has_header_bytes() => unfinished.extend_header(input)?,
            _ => match Header::decode(input)? {
                Some((header, taken)) => (Some(header), taken),
                None if input.is_empty() => (None, 0),
                None => self.unfinished.get_or_insert_default().extend_header(input)?,
            },
        };
        *input = &mut std::mem::take(input)[taken..];
        if let Some(header) = &header {
            self.admit(header)?;
        }
        Ok(header)
    }

    /// Checks the rules of a header that depend on the connection.
    fn admit(&self, header: &Header) -> Result<(), PeerMisbehaved> {
        // RFC 6455 section 5.1: "The server MUST close the connection upon receiving a frame that is not masked. [...] A
        // client MUST close a connection if it detects a masked frame."
        match (self.role(), header.mask) {
            (Role::Server, None) => return Err(PeerMisbehaved::FrameNotMasked),
            (Role::Client, Some(_)) => return Err(PeerMisbehaved::FrameMasked),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        if header.rsv1 {
            // RFC 7692 section 6: "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and
            // non-first fragments of a data message."
            if self.compression.is_none() {
                return Err(PeerMisbehaved::CompressionNotAgreed);
            }
            if header.opcode.is_control() {
                return Err(PeerMisbehaved::CompressedControl);
            }
            if header.opcode == Opcode::Continuation {
                return Err(PeerMisbehaved::CompressedContinuation);
            }
        }
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self
            .unfinished
            .as_ref()
            .and_then(|unfinished| unfinished.message.as_ref());
        // RFC 6455 section 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another
        // message".
        match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(PeerMisbehaved::StrayContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(PeerMisbehaved::MessageInsideMessage),
            _ => {}
        }
        let held = message.map_or(0, |message| message.payload.len());
        let room = self.limits.message_bytes_max.saturating_sub(held);
        match usize::try_from(header.payload_bytes) {
            Ok(payload_bytes) if payload_bytes <= room => Ok(()),
            _ => Err(PeerMisbehaved::MessageTooLong),
        }
    }

    /// `frame` is what is left of the frame after `piece`; `begun` says that other pieces came before.
    fn take_control<'i>(
        &mut self,
        frame: &Header,
        begun: bool,
        piece: &'i mut [u8],
    ) -> Result<Option<Complete<'i>>, PeerMisbehaved> {
        let ends = frame.payload_bytes == 0;
        let payload = if ends && !begun {
            Some(piece)
        } else {
            let unfinished = self.unfinished.get_or_insert_default();
            let beginning = unfinished.extend_control(piece);
            if frame.opcode == Opcode::Close {
                close::check_beginning(beginning)?;
            }
            if !ends {
                return Ok(None);
            }
            unfinished.finish_control();
            None
        };
        if self.state == State::CloseSent && frame.opcode != Opcode::Close {
            return Ok(None);
        }
        Ok(Some(Complete {
            opcode: frame.opcode,
            compressed: false,
            payload,
            is_ascii: false,
        }))
    }

    /// As [`take_control`](Self::take_control), for the frames of messages.
    fn take_data<'i>(
        &mut self,
        frame: &Header,
        begun: bool,
        piece: &'i mut [u8],
        is_ascii: bool,
    ) -> Result<Option<Complete<'i>>, PeerMisbehaved> {
        let ends = frame.fin && frame.payload_bytes == 0;
        if ends && !begun && frame.opcode != Opcode::Continuation {
            return Ok(Some(Complete {
                opcode: frame.opcode,
                compressed: frame.rsv1,
                payload: Some(piece),
                is_ascii,
            }));
        }
        let unfinished = self.unfinished.get_or_insert_default();
        let message = unfinished.message.get_or_insert_with(|| message_of(frame));
        message.extend(piece, frame, &self.limits)?;
        if !ends {
            return Ok(None);
        }
        let (opcode, compressed) = (message.kind.into(), message.compressed);
        unfinished.finish_message();
        Ok(Some(Complete {
            opcode,
            compressed,
            payload: None,
            is_ascii: false,
        }))
    }

    /// As [`take_data`](Self::take_data), after our Close: remembers only whether a message is unfinished.
    fn skip_data(&mut self, frame: &Header) {
        let ends = frame.fin && frame.payload_bytes == 0;
        if !ends {
            let unfinished = self.unfinished.get_or_insert_default();
            unfinished.message.get_or_insert_with(|| message_of(frame));
        } else if let Some(unfinished) = &mut self.unfinished {
            unfinished.message = None;
        }
    }

    /// Appends a message, in one frame: compressed if that was agreed, `payload` is long enough to gain by it, and did.
    ///
    /// That a text is UTF-8 is the caller's to ensure.
    pub fn send(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        contexts: &mut Contexts,
        out: &mut Vec<u8>,
    ) -> Sent {
        if self.state != State::Open {
            return Sent::NotOpen;
        }
        let compression = self.compression.as_mut();
        match compression.and_then(|compression| compression.compress(payload, contexts)) {
            Some(compressed) => self.append(kind.into(), true, &compressed, out),
            None => self.append(kind.into(), false, payload, out),
        }
        Sent::Appended
    }

    /// Whether a compression was agreed.
    pub fn compresses(&self) -> bool {
        self.compression.is_some()
    }

    /// With which window [`encode_shared`](super::encode_shared) may compress for this connection; `None` if it may
    /// not: nothing was agreed, or our messages refer to earlier ones.
    pub fn shared_window_bits(&self) -> Option<u8> {
        self.compression
            .as_ref()
            .and_then(Compression::shared_window_bits)
    }

    /// Appends a Ping. The peer answers it by a Pong with the same payload of at most
    /// [`CONTROL_BYTES_MAX`] bytes, or by the Pong for a later Ping.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Sent {
        self.control(Opcode::Ping, payload, out)
    }

    /// Appends a Pong: the answer to a [`Received::Ping`], with its payload, or unasked for.
    pub fn pong(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Sent {
        self.control(Opcode::Pong, payload, out)
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Sent {
        if self.state != State::Open {
            return Sent::NotOpen;
        }
        if payload.len() > CONTROL_BYTES_MAX {
            return Sent::TooLong;
        }
        self.append(opcode, false, payload, out);
        Sent::Appended
    }

    /// Appends our one Close. A `reason` longer than [`REASON_BYTES_MAX`](close::REASON_BYTES_MAX) is cut between two
    /// characters.
    ///
    /// In `Open` it starts the close handshake: a message that is arriving is dropped, and from then on
    /// [`receive`](Self::receive) reports nothing but the peer's Close. In `CloseReceived` it answers, in `Failed` it
    /// says what the peer did ([`PeerMisbehaved::close_code`]).
    pub fn close(&mut self, code: CloseCode, reason: &str, out: &mut Vec<u8>) -> Sent {
        let mut body = Vec::with_capacity(CONTROL_BYTES_MAX);
        CloseFrame { code, reason }.encode_body(&mut body);
        self.close_with_body(&body, out)
    }

    /// Appends the answer to a received Close: the code it had, or none if it had none. `NotOpen` if no Close waits
    /// for an answer.
    ///
    /// [RFC 6455 section 5.5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.1): "When sending a Close frame in
    /// response, the endpoint typically echos the status code it received."
    pub fn answer_close(&mut self, out: &mut Vec<u8>) -> Sent {
        match self.state {
            State::CloseReceived(Some(code)) => self.close(code, "", out),
            State::CloseReceived(None) => self.close_with_body(&[], out),
            State::Open | State::CloseSent | State::Failed | State::Closed => Sent::NotOpen,
        }
    }

    fn close_with_body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Sent {
        let Some(state) = self.state.close_sent() else {
            return Sent::NotOpen;
        };
        self.append(Opcode::Close, false, body, out);
        self.state = state;
        if let Some(compression) = &mut self.compression {
            compression.forget_context();
        }
        match &mut self.unfinished {
            Some(unfinished) if state == State::CloseSent => {
                unfinished.finished = Vec::new();
                if let Some(message) = &mut unfinished.message {
                    message.payload = Vec::new();
                }
            }
            _ => self.unfinished = None,
        }
        Sent::Appended
    }

    fn append(&mut self, opcode: Opcode, compressed: bool, payload: &[u8], out: &mut Vec<u8>) {
        // RFC 6455 section 5.1: "a client MUST mask all frames that it sends to the server", "A server MUST NOT mask
        // any frames that it sends to the client."
        let mask = self.masks.as_mut().map(|masks| masks.draw());
        frame::encode(opcode, compressed, payload, mask, out);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role())
            .field("state", &self.state)
            .field("unfinished_bytes", &self.unfinished_bytes())
            .finish_non_exhaustive()
    }
}

/// Takes as much of the frame's payload as there is off the front of `input`, and unmasks it. Says whether it was seen to
/// be ASCII.
fn take_payload<'i>(frame: &mut Header, input: &mut &'i mut [u8]) -> (&'i mut [u8], bool) {
    let taken = usize::try_from(frame.payload_bytes).map_or(input.len(), |left| left.min(input.len()));
    let (piece, rest) = std::mem::take(input).split_at_mut(taken);
    *input = rest;
    frame.payload_bytes -= taken as u64;
    let Some(key) = frame.mask else {
        return (piece, false);
    };
    let (next, is_ascii) = mask::apply_seeing(piece, key);
    frame.mask = Some(next);
    (piece, is_ascii)
}

/// The message that starts with `frame`.
fn message_of(frame: &Header) -> Message {
    let kind = if frame.opcode == Opcode::Text {
        MessageKind::Text
    } else {
        MessageKind::Binary
    };
    Message::new(kind, frame.rsv1)
}

/// Checks what only the whole payload shows.
fn judge(opcode: Opcode, payload: &[u8], is_ascii: bool) -> Result<Received<'_>, PeerMisbehaved> {
    match opcode {
        Opcode::Text => Text::judge(payload, is_ascii)
            .map(Received::Text)
            .map_err(text_not_utf8),
        Opcode::Binary | Opcode::Continuation => Ok(Received::Binary(payload)),
        Opcode::Ping => Ok(Received::Ping(payload)),
        Opcode::Pong => Ok(Received::Pong(payload)),
        Opcode::Close => CloseFrame::parse(payload).map(Received::Close),
    }
}

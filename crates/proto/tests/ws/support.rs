//! A second, naive frame encoder and an echoing endpoint, so that the core is not judged by itself.

use switchboard_proto::ws::close::CloseCode;
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::error::PeerMisbehaved;
use switchboard_proto::ws::{Connection, Limits, MessageKind, Received, Sent};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

const KEY: [u8; 4] = [0x9c, 0x01, 0xfe, 0x53];

/// A frame as its fields, legal or not.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    /// RSV1 to RSV3 as a number from 0 to 7.
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame {
        fin: true,
        rsv: 0,
        opcode,
        payload: payload.as_ref().to_vec(),
    }
}

pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

impl Frame {
    pub(crate) fn not_fin(self) -> Self {
        Self { fin: false, ..self }
    }

    pub(crate) fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    fn encode(&self, key: Option<[u8; 4]>) -> Vec<u8> {
        let mask_bit = if key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        match self.payload.len() {
            length @ 0..=125 => bytes.push(mask_bit | length as u8),
            length @ 126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        match key {
            Some(key) => {
                bytes.extend(key);
                bytes.extend(
                    self.payload
                        .iter()
                        .zip(key.iter().cycle())
                        .map(|(byte, key)| byte ^ key),
                );
            }
            None => bytes.extend(&self.payload),
        }
        bytes
    }

    /// As a client sends it.
    pub(crate) fn masked(&self) -> Vec<u8> {
        self.encode(Some(KEY))
    }

    /// As a server sends it.
    pub(crate) fn unmasked(&self) -> Vec<u8> {
        self.encode(None)
    }
}

pub(crate) fn masked(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::masked).collect()
}

pub(crate) fn unmasked(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::unmasked).collect()
}

/// What a connection reported, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Misdeed(PeerMisbehaved),
}

impl From<Received<'_>> for Event {
    fn from(received: Received<'_>) -> Self {
        match received {
            Received::Text(text) => Self::Text(text.as_str().to_owned()),
            Received::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Received::Ping(payload) => Self::Ping(payload.to_vec()),
            Received::Pong(payload) => Self::Pong(payload.to_vec()),
            Received::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.value(), frame.reason.to_owned())))
            }
        }
    }
}

pub(crate) fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

/// Feeds `pieces` one after the other and returns everything that was reported.
pub(crate) fn feed<'p>(
    connection: &mut Connection,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<Event> {
    let mut contexts = Contexts::new(6);
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match connection.receive(&mut input, &mut contexts) {
                Ok(Some(received)) => events.push(received.into()),
                Ok(None) => break,
                Err(misdeed) => events.push(Event::Misdeed(misdeed)),
            }
        }
        assert!(input.is_empty(), "`None` means that the input is used up");
    }
    events
}

/// A server with these limits that got `bytes` at once.
pub(crate) fn server_receives(bytes: &[u8]) -> Vec<Event> {
    feed(&mut server(), [bytes])
}

pub(crate) fn server() -> Connection {
    Connection::server(Limits::default(), None)
}

/// An endpoint that returns every message, answers every Ping, and closes as it should.
pub(crate) struct Echo {
    connection: Connection,
    contexts: Contexts,
    pub(crate) sent: Vec<u8>,
}

impl Echo {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            contexts: Contexts::new(6),
            sent: Vec::new(),
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut input = bytes.as_mut_slice();
        loop {
            let event = match self.connection.receive(&mut input, &mut self.contexts) {
                Ok(Some(received)) => received.into(),
                Ok(None) => return,
                Err(misdeed) => Event::Misdeed(misdeed),
            };
            let sent = self.answer(event);
            assert_eq!(sent, Sent::Appended);
        }
    }

    fn answer(&mut self, event: Event) -> Sent {
        let Self {
            connection,
            contexts,
            sent,
        } = self;
        match event {
            Event::Text(text) => connection.send(MessageKind::Text, text.as_bytes(), contexts, sent),
            Event::Binary(bytes) => connection.send(MessageKind::Binary, &bytes, contexts, sent),
            Event::Ping(payload) => connection.pong(&payload, sent),
            Event::Pong(_) => Sent::Appended,
            Event::Close(_) => connection.answer_close(sent),
            Event::Misdeed(misdeed) => connection.close(misdeed.close_code(), "", sent),
        }
    }
}

pub(crate) fn code(code: u16) -> CloseCode {
    CloseCode::new(code).expect("a test names a code that may be sent")
}

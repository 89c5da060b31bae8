//! What several targets need to speak WebSocket: a second, naive frame encoder, so that the core is not judged by itself,
//! and what a connection reports, owned.

use switchboard_proto::ws::deflate::{Agreed, Contexts};
use switchboard_proto::ws::{Connection, Limits, MaskKeys, PeerMisbehaved, Received, Role};

use crate::script::Script;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// A frame as its fields, legal or not.
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) rsv1: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Frame {
        Frame {
            fin: true,
            rsv1: false,
            opcode,
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn not_fin(self) -> Frame {
        Frame { fin: false, ..self }
    }

    pub(crate) fn encode(&self, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode);
        let masked = if mask.is_some() { 0x80 } else { 0 };
        match self.payload.len() {
            length @ 0..=125 => out.push(masked | length as u8),
            length @ 126..=0xffff => {
                out.push(masked | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(masked | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        let key = mask.unwrap_or_default();
        out.extend(mask.iter().flatten());
        out.extend(
            self.payload
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
    }
}

/// What a connection reported.
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
    fn from(received: Received<'_>) -> Event {
        match received {
            Received::Text(text) => Event::Text(text.as_str().to_owned()),
            Received::Binary(bytes) => Event::Binary(bytes.to_vec()),
            Received::Ping(payload) => Event::Ping(payload.to_vec()),
            Received::Pong(payload) => Event::Pong(payload.to_vec()),
            Received::Close(frame) => {
                Event::Close(frame.map(|frame| (frame.code.value(), frame.reason.to_owned())))
            }
        }
    }
}

/// What permessage-deflate may have agreed on.
pub(crate) fn agreed(script: &mut Script<'_>) -> Agreed {
    let flags = script.byte();
    Agreed {
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: 8 + (flags >> 2) % 8,
        client_max_window_bits: 8 + (flags >> 5),
    }
}

/// `bytes` in pieces of these lengths, in turn; 0 stands for all that is left.
pub(crate) fn pieces<'b>(bytes: &'b [u8], lengths: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = match lengths.next() {
            _ if rest.is_empty() => return None,
            None | Some(0) => rest.len(),
            Some(length) => usize::from(*length).min(rest.len()),
        };
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        Some(piece)
    })
}

/// Cuts `bytes` off, or puts a byte in, or changes one, or does nothing.
pub(crate) fn damage(bytes: &mut Vec<u8>, [high, low, change]: [u8; 3]) {
    let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len().max(1);
    match change {
        0..64 => {}
        64 => bytes.truncate(place),
        65..72 => bytes.insert(place, change),
        _ => bytes
            .iter_mut()
            .skip(place)
            .take(1)
            .for_each(|byte| *byte ^= change),
    }
}

/// The reader at the other end of what the tested side sends, which nothing surprises.
pub(crate) struct Reader {
    connection: Connection,
    contexts: Contexts,
    closed: bool,
}

impl Reader {
    /// The end of this role.
    pub(crate) fn new(role: Role, agreed: Option<Agreed>) -> Reader {
        let limits = Limits {
            message_bytes_max: 1 << 26,
            inflate_ratio_max: usize::MAX,
        };
        let connection = match role {
            Role::Server => Connection::server(limits, agreed),
            Role::Client => Connection::client(limits, agreed, MaskKeys::from_seed([3; 32])),
        };
        Reader {
            connection,
            contexts: Contexts::new(1),
            closed: false,
        }
    }

    /// What `bytes` say. They keep the protocol, and nothing follows a Close.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Event> {
        assert!(!self.closed || bytes.is_empty(), "after the Close: {bytes:x?}");
        let mut bytes = bytes.to_vec();
        let mut input = bytes.as_mut_slice();
        let mut events = Vec::new();
        loop {
            match self.connection.receive(&mut input, &mut self.contexts) {
                Ok(None) => return events,
                Ok(Some(received)) => events.push(received.into()),
                Err(misdeed) => panic!("we misbehave: {misdeed}, after {events:?}"),
            }
            if matches!(events.last(), Some(Event::Close(_))) {
                self.closed = true;
                assert!(input.is_empty(), "after the Close: {input:x?}");
            }
        }
    }

    /// Whether a Close was read.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether what was read ends with a whole message.
    pub(crate) fn is_at_an_end(&self) -> bool {
        !self.connection.message_is_unfinished()
    }
}

//! What a session's messages travel in.

use super::Refusal;
use crate::dialect::event_stream::HEARTBEAT;
use crate::session::broadcast::Framing;
use crate::session::places::Places;
use crate::ws::close::CloseCode;
use crate::ws::deflate::Contexts;
use crate::ws::{Connection, MessageKind};

/// See the module.
pub(super) enum Wire {
    /// Both sides speak.
    WebSocket(Connection),
    /// The body of an HTTP response.
    Reader(Reader),
}

/// A peer that only reads.
pub(super) enum Reader {
    /// For as long as it likes.
    Stream {
        /// Where it is, if that is more than one place.
        places: Option<Box<Places>>,
    },
    /// One answer.
    Poll {
        /// Where it was when it asked.
        places: Box<Places>,
        /// What is answered instead.
        refusal: Option<Box<Refusal>>,
    },
}

impl Reader {
    pub(super) fn places(&mut self) -> Option<&mut Places> {
        match self {
            Reader::Stream { places } => places.as_deref_mut(),
            Reader::Poll { places, .. } => Some(places),
        }
    }
}

/// A connection that closes says nothing more, and nobody misses that.
impl Wire {
    pub(super) fn framing(&self) -> Framing {
        match self {
            Wire::WebSocket(connection) => Framing::WebSocket {
                window_bits: connection.shared_window_bits(),
            },
            Wire::Reader(_) => Framing::Bare,
        }
    }

    pub(super) fn send(
        &mut self,
        kind: MessageKind,
        message: &[u8],
        contexts: &mut Contexts,
        out: &mut Vec<u8>,
    ) {
        match self {
            Wire::WebSocket(connection) => {
                let _open = connection.send(kind, message, contexts, out);
            }
            Wire::Reader(_) => out.extend_from_slice(message),
        }
    }

    pub(super) fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Wire::WebSocket(connection) => {
                let _open = connection.ping(payload, out);
            }
            Wire::Reader(Reader::Stream { .. }) => out.extend_from_slice(HEARTBEAT),
            Wire::Reader(Reader::Poll { .. }) => {}
        }
    }

    pub(super) fn pong(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if let Wire::WebSocket(connection) = self {
            let _open = connection.pong(payload, out);
        }
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str, out: &mut Vec<u8>) {
        if let Wire::WebSocket(connection) = self {
            let _open = connection.close(code, reason, out);
        }
    }

    pub(super) fn answer_close(&mut self, out: &mut Vec<u8>) {
        if let Wire::WebSocket(connection) = self {
            let _open = connection.answer_close(out);
        }
    }

    pub(super) fn message_is_unfinished(&self) -> bool {
        match self {
            Wire::WebSocket(connection) => connection.message_is_unfinished(),
            Wire::Reader(_) => false,
        }
    }

    pub(super) fn unfinished_bytes(&self) -> usize {
        match self {
            Wire::WebSocket(connection) => connection.unfinished_bytes(),
            Wire::Reader(_) => 0,
        }
    }
}

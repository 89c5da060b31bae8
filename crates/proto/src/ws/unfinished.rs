//! What a connection holds on the heap while a frame or a message is unfinished; idle connections hold none of it.

use super::connection::Limits;
use super::error::PeerMisbehaved;
use super::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, MessageKind};
use super::utf8::{NotUtf8, Utf8Progress};

/// First allocation for the payload of an unfinished message.
const PAYLOAD_BYTES_FIRST: usize = 64;

/// The pieces of whatever has begun to arrive and has not ended.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    /// What is still to come of a frame whose header is complete; the masking key is turned to the next byte.
    pub(super) frame: Option<Header>,
    /// The message that frames are being added to.
    pub(super) message: Option<Message>,
    /// Payload of a control frame, which may come between the frames of a message.
    control: Vec<u8>,
    /// Payload that was completed last. It stays until the next call, as the caller may be looking at it.
    pub(super) finished: Vec<u8>,
}

impl Unfinished {
    /// Whether no frame and no message is unfinished.
    pub(super) fn is_whole(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Bytes of heap in use, this struct included.
    pub(super) fn heap_bytes(&self) -> usize {
        let message = self
            .message
            .as_ref()
            .map_or(0, |message| message.payload.capacity());
        size_of::<Self>() + message + self.control.capacity() + self.finished.capacity()
    }

    /// Whether the beginning of a header waits for its rest.
    pub(super) fn has_header_bytes(&self) -> bool {
        self.header_bytes > 0
    }

    /// Adds the front of `input` to the bytes of a header. Returns the header, once complete, and how many bytes of
    /// `input` belong to it (all of them, as long as it is not).
    pub(super) fn extend_header(&mut self, input: &[u8]) -> Result<(Option<Header>, usize), PeerMisbehaved> {
        let held = usize::from(self.header_bytes);
        let end = HEADER_BYTES_MAX.min(held + input.len());
        self.header[held..end].copy_from_slice(&input[..end - held]);
        match Header::decode(&self.header[..end])? {
            Some((header, header_bytes)) => {
                self.header_bytes = 0;
                // What was held before was no whole header, so the header ends within `input`.
                Ok((Some(header), header_bytes - held))
            }
            None => {
                self.header_bytes = end as u8;
                Ok((None, end - held))
            }
        }
    }

    /// Adds to the payload of a control frame, whose header promised at most [`CONTROL_BYTES_MAX`] bytes.
    pub(super) fn extend_control(&mut self, piece: &[u8]) -> &[u8] {
        if self.control.capacity() == 0 {
            self.control.reserve_exact(CONTROL_BYTES_MAX);
        }
        self.control.extend_from_slice(piece);
        &self.control
    }

    /// The control frame is complete.
    pub(super) fn finish_control(&mut self) {
        self.finished = std::mem::take(&mut self.control);
    }

    /// The message is complete. Whether a text ends with a whole character shows when it is read as one.
    pub(super) fn finish_message(&mut self) {
        self.finished = self
            .message
            .take()
            .map_or_else(Vec::new, |message| message.payload);
    }
}

/// A message of which some, perhaps no bytes have arrived.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: MessageKind,
    pub(super) compressed: bool,
    pub(super) payload: Vec<u8>,
    utf8: Utf8Progress,
}

impl Message {
    pub(super) fn new(kind: MessageKind, compressed: bool) -> Self {
        Self {
            kind,
            compressed,
            payload: Vec::new(),
            utf8: Utf8Progress::default(),
        }
    }

    /// Adds `piece`. `frame` is what is still to come of the frame it is from.
    ///
    /// Memory grows with the bytes that arrived, never with a length that was only declared, and by doubling, so
    /// that many small pieces cost no more than few large ones. It never grows beyond what the message can become.
    pub(super) fn extend(
        &mut self,
        piece: &[u8],
        frame: &Header,
        limits: &Limits,
    ) -> Result<(), PeerMisbehaved> {
        // RFC 6455 section 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte
        // stream is not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
        if self.kind == MessageKind::Text && !self.compressed {
            self.utf8.feed(piece).map_err(text_not_utf8)?;
        }
        let needed = self.payload.len() + piece.len();
        if needed > self.payload.capacity() {
            let final_bytes = match usize::try_from(frame.payload_bytes) {
                Ok(to_come) if frame.fin => needed.saturating_add(to_come),
                _ => limits.message_bytes_max,
            };
            let doubled = self.payload.capacity().saturating_mul(2).max(PAYLOAD_BYTES_FIRST);
            let capacity = doubled.min(final_bytes).max(needed);
            self.payload.reserve_exact(capacity - self.payload.len());
        }
        self.payload.extend_from_slice(piece);
        Ok(())
    }
}

pub(super) fn text_not_utf8(NotUtf8: NotUtf8) -> PeerMisbehaved {
    PeerMisbehaved::TextNotUtf8
}

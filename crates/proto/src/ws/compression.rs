//! One connection's share of permessage-deflate: which direction keeps its context, and what is worth compressing.

use super::connection::{Limits, Role};
use super::deflate::{
    Agreed, Compressor, Contexts, Decompressor, InflateError, InflateLimits, RATIO_FREE_BYTES,
};
use super::error::PeerMisbehaved;
use super::frame::{self, MessageKind};

/// Shorter messages are not compressed by themselves. Chat messages of 128 bytes shrink to 84 %, of 256 to 75 %, of 1,024
/// to 29 %, each in 5 to 8 µs (level 6, zlib-rs 0.6.8): below this the bytes saved are not worth the time.
const ALONE_BYTES_MIN: usize = 256;

/// Shorter messages are not compressed with the context of earlier ones either, which gains far more: a repeated message
/// of any length takes about ten bytes.
const AFTER_OTHERS_BYTES_MIN: usize = 64;

/// A client compresses no message by more than this factor: a server takes that for a bomb, and the connection would be
/// closed for a payload of blanks. What shrinks further goes as it is.
const CLIENT_RATIO_MAX: usize = 100;

/// The agreed compression as one end sees it. Nothing on the heap unless a direction keeps its context.
pub(super) struct Compression {
    /// Largest window that our messages may need.
    window_bits: u8,
    role: Role,
    takeover: Option<Box<Takeover>>,
}

/// Absent for a direction that starts every message anew.
struct Takeover {
    sent: Option<Compressor>,
    received: Option<Decompressor>,
}

impl Compression {
    pub(super) fn new(agreed: Agreed, role: Role) -> Self {
        let server = (agreed.server_max_window_bits, !agreed.server_no_context_takeover);
        let client = (agreed.client_max_window_bits, !agreed.client_no_context_takeover);
        let ((window_bits, keeps), (peer_window_bits, peer_keeps)) = match role {
            Role::Server => (server, client),
            Role::Client => (client, server),
        };
        let takeover = (keeps || peer_keeps).then(|| {
            Box::new(Takeover {
                sent: keeps.then(|| Compressor::new(window_bits)),
                received: peer_keeps.then(|| Decompressor::new(peer_window_bits)),
            })
        });
        Self {
            window_bits,
            role,
            takeover,
        }
    }

    /// The window that messages may be compressed with without this connection's context; `None` if they may not.
    pub(super) fn shared_window_bits(&self) -> Option<u8> {
        let keeps = self
            .takeover
            .as_ref()
            .is_some_and(|takeover| takeover.sent.is_some());
        (!keeps).then_some(self.window_bits)
    }

    /// The payload to send in place of `payload`; `None` if that is better sent as it is.
    pub(super) fn compress(&mut self, payload: &[u8], contexts: &mut Contexts) -> Option<Vec<u8>> {
        match self.takeover.as_mut().and_then(|takeover| takeover.sent.as_mut()) {
            None => compress_alone(payload, self.window_bits, contexts)
                .filter(|compressed| self.role == Role::Server || !is_like_a_bomb(payload, compressed)),
            Some(_) if payload.len() < AFTER_OTHERS_BYTES_MIN => None,
            // What has become context must be sent, even if it turned out longer.
            Some(sent) => {
                let mut compressed = Vec::new();
                sent.compress(contexts, payload, &mut compressed);
                Some(compressed)
            }
        }
    }

    /// The message that `payload` was compressed from.
    pub(super) fn decompress(
        &mut self,
        payload: &[u8],
        limits: &Limits,
        contexts: &mut Contexts,
    ) -> Result<Vec<u8>, PeerMisbehaved> {
        let limits = InflateLimits {
            bytes_max: limits.message_bytes_max,
            ratio_max: limits.inflate_ratio_max,
        };
        let mut message = Vec::new();
        match self
            .takeover
            .as_mut()
            .and_then(|takeover| takeover.received.as_mut())
        {
            None => contexts.decompress(payload, limits, &mut message),
            Some(received) => received.decompress(contexts, payload, limits, &mut message),
        }
        .map_err(|error| match error {
            InflateError::TooLarge => PeerMisbehaved::InflatedTooLong,
            InflateError::RatioExceeded => PeerMisbehaved::InflateRatio,
            InflateError::Corrupt => PeerMisbehaved::DeflateInvalid,
        })?;
        Ok(message)
    }

    /// No message will be sent or read any more.
    pub(super) fn forget_context(&mut self) {
        self.takeover = None;
    }
}

fn compress_alone(payload: &[u8], window_bits: u8, contexts: &mut Contexts) -> Option<Vec<u8>> {
    if payload.len() < ALONE_BYTES_MIN {
        return None;
    }
    let mut compressed = Vec::new();
    contexts.compress(window_bits, payload, &mut compressed);
    (compressed.len() < payload.len()).then_some(compressed)
}

fn is_like_a_bomb(payload: &[u8], compressed: &[u8]) -> bool {
    payload.len() > RATIO_FREE_BYTES && payload.len() > compressed.len() * CLIENT_RATIO_MAX
}

/// Appends a message as a server sends it to every client whose
/// [`Connection::shared_window_bits`](super::Connection::shared_window_bits) is this, so that a message for many is
/// compressed and framed once. A `payload` that is not worth compressing goes as it is; so it does with `None`.
///
/// As with [`frame::encode_message`], the caller looks whether each connection is
/// [`Open`](super::State::Open).
#[inline]
pub fn encode_shared(
    kind: MessageKind,
    payload: &[u8],
    shared_window_bits: Option<u8>,
    contexts: &mut Contexts,
    out: &mut Vec<u8>,
) {
    match shared_window_bits.and_then(|bits| compress_alone(payload, bits, contexts)) {
        Some(compressed) => frame::encode_message(kind, &compressed, true, out),
        None => frame::encode_message(kind, payload, false, out),
    }
}

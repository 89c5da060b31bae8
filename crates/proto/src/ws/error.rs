//! What a peer can do wrong on an established WebSocket connection: one variant per misdeed.
//!
//! Every variant is the peer's fault. What the caller can do wrong (sending on a closed connection) is not an
//! error but a status, [`Sent`](crate::ws::Sent).

use super::close::CloseCode;

/// A breach of RFC 6455 or RFC 7692, or of our limits, by the peer.
///
/// The connection that reported it interprets nothing further; [`close_code`](Self::close_code) is what the Close
/// frame then says ([RFC 6455 section 7.1.7](https://www.rfc-editor.org/rfc/rfc6455#section-7.1.7), "Fail the
/// WebSocket Connection").
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// RSV2 or RSV3 is set; no extension that gives them a meaning exists here.
    #[error("reserved bit set")]
    ReservedBits,
    /// Opcode 3–7 or 11–15.
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// A Close, Ping or Pong without FIN.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A Close, Ping or Pong with more than 125 bytes of payload.
    #[error("control frame longer than 125 bytes")]
    ControlTooLong,
    /// A length written in more bytes than it needs.
    #[error("payload length not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length whose most significant bit is set.
    #[error("payload length above 2^63 - 1")]
    LengthTopBit,
    /// A client sent a frame that is not masked.
    #[error("client frame not masked")]
    FrameNotMasked,
    /// A server sent a masked frame.
    #[error("server frame masked")]
    FrameMasked,
    /// RSV1 is set, but no compression was agreed.
    #[error("compressed frame without agreed compression")]
    CompressionNotAgreed,
    /// RSV1 is set on a control frame.
    #[error("compressed control frame")]
    CompressedControl,
    /// RSV1 is set on a continuation frame; only the first frame of a message carries it.
    #[error("compression bit on a continuation frame")]
    CompressedContinuation,
    /// A continuation frame while no message is unfinished.
    #[error("continuation frame without a message to continue")]
    StrayContinuation,
    /// A text or binary frame while the message before it is unfinished.
    #[error("new message inside an unfinished message")]
    MessageInsideMessage,
    /// The message, as it arrives, would be longer than [`Limits::message_bytes_max`](crate::ws::Limits).
    #[error("message too long")]
    MessageTooLong,
    /// A text message that is not UTF-8.
    #[error("text is not UTF-8")]
    TextNotUtf8,
    /// A Close frame with a body of one byte: too short for a code.
    #[error("close frame with a one-byte body")]
    CloseBodyTooShort,
    /// A Close frame with a code that must not be sent; see [`CloseCode::new`].
    #[error("close code {0} must not be sent")]
    CloseCodeForbidden(u16),
    /// A Close frame whose reason is not UTF-8.
    #[error("close reason is not UTF-8")]
    CloseReasonNotUtf8,
    /// A compressed message that is not a DEFLATE stream.
    #[error("compressed message is not a deflate stream")]
    DeflateInvalid,
    /// A compressed message that inflates to more than [`Limits::message_bytes_max`](crate::ws::Limits).
    #[error("message too long after inflating")]
    InflatedTooLong,
    /// A compressed message that inflates by more than [`Limits::inflate_ratio_max`](crate::ws::Limits).
    #[error("message inflates by too large a factor")]
    InflateRatio,
}

impl PeerMisbehaved {
    /// The code for the Close frame that answers this misdeed: 1002, 1007 or 1009.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::FrameNotMasked
            | Self::FrameMasked
            | Self::CompressionNotAgreed
            | Self::CompressedControl
            | Self::CompressedContinuation
            | Self::StrayContinuation
            | Self::MessageInsideMessage
            | Self::CloseBodyTooShort
            | Self::CloseCodeForbidden(_) => CloseCode::PROTOCOL_ERROR,
            // RFC 6455 section 7.4.1: 1007 is for "data within a message that was not consistent with the type of
            // the message". A broken DEFLATE stream has no code of its own in RFC 7692; this is the nearest.
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 | Self::DeflateInvalid => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooLong | Self::InflatedTooLong | Self::InflateRatio => CloseCode::MESSAGE_TOO_BIG,
        }
    }
}

//! The frame: opcode, header, and the bytes of whole frames ([RFC 6455 section
//! 5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
//!
//! Here stand the rules that a header breaks by itself. Those that depend on the connection (who masks, what was
//! agreed, what is unfinished, what is too long) stand in [`connection`](super::connection).

use super::error::PeerMisbehaved;
use super::mask;

/// Longest header, in bytes: two, a 64-bit length, a masking key.
pub const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// Longest payload of a control frame, in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_RSV3: u8 = 0x30;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IN_2_BYTES: u8 = 126;
const LENGTH_IN_8_BYTES: u8 = 127;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0x0,
    /// A text message or its first part.
    Text = 0x1,
    /// A binary message or its first part.
    Binary = 0x2,
    /// The sender's last frame.
    Close = 0x8,
    /// Asks for a Pong.
    Ping = 0x9,
    /// Answers a Ping, or just says "alive".
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with this number; `None` for the reserved ones.
    pub const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is a Close, Ping or Pong.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The two kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// A frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether it is the last of its message.
    pub fin: bool,
    /// RSV1: with permessage-deflate, whether the message is compressed.
    pub rsv1: bool,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Length of the payload, at most 2^63 − 1.
    pub payload_bytes: u64,
}

impl Header {
    /// Reads a header from the front of `bytes` and says how many of them it took; `None` if it goes on beyond them.
    /// It never looks at the payload.
    ///
    /// A misdeed is reported as soon as the byte that holds it is there.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, PeerMisbehaved> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let (fin, rsv1, opcode) = decode_first(first)?;
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let length = second & LENGTH;
        // RFC 6455 section 5.5: "All control frames MUST have a payload length of 125 bytes or less".
        if opcode.is_control() && usize::from(length) > CONTROL_BYTES_MAX {
            return Err(PeerMisbehaved::ControlTooLong);
        }
        let Some((payload_bytes, rest)) = decode_length(length, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            let Some((key, rest)) = rest.split_first_chunk::<4>() else {
                return Ok(None);
            };
            (Some(*key), rest)
        };
        let header = Self {
            opcode,
            fin,
            rsv1,
            mask,
            payload_bytes,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Appends the header, its length in the shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut first = self.opcode as u8;
        if self.fin {
            first |= FIN;
        }
        if self.rsv1 {
            first |= RSV1;
        }
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out.push(first);
        if let Ok(length) = u8::try_from(self.payload_bytes)
            && length < LENGTH_IN_2_BYTES
        {
            out.push(masked | length);
        } else if let Ok(length) = u16::try_from(self.payload_bytes) {
            out.push(masked | LENGTH_IN_2_BYTES);
            out.extend_from_slice(&length.to_be_bytes());
        } else {
            out.push(masked | LENGTH_IN_8_BYTES);
            out.extend_from_slice(&self.payload_bytes.to_be_bytes());
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

fn decode_first(first: u8) -> Result<(bool, bool, Opcode), PeerMisbehaved> {
    // RFC 6455 section 5.2, RSV1, RSV2, RSV3: "MUST be 0 unless an extension is negotiated that defines meanings for
    // non-zero values." No extension here defines RSV2 or RSV3; RSV1 depends on the connection.
    if first & RSV2_AND_RSV3 != 0 {
        return Err(PeerMisbehaved::ReservedBits);
    }
    // RFC 6455 section 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
    // Connection_."
    let number = first & OPCODE;
    let opcode = Opcode::new(number).ok_or(PeerMisbehaved::ReservedOpcode(number))?;
    // RFC 6455 section 5.5: "All control frames [...] MUST NOT be fragmented."
    let fin = first & FIN != 0;
    if opcode.is_control() && !fin {
        return Err(PeerMisbehaved::FragmentedControl);
    }
    Ok((fin, first & RSV1 != 0, opcode))
}

fn decode_length(length: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, PeerMisbehaved> {
    let (length, rest, written_shorter_up_to) = match length {
        LENGTH_IN_2_BYTES => {
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (
                u64::from(u16::from_be_bytes(*bytes)),
                rest,
                u64::from(LENGTH_IN_2_BYTES) - 1,
            )
        }
        LENGTH_IN_8_BYTES => {
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*bytes), rest, u64::from(u16::MAX))
        }
        short => return Ok(Some((u64::from(short), rest))),
    };
    // RFC 6455 section 5.2: "the most significant bit MUST be 0".
    if length > u64::MAX >> 1 {
        return Err(PeerMisbehaved::LengthTopBit);
    }
    // RFC 6455 section 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length".
    if length <= written_shorter_up_to {
        return Err(PeerMisbehaved::LengthNotMinimal);
    }
    Ok(Some((length, rest)))
}

/// Appends a whole frame, masked if a key is given.
pub fn encode(opcode: Opcode, rsv1: bool, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    Header {
        opcode,
        fin: true,
        rsv1,
        mask,
        payload_bytes: payload.len() as u64,
    }
    .encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key);
    }
}

/// Appends a message as one unmasked frame, as a server sends it: encoded once, it may be sent to every client whose
/// connection agreed on the same compression. `compressed` says that `payload` is the output of permessage-deflate.
///
/// The bytes are right for any [`Connection`](super::Connection) in the server role that is
/// [`Open`](super::State::Open), without passing through it.
pub fn encode_message(kind: MessageKind, payload: &[u8], compressed: bool, out: &mut Vec<u8>) {
    encode(kind.into(), compressed, payload, None, out);
}

/// Appends what stands before the `bytes` bytes of the content in the frame of [`encode_message`], uncompressed: for whoever
/// sends the content from where it is.
pub fn encode_message_head(kind: MessageKind, bytes: usize, out: &mut Vec<u8>) {
    Header {
        opcode: kind.into(),
        fin: true,
        rsv1: false,
        mask: None,
        payload_bytes: bytes as u64,
    }
    .encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(opcode: Opcode, payload_bytes: u64) -> Header {
        Header {
            opcode,
            fin: true,
            rsv1: false,
            mask: None,
            payload_bytes,
        }
    }

    #[test]
    fn every_length_form_is_read_and_written() {
        let cases: [(u64, &[u8]); 8] = [
            (0, b"\x82\x00"),
            (1, b"\x82\x01"),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (127, b"\x82\x7e\x00\x7f"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
            (u64::MAX >> 1, b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ];
        for (payload_bytes, bytes) in cases {
            let expected = header(Opcode::Binary, payload_bytes);
            assert_eq!(Header::decode(bytes), Ok(Some((expected, bytes.len()))));
            let mut written = Vec::new();
            expected.encode(&mut written);
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn headers_that_break_the_rules() {
        use PeerMisbehaved::*;
        let cases: [(&[u8], PeerMisbehaved); 17] = [
            (b"\xa1", ReservedBits),
            (b"\x91", ReservedBits),
            (b"\xb9", ReservedBits),
            (b"\x83", ReservedOpcode(3)),
            (b"\x87", ReservedOpcode(7)),
            (b"\x8b", ReservedOpcode(11)),
            (b"\x0f", ReservedOpcode(15)),
            (b"\x08", FragmentedControl),
            (b"\x09", FragmentedControl),
            (b"\x0a", FragmentedControl),
            (b"\x89\x7e", ControlTooLong),
            (b"\x88\xff", ControlTooLong),
            (b"\x82\x7e\x00\x7d", LengthNotMinimal),
            (b"\x82\xfe\x00\x00", LengthNotMinimal),
            (b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", LengthNotMinimal),
            (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", LengthTopBit),
            (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", LengthTopBit),
        ];
        for (bytes, misdeed) in cases {
            assert_eq!(Header::decode(bytes), Err(misdeed), "{bytes:x?}");
            for end in 0..bytes.len() {
                assert_eq!(
                    Header::decode(&bytes[..end]),
                    Ok(None),
                    "the misdeed is in the last byte: {bytes:x?}"
                );
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7() {
        let mut out = Vec::new();
        encode(Opcode::Text, false, b"Hello", None, &mut out);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode(
            Opcode::Text,
            false,
            b"Hello",
            Some([0x37, 0xfa, 0x21, 0x3d]),
            &mut out,
        );
        assert_eq!(
            out,
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
        out.clear();
        encode(Opcode::Ping, false, b"Hello", None, &mut out);
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode_message(MessageKind::Binary, &[0; 256], false, &mut out);
        assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);
        out.clear();
        encode_message(MessageKind::Binary, &[0; 65_536], false, &mut out);
        assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_header_is_read_back_as_written_and_not_before_its_end(
            number in 0..=0xa_u8,
            fin: bool,
            rsv1: bool,
            mask: Option<[u8; 4]>,
            payload_bytes in prop_oneof![0..=130_u64, 65_530..=65_540_u64, 0..=u64::MAX >> 1],
        ) {
            let opcode = Opcode::new(number).unwrap_or(Opcode::Binary);
            let control = opcode.is_control();
            let payload_bytes = if control { payload_bytes % 126 } else { payload_bytes };
            let expected = Header { opcode, fin: fin || control, rsv1, mask, payload_bytes };
            let mut bytes = Vec::new();
            expected.encode(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert_eq!(Header::decode(&bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(b"payload");
            prop_assert_eq!(Header::decode(&bytes), Ok(Some((expected, bytes.len() - 7))));
        }
    }
}

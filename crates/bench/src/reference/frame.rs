//! The frame of a client, turned into the frame of a server where it lies.

use std::ops::Range;

use switchboard_proto::ws::mask;

use super::connection::UNSENT_BYTES_MAX;

/// A longer payload closes the connection.
const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

// One frame of the longest kind, with its header, is never too much for a socket that takes nothing.
const _: () = assert!(PAYLOAD_BYTES_MAX + 10 <= UNSENT_BYTES_MAX);

const OPCODE_BITS: u8 = 0x0f;
const MASK_BIT: u8 = 0x80;
const PING_TO_PONG: u8 = 0x9 ^ 0xa;

/// What is at the beginning of the bytes.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Reading {
    Complete(Frame),
    Incomplete {
        /// The length it will have, once the header is there; before that, 0.
        frame_bytes: usize,
    },
}

/// A frame that was turned.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Where the server's frame stands: the same first byte (a Ping has become a Pong), the same payload.
    pub(super) unmasked: Range<usize>,
    /// Length of the client's frame.
    pub(super) frame_bytes: usize,
}

/// What is to be done about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

/// Not the header of a client: no mask, an opcode that does not exist, too long.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unreadable;

/// Turns the frame at the beginning of `bytes` if all of it is there. What is behind it is not touched.
pub(super) fn read(bytes: &mut [u8]) -> Result<Reading, Unreadable> {
    let &mut [first, second, ref length @ ..] = bytes else {
        return Ok(Reading::Incomplete { frame_bytes: 0 });
    };
    let kind = Kind::from_opcode(first & OPCODE_BITS).ok_or(Unreadable)?;
    if second & MASK_BIT == 0 {
        return Err(Unreadable);
    }
    let extended = match second & !MASK_BIT {
        126 => length
            .first_chunk()
            .map(|length| (2, u64::from(u16::from_be_bytes(*length)))),
        127 => length
            .first_chunk()
            .map(|length| (8, u64::from_be_bytes(*length))),
        length => Some((0, u64::from(length))),
    };
    let Some((length_bytes, payload_bytes)) = extended else {
        return Ok(Reading::Incomplete { frame_bytes: 0 });
    };
    if payload_bytes > PAYLOAD_BYTES_MAX as u64 {
        return Err(Unreadable);
    }
    let payload_at = 2 + length_bytes + 4;
    let frame_bytes = payload_at + payload_bytes as usize;
    let Some((header, payload)) = bytes
        .get_mut(..frame_bytes)
        .map(|frame| frame.split_at_mut(payload_at))
    else {
        return Ok(Reading::Incomplete { frame_bytes });
    };
    if let Some(key) = header.last_chunk() {
        mask::apply(payload, *key);
    }
    let first = if kind == Kind::Ping {
        first ^ PING_TO_PONG
    } else {
        first
    };
    let header_bytes = write_header(header, first, payload.len());
    Ok(Reading::Complete(Frame {
        kind,
        unmasked: payload_at - header_bytes..frame_bytes,
        frame_bytes,
    }))
}

impl Kind {
    fn from_opcode(opcode: u8) -> Option<Self> {
        match opcode {
            0x0..=0x2 => Some(Self::Data),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }
}

/// Writes a server's header at the end of `room`, a client's header for the same length, and returns its length. It
/// always fits: it lacks the key, and is never longer otherwise.
fn write_header(room: &mut [u8], first: u8, payload_bytes: usize) -> usize {
    let mut header = [0; 10];
    header[0] = first;
    let header_bytes = match payload_bytes {
        0..=125 => {
            header[1] = payload_bytes as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    let at = room.len() - header_bytes;
    room[at..].copy_from_slice(&header[..header_bytes]);
    header_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_proto::ws::MaskKeys;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn client(first: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut masked = payload.to_vec();
        mask::apply(&mut masked, KEY);
        [&[first], header, &KEY, &masked].concat()
    }

    /// The frame is incomplete at every shorter length, and turned at its own.
    fn check(client: &[u8], kind: Kind, server: &[u8]) {
        let lengths = (0..client.len().min(20)).chain(client.len().saturating_sub(3)..client.len());
        for length in lengths {
            let reading = read(&mut client[..length].to_vec());
            assert!(
                matches!(reading, Ok(Reading::Incomplete { .. })),
                "{length}: {reading:?}"
            );
        }
        let mut bytes = [client, b"next"].concat();
        let Ok(Reading::Complete(frame)) = read(&mut bytes) else {
            panic!("complete");
        };
        assert_eq!(frame.kind, kind);
        assert_eq!(frame.frame_bytes, client.len());
        assert!(bytes[frame.unmasked] == *server);
        assert_eq!(bytes[client.len()..], *b"next");
    }

    #[test]
    fn data_frames_keep_their_first_byte() {
        check(&client(0x81, &[0x85], b"Hello"), Kind::Data, b"\x81\x05Hello");
        check(&client(0x02, &[0x85], b"Hello"), Kind::Data, b"\x02\x05Hello");
        check(&client(0x80, &[0x80], b""), Kind::Data, b"\x80\x00");
    }

    #[test]
    fn a_ping_becomes_a_pong() {
        check(&client(0x89, &[0x82], b"hi"), Kind::Ping, b"\x8a\x02hi");
        check(&client(0x8a, &[0x82], b"hi"), Kind::Pong, b"\x8a\x02hi");
        check(
            &client(0x88, &[0x82], b"\x03\xe8"),
            Kind::Close,
            b"\x88\x02\x03\xe8",
        );
    }

    #[test]
    fn each_form_of_the_length() {
        for (payload_bytes, header) in [(126_usize, vec![0xfe, 0, 126]), (65_535, vec![0xfe, 0xff, 0xff])] {
            let payload = vec![b'x'; payload_bytes];
            let server = [b"\x82\x7e", &(payload_bytes as u16).to_be_bytes()[..], &payload].concat();
            check(&client(0x82, &header, &payload), Kind::Data, &server);
        }
        let payload = vec![b'x'; 65_536];
        let length = [0, 0, 0, 0, 0, 1, 0, 0];
        let server = [b"\x82\x7f", &length[..], &payload].concat();
        check(
            &client(0x82, &[&[0xff], &length[..]].concat(), &payload),
            Kind::Data,
            &server,
        );
    }

    #[test]
    fn a_length_in_too_many_bytes_is_written_in_as_few_as_will_do() {
        let header = [0xff, 0, 0, 0, 0, 0, 0, 0, 2];
        check(&client(0x81, &header, b"hi"), Kind::Data, b"\x81\x02hi");
    }

    #[test]
    fn what_is_no_clients_header_is_unreadable() {
        for header in [
            &b"\x81\x05Hello"[..],                       // no mask
            b"\x83\x80",                                 // an opcode that does not exist
            b"\x82\xff\x00\x00\x00\x00\x00\x40\x00\x01", // 4 MiB and 1 byte
            b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", // more than there is
        ] {
            assert_eq!(read(&mut header.to_vec()), Err(Unreadable), "{header:x?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut keys = MaskKeys::from_seed([7; 32]);
        for length in 0..40_usize {
            for _ in 0..2000 {
                let mut bytes: Vec<u8> = (0..length.div_ceil(4)).flat_map(|_| keys.draw()).collect();
                bytes.truncate(length);
                if let Ok(Reading::Complete(frame)) = read(&mut bytes) {
                    assert!(frame.unmasked.end == frame.frame_bytes && frame.frame_bytes <= length);
                }
            }
        }
    }
}

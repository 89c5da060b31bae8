//! The mark that every published message carries: who sent it, which one it is, and when it was due.
//!
//! ```text
//!   ~sb 0000001f 00000a2c 0000018f5a3c2b11 xxxxxxxx…      (without the blanks)
//!       publisher sequence due, in ns of the machine's monotonic clock; then filler up to the asked size
//! ```
//!
//! It is found by its first characters anywhere in a frame, so it does not matter what a server's protocol wraps around a
//! message, nor how many messages it puts into one frame. All characters are safe in JSON.

use memchr::memmem::Finder;

const MARK: &[u8; 3] = b"~sb";
/// Bytes of a stamp: the smallest message.
pub const STAMP_BYTES: usize = MARK.len() + 8 + 8 + 16;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Who sent it: a number of this call of the bench.
    pub publisher: u32,
    /// Which of its messages, from 0.
    pub sequence: u32,
    /// When it was due, in nanoseconds of the machine's monotonic clock.
    pub due_ns: u64,
}

impl Stamp {
    /// Appends a message of `bytes` bytes, at least [`STAMP_BYTES`].
    pub fn write(self, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes.max(STAMP_BYTES);
        out.extend_from_slice(MARK);
        write_hex(u64::from(self.publisher), 8, out);
        write_hex(u64::from(self.sequence), 8, out);
        write_hex(self.due_ns, 16, out);
        out.resize(end, b'x');
    }

    /// What this message adds to the digest of a run: equal sums on both ends mean that every message arrived once.
    pub fn digest(self) -> u64 {
        let mut mixed = (u64::from(self.publisher) << 32 | u64::from(self.sequence)).wrapping_add(1);
        mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}

/// Finds stamps in frames.
pub struct Reader {
    mark: Finder<'static>,
}

impl Reader {
    /// One for all frames of a thread.
    pub fn new() -> Reader {
        Reader {
            mark: Finder::new(MARK),
        }
    }

    /// Calls `found` for every stamp in `frame`, in their order.
    pub fn read(&self, mut frame: &[u8], mut found: impl FnMut(Stamp)) {
        while let Some(at) = self.mark.find(frame) {
            let Some(stamp) = frame.get(at + MARK.len()..at + STAMP_BYTES) else {
                return;
            };
            if let (Some(publisher), Some(sequence), Some(due_ns)) = (
                read_hex(&stamp[..8]),
                read_hex(&stamp[8..16]),
                read_hex(&stamp[16..]),
            ) {
                found(Stamp {
                    publisher: publisher as u32,
                    sequence: sequence as u32,
                    due_ns,
                });
            }
            frame = &frame[at + STAMP_BYTES..];
        }
    }
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new()
    }
}

fn write_hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        (0..digits)
            .rev()
            .map(|digit| DIGITS[(value >> (4 * digit)) as usize & 15]),
    );
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(frame: &[u8]) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        Reader::new().read(frame, |stamp| stamps.push(stamp));
        stamps
    }

    #[test]
    fn stamps_are_found_wherever_they_are() {
        let stamp = |sequence| Stamp {
            publisher: 31,
            sequence,
            due_ns: u64::MAX - 5,
        };
        let mut frame = b"{\"data\":\"".to_vec();
        stamp(1).write(64, &mut frame);
        frame.extend_from_slice(b"\"}MSG a 1 ~");
        stamp(2).write(0, &mut frame);
        assert_eq!(stamps(&frame), [stamp(1), stamp(2)]);
        assert_eq!(frame.len(), 9 + 64 + 11 + STAMP_BYTES);
    }

    #[test]
    fn what_is_no_stamp_is_passed_over() {
        assert_eq!(stamps(b"~sb"), []);
        assert_eq!(stamps(b"~sb0000001f00000a2c0000018f5a3c2b1"), []);
        assert_eq!(stamps(b"~sb0000001f00000a2c0000018f5a3c2bZZ ~sb"), []);
    }
}

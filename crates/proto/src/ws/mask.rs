//! Masking of client frames ([RFC 6455 section 5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.3)), and where
//! a client's masking keys come from.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Masks or unmasks `payload` in place (the two are the same operation) and returns the key for the bytes that
/// follow it: a payload may be handed over in any pieces.
///
/// ```
/// use switchboard_proto::ws::mask;
///
/// let mut hello = *b"Hello";
/// let (first, rest) = hello.split_at_mut(3);
/// let next = mask::apply(first, [0x37, 0xfa, 0x21, 0x3d]);
/// mask::apply(rest, next);
/// assert_eq!(hello, [0x7f, 0x9f, 0x4d, 0x51, 0x58]); // the example of RFC 6455 section 5.7
/// ```
pub fn apply(payload: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    apply_seeing(payload, key).0
}

/// As [`apply`]. Says as well whether all that is in `payload` now is ASCII, which costs little while it is in hand.
#[inline]
pub(super) fn apply_seeing(payload: &mut [u8], key: [u8; 4]) -> ([u8; 4], bool) {
    // Eight bytes a step, each independent of the last: the compiler turns the loop into full-width vector operations.
    let [k0, k1, k2, k3] = key;
    let wide = u64::from_ne_bytes([k0, k1, k2, k3, k0, k1, k2, k3]);
    let mut seen = 0;
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        let unmasked = u64::from_ne_bytes(*word) ^ wide;
        seen |= unmasked;
        *word = unmasked.to_ne_bytes();
    }
    let mut seen_of_tail = 0;
    for (byte, key_byte) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key_byte;
        seen_of_tail |= *byte;
    }
    let is_ascii = seen.to_ne_bytes().is_ascii() && seen_of_tail.is_ascii();
    let mut next = key;
    next.rotate_left(payload.len() % 4);
    (next, is_ascii)
}

/// The masking keys of one client connection: a ChaCha8 stream, determined by its seed.
///
/// Randomness is a parameter here, and [RFC 6455 section
/// 10.3](https://www.rfc-editor.org/rfc/rfc6455#section-10.3) wants keys that whoever chooses the payload cannot
/// predict: give every connection its own seed from the operating system's generator. 300-odd bytes; a
/// [`Connection`](crate::ws::Connection) keeps it on the heap.
pub struct MaskKeys(ChaCha8Rng);

impl MaskKeys {
    /// Keys drawn from `seed`; the same seed gives the same keys.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// The key for the next frame.
    pub fn draw(&mut self) -> [u8; 4] {
        // RFC 6455 section 5.3: "the client MUST pick a fresh masking key from the set of allowed 32-bit values".
        self.0.next_u32().to_le_bytes()
    }
}

impl fmt::Debug for MaskKeys {
    /// Shows nothing of the stream: who sees it knows the coming keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_by_byte(payload: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ key[(at + offset) % 4])
            .collect()
    }

    #[test]
    fn equals_the_loop_over_bytes_for_every_length_and_offset() {
        let key = [0x12, 0x34, 0x56, 0x78];
        for length in 0..200_usize {
            for offset in 0..=3 {
                let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
                let rotated = apply(&mut vec![0; offset], key);
                let mut masked = payload.clone();
                let next = apply(&mut masked, rotated);
                assert_eq!(
                    masked,
                    byte_by_byte(&payload, key, offset),
                    "length {length}, offset {offset}"
                );
                assert_eq!(next, apply(&mut vec![0; offset + length], key));
            }
        }
    }

    #[test]
    fn one_byte_anywhere_is_seen_not_to_be_ascii() {
        let key = [0x12, 0x34, 0xf6, 0x78];
        for length in 0..40 {
            let mut masked = vec![b'a'; length];
            apply(&mut masked, key);
            assert!(apply_seeing(&mut masked.clone(), key).1, "length {length}");
            for at in 0..length {
                let mut other = masked.clone();
                other[at] ^= 0x80;
                assert!(!apply_seeing(&mut other, key).1, "length {length}, byte {at}");
            }
        }
    }

    #[test]
    fn unaligned_payloads_are_masked_alike() {
        let key = [1, 2, 3, 4];
        let payload: Vec<u8> = (0..=255).collect();
        for start in 0..16 {
            let mut masked = payload.clone();
            apply(&mut masked[start..], key);
            assert_eq!(masked[start..], byte_by_byte(&payload[start..], key, 0));
        }
    }

    #[test]
    fn keys_follow_from_the_seed_and_differ() {
        let draw = |seed| {
            let mut keys = MaskKeys::from_seed([seed; 32]);
            (0..100).map(|_| keys.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut distinct = draw(1);
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 95, "keys repeat: {}", distinct.len());
    }
}

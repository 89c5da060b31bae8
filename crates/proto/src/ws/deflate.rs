//! The payload transformation of permessage-deflate ([RFC 7692, section 7.2]), on zlib-rs.
//!
//! What it is: message payload in, compressed payload out, and back. What it is not: negotiation
//! (see [`extension`](super::extension)), or frames, which set RSV1 and split payloads.
//!
//! ```text
//!                       Contexts: the machines, one set per shard
//!                  ┌──────────────────────────────────────────────────┐
//!  payload ──────► │ a compressor per window size     (371 KiB at 15) │ ──────► compressed payload
//!                  │ one decompressor                         (46 KiB)│
//!                  └──────────────────────────────────────────────────┘
//!                       ▲ borrowed for one message by
//!     Compressor, Decompressor: the history of one connection that keeps its context (≤ 32 KiB each)
//! ```
//!
//! **Machines are shared, only history is owned.** Without context takeover a message needs a machine for as
//! long as it is being transformed, so [`Contexts::compress`] and [`Contexts::decompress`] are all there is.
//! With takeover a connection keeps the last bytes it sent or received, at most its window, and lends them to
//! the shared machine before each message. Measured on JSON messages of 150 bytes at level 6 (zlib-rs 0.6.8,
//! one core): a compressor of its own takes 6 µs a message and 371 KiB a connection; a lent history of 32 KiB
//! takes 50 µs, one of 4 KiB (window of 12 bits) 12 µs. They compress to 0.20, 0.21 and 0.23 of the size, no
//! takeover to 0.85. Lending 32 KiB to the decompressor adds 0.5 µs. So who lets a server keep context should
//! cap its window at 12 bits.
//!
//! Window of 8 bits: zlib's raw format refuses to compress with it. A 9-bit window is used in its place,
//! which is sound because zlib never refers back further than its window less 262 bytes, here 250, within the
//! 256 of an 8-bit window (`no_window_size_is_ever_exceeded` holds every level to it).
//!
//! [RFC 7692, section 7.2]: https://www.rfc-editor.org/rfc/rfc7692#section-7.2

mod inflation;
#[cfg(test)]
mod reference;
mod takeover;

use std::alloc::Layout;
use std::panic::AssertUnwindSafe;

use zlib_rs::{Deflate, DeflateFlush, Inflate};

use self::inflation::Inflation;
pub(super) use self::inflation::RATIO_FREE_BYTES;
pub use self::inflation::{InflateError, InflateLimits};
pub use self::takeover::{Compressor, Decompressor};

/// The smallest window of the extension, as a power of two: 256 bytes.
pub const WINDOW_BITS_MIN: u8 = 8;
/// The largest window of the extension, as a power of two: 32 KiB.
pub const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window zlib compresses raw data with.
const MACHINE_BITS_MIN: u8 = 9;
const MACHINES: usize = (WINDOW_BITS_MAX - MACHINE_BITS_MIN + 1) as usize;

/// The least room a transformation is given for its output, in bytes.
const STEP_BYTES_MIN: usize = 512;

/// What [RFC 7692, section 7.2.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.2.1) has the sender
/// remove: the body of the empty stored block that a sync flush ends with.
const SYNC_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The parameters of permessage-deflate that both ends agreed on
/// ([RFC 7692, section 7.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.1)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The server starts every message with an empty window.
    pub server_no_context_takeover: bool,
    /// The client starts every message with an empty window.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2 to this power, 8 to 15.
    pub server_max_window_bits: u8,
    /// The client's window is at most 2 to this power, 8 to 15.
    pub client_max_window_bits: u8,
}

/// The compressors and the decompressor that the connections of one shard share.
///
/// Each is made when first needed and then kept: 245 KiB for the compressor of the smallest window, 371 KiB
/// for that of the largest, 46 KiB for the decompressor (measured, zlib-rs 0.6.8). Not `Send`: it lives where
/// it was made.
pub struct Contexts {
    level: u8,
    compressors: [Option<Deflate>; MACHINES],
    decompressor: Option<Inflate>,
}

impl Contexts {
    /// No machine yet. `level` runs from 1, fast, to 9, small; 0 stores. Above 9 counts as 9.
    pub fn new(level: u8) -> Contexts {
        Contexts {
            level: level.min(9),
            compressors: Default::default(),
            decompressor: None,
        }
    }

    /// Appends `payload`, compressed by itself, to `out`. The result may be longer than the payload; who
    /// wants can then throw it away and send the message uncompressed.
    ///
    /// `window_bits` outside 8 to 15 counts as the nearest of these.
    pub fn compress(&mut self, window_bits: u8, payload: &[u8], out: &mut Vec<u8>) {
        self.compress_after(&[], window_bits, payload, out);
    }

    /// Appends to `out` the message that `payload` was compressed from, by itself. Every window size is
    /// understood.
    ///
    /// # Errors
    /// See [`InflateError`]; `out` is then as it was.
    pub fn decompress(
        &mut self,
        payload: &[u8],
        limits: InflateLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        self.decompress_after(&[], payload, limits, out)
    }

    fn compress_after(&mut self, history: &[u8], window_bits: u8, payload: &[u8], out: &mut Vec<u8>) {
        // An empty message is the single octet 0x00: the header of an empty stored block (RFC 7692, 7.2.3.6).
        // A machine with nothing to flush would give no octet at all.
        if payload.is_empty() {
            out.push(0x00);
            return;
        }
        let bits = window_bits.clamp(MACHINE_BITS_MIN, WINDOW_BITS_MAX);
        let level = i32::from(self.level);
        let machine = &mut self.compressors[usize::from(bits - MACHINE_BITS_MIN)];
        let deflate = match machine {
            Some(used) => {
                used.reset();
                used
            }
            None => machine.insert(made(|| Deflate::new(level, false, bits))),
        };
        if !history.is_empty() {
            deflate
                .set_dictionary(history)
                .expect("a raw stream takes a dictionary between blocks");
        }
        compress_flushed(deflate, payload, out);
        debug_assert!(out.ends_with(&SYNC_TAIL));
        // "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end." (RFC 7692, 7.2.1)
        out.truncate(out.len() - SYNC_TAIL.len());
    }

    fn decompress_after(
        &mut self,
        history: &[u8],
        payload: &[u8],
        limits: InflateLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let inflate = self
            .decompressor
            .get_or_insert_with(|| made(|| Inflate::new(false, WINDOW_BITS_MAX)));
        let start = out.len();
        let inflated = Inflation {
            inflate,
            history,
            limits,
            payload_len: payload.len(),
            out,
            start,
        }
        .run(payload);
        if inflated.is_err() {
            out.truncate(start);
        }
        inflated
    }
}

/// The last bytes of `bytes`, at most `len_max`.
fn tail(bytes: &[u8], len_max: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(len_max)..]
}

/// Makes a machine. Without memory zlib panics; the process ends in place of going on with half of what it was at, as it
/// does without memory everywhere else.
fn made<T>(make: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(make))
        .unwrap_or_else(|_without_memory| std::alloc::handle_alloc_error(Layout::new::<T>()))
}

/// Compresses all of `payload` behind what is in `out`, up to and including a sync flush.
fn compress_flushed(deflate: &mut Deflate, payload: &[u8], out: &mut Vec<u8>) {
    let mut rest = payload;
    // room for the marker besides the bound: a flush that just fills its buffer would be repeated
    let mut room = zlib_rs::compress_bound(payload.len()) + 16;
    loop {
        let (filled, read, written) = (out.len(), deflate.total_in(), deflate.total_out());
        out.resize(filled + room, 0);
        deflate
            .compress(rest, &mut out[filled..], DeflateFlush::SyncFlush)
            .expect("deflate fails only after its end, and the stream is never ended");
        let (read, written) = (
            progress(deflate.total_in(), read),
            progress(deflate.total_out(), written),
        );
        out.truncate(filled + written);
        rest = &rest[read..];
        if rest.is_empty() && written < room {
            return;
        }
        room = room.max(STEP_BYTES_MIN);
    }
}

/// How far a total of zlib moved in one call, which is never more than the slice it was given.
fn progress(after: u64, before: u64) -> usize {
    (after - before) as usize
}

#[cfg(test)]
mod tests {
    use super::inflation::FINAL_BLOCKS_MAX;
    use super::*;
    use proptest::prelude::*;
    use zlib_rs::Status;

    const LIMITS: InflateLimits = InflateLimits {
        bytes_max: 1 << 20,
        ratio_max: 2000,
    };

    fn inflate(payload: &[u8]) -> Result<Vec<u8>, InflateError> {
        inflate_within(payload, LIMITS)
    }

    fn inflate_within(payload: &[u8], limits: InflateLimits) -> Result<Vec<u8>, InflateError> {
        let mut out = b"before".to_vec();
        let inflated = Contexts::new(6).decompress(payload, limits, &mut out);
        assert!(out.starts_with(b"before"));
        match inflated {
            Ok(()) => Ok(out.split_off(6)),
            Err(error) => {
                assert_eq!(out, b"before");
                Err(error)
            }
        }
    }

    fn deflate(level: u8, window_bits: u8, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Contexts::new(level).compress(window_bits, message, &mut out);
        out
    }

    /// One DEFLATE block with BFINAL set, padded to a byte, that may refer to `history`.
    fn final_block(history: &[u8], message: &[u8]) -> Vec<u8> {
        let mut deflate = Deflate::new(6, false, 15);
        if !history.is_empty() {
            deflate.set_dictionary(history).unwrap();
        }
        let mut out = vec![0; zlib_rs::compress_bound(message.len())];
        assert_eq!(
            deflate.compress(message, &mut out, DeflateFlush::Finish),
            Ok(Status::StreamEnd)
        );
        out.truncate(deflate.total_out() as usize);
        out
    }

    // RFC 7692, 7.2.3.1
    #[test]
    fn rfc_7692_one_compressed_block() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(deflate(6, 15, b"Hello"), hello);
        assert_eq!(inflate(&hello).unwrap(), b"Hello");
    }

    // RFC 7692, 7.2.3.2
    #[test]
    fn rfc_7692_sharing_the_sliding_window() {
        let (first, second) = (
            [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            [0xf2, 0x00, 0x11, 0x00, 0x00],
        );
        let mut contexts = Contexts::new(6);

        let mut sender = Compressor::new(15);
        for payload in [&first[..], &second[..]] {
            let mut out = Vec::new();
            sender.compress(&mut contexts, b"Hello", &mut out);
            assert_eq!(out, payload);
        }

        let mut receiver = Decompressor::new(15);
        for payload in [&first[..], &second[..]] {
            let mut out = Vec::new();
            receiver
                .decompress(&mut contexts, payload, LIMITS, &mut out)
                .unwrap();
            assert_eq!(out, b"Hello");
        }

        assert_eq!(
            inflate(&second),
            Err(InflateError::Corrupt),
            "without the first message it means nothing"
        );
    }

    // RFC 7692, 7.2.3.3
    #[test]
    fn rfc_7692_block_with_no_compression() {
        let hello = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(inflate(&hello).unwrap(), b"Hello");
    }

    // RFC 7692, 7.2.3.4
    #[test]
    fn rfc_7692_block_with_bfinal_set() {
        assert_eq!(
            inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]).unwrap(),
            b"Hello"
        );
    }

    // RFC 7692, 7.2.3.5
    #[test]
    fn rfc_7692_two_blocks_in_one_message() {
        let hello = [
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ];
        assert_eq!(inflate(&hello).unwrap(), b"Hello");
    }

    // RFC 7692, 7.2.3.6
    #[test]
    fn rfc_7692_empty_message_is_one_zero_octet() {
        assert_eq!(deflate(6, 15, b""), [0x00]);
        assert_eq!(inflate(&[0x00]).unwrap(), b"");

        let (mut contexts, mut sender) = (Contexts::new(6), Compressor::new(15));
        for message in [&b"full"[..], b"", b"", b"full"] {
            let mut out = Vec::new();
            sender.compress(&mut contexts, message, &mut out);
            assert!(!message.is_empty() || out == [0x00]);
        }
    }

    #[test]
    fn compressed_payload_of_no_octets_is_an_empty_message() {
        assert_eq!(inflate(&[]).unwrap(), b"");
    }

    #[test]
    fn final_block_without_the_octet_behind_it_is_accepted() {
        assert_eq!(
            inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).unwrap(),
            b"Hello"
        );
    }

    #[test]
    fn blocks_behind_a_final_block_refer_to_bytes_before_it() {
        let (one, two) = (
            b"the quick brown fox jumps over".repeat(3),
            b"over the quick brown fox".repeat(2),
        );
        let mut payload = final_block(&[], &one);
        payload.extend(final_block(&one, &two));
        payload.push(0x00);
        assert_eq!(inflate(&payload).unwrap(), [one, two].concat());
    }

    #[test]
    fn blocks_behind_a_final_block_refer_to_earlier_messages() {
        let (mut contexts, mut receiver) = (Contexts::new(6), Decompressor::new(15));
        let first = b"a message of some length, kept in the window".to_vec();
        let mut payload = final_block(&[], b"");
        payload.extend(final_block(&first, &first));
        payload.push(0x00);

        for (payload, message) in [(deflate(6, 15, &first), &first), (payload, &first)] {
            let mut out = Vec::new();
            receiver
                .decompress(&mut contexts, &payload, LIMITS, &mut out)
                .unwrap();
            assert_eq!(&out, message);
        }
    }

    #[test]
    fn final_blocks_in_a_message_are_bounded() {
        let blocks = |count| [final_block(&[], b"").repeat(count), vec![0x00]].concat();
        assert_eq!(inflate(&blocks(FINAL_BLOCKS_MAX)).unwrap(), b"");
        assert_eq!(inflate(&blocks(FINAL_BLOCKS_MAX + 1)), Err(InflateError::Corrupt));
    }

    #[test]
    fn payload_that_stops_inside_a_block_is_corrupt() {
        let message = b"anything that is long enough to be cut anywhere, cut anywhere";
        for payload in [
            deflate(0, 15, message),
            deflate(1, 15, message),
            deflate(9, 15, message),
        ] {
            // one octet of the stored block is 0x00, the empty message
            for len in 2..payload.len() - 1 {
                assert_eq!(
                    inflate(&payload[..len]),
                    Err(InflateError::Corrupt),
                    "{len} of {payload:x?}"
                );
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "16 MiB take an hour")]
    fn inflate_bomb_stops_at_the_size_limit() {
        let bomb = deflate(9, 15, &vec![0; 16 << 20]);
        let limits = InflateLimits {
            bytes_max: 64 * 1024,
            ratio_max: usize::MAX,
        };
        let mut out = Vec::new();
        assert_eq!(
            Contexts::new(6).decompress(&bomb, limits, &mut out),
            Err(InflateError::TooLarge)
        );
        assert!(
            out.capacity() <= 2 * limits.bytes_max,
            "grew to {}",
            out.capacity()
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "16 MiB take an hour")]
    fn inflate_bomb_stops_at_the_ratio_limit() {
        let bomb = deflate(9, 15, &vec![0; 16 << 20]);
        let limits = InflateLimits {
            bytes_max: usize::MAX,
            ratio_max: 100,
        };
        let mut out = Vec::new();
        assert_eq!(
            Contexts::new(6).decompress(&bomb, limits, &mut out),
            Err(InflateError::RatioExceeded)
        );
        assert!(
            out.capacity() <= 4 * 100 * bomb.len(),
            "grew to {}",
            out.capacity()
        );
    }

    #[test]
    fn size_limit_is_exact() {
        let long = match cfg!(miri) {
            true => &[][..],
            false => &[16 << 10, (16 << 10) + 1, 70_000],
        };
        for &len in [0, 1, 511, 512, 513].iter().chain(long) {
            let message = vec![b'x'; len];
            let payload = deflate(6, 15, &message);
            let within = InflateLimits {
                bytes_max: len,
                ratio_max: usize::MAX,
            };
            assert_eq!(inflate_within(&payload, within).unwrap(), message);
            if len > 0 {
                let below = InflateLimits {
                    bytes_max: len - 1,
                    ratio_max: usize::MAX,
                };
                assert_eq!(inflate_within(&payload, below), Err(InflateError::TooLarge));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "64 KiB at the highest level take ten minutes")]
    fn ratio_is_not_looked_at_up_to_64_kib() {
        let strict = InflateLimits {
            bytes_max: 1 << 20,
            ratio_max: 2,
        };
        let payload = deflate(9, 15, &vec![0; RATIO_FREE_BYTES]);
        assert_eq!(inflate_within(&payload, strict).unwrap().len(), RATIO_FREE_BYTES);
        let payload = deflate(9, 15, &vec![0; RATIO_FREE_BYTES + 1]);
        assert_eq!(inflate_within(&payload, strict), Err(InflateError::RatioExceeded));
    }

    #[test]
    fn pooled_machines_remember_nothing() {
        let mut contexts = Contexts::new(6);
        let message = b"nothing of this may be referred to".repeat(20);
        let alone = deflate(6, 12, &message);
        for _ in 0..3 {
            let mut out = Vec::new();
            contexts.compress(12, &message, &mut out);
            assert_eq!(out, alone);
            let mut back = Vec::new();
            contexts.decompress(&out, LIMITS, &mut back).unwrap();
            assert_eq!(back, message);
            // a refused message leaves nothing behind either
            assert!(
                contexts
                    .decompress(&out[..out.len() / 2], LIMITS, &mut back)
                    .is_err()
            );
        }
    }

    /// Text with repeats at many distances, or noise.
    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        const FEWER: usize = if cfg!(miri) { 40 } else { 1 };
        let words = prop::collection::vec((0usize..40, 0usize..3), 0..800 / FEWER).prop_map(|words| {
            let mut text = Vec::new();
            for (word, kind) in words {
                match kind {
                    0 => text.extend_from_slice(format!("word{word} ").as_bytes()),
                    1 => text.extend(vec![word as u8; word]),
                    _ => text.extend((0..word).map(|i| (i * i * 37 + word) as u8)),
                }
            }
            text
        });
        let noise = prop::collection::vec(any::<u8>(), 0..2000 / FEWER);
        prop::collection::vec(prop_oneof![4 => words, 1 => noise], 1..6)
    }

    const CASES: u32 = if cfg!(miri) { 1 } else { 24 };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn roundtrip_without_takeover(messages in messages(), level in 0u8..=9) {
            let mut contexts = Contexts::new(level);
            for bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
                for message in &messages {
                    let (mut payload, mut back) = (Vec::new(), Vec::new());
                    contexts.compress(bits, message, &mut payload);
                    contexts.decompress(&payload, LIMITS, &mut back).unwrap();
                    prop_assert_eq!(&back, message);
                }
            }
        }

        #[test]
        fn roundtrip_with_takeover(messages in messages(), level in 0u8..=9) {
            let mut contexts = Contexts::new(level);
            for bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
                let (mut sender, mut receiver) = (Compressor::new(bits), Decompressor::new(bits));
                for message in &messages {
                    let (mut payload, mut back) = (Vec::new(), Vec::new());
                    sender.compress(&mut contexts, message, &mut payload);
                    receiver.decompress(&mut contexts, &payload, LIMITS, &mut back).unwrap();
                    prop_assert_eq!(&back, message);
                }
            }
        }

        /// Also the proof that a 9-bit window serves for one of 8 bits: none refers back further than 250
        /// bytes.
        #[test]
        fn no_window_size_is_ever_exceeded(messages in messages(), level in 0u8..=9) {
            let mut contexts = Contexts::new(level);
            for bits in [8, 9, 10, 12, 15] {
                let mut sender = Compressor::new(bits);
                let (mut reference, mut start) = (reference::Inflater::new(1 << bits), 0);
                for message in &messages {
                    let mut payload = Vec::new();
                    sender.compress(&mut contexts, message, &mut payload);
                    payload.extend(SYNC_TAIL);
                    reference.inflate(&payload).unwrap();
                    prop_assert_eq!(&reference.out[start..], &message[..]);
                    start = reference.out.len();
                }
            }
        }

        #[test]
        fn random_bytes_never_panic_nor_pass_the_limit(
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let limits = InflateLimits { bytes_max: 1000, ratio_max: 100 };
            if let Ok(message) = inflate_within(&payload, limits) {
                prop_assert!(message.len() <= 1000);
            }
        }

        #[test]
        fn damaged_payloads_never_panic(
            messages in messages(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut payload = deflate(6, 15, &messages[0]);
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            let _ = inflate(&payload);
        }

        /// Two peers that disagree on everything but the format: another inflater reads what this one reads.
        #[test]
        fn agrees_with_the_reference_inflater(payload in prop::collection::vec(any::<u8>(), 1..60)) {
            let mut reference = reference::Inflater::new(1 << 15);
            let whole = [&payload[..], &SYNC_TAIL].concat();
            if let (Ok(message), Some(())) = (inflate(&payload), reference.inflate(&whole)) {
                prop_assert_eq!(message, reference.out);
            }
        }
    }

    #[test]
    fn reference_inflater_notices_a_window_too_large() {
        let mut noise: Vec<u8> = (0..300u32).map(|i| ((i * i * 31) >> 3) as u8).collect();
        noise.extend_from_within(..100);
        let payload = [&deflate(9, 15, &noise)[..], &SYNC_TAIL].concat();
        assert_eq!(reference::Inflater::new(512).inflate(&payload), Some(()));
        assert_eq!(reference::Inflater::new(256).inflate(&payload), None);
    }
}

//! A received message on its way through the decompressor: how far it may grow, where it ends, and what is
//! wrong with it.

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{STEP_BYTES_MIN, WINDOW_BITS_MAX, progress, tail};

/// The ratio is not looked at before this much output, which is cheaper the better it was compressed: what is no larger than
/// messages may be by default is no bomb (docs/decisions/0009-ratio-from-64-kib.md).
pub(in crate::ws) const RATIO_FREE_BYTES: usize = 64 * 1024;

/// The most room the decompressor is given for its output at once, in bytes.
const STEP_BYTES_MAX: usize = 16 * 1024;

/// Blocks with BFINAL set, per message. Each costs a reset and up to two copies of the window, and takes as
/// little as two bytes of input: unbounded, 64 KiB of them would copy 2 GiB. Who flushes by final blocks
/// sends one per flush.
pub(super) const FINAL_BLOCKS_MAX: usize = 64;

/// What is put behind a received payload: the removed tail, then an empty final block of our own. The
/// decompressor reports its end only at a block boundary and the tail yields no output, so a payload that
/// stops inside a block is noticed.
const PAYLOAD_TAIL: [u8; 6] = [0x00, 0x00, 0xff, 0xff, 0x03, 0x00];

/// How far a received message may grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InflateLimits {
    /// Bytes of one message after inflating.
    pub bytes_max: usize,
    /// Bytes of output per byte of input; looked at once there are more than 64 KiB of output.
    pub ratio_max: usize,
}

/// Why a received message was not inflated. All three are the peer's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InflateError {
    /// More than [`InflateLimits::bytes_max`] came out.
    #[error("the message inflates to more bytes than allowed")]
    TooLarge,
    /// More than [`InflateLimits::ratio_max`] bytes came out for each that went in.
    #[error("the message inflates to too many times its size")]
    RatioExceeded,
    /// Not a DEFLATE stream, or one that stops inside a block, or refers to bytes that are not in the window,
    /// or has more than 64 final blocks.
    #[error("the message is not valid DEFLATE data")]
    Corrupt,
}

/// One message on its way through the decompressor.
pub(super) struct Inflation<'a> {
    pub(super) inflate: &'a mut Inflate,
    pub(super) history: &'a [u8],
    pub(super) limits: InflateLimits,
    pub(super) payload_len: usize,
    pub(super) out: &'a mut Vec<u8>,
    /// Where in `out` the message starts.
    pub(super) start: usize,
}

impl Inflation<'_> {
    pub(super) fn run(&mut self, payload: &[u8]) -> Result<(), InflateError> {
        // No octet at all is not a block, but it is what some encoders send for a second empty message in a
        // row, when they have nothing to flush. It can mean nothing else.
        if payload.is_empty() {
            return Ok(());
        }
        self.restart()?;
        // "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message." (RFC 7692,
        // 7.2.2)
        let ended = self.feed(payload)?;
        let produced = self.out.len();
        // A payload that ends in a final block without the octet that should follow (RFC 7692, 7.2.3.4) is
        // complete.
        if ended || self.feed(&PAYLOAD_TAIL)? && self.out.len() == produced {
            Ok(())
        } else {
            Err(InflateError::Corrupt)
        }
    }

    /// Inflates all of `input`. True if it ended with a final block.
    fn feed(&mut self, input: &[u8]) -> Result<bool, InflateError> {
        let mut rest = input;
        for _ in 0..=FINAL_BLOCKS_MAX {
            if !self.until_final_block(&mut rest)? {
                return Ok(false);
            }
            if rest.is_empty() {
                return Ok(true);
            }
            // "The next DEFLATE block follows the padded data if any." (RFC 7692, 7.2.1)
            self.restart()?;
        }
        Err(InflateError::Corrupt)
    }

    /// Starts a stream whose window holds the history and what this message produced so far.
    fn restart(&mut self) -> Result<(), InflateError> {
        self.inflate.reset(false);
        for bytes in [self.history, tail(&self.out[self.start..], 1 << WINDOW_BITS_MAX)] {
            if !bytes.is_empty() {
                self.inflate
                    .set_dictionary(bytes)
                    .map_err(|_| InflateError::Corrupt)?;
            }
        }
        Ok(())
    }

    /// Inflates `rest` up to the end of a final block (true) or of `rest` (false).
    fn until_final_block(&mut self, rest: &mut &[u8]) -> Result<bool, InflateError> {
        loop {
            let filled = self.out.len();
            let produced = filled - self.start;
            let step = produced.max(2 * rest.len()).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
            // one byte past the limit is enough to know
            let room = step.min((self.limits.bytes_max - produced).saturating_add(1));
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            self.out.resize(filled + room, 0);
            let status = self
                .inflate
                .decompress(rest, &mut self.out[filled..], InflateFlush::SyncFlush);
            let written = progress(self.inflate.total_out(), written);
            self.out.truncate(filled + written);
            *rest = &rest[progress(self.inflate.total_in(), read)..];
            self.check_limits(produced + written)?;
            match status.map_err(|_| InflateError::Corrupt)? {
                Status::StreamEnd => return Ok(true),
                // with room left over, the decompressor has taken all there was
                Status::Ok | Status::BufError if written < room => {
                    return if rest.is_empty() {
                        Ok(false)
                    } else {
                        Err(InflateError::Corrupt)
                    };
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    fn check_limits(&self, produced: usize) -> Result<(), InflateError> {
        if produced > self.limits.bytes_max {
            return Err(InflateError::TooLarge);
        }
        let allowed = self.payload_len.saturating_mul(self.limits.ratio_max);
        if produced > RATIO_FREE_BYTES && produced > allowed {
            return Err(InflateError::RatioExceeded);
        }
        Ok(())
    }
}

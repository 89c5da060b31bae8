//! Context takeover: the history of one connection in one direction, which it lends to the shared machines.

use super::{
    Contexts, InflateError, InflateLimits, MACHINE_BITS_MIN, WINDOW_BITS_MAX, WINDOW_BITS_MIN, tail,
};

/// The sending side of one connection that keeps its context from message to message.
///
/// Holds the bytes of its last messages, at most its window and in no more memory than that; nothing before
/// the first message.
pub struct Compressor {
    window_bits: u8,
    history: History,
}

impl Compressor {
    /// An empty history. `window_bits` outside 8 to 15 counts as the nearest of these.
    pub fn new(window_bits: u8) -> Compressor {
        let window_bits = window_bits.clamp(MACHINE_BITS_MIN, WINDOW_BITS_MAX);
        Compressor {
            window_bits,
            history: History::new(window_bits),
        }
    }

    /// Appends `payload`, compressed with reference to the messages before it, to `out`.
    ///
    /// **What comes out must be sent**: the next message may refer to it.
    pub fn compress(&mut self, contexts: &mut Contexts, payload: &[u8], out: &mut Vec<u8>) {
        contexts.compress_after(&self.history.bytes, self.window_bits, payload, out);
        self.history.push(payload);
    }
}

/// The receiving side of one connection whose peer keeps its context from message to message.
///
/// Holds the bytes of the last messages, at most its window and in no more memory than that; nothing before
/// the first message.
pub struct Decompressor {
    history: History,
}

impl Decompressor {
    /// An empty history. `window_bits` outside 8 to 15 counts as the nearest of these.
    pub fn new(window_bits: u8) -> Decompressor {
        Decompressor {
            history: History::new(window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX)),
        }
    }

    /// Appends to `out` the message that `payload` was compressed from, with reference to the messages before
    /// it.
    ///
    /// # Errors
    /// See [`InflateError`]; `out` is then as it was, and the connection cannot go on: what follows may refer
    /// to the message that was refused.
    pub fn decompress(
        &mut self,
        contexts: &mut Contexts,
        payload: &[u8],
        limits: InflateLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let start = out.len();
        contexts.decompress_after(&self.history.bytes, payload, limits, out)?;
        self.history.push(&out[start..]);
        Ok(())
    }
}

/// The last bytes of a direction, at most `bytes_max`.
struct History {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl History {
    fn new(window_bits: u8) -> History {
        History {
            bytes: Vec::new(),
            bytes_max: 1 << window_bits,
        }
    }

    fn push(&mut self, message: &[u8]) {
        let message = tail(message, self.bytes_max);
        let excess = (self.bytes.len() + message.len()).saturating_sub(self.bytes_max);
        self.bytes.drain(..excess);
        let needed = self.bytes.len() + message.len();
        if needed > self.bytes.capacity() {
            // doubled, as a vector would, but never past the window
            let capacity = needed.max(2 * self.bytes.capacity()).min(self.bytes_max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_takes_no_more_memory_than_the_window() {
        let mut history = History::new(9);
        for len in [1, 100, 300, 511, 512, 513, 5000, 7] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let expected = tail(&[&history.bytes[..], &message].concat(), 512).to_vec();
            history.push(&message);
            assert_eq!(history.bytes, expected);
            assert!(history.bytes.capacity() <= 512);
        }
    }
}

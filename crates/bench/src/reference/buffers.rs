//! What is read into: one buffer for all connections, and one for each that has a large frame unfinished.

use std::mem;

use super::request::HEAD_BYTES_MAX;

/// Capacity of a buffer, at least.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Frames from this length on, header included, keep the buffer that their beginning was read into until they are
/// complete. What is left of smaller ones is copied, so that many connections cost no buffer each.
pub(super) const LARGE_FRAME_BYTES: usize = 64 * 1024;

/// Buffers kept for later. Large frames that many connections send at once allocate beyond that.
const SPARE_BUFFERS_MAX: usize = 8;

// What was copied fits into a buffer, and leaves room to read.
const _: () = assert!(LARGE_FRAME_BYTES < READ_BYTES && HEAD_BYTES_MAX < READ_BYTES);

/// The buffers that no connection has. The last one given back is the next one taken: it is warm in the cache.
#[derive(Default)]
pub(super) struct Buffers {
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    /// A buffer that begins with `unread` and has room behind it.
    pub(super) fn resume(&mut self, unread: &mut Vec<u8>) -> Vec<u8> {
        if unread.capacity() >= READ_BYTES {
            return mem::take(unread);
        }
        let mut buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES));
        if !unread.is_empty() {
            buffer.append(unread);
            *unread = Vec::new();
        }
        buffer
    }

    /// Takes a buffer back, whatever is in it.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

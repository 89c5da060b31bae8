//! What waits for one socket: a bounded queue of shared chunks.
//!
//! Chunks of a broadcast are shared by all outboxes they wait in; only the reference is queued. An empty outbox owns no
//! memory.
//!
//! What bounds it is the memory that it keeps from being freed. So a chunk counts until its last byte is written, and as what
//! an allocator takes for it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// See the module.
#[derive(Default, Debug)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Of the first chunk.
    written: usize,
    /// Occupied by the chunks.
    bytes: usize,
    messages: u32,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    messages: u32,
    /// [`occupied`], or as much of it as fits: no chunk is that large.
    occupied: u32,
}

/// What a chunk costs in memory: allocators have about four sizes for each power of two, and it has its place in the queue.
fn occupied(length: usize) -> usize {
    let step = (length.next_power_of_two() / 8).max(16);
    // The next multiple of it, which is a power of two: without a division.
    ((length + step - 1) & !(step - 1)) + size_of::<Chunk>()
}

/// Whether a delivery was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Queued {
    /// It waits for the socket.
    Queued,
    /// The outbox is full; nothing of it was taken.
    Refused,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of memory that what waits occupies, so more than will be written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that wait, wholly or partly.
    pub fn messages(&self) -> usize {
        self.messages as usize
    }

    /// Queues a delivery of `messages` messages if it fits. An empty outbox takes any one delivery, so that a bound
    /// smaller than a message delays it and does not forbid it.
    pub fn offer(&mut self, bytes: Bytes, messages: u32, bytes_max: usize, messages_max: usize) -> Queued {
        let occupied = occupied(bytes.len());
        let full = self.bytes + occupied > bytes_max || self.messages() + messages as usize > messages_max;
        if full && !self.is_empty() {
            return Queued::Refused;
        }
        self.push_occupying(bytes, messages, occupied);
        Queued::Queued
    }

    /// Whether a chunk of this length fits beside what waits, where all may occupy `bytes_max`. Into an empty outbox any does.
    pub fn fits(&self, length: usize, bytes_max: usize) -> bool {
        self.is_empty() || self.bytes + occupied(length) <= bytes_max
    }

    /// Queues what must not be refused: answers, control frames, the rest of a delivery whose beginning is already
    /// written. Its amount is bounded elsewhere, because reading stops while much waits.
    pub fn push(&mut self, bytes: Bytes, messages: u32) {
        let occupied = occupied(bytes.len());
        self.push_occupying(bytes, messages, occupied);
    }

    fn push_occupying(&mut self, bytes: Bytes, messages: u32, occupied: usize) {
        if !bytes.is_empty() {
            let occupied = u32::try_from(occupied).unwrap_or(u32::MAX);
            self.bytes += occupied as usize;
            self.messages += messages;
            self.chunks.push_back(Chunk {
                bytes,
                messages,
                occupied,
            });
        }
    }

    /// What to write next, as slices for one vectored write. Returns how many of `slices` are filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut count, mut written) = (0, self.written);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(&chunk.bytes[std::mem::take(&mut written)..]);
            count += 1;
        }
        count
    }

    /// All that waits, in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.bytes);
        for chunk in &self.chunks {
            whole.extend_from_slice(&chunk.bytes);
        }
        whole.drain(..self.written);
        whole
    }

    /// The socket took this many bytes off the front.
    pub fn handle_written(&mut self, written: usize) {
        self.written += written;
        while let Some(chunk) = self.chunks.front() {
            let length = chunk.bytes.len();
            if self.written < length {
                return;
            }
            self.written -= length;
            self.bytes -= chunk.occupied as usize;
            self.messages -= chunk.messages;
            self.chunks.pop_front();
        }
        // Idle connections are many; the memory of the queue is not kept for them.
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_outbox_refuses_and_an_empty_one_takes_anything() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer(Bytes::from(vec![0; 500]), 1, 200, 2), Queued::Queued);
        assert_eq!(outbox.offer(Bytes::from(vec![0; 1]), 1, 200, 2), Queued::Refused);
        outbox.handle_written(500);
        assert!(outbox.is_empty());
        assert_eq!(outbox.offer(Bytes::from(vec![0; 1]), 1, 200, 2), Queued::Queued);
        assert_eq!(outbox.offer(Bytes::from(vec![0; 1]), 1, 200, 2), Queued::Queued);
        assert_eq!(
            outbox.offer(Bytes::from(vec![0; 1]), 1, 200, 2),
            Queued::Refused,
            "by messages"
        );
        outbox.push(Bytes::from(vec![0; 1_000]), 0);
        assert_eq!(outbox.messages(), 2);
    }

    #[test]
    fn a_chunk_counts_as_what_it_occupies_until_it_is_written_to_the_end() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from(vec![0; 16_200]), 1);
        let bytes = outbox.bytes();
        assert!(
            bytes > 16_384,
            "the next size of an allocator and the place in the queue"
        );
        outbox.handle_written(16_199);
        assert_eq!((outbox.bytes(), outbox.messages()), (bytes, 1));
        outbox.push(Bytes::from(vec![0; 16_200]), 1);
        assert_eq!(outbox.bytes(), 2 * bytes);
        outbox.handle_written(2);
        assert_eq!((outbox.bytes(), outbox.messages()), (bytes, 1));
        outbox.handle_written(16_199);
        assert_eq!((outbox.bytes(), outbox.messages()), (0, 0));
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20), writes in prop::collection::vec(1usize..40, 1..40)) {
            let mut outbox = Outbox::default();
            for chunk in &chunks {
                outbox.push(Bytes::from(chunk.clone()), 1);
            }
            let mut out = Vec::new();
            for write in writes.iter().cycle().take(500) {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = outbox.slices(&mut slices);
                let front: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let written = front.len().min(*write);
                out.extend_from_slice(&front[..written]);
                outbox.handle_written(written);
            }
            prop_assert_eq!(out, chunks.concat());
            prop_assert_eq!((outbox.bytes(), outbox.messages(), outbox.is_empty()), (0, 0, true));
        }
    }
}

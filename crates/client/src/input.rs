//! What has been read and not yet been understood.

/// Held by every connection, also while it is idle.
const INPUT_BYTES: usize = 16 * 1024;

/// A buffer that is filled when it is empty.
pub(crate) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    /// Begins with `read`, which may be longer than what later fits at once.
    pub(crate) fn new(read: &[u8]) -> Input {
        let mut bytes = vec![0; INPUT_BYTES.max(read.len())];
        bytes[..read.len()].copy_from_slice(read);
        Input {
            bytes: bytes.into(),
            start: 0,
            end: read.len(),
        }
    }

    /// Whether everything has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where to read to. What had not been taken is forgotten.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        (self.start, self.end) = (0, 0);
        &mut self.bytes
    }

    /// The first `length` bytes of the room have been filled.
    pub(crate) fn handle_filled(&mut self, length: usize) {
        self.end = length;
    }

    /// Hands what is there to `take`, which moves the beginning.
    pub(crate) fn take<T>(&mut self, take: impl FnOnce(&mut &mut [u8]) -> T) -> T {
        let mut rest = &mut self.bytes[self.start..self.end];
        let taken = take(&mut rest);
        self.start = self.end - rest.len();
        taken
    }
}

//! Arbitrary bytes as a sequence of choices.

/// The choices still to come. When the bytes are used up every number is 0 and every choice the first one, so that a
/// prefix of an input is an input.
pub(crate) struct Script<'a> {
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script { bytes }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn long(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// One of `0..count`; `count` is at most 256.
    pub(crate) fn choose(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.choose(items.len())]
    }

    /// True in one of `count` cases, never when the bytes are used up.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.choose(count) == count - 1
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// The next bytes, fewer at the end.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// Some of the next bytes: short ones mostly, sometimes all there are.
    pub(crate) fn some(&mut self) -> &'a [u8] {
        match self.byte() {
            255 => self.rest(),
            length => self.take(usize::from(length)),
        }
    }

    /// [`Script::some`] as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.some()).into_owned()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

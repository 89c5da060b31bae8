//! Arbitrary bytes as a sequence of choices.

/// The choices still to come. When the bytes are used up, every choice is the first one.
pub(super) struct Script<'a> {
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script { bytes }
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One of `0..count`.
    pub(super) fn choose(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        usize::from(*first) % count.max(1)
    }

    /// True in one of `count` cases, never when the bytes are used up.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.choose(count) == count - 1
    }

    /// One of the items, if there are any.
    pub(super) fn pick<T: Clone>(&mut self, items: impl IntoIterator<Item = T>) -> Option<T> {
        let items: Vec<T> = items.into_iter().collect();
        let index = self.choose(items.len());
        items.get(index).cloned()
    }
}

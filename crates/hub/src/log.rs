//! One channel's log: its recent messages in order, and the idempotency keys of its publications.
//!
//! Appending orders, stores and de-duplicates in one step. Reading never passes over a message in silence: a [`Page`] says
//! whether it continues where the reader was, what exactly is missing, or that positions start anew.
//!
//! ```text
//!   offsets  1 … 4 │ 5   6   7   8          before = position of 4 (the last entry trimmed; its tag is kept)
//!            gone  │ kept entries           head   = position of 8, or `before` where nothing is kept
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::limits::{HISTORY_BYTES_MAX, HISTORY_MESSAGES_DEFAULT};
use switchboard_proto::payload::{Payload, PayloadKind};
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::time::Time;

use crate::limits::{KEY_WINDOW, KEYS_MAX};
use crate::settings::LogSettings;

/// What one entry costs beside its payload and its user's name: itself, its reference counts and its place in the log.
pub const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Kept>() + 2 * size_of::<usize>();

/// A message on its way into a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The user whose session publishes it; `None` for the server's own API.
    pub from: Option<User>,
    /// The content.
    pub payload: Payload,
    /// With a key, the message is in the log at most once within [`KEY_WINDOW`].
    pub key: Option<Key>,
    /// Replaces older messages of the same conflation key for who reads the latest only.
    pub conflate: Option<Key>,
}

/// What became of a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the message is; where its key had been seen, where the first message with this key is or was.
    pub position: Position,
    /// The new entry; `None` where the key had been seen.
    pub entry: Option<Arc<Entry>>,
}

/// How much one read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Messages. 0 reads nothing, but says where the reader stands.
    pub messages: usize,
    /// Bytes of payload. A first message that is larger comes all the same, so that every page makes progress.
    pub bytes: usize,
}

impl Default for ReadLimit {
    fn default() -> ReadLimit {
        ReadLimit {
            messages: HISTORY_MESSAGES_DEFAULT,
            bytes: HISTORY_BYTES_MAX,
        }
    }
}

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How the page follows on the position it was asked for.
    pub start: PageStart,
    /// The place before the first entry: where the reader is once it knows `start`.
    pub begin: Position,
    /// Oldest first. Without hole, but for those that `conflated` names.
    pub entries: Vec<Arc<Entry>>,
    /// Where entries were left out because newer ones of their conflation keys follow: only with [`Range::Latest`].
    pub conflated: Vec<Conflated>,
    /// The place after the last entry, for the next read; `begin` where there is no entry.
    pub position: Position,
    /// The place after the last entry of the log, when it was read.
    pub head: Position,
    /// Whether the log goes on in the direction of reading: after this page, or before it with [`Range::Before`].
    pub more: bool,
}

/// Entries of a [`Page`] that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflated {
    /// Before this one of the page's entries.
    pub before: usize,
    /// The place of the last one left out.
    pub position: Position,
}

impl Page {
    /// Whether it says nothing that a reader did not know.
    pub fn is_empty(&self) -> bool {
        self.start == PageStart::Continues && self.entries.is_empty()
    }

    /// Pieces of these of its entries, each without hole, and what is left out before it, both ends included.
    pub fn runs(&self, entries: std::ops::Range<usize>) -> impl Iterator<Item = Run<'_>> {
        let mut next = entries.start;
        let mut conflated = self.conflated.iter().peekable();
        std::iter::from_fn(move || {
            if next >= entries.end {
                return None;
            }
            let place = match next.checked_sub(1) {
                Some(before) => self.entries[before].position,
                None => self.begin,
            };
            while conflated.next_if(|gap| gap.before < next).is_some() {}
            let left_out = conflated.next_if(|gap| gap.before == next);
            let end = conflated
                .peek()
                .map_or(entries.end, |gap| gap.before.min(entries.end));
            let run = Run {
                left_out: left_out.map(|gap| (place.offset + 1, gap.position)),
                entries: &self.entries[next..end],
            };
            next = end;
            Some(run)
        })
    }
}

/// A piece of a [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The first offset that was left out before it, and the place of the last one.
    pub left_out: Option<(u64, Position)>,
    /// Without hole.
    pub entries: &'a [Arc<Entry>],
}

/// How a [`Page`] follows on the position it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// Without hole. Also where no position was given.
    Continues,
    /// These entries existed and are gone: both inclusive.
    Gap {
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
    },
    /// The position is not of this log: of another epoch, beyond the head, or of an entry that was lost and replaced.
    Reset,
}

/// The log of one channel, in one epoch.
#[derive(Debug)]
pub struct Log {
    epoch: Epoch,
    /// The place before the oldest kept entry.
    before: Place,
    /// Dense: the offset of each is one more than that of the one before.
    entries: VecDeque<Kept>,
    bytes: usize,
    keys: Option<Box<Keys>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    offset: u64,
    tag: u32,
}

#[derive(Debug)]
struct Kept {
    at: Time,
    entry: Arc<Entry>,
}

impl Log {
    /// An empty log. No two logs may have the same epoch.
    pub fn new(epoch: Epoch) -> Log {
        Log::after(Position::start(epoch))
    }

    /// A log whose entries up to this place are gone.
    pub(crate) fn after(before: Position) -> Log {
        Log {
            epoch: before.epoch,
            before: Place {
                offset: before.offset,
                tag: before.tag,
            },
            entries: VecDeque::new(),
            bytes: 0,
            keys: None,
        }
    }

    /// Orders `draft`, stores it and remembers its key; or says where the message with this key is.
    ///
    /// `at_ms` is the wall clock for readers; `now` is what age is measured by. Costs O(1), with a key O(log of the keys).
    pub fn append(&mut self, now: Time, at_ms: u64, mut draft: Draft, settings: &LogSettings) -> Appended {
        if let Some(key) = &draft.key
            && let Some(position) = self.seen(now, key)
        {
            return Appended {
                position,
                entry: None,
            };
        }
        let key = draft.key.take();
        let entry = entry_after(self.head(), at_ms, draft);
        self.store(now, entry.clone(), key, settings);
        Appended {
            position: entry.position,
            entry: Some(entry),
        }
    }

    /// Where the first message with this key is or was, while the log remembers it.
    pub(crate) fn seen(&mut self, now: Time, key: &Key) -> Option<Position> {
        self.forget_keys(now);
        let first = self.keys.as_ref()?.find(key)?;
        Some(self.position(first))
    }

    /// Stores an entry that follows the head, and remembers its key.
    #[inline]
    pub(crate) fn store(&mut self, now: Time, entry: Arc<Entry>, key: Option<Key>, settings: &LogSettings) {
        if let Some(key) = key {
            self.remember(now, key, entry.position);
        }
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(Kept { at: now, entry });
        self.trim(now, settings);
    }

    /// Remembers the key of an entry that was appended at `now`.
    pub(crate) fn remember(&mut self, now: Time, key: Key, position: Position) {
        let Position { offset, tag, .. } = position;
        let place = Place { offset, tag };
        self.keys.get_or_insert_default().insert(now, key, place);
    }

    /// The place before the oldest kept entry.
    pub fn before(&self) -> Position {
        self.position(self.before)
    }

    /// A part of the log, as far as `limit` goes. Costs what it gives; with [`Range::Latest`], a look at all that could be given.
    ///
    /// A position is taken for one of this log only if the entry at its offset still carries its tag. Where that entry is
    /// trimmed, the tag can be checked for the last trimmed one only; what lies before is missing from there on anyway.
    pub fn read(&mut self, now: Time, range: Range, limit: ReadLimit, settings: &LogSettings) -> Page {
        self.trim(now, settings);
        let end = self.entries.len();
        match range {
            Range::Newest => self.page(PageStart::Continues, self.newest(end, limit), end),
            Range::After(position) => {
                let (start, first) = self.locate(position);
                let rest = self.entries.range(first..);
                let taken = fitting(rest.map(|kept| &*kept.entry), limit);
                self.page(start, first, first + taken)
            }
            Range::Before(position) => {
                let (start, end) = match self.locate(position) {
                    (PageStart::Reset, _) => (PageStart::Reset, end),
                    // What is gone has nothing before it either.
                    (PageStart::Gap { .. }, _) => (PageStart::Continues, 0),
                    (PageStart::Continues, read) => (PageStart::Continues, read.saturating_sub(1)),
                };
                let first = self.newest(end, limit);
                Page {
                    more: first > 0,
                    ..self.page(start, first, end)
                }
            }
            Range::Latest { after } => {
                let (start, first) = after.map_or((PageStart::Continues, 0), |after| self.locate(after));
                self.latest(start, first, limit)
            }
        }
    }

    /// The entries at these indices.
    fn page(&self, start: PageStart, first: usize, end: usize) -> Page {
        let begin = self.place_before(first);
        let entries: Vec<_> = self
            .entries
            .range(first..end)
            .map(|kept| kept.entry.clone())
            .collect();
        Page {
            start,
            begin,
            position: entries.last().map_or(begin, |entry| entry.position),
            head: self.head(),
            more: end < self.entries.len(),
            entries,
            conflated: Vec::new(),
        }
    }

    /// The newest entry of each conflation key, from the index `first` on.
    fn latest(&self, start: PageStart, first: usize, limit: ReadLimit) -> Page {
        let mut keys = BTreeSet::new();
        let mut newest: Vec<usize> = (first..self.entries.len())
            .rev()
            .filter(|index| keys.insert(self.entries[*index].entry.conflate.as_ref()))
            .collect();
        newest.reverse();
        let taken = fitting(newest.iter().map(|index| &*self.entries[*index].entry), limit);
        let more = taken < newest.len();
        newest.truncate(taken);
        let mut next = first;
        let mut conflated = Vec::new();
        for (before, index) in newest.iter().enumerate() {
            if *index > next {
                let position = self.place_before(*index);
                conflated.push(Conflated { before, position });
            }
            next = index + 1;
        }
        let begin = self.place_before(first);
        let entries: Vec<_> = newest
            .iter()
            .map(|index| self.entries[*index].entry.clone())
            .collect();
        Page {
            start,
            begin,
            position: entries.last().map_or(begin, |entry| entry.position),
            head: self.head(),
            more,
            entries,
            conflated,
        }
    }

    fn place_before(&self, index: usize) -> Position {
        match index.checked_sub(1) {
            Some(before) => self.entries[before].entry.position,
            None => self.position(self.before),
        }
    }

    /// Forgets what the settings do not keep any longer. Costs what it forgets.
    pub fn trim(&mut self, now: Time, settings: &LogSettings) {
        while let Some(oldest) = self.entries.front()
            && (self.entries.len() > settings.messages_max
                || self.bytes > settings.bytes_max
                || now.since(oldest.at) >= settings.age_max)
        {
            let Position { offset, tag, .. } = oldest.entry.position;
            self.before = Place { offset, tag };
            self.bytes -= entry_bytes(&oldest.entry);
            self.entries.pop_front();
        }
        if self.entries.capacity() > 4 * self.entries.len().max(2) {
            self.entries.shrink_to(2 * self.entries.len());
        }
        self.forget_keys(now);
    }

    /// The place after the last entry.
    pub fn head(&self) -> Position {
        match self.entries.back() {
            Some(newest) => newest.entry.position,
            None => self.position(self.before),
        }
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it keeps no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes kept: payloads, names of users, conflation keys, and [`ENTRY_BYTES`] for each entry. Keys are not counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Idempotency keys remembered, at most [`KEYS_MAX`].
    pub fn keys(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.order.len())
    }

    /// How a reader at `since` goes on, and the index of the first entry for it.
    fn locate(&self, since: Position) -> (PageStart, usize) {
        let reset = (PageStart::Reset, 0);
        if since.epoch != self.epoch || (since.offset == 0 && since.tag != 0) {
            return reset;
        }
        let Some(read) = since.offset.checked_sub(self.before.offset) else {
            let gap = PageStart::Gap {
                from: since.offset + 1,
                to: self.before.offset,
            };
            return (gap, 0);
        };
        // Beyond what memory holds is beyond the head.
        let read = usize::try_from(read).unwrap_or(usize::MAX);
        let there = match read.checked_sub(1) {
            None => Some(self.position(self.before)),
            Some(last_read) => self.entries.get(last_read).map(|kept| kept.entry.position),
        };
        if there == Some(since) {
            (PageStart::Continues, read)
        } else {
            reset
        }
    }

    /// The index of the first of the newest entries before `end` that `limit` allows.
    fn newest(&self, end: usize, limit: ReadLimit) -> usize {
        let newest = self.entries.range(..end).rev();
        end - fitting(newest.map(|kept| &*kept.entry), limit)
    }

    fn forget_keys(&mut self, now: Time) {
        if let Some(keys) = &mut self.keys {
            keys.forget(now);
            if keys.order.is_empty() {
                self.keys = None;
            }
        }
    }

    fn position(&self, place: Place) -> Position {
        Position {
            epoch: self.epoch,
            offset: place.offset,
            tag: place.tag,
        }
    }
}

/// The entry that a draft becomes behind this place.
#[inline]
pub(crate) fn entry_after(head: Position, at_ms: u64, draft: Draft) -> Arc<Entry> {
    let position = Position {
        epoch: head.epoch,
        offset: head.offset + 1,
        tag: tag(&draft, at_ms),
    };
    Arc::new(Entry {
        position,
        previous: head.offset,
        at_ms,
        from: draft.from,
        conflate: draft.conflate,
        payload: draft.payload,
    })
}

/// How many of these entries one read gives.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, limit: ReadLimit) -> usize {
    let mut bytes = 0;
    let fits = |(index, entry): &(usize, &Entry)| {
        bytes += entry.payload.len();
        *index == 0 || bytes <= limit.bytes
    };
    entries.take(limit.messages).enumerate().take_while(fits).count()
}

/// The idempotency keys of one log, oldest first. A tree, because peers choose the keys and no hash is needed.
#[derive(Debug, Default)]
struct Keys {
    first: BTreeMap<Key, Place>,
    order: VecDeque<(Time, Key)>,
}

impl Keys {
    fn find(&self, key: &Key) -> Option<Place> {
        self.first.get(key).copied()
    }

    fn insert(&mut self, now: Time, key: Key, place: Place) {
        if self.first.contains_key(&key) {
            return;
        }
        if self.order.len() == KEYS_MAX {
            self.forget_oldest();
        }
        self.first.insert(key.clone(), place);
        self.order.push_back((now, key));
    }

    fn forget(&mut self, now: Time) {
        while let Some((at, _)) = self.order.front()
            && now.since(*at) >= KEY_WINDOW
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.first.remove(&key);
        }
    }
}

/// The fingerprint of an entry: CRC-32 (ISO 3309, as in gzip) over
///
/// | bytes | content                                                                        |
/// |-------|--------------------------------------------------------------------------------|
/// | 1     | kind of the payload: 0 JSON, 1 text, 2 bytes; 128 more with a conflation key   |
/// | 4     | length of the user's name, big-endian; `ff ff ff ff` where there is no user    |
/// | n     | the user's name                                                                |
/// | 4 + k | length of the conflation key, big-endian, and the key; absent where there is none |
/// | 8     | `at_ms`, big-endian                                                            |
/// | m     | the payload                                                                    |
///
/// It depends on nothing else, so that every node and every broker finds the same for the same message.
pub fn tag(draft: &Draft, at_ms: u64) -> u32 {
    let kind = match draft.payload.kind() {
        PayloadKind::Json => 0,
        PayloadKind::Text => 1,
        PayloadKind::Bytes => 2,
    };
    let name = draft.from.as_ref().map(|user| user.as_str().as_bytes());
    let name_length = name.map_or(u32::MAX, |name| name.len() as u32);
    let mut crc = crc32fast::Hasher::new();
    let conflate = draft.conflate.as_ref().map(|key| key.as_str().as_bytes());
    crc.update(&[kind | if conflate.is_some() { 0x80 } else { 0 }]);
    crc.update(&name_length.to_be_bytes());
    crc.update(name.unwrap_or_default());
    if let Some(conflate) = conflate {
        crc.update(&(conflate.len() as u32).to_be_bytes());
        crc.update(conflate);
    }
    crc.update(&at_ms.to_be_bytes());
    crc.update(draft.payload.as_bytes());
    crc.finalize()
}

fn entry_bytes(entry: &Entry) -> usize {
    let name = entry.from.as_ref().map_or(0, |user| user.as_str().len());
    let conflate = entry.conflate.as_ref().map_or(0, |key| key.as_str().len());
    entry.payload.len() + name + conflate + ENTRY_BYTES
}

#[cfg(test)]
mod tests;

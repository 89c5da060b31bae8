//! What really happened: a plain list of messages per channel and epoch, written where the broker appends.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::time::Time;

use crate::limits::KEY_WINDOW;
use crate::log::{Draft, Page, PageStart, ReadLimit};
use crate::settings::LogSettings;

#[derive(Default)]
pub(super) struct Truth {
    channels: BTreeMap<ChannelName, BTreeMap<Epoch, Vec<Message>>>,
    /// Texts whose publication was refused for certain.
    refused: BTreeSet<String>,
}

struct Message {
    position: Position,
    text: String,
    key: Option<String>,
    at: Time,
}

impl Truth {
    /// The broker says that it appended `draft` at `position`.
    pub(super) fn append(&mut self, now: Time, channel: &ChannelName, draft: &Draft, position: Position) {
        let text = text(draft);
        let key = draft.key.as_ref().map(|key| key.as_str().to_owned());
        let lives = self.channels.entry(channel.clone()).or_default();
        let messages = lives.entry(position.epoch).or_default();
        let first = messages
            .iter()
            .filter(|first| now.since(first.at) < KEY_WINDOW)
            .find(|first| key.is_some() && first.key == key);
        if let Some(first) = first {
            assert_eq!(position, first.position, "one key, one message");
            return;
        }
        assert_eq!(position.offset, messages.len() as u64 + 1, "the next offset");
        messages.push(Message {
            position,
            text,
            key,
            at: now,
        });
    }

    pub(super) fn refuse(&mut self, draft: &Draft) {
        self.refused.insert(text(draft));
    }

    pub(super) fn check_nothing_refused_is_there(&self) {
        let lives = self.channels.values().flat_map(BTreeMap::values);
        for message in lives.flatten() {
            assert!(!self.refused.contains(&message.text), "refused, yet appended");
        }
    }

    /// Positions name one message everywhere.
    pub(super) fn check_position(&self, channel: &ChannelName, position: Position) {
        if position.offset == 0 {
            assert_eq!(position, Position::start(position.epoch));
            return;
        }
        let message = self.message(channel, position.epoch, position.offset);
        assert_eq!(message.position, position, "a position of {channel}");
    }

    /// An acknowledgement names the message itself or the first one with its key.
    pub(super) fn check_published(&self, channel: &ChannelName, draft: &Draft, position: Position) -> bool {
        self.check_position(channel, position);
        let message = self.message(channel, position.epoch, position.offset);
        let is_new = message.text == text(draft);
        let key = draft.key.as_ref().map(|key| key.as_str());
        assert!(is_new || key.is_some() && message.key.as_deref() == key);
        is_new
    }

    pub(super) fn check_entry(&self, channel: &ChannelName, entry: &Entry) {
        let message = self.message(channel, entry.position.epoch, entry.position.offset);
        assert_eq!(message.position, entry.position, "an entry of {channel}");
        assert_eq!(entry.payload.as_str(), Some(message.text.as_str()));
        assert_eq!(entry.previous, entry.position.offset - 1);
    }

    pub(super) fn check_page(
        &self,
        now: Time,
        channel: &ChannelName,
        range: Range,
        limit: ReadLimit,
        settings: &LogSettings,
        page: &Page,
    ) {
        let Page {
            begin,
            position,
            head,
            ..
        } = *page;
        for place in [begin, position, head] {
            self.check_position(channel, place);
            assert_eq!(place.epoch, head.epoch);
        }
        match (page.start, range) {
            (PageStart::Continues, Range::Newest) => assert_eq!(position, head),
            (PageStart::Continues, Range::After(since) | Range::Latest { after: Some(since) }) => {
                assert_eq!(begin, since);
            }
            (PageStart::Continues, Range::Latest { after: None }) => {}
            (PageStart::Continues, Range::Before(before)) => assert_eq!(before.epoch, head.epoch),
            (PageStart::Gap { from, to }, Range::After(since) | Range::Latest { after: Some(since) }) => {
                assert_eq!((from, to), (since.offset + 1, begin.offset));
                assert!(since.epoch == head.epoch && from <= to);
                // Whatever is said to be gone is gone: its last message first of all.
                let last_gone = self.message(channel, head.epoch, to);
                let newer = (head.offset - to) as usize;
                assert!(newer >= settings.messages_max || now.since(last_gone.at) >= settings.age_max);
            }
            (PageStart::Reset, range) => {
                let position = range.position().map(|position| position.epoch);
                assert!(position.is_some_and(|epoch| epoch != head.epoch));
            }
            (start, range) => panic!("{start:?} of {range:?}"),
        }
        assert!(page.entries.len() <= limit.messages);
        let mut place = begin;
        for run in page.runs(0..page.entries.len()) {
            if let Some((from, to)) = run.left_out {
                assert!(matches!(range, Range::Latest { .. }));
                assert!(from == place.offset + 1 && from <= to.offset);
                self.check_position(channel, to);
                place = to;
            }
            for entry in run.entries {
                self.check_entry(channel, entry);
                assert_eq!(entry.previous, place.offset);
                place = entry.position;
            }
        }
        assert_eq!(place, position);
        match range {
            Range::Before(before) if before.epoch == head.epoch => {
                assert!(position.offset < before.offset.max(1) || page.entries.is_empty());
            }
            Range::Before(_) => assert_eq!(position, head),
            Range::Newest | Range::After(_) | Range::Latest { .. } => assert_eq!(page.more, position != head),
        }
    }

    /// All positions that were ever given out for a channel.
    pub(super) fn positions(&self, channel: &ChannelName) -> Vec<Position> {
        let lives = self.channels.get(channel).into_iter().flatten();
        let all = lives.flat_map(|(epoch, messages)| {
            let start = std::iter::once(Position::start(*epoch));
            start.chain(messages.iter().map(|message| message.position))
        });
        all.collect()
    }

    /// The place after the last message of an epoch.
    pub(super) fn end(&self, channel: &ChannelName, epoch: Epoch) -> Position {
        let life = self.channels.get(channel).and_then(|lives| lives.get(&epoch));
        let last = life.and_then(|messages| messages.last());
        last.map_or(Position::start(epoch), |message| message.position)
    }

    fn message(&self, channel: &ChannelName, epoch: Epoch, offset: u64) -> &Message {
        let life = self.channels.get(channel).and_then(|lives| lives.get(&epoch));
        let message = life.and_then(|messages| messages.get(offset.checked_sub(1)? as usize));
        message.unwrap_or_else(|| panic!("{channel} has no message {offset} in {epoch:?}"))
    }
}

fn text(draft: &Draft) -> String {
    draft.payload.as_str().unwrap_or_default().to_owned()
}

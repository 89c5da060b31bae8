//! What one subscriber got of one channel, judged as it comes: complete and in order, every hole told.

use switchboard_proto::dialect::notice::{Message, Notice};
use switchboard_proto::position::Position;

/// One thing that a subscriber got.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Message(Message),
    Gap { from: u64, to: u64 },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Run {
    channel: String,
    /// Where the subscriber is.
    at: Position,
    pub items: Vec<Item>,
}

impl Run {
    /// From the position in `subscribed`.
    pub fn begin(channel: &str, at: Position) -> Run {
        Run {
            channel: channel.to_owned(),
            at,
            items: Vec::new(),
        }
    }

    /// Takes a notice if it is one of this channel. Offsets of the embedded broker have no holes of their own.
    pub fn take(&mut self, notice: &Notice) -> bool {
        match notice {
            Notice::Message { channel, message } if channel.as_str() == self.channel => {
                self.go_on(message.position.offset, message.position, notice);
                self.items.push(Item::Message(message.clone()));
            }
            Notice::Gap {
                channel,
                from,
                to,
                position,
                ..
            } if channel.as_str() == self.channel => {
                assert!(from <= to && position.offset == *to, "{notice:?}");
                self.go_on(*from, *position, notice);
                self.items.push(Item::Gap { from: *from, to: *to });
            }
            Notice::Reset { channel, .. } if channel.as_str() == self.channel => {
                panic!("positions of {channel} start anew, but nothing was lost")
            }
            _ => return false,
        }
        true
    }

    fn go_on(&mut self, first: u64, to: Position, notice: &Notice) {
        let at = self.at;
        assert_eq!(to.epoch, at.epoch, "another life of the log without a reset");
        assert_eq!(first, at.offset + 1, "not what follows {at:?}: {notice:?}");
        self.at = to;
    }

    /// The offset up to which it knows everything, or what it missed.
    pub fn is_of(&self, channel: &str) -> bool {
        self.channel == channel
    }

    pub fn position(&self) -> Position {
        self.at
    }

    pub fn reached(&self) -> u64 {
        self.at.offset
    }

    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.items.iter().filter_map(|item| match item {
            Item::Message(message) => Some(message),
            Item::Gap { .. } => None,
        })
    }

    /// First and last offset of each.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let gaps = self.items.iter().filter_map(|item| match item {
            Item::Gap { from, to } => Some((*from, *to)),
            Item::Message(_) => None,
        });
        gaps.collect()
    }
}

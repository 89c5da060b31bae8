//! A session as the shell would hold it, with the client at its other end, who checks everything it reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::Position;

use super::truth::Truth;
use crate::audience::{Audience, Break, ChannelIndex, Missed, SubscriberId};

pub(super) struct Session {
    pub(super) id: SubscriberId,
    /// Tells it from the sessions that had this id before.
    pub(super) generation: u64,
    /// What it is subscribed to, as the operations say.
    pub(super) attached: BTreeSet<ChannelName>,
    pub(super) is_lagging: bool,
    outbox: VecDeque<Item>,
    outbox_max: usize,
    /// What the client knows: where it is in each channel.
    places: BTreeMap<ChannelName, Position>,
}

enum Item {
    Subscribed(ChannelName, Position),
    Unsubscribed(ChannelName),
    Message(ChannelName, Arc<Entry>),
    Break(ChannelName, Break),
}

impl Session {
    pub(super) fn new(id: SubscriberId, generation: u64, outbox_max: usize) -> Session {
        Session {
            id,
            generation,
            attached: BTreeSet::new(),
            is_lagging: false,
            outbox: VecDeque::new(),
            outbox_max,
            places: BTreeMap::new(),
        }
    }

    pub(super) fn subscribed(&mut self, channel: ChannelName, position: Position) {
        self.attached.insert(channel.clone());
        self.outbox.push_back(Item::Subscribed(channel, position));
    }

    pub(super) fn unsubscribed(&mut self, channel: ChannelName) {
        self.attached.remove(&channel);
        self.outbox.push_back(Item::Unsubscribed(channel));
    }

    /// Takes a break and entries, or as much as the outbox holds; from then on it lags.
    pub(super) fn give(
        &mut self,
        audience: &mut Audience,
        channel: ChannelIndex,
        broken: Option<Break>,
        entries: &[Arc<Entry>],
    ) {
        let Some(name) = audience.name(channel).cloned() else {
            panic!("{channel:?} has no name");
        };
        if let Some(broken) = broken
            && !self.push(Item::Break(name.clone(), broken))
        {
            return audience.lag(channel, self.id, Missed::from(broken));
        }
        for entry in entries {
            if !self.push(Item::Message(name.clone(), entry.clone())) {
                let from = entry.position.offset;
                return audience.lag(channel, self.id, Missed::Entries { from });
            }
        }
    }

    fn push(&mut self, item: Item) -> bool {
        self.is_lagging |= self.outbox.len() >= self.outbox_max;
        if !self.is_lagging {
            self.outbox.push_back(item);
        }
        !self.is_lagging
    }

    /// The client reads up to `count` items. Gives how many breaks were among them.
    pub(super) fn read(&mut self, audience: &mut Audience, truth: &Truth, count: usize) -> usize {
        let mut breaks = 0;
        for _ in 0..count {
            let Some(item) = self.outbox.pop_front() else {
                break;
            };
            breaks += usize::from(matches!(item, Item::Break(..)));
            self.check(item, truth);
        }
        if self.is_lagging && self.outbox.len() < self.outbox_max {
            self.is_lagging = false;
            let missed = audience.recover(self.id).into_iter();
            self.outbox
                .extend(missed.map(|(channel, broken)| Item::Break(channel, broken)));
        }
        breaks
    }

    /// A strictly increasing, complete run, every break explicit and exact.
    fn check(&mut self, item: Item, truth: &Truth) {
        match item {
            Item::Subscribed(channel, position) => {
                truth.check_position(&channel, position);
                assert_eq!(self.places.insert(channel, position), None);
            }
            Item::Unsubscribed(channel) => assert!(self.places.remove(&channel).is_some()),
            Item::Message(channel, entry) => {
                truth.check_entry(&channel, &entry);
                let place = self.place(&channel);
                assert_eq!(place.epoch, entry.position.epoch, "no new epoch without reset");
                assert_eq!(place.offset, entry.previous, "no hole without gap, nothing twice");
                *place = entry.position;
            }
            Item::Break(channel, Break::Gap { from, to, position }) => {
                truth.check_position(&channel, position);
                let place = self.place(&channel);
                assert_eq!(place.epoch, position.epoch, "no new epoch without reset");
                assert_eq!(
                    (from, to),
                    (place.offset + 1, position.offset),
                    "exactly the hole"
                );
                assert!(from <= to);
                *place = position;
            }
            Item::Break(channel, Break::Reset { position }) => {
                truth.check_position(&channel, position);
                let place = self.place(&channel);
                assert_ne!(place.epoch, position.epoch, "a reset is a new epoch");
                *place = position;
            }
        }
    }

    fn place(&mut self, channel: &ChannelName) -> &mut Position {
        match self.places.get_mut(channel) {
            Some(place) => place,
            None => panic!("something of {channel}, to which the client is not subscribed"),
        }
    }

    pub(super) fn has_read_all(&self) -> bool {
        self.outbox.is_empty() && !self.is_lagging
    }

    pub(super) fn places(&self) -> &BTreeMap<ChannelName, Position> {
        assert!(self.places.keys().eq(&self.attached));
        &self.places
    }
}

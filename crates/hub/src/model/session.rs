//! A session as the shell would hold it, with the client at its other end, who checks everything it reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::Position;

use super::truth::Truth;
use crate::audience::{Audience, Break, ChannelIndex, Missed, SubscriberId};
use crate::log::Page;
use crate::settings::{Namespaces, OnLag};

pub(super) struct Session {
    pub(super) id: SubscriberId,
    /// Tells it from the sessions that had this id before.
    pub(super) generation: u64,
    /// What it is subscribed to, as the operations say.
    pub(super) attached: BTreeSet<ChannelName>,
    /// Channels that it resumes, and whose `subscribed` it has not heard yet.
    resuming: BTreeSet<ChannelName>,
    /// Channels of which a page is asked for.
    reading: BTreeSet<ChannelName>,
    outbox: VecDeque<Item>,
    outbox_max: usize,
    namespaces: Arc<Namespaces>,
    /// What the client knows: where it is in each channel.
    places: BTreeMap<ChannelName, Position>,
}

enum Item {
    Subscribed(ChannelName, Position),
    Unsubscribed(ChannelName),
    Message(ChannelName, Arc<Entry>),
    Break(ChannelName, Break),
    /// A break that the log gives as the answer, or that was asked for.
    Told(ChannelName, Break),
}

/// What a session wants to read to go on in a channel.
pub(super) struct Wanted {
    pub(super) channel: ChannelName,
    pub(super) cursor: Position,
    pub(super) latest: bool,
}

impl Session {
    pub(super) fn new(
        id: SubscriberId,
        generation: u64,
        outbox_max: usize,
        namespaces: Arc<Namespaces>,
    ) -> Session {
        Session {
            id,
            generation,
            attached: BTreeSet::new(),
            resuming: BTreeSet::new(),
            reading: BTreeSet::new(),
            outbox: VecDeque::new(),
            outbox_max,
            namespaces,
            places: BTreeMap::new(),
        }
    }

    pub(super) fn subscribed(&mut self, channel: ChannelName, position: Position, resumes: bool) {
        self.attached.insert(channel.clone());
        if resumes {
            self.resuming.insert(channel);
        } else {
            self.outbox.push_back(Item::Subscribed(channel, position));
        }
    }

    pub(super) fn unsubscribed(&mut self, channel: ChannelName) {
        self.attached.remove(&channel);
        self.reading.remove(&channel);
        if !self.resuming.remove(&channel) {
            self.outbox.push_back(Item::Unsubscribed(channel));
        }
    }

    fn on_lag(&self, channel: &ChannelName) -> OnLag {
        self.namespaces.settings(channel).on_lag
    }

    /// Takes what was missed and entries, or as much as the outbox holds; from then on it is behind.
    pub(super) fn give(
        &mut self,
        audience: &mut Audience,
        channel: ChannelIndex,
        missed: Option<Missed>,
        mut after: Position,
        entries: &[Arc<Entry>],
    ) {
        let Some(name) = audience.name(channel).cloned() else {
            panic!("{channel:?} has no name");
        };
        if let Some(missed) = missed
            && (self.on_lag(&name) != OnLag::Drop || !self.push(Item::Break(name.clone(), missed.told())))
        {
            return audience.lag(channel, self.id, missed.after);
        }
        for entry in entries {
            if !self.push(Item::Message(name.clone(), entry.clone())) {
                return audience.lag(channel, self.id, after);
            }
            after = entry.position;
        }
    }

    fn has_room(&self) -> bool {
        self.outbox.len() < self.outbox_max
    }

    fn push(&mut self, item: Item) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.outbox.push_back(item);
        }
        has_room
    }

    /// The client reads up to `count` items. Gives how many breaks without reason were among them.
    pub(super) fn read(&mut self, truth: &Truth, count: usize) -> usize {
        let mut breaks = 0;
        for _ in 0..count {
            let Some(item) = self.outbox.pop_front() else {
                break;
            };
            breaks += usize::from(matches!(item, Item::Break(..)));
            self.check(item, truth);
        }
        breaks
    }

    /// Where it is behind: is brought up, or wants to read.
    pub(super) fn catch_up(&mut self, audience: &mut Audience) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let behind: Vec<_> = audience.behind(self.id).collect();
        for index in behind {
            let (Some(channel), Some(cursor)) =
                (audience.name(index).cloned(), audience.cursor(index, self.id))
            else {
                panic!("{index:?} has no name or no cursor");
            };
            if !self.has_room() || self.reading.contains(&channel) {
                continue;
            }
            let on_lag = self.on_lag(&channel);
            let latest = on_lag == OnLag::Latest || audience.conflates(index, self.id);
            if on_lag == OnLag::Drop && !latest && !audience.resumes(index, self.id) {
                if let Some(told) = audience.skip(index, self.id) {
                    self.outbox.push_back(Item::Break(channel, told));
                }
                continue;
            }
            self.reading.insert(channel.clone());
            wanted.push(Wanted {
                channel,
                cursor,
                latest,
            });
        }
        wanted
    }

    /// A page that it wanted.
    pub(super) fn give_page(
        &mut self,
        audience: &mut Audience,
        channel: &ChannelName,
        since: Position,
        page: &Page,
    ) {
        self.reading.remove(channel);
        let Some(index) = audience
            .behind(self.id)
            .find(|index| audience.name(*index) == Some(channel))
        else {
            // It has left meanwhile.
            return;
        };
        let Some(step) = audience.advance(index, self.id, since, page) else {
            return;
        };
        if self.resuming.remove(channel) {
            self.outbox.push_back(Item::Subscribed(channel.clone(), since));
        }
        let told = |broken| Item::Told(channel.clone(), broken);
        self.outbox.extend(step.broken.map(told));
        for run in page.runs(step.entries) {
            let left_out = run.left_out.map(|(from, position)| Break::Gap {
                from,
                to: position.offset,
                position,
            });
            self.outbox.extend(left_out.map(told));
            let entries = run.entries.iter().cloned();
            self.outbox
                .extend(entries.map(|entry| Item::Message(channel.clone(), entry)));
        }
    }

    /// The page that it wanted could not be had. Whether it has to give up the subscription, which had not begun.
    pub(super) fn refuse_page(&mut self, channel: &ChannelName) -> bool {
        self.reading.remove(channel);
        self.resuming.contains(channel)
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
            Item::Break(channel, broken) | Item::Told(channel, broken) => {
                self.check_break(&channel, broken, truth);
            }
        }
    }

    fn check_break(&mut self, channel: &ChannelName, broken: Break, truth: &Truth) {
        let place = match broken {
            Break::Gap { from, to, position } => {
                let place = self.place(channel);
                assert_eq!(place.epoch, position.epoch, "no new epoch without reset");
                assert_eq!(
                    (from, to),
                    (place.offset + 1, position.offset),
                    "exactly the hole"
                );
                assert!(from <= to);
                *place = position;
                position
            }
            Break::Reset { position } => {
                let place = self.place(channel);
                assert_ne!(place.epoch, position.epoch, "a reset is a new epoch");
                *place = position;
                position
            }
        };
        truth.check_position(channel, place);
    }

    fn place(&mut self, channel: &ChannelName) -> &mut Position {
        match self.places.get_mut(channel) {
            Some(place) => place,
            None => panic!("something of {channel}, to which the client is not subscribed"),
        }
    }

    pub(super) fn has_read_all(&self) -> bool {
        self.outbox.is_empty() && self.reading.is_empty() && self.resuming.is_empty()
    }

    pub(super) fn places(&self) -> &BTreeMap<ChannelName, Position> {
        assert!(self.places.keys().eq(&self.attached));
        &self.places
    }
}

//! One shard: what the shell would do around a home, an audience and a broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Position, Range};

use super::broker::Broker;
use super::session::Session;
use crate::audience::{Audience, Delivery, SubscriberId};
use crate::home::{Answer, Home, ShardId};
use crate::log::{Draft, ReadLimit};

pub(super) type Entries = Arc<[Arc<Entry>]>;

pub(super) struct Shard {
    pub(super) home: Home<Who>,
    pub(super) audience: Audience,
    pub(super) broker: Broker,
    /// By the shard that sends.
    pub(super) inboxes: Vec<VecDeque<Message>>,
    pub(super) sessions: BTreeMap<SubscriberId, Session>,
    /// What this shard has asked and was not answered yet.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Channels whose `Leave` could not be sent.
    pub(super) to_leave: BTreeSet<ChannelName>,
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) shard: usize,
    pub(super) number: u64,
}

pub(super) enum Asked {
    Publish {
        channel: ChannelName,
        draft: Draft,
        /// The newest message that was acknowledged before this one was sent.
        after: Option<Position>,
    },
    History {
        channel: ChannelName,
        range: Range,
        limit: ReadLimit,
    },
    Subscribe {
        channel: ChannelName,
        subscriber: SubscriberId,
        generation: u64,
        since: Option<Position>,
        latest: bool,
    },
    /// For a subscriber that is behind.
    Page {
        channel: ChannelName,
        subscriber: SubscriberId,
        generation: u64,
        range: Range,
        limit: ReadLimit,
    },
}

pub(super) enum Message {
    Publish {
        channel: ChannelName,
        draft: Draft,
        who: Who,
    },
    History {
        channel: ChannelName,
        range: Range,
        limit: ReadLimit,
        who: Who,
    },
    Subscribe {
        channel: ChannelName,
        shard: ShardId,
        who: Who,
    },
    Leave {
        channel: ChannelName,
        shard: ShardId,
    },
    /// A `Head` where there are no entries.
    Deliver {
        channel: ChannelName,
        after: Position,
        entries: Entries,
    },
    Answer {
        number: u64,
        answer: Answer,
    },
}

impl Shard {
    pub(super) fn new(index: usize, broker: Broker, shards: usize) -> Shard {
        Shard {
            home: Home::new(index as u64),
            audience: Audience::new(index as u64),
            broker,
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            to_leave: BTreeSet::new(),
        }
    }

    /// Fans out what came from a home. Whether to leave.
    pub(super) fn deliver(&mut self, channel: &ChannelName, after: Position, entries: &[Arc<Entry>]) -> bool {
        let delivery = if entries.is_empty() {
            self.audience.head(channel, after)
        } else {
            self.audience.deliver(channel, after, entries)
        };
        let attached = self
            .sessions
            .values()
            .filter(|session| session.attached.contains(channel));
        let members: BTreeSet<_> = attached.map(|session| session.id).collect();
        match delivery {
            Delivery::Fresh {
                channel: index,
                missed,
                after,
                fresh,
            } => {
                let subscribers = self.audience.subscribers(index).to_vec();
                for subscriber in subscribers {
                    assert!(members.contains(&subscriber));
                    if let Some(session) = self.sessions.get_mut(&subscriber) {
                        session.give(&mut self.audience, index, missed, after, &entries[fresh.clone()]);
                    }
                }
                let behind = |member: &&SubscriberId| self.audience.cursor(index, **member).is_some();
                let live = self.audience.subscribers(index).len();
                assert_eq!(members.iter().filter(behind).count() + live, members.len());
                false
            }
            Delivery::Nobody { leave } => {
                assert!(members.is_empty());
                leave
            }
        }
    }

    /// The home has said `Subscribed` to a session that is still here.
    pub(super) fn attach(
        &mut self,
        channel: ChannelName,
        subscriber: SubscriberId,
        position: Position,
        since: Option<Position>,
        latest: bool,
    ) {
        let since = since.filter(|since| *since != position);
        let attached = match since {
            None => self.audience.attach(&channel, subscriber, position),
            Some(since) => self.audience.attach_behind(&channel, subscriber, position, since),
        };
        let Some(attached) = attached else {
            panic!("{subscriber:?} does not wait for {channel}");
        };
        assert_eq!(
            attached.position,
            since.unwrap_or(position),
            "what the home sends comes in order"
        );
        if latest {
            self.audience.conflate(attached.channel, subscriber);
        }
        for other in self.audience.subscribers(attached.channel).to_vec() {
            if other != subscriber
                && let Some(session) = self.sessions.get_mut(&other)
                && attached.missed.is_some()
            {
                session.give(
                    &mut self.audience,
                    attached.channel,
                    attached.missed,
                    position,
                    &[],
                );
            }
        }
        if let Some(session) = self.sessions.get_mut(&subscriber) {
            session.subscribed(channel, attached.position, since.is_some());
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.inboxes.iter().all(VecDeque::is_empty)
            && self.broker.is_idle()
            && self.asked.is_empty()
            && self.to_leave.is_empty()
            && (self.home.in_flight(), self.home.behind()) == (0, 0)
            && self.audience.behind_total() == 0
            && self.sessions.values().all(Session::has_read_all)
    }
}

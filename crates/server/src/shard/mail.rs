//! What shards say to each other, and the bounded mailboxes it goes through.
//!
//! A mailbox is one FIFO: the answer to a subscribe and the deliveries around it arrive in the order in which the home
//! decided them. It is never awaited by a shard. Its capacity has two parts:
//!
//! - `messages_max` slots for requests and deliveries. When they are taken, a request is refused (`overloaded`) and a delivery
//!   makes the shard fall behind on that channel, which the offsets tell it.
//! - a reserve for answers. A shard has at most [`UNANSWERED_MAX`] requests unanswered, so there is always room for their
//!   answers: every request has one.
//!
//! What a broker completes has a queue of its own: a broker waits for room, and would take the reserve while it waits.

use std::sync::Arc;

use switchboard_hub::broker::Completion;
use switchboard_hub::home::{Answer, ShardId};
use switchboard_hub::log::{Draft, ReadLimit};
use switchboard_hub::presence::{Listing, Stay};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::{Announcement, Member, MemberKey, Which};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::wheel::LinkRef;

/// Requests of one shard that may be unanswered at once. Beyond: `overloaded`.
pub const UNANSWERED_MAX: usize = 16_384;
/// Completions that wait for one home. Beyond, its broker waits.
const COMPLETIONS_MAX: usize = 1_024;

/// One message to a shard.
#[allow(missing_docs, reason = "fields are named after what they hold")]
#[derive(Debug)]
pub enum Mail {
    /// To the home: `shard` wants what is published to `channel`, and somebody is there.
    Subscribe {
        channel: ChannelName,
        join: Option<Box<Join>>,
        origin: Origin,
    },
    /// To the home: nobody at `shard` is interested any more.
    Leave { channel: ChannelName, shard: ShardId },
    /// To the home: append this.
    Publish {
        channel: ChannelName,
        draft: Draft,
        origin: Origin,
    },
    /// To the home: read the log.
    History {
        channel: ChannelName,
        range: Range,
        limit: ReadLimit,
        origin: Origin,
    },
    /// To the home: a stay has ended.
    Depart(Box<Depart>),
    /// To the home: `shard` wants to know who is there. Answered by a snapshot.
    Hear { channel: ChannelName, shard: ShardId },
    /// To the home: nobody at `shard` wants to know any more.
    Deaf { channel: ChannelName, shard: ShardId },
    /// To the home: some of those who are there.
    Members {
        channel: ChannelName,
        which: Which,
        limit: Listing,
        origin: Origin,
    },
    /// From the home: who is there.
    Presence {
        channel: ChannelName,
        announcement: Arc<Announcement>,
        is_answer: bool,
    },
    /// From the home: new messages.
    Deliver {
        channel: ChannelName,
        after: Position,
        entries: Arc<[Arc<Entry>]>,
    },
    /// From the home: where the log is, after a delivery was refused.
    Head {
        channel: ChannelName,
        position: Position,
    },
    /// From the home: how a request ended.
    Reply { origin: Origin, answer: Answer },
    /// From the process: say goodbye to everyone.
    Stop,
}

/// Somebody is in a channel.
#[derive(Debug)]
pub struct Join {
    /// Who.
    pub member: Member,
    /// Its stay, which a [`Depart`] ends.
    pub stay: Stay,
}

/// The end of a stay.
#[derive(Clone, Debug)]
pub struct Depart {
    /// In which channel.
    pub channel: ChannelName,
    /// Whose.
    pub key: MemberKey,
    /// Which one.
    pub stay: Stay,
    /// With intent. Else it may come back.
    pub has_left: bool,
}

/// Who asked.
#[derive(Debug)]
pub enum Origin {
    /// A session.
    Session {
        /// Its shard.
        shard: ShardId,
        /// Its link there.
        link: LinkRef,
        /// The command's id.
        id: Option<u64>,
        /// What the answer is about.
        channel: ChannelName,
        /// What was asked.
        asked: Asked,
    },
    /// A shard, for its subscribers that are behind.
    Replay {
        /// Which one.
        shard: ShardId,
        /// Its number for the page.
        number: u64,
    },
    /// The application backend.
    Api(oneshot::Sender<Answer>),
}

/// What a session asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Subscribe.
    Subscribe,
    /// Publish.
    Publish {
        /// How often the session knows that a publish of its was refused: those of one number are refused together.
        hold: u32,
    },
    /// History, or members.
    Read,
}

/// The receiving ends of one shard.
#[derive(Debug)]
pub struct Mailbox {
    /// From shards and from the process.
    pub mail: mpsc::Receiver<Mail>,
    /// From its broker.
    pub completions: mpsc::Receiver<Told>,
}

/// What a broker tells its home from elsewhere.
#[derive(Debug)]
pub enum Told {
    /// Something has completed.
    Completion(Completion),
    /// To look at the broker.
    Look,
}

/// The sending ends of all mailboxes.
#[derive(Clone)]
pub struct Post {
    boxes: Arc<[mpsc::Sender<Mail>]>,
    completions: Arc<[mpsc::Sender<Told>]>,
    reserve: usize,
    hasher: foldhash::fast::FixedState,
}

/// The mailbox was full; the message is gone.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Post {
    /// Mailboxes for `shards` shards, and their receiving ends. `seed` decides which shard is a channel's home.
    pub fn new(shards: usize, messages_max: usize, seed: u64) -> (Post, Vec<Mailbox>) {
        let reserve = UNANSWERED_MAX + shards;
        let (mut boxes, mut completions, mut mailboxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..shards {
            let (mail_sender, mail) = mpsc::channel(messages_max + reserve);
            let (completion_sender, completed) = mpsc::channel(COMPLETIONS_MAX);
            boxes.push(mail_sender);
            completions.push(completion_sender);
            mailboxes.push(Mailbox {
                mail,
                completions: completed,
            });
        }
        let post = Post {
            boxes: boxes.into(),
            completions: completions.into(),
            reserve,
            hasher: foldhash::fast::FixedState::with_seed(seed),
        };
        (post, mailboxes)
    }

    /// Requests and deliveries that fit into one mailbox.
    pub fn messages_max(&self) -> usize {
        self.boxes[0].max_capacity() - self.reserve
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.boxes.len()
    }

    /// The home of a channel.
    pub fn home(&self, channel: &ChannelName) -> ShardId {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(channel.as_str());
        ShardId((hash % self.boxes.len() as u64) as u16)
    }

    /// Sends a request or a delivery, if the part of the mailbox for these has room.
    pub fn send(&self, to: ShardId, mail: Mail) -> Result<(), Full> {
        let mailbox = &self.boxes[usize::from(to.0)];
        // Other senders may take a slot between the look and the send: the reserve has one for each of them.
        if mailbox.capacity() <= self.reserve {
            return Err(Full);
        }
        // Nobody will answer where a shard has stopped.
        mailbox.try_send(mail).map_err(|_| Full)
    }

    /// Sends an answer, for which there is always room.
    pub fn send_reserved(&self, to: ShardId, mail: Mail) -> Result<(), Full> {
        match self.boxes[usize::from(to.0)].try_send(mail) {
            Err(TrySendError::Full(_)) => Err(Full),
            // A closed mailbox is a shard that has stopped: nobody is left to tell.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Hands a completion to a home, waiting for room. Only for tasks outside the shards.
    pub async fn complete(&self, to: ShardId, completion: Completion) {
        // A closed mailbox is a shard that has stopped: nobody is left to tell.
        let told = Told::Completion(completion);
        let _stopped = self.completions[usize::from(to.0)].send(told).await;
    }

    /// Has a home look at its broker.
    pub fn look(&self, to: ShardId) {
        // Where there is no room the home is about to have a turn anyway.
        let _full = self.completions[usize::from(to.0)].try_send(Told::Look);
    }

    /// Waits for room. Only for the process when it stops.
    pub async fn send_waiting(&self, to: ShardId, mail: Mail) {
        // A closed mailbox is a shard that has stopped: nobody is left to tell.
        let _stopped = self.boxes[usize::from(to.0)].send(mail).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_has_stopped_needs_no_answers_and_gives_none() {
        let (post, mailboxes) = Post::new(2, 1, 7);
        drop(mailboxes);
        assert!(post.send_reserved(ShardId(1), Mail::Stop).is_ok());
        assert!(post.send(ShardId(1), Mail::Stop).is_err());
    }
}

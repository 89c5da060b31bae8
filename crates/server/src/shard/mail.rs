//! What shards say to each other, and the bounded mailboxes it goes through.
//!
//! A mailbox is one FIFO: the answer to a subscribe and the deliveries around it arrive in the order in which the home
//! decided them. It is never awaited by a shard. Its capacity has two parts:
//!
//! - `messages_max` slots for requests and deliveries. When they are taken, a request is refused (`overloaded`) and a delivery
//!   makes the shard fall behind on that channel, which the offsets tell it.
//! - a reserve for answers. A shard has at most [`UNANSWERED_MAX`] requests unanswered, so there is always room for their
//!   answers: every request has one. How it is kept free while all send at once is in `letterbox`.
//!
//! What a broker completes has a queue of its own: a broker waits for room, and would take the reserve while it waits.

mod letterbox;

use std::sync::Arc;

use switchboard_hub::broker::Completion;
use switchboard_hub::home::{Answer, ShardId};
use switchboard_hub::log::{Draft, ReadLimit};
use switchboard_hub::presence::{Listing, Stay};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::{Announcement, Member, MemberKey, Which};
use tokio::sync::{mpsc, oneshot};

pub use self::letterbox::Full;
use self::letterbox::Letterbox;
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
    boxes: Arc<[Letterbox<Mail>]>,
    completions: Arc<[mpsc::Sender<Told>]>,
    hasher: foldhash::fast::FixedState,
}

impl Post {
    /// Mailboxes for `shards` shards, and their receiving ends. `seed` decides which shard is a channel's home.
    pub fn new(shards: usize, messages_max: usize, seed: u64) -> (Post, Vec<Mailbox>) {
        // To one of them send the others, and the runtime of the internal listener with its one thread.
        let senders = shards;
        let (mut boxes, mut completions, mut mailboxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..shards {
            let (letterbox, mail) = Letterbox::new(messages_max, UNANSWERED_MAX, senders);
            let (completion_sender, completed) = mpsc::channel(COMPLETIONS_MAX);
            boxes.push(letterbox);
            completions.push(completion_sender);
            mailboxes.push(Mailbox {
                mail,
                completions: completed,
            });
        }
        let post = Post {
            boxes: boxes.into(),
            completions: completions.into(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
        };
        (post, mailboxes)
    }

    /// Requests and deliveries that fit into one mailbox.
    pub fn messages_max(&self) -> usize {
        self.boxes[0].messages_max()
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
        self.boxes[usize::from(to.0)].send(mail)
    }

    /// Sends an answer, for which there is always room.
    pub fn send_reserved(&self, to: ShardId, mail: Mail) -> Result<(), Full> {
        self.boxes[usize::from(to.0)].send_reserved(mail)
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
        self.boxes[usize::from(to.0)].send_waiting(mail).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_shard_that_has_stopped_needs_no_answers_and_gives_none() {
        let (post, mailboxes) = Post::new(2, 1, 7);
        drop(mailboxes);
        assert!(post.send_reserved(ShardId(1), Mail::Stop).is_ok());
        assert!(post.send(ShardId(1), Mail::Stop).is_err());
    }

    /// With threads of the system, and the queue as it is; `tests/interleavings` has something else in its place.
    #[test]
    fn what_was_accepted_before_the_stop_is_received_before_it_and_in_its_order() {
        const SENDERS: usize = 3;
        let to = ShardId(0);
        for _round in 0..100 {
            let (post, mut mailboxes) = Post::new(SENDERS, 4, 7);
            let mut mail = mailboxes.remove(0).mail;
            let has_ended = AtomicBool::new(false);
            let accepted: [AtomicUsize; SENDERS] = Default::default();
            std::thread::scope(|scope| {
                for (number, accepted) in accepted.iter().enumerate() {
                    let (post, has_ended) = (post.clone(), &has_ended);
                    scope.spawn(move || {
                        while !has_ended.load(Ordering::Acquire) {
                            let next = accepted.load(Ordering::Relaxed);
                            let channel = ChannelName::parse(&next.to_string()).unwrap();
                            let shard = ShardId(number as u16);
                            match post.send(to, Mail::Leave { channel, shard }) {
                                Ok(()) => accepted.store(next + 1, Ordering::Release),
                                Err(Full) => std::thread::yield_now(),
                            }
                        }
                    });
                }
                let stopping = scope.spawn(|| {
                    while accepted
                        .iter()
                        .any(|accepted| accepted.load(Ordering::Acquire) < 10)
                    {
                        std::thread::yield_now();
                    }
                    let before = accepted
                        .each_ref()
                        .map(|accepted| accepted.load(Ordering::Acquire));
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(post.send_waiting(to, Mail::Stop));
                    before
                });
                let mut received = [0; SENDERS];
                while let Some(Mail::Leave { channel, shard }) = mail.blocking_recv() {
                    let received = &mut received[usize::from(shard.0)];
                    assert_eq!(channel.as_str(), received.to_string());
                    *received += 1;
                }
                has_ended.store(true, Ordering::Release);
                let before = stopping.join().unwrap();
                for (received, before) in received.into_iter().zip(before) {
                    assert!(received >= before, "{received} of {before}");
                }
            });
        }
    }
}

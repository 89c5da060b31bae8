//! Bugs between the shards of a node: what one sends is lost, doubled or changed before the other gets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::position::Position;
use switchboard_server::shard::mail::{Asked, Mail, Mailbox, Origin};
use tokio::sync::mpsc;

use crate::bug::Bug;

/// Stands before a mailbox.
pub fn plant(mailbox: Mailbox, bug: Bug) -> Mailbox {
    let Mailbox {
        mut mail,
        completions,
    } = mailbox;
    let (sender, receiver) = mpsc::channel(mail.max_capacity());
    tokio::task::spawn_local(async move {
        let mut tamper = Tamper {
            bug,
            counted: 0,
            hidden: BTreeMap::new(),
        };
        while let Some(message) = mail.recv().await {
            for message in tamper.pass(message) {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
    Mailbox {
        mail: receiver,
        completions,
    }
}

struct Tamper {
    bug: Bug,
    counted: u64,
    /// Where a channel was before what was lost.
    hidden: BTreeMap<ChannelName, Position>,
}

impl Tamper {
    fn is_turn(&mut self, every: u64) -> bool {
        self.counted += 1;
        self.counted.is_multiple_of(every)
    }

    fn pass(&mut self, mail: Mail) -> Vec<Mail> {
        match (self.bug, mail) {
            (
                Bug::DeliveryLost,
                Mail::Deliver {
                    channel,
                    after,
                    entries,
                },
            ) => {
                let hidden = self.hidden.remove(&channel);
                let after = hidden.unwrap_or(after);
                if self.is_turn(9) {
                    self.hidden.insert(channel, after);
                    return Vec::new();
                }
                let entries = match (hidden, &entries[..]) {
                    (Some(hidden), [first, others @ ..]) => {
                        let mut first = Entry::clone(first);
                        first.previous = hidden.offset;
                        std::iter::once(Arc::new(first))
                            .chain(others.iter().cloned())
                            .collect()
                    }
                    _ => entries,
                };
                vec![Mail::Deliver {
                    channel,
                    after,
                    entries,
                }]
            }
            (
                Bug::ReplyLost,
                Mail::Reply {
                    origin:
                        Origin::Session {
                            asked: Asked::Publish { .. },
                            ..
                        },
                    ..
                },
            ) if self.is_turn(7) => Vec::new(),
            (Bug::JoinLost, Mail::Subscribe { channel, origin, .. }) => vec![Mail::Subscribe {
                channel,
                join: None,
                origin,
            }],
            (Bug::DepartLost, Mail::Depart(_)) => Vec::new(),
            (Bug::DepartHasty, Mail::Depart(mut depart)) => {
                depart.has_left = true;
                vec![Mail::Depart(depart)]
            }
            (_, mail) => vec![mail],
        }
    }
}

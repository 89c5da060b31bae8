//! What a client asks for: the requests of a session, on their way to the homes of their channels.
//!
//! Every request is answered once. One that cannot be sent on is answered here, with `overloaded`.

use std::time::Duration;

use switchboard_hub::log::{Draft, ReadLimit};
use switchboard_hub::presence::Listing;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Event;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::limits::{
    HISTORY_BYTES_MAX, HISTORY_MESSAGES_DEFAULT, HISTORY_MESSAGES_MAX, MEMBERS_DEFAULT, MEMBERS_MAX,
};
use switchboard_proto::presence::Attendance;
use switchboard_proto::session::server::Request;

use super::mail::{Asked, Full, Mail, Origin};
use super::presence::NotNow;
use super::replay::Resuming;
use super::wheel::LinkRef;
use super::{State, UNANSWERED_MAX};

/// What `overloaded` tells a client to wait.
const OVERLOADED_RETRY: Duration = Duration::from_millis(250);

impl State {
    pub(super) fn handle_request(&mut self, at: LinkRef, request: Request) {
        match request {
            // Needs the input; see `State::handle_input`.
            Request::Echo { .. } => {}
            Request::Subscribe {
                id,
                channel,
                since,
                latest,
                presence,
            } => {
                let resuming = (since.is_some() || latest).then(|| Resuming {
                    channel: channel.clone(),
                    id,
                    since,
                    latest,
                });
                self.subscribe(at, id, channel, resuming, presence);
            }
            Request::Unsubscribe { id, channel }
                if self.link(at).is_some_and(|link| link.is_resuming(&channel)) =>
            {
                self.refuse(at, id, ErrorCode::NotSubscribed, None);
            }
            Request::Unsubscribe { id, channel } => {
                match self.audience.detach(&channel, super::turn::subscriber(at)) {
                    Ok(leave) => {
                        self.depart(at, &channel);
                        if leave {
                            self.leave(channel.clone());
                        }
                        self.say(
                            at,
                            &Event::Unsubscribed {
                                id,
                                channel: &channel,
                            },
                        );
                    }
                    Err(_) => self.refuse(at, id, ErrorCode::NotSubscribed, None),
                }
            }
            Request::Publish {
                id,
                channel,
                payload,
                key,
                conflate,
            } => {
                self.stats.publishes.add(1);
                let Some(link) = self.link(at) else { return };
                let from = Some(link.session.identity().user.clone());
                let hold = link.session.holds();
                let draft = Draft {
                    from,
                    payload,
                    key,
                    conflate,
                };
                let origin = self.origin(at, id, &channel, Asked::Publish { hold });
                self.ask(
                    at,
                    id,
                    Mail::Publish {
                        channel,
                        draft,
                        origin,
                    },
                );
            }
            Request::History {
                id,
                channel,
                range,
                limit,
            } => {
                let limit = history_limit(limit.map(|limit| limit as usize));
                let origin = self.origin(at, id, &channel, Asked::Read);
                self.ask_to_read(
                    at,
                    id,
                    Mail::History {
                        channel,
                        range,
                        limit,
                        origin,
                    },
                );
            }
            Request::Members {
                id,
                channel,
                which,
                limit,
            } => {
                let limit = members_limit(limit.map(|limit| limit as usize));
                let origin = self.origin(at, id, &channel, Asked::Read);
                self.ask_to_read(
                    at,
                    id,
                    Mail::Members {
                        channel,
                        which,
                        limit,
                        origin,
                    },
                );
            }
        }
    }

    fn origin(&self, link: LinkRef, id: Option<u64>, channel: &ChannelName, asked: Asked) -> Origin {
        Origin::Session {
            shard: self.id,
            link,
            id,
            channel: channel.clone(),
            asked,
        }
    }

    pub(super) fn subscribe(
        &mut self,
        at: LinkRef,
        id: Option<u64>,
        channel: ChannelName,
        resuming: Option<Resuming>,
        presence: Option<Attendance>,
    ) {
        let subscriber = super::turn::subscriber(at);
        if self.audience.subscriptions(subscriber) >= self.shared.settings.limits.subscriptions_max {
            return self.refuse(at, id, ErrorCode::TooManySubscriptions, None);
        }
        if self.audience.begin(&channel, subscriber).is_err() {
            return self.refuse(at, id, ErrorCode::AlreadySubscribed, None);
        }
        let origin = self.origin(at, id, &channel, Asked::Subscribe);
        let join = match presence {
            Some(attendance) => self.attend(at, &channel, attendance),
            None => Ok(None),
        };
        let asked = match join {
            Ok(join) => {
                let mail = Mail::Subscribe {
                    channel: channel.clone(),
                    join,
                    origin,
                };
                self.ask(at, id, mail)
            }
            Err(NotNow) => {
                self.stats.overloads.add(1);
                self.refuse(at, id, ErrorCode::Overloaded, Some(OVERLOADED_RETRY));
                false
            }
        };
        if !asked {
            self.depart(at, &channel);
            if self.audience.abort(&channel, subscriber) {
                self.leave(channel);
            }
        } else if let Some(resuming) = resuming
            && let Some(link) = self.link(at)
        {
            link.keep_resuming(resuming);
        }
    }

    /// Sends a request that the session counts until it is answered.
    fn ask_to_read(&mut self, at: LinkRef, id: Option<u64>, mail: Mail) {
        if !self.ask(at, id, mail)
            && let Some(link) = self.link(at)
        {
            link.session.handle_read_answered();
        }
    }

    /// Sends a request to its home; says `overloaded` where that is not possible.
    fn ask(&mut self, at: LinkRef, id: Option<u64>, mail: Mail) -> bool {
        let home = match &mail {
            Mail::Subscribe { channel, .. }
            | Mail::Publish { channel, .. }
            | Mail::Members { channel, .. }
            | Mail::History { channel, .. } => self.post.home(channel),
            _ => self.id,
        };
        let is_publish = matches!(mail, Mail::Publish { .. });
        if self.unanswered < UNANSWERED_MAX && self.send_home(mail, home).is_ok() {
            self.unanswered += 1;
            return true;
        }
        self.stats.overloads.add(1);
        match is_publish {
            true => self.refuse_publish(at, id, ErrorCode::Overloaded, OVERLOADED_RETRY),
            false => self.refuse(at, id, ErrorCode::Overloaded, Some(OVERLOADED_RETRY)),
        }
        false
    }

    /// Nobody here is interested in a channel any more. A home whose mailbox is full is told at a later tick.
    pub(super) fn leave(&mut self, channel: ChannelName) {
        if self.try_leave(&channel).is_err() {
            self.stats.mailbox_refusals.add(1);
            self.leaving.insert(channel);
            // It may sleep for longer than until the next attempt.
            self.wake();
        }
    }

    fn try_leave(&mut self, channel: &ChannelName) -> Result<(), Full> {
        let (home, shard) = (self.post.home(channel), self.id);
        let channel = channel.clone();
        self.send_home(Mail::Leave { channel, shard }, home)
    }

    /// Tells the homes that could not be told. Without it a home would watch a channel that everyone left, and its broker
    /// keep it, until the next message of that channel.
    pub(super) fn leave_at_last(&mut self) {
        for channel in std::mem::take(&mut self.leaving) {
            if !self.audience.wants(&channel) && self.try_leave(&channel).is_err() {
                self.leaving.insert(channel);
            }
        }
    }
}

/// How much one `members` gives.
pub(crate) fn members_limit(members: Option<usize>) -> Listing {
    Listing {
        members_max: members.unwrap_or(MEMBERS_DEFAULT).min(MEMBERS_MAX),
        bytes_max: HISTORY_BYTES_MAX,
    }
}

/// How much one `history` gives.
pub(crate) fn history_limit(messages: Option<usize>) -> ReadLimit {
    ReadLimit {
        messages: messages
            .unwrap_or(HISTORY_MESSAGES_DEFAULT)
            .min(HISTORY_MESSAGES_MAX),
        bytes: HISTORY_BYTES_MAX,
    }
}

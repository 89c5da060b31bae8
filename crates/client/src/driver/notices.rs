//! What the server says, and whom it is for: answers for those who asked, events for the channels, refusals for whoever can do
//! something about them.

use std::time::Duration;

use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::dialect::{Command, json, msgpack};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::time::Time;

use super::{Driver, RETRY_AFTER_MAX};
use crate::builder::Dialect;
use crate::error::{End, PingError, PublishError, ReadError, Refusal};
use crate::request::{Unanswered, Waiting};
use crate::subscription::Event;
use crate::transport::Transport;

/// When a publication that was refused for now is said again, if the server does not say.
const AGAIN: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn handle_notice(&mut self, now: Time, notice: Notice) {
        match notice {
            Notice::Message { channel, message } => self.deliver(now, &channel, Event::Message(message)),
            Notice::Gap {
                channel,
                from,
                to,
                position,
                conflated,
            } => {
                let gap = Event::Gap {
                    from,
                    to,
                    position,
                    conflated,
                };
                self.deliver(now, &channel, gap);
            }
            Notice::Reset { channel, position } => self.deliver(now, &channel, Event::Reset { position }),
            Notice::Presence { channel, counts, who } => {
                self.deliver(now, &channel, Event::Presence { counts, who })
            }
            Notice::Members { id, members } => match self.answered(id) {
                Some(Waiting::Members(reply)) => drop(reply.send(Ok(members))),
                other => self.expect_nothing(other),
            },
            Notice::Published { id, position } => match self.answered(id) {
                Some(Waiting::Publish(reply)) => drop(reply.send(Ok(position))),
                other => self.expect_nothing(other),
            },
            Notice::History { id, history } => match self.answered(id) {
                Some(Waiting::History(reply)) => drop(reply.send(Ok(history))),
                other => self.expect_nothing(other),
            },
            Notice::Pong { id } => match self.answered(id) {
                Some(Waiting::Ping(reply)) => drop(reply.send(Ok(()))),
                other => self.expect_nothing(other),
            },
            Notice::Subscribed {
                id,
                channel,
                position,
                recovered,
            } => match self.answered(id) {
                Some(Waiting::Subscribe(asked)) if asked == channel => {
                    let say = self.channels.handle_subscribed(&channel, position, recovered);
                    self.say(say);
                }
                other => self.expect_nothing(other),
            },
            Notice::Unsubscribed { id, channel } => match self.answered(id) {
                Some(Waiting::Unsubscribe(asked)) if asked != channel => {
                    self.expect_nothing(Some(Waiting::Unsubscribe(asked)));
                }
                // Unasked, the server ends a subscription of itself.
                None | Some(Waiting::Unsubscribe(_)) => {
                    let say = self.channels.handle_unsubscribed(&channel);
                    self.say(say);
                }
                other => self.expect_nothing(other),
            },
            Notice::Error {
                id,
                code,
                message,
                retry_after,
            } => {
                let refusal = Refusal {
                    code,
                    message,
                    retry_after,
                };
                self.handle_refusal(now, id, refusal);
            }
            Notice::Goodbye { retry_after, .. } => self.farewell.retry_after = Some(retry_after),
            // Over HTTP it comes with the first channel.
            Notice::Welcome {
                session,
                user,
                resume,
                ..
            } if self.link.transport() != Transport::WebSocket => {
                self.resume = resume.or(self.resume.take());
                self.status.send_if_modified(|status| {
                    let is_other = *status.session != *session || *status.user != *user;
                    (status.session, status.user) = (session.into(), user.into());
                    is_other
                });
            }
            Notice::Welcome { .. } | Notice::Unknown => {}
        }
    }

    fn answered(&mut self, id: Option<u64>) -> Option<Waiting> {
        let id = id?;
        let unanswered = self.waiting.remove(&id)?;
        if self.options.reconnect && unanswered.is_publication() {
            self.publishing.handle_answered(id);
        }
        Some(unanswered.who)
    }

    /// An answer to nothing is left alone; an answer of another kind than the question is not.
    fn expect_nothing(&mut self, waiting: Option<Waiting>) {
        if let Some(who) = waiting {
            // With all others it is told that the connection has ended. No command has this id.
            self.waiting
                .insert(0, Unanswered::new(Command::Ping { id: None }, who, true));
            self.link
                .handle_nonsense("an answer of another kind than the question");
        }
    }

    /// Keeps a publication that is refused for now, to say it again.
    fn keep_refused(&mut self, now: Time, id: Option<u64>, refusal: &Refusal) -> bool {
        let Some((id, unanswered)) = id.and_then(|id| Some((id, self.waiting.get_mut(&id)?))) else {
            return false;
        };
        let has_key = matches!(unanswered.command, Command::Publish { key: Some(_), .. });
        if !self.options.reconnect || !has_key || !unanswered.sent || !refusal.is_retryable() {
            return false;
        }
        // A channel that there is no room for is no reason to keep back those of others.
        if refusal.error_code() == Some(ErrorCode::TooManyChannels) {
            return false;
        }
        unanswered.sent = false;
        unanswered.doubtful |= refusal.error_code() == Some(ErrorCode::Unavailable);
        let wait = refusal.retry_after.unwrap_or(AGAIN).min(RETRY_AFTER_MAX);
        self.publishing.handle_refused(id, now + wait);
        true
    }

    fn handle_refusal(&mut self, now: Time, id: Option<u64>, refusal: Refusal) {
        if self.keep_refused(now, id, &refusal) {
            return;
        }
        if id.is_none() || refusal.error_code().and_then(ErrorCode::close_code).is_some() {
            self.farewell.error = Some(refusal.clone());
        }
        match self.answered(id) {
            None => {}
            Some(Waiting::Subscribe(channel)) => {
                let say = self.channels.handle_subscribe_refused(now, &channel, refusal);
                self.say(say);
            }
            Some(Waiting::Unsubscribe(channel)) => {
                let say = self.channels.handle_unsubscribe_refused(now, &channel, &refusal);
                self.say(say);
            }
            Some(Waiting::Publish(reply)) => {
                drop(reply.send(Err(PublishError::Refused(refusal))));
            }
            Some(Waiting::History(reply)) => drop(reply.send(Err(ReadError::Refused(refusal)))),
            Some(Waiting::Members(reply)) => drop(reply.send(Err(ReadError::Refused(refusal)))),
            Some(Waiting::Ping(reply)) => drop(reply.send(Err(PingError::Refused(refusal)))),
        }
    }

    /// Close 1009 says that a message was too large, and not which one: it was the largest.
    pub(super) fn refuse_too_big(&mut self, end: &End) {
        if !matches!(end, End::ClosedByServer { code: Some(1009), .. }) {
            return;
        }
        let on_their_way = self.waiting.iter().filter(|(_, unanswered)| unanswered.sent);
        let publications = on_their_way.filter(|(_, unanswered)| unanswered.is_publication());
        let size = |unanswered: &Unanswered| {
            let mut message = Vec::new();
            match self.options.dialect {
                Dialect::Json => json::encode_command(&unanswered.command, &mut message),
                Dialect::MessagePack => msgpack::encode_command(&unanswered.command, &mut message),
            }
            message.len()
        };
        let largest = publications.max_by_key(|(_, unanswered)| size(unanswered));
        let largest = largest.map(|(id, _)| *id);
        if let Some(Waiting::Publish(reply)) = self.answered(largest) {
            let refusal = Refusal::certain(ErrorCode::MessageTooBig);
            drop(reply.send(Err(PublishError::Refused(refusal))));
        }
    }
}

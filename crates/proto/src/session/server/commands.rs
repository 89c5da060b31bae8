//! Which commands of the peer become requests, and what the others are answered: rates, reads that are unanswered, publications
//! that wait behind a refused one.

use std::time::Duration;

use super::contract::{End, Request};
use super::{Session, Shared, close_code};
use crate::channel::ChannelName;
use crate::dialect::{Command, Event, Rejected};
use crate::error_code::ErrorCode;
use crate::limits::SessionLimits;
use crate::position::Position;
use crate::time::Time;

/// `history` and `members` commands of one session that may be unanswered at once; each answer can be as large as an outbox.
const READS_UNANSWERED_MAX: u8 = 4;
/// What a client with too many of them is told to wait.
const READ_RETRY: Duration = Duration::from_millis(100);
/// What a client is told to wait whose earlier publish was refused.
const HELD_RETRY: Duration = Duration::from_millis(250);
/// Commands over the rate, in a row, before the session is closed with 4029.
const STRIKES_MAX: u16 = 100;

impl Session {
    /// Lets a command through if the peer may give it now; refuses it otherwise.
    pub(super) fn handle_command(
        &mut self,
        now: Time,
        bytes: usize,
        command: Result<Command, Rejected>,
        shared: &mut Shared,
    ) -> Option<Request> {
        let id = match &command {
            Ok(command) => command.id(),
            Err(rejected) => rejected.id,
        };
        let is_publish = matches!(command, Ok(Command::Publish { .. }));
        if let Err(wait) = self.meter(now, bytes, &shared.settings.limits) {
            self.strikes += 1;
            if self.strikes > STRIKES_MAX {
                self.end.get_or_insert(End::Excessive);
                self.close(now, close_code(4029), ErrorCode::RateLimited.as_str(), shared);
            } else {
                self.refuse(now, id, ErrorCode::RateLimited, None, Some(wait), shared);
                if is_publish {
                    self.hold(shared);
                }
            }
            return None;
        }
        self.strikes = 0;
        match command {
            Ok(_) if !shared.settings.anonymous => {
                self.refuse(now, id, ErrorCode::Unauthorized, None, None, shared);
                None
            }
            Ok(command) => self.carry_out(now, command, shared),
            Err(Rejected { id, code, detail }) => {
                self.refuse(now, id, code, detail.as_deref(), None, shared);
                None
            }
        }
    }

    /// Answers a command, or makes it a request.
    fn carry_out(&mut self, now: Time, command: Command, shared: &mut Shared) -> Option<Request> {
        let first = !std::mem::replace(&mut self.connected, true);
        match command {
            Command::Connect { id, token: _, resume } if first => {
                let resumed = resume.and_then(|token| shared.settings.resume_key.identity(&token));
                if let Some(identity) = resumed {
                    self.identity = identity;
                }
                self.welcome(id, shared);
            }
            Command::Connect { id, .. } => {
                self.refuse(now, id, ErrorCode::AlreadyConnected, None, None, shared);
            }
            Command::Subscribe {
                id,
                channel,
                since,
                latest,
                presence,
            } => match self.subscribes.take(now, 1, shared.settings.limits.subscribes) {
                Ok(()) if is_foreign(since, &channel) => self.refuse_foreign(now, id, shared),
                Ok(()) => {
                    return Some(Request::Subscribe {
                        id,
                        channel,
                        since,
                        latest,
                        presence,
                    });
                }
                Err(wait) => self.refuse(now, id, ErrorCode::RateLimited, None, Some(wait), shared),
            },
            Command::Unsubscribe { id, channel } => return Some(Request::Unsubscribe { id, channel }),
            Command::Publish { id, .. } if self.hold.is_on() => {
                let detail = Some("an earlier publish of this session was refused: that one first");
                self.refuse(now, id, ErrorCode::Overloaded, detail, Some(HELD_RETRY), shared);
            }
            Command::Publish {
                id,
                channel,
                payload,
                key,
                conflate,
            } => {
                return Some(Request::Publish {
                    id,
                    channel,
                    payload,
                    key,
                    conflate,
                });
            }
            Command::History {
                id, channel, range, ..
            } if is_foreign(range.position(), &channel) => self.refuse_foreign(now, id, shared),
            Command::History {
                id,
                channel,
                range,
                limit,
            } if self.begin_read(now, id, shared) => {
                return Some(Request::History {
                    id,
                    channel,
                    range,
                    limit,
                });
            }
            Command::Members {
                id,
                channel,
                which,
                limit,
            } if self.begin_read(now, id, shared) => {
                return Some(Request::Members {
                    id,
                    channel,
                    which,
                    limit,
                });
            }
            Command::History { .. } | Command::Members { .. } => {}
            Command::Ping { id: Some(id) } => self.say(&Event::Pong { id: Some(id) }, shared),
            Command::Ping { id: None } => {}
        }
        None
    }

    /// The answer to a publish: it was refused. Where the same command may succeed later, what the client had sent behind it is refused,
    /// too, until a ping that follows the refusal is answered. So a publisher that repeats what was refused keeps its order.
    pub fn refuse_publish(
        &mut self,
        now: Time,
        id: Option<u64>,
        code: ErrorCode,
        retry_after: Option<Duration>,
        shared: &mut Shared,
    ) {
        self.refuse(now, id, code, None, retry_after, shared);
        if code.retryable() {
            self.hold(shared);
        }
    }

    /// Whether the session may read something now, which it does then; refuses it otherwise.
    fn begin_read(&mut self, now: Time, id: Option<u64>, shared: &mut Shared) -> bool {
        if self.reads_unanswered < READS_UNANSWERED_MAX {
            self.reads_unanswered += 1;
            return true;
        }
        let detail = Some("too many history and members commands of this session are unanswered");
        self.refuse(now, id, ErrorCode::Overloaded, detail, Some(READ_RETRY), shared);
        false
    }

    /// How often a publish was refused and the client has come to know it. Publishes of one number are refused together.
    pub fn holds(&self) -> u32 {
        self.hold.count()
    }

    fn hold(&mut self, shared: &mut Shared) {
        if self.hold.begin() {
            self.ping(shared);
        }
    }

    fn refuse_foreign(&mut self, now: Time, id: Option<u64>, shared: &mut Shared) {
        let detail = "this is a position of another channel";
        self.refuse(now, id, ErrorCode::BadPosition, Some(detail), None, shared);
    }

    /// Tells the client who it is.
    pub fn welcome(&mut self, id: Option<u64>, shared: &mut Shared) {
        let session = self.identity.session.to_string();
        let user = self.identity.user.clone();
        let resume = shared.settings.resume_key.token(&self.identity);
        let heartbeat = shared.settings.limits.ping_interval;
        self.say(
            &Event::Welcome {
                id,
                session: &session,
                user: &user,
                heartbeat,
                resume: &resume,
            },
            shared,
        );
    }

    /// A `history` or `members` request has been answered.
    pub fn handle_read_answered(&mut self) {
        self.reads_unanswered = self.reads_unanswered.saturating_sub(1);
    }

    fn meter(&mut self, now: Time, bytes: usize, limits: &SessionLimits) -> Result<(), Duration> {
        self.commands.take(now, 1, limits.commands)?;
        self.inbound_bytes.take(
            now,
            u32::try_from(bytes).unwrap_or(u32::MAX),
            limits.inbound_bytes,
        )
    }
}

fn is_foreign(position: Option<Position>, channel: &ChannelName) -> bool {
    position.is_some_and(|position| !position.epoch.is_of(channel))
}

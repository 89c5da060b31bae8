//! The client's side of the native dialect: what an [`Event`](super::Event) is when it has been read.

use std::time::Duration;

use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::Inbound;
use super::msgpack::Data;
use super::native::{self, Text};
use crate::channel::ChannelName;
use crate::payload::{BadPayload, Payload};
use crate::position::Position;
use crate::presence::{self, Counts};

/// What a server said, owned.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// The session has begun.
    Welcome {
        /// Of the `connect`.
        id: Option<u64>,
        /// Names the session.
        session: String,
        /// Who the server holds the client for.
        user: String,
        /// The server pings after this much silence.
        heartbeat: Duration,
        /// Gives a later connection this session and this user.
        resume: Option<String>,
    },
    /// A subscription has begun.
    Subscribed {
        /// Of the `subscribe`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
        /// Where it begins.
        position: Position,
        /// Whether nothing is missing after the position to resume at; `None` where none was given.
        recovered: Option<bool>,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Of the `unsubscribe`.
        id: Option<u64>,
        /// Which channel.
        channel: ChannelName,
    },
    /// A publish is in the log.
    Published {
        /// Of the `publish`.
        id: Option<u64>,
        /// Its place.
        position: Position,
    },
    /// A part of a log.
    History {
        /// Of the `history`.
        id: Option<u64>,
        /// The part.
        history: History,
    },
    /// Some of those who are in a channel.
    Members {
        /// Of the `members` command.
        id: Option<u64>,
        /// Who.
        members: Members,
    },
    /// The answer to `ping`.
    Pong {
        /// Of the `ping`.
        id: Option<u64>,
    },
    /// Who is in a channel.
    Presence {
        /// Which channel.
        channel: ChannelName,
        /// How many there are now.
        counts: Counts,
        /// Who.
        who: Who,
    },
    /// A message of a channel.
    Message {
        /// Which channel.
        channel: ChannelName,
        /// The message.
        message: Message,
    },
    /// Messages that did not come and will not.
    Gap {
        /// Which channel.
        channel: ChannelName,
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
        /// Where the subscriber is now.
        position: Position,
        /// Newer messages of the same conflation keys follow in their place.
        conflated: bool,
    },
    /// Positions of the channel start anew.
    Reset {
        /// Which channel.
        channel: ChannelName,
        /// Where the new life of the log is.
        position: Position,
    },
    /// A command failed, or the session is about to be ended.
    Error {
        /// Of the command.
        id: Option<u64>,
        /// A word of the catalogue, or one that a later version added to it.
        code: String,
        /// A sentence for a developer.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The connection ends in good order.
    Goodbye {
        /// The close code that follows.
        code: u16,
        /// Why.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// A type that a later version of the protocol added. To be ignored.
    Unknown,
}

/// A message as a client gets it.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Its place in the log.
    pub position: Position,
    /// The content.
    pub payload: Payload,
    /// The user whose session published it; `None` for publications of the server's own API.
    pub from: Option<String>,
    /// The conflation key that its publisher gave.
    pub conflate: Option<String>,
    /// When it was appended, in milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
}

/// A part of a log as a client gets it.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The offsets, both included, that the log no longer holds.
    pub gap: Option<(u64, u64)>,
    /// Whether the position asked for is of another life of the log.
    pub reset: bool,
    /// Where to go on reading forwards.
    pub position: Position,
    /// Whether there is more in the direction of reading.
    pub more: bool,
}

/// One session of one user in one channel, as a client gets it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberKey {
    /// Who.
    pub user: String,
    /// Through which session.
    pub session: String,
}

/// Somebody who is in a channel.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// Who, and through which session.
    pub key: MemberKey,
    /// What it said of itself, a JSON object.
    pub info: Option<Payload>,
}

/// What a client is told of who is in a channel.
pub type Who = presence::Who<Member, MemberKey>;

/// Some of those who are in a channel, as a client gets them.
#[derive(Clone, PartialEq, Debug)]
pub struct Members {
    /// How many there are.
    pub counts: Counts,
    /// Some of them.
    pub members: Vec<Member>,
    /// Where to go on, if there are more: for [`Which::After`](presence::Which::After).
    pub next: Option<presence::MemberKey>,
}

/// The server said something that is not of this protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an event of switchboard.v1: {0}")]
pub struct NotAnEvent(String);

/// Reads a message of a server in either notation: text frames are JSON, binary frames are MessagePack.
pub fn decode(message: Inbound<'_>) -> Result<Notice, NotAnEvent> {
    let bad = |error: &dyn ToString| NotAnEvent(error.to_string());
    match message {
        Inbound::Text(text) => {
            let wire: WireEvent<'_, &RawValue> = serde_json::from_str(text).map_err(|error| bad(&error))?;
            wire.notice(|data| Payload::json(data.get()))
        }
        Inbound::Binary(bytes) => {
            let wire: WireEvent<'_, Data> = rmp_serde::from_slice(bytes).map_err(|error| bad(&error))?;
            wire.notice(|data| data.0)
        }
    }
}

/// All fields of all events.
#[derive(serde::Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
struct WireEvent<'a, D> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    id: Option<u64>,
    session: Option<String>,
    user: Option<String>,
    heartbeat_ms: Option<u64>,
    resume: Option<String>,
    #[serde(borrow)]
    channel: Option<Text<'a>>,
    #[serde(borrow)]
    position: Option<Text<'a>>,
    #[serde(default = "native::none", deserialize_with = "native::present")]
    data: Option<D>,
    #[serde(borrow)]
    data_base64: Option<Text<'a>>,
    #[serde(rename = "from")]
    from: Option<UserOrOffset>,
    to: Option<u64>,
    conflate: Option<String>,
    at: Option<u64>,
    recovered: Option<bool>,
    #[serde(default)]
    conflated: bool,
    // Nothing but `bound` above may mention D, or serde asks for a default of it.
    #[serde(default = "Vec::new")]
    messages: Vec<WireMessage<'a, D>>,
    gap: Option<WireGap>,
    #[serde(default)]
    reset: bool,
    #[serde(default)]
    more: bool,
    #[serde(default = "native::none")]
    members: Option<Vec<WireMember<D>>>,
    #[serde(default = "native::none")]
    joined: Option<Vec<WireMember<D>>>,
    #[serde(default = "native::none")]
    left: Option<Vec<WireMember<D>>>,
    count: Option<u32>,
    users: Option<u32>,
    next: Option<String>,
    code: Option<WordOrNumber>,
    message: Option<String>,
    reason: Option<String>,
    retry_after_ms: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
struct WireMessage<'a, D> {
    #[serde(borrow)]
    position: Option<Text<'a>>,
    #[serde(default = "native::none", deserialize_with = "native::present")]
    data: Option<D>,
    #[serde(borrow)]
    data_base64: Option<Text<'a>>,
    from: Option<String>,
    conflate: Option<String>,
    at: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
struct WireMember<D> {
    user: String,
    session: String,
    #[serde(default = "native::none")]
    info: Option<D>,
}

#[derive(serde::Deserialize)]
struct WireGap {
    from: u64,
    to: u64,
}

/// `from` names a user in a message and an offset in a gap.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum UserOrOffset {
    User(String),
    Offset(u64),
}

/// `code` is a word in an error and a close code in a goodbye.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum WordOrNumber {
    Word(String),
    Number(u16),
}

impl<D> WireEvent<'_, D> {
    fn notice(self, payload: impl Fn(D) -> Result<Payload, BadPayload>) -> Result<Notice, NotAnEvent> {
        let id = self.id;
        let channel = || {
            let name = need(self.channel.as_ref(), "channel")?;
            ChannelName::parse(&name.0).map_err(|bad| NotAnEvent(bad.to_string()))
        };
        let at = || position(self.position.as_ref());
        let retry_after = self.retry_after_ms.map(Duration::from_millis);
        Ok(match &*self.kind.0 {
            "welcome" => Notice::Welcome {
                id,
                session: need(self.session, "session")?,
                user: need(self.user, "user")?,
                heartbeat: Duration::from_millis(need(self.heartbeat_ms, "heartbeat_ms")?),
                resume: self.resume,
            },
            "subscribed" => Notice::Subscribed {
                id,
                channel: channel()?,
                position: at()?,
                recovered: self.recovered,
            },
            "unsubscribed" => Notice::Unsubscribed {
                id,
                channel: channel()?,
            },
            "published" => Notice::Published { id, position: at()? },
            "pong" => Notice::Pong { id },
            "members" => Notice::Members {
                id,
                members: Members {
                    counts: counts(self.count, self.users)?,
                    members: members(need(self.members, "members")?, &payload)?,
                    next: self.next.map(|next| cursor(&next)).transpose()?,
                },
            },
            "presence" => Notice::Presence {
                channel: channel()?,
                counts: counts(self.count, self.users)?,
                who: match (self.members, self.joined, self.left) {
                    (Some(all), _, _) => Who::All(members(all, &payload)?),
                    (None, None, None) => Who::Unlisted,
                    (None, joined, left) => Who::Changed {
                        joined: members(joined.unwrap_or_default(), &payload)?,
                        left: left
                            .unwrap_or_default()
                            .into_iter()
                            .map(WireMember::key)
                            .collect(),
                    },
                },
            },
            "message" => {
                let from = match self.from {
                    Some(UserOrOffset::User(user)) => Some(user),
                    _ => None,
                };
                let wire = WireMessage {
                    position: None,
                    data: self.data,
                    data_base64: self.data_base64,
                    from,
                    conflate: self.conflate,
                    at: self.at,
                };
                let channel = need(self.channel.as_ref(), "channel")?;
                let channel = ChannelName::parse(&channel.0).map_err(|bad| NotAnEvent(bad.to_string()))?;
                Notice::Message {
                    channel,
                    message: wire.message(position(self.position.as_ref())?, &payload)?,
                }
            }
            "history" => {
                let messages = self.messages.into_iter().map(|wire| {
                    let position = position(wire.position.as_ref())?;
                    wire.message(position, &payload)
                });
                let history = History {
                    messages: messages.collect::<Result<_, _>>()?,
                    gap: self.gap.map(|gap| (gap.from, gap.to)),
                    reset: self.reset,
                    position: position(self.position.as_ref())?,
                    more: self.more,
                };
                Notice::History { id, history }
            }
            "gap" => {
                let Some(UserOrOffset::Offset(from)) = self.from else {
                    return Err(missing("from"));
                };
                Notice::Gap {
                    channel: channel()?,
                    from,
                    to: need(self.to, "to")?,
                    position: at()?,
                    conflated: self.conflated,
                }
            }
            "reset" => Notice::Reset {
                channel: channel()?,
                position: at()?,
            },
            "error" => {
                let Some(WordOrNumber::Word(code)) = self.code else {
                    return Err(missing("code"));
                };
                Notice::Error {
                    id,
                    code,
                    message: self.message.unwrap_or_default(),
                    retry_after,
                }
            }
            "goodbye" => {
                let Some(WordOrNumber::Number(code)) = self.code else {
                    return Err(missing("code"));
                };
                let reason = self.reason.unwrap_or_default();
                Notice::Goodbye {
                    code,
                    reason,
                    retry_after: retry_after.unwrap_or_default(),
                }
            }
            _ => Notice::Unknown,
        })
    }
}

impl<D> WireMessage<'_, D> {
    fn message(
        self,
        position: Position,
        payload: &impl Fn(D) -> Result<Payload, BadPayload>,
    ) -> Result<Message, NotAnEvent> {
        let payload = match (self.data, self.data_base64) {
            (Some(data), None) => payload(data),
            (None, Some(text)) => native::from_base64(&text.0),
            _ => return Err(missing("data")),
        };
        let payload = payload.map_err(|bad| NotAnEvent(bad.to_string()))?;
        Ok(Message {
            position,
            payload,
            from: self.from,
            conflate: self.conflate,
            at_ms: need(self.at, "at")?,
        })
    }
}

impl<D> WireMember<D> {
    fn key(self) -> MemberKey {
        MemberKey {
            user: self.user,
            session: self.session,
        }
    }
}

fn members<D>(
    members: Vec<WireMember<D>>,
    payload: &impl Fn(D) -> Result<Payload, BadPayload>,
) -> Result<Vec<Member>, NotAnEvent> {
    let members = members.into_iter().map(|mut member| {
        let info = member.info.take().map(payload).transpose();
        Ok(Member {
            info: info.map_err(|bad| NotAnEvent(bad.to_string()))?,
            key: member.key(),
        })
    });
    members.collect()
}

fn counts(members: Option<u32>, users: Option<u32>) -> Result<Counts, NotAnEvent> {
    Ok(Counts {
        members: need(members, "count")?,
        users: need(users, "users")?,
    })
}

fn cursor(token: &str) -> Result<presence::MemberKey, NotAnEvent> {
    presence::MemberKey::parse(token).ok_or_else(|| NotAnEvent("`next` is none".to_owned()))
}

fn missing(field: &str) -> NotAnEvent {
    NotAnEvent(format!("`{field}` is missing"))
}

fn need<T>(value: Option<T>, field: &str) -> Result<T, NotAnEvent> {
    value.ok_or_else(|| missing(field))
}

fn position(token: Option<&Text<'_>>) -> Result<Position, NotAnEvent> {
    let token = need(token, "position")?;
    Position::parse(&token.0).map_err(|bad| NotAnEvent(bad.to_string()))
}

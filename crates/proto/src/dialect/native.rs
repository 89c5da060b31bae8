//! What `switchboard.v1` says, written once for both its notations: the fields of every command and event
//! (`spec/protocol.md`), read by serde into one flat struct and written through `Notation`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::{Command, Event, Gap, HistoryPage, HistoryStart, Rejected};
use crate::channel::ChannelName;
use crate::entry::{Entry, Key};
use crate::error_code::ErrorCode;
use crate::limits::{COMMAND_ID_MAX, INFO_BYTES_MAX, KEY_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::payload::{BadPayload, Payload};
use crate::position::{Position, Range};
use crate::presence::{Announcement, Attendance, Counts, Member, MemberKey, Members, Role, Which, Who};

/// All fields of all commands. `D` is how the notation hands over `data`.
#[derive(serde::Deserialize)]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
pub(super) struct WireCommand<'a, D> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    id: Option<u64>,
    #[serde(borrow)]
    channel: Option<Text<'a>>,
    // A plain `Option` would take `null` for absent; `null` is a payload.
    #[serde(default = "none", deserialize_with = "present")]
    data: Option<D>,
    #[serde(borrow)]
    data_base64: Option<Text<'a>>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    since: Option<Text<'a>>,
    #[serde(borrow)]
    before: Option<Text<'a>>,
    latest: Option<bool>,
    #[serde(borrow)]
    conflate: Option<Text<'a>>,
    limit: Option<u32>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    resume: Option<Text<'a>>,
    presence: Option<Wish>,
    // Nothing but `bound` above may mention D, or serde asks for a default of it.
    #[serde(default = "none")]
    info: Option<D>,
    #[serde(borrow)]
    after: Option<Text<'a>>,
    sample: Option<bool>,
}

pub(super) fn none<D>() -> Option<D> {
    None
}

pub(super) fn present<'de, R: Deserializer<'de>, D: Deserialize<'de>>(
    deserializer: R,
) -> Result<Option<D>, R::Error> {
    D::deserialize(deserializer).map(Some)
}

impl<D> WireCommand<'_, D> {
    /// The field `resume`.
    pub(super) fn take_resume(&mut self) -> Option<String> {
        self.resume.take().map(|token| token.0.into_owned())
    }

    /// The command, which is a `publish` and need not say it.
    pub(super) fn publish(
        mut self,
        payload: impl Fn(D) -> Result<Payload, BadPayload>,
    ) -> Result<Command, Rejected> {
        match self.kind.get_or_insert(Text(Cow::Borrowed("publish"))) {
            Text(kind) if kind == "publish" => self.command(payload),
            _ => Err(Rejected::new(
                self.id,
                ErrorCode::BadRequest,
                "only a publish is taken here",
            )),
        }
    }

    /// The command, with `payload` turning the notation's `data` into a payload.
    pub(super) fn command(
        self,
        payload: impl Fn(D) -> Result<Payload, BadPayload>,
    ) -> Result<Command, Rejected> {
        let id = self.id;
        let reject = |code, detail: &str| Err(Rejected::new(id, code, detail));
        if id.is_some_and(|id| id > COMMAND_ID_MAX) {
            return Err(Rejected::new(
                None,
                ErrorCode::BadRequest,
                "`id` is at most 2^53 - 1",
            ));
        }
        let channel = |name: &Option<Text<'_>>| match name {
            Some(name) => {
                ChannelName::parse(&name.0).map_err(|bad| Rejected::new(id, ErrorCode::BadChannel, bad))
            }
            None => Err(Rejected::new(id, ErrorCode::BadRequest, "`channel` is missing")),
        };
        let position = |token: &Option<Text<'_>>| match token {
            Some(token) => match Position::parse(&token.0) {
                Ok(position) => Ok(Some(position)),
                Err(_) => Err(Rejected {
                    id,
                    code: ErrorCode::BadPosition,
                    detail: None,
                }),
            },
            None => Ok(None),
        };
        let Some(Text(kind)) = &self.kind else {
            return reject(ErrorCode::BadRequest, "`type` is missing");
        };
        Ok(match &**kind {
            "connect" => {
                let token = |token: Option<Text<'_>>, detail| match token {
                    Some(token) if token.0.len() > TOKEN_BYTES_MAX => {
                        Err(Rejected::new(id, ErrorCode::BadRequest, detail))
                    }
                    token => Ok(token.map(|token| token.0.into_owned())),
                };
                Command::Connect {
                    id,
                    token: token(self.token, "`token` is longer than 8 KiB")?,
                    resume: token(self.resume, "`resume` is longer than 8 KiB")?,
                }
            }
            "subscribe" => {
                let role = match self.presence {
                    None | Some(Wish::None) => None,
                    Some(Wish::Role(role)) => Some(role),
                    Some(Wish::Unknown) => {
                        const WORDS: &str = "`presence` is true, false, \"member\" or \"watch\"";
                        return reject(ErrorCode::BadRequest, WORDS);
                    }
                };
                let presence = Attendance::of(role, self.info.map(&payload))
                    .map_err(|words| Rejected::new(id, ErrorCode::BadRequest, words))?;
                Command::Subscribe {
                    id,
                    channel: channel(&self.channel)?,
                    since: position(&self.since)?,
                    latest: self.latest.unwrap_or_default(),
                    presence,
                }
            }
            "unsubscribe" => Command::Unsubscribe {
                id,
                channel: channel(&self.channel)?,
            },
            "publish" => {
                let key = |key: Option<Text<'_>>, detail| match key {
                    Some(key) => match Key::parse(&key.0) {
                        Some(key) => Ok(Some(key)),
                        None => Err(Rejected::new(id, ErrorCode::BadRequest, detail)),
                    },
                    None => Ok(None),
                };
                let conflate = key(self.conflate, "`conflate` has 1 to 128 bytes")?;
                let key = key(self.key, "`key` has 1 to 128 bytes")?;
                let payload = match (self.data, self.data_base64) {
                    (Some(data), None) => payload(data),
                    (None, Some(text)) => from_base64(&text.0),
                    _ => {
                        return reject(
                            ErrorCode::BadRequest,
                            "publish has either `data` or `data_base64`",
                        );
                    }
                };
                let payload = payload.map_err(|bad| match bad {
                    BadPayload::TooComplex => Rejected {
                        id,
                        code: ErrorCode::TooComplex,
                        detail: None,
                    },
                    bad => Rejected::new(id, ErrorCode::BadPayload, bad),
                })?;
                Command::Publish {
                    id,
                    channel: channel(&self.channel)?,
                    payload,
                    key,
                    conflate,
                }
            }
            "history" => {
                let after = position(&self.since)?;
                let before = position(&self.before)?;
                let range = match (after, before, self.latest.unwrap_or_default()) {
                    (after, None, true) => Range::Latest { after },
                    (Some(after), None, false) => Range::After(after),
                    (None, Some(before), false) => Range::Before(before),
                    (None, None, false) => Range::Newest,
                    (_, Some(_), _) => {
                        const ONE: &str = "`before` stands without `since` and `latest`";
                        return reject(ErrorCode::BadRequest, ONE);
                    }
                };
                Command::History {
                    id,
                    channel: channel(&self.channel)?,
                    range,
                    limit: self.limit,
                }
            }
            "members" => Command::Members {
                id,
                channel: channel(&self.channel)?,
                which: Which::parse(
                    self.after.as_ref().map(|after| &*after.0),
                    self.sample.unwrap_or_default(),
                )
                .map_err(|detail| Rejected::new(id, ErrorCode::BadRequest, detail))?,
                limit: self.limit,
            },
            "ping" => Command::Ping { id },
            _ => {
                const KNOWN: &str =
                    "`type` is one of connect, subscribe, unsubscribe, publish, history, members, ping";
                return reject(ErrorCode::BadRequest, KNOWN);
            }
        })
    }
}

const _: () = assert!(
    KEY_BYTES_MAX == 128 && TOKEN_BYTES_MAX == 8 * 1024 && INFO_BYTES_MAX == 1024,
    "the texts above say these numbers"
);

/// `presence` of a `subscribe`.
enum Wish {
    None,
    Role(Role),
    Unknown,
}

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wish, D::Error> {
        struct WishVisitor;
        impl Visitor<'_> for WishVisitor {
            type Value = Wish;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, \"member\" or \"watch\"")
            }
            fn visit_bool<E>(self, wish: bool) -> Result<Wish, E> {
                Ok(match wish {
                    true => Wish::Role(Role::Participant),
                    false => Wish::None,
                })
            }
            fn visit_str<E>(self, word: &str) -> Result<Wish, E> {
                Ok(match word {
                    MEMBER => Wish::Role(Role::Member),
                    WATCH => Wish::Role(Role::Watcher),
                    _ => Wish::Unknown,
                })
            }
        }
        deserializer.deserialize_any(WishVisitor)
    }
}

const MEMBER: &str = Role::MEMBER;
const WATCH: &str = Role::WATCH;

pub(super) fn from_base64(text: &str) -> Result<Payload, BadPayload> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| BadPayload::Base64)?;
    Ok(Payload::bytes(bytes))
}

/// Text borrowed from the message where it stands there without escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// How a notation writes a map field by field. Lengths are known beforehand because MessagePack wants them.
pub(super) trait Notation {
    /// Begins a map of this many fields.
    fn map(&mut self, fields: usize);
    /// Ends the innermost map.
    fn end_map(&mut self);
    /// Begins an array field of this many maps.
    fn array(&mut self, key: &'static str, items: usize);
    /// Before every item of an array but the first.
    fn next_item(&mut self);
    /// Ends the innermost array.
    fn end_array(&mut self);
    /// Begins a map field.
    fn map_field(&mut self, key: &'static str, fields: usize);
    /// A string field.
    fn text(&mut self, key: &'static str, value: &str);
    /// A number field.
    fn number(&mut self, key: &'static str, value: u64);
    /// A boolean field.
    fn boolean(&mut self, key: &'static str, value: bool);
    /// A field that is JSON.
    fn json(&mut self, key: &'static str, json: &Payload);
    /// The content of a message, one field.
    fn payload(&mut self, payload: &Payload);
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn begin(out: &mut impl Notation, kind: &str, id: Option<u64>, further_fields: usize) {
    out.map(1 + usize::from(id.is_some()) + further_fields);
    out.text("type", kind);
    if let Some(id) = id {
        out.number("id", id);
    }
}

fn position(out: &mut impl Notation, position: &Position) {
    out.number("offset", position.offset);
    out.text("position", position.token().as_str());
}

fn entry_fields(entry: &Entry) -> usize {
    4 + usize::from(entry.from.is_some()) + usize::from(entry.conflate.is_some())
}

fn entry_body(out: &mut impl Notation, entry: &Entry) {
    position(out, &entry.position);
    out.payload(&entry.payload);
    if let Some(from) = &entry.from {
        out.text("from", from.as_str());
    }
    if let Some(conflate) = &entry.conflate {
        out.text("conflate", conflate.as_str());
    }
    out.number("at", entry.at_ms);
}

/// Writes one event.
pub(super) fn write_event(event: &Event<'_>, out: &mut impl Notation) {
    match event {
        Event::Welcome {
            id,
            session,
            user,
            heartbeat,
            resume,
        } => {
            begin(out, "welcome", *id, 4);
            out.text("session", session);
            out.text("user", user.as_str());
            out.number("heartbeat_ms", milliseconds(*heartbeat));
            out.text("resume", resume);
        }
        Event::Subscribed {
            id,
            channel,
            position: at,
            recovered,
        } => {
            begin(out, "subscribed", *id, 3 + usize::from(recovered.is_some()));
            out.text("channel", channel.as_str());
            position(out, at);
            if let Some(recovered) = recovered {
                out.boolean("recovered", *recovered);
            }
        }
        Event::Unsubscribed { id, channel } => {
            begin(out, "unsubscribed", *id, 1);
            out.text("channel", channel.as_str());
        }
        Event::Published { id, position: at } => {
            begin(out, "published", *id, 2);
            position(out, at);
        }
        Event::History { id, channel, page } => write_history(*id, channel, page, out),
        Event::Members {
            id,
            channel,
            members:
                Members {
                    counts,
                    members,
                    next,
                },
        } => {
            begin(out, "members", *id, 4 + usize::from(next.is_some()));
            out.text("channel", channel.as_str());
            write_members("members", members, out);
            write_counts(*counts, out);
            if let Some(next) = next {
                out.text("next", &next.token());
            }
        }
        Event::Pong { id } => begin(out, "pong", *id, 0),
        Event::Presence {
            channel,
            announcement,
        } => {
            write_announcement(channel, announcement, out);
        }
        Event::Message { channel, entry } => {
            begin(out, "message", None, 1 + entry_fields(entry));
            out.text("channel", channel.as_str());
            entry_body(out, entry);
        }
        Event::Gap {
            channel,
            gap: Gap { from, to, position },
            conflated,
        } => {
            begin(out, "gap", None, 4 + usize::from(*conflated));
            out.text("channel", channel.as_str());
            out.number("from", *from);
            out.number("to", *to);
            out.text("position", position.token().as_str());
            if *conflated {
                out.boolean("conflated", true);
            }
        }
        Event::Reset {
            channel,
            position: at,
        } => {
            begin(out, "reset", None, 3);
            out.text("channel", channel.as_str());
            position(out, at);
        }
        Event::Error {
            id,
            code,
            message,
            retry_after,
        } => {
            begin(out, "error", *id, 2 + usize::from(retry_after.is_some()));
            out.text("code", code.as_str());
            out.text("message", message);
            if let Some(after) = retry_after {
                out.number("retry_after_ms", milliseconds(*after));
            }
        }
        Event::Goodbye {
            code,
            reason,
            retry_after,
        } => {
            begin(out, "goodbye", None, 3);
            out.number("code", u64::from(*code));
            out.text("reason", reason);
            out.number("retry_after_ms", milliseconds(*retry_after));
        }
    }
    out.end_map();
}

fn write_history(id: Option<u64>, channel: &ChannelName, page: &HistoryPage<'_>, out: &mut impl Notation) {
    let start_fields = usize::from(page.start != HistoryStart::Continues);
    begin(out, "history", id, 4 + start_fields);
    out.text("channel", channel.as_str());
    match page.start {
        HistoryStart::Continues => {}
        HistoryStart::Gap { from, to } => {
            out.map_field("gap", 2);
            out.number("from", from);
            out.number("to", to);
            out.end_map();
        }
        HistoryStart::Reset => out.boolean("reset", true),
    }
    out.array("messages", page.entries.len());
    for (index, entry) in page.entries.iter().enumerate() {
        if index > 0 {
            out.next_item();
        }
        out.map(entry_fields(entry));
        entry_body(out, entry);
        out.end_map();
    }
    out.end_array();
    out.text("position", page.position.token().as_str());
    out.boolean("more", page.more);
}

fn write_announcement(channel: &ChannelName, announcement: &Announcement, out: &mut impl Notation) {
    let Announcement { counts, who } = announcement;
    let lists = match who {
        Who::Changed { joined, left } => usize::from(!joined.is_empty()) + usize::from(!left.is_empty()),
        Who::All(_) => 1,
        Who::Unlisted => 0,
    };
    begin(out, "presence", None, 3 + lists);
    out.text("channel", channel.as_str());
    match who {
        Who::Changed { joined, left } => {
            if !joined.is_empty() {
                write_members("joined", joined, out);
            }
            if !left.is_empty() {
                out.array("left", left.len());
                for (index, key) in left.iter().enumerate() {
                    write_member(index, key, None, out);
                }
                out.end_array();
            }
        }
        Who::All(members) => write_members("members", members, out),
        Who::Unlisted => {}
    }
    write_counts(*counts, out);
}

fn write_counts(counts: Counts, out: &mut impl Notation) {
    out.number("count", u64::from(counts.members));
    out.number("users", u64::from(counts.users));
}

fn write_members(key: &'static str, members: &[Member], out: &mut impl Notation) {
    out.array(key, members.len());
    for (index, member) in members.iter().enumerate() {
        write_member(index, &member.key, member.info.as_ref(), out);
    }
    out.end_array();
}

fn write_member(index: usize, key: &MemberKey, info: Option<&Payload>, out: &mut impl Notation) {
    if index > 0 {
        out.next_item();
    }
    out.map(2 + usize::from(info.is_some()));
    out.text("user", key.user.as_str());
    out.text("session", &key.session.to_string());
    if let Some(info) = info {
        out.json("info", info);
    }
    out.end_map();
}

/// Writes one command: the client's side.
pub(super) fn write_command(command: &Command, out: &mut impl Notation) {
    let some = usize::from;
    match command {
        Command::Connect { id, token, resume } => {
            begin(
                out,
                "connect",
                *id,
                some(token.is_some()) + some(resume.is_some()),
            );
            if let Some(token) = token {
                out.text("token", token);
            }
            if let Some(resume) = resume {
                out.text("resume", resume);
            }
        }
        Command::Subscribe {
            id,
            channel,
            since,
            latest,
            presence,
        } => {
            let info = presence.as_ref().and_then(|presence| presence.info.as_ref());
            let attendance = some(presence.is_some()) + some(info.is_some());
            begin(
                out,
                "subscribe",
                *id,
                1 + some(since.is_some()) + some(*latest) + attendance,
            );
            out.text("channel", channel.as_str());
            if let Some(since) = since {
                out.text("since", since.token().as_str());
            }
            if *latest {
                out.boolean("latest", true);
            }
            match presence.as_ref().map(|presence| presence.role) {
                None => {}
                Some(Role::Participant) => out.boolean("presence", true),
                Some(Role::Member) => out.text("presence", MEMBER),
                Some(Role::Watcher) => out.text("presence", WATCH),
            }
            if let Some(info) = info {
                out.json("info", info);
            }
        }
        Command::Unsubscribe { id, channel } => {
            begin(out, "unsubscribe", *id, 1);
            out.text("channel", channel.as_str());
        }
        Command::Publish {
            id,
            channel,
            payload,
            key,
            conflate,
        } => {
            let keys = some(key.is_some()) + some(conflate.is_some());
            begin(out, "publish", *id, 2 + keys);
            out.text("channel", channel.as_str());
            out.payload(payload);
            if let Some(key) = key {
                out.text("key", key.as_str());
            }
            if let Some(conflate) = conflate {
                out.text("conflate", conflate.as_str());
            }
        }
        Command::History {
            id,
            channel,
            range,
            limit,
        } => {
            let latest = matches!(range, Range::Latest { .. });
            let fields = some(range.position().is_some()) + some(latest) + some(limit.is_some());
            begin(out, "history", *id, 1 + fields);
            out.text("channel", channel.as_str());
            if let Some(position) = range.position() {
                let field = match range {
                    Range::Before(_) => "before",
                    Range::Newest | Range::After(_) | Range::Latest { .. } => "since",
                };
                out.text(field, position.token().as_str());
            }
            if latest {
                out.boolean("latest", true);
            }
            if let Some(limit) = limit {
                out.number("limit", u64::from(*limit));
            }
        }
        Command::Members {
            id,
            channel,
            which,
            limit,
        } => {
            let chosen = some(*which != Which::After(None));
            begin(out, "members", *id, 1 + chosen + some(limit.is_some()));
            out.text("channel", channel.as_str());
            match which {
                Which::After(None) => {}
                Which::After(Some(key)) => out.text("after", &key.token()),
                Which::Sample => out.boolean("sample", true),
            }
            if let Some(limit) = limit {
                out.number("limit", u64::from(*limit));
            }
        }
        Command::Ping { id } => begin(out, "ping", *id, 0),
    }
    out.end_map();
}

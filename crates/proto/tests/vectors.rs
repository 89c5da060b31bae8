//! The frames of `spec/protocol.md` and `spec/vectors/*.json` are what this crate reads and writes.
//!
//! `spec/vectors/README.md` says how a vector is read; a client in another language runs the same files.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{self, History, Member, Message, Notice};
use switchboard_proto::dialect::{
    Command, DialectId, Event, Gap, HistoryPage, HistoryStart, Inbound, Rejected, json, msgpack,
};
use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::payload::{Payload, PayloadKind};
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::presence::{self, Announcement, Attendance, Counts, MemberKey, Role, Which, Who};
use switchboard_proto::session::places::Places;
use switchboard_proto::session::server::SessionId;
use switchboard_proto::ws::MessageKind;

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec");

fn read(name: &str) -> String {
    fs::read_to_string(format!("{SPEC}/{name}")).unwrap()
}

/// One list of one file, never empty.
fn list(file: &str, key: &str) -> Vec<Value> {
    let whole: Value = serde_json::from_str(&read(&format!("vectors/{file}.json"))).unwrap();
    let list = whole[key].as_array().unwrap().clone();
    assert!(!list.is_empty(), "{file}.{key}");
    list
}

fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(vector: &'a Value, key: &str) -> Option<&'a str> {
    vector.get(key).map(|value| value.as_str().unwrap())
}

fn number(vector: &Value, key: &str) -> Option<u64> {
    vector.get(key).map(|value| value.as_u64().unwrap())
}

fn need<'a>(vector: &'a Value, key: &str) -> &'a str {
    text(vector, key).unwrap_or_else(|| panic!("no {key}: {vector}"))
}

fn name(vector: &Value) -> &str {
    need(vector, "name")
}

fn channel(vector: &Value) -> ChannelName {
    ChannelName::parse(need(vector, "channel")).unwrap()
}

fn position(vector: &Value) -> Position {
    Position::parse(need(vector, "position")).unwrap()
}

/// `{"json":…}`, `{"text":…}` or `{"bytes":hex}`.
fn payload(vector: &Value) -> Payload {
    let (kind, content) = vector["payload"].as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "json" => Payload::json(&content.to_string()).unwrap(),
        "text" => Payload::text(content.as_str().unwrap()),
        "bytes" => Payload::bytes(hex(content.as_str().unwrap())),
        other => panic!("{other}"),
    }
}

/// JSON is compared by value: a payload keeps the notation in which it came.
fn same_payload(one: &Payload, other: &Payload) -> bool {
    let value = |payload: &Payload| serde_json::from_slice::<Value>(payload.as_bytes()).unwrap();
    match (one.kind(), other.kind()) {
        (PayloadKind::Json, PayloadKind::Json) => value(one) == value(other),
        _ => one == other,
    }
}

fn truth(meaning: &Value, key: &str) -> bool {
    meaning.get(key).is_some_and(|value| value.as_bool().unwrap())
}

fn command(meaning: &Value) -> Command {
    let id = number(meaning, "id");
    let since = || text(meaning, "since").map(|token| Position::parse(token).unwrap());
    match need(meaning, "type") {
        "connect" => Command::Connect {
            id,
            token: text(meaning, "token").map(str::to_owned),
            resume: text(meaning, "resume").map(str::to_owned),
        },
        "subscribe" => Command::Subscribe {
            id,
            channel: channel(meaning),
            since: since(),
            latest: truth(meaning, "latest"),
            presence: attendance(meaning),
        },
        "unsubscribe" => Command::Unsubscribe {
            id,
            channel: channel(meaning),
        },
        "publish" => Command::Publish {
            id,
            channel: channel(meaning),
            payload: payload(meaning),
            key: text(meaning, "key").map(|key| Key::parse(key).unwrap()),
            conflate: text(meaning, "conflate").map(|key| Key::parse(key).unwrap()),
        },
        "history" => Command::History {
            id,
            channel: channel(meaning),
            range: match (since(), text(meaning, "before"), truth(meaning, "latest")) {
                (None, None, false) => Range::Newest,
                (Some(since), None, false) => Range::After(since),
                (None, Some(before), false) => Range::Before(Position::parse(before).unwrap()),
                (after, None, true) => Range::Latest { after },
                (_, Some(_), _) => panic!("`before` stands alone"),
            },
            limit: number(meaning, "limit").map(|limit| u32::try_from(limit).unwrap()),
        },
        "members" => Command::Members {
            id,
            channel: channel(meaning),
            which: match (text(meaning, "after"), truth(meaning, "sample")) {
                (None, true) => Which::Sample,
                (after, false) => Which::After(after.map(|token| MemberKey::parse(token).unwrap())),
                (Some(_), true) => panic!("`after` stands without `sample`"),
            },
            limit: number(meaning, "limit").map(|limit| u32::try_from(limit).unwrap()),
        },
        "ping" => Command::Ping { id },
        other => panic!("{other}"),
    }
}

fn attendance(meaning: &Value) -> Option<Attendance> {
    let role = match meaning.get("presence")? {
        Value::Bool(true) => Role::Participant,
        Value::String(word) if word == "member" => Role::Member,
        Value::String(word) if word == "watch" => Role::Watcher,
        other => panic!("{other}"),
    };
    let info = meaning.get("info").map(json_of);
    Some(Attendance { role, info })
}

fn json_of(value: &Value) -> Payload {
    Payload::json(&value.to_string()).unwrap()
}

fn decode(dialect: DialectId, message: Inbound<'_>) -> Result<Command, Rejected> {
    dialect.dialect().decode(message, None)
}

/// Every notation that the vector has is read as its command.
fn check_accepted(vector: &Value) -> Command {
    let expected = command(&vector["command"]);
    let frames = [
        text(vector, "json").map(|json| decode(DialectId::Json, Inbound::Text(json))),
        text(vector, "msgpack").map(|packed| decode(DialectId::Msgpack, Inbound::Binary(&hex(packed)))),
    ];
    assert!(frames.iter().any(Option::is_some), "{}", name(vector));
    for read in frames.into_iter().flatten() {
        assert_eq!(read.as_ref(), Ok(&expected), "{}", name(vector));
    }
    expected
}

#[test]
fn commands_are_read_and_written() {
    for vector in list("commands", "vectors") {
        let command = check_accepted(&vector);
        let mut out = Vec::new();
        json::encode_command(&command, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            need(&vector, "json"),
            "{}",
            name(&vector)
        );
        let mut out = Vec::new();
        msgpack::encode_command(&command, &mut out);
        assert_eq!(to_hex(&out), need(&vector, "msgpack"), "{}", name(&vector));
    }
    for vector in list("commands", "also_accepted") {
        check_accepted(&vector);
    }
}

/// `[[part, times], …]`
fn parts(vector: &Value, key: &str) -> Option<String> {
    let parts = vector.get(key)?.as_array().unwrap().iter();
    Some(
        parts
            .map(|part| {
                let times = usize::try_from(part[1].as_u64().unwrap()).unwrap();
                part[0].as_str().unwrap().repeat(times)
            })
            .collect(),
    )
}

#[test]
fn what_is_not_a_command_is_refused_with_its_code() {
    for vector in list("rejected", "vectors") {
        let dialect = DialectId::by_subprotocol(&format!("switchboard.v1.{}", need(&vector, "dialect")));
        let whole = |key: &str, parts_key: &str| {
            text(&vector, key)
                .map(str::to_owned)
                .or_else(|| parts(&vector, parts_key))
        };
        let read = match (whole("text", "text_parts"), whole("binary", "binary_parts")) {
            (Some(text), None) => decode(dialect.unwrap(), Inbound::Text(&text)),
            (None, Some(binary)) => decode(dialect.unwrap(), Inbound::Binary(&hex(&binary))),
            _ => panic!("{vector}"),
        };
        let rejected = read.expect_err(name(&vector));
        assert_eq!(
            (rejected.id, rejected.code.as_str()),
            (number(&vector, "id"), need(&vector, "code")),
            "{}: {:?}",
            name(&vector),
            rejected.detail
        );
    }
}

fn message(meaning: &Value) -> Message {
    assert_eq!(number(meaning, "offset"), Some(position(meaning).offset));
    Message {
        position: position(meaning),
        payload: payload(meaning),
        from: text(meaning, "from").map(str::to_owned),
        conflate: text(meaning, "conflate").map(str::to_owned),
        at_ms: number(meaning, "at").unwrap(),
    }
}

fn member_key(meaning: &Value) -> notice::MemberKey {
    notice::MemberKey {
        user: need(meaning, "user").to_owned(),
        session: need(meaning, "session").to_owned(),
    }
}

fn members_of(meaning: &Value, key: &str) -> Option<Vec<Member>> {
    let members = meaning.get(key)?.as_array().unwrap().iter();
    let member = |meaning: &Value| Member {
        key: member_key(meaning),
        info: meaning.get("info").map(json_of),
    };
    Some(members.map(member).collect())
}

fn counts(meaning: &Value) -> Counts {
    let count = |key| u32::try_from(number(meaning, key).unwrap()).unwrap();
    Counts {
        members: count("count"),
        users: count("users"),
    }
}

fn who(meaning: &Value) -> notice::Who {
    let left = meaning.get("left").map(|left| {
        let left = left.as_array().unwrap().iter();
        left.map(member_key).collect::<Vec<_>>()
    });
    match (
        members_of(meaning, "members"),
        members_of(meaning, "joined"),
        left,
    ) {
        (Some(all), None, None) => notice::Who::All(all),
        (None, None, None) => notice::Who::Unlisted,
        (None, joined, left) => notice::Who::Changed {
            joined: joined.unwrap_or_default(),
            left: left.unwrap_or_default(),
        },
        (Some(_), _, _) => panic!("a whole list is no change"),
    }
}

/// What a server has for a client to see this.
fn server_key(key: &notice::MemberKey) -> MemberKey {
    let session = key.session.strip_prefix("s_").unwrap();
    MemberKey {
        user: User::new(&key.user),
        session: SessionId(u64::from_str_radix(session, 16).unwrap()),
    }
}

fn server_members(members: &[Member]) -> Vec<presence::Member> {
    let members = members.iter();
    members
        .map(|member| presence::Member {
            key: server_key(&member.key),
            info: member.info.clone(),
        })
        .collect()
}

fn history(meaning: &Value) -> History {
    let bound = |gap: &Value| (number(gap, "from").unwrap(), number(gap, "to").unwrap());
    History {
        messages: meaning["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(message)
            .collect(),
        gap: meaning.get("gap").map(bound),
        reset: truth(meaning, "reset"),
        position: position(meaning),
        more: truth(meaning, "more"),
    }
}

/// What a client should understand.
fn notice_of(meaning: &Value) -> Notice {
    let id = number(meaning, "id");
    let milliseconds = |key: &str| number(meaning, key).map(Duration::from_millis);
    match need(meaning, "type") {
        "welcome" => Notice::Welcome {
            id,
            session: need(meaning, "session").to_owned(),
            user: need(meaning, "user").to_owned(),
            heartbeat: milliseconds("heartbeat_ms").unwrap(),
            resume: text(meaning, "resume").map(str::to_owned),
        },
        "subscribed" => Notice::Subscribed {
            id,
            channel: channel(meaning),
            position: position(meaning),
            recovered: meaning.get("recovered").map(|value| value.as_bool().unwrap()),
        },
        "unsubscribed" => Notice::Unsubscribed {
            id,
            channel: channel(meaning),
        },
        "published" => Notice::Published {
            id,
            position: position(meaning),
        },
        "members" => Notice::Members {
            id,
            members: notice::Members {
                counts: counts(meaning),
                members: members_of(meaning, "members").unwrap(),
                next: text(meaning, "next").map(|token| MemberKey::parse(token).unwrap()),
            },
        },
        "presence" => Notice::Presence {
            channel: channel(meaning),
            counts: counts(meaning),
            who: who(meaning),
        },
        "pong" => Notice::Pong { id },
        "message" => Notice::Message {
            channel: channel(meaning),
            message: message(meaning),
        },
        "gap" => Notice::Gap {
            channel: channel(meaning),
            from: number(meaning, "from").unwrap(),
            to: number(meaning, "to").unwrap(),
            position: position(meaning),
            conflated: truth(meaning, "conflated"),
        },
        "reset" => Notice::Reset {
            channel: channel(meaning),
            position: position(meaning),
        },
        "history" => Notice::History {
            id,
            history: history(meaning),
        },
        "error" => Notice::Error {
            id,
            code: need(meaning, "code").to_owned(),
            message: need(meaning, "message").to_owned(),
            retry_after: milliseconds("retry_after_ms"),
        },
        "goodbye" => Notice::Goodbye {
            code: u16::try_from(number(meaning, "code").unwrap()).unwrap(),
            reason: need(meaning, "reason").to_owned(),
            retry_after: milliseconds("retry_after_ms").unwrap(),
        },
        other => panic!("{other}"),
    }
}

fn entry(message: &Message) -> Arc<Entry> {
    Arc::new(Entry {
        position: message.position,
        previous: message.position.offset.saturating_sub(1),
        at_ms: message.at_ms,
        from: message.from.as_deref().map(User::new),
        conflate: message.conflate.as_deref().map(|key| Key::parse(key).unwrap()),
        payload: message.payload.clone(),
    })
}

/// Both notations of what a server says so that a client understands `notice`. `channel` is the one of a `history` or `members`,
/// which the notice leaves out.
fn encoded<const N: usize>(
    notice: &Notice,
    channel: Option<ChannelName>,
    dialects: [DialectId; N],
) -> [Vec<u8>; N] {
    let write = |event: &Event<'_>| {
        dialects.map(|id| {
            let mut out = Vec::new();
            let kind = id.dialect().encode(event, &mut out);
            let expected = match id {
                DialectId::Msgpack => MessageKind::Binary,
                _ => MessageKind::Text,
            };
            assert_eq!(kind, Some(expected));
            out
        })
    };
    match notice.clone() {
        Notice::Welcome {
            id,
            session,
            user,
            heartbeat,
            resume,
        } => write(&Event::Welcome {
            id,
            session: &session,
            user: &User::new(&user),
            heartbeat,
            resume: &resume.unwrap(),
        }),
        Notice::Subscribed {
            id,
            channel,
            position,
            recovered,
        } => write(&Event::Subscribed {
            id,
            channel: &channel,
            position,
            recovered,
        }),
        Notice::Unsubscribed { id, channel } => write(&Event::Unsubscribed {
            id,
            channel: &channel,
        }),
        Notice::Published { id, position } => write(&Event::Published { id, position }),
        Notice::History { id, history } => write(&Event::History {
            id,
            channel: &channel.unwrap(),
            page: HistoryPage {
                start: match (history.gap, history.reset) {
                    (Some((from, to)), false) => HistoryStart::Gap { from, to },
                    (None, true) => HistoryStart::Reset,
                    (None, false) => HistoryStart::Continues,
                    (Some(_), true) => panic!("a page has a gap or a reset, not both"),
                },
                entries: &history.messages.iter().map(entry).collect::<Vec<_>>(),
                position: history.position,
                more: history.more,
            },
        }),
        Notice::Members { id, members } => write(&Event::Members {
            id,
            channel: &channel.unwrap(),
            members: &presence::Members {
                counts: members.counts,
                members: server_members(&members.members),
                next: members.next,
            },
        }),
        Notice::Presence { channel, counts, who } => write(&Event::Presence {
            channel: &channel,
            announcement: &Announcement {
                counts,
                who: match who {
                    notice::Who::All(members) => Who::All(server_members(&members)),
                    notice::Who::Changed { joined, left } => Who::Changed {
                        joined: server_members(&joined),
                        left: left.iter().map(server_key).collect(),
                    },
                    notice::Who::Unlisted => Who::Unlisted,
                },
            },
        }),
        Notice::Pong { id } => write(&Event::Pong { id }),
        Notice::Message { channel, message } => write(&Event::Message {
            channel: &channel,
            entry: &entry(&message),
        }),
        Notice::Gap {
            channel,
            from,
            to,
            position,
            conflated,
        } => write(&Event::Gap {
            channel: &channel,
            gap: Gap { from, to, position },
            conflated,
        }),
        Notice::Reset { channel, position } => write(&Event::Reset {
            channel: &channel,
            position,
        }),
        Notice::Error {
            id,
            code,
            message,
            retry_after,
        } => write(&Event::Error {
            id,
            code: error_code(&code),
            message: &message,
            retry_after,
        }),
        Notice::Goodbye {
            code,
            reason,
            retry_after,
        } => write(&Event::Goodbye {
            code,
            reason: &reason,
            retry_after,
        }),
        Notice::Unknown => panic!("a server says nothing unknown"),
    }
}

fn error_code(word: &str) -> ErrorCode {
    let known = ErrorCode::ALL.iter().find(|code| code.as_str() == word);
    *known.unwrap_or_else(|| panic!("{word} is not in the catalogue"))
}

/// A client reads both notations of the vector as `expected`.
fn check_understood(vector: &Value, expected: &Notice) {
    let packed = hex(need(vector, "msgpack"));
    for message in [Inbound::Text(need(vector, "json")), Inbound::Binary(&packed)] {
        assert_eq!(notice::decode(message).as_ref(), Ok(expected), "{}", name(vector));
    }
}

#[test]
fn events_are_written_and_read() {
    for vector in list("events", "vectors") {
        let meaning = &vector["event"];
        let expected = notice_of(meaning);
        check_understood(&vector, &expected);
        let channel = meaning.get("channel").map(|_| channel(meaning));
        let [text, packed] = encoded(&expected, channel, [DialectId::Json, DialectId::Msgpack]);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            need(&vector, "json"),
            "{}",
            name(&vector)
        );
        assert_eq!(to_hex(&packed), need(&vector, "msgpack"), "{}", name(&vector));
    }
    for vector in list("events", "also_accepted") {
        check_understood(&vector, &notice_of(&vector["event"]));
    }
    for vector in list("events", "ignored") {
        check_understood(&vector, &Notice::Unknown);
    }
}

/// Name and value of each field of an event of a stream, as its reader takes them (HTML, section 9.2.6).
fn fields(block: &str) -> Vec<(&str, &str)> {
    let end = block.strip_suffix("\n\n").unwrap();
    end.split('\n')
        .map(|line| {
            assert!(!line.is_empty() && !line.contains('\r'), "{block}");
            line.split_once(": ").unwrap()
        })
        .collect()
}

#[test]
fn event_streams() {
    for vector in list("streams", "vectors") {
        let json = need(&vector, "json");
        let notice = notice::decode(Inbound::Text(json)).unwrap();
        let meaning: Value = serde_json::from_str(json).unwrap();
        let channel = meaning.get("channel").map(|_| channel(&meaning));
        let [text] = encoded(&notice, channel, [DialectId::EventStream]);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, need(&vector, "text"), "{}", name(&vector));

        let fields = fields(&text);
        let lines = fields.iter().filter(|(name, _)| *name == "data");
        let data: Vec<_> = lines.map(|(_, line)| *line).collect();
        let read = notice::decode(Inbound::Text(&data.join("\n"))).unwrap();
        assert_eq!(
            same_but_blanks(read),
            same_but_blanks(notice),
            "{}",
            name(&vector)
        );
        let id = fields.iter().find(|(name, _)| *name == "id").map(|(_, id)| *id);
        let moves = ["subscribed", "message", "gap", "reset"].contains(&need(&meaning, "type"));
        assert_eq!(id, text_of(&meaning, "position").filter(|_| moves));
    }
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// Blanks between the tokens of a payload are not what it says.
fn same_but_blanks(notice: Notice) -> Notice {
    match notice {
        Notice::Message { channel, mut message } => {
            if let Some(text) = message
                .payload
                .as_str()
                .filter(|_| message.payload.kind() == PayloadKind::Json)
            {
                let value: Value = serde_json::from_str(text).unwrap();
                message.payload = json_of(&value);
            }
            Notice::Message { channel, message }
        }
        notice => notice,
    }
}

/// The payload that each way of sending it gives.
fn sent(vector: &Value) -> Vec<(&'static str, Payload)> {
    let bound = ChannelName::parse("room:42").unwrap();
    let ways = &vector["sent"];
    let mut payloads = Vec::new();
    let mut add = |way, command: Result<Command, Rejected>| match command {
        Ok(Command::Publish { payload, .. }) => payloads.push((way, payload)),
        other => panic!("{}, {way}: {other:?}", name(vector)),
    };
    if let Some(fields) = text(ways, "json") {
        let frame = format!(r#"{{"type":"publish","id":3,"channel":"room:42",{fields}}}"#);
        add("json", decode(DialectId::Json, Inbound::Text(&frame)));
    }
    if let Some(data) = text(ways, "msgpack") {
        let fields = b"\x84\xa4type\xa7publish\xa2id\x03\xa7channel\xa7room:42\xa4data";
        let frame = [fields.as_slice(), &hex(data)].concat();
        add("msgpack", decode(DialectId::Msgpack, Inbound::Binary(&frame)));
    }
    if let Some(frame) = ways.get("raw") {
        let bytes = text(frame, "binary").map(hex);
        let message = match &bytes {
            Some(bytes) => Inbound::Binary(bytes),
            None => Inbound::Text(need(frame, "text")),
        };
        let raw = DialectId::Raw.dialect();
        add("raw", raw.decode(message, Some(&bound)));
    }
    assert!(!payloads.is_empty(), "{}", name(vector));
    payloads
}

#[test]
fn a_payload_of_every_kind_reaches_clients_of_every_dialect() {
    for vector in list("payloads", "vectors") {
        let expected = payload(&vector);
        let received = &vector["received"];
        for (way, payload) in sent(&vector) {
            let what = format!("{}, sent as {way}", name(&vector));
            assert!(same_payload(&payload, &expected), "{what}: {payload:?}");
            let message = Message {
                position: Position::parse("pAQIDBAUGBwjerb7vEg").unwrap(),
                payload,
                from: Some("ben".to_owned()),
                conflate: None,
                at_ms: 1_732_170_000_123,
            };
            let channel = ChannelName::parse("room:42").unwrap();
            let raw = DialectId::Raw.dialect();
            let mut bare = Vec::new();
            let event = Event::Message {
                channel: &channel,
                entry: &entry(&message),
            };
            let kind = raw.encode(&event, &mut bare);
            let notice = Notice::Message { channel, message };
            let [json, packed] = encoded(&notice, None, [DialectId::Json, DialectId::Msgpack]);

            let fields = need(received, "json");
            let frame = format!(
                r#"{{"type":"message","channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg",{fields},"from":"ben","at":1732170000123}}"#
            );
            assert_eq!(String::from_utf8(json).unwrap(), frame, "{what}");
            let data = format!(
                "{}{}{}",
                to_hex(b"\xa4data"),
                need(received, "msgpack"),
                to_hex(b"\xa4from")
            );
            assert!(to_hex(&packed).contains(&data), "{what}: {}", to_hex(&packed));
            let frame = &received["raw"];
            let expected = match text(frame, "binary") {
                Some(bytes) => (MessageKind::Binary, hex(bytes)),
                None => (MessageKind::Text, need(frame, "text").as_bytes().to_vec()),
            };
            assert_eq!(kind.map(|kind| (kind, bare)), Some(expected), "{what}");
        }
    }
}

#[test]
fn position_tokens() {
    for vector in list("positions", "vectors") {
        let bits = |key: &str| u64::from_str_radix(need(&vector, key), 16).unwrap();
        let position = Position {
            epoch: Epoch(bits("epoch")),
            offset: need(&vector, "offset").parse().unwrap(),
            tag: u32::try_from(bits("tag")).unwrap(),
        };
        assert_eq!(position.to_string(), need(&vector, "token"), "{}", name(&vector));
        assert_eq!(
            Position::parse(need(&vector, "token")),
            Ok(position),
            "{}",
            name(&vector)
        );
    }
    for vector in list("positions", "several") {
        let words = |key: &str| -> Vec<String> {
            let list = vector[key].as_array().unwrap().iter();
            list.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let names = words("channels").into_iter();
        let channels = names.map(|name| ChannelName::parse(&name).unwrap()).collect();
        let places = Places::parse(channels, need(&vector, "token")).unwrap();
        let positions: Vec<_> = places
            .iter()
            .map(|place| place.position.unwrap().to_string())
            .collect();
        assert_eq!(positions, words("positions"), "{}", name(&vector));
        assert_eq!(places.to_string(), need(&vector, "token"), "{}", name(&vector));
    }
    for vector in list("positions", "refused") {
        assert!(
            Position::parse(need(&vector, "token")).is_err(),
            "{}",
            name(&vector)
        );
    }
}

#[test]
fn channel_names() {
    for vector in list("channels", "vectors") {
        assert_eq!(
            channel(&vector).namespace(),
            need(&vector, "namespace"),
            "{}",
            name(&vector)
        );
    }
    for vector in list("channels", "refused") {
        assert!(
            ChannelName::parse(need(&vector, "channel")).is_err(),
            "{}",
            name(&vector)
        );
    }
}

/// Lines of the document that show a frame: `→` from the client, `←` from the server, then JSON or MessagePack in hex.
fn frames_of_the_document() -> Vec<String> {
    let document = read("protocol.md");
    let frames: Vec<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("→ ").or_else(|| line.strip_prefix("← ")))
        .map(|frame| frame.trim().to_owned())
        .collect();
    assert!(frames.len() > 20, "{}", frames.len());
    frames
}

/// Blocks of the document that show an event of a stream.
fn stream_events_of_the_document() -> Vec<String> {
    let document = read("protocol.md");
    let blocks = document
        .split("\n\n")
        .filter(|block| block.starts_with("event: "));
    let blocks: Vec<_> = blocks.map(|block| format!("{block}\n\n")).collect();
    assert!(blocks.len() > 2, "{}", blocks.len());
    blocks
}

#[test]
fn every_frame_of_the_document_is_a_vector() {
    let mut known = BTreeSet::new();
    for (file, key) in [
        ("commands", "vectors"),
        ("commands", "also_accepted"),
        ("events", "vectors"),
        ("events", "ignored"),
        ("rejected", "vectors"),
    ] {
        for vector in list(file, key) {
            known.extend(
                ["json", "text", "msgpack"]
                    .iter()
                    .filter_map(|key| text(&vector, key))
                    .map(str::to_owned),
            );
        }
    }
    let streams = list("streams", "vectors");
    let streams: Vec<_> = streams.iter().map(|vector| need(vector, "text")).collect();
    for block in stream_events_of_the_document() {
        assert!(
            streams.contains(&block.as_str()),
            "not in spec/vectors/streams.json: {block}"
        );
    }
    for frame in frames_of_the_document() {
        let shown = match frame.starts_with('{') {
            true => frame,
            false => frame.replace(' ', ""),
        };
        assert!(known.contains(&shown), "not in spec/vectors: {shown}");
    }
}

#[test]
fn the_errors_of_the_document_are_the_catalogue() {
    let document = read("protocol.md");
    let or_dash = |code: Option<u16>| code.map_or("–".to_owned(), |code| code.to_string());
    for code in ErrorCode::ALL {
        let row = format!(
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            code.as_str(),
            format!("{:?}", code.fault()).to_lowercase(),
            if code.retryable() { "yes" } else { "no" },
            or_dash(code.close_code()),
            or_dash(code.raw_close_code()),
            code.http_status(),
            code.text()
        );
        assert!(document.contains(&row), "spec/protocol.md lacks the row\n{row}");
    }
}

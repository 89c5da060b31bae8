//! `proto::dialect`, `proto::payload` and `proto::json`: what messages mean, in every dialect.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{self, Notice};
use switchboard_proto::dialect::{
    Command, DialectId, Event, Gap, HistoryPage, HistoryStart, Inbound, Rejected, json, msgpack,
};
use switchboard_proto::entry::{Entry, User};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::json::check;
use switchboard_proto::limits::{CHANNEL_NAME_BYTES_MAX, CHANNEL_NAME_SEGMENTS_MAX, COMMAND_ID_MAX};
use switchboard_proto::payload::{BadPayload, Payload, PayloadKind};
use switchboard_proto::presence::{Announcement, Counts, Member, Members, Who};
use switchboard_proto::ws::MessageKind;

use crate::script::Script;
use crate::vocabulary;

/// The notations of the native dialect.
const NATIVE: [DialectId; 2] = [DialectId::Json, DialectId::Msgpack];

/// Messages of clients in any dialect, and events of a server.
///
/// - Whatever is a command is written and read back as the same command, in both notations.
/// - Whatever payload one dialect takes reaches the clients of all, with the same content.
/// - Whatever event a server says is read by a client as what was said.
/// - The own check of JSON text agrees with serde_json, limits apart.
pub fn dialects(data: &[u8]) {
    let mut script = Script::new(data);
    match script.choose(5) {
        0 => any_text(&String::from_utf8_lossy(script.rest())),
        1 => any_bytes(script.rest()),
        2 => any_text(&vocabulary::json(&mut script)),
        3 => check_command(&vocabulary::command(&mut script)),
        _ => any_event(&mut script),
    }
}

fn any_text(text: &str) {
    check_json(text);
    check_name(text);
    any_message(Inbound::Text(text));
    if let Ok(payload) = Payload::json(text) {
        check_payload(&payload);
    }
}

fn any_bytes(bytes: &[u8]) {
    any_message(Inbound::Binary(bytes));
}

fn any_message(message: Inbound<'_>) {
    let room = vocabulary::room();
    for dialect in DialectId::ALL {
        match dialect.dialect().decode(message, Some(&room)) {
            Ok(command) => check_command(&command),
            Err(rejected) => check_rejected(&rejected),
        }
    }
    let unbound = DialectId::Raw.dialect().decode(message, None);
    assert_eq!(
        unbound.map_err(|rejected| rejected.code),
        Err(ErrorCode::BadChannel)
    );
    // The other side's reader takes anything, too.
    let _notice = notice::decode(message);
}

fn check_rejected(rejected: &Rejected) {
    let detail = rejected.detail.as_deref();
    assert!(detail.is_none_or(|detail| detail.chars().count() <= 200));
    assert!(rejected.id.is_none_or(|id| id <= COMMAND_ID_MAX));
    let event = Event::Error {
        id: rejected.id,
        code: rejected.code,
        message: detail.unwrap_or(rejected.code.text()),
        retry_after: None,
    };
    let expected = Notice::Error {
        id: rejected.id,
        code: rejected.code.as_str().to_owned(),
        message: detail.unwrap_or(rejected.code.text()).to_owned(),
        retry_after: None,
    };
    check_event(&event, &expected);
}

fn check_command(command: &Command) {
    if let Command::Publish { payload, .. } = command {
        check_payload(payload);
    }
    for notation in NATIVE {
        let mut message = Vec::new();
        let decoded = match notation {
            DialectId::Msgpack => {
                msgpack::encode_command(command, &mut message);
                notation.dialect().decode(Inbound::Binary(&message), None)
            }
            DialectId::Json | DialectId::Raw | DialectId::EventStream | DialectId::Poll => {
                json::encode_command(command, &mut message);
                notation.dialect().decode(Inbound::Text(text(&message)), None)
            }
        };
        match decoded {
            Ok(decoded) => assert!(
                is_same_command(command, &decoded),
                "{command:?} became {decoded:?}"
            ),
            Err(rejected) => panic!("{command:?}: {rejected:?}"),
        }
    }
}

fn is_same_command(one: &Command, other: &Command) -> bool {
    match (one, other) {
        (
            Command::Publish {
                id,
                channel,
                payload,
                key,
                conflate,
            },
            Command::Publish {
                id: other_id,
                channel: other_channel,
                payload: other_payload,
                key: other_key,
                conflate: other_conflate,
            },
        ) => {
            (id, channel, key, conflate) == (other_id, other_channel, other_key, other_conflate)
                && is_same_payload(payload, other_payload)
        }
        (one, other) => one == other,
    }
}

/// Equal as values: MessagePack does not keep how a number was written.
fn is_same_payload(one: &Payload, other: &Payload) -> bool {
    one == other
        || one.kind() == PayloadKind::Json && other.kind() == PayloadKind::Json && value(one) == value(other)
}

fn value(payload: &Payload) -> Value {
    match serde_json::from_slice(payload.as_bytes()) {
        Ok(value) => value,
        Err(error) => panic!("{payload:?} is not JSON: {error}"),
    }
}

/// Every subscriber gets it, whatever it speaks.
fn check_payload(payload: &Payload) {
    let channel = vocabulary::room();
    let entry = Arc::new(Entry {
        position: vocabulary::position(&mut Script::new(payload.as_bytes())),
        previous: 0,
        at_ms: 1_732_170_000_123,
        from: None,
        conflate: None,
        payload: payload.clone(),
    });
    check_message(&channel, &entry);
    check_history(
        &channel,
        &[entry.clone(), entry.clone()],
        HistoryStart::Continues,
        None,
    );

    let mut frame = Vec::new();
    let event = Event::Message {
        channel: &channel,
        entry: &entry,
    };
    let kind = DialectId::Raw.dialect().encode(&event, &mut frame);
    assert_eq!(frame, payload.as_bytes());
    assert_eq!(
        kind == Some(MessageKind::Binary),
        payload.kind() == PayloadKind::Bytes
    );
    if kind == Some(MessageKind::Text) {
        let again = Payload::from_raw_text(text(&frame));
        let blanks = [' ', '\t', '\r', '\n'];
        match again.kind() {
            PayloadKind::Json => assert_eq!(again.as_bytes(), text(&frame).trim_matches(blanks).as_bytes()),
            _ => assert_eq!(again.as_bytes(), frame),
        }
        let is_structure = payload.kind() == PayloadKind::Json && matches!(frame[0], b'{' | b'[');
        assert!(!is_structure || again == *payload);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text frames are UTF-8")
}

fn check_message(channel: &ChannelName, entry: &Arc<Entry>) {
    let expected = Notice::Message {
        channel: channel.clone(),
        message: received(entry),
    };
    check_event(&Event::Message { channel, entry }, &expected);
}

fn received(entry: &Entry) -> notice::Message {
    notice::Message {
        position: entry.position,
        payload: entry.payload.clone(),
        from: entry.from.as_ref().map(|user| user.as_str().to_owned()),
        conflate: entry.conflate.as_ref().map(|key| key.as_str().to_owned()),
        at_ms: entry.at_ms,
    }
}

fn check_history(channel: &ChannelName, entries: &[Arc<Entry>], start: HistoryStart, id: Option<u64>) {
    let position = vocabulary::position(&mut Script::new(b"history"));
    let page = HistoryPage {
        start,
        entries,
        position,
        more: entries.is_empty(),
    };
    let history = notice::History {
        messages: entries.iter().map(|entry| received(entry)).collect(),
        gap: match start {
            HistoryStart::Gap { from, to } => Some((from, to)),
            HistoryStart::Continues | HistoryStart::Reset => None,
        },
        reset: start == HistoryStart::Reset,
        position,
        more: entries.is_empty(),
    };
    check_event(
        &Event::History { id, channel, page },
        &Notice::History { id, history },
    );
}

/// A client reads `event`, in both notations, as `expected`.
fn check_event(event: &Event<'_>, expected: &Notice) {
    for notation in NATIVE {
        let mut message = b"before".to_vec();
        let kind = notation.dialect().encode(event, &mut message);
        let message = &message[6..];
        let read = match kind {
            Some(MessageKind::Text) => {
                let text = text(message);
                assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
                notice::decode(Inbound::Text(text))
            }
            Some(MessageKind::Binary) => notice::decode(Inbound::Binary(message)),
            None => panic!("the native dialect says everything"),
        };
        match read {
            Ok(notice) => assert!(is_same_notice(&notice, expected), "{notice:?} for {expected:?}"),
            Err(error) => panic!("{error}: {notation:?} {event:?}"),
        }
    }
}

fn is_same_notice(one: &Notice, other: &Notice) -> bool {
    let is_same_message = |one: &notice::Message, other: &notice::Message| {
        is_same_payload(&one.payload, &other.payload)
            && (one.position, &one.from, one.at_ms) == (other.position, &other.from, other.at_ms)
    };
    match (one, other) {
        (
            Notice::Message { channel, message },
            Notice::Message {
                channel: other_channel,
                message: other_message,
            },
        ) => channel == other_channel && is_same_message(message, other_message),
        (
            Notice::History { id, history },
            Notice::History {
                id: other_id,
                history: other,
            },
        ) => {
            let rest = |history: &notice::History| notice::History {
                messages: Vec::new(),
                ..history.clone()
            };
            let mut messages = history.messages.iter().zip(&other.messages);
            id == other_id
                && rest(history) == rest(other)
                && history.messages.len() == other.messages.len()
                && messages.all(|(one, other)| is_same_message(one, other))
        }
        (one, other) => one == other,
    }
}

fn any_event(script: &mut Script<'_>) {
    let (id, channel, position) = (
        vocabulary::id(script),
        &vocabulary::channel(script),
        vocabulary::position(script),
    );
    let words = script.text();
    let after = Duration::from_millis(script.long());
    let (from, to) = (script.long(), script.long());
    match script.choose(12) {
        0 => {
            let user = User::new(&script.text());
            let event = Event::Welcome {
                id,
                session: &words,
                user: &user,
                heartbeat: after,
                resume: &words,
            };
            let notice = Notice::Welcome {
                id,
                session: words.clone(),
                user: user.as_str().to_owned(),
                heartbeat: after,
                resume: Some(words.clone()),
            };
            check_event(&event, &notice);
        }
        1 => check_history(
            channel,
            &[vocabulary::entry(script)],
            script.pick(&[HistoryStart::Reset, HistoryStart::Gap { from, to }]),
            id,
        ),
        2 => check_message(channel, &vocabulary::entry(script)),
        3 => {
            let gap = Gap { from, to, position };
            let conflated = script.one_in(2);
            let notice = Notice::Gap {
                channel: channel.clone(),
                from,
                to,
                position,
                conflated,
            };
            let event = Event::Gap {
                channel,
                gap,
                conflated,
            };
            check_event(&event, &notice);
        }
        4 => {
            let event = Event::Goodbye {
                code: from as u16,
                reason: &words,
                retry_after: after,
            };
            let notice = Notice::Goodbye {
                code: from as u16,
                reason: words.clone(),
                retry_after: after,
            };
            check_event(&event, &notice);
        }
        5 => {
            let code = script.pick(ErrorCode::ALL);
            let retry_after = script.one_in(2).then_some(after);
            let event = Event::Error {
                id,
                code,
                message: &words,
                retry_after,
            };
            let notice = Notice::Error {
                id,
                code: code.as_str().to_owned(),
                message: words.clone(),
                retry_after,
            };
            check_event(&event, &notice);
        }
        6 => any_presence(script, channel),
        7 => any_members(script, id, channel),
        _ => any_short_event(script, id, channel),
    }
}

fn any_presence(script: &mut Script<'_>, channel: &ChannelName) {
    let counts = Counts {
        members: script.long() as u32,
        users: script.long() as u32,
    };
    let members = members(script);
    let seen: Vec<_> = members.iter().map(seen).collect();
    let (who, seen_who) = match script.choose(3) {
        0 => (Who::All(members), notice::Who::All(seen)),
        1 if !members.is_empty() => {
            let left = members.iter().map(|member| member.key.clone()).collect();
            let seen_left = seen.iter().map(|member| member.key.clone()).collect();
            (
                Who::Changed {
                    joined: members,
                    left,
                },
                notice::Who::Changed {
                    joined: seen,
                    left: seen_left,
                },
            )
        }
        _ => (Who::Unlisted, notice::Who::Unlisted),
    };
    let announcement = Announcement { counts, who };
    let event = Event::Presence {
        channel,
        announcement: &announcement,
    };
    let notice = Notice::Presence {
        channel: channel.clone(),
        counts,
        who: seen_who,
    };
    check_event(&event, &notice);
}

fn any_members(script: &mut Script<'_>, id: Option<u64>, channel: &ChannelName) {
    let members = Members {
        counts: Counts {
            members: script.long() as u32,
            users: script.long() as u32,
        },
        members: members(script),
        next: script.one_in(2).then(|| vocabulary::member_key(script)),
    };
    let notice = Notice::Members {
        id,
        members: notice::Members {
            counts: members.counts,
            members: members.members.iter().map(seen).collect(),
            next: members.next.clone(),
        },
    };
    let event = Event::Members {
        id,
        channel,
        members: &members,
    };
    check_event(&event, &notice);
}

fn members(script: &mut Script<'_>) -> Vec<Member> {
    let count = script.choose(4);
    let members = (0..count).map(|_| Member {
        key: vocabulary::member_key(script),
        info: script.one_in(2).then(|| vocabulary::info(script)),
    });
    members.collect()
}

/// A member as a client sees it.
fn seen(member: &Member) -> notice::Member {
    notice::Member {
        key: notice::MemberKey {
            user: member.key.user.as_str().to_owned(),
            session: member.key.session.to_string(),
        },
        info: member.info.clone(),
    }
}

fn any_short_event(script: &mut Script<'_>, id: Option<u64>, channel: &ChannelName) {
    let position = vocabulary::position(script);
    let owned = channel.clone();
    let recovered = script.pick(&[None, Some(false), Some(true)]);
    let (event, notice) = match script.choose(5) {
        0 => (
            Event::Subscribed {
                id,
                channel,
                position,
                recovered,
            },
            Notice::Subscribed {
                id,
                channel: owned,
                position,
                recovered,
            },
        ),
        1 => (
            Event::Unsubscribed { id, channel },
            Notice::Unsubscribed { id, channel: owned },
        ),
        2 => (
            Event::Published { id, position },
            Notice::Published { id, position },
        ),
        3 => (
            Event::Reset { channel, position },
            Notice::Reset {
                channel: owned,
                position,
            },
        ),
        _ => (Event::Pong { id }, Notice::Pong { id }),
    };
    check_event(&event, &notice);
}

fn check_json(text: &str) {
    let is_syntax = serde_json::from_str::<&RawValue>(text).is_ok();
    let is_value = serde_json::from_str::<Value>(text).is_ok();
    match check(text.as_bytes()) {
        Ok(()) => assert!(is_syntax && is_value, "{text}"),
        Err(BadPayload::Json) => assert!(!is_syntax, "{text}"),
        Err(BadPayload::TooComplex) => {}
        // serde_json looks at these only when it makes a value.
        Err(_) => assert!(!is_value, "{text}"),
    }
}

fn check_name(text: &str) {
    let is_well_formed = (1..=CHANNEL_NAME_BYTES_MAX).contains(&text.len())
        && text.split(':').all(|segment| !segment.is_empty())
        && text.split(':').count() <= CHANNEL_NAME_SEGMENTS_MAX
        && !text.starts_with('$')
        && !text.contains(|character: char| {
            character == '*' || character.is_control() || character.is_whitespace()
        });
    match ChannelName::parse(text) {
        Ok(name) => {
            assert!(is_well_formed, "{text:?}");
            assert_eq!(name.as_str(), text);
            assert!(text.starts_with(name.namespace()));
        }
        // Beyond ASCII there are characters that nobody sees.
        Err(bad) => assert!(!is_well_formed || !text.is_ascii(), "{text:?}: {bad}"),
    }
}

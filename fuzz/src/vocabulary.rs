//! Values of the protocol from a script: channels, positions, payloads, commands.

use std::sync::Arc;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Command;
use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::limits::{COMMAND_ID_MAX, INFO_BYTES_MAX};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::presence::{Attendance, MemberKey, Role, Which};
use switchboard_proto::session::server::SessionId;

use crate::script::Script;

/// Values of one generated JSON text.
const VALUES_MAX: usize = 40;

pub(crate) fn channel(script: &mut Script<'_>) -> ChannelName {
    let name = match script.choose(4) {
        0 => "room:42".to_owned(),
        1 => "lobby".to_owned(),
        2 => format!("räume:{}", "k".repeat(1 + script.choose(247))),
        _ => script.text(),
    };
    ChannelName::parse(&name).unwrap_or_else(|_| room())
}

pub(crate) fn room() -> ChannelName {
    ChannelName::parse("room:42").expect("a valid name")
}

pub(crate) fn id(script: &mut Script<'_>) -> Option<u64> {
    match script.choose(4) {
        0 => None,
        1 => Some(COMMAND_ID_MAX),
        2 => Some(script.long() % (COMMAND_ID_MAX + 1)),
        _ => Some(u64::from(script.byte())),
    }
}

pub(crate) fn position(script: &mut Script<'_>) -> Position {
    Position {
        epoch: Epoch(script.long()),
        offset: script.long() >> script.choose(64),
        tag: script.long() as u32,
    }
}

pub(crate) fn payload(script: &mut Script<'_>) -> Payload {
    match script.choose(5) {
        0 => Payload::text(script.text()),
        1 => Payload::bytes(script.some().to_vec()),
        2 => Payload::from_raw_text(&script.text()),
        3 => Payload::json(&json(script)).unwrap_or_else(|_| Payload::text("not JSON")),
        _ => Payload::from_raw_text(&json(script)),
    }
}

pub(crate) fn entry(script: &mut Script<'_>) -> Arc<Entry> {
    Arc::new(Entry {
        position: position(script),
        previous: 0,
        at_ms: script.long(),
        from: script.one_in(2).then(|| User::new(&script.text())),
        conflate: Key::parse(&script.text()),
        payload: payload(script),
    })
}

/// JSON text, mostly within the limits and mostly valid.
pub(crate) fn json(script: &mut Script<'_>) -> String {
    let around = script.byte();
    let mut text = String::new();
    let depth = if around < 200 {
        0
    } else {
        usize::from(around - 200)
    };
    text.push_str(&"[".repeat(depth));
    write_value(script, &mut text, &mut 0, 0);
    text.push_str(&"]".repeat(depth));
    text
}

fn write_value(script: &mut Script<'_>, text: &mut String, values: &mut usize, depth: usize) {
    *values += 1;
    let deep = depth > 8 || *values > VALUES_MAX;
    match script.choose(9) {
        0 => text.push_str("null"),
        1 => text.push_str("true"),
        2 => text.push_str(&(script.long() >> script.choose(64)).to_string()),
        3 => text.push_str(&(script.long() as i64 >> script.choose(64)).to_string()),
        4 => text.push_str(&format!("{:?}", f64::from_bits(script.long()))),
        5 => {
            let numbers = [
                "-0",
                "0e999",
                "1e-999",
                "1E+2",
                "123456789012345678901234567890",
                "-1.5e308",
                "2e308",
            ];
            text.push_str(script.pick(&numbers));
        }
        6 if !deep => {
            text.push('[');
            for index in 0..script.choose(5) {
                text.push_str(if index > 0 { " ," } else { "" });
                write_value(script, text, values, depth + 1);
            }
            text.push(']');
        }
        7 if !deep => {
            text.push('{');
            for index in 0..script.choose(5) {
                text.push_str(if index > 0 { "," } else { "\n" });
                write_string(script, text);
                text.push(':');
                write_value(script, text, values, depth + 1);
            }
            text.push('}');
        }
        _ => write_string(script, text),
    }
}

fn write_string(script: &mut Script<'_>, text: &mut String) {
    let escapes = ["\"\\u0000\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\/\\b\""];
    match script.choose(6) {
        known if known < escapes.len() => text.push_str(escapes[known]),
        _ => text.push_str(&serde_json::Value::String(script.text()).to_string()),
    }
}

/// Any position, or one of this channel.
fn position_in(script: &mut Script<'_>, channel: &ChannelName) -> Position {
    let position = position(script);
    match script.one_in(2) {
        true => Position {
            epoch: Epoch::of(channel, position.epoch.0),
            ..position
        },
        false => position,
    }
}

fn range(script: &mut Script<'_>, channel: &ChannelName) -> Range {
    match script.choose(5) {
        0 => Range::Newest,
        1 => Range::After(position_in(script, channel)),
        2 => Range::Before(position_in(script, channel)),
        3 => Range::Latest { after: None },
        _ => Range::Latest {
            after: Some(position_in(script, channel)),
        },
    }
}

pub(crate) fn command(script: &mut Script<'_>) -> Command {
    let id = id(script);
    match script.choose(7) {
        0 => Command::Connect {
            id,
            token: script.one_in(2).then(|| script.text()),
            resume: script.one_in(2).then(|| script.text()),
        },
        1 => {
            let channel = channel(script);
            Command::Subscribe {
                id,
                since: script.one_in(2).then(|| position_in(script, &channel)),
                latest: script.one_in(2),
                presence: attendance(script),
                channel,
            }
        }
        2 => Command::Unsubscribe {
            id,
            channel: channel(script),
        },
        3 => Command::Publish {
            id,
            channel: channel(script),
            payload: payload(script),
            key: Key::parse(&script.text()),
            conflate: Key::parse(&script.text()),
        },
        4 => {
            let channel = channel(script);
            Command::History {
                id,
                range: range(script, &channel),
                channel,
                limit: script.one_in(2).then(|| script.long() as u32),
            }
        }
        5 => Command::Members {
            id,
            channel: channel(script),
            which: match script.choose(3) {
                0 => Which::After(None),
                1 => Which::After(Some(member_key(script))),
                _ => Which::Sample,
            },
            limit: script.one_in(2).then(|| script.long() as u32),
        },
        _ => Command::Ping { id },
    }
}

fn attendance(script: &mut Script<'_>) -> Option<Attendance> {
    let role = script.pick(&[
        None,
        Some(Role::Participant),
        Some(Role::Member),
        Some(Role::Watcher),
    ])?;
    let info = (role.is_member() && script.one_in(2)).then(|| info(script));
    Some(Attendance { role, info })
}

/// What a member may say of itself.
pub(crate) fn info(script: &mut Script<'_>) -> Payload {
    let fields = serde_json::json!({ "name": script.text(), "n": script.byte(), "nested": [{}, null] });
    let object = if script.one_in(2) {
        fields.to_string()
    } else {
        "{}".to_owned()
    };
    // A text of a script may be too long to be said of oneself.
    Payload::json(&object)
        .ok()
        .filter(|info| info.len() <= INFO_BYTES_MAX)
        .unwrap_or_else(|| Payload::json("{}").expect("an object"))
}

pub(crate) fn member_key(script: &mut Script<'_>) -> MemberKey {
    MemberKey {
        user: User::new(&script.text()),
        session: SessionId(script.long()),
    }
}

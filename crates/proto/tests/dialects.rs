//! Frames as clients write and read them, literally, and what they mean.

// In a test a panic is the failure.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{self, Notice};
use switchboard_proto::dialect::{
    Command, DialectId, Event, Gap, HistoryPage, HistoryStart, Inbound, Rejected, json, msgpack,
};
use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::payload::{Payload, PayloadKind};
use switchboard_proto::position::{Epoch, Position, Range};
use switchboard_proto::ws::MessageKind;

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn position(offset: u64) -> Position {
    Position {
        epoch: Epoch(0x0102030405060708),
        offset,
        tag: 0xdeadbeef,
    }
}

fn decode_json(text: &str) -> Result<Command, Rejected> {
    DialectId::Json.dialect().decode(Inbound::Text(text), None)
}

fn decode_msgpack(bytes: &[u8]) -> Result<Command, Rejected> {
    DialectId::Msgpack.dialect().decode(Inbound::Binary(bytes), None)
}

fn publish(payload: Payload) -> Command {
    Command::Publish {
        id: Some(3),
        channel: channel("room:42"),
        payload,
        key: None,
        conflate: None,
    }
}

/// The JSON text decodes to the command, and so does the same map in MessagePack.
fn check_command(text: &str, expected: Command) {
    assert_eq!(decode_json(text).as_ref(), Ok(&expected), "{text}");
    let mut bytes = Vec::new();
    msgpack::encode_command(&expected, &mut bytes);
    assert_eq!(decode_msgpack(&bytes), Ok(expected), "{text}");
}

fn check_rejected(text: &str, id: Option<u64>, code: ErrorCode) {
    let rejected = decode_json(text).expect_err(text);
    assert_eq!(
        (rejected.id, rejected.code),
        (id, code),
        "{text}: {:?}",
        rejected.detail
    );
}

#[test]
fn commands() {
    check_command(
        r#"{"type":"connect","id":1}"#,
        Command::Connect {
            id: Some(1),
            token: None,
            resume: None,
        },
    );
    check_command(
        r#"{"type":"connect","id":1,"token":"t"}"#,
        Command::Connect {
            id: Some(1),
            token: Some("t".to_owned()),
            resume: None,
        },
    );
    check_command(
        r#"{"id":2,"type":"subscribe","channel":"room:42"}"#,
        Command::Subscribe {
            id: Some(2),
            channel: channel("room:42"),
            since: None,
            latest: false,
            presence: None,
        },
    );
    check_command(
        r#"{"type":"subscribe","channel":"room:42","since":"pAQIDBAUGBwjerb7vEg"}"#,
        Command::Subscribe {
            id: None,
            channel: channel("room:42"),
            since: Some(position(18)),
            latest: false,
            presence: None,
        },
    );
    check_command(
        r#"{"type":"subscribe","channel":"room:42","latest":true}"#,
        Command::Subscribe {
            id: None,
            channel: channel("room:42"),
            since: None,
            latest: true,
            presence: None,
        },
    );
    check_command(
        r#"{"type":"unsubscribe","id":5,"channel":"room:42"}"#,
        Command::Unsubscribe {
            id: Some(5),
            channel: channel("room:42"),
        },
    );
    check_command(
        r#"{"type":"history","id":4,"channel":"room:42","since":"pAQIDBAUGBwjerb7vEg","limit":50}"#,
        Command::History {
            id: Some(4),
            channel: channel("room:42"),
            range: Range::After(position(18)),
            limit: Some(50),
        },
    );
    let history = |range| Command::History {
        id: None,
        channel: channel("room:42"),
        range,
        limit: None,
    };
    check_command(
        r#"{"type":"history","channel":"room:42"}"#,
        history(Range::Newest),
    );
    check_command(
        r#"{"type":"history","channel":"room:42","before":"pAQIDBAUGBwjerb7vEg"}"#,
        history(Range::Before(position(18))),
    );
    check_command(
        r#"{"type":"history","channel":"room:42","latest":true}"#,
        history(Range::Latest { after: None }),
    );
    check_command(
        r#"{"type":"history","channel":"room:42","since":"pAQIDBAUGBwjerb7vEg","latest":true}"#,
        history(Range::Latest {
            after: Some(position(18)),
        }),
    );
    for also in [r#""since":"pAQIDBAUGBwjerb7vEg""#, r#""latest":true"#] {
        let both = format!(
            r#"{{"type":"history","id":4,"channel":"room:42","before":"pAQIDBAUGBwjerb7vEg",{also}}}"#
        );
        check_rejected(&both, Some(4), ErrorCode::BadRequest);
    }
    check_command(
        r#" {"type":"ping","later":[{"x":1}]} "#,
        Command::Ping { id: None },
    );
    check_command(
        r#"{"type":"publish","id":3,"channel":"room:42","data":{"text":"yo"},"key":"c1-77"}"#,
        Command::Publish {
            id: Some(3),
            channel: channel("room:42"),
            payload: Payload::json(r#"{"text":"yo"}"#).unwrap(),
            key: Key::parse("c1-77"),
            conflate: None,
        },
    );
    check_command(
        r#"{"type":"publish","id":3,"channel":"room:42","data":{"text":"yo"},"conflate":"EURUSD"}"#,
        Command::Publish {
            id: Some(3),
            channel: channel("room:42"),
            payload: Payload::json(r#"{"text":"yo"}"#).unwrap(),
            key: None,
            conflate: Key::parse("EURUSD"),
        },
    );
}

#[test]
fn payloads_of_every_kind() {
    let with = |data: &str| format!(r#"{{"type":"publish","id":3,"channel":"room:42",{data}}}"#);
    check_command(
        &with(r#""data":"h\u0069 \ud83d\ude00""#),
        publish(Payload::text("hi 😀")),
    );
    check_command(&with(r#""data":"""#), publish(Payload::text("")));
    check_command(&with(r#""data":null"#), publish(Payload::json("null").unwrap()));
    check_command(&with(r#""data":17"#), publish(Payload::json("17").unwrap()));
    check_command(
        &with(r#""data":[1,-2,2.5,true,{"a":{}}]"#),
        publish(Payload::json(r#"[1,-2,2.5,true,{"a":{}}]"#).unwrap()),
    );
    check_command(
        &with(r#""data_base64":"AAH/""#),
        publish(Payload::bytes(vec![0, 1, 255])),
    );
}

#[test]
fn what_is_not_a_command() {
    use ErrorCode::*;
    check_rejected("null", None, BadRequest);
    check_rejected("[]", None, BadRequest);
    check_rejected(r#"["ping"]"#, None, BadRequest);
    check_rejected("17", None, BadRequest);
    check_rejected(r#""ping""#, None, BadRequest);
    check_rejected("", None, BadRequest);
    check_rejected("{}", None, BadRequest);
    check_rejected(r#"{"type":"ping"} x"#, None, BadRequest);
    check_rejected(r#"{"type":"fly","id":9}"#, Some(9), BadRequest);
    check_rejected(r#"{"type":"ping","type":"ping"}"#, None, BadRequest);
    check_rejected(r#"{"type":"ping","id":-1}"#, None, BadRequest);
    check_rejected(r#"{"type":"ping","id":9007199254740992}"#, None, BadRequest);
    check_rejected(r#"{"type":"subscribe","id":1}"#, Some(1), BadRequest);
    check_rejected(
        r#"{"type":"subscribe","id":1,"channel":"a b"}"#,
        Some(1),
        BadChannel,
    );
    check_rejected(
        r#"{"type":"subscribe","id":1,"channel":"a","since":"17"}"#,
        Some(1),
        BadPosition,
    );
    check_rejected(r#"{"type":"publish","id":1,"channel":"a"}"#, Some(1), BadRequest);
    check_rejected(
        r#"{"type":"publish","id":1,"channel":"a","data":1,"data_base64":"AA=="}"#,
        Some(1),
        BadRequest,
    );
    check_rejected(
        r#"{"type":"publish","id":1,"channel":"a","data":1,"key":""}"#,
        Some(1),
        BadRequest,
    );
    check_rejected(
        r#"{"type":"publish","id":1,"channel":"a","data_base64":"*"}"#,
        Some(1),
        BadPayload,
    );
    check_rejected(&"[".repeat(10_000), None, TooComplex);
    let deep = format!(
        r#"{{"type":"ping","x":{}1{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    check_rejected(&deep, None, TooComplex);
    let json = DialectId::Json.dialect();
    assert_eq!(
        json.decode(Inbound::Binary(b"{}"), None).unwrap_err().code,
        BadRequest
    );
}

#[test]
fn what_is_not_a_command_in_messagepack() {
    let code = |bytes: &[u8]| decode_msgpack(bytes).unwrap_err().code;
    assert_eq!(code(b""), ErrorCode::BadRequest);
    assert_eq!(code(&[0xc0]), ErrorCode::BadRequest, "nil");
    assert_eq!(
        code(&[0x91, 0xa4, b'p', b'i', b'n', b'g']),
        ErrorCode::BadRequest,
        "an array"
    );
    assert_eq!(
        code(b"\x81\xa4type\xa4ping\xc0"),
        ErrorCode::BadRequest,
        "something behind the map"
    );
    assert_eq!(
        code(b"\xdf\xff\xff\xff\xff\xa4type\xdb\xff\xff\xff\xff"),
        ErrorCode::BadRequest,
        "huge lengths"
    );
    let mut deep = b"\x82\xa4type\xa4ping\xa1x".to_vec();
    deep.extend([0x91; 10_000]);
    assert_eq!(code(&deep), ErrorCode::TooComplex);
}

#[test]
fn the_id_is_told_whatever_stands_before_it_in_messagepack() {
    let x = |bytes: usize| vec![b'x'; bytes];
    for (header, content) in [
        (&b"\x05"[..], x(0)),
        (b"\xff", x(0)),
        (b"\xc0", x(0)),
        (b"\xc2", x(0)),
        (b"\xc3", x(0)),
        (b"\xcc", x(1)),
        (b"\xcd", x(2)),
        (b"\xce", x(4)),
        (b"\xcf", x(8)),
        (b"\xd0", x(1)),
        (b"\xd1", x(2)),
        (b"\xd2", x(4)),
        (b"\xd3", x(8)),
        (b"\xca", x(4)),
        (b"\xcb", x(8)),
        (b"\xa2", x(2)),
        (b"\xd9\x02", x(2)),
        (b"\xda\x01\x02", x(258)),
        (b"\xdb\x00\x01\x00\x02", x(65_538)),
        (b"\xc4\x02", x(2)),
        (b"\xc5\x01\x02", x(258)),
        (b"\xc6\x00\x01\x00\x02", x(65_538)),
        (b"\xd4", x(2)),
        (b"\xd5", x(3)),
        (b"\xd6", x(5)),
        (b"\xd7", x(9)),
        (b"\xd8", x(17)),
        (b"\xc7\x02", x(3)),
        (b"\xc8\x01\x02", x(259)),
        (b"\xc9\x00\x01\x00\x02", x(65_539)),
        // Of these each byte is a small integer.
        (b"\x92", x(2)),
        (b"\xdc\x01\x02", x(258)),
        (b"\xdd\x00\x01\x00\x02", x(65_538)),
        (b"\x82", x(4)),
        (b"\xde\x01\x02", x(516)),
        (b"\xdf\x00\x01\x00\x02", x(131_076)),
    ] {
        let frame = [b"\x83\xa4type\x01\xa1x", header, &content, b"\xa2id\x07"].concat();
        let rejected = decode_msgpack(&frame).unwrap_err();
        assert_eq!(rejected.id, Some(7), "{header:x?}: {:?}", rejected.detail);
    }
}

#[test]
fn data_in_messagepack_is_what_json_can_say() {
    let with = |data: &[u8]| {
        [
            b"\x84\xa4type\xa7publish\xa2id\x03\xa7channel\xa7room:42\xa4data".as_slice(),
            data,
        ]
        .concat()
    };
    let payload = |data: &[u8]| match decode_msgpack(&with(data)) {
        Ok(Command::Publish { payload, .. }) => Ok(payload),
        Ok(other) => panic!("{other:?}"),
        Err(rejected) => Err((rejected.id, rejected.code)),
    };
    assert_eq!(payload(b"\xa2hi"), Ok(Payload::text("hi")));
    assert_eq!(payload(b"\xc4\x02\x00\xff"), Ok(Payload::bytes(vec![0, 255])));
    assert_eq!(
        payload(b"\x82\xa1a\x01\xa1b\x93\xc0\xc3\xcb\x40\x04\x00\x00\x00\x00\x00\x00"),
        Payload::json(r#"{"a":1,"b":[null,true,2.5]}"#).map_err(|_| unreachable!())
    );
    assert_eq!(payload(b"\x90"), Payload::json("[]").map_err(|_| unreachable!()));
    let bad = Err((Some(3), ErrorCode::BadPayload));
    assert_eq!(payload(b"\x91\xc4\x01\x00"), bad, "bytes inside a structure");
    assert_eq!(payload(b"\x81\x01\x02"), bad, "a key that is a number");
    assert_eq!(payload(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), bad, "NaN");
    assert_eq!(payload(b"\xd4\x01\x00"), bad, "an extension");
    let nested = |depth: usize| [vec![0x91; depth], vec![0x01]].concat();
    assert!(payload(&nested(31)).is_ok());
    assert_eq!(payload(&nested(32)), Err((Some(3), ErrorCode::TooComplex)));
}

fn entry(payload: Payload) -> Entry {
    Entry {
        position: position(18),
        previous: 17,
        at_ms: 1_732_170_000_123,
        from: Some(User::new("ben")),
        conflate: None,
        payload,
    }
}

fn check_event(event: &Event<'_>, expected: &str) {
    let mut out = Vec::new();
    assert_eq!(
        DialectId::Json.dialect().encode(event, &mut out),
        Some(MessageKind::Text)
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);

    let mut packed = Vec::new();
    assert_eq!(
        DialectId::Msgpack.dialect().encode(event, &mut packed),
        Some(MessageKind::Binary)
    );
    let mut rest = packed.as_slice();
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "one value and nothing behind it");
    let json: serde_json::Value = serde_json::from_str(expected).unwrap();
    assert_eq!(unpacked(&value), json, "the same fields in both notations");

    let notice = notice::decode(Inbound::Text(expected)).unwrap();
    assert_ne!(notice, Notice::Unknown);
    assert_eq!(
        notice::decode(Inbound::Binary(&packed)),
        Ok(notice),
        "clients read both alike"
    );
}

/// What a MessagePack value is in JSON, bytes as `base64:…`.
fn unpacked(value: &rmpv::Value) -> serde_json::Value {
    use rmpv::Value as Packed;
    use serde_json::Value as Json;
    match value {
        Packed::Nil => Json::Null,
        Packed::Boolean(value) => Json::Bool(*value),
        Packed::Integer(value) => match value.as_u64() {
            Some(value) => Json::from(value),
            None => Json::from(value.as_i64().unwrap()),
        },
        Packed::F64(value) => Json::from(*value),
        Packed::String(text) => Json::from(text.as_str().unwrap()),
        Packed::Array(items) => Json::Array(items.iter().map(unpacked).collect()),
        Packed::Map(fields) => Json::Object(
            fields
                .iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), unpacked(value)))
                .collect(),
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events() {
    let room = channel("room:42");
    let ana = User::new("ana");
    check_event(
        &Event::Welcome {
            id: Some(1),
            session: "s1",
            user: &ana,
            heartbeat: Duration::from_secs(25),
            resume: "r0",
        },
        r#"{"type":"welcome","id":1,"session":"s1","user":"ana","heartbeat_ms":25000,"resume":"r0"}"#,
    );
    check_event(
        &Event::Subscribed {
            id: Some(2),
            channel: &room,
            position: position(18),
            recovered: None,
        },
        r#"{"type":"subscribed","id":2,"channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg"}"#,
    );
    check_event(
        &Event::Subscribed {
            id: Some(2),
            channel: &room,
            position: position(18),
            recovered: Some(true),
        },
        r#"{"type":"subscribed","id":2,"channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg","recovered":true}"#,
    );
    check_event(
        &Event::Published {
            id: Some(3),
            position: position(18),
        },
        r#"{"type":"published","id":3,"offset":18,"position":"pAQIDBAUGBwjerb7vEg"}"#,
    );
    check_event(
        &Event::Message {
            channel: &room,
            entry: &entry(Payload::json(r#"{"text":"hi"}"#).unwrap()),
        },
        r#"{"type":"message","channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg","data":{"text":"hi"},"from":"ben","at":1732170000123}"#,
    );
    let gap = Gap {
        from: 12,
        to: 18,
        position: position(18),
    };
    check_event(
        &Event::Gap {
            channel: &room,
            gap,
            conflated: false,
        },
        r#"{"type":"gap","channel":"room:42","from":12,"to":18,"position":"pAQIDBAUGBwjerb7vEg"}"#,
    );
    check_event(
        &Event::Gap {
            channel: &room,
            gap,
            conflated: true,
        },
        r#"{"type":"gap","channel":"room:42","from":12,"to":18,"position":"pAQIDBAUGBwjerb7vEg","conflated":true}"#,
    );
    check_event(
        &Event::Message {
            channel: &room,
            entry: &Entry {
                conflate: Key::parse("EURUSD"),
                ..entry(Payload::text("1.08"))
            },
        },
        r#"{"type":"message","channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg","data":"1.08","from":"ben","conflate":"EURUSD","at":1732170000123}"#,
    );
    check_event(
        &Event::Reset {
            channel: &room,
            position: position(18),
        },
        r#"{"type":"reset","channel":"room:42","offset":18,"position":"pAQIDBAUGBwjerb7vEg"}"#,
    );
    let limited = Event::Error {
        id: Some(3),
        code: ErrorCode::RateLimited,
        message: "slow \"down\"",
        retry_after: Some(Duration::from_millis(400)),
    };
    check_event(
        &limited,
        r#"{"type":"error","id":3,"code":"rate_limited","message":"slow \"down\"","retry_after_ms":400}"#,
    );
    check_event(
        &Event::Goodbye {
            code: 1012,
            reason: "restarting",
            retry_after: Duration::from_millis(3100),
        },
        r#"{"type":"goodbye","code":1012,"reason":"restarting","retry_after_ms":3100}"#,
    );
    check_event(
        &Event::Unsubscribed {
            id: None,
            channel: &room,
        },
        r#"{"type":"unsubscribed","channel":"room:42"}"#,
    );
    check_event(&Event::Pong { id: Some(6) }, r#"{"type":"pong","id":6}"#);
}

#[test]
fn history_answers() {
    let room = channel("room:42");
    let entries = [
        Arc::new(entry(Payload::text("a"))),
        Arc::new(Entry {
            from: None,
            ..entry(Payload::text("b"))
        }),
    ];
    let page = |start, entries| HistoryPage {
        start,
        entries,
        position: position(18),
        more: true,
    };
    let messages = r#"[{"offset":18,"position":"pAQIDBAUGBwjerb7vEg","data":"a","from":"ben","at":1732170000123},{"offset":18,"position":"pAQIDBAUGBwjerb7vEg","data":"b","at":1732170000123}]"#;
    check_event(
        &Event::History {
            id: Some(4),
            channel: &room,
            page: page(HistoryStart::Continues, &entries),
        },
        &format!(
            r#"{{"type":"history","id":4,"channel":"room:42","messages":{messages},"position":"pAQIDBAUGBwjerb7vEg","more":true}}"#
        ),
    );
    check_event(
        &Event::History {
            id: None,
            channel: &room,
            page: page(HistoryStart::Gap { from: 2, to: 9 }, &entries),
        },
        &format!(
            r#"{{"type":"history","channel":"room:42","gap":{{"from":2,"to":9}},"messages":{messages},"position":"pAQIDBAUGBwjerb7vEg","more":true}}"#
        ),
    );
    check_event(
        &Event::History {
            id: None,
            channel: &room,
            page: page(HistoryStart::Reset, &[]),
        },
        r#"{"type":"history","channel":"room:42","reset":true,"messages":[],"position":"pAQIDBAUGBwjerb7vEg","more":true}"#,
    );
}

#[test]
fn every_kind_of_payload_reaches_every_kind_of_client() {
    let room = channel("room:42");
    let data = |id: DialectId, payload: &Payload| {
        let mut out = Vec::new();
        let entry = entry(payload.clone());
        let kind = id
            .dialect()
            .encode(
                &Event::Message {
                    channel: &room,
                    entry: &entry,
                },
                &mut out,
            )
            .unwrap();
        (kind, out)
    };
    let raw = |payload: &Payload| data(DialectId::Raw, payload);
    let json = |payload: &Payload| {
        let (_, out) = data(DialectId::Json, payload);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        (value.get("data").cloned(), value.get("data_base64").cloned())
    };

    let text = Payload::from_raw_text("hi \"there\"");
    assert_eq!(raw(&text), (MessageKind::Text, b"hi \"there\"".to_vec()));
    assert_eq!(
        json(&text),
        (Some("hi \"there\"".into()), None),
        "text reaches JSON clients as a string"
    );

    let string = Payload::json(r#""bare""#).unwrap();
    assert_eq!(
        raw(&string),
        (MessageKind::Text, b"bare".to_vec()),
        "a JSON string reaches raw clients bare"
    );

    let number = Payload::json("17").unwrap();
    assert_eq!(
        raw(&number),
        (MessageKind::Text, b"17".to_vec()),
        "other JSON as its text"
    );

    let bytes = Payload::bytes(vec![0, 1, 255]);
    assert_eq!(raw(&bytes), (MessageKind::Binary, vec![0, 1, 255]));
    assert_eq!(json(&bytes), (None, Some("AAH/".into())));
    let (_, packed) = data(DialectId::Msgpack, &bytes);
    assert!(
        packed.windows(8).any(|window| window == b"data\xc4\x03\x00\x01"),
        "bin in MessagePack"
    );
}

#[test]
fn raw_frames_are_publishes_to_the_channel_of_the_url() {
    let room = channel("room:42");
    let raw = DialectId::Raw.dialect();
    let payload = |message| match raw.decode(message, Some(&room)) {
        Ok(Command::Publish {
            id: None,
            channel,
            payload,
            key: None,
            conflate: None,
        }) if channel == room => payload,
        other => panic!("{other:?}"),
    };
    assert_eq!(payload(Inbound::Text(r#"{"a":1}"#)).kind(), PayloadKind::Json);
    assert_eq!(payload(Inbound::Text("17")).kind(), PayloadKind::Text);
    assert_eq!(payload(Inbound::Binary(&[1])), Payload::bytes(vec![1]));
    let mut out = Vec::new();
    assert_eq!(raw.encode(&Event::Pong { id: None }, &mut out), None);
    assert!(out.is_empty());
    assert!(!raw.says_gaps());
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e300..1e300f64).prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..20)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Runs of plain characters, of every length around that of a vector register, and between them what is written with an escape.
fn text() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        Just("\""),
        Just("\\"),
        Just("\n"),
        Just("\0"),
        Just("\u{1f}"),
        Just("\u{7f}"),
        Just("é"),
        Just("")
    ];
    prop::collection::vec((0_usize..150, special), 0..4).prop_map(|parts| {
        let part = |(plain, special)| "x".repeat(plain) + special;
        parts.into_iter().map(part).collect()
    })
}

proptest! {
    #[test]
    fn any_text_survives_the_json_notation(text in text()) {
        let mut written = Vec::new();
        json::encode_command(&publish(Payload::text(text.as_str())), &mut written);
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        prop_assert_eq!(value["data"].as_str(), Some(text.as_str()));
        let decoded = decode_json(std::str::from_utf8(&written).unwrap());
        prop_assert_eq!(decoded, Ok(publish(Payload::text(text.as_str()))));
        let escaped = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(Payload::json(&escaped), Ok(Payload::text(text.as_str())));
        // As it must not be written.
        let bare = format!("\"{text}\"");
        let is_text = serde_json::from_str::<String>(&bare).ok();
        prop_assert_eq!(Payload::json(&bare).ok(), is_text.map(Payload::text));
    }

    #[test]
    fn json_crosses_messagepack_unchanged(value in json_value()) {
        let command = publish(Payload::json(&value.to_string()).unwrap());
        let mut packed = Vec::new();
        msgpack::encode_command(&command, &mut packed);
        let Ok(Command::Publish { payload, .. }) = decode_msgpack(&packed) else { panic!() };
        match value.as_str() {
            Some(text) => prop_assert_eq!(payload.as_str(), Some(text)),
            None => prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(payload.as_bytes()).unwrap(), value),
        }
    }

    #[test]
    fn any_json_value_survives_the_json_notation(value in json_value(), id in 0u64..1 << 53) {
        let command = Command::Publish { id: Some(id), channel: channel("c"), payload: Payload::json(&value.to_string()).unwrap(), key: None, conflate: Key::parse("k") };
        let mut text = Vec::new();
        json::encode_command(&command, &mut text);
        prop_assert_eq!(decode_json(std::str::from_utf8(&text).unwrap()), Ok(command));
    }

    #[test]
    fn any_message_gets_a_verdict(bytes: Vec<u8>, text: String) {
        let room = channel("room:42");
        for id in DialectId::ALL {
            let _verdict = id.dialect().decode(Inbound::Binary(&bytes), Some(&room));
            let _verdict = id.dialect().decode(Inbound::Text(&text), Some(&room));
        }
    }
}

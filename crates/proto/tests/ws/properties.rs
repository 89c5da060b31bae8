//! What holds for any bytes, any messages and any pieces they arrive in.

use proptest::prelude::*;
use proptest::sample::select;
use switchboard_proto::ws::deflate::{Agreed, Contexts};
use switchboard_proto::ws::{Connection, Limits, MaskKeys, MessageKind, Role, Sent};

use crate::support::*;

/// Small, so that random messages reach it.
const LIMITS: Limits = Limits {
    message_bytes_max: 300,
    inflate_ratio_max: 10,
};

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Server, Role::Client])
}

fn agreement() -> impl Strategy<Value = Option<Agreed>> {
    proptest::option::of((any::<bool>(), any::<bool>(), 8..=15_u8, 8..=15_u8).prop_map(
        |(server, client, server_bits, client_bits)| Agreed {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        },
    ))
}

fn connection(role: Role, limits: Limits, agreed: Option<Agreed>) -> Connection {
    match role {
        Role::Server => Connection::server(limits, agreed),
        Role::Client => Connection::client(limits, agreed, MaskKeys::from_seed([9; 32])),
    }
}

fn encode(to: Role, frames: &[Frame]) -> Vec<u8> {
    match to {
        Role::Server => masked(frames),
        Role::Client => unmasked(frames),
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "\\PC{0,40}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 100..400_usize).prop_map(|(byte, length)| vec![byte; length]),
        1 => ("\\PC{0,40}", 1..4_usize).prop_map(|(text, cut)| {
            let bytes = text.into_bytes();
            bytes[..bytes.len().saturating_sub(cut)].to_vec()
        }),
        1 => select(vec![999, 1000, 1005, 4000_u16]).prop_map(|code| code.to_be_bytes().to_vec()),
    ]
}

/// A frame that is more often right than wrong, so that sequences get somewhere.
fn any_frame() -> impl Strategy<Value = Frame> {
    let opcode = prop_oneof![
        8 => select(vec![TEXT, BINARY, CONTINUATION, CONTINUATION, PING, PONG]),
        1 => 0..16_u8,
    ];
    let rsv = prop_oneof![20 => Just(0), 1 => 0..8_u8];
    (opcode, rsv, any::<bool>(), any::<bool>(), payload()).prop_map(|(opcode, rsv, fin, deflate, payload)| {
        let fin = fin || opcode >= CLOSE;
        let data = frame(opcode, payload);
        let data = if fin { data } else { data.not_fin() };
        if deflate && rsv == 0 && fin && (opcode == TEXT || opcode == BINARY) {
            let mut compressed = Vec::new();
            Contexts::new(6).compress(15, &data.payload, &mut compressed);
            return Frame {
                payload: compressed,
                ..data
            }
            .rsv(4);
        }
        data.rsv(rsv)
    })
}

/// Frames, perhaps with one byte changed, or just bytes.
fn stream(to: Role) -> impl Strategy<Value = Vec<u8>> {
    let frames = proptest::collection::vec(any_frame(), 0..8);
    let frames = frames.prop_map(move |frames| encode(to, &frames)).boxed();
    prop_oneof![
        4 => frames.clone(),
        2 => (frames, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// `bytes` in pieces of these lengths, over and over.
fn pieces<'b>(bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), proptest::collection::vec(1..30_usize, 1..10)]
}

/// A message as the fragments of these lengths, a Ping behind each but the last.
fn fragments(kind: MessageKind, payload: &[u8], lengths: &[usize]) -> (Vec<Frame>, Vec<Event>) {
    let first = if kind == MessageKind::Text { TEXT } else { BINARY };
    let mut parts = pieces(payload, lengths);
    let last = parts.pop().unwrap_or_default();
    let mut frames = Vec::new();
    let mut events = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        frames.push(frame(if at == 0 { first } else { CONTINUATION }, part).not_fin());
        frames.push(frame(PING, part));
        events.push(Event::Ping(part.to_vec()));
    }
    frames.push(frame(if parts.is_empty() { first } else { CONTINUATION }, last));
    events.push(event(kind, payload));
    (frames, events)
}

fn event(kind: MessageKind, payload: &[u8]) -> Event {
    match kind {
        MessageKind::Text => text(std::str::from_utf8(payload).expect("generated as a text")),
        MessageKind::Binary => Event::Binary(payload.to_vec()),
    }
}

fn message() -> impl Strategy<Value = (MessageKind, Vec<u8>)> {
    prop_oneof![
        ".{0,300}".prop_map(|text| (MessageKind::Text, text.into_bytes())),
        ("\\PC{1,5}", 0..200_usize)
            .prop_map(|(text, times)| (MessageKind::Text, text.repeat(times).into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..1000).prop_map(|bytes| (MessageKind::Binary, bytes)),
    ]
}

proptest! {
    #[test]
    fn any_split_of_any_bytes_gives_the_same_events(
        (role, bytes) in role().prop_flat_map(|role| (Just(role), stream(role))),
        agreed in agreement(),
        lengths in lengths(),
        closing: bool,
    ) {
        let begin = || {
            let mut connection = connection(role, LIMITS, agreed);
            if closing {
                let sent = connection.close(code(1000), "", &mut Vec::new());
                assert_eq!(sent, Sent::Appended);
            }
            connection
        };
        let (mut at_once, mut in_pieces) = (begin(), begin());
        let events = feed(&mut at_once, [bytes.as_slice()]);
        prop_assert_eq!(feed(&mut in_pieces, pieces(&bytes, &lengths)), events);
        prop_assert_eq!(in_pieces.state(), at_once.state());
        prop_assert_eq!(in_pieces.message_is_unfinished(), at_once.message_is_unfinished());
    }

    #[test]
    fn no_bytes_break_it_or_make_it_hold_more_than_one_message(
        role in role(),
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        agreed in agreement(),
        lengths in lengths(),
        message_bytes_max in prop_oneof![0..200_usize, Just(usize::MAX)],
    ) {
        let limits = Limits { message_bytes_max, inflate_ratio_max: 0 };
        let mut connection = connection(role, limits, agreed);
        for piece in pieces(&bytes, &lengths) {
            feed(&mut connection, [piece]);
            let most = message_bytes_max.min(2 * bytes.len());
            prop_assert!(connection.unfinished_bytes() <= most + 512);
        }
    }

    #[test]
    fn what_one_end_sends_the_other_receives(
        to in role(),
        messages in proptest::collection::vec(message(), 1..6),
        agreed in agreement(),
        lengths in lengths(),
    ) {
        let from = if to == Role::Server { Role::Client } else { Role::Server };
        let mut sender = connection(from, Limits::default(), agreed);
        let mut receiver = connection(to, Limits::default(), agreed);
        let mut contexts = Contexts::new(6);
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (kind, payload) in &messages {
            prop_assert_eq!(sender.send(*kind, payload, &mut contexts, &mut sent), Sent::Appended);
            prop_assert_eq!(sender.ping(b"ping", &mut sent), Sent::Appended);
            expected.extend([event(*kind, payload), Event::Ping(b"ping".to_vec())]);
        }
        prop_assert_eq!(sender.close(code(1000), "done", &mut sent), Sent::Appended);
        expected.push(Event::Close(Some((1000, "done".to_owned()))));
        prop_assert_eq!(feed(&mut receiver, pieces(&sent, &lengths)), expected);
    }

    #[test]
    fn any_fragmentation_with_pings_between_gives_the_message(
        to in role(),
        messages in proptest::collection::vec((message(), lengths()), 1..4),
        lengths in lengths(),
    ) {
        let (mut frames, mut expected) = (Vec::new(), Vec::new());
        for ((kind, payload), lengths) in &messages {
            let (more_frames, more_events) = fragments(*kind, payload, lengths);
            frames.extend(more_frames);
            expected.extend(more_events);
        }
        let bytes = encode(to, &frames);
        let mut receiver = connection(to, Limits::default(), None);
        prop_assert_eq!(feed(&mut receiver, pieces(&bytes, &lengths)), expected);
        prop_assert_eq!(receiver.unfinished_bytes(), 0);
    }
}

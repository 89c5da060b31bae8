//! permessage-deflate as it shows in frames.

use switchboard_proto::ws::deflate::{Agreed, Contexts};
use switchboard_proto::ws::error::PeerMisbehaved::{self, *};
use switchboard_proto::ws::{Connection, Limits, MaskKeys, MessageKind, Sent, encode_shared};

use crate::support::*;

const ALONE: Agreed = Agreed {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};
const TAKEOVER: Agreed = Agreed {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    ..ALONE
};

const RSV1: u8 = 4;

fn server_with(agreed: Agreed) -> Connection {
    Connection::server(Limits::default(), Some(agreed))
}

fn client_with(agreed: Agreed) -> Connection {
    Connection::client(Limits::default(), Some(agreed), MaskKeys::from_seed([3; 32]))
}

fn send(connection: &mut Connection, kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    assert_eq!(
        connection.send(kind, payload, &mut Contexts::new(6), &mut sent),
        Sent::Appended
    );
    sent
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Contexts::new(9).compress(15, payload, &mut out);
    out
}

fn chat_line(number: usize) -> String {
    let words = "and so it went on, with many a word that had been said before";
    format!(
        r#"{{"channel":"room:42","offset":{number},"data":{{"text":"{words} {words} {words} {words}"}},"from":"ana"}}"#
    )
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let whole = [&[0xc1, 0x07], hello.as_slice()].concat();
    assert_eq!(feed(&mut client_with(ALONE), [whole.as_slice()]), [text("Hello")]);
    let fragments = [&[0x41, 0x03], &hello[..3], &[0x80, 0x04], &hello[3..]].concat();
    assert_eq!(
        feed(&mut client_with(ALONE), [fragments.as_slice()]),
        [text("Hello")]
    );
    let sharing_the_window = [whole.as_slice(), &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    assert_eq!(
        feed(&mut client_with(TAKEOVER), [sharing_the_window.as_slice()]),
        [text("Hello"), text("Hello")]
    );
    let block_without_compression = [
        0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    assert_eq!(
        feed(&mut client_with(ALONE), [block_without_compression.as_slice()]),
        [text("Hello")]
    );
}

#[test]
fn messages_go_compressed_both_ways_in_every_agreement() {
    for bits in 0..16_u8 {
        let agreed = Agreed {
            server_no_context_takeover: bits & 1 != 0,
            client_no_context_takeover: bits & 2 != 0,
            server_max_window_bits: if bits & 4 != 0 { 9 } else { 15 },
            client_max_window_bits: if bits & 8 != 0 { 9 } else { 15 },
        };
        let (mut client, mut server) = (client_with(agreed), server_with(agreed));
        for number in 0..20 {
            let line = chat_line(number);
            exchange(&mut client, &mut server, &line);
            exchange(&mut server, &mut client, &line);
        }
    }
}

fn exchange(sender: &mut Connection, receiver: &mut Connection, line: &str) {
    let sent = send(sender, MessageKind::Text, line.as_bytes());
    assert_eq!(sent[0], 0xc1, "RSV1 is set");
    assert!(sent.len() < line.len());
    assert_eq!(feed(receiver, sent.chunks(50)), [text(line)]);
}

#[test]
#[cfg_attr(miri, ignore = "a megabyte takes minutes")]
fn a_client_compresses_nothing_so_far_that_a_server_takes_it_for_a_bomb() {
    let limits = Limits {
        message_bytes_max: 1 << 20,
        ..Limits::default()
    };
    for length in [1_000, 64 * 1024, 64 * 1024 + 1, 500_000] {
        let blanks = " ".repeat(length);
        let sent = send(&mut client_with(ALONE), MessageKind::Text, blanks.as_bytes());
        assert_eq!(sent[0] & 0x40 != 0, length <= 64 * 1024, "{length}");
        let mut server = Connection::server(limits, Some(ALONE));
        assert_eq!(feed(&mut server, [sent.as_slice()]), [text(&blanks)]);
    }
    let blanks = send(
        &mut server_with(ALONE),
        MessageKind::Text,
        " ".repeat(500_000).as_bytes(),
    );
    assert!(blanks.len() < 1_000, "for clients there is no such limit");
}

#[test]
fn who_keeps_the_context_says_a_repeated_message_in_a_few_bytes() {
    let line = chat_line(1);
    let mut server = server_with(TAKEOVER);
    let first = send(&mut server, MessageKind::Text, line.as_bytes()).len();
    let second = send(&mut server, MessageKind::Text, line.as_bytes()).len();
    assert!(second < first / 4, "first {first} bytes, then {second}");

    let mut server = server_with(ALONE);
    let first = send(&mut server, MessageKind::Text, line.as_bytes());
    assert_eq!(send(&mut server, MessageKind::Text, line.as_bytes()), first);
}

#[test]
fn what_would_not_gain_goes_as_it_is() {
    let short = "hello ".repeat(10);
    for agreed in [ALONE, TAKEOVER] {
        let plain = frame(TEXT, &short).unmasked();
        assert_eq!(
            send(&mut server_with(agreed), MessageKind::Text, short.as_bytes()),
            plain
        );
    }
    // Bytes of a masking key stream have no pattern.
    let mut keys = MaskKeys::from_seed([1; 32]);
    let noise: Vec<u8> = (0..250).flat_map(|_| keys.draw()).collect();
    let plain = frame(BINARY, &noise).unmasked();
    assert_eq!(send(&mut server_with(ALONE), MessageKind::Binary, &noise), plain);
}

#[test]
fn uncompressed_messages_are_understood_between_compressed_ones() {
    let line = chat_line(7);
    for agreed in [ALONE, TAKEOVER] {
        let mut server = server_with(agreed);
        let bytes = masked(&[
            frame(TEXT, deflated(line.as_bytes())).rsv(RSV1),
            frame(TEXT, "plain"),
            frame(BINARY, ""),
            frame(TEXT, deflated(line.as_bytes())).rsv(RSV1),
        ]);
        let expected = [text(&line), text("plain"), Event::Binary(vec![]), text(&line)];
        assert_eq!(feed(&mut server, [bytes.as_slice()]), expected);
        assert_eq!(server.unfinished_bytes(), 0);
    }
}

#[test]
fn a_compressed_message_comes_in_fragments_with_pings_between() {
    let line = chat_line(9);
    let payload = deflated(line.as_bytes());
    let frames = [
        frame(TEXT, "").rsv(RSV1).not_fin(),
        frame(CONTINUATION, &payload[..10]).not_fin(),
        frame(PING, "?"),
        frame(CONTINUATION, &payload[10..]).not_fin(),
        frame(CONTINUATION, ""),
        frame(TEXT, "next"),
    ];
    let bytes = masked(&frames);
    for piece_bytes in [1, 13, bytes.len()] {
        let events = feed(&mut server_with(ALONE), bytes.chunks(piece_bytes));
        assert_eq!(events, [Event::Ping(b"?".to_vec()), text(&line), text("next")]);
    }
}

#[test]
fn an_empty_message_may_be_compressed() {
    for payload in [&[0x00][..], &[0x02, 0x00], &[]] {
        let bytes = frame(TEXT, payload).rsv(RSV1).masked();
        assert_eq!(feed(&mut server_with(ALONE), [bytes.as_slice()]), [text("")]);
    }
}

/// The last frame is the one that breaks the rule.
fn check(limits: Limits, frames: &[Frame], misdeed: PeerMisbehaved, close_code: u16) {
    let bytes = masked(frames);
    for pieces in [vec![bytes.as_slice()], bytes.chunks(1000).collect()] {
        let mut server = Connection::server(limits, Some(ALONE));
        assert_eq!(feed(&mut server, pieces), [Event::Misdeed(misdeed)]);
    }
    assert_eq!(misdeed.close_code(), code(close_code));
}

#[test]
fn rsv1_is_1002_on_continuations_and_control_frames() {
    let limits = Limits::default();
    let begun = frame(TEXT, "begun").not_fin();
    check(
        limits,
        &[begun, frame(CONTINUATION, "x").rsv(RSV1)],
        CompressedContinuation,
        1002,
    );
    check(
        limits,
        &[frame(CONTINUATION, "x").rsv(RSV1)],
        CompressedContinuation,
        1002,
    );
    for opcode in [PING, PONG, CLOSE] {
        check(limits, &[frame(opcode, "").rsv(RSV1)], CompressedControl, 1002);
    }
    for rsv in [1, 2, 3, 5, 6, 7] {
        check(limits, &[frame(TEXT, "").rsv(rsv)], ReservedBits, 1002);
    }
}

#[test]
fn a_message_too_long_after_inflating_is_1009() {
    let limits = Limits::default();
    let just_fits = vec![b' '; limits.message_bytes_max];
    let bytes = frame(TEXT, deflated(&just_fits)).rsv(RSV1).masked();
    let mut server = Connection::server(limits, Some(ALONE));
    assert_eq!(feed(&mut server, [bytes.as_slice()]).len(), 1);
    let too_long = vec![b' '; limits.message_bytes_max + 1];
    check(
        limits,
        &[frame(TEXT, deflated(&too_long)).rsv(RSV1)],
        InflatedTooLong,
        1009,
    );
}

#[test]
#[cfg_attr(miri, ignore = "50 MiB take hours")]
fn an_inflate_bomb_is_1009() {
    let limits = Limits {
        message_bytes_max: 1 << 30,
        ..Limits::default()
    };
    let bomb = deflated(&vec![0; 50 << 20]);
    assert!(bomb.len() < 60_000);
    check(limits, &[frame(BINARY, &bomb).rsv(RSV1)], InflateRatio, 1009);
    let (front, back) = bomb.split_at(20_000);
    let fragments = [
        frame(BINARY, front).rsv(RSV1).not_fin(),
        frame(CONTINUATION, back),
    ];
    check(limits, &fragments, InflateRatio, 1009);
}

#[test]
fn a_message_too_long_before_inflating_is_1009() {
    let limits = Limits {
        message_bytes_max: 1000,
        ..Limits::default()
    };
    check(
        limits,
        &[frame(BINARY, vec![0; 1001]).rsv(RSV1)],
        MessageTooLong,
        1009,
    );
    let fragments = [
        frame(BINARY, vec![0; 600]).rsv(RSV1).not_fin(),
        frame(CONTINUATION, vec![0; 600]),
    ];
    check(limits, &fragments, MessageTooLong, 1009);
}

#[test]
fn a_text_that_is_not_utf8_after_inflating_is_1007() {
    check(
        Limits::default(),
        &[frame(TEXT, deflated(b"caf\xe9")).rsv(RSV1)],
        TextNotUtf8,
        1007,
    );
    // All ASCII as long as it is compressed: one literal, 0x80, in a block with the fixed codes.
    check(
        Limits::default(),
        &[frame(TEXT, b"j\x00\x00").rsv(RSV1)],
        TextNotUtf8,
        1007,
    );
    // While it is compressed, a text is any bytes.
    let bytes = frame(TEXT, deflated("café".as_bytes()))
        .rsv(RSV1)
        .not_fin()
        .masked();
    assert_eq!(feed(&mut server_with(ALONE), bytes.chunks(1)), []);
}

#[test]
fn what_is_no_deflate_stream_is_1007() {
    for payload in [
        &b"\xff\xff\xff"[..],
        b"\x07",
        &deflated(chat_line(0).as_bytes())[..20],
    ] {
        check(
            Limits::default(),
            &[frame(BINARY, payload).rsv(RSV1)],
            DeflateInvalid,
            1007,
        );
    }
}

#[test]
fn a_message_for_many_is_the_one_that_each_would_be_sent() {
    let window_of_9 = Agreed {
        server_max_window_bits: 9,
        ..ALONE
    };
    for agreed in [Some(ALONE), Some(window_of_9), None] {
        let mut server = Connection::server(Limits::default(), agreed);
        assert_eq!(
            server.shared_window_bits(),
            agreed.map(|agreed| agreed.server_max_window_bits)
        );
        for payload in ["short".to_owned(), chat_line(3)] {
            let mut shared = Vec::new();
            let bits = server.shared_window_bits();
            let text = MessageKind::Text;
            encode_shared(text, payload.as_bytes(), bits, &mut Contexts::new(6), &mut shared);
            assert_eq!(shared, send(&mut server, text, payload.as_bytes()));
        }
    }
    assert_eq!(server_with(TAKEOVER).shared_window_bits(), None);
    // What the peer keeps does not matter.
    let client_keeps = Agreed {
        client_no_context_takeover: false,
        ..ALONE
    };
    assert_eq!(server_with(client_keeps).shared_window_bits(), Some(15));
}

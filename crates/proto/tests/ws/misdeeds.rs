//! Every rule that a peer can break, and the answer it gets.

use switchboard_proto::ws::error::PeerMisbehaved::{self, *};
use switchboard_proto::ws::{Connection, Limits, State};

use crate::support::*;

/// A server that got these bytes reports nothing but the misdeed, as soon as the last of them is there.
fn check(bytes: &[u8], misdeed: PeerMisbehaved, close_code: u16) {
    check_after(&[], bytes, misdeed, close_code);
}

fn check_after(before: &[Frame], bytes: &[u8], misdeed: PeerMisbehaved, close_code: u16) {
    let mut connection = server();
    assert_eq!(feed(&mut connection, [masked(before).as_slice()]), []);
    assert_eq!(
        feed(&mut connection, [bytes]),
        [Event::Misdeed(misdeed)],
        "{bytes:x?}"
    );
    assert_eq!(connection.state(), State::Failed);
    assert_eq!(misdeed.close_code(), code(close_code));
}

#[test]
fn unmasked_client_frames_are_1002() {
    check(&frame(TEXT, "hello").unmasked(), FrameNotMasked, 1002);
    check(&frame(PING, "").unmasked(), FrameNotMasked, 1002);
    check(&frame(CLOSE, "").unmasked(), FrameNotMasked, 1002);
}

#[test]
fn reserved_bits_are_1002_at_the_first_byte() {
    for rsv in [1, 2, 3, 5, 6, 7] {
        for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
            check(&frame(opcode, "").rsv(rsv).masked()[..1], ReservedBits, 1002);
        }
    }
}

#[test]
fn reserved_opcodes_are_1002_at_the_first_byte() {
    for opcode in (3..=7).chain(11..=15) {
        check(&frame(opcode, "").masked()[..1], ReservedOpcode(opcode), 1002);
    }
}

#[test]
fn long_control_frames_are_1002_at_the_second_byte() {
    for opcode in [CLOSE, PING, PONG] {
        check(&frame(opcode, [b'x'; 126]).masked()[..2], ControlTooLong, 1002);
        check(&frame(opcode, [b'x'; 65_536]).masked()[..2], ControlTooLong, 1002);
    }
}

#[test]
fn fragmented_control_frames_are_1002_at_the_first_byte() {
    for opcode in [CLOSE, PING, PONG] {
        check(
            &frame(opcode, "").not_fin().masked()[..1],
            FragmentedControl,
            1002,
        );
    }
}

#[test]
fn stray_continuations_are_1002() {
    check(&frame(CONTINUATION, "").masked(), StrayContinuation, 1002);
    check(
        &frame(CONTINUATION, "").not_fin().masked(),
        StrayContinuation,
        1002,
    );
    let whole = masked(&[
        frame(TEXT, "a").not_fin(),
        frame(CONTINUATION, "b"),
        frame(CONTINUATION, "c"),
    ]);
    assert_eq!(
        server_receives(&whole),
        [text("ab"), Event::Misdeed(StrayContinuation)]
    );
}

#[test]
fn a_new_message_inside_a_fragmented_one_is_1002() {
    for opcode in [TEXT, BINARY] {
        check_after(
            &[frame(TEXT, "a").not_fin()],
            &frame(opcode, "b").masked(),
            MessageInsideMessage,
            1002,
        );
        check_after(
            &[frame(BINARY, "").not_fin()],
            &frame(opcode, "").masked(),
            MessageInsideMessage,
            1002,
        );
    }
}

#[test]
fn lengths_not_in_their_shortest_form_are_1002() {
    check(b"\x82\xfe\x00\x05", LengthNotMinimal, 1002);
    check(b"\x82\xfe\x00\x7d", LengthNotMinimal, 1002);
    check(
        b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05",
        LengthNotMinimal,
        1002,
    );
    check(
        b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff",
        LengthNotMinimal,
        1002,
    );
}

#[test]
fn a_declared_length_of_2_to_the_63_is_1002_before_the_mask_arrives() {
    check(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", LengthTopBit, 1002);
}

#[test]
fn a_declared_length_over_the_limit_is_1009_before_any_payload_arrives() {
    check(
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        MessageTooLong,
        1009,
    );
    check(
        b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01\0\0\0\0",
        MessageTooLong,
        1009,
    );
}

#[test]
fn a_message_of_just_the_limit_is_taken() {
    let limit = Limits::default().message_bytes_max;
    let whole = frame(BINARY, vec![7; limit]).masked();
    assert_eq!(server_receives(&whole), [Event::Binary(vec![7; limit])]);
}

#[test]
fn fragments_that_add_up_to_more_than_the_limit_are_1009() {
    let limit = Limits::default().message_bytes_max;
    let first = frame(BINARY, vec![7; limit]).not_fin();
    let more = frame(CONTINUATION, "x").masked();
    check_after(
        std::slice::from_ref(&first),
        &more[..more.len() - 1],
        MessageTooLong,
        1009,
    );
    let whole = masked(&[first, frame(CONTINUATION, "")]);
    assert_eq!(server_receives(&whole), [Event::Binary(vec![7; limit])]);
}

#[test]
fn rsv1_without_agreed_compression_is_1002() {
    for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
        check(&frame(opcode, "").rsv(4).masked(), CompressionNotAgreed, 1002);
    }
}

#[test]
fn a_one_byte_close_body_is_1002() {
    check(&frame(CLOSE, "\x03").masked(), CloseBodyTooShort, 1002);
}

#[test]
fn close_codes_that_must_not_be_sent_are_1002() {
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535] {
        check(&close(code, "bye").masked(), CloseCodeForbidden(code), 1002);
    }
}

#[test]
fn invalid_utf8_in_a_close_reason_is_1007_inside_the_unfinished_frame() {
    let reason = b"bye \xff and more";
    check(
        &close(1000, reason).masked()[..6 + 2 + 5],
        CloseReasonNotUtf8,
        1007,
    );
    check(
        &close(1005, "of no code").masked()[..6 + 2],
        CloseCodeForbidden(1005),
        1002,
    );
}

#[test]
fn invalid_utf8_in_a_text_is_1007_inside_the_unfinished_frame() {
    let long = frame(TEXT, [&b"fine \xff"[..], &[b'x'; 1000]].concat()).masked();
    check(&long[..8 + 6], TextNotUtf8, 1007);
}

#[test]
fn invalid_utf8_in_a_text_is_1007_in_an_unfinished_message() {
    check(&frame(TEXT, b"fine \xff").not_fin().masked(), TextNotUtf8, 1007);
    check_after(
        &[
            frame(TEXT, b"\xe2").not_fin(),
            frame(CONTINUATION, b"\x82").not_fin(),
        ],
        &frame(CONTINUATION, b"x").not_fin().masked(),
        TextNotUtf8,
        1007,
    );
}

#[test]
fn a_text_that_ends_inside_a_character_is_1007() {
    check(&frame(TEXT, b"\xe2\x82").masked(), TextNotUtf8, 1007);
    check_after(
        &[frame(TEXT, b"\xe2\x82").not_fin()],
        &frame(CONTINUATION, "").masked(),
        TextNotUtf8,
        1007,
    );
}

#[test]
fn binary_messages_may_hold_any_bytes() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(
        server_receives(&frame(BINARY, &bytes).masked()),
        [Event::Binary(bytes)]
    );
}

#[test]
fn nothing_is_interpreted_after_a_misdeed() {
    let bytes = masked(&[
        frame(TEXT, "before"),
        frame(TEXT, "bad").rsv(1),
        frame(TEXT, "after"),
        frame(3, "worse"),
        close(1000, ""),
    ]);
    let mut connection = server();
    assert_eq!(
        feed(&mut connection, [bytes.as_slice()]),
        [text("before"), Event::Misdeed(ReservedBits)]
    );
    assert_eq!(feed(&mut connection, [bytes.as_slice()]), []);
    assert_eq!(connection.unfinished_bytes(), 0);
}

#[test]
fn a_ping_between_fragments_does_not_reset_their_length() {
    let mut connection = Connection::server(
        Limits {
            message_bytes_max: 10,
            ..Limits::default()
        },
        None,
    );
    let frames = [
        frame(TEXT, "12345").not_fin(),
        frame(PING, "now"),
        frame(CONTINUATION, "123456"),
    ];
    let events = feed(&mut connection, masked(&frames).chunks(1));
    assert_eq!(
        events,
        [Event::Ping(b"now".to_vec()), Event::Misdeed(MessageTooLong)]
    );
}

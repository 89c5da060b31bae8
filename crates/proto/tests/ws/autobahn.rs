//! What the Autobahn test suite asks of an echoing server in its groups 1 to 7, by its case numbers.
//!
//! The suite sends some cases whole, some frame by frame, some octet by octet; here every case is sent in all three
//! ways. Where it takes either a Close or a dropped connection, we hold ourselves to the Close and its code.

use switchboard_proto::ws::{Connection, Limits};

use crate::support::*;

const LARGE: Limits = Limits {
    message_bytes_max: 16 << 20,
    inflate_ratio_max: 100,
};

/// A client sends `sent`; the echoing server answers with exactly `expected`.
fn check(case: &str, sent: &[Frame], expected: &[Frame]) {
    let bytes = masked(sent);
    let frames: Vec<Vec<u8>> = sent.iter().map(Frame::masked).collect();
    let ways: [(&str, Vec<&[u8]>); 4] = [
        ("whole", vec![&bytes]),
        ("by frame", frames.iter().map(Vec::as_slice).collect()),
        ("by octet", bytes.chunks(1).collect()),
        ("by 997 octets", bytes.chunks(997).collect()),
    ];
    for (way, pieces) in ways {
        let mut echo = Echo::new(Connection::server(LARGE, None));
        pieces.into_iter().for_each(|piece| echo.receive(piece));
        assert!(
            echo.sent == unmasked(expected),
            "case {case}, sent {way}: {:x?}",
            tail(&echo.sent)
        );
    }
}

fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(32)..]
}

fn fails(code: u16) -> Frame {
    close(code, "")
}

#[test]
fn group_1_framing() {
    for (number, length) in [0, 125, 126, 127, 128, 65_535, 65_536].into_iter().enumerate() {
        let number = number + 1;
        let text = frame(TEXT, "*".repeat(length));
        check(
            &format!("1.1.{number}"),
            std::slice::from_ref(&text),
            std::slice::from_ref(&text),
        );
        let binary = frame(BINARY, vec![0xfe; length]);
        check(
            &format!("1.2.{number}"),
            std::slice::from_ref(&binary),
            std::slice::from_ref(&binary),
        );
    }
}

#[test]
fn group_2_pings_and_pongs() {
    let payloads: [(&str, &[u8]); 4] = [
        ("2.1", b""),
        ("2.2", b"Hello, world!"),
        ("2.3", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        ("2.4", &[0xfe; 125]),
    ];
    for (case, payload) in payloads {
        check(case, &[frame(PING, payload)], &[frame(PONG, payload)]);
    }
    check("2.5", &[frame(PING, [0xfe; 126])], &[fails(1002)]);
    check("2.7", &[frame(PONG, "")], &[]);
    check("2.8", &[frame(PONG, "unsolicited pong payload")], &[]);
    check(
        "2.9",
        &[
            frame(PONG, "unsolicited pong payload"),
            frame(PING, "ping payload"),
        ],
        &[frame(PONG, "ping payload")],
    );
    let numbered = |opcode| {
        (0..10)
            .map(|at| frame(opcode, format!("payload-{at}")))
            .collect::<Vec<_>>()
    };
    check("2.10", &numbered(PING), &numbered(PONG));
}

#[test]
fn group_3_reserved_bits() {
    let text = || frame(TEXT, "Hello, world!");
    check("3.1", &[text().rsv(1)], &[fails(1002)]);
    check(
        "3.2",
        &[text(), text().rsv(2), frame(PING, "")],
        &[text(), fails(1002)],
    );
    check(
        "3.3",
        &[text(), text().rsv(3), frame(PING, "")],
        &[text(), fails(1002)],
    );
    check(
        "3.4",
        &[text(), text().rsv(4), frame(PING, "")],
        &[text(), fails(1002)],
    );
    check("3.5", &[frame(BINARY, [0, 0xff, 0xfe]).rsv(5)], &[fails(1002)]);
    check("3.6", &[frame(PING, "Hello, world!").rsv(6)], &[fails(1002)]);
    check("3.7", &[close(1000, "").rsv(7)], &[fails(1002)]);
}

#[test]
fn group_4_reserved_opcodes() {
    let text = || frame(TEXT, "Hello, world!");
    for (group, opcodes) in [(1, 3..=7_u8), (2, 11..=15)] {
        for (number, opcode) in opcodes.enumerate() {
            let case = format!("4.{group}.{}", number + 1);
            check(&case, &[frame(opcode, "")], &[fails(1002)]);
            check(&case, &[frame(opcode, "payload")], &[fails(1002)]);
            check(
                &case,
                &[text(), frame(opcode, "payload"), frame(PING, "")],
                &[text(), fails(1002)],
            );
        }
    }
}

#[test]
fn group_5_fragmentation() {
    let part = |opcode, payload: &str| frame(opcode, payload).not_fin();
    let last = |payload: &str| frame(CONTINUATION, payload);
    let ping = || frame(PING, "ping");
    let pong = || frame(PONG, "ping");

    check(
        "5.1",
        &[part(PING, "fragment1"), last("fragment2")],
        &[fails(1002)],
    );
    check(
        "5.2",
        &[part(PONG, "fragment1"), last("fragment2")],
        &[fails(1002)],
    );
    check(
        "5.3–5.5",
        &[part(TEXT, "fragment1"), last("fragment2")],
        &[frame(TEXT, "fragment1fragment2")],
    );
    check(
        "5.6–5.8",
        &[part(TEXT, "fragment1"), ping(), last("fragment2")],
        &[pong(), frame(TEXT, "fragment1fragment2")],
    );
    let hello = || frame(TEXT, "Hello, world!");
    check(
        "5.9–5.11",
        &[last("non-continuation payload"), hello()],
        &[fails(1002)],
    );
    check(
        "5.12–5.14",
        &[part(CONTINUATION, "non-continuation payload"), hello()],
        &[fails(1002)],
    );
    check(
        "5.15",
        &[
            part(TEXT, "fragment1"),
            last("fragment2"),
            part(CONTINUATION, "fragment3"),
            last("fragment4"),
        ],
        &[frame(TEXT, "fragment1fragment2"), fails(1002)],
    );
    let stray = |first: Frame| [first, part(TEXT, "fragment2"), last("fragment3")];
    check("5.16", &stray(part(CONTINUATION, "fragment1")), &[fails(1002)]);
    check("5.17", &stray(last("fragment1")), &[fails(1002)]);
    check(
        "5.18",
        &[part(TEXT, "fragment1"), frame(TEXT, "fragment2")],
        &[fails(1002)],
    );
    check(
        "5.19–5.20",
        &[
            part(TEXT, "fragment1"),
            part(CONTINUATION, "fragment2"),
            ping(),
            part(CONTINUATION, "fragment3"),
            part(CONTINUATION, "fragment4"),
            ping(),
            last("fragment5"),
        ],
        &[
            pong(),
            pong(),
            frame(TEXT, "fragment1fragment2fragment3fragment4fragment5"),
        ],
    );
}

/// The parts as the frames of one text message.
fn fragments<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Vec<Frame> {
    let parts: Vec<&[u8]> = parts.into_iter().collect();
    let fragment = |(at, part): (usize, &&[u8])| {
        let opcode = if at == 0 { TEXT } else { CONTINUATION };
        let fragment = frame(opcode, part);
        if at + 1 == parts.len() {
            fragment
        } else {
            fragment.not_fin()
        }
    };
    parts.iter().enumerate().map(fragment).collect()
}

#[test]
fn group_6_1_to_6_3_texts_in_fragments() {
    check("6.1.1", &[frame(TEXT, "")], &[frame(TEXT, "")]);
    check("6.1.2", &fragments([&b""[..], b"", b""]), &[frame(TEXT, "")]);
    check(
        "6.1.3",
        &fragments([&b""[..], b"middle frame payload", b""]),
        &[frame(TEXT, "middle frame payload")],
    );
    let valid = "Hello-µ@ßöäüàá-UTF-8!!";
    check("6.2.1", &[frame(TEXT, valid)], &[frame(TEXT, valid)]);
    let (front, back) = valid.split_at(valid.find('ö').unwrap());
    check(
        "6.2.2",
        &fragments([front.as_bytes(), back.as_bytes()]),
        &[frame(TEXT, valid)],
    );
    check(
        "6.2.3",
        &fragments(valid.as_bytes().chunks(1)),
        &[frame(TEXT, valid)],
    );
    check(
        "6.2.4",
        &fragments("κόσμε".as_bytes().chunks(1)),
        &[frame(TEXT, "κόσμε")],
    );
    let invalid = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    check("6.3.1", &[frame(TEXT, invalid)], &[fails(1007)]);
    check("6.3.2", &fragments(invalid.chunks(1)), &[fails(1007)]);
}

/// The server answers 1007 once `bytes` have arrived, and says nothing before their last one.
fn fails_fast(case: &str, bytes: &[u8]) {
    let mut echo = Echo::new(server());
    let (before, last) = bytes.split_at(bytes.len() - 1);
    echo.receive(before);
    assert_eq!(echo.sent, b"", "case {case}");
    echo.receive(last);
    assert_eq!(echo.sent, fails(1007).unmasked(), "case {case}");
}

#[test]
fn group_6_4_invalid_text_fails_at_its_first_bad_byte() {
    let valid = "κόσμε".as_bytes();
    // F4 90 begins what would be U+110000, so 90 is the first bad byte; 80 80 do not matter any more.
    let bad = b"\xf4\x90\x80\x80";
    let parts = |parts: &[&[u8]]| {
        let frames: Vec<Frame> = fragments(parts.iter().copied())
            .into_iter()
            .map(Frame::not_fin)
            .collect();
        masked(&frames)
    };
    fails_fast("6.4.1", &parts(&[valid, &bad[..2]]));
    fails_fast("6.4.2", &parts(&[valid, &bad[..1], &bad[1..2]]));
    let whole = frame(TEXT, [valid, bad, b"edited"].concat()).masked();
    fails_fast("6.4.3–6.4.4", &whole[..6 + valid.len() + 2]);
}

/// `text` in one frame and in fragments of one octet is echoed if it is `valid`, and else answered by 1007.
fn check_utf8(case: &str, text: &[u8], valid: bool) {
    let expected = if valid { frame(TEXT, text) } else { fails(1007) };
    check(case, &[frame(TEXT, text)], std::slice::from_ref(&expected));
    check(case, &fragments(text.chunks(1)), &[expected]);
}

#[test]
fn group_6_5_to_6_11_texts() {
    check_utf8("6.5", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", true);
    let kosme = "κόσμε";
    for end in 1..=kosme.len() {
        check_utf8(
            &format!("6.6.{end}"),
            &kosme.as_bytes()[..end],
            kosme.is_char_boundary(end),
        );
    }
    for first_of_its_length in [&b"\0"[..], b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"] {
        check_utf8("6.7", first_of_its_length, true);
    }
    for first_of_its_length in [&b"\xf8\x88\x80\x80\x80"[..], b"\xfc\x84\x80\x80\x80\x80"] {
        check_utf8("6.8", first_of_its_length, false);
    }
    for last_of_its_length in [&b"\x7f"[..], b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"] {
        check_utf8("6.9", last_of_its_length, true);
    }
    for last_of_its_length in [
        &b"\xf7\xbf\xbf\xbf"[..],
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
    ] {
        check_utf8("6.10", last_of_its_length, false);
    }
    for boundary in [
        &b"\xed\x9f\xbf"[..],
        b"\xee\x80\x80",
        b"\xef\xbf\xbd",
        b"\xf4\x8f\xbf\xbf",
    ] {
        check_utf8("6.11", boundary, true);
    }
    check_utf8("6.11.5", b"\xf4\x90\x80\x80", false);
}

#[test]
fn group_6_12_to_6_16_stray_and_missing_continuation_bytes() {
    for length in 1..=7 {
        let alternating: Vec<u8> = (0..length)
            .map(|at| if at % 2 == 0 { 0x80 } else { 0xbf })
            .collect();
        check_utf8("6.12", &alternating, false);
    }
    check_utf8("6.12.2", b"\xbf", false);
    check_utf8("6.12.8", &(0x80..=0xbf).collect::<Vec<u8>>(), false);
    for lead_bytes in [0xc0..=0xdf_u8, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd] {
        check_utf8(
            "6.13",
            &lead_bytes.flat_map(|byte| [byte, b' ']).collect::<Vec<u8>>(),
            false,
        );
    }
    let cut: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    for text in cut {
        check_utf8("6.14", text, false);
    }
    check_utf8("6.15", &cut.concat(), false);
    for impossible in [&b"\xfe"[..], b"\xff", b"\xfe\xfe\xff\xff"] {
        check_utf8("6.16", impossible, false);
    }
}

#[test]
fn group_6_17_to_6_21_overlong_forms_and_surrogates() {
    let overlong: [&[u8]; 15] = [
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
    ];
    for text in overlong {
        check_utf8("6.17–6.19", text, false);
    }
    let high = [
        &b"\xed\xa0\x80"[..],
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
    ];
    let low = [&b"\xed\xb0\x80"[..], b"\xed\xbe\x80", b"\xed\xbf\xbf"];
    for surrogate in high.iter().chain(&low) {
        check_utf8("6.20", surrogate, false);
    }
    for high in high {
        for low in [low[0], low[2]] {
            check_utf8("6.21", &[high, low].concat(), false);
        }
    }
}

#[test]
fn group_6_22_and_6_23_noncharacters_are_valid() {
    let ends_of_planes = (0..=16).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    for character in ends_of_planes.chain(0xfff9..=0xffff).filter_map(char::from_u32) {
        check_utf8("6.22–6.23", character.to_string().as_bytes(), true);
    }
}

#[test]
fn group_7_1_nothing_counts_after_a_close() {
    let text = || frame(TEXT, "Hello World!");
    let closed = || close(1000, "");
    check("7.1.1", &[text(), closed()], &[text(), closed()]);
    check("7.1.2", &[closed(), closed()], &[closed()]);
    check("7.1.3", &[closed(), frame(PING, "")], &[closed()]);
    check("7.1.4", &[closed(), text()], &[closed()]);
    let parts = fragments([&b"fragment1"[..], b"fragment2"]);
    check(
        "7.1.5",
        &[parts[0].clone(), closed(), parts[1].clone()],
        &[closed()],
    );
    let long = frame(TEXT, "BAsd7&jh23".repeat(26_214));
    check(
        "7.1.6",
        &[long.clone(), closed(), frame(PING, "")],
        &[long, closed()],
    );
}

#[test]
fn group_7_3_and_7_5_close_bodies() {
    check("7.3.1", &[frame(CLOSE, "")], &[frame(CLOSE, "")]);
    check("7.3.2", &[frame(CLOSE, "a")], &[fails(1002)]);
    check("7.3.3", &[close(1000, "")], &[close(1000, "")]);
    check("7.3.4", &[close(1000, "Hello World!")], &[close(1000, "")]);
    check("7.3.5", &[close(1000, "*".repeat(123))], &[close(1000, "")]);
    check("7.3.6", &[close(1000, "*".repeat(124))], &[fails(1002)]);
    let invalid = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    check("7.5.1", &[close(1000, invalid)], &[fails(1007)]);
}

#[test]
fn group_7_7_to_7_13_close_codes() {
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        check("7.7", &[close(code, "")], &[close(code, "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999] {
        check("7.9", &[close(code, "")], &[fails(1002)]);
    }
    for code in [5000, 65_535] {
        check("7.13", &[close(code, "")], &[fails(1002)]);
    }
}

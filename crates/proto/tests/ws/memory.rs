//! What a peer can make a connection hold.

use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::{Connection, Limits, Received};

use crate::support::*;

/// What a connection may hold besides the payload of one message: bookkeeping, and a control frame.
const OVERHEAD_BYTES: usize = 512;

#[test]
fn an_idle_connection_holds_no_heap() {
    let mut connection = server();
    assert_eq!(connection.unfinished_bytes(), 0);
    let frames = [
        frame(TEXT, "a").not_fin(),
        frame(PING, "b"),
        frame(CONTINUATION, "c"),
        frame(BINARY, "d"),
    ];
    let bytes = masked(&frames);
    for piece_bytes in [1, 2, 5, bytes.len()] {
        assert_eq!(feed(&mut connection, bytes.chunks(piece_bytes)).len(), 3);
        assert_eq!(connection.unfinished_bytes(), 0, "in pieces of {piece_bytes}");
        assert!(!connection.message_is_unfinished());
    }
}

#[test]
fn a_whole_message_is_borrowed_from_the_input() {
    let mut connection = server();
    let mut contexts = Contexts::new(6);
    let mut bytes = masked(&[frame(TEXT, "in place"), frame(BINARY, "too")]);
    let range = bytes.as_ptr_range();
    let mut input = bytes.as_mut_slice();
    match connection.receive(&mut input, &mut contexts) {
        Ok(Some(Received::Text(text))) => assert!(range.contains(&text.as_bytes().as_ptr())),
        other => panic!("{other:?}"),
    }
    match connection.receive(&mut input, &mut contexts) {
        Ok(Some(Received::Binary(bytes))) => assert!(range.contains(&bytes.as_ptr())),
        other => panic!("{other:?}"),
    }
    assert_eq!(connection.unfinished_bytes(), 0);
}

#[test]
fn something_unfinished_is_noticed_from_its_first_byte_to_its_last() {
    let bytes = masked(&[
        frame(TEXT, "first part").not_fin(),
        frame(PING, "?"),
        frame(CONTINUATION, "end"),
    ]);
    let mut connection = server();
    assert!(!connection.message_is_unfinished());
    let (last, before) = bytes.split_last().unwrap();
    for byte in before {
        feed(&mut connection, [&[*byte][..]]);
        assert!(connection.message_is_unfinished());
        assert!(connection.unfinished_bytes() > 0);
    }
    feed(&mut connection, [&[*last][..]]);
    assert!(!connection.message_is_unfinished());
}

#[test]
fn a_declared_length_reserves_nothing() {
    let limits = Limits {
        message_bytes_max: 1 << 40,
        ..Limits::default()
    };
    let mut connection = Connection::server(limits, None);
    let mut declared = b"\x82\xff\x00\x00\x00\x80\x00\x00\x00\x00\0\0\0\0".to_vec();
    declared.extend([0; 1000]);
    assert_eq!(feed(&mut connection, [declared.as_slice()]), []);
    assert!(connection.unfinished_bytes() < 2 * 1000 + OVERHEAD_BYTES);
}

#[test]
fn a_frame_that_arrives_slowly_takes_no_more_than_twice_what_arrived() {
    let bytes = frame(BINARY, vec![1; 60_000]).masked();
    let mut connection = server();
    for (at, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
        feed(&mut connection, [&[*byte][..]]);
        assert!(connection.unfinished_bytes() <= (2 * at + OVERHEAD_BYTES).min(60_000 + OVERHEAD_BYTES));
    }
}

#[test]
#[cfg_attr(miri, ignore = "131,000 frames take an hour")]
fn fragments_of_one_byte_131_000_times() {
    let limits = Limits {
        message_bytes_max: 131_072,
        ..Limits::default()
    };
    let mut connection = Connection::server(limits, None);
    let mut held = vec![connection.unfinished_bytes()];
    let mut send = |frame: Frame| {
        let events = feed(&mut connection, [frame.masked().as_slice()]);
        if held.last() != Some(&connection.unfinished_bytes()) {
            held.push(connection.unfinished_bytes());
        }
        events
    };
    assert_eq!(send(frame(TEXT, "x").not_fin()), []);
    for _ in 0..131_000 {
        assert_eq!(send(frame(CONTINUATION, "x").not_fin()), []);
    }
    assert_eq!(send(frame(CONTINUATION, "x")), [Event::Text("x".repeat(131_002))]);
    let most = held.iter().max().copied();
    assert!(
        most <= Some(limits.message_bytes_max + OVERHEAD_BYTES),
        "held {most:?} bytes"
    );
    // The buffer doubles, so the work is linear: a message of 2^17 bytes takes no more than so many allocations.
    assert!(held.len() <= 17, "{} allocations: {held:?}", held.len());
}

#[test]
#[cfg_attr(miri, ignore = "131,000 frames take an hour")]
fn fragments_of_no_byte_hold_nothing_more_the_more_there_are() {
    let mut connection = server();
    feed(&mut connection, [frame(TEXT, "").not_fin().masked().as_slice()]);
    let held = connection.unfinished_bytes();
    let empty = frame(CONTINUATION, "").not_fin().masked();
    for _ in 0..131_000 {
        assert_eq!(feed(&mut connection, [empty.as_slice()]), []);
        assert_eq!(connection.unfinished_bytes(), held);
    }
    assert!(held <= OVERHEAD_BYTES);
}

#[test]
fn after_our_close_data_takes_no_memory() {
    let mut connection = server();
    feed(
        &mut connection,
        [frame(BINARY, [1; 10_000]).not_fin().masked().as_slice()],
    );
    let mut sent = Vec::new();
    let _ = connection.close(code(1001), "", &mut sent);
    for _ in 0..1000 {
        let more = frame(CONTINUATION, [1; 1000]).not_fin().masked();
        assert_eq!(feed(&mut connection, more.chunks(300)), []);
        assert!(connection.unfinished_bytes() <= OVERHEAD_BYTES);
    }
}

#[test]
fn what_is_read_past_after_our_close_leaves_nothing_behind() {
    for frames in [
        vec![frame(PING, "are you there?")],
        vec![frame(TEXT, "a").not_fin(), frame(CONTINUATION, "b")],
    ] {
        let mut connection = server();
        let _sent = connection.close(code(1000), "", &mut Vec::new());
        let bytes = masked(&frames);
        for piece_bytes in [1, 3] {
            assert_eq!(feed(&mut connection, bytes.chunks(piece_bytes)), []);
            assert!(!connection.message_is_unfinished());
            assert_eq!(connection.unfinished_bytes(), 0, "in pieces of {piece_bytes}");
        }
    }
}

#[test]
fn a_ping_between_fragments_leaves_nothing_behind() {
    let mut connection = server();
    feed(
        &mut connection,
        [frame(BINARY, [1; 1000]).not_fin().masked().as_slice()],
    );
    let held = connection.unfinished_bytes();
    assert_eq!(
        feed(&mut connection, frame(PING, [2; 125]).masked().chunks(10)).len(),
        1
    );
    assert_eq!(connection.unfinished_bytes(), held);
}

#[test]
fn a_message_that_a_close_cuts_short_is_dropped() {
    let mut connection = server();
    let bytes = masked(&[frame(BINARY, [1; 10_000]).not_fin(), close(1000, "")]);
    assert_eq!(feed(&mut connection, bytes.chunks(100)).len(), 1);
    assert_eq!(connection.unfinished_bytes(), 0);
    assert!(!connection.message_is_unfinished());
}

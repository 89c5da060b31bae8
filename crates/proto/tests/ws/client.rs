//! The client role, where it differs from the server's.

use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::error::PeerMisbehaved::FrameMasked;
use switchboard_proto::ws::frame::Header;
use switchboard_proto::ws::mask::MaskKeys;
use switchboard_proto::ws::{Connection, Limits, MessageKind, Role, Sent};

use crate::support::*;

fn client() -> Connection {
    Connection::client(Limits::default(), None, MaskKeys::from_seed([7; 32]))
}

#[test]
fn masked_server_frames_are_1002() {
    for frame in [frame(TEXT, "hello"), frame(PING, ""), close(1000, "")] {
        assert_eq!(
            feed(&mut client(), [frame.masked().as_slice()]),
            [Event::Misdeed(FrameMasked)]
        );
    }
    assert_eq!(FrameMasked.close_code(), code(1002));
}

#[test]
fn unmasked_frames_are_read() {
    let frames = [
        frame(TEXT, "hel").not_fin(),
        frame(PING, "p"),
        frame(CONTINUATION, "lo"),
        frame(BINARY, b"\xff"),
        close(1001, "later"),
    ];
    let expected = [
        Event::Ping(b"p".to_vec()),
        text("hello"),
        Event::Binary(vec![0xff]),
        Event::Close(Some((1001, "later".to_owned()))),
    ];
    assert_eq!(feed(&mut client(), [unmasked(&frames).as_slice()]), expected);
    assert_eq!(feed(&mut client(), unmasked(&frames).chunks(1)), expected);
}

#[test]
fn every_frame_has_a_fresh_mask_and_the_server_understands_it() {
    let mut client = client();
    assert_eq!(client.role(), Role::Client);
    let mut contexts = Contexts::new(6);
    let mut sent = Vec::new();
    assert_eq!(
        client.send(MessageKind::Text, b"hello", &mut contexts, &mut sent),
        Sent::Appended
    );
    let second = sent.len();
    assert_eq!(
        client.send(MessageKind::Text, b"hello", &mut contexts, &mut sent),
        Sent::Appended
    );
    assert_eq!(client.ping(b"?", &mut sent), Sent::Appended);
    assert_eq!(client.pong(b"!", &mut sent), Sent::Appended);
    assert_eq!(client.close(code(1000), "bye", &mut sent), Sent::Appended);

    let key = |bytes| Header::decode(bytes).unwrap().unwrap().0.mask.unwrap();
    assert_ne!(key(&sent), key(&sent[second..]));
    assert_eq!(
        server_receives(&sent),
        [
            text("hello"),
            text("hello"),
            Event::Ping(b"?".to_vec()),
            Event::Pong(b"!".to_vec()),
            Event::Close(Some((1000, "bye".to_owned()))),
        ]
    );
}

//! The close handshake, from both sides.

use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::error::PeerMisbehaved::ReservedBits;
use switchboard_proto::ws::{Connection, MessageKind, Sent, State};

use crate::support::*;

/// Everything that could be sent is refused, and leaves no bytes.
fn assert_silent(connection: &mut Connection) {
    let mut sent = Vec::new();
    assert_eq!(
        connection.send(MessageKind::Text, b"x", &mut Contexts::new(6), &mut sent),
        Sent::NotOpen
    );
    assert_eq!(connection.ping(b"", &mut sent), Sent::NotOpen);
    assert_eq!(connection.pong(b"", &mut sent), Sent::NotOpen);
    assert_eq!(sent, b"");
}

fn assert_closed(connection: &mut Connection) {
    assert_eq!(connection.state(), State::Closed);
    assert_silent(connection);
    let mut sent = Vec::new();
    assert_eq!(connection.close(code(1000), "", &mut sent), Sent::NotOpen);
    assert_eq!(connection.answer_close(&mut sent), Sent::NotOpen);
    assert_eq!(sent, b"");
    assert_eq!(
        feed(connection, [frame(TEXT, "still there?").masked().as_slice()]),
        []
    );
}

#[test]
fn a_received_close_is_answered_by_its_code() {
    let mut connection = server();
    let events = feed(&mut connection, [close(4001, "bored").masked().as_slice()]);
    assert_eq!(events, [Event::Close(Some((4001, "bored".to_owned())))]);
    assert_eq!(connection.state(), State::CloseReceived(Some(code(4001))));
    assert_silent(&mut connection);

    let mut sent = Vec::new();
    assert_eq!(connection.answer_close(&mut sent), Sent::Appended);
    assert_eq!(sent, close(4001, "").unmasked());
    assert_closed(&mut connection);
}

#[test]
fn a_received_close_without_a_code_is_answered_without_a_code() {
    let mut connection = server();
    assert_eq!(
        feed(&mut connection, [frame(CLOSE, "").masked().as_slice()]),
        [Event::Close(None)]
    );
    let mut sent = Vec::new();
    assert_eq!(connection.answer_close(&mut sent), Sent::Appended);
    assert_eq!(sent, frame(CLOSE, "").unmasked());
    assert_closed(&mut connection);
}

#[test]
fn a_received_close_may_be_answered_by_another_code() {
    let mut connection = server();
    feed(&mut connection, [close(1000, "").masked().as_slice()]);
    let mut sent = Vec::new();
    assert_eq!(connection.close(code(1001), "restart", &mut sent), Sent::Appended);
    assert_eq!(sent, close(1001, "restart").unmasked());
    assert_closed(&mut connection);
}

#[test]
fn no_byte_is_interpreted_after_a_received_close() {
    let mut connection = server();
    let bytes = masked(&[close(1000, ""), frame(TEXT, "data"), frame(7, "nonsense").rsv(7)]);
    assert_eq!(
        feed(&mut connection, [bytes.as_slice()]),
        [Event::Close(Some((1000, String::new())))]
    );
    assert_eq!(connection.state(), State::CloseReceived(Some(code(1000))));
    assert_eq!(connection.unfinished_bytes(), 0);
}

#[test]
fn there_is_no_answer_to_a_close_that_did_not_arrive() {
    let mut sent = Vec::new();
    assert_eq!(server().answer_close(&mut sent), Sent::NotOpen);
    assert_eq!(sent, b"");
}

#[test]
fn after_our_close_everything_is_forgotten_until_theirs() {
    let before = [frame(TEXT, "half of it").not_fin(), frame(PING, "half")];
    let after = [
        frame(CONTINUATION, "the rest"),
        frame(BINARY, [1; 1000]),
        frame(TEXT, b"\xff"),
        frame(TEXT, "parts").not_fin(),
        frame(PONG, "pong"),
        frame(CONTINUATION, "more"),
        close(1000, "done"),
        frame(TEXT, "too late"),
    ];
    let bytes = masked(&[before.as_slice(), &after].concat());
    let (first, rest) = bytes.split_at(masked(&before).len() - 2);
    for pieces in [vec![rest], rest.chunks(1).collect(), rest.chunks(7).collect()] {
        let mut connection = server();
        assert_eq!(feed(&mut connection, [first]), []);
        let mut sent = Vec::new();
        assert_eq!(connection.close(code(1001), "going", &mut sent), Sent::Appended);
        assert_eq!(sent, close(1001, "going").unmasked());
        assert_eq!(connection.state(), State::CloseSent);
        assert_silent(&mut connection);
        assert_eq!(
            feed(&mut connection, pieces),
            [Event::Close(Some((1000, "done".to_owned())))]
        );
        assert_closed(&mut connection);
    }
}

#[test]
fn a_misdeed_after_our_close_ends_the_connection_without_another() {
    let mut connection = server();
    let mut sent = Vec::new();
    assert_eq!(connection.close(code(1001), "", &mut sent), Sent::Appended);
    let bad = frame(TEXT, "").rsv(1).masked();
    assert_eq!(
        feed(&mut connection, [bad.as_slice()]),
        [Event::Misdeed(ReservedBits)]
    );
    assert_closed(&mut connection);
}

#[test]
fn after_a_misdeed_one_close_can_be_sent_and_nothing_else() {
    let mut connection = server();
    feed(&mut connection, [frame(TEXT, "").rsv(1).masked().as_slice()]);
    assert_eq!(connection.state(), State::Failed);
    assert_silent(&mut connection);
    let mut sent = Vec::new();
    assert_eq!(connection.answer_close(&mut sent), Sent::NotOpen);
    assert_eq!(
        connection.close(ReservedBits.close_code(), "reserved bit set", &mut sent),
        Sent::Appended
    );
    assert_eq!(sent, close(1002, "reserved bit set").unmasked());
    assert_closed(&mut connection);
}

#[test]
fn long_reasons_are_cut_to_fit_the_frame() {
    let mut sent = Vec::new();
    assert_eq!(
        server().close(code(1011), &"é".repeat(100), &mut sent),
        Sent::Appended
    );
    assert_eq!(sent, close(1011, "é".repeat(61)).unmasked());
}

#[test]
fn long_pings_are_refused() {
    let mut connection = server();
    let mut sent = Vec::new();
    assert_eq!(connection.ping(&[0; 126], &mut sent), Sent::TooLong);
    assert_eq!(connection.pong(&[0; 126], &mut sent), Sent::TooLong);
    assert_eq!(sent, b"");
    assert_eq!(connection.ping(&[0; 125], &mut sent), Sent::Appended);
    assert_eq!(sent, frame(PING, [0; 125]).unmasked());
}

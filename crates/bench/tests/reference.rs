//! The bare server from outside: what a load generator relies on.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use switchboard_bench::reference;
use switchboard_proto::ws::mask;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A server that runs until the tests end.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || reference::run(listener));
    address
}

/// A client that has had its answer.
struct Client(TcpStream);

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn open(server: SocketAddr, path: &str) -> Client {
    let mut client = Client(connect(server));
    client.0.write_all(request(path).as_bytes()).unwrap();
    client.expect_accepted();
    client
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    let payload_at = frame.len();
    frame.extend(payload);
    mask::apply(&mut frame[payload_at..], KEY);
    frame
}

/// Bytes that differ from their neighbours, near and far.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + seed) as u8).collect()
}

impl Client {
    fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&masked(first, payload)).unwrap();
    }

    /// The next bytes, so many of them.
    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn expect_accepted(&mut self) {
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(self.read(expected.len())).unwrap(), expected);
    }

    fn expect(&mut self, first: u8, payload: &[u8]) {
        let [got_first, length] = self.read(2)[..] else {
            panic!("two bytes");
        };
        let length = match length {
            126 => usize::from(u16::from_be_bytes(self.read(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.read(8).try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        assert_eq!((got_first, length), (first, payload.len()));
        assert!(self.read(length) == payload, "another payload of {length} bytes");
    }

    /// What came before the Pong to a Ping that is sent now: nothing. The server handles a connection's bytes in
    /// order, so what would have been sent to this client has been.
    fn expect_nothing_more(&mut self) {
        self.send(PING, b"nothing more");
        self.expect(PONG, b"nothing more");
    }

    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b"", "bytes before the end"),
            // The server did not read all that was sent before it closed.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_request_in_pieces_is_answered_as_well() {
    let server = server();
    let mut client = Client(connect(server));
    for piece in request("/echo").as_bytes().chunks(7) {
        client.0.write_all(piece).unwrap();
    }
    client.expect_accepted();
    client.send(TEXT, b"hello");
    client.expect(TEXT, b"hello");
}

#[test]
fn a_frame_that_comes_with_the_request_is_handled() {
    let mut client = Client(connect(server()));
    let bytes = [
        request("/echo").as_bytes(),
        &masked(TEXT, b"early"),
        &masked(TEXT, b"bird"),
    ]
    .concat();
    client.0.write_all(&bytes).unwrap();
    client.expect_accepted();
    client.expect(TEXT, b"early");
    client.expect(TEXT, b"bird");
}

#[test]
fn a_room_gets_what_a_member_sends_and_another_room_does_not() {
    let server = server();
    let mut members = [(); 3].map(|()| open(server, "/room/7"));
    let mut stranger = open(server, "/room/8");
    members[0].send(TEXT, b"hello");
    members[1].send(BINARY, &pattern(300, 1));
    for member in &mut members {
        let first = member.read(2);
        match first[..] {
            // The two senders are two connections: their order is the kernel's.
            [TEXT, 5] => {
                assert_eq!(member.read(5), b"hello");
                member.expect(BINARY, &pattern(300, 1));
            }
            [BINARY, 126] => {
                assert_eq!(member.read(2 + 300), [&[1, 44], &pattern(300, 1)[..]].concat());
                member.expect(TEXT, b"hello");
            }
            _ => panic!("{first:x?}"),
        }
        member.expect_nothing_more();
    }
    stranger.expect_nothing_more();
}

#[test]
fn a_publisher_is_no_member() {
    let server = server();
    let mut members = [(); 2].map(|()| open(server, "/room/999999"));
    let mut publisher = open(server, "/room/999999/publish");
    publisher.send(TEXT, b"news");
    for member in &mut members {
        member.expect(TEXT, b"news");
    }
    publisher.expect_nothing_more();
}

#[test]
fn publishing_to_a_room_without_members_is_no_fault() {
    let mut publisher = open(server(), "/room/3/publish");
    publisher.send(TEXT, b"anyone?");
    publisher.expect_nothing_more();
}

#[test]
fn two_frames_of_one_write_are_two_frames_for_each_member() {
    let server = server();
    let mut members = [(); 3].map(|()| open(server, "/room/1"));
    let mut publisher = open(server, "/room/1/publish");
    let both = [masked(TEXT, b"one"), masked(BINARY, b"two")].concat();
    publisher.0.write_all(&both).unwrap();
    for member in &mut members {
        member.expect(TEXT, b"one");
        member.expect(BINARY, b"two");
        member.expect_nothing_more();
    }
}

#[test]
fn who_left_a_room_is_not_missed() {
    let server = server();
    let mut members: Vec<_> = (0..5).map(|_| open(server, "/room/2")).collect();
    let mut publisher = open(server, "/room/2/publish");
    // By a Close, and by the end of its stream.
    let mut leaver = members.remove(1);
    leaver.send(CLOSE, &1000_u16.to_be_bytes());
    leaver.expect_end();
    let mut leaver = members.remove(0);
    leaver.0.shutdown(Shutdown::Write).unwrap();
    leaver.expect_end();
    publisher.send(TEXT, b"still here");
    for member in &mut members {
        member.expect(TEXT, b"still here");
    }
    // The moved seats are given up as well as the others, and taken again.
    let mut leaver = members.pop().unwrap();
    leaver.send(CLOSE, b"");
    leaver.expect_end();
    members.push(open(server, "/room/2"));
    publisher.send(TEXT, b"and here");
    for member in &mut members {
        member.expect(TEXT, b"and here");
        member.expect_nothing_more();
    }
}

#[test]
fn echo_of_every_form_of_length() {
    let mut client = open(server(), "/echo");
    for length in [0, 10, 125, 126, 65_535, 65_536, 1_000_000] {
        client.send(BINARY, &pattern(length, length));
        client.expect(BINARY, &pattern(length, length));
    }
}

#[test]
fn echo_of_a_large_frame_in_small_pieces() {
    let mut client = open(server(), "/echo");
    for round in 0..2 {
        let payload = pattern(70_000, round);
        for piece in masked(BINARY, &payload).chunks(997) {
            client.0.write_all(piece).unwrap();
        }
        client.expect(BINARY, &payload);
    }
}

#[test]
fn echo_of_small_frames_in_pieces_of_any_size() {
    let mut client = open(server(), "/echo");
    let frames: Vec<_> = (0..20).map(|at| pattern(at * 20, at)).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|payload| masked(TEXT, payload)).collect();
    for size in [1, 2, 5, 64, 1000] {
        for piece in bytes.chunks(size) {
            client.0.write_all(piece).unwrap();
        }
        for payload in &frames {
            client.expect(TEXT, payload);
        }
    }
}

#[test]
fn large_and_small_frames_of_one_stream_stay_in_order() {
    let mut client = open(server(), "/echo");
    let frames = [10, 70_000, 3, 200_000, 0, 300_000, 65_536, 12].map(|length| pattern(length, length));
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|payload| masked(BINARY, payload))
        .collect();
    let mut writer = client.0.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&bytes).unwrap());
    for payload in &frames {
        client.expect(BINARY, payload);
    }
    writing.join().unwrap();
}

#[test]
fn a_ping_is_answered_on_every_path() {
    let server = server();
    for path in ["/room/1", "/room/1/publish", "/echo"] {
        let mut client = open(server, path);
        client.send(PING, b"are you there");
        client.expect(PONG, b"are you there");
        client.send(PONG, b"unasked");
        client.expect_nothing_more();
    }
}

#[test]
fn a_connection_is_pinged_again_and_again() {
    let server = server();
    let mut clients = [(); 2].map(|()| open(server, "/ping/1"));
    for client in &mut clients {
        client.expect(PING, b"");
        client.send(PONG, b"");
        // What it sends is of no interest.
        client.send(TEXT, b"hello");
        client.expect(PING, b"");
    }
    // And after another one left.
    let [mut leaver, mut client] = clients;
    leaver.0.shutdown(Shutdown::Write).unwrap();
    while leaver.0.read(&mut [0; 64]).unwrap() > 0 {}
    client.expect(PING, b"");
    client.expect(PING, b"");
}

/// More than the sockets between the two usually hold, so that some of it waits in the server; and less than may wait.
#[test]
fn a_slow_reader_gets_an_unbroken_stream() {
    let server = server();
    let mut slow = open(server, "/room/4");
    let mut quick = open(server, "/room/4");
    let mut publisher = open(server, "/room/4/publish");
    let payloads: Vec<_> = (0..80).map(|seed| pattern(100_000, seed)).collect();
    for payload in &payloads {
        publisher.send(BINARY, payload);
        quick.expect(BINARY, payload);
    }
    for payload in &payloads {
        slow.expect(BINARY, payload);
    }
    slow.expect_nothing_more();
    publisher.send(TEXT, b"and on");
    slow.expect(TEXT, b"and on");
}

/// 64 MiB are more than the sockets and the server hold for one that does not read.
#[test]
fn who_does_not_read_at_all_is_closed_and_the_others_are_not() {
    let server = server();
    let mut stuck = open(server, "/room/5");
    let mut quick = open(server, "/room/5");
    let mut publisher = open(server, "/room/5/publish");
    let payload = pattern(1 << 20, 5);
    for _ in 0..64 {
        publisher.send(BINARY, &payload);
        quick.expect(BINARY, &payload);
    }
    let mut bytes = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        match stuck.0.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => bytes += length,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(bytes < 64 << 20, "nothing is missing");
    quick.expect_nothing_more();
}

#[test]
fn garbage_closes_only_its_own_connection() {
    let server = server();
    let mut bystander = open(server, "/echo");
    for head in [
        "\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\n\r\n",
        "GET /room/1000000 HTTP/1.1\r\n\r\n",
        "GET /ping/0 HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\n\r\n",
        &"x".repeat(16 * 1024),
    ] {
        let mut client = Client(connect(server));
        client.0.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        client.0.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    }
    for frame in [
        &b"\x81\x05Hello"[..],
        b"\x83\x80\0\0\0\0",
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        for path in ["/echo", "/room/1", "/room/1/publish", "/ping/100"] {
            let mut client = open(server, path);
            client.0.write_all(frame).unwrap();
            client.expect_end();
        }
    }
    // And what breaks off in the middle, before and after the request.
    for bytes in [
        b"GET /ec".to_vec(),
        [request("/echo").as_bytes(), b"\x82\xff\x00\x00\x00\x00\x00\x02"].concat(),
    ] {
        let mut client = Client(connect(server));
        client.0.write_all(&bytes).unwrap();
        client.0.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.0.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.ends_with(b"\r\n\r\n"));
    }
    bystander.send(TEXT, b"still here");
    bystander.expect(TEXT, b"still here");
}

//! Hostile peers beside a thousand innocents: whoever breaks a rule gets the answer that the rule names, the server holds no
//! more memory for it than it may, and nobody else misses a message.
//!
//! Server and peers share this process, so the bounds on memory are generous: they are there for what grows with what a
//! hostile peer sends.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use support::peer::{self, BINARY, CLOSE, CONTINUATION, Ended, FIN, Frame, PING, Peer, RSV1, TEXT, frame};
use support::process::{open_files, resident_bytes};
use support::{Live, eventually, http, run};
use switchboard_proto::limits::SessionLimits;
use switchboard_proto::ws::deflate::Contexts;
use switchboard_server::config::{Auto, Config};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, spawn_local};

/// Subscribers who do nothing wrong.
const INNOCENTS: usize = 1_000;
/// They get a message this often.
const BEAT: Duration = Duration::from_millis(100);
/// What the process may grow by while one peer misbehaves.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The limits as they are shipped, but for those that would take a test long to reach.
fn settings() -> Config {
    let mut config = support::config(2);
    config.limits.session = SessionLimits::default();
    config.limits.http_head_deadline = Duration::from_secs(1);
    config.limits.session.write_stall = Duration::from_secs(1);
    // Innocents only listen.
    config.limits.session.ping_interval = Duration::from_secs(3_600);
    // A place that is not given back would soon be missed.
    config.limits.connections_max = Auto::Fixed(INNOCENTS + 1_000);
    config
}

/// A thousand subscribers of one channel and who publishes to it.
struct Innocents {
    /// What everyone has got, as the first one to get it did.
    heard: Rc<RefCell<Vec<Vec<u8>>>>,
    /// How many messages each of them has got.
    counts: Rc<Vec<Cell<usize>>>,
    listeners: Vec<JoinHandle<()>>,
    /// Gives how many messages it has published.
    publisher: JoinHandle<usize>,
    stop: Rc<Cell<bool>>,
}

impl Innocents {
    async fn beside(live: &Live) -> Innocents {
        let heard: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let counts: Rc<Vec<Cell<usize>>> = Rc::new(vec![Cell::new(0); INNOCENTS]);
        let mut listeners = Vec::new();
        for index in 0..INNOCENTS {
            let from = [127, 0, 1, (index % 4) as u8 + 1].into();
            let peer = Peer::connect_with(live.public, Some(from), None).await.unwrap();
            let mut peer = peer.opened("/ws").await;
            peer.ask(
                r#"{"type":"subscribe","id":1,"channel":"news"}"#,
                r#"{"type":"subscribed","id":1,"channel":"news","offset":0,*}"#,
            )
            .await;
            listeners.push(spawn_local(listen(peer, index, heard.clone(), counts.clone())));
        }
        let stop = Rc::new(Cell::new(false));
        let publisher = spawn_local(publish(live.clone(), stop.clone()));
        Innocents {
            heard,
            counts,
            listeners,
            publisher,
            stop,
        }
    }

    /// Everyone gets what is published from now on, as before.
    async fn miss_nothing(&self) {
        let until = self.heard.borrow().len() + 3;
        eventually("all innocents have got the next messages", async || {
            self.counts.iter().all(|count| count.get() >= until).then_some(())
        })
        .await;
        // A listener that found something wrong has ended.
        assert!(self.listeners.iter().all(|listener| !listener.is_finished()));
        assert!(!self.publisher.is_finished());
    }

    /// Everyone got everything, complete and in order.
    async fn leave(self) {
        self.stop.set(true);
        let published = self.publisher.await.unwrap();
        eventually("all innocents have got everything", async || {
            let complete = self.counts.iter().all(|count| count.get() == published);
            complete.then_some(())
        })
        .await;
        let heard = self.heard.take();
        assert_eq!(heard.len(), published);
        for (index, message) in heard.iter().enumerate() {
            let offset = index + 1;
            let pattern = format!(
                r#"{{"type":"message","channel":"news","offset":{offset},"position":"*","data":"{offset}","at":*}}"#
            );
            let message = std::str::from_utf8(message).unwrap();
            assert!(
                peer::matches(&pattern, message),
                "expected {pattern}\n   heard {message}"
            );
        }
        for listener in &self.listeners {
            assert!(!listener.is_finished());
            listener.abort();
        }
        for listener in self.listeners {
            assert!(listener.await.unwrap_err().is_cancelled());
        }
    }
}

/// Each message is the same bytes for everyone, so one of them is enough to look into.
async fn listen(
    mut peer: Peer,
    index: usize,
    heard: Rc<RefCell<Vec<Vec<u8>>>>,
    counts: Rc<Vec<Cell<usize>>>,
) {
    let mut bytes = Vec::new();
    loop {
        while let Some(frame) = Frame::take(&mut bytes) {
            assert_eq!(frame.first, FIN | TEXT, "{frame:?}");
            let number = counts[index].get();
            let mut heard = heard.borrow_mut();
            match heard.get(number) {
                Some(known) => assert_eq!(&frame.payload, known),
                None => heard.push(frame.payload),
            }
            counts[index].set(number + 1);
        }
        let length = peer.stream.read_buf(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "innocent {index} was closed");
    }
}

async fn publish(live: Live, stop: Rc<Cell<bool>>) -> usize {
    let mut beat = tokio::time::interval(BEAT);
    let mut number = 0;
    while !stop.get() {
        beat.tick().await;
        number += 1;
        let target = "/api/v1/publish?channel=news";
        http::post(live.internal, target, "text/plain", number.to_string())
            .await
            .expect(200);
    }
    number
}

/// Runs one misdeed and looks at what it cost.
async fn misdeed(live: &Live, innocents: &Innocents, name: &str, misbehave: impl AsyncFnOnce(&Live)) {
    let started = std::time::Instant::now();
    let before = resident_bytes();
    misbehave(live).await;
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{name}: {growth} bytes more");
    innocents.miss_nothing().await;
    eventually(&format!("{name}: only the innocents are left"), async || {
        (live.sessions() == INNOCENTS as u64).then_some(())
    })
    .await;
    println!("{name}: {:?}, {} KiB more", started.elapsed(), growth / 1024);
}

#[test]
fn hostile_peers_get_what_the_rules_name_and_innocents_miss_nothing() {
    run(&settings(), async |live| {
        let innocents = Innocents::beside(live).await;
        // Both ends of each innocent are files of this process; the rest is there to stay.
        let files = open_files() - 2 * INNOCENTS;
        let all = &innocents;
        misdeed(live, all, "one-byte fragments", one_byte_fragments).await;
        misdeed(live, all, "declared lengths", declared_lengths).await;
        misdeed(live, all, "inflate bombs", inflate_bombs).await;
        misdeed(live, all, "a header byte now and then", header_bytes).await;
        misdeed(live, all, "readers that stop", readers_that_stop).await;
        misdeed(live, all, "what is no command", no_commands).await;
        misdeed(live, all, "frames against the rules", frames_against_the_rules).await;
        misdeed(live, all, "closes against the rules", closes_against_the_rules).await;
        misdeed(live, all, "data after Close", data_after_close).await;
        misdeed(live, all, "100,000 pings", ping_flood).await;
        misdeed(live, all, "heads that are too large", large_heads).await;
        misdeed(live, all, "upgrades with a body", upgrades_with_a_body).await;
        misdeed(live, all, "garbage", garbage).await;
        misdeed(live, all, "10,000 broken handshakes", broken_handshakes).await;
        innocents.leave().await;
        eventually("all files are closed", async || {
            (open_files() <= files).then_some(())
        })
        .await;
    });
}

/// What a peer goes on sending although it is over: more than the buffers on the way hold, so that a server which closes
/// without reading it destroys its own last words.
const MORE_BYTES: usize = 4 * 1024 * 1024;

/// Says `bytes` and a lot more, and gets a Close with this code and an orderly end.
async fn is_closed_with(live: &Live, target: &str, bytes: &[u8], code: u16) {
    let peer = Peer::open(live.public, target).await;
    let close = finish(peer, bytes).await;
    assert_eq!(
        close,
        Some(code),
        "{target}: {:x?} …",
        &bytes[..bytes.len().min(16)]
    );
}

/// Says `bytes` and a lot more. Gives the code of the Close that comes before the end.
async fn finish(mut peer: Peer, bytes: &[u8]) -> Option<u16> {
    peer.send(bytes).await;
    peer.send(vec![0x55; MORE_BYTES]).await;
    let mut close = None;
    loop {
        match peer.next().await {
            Ok(frame) if frame.opcode() == CLOSE => close = frame.close_code(),
            Ok(frame) => assert_eq!(close, None, "{frame:?} after Close"),
            Err(Ended::Eof) => return close,
            Err(Ended::Reset) => panic!("the Close {close:?} may have been destroyed by a reset"),
        }
    }
}

/// A text of this many bytes in fragments of one.
fn fragments(bytes: usize) -> Vec<u8> {
    let mut out = frame(TEXT, "x");
    for _ in 2..bytes {
        out.extend(frame(CONTINUATION, "x"));
    }
    out.extend(frame(FIN | CONTINUATION, "x"));
    out
}

async fn one_byte_fragments(live: &Live) {
    const LIMIT: usize = 64 * 1024;
    let mut peer = Peer::open(live.public, "/echo").await;
    peer.send(fragments(LIMIT)).await;
    assert_eq!(peer.frame().await.text(), "x".repeat(LIMIT));
    // One write each, so that each arrives alone.
    for fragment in fragments(10_000).chunks(7) {
        peer.send(fragment).await;
    }
    assert_eq!(peer.frame().await.text(), "x".repeat(10_000));
    // Fragments without content cost nothing but their own bytes.
    let empty = frame(CONTINUATION, "").repeat(131_000);
    peer.send([frame(TEXT, "x"), empty, frame(FIN | CONTINUATION, "y")].concat())
        .await;
    assert_eq!(peer.frame().await.text(), "xy");
    is_closed_with(live, "/echo", &fragments(LIMIT + 1), 1009).await;
    is_closed_with(live, "/ws", &fragments(131_000), 1009).await;
}

async fn declared_lengths(live: &Live) {
    for target in ["/ws", "/ws?channel=a"] {
        // RFC 6455 section 5.2: "the most significant bit MUST be 0".
        is_closed_with(live, target, &peer::header(FIN | TEXT, 1 << 63), 1002).await;
        is_closed_with(live, target, &peer::header(FIN | BINARY, u64::MAX), 1002).await;
        is_closed_with(live, target, &peer::header(FIN | TEXT, 1 << 62), 1009).await;
        is_closed_with(live, target, &peer::header(FIN | TEXT, 64 * 1024 + 1), 1009).await;
        let mut in_two = frame(BINARY, vec![0; 60_000]);
        in_two.extend(peer::header(FIN | CONTINUATION, 60_000));
        is_closed_with(live, target, &in_two, 1009).await;
    }
}

async fn inflate_bombs(live: &Live) {
    let mut contexts = Contexts::new(9);
    let mut deflated = |bytes: usize| {
        let mut out = Vec::new();
        contexts.compress(15, &vec![b'x'; bytes], &mut out);
        out
    };
    let open = async || {
        let (peer, answer) = Peer::upgrade(
            live.public,
            "/echo",
            &["Sec-WebSocket-Extensions: permessage-deflate"],
        )
        .await;
        answer.expect(101);
        peer
    };
    // Within the limit of a message it is no bomb, however well it compresses.
    let harmless = deflated(64 * 1024);
    let mut peer = open().await;
    peer.send(frame(FIN | RSV1 | TEXT, harmless)).await;
    assert_eq!(peer.frame().await.opcode(), TEXT);
    for bytes in [20 * 1024 * 1024, 64 * 1024 + 1] {
        let bomb = deflated(bytes);
        assert_eq!(
            finish(open().await, &frame(FIN | RSV1 | TEXT, &bomb)).await,
            Some(1009)
        );
        let (first, rest) = bomb.split_at(bomb.len() / 2);
        let mut in_two = frame(RSV1 | BINARY, first);
        in_two.extend(frame(FIN | CONTINUATION, rest));
        assert_eq!(finish(open().await, &in_two).await, Some(1009));
    }
    let mut broken = deflated(10_000);
    let middle = broken.len() / 2;
    broken[..middle].fill(0xff);
    assert_eq!(
        finish(open().await, &frame(FIN | RSV1 | TEXT, &broken)).await,
        Some(1007)
    );
}

async fn header_bytes(live: &Live) {
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(spawn_local({
            let mut peer = Peer::connect(live.public).await;
            async move {
                let head = peer::handshake("/ws");
                for byte in head.bytes() {
                    tokio::select! {
                        answer = peer.next_answer() => return answer.unwrap().status,
                        () = tokio::time::sleep(BEAT) => {}
                    }
                    peer.send([byte]).await;
                }
                panic!("it was let through the whole head")
            }
        }));
    }
    for peer in slow {
        assert_eq!(peer.await.unwrap(), 408);
    }
}

async fn readers_that_stop(live: &Live) {
    let stalled = |live: &Live| live.count(|shard| &shard.sessions_stalled);
    let before = stalled(live);
    let mut readers = Vec::new();
    for _ in 0..10 {
        // One that only listens.
        let mut peer = Peer::open_small(live.public, "/ws").await;
        peer.ask(
            r#"{"type":"subscribe","id":1,"channel":"flood"}"#,
            r#"{"type":"subscribed",*}"#,
        )
        .await;
        readers.push(peer);
        // One that asks for the same again and again.
        let mut peer = Peer::open_small(live.public, "/ws").await;
        let question = peer::text(r#"{"type":"history","id":1,"channel":"flood","limit":1000}"#);
        peer.send(question.repeat(100)).await;
        readers.push(peer);
    }
    let words = "x".repeat(60_000);
    eventually("they are terminated", async || {
        let target = "/api/v1/publish?channel=flood";
        http::post(live.internal, target, "text/plain", &words)
            .await
            .expect(200);
        (stalled(live) >= before + 10).then_some(())
    })
    .await;
    drop(readers);
}

async fn no_commands(live: &Live) {
    let mut peer = Peer::open(live.public, "/ws").await;
    let deep = |open: &str, inside: &str, close: &str| {
        format!("{}{inside}{}", open.repeat(10_000), close.repeat(10_000))
    };
    let deep_data = format!(
        r#"{{"type":"publish","id":1,"channel":"a","data":{}}}"#,
        deep("[", "", "]")
    );
    for (words, code) in [
        ("null", "bad_request"),
        ("true", "bad_request"),
        ("-1e999999", "bad_request"),
        ("[]", "bad_request"),
        (r#""connect""#, "bad_request"),
        (r#"["connect"]"#, "bad_request"),
        ("{", "bad_request"),
        ("", "bad_request"),
        (r#"{"type":null}"#, "bad_request"),
        (r#"{"type":{"type":"ping"}}"#, "bad_request"),
        (r#"{"type":"ping","id":-1}"#, "bad_request"),
        (r#"{"type":"ping","id":9007199254740992}"#, "bad_request"),
        (r#"{"type":"ping","type":"ping"}"#, "bad_request"),
        (r#"{"type":"subscribe","channel":null}"#, "bad_request"),
        (&deep("[", "", "]"), "too_complex"),
        (&deep(r#"{"a":"#, "1", "}"), "too_complex"),
        (&"[".repeat(60_000), "too_complex"),
        (&deep_data, "too_complex"),
    ] {
        let pattern = format!(r#"{{"type":"error",*"code":"{code}",*}}"#);
        peer.ask(words, &pattern).await;
    }
    peer.ask(r#"{"type":"ping","id":1}"#, r#"{"type":"pong","id":1}"#)
        .await;

    let msgpack = ["Sec-WebSocket-Protocol: switchboard.v1.msgpack"];
    let (mut peer, answer) = Peer::upgrade(live.public, "/ws", &msgpack).await;
    answer.expect(101);
    let nothing: &[u8] = &[];
    for bytes in [
        nothing,
        b"\xc0",
        b"\x93\x01\x02\x03",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa4type\xdb\xff\xff\xff\xff",
        &[0x91; 60_000],
        &b"\x81\xa1a".repeat(20_000),
    ] {
        peer.send(frame(FIN | BINARY, bytes)).await;
        let error = peer.frame().await;
        assert_eq!(error.first, FIN | BINARY);
        assert!(
            error.payload.windows(5).any(|window| window == b"error"),
            "{bytes:x?}"
        );
    }
    peer.send(frame(FIN | BINARY, b"\x82\xa4type\xa4ping\xa2id\x01"))
        .await;
    assert_eq!(peer.frame().await.payload, b"\x82\xa4type\xa4pong\xa2id\x01");

    // To the raw dialect it is text like any other.
    let mut peer = Peer::open(live.public, "/ws?channel=deep").await;
    let words = deep("[", "", "]");
    peer.say(&words).await;
    assert_eq!(peer.frame().await.text(), words);
}

async fn frames_against_the_rules(live: &Live) {
    let begun = frame(TEXT, "x");
    let behind = |bytes: &[u8]| [&begun[..], bytes].concat();
    let mut rules: Vec<(Vec<u8>, u16)> = vec![
        // Not masked.
        (b"\x81\x02hi".to_vec(), 1002),
        (b"\x89\x00".to_vec(), 1002),
        // Long or fragmented control frames.
        (frame(FIN | PING, [0; 126]), 1002),
        (frame(PING, ""), 1002),
        (frame(CLOSE, ""), 1002),
        // Fragments that are none, or that do not go on.
        (frame(FIN | CONTINUATION, "x"), 1002),
        (frame(CONTINUATION, "x"), 1002),
        (behind(&frame(FIN | TEXT, "x")), 1002),
        (behind(&frame(BINARY, "x")), 1002),
        // A length in more bytes than it needs.
        (vec![FIN | TEXT, 0x80 | 126, 0, 5], 1002),
        (vec![FIN | TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
        // Not UTF-8, said as soon as it is seen.
        (frame(FIN | TEXT, b"\xff"), 1007),
        (frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
        (frame(FIN | TEXT, b"\xe2\x82"), 1007),
        (frame(TEXT, b"ab\xc0"), 1007),
        (behind(&frame(CONTINUATION, b"\xf5")), 1007),
        // Compressed, although that was not agreed.
        (frame(FIN | RSV1 | TEXT, "x"), 1002),
    ];
    for bits in 1..8 {
        rules.push((frame(FIN | bits << 4 | BINARY, "x"), 1002));
        rules.push((frame(FIN | bits << 4 | PING, ""), 1002));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        rules.push((frame(FIN | opcode, ""), 1002));
    }
    for (bytes, code) in rules {
        is_closed_with(live, "/ws", &bytes, code).await;
    }
}

async fn closes_against_the_rules(live: &Live) {
    is_closed_with(live, "/ws", &frame(FIN | CLOSE, b"\x03"), 1002).await;
    is_closed_with(live, "/ws", &frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007).await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        is_closed_with(live, "/ws", &peer::close(code), 1002).await;
    }
    // Those that may be sent come back.
    for code in [1000, 1001, 1011, 3000, 4999] {
        is_closed_with(live, "/ws", &peer::close(code), code).await;
    }
}

async fn data_after_close(live: &Live) {
    let mut bytes = peer::text(r#"{"type":"publish","channel":"after","data":"before Close"}"#);
    bytes.extend(peer::close(1000));
    bytes.extend(peer::text(r#"{"type":"publish","channel":"after","data":"after Close"}"#).repeat(1_000));
    is_closed_with(live, "/ws", &bytes, 1000).await;
    // And behind a Close of the server's.
    let mut bytes = frame(FIN | CONTINUATION, "x");
    bytes.extend(peer::text(
        r#"{"type":"publish","channel":"after","data":"after Close"}"#,
    ));
    is_closed_with(live, "/ws", &bytes, 1002).await;
    let history = http::get(live.internal, "/api/v1/history?channel=after")
        .await
        .expect(200);
    assert_eq!(history.body.matches("before Close").count(), 1);
    assert_eq!(history.body.matches("after Close").count(), 0);
}

async fn ping_flood(live: &Live) {
    for target in ["/ws", "/echo"] {
        let mut peer = Peer::open(live.public, target).await;
        peer.send(frame(FIN | PING, "who is there").repeat(100_000)).await;
        peer.send(peer::close(1000)).await;
        let mut pongs = 0;
        let close = loop {
            let frame = peer.frame().await;
            match frame.close_code() {
                Some(code) => break code,
                None => pongs += 1,
            }
        };
        assert_eq!(close, 1008);
        assert!(pongs < 1_000, "{pongs} pongs");
        peer.hear_end().await;
    }
}

/// Says a head and a lot more, and gets this status and an orderly end.
async fn is_answered_with(live: &Live, head: &str, status: u16) {
    let mut peer = Peer::connect(live.public).await;
    peer.send(head).await;
    let rest = peer.try_send(vec![b'x'; MORE_BYTES]).await;
    match peer.next_answer().await {
        Ok(answer) => assert_eq!(answer.status, status, "{answer:?}"),
        Err(ended) => panic!("{ended:?} in place of {status}, sending: {rest:?}"),
    }
    rest.unwrap();
    peer.hear_end().await;
}

async fn large_heads(live: &Live) {
    let head = peer::handshake("/ws");
    let one_large = format!("X-Large: {}\r\n", "x".repeat(100 * 1024));
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: x\r\n")).collect::<String>();
    let own = head.lines().count() - 1;
    is_answered_with(live, &format!("{head}{one_large}\r\n"), 431).await;
    is_answered_with(live, &format!("{head}X-Large: {}", "x".repeat(100 * 1024)), 431).await;
    is_answered_with(live, &format!("{head}{}\r\n", many(65 - own)), 431).await;
    is_answered_with(live, &format!("{head}{}\r\n", many(5_000)), 431).await;
    let mut peer = Peer::connect(live.public).await;
    peer.send(format!("{head}{}\r\n", many(64 - own))).await;
    peer.answer().await.expect(101);
    let mut peer = Peer::connect(live.public).await;
    let fits = format!("X-Large: {}\r\n\r\n", "x".repeat(16 * 1024 - head.len() - 13));
    peer.send(format!("{head}{fits}")).await;
    peer.answer().await.expect(101);
}

async fn upgrades_with_a_body(live: &Live) {
    let head = peer::handshake("/ws");
    is_answered_with(live, &format!("{head}Content-Length: {MORE_BYTES}\r\n\r\n"), 400).await;
    is_answered_with(live, &format!("{head}Content-Length: 5\r\n\r\n"), 400).await;
    is_answered_with(
        live,
        &format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
        400,
    )
    .await;
    is_answered_with(live, "not HTTP at all\r\n\r\n", 400).await;
}

/// Bytes that somebody rolled dice for: whatever they are, there is an end, and it is nobody's but their own.
async fn garbage(live: &Live) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 8) as usize % sides
    };
    let valid = [
        peer::handshake("/ws").into_bytes(),
        peer::text(r#"{"type":"subscribe","id":1,"channel":"garbage"}"#),
        peer::text(r#"{"type":"publish","id":2,"channel":"garbage","data":{"a":[1,"x",null]}}"#),
        peer::text(r#"{"type":"history","id":3,"channel":"garbage","limit":2}"#),
        frame(FIN | PING, "hi"),
        frame(TEXT, r#"{"type":"#),
        frame(FIN | CONTINUATION, r#""ping"}"#),
        peer::close(1000),
    ];
    for round in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..20 {
            match roll(3) {
                0 => bytes.extend((0..roll(40)).map(|_| roll(256) as u8)),
                _ => bytes.extend(&valid[roll(valid.len())]),
            }
        }
        for _ in 0..roll(6) {
            let at = roll(bytes.len());
            bytes[at] ^= 1 << roll(8);
        }
        let mut peer = match round % 3 {
            0 => Peer::connect(live.public).await,
            1 => Peer::open(live.public, "/ws").await,
            _ => Peer::open(live.public, "/ws?channel=garbage").await,
        };
        // The server may have had enough before it is all said.
        let _gone = peer.try_send(&bytes).await;
    }
}

async fn broken_handshakes(live: &Live) {
    const AT_ONCE: usize = 100;
    // Some may find no place, if the machine is too busy to see that others have left.
    let accepted = |live: &Live| {
        live.count(|shard| &shard.connections_accepted) + live.count(|shard| &shard.connections_refused)
    };
    let before = accepted(live);
    let head = peer::handshake("/ws");
    for round in 0..10_000 / AT_ONCE {
        let from = [127, 0, 2, (round % 10) as u8 + 1].into();
        let mut peers = Vec::new();
        for _ in 0..AT_ONCE {
            let mut peer = Peer::connect_with(live.public, Some(from), None).await.unwrap();
            let said = peers.len() * head.len() / AT_ONCE;
            peer.send(&head[..said]).await;
            peers.push(peer);
        }
        // Some go in good order, some do not.
        for peer in peers.iter().step_by(2) {
            socket2::SockRef::from(&peer.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(peers);
    }
    eventually("they were all accepted", async || {
        (accepted(live) >= before + 10_000).then_some(())
    })
    .await;
    eventually("their places are free", async || {
        let (_, answer) = Peer::upgrade(live.public, "/ws", &[]).await;
        (answer.status == 101).then_some(())
    })
    .await;
}

//! The server's and the client's session machine against each other, in memory, on virtual time.

// In a test a panic is the failure.
#![allow(clippy::unwrap_used)]

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::dialect::{Command, DialectId, Event};
use switchboard_proto::entry::User;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::limits::{Rate, SessionLimits};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::session::client::{self, End as ClientEnd, Unsaid};
use switchboard_proto::session::outbox::Queued;
use switchboard_proto::session::resume::ResumeKey;
use switchboard_proto::session::server::{
    End, Identity, Link, Mode, Request, Session, SessionId, Settings, Shared,
};
use switchboard_proto::time::Time;
use switchboard_proto::ws::frame::encode_message;
use switchboard_proto::ws::{MaskKeys, MessageKind, frame};

/// One server session. `wire` is what has left it.
struct Server {
    now: Time,
    session: Session,
    shared: Shared,
    wire: Vec<u8>,
    /// Whether the socket takes anything.
    writable: bool,
}

fn settings(limits: SessionLimits) -> Settings {
    Settings {
        limits,
        anonymous: true,
        resume_key: ResumeKey::new([7; 32]),
        compress_bytes_min: 256,
        compression_level: 1,
    }
}

impl Server {
    fn new(mode: Mode, limits: SessionLimits) -> Server {
        let shared = Shared::new(Arc::new(settings(limits)));
        let identity = Identity {
            session: SessionId(7),
            user: User::new("ana"),
        };
        let session = Session::new(Time::ZERO, mode, identity, None, 127, &shared.settings);
        Server {
            now: Time::ZERO,
            session,
            shared,
            wire: Vec::new(),
            writable: true,
        }
    }

    fn native() -> Server {
        Server::new(Mode::Native(DialectId::Json), SessionLimits::default())
    }

    /// The shell's part of the calling contract.
    fn send(&mut self) {
        let replies = std::mem::take(&mut self.shared.replies);
        if !replies.is_empty() {
            self.session.handle_unwritten(self.now, replies.into(), 0);
        }
        while self.writable && !self.session.outbox().is_empty() {
            let mut slices = [IoSlice::new(&[])];
            self.session.outbox().slices(&mut slices);
            let front = slices[0].to_vec();
            self.wire.extend_from_slice(&front);
            self.session.handle_written(self.now, front.len());
        }
    }

    /// Bytes from a client; returns what it asks of the hub.
    fn receive(&mut self, mut bytes: Vec<u8>) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut taken = 0;
        loop {
            let mut input = &mut bytes[taken..];
            let request = self.session.poll_request(self.now, &mut input, &mut self.shared);
            let left = input.len();
            taken = bytes.len() - left;
            match request {
                Some(request @ Request::Echo { kind, bytes: length }) => {
                    let content = &bytes[taken - length..taken];
                    encode_message(kind, content, false, &mut self.shared.replies);
                    requests.push(request);
                }
                Some(request) => requests.push(request),
                None => break,
            }
        }
        self.send();
        requests
    }

    /// Lets time pass, looking at the session whenever it wants to be looked at.
    fn sleep(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.session.link() != Link::Ended {
            let deadline = self.session.deadline(&self.shared.settings);
            if deadline > until {
                break;
            }
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now, &mut self.shared);
            self.send();
        }
        self.now = until;
    }

    fn text(&mut self, text: &str) -> Vec<Request> {
        self.receive(masked(0x81, text.as_bytes()))
    }

    /// Everything sent since the last call, as text: data frames as they are, control frames as `<opcode payload>`.
    fn sent(&mut self) -> Vec<String> {
        let bytes = std::mem::take(&mut self.wire);
        let mut rest = bytes.as_slice();
        let mut frames = Vec::new();
        while let Some((header, length)) = frame::Header::decode(rest).unwrap() {
            let (payload, behind) = rest[length..].split_at(header.payload_bytes as usize);
            frames.push(match header.opcode {
                frame::Opcode::Close if payload.len() >= 2 => {
                    format!("<close {}>", u16::from_be_bytes([payload[0], payload[1]]))
                }
                frame::Opcode::Close => "<close>".to_owned(),
                frame::Opcode::Ping => "<ping>".to_owned(),
                frame::Opcode::Pong => format!("<pong {}>", String::from_utf8_lossy(payload)),
                _ => String::from_utf8_lossy(payload).into_owned(),
            });
            rest = behind;
        }
        assert!(rest.is_empty(), "whole frames");
        frames
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 65_536);
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn room() -> ChannelName {
    ChannelName::parse("room:42").unwrap()
}

/// A client and a server, and bytes that are carried between them.
struct Pair {
    server: Server,
    client: client::Session,
    /// Whether the network carries anything.
    connected: bool,
}

impl Pair {
    fn new(dialect: DialectId) -> Pair {
        let masks = MaskKeys::from_seed([1; 32]);
        let client = client::Session::new(Time::ZERO, dialect, None, masks, 127, client::Settings::default());
        Pair {
            server: Server::new(Mode::Native(dialect), SessionLimits::default()),
            client,
            connected: true,
        }
    }

    /// Carries bytes until nothing moves. Returns what the server was asked and what the client was told.
    fn carry(&mut self) -> (Vec<Request>, Vec<Notice>) {
        let (mut requests, mut notices) = (Vec::new(), Vec::new());
        loop {
            let up = std::mem::take(self.client.output());
            let mut down = std::mem::take(&mut self.server.wire);
            if up.is_empty() && down.is_empty() || !self.connected {
                return (requests, notices);
            }
            requests.extend(self.server.receive(up));
            let mut input = down.as_mut_slice();
            while let Some(notice) = self.client.poll_notice(self.server.now, &mut input) {
                notices.push(notice);
            }
        }
    }

    fn command(&mut self, command: Command) -> (Vec<Request>, Vec<Notice>) {
        self.client.command(&command).unwrap();
        self.carry()
    }

    fn say(&mut self, event: &Event<'_>) -> Vec<Notice> {
        self.server.session.say(event, &mut self.server.shared);
        self.server.send();
        self.carry().1
    }

    fn sleep(&mut self, duration: Duration) {
        for _ in 0..duration.as_secs() {
            self.server.sleep(seconds(1));
            if self.client.deadline() <= self.server.now {
                self.client.handle_timeout(self.server.now);
            }
            self.carry();
        }
    }
}

/// Of the session that all sessions here begin as.
fn resume_token() -> String {
    ResumeKey::new([7; 32]).token(&Identity {
        session: SessionId(7),
        user: User::new("ana"),
    })
}

/// The session and the user that a `connect` with this token gets.
fn welcomed(token: Option<String>) -> (String, String, Option<String>) {
    let mut pair = Pair::new(DialectId::Json);
    let (_, notices) = pair.command(Command::Connect {
        id: Some(1),
        token: None,
        resume: token,
    });
    match notices.as_slice() {
        [
            Notice::Welcome {
                session,
                user,
                resume,
                ..
            },
        ] => (session.clone(), user.clone(), resume.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_is_resumed_with_what_the_server_signed_and_with_nothing_else() {
    let other = Identity {
        session: SessionId(9),
        user: User::new("ben"),
    };
    let token = ResumeKey::new([7; 32]).token(&other);
    let resumed = (
        "s_0000000000000009".to_owned(),
        "ben".to_owned(),
        Some(token.clone()),
    );
    assert_eq!(welcomed(Some(token.clone())), resumed);
    let own = (
        "s_0000000000000007".to_owned(),
        "ana".to_owned(),
        Some(resume_token()),
    );
    let foreign = ResumeKey::new([8; 32]).token(&other);
    for token in [
        None,
        Some(foreign),
        Some(format!("{token}A")),
        Some(String::new()),
    ] {
        assert_eq!(welcomed(token.clone()), own, "{token:?}");
    }
}

#[test]
fn who_closes_with_1000_or_without_a_code_has_left() {
    let ends = [
        (vec![], End::Left),
        (1000_u16.to_be_bytes().to_vec(), End::Left),
        (1001_u16.to_be_bytes().to_vec(), End::Closed),
        (4000_u16.to_be_bytes().to_vec(), End::Closed),
    ];
    for (body, end) in ends {
        let mode = Mode::Native(DialectId::Json);
        let mut server = Server::new(mode, SessionLimits::default());
        server.receive(masked(0x88, &body));
        assert_eq!(server.session.end(), Some(end), "{body:?}");
    }
}

#[test]
fn a_conversation_in_both_notations() {
    for dialect in [DialectId::Json, DialectId::Msgpack] {
        let mut pair = Pair::new(dialect);
        let (requests, notices) = pair.command(Command::Connect {
            id: Some(1),
            token: None,
            resume: None,
        });
        assert_eq!(requests, []);
        let welcome = Notice::Welcome {
            id: Some(1),
            session: "s_0000000000000007".to_owned(),
            user: "ana".to_owned(),
            heartbeat: seconds(25),
            resume: Some(resume_token()),
        };
        assert_eq!(notices, [welcome]);

        let (requests, _) = pair.command(Command::Subscribe {
            id: Some(2),
            channel: room(),
            since: None,
            latest: false,
            presence: None,
        });
        assert_eq!(
            requests,
            [Request::Subscribe {
                id: Some(2),
                channel: room(),
                since: None,
                latest: false,
                presence: None,
            }]
        );
        let position = Position {
            epoch: Epoch::of(&room(), 5),
            offset: 17,
            tag: 3,
        };
        let notices = pair.say(&Event::Subscribed {
            id: Some(2),
            channel: &room(),
            position,
            recovered: None,
        });
        assert_eq!(
            notices,
            [Notice::Subscribed {
                id: Some(2),
                channel: room(),
                position,
                recovered: None,
            }]
        );

        let payload = Payload::json(r#"{"text":"hi"}"#).unwrap();
        let publish = Command::Publish {
            id: None,
            channel: room(),
            payload: payload.clone(),
            key: None,
            conflate: None,
        };
        let (requests, _) = pair.command(publish);
        assert_eq!(
            requests,
            [Request::Publish {
                id: None,
                channel: room(),
                payload,
                key: None,
                conflate: None,
            }]
        );

        let (requests, notices) = pair.command(Command::Ping { id: Some(4) });
        assert_eq!((requests, notices), (vec![], vec![Notice::Pong { id: Some(4) }]));
    }
}

#[test]
fn connect_may_be_left_out_and_comes_once() {
    let mut server = Server::native();
    assert_eq!(
        server.text(r#"{"type":"subscribe","channel":"room:42"}"#).len(),
        1
    );
    server.text(r#"{"type":"connect","id":1}"#);
    assert!(server.sent()[0].contains(r#""id":1,"code":"already_connected""#));
    assert!(server.session.is_open());
}

#[test]
fn without_anonymous_users_nothing_is_done_and_the_session_is_closed_with_4401() {
    let mut server = Server::native();
    server.shared.settings = Arc::new(Settings {
        anonymous: false,
        resume_key: ResumeKey::new([7; 32]),
        ..settings(SessionLimits::default())
    });
    assert_eq!(
        server.text(r#"{"type":"publish","id":1,"channel":"room:42","data":1}"#),
        []
    );
    let sent = server.sent();
    assert!(sent[0].contains(r#""code":"unauthorized""#), "{sent:?}");
    assert_eq!(sent[1], "<close 4401>");
}

#[test]
fn a_bad_command_is_answered_and_the_session_goes_on() {
    let mut server = Server::native();
    let deep = "[".repeat(10_000);
    for text in [
        "null",
        "[]",
        "17",
        "\"x\"",
        "{",
        deep.as_str(),
        r#"{"type":"publish"}"#,
    ] {
        assert_eq!(server.text(text), []);
        let sent = server.sent();
        assert_eq!(sent.len(), 1, "{text}");
        assert!(sent[0].starts_with(r#"{"type":"error","code":""#), "{sent:?}");
        assert!(sent[0].len() < 400, "an answer is no amplifier");
    }
    assert_eq!(
        server.text(r#"{"type":"subscribe","channel":"room:42"}"#).len(),
        1
    );
}

#[test]
fn an_idle_pair_lives_for_an_hour_on_heartbeats() {
    let mut pair = Pair::new(DialectId::Json);
    pair.command(Command::Connect {
        id: Some(1),
        token: None,
        resume: None,
    });
    pair.sleep(seconds(3_600));
    assert_eq!(
        (pair.server.session.link(), pair.client.end()),
        (Link::Open, None)
    );
}

#[test]
fn a_silent_client_is_pinged_and_then_terminated() {
    let mut server = Server::native();
    server.sleep(seconds(24));
    assert_eq!(server.sent(), [""; 0]);
    server.sleep(seconds(2));
    assert_eq!(server.sent(), ["<ping>"]);
    server.sleep(seconds(8));
    assert_eq!(server.session.link(), Link::Open);
    server.sleep(seconds(2));
    assert_eq!(
        (server.session.link(), server.session.end()),
        (Link::Ended, Some(End::Silent))
    );
}

#[test]
fn a_cut_network_is_noticed_by_both_sides() {
    let mut pair = Pair::new(DialectId::Json);
    pair.command(Command::Connect {
        id: Some(1),
        token: None,
        resume: None,
    });
    pair.connected = false;
    pair.sleep(seconds(60));
    assert_eq!(pair.server.session.end(), Some(End::Silent));
    assert_eq!(pair.client.end(), Some(&ClientEnd::Silent));
}

#[test]
fn the_client_closes() {
    let mut pair = Pair::new(DialectId::Json);
    pair.client.close(Time::ZERO);
    pair.carry();
    assert_eq!(
        (pair.server.session.end(), pair.server.session.link()),
        (Some(End::Left), Link::Lingering)
    );
    assert_eq!(
        pair.client.end(),
        Some(&ClientEnd::Closed {
            code: Some(1000),
            reason: String::new()
        })
    );
    pair.server.sleep(seconds(1));
    assert_eq!(
        pair.server.session.link(),
        Link::Lingering,
        "what the peer still sends is read"
    );
    pair.server.sleep(seconds(2));
    assert_eq!(pair.server.session.link(), Link::Ended, "but not for ever");
}

#[test]
fn the_server_stops() {
    let mut pair = Pair::new(DialectId::Json);
    pair.server
        .session
        .handle_stop(Time::ZERO, Duration::from_millis(3_100), &mut pair.server.shared);
    pair.server.send();
    let (_, notices) = pair.carry();
    let goodbye = Notice::Goodbye {
        code: 1001,
        reason: "stopping".to_owned(),
        retry_after: Duration::from_millis(3_100),
    };
    assert_eq!(notices, [goodbye]);
    assert_eq!(
        pair.client.end(),
        Some(&ClientEnd::Closed {
            code: Some(1001),
            reason: "stopping".to_owned()
        })
    );
    assert_eq!(
        (pair.server.session.end(), pair.server.session.link()),
        (Some(End::Stopping), Link::Lingering)
    );
}

#[test]
fn a_client_that_does_not_answer_close_is_dropped() {
    let mut server = Server::native();
    server
        .session
        .handle_stop(Time::ZERO, Duration::ZERO, &mut server.shared);
    server.send();
    server.sleep(seconds(4));
    assert_eq!(server.session.link(), Link::Open);
    server.sleep(seconds(2));
    assert_eq!(server.session.link(), Link::Ended);
}

#[test]
fn nothing_is_said_after_close() {
    let mut server = Server::native();
    server.receive(masked(0x88, &1000u16.to_be_bytes()));
    assert_eq!(server.sent(), ["<close 1000>"]);
    server
        .session
        .say(&Event::Pong { id: Some(1) }, &mut server.shared);
    server.send();
    assert_eq!(server.text(r#"{"type":"ping","id":1}"#), []);
    assert_eq!(server.sent(), [""; 0]);
}

#[test]
fn a_protocol_error_is_closed_with_its_code() {
    let mut server = Server::native();
    server.receive(vec![0x81, 0x00]);
    assert_eq!(server.sent(), ["<close 1002>"], "an unmasked frame");
    assert_eq!(
        (server.session.end(), server.session.link()),
        (Some(End::Misbehaved), Link::Lingering)
    );

    let mut server = Server::native();
    server.receive(masked(0x81, &[0xff]));
    assert_eq!(server.sent(), ["<close 1007>"], "not UTF-8");

    let mut server = Server::native();
    server.receive([&[0x82, 0xff], &(1u64 << 62).to_be_bytes()[..], &[0; 4]].concat());
    assert_eq!(server.sent(), ["<close 1009>"], "larger than a message may be");
}

#[test]
fn a_message_that_is_never_finished_is_closed_with_1008() {
    let mut server = Server::native();
    server.receive(masked(0x01, b"begin"));
    for _ in 0..29 {
        server.sleep(seconds(1));
        server.receive(masked(0x00, b"x"));
    }
    assert!(server.session.is_open());
    server.sleep(seconds(2));
    assert_eq!(server.sent(), ["<close 1008>"]);
    assert_eq!(server.session.end(), Some(End::Excessive));
}

#[test]
fn an_unfinished_message_of_a_closing_session_is_not_waited_for() {
    let mut server = Server::native();
    server.receive(masked(0x01, b"begin"));
    server.sleep(seconds(29));
    server.receive(masked(0x00, b"goes on"));
    server
        .session
        .handle_stop(server.now, seconds(1), &mut server.shared);
    let close_timeout = server.now + seconds(5);
    server.now = server.now + seconds(2);
    server.session.handle_timeout(server.now, &mut server.shared);
    assert_eq!(
        server.session.deadline(&server.shared.settings),
        close_timeout,
        "nothing is due before the peer's time for its Close is over"
    );
}

#[test]
fn each_message_has_its_own_time_to_be_finished() {
    let mut server = Server::native();
    server.receive(masked(0x01, b"{"));
    server.sleep(seconds(20));
    server.receive([masked(0x80, b"}"), masked(0x01, b"{")].concat());
    server.sent();
    server.sleep(seconds(20));
    assert_eq!(server.sent(), ["<ping>"; 0]);
    assert!(server.session.is_open());
}

#[test]
fn a_socket_that_takes_nothing_is_terminated() {
    let mut server = Server::native();
    server.writable = false;
    server.text(r#"{"type":"ping","id":1}"#);
    server.sleep(seconds(9));
    assert_eq!(server.session.link(), Link::Open);
    server.sleep(seconds(2));
    assert_eq!(
        (server.session.link(), server.session.end()),
        (Link::Ended, Some(End::Stalled))
    );
}

#[test]
fn a_slow_reader_that_takes_something_now_and_then_is_not_silent() {
    let mut server = Server::native();
    server.writable = false;
    server
        .session
        .handle_unwritten(server.now, vec![0; 100_000].into(), 1);
    assert!(!server.session.wants_input());
    for _ in 0..30 {
        server.sleep(seconds(4));
        server.session.handle_written(server.now, 1);
    }
    assert_eq!((server.session.link(), server.session.end()), (Link::Open, None));
    server.sleep(seconds(15));
    assert_eq!(
        server.session.end(),
        Some(End::Stalled),
        "once it takes nothing at all"
    );
}

#[test]
fn deliveries_leave_room_for_answers() {
    let mut server = Server::native();
    let settings = server.shared.settings.clone();
    let bytes_max = settings.limits.outbox_bytes_max;
    while server
        .session
        .handle_delivery(vec![0; 1_000].into(), 1, &settings)
        == Queued::Queued
    {}
    let bytes = server.session.outbox().bytes();
    assert!(bytes <= bytes_max / 8 * 7 && bytes > bytes_max / 4 * 3, "{bytes}");
}

#[test]
fn pings_are_answered_each_and_while_the_socket_is_full_only_the_newest() {
    let mut server = Server::native();
    let pings = |names: &[&str]| {
        names
            .iter()
            .flat_map(|name| masked(0x89, name.as_bytes()))
            .collect::<Vec<_>>()
    };
    server.receive(pings(&["a", "b", "c"]));
    assert_eq!(server.sent(), ["<pong a>", "<pong b>", "<pong c>"]);
    server.writable = false;
    server.text(r#"{"type":"ping","id":1}"#);
    server.receive(pings(&["d", "e", "f"]));
    server.writable = true;
    server.send();
    assert_eq!(server.sent(), [r#"{"type":"pong","id":1}"#, "<pong f>"]);
}

#[test]
fn a_flood_of_control_frames_is_closed_with_1008() {
    let mut server = Server::native();
    server.receive(masked(0x8a, b"").repeat(50));
    assert!(server.session.is_open(), "a burst of 50 is allowed");
    server.receive(masked(0x8a, b"").repeat(2));
    assert_eq!(server.sent(), ["<close 1008>"]);
}

#[test]
fn too_many_commands_are_refused_and_then_closed_with_4029() {
    let mut server = Server::native();
    let ping = masked(0x81, br#"{"type":"ping","id":1}"#);
    server.receive(ping.repeat(200));
    assert!(server.sent().iter().all(|frame| frame.contains("pong")));
    server.receive(ping.clone());
    let sent = server.sent();
    assert!(
        sent[0].contains(r#""id":1,"code":"rate_limited""#) && sent[0].contains("retry_after_ms"),
        "{sent:?}"
    );
    server.sleep(seconds(1));
    server.receive(ping.clone());
    assert!(server.sent()[0].contains("pong"), "after a pause it goes on");
    server.receive(ping.repeat(400));
    assert_eq!(server.sent().last().unwrap(), "<close 4029>");
    assert_eq!(server.session.end(), Some(End::Excessive));
}

#[test]
#[cfg_attr(miri, ignore = "a megabyte of commands takes half an hour")]
fn too_many_bytes_are_refused() {
    let mut server = Server::native();
    let publish = format!(
        r#"{{"type":"publish","id":1,"channel":"room:42","data":"{}"}}"#,
        "x".repeat(60_000)
    );
    let taken = (0..20).map(|_| server.text(&publish).len()).sum::<usize>();
    assert_eq!(taken, 8, "512 KiB at once");
    let refused = |frame: &String| frame.contains("rate_limited") || frame == "<ping>";
    assert!(server.sent().iter().all(refused));
}

/// The publishes with these texts, in one go.
fn publishes(texts: &[&str]) -> Vec<u8> {
    let command = |text: &&str| {
        let command = format!(r#"{{"type":"publish","id":7,"channel":"room:42","data":"{text}"}}"#);
        masked(0x81, command.as_bytes())
    };
    texts.iter().flat_map(command).collect()
}

fn texts(requests: &[Request]) -> Vec<&str> {
    let texts = requests.iter().filter_map(|request| match request {
        Request::Publish { payload, .. } => payload.as_str(),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_refused_publish_is_not_overtaken_by_those_behind_it() {
    let mut server = Server::native();
    let requests = server.receive(publishes(&["a", "b"]));
    assert_eq!(texts(&requests), ["a", "b"]);
    assert_eq!(server.session.holds(), 0);
    server.session.refuse_publish(
        server.now,
        Some(1),
        ErrorCode::Overloaded,
        Some(seconds(1)),
        &mut server.shared,
    );
    server.send();
    let sent = server.sent();
    assert!(sent[0].contains(r#""id":1,"code":"overloaded""#), "{sent:?}");
    assert_eq!(sent[1..], ["<ping>"], "to know when the client knows");

    // What it had sent before it could know. Everything else goes on.
    let requests = server.receive(publishes(&["c", "d"]));
    assert_eq!(requests, []);
    let sent = server.sent();
    assert_eq!(sent.len(), 2);
    for refused in sent {
        assert!(refused.contains(r#""code":"overloaded""#) && refused.contains("retry_after_ms"));
    }
    assert_eq!(server.text(r#"{"type":"history","channel":"room:42"}"#).len(), 1);
    server.receive(masked(0x8a, b""));
    assert_eq!(
        server.receive(publishes(&["e"])),
        [],
        "a pong to another ping tells nothing"
    );
    server.sent();

    server.receive(masked(0x8a, &1u32.to_be_bytes()));
    assert_eq!(
        texts(&server.receive(publishes(&["b", "c", "d"]))),
        ["b", "c", "d"]
    );
    assert_eq!(server.session.holds(), 1);
    assert_eq!(server.sent(), [""; 0]);
}

#[test]
fn a_publish_that_is_refused_for_good_holds_nothing_up() {
    let mut server = Server::native();
    server.receive(publishes(&["a"]));
    server.session.refuse_publish(
        server.now,
        Some(1),
        ErrorCode::BadPayload,
        None,
        &mut server.shared,
    );
    server.send();
    assert_eq!(texts(&server.receive(publishes(&["b"]))), ["b"]);
}

#[test]
fn publishes_over_the_rate_keep_their_order_too() {
    let mut server = Server::native();
    let taken = server.receive(publishes(&["x"; 201]));
    assert_eq!(taken.len(), 200);
    assert_eq!(server.sent().last().unwrap(), "<ping>");
    server.sleep(seconds(1));
    assert_eq!(server.receive(publishes(&["behind"])), [], "it does not know yet");
    server.receive(masked(0x8a, &1u32.to_be_bytes()));
    assert_eq!(server.receive(publishes(&["x", "behind"])).len(), 2);
}

/// RFC 6455 section 5.5.3: only the answer to the newest ping may come.
#[test]
fn every_ping_asks_what_is_to_be_known_and_only_its_answer_ends_the_wait() {
    let mut server = Server::native();
    let refuse = |server: &mut Server| {
        server
            .session
            .refuse_publish(server.now, None, ErrorCode::Overloaded, None, &mut server.shared);
        server.send();
    };
    for round in 1..=100u32 {
        refuse(&mut server);
        assert_eq!(server.receive(publishes(&["x"])), []);
        server.receive(masked(0x8a, &round.to_be_bytes()));
        assert_eq!(server.receive(publishes(&["x"])).len(), 1);
        server.sleep(Duration::from_millis(20));
    }
    assert!(
        server.session.is_open(),
        "the pongs that were asked for are not counted"
    );
    // Publishes were taken again after 10 s, before the refused ones, where the refusals had been on their way for longer.
    refuse(&mut server);
    for _ in 0..30 {
        server.sleep(seconds(1));
        assert_eq!(server.receive(publishes(&["x"])), []);
    }
    server.receive(masked(0x8a, &101u32.to_be_bytes()));
    assert_eq!(server.receive(publishes(&["x"])).len(), 1);
}

#[test]
fn histories_of_one_session_are_bounded() {
    let mut server = Server::native();
    let history = masked(0x81, br#"{"type":"history","id":1,"channel":"room:42"}"#);
    assert_eq!(server.receive(history.repeat(6)).len(), 4);
    assert!(server.sent().iter().all(|frame| frame.contains("overloaded")));
    server.session.handle_read_answered();
    assert_eq!(server.receive(history).len(), 1);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read() {
    let limits = SessionLimits {
        commands: Rate::UNLIMITED,
        ..SessionLimits::default()
    };
    let mut server = Server::new(Mode::Native(DialectId::Json), limits);
    server.writable = false;
    let mut answered = 0;
    while server.session.wants_input() {
        server.text(r#"{"type":"ping","id":1}"#);
        answered += 1;
        assert!(answered < 10_000);
    }
    server.writable = true;
    server.send();
    assert!(server.session.wants_input());
}

#[test]
fn raw_says_by_close_codes_what_it_cannot_say_by_frames() {
    let raw = || Server::new(Mode::Raw(room()), SessionLimits::default());
    let mut server = raw();
    let requests = server.text("hi");
    assert_eq!(
        requests,
        [Request::Publish {
            id: None,
            channel: room(),
            payload: Payload::text("hi"),
            key: None,
            conflate: None,
        }]
    );
    server.session.say(&Event::Pong { id: None }, &mut server.shared);
    server.send();
    assert_eq!(server.sent(), [""; 0]);
    let now = server.now;
    server
        .session
        .refuse(now, None, ErrorCode::Overloaded, None, None, &mut server.shared);
    server.send();
    assert_eq!(server.sent(), ["<close 1013>"]);
}

#[test]
fn echo_returns_what_it_gets() {
    let mut server = Server::new(Mode::Echo, SessionLimits::default());
    assert_eq!(server.text("hello"), []);
    let fragments = [masked(0x01, b"he"), masked(0x89, b"p"), masked(0x80, b"llo")].concat();
    server.receive(fragments);
    assert_eq!(server.sent(), ["hello", "<pong p>", "hello"]);
}

#[test]
fn a_long_echo_is_sent_from_where_it_was_read() {
    let long = "0123456789abcdef".repeat(2_000);
    let whole = masked(0x81, long.as_bytes());
    let mut server = Server::new(Mode::Echo, SessionLimits::default());
    let in_place = [Request::Echo {
        kind: MessageKind::Text,
        bytes: long.len(),
    }];
    // Alone, and between others of the same read.
    assert_eq!(server.receive(whole.clone()), in_place);
    assert_eq!(server.sent(), [long.as_str()]);
    let between = [masked(0x81, b"a"), whole.clone(), masked(0x81, b"b")].concat();
    assert_eq!(server.receive(between), in_place);
    assert_eq!(server.sent(), ["a", long.as_str(), "b"]);
    // What comes in pieces or fragments lies elsewhere.
    let (beginning, rest) = whole.split_at(10_000);
    assert_eq!(server.receive(beginning.to_vec()), []);
    assert_eq!(server.receive(rest.to_vec()), []);
    assert_eq!(server.sent(), [long.as_str()]);
    let fragments = [masked(0x01, b""), masked(0x80, long.as_bytes())].concat();
    assert_eq!(server.receive(fragments), []);
    assert_eq!(server.sent(), [long.as_str()]);
}

#[test]
fn a_client_that_does_not_read_lives_on() {
    let mut pair = Pair::new(DialectId::Json);
    pair.command(Command::Connect {
        id: Some(1),
        token: None,
        resume: None,
    });
    // As late as can be: the server is about to ask.
    pair.sleep(seconds(24));
    pair.client.handle_paused(pair.server.now);
    for _ in 0..3_600 {
        pair.server.sleep(seconds(1));
        if pair.client.deadline() <= pair.server.now {
            pair.client.handle_timeout(pair.server.now);
        }
        let signs = std::mem::take(pair.client.output());
        pair.server.receive(signs);
    }
    assert_eq!(
        (pair.server.session.link(), pair.client.end()),
        (Link::Open, None)
    );
    let unread = pair.server.wire.len();
    assert!(unread < 10, "signs of life cause no answers: {unread} bytes");

    pair.client.handle_resumed(pair.server.now);
    pair.sleep(seconds(3_600));
    assert_eq!(
        (pair.server.session.link(), pair.client.end()),
        (Link::Open, None)
    );
    pair.connected = false;
    pair.sleep(seconds(60));
    assert_eq!(pair.client.end(), Some(&ClientEnd::Silent));
}

#[test]
fn a_server_that_says_no_interval_does_not_keep_a_client_busy() {
    let mut pair = Pair::new(DialectId::Json);
    let event = Event::Welcome {
        id: None,
        session: "s",
        user: &User::new("ana"),
        heartbeat: Duration::ZERO,
        resume: "r0",
    };
    assert_eq!(pair.say(&event).len(), 1);
    let now = pair.server.now;
    assert!(
        pair.client.deadline() > now,
        "what has just been heard need not be asked"
    );

    pair.client.handle_paused(now);
    let first_sign = pair.client.deadline();
    pair.client.handle_timeout(first_sign);
    assert!(pair.client.deadline() > first_sign, "one sign of life at a time");
}

#[test]
fn of_the_pings_of_a_server_that_does_not_listen_the_newest_is_answered() {
    let mut pair = Pair::new(DialectId::Json);
    let mut frames = Vec::new();
    let mut asked = 0;
    let mut ping = |pair: &mut Pair| {
        frames.clear();
        asked += 1;
        let payload = format!("{asked:0>125}");
        frame::encode(frame::Opcode::Ping, false, payload.as_bytes(), None, &mut frames);
        let mut input = frames.as_mut_slice();
        assert_eq!(pair.client.poll_notice(Time::ZERO, &mut input), None);
    };
    for _ in 0..if cfg!(miri) { 600 } else { 10_000 } {
        ping(&mut pair);
    }
    let unsent = pair.client.output().len();
    assert!(unsent < 70_000, "{unsent}");
    pair.client.output().clear();
    pair.client.handle_timeout(Time::ZERO);
    let pong = std::mem::take(pair.client.output());
    assert_eq!(pong.len(), 2 + 4 + 125);
    ping(&mut pair);
    assert_eq!(pair.client.output().len(), pong.len(), "and from then on each");
}

#[test]
fn a_short_pause_costs_nothing() {
    let mut pair = Pair::new(DialectId::Json);
    for milliseconds in 0..1_000 {
        let now = Time::ZERO + Duration::from_millis(milliseconds);
        pair.client.handle_paused(now);
        pair.client.handle_timeout(now + Duration::from_micros(500));
        pair.client.handle_resumed(now + Duration::from_micros(500));
    }
    assert!(pair.client.output().is_empty());
}

#[test]
fn nothing_is_said_after_the_client_closed() {
    for dialect in [DialectId::Json, DialectId::Msgpack] {
        let mut pair = Pair::new(dialect);
        pair.client.close(Time::ZERO);
        assert_eq!(pair.client.command(&Command::Ping { id: Some(2) }), Err(Unsaid));
    }
}

#[test]
fn an_answer_that_makes_no_sense_ends_the_client() {
    let mut pair = Pair::new(DialectId::Json);
    pair.client
        .handle_nonsense("an answer of another kind than the question");
    pair.carry();
    assert!(matches!(pair.client.end(), Some(ClientEnd::Nonsense(_))));
    assert_eq!(pair.server.session.end(), Some(End::Closed));
}

#[test]
fn a_server_that_says_nonsense_ends_the_client() {
    let mut pair = Pair::new(DialectId::Json);
    frame::encode_message(MessageKind::Text, b"[]", false, &mut pair.server.wire);
    pair.carry();
    assert!(matches!(pair.client.end(), Some(ClientEnd::NotAnEvent(_))));

    let mut pair = Pair::new(DialectId::Json);
    frame::encode_message(
        MessageKind::Text,
        br#"{"type":"future","x":1}"#,
        false,
        &mut pair.server.wire,
    );
    assert_eq!(pair.carry().1, [Notice::Unknown], "a later version may add types");
    assert_eq!(pair.client.end(), None);
}

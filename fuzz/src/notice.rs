//! `proto::session::client`: the client's side of one connection.

use std::time::Duration;

use switchboard_proto::dialect::DialectId;
use switchboard_proto::session::client::{End, Session, Settings};
use switchboard_proto::time::Time;
use switchboard_proto::ws::deflate::{Agreed, Contexts};
use switchboard_proto::ws::{MaskKeys, Role};

use crate::script::Script;
use crate::vocabulary;
use crate::wire::{self, Event, Frame, Reader};

/// Most operations of one run.
const OPERATIONS_MAX: usize = 1_000;
/// What a client may say to input, for every byte: a Ping of no bytes is answered by a masked Pong, or by a Close.
const OUTPUT_BYTES_PER_BYTE_MAX: usize = 3;
const OUTPUT_BYTES_MAX: usize = 140;
/// Timeouts after which a session that is left alone has ended.
const TIMEOUTS_MAX: usize = 4;

/// A client's session and a server that sends anything.
///
/// - What leaves it are whole frames that a server understands, and a Close is the last of them.
/// - What is due is done: after a timeout the next deadline lies ahead. Left alone, it ends.
/// - It ends as silent only if it has asked and read since then. Once it has ended nothing comes out of it.
/// - What it says to input is bounded by the input.
pub fn notice(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(&mut script);
    for _ in 0..OPERATIONS_MAX {
        if script.is_over() || world.session.end().is_some() {
            break;
        }
        world.operate(&mut script);
    }
    world.wind_down();
}

struct World {
    now: Time,
    session: Session,
    settings: Settings,
    agreed: Option<Agreed>,
    /// The server's end, and the compressor of its messages.
    reader: Reader,
    contexts: Contexts,
    /// When a ping was said to which nothing has been heard.
    pinged_at: Option<Time>,
    /// Nothing is read from the socket.
    is_paused: bool,
}

impl World {
    fn new(script: &mut Script<'_>) -> World {
        let dialect = script.pick(&[DialectId::Json, DialectId::Msgpack]);
        let agreed = script.one_in(3).then(|| wire::agreed(script));
        let mut settings = Settings::default();
        if script.one_in(4) {
            settings.message_bytes_max = usize::from(script.byte());
            settings.ping_interval = Duration::from_millis(1 + u64::from(script.byte()));
            settings.pong_timeout = Duration::from_millis(1 + u64::from(script.byte()));
        }
        let now = Time::ZERO + Duration::from_secs(1);
        let masks = MaskKeys::from_seed([5; 32]);
        World {
            now,
            session: Session::new(now, dialect, agreed, masks, script.byte(), settings.clone()),
            settings,
            agreed,
            reader: Reader::new(Role::Server, agreed),
            contexts: Contexts::new(1),
            pinged_at: None,
            is_paused: false,
        }
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        match script.choose(8) {
            0..=2 => {
                let bytes = self.server_bytes(script);
                let lengths = script.array::<2>();
                wire::pieces(&bytes, &lengths).for_each(|piece| self.input(piece));
            }
            3 => self.input(script.some()),
            4 => {
                let said = self.session.command(&vocabulary::command(script));
                assert_eq!(said.is_ok(), !self.session.output().is_empty());
                self.send();
            }
            5 => {
                let milliseconds = script.pick(&[1, 1_000, 11_000, 26_000, 3_600_000]);
                self.now = self.now + Duration::from_millis(milliseconds);
                if self.session.deadline() <= self.now {
                    self.time_out();
                }
            }
            6 => {
                self.session.close(self.now);
                self.send();
            }
            _ => self.rare(script),
        }
    }

    fn rare(&mut self, script: &mut Script<'_>) {
        match script.choose(8) {
            0 => self.session.handle_eof(),
            1 => {
                self.session
                    .handle_nonsense("an answer of another kind than the question");
                assert!(self.session.end().is_some());
                self.send();
            }
            2..=4 => {
                self.session.handle_paused(self.now);
                self.is_paused = true;
            }
            _ => self.resume(),
        }
    }

    fn resume(&mut self) {
        self.session.handle_resumed(self.now);
        if std::mem::take(&mut self.is_paused) {
            self.pinged_at = None;
        }
    }

    /// Frames as a server sends them, well-formed mostly.
    fn server_bytes(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let mut frame = match script.choose(8) {
            0 => Frame::new(wire::PING, script.take(125)),
            1 => Frame::new(wire::PONG, script.take(20)),
            2 if script.one_in(4) => Frame::new(wire::CLOSE, &[&[3, 0xe8], script.take(9)].concat()),
            3 => Frame::new(wire::BINARY, script.some()),
            4 => Frame::new(wire::TEXT, script.some()),
            _ => said(script),
        };
        if self.agreed.is_some() && frame.opcode < wire::CLOSE && script.one_in(2) {
            let mut compressed = Vec::new();
            self.contexts.compress(15, &frame.payload, &mut compressed);
            (frame.payload, frame.rsv1) = (compressed, true);
        }
        let mut bytes = Vec::new();
        frame.fin = frame.opcode >= wire::CLOSE || !script.one_in(8);
        frame.encode(None, &mut bytes);
        if !frame.fin {
            Frame::new(wire::CONTINUATION, script.take(3)).encode(None, &mut bytes);
        }
        bytes.repeat(script.pick(&[1, 1, 3, 50]))
    }

    fn input(&mut self, piece: &[u8]) {
        if self.is_paused {
            return;
        }
        self.pinged_at = None;
        let mut bytes = piece.to_vec();
        let mut input = bytes.as_mut_slice();
        let had_ended = self.session.end().is_some();
        while let Some(notice) = self.session.poll_notice(self.now, &mut input) {
            assert!(!had_ended, "{notice:?} after the end");
        }
        assert!(input.is_empty(), "`None` means that the input is used up");
        let said = self.session.output().len();
        assert!(
            said <= OUTPUT_BYTES_PER_BYTE_MAX * piece.len() + OUTPUT_BYTES_MAX,
            "{said}"
        );
        self.send();
    }

    fn send(&mut self) {
        let output = std::mem::take(self.session.output());
        let pinged = self.reader.read(&output).contains(&Event::Ping(Vec::new()));
        assert!(self.reader.is_at_an_end(), "whole frames");
        if pinged {
            self.pinged_at = Some(self.now);
        }
    }

    fn time_out(&mut self) {
        if self.session.end().is_some() {
            return;
        }
        let asked_at = self.pinged_at;
        self.session.handle_timeout(self.now);
        match self.session.end() {
            None => assert!(self.session.deadline() > self.now, "what was due is still due"),
            Some(End::Silent) if !self.reader.is_closed() => {
                let waited = asked_at.map(|at| self.now.since(at));
                assert!(waited >= Some(self.settings.pong_timeout), "asked {waited:?} ago");
            }
            Some(_) => {}
        }
        self.send();
    }

    /// The server is heard of no more.
    fn wind_down(&mut self) {
        self.resume();
        for _ in 0..TIMEOUTS_MAX {
            if self.session.end().is_some() {
                self.input(b"\x81\x02{}");
                return;
            }
            self.now = self.now.max(self.session.deadline());
            self.time_out();
        }
        panic!("it does not end");
    }
}

/// What a server says, or nearly.
fn said(script: &mut Script<'_>) -> Frame {
    let position = vocabulary::position(script);
    let number = script.long() >> script.choose(64);
    let text = match script.choose(6) {
        0 => format!(r#"{{"type":"welcome","session":"s","user":"ana","heartbeat_ms":{number}}}"#),
        1 => format!(r#"{{"type":"subscribed","id":{number},"channel":"lobby","position":"{position}"}}"#),
        2 => format!(
            r#"{{"type":"message","channel":"lobby","offset":1,"position":"{position}","data":{},"at":{number}}}"#,
            vocabulary::json(script)
        ),
        3 => format!(r#"{{"type":"goodbye","code":{number},"reason":"stopping","retry_after_ms":1}}"#),
        4 => format!(
            r#"{{"type":"history","channel":"a","messages":[{{"position":"{position}","data":1,"at":{number}}}],"position":"{position}"}}"#
        ),
        _ => format!(
            r#"{{"type":"error","code":"later","message":{}}}"#,
            vocabulary::json(script)
        ),
    };
    Frame::new(wire::TEXT, text.as_bytes())
}

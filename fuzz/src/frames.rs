//! `proto::ws`: an established connection in either role.

use std::collections::VecDeque;

use switchboard_proto::ws::deflate::{Agreed, Compressor, Contexts};
use switchboard_proto::ws::{CloseCode, Connection, Limits, MaskKeys, MessageKind, Role, Sent, State};

use crate::naive::{Ending, Naive};
use crate::script::Script;
use crate::wire::{self, Event, Frame, Reader};

/// Most frames of one generated stream.
const FRAMES_MAX: usize = 64;
/// Longest generated message, in bytes before what is not UTF-8 is replaced by characters of three.
const MESSAGE_BYTES_MAX: usize = 66_000;
/// No frame is added to a generated stream that is this long, in bytes.
const STREAM_BYTES_MAX: usize = 70_000;
/// Longer streams are not fed byte by byte, because that takes its time.
const BYTE_BY_BYTE_MAX: usize = 3_000;
/// What an unfinished frame or message costs besides its payload: the state of it, and the payload of a control frame.
const UNFINISHED_BYTES: usize = 512;
/// More is never inflated at once.
const INFLATE_STEP_BYTES: usize = 16 * 1024;

/// A connection that gets bytes, or frames that are mostly well-formed, in any pieces.
///
/// - Any split gives the same events, the same answers and the same state.
/// - Well-formed frames give exactly what was put into them; any others what the RFCs say of them, and the right close code.
/// - What is sent is understood by the other role, and a Close is the last of it.
/// - What is held is bounded by the limits and by what has arrived, and nothing is held where nothing is unfinished.
pub fn frames(data: &[u8]) {
    let mut script = Script::new(data);
    let well_formed = script.one_in(2);
    let setup = Setup::new(&mut script, well_formed);
    let pieces = script.array::<4>();
    let damage: [[u8; 3]; 3] = std::array::from_fn(|_| script.array());
    let (stream, expected) = if well_formed {
        let (stream, events) = Sender::new(&setup).send(&mut script);
        (stream, Some(events))
    } else if script.one_in(2) {
        let (mut stream, _) = Sender::new(&setup).send(&mut script);
        damage
            .iter()
            .for_each(|damage| wire::damage(&mut stream, *damage));
        (stream, None)
    } else {
        (script.rest().to_vec(), None)
    };

    let whole = setup.feed(&stream, &[0]);
    let small: &[u8] = if stream.len() <= BYTE_BY_BYTE_MAX {
        &[1]
    } else {
        &[1, 2, 255]
    };
    assert_eq!(setup.feed(&stream, small), whole, "byte by byte");
    assert_eq!(setup.feed(&stream, &pieces), whole, "in pieces");
    if let Some(expected) = expected {
        assert_eq!(whole.events, expected);
    }
    setup.check_events(&stream, &whole);
    setup.check_answers(&whole);
    setup.interfere(&stream, &pieces);
}

/// What stays the same however the bytes arrive.
#[derive(PartialEq, Debug)]
struct Outcome {
    events: Vec<Event>,
    sent: Vec<u8>,
    state: State,
    message_is_unfinished: bool,
}

struct Setup {
    role: Role,
    agreed: Option<Agreed>,
    limits: Limits,
    level: u8,
    /// The application closes when it has seen this many events.
    closes_after: Option<usize>,
}

impl Setup {
    fn new(script: &mut Script<'_>, well_formed: bool) -> Setup {
        let role = script.pick(&[Role::Server, Role::Client]);
        let agreed = script.one_in(2).then(|| wire::agreed(script));
        let message_bytes_max = script.pick(&[1_000, 65_536, 126, 125, 1, 0]);
        let inflate_ratio_max = script.pick(&[100, 1, 10, 2_000]);
        let level = script.pick(&[1, 6, 9, 0]);
        let closes_after = script.one_in(4).then(|| script.choose(8));
        let limits = Limits {
            message_bytes_max,
            inflate_ratio_max,
        };
        // Nothing is in the way of what is well-formed.
        let unlimited = Limits {
            message_bytes_max: 4 * MESSAGE_BYTES_MAX,
            inflate_ratio_max: usize::MAX,
        };
        Setup {
            role,
            agreed,
            limits: if well_formed { unlimited } else { limits },
            level,
            closes_after: closes_after.filter(|_| !well_formed),
        }
    }

    fn connection(&self) -> Connection {
        match self.role {
            Role::Server => Connection::server(self.limits, self.agreed),
            Role::Client => Connection::client(self.limits, self.agreed, MaskKeys::from_seed([7; 32])),
        }
    }

    /// Feeds `stream` in pieces of these lengths, in turn; 0 stands for all that is left.
    fn feed(&self, stream: &[u8], pieces: &[u8]) -> Outcome {
        let mut contexts = Contexts::new(self.level);
        let mut connection = self.connection();
        let (mut events, mut sent, mut arrived) = (Vec::new(), Vec::new(), 0);
        for piece in wire::pieces(stream, pieces) {
            arrived += piece.len();
            let mut piece = piece.to_vec();
            let mut input = piece.as_mut_slice();
            loop {
                let event = match connection.receive(&mut input, &mut contexts) {
                    Ok(None) => break,
                    Ok(Some(received)) => Event::from(received),
                    Err(misdeed) => Event::Misdeed(misdeed),
                };
                self.check_state(&connection, &event);
                self.answer(&mut connection, &event, &mut contexts, &mut sent);
                events.push(event);
                if self.closes_after == Some(events.len()) {
                    let _open = connection.close(CloseCode::NORMAL, "enough", &mut sent);
                }
            }
            assert!(input.is_empty(), "`None` means that the input is used up");
            self.check_memory(&connection, arrived);
        }
        Outcome {
            events,
            sent,
            state: connection.state(),
            message_is_unfinished: connection.message_is_unfinished(),
        }
    }

    fn check_state(&self, connection: &Connection, event: &Event) {
        match (event, connection.state()) {
            (Event::Close(_), State::CloseReceived(_) | State::Closed) => {}
            (Event::Misdeed(_), State::Failed | State::Closed) => {}
            (Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong(_), State::Open) => {}
            (event, state) => panic!("{state:?} with {event:?}"),
        }
        // What was received last may still be held: as it came, and inflated into a buffer that doubled.
        let held_max = 4 * self.limits.message_bytes_max + 2 * INFLATE_STEP_BYTES + UNFINISHED_BYTES;
        assert!(connection.unfinished_bytes() <= held_max);
    }

    fn check_memory(&self, connection: &Connection, arrived: usize) {
        let held = connection.unfinished_bytes();
        if connection.message_is_unfinished() {
            assert!(
                held <= self.limits.message_bytes_max.max(64) + UNFINISHED_BYTES,
                "{held}"
            );
            assert!(held <= 2 * arrived + UNFINISHED_BYTES, "{held} after {arrived}");
        } else {
            assert_eq!(held, 0, "nothing is unfinished");
        }
    }

    /// What an echoing endpoint does.
    fn answer(
        &self,
        connection: &mut Connection,
        event: &Event,
        contexts: &mut Contexts,
        sent: &mut Vec<u8>,
    ) {
        let (open, before) = (connection.state(), sent.len());
        let said = match event {
            Event::Text(text) => connection.send(MessageKind::Text, text.as_bytes(), contexts, sent),
            Event::Binary(bytes) => connection.send(MessageKind::Binary, bytes, contexts, sent),
            Event::Ping(payload) => connection.pong(payload, sent),
            Event::Pong(_) => return,
            Event::Close(_) => connection.answer_close(sent),
            Event::Misdeed(misdeed) => connection.close(misdeed.close_code(), &misdeed.to_string(), sent),
        };
        // A Close that ours came before needs no answer.
        let expected = if open == State::Closed {
            Sent::NotOpen
        } else {
            Sent::Appended
        };
        assert_eq!(said, expected, "to {event:?}");
        assert_eq!(sent.len() > before, said == Sent::Appended);
    }

    /// It says what the RFCs say that it says.
    fn check_events(&self, stream: &[u8], outcome: &Outcome) {
        if self.closes_after.is_some() {
            return;
        }
        let (expected, ending) = Naive::new(self.role, self.agreed, self.limits).read(stream);
        let (events, misdeed) = match outcome.events.split_last() {
            Some((Event::Misdeed(misdeed), events)) => (events, Some(misdeed.close_code().value())),
            _ => (outcome.events.as_slice(), None),
        };
        assert_eq!(events, expected);
        match ending {
            Ending::Whole => assert_eq!(misdeed, None),
            Ending::Misdeed(code) => assert_eq!(misdeed, Some(code)),
            Ending::Cut => assert!(misdeed.is_some() || outcome.message_is_unfinished),
        }
    }

    /// The other role reads what was sent as what it answers.
    fn check_answers(&self, outcome: &Outcome) {
        let mut expected = Vec::new();
        for (index, event) in outcome.events.iter().enumerate() {
            match event {
                Event::Ping(payload) => expected.push(Event::Pong(payload.clone())),
                Event::Pong(_) => {}
                Event::Close(None) => expected.push(Event::Close(None)),
                Event::Close(Some((code, _))) => expected.push(Event::Close(Some((*code, String::new())))),
                Event::Misdeed(misdeed) => {
                    let code = misdeed.close_code().value();
                    expected.push(Event::Close(Some((code, misdeed.to_string()))));
                }
                message => expected.push(message.clone()),
            }
            if self.closes_after == Some(index + 1) && !ends(&expected) {
                expected.push(Event::Close(Some((1000, "enough".to_owned()))));
            }
            if ends(&expected) {
                break;
            }
        }
        let mut reader = Reader::new(self.peer(), self.agreed);
        assert_eq!(reader.read(&outcome.sent), expected);
        assert!(reader.is_at_an_end());
    }

    fn peer(&self) -> Role {
        match self.role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        }
    }

    /// The application speaks up between the pieces.
    fn interfere(&self, stream: &[u8], pieces: &[u8]) {
        let mut contexts = Contexts::new(self.level);
        let mut connection = self.connection();
        let mut sent = Vec::new();
        for (piece, choice) in wire::pieces(stream, pieces).zip(pieces.iter().cycle()) {
            let mut piece = piece.to_vec();
            let mut input = piece.as_mut_slice();
            while let Ok(Some(_)) = connection.receive(&mut input, &mut contexts) {}
            let (state, before) = (connection.state(), sent.len());
            let said = match choice >> 5 {
                0 => connection.ping(b"are you there?", &mut sent),
                1 => connection.pong(&[0; 125], &mut sent),
                2 => connection.send(
                    MessageKind::Text,
                    "text ".repeat(99).as_bytes(),
                    &mut contexts,
                    &mut sent,
                ),
                3 => connection.send(MessageKind::Binary, b"", &mut contexts, &mut sent),
                4 => connection.answer_close(&mut sent),
                5 => connection.close(CloseCode::GOING_AWAY, &"long".repeat(99), &mut sent),
                6 => connection.ping(&[0; 126], &mut sent),
                _ => continue,
            };
            assert_eq!(sent.len() > before, said == Sent::Appended);
            let closing = matches!(choice >> 5, 4 | 5);
            if state == State::Closed || state != State::Open && !closing {
                assert_eq!(said, Sent::NotOpen, "in {state:?}");
            }
        }
        Reader::new(self.peer(), self.agreed).read(&sent);
    }
}

fn ends(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::Close(_)))
}

/// The peer: sends well-formed frames.
struct Sender<'a> {
    setup: &'a Setup,
    contexts: Contexts,
    /// Present if the peer's messages refer to earlier ones.
    compressor: Option<Compressor>,
    window_bits: u8,
    /// The rest of a fragmented message, and what will have been said with its last frame.
    fragments: VecDeque<Frame>,
    message: Option<Event>,
    sent: Vec<u8>,
    events: Vec<Event>,
}

impl Sender<'_> {
    fn new(setup: &Setup) -> Sender<'_> {
        let (window_bits, keeps) = match (setup.agreed, setup.role) {
            (None, _) => (15, false),
            (Some(agreed), Role::Server) => {
                (agreed.client_max_window_bits, !agreed.client_no_context_takeover)
            }
            (Some(agreed), Role::Client) => {
                (agreed.server_max_window_bits, !agreed.server_no_context_takeover)
            }
        };
        Sender {
            setup,
            contexts: Contexts::new(setup.level),
            compressor: keeps.then(|| Compressor::new(window_bits)),
            window_bits,
            fragments: VecDeque::new(),
            message: None,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn send(mut self, script: &mut Script<'_>) -> (Vec<u8>, Vec<Event>) {
        for _ in 0..FRAMES_MAX {
            if script.is_over() || self.sent.len() > STREAM_BYTES_MAX {
                break;
            }
            match script.choose(8) {
                0..=4 if self.fragments.is_empty() => self.begin_message(script),
                0..=4 => {}
                5 => {
                    let payload = script.some();
                    let payload = &payload[..payload.len().min(125)];
                    self.frame(script, &Frame::new(wire::PING, payload));
                    self.events.push(Event::Ping(payload.to_vec()));
                    continue;
                }
                6 => {
                    let payload = script.take(125);
                    self.frame(script, &Frame::new(wire::PONG, payload));
                    self.events.push(Event::Pong(payload.to_vec()));
                    continue;
                }
                _ => {
                    self.close(script);
                    break;
                }
            }
            self.next_fragment(script);
        }
        (self.sent, self.events)
    }

    fn close(&mut self, script: &mut Script<'_>) {
        let code = script.pick(&[1000, 1001, 1003, 1007, 1014, 3000, 4999]);
        let reason: String = script.text().chars().take(30).collect();
        if script.one_in(4) {
            self.frame(script, &Frame::new(wire::CLOSE, b""));
            self.events.push(Event::Close(None));
        } else {
            let body = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
            self.frame(script, &Frame::new(wire::CLOSE, &body));
            self.events.push(Event::Close(Some((code, reason))));
        }
    }

    fn begin_message(&mut self, script: &mut Script<'_>) {
        let is_text = script.one_in(2);
        let repeats = script.pick(&[1, 1, 1, 1, 1, 3, 20, 400]);
        let mut payload = script.some().repeat(repeats);
        payload.truncate(MESSAGE_BYTES_MAX);
        if is_text {
            payload = String::from_utf8_lossy(&payload).into_owned().into_bytes();
        }
        let compresses = self.setup.agreed.is_some() && script.one_in(2);
        let travels = if compresses {
            self.compress(&payload)
        } else {
            payload.clone()
        };
        let opcode = if is_text { wire::TEXT } else { wire::BINARY };
        let mut rest = travels.as_slice();
        for _ in 0..script.choose(5) {
            let length = rest.len().min(usize::from(script.byte()));
            let (fragment, behind) = rest.split_at(length);
            self.fragments
                .push_back(Frame::new(wire::CONTINUATION, fragment).not_fin());
            rest = behind;
        }
        self.fragments.push_back(Frame::new(wire::CONTINUATION, rest));
        self.fragments[0].opcode = opcode;
        self.fragments[0].rsv1 = compresses;
        self.message = Some(match String::from_utf8(payload) {
            Ok(text) if is_text => Event::Text(text),
            Ok(text) => Event::Binary(text.into_bytes()),
            Err(bytes) => Event::Binary(bytes.into_bytes()),
        });
    }

    fn compress(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        match &mut self.compressor {
            Some(compressor) => compressor.compress(&mut self.contexts, payload, &mut compressed),
            None => self.contexts.compress(self.window_bits, payload, &mut compressed),
        }
        compressed
    }

    fn next_fragment(&mut self, script: &mut Script<'_>) {
        if let Some(fragment) = self.fragments.pop_front() {
            self.frame(script, &fragment);
            if self.fragments.is_empty() {
                self.events.extend(self.message.take());
            }
        }
    }

    fn frame(&mut self, script: &mut Script<'_>, frame: &Frame) {
        let mask = (self.setup.role == Role::Server).then(|| [script.byte(), 1, 0, 0xff]);
        frame.encode(mask, &mut self.sent);
    }
}

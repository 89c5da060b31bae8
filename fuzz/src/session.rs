//! `proto::session::server`: the server's side of one connection.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{DialectId, Event, Gap, HistoryPage, HistoryStart, json, msgpack};
use switchboard_proto::entry::User;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::limits::{Rate, SessionLimits};
use switchboard_proto::presence::{Counts, Members};
use switchboard_proto::session::broadcast::Broadcast;
use switchboard_proto::session::outbox::Queued;
use switchboard_proto::session::resume::ResumeKey;
use switchboard_proto::session::server::{
    End, Identity, Link, Mode, Request, Session, SessionId, Settings, Shared,
};
use switchboard_proto::time::Time;
use switchboard_proto::ws::Role;
use switchboard_proto::ws::deflate::{Agreed, Contexts};
use switchboard_proto::ws::frame::{Header, Opcode, encode_message};

use crate::script::Script;
use crate::vocabulary;
use crate::wire::{self, Frame, Reader};

const STARTED: Time = Time::from_nanoseconds(1_000_000_000);
/// Most operations of one run.
const OPERATIONS_MAX: usize = 1_000;
/// Requests that wait for an answer at once.
const REQUESTS_MAX: usize = 16;
/// What a session may say to input of its own accord: this much for every byte, and this much besides.
const REPLY_BYTES_PER_BYTE_MAX: usize = 64;
const REPLY_BYTES_MAX: usize = 4 * 1024;
/// What an unfinished frame or message costs besides its payload.
const UNFINISHED_BYTES: usize = 512;
/// All deadlines of a session whose client is silent, one after the other, take less. Heartbeats of 1 ms may come in between.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A session between a client that sends anything, a socket that takes as much as it likes, a hub that answers, delivers
/// and refuses, and time.
///
/// - What leaves it are whole frames that the client understands, and a Close is the last of them.
/// - Its outbox holds exactly what was put into it and not yet written; a delivery is refused only where it does not fit.
/// - What is due is done: after a timeout the next deadline lies ahead. Left alone, it ends.
/// - It ends as silent only if it was asked and could have been heard, as stalled only if the socket took nothing.
/// - It asks no more of the hub than its rate allows, and nothing once it is closing.
/// - What it holds and what it says to one piece of input is bounded.
pub fn session(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(&mut script);
    for _ in 0..OPERATIONS_MAX {
        if script.is_over() || world.session.link() == Link::Ended {
            break;
        }
        world.operate(&mut script);
        world.check();
    }
    world.wind_down();
}

struct World {
    now: Time,
    session: Session,
    shared: Shared,
    agreed: Option<Agreed>,
    /// The client's end, and the compressor of its messages.
    reader: Reader,
    contexts: Contexts,
    /// What waits in the outbox: the rest of each chunk, and its messages.
    waiting: VecDeque<(usize, u32)>,
    /// Bytes that the socket takes before it blocks.
    room: usize,
    requests: Vec<Request>,
    reads_unanswered: usize,
    /// How many requests there have been since the beginning.
    requested_total: u64,
    close_said: bool,
    /// When a ping was said to which nothing has been heard.
    pinged_at: Option<Time>,
    /// When the socket last took something, or nothing waited for it.
    took_at: Time,
}

impl World {
    fn new(script: &mut Script<'_>) -> World {
        let mode = match script.choose(4) {
            0 => Mode::Native(DialectId::Json),
            1 => Mode::Native(DialectId::Msgpack),
            2 => Mode::Raw(vocabulary::room()),
            _ => Mode::Echo,
        };
        let agreed = script.one_in(3).then(|| wire::agreed(script));
        let settings = Arc::new(Settings {
            limits: limits(script),
            anonymous: !script.one_in(8),
            resume_key: ResumeKey::new([7; 32]),
            compress_bytes_min: script.pick(&[256, 0]),
            compression_level: 1,
        });
        let identity = Identity {
            session: SessionId(7),
            user: User::new("ana"),
        };
        let now = STARTED;
        World {
            now,
            session: Session::new(now, mode, identity, agreed, script.byte(), &settings),
            shared: Shared::new(settings),
            agreed,
            reader: Reader::new(Role::Client, agreed),
            contexts: Contexts::new(1),
            waiting: VecDeque::new(),
            room: usize::MAX,
            requests: Vec::new(),
            reads_unanswered: 0,
            requested_total: 0,
            close_said: false,
            pinged_at: None,
            took_at: now,
        }
    }

    fn limits(&self) -> &SessionLimits {
        &self.shared.settings.limits
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        match script.choose(16) {
            0..=4 => {
                let bytes = self.client_bytes(script);
                let lengths = script.array::<2>();
                for piece in wire::pieces(&bytes, &lengths) {
                    self.input(script, piece);
                }
            }
            5 => {
                let bytes = script.some().to_vec();
                self.input(script, &bytes);
            }
            6 | 7 => self.pass_time(script),
            8 => self.socket_takes(script.pick(&[1, 2, 10, 130, 5_000, usize::MAX])),
            9 => self.room = 0,
            10 | 11 => self.deliver(script),
            12 => self.answer(script),
            13 => self.refuse(script),
            14 => self.poke(),
            _ => self.rare(script),
        }
    }

    fn rare(&mut self, script: &mut Script<'_>) {
        match script.choose(8) {
            0 => {
                self.session.handle_eof();
                assert_eq!(self.session.link(), Link::Ended);
            }
            1 => {
                let retry_after = Duration::from_millis(script.long());
                self.session.handle_stop(self.now, retry_after, &mut self.shared);
                assert!(!self.session.is_open());
                self.send();
            }
            2 if !self.waiting.is_empty() => self.session.handle_blocked(self.now),
            _ => self.say_gap(script),
        }
    }

    /// Frames as a client sends them, well-formed mostly.
    fn client_bytes(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let mut frame = match script.choose(8) {
            0 => Frame::new(wire::PING, script.take(20)),
            1 => Frame::new(wire::PONG, script.take(20)),
            2 => Frame::new(wire::TEXT, &script.some().repeat(script.pick(&[1, 20, 300]))),
            3 => Frame::new(wire::BINARY, script.some()),
            4 if script.one_in(8) => Frame::new(wire::CLOSE, &[&[3, 0xe8], script.take(9)].concat()),
            _ => self.command(script),
        };
        if self.agreed.is_some() && frame.opcode < wire::CLOSE && script.one_in(2) {
            let mut compressed = Vec::new();
            self.contexts.compress(15, &frame.payload, &mut compressed);
            (frame.payload, frame.rsv1) = (compressed, true);
        }
        let mut bytes = Vec::new();
        if frame.opcode < wire::CLOSE && script.one_in(4) {
            let end = frame.payload.split_off(frame.payload.len() / 2);
            frame.fin = false;
            frame.encode(Some([0; 4]), &mut bytes);
            frame = Frame::new(wire::CONTINUATION, &end);
            frame.fin = !script.one_in(4);
        }
        frame.encode(Some([1, 2, 3, 4]), &mut bytes);
        bytes.repeat(script.pick(&[1, 1, 1, 1, 7, 60, 250]))
    }

    fn command(&mut self, script: &mut Script<'_>) -> Frame {
        let command = vocabulary::command(script);
        let mut message = Vec::new();
        if *self.session.mode() == Mode::Native(DialectId::Msgpack) {
            msgpack::encode_command(&command, &mut message);
            Frame::new(wire::BINARY, &message)
        } else {
            json::encode_command(&command, &mut message);
            Frame::new(wire::TEXT, &message)
        }
    }

    fn input(&mut self, script: &mut Script<'_>, piece: &[u8]) {
        if self.session.link() == Link::Open && !self.session.wants_input() {
            return;
        }
        self.pinged_at = None;
        let held_before = self.session.unfinished_bytes();
        let mut bytes = piece.to_vec();
        let (mut taken, mut answered) = (0, 0);
        loop {
            let mut input = &mut bytes[taken..];
            let request = self.session.poll_request(self.now, &mut input, &mut self.shared);
            let left = input.len();
            taken = bytes.len() - left;
            match request {
                Some(Request::Echo { kind, bytes: length }) => {
                    assert_eq!(*self.session.mode(), Mode::Echo);
                    let content = &bytes[taken - length..taken];
                    encode_message(kind, content, false, &mut self.shared.replies);
                }
                Some(request) => {
                    let before = self.shared.replies.len();
                    self.requested(script, request);
                    answered += self.shared.replies.len() - before;
                }
                None => break,
            }
        }
        assert_eq!(taken, bytes.len(), "`None` means that the input is used up");
        let said = self.shared.replies.len() - answered;
        let is_echo = *self.session.mode() == Mode::Echo;
        if !(is_echo && self.agreed.is_some()) {
            let said_max = REPLY_BYTES_PER_BYTE_MAX * piece.len() + held_before + REPLY_BYTES_MAX;
            assert!(said <= said_max, "{said} bytes to {} bytes", piece.len());
        }
        let held_max = self.limits().message_bytes_max.max(64) + UNFINISHED_BYTES;
        assert!(self.session.unfinished_bytes() <= held_max);
        self.send();
    }

    fn requested(&mut self, script: &mut Script<'_>, request: Request) {
        assert!(self.session.is_open(), "{request:?} of a session that is closing");
        assert!(self.shared.settings.anonymous, "{request:?} without a token");
        match (self.session.mode(), &request) {
            (Mode::Native(_), _) => {}
            (
                Mode::Raw(bound),
                Request::Publish {
                    id: None, channel, ..
                },
            ) => assert_eq!(channel, bound),
            (mode, request) => panic!("{request:?} in {mode:?}"),
        }
        let named = match &request {
            Request::Subscribe { channel, since, .. } => since.map(|since| (channel, since)),
            Request::History { channel, range, .. } => range.position().map(|position| (channel, position)),
            _ => None,
        };
        if let Some((channel, position)) = named {
            assert!(
                position.epoch.is_of(channel),
                "{request:?} at a position of another channel"
            );
        }
        if let Request::History { .. } | Request::Members { .. } = request {
            self.reads_unanswered += 1;
            assert!(
                self.reads_unanswered <= 4,
                "each answer can be as large as an outbox"
            );
        }
        self.requested_total += 1;
        let Rate { per_second, burst } = self.limits().commands;
        let elapsed = self.now.since(STARTED).as_nanos() * u128::from(per_second) / 1_000_000_000;
        let allowed = u128::from(burst.max(1)) + elapsed;
        assert!(
            per_second == 0 || u128::from(self.requested_total) <= allowed,
            "more than the rate allows"
        );
        self.requests.push(request);
        if self.requests.len() > REQUESTS_MAX || script.one_in(2) {
            self.answer_one(script);
        }
    }

    fn answer(&mut self, script: &mut Script<'_>) {
        self.answer_one(script);
        self.send();
    }

    /// The hub answers a request, in any order.
    fn answer_one(&mut self, script: &mut Script<'_>) {
        if self.requests.is_empty() {
            return;
        }
        let request = self.requests.swap_remove(script.choose(self.requests.len()));
        let position = vocabulary::position(&mut Script::new(b"a position, of any kind"));
        let (event, channel);
        match request {
            Request::Subscribe {
                id,
                channel: name,
                since,
                ..
            } => {
                channel = name;
                event = Event::Subscribed {
                    id,
                    channel: &channel,
                    position,
                    recovered: since.map(|_| script.one_in(2)),
                };
            }
            Request::Unsubscribe { id, channel: name } => {
                channel = name;
                event = Event::Unsubscribed {
                    id,
                    channel: &channel,
                };
            }
            Request::Publish { id, .. } => event = Event::Published { id, position },
            Request::History { id, channel, .. } => return self.answer_history(script, id, &channel),
            Request::Members { id, channel, .. } => {
                let members = Members {
                    counts: Counts::default(),
                    members: Vec::new(),
                    next: None,
                };
                let event = Event::Members {
                    id,
                    channel: &channel,
                    members: &members,
                };
                self.session.say(&event, &mut self.shared);
                return self.handle_read_answered();
            }
            // Answered when it was made, from the input.
            Request::Echo { .. } => return,
        }
        self.session.say(&event, &mut self.shared);
    }

    fn answer_history(&mut self, script: &mut Script<'_>, id: Option<u64>, channel: &ChannelName) {
        let entry = vocabulary::entry(script);
        let position = entry.position;
        let entries = vec![entry; script.choose(20)];
        let page = HistoryPage {
            start: HistoryStart::Continues,
            entries: &entries,
            position,
            more: false,
        };
        self.session
            .say(&Event::History { id, channel, page }, &mut self.shared);
        self.handle_read_answered();
    }

    fn handle_read_answered(&mut self) {
        self.session.handle_read_answered();
        self.reads_unanswered -= 1;
    }

    fn say_gap(&mut self, script: &mut Script<'_>) {
        let gap = Gap {
            from: script.long(),
            to: script.long(),
            position: vocabulary::position(script),
        };
        let channel = &vocabulary::room();
        let event = Event::Gap {
            channel,
            gap,
            conflated: script.one_in(2),
        };
        self.session.say(&event, &mut self.shared);
        self.send();
    }

    fn refuse(&mut self, script: &mut Script<'_>) {
        let code = script.pick(ErrorCode::ALL);
        let detail = script.one_in(2).then(|| script.text());
        let was_open = self.session.is_open();
        self.session
            .refuse(self.now, Some(3), code, detail.as_deref(), None, &mut self.shared);
        let closes = match self.session.mode() {
            Mode::Native(_) => code.close_code(),
            Mode::Raw(_) | Mode::Echo => code.raw_close_code(),
            Mode::EventStream | Mode::Poll => panic!("they are no WebSocket"),
        };
        assert_eq!(self.session.is_open(), was_open && closes.is_none(), "{code:?}");
        self.send();
    }

    fn deliver(&mut self, script: &mut Script<'_>) {
        if !self.session.is_open() {
            return;
        }
        let channel = vocabulary::room();
        let entries = vec![vocabulary::entry(script); script.pick(&[1, 2, 40])];
        let mut broadcast = Broadcast::new(&channel, &entries);
        let messages = broadcast.messages();
        let bytes_min = self.shared.settings.compress_bytes_min;
        let chunk = broadcast
            .chunk(self.session.form(), &mut self.shared.contexts, bytes_min)
            .clone();
        if self.waiting.is_empty() {
            let rest = self.write_through(&chunk);
            self.queue_unwritten(rest, messages);
            return;
        }
        let bytes: usize = self.waiting.iter().map(|(bytes, _)| bytes).sum();
        let waiting: usize = self.waiting.iter().map(|(_, messages)| *messages as usize).sum();
        let limits = self.limits();
        let length = chunk.len();
        let is_counted = waiting + messages as usize <= limits.outbox_messages_max;
        // The bound is of memory: up to a quarter more than the bytes, and a place for each; an eighth is for answers.
        let may_fit = bytes + length <= limits.outbox_bytes_max && is_counted;
        let memory = (bytes + length) / 4 * 5 + 64 * (self.waiting.len() + 1);
        let fits = memory <= limits.outbox_bytes_max / 8 * 7 && is_counted;
        match self
            .session
            .handle_delivery(chunk, messages, &self.shared.settings)
        {
            Queued::Queued => {
                assert!(may_fit);
                self.waiting.push_back((length, messages));
            }
            Queued::Refused => {
                assert!(!fits);
                if script.one_in(4) {
                    let lagged = ErrorCode::Lagged;
                    self.session
                        .refuse(self.now, None, lagged, None, None, &mut self.shared);
                    assert!(!self.session.is_open());
                    self.send();
                }
            }
        }
    }

    /// The shell's part of the calling contract.
    fn send(&mut self) {
        let replies = Bytes::from(std::mem::take(&mut self.shared.replies));
        self.look_at(&replies);
        if self.waiting.is_empty() {
            let rest = self.write_through(&replies);
            self.queue_unwritten(rest, 0);
        } else {
            self.queue_unwritten(replies, 0);
        }
        self.flush();
        self.check();
    }

    /// Whole frames; nothing is said after a Close.
    fn look_at(&mut self, replies: &[u8]) {
        let mut rest = replies;
        while let Ok(Some((header, length))) = Header::decode(rest) {
            assert!(!self.close_said, "{header:?} after the Close");
            match header.opcode {
                Opcode::Close => self.close_said = true,
                Opcode::Ping => self.pinged_at = Some(self.now),
                _ => {}
            }
            rest = rest
                .get(length + header.payload_bytes as usize..)
                .expect("whole frames");
        }
        assert!(rest.is_empty(), "{rest:x?} is no frame");
    }

    /// Writes what the socket takes; returns the rest.
    fn write_through(&mut self, bytes: &Bytes) -> Bytes {
        let written = self.room.min(bytes.len());
        self.on_the_wire(&bytes[..written]);
        // Nothing has waited until now.
        self.took_at = self.now;
        bytes.slice(written..)
    }

    fn on_the_wire(&mut self, bytes: &[u8]) {
        self.reader.read(bytes);
        if self.room != usize::MAX {
            self.room -= bytes.len();
        }
    }

    fn queue_unwritten(&mut self, rest: Bytes, messages: u32) {
        if !rest.is_empty() {
            self.waiting.push_back((rest.len(), messages));
            self.session.handle_unwritten(self.now, rest, messages);
        }
    }

    fn socket_takes(&mut self, room: usize) {
        self.room = room;
        self.flush();
    }

    fn flush(&mut self) {
        while !self.session.outbox().is_empty() && self.session.link() != Link::Ended {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = self.session.outbox().slices(&mut slices);
            let front: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            let written = self.room.min(front.len());
            if written == 0 {
                self.session.handle_blocked(self.now);
                return;
            }
            self.on_the_wire(&front[..written]);
            self.took_at = self.now;
            self.session.handle_written(self.now, written);
            self.forget_written(written);
            self.check();
        }
    }

    fn forget_written(&mut self, mut written: usize) {
        while let Some((bytes, _)) = self.waiting.front_mut() {
            if written < *bytes {
                *bytes -= written;
                return;
            }
            written -= *bytes;
            self.waiting.pop_front();
        }
        // A pong that is owed goes when nothing waits any more.
        let pong = self.unwritten();
        if pong > 0 {
            assert!((2..=127).contains(&pong) && !self.close_said);
            self.waiting.push_back((pong, 0));
        }
    }

    fn pass_time(&mut self, script: &mut Script<'_>) {
        let milliseconds = script.pick(&[1, 100, 1_000, 4_000, 11_000, 26_000, 3_600_000]);
        let until = self.now + Duration::from_millis(milliseconds);
        let is_late = script.one_in(4);
        while !is_late && self.session.link() != Link::Ended {
            let deadline = self.session.deadline(&self.shared.settings);
            if deadline > until {
                break;
            }
            self.now = self.now.max(deadline);
            self.time_out();
        }
        self.now = until;
        if self.session.deadline(&self.shared.settings) <= self.now {
            self.time_out();
        }
    }

    fn time_out(&mut self) {
        if self.session.link() == Link::Ended {
            return;
        }
        let asked_at = self.pinged_at;
        self.session.handle_timeout(self.now, &mut self.shared);
        if self.session.link() == Link::Ended {
            let limits = &self.shared.settings.limits;
            match self.session.end() {
                Some(End::Silent) => {
                    let waited = asked_at.map(|at| self.now.since(at));
                    assert!(waited >= Some(limits.pong_timeout), "asked {waited:?} ago");
                    assert!(self.session.wants_input(), "it was not listened to");
                }
                Some(End::Stalled) => {
                    assert!(!self.waiting.is_empty() && self.now.since(self.took_at) >= limits.write_stall);
                }
                Some(_) => {}
                None => panic!("it ended for no reason"),
            }
        } else {
            let deadline = self.session.deadline(&self.shared.settings);
            assert!(deadline > self.now, "what was due is still due");
        }
        self.send();
    }

    /// Nothing happens before it is due.
    fn poke(&mut self) {
        let deadline = self.session.deadline(&self.shared.settings);
        if self.now < deadline {
            self.session.handle_timeout(self.now, &mut self.shared);
            assert!(self.shared.replies.is_empty());
            assert_eq!(self.session.deadline(&self.shared.settings), deadline);
        }
    }

    /// Bytes in the outbox, which has one chunk for each that waits, or a pong.
    fn unwritten(&self) -> usize {
        let mut slices = vec![IoSlice::new(&[]); self.waiting.len() + 1];
        let count = self.session.outbox().slices(&mut slices);
        slices[..count].iter().map(|slice| slice.len()).sum()
    }

    fn check(&self) {
        let outbox = self.session.outbox();
        let bytes: usize = self.waiting.iter().map(|(bytes, _)| bytes).sum();
        let messages: usize = self.waiting.iter().map(|(_, messages)| *messages as usize).sum();
        assert_eq!((self.unwritten(), outbox.messages()), (bytes, messages));
        assert!(outbox.bytes() >= bytes, "what it occupies is no less");
        assert_eq!(outbox.is_empty(), self.waiting.is_empty());
        assert!(self.shared.replies.is_empty());
        assert!(self.session.link() == Link::Open || self.session.end().is_some());
        assert!(!self.session.is_open() || !self.close_said);
        if self.waiting.is_empty() && self.session.link() == Link::Lingering {
            assert!(self.reader.is_closed(), "the Close has been written");
        }
    }

    /// The client is heard of no more, and the socket stays as it is.
    fn wind_down(&mut self) {
        let over = self.now + ENDS_WITHIN;
        while self.session.link() != Link::Ended {
            assert!(self.now < over, "it does not end: {:?}", self.session.end());
            let deadline = self.session.deadline(&self.shared.settings);
            assert!(
                deadline.since(self.now) <= Duration::from_secs(60),
                "too far away"
            );
            self.now = self.now.max(deadline);
            self.time_out();
        }
    }
}

fn limits(script: &mut Script<'_>) -> SessionLimits {
    let defaults = SessionLimits::default();
    let rate = |script: &mut Script<'_>, default: Rate| {
        let slow = Rate {
            per_second: 1,
            burst: 2,
        };
        script.pick(&[default, default, slow, Rate::UNLIMITED])
    };
    let duration = |script: &mut Script<'_>, default: Duration| {
        // No setting is 0.
        let other = Duration::from_millis(1 + u64::from(script.byte()));
        script.pick(&[default, default, default, other])
    };
    SessionLimits {
        message_bytes_max: script.pick(&[defaults.message_bytes_max, 100, 0]),
        inflate_ratio_max: defaults.inflate_ratio_max,
        unfinished_message: duration(script, defaults.unfinished_message),
        ping_interval: duration(script, defaults.ping_interval),
        pong_timeout: duration(script, defaults.pong_timeout),
        write_stall: duration(script, defaults.write_stall),
        close_handshake: duration(script, defaults.close_handshake),
        linger: duration(script, defaults.linger),
        outbox_bytes_max: script.pick(&[defaults.outbox_bytes_max, 1_000, 0]),
        outbox_messages_max: script.pick(&[defaults.outbox_messages_max, 3, 0]),
        subscriptions_max: defaults.subscriptions_max,
        commands: rate(script, defaults.commands),
        inbound_bytes: rate(script, defaults.inbound_bytes),
        control_frames: rate(script, defaults.control_frames),
        subscribes: rate(script, defaults.subscribes),
    }
}

//! How many instructions the hot paths of this crate take, as callgrind counts them. `.ci/instructions` runs this and compares
//! the counts with those in `.ci/instructions.json`.
//!
//! Each benchmark counts one call of its function, on what its setup made. The setup makes the same call once before, because
//! the first one of a process does more: it asks the processor what it can do, and makes the compressors of a shard. A function
//! gives back all that it was given, so that freeing it is not counted.

// What the macros make is public, and names a file where the counter is perf. In a benchmark a panic is the failure.
#![allow(missing_docs, clippy::disallowed_types, clippy::unwrap_used)]

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{Command, DialectId, json, msgpack};
use switchboard_proto::entry::{Entry, User};
use switchboard_proto::limits::SessionLimits;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::session::broadcast::{Broadcast, Form, Framing};
use switchboard_proto::session::outbox::{Outbox, Queued};
use switchboard_proto::session::resume::ResumeKey;
use switchboard_proto::session::server::{Identity, Mode, Request, Session, SessionId, Settings, Shared};
use switchboard_proto::time::Time;
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::frame::{self, Opcode};
use switchboard_proto::ws::{Connection, Limits};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Broadcasts from this size on are compressed: the server's default.
const COMPRESS_BYTES_MIN: usize = 256;

/// Takes what is free between the allocations of the runtime. How much that is, and so what growing costs, depends on the length
/// of the path of this program.
fn fill_heap() {
    for bytes in (16..4_096).step_by(16) {
        for _ in 0..8 {
            std::mem::forget(black_box(Vec::<u8>::with_capacity(bytes)));
        }
    }
}

fn channel() -> ChannelName {
    ChannelName::parse("room:42").unwrap()
}

/// A JSON object of this many bytes, with a text of words in no regular order.
fn object(bytes: usize) -> String {
    const WORDS: [&str; 8] = [
        "the ", "log ", "of ", "every ", "channel ", "has ", "an ", "order, ",
    ];
    let mut object = r#"{"sequence":1234,"sender":"ana","urgent":false,"text":""#.to_owned();
    let mut seed = 17_u32;
    while object.len() < bytes {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        object.push_str(WORDS[seed as usize >> 29]);
    }
    object.truncate(bytes - 2);
    object.push_str("\"}");
    object
}

/// A frame as a client sends it.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(opcode, false, payload, Some(KEY), &mut bytes);
    bytes
}

fn payloads(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    vec![object(bytes).into_bytes(); count]
}

#[library_benchmark(setup = payloads)]
#[bench::hundred_of_64_bytes(100, 64)]
#[bench::one_of_64_kib(1, 64 * 1024)]
fn mask(mut payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for payload in &mut payloads {
        black_box(switchboard_proto::ws::mask::apply(payload, black_box(KEY)));
    }
    payloads
}

/// A server's end of a connection, and what one read of its socket has given.
struct Receiving {
    connection: Connection,
    contexts: Contexts,
    read: Vec<u8>,
}

fn receiving(frames: usize, bytes: usize) -> Box<Receiving> {
    let read = masked(Opcode::Text, object(bytes).as_bytes()).repeat(frames);
    let mut receiving = Box::new(Receiving {
        connection: Connection::server(Limits::default(), None),
        contexts: Contexts::new(1),
        read: read.clone(),
    });
    receiving.receive();
    receiving.read = read;
    receiving
}

impl Receiving {
    fn receive(&mut self) {
        let mut input = self.read.as_mut_slice();
        while let Some(received) = self.connection.receive(&mut input, &mut self.contexts).unwrap() {
            black_box(received);
        }
    }
}

#[library_benchmark(setup = receiving)]
#[bench::one_of_64_bytes(1, 64)]
#[bench::hundred_of_64_bytes(100, 64)]
#[bench::one_of_64_kib(1, 64 * 1024)]
fn receive(mut receiving: Box<Receiving>) -> Box<Receiving> {
    receiving.receive();
    receiving
}

/// A delivery that is to be encoded. What it borrows is never freed.
struct Delivery {
    broadcast: Broadcast<'static>,
    form: Form,
    contexts: Contexts,
}

fn plain(dialect: DialectId, messages: usize) -> Box<Delivery> {
    delivery(dialect, None, messages, 128)
}

fn compressed(dialect: DialectId, messages: usize) -> Box<Delivery> {
    delivery(dialect, Some(15), messages, 512)
}

fn delivery(dialect: DialectId, window_bits: Option<u8>, messages: usize, bytes: usize) -> Box<Delivery> {
    fill_heap();
    let entry = |index| {
        Arc::new(Entry {
            position: Position {
                epoch: Epoch(0x0102_0304_0506_0708),
                offset: 70_000 + index,
                tag: 0xdead_beef,
            },
            previous: 70_000 + index - 1,
            at_ms: 1_760_000_000_000,
            from: Some(User::new("ana")),
            conflate: None,
            payload: Payload::json(&object(bytes)).unwrap(),
        })
    };
    let entries: Vec<_> = (0..messages as u64).map(entry).collect();
    let (channel, entries) = (Box::leak(Box::new(channel())), entries.leak());
    let mut delivery = Box::new(Delivery {
        broadcast: Broadcast::new(channel, entries),
        form: Form {
            dialect,
            framing: Framing::WebSocket { window_bits },
        },
        contexts: Contexts::new(1),
    });
    delivery.encode();
    delivery.broadcast = Broadcast::new(channel, entries);
    delivery
}

impl Delivery {
    fn encode(&mut self) {
        black_box(
            self.broadcast
                .chunk(self.form, &mut self.contexts, COMPRESS_BYTES_MIN),
        );
    }
}

#[library_benchmark]
#[bench::json_one(plain(DialectId::Json, 1))]
#[bench::json_ten(plain(DialectId::Json, 10))]
#[bench::msgpack_one(plain(DialectId::Msgpack, 1))]
#[bench::msgpack_ten(plain(DialectId::Msgpack, 10))]
#[bench::raw_one(plain(DialectId::Raw, 1))]
#[bench::raw_ten(plain(DialectId::Raw, 10))]
#[bench::json_compressed_one(compressed(DialectId::Json, 1))]
#[bench::json_compressed_ten(compressed(DialectId::Json, 10))]
fn broadcast(mut delivery: Box<Delivery>) -> Box<Delivery> {
    delivery.encode();
    delivery
}

/// A session that has published before, and the bytes of its next publish command.
struct Publishing {
    session: Session,
    shared: Shared,
    read: Vec<u8>,
}

fn native(dialect: DialectId) -> Box<Publishing> {
    publishing_of(dialect, Payload::json(&object(128)).unwrap())
}

/// A text of 32 KiB.
fn long() -> Box<Publishing> {
    publishing_of(DialectId::Json, Payload::text("the log ".repeat(4_096)))
}

fn publishing_of(dialect: DialectId, payload: Payload) -> Box<Publishing> {
    let command = Command::Publish {
        id: Some(17),
        channel: channel(),
        payload,
        key: None,
        conflate: None,
    };
    let mut message = Vec::new();
    let opcode = match dialect {
        DialectId::Json => {
            json::encode_command(&command, &mut message);
            Opcode::Text
        }
        DialectId::Msgpack => {
            msgpack::encode_command(&command, &mut message);
            Opcode::Binary
        }
        DialectId::Raw | DialectId::EventStream | DialectId::Poll => panic!("it has no commands"),
    };
    publishing(Mode::Native(dialect), masked(opcode, &message))
}

fn raw() -> Box<Publishing> {
    publishing(Mode::Raw(channel()), masked(Opcode::Text, object(128).as_bytes()))
}

fn publishing(mode: Mode, read: Vec<u8>) -> Box<Publishing> {
    let settings = Settings {
        limits: SessionLimits::default(),
        anonymous: true,
        resume_key: ResumeKey::new([7; 32]),
        compress_bytes_min: COMPRESS_BYTES_MIN,
        compression_level: 1,
    };
    let shared = Shared::new(Arc::new(settings));
    let identity = Identity {
        session: SessionId(7),
        user: User::new("ana"),
    };
    let mut publishing = Box::new(Publishing {
        session: Session::new(Time::ZERO, mode, identity, None, 127, &shared.settings),
        shared,
        read: read.clone(),
    });
    publishing.request(Time::from_nanoseconds(1_000_000_000)).unwrap();
    publishing.read = read;
    publishing
}

impl Publishing {
    /// As the shell takes what was read: until there is nothing more.
    fn request(&mut self, now: Time) -> Option<Request> {
        let mut input = self.read.as_mut_slice();
        let request = self.session.poll_request(now, &mut input, &mut self.shared);
        let nothing_more = self.session.poll_request(now, &mut input, &mut self.shared);
        assert!(nothing_more.is_none());
        request
    }
}

#[library_benchmark]
#[bench::json(native(DialectId::Json))]
#[bench::msgpack(native(DialectId::Msgpack))]
#[bench::raw(raw())]
#[bench::json_text_of_32_kib(long())]
fn publish(mut publishing: Box<Publishing>) -> (Box<Publishing>, Option<Request>) {
    let request = publishing.request(black_box(Time::from_nanoseconds(2_000_000_000)));
    (publishing, request)
}

/// An outbox and the chunks of other outboxes that it is to share.
struct Sharing {
    outbox: Outbox,
    chunks: Vec<Bytes>,
}

fn sharing(chunks: usize) -> Box<Sharing> {
    let chunks: Vec<_> = (0..chunks)
        .map(|_| Bytes::from(object(256).into_bytes()))
        .collect();
    let outbox = Outbox::default();
    let mut sharing = Box::new(Sharing { outbox, chunks });
    sharing.pass();
    sharing
}

impl Sharing {
    /// Takes the chunks and has them written at once, as at the end of a turn.
    fn pass(&mut self) {
        let limits = SessionLimits::default();
        for chunk in &self.chunks {
            let queued = self.outbox.offer(
                chunk.clone(),
                1,
                limits.outbox_bytes_max,
                limits.outbox_messages_max,
            );
            assert_eq!(queued, Queued::Queued);
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.outbox.slices(&mut slices);
        let written = black_box(&slices[..count]).iter().map(|slice| slice.len()).sum();
        self.outbox.handle_written(written);
    }
}

#[library_benchmark(setup = sharing)]
#[bench::one_chunk(1)]
#[bench::ten_chunks(10)]
fn outbox(mut sharing: Box<Sharing>) -> Box<Sharing> {
    sharing.pass();
    sharing
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [mask, receive, broadcast, publish, outbox]
);

main!(library_benchmark_groups = hot_paths);

//! One connection of the load: connect, handshake, hello, then frames.
//!
//! ```text
//!   Handshake: connect ─► request ─► 101 ──► Open: greeting ─► hello … ─► subscribe ─► ready
//!   Stream: connect ─► request ─► 200 ─► subscribed … ─► ready
//!   Poller: connect ─► poll ─► where it is ─► ready, and polls when it is told to
//! ```

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::{ClientHandshake, ClientOptions, Connected};
use switchboard_proto::ws::{self, Limits, MaskKeys, MessageKind, Received};

use super::poller::Poller;
use super::stream::Stream;
use crate::control::{Open, Role};
use crate::target::Way;

/// Every handshake has the key of RFC 6455 section 1.3, so that a server which computes nothing can answer it rightly.
const NONCE: &[u8; 16] = b"the sample nonce";
/// Longest message taken from a server.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Publishers of one connection whose order is watched.
const WATCHED_MAX: usize = 64;

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("no port is free at {0}: net.ipv4.ip_local_port_range is too narrow, or others use it up")]
    Ports(Ipv4Addr),
    #[error("the server closed the connection{0}")]
    Closed(String),
    #[error("the handshake failed: {0}")]
    Handshake(String),
    #[error("the server broke the WebSocket protocol: {0}")]
    Protocol(String),
}

enum State {
    Handshake(Box<Handshake>),
    Open(Conversation),
    Stream(Stream),
    Poller(Poller),
}

struct Handshake {
    machine: ClientHandshake,
    /// Connected, and the request is on its way.
    asked: bool,
    head: Vec<u8>,
}

struct Conversation {
    ws: ws::Connection,
    /// Data frames to come before the next step.
    awaited: u32,
    /// Steps taken: the hellos, then the subscriptions.
    steps: usize,
    ready: bool,
}

/// See the module.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Of this group.
    pub(super) group: u32,
    /// Number within the group, over all workers.
    pub(super) number: u32,
    state: State,
    /// What the socket has not taken yet.
    out: Vec<u8>,
    /// Whether the poll looks for room to write.
    pub(super) polls_write: bool,
    /// The last message seen of each publisher.
    seen: Vec<(u32, u32)>,
    /// The position with which it resumes.
    since: Option<Box<str>>,
    /// Read and written.
    pub(super) bytes: u64,
    /// A poll was answered.
    answered: bool,
}

impl Connection {
    /// Begins to connect.
    pub(crate) fn begin(open: &Open, number: u32) -> Result<Connection, Lost> {
        let source = open
            .sources
            .get((number - open.first) as usize / crate::sources::PER_ADDRESS as usize);
        let source = source.copied();
        let stream = connect(open.target.address, source).map_err(|error| match (source, error.kind()) {
            (Some(source), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => Lost::Ports(source),
            _ => Lost::System(error),
        })?;
        Connection::over(stream, open, number)
    }

    /// Goes on over a socket that connects, or has.
    pub(crate) fn over(stream: TcpStream, open: &Open, number: u32) -> Result<Connection, Lost> {
        Ok(Connection {
            stream,
            group: open.group,
            number,
            state: match (open.role, open.target.way) {
                (Role::Subscriber, Way::EventStream) => State::Stream(Stream::new(open, number)),
                (Role::Subscriber, Way::Polls { interval_ns }) => {
                    State::Poller(Poller::new(open, number, interval_ns == 0))
                }
                _ => State::Handshake(Box::new(Handshake {
                    machine: handshake(open, number)?,
                    asked: false,
                    head: Vec::new(),
                })),
            },
            out: Vec::new(),
            polls_write: true,
            seen: Vec::new(),
            since: None,
            bytes: 0,
            answered: false,
        })
    }

    /// It will subscribe from there on, if the server has a word for that.
    pub(super) fn resume(&mut self, since: Option<&str>) {
        self.since = since.map(Box::from);
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the hello is over.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.state {
            State::Handshake(_) => false,
            State::Open(conversation) => conversation.ready,
            State::Stream(stream) => stream.is_ready(),
            State::Poller(poller) => poller.is_ready(),
        }
    }

    /// Whether something waits for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        let is_to_ask = match &self.state {
            State::Handshake(handshake) => !handshake.asked,
            State::Open(_) => false,
            State::Stream(stream) => stream.is_to_ask(),
            State::Poller(poller) => poller.is_to_ask(),
        };
        !self.out.is_empty() || is_to_ask
    }

    /// Bytes that wait for the socket.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len()
    }

    /// The socket can be written.
    pub(crate) fn handle_writable(&mut self) -> Result<(), Lost> {
        match &mut self.state {
            State::Handshake(handshake) if !handshake.asked => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error.into());
                }
                handshake.asked = true;
                handshake.machine.encode(&mut self.out);
            }
            State::Stream(stream) if stream.is_to_ask() => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error.into());
                }
                stream.ask(&mut self.out);
            }
            State::Poller(poller) if poller.is_to_ask() => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error.into());
                }
                poller.ask(&mut self.out);
            }
            State::Handshake(_) | State::Open(_) | State::Stream(_) | State::Poller(_) => {}
        }
        self.flush()
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        if self.out.is_empty() {
            return Ok(());
        }
        let wrote = (&self.stream).write(&self.out);
        self.bytes += *wrote.as_ref().unwrap_or(&0) as u64;
        match wrote {
            Ok(written) if written == self.out.len() => {
                self.out.clear();
                if self.out.capacity() > 4_096 {
                    self.out = Vec::new();
                }
            }
            Ok(written) => drop(self.out.drain(..written)),
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads once. Calls `frame` with every data frame that comes when the hello is over, for [`Role::Returning`] with the answers to
    /// it, too. Returns how many heartbeats it has
    /// answered.
    pub(crate) fn handle_readable(
        &mut self,
        open: &Open,
        buffer: &mut [u8],
        contexts: &mut Contexts,
        mut frame: impl FnMut(&mut Seen<'_>, &[u8]),
    ) -> Result<u64, Lost> {
        let length = match (&self.stream).read(buffer) {
            Ok(0) => return Err(Lost::Closed(String::new())),
            Ok(length) => length,
            Err(error) if is_for_later(&error) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.bytes += length as u64;
        let mut input = &mut buffer[..length];
        if let State::Poller(poller) = &mut self.state {
            self.answered |= poller.handle_input(input, |bytes| frame(&mut Seen(&mut self.seen), bytes))?;
            return Ok(0);
        }
        if let State::Stream(stream) = &mut self.state {
            return stream.handle_input(input, |bytes| frame(&mut Seen(&mut self.seen), bytes));
        }
        let mut rest;
        if let State::Handshake(handshake) = &mut self.state {
            handshake.head.extend_from_slice(input);
            let read = handshake.machine.read(&handshake.head);
            let Some((connected, used)) = read.map_err(|failed| Lost::Handshake(failed.to_string()))? else {
                return Ok(0);
            };
            if open.target.compress && connected.compression.is_none() {
                return Err(Lost::Handshake(
                    "the server does not agree on permessage-deflate".to_owned(),
                ));
            }
            rest = handshake.head.split_off(used);
            input = &mut rest;
            self.state = State::Open(Conversation::new(connected, open));
            self.step(open, contexts);
        }
        let heartbeats = self.handle_input(open, input, contexts, frame)?;
        self.flush()?;
        Ok(heartbeats)
    }

    fn handle_input(
        &mut self,
        open: &Open,
        mut input: &mut [u8],
        contexts: &mut Contexts,
        mut frame: impl FnMut(&mut Seen<'_>, &[u8]),
    ) -> Result<u64, Lost> {
        let mut heartbeats = 0;
        loop {
            let State::Open(conversation) = &mut self.state else {
                return Ok(heartbeats);
            };
            let received = conversation.ws.receive(&mut input, contexts);
            let bytes = match received.map_err(|misbehaved| Lost::Protocol(misbehaved.to_string()))? {
                None => return Ok(heartbeats),
                Some(Received::Text(text)) => text.as_bytes(),
                Some(Received::Binary(bytes)) => bytes,
                Some(Received::Ping(payload)) => {
                    let payload = payload.to_vec();
                    let _open = conversation.ws.pong(&payload, &mut self.out);
                    heartbeats += 1;
                    continue;
                }
                Some(Received::Pong(_)) => continue,
                Some(Received::Close(close)) => {
                    let words = close.map(|close| format!(": {} {}", close.code.value(), close.reason));
                    return Err(Lost::Closed(words.unwrap_or_default()));
                }
            };
            match &open.target.heartbeat {
                Some((question, answer)) if bytes == question.as_bytes() => {
                    heartbeats += 1;
                    let _open =
                        conversation
                            .ws
                            .send(MessageKind::Text, answer.as_bytes(), contexts, &mut self.out);
                }
                _ if conversation.ready => frame(&mut Seen(&mut self.seen), bytes),
                _ => {
                    if open.role == Role::Returning {
                        frame(&mut Seen(&mut self.seen), bytes);
                    }
                    conversation.awaited = conversation.awaited.saturating_sub(1);
                    self.step(open, contexts);
                }
            }
        }
    }

    /// Goes on with the hello, as far as nothing is awaited.
    fn step(&mut self, open: &Open, contexts: &mut Contexts) {
        let State::Open(conversation) = &mut self.state else {
            return;
        };
        let target = &open.target;
        while conversation.awaited == 0 && !conversation.ready {
            let step = conversation.steps;
            conversation.steps += 1;
            let rooms = open.rooms.of(self.number);
            let mut say = |text: String| {
                let _open = conversation
                    .ws
                    .send(MessageKind::Text, text.as_bytes(), contexts, &mut self.out);
            };
            match (open.role, target.hello.get(step), &target.subscribe) {
                (Role::Silent, _, _) => conversation.ready = true,
                (_, Some(hello), _) => {
                    say(target.fill(&hello.text, self.number, rooms.start));
                    conversation.awaited = hello.replies;
                }
                (Role::Subscriber | Role::Returning, None, Some(subscribe)) if step == target.hello.len() => {
                    conversation.awaited = subscribe.replies * open.rooms.each;
                    for room in rooms {
                        let text = match (&self.since, &target.resume) {
                            (Some(since), Some(resume)) => resume.replace("{since}", since),
                            _ => subscribe.text.clone(),
                        };
                        say(target.fill(&text, self.number, room));
                    }
                }
                _ => conversation.ready = true,
            }
        }
    }

    /// Says something, or leaves it for when the socket has room.
    pub(crate) fn say(&mut self, text: &[u8], contexts: &mut Contexts) {
        if let State::Open(conversation) = &mut self.state {
            let _open = conversation
                .ws
                .send(MessageKind::Text, text, contexts, &mut self.out);
        }
    }

    /// Whether a poll was answered since this was last asked.
    pub(super) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    /// Polls again.
    pub(super) fn poll(&mut self) -> Result<(), Lost> {
        if let State::Poller(poller) = &mut self.state {
            poller.ask(&mut self.out);
        }
        self.flush()
    }

    /// Polls so far.
    pub(super) fn requests(&self) -> u64 {
        match &self.state {
            State::Poller(poller) => poller.requests,
            State::Handshake(_) | State::Open(_) | State::Stream(_) => 0,
        }
    }

    /// Says that it is alive: whoever pings connections that are silent has no reason to.
    pub(crate) fn say_alive(&mut self) -> Result<(), Lost> {
        if let State::Open(conversation) = &mut self.state {
            let _open = conversation.ws.pong(&[], &mut self.out);
        }
        self.flush()
    }

    /// Ends it with a reset, so that the port is free at once on both ends.
    pub(crate) fn reset(self) {
        let linger = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        // Without it the port is free a minute later.
        drop(linger);
    }
}

impl Conversation {
    fn new(connected: Connected, open: &Open) -> Conversation {
        let limits = Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            inflate_ratio_max: usize::MAX,
        };
        Conversation {
            ws: ws::Connection::client(limits, connected.compression, MaskKeys::from_seed([0x5b; 32])),
            awaited: if open.role == Role::Silent {
                0
            } else {
                open.target.greeting
            },
            steps: 0,
            ready: false,
        }
    }
}

/// The last message seen of each publisher, for the order.
pub(crate) struct Seen<'a>(&'a mut Vec<(u32, u32)>);

impl Seen<'_> {
    /// Notes a message. Says whether it comes after all that were seen of its publisher.
    pub(crate) fn note(&mut self, publisher: u32, sequence: u32) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == publisher) {
            Some((_, last)) => {
                let follows = sequence > *last;
                *last = sequence;
                follows
            }
            None => {
                if self.0.len() < WATCHED_MAX {
                    self.0.push((publisher, sequence));
                }
                true
            }
        }
    }
}

fn handshake(open: &Open, number: u32) -> Result<ClientHandshake, Lost> {
    let target = &open.target;
    let path = match open.role {
        Role::Subscriber | Role::Returning | Role::Silent => &target.path,
        Role::Publisher => &target.publisher_path,
        Role::Echo => target.echo_path.as_ref().unwrap_or(&target.path),
    };
    let path = target.fill(path, number, open.rooms.of(number).start);
    let uri = format!("ws://{}{path}", target.host);
    let uri = uri
        .parse()
        .map_err(|error| Lost::Handshake(format!("{uri:?} is no URL: {error}")))?;
    let mut options = ClientOptions::new(uri);
    options.subprotocols.extend(target.subprotocol.clone());
    options.compression = target.compress.then(DeflatePolicy::default);
    ClientHandshake::new(options, *NONCE).map_err(|error| Lost::Handshake(error.to_string()))
}

fn connect(target: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

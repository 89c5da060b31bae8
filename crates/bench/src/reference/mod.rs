//! The bare server: what every server's CPU cost is compared with.
//!
//! What it is: one thread, one epoll, the socket calls and next to nothing between them. Who delivers a frame to N
//! members by N calls of `send` cannot be cheaper without leaving the socket calls, so a cost divided by this one says
//! what a server adds. What it is not: a WebSocket server to use. It keeps nothing and checks only what it needs in
//! order not to panic: no key, no UTF-8, no fragments; an unknown path or an unreadable frame closes the connection.
//!
//! ```text
//!             ┌──────────────────────────────── Server::handle ───────────────────────────────┐
//! accept ───► │ Connection (slot = file descriptor) ─► request: Role                          │
//! recv   ───► │ buffer ─► frame::read, in place ─┬─ room, publisher ─► each member ───────────┼──► one send a member
//!             │                                  └─ echo, ping ──────► sender ────────────────┼──► one send
//! 100 ms ───► │ Schedule ─► the group whose turn it is ───────────────────────────────────────┼──► one send each
//!             └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | path | role |
//! |---|---|
//! | `/room/N` | member of room N; what it sends goes to all members, itself included |
//! | `/room/N/publish` | no member; what it sends goes to all members of room N |
//! | `/echo` | what it sends comes back |
//! | `/ping/SECONDS` | gets an empty Ping every SECONDS seconds |
//!
//! Frames that came in one read are sent one by one: bursts are not coalesced, which is what servers that do coalesce
//! are compared with. A frame is unmasked where it was read and its new header is written in front of it, into the
//! room that the client's longer header leaves; nothing is copied on the way, unless a frame comes in pieces or a
//! socket takes no more.
//!
//! Calls into the kernel: `epoll_wait`, `recv` and `send`; for each connection `accept4`, `setsockopt`, `epoll_ctl`
//! and `close`. `epoll_ctl` again, twice, when a socket takes no more. The events are level-triggered, so that one read
//! for each will do; edge-triggered ones, and `read` and `write` for `recv` and `send`, made no difference that stood
//! out of the noise (fan-out to 1000, echo of 64 bytes and of 70,000; all variants in turn, seven times; Linux 6.18).
//!
//! Of the samples that `perf record` took of its thread during a fan-out of 64 bytes to 500 members, 97 of 100 were in
//! the kernel.
//!
//! Reading order: `request`, `frame`, `connection`, `groups`, `schedule`, `buffers`, then the server below, which
//! pumps them.

mod buffers;
mod connection;
mod frame;
mod groups;
mod request;
mod schedule;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv, sockopt};

use buffers::{Buffers, LARGE_FRAME_BYTES};
use connection::{Connection, Flushing, Role, Sending, Slot};
use frame::{Kind, Reading};
use groups::{Groups, Seat};
use request::{Head, Request};
use schedule::{Schedule, TICK};

/// Events that one call of `epoll_wait` takes.
const EVENTS_MAX: usize = 1024;

/// Connections that one event of the listener accepts, so that a flood of them does not starve the others. It ends
/// earlier when no more are waiting: that is one call in vain for a lone connection, where accepting one at a time would
/// be an `epoll_wait` more for each of a flood.
const ACCEPTS_MAX: usize = 256;

/// The listener among the events; slots are smaller, being file descriptors.
const LISTENER: u64 = u64::MAX;

/// An empty Ping.
const PING: [u8; 2] = [0x89, 0];

/// Serves the connections of `listener` on the calling thread, for ever.
///
/// # Errors
///
/// What the kernel refuses to the server as a whole: an epoll instance, waiting on it, or another file descriptor for
/// a connection (`EMFILE`), since figures of a server that turns connections away are worth nothing. An error of one
/// connection closes that one.
pub fn run(listener: TcpListener) -> io::Result<()> {
    let mut server = Server::new(listener)?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let timeout = (!server.schedule.is_empty()).then_some(&TICK);
        match epoll::wait(&server.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            server.handle(event)?;
        }
        if !server.schedule.is_empty() {
            server.handle_time(Instant::now());
        }
    }
}

/// All there is.
struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By slot, which is the file descriptor: the kernel hands out the lowest free one, so there are few holes.
    connections: Vec<Option<Connection>>,
    rooms: Groups,
    schedule: Schedule,
    buffers: Buffers,
}

/// How far the bytes of a connection went.
struct Progress {
    /// Bytes that are done with.
    taken: usize,
    /// Length of the frame that begins behind them, once its header is there; otherwise 0.
    frame_bytes: usize,
}

/// The connection is to be closed: its end, its Close, its error, or bytes that are none of the protocol.
struct Finished;

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            rooms: Groups::default(),
            schedule: Schedule::starting_at(Instant::now()),
            buffers: Buffers::default(),
        })
    }

    fn handle(&mut self, event: epoll::Event) -> io::Result<()> {
        let (flags, data) = (event.flags, event.data.u64());
        if data == LISTENER {
            return self.handle_connecting();
        }
        // The connection may have been closed by an earlier event of this call, and another one have its slot. Then
        // the event finds nothing to read or to flush there, which does no harm.
        let slot = Slot::from_event(data);
        if flags.contains(epoll::EventFlags::OUT) {
            self.handle_writable(slot);
        }
        if flags != epoll::EventFlags::OUT {
            self.handle_readable(slot);
        }
        Ok(())
    }

    fn handle_connecting(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.add(socket)?,
                Err(Errno::AGAIN) => break,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return Err(error.into());
                }
                // accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code
                // from accept()": that connection is gone, the next one may be good.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        // It fails if the peer is gone already; the first read will tell.
        let _peer_may_be_gone = sockopt::set_tcp_nodelay(&socket, true);
        let slot = Slot::of(&socket);
        epoll::add(&self.epoll, &socket, slot.event_data(), epoll::EventFlags::IN)?;
        if self.connections.len() <= slot.index() {
            self.connections.resize_with(slot.index() + 1, || None);
        }
        self.connections[slot.index()] = Some(Connection::new(socket));
        Ok(())
    }

    fn connection(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.connections.get_mut(slot.index())?.as_mut()
    }

    /// Reads once: what is left is told of again.
    fn handle_readable(&mut self, slot: Slot) {
        let Some(Some(connection)) = self.connections.get_mut(slot.index()) else {
            return;
        };
        let mut bytes = self.buffers.resume(&mut connection.unread);
        let progress = match recv(&connection.socket, spare_capacity(&mut bytes), RecvFlags::empty()) {
            Ok((_, 1..)) => self.handle_bytes(slot, &mut bytes),
            Err(Errno::AGAIN | Errno::INTR) => {
                connection.unread = bytes;
                return;
            }
            Ok((_, 0)) | Err(_) => Err(Finished),
        };
        match progress {
            Ok(progress) => self.set_aside(slot, bytes, &progress),
            Err(Finished) => {
                self.buffers.give_back(bytes);
                self.close(slot);
            }
        }
    }

    /// Handles what is complete in `bytes`, in place.
    fn handle_bytes(&mut self, slot: Slot, bytes: &mut [u8]) -> Result<Progress, Finished> {
        let Some(connection) = self.connection(slot) else {
            return Err(Finished);
        };
        let mut taken = 0;
        let role = match connection.role {
            Role::Requesting => match request::read(bytes) {
                Ok(Head::Complete { request, head_bytes }) => {
                    taken = head_bytes;
                    self.handle_request(slot, request)?
                }
                Ok(Head::Incomplete) => {
                    return Ok(Progress {
                        taken,
                        frame_bytes: 0,
                    });
                }
                Err(request::Unreadable) => {
                    // It is closed whether that leaves or not.
                    let _sending = connection.send(request::REFUSED);
                    return Err(Finished);
                }
            },
            role => role,
        };
        loop {
            match frame::read(&mut bytes[taken..]).map_err(|frame::Unreadable| Finished)? {
                Reading::Incomplete { frame_bytes } => return Ok(Progress { taken, frame_bytes }),
                Reading::Complete(frame) => {
                    let unmasked = &bytes[taken..][frame.unmasked];
                    self.handle_frame(slot, role, frame.kind, unmasked)?;
                    taken += frame.frame_bytes;
                }
            }
        }
    }

    fn handle_request(&mut self, slot: Slot, request: Request) -> Result<Role, Finished> {
        let role = match request {
            Request::Room(room) => Role::Member(self.rooms.join(room, slot)),
            Request::Publish(room) => Role::Publisher { room },
            Request::Echo => Role::Echo,
            Request::Ping(period) => {
                let seat = self.schedule.join(period, slot, Instant::now());
                Role::Pinged(seat.ok_or(Finished)?)
            }
        };
        if let Some(connection) = self.connection(slot) {
            connection.role = role;
        }
        match self.send(slot, request::ACCEPTED) {
            Sending::Refused => Err(Finished),
            Sending::Sent | Sending::Queued => Ok(role),
        }
    }

    /// `unmasked` is the frame as a server sends it.
    fn handle_frame(&mut self, slot: Slot, role: Role, kind: Kind, unmasked: &[u8]) -> Result<(), Finished> {
        match (kind, role) {
            (Kind::Data, Role::Member(Seat { group: room, .. }) | Role::Publisher { room }) => {
                self.deliver(room, unmasked);
                // Its own copy may have been the one that was refused.
                if self.connection(slot).is_some() {
                    Ok(())
                } else {
                    Err(Finished)
                }
            }
            (Kind::Data, Role::Echo) | (Kind::Ping, _) => match self.send(slot, unmasked) {
                Sending::Refused => Err(Finished),
                Sending::Sent | Sending::Queued => Ok(()),
            },
            (Kind::Data, Role::Pinged(_) | Role::Requesting) | (Kind::Pong, _) => Ok(()),
            (Kind::Close, _) => Err(Finished),
        }
    }

    /// Sends `frame` to every member of the room.
    fn deliver(&mut self, room: u32, frame: &[u8]) {
        let mut at = 0;
        while let Some(member) = self.rooms.member(room, at) {
            match self.send(member, frame) {
                Sending::Sent | Sending::Queued => at += 1,
                // The last member, which was not served yet, takes the seat.
                Sending::Refused => self.close(member),
            }
        }
    }

    fn handle_time(&mut self, now: Instant) {
        while let Some(group) = self.schedule.poll_due(now) {
            let mut at = 0;
            while let Some(member) = self.schedule.groups.member(group, at) {
                match self.send(member, &PING) {
                    Sending::Sent | Sending::Queued => at += 1,
                    Sending::Refused => self.close(member),
                }
            }
        }
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> Sending {
        let Some(Some(connection)) = self.connections.get_mut(slot.index()) else {
            return Sending::Refused;
        };
        let had_unsent = connection.has_unsent();
        let sending = connection.send(bytes);
        if sending == Sending::Queued && !had_unsent {
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            return match epoll::modify(&self.epoll, &connection.socket, slot.event_data(), interest) {
                Ok(()) => Sending::Queued,
                Err(_) => Sending::Refused,
            };
        }
        sending
    }

    fn handle_writable(&mut self, slot: Slot) {
        let Some(Some(connection)) = self.connections.get_mut(slot.index()) else {
            return;
        };
        let is_alive = match connection.flush() {
            Flushing::Blocked => true,
            Flushing::Done => {
                let interest = epoll::EventFlags::IN;
                epoll::modify(&self.epoll, &connection.socket, slot.event_data(), interest).is_ok()
            }
            Flushing::Refused => false,
        };
        if !is_alive {
            self.close(slot);
        }
    }

    /// Keeps what is left of `bytes` until the next read.
    fn set_aside(&mut self, slot: Slot, mut bytes: Vec<u8>, progress: &Progress) {
        let Progress { taken, frame_bytes } = *progress;
        if taken < bytes.len()
            && let Some(Some(connection)) = self.connections.get_mut(slot.index())
        {
            if frame_bytes >= LARGE_FRAME_BYTES {
                // The rest of it is read to where it belongs: such a frame is not copied on its way.
                bytes.drain(..taken);
                bytes.reserve_exact(frame_bytes - bytes.len());
                connection.unread = bytes;
                return;
            }
            connection.unread = bytes[taken..].to_vec();
        }
        self.buffers.give_back(bytes);
    }

    /// Closes the socket, which ends its registration with epoll, and leaves its group.
    fn close(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot.index()).and_then(Option::take) else {
            return;
        };
        let moved = match connection.role {
            Role::Member(seat) => self.rooms.leave(seat).map(|moved| (moved, Role::Member(seat))),
            Role::Pinged(seat) => self.schedule.leave(seat).map(|moved| (moved, Role::Pinged(seat))),
            Role::Requesting | Role::Publisher { .. } | Role::Echo => None,
        };
        if let Some((moved, role)) = moved
            && let Some(connection) = self.connection(moved)
        {
            connection.role = role;
        }
    }
}

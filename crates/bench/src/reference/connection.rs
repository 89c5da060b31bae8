//! One connection: its socket, what it is for, what could not be read or sent to the end.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::EventData;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::groups::Seat;

/// Bytes that wait for a socket to take them; with more the connection is closed. Load generators that are slow at
/// times lose nothing, and one that has stopped reading does not fill the memory.
pub(super) const UNSENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a connection stands: the number of its file descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(pub(super) u32);

/// A connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) role: Role,
    /// The beginning of a head or of a frame. Without capacity, as almost always, it owns nothing.
    pub(super) unread: Vec<u8>,
    unsent: Option<Box<Unsent>>,
}

// What an idle connection costs beside its socket: one cache line.
const _: () = assert!(size_of::<Option<Connection>>() <= 64);

/// What a connection is for.
///
/// ```text
/// Requesting ─► Member, Publisher, Echo or Pinged, by the path of the request
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// The head of its request is not complete.
    Requesting,
    /// Of a room.
    Member(Seat),
    /// To a room.
    Publisher { room: u32 },
    /// It gets back what it sends.
    Echo,
    /// By the schedule.
    Pinged(Seat),
}

/// What a socket has not taken yet.
struct Unsent {
    bytes: Vec<u8>,
    /// How many of them it has taken since.
    sent: usize,
}

/// What became of the bytes of one [`Connection::send`].
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sending {
    /// The socket has them.
    Sent,
    /// The rest waits: the socket is to be flushed when it is writable.
    Queued,
    /// The connection is to be closed: its error, or more than [`UNSENT_BYTES_MAX`] would wait.
    Refused,
}

/// What became of what waited.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flushing {
    /// The socket has it all.
    Done,
    /// Some of it still waits.
    Blocked,
    /// The connection is to be closed.
    Refused,
}

impl Slot {
    /// Of a socket that is open.
    pub(super) fn of(socket: &OwnedFd) -> Self {
        // The descriptor of what is open is never negative.
        Self(socket.as_raw_fd().cast_unsigned())
    }

    /// The slot of an event that was registered with [`Slot::event_data`].
    pub(super) fn from_event(data: u64) -> Self {
        Self(data as u32)
    }

    pub(super) fn event_data(self) -> EventData {
        EventData::new_u64(u64::from(self.0))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            role: Role::Requesting,
            unread: Vec::new(),
            unsent: None,
        }
    }

    /// Something waits for the socket to be writable.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// One call of `send`, unless earlier bytes wait.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Sending {
        if let Some(unsent) = &mut self.unsent {
            return unsent.append(bytes);
        }
        let sent = match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => return Sending::Sent,
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return Sending::Refused,
        };
        let mut unsent = Box::new(Unsent {
            bytes: Vec::new(),
            sent: 0,
        });
        let sending = unsent.append(&bytes[sent..]);
        self.unsent = Some(unsent);
        sending
    }

    /// One call of `send` for what waits.
    pub(super) fn flush(&mut self) -> Flushing {
        let Some(unsent) = &mut self.unsent else {
            return Flushing::Done;
        };
        match send(&self.socket, &unsent.bytes[unsent.sent..], SendFlags::NOSIGNAL) {
            Ok(sent) => unsent.sent += sent,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Flushing::Refused,
        }
        if unsent.sent < unsent.bytes.len() {
            return Flushing::Blocked;
        }
        self.unsent = None;
        Flushing::Done
    }
}

impl Unsent {
    fn append(&mut self, bytes: &[u8]) -> Sending {
        let waiting = self.bytes.len() - self.sent;
        if waiting + bytes.len() > UNSENT_BYTES_MAX {
            return Sending::Refused;
        }
        // Moves no more bytes than were sent since it moved the last time.
        if self.sent > waiting {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
        Sending::Queued
    }
}

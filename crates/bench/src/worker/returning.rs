//! Connections that come back: what each has, and when it tries again.
//!
//! ```text
//!   here ── lost ──► waits (backoff, full jitter) ──► connects ──► subscribes with `since` ──► here, done when it has everything
//!                      ▲                                 │
//!                      └──── refused, or 10 s over ◄─────┘
//! ```
//!
//! They wait as the project's clients do, by the same code: `switchboard_proto::session::backoff`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;

use memchr::memmem::Finder;
use switchboard_proto::session::backoff::Backoff;

use super::connection::{Connection, Lost};
use super::{Group, Worker, enroll};
use crate::control::Tally;
use crate::stamp::Reader;

/// Time for an attempt to connect and subscribe, as the Rust client has it.
const ATTEMPT_NS: u64 = 10_000_000_000;
/// Attempts begun before the sockets are looked at again.
const ATTEMPTS_PER_PASS: usize = 32;
/// Of a connection that is away: no key is so large.
pub(super) const AWAY: usize = usize::MAX;
/// Characters kept of what a server says.
const WORDS_MAX: usize = 200;

/// The connections of one group. See the module.
pub(super) struct Returning {
    clients: Vec<Client>,
    /// When who tries again.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Attempts under way or over, the oldest first: when, whose, and with which key.
    attempts: VecDeque<(u64, u32, usize)>,
    /// Messages that each is to have.
    expected: u32,
    tally: Tally,
    random: u64,
    position: Finder<'static>,
    reader: Reader,
}

#[derive(Default)]
struct Client {
    position: Option<Box<str>>,
    /// The next message of its channel.
    next: u32,
    backoff: Backoff,
    /// It was ready once: what happens from then on is no failure to open.
    was_ready: bool,
    /// Since [`Returning::expect`].
    is_back: bool,
    is_done: bool,
}

impl Returning {
    pub(super) fn new(count: u32) -> io::Result<Returning> {
        Ok(Returning {
            clients: (0..count).map(|_| Client::default()).collect(),
            due: BinaryHeap::new(),
            attempts: VecDeque::new(),
            expected: 0,
            tally: Tally::default(),
            random: getrandom::u64().map_err(io::Error::other)?,
            position: Finder::new(b"\"position\":\""),
            reader: Reader::new(),
        })
    }

    /// Everyone is to be lost and to come back, and to have so many messages then.
    pub(super) fn expect(&mut self, messages: u32) {
        self.expected = messages;
        (self.tally.done, self.tally.attempts) = (0, 0);
        for client in &mut self.clients {
            (client.is_back, client.is_done) = (false, false);
            client.backoff.reset();
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// When the next attempt is due.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    pub(super) fn is_away(&self) -> bool {
        !self.due.is_empty() || !self.attempts.is_empty()
    }

    pub(super) fn was_ready(&self, index: u32) -> bool {
        self.clients
            .get(index as usize)
            .is_some_and(|client| client.was_ready)
    }

    /// A connection is ready, for the first time or again.
    pub(super) fn handle_ready(&mut self, index: u32, now: u64) {
        if let Some(client) = self.clients.get_mut(index as usize) {
            client.is_back = client.was_ready;
            client.was_ready = true;
        }
        self.look(index, now);
    }

    /// A connection was lost, or did not come about.
    pub(super) fn handle_lost(&mut self, index: u32, lost: &Lost, now: u64) {
        // xorshift64: never 0 where it did not begin so, and nothing depends on how random it is.
        self.random |= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let random = (self.random >> 32) as u32;
        let Some(client) = self.clients.get_mut(index as usize) else {
            return;
        };
        if self.tally.broken == 0 {
            self.tally.words = Some(lost.to_string());
        }
        let wait_ns = client.backoff.next_wait(random).as_nanos();
        let wait_ns = u64::try_from(wait_ns).unwrap_or(u64::MAX);
        self.due.push(Reverse((now.saturating_add(wait_ns), index)));
    }

    /// A data frame: an answer, a message, or a break.
    pub(super) fn handle_frame(&mut self, index: u32, frame: &[u8], now: u64) {
        let Some(client) = self.clients.get_mut(index as usize) else {
            return;
        };
        if let Some(position) = position(&self.position, frame) {
            client.position = Some(position.into());
        }
        let mut found = false;
        let tally = &mut self.tally;
        self.reader.read(frame, |stamp| {
            found = true;
            match stamp.sequence.checked_sub(client.next) {
                Some(missing) => {
                    tally.missing += u64::from(missing);
                    client.next = stamp.sequence.wrapping_add(1);
                }
                None => tally.repeated += 1,
            }
        });
        if !found && is_break(frame) {
            tally.broken += 1;
            let words = String::from_utf8_lossy(frame).chars().take(WORDS_MAX).collect();
            tally.words = Some(words);
        }
        self.look(index, now);
    }

    /// Whether it has all now.
    fn look(&mut self, index: u32, now: u64) {
        if let Some(client) = self.clients.get_mut(index as usize)
            && client.is_back
            && !client.is_done
            && client.next >= self.expected
        {
            client.is_done = true;
            self.tally.done += 1;
            self.tally.last_ns = now;
        }
    }

    /// Who tries again now.
    fn poll_due(&mut self, now: u64) -> Option<u32> {
        self.due.peek().filter(|Reverse((due, _))| *due <= now)?;
        self.tally.attempts += 1;
        self.due.pop().map(|Reverse((_, index))| index)
    }

    /// An attempt whose time is over, if it is the same connection still.
    fn poll_over(&mut self, now: u64) -> Option<(u32, usize)> {
        let (begun, index, key) = *self.attempts.front()?;
        if begun + ATTEMPT_NS > now {
            return None;
        }
        self.attempts.pop_front();
        Some((index, key))
    }
}

/// The position that a frame tells.
fn position<'a>(finder: &Finder<'_>, frame: &'a [u8]) -> Option<&'a str> {
    let start = finder.find(frame)? + finder.needle().len();
    let length = memchr::memchr(b'"', &frame[start..])?;
    std::str::from_utf8(&frame[start..start + length]).ok()
}

/// Whether the server says that something is missing, or refuses.
fn is_break(frame: &[u8]) -> bool {
    [
        &br#"{"type":"gap""#[..],
        br#"{"type":"reset""#,
        br#"{"type":"error""#,
    ]
    .iter()
    .any(|kind| frame.starts_with(kind))
        || memchr::memmem::find(frame, br#""recovered":false"#).is_some()
}

impl Worker {
    /// Begins the attempts that are due, and ends those that have lasted too long.
    pub(super) fn pump_returning(&mut self, now: u64) {
        let away: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, group)| group.returning.as_ref().is_some_and(Returning::is_away))
            .map(|(id, _)| *id)
            .collect();
        for id in away {
            for _ in 0..ATTEMPTS_PER_PASS {
                let Some(group) = self.groups.get_mut(&id) else {
                    break;
                };
                let Some(returning) = &mut group.returning else {
                    break;
                };
                if let Some((index, key)) = returning.poll_over(now) {
                    let is_it = group.members.get(index as usize) == Some(&key);
                    let is_late = |connection: &Connection| !connection.is_ready();
                    if is_it && self.connections.get(key).is_some_and(is_late) {
                        let late = io::Error::from(io::ErrorKind::TimedOut);
                        self.lose(key, &late.into(), now);
                    }
                    continue;
                }
                let Some(index) = returning.poll_due(now) else {
                    break;
                };
                if let Err(lost) = self.return_one(id, index, now)
                    && let Some(returning) = self
                        .groups
                        .get_mut(&id)
                        .and_then(|group| group.returning.as_mut())
                {
                    returning.handle_lost(index, &lost, now);
                }
            }
        }
    }

    fn return_one(&mut self, id: u32, index: u32, now: u64) -> Result<(), Lost> {
        let Some(Group {
            open,
            members,
            returning: Some(returning),
            ..
        }) = self.groups.get_mut(&id)
        else {
            return Ok(());
        };
        let mut connection = Connection::begin(open, open.first + index)?;
        let client = returning.clients.get(index as usize);
        connection.resume(client.and_then(|client| client.position.as_deref()));
        let key = enroll(&self.epoll, &mut self.connections, connection)?;
        if let Some(member) = members.get_mut(index as usize) {
            *member = key;
        }
        returning.attempts.push_back((now, index, key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;

    fn message(sequence: u32) -> Vec<u8> {
        let mut frame = br#"{"type":"message","channel":"a","offset":1,"position":"p"#.to_vec();
        frame.extend_from_slice(sequence.to_string().as_bytes());
        frame.extend_from_slice(br#"","data":""#);
        let stamp = Stamp {
            publisher: 0,
            sequence,
            due_ns: 0,
        };
        stamp.write(0, &mut frame);
        frame.extend_from_slice(br#""}"#);
        frame
    }

    /// One client that has message 0, was lost, and is back.
    fn back() -> Returning {
        let mut returning = Returning::new(1).unwrap();
        returning.handle_ready(0, 1);
        returning.handle_frame(0, &message(0), 2);
        returning.expect(3);
        returning.handle_lost(0, &Lost::Closed(String::new()), 3);
        assert_eq!(returning.poll_due(u64::MAX), Some(0));
        returning.handle_ready(0, 4);
        returning
    }

    #[test]
    fn it_is_done_when_it_is_back_and_has_everything() {
        let mut returning = back();
        returning.handle_frame(0, &message(1), 5);
        assert_eq!(returning.tally().done, 0);
        returning.handle_frame(0, &message(2), 6);
        let tally = returning.tally();
        assert_eq!((tally.done, tally.last_ns, tally.attempts), (1, 6, 1));
        assert_eq!((tally.missing, tally.repeated, tally.broken), (0, 0, 0));
        assert_eq!(returning.clients[0].position.as_deref(), Some("p2"));
    }

    #[test]
    fn what_is_left_out_or_comes_twice_is_counted() {
        let mut returning = back();
        returning.handle_frame(0, &message(2), 5);
        returning.handle_frame(0, &message(1), 6);
        let tally = returning.tally();
        assert_eq!((tally.missing, tally.repeated), (1, 1));
    }

    #[test]
    fn breaks_are_counted_and_answers_are_none() {
        let mut returning = back();
        let subscribed =
            r#"{"type":"subscribed","id":1,"channel":"a","offset":1,"position":"q","recovered":"#;
        returning.handle_frame(0, format!("{subscribed}true}}").as_bytes(), 5);
        assert_eq!(returning.tally().broken, 0);
        assert_eq!(returning.clients[0].position.as_deref(), Some("q"));
        for broken in [
            &format!("{subscribed}false}}"),
            r#"{"type":"gap","channel":"a","from":1,"to":2,"position":"r"}"#,
            r#"{"type":"reset","channel":"a","position":"r"}"#,
            r#"{"type":"error","id":1,"code":"overloaded"}"#,
        ] {
            let before = returning.tally().broken;
            returning.handle_frame(0, broken.as_bytes(), 6);
            assert_eq!(returning.tally().broken, before + 1, "{broken}");
        }
    }
}

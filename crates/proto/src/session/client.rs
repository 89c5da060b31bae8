//! The client's side of one connection, after the handshake. Mirrors [`super::server`].
//!
//! **Calling contract. After every `handle_*`, `poll_*`, [`Session::command`] or [`Session::close`] the shell writes
//! [`Session::output`] to the socket and clears it, looks at [`Session::end`], and makes sure that
//! [`Session::handle_timeout`] is called at [`Session::deadline`] or soon after, once it has read what the socket holds by
//! then. While bytes are at hand it calls [`Session::poll_notice`] until that returns `None`; when it stops before, because
//! nobody takes what it has read, it says so by [`Session::handle_paused`] and [`Session::handle_resumed`].**
//!
//! One machine is one connection: reconnecting is a new machine, with [`super::backoff`] in between.

use std::time::Duration;

use super::heartbeat::{Beat, Heartbeat};
use crate::dialect::notice::{self, Notice};
use crate::dialect::{Command, DialectId, Inbound, json, msgpack};

use crate::time::Time;
use crate::ws::close::CloseCode;
use crate::ws::deflate::{Agreed, Contexts};
use crate::ws::mask::MaskKeys;
use crate::ws::{Connection, MessageKind, PeerMisbehaved, Received, Sent};

/// A client that does not read gives its first sign of life after this time: soon enough for a server that had just been
/// about to ask for one, and not once for every short pause.
const FIRST_SIGN: Duration = Duration::from_secs(1);

/// A server that says a shorter interval than this is taken to have said this one, so that it cannot keep a client busy with
/// signs of life.
const SERVER_PING_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// While more than this waits for the socket, only the newest ping will be answered, so that a server which asks and does not
/// listen costs no more.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Bounds of a client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest message the server may send. Default 8 MiB: what a backend publishes has up to 1 MiB, and in JSON a character can take
    /// six bytes.
    pub message_bytes_max: usize,
    /// Silence after which the client pings, until the server says its own interval. Default 25 s.
    pub ping_interval: Duration,
    /// Time for the server to answer a ping. Default 10 s.
    pub pong_timeout: Duration,
    /// Time for the server to answer our Close. Default 5 s.
    pub close_handshake: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            message_bytes_max: 8 * 1024 * 1024,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close_handshake: Duration::from_secs(5),
        }
    }
}

/// How a connection ended.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum End {
    /// Close frames were exchanged. `code` is the server's, `None` where it gave none.
    #[error("closed by the server{}", code.map(|code| format!(" with code {code}: {reason}")).unwrap_or_default())]
    Closed {
        /// The server's close code.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// The connection was lost without a Close.
    #[error("the connection was lost")]
    Gone,
    /// The server answered no ping.
    #[error("the server is silent")]
    Silent,
    /// The server broke the WebSocket protocol.
    #[error("the server broke the protocol: {0}")]
    Misbehaved(PeerMisbehaved),
    /// The server said something that is not of this dialect.
    #[error(transparent)]
    NotAnEvent(#[from] notice::NotAnEvent),
    /// The server said something of this dialect that makes no sense here ([`Session::handle_nonsense`]).
    #[error("the server broke the protocol: {0}")]
    Nonsense(&'static str),
}

/// The command was not said: the connection is closing, or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection is closing")]
pub struct Unsaid;

/// See the module.
pub struct Session {
    connection: Connection,
    contexts: Contexts,
    dialect: DialectId,
    heartbeat: Heartbeat,
    settings: Settings,
    jitter: u8,
    server_ping_interval: Duration,
    /// The shell does not read; the next sign of life is due then.
    paused: Option<Time>,
    /// The newest ping that waits for the socket (RFC 6455 section 5.5.3).
    pong_owed: Option<Box<[u8]>>,
    closing_until: Option<Time>,
    end: Option<End>,
    output: Vec<u8>,
}

impl Session {
    /// A session whose handshake is done, in `dialect` ([`DialectId::Json`] or [`DialectId::Msgpack`]).
    pub fn new(
        now: Time,
        dialect: DialectId,
        compression: Option<Agreed>,
        masks: MaskKeys,
        jitter: u8,
        settings: Settings,
    ) -> Session {
        let limits = crate::ws::Limits {
            message_bytes_max: settings.message_bytes_max,
            // The server is trusted to send what subscribers want to have; the size bounds what that costs.
            inflate_ratio_max: usize::MAX,
        };
        Session {
            connection: Connection::client(limits, compression, masks),
            contexts: Contexts::new(1),
            dialect,
            heartbeat: Heartbeat::new(now, settings.ping_interval, jitter),
            server_ping_interval: settings.ping_interval,
            settings,
            jitter,
            paused: None,
            pong_owed: None,
            closing_until: None,
            end: None,
            output: Vec::new(),
        }
    }

    /// Bytes for the socket; the shell clears them when they are written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// How the connection ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Says `command` to the server.
    pub fn command(&mut self, command: &Command) -> Result<(), Unsaid> {
        let mut message = Vec::new();
        let kind = match self.dialect {
            DialectId::Msgpack => {
                msgpack::encode_command(command, &mut message);
                MessageKind::Binary
            }
            DialectId::Json | DialectId::Raw | DialectId::EventStream | DialectId::Poll => {
                json::encode_command(command, &mut message);
                MessageKind::Text
            }
        };
        match self
            .connection
            .send(kind, &message, &mut self.contexts, &mut self.output)
        {
            Sent::Appended => Ok(()),
            Sent::NotOpen | Sent::TooLong => Err(Unsaid),
        }
    }

    /// The next thing that the server said, taken off the front of `input`.
    pub fn poll_notice(&mut self, now: Time, input: &mut &mut [u8]) -> Option<Notice> {
        self.heartbeat.handle_heard(now);
        self.send_owed_pong();
        while self.end.is_none() {
            let message = match self.connection.receive(input, &mut self.contexts) {
                Ok(None) => return None,
                Ok(Some(Received::Text(text))) => Inbound::Text(text.as_str()),
                Ok(Some(Received::Binary(bytes))) => Inbound::Binary(bytes),
                Ok(Some(Received::Ping(payload))) => {
                    self.pong_owed = Some(payload.into());
                    self.send_owed_pong();
                    continue;
                }
                Ok(Some(Received::Pong(_))) => continue,
                Ok(Some(Received::Close(close))) => {
                    let code = close.map(|close| close.code);
                    let reason = close.map(|close| close.reason.to_owned()).unwrap_or_default();
                    let _sent_if_ours_was_not = self.connection.answer_close(&mut self.output);
                    self.end = Some(End::Closed {
                        code: code.map(CloseCode::value),
                        reason,
                    });
                    break;
                }
                Err(misbehaved) => {
                    let reason = misbehaved.to_string();
                    let _open = self
                        .connection
                        .close(misbehaved.close_code(), &reason, &mut self.output);
                    self.end = Some(End::Misbehaved(misbehaved));
                    break;
                }
            };
            match notice::decode(message) {
                Ok(notice) => {
                    if let Notice::Welcome { heartbeat, .. } = &notice {
                        let interval = (*heartbeat).max(SERVER_PING_INTERVAL_MIN);
                        self.server_ping_interval = interval;
                        self.heartbeat = Heartbeat::new(now, interval + interval / 2, self.jitter);
                    }
                    return Some(notice);
                }
                Err(error) => {
                    let _open =
                        self.connection
                            .close(CloseCode::PROTOCOL_ERROR, "not an event", &mut self.output);
                    self.end = Some(End::NotAnEvent(error));
                }
            }
        }
        *input = &mut [];
        None
    }

    fn send_owed_pong(&mut self) {
        if self.output.len() < UNSENT_BYTES_MAX
            && let Some(payload) = self.pong_owed.take()
        {
            let _open = self.connection.pong(&payload, &mut self.output);
        }
    }

    /// The server said something that its dialect allows and the conversation does not, such as an answer of another kind
    /// than the question.
    pub fn handle_nonsense(&mut self, why: &'static str) {
        let _open = self
            .connection
            .close(CloseCode::PROTOCOL_ERROR, why, &mut self.output);
        self.end.get_or_insert(End::Nonsense(why));
    }

    /// From now on nothing is read from the socket. The server's silence is no sign of its death then, and as its pings are
    /// not seen, signs of life are given without them.
    pub fn handle_paused(&mut self, now: Time) {
        self.paused.get_or_insert(now + FIRST_SIGN);
    }

    /// The socket is read again.
    pub fn handle_resumed(&mut self, now: Time) {
        if self.paused.take().is_some() {
            self.heartbeat.handle_heard(now);
        }
    }

    /// Ends the connection in good order; the server's Close comes as [`End::Closed`].
    pub fn close(&mut self, now: Time) {
        if self.closing_until.is_none() {
            let _open = self.connection.close(CloseCode::NORMAL, "", &mut self.output);
            self.closing_until = Some(now + self.settings.close_handshake);
        }
    }

    /// The server sends nothing more.
    pub fn handle_eof(&mut self) {
        self.end.get_or_insert(End::Gone);
    }

    /// The next moment at which something is due.
    pub fn deadline(&self) -> Time {
        let beat = self
            .paused
            .unwrap_or_else(|| self.heartbeat.deadline(self.settings.pong_timeout));
        self.closing_until.map_or(beat, |until| until.min(beat))
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.closing_until.is_some_and(|until| now >= until) {
            self.end.get_or_insert(End::Gone);
        }
        self.send_owed_pong();
        if let Some(sign_at) = self.paused {
            if now >= sign_at {
                // RFC 6455 section 5.5.3: "A Pong frame MAY be sent unsolicited. This serves as a unidirectional heartbeat."
                let _open = self.connection.pong(&[], &mut self.output);
                self.paused = Some(now + self.server_ping_interval / 4);
            }
            return;
        }
        match self.heartbeat.poll(now, self.settings.pong_timeout) {
            Beat::Wait(_) => {}
            Beat::Ping => {
                let _open = self.connection.ping(&[], &mut self.output);
                self.heartbeat.handle_pinged(now);
            }
            Beat::Dead => {
                self.end.get_or_insert(End::Silent);
            }
        }
    }
}

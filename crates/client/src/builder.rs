//! The options of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::dialect::DialectId;
use switchboard_proto::session::backoff::Backoff;
use switchboard_proto::session::client::Settings;
use tokio::sync::{mpsc, watch};

use crate::client::{Client, Handle};
use crate::driver::{Attention, Clock, Driver, REQUESTS_MAX};
use crate::error::ConnectError;
use crate::open::{Opened, open};
use crate::state::{State, Status};

/// Which notation of the protocol is spoken. What can be said is the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Dialect {
    /// `switchboard.v1.json`: to be read by people who look at the wire. JSON payloads pass through as they are written.
    #[default]
    Json,
    /// `switchboard.v1.msgpack`: smaller, and bytes travel as they are.
    MessagePack,
}

impl Dialect {
    pub(crate) fn id(self) -> DialectId {
        match self {
            Dialect::Json => DialectId::Json,
            Dialect::MessagePack => DialectId::Msgpack,
        }
    }

    pub(crate) fn subprotocol(self) -> &'static str {
        match self {
            Dialect::Json => "switchboard.v1.json",
            Dialect::MessagePack => "switchboard.v1.msgpack",
        }
    }
}

/// How to connect. Made by [`Client::builder`].
#[derive(Clone)]
pub struct Builder {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) dialect: Dialect,
    pub(crate) compression: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) subscription_buffer: usize,
    pub(crate) settings: Settings,
    pub(crate) reconnect: bool,
    pub(crate) backoff: Backoff,
    pub(crate) idempotent: bool,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            token: None,
            headers: Vec::new(),
            dialect: Dialect::default(),
            compression: true,
            connect_timeout: Duration::from_secs(10),
            subscription_buffer: 256,
            settings: Settings::default(),
            reconnect: true,
            backoff: Backoff::default(),
            idempotent: true,
        }
    }

    /// Proof of identity, sent in `connect`. Default none.
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(token.into());
        self
    }

    /// Adds a header to the handshake, such as `Authorization` or `Origin`. Default none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The notation. Default [`Dialect::Json`].
    pub fn dialect(mut self, dialect: Dialect) -> Builder {
        self.dialect = dialect;
        self
    }

    /// Whether permessage-deflate is offered. Default true; a waste of time on a network that is faster than the compression.
    pub fn compression(mut self, compression: bool) -> Builder {
        self.compression = compression;
        self
    }

    /// Time for all of it: finding the address, TCP, the handshake, the welcome. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// Events of one subscription that may wait to be taken; see [`Subscription`](crate::Subscription) for what happens
    /// beyond. Default 256; 0 counts as 1.
    pub fn subscription_buffer(mut self, events: usize) -> Builder {
        self.subscription_buffer = events;
        self
    }

    /// Bounds of the connection: largest message, heartbeat, time for the close handshake.
    pub fn settings(mut self, settings: Settings) -> Builder {
        self.settings = settings;
        self
    }

    /// Whether the client connects again by itself when a connection is lost, and goes on where it was. Default true.
    pub fn reconnect(mut self, reconnect: bool) -> Builder {
        self.reconnect = reconnect;
        self
    }

    /// Bounds of the waits between attempts to connect again: before attempt n (from 0) a random time between zero and the smaller of
    /// `cap` and `base` × 2^n. A server that stops says itself when to come back. Default 0.5 s and 30 s. A connection that lasted
    /// for 10 s begins a new series.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Builder {
        (self.backoff.base, self.backoff.cap) = (base, cap);
        self
    }

    /// Whether publications without an idempotency key of their own get one, so that those whose acknowledgement was lost with a
    /// connection are published again, and not twice. Default true, as long as the client reconnects.
    pub fn idempotent(mut self, idempotent: bool) -> Builder {
        self.idempotent = idempotent;
        self
    }

    /// Connects, on the current runtime. This first connection has to succeed.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let clock = Clock::start();
        let Opened {
            link,
            session,
            user,
            resume,
        } = open(self, None, clock).await?;
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (status, known) = watch::channel(Status {
            state: State::Open,
            session: session.into(),
            user: user.into(),
        });
        let attention = Arc::new(Attention::default());
        let link = (link, resume);
        let driver = Driver::new(self.clone(), clock, link, receiver, attention.clone(), status);
        tokio::spawn(driver.run());
        Ok(Client::new(Handle::new(requests, attention, known)))
    }
}

impl fmt::Debug for Builder {
    /// Shows no secrets: the token and the values of headers are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Builder")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .field("headers", &headers)
            .field("dialect", &self.dialect)
            .field("compression", &self.compression)
            .field("connect_timeout", &self.connect_timeout)
            .field("subscription_buffer", &self.subscription_buffer)
            .field("settings", &self.settings)
            .field("reconnect", &self.reconnect)
            .field("backoff", &self.backoff)
            .field("idempotent", &self.idempotent)
            .finish()
    }
}

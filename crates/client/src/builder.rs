//! The options of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use switchboard_proto::dialect::DialectId;
use switchboard_proto::session::backoff::Backoff;
use switchboard_proto::session::client::Settings;
use tokio::sync::{mpsc, watch};

use crate::client::{Client, Handle};
use crate::driver::{Attention, Clock, Driver, REQUESTS_MAX, RETRY_AFTER_MAX};
use crate::error::ConnectError;
use crate::open::open;
use crate::state::Status;
use crate::surroundings::{Machine, Surroundings};
use crate::token::Token;
use crate::transport::Transport;

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
    pub(crate) token: Token,
    pub(crate) transports: Vec<Transport>,
    pub(crate) upgrade_after: Duration,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) dialect: Dialect,
    pub(crate) compression: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) subscription_buffer: usize,
    pub(crate) settings: Settings,
    pub(crate) persistent: bool,
    pub(crate) reconnect: bool,
    pub(crate) backoff: Backoff,
    pub(crate) idempotent: bool,
    pub(crate) surroundings: Arc<dyn Surroundings>,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            token: Token::None,
            transports: Transport::ALL.to_vec(),
            upgrade_after: Duration::from_secs(60),
            headers: Vec::new(),
            dialect: Dialect::default(),
            compression: true,
            connect_timeout: Duration::from_secs(10),
            subscription_buffer: 256,
            settings: Settings::default(),
            persistent: false,
            reconnect: true,
            backoff: Backoff::default(),
            idempotent: true,
            surroundings: Arc::new(Machine),
        }
    }

    /// Proof of identity, sent in `connect`, by HTTP as `Authorization: Bearer`. Default none.
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Token::Fixed(token.into());
        self
    }

    /// Where the token of each connection comes from. `Ok(None)`: nobody is signed in, which is final; an error: it cannot be had now, so
    /// the attempt has failed, and there will be another. Where it is a JWT with `exp`, another one is fetched 30 s before that, or after half
    /// of the time that is left if that is later, and shown by a connection that takes the place of this one. A server that refuses a token
    /// that it took before gets another one, too.
    ///
    /// ```
    /// use switchboard_client::Client;
    ///
    /// let builder = Client::builder("ws://127.0.0.1:8000/ws")
    ///     .token_source(|| async { std::fs::read_to_string("token").map(Some) });
    /// ```
    pub fn token_source<F, E>(mut self, source: impl Fn() -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.token = Token::source(source);
        self
    }

    /// What it may travel by, in this order: an attempt that fails is made again by the next at once, if there was no connection yet or three
    /// in a row have failed. Default all, the best first ([`Transport::ALL`]); none counts as all.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Builder {
        self.transports = Vec::new();
        for transport in transports {
            if !self.transports.contains(&transport) {
                self.transports.push(transport);
            }
        }
        if self.transports.is_empty() {
            self.transports = Transport::ALL.to_vec();
        }
        self
    }

    /// When the first of the transports is tried again, where another one works: after so long, then after twice as long each time, beside
    /// the one that works, whose place it takes. Default 1 min.
    pub fn upgrade_after(mut self, after: Duration) -> Builder {
        self.upgrade_after = after;
        self
    }

    /// Adds a header to the handshake and to every request, such as `Authorization` or `Origin`. Default none.
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

    /// Time for all of an attempt by one transport: the token, finding the address, TCP, the handshake, the welcome. Default 10 s.
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

    /// Whether [`Builder::connect`] goes on until there is a connection, as it is done when one is lost: after every failure that another
    /// attempt may mend ([`ConnectError::is_transient`]), with the waits of [`Builder::backoff`]. For a service that may start before its
    /// server. Default false: the first failure is told, as it may be a mistake in the address.
    ///
    /// ```no_run
    /// use switchboard_client::Client;
    ///
    /// # async fn start() -> Result<(), switchboard_client::ConnectError> {
    /// let client = Client::builder("ws://127.0.0.1:8000/ws").persistent(true).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn persistent(mut self, persistent: bool) -> Builder {
        self.persistent = persistent;
        self
    }

    /// Whether the client connects again by itself when a connection is lost, and goes on where it was; and whether it says again by
    /// itself what the server refuses for now. Default true.
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
    /// connection, and those that are refused for now, are published again, and not twice. Default true, as long as the client reconnects.
    pub fn idempotent(mut self, idempotent: bool) -> Builder {
        self.idempotent = idempotent;
        self
    }

    /// What it takes from the machine: how it reaches a host, for example. Default TCP, and the system's random numbers.
    pub fn surroundings(mut self, surroundings: impl Surroundings + 'static) -> Builder {
        self.surroundings = Arc::new(surroundings);
        self
    }

    /// For a wait that nobody foresees. Where there are no random numbers, it is the longest.
    pub(crate) fn random_u32(&self) -> u32 {
        let mut random = [0xff; 4];
        let _drawn = self.surroundings.random(&mut random);
        u32::from_be_bytes(random)
    }

    /// The headers of a request.
    pub(crate) fn headers(&self) -> Result<HeaderMap, ConnectError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let bad = || ConnectError::Header(name.clone());
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.append(parsed, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
        Ok(headers)
    }

    /// Connects, on the current runtime. This first connection has to succeed, by any of the transports; whether it is tried again says
    /// [`Builder::persistent`].
    ///
    /// # Errors
    /// See [`ConnectError`]. With [`Builder::persistent`] only what is not transient.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let clock = Clock::start();
        let transports = (self.transports[0], &self.transports[1..]);
        let mut backoff = self.backoff;
        let opened = loop {
            match open(self, transports, None, &[], clock).await {
                Err(error) if self.persistent && error.is_transient() => {
                    let wait = backoff.next_wait(self.random_u32());
                    let advice = error.retry_after().unwrap_or_default();
                    tokio::time::sleep(wait + advice.min(RETRY_AFTER_MAX)).await;
                }
                opened => break opened?,
            }
        };
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (status, known) = watch::channel(Status::default());
        let attention = Arc::new(Attention::default());
        let driver = Driver::new(self.clone(), clock, opened, receiver, attention.clone(), status);
        self.surroundings.spawn(Box::pin(driver.run()));
        Ok(Client::new(Handle::new(requests, attention, known)))
    }
}

impl fmt::Debug for Builder {
    /// Shows no secrets: the token and the values of headers are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Builder")
            .field("url", &self.url)
            .field("transports", &self.transports)
            .field("upgrade_after", &self.upgrade_after)
            .field("headers", &headers)
            .field("dialect", &self.dialect)
            .field("compression", &self.compression)
            .field("connect_timeout", &self.connect_timeout)
            .field("subscription_buffer", &self.subscription_buffer)
            .field("settings", &self.settings)
            .field("persistent", &self.persistent)
            .field("reconnect", &self.reconnect)
            .field("backoff", &self.backoff)
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}

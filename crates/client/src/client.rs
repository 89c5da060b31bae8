//! What an application holds of a connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{History, Members};
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::Which;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::builder::Builder;
use crate::driver::Attention;
use crate::error::{ConnectError, End, PingError, PublishError, ReadError, SubscribeError};
use crate::publication::Publication;
use crate::request::Request;
use crate::state::{State, Status};
use crate::subscription::{SubscribeOptions, Subscription};
use crate::transport::Transport;

/// A connection to a server, and the next one. Clones are handles of the same connection, cheap and usable from any task.
///
/// It lives until it is closed by [`Client::close`], until the last handle is gone (clones and [`Subscription`]s), or until the server
/// wants it no more. **When a connection is lost, it makes another one**, waits longer after each failure, and goes on: subscriptions from
/// where they were, and whatever was asked and not answered is asked again, in its order. What is asked meanwhile waits. A publication that the
/// server refuses for now is said again when it wants it, with all those behind it.
/// [`Client::state`] says where it is.
///
/// Every call can be dropped before it is done, by a timeout for example. What it had asked for may happen all the same.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What clients and subscriptions share. Its end closes the connection.
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    attention: Arc<Attention>,
    status: watch::Receiver<Status>,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        attention: Arc<Attention>,
        status: watch::Receiver<Status>,
    ) -> Handle {
        Handle {
            requests,
            attention,
            status,
        }
    }

    fn state(&self) -> State {
        let state = self.status.borrow().state.clone();
        let driver_is_gone = || self.status.has_changed().is_err();
        match state {
            State::Closed(_) => state,
            _ if driver_is_gone() => State::Closed(End::RuntimeStopped),
            _ => state,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        match self.state() {
            State::Closed(end) => Some(end),
            State::Open | State::Waiting { .. } | State::Connecting { .. } => None,
        }
    }

    async fn wait_for_end(&self) -> End {
        let mut status = self.status.clone();
        let closed = status
            .wait_for(|status| matches!(status.state, State::Closed(_)))
            .await;
        match closed.map(|status| status.state.clone()) {
            Ok(State::Closed(end)) => end,
            Ok(_) | Err(_) => End::RuntimeStopped,
        }
    }

    /// Asks the driver and waits for the answer.
    async fn ask<T, E>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
        ended: impl FnOnce(End) -> E,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).await.is_err() {
            return Err(ended(self.wait_for_end().await));
        }
        match answer.await {
            Ok(answer) => answer,
            // The driver answers everything, unless its runtime drops it.
            Err(_unanswered) => Err(ended(End::RuntimeStopped)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.attention.close();
    }
}

impl Client {
    /// Connects to a server at an address such as `ws://127.0.0.1:8000/ws`, with the defaults of [`Builder`], on the current
    /// runtime.
    ///
    /// # Errors
    /// See [`ConnectError`]. After 10 s it gives up.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect(url: &str) -> Result<Client, ConnectError> {
        Client::builder(url).connect().await
    }

    /// The options for a connection to this address.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(handle: Handle) -> Client {
        Client {
            handle: Arc::new(handle),
        }
    }

    /// The name of the session, for logs and for the server's API. It stays over reconnects, unless the server has lost the key with
    /// which it gave it out: a restart without a data directory. Empty over HTTP, before the first channel is read.
    pub fn session(&self) -> Arc<str> {
        self.handle.status.borrow().session.clone()
    }

    /// Who the server holds this client for.
    pub fn user(&self) -> Arc<str> {
        self.handle.status.borrow().user.clone()
    }

    /// How it travels, or did last.
    pub fn transport(&self) -> Transport {
        self.handle.status.borrow().transport
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// Waits until it does something else than `known`, and says what. States that come and go in between are passed over. After
    /// [`State::Closed`] nothing changes any more, and this waits for ever.
    pub async fn state_other_than(&self, known: &State) -> State {
        let mut status = self.handle.status.clone();
        // The lock is not held across the wait below, so that any task may call this.
        let other = status.wait_for(|status| status.state != *known).await;
        match other.map(|status| status.state.clone()) {
            Ok(state) => state,
            Err(_driver_is_gone) => match self.handle.state() {
                state if state != *known => state,
                _ => std::future::pending().await,
            },
        }
    }

    /// Subscribes to what is published to a channel from now on. What was published before is in [`Client::history`].
    ///
    /// # Errors
    /// Among others `already_subscribed`: a client has one [`Subscription`] for each channel.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, SubscribeError> {
        self.subscribe_with(channel, SubscribeOptions::default()).await
    }

    /// Subscribes to a channel, from a position for example.
    ///
    /// # Errors
    /// See [`Client::subscribe`], and `bad_position`.
    pub async fn subscribe_with(
        &self,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let channel = ChannelName::parse(channel)?;
        let name = channel.clone();
        let joined = self
            .handle
            .ask(
                |reply| Request::Subscribe {
                    channel,
                    options,
                    reply,
                },
                SubscribeError::Ended,
            )
            .await?;
        Ok(Subscription::new(name, joined, self.handle.clone()))
    }

    /// Publishes a message and waits until it is in the channel's log.
    ///
    /// Where the connection is lost before, or the server refuses it for now ([`Refusal::is_retryable`](crate::Refusal::is_retryable)), it is
    /// published again; not twice, because of its idempotency key ([`Builder::idempotent`](crate::Builder::idempotent)). Dropped before
    /// that, it is published or not.
    ///
    /// # Errors
    /// See [`PublishError`], which tells "not published" from "unknown". A message that is larger than the server takes costs the
    /// connection, too.
    pub async fn publish(
        &self,
        channel: &str,
        publication: impl Into<Publication>,
    ) -> Result<Position, PublishError> {
        self.send(channel, publication).await?.await
    }

    /// Publishes a value as JSON and waits until it is in the channel's log.
    ///
    /// # Errors
    /// See [`Client::publish`] and [`Publication::json`].
    pub async fn publish_json(
        &self,
        channel: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Position, PublishError> {
        self.publish(channel, Publication::json(value)?).await
    }

    /// Hands a message to the connection, without waiting for the acknowledgement: that is in the [`Receipt`], which may be
    /// awaited later or dropped. It waits only while the connection is behind with what was handed to it before.
    ///
    /// Messages that one task sends one after the other are published in this order. One of them may be refused for good and the next
    /// taken all the same; without an idempotency key, or without reconnecting, also one that is refused for now.
    ///
    /// # Errors
    /// See [`PublishError`]; the message was not published.
    pub async fn send(
        &self,
        channel: &str,
        publication: impl Into<Publication>,
    ) -> Result<Receipt, PublishError> {
        let channel = ChannelName::parse(channel)?;
        let Publication {
            payload,
            key,
            conflate,
        } = publication.into();
        let (reply, answer) = oneshot::channel();
        let request = Request::Publish {
            channel,
            payload,
            key,
            conflate,
            reply,
        };
        match self.handle.requests.send(request).await {
            Ok(()) => Ok(Receipt { answer }),
            Err(_closed) => Err(PublishError::NotSent(self.closed().await)),
        }
    }

    /// A part of a channel's log, the oldest message first. At most `limit` messages, by default 100; [`History::more`] says whether
    /// to ask again: forwards with [`Range::After`] and [`History::position`], backwards with [`Range::Before`] and the position
    /// of the first message. With [`Range::Latest`] it is the newest message of each conflation key.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn history(
        &self,
        channel: &str,
        range: Range,
        limit: Option<u32>,
    ) -> Result<History, ReadError> {
        let channel = ChannelName::parse(channel)?;
        let request = |reply| Request::History {
            channel,
            range,
            limit,
            reply,
        };
        self.handle.ask(request, ReadError::Ended).await
    }

    /// Some of those who are in a channel, and how many there are: at most `limit`, by default 100, behind the
    /// [`Members::next`] of an earlier answer, or chosen by chance. A subscription is not needed.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn members(
        &self,
        channel: &str,
        which: Which,
        limit: Option<u32>,
    ) -> Result<Members, ReadError> {
        let channel = ChannelName::parse(channel)?;
        let request = |reply| Request::Members {
            channel,
            which,
            limit,
            reply,
        };
        self.handle.ask(request, ReadError::Ended).await
    }

    /// The time that a command takes to the server and back, waiting behind others included.
    ///
    /// # Errors
    /// See [`PingError`].
    pub async fn ping(&self) -> Result<Duration, PingError> {
        let start = Instant::now();
        self.handle
            .ask(|reply| Request::Ping { reply }, PingError::Ended)
            .await?;
        Ok(start.elapsed())
    }

    /// Closes the connection in good order and waits for its end: what was asked before is still said, and its answers are
    /// awaited for a moment. Calls that come later fail, streams end; what they have not been given by now is dropped if there is
    /// no room for it.
    pub async fn close(&self) -> End {
        self.handle.attention.close();
        self.closed().await
    }

    /// Waits for the end, whoever causes it. A connection that is lost and made again is none.
    pub async fn closed(&self) -> End {
        self.handle.wait_for_end().await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session())
            .field("user", &self.user())
            .field("state", &self.state())
            .finish()
    }
}

/// The acknowledgement of a message that was sent, when it comes. A future of where the message is in the log.
#[must_use = "without its receipt nobody knows whether a message was published"]
pub struct Receipt {
    answer: oneshot::Receiver<Result<Position, PublishError>>,
}

impl Future for Receipt {
    type Output = Result<Position, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        // The driver answers everything, unless its runtime drops it.
        Poll::Ready(answer.unwrap_or(Err(PublishError::Unanswered(End::RuntimeStopped))))
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

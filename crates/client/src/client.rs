//! What an application holds of a connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::History;
use switchboard_proto::position::{Position, Range};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::builder::Builder;
use crate::driver::{Attention, Request};
use crate::error::{ConnectError, End, HistoryError, PingError, PublishError, SubscribeError};
use crate::publication::Publication;
use crate::subscription::Subscription;

/// One connection to a server. Clones are handles of the same connection, cheap and usable from any task.
///
/// It lives until it is closed, by [`Client::close`], by the server or by the network, or until the last handle is gone: clones and
/// [`Subscription`]s. **It does not reconnect**; [`Client::closed`] says when and why a new one is needed.
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
    end: watch::Receiver<Option<End>>,
    session: String,
    user: String,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        attention: Arc<Attention>,
        end: watch::Receiver<Option<End>>,
        session: String,
        user: String,
    ) -> Handle {
        Handle {
            requests,
            attention,
            end,
            session,
            user,
        }
    }

    /// How the connection ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        let end = self.end.borrow().clone();
        let driver_is_gone = || self.end.has_changed().is_err();
        end.or_else(|| driver_is_gone().then_some(End::RuntimeStopped))
    }

    async fn wait_for_end(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::RuntimeStopped),
            Err(_driver_is_gone) => End::RuntimeStopped,
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

    /// The name of the session, for logs and for the server's API.
    pub fn session(&self) -> &str {
        &self.handle.session
    }

    /// Who the server holds this client for.
    pub fn user(&self) -> &str {
        &self.handle.user
    }

    /// Subscribes to what is published to a channel from now on. What was published before is in [`Client::history`].
    ///
    /// # Errors
    /// Among others `already_subscribed`: a client has one [`Subscription`] for each channel.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, SubscribeError> {
        let channel = ChannelName::parse(channel)?;
        let name = channel.clone();
        let joined = self
            .handle
            .ask(
                |reply| Request::Subscribe { channel, reply },
                SubscribeError::Ended,
            )
            .await?;
        Ok(Subscription::new(name, joined, self.handle.clone()))
    }

    /// Publishes a message and waits until it is in the channel's log.
    ///
    /// Dropped before that, it is published or not; with an idempotency key ([`Publication::key`]) it can be
    /// published again without doing so twice.
    ///
    /// # Errors
    /// See [`PublishError`], which tells "not published" from "unknown". A message that is larger than the server takes ends the
    /// connection with code 1009.
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
    /// Messages that one task sends one after the other reach the server in this order. One of them may be refused and the next
    /// taken all the same: whoever sends many at once and wants their order kept looks at each receipt.
    ///
    /// # Errors
    /// See [`PublishError`]; the message was not published.
    pub async fn send(
        &self,
        channel: &str,
        publication: impl Into<Publication>,
    ) -> Result<Receipt, PublishError> {
        let channel = ChannelName::parse(channel)?;
        let Publication { payload, key } = publication.into();
        let (reply, answer) = oneshot::channel();
        let request = Request::Publish {
            channel,
            payload,
            key,
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
    /// See [`HistoryError`].
    pub async fn history(
        &self,
        channel: &str,
        range: Range,
        limit: Option<u32>,
    ) -> Result<History, HistoryError> {
        let channel = ChannelName::parse(channel)?;
        let request = |reply| Request::History {
            channel,
            range,
            limit,
            reply,
        };
        self.handle.ask(request, HistoryError::Ended).await
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

    /// Waits for the end of the connection, whoever causes it.
    pub async fn closed(&self) -> End {
        self.handle.wait_for_end().await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session())
            .field("user", &self.user())
            .field("ended", &self.handle.ended())
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

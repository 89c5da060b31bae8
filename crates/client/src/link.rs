//! A connection that has been welcomed, whatever it travels by.
//!
//! ```text
//!  driver ── commands ──► Link ─┬─ WebSocket ── one socket, both ways
//!         ◄── notices ──        └─ Http ─────── event streams or polls to read, requests to publish
//! ```

use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::time::Time;

use crate::error::{End, Farewell};
use crate::http::Http;
use crate::transport::Transport;
use crate::websocket::WebSocket;

/// See the module.
pub(crate) enum Link {
    // The larger by far, and the usual one.
    WebSocket(Box<WebSocket>),
    Http(Box<Http>),
}

impl Link {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Link::WebSocket(_) => Transport::WebSocket,
            Link::Http(http) => http.transport(),
        }
    }

    /// Takes what is to be said. `false`: it ends, and this is not said.
    pub(crate) fn command(&mut self, command: &Command) -> bool {
        match self {
            Link::WebSocket(link) => link.command(command),
            Link::Http(link) => link.command(command),
        }
    }

    /// Bytes that wait for the network.
    pub(crate) fn unsent_bytes(&mut self) -> usize {
        match self {
            Link::WebSocket(link) => link.unsent_bytes(),
            Link::Http(link) => link.unsent_bytes(),
        }
    }

    /// Waits until there is something to read, if that `is_read`, or room for what waits.
    pub(crate) async fn ready(&mut self, is_read: bool) {
        match self {
            Link::WebSocket(link) => link.ready(is_read).await,
            Link::Http(link) if is_read => link.ready().await,
            Link::Http(_) => std::future::pending().await,
        }
    }

    /// Reads what has come, some of it. Whether there was anything.
    pub(crate) fn read(&mut self) -> bool {
        match self {
            Link::WebSocket(link) => link.read(),
            Link::Http(link) => link.read(),
        }
    }

    /// The next thing that the server said, of what has been read.
    pub(crate) fn poll_notice(&mut self, now: Time) -> Option<Notice> {
        match self {
            Link::WebSocket(link) => link.poll_notice(now),
            Link::Http(link) => link.poll_notice(),
        }
    }

    /// Sends what waits, as far as the network takes it. `false`: it takes nothing any more.
    pub(crate) fn flush(&mut self) -> bool {
        match self {
            Link::WebSocket(link) => link.flush(),
            Link::Http(link) => {
                link.flush();
                true
            }
        }
    }

    /// From now on nothing is read.
    pub(crate) fn handle_paused(&mut self, now: Time) {
        match self {
            Link::WebSocket(link) => link.session.handle_paused(now),
            // Whoever reads for it waits, so the server notices.
            Link::Http(_) => {}
        }
    }

    /// It is read again.
    pub(crate) fn handle_resumed(&mut self, now: Time) {
        match self {
            Link::WebSocket(link) => link.session.handle_resumed(now),
            Link::Http(_) => {}
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Link::WebSocket(link) => Some(link.session.deadline()),
            // Each request has its own.
            Link::Http(_) => None,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        match self {
            Link::WebSocket(link) => link.session.handle_timeout(now),
            Link::Http(_) => {}
        }
    }

    /// The server said something that makes no sense.
    pub(crate) fn handle_nonsense(&mut self, why: &'static str) {
        match self {
            Link::WebSocket(link) => link.session.handle_nonsense(why),
            Link::Http(link) => link.end_with(End::Misbehaved(why.to_owned())),
        }
    }

    /// Nothing comes any more.
    pub(crate) fn handle_eof(&mut self) {
        match self {
            Link::WebSocket(link) => link.handle_eof(),
            Link::Http(link) => link.close(),
        }
    }

    /// Ends it in good order.
    pub(crate) fn close(&mut self, now: Time) {
        match self {
            Link::WebSocket(link) => link.session.close(now),
            Link::Http(link) => link.close(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Link::WebSocket(link) => link.session.end().is_some(),
            Link::Http(link) => link.end().is_some(),
        }
    }

    /// How it ended, if it has, after what the server had said.
    pub(crate) fn end(&self, farewell: &Farewell) -> Option<End> {
        match self {
            Link::WebSocket(link) => Some(End::of(link.session.end()?, farewell, link.lost)),
            Link::Http(link) => Some(match link.end()?.clone() {
                // A stream has no words for its end: they came before.
                End::Lost(_) if farewell.retry_after.is_some() => End::ClosedByServer {
                    code: None,
                    reason: String::new(),
                    error: farewell.error.clone().filter(|error| error.is_retryable()),
                    retry_after: farewell.retry_after,
                },
                end => end,
            }),
        }
    }

    /// It is of no use any more.
    pub(crate) async fn discard(&mut self) {
        match self {
            Link::WebSocket(link) => link.discard().await,
            Link::Http(link) => link.close(),
        }
    }

    /// Says what is still to be said, and waits for the server to end.
    pub(crate) async fn linger(self) {
        match self {
            Link::WebSocket(link) => drop(link.linger().await),
            Link::Http(_) => {}
        }
    }
}

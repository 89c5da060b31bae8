//! Where a client is between connecting and its end.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::End;
use crate::transport::Transport;

/// What a client is doing.
///
/// ```text
///   Client::connect ──► Open ── connection lost ──► Waiting ──► Connecting ──► Open
///                        │                           ▲  │           │ │
///                        │                           │  │           │ └── cannot be had now ──► Waiting
///                        └─ closed, or for good ─────┼──┴───────────┴── closed, or refused for good ──► Closed
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// There is a connection.
    Open,
    /// The connection was lost, and another one is tried at this moment.
    Waiting {
        /// Which attempt, from 1, since a connection lasted.
        attempt: u32,
        /// When.
        until: Instant,
        /// What happened, for a log.
        why: String,
    },
    /// Another connection is being opened.
    Connecting {
        /// Which attempt.
        attempt: u32,
    },
    /// It is over.
    Closed(End),
}

/// What the handles of a client know.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// Of the last connection.
    pub(crate) transport: Transport,
    pub(crate) session: Arc<str>,
    pub(crate) user: Arc<str>,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            state: State::Open,
            transport: Transport::WebSocket,
            session: "".into(),
            user: "".into(),
        }
    }
}

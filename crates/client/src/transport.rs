//! How bytes travel.

use std::fmt;

/// How a client reaches its server. What an application can do is the same, but for what stands here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// One connection for both directions.
    WebSocket,
    /// Server-Sent Events, for a network that lets no WebSocket through; publications are requests of their own, one after the other.
    /// There is no [`Client::history`](crate::Client::history), [`Client::members`](crate::Client::members) and
    /// [`Client::ping`](crate::Client::ping) (`unsupported`), and bytes travel as base64, whatever the
    /// [`Dialect`](crate::Dialect).
    EventStream,
    /// Requests that are held until there is something, for a network that lets nothing pass before an answer is whole. Otherwise as
    /// [`Transport::EventStream`].
    Poll,
}

impl Transport {
    /// All, the best first.
    pub const ALL: [Transport; 3] = [Transport::WebSocket, Transport::EventStream, Transport::Poll];

    /// The word for it: `websocket`, `sse` or `poll`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::EventStream => "sse",
            Transport::Poll => "poll",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

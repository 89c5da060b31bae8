//! From an address to a welcome.
//!
//! ```text
//!  url, token ─► websocket ── no ──► event stream ── no ──► polls ── no ──► the first error
//!                    └── welcome ────────┴───────────────────┴──► Opened
//! ```

use std::time::Duration;

use http::Uri;
use tokio::time::{Instant, timeout_at};

use crate::builder::Builder;
use crate::channels::Say;
use crate::driver::Clock;
use crate::error::{ConnectError, ConnectStep};
use crate::http as by_http;
use crate::link::Link;
use crate::transport::Transport;
use crate::websocket;

/// The id of `connect`.
pub(crate) const CONNECT_ID: u64 = 1;

/// A welcomed connection, and who we are on it.
pub(crate) struct Opened {
    pub(crate) link: Link,
    /// `None`: as before, or not said before a channel is read.
    pub(crate) identity: Option<Identity>,
    pub(crate) resume: Option<String>,
    /// The token that was shown.
    pub(crate) token: Option<String>,
}

/// Who the server holds us for.
pub(crate) struct Identity {
    pub(crate) session: String,
    pub(crate) user: String,
}

/// What is shown to a server.
#[derive(Clone, Default)]
pub(crate) struct Proof {
    pub(crate) token: Option<String>,
    /// Of the session that is to be continued.
    pub(crate) resume: Option<String>,
}

/// Opens a connection by `transport`, or by the first of `others` that works, each within the timeout; as the session that was given `resume`.
/// What is read by HTTP begins with the channels that are `wanted`.
pub(crate) async fn open(
    builder: &Builder,
    (transport, others): (Transport, &[Transport]),
    resume: Option<String>,
    wanted: &[Say],
    clock: Clock,
) -> Result<Opened, ConnectError> {
    let address = Address::parse(&builder.url)?;
    let deadline = Deadline::after(builder.connect_timeout);
    let token = deadline.within(ConnectStep::Token, builder.token.fetch()).await?;
    let proof = Proof { token, resume };
    let by = async |transport, deadline| match transport {
        Transport::WebSocket => websocket::open(builder, &address, proof.clone(), deadline, clock).await,
        Transport::EventStream | Transport::Poll => {
            by_http::open(builder, &address, transport, proof.clone(), wanted, deadline).await
        }
    };
    let error = match by(transport, deadline).await {
        Err(error) if error.is_of_the_transport() => error,
        opened => return opened,
    };
    for other in others {
        match by(*other, Deadline::after(builder.connect_timeout)).await {
            Err(error) if error.is_of_the_transport() => {}
            opened => return opened,
        }
    }
    // That of the best says most.
    Err(error)
}

/// The one deadline of all steps.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    after: Duration,
}

impl Deadline {
    pub(crate) fn after(after: Duration) -> Deadline {
        /// An `Instant` has an end, and nobody waits longer than this.
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        Deadline {
            at: Instant::now() + after.min(FAR),
            after,
        }
    }

    pub(crate) async fn within<T>(
        self,
        step: ConnectStep,
        future: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let after = self.after;
        timeout_at(self.at, future)
            .await
            .unwrap_or(Err(ConnectError::Timeout { step, after }))
    }
}

/// Where a server is.
#[derive(Debug)]
pub(crate) struct Address {
    uri: Uri,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    fn parse(url: &str) -> Result<Address, ConnectError> {
        let bad = |reason: &str| ConnectError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        match uri.scheme_str() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => return Err(ConnectError::TlsUnsupported),
            _ => return Err(bad("it has to begin with ws:// or http://")),
        }
        let host = uri.host().unwrap_or_default();
        let (host, port) = (bare(host).to_owned(), uri.port_u16().unwrap_or(80));
        Ok(Address { uri, host, port })
    }

    /// Where it speaks WebSocket: at the address itself, or beside its pages.
    pub(crate) fn websocket(&self) -> Uri {
        match self.uri.scheme_str() {
            Some("http") => self.with("ws", &self.beside("ws")),
            _ => self.uri.clone(),
        }
    }

    /// Where it speaks HTTP, `name` being `sse`, `poll` or `publish`, with a query.
    pub(crate) fn http(&self, name: &str) -> Uri {
        self.with("http", &self.beside(name))
    }

    /// A path where the one of this address has `ws`, or has nothing.
    fn beside(&self, name: &str) -> String {
        let path = self.uri.path().trim_end_matches('/');
        format!("{}/{name}", path.strip_suffix("/ws").unwrap_or(path))
    }

    fn with(&self, scheme: &str, path_and_query: &str) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.scheme = scheme.parse().ok();
        parts.path_and_query = path_and_query.parse().ok();
        // A path of an address, with a word of ours behind it, is one.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// A host as the system wants it: an IPv6 address stands in brackets, which are not part of it.
pub(crate) fn bare(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Text of a stranger, for a log or a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, expected: (&str, u16, &str)| {
            let address = Address::parse(url).unwrap();
            assert_eq!(
                (address.host.as_str(), address.port, address.uri.path()),
                expected,
                "{url}"
            );
        };
        check("ws://localhost:8000/ws", ("localhost", 8000, "/ws"));
        check("ws://example.com", ("example.com", 80, "/"));
        check("ws://[::1]:9/ws?x=1", ("::1", 9, "/ws"));
        let refused = |url: &str| Address::parse(url).unwrap_err().to_string();
        assert_eq!(
            refused("wss://example.com/ws"),
            "wss:// is not supported yet: this version connects without TLS, to ws:// addresses only"
        );
        for url in ["ftp://example.com", "/ws", "example.com:80"] {
            assert!(
                refused(url).ends_with("it has to begin with ws:// or http://"),
                "{url}"
            );
        }
        let beside = |url: &str| {
            let address = Address::parse(url).unwrap();
            (
                address.websocket().to_string(),
                address.http("sse?channel=a").to_string(),
            )
        };
        let both = |websocket: &str, http: &str| (websocket.to_owned(), http.to_owned());
        assert_eq!(
            beside("ws://example.com/chat/ws?x=1"),
            both(
                "ws://example.com/chat/ws?x=1",
                "http://example.com/chat/sse?channel=a"
            )
        );
        assert_eq!(
            beside("http://[::1]:9"),
            both("ws://[::1]:9/ws", "http://[::1]:9/sse?channel=a")
        );
        assert_eq!(
            beside("http://example.com/chat/"),
            both(
                "ws://example.com/chat/ws",
                "http://example.com/chat/sse?channel=a"
            )
        );
        assert!(refused("ws://").contains("is not the address of a server"));
    }

    #[test]
    fn a_strangers_text_is_harmless() {
        assert_eq!(harmless("\u{1b}[2Jno\r\nway\u{7}\n\n"), "[2Jno\nway");
    }
}

//! What can go wrong, per call, and how a connection ends. Whose fault it is shows in the variant, and
//! in `fault` where a program wants to ask.

use std::io;
use std::time::Duration;

use switchboard_proto::channel::BadChannelName;
use switchboard_proto::error_code::{ErrorCode, Fault as CatalogueFault};
use switchboard_proto::payload::BadPayload;
use switchboard_proto::session::client::End as SessionEnd;
use switchboard_proto::ws::handshake::{Failed, Unrequestable};

/// Who has to change something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// This program, its settings or its user.
    Application,
    /// The server or its operator.
    Server,
    /// The network between, or the machine at its other end.
    Network,
}

/// A "no" of the server, in the words of the protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// A word of the catalogue of errors, or one that a later version added to it.
    pub code: String,
    /// A sentence for a developer.
    pub message: String,
    /// When to try again; `None` where the server did not say.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// The word, where this version knows it.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL
            .iter()
            .find(|known| known.as_str() == self.code)
            .copied()
    }

    /// Whether the same command may succeed later without any change. An unknown word counts as no, unless the server
    /// said when.
    pub fn is_retryable(&self) -> bool {
        self.error_code()
            .map_or(self.retry_after.is_some(), ErrorCode::retryable)
    }

    /// Who has to change something. An unknown word counts as this program's: it is too old for it.
    pub fn fault(&self) -> Fault {
        match self.error_code().map(ErrorCode::fault) {
            Some(CatalogueFault::Us) => Fault::Server,
            Some(CatalogueFault::Network) => Fault::Network,
            Some(CatalogueFault::Peer | CatalogueFault::Application) | None => Fault::Application,
        }
    }

    /// A "no" that this crate gives itself, because the server's is certain.
    pub(crate) fn certain(code: ErrorCode) -> Refusal {
        Refusal {
            code: code.as_str().to_owned(),
            message: code.text().to_owned(),
            retry_after: None,
        }
    }
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum End {
    /// This program closed it: [`Client::close`](crate::Client::close), or its last handle is gone.
    #[error("closed by this program")]
    ClosedHere,
    /// The server closed it in good order.
    #[error("closed by the server{}", farewell(*.code, .reason, .error.as_ref()))]
    ClosedByServer {
        /// The close code; `None` where it gave none.
        code: Option<u16>,
        /// Its reason.
        reason: String,
        /// The error that it sent before, such as `lagged` or `unauthorized`.
        error: Option<Refusal>,
        /// When to come back; a different moment for every client.
        retry_after: Option<Duration>,
    },
    /// The connection broke off.
    #[error("the connection was lost: {0}")]
    Lost(io::ErrorKind),
    /// The server answered no ping.
    #[error("the connection was lost: no sign of life from the server")]
    Silent,
    /// The server broke the protocol, in this way.
    #[error("{0}")]
    Misbehaved(String),
    /// Connecting again was refused for good: who has to change something, and what was said.
    #[error("connecting again was refused: {1}")]
    Refused(Fault, String),
    /// The server ended this subscription alone, or did not take it again after a reconnect.
    #[error("the server ended the subscription: {0}")]
    Unsubscribed(Refusal),
    /// The runtime on which [`Client::connect`](crate::Client::connect) was called has shut down.
    #[error("the runtime of the connection has shut down")]
    RuntimeStopped,
}

impl End {
    /// The end of the protocol's machine, with what it does not know: what the server had said before, and what the socket
    /// said when it failed.
    pub(crate) fn of(end: &SessionEnd, farewell: &Farewell, lost: Option<io::ErrorKind>) -> End {
        match end {
            SessionEnd::Closed { code, reason } => End::ClosedByServer {
                code: *code,
                reason: reason.clone(),
                error: farewell.error.clone(),
                retry_after: farewell.retry_after,
            },
            SessionEnd::Gone => End::Lost(lost.unwrap_or(io::ErrorKind::UnexpectedEof)),
            SessionEnd::Silent => End::Silent,
            SessionEnd::Misbehaved(_) | SessionEnd::NotAnEvent(_) | SessionEnd::Nonsense(_) => {
                End::Misbehaved(end.to_string())
            }
        }
    }

    /// Who has to change something, if anyone has.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            End::ClosedHere => None,
            End::ClosedByServer {
                error: Some(error), ..
            } => Some(error.fault()),
            // RFC 6455 section 7.4.1: 1002, 1003, 1007 to 1010 say that the client did something wrong, as 4000 to 4999 do
            // in the protocol of Switchboard; 1000, 1001 and 1012 that nobody did.
            End::ClosedByServer { code, .. } => match code {
                None | Some(1000 | 1001 | 1012) => None,
                Some(1002 | 1003 | 1007..=1010 | 4000..=4999) => Some(Fault::Application),
                Some(_) => Some(Fault::Server),
            },
            End::Lost(_) | End::Silent => Some(Fault::Network),
            End::Misbehaved(_) => Some(Fault::Server),
            End::Refused(fault, _) => Some(*fault),
            End::Unsubscribed(refusal) => Some(refusal.fault()),
            End::RuntimeStopped => Some(Fault::Application),
        }
    }

    /// Whether another connection may be of use.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            End::Lost(_) | End::Silent => true,
            End::ClosedByServer {
                error: Some(error), ..
            } => error.is_retryable(),
            // What is wrong with this program is wrong the next time, too. A message that was too large is not sent again.
            End::ClosedByServer { code, .. } => !matches!(code, Some(1002 | 1003 | 1007 | 1010 | 4401)),
            End::ClosedHere
            | End::Misbehaved(_)
            | End::Refused(..)
            | End::Unsubscribed(_)
            | End::RuntimeStopped => false,
        }
    }

    /// Whether the server does not take the token.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, End::ClosedByServer { code: Some(4401), .. })
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            End::ClosedByServer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a server said before it closed.
#[derive(Default)]
pub(crate) struct Farewell {
    pub(crate) error: Option<Refusal>,
    pub(crate) retry_after: Option<Duration>,
}

fn farewell(code: Option<u16>, reason: &str, error: Option<&Refusal>) -> String {
    let code = code.map(|code| format!(" with code {code}")).unwrap_or_default();
    match (error, reason) {
        (Some(error), _) => format!("{code}: {}", error.message),
        (None, "") => code,
        (None, reason) => format!("{code}: {reason}"),
    }
}

/// How far connecting got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectStep {
    /// Getting the token.
    Token,
    /// Finding the address and opening the TCP connection.
    Reach,
    /// The opening handshake of WebSocket.
    Handshake,
    /// The first sign that the server is there: `welcome`, over HTTP an answer.
    Welcome,
}

impl ConnectStep {
    fn missing(self) -> &'static str {
        match self {
            ConnectStep::Token => "no token",
            ConnectStep::Reach => "no connection",
            ConnectStep::Handshake => "no answer to the WebSocket handshake",
            ConnectStep::Welcome => "no welcome",
        }
    }
}

/// Why [`Client::connect`](crate::Client::connect) gave no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Application: the text is no address.
    #[error("{url:?} is not the address of a server: {reason}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Application: `wss://`, which comes with a later version.
    #[error("wss:// is not supported yet: this version connects without TLS, to ws:// addresses only")]
    TlsUnsupported,
    /// Application: an option that cannot be put into a request.
    #[error("the handshake cannot be requested: {0}")]
    Request(#[from] Unrequestable),
    /// Application: the header cannot be sent.
    #[error("{0:?} is not a header that can be sent")]
    Header(String),
    /// Application: its function gave no token, for now.
    #[error("no token: {0}")]
    NoToken(String),
    /// Network: the name was not found, or nobody listens there.
    #[error("cannot reach {address}: {error}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// Network: the connection broke off.
    #[error("the connection was lost, with {} yet: {error}", .step.missing())]
    Lost {
        /// How far it got.
        step: ConnectStep,
        /// What the system said.
        error: io::Error,
    },
    /// Network or server: it took too long.
    #[error("{} within {} s", .step.missing(), .after.as_secs_f32())]
    Timeout {
        /// How far it got.
        step: ConnectStep,
        /// The time it had.
        after: Duration,
    },
    /// The server, or something before it, wants no WebSocket connection here. The `body` says more than the status.
    #[error("the server answered {}", refused_handshake(*.status, .body))]
    Refused {
        /// The HTTP status, such as 403, 404 or 503.
        status: u16,
        /// The beginning of the answer's text, without control characters; empty if it has none.
        body: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Server: its answer is not one of WebSocket.
    #[error("this is no WebSocket server: {0}")]
    NotWebSocket(Failed),
    /// Server: it speaks WebSocket, but not the protocol of Switchboard.
    #[error("this is no Switchboard server: it did not choose the subprotocol {0}")]
    NotSwitchboard(&'static str),
    /// The server did not welcome us, in the words of the protocol.
    #[error("not welcome: {0}")]
    Rejected(Refusal),
    /// The connection ended before the welcome.
    #[error(transparent)]
    Ended(End),
    /// The system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl ConnectError {
    /// Whether another attempt may succeed without any change here, not before [`ConnectError::retry_after`]: what a client that has lost
    /// its connection asks, one that is [persistent](crate::Builder::persistent), and a loop around
    /// [`connect`](crate::Builder::connect). Whatever stands before a server that is being replaced may answer anything, so most answers
    /// are transient, 404 too: but not that somebody may not enter.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use switchboard_client::{Client, ConnectError};
    /// # async fn start() -> Result<Client, ConnectError> {
    /// loop {
    ///     match Client::connect("ws://127.0.0.1:8000/ws").await {
    ///         Err(error) if error.is_transient() => {
    ///             eprintln!("{error}");
    ///             let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
    ///             tokio::time::sleep(wait).await;
    ///         }
    ///         connected => return connected,
    ///     }
    /// }
    /// # }
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            ConnectError::Refused { status, .. } => *status != 401,
            ConnectError::Rejected(refusal) => refusal.is_retryable(),
            ConnectError::Ended(end) => end.is_transient(),
            ConnectError::Url { .. }
            | ConnectError::TlsUnsupported
            | ConnectError::Request(_)
            | ConnectError::Header(_) => false,
            ConnectError::Unreachable { .. }
            | ConnectError::Lost { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::NotWebSocket(_)
            | ConnectError::NotSwitchboard(_)
            | ConnectError::NoToken(_)
            | ConnectError::Random(_) => true,
        }
    }

    /// Whether another transport may do better: nobody was reached who speaks for the server.
    pub(crate) fn is_of_the_transport(&self) -> bool {
        match self {
            ConnectError::Refused { status, .. } => *status != 401,
            ConnectError::Lost { .. } | ConnectError::NotWebSocket(_) | ConnectError::NotSwitchboard(_) => {
                true
            }
            ConnectError::Timeout { step, .. } => {
                matches!(step, ConnectStep::Handshake | ConnectStep::Welcome)
            }
            ConnectError::Ended(end) => matches!(end, End::Lost(_) | End::Silent | End::Misbehaved(_)),
            _ => false,
        }
    }

    /// Who has to change something. Whoever is to blame for a timeout cannot be known; it counts as the network.
    pub fn fault(&self) -> Fault {
        match self {
            ConnectError::Url { .. }
            | ConnectError::TlsUnsupported
            | ConnectError::Request(_)
            | ConnectError::NoToken(_)
            | ConnectError::Header(_) => Fault::Application,
            ConnectError::Unreachable { .. } | ConnectError::Lost { .. } | ConnectError::Timeout { .. } => {
                Fault::Network
            }
            // 408, 425 and 429 ask for patience: nothing is wrong with the request.
            ConnectError::Refused { status, .. } => match status {
                408 | 425 | 429 => Fault::Server,
                400..500 => Fault::Application,
                _ => Fault::Server,
            },
            ConnectError::NotWebSocket(_) | ConnectError::NotSwitchboard(_) | ConnectError::Random(_) => {
                Fault::Server
            }
            ConnectError::Rejected(refusal) => refusal.fault(),
            ConnectError::Ended(end) => end.fault().unwrap_or(Fault::Server),
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ConnectError::Refused { retry_after, .. } => *retry_after,
            ConnectError::Rejected(refusal) => refusal.retry_after,
            ConnectError::Ended(end) => end.retry_after(),
            _ => None,
        }
    }
}

fn refused_handshake(status: u16, body: &str) -> String {
    let status = http::StatusCode::from_u16(status).map_or(status.to_string(), |status| status.to_string());
    match body.lines().next() {
        // A page of markup is not for reading.
        Some(line) if !line.starts_with('<') => format!("{status}: {line}"),
        _ => status,
    }
}

/// Why [`Client::subscribe`](crate::Client::subscribe) gave no subscription.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SubscribeError {
    /// Application: this is no name of a channel. Nothing was sent.
    #[error(transparent)]
    BadChannel(#[from] BadChannelName),
    /// The server refused, or would.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection ended before the answer.
    #[error(transparent)]
    Ended(End),
}

/// Why [`Client::history`](crate::Client::history) or [`Client::members`](crate::Client::members) gave nothing.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Application: this is no name of a channel. Nothing was sent.
    #[error(transparent)]
    BadChannel(#[from] BadChannelName),
    /// The server refused.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection ended before the answer.
    #[error(transparent)]
    Ended(End),
}

/// Why a ping has no time.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum PingError {
    /// The server refused: too many commands.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection ended before the answer.
    #[error(transparent)]
    Ended(End),
}

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Application: this is no name of a channel. Not published.
    #[error(transparent)]
    BadChannel(#[from] BadChannelName),
    /// Application: this payload cannot be carried. Not published.
    #[error(transparent)]
    BadPayload(#[from] BadPayload),
    /// Application: the value could not be written as JSON. Not published.
    #[error("cannot be written as JSON: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// The server refused for good; or for now what has no idempotency key, or a client that does not reconnect. Not published, except
    /// where the code is `unavailable`: then it is unknown.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection ended before the message was handed to it. Not published.
    #[error("not sent: {0}")]
    NotSent(End),
    /// The connection ended before the acknowledgement. **Whether it was published is unknown.** To publish it again without
    /// doing so twice it needs an idempotency key ([`Publication::key`](crate::Publication::key)).
    #[error("sent, but not acknowledged: {0}")]
    Unanswered(End),
}

impl PublishError {
    /// Who has to change something; `None` where this program closed the connection itself.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            PublishError::BadChannel(_) | PublishError::BadPayload(_) | PublishError::Unwritable(_) => {
                Some(Fault::Application)
            }
            PublishError::Refused(refusal) => Some(refusal.fault()),
            PublishError::NotSent(end) | PublishError::Unanswered(end) => end.fault(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str, error: Option<Refusal>) -> End {
        End::ClosedByServer {
            code: Some(code),
            reason: reason.to_owned(),
            error,
            retry_after: None,
        }
    }

    #[test]
    fn an_end_says_why() {
        let lagged = Refusal::certain(ErrorCode::Lagged);
        for (end, expected) in [
            (
                closed(1001, "stopping", None),
                "closed by the server with code 1001: stopping",
            ),
            (closed(1000, "", None), "closed by the server with code 1000"),
            (
                closed(4008, "lagged", Some(lagged)),
                "closed by the server with code 4008: The client read too slowly and its channel asks for disconnection then.",
            ),
            (
                End::Lost(io::ErrorKind::ConnectionReset),
                "the connection was lost: connection reset",
            ),
        ] {
            assert_eq!(end.to_string(), expected);
        }
    }

    #[test]
    fn who_is_at_fault() {
        assert_eq!(closed(1001, "stopping", None).fault(), None);
        assert_eq!(closed(1009, "", None).fault(), Some(Fault::Application));
        assert_eq!(closed(1011, "", None).fault(), Some(Fault::Server));
        let error = Some(Refusal::certain(ErrorCode::Lagged));
        assert_eq!(closed(4008, "lagged", error).fault(), Some(Fault::Network));
        let refused = |status| ConnectError::Refused {
            status,
            body: String::new(),
            retry_after: None,
        };
        assert_eq!(refused(403).fault(), Fault::Application);
        assert_eq!(refused(429).fault(), Fault::Server);
        assert_eq!(refused(503).fault(), Fault::Server);
    }

    #[test]
    fn a_word_of_a_later_version_is_no_error_by_itself() {
        let mut refusal = Refusal {
            code: "full_moon".to_owned(),
            message: "Not tonight.".to_owned(),
            retry_after: None,
        };
        assert_eq!((refusal.error_code(), refusal.is_retryable()), (None, false));
        refusal.retry_after = Some(Duration::from_secs(1));
        assert!(refusal.is_retryable());
        assert_eq!(refusal.to_string(), "Not tonight. (full_moon)");
    }

    #[test]
    fn a_refused_handshake_is_told_in_a_line() {
        let refused = |status, body: &str| {
            let body = body.to_owned();
            let retry_after = None;
            ConnectError::Refused {
                status,
                body,
                retry_after,
            }
            .to_string()
        };
        assert_eq!(
            refused(404, "Nothing is here.\nReally."),
            "the server answered 404 Not Found: Nothing is here."
        );
        assert_eq!(refused(502, "<html>…"), "the server answered 502 Bad Gateway");
        assert_eq!(refused(799, ""), "the server answered 799 <unknown status code>");
    }
}

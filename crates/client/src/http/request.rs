//! One request and its answer.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use switchboard_proto::dialect::Inbound;
use switchboard_proto::dialect::notice::{self, Notice};
use tokio::time::timeout;
use tower_service::Service;

use crate::error::{ConnectError, ConnectStep, End, Refusal};
use crate::open::{bare, harmless};
use crate::surroundings::{Duplex, Surroundings};

/// Most of an answer that says why not, in bytes.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// What an answer may have beside one event, in bytes. The server answers a poll with what an outbox holds (`limits.outbox_bytes_max`, by
/// default 256 KiB), or with one event that is larger.
const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Makes requests, over connections that it keeps.
#[derive(Clone)]
pub(super) struct Requests {
    client: Client<Reaching, Full<Bytes>>,
    headers: HeaderMap,
    /// For how long an answer, or a part of it, may be awaited.
    pub(super) patience: Duration,
    /// Most that an event may have.
    pub(super) event_bytes_max: usize,
}

/// Why there is no answer of use.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The server, or a box before it, said no.
    Refused {
        status: u16,
        /// In the words of the protocol: the server's.
        refusal: Option<Refusal>,
        text: String,
        retry_after: Option<Duration>,
    },
    Lost(io::ErrorKind),
    Silent(Duration),
    Misbehaved(String),
}

impl Requests {
    pub(super) fn new(
        surroundings: Arc<dyn Surroundings>,
        headers: HeaderMap,
        patience: Duration,
        event_bytes_max: usize,
    ) -> Requests {
        Requests {
            client: Client::builder(TokioExecutor::new()).build(Reaching { surroundings }),
            headers,
            patience,
            event_bytes_max,
        }
    }

    pub(super) async fn get(&self, uri: Uri, patience: Duration) -> Result<Incoming, Failure> {
        self.send(Method::GET, uri, Bytes::new(), patience).await
    }

    pub(super) async fn post(&self, uri: Uri, body: Bytes) -> Result<Incoming, Failure> {
        self.send(Method::POST, uri, body, self.patience).await
    }

    async fn send(
        &self,
        method: Method,
        uri: Uri,
        body: Bytes,
        patience: Duration,
    ) -> Result<Incoming, Failure> {
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        let response = within(patience, self.client.request(request)).await?;
        if response.status() == StatusCode::OK {
            return Ok(response.into_body());
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
        let body = timeout(self.patience, body).await;
        let text = match body {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            _ => String::new(),
        };
        let refusal = match notice::decode(Inbound::Text(&text)) {
            Ok(Notice::Error {
                code,
                message,
                retry_after,
                ..
            }) => Some(Refusal {
                code,
                message,
                retry_after,
            }),
            _ => None,
        };
        let retry_after = refusal.as_ref().and_then(|refusal| refusal.retry_after);
        Failure::Refused {
            status,
            refusal,
            text: harmless(&text),
            retry_after: retry_after.or(after.map(Duration::from_secs)),
        }
    }

    /// The whole of an answer. A large one over a slow network takes its time, as long as it goes on coming.
    pub(super) async fn whole(&self, body: Incoming) -> Result<Bytes, Failure> {
        let bytes_max = self.event_bytes_max.saturating_add(OUTBOX_BYTES_MAX);
        let mut body = Limited::new(body, bytes_max);
        let mut whole = Vec::new();
        loop {
            match timeout(self.patience, body.frame()).await {
                Ok(Some(Ok(frame))) => whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Ok(None) => return Ok(whole.into()),
                Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                    let why = format!("an answer of more than {bytes_max} bytes");
                    return Err(Failure::Misbehaved(why));
                }
                Ok(Some(Err(error))) => return Err(Failure::Lost(kind(&*error))),
                Err(_elapsed) => return Err(Failure::Silent(self.patience)),
            }
        }
    }
}

/// Opens connections.
#[derive(Clone)]
struct Reaching {
    surroundings: Arc<dyn Surroundings>,
}

/// One that is open.
struct Reached(TokioIo<Box<dyn Duplex>>);

impl Service<Uri> for Reaching {
    type Response = Reached;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Reached>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = bare(uri.host().unwrap_or_default());
        let connecting = self.surroundings.connect(host, uri.port_u16().unwrap_or(80));
        Box::pin(async move { Ok(Reached(TokioIo::new(connecting.await?))) })
    }
}

impl Connection for Reached {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Reached {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Reached {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What does not come in time fails.
pub(super) async fn within<T, E: Error + 'static>(
    patience: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(patience, future).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Lost(kind(&error))),
        Err(_elapsed) => Err(Failure::Silent(patience)),
    }
}

/// What the system said, where it was the system.
fn kind(error: &(dyn Error + 'static)) -> io::ErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind();
        }
        cause = error.source();
    }
    io::ErrorKind::UnexpectedEof
}

impl Failure {
    /// As a server says it of an address that it does not take.
    pub(super) fn too_long() -> Failure {
        Failure::Refused {
            status: 414,
            refusal: None,
            text: String::new(),
            retry_after: None,
        }
    }

    /// What is wrong is in what was asked for, in the server's words: nobody gets it by asking again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            // Where a head is too long, the server has no words.
            Failure::Refused {
                status: 414 | 431, ..
            } => true,
            Failure::Refused { status, refusal, .. } => {
                (400..500).contains(status) && !matches!(status, 401 | 403 | 408 | 429) && refusal.is_some()
            }
            _ => false,
        }
    }

    /// The server asks for patience in its own words: when to ask again, if it says so.
    pub(super) fn too_early(&self) -> Option<Option<Duration>> {
        match self {
            Failure::Refused {
                status: 429,
                refusal: Some(_),
                retry_after,
                ..
            } => Some(*retry_after),
            _ => None,
        }
    }

    /// The end of a connection that was open.
    pub(super) fn end(self) -> End {
        match self {
            Failure::Refused {
                status,
                refusal,
                retry_after,
                text,
            } => End::ClosedByServer {
                code: (status == 401).then_some(4401),
                reason: words(status, &text),
                error: refusal.filter(|refusal| status == 401 || refusal.is_retryable()),
                retry_after,
            },
            Failure::Lost(kind) => End::Lost(kind),
            Failure::Silent(_) => End::Silent,
            Failure::Misbehaved(why) => End::Misbehaved(why),
        }
    }

    /// Why there is no connection.
    pub(super) fn connect_error(self) -> ConnectError {
        let step = ConnectStep::Welcome;
        match self {
            Failure::Refused {
                status,
                refusal: Some(refusal),
                ..
            } if status != 403 => ConnectError::Rejected(refusal),
            // Boxes say 403, too.
            Failure::Refused {
                status,
                refusal,
                text,
                retry_after,
            } => ConnectError::Refused {
                status,
                body: refusal.map_or(text, |refusal| harmless(&refusal.message)),
                retry_after,
            },
            Failure::Lost(kind) => ConnectError::Lost {
                step,
                error: kind.into(),
            },
            Failure::Silent(after) => ConnectError::Timeout { step, after },
            Failure::Misbehaved(why) => ConnectError::Ended(End::Misbehaved(why)),
        }
    }
}

fn words(status: u16, text: &str) -> String {
    match text.lines().next() {
        Some(line) if !line.starts_with(['<', '{']) => format!("HTTP {status}: {line}"),
        _ => format!("HTTP {status}"),
    }
}

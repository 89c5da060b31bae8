//! From an address to a welcome.
//!
//! ```text
//!  url ─► TCP ─► handshake (GET, 101) ─► connect, welcome ─► Link
//! ```

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Uri};
use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::session::client::Session;
use switchboard_proto::ws::MaskKeys;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::{
    ClientHandshake, ClientOptions, Connected, Failed, HeadLimits, HeadReader,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::builder::Builder;
use crate::driver::{Clock, Link};
use crate::error::{ConnectError, ConnectStep, End, Farewell, Refusal};
use crate::input::Input;

/// Most of the text that is kept of a refusal, in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024;
/// Time for the text of a refusal, once its head is there.
const BODY_WAIT: Duration = Duration::from_secs(1);
/// The id of `connect`.
pub(crate) const CONNECT_ID: u64 = 1;

/// A welcomed connection, and who we are on it.
pub(crate) struct Opened {
    pub(crate) link: Link,
    pub(crate) session: String,
    pub(crate) user: String,
    pub(crate) resume: Option<String>,
}

/// Opens a connection, within its timeout; with `resume` as the session that was given that.
pub(crate) async fn open(
    builder: &Builder,
    resume: Option<String>,
    clock: Clock,
) -> Result<Opened, ConnectError> {
    let random = Random::draw()?;
    let address = Address::parse(&builder.url)?;
    let handshake = ClientHandshake::new(handshake_options(builder, address.uri.clone())?, random.nonce)?;
    let after = builder.connect_timeout;
    let deadline = Deadline::after(after);

    let stream = deadline.within(ConnectStep::Reach, reach(&address)).await?;
    let step = shake_hands(stream, handshake, deadline);
    let (stream, connected, read) = deadline.within(ConnectStep::Handshake, step).await?;
    if connected.subprotocol.is_none() {
        return Err(ConnectError::NotSwitchboard(builder.dialect.subprotocol()));
    }
    let session = Session::new(
        clock.now(),
        builder.dialect.id(),
        connected.compression,
        MaskKeys::from_seed(random.masks),
        random.jitter,
        builder.settings.clone(),
    );
    let link = Link {
        stream,
        input: Input::new(&read),
        session,
    };
    let step = be_welcomed(link, builder.token.clone(), resume, clock);
    deadline.within(ConnectStep::Welcome, step).await
}

/// Everything random that a connection needs.
struct Random {
    nonce: [u8; 16],
    masks: [u8; 32],
    jitter: u8,
}

impl Random {
    fn draw() -> Result<Random, ConnectError> {
        let mut random = Random {
            nonce: [0; 16],
            masks: [0; 32],
            jitter: 0,
        };
        getrandom::fill(&mut random.nonce).map_err(ConnectError::Random)?;
        getrandom::fill(&mut random.masks).map_err(ConnectError::Random)?;
        getrandom::fill(std::slice::from_mut(&mut random.jitter)).map_err(ConnectError::Random)?;
        Ok(random)
    }
}

/// For a wait that nobody foresees. Where the system gives none, it is the longest.
pub(crate) fn random_u32() -> u32 {
    let mut random = [0xff; 4];
    let _drawn = getrandom::fill(&mut random);
    u32::from_be_bytes(random)
}

/// The one deadline of all steps.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    fn after(after: Duration) -> Deadline {
        /// An `Instant` has an end, and nobody waits longer than this.
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        Deadline {
            at: Instant::now() + after.min(FAR),
            after,
        }
    }

    async fn within<T>(
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
struct Address {
    uri: Uri,
    host: String,
    port: u16,
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
            Some("ws") => {}
            Some("wss") => return Err(ConnectError::TlsUnsupported),
            _ => return Err(bad("it has to begin with ws://")),
        }
        let host = uri.host().unwrap_or_default();
        // An IPv6 address stands in brackets, which are not part of it.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let (host, port) = (host.to_owned(), uri.port_u16().unwrap_or(80));
        Ok(Address { uri, host, port })
    }
}

fn handshake_options(builder: &Builder, uri: Uri) -> Result<ClientOptions, ConnectError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &builder.headers {
        let bad = || ConnectError::Header(name.clone());
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.append(parsed, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(ClientOptions {
        headers,
        subprotocols: vec![builder.dialect.subprotocol().to_owned()],
        compression: builder.compression.then(DeflatePolicy::default),
        ..ClientOptions::new(uri)
    })
}

async fn reach(address: &Address) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(|error| ConnectError::Unreachable {
            address: format!("{}:{}", address.host, address.port),
            error,
        })?;
    // Commands are small and wanted at once; what comes together is written together.
    let _unsupported = stream.set_nodelay(true);
    Ok(stream)
}

/// Returns what was agreed, and the bytes behind the answer.
async fn shake_hands(
    mut stream: TcpStream,
    mut handshake: ClientHandshake,
    deadline: Deadline,
) -> Result<(TcpStream, Connected, Vec<u8>), ConnectError> {
    let step = ConnectStep::Handshake;
    let lost = |error| ConnectError::Lost { step, error };
    let mut request = Vec::new();
    handshake.encode(&mut request);
    stream.write_all(&request).await.map_err(lost)?;
    // Bounded by the limits of the head.
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await.map_err(lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match handshake.read(&read) {
            Ok(None) => {}
            Ok(Some((connected, length))) => return Ok((stream, connected, read.split_off(length))),
            Err(Failed::Status {
                status,
                retry_after_s,
            }) => {
                let until = deadline.at.min(Instant::now() + BODY_WAIT);
                let body = timeout_at(until, read_body(&mut stream, &mut read)).await;
                return Err(ConnectError::Refused {
                    status: status.as_u16(),
                    body: body.ok().flatten().unwrap_or_default(),
                    retry_after: retry_after_s.map(Duration::from_secs),
                });
            }
            Err(failed) => return Err(ConnectError::NotWebSocket(failed)),
        }
    }
}

/// The beginning of the text behind the head that `read` begins with; `None` where it has none that can be shown.
async fn read_body(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    let mut head_bytes = 0;
    let headers = loop {
        let mut reader = HeadReader::new(HeadLimits::default());
        let (head, length) = reader.response(&read[head_bytes..]).ok()??;
        head_bytes += length;
        if !head.status().is_informational() || head.status() == StatusCode::SWITCHING_PROTOCOLS {
            break head.into_parts().0.headers;
        }
    };
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(BODY_BYTES_MAX);
    let wanted = head_bytes + length.min(BODY_BYTES_MAX);
    while read.len() < wanted && stream.read_buf(read).await.is_ok_and(|more| more > 0) {}
    let body = &read[head_bytes..wanted.min(read.len())];
    Some(harmless(&String::from_utf8_lossy(body)))
}

/// Text of a stranger, for a log or a terminal.
fn harmless(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    text.trim().to_owned()
}

async fn be_welcomed(
    mut link: Link,
    token: Option<String>,
    resume: Option<String>,
    clock: Clock,
) -> Result<Opened, ConnectError> {
    let step = ConnectStep::Welcome;
    let lost = |error| ConnectError::Lost { step, error };
    let connect = Command::Connect {
        id: Some(CONNECT_ID),
        token,
        resume,
    };
    // A new session is open.
    let _said = link.session.command(&connect);
    let (mut farewell, mut unwritten) = (Farewell::default(), None);
    loop {
        let now = clock.now();
        let session = &mut link.session;
        match link.input.take(|bytes| session.poll_notice(now, bytes)) {
            Some(Notice::Welcome {
                session,
                user,
                resume,
                ..
            }) => {
                return Ok(Opened {
                    link,
                    session,
                    user,
                    resume,
                });
            }
            Some(Notice::Error {
                code,
                message,
                retry_after,
                ..
            }) => {
                let refusal = Refusal {
                    code,
                    message,
                    retry_after,
                };
                return Err(ConnectError::Rejected(refusal));
            }
            Some(Notice::Goodbye { retry_after, .. }) => farewell.retry_after = Some(retry_after),
            Some(_) => {}
            None => {
                if let Err(error) = link.stream.write_all(link.session.output()).await {
                    // Why may stand in what the server had sent before.
                    unwritten.get_or_insert(error);
                }
                link.session.output().clear();
                if let Some(end) = link.session.end() {
                    return Err(ConnectError::Ended(End::of(end, &farewell, None)));
                }
                let read = link.stream.read(link.input.room()).await;
                match (read, unwritten.take()) {
                    (Ok(0), None) => return Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
                    (Ok(0) | Err(_), Some(error)) | (Err(error), None) => return Err(lost(error)),
                    (Ok(length), error) => {
                        unwritten = error;
                        link.input.handle_filled(length);
                    }
                }
            }
        }
    }
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
        for url in ["http://example.com", "/ws", "example.com:80"] {
            assert!(refused(url).ends_with("it has to begin with ws://"), "{url}");
        }
        assert!(refused("ws://").contains("is not the address of a server"));
    }

    #[test]
    fn a_strangers_text_is_harmless() {
        assert_eq!(harmless("\u{1b}[2Jno\r\nway\u{7}\n\n"), "[2Jno\nway");
    }
}

//! A connection by WebSocket.
//!
//! ```text
//!  TCP ─► handshake (GET, 101) ─► connect, welcome ─► WebSocket
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, Uri};
use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::session::client::Session;
use switchboard_proto::time::Time;
use switchboard_proto::ws::MaskKeys;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::{
    ClientHandshake, ClientOptions, Connected, Failed, HeadLimits, HeadReader,
};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::builder::Builder;
use crate::driver::Clock;
use crate::error::{ConnectError, ConnectStep, End, Farewell, Refusal};
use crate::input::Input;
use crate::link::Link;
use crate::open::{Address, CONNECT_ID, Deadline, Identity, Opened, Proof, harmless};
use crate::surroundings::{Duplex, Surroundings};

/// Most of the text that is kept of a refusal, in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024;
/// Time for the text of a refusal, once its head is there.
const BODY_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct WebSocket {
    stream: Box<dyn Duplex>,
    input: Input,
    /// Nothing more comes, and the session does not know it.
    has_ended: bool,
    /// Nothing more can be written.
    is_shut: bool,
    pub(crate) session: Session,
    /// What the socket said when it failed.
    pub(crate) lost: Option<io::ErrorKind>,
}

/// Opens one, and shows who this is.
pub(crate) async fn open(
    builder: &Builder,
    address: &Address,
    proof: Proof,
    deadline: Deadline,
    clock: Clock,
) -> Result<Opened, ConnectError> {
    let random = Random::draw(&*builder.surroundings)?;
    let handshake = ClientHandshake::new(handshake_options(builder, address.websocket())?, random.nonce)?;

    let stream = deadline
        .within(ConnectStep::Reach, reach(&*builder.surroundings, address))
        .await?;
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
    let link = WebSocket {
        stream,
        input: Input::new(&read),
        has_ended: false,
        is_shut: false,
        session,
        lost: None,
    };
    let step = be_welcomed(link, proof, clock);
    deadline.within(ConnectStep::Welcome, step).await
}

impl WebSocket {
    pub(crate) fn command(&mut self, command: &Command) -> bool {
        self.session.command(command).is_ok()
    }

    pub(crate) fn unsent_bytes(&mut self) -> usize {
        self.session.output().len()
    }

    pub(crate) async fn ready(&mut self, is_read: bool) {
        std::future::poll_fn(|cx| {
            let writes = !self.session.output().is_empty();
            let wrote = writes && self.poll_write(cx).is_ready();
            let read = is_read && self.poll_read(cx).is_ready();
            match wrote || read {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Until something has been read, or nothing more comes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() || self.has_ended {
            return Poll::Ready(());
        }
        let mut room = ReadBuf::new(self.input.room());
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
        let length = room.filled().len();
        self.input.handle_filled(length);
        self.has_ended = read.is_err() || length == 0;
        if let Err(error) = read {
            self.lost.get_or_insert(error.kind());
        }
        Poll::Ready(())
    }

    /// Until some of what waits has been written, or nothing can be any more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_shut {
            return Poll::Ready(());
        }
        let output = self.session.output();
        match ready!(Pin::new(&mut self.stream).poll_write(cx, output)) {
            Ok(written) => drop(output.drain(..written)),
            Err(error) => {
                self.lost.get_or_insert(error.kind());
                self.is_shut = true;
            }
        }
        Poll::Ready(())
    }

    pub(crate) fn read(&mut self) -> bool {
        if at_once(|cx| self.poll_read(cx)).is_pending() {
            return false;
        }
        if self.has_ended {
            self.session.handle_eof();
        }
        !self.input.is_empty()
    }

    pub(crate) fn poll_notice(&mut self, now: Time) -> Option<Notice> {
        if self.input.is_empty() {
            return None;
        }
        let session = &mut self.session;
        self.input.take(|bytes| session.poll_notice(now, bytes))
    }

    pub(crate) fn flush(&mut self) -> bool {
        while !self.session.output().is_empty() && !self.is_shut {
            if at_once(|cx| self.poll_write(cx)).is_pending() {
                break;
            }
        }
        !self.is_shut
    }

    pub(crate) fn handle_eof(&mut self) {
        self.session.handle_eof();
        self.session.output().clear();
    }

    pub(crate) async fn discard(&mut self) {
        self.session.output().clear();
        // For a plain socket this is one system call and ready at once.
        let _gone = self.stream.shutdown().await;
    }

    /// RFC 6455 section 7.1.1: the client waits for the server to close TCP first, for what is still under way would turn
    /// an early close into a reset.
    pub(crate) async fn linger(mut self) -> io::Result<()> {
        self.stream.write_all(self.session.output()).await?;
        self.stream.shutdown().await?;
        while self.stream.read(self.input.room()).await? > 0 {}
        Ok(())
    }
}

/// Whether it can be done now. Who is told that it cannot asks again before it waits.
fn at_once(attempt: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Poll<()> {
    // Not counted as work of the task: a count that is used up would look like a socket that has nothing.
    let attempt = tokio::task::unconstrained(std::future::poll_fn(attempt));
    std::pin::pin!(attempt).poll(&mut Context::from_waker(Waker::noop()))
}

/// Everything random that a connection needs.
struct Random {
    nonce: [u8; 16],
    masks: [u8; 32],
    jitter: u8,
}

impl Random {
    fn draw(surroundings: &dyn Surroundings) -> Result<Random, ConnectError> {
        let mut random = Random {
            nonce: [0; 16],
            masks: [0; 32],
            jitter: 0,
        };
        let jitter = std::slice::from_mut(&mut random.jitter);
        for bytes in [&mut random.nonce[..], &mut random.masks, jitter] {
            surroundings.random(bytes).map_err(ConnectError::Random)?;
        }
        Ok(random)
    }
}

fn handshake_options(builder: &Builder, uri: Uri) -> Result<ClientOptions, ConnectError> {
    Ok(ClientOptions {
        headers: builder.headers()?,
        subprotocols: vec![builder.dialect.subprotocol().to_owned()],
        compression: builder.compression.then(DeflatePolicy::default),
        ..ClientOptions::new(uri)
    })
}

async fn reach(surroundings: &dyn Surroundings, address: &Address) -> Result<Box<dyn Duplex>, ConnectError> {
    let connected = surroundings.connect(&address.host, address.port).await;
    connected.map_err(|error| ConnectError::Unreachable {
        address: format!("{}:{}", address.host, address.port),
        error,
    })
}

/// Returns what was agreed, and the bytes behind the answer.
async fn shake_hands(
    mut stream: Box<dyn Duplex>,
    mut handshake: ClientHandshake,
    deadline: Deadline,
) -> Result<(Box<dyn Duplex>, Connected, Vec<u8>), ConnectError> {
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
async fn read_body(stream: &mut dyn Duplex, read: &mut Vec<u8>) -> Option<String> {
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

async fn be_welcomed(mut link: WebSocket, proof: Proof, clock: Clock) -> Result<Opened, ConnectError> {
    let step = ConnectStep::Welcome;
    let lost = |error| ConnectError::Lost { step, error };
    let connect = Command::Connect {
        id: Some(CONNECT_ID),
        token: proof.token.clone(),
        resume: proof.resume,
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
                    link: Link::WebSocket(Box::new(link)),
                    identity: Some(Identity { session, user }),
                    resume,
                    token: proof.token,
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

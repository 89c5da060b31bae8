//! A connection by WebSocket.
//!
//! ```text
//!  TCP ─► handshake (GET, 101) ─► connect, welcome ─► WebSocket
//! ```

use std::io;
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
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::builder::Builder;
use crate::driver::Clock;
use crate::error::{ConnectError, ConnectStep, End, Farewell, Refusal};
use crate::input::Input;
use crate::link::Link;
use crate::open::{Address, CONNECT_ID, Deadline, Identity, Opened, Proof, harmless};

/// Most of the text that is kept of a refusal, in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024;
/// Time for the text of a refusal, once its head is there.
const BODY_WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct WebSocket {
    stream: TcpStream,
    input: Input,
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
    let random = Random::draw()?;
    let handshake = ClientHandshake::new(handshake_options(builder, address.websocket())?, random.nonce)?;

    let stream = deadline.within(ConnectStep::Reach, reach(address)).await?;
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
        let writes = !self.session.output().is_empty();
        // Errors of readiness show when the socket is used.
        tokio::select! {
            _ = self.stream.readable(), if is_read => {}
            _ = self.stream.writable(), if writes => {}
            else => std::future::pending().await,
        }
    }

    pub(crate) fn read(&mut self) -> bool {
        match self.stream.try_read(self.input.room()) {
            Ok(0) => self.session.handle_eof(),
            Ok(length) => {
                self.input.handle_filled(length);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.lost.get_or_insert(error.kind());
                self.session.handle_eof();
            }
        }
        false
    }

    pub(crate) fn poll_notice(&mut self, now: Time) -> Option<Notice> {
        if self.input.is_empty() {
            return None;
        }
        let session = &mut self.session;
        self.input.take(|bytes| session.poll_notice(now, bytes))
    }

    pub(crate) fn flush(&mut self) -> bool {
        while !self.session.output().is_empty() {
            match self.stream.try_write(self.session.output()) {
                Ok(written) => drop(self.session.output().drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.lost.get_or_insert(error.kind());
                    return false;
                }
            }
        }
        true
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

fn handshake_options(builder: &Builder, uri: Uri) -> Result<ClientOptions, ConnectError> {
    Ok(ClientOptions {
        headers: builder.headers()?,
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

//! The public listener: HTTP/1.1 by hyper, until a connection becomes a WebSocket and its bare socket goes to the shard.
//!
//! ```text
//!  accept ─► first read ─── a whole handshake ──► [`site`]: 101 ─► socket and what was read behind the head ─► [`Shard::open`]
//!                │ anything else                                     ▲
//!                └────────► hyper http1 ─► [`site`] answers ─────────┤ 101
//!                               ▲               └─► next request ────┘
//! ```
//!
//! Nearly every connection here begins with a handshake that arrives whole. For that one case hyper is not asked: it would cost
//! half as much again as the system calls. Whatever is not exactly this case, hyper reads from its first byte on.

mod assets;
pub mod internal;
pub mod site;
mod stall;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_KEY;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use switchboard_proto::session::server::Session;
use switchboard_proto::ws::handshake::{HeadLimits, HeadReader, encode_response};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use self::site::{Site, Upgrade};
use self::stall::Stalling;
use crate::clock::Clock;
use crate::shard::Shard;

/// How the listener treats its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request head.
    pub head_bytes_max: usize,
    /// Most headers.
    pub headers_max: usize,
    /// Time for a whole head.
    pub head_deadline: Duration,
    /// Time for which a peer may take nothing of an answer.
    pub write_stall: Duration,
    /// Time to read what a peer had still sent after the last answer.
    pub linger: Duration,
    /// Connections of the process.
    pub connections_max: usize,
}

/// A place among the connections of the process. Lives as long as its connection.
pub struct Slot {
    open: Arc<AtomicUsize>,
}

impl Slot {
    /// A place among at most `max`.
    pub fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Slot> {
        let slot = Slot { open: open.clone() };
        (open.fetch_add(1, Ordering::Relaxed) < max).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections for one shard, for ever.
pub async fn accept(
    listener: TcpListener,
    shard: Rc<Shard>,
    site: Rc<Site>,
    limits: Limits,
    clock: Clock,
    open: Arc<AtomicUsize>,
) {
    /// Accepting fails when the process is out of files; closing connections need a moment.
    const PAUSE: Duration = Duration::from_millis(50);
    let stats = shard.stats();
    let mut pace = Pace::after(Duration::ZERO);
    loop {
        pace.wait(&clock).await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(slot) = Slot::take(&open, limits.connections_max) else {
            stats.connections_refused.add(1);
            tokio::task::spawn_local(refuse(stream));
            continue;
        };
        stats.connections_accepted.add(1);
        tracing::trace!(%peer, "accepted");
        // Answers and deliveries are small and wanted at once.
        let _unsupported = stream.set_nodelay(true);
        tokio::task::spawn_local(serve(
            stream,
            shard.clone(),
            site.clone(),
            limits.clone(),
            clock,
            slot,
        ));
    }
}

/// How many connections are accepted before those that are there get their turn. When all clients of a restarted server come
/// back at once, they wait in the kernel, where they are in nobody's way (docs/decisions/0007-paced-accepting.md).
struct Pace {
    accepted: u128,
    most: u128,
}

impl Pace {
    /// However short the turns of the others are.
    const FEWEST: u128 = 4;
    /// One for so much of the time that the last turn of the others took: at an estimated 50 µs for each, a quarter of the shard's time
    /// where it is busy with something else.
    const ONE_IN: Duration = Duration::from_micros(200);

    /// Before a connection is accepted.
    async fn wait(&mut self, clock: &Clock) {
        if self.accepted >= self.most {
            let begun = clock.now();
            tokio::task::yield_now().await;
            let took = clock.now().since(begun);
            *self = Pace::after(took);
        }
        self.accepted += 1;
    }

    /// The others had so much time.
    fn after(took: Duration) -> Pace {
        Pace {
            accepted: 0,
            most: (took.as_nanos() / Pace::ONE_IN.as_nanos()).max(Pace::FEWEST),
        }
    }
}

/// The process has as many connections as it may have.
async fn refuse(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    /// Short: these connections are beyond what the process may have.
    const LINGER: Duration = Duration::from_millis(500);
    let _slow_peers_go_without = tokio::time::timeout(LINGER, async {
        stream.readable().await?;
        stream.writable().await?;
        let _written = stream.try_write(ANSWER)?;
        drain(&mut stream).await
    })
    .await;
}

/// Says that nothing more comes, and reads what the peer had still sent until it has seen that: closing with something
/// unread is a reset, which destroys the answer on its way (RFC 9112 section 9.6).
async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// What the first read of a connection has brought.
enum First {
    /// A handshake that is accepted, the head of its answer, and what came behind it.
    Handshake(Upgrade, Vec<u8>, Vec<u8>),
    /// Anything else.
    Other(Vec<u8>),
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn serve(
    mut stream: TcpStream,
    shard: Rc<Shard>,
    site: Rc<Site>,
    limits: Limits,
    clock: Clock,
    slot: Slot,
) {
    let begun = clock.now();
    let first = tokio::time::timeout(
        limits.head_deadline,
        read_first(&mut stream, &shard, &site, &limits),
    )
    .await;
    match first {
        Ok(Ok(First::Handshake(upgrade, head, read))) => {
            let written = tokio::time::timeout(limits.write_stall, stream.write_all(&head)).await;
            if matches!(written, Ok(Ok(()))) {
                open(stream, &shard, upgrade, &read, clock, slot);
            }
        }
        Ok(Ok(First::Other(read))) => {
            let left = limits.head_deadline.saturating_sub(clock.now().since(begun));
            // Boxed, so that the many that need it not are small.
            Box::pin(serve_http(stream, (read, left), shard, site, limits, clock, slot)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_elapsed) => {
            refuse_slow_head(&stream);
            let _some_never_leave = tokio::time::timeout(limits.linger, drain(&mut stream)).await;
        }
    }
}

/// Reads once, and answers a handshake that is whole.
async fn read_first(
    stream: &mut TcpStream,
    shard: &Shard,
    site: &Site,
    limits: &Limits,
) -> io::Result<First> {
    std::future::poll_fn(|cx| {
        shard.with_read_buffer(|buffer| {
            // No more than hyper would take at once.
            let most = buffer.len().min(limits.head_bytes_max);
            let mut filled = ReadBuf::new(&mut buffer[..most]);
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut filled))?;
            Poll::Ready(Ok(first(filled.filled(), site, limits)))
        })
    })
    .await
}

fn first(read: &[u8], site: &Site, limits: &Limits) -> First {
    let head_limits = HeadLimits {
        bytes_max: limits.head_bytes_max,
        headers_max: limits.headers_max,
    };
    if let Ok(Some((request, length))) = HeadReader::new(head_limits).request(read)
        && request.headers().contains_key(SEC_WEBSOCKET_KEY)
        && let (response, Some(upgrade)) = site.answer(&request)
    {
        let mut head = Vec::with_capacity(256);
        // The answer to an upgrade has no body.
        encode_response(&response.map(|_| ""), &mut head);
        return First::Handshake(upgrade, head, read[length..].to_vec());
    }
    First::Other(read.to_vec())
}

/// Hands a socket whose handshake is answered to the shard.
fn open(stream: TcpStream, shard: &Rc<Shard>, upgrade: Upgrade, read: &[u8], clock: Clock, slot: Slot) {
    let Upgrade { mode, compression } = upgrade;
    let settings = shard.settings();
    let (identity, jitter) = shard.anonymous();
    tracing::debug!(session = %identity.session, ?mode, "session opened");
    let session = Session::new(clock.now(), mode, identity, compression, jitter, &settings);
    shard.open(stream, read, session, slot);
}

/// RFC 9110 section 15.5.9. One attempt: whoever does not read it is closed all the same.
fn refuse_slow_head(stream: &TcpStream) {
    let _unread =
        stream.try_write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// Serves requests of a connection until it ends or becomes a WebSocket. Of the first head some bytes are `read`, and the
/// others have the time that is `left`.
async fn serve_http(
    stream: TcpStream,
    (read, left): (Vec<u8>, Duration),
    shard: Rc<Shard>,
    site: Rc<Site>,
    limits: Limits,
    clock: Clock,
    slot: Slot,
) {
    let upgrade: Rc<Cell<Option<Upgrade>>> = Rc::default();
    let answered = Rc::new(Cell::new(false));
    let service = {
        let (upgrade, answered) = (upgrade.clone(), answered.clone());
        let stats = shard.stats();
        hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            answered.set(true);
            let (response, accepted) = site.answer(&request);
            if response.status().is_client_error() && request.headers().contains_key("sec-websocket-key") {
                stats.handshakes_refused.add(1);
            }
            upgrade.set(accepted);
            std::future::ready(Ok::<_, Infallible>(response))
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_deadline)
        .max_headers(limits.headers_max)
        .max_header_size(limits.head_bytes_max)
        // hyper panics below 8 KiB.
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .serve_connection(
            TokioIo::new(Stalling::new(stream, read, limits.write_stall)),
            service,
        );
    // hyper has one deadline for all heads, and begins to count the first one's only now.
    let mut first_head = std::pin::pin!(tokio::time::sleep(left));
    let served = std::future::poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        Poll::Pending if !answered.get() => first_head.as_mut().poll(cx).map(|()| Err(None)),
        served => served.map_err(Some),
    })
    .await;
    let parts = connection.into_parts();
    let stalling = parts.io.into_inner();
    let stalled = stalling.is_stalled();
    let mut stream = stalling.into_inner();
    match (served, upgrade.take()) {
        (Ok(()), Some(upgrade)) => return open(stream, &shard, upgrade, &parts.read_buf, clock, slot),
        (Err(None), _) => refuse_slow_head(&stream),
        (Err(Some(error)), _) if error.is_timeout() && !answered.get() => refuse_slow_head(&stream),
        (Err(Some(error)), _) => tracing::debug!(%error, "connection ended"),
        (Ok(()), None) => {}
    }
    if !stalled {
        let _some_never_leave = tokio::time::timeout(limits.linger, drain(&mut stream)).await;
    }
}

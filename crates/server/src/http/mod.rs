//! The public listener: HTTP/1.1 by hyper, until a connection becomes a WebSocket and its bare socket goes to the shard.
//!
//! ```text
//!  accept ─► first read ─── a whole handshake ──► [`site`]: 101 ─► socket and what was read behind the head ─► [`Shard::open`]
//!                │            or a GET of /sse ─► [`site`]: 200 ─► socket ────────────────────────────► [`Shard::open_stream`]
//!                │ anything else                                     ▲
//!                └────────► hyper http1 ─► [`site`], [`visit`] ──────┤ 101, or an event stream
//!                               ▲               └─► next request ────┘
//! ```
//!
//! Nearly every connection here begins with a handshake that arrives whole. For that one case hyper is not asked: it would cost
//! half as much again as the system calls. Whatever is not exactly this case, hyper reads from its first byte on.
//!
//! An event stream is the bare socket, too: its body ends where the connection does (RFC 9112 section 6.3), so nothing stands
//! around an event, and all subscribers get the same bytes.

mod ask;
mod assets;
mod cors;
pub mod internal;
pub mod reading;
pub mod site;
mod stall;
mod visit;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::header::{CONNECTION, CONTENT_TYPE, DATE, HeaderValue, SEC_WEBSOCKET_KEY};
use switchboard_proto::session::server::Session;
use switchboard_proto::ws::handshake::{HeadLimits, HeadReader, encode_response};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::cors::Cors;
use self::reading::Reading;
use self::site::{Answered, Site, Upgrade};
use crate::clock::Clock;
use crate::net::Stream;
use crate::shard::Shard;
use crate::shard::reader::Wishes;

/// How the listener treats its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request head.
    pub head_bytes_max: usize,
    /// Most headers.
    pub headers_max: usize,
    /// Time for a whole head.
    pub head_deadline: Duration,
    /// Largest body.
    pub body_bytes_max: usize,
    /// Time for a whole body.
    pub body_deadline: Duration,
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

/// What the connections of one listener share.
pub struct Door {
    /// Where they go.
    pub shard: Rc<Shard>,
    /// What is offered.
    pub site: Site,
    /// How peers are treated.
    pub limits: Limits,
    /// The process's clock.
    pub clock: Clock,
    /// Says that the server stops.
    pub stop: watch::Receiver<bool>,
    /// Connections that are neither sessions nor waited for.
    pub visits: Cell<usize>,
    /// Connections of the process.
    pub open: Arc<AtomicUsize>,
}

/// A connection that asks by HTTP.
struct InProgress<'a>(&'a Cell<usize>);

impl Door {
    /// A place for another connection, if there is one.
    pub fn slot(&self) -> Option<Slot> {
        Slot::take(&self.open, self.limits.connections_max)
    }

    /// Waits until the server stops.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // The sender lives as long as the server.
        let _stopped = stop.wait_for(|stopped| *stopped).await;
    }

    /// Waits, while the server stops, until everyone has gone: until `deadline` at most.
    pub async fn drained(&self, deadline: Duration) {
        /// How often it looks.
        const LOOK: Duration = Duration::from_millis(20);
        let deadline = self.clock.now() + deadline;
        while (!self.shard.is_stopped() || self.shard.links() > 0 || self.visits.get() > 0)
            && self.clock.now() < deadline
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn enter(&self) -> InProgress<'_> {
        self.visits.set(self.visits.get() + 1);
        InProgress(&self.visits)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Accepts connections for one shard, for ever.
pub async fn accept(listener: TcpListener, door: Rc<Door>) {
    /// Accepting fails when the process is out of files; closing connections need a moment.
    const PAUSE: Duration = Duration::from_millis(50);
    let stats = door.shard.stats();
    let mut pace = Pace::after(Duration::ZERO);
    loop {
        pace.wait(&door.clock).await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(slot) = door.slot() else {
            stats.connections_refused.add(1);
            tokio::task::spawn_local(refuse(Stream::Tcp(stream)));
            continue;
        };
        stats.connections_accepted.add(1);
        tracing::trace!(%peer, "accepted");
        // Answers and deliveries are small and wanted at once.
        let _unsupported = stream.set_nodelay(true);
        tokio::task::spawn_local(serve(Stream::Tcp(stream), door.clone(), slot));
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
async fn refuse(mut stream: Stream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    /// Short: these connections are beyond what the process may have.
    const LINGER: Duration = Duration::from_millis(500);
    let _slow_peers_go_without = tokio::time::timeout(LINGER, async {
        std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await?;
        let _written = stream.try_write(ANSWER)?;
        drain(&mut stream).await
    })
    .await;
}

/// Says that nothing more comes, and reads what the peer had still sent until it has seen that: closing with something
/// unread is a reset, which destroys the answer on its way (RFC 9112 section 9.6).
async fn drain(stream: &mut Stream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// What the first read of a connection has brought.
enum First {
    /// A handshake that is accepted, the head of its answer, and what came behind it.
    Handshake(Upgrade, Vec<u8>, Vec<u8>),
    /// A request for an event stream.
    EventStream(Reading, Cors),
    /// Anything else.
    Other(Vec<u8>),
}

/// Serves one connection until it ends or becomes a session.
pub async fn serve(mut stream: Stream, door: Rc<Door>, slot: Slot) {
    let limits = &door.limits;
    let begun = door.clock.now();
    let first = tokio::time::timeout(limits.head_deadline, read_first(&mut stream, &door)).await;
    match first {
        Ok(Ok(First::Handshake(upgrade, head, read))) => {
            let written = tokio::time::timeout(limits.write_stall, stream.write_all(&head)).await;
            if matches!(written, Ok(Ok(()))) {
                open(stream, &door, upgrade, &read, slot);
            }
        }
        Ok(Ok(First::EventStream(reading, cors))) => {
            Box::pin(open_stream(stream, &door, reading, &cors, slot)).await;
        }
        Ok(Ok(First::Other(read))) => {
            let left = limits.head_deadline.saturating_sub(door.clock.now().since(begun));
            // Boxed, so that the many that need it not are small.
            Box::pin(visit::serve(stream, (read, left), door.clone(), slot)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_elapsed) => {
            refuse_slow_head(&stream);
            let _some_never_leave = tokio::time::timeout(limits.linger, drain(&mut stream)).await;
        }
    }
}

/// Reads once, and answers what needs nothing more.
async fn read_first(stream: &mut Stream, door: &Door) -> io::Result<First> {
    std::future::poll_fn(|cx| {
        door.shard.with_read_buffer(|buffer| {
            // No more than hyper would take at once.
            let most = buffer.len().min(door.limits.head_bytes_max);
            let mut filled = ReadBuf::new(&mut buffer[..most]);
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut filled))?;
            Poll::Ready(Ok(first(filled.filled(), &door.site, &door.limits)))
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
        && (request.headers().contains_key(SEC_WEBSOCKET_KEY) || request.uri().path() == "/sse")
    {
        match site.answer(&request) {
            Answered::WebSocket(response, upgrade) => {
                let mut head = Vec::with_capacity(256);
                // The answer to an upgrade has no body.
                encode_response(&response.map(|_| ""), &mut head);
                return First::Handshake(upgrade, head, read[length..].to_vec());
            }
            Answered::EventStream(reading, cors) => return First::EventStream(reading, cors),
            Answered::Whole(_) | Answered::Poll(..) | Answered::Publish(_) => {}
        }
    }
    First::Other(read.to_vec())
}

/// Hands a socket whose handshake is answered to the shard.
fn open(stream: Stream, door: &Door, upgrade: Upgrade, read: &[u8], slot: Slot) {
    let Upgrade { mode, compression } = upgrade;
    let Door { shard, clock, .. } = door;
    let settings = shard.settings();
    let (identity, jitter, _is_new) = shard.identity(None);
    tracing::debug!(session = %identity.session, ?mode, "session opened");
    let session = Session::new(clock.now(), mode, identity, compression, jitter, &settings);
    shard.open(stream, read, session, slot);
}

/// Begins an event stream, and hands its socket to the shard. What the peer may have asked behind it is not answered.
async fn open_stream(mut stream: Stream, door: &Door, reading: Reading, cors: &Cors, slot: Slot) {
    let Door {
        shard, clock, limits, ..
    } = door;
    let settings = shard.settings();
    // It is never asked for an answer.
    stream.give_up_after(limits.write_stall);
    let (identity, jitter, _is_known) = shard.identity(reading.resume.as_deref());
    let head = stream_head(cors, clock.unix_ms(), shard.random());
    let written = tokio::time::timeout(limits.write_stall, stream.write_all(&head)).await;
    if !matches!(written, Ok(Ok(()))) {
        return;
    }
    tracing::debug!(session = %identity.session, "event stream begun");
    let Reading { places, wishes, .. } = reading;
    let session = Session::event_stream(clock.now(), identity, jitter, places.clone(), &settings);
    let wishes = Wishes {
        places,
        each: wishes,
        introduction: true,
        holds: true,
    };
    shard.open_stream(stream, session, wishes, slot);
}

/// What stands before the first event: the head of the response, and after how long to come back when the stream is cut off. That
/// is different for every peer, within 1 to 3 s.
fn stream_head(cors: &Cors, unix_ms: u64, random: u64) -> Vec<u8> {
    let retry_ms = 1_000 + random % 2_000;
    let mut response = hyper::Response::new(format!("retry: {retry_ms}\n\n"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // nginx would keep events until there are enough of them.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let now = std::time::UNIX_EPOCH + Duration::from_millis(unix_ms);
    if let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
        headers.insert(DATE, now);
    }
    cors.put(headers);
    let mut head = Vec::with_capacity(512);
    encode_response(&response, &mut head);
    head
}

/// RFC 9110 section 15.5.9. One attempt: whoever does not read it is closed all the same.
fn refuse_slow_head(stream: &Stream) {
    let _unread =
        stream.try_write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

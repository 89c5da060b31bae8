//! A network that does not exist: connections between hosts, with delays, split and held bytes, cuts and silence, all from one seed.
//!
//! ```text
//!  write ─► (pieces, each with its time of arrival) ─► arrived ─► read
//!             held, lost, or behind a reset
//! ```
//!
//! It behaves as TCP does towards a program: bytes come in order or the connection breaks; a peer that has vanished is silent until somebody
//! writes to a system that knows nothing of the connection. One task ([`Network::run`]) moves what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use switchboard_server::net::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::moving::{keep_moving, own};

/// Who is on the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Host {
    /// A server.
    Node(usize),
    /// A client's device.
    Device(usize),
}

/// How the network treats everyone.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The least time from one end to the other.
    pub latency: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
    /// Bytes that are under way or not read in one direction. Beyond: the writer waits.
    pub window: usize,
    /// In how many of 100 writes the bytes are split into pieces that arrive one after the other.
    pub splits: u32,
}

/// What is done to connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// Both ends are told at once.
    Reset,
    /// What is under way is lost; nobody is told, and nothing gets through any more.
    Vanish,
    /// Nothing gets from the client to the server until then.
    HoldUp(Instant),
    /// Nothing gets from the server to the client until then.
    HoldDown(Instant),
    /// Nothing gets through until then.
    Hold(Instant),
}

/// For so long a system says nothing of what is not acknowledged. (A real one: a quarter of an hour.)
const PATIENCE: Duration = Duration::from_secs(20);

/// The two directions of a connection.
const UP: usize = 0;
const DOWN: usize = 1;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

struct Inner {
    chance: Chance,
    weather: Weather,
    connections: BTreeMap<u64, Connection>,
    last: u64,
    /// Of each node that listens.
    listeners: BTreeMap<usize, mpsc::UnboundedSender<End>>,
    /// Pairs that cannot reach each other, until then.
    partitions: Vec<(Host, Host, Instant)>,
}

struct Connection {
    device: usize,
    node: usize,
    latency: Duration,
    /// What goes up, what goes down.
    ways: [Way; 2],
    /// Nothing gets through any more, and nobody knows.
    vanished: bool,
    /// A node holds it for ever, which is a bug.
    kept: bool,
}

/// One direction.
#[derive(Default)]
struct Way {
    under_way: VecDeque<(Instant, Piece)>,
    arrived: VecDeque<u8>,
    /// The last piece of all has arrived.
    is_over: bool,
    /// It has arrived that the peer knows nothing of this connection.
    is_reset: bool,
    /// The reader is gone: what arrives is answered with a reset.
    is_unread: bool,
    /// The writer will write no more.
    is_shut: bool,
    held_until: Option<Instant>,
    /// Its writer gives up when nothing of what it wrote is acknowledged for so long.
    patience: Option<Duration>,
    /// It will.
    gives_up: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Way {
    fn load(&self) -> usize {
        let under_way = self.under_way.iter().map(|(_, piece)| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::End | Piece::Reset => 0,
        });
        under_way.sum::<usize>() + self.arrived.len()
    }

    fn wake_all(&mut self) {
        for waker in [self.reader.take(), self.writer.take(), self.watcher.take()] {
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn push(&mut self, at: Instant, piece: Piece) {
        // In order.
        let at = self.under_way.back().map_or(at, |(last, _)| at.max(*last));
        self.under_way.push_back((at, piece));
    }

    fn due(&self) -> Option<Instant> {
        let (at, _) = self.under_way.front()?;
        Some(self.held_until.map_or(*at, |until| until.max(*at)))
    }

    fn reset(&mut self) {
        self.under_way.clear();
        self.is_reset = true;
        self.wake_all();
    }
}

/// One end of a connection. Dropped, it is closed.
pub struct End {
    network: Network,
    number: u64,
    /// The way that this end writes to.
    out: usize,
}

impl Network {
    /// Nobody is on it.
    pub fn new(chance: Chance, weather: Weather) -> Network {
        let inner = Inner {
            chance,
            weather,
            connections: BTreeMap::new(),
            last: 0,
            listeners: BTreeMap::new(),
            partitions: Vec::new(),
        };
        Network {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        own(&self.inner)
    }

    /// Moves what has arrived, for ever.
    pub async fn run(self) {
        keep_moving(&self.changed, |now| self.inner().deliver(now)).await;
    }

    /// A node listens; who connects to it comes out here.
    pub fn listen(&self, node: usize) -> mpsc::UnboundedReceiver<End> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.inner().listeners.insert(node, sender);
        receiver
    }

    /// Nobody listens any more.
    pub fn close_listener(&self, node: usize) {
        self.inner().listeners.remove(&node);
    }

    /// A device connects to one of these nodes, and is told which.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(&self, device: usize, nodes: &[usize]) -> io::Result<(End, usize)> {
        let (node, latency, blocked) = {
            let mut inner = self.inner();
            // A load balancer knows who is there.
            let there: Vec<usize> = nodes
                .iter()
                .copied()
                .filter(|node| inner.listeners.contains_key(node))
                .collect();
            let nodes = if there.is_empty() { nodes } else { &there };
            let node = inner.chance.pick(nodes).copied().unwrap_or(0);
            let latency = inner.latency();
            (
                node,
                latency,
                inner.partition(Host::Device(device), Host::Node(node)),
            )
        };
        if let Some(until) = blocked {
            tokio::time::sleep_until(until).await;
        }
        tokio::time::sleep(latency * 2).await;
        let mut inner = self.inner();
        let Some(listener) = inner.listeners.get(&node).cloned() else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        inner.last += 1;
        let number = inner.last;
        let connection = Connection {
            device,
            node,
            latency,
            ways: [Way::default(), Way::default()],
            vanished: false,
            kept: false,
        };
        inner.connections.insert(number, connection);
        drop(inner);
        let end = |out| End {
            network: self.clone(),
            number,
            out,
        };
        match listener.send(end(DOWN)) {
            Ok(()) => Ok((end(UP), node)),
            Err(_gone) => Err(ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Does something to all connections of a host.
    pub fn harm(&self, host: Host, harm: Harm) {
        let mut inner = self.inner();
        for connection in inner.connections.values_mut() {
            let is_of = match host {
                Host::Node(node) => connection.node == node,
                Host::Device(device) => connection.device == device,
            };
            if is_of {
                connection.harm(harm);
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Two hosts cannot reach each other until then: what is under way between them waits.
    pub fn part(&self, one: Host, other: Host, until: Instant) {
        let mut inner = self.inner();
        inner.partitions.push((one, other, until));
        for connection in inner.connections.values_mut() {
            let hosts = [Host::Device(connection.device), Host::Node(connection.node)];
            if hosts.contains(&one) && hosts.contains(&other) {
                connection.harm(Harm::Hold(until));
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Connections of which an end is open.
    pub fn connections(&self) -> usize {
        self.inner().connections.len()
    }
}

impl Inner {
    fn latency(&mut self) -> Duration {
        let Weather { latency, jitter, .. } = self.weather;
        latency + self.chance.up_to(jitter)
    }

    fn partition(&mut self, one: Host, other: Host) -> Option<Instant> {
        let now = Instant::now();
        self.partitions.retain(|(.., until)| *until > now);
        let parted = |(a, b, until): &(Host, Host, Instant)| {
            ((*a, *b) == (one, other) || (*b, *a) == (one, other)).then_some(*until)
        };
        self.partitions.iter().filter_map(parted).max()
    }

    /// What is due arrives. When the next one is.
    fn deliver(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut over = Vec::new();
        for (number, connection) in &mut self.connections {
            for way in [UP, DOWN] {
                connection.deliver(way, now);
                if let Some(due) = connection.ways[way].due() {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            if connection.is_forgotten() {
                over.push(*number);
            }
        }
        for number in over {
            self.connections.remove(&number);
        }
        next
    }
}

impl Connection {
    fn deliver(&mut self, way: usize, now: Instant) {
        let latency = self.latency;
        while self.ways[way].due().is_some_and(|due| due <= now) {
            let this = &mut self.ways[way];
            let Some((_, piece)) = this.under_way.pop_front() else {
                break;
            };
            match piece {
                Piece::Bytes(_) if this.is_unread => {
                    // Nobody is there who could read it, and the writer is told.
                    this.under_way.clear();
                    self.ways[1 - way].push(now + latency, Piece::Reset);
                }
                Piece::Bytes(bytes) => {
                    this.arrived.extend(bytes);
                    this.reader.take().into_iter().for_each(Waker::wake);
                }
                Piece::End => {
                    this.is_over = true;
                    for waker in [this.reader.take(), this.watcher.take()] {
                        waker.into_iter().for_each(Waker::wake);
                    }
                }
                Piece::Reset => {
                    // It ends both directions for the one that is told.
                    this.reset();
                    this.arrived.clear();
                    let back = &mut self.ways[1 - way];
                    match self.vanished {
                        true => {
                            back.is_shut = true;
                            back.writer.take().into_iter().for_each(Waker::wake);
                        }
                        false => back.reset(),
                    }
                }
            }
        }
    }

    fn harm(&mut self, harm: Harm) {
        let (ways, until): (&[usize], _) = match harm {
            Harm::Reset => {
                for way in &mut self.ways {
                    way.arrived.clear();
                    way.reset();
                }
                return;
            }
            Harm::Vanish => {
                // What its ends will be told is not lost once more.
                if std::mem::replace(&mut self.vanished, true) {
                    return;
                }
                for way in [UP, DOWN] {
                    if !std::mem::take(&mut self.ways[way].under_way).is_empty() {
                        self.give_up(way);
                    }
                }
                return;
            }
            Harm::HoldUp(until) => (&[UP], until),
            Harm::HoldDown(until) => (&[DOWN], until),
            Harm::Hold(until) => (&[UP, DOWN], until),
        };
        for way in ways {
            let held = &mut self.ways[*way].held_until;
            *held = Some(held.map_or(until, |known| known.max(until)));
        }
    }

    /// Nobody acknowledges what the writer of a way has written: its system tells it at last.
    fn give_up(&mut self, way: usize) {
        let writer = &mut self.ways[way];
        if !std::mem::replace(&mut writer.gives_up, true) {
            let patience = writer.patience.unwrap_or(PATIENCE);
            self.ways[1 - way].push(Instant::now() + patience, Piece::Reset);
        }
    }

    /// Both ends are dropped.
    fn is_forgotten(&self) -> bool {
        !self.kept && self.ways.iter().all(|way| way.is_unread)
    }
}

impl End {
    /// Keeps the connection when it is over. A bug.
    pub fn keep(&self) {
        let _over_already = self.with(|_, connection| connection.kept = true);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner, &mut Connection) -> T) -> Option<T> {
        let mut inner = self.network.inner();
        let mut connection = inner.connections.remove(&self.number)?;
        let done = act(&mut inner, &mut connection);
        inner.connections.insert(self.number, connection);
        Some(done)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.with(|_, connection| {
            let way = &mut connection.ways[1 - self.out];
            if !way.arrived.is_empty() || way.is_over || way.is_reset {
                return Poll::Ready(Ok(()));
            }
            way.reader = Some(cx.waker().clone());
            Poll::Pending
        });
        polled.unwrap_or(Poll::Ready(Ok(())))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.with(|inner, connection| {
            let way = &mut connection.ways[self.out];
            if way.load() < inner.weather.window || way.is_reset || way.is_shut {
                return Poll::Ready(Ok(()));
            }
            way.writer = Some(cx.waker().clone());
            Poll::Pending
        });
        polled.unwrap_or(Poll::Ready(Ok(())))
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.with(|inner, connection| {
            let way = &mut connection.ways[1 - self.out];
            if way.arrived.is_empty() {
                return match (way.is_reset, way.is_over) {
                    (true, _) => Err(ErrorKind::ConnectionReset.into()),
                    (false, true) => Ok(0),
                    (false, false) => Err(ErrorKind::WouldBlock.into()),
                };
            }
            let mut length = way.arrived.len().min(buffer.len());
            if length > 1 && inner.chance.percent(inner.weather.splits) {
                length = 1 + inner.chance.below(length);
            }
            for (to, from) in buffer.iter_mut().zip(way.arrived.drain(..length)) {
                *to = from;
            }
            way.writer.take().into_iter().for_each(Waker::wake);
            Ok(length)
        });
        read.unwrap_or_else(|| Err(ErrorKind::ConnectionReset.into()))
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.with(|inner, connection| {
            let vanished = connection.vanished;
            let latency = connection.latency;
            let way = &mut connection.ways[self.out];
            if way.is_reset || way.is_shut {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let room = inner.weather.window.saturating_sub(way.load());
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let bytes: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .take(room)
                .collect();
            let length = bytes.len();
            if vanished {
                connection.give_up(self.out);
            }
            let way = &mut connection.ways[self.out];
            // What nobody acknowledges fills the window.
            let far = vanished.then(|| Instant::now() + Duration::from_secs(86_400));
            let mut at =
                far.unwrap_or_else(|| Instant::now() + latency + inner.chance.up_to(inner.weather.jitter));
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let is_split = rest.len() > 1 && inner.chance.percent(inner.weather.splits);
                let piece = if is_split {
                    1 + inner.chance.below(rest.len() - 1)
                } else {
                    rest.len()
                };
                let (first, others) = rest.split_at(piece);
                way.push(at, Piece::Bytes(first.to_vec()));
                rest = others;
                at += inner.chance.up_to(inner.weather.jitter);
            }
            Ok(length)
        });
        self.network.changed.notify_one();
        written.unwrap_or_else(|| Err(ErrorKind::BrokenPipe.into()))
    }

    fn shut_down(&self) {
        let _closed = self.with(|_, connection| {
            let (vanished, latency) = (connection.vanished, connection.latency);
            let way = &mut connection.ways[self.out];
            if !std::mem::replace(&mut way.is_shut, true) && !vanished {
                way.push(Instant::now() + latency, Piece::End);
            }
        });
        self.network.changed.notify_one();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _closed = self.with(|_, connection| {
            let (vanished, latency) = (connection.vanished, connection.latency);
            let input = &mut connection.ways[1 - self.out];
            input.is_unread = true;
            // As a system does that throws away what was not read.
            let is_rude = !input.arrived.is_empty();
            input.arrived.clear();
            let way = &mut connection.ways[self.out];
            if vanished || way.is_reset {
                return;
            }
            let piece = if is_rude { Piece::Reset } else { Piece::End };
            if is_rude || !std::mem::replace(&mut way.is_shut, true) {
                way.push(Instant::now() + latency, piece);
            }
        });
        self.network.changed.notify_one();
    }
}

impl Socket for End {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_readable(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writable(cx)
    }

    fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.with(|_, connection| {
            let way = &mut connection.ways[1 - self.out];
            if way.is_over || way.is_reset {
                return Poll::Ready(());
            }
            way.watcher = Some(cx.waker().clone());
            Poll::Pending
        });
        polled.unwrap_or(Poll::Ready(()))
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(slices)
    }

    fn shut(&self) -> io::Result<()> {
        self.shut_down();
        Ok(())
    }

    fn give_up_after(&self, silence: Duration) {
        let _closed = self.with(|_, connection| connection.ways[self.out].patience = Some(silence));
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let free = buffer.initialize_unfilled();
        let read = switchboard_server::net::until_blocked(|| self.read(free), || self.poll_readable(cx));
        read.map_ok(|length| buffer.advance(length))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        switchboard_server::net::until_blocked(
            || self.write(&[IoSlice::new(bytes)]),
            || self.poll_writable(cx),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down();
        Poll::Ready(Ok(()))
    }
}

//! The process: listeners, shards on their threads, and how they start and stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use switchboard_hub::home::ShardId;
use switchboard_proto::session::resume::ResumeKey;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::broker::disk::DiskStore;
use crate::broker::disk::store::OpenError;
use crate::broker::{Factory, memory::Memory};
use crate::clock::Clock;
use crate::config::{Config, DataSettings, UNLIMITED};
use crate::http;
use crate::http::internal::{self, Internal};
use crate::node::{Materials, Node};
use crate::resume_key;
use crate::shard::mail::{Mail, Mailbox, Post};
use crate::stats::AllStats;

/// Connections that wait to be accepted, per shard.
const BACKLOG: i32 = 4_096;

/// With one shard 21 are open before the first connection; each other shard adds 5.
const OPEN_FILES_MIN: u64 = 64;

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    public: SocketAddr,
    internal: SocketAddr,
    post: Post,
    stats: AllStats,
    stopping: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    shards: Vec<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
    /// Closed last.
    disk: Option<DiskStore>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {error}; `switchboard doctor` says who holds an address that is in use"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory: {0}")]
    Data(#[from] OpenError),
    /// The key that sessions resume with can be neither read nor made.
    #[error("cannot use the key in the data directory: {0}")]
    ResumeKey(io::Error),
    /// The process may open too few files.
    #[error("the open-file limit (ulimit -n) is {0}, and a server needs at least {OPEN_FILES_MIN}")]
    OpenFiles(u64),
    /// The system did not give a shard what it needs.
    #[error("cannot start a shard: {0}")]
    Shard(io::Error),
    /// The system gave no thread, runtime or random number.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Starts with the embedded broker. `open_files` is the process's open-file limit.
    pub fn start(config: &Config, open_files: u64) -> Result<Server, StartError> {
        let Some(directory) = &config.data.dir else {
            let memory: Factory = Arc::new(|seat| Box::new(Memory::new(&seat)));
            return Server::start_with(config, open_files, memory);
        };
        let started = std::time::Instant::now();
        let DataSettings {
            fsync,
            fsync_interval,
            ..
        } = config.data;
        let (disk, report) =
            DiskStore::open(directory, fsync, fsync_interval, [random_u64()?, random_u64()?])?;
        tracing::info!(
            directory = %directory.display(),
            channels = report.logs,
            messages = report.entries,
            bytes = report.bytes,
            torn_bytes = report.torn_bytes,
            milliseconds = started.elapsed().as_millis() as u64,
            "logs are read",
        );
        if report.may_lack_its_end {
            tracing::warn!("the system ended before everything was synced: all channels are reset");
        }
        if report.damages > 0 {
            let broken = report.broken.len();
            tracing::error!(
                places = report.damages,
                channels = broken,
                "files in the data directory are damaged; these channels begin anew, the files are kept in `damaged`",
            );
        }
        for broken in &report.broken {
            let channel = broken
                .channel
                .as_ref()
                .map_or("(its name is lost)", |name| name.as_str());
            tracing::error!(channel, "this channel begins anew: a part of its log is damaged");
        }
        let key = resume_key::of(directory).map_err(StartError::ResumeKey)?;
        Server::start_on(config, open_files, disk.factory(), key, Some(disk))
    }

    /// Starts with another broker.
    pub fn start_with(config: &Config, open_files: u64, broker: Factory) -> Result<Server, StartError> {
        Server::start_on(config, open_files, broker, ResumeKey::new(random()?), None)
    }

    fn start_on(
        config: &Config,
        open_files: u64,
        broker: Factory,
        resume_key: ResumeKey,
        disk: Option<DiskStore>,
    ) -> Result<Server, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = config.shards(cores);
        let listeners = listen(config.listen.public, shards, config.limits.unsent_bytes_max)?;
        let public = listeners[0].local_addr()?;
        let inside = listen(config.listen.internal, 1, UNLIMITED)?.remove(0);
        let internal = inside.local_addr()?;

        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, _) = watch::channel(false);
        let materials = Materials {
            open_files,
            shards,
            clock: Clock::start(),
            resume_key,
            broker,
            seed: random_u64()?,
        };
        let (node, mailboxes) = Node::new(config, materials);
        let (post, stats) = (node.post(), node.stats());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let state = Internal {
            post: post.clone(),
            stats: stats.clone(),
            stopping: stopping.clone(),
            config: Arc::new(config.clone()),
            disk: disk.as_ref().map(DiskStore::shared),
        };
        let inside = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(inside)?
        };
        let mut server = Server {
            public,
            internal,
            post,
            stats,
            stopping,
            stop,
            shards: Vec::new(),
            runtime,
            disk,
        };
        if let Err(error) = server.start_shards(&node, listeners, mailboxes) {
            server.stop();
            return Err(StartError::Shard(error));
        }
        server.runtime.spawn(async move {
            if let Err(error) = axum::serve(inside, internal::router(state)).await {
                tracing::error!(%error, "the internal listener ended");
            }
        });
        Ok(server)
    }

    /// Returns when all of them accept connections, or one cannot.
    fn start_shards(
        &mut self,
        node: &Node,
        listeners: Vec<StdListener>,
        mailboxes: Vec<Mailbox>,
    ) -> io::Result<()> {
        let count = listeners.len();
        let (started, has_started) = mpsc::sync_channel(count);
        for (index, (listener, mailbox)) in listeners.into_iter().zip(mailboxes).enumerate() {
            let (node, stop, seed) = (node.clone(), self.stop.subscribe(), random()?);
            let started = started.clone();
            let run = move || {
                let shard = match Shard::build(listener) {
                    Ok(shard) => shard,
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(())).is_ok() {
                    drop(started);
                    shard.run(&node, ShardId(index as u16), mailbox, seed, stop);
                }
            };
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            self.shards.push(thread.spawn(run)?);
        }
        drop(started);
        for _ in 0..count {
            let is_started = has_started.recv();
            is_started.map_err(|_| io::Error::other("its thread ended in a panic"))??;
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where the application backend connects.
    pub fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// The counters of all shards.
    pub fn stats(&self) -> AllStats {
        self.stats.clone()
    }

    /// Stops in good order: no new connections, goodbye and Close 1001 to everyone, and the end when all have gone or the
    /// drain deadline is over.
    pub fn stop(self) {
        self.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        let _no_shard_left = self.stop.send(true);
        for shard in 0..self.post.shards() {
            self.runtime
                .block_on(self.post.send_waiting(ShardId(shard as u16), Mail::Stop));
        }
        for shard in self.shards {
            if shard.join().is_err() {
                tracing::error!("a shard ended in a panic");
            }
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        if let Some(disk) = self.disk {
            disk.close();
        }
    }
}

/// Starts a server, calls `listening` once it listens, and stops it in good order at SIGTERM or SIGINT. A SIGINT while it
/// stops (Ctrl-C, pressed again) ends the process at once.
pub fn run(config: &Config, open_files: u64, listening: impl FnOnce(&Server)) -> Result<(), StartError> {
    if open_files < OPEN_FILES_MIN {
        return Err(StartError::OpenFiles(open_files));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before anything listens: whoever sees the server and stops it must find it ready for that too.
    let (mut terminate, mut interrupt) = {
        let _in_runtime = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let server = Server::start(config, open_files)?;
    listening(&server);
    let signal = runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    });
    tracing::info!(signal, "stopping");
    std::thread::scope(|scope| {
        let stopped = Arc::new(tokio::sync::Notify::new());
        let stopping = scope.spawn({
            let stopped = stopped.clone();
            move || {
                server.stop();
                stopped.notify_one();
            }
        });
        runtime.block_on(async {
            tokio::select! {
                () = stopped.notified() => {}
                _ = interrupt.recv() => {
                    tracing::warn!("stopped by another SIGINT, without waiting");
                    std::process::exit(1);
                }
            }
        });
        if stopping.join().is_err() {
            tracing::error!("stopping ended in a panic");
        }
    });
    tracing::info!("stopped");
    Ok(())
}

/// What a shard needs of the system.
struct Shard {
    runtime: LocalRuntime,
    listener: tokio::net::TcpListener,
}

impl Shard {
    /// On the thread that it will run on.
    fn build(listener: StdListener) -> io::Result<Shard> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(LocalOptions::default())?;
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        Ok(Shard { runtime, listener })
    }

    fn run(self, node: &Node, id: ShardId, mailbox: Mailbox, seed: [u8; 32], stop: watch::Receiver<bool>) {
        self.runtime.block_on(async {
            let (door, mail) = node.open(id, mailbox, seed, stop);
            let mail = tokio::task::spawn_local(mail);
            tokio::select! {
                biased;
                () = door.stopped() => {}
                () = http::accept(self.listener, door.clone()) => {}
            }
            door.drained(node.drain_deadline()).await;
            mail.abort();
        });
    }
}

/// Listeners on one address, one per shard, between which the kernel spreads the connections. Of each of these it takes at most
/// `unsent_bytes_max` before their turn.
fn listen(
    address: SocketAddr,
    count: usize,
    unsent_bytes_max: usize,
) -> Result<Vec<StdListener>, StartError> {
    let failed = |error| StartError::Listen { address, error };
    // With SO_REUSEPORT a second server on the same port would start too and take half of the connections. This socket has
    // it not, so it finds the first one.
    let probe = socket(address, false, UNLIMITED).map_err(failed)?;
    let mut address = address;
    if address.port() == 0 {
        address.set_port(probe.local_addr().map_err(failed)?.port());
    }
    drop(probe);
    (0..count)
        .map(|_| socket(address, true, unsent_bytes_max).map_err(failed))
        .collect()
}

fn socket(address: SocketAddr, shared: bool, unsent_bytes_max: usize) -> io::Result<StdListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if let Ok(unsent_bytes_max) = u32::try_from(unsent_bytes_max) {
        // Accepted connections inherit it.
        socket.set_tcp_notsent_lowat(unsent_bytes_max)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn random_u64() -> io::Result<u64> {
    Ok(u64::from_ne_bytes(random()?))
}

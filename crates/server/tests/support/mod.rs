//! What the tests of the running server share: a server in this process, and clients for it.
//!
//! A scenario runs on a thread of its own beside the server's threads and talks to it through sockets only. [`run`] starts
//! the server, runs the scenario, waits until the server has forgotten everyone, and stops it; on the way it fails if a
//! shard panicked or an error was logged.
//!
//! [`peer`] writes bytes by hand and may say anything, [`client`] speaks the protocol as it should be spoken,
//! [`http`] is for everything that is no WebSocket, [`run`](mod@runs) judges what subscribers got.

#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used)] // a test ends where it fails

pub mod broker;
pub mod client;
pub mod door;
pub mod http;
pub mod order;
pub mod peer;
pub mod process;
pub mod runs;
pub mod served;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use switchboard_proto::limits::Rate;
use switchboard_server::broker::{Factory, memory::Memory};
use switchboard_server::config::{Auto, Config};
use switchboard_server::server::Server;
use switchboard_server::stats::{AllStats, Counter, ShardStats};

/// Shards of the servers on which most scenarios run.
pub const SHARDS: [usize; 3] = [1, 2, 4];
/// What the process may open, as the server is told.
const OPEN_FILES: u64 = 20_000;
/// Whatever is expected comes within this time, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(20);
/// A whole scenario.
const SCENARIO: Duration = Duration::from_secs(120);

/// Settings for a test: free ports, no rates, no pings while it lasts. What a test is about it sets itself.
pub fn config(shards: usize) -> Config {
    let mut config = Config::default();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    config.listen.public = anywhere;
    config.listen.internal = anywhere;
    config.server.shards = Auto::Fixed(shards);
    config.server.drain_deadline = Duration::from_secs(2);
    let session = &mut config.limits.session;
    session.ping_interval = Duration::from_secs(3_600);
    session.commands = Rate::UNLIMITED;
    session.inbound_bytes = Rate::UNLIMITED;
    session.subscribes = Rate::UNLIMITED;
    config
}

/// A server that runs.
#[derive(Clone)]
pub struct Live {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    pub stats: AllStats,
}

/// A line of /proc/net/tcp (proc(5)).
pub struct Socket {
    /// Bytes that the kernel has taken and the client has not acknowledged.
    pub unacknowledged: u64,
    /// The client has no room: from time to time it is asked whether it has.
    pub probes: bool,
}

impl Live {
    pub fn of(server: &Server) -> Live {
        Live {
            public: server.public(),
            internal: server.internal(),
            stats: server.stats(),
        }
    }

    /// One number, summed over the shards.
    pub fn count(&self, counter: impl Fn(&ShardStats) -> &Counter) -> u64 {
        self.stats.iter().map(|shard| counter(shard).value()).sum()
    }

    /// Sessions that the server holds now. Counted about every 500 ms.
    pub fn sessions(&self) -> u64 {
        self.count(|shard| &shard.sessions)
    }

    /// Waits until the kernel has given up on one of the connections whose clients do not read: it has filled the client's window,
    /// everything before that is acknowledged, and it only asks now and then whether there is room. What its send buffer takes
    /// from then on does not depend on when acknowledgements come.
    pub async fn somebody_does_not_read(&self) {
        eventually("the window of a client is full", async || {
            self.sockets().iter().any(|socket| socket.probes).then_some(())
        })
        .await;
    }

    /// The server's ends of its public connections, as the kernel sees them.
    pub fn sockets(&self) -> Vec<Socket> {
        let local = format!("0100007F:{:04X}", self.public.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let socket = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[1] == local).then(|| {
                let (unacknowledged, _) = fields[4].split_once(':').unwrap();
                Socket {
                    unacknowledged: u64::from_str_radix(unacknowledged, 16).unwrap(),
                    probes: fields[5].starts_with("04"),
                }
            })
        };
        table.lines().filter_map(socket).collect()
    }

    /// The shard that opens a session while `open` runs. Nobody else may open one meanwhile.
    pub async fn shard_of<T>(&self, open: impl Future<Output = T>) -> (usize, T) {
        let opened = || self.stats.iter().map(|shard| shard.sessions_opened.value());
        let before: Vec<u64> = opened().collect();
        let value = open.await;
        let shard = eventually("a shard opens the session", async || {
            opened().zip(&before).position(|(now, before)| now > *before)
        });
        (shard.await, value)
    }
}

/// Runs `scenario` against a server with the embedded broker.
pub fn run(config: &Config, scenario: impl AsyncFnOnce(&Live)) {
    run_with(config, Arc::new(|seat| Box::new(Memory::new(&seat))), scenario);
}

/// Runs `scenario` on servers with one, two and four shards.
pub fn run_on_shards(set: impl Fn(&mut Config), scenario: impl AsyncFn(&Live)) {
    for shards in SHARDS {
        let mut config = config(shards);
        set(&mut config);
        run(&config, &scenario);
    }
}

/// Runs `scenario` against a server with this broker.
pub fn run_with(config: &Config, broker: Factory, scenario: impl AsyncFnOnce(&Live)) {
    let server = start_with(config, broker);
    let live = Live::of(&server);
    block_on(async {
        scenario(&live).await;
        everyone_is_gone(&live).await;
    });
    server.stop();
    assert_faultless();
}

/// A server with the embedded broker, for tests that stop it themselves.
pub fn start(config: &Config) -> Server {
    start_with(config, Arc::new(|seat| Box::new(Memory::new(&seat))))
}

fn start_with(config: &Config, broker: Factory) -> Server {
    watch_for_faults();
    Server::start_with(config, OPEN_FILES, broker).unwrap()
}

/// Runs a scenario on a thread of its own.
pub fn block_on<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    // On the heap: without optimisation a scenario is larger than the stack of a test.
    let scenario = Box::pin(scenario);
    local.block_on(&runtime, async {
        match tokio::time::timeout(SCENARIO, scenario).await {
            Ok(value) => value,
            Err(_) => panic!("the scenario did not end"),
        }
    })
}

/// Rule 11 of the checker: sessions return to their baseline.
async fn everyone_is_gone(live: &Live) {
    eventually("the server has forgotten everyone", async || {
        (live.sessions() == 0).then_some(())
    })
    .await;
}

/// Waits for what must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Looks until there is something to see.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Panics of the server's threads and errors in its log are kept. They belong to one of the tests of this process.
fn watch_for_faults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default().to_owned();
            if name.starts_with("shard-") || name.starts_with("tokio-") {
                fault(&format!("panic in {name}: {panic}"));
            }
            print(panic);
        }));
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::ERROR)
            .with_ansi(false)
            .with_writer(|| FaultWriter)
            .finish();
        tracing::subscriber::set_global_default(log).unwrap();
    });
}

struct FaultWriter;

impl io::Write for FaultWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        fault(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(what: &str) {
    FAULTS.lock().unwrap().push(what.trim_end().to_owned());
}

/// Nothing went wrong inside the server.
pub fn assert_faultless() {
    let faults = FAULTS.lock().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

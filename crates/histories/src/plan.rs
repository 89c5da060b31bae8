//! What a history is to be: the settings of its server, its clients and what they do, its faults. All of it from a seed.
//!
//! The same seed gives the same plan. It does not give the same history: which bytes are under way when a fault comes is up to the machine.

use serde::{Deserialize, Serialize};

use crate::fault::{Act, Fault, Kind, When};
use crate::machine::Machine;
use crate::payloads;
use crate::random::Random;

/// A history to be run.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Plan {
    /// What it is made from.
    pub seed: u64,
    /// Its server.
    pub server: Server,
    /// Its clients.
    pub clients: Vec<Client>,
    /// Its faults, in the order in which they may begin.
    pub faults: Vec<Fault>,
    /// So long clients publish, at least; longer, if faults take longer.
    pub load_ms: u64,
}

/// The server of a history.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Server {
    /// Whether logs outlive the process.
    pub data: bool,
    /// Whether the data directory is a small file system of its own.
    pub small_disk: bool,
    /// Whether its wall clock can be told to jump.
    pub wall_clock: bool,
    /// Settings (`SECTION__KEY`, value).
    pub settings: Vec<(String, String)>,
    /// Gaps may stand for what the log still holds: `on_lag` is `drop` or `latest`.
    pub drops: bool,
    /// So many messages a log holds at most.
    pub log_messages_max: u64,
    /// Another bound of it, if it is not the default.
    pub log_bytes_max: Option<u64>,
    /// Channels have fewer members than are listed.
    pub lists: bool,
    /// Time for which a member who vanished still counts as present.
    pub grace_ms: u64,
    /// Time for which the server may not know that somebody has vanished.
    pub noticed_ms: u64,
}

/// A client library.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Sdk {
    /// `crates/client`.
    Rust,
    /// `sdk/js`, in Node.
    Js,
}

/// How bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// WebSocket.
    Websocket,
    /// Server-Sent Events.
    Sse,
    /// Polls.
    Poll,
}

/// A client of a history.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Client {
    /// Its name, and that of its log.
    pub name: String,
    /// As its server's.
    pub drops: bool,
    /// Which library.
    pub sdk: Sdk,
    /// By which transport.
    pub transport: Transport,
    /// MessagePack in place of JSON, by WebSocket.
    pub message_pack: bool,
    /// What it does.
    pub seed: u64,
    /// What it subscribes to.
    pub streams: Vec<Stream>,
    /// What it publishes.
    pub publishes: Option<Publishes>,
    /// So long it takes over every event while there is load, in milliseconds: a slow reader.
    pub takes_ms: Option<u64>,
    /// How often it ends a subscription and begins it again, on average, in milliseconds.
    pub restless_ms: Option<u64>,
    /// How often it is closed and comes back as another one, as a page that is loaded again, on average, in milliseconds.
    pub reloads_ms: Option<u64>,
}

/// A subscription of a client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Stream {
    /// To which channel.
    pub channel: String,
    /// The newest of each conflation key is enough.
    pub latest: bool,
    /// Whether it is seen there.
    pub member: bool,
    /// Whether it hears who is there.
    pub hears: bool,
}

/// What a client publishes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Publishes {
    /// To which channels.
    pub channels: Vec<String>,
    /// How often, on average, in milliseconds.
    pub every_ms: u64,
    /// With idempotency keys. Otherwise one at a time, and one whose answer is lost stays unknown.
    pub keyed: bool,
    /// Of a hundred, so many are the newest state of something.
    pub conflate_percent: u64,
    /// Of a hundred, so many are large.
    pub large_percent: u64,
}

/// Of a log, by default.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// What a log counts for a message beside its body, or a little more.
const MESSAGE_BYTES: u64 = 1_024;
const PING_INTERVAL_MS: u64 = 1_000;
const PONG_TIMEOUT_MS: u64 = 1_500;
const WRITE_STALL_MS: u64 = 3_000;
/// A machine that does many other things may be late by so much.
const OTHER_WORK_MS: u64 = 4_000;
const CHANNELS: [&str; 3] = ["room:1", "room:2", "ticker:1"];

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let random = &mut Random::new(seed);
        // Every kind has its turn, whatever chance wants.
        let main = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
        let server = server(random, main);
        let load_ms = random.between(3_500, 6_000);
        let faults = faults(random, main, &server, load_ms);
        let mut clients = clients(random, seed);
        for client in &mut clients {
            client.drops = server.drops;
        }
        Plan {
            seed,
            server,
            clients,
            faults,
            load_ms,
        }
    }

    /// Without the clients that this machine cannot run.
    pub fn on(mut self, machine: &Machine) -> Plan {
        self.clients
            .retain(|client| client.sdk == Sdk::Rust || machine.sdk.is_some());
        self
    }

    /// So many messages a log keeps, whatever else bounds it.
    pub fn log_messages_min(&self) -> u64 {
        // Whoever reads logs after a jump of its clock takes their ages from it.
        if self.server.wall_clock {
            return 0;
        }
        let mut publishes = self.clients.iter().filter_map(|client| client.publishes.as_ref());
        // Where memory is to become short, half of what is published is large.
        let is_short = self
            .faults
            .iter()
            .any(|fault| matches!(fault.act, Act::Memory { .. }));
        let has_large = is_short || publishes.any(|publishes| publishes.large_percent > 0);
        let message_bytes = payloads::BODY_BYTES_MAX[usize::from(has_large)] + MESSAGE_BYTES;
        let bytes = self.server.log_bytes_max.unwrap_or(LOG_BYTES_MAX);
        self.server.log_messages_max.min(bytes / message_bytes)
    }

    /// All channels that anybody of it uses.
    pub fn channels(&self) -> Vec<&str> {
        let read = self.clients.iter().flat_map(|client| &client.streams);
        let written = self.clients.iter().filter_map(|client| client.publishes.as_ref());
        let mut channels: Vec<&str> = read
            .map(|stream| stream.channel.as_str())
            .chain(written.flat_map(|publishes| publishes.channels.iter().map(String::as_str)))
            .collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }
}

fn server(random: &mut Random, main: Kind) -> Server {
    let data = match main {
        Kind::KillWithData | Kind::DiskFull | Kind::MonotonicClock => true,
        Kind::KillWithoutData => false,
        _ => random.percent(60),
    };
    let grace_ms = random.between(1_000, 2_000);
    let mut settings = Vec::new();
    let mut set = |key: &str, value: &str| settings.push((key.to_owned(), value.to_owned()));
    // So that what is dead is found out within the time of a short history.
    set("LIMITS__PING_INTERVAL", &format!("{PING_INTERVAL_MS}ms"));
    set("LIMITS__PONG_TIMEOUT", &format!("{PONG_TIMEOUT_MS}ms"));
    set("LIMITS__WRITE_STALL", &format!("{WRITE_STALL_MS}ms"));
    set("LIMITS__CLOSE_HANDSHAKE", "1s");
    set("LIMITS__LINGER", "500ms");
    let poll_wait_max_ms = random.one(&[500_u64, 3_000, 30_000]);
    set("LIMITS__POLL_WAIT_MAX", &format!("{poll_wait_max_ms}ms"));
    set("LIMITS__PRESENCE_GRACE", &format!("{grace_ms}ms"));
    set("SERVER__DRAIN_DEADLINE", "3s");
    set("SERVER__SHARDS", random.one(&["1", "2", "3"]));
    if random.percent(30) {
        set("LIMITS__COMMANDS_PER_S", "unlimited");
        set("LIMITS__INBOUND_BYTES_PER_S", "unlimited");
    }
    let log_messages_max = match random.percent(40) {
        true => random.between(8, 60),
        false => 1_000,
    };
    set("CHANNELS__LOG_MESSAGES_MAX", &log_messages_max.to_string());
    let log_bytes_max = random.percent(20).then_some(32 << 10);
    if let Some(bytes) = log_bytes_max {
        set("CHANNELS__LOG_BYTES_MAX", &bytes.to_string());
    }
    if random.percent(40) || main == Kind::Memory {
        set("LIMITS__OUTBOX_MESSAGES_MAX", random.one(&["8", "16", "64"]));
        set("LIMITS__OUTBOX_BYTES_MAX", "208KiB");
        set("LIMITS__UNSENT_BYTES_MAX", "16KiB");
    }
    if random.percent(20) {
        set("LIMITS__MAILBOX_MESSAGES_MAX", "64");
    }
    if random.percent(20) {
        set("LIMITS__REPLAYS_MAX", "1");
    }
    let few_listed = random.percent(20);
    if few_listed {
        set("LIMITS__PRESENCE_LISTED_MAX", "2");
    }
    if random.percent(20) {
        set("COMPRESSION__ENABLED", "false");
    }
    let on_lag = random.one(&["auto", "auto", "auto", "latest", "drop", "disconnect"]);
    set("CHANNELS__ON_LAG", on_lag);
    if data {
        set("DATA__FSYNC", random.one(&["always", "interval", "never"]));
    }
    Server {
        data,
        small_disk: main == Kind::DiskFull,
        wall_clock: main == Kind::WallClock,
        settings,
        drops: matches!(on_lag, "latest" | "drop"),
        log_messages_max,
        log_bytes_max,
        lists: !few_listed,
        grace_ms,
        // Whoever polls is not asked before the poll ends.
        noticed_ms: PING_INTERVAL_MS + PONG_TIMEOUT_MS + WRITE_STALL_MS + poll_wait_max_ms + OTHER_WORK_MS,
    }
}

/// The kinds that may come beside the one whose turn it is.
fn others(server: &Server) -> Vec<Kind> {
    let mut kinds = vec![
        Kind::Cut,
        Kind::Cut,
        Kind::Stall,
        Kind::Delay,
        Kind::Split,
        Kind::StopServer,
        Kind::StopClients,
        Kind::Loss,
        Kind::FileLimit,
        Kind::Memory,
    ];
    // A restart while the clock is elsewhere would age what is on the disk, and the keys with it: that is so, and no fault.
    if !server.wall_clock {
        kinds.extend([Kind::Drain, Kind::Drain]);
        kinds.extend(match server.data {
            true => [Kind::KillWithData, Kind::KillWithData, Kind::MonotonicClock],
            false => [
                Kind::KillWithoutData,
                Kind::KillWithoutData,
                Kind::KillWithoutData,
            ],
        });
    } else {
        kinds.retain(|kind| *kind != Kind::Memory);
    }
    if server.small_disk {
        kinds.push(Kind::DiskFull);
    }
    kinds
}

fn faults(random: &mut Random, main: Kind, server: &Server, load_ms: u64) -> Vec<Fault> {
    let kinds = others(server);
    let count = random.between(3, 6);
    let main_at = random.between(0, count - 1);
    let mut faults: Vec<Fault> = (0..count)
        .map(|number| {
            let kind = match number == main_at {
                true => main,
                false => random.one(&kinds),
            };
            let begins = number * load_ms / count + random.between(0, load_ms / count);
            // The first one has nothing to come back from.
            let when = match number > 0 && random.percent(65) {
                true => When::InResume {
                    from_ms: begins,
                    after_us: random.one(&[0, 0, 200, 1_000, 5_000, 20_000]),
                },
                false => When::At { ms: begins },
            };
            Fault {
                when,
                act: Act::of(kind, random),
                for_ms: random.one(&[50, 200, 500, 1_000, 1_800, 2_800]),
            }
        })
        .collect();
    // What is dropped by the kernel comes again after 0.2 s and more: for a long time it is nothing else than a dead network.
    for fault in &mut faults {
        if let Act::Loss { .. } = fault.act {
            fault.for_ms = fault.for_ms.max(500);
        }
    }
    faults
}

fn clients(random: &mut Random, seed: u64) -> Vec<Client> {
    let count = random.between(4, 10);
    let kinds = [
        (Sdk::Rust, Transport::Websocket, false),
        (Sdk::Js, Transport::Websocket, false),
        (Sdk::Rust, Transport::Sse, false),
        (Sdk::Js, Transport::Sse, false),
        (Sdk::Rust, Transport::Websocket, true),
        (Sdk::Js, Transport::Poll, false),
        (Sdk::Rust, Transport::Poll, false),
    ];
    (0..count)
        .map(|number| {
            let (sdk, transport, message_pack) = kinds[((seed + number) % kinds.len() as u64) as usize];
            client(random, number, sdk, transport, message_pack)
        })
        .collect()
}

fn client(random: &mut Random, number: u64, sdk: Sdk, transport: Transport, message_pack: bool) -> Client {
    let library = match sdk {
        Sdk::Rust => "rust",
        Sdk::Js => "js",
    };
    let by = match (transport, message_pack) {
        (Transport::Websocket, false) => "websocket",
        (Transport::Websocket, true) => "msgpack",
        (Transport::Sse, _) => "sse",
        (Transport::Poll, _) => "poll",
    };
    let mut streams = Vec::new();
    for channel in CHANNELS {
        if random.percent(70) || (streams.is_empty() && channel == CHANNELS[2]) {
            let seen = random.percent(40);
            streams.push(Stream {
                channel: channel.to_owned(),
                latest: random.percent(20),
                member: seen && random.percent(80),
                hears: seen && random.percent(80),
            });
        }
    }
    let writes = number == 0 || random.percent(60);
    let publishes = writes.then(|| Publishes {
        channels: CHANNELS
            .iter()
            .filter(|_| random.percent(70))
            .map(|channel| (*channel).to_owned())
            .collect::<Vec<String>>(),
        every_ms: random.between(15, 120),
        keyed: sdk == Sdk::Js || random.percent(80),
        conflate_percent: random.one(&[0, 0, 30, 80]),
        large_percent: random.one(&[0, 0, 5, 20]),
    });
    Client {
        name: format!("{library}-{by}-{number}"),
        drops: false,
        sdk,
        transport,
        message_pack,
        seed: random.number() >> 12, // Node reads it, too, and has 53 bits.
        streams,
        publishes: publishes.filter(|publishes| !publishes.channels.is_empty()),
        takes_ms: (sdk == Sdk::Rust && random.percent(25)).then(|| random.between(5, 60)),
        restless_ms: random.percent(25).then(|| random.between(600, 2_500)),
        reloads_ms: random.percent(25).then(|| random.between(1_200, 4_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        for seed in 0..200 {
            assert_eq!(Plan::new(seed), Plan::new(seed));
            let plan = Plan::new(seed);
            assert!((4..=10).contains(&plan.clients.len()) && (3..=6).contains(&plan.faults.len()));
            let text = serde_json::to_string(&plan).expect("a plan is JSON");
            assert_eq!(serde_json::from_str::<Plan>(&text).expect("the same"), plan);
        }
    }

    #[test]
    fn every_kind_has_its_turn() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..Kind::ALL.len() as u64 {
            let plan = Plan::new(seed);
            let kinds = plan.faults.iter().map(|fault| fault.act.kind(plan.server.data));
            seen.extend(kinds);
        }
        assert_eq!(seen.len(), Kind::ALL.len());
    }

    #[test]
    fn half_of_the_faults_wait_for_a_resume() {
        let faults: Vec<Fault> = (0..100).flat_map(|seed| Plan::new(seed).faults).collect();
        let waiting = faults
            .iter()
            .filter(|fault| matches!(fault.when, When::InResume { .. }));
        assert!(waiting.count() * 10 > faults.len() * 4);
    }
}

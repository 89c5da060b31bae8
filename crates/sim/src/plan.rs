//! What happens in a history: a pure function of its seed.

use std::time::Duration;

use switchboard_client::{Dialect, Role, Transport};
use switchboard_server::config::{Auto, Config, Fsync, OnLag};

use crate::broker::shared::Manners;
use crate::chance::Chance;
use crate::net::Weather;

/// The streams of chance, each for one purpose.
pub mod purpose {
    /// What happens.
    pub const PLAN: u64 = 0;
    /// The network.
    pub const NETWORK: u64 = 1;
    /// Disks, and the broker that nodes share.
    pub const BROKER: u64 = 2;
    /// Seeds of servers.
    pub const NODES: u64 = 3;
    /// When faults happen.
    pub const FAULTS: u64 = 4;
    /// What clients draw by themselves; one for each.
    pub const DEVICES: u64 = 1_000;
    /// What their applications do; one for each.
    pub const APPLICATIONS: u64 = 2_000;
}

/// A history that is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it all comes from.
    pub seed: u64,
    /// Who keeps the logs.
    pub keeper: Keeper,
    /// How many servers.
    pub nodes: usize,
    /// Shards of each.
    pub shards: usize,
    /// Their settings.
    pub config: Config,
    /// The network.
    pub weather: Weather,
    /// How many channels.
    pub channels: usize,
    /// Who uses them.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong.
    pub faults: Vec<FaultPlan>,
    /// How long applications publish.
    pub lasts: Duration,
    /// How long everything is left alone afterwards. In half of it all that is on its way has to come.
    pub quiet: Duration,
}

/// Who keeps the logs.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// The process.
    Memory,
    /// A disk.
    Disk {
        /// When it is synced.
        fsync: Fsync,
        /// A write may take so long.
        slow: Duration,
    },
    /// A broker that all nodes share.
    Shared(Manners),
}

/// A client, and the application that uses it.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// What it travels by.
    pub transports: Vec<Transport>,
    /// Its notation.
    pub dialect: Dialect,
    /// Whether it compresses.
    pub compression: bool,
    /// Whether its publications have keys.
    pub idempotent: bool,
    /// Events that it holds for its application.
    pub buffer: usize,
    /// What it subscribes to.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// How often it publishes, about.
    pub publishes_every: Option<Duration>,
    /// How many at once.
    pub burst: usize,
    /// Of its messages, in so many of 100 a conflation key.
    pub conflates: u32,
    /// Bytes of filling in a message, at most.
    pub filling: usize,
    /// For so long the application is busy with an event.
    pub busy: Duration,
    /// How often its page is loaded again, about.
    pub reloads_every: Option<Duration>,
    /// How often it leaves a channel and comes again, about.
    pub rejoins_every: Option<Duration>,
    /// For so long it may not exist at the beginning.
    pub comes_after: Duration,
}

/// One channel of a client.
#[derive(Clone, Debug)]
pub struct SubscriptionPlan {
    /// Which.
    pub channel: usize,
    /// The newest of each conflation key is enough.
    pub latest: bool,
    /// Whether it is seen, or hears who is.
    pub role: Option<Role>,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
    /// For how long, where it lasts.
    pub lasts: Duration,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long after the beginning.
    At(Duration),
    /// In the next resume after that, so long after it has begun.
    InResume {
        /// After the beginning.
        after: Duration,
        /// In the resume.
        into: Duration,
    },
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `kill -9`, and a start later.
    Kill(usize),
    /// The machine loses its power, and gets it back.
    PowerLoss(usize),
    /// SIGTERM, and a start later.
    Drain(usize),
    /// SIGSTOP, SIGCONT.
    Freeze(usize),
    /// All connections of a node are reset.
    ResetNode(usize),
    /// All connections of a device are reset.
    ResetDevice(usize),
    /// A device changes its network: its connections get nothing through any more, and nobody is told.
    Vanish(usize),
    /// Nothing gets from a device to the servers.
    Mute(usize),
    /// Nothing gets from the servers to a device.
    Deafen(usize),
    /// Nothing gets to a device or from it.
    Stall(usize),
    /// A device and a node cannot reach each other.
    Part(usize, usize),
    /// A device sleeps: it does nothing at all.
    Sleep(usize),
    /// Somebody sets the clock of the calendar, by so many seconds.
    StepClock(i64),
    /// The disk takes nothing.
    FillDisk,
    /// A node and the broker cannot reach each other.
    CutBroker(usize),
    /// The broker fails over to a replica that lacks the newest messages.
    FailOver(usize),
}

impl Fault {
    /// What kind it is, in words.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill -9 and restart",
            Fault::PowerLoss(_) => "power failure and restart",
            Fault::Drain(_) => "drain and restart",
            Fault::Freeze(_) => "server stands still",
            Fault::ResetNode(_) => "all connections of a node reset",
            Fault::ResetDevice(_) => "connections of a client reset",
            Fault::Vanish(_) => "connections half open",
            Fault::Mute(_) => "one-way cut, up",
            Fault::Deafen(_) => "one-way cut, down",
            Fault::Stall(_) => "network stalls",
            Fault::Part(..) => "partition",
            Fault::Sleep(_) => "client sleeps",
            Fault::StepClock(_) => "clock stepped",
            Fault::FillDisk => "disk full",
            Fault::CutBroker(_) => "broker out of reach",
            Fault::FailOver(_) => "broker fail-over with a lost tail",
        }
    }
}

/// What is left of a plan that is being minimised.
#[derive(Clone, Default, Debug)]
pub struct Reduction {
    /// Places of faults that do not happen.
    pub without_faults: Vec<usize>,
    /// Clients that do nothing.
    pub without_clients: Vec<usize>,
    /// Applications publish no longer than this.
    pub at_most: Option<Duration>,
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed, purpose::PLAN);
        let chance = &mut chance;
        let (keeper, nodes) = match chance.below(10) {
            0..2 => (Keeper::Memory, 1),
            2..6 => {
                let fsync = chance.one_of([Fsync::Always, Fsync::Interval, Fsync::Interval, Fsync::Never]);
                let slow = ms(chance.one_of([1, 20, 200]));
                (Keeper::Disk { fsync, slow }, 1)
            }
            _ => (Keeper::Shared(manners(chance)), chance.between(2, 3)),
        };
        let shards = chance.between(1, 3);
        let channels = chance.between(1, 3);
        let lasts = ms(chance.between(5_000, 15_000) as u64);
        let devices = chance.between(3, 7);
        let config = config(chance);
        let has_presence = nodes == 1 && chance.percent(60);
        let mut weather = Weather {
            latency: ms(chance.one_of([0, 1, 5, 40])),
            jitter: ms(chance.one_of([0, 1, 5, 60])),
            window: chance.one_of([512, 4 * 1024, 64 * 1024, 256 * 1024]),
            splits: chance.one_of([0, 5, 50]),
        };
        if weather.window < 4 * 1024 {
            // Else nothing could be at the head when it has to be: less would get through than is said.
            (weather.latency, weather.jitter) = (Duration::ZERO, ms(1));
        }
        let clients = (0..devices)
            .map(|device| client(chance, device, channels, has_presence, lasts))
            .collect();
        let faults = faults(chance, &keeper, nodes, devices, lasts);
        let quiet = quiet(&weather);
        Plan {
            seed,
            keeper,
            nodes,
            shards,
            config,
            weather,
            channels,
            clients,
            faults,
            lasts,
            quiet,
        }
    }

    /// The same servers, applications and network, and nothing is done to them.
    pub fn without_faults(mut self) -> Plan {
        self.faults.clear();
        if let Keeper::Shared(manners) = &mut self.keeper {
            (manners.lost, manners.doubled, manners.unknown) = (0, 0, 0);
        }
        self
    }

    /// What is left of it.
    pub fn reduced(mut self, reduction: &Reduction) -> Plan {
        for client in &reduction.without_clients {
            if let Some(client) = self.clients.get_mut(*client) {
                client.subscriptions.clear();
                client.publishes_every = None;
            }
        }
        let faults = self.faults.into_iter().enumerate();
        self.faults = faults
            .filter(|(place, _)| !reduction.without_faults.contains(place))
            .map(|(_, fault)| fault)
            .collect();
        self.lasts = reduction.at_most.map_or(self.lasts, |most| most.min(self.lasts));
        self
    }
}

/// The slowest networks carry some 30 kB/s: a log of a mebibyte in little more than half a minute.
fn quiet(weather: &Weather) -> Duration {
    let is_slow = weather.window == 4 * 1024 && weather.latency + weather.jitter > ms(20);
    Duration::from_secs(if is_slow { 120 } else { 40 })
}

fn manners(chance: &mut Chance) -> Manners {
    Manners {
        latency: ms(chance.one_of([0, 2, 20, 100])),
        lost: chance.one_of([0, 0, 10, 50]),
        doubled: chance.one_of([0, 20, 100]),
        unknown: chance.one_of([0, 0, 20]),
        keeps_epoch: false,
    }
}

fn config(chance: &mut Chance) -> Config {
    let mut config = Config::default();
    config.auth.anonymous = Auto::Fixed(true);
    config.listen.public = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    config.server.drain_deadline = ms(chance.one_of([500, 3_000]));
    config.channels.log_messages_max = chance.one_of([5, 12, 40, 200, 1_000]);
    config.channels.on_lag = match chance.below(6) {
        0 => OnLag::Latest,
        1 => OnLag::Drop,
        2 => OnLag::Disconnect,
        _ => OnLag::Resync,
    };
    let limits = &mut config.limits;
    limits.mailbox_messages_max = chance.one_of([8, 16, 64, 8_192]);
    limits.replays_max = chance.one_of([1, 4, 64]);
    limits.presence_grace = ms(chance.one_of([2_000, 5_000]));
    limits.presence_listed_max = chance.one_of([3, 1_000, 1_000]);
    limits.poll_wait_max = ms(chance.one_of([1_000, 5_000, 30_000]));
    let session = &mut limits.session;
    session.ping_interval = ms(chance.one_of([1_000, 3_000]));
    session.pong_timeout = ms(chance.one_of([1_000, 2_000]));
    session.write_stall = ms(chance.one_of([2_000, 4_000]));
    session.outbox_messages_max = chance.one_of([4, 32, 1_024]);
    session.outbox_bytes_max = 256 * 1024;
    config
}

fn client(
    chance: &mut Chance,
    device: usize,
    channels: usize,
    has_presence: bool,
    lasts: Duration,
) -> ClientPlan {
    let transports = match chance.below(10) {
        0..5 => vec![Transport::WebSocket],
        5..7 => vec![Transport::EventStream],
        7..8 => vec![Transport::Poll],
        _ => Transport::ALL.to_vec(),
    };
    let publishes = device == 0 || chance.percent(60);
    let is_slow = device != 0 && chance.percent(25);
    let mut subscriptions = Vec::new();
    for channel in 0..channels {
        if channel > 0 && chance.percent(40) {
            continue;
        }
        let role = (has_presence && chance.percent(70))
            // Who reads too slowly is cut off and does not notice: it may be away for longer than it knows.
            .then(|| match is_slow {
                true => Role::Watcher,
                false => chance.one_of([Role::Member, Role::Watcher, Role::Participant]),
            });
        subscriptions.push(SubscriptionPlan {
            channel,
            latest: chance.percent(15),
            role,
        });
    }
    ClientPlan {
        transports,
        dialect: chance.one_of([Dialect::Json, Dialect::MessagePack]),
        compression: chance.percent(15),
        idempotent: chance.percent(75),
        buffer: if is_slow { chance.one_of([1, 4]) } else { 256 },
        subscriptions,
        publishes_every: publishes.then(|| ms(chance.one_of([60, 200, 600]))),
        burst: chance.one_of([1, 1, 3, 20]),
        conflates: chance.one_of([0, 30, 100]),
        filling: chance.one_of([0, 20, 300, 3_000]),
        busy: if is_slow {
            ms(chance.one_of([50, 300]))
        } else {
            Duration::ZERO
        },
        reloads_every: chance.percent(25).then(|| ms(chance.one_of([1_500, 5_000]))),
        rejoins_every: chance.percent(25).then(|| ms(chance.one_of([700, 3_000]))),
        comes_after: if chance.percent(30) {
            chance.up_to(lasts)
        } else {
            chance.up_to(ms(300))
        },
    }
}

fn faults(
    chance: &mut Chance,
    keeper: &Keeper,
    nodes: usize,
    devices: usize,
    lasts: Duration,
) -> Vec<FaultPlan> {
    // A few histories have none: nothing may be wrong there either.
    if chance.percent(5) {
        return Vec::new();
    }
    let count = chance.between(1, 7);
    let mut faults = Vec::new();
    for number in 0..count {
        let fault = fault(chance, keeper, nodes, devices);
        let after = chance.up_to(lasts);
        // Something has to go wrong before anybody resumes.
        let when = match number > 0 && chance.percent(65) {
            true => When::InResume {
                after,
                into: chance.about(ms(30)),
            },
            false => When::At(after),
        };
        let lasts = ms(chance.one_of([50, 500, 1_500, 4_000, 8_000]));
        faults.push(FaultPlan { when, fault, lasts });
    }
    faults
}

fn fault(chance: &mut Chance, keeper: &Keeper, nodes: usize, devices: usize) -> Fault {
    let (node, device) = (chance.below(nodes), chance.below(devices));
    match chance.below(20) {
        0..3 => Fault::Kill(node),
        3 => Fault::Drain(node),
        4 => Fault::Freeze(node),
        5 => Fault::ResetNode(node),
        6 => Fault::ResetDevice(device),
        7..9 => Fault::Vanish(device),
        9 => Fault::Mute(device),
        10 => Fault::Deafen(device),
        11 => Fault::Stall(device),
        12 => Fault::Part(device, node),
        13 => Fault::Sleep(device),
        14 => {
            let seconds = chance.between(1, 100_000) as i64;
            Fault::StepClock(if chance.percent(50) { seconds } else { -seconds })
        }
        _ => match keeper {
            Keeper::Memory => Fault::Drain(node),
            Keeper::Disk { .. } => match chance.below(3) {
                0 => Fault::FillDisk,
                _ => Fault::PowerLoss(node),
            },
            Keeper::Shared(_) => match chance.below(2) {
                0 => Fault::CutBroker(node),
                _ => Fault::FailOver(chance.between(1, 10)),
            },
        },
    }
}

//! The embedded broker with a disk that does not exist. What is stored when, and what a start makes of it, is the server's own code; what
//! is here is the disk: bytes that are written late, synced later, torn by a kill and lost in a power failure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use switchboard_hub::broker::{BrokerError, Completion, Request};
use switchboard_hub::home::ShardId;
use switchboard_hub::logs::LogsSettings;
use switchboard_hub::logs::durable::recovery::Recovery;
use switchboard_hub::logs::durable::{Durable, Output, Record, RecordNumber, Stored};
use switchboard_proto::time::Time;
use switchboard_server::broker::disk::frame::{self, Pieces};
use switchboard_server::broker::disk::life::Life;
use switchboard_server::broker::disk::store::recover;
use switchboard_server::broker::{Broker, Factory, Seat};
use switchboard_server::clock::Clock;
use switchboard_server::config::Fsync;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::coverage::{Mark, Marks};
use crate::moving::{keep_moving, own};

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In good order: everything is written.
    Stopped,
    /// Killed: what was handed to the system is there, the last of it perhaps in part.
    Killed,
    /// The machine lost its power: what was synced is there, the rest perhaps.
    PowerLost,
}

/// One disk, with one file. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

struct Inner {
    chance: Chance,
    marks: Marks,
    fsync: Fsync,
    /// A write may take so long.
    slow: Duration,
    file: Vec<u8>,
    life: Life,
    synced: usize,
    /// Of the last record in the file.
    number: u64,
    orders: VecDeque<(Instant, ShardId, Order)>,
    homes: BTreeMap<ShardId, Told>,
    refusing: BTreeSet<ShardId>,
    full_until: Option<Instant>,
    sync_at: Option<Instant>,
}

enum Order {
    Store(RecordNumber, Record),
    Resume,
}

/// What a home is told.
struct Told {
    seat: Seat,
    stored: RecordNumber,
    refused: bool,
}

impl Disk {
    /// An empty one.
    pub fn new(chance: Chance, fsync: Fsync, slow: Duration, marks: Marks) -> Disk {
        let inner = Inner {
            chance,
            marks,
            fsync,
            slow,
            file: Vec::new(),
            life: Life::default(),
            synced: 0,
            number: 0,
            orders: VecDeque::new(),
            homes: BTreeMap::new(),
            refusing: BTreeSet::new(),
            full_until: None,
            sync_at: None,
        };
        Disk {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        own(&self.inner)
    }

    /// A process starts: reads the file, and makes the brokers of its homes.
    pub fn start(&self) -> Factory {
        let logs = Arc::new(Mutex::new(self.inner().recover()));
        let disk = self.clone();
        Arc::new(move |seat| {
            let own = match logs.lock() {
                Ok(mut logs) => {
                    let is_own = |stored: &Stored| seat.is_home_of(&stored.channel);
                    let (own, others) = logs.drain(..).partition(is_own);
                    *logs = others;
                    own
                }
                Err(_) => Vec::new(),
            };
            Box::new(Local::new(disk.clone(), &seat, own))
        })
    }

    /// The process ends.
    pub fn end(&self, ending: Ending) {
        self.inner().end(ending);
    }

    /// Takes nothing until then.
    pub fn fill(&self, until: Instant) {
        self.inner().full_until = Some(until);
        self.changed.notify_one();
    }

    /// Writes what is due, for ever.
    pub async fn run(self) {
        keep_moving(&self.changed, |now| self.inner().step(now)).await;
    }
}

impl Inner {
    fn step(&mut self, now: Instant) -> Option<Instant> {
        if self.full_until.is_some_and(|until| until <= now) {
            self.full_until = None;
        }
        while self.orders.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, home, order)) = self.orders.pop_front()
        {
            match order {
                Order::Store(number, record) => self.store(home, number, &record),
                Order::Resume => drop(self.refusing.remove(&home)),
            }
        }
        if self.fsync == Fsync::Interval && self.sync_at.is_some_and(|at| at <= now) {
            self.sync_at = None;
            self.synced = self.file.len();
        }
        let orders = self.orders.front().map(|(at, ..)| *at);
        [orders, self.sync_at].into_iter().flatten().min()
    }

    fn store(&mut self, home: ShardId, number: RecordNumber, record: &Record) {
        if self.refusing.contains(&home) {
            return;
        }
        let is_full = self.full_until.is_some();
        let Some(told) = self.homes.get_mut(&home) else {
            return;
        };
        if is_full {
            self.marks.see(Mark::DiskFull);
            self.refusing.insert(home);
            told.refused = true;
        } else {
            self.number += 1;
            frame::encode(self.number, record, self.life, &mut self.file);
            told.stored = number;
            match self.fsync {
                Fsync::Always => self.synced = self.file.len(),
                Fsync::Interval if self.sync_at.is_none() => {
                    self.sync_at = Some(Instant::now() + Duration::from_millis(200));
                }
                Fsync::Interval | Fsync::Never => {}
            }
        }
        told.seat.look();
    }

    fn end(&mut self, ending: Ending) {
        let orders = std::mem::take(&mut self.orders);
        match ending {
            Ending::Stopped => {
                for (_, home, order) in orders {
                    if let Order::Store(number, record) = order {
                        self.store(home, number, &record);
                    }
                }
            }
            Ending::Killed => {
                if let Some((_, _, Order::Store(_, record))) = orders.front() {
                    let mut torn = Vec::new();
                    frame::encode(self.number + 1, record, self.life, &mut torn);
                    let length = self.chance.below(torn.len());
                    self.file.extend_from_slice(&torn[..length]);
                }
            }
            Ending::PowerLost => {
                if self.fsync != Fsync::Always {
                    self.life = Life::new(self.chance.number());
                }
                let unsynced = self.file.len() - self.synced;
                let left = self.chance.below(unsynced + 1);
                if left < unsynced {
                    self.marks.see(Mark::DiskTailLost);
                }
                self.file.truncate(self.synced + left);
                // The system may have made the file longer before it wrote into it.
                if self.chance.percent(30) {
                    let zeros = self.chance.below(200);
                    self.file.resize(self.file.len() + zeros, 0);
                }
            }
        }
        self.homes.clear();
        self.refusing.clear();
        self.sync_at = None;
    }

    /// What the file has, as a start reads it.
    fn recover(&mut self) -> Vec<Stored> {
        let mut recovery = Recovery::new(self.chance.number());
        let mut pieces = Pieces::new(&self.file, true, self.life);
        let mut number: Option<u64> = None;
        recover(&mut pieces, &mut number, &mut recovery);
        let whole = pieces.at();
        if whole < self.file.len() {
            self.marks.see(Mark::DiskTorn);
        }
        self.file.truncate(whole);
        self.synced = whole;
        self.number = number.unwrap_or(self.number);
        let recovered = recovery.finish();
        if !recovered.logs.is_empty() {
            self.marks.see(Mark::DiskRestored);
        }
        let mut logs = recovered.logs;
        logs.sort_unstable_by(|one, other| one.channel.as_str().cmp(other.channel.as_str()));
        logs
    }
}

/// The broker of one home.
struct Local {
    disk: Disk,
    home: ShardId,
    durable: Durable,
    stored: RecordNumber,
}

impl Local {
    fn new(disk: Disk, seat: &Seat, logs: Vec<Stored>) -> Local {
        let settings = LogsSettings {
            channels_max: seat.channels_max,
            ..LogsSettings::default()
        };
        let [epoch_seed, hash_seed] = seat.seeds;
        let mut durable = Durable::new(epoch_seed, hash_seed, settings, seat.namespaces.clone());
        for log in logs {
            let _restored = durable.restore(seat.now, crate::wall::unix_ms(), log);
        }
        let told = Told {
            seat: seat.clone(),
            stored: RecordNumber(0),
            refused: false,
        };
        disk.inner().homes.insert(seat.shard, told);
        Local {
            disk,
            home: seat.shard,
            durable,
            stored: RecordNumber(0),
        }
    }

    fn drain(&mut self) {
        let mut has_some = false;
        while let Some(output) = self.durable.poll_output() {
            let order = match output {
                Output::Store(number, record) => Order::Store(number, record),
                Output::Resume => Order::Resume,
                Output::Trimmed(_) => continue,
            };
            let mut inner = self.disk.inner();
            let slow = inner.slow;
            let at = Instant::now() + inner.chance.about(slow / 4).min(slow);
            let at = inner.orders.back().map_or(at, |(last, ..)| at.max(*last));
            inner.orders.push_back((at, self.home, order));
            has_some = true;
        }
        if has_some {
            self.disk.changed.notify_one();
        }
    }
}

impl Broker for Local {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        self.durable.handle_request(now, at_ms, request, completions);
        self.drain();
    }

    fn poll(&mut self, now: Time, clock: &Clock, completions: &mut VecDeque<Completion>) {
        let mut inner = self.disk.inner();
        let Some(told) = inner.homes.get_mut(&self.home) else {
            return;
        };
        let (stored, refused) = (told.stored, std::mem::take(&mut told.refused));
        drop(inner);
        let at_ms = clock.unix_ms();
        if stored > self.stored {
            self.stored = stored;
            self.durable.handle_stored(now, at_ms, stored, completions);
        }
        if refused {
            self.durable
                .handle_refused(now, at_ms, BrokerError::Overloaded, completions);
        }
        self.drain();
    }

    fn handle_timeout(&mut self, now: Time) {
        self.durable.handle_timeout(now, 1_280);
        self.drain();
    }
}

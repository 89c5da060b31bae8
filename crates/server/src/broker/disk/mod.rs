//! The embedded broker with a disk: logs in the memory of the process, and what changes them in files, from which the next process
//! takes them. A request completes when its record is stored, which is never waited for by a shard.
//!
//! Reading order: [`switchboard_hub::logs::durable`] (what is stored, and when somebody hears of it), [`frame`] (as bytes), [`store`]
//! (in files), [`life`] (what is lost in a power failure), [`writer`] (the thread).
//!
//! | `data.fsync` | an acknowledged message survives the end of the process | … and a power failure |
//! |---|---|---|
//! | `always` | yes | yes |
//! | `interval` | yes | if it is older than `data.fsync_interval`; all channels are `reset` |
//! | `never` | yes | if the system happened to write it: within half a minute, usually; all channels are `reset` |

pub mod frame;
pub mod life;
mod progress;
pub mod store;
mod unsynced;
pub mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{self, Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use switchboard_hub::broker::{BrokerError, Completion, Op, Request};
use switchboard_hub::logs::LogsSettings;
use switchboard_hub::logs::durable::{Durable, Output, RecordNumber, Stored};
use switchboard_proto::time::Time;

use self::progress::Progress;
use self::store::{OpenError, Report, Store};
use self::writer::{Desk, Home, Order, Shared, Writer};
use super::memory::EXPIRY_BUDGET;
use super::{Broker, Factory, Seat};
use crate::clock::{Clock, unix_ms};
use crate::config::Fsync;

/// Bytes on the disk that a log takes without any entry, about.
const LOG_BYTES: usize = 128;

/// A store that is open, and its thread.
pub struct DiskStore {
    desk: Desk,
    shared: Arc<Shared>,
    homes: Arc<Mutex<BTreeMap<usize, Home>>>,
    /// Not taken by their homes yet.
    logs: Arc<Mutex<Vec<Stored>>>,
    thread: JoinHandle<()>,
}

impl DiskStore {
    /// Opens a directory and reads what is in it.
    ///
    /// # Errors
    /// It cannot be read or written, or another process uses it.
    pub fn open(
        directory: &Path,
        fsync: Fsync,
        interval: Duration,
        random: [u64; 2],
    ) -> Result<(DiskStore, Report), OpenError> {
        let (store, logs, report) = Store::open(directory, fsync, random)?;
        let homes = Arc::default();
        let shared: Arc<Shared> = Arc::default();
        let io = |error| OpenError::Io {
            path: directory.to_owned(),
            error,
        };
        let (writer, desk) =
            Writer::new(store, fsync, interval, Arc::clone(&homes), shared.clone()).map_err(io)?;
        let thread = std::thread::Builder::new().name("disk".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(io)?;
        let disk = DiskStore {
            desk,
            shared,
            homes,
            logs: Arc::new(Mutex::new(logs)),
            thread,
        };
        Ok((disk, report))
    }

    /// Makes the broker of each home.
    pub fn factory(&self) -> Factory {
        let (desk, homes, logs) = (self.desk.clone(), self.homes.clone(), self.logs.clone());
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
            Box::new(Disk::new(&seat, own, desk.clone(), &homes))
        })
    }

    /// What is on the disk, and what was refused, for the metrics.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Waits until everything is written. The brokers must be gone.
    pub fn close(self) {
        let DiskStore { desk, thread, .. } = self;
        drop(desk);
        let _panicked = thread.join();
    }
}

/// See the module.
pub struct Disk {
    number: usize,
    durable: Durable,
    desk: Desk,
    progress: Arc<Progress>,
    /// Up to where the last look said.
    stored: RecordNumber,
    shared: Arc<Shared>,
}

impl Disk {
    fn new(seat: &Seat, logs: Vec<Stored>, desk: Desk, homes: &Mutex<BTreeMap<usize, Home>>) -> Disk {
        let settings = LogsSettings {
            channels_max: seat.channels_max,
            ..LogsSettings::default()
        };
        let [epoch_seed, hash_seed] = seat.seeds;
        let mut durable = Durable::new(epoch_seed, hash_seed, settings, seat.namespaces.clone());
        let at_ms = unix_ms();
        for log in logs {
            let channel = log.channel.clone();
            if let Err(error) = durable.restore(seat.now, at_ms, log) {
                tracing::error!(%channel, %error, "a channel cannot be kept; it begins anew");
            }
        }
        let progress: Arc<Progress> = Arc::default();
        let number = usize::from(seat.shard.0);
        if let Ok(mut homes) = homes.lock() {
            let home = Home {
                seat: seat.clone(),
                progress: progress.clone(),
            };
            homes.insert(number, home);
        }
        let shared = desk.shared();
        let mut disk = Disk {
            number,
            durable,
            desk,
            progress,
            stored: RecordNumber(0),
            shared,
        };
        disk.keep();
        disk
    }

    fn keep(&mut self) {
        let logs = self.durable.logs();
        self.progress.keep(logs.bytes() + logs.channels() * LOG_BYTES);
    }

    fn drain(&mut self) {
        while let Some(output) = self.durable.poll_output() {
            self.desk.send(match output {
                Output::Store(number, record) => Order::Store(self.number, number, record),
                Output::Trimmed(before) => Order::Trimmed(before),
                Output::Resume => Order::Resume(self.number),
            });
        }
    }
}

impl Broker for Disk {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        if matches!(request.op, Op::Append(_)) && !self.desk.has_room() {
            self.shared.count_refused(1);
            return completions.push_back(Completion::Appended {
                ticket: request.ticket,
                result: Err(BrokerError::Overloaded),
            });
        }
        self.durable.handle_request(now, at_ms, request, completions);
        self.drain();
    }

    fn poll(&mut self, now: Time, clock: &Clock, completions: &mut VecDeque<Completion>) {
        let Some((stored, refused)) = self.progress.look() else {
            return;
        };
        let at_ms = clock.unix_ms();
        if stored > self.stored {
            self.stored = stored;
            self.durable.handle_stored(now, at_ms, stored, completions);
        }
        if let Some(error) = refused {
            self.shared.count_refused(self.durable.waiting() as u64);
            self.durable.handle_refused(now, at_ms, error, completions);
        }
        self.drain();
    }

    fn handle_timeout(&mut self, now: Time) {
        self.durable.handle_timeout(now, EXPIRY_BUDGET);
        self.drain();
        self.keep();
    }
}

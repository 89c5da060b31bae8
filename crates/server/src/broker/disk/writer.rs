//! The thread that writes. Shards hand it records and go on; it writes all that has come since the last time in one go (a group commit),
//! syncs them as the policy says, and tells the homes.
//!
//! ```text
//!   shard ── Order (bounded bytes) ──► writer ── write ──► file ◄── sync, every interval ── syncer
//!         ◄── Progress, Seat::look ────┘
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchboard_hub::broker::BrokerError;
use switchboard_hub::logs::durable::{Record, RecordNumber};
use switchboard_proto::position::Position;

use super::progress::Progress;
use super::store::{SEGMENT_BYTES, Store};
use super::unsynced::{Unsynced, unsynced};
use crate::broker::Seat;
use crate::config::Fsync;

/// Bytes that wait for the writer, of all shards. Beyond: publications are refused.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes that one write takes, or a record more.
const BATCH_BYTES: usize = 1024 * 1024;
/// What an order takes beside its payload, about.
const ORDER_BYTES: usize = 256;
/// Between two lines of the log about the disk: where small records still fit and large ones do not, publishers would write it.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// While there is nothing to write, old segments are looked at this often.
const IDLE: Duration = Duration::from_secs(1);

/// What a shard wants written.
pub enum Order {
    /// A record of a home.
    Store(usize, RecordNumber, Record),
    /// Entries up to here are not wanted any longer.
    Trimmed(Position),
    /// After something of this home was refused: it knows.
    Resume(usize),
}

/// What all shards and the writer share.
#[derive(Default)]
pub struct Shared {
    /// Bytes that wait.
    queued: AtomicU64,
    /// Bytes that are on the disk.
    pub bytes: AtomicU64,
    /// Publications that were refused.
    pub refused: AtomicU64,
}

impl Shared {
    /// For the metrics, in the text format of Prometheus.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "switchboard_disk_bytes",
                "gauge",
                "Bytes of the files in the data directory.",
                &self.bytes,
            ),
            (
                "switchboard_disk_queued_bytes",
                "gauge",
                "Bytes that wait to be written there.",
                &self.queued,
            ),
            (
                "switchboard_disk_refusals_total",
                "counter",
                "Publications refused because the disk took no records or was too slow.",
                &self.refused,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            ));
        }
        text
    }

    /// Publications were refused.
    pub fn count_refused(&self, count: u64) {
        self.refused.fetch_add(count, Ordering::Relaxed);
    }
}

/// How shards reach the writer.
#[derive(Clone)]
pub struct Desk {
    orders: Sender<(usize, Order)>,
    shared: Arc<Shared>,
}

impl Desk {
    /// What all share.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Whether a publication finds room.
    pub fn has_room(&self) -> bool {
        self.shared.queued.load(Ordering::Relaxed) < QUEUE_BYTES_MAX as u64
    }

    /// Hands an order in. Never waits.
    pub fn send(&self, order: Order) {
        let payload = match &order {
            Order::Store(_, _, Record::Entry { entry, .. }) => entry.payload.len(),
            Order::Store(..) | Order::Trimmed(_) | Order::Resume(_) => 0,
        };
        let bytes = payload + ORDER_BYTES;
        self.shared.queued.fetch_add(bytes as u64, Ordering::Relaxed);
        // A writer that has ended was stopped with the server.
        let _stopped = self.orders.send((bytes, order));
    }
}

/// A home, as the writer knows it.
pub struct Home {
    /// Where to call it.
    pub seat: Seat,
    /// What to tell it.
    pub progress: Arc<Progress>,
}

/// See the module.
pub struct Writer {
    store: Store,
    orders: Receiver<(usize, Order)>,
    homes: Arc<Mutex<BTreeMap<usize, Home>>>,
    shared: Arc<Shared>,
    fsync: Fsync,
    syncer: Syncer,
    /// Homes whose records are not written until they know that some were not.
    refusing: BTreeMap<usize, ()>,
    /// Nothing can be written any more.
    is_broken: bool,
    complaint: Complaint,
    /// Bytes that there were when the cleaning of the oldest segment began.
    cleaning_from: Option<u64>,
}

/// Whether the log says that the disk takes nothing.
#[derive(Default)]
struct Complaint {
    is_said: bool,
    /// When it was said, or taken back.
    at: Option<Instant>,
}

impl Complaint {
    /// The disk takes nothing. Whether that is to be said.
    fn begins(&mut self) -> bool {
        self.turns(true)
    }

    /// The disk takes something. Whether that is to be said.
    fn ends(&mut self) -> bool {
        self.turns(false)
    }

    fn turns(&mut self, to: bool) -> bool {
        if self.is_said == to || self.at.is_some_and(|at| at.elapsed() < SAID_EVERY) {
            return false;
        }
        (self.is_said, self.at) = (to, Some(Instant::now()));
        true
    }
}

/// What the homes will be told of one batch.
#[derive(Default)]
struct Batch {
    up_to: BTreeMap<usize, RecordNumber>,
    bytes: usize,
}

impl Writer {
    /// A writer, and how to reach it.
    pub fn new(
        store: Store,
        fsync: Fsync,
        interval: Duration,
        homes: Arc<Mutex<BTreeMap<usize, Home>>>,
        shared: Arc<Shared>,
    ) -> io::Result<(Writer, Desk)> {
        let (sender, orders) = mpsc::channel();
        let writer = Writer {
            store,
            orders,
            homes,
            shared: shared.clone(),
            fsync,
            syncer: Syncer::start((fsync == Fsync::Interval).then_some(interval))?,
            refusing: BTreeMap::new(),
            is_broken: false,
            complaint: Complaint::default(),
            cleaning_from: None,
        };
        let desk = Desk {
            orders: sender,
            shared,
        };
        Ok((writer, desk))
    }

    /// Until nobody is left who could want anything written.
    pub fn run(mut self) {
        let mut patience = IDLE;
        loop {
            match self.orders.recv_timeout(patience) {
                Ok(order) => self.write(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // A part of a segment at a time: records first, then the next part at once.
            patience = match self.look_after_segments() {
                true => Duration::ZERO,
                false => IDLE,
            };
        }
        self.syncer.stop();
        // What the disk has of a store that is broken nobody knows.
        if !self.is_broken
            && let Err(error) = self.store.end()
        {
            tracing::error!(%error, "the last records may not survive a power failure");
        }
    }

    /// One order, and those that have come with it.
    fn write(&mut self, first: (usize, Order)) {
        let mut batch = Batch::default();
        let mut next = Some(first);
        let mut queued = 0;
        while let Some((bytes, order)) = next {
            queued += bytes;
            self.take(order, &mut batch);
            next = match batch.bytes < BATCH_BYTES {
                true => self.orders.try_recv().ok(),
                false => None,
            };
        }
        self.shared.queued.fetch_sub(queued as u64, Ordering::Relaxed);
        let stored = match self.is_broken {
            true => Err(io::Error::other("the store can no longer be written")),
            false => self.store.write().and_then(|()| self.sync(batch.bytes)),
        };
        if !batch.up_to.is_empty() {
            self.tell(batch, stored);
        }
        self.shared.bytes.store(self.store.bytes(), Ordering::Relaxed);
    }

    fn take(&mut self, order: Order, batch: &mut Batch) {
        match order {
            Order::Store(home, ..) if self.refusing.contains_key(&home) => {}
            Order::Store(home, number, record) => {
                batch.up_to.insert(home, number);
                batch.bytes += match self.is_broken {
                    true => 0,
                    false => self.store.append(&record),
                };
            }
            Order::Trimmed(before) => self.store.handle_trimmed(before),
            Order::Resume(home) => {
                self.refusing.remove(&home);
            }
        }
    }

    fn sync(&mut self, bytes: usize) -> io::Result<()> {
        match self.fsync {
            Fsync::Always => {
                let synced = self.store.file().sync_data();
                if synced.is_err() {
                    // What the disk has of it nobody knows. A store that goes on would perhaps give its places to others.
                    self.is_broken = true;
                    let _undone = self.store.cut(bytes as u64);
                }
                synced
            }
            Fsync::Interval => {
                self.syncer.want(self.store.file());
                Ok(())
            }
            Fsync::Never => Ok(()),
        }
    }

    fn tell(&mut self, batch: Batch, stored: io::Result<()>) {
        let Ok(homes) = self.homes.lock() else { return };
        match stored {
            Ok(()) => {
                if self.complaint.ends() {
                    tracing::info!("the disk takes records again");
                }
                for (number, up_to) in batch.up_to {
                    if let Some(home) = homes.get(&number)
                        && home.progress.handle_stored(up_to)
                    {
                        home.seat.look();
                    }
                }
            }
            Err(error) => {
                if self.complaint.begins() {
                    tracing::error!(%error, "the disk takes no records; publications are refused");
                }
                for (number, _) in batch.up_to {
                    self.refusing.insert(number, ());
                    if let Some(home) = homes.get(&number)
                        && home.progress.handle_refused(BrokerError::Overloaded)
                    {
                        home.seat.look();
                    }
                }
            }
        }
    }

    /// Whether there is more to do that is worth it.
    fn look_after_segments(&mut self) -> bool {
        match self.try_look_after_segments() {
            Ok(is_busy) => is_busy,
            Err(error) => {
                if self.complaint.begins() {
                    tracing::error!(%error, "segments on the disk cannot be looked after");
                }
                false
            }
        }
    }

    fn try_look_after_segments(&mut self) -> io::Result<bool> {
        if self.is_broken {
            return Ok(false);
        }
        if self.store.is_full() {
            self.syncer.want_last(self.store.file());
            self.store.rotate().map_err(io::Error::other)?;
        }
        let wanted = match self.homes.lock() {
            Ok(homes) => homes.values().map(|home| home.progress.wanted_bytes()).sum(),
            Err(_) => return Ok(false),
        };
        let mut is_busy = self.store.wants_cleaning(wanted);
        if is_busy {
            let before = *self.cleaning_from.get_or_insert(self.store.bytes());
            let is_done = self.store.clean(crate::clock::unix_ms())?;
            self.store.write()?;
            if is_done {
                // What was copied must be safe before what it was copied from is gone.
                if self.fsync != Fsync::Never {
                    for file in self.store.copied_to() {
                        file.sync_data()?;
                    }
                }
                self.store.delete_oldest()?;
                // Where nearly everything is still wanted, such as keys, there is no hurry to copy it again.
                is_busy = self.store.bytes() + SEGMENT_BYTES / 4 < before;
                self.cleaning_from = None;
            }
            self.shared.bytes.store(self.store.bytes(), Ordering::Relaxed);
        }
        Ok(is_busy)
    }
}

/// A thread that syncs files, so that writing does not wait for it.
struct Syncer {
    files: Option<Unsynced<File>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Syncer {
    fn start(interval: Option<Duration>) -> io::Result<Syncer> {
        let Some(interval) = interval else {
            return Ok(Syncer {
                files: None,
                thread: None,
            });
        };
        let (files, wanted) = unsynced::<File>();
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
            let mut next = Instant::now();
            while let Some(files) =
                wanted.next(|| std::thread::sleep(next.saturating_duration_since(Instant::now())))
            {
                next = Instant::now() + interval;
                for file in files {
                    if let Err(error) = file.sync_data() {
                        tracing::error!(%error, "what was written lately may not survive a power failure");
                    }
                }
            }
        })?;
        Ok(Syncer {
            files: Some(files),
            thread: Some(thread),
        })
    }

    /// A file that is not written to any more is to be synced, too.
    fn want_last(&self, file: &Arc<File>) {
        if let Some(files) = &self.files {
            files.want_last(file);
        }
    }

    /// The file that is written to is to be synced within the interval.
    fn want(&self, file: &Arc<File>) {
        if let Some(files) = &self.files {
            files.want(file);
        }
    }

    fn stop(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_some_records_and_others_not_is_said_once() {
        let mut complaint = Complaint::default();
        assert!(!complaint.ends(), "it was never said");
        assert!(complaint.begins());
        assert!(!complaint.begins());
        for _ in 0..3 {
            assert!(!complaint.ends());
            assert!(!complaint.begins());
        }
    }
}

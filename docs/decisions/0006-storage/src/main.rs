//! Three ways to keep channel logs on a disk, each doing the same: `cargo run --release`.
//!
//! append   messages of 200 bytes to 1,000 channels in turn, in batches of 64, without sync: what a kill survives
//! synced   the same, each batch synced: what a power failure survives
//! trimmed  each channel keeps its newest 20: CPU for that, and bytes on the disk then
//! start    100,000 channels with 5 messages each: opened, and all of it read
//! damage   one bit flipped somewhere in the largest file, ten times: what a start gives then

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::ReadableDatabase as _;
use redb::ReadableTable as _;
use switchboard_hub::log::{Draft, tag};
use switchboard_hub::logs::durable::Record;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position};
use switchboard_server::broker::disk::store::Store;

const BATCH: usize = 64;
const MESSAGES: usize = 200_000;
const SYNCED: usize = 64 * 500;
const KEPT: u64 = 20;
/// Places of the largest file in which a bit is flipped, one after the other.
const FLIPS: usize = 10;

/// One way.
trait Keeper: Sized {
    const NAME: &'static str;
    fn open(directory: &Path) -> Result<Self, String>;
    /// Appends one message to each of these channels.
    fn append(&mut self, channels: &[u32], sync: bool);
    /// Forgets all but the newest `KEPT` of a channel.
    fn trim(&mut self, channel: u32);
    /// What time is for.
    fn settle(&mut self) {}
    /// Messages found by this start.
    fn count(&mut self) -> Result<usize, String>;
}

fn key(channel: u32, offset: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&channel.to_be_bytes());
    key[4..].copy_from_slice(&offset.to_be_bytes());
    key
}

const TABLE: redb::TableDefinition<'static, &[u8], &[u8]> = redb::TableDefinition::new("log");

/// A B-tree.
struct Redb {
    db: redb::Database,
    heads: BTreeMap<u32, u64>,
}

impl Keeper for Redb {
    const NAME: &'static str = "redb";
    fn open(directory: &Path) -> Result<Redb, String> {
        fs::create_dir_all(directory).unwrap();
        let db = redb::Database::create(directory.join("db")).map_err(|error| error.to_string())?;
        Ok(Redb { db, heads: BTreeMap::new() })
    }
    fn append(&mut self, channels: &[u32], sync: bool) {
        let mut write = self.db.begin_write().unwrap();
        if !sync {
            write.set_durability(redb::Durability::None).unwrap();
        }
        {
            let mut table = write.open_table(TABLE).unwrap();
            for channel in channels {
                let head = self.heads.entry(*channel).or_default();
                *head += 1;
                table.insert(&key(*channel, *head)[..], &[7; 200][..]).unwrap();
            }
        }
        write.commit().unwrap();
    }
    fn trim(&mut self, channel: u32) {
        let head = self.heads[&channel];
        let mut write = self.db.begin_write().unwrap();
        write.set_durability(redb::Durability::None).unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            let (from, to) = (key(channel, 0), key(channel, head.saturating_sub(KEPT)));
            table.retain_in(&from[..]..=&to[..], |_, _| false).unwrap();
        }
        write.commit().unwrap();
    }
    fn settle(&mut self) {
        self.db.compact().unwrap();
    }
    fn count(&mut self) -> Result<usize, String> {
        let read = self.db.begin_read().map_err(|error| error.to_string())?;
        let table = read.open_table(TABLE).map_err(|error| error.to_string())?;
        let mut count = 0;
        for entry in table.iter().map_err(|error| error.to_string())? {
            let (_, value) = entry.map_err(|error| error.to_string())?;
            count += usize::from(value.value() == [7; 200]);
        }
        Ok(count)
    }
}

/// A log-structured merge tree.
struct Fjall {
    db: fjall::Database,
    log: fjall::Keyspace,
    heads: BTreeMap<u32, u64>,
}

impl Keeper for Fjall {
    const NAME: &'static str = "fjall";
    fn open(directory: &Path) -> Result<Fjall, String> {
        let db = fjall::Database::builder(directory).open().map_err(|error| error.to_string())?;
        let log = db
            .keyspace("log", fjall::KeyspaceCreateOptions::default)
            .map_err(|error| error.to_string())?;
        Ok(Fjall { db, log, heads: BTreeMap::new() })
    }
    fn append(&mut self, channels: &[u32], sync: bool) {
        let mode = if sync { fjall::PersistMode::SyncData } else { fjall::PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        for channel in channels {
            let head = self.heads.entry(*channel).or_default();
            *head += 1;
            batch.insert(&self.log, key(*channel, *head), [7; 200]);
        }
        batch.commit().unwrap();
    }
    fn trim(&mut self, channel: u32) {
        let head = self.heads[&channel];
        let mut batch = self.db.batch();
        for offset in 1..=head.saturating_sub(KEPT) {
            batch.remove(&self.log, key(channel, offset));
        }
        batch.commit().unwrap();
    }
    fn settle(&mut self) {
        self.log.rotate_memtable_and_wait().unwrap();
        self.log.major_compact().unwrap();
    }
    fn count(&mut self) -> Result<usize, String> {
        let mut count = 0;
        for entry in self.log.iter() {
            let value = entry.value().map_err(|error| error.to_string())?;
            count += usize::from(*value == [7; 200]);
        }
        Ok(count)
    }
}

/// Segments, as the server has them.
struct Segments {
    store: Store,
    found: usize,
    heads: BTreeMap<u32, (ChannelName, Vec<Position>)>,
}

impl Keeper for Segments {
    const NAME: &'static str = "segments";
    fn open(directory: &Path) -> Result<Segments, String> {
        let (store, logs, _) = Store::open(directory, 1).map_err(|error| error.to_string())?;
        let found = logs.iter().map(|log| log.entries.len()).sum();
        Ok(Segments { store, found, heads: BTreeMap::new() })
    }
    fn append(&mut self, channels: &[u32], sync: bool) {
        for channel in channels {
            let store = &mut self.store;
            let (_, positions) = self.heads.entry(*channel).or_insert_with(|| {
                let name = ChannelName::parse(&format!("c:{channel}")).unwrap();
                let start = Position::start(Epoch::of(&name, u64::from(*channel)));
                store.append(&Record::Log { channel: name.clone(), before: start, head: start });
                (name, vec![start])
            });
            let head = *positions.last().unwrap();
            let draft = Draft { from: None, payload: Payload::bytes(vec![7; 200]), key: None, conflate: None };
            let position = Position { offset: head.offset + 1, tag: tag(&draft, 0), ..head };
            self.store.append(&Record::Entry {
                entry: Arc::new(Entry {
                    position,
                    previous: head.offset,
                    at_ms: 0,
                    from: None,
                    conflate: None,
                    payload: draft.payload,
                }),
                key: None,
                previous_tag: head.tag,
            });
            positions.push(position);
        }
        self.store.write().unwrap();
        if sync {
            self.store.file().sync_data().unwrap();
        }
        if self.store.is_full() {
            self.store.rotate().unwrap();
        }
    }
    fn trim(&mut self, channel: u32) {
        let (_, positions) = &self.heads[&channel];
        let before = positions.len().saturating_sub(KEPT as usize + 1);
        self.store.handle_trimmed(positions[before]);
    }
    fn settle(&mut self) {
        let wanted = self.heads.len() as u64 * KEPT * 300;
        while self.store.wants_cleaning(wanted) {
            let is_done = self.store.clean(0).unwrap();
            self.store.write().unwrap();
            if is_done {
                self.store.delete_oldest().unwrap();
            }
        }
    }
    fn count(&mut self) -> Result<usize, String> {
        Ok(self.found)
    }
}

fn copy_files(from: &Path, to: &Path) {
    for (path, _) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), path.metadata().unwrap().len())),
        }
    }
    found
}

fn megabytes(directory: &Path) -> f64 {
    files(directory).iter().map(|(_, bytes)| *bytes).sum::<u64>() as f64 / 1e6
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn measure<K: Keeper>(base: &Path) {
    let directory = base.join(K::NAME);
    let path = |name: &str| directory.join(name);
    let channels: Vec<u32> = (0..1_000).collect();

    let mut keeper = K::open(&path("append")).unwrap();
    let (started, before) = (Instant::now(), cpu());
    for batch in 0..MESSAGES / BATCH {
        let of: Vec<u32> = (0..BATCH).map(|at| channels[(batch * BATCH + at) % channels.len()]).collect();
        keeper.append(&of, false);
    }
    let (elapsed, spent) = (started.elapsed(), cpu() - before);
    let size = megabytes(&path("append"));
    println!(
        "{:<9} append  {:>6.2} µs a message, {:>6.2} µs CPU, {size:.0} MB",
        K::NAME,
        elapsed.as_secs_f64() * 1e6 / MESSAGES as f64,
        spent.as_secs_f64() * 1e6 / MESSAGES as f64
    );
    let (started, before) = (Instant::now(), cpu());
    for channel in &channels {
        keeper.trim(*channel);
    }
    keeper.settle();
    println!(
        "{:<9} trimmed {:>6.2} s, {:>6.2} s CPU, {:.0} MB",
        K::NAME,
        started.elapsed().as_secs_f64(),
        (cpu() - before).as_secs_f64(),
        megabytes(&path("append"))
    );
    drop(keeper);

    let mut keeper = K::open(&path("synced")).unwrap();
    let started = Instant::now();
    for batch in 0..SYNCED / BATCH {
        let of: Vec<u32> = (0..BATCH).map(|at| channels[(batch * BATCH + at) % channels.len()]).collect();
        keeper.append(&of, true);
    }
    let a_batch = started.elapsed().as_secs_f64() * 1e3 / (SYNCED / BATCH) as f64;
    println!("{:<9} synced  {a_batch:>6.2} ms a batch of {BATCH}", K::NAME);
    drop(keeper);

    let mut keeper = K::open(&path("start")).unwrap();
    let all: Vec<u32> = (0..100_000).collect();
    for _ in 0..5 {
        for batch in all.chunks(1_000) {
            keeper.append(batch, false);
        }
    }
    drop(keeper);
    let started = Instant::now();
    let mut keeper = K::open(&path("start")).unwrap();
    let count = keeper.count();
    println!("{:<9} start   {:>6.2} s for {count:?}", K::NAME, started.elapsed().as_secs_f64());
    drop(keeper);

    let largest = files(&path("start")).into_iter().max_by_key(|(_, bytes)| *bytes).unwrap().0;
    let whole = fs::read(&largest).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for part in 1..=FLIPS {
        let mut bytes = whole.clone();
        bytes[whole.len() * part / (FLIPS + 1)] ^= 1;
        let copy = base.join("copy");
        let _none_before = fs::remove_dir_all(&copy);
        copy_files(&path("start"), &copy);
        fs::write(copy.join(largest.strip_prefix(path("start")).unwrap()), bytes).unwrap();
        let found = std::panic::catch_unwind(|| K::open(&copy).and_then(|mut keeper| keeper.count()));
        let outcome = match found {
            Ok(Ok(500_000)) => "all, as if nothing were".to_owned(),
            Ok(Ok(count)) => format!("{count}"),
            Ok(Err(_)) => "an error, and nothing".to_owned(),
            Err(_) => "a panic".to_owned(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let _default = std::panic::take_hook();
    println!("{:<9} damage  of 500,000 messages: {outcomes:?}", K::NAME);
}

fn main() {
    let base = std::env::temp_dir().join(format!("storage-{}", std::process::id()));
    measure::<Redb>(&base);
    measure::<Fjall>(&base);
    measure::<Segments>(&base);
    fs::remove_dir_all(&base).unwrap();
}

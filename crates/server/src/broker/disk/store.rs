//! The files of a store: opened, read once, and written at the end.
//!
//! ```text
//!   DIR/lock                     held by the process that uses the directory
//!   DIR/00000000000000000007.log segments, in the order of their numbers; each at most a little longer than SEGMENT_BYTES
//!   DIR/life                     whether the end of the newest one may be lost (`life`)
//!   DIR/damaged/…                segments in which damage was found, when all that could be read of them had been written anew
//! ```
//!
//! What is written is appended to the newest segment. A segment whose records are not wanted any longer is deleted, the oldest
//! first; what is still wanted of it is written once more before ([`Store::clean`]).

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use switchboard_hub::limits::KEY_WINDOW;
use switchboard_hub::logs::durable::recovery::{Broken, Recovered, Recovery};
use switchboard_hub::logs::durable::{Record, Stored};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::position::{Epoch, Position};

use super::frame::{Piece, Pieces, encode};
use super::life::{self, Life};
use crate::config::Fsync;
use crate::files::sync_directory;

/// A segment that is longer is followed by the next.
pub const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Held by the process that uses the directory.
const LOCK: &str = "lock";
/// Where segments are put in which something is damaged.
const DAMAGED: &str = "damaged";
/// Bytes of an old segment that are looked at in one go, or a record more.
const CLEAN_BYTES: usize = 256 * 1024;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is used by another process", .0.display())]
    Used(PathBuf),
    /// There is damage, and the files in which it is cannot be put aside.
    #[error("something in it is damaged, and cannot be put aside: {}: {error}", .path.display())]
    Aside {
        /// What the system refused.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system said no.
    #[error("{}: {error}", .path.display())]
    Io {
        /// To what.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What was found when a store was opened.
#[derive(Debug, Default)]
pub struct Report {
    /// Logs that were recovered.
    pub logs: usize,
    /// Entries in them.
    pub entries: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of a record whose end had not been written, cut off.
    pub torn_bytes: u64,
    /// Places where something is damaged.
    pub damages: usize,
    /// Logs that are not recovered because of that.
    pub broken: Vec<Broken>,
    /// The end of what was stored may be lost: all logs live a new life.
    pub may_lack_its_end: bool,
}

/// See the module.
pub struct Store {
    directory: PathBuf,
    life: Life,
    /// Held as long as the store.
    _lock: File,
    /// The oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: Arc<File>,
    /// Of the last record, and of the last one that is written.
    number: u64,
    written_number: u64,
    /// What the index is to know when the buffer is written.
    unwritten: Vec<Note>,
    index: HashMap<Epoch, Indexed, FixedState>,
    cleaning: Option<Cleaning>,
    buffer: Vec<u8>,
}

struct Segment {
    number: u64,
    bytes: u64,
}

/// What is known of a log that is still wanted.
struct Indexed {
    channel: ChannelName,
    before: Position,
    head: Position,
}

/// What a record changes in the index.
enum Note {
    Log(Epoch, Indexed),
    Head(Position),
    Forgotten(Epoch),
}

/// The oldest segment on its way out.
struct Cleaning {
    bytes: Vec<u8>,
    at: usize,
    /// Up to here what is still wanted is written.
    written_at: usize,
    /// Logs that were told of in the newest segments since this began.
    told: HashSet<Epoch>,
    /// The copies are in these. A few: those that were begun meanwhile.
    copied_to: Vec<Arc<File>>,
}

impl Cleaning {
    /// What was appended last is not written. If these were copies, they are made again: the segment must not go without them.
    fn handle_unwritten(&mut self) {
        if self.at > self.written_at {
            self.at = self.written_at;
            self.told.clear();
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

impl Store {
    /// Opens a directory, which is made if it is not there, and reads what is in it.
    /// `fsync` says how it will be synced.
    pub fn open(
        directory: &Path,
        fsync: Fsync,
        random: [u64; 2],
    ) -> Result<(Store, Vec<Stored>, Report), OpenError> {
        let [hash_seed, life_seed] = random;
        fs::create_dir_all(directory).map_err(io_error(directory))?;
        let lock = lock(directory)?;
        let mut report = Report::default();
        let mut recovery = Recovery::new(hash_seed);
        let mut segments = VecDeque::new();
        let mut number = None;
        let numbers = segment_numbers(directory)?;
        // An earlier process may have synced less carefully, and its records are handed out from now on.
        sync(directory, numbers.iter().copied())?;
        let (life, may_lack_its_end) =
            life::begin(directory, fsync, !numbers.is_empty(), life_seed).map_err(io_error(directory))?;
        report.may_lack_its_end = may_lack_its_end;
        for segment in &numbers {
            let path = segment_path(directory, *segment);
            let is_last = numbers.last() == Some(segment);
            let bytes = fs::read(&path).map_err(io_error(&path))?;
            report.bytes += bytes.len() as u64;
            let mut pieces = Pieces::new(&bytes, is_last, life);
            report.damages += recover(&mut pieces, &mut number, &mut recovery);
            let whole = pieces.at() as u64;
            if whole < bytes.len() as u64 {
                report.torn_bytes += bytes.len() as u64 - whole;
                let file = OpenOptions::new().write(true).open(&path);
                let cut = file.and_then(|file| file.set_len(whole).and_then(|()| file.sync_all()));
                cut.map_err(io_error(&path))?;
            }
            segments.push_back(Segment {
                number: *segment,
                bytes: whole,
            });
        }
        let Recovered { logs, broken } = recovery.finish();
        report.logs = logs.len();
        report.entries = logs.iter().map(|log| log.entries.len()).sum();
        report.broken = broken;

        let reopened = segments
            .back()
            .filter(|last| report.damages == 0 && last.bytes < SEGMENT_BYTES);
        let file = match reopened {
            Some(last) => open_to_append(directory, last.number)?,
            None => {
                let number = numbers.last().map_or(1, |last| last + 1);
                segments.push_back(Segment { number, bytes: 0 });
                create(directory, number)?
            }
        };
        let mut store = Store {
            directory: directory.to_owned(),
            life,
            _lock: lock,
            segments,
            file: Arc::new(file),
            number: number.unwrap_or(0),
            written_number: number.unwrap_or(0),
            unwritten: Vec::new(),
            index: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            cleaning: None,
            buffer: Vec::new(),
        };
        for log in &logs {
            store.index.insert(log.before.epoch, indexed(log));
        }
        if report.damages > 0 {
            store.write_anew(&logs).map_err(io_error(directory))?;
            store.put_aside()?;
        }
        Ok((store, logs, report))
    }

    /// Everything that could be read goes into the last segment, which was just begun.
    fn write_anew(&mut self, logs: &[Stored]) -> io::Result<()> {
        for log in logs {
            let head = log.entries.last().map_or(log.before, |(entry, _)| entry.position);
            self.append(&Record::Log {
                channel: log.channel.clone(),
                before: log.before,
                head,
            });
            for (position, at_ms, key) in &log.keys {
                self.append(&Record::Key {
                    position: *position,
                    at_ms: *at_ms,
                    key: key.clone(),
                });
            }
            let mut previous_tag = log.before.tag;
            for (entry, key) in &log.entries {
                self.append(&Record::Entry {
                    entry: entry.clone(),
                    key: key.clone(),
                    previous_tag,
                });
                previous_tag = entry.position.tag;
                if self.buffer.len() as u64 > SEGMENT_BYTES / 8 {
                    self.write()?;
                }
            }
        }
        self.write()?;
        self.file.sync_data()
    }

    /// All segments but the last one go out of the way, so that damage is found once.
    fn put_aside(&mut self) -> Result<(), OpenError> {
        let aside = self.directory.join(DAMAGED);
        let refused = |error| OpenError::Aside {
            path: aside.clone(),
            error,
        };
        fs::create_dir_all(&aside).map_err(refused)?;
        for segment in self.segments.drain(..self.segments.len() - 1) {
            let path = segment_path(&self.directory, segment.number);
            fs::rename(path, segment_path(&aside, segment.number)).map_err(refused)?;
        }
        sync_directory(&self.directory).map_err(io_error(&self.directory))
    }

    /// Puts a record behind those that are to be written; gives its length.
    pub fn append(&mut self, record: &Record) -> usize {
        let before = self.buffer.len();
        self.number += 1;
        encode(self.number, record, self.life, &mut self.buffer);
        self.unwritten.extend(note(record));
        self.buffer.len() - before
    }

    /// Entries up to here are not wanted any longer.
    pub fn handle_trimmed(&mut self, before: Position) {
        if let Some(indexed) = self.index.get_mut(&before.epoch) {
            indexed.before = before;
        }
    }

    /// Writes what was appended. Where that fails, none of it is in the store, if the system allows that to be undone.
    pub fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.segments.back_mut() else {
            return Ok(());
        };
        let mut file = &*self.file;
        // What is written to a file that has no name any longer ends with this process.
        let is_there = file.metadata().map(|file| file.nlink() > 0);
        let written = is_there.and_then(|is_there| match is_there {
            true => file.write_all(&self.buffer),
            false => Err(io::Error::other(
                "the file was removed; only a restart makes another one",
            )),
        });
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(CLEAN_BYTES);
        if let Err(error) = written {
            self.number = self.written_number;
            self.unwritten.clear();
            if let Some(cleaning) = &mut self.cleaning {
                cleaning.handle_unwritten();
            }
            self.file.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.bytes += length;
        self.written_number = self.number;
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.written_at = cleaning.at;
        }
        for note in self.unwritten.drain(..) {
            match note {
                Note::Log(epoch, indexed) => drop(self.index.insert(epoch, indexed)),
                Note::Head(position) => {
                    if let Some(indexed) = self.index.get_mut(&position.epoch)
                        && position.offset > indexed.head.offset
                    {
                        indexed.head = position;
                    }
                }
                Note::Forgotten(epoch) => drop(self.index.remove(&epoch)),
            }
        }
        Ok(())
    }

    /// Cuts off what was written last, so many bytes. Nothing may be written any more.
    pub fn cut(&mut self, bytes: u64) -> io::Result<()> {
        let length = self.segments.back().map_or(0, |segment| segment.bytes);
        self.file.set_len(length.saturating_sub(bytes))
    }

    /// The file that is written to: whoever syncs it elsewhere may keep it.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Everything is written, and nothing more comes.
    pub fn end(self) -> Result<(), OpenError> {
        sync(
            &self.directory,
            self.segments.iter().map(|segment| segment.number),
        )?;
        life::end(&self.directory).map_err(io_error(&self.directory))
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Begins the next segment if this one is long. Whoever wants the last one synced does it before.
    pub fn is_full(&self) -> bool {
        self.segments
            .back()
            .is_some_and(|segment| segment.bytes >= SEGMENT_BYTES)
    }

    /// Begins the next segment.
    pub fn rotate(&mut self) -> Result<(), OpenError> {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        self.file = Arc::new(create(&self.directory, number)?);
        self.segments.push_back(Segment { number, bytes: 0 });
        Ok(())
    }

    /// Whether there is more than is worth its place: twice what is wanted, and two segments.
    pub fn wants_cleaning(&self, wanted_bytes: u64) -> bool {
        self.cleaning.is_some()
            || self.segments.len() > 1 && self.bytes() > 2 * wanted_bytes + 2 * SEGMENT_BYTES
    }

    /// Goes on with the oldest segment: what is still wanted of it is appended. `true`: it has been looked at to its end. When what
    /// was appended is written, and all of [`Store::copied_to`] synced, [`Store::delete_oldest`] is to be called.
    pub fn clean(&mut self, at_ms: u64) -> io::Result<bool> {
        let mut cleaning = match self.cleaning.take() {
            Some(cleaning) => cleaning,
            None => {
                let Some(oldest) = self.segments.front() else {
                    return Ok(false);
                };
                Cleaning {
                    bytes: fs::read(segment_path(&self.directory, oldest.number))?,
                    at: 0,
                    written_at: 0,
                    told: HashSet::new(),
                    copied_to: Vec::new(),
                }
            }
        };
        let from = cleaning.at;
        let mut pieces = Pieces::new(&cleaning.bytes[from..], false, self.life);
        let mut wanted = Vec::new();
        while pieces.at() < CLEAN_BYTES
            && let Some(piece) = pieces.next()
        {
            if let Piece::Record(_, record) = piece {
                wanted.extend(self.still_wanted(record, at_ms));
            }
        }
        cleaning.at = from + pieces.at();
        let is_known = |file: &Arc<File>| Arc::ptr_eq(file, &self.file);
        if !wanted.is_empty() && !cleaning.copied_to.iter().any(is_known) {
            cleaning.copied_to.push(self.file.clone());
        }
        for record in wanted {
            let epoch = match &record {
                Record::Log { before, .. } => before.epoch,
                Record::Entry { entry, .. } => entry.position.epoch,
                Record::Key { position, .. } => position.epoch,
                Record::Forgotten { epoch } => *epoch,
            };
            // Behind this, a copy proves nothing about what came after it.
            if cleaning.told.insert(epoch)
                && let Some(indexed) = self.index.get(&epoch)
            {
                let log = Record::Log {
                    channel: indexed.channel.clone(),
                    before: indexed.before,
                    head: indexed.head,
                };
                self.append(&log);
            }
            if !matches!(record, Record::Log { .. }) {
                self.append(&record);
            }
        }
        let is_done = cleaning.at >= cleaning.bytes.len();
        self.cleaning = Some(cleaning);
        Ok(is_done)
    }

    fn still_wanted(&self, record: Record, at_ms: u64) -> Option<Record> {
        let is_remembered = |then: u64| u128::from(at_ms.saturating_sub(then)) < KEY_WINDOW.as_millis();
        match record {
            Record::Log { before, .. } => self.index.contains_key(&before.epoch).then_some(record),
            Record::Entry {
                entry,
                key,
                previous_tag,
            } => {
                let indexed = self.index.get(&entry.position.epoch)?;
                if entry.position.offset > indexed.before.offset {
                    return Some(Record::Entry {
                        entry,
                        key,
                        previous_tag,
                    });
                }
                let key = key.filter(|_| is_remembered(entry.at_ms))?;
                Some(Record::Key {
                    position: entry.position,
                    at_ms: entry.at_ms,
                    key,
                })
            }
            Record::Key {
                position,
                at_ms: then,
                ..
            } => (is_remembered(then) && self.index.contains_key(&position.epoch)).then_some(record),
            Record::Forgotten { .. } => None,
        }
    }

    /// The files that the oldest segment was copied to: more than one if a segment was full meanwhile.
    pub fn copied_to(&self) -> &[Arc<File>] {
        self.cleaning.as_ref().map_or(&[], |cleaning| &cleaning.copied_to)
    }

    /// Deletes the oldest segment, which has been cleaned.
    pub fn delete_oldest(&mut self) -> io::Result<()> {
        if let Some(oldest) = self.segments.front() {
            fs::remove_file(segment_path(&self.directory, oldest.number))?;
            self.segments.pop_front();
            self.cleaning = None;
            sync_directory(&self.directory)?;
        }
        Ok(())
    }
}

fn note(record: &Record) -> Option<Note> {
    match record {
        Record::Log {
            channel,
            before,
            head,
        } => {
            let indexed = Indexed {
                channel: channel.clone(),
                before: *before,
                head: *head,
            };
            Some(Note::Log(before.epoch, indexed))
        }
        Record::Entry { entry, .. } => Some(Note::Head(entry.position)),
        Record::Key { .. } => None,
        Record::Forgotten { epoch } => Some(Note::Forgotten(*epoch)),
    }
}

fn indexed(log: &Stored) -> Indexed {
    Indexed {
        channel: log.channel.clone(),
        before: log.before,
        head: log.entries.last().map_or(log.before, |(entry, _)| entry.position),
    }
}

/// Hands what stands in a segment to the recovery. `number` is that of the last record before it. How many places are damaged.
pub fn recover(pieces: &mut Pieces<'_>, number: &mut Option<u64>, recovery: &mut Recovery) -> usize {
    let mut damages = 0;
    for piece in pieces {
        match piece {
            Piece::Record(of, record) => {
                // A number that is missing is a record that is missing, and nobody knows whose.
                if number.is_some_and(|number| of != number + 1) {
                    damages += 1;
                    recovery.handle_damage(None);
                }
                *number = Some(of);
                recovery.handle_record(record);
            }
            Piece::Damage(epoch) => {
                damages += 1;
                recovery.handle_damage(epoch);
                // One record of a log that is known has one number; what comes after anything else is not held against it.
                *number = number.filter(|_| epoch.is_some()).map(|number| number + 1);
            }
            Piece::Torn => {}
        }
    }
    damages
}

/// What can be seen of a directory by somebody who does not use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outside {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments that were put aside because something in them was damaged.
    pub damaged: usize,
    /// Another process uses it.
    pub is_used: bool,
}

/// Looks at a directory and changes nothing in it. Fails where a process like this one could not use it.
pub fn look(directory: &Path) -> Result<Outside, OpenError> {
    let mut bytes = 0;
    for number in segment_numbers(directory)? {
        let path = segment_path(directory, number);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => bytes += file.metadata().map_or(0, |file| file.len()),
            // Whoever uses it has just deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&path)(error)),
        }
    }
    let aside = directory.join(DAMAGED);
    let damaged = match aside.is_dir() {
        true => segment_numbers(&aside)?.len(),
        false => 0,
    };
    let path = directory.join(LOCK);
    let is_used = path.is_file()
        && match lock(directory) {
            Ok(_) => false,
            Err(OpenError::Used(_)) => true,
            Err(error) => return Err(error),
        };
    Ok(Outside {
        bytes,
        damaged,
        is_used,
    })
}

/// Makes what is written in these segments survive a power failure.
fn sync(directory: &Path, segments: impl Iterator<Item = u64>) -> Result<(), OpenError> {
    for number in segments {
        let path = segment_path(directory, number);
        let file = File::open(&path);
        file.and_then(|file| file.sync_data()).map_err(io_error(&path))?;
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Used(directory.to_owned())),
        Err(error) => Err(OpenError::Io {
            path,
            error: error.into(),
        }),
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.log"))
}

/// The segments of a directory, in order. Other files are left alone.
fn segment_numbers(directory: &Path) -> Result<Vec<u64>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error(directory))? {
        let name = entry.map_err(io_error(directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_to_append(directory: &Path, number: u64) -> Result<File, OpenError> {
    let path = segment_path(directory, number);
    let file = OpenOptions::new().append(true).open(&path);
    file.map_err(io_error(&path))
}

fn create(directory: &Path, number: u64) -> Result<File, OpenError> {
    let path = segment_path(directory, number);
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(&path)
        .map_err(io_error(&path))?;
    sync_directory(directory).map_err(io_error(directory))?;
    Ok(file)
}

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use switchboard_hub::log::{Draft, tag};
use switchboard_proto::entry::{Entry, Key};
use switchboard_proto::payload::Payload;

use super::*;

/// A directory that is gone with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("switchboard-store-{:016x}", u64::from_ne_bytes(random));
        Directory(std::env::temp_dir().join(name))
    }

    fn open(&self) -> (Store, BTreeMap<String, Stored>, Report) {
        let (store, logs, report) = Store::open(&self.0, Fsync::Interval, [1, 2]).unwrap();
        let by_name = logs.into_iter().map(|log| (log.channel.to_string(), log));
        (store, by_name.collect(), report)
    }

    fn files(&self) -> Vec<PathBuf> {
        let numbers = segment_numbers(&self.0).unwrap();
        numbers
            .into_iter()
            .map(|number| segment_path(&self.0, number))
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// A channel that somebody publishes to.
struct Channel {
    name: ChannelName,
    head: Position,
}

impl Channel {
    fn begin(store: &mut Store, name: &str) -> Channel {
        let name = ChannelName::parse(name).unwrap();
        let head = Position::start(Epoch::of(&name, 7));
        store.append(&Record::Log {
            channel: name.clone(),
            before: head,
            head,
        });
        Channel { name, head }
    }

    fn publish(&mut self, store: &mut Store, text: &str, key: Option<&str>, at_ms: u64) {
        let draft = Draft {
            from: None,
            payload: Payload::text(text),
            key: None,
            conflate: None,
        };
        let position = Position {
            offset: self.head.offset + 1,
            tag: tag(&draft, at_ms),
            ..self.head
        };
        store.append(&Record::Entry {
            entry: Arc::new(Entry {
                position,
                previous: self.head.offset,
                at_ms,
                from: None,
                conflate: None,
                payload: draft.payload,
            }),
            key: key.and_then(Key::parse),
            previous_tag: self.head.tag,
        });
        self.head = position;
    }
}

fn texts(stored: &Stored) -> Vec<&str> {
    stored
        .entries
        .iter()
        .map(|(entry, _)| entry.payload.as_str().unwrap())
        .collect()
}

/// Three channels, a few records of each among those of the others.
fn filled(directory: &Directory) {
    let (mut store, _, _) = directory.open();
    let mut channels: Vec<_> = ["a", "b", "room:42"]
        .iter()
        .map(|name| Channel::begin(&mut store, name))
        .collect();
    for round in 0..3 {
        for channel in &mut channels {
            channel.publish(&mut store, &format!("{} {round}", channel.name), Some("k"), round);
        }
    }
    store.write().unwrap();
}

#[test]
fn what_was_written_is_found_again_and_gone_on_with() {
    let directory = Directory::new();
    filled(&directory);
    let (mut store, logs, report) = directory.open();
    assert_eq!(
        (report.logs, report.entries, report.damages, report.torn_bytes),
        (3, 9, 0, 0)
    );
    assert_eq!(texts(&logs["a"]), ["a 0", "a 1", "a 2"]);
    let mut channel = Channel {
        name: logs["a"].channel.clone(),
        head: logs["a"].entries[2].0.position,
    };
    channel.publish(&mut store, "a 3", None, 9);
    store.write().unwrap();
    drop(store);
    let (_store, logs, report) = directory.open();
    assert_eq!(report.damages, 0);
    assert_eq!(texts(&logs["a"]), ["a 0", "a 1", "a 2", "a 3"]);
    assert_eq!(directory.files().len(), 1, "a short segment is gone on with");
}

#[test]
fn a_directory_has_one_user() {
    let directory = Directory::new();
    let (store, _, _) = directory.open();
    assert!(matches!(
        Store::open(&directory.0, Fsync::Interval, [1, 2]),
        Err(OpenError::Used(_))
    ));
    drop(store);
    directory.open();
}

#[test]
fn a_record_that_was_not_written_to_its_end_is_cut_off_at_whatever_byte() {
    let directory = Directory::new();
    filled(&directory);
    let path = directory.files().remove(0);
    let whole = fs::read(&path).unwrap();
    let mut pieces = Pieces::new(&whole, true, Life::default());
    let mut last = 0;
    while let Some(Piece::Record(..)) = {
        let at = pieces.at();
        let piece = pieces.next();
        last = if piece.is_some() { at } else { last };
        piece
    } {}
    for length in last..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut store, logs, report) = directory.open();
        assert_eq!(
            (report.damages, report.torn_bytes),
            (0, (length - last) as u64),
            "{length}"
        );
        assert_eq!(texts(&logs["room:42"]), ["room:42 0", "room:42 1"]);
        assert_eq!(texts(&logs["a"]).len(), 3);
        // What comes next comes where the torn one had been.
        let mut channel = Channel {
            name: logs["room:42"].channel.clone(),
            head: logs["room:42"].entries[1].0.position,
        };
        channel.publish(&mut store, "next", None, 9);
        store.write().unwrap();
        drop(store);
        let (_store, logs, report) = directory.open();
        assert_eq!(report.damages, 0);
        assert_eq!(texts(&logs["room:42"]), ["room:42 0", "room:42 1", "next"]);
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_one_channel_and_never_gives_a_wrong_message() {
    let directory = Directory::new();
    filled(&directory);
    let path = directory.files().remove(0);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let directory = Directory::new();
        fs::create_dir_all(&directory.0).unwrap();
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(directory.0.join(path.file_name().unwrap()), &damaged).unwrap();
        let (store, logs, report) = directory.open();
        assert_eq!((report.damages, report.broken.len()), (1, 1), "byte {at}");
        assert_eq!(logs.len(), 2, "byte {at}");
        for (name, log) in &logs {
            let expected: Vec<_> = (0..3).map(|round| format!("{name} {round}")).collect();
            assert_eq!(texts(log), expected, "byte {at}");
        }
        drop(store);
        // It is found once: the next time everything that could be read is whole.
        let (_store, again, report) = directory.open();
        assert_eq!(
            (report.damages, report.broken.len(), report.logs),
            (0, 0, 2),
            "byte {at}"
        );
        assert!(again.keys().eq(logs.keys()));
        assert_eq!(fs::read_dir(directory.0.join("damaged")).unwrap().count(), 1);
    }
}

#[test]
fn a_segment_that_is_missing_breaks_whatever_may_have_been_in_it() {
    let directory = Directory::new();
    let (mut store, _, _) = directory.open();
    let mut quiet = Channel::begin(&mut store, "quiet");
    quiet.publish(&mut store, "1", None, 1);
    let mut loud = Channel::begin(&mut store, "loud");
    for number in 0..3 {
        loud.publish(&mut store, &number.to_string(), None, 1);
        store.write().unwrap();
        store.rotate().unwrap();
    }
    drop(store);
    let files = directory.files();
    fs::remove_file(&files[1]).unwrap();
    let (_store, logs, report) = directory.open();
    let broken: BTreeSet<_> = report
        .broken
        .iter()
        .map(|broken| broken.channel.as_ref().unwrap().to_string())
        .collect();
    assert!(logs.is_empty());
    assert_eq!(broken, BTreeSet::from(["loud".to_owned(), "quiet".to_owned()]));
}

/// Publishes until segments are cleaned, and looks after each whether everything that is kept would be found.
#[test]
fn what_is_not_wanted_any_longer_frees_its_place_and_the_rest_stays() {
    const KEPT: u64 = 20;
    let directory = Directory::new();
    let (mut store, _, _) = directory.open();
    let mut old = Channel::begin(&mut store, "old");
    old.publish(&mut store, "of long ago", Some("once"), 1_000);
    let empty = Channel::begin(&mut store, "empty");
    let gone = Channel::begin(&mut store, "gone");
    let mut busy = Channel::begin(&mut store, "busy");
    store.append(&Record::Forgotten {
        epoch: gone.head.epoch,
    });
    let padding = "x".repeat(60_000);
    let mut positions = vec![busy.head];
    for number in 1..=1_500u64 {
        busy.publish(
            &mut store,
            &format!("{number} {padding}"),
            Some(&number.to_string()),
            number,
        );
        positions.push(busy.head);
        store.write().unwrap();
        if let Some(before) = number.checked_sub(KEPT) {
            store.handle_trimmed(positions[before as usize]);
        }
        if store.is_full() {
            store.rotate().unwrap();
        }
        while store.wants_cleaning(KEPT * 60_000) {
            let is_done = store.clean(number).unwrap();
            store.write().unwrap();
            if is_done {
                store.delete_oldest().unwrap();
            }
        }
    }
    assert!(store.bytes() < 4 * SEGMENT_BYTES, "{} bytes", store.bytes());
    let on_disk: u64 = directory
        .files()
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(on_disk, store.bytes());
    drop(store);
    let (_store, logs, report) = directory.open();
    assert_eq!((report.damages, report.broken.len()), (0, 0));
    assert_eq!(logs.keys().collect::<Vec<_>>(), ["busy", "empty", "old"]);
    assert_eq!(texts(&logs["old"]), ["of long ago"]);
    assert_eq!(logs["empty"].before, empty.head);
    let busy = &logs["busy"];
    assert!(busy.entries.len() as u64 >= KEPT);
    assert_eq!(busy.entries.last().unwrap().0.position, positions[1_500]);
    assert!(
        busy.keys.len() + busy.entries.len() >= 1_500,
        "all keys are in their window"
    );
}

/// Each of them is to be synced before the oldest segment goes: the copies are all that is left of what was in it.
#[test]
fn copies_of_a_segment_may_be_in_several_others() {
    let directory = Directory::new();
    let (mut store, _, _) = directory.open();
    let mut kept = Channel::begin(&mut store, "kept");
    for at_ms in 0..20 {
        kept.publish(&mut store, &"x".repeat(CLEAN_BYTES / 4), None, at_ms);
    }
    store.write().unwrap();
    store.rotate().unwrap();
    let mut files = vec![store.file().clone()];
    assert!(!store.clean(20).unwrap(), "there is more");
    store.write().unwrap();
    store.rotate().unwrap();
    files.push(store.file().clone());
    while !store.clean(20).unwrap() {}
    store.write().unwrap();
    let is_same = |(one, other)| Arc::ptr_eq(one, other);
    assert_eq!(store.copied_to().len(), files.len());
    assert!(store.copied_to().iter().zip(&files).all(is_same));

    store.delete_oldest().unwrap();
    assert!(store.copied_to().is_empty());
    drop(store);
    let (_store, logs, _report) = directory.open();
    assert_eq!(logs["kept"].entries.len(), 20);
}

#[test]
fn a_copy_that_could_not_be_written_is_made_again_before_its_segment_goes() {
    let directory = Directory::new();
    let (mut store, _, _) = directory.open();
    let mut kept = Channel::begin(&mut store, "kept");
    for at_ms in 0..20 {
        kept.publish(&mut store, &"x".repeat(CLEAN_BYTES / 4), None, at_ms);
    }
    store.write().unwrap();
    store.rotate().unwrap();
    assert!(!store.clean(20).unwrap(), "there is more");
    fs::remove_file(&directory.files()[1]).unwrap();
    assert!(store.write().is_err());
    store.rotate().unwrap();
    while !store.clean(20).unwrap() {
        store.write().unwrap();
    }
    store.write().unwrap();
    store.delete_oldest().unwrap();
    drop(store);
    let (_store, logs, _report) = directory.open();
    assert_eq!(logs["kept"].entries.len(), 20);
}

#[test]
fn what_cannot_be_put_aside_is_named() {
    let directory = Directory::new();
    {
        let (mut store, ..) = directory.open();
        let mut channel = Channel::begin(&mut store, "a");
        channel.publish(&mut store, "damaged", None, 1);
        channel.publish(&mut store, "whole", None, 2);
        store.write().unwrap();
    }
    let file = directory.files().remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"damaged").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::write(directory.0.join("damaged"), "").unwrap();
    let Err(error) = Store::open(&directory.0, Fsync::Interval, [1, 2]).map(|_| ()) else {
        panic!("a file is no place for others")
    };
    let words = error.to_string();
    assert!(
        words.contains("cannot be put aside") && words.contains("/damaged"),
        "{words}"
    );
}

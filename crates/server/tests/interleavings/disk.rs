//! What the thread that writes shares with the homes and with the thread that syncs.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use switchboard_hub::broker::BrokerError;
use switchboard_hub::logs::durable::RecordNumber;

use crate::in_every_order;
use crate::queues::unbounded::Sender;
use crate::queues::{bounded, unbounded};

/// What the files of the server take from their parent.
mod sync {
    pub use crate::queues::unbounded as mpsc;
    pub use loom::sync::{Arc, Mutex, atomic};
}

#[path = "../../src/broker/disk/progress.rs"]
mod progress;
#[path = "../../src/broker/disk/unsynced.rs"]
mod unsynced;

use progress::Progress;
use unsynced::unsynced;

/// To the home: have a turn.
struct Look;

/// By the writer.
fn wake(is_wanted: bool, home: &Sender<Look>) {
    if is_wanted {
        home.send(Look).unwrap();
    }
}

#[test]
fn a_home_hears_of_everything_that_is_stored() {
    in_every_order(|| {
        let progress = Arc::new(Progress::default());
        let (home, turns) = unbounded::channel();
        let writer = thread::spawn({
            let progress = progress.clone();
            move || {
                for number in 1..=3 {
                    wake(progress.handle_stored(RecordNumber(number)), &home);
                }
            }
        });
        let mut told = 0;
        // It has turns for other reasons, too, and looks at each.
        let mut look = || {
            let Some((RecordNumber(stored), refused)) = progress.look() else {
                return;
            };
            assert!(stored >= told, "{stored} after {told}");
            assert_eq!(refused, None);
            told = stored;
        };
        look();
        while let Ok(Look) = turns.recv() {
            look();
        }
        assert_eq!(told, 3);
        writer.join().unwrap();
    });
}

#[test]
fn what_was_stored_before_a_refusal_is_never_refused_and_what_is_stored_after_it_comes_later() {
    in_every_order(|| {
        let progress = Arc::new(Progress::default());
        let (home, turns) = unbounded::channel();
        let (resume, resumed) = unbounded::channel();
        let writer = thread::spawn({
            let progress = progress.clone();
            move || {
                wake(progress.handle_stored(RecordNumber(1)), &home);
                wake(progress.handle_stored(RecordNumber(2)), &home);
                wake(progress.handle_refused(BrokerError::Overloaded), &home);
                // Everything of this home is passed over until it has heard of the refusal.
                resumed.recv().unwrap();
                wake(progress.handle_stored(RecordNumber(7)), &home);
            }
        });
        let (mut told, mut refusals) = (0, 0);
        while let Ok(Look) = turns.recv() {
            let Some((RecordNumber(stored), refused)) = progress.look() else {
                continue;
            };
            assert!(stored >= told, "{stored} after {told}");
            told = stored;
            if let Some(error) = refused {
                assert_eq!((told, error), (2, BrokerError::Overloaded));
                refusals += 1;
                resume.send(()).unwrap();
            }
        }
        assert_eq!((told, refusals), (7, 1));
        writer.join().unwrap();
    });
}

#[test]
fn a_home_that_looks_at_every_turn_has_never_more_than_three_wake_ups_waiting() {
    in_every_order(|| {
        let progress = Arc::new(Progress::default());
        // Two, and one that has its slot and cannot be taken out yet.
        let (home, mut turns) = bounded::channel(3);
        let writer = thread::spawn({
            let progress = progress.clone();
            move || {
                for number in 1..=4 {
                    if progress.handle_stored(RecordNumber(number)) {
                        assert!(home.try_send(Look).is_ok(), "no room");
                    }
                }
            }
        });
        for _turn in 0..4 {
            // A turn takes all there is and looks then.
            while turns.try_recv().is_ok() {}
            let _news = progress.look();
        }
        writer.join().unwrap();
    });
}

#[test]
fn what_a_home_keeps_is_told_as_it_said_last() {
    in_every_order(|| {
        let progress = Arc::new(Progress::default());
        let home = thread::spawn({
            let progress = progress.clone();
            move || [10, 20].into_iter().for_each(|bytes| progress.keep(bytes))
        });
        let (earlier, later) = (progress.wanted_bytes(), progress.wanted_bytes());
        assert!(earlier <= later && [0, 10, 20].contains(&later));
        home.join().unwrap();
        assert_eq!(progress.wanted_bytes(), 20);
    });
}

/// A file that knows how much of it survives a power failure.
#[derive(Default)]
struct File {
    written: AtomicU64,
    synced: AtomicU64,
}

impl File {
    fn write(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    fn sync(&self) {
        let written = self.written.load(Ordering::Relaxed);
        self.synced.store(written, Ordering::Relaxed);
    }
}

/// Has one thread do what `write` does and another one sync. When nothing is left to do, all of each file must be synced.
fn sync_while(files: usize, write: fn(&[Arc<File>], &unsynced::Unsynced<File>)) {
    in_every_order(move || {
        let files: Vec<_> = (0..files).map(|_| Arc::new(File::default())).collect();
        let (unsynced, wanted) = unsynced::<File>();
        let syncer = thread::spawn(move || {
            while let Some(files) = wanted.next(thread::yield_now) {
                for file in files {
                    file.sync();
                }
            }
        });
        write(&files, &unsynced);
        drop(unsynced);
        syncer.join().unwrap();
        for (number, file) in files.iter().enumerate() {
            let (written, synced) = (
                file.written.load(Ordering::Relaxed),
                file.synced.load(Ordering::Relaxed),
            );
            assert_eq!(synced, written, "file {number}");
        }
    });
}

#[test]
fn whatever_is_written_is_in_a_sync_that_begins_later() {
    sync_while(1, |files, unsynced| {
        for _ in 0..3 {
            files[0].write();
            unsynced.want(&files[0]);
        }
    });
}

#[test]
fn what_is_written_to_the_next_segment_before_the_last_one_is_synced_is_synced_too() {
    sync_while(2, |files, unsynced| {
        files[0].write();
        unsynced.want(&files[0]);
        unsynced.want_last(&files[0]);
        files[1].write();
        unsynced.want(&files[1]);
    });
}

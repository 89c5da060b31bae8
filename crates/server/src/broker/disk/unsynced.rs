//! Which files are to be synced: handed from the thread that writes to the one that syncs.
//!
//! ```text
//!   writer: writes, then wants ── file, unless it is wanted ──► syncer: waits, takes the wish back, then syncs
//! ```
//!
//! A file is wanted once per sync, however often it is written to. Whatever was written when it was wanted is in a sync that begins
//! later.
//!
//! `tests/interleavings` takes this file with something else for `sync` and goes through every order of its steps.

use super::sync::Arc;
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::mpsc::{self, Receiver, Sender};

/// The end of the thread that writes.
pub struct Unsynced<F> {
    files: Sender<Arc<F>>,
    /// The file that is written to is with the syncer, which has not begun with it.
    is_wanted: Arc<AtomicBool>,
}

/// The end of the thread that syncs.
pub struct Wanted<F> {
    files: Receiver<Arc<F>>,
    is_wanted: Arc<AtomicBool>,
}

/// Both ends. Bounded by use: one wish at a time, and one for each segment that is full.
pub fn unsynced<F>() -> (Unsynced<F>, Wanted<F>) {
    let (sender, receiver) = mpsc::channel();
    let is_wanted = Arc::new(AtomicBool::new(false));
    let wanted = Wanted {
        files: receiver,
        is_wanted: is_wanted.clone(),
    };
    let unsynced = Unsynced {
        files: sender,
        is_wanted,
    };
    (unsynced, wanted)
}

impl<F> Unsynced<F> {
    /// The file that is written to is to be synced, also what was written to it just now.
    pub fn want(&self, file: &Arc<F>) {
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            let _stopped = self.files.send(file.clone());
        }
    }

    /// A file that is not written to any more is to be synced, too.
    pub fn want_last(&self, file: &Arc<F>) {
        let _stopped = self.files.send(file.clone());
        // The next one that is wanted is another, which the syncer does not have.
        self.is_wanted.swap(false, Ordering::AcqRel);
    }
}

impl<F> Wanted<F> {
    /// Waits until a file is wanted, and `pause`s so that more may come. Those that are to be synced now, each once; `None` when there
    /// will be none any more.
    pub fn next(&self, pause: impl FnOnce()) -> Option<Vec<Arc<F>>> {
        let mut files = vec![self.files.recv().ok()?];
        pause();
        // What is written from here on asks anew. A swap: what was written before a wish that it takes back is seen by the sync.
        self.is_wanted.swap(false, Ordering::AcqRel);
        while let Ok(file) = self.files.try_recv() {
            if !files.iter().any(|known| Arc::ptr_eq(known, &file)) {
                files.push(file);
            }
        }
        Some(files)
    }
}

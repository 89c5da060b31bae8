//! What one client of this process writes down: a line at a time, handed to the system at once.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;

use switchboard_check::log::{Line, Writer};
use tokio::sync::watch;

use crate::clock::RunClock;

/// One client's log.
pub struct Journal {
    clock: RunClock,
    writer: RefCell<Writer>,
    is_whole: Cell<bool>,
    /// How many lines there are.
    lines: watch::Sender<u64>,
}

impl Journal {
    /// A new one in the directory of a run.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(directory: &Path, client: &str, clock: RunClock) -> io::Result<Journal> {
        Ok(Journal {
            clock,
            writer: RefCell::new(Writer::create(directory, client)?),
            is_whole: Cell::new(false),
            lines: watch::Sender::new(0),
        })
    }

    /// Writes a line that happens now. Behind `ended` nothing is written: what follows is the end of the harness.
    ///
    /// # Panics
    /// The line cannot be written: without logs there is no history to be judged.
    pub fn write(&self, event: &'static str, line: Line<'_>) {
        if self.is_whole.get() {
            return;
        }
        self.is_whole.set(event == "ended");
        let line = Line {
            at: self.clock.micros(),
            event: Cow::Borrowed(event),
            ..line
        };
        let mut writer = self.writer.borrow_mut();
        let written = writer.write(&line).and_then(|()| writer.flush());
        if let Err(error) = written {
            panic!("the log of a client cannot be written: {error}");
        }
        self.lines.send_modify(|lines| *lines += 1);
    }

    /// How many lines there are, and will be.
    pub fn lines(&self) -> watch::Receiver<u64> {
        self.lines.subscribe()
    }
}

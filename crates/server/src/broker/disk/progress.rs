//! How far the records of one home are: the writer says what happened and calls the home, the home takes the call back and looks.
//!
//! ```text
//!   writer: what happened, then the call ────► home: the call back, then what happened
//! ```
//!
//! The call is one flag and whoever raises it wakes the home: at most one wake-up is under way that the home has not answered.
//! Flags are swapped, never just stored, so that who changes one sees all that was done before whatever change it finds.
//! After a refusal the writer stores nothing of a home until that home has looked and said so ([`super::writer::Order::Resume`]).
//!
//! `tests/interleavings` takes this file with something else for `sync` and goes through every order of its steps.

use switchboard_hub::broker::BrokerError;
use switchboard_hub::logs::durable::RecordNumber;

use super::sync::Mutex;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the module.
#[derive(Default)]
pub struct Progress {
    /// Up to this number they are stored.
    stored: AtomicU64,
    /// Those after it are not, because of this.
    refused: Mutex<Option<BrokerError>>,
    is_refused: AtomicBool,
    /// The home was asked to look, and has not looked yet.
    is_called: AtomicBool,
    /// What its logs keep, about.
    wanted_bytes: AtomicU64,
}

impl Progress {
    /// By the writer: records are stored up to this one. Whether the home is to be woken.
    #[must_use]
    pub fn handle_stored(&self, up_to: RecordNumber) -> bool {
        self.stored.store(up_to.0, Ordering::Release);
        self.call()
    }

    /// By the writer: the records after those that are stored are not. Whether the home is to be woken.
    #[must_use]
    pub fn handle_refused(&self, error: BrokerError) -> bool {
        if let Ok(mut refused) = self.refused.lock() {
            *refused = Some(error);
        }
        self.is_refused.swap(true, Ordering::AcqRel);
        self.call()
    }

    /// A home that was called and has not looked is awake, or about to be.
    fn call(&self) -> bool {
        !self.is_called.swap(true, Ordering::AcqRel)
    }

    /// By the home: what happened since its last look. Costs one read where there is nothing.
    pub fn look(&self) -> Option<(RecordNumber, Option<BrokerError>)> {
        if !self.is_called.load(Ordering::Relaxed) || !self.is_called.swap(false, Ordering::AcqRel) {
            return None;
        }
        // In this order: what was stored was stored before anything was refused.
        let refused = match self.is_refused.swap(false, Ordering::AcqRel) {
            true => self.refused.lock().ok().and_then(|mut refused| refused.take()),
            false => None,
        };
        Some((RecordNumber(self.stored.load(Ordering::Acquire)), refused))
    }

    /// By the home: what its logs keep.
    pub fn keep(&self, bytes: usize) {
        self.wanted_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// By the writer: what the logs of the home keep, as it said last.
    pub fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes.load(Ordering::Relaxed)
    }
}

//! The embedded broker: logs in the memory of the process. Completes at once. What it keeps is gone with the process.

use std::collections::VecDeque;

use switchboard_hub::broker::{Completion, Request};
use switchboard_hub::logs::{Logs, LogsSettings};
use switchboard_proto::time::Time;

use super::{Broker, Seat};

/// Logs looked at for expiry in one call of `handle_timeout`.
pub(super) const EXPIRY_BUDGET: usize = 1_280;

/// See the module.
pub struct Memory {
    logs: Logs,
}

impl Memory {
    /// An empty one.
    pub fn new(seat: &Seat) -> Memory {
        let settings = LogsSettings {
            channels_max: seat.channels_max,
            ..LogsSettings::default()
        };
        let [epoch_seed, hash_seed] = seat.seeds;
        Memory {
            logs: Logs::new(epoch_seed, hash_seed, settings, seat.namespaces.clone()),
        }
    }
}

impl Broker for Memory {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        self.logs.handle_request(now, at_ms, request, completions);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.logs.handle_timeout(now, EXPIRY_BUDGET);
    }
}

//! Opening many connections, a bounded number at once.

use std::io;

use super::connection::{Connection, Lost};
use super::returning::Returning;
use super::{Group, Worker, enroll, now_ns, tell};
use crate::control::{Open, Report, Role};

/// Without a connection becoming ready for so long, nothing more is hoped for.
const PATIENCE_NS: u64 = 15_000_000_000;

/// Connections of one group on their way.
pub(super) struct Opening {
    group: u32,
    count: u32,
    begun: u32,
    ready: u32,
    in_flight: u32,
    error: Option<String>,
    progress_ns: u64,
}

impl Opening {
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    pub(super) fn ready(&self) -> u32 {
        self.ready
    }

    pub(super) fn handle_ready(&mut self, now: u64) {
        self.ready += 1;
        self.progress_ns = now;
    }

    /// One is enough: the next would meet the same.
    pub(super) fn handle_failed(&mut self, lost: &Lost) {
        self.error.get_or_insert(lost.to_string());
    }

    fn may_begin(&self) -> bool {
        self.error.is_none() && self.begun < self.count && self.begun - self.ready < self.in_flight
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || self.ready == self.count
    }
}

impl Worker {
    pub(super) fn begin_open(&mut self, open: Open) -> io::Result<()> {
        self.opening = Some(Opening {
            group: open.group,
            count: open.count,
            begun: 0,
            ready: 0,
            in_flight: open.in_flight.max(1),
            error: None,
            progress_ns: now_ns(),
        });
        let group = Group {
            sequences: vec![0; open.count as usize],
            members: Vec::with_capacity(open.count as usize),
            lost: 0,
            words: None,
            returning: match open.role {
                Role::Returning => Some(Returning::new(open.count)?),
                _ => None,
            },
            open,
        };
        self.groups.insert(group.open.group, group);
        Ok(())
    }

    /// Begins as many connections as may be under way.
    pub(super) fn pump_opening(&mut self, now: u64) -> io::Result<()> {
        let Some(opening) = &mut self.opening else {
            return Ok(());
        };
        while opening.may_begin() {
            let Some(group) = self.groups.get_mut(&opening.group) else {
                break;
            };
            let begun = Connection::begin(&group.open, group.open.first + opening.begun);
            let begun = begun.and_then(|connection| enroll(&self.epoll, &mut self.connections, connection));
            match begun {
                Ok(key) => group.members.push(key),
                Err(lost) => opening.handle_failed(&lost),
            }
            opening.begun += 1;
        }
        if !opening.is_over() && now > opening.progress_ns + PATIENCE_NS {
            let waiting = opening.begun - opening.ready;
            opening.error = Some(format!(
                "{waiting} connections got no further for {} s: the handshake or an answer to the hello is missing",
                PATIENCE_NS / 1_000_000_000
            ));
        }
        if opening.is_over()
            && let Some(opening) = self.opening.take()
        {
            tell(&Report::Opened {
                ready: opening.ready,
                error: opening.error,
            })?;
        }
        Ok(())
    }
}

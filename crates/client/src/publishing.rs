//! When publications are said: in their order, some at a time, and none before one that was refused for now.
//!
//! ```text
//!  asked ──► waiting ── the window has room, and there is no pause ──► on their way ── answered ──► (gone)
//!               ▲                                                          │
//!               └────────── refused for now, or the connection lost ───────┘
//! ```
//!
//! A refusal begins a pause: nothing is said, new or again, before all that is on its way has its answer and the time that the server
//! wants is over. The server refuses what is behind a refused one only until the client has heard of it, so whatever was said earlier
//! could overtake it. After a pause the window grows anew, from one: most of what a server wants later would be refused again.

use std::collections::BTreeSet;

use switchboard_proto::time::Time;

/// Publications on their way at once, over one connection that keeps their order. Beyond: they wait.
pub(crate) const WINDOW_MAX: usize = 64;

/// See the module. Publications are known by the ids of their commands, which are in the order in which they were asked.
#[derive(Debug)]
pub(crate) struct Publishing {
    waiting: BTreeSet<u64>,
    on_their_way: usize,
    window: usize,
    /// There is a pause, at least until then.
    again_at: Option<Time>,
}

impl Publishing {
    pub(crate) fn new() -> Publishing {
        Publishing {
            waiting: BTreeSet::new(),
            on_their_way: 0,
            window: WINDOW_MAX,
            again_at: None,
        }
    }

    /// It is to be said.
    pub(crate) fn handle_asked(&mut self, id: u64) {
        self.waiting.insert(id);
    }

    /// The one that may be said now, where no more than `window_max` are on their way.
    pub(crate) fn poll_next(&mut self, now: Time, window_max: usize) -> Option<u64> {
        if let Some(at) = self.again_at {
            if now < at || self.on_their_way > 0 {
                return None;
            }
            self.again_at = None;
        }
        let has_room = self.on_their_way < self.window.min(window_max);
        self.waiting.first().copied().filter(|_| has_room)
    }

    /// It was said.
    pub(crate) fn handle_said(&mut self, id: u64) {
        self.waiting.remove(&id);
        self.on_their_way += 1;
    }

    /// The server has taken it, or never will.
    pub(crate) fn handle_answered(&mut self, id: u64) {
        // To one that was not said nobody answers who means well.
        if !self.waiting.remove(&id) {
            self.on_their_way = self.on_their_way.saturating_sub(1);
            self.window = (self.window + 1).min(WINDOW_MAX);
        }
    }

    /// The server does not take it before `at`.
    pub(crate) fn handle_refused(&mut self, id: u64, at: Time) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        self.waiting.insert(id);
        self.window = 1;
        self.again_at = Some(self.again_at.map_or(at, |known| known.max(at)));
    }

    /// Nothing is on its way any more; these wait.
    pub(crate) fn handle_disconnected(&mut self, waiting: impl Iterator<Item = u64>) {
        self.on_their_way = 0;
        self.waiting = waiting.collect();
    }

    /// When a pause is over that no answer ends.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let is_awaited = self.on_their_way == 0 && !self.waiting.is_empty();
        self.again_at.filter(|_| is_awaited)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Time = Time::ZERO;

    fn say(publishing: &mut Publishing, now: Time) -> Vec<u64> {
        let mut said = Vec::new();
        while let Some(id) = publishing.poll_next(now, WINDOW_MAX) {
            publishing.handle_said(id);
            said.push(id);
        }
        said
    }

    #[test]
    fn nothing_is_said_before_what_was_refused() {
        let mut publishing = Publishing::new();
        (1..=4).for_each(|id| publishing.handle_asked(id));
        assert_eq!(say(&mut publishing, NOW), [1, 2, 3, 4]);
        publishing.handle_answered(1);
        let soon = NOW + Duration::from_secs(1);
        publishing.handle_refused(2, soon);
        publishing.handle_asked(5);
        // The others may still be taken.
        assert_eq!(
            (say(&mut publishing, soon), publishing.deadline()),
            (vec![], None)
        );
        publishing.handle_answered(3);
        assert!(say(&mut publishing, soon).is_empty());
        publishing.handle_refused(4, NOW);
        assert_eq!(
            (say(&mut publishing, NOW), publishing.deadline()),
            (vec![], Some(soon))
        );
        // One, then two, and so on.
        assert_eq!(
            (say(&mut publishing, soon), publishing.deadline()),
            (vec![2], None)
        );
        publishing.handle_answered(2);
        assert_eq!(say(&mut publishing, soon), [4, 5]);
    }

    #[test]
    fn a_connection_that_is_lost_leaves_nothing_on_its_way() {
        let mut publishing = Publishing::new();
        (1..=100).for_each(|id| publishing.handle_asked(id));
        assert_eq!(say(&mut publishing, NOW).len(), WINDOW_MAX);
        publishing.handle_answered(1);
        publishing.handle_disconnected(2..=100);
        assert_eq!(say(&mut publishing, NOW), (2..=65).collect::<Vec<_>>());
    }
}

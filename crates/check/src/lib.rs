//! Judges whether a real-time messaging server keeps its word.
//!
//! Every client of a run writes down what it asked and what it saw, and nothing else ([`log`]). The logs of a run are its
//! [`History`]; [`judge`](judge()) is a pure function from a history to a [`Verdict`] by the eleven [`Rule`]s. Nothing here knows how the
//! server works: this crate shares no code with it, on purpose, down to how a position is read ([`place`]).
//!
//! ```text
//!  clients ── lines ──► log files ──► History ──► judge ──► Verdict ── words
//!  simulator ── events ────────────────┘
//! ```
//!
//! Reading order: [`event`] (what can be written down), [`history`] (a run), [`judge`](mod@judge) (the rules), [`verdict`] (what is said of it),
//! [`log`] (files).

pub mod event;
pub mod history;
pub mod judge;
pub mod log;
pub mod payload;
pub mod place;
pub mod verdict;

pub use history::History;
pub use judge::judge;
pub use verdict::{Rule, Verdict, Violation};

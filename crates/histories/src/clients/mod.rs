//! The clients of a history, and how far they are.
//!
//! ```text
//!  Load ──► Calm ──► Heads ──► Rosters ──► End
//! ```
//!
//! Everybody is told the phase, and says when it has reached what the phase asks for. Nobody waits for a time.

pub mod node;
pub mod rust;

use std::collections::BTreeMap;

use serde::Serialize;

/// What is wanted of clients now.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Debug)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// Publish and be restless. Reached when all is subscribed for the first time.
    #[default]
    Load,
    /// Publish no more. Reached when every publication has its answer, and all is subscribed.
    Calm,
    /// Reached when every subscription is at the head of its log.
    Heads {
        /// By channel, a position.
        heads: BTreeMap<String, String>,
    },
    /// Reached when everybody who hears of others has heard of these, and of nobody else.
    Rosters {
        /// By channel, sessions in the order of their names.
        rosters: BTreeMap<String, Vec<String>>,
    },
    /// The log ends, the connection is closed.
    End,
}

impl Phase {
    /// From 0.
    pub fn number(&self) -> u8 {
        match self {
            Phase::Load => 0,
            Phase::Calm => 1,
            Phase::Heads { .. } => 2,
            Phase::Rosters { .. } => 3,
            Phase::End => 4,
        }
    }
}

/// A client, or a process of clients, has reached what a phase asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// Whose number this is.
    pub who: usize,
    /// Of the phase.
    pub phase: u8,
    /// The sessions with which it is seen in channels, as far as it knows.
    pub stands: Vec<(String, String)>,
}

//! What must have occurred in a large run, so that nobody takes a dull one for a proof.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Kind;
use crate::plan::{Sdk, Transport};

/// Something that may occur in a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Situation {
    /// A fault of this kind.
    Fault(Kind),
    /// A client of this kind went on where it was over another connection, and got something by it.
    Resumed(Sdk, Transport),
    /// A client came back as another one, with the position of the one before.
    Reloaded(Sdk),
    /// A subscription was told that nothing is missing.
    Recovered,
    /// A subscription was told that something is missing.
    NotRecovered,
    /// A gap.
    Gap,
    /// A gap in whose place newer messages of the same keys came.
    Conflated,
    /// A reset.
    Reset,
    /// A publication whose answer nobody knows.
    Unknown,
    /// A publication was in the log, its acknowledgement was lost, and it was published again: once in the log.
    Repeated,
    /// A server was killed while a client was coming back.
    KillInResume,
    /// A server was told to stop while a client was coming back.
    DrainInResume,
    /// Connections were cut while a client was coming back.
    CutInResume,
    /// What was delivered did not fit into what waits for a subscriber's socket.
    Lagged,
    /// A member was told to have joined.
    Joined,
    /// A member was told to have left.
    Left,
    /// A log had forgotten messages at the end.
    Trimmed,
}

impl Situation {
    /// All of them.
    pub fn all() -> Vec<Situation> {
        let mut all: Vec<Situation> = Kind::ALL.into_iter().map(Situation::Fault).collect();
        for sdk in [Sdk::Rust, Sdk::Js] {
            all.push(Situation::Reloaded(sdk));
            for transport in [Transport::Websocket, Transport::Sse, Transport::Poll] {
                all.push(Situation::Resumed(sdk, transport));
            }
        }
        all.extend([
            Situation::Recovered,
            Situation::NotRecovered,
            Situation::Gap,
            Situation::Conflated,
            Situation::Reset,
            Situation::Unknown,
            Situation::Repeated,
            Situation::KillInResume,
            Situation::DrainInResume,
            Situation::CutInResume,
            Situation::Lagged,
            Situation::Joined,
            Situation::Left,
            Situation::Trimmed,
        ]);
        all
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Situation::Fault(kind) => kind.text(),
            Situation::Resumed(sdk, transport) => {
                let client = format!("{sdk:?}, {transport:?}").to_lowercase();
                return write!(f, "a client ({client}) goes on over another connection");
            }
            Situation::Reloaded(sdk) => {
                let sdk = format!("{sdk:?}").to_lowercase();
                return write!(f, "a client ({sdk}) comes back as another one, from where it was");
            }
            Situation::Recovered => "a subscription is told that nothing is missing",
            Situation::NotRecovered => "a subscription is told that something is missing",
            Situation::Gap => "a gap",
            Situation::Conflated => "a gap for newer messages of the same keys",
            Situation::Reset => "a reset",
            Situation::Unknown => "a publication whose answer nobody knows",
            Situation::Repeated => "a publication is repeated whose acknowledgement was lost",
            Situation::KillInResume => "a kill while a client comes back",
            Situation::DrainInResume => "a drain while a client comes back",
            Situation::CutInResume => "a cut while a client comes back",
            Situation::Lagged => "a subscriber whose outbox is full",
            Situation::Joined => "a member joins",
            Situation::Left => "a member leaves",
            Situation::Trimmed => "a log that has forgotten messages",
        };
        f.write_str(text)
    }
}

//! One message in a channel's log.

use std::fmt;
use std::sync::Arc;

use crate::payload::Payload;
use crate::position::Position;

/// A message as the log keeps it and every subscriber gets it. Nothing in it depends on who receives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The offset of the entry before it; 0 for the first. A reader that has just read another offset has a hole.
    pub previous: u64,
    /// When it was appended, in milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
    /// The user whose session published it; set by the server. `None` for publications of the server's own API.
    pub from: Option<User>,
    /// The content.
    pub payload: Payload,
}

/// The name of a user, as authentication established it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(Arc<str>);

impl User {
    /// A user of this name.
    pub fn new(name: &str) -> User {
        User(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

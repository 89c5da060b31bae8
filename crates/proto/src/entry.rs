//! One message in a channel's log.

use std::fmt;
use std::sync::Arc;

use crate::limits::KEY_BYTES_MAX;
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
    /// Subscribers that conflate keep the newest message of each such key; those without are of one key, too.
    pub conflate: Option<Key>,
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

/// A key of 1 to [`KEY_BYTES_MAX`] bytes that the publisher chose, compared as a whole within one channel: an idempotency key or a
/// conflation key. Cheap to clone.
///
/// It says nothing about who chose it. Where users must not be able to spend each other's keys, put the user into it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
// One word: every message may have two of them, and most have none.
pub struct Key(Arc<String>);

impl Key {
    /// Checks the length: `None` if it is empty or too long. Costs two allocations.
    pub fn parse(key: &str) -> Option<Key> {
        (1..=KEY_BYTES_MAX)
            .contains(&key.len())
            .then(|| Key(Arc::new(key.to_owned())))
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_128_bytes() {
        assert_eq!(Key::parse(""), None);
        assert_eq!(Key::parse(&"x".repeat(129)), None);
        assert_eq!(Key::parse("c1-77").as_ref().map(Key::as_str), Some("c1-77"));
    }
}

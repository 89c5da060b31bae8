//! Channel names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::{CHANNEL_NAME_BYTES_MAX, CHANNEL_NAME_SEGMENTS_MAX};

/// The checked name of a channel: 1 to 255 bytes of printable UTF-8 without blanks, in at most 16 segments separated
/// by `:`, none of them empty. What stands before the first `:` is the namespace and selects the channel's settings.
///
/// `*` is kept for patterns and `$` at the beginning for the server itself; neither is in a name.
///
/// Cheap to clone: one shared allocation per name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Checks `name`. Costs one pass and one allocation.
    pub fn parse(name: &str) -> Result<ChannelName, BadChannelName> {
        if name.is_empty() {
            return Err(BadChannelName::Empty);
        }
        if name.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(BadChannelName::TooLong);
        }
        if name.starts_with('$') {
            return Err(BadChannelName::Reserved);
        }
        let mut segments = 1;
        let mut previous = ':';
        for character in name.chars() {
            match character {
                ':' if previous == ':' => return Err(BadChannelName::EmptySegment),
                ':' => segments += 1,
                '*' => return Err(BadChannelName::Reserved),
                _ if is_unprintable(character) => return Err(BadChannelName::Unprintable(character)),
                _ => {}
            }
            previous = character;
        }
        if previous == ':' {
            return Err(BadChannelName::EmptySegment);
        }
        if segments > CHANNEL_NAME_SEGMENTS_MAX {
            return Err(BadChannelName::TooManySegments);
        }
        Ok(ChannelName(name.into()))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `:`, or nothing where the name has no `:`.
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or("", |(namespace, _)| namespace)
    }
}

/// Blanks, controls, and characters that draw nothing or turn the direction of the text around them: two names that
/// look alike must not be two channels.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || matches!(character, '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF0}'..='\u{FFFD}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Why a text is not a channel name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadChannelName {
    /// It has no characters.
    #[error("a channel name is not empty")]
    Empty,
    /// It is longer than [`CHANNEL_NAME_BYTES_MAX`].
    #[error("a channel name has at most {CHANNEL_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// It has more segments than [`CHANNEL_NAME_SEGMENTS_MAX`].
    #[error("a channel name has at most {CHANNEL_NAME_SEGMENTS_MAX} segments")]
    TooManySegments,
    /// Two `:` in a row, or one at an end.
    #[error("a channel name has no empty segment: no ':' at an end, no '::'")]
    EmptySegment,
    /// It has `*`, or `$` at its beginning.
    #[error("'*' anywhere and '$' at the beginning of a channel name are reserved")]
    Reserved,
    /// A blank, a control or an invisible character.
    #[error("a channel name has no blanks, control or invisible characters ({0:?})")]
    Unprintable(char),
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<&str, BadChannelName>) {
        let result = ChannelName::parse(name);
        assert_eq!(
            result.as_ref().map(ChannelName::namespace),
            expected.as_ref().map(|namespace| *namespace)
        );
    }

    #[test]
    fn names_and_their_namespaces() {
        check("room:42", Ok("room"));
        check("lobby", Ok(""));
        check("a:b:c", Ok("a"));
        check("räume:küche/😀", Ok("räume"));
        check(&"x".repeat(255), Ok(""));
    }

    #[test]
    fn what_is_not_a_name() {
        check("", Err(BadChannelName::Empty));
        check(&"x".repeat(256), Err(BadChannelName::TooLong));
        check(":a", Err(BadChannelName::EmptySegment));
        check("a:", Err(BadChannelName::EmptySegment));
        check("a::b", Err(BadChannelName::EmptySegment));
        check(&vec!["s"; 17].join(":"), Err(BadChannelName::TooManySegments));
        check("room:*", Err(BadChannelName::Reserved));
        check("$system", Err(BadChannelName::Reserved));
        check("a b", Err(BadChannelName::Unprintable(' ')));
        check("a\u{0}", Err(BadChannelName::Unprintable('\u{0}')));
        check("a\u{202E}b", Err(BadChannelName::Unprintable('\u{202E}')));
        check("a\u{200B}", Err(BadChannelName::Unprintable('\u{200B}')));
    }
}

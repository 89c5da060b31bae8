//! Positions: where in a channel's log a subscriber is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::channel::ChannelName;

/// One life of a log. Two logs that do not continue each other never have the same epoch: it is a fingerprint of the channel's
/// name (16 bits) and 48 random ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    const RANDOM_BITS: u32 = 48;

    /// A life of this channel's log. Of `random`, the lower 48 bits count.
    pub fn of(channel: &ChannelName, random: u64) -> Epoch {
        let random = random & ((1 << Epoch::RANDOM_BITS) - 1);
        Epoch(u64::from(fingerprint(channel)) << Epoch::RANDOM_BITS | random)
    }

    /// Whether it can be a life of this channel's log. False for all of this channel's and for all but one in 65,536 of another's.
    pub fn is_of(self, channel: &ChannelName) -> bool {
        self.0 >> Epoch::RANDOM_BITS == u64::from(fingerprint(channel))
    }
}

/// FNV-1a, folded: it tells names apart that somebody has confused, and keeps nobody from making two alike.
fn fingerprint(channel: &ChannelName) -> u16 {
    let hash = channel
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
}

/// A place in one life of a log, with a fingerprint of the entry that stood there.
///
/// Clients store it as one opaque token ([`Position::token`]) and hand it back; they never look inside. The `tag` is what
/// makes it safe: after a fail-over that lost the tail of a log, the same offsets are handed out again for other messages,
/// and only the tag tells.
///
/// Offset 0 with tag 0 is the place before the first entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The life of the log.
    pub epoch: Epoch,
    /// The place in it. Strictly increasing, not necessarily dense.
    pub offset: u64,
    /// Fingerprint of the entry at that place.
    pub tag: u32,
}

/// The longest token: one version character, then base64url of at most 8 + 4 + 8 bytes.
pub const TOKEN_BYTES_MAX: usize = 1 + 27;

/// The first character of every token; another one is a format of another time.
const VERSION: char = 'p';

impl Position {
    /// The place before the first entry of this life.
    pub const fn start(epoch: Epoch) -> Position {
        Position {
            epoch,
            offset: 0,
            tag: 0,
        }
    }

    /// The token: URL-safe characters, at most [`TOKEN_BYTES_MAX`] of them.
    pub fn token(&self) -> Token {
        let offset = self.offset.to_be_bytes();
        let leading = (self.offset.leading_zeros() / 8) as usize;
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.tag.to_be_bytes());
        let length = 12 + 8 - leading;
        bytes[12..length].copy_from_slice(&offset[leading..]);
        let mut token = Token {
            text: [0; TOKEN_BYTES_MAX],
            length: 1,
        };
        token.text[0] = VERSION as u8;
        // 20 bytes are 27 characters, so the slice always suffices.
        let written = URL_SAFE_NO_PAD
            .encode_slice(&bytes[..length], &mut token.text[1..])
            .unwrap_or(0);
        token.length += written as u8;
        token
    }

    /// Reads a token. Only the exact text that [`Position::token`] makes is taken.
    pub fn parse(token: &str) -> Result<Position, BadPosition> {
        let encoded = token.strip_prefix(VERSION).ok_or(BadPosition)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadPosition);
        }
        let mut bytes = [0; 21];
        let length = URL_SAFE_NO_PAD
            .decode_slice(encoded, &mut bytes)
            .map_err(|_| BadPosition)?;
        if !(12..=20).contains(&length) || bytes.get(12).is_some_and(|first| *first == 0 && length > 12) {
            return Err(BadPosition);
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(Position {
            epoch: Epoch(number(&bytes[..8])),
            tag: number(&bytes[8..12]) as u32,
            offset: number(&bytes[12..length]),
        })
    }
}

/// Which part of a log is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// The newest messages.
    Newest,
    /// What follows this place, forwards.
    After(Position),
    /// What stands before the message at this place, backwards: the newest of these first of all.
    Before(Position),
    /// The newest message of each conflation key, of those after a place or of all.
    Latest {
        /// The place.
        after: Option<Position>,
    },
}

impl Range {
    /// The place that it names.
    pub fn position(&self) -> Option<Position> {
        match self {
            Range::After(position) | Range::Before(position) => Some(*position),
            Range::Latest { after } => *after,
            Range::Newest => None,
        }
    }
}

/// The text of a token, without an allocation.
#[derive(Clone, Copy)]
pub struct Token {
    text: [u8; TOKEN_BYTES_MAX],
    length: u8,
}

impl Token {
    /// The characters.
    pub fn as_str(&self) -> &str {
        // Only base64url characters are ever written.
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token().as_str())
    }
}

/// The text is not a token that this software made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a position that this server gave out")]
pub struct BadPosition;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_literal_token() {
        let position = Position {
            epoch: Epoch(0x0102030405060708),
            offset: 18,
            tag: 0xdeadbeef,
        };
        assert_eq!(position.to_string(), "pAQIDBAUGBwjerb7vEg");
        assert_eq!(Position::parse("pAQIDBAUGBwjerb7vEg"), Ok(position));
    }

    #[test]
    fn what_is_not_a_token() {
        for token in [
            "",
            "p",
            "q",
            "xAQIDBAUGBwjerb7vEg",
            "pAQIDBAUGBwjerb7vEg=",
            "pAQIDBAUGBwjerb7v!g",
            "18",
        ] {
            assert_eq!(Position::parse(token), Err(BadPosition), "{token}");
        }
        assert_eq!(Position::parse(&"p".repeat(500)), Err(BadPosition));
    }

    #[test]
    fn an_epoch_tells_a_channel_from_others() {
        let names: Vec<_> = (0..1_000)
            .map(|number| ChannelName::parse(&format!("room:{number}")).unwrap())
            .collect();
        for random in [0, 1, u64::MAX] {
            let epoch = Epoch::of(&names[42], random);
            assert!(epoch.is_of(&names[42]));
            let confused = names.iter().filter(|name| epoch.is_of(name)).count();
            assert!(confused <= 2, "{confused} of 1,000 names");
        }
    }

    proptest! {
        #[test]
        fn tokens_come_back(epoch: u64, offset: u64, tag: u32, shift in 0u32..64) {
            let position = Position { epoch: Epoch(epoch), offset: offset >> shift, tag };
            let token = position.to_string();
            prop_assert!(token.len() <= TOKEN_BYTES_MAX);
            prop_assert_eq!(Position::parse(&token), Ok(position));
        }

        #[test]
        fn whatever_parses_is_what_was_made(token in "p[A-Za-z0-9_-]{0,30}") {
            if let Ok(position) = Position::parse(&token) {
                prop_assert_eq!(position.to_string(), token);
            }
        }
    }
}

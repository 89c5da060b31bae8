//! `proto::position`: tokens that come back from clients.

use switchboard_proto::position::{Epoch, Position, TOKEN_BYTES_MAX};

use crate::script::Script;

/// Position tokens.
///
/// - Every position comes back as it was.
/// - Only the text that a position is written as is read as that position.
pub fn position(data: &[u8]) {
    let token = String::from_utf8_lossy(data);
    if let Ok(position) = Position::parse(&token) {
        assert_eq!(position.token().as_str(), token);
    }

    let mut script = Script::new(data);
    let position = Position {
        epoch: Epoch(script.long()),
        tag: script.long() as u32,
        offset: script.long() >> script.choose(64),
    };
    let mut token = position.to_string();
    assert!(token.len() <= TOKEN_BYTES_MAX && token.is_ascii());
    assert_eq!(Position::parse(&token), Ok(position));

    let (place, letter) = (script.choose(token.len()), script.byte() % 128);
    token.replace_range(place..=place, char::from(letter).encode_utf8(&mut [0; 4]));
    if let Ok(other) = Position::parse(&token) {
        assert_eq!(other.to_string(), token);
    }
}

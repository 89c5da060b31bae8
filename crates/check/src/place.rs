//! Where in a channel's log something is.
//!
//! A position is opaque to clients. The judge looks inside, because the first and third rules are about lives of a log: by what the format says
//! (`p`, then base64url of the epoch in 8 bytes, the tag in 4, and the offset without its leading zeros), not by the server's code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A place in one life of one log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Which life.
    pub epoch: u64,
    /// Which message. 0 is before the first.
    pub offset: u64,
    /// What the server says of that message's content.
    pub tag: u32,
}

impl Place {
    /// What a position says.
    pub fn parse(position: &str) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(position.strip_prefix('p')?).ok()?;
        let (epoch, rest) = bytes.split_first_chunk::<8>()?;
        let (tag, offset) = rest.split_first_chunk::<4>()?;
        let mut wide = [0; 8];
        wide.get_mut(8usize.checked_sub(offset.len())?..)?
            .copy_from_slice(offset);
        Some(Place {
            epoch: u64::from_be_bytes(*epoch),
            offset: u64::from_be_bytes(wide),
            tag: u32::from_be_bytes(*tag),
        })
    }

    /// The position.
    pub fn position(&self) -> String {
        let offset = self.offset.to_be_bytes();
        let leading = (self.offset.leading_zeros() / 8) as usize;
        let bytes = [
            &self.epoch.to_be_bytes()[..],
            &self.tag.to_be_bytes(),
            &offset[leading..],
        ]
        .concat();
        format!("p{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_the_protocol_text() {
        let place = Place::parse("pAQIDBAUGBwgvC5wREQ").expect("a position");
        assert_eq!(place.epoch, 0x0102_0304_0506_0708);
        assert_eq!(place.offset, 17);
        let start = Place::parse("pAQIDBAUGBwgAAAAA").expect("the start");
        assert_eq!((start.offset, start.tag), (0, 0));
        for place in [place, start] {
            assert_eq!(Place::parse(&place.position()), Some(place));
        }
        assert_eq!(place.position(), "pAQIDBAUGBwgvC5wREQ");
    }

    #[test]
    fn what_is_no_position() {
        for text in [
            "",
            "p",
            "q",
            "pAQID",
            "xAQIDBAUGBwgvC5wREQ",
            "pAQIDBAUGBwgvC5wREREREREREREREREREREREQ",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}

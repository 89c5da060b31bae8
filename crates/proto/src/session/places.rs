//! Where a reader of several channels is in each of them, as one token: the `id:` of an event stream, the `position` of a poll.
//!
//! ```text
//!   p3q2-7wAAAAEA.pAQIDBAUGBwjerb7vEg.wq83vEjRWeJA
//!   └ a position ┘ └ of the next one ┘ └ who was there ┘
//! ```
//!
//! The token is the positions of the channels, in the order in which the reader named them, with dots between them. So for one
//! channel it is that channel's position. An epoch tells which channels it can be of; should a position all the same be taken for
//! that of another channel, that channel's log does not know it and says `reset`.
//!
//! Behind a position stands, where the reader wants to know who is in the channel, a fingerprint of the last list it was given: a
//! poll need not be told again what it knows.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::channel::ChannelName;
use crate::dialect::event_stream::ID;
use crate::position::Position;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    places: Vec<Place>,
}

/// Where a reader is in one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which channel.
    pub channel: ChannelName,
    /// Where; `None` before it is there.
    pub position: Option<Position>,
    /// What it knows of who is there.
    pub roster: Option<Roster>,
}

/// A fingerprint of who is in a channel: equal lists have equal ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roster(u64);

impl Roster {
    /// Of a list as it is said.
    pub fn of(said: &[u8]) -> Roster {
        // FNV-1a: whoever wants to be overlooked by others could as well not be there.
        Roster(said.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

/// What stands before a roster; a position begins with another letter.
const ROSTER: char = 'w';
const DOT: char = '.';

/// Why a token says nothing of these channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPlaces {
    /// It is no token.
    #[error("This is not a position that this server gave out.")]
    Malformed,
    /// It is one of other channels.
    #[error("This is a position of another channel.")]
    Foreign,
}

impl Places {
    /// Nowhere yet.
    pub fn new(channels: Vec<ChannelName>) -> Places {
        let place = |channel| Place {
            channel,
            position: None,
            roster: None,
        };
        Places {
            places: channels.into_iter().map(place).collect(),
        }
    }

    /// Where `since` says, which may say nothing of some of the channels and something of others than these, as long as it says
    /// anything of them.
    pub fn parse(channels: Vec<ChannelName>, since: &str) -> Result<Places, BadPlaces> {
        let mut places = Places::new(channels);
        let mut last = None;
        for part in since.split(DOT) {
            if let Some(encoded) = part.strip_prefix(ROSTER) {
                let mut bytes = [0; 8];
                if last.is_none() || URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) != Ok(8) {
                    return Err(BadPlaces::Malformed);
                }
                if let Some(Some(found)) = last.take() {
                    let place: &mut Place = &mut places.places[found];
                    place.roster = Some(Roster(u64::from_be_bytes(bytes)));
                }
                continue;
            }
            let position = Position::parse(part).map_err(|_| BadPlaces::Malformed)?;
            let is_its = |place: &Place| place.position.is_none() && position.epoch.is_of(&place.channel);
            let found = places.places.iter().position(is_its);
            if let Some(found) = found {
                places.places[found].position = Some(position);
            }
            last = Some(found);
        }
        match places.places.iter().any(|place| place.position.is_some()) {
            true => Ok(places),
            false => Err(BadPlaces::Foreign),
        }
    }

    /// All of them, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        self.places.iter_mut()
    }

    /// That of one channel.
    pub fn place(&mut self, channel: &ChannelName) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.channel == *channel)
    }

    /// What a stream of all the channels says where `chunk`, events of one of them, has that channel's positions as ids. The reader
    /// is there afterwards.
    pub fn localize(&mut self, channel: &ChannelName, chunk: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(chunk.len() + 32 * self.places.len());
        let mut rest = chunk;
        while let Some(found) = memchr::memmem::find(rest, ID) {
            let (before, behind) = rest.split_at(found + ID.len());
            let length = memchr::memchr(b'\n', behind).unwrap_or(behind.len());
            let position = std::str::from_utf8(&behind[..length]).map(Position::parse);
            if let (Some(place), Ok(Ok(position))) = (self.place(channel), position) {
                place.position = Some(position);
            }
            out.extend_from_slice(before);
            out.extend_from_slice(self.to_string().as_bytes());
            rest = &behind[length..];
        }
        out.extend_from_slice(rest);
        out.into()
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for place in &self.places {
            let Some(position) = place.position else { continue };
            if !std::mem::take(&mut first) {
                write!(f, "{DOT}")?;
            }
            f.write_str(position.token().as_str())?;
            if let Some(Roster(bits)) = place.roster {
                write!(f, "{DOT}{ROSTER}{}", URL_SAFE_NO_PAD.encode(bits.to_be_bytes()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::position::Epoch;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn position(channel: &ChannelName, offset: u64) -> Position {
        Position {
            epoch: Epoch::of(channel, 7),
            offset,
            tag: offset as u32 ^ 0xdead_beef,
        }
    }

    fn channels() -> Vec<ChannelName> {
        ["a", "b", "c"].map(channel).to_vec()
    }

    #[test]
    fn one_channel_has_the_token_of_its_position() {
        let a = channel("a");
        let token = position(&a, 18).to_string();
        let places = Places::parse(vec![a.clone()], &token).unwrap();
        assert_eq!(places.iter().next().unwrap().position, Some(position(&a, 18)));
        assert_eq!(places.to_string(), token);
    }

    #[test]
    fn channels_are_told_apart_in_any_order_and_number() {
        let [a, b, c] = ["a", "b", "c"].map(channel);
        let token = format!("{}.{}", position(&b, 2), position(&a, 1));
        let places = Places::parse(channels(), &token).unwrap();
        let found: Vec<_> = places.iter().map(|place| place.position).collect();
        assert_eq!(found, [Some(position(&a, 1)), Some(position(&b, 2)), None]);
        assert_eq!(
            places.to_string(),
            format!("{}.{}", position(&a, 1), position(&b, 2))
        );
        let only_b = Places::parse(vec![b.clone()], &token).unwrap();
        assert_eq!(only_b.to_string(), position(&b, 2).to_string());
        assert_eq!(Places::parse(vec![c], &token), Err(BadPlaces::Foreign));
    }

    #[test]
    fn a_roster_belongs_to_the_position_before_it() {
        let mut places = Places::new(channels());
        places.place(&channel("a")).unwrap().position = Some(position(&channel("a"), 1));
        let b = places.place(&channel("b")).unwrap();
        (b.position, b.roster) = (Some(position(&channel("b"), 2)), Some(Roster::of(b"[]")));
        let again = Places::parse(channels(), &places.to_string()).unwrap();
        assert_eq!(again, places);
    }

    #[test]
    fn what_is_not_a_token() {
        let a = position(&channel("a"), 1);
        let roster = format!("w{}", URL_SAFE_NO_PAD.encode([0; 8]));
        for token in [
            "",
            ".",
            "x",
            &format!("{a}."),
            &format!("{a},{a}"),
            &format!("{a}.w"),
            &format!("{a}.{roster}A"),
            &format!("{a}.{roster}.{roster}"),
            &roster,
        ] {
            assert_eq!(
                Places::parse(channels(), token),
                Err(BadPlaces::Malformed),
                "{token}"
            );
        }
    }

    #[test]
    fn ids_of_one_channel_become_those_of_all() {
        let [a, b] = ["a", "b"].map(channel);
        let mut places = Places::new(vec![a.clone(), b.clone()]);
        let event =
            |id: &str, data: &str| format!("event: message\nid: {id}\ndata: {data}\ndata: id: no\n\n");
        let chunk = |channel, offsets: [u64; 2]| {
            let id = |offset| position(channel, offset).to_string();
            offsets.map(|offset| event(&id(offset), "x")).concat()
        };
        let first = places.localize(&a, chunk(&a, [1, 2]).as_bytes());
        assert_eq!(first, chunk(&a, [1, 2]).as_bytes(), "b is nowhere yet");
        let second = places.localize(&b, chunk(&b, [5, 6]).as_bytes());
        let both = |offset| format!("{}.{}", position(&a, 2), position(&b, offset));
        assert_eq!(second, (event(&both(5), "x") + &event(&both(6), "x")).as_bytes());
        assert_eq!(
            places.localize(&a, b"event: presence\ndata: x\n\n"),
            "event: presence\ndata: x\n\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_gets_a_verdict_and_any_places_are_read_back(text: String, offsets: [Option<u64>; 3], rosters: [Option<u64>; 3]) {
            let _verdict = Places::parse(channels(), &text);
            let mut places = Places::new(channels());
            for ((place, offset), roster) in places.places.iter_mut().zip(offsets).zip(rosters) {
                place.position = offset.map(|offset| position(&place.channel, offset));
                place.roster = roster.map(Roster).filter(|_| offset.is_some());
            }
            match Places::parse(channels(), &places.to_string()) {
                Ok(read) => prop_assert_eq!(read, places),
                Err(_) => prop_assert_eq!(offsets, [None; 3]),
            }
        }
    }
}

//! Records as bytes: how they lie in a segment, and how they are found again, damaged or not.
//!
//! All numbers are little-endian.
//!
//! | bytes | header | | bytes | footer |
//! |---|---|---|---|---|
//! | 2 | `5b d1` | | 8 | the epoch again |
//! | 1 | kind: 1 log, 2 entry, 3 key, 4 forgotten | | 4 | the length again |
//! | 1 | version: 1 | | 4 | CRC-32 of everything before |
//! | 8 | number of the record | | | |
//! | 8 | epoch of its log | | | |
//! | 4 | length of the content | | | |
//! | 4 | CRC-32 of the header before | | | |
//!
//! The content of a log: offset and tag (8, 4) before its oldest entry, the same of its newest, the channel's name. Of an entry: offset, tag,
//! tag of the entry before (8, 4, 4), milliseconds since 1970 (8), kind of the payload (1: 0 JSON, 1 text, 2 bytes), then the
//! lengths of user, key, conflation key (4, 1, 1; `ff ff ff ff` no user, 0 no key), and these and the payload. Of a key: offset, tag, milliseconds (8, 4, 8),
//! the key. Of what is forgotten: nothing.
//!
//! Header and footer both say whose the record is and how long: a byte that changed anywhere in it leaves one of them to tell.

use std::sync::Arc;

use switchboard_hub::log::{Draft, tag};
use switchboard_hub::logs::durable::Record;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::payload::{Payload, PayloadKind};
use switchboard_proto::position::{Epoch, Position};

use super::life::Life;

/// The first bytes of every record.
const MAGIC: [u8; 2] = [0x5b, 0xd1];
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 28;
const FOOTER_BYTES: usize = 16;
/// What a record takes beside its content.
const AROUND_BYTES: usize = HEADER_BYTES + FOOTER_BYTES;
const NO_USER: u32 = u32::MAX;

const LOG: u8 = 1;
const ENTRY: u8 = 2;
const KEY: u8 = 3;
const FORGOTTEN: u8 = 4;

/// Appends a record. Its epoch is stored as that life has it.
pub fn encode(number: u64, record: &Record, life: Life, out: &mut Vec<u8>) {
    let (kind, epoch) = match record {
        Record::Log { before, .. } => (LOG, before.epoch),
        Record::Entry { entry, .. } => (ENTRY, entry.position.epoch),
        Record::Key { position, .. } => (KEY, position.epoch),
        Record::Forgotten { epoch } => (FORGOTTEN, *epoch),
    };
    let epoch = life.turn(epoch);
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind, VERSION]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&epoch.0.to_le_bytes());
    // Length and checksum, when they are known.
    out.extend_from_slice(&[0; 8]);
    let content = out.len();
    encode_content(record, out);
    // A message has at most a few megabytes.
    let length = ((out.len() - content) as u32).to_le_bytes();
    out[start + 20..start + 24].copy_from_slice(&length);
    let crc = crc32fast::hash(&out[start..start + 24]).to_le_bytes();
    out[start + 24..start + 28].copy_from_slice(&crc);
    out.extend_from_slice(&epoch.0.to_le_bytes());
    out.extend_from_slice(&length);
    let crc = crc32fast::hash(&out[start..]).to_le_bytes();
    out.extend_from_slice(&crc);
}

fn encode_content(record: &Record, out: &mut Vec<u8>) {
    let place = |position: &Position, out: &mut Vec<u8>| {
        out.extend_from_slice(&position.offset.to_le_bytes());
        out.extend_from_slice(&position.tag.to_le_bytes());
    };
    match record {
        Record::Log {
            channel,
            before,
            head,
        } => {
            place(before, out);
            place(head, out);
            out.extend_from_slice(channel.as_str().as_bytes());
        }
        Record::Entry {
            entry,
            key,
            previous_tag,
        } => {
            place(&entry.position, out);
            out.extend_from_slice(&previous_tag.to_le_bytes());
            out.extend_from_slice(&entry.at_ms.to_le_bytes());
            out.push(match entry.payload.kind() {
                PayloadKind::Json => 0,
                PayloadKind::Text => 1,
                PayloadKind::Bytes => 2,
            });
            let key_bytes = |key: &Option<Key>| key.as_ref().map_or(0, |key| key.as_str().len() as u8);
            let user = entry.from.as_ref().map(User::as_str);
            let user_bytes = user.map_or(NO_USER, |user| user.len() as u32);
            out.extend_from_slice(&user_bytes.to_le_bytes());
            out.extend_from_slice(&[key_bytes(key), key_bytes(&entry.conflate)]);
            out.extend_from_slice(user.unwrap_or_default().as_bytes());
            for key in [key, &entry.conflate].into_iter().flatten() {
                out.extend_from_slice(key.as_str().as_bytes());
            }
            out.extend_from_slice(entry.payload.as_bytes());
        }
        Record::Key { position, at_ms, key } => {
            place(position, out);
            out.extend_from_slice(&at_ms.to_le_bytes());
            out.extend_from_slice(key.as_str().as_bytes());
        }
        Record::Forgotten { .. } => {}
    }
}

/// What stands at a place of a segment.
#[derive(Clone, PartialEq, Debug)]
pub enum Piece {
    /// A record, and its number.
    Record(u64, Record),
    /// One record of this log; `None`: any number of records of any logs.
    Damage(Option<Epoch>),
    /// The beginning of a record whose end was never written. Nothing follows.
    Torn,
}

/// Reads a segment from its beginning. Total: any bytes give pieces, and every piece gets on.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    /// Where the next piece begins; after [`Piece::Torn`], where the torn record does.
    at: usize,
    is_last: bool,
    life: Life,
    is_over: bool,
}

struct Frame<'a> {
    kind: u8,
    number: u64,
    epoch: Epoch,
    content: &'a [u8],
    end: usize,
}

enum Bad {
    /// The bytes end before it does; whose it is, if that can be read.
    Short(Option<Epoch>),
    /// No header.
    Header,
    /// A header, and something that it does not fit to, up to here.
    Content(Epoch, usize),
}

impl<'a> Pieces<'a> {
    /// The pieces of a segment. Only the last one of a store may end in the middle of a record.
    /// Epochs are given as they are seen in that life.
    pub fn new(bytes: &'a [u8], is_last: bool, life: Life) -> Pieces<'a> {
        Pieces {
            bytes,
            at: 0,
            is_last,
            life,
            is_over: false,
        }
    }

    /// Bytes that are whole, or damaged, up to here.
    pub fn at(&self) -> usize {
        self.at
    }

    fn frame(&self, at: usize) -> Result<Frame<'a>, Bad> {
        let rest = &self.bytes[at..];
        let Some(header) = rest.get(..HEADER_BYTES) else {
            return Err(Bad::Short(None));
        };
        let is_header = header[..2] == MAGIC && header[3] == VERSION;
        if !is_header || crc32fast::hash(&header[..24]) != u32_at(header, 24) {
            return Err(Bad::Header);
        }
        let epoch = self.life.turn(Epoch(u64_at(header, 12)));
        let length = u32_at(header, 20) as usize;
        let Some(whole) = rest.get(..AROUND_BYTES + length) else {
            return Err(Bad::Short(Some(epoch)));
        };
        let end = at + whole.len();
        let (checked, crc) = whole.split_at(whole.len() - 4);
        if crc32fast::hash(checked) != u32_at(crc, 0) {
            return Err(Bad::Content(epoch, end));
        }
        Ok(Frame {
            kind: header[2],
            number: u64_at(header, 4),
            epoch,
            content: &whole[HEADER_BYTES..HEADER_BYTES + length],
            end,
        })
    }

    /// Whose record lies between here and there, if it is one, as its end tells.
    fn told_by_footer(&self, from: usize, to: usize) -> Option<Epoch> {
        let footer = self.bytes.get(from..to)?.last_chunk::<FOOTER_BYTES>()?;
        let length = u32_at(footer, 8) as usize;
        (from + AROUND_BYTES + length == to).then(|| self.life.turn(Epoch(u64_at(footer, 0))))
    }

    /// No header stands here: goes on where the next one does.
    fn skip(&mut self) -> Piece {
        let from = self.at;
        let is_empty = self.is_last && self.bytes[from..].iter().all(|byte| *byte == 0);
        if is_empty {
            self.is_over = true;
            return Piece::Torn;
        }
        let mut next = from + 1;
        let to = loop {
            let Some(found) = memchr::memmem::find(&self.bytes[next..], &MAGIC) else {
                break self.bytes.len();
            };
            if self.frame(next + found).is_ok() {
                break next + found;
            }
            next += found + 1;
        };
        self.at = to;
        Piece::Damage(self.told_by_footer(from, to))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.is_over || self.at >= self.bytes.len() {
            return None;
        }
        Some(match self.frame(self.at) {
            Ok(frame) => {
                self.at = frame.end;
                match decode(&frame) {
                    Some(record) => Piece::Record(frame.number, record),
                    None => Piece::Damage(Some(frame.epoch)),
                }
            }
            Err(Bad::Short(_)) if self.is_last => {
                self.is_over = true;
                Piece::Torn
            }
            Err(Bad::Short(epoch)) => {
                self.is_over = true;
                Piece::Damage(epoch)
            }
            Err(Bad::Content(epoch, end)) => {
                self.at = end;
                Piece::Damage(Some(epoch))
            }
            Err(Bad::Header) => self.skip(),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk::<4>();
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk::<8>();
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What a record says, if that is what this version writes.
fn decode(frame: &Frame<'_>) -> Option<Record> {
    let mut rest = Rest(frame.content);
    let epoch = frame.epoch;
    let place = |rest: &mut Rest<'_>| {
        Some(Position {
            epoch,
            offset: rest.u64()?,
            tag: rest.u32()?,
        })
    };
    Some(match frame.kind {
        LOG => Record::Log {
            before: place(&mut rest)?,
            head: place(&mut rest)?,
            channel: ChannelName::parse(rest.text()?).ok()?,
        },
        ENTRY => {
            let position = place(&mut rest)?;
            let previous_tag = rest.u32()?;
            let at_ms = rest.u64()?;
            let kind = rest.u8()?;
            let user_bytes = rest.u32()?;
            let (key_bytes, conflate_bytes) = (rest.u8()?, rest.u8()?);
            let from = match user_bytes {
                NO_USER => None,
                length => Some(User::new(rest.part(length as usize)?.text()?)),
            };
            let key = rest.key(key_bytes)?;
            let conflate = rest.key(conflate_bytes)?;
            let payload = match kind {
                // It was checked when it was published.
                0 => Payload::json(rest.text()?).ok()?,
                1 => Payload::text(rest.text()?),
                2 => Payload::bytes(rest.0.to_vec()),
                _ => return None,
            };
            let draft = Draft {
                from,
                payload,
                key: None,
                conflate,
            };
            if tag(&draft, at_ms) != position.tag {
                return None;
            }
            Record::Entry {
                entry: Arc::new(Entry {
                    position,
                    previous: position.offset.checked_sub(1)?,
                    at_ms,
                    from: draft.from,
                    conflate: draft.conflate,
                    payload: draft.payload,
                }),
                key,
                previous_tag,
            }
        }
        KEY => Record::Key {
            position: place(&mut rest)?,
            at_ms: rest.u64()?,
            key: Key::parse(rest.text()?)?,
        },
        FORGOTTEN => Record::Forgotten { epoch },
        _ => return None,
    })
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn part(&mut self, length: usize) -> Option<Rest<'a>> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Rest(part))
    }

    fn u8(&mut self) -> Option<u8> {
        Some(*self.part(1)?.0.first()?)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32_at(self.part(4)?.0, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64_at(self.part(8)?.0, 0))
    }

    fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    fn key(&mut self, length: u8) -> Option<Option<Key>> {
        match length {
            0 => Some(None),
            length => Some(Some(Key::parse(self.part(usize::from(length))?.text()?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::parse("room:42").unwrap()
    }

    fn entry(
        epoch: Epoch,
        offset: u64,
        payload: Payload,
        from: Option<&str>,
        conflate: Option<&str>,
    ) -> Record {
        let draft = Draft {
            from: from.map(User::new),
            payload,
            key: None,
            conflate: conflate.and_then(Key::parse),
        };
        let position = Position {
            epoch,
            offset,
            tag: tag(&draft, 17),
        };
        Record::Entry {
            entry: Arc::new(Entry {
                position,
                previous: offset - 1,
                at_ms: 17,
                from: draft.from,
                conflate: draft.conflate,
                payload: draft.payload,
            }),
            key: Key::parse("c1-77").filter(|_| offset.is_multiple_of(2)),
            previous_tag: 99,
        }
    }

    fn records() -> Vec<Record> {
        let (one, other) = (Epoch::of(&channel(), 1), Epoch::of(&channel(), 2));
        let at = |epoch, offset| Position {
            epoch,
            offset,
            tag: 7,
        };
        vec![
            Record::Log {
                channel: channel(),
                before: at(one, 0),
                head: at(one, 0),
            },
            entry(one, 1, Payload::text("hi"), None, None),
            entry(
                other,
                2,
                Payload::json(r#"{"a":[1]}"#).unwrap(),
                Some("ana"),
                Some("x"),
            ),
            entry(
                one,
                2,
                Payload::bytes(vec![0x5b, 0xd1, 2, 1, 255]),
                Some(""),
                None,
            ),
            Record::Key {
                position: at(other, 1),
                at_ms: 5,
                key: Key::parse("k").unwrap(),
            },
            Record::Forgotten { epoch: other },
            entry(one, 3, Payload::text(""), None, Some("y")),
        ]
    }

    fn epoch_of(record: &Record) -> Epoch {
        match record {
            Record::Log { before, .. } => before.epoch,
            Record::Entry { entry, .. } => entry.position.epoch,
            Record::Key { position, .. } => position.epoch,
            Record::Forgotten { epoch } => *epoch,
        }
    }

    /// The records as bytes, and where each ends.
    fn encoded() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (index, record) in records().iter().enumerate() {
            encode(index as u64 + 1, record, Life::default(), &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn records_come_back() {
        let (bytes, _) = encoded();
        let pieces: Vec<_> = Pieces::new(&bytes, true, Life::default()).collect();
        let expected: Vec<_> = records()
            .into_iter()
            .enumerate()
            .map(|(index, record)| Piece::Record(index as u64 + 1, record))
            .collect();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn cut_anywhere_what_is_whole_comes_back_and_the_rest_is_torn() {
        let (bytes, ends) = encoded();
        for length in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            let mut pieces = Pieces::new(&bytes[..length], true, Life::default());
            let found: Vec<_> = pieces.by_ref().collect();
            let is_torn = ends[..whole].last().copied().unwrap_or(0) < length;
            assert_eq!(found.len(), whole + usize::from(is_torn), "{length}");
            assert!(
                found[..whole]
                    .iter()
                    .all(|piece| matches!(piece, Piece::Record(..)))
            );
            if is_torn {
                assert_eq!(found.last(), Some(&Piece::Torn), "{length}");
                assert_eq!(pieces.at(), ends[..whole].last().copied().unwrap_or(0));
            }
            // Where something else follows, that must not happen, and is damage.
            let last = Pieces::new(&bytes[..length], false, Life::default()).last();
            assert_eq!(matches!(last, Some(Piece::Damage(_))), is_torn, "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_the_record_that_it_is_in_and_tells_whose_it_was() {
        let (bytes, ends) = encoded();
        let records = records();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let index = ends.iter().filter(|end| **end <= bit / 8).count();
            let pieces: Vec<_> = Pieces::new(&damaged, true, Life::default()).collect();
            assert_eq!(pieces.len(), records.len(), "bit {bit}: {pieces:?}");
            for (at, piece) in pieces.iter().enumerate() {
                let expected = match at == index {
                    true => Piece::Damage(Some(epoch_of(&records[at]))),
                    false => Piece::Record(at as u64 + 1, records[at].clone()),
                };
                assert_eq!(piece, &expected, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_lost_block_is_damage_and_what_follows_comes_back() {
        let (bytes, ends) = encoded();
        for start in 0..bytes.len() {
            for filler in [0, 0x5b, 0xd1] {
                let mut damaged = bytes.clone();
                let end = (start + 100).min(bytes.len());
                damaged[start..end].fill(filler);
                let whole_before = ends.iter().filter(|end| **end <= start).count();
                let whole_after = ends[..ends.len() - 1]
                    .iter()
                    .filter(|begin| **begin >= end)
                    .count();
                let found = Pieces::new(&damaged, true, Life::default())
                    .filter(|piece| matches!(piece, Piece::Record(..)));
                let numbers: Vec<_> = found
                    .map(|piece| match piece {
                        Piece::Record(number, record) => {
                            assert_eq!(record, records()[number as usize - 1]);
                            number
                        }
                        _ => 0,
                    })
                    .collect();
                assert!(numbers.is_sorted());
                assert!(
                    numbers.len() >= whole_before + whole_after,
                    "{start} {filler}: {numbers:?}"
                );
            }
        }
    }
}

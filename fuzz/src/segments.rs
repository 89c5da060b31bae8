//! `server::broker::disk`: what a start makes of files that anything may have happened to.

use std::sync::Arc;

use switchboard_hub::log::{Draft, tag};
use switchboard_hub::logs::durable::Record;
use switchboard_hub::logs::durable::recovery::Recovery;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::{Entry, Key, User};
use switchboard_proto::position::{Epoch, Position};
use switchboard_server::broker::disk::frame::{Piece, Pieces, encode};
use switchboard_server::broker::disk::life::Life;

use crate::script::Script;
use crate::vocabulary;

/// Segments of the durable log, whole and damaged.
///
/// - Any bytes are read to their end.
/// - What was written comes back as it was; of damaged bytes only records that were written, in their order.
/// - A log is recovered without a hole, and with nothing in it that was not published; or it is not recovered.
pub fn segments(data: &[u8]) {
    for is_last in [false, true] {
        check_pieces(data, is_last);
    }
    let mut script = Script::new(data);
    let records = records(&mut script);
    let mut bytes = Vec::new();
    for (index, record) in records.iter().enumerate() {
        encode(index as u64 + 1, record, Life::default(), &mut bytes);
    }
    let whole: Vec<_> = Pieces::new(&bytes, true, Life::default()).collect();
    assert_eq!(whole.len(), records.len());
    recover(&whole, &records, true);

    for _ in 0..script.choose(6) {
        damage(&mut script, &mut bytes);
    }
    let pieces = check_pieces(&bytes, script.one_in(2));
    recover(&pieces, &records, false);
}

/// Pieces get on, and end.
fn check_pieces(bytes: &[u8], is_last: bool) -> Vec<Piece> {
    let mut pieces = Pieces::new(bytes, is_last, Life::default());
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(piece) = pieces.next() {
        let ends = matches!(piece, Piece::Torn);
        assert!(pieces.at() > at || ends || pieces.at() == at && pieces.next().is_none());
        assert!(pieces.at() <= bytes.len());
        at = pieces.at();
        found.push(piece);
    }
    found
}

fn names() -> [ChannelName; 2] {
    ["a", "room:42"].map(|name| ChannelName::parse(name).unwrap_or_else(|_| vocabulary::room()))
}

/// What two channels were told, as the durable broker writes it.
fn records(script: &mut Script<'_>) -> Vec<Record> {
    let mut heads = names().map(|name| Position::start(Epoch::of(&name, 1)));
    let mut befores = heads;
    let mut records = Vec::new();
    for (name, head) in names().into_iter().zip(heads) {
        records.push(Record::Log {
            channel: name,
            before: head,
            head,
        });
    }
    for _ in 0..script.choose(24) {
        let at = script.choose(2);
        let head = heads[at];
        match script.choose(8) {
            0 => {
                if script.one_in(2) {
                    befores[at] = head;
                }
                records.push(Record::Log {
                    channel: names()[at].clone(),
                    before: befores[at],
                    head,
                });
            }
            1 => records.push(Record::Key {
                position: head,
                at_ms: script.long(),
                key: Key::parse(&script.text()).unwrap_or_else(|| Key::parse("k").expect("one byte")),
            }),
            _ => {
                let draft = Draft {
                    from: script.one_in(2).then(|| User::new(&script.text())),
                    payload: vocabulary::payload(script),
                    key: None,
                    conflate: Key::parse(&script.text()),
                };
                let at_ms = script.long();
                let position = Position {
                    offset: head.offset + 1,
                    tag: tag(&draft, at_ms),
                    ..head
                };
                records.push(Record::Entry {
                    entry: Arc::new(Entry {
                        position,
                        previous: head.offset,
                        at_ms,
                        from: draft.from,
                        conflate: draft.conflate,
                        payload: draft.payload,
                    }),
                    key: Key::parse(&script.text()),
                    previous_tag: head.tag,
                });
                heads[at] = position;
            }
        }
    }
    records
}

fn damage(script: &mut Script<'_>, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = script.long() as usize % bytes.len();
    let end = (at + 1 + script.choose(200)).min(bytes.len());
    match script.choose(5) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << script.choose(8),
        2 => bytes[at..end].fill(script.byte()),
        3 => drop(bytes.drain(at..end)),
        _ => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

fn recover(pieces: &[Piece], records: &[Record], is_whole: bool) {
    let mut recovery = Recovery::new(1);
    for piece in pieces {
        match piece {
            Piece::Record(number, record) => {
                let written = records.get(*number as usize - 1);
                assert_eq!(written, Some(record), "a record that nobody wrote");
                recovery.handle_record(record.clone());
            }
            Piece::Damage(epoch) => recovery.handle_damage(*epoch),
            Piece::Torn => {}
        }
    }
    let recovered = recovery.finish();
    assert!(!is_whole || recovered.broken.is_empty() && recovered.logs.len() == 2);
    for log in recovered.logs {
        let mut place = log.before;
        for (entry, key) in &log.entries {
            assert_eq!(entry.previous, place.offset, "a hole");
            place = entry.position;
            let is_written = records.iter().any(
                |record| matches!(record, Record::Entry { entry: of, key: with, .. } if of == entry && with == key),
            );
            assert!(is_written, "an entry that nobody wrote");
        }
    }
}

//! How long the judge takes over ten million events, and how much memory: `cargo run --release -p switchboard-check --example scale [EVENTS]`.
//!
//! The history is a clean one of 100 channels, with ten subscribers for each message, who are members and are told of each other again and
//! again, while others come and go; it is written as files, read and judged.

use std::fmt::Write as _;
use std::time::Instant;

use switchboard_check::event::{Message, Stream, What};
use switchboard_check::history::{Final, Roster};
use switchboard_check::place::Place;
use switchboard_check::{History, judge};

const CHANNELS: u64 = 100;
const SUBSCRIBERS: u64 = 10;
/// Messages between two visits of somebody else, and two lists of members.
const LIST_EVERY: u64 = 20;
/// A visit, and a list for each subscriber.
const EVENTS_PER_LIST: u64 = 4 + SUBSCRIBERS * (1 + SUBSCRIBERS);
/// An invocation, an acknowledgement, what each subscriber received, and a part of a list.
const EVENTS_PER_MESSAGE: u64 = 2 + SUBSCRIBERS + EVENTS_PER_LIST.div_ceil(LIST_EVERY);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = match std::env::args().nth(1) {
        Some(events) => events.parse()?,
        None => 10_000_000,
    };
    let directory = std::env::temp_dir().join(format!("switchboard-check-scale-{}", std::process::id()));
    history(events).write(&directory)?;
    let memory_before = peak_kib()?;
    let started = Instant::now();
    let history = History::read(&directory);
    std::fs::remove_dir_all(&directory)?;
    let history = history?;
    let read = started.elapsed();
    let started = Instant::now();
    let verdict = judge(&history);
    println!("{verdict}");
    println!(
        "read in {read:.1?}, judged in {:.1?}; at most {} MiB, of which making it took up to {} MiB",
        started.elapsed(),
        peak_kib()? / 1024,
        memory_before / 1024
    );
    Ok(())
}

fn place(channel: u64, offset: u64) -> Place {
    Place {
        epoch: 0x5eed_0000 + channel,
        offset,
        tag: (offset as u32).wrapping_mul(0x9e37_79b9) * u32::from(offset > 0),
    }
}

fn history(events: u64) -> History {
    let mut history = History::new("scale");
    for channel in 0..CHANNELS {
        let name = history.name(&format!("room:{channel}"));
        let writer = history.client(&format!("writer-{channel}"));
        let publisher = history.name(&format!("writer-{channel}"));
        let mut text = String::new();
        let mut readers = Vec::new();
        for reader in 0..SUBSCRIBERS {
            text.clear();
            let _infallible = write!(text, "reader-{channel}-{reader}");
            readers.push(history.client(&text));
        }
        let stream = Stream(1);
        let members: Vec<_> = (0..SUBSCRIBERS)
            .map(|reader| history.name(&format!("member-{channel}-{reader}")))
            .collect();
        for (reader, member) in readers.iter().zip(&members) {
            let what = What::Subscribing {
                stream,
                channel: name,
                since: None,
                conflates: false,
            };
            history.record(*reader, 0, what);
            let what = What::Subscribed {
                stream,
                place: place(channel, 0),
                recovered: None,
            };
            history.record(*reader, 1, what);
            let member = *member;
            history.record(*reader, 2, What::Stands { stream, member });
        }
        let messages = events / CHANNELS / EVENTS_PER_MESSAGE;
        let mut entries = Vec::new();
        for offset in 1..=messages {
            let message = Message {
                publisher,
                number: offset as u32,
            };
            let at = offset * 10;
            let what = What::Invoked {
                message,
                channel: name,
                keyed: true,
                conflate: None,
            };
            history.record(writer, at, what);
            let place = place(channel, offset);
            history.record(writer, at + 5, What::Acknowledged { message, place });
            for reader in &readers {
                let what = What::Received {
                    stream,
                    place,
                    message,
                    channel: name,
                };
                history.record(*reader, at + 6, what);
            }
            entries.push((place, message));
            if offset % LIST_EVERY == 0 {
                let guest = history.name(&format!("guest-{channel}-{offset}"));
                let visit = Stream(offset as u32);
                for what in [
                    What::Subscribing {
                        stream: visit,
                        channel: name,
                        since: None,
                        conflates: false,
                    },
                    What::Subscribed {
                        stream: visit,
                        place,
                        recovered: None,
                    },
                    What::Stands {
                        stream: visit,
                        member: guest,
                    },
                    What::Unsubscribed { stream: visit },
                ] {
                    history.record(writer, at + 7, what);
                }
                for reader in &readers {
                    let list = What::Members {
                        stream,
                        count: SUBSCRIBERS as u32,
                        complete: true,
                    };
                    history.record(*reader, at + 8, list);
                    for member in members.iter().copied() {
                        history.record(*reader, at + 8, What::Member { stream, member });
                    }
                }
            }
        }
        history.rosters.push(Roster {
            channel: name,
            members,
        });
        for client in readers.into_iter().chain([writer]) {
            history.record(client, messages * 10 + 1_000, What::Ended);
        }
        let kept = entries.len().saturating_sub(1_000);
        history.finals.push(Final {
            channel: name,
            head: place(channel, messages),
            kept_from: kept as u64 + 1,
            entries: entries.split_off(kept),
        });
    }
    history
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("there is no VmHWM")?.parse()?)
}

//! How long the judge takes over ten million events, and how much memory: `cargo run --release -p switchboard-check --example scale [EVENTS]`.
//!
//! The history is a clean one of 100 channels, with ten subscribers for each message; it is written as files, read and judged.

use std::fmt::Write as _;
use std::time::Instant;

use switchboard_check::event::{Message, Stream, What};
use switchboard_check::history::Final;
use switchboard_check::place::Place;
use switchboard_check::{History, judge};

const CHANNELS: u64 = 100;
const SUBSCRIBERS: u64 = 10;
/// An invocation, an acknowledgement, and what each subscriber received.
const EVENTS_PER_MESSAGE: u64 = 2 + SUBSCRIBERS;

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
        for reader in &readers {
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
        }
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

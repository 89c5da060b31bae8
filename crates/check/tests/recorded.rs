//! Bugs planted in a recorded history: each is caught, by the rule that should, and the history without them is clean.
//!
//! The history is that of a right server: two channels, three publishers, readers that come, go on after a lost connection, fall behind the
//! end of the log, live through a lost log, leave, and conflate.

use std::time::Duration;

use switchboard_check::event::{Client, Event, Message, Name, Stream, What};
use switchboard_check::history::{Fault, Final, Resource, Revocation, Roster};
use switchboard_check::place::Place;
use switchboard_check::{History, Rule, judge};

const FIRST: u64 = 0xaaaa_0001;
const SECOND: u64 = 0xaaaa_0002;
const TICKER: u64 = 0xbbbb_0001;

/// A run that is being written, by a server that is right.
struct Run {
    history: History,
    at: u64,
    room: Name,
}

impl Run {
    fn place(epoch: u64, offset: u64) -> Place {
        let tag = if offset == 0 {
            0
        } else {
            (epoch as u32) ^ (offset as u32).wrapping_mul(0x9e37_79b9)
        };
        Place { epoch, offset, tag }
    }

    fn message(&mut self, publisher: &str, number: u32) -> Message {
        Message {
            publisher: self.history.name(publisher),
            number,
        }
    }

    fn write(&mut self, client: Client, what: What) {
        self.at += 1_000;
        self.history.record(client, self.at, what);
    }

    fn invoke(&mut self, client: Client, message: Message, channel: Name, conflate: Option<Name>) {
        let what = What::Invoked {
            message,
            channel,
            keyed: true,
            conflate,
        };
        self.write(client, what);
    }

    /// Publishes and is acknowledged.
    fn publish(
        &mut self,
        client: Client,
        message: Message,
        channel: Name,
        conflate: Option<Name>,
        place: Place,
    ) {
        self.invoke(client, message, channel, conflate);
        self.write(client, What::Acknowledged { message, place });
    }

    fn receive(&mut self, client: Client, stream: Stream, channel: Name, entry: (Place, Message)) {
        let what = What::Received {
            stream,
            place: entry.0,
            message: entry.1,
            channel,
        };
        self.write(client, what);
    }
}

/// The history, and what the mutations refer to.
#[allow(
    clippy::too_many_lines,
    reason = "a transcript, from its beginning to its end"
)]
fn recorded() -> History {
    let mut history = History::new("recorded");
    history.promises.log_messages_max = Some(8);
    history.promises.log_messages_min = 8;
    let room = history.name("room:1");
    let ticker = history.name("ticker");
    let mut run = Run { history, at: 0, room };
    let [w1, w2, w3] = ["w1", "w2", "w3"].map(|name| run.history.client(name));
    let [steady, returning, late, leaving, conflating] =
        ["steady", "returning", "late", "leaving", "conflating"].map(|name| run.history.client(name));
    let stream = Stream(1);

    // Everyone comes.
    for client in [steady, returning, leaving] {
        run.write(client, What::Connected);
        let what = What::Subscribing {
            stream,
            channel: run.room,
            since: None,
            conflates: false,
        };
        run.write(client, what);
        let place = Run::place(FIRST, 0);
        let what = What::Subscribed {
            stream,
            place,
            recovered: None,
        };
        run.write(client, what);
    }
    let [ana, ben] = ["ana", "ben"].map(|name| run.history.name(name));
    run.write(steady, What::Hears { stream });
    run.write(steady, What::Stands { stream, member: ana });
    run.write(returning, What::Stands { stream, member: ben });
    let what = What::Members {
        stream,
        count: 1,
        complete: true,
    };
    run.write(steady, what);
    run.write(steady, What::Member { stream, member: ana });
    run.write(steady, What::Joined { stream, member: ben });

    // The first life of the log.
    let mut first = Vec::new();
    for offset in 1..=10_u64 {
        let (client, name) = if offset % 2 == 1 { (w1, "w1") } else { (w2, "w2") };
        let message = run.message(name, offset.div_ceil(2) as u32);
        let place = Run::place(FIRST, offset);
        run.publish(client, message, room, None, place);
        first.push((place, message));
        run.receive(steady, stream, room, (place, message));
        if offset <= 4 {
            run.receive(returning, stream, room, (place, message));
            run.receive(leaving, stream, room, (place, message));
        }
        if offset == 4 {
            run.write(returning, What::Disconnected);
            run.write(leaving, What::Unsubscribed { stream });
        }
    }
    // It is back, and gets what it missed.
    run.write(returning, What::Connected);
    let what = What::Subscribed {
        stream,
        place: first[3].0,
        recovered: Some(true),
    };
    run.write(returning, what);
    for entry in &first[4..] {
        run.receive(returning, stream, room, *entry);
    }
    // A refused one, one that nobody knows of and that is not there.
    let refused = run.message("w3", 1);
    run.invoke(w3, refused, room, None);
    run.write(w3, What::Refused { message: refused });
    let unknown = run.message("w3", 2);
    run.invoke(w3, unknown, room, None);
    run.write(w3, What::Unknown { message: unknown });

    // The server is killed, and its memory is gone.
    let from = run.at + 1_000;
    run.at += 500_000;
    let until = run.at;
    run.history.faults.push(Fault {
        what: "kill -9 and restart".to_owned(),
        from,
        until,
        loses: true,
    });
    for client in [steady, returning] {
        run.write(client, What::Disconnected);
        run.write(client, What::Connected);
        let what = What::Subscribed {
            stream,
            place: *first.last().map(|(place, _)| place).expect("ten"),
            recovered: Some(false),
        };
        run.write(client, what);
        let place = Run::place(SECOND, 0);
        run.write(client, What::Reset { stream, place });
    }

    // The second life: the log keeps 8.
    let mut second = Vec::new();
    for offset in 1..=20 {
        let message = run.message("w1", 5 + offset as u32);
        let place = Run::place(SECOND, offset);
        run.publish(w1, message, room, None, place);
        second.push((place, message));
        run.receive(steady, stream, room, (place, message));
        run.receive(returning, stream, room, (place, message));
        if offset == 3 {
            // It comes with a position, goes away, and comes back when the log no longer reaches back to it.
            run.write(late, What::Connected);
            let what = What::Subscribing {
                stream,
                channel: room,
                since: Some(Run::place(SECOND, 1)),
                conflates: false,
            };
            run.write(late, what);
            let what = What::Subscribed {
                stream,
                place: Run::place(SECOND, 1),
                recovered: Some(true),
            };
            run.write(late, what);
            run.receive(late, stream, room, second[1]);
            run.receive(late, stream, room, second[2]);
            run.write(late, What::Disconnected);
        }
    }
    run.write(late, What::Connected);
    let what = What::Subscribed {
        stream,
        place: Run::place(SECOND, 3),
        recovered: Some(false),
    };
    run.write(late, what);
    let what = What::Gap {
        stream,
        from: 4,
        place: Run::place(SECOND, 12),
        conflated: false,
    };
    run.write(late, what);
    for entry in &second[12..] {
        run.receive(late, stream, room, *entry);
    }

    // Another channel: three keys, and a subscriber for whom the newest of each is enough.
    run.write(conflating, What::Connected);
    let what = What::Subscribing {
        stream,
        channel: ticker,
        since: Some(Run::place(TICKER, 0)),
        conflates: true,
    };
    let keys = ["EURUSD", "EURGBP", "EURJPY"].map(|key| run.history.name(key));
    let mut prices = Vec::new();
    for offset in 1..=9 {
        let message = run.message("w2", 5 + offset as u32);
        let place = Run::place(TICKER, offset);
        run.publish(w2, message, ticker, Some(keys[(offset % 3) as usize]), place);
        prices.push((place, message));
    }
    run.write(conflating, what);
    let what = What::Subscribed {
        stream,
        place: Run::place(TICKER, 0),
        recovered: Some(true),
    };
    run.write(conflating, what);
    let what = What::Gap {
        stream,
        from: 1,
        place: Run::place(TICKER, 6),
        conflated: true,
    };
    run.write(conflating, what);
    for entry in &prices[6..] {
        run.receive(conflating, stream, ticker, *entry);
    }

    for client in [w1, w2, w3, steady, returning, late, leaving, conflating] {
        run.write(client, What::Ended);
    }
    let mut history = run.history;
    history.finals.push(Final {
        channel: room,
        head: Run::place(SECOND, 20),
        kept_from: 13,
        entries: second[12..].to_vec(),
    });
    history.finals.push(Final {
        channel: ticker,
        head: Run::place(TICKER, 9),
        kept_from: 1,
        entries: prices,
    });
    history.rosters.push(Roster {
        channel: room,
        members: vec![ana, ben],
    });
    history.resources.push(Resource {
        what: "files".to_owned(),
        before: 20,
        after: 21,
        tolerance: 4,
    });
    history
}

/// A bug, planted.
struct Bug {
    name: &'static str,
    rule: Rule,
    plant: fn(&mut History),
}

fn events<'h>(history: &'h mut History, client: &str) -> &'h mut Vec<Event> {
    let number = history.client(client).0 as usize;
    &mut history.logs_mut()[number].events
}

/// The places of what `client` received.
fn received(history: &mut History, client: &str) -> Vec<usize> {
    let events = events(history, client).iter().enumerate();
    events
        .filter(|(_, event)| matches!(event.what, What::Received { .. }))
        .map(|(at, _)| at)
        .collect()
}

fn find(history: &mut History, client: &str, is: fn(&What) -> bool) -> usize {
    events(history, client)
        .iter()
        .position(|event| is(&event.what))
        .expect("it is in the history")
}

/// A gap in place of a message.
fn tell_gap(event: &mut Event) {
    if let What::Received { stream, place, .. } = event.what {
        event.what = What::Gap {
            stream,
            from: place.offset,
            place,
            conflated: false,
        };
    }
}

/// The first list says that it is of another length.
fn count_members(history: &mut History, says: fn(u32) -> u32) {
    let at = find(history, "steady", |what| matches!(what, What::Members { .. }));
    if let What::Members { count, .. } = &mut events(history, "steady")[at].what {
        *count = says(*count);
    }
}

/// What else happened to a client, one after the other, so many seconds later.
fn go_on(history: &mut History, client: &str, later_s: u64, whats: &[What]) {
    let events = events(history, client);
    let end = events.pop().expect("it has an end");
    let mut at = end.at + later_s * 1_000_000;
    for what in whats.iter().copied().chain([end.what]) {
        events.push(Event { at, what });
        at += 1_000;
    }
}

/// Something that is told of ana, ben or a guest.
type Told = fn(Stream, [Name; 3]) -> What;
const GUEST_COMES: Told = |stream, [.., guest]| What::Joined {
    stream,
    member: guest,
};
const GUEST_GOES: Told = |stream, [.., guest]| What::Left {
    stream,
    member: guest,
};

/// What `steady` is told of who is in the room, so many seconds later.
fn tell(history: &mut History, later_s: u64, what: &[Told]) {
    let names = ["ana", "ben", "guest"].map(|name| history.name(name));
    let whats: Vec<What> = what.iter().map(|what| what(Stream(1), names)).collect();
    go_on(history, "steady", later_s, &whats);
}

/// Seconds after which no fault, and nobody who left before, is a reason for anything.
const LATER_S: u64 = 100;

/// Somebody comes into the room, and something happens before it is answered.
fn comes(history: &mut History, stream: Stream, member: &str, before: &[What]) -> Vec<What> {
    let [room, member] = ["room:1", member].map(|name| history.name(name));
    let subscribing = What::Subscribing {
        stream,
        channel: room,
        since: None,
        conflates: false,
    };
    let subscribed = What::Subscribed {
        stream,
        place: history.finals[0].head,
        recovered: None,
    };
    let stands = What::Stands { stream, member };
    [&[subscribing], before, &[subscribed, stands]].concat()
}

/// A guest comes into the room and leaves it, long after all faults.
fn visit(history: &mut History) {
    let mut whats = comes(history, Stream(8), "guest", &[]);
    whats.push(What::Unsubscribed { stream: Stream(8) });
    go_on(history, "conflating", LATER_S, &whats);
}

/// The first such event once more, at the end.
fn write_again(history: &mut History, client: &str, is: fn(&What) -> bool) {
    let at = find(history, client, is);
    let events = events(history, client);
    let last = events.len() - 1;
    let again = Event {
        at: events[last].at,
        ..events[at]
    };
    events.insert(last, again);
}

const BUGS: &[Bug] = &[
    Bug {
        name: "a message that nobody published",
        rule: Rule::Genuine,
        plant: |history| {
            let publisher = history.name("nobody");
            let at = received(history, "steady")[19];
            if let What::Received { message, .. } = &mut events(history, "steady")[at].what {
                *message = Message { publisher, number: 1 };
            }
        },
    },
    Bug {
        name: "a payload with a flipped bit",
        rule: Rule::Genuine,
        plant: |history| {
            let at = received(history, "steady")[2];
            let what = &mut events(history, "steady")[at].what;
            if let What::Received { stream, place, .. } = *what {
                *what = What::Altered { stream, place };
            }
        },
    },
    Bug {
        name: "a message of another channel",
        rule: Rule::Genuine,
        plant: |history| {
            let ticker = history.name("ticker");
            let at = received(history, "steady")[2];
            if let What::Received { channel, .. } = &mut events(history, "steady")[at].what {
                *channel = ticker;
            }
        },
    },
    Bug {
        name: "a message for a subscription that nobody asked for",
        rule: Rule::Genuine,
        plant: |history| {
            let at = received(history, "steady")[2];
            if let What::Received { stream, .. } = &mut events(history, "steady")[at].what {
                *stream = Stream(9);
            }
        },
    },
    Bug {
        name: "a message from before it was published",
        rule: Rule::Genuine,
        plant: |history| {
            let at = received(history, "steady")[2];
            let events = events(history, "steady");
            events[at].at = events[at - 1].at;
        },
    },
    Bug {
        name: "two messages at one place, on two nodes",
        rule: Rule::OneName,
        plant: |history| {
            let list = received(history, "returning");
            let list = [list[20], list[21]];
            let events = events(history, "returning");
            let messages = list.map(|at| events[at].what);
            for (at, other) in [(list[0], messages[1]), (list[1], messages[0])] {
                if let (What::Received { message, .. }, What::Received { message: theirs, .. }) =
                    (&mut events[at].what, other)
                {
                    *message = theirs;
                }
            }
        },
    },
    Bug {
        name: "a kept epoch after a lost tail",
        rule: Rule::OneName,
        plant: |history| {
            // The second life says that it is the first, with the same offsets for other messages.
            for log in history.logs_mut() {
                for event in &mut log.events {
                    match &mut event.what {
                        What::Received { place, .. } | What::Acknowledged { place, .. }
                            if place.epoch == SECOND =>
                        {
                            place.epoch = FIRST
                        }
                        _ => {}
                    }
                }
            }
        },
    },
    Bug {
        name: "an acknowledgement with the place of another message",
        rule: Rule::OneName,
        plant: |history| {
            let at = find(history, "w1", |what| matches!(what, What::Acknowledged { .. }));
            if let What::Acknowledged { place, .. } = &mut events(history, "w1")[at].what {
                *place = Run::place(FIRST, 2);
            }
        },
    },
    Bug {
        name: "another tag for the same message",
        rule: Rule::OneName,
        plant: |history| {
            let at = received(history, "returning")[3];
            if let What::Received { place, .. } = &mut events(history, "returning")[at].what {
                place.tag ^= 1;
            }
        },
    },
    Bug {
        name: "a final history that names another message",
        rule: Rule::OneName,
        plant: |history| {
            let other = history.finals[0].entries[0].1;
            history.finals[0].entries[1].1 = other;
        },
    },
    Bug {
        name: "the last replayed message once more, live",
        rule: Rule::Increasing,
        plant: |history| {
            let at = received(history, "returning")[9];
            let events = events(history, "returning");
            let again = events[at];
            events.insert(at + 1, again);
        },
    },
    Bug {
        name: "two messages in the wrong order",
        rule: Rule::Increasing,
        plant: |history| {
            let at = received(history, "steady")[12];
            let events = events(history, "steady");
            let (first, second) = (events[at].what, events[at + 1].what);
            events[at].what = second;
            events[at + 1].what = first;
        },
    },
    Bug {
        name: "the replay begins with what was seen before the connection was lost",
        rule: Rule::Increasing,
        plant: |history| {
            let list = received(history, "returning");
            let events = events(history, "returning");
            let again = events[list[3]].what;
            let at = events[list[4]].at;
            events.insert(list[4], Event { at, what: again });
        },
    },
    Bug {
        name: "a message before the answer that it is subscribed",
        rule: Rule::Increasing,
        plant: |history| {
            let at = received(history, "steady")[0];
            let events = events(history, "steady");
            let message = events.remove(at);
            events.insert(2, message);
            events[2].at = events[1].at;
        },
    },
    Bug {
        name: "a skipped message on a full queue, without a gap",
        rule: Rule::Complete,
        plant: |history| {
            let at = received(history, "steady")[5];
            events(history, "steady").remove(at);
        },
    },
    Bug {
        name: "a resume that begins one message too late",
        rule: Rule::Complete,
        plant: |history| {
            let at = received(history, "returning")[4];
            events(history, "returning").remove(at);
        },
    },
    Bug {
        name: "an off-by-one at the trim edge: the gap is one too short",
        rule: Rule::Complete,
        plant: |history| {
            let at = find(history, "late", |what| matches!(what, What::Gap { .. }));
            if let What::Gap { place, .. } = &mut events(history, "late")[at].what {
                *place = Run::place(SECOND, 11);
            }
        },
    },
    Bug {
        name: "an off-by-one at the trim edge: the gap covers what is still there",
        rule: Rule::Complete,
        plant: |history| {
            let at = find(history, "late", |what| matches!(what, What::Gap { .. }));
            if let What::Gap { place, .. } = &mut events(history, "late")[at].what {
                *place = Run::place(SECOND, 13);
            }
            let at = received(history, "late")[2];
            events(history, "late").remove(at);
        },
    },
    Bug {
        name: "a gap that begins too late",
        rule: Rule::Complete,
        plant: |history| {
            let at = find(history, "late", |what| matches!(what, What::Gap { .. }));
            if let What::Gap { from, .. } = &mut events(history, "late")[at].what {
                *from = 5;
            }
        },
    },
    Bug {
        name: "`recovered: true` over a hole",
        rule: Rule::Complete,
        plant: |history| {
            let events = events(history, "late");
            for event in events {
                if let What::Subscribed { recovered, .. } = &mut event.what {
                    *recovered = Some(true);
                }
            }
        },
    },
    Bug {
        name: "`recovered: false`, and no word of what is missing",
        rule: Rule::Complete,
        plant: |history| {
            for event in events(history, "returning").iter_mut().take(15) {
                if let What::Subscribed {
                    recovered: recovered @ Some(true),
                    ..
                } = &mut event.what
                {
                    *recovered = Some(false);
                }
            }
        },
    },
    Bug {
        name: "a new life without a reset",
        rule: Rule::Complete,
        plant: |history| {
            events(history, "steady").retain(|event| !matches!(event.what, What::Reset { .. }));
        },
    },
    Bug {
        name: "a reset although the log lives on",
        rule: Rule::Complete,
        plant: |history| {
            let at = received(history, "steady")[14];
            let events = events(history, "steady");
            if let Event {
                at: when,
                what: What::Received { stream, place, .. },
            } = events[at]
            {
                let what = What::Reset { stream, place };
                events.insert(at + 1, Event { at: when, what });
            }
        },
    },
    Bug {
        name: "the newest of a conflation key is left out",
        rule: Rule::Complete,
        plant: |history| {
            let at = find(history, "conflating", |what| matches!(what, What::Gap { .. }));
            if let What::Gap { place, .. } = &mut events(history, "conflating")[at].what {
                *place = Run::place(TICKER, 7);
            }
            let at = received(history, "conflating")[0];
            events(history, "conflating").remove(at);
        },
    },
    Bug {
        name: "messages left out for newer ones for somebody who wants all",
        rule: Rule::Complete,
        plant: |history| {
            for event in events(history, "conflating") {
                if let What::Subscribing { conflates, .. } = &mut event.what {
                    *conflates = false;
                }
            }
        },
    },
    Bug {
        name: "an acknowledged message that the log lost",
        rule: Rule::Kept,
        plant: |history| {
            history.finals[0].entries.remove(3);
        },
    },
    Bug {
        name: "an acknowledgement before the append, and then no append",
        rule: Rule::Kept,
        plant: |history| {
            // The last one is acknowledged, and is nowhere.
            history.finals[1].entries.pop();
            history.finals[1].head = Run::place(TICKER, 8);
            let at = *received(history, "conflating").last().expect("three");
            events(history, "conflating").remove(at);
        },
    },
    Bug {
        name: "a log that began anew though nothing was done to it",
        rule: Rule::Kept,
        plant: |history| history.faults[0].loses = false,
    },
    Bug {
        name: "a publication overtaken by one that was said after its acknowledgement",
        rule: Rule::Ordered,
        plant: |history| swap_places(history, SECOND, 15, 16),
    },
    Bug {
        name: "two messages of one publisher in the wrong order",
        rule: Rule::Ordered,
        plant: |history| {
            // Both were on their way at once.
            let list: Vec<usize> = events(history, "w1")
                .iter()
                .enumerate()
                .filter(|(_, event)| matches!(event.what, What::Acknowledged { place, .. } if place.epoch == SECOND && [15, 16].contains(&place.offset)))
                .map(|(at, _)| at)
                .collect();
            let events = events(history, "w1");
            events.swap(list[0], list[1] - 1);
            events[list[0]].at = events[list[0] - 1].at + 1;
            events[list[1] - 1].at = events[list[1]].at;
            swap_places(history, SECOND, 15, 16);
        },
    },
    Bug {
        name: "a refused publication that is there",
        rule: Rule::Once,
        plant: |history| {
            let at = events(history, "w1")
                .iter()
                .rposition(|event| matches!(event.what, What::Acknowledged { .. }))
                .expect("one");
            let what = &mut events(history, "w1")[at].what;
            if let What::Acknowledged { message, .. } = *what {
                *what = What::Refused { message };
            }
        },
    },
    Bug {
        name: "an unknown publication that is there twice",
        rule: Rule::Once,
        plant: |history| {
            let message = Message {
                publisher: history.name("w3"),
                number: 2,
            };
            replace_message(history, SECOND, 15, message);
            replace_message(history, SECOND, 17, message);
        },
    },
    Bug {
        name: "one idempotency key, two messages",
        rule: Rule::Once,
        plant: |history| {
            let message = history.finals[0].entries[0].1;
            replace_message(history, SECOND, 14, message);
        },
    },
    Bug {
        name: "two answers to one publication",
        rule: Rule::Once,
        plant: |history| {
            let at = find(history, "w1", |what| matches!(what, What::Acknowledged { .. }));
            let events = events(history, "w1");
            let again = events[at];
            events.insert(at + 1, again);
        },
    },
    Bug {
        name: "a message after unsubscribe",
        rule: Rule::Ended,
        plant: |history| {
            let at = received(history, "steady")[4];
            let message = events(history, "steady")[at];
            let end = find(history, "leaving", |what| {
                matches!(what, What::Unsubscribed { .. })
            });
            events(history, "leaving").insert(end + 1, message);
        },
    },
    Bug {
        name: "a message after a revocation",
        rule: Rule::Ended,
        plant: |history| {
            history.promises.revocation = Duration::from_millis(1);
            let list = received(history, "steady");
            let at = events(history, "steady")[list[20]].at;
            let (client, channel) = (history.client("steady"), history.name("room:1"));
            history.revocations.push(Revocation { client, channel, at });
        },
    },
    Bug {
        name: "a message of an old life after the reset",
        rule: Rule::Ended,
        plant: |history| {
            let list = received(history, "steady");
            let events = events(history, "steady");
            let (old, at) = (events[list[9]].what, events[list[10]].at);
            events.insert(list[10], Event { at, what: old });
        },
    },
    Bug {
        name: "a member who left and is still listed",
        rule: Rule::Present,
        plant: |history| {
            let ghost = history.name("ghost");
            history.rosters[0].members.push(ghost);
        },
    },
    Bug {
        name: "a change of presence that one subscriber did not get",
        rule: Rule::Present,
        plant: |history| events(history, "steady").retain(|event| !matches!(event.what, What::Joined { .. })),
    },
    Bug {
        name: "somebody who is said to have left and was there all the time",
        rule: Rule::Present,
        plant: |history| {
            tell(
                history,
                LATER_S,
                &[
                    |stream, [ana, ..]| What::Left { stream, member: ana },
                    |stream, [ana, ..]| What::Joined { stream, member: ana },
                ],
            );
        },
    },
    Bug {
        name: "somebody who has left twice",
        rule: Rule::Present,
        plant: |history| {
            visit(history);
            tell(history, LATER_S, &[GUEST_COMES, GUEST_GOES, GUEST_GOES]);
            history.faults.clear();
        },
    },
    Bug {
        name: "a subscriber that is left behind for ever",
        rule: Rule::Live,
        plant: |history| {
            let at = *received(history, "steady").last().expect("thirty");
            events(history, "steady").remove(at);
        },
    },
    Bug {
        name: "a publication without an answer",
        rule: Rule::Live,
        plant: |history| events(history, "w3").retain(|event| !matches!(event.what, What::Unknown { .. })),
    },
    Bug {
        name: "a subscribe without an answer",
        rule: Rule::Live,
        plant: |history| {
            let subscribing = find(history, "conflating", |what| {
                matches!(what, What::Subscribing { .. })
            });
            let end = events(history, "conflating").len() - 1;
            events(history, "conflating").drain(subscribing + 1..end);
        },
    },
    Bug {
        name: "a message that comes a minute late",
        rule: Rule::Live,
        plant: |history| {
            let at = *received(history, "late").last().expect("ten");
            let events = events(history, "late");
            for event in &mut events[at..] {
                event.at += 60_000_000;
            }
        },
    },
    Bug {
        name: "a message in the final history of another channel",
        rule: Rule::Genuine,
        plant: |history| {
            let (_, message) = history.finals[0].entries[0];
            let ticker = &mut history.finals[1];
            let place = Place {
                offset: ticker.head.offset + 1,
                ..ticker.head
            };
            ticker.head = place;
            ticker.entries.push((place, message));
        },
    },
    Bug {
        name: "a message that is said for the second time",
        rule: Rule::Once,
        plant: |history| write_again(history, "w1", |what| matches!(what, What::Invoked { .. })),
    },
    Bug {
        name: "a subscription under the number of another",
        rule: Rule::Complete,
        plant: |history| write_again(history, "steady", |what| matches!(what, What::Subscribing { .. })),
    },
    Bug {
        name: "a subscription that goes on from a place with another tag",
        rule: Rule::OneName,
        plant: |history| {
            let events = events(history, "returning");
            let at = events
                .iter()
                .rposition(|event| matches!(event.what, What::Subscribed { .. }))
                .expect("it comes back");
            if let What::Subscribed { place, .. } = &mut events[at].what {
                place.tag ^= 1;
            }
        },
    },
    Bug {
        name: "a final history that nobody read",
        rule: Rule::Kept,
        plant: |history| drop(history.finals.remove(0)),
    },
    Bug {
        name: "a gap over what a log that is over still held then",
        rule: Rule::Complete,
        plant: |history| {
            let at = received(history, "steady")[3];
            tell_gap(&mut events(history, "steady")[at]);
        },
    },
    Bug {
        name: "subscribed behind the end of the log",
        rule: Rule::OneName,
        plant: |history| {
            let events = events(history, "late").iter_mut();
            let subscribed = events.filter_map(|event| match &mut event.what {
                What::Subscribed { place, .. } if place.epoch == SECOND => Some(place),
                _ => None,
            });
            let place = subscribed.last().expect("it comes back");
            place.offset += 1_000;
        },
    },
    Bug {
        name: "a log that forgets everything",
        rule: Rule::Kept,
        plant: |history| {
            let last = &mut history.finals[0];
            last.kept_from = last.head.offset + 1;
            last.entries.clear();
        },
    },
    Bug {
        name: "a subscriber that leaves, long after everything, without what was acknowledged",
        rule: Rule::Kept,
        plant: |history| {
            let at = find(history, "leaving", |what| {
                matches!(what, What::Unsubscribed { .. })
            });
            for event in &mut events(history, "leaving")[at..] {
                event.at += 60_000_000;
            }
        },
    },
    Bug {
        name: "a log that was cut off",
        rule: Rule::Live,
        plant: |history| {
            let reader = history.name("steady");
            history.expected.push(reader);
            let _end = events(history, "steady").pop();
        },
    },
    Bug {
        name: "a log that is missing",
        rule: Rule::Live,
        plant: |history| {
            let reader = history.name("nobody");
            history.expected.push(reader);
        },
    },
    Bug {
        name: "a last list of members that nobody read",
        rule: Rule::Present,
        plant: |history| history.rosters.clear(),
    },
    Bug {
        name: "a gap over what was held, where slow readers are not given it, for one that goes on",
        rule: Rule::Complete,
        plant: |history| {
            history.promises.resyncs = false;
            let events = events(history, "late");
            let goes_on = |two: &[Event]| {
                matches!(
                    (two[0].what, two[1].what),
                    (What::Subscribed { .. }, What::Received { .. })
                )
            };
            let at = events.windows(2).position(goes_on).expect("it goes on");
            if let What::Subscribed { recovered, .. } = &mut events[at].what {
                *recovered = Some(false);
            }
            tell_gap(&mut events[at + 1]);
        },
    },
    Bug {
        name: "nothing of who is there, for one that is to be told",
        rule: Rule::Present,
        plant: |history| {
            events(history, "steady").retain(|event| {
                !matches!(
                    event.what,
                    What::Members { .. } | What::Member { .. } | What::Joined { .. } | What::Left { .. }
                )
            });
        },
    },
    Bug {
        name: "a list with fewer members than it says",
        rule: Rule::Present,
        plant: |history| count_members(history, |count| count + 1),
    },
    Bug {
        name: "a list with more members than it says",
        rule: Rule::Present,
        plant: |history| count_members(history, |count| count - 1),
    },
    Bug {
        name: "a wrong number of members, who are not listed",
        rule: Rule::Present,
        plant: |history| {
            let stream = Stream(1);
            let events = events(history, "steady");
            let last = events.len() - 1;
            let what = What::Members {
                stream,
                count: 7,
                complete: false,
            };
            events.insert(last, Event { what, ..events[last] });
        },
    },
    Bug {
        name: "somebody who is not there comes and leaves",
        rule: Rule::Present,
        plant: |history| {
            tell(history, LATER_S, &[GUEST_COMES, GUEST_GOES]);
        },
    },
    Bug {
        name: "a list of members, long after all faults, without one who is there",
        rule: Rule::Present,
        plant: |history| {
            tell(
                history,
                LATER_S,
                &[
                    |stream, _| What::Members {
                        stream,
                        count: 1,
                        complete: true,
                    },
                    |stream, [ana, ..]| What::Member { stream, member: ana },
                    |stream, [_, ben, _]| What::Joined { stream, member: ben },
                ],
            );
        },
    },
    Bug {
        name: "a list of members with one who left long before",
        rule: Rule::Present,
        plant: |history| {
            visit(history);
            tell(history, LATER_S, &[GUEST_COMES, GUEST_GOES]);
            tell(
                history,
                LATER_S,
                &[
                    |stream, _| What::Members {
                        stream,
                        count: 3,
                        complete: true,
                    },
                    |stream, [ana, ..]| What::Member { stream, member: ana },
                    |stream, [_, ben, _]| What::Member { stream, member: ben },
                    |stream, [.., guest]| What::Member {
                        stream,
                        member: guest,
                    },
                    GUEST_GOES,
                ],
            );
        },
    },
    Bug {
        name: "a member who left, for one that leaves long after that without having heard of it",
        rule: Rule::Present,
        plant: |history| {
            visit(history);
            let [room, ana, ben, guest] = ["room:1", "ana", "ben", "guest"].map(|name| history.name(name));
            let place = history.finals[0].head;
            let stream = Stream(2);
            let subscribing = What::Subscribing {
                stream,
                channel: room,
                since: None,
                conflates: false,
            };
            let subscribed = What::Subscribed {
                stream,
                place,
                recovered: None,
            };
            let list = What::Members {
                stream,
                count: 2,
                complete: true,
            };
            let members = [ana, ben].map(|member| What::Member { stream, member });
            let came = What::Joined {
                stream,
                member: guest,
            };
            let whats = [subscribing, subscribed, list, members[0], members[1], came];
            go_on(history, "late", LATER_S, &whats);
            go_on(history, "late", 2 * LATER_S, &[What::Unsubscribed { stream }]);
        },
    },
    Bug {
        name: "somebody who was there all the time and comes twice",
        rule: Rule::Present,
        plant: |history| {
            history.faults.clear();
            let ben = history.name("ben");
            let at = received(history, "steady")[0];
            let events = events(history, "steady");
            let what = What::Joined {
                stream: Stream(1),
                member: ben,
            };
            events.insert(at, Event { what, ..events[at] });
        },
    },
    Bug {
        name: "something is missing, says a server that has all of it, and the connection ends",
        rule: Rule::Complete,
        plant: |history| {
            let events = events(history, "late");
            let is_whole = |event: &Event| {
                matches!(
                    event.what,
                    What::Subscribed {
                        recovered: Some(true),
                        ..
                    }
                )
            };
            let at = events
                .iter()
                .position(is_whole)
                .expect("it comes with a position");
            let mut wrong = events[at];
            if let What::Subscribed { recovered, .. } = &mut wrong.what {
                *recovered = Some(false);
            }
            let lost = [What::Disconnected, What::Connected].map(|what| Event { what, ..wrong });
            events.splice(at..at, std::iter::once(wrong).chain(lost));
        },
    },
    Bug {
        name: "the number of members in place of a short list",
        rule: Rule::Present,
        plant: |history| {
            history.promises.listed_max = Some(900);
            tell(
                history,
                LATER_S,
                &[|stream, _| What::Members {
                    stream,
                    count: 2,
                    complete: false,
                }],
            );
        },
    },
    Bug {
        name: "files that nobody counted",
        rule: Rule::Freed,
        plant: |history| {
            let reader = history.name("steady");
            history.expected.push(reader);
            history.resources.clear();
        },
    },
    Bug {
        name: "files that are never closed",
        rule: Rule::Freed,
        plant: |history| history.resources[0].after = 90,
    },
];

/// The messages at two places of a log change places, for everyone.
fn swap_places(history: &mut History, epoch: u64, one: u64, other: u64) {
    let at = |offset| {
        history.finals[0]
            .entries
            .iter()
            .find(|(place, _)| place.offset == offset)
            .map(|(_, message)| *message)
    };
    let (first, second) = (at(one).expect("kept"), at(other).expect("kept"));
    let swap = |place: &mut Place, message: Message| {
        if place.epoch == epoch && message == first {
            *place = Run::place(epoch, other);
        } else if place.epoch == epoch && message == second {
            *place = Run::place(epoch, one);
        }
    };
    for log in history.logs_mut() {
        for event in &mut log.events {
            if let What::Acknowledged { place, message } = &mut event.what {
                swap(place, *message);
            }
        }
    }
    replace_message(history, epoch, one, second);
    replace_message(history, epoch, other, first);
}

/// Another message at a place of a log, for everyone who reads it.
fn replace_message(history: &mut History, epoch: u64, offset: u64, message: Message) {
    let is_there = |place: &Place| place.epoch == epoch && place.offset == offset;
    for log in history.logs_mut() {
        for event in &mut log.events {
            if let What::Received {
                place,
                message: theirs,
                ..
            } = &mut event.what
                && is_there(place)
            {
                *theirs = message;
            }
        }
        log.events.retain(|event| !matches!(&event.what, What::Acknowledged { place, message: theirs } if is_there(place) && *theirs != message));
    }
    for last in &mut history.finals {
        for (place, theirs) in &mut last.entries {
            if is_there(place) {
                *theirs = message;
            }
        }
    }
}

/// Of the bugs one in so many is planted.
const EVERY: usize = if cfg!(miri) { 10 } else { 1 };

#[test]
fn a_history_without_a_bug_is_clean() {
    let verdict = judge(&recorded());
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.counts.gaps, 2);
    assert_eq!(verdict.counts.resets, 2);
    assert_eq!(verdict.counts.resumes, 4);
}

#[test]
fn every_planted_bug_is_caught_by_its_rule() {
    let mut missed = Vec::new();
    for bug in BUGS.iter().step_by(EVERY) {
        let mut history = recorded();
        (bug.plant)(&mut history);
        let verdict = judge(&history);
        if !verdict.rules().contains(&bug.rule) {
            missed.push(format!("{}: {} expected, {verdict}", bug.name, bug.rule));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

/// It was expected under both names to the end.
#[test]
fn whoever_comes_back_as_another_member_is_there_as_that_one() {
    let mut history = recorded();
    let [room, ana, anew] = ["room:1", "ana", "anew"].map(|name| history.name(name));
    let steady = events(&mut history, "steady");
    let (last, stream) = (steady.len() - 1, Stream(1));
    let at = steady[last].at;
    let whats = [
        // A subscription that has ended has no member, whoever had it.
        What::Subscribing {
            stream: Stream(9),
            channel: room,
            since: None,
            conflates: false,
        },
        What::Stands {
            stream: Stream(9),
            member: ana,
        },
        What::Unsubscribed { stream: Stream(9) },
        What::Stands { stream, member: ana },
        What::Stands { stream, member: anew },
        What::Left { stream, member: ana },
        What::Joined { stream, member: anew },
    ];
    for what in whats.into_iter().rev() {
        steady.insert(last, Event { at, what });
    }
    for member in &mut history.rosters[0].members {
        if *member == ana {
            *member = anew;
        }
    }
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict}");
    // Under the name of before it is a ghost.
    history.rosters[0].members.push(ana);
    assert_eq!(judge(&history).rules(), [Rule::Present]);
}

/// What came after the member was back was held for one that had been there all the time.
#[test]
fn who_went_and_came_back_may_be_told_of_after_that() {
    let verdict_of = |told: usize| {
        let mut history = recorded();
        let guest = history.name("guest");
        let [first, again] = [8, 9].map(|number| comes(&mut history, Stream(number), "guest", &[]));
        let steady = events(&mut history, "steady");
        let last = steady.len() - 1;
        let stream = Stream(1);
        let (left, joined) = (
            What::Left {
                stream,
                member: guest,
            },
            What::Joined {
                stream,
                member: guest,
            },
        );
        let mut whats = vec![joined];
        whats.extend(first);
        whats.push(What::Unsubscribed { stream: Stream(8) });
        whats.extend(again);
        whats.extend(vec![[left, joined]; told].concat());
        // Long after all faults.
        let at = steady[last].at + 100_000_000;
        steady[last].at = at;
        for what in whats.into_iter().rev() {
            steady.insert(last, Event { at, what });
        }
        history.rosters[0].members.push(guest);
        judge(&history)
    };
    let verdict = verdict_of(1);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict_of(2).rules(), [Rule::Present]);
}

/// Without what happened to it the same would be invented.
#[test]
fn who_lost_an_answer_may_have_been_there_under_another_name() {
    let verdict_of = |before: &[What]| {
        let mut history = recorded();
        let whats = comes(&mut history, Stream(8), "guest", before);
        go_on(&mut history, "conflating", LATER_S, &whats);
        let [guest, before] = ["guest", "before"].map(|name| history.name(name));
        history.rosters[0].members.push(guest);
        let stream = Stream(1);
        let joined = |member| What::Joined { stream, member };
        let left = What::Left {
            stream,
            member: before,
        };
        let told = [joined(before), joined(guest), left];
        go_on(&mut history, "steady", LATER_S + 1, &told);
        judge(&history)
    };
    let asked = What::Asked { stream: Stream(8) };
    for before in [[What::Disconnected, What::Connected], [asked, asked]] {
        let verdict = verdict_of(&before);
        assert!(verdict.is_clean(), "{before:?}: {verdict}");
    }
    assert_eq!(verdict_of(&[asked]).rules(), [Rule::Present]);
}

/// Without what happened to it the same would be a list that leaves somebody out.
#[test]
fn who_was_away_or_came_anew_need_not_be_on_a_list() {
    let verdict_of = |happens: fn(&mut History) -> Vec<What>| {
        let mut history = recorded();
        let whats = comes(&mut history, Stream(8), "guest", &[]);
        go_on(&mut history, "conflating", LATER_S, &whats);
        let whats = happens(&mut history);
        go_on(&mut history, "conflating", 2 * LATER_S, &whats);
        let [ana, ben, guest] = ["ana", "ben", "guest"].map(|name| history.name(name));
        history.rosters[0].members.push(guest);
        let stream = Stream(1);
        let member = |member| What::Member { stream, member };
        let joined = What::Joined {
            stream,
            member: guest,
        };
        go_on(&mut history, "steady", LATER_S + 1, &[joined]);
        let list = What::Members {
            stream,
            count: 2,
            complete: true,
        };
        let told = [list, member(ana), member(ben), joined];
        go_on(&mut history, "steady", 2 * LATER_S, &told);
        judge(&history)
    };
    let explained: [fn(&mut History) -> Vec<What>; 2] = [
        |_| vec![What::Disconnected, What::Connected],
        |history| {
            let left = What::Unsubscribed { stream: Stream(8) };
            std::iter::once(left)
                .chain(comes(history, Stream(9), "guest", &[]))
                .collect()
        },
    ];
    for happens in explained {
        let verdict = verdict_of(happens);
        assert!(verdict.is_clean(), "{verdict}");
    }
    assert_eq!(verdict_of(|_| Vec::new()).rules(), [Rule::Present]);
}

/// Without that it had left, it could not come twice.
#[test]
fn of_who_leaves_and_is_back_at_once_only_that_it_came_is_told() {
    let verdict_of = |is_back: bool| {
        let mut history = recorded();
        let mut whats = comes(&mut history, Stream(8), "guest", &[]);
        if is_back {
            whats.push(What::Unsubscribed { stream: Stream(8) });
            whats.extend(comes(&mut history, Stream(9), "guest", &[]));
        }
        go_on(&mut history, "conflating", LATER_S, &whats);
        // Nothing else may be a reason; then that the log began anew has none.
        history.faults.clear();
        let guest = history.name("guest");
        history.rosters[0].members.push(guest);
        let joined = What::Joined {
            stream: Stream(1),
            member: guest,
        };
        go_on(&mut history, "steady", LATER_S + 1, &[joined, joined]);
        judge(&history).rules()
    };
    assert_eq!(verdict_of(true), [Rule::Kept]);
    assert_eq!(verdict_of(false), [Rule::Kept, Rule::Present]);
}

/// A full disk had not taken the name of a log that nothing stood in.
#[test]
fn a_log_without_a_message_may_begin_anew() {
    let verdict_of = |offset: u64| {
        let mut history = recorded();
        let empty = history.name("empty");
        let steady = events(&mut history, "steady");
        let (last, stream) = (steady.len() - 1, Stream(9));
        let whats = [
            What::Subscribing {
                stream,
                channel: empty,
                since: None,
                conflates: false,
            },
            What::Subscribed {
                stream,
                place: Run::place(0xcccc_0001, offset),
                recovered: None,
            },
            What::Reset {
                stream,
                place: Run::place(0xcccc_0002, 0),
            },
        ];
        let at = steady[last].at;
        for what in whats.into_iter().rev() {
            steady.insert(last, Event { at, what });
        }
        history.finals.push(Final {
            channel: empty,
            head: Run::place(0xcccc_0002, 0),
            kept_from: 1,
            entries: Vec::new(),
        });
        for fault in &mut history.faults {
            fault.loses = false;
        }
        judge(&history).to_string()
    };
    // Of the room it is told in both.
    assert!(!verdict_of(0).contains("channel: empty"));
    assert!(verdict_of(3).contains("channel: empty"));
}

/// It was told as a message that no newer one can stand for.
#[test]
fn messages_without_a_conflation_key_are_of_one_key() {
    let mut history = recorded();
    let ticker = history.name("ticker");
    for log in history.logs_mut() {
        for event in &mut log.events {
            if let What::Invoked {
                channel, conflate, ..
            } = &mut event.what
                && *channel == ticker
            {
                *conflate = None;
            }
        }
    }
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict}");
    // The newest of them has to come.
    let at = received(&mut history, "conflating");
    let place = Run::place(TICKER, 9);
    let conflating = events(&mut history, "conflating");
    conflating[at[2]].what = What::Gap {
        stream: Stream(1),
        from: 9,
        place,
        conflated: true,
    };
    assert_eq!(judge(&history).rules(), [Rule::Complete]);
}

/// What was announced by one connection was expected of the next.
#[test]
fn what_was_announced_ends_with_the_connection() {
    let mut history = recorded();
    let late = events(&mut history, "late");
    let at = late
        .iter()
        .rposition(|event| matches!(event.what, What::Subscribed { .. }))
        .expect("it comes back");
    let stream = Stream(1);
    let lost = at - 2;
    // It came back once before, was told that nothing is missing, lost that connection, and was away for longer than the log remembers.
    let again = late[lost];
    let whats = [
        What::Disconnected,
        What::Connected,
        What::Subscribed {
            stream,
            place: Run::place(SECOND, 3),
            recovered: Some(true),
        },
    ];
    late.splice(lost..lost, whats.map(|what| Event { what, ..again }));
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict}");
}

/// What was announced in one request was expected of the next, though the client had ended the first one itself.
#[test]
fn what_was_announced_ends_with_the_request_that_asked_for_it() {
    let verdict_of = |it_asks_again: bool| {
        let mut history = recorded();
        let late = events(&mut history, "late");
        let at = late
            .iter()
            .rposition(|event| matches!(event.what, What::Subscribed { .. }))
            .expect("it comes back");
        let stream = Stream(1);
        let again = late[at];
        let before = Event {
            what: What::Subscribed {
                stream,
                place: Run::place(SECOND, 3),
                recovered: Some(false),
            },
            ..again
        };
        let asks = Event {
            what: What::Asked { stream },
            ..again
        };
        let between = if it_asks_again {
            vec![before, asks]
        } else {
            vec![before]
        };
        late.splice(at..at, between);
        judge(&history)
    };
    let verdict = verdict_of(true);
    assert!(verdict.is_clean(), "{verdict}");
    assert!(!verdict_of(false).is_clean());
}

/// An answer that was long on its way was held for one that hid what was published meanwhile.
#[test]
fn what_is_published_after_the_server_looked_may_be_forgotten_before_it_comes() {
    let verdict_of = |asked_behind_the_publication: bool| {
        let mut history = recorded();
        let late = events(&mut history, "late");
        let at = late
            .iter()
            .rposition(|event| matches!(event.what, What::Subscribed { .. }))
            .expect("it comes back");
        if let What::Subscribed { recovered, .. } = &mut late[at].what {
            *recovered = Some(true);
        }
        // It lost the connection before what it misses was published.
        let asked_at = match asked_behind_the_publication {
            true => late[at].at,
            false => late[at - 2].at,
        };
        assert_eq!(late[at - 2].what, What::Disconnected);
        let what = What::Asked { stream: Stream(1) };
        late.insert(at, Event { at: asked_at, what });
        judge(&history)
    };
    assert_eq!(verdict_of(true).rules(), [Rule::Complete]);
    let verdict = verdict_of(false);
    assert!(verdict.is_clean(), "{verdict}");
}

/// It was held for kept, because the acknowledgement came when the server had been started again.
#[test]
fn an_acknowledgement_may_be_on_its_way_while_the_log_is_lost() {
    let mut history = recorded();
    let lost = history.faults.iter().find(|fault| fault.loses).expect("one");
    let (from, until) = (lost.from, lost.until);
    let mut moved = false;
    for log in history.logs_mut() {
        let acknowledged = log
            .events
            .iter()
            .rposition(|event| matches!(event.what, What::Acknowledged { .. }) && event.at < from);
        let Some(at) = acknowledged else { continue };
        moved = true;
        let mut event = log.events.remove(at);
        let behind = log.events.iter().position(|event| event.at > until + 1);
        event.at = until + 1;
        log.events.insert(behind.unwrap_or(log.events.len() - 1), event);
    }
    assert!(moved);
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict}");
}

#[test]
fn a_verdict_names_what_a_person_needs() {
    let mut history = recorded();
    (BUGS
        .iter()
        .find(|bug| bug.name.starts_with("a new life"))
        .expect("it is there")
        .plant)(&mut history);
    let words = judge(&history).to_string();
    for part in [
        "rule 4",
        "room:1",
        "steady, subscription 1",
        "kill -9 and restart",
        "without a reset",
        "→",
        "received 1 of life",
    ] {
        assert!(words.contains(part), "{part} is missing in:\n{words}");
    }
}

#[test]
fn a_history_that_went_through_files_is_the_same() {
    let path = std::env::temp_dir().join(format!("switchboard-check-{}", std::process::id()));
    for bug in std::iter::once(None).chain(BUGS.iter().map(Some).step_by(EVERY)) {
        let mut history = recorded();
        if let Some(bug) = bug {
            (bug.plant)(&mut history);
        }
        history.write(&path).expect("it is written");
        let read = History::read(&path).expect("it is read");
        assert_eq!(read.events(), history.events());
        let verdict = judge(&read);
        // Logs are read in the order of their names, and where two contradict each other the one read first is believed.
        match bug {
            Some(bug) => assert!(verdict.rules().contains(&bug.rule), "{}: {verdict}", bug.name),
            None => assert!(verdict.is_clean(), "{verdict}"),
        }
    }
    std::fs::remove_dir_all(path).expect("it is removed");
}

use switchboard_proto::payload::Payload;
use switchboard_proto::position::Epoch;

use super::*;
use crate::log::PageStart;

type Asked = String;

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn draft(text: &str) -> Draft {
    Draft {
        from: None,
        payload: Payload::text(text),
        key: None,
        conflate: None,
    }
}

/// The place of offset `offset` in epoch 1, whose tag is ten times the offset.
fn position(offset: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: offset as u32 * 10,
    }
}

fn entry(position: Position) -> Arc<Entry> {
    Arc::new(Entry {
        position,
        previous: position.offset - 1,
        at_ms: 0,
        from: None,
        conflate: None,
        payload: Payload::text(""),
    })
}

fn page(head: u64) -> Page {
    Page {
        start: PageStart::Continues,
        begin: position(head),
        entries: Vec::new(),
        conflated: Vec::new(),
        position: position(head),
        head: position(head),
        more: false,
    }
}

/// A home, driven line by line. Every method is one turn and gives what the home put out, as text.
struct Script {
    home: Home<Asked>,
}

const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);

impl Script {
    fn new() -> Script {
        Script { home: Home::new(17) }
    }

    fn subscribe(&mut self, shard: ShardId, who: &str) -> Vec<String> {
        self.home.handle_subscribe(name("c"), shard, who.to_owned());
        self.turn()
    }

    fn leave(&mut self, shard: ShardId) -> Vec<String> {
        self.home.handle_leave(&name("c"), shard);
        self.turn()
    }

    fn watching(&mut self, ticket: u64, result: Result<Position, BrokerError>) -> Vec<String> {
        let ticket = Ticket(ticket);
        self.home
            .handle_completion(Completion::Watching { ticket, result });
        self.turn()
    }

    fn live(&mut self, ticket: u64, offsets: impl IntoIterator<Item = u64>) {
        self.home.handle_completion(Completion::Live {
            ticket: Ticket(ticket),
            channel: name("c"),
            entries: offsets
                .into_iter()
                .map(|offset| entry(position(offset)))
                .collect(),
        });
    }

    fn interrupted(&mut self, ticket: u64) -> Vec<String> {
        self.home.handle_completion(Completion::Interrupted {
            ticket: Ticket(ticket),
            channel: name("c"),
        });
        self.turn()
    }

    fn timeout(&mut self) -> Vec<String> {
        self.home.handle_timeout();
        self.turn()
    }

    fn turn(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.home.poll_output())
            .map(|output| transcript(&output))
            .collect()
    }

    /// A home with a watch (ticket 1) whose head is 5, for subscribers in both shards.
    fn live_in_both() -> Script {
        let mut script = Script::new();
        assert_eq!(script.subscribe(A, "ana"), ["watch#1 c since None"]);
        assert_eq!(script.subscribe(B, "ben"), [""; 0]);
        assert_eq!(
            script.watching(1, Ok(position(5))),
            ["ana: subscribed 5", "ben: subscribed 5"]
        );
        script
    }

    fn nothing_is_left(&self) {
        assert_eq!(
            (self.home.channels(), self.home.in_flight(), self.home.behind()),
            (0, 0, 0)
        );
    }
}

fn transcript(output: &Output<Asked>) -> String {
    match output {
        Output::Broker(Request { ticket, channel, op }) => match op {
            Op::Append(draft) => format!("append#{} {channel} {:?}", ticket.0, draft.payload),
            Op::Read { limit, .. } => format!("read#{} {channel} {}", ticket.0, limit.messages),
            Op::Watch { since } => {
                let since = since.map(|since| since.offset);
                format!("watch#{} {channel} since {since:?}", ticket.0)
            }
            Op::Unwatch => format!("unwatch#{} {channel}", ticket.0),
        },
        Output::Deliver {
            channel,
            shard,
            after,
            entries,
        } => {
            let offsets: Vec<_> = entries.iter().map(|entry| entry.position.offset).collect();
            format!("{channel} to {}: {} then {offsets:?}", shard.0, after.offset)
        }
        Output::Head {
            channel,
            shard,
            position,
        } => format!(
            "{channel} to {}: head {} of {}",
            shard.0, position.offset, position.epoch.0
        ),
        Output::Reply { who, answer } => match answer {
            Answer::Published(position) => format!("{who}: published {}", position.offset),
            Answer::Subscribed(position) => format!("{who}: subscribed {}", position.offset),
            Answer::History(page) => format!("{who}: history to {}", page.head.offset),
            Answer::Members(members) => format!("{who}: {} members", members.counts.members),
            Answer::Refused(error) => format!("{who}: {error:?}"),
        },
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn publications_and_reads_are_answered_when_the_broker_has_done_them() {
    let mut script = Script::new();
    let home = &mut script.home;
    home.handle_publish(name("c"), draft("x"), "ana".to_owned());
    home.handle_history(name("c"), Range::Newest, ReadLimit::default(), "ben".to_owned());
    home.handle_publish(name("d"), draft("y"), "cid".to_owned());
    assert_eq!(
        script.turn(),
        ["append#1 c Text(x)", "read#2 c 100", "append#3 d Text(y)"]
    );
    let home = &mut script.home;
    home.handle_completion(Completion::Appended {
        ticket: Ticket(3),
        result: Err(BrokerError::Unavailable),
    });
    home.handle_completion(Completion::Appended {
        ticket: Ticket(1),
        result: Ok(position(1)),
    });
    home.handle_completion(Completion::Read {
        ticket: Ticket(2),
        result: Ok(Box::new(page(1))),
    });
    assert_eq!(
        script.turn(),
        ["cid: Unavailable", "ana: published 1", "ben: history to 1"]
    );
    script.nothing_is_left();
}

#[test]
fn one_watch_serves_all_shards_and_ends_with_the_last() {
    let mut script = Script::live_in_both();
    script.live(1, [6]);
    assert_eq!(script.turn(), ["c to 0: 5 then [6]", "c to 1: 5 then [6]"]);
    assert_eq!(script.leave(A), NOTHING);
    script.live(1, [7]);
    assert_eq!(script.turn(), ["c to 1: 6 then [7]"]);
    assert_eq!(script.leave(A), NOTHING);
    assert_eq!(script.leave(B), ["unwatch#1 c"]);
    script.live(1, [8]);
    assert_eq!(script.turn(), NOTHING);
    script.nothing_is_left();
}

#[test]
fn entries_of_one_turn_leave_together_after_everything_else() {
    let mut script = Script::live_in_both();
    script.live(1, [6]);
    script
        .home
        .handle_publish(name("c"), draft("x"), "ana".to_owned());
    script.live(1, [7, 8]);
    assert_eq!(
        script.turn(),
        [
            "append#2 c Text(x)",
            "c to 0: 5 then [6, 7, 8]",
            "c to 1: 5 then [6, 7, 8]"
        ]
    );
    assert_eq!(script.turn(), NOTHING);
}

#[test]
fn subscribed_stands_behind_what_came_before_and_before_what_comes_after() {
    let mut script = Script::live_in_both();
    script.leave(B);
    script.live(1, [6]);
    script.home.handle_subscribe(name("c"), B, "ben".to_owned());
    script.live(1, [7]);
    assert_eq!(
        script.turn(),
        [
            "c to 0: 5 then [6]",
            "ben: subscribed 6",
            "c to 0: 6 then [7]",
            "c to 1: 6 then [7]"
        ]
    );
}

#[test]
fn entries_of_a_turn_in_which_everybody_left_go_nowhere() {
    let mut script = Script::new();
    script.subscribe(A, "ana");
    script.watching(1, Ok(position(5)));
    script.live(1, [6]);
    script.home.handle_leave(&name("c"), A);
    script.home.handle_subscribe(name("c"), B, "ben".to_owned());
    assert_eq!(script.turn(), ["unwatch#1 c", "watch#2 c since None"]);
    assert_eq!(script.watching(2, Ok(position(6))), ["ben: subscribed 6"]);
    script.live(2, [7]);
    assert_eq!(script.turn(), ["c to 1: 6 then [7]"]);
}

#[test]
fn a_failed_watch_refuses_everybody_who_waits() {
    let mut script = Script::new();
    script.subscribe(A, "ana");
    script.subscribe(B, "ben");
    assert_eq!(script.home.in_flight(), 3);
    assert_eq!(
        script.watching(1, Err(BrokerError::TooManyChannels)),
        ["ana: TooManyChannels", "ben: TooManyChannels"]
    );
    script.nothing_is_left();
    assert_eq!(script.subscribe(A, "ana"), ["watch#2 c since None"]);
}

/// [Subscribe ana] [Leave] … [Subscribe cid], all from one shard, while the watch is still to begin.
#[test]
fn leaving_while_the_watch_begins_keeps_who_subscribes_after() {
    let mut script = Script::new();
    script.subscribe(A, "ana");
    script.leave(A);
    script.subscribe(A, "cid");
    assert_eq!(
        script.watching(1, Ok(position(5))),
        ["ana: subscribed 5", "cid: subscribed 5"]
    );
    script.live(1, [6]);
    assert_eq!(script.turn(), ["c to 0: 5 then [6]"]);
}

#[test]
fn a_watch_that_nobody_wants_any_longer_ends_when_it_begins() {
    let mut script = Script::new();
    script.subscribe(A, "ana");
    assert_eq!(script.leave(A), NOTHING);
    assert_eq!(
        script.watching(1, Ok(position(5))),
        ["unwatch#1 c", "ana: subscribed 5"]
    );
    script.nothing_is_left();
}

#[test]
fn an_interrupted_watch_goes_on_from_where_it_was() {
    let mut script = Script::live_in_both();
    script.live(1, [6]);
    assert_eq!(
        script.interrupted(1),
        [
            "c to 0: 5 then [6]",
            "c to 1: 5 then [6]",
            "watch#2 c since Some(6)"
        ]
    );
    script.live(1, [7]);
    assert_eq!(script.turn(), NOTHING, "an old watch is not heard");
    assert_eq!(script.subscribe(B, "bea"), NOTHING);
    assert_eq!(
        script.watching(2, Ok(position(8))),
        ["c to 0: head 8 of 1", "c to 1: head 8 of 1", "bea: subscribed 8"]
    );
    script.live(2, [9]);
    assert_eq!(script.turn(), ["c to 0: 8 then [9]", "c to 1: 8 then [9]"]);
    // Nothing happened meanwhile: nothing to tell.
    assert_eq!(script.interrupted(2), ["watch#3 c since Some(9)"]);
    assert_eq!(script.watching(3, Ok(position(9))), NOTHING);
}

#[test]
fn a_new_epoch_behind_an_interruption_is_told() {
    let mut script = Script::live_in_both();
    script.interrupted(1);
    let start = Position::start(Epoch(2));
    assert_eq!(
        script.watching(2, Ok(start)),
        ["c to 0: head 0 of 2", "c to 1: head 0 of 2"]
    );
}

#[test]
fn a_hole_between_live_entries_is_an_interruption() {
    let mut script = Script::live_in_both();
    script.live(1, [6, 8, 9]);
    assert_eq!(
        script.turn(),
        [
            "c to 0: 5 then [6]",
            "c to 1: 5 then [6]",
            "unwatch#1 c",
            "watch#2 c since Some(6)"
        ]
    );
    assert_eq!(
        script.watching(2, Ok(position(9))),
        ["c to 0: head 9 of 1", "c to 1: head 9 of 1"]
    );
}

#[test]
fn a_live_entry_of_another_epoch_is_an_interruption() {
    let mut script = Script::live_in_both();
    let other = Position {
        epoch: Epoch(2),
        ..position(6)
    };
    script.home.handle_completion(Completion::Live {
        ticket: Ticket(1),
        channel: name("c"),
        entries: vec![entry(other)],
    });
    assert_eq!(script.turn(), ["unwatch#1 c", "watch#2 c since Some(5)"]);
}

#[test]
fn an_entry_that_comes_twice_is_passed_over() {
    let mut script = Script::live_in_both();
    script.live(1, [5, 6]);
    script.live(1, [6, 7]);
    assert_eq!(script.turn(), ["c to 0: 5 then [6, 7]", "c to 1: 5 then [6, 7]"]);
}

#[test]
fn a_lost_watch_is_asked_for_again_at_each_timeout() {
    let mut script = Script::live_in_both();
    script.interrupted(1);
    script.subscribe(B, "bea");
    assert_eq!(
        script.watching(2, Err(BrokerError::Unavailable)),
        ["bea: Unavailable"]
    );
    assert_eq!(script.timeout(), ["watch#3 c since Some(5)"]);
    assert_eq!(script.timeout(), NOTHING);
    assert_eq!(script.watching(3, Err(BrokerError::Unavailable)), NOTHING);
    // Whoever subscribes does not wait for the timeout.
    assert_eq!(script.subscribe(A, "abe"), ["watch#4 c since Some(5)"]);
    assert_eq!(
        script.watching(4, Ok(position(6))),
        ["c to 0: head 6 of 1", "c to 1: head 6 of 1", "abe: subscribed 6"]
    );
    script.timeout();
    script.leave(A);
    script.interrupted(4);
    script.watching(5, Err(BrokerError::Unavailable));
    assert_eq!(script.leave(B), NOTHING);
    script.nothing_is_left();
}

#[test]
fn a_shard_that_is_behind_is_told_the_head_until_it_has_it() {
    let mut script = Script::live_in_both();
    script.live(1, [6]);
    script.turn();
    script.home.handle_delivery_refused(&name("c"), B);
    script.home.handle_delivery_refused(&name("c"), B);
    script.live(1, [7]);
    assert_eq!(script.turn(), ["c to 0: 6 then [7]", "c to 1: 6 then [7]"]);
    script.home.handle_delivery_refused(&name("c"), B);
    assert_eq!(script.timeout(), ["c to 1: head 7 of 1"]);
    script.home.handle_delivery_refused(&name("c"), B);
    assert_eq!(script.timeout(), ["c to 1: head 7 of 1"]);
    assert_eq!(script.timeout(), NOTHING);
    // A shard that left, or never was there, is not behind.
    script.home.handle_delivery_refused(&name("c"), ShardId(9));
    script.home.handle_delivery_refused(&name("d"), B);
    script.home.handle_delivery_refused(&name("c"), B);
    script.leave(B);
    assert_eq!(script.timeout(), NOTHING);
    assert_eq!(script.home.behind(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "a thousand channels take minutes")]
fn a_timeout_looks_after_every_channel_in_its_turn() {
    let mut script = Script::new();
    let channels = RETRIES_PER_TIMEOUT_MAX + 10;
    let names: Vec<_> = (0..channels).map(|number| name(&number.to_string())).collect();
    for channel in &names {
        script.home.handle_subscribe(channel.clone(), A, String::new());
        while let Some(output) = script.home.poll_output() {
            if let Output::Broker(request) = output {
                script.home.handle_completion(Completion::Watching {
                    ticket: request.ticket,
                    result: Ok(position(5)),
                });
            }
        }
        script.home.handle_delivery_refused(channel, A);
    }
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..2 {
        script.home.handle_timeout();
        let mut outputs = 0;
        while let Some(output) = script.home.poll_output() {
            let Output::Head { channel, shard, .. } = output else {
                panic!("{output:?}");
            };
            outputs += 1;
            told.insert(channel.clone());
            // The mailbox is still full, and stays so.
            script.home.handle_delivery_refused(&channel, shard);
        }
        assert_eq!(outputs, RETRIES_PER_TIMEOUT_MAX);
    }
    assert_eq!(told.len(), channels);
    assert_eq!(script.home.behind(), channels);
}

#[test]
#[cfg_attr(miri, ignore = "as many requests as may be open take an hour")]
fn open_requests_are_bounded() {
    let mut script = Script::live_in_both();
    let home = &mut script.home;
    for _ in 0..IN_FLIGHT_MAX {
        home.handle_publish(name("c"), draft(""), "ana".to_owned());
    }
    home.handle_publish(name("c"), draft(""), "pia".to_owned());
    home.handle_history(name("c"), Range::Newest, ReadLimit::default(), "hal".to_owned());
    home.handle_subscribe(name("d"), A, "sam".to_owned());
    // This one needs nothing from the broker.
    home.handle_subscribe(name("c"), A, "lea".to_owned());
    let outputs = script.turn();
    assert_eq!(
        outputs[IN_FLIGHT_MAX..],
        [
            "pia: Overloaded",
            "hal: Overloaded",
            "sam: Overloaded",
            "lea: subscribed 5"
        ]
    );
    assert_eq!(script.home.channels(), 1);
    // An interrupted watch waits until there is room again.
    assert_eq!(script.interrupted(1), NOTHING);
    assert_eq!(script.timeout(), NOTHING);
    script.home.handle_completion(Completion::Appended {
        ticket: Ticket(2),
        result: Ok(position(6)),
    });
    script.turn();
    let watch = format!("watch#{} c since Some(5)", IN_FLIGHT_MAX + 2);
    assert_eq!(script.timeout(), [watch]);
    assert_eq!(script.home.in_flight(), IN_FLIGHT_MAX);
}

#[test]
fn a_completion_that_fits_nothing_is_passed_over() {
    let mut script = Script::live_in_both();
    script
        .home
        .handle_publish(name("c"), draft("x"), "ana".to_owned());
    assert_eq!(script.turn(), ["append#2 c Text(x)"]);
    let home = &mut script.home;
    home.handle_completion(Completion::Read {
        ticket: Ticket(2),
        result: Ok(Box::new(page(1))),
    });
    home.handle_completion(Completion::Appended {
        ticket: Ticket(1),
        result: Ok(position(6)),
    });
    assert_eq!(script.watching(2, Ok(position(7))), NOTHING);
    assert_eq!(script.watching(1, Ok(position(7))), NOTHING);
    script.live(2, [6]);
    assert_eq!(script.interrupted(2), NOTHING);
    script.home.handle_completion(Completion::Appended {
        ticket: Ticket(2),
        result: Ok(position(6)),
    });
    assert_eq!(script.turn(), ["ana: published 6"]);
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use switchboard_proto::payload::Payload;

use super::*;

const ANA: SubscriberId = SubscriberId(0);
const BEN: SubscriberId = SubscriberId(1);
const CID: SubscriberId = SubscriberId(7);

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn position(offset: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: offset as u32 * 10,
    }
}

fn in_epoch_2(offset: u64) -> Position {
    Position {
        epoch: Epoch(2),
        ..position(offset)
    }
}

fn entries(positions: impl IntoIterator<Item = Position>) -> Vec<Arc<Entry>> {
    let entry = |position: Position| {
        Arc::new(Entry {
            position,
            previous: position.offset - 1,
            at_ms: 0,
            from: None,
            payload: Payload::text(""),
        })
    };
    positions.into_iter().map(entry).collect()
}

fn run(offsets: Range<u64>) -> Vec<Arc<Entry>> {
    entries(offsets.map(position))
}

fn gap(from: u64, to: u64) -> Break {
    Break::Gap {
        from,
        to,
        position: position(to),
    }
}

fn subscribed(audience: &mut Audience, channel: &str, subscriber: SubscriberId, at: u64) -> ChannelIndex {
    audience.begin(&name(channel), subscriber).unwrap();
    let attached = audience.attach(&name(channel), subscriber, position(at)).unwrap();
    assert_eq!(attached.broken, None);
    attached.channel
}

/// Delivers to channel "c" and gives who gets which of the entries, after which break.
fn delivered(
    audience: &mut Audience,
    after: Position,
    entries: &[Arc<Entry>],
) -> (Vec<SubscriberId>, Option<Break>, Vec<u64>) {
    match audience.deliver(&name("c"), after, entries) {
        Delivery::Fresh {
            channel,
            broken,
            fresh,
        } => {
            let mut who = audience.subscribers(channel).to_vec();
            who.sort();
            let offsets = entries[fresh].iter().map(|entry| entry.position.offset).collect();
            (who, broken, offsets)
        }
        nobody => panic!("{nobody:?}"),
    }
}

#[test]
fn who_is_attached_gets_what_follows() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    subscribed(&mut audience, "d", CID, 1);
    assert_eq!(
        delivered(&mut audience, position(5), &run(6..8)),
        (vec![ANA], None, vec![6, 7])
    );
    audience.begin(&name("c"), BEN).unwrap();
    assert_eq!(
        delivered(&mut audience, position(7), &run(8..9)),
        (vec![ANA], None, vec![8])
    );
    _ = audience.attach(&name("c"), BEN, position(8)).unwrap();
    assert_eq!(
        delivered(&mut audience, position(8), &run(9..10)),
        (vec![ANA, BEN], None, vec![9])
    );
    assert_eq!(audience.detach(&name("c"), ANA), Ok(false));
    assert_eq!(
        delivered(&mut audience, position(9), &run(10..11)),
        (vec![BEN], None, vec![10])
    );
}

#[test]
fn entries_that_were_delivered_are_passed_over() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    assert_eq!(
        delivered(&mut audience, position(3), &run(4..8)),
        (vec![ANA], None, vec![6, 7])
    );
    assert_eq!(
        delivered(&mut audience, position(3), &run(4..8)),
        (vec![ANA], None, vec![])
    );
}

#[test]
fn a_hole_before_a_delivery_is_a_gap_of_exactly_the_hole() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    assert_eq!(
        delivered(&mut audience, position(8), &run(9..11)),
        (vec![ANA], Some(gap(6, 8)), vec![9, 10])
    );
    // The head tells it too, once.
    let head = |audience: &mut Audience, at| match audience.head(&name("c"), position(at)) {
        Delivery::Fresh { broken, fresh, .. } if fresh.is_empty() => broken,
        other => panic!("{other:?}"),
    };
    assert_eq!(head(&mut audience, 10), None);
    assert_eq!(head(&mut audience, 11), Some(gap(11, 11)));
    assert_eq!(head(&mut audience, 11), None);
    assert_eq!(head(&mut audience, 9), None);
}

#[test]
fn a_hole_inside_a_delivery_is_told_with_the_next() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    let with_hole = entries([6, 8, 9].map(position));
    assert_eq!(
        delivered(&mut audience, position(5), &with_hole),
        (vec![ANA], None, vec![6])
    );
    assert_eq!(
        delivered(&mut audience, position(9), &run(10..11)),
        (vec![ANA], Some(gap(7, 9)), vec![10])
    );
}

#[test]
fn another_epoch_is_a_reset() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    let start = Position::start(Epoch(2));
    assert_eq!(
        delivered(&mut audience, start, &entries([in_epoch_2(1)])),
        (vec![ANA], Some(Break::Reset { position: start }), vec![1])
    );
    // The second subscriber sees the third epoch first.
    audience.begin(&name("c"), BEN).unwrap();
    let third = Position::start(Epoch(3));
    let attached = audience.attach(&name("c"), BEN, third).unwrap();
    assert_eq!(attached.broken, Some(Break::Reset { position: third }));
}

#[test]
fn a_refused_delivery_shows_when_the_next_one_subscribes() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    audience.begin(&name("c"), BEN).unwrap();
    let attached = audience.attach(&name("c"), BEN, position(8)).unwrap();
    assert_eq!(
        (attached.position, attached.broken),
        (position(8), Some(gap(6, 8)))
    );
    let (new, others) = audience.subscribers(attached.channel).split_last().unwrap();
    assert_eq!((*new, others), (BEN, &[ANA][..]));
}

#[test]
fn a_late_position_does_not_take_the_others_back() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    audience.begin(&name("c"), BEN).unwrap();
    let attached = audience.attach(&name("c"), BEN, position(3)).unwrap();
    assert_eq!((attached.position, attached.broken), (position(5), None));
}

#[test]
fn a_subscription_begins_once() {
    let mut audience = Audience::new(1);
    let c = name("c");
    assert_eq!(audience.begin(&c, ANA), Ok(()));
    assert_eq!(audience.begin(&c, ANA), Err(BeginError::Pending));
    assert_eq!(audience.detach(&c, ANA), Err(NotSubscribed));
    assert!(audience.attach(&c, ANA, position(5)).is_some());
    assert_eq!(audience.attach(&c, ANA, position(6)), None);
    assert_eq!(audience.begin(&c, ANA), Err(BeginError::AlreadySubscribed));
    assert!(!audience.abort(&c, ANA), "it is not pending");
    assert_eq!(audience.subscriptions(ANA), 1);
    assert_eq!(audience.detach(&c, ANA), Ok(true));
    assert_eq!(audience.detach(&c, ANA), Err(NotSubscribed));
    assert_eq!(audience.attach(&c, ANA, position(6)), None);
    assert_eq!(audience.begin(&c, ANA), Ok(()));
}

#[test]
fn a_refused_subscription_leaves_only_if_nobody_else_is_there() {
    let mut audience = Audience::new(1);
    let c = name("c");
    audience.begin(&c, ANA).unwrap();
    audience.begin(&c, BEN).unwrap();
    assert!(!audience.abort(&c, ANA), "Ben waits");
    assert!(audience.abort(&c, BEN));
    assert!(!audience.abort(&c, BEN), "said before");
    assert_eq!(audience.channels(), 0);
}

/// [Subscribe Ben] [Leave] … [Subscribe Cid]: the home's answers and entries for Ben arrive while Cid waits.
#[test]
fn nobody_leaves_while_somebody_waits() {
    let mut audience = Audience::new(1);
    let c = name("c");
    subscribed(&mut audience, "c", ANA, 5);
    audience.begin(&c, BEN).unwrap();
    assert_eq!(audience.detach(&c, ANA), Ok(false), "Ben waits");
    assert_eq!(audience.remove(BEN), vec![c.clone()]);
    assert!(!audience.wants(&c));
    audience.begin(&c, CID).unwrap();
    // Ben's answer goes nowhere; what was on its way for him does not make Cid leave.
    assert_eq!(
        audience.deliver(&c, position(5), &run(6..7)),
        Delivery::Nobody { leave: false }
    );
    assert_eq!(audience.head(&c, position(6)), Delivery::Nobody { leave: false });
    let attached = audience.attach(&c, CID, position(7)).unwrap();
    assert_eq!((attached.position, attached.broken), (position(7), None));
    assert_eq!(
        delivered(&mut audience, position(7), &run(8..9)),
        (vec![CID], None, vec![8])
    );
}

#[test]
fn a_delivery_for_nobody_asks_to_leave_again() {
    let mut audience = Audience::new(1);
    let c = name("c");
    subscribed(&mut audience, "c", ANA, 5);
    audience.detach(&c, ANA).unwrap();
    for _ in 0..2 {
        assert_eq!(
            audience.deliver(&c, position(5), &run(6..7)),
            Delivery::Nobody { leave: true }
        );
    }
}

#[test]
fn removing_a_session_gives_the_channels_that_only_it_wanted() {
    let mut audience = Audience::new(1);
    for channel in ["a", "b", "c", "d"] {
        subscribed(&mut audience, channel, ANA, 1);
    }
    audience.begin(&name("e"), ANA).unwrap();
    subscribed(&mut audience, "b", BEN, 1);
    audience.begin(&name("d"), BEN).unwrap();
    let mut leave = audience.remove(ANA);
    leave.sort();
    assert_eq!(leave, ["a", "c", "e"].map(name));
    assert_eq!(audience.subscriptions(ANA), 0);
    assert_eq!(audience.remove(ANA), []);
    assert_eq!((audience.channels(), audience.subscriptions_total()), (2, 2));
}

#[test]
fn who_lags_is_told_all_it_missed_up_to_now() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    subscribed(&mut audience, "c", BEN, 5);
    let d = subscribed(&mut audience, "d", ANA, 1);
    _ = audience.deliver(&name("c"), position(5), &run(6..9));
    audience.lag(c, ANA, Missed::Entries { from: 7 });
    _ = audience.deliver(&name("c"), position(9), &run(10..12));
    audience.lag(c, ANA, Missed::from(gap(9, 9)));
    audience.lag(c, ANA, Missed::Entries { from: 10 });
    _ = audience.deliver(&name("d"), position(1), &run(2..3));
    audience.lag(d, ANA, Missed::Entries { from: 2 });
    assert_eq!(audience.lagging(), 2);
    assert_eq!(audience.recover(BEN), []);
    let mut missed = audience.recover(ANA);
    missed.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(missed, [(name("c"), gap(7, 11)), (name("d"), gap(2, 2))]);
    assert_eq!(audience.recover(ANA), []);
    assert_eq!(audience.lagging(), 0);
}

#[test]
fn who_lags_over_a_reset_is_told_the_reset() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    subscribed(&mut audience, "c", BEN, 5);
    _ = audience.deliver(&name("c"), position(5), &run(6..7));
    audience.lag(c, ANA, Missed::Entries { from: 6 });
    let start = Position::start(Epoch(2));
    let reset = Break::Reset { position: start };
    _ = audience.head(&name("c"), start);
    audience.lag(c, ANA, Missed::from(reset));
    audience.lag(c, BEN, Missed::from(reset));
    _ = audience.deliver(&name("c"), start, &entries([in_epoch_2(1)]));
    audience.lag(c, BEN, Missed::Entries { from: 1 });
    let reset = Break::Reset {
        position: in_epoch_2(1),
    };
    assert_eq!(audience.recover(ANA), [(name("c"), reset)]);
    assert_eq!(audience.recover(BEN), [(name("c"), reset)]);
}

/// Nobody reported what was missed after the first time: the epoch tells.
#[test]
fn a_lag_from_an_old_epoch_ends_in_a_reset() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    _ = audience.deliver(&name("c"), position(5), &run(6..7));
    audience.lag(c, ANA, Missed::Entries { from: 6 });
    let start = Position::start(Epoch(2));
    _ = audience.head(&name("c"), start);
    let reset = Break::Reset { position: start };
    assert_eq!(audience.recover(ANA), [(name("c"), reset)]);
}

#[test]
fn who_unsubscribes_does_not_lag_any_longer() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    audience.lag(c, BEN, Missed::Entries { from: 1 });
    audience.begin(&name("c"), BEN).unwrap();
    audience.lag(c, BEN, Missed::Entries { from: 1 });
    assert_eq!(audience.lagging(), 0, "only who is attached lags");
    _ = audience.deliver(&name("c"), position(5), &run(6..7));
    audience.lag(c, ANA, Missed::Entries { from: 6 });
    audience.detach(&name("c"), ANA).unwrap();
    assert_eq!(audience.lagging(), 0);
    subscribed(&mut audience, "c", ANA, 7);
    assert_eq!(audience.recover(ANA), []);
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Attach,
    Abort,
    Detach,
    Remove,
    Lag,
    Recover,
}

fn step() -> impl Strategy<Value = (Step, u32, u8)> {
    let step = prop_oneof![
        6 => Just(Step::Begin),
        4 => Just(Step::Attach),
        1 => Just(Step::Abort),
        2 => Just(Step::Detach),
        1 => Just(Step::Remove),
        2 => Just(Step::Lag),
        1 => Just(Step::Recover),
    ];
    (step, 0u32..12, 0u8..12)
}

/// Who is subscribed to what (`true`) or waits for it (`false`).
type Members = BTreeMap<(u32, u8), bool>;

fn wanted(members: &Members, channel: u8) -> bool {
    members.keys().any(|(_, other)| *other == channel)
}

proptest! {
    /// The lists with their back-pointers against a plain map of who is subscribed to what.
    #[test]
    fn members_are_found_again_after_any_changes(steps in prop::collection::vec(step(), 1..300)) {
        let mut audience = Audience::new(1);
        let mut members = Members::new();
        let mut lags = BTreeSet::new();
        for (step, who, channel) in steps {
            let (subscriber, named, key) = (SubscriberId(who), name(&channel.to_string()), (who, channel));
            let state = members.get(&key).copied();
            match step {
                Step::Begin => {
                    let expected = match state {
                        None => Ok(()),
                        Some(true) => Err(BeginError::AlreadySubscribed),
                        Some(false) => Err(BeginError::Pending),
                    };
                    prop_assert_eq!(audience.begin(&named, subscriber), expected);
                    members.entry(key).or_insert(false);
                }
                Step::Attach => {
                    let attached = audience.attach(&named, subscriber, position(3));
                    prop_assert_eq!(attached.is_some(), state == Some(false));
                    if let Some(attached) = attached {
                        prop_assert_eq!(audience.subscribers(attached.channel).last(), Some(&subscriber));
                        prop_assert_eq!(audience.name(attached.channel), Some(&named));
                        members.insert(key, true);
                    }
                }
                Step::Abort => {
                    members.retain(|other, attached| *other != key || *attached);
                    let expected = state == Some(false) && !wanted(&members, channel);
                    prop_assert_eq!(audience.abort(&named, subscriber), expected);
                }
                Step::Detach => {
                    members.retain(|other, attached| *other != key || !*attached);
                    let leave = !wanted(&members, channel);
                    let expected = if state == Some(true) { Ok(leave) } else { Err(NotSubscribed) };
                    prop_assert_eq!(audience.detach(&named, subscriber), expected);
                    lags.remove(&key);
                }
                Step::Remove => {
                    let left = audience.remove(subscriber);
                    let own: Vec<_> = members.keys().filter(|(other, _)| *other == who).copied().collect();
                    members.retain(|(other, _), _| *other != who);
                    lags.retain(|(other, _)| *other != who);
                    let expected = own.iter().filter(|(_, channel)| !wanted(&members, *channel));
                    let expected: BTreeSet<_> = expected.map(|(_, channel)| name(&channel.to_string())).collect();
                    prop_assert_eq!(left.len(), expected.len());
                    prop_assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected);
                }
                Step::Lag => {
                    if let Delivery::Fresh { channel: index, .. } = audience.head(&named, position(3)) {
                        audience.lag(index, subscriber, Missed::Entries { from: 2 });
                        if state == Some(true) {
                            lags.insert(key);
                        }
                    }
                }
                Step::Recover => {
                    let expected: BTreeSet<_> = lags.iter().filter(|(other, _)| *other == who)
                        .map(|(_, channel)| name(&channel.to_string())).collect();
                    lags.retain(|(other, _)| *other != who);
                    let recovered: BTreeSet<_> = audience.recover(subscriber).into_iter().map(|(channel, broken)| {
                        assert_eq!(broken, gap(2, 3));
                        channel
                    }).collect();
                    prop_assert_eq!(recovered, expected);
                }
            }
            prop_assert_eq!(audience.subscriptions_total(), members.len());
            prop_assert_eq!(audience.lagging(), lags.len());
            let own = members.keys().filter(|(other, _)| *other == who).count();
            prop_assert_eq!(audience.subscriptions(subscriber), own);
            for channel in 0..12 {
                let named = name(&channel.to_string());
                prop_assert_eq!(audience.wants(&named), wanted(&members, channel));
                let expected: BTreeSet<_> = members.iter()
                    .filter(|((_, other), attached)| *other == channel && **attached)
                    .map(|((who, _), _)| SubscriberId(*who)).collect();
                match audience.head(&named, position(3)) {
                    Delivery::Fresh { channel, .. } => {
                        let found = audience.subscribers(channel);
                        prop_assert_eq!(found.len(), expected.len());
                        prop_assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected);
                    }
                    Delivery::Nobody { leave } => {
                        prop_assert!(expected.is_empty());
                        prop_assert_eq!(leave, !wanted(&members, channel));
                    }
                }
            }
        }
    }
}

#[test]
fn memory_is_given_back_when_all_have_left() {
    let mut audience = Audience::new(1);
    for number in 0..10_000 {
        audience
            .begin(&name(&number.to_string()), SubscriberId(number))
            .unwrap();
        audience.begin(&name("all"), SubscriberId(number)).unwrap();
    }
    for number in 0..10_000 {
        assert_eq!(audience.subscriptions(SubscriberId(number)), 2);
        _ = audience.remove(SubscriberId(number));
    }
    assert_eq!((audience.channels(), audience.subscriptions_total()), (0, 0));
    assert!(audience.channels.capacity() <= IDLE_CAPACITY);
    assert!(audience.index.capacity() <= 4 * IDLE_CAPACITY);
    assert!(audience.subscribers.iter().all(|list| !list.spilled()));
}

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
            conflate: None,
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
    assert_eq!(attached.missed, None);
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
            missed,
            fresh,
            ..
        } => {
            let mut who = audience.subscribers(channel).to_vec();
            who.sort();
            let offsets = entries[fresh].iter().map(|entry| entry.position.offset).collect();
            (who, missed.map(|missed| missed.told()), offsets)
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
        Delivery::Fresh { missed, fresh, .. } if fresh.is_empty() => missed.map(|missed| missed.told()),
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
    let told = attached.missed.unwrap().told();
    assert_eq!(told, Break::Reset { position: third });
}

#[test]
fn a_refused_delivery_shows_when_the_next_one_subscribes() {
    let mut audience = Audience::new(1);
    subscribed(&mut audience, "c", ANA, 5);
    audience.begin(&name("c"), BEN).unwrap();
    let attached = audience.attach(&name("c"), BEN, position(8)).unwrap();
    assert_eq!(
        (attached.position, attached.missed.map(|missed| missed.told())),
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
    assert_eq!((attached.position, attached.missed), (position(5), None));
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
    assert_eq!((attached.position, attached.missed), (position(7), None));
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

/// A page that was read from `begin`, with the entries of these offsets, of a log that ends at `head`.
fn page(begin: Position, offsets: Range<u64>, head: u64) -> Page {
    let entries = run(offsets);
    let position_after = entries.last().map_or(begin, |entry| entry.position);
    Page {
        start: PageStart::Continues,
        begin,
        position: position_after,
        head: position(head),
        more: position_after.offset < head,
        conflated: Vec::new(),
        entries,
    }
}

/// What a page has for a subscriber: what it is told first, which offsets it gets, and whether it is live then.
fn stepped(
    audience: &mut Audience,
    channel: ChannelIndex,
    subscriber: SubscriberId,
    since: Position,
    page: &Page,
) -> Option<(Option<Break>, Vec<u64>, bool)> {
    let step = audience.advance(channel, subscriber, since, page)?;
    let offsets = page.entries[step.entries]
        .iter()
        .map(|entry| entry.position.offset);
    Some((step.broken, offsets.collect(), step.live))
}

#[test]
fn who_lags_gets_nothing_that_arrives_and_is_told_all_it_missed_up_to_now() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    subscribed(&mut audience, "c", BEN, 5);
    let d = subscribed(&mut audience, "d", ANA, 1);
    _ = audience.deliver(&name("c"), position(5), &run(6..9));
    audience.lag(c, ANA, position(6));
    assert_eq!(
        delivered(&mut audience, position(9), &run(10..12)),
        (vec![BEN], Some(gap(9, 9)), vec![10, 11])
    );
    audience.lag(c, ANA, position(9));
    assert_eq!(audience.cursor(c, ANA), Some(position(6)), "where it was first");
    _ = audience.deliver(&name("d"), position(1), &run(2..3));
    audience.lag(d, ANA, position(1));
    assert_eq!(audience.behind_total(), 2);
    assert_eq!(audience.behind(BEN).count(), 0);
    assert!(audience.behind(ANA).eq([c, d]));
    assert_eq!(audience.skip(c, BEN), None);
    assert_eq!(audience.skip(c, ANA), Some(gap(7, 11)));
    assert_eq!(audience.skip(d, ANA), Some(gap(2, 2)));
    assert_eq!(audience.skip(d, ANA), None);
    assert_eq!(audience.behind_total(), 0);
    assert_eq!(
        delivered(&mut audience, position(11), &run(12..13)),
        (vec![ANA, BEN], None, vec![12])
    );
}

#[test]
fn who_skips_an_epoch_is_told_the_reset() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    _ = audience.deliver(&name("c"), position(5), &run(6..7));
    audience.lag(c, ANA, position(5));
    let start = Position::start(Epoch(2));
    _ = audience.deliver(&name("c"), start, &entries([in_epoch_2(1)]));
    let position = in_epoch_2(1);
    assert_eq!(audience.skip(c, ANA), Some(Break::Reset { position }));
}

#[test]
fn pages_bring_a_subscriber_up_to_where_the_channel_is_and_no_further() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    _ = audience.deliver(&name("c"), position(5), &run(6..11));
    audience.lag(c, ANA, position(5));
    let elsewhere = page(position(6), 7..9, 10);
    assert_eq!(
        stepped(&mut audience, c, ANA, position(6), &elsewhere),
        None,
        "read from elsewhere"
    );
    let first = page(position(5), 6..9, 10);
    let given = (None, vec![6, 7, 8], false);
    assert_eq!(stepped(&mut audience, c, ANA, position(5), &first), Some(given));
    assert_eq!(stepped(&mut audience, c, ANA, position(5), &first), None, "once");
    // The log is ahead of what this shard has heard of; what is behind that comes live.
    let second = page(position(8), 9..13, 12);
    assert_eq!(
        stepped(&mut audience, c, ANA, position(8), &second),
        Some((None, vec![9, 10], true))
    );
    assert_eq!(audience.cursor(c, ANA), None);
    assert_eq!(
        stepped(&mut audience, c, ANA, position(8), &second),
        None,
        "it is live"
    );
    assert_eq!(
        delivered(&mut audience, position(10), &run(11..13)),
        (vec![ANA], None, vec![11, 12])
    );
}

#[test]
fn who_resumes_is_behind_from_the_beginning() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", BEN, 8);
    audience.begin(&name("c"), ANA).unwrap();
    let attached = audience
        .attach_behind(&name("c"), ANA, position(8), position(6))
        .unwrap();
    assert_eq!((attached.position, attached.missed), (position(6), None));
    assert_eq!(audience.subscribers(c), [BEN]);
    assert_eq!(
        delivered(&mut audience, position(8), &run(9..10)),
        (vec![BEN], None, vec![9])
    );
    let rest = page(position(6), 7..10, 9);
    let given = (None, vec![7, 8, 9], true);
    assert_eq!(stepped(&mut audience, c, ANA, position(6), &rest), Some(given));
}

#[test]
fn gaps_and_resets_of_a_page_stand_before_its_entries() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 9);
    let behind = |audience: &mut Audience, since| {
        _ = audience.detach(&name("c"), BEN);
        audience.begin(&name("c"), BEN).unwrap();
        audience
            .attach_behind(&name("c"), BEN, position(9), since)
            .unwrap();
    };
    behind(&mut audience, position(3));
    let trimmed = Page {
        start: PageStart::Gap { from: 4, to: 7 },
        ..page(position(7), 8..10, 9)
    };
    let given = (Some(gap(4, 7)), vec![8, 9], true);
    assert_eq!(stepped(&mut audience, c, BEN, position(3), &trimmed), Some(given));

    behind(&mut audience, in_epoch_2(3));
    let reset = Page {
        start: PageStart::Reset,
        ..page(position(7), 8..10, 9)
    };
    let told = Break::Reset {
        position: position(7),
    };
    let given = (Some(told), vec![8, 9], true);
    assert_eq!(stepped(&mut audience, c, BEN, in_epoch_2(3), &reset), Some(given));

    // A hole that reaches beyond what this shard has heard of is told up to there; everyone is told the rest.
    behind(&mut audience, position(3));
    let beyond = Page {
        start: PageStart::Gap { from: 4, to: 12 },
        ..page(position(12), 13..14, 13)
    };
    let given = (Some(gap(4, 9)), vec![], true);
    assert_eq!(stepped(&mut audience, c, BEN, position(3), &beyond), Some(given));
    assert_eq!(
        delivered(&mut audience, position(12), &run(13..14)),
        (vec![ANA, BEN], Some(gap(10, 12)), vec![13])
    );
}

#[test]
fn what_cannot_be_joined_yet_is_tried_again() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    // Ahead of this shard.
    audience.begin(&name("c"), BEN).unwrap();
    _ = audience
        .attach_behind(&name("c"), BEN, position(5), position(7))
        .unwrap();
    let empty = page(position(7), 8..8, 7);
    assert_eq!(
        stepped(&mut audience, c, BEN, position(7), &empty),
        Some((None, vec![], false))
    );
    _ = audience.deliver(&name("c"), position(5), &run(6..8));
    assert_eq!(
        stepped(&mut audience, c, BEN, position(7), &empty),
        Some((None, vec![], true))
    );
    // In an epoch of which this shard has not heard.
    audience.lag(c, BEN, position(7));
    let start = Position::start(Epoch(2));
    let reset = Page {
        start: PageStart::Reset,
        entries: entries([in_epoch_2(1)]),
        position: in_epoch_2(1),
        ..page(start, 1..1, 1)
    };
    let given = (Some(Break::Reset { position: start }), vec![1], false);
    assert_eq!(stepped(&mut audience, c, BEN, position(7), &reset), Some(given));
    _ = audience.deliver(&name("c"), start, &entries([in_epoch_2(1)]));
    let empty = page(in_epoch_2(1), 2..2, 1);
    assert_eq!(
        stepped(&mut audience, c, BEN, in_epoch_2(1), &empty),
        Some((None, vec![], true))
    );
}

#[test]
fn who_unsubscribes_is_not_behind_any_longer() {
    let mut audience = Audience::new(1);
    let c = subscribed(&mut audience, "c", ANA, 5);
    audience.lag(c, BEN, position(0));
    audience.begin(&name("c"), BEN).unwrap();
    audience.lag(c, BEN, position(0));
    assert_eq!(audience.behind_total(), 0, "only who is live falls behind");
    _ = audience.deliver(&name("c"), position(5), &run(6..7));
    audience.lag(c, ANA, position(5));
    audience.conflate(c, ANA);
    assert!(audience.conflates(c, ANA));
    _ = audience.detach(&name("c"), ANA).unwrap();
    assert_eq!(audience.behind_total(), 0);
    subscribed(&mut audience, "c", ANA, 7);
    assert_eq!(audience.behind(ANA).count(), 0);
    assert!(!audience.conflates(c, ANA));
}

#[derive(Clone, Debug)]
enum Change {
    Begin,
    Attach,
    AttachBehind,
    Abort,
    Detach,
    Remove,
    Lag,
    Skip,
}

fn change() -> impl Strategy<Value = (Change, u32, u8)> {
    let change = prop_oneof![
        6 => Just(Change::Begin),
        4 => Just(Change::Attach),
        2 => Just(Change::AttachBehind),
        1 => Just(Change::Abort),
        2 => Just(Change::Detach),
        1 => Just(Change::Remove),
        3 => Just(Change::Lag),
        2 => Just(Change::Skip),
    ];
    (change, 0u32..12, 0u8..12)
}

/// Who is subscribed to what (`true`) or waits for it (`false`).
type Members = BTreeMap<(u32, u8), bool>;

fn wanted(members: &Members, channel: u8) -> bool {
    members.keys().any(|(_, other)| *other == channel)
}

const CHANGES_MAX: usize = if cfg!(miri) { 40 } else { 300 };

proptest! {
    /// The lists with their back-pointers against a plain map of who is subscribed to what.
    #[test]
    fn members_are_found_again_after_any_changes(changes in prop::collection::vec(change(), 1..CHANGES_MAX)) {
        let mut audience = Audience::new(1);
        let mut members = Members::new();
        let mut behind = BTreeSet::new();
        for (change, who, channel) in changes {
            let (subscriber, named, key) = (SubscriberId(who), name(&channel.to_string()), (who, channel));
            let state = members.get(&key).copied();
            match change {
                Change::Begin => {
                    let expected = match state {
                        None => Ok(()),
                        Some(true) => Err(BeginError::AlreadySubscribed),
                        Some(false) => Err(BeginError::Pending),
                    };
                    prop_assert_eq!(audience.begin(&named, subscriber), expected);
                    members.entry(key).or_insert(false);
                }
                Change::Attach => {
                    let attached = audience.attach(&named, subscriber, position(3));
                    prop_assert_eq!(attached.is_some(), state == Some(false));
                    if let Some(attached) = attached {
                        prop_assert_eq!(audience.subscribers(attached.channel).last(), Some(&subscriber));
                        prop_assert_eq!(audience.name(attached.channel), Some(&named));
                        members.insert(key, true);
                    }
                }
                Change::Abort => {
                    members.retain(|other, attached| *other != key || *attached);
                    let expected = state == Some(false) && !wanted(&members, channel);
                    prop_assert_eq!(audience.abort(&named, subscriber), expected);
                }
                Change::Detach => {
                    members.retain(|other, attached| *other != key || !*attached);
                    let leave = !wanted(&members, channel);
                    let expected = if state == Some(true) { Ok(leave) } else { Err(NotSubscribed) };
                    prop_assert_eq!(audience.detach(&named, subscriber), expected);
                    behind.remove(&key);
                }
                Change::Remove => {
                    let left = audience.remove(subscriber);
                    let own: Vec<_> = members.keys().filter(|(other, _)| *other == who).copied().collect();
                    members.retain(|(other, _), _| *other != who);
                    behind.retain(|(other, _)| *other != who);
                    let expected = own.iter().filter(|(_, channel)| !wanted(&members, *channel));
                    let expected: BTreeSet<_> = expected.map(|(_, channel)| name(&channel.to_string())).collect();
                    prop_assert_eq!(left.len(), expected.len());
                    prop_assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected);
                }
                Change::AttachBehind => {
                    let attached = audience.attach_behind(&named, subscriber, position(3), position(2));
                    prop_assert_eq!(attached.is_some(), state == Some(false));
                    if attached.is_some() {
                        members.insert(key, true);
                        behind.insert(key);
                    }
                }
                Change::Lag => {
                    if let Delivery::Fresh { channel: index, .. } = audience.head(&named, position(3)) {
                        audience.lag(index, subscriber, position(2));
                        if state == Some(true) {
                            behind.insert(key);
                        }
                    }
                }
                Change::Skip => {
                    if let Delivery::Fresh { channel: index, .. } = audience.head(&named, position(3)) {
                        let is_behind = audience.behind(subscriber).any(|channel| channel == index);
                        prop_assert_eq!(is_behind, behind.contains(&key));
                        let told = audience.skip(index, subscriber);
                        prop_assert_eq!(told, behind.remove(&key).then(|| gap(3, 3)));
                    }
                }
            }
            prop_assert_eq!(audience.subscriptions_total(), members.len());
            prop_assert_eq!(audience.behind_total(), behind.len());
            let own = members.keys().filter(|(other, _)| *other == who).count();
            prop_assert_eq!(audience.subscriptions(subscriber), own);
            for channel in 0..12 {
                let named = name(&channel.to_string());
                prop_assert_eq!(audience.wants(&named), wanted(&members, channel));
                let attached = members.iter().filter(|((_, other), attached)| *other == channel && **attached);
                let nobody = attached.clone().count() == 0;
                let expected: BTreeSet<_> = attached.map(|(key, _)| key).filter(|key| !behind.contains(key))
                    .map(|(who, _)| SubscriberId(*who)).collect();
                match audience.head(&named, position(3)) {
                    Delivery::Fresh { channel, .. } => {
                        let found = audience.subscribers(channel);
                        prop_assert_eq!(found.len(), expected.len());
                        prop_assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected);
                    }
                    Delivery::Nobody { leave } => {
                        prop_assert!(nobody);
                        prop_assert_eq!(leave, !wanted(&members, channel));
                    }
                }
            }
        }
    }
}

#[test]
fn memory_is_given_back_when_all_have_left() {
    const MANY: u32 = if cfg!(miri) { 1_100 } else { 10_000 };
    let mut audience = Audience::new(1);
    for number in 0..MANY {
        audience
            .begin(&name(&number.to_string()), SubscriberId(number))
            .unwrap();
        audience.begin(&name("all"), SubscriberId(number)).unwrap();
    }
    for number in 0..MANY {
        assert_eq!(audience.subscriptions(SubscriberId(number)), 2);
        _ = audience.remove(SubscriberId(number));
    }
    assert_eq!((audience.channels(), audience.subscriptions_total()), (0, 0));
    assert!(audience.channels.capacity() <= IDLE_CAPACITY);
    assert!(audience.index.capacity() <= 4 * IDLE_CAPACITY);
    assert!(audience.subscribers.iter().all(|list| !list.spilled()));
}

use switchboard_proto::entry::User;
use switchboard_proto::session::server::SessionId;

use super::*;
use crate::home::ShardId;

const SECOND: Duration = Duration::from_secs(1);

fn presence(members_max: usize) -> Presence {
    let listing = Listing {
        members_max,
        bytes_max: 1_000_000,
    };
    let grace = 10 * SECOND;
    let mut presence = Presence::new(Settings { grace, listing }, 1);
    for channel in ["a", "b"] {
        presence.hear(&name(channel), ShardId(1));
    }
    presence
}

/// What is left when nobody hears any longer.
fn left(mut presence: Presence) -> (usize, usize, Option<Time>) {
    for channel in ["a", "b"] {
        presence.deaf(&name(channel), ShardId(1));
    }
    (presence.channels(), presence.members_total(), presence.deadline())
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn member(session: u64) -> Member {
    let key = MemberKey {
        user: User::new("ana"),
        session: SessionId(session),
    };
    Member { key, info: None }
}

fn stay(number: u64) -> Stay {
    let shard = ShardId(0);
    Stay { shard, number }
}

fn announced(presence: &mut Presence, now: Time) -> Vec<(String, u32)> {
    presence.handle_timeout(now);
    std::iter::from_fn(|| presence.poll_announcement())
        .map(|due| {
            let members = due.announcement.counts.members;
            (due.channel.as_str().to_owned(), members)
        })
        .collect()
}

#[test]
fn what_happens_within_a_period_is_announced_together() {
    let mut presence = presence(1_000);
    let start = Time::ZERO + SECOND;
    for session in 1..=50 {
        presence.join(
            start + PRESENCE_PERIOD / 2,
            &name("a"),
            member(session),
            stay(session),
        );
    }
    presence.join(start, &name("b"), member(1), stay(100));
    assert_eq!(presence.deadline(), Some(start + PRESENCE_PERIOD));
    assert_eq!(announced(&mut presence, start), vec![]);
    assert_eq!(
        announced(&mut presence, start + PRESENCE_PERIOD),
        vec![("b".into(), 1)]
    );
    assert_eq!(
        announced(&mut presence, start + 2 * PRESENCE_PERIOD),
        vec![("a".into(), 50)]
    );
    assert_eq!(presence.deadline(), None);
}

#[test]
fn beyond_the_bound_a_period_is_longer() {
    let mut presence = presence(10);
    let start = Time::ZERO + SECOND;
    for session in 1..=20 {
        presence.join(start, &name("a"), member(session), stay(session));
    }
    let first = start + PRESENCE_PERIOD;
    assert_eq!(announced(&mut presence, first), vec![("a".into(), 20)]);
    presence.join(first, &name("a"), member(21), stay(21));
    assert_eq!(presence.deadline(), Some(first + PRESENCE_PERIOD_UNLISTED));
    assert_eq!(
        announced(&mut presence, first + PRESENCE_PERIOD_UNLISTED),
        vec![("a".into(), 21)]
    );
}

#[test]
fn who_vanishes_is_there_for_the_grace_period_and_leaves_nothing_behind() {
    let mut presence = presence(1_000);
    let start = Time::ZERO + SECOND;
    let gone = start + SECOND;
    for session in 1..=2 {
        presence.join(start, &name("a"), member(session), stay(session));
    }
    assert_eq!(announced(&mut presence, gone), vec![("a".into(), 2)]);
    for session in 1..=2 {
        presence.vanish(gone, &name("a"), member(session).key, stay(session));
    }
    // One of them comes back, as what it was.
    presence.join(gone + SECOND, &name("a"), member(2), stay(3));
    assert_eq!(announced(&mut presence, gone + 10 * SECOND), vec![]);
    assert_eq!(
        announced(&mut presence, gone + 10 * SECOND + PRESENCE_PERIOD),
        vec![("a".into(), 1)]
    );
    presence.leave(gone + 20 * SECOND, &name("a"), &member(2).key, stay(3));
    assert_eq!(
        announced(&mut presence, gone + 21 * SECOND),
        vec![("a".into(), 0)]
    );
    assert_eq!(left(presence), (0, 0, None));
}

/// Of a channel that was forgotten in between, and whose absences would be counted from one again.
#[test]
fn the_end_of_an_absence_ends_no_later_one() {
    let mut presence = presence(1_000);
    let (channel, gone) = (name("a"), Time::ZERO + SECOND);
    presence.deaf(&channel, ShardId(1));
    presence.join(gone, &channel, member(1), stay(1));
    presence.vanish(gone, &channel, member(1).key, stay(1));
    presence.join(gone + 5 * SECOND, &channel, member(2), stay(2));
    presence.leave(gone + 5 * SECOND, &channel, &member(2).key, stay(2));
    assert_eq!(announced(&mut presence, gone + 6 * SECOND), vec![]);
    assert!(presence.roster(&channel).is_none());
    presence.join(gone + 7 * SECOND, &channel, member(1), stay(3));
    presence.vanish(gone + 8 * SECOND, &channel, member(1).key, stay(3));
    presence.handle_timeout(gone + 17 * SECOND);
    assert_eq!(presence.members_total(), 1);
    presence.handle_timeout(gone + 18 * SECOND);
    assert_eq!(presence.members_total(), 0);
}

#[test]
fn who_hears_is_told_and_nobody_else() {
    let mut presence = presence(1_000);
    let start = Time::ZERO + SECOND;
    presence.hear(&name("a"), ShardId(0));
    presence.join(start, &name("a"), member(1), stay(1));
    presence.join(start, &name("c"), member(1), stay(2));
    presence.handle_timeout(start + PRESENCE_PERIOD);
    let due = presence.poll_announcement().unwrap();
    assert_eq!(due.channel, name("a"));
    assert_eq!(due.shards.as_slice(), [ShardId(1), ShardId(0)]);
    assert_eq!(presence.poll_announcement(), None);

    presence.deaf(&name("a"), ShardId(1));
    presence.deaf(&name("a"), ShardId(0));
    presence.leave(start + SECOND, &name("a"), &member(1).key, stay(1));
    assert_eq!(announced(&mut presence, start + 2 * SECOND), vec![]);
    presence.leave(start + SECOND, &name("c"), &member(1).key, stay(2));
    assert_eq!(announced(&mut presence, start + 2 * SECOND), vec![]);
    assert_eq!(left(presence), (0, 0, None));
}

#[test]
fn a_part_of_the_members_and_where_to_go_on() {
    let mut presence = presence(1_000);
    for session in 1..=5 {
        presence.join(Time::ZERO, &name("a"), member(session), stay(session));
    }
    let limit = |members_max| Listing {
        members_max,
        bytes_max: 1_000,
    };
    let keys = |members: &Members| {
        members
            .members
            .iter()
            .map(|member| member.key.session.0)
            .collect::<Vec<_>>()
    };
    let first = presence.members(&name("a"), &Which::After(None), limit(2), 0);
    assert_eq!((keys(&first), first.counts.members), (vec![1, 2], 5));
    let second = presence.members(&name("a"), &Which::After(first.next), limit(3), 0);
    assert_eq!((keys(&second), second.next), (vec![3, 4, 5], None));
    let none = presence.members(&name("a"), &Which::After(None), limit(0), 0);
    assert_eq!((none.members.len(), none.counts.users, none.next), (0, 1, None));
    let sample = presence.members(&name("a"), &Which::Sample, limit(3), 3);
    assert_eq!((sample.members.len(), sample.next), (3, None));
    let nobody = presence.members(&name("b"), &Which::Sample, limit(3), 3);
    assert_eq!((nobody.members.len(), nobody.counts.members), (0, 0));
    // A page has one member at least.
    let narrow = Listing {
        members_max: 10,
        bytes_max: 1,
    };
    let one = presence.members(&name("a"), &Which::After(None), narrow, 0);
    assert_eq!((keys(&one), one.next), (vec![1], Some(member(1).key)));
}

#[test]
fn what_nobody_knows_changes_nothing_and_keeps_nothing() {
    let mut presence = presence(1_000);
    presence.vanish(Time::ZERO, &name("a"), member(1).key, stay(1));
    presence.leave(Time::ZERO, &name("a"), &member(1).key, stay(1));
    assert_eq!(presence.snapshot(&name("a")).who, Who::All(vec![]));
    assert_eq!(left(presence), (0, 0, None));
}

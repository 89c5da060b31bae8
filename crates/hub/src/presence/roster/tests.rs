use proptest::prelude::*;
use switchboard_proto::entry::User;

use super::*;
use crate::model::Fold;

const LISTING: Listing = Listing {
    members_max: 10,
    bytes_max: 1_000_000,
};

fn key(user: &str, session: u64) -> MemberKey {
    MemberKey {
        user: User::new(user),
        session: SessionId(session),
    }
}

fn member(user: &str, session: u64) -> Member {
    let key = key(user, session);
    Member { key, info: None }
}

fn stay(number: u64) -> Stay {
    let shard = ShardId(0);
    Stay { shard, number }
}

fn changed(roster: &mut Roster) -> (Vec<MemberKey>, Vec<MemberKey>) {
    match roster.announce(LISTING).map(|announcement| announcement.who) {
        None => (vec![], vec![]),
        Some(Who::Changed { joined, left }) => (joined.into_iter().map(|member| member.key).collect(), left),
        Some(other) => panic!("not changes: {other:?}"),
    }
}

#[test]
fn nobody_hears_of_a_reconnect() {
    let mut roster = Roster::default();
    roster.join(member("ana", 1), stay(1));
    assert_eq!(changed(&mut roster), (vec![key("ana", 1)], vec![]));
    let absence = Absence(7);
    assert!(roster.vanish(&key("ana", 1), stay(1), absence));
    assert_eq!(roster.counts().members, 1, "within the grace period");
    roster.join(member("ana", 1), stay(2));
    roster.expire(&key("ana", 1), absence);
    assert_eq!(roster.counts().members, 1);
    assert_eq!(roster.announce(LISTING), None);
}

#[test]
fn who_does_not_come_back_has_left_when_the_grace_period_is_over() {
    let mut roster = Roster::default();
    roster.join(member("ana", 1), stay(1));
    let _announced = roster.announce(LISTING);
    let absence = Absence(7);
    assert!(roster.vanish(&key("ana", 1), stay(1), absence));
    assert_eq!(roster.announce(LISTING), None);
    roster.expire(&key("ana", 1), absence);
    assert_eq!(changed(&mut roster), (vec![], vec![key("ana", 1)]));
    assert!(roster.is_idle());
}

#[test]
fn a_session_with_two_connections_is_there_until_both_are_gone() {
    let mut roster = Roster::default();
    roster.join(member("ana", 1), stay(1));
    roster.join(member("ana", 1), stay(2));
    assert!(!roster.vanish(&key("ana", 1), stay(1), Absence(1)));
    assert!(
        !roster.vanish(&key("ana", 1), stay(1), Absence(2)),
        "that one is gone already"
    );
    assert!(roster.vanish(&key("ana", 1), stay(2), Absence(3)));
}

#[test]
fn a_user_who_is_back_with_another_session_is_not_there_twice() {
    let mut roster = Roster::default();
    roster.join(member("ana", 1), stay(1));
    roster.join(member("ana", 2), stay(2));
    roster.join(member("anabel", 3), stay(3));
    let _announced = roster.announce(LISTING);
    assert!(roster.vanish(&key("ana", 1), stay(1), Absence(1)));
    assert!(roster.vanish(&key("anabel", 3), stay(3), Absence(2)));
    roster.join(member("ana", 4), stay(4));
    assert_eq!(changed(&mut roster), (vec![key("ana", 4)], vec![key("ana", 1)]));
    assert_eq!(roster.counts(), Counts { members: 3, users: 2 });
}

#[test]
fn who_comes_and_goes_between_two_announcements_is_not_mentioned() {
    let mut roster = Roster::default();
    roster.join(member("ana", 1), stay(1));
    roster.leave(&key("ana", 1), stay(1));
    assert_eq!(roster.announce(LISTING), None);
    assert!(roster.is_idle());
}

#[test]
fn what_a_member_says_anew_of_itself_is_announced() {
    let mut roster = Roster::default();
    let says = |info: &str| Member {
        key: key("ana", 1),
        info: Some(Payload::json(info).unwrap()),
    };
    roster.join(says(r#"{"status":"here"}"#), stay(1));
    let _announced = roster.announce(LISTING);
    roster.join(says(r#"{"status":"here"}"#), stay(2));
    assert_eq!(roster.announce(LISTING), None);
    roster.join(says(r#"{"status":"away"}"#), stay(3));
    let Some(Who::Changed { joined, left }) = roster.announce(LISTING).map(|announcement| announcement.who)
    else {
        panic!("no changes");
    };
    assert_eq!((joined, left), (vec![says(r#"{"status":"away"}"#)], vec![]));
}

#[test]
fn beyond_the_bound_members_are_counted_and_well_below_it_listed_again() {
    let mut roster = Roster::default();
    let listing = Listing {
        members_max: 10,
        ..LISTING
    };
    for session in 1..=11 {
        roster.join(member("ana", session), stay(session));
    }
    let announced = roster.announce(listing).unwrap();
    assert_eq!((announced.who, announced.counts.members), (Who::Unlisted, 11));
    roster.leave(&key("ana", 1), stay(1));
    assert_eq!(
        roster.announce(listing).map(|said| said.who),
        Some(Who::Unlisted),
        "10 of 10"
    );
    roster.leave(&key("ana", 2), stay(2));
    let Some(Who::All(all)) = roster.announce(listing).map(|said| said.who) else {
        panic!("no list of 9");
    };
    assert_eq!(all.len(), 9);
    let narrow = Listing {
        bytes_max: 400,
        ..listing
    };
    roster.join(member("ana", 1), stay(1));
    assert_eq!(
        roster.announce(narrow).map(|said| said.who),
        Some(Who::Unlisted),
        "by bytes"
    );
}

fn up_to(members_max: usize) -> Listing {
    Listing {
        members_max,
        bytes_max: usize::MAX,
    }
}

#[test]
fn pages_follow_each_other_and_a_sample_names_nobody_twice() {
    let mut roster = Roster::default();
    for session in 0..250 {
        roster.join(
            member(["ana", "ben"][session as usize % 2], session),
            stay(session),
        );
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let (page, more) = roster.page(after.as_ref(), up_to(100));
        seen.extend(page.into_iter().map(|member| member.key));
        after = seen.last().cloned();
        if !more {
            break;
        }
    }
    assert!(seen.is_sorted() && seen.len() == 250);
    for random in [0, 1, 249, 250, u64::MAX] {
        let sample: BTreeSet<_> = roster
            .sample(up_to(100), random)
            .into_iter()
            .map(|member| member.key)
            .collect();
        assert_eq!(sample.len(), 100);
    }
    assert_eq!(roster.sample(up_to(1_000), 77).len(), 250);
    assert_eq!(Roster::default().sample(up_to(10), 77), vec![]);
}

#[derive(Clone, Debug)]
enum Op {
    Join {
        user: u8,
        session: u64,
        info: Option<bool>,
    },
    /// Of the stays so far, this one.
    Leave(usize),
    Vanish(usize),
    /// Of the absences so far, this one.
    Expire(usize),
    Snapshot,
    Announce,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4u8, 0..4u64, any::<Option<bool>>()).prop_map(|(user, session, info)| Op::Join { user, session, info }),
        2 => any::<usize>().prop_map(Op::Leave),
        2 => any::<usize>().prop_map(Op::Vanish),
        2 => any::<usize>().prop_map(Op::Expire),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Announce),
    ]
}

/// Stays and info of a member. Without stays it is absent, since this absence.
type Account = (BTreeSet<u64>, Option<Payload>, Option<usize>);

proptest! {
    /// Whoever folds the announcements over any snapshot has the roster, which is what a plain account of stays says.
    #[test]
    fn the_fold_of_announcements_is_the_roster(
        ops in prop::collection::vec(op(), 1..80),
        members_max in 1..14usize,
    ) {
        let listing = Listing { members_max, ..LISTING };
        let mut roster = Roster::default();
        let mut hearers: Vec<Fold> = Vec::new();
        let mut account: BTreeMap<MemberKey, Account> = BTreeMap::new();
        let mut stays: Vec<MemberKey> = Vec::new();
        let mut absences: Vec<(MemberKey, Absence)> = Vec::new();
        for op in ops {
            match op {
                Op::Join { user, session, info } => {
                    let info = info.map(|info| Payload::json(&format!("{{\"is\":{info}}}")).unwrap());
                    let key = key(&user.to_string(), session);
                    if !account.contains_key(&key) {
                        account.retain(|other, (stays, ..)| other.user != key.user || !stays.is_empty());
                    }
                    let known = account.entry(key.clone()).or_default();
                    known.0.insert(stays.len() as u64);
                    known.1 = info.clone();
                    known.2 = None;
                    roster.join(Member { key: key.clone(), info }, stay(stays.len() as u64));
                    stays.push(key);
                }
                Op::Leave(which) | Op::Vanish(which) if !stays.is_empty() => {
                    let number = which % stays.len();
                    let key = stays[number].clone();
                    let was_last = account.get_mut(&key).is_some_and(|(of_key, ..)| {
                        of_key.remove(&(number as u64)) && of_key.is_empty()
                    });
                    let leaves = matches!(op, Op::Leave(_));
                    if leaves {
                        roster.leave(&key, stay(number as u64));
                        if was_last {
                            account.remove(&key);
                        }
                    } else {
                        let absence = Absence(absences.len() as u64);
                        prop_assert_eq!(roster.vanish(&key, stay(number as u64), absence), was_last);
                        if was_last {
                            account.get_mut(&key).unwrap().2 = Some(absences.len());
                            absences.push((key, absence));
                        }
                    }
                }
                Op::Expire(which) if !absences.is_empty() => {
                    let number = which % absences.len();
                    let (key, absence) = absences[number].clone();
                    roster.expire(&key, absence);
                    if account.get(&key).is_some_and(|(.., absent)| *absent == Some(number)) {
                        account.remove(&key);
                    }
                }
                Op::Leave(_) | Op::Vanish(_) | Op::Expire(_) => {}
                Op::Snapshot => {
                    let mut hearer = Fold::default();
                    hearer.hear(&roster.snapshot(listing));
                    hearers.push(hearer);
                }
                Op::Announce => {
                    if let Some(announcement) = roster.announce(listing) {
                        for hearer in &mut hearers {
                            hearer.hear(&announcement);
                        }
                    }
                    let now: BTreeMap<_, _> = roster.all().into_iter().map(|member| (member.key, member.info)).collect();
                    for hearer in &hearers {
                        match &hearer.members {
                            Some(members) => prop_assert_eq!(members, &now),
                            None => prop_assert!(roster.is_unlisted()),
                        }
                    }
                }
            }
            let expected: Vec<_> = account.iter().map(|(key, (_, info, _))| (key.clone(), info.clone())).collect();
            let there: Vec<_> = roster.all().into_iter().map(|member| (member.key, member.info)).collect();
            prop_assert_eq!(there, expected);
            let users: BTreeSet<_> = account.keys().map(|key| key.user.clone()).collect();
            prop_assert_eq!(roster.counts(), Counts { members: account.len() as u32, users: users.len() as u32 });
            let sampled: BTreeSet<_> = roster.sample(up_to(usize::MAX), 3).into_iter().map(|member| member.key).collect();
            prop_assert!(sampled.iter().eq(account.keys()));
        }
    }
}

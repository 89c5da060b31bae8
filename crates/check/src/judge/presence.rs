//! Rule 9: what subscribers were told of who is there comes to what is so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Court, Where};
use crate::event::{Client, Event, Name, Stream, What};
use crate::history::History;
use crate::verdict::Rule;

/// What is told of a member who vanished may be late by this much: the time to find out that a connection is dead, in microseconds.
const FOUND_DEAD: u64 = 40_000_000;
/// Whoever subscribes may be told of somebody who said so much before that it leaves, in microseconds.
const TOLD_LATE: u64 = 10_000_000;

pub(super) fn check(court: &mut Court<'_>) {
    let history = court.history;
    let stays = Stays::of(history);
    let rosters: BTreeMap<Name, BTreeSet<Name>> = history
        .rosters
        .iter()
        .map(|roster| (roster.channel, roster.members.iter().copied().collect()))
        .collect();
    for (number, log) in history.logs().iter().enumerate() {
        let mut folds = Folds {
            client: Client(number as u32),
            streams: BTreeMap::new(),
            ended: false,
        };
        for (index, event) in log.events.iter().enumerate() {
            folds.read(court, &stays, index, event);
        }
        folds.end(court, &rosters);
    }
    stays.check(court, &rosters);
}

/// Who is in which channel, as those say who are.
struct Stays {
    /// By channel and member.
    stays: BTreeMap<(Name, Name), Stay>,
    /// When it said that it leaves, by channel and member.
    departures: BTreeMap<(Name, Name), Vec<u64>>,
    /// Times without a connection, by client.
    away: Vec<Vec<(u64, u64)>>,
}

#[derive(Clone, Copy)]
struct Stay {
    client: Client,
    from: u64,
    until: Option<u64>,
    /// Of a client that was there to the end.
    to_the_end: bool,
}

impl Stays {
    fn of(history: &History) -> Stays {
        let mut stays = Stays {
            stays: BTreeMap::new(),
            departures: BTreeMap::new(),
            away: Vec::new(),
        };
        for (number, log) in history.logs().iter().enumerate() {
            let client = Client(number as u32);
            let mut channels: BTreeMap<Stream, (Name, Option<Name>)> = BTreeMap::new();
            let mut away = Vec::new();
            let mut gone_at = None;
            for event in &log.events {
                match event.what {
                    What::Subscribing { stream, channel, .. } => {
                        channels.insert(stream, (channel, None));
                    }
                    What::Stands { stream, member } => {
                        let Some((channel, stands)) = channels.get_mut(&stream) else {
                            continue;
                        };
                        // It is there as somebody else now.
                        if let Some(before) = stands.replace(member)
                            && let Some(stay) = stays.stays.get_mut(&(*channel, before))
                        {
                            stay.until = Some(event.at);
                        }
                        let stay = Stay {
                            client,
                            from: event.at,
                            until: None,
                            to_the_end: false,
                        };
                        stays.stays.insert((*channel, member), stay);
                    }
                    What::Unsubscribed { stream } | What::Closed { stream } => {
                        if let Some((channel, Some(member))) = channels.remove(&stream)
                            && let Some(stay) = stays.stays.get_mut(&(channel, member))
                        {
                            stay.until = Some(event.at);
                            let departures = stays.departures.entry((channel, member));
                            departures.or_default().push(event.at);
                        }
                    }
                    What::Disconnected => gone_at = Some(event.at),
                    What::Connected => away.extend(gone_at.take().map(|gone_at| (gone_at, event.at))),
                    What::Ended => {
                        for (channel, member) in channels.values() {
                            let Some(member) = member else { continue };
                            if let Some(stay) = stays.stays.get_mut(&(*channel, *member)) {
                                stay.to_the_end = true;
                            }
                        }
                    }
                    _ => {}
                }
            }
            away.extend(gone_at.map(|gone_at| (gone_at, u64::MAX)));
            stays.away.push(away);
        }
        stays
    }

    /// Whether whoever says at `at` that `member` has left says what cannot be so. It has said so `before` times since `began`.
    fn is_flapping(&self, history: &History, id: (Name, Name), at: u64, began: u64, before: usize) -> bool {
        let grace = history.promises.grace.as_micros() as u64;
        let Some(stay) = self.stays.get(&id) else {
            return false;
        };
        if at < stay.from || stay.until.is_some() {
            return false;
        }
        // It came back before this was told.
        let told_of = began.saturating_sub(TOLD_LATE)..=at;
        let departures = self.departures.get(&id).into_iter().flatten();
        if departures
            .filter(|departed_at| told_of.contains(departed_at))
            .count()
            > before
        {
            return false;
        }
        // It was away for as long as it takes.
        let away = self.away.get(stay.client.0 as usize);
        let mut away = away.into_iter().flatten();
        if away.any(|(from, until)| until - from >= grace / 2 && *from <= at) {
            return false;
        }
        // A fault may have kept the server from knowing that it is there.
        let mut faults = history.faults.iter();
        !faults.any(|fault| fault.from <= at && fault.until.saturating_add(grace + FOUND_DEAD) >= at)
    }

    /// Who is there to the end is on the last list, and nobody else.
    fn check(&self, court: &mut Court<'_>, rosters: &BTreeMap<Name, BTreeSet<Name>>) {
        let channels: BTreeSet<Name> = self.stays.keys().map(|(channel, _)| *channel).collect();
        // Of several servers none knows all who are there.
        for channel in channels
            .into_iter()
            .filter(|channel| court.history.promises.alone && !rosters.contains_key(channel))
        {
            let found = Where {
                channel: Some(channel),
                ..Where::default()
            };
            let what = "the server's last list was not read, so nobody knows who is there".to_owned();
            court.tell(Rule::Present, found, what);
        }
        for (channel, roster) in rosters {
            let found = Where {
                channel: Some(*channel),
                ..Where::default()
            };
            for ((_, member), stay) in self.stays.range((*channel, Name(0))..=(*channel, Name(u32::MAX))) {
                let name = court.history.text(*member);
                if stay.to_the_end && stay.until.is_none() && !roster.contains(member) {
                    court.tell(
                        Rule::Present,
                        found,
                        format!("{name} is there, and the server's last list does not know it"),
                    );
                }
            }
            for member in roster {
                let is_there = self.stays.get(&(*channel, *member));
                if !is_there.is_some_and(|stay| stay.to_the_end && stay.until.is_none()) {
                    let name = court.history.text(*member);
                    court.tell(
                        Rule::Present,
                        found,
                        format!("{name} is on the server's last list, and is not there"),
                    );
                }
            }
        }
    }
}

/// What one client was told.
struct Folds {
    client: Client,
    streams: BTreeMap<Stream, Fold>,
    ended: bool,
}

#[derive(Default)]
struct Fold {
    channel: Option<Name>,
    /// Everyone who is there; nothing where there are too many to be listed, or nothing was told.
    members: Option<BTreeSet<Name>>,
    /// How many are still to come of a list.
    listing: u32,
    /// How many are there, where there are too many to be listed.
    count: Option<u32>,
    /// It is to be told.
    hears: bool,
    /// When it was asked for.
    began: u64,
    /// How often it was told that somebody has left.
    departures: BTreeMap<Name, usize>,
    is_over: bool,
    last: usize,
}

impl Folds {
    fn read(&mut self, court: &mut Court<'_>, stays: &Stays, index: usize, event: &Event) {
        if event.what == What::Ended {
            self.ended = true;
        }
        let Some(number) = event.what.stream() else { return };
        let fold = self.streams.entry(number).or_default();
        let found = Where {
            channel: fold.channel,
            client: Some(self.client),
            stream: Some(number),
            at: Some(event.at),
            index: Some(index),
        };
        if fold.listing > 0 && !matches!(event.what, What::Member { .. }) {
            let what = format!("{} of a list did not come", fold.listing);
            court.tell(Rule::Present, found, what);
            fold.listing = 0;
        }
        match event.what {
            What::Subscribing { channel, .. } => {
                *fold = Fold {
                    channel: Some(channel),
                    began: event.at,
                    ..Fold::default()
                };
                return;
            }
            What::Unsubscribed { .. } | What::Closed { .. } => {
                fold.is_over = true;
                return;
            }
            What::Hears { .. } => {
                fold.hears = true;
                return;
            }
            What::Members { count, complete, .. } => {
                fold.members = complete.then(BTreeSet::new);
                fold.listing = if complete { count } else { 0 };
                fold.count = (!complete).then_some(count);
            }
            What::Member { member, .. } => {
                if fold.listing == 0 {
                    let name = court.history.text(member);
                    let what = format!("{name} is on a list that is said to be shorter");
                    court.tell(Rule::Present, found, what);
                }
                fold.listing = fold.listing.saturating_sub(1);
                if let Some(members) = &mut fold.members
                    && !members.insert(member)
                {
                    let name = court.history.text(member);
                    court.tell(Rule::Present, found, format!("{name} is on a list twice"));
                }
            }
            // What a list knew already may be said once more behind it.
            What::Joined { member, .. } => {
                if let Some(members) = &mut fold.members {
                    members.insert(member);
                }
            }
            What::Left { member, .. } => {
                if let Some(members) = &mut fold.members {
                    members.remove(&member);
                }
                let told = fold.departures.entry(member).or_default();
                let before = *told;
                *told += 1;
                if let Some(channel) = fold.channel
                    && stays.is_flapping(court.history, (channel, member), event.at, fold.began, before)
                {
                    let name = court.history.text(member);
                    let what = format!("it was told that {name} has left, which was there all the time");
                    court.tell(Rule::Present, found, what);
                }
            }
            _ => return,
        }
        fold.last = index;
        if fold.is_over {
            court.tell(
                Rule::Ended,
                found,
                "it was told who is there after the end of the subscription".to_owned(),
            );
        }
    }

    fn end(self, court: &mut Court<'_>, rosters: &BTreeMap<Name, BTreeSet<Name>>) {
        if !self.ended {
            return;
        }
        for (number, fold) in self.streams {
            let (Some(channel), false) = (fold.channel, fold.is_over) else {
                continue;
            };
            let Some(roster) = rosters.get(&channel) else {
                continue;
            };
            let found = Where {
                channel: Some(channel),
                client: Some(self.client),
                stream: Some(number),
                at: None,
                index: Some(fold.last),
            };
            if fold.listing > 0 {
                let what = format!("{} of a list did not come", fold.listing);
                court.tell(Rule::Present, found, what);
            }
            if let Some(count) = fold.count
                && count as usize != roster.len()
            {
                let what = format!(
                    "it was told of {count} members, and the server's last list has {}",
                    roster.len()
                );
                court.tell(Rule::Present, found, what);
            }
            if fold.hears && fold.count.is_none() && fold.members.is_none() {
                let what = "it was never told who is there".to_owned();
                court.tell(Rule::Present, found, what);
            }
            let Some(members) = fold.members else { continue };
            let names = |names: Vec<&Name>| {
                let names: Vec<&str> = names
                    .into_iter()
                    .take(5)
                    .map(|name| court.history.text(*name))
                    .collect();
                names.join(", ")
            };
            let (ghosts, missing) = (
                names(members.difference(roster).collect()),
                names(roster.difference(&members).collect()),
            );
            if !ghosts.is_empty() || !missing.is_empty() {
                let what = format!(
                    "what it was told comes to {} members, and the server's last list has {}; only here: [{ghosts}]; only there: [{missing}]",
                    members.len(),
                    roster.len()
                );
                court.tell(Rule::Present, found, what);
            }
        }
    }
}

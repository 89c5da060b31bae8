//! Rule 9: what subscribers were told of who is there comes to what is so.

use std::collections::{BTreeMap, BTreeSet};

use super::stays::Stays;
use super::{Court, Where};
use crate::event::{Client, Event, Name, Stream, What};
use crate::verdict::Rule;

/// A list may have waited for so long for one who reads slowly, in microseconds.
const LISTED_LATE: u64 = 50_000_000;

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
            lost_at: 0,
            ended: false,
        };
        for (index, event) in log.events.iter().enumerate() {
            folds.read(court, &stays, index, event);
        }
        folds.end(court, &rosters);
    }
    stays.check(court, &rosters);
}

/// What one client was told.
struct Folds {
    client: Client,
    streams: BTreeMap<Stream, Fold>,
    /// When it lost its last connection.
    lost_at: u64,
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
    /// No list that comes was made before.
    since: u64,
    /// When all of the last list was there.
    listed_at: u64,
    /// How often it was told that somebody has left.
    departures: BTreeMap<Name, usize>,
    /// Who came and who left behind the list. What the list knew already may be said once more.
    changed: BTreeMap<Name, bool>,
    is_over: bool,
    last: usize,
}

impl Fold {
    /// What it was told comes to who was there, if that was so from `since` on.
    fn check(&self, court: &mut Court<'_>, stays: &Stays, found: Where, since: u64) {
        let (Some(channel), Some(members), Some(at)) = (self.channel, &self.members, found.at) else {
            return;
        };
        if let Some(what) = stays.amiss(court.history, channel, (since, at), members) {
            court.tell(Rule::Present, found, what);
        }
    }
}

impl Folds {
    fn read(&mut self, court: &mut Court<'_>, stays: &Stays, index: usize, event: &Event) {
        match event.what {
            What::Disconnected => self.lost_at = event.at,
            What::Ended => self.ended = true,
            _ => {}
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
                    since: event.at,
                    ..Fold::default()
                };
                return;
            }
            What::Unsubscribed { .. } | What::Closed { .. } => {
                fold.is_over = true;
                let since = event.at.saturating_sub(LISTED_LATE);
                if fold.listed_at <= since && !stays.was_away(court.history, self.client, since, event.at) {
                    fold.check(court, stays, found, since);
                }
                return;
            }
            What::Hears { .. } => {
                fold.hears = true;
                return;
            }
            // What comes behind this answer was not on its way when the connection before it was lost.
            What::Subscribed { .. } => {
                fold.since = fold.since.max(self.lost_at);
                return;
            }
            What::Members { count, complete, .. } => {
                fold.members = complete.then(BTreeSet::new);
                fold.listing = if complete { count } else { 0 };
                fold.count = (!complete).then_some(count);
                fold.changed.clear();
                let listed_max = court.history.promises.listed_max.filter(|_| !complete);
                if listed_max.is_some_and(|most| u64::from(count) <= most) {
                    let what = format!("it was told of {count} members, and not who they are");
                    court.tell(Rule::Present, found, what);
                }
            }
            What::Member { member, .. } => {
                let name = court.history.text(member);
                if fold.listing == 0 {
                    let what = format!("{name} is on a list that is said to be shorter");
                    court.tell(Rule::Present, found, what);
                }
                fold.listing = fold.listing.saturating_sub(1);
                if let Some(members) = &mut fold.members
                    && !members.insert(member)
                {
                    court.tell(Rule::Present, found, format!("{name} is on a list twice"));
                }
            }
            What::Joined { member, .. } | What::Left { member, .. } => {
                let came = matches!(event.what, What::Joined { .. });
                if let Some(members) = &mut fold.members {
                    match came {
                        true => members.insert(member),
                        false => members.remove(&member),
                    };
                }
                let name = court.history.text(member);
                let id = fold.channel.map(|channel| (channel, member));
                if fold.changed.insert(member, came) == Some(came)
                    && id.is_some_and(|id| stays.is_steady(court.history, id, event.at))
                {
                    let what = match came {
                        true => format!("it was told that {name} came, which had not left"),
                        false => format!("it was told that {name} has left, which was not there"),
                    };
                    court.tell(Rule::Present, found, what);
                }
                if !came {
                    let told = fold.departures.entry(member).or_default();
                    let before = *told;
                    *told += 1;
                    if id.is_some_and(|id| stays.is_flapping(court.history, id, event.at, fold.began, before))
                    {
                        let what = format!("it was told that {name} has left, which was there all the time");
                        court.tell(Rule::Present, found, what);
                    }
                }
            }
            _ => return,
        }
        if let What::Member { member, .. } | What::Joined { member, .. } | What::Left { member, .. } =
            event.what
            && let Some(channel) = fold.channel
            && stays.is_invented(court.history, channel, member, event.at)
        {
            let name = court.history.text(member);
            let what = format!("it was told of {name}, and nobody is there under this name");
            court.tell(Rule::Present, found, what);
        }
        if let What::Members { .. } | What::Member { .. } = event.what
            && fold.listing == 0
        {
            fold.listed_at = event.at;
            let since = fold.since.max(event.at.saturating_sub(LISTED_LATE));
            fold.check(court, stays, found, since);
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

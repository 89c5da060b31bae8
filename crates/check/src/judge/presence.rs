//! Rule 9: what subscribers were told of who is there comes to what is so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Court, Where};
use crate::event::{Client, Event, Name, Stream, What};
use crate::history::History;
use crate::verdict::Rule;

/// What is told may be so old, in microseconds, where nothing was done to the server.
const TOLD_LATE: u64 = 10_000_000;
/// What is answered later may have been asked for more than once, in microseconds.
const ANSWERED: u64 = 2_000_000;
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

/// The time after which the server knows that somebody has vanished, and says so, in microseconds.
fn found_dead(history: &History) -> u64 {
    let promises = &history.promises;
    let found_dead = promises.grace.saturating_add(promises.noticed);
    u64::try_from(found_dead.as_micros()).unwrap_or(u64::MAX)
}

/// Whether anything was done to the server between these moments.
fn is_troubled(history: &History, from: u64, until: u64) -> bool {
    let faults = history.faults.iter().map(|fault| (fault.from, fault.until));
    overlaps(faults, from, until)
}

fn overlaps(mut times: impl Iterator<Item = (u64, u64)>, from: u64, until: u64) -> bool {
    times.any(|(begin, end)| begin <= until && end >= from)
}

/// Who is in which channel, as those say who are.
struct Stays {
    /// By channel and member.
    stays: BTreeMap<(Name, Name), Stay>,
    /// Until when, and who, by channel: those who stay longest first.
    ends: BTreeMap<Name, Vec<(u64, Name)>>,
    /// When it said that it leaves, by channel and member.
    departures: BTreeMap<(Name, Name), Vec<u64>>,
    /// How often it asked for a channel, by channel and client.
    comings: BTreeMap<(Name, Client), u32>,
    /// Times without a connection, by client. Whoever stops to write is away from then on.
    away: Vec<Vec<(u64, u64)>>,
    /// Times in which somebody may be there under a name that it was never told, by channel.
    unsure: BTreeMap<Name, Vec<(u64, u64)>>,
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
            ends: BTreeMap::new(),
            departures: BTreeMap::new(),
            comings: BTreeMap::new(),
            away: Vec::new(),
            unsure: BTreeMap::new(),
        };
        for (number, log) in history.logs().iter().enumerate() {
            let client = Client(number as u32);
            let mut channels: BTreeMap<Stream, (Name, Option<Name>)> = BTreeMap::new();
            // Of what has no answer: the channel, when it was asked for, and whether it was asked for again since.
            let mut asked: BTreeMap<Stream, (Name, u64, u32)> = BTreeMap::new();
            let mut used = BTreeSet::new();
            let mut away = Vec::new();
            let mut gone_at = None;
            for event in &log.events {
                match event.what {
                    What::Subscribing { stream, channel, .. } => {
                        channels.insert(stream, (channel, None));
                        asked.insert(stream, (channel, event.at, 0));
                        used.insert(channel);
                        *stays.comings.entry((channel, client)).or_default() += 1;
                    }
                    What::Asked { stream } => {
                        if let Some((_, _, times)) = asked.get_mut(&stream) {
                            *times += 1;
                        }
                    }
                    What::Subscribed { stream, .. } => {
                        // An answer that was lost may have been to somebody else.
                        let again = asked.remove(&stream);
                        let again = again.filter(|(_, from, times)| *times > 1 || event.at - from > ANSWERED);
                        if let Some((channel, from, _)) = again {
                            stays.unsure.entry(channel).or_default().push((from, event.at));
                        }
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
                        if let Some((channel, from, _)) = asked.remove(&stream) {
                            stays.unsure.entry(channel).or_default().push((from, event.at));
                        }
                        if let Some((channel, Some(member))) = channels.remove(&stream)
                            && let Some(stay) = stays.stays.get_mut(&(channel, member))
                        {
                            stay.until = Some(event.at);
                            let departures = stays.departures.entry((channel, member));
                            departures.or_default().push(event.at);
                        }
                    }
                    What::Disconnected => {
                        gone_at.get_or_insert(event.at);
                        for (_, _, times) in asked.values_mut() {
                            *times += 2;
                        }
                    }
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
            let silent_at = log.events.last().filter(|last| last.what != What::Ended);
            let silent_at = silent_at.map(|last| last.at);
            away.extend(gone_at.or(silent_at).map(|gone_at| (gone_at, u64::MAX)));
            for (channel, from, _) in asked.into_values() {
                stays.unsure.entry(channel).or_default().push((from, u64::MAX));
            }
            // Whoever comes back may be somebody else than before, and lose that answer, too.
            for channel in used {
                stays.unsure.entry(channel).or_default().extend(&away);
            }
            stays.away.push(away);
        }
        for ((channel, member), stay) in &stays.stays {
            let until = stay.until.unwrap_or(u64::MAX);
            stays.ends.entry(*channel).or_default().push((until, *member));
        }
        for ends in stays.ends.values_mut() {
            ends.sort_unstable_by(|one, other| other.cmp(one));
        }
        stays
    }

    /// Whether a client was away between these moments, or so shortly before that the server may not have known.
    fn was_away(&self, history: &History, client: Client, from: u64, until: u64) -> bool {
        let away = self.away.get(client.0 as usize).into_iter().flatten();
        overlaps(away.copied(), from.saturating_sub(found_dead(history)), until)
    }

    /// What is wrong with whom a client held to be there at `at`, from a list that was made after `since`.
    fn amiss(
        &self,
        history: &History,
        channel: Name,
        (since, at): (u64, u64),
        members: &BTreeSet<Name>,
    ) -> Option<String> {
        if is_troubled(history, since.saturating_sub(found_dead(history)), at) {
            return None;
        }
        // Who reads slowly may notice late that it was cut off.
        let noticed = at.saturating_add(found_dead(history));
        let stay_of = |member: Name| {
            let stay = self.stays.get(&(channel, member));
            stay.filter(|stay| !self.was_away(history, stay.client, since, noticed))
        };
        let there_until = at.saturating_add(TOLD_LATE);
        let ends = self.ends.get(&channel).into_iter().flatten();
        let there = ends.take_while(|(until, _)| *until > there_until);
        let mut untold = there
            .map(|(_, member)| *member)
            .filter(|member| !members.contains(member));
        let came = |stay: &Stay| stay.from.saturating_add(TOLD_LATE) <= since;
        if let Some(untold) = untold.find(|member| stay_of(*member).is_some_and(came)) {
            let name = history.text(untold);
            return Some(format!("it was not told of {name}, which was there all the time"));
        }
        let gone_late = TOLD_LATE.saturating_add(history.promises.grace.as_micros() as u64);
        let is_gone = |stay: &Stay| {
            stay.until
                .is_some_and(|until| until.saturating_add(gone_late) <= since)
        };
        let ghost = members
            .iter()
            .find(|member| stay_of(**member).is_some_and(is_gone))?;
        let name = history.text(*ghost);
        Some(format!("it was told of {name}, which had left long before"))
    }

    /// Whether nobody can be there under this name.
    fn is_invented(&self, history: &History, channel: Name, member: Name, at: u64) -> bool {
        let from = at.saturating_sub(found_dead(history));
        !self.stays.contains_key(&(channel, member))
            && !is_troubled(history, from, at)
            && !overlaps(self.unsure.get(&channel).into_iter().flatten().copied(), from, at)
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
        // It was away for as long as it takes, or notices only now that it is.
        let away = self.away.get(stay.client.0 as usize);
        let mut away = away.into_iter().flatten();
        let notices = at..=at.saturating_add(found_dead(history));
        if away.any(|(from, until)| until - from >= grace / 2 && *from <= at || notices.contains(from)) {
            return false;
        }
        // A fault may have kept the server from knowing that it is there.
        !is_troubled(history, at.saturating_sub(found_dead(history)), at)
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
    /// Whether nothing has ever happened for which a member could come or leave twice: of who leaves and is back at once, or comes and leaves
    /// at once, only the last is told.
    fn is_steady(&self, court: &Court<'_>, stays: &Stays, member: Name, at: u64) -> bool {
        let Some(channel) = self.channel else { return false };
        let Some(stay) = stays.stays.get(&(channel, member)) else {
            return false;
        };
        let comings = stays.comings.get(&(channel, stay.client)).copied().unwrap_or(0);
        comings == 1
            && !stays.was_away(court.history, stay.client, 0, at)
            && !is_troubled(court.history, 0, at)
    }

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
            What::Joined { member, .. } => {
                if let Some(members) = &mut fold.members {
                    members.insert(member);
                }
                let name = court.history.text(member);
                if fold.changed.insert(member, true) == Some(true)
                    && fold.is_steady(court, stays, member, event.at)
                {
                    let what = format!("it was told that {name} came, which had not left");
                    court.tell(Rule::Present, found, what);
                }
            }
            What::Left { member, .. } => {
                if let Some(members) = &mut fold.members {
                    members.remove(&member);
                }
                let name = court.history.text(member);
                if fold.changed.insert(member, false) == Some(false)
                    && fold.is_steady(court, stays, member, event.at)
                {
                    let what = format!("it was told that {name} has left, which was not there");
                    court.tell(Rule::Present, found, what);
                }
                let told = fold.departures.entry(member).or_default();
                let before = *told;
                *told += 1;
                if let Some(channel) = fold.channel
                    && stays.is_flapping(court.history, (channel, member), event.at, fold.began, before)
                {
                    let what = format!("it was told that {name} has left, which was there all the time");
                    court.tell(Rule::Present, found, what);
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

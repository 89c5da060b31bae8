//! Who was in which channel, and when, as those say who were: what others are told of them is judged by this.

use std::collections::{BTreeMap, BTreeSet};

use super::{Court, Where};
use crate::event::{Client, Event, Name, Stream, What};
use crate::history::History;
use crate::verdict::Rule;

/// What is told may be so old, in microseconds, where nothing was done to the server.
const TOLD_LATE: u64 = 10_000_000;
/// What is answered later may have been asked for more than once, in microseconds.
const ANSWERED: u64 = 2_000_000;

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
#[derive(Default)]
pub(super) struct Stays {
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
    pub(super) fn of(history: &History) -> Stays {
        let mut stays = Stays::default();
        for (number, log) in history.logs().iter().enumerate() {
            let mut reading = Reading {
                stays: &mut stays,
                client: Client(number as u32),
                channels: BTreeMap::new(),
                asked: BTreeMap::new(),
                used: BTreeSet::new(),
                away: Vec::new(),
                gone_at: None,
            };
            for event in &log.events {
                reading.read(event);
            }
            let silent_at = log.events.last().filter(|last| last.what != What::Ended);
            reading.end(silent_at.map(|last| last.at));
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
    pub(super) fn was_away(&self, history: &History, client: Client, from: u64, until: u64) -> bool {
        let away = self.away.get(client.0 as usize).into_iter().flatten();
        overlaps(away.copied(), from.saturating_sub(found_dead(history)), until)
    }

    /// What is wrong with whom a client held to be there at `at`, from a list that was made after `since`.
    pub(super) fn amiss(
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
    pub(super) fn is_invented(&self, history: &History, channel: Name, member: Name, at: u64) -> bool {
        let from = at.saturating_sub(found_dead(history));
        !self.stays.contains_key(&(channel, member))
            && !is_troubled(history, from, at)
            && !overlaps(self.unsure.get(&channel).into_iter().flatten().copied(), from, at)
    }

    /// Whether whoever says at `at` that `member` has left says what cannot be so. It has said so `before` times since `began`.
    pub(super) fn is_flapping(
        &self,
        history: &History,
        id: (Name, Name),
        at: u64,
        began: u64,
        before: usize,
    ) -> bool {
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
        if away.any(|(from, until)| {
            until.saturating_sub(*from) >= grace / 2 && *from <= at || notices.contains(from)
        }) {
            return false;
        }
        // A fault may have kept the server from knowing that it is there.
        !is_troubled(history, at.saturating_sub(found_dead(history)), at)
    }

    /// Whether nothing has ever happened for which a member could come or leave twice: of who leaves and is back at once, or comes and
    /// leaves at once, only the last is told.
    pub(super) fn is_steady(&self, history: &History, id: (Name, Name), at: u64) -> bool {
        let Some(stay) = self.stays.get(&id) else {
            return false;
        };
        let comings = self.comings.get(&(id.0, stay.client)).copied().unwrap_or(0);
        comings == 1 && !self.was_away(history, stay.client, 0, at) && !is_troubled(history, 0, at)
    }

    /// Who is there to the end is on the last list, and nobody else.
    pub(super) fn check(&self, court: &mut Court<'_>, rosters: &BTreeMap<Name, BTreeSet<Name>>) {
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

/// One client's log, read from its beginning.
struct Reading<'a> {
    stays: &'a mut Stays,
    client: Client,
    /// Of open subscriptions: the channel, and who the client is there.
    channels: BTreeMap<Stream, (Name, Option<Name>)>,
    /// Of those without an answer.
    asked: BTreeMap<Stream, Asked>,
    /// All channels that it ever asked for.
    used: BTreeSet<Name>,
    away: Vec<(u64, u64)>,
    gone_at: Option<u64>,
}

struct Asked {
    channel: Name,
    from: u64,
    /// How often, where that is written down.
    times: u32,
    /// The connection by which it was asked is gone.
    is_lost: bool,
}

impl Reading<'_> {
    fn read(&mut self, event: &Event) {
        let at = event.at;
        match event.what {
            What::Subscribing { stream, channel, .. } => {
                self.channels.insert(stream, (channel, None));
                let asked = Asked {
                    channel,
                    from: at,
                    times: 0,
                    is_lost: false,
                };
                self.asked.insert(stream, asked);
                self.used.insert(channel);
                *self.stays.comings.entry((channel, self.client)).or_default() += 1;
            }
            What::Asked { stream } => {
                if let Some(asked) = self.asked.get_mut(&stream) {
                    asked.times += 1;
                }
            }
            What::Subscribed { stream, .. } => {
                // An answer before this one, which was lost, may have been to somebody else.
                let asked = self.asked.remove(&stream);
                let was_again = |asked: &Asked| {
                    asked.times > 1 || asked.is_lost || at.saturating_sub(asked.from) > ANSWERED
                };
                if let Some(asked) = asked.filter(was_again) {
                    self.be_unsure(&asked, at);
                }
            }
            What::Stands { stream, member } => self.stand(stream, member, at),
            What::Unsubscribed { stream } | What::Closed { stream } => {
                if let Some(asked) = self.asked.remove(&stream) {
                    self.be_unsure(&asked, at);
                }
                if let Some((channel, Some(member))) = self.channels.remove(&stream)
                    && let Some(stay) = self.stays.stays.get_mut(&(channel, member))
                {
                    stay.until = Some(at);
                    let departures = self.stays.departures.entry((channel, member));
                    departures.or_default().push(at);
                }
            }
            What::Disconnected => {
                self.gone_at.get_or_insert(at);
                for asked in self.asked.values_mut() {
                    asked.is_lost = true;
                }
            }
            What::Connected => self.away.extend(self.gone_at.take().map(|gone_at| (gone_at, at))),
            What::Ended => {
                for (channel, member) in self.channels.values() {
                    let Some(member) = member else { continue };
                    if let Some(stay) = self.stays.stays.get_mut(&(*channel, *member)) {
                        stay.to_the_end = true;
                    }
                }
            }
            _ => {}
        }
    }

    fn stand(&mut self, stream: Stream, member: Name, at: u64) {
        let Some((channel, stands)) = self.channels.get_mut(&stream) else {
            return;
        };
        // It is there as somebody else now.
        if let Some(before) = stands.replace(member)
            && let Some(stay) = self.stays.stays.get_mut(&(*channel, before))
        {
            stay.until = Some(at);
        }
        let stay = Stay {
            client: self.client,
            from: at,
            until: None,
            to_the_end: false,
        };
        self.stays.stays.insert((*channel, member), stay);
    }

    fn be_unsure(&mut self, asked: &Asked, until: u64) {
        let unsure = self.stays.unsure.entry(asked.channel).or_default();
        unsure.push((asked.from, until));
    }

    /// `silent_at`: its log is not whole, and ends there.
    fn end(mut self, silent_at: Option<u64>) {
        let gone_at = self.gone_at.or(silent_at);
        self.away.extend(gone_at.map(|gone_at| (gone_at, u64::MAX)));
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.be_unsure(&asked, u64::MAX);
        }
        // Whoever comes back may be somebody else than before, and lose that answer, too.
        for channel in self.used {
            self.stays.unsure.entry(channel).or_default().extend(&self.away);
        }
        self.stays.away.push(self.away);
    }
}

//! Who is in channels: what leads from the sessions of a shard to [`switchboard_hub::presence`] in the channel's home, and back.
//!
//! ```text
//!  subscribe ── Mail::Subscribe with a join ──► home: Presence        (before the answer: a refused one departs again)
//!  unsubscribe, close, end ── Mail::Depart ───►   │
//!  the first who hears ── Mail::Hear ─────────►   │ snapshot, answers ─► those of us who wait ──► they hear
//!                                                 │ once per period ───► those of us who hear
//! ```
//!
//! Who hears folds what it gets. Whoever misses something of it, because its outbox is full, gets nothing more until there is room,
//! and then a snapshot like somebody who has just come. So does a whole shard whose mailbox was full.
//!
//! It is not: who is where; that is the home's. A membership is known here only to be ended.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;
use switchboard_hub::home::ShardId;
use switchboard_hub::presence::Stay;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Event;
use switchboard_proto::presence::{Announcement, Attendance, Member, MemberKey, Who};
use switchboard_proto::session::broadcast::{Form, encode};
use switchboard_proto::session::outbox::Queued;
use switchboard_proto::time::Time;

use super::State;
use super::mail::{Depart, Join, Mail, UNANSWERED_MAX};
use super::turn::Arrival;
use super::wheel::LinkRef;

/// After this time nobody expects a snapshot any longer, and it is asked for again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Snapshots for shards that have missed something, per tick.
const SNAPSHOTS_PER_TICK: usize = 64;

/// What one link has to do with the presence of one channel.
#[derive(Debug)]
pub(super) struct Membership {
    channel: ChannelName,
    /// Its number, if it is there.
    stay: Option<u64>,
    hearing: Hearing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hearing {
    /// It does not want to know, or is not subscribed yet.
    Not { wants: bool },
    /// It is among the [`Hearers`].
    Yes,
    /// It has missed something, and has no room.
    Lost,
}

/// Those of a channel who hear.
#[derive(Debug)]
struct Hearers {
    /// They have everything up to the last announcement.
    current: HashSet<LinkRef, FixedState>,
    /// They are to have a snapshot.
    waiting: HashSet<LinkRef, FixedState>,
    /// When a snapshot was asked for that has not come.
    asked: Option<Time>,
}

/// See the module.
pub(super) struct Attendances {
    hasher: FixedState,
    hearers: HashMap<ChannelName, Hearers, FixedState>,
    /// Channels whose home could not be asked for a snapshot.
    unasked: BTreeSet<ChannelName>,
    last_stay: u64,
    /// Ends of stays that homes could not be told. At most the stays there have been before: while there are any, nobody joins.
    departing: VecDeque<Depart>,
    /// As a home: shards that have missed an announcement. Only such as hear.
    unheard: BTreeSet<(ChannelName, ShardId)>,
}

impl Attendances {
    /// Nobody yet. `hash_seed` is 64 random bits that no peer knows.
    pub(super) fn new(hash_seed: u64) -> Attendances {
        let hasher = FixedState::with_seed(hash_seed);
        Attendances {
            hearers: HashMap::with_hasher(hasher.clone()),
            hasher,
            unasked: BTreeSet::new(),
            last_stay: 0,
            departing: VecDeque::new(),
            unheard: BTreeSet::new(),
        }
    }

    /// Whether there is something to do at the next tick.
    pub(super) fn wants_tick(&self) -> bool {
        !self.unasked.is_empty() || !self.departing.is_empty() || !self.unheard.is_empty()
    }

    fn hearers(&mut self, channel: &ChannelName) -> &mut Hearers {
        let hasher = &self.hasher;
        self.hearers.entry_ref(channel).or_insert_with(|| Hearers {
            current: HashSet::with_hasher(hasher.clone()),
            waiting: HashSet::with_hasher(hasher.clone()),
            asked: None,
        })
    }

    fn remove(&mut self, channel: &ChannelName, link: LinkRef) {
        let Some(hearers) = self.hearers.get_mut(channel) else {
            return;
        };
        if hearers.current.remove(&link) || hearers.waiting.remove(&link) {
            self.forget_idle(channel);
        }
    }

    fn forget_idle(&mut self, channel: &ChannelName) {
        /// Places that stay when those who filled them are gone.
        const IDLE_CAPACITY: usize = 64;
        let Some(hearers) = self.hearers.get_mut(channel) else {
            return;
        };
        for set in [&mut hearers.current, &mut hearers.waiting] {
            if set.capacity() > 4 * set.len().max(IDLE_CAPACITY) {
                set.shrink_to(2 * set.len());
            }
        }
        if hearers.current.is_empty() && hearers.waiting.is_empty() && hearers.asked.is_none() {
            self.hearers.remove(channel);
            self.unasked.remove(channel);
        }
        if self.hearers.capacity() > 4 * self.hearers.len().max(IDLE_CAPACITY) {
            self.hearers.shrink_to(2 * self.hearers.len());
        }
    }
}

impl State {
    /// A `subscribe` that says `attendance` is about to be sent: what the home gets to know with it. `Err`: not now.
    pub(super) fn attend(
        &mut self,
        at: LinkRef,
        channel: &ChannelName,
        attendance: Attendance,
    ) -> Result<Option<Box<Join>>, NotNow> {
        // They are tried again at every tick.
        if !self.attendances.departing.is_empty() {
            return Err(NotNow);
        }
        let Some(key) = self.member_key(at) else {
            return Err(NotNow);
        };
        let stay = attendance.role.is_member().then(|| {
            self.attendances.last_stay += 1;
            self.attendances.last_stay
        });
        let membership = Membership {
            channel: channel.clone(),
            stay,
            hearing: Hearing::Not {
                wants: attendance.role.hears(),
            },
        };
        if let Some(link) = self.link(at) {
            link.memberships.get_or_insert_default().push(membership);
        }
        let info = attendance.info;
        Ok(stay.map(|number| {
            let shard = self.id;
            Box::new(Join {
                member: Member { key, info },
                stay: Stay { shard, number },
            })
        }))
    }

    fn member_key(&mut self, at: LinkRef) -> Option<MemberKey> {
        let identity = self.link(at)?.session.identity();
        Some(MemberKey {
            user: identity.user.clone(),
            session: identity.session,
        })
    }

    /// A subscription has ended, or did not begin.
    pub(super) fn depart(&mut self, at: LinkRef, channel: &ChannelName) {
        let Some(link) = self.link(at) else { return };
        let Some(list) = &mut link.memberships else {
            return;
        };
        let Some(found) = list.iter().position(|membership| membership.channel == *channel) else {
            return;
        };
        let membership = list.swap_remove(found);
        if list.is_empty() {
            link.memberships = None;
        }
        if let Some(key) = self.member_key(at) {
            self.end_membership(at, key, membership, true);
        }
    }

    /// A link is gone.
    pub(super) fn end_membership(
        &mut self,
        at: LinkRef,
        key: MemberKey,
        membership: Membership,
        has_left: bool,
    ) {
        let Membership { channel, stay, .. } = membership;
        self.attendances.remove(&channel, at);
        let Some(number) = stay else { return };
        let depart = Depart {
            channel,
            key,
            stay: Stay {
                shard: self.id,
                number,
            },
            has_left,
        };
        if self.try_depart(&depart).is_err() {
            self.stats.mailbox_refusals.add(1);
            self.attendances.departing.push_back(depart);
            // It may sleep for longer than until the next attempt.
            self.wake();
        }
    }

    fn try_depart(&mut self, depart: &Depart) -> Result<(), super::mail::Full> {
        let home = self.post.home(&depart.channel);
        self.send_home(Mail::Depart(Box::new(depart.clone())), home)
    }

    fn depart_at_last(&mut self) {
        for _ in 0..self.attendances.departing.len() {
            if let Some(depart) = self.attendances.departing.pop_front()
                && self.try_depart(&depart).is_err()
            {
                self.attendances.departing.push_back(depart);
            }
        }
    }

    /// A subscription has begun, and its client knows: it hears from now on, if it wants to.
    pub(super) fn begin_hearing(&mut self, at: LinkRef, channel: &ChannelName) {
        let Some(link) = self.link(at) else { return };
        let mut memberships = link.memberships.iter_mut().flat_map(|list| list.iter_mut());
        let found = memberships.find(|membership| membership.channel == *channel);
        if let Some(membership) = found
            && membership.hearing == (Hearing::Not { wants: true })
        {
            membership.hearing = Hearing::Yes;
            self.attendances.hearers(channel).waiting.insert(at);
            self.ask_for_snapshot(channel);
        }
    }

    /// A link may have missed something and have room.
    pub(super) fn hear_again(&mut self, at: LinkRef) {
        if !self.link(at).is_some_and(|link| link.has_lost_presence) || !self.has_room(at) {
            return;
        }
        let mut lost = SmallVec::<[ChannelName; 2]>::new();
        let Some(link) = self.link(at) else { return };
        link.has_lost_presence = false;
        for membership in link.memberships.iter_mut().flat_map(|list| list.iter_mut()) {
            if membership.hearing == Hearing::Lost {
                membership.hearing = Hearing::Yes;
                lost.push(membership.channel.clone());
            }
        }
        for channel in lost {
            self.stats.presence_resyncs.add(1);
            self.attendances.hearers(&channel).waiting.insert(at);
            self.ask_for_snapshot(&channel);
        }
    }

    fn ask_for_snapshot(&mut self, channel: &ChannelName) {
        let now = self.now;
        let is_asked = |hearers: &Hearers| {
            hearers
                .asked
                .is_some_and(|asked| now.since(asked) < ANSWER_PATIENCE)
        };
        let hearers = self.attendances.hearers.get(channel);
        if !hearers.is_some_and(|hearers| !hearers.waiting.is_empty() && !is_asked(hearers)) {
            return;
        }
        let mail = Mail::Hear {
            channel: channel.clone(),
            shard: self.id,
        };
        let home = self.post.home(channel);
        if self.unanswered < UNANSWERED_MAX && self.send_home(mail, home).is_ok() {
            self.unanswered += 1;
            self.attendances.hearers(channel).asked = Some(self.now);
            self.attendances.unasked.remove(channel);
        } else {
            self.attendances.unasked.insert(channel.clone());
            self.wake();
        }
    }

    /// Something of who is in a channel, for those of this shard who hear: an announcement for those who have what came before it, or
    /// a snapshot, asked for by those who have not.
    pub(super) fn handle_presence(
        &mut self,
        channel: &ChannelName,
        announcement: &Announcement,
        is_answer: bool,
    ) {
        if is_answer {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        let Some(hearers) = self.attendances.hearers.get_mut(channel) else {
            return self.say_deaf(channel);
        };
        if is_answer {
            hearers.asked = None;
        }
        let is_whole = !matches!(announcement.who, Who::Changed { .. });
        let mut current = Vec::new();
        if !is_answer {
            current.extend(hearers.current.iter().copied());
        }
        let mut waiting = Vec::new();
        if is_whole {
            waiting.extend(hearers.waiting.drain());
        } else {
            self.take_lists_instead(channel, &mut current);
        }
        let mut chunks = SmallVec::new();
        let mut tell = |at: &LinkRef| self.tell_presence(*at, channel, announcement, is_whole, &mut chunks);
        current.retain(|at| !tell(at));
        let lost = current;
        let (told, not_told): (Vec<_>, Vec<_>) = waiting.into_iter().partition(tell);
        let hearers = self.attendances.hearers(channel);
        hearers.current.extend(told);
        for at in &lost {
            hearers.current.remove(at);
        }
        for at in lost.into_iter().chain(not_told) {
            self.lose_presence(at, channel);
        }
        self.attendances.forget_idle(channel);
    }

    /// Polls get lists and no changes: what they know is what their last list said.
    fn take_lists_instead(&mut self, channel: &ChannelName, current: &mut Vec<LinkRef>) {
        let is_poll = |at: &mut LinkRef| self.link(*at).is_some_and(|link| link.pipe.is_answer());
        let polls: Vec<_> = current.extract_if(.., is_poll).collect();
        if polls.is_empty() {
            return;
        }
        let hearers = self.attendances.hearers(channel);
        for at in &polls {
            hearers.current.remove(at);
        }
        hearers.waiting.extend(polls);
        self.ask_for_snapshot(channel);
    }

    /// Hands one announcement to one link. Whether it has it.
    fn tell_presence(
        &mut self,
        at: LinkRef,
        channel: &ChannelName,
        announcement: &Announcement,
        is_whole: bool,
        chunks: &mut SmallVec<[(Form, Option<Bytes>); 2]>,
    ) -> bool {
        // A list may be longer than what is left of an outbox that is nearly empty.
        let takes_a_list = self.has_room(at);
        let now = self.now;
        let State { links, shared, .. } = self;
        let Some(link) = links.get_mut(at.key as usize) else {
            return false;
        };
        if link.generation != at.generation || !link.session.is_open() {
            return false;
        }
        let form = link.session.form();
        let chunk = match chunks.iter().find(|(known, _)| *known == form) {
            Some((_, chunk)) => chunk.clone(),
            None => {
                let event = Event::Presence {
                    channel,
                    announcement,
                };
                let compress_bytes_min = shared.settings.compress_bytes_min;
                let chunk = encode([event], form, &mut shared.contexts, compress_bytes_min);
                chunks.push((form, chunk.clone()));
                chunk
            }
        };
        let Some(chunk) = chunk else { return false };
        if self.knows_roster(at, channel, &chunk) {
            return true;
        }
        if is_whole && takes_a_list {
            self.learn_roster(at, channel, &chunk);
        }
        let State { links, shared, .. } = self;
        let Some(link) = links.get_mut(at.key as usize) else {
            return false;
        };
        let is_told = match (is_whole, takes_a_list) {
            (true, true) => {
                link.session.handle_unwritten(now, chunk, 1);
                true
            }
            (true, false) => false,
            (false, _) => link.session.handle_delivery(chunk, 1, &shared.settings) == Queued::Queued,
        };
        if is_told {
            self.stats.presence_events.add(1);
            if !link.touched {
                link.touched = true;
                self.touched.push(at);
            }
        }
        is_told
    }

    fn lose_presence(&mut self, at: LinkRef, channel: &ChannelName) {
        let Some(link) = self.link(at) else { return };
        let mut memberships = link.memberships.iter_mut().flat_map(|list| list.iter_mut());
        if let Some(membership) = memberships.find(|membership| membership.channel == *channel) {
            membership.hearing = Hearing::Lost;
            link.has_lost_presence = true;
        }
    }

    /// Nobody here hears. Where the home cannot be told, its next announcement leads here again.
    fn say_deaf(&mut self, channel: &ChannelName) {
        let mail = Mail::Deaf {
            channel: channel.clone(),
            shard: self.id,
        };
        let home = self.post.home(channel);
        let _told_next_time = self.send_home(mail, home);
    }

    /// As a home: a shard is told from now on, and gets a snapshot.
    pub(super) fn handle_hear(&mut self, channel: ChannelName, shard: ShardId) {
        self.presence.hear(&channel, shard);
        let announcement = Arc::new(self.presence.snapshot(&channel));
        self.attendances.unheard.remove(&(channel.clone(), shard));
        if shard == self.id {
            self.arrivals.push_back(Arrival::Presence {
                channel,
                announcement,
                is_answer: true,
            });
        } else if self
            .post
            .send_reserved(
                shard,
                Mail::Presence {
                    channel,
                    announcement,
                    is_answer: true,
                },
            )
            .is_err()
        {
            tracing::error!(shard = shard.0, "an answer found no room in a mailbox");
        }
    }

    /// As a home: nobody of a shard hears any longer.
    pub(super) fn handle_deaf(&mut self, channel: &ChannelName, shard: ShardId) {
        self.presence.deaf(channel, shard);
        self.attendances.unheard.remove(&(channel.clone(), shard));
    }

    /// What is due at this time: absences end, changes are announced, what could not be said is said.
    pub(super) fn handle_presence_tick(&mut self) {
        self.depart_at_last();
        self.presence.handle_timeout(self.now);
        while let Some(due) = self.presence.poll_announcement() {
            self.stats.presence_announcements.add(1);
            let announcement = Arc::new(due.announcement);
            for shard in due.shards {
                let missed = (due.channel.clone(), shard);
                if !self.attendances.unheard.contains(&missed)
                    && !self.announce(&due.channel, shard, announcement.clone())
                {
                    self.attendances.unheard.insert(missed);
                }
            }
        }
        for _ in 0..SNAPSHOTS_PER_TICK {
            let Some((channel, shard)) = self.attendances.unheard.pop_first() else {
                break;
            };
            let snapshot = Arc::new(self.presence.snapshot(&channel));
            if !self.announce(&channel, shard, snapshot) {
                self.attendances.unheard.insert((channel, shard));
                break;
            }
        }
        for channel in std::mem::take(&mut self.attendances.unasked) {
            self.ask_for_snapshot(&channel);
        }
        self.stats
            .presence_members
            .set(self.presence.members_total() as u64);
    }

    /// Whether it is on its way.
    fn announce(&mut self, channel: &ChannelName, shard: ShardId, announcement: Arc<Announcement>) -> bool {
        let channel = channel.clone();
        if shard == self.id {
            self.arrivals.push_back(Arrival::Presence {
                channel,
                announcement,
                is_answer: false,
            });
            return true;
        }
        let mail = Mail::Presence {
            channel,
            announcement,
            is_answer: false,
        };
        let sent = self.post.send(shard, mail).is_ok();
        self.stats.mailbox_refusals.add(u64::from(!sent));
        sent
    }

    /// Something was lost in a panic: everyone here takes a snapshot.
    pub(super) fn hear_everything_again(&mut self) {
        let channels: Vec<_> = self.attendances.hearers.keys().cloned().collect();
        for channel in channels {
            let hearers = self.attendances.hearers(&channel);
            let current = std::mem::take(&mut hearers.current);
            hearers.waiting.extend(current);
            hearers.asked = None;
            self.attendances.unasked.insert(channel);
        }
    }
}

/// Whoever wants to be there is to try again.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotNow;

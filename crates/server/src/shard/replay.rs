//! Subscribers that are behind read what they missed from the log, in pages that all who are at the same place share.
//!
//! ```text
//!   resumed, lagged, mailbox overflowed ─► queue ─► page there? ── yes ─► outbox ─► live, or back into the queue
//!                                           ▲          │ no
//!                                           └── page ◄─┴─► Mail::History to the home
//! ```
//!
//! A restart of the server brings thousands of them at once, most of them at the same few places. So a page is read and encoded
//! once for all who want it, pages end at the same offsets whoever reads them, at most [`Replays::pages_max`] of them are held or
//! asked for, and each turn hands out a few before what is live gets its turn.
//!
//! It is not: where a subscriber is; that knows the [`Audience`](switchboard_hub::audience::Audience).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use switchboard_hub::audience::{Break, ChannelIndex};
use switchboard_hub::home::Answer;
use switchboard_hub::log::{Page, PageStart, ReadLimit};
use switchboard_hub::settings::OnLag;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{Event, Gap};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::session::broadcast::{Form, encode};
use switchboard_proto::time::Time;

use super::State;
use super::mail::{Mail, Origin, UNANSWERED_MAX};
use super::turn::{RETRY, broker_error, subscriber};
use super::wheel::LinkRef;

/// Messages between two places where pages end.
const PAGE_MESSAGES: usize = 128;
/// Bytes of payload in a page. A page and half an outbox fit into an outbox, as long as messages are not escaped much.
const PAGE_BYTES: usize = 64 * 1024;
/// Subscribers that one turn looks at.
const LOOKS_PER_TURN: usize = 64;
/// Bytes that one turn hands out, or a page more.
const BYTES_PER_TURN: usize = 256 * 1024;

/// After this time nobody expects the answer any longer, and the page is asked for again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Where a link is on its way to what it missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Replay {
    /// It is not behind, or its outbox has no room.
    #[default]
    Idle,
    /// It is in the queue, or parked.
    Queued,
    /// It waits for a page.
    Waiting,
}

/// A `subscribe` that says more than its channel, until it is answered.
#[derive(Debug)]
pub(super) struct Resuming {
    pub(super) channel: ChannelName,
    pub(super) id: Option<u64>,
    pub(super) since: Option<Position>,
    pub(super) latest: bool,
}

/// See the module.
pub(super) struct Replays {
    /// Each link at most once.
    queue: VecDeque<LinkRef>,
    /// Nothing can be done for these before the next tick.
    parked: Vec<LinkRef>,
    pages: Vec<Held>,
    pages_max: usize,
    last_number: u64,
}

/// A page, or the question for it.
struct Held {
    number: u64,
    channel: ChannelName,
    range: Range,
    /// When it was asked for.
    at: Time,
    /// Where the channel was then.
    head: Option<Position>,
    content: Content,
}

enum Content {
    /// Who waits for it.
    Asked(Vec<LinkRef>),
    There(Box<Shared>),
}

/// A page that is there.
struct Shared {
    page: Page,
    /// As sessions of each form get it; `None` for those that cannot be told.
    chunks: SmallVec<[(Form, Option<Bytes>); 2]>,
}

/// What came of a look at a link.
enum Look {
    /// It got something and may want more, or is to be looked at again.
    Again,
    /// It got everything, has no room, or is gone.
    Done,
    /// It waits for a page.
    Waits,
    /// Nothing changes before something else happens.
    Parked,
    /// As many pages are asked for as may be.
    Busy,
}

impl Replays {
    /// Nobody is behind. `pages_max` pages at once, at least one.
    pub(super) fn new(pages_max: usize) -> Replays {
        Replays {
            queue: VecDeque::new(),
            parked: Vec::new(),
            pages: Vec::new(),
            pages_max: pages_max.max(1),
            last_number: 0,
        }
    }

    /// Whether there is something to do now.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() && (self.pages.len() < self.pages_max || self.pages.iter().any(Held::is_there))
    }

    /// Whether there is something to do at the next tick.
    pub(super) fn wants_tick(&self) -> bool {
        !self.parked.is_empty() || !self.pages.is_empty()
    }

    /// Links that wait for their turn or for a page.
    pub(super) fn waiting(&self) -> usize {
        let waiting = self.pages.iter().map(|held| match &held.content {
            Content::Asked(waiting) => waiting.len(),
            Content::There(_) => 0,
        });
        self.queue.len() + self.parked.len() + waiting.sum::<usize>()
    }

    fn find(&self, channel: &ChannelName, range: Range) -> Option<usize> {
        self.pages
            .iter()
            .position(|held| held.range == range && held.channel == *channel)
    }

    /// Makes room for a page, if there can be.
    fn make_room(&mut self) -> bool {
        if self.pages.len() >= self.pages_max
            && let Some(oldest) = self.pages.iter().position(Held::is_there)
        {
            self.pages.remove(oldest);
        }
        self.pages.len() < self.pages_max
    }
}

impl Held {
    fn is_there(&self) -> bool {
        matches!(self.content, Content::There(_))
    }
}

impl State {
    /// A link may be behind and have room: it gets its turn.
    pub(super) fn catch_up(&mut self, at: LinkRef) {
        self.hear_again(at);
        let has_room = self.has_room(at);
        let Some(link) = self.link(at) else { return };
        if link.behind && link.replay == Replay::Idle && has_room {
            link.replay = Replay::Queued;
            self.replays.queue.push_back(at);
            self.wake();
        }
    }

    /// Half of an outbox.
    pub(super) fn has_room(&self, at: LinkRef) -> bool {
        let limits = &self.shared.settings.limits;
        let (bytes, messages) = (limits.outbox_bytes_max / 2, limits.outbox_messages_max / 2);
        self.links.get(at.key as usize).is_some_and(|link| {
            let outbox = link.session.outbox();
            link.session.is_open() && outbox.bytes() <= bytes && outbox.messages() <= messages
        })
    }

    /// Hands out some pages.
    pub(super) fn handle_replays(&mut self) {
        let mut bytes = 0;
        for _ in 0..LOOKS_PER_TURN {
            if bytes >= BYTES_PER_TURN {
                return;
            }
            let Some(at) = self.replays.queue.pop_front() else {
                return;
            };
            let look = self.replay(at, &mut bytes);
            let Some(link) = self.link(at) else { continue };
            link.replay = match look {
                Look::Done => Replay::Idle,
                Look::Waits => Replay::Waiting,
                Look::Again | Look::Parked | Look::Busy => Replay::Queued,
            };
            match look {
                Look::Again => self.replays.queue.push_back(at),
                Look::Parked => {
                    // Another of its channels may not be stuck.
                    link.turns = link.turns.wrapping_add(1);
                    self.replays.parked.push(at);
                }
                Look::Busy => return self.replays.queue.push_front(at),
                // A poll waits until nothing more is read for it.
                Look::Done => self.touch_poll(at),
                Look::Waits => {}
            }
        }
    }

    /// What was parked is tried again; pages that nobody wants are dropped.
    pub(super) fn handle_replay_tick(&mut self) {
        let Replays {
            queue, parked, pages, ..
        } = &mut self.replays;
        queue.extend(std::mem::take(parked));
        pages.retain_mut(|held| match &mut held.content {
            Content::Asked(waiting) if self.now.since(held.at) >= ANSWER_PATIENCE => {
                queue.extend(waiting.drain(..));
                false
            }
            Content::Asked(_) | Content::There(_) => true,
        });
        if queue.is_empty() {
            pages.retain(|held| !held.is_there());
            *queue = VecDeque::new();
        }
        let waiting = self.replays.waiting() as u64;
        self.stats.replays_waiting.set(waiting);
    }

    /// One channel of a link that is behind.
    fn replay(&mut self, at: LinkRef, bytes: &mut usize) -> Look {
        let behind: SmallVec<[ChannelIndex; 4]> = self.audience.behind(subscriber(at)).collect();
        let Some(link) = self.link(at) else {
            return Look::Done;
        };
        link.behind = !behind.is_empty();
        let turns = usize::from(link.turns);
        if behind.is_empty() || !self.has_room(at) {
            return Look::Done;
        }
        let index = behind[turns % behind.len()];
        let (Some(channel), Some(cursor)) = (
            self.audience.name(index).cloned(),
            self.audience.cursor(index, subscriber(at)),
        ) else {
            return Look::Done;
        };
        let on_lag = self.namespaces.settings(&channel).on_lag;
        let latest = on_lag == OnLag::Latest || self.audience.conflates(index, subscriber(at));
        if on_lag == OnLag::Drop && !latest && !self.audience.resumes(index, subscriber(at)) {
            if let Some(broken) = self.audience.skip(index, subscriber(at)) {
                self.say_break(at, &channel, broken);
                self.send_replies(at);
            }
            return Look::Again;
        }
        let range = match latest {
            true => Range::Latest { after: Some(cursor) },
            false => Range::After(cursor),
        };
        let Some(found) = self.replays.find(&channel, range) else {
            return self.ask_for_page(at, index, channel, cursor, range);
        };
        let head = self.audience.position(index);
        let held = &mut self.replays.pages[found];
        match &mut held.content {
            Content::Asked(waiting) => {
                waiting.push(at);
                Look::Waits
            }
            Content::There(shared) if shared.page.is_empty() && head != Some(shared.page.position) => {
                // Read when there was no more; now there may be. Where nothing came since it was asked for, the broker has less than
                // it told, and asking it without a pause would not help.
                let read = shared.page.position;
                let is_ahead = head.is_some_and(|head| head.epoch == read.epoch && head.offset > read.offset);
                let is_news = held.head != head;
                self.replays.pages.remove(found);
                match is_ahead && is_news {
                    true => Look::Again,
                    false => Look::Parked,
                }
            }
            Content::There(_) => self.hand_out(at, index, &channel, cursor, found, bytes),
        }
    }

    fn ask_for_page(
        &mut self,
        at: LinkRef,
        index: ChannelIndex,
        channel: ChannelName,
        cursor: Position,
        range: Range,
    ) -> Look {
        if !self.replays.make_room() {
            return Look::Busy;
        }
        let number = self.replays.last_number + 1;
        let to_the_next_end = PAGE_MESSAGES - (cursor.offset % PAGE_MESSAGES as u64) as usize;
        let mail = Mail::History {
            channel: channel.clone(),
            range,
            limit: ReadLimit {
                messages: to_the_next_end,
                bytes: PAGE_BYTES,
            },
            origin: Origin::Replay {
                shard: self.id,
                number,
            },
        };
        let home = self.post.home(&channel);
        if self.unanswered >= UNANSWERED_MAX || self.send_home(mail, home).is_err() {
            return Look::Parked;
        }
        self.unanswered += 1;
        self.replays.last_number = number;
        self.replays.pages.push(Held {
            number,
            channel,
            range,
            at: self.now,
            head: self.audience.position(index),
            content: Content::Asked(vec![at]),
        });
        Look::Waits
    }

    /// A page has come, or cannot be had.
    pub(super) fn handle_page(&mut self, number: u64, answer: Answer) {
        self.unanswered = self.unanswered.saturating_sub(1);
        let Some(found) = self.replays.pages.iter().position(|held| held.number == number) else {
            return;
        };
        let held = &mut self.replays.pages[found];
        let Content::Asked(waiting) = &mut held.content else {
            return;
        };
        let waiting = std::mem::take(waiting);
        match answer {
            Answer::History(page) => {
                self.stats.replay_pages.add(1);
                held.content = Content::There(Box::new(Shared {
                    page: *page,
                    chunks: SmallVec::new(),
                }));
                // Before those who would have the page make room for theirs.
                for at in waiting.into_iter().rev() {
                    if let Some(link) = self.link(at) {
                        link.replay = Replay::Queued;
                        self.replays.queue.push_front(at);
                    }
                }
            }
            Answer::Refused(error) => {
                let (channel, range) = (held.channel.clone(), held.range);
                self.replays.pages.remove(found);
                for at in waiting {
                    if self.reads(at, &channel, range) {
                        self.refuse_resumption(at, &channel, broker_error(error));
                    }
                    if let Some(link) = self.link(at) {
                        link.replay = Replay::Queued;
                        self.replays.parked.push(at);
                    }
                }
            }
            Answer::Published(_) | Answer::Subscribed(_) | Answer::Members(_) => {}
        }
    }

    /// Whether a link is still where it was when it asked for this page: it may have left the channel, and be about to come back.
    fn reads(&self, at: LinkRef, channel: &ChannelName, range: Range) -> bool {
        let mut behind = self.audience.behind(subscriber(at));
        let index = behind.find(|index| self.audience.name(*index) == Some(channel));
        let cursor = index.and_then(|index| self.audience.cursor(index, subscriber(at)));
        cursor.is_some() && cursor == range.position()
    }

    /// A subscription that has not begun yet does not begin. Others try again.
    fn refuse_resumption(&mut self, at: LinkRef, channel: &ChannelName, code: ErrorCode) {
        let Some(resuming) = self.link(at).and_then(|link| link.take_resuming(channel)) else {
            return;
        };
        self.depart(at, channel);
        if self.audience.detach(channel, subscriber(at)) == Ok(true) {
            self.leave(channel.clone());
        }
        self.refuse(at, resuming.id, code, Some(RETRY));
        self.send_replies(at);
    }

    /// Gives a link what a page has for it.
    fn hand_out(
        &mut self,
        at: LinkRef,
        index: ChannelIndex,
        channel: &ChannelName,
        cursor: Position,
        found: usize,
        bytes: &mut usize,
    ) -> Look {
        let State {
            links,
            replays,
            shared,
            audience,
            stats,
            ..
        } = self;
        let (Some(link), Some(held)) = (links.get_mut(at.key as usize), replays.pages.get_mut(found)) else {
            return Look::Done;
        };
        let Content::There(there) = &mut held.content else {
            return Look::Again;
        };
        let Shared { page, chunks } = &mut **there;
        let form = link.session.form();
        let compress_bytes_min = shared.settings.compress_bytes_min;
        let whole = match chunks.iter().position(|(known, _)| *known == form) {
            Some(known) => chunks[known].1.clone(),
            None => {
                let events = events(channel, told(page), page, 0..page.entries.len());
                let chunk = encode(events, form, &mut shared.contexts, compress_bytes_min);
                chunks.push((form, chunk.clone()));
                chunk
            }
        };
        let length = whole.as_ref().map_or(0, Bytes::len);
        let bytes_max = shared.settings.limits.outbox_bytes_max;
        if !link.session.outbox().fits(length, bytes_max) {
            return Look::Done;
        }
        let Some(step) = audience.advance(index, subscriber(at), cursor, page) else {
            return Look::Again;
        };
        let chunk = match step.entries.len() == page.entries.len() && step.broken == told(page) {
            true => whole,
            false => {
                let events = events(channel, step.broken, page, step.entries.clone());
                encode(events, form, &mut shared.contexts, compress_bytes_min)
            }
        };
        let resumed = link.take_resuming(channel);
        if let Some(resuming) = &resumed {
            let recovered = Some(page.start == PageStart::Continues);
            let event = Event::Subscribed {
                id: resuming.id,
                channel,
                position: cursor,
                recovered,
            };
            link.session.say(&event, shared);
        }
        let Some(chunk) = chunk else {
            // Its dialect has no words for what is missing.
            self.refuse(at, None, ErrorCode::Lagged, None);
            self.send_replies(at);
            return Look::Done;
        };
        // A channel that is never quiet does not keep the others of this session waiting.
        link.turns = link.turns.wrapping_add(1);
        let is_stuck = !step.live && step.broken.is_none() && step.entries.is_empty();
        let messages = step.entries.len();
        stats.gaps.add(u64::from(step.broken.is_some()));
        stats.deliveries.add(messages as u64);
        stats.replayed.add(messages as u64);
        *bytes += chunk.len();
        self.send_replies(at);
        let now = self.now;
        if let Some(link) = self.link(at) {
            let chunk = link.session.own(channel, &chunk);
            link.session.handle_unwritten(now, chunk, messages as u32);
            let written = link.flush(now);
            self.stats.sent_bytes.add(written);
            self.arm(at);
        }
        self.touch_poll(at);
        if resumed.is_some() {
            self.begin_hearing(at, channel);
        }
        self.hear_again(at);
        match is_stuck {
            true => Look::Parked,
            false => Look::Again,
        }
    }
}

/// What whoever reads a page is told first.
fn told(page: &Page) -> Option<Break> {
    let position = page.begin;
    match page.start {
        PageStart::Continues => None,
        PageStart::Gap { from, to } => Some(Break::Gap { from, to, position }),
        PageStart::Reset => Some(Break::Reset { position }),
    }
}

/// What a subscriber gets of a page.
fn events<'a>(
    channel: &'a ChannelName,
    broken: Option<Break>,
    page: &'a Page,
    entries: std::ops::Range<usize>,
) -> impl Iterator<Item = Event<'a>> {
    let broken = broken.map(move |broken| break_event(channel, broken));
    let runs = page.runs(entries).flat_map(move |run| {
        let left_out = run.left_out.map(|(from, position)| Event::Gap {
            channel,
            gap: Gap {
                from,
                to: position.offset,
                position,
            },
            conflated: true,
        });
        let messages = run
            .entries
            .iter()
            .map(move |entry| Event::Message { channel, entry });
        left_out.into_iter().chain(messages)
    });
    broken.into_iter().chain(runs)
}

/// How a break is said.
pub(super) fn break_event(channel: &ChannelName, broken: Break) -> Event<'_> {
    match broken {
        Break::Gap { from, to, position } => Event::Gap {
            channel,
            gap: Gap { from, to, position },
            conflated: false,
        },
        Break::Reset { position } => Event::Reset { channel, position },
    }
}

//! Shards: one thread per core, each owning a share of the connections and a share of the channels.
//!
//! ```text
//!  socket ─ link ─► proto::session ─ Request ─► mail to the channel's home ─► hub::Home ─► broker
//!         ◄─── send ◄──── fan-out ◄─ hub::Audience ◄─ mail from the home ◄────┘    ◄─ completions
//! ```
//!
//! Everything on this path belongs to one thread at a time and nothing is locked: shards share only mailboxes. A message
//! is written straight from the fan-out loop into the sockets of the local subscribers; a link has a task that waits for its
//! socket, and no timer, no channel and no buffer of its own.
//!
//! Reading order: this file (what a shard owns), `link` (one socket), `commands` (what its client asks for), [`reader`] (peers that only read), [`turn`]
//! (one round of mail), `replay` (who is behind), `presence` (who is there), [`mail`], [`wheel`].

pub(crate) mod commands;
mod link;
pub mod mail;
mod presence;
pub mod reader;
mod replay;
pub mod turn;
pub mod wheel;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use slab::Slab;
use switchboard_hub::audience::Audience;
use switchboard_hub::broker::Completion;
use switchboard_hub::home::{Home, ShardId};
use switchboard_hub::presence::{Presence, Settings as PresenceSettings};
use switchboard_hub::settings::Namespaces;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::User;
use switchboard_proto::session::server::{Identity, SessionId, Settings, Shared};
use switchboard_proto::time::Time;

use self::link::Link;
use self::mail::{Mail, Mailbox, Origin, Post, Told, UNANSWERED_MAX};
use self::presence::Attendances;
use self::replay::Replays;
use self::turn::Arrival;
use self::wheel::{LinkRef, TICK, Wheel};
use crate::broker::{Broker, Factory, Seat};
use crate::clock::Clock;
use crate::stats::ShardStats;

/// Size of the buffer that all sockets of a shard are read into. A message that comes whole within it is neither copied nor
/// put together, so it is larger than the largest message by default (64 KiB) with a few others before it.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Places for links that stay when all have gone.
const LINKS_KEPT: usize = 1_024;
/// Mails handled before the sockets get their turn again.
const MAILS_PER_TURN: usize = 1_024;
/// Ticks between two looks at what has time: what logs hold too long, what the metrics say.
const HOUSEKEEPING_TICKS: u32 = 5;
/// For so long a home remembers whom it has refused: longer than a session keeps its client from publishing.
const REFUSED_KEPT: Duration = Duration::from_secs(20);
/// Publishers that a home remembers so. Beyond, somebody's order may suffer.
const REFUSED_MAX: usize = 16_384;
/// Links that one turn looks at because they are due. Heartbeats come in waves of hundreds, and nobody waits for a wave.
const DUE_PER_TURN: usize = 64;

/// What a shard is made of.
pub struct Parts {
    /// Which one.
    pub id: ShardId,
    /// The process's clock.
    pub clock: Clock,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// Everyone's mailboxes.
    pub post: Post,
    /// Settings of sessions.
    pub settings: Arc<Settings>,
    /// Settings of channels.
    pub namespaces: Arc<Namespaces>,
    /// Channels that each home may have.
    pub channels_max: usize,
    /// Pages of logs that subscribers of the process may read at once.
    pub replays_max: usize,
    /// How long somebody who has vanished is there, how long lists are.
    pub presence: PresenceSettings,
    /// Makes its broker.
    pub broker: Factory,
    /// Its counters.
    pub stats: Arc<ShardStats>,
    /// Random.
    pub seed: [u8; 32],
}

/// What came for one turn.
#[derive(Default)]
struct Batch {
    mail: Vec<Mail>,
    completions: Vec<Told>,
}

/// One shard, shared by the tasks of its thread.
pub struct Shard {
    clock: Clock,
    state: RefCell<State>,
}

/// Everything that a shard owns.
struct State {
    id: ShardId,
    now: Time,
    links: Slab<Box<Link>>,
    generation: u32,
    audience: Audience,
    home: Home<Origin>,
    /// Of the channels whose home is here.
    presence: Presence,
    /// Of the sessions that are here.
    attendances: Attendances,
    broker: Box<dyn Broker>,
    completions: VecDeque<Completion>,
    shared: Shared,
    namespaces: Arc<Namespaces>,
    wheel: Wheel,
    /// Links to be looked at in the next turns.
    due: Vec<LinkRef>,
    /// When the task that handles mail wakes by itself.
    sleeps_until: Time,
    /// On the grid of the wheel's alarms, which come a little late.
    housekeeping_at: Time,
    post: Post,
    /// Mail to this shard's own home, which needs no mailbox. Bounded by `mail_max`.
    local: VecDeque<Mail>,
    mail_max: usize,
    /// Channels that nobody here is interested in any more and whose homes do not know it. At most what sessions were
    /// subscribed to: while a home cannot be told, nobody can subscribe to more of its channels.
    leaving: BTreeSet<ChannelName>,
    unanswered: usize,
    arrivals: VecDeque<Arrival>,
    touched: Vec<LinkRef>,
    replays: Replays,
    /// Publishers of which the home here has refused something, with their number then, and when.
    refused: BTreeMap<(ShardId, LinkRef), (u32, Time)>,
    /// Wakes the task that handles mail.
    turn_waker: Option<Waker>,
    read_buffer: Vec<u8>,
    stopping: bool,
    rng: ChaCha8Rng,
    stats: Arc<ShardStats>,
}

impl Shard {
    /// Makes the shard and the task that handles its mail. Both run on the calling thread, on its local runtime.
    pub fn new(parts: Parts) -> (Rc<Shard>, impl Future<Output = ()>) {
        let mut rng = ChaCha8Rng::from_seed(parts.seed);
        let now = parts.clock.now();
        let seat = Seat {
            shard: parts.id,
            namespaces: parts.namespaces.clone(),
            channels_max: parts.channels_max,
            seeds: [rng.next_u64(), rng.next_u64()],
            now,
            post: parts.post.clone(),
        };
        let state = State {
            id: parts.id,
            now,
            links: Slab::new(),
            // Anywhere: the first sessions of different shards and servers have different heartbeats.
            generation: rng.next_u32(),
            audience: Audience::new(rng.next_u64()),
            home: Home::new(rng.next_u64()),
            presence: Presence::new(parts.presence, rng.next_u64()),
            attendances: Attendances::new(rng.next_u64()),
            broker: (parts.broker)(seat),
            completions: VecDeque::new(),
            shared: Shared::new(parts.settings),
            namespaces: parts.namespaces,
            wheel: Wheel::new(now),
            due: Vec::new(),
            sleeps_until: now,
            housekeeping_at: now,
            mail_max: parts.post.messages_max(),
            refused: BTreeMap::new(),
            replays: Replays::new(parts.replays_max / parts.post.shards()),
            post: parts.post,
            local: VecDeque::new(),
            leaving: BTreeSet::new(),
            unanswered: 0,
            arrivals: VecDeque::new(),
            touched: Vec::new(),
            turn_waker: None,
            read_buffer: vec![0; READ_BUFFER_BYTES],
            stopping: false,
            rng,
            stats: parts.stats,
        };
        let shard = Rc::new(Shard {
            clock: parts.clock,
            state: RefCell::new(state),
        });
        (shard.clone(), shard.handle_mail(parts.mailbox))
    }

    /// Handles mail and time, for ever.
    async fn handle_mail(self: Rc<Self>, mut mailbox: Mailbox) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut batch = Batch::default();
        std::future::poll_fn(|cx| {
            let received = mailbox.mail.poll_recv_many(cx, &mut batch.mail, MAILS_PER_TURN);
            if matches!(received, Poll::Ready(0)) {
                return Poll::Ready(());
            }
            let completed = mailbox
                .completions
                .poll_recv_many(cx, &mut batch.completions, MAILS_PER_TURN);
            // A panic here would otherwise end the routing of the whole shard.
            let turn = std::panic::AssertUnwindSafe(|| self.turn(cx.waker(), &mut batch));
            if std::panic::catch_unwind(turn).is_err() {
                tracing::error!("a turn of mail ended in a panic");
                self.state.borrow_mut().handle_panic();
            }
            let (alarm, others_are_due) = self.state.borrow_mut().rest();
            let alarm = self.clock.instant(alarm);
            if sleep.deadline() != alarm {
                sleep.as_mut().reset(alarm);
            }
            // There may be more, but the sockets first.
            let ticks = sleep.as_mut().poll(cx).is_ready();
            if others_are_due {
                // Unlike a wake, this comes after what has arrived meanwhile.
                let _pending = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            } else if ticks || received.is_ready() || completed.is_ready() {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
    }

    fn turn(&self, waker: &Waker, batch: &mut Batch) {
        let mut state = self.state.borrow_mut();
        state.now = self.clock.now();
        if !state
            .turn_waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            state.turn_waker = Some(waker.clone());
        }
        if state.now >= state.wheel.alarm() {
            state.handle_tick();
        }
        state.handle_due();
        for told in batch.completions.drain(..) {
            match told {
                Told::Completion(completion) => state.completions.push_back(completion),
                Told::Look => {}
            }
        }
        state.poll_broker(&self.clock);
        if !state.completions.is_empty() {
            // Before the mail: what a publisher says behind something that was refused must not be taken.
            state.drain_home(&self.clock);
        }
        for mail in batch.mail.drain(..) {
            state.handle_mail(mail);
        }
        state.handle_replays();
        state.settle(&self.clock);
    }

    /// A name and a user for a session without a token, and a number to spread its heartbeat with.
    fn anonymous(&self) -> (Identity, u8) {
        /// Sessions that open one after another and have their heartbeats together: in memory they are together, too.
        const TOGETHER: u32 = 64;
        /// Takes the next ones far from the last, and reaches every number.
        const STEP: u32 = 159;
        let mut state = self.state.borrow_mut();
        let number = state.rng.next_u64();
        // Nobody else's, also of many at once; an allocation of 32 bytes holds as much.
        let user = User::new(&format!("guest-{:010x}", number >> 24));
        (
            Identity {
                session: SessionId(state.rng.next_u64()),
                user,
            },
            (state.generation / TOGETHER).wrapping_mul(STEP) as u8,
        )
    }

    /// Who shows this token of an earlier session, or somebody new. A number to spread its heartbeat with, and whether it is known.
    pub fn identity(&self, resume: Option<&str>) -> (Identity, u8, bool) {
        let (anonymous, jitter) = self.anonymous();
        let key = &self.state.borrow().shared.settings.resume_key;
        match resume.and_then(|token| key.identity(token)) {
            Some(identity) => (identity, jitter, true),
            None => (anonymous, jitter, false),
        }
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.state.borrow_mut().rng.next_u64()
    }

    /// The mailboxes of all shards.
    pub fn post(&self) -> Post {
        self.state.borrow().post.clone()
    }

    /// Lends the buffer that sockets are read into. `read` may call nothing of the shard.
    pub fn with_read_buffer<T>(&self, read: impl FnOnce(&mut [u8]) -> T) -> T {
        // Not taken out: a panic must leave it to the others, who would take an empty one for the end of their streams.
        read(&mut self.state.borrow_mut().read_buffer)
    }

    /// Settings of sessions.
    pub fn settings(&self) -> Arc<Settings> {
        self.state.borrow().shared.settings.clone()
    }

    /// The shard's counters.
    pub fn stats(&self) -> Arc<ShardStats> {
        self.state.borrow().stats.clone()
    }

    /// Whether everyone has been told that the server stops.
    pub fn is_stopped(&self) -> bool {
        self.state.borrow().stopping
    }

    /// How many links there are.
    pub fn links(&self) -> usize {
        self.state.borrow().links.len()
    }
}

impl State {
    fn poll_broker(&mut self, clock: &Clock) {
        self.broker.poll(self.now, clock, &mut self.completions);
    }

    fn link(&mut self, link: LinkRef) -> Option<&mut Link> {
        let found = self.links.get_mut(link.key as usize)?;
        (found.generation == link.generation).then_some(&mut **found)
    }

    /// Sends mail to a home; its own through `local`, so that both ways keep the order and neither recurses.
    fn send_home(&mut self, mail: Mail, home: ShardId) -> Result<(), mail::Full> {
        if home != self.id {
            return self.post.send(home, mail);
        }
        if self.local.len() >= self.mail_max {
            return Err(mail::Full);
        }
        self.local.push_back(mail);
        self.wake();
        Ok(())
    }

    /// Wakes the task that handles mail.
    fn wake(&self) {
        if let Some(waker) = &self.turn_waker {
            waker.wake_by_ref();
        }
    }

    /// Something ended in the middle. What all links share is made whole: the others go on, and hear nothing that was
    /// meant for somebody else.
    fn handle_panic(&mut self) {
        self.shared.replies.clear();
        self.hear_everything_again();
        self.read_buffer.resize(READ_BUFFER_BYTES, 0);
        self.touched.clear();
        for (key, link) in &mut self.links {
            link.touched = true;
            self.touched.push(LinkRef {
                key: key as u32,
                generation: link.generation,
            });
        }
        self.wake();
    }

    /// Looks at some of the links that are due.
    fn handle_due(&mut self) {
        for _ in 0..DUE_PER_TURN {
            let Some(link) = self.due.pop() else { return };
            self.handle_link_due(link);
        }
    }

    fn handle_tick(&mut self) {
        let tick = self.wheel.alarm();
        self.wheel.poll(self.now, &mut self.due);
        self.wheel.rest(u64::from(HOUSEKEEPING_TICKS));
        // Neighbours in memory one after another.
        self.due.sort_unstable_by_key(|link| link.key);
        self.leave_at_last();
        self.home.handle_timeout();
        self.handle_presence_tick();
        self.handle_replay_tick();
        let now = self.now;
        self.refused.retain(|_, (_, at)| now.since(*at) < REFUSED_KEPT);
        if tick >= self.housekeeping_at {
            self.housekeeping_at = tick + TICK * HOUSEKEEPING_TICKS;
            self.broker.handle_timeout(self.now);
            self.stats.sessions.set(self.links.len() as u64);
            if self.links.is_empty() && self.links.capacity() > LINKS_KEPT {
                self.links = Slab::new();
                self.wheel.clear();
                self.due = Vec::new();
            }
        }
    }

    /// Ends a turn: until when there is nothing to do but what arrives, and whether there is something that it did not look at.
    fn rest(&mut self) -> (Time, bool) {
        // Others are to be asked again.
        if !self.leaving.is_empty()
            || self.home.behind() > 0
            || self.replays.wants_tick()
            || self.attendances.wants_tick()
            || self.presence.deadline().is_some_and(|at| at <= self.now + TICK)
        {
            self.wheel.rest(1);
        }
        self.sleeps_until = self.wheel.alarm();
        (self.sleeps_until, !self.due.is_empty() || self.replays.is_busy())
    }
}

#[cfg(test)]
mod tests;

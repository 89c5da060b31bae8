//! A Rust client that does what its plan says, and writes down what happens to it.
//!
//! What the client library does not tell an application is not in its log: of a subscription that goes on over a new connection there is
//! no second `subscribed`. What it misses, gets twice or out of order is there all the same.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use switchboard_check::log::Line;
use switchboard_client::{
    Client, Dialect, End, ErrorCode, Event, Message, Position, Refusal, Role, Settings, State,
    SubscribeError, SubscribeOptions, Subscription, Transport as ClientTransport,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use self::publisher::Publisher;
use super::{Phase, Reached};
use crate::journal::Journal;
use crate::payloads;
use crate::plan::{Client as Plan, Stream, Transport};
use crate::random::Random;
use crate::troubles::Troubles;

mod presence;
mod publisher;

/// Before what the server has ended is begun again, where it does not say.
const AGAIN: Duration = Duration::from_millis(50);

/// What all clients of this process share.
#[derive(Clone)]
pub struct World {
    /// Where to connect.
    pub url: String,
    /// What is wanted.
    pub phase: watch::Receiver<Phase>,
    /// Whether as much as possible is to be published.
    pub storm: watch::Receiver<bool>,
    /// Where to say what was reached.
    pub reached: mpsc::Sender<Reached>,
    /// Where to say what the server should not do.
    pub troubles: Troubles,
}

/// One client, and its log.
struct Actor {
    plan: Plan,
    world: World,
    journal: Journal,
    streams: RefCell<BTreeMap<u32, Place>>,
    last_stream: Cell<u32>,
    /// Publications without an answer.
    outstanding: Cell<u32>,
}

/// Where a stream is.
struct Place {
    wish: Stream,
    position: Option<Position>,
    subscribed: bool,
    stands: Option<String>,
    members: Option<BTreeSet<String>>,
    /// How many are there, where there are too many to be listed.
    count: Option<u32>,
    stop: Option<oneshot::Sender<()>>,
}

/// A stream that is over.
struct Over {
    number: u32,
    /// By the server, who may say when to come back.
    again_after: Option<Duration>,
}

/// Runs the client until [`Phase::End`].
pub fn start(who: usize, plan: Plan, world: World, journal: Journal) -> JoinHandle<()> {
    let actor = Rc::new(Actor {
        plan,
        world,
        journal,
        streams: RefCell::default(),
        last_stream: Cell::new(0),
        outstanding: Cell::new(0),
    });
    spawn_local(actor.run(who))
}

impl Actor {
    async fn run(self: Rc<Actor>, who: usize) {
        let mut random = Random::new(self.plan.seed);
        let mut reached = None;
        // Where the streams of the client before were.
        let mut since: Vec<(Stream, Option<Position>)> = self
            .plan
            .streams
            .iter()
            .map(|stream| (stream.clone(), None))
            .collect();
        for incarnation in 1.. {
            let Ok(client) = self.builder().connect().await else {
                // Only what is wrong with the harness itself is for good.
                sleep(AGAIN).await;
                continue;
            };
            self.journal.write("connected", Line::default());
            let watching = spawn_local(self.clone().watch(client.clone()));
            let publisher = spawn_local(Publisher::run(
                self.clone(),
                client.clone(),
                incarnation,
                random.number(),
            ));
            let (mut streams, ended) = self.live(who, &client, since, &mut random, &mut reached).await;
            if ended {
                self.journal.write("ended", Line::default());
            }
            client.close().await;
            // Everything that was asked has its answer now.
            let _joined = publisher.await;
            while streams.join_next().await.is_some() {}
            let _joined = watching.await;
            let places = std::mem::take(&mut *self.streams.borrow_mut());
            since = places
                .into_values()
                .map(|place| (place.wish, place.position))
                .collect();
            if ended {
                self.say(who, &Phase::End).await;
                return;
            }
        }
    }

    fn builder(&self) -> switchboard_client::Builder {
        let Plan {
            transport,
            message_pack,
            takes_ms,
            ..
        } = self.plan;
        let transport = match transport {
            Transport::Websocket => ClientTransport::WebSocket,
            Transport::Sse => ClientTransport::EventStream,
            Transport::Poll => ClientTransport::Poll,
        };
        let keyed = self
            .plan
            .publishes
            .as_ref()
            .is_none_or(|publishes| publishes.keyed);
        Client::builder(&self.world.url)
            .transports([transport])
            .dialect(if message_pack {
                Dialect::MessagePack
            } else {
                Dialect::Json
            })
            .subscription_buffer(if takes_ms.is_some() { 4 } else { 256 })
            .connect_timeout(Duration::from_secs(3))
            .backoff(Duration::from_millis(50), Duration::from_millis(800))
            .settings(Settings {
                pong_timeout: Duration::from_millis(1_500),
                close_handshake: Duration::from_secs(1),
                ..Settings::default()
            })
            .idempotent(keyed)
            .persistent(true)
    }

    /// Lives until it is to be another client, or until the end; which of both.
    async fn live(
        self: &Rc<Actor>,
        who: usize,
        client: &Client,
        since: Vec<(Stream, Option<Position>)>,
        random: &mut Random,
        reached: &mut Option<u8>,
    ) -> (JoinSet<Over>, bool) {
        let mut streams = JoinSet::new();
        for (wish, position) in since {
            self.begin(&mut streams, client, wish, position, Duration::ZERO);
        }
        let mut phase = self.world.phase.clone();
        let mut lines = self.journal.lines();
        let mut restless_at = next(self.plan.restless_ms, random);
        let reload_at = next(self.plan.reloads_ms, random);
        loop {
            let now = phase.borrow_and_update().clone();
            lines.mark_unchanged();
            let is_load = now == Phase::Load;
            self.stand(client);
            if now == Phase::End {
                return (streams, true);
            }
            if *reached != Some(now.number()) && self.has_reached(&now) {
                *reached = Some(now.number());
                self.say(who, &now).await;
            }
            tokio::select! {
                _ = phase.changed() => {}
                _ = lines.changed() => {}
                Some(Ok(over)) = streams.join_next(), if !streams.is_empty() => {
                    let place = self.streams.borrow_mut().remove(&over.number);
                    if let Some(place) = place {
                        // Whoever leaves by itself sometimes wants to know nothing of before.
                        let is_fresh = over.again_after.is_none() && random.percent(20);
                        let since = place.position.filter(|_| !is_fresh);
                        let after = over.again_after.unwrap_or_default();
                        self.begin(&mut streams, client, place.wish, since, after);
                    }
                }
                () = at(restless_at), if is_load => {
                    restless_at = next(self.plan.restless_ms, random);
                    self.leave_one(random);
                }
                () = at(reload_at), if is_load => return (streams, false),
            }
        }
    }

    fn begin(
        self: &Rc<Actor>,
        streams: &mut JoinSet<Over>,
        client: &Client,
        wish: Stream,
        since: Option<Position>,
        after: Duration,
    ) {
        let number = self.last_stream.get() + 1;
        self.last_stream.set(number);
        let (stop, stopped) = oneshot::channel();
        let place = Place {
            wish: wish.clone(),
            position: since,
            subscribed: false,
            stands: None,
            members: None,
            count: None,
            stop: Some(stop),
        };
        self.streams.borrow_mut().insert(number, place);
        let actor = self.clone();
        let client = client.clone();
        streams.spawn_local(async move {
            sleep(after).await;
            actor.read(client, wish, since, number, stopped).await
        });
    }

    fn leave_one(&self, random: &mut Random) {
        let mut streams = self.streams.borrow_mut();
        let numbers: Vec<u32> = streams.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        if let Some(place) = streams.get_mut(&random.one(&numbers))
            && let Some(stop) = place.stop.take()
        {
            // It may have ended by itself.
            let _over = stop.send(());
        }
    }

    /// One subscription, from its beginning to its end.
    async fn read(
        self: Rc<Actor>,
        client: Client,
        wish: Stream,
        since: Option<Position>,
        number: u32,
        mut stopped: oneshot::Receiver<()>,
    ) -> Over {
        self.journal.write(
            "subscribing",
            Line {
                stream: Some(number),
                channel: Some(Cow::Borrowed(&wish.channel)),
                since: since.map(token),
                conflates: wish.latest.then_some(true),
                ..Line::default()
            },
        );
        let line = Line {
            stream: Some(number),
            ..Line::default()
        };
        if wish.hears {
            self.journal.write("hears", line.clone());
        }
        self.journal.write("asked", line);
        let asked = tokio::select! {
            asked = client.subscribe_with(&wish.channel, options(&wish, since)) => asked,
            _ = &mut stopped => return self.over(number, "unsubscribed", None),
        };
        let mut subscription = match asked {
            Ok(subscription) => subscription,
            Err(SubscribeError::Refused(refusal)) => {
                self.mind(&refusal);
                let after = refusal.retry_after.unwrap_or(AGAIN);
                return self.over(number, "closed", Some(after));
            }
            Err(SubscribeError::Ended(End::ClosedHere)) => return self.over(number, "unsubscribed", None),
            Err(SubscribeError::Ended(end)) => {
                self.mind_end(&end);
                return self.over(number, "closed", Some(AGAIN));
            }
            Err(SubscribeError::BadChannel(error)) => {
                self.trouble(&error);
                return self.over(number, "closed", Some(AGAIN));
            }
        };
        // A poll that goes on is not told whether something is missing: the client only saw no gap yet, or one, which where slow readers
        // are told gaps may be one of those.
        let is_said = self.plan.transport != Transport::Poll;
        let is_known = |recovered: &bool| is_said || !(*recovered || self.plan.drops);
        self.journal.write(
            "subscribed",
            Line {
                stream: Some(number),
                position: Some(token(subscription.position())),
                recovered: subscription.recovered().filter(is_known),
                ..Line::default()
            },
        );
        self.at(number, |place| {
            place.subscribed = true;
            place.position = Some(since.unwrap_or(subscription.position()));
        });
        // As whom, also if this is the last thing that it does.
        self.stand(&client);
        let end = loop {
            let event = tokio::select! {
                event = subscription.next() => event,
                _ = &mut stopped => break Some(End::ClosedHere),
            };
            match event {
                Some(Ok(event)) => self.note(number, &subscription, event),
                Some(Err(end)) => break Some(end),
                None => break None,
            }
            self.dawdle().await;
        };
        drop(subscription);
        match end {
            Some(End::ClosedHere) => self.over(number, "unsubscribed", None),
            Some(end) => {
                self.mind_end(&end);
                self.over(number, "closed", Some(AGAIN))
            }
            None => self.over(number, "closed", Some(AGAIN)),
        }
    }

    /// A server that cannot now says when to come back; what it says is wrong for good is not, for these clients do nothing wrong.
    fn mind(&self, refusal: &Refusal) {
        let is_for_now = refusal.is_retryable() && refusal.error_code() != Some(ErrorCode::Internal);
        if !is_for_now {
            self.trouble(refusal);
        }
    }

    /// Connections are lost, and the server closes them; what comes by them is not altered by anybody.
    fn mind_end(&self, end: &End) {
        match end {
            End::ClosedHere | End::Lost(_) | End::Silent => {}
            End::ClosedByServer { error, .. } => error.iter().for_each(|refusal| self.mind(refusal)),
            End::Unsubscribed(refusal) => self.mind(refusal),
            End::Misbehaved(_) | End::Refused(..) | End::RuntimeStopped => self.trouble(end),
        }
    }

    fn trouble(&self, what: &dyn Display) {
        let name = &self.plan.name;
        self.world.troubles.tell(format!("{name} was told: {what}"));
    }

    /// A slow reader takes its time, as long as there is load.
    async fn dawdle(&self) {
        let Some(ms) = self.plan.takes_ms else { return };
        let mut phase = self.world.phase.clone();
        if *phase.borrow() == Phase::Load {
            tokio::select! {
                () = sleep(Duration::from_millis(ms)) => {}
                _ = phase.wait_for(|phase| *phase != Phase::Load) => {}
            }
        }
    }

    fn over(&self, number: u32, event: &'static str, again_after: Option<Duration>) -> Over {
        let line = Line {
            stream: Some(number),
            ..Line::default()
        };
        self.journal.write(event, line);
        self.at(number, |place| {
            place.subscribed = false;
            place.stop = None;
        });
        Over { number, again_after }
    }

    fn at(&self, number: u32, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.streams.borrow_mut().get_mut(&number) {
            change(place);
        }
    }

    fn note(&self, number: u32, subscription: &Subscription, event: Event) {
        let blank = Line {
            stream: Some(number),
            position: event.position().map(token),
            ..Line::default()
        };
        match event {
            Event::Message(message) => self.note_message(message, blank),
            Event::Gap { from, conflated, .. } => self.journal.write(
                "gap",
                Line {
                    from: Some(from),
                    conflated: conflated.then_some(true),
                    ..blank
                },
            ),
            Event::Reset { .. } => self.journal.write("reset", blank),
            Event::Presence { counts, who } => self.hear(number, counts.members, who),
        }
        self.at(number, |place| place.position = Some(subscription.position()));
    }

    fn note_message(&self, message: Message, blank: Line<'_>) {
        let Some(payload) = payloads::read(&message.payload) else {
            return self.journal.write("altered", blank);
        };
        self.journal.write(
            "received",
            Line {
                channel: Some(Cow::Borrowed(&payload.channel)),
                publisher: Some(Cow::Borrowed(&payload.publisher)),
                n: Some(payload.number as u32),
                ..blank
            },
        );
    }

    fn has_reached(&self, phase: &Phase) -> bool {
        let streams = self.streams.borrow();
        let mut all = streams.values();
        let count = streams.len();
        match phase {
            Phase::Load => count == self.plan.streams.len() && all.all(|place| place.subscribed),
            Phase::Calm => {
                self.outstanding.get() == 0
                    && count == self.plan.streams.len()
                    && all.all(|place| place.subscribed)
            }
            Phase::Heads { heads } => all.all(|place| {
                let head = heads.get(&place.wish.channel);
                place.subscribed && place.position.map(token).as_deref() == head.map(String::as_str)
            }),
            Phase::Rosters { rosters } => all.all(|place| {
                let roster = rosters.get(&place.wish.channel).map_or(&[][..], Vec::as_slice);
                let has_all = place
                    .members
                    .as_ref()
                    .is_some_and(|members| members.iter().eq(roster));
                let counts = place.count.is_some_and(|count| count as usize == roster.len());
                !place.wish.hears || has_all || counts
            }),
            Phase::End => false,
        }
    }

    async fn say(&self, who: usize, phase: &Phase) {
        let mut stands = Vec::new();
        for place in self.streams.borrow().values() {
            if let (true, Some(session)) = (place.subscribed, &place.stands) {
                stands.push((place.wish.channel.clone(), session.clone()));
            }
        }
        let reached = Reached {
            who,
            phase: phase.number(),
            stands,
        };
        // Whoever does not wait any more has given up.
        let _given_up = self.world.reached.send(reached).await;
    }

    /// Notes when there is a connection.
    async fn watch(self: Rc<Actor>, client: Client) {
        let mut known = State::Open;
        let mut connected = true;
        loop {
            known = client.state_other_than(&known).await;
            let is_open = known == State::Open;
            if is_open != connected {
                connected = is_open;
                let event = if is_open { "connected" } else { "disconnected" };
                self.journal.write(event, Line::default());
            }
            if let State::Closed(_) = known {
                return;
            }
        }
    }
}

fn token(position: Position) -> Cow<'static, str> {
    Cow::Owned(position.token().as_str().to_owned())
}

fn options(wish: &Stream, since: Option<Position>) -> SubscribeOptions {
    let mut options = SubscribeOptions::new();
    if let Some(since) = since {
        options = options.since(since);
    }
    if wish.latest {
        options = options.latest();
    }
    match (wish.member, wish.hears) {
        (true, true) => options.presence(Role::Participant),
        (true, false) => options.presence(Role::Member),
        (false, true) => options.presence(Role::Watcher),
        (false, false) => options,
    }
}

fn next(every_ms: Option<u64>, random: &mut Random) -> Option<Instant> {
    let every_ms = every_ms?;
    let after = random.between(every_ms / 2, every_ms * 3 / 2);
    Some(Instant::now() + Duration::from_millis(after))
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

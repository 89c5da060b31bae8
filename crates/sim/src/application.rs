//! An application: it uses a client as people do, and writes down what it asked and what it was told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use switchboard_check::event::{Message, Name, Stream, What};
use switchboard_check::payload;
use switchboard_client::{
    Client, End, ErrorCode, Event, Position, Publication, PublishError, Receipt, Refusal, Role, State,
    SubscribeError, SubscribeOptions, Subscription, Transport, Who,
};
use switchboard_proto::payload::Payload;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::book::{Book, place};
use crate::bug::Bug;
use crate::chance::Chance;
use crate::coverage::Mark;
use crate::device::Device;
use crate::plan::{ClientPlan, SubscriptionPlan};

/// Publications of a page that may be unanswered.
const OUTSTANDING_MAX: usize = 30;

/// How far a history is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Everything happens.
    Busy,
    /// Nobody publishes any more, nobody is slow, nobody goes.
    Calm,
    /// It is over.
    Over,
}

/// What an application has beside its plan.
pub struct Parts {
    /// What it runs on.
    pub device: Device,
    /// Where it writes.
    pub book: Book,
    /// What is wrong with its client.
    pub bug: Option<Bug>,
    /// Slow readers are told gaps.
    pub drops: bool,
    /// Its own.
    pub chance: RefCell<Chance>,
    /// How far the history is.
    pub stage: watch::Receiver<Stage>,
    /// All channels, by number.
    pub channels: Rc<[(String, Name)]>,
}

/// See the module.
pub struct Application {
    number: usize,
    plan: ClientPlan,
    parts: Parts,
    next_stream: Cell<u32>,
    /// Pages that were loaded.
    lives: Cell<u32>,
    /// Where it was in each channel when its page was last closed.
    places: RefCell<BTreeMap<usize, Position>>,
}

/// A subscription of this page.
struct Joined {
    stream: Stream,
    is_member: bool,
}

/// A page, from when it is loaded until it is closed.
struct Page {
    client: Client,
    publisher: Name,
    name: String,
    published: Cell<u32>,
    joined: RefCell<Vec<Joined>>,
    /// As which session it stands in its channels.
    session: RefCell<String>,
    closing: watch::Sender<bool>,
}

impl Page {
    /// Waits until it is closed.
    async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        let _closed = closing.wait_for(|closing| *closing).await;
    }
}

impl Application {
    /// One that has not begun.
    pub fn new(number: usize, plan: ClientPlan, parts: Parts) -> Rc<Application> {
        Rc::new(Application {
            number,
            plan,
            parts,
            next_stream: Cell::new(1),
            lives: Cell::new(0),
            places: RefCell::default(),
        })
    }

    fn is_busy(&self) -> bool {
        *self.parts.stage.borrow() == Stage::Busy
    }

    async fn until(&self, stage: Stage) {
        let mut known = self.parts.stage.clone();
        // The sender lives as long as the run.
        let _reached = known.wait_for(|at| *at >= stage).await;
    }

    fn write(&self, what: What) {
        self.parts.book.write(self.number, what);
    }

    fn about(&self, mean: Duration) -> Duration {
        self.parts
            .chance
            .borrow_mut()
            .about(mean)
            .max(Duration::from_millis(1))
    }

    /// From the first page to the last.
    pub async fn run(self: Rc<Application>) {
        self.parts
            .book
            .client(self.number, &format!("client-{}", self.number));
        tokio::time::sleep(self.plan.comes_after).await;
        while *self.parts.stage.borrow() != Stage::Over {
            let Some(page) = self.load().await else {
                return self.write_of_no_connection();
            };
            let page = Rc::new(page);
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn_local(self.clone().watch(page.clone()));
            for subscription in self.plan.subscriptions.clone() {
                tasks.spawn_local(self.clone().follow(page.clone(), subscription));
            }
            if let Some(every) = self.plan.publishes_every {
                tasks.spawn_local(self.clone().publish(page.clone(), every));
            }
            let is_last = match self.plan.reloads_every {
                Some(every) if self.is_busy() => {
                    tokio::select! {
                        biased;
                        () = self.until(Stage::Calm) => true,
                        () = tokio::time::sleep(self.about(every)) => false,
                    }
                }
                _ => true,
            };
            if is_last {
                self.until(Stage::Over).await;
                self.write(What::Ended);
                // What comes while it closes is nobody's concern any more.
                tasks.abort_all();
                page.client.close().await;
                return;
            }
            self.parts.book.marks.see(Mark::ReloadedPage);
            page.closing.send_replace(true);
            page.client.close().await;
            while tasks.join_next().await.is_some() {}
            self.write(What::Disconnected);
            for joined in page.joined.take() {
                self.write(What::Unsubscribed {
                    stream: joined.stream,
                });
            }
        }
    }

    /// It was never let in, though everything had been calm for long enough.
    fn write_of_no_connection(&self) {
        for plan in &self.plan.subscriptions {
            let stream = Stream(self.next_stream.get());
            self.next_stream.set(stream.0 + 1);
            self.write(What::Subscribing {
                stream,
                channel: self.parts.channels[plan.channel].1,
                since: None,
                conflates: plan.latest,
            });
        }
        self.write(What::Ended);
    }

    /// Connects. `None`: it is over before that.
    async fn load(&self) -> Option<Page> {
        let plan = &self.plan;
        let builder = Client::builder("ws://localhost/ws")
            .transports(plan.transports.clone())
            .dialect(plan.dialect)
            .compression(plan.compression)
            .idempotent(plan.idempotent)
            .subscription_buffer(plan.buffer)
            .connect_timeout(Duration::from_secs(3))
            .upgrade_after(Duration::from_secs(4))
            .backoff(Duration::from_millis(100), Duration::from_secs(3))
            .persistent(true)
            .surroundings(self.parts.device.clone());
        let connecting = async {
            loop {
                match builder.connect().await {
                    Ok(client) => return client,
                    Err(_refused) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        };
        let client = tokio::select! {
            biased;
            () = self.until(Stage::Over) => return None,
            client = connecting => client,
        };
        self.lives.set(self.lives.get() + 1);
        let name = format!("client-{}.{}", self.number, self.lives.get());
        let publisher = self.parts.book.name(&name);
        let page = Page {
            session: RefCell::new(client.session().to_string()),
            client,
            publisher,
            name,
            published: Cell::new(0),
            joined: RefCell::default(),
            closing: watch::channel(false).0,
        };
        self.write(What::Connected);
        self.parts
            .book
            .handle_connected(self.number, page.client.transport(), plan.compression);
        Some(page)
    }

    /// Writes down when there is a connection, and who it is then.
    async fn watch(self: Rc<Application>, page: Rc<Page>) {
        let mut state = page.client.state();
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                () = page.closed() => return,
                other = page.client.state_other_than(&state) => {
                    self.note(&page, &other);
                    state = other;
                }
                // Over HTTP it is known only after the first answer.
                () = tokio::time::sleep(Duration::from_millis(500)) => self.stand(&page),
            }
            match state {
                State::Open if !is_open => {
                    is_open = true;
                    self.write(What::Connected);
                    let transport = page.client.transport();
                    self.parts
                        .book
                        .handle_connected(self.number, transport, self.plan.compression);
                    self.stand(&page);
                }
                State::Waiting { .. } | State::Connecting { .. } if is_open => {
                    is_open = false;
                    self.write(What::Disconnected);
                }
                State::Closed(_) => return,
                _ => {}
            }
        }
    }

    fn note(&self, page: &Page, state: &State) {
        let transport = page.client.transport();
        self.parts.book.note(|| match state {
            State::Waiting { attempt, why, .. } => {
                format!("client-{}: {transport:?}, waits, {attempt}: {why:?}", self.number)
            }
            state => format!("client-{}: {transport:?}, {state:?}", self.number),
        });
    }

    fn member(&self, page: &Page) -> Name {
        self.parts
            .book
            .name(&format!("{}/{}", page.client.user(), page.client.session()))
    }

    /// Somebody who had another name before stands in its channels under this one.
    fn stand(&self, page: &Page) {
        let session = page.client.session().to_string();
        if session.is_empty() || *page.session.borrow() == session {
            return;
        }
        *page.session.borrow_mut() = session;
        let member = self.member(page);
        for joined in page.joined.borrow().iter().filter(|joined| joined.is_member) {
            self.write(What::Stands {
                stream: joined.stream,
                member,
            });
        }
    }

    /// Is in a channel, as long as the page is there.
    async fn follow(self: Rc<Application>, page: Rc<Page>, plan: SubscriptionPlan) {
        loop {
            let (subscription, stream) = tokio::select! {
                biased;
                () = page.closed() => return,
                joined = self.join(&page, &plan) => match joined {
                    Some(joined) => joined,
                    None => {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        continue;
                    }
                },
            };
            let stays = match self.plan.rejoins_every {
                Some(every) if self.is_busy() => Some(Instant::now() + self.about(every)),
                _ => None,
            };
            let is_over = self.read(&page, &plan, subscription, stream, stays).await;
            if is_over {
                return;
            }
            page.joined.borrow_mut().retain(|joined| joined.stream != stream);
        }
    }

    async fn join(&self, page: &Page, plan: &SubscriptionPlan) -> Option<(Subscription, Stream)> {
        let (channel, name) = &self.parts.channels[plan.channel];
        let stream = Stream(self.next_stream.get());
        self.next_stream.set(stream.0 + 1);
        let since = self.places.borrow().get(&plan.channel).copied();
        let mut options = SubscribeOptions::new();
        if let Some(since) = since {
            options = options.since(since);
        }
        if plan.latest {
            options = options.latest();
        }
        if let Some(role) = plan.role {
            options = options.presence(role);
        }
        self.write(What::Subscribing {
            stream,
            channel: *name,
            since: since.as_ref().map(place),
            conflates: plan.latest,
        });
        if matches!(plan.role, Some(Role::Watcher | Role::Participant)) {
            self.write(What::Hears { stream });
        }
        let is_member = matches!(plan.role, Some(Role::Member | Role::Participant));
        // From here on the page has it, also if it is closed before the answer.
        page.joined.borrow_mut().push(Joined {
            stream,
            is_member: false,
        });
        match page.client.subscribe_with(channel, options).await {
            Ok(subscription) => {
                // A poll is told nothing but gaps: its client takes the first for what the log has forgotten, and where slow readers are told
                // gaps it may be one of those.
                let is_said = !self.parts.drops || page.client.transport() != Transport::Poll;
                self.write(What::Subscribed {
                    stream,
                    place: place(&subscription.position()),
                    recovered: subscription.recovered().filter(|_| is_said),
                });
                if is_member {
                    let mut joined = page.joined.borrow_mut();
                    joined
                        .iter_mut()
                        .filter(|joined| joined.stream == stream)
                        .for_each(|joined| joined.is_member = true);
                    drop(joined);
                    *page.session.borrow_mut() = page.client.session().to_string();
                    let member = self.member(page);
                    self.write(What::Stands { stream, member });
                }
                Some((subscription, stream))
            }
            Err(error) => {
                self.parts
                    .book
                    .note(|| format!("client-{}: not subscribed to {channel}: {error}", self.number));
                match &error {
                    SubscribeError::Refused(refusal) => self.mind(refusal),
                    SubscribeError::Ended(end) => self.mind_end(end),
                    SubscribeError::BadChannel(_) => self.trouble(&error),
                }
                page.joined.borrow_mut().retain(|joined| joined.stream != stream);
                self.write(What::Closed { stream });
                None
            }
        }
    }

    /// Takes what comes. Whether the page is closed.
    async fn read(
        &self,
        page: &Page,
        plan: &SubscriptionPlan,
        mut subscription: Subscription,
        stream: Stream,
        stays: Option<Instant>,
    ) -> bool {
        let mut last: Option<What> = None;
        let leaves = async {
            match stays {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let mut leaves = std::pin::pin!(leaves);
        loop {
            let event = tokio::select! {
                biased;
                () = page.closed() => return true,
                () = &mut leaves => break,
                event = subscription.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    for what in self.told(stream, &event) {
                        self.hear(what, &mut last);
                    }
                    if let Some(position) = event.position() {
                        self.places.borrow_mut().insert(plan.channel, position);
                    }
                }
                Some(Err(End::Unsubscribed(refusal))) => {
                    self.mind(&refusal);
                    self.write(What::Closed { stream });
                    return false;
                }
                None => {
                    self.write(What::Closed { stream });
                    return false;
                }
                // The page has lost its client for good; it is told so when that is looked at.
                Some(Err(end)) => {
                    self.mind_end(&end);
                    page.closed().await;
                    return true;
                }
            }
            if self.is_busy() && !self.plan.busy.is_zero() {
                tokio::time::sleep(self.about(self.plan.busy)).await;
            }
        }
        drop(subscription);
        self.write(What::Unsubscribed { stream });
        if self.parts.bug == Some(Bug::HeardAfterUnsubscribe)
            && let Some(what) = last
        {
            self.write(what);
        }
        false
    }

    /// Writes down what it is told, unless its client has a bug.
    fn hear(&self, what: What, last: &mut Option<What>) {
        match (self.parts.bug, what) {
            (Some(Bug::GapSwallowed), What::Gap { .. }) | (Some(Bug::ResetSwallowed), What::Reset { .. }) => {
                return;
            }
            (Some(Bug::Repeated), What::Received { .. }) => {
                if self.parts.book.is_resuming()
                    && let Some(before) = last
                {
                    self.write(*before);
                }
            }
            _ => {}
        }
        if matches!(what, What::Received { .. }) {
            *last = Some(what);
        }
        self.write(what);
    }

    fn told(&self, stream: Stream, event: &Event) -> Vec<What> {
        match event {
            Event::Message(message) => {
                let at = place(&message.position);
                let parsed = message
                    .payload
                    .as_str()
                    .and_then(|text| payload::Payload::parse(text).ok());
                let Some(said) = parsed else {
                    return vec![What::Altered { stream, place: at }];
                };
                let publisher = self.parts.book.name(&said.publisher);
                vec![What::Received {
                    stream,
                    place: at,
                    message: Message {
                        publisher,
                        number: said.number as u32,
                    },
                    channel: self.parts.book.name(&said.channel),
                }]
            }
            Event::Gap {
                from,
                position,
                conflated,
                ..
            } => vec![What::Gap {
                stream,
                from: *from,
                place: place(position),
                conflated: *conflated,
            }],
            Event::Reset { position } => vec![What::Reset {
                stream,
                place: place(position),
            }],
            Event::Presence { counts, who } => self.told_of(stream, counts.members, who),
        }
    }

    fn told_of(&self, stream: Stream, count: u32, who: &Who) -> Vec<What> {
        let name = |user: &str, session: &str| self.parts.book.name(&format!("{user}/{session}"));
        match who {
            Who::All(members) => {
                let list = What::Members {
                    stream,
                    count,
                    complete: true,
                };
                let each = members.iter().map(|member| What::Member {
                    stream,
                    member: name(&member.key.user, &member.key.session),
                });
                std::iter::once(list).chain(each).collect()
            }
            Who::Changed { joined, left } => {
                let joined = joined.iter().map(|member| What::Joined {
                    stream,
                    member: name(&member.key.user, &member.key.session),
                });
                let left = left.iter().map(|key| What::Left {
                    stream,
                    member: name(&key.user, &key.session),
                });
                let nobody = (self.parts.bug == Some(Bug::MemberInvented)).then(|| name("nobody", "s_0"));
                let invented = nobody
                    .into_iter()
                    .flat_map(|member| [What::Joined { stream, member }, What::Left { stream, member }]);
                joined.chain(left).chain(invented).collect()
            }
            Who::Unlisted => vec![What::Members {
                stream,
                count,
                complete: false,
            }],
        }
    }

    /// Publishes, as long as everyone is busy.
    async fn publish(self: Rc<Application>, page: Rc<Page>, every: Duration) {
        let mut receipts = tokio::task::JoinSet::new();
        while self.is_busy() {
            tokio::select! {
                biased;
                () = page.closed() => break,
                () = tokio::time::sleep(self.about(every)) => {}
            }
            while receipts.try_join_next().is_some() {}
            for _ in 0..self.plan.burst {
                if receipts.len() >= OUTSTANDING_MAX {
                    break;
                }
                let Some((message, receipt)) = self.say(&page).await else {
                    continue;
                };
                let this = self.clone();
                receipts.spawn_local(async move {
                    let answer = receipt.await;
                    this.answered(message, answer);
                });
            }
        }
        while receipts.join_next().await.is_some() {}
    }

    /// Says one thing.
    async fn say(&self, page: &Page) -> Option<(Message, Receipt)> {
        let (channel, conflate, filling) = {
            let mut chance = self.parts.chance.borrow_mut();
            let channel = chance.below(self.parts.channels.len());
            let conflate = chance
                .percent(self.plan.conflates)
                .then(|| chance.one_of(["a", "b", "c"]));
            (channel, conflate, chance.below(self.plan.filling + 1))
        };
        let number = page.published.get() + 1;
        page.published.set(number);
        let message = Message {
            publisher: page.publisher,
            number,
        };
        let (channel, name) = &self.parts.channels[channel];
        let said = payload::Payload::new(&page.name, u64::from(number), channel, "x".repeat(filling));
        let said = Payload::json(&said.json()).ok()?;
        let mut publication = Publication::from(said);
        if let Some(key) = conflate {
            publication = publication.conflate(key).ok()?;
        }
        self.write(What::Invoked {
            message,
            channel: *name,
            keyed: self.plan.idempotent,
            conflate: conflate.map(|key| self.parts.book.name(key)),
        });
        match page.client.send(channel, publication).await {
            Ok(receipt) => Some((message, receipt)),
            Err(error) => {
                self.answered(message, Err(error));
                None
            }
        }
    }

    /// A server that cannot now says when to come back. What it refuses for good is not wrong: these clients do nothing wrong.
    fn mind(&self, refusal: &Refusal) {
        let is_for_now = refusal.is_retryable() && refusal.error_code() != Some(ErrorCode::Internal);
        if !is_for_now {
            self.trouble(refusal);
        }
    }

    /// Connections are lost, and the server closes them; nobody alters what comes by them.
    fn mind_end(&self, end: &End) {
        match end {
            End::ClosedHere | End::Lost(_) | End::Silent => {}
            End::ClosedByServer { error, .. } => error.iter().for_each(|refusal| self.mind(refusal)),
            End::Unsubscribed(refusal) => self.mind(refusal),
            End::Misbehaved(_) | End::Refused(..) | End::RuntimeStopped => self.trouble(end),
        }
    }

    fn trouble(&self, told: &dyn Display) {
        let now = Duration::from_micros(self.parts.book.now());
        let number = self.number;
        self.parts
            .book
            .trouble(format!("client-{number} was told, at {now:.6?}: {told}"));
    }

    fn answered(&self, message: Message, answer: Result<Position, PublishError>) {
        match &answer {
            Ok(_) => {}
            Err(PublishError::Refused(refusal)) => self.mind(refusal),
            Err(PublishError::NotSent(end) | PublishError::Unanswered(end)) => self.mind_end(end),
            Err(error) => self.trouble(error),
        }
        self.write(match answer {
            Ok(position) => What::Acknowledged {
                message,
                place: place(&position),
            },
            Err(PublishError::Refused(refusal)) if refusal.code == ErrorCode::Unavailable.as_str() => {
                What::Unknown { message }
            }
            Err(PublishError::Unanswered(_)) => What::Unknown { message },
            Err(_) => What::Refused { message },
        });
    }
}

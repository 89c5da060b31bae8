//! The task that owns the socket of a client, and connects again when it is lost.
//!
//! ```text
//!  Client, Subscription ── requests (bounded) ──► Driver ── Session ──► socket ── lost ──► wait ──► connect again
//!        ◄── answers (one each) ── waiting ◄──┐     │                    ▲                              │
//!        ◄── events (bounded, each) ── channels ◄───┴── notices ◄────────┘ ◄────────────────────────────┘
//! ```
//!
//! It sleeps until one of [`Wake`] happens, does what follows from it, and writes. What it holds is bounded: it takes no request
//! while [`WAITING_MAX`] answers are outstanding or [`OUTPUT_BYTES_MAX`] wait for the socket, and reads nothing while
//! an event finds no room.
//!
//! What was asked and not answered when a connection is lost is said again on the next one, in the same order: a publication only
//! if it has an idempotency key, so that it is not published twice. Channels are subscribed to again from where they were. A publication that
//! the server refuses for now is said again later, with everything behind it ([`Publishing`]).
//!
//! Here stand the connections and what is asked; what the server says to it is in [`notices`].

mod notices;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Command;
use switchboard_proto::session::backoff::Backoff;
use switchboard_proto::time::Time;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::builder::Builder;
use crate::channels::{Channels, Delivery, Say};
use crate::error::{ConnectError, End, Farewell};
use crate::link::Link;
use crate::open::{self, Identity, Opened};
use crate::publishing::{Publishing, WINDOW_MAX};
use crate::replacement::{Replacement, Why};
use crate::request::{Keys, Request, Unanswered, Waiting};
use crate::state::{State, Status};
use crate::subscription::Event;
use crate::token;
use crate::transport::Transport;

/// Requests that wait for the driver. Beyond: the caller waits.
pub(crate) const REQUESTS_MAX: usize = 64;
/// Commands that wait for the server's answer, or for a connection. Beyond: requests wait.
const WAITING_MAX: usize = 1_024;
/// Bytes that wait for the socket. Beyond: requests wait. One command more can be in it.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Reads in a row before everything else gets its turn.
const READS_PER_TURN: usize = 8;
/// What our last frame and the server's end of file may take, after the end is known.
const LINGER: Duration = Duration::from_secs(1);
/// A connection that has lasted for this long ends a series of failures.
const LASTING: Duration = Duration::from_secs(10);
/// A server that wants to be left alone for longer is asked again all the same.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// After so many attempts in a row that gave no connection other transports are tried.
const DOUBT_AFTER: u32 = 3;

/// How a handle that has no request to make gets the driver to look.
#[derive(Default)]
pub(crate) struct Attention {
    closing: AtomicBool,
    notify: Notify,
}

impl Attention {
    /// A subscription was dropped.
    pub(crate) fn call(&self) {
        self.notify.notify_one();
    }

    /// The connection is to be closed.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// Time for the machine.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn instant(self, time: Time) -> Instant {
        /// `Instant` cannot say every `Time`; nobody waits longer than this.
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.start + time.since(Time::ZERO).min(FAR)
    }
}

/// See the module.
pub(crate) struct Driver {
    options: Builder,
    clock: Clock,
    link: Link,
    /// What is tried first: its place among the transports.
    best: usize,
    /// Attempts in a row that gave no connection.
    failures: u32,
    replacement: Replacement,
    /// Makes the next connection the same session.
    resume: Option<String>,
    /// Whether the link is of use. While it is not, nothing is said; what is asked waits.
    connected: bool,
    requests: mpsc::Receiver<Request>,
    /// By id, so in the order in which they were asked.
    waiting: BTreeMap<u64, Unanswered>,
    /// The id of the next command.
    next_id: u64,
    keys: Keys,
    /// Which of the publications in `waiting` are to be said, and when. Without reconnecting they are said at once.
    publishing: Publishing,
    channels: Channels,
    /// An event that finds no room; nothing is read until it does.
    blocked: Option<(mpsc::Sender<Event>, Event)>,
    stage: Stage,
    /// What the server said before it closed.
    farewell: Farewell,
    attention: Arc<Attention>,
    status: watch::Sender<Status>,
}

/// How far we are on the way to our own end.
///
/// ```text
///  Open ── close() or the last handle dropped ──► Draining ── all is said and answered, or `until` ──► Closing
/// ```
enum Stage {
    Open,
    /// No further requests; what was asked before is still said, and answers are awaited.
    Draining {
        until: Time,
        drained: bool,
    },
    /// Our Close has been said.
    Closing,
}

/// What the driver can be woken by.
enum Wake {
    Request(Option<Request>),
    /// There is something to read, or room for what waits.
    Ready,
    /// The event that found no room finds some now, or nobody wants it any more.
    Room,
    Attention,
    /// Another connection is to be opened beside this one.
    Replace,
    Replaced(Result<Opened, ConnectError>),
    Due,
}

impl Driver {
    pub(crate) fn new(
        options: Builder,
        clock: Clock,
        opened: Opened,
        requests: mpsc::Receiver<Request>,
        attention: Arc<Attention>,
        status: watch::Sender<Status>,
    ) -> Driver {
        let mut driver = Driver {
            channels: Channels::new(options.subscription_buffer, attention.clone()),
            keys: Keys::new(&*options.surroundings),
            options,
            clock,
            link: opened.link,
            best: 0,
            failures: 0,
            replacement: Replacement::default(),
            resume: opened.resume,
            connected: true,
            requests,
            waiting: BTreeMap::new(),
            next_id: open::CONNECT_ID + 1,
            publishing: Publishing::new(),
            blocked: None,
            stage: Stage::Open,
            farewell: Farewell::default(),
            attention,
            status,
        };
        driver.handle_opened(opened.identity, opened.token.as_deref());
        driver
    }

    /// Drives one connection after another to the end of the last.
    pub(crate) async fn run(mut self) {
        let mut backoff = self.options.backoff;
        let end = loop {
            let opened = Instant::now();
            let end = self.converse().await;
            if self.options.reconnect {
                self.refuse_too_big(&end);
            }
            if opened.elapsed() >= LASTING {
                backoff.reset();
            }
            // One that was good may have expired on the way.
            let other_token = self.options.token.is_source() && end.is_unauthorized();
            let goes_on = end.is_transient() || other_token;
            if !self.options.reconnect || !matches!(self.stage, Stage::Open) || !goes_on {
                break end;
            }
            self.handle_disconnected(&end).await;
            if let Err(end) = self.connect_again(end, &mut backoff).await {
                break end;
            }
        };
        self.finish(end).await;
    }

    /// One connection, to its end.
    async fn converse(&mut self) -> End {
        // What came behind the welcome.
        self.handle_input();
        loop {
            self.publish(u64::MAX);
            self.close_when_drained();
            if !self.link.flush() {
                self.read_rest();
            }
            if let Some(end) = self.ended() {
                return end;
            }
            match self.wake().await {
                Wake::Request(Some(request)) => self.handle_requests(request),
                Wake::Request(None) => self.handle_drained(),
                Wake::Ready => self.read(),
                Wake::Room => self.handle_room(),
                Wake::Attention => self.handle_attention(),
                Wake::Replace => self.replace(),
                Wake::Replaced(opened) => self.handle_replaced(opened).await,
                Wake::Due => self.handle_due(),
            }
        }
    }

    /// The connection is of no use any more. Those are told who cannot be helped by another one.
    async fn handle_disconnected(&mut self, end: &End) {
        self.connected = false;
        self.replacement.handle_disconnected();
        self.link.discard().await;
        let unanswered = std::mem::take(&mut self.waiting);
        for (id, mut unanswered) in unanswered {
            let is_lost = match &unanswered.command {
                // Told by the channels.
                Command::Subscribe { .. } | Command::Unsubscribe { .. } => true,
                // It could be published twice.
                Command::Publish { key, .. } => unanswered.sent && key.is_none(),
                _ => false,
            };
            if is_lost {
                unanswered.end(end.clone());
                continue;
            }
            unanswered.doubtful |= unanswered.sent;
            unanswered.sent = false;
            self.waiting.insert(id, unanswered);
        }
        if self.options.reconnect {
            let publications = self.waiting.iter().filter(|(_, one)| one.is_publication());
            self.publishing
                .handle_disconnected(publications.map(|(id, _)| *id));
        }
        self.channels.handle_disconnected();
    }

    /// Waits and connects, again and again, until there is a connection or none is wanted any more.
    async fn connect_again(&mut self, end: End, backoff: &mut Backoff) -> Result<(), End> {
        let mut why = end.to_string();
        // A server that stops spreads its clients by itself.
        let mut advice = end.retry_after();
        loop {
            let attempt = backoff.attempt() + 1;
            let wait = backoff.next_wait(self.options.random_u32());
            let wait = advice.map_or(wait, |advice| advice.min(RETRY_AFTER_MAX));
            let until = Instant::now() + wait;
            self.tell(State::Waiting { attempt, until, why });
            self.wait(tokio::time::sleep_until(until)).await?;
            self.tell(State::Connecting { attempt });
            let options = self.options.clone();
            let (transport, others) = self.next_transports(&options);
            let (resume, wanted) = (self.resume.clone(), self.channels.wanted());
            let opening = open::open(&options, (transport, others), resume, &wanted, self.clock);
            match self.wait(opening).await? {
                Ok(opened) => {
                    self.handle_connected(opened);
                    return Ok(());
                }
                Err(error) if error.is_transient() => {
                    self.failures = self.failures.saturating_add(1);
                    if self.failures >= DOUBT_AFTER {
                        self.best = 0;
                    }
                    // What a busy server wants is a least time, so that its clients do not come back all at once.
                    advice = error
                        .retry_after()
                        .map(|advice| advice + backoff.next_wait(self.options.random_u32()));
                    why = error.to_string();
                }
                Err(error) => return Err(End::Refused(error.fault(), error.to_string())),
            }
        }
    }

    /// Waits for something while there is no connection, and does what can be done without. `Err`: this program has closed.
    async fn wait<T>(&mut self, future: impl Future<Output = T>) -> Result<T, End> {
        let mut future = std::pin::pin!(future);
        loop {
            let takes_requests = self.takes_requests();
            let blocked = &self.blocked;
            let room = room(blocked);
            tokio::select! {
                biased;
                done = &mut future => return Ok(done),
                request = self.requests.recv(), if takes_requests => match request {
                    Some(request) => self.handle_requests(request),
                    None => return Err(End::ClosedHere),
                },
                () = room => self.handle_room(),
                () = self.attention.notify.notified() => {
                    if self.attention.closing.load(Ordering::Acquire) {
                        return Err(End::ClosedHere);
                    }
                    let now = self.clock.now();
                    // Nobody has to be told.
                    let _unsaid = self.channels.leave_dropped(now);
                }
            }
        }
    }

    /// What worked last; where it has failed again and again, what comes behind it, too.
    fn next_transports<'a>(&self, options: &'a Builder) -> (Transport, &'a [Transport]) {
        let (transport, others) = (
            options.transports[self.best],
            &options.transports[self.best + 1..],
        );
        match self.failures + 1 >= DOUBT_AFTER {
            true => (transport, others),
            false => (transport, &[]),
        }
    }

    /// There is a connection again: everything is said again that is not answered.
    fn handle_connected(&mut self, opened: Opened) {
        self.connected = true;
        self.link = opened.link;
        self.farewell = Farewell::default();
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        for id in ids {
            match self.waiting.get_mut(&id) {
                Some(unanswered) if self.options.reconnect && unanswered.is_publication() => {
                    self.publish(id);
                }
                Some(unanswered) => unanswered.sent = self.link.command(&unanswered.command),
                None => {}
            }
        }
        if self.blocked.is_some() {
            self.link.handle_paused(self.clock.now());
        }
        let says = self.channels.resume();
        self.say(says);
        self.resume = opened.resume.or(self.resume.take());
        self.handle_opened(opened.identity, opened.token.as_deref());
    }

    /// What a connection brings, beside itself.
    fn handle_opened(&mut self, identity: Option<Identity>, token: Option<&str>) {
        let transport = self.link.transport();
        let transports = &self.options.transports;
        self.best = transports.iter().position(|one| *one == transport).unwrap_or(0);
        self.failures = 0;
        let token = token.filter(|_| self.options.token.is_source());
        let renewed = token.and_then(token::validity).and_then(token::renewal);
        self.replacement.handle_opened(self.upgrade_after(), renewed);
        self.status.send_modify(|status| {
            if let Some(Identity { session, user }) = identity {
                (status.session, status.user) = (session.into(), user.into());
            }
            status.transport = transport;
            status.state = State::Open;
        });
    }

    /// What is waited for a better transport, where there is one.
    fn upgrade_after(&self) -> Option<Duration> {
        (self.best > 0).then_some(self.options.upgrade_after)
    }

    /// Opens another connection beside this one.
    fn replace(&mut self) {
        let transport = match self.replacement.handle_due() {
            Why::BetterTransport => self.options.transports[0],
            Why::NewerToken => self.link.transport(),
        };
        let (options, resume) = (self.options.clone(), self.resume.clone());
        let (wanted, clock) = (self.channels.wanted(), self.clock);
        self.replacement.begin(Box::pin(async move {
            open::open(&options, (transport, &[]), resume, &wanted, clock).await
        }));
    }

    async fn handle_replaced(&mut self, opened: Result<Opened, ConnectError>) {
        match opened {
            Ok(opened) => {
                self.handle_disconnected(&End::Lost(io::ErrorKind::ConnectionReset))
                    .await;
                self.handle_connected(opened);
            }
            Err(_) => self.replacement.handle_failed(self.upgrade_after()),
        }
    }

    fn tell(&self, state: State) {
        self.status.send_modify(|status| status.state = state);
    }

    async fn wake(&mut self) -> Wake {
        let takes_requests = self.takes_requests();
        let deadline = self.deadline();
        let blocked = &self.blocked;
        let room = room(blocked);
        // What is on its way without a key would be lost with this connection.
        let is_bound = self.replacement.is_opening() && self.waiting.values().any(Unanswered::is_bound);
        let replace_at = self.replacement.due_at();
        let is_open = matches!(self.stage, Stage::Open);
        // In the order of urgency: each is over when it is done, and requests when enough are unanswered, so that the network, which may always
        // have more, is not kept waiting, and keeps nobody waiting.
        tokio::select! {
            biased;
            () = until(deadline) => Wake::Due,
            () = self.attention.notify.notified() => Wake::Attention,
            () = room => Wake::Room,
            opened = self.replacement.opened(), if !is_bound => Wake::Replaced(opened),
            () = until(replace_at), if is_open => Wake::Replace,
            request = self.requests.recv(), if takes_requests => Wake::Request(request),
            () = self.link.ready(blocked.is_none()) => Wake::Ready,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let drained = match self.stage {
            Stage::Draining { until, .. } => Some(until),
            Stage::Open | Stage::Closing => None,
        };
        let deadlines = [
            self.link.deadline(),
            self.channels.deadline(),
            self.publishing.deadline(),
            drained,
        ];
        let first = deadlines.into_iter().flatten().min()?;
        Some(self.clock.instant(first))
    }

    fn takes_requests(&mut self) -> bool {
        let asked_all = matches!(self.stage, Stage::Draining { drained: true, .. } | Stage::Closing);
        !asked_all && self.waiting.len() < WAITING_MAX && self.link.unsent_bytes() < OUTPUT_BYTES_MAX
    }

    /// One request, and those behind it: what is asked together leaves together.
    fn handle_requests(&mut self, request: Request) {
        self.handle_request(request);
        while self.takes_requests()
            && let Ok(request) = self.requests.try_recv()
        {
            self.handle_request(request);
        }
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Subscribe {
                channel,
                options,
                reply,
            } => {
                let say = self.channels.subscribe(channel, options, reply);
                // Without a connection it is said with all others when there is one.
                if self.connected {
                    self.say(say);
                }
            }
            Request::Publish {
                channel,
                payload,
                key,
                conflate,
                reply,
            } => {
                let id = self.id();
                let key = match self.options.idempotent && self.options.reconnect {
                    true => key.or_else(|| self.keys.next()),
                    false => key,
                };
                let command = Command::Publish {
                    id: Some(id),
                    channel,
                    payload,
                    key,
                    conflate,
                };
                let who = Waiting::Publish(reply);
                if !self.options.reconnect {
                    return self.ask(id, command, who);
                }
                self.waiting.insert(id, Unanswered::new(command, who, false));
                self.publishing.handle_asked(id);
                self.publish(id);
            }
            Request::History {
                channel,
                range,
                limit,
                reply,
            } => {
                let id = self.id();
                let command = Command::History {
                    id: Some(id),
                    channel,
                    range,
                    limit,
                };
                self.ask(id, command, Waiting::History(reply));
            }
            Request::Members {
                channel,
                which,
                limit,
                reply,
            } => {
                let id = self.id();
                let command = Command::Members {
                    id: Some(id),
                    channel,
                    which,
                    limit,
                };
                self.ask(id, command, Waiting::Members(reply));
            }
            Request::Ping { reply } => {
                let id = self.id();
                self.ask(id, Command::Ping { id: Some(id) }, Waiting::Ping(reply));
            }
        }
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn ask(&mut self, id: u64, command: Command, who: Waiting) {
        // Unsaid, because the connection is ending, it is said on the next one, or answered by the end.
        let sent = self.connected && self.link.command(&command);
        self.waiting.insert(id, Unanswered::new(command, who, sent));
    }

    /// Says the publications that may be said now, none behind `last`.
    fn publish(&mut self, last: u64) {
        let window_max = match self.link.transport() {
            Transport::WebSocket => WINDOW_MAX,
            // Each is a request of its own there, and nothing keeps the next one from being taken.
            Transport::EventStream | Transport::Poll => 1,
        };
        let now = self.clock.now();
        while self.connected
            && let Some(id) = self.publishing.poll_next(now, window_max)
            && id <= last
            && self.link.unsent_bytes() < OUTPUT_BYTES_MAX
            && let Some(unanswered) = self.waiting.get_mut(&id)
            && self.link.command(&unanswered.command)
        {
            unanswered.sent = true;
            self.publishing.handle_said(id);
        }
    }

    fn say(&mut self, says: impl IntoIterator<Item = Say>) {
        for say in says {
            let id = self.id();
            let (command, waiting) = match say {
                Say::Subscribe(channel, options) => {
                    let command = Command::Subscribe {
                        id: Some(id),
                        channel: channel.clone(),
                        since: options.since,
                        latest: options.latest,
                        presence: options.attendance,
                    };
                    (command, Waiting::Subscribe(channel))
                }
                Say::Unsubscribe(channel) => {
                    let command = Command::Unsubscribe {
                        id: Some(id),
                        channel: channel.clone(),
                    };
                    (command, Waiting::Unsubscribe(channel))
                }
            };
            self.ask(id, command, waiting);
        }
    }

    fn read(&mut self) {
        for _ in 0..READS_PER_TURN {
            if self.blocked.is_some() || self.link.has_ended() || !self.link.read() {
                return;
            }
            self.handle_input();
        }
    }

    /// All that has been read, or as much as finds room.
    fn handle_input(&mut self) {
        while self.blocked.is_none() {
            let now = self.clock.now();
            let Some(notice) = self.link.poll_notice(now) else {
                return;
            };
            self.handle_notice(now, notice);
        }
    }

    fn deliver(&mut self, now: Time, channel: &ChannelName, event: Event) {
        match self.channels.deliver(channel, event) {
            Delivery::Done => {}
            Delivery::Full(events, event) if matches!(self.stage, Stage::Open) => {
                self.blocked = Some((events, event));
                self.link.handle_paused(now);
            }
            // Whoever closes does not want to wait for whoever does not read.
            Delivery::Full(events, _) => self.channels.cut(&events),
        }
    }

    fn handle_room(&mut self) {
        let Some((events, event)) = self.blocked.take() else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
            self.blocked = Some((events, event));
            return;
        }
        self.handle_input();
        if self.blocked.is_none() {
            self.link.handle_resumed(self.clock.now());
        }
    }

    fn handle_attention(&mut self) {
        let now = self.clock.now();
        if self.attention.closing.load(Ordering::Acquire) && matches!(self.stage, Stage::Open) {
            self.requests.close();
            self.stage = Stage::Draining {
                until: now + self.options.settings.close_handshake,
                drained: false,
            };
            if let Some((events, _)) = self.blocked.take() {
                self.channels.cut(&events);
                self.link.handle_resumed(now);
                self.handle_input();
            }
        }
        self.leave_dropped(now);
    }

    fn handle_drained(&mut self) {
        if let Stage::Draining { drained, .. } = &mut self.stage {
            *drained = true;
        } else {
            // Every handle is gone, as `Attention` will say: one of them is in each sender of requests.
            self.attention.close();
            self.handle_attention();
        }
    }

    fn close_when_drained(&mut self) {
        let now = self.clock.now();
        if let Stage::Draining { until, drained } = self.stage
            && (drained && self.waiting.is_empty() || now >= until)
        {
            self.link.close(now);
            self.stage = Stage::Closing;
        }
    }

    fn handle_due(&mut self) {
        // A sign of life may be waiting in the socket, if this task was kept from running.
        self.read();
        let now = self.clock.now();
        self.link.handle_timeout(now);
        self.leave_dropped(now);
    }

    fn leave_dropped(&mut self, now: Time) {
        let says = self.channels.leave_dropped(now);
        self.say(says);
    }

    /// The socket takes nothing more; why may stand in what the server had sent before.
    fn read_rest(&mut self) {
        while self.blocked.is_none() && !self.link.has_ended() && self.link.read() {
            self.handle_input();
        }
        self.link.handle_eof();
    }

    fn ended(&self) -> Option<End> {
        Some(match (&self.stage, self.link.end(&self.farewell)?) {
            (Stage::Closing, End::ClosedByServer { .. } | End::Lost(_)) => End::ClosedHere,
            (_, end) => end,
        })
    }

    /// Tells everyone, then closes the socket.
    async fn finish(mut self, end: End) {
        // First: whoever finds a stream or an answer gone looks here why.
        self.tell(State::Closed(end.clone()));
        for unanswered in self.waiting.into_values() {
            unanswered.end(end.clone());
        }
        self.channels.end(&end);
        self.blocked = None;
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            request.end(end.clone());
        }
        if self.connected {
            let _slow_peers_go_without = tokio::time::timeout(LINGER, self.link.linger()).await;
        }
    }
}

/// When an event that found no room finds some.
async fn room(blocked: &Option<(mpsc::Sender<Event>, Event)>) {
    match blocked {
        // The permit is given back, and found again by `try_send`: nobody else sends here.
        Some((events, _)) => drop(events.reserve().await),
        None => std::future::pending().await,
    }
}

/// At that moment, if there is one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

//! Follows channels over one connection after another.
//!
//! ```text
//!  connect, subscribe ──► live ── the connection ends ──► wait (backoff) ──► connect, subscribe ──► read what was missed ──► live
//! ```

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::task::Poll;
use std::time::Duration;

use switchboard_client::{
    Client, ConnectError, End, Event as ClientEvent, Fault, History, HistoryError, Message as ClientMessage,
    SubscribeError, Subscription,
};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::limits::HISTORY_MESSAGES_MAX;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::session::backoff::Backoff;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Event, ListenArgs, Message};
use crate::cli::connection::{self, CLOSE_PATIENCE};
use crate::cli::{Failure, exit};

/// Events on their way to who shows them.
const EVENTS_MAX: usize = 64;
/// A connection that lasted this long ends a series of failures.
const LASTING: Duration = Duration::from_secs(10);
/// A server that wants to be left alone for longer is asked again all the same.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// When a refused `history` is asked again, if the server does not say.
const HISTORY_RETRY: Duration = Duration::from_millis(500);

/// Hands over what comes to the channels, over as many connections as it takes, until `each` says that it is enough or Ctrl-C is
/// pressed. The first connection has to succeed.
pub(super) fn follow(args: &ListenArgs, each: impl FnMut(&Event) -> io::Result<bool>) -> Result<(), Failure> {
    let runtime = connection::runtime()?;
    let (events, arrived) = mpsc::channel(EVENTS_MAX);
    std::thread::scope(|scope| {
        let following = scope.spawn(move || runtime.block_on(Follower::new(args, events).run()));
        let shown = show(arrived, each);
        let followed = match following.join() {
            Ok(followed) => followed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        shown?;
        followed
    })
}

/// Its end is the follower's: that sees that nobody takes events any more.
fn show(
    mut arrived: mpsc::Receiver<Event>,
    mut each: impl FnMut(&Event) -> io::Result<bool>,
) -> io::Result<()> {
    while let Some(event) = arrived.blocking_recv() {
        if !each(&event)? {
            break;
        }
    }
    Ok(())
}

struct Follower {
    url: String,
    channels: Vec<ChannelName>,
    /// Up to where each channel was handed over.
    places: HashMap<ChannelName, Position>,
    events: mpsc::Sender<Event>,
    /// The connection, while there is one.
    client: Option<Client>,
}

/// Why following ends.
enum Stop {
    /// Nobody wants more.
    Enough,
    Failed(Failure),
}

/// Why there is no connection.
enum Broken {
    Stop(Stop),
    /// Another attempt may succeed, not before the wait.
    Lost {
        why: String,
        wait: Option<Duration>,
    },
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Broken {
        Broken::Stop(stop)
    }
}

impl From<End> for Broken {
    fn from(end: End) -> Broken {
        Broken::Lost {
            why: end.to_string(),
            wait: end.retry_after(),
        }
    }
}

impl From<ConnectError> for Broken {
    fn from(error: ConnectError) -> Broken {
        match error.fault() {
            Fault::Application => Broken::Stop(Stop::Failed(Failure::Failed(connection::said(&error)))),
            Fault::Server | Fault::Network => Broken::Lost {
                why: connection::said(&error),
                wait: error.retry_after(),
            },
        }
    }
}

impl Follower {
    fn new(args: &ListenArgs, events: mpsc::Sender<Event>) -> Follower {
        let mut channels = Vec::new();
        for channel in &args.channels {
            if !channels.contains(channel) {
                channels.push(channel.clone());
            }
        }
        Follower {
            url: args.url.clone(),
            channels,
            places: HashMap::new(),
            events,
            client: None,
        }
    }

    async fn run(mut self) -> Result<(), Failure> {
        let closed = self.events.clone();
        let stop = tokio::select! {
            stop = self.follow() => stop,
            () = closed.closed() => Stop::Enough,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) => {
                    leave_soon();
                    Stop::Enough
                }
                Err(error) => Stop::Failed(error.into()),
            },
        };
        if let Some(client) = &self.client {
            let _slow_servers_go_without = tokio::time::timeout(CLOSE_PATIENCE, client.close()).await;
        }
        match stop {
            Stop::Enough => Ok(()),
            Stop::Failed(failure) => Err(failure),
        }
    }

    async fn follow(&mut self) -> Stop {
        let mut subscriptions = match self.connect_first().await {
            Ok(subscriptions) => subscriptions,
            Err(failure) => return Stop::Failed(failure),
        };
        if io::stderr().is_terminal() {
            note(&format!("listening to {} on {}", names(&self.channels), self.url));
        }
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let mut broken = self.hand_over(&mut subscriptions).await;
            if since.elapsed() >= LASTING {
                backoff.reset();
            }
            subscriptions = loop {
                let (why, wait) = match broken {
                    Broken::Stop(stop) => return stop,
                    Broken::Lost { why, wait } => (why, wait.unwrap_or_default()),
                };
                self.client = None;
                let wait = backoff
                    .next_wait(connection::random_u32())
                    .max(wait.min(WAIT_MAX));
                note(&format!("{why}; connecting again in {:.1} s", wait.as_secs_f32()));
                tokio::time::sleep(wait).await;
                match self.connect_again().await {
                    Ok(subscriptions) => break subscriptions,
                    Err(again) => broken = again,
                }
            };
        }
    }

    async fn connect_first(&mut self) -> Result<Vec<Subscription>, Failure> {
        let client = connection::connect(&self.url).await?;
        let client = self.client.insert(client);
        let mut subscriptions = Vec::new();
        for channel in &self.channels {
            let subscription = client.subscribe(channel.as_str()).await.map_err(|error| {
                let error = connection::said(&error);
                Failure::Failed(format!("cannot subscribe to {channel}: {error}"))
            })?;
            self.places.insert(channel.clone(), subscription.position());
            subscriptions.push(subscription);
        }
        Ok(subscriptions)
    }

    /// Connects, subscribes, and hands over what was missed meanwhile.
    async fn connect_again(&mut self) -> Result<Vec<Subscription>, Broken> {
        let client = self.client.insert(Client::connect(&self.url).await?);
        let mut subscriptions = Vec::new();
        for channel in &self.channels {
            let subscribed = client.subscribe(channel.as_str()).await;
            subscriptions.push(subscribed.map_err(|error| unsubscribable(channel, error))?);
        }
        note("connected again");
        // The subscriptions fill while history is read, and then nothing more is read from their connection, which includes the
        // history. So it has a connection of its own.
        let mut reader = None;
        for subscription in &subscriptions {
            let channel = subscription.channel();
            if self.places.get(channel) != Some(&subscription.position()) {
                let reader = match &mut reader {
                    Some(reader) => reader,
                    none => none.insert(Client::connect(&self.url).await?),
                };
                self.catch_up(reader, channel, subscription.position()).await?;
            }
        }
        Ok(subscriptions)
    }

    /// Reads from where the channel was left to where its new subscription began.
    async fn catch_up(
        &mut self,
        reader: &Client,
        channel: &ChannelName,
        joined: Position,
    ) -> Result<(), Broken> {
        let Some(mut since) = self.places.get(channel).copied() else {
            return Ok(());
        };
        loop {
            let page = read(reader, channel, since).await?;
            for event in missed(&page, since, joined) {
                self.emit(channel, event).await?;
            }
            since = page.position;
            if !page.more || since.epoch == joined.epoch && since.offset >= joined.offset {
                break;
            }
        }
        self.places.insert(channel.clone(), joined);
        Ok(())
    }

    /// Hands over what comes, until the connection ends.
    async fn hand_over(&mut self, subscriptions: &mut [Subscription]) -> Broken {
        let mut turn = 0;
        loop {
            let (index, event) = next(subscriptions, &mut turn).await;
            let channel = subscriptions[index].channel();
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(end)) => return end.into(),
                None => {
                    let failure = format!("the server ended the subscription to {channel}");
                    return Broken::Stop(Stop::Failed(Failure::Failed(failure)));
                }
            };
            if let Err(stop) = self.emit(channel, event).await {
                return stop.into();
            }
        }
    }

    async fn emit(&mut self, channel: &ChannelName, event: ClientEvent) -> Result<(), Stop> {
        self.places.insert(channel.clone(), event.position());
        let sent = self.events.send(shown(channel, event)).await;
        sent.map_err(|_nobody_there| Stop::Enough)
    }
}

/// After Ctrl-C there is a moment for a good end. A standard output that takes nothing may not prolong it.
fn leave_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(2 * CLOSE_PATIENCE);
        std::process::exit(exit::DONE.into());
    });
}

/// What a person should know, at once or in the log of a job; programs read the events on standard output.
fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn names(channels: &[ChannelName]) -> String {
    let names: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
    names.join(", ")
}

fn unsubscribable(channel: &ChannelName, error: SubscribeError) -> Broken {
    let why = format!("cannot subscribe to {channel}: {}", connection::said(&error));
    match error {
        SubscribeError::Ended(end) => end.into(),
        SubscribeError::Refused(refusal) if refusal.is_retryable() => Broken::Lost {
            why,
            wait: refusal.retry_after,
        },
        SubscribeError::Refused(_) | SubscribeError::BadChannel(_) => {
            Broken::Stop(Stop::Failed(Failure::Failed(why)))
        }
    }
}

/// A page of a log, after whatever waits the server wants.
async fn read(reader: &Client, channel: &ChannelName, since: Position) -> Result<History, Broken> {
    let limit = Some(HISTORY_MESSAGES_MAX as u32);
    loop {
        match reader.history(channel.as_str(), Range::After(since), limit).await {
            Ok(page) => return Ok(page),
            Err(HistoryError::Refused(refusal)) if refusal.is_retryable() => {
                tokio::time::sleep(refusal.retry_after.unwrap_or(HISTORY_RETRY)).await;
            }
            Err(HistoryError::Ended(end)) => return Err(end.into()),
            Err(error @ (HistoryError::Refused(_) | HistoryError::BadChannel(_))) => {
                let error = connection::said(&error);
                let failure = format!("cannot read the history of {channel}: {error}");
                return Err(Broken::Stop(Stop::Failed(Failure::Failed(failure))));
            }
        }
    }
}

/// What a page of the log has for a reader at `since` whose subscription goes on at `joined`: what lies behind that comes
/// live.
fn missed(page: &History, since: Position, joined: Position) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    if page.reset {
        let position = Position::start(page.position.epoch);
        events.push(ClientEvent::Reset { position });
    }
    let same_life = page.position.epoch == joined.epoch;
    let last = if same_life { joined.offset } else { u64::MAX };
    if let Some((from, to)) = page.gap
        && from <= last
    {
        // Where the reader is after the gap has no name before the next message has come: a reader who stops here and asks from
        // where it was before is told of the gap again, which is true.
        events.push(ClientEvent::Gap {
            from,
            to: to.min(last),
            position: since,
        });
    }
    let messages = page.messages.iter();
    let before = messages.take_while(|message| message.position.offset <= last);
    events.extend(before.cloned().map(ClientEvent::Message));
    events
}

/// The next event of any of them, each in its turn.
async fn next(
    subscriptions: &mut [Subscription],
    turn: &mut usize,
) -> (usize, Option<Result<ClientEvent, End>>) {
    std::future::poll_fn(|cx| {
        for step in 0..subscriptions.len() {
            let index = (*turn + step) % subscriptions.len();
            if let Poll::Ready(event) = subscriptions[index].poll_event(cx) {
                *turn = index + 1;
                return Poll::Ready((index, event));
            }
        }
        Poll::Pending
    })
    .await
}

/// An event of the client as `listen` shows it.
fn shown(channel: &ChannelName, event: ClientEvent) -> Event {
    let channel = channel.to_string();
    match event {
        ClientEvent::Message(ClientMessage {
            position,
            payload,
            from,
            at_ms,
            ..
        }) => Event::Message(Message {
            channel,
            offset: position.offset,
            position: position.to_string(),
            at_ms,
            from,
            payload,
        }),
        ClientEvent::Gap { from, to, position } => Event::Gap {
            channel,
            from,
            to,
            position: position.to_string(),
        },
        ClientEvent::Reset { position } => Event::Reset {
            channel,
            offset: position.offset,
            position: position.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::payload::Payload;
    use switchboard_proto::position::Epoch;

    use super::*;

    fn at(epoch: u64, offset: u64) -> Position {
        Position {
            epoch: Epoch(epoch),
            offset,
            tag: 7,
        }
    }

    fn page(epoch: u64, offsets: &[u64]) -> History {
        let message = |offset: &u64| ClientMessage {
            conflate: None,
            position: at(epoch, *offset),
            payload: Payload::text("x"),
            from: None,
            at_ms: 0,
        };
        History {
            messages: offsets.iter().map(message).collect(),
            gap: None,
            reset: false,
            position: at(epoch, offsets.last().copied().unwrap_or(5)),
            more: false,
        }
    }

    /// As a line: offsets of messages, `5..8` for a gap, `reset`.
    fn check(page: &History, joined: Position, expected: &str) {
        let words: Vec<String> = missed(page, at(1, 5), joined)
            .iter()
            .map(|event| match event {
                ClientEvent::Message(message) => message.position.offset.to_string(),
                ClientEvent::Gap { from, to, position } => {
                    assert_eq!(*position, at(1, 5));
                    format!("{from}..{to}")
                }
                ClientEvent::Reset { position } => {
                    assert_eq!(position.offset, 0);
                    "reset".to_owned()
                }
            })
            .collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn what_was_missed_ends_where_the_subscription_goes_on() {
        check(&page(1, &[6, 7, 8]), at(1, 8), "6 7 8");
        check(&page(1, &[6, 7, 8, 9]), at(1, 7), "6 7");
        check(&page(1, &[6, 7]), at(1, 5), "");
    }

    #[test]
    fn a_gap_covers_what_the_log_does_not_hold_and_nothing_that_comes_live() {
        let gap = |from, to, offsets: &[u64]| History {
            gap: Some((from, to)),
            ..page(1, offsets)
        };
        check(&gap(6, 7, &[8, 9]), at(1, 9), "6..7 8 9");
        check(&gap(6, 9, &[10]), at(1, 7), "6..7");
        check(&gap(6, 9, &[10]), at(1, 5), "");
    }

    #[test]
    fn another_life_of_the_log_begins_with_a_reset() {
        let reset = History {
            reset: true,
            ..page(2, &[1, 2, 3])
        };
        check(&reset, at(2, 2), "reset 1 2");
        check(&reset, at(3, 1), "reset 1 2 3");
    }
}

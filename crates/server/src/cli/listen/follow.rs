//! Follows channels, over as many connections as it takes.

use std::io::{self, IsTerminal as _, Write as _};
use std::task::Poll;

use switchboard_client::{
    Client, End, Event as ClientEvent, Message as ClientMessage, Role, State, SubscribeOptions, Subscription,
};
use switchboard_proto::channel::ChannelName;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Event, ListenArgs, Message};
use crate::cli::connection::{self, CLOSE_PATIENCE};
use crate::cli::{Failure, exit};

/// Events on their way to who shows them.
const EVENTS_MAX: usize = 64;

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
    options: SubscribeOptions,
    events: mpsc::Sender<Event>,
    client: Option<Client>,
}

/// Why following ends.
enum Stop {
    /// Nobody wants more.
    Enough,
    Failed(Failure),
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
            options: match args.presence {
                true => SubscribeOptions::new().presence(Role::Watcher),
                false => SubscribeOptions::new(),
            },
            events,
            client: None,
        }
    }

    async fn run(mut self) -> Result<(), Failure> {
        let closed = self.events.clone();
        let stop = tokio::select! {
            stop = self.follow() => stop,
            () = closed.closed() => Stop::Enough,
            ended = told_to_end() => match ended {
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
        let mut subscriptions = match self.connect().await {
            Ok(subscriptions) => subscriptions,
            Err(failure) => return Stop::Failed(failure),
        };
        if io::stderr().is_terminal() {
            note(&format!("listening to {} on {}", names(&self.channels), self.url));
        }
        let Some(client) = self.client.clone() else {
            return Stop::Enough;
        };
        tokio::select! {
            stop = self.hand_over(&mut subscriptions) => stop,
            () = tell_states(&client) => Stop::Enough,
        }
    }

    /// The first connection, and the subscriptions, have to succeed.
    async fn connect(&mut self) -> Result<Vec<Subscription>, Failure> {
        let client = connection::connect(&self.url).await?;
        let client = self.client.insert(client);
        let mut subscriptions = Vec::new();
        for channel in &self.channels {
            let subscribing = client.subscribe_with(channel.as_str(), self.options.clone());
            let subscription = subscribing.await.map_err(|error| {
                let error = connection::said(&error);
                Failure::Failed(format!("cannot subscribe to {channel}: {error}"))
            })?;
            subscriptions.push(subscription);
        }
        Ok(subscriptions)
    }

    /// Hands over what comes, to the end.
    async fn hand_over(&self, subscriptions: &mut [Subscription]) -> Stop {
        let mut turn = 0;
        loop {
            let (index, event) = next(subscriptions, &mut turn).await;
            let channel = subscriptions[index].channel();
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(end)) => {
                    let failure = format!("no more of {channel}: {}", connection::said(&end));
                    return Stop::Failed(Failure::Failed(failure));
                }
                None => {
                    let failure = format!("the server ended the subscription to {channel}");
                    return Stop::Failed(Failure::Failed(failure));
                }
            };
            if self.events.send(shown(channel, event)).await.is_err() {
                return Stop::Enough;
            }
        }
    }
}

/// Says when the connection is lost and when it is there again. Never ends.
async fn tell_states(client: &Client) {
    let mut known = client.state();
    loop {
        let state = client.state_other_than(&known).await;
        match &state {
            State::Waiting { until, why, .. } => {
                let wait = until.saturating_duration_since(Instant::now());
                let why = connection::said(why);
                note(&format!("{why}; connecting again in {:.1} s", wait.as_secs_f32()));
            }
            State::Open => note("connected again"),
            State::Connecting { .. } | State::Closed(_) => {}
        }
        known = state;
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
            conflate,
            at_ms,
        }) => Event::Message(Message {
            channel,
            offset: position.offset,
            position: position.to_string(),
            at_ms,
            from,
            conflate,
            payload,
        }),
        ClientEvent::Gap {
            from,
            to,
            position,
            conflated,
        } => Event::Gap {
            channel,
            from,
            to,
            position: position.to_string(),
            conflated,
        },
        ClientEvent::Reset { position } => Event::Reset {
            channel,
            offset: position.offset,
            position: position.to_string(),
        },
        ClientEvent::Presence { counts, who } => Event::Presence { channel, counts, who },
    }
}

/// By Ctrl-C, or by whoever started it.
async fn told_to_end() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

//! Many publishers and subscribers, and what the contract says of the outcome: one order per channel, the same for
//! everyone and for history; whatever was acknowledged is there; nothing is missing without a word.

use std::collections::HashMap;
use std::rc::Rc;

use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::{Message, Notice};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::Live;
use super::client::{Client, channel, publish};
use super::runs::Run;

/// The error of a broker that fails.
const UNAVAILABLE: &str = "unavailable";

/// How much is going on.
#[derive(Clone, Debug)]
pub struct Workload {
    pub channels: usize,
    pub subscribers: usize,
    pub publishers: usize,
    /// Of each publisher, all channels in turn.
    pub messages: usize,
    /// Of one publisher, without an answer.
    pub window: usize,
}

/// What became of one publish.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    Acknowledged(Position),
    /// The code of the error.
    Refused(String),
}

/// Everything that was seen from outside.
pub struct Outcome {
    pub channels: Vec<String>,
    /// By subscriber, then by channel.
    pub runs: Vec<Vec<Run>>,
    /// By publisher: channel, payload and fate, in the order in which they were sent.
    pub published: Vec<Vec<(usize, String, Fate)>>,
    /// By channel: the whole log.
    pub history: Vec<Vec<Message>>,
}

/// Runs the workload to its end.
pub async fn work(live: &Live, workload: &Workload) -> Outcome {
    let channels: Rc<Vec<String>> = Rc::new((0..workload.channels).map(|n| format!("order:{n}")).collect());
    let (end, ended) = watch::channel(None);
    let mut subscribers = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..workload.subscribers {
        let mut client = Client::connect(live).await;
        let mut runs = Vec::new();
        for name in channels.iter() {
            // What others have published meanwhile must not get lost here: nobody publishes yet.
            runs.push(Run::begin(
                name,
                insist_on_subscribing(&mut client, name, UNAVAILABLE).await,
            ));
        }
        if starts.is_empty() {
            starts = runs.clone();
        }
        subscribers.push(spawn_local(subscriber(client, runs, ended.clone())));
    }
    let mut publishers = Vec::new();
    for number in 0..workload.publishers {
        let client = Client::connect(live).await;
        publishers.push(spawn_local(publisher(
            client,
            number,
            workload.clone(),
            channels.clone(),
        )));
    }
    let mut published = Vec::new();
    for publisher in publishers {
        published.push(publisher.await.unwrap());
    }
    let mut client = Client::connect(live).await;
    let mut ends = Vec::new();
    for name in channels.iter() {
        ends.push(
            insist_on_publishing(&mut client, name, "\"the end\"", UNAVAILABLE)
                .await
                .offset,
        );
    }
    end.send(Some(ends)).unwrap();
    let mut runs = Vec::new();
    for subscriber in subscribers {
        runs.push(subscriber.await.unwrap());
    }
    let mut history = Vec::new();
    for name in channels.iter() {
        history.push(whole_log(&mut client, name, UNAVAILABLE).await);
    }
    Outcome {
        channels: channels.to_vec(),
        runs,
        published,
        history,
    }
}

/// Subscribes, again and again against this error.
pub async fn insist_on_subscribing(client: &mut Client, to: &str, against: &str) -> Position {
    loop {
        let id = client.id();
        let command = Command::Subscribe {
            id: Some(id),
            channel: channel(to),
            since: None,
            latest: false,
            presence: None,
        };
        client.say(&[command]).await.unwrap();
        match client.answer(id).await {
            Notice::Subscribed { position, .. } => return position,
            Notice::Error { code, .. } => assert_eq!(code, against),
            other => panic!("{other:?} in place of subscribed"),
        }
    }
}

/// Publishes JSON, again and again against this error.
pub async fn insist_on_publishing(client: &mut Client, to: &str, json: &str, against: &str) -> Position {
    loop {
        let id = client.id();
        let command = publish(Some(id), to, Payload::json(json).unwrap());
        client.say(&[command]).await.unwrap();
        match client.answer(id).await {
            Notice::Published { position, .. } => return position,
            Notice::Error { code, .. } => assert_eq!(code, against),
            other => panic!("{other:?} in place of published"),
        }
    }
}

/// The log from its first message, page by page, again and again against this error.
pub async fn whole_log(client: &mut Client, of: &str, against: &str) -> Vec<Message> {
    let newest = insist_on_history(client, of, Range::Newest, Some(1), against).await;
    let start = Position::start(newest.position.epoch);
    let mut since = start;
    let mut log = Vec::new();
    loop {
        let page = insist_on_history(client, of, Range::After(since), None, against).await;
        assert_eq!(
            (page.gap, page.reset),
            (None, false),
            "the log is short enough to be kept whole"
        );
        log.extend(page.messages);
        since = page.position;
        if !page.more {
            return log;
        }
    }
}

async fn insist_on_history(
    client: &mut Client,
    of: &str,
    range: Range,
    limit: Option<u32>,
    against: &str,
) -> switchboard_proto::dialect::notice::History {
    loop {
        let id = client.id();
        let command = Command::History {
            id: Some(id),
            channel: channel(of),
            range,
            limit,
        };
        client.say(&[command]).await.unwrap();
        match client.answer(id).await {
            Notice::History { history, .. } => return history,
            Notice::Error { code, .. } => assert_eq!(code, against),
            other => panic!("{other:?} in place of history"),
        }
    }
}

/// Reads until it is past the end of every channel.
async fn subscriber(
    mut client: Client,
    mut runs: Vec<Run>,
    mut ended: watch::Receiver<Option<Vec<u64>>>,
) -> Vec<Run> {
    loop {
        if let Some(ends) = &*ended.borrow_and_update()
            && runs.iter().zip(ends).all(|(run, end)| run.reached() >= *end)
        {
            return runs;
        }
        tokio::select! {
            notice = client.hear() => {
                let taken = runs.iter_mut().any(|run| run.take(&notice));
                assert!(taken, "nobody asked for {notice:?}");
            }
            changed = ended.changed() => changed.unwrap(),
        }
    }
}

async fn publisher(
    mut client: Client,
    number: usize,
    workload: Workload,
    channels: Rc<Vec<String>>,
) -> Vec<(usize, String, Fate)> {
    let mut published = Vec::new();
    for begin in (0..workload.messages).step_by(workload.window) {
        let mut commands = Vec::new();
        let mut sent = Vec::new();
        for n in begin..workload.messages.min(begin + workload.window) {
            let at = (number + n) % channels.len();
            let json = format!("{{\"p\":{number},\"n\":{n}}}");
            let id = client.id();
            commands.push(publish(Some(id), &channels[at], Payload::json(&json).unwrap()));
            sent.push((id, at, json));
        }
        client.say(&commands).await.unwrap();
        for (id, at, json) in sent {
            let fate = match client.answer(id).await {
                Notice::Published { position, .. } => Fate::Acknowledged(position),
                Notice::Error { code, .. } => Fate::Refused(code),
                other => panic!("{other:?} in place of published"),
            };
            published.push((at, json, fate));
        }
    }
    published
}

impl Outcome {
    /// The rules that hold whatever the broker does. `is_error_allowed` says which errors a publisher may get.
    pub fn judge(&self, is_error_allowed: impl Fn(&str) -> bool) {
        for (at, log) in self.history.iter().enumerate() {
            self.judge_log(at, log);
        }
        for (number, published) in self.published.iter().enumerate() {
            for (at, json, fate) in published {
                let copies = self.history[*at]
                    .iter()
                    .filter(|message| data(message) == json)
                    .count();
                match fate {
                    Fate::Acknowledged(position) => {
                        assert_eq!(copies, 1, "acknowledged, and in the log once: {json}");
                        assert_eq!(data(&self.history[*at][position.offset as usize - 1]), json);
                    }
                    Fate::Refused(code) => {
                        assert!(is_error_allowed(code), "publisher {number}: {code}");
                        assert!(copies <= usize::from(code != "overloaded"), "{json}");
                    }
                }
            }
        }
    }

    fn judge_log(&self, at: usize, log: &[Message]) {
        let channel = &self.channels[at];
        for (index, message) in log.iter().enumerate() {
            assert_eq!(message.position.offset, index as u64 + 1, "{channel} has a hole");
        }
        // A run is without hole but for its gaps, so it is the log but for its gaps.
        for runs in &self.runs {
            for message in runs[at].messages() {
                assert_eq!(message, &log[message.position.offset as usize - 1], "{channel}");
            }
        }
        let mut last: HashMap<usize, usize> = HashMap::new();
        for message in log {
            let Some((publisher, n)) = origin(message) else {
                continue;
            };
            let before = last.insert(publisher, n);
            assert!(
                before < Some(n),
                "{channel}: message {n} of publisher {publisher} after {before:?}"
            );
        }
    }

    /// How many publishes were refused.
    pub fn refused(&self) -> usize {
        let fates = self.published.iter().flatten().map(|(_, _, fate)| fate);
        fates.filter(|fate| matches!(fate, Fate::Refused(_))).count()
    }

    /// How many gaps all subscribers were told of.
    pub fn gaps(&self) -> usize {
        self.runs.iter().flatten().map(|run| run.gaps().len()).sum()
    }
}

pub fn data(message: &Message) -> &str {
    message.payload.as_str().unwrap()
}

/// Who published a message, and as which of theirs.
fn origin(message: &Message) -> Option<(usize, usize)> {
    let numbers = data(message).strip_prefix("{\"p\":")?.strip_suffix('}')?;
    let (publisher, n) = numbers.split_once(",\"n\":")?;
    Some((publisher.parse().unwrap(), n.parse().unwrap()))
}

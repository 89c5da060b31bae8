//! Readers whose connections are cut, who stall and come back, and a server that is killed in between, in any order: each
//! reader has every message once and in order, or was told exactly what is missing because the log had forgotten it.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use support::client::{Client, How, channel};
use support::order::data;
use support::runs::{Item, Run};
use support::served::{Directory, Served};
use support::{block_on, http};
use switchboard_proto::dialect::Command;
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};

const CHANNELS: [&str; 2] = ["a", "b"];
const READERS: usize = 6;
/// Messages that a channel keeps.
const LOG: u64 = 60;
const SETTINGS: &[(&str, &str)] = &[
    ("CHANNELS__LOG_MESSAGES_MAX", "60"),
    ("CHANNELS__LOG_BYTES_MAX", "64MiB"),
    ("DATA__FSYNC", "never"),
    // Nobody is ended for being slow.
    ("LIMITS__WRITE_STALL", "1h"),
    ("LIMITS__PING_INTERVAL", "1h"),
];
/// A few of these fill every buffer on the way to a reader.
const LARGE: usize = 50_000;

/// Somebody who reads, sometimes.
#[derive(Default)]
struct Reader {
    client: Option<Client>,
    runs: [Option<Run>; 2],
}

struct World {
    directory: Directory,
    served: Option<Served>,
    random: ChaCha8Rng,
    readers: Vec<Reader>,
    publisher: Option<Client>,
    /// What each channel has had, from its first message on.
    truth: [Vec<String>; 2],
    keys: u64,
    /// What has happened, so that nobody takes a dull run for a proof.
    kills: u32,
    resumed: u32,
    refused: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let directory = Directory::new();
        World {
            served: Some(Served::start(&directory.0, SETTINGS)),
            directory,
            random: ChaCha8Rng::seed_from_u64(seed),
            readers: (0..READERS).map(|_| Reader::default()).collect(),
            publisher: None,
            truth: [Vec::new(), Vec::new()],
            keys: 0,
            kills: 0,
            resumed: 0,
            refused: 0,
        }
    }

    fn choose(&mut self, count: usize) -> usize {
        self.random.next_u32() as usize % count
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    async fn step(&mut self) {
        let reader = self.choose(READERS);
        match self.choose(16) {
            0..=5 => self.publish().await,
            6..=7 => self.readers[reader].client = None,
            8..=11 => self.come_back(reader).await,
            12..=13 => {
                let most = 1 + self.choose(50);
                self.read(reader, most).await;
            }
            14 => self.page().await,
            _ if self.choose(3) == 0 => self.kill().await,
            _ => {}
        }
    }

    /// A message with a key of its own.
    fn message(&mut self) -> (String, Key) {
        self.keys += 1;
        let mut text = self.keys.to_string();
        if self.choose(3) == 0 {
            text.push_str(&"-".repeat(LARGE));
        }
        (text, Key::parse(&self.keys.to_string()).unwrap())
    }

    async fn publisher(&mut self) -> &mut Client {
        if self.publisher.is_none() {
            self.publisher = Some(Client::connect(&self.served().live()).await);
        }
        self.publisher.as_mut().unwrap()
    }

    fn command(id: u64, to: &str, text: &str, key: &Key) -> Command {
        Command::Publish {
            id: Some(id),
            channel: channel(to),
            payload: Payload::text(text.to_owned()),
            key: Some(key.clone()),
            conflate: None,
        }
    }

    async fn publish(&mut self) {
        let at = self.choose(CHANNELS.len());
        for _ in 0..1 + self.choose(25) {
            let (text, key) = self.message();
            self.publish_one(at, text, key).await;
        }
    }

    async fn publish_one(&mut self, at: usize, text: String, key: Key) {
        let publisher = self.publisher().await;
        let id = publisher.id();
        let command = World::command(id, CHANNELS[at], &text, &key);
        publisher.say(&[command]).await.unwrap();
        match publisher.answer(id).await {
            Notice::Published { position, .. } => self.acknowledged(at, text, position),
            other => panic!("{other:?} in place of published"),
        }
    }

    fn acknowledged(&mut self, at: usize, text: String, position: Position) {
        self.truth[at].push(text);
        assert_eq!(position.offset, self.truth[at].len() as u64, "one place each");
    }

    fn head(&self, at: usize) -> u64 {
        self.truth[at].len() as u64
    }

    /// Connects, if it is away, and goes on where it was.
    async fn come_back(&mut self, reader: usize) {
        if self.readers[reader].client.is_some() {
            return;
        }
        let how = How {
            receive_bytes: reader.is_multiple_of(2).then_some(4 * 1024),
            ..How::default()
        };
        let mut client = Client::connect_with(&self.served().live(), how).await;
        for (at, name) in CHANNELS.iter().enumerate() {
            let head = self.head(at);
            match &mut self.readers[reader].runs[at] {
                None => {
                    let position = client.subscribe(name).await;
                    assert_eq!(position.offset, head);
                    self.readers[reader].runs[at] = Some(Run::begin(name, position));
                }
                Some(run) => {
                    let missed = head - run.reached();
                    let recovered = client.resume(name, run.position()).await;
                    assert!(
                        recovered || missed > LOG,
                        "{missed} missed, and the log holds them"
                    );
                    self.resumed += 1;
                }
            }
        }
        self.readers[reader].client = Some(client);
    }

    /// Reads so many things at most, as long as it does not have everything.
    async fn read(&mut self, reader: usize, most: usize) {
        let heads = [self.head(0), self.head(1)];
        let Reader { client, runs } = &mut self.readers[reader];
        let Some(client) = client else { return };
        for _ in 0..most {
            let mut runs = runs.each_mut().map(|run| run.as_mut().unwrap());
            if runs.iter().zip(heads).all(|(run, head)| run.reached() == head) {
                return;
            }
            let notice = client.hear().await;
            for ((run, head), truth) in runs.iter_mut().zip(heads).zip(&self.truth) {
                if !run.take(&notice) {
                    continue;
                }
                match run.items.last().unwrap() {
                    Item::Message(message) => {
                        assert_eq!(data(message), truth[run.reached() as usize - 1]);
                    }
                    Item::Gap { to, .. } => assert!(
                        *to + LOG <= head,
                        "a gap over what the log still holds: up to {to} of {head}"
                    ),
                }
            }
        }
    }

    /// What the log holds, forwards from anywhere and backwards from the end.
    async fn page(&mut self) {
        let at = self.choose(CHANNELS.len());
        let (head, truth) = (self.head(at), self.truth[at].clone());
        let publisher = self.publisher().await;
        let newest = publisher.history(CHANNELS[at], Range::Newest, Some(20)).await;
        assert_eq!(newest.position.offset, head);
        let before = match newest.messages.first() {
            Some(first) => first.position,
            None => return,
        };
        let older = publisher
            .history(CHANNELS[at], Range::Before(before), Some(20))
            .await;
        let read: Vec<_> = older.messages.iter().chain(&newest.messages).collect();
        // As many as an answer holds.
        assert!(read.len() >= 2 || head < 2, "{} read", read.len());
        for (message, expected) in read.iter().zip(&truth[truth.len() - read.len()..]) {
            assert_eq!(data(message), expected);
        }
        let since = older.messages.first().map_or(before, |first| first.position);
        let forwards = publisher
            .history(CHANNELS[at], Range::After(since), Some(10))
            .await;
        assert_eq!((forwards.gap, forwards.reset), (None, false));
        for message in &forwards.messages {
            assert_eq!(data(message), truth[message.position.offset as usize - 1]);
        }
    }

    /// Kills the server with a message under way, and starts it again. Whether that message was kept, the same key tells.
    async fn kill(&mut self) {
        let at = self.choose(CHANNELS.len());
        let (text, key) = self.message();
        let publisher = self.publisher().await;
        let id = publisher.id();
        let command = World::command(id, CHANNELS[at], &text, &key);
        publisher.say(&[command]).await.unwrap();
        self.refused += self.counter("deliveries_refused").await;
        self.served.take().unwrap().kill();
        self.kills += 1;
        self.publisher = None;
        for reader in &mut self.readers {
            reader.client = None;
        }
        self.served = Some(Served::start(&self.directory.0, SETTINGS));
        self.publish_one(at, text, key).await;
    }

    async fn counter(&self, name: &str) -> u64 {
        let metrics = http::get(self.served().internal, "/metrics")
            .await
            .expect(200)
            .body;
        let value = metrics.lines().find_map(|line| {
            let line = line.strip_prefix("switchboard_")?.strip_prefix(name)?;
            line.strip_prefix("_total ")?.parse().ok()
        });
        value.unwrap()
    }

    /// Everyone is there and has everything.
    async fn settle(&mut self) {
        for reader in 0..READERS {
            self.come_back(reader).await;
            self.read(reader, usize::MAX).await;
        }
        self.refused += self.counter("deliveries_refused").await;
    }
}

#[test]
fn whatever_happens_nothing_is_lost_silently() {
    const STEPS: usize = 250;
    let (mut kills, mut resumed, mut refused, mut gaps) = (0, 0, 0, 0);
    for seed in 1..=4 {
        block_on(async {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step().await;
            }
            world.settle().await;
            let runs = world.readers.iter().flat_map(|reader| &reader.runs);
            gaps += runs.map(|run| run.as_ref().unwrap().gaps().len()).sum::<usize>();
            kills += world.kills;
            resumed += world.resumed;
            refused += world.refused;
        });
    }
    // Or it has shown nothing.
    assert!(
        kills > 0 && resumed > 0 && refused > 0 && gaps > 0,
        "{kills} kills, {resumed} resumed, {refused} refused, {gaps} gaps"
    );
}

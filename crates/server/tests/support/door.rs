//! The ways in which a client reads channels and publishes, behind one face: what a scenario says holds for each of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;
use switchboard_proto::dialect::notice::{self, Notice};
use switchboard_proto::dialect::{Command, DialectId, Inbound};
use switchboard_proto::entry::Key;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::Position;
use switchboard_proto::presence::{Attendance, Role};

use super::client::{Client, How, channel};
use super::http::{self, Answer};
use super::peer::{Ended, Peer};
use super::{Live, soon};

/// How a client comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    Json,
    Msgpack,
    EventStream,
    Poll,
}

pub const DOORS: [Door; 4] = [Door::Json, Door::Msgpack, Door::EventStream, Door::Poll];

/// What a visitor wants.
#[derive(Clone, Default)]
pub struct Wish {
    pub channels: Vec<String>,
    /// Where to go on.
    pub since: BTreeMap<String, Position>,
    pub latest: bool,
    pub role: Option<Role>,
    pub info: Option<&'static str>,
    /// Go on as this session.
    pub resume: Option<String>,
    /// Size of the receive buffer.
    pub receive_bytes: Option<u32>,
}

impl Wish {
    pub fn of(channels: &[&str]) -> Wish {
        Wish {
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            ..Wish::default()
        }
    }

    pub fn since(mut self, since: &BTreeMap<String, Position>) -> Wish {
        self.since = since.clone();
        self
    }

    pub fn present(mut self, role: Role) -> Wish {
        self.role = Some(role);
        self
    }

    /// As a query.
    fn query(&self, since: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for name in &self.channels {
            query.append_pair("channel", name);
        }
        if let Some(since) = since {
            query.append_pair("since", since);
        }
        if self.latest {
            query.append_pair("latest", "true");
        }
        if let Some(role) = self.role {
            let word = match role {
                Role::Participant => "true",
                Role::Member => Role::MEMBER,
                Role::Watcher => Role::WATCH,
            };
            query.append_pair("presence", word);
        }
        if let Some(info) = self.info {
            query.append_pair("info", info);
        }
        if let Some(resume) = &self.resume {
            query.append_pair("resume", resume);
        }
        query.finish()
    }

    /// What all positions together are to a stream or a poll.
    fn token(&self, at: &BTreeMap<String, Position>) -> String {
        let positions = self.channels.iter().filter_map(|name| at.get(name));
        positions.map(Position::to_string).collect::<Vec<_>>().join(".")
    }
}

/// A client that came in.
pub struct Visitor {
    live: Live,
    wish: Wish,
    way: Way,
    heard: VecDeque<Notice>,
    /// Where it is in each of its channels.
    pub at: BTreeMap<String, Position>,
    /// What makes it the same session later.
    pub resume: Option<String>,
    pub user: Option<String>,
    /// The delay that the stream said.
    pub retry_ms: Option<u64>,
}

enum Way {
    Socket(Box<Client>),
    Stream(Stream),
    Poll(Polling),
}

struct Polling {
    peer: Peer,
    /// What the last answer said of where it is.
    since: Option<String>,
    /// Where it is when it has heard everything.
    at: BTreeMap<String, Position>,
}

/// An event stream.
pub struct Stream {
    pub peer: Peer,
    unread: Vec<u8>,
    head: Answer,
}

/// One event of a stream, as its reader takes it (HTML, section 9.2.6).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StreamEvent {
    pub event: String,
    pub id: Option<String>,
    pub data: String,
    pub retry: Option<u64>,
    pub comments: usize,
}

impl Stream {
    /// Asks for a stream; `headers` with line breaks behind them.
    pub async fn open(live: &Live, query: &str, headers: &str, receive_bytes: Option<u32>) -> Stream {
        let mut peer = Peer::connect_with(live.public, None, receive_bytes)
            .await
            .unwrap();
        peer.send(format!(
            "GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        ))
        .await;
        Stream::of(peer).await
    }

    /// The answer on a connection that has asked for a stream.
    pub async fn of(mut peer: Peer) -> Stream {
        let head = peer.answer().await.expect(200);
        assert_eq!(head.header("content-type"), "text/event-stream");
        Stream {
            unread: Vec::new(),
            peer,
            head,
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.head.header(name)
    }

    /// Reads some bytes, no more than these.
    pub async fn read_at_most(&mut self, bytes: usize) {
        let unread = soon("some of a stream", async {
            loop {
                self.unread.append(&mut self.peer.take_read());
                if self.unread.len() >= bytes {
                    return bytes;
                }
                // What is shorter than that is all there is for now.
                let more = tokio::time::timeout(Duration::from_millis(50), self.peer.fill()).await;
                if !matches!(more, Ok(None)) {
                    return self.unread.len();
                }
            }
        });
        let length = unread.await;
        self.unread.truncate(length);
    }

    /// An event that has been read.
    pub fn next_whole(&mut self) -> Option<StreamEvent> {
        let end = self.unread.windows(2).position(|two| two == b"\n\n")?;
        let block: Vec<u8> = self.unread.drain(..end + 2).collect();
        Some(StreamEvent::parse(&String::from_utf8(block).unwrap()))
    }

    /// The next event, or how the stream ended. What is not whole by then is nothing.
    pub async fn next(&mut self) -> Result<StreamEvent, Ended> {
        soon("an event of a stream", async {
            loop {
                self.unread.append(&mut self.peer.take_read());
                if let Some(event) = self.next_whole() {
                    return Ok(event);
                }
                if let Some(ended) = self.peer.fill().await {
                    return Err(ended);
                }
            }
        })
        .await
    }
}

impl StreamEvent {
    fn parse(block: &str) -> StreamEvent {
        let mut event = StreamEvent::default();
        let mut data = Vec::new();
        for line in block.trim_end_matches('\n').split('\n') {
            let (name, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" => event.comments += 1,
                "event" => event.event = value.to_owned(),
                "id" => event.id = Some(value.to_owned()),
                "data" => data.push(value),
                "retry" => event.retry = Some(value.parse().unwrap()),
                _ => panic!("{block}"),
            }
        }
        event.data = data.join("\n");
        event
    }
}

/// An error of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub code: String,
    /// The status of the HTTP answer, where there is one.
    pub status: Option<u16>,
}

impl Refused {
    fn of(answer: &Answer) -> Refused {
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["type"], "error", "{answer:?}");
        Refused {
            code: body["code"].as_str().unwrap().to_owned(),
            status: Some(answer.status),
        }
    }
}

impl Visitor {
    /// Comes in and subscribes. On a stream and a socket the subscriptions are the first that it hears.
    pub async fn enter(live: &Live, door: Door, wish: Wish) -> Visitor {
        match Visitor::try_enter(live, door, wish).await {
            Ok(visitor) => visitor,
            Err(refused) => panic!("{door:?}: {refused:?}"),
        }
    }

    /// The same, where it may be refused at once.
    pub async fn try_enter(live: &Live, door: Door, wish: Wish) -> Result<Visitor, Refused> {
        let token = wish.token(&wish.since);
        let since = (!token.is_empty()).then_some(token);
        let way = match door {
            Door::Json | Door::Msgpack => Way::Socket(Box::new(subscribed(live, door, &wish).await?)),
            Door::EventStream => {
                let query = wish.query(since.as_deref());
                let mut peer = Peer::connect_with(live.public, None, wish.receive_bytes)
                    .await
                    .unwrap();
                peer.send(format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                    .await;
                let head = peer.answer().await;
                if head.status != 200 {
                    return Err(Refused::of(&head));
                }
                Way::Stream(Stream {
                    unread: Vec::new(),
                    peer,
                    head,
                })
            }
            Door::Poll => Way::Poll(Polling {
                peer: Peer::connect(live.public).await,
                since,
                at: wish.since.clone(),
            }),
        };
        let mut visitor = Visitor {
            live: live.clone(),
            at: wish.since.clone(),
            resume: wish.resume.clone(),
            wish,
            way,
            heard: VecDeque::new(),
            user: None,
            retry_ms: None,
        };
        if door == Door::Poll && visitor.wish.since.is_empty() {
            // It is there once it has a position.
            visitor.ask("").await?;
        }
        Ok(visitor)
    }

    /// The next that it hears, or `None` at the end.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            let notice = match self.heard.pop_front() {
                Some(notice) => notice,
                None => self.receive().await?,
            };
            self.go(&notice);
            match &notice {
                Notice::Welcome { resume, user, .. } => {
                    (self.resume, self.user) = (resume.clone(), Some(user.clone()));
                    continue;
                }
                Notice::Unknown => panic!("nothing unknown is said"),
                _ => return Some(notice),
            }
        }
    }

    /// The same, of what happens in channels.
    pub async fn hear(&mut self) -> Notice {
        loop {
            match self.next().await {
                Some(Notice::Subscribed { .. }) => {}
                Some(notice) => return notice,
                None => panic!("the end in place of an event"),
            }
        }
    }

    /// Waits until all its channels are subscribed. What it hears meanwhile is kept.
    pub async fn subscribed(&mut self) {
        let mut others = VecDeque::new();
        while self.wish.channels.iter().any(|name| !self.at.contains_key(name)) {
            let notice = self.next().await.unwrap();
            others.push_back(notice);
        }
        others.append(&mut self.heard);
        self.heard = others;
    }

    async fn receive(&mut self) -> Option<Notice> {
        match &mut self.way {
            Way::Socket(client) => {
                let notice = client.next().await.ok()?;
                Some(notice)
            }
            Way::Stream(stream) => loop {
                let event = stream.next().await.ok()?;
                self.retry_ms = event.retry.or(self.retry_ms);
                if event.data.is_empty() {
                    continue;
                }
                let notice = notice::decode(Inbound::Text(&event.data)).unwrap();
                let kind: Value = serde_json::from_str(&event.data).unwrap();
                let name = match kind["type"].as_str().unwrap() {
                    "error" => "refused",
                    name => name,
                };
                assert_eq!(event.event, name);
                let moves = self.go(&notice);
                let token = self.wish.token(&self.at);
                assert_eq!(event.id, moves.then_some(token), "after {notice:?}");
                return Some(notice);
            },
            Way::Poll(..) => {
                while self.heard.is_empty() {
                    if let Err(refused) = self.ask("").await {
                        panic!("{refused:?} in place of an answer");
                    }
                }
                self.heard.pop_front()
            }
        }
    }

    /// One poll.
    pub async fn ask(&mut self, more: &str) -> Result<(), Refused> {
        let wish = Wish {
            resume: self.resume.clone(),
            ..self.wish.clone()
        };
        let Way::Poll(Polling { peer, since, at }) = &mut self.way else {
            panic!("it does not poll");
        };
        let query = wish.query(since.as_deref());
        let head = format!("GET /poll?{query}{more} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if peer.try_send(&head).await.is_err() {
            *peer = Peer::connect(self.live.public).await;
            peer.send(&head).await;
        }
        let answer = peer.next_answer().await;
        let answer = answer.unwrap_or_else(|ended| panic!("{ended:?} in place of an answer"));
        if answer.status != 200 {
            return Err(Refused::of(&answer));
        }
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let token = body["position"].as_str().unwrap().to_owned();
        *since = Some(token.clone());
        for event in body["events"].as_array().unwrap() {
            let notice = notice::decode(Inbound::Text(&event.to_string())).unwrap();
            go(at, &notice);
            self.heard.push_back(notice);
        }
        let positions: Vec<_> = token.split('.').filter(|part| !part.starts_with('w')).collect();
        assert_eq!(positions.join("."), self.wish.token(at), "{body}");
        Ok(())
    }

    fn go(&mut self, notice: &Notice) -> bool {
        go(&mut self.at, notice)
    }

    /// Publishes, as this visitor.
    pub async fn publish(&mut self, to: &str, json: &str, key: Option<&str>) -> Result<Position, Refused> {
        let resume = self.resume.clone();
        let live = self.live.clone();
        if let Way::Socket(client) = &mut self.way {
            let id = client.id();
            let command = Command::Publish {
                id: Some(id),
                channel: channel(to),
                payload: Payload::json(json).unwrap(),
                key: key.map(|key| Key::parse(key).unwrap()),
                conflate: None,
            };
            client.say(&[command]).await.unwrap();
            return match client.answer(id).await {
                Notice::Published { position, .. } => Ok(position),
                other => Err(refusal(other)),
            };
        }
        let mut body = serde_json::json!({"channel": to});
        body["data"] = serde_json::from_str(json).unwrap();
        if let Some(key) = key {
            body["key"] = key.into();
        }
        if let Some(resume) = resume {
            body["resume"] = resume.into();
        }
        publish(&live, &body.to_string()).await
    }

    /// Goes without a word.
    pub fn go_away(self) -> BTreeMap<String, Position> {
        self.at
    }

    pub fn stream(&mut self) -> &mut Stream {
        match &mut self.way {
            Way::Stream(stream) => stream,
            _ => panic!("it has no stream"),
        }
    }
}

/// An event takes a visitor somewhere.
fn go(at: &mut BTreeMap<String, Position>, notice: &Notice) -> bool {
    let (channel, position) = match notice {
        Notice::Subscribed {
            channel, position, ..
        }
        | Notice::Gap {
            channel, position, ..
        }
        | Notice::Reset { channel, position } => (channel, *position),
        Notice::Message { channel, message } => (channel, message.position),
        _ => return false,
    };
    at.insert(channel.as_str().to_owned(), position);
    true
}

/// By `POST /publish`.
pub async fn publish(live: &Live, body: &str) -> Result<Position, Refused> {
    let answer = http::post(live.public, "/publish", "application/json", body).await;
    if answer.status != 200 {
        return Err(Refused::of(&answer));
    }
    match notice::decode(Inbound::Text(&answer.body)) {
        Ok(Notice::Published { position, .. }) => Ok(position),
        other => panic!("{other:?}"),
    }
}

fn refusal(notice: Notice) -> Refused {
    match notice {
        Notice::Error { code, .. } => Refused {
            code: code.as_str().to_owned(),
            status: None,
        },
        other => panic!("{other:?} in place of an error"),
    }
}

async fn subscribed(live: &Live, door: Door, wish: &Wish) -> Result<Client, Refused> {
    let dialect = match door {
        Door::Msgpack => DialectId::Msgpack,
        _ => DialectId::Json,
    };
    let how = How {
        dialect: Some(dialect),
        receive_bytes: wish.receive_bytes,
        ..How::default()
    };
    let mut client = Client::connect_with(live, how).await;
    let mut commands = vec![Command::Connect {
        id: None,
        token: None,
        resume: wish.resume.clone(),
    }];
    for name in &wish.channels {
        let info = wish.info.map(|info| Payload::json(info).unwrap());
        commands.push(Command::Subscribe {
            id: Some(client.id()),
            channel: channel(name),
            since: wish.since.get(name).copied(),
            latest: wish.latest,
            presence: wish.role.map(|role| Attendance { role, info }),
        });
    }
    client.say(&commands).await.unwrap();
    Ok(client)
}

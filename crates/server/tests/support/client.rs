//! A client that speaks the protocol as it should be spoken, on the protocol library's own client role.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{self, History, Members, Notice};
use switchboard_proto::dialect::{Command, DialectId, Inbound, json, msgpack};
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::{Attendance, Role, Which};
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::client::{ClientHandshake, ClientOptions};
use switchboard_proto::ws::{Connection, Limits, MaskKeys, MessageKind, Received};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Live, soon};

/// How a client connects. The default is a browser's bare `new WebSocket(url)`.
#[derive(Clone, Default)]
pub struct How {
    pub dialect: Option<DialectId>,
    pub compression: Option<DeflatePolicy>,
    pub from: Option<IpAddr>,
    /// Size of the receive buffer.
    pub receive_bytes: Option<u32>,
}

/// The server closed, or was gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The code of its Close; `None` where there was no Close.
    pub code: Option<u16>,
    pub reason: String,
}

/// See the module.
pub struct Client {
    stream: TcpStream,
    connection: Connection,
    contexts: Contexts,
    dialect: DialectId,
    notices: VecDeque<Notice>,
    closed: Option<Closed>,
    last_id: u64,
}

pub fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

impl Client {
    pub async fn connect(live: &Live) -> Client {
        Client::connect_with(live, How::default()).await
    }

    pub async fn connect_with(live: &Live, how: How) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = how.receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        if let Some(from) = how.from {
            socket.bind((from, 0).into()).unwrap();
        }
        let mut stream = soon("connected", socket.connect(live.public)).await.unwrap();
        stream.set_nodelay(true).unwrap();

        let mut options = ClientOptions::new(format!("ws://{}/ws", live.public).parse().unwrap());
        let subprotocol = how.dialect.and_then(|dialect| dialect.dialect().subprotocol());
        options.subprotocols = subprotocol.into_iter().map(str::to_owned).collect();
        options.compression = how.compression;
        let mut handshake = ClientHandshake::new(options, [7; 16]).unwrap();
        let mut bytes = Vec::new();
        handshake.encode(&mut bytes);
        stream.write_all(&bytes).await.unwrap();
        bytes.clear();
        let (connected, head) = soon("the answer to a handshake", async {
            loop {
                let length = stream.read_buf(&mut bytes).await.unwrap();
                assert_ne!(
                    length,
                    0,
                    "the server is gone: {}",
                    String::from_utf8_lossy(&bytes)
                );
                if let Some(done) = handshake.read(&bytes).unwrap() {
                    return done;
                }
            }
        })
        .await;
        assert_eq!(connected.subprotocol.as_deref(), subprotocol);
        assert_eq!(connected.compression.is_some(), how.compression.is_some());
        let limits = Limits {
            message_bytes_max: 4 * 1024 * 1024,
            inflate_ratio_max: 2_000,
        };
        let mut client = Client {
            stream,
            connection: Connection::client(limits, connected.compression, MaskKeys::from_seed([3; 32])),
            contexts: Contexts::new(1),
            dialect: how.dialect.unwrap_or(DialectId::Json),
            notices: VecDeque::new(),
            closed: None,
            last_id: 0,
        };
        client.receive(&mut bytes[head..]).await;
        client
    }

    /// A number for a command that wants an answer.
    pub fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Says commands in one write.
    pub async fn say(&mut self, commands: &[Command]) -> io::Result<()> {
        let (mut message, mut out) = (Vec::new(), Vec::new());
        for command in commands {
            message.clear();
            let kind = match self.dialect {
                DialectId::Msgpack => {
                    msgpack::encode_command(command, &mut message);
                    MessageKind::Binary
                }
                DialectId::Json | DialectId::Raw | DialectId::EventStream | DialectId::Poll => {
                    json::encode_command(command, &mut message);
                    MessageKind::Text
                }
            };
            let _open = self.connection.send(kind, &message, &mut self.contexts, &mut out);
        }
        soon("the server reads", self.stream.write_all(&out)).await
    }

    /// The next thing that the server says, or how it ended.
    pub async fn next(&mut self) -> Result<Notice, Closed> {
        soon("the server says something", async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                if let Some(notice) = self.notices.pop_front() {
                    return Ok(notice);
                }
                if let Some(closed) = &self.closed {
                    return Err(closed.clone());
                }
                match self.stream.read(&mut buffer).await {
                    Ok(length) if length > 0 => self.receive(&mut buffer[..length]).await,
                    Ok(_) | Err(_) => {
                        self.closed = Some(Closed {
                            code: None,
                            reason: "gone".to_owned(),
                        });
                    }
                }
            }
        })
        .await
    }

    pub async fn hear(&mut self) -> Notice {
        match self.next().await {
            Ok(notice) => notice,
            Err(closed) => panic!("{closed:?} in place of an event"),
        }
    }

    async fn receive(&mut self, mut input: &mut [u8]) {
        let mut out = Vec::new();
        while let Some(received) = self.connection.receive(&mut input, &mut self.contexts).unwrap() {
            let message = match received {
                Received::Text(text) => Inbound::Text(text.as_str()),
                Received::Binary(bytes) => Inbound::Binary(bytes),
                Received::Ping(payload) => {
                    let payload = payload.to_vec();
                    let _open = self.connection.pong(&payload, &mut out);
                    continue;
                }
                Received::Pong(_) => continue,
                Received::Close(close) => {
                    self.closed = Some(Closed {
                        code: close.map(|close| close.code.value()),
                        reason: close.map(|close| close.reason.to_owned()).unwrap_or_default(),
                    });
                    let _answer = self.connection.answer_close(&mut out);
                    continue;
                }
            };
            self.notices.push_back(notice::decode(message).unwrap());
        }
        // A server that has gone is seen by the next read.
        let _gone = self.stream.write_all(&out).await;
    }

    /// Waits for the answer with this id. What else comes meanwhile is kept for [`Client::hear`].
    pub async fn answer(&mut self, wanted: u64) -> Notice {
        let mut others = VecDeque::new();
        let answer = loop {
            let notice = self.hear().await;
            if id(&notice) == Some(wanted) {
                break notice;
            }
            others.push_back(notice);
        };
        others.append(&mut self.notices);
        self.notices = others;
        answer
    }

    pub async fn subscribe(&mut self, to: &str) -> Position {
        self.subscribe_with(to, None, false).await.0
    }

    /// Goes on from `since`: whether nothing is missing.
    pub async fn resume(&mut self, to: &str, since: Position) -> bool {
        let (position, recovered) = self.subscribe_with(to, Some(since), false).await;
        assert_eq!(position, since, "that is where it is");
        recovered.unwrap()
    }

    pub async fn subscribe_with(
        &mut self,
        to: &str,
        since: Option<Position>,
        latest: bool,
    ) -> (Position, Option<bool>) {
        let id = self.id();
        let command = Command::Subscribe {
            id: Some(id),
            channel: channel(to),
            since,
            latest,
            presence: None,
        };
        self.say(&[command]).await.unwrap();
        match self.answer(id).await {
            Notice::Subscribed {
                position, recovered, ..
            } => (position, recovered),
            other => panic!("{other:?} in place of subscribed"),
        }
    }

    /// Subscribes with presence. The first event may have come when this returns.
    pub async fn attend(&mut self, to: &str, role: Role, info: Option<&str>) {
        let id = self.id();
        let info = info.map(|info| Payload::json(info).unwrap());
        let command = Command::Subscribe {
            id: Some(id),
            channel: channel(to),
            since: None,
            latest: false,
            presence: Some(Attendance { role, info }),
        };
        self.say(&[command]).await.unwrap();
        match self.answer(id).await {
            Notice::Subscribed { .. } => {}
            other => panic!("{other:?} in place of subscribed"),
        }
    }

    pub async fn members(&mut self, of: &str, which: Which, limit: Option<u32>) -> Members {
        let id = self.id();
        let command = Command::Members {
            id: Some(id),
            channel: channel(of),
            which,
            limit,
        };
        self.say(&[command]).await.unwrap();
        match self.answer(id).await {
            Notice::Members { members, .. } => members,
            other => panic!("{other:?} in place of members"),
        }
    }

    /// Publishes and waits for the answer.
    pub async fn publish(&mut self, to: &str, payload: Payload) -> Position {
        let id = self.id();
        self.say(&[publish(Some(id), to, payload)]).await.unwrap();
        match self.answer(id).await {
            Notice::Published { position, .. } => position,
            other => panic!("{other:?} in place of published"),
        }
    }

    pub async fn history(&mut self, of: &str, range: Range, limit: Option<u32>) -> History {
        let id = self.id();
        let command = Command::History {
            id: Some(id),
            channel: channel(of),
            range,
            limit,
        };
        self.say(&[command]).await.unwrap();
        match self.answer(id).await {
            Notice::History { history, .. } => history,
            other => panic!("{other:?} in place of history"),
        }
    }
}

pub fn publish(id: Option<u64>, to: &str, payload: Payload) -> Command {
    Command::Publish {
        id,
        channel: channel(to),
        payload,
        key: None,
        conflate: None,
    }
}

/// Which command a notice answers.
pub fn id(notice: &Notice) -> Option<u64> {
    match notice {
        Notice::Welcome { id, .. }
        | Notice::Subscribed { id, .. }
        | Notice::Unsubscribed { id, .. }
        | Notice::Published { id, .. }
        | Notice::History { id, .. }
        | Notice::Members { id, .. }
        | Notice::Pong { id }
        | Notice::Error { id, .. } => *id,
        Notice::Message { .. }
        | Notice::Gap { .. }
        | Notice::Reset { .. }
        | Notice::Presence { .. }
        | Notice::Goodbye { .. }
        | Notice::Unknown => None,
    }
}

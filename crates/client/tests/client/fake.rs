//! A server that says what the test tells it to.

use std::time::Duration;

use serde_json::Value;
use switchboard_client::{Builder, Client, Transport};
use switchboard_proto::ws::close::CloseCode;
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::handshake::{HeadLimits, HeadReader, ServerOptions, accept, encode_response};
use switchboard_proto::ws::{Connection, Limits, MessageKind, Received, Sent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Before everything.
pub(crate) const START: &str = "pAQIDBAUGBwgAAAAA";
/// Of offset 18.
pub(crate) const POSITION: &str = "pAQIDBAUGBwjerb7vEg";

/// A port on which somebody may be listening.
pub(crate) struct Port {
    listener: TcpListener,
}

impl Port {
    pub(crate) async fn open() -> Port {
        Port {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.listener.local_addr().unwrap())
    }

    pub(crate) fn builder(&self) -> Builder {
        Client::builder(&self.url())
            .transports([Transport::WebSocket])
            .reconnect(false)
    }

    /// Of a client that comes back at once.
    pub(crate) fn eager(&self) -> Builder {
        let (base, cap) = (Duration::from_millis(10), Duration::from_millis(50));
        self.builder().reconnect(true).backoff(base, cap)
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Takes a connection, and answers its request with these bytes.
    pub(crate) async fn answer(&self, answer: &[u8]) -> TcpStream {
        let mut stream = self.accept().await;
        read_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        stream
    }
}

pub(crate) async fn read_request(stream: &mut TcpStream) -> (http::Request<()>, Vec<u8>) {
    let mut read = Vec::new();
    let mut reader = HeadReader::new(HeadLimits::default());
    loop {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
        if let Some((request, length)) = reader.request(&read).unwrap() {
            return (request, read.split_off(length));
        }
    }
}

/// A WebSocket connection to a client.
pub(crate) struct Fake {
    pub(crate) stream: TcpStream,
    connection: Connection,
    contexts: Contexts,
    read: Vec<u8>,
    /// What the socket has not taken yet.
    unwritten: Vec<u8>,
}

impl Fake {
    /// Takes a connection, and its handshake. `subprotocols` are spoken here.
    pub(crate) async fn shake_hands(port: &Port, subprotocols: &[&str]) -> Fake {
        let mut stream = port.accept().await;
        let (request, read) = read_request(&mut stream).await;
        let options = ServerOptions {
            subprotocols: subprotocols.iter().map(|name| (*name).to_owned()).collect(),
            compression: None,
        };
        let accepted = accept(&request, &options).unwrap();
        let mut answer = Vec::new();
        encode_response(&accepted.response.map(|()| ""), &mut answer);
        stream.write_all(&answer).await.unwrap();
        Fake {
            stream,
            connection: Connection::server(Limits::default(), None),
            contexts: Contexts::new(1),
            read,
            unwritten: Vec::new(),
        }
    }

    /// Takes a connection up to the welcome.
    pub(crate) async fn welcome(port: &Port) -> Fake {
        let mut fake = Fake::shake_hands(port, &["switchboard.v1.json"]).await;
        let connect = fake.hear_type("connect").await;
        let id = &connect["id"];
        fake.say(&format!(
            r#"{{"type":"welcome","id":{id},"session":"s_1","user":"ana","heartbeat_ms":25000}}"#
        ))
        .await;
        fake
    }

    pub(crate) async fn with_client() -> (Fake, Client) {
        let port = Port::open().await;
        let builder = port.builder();
        let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
        (fake, client.unwrap())
    }

    pub(crate) async fn say(&mut self, text: &str) {
        let frame = self.frame(text);
        self.write(&frame).await;
    }

    fn frame(&mut self, text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        let sent = self
            .connection
            .send(MessageKind::Text, text.as_bytes(), &mut self.contexts, &mut frame);
        assert_eq!(sent, Sent::Appended);
        frame
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let waiting = std::mem::take(&mut self.unwritten);
        self.stream.write_all(&waiting).await.unwrap();
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Says one thing after the other until the client reads no more. Returns how many; the last one is still to be flushed.
    pub(crate) async fn stuff(&mut self, text: impl Fn(u64) -> String) -> usize {
        // A socket that takes nothing for this long takes nothing any more: its buffers hold a few MB.
        const STUCK: Duration = Duration::from_millis(300);
        for said in 1..2_000 {
            self.unwritten = self.frame(&text(said));
            while !self.unwritten.is_empty() {
                if timeout(STUCK, self.stream.writable()).await.is_err() {
                    return said as usize;
                }
                if let Ok(written) = self.stream.try_write(&self.unwritten) {
                    self.unwritten.drain(..written);
                }
            }
        }
        panic!("the client reads on");
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        let code = CloseCode::new(code).unwrap();
        assert_eq!(self.connection.close(code, reason, &mut frame), Sent::Appended);
        self.write(&frame).await;
    }

    /// The next frame of the client: a command, or a control frame in words.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            let mut input = self.read.as_mut_slice();
            let received = self.connection.receive(&mut input, &mut self.contexts).unwrap();
            let heard = received.map(|received| match received {
                Received::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
                Received::Binary(_) => panic!("binary"),
                Received::Ping(_) => "ping".into(),
                Received::Pong(_) => "pong".into(),
                Received::Close(close) => format!("close {:?}", close.map(|close| close.code.value())).into(),
            });
            let rest = input.len();
            self.read.drain(..self.read.len() - rest);
            if let Some(heard) = heard {
                return heard;
            }
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return "end of file".into();
            }
        }
    }

    /// The next command, which has to be of this type.
    pub(crate) async fn hear_type(&mut self, kind: &str) -> Value {
        let command = self.hear().await;
        assert_eq!(command["type"], kind, "{command}");
        command
    }

    pub(crate) async fn subscribed(&mut self, subscribe: &Value) {
        let (id, channel) = (&subscribe["id"], &subscribe["channel"]);
        self.say(&format!(
            r#"{{"type":"subscribed","id":{id},"channel":{channel},"offset":0,"position":"{START}"}}"#
        ))
        .await;
    }

    pub(crate) async fn answer_subscribe(&mut self, channel: &str) {
        let subscribe = self.hear_type("subscribe").await;
        assert_eq!(subscribe["channel"], channel);
        self.subscribed(&subscribe).await;
    }

    pub(crate) async fn answer_ping(&mut self, ping: &Value) {
        self.say(&format!(r#"{{"type":"pong","id":{}}}"#, ping["id"]))
            .await;
    }

    /// The client's Close comes next; it is answered.
    pub(crate) async fn answer_close(&mut self) {
        assert_eq!(self.hear().await, "close Some(1000)");
        let mut frame = Vec::new();
        assert_eq!(self.connection.answer_close(&mut frame), Sent::Appended);
        self.write(&frame).await;
    }
}

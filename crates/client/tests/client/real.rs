//! The real server, in this process.

use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr};

use switchboard_client::{Client, Event, Message, Subscription};
use switchboard_proto::limits::Rate;
use switchboard_server::config::{Auto, Config};
use switchboard_server::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Real {
    /// Dropping it does not stop it, and blocks where tests must not.
    server: ManuallyDrop<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) internal: SocketAddr,
}

impl Real {
    pub(crate) fn start() -> Real {
        Real::with(|_| {})
    }

    /// Without the limits of rates and outboxes, for tests that are about other limits.
    pub(crate) fn generous() -> Real {
        Real::with(|config| {
            let limits = &mut config.limits.session;
            limits.commands = Rate::UNLIMITED;
            limits.inbound_bytes = Rate::UNLIMITED;
            limits.subscribes = Rate::UNLIMITED;
            limits.outbox_bytes_max = 256 * 1024 * 1024;
            limits.outbox_messages_max = 1_000_000;
        })
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Real {
        let mut config = Config::default();
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (config.listen.public, config.listen.internal) = (anywhere, anywhere);
        config.server.shards = Auto::Fixed(2);
        change(&mut config);
        let server = Server::start(&config, 1_000).unwrap();
        let (address, internal) = (server.public(), server.internal());
        Real {
            server: ManuallyDrop::new(server),
            address,
            internal,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.at("/ws")
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// As a backend publishes.
    pub(crate) async fn publish(&self, channel: &str, text: &str) {
        let mut stream = TcpStream::connect(self.internal).await.unwrap();
        let head = format!(
            "POST /api/v1/publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url()).await.unwrap()
    }

    /// As at SIGTERM.
    pub(crate) async fn stop(self) {
        let server = ManuallyDrop::into_inner(self.server);
        tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    }
}

/// The next event, which has to be a message.
pub(crate) async fn message(subscription: &mut Subscription) -> Message {
    match subscription.next().await {
        Some(Ok(Event::Message(message))) => message,
        other => panic!("not a message: {other:?}"),
    }
}

//! Other servers, and how the same work is said in their protocols. `crates/bench/peers/README.md` describes each.

use std::net::SocketAddr;

use crate::target::{Hello, Target};

/// A server that a script in `crates/bench/peers` installs and runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Peer {
    /// nginx with the Nchan module.
    Nchan,
    /// nats-server over WebSocket.
    Nats,
    /// Node with `ws`.
    Ws,
    /// Node with Socket.IO, over Engine.IO's WebSocket transport.
    #[value(name = "socket.io")]
    SocketIo,
    /// A task and a queue per connection.
    TokioTungstenite,
    /// The same over fastwebsockets.
    Fastwebsockets,
    /// A C++ server on the topics of uWebSockets.
    #[value(name = "uwebsockets")]
    UWebSockets,
    /// Centrifugo, in its JSON protocol.
    Centrifugo,
}

impl Peer {
    /// As the scripts know it.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Nchan => "nchan",
            Peer::Nats => "nats",
            Peer::Ws => "ws",
            Peer::SocketIo => "socket.io",
            Peer::TokioTungstenite => "tokio-tungstenite",
            Peer::Fastwebsockets => "fastwebsockets",
            Peer::UWebSockets => "uwebsockets",
            Peer::Centrifugo => "centrifugo",
        }
    }

    /// How to speak with it.
    pub fn target(self, address: SocketAddr, run: &str) -> Target {
        let bare = Target::bare(address);
        match self {
            Peer::Ws | Peer::TokioTungstenite | Peer::Fastwebsockets | Peer::UWebSockets => bare,
            Peer::Nchan => Target {
                echo_path: None,
                ..bare
            },
            Peer::Nats => Target {
                path: "/".to_owned(),
                publisher_path: "/".to_owned(),
                echo_path: None,
                greeting: 1,
                hello: vec![Hello {
                    text: "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n".to_owned(),
                    replies: 1,
                }],
                subscribe: Some(Hello::new("SUB {channel} {room}\r\nPING\r\n")),
                publish: "PUB {channel} {length}\r\n{payload}\r\n".to_owned(),
                channel: format!("bench.{run}.{{room}}"),
                ..bare
            },
            Peer::Centrifugo => Target {
                path: "/connection/websocket".to_owned(),
                publisher_path: "/connection/websocket".to_owned(),
                echo_path: None,
                hello: vec![Hello::new("{\"id\":1,\"connect\":{}}")],
                subscribe: Some(Hello::new("{\"id\":2,\"subscribe\":{\"channel\":\"{channel}\"}}")),
                publish: "{\"id\":3,\"publish\":{\"channel\":\"{channel}\",\"data\":\"{payload}\"}}"
                    .to_owned(),
                channel: format!("bench:{run}-{{room}}"),
                ..bare
            },
            Peer::SocketIo => Target {
                path: "/socket.io/?EIO=4&transport=websocket".to_owned(),
                publisher_path: "/socket.io/?EIO=4&transport=websocket".to_owned(),
                echo_path: Some("/socket.io/?EIO=4&transport=websocket".to_owned()),
                greeting: 1,
                hello: vec![Hello::new("40")],
                subscribe: Some(Hello::new("420[\"join\",\"{channel}\"]")),
                publish: "42[\"publish\",\"{channel}\",\"{payload}\"]".to_owned(),
                echo: "42[\"echo\",\"{payload}\"]".to_owned(),
                heartbeat: Some(("2".to_owned(), "3".to_owned())),
                ..bare
            },
        }
    }
}

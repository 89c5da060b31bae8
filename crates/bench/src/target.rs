//! A server as the load sees it: where it is, and what a client says to subscribe, to publish, to echo.
//!
//! In texts and paths `{channel}` stands for the channel's name, `{room}` for its number, `{payload}` for the message,
//! `{length}` for its size in bytes, `{n}` for the number of the connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path and query of a subscriber.
    pub path: String,
    /// Path and query of a connection that only publishes.
    pub publisher_path: String,
    /// Path and query of a connection that echoes; `None` if it has none.
    pub echo_path: Option<String>,
    /// Subprotocol to ask for.
    pub subprotocol: Option<String>,
    /// Data frames that the server sends by itself before anything is said.
    pub greeting: u32,
    /// What every connection says first, one after the other.
    pub hello: Vec<Hello>,
    /// What a subscriber says then, once for each of its channels, without waiting in between.
    pub subscribe: Option<Hello>,
    /// The same for who comes back: with `{since}` for the position up to which it has everything.
    pub resume: Option<String>,
    /// The text that publishes.
    pub publish: String,
    /// The text that asks for an echo.
    pub echo: String,
    /// Form of a channel's name, with `{room}`.
    pub channel: String,
    /// A text that the server asks with now and then, and the answer.
    pub heartbeat: Option<(String, String)>,
    /// Offer permessage-deflate.
    pub compress: bool,
    /// How subscribers are served.
    pub way: Way,
    /// It is a Switchboard.
    pub is_switchboard: bool,
}

/// How subscribers of a server are served; only a Switchboard has others than WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Way {
    /// By WebSocket.
    WebSocket,
    /// By an event stream: `/sse` with their channels.
    EventStream,
    /// By polls, `/poll`, of which the next one begins so long after the one before; 0: at once, and the server holds them.
    Polls {
        /// In nanoseconds.
        interval_ns: u64,
    },
}

/// What stands for something, in the order of the module's first words.
pub const PLACEHOLDERS: [&str; 5] = ["{channel}", "{room}", "{payload}", "{length}", "{n}"];

/// The first word of letters, digits and underscores in braces that stands for nothing. JSON has none; a protocol whose texts
/// have one cannot be spoken.
pub fn unknown_placeholder(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(start, _)| {
        let length = text[start..].find('}')? + 1;
        let word = &text[start..start + length];
        let is_word = word.len() > 2
            && word[1..length - 1]
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '_');
        (is_word && !PLACEHOLDERS.contains(&word)).then_some(word)
    })
}

/// Something to say at the beginning.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Hello {
    /// What.
    pub text: String,
    /// Data frames that answer it.
    pub replies: u32,
}

impl Hello {
    /// Answered by one frame.
    pub fn new(text: &str) -> Hello {
        Hello {
            text: text.to_owned(),
            replies: 1,
        }
    }
}

/// How a Switchboard subscriber speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Dialect {
    /// `switchboard.v1.json`: what a browser speaks.
    Json,
    /// `/ws?channel=…`: bare messages.
    Raw,
}

impl Target {
    /// A Switchboard. `run` makes the channel names of this call its own.
    pub fn switchboard(address: SocketAddr, dialect: Dialect, run: &str) -> Target {
        let json = dialect == Dialect::Json;
        let subscribe = r#"{"type":"subscribe","id":1,"channel":"{channel}"}"#;
        let resume = r#"{"type":"subscribe","id":1,"channel":"{channel}","since":"{since}"}"#;
        Target {
            path: if json { "/ws" } else { "/ws?channel={channel}" }.to_owned(),
            publisher_path: "/ws".to_owned(),
            echo_path: Some("/echo".to_owned()),
            subscribe: json.then(|| Hello::new(subscribe)),
            resume: json.then(|| resume.to_owned()),
            publish: r#"{"type":"publish","channel":"{channel}","data":"{payload}"}"#.to_owned(),
            channel: format!("bench:{run}-{{room}}"),
            is_switchboard: true,
            ..Target::bare(address)
        }
    }

    /// A server that needs no words: the channel is in the path, every message is published as it is. The reference, and
    /// several peers.
    pub fn bare(address: SocketAddr) -> Target {
        Target {
            address,
            host: address.to_string(),
            path: "/room/{channel}".to_owned(),
            publisher_path: "/room/{channel}/publish".to_owned(),
            echo_path: Some("/echo".to_owned()),
            subprotocol: None,
            greeting: 0,
            hello: Vec::new(),
            subscribe: None,
            resume: None,
            publish: "{payload}".to_owned(),
            echo: "{payload}".to_owned(),
            channel: "{room}".to_owned(),
            heartbeat: None,
            compress: false,
            way: Way::WebSocket,
            is_switchboard: false,
        }
    }

    /// Whether connections that publish are subscribers, too, because nothing tells them apart.
    pub fn publishers_hear(&self) -> bool {
        self.subscribe.is_none() && self.path == self.publisher_path
    }

    /// The name of a channel.
    pub fn channel(&self, room: u32) -> String {
        self.channel.replace("{room}", &room.to_string())
    }

    /// Fills in what stands for a connection and its channel.
    pub fn fill(&self, template: &str, connection: u32, room: u32) -> String {
        template
            .replace("{channel}", &self.channel(room))
            .replace("{room}", &room.to_string())
            .replace("{n}", &connection.to_string())
    }
}

/// What publishes or echoes one message: the text around it.
#[derive(Clone, Debug)]
pub struct Envelope {
    before: Vec<u8>,
    after: Vec<u8>,
    message_bytes: usize,
}

impl Envelope {
    /// For messages of `message_bytes`. A template without `{payload}` puts the message at its end.
    pub fn new(template: &str, message_bytes: usize) -> Envelope {
        let message_bytes = message_bytes.max(crate::stamp::STAMP_BYTES);
        let filled = template.replace("{length}", &message_bytes.to_string());
        let (before, after) = filled.split_once("{payload}").unwrap_or((&filled, ""));
        Envelope {
            before: before.into(),
            after: after.into(),
            message_bytes,
        }
    }

    /// Appends the text of one message.
    pub fn write(&self, stamp: crate::stamp::Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        stamp.write(self.message_bytes, out);
        out.extend_from_slice(&self.after);
    }
}

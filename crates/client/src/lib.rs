//! The Rust client of Switchboard.
//!
//! ```no_run
//! use switchboard_client::{Client, Event};
//!
//! # async fn chat() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("ws://127.0.0.1:8000/ws").await?;
//! let mut room = client.subscribe("room:42").await?;
//! client.publish("room:42", "hello").await?;
//!
//! while let Some(event) = room.next().await {
//!     match event? {
//!         Event::Message(message) => println!("{}: {:?}", message.position.offset, message.payload),
//!         Event::Gap { from, to, .. } => println!("{from} to {to} are missing"),
//!         Event::Reset { .. } => println!("the log began anew"),
//!         Event::Presence { counts, .. } => println!("{} are here", counts.members),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it is: a connection that is made again when it is lost, with subscriptions as streams that go on where they were, acknowledged
//! publishing, history and presence. It travels by WebSocket, and by event stream or polls where a network lets no WebSocket through
//! ([`Transport`]). A task on the application's tokio runtime owns it; the protocol itself is in `switchboard-proto`, pure. What it is not: it
//! does not do TLS yet. What every client of Switchboard does stands in `spec/client.md`.
//!
//! Nothing is lost, repeated or reordered silently: what cannot be delivered is a [`Event::Gap`], a [`Event::Reset`], or the end of the
//! stream with its reason. All queues are bounded; what happens at the bound of a subscription's stands at [`Subscription`].
//!
//! ```text
//!  Client ─── requests ───► driver ◄──► Link ─┬─ websocket ── proto::session::client       builder ─► open ─► driver
//!  Receipt, … ◄── answers ──┤                 └─ http ── event streams, polls, publications
//!  Subscription ◄─ events ──┘
//! ```
//!
//! Reading order: `client`, `state`, `subscription`, then `driver` with `request`, `publishing`, `replacement` and `channels`, `link`, and `open`; `surroundings` is all that it takes from the machine.

mod builder;
mod channels;
mod client;
mod driver;
mod error;
mod http;
mod input;
mod link;
mod open;
mod publication;
mod publishing;
mod replacement;
mod request;
mod state;
mod subscription;
mod surroundings;
mod token;
mod transport;
mod websocket;

pub use builder::{Builder, Dialect};
pub use client::{Client, Receipt};
pub use error::{
    ConnectError, ConnectStep, End, Fault, PingError, PublishError, ReadError, Refusal, SubscribeError,
};
pub use publication::{BadKey, Publication};
pub use state::State;
pub use subscription::{BadInfo, Event, SubscribeOptions, Subscription};
pub use surroundings::{Connecting, Duplex, Surroundings};
pub use switchboard_proto::channel::{BadChannelName, ChannelName};
pub use switchboard_proto::dialect::notice::{History, Member, MemberKey, Members, Message, Who};
pub use switchboard_proto::error_code::ErrorCode;
pub use switchboard_proto::payload::{BadPayload, Payload, PayloadKind};
pub use switchboard_proto::position::{Position, Range};
pub use switchboard_proto::presence::{Counts, MemberKey as MembersCursor, Role, Which};
pub use switchboard_proto::session::client::Settings;
pub use transport::Transport;

//! RFC 6455 and RFC 7692, both roles, without I/O.
//!
//! What it is: the WebSocket protocol as values. After the [`handshake`], bytes that a socket delivered go into a
//! [`Connection`], messages and control frames come out; what is to be sent is appended to a buffer of the caller's.
//! It needs nothing else of this project and can be used by itself. What it is not: it reads no socket and no clock,
//! so timeouts, heartbeats, the rate of control frames and the end of the transport are the caller's; it draws no
//! random numbers, so a client brings a seed for its [`MaskKeys`].
//!
//! ```text
//!             ┌─────────────────────────────── Connection ──────────────────────────────┐
//! bytes ────► │ frame::Header ─► mask ─► unfinished ──────► deflate ─► utf8, CloseFrame │ ────► Received
//! receive()   │ (one frame)              (if it goes on)    (if RSV1)                   │       or PeerMisbehaved
//!             │                                                                         │
//! bytes ◄──── │ frame::encode ◄─ MaskKeys ◄──────────────── deflate                     │ ◄──── send, ping, pong, close
//! out         └─────────────────────────────────────────────────────────────────────────┘ ────► Sent
//! ```
//!
//! **The calling contract: hand over every byte the transport delivers, in order, and call
//! [`receive`](Connection::receive) until it returns `None`. Look at what it returned before the next call: that
//! frees it. After `Err` append one Close with [`PeerMisbehaved::close_code`]; after [`Received::Close`] call
//! [`answer_close`](Connection::answer_close). Write `out` to the transport, all of it and in order. Once the
//! [`state`](Connection::state) is `Closed`, and `out` is written, close the transport.**
//!
//! Any split of the same bytes gives the same results. A misdeed in a header is reported when the header is complete
//! or before, one in a text at its first bad byte. No bytes make it panic; what it holds for a peer is bounded by
//! [`Limits`], and by the agreed windows where a compression context is kept.
//!
//! ```
//! use switchboard_proto::ws::deflate::Contexts;
//! use switchboard_proto::ws::{Connection, Limits, MessageKind, Received, Sent};
//!
//! let mut connection = Connection::server(Limits::default(), None);
//! let mut contexts = Contexts::new(6); // shared by all connections of a thread
//! let mut out = Vec::new();
//!
//! // A masked text frame, and the beginning of a Close.
//! let mut read = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x82\x00\x00";
//! let mut input = read.as_mut_slice();
//! while let Some(received) = connection.receive(&mut input, &mut contexts)? {
//!     match received {
//!         Received::Text(text) => {
//!             assert_eq!(text.as_str(), "Hello");
//!             let sent = connection.send(MessageKind::Text, b"Hi", &mut contexts, &mut out);
//!             assert_eq!(sent, Sent::Appended);
//!         }
//!         other => panic!("only a text was complete, not {other:?}"),
//!     }
//! }
//! assert_eq!(out, b"\x81\x02Hi");
//! assert!(connection.message_is_unfinished());
//! # Ok::<(), switchboard_proto::ws::PeerMisbehaved>(())
//! ```
//!
//! Reading order: [`handshake`], which comes first on the wire and agrees on the [`extension`]; [`frame`], [`mask`],
//! [`close`], then [`connection`]; [`error`] lists every rule that a peer can break on an established connection.

pub mod close;
mod compression;
pub mod connection;
pub mod deflate;
pub mod error;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod mask;
mod unfinished;
pub mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use compression::encode_shared;
pub use connection::{Connection, Limits, Received, Role, Sent, State};
pub use error::PeerMisbehaved;
pub use frame::MessageKind;
pub use mask::MaskKeys;

//! RFC 6455 and RFC 7692, both roles, without I/O.

pub mod close;
mod compression;
pub mod connection;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod mask;
mod unfinished;
pub mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use compression::encode_shared;
pub use connection::{Connection, Limits, Received, Role, Sent, State};
pub use error::PeerMisbehaved;
pub use frame::MessageKind;
pub use mask::MaskKeys;

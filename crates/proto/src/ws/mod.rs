//! RFC 6455 and RFC 7692, both roles, without I/O.

pub mod deflate;
pub mod extension;
pub mod handshake;

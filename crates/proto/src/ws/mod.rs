//! RFC 6455 and RFC 7692, both roles, without I/O.

pub mod close;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod mask;
pub mod utf8;

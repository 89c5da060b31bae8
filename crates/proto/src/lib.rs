//! The protocol of Switchboard as values: WebSocket frames and handshakes, dialects, session machines.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: bytes and [`time::Time`] go in, values come out.

pub mod channel;
pub mod dialect;
pub mod entry;
#[rustfmt::skip] // generated
pub mod error_code;
pub mod json;
pub mod limits;
pub mod payload;
pub mod position;
pub mod presence;
pub mod session;
pub mod time;
pub mod ws;

//! Sessions: what a connection becomes once it speaks. Pure machines on virtual time, one for each side.
//!
//! ```text
//!            bytes in                                    requests, to the hub
//!  socket ──► server::Session ── ws::Connection ── dialect ──► Request
//!        ◄──  outbox ◄── replies / shared broadcast chunks ◄── Event, delivery
//! ```
//!
//! Reading order: [`server`], then the machines it is made of: [`outbox`], [`heartbeat`], [`rate`], [`resume`], [`places`]; [`broadcast`]
//! for how a message is encoded once for all subscribers of a form; [`client`] mirrors [`server`].

pub mod backoff;
pub mod broadcast;
pub mod client;
pub mod heartbeat;
mod hold;
pub mod outbox;
pub mod places;
pub mod rate;
pub mod resume;
pub mod server;

//! The Switchboard server: the `switchboard` command and what it runs.
//!
//! ```text
//!  cli ─► config ─► server ─► shard (one thread each) ─► hub, broker
//!                     └─────► http ─► shard
//! ```
//!
//! [`config`] says what an operator may change, [`cli`] what a person may type, [`server`] how the process starts and stops.
//! The way of a message is told in `shard`.

pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
mod files;
pub mod http;
pub mod net;
pub mod node;
pub mod open_files;
mod resume_key;
pub mod server;
pub mod shard;
pub mod stats;

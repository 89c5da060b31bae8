//! Whole servers and clients on a network and a clock that do not exist.
//!
//! Everything of a history runs on one thread, in virtual time: real servers (their shards, sessions and homes, and HTTP), real clients, and around
//! them a network, disks, a shared broker, applications and faults, all from one seed. The same seed gives the same history, event by event. What
//! the applications wrote down goes to the judge (`switchboard-check`), which knows nothing of all this.
//!
//! ```text
//!  seed ─► plan ─► world ─┬─ node (server) ─ broker ─ disk, shared
//!                         ├─ net                                   ─► book ─► history ─► judge ─► verdict
//!                         ├─ application ─ client ─ device
//!                         └─ faults
//! ```
//!
//! Reading order: [`plan`], [`world`], [`net`], [`node`], [`broker`], [`device`], [`application`], [`book`], [`coverage`], [`bug`] with [`mail`]; [`many`] and
//! [`minimise`] run more than one.

pub mod application;
pub mod book;
pub mod broker;
pub mod bug;
pub mod chance;
pub mod coverage;
pub mod device;
pub mod mail;
pub mod many;
pub mod minimise;
mod moving;
pub mod net;
pub mod node;
mod panics;
pub mod plan;
pub mod wall;
pub mod world;

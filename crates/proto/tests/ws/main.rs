//! The WebSocket core from outside: bytes in, events and bytes out.

mod autobahn;
mod client;
mod closing;
mod compression;
mod memory;
mod misdeeds;
mod properties;
mod support;

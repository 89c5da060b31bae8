//! The client against the real server, and against one that misbehaves by script.

// In a test a panic is the failure.
#![allow(clippy::unwrap_used)]

mod connecting;
mod conversation;
mod ending;
mod fake;
mod middlebox;
mod misbehaviour;
mod presence;
mod publishing;
mod real;
mod requests;
mod resuming;
mod slow;
mod subscribing;
mod tokens;
mod transports;
mod vectors;

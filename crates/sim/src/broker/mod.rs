//! Brokers whose world does not exist.

pub mod bugged;
pub mod disk;
pub mod shared;

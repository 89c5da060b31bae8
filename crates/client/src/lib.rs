//! The Rust client of Switchboard.

//! The Switchboard server: the `switchboard` command and what it runs.
//!
//! [`config`] says what an operator may change, [`cli`] what a person may type.

pub mod cli;
pub mod config;
pub mod open_files;

//! `switchboard bench` from outside: the real program, against servers that do as a test says.
//!
//! An instrument is believed when it shows what is there. So each test puts something there that it knows (a delay, a
//! loss, a stall, a price) and looks whether the program says so.
//!
//! | | |
//! |---|---|
//! | [`truth`] | servers that are slow, lose, repeat, swap or hang up: the figures and the faults |
//! | [`spawned`] | every scenario with `--spawn`; more connections than one process may hold |
//! | [`price`] | the CPU that is charged is the CPU that the kernel counted |
//! | [`words`] | another server's protocol, by templates |
//! | [`refusals`] | what cannot be done is said |
//! | [`ends`] | Ctrl-C, SIGKILL, and who is left |
//!
//! [`call`] runs the program, [`scripted`] the servers, [`kernel`] looks at processes. Latencies are compared with lower
//! bounds only, which a server's sleep has made; how quick a machine is, nothing depends on.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod call;
mod ends;
mod kernel;
mod price;
mod refusals;
mod scripted;
mod spawned;
mod truth;
mod words;

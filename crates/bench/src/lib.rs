//! `switchboard bench`: what a WebSocket server costs, beside a bare one.
//!
//! ```text
//!  coordinator ── control (lines of JSON on pipes) ──► workers (processes that hold connections) ──► server under test
//!      │  └────── charge: /proc/PID/task/*/schedstat, resident memory ─────────────────────────────►   and reference
//!      └─► report: table, JSON
//! ```

pub mod api;
pub mod bars;
pub mod charge;
pub mod cli;
pub mod contestant;
pub mod control;
pub mod coordinator;
pub mod listener;
pub mod observer;
pub mod peers;
pub mod ports;
pub mod process;
pub mod reference;
pub mod report;
pub mod scenario;
pub mod sources;
pub mod stamp;
pub mod target;
pub mod worker;

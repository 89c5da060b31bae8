//! Channel logs, subscriptions and fan-out lists of Switchboard, without I/O.
//!
//! Every shard (a thread) owns two machines: a [`home::Home`] for the channels whose home it is, and an
//! [`audience::Audience`] of its own sessions. Between them lie the mailboxes of the shards, between a home and its logs lies
//! a broker; both belong to the shell.
//!
//! ```text
//!       shard 1                         shard 2, home of `room:42`
//!   ┌──────────────┐   publish        ┌────────────────────────────────────────┐
//!   │ sessions ────┼─ subscribe ──────┼─► Home ──Request──► broker: Logs, or … │
//!   │    ▲         │   leave, history │     │  ◄─Completion─  (append, read,   │
//!   │    │         │                  │     │                  watch)          │
//!   │ Audience ◄───┼─ Reply ──────────┼─────┤                                  │
//!   │  who of us   │   Deliver, Head  │     │  once per interested shard       │
//!   │  gets it     │                  │     └──────────────► Audience of shard 2
//!   └──────────────┘                  └────────────────────────────────────────┘
//! ```
//!
//! A message is appended to the channel's [`log::Log`], comes back to the home through its watch, leaves as one `Deliver` per
//! interested shard, and each shard's audience says who of its sessions gets it. On this way it may be refused by a full
//! mailbox or a full outbox, or dropped by a broker; its offset tells. Whoever misses something is told exactly what
//! ([`audience::Break`]); nothing is lost, repeated or reordered in silence.
//!
//! **The calling contract of all machines: pass in what happened (`handle_*`, or a method named after it), then take what is
//! to be done (`poll_*`, or the returned value) before the next turn. Time ([`Time`](switchboard_proto::time::Time)) and seeds
//! are parameters. Values that must not be dropped say so.** Each machine's own contract stands in its module:
//! [`home`], [`audience`], [`logs`], and for brokers [`broker`].
//!
//! Reading order: [`log`] (what a position is worth), [`broker`] (what is asked of a log), [`logs`] (the embedded broker),
//! [`home`], [`audience`], [`presence`]. [`settings`] and [`limits`] as they come up. `model` (feature `model`, and in tests) drives all of
//! it with arbitrary operations.
//!
//! It is not a server: it knows no sockets, transports, encodings, tokens or mailboxes, reads no clock and draws no random
//! numbers. Patterns are still to come.

pub mod audience;
pub mod broker;
pub mod home;
pub mod limits;
pub mod log;
pub mod logs;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod presence;
pub mod settings;

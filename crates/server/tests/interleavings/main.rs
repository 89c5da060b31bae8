//! What crosses threads, in every order in which threads can do it, also where a processor shows one thread's writes to another late
//! ([loom](https://docs.rs/loom)).
//!
//! The files that are tested are the server's own: they are compiled here once more, and find under the names that they take from
//! their parent (`sync`, `mpsc`) loom's types in the place of the standard library's and tokio's. Nothing in the server is switched.
//!
//! | | |
//! |---|---|
//! | `mail` | the mailboxes of shards: room for answers, refusals, a shard that has stopped, a stop that finds its way in |
//! | `disk` | the thread that writes: calls of the homes, refusals, syncs |
//! | `queues` | what stands in for the queues between them |
//!
//! What the queues themselves promise (first in, first out) is tested with threads of the system, in `shard::mail`.
//!
//! Threads are interrupted at most [`PREEMPTIONS_MAX`] times in one order. `LOOM_MAX_PREEMPTIONS=4` goes further.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod disk;
mod mail;
mod queues;

/// How often threads are interrupted where they need not wait. With each the orders grow about tenfold.
const PREEMPTIONS_MAX: usize = 3;

/// Runs `test` in every order of its threads.
fn in_every_order(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
    builder.check(test);
}

//! Brokers: where logs live.
//!
//! A home hands its requests to its broker and goes on; completions come back into the home's mailbox, at once or much
//! later, perhaps failed. What a broker must keep is written at [`switchboard_hub::broker`]. To add one: a file with an
//! implementation of [`Broker`] and a line where the URL of `--broker` is read.

pub mod disk;
pub mod memory;

use std::collections::VecDeque;
use std::sync::Arc;

use switchboard_hub::broker::{Completion, Request};
use switchboard_hub::home::ShardId;
use switchboard_hub::settings::Namespaces;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::time::Time;

use crate::clock::Clock;
use crate::shard::mail::Post;

/// The broker of one home. Lives on its shard's thread and must not block it: whatever takes time happens elsewhere and
/// comes back through [`Seat::complete`].
pub trait Broker {
    /// Takes a request. What completes at once is appended to `completions`; anything else comes later through the seat.
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    );

    /// Called whenever the shard has a turn, and soon after [`Seat::look`]. What has completed meanwhile is appended to
    /// `completions`. Costs next to nothing where there is nothing.
    fn poll(&mut self, _now: Time, _clock: &Clock, _completions: &mut VecDeque<Completion>) {}

    /// Called about every 500 ms, for work by time. Must be short.
    fn handle_timeout(&mut self, _now: Time) {}
}

/// Where a broker sits: what it gets from its home when it is made.
#[derive(Clone)]
pub struct Seat {
    /// Whose broker it is.
    pub shard: ShardId,
    /// Settings of the channels.
    pub namespaces: Arc<Namespaces>,
    /// Channels that this home may have.
    pub channels_max: usize,
    /// Random and independent; different for every home and every start.
    pub seeds: [u64; 2],
    /// When it was made.
    pub now: Time,
    pub(crate) post: Post,
}

impl Seat {
    /// Hands in a completion from another thread or task; waits while many are under way.
    pub async fn complete(&self, completion: Completion) {
        self.post.complete(self.shard, completion).await;
    }

    /// Has the home look at its broker ([`Broker::poll`]) soon. From any thread; never waits.
    pub fn look(&self) {
        self.post.look(self.shard);
    }

    /// Whether this is the home of a channel.
    pub fn is_home_of(&self, channel: &ChannelName) -> bool {
        self.post.home(channel) == self.shard
    }
}

/// Makes the broker of each home, on the home's own thread.
pub type Factory = Arc<dyn Fn(Seat) -> Box<dyn Broker> + Send + Sync>;

//! What a server is made of, apart from its threads and its listeners: the settings that its shards share, and each shard with its
//! door. [`server`](crate::server) runs one on the machine's cores.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use switchboard_hub::home::ShardId;
use switchboard_hub::presence::{Listing, Settings as PresenceSettings};
use switchboard_hub::settings::{self as hub_settings, LogSettings, Namespaces};
use switchboard_proto::session::resume::ResumeKey;
use switchboard_proto::session::server::Settings;
use tokio::sync::watch;

use crate::broker::Factory;
use crate::clock::Clock;
use crate::config::{ChannelSettings, Config, OnLag};
use crate::http::site::Site;
use crate::http::{Door, Limits};
use crate::shard::mail::{Mailbox, Post};
use crate::shard::{Parts, Shard};
use crate::stats::{AllStats, ShardStats};

/// What a node needs beside its settings.
pub struct Materials {
    /// The process's open-file limit.
    pub open_files: u64,
    /// How many shards.
    pub shards: usize,
    /// Theirs.
    pub clock: Clock,
    /// What sessions are resumed with.
    pub resume_key: ResumeKey,
    /// Makes the broker of each home.
    pub broker: Factory,
    /// Random: decides which shard is a channel's home.
    pub seed: u64,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Node {
    config: Arc<Config>,
    settings: Arc<Settings>,
    namespaces: Arc<Namespaces>,
    limits: Limits,
    clock: Clock,
    broker: Factory,
    post: Post,
    stats: AllStats,
    /// Connections of all shards.
    open: Arc<AtomicUsize>,
}

impl Node {
    /// A node, and the mailbox of each of its shards.
    pub fn new(config: &Config, materials: Materials) -> (Node, Vec<Mailbox>) {
        let Materials {
            open_files,
            shards,
            clock,
            resume_key,
            broker,
            seed,
        } = materials;
        let (post, mailboxes) = Post::new(shards, config.limits.mailbox_messages_max, seed);
        let node = Node {
            settings: Arc::new(session_settings(config, resume_key)),
            namespaces: Arc::new(namespaces(config)),
            limits: Limits {
                head_bytes_max: config.limits.http_head_bytes_max,
                headers_max: config.limits.http_headers_max,
                head_deadline: config.limits.http_head_deadline,
                body_bytes_max: config.limits.http_body_bytes_max,
                body_deadline: config.limits.http_body_deadline,
                write_stall: config.limits.session.write_stall,
                linger: config.limits.session.linger,
                connections_max: config.connections_max(open_files),
            },
            config: Arc::new(config.clone()),
            clock,
            broker,
            post,
            stats: (0..shards).map(|_| Arc::new(ShardStats::default())).collect(),
            open: Arc::default(),
        };
        (node, mailboxes)
    }

    /// Makes a shard on this thread, and the task that handles its mail. `stop` says that the server stops; `seed` is random.
    pub fn open(
        &self,
        id: ShardId,
        mailbox: Mailbox,
        seed: [u8; 32],
        stop: watch::Receiver<bool>,
    ) -> (Rc<Door>, impl Future<Output = ()> + use<>) {
        let parts = Parts {
            id,
            clock: self.clock,
            mailbox,
            post: self.post.clone(),
            settings: self.settings.clone(),
            namespaces: self.namespaces.clone(),
            channels_max: self.config.limits.channels_max.div_ceil(self.post.shards()),
            replays_max: self.config.limits.replays_max,
            presence: presence(&self.config),
            broker: self.broker.clone(),
            stats: self.stats[usize::from(id.0)].clone(),
            seed,
        };
        let (shard, mail) = Shard::new(parts);
        let door = Door {
            shard,
            site: Site::new(&self.config),
            limits: self.limits.clone(),
            clock: self.clock,
            stop,
            visits: Cell::default(),
            open: self.open.clone(),
        };
        (Rc::new(door), mail)
    }

    /// The mailboxes of all shards.
    pub fn post(&self) -> Post {
        self.post.clone()
    }

    /// The counters of all shards.
    pub fn stats(&self) -> AllStats {
        self.stats.clone()
    }

    /// For so long a server that stops waits for its peers.
    pub fn drain_deadline(&self) -> Duration {
        self.config.server.drain_deadline
    }
}

fn presence(config: &Config) -> PresenceSettings {
    PresenceSettings {
        grace: config.limits.presence_grace,
        listing: Listing {
            members_max: config.limits.presence_listed_max,
            // Beside half an outbox it fits.
            bytes_max: config.limits.session.outbox_bytes_max / 2,
        },
    }
}

fn session_settings(config: &Config, resume_key: ResumeKey) -> Settings {
    Settings {
        resume_key,
        limits: config.limits.session.clone(),
        anonymous: config.anonymous_allowed(),
        compress_bytes_min: config.compression.bytes_min,
        compression_level: u8::try_from(config.compression.level).unwrap_or(9),
    }
}

/// The settings of channels, as homes want them.
pub fn namespaces(config: &Config) -> Namespaces {
    Namespaces {
        default: channel_settings(&config.channels),
        by_name: config
            .namespaces
            .iter()
            .map(|(name, settings)| (name.as_str().into(), channel_settings(settings)))
            .collect(),
    }
}

fn channel_settings(settings: &ChannelSettings) -> hub_settings::ChannelSettings {
    hub_settings::ChannelSettings {
        log: LogSettings {
            messages_max: settings.log_messages_max,
            bytes_max: settings.log_bytes_max,
            age_max: settings.log_age_max,
        },
        on_lag: match settings.on_lag {
            OnLag::Auto if settings.log_messages_max == 0 => hub_settings::OnLag::Drop,
            OnLag::Auto | OnLag::Resync => hub_settings::OnLag::Resync,
            OnLag::Latest => hub_settings::OnLag::Latest,
            OnLag::Drop => hub_settings::OnLag::Drop,
            OnLag::Disconnect => hub_settings::OnLag::Disconnect,
        },
    }
}

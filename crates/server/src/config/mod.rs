//! Settings: what an operator may change, where each came from, and what is wrong with what was written.
//!
//! [`table`] describes every setting once: section, key, default, allowed values, meaning, place in [`Config`]. The
//! defaults, the parser of files, the names of environment variables, the help of flags and the printed default file
//! all derive from it; to add a setting, add its line there and its field here.
//!
//! ```text
//! defaults  <  TOML file  <  SWITCHBOARD_SECTION__KEY  <  flags   ──► load ──► Config, or every problem at once
//! ```
//!
//! Reading order: this file, [`table`], [`field`] (one value), [`load`] (all of them), [`check`] (values that
//! contradict each other), [`problem`] (how it is said), [`mod@print`].

pub mod check;
pub mod field;
pub mod load;
mod origin;
pub mod print;
pub mod problem;
mod suggest;
pub mod table;
mod units;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::limits::SessionLimits;

pub use self::check::{Refusal, Warning};
pub use self::load::{Loaded, Sources};
pub use self::origin::{BadOrigin, Origin};
pub use self::problem::{ConfigError, Place, Problem};

/// The value of a count or a size that has no limit. Settings spell it `"unlimited"`.
pub const UNLIMITED: usize = usize::MAX;

/// A value, or the server's own choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auto<T> {
    /// The server decides; the setting says how.
    Auto,
    /// The operator decided.
    Fixed(T),
}

/// Every setting, checked. [`Config::default`] is what the server does without any configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[listen]`
    pub listen: ListenSettings,
    /// `[server]`
    pub server: ServerSettings,
    /// `[auth]`
    pub auth: AuthSettings,
    /// `[origins]`
    pub origins: OriginSettings,
    /// `[development]`
    pub development: DevelopmentSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[data]`
    pub data: DataSettings,
    /// `[compression]`
    pub compression: CompressionSettings,
    /// `[channels]`: channels of every namespace that has no section of its own.
    pub channels: ChannelSettings,
    /// `[namespaces.NAME]`, what is not set there taken from `[channels]`.
    pub namespaces: BTreeMap<String, ChannelSettings>,
    /// `[log]`
    pub log: LogSettings,
}

/// Where the server listens. Port 0 takes a free one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenSettings {
    /// For clients: WebSocket, and the playground in development mode.
    pub public: SocketAddr,
    /// For the application backend and its operators. Nothing there asks who calls.
    pub internal: SocketAddr,
}

/// The process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSettings {
    /// Threads that own connections and channels; [`Config::shards`] resolves it.
    pub shards: Auto<usize>,
    /// From SIGTERM to the end, at most.
    pub drain_deadline: Duration,
}

/// Who may connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthSettings {
    /// Sessions without a user; [`Config::anonymous_allowed`] resolves it.
    pub anonymous: Auto<bool>,
}

/// Which web pages may connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginSettings {
    /// The origins of these pages; [`Config::origin_allowed`] asks it.
    pub allow: Vec<Origin>,
}

/// What makes the first minute easy and is off in production.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DevelopmentSettings {
    /// `/echo`; [`Config::echo_enabled`] resolves it.
    pub echo: Auto<bool>,
    /// The playground at `/`; [`Config::playground_enabled`] resolves it.
    pub playground: Auto<bool>,
}

/// What peers may cost.
#[derive(Clone, PartialEq, Debug)]
pub struct LimitSettings {
    /// Largest head of an HTTP request, in bytes. Beyond: 431.
    pub http_head_bytes_max: usize,
    /// Most headers of an HTTP request. Beyond: 431.
    pub http_headers_max: usize,
    /// Time for the whole head of an HTTP request. Beyond: 408.
    pub http_head_deadline: Duration,
    /// Largest body of a client's HTTP request, in bytes. Beyond: 413.
    pub http_body_bytes_max: usize,
    /// Time for the whole body of a client's HTTP request. Beyond: 408.
    pub http_body_deadline: Duration,
    /// Time for which a poll is held while there is nothing to answer it with.
    pub poll_wait_max: Duration,
    /// Connections of this process; [`Config::connections_max`] resolves it.
    pub connections_max: Auto<usize>,
    /// What one session may cost.
    pub session: SessionLimits,
    /// Bytes of one connection that the kernel takes and has not sent yet, or [`UNLIMITED`]. Beyond: they wait in the session's outbox.
    pub unsent_bytes_max: usize,
    /// Messages that wait for a shard. Beyond: the publisher gets `overloaded`, a subscriber falls behind.
    pub mailbox_messages_max: usize,
    /// Pages of logs that subscribers of this process who are behind may read at once. Beyond: they wait.
    pub replays_max: usize,
    /// How long somebody whose connections have vanished still counts as being in its channels.
    pub presence_grace: Duration,
    /// Members up to which all are listed and announced. Beyond: counts, and pages on demand.
    pub presence_listed_max: usize,
    /// Channels of this process at once, or [`UNLIMITED`]. Beyond: `too_many_channels`.
    pub channels_max: usize,
}

/// What outlives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataSettings {
    /// Where logs are kept. `None`: in memory only.
    pub dir: Option<PathBuf>,
    /// When what is written there is safe from a power failure.
    pub fsync: Fsync,
    /// With [`Fsync::Interval`], how long it may take.
    pub fsync_interval: Duration,
}

/// When what is written is safe from a power failure. The end of the process alone never costs anything.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before anybody hears of it.
    Always,
    /// Within an interval.
    Interval,
    /// When the system likes.
    Never,
}

/// permessage-deflate (RFC 7692).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompressionSettings {
    /// Whether an offer of the client is accepted.
    pub enabled: bool,
    /// 1 (fast) to 9 (small).
    pub level: usize,
    /// Smaller messages are sent as they are.
    pub bytes_min: usize,
}

/// One channel's log, and what happens to a subscriber who does not keep up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelSettings {
    /// Most messages kept: 0 keeps nothing (an ephemeral channel), or [`UNLIMITED`].
    pub log_messages_max: usize,
    /// Most bytes of payload kept, or [`UNLIMITED`].
    pub log_bytes_max: usize,
    /// Longest time that a message is kept, or [`Duration::MAX`].
    pub log_age_max: Duration,
    /// What happens when a subscriber's outbox is full.
    pub on_lag: OnLag,
}

/// What happens when a subscriber's outbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLag {
    /// [`OnLag::Resync`] where there is a log, [`OnLag::Drop`] where there is none.
    Auto,
    /// What did not fit is read from the log as the outbox drains.
    Resync,
    /// Of what did not fit, the newest message of each conflation key is read from the log.
    Latest,
    /// What does not fit is left out, and a `gap` says so.
    Drop,
    /// The session is closed.
    Disconnect,
}

/// The server's own log, on standard error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is written.
    pub level: LogLevel,
}

/// How a line of the server's log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text for a terminal, JSON for anything else.
    Auto,
    /// A line to read.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important events that are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// The server could not do what it promised.
    Error,
    /// Something that an operator should look at.
    Warn,
    /// Start, stop, and what changes rarely.
    Info,
    /// What happens to each connection.
    Debug,
    /// What happens to each frame.
    Trace,
}

impl Config {
    /// Whether this is development mode: no token authentication is configured (there is none yet), and the public
    /// listener is reached from this machine alone.
    pub fn is_development(&self) -> bool {
        self.listen.public.ip().is_loopback()
    }

    /// Whether a session needs no user.
    pub fn anonymous_allowed(&self) -> bool {
        self.in_development_unless(self.auth.anonymous)
    }

    /// Whether `/echo` exists.
    pub fn echo_enabled(&self) -> bool {
        self.in_development_unless(self.development.echo)
    }

    /// Whether the playground exists.
    pub fn playground_enabled(&self) -> bool {
        self.in_development_unless(self.development.playground)
    }

    /// Whether a page of this origin may connect; `origin` is the value of the `Origin` header
    /// ([RFC 6454 section 7](https://www.rfc-editor.org/rfc/rfc6454#section-7)). In development mode pages of this
    /// machine may, whatever their port.
    pub fn origin_allowed(&self, origin: &str) -> bool {
        let Ok(origin) = Origin::parse(origin) else {
            return false;
        };
        self.origins.allow.contains(&origin) || self.is_development() && origin.is_loopback()
    }

    /// Whether a request that names no origin may be for this `Host`, where the listener is at `listener`.
    ///
    /// A page may be of the same origin as its request, and then a browser need not say which that is. Its owner may have changed
    /// where the name leads since it was loaded (DNS rebinding), to this machine, too. So in development mode, where nothing stands
    /// between the browsers of this machine and the server, the host is `localhost`, an address, or one whose pages may connect.
    pub fn host_allowed(&self, host: &str, listener: SocketAddr) -> bool {
        let is_open = !self.is_development() || !listener.ip().is_loopback();
        let is_known = |scheme| {
            let origin = format!("{scheme}://{host}");
            Origin::parse(&origin).is_ok_and(|origin| origin.is_address()) || self.origin_allowed(&origin)
        };
        is_open || is_known("http") || is_known("https")
    }

    /// How many shards, on a machine with `cores` cores.
    pub fn shards(&self, cores: usize) -> usize {
        match self.server.shards {
            Auto::Auto => cores.clamp(1, table::SHARDS_MAX),
            Auto::Fixed(shards) => shards,
        }
    }

    /// How many connections, where the process may open `open_files` files: a tenth is left for listeners, logs and
    /// brokers. Never 0; [`UNLIMITED`] if the operator said so.
    pub fn connections_max(&self, open_files: u64) -> usize {
        match self.limits.connections_max {
            Auto::Auto => usize::try_from(open_files / 10 * 9).unwrap_or(UNLIMITED).max(1),
            Auto::Fixed(connections) => connections,
        }
    }

    /// The settings of one channel: those of its namespace, if it has a section.
    pub fn channel_settings(&self, channel: &ChannelName) -> &ChannelSettings {
        self.namespaces.get(channel.namespace()).unwrap_or(&self.channels)
    }

    fn in_development_unless(&self, setting: Auto<bool>) -> bool {
        match setting {
            Auto::Auto => self.is_development(),
            Auto::Fixed(value) => value,
        }
    }

    /// A value of the right shape whose every setting is still to be written from the table.
    fn unset() -> Config {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Config {
            listen: ListenSettings {
                public: nowhere,
                internal: nowhere,
            },
            server: ServerSettings {
                shards: Auto::Auto,
                drain_deadline: Duration::ZERO,
            },
            auth: AuthSettings {
                anonymous: Auto::Auto,
            },
            origins: OriginSettings { allow: Vec::new() },
            development: DevelopmentSettings {
                echo: Auto::Auto,
                playground: Auto::Auto,
            },
            limits: LimitSettings {
                http_head_bytes_max: 0,
                http_headers_max: 0,
                http_head_deadline: Duration::ZERO,
                http_body_bytes_max: 0,
                http_body_deadline: Duration::ZERO,
                poll_wait_max: Duration::ZERO,
                connections_max: Auto::Auto,
                session: SessionLimits::default(),
                unsent_bytes_max: 0,
                mailbox_messages_max: 0,
                replays_max: 0,
                presence_grace: Duration::ZERO,
                presence_listed_max: 0,
                channels_max: 0,
            },
            data: DataSettings {
                dir: None,
                fsync: Fsync::Interval,
                fsync_interval: Duration::ZERO,
            },
            compression: CompressionSettings {
                enabled: false,
                level: 0,
                bytes_min: 0,
            },
            channels: ChannelSettings {
                log_messages_max: 0,
                log_bytes_max: 0,
                log_age_max: Duration::ZERO,
                on_lag: OnLag::Auto,
            },
            namespaces: BTreeMap::new(),
            log: LogSettings {
                format: LogFormat::Auto,
                level: LogLevel::Info,
            },
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        let mut config = Config::unset();
        for setting in table::SETTINGS {
            setting.set_default(&mut config);
        }
        for setting in table::CHANNEL_SETTINGS {
            setting.set_default(&mut config.channels);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> Config {
        let mut config = Config::default();
        config.listen.public = address.parse().unwrap();
        config
    }

    #[test]
    fn the_defaults_are_those_that_are_written_down() {
        let config = Config::default();
        assert_eq!(config.listen.public.to_string(), "127.0.0.1:8000");
        assert_eq!(config.listen.internal.to_string(), "127.0.0.1:8001");
        assert_eq!(config.server.drain_deadline, Duration::from_secs(10));
        assert_eq!(config.limits.http_head_bytes_max, 16 * 1024);
        assert_eq!(config.limits.http_headers_max, 64);
        assert_eq!(config.limits.http_head_deadline, Duration::from_secs(5));
        assert_eq!(config.limits.http_body_bytes_max, 256 * 1024);
        assert_eq!(config.limits.http_body_deadline, Duration::from_secs(30));
        assert_eq!(config.limits.poll_wait_max, Duration::from_secs(30));
        assert_eq!(config.limits.unsent_bytes_max, 128 * 1024);
        assert_eq!(config.limits.mailbox_messages_max, 16_384);
        assert_eq!(config.limits.replays_max, 64);
        assert_eq!(config.limits.presence_grace, Duration::from_secs(10));
        assert_eq!(config.limits.presence_listed_max, 1_000);
        assert_eq!(config.compression.level, 1);
        assert_eq!(
            config.channels,
            ChannelSettings {
                log_messages_max: 1_000,
                log_bytes_max: 1024 * 1024,
                log_age_max: Duration::from_secs(300),
                on_lag: OnLag::Auto,
            }
        );
    }

    #[test]
    fn the_session_limits_of_the_table_are_those_of_the_protocol() {
        assert_eq!(Config::default().limits.session, SessionLimits::default());
    }

    #[test]
    fn development_mode_is_a_loopback_listener() {
        for (address, development) in [
            ("127.0.0.1:8000", true),
            ("127.9.9.9:1", true),
            ("[::1]:8000", true),
            ("0.0.0.0:8000", false),
            ("192.0.2.1:8000", false),
        ] {
            let config = public(address);
            assert_eq!(config.is_development(), development, "{address}");
            assert_eq!(config.anonymous_allowed(), development, "{address}");
            assert_eq!(config.echo_enabled(), development, "{address}");
            assert_eq!(config.playground_enabled(), development, "{address}");
            assert_eq!(
                config.origin_allowed("http://localhost:3000"),
                development,
                "{address}"
            );
        }
    }

    #[test]
    fn origins_are_those_listed_and_in_development_those_of_this_machine() {
        let mut config = public("192.0.2.1:8000");
        config.origins.allow = vec![Origin::parse("https://chat.example").unwrap()];
        assert!(config.origin_allowed("https://chat.example"));
        assert!(config.origin_allowed("HTTPS://Chat.Example:443"));
        assert!(!config.origin_allowed("http://chat.example"));
        assert!(!config.origin_allowed("https://chat.example.evil.example"));
        assert!(!config.origin_allowed("null"));
        assert!(!config.origin_allowed("http://127.0.0.1:8000"));

        let config = Config::default();
        assert!(config.origin_allowed("http://127.0.0.1:8000"));
        assert!(config.origin_allowed("http://[::1]:5173"));
        assert!(!config.origin_allowed("http://localhost.evil.example"));
        assert!(!config.origin_allowed("http://127.0.0.1.evil.example"));
    }

    #[test]
    fn in_development_a_host_is_this_machine_an_address_or_listed() {
        let check = |config: &Config, host: &str, allowed: bool| {
            assert_eq!(
                config.host_allowed(host, config.listen.internal),
                allowed,
                "{host}"
            );
        };
        let mut config = Config::default();
        config.origins.allow = vec![Origin::parse("https://chat.example").unwrap()];
        for host in [
            "localhost",
            "localhost:8000",
            "LocalHost:8000",
            "app.localhost",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]:8000",
            "192.0.2.1:8000",
            "chat.example",
        ] {
            check(&config, host, true);
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8000",
            "chat.example:8000",
            "localhost/",
        ] {
            check(&config, host, false);
        }
        check(&public("192.0.2.1:8000"), "evil.example", true);
        config.listen.internal = "192.0.2.1:8001".parse().unwrap();
        check(&config, "switchboard:8001", true);
    }

    #[test]
    fn a_tenth_of_the_open_files_is_not_for_connections() {
        let mut config = Config::default();
        assert_eq!(config.connections_max(20_000), 18_000);
        assert_eq!(config.connections_max(3), 1);
        config.limits.connections_max = Auto::Fixed(50);
        assert_eq!(config.connections_max(20_000), 50);
    }

    #[test]
    fn a_namespace_has_its_own_channel_settings() {
        let mut config = Config::default();
        let quiet = ChannelSettings {
            log_messages_max: 0,
            ..config.channels.clone()
        };
        config.namespaces.insert("typing".to_owned(), quiet);
        let kept = |name: &str| {
            let name = ChannelName::parse(name).unwrap();
            config.channel_settings(&name).log_messages_max
        };
        assert_eq!(
            [kept("typing:7"), kept("room:7"), kept("typing")],
            [0, 1_000, 1_000]
        );
    }
}

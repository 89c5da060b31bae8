//! Every setting, once. Defaults, parsing, names of variables, help and the printed default file derive from here.

use switchboard_proto::limits::HISTORY_BYTES_MAX;

use super::field::{BadValue, Bounds, Field, Written};
use super::{ChannelSettings, Config};

/// What every environment variable of a setting begins with.
pub const VARIABLE_PREFIX: &str = "SWITCHBOARD_";

/// The section of one namespace's channels is `[namespaces.NAME]`.
pub const NAMESPACES: &str = "namespaces";

/// Most shards of one process.
pub const SHARDS_MAX: usize = 256;

/// One setting of `T`.
pub struct Setting<T: 'static> {
    /// The TOML table in which it stands.
    pub section: &'static str,
    /// Its key there.
    pub key: &'static str,
    /// What it is when nobody says anything, as a variable would say it.
    pub default: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
    /// What it does, and what happens at the bound.
    pub about: &'static str,
    /// What may be written, and where it goes.
    pub field: Field<T>,
}

/// A section and what it is about.
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
}

/// The sections, in the order in which they are printed.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "listen",
        about: "Where the server listens.",
    },
    Section {
        name: "server",
        about: "The process.",
    },
    Section {
        name: "auth",
        about: "Who may connect.",
    },
    Section {
        name: "origins",
        about: "Which web pages may connect.",
    },
    Section {
        name: "development",
        about: "What makes the first minute easy; \"auto\" is on in development mode alone.",
    },
    Section {
        name: "limits",
        about: "What peers may cost. 0 is refused; where no limit is possible, it is spelled \"unlimited\".",
    },
    Section {
        name: "data",
        about: "What outlives the process: logs, positions and idempotency keys, in files.",
    },
    Section {
        name: "compression",
        about: "permessage-deflate (RFC 7692).",
    },
    Section {
        name: "channels",
        about: "Each channel's log of recent messages. [namespaces.NAME] takes the same keys for the channels NAME:….",
    },
    Section {
        name: "log",
        about: "The server's own log, on standard error.",
    },
];

const fn setting<T>(
    section: &'static str,
    key: &'static str,
    default: &'static str,
    field: Field<T>,
    about: &'static str,
) -> Setting<T> {
    Setting {
        section,
        key,
        default,
        flag: None,
        about,
        field,
    }
}

const fn with_flag<T>(flag: &'static str, setting: Setting<T>) -> Setting<T> {
    Setting {
        flag: Some(flag),
        ..setting
    }
}

impl<T> Setting<T> {
    /// `section.key`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        let upper = |name: &str| name.to_ascii_uppercase();
        format!("{VARIABLE_PREFIX}{}__{}", upper(self.section), upper(self.key))
    }

    /// Writes the default into `target`.
    pub(super) fn set_default(&self, target: &mut T) {
        let read: Result<(), BadValue> = self.field.read(target, &Written::Plain(self.default.to_owned()));
        debug_assert_eq!(read, Ok(()), "{}", self.path());
    }
}

/// The setting of this path that is not one of channels.
pub fn find(section: &str, key: &str) -> Option<&'static Setting<Config>> {
    SETTINGS
        .iter()
        .find(|setting| setting.section == section && setting.key == key)
}

/// The setting of channels with this key.
pub fn find_channel(key: &str) -> Option<&'static Setting<ChannelSettings>> {
    CHANNEL_SETTINGS.iter().find(|setting| setting.key == key)
}

/// The keys of a section, those of a namespace being those of `channels`.
pub fn keys_of(section: &str) -> Vec<&'static str> {
    let section = if section == NAMESPACES {
        "channels"
    } else {
        section
    };
    let own = SETTINGS
        .iter()
        .filter(|setting| setting.section == section)
        .map(|setting| setting.key);
    let of_channels = CHANNEL_SETTINGS
        .iter()
        .filter(|setting| setting.section == section)
        .map(|setting| setting.key);
    own.chain(of_channels).collect()
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A deadline: long enough to be met, short enough to be one.
const DEADLINE: Bounds = Bounds::new(10 * MILLISECOND, HOUR);

/// Every setting but those of channels.
pub static SETTINGS: &[Setting<Config>] = &[
    with_flag(
        "--listen",
        setting(
            "listen",
            "public",
            "127.0.0.1:8000",
            Field::Address(|c| &mut c.listen.public),
            "Address for clients. On a loopback address the server is in development mode; any other is refused until \
         it is settled who may connect ([auth]).",
        ),
    ),
    with_flag(
        "--internal-listen",
        setting(
            "listen",
            "internal",
            "127.0.0.1:8001",
            Field::Address(|c| &mut c.listen.internal),
            "Address for your backend: API, health and metrics. Nothing there asks who calls; keep it out of reach.",
        ),
    ),
    with_flag(
        "--shards",
        setting(
            "server",
            "shards",
            "auto",
            Field::CountOrAuto(|c| &mut c.server.shards, Bounds::new(1, SHARDS_MAX as u64)),
            "Threads that own connections and channels; \"auto\" is one per core.",
        ),
    ),
    setting(
        "server",
        "drain_deadline",
        "10s",
        Field::Duration(|c| &mut c.server.drain_deadline, DEADLINE),
        "From SIGTERM to the end, at most; whoever is still connected then is cut off.",
    ),
    setting(
        "auth",
        "anonymous",
        "auto",
        Field::SwitchOrAuto(|c| &mut c.auth.anonymous),
        "Whether a session needs no user; \"auto\" allows it in development mode alone.",
    ),
    setting(
        "origins",
        "allow",
        "",
        Field::Origins(|c| &mut c.origins.allow),
        "Origins of the web pages that may connect, written out: \"https://chat.example\". Development mode allows \
         pages of this machine besides. Any other page gets 403; programs send no origin.",
    ),
    setting(
        "development",
        "echo",
        "auto",
        Field::SwitchOrAuto(|c| &mut c.development.echo),
        "/echo, which returns every message it gets.",
    ),
    setting(
        "development",
        "playground",
        "auto",
        Field::SwitchOrAuto(|c| &mut c.development.playground),
        "The playground at /.",
    ),
    setting(
        "limits",
        "message_bytes_max",
        "64KiB",
        Field::Bytes(
            |c| &mut c.limits.session.message_bytes_max,
            Bounds::new(KIB, 64 * MIB),
        ),
        "Largest message of a client, before and after inflating. Beyond: close 1009.",
    ),
    setting(
        "limits",
        "http_head_bytes_max",
        "16KiB",
        Field::Bytes(|c| &mut c.limits.http_head_bytes_max, Bounds::new(KIB, MIB)),
        "Largest head of an HTTP request. Beyond: 431.",
    ),
    setting(
        "limits",
        "http_headers_max",
        "64",
        Field::Count(|c| &mut c.limits.http_headers_max, Bounds::new(8, 1_024)),
        "Most headers of an HTTP request. Beyond: 431.",
    ),
    setting(
        "limits",
        "http_head_deadline",
        "5s",
        Field::Duration(|c| &mut c.limits.http_head_deadline, DEADLINE),
        "Time for the whole head of an HTTP request. Beyond: 408.",
    ),
    setting(
        "limits",
        "http_body_bytes_max",
        "256KiB",
        Field::Bytes(|c| &mut c.limits.http_body_bytes_max, Bounds::new(KIB, 64 * MIB)),
        "Largest body of a client's HTTP request. Beyond: 413.",
    ),
    setting(
        "limits",
        "http_body_deadline",
        "30s",
        Field::Duration(|c| &mut c.limits.http_body_deadline, DEADLINE),
        "Time for the whole body of a client's HTTP request. Beyond: 408.",
    ),
    setting(
        "limits",
        "poll_wait_max",
        "30s",
        Field::Duration(|c| &mut c.limits.poll_wait_max, DEADLINE),
        "Time for which a poll is held while there is nothing to answer it with; its `wait` shortens it.",
    ),
    setting(
        "limits",
        "connections_max",
        "auto",
        Field::CountOrAuto(
            |c| &mut c.limits.connections_max,
            Bounds::new(1, 100_000_000).or_unlimited(),
        ),
        "Connections of this process; \"auto\" is 0.9 of the files that it may open. Beyond: 503.",
    ),
    setting(
        "limits",
        "ping_interval",
        "25s",
        Field::Duration(
            |c| &mut c.limits.session.ping_interval,
            Bounds::new(100 * MILLISECOND, HOUR),
        ),
        "Silence after which a session is pinged, give or take 20 %.",
    ),
    setting(
        "limits",
        "pong_timeout",
        "10s",
        Field::Duration(|c| &mut c.limits.session.pong_timeout, DEADLINE),
        "Time to answer a ping with anything at all. Beyond: the connection is terminated.",
    ),
    setting(
        "limits",
        "write_stall",
        "10s",
        Field::Duration(|c| &mut c.limits.session.write_stall, DEADLINE),
        "Time for which a socket may accept nothing while something waits for it. Beyond: terminated.",
    ),
    setting(
        "limits",
        "close_handshake",
        "5s",
        Field::Duration(|c| &mut c.limits.session.close_handshake, DEADLINE),
        "Time for the client to answer a Close. Beyond: the connection is dropped.",
    ),
    setting(
        "limits",
        "linger",
        "2s",
        Field::Duration(|c| &mut c.limits.session.linger, DEADLINE),
        "Time to read what the client had still sent after both Close frames. Beyond: dropped.",
    ),
    setting(
        "limits",
        "unfinished_message",
        "30s",
        Field::Duration(|c| &mut c.limits.session.unfinished_message, DEADLINE),
        "Time to finish a fragmented message. Beyond: close 1008.",
    ),
    setting(
        "limits",
        "outbox_bytes_max",
        "256KiB",
        Field::Bytes(
            |c| &mut c.limits.session.outbox_bytes_max,
            Bounds::new(HISTORY_BYTES_MAX as u64 + 16 * KIB, GIB),
        ),
        "Memory of what waits for one session's socket; an answer to `history` fits in. Beyond: channels.on_lag.",
    ),
    setting(
        "limits",
        "outbox_messages_max",
        "1024",
        Field::Count(
            |c| &mut c.limits.session.outbox_messages_max,
            Bounds::new(8, 1_000_000).or_unlimited(),
        ),
        "Messages that wait for one session's socket. Beyond: channels.on_lag.",
    ),
    setting(
        "limits",
        "unsent_bytes_max",
        "128KiB",
        Field::Bytes(
            |c| &mut c.limits.unsent_bytes_max,
            Bounds::new(16 * KIB, GIB).or_unlimited(),
        ),
        "Bytes of one connection that the kernel takes and cannot send yet (TCP_NOTSENT_LOWAT). Beyond: they wait in the outbox.",
    ),
    setting(
        "limits",
        "replays_max",
        "64",
        Field::Count(|c| &mut c.limits.replays_max, Bounds::new(1, 100_000)),
        "Pages of logs that subscribers who resume or fell behind read at once, all together. Beyond: they wait.",
    ),
    setting(
        "limits",
        "presence_grace",
        "10s",
        Field::Duration(|c| &mut c.limits.presence_grace, DEADLINE),
        "Time for which a member whose connection has vanished still counts as present, so that a reconnect is not seen.",
    ),
    setting(
        "limits",
        "presence_listed_max",
        "1000",
        Field::Count(|c| &mut c.limits.presence_listed_max, Bounds::new(1, 100_000)),
        "Members of a channel up to which all are listed and announced. Beyond: only how many, and pages on demand.",
    ),
    setting(
        "limits",
        "subscriptions_max",
        "128",
        Field::Count(
            |c| &mut c.limits.session.subscriptions_max,
            Bounds::new(1, 1_000_000).or_unlimited(),
        ),
        "Subscriptions of one session. Beyond: the error too_many_subscriptions.",
    ),
    setting(
        "limits",
        "commands_per_s",
        "100/s",
        Field::Rate(|c| &mut c.limits.session.commands.per_second),
        "Commands of one session. Beyond: the error rate_limited, then close 4029.",
    ),
    setting(
        "limits",
        "commands_burst",
        "200",
        Field::Burst(|c| &mut c.limits.session.commands.burst),
        "Commands that may come at once after a pause.",
    ),
    setting(
        "limits",
        "inbound_bytes_per_s",
        "256KiB/s",
        Field::ByteRate(|c| &mut c.limits.session.inbound_bytes.per_second),
        "Bytes of inbound messages of one session. Beyond: the error rate_limited, then close 4029.",
    ),
    setting(
        "limits",
        "inbound_bytes_burst",
        "512KiB",
        Field::ByteBurst(|c| &mut c.limits.session.inbound_bytes.burst),
        "Bytes of inbound messages that may come at once after a pause.",
    ),
    setting(
        "limits",
        "control_frames_per_s",
        "20/s",
        Field::Rate(|c| &mut c.limits.session.control_frames.per_second),
        "Ping and pong frames of one session. Beyond: close 1008.",
    ),
    setting(
        "limits",
        "control_frames_burst",
        "50",
        Field::Burst(|c| &mut c.limits.session.control_frames.burst),
        "Ping and pong frames that may come at once after a pause.",
    ),
    setting(
        "limits",
        "subscribes_per_s",
        "50/s",
        Field::Rate(|c| &mut c.limits.session.subscribes.per_second),
        "Subscribe commands of one session. Beyond: the error rate_limited.",
    ),
    setting(
        "limits",
        "subscribes_burst",
        "128",
        Field::Burst(|c| &mut c.limits.session.subscribes.burst),
        "Subscribe commands that may come at once after a pause.",
    ),
    setting(
        "limits",
        "inflate_ratio_max",
        "100",
        Field::Count(
            |c| &mut c.limits.session.inflate_ratio_max,
            Bounds::new(2, 1_000_000).or_unlimited(),
        ),
        "Bytes that an inflated message may have per byte received, beyond 64 KiB of them. Beyond: close 1009.",
    ),
    setting(
        "limits",
        "mailbox_messages_max",
        "16384",
        Field::Count(|c| &mut c.limits.mailbox_messages_max, Bounds::new(64, 1 << 24)),
        "Messages that wait for a shard. Beyond: the publisher gets overloaded, a subscriber falls behind.",
    ),
    setting(
        "limits",
        "channels_max",
        "100000",
        Field::Count(
            |c| &mut c.limits.channels_max,
            Bounds::new(1, 100_000_000).or_unlimited(),
        ),
        "Channels of this process at once. Beyond: the error too_many_channels.",
    ),
    with_flag(
        "--data-dir",
        setting(
            "data",
            "dir",
            "none",
            Field::Directory(|c| &mut c.data.dir),
            "Directory in which logs, positions and idempotency keys outlive the process; \"none\": they end with it.",
        ),
    ),
    setting(
        "data",
        "fsync",
        "interval",
        Field::Fsync(|c| &mut c.data.fsync),
        "When an acknowledged message is safe from a power failure: \"always\" at once, \"interval\" after \
         data.fsync_interval, \"never\" when the system likes. The end of the process costs nothing in either case.",
    ),
    setting(
        "data",
        "fsync_interval",
        "200ms",
        Field::Duration(|c| &mut c.data.fsync_interval, Bounds::new(1, 60 * SECOND)),
        "With \"interval\", the time that it may take.",
    ),
    setting(
        "compression",
        "enabled",
        "true",
        Field::Switch(|c| &mut c.compression.enabled),
        "Whether a client's offer to compress is accepted.",
    ),
    setting(
        "compression",
        "level",
        "1",
        Field::Count(|c| &mut c.compression.level, Bounds::new(1, 9)),
        "1 is fast, 9 is small.",
    ),
    setting(
        "compression",
        "bytes_min",
        "256B",
        // Below, compressing makes most messages larger; see proto's `ws::encode_shared`.
        Field::Bytes(|c| &mut c.compression.bytes_min, Bounds::new(256, 64 * MIB)),
        "Smaller messages are sent as they are.",
    ),
    setting(
        "log",
        "format",
        "auto",
        Field::LogFormat(|c| &mut c.log.format),
        "\"auto\" is text on a terminal and one JSON object a line anywhere else.",
    ),
    setting(
        "log",
        "level",
        "info",
        Field::LogLevel(|c| &mut c.log.level),
        "The least important events that are written.",
    ),
];

/// The settings of channels: those of `[channels]`, and of each `[namespaces.NAME]`.
pub static CHANNEL_SETTINGS: &[Setting<ChannelSettings>] = &[
    setting(
        "channels",
        "log_messages_max",
        "1000",
        Field::Count(
            |c| &mut c.log_messages_max,
            Bounds::new(1, 100_000_000).or_unlimited().or_none(),
        ),
        "Most messages kept; \"none\" keeps nothing, so that only who is subscribed gets them.",
    ),
    setting(
        "channels",
        "log_bytes_max",
        "1MiB",
        Field::Bytes(
            |c| &mut c.log_bytes_max,
            Bounds::new(KIB, 64 * GIB).or_unlimited(),
        ),
        "Most bytes kept.",
    ),
    setting(
        "channels",
        "log_age_max",
        "5m",
        Field::Duration(
            |c| &mut c.log_age_max,
            Bounds::new(SECOND, 365 * DAY).or_unlimited(),
        ),
        "Longest time that a message is kept.",
    ),
    setting(
        "channels",
        "on_lag",
        "auto",
        Field::OnLag(|c| &mut c.on_lag),
        "When a subscriber's outbox is full: \"resync\" reads what did not fit from the log as the outbox drains, \"latest\" \
         reads only the newest message of each conflation key, \"drop\" leaves out what does not fit and says so with a \
         gap, \"disconnect\" closes the session. \"auto\" is \"resync\", which without a log is \"drop\".",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_and_comes_back_as_it_is_written() {
        fn check<T>(setting: &Setting<T>, target: &mut T) {
            let read = setting
                .field
                .read(target, &Written::Plain(setting.default.to_owned()));
            assert_eq!(read, Ok(()), "{}", setting.path());
            let written = setting.field.write(target);
            let expected = match setting.field {
                Field::Origins(_) => "[]",
                _ => setting.default,
            };
            assert_eq!(written.trim_matches('"'), expected, "{}", setting.path());
        }
        let mut config = Config::unset();
        for setting in SETTINGS {
            check(setting, &mut config);
        }
        for setting in CHANNEL_SETTINGS {
            check(setting, &mut config.channels);
        }
    }

    #[test]
    fn every_setting_stands_once_in_a_section_that_exists() {
        let mut paths: Vec<String> = SETTINGS.iter().map(Setting::path).collect();
        paths.extend(CHANNEL_SETTINGS.iter().map(Setting::path));
        let count = paths.len();
        for path in &paths {
            let section = path.split('.').next();
            assert!(SECTIONS.iter().any(|known| Some(known.name) == section), "{path}");
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
        for section in SECTIONS {
            assert!(!keys_of(section.name).is_empty(), "{}", section.name);
        }
    }

    #[test]
    fn what_a_setting_is_about_ends_as_a_sentence() {
        for setting in SETTINGS {
            assert!(setting.about.ends_with('.'), "{}", setting.path());
        }
    }
}

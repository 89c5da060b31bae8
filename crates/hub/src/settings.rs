//! What an operator decides per namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use switchboard_proto::channel::ChannelName;

use crate::limits::{LOG_AGE_MAX_DEFAULT, LOG_BYTES_MAX_DEFAULT, LOG_MESSAGES_MAX_DEFAULT};

/// How much of a channel's recent past its log keeps. Whatever bound is reached first trims the oldest entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Messages; default 1,000. 0 makes the channel ephemeral: offsets and tags advance, nothing is kept.
    pub messages_max: usize,
    /// Bytes as [`Log::bytes`](crate::log::Log::bytes) counts them; default 1 MiB. A message above it is delivered, not kept.
    pub bytes_max: usize,
    /// How long a message is kept; default 5 min. `Duration::MAX` keeps it until another bound is reached.
    pub age_max: Duration,
}

impl LogSettings {
    /// Settings that keep nothing.
    pub const EPHEMERAL: LogSettings = LogSettings {
        messages_max: 0,
        bytes_max: 0,
        age_max: Duration::ZERO,
    };
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            messages_max: LOG_MESSAGES_MAX_DEFAULT,
            bytes_max: LOG_BYTES_MAX_DEFAULT,
            age_max: LOG_AGE_MAX_DEFAULT,
        }
    }
}

/// What happens to a subscriber whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnLag {
    /// It reads what it missed from the log as it drains, and is told only what the log does not hold any longer. The default.
    #[default]
    Resync,
    /// It reads the newest message of each conflation key from the log, and is told what was left out.
    Latest,
    /// It misses messages and is told exactly which (`gap`) as soon as it reads again.
    Drop,
    /// Its session is closed (`lagged`).
    Disconnect,
}

/// The settings of the channels of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelSettings {
    /// What their logs keep.
    pub log: LogSettings,
    /// What happens to their slow subscribers.
    pub on_lag: OnLag,
}

/// The settings of all channels.
///
/// Namespaces are the operator's words and few; a tree needs no hash that a peer's channel names could attack.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// For every namespace that is not in `by_name`.
    pub default: ChannelSettings,
    /// By [`ChannelName::namespace`]; `""` is for names without `:`.
    pub by_name: BTreeMap<Box<str>, ChannelSettings>,
}

impl Namespaces {
    /// The settings of this channel. Costs a search among the namespaces.
    pub fn settings(&self, channel: &ChannelName) -> &ChannelSettings {
        self.by_name.get(channel.namespace()).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(messages_max: usize) -> ChannelSettings {
        ChannelSettings {
            log: LogSettings {
                messages_max,
                ..LogSettings::default()
            },
            ..ChannelSettings::default()
        }
    }

    #[test]
    fn the_namespace_selects_the_settings() {
        let namespaces = Namespaces {
            default: keeping(1),
            by_name: [("room".into(), keeping(2)), ("".into(), keeping(3))].into(),
        };
        let check = |name, messages_max| {
            let channel = ChannelName::parse(name).unwrap();
            assert_eq!(
                namespaces.settings(&channel).log.messages_max,
                messages_max,
                "{name}"
            );
        };
        check("room:42", 2);
        check("lobby", 3);
        check("news:a:b", 1);
        check("roomy:1", 1);
    }
}

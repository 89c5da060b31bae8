//! Settings that are fine alone and not together.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Auto, ChannelSettings, Config, ListenSettings, UNLIMITED};

/// Why the server does not start with these settings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Whoever reaches the listener could read and write everything, and nobody has said that this is meant.
    #[error(
        "the public listener {address} can be reached from other machines, but nothing settles who may connect"
    )]
    PublicWithoutAuthentication {
        /// The public listener.
        address: SocketAddr,
    },
    /// Both listeners have the same address.
    #[error("both listeners have the address {address}")]
    SameAddress {
        /// That address.
        address: SocketAddr,
    },
    /// The largest message would break the rate of inbound bytes, whenever it comes.
    #[error(
        "a message of limits.message_bytes_max ({message}) never gets past limits.inbound_bytes_burst ({burst})"
    )]
    BurstBelowMessage {
        /// `limits.message_bytes_max`.
        message: usize,
        /// `limits.inbound_bytes_burst`.
        burst: u32,
    },
    /// The largest message would not fit into an empty outbox, whoever it is for.
    #[error("limits.outbox_bytes_max ({outbox}) is below twice limits.message_bytes_max ({message})")]
    OutboxBelowMessage {
        /// `limits.message_bytes_max`.
        message: usize,
        /// `limits.outbox_bytes_max`.
        outbox: usize,
    },
    /// A log that nothing bounds.
    #[error("nothing bounds the logs of [{section}]: messages, bytes and age are all unlimited")]
    UnboundedLog {
        /// `channels` or `namespaces.NAME`.
        section: String,
    },
}

impl Refusal {
    /// The settings that contradict each other: the first one given anywhere is where the contradiction is shown.
    pub(super) fn settings(&self) -> Vec<String> {
        let settings: &[&str] = match self {
            Refusal::PublicWithoutAuthentication { .. } => &["listen.public"],
            Refusal::SameAddress { .. } => &["listen.internal", "listen.public"],
            Refusal::BurstBelowMessage { .. } => &["limits.inbound_bytes_burst", "limits.message_bytes_max"],
            Refusal::OutboxBelowMessage { .. } => &["limits.outbox_bytes_max", "limits.message_bytes_max"],
            Refusal::UnboundedLog { section } => return vec![format!("{section}.log_bytes_max")],
        };
        settings.iter().map(|path| (*path).to_owned()).collect()
    }

    /// What to do, the best first.
    pub(super) fn ways_out(&self) -> Vec<String> {
        match self {
            Refusal::PublicWithoutAuthentication { address } => vec![
                format!(
                    "for this machine alone, which is development mode: --listen 127.0.0.1:{}",
                    address.port()
                ),
                "if everyone who reaches it may read and write every channel: [auth] anonymous = true, or \
                 SWITCHBOARD_AUTH__ANONYMOUS=true"
                    .to_owned(),
            ],
            Refusal::SameAddress { .. } => vec!["give one of them another port".to_owned()],
            Refusal::BurstBelowMessage { message, .. } => {
                vec![format!("limits.inbound_bytes_burst = {message}, or more")]
            }
            Refusal::OutboxBelowMessage { message, .. } => {
                let outbox = message.saturating_mul(2);
                vec![format!("limits.outbox_bytes_max = {outbox}, or more")]
            }
            Refusal::UnboundedLog { .. } => {
                vec!["limit one of them; bytes is the one that memory feels".to_owned()]
            }
        }
    }
}

/// What an operator should know about settings with which the server does start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Warning {
    /// The internal listener asks nobody who they are.
    #[error(
        "the internal listener {0} can be reached from other machines: whoever reaches it may publish to every \
         channel and read every history"
    )]
    InternalReachable(SocketAddr),
    /// As the operator said.
    #[error("anonymous sessions are allowed on {0}: whoever reaches it may read and write every channel")]
    PublicAnonymous(SocketAddr),
    /// No anonymous sessions, and no other ones either.
    #[error("auth.anonymous is false and no other authentication is configured: nobody can connect")]
    NobodyMayConnect,
    /// Something of development mode on a public listener.
    #[error("{0} is on outside of development mode")]
    DevelopmentInPublic(&'static str),
    /// A message that the log cannot hold.
    #[error(
        "[{section}] log_bytes_max is below limits.message_bytes_max: the largest messages will not be in the log"
    )]
    LogBelowMessage {
        /// `channels` or `namespaces.NAME`.
        section: String,
    },
}

impl Config {
    /// Why the server would not start, if it would not.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let ListenSettings { public, internal } = self.listen;
        if !public.ip().is_loopback() && self.auth.anonymous != Auto::Fixed(true) {
            refusals.push(Refusal::PublicWithoutAuthentication { address: public });
        }
        if public == internal && public.port() != 0 {
            refusals.push(Refusal::SameAddress { address: public });
        }
        let session = &self.limits.session;
        let (message, rate) = (session.message_bytes_max, session.inbound_bytes);
        if rate.per_second != 0 && (rate.burst as usize) < message {
            refusals.push(Refusal::BurstBelowMessage {
                message,
                burst: rate.burst,
            });
        }
        if session.outbox_bytes_max < message.saturating_mul(2) {
            refusals.push(Refusal::OutboxBelowMessage {
                message,
                outbox: session.outbox_bytes_max,
            });
        }
        for (section, channels) in self.channel_sections() {
            let by_count = channels.log_messages_max != UNLIMITED;
            let by_bytes = channels.log_bytes_max != UNLIMITED;
            if !by_count && !by_bytes && channels.log_age_max == Duration::MAX {
                refusals.push(Refusal::UnboundedLog { section });
            }
        }
        refusals
    }

    /// What the operator should know.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let ListenSettings { public, internal } = self.listen;
        if !internal.ip().is_loopback() {
            warnings.push(Warning::InternalReachable(internal));
        }
        if !self.anonymous_allowed() {
            warnings.push(Warning::NobodyMayConnect);
        }
        if !self.is_development() {
            if self.anonymous_allowed() {
                warnings.push(Warning::PublicAnonymous(public));
            }
            for (on, what) in [
                (self.echo_enabled(), "development.echo"),
                (self.playground_enabled(), "development.playground"),
            ] {
                if on {
                    warnings.push(Warning::DevelopmentInPublic(what));
                }
            }
        }
        for (section, channels) in self.channel_sections() {
            let keeps = channels.log_messages_max > 0;
            if keeps && channels.log_bytes_max < self.limits.session.message_bytes_max {
                warnings.push(Warning::LogBelowMessage { section });
            }
        }
        warnings
    }

    fn channel_sections(&self) -> impl Iterator<Item = (String, &ChannelSettings)> {
        let namespaces = self.namespaces.iter();
        let namespaces = namespaces.map(|(name, channels)| (format!("namespaces.{name}"), channels));
        std::iter::once(("channels".to_owned(), &self.channels)).chain(namespaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    fn reachable(address: &str, anonymous: Auto<bool>) -> Config {
        config(|c| {
            c.listen.public = address.parse().unwrap();
            c.auth.anonymous = anonymous;
        })
    }

    #[test]
    fn the_defaults_are_neither_refused_nor_warned_about() {
        assert_eq!(Config::default().refusals(), []);
        assert_eq!(Config::default().warnings(), []);
    }

    #[test]
    fn a_public_listener_needs_a_word_on_who_may_connect() {
        let refused = |anonymous| {
            let address = "0.0.0.0:8000".parse().unwrap();
            let refusals = reachable("0.0.0.0:8000", anonymous).refusals();
            refusals == [Refusal::PublicWithoutAuthentication { address }]
        };
        assert!(refused(Auto::Auto));
        assert!(refused(Auto::Fixed(false)));
        assert_eq!(reachable("[::]:8000", Auto::Fixed(true)).refusals(), []);
    }

    #[test]
    fn a_reachable_internal_listener_is_warned_about() {
        let address = "192.0.2.1:8001".parse().unwrap();
        let config = config(|c| c.listen.internal = address);
        assert_eq!(config.refusals(), []);
        assert_eq!(config.warnings(), [Warning::InternalReachable(address)]);
    }

    #[test]
    fn what_is_open_to_everyone_is_warned_about() {
        let mut config = reachable("192.0.2.1:8000", Auto::Fixed(true));
        config.development.echo = Auto::Fixed(true);
        let anonymous = Warning::PublicAnonymous(config.listen.public);
        let echo = Warning::DevelopmentInPublic("development.echo");
        assert_eq!(config.warnings(), [anonymous, echo]);
    }

    #[test]
    fn limits_that_exclude_each_other_are_refused() {
        let config = config(|c| {
            c.limits.session.message_bytes_max = 1024 * 1024;
            c.channels.log_messages_max = UNLIMITED;
            c.channels.log_bytes_max = UNLIMITED;
            c.channels.log_age_max = Duration::MAX;
        });
        let message = 1024 * 1024;
        let expected = [
            Refusal::BurstBelowMessage {
                message,
                burst: 512 * 1024,
            },
            Refusal::OutboxBelowMessage {
                message,
                outbox: 256 * 1024,
            },
            Refusal::UnboundedLog {
                section: "channels".to_owned(),
            },
        ];
        assert_eq!(config.refusals(), expected);
    }
}

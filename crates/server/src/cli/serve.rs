//! `switchboard serve`: settings, log, open files, the server, and what is said about it.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;

use super::{Failure, SettingArgs, banner, exit, log};
use crate::config::{Config, UNLIMITED};
use crate::open_files::OpenFiles;
use crate::server::Server;

/// Where the server listens, once it does: a port 0 of the settings has become a real one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Addresses {
    pub(super) public: SocketAddr,
    pub(super) internal: SocketAddr,
}

pub(super) fn run(args: &SettingArgs) -> Result<u8, Failure> {
    let config = args.load()?.config;
    log::start(&config.log);
    let open_files = OpenFiles::raise().soft;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let connections_max = config.connections_max(open_files);
    if connections_max != UNLIMITED && connections_max as u64 >= open_files {
        tracing::warn!(
            connections_max,
            open_files,
            "the open-file limit is reached before limits.connections_max; `switchboard doctor` says what to change"
        );
    }
    run_server(&config, open_files, |addresses| {
        announce(&config, open_files, addresses)
    })?;
    Ok(exit::DONE)
}

/// Starts the server, calls `listening` once it listens, and returns when it has been stopped by SIGTERM or SIGINT and has
/// drained, or why it did not start.
fn run_server(config: &Config, open_files: u64, listening: impl FnOnce(Addresses)) -> Result<(), Failure> {
    let server = Server::start(config, open_files).map_err(|error| Failure::Failed(error.to_string()))?;
    listening(Addresses {
        public: server.public(),
        internal: server.internal(),
    });
    server
        .stop_at_signal()
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// A banner for the person who tries it out, one line in the log for everybody else.
fn announce(config: &Config, open_files: u64, addresses: Addresses) {
    let shards = config.shards(cores());
    let connections_max = config.connections_max(open_files);
    if config.is_development() && io::stderr().is_terminal() && !log::is_json(&config.log) {
        let facts = banner::Facts {
            version: env!("CARGO_PKG_VERSION"),
            public: addresses.public,
            internal: addresses.internal,
            anonymous: config.anonymous_allowed(),
            playground: config.playground_enabled(),
            echo: config.echo_enabled(),
            open_files,
            connections_max,
            shards,
        };
        // A terminal that has gone away is no reason not to serve.
        let _ = anstream::stderr().write_all(banner::banner(&facts).as_bytes());
        return;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        development = config.is_development(),
        public = %addresses.public,
        internal = %addresses.internal,
        shards,
        open_files,
        connections_max,
        "listening"
    );
}

/// Cores that this process may use; 1 if the system does not say.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

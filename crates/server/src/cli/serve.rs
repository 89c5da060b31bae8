//! `switchboard serve`: settings, log, open files, the server, and what is said about it.

use std::io::{self, IsTerminal as _, Write as _};

use super::{Failure, SettingArgs, banner, exit, log};
use crate::config::{Config, UNLIMITED};
use crate::open_files::OpenFiles;
use crate::server::{self, Server};

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
    server::run(&config, open_files, |server| {
        announce(&config, open_files, server)
    })
    .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(exit::DONE)
}

/// A banner for the person who tries it out, one line in the log for everybody else.
fn announce(config: &Config, open_files: u64, server: &Server) {
    let shards = config.shards(cores());
    let connections_max = config.connections_max(open_files);
    if config.is_development() && io::stderr().is_terminal() && !log::is_json(&config.log) {
        let facts = banner::Facts {
            version: env!("CARGO_PKG_VERSION"),
            public: server.public(),
            internal: server.internal(),
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
        public = %server.public(),
        internal = %server.internal(),
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

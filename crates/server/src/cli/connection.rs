//! What the commands that talk to a server have in common.

use std::fmt::Display;
use std::time::Duration;

use switchboard_client::{Client, ConnectError};
use tokio::runtime::{Builder, Runtime};

use super::Failure;
use super::terminal::harmless;

/// How long a command that is done waits for the server to agree.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A runtime on the calling thread.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Connects, or says why not.
pub(super) async fn connect(url: &str) -> Result<Client, Failure> {
    Client::connect(url).await.map_err(|error| match error {
        ConnectError::Url { .. } | ConnectError::TlsUnsupported | ConnectError::Request(_) => {
            Failure::Usage(format!("--url: {}", said(&error)))
        }
        error => Failure::Failed(format!("cannot connect to {}: {}", harmless(url), said(&error))),
    })
}

/// What went wrong, in one line, for a terminal: a part of it may be the server's words.
pub(super) fn said(error: &impl Display) -> String {
    harmless(&error.to_string()).into_owned()
}

/// For waits that shall not be those of everybody else.
pub(super) fn random_u32() -> u32 {
    // Without random numbers the wait is merely the longest.
    getrandom::u32().unwrap_or(u32::MAX)
}

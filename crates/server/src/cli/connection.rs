//! What the commands that talk to a server have in common.

use std::fmt::Display;
use std::time::Duration;

use switchboard_client::{Client, ConnectError, Transport};
use tokio::runtime::{Builder, Runtime};

use super::Failure;
use super::terminal::harmless;

/// How long a command that is done waits for the server to agree.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A runtime on the calling thread.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Connects, or says why not. A connection that is lost later is made again.
pub(super) async fn connect(url: &str) -> Result<Client, Failure> {
    connected(url, by_websocket(url).connect().await)
}

/// Connects, or says why not. A connection that is lost later is lost.
pub(super) async fn connect_once(url: &str) -> Result<Client, Failure> {
    connected(url, by_websocket(url).reconnect(false).connect().await)
}

/// A command looks at one transport, and says what is wrong with it.
fn by_websocket(url: &str) -> switchboard_client::Builder {
    Client::builder(url).transports([Transport::WebSocket])
}

fn connected(url: &str, client: Result<Client, ConnectError>) -> Result<Client, Failure> {
    client.map_err(|error| match error {
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

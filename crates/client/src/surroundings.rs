//! What a client takes from the machine that it runs on.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection that bytes come and go by.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Connections, tasks and random numbers. The defaults are TCP, the tasks of the current tokio runtime, and the system's random numbers;
/// another implementation connects by a Unix socket or through a proxy, or makes a test the same in every run. All time is the
/// runtime's.
pub trait Surroundings: Send + Sync {
    /// Opens a connection to a host, by name or address, and a port.
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let address = (host.to_owned(), port);
        Box::pin(async move {
            let (host, port) = address;
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            // Commands are small and wanted at once; what comes together is written together.
            let _unsupported = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }

    /// Runs the task that owns the connection.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }

    /// Random bytes that nobody can foresee.
    ///
    /// # Errors
    /// The system has none.
    fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        getrandom::fill(bytes)
    }
}

/// The defaults.
pub(crate) struct Machine;

impl Surroundings for Machine {}

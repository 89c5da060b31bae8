//! Connections: what bytes come and go by.
//!
//! Nearly all are TCP sockets, and for those every call here is the system's. Anything else that carries bytes both ways is a
//! [`Socket`]: a network that exists only in a test, for example.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connection of another kind than TCP.
///
/// **What is attempted and cannot be done now fails with [`ErrorKind::WouldBlock`] and wakes nobody; whoever wants to be woken asks
/// for readiness. Readiness may be wrong, and then the attempt says so.** One task waits for each of the three readinesses; the last one that
/// asked is woken.
pub trait Socket {
    /// Until something can be read, or nothing more comes.
    ///
    /// # Errors
    /// It is broken.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Until something can be written.
    ///
    /// # Errors
    /// It is broken.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Until the peer sends no more, whether or not what it has sent is read.
    fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Reads what is there. Nothing: nothing more comes.
    ///
    /// # Errors
    /// Nothing is there, or it is broken.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what is taken.
    ///
    /// # Errors
    /// Nothing is taken now, or it is broken.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Nothing more will be written.
    ///
    /// # Errors
    /// It is broken.
    fn shut(&self) -> io::Result<()>;

    /// A peer that acknowledges nothing of what was written for so long is gone. Where this cannot be known, nothing is done.
    fn give_up_after(&self, _silence: Duration) {}
}

/// A connection. Dropped, it is closed.
pub enum Stream {
    /// By TCP.
    Tcp(TcpStream),
    /// By anything else.
    Other(Box<dyn Socket>),
}

impl Stream {
    /// Until something can be read, or nothing more comes.
    ///
    /// # Errors
    /// It is broken.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Other(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Until something can be written.
    ///
    /// # Errors
    /// It is broken.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Other(socket) => socket.poll_write_ready(cx),
        }
    }

    /// Waits until the peer sends no more. What it has sent need not be read for that.
    pub async fn hung_up(&self) {
        match self {
            // Nothing but the end is told here, since nobody has asked the system for urgent data.
            Stream::Tcp(stream) => drop(stream.ready(Interest::PRIORITY).await),
            Stream::Other(socket) => std::future::poll_fn(|cx| socket.poll_hung_up(cx)).await,
        }
    }

    /// Reads what is there. Nothing: nothing more comes.
    ///
    /// # Errors
    /// Nothing is there, or it is broken.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(buffer),
            Stream::Other(socket) => socket.try_read(buffer),
        }
    }

    /// Writes what is taken.
    ///
    /// # Errors
    /// Nothing is taken now, or it is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Other(socket) => socket.try_write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    /// Writes what is taken of several pieces.
    ///
    /// # Errors
    /// Nothing is taken now, or it is broken.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write_vectored(slices),
            Stream::Other(socket) => socket.try_write_vectored(slices),
        }
    }

    /// Writes what is taken, without asking the runtime whether anything is: that is in memory which nobody has touched since the last
    /// event of this socket, and the answer is nearly always yes.
    ///
    /// # Errors
    /// Nothing is taken now, or it is broken.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let Stream::Tcp(stream) = self else {
            return self.try_write(bytes);
        };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::io::retry_on_intr(|| {
            rustix::net::send(stream, bytes, flags)
        })?)
    }

    /// Nothing more will be written.
    ///
    /// # Errors
    /// It is broken.
    pub fn shut(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => Ok(rustix::net::shutdown(stream, Shutdown::Write)?),
            Stream::Other(socket) => socket.shut(),
        }
    }

    /// A peer whose system acknowledges nothing for so long is gone. Where the system cannot do this, it is not done.
    pub fn give_up_after(&self, silence: Duration) {
        match self {
            Stream::Tcp(stream) => {
                let milliseconds = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
                let _unsupported = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds);
            }
            Stream::Other(socket) => socket.give_up_after(silence),
        }
    }
}

/// Does it once the socket is ready.
pub fn until_blocked(
    mut attempt: impl FnMut() -> io::Result<usize>,
    mut ready: impl FnMut() -> Poll<io::Result<()>>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(ready())?;
        match attempt() {
            // Now it is known not to be.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Other(socket) => {
                let free = buffer.initialize_unfilled();
                let length = ready!(until_blocked(
                    || socket.try_read(free),
                    || socket.poll_read_ready(cx)
                ))?;
                buffer.advance(length);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        until_blocked(|| self.try_write(bytes), || self.poll_write_ready(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        until_blocked(|| self.try_write_vectored(slices), || self.poll_write_ready(cx))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut())
    }
}

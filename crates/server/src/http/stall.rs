//! A socket whose peer has to read: writing fails where nothing is taken for too long.
//!
//! hyper has a deadline for what a peer sends and none for what it does not read, so a peer that asks for pages and never
//! reads one would keep its connection for ever.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// See the module.
pub struct Stalling {
    stream: TcpStream,
    /// What was read of the stream before, and how much of it has been read again.
    read: (Vec<u8>, usize),
    write_stall: Duration,
    /// Runs while the socket takes nothing.
    deadline: Option<Pin<Box<Sleep>>>,
    blocked: Rc<Cell<bool>>,
    stalled: bool,
}

impl Stalling {
    /// Fails with [`io::ErrorKind::TimedOut`] once something has waited for `write_stall`. `read` was read of the stream
    /// before, and is read first.
    pub fn new(stream: TcpStream, read: Vec<u8>, write_stall: Duration) -> Stalling {
        Stalling {
            stream,
            read: (read, 0),
            write_stall,
            deadline: None,
            blocked: Rc::default(),
            stalled: false,
        }
    }

    /// Whether the socket has not taken what was last written, whoever owns it.
    pub fn is_blocked(&self) -> Rc<Cell<bool>> {
        self.blocked.clone()
    }

    /// Whether writing has failed for that reason.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The bare socket.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked.set(wrote.is_pending());
        if wrote.is_ready() {
            self.deadline = None;
            return wrote;
        }
        let limit = self.write_stall;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        self.stalled = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (read, again) = &mut self.read;
        if let Some(rest) = read.get(*again..).filter(|rest| !rest.is_empty()) {
            let length = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..length]);
            *again += length;
            if *again == read.len() {
                self.read = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

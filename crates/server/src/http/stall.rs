//! A socket whose peer has to read: writing fails where nothing is taken for too long.
//!
//! hyper has a deadline for what a peer sends and none for what it does not read, so a peer that asks for pages and never
//! reads one would keep its connection for ever. The socket is lent, so that its owner can see what hyper does not look for.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::net::{Stream, until_blocked};

/// See the module.
pub struct Stalling<'a> {
    stream: &'a Stream,
    /// What was read of the stream before, and how much of it has been read again.
    read: (Vec<u8>, usize),
    write_stall: Duration,
    /// Runs while the socket takes nothing.
    deadline: Option<Pin<Box<Sleep>>>,
    blocked: Rc<Cell<bool>>,
    stalled: bool,
}

impl<'a> Stalling<'a> {
    /// Fails with [`io::ErrorKind::TimedOut`] once something has waited for `write_stall`. `read` was read of the stream
    /// before, and is read first.
    pub fn new(stream: &'a Stream, read: Vec<u8>, write_stall: Duration) -> Stalling<'a> {
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

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream;
        let wrote = until_blocked(|| write(stream), || stream.poll_write_ready(cx));
        self.watch(cx, wrote)
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

impl AsyncRead for Stalling<'_> {
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
        let stream = self.stream;
        let free = buffer.initialize_unfilled();
        let length = ready!(until_blocked(
            || stream.try_read(free),
            || stream.poll_read_ready(cx)
        ))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stalling<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shut())
    }
}

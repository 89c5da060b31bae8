//! A connection that reads an event stream.

use super::connection::Lost;
use crate::control::Open;

/// See the module.
pub(super) struct Stream {
    /// Until it is sent.
    request: Option<String>,
    /// Between the head of the answer and the end of the stream.
    began: bool,
    /// Channels that are not subscribed yet.
    awaited: u32,
    /// The beginning of what is not whole.
    unread: Vec<u8>,
}

impl Stream {
    /// Of this connection's channels.
    pub(super) fn new(open: &Open, number: u32) -> Stream {
        let target = &open.target;
        let channels: Vec<_> = open
            .rooms
            .of(number)
            .map(|room| format!("channel={}", target.channel(room)))
            .collect();
        let (query, host) = (channels.join("&"), &target.host);
        Stream {
            request: Some(format!("GET /sse?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
            began: false,
            awaited: open.rooms.each,
            unread: Vec::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.began && self.awaited == 0
    }

    pub(super) fn is_to_ask(&self) -> bool {
        self.request.is_some()
    }

    pub(super) fn ask(&mut self, out: &mut Vec<u8>) {
        if let Some(request) = self.request.take() {
            out.extend_from_slice(request.as_bytes());
        }
    }

    /// Calls `message` with every message that comes when all channels are subscribed. Returns how many heartbeats came.
    pub(super) fn handle_input(&mut self, input: &[u8], mut message: impl FnMut(&[u8])) -> Result<u64, Lost> {
        let mut heartbeats = 0;
        let kept = std::mem::take(&mut self.unread);
        let joined;
        let mut rest = match kept.is_empty() {
            true => input,
            false => {
                joined = [&kept, input].concat();
                &joined
            }
        };
        if !self.began {
            let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                self.unread = rest.to_vec();
                return Ok(0);
            };
            let head = String::from_utf8_lossy(&rest[..end]);
            if !head.starts_with("HTTP/1.1 200 ") {
                let line = head.lines().next().unwrap_or_default();
                return Err(Lost::Handshake(line.to_owned()));
            }
            self.began = true;
            rest = &rest[end + 4..];
        }
        while let Some(end) = memchr::memmem::find(rest, b"\n\n") {
            let event = &rest[..end];
            rest = &rest[end + 2..];
            if event.starts_with(b"event: message\n") && self.awaited == 0 {
                message(event);
            } else if event.starts_with(b"event: subscribed\n") {
                self.awaited = self.awaited.saturating_sub(1);
            } else if event.starts_with(b"event: goodbye\n") || event.starts_with(b"event: refused\n") {
                let words = String::from_utf8_lossy(event).into_owned();
                return Err(Lost::Closed(format!(": {words}")));
            } else if event.starts_with(b":") {
                heartbeats += 1;
            }
        }
        self.unread.extend_from_slice(rest);
        Ok(heartbeats)
    }
}

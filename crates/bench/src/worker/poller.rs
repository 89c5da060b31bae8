//! A connection that polls: over and over on one HTTP connection, as pages did before they had anything better.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::Lost;
use crate::control::Open;

/// See the module.
pub(super) struct Poller {
    query: String,
    host: String,
    /// What the last answer said of where it is.
    since: String,
    /// A poll is under way.
    asks: bool,
    began: bool,
    /// The beginning of an answer that is not whole.
    unread: Vec<u8>,
    pub(super) requests: u64,
}

/// What a poll is answered with.
#[derive(Deserialize)]
struct Answer<'a> {
    position: String,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

impl Poller {
    /// Of this connection's channels. With `waits` a poll is held by the server, else it is answered at once.
    pub(super) fn new(open: &Open, number: u32, waits: bool) -> Poller {
        let channels = open.rooms.of(number);
        let mut query: Vec<_> = channels
            .map(|room| format!("channel={}", open.target.channel(room)))
            .collect();
        if !waits {
            query.push("wait=0".to_owned());
        }
        Poller {
            query: query.join("&"),
            host: open.target.host.clone(),
            since: String::new(),
            asks: false,
            began: false,
            unread: Vec::new(),
            requests: 0,
        }
    }

    /// It has a position.
    pub(super) fn is_ready(&self) -> bool {
        !self.since.is_empty()
    }

    /// The first poll is still to be sent.
    pub(super) fn is_to_ask(&self) -> bool {
        !self.began
    }

    /// Polls, unless it does.
    pub(super) fn ask(&mut self, out: &mut Vec<u8>) {
        if self.asks {
            return;
        }
        (self.asks, self.began) = (true, true);
        self.requests += 1;
        let Poller {
            query, host, since, ..
        } = self;
        let head = format!("GET /poll?{query}&since={since} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
    }

    /// Calls `message` with every message that comes. Says whether a poll was answered.
    pub(super) fn handle_input(
        &mut self,
        input: &[u8],
        mut message: impl FnMut(&[u8]),
    ) -> Result<bool, Lost> {
        self.unread.extend_from_slice(input);
        let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&self.unread[..end]);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        let first = head.lines().next().unwrap_or_default();
        if !first.starts_with("HTTP/1.1 200 ") {
            return Err(Lost::Handshake(first.to_owned()));
        }
        let Some(length) = length else {
            return Err(Lost::Handshake("an answer to a poll has no length".to_owned()));
        };
        let Some(body) = self.unread.get(end + 4..end + 4 + length) else {
            return Ok(false);
        };
        let answer: Answer<'_> =
            serde_json::from_slice(body).map_err(|error| Lost::Handshake(error.to_string()))?;
        for event in answer.events {
            // The first field of every event.
            if event.get().starts_with(r#"{"type":"message""#) {
                message(event.get().as_bytes());
            }
        }
        self.since = answer.position;
        self.asks = false;
        self.unread.drain(..end + 4 + length);
        Ok(true)
    }
}

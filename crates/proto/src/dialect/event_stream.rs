//! Server-Sent Events (`text/event-stream`, [HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)):
//! what `/sse` says. A peer only reads it.
//!
//! ```text
//! event: message
//! id: p3q2-7wAAAAEA
//! data: {"type":"message","channel":"room:42","offset":18,"position":"p3q2-7wAAAAEA","data":{"text":"hi"}}
//!
//! ```
//!
//! `data` is the event as `switchboard.v1.json` has it, `event` its type. `id` is where the stream is after the event, as a
//! stream of this one channel says it; [`Places`](crate::session::places::Places) makes of it what a stream of several says.

use super::{Command, Dialect, Event, Inbound, Rejected, json};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::ws::MessageKind;

/// See the module.
pub struct EventStream;

/// What keeps proxies from closing a quiet stream, and shows that the peer is there: a comment.
pub const HEARTBEAT: &[u8] = b":\n\n";

impl Dialect for EventStream {
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn decode(&self, _message: Inbound<'_>, _bound: Option<&ChannelName>) -> Result<Command, Rejected> {
        let words = "an event stream takes nothing";
        Err(Rejected::new(None, ErrorCode::BadRequest, words))
    }

    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind> {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name(event).as_bytes());
        if let Some(position) = position(event) {
            out.extend_from_slice(ID);
            out.extend_from_slice(position.token().as_str().as_bytes());
        }
        if let Some(milliseconds) = retry_after_ms(event) {
            out.extend_from_slice(format!("\nretry: {milliseconds}").as_bytes());
        }
        out.extend_from_slice(DATA);
        let start = out.len();
        json::Json.encode(event, out)?;
        split_lines(out, start);
        out.extend_from_slice(b"\n\n");
        Some(MessageKind::Text)
    }

    fn says_gaps(&self) -> bool {
        true
    }
}

const DATA: &[u8] = b"\ndata: ";
/// What stands before an id, and nowhere else: no line of a value begins with it.
pub(crate) const ID: &[u8] = b"\nid: ";

/// "If the line contains a U+003A COLON character …": a line ends at CR, LF or both, so none of them may stand in a value. JSON has
/// them only between its tokens, where a publisher may have put them; whoever joins the lines again has the same JSON.
fn split_lines(out: &mut Vec<u8>, start: usize) {
    if memchr::memchr2(b'\r', b'\n', &out[start..]).is_none() {
        return;
    }
    let value = out.split_off(start);
    for (number, line) in value.split(|byte| matches!(byte, b'\r' | b'\n')).enumerate() {
        if number > 0 {
            out.extend_from_slice(DATA);
        }
        out.extend_from_slice(line);
    }
}

/// The type of an event, but for errors: an `EventSource` has `error` for its own.
fn name(event: &Event<'_>) -> &'static str {
    match event {
        Event::Welcome { .. } => "welcome",
        Event::Subscribed { .. } => "subscribed",
        Event::Unsubscribed { .. } => "unsubscribed",
        Event::Published { .. } => "published",
        Event::History { .. } => "history",
        Event::Members { .. } => "members",
        Event::Pong { .. } => "pong",
        Event::Presence { .. } => "presence",
        Event::Message { .. } => "message",
        Event::Gap { .. } => "gap",
        Event::Reset { .. } => "reset",
        Event::Error { .. } => "refused",
        Event::Goodbye { .. } => "goodbye",
    }
}

/// Where the subscriber is after an event.
fn position(event: &Event<'_>) -> Option<Position> {
    match event {
        Event::Subscribed { position, .. } | Event::Reset { position, .. } => Some(*position),
        Event::Message { entry, .. } => Some(entry.position),
        Event::Gap { gap, .. } => Some(gap.position),
        _ => None,
    }
}

/// When an `EventSource` whose stream ends now is to come back, if that is another time than the stream has said in the beginning.
/// An error says the same to all, and a server that is full wants them neither at once nor together.
fn retry_after_ms(event: &Event<'_>) -> Option<u128> {
    match event {
        Event::Goodbye { retry_after, .. } => Some(retry_after.as_millis()),
        _ => None,
    }
}

/// The client's side: finds events in what has come. Their names and ids are passed over: what a [`decode`](super::notice::decode)
/// needs stands in `data`.
pub struct Decoder {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The values of `data` of an event whose end has not come.
    data: Option<Vec<u8>>,
    /// The last byte was a CR: a LF behind it belongs to it.
    after_cr: bool,
    bytes_max: usize,
}

/// A server said something that is no event stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAStream {
    /// An event is longer than the client takes.
    #[error("an event of the stream is longer than {0} bytes")]
    TooLong(usize),
    /// "Streams must be decoded using UTF-8".
    #[error("the stream is not UTF-8")]
    NotText,
}

impl Decoder {
    /// Of a stream that begins, whose events have at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Decoder {
        Decoder {
            line: Vec::new(),
            data: None,
            after_cr: false,
            bytes_max,
        }
    }

    /// The data of the next event, taken off the front of `input`; `None` where more has to come first.
    ///
    /// # Errors
    /// This is no stream that can be read any further.
    pub fn poll_data(&mut self, input: &mut &[u8]) -> Result<Option<String>, NotAStream> {
        while let Some(first) = input.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                *input = &input[1..];
                continue;
            }
            let end = memchr::memchr2(b'\r', b'\n', input);
            self.line.extend_from_slice(&input[..end.unwrap_or(input.len())]);
            if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > self.bytes_max {
                return Err(NotAStream::TooLong(self.bytes_max));
            }
            let Some(end) = end else {
                *input = &[];
                return Ok(None);
            };
            self.after_cr = input[end] == b'\r';
            *input = &input[end + 1..];
            let line = std::mem::take(&mut self.line);
            if !line.is_empty() {
                self.handle_line(&line);
            } else if let Some(data) = self.data.take() {
                return String::from_utf8(data).map(Some).map_err(|_| NotAStream::NotText);
            }
        }
        Ok(None)
    }

    fn handle_line(&mut self, line: &[u8]) {
        let Some(value) = line.strip_prefix(b"data:") else {
            return;
        };
        match &mut self.data {
            Some(data) => data.push(b'\n'),
            none => *none = Some(Vec::new()),
        }
        if let Some(data) = &mut self.data {
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(stream: &[u8], parts: &[usize]) -> Result<Vec<String>, NotAStream> {
        let (mut decoder, mut events, mut rest) = (Decoder::new(64), Vec::new(), stream);
        for part in parts.iter().copied().chain([stream.len()]) {
            let (mut part, behind) = rest.split_at(part.min(rest.len()));
            rest = behind;
            while let Some(data) = decoder.poll_data(&mut part)? {
                events.push(data);
            }
            assert!(part.is_empty());
        }
        Ok(events)
    }

    #[test]
    fn comments_names_and_ids_are_passed_over_and_lines_are_joined() {
        let stream = b"retry: 1560\n\n:\n\nevent: message\nid: p1\ndata: {\"a\":\ndata:  1}\n\ndata:x\n\ndata: unfinished";
        assert_eq!(decode(stream, &[]).unwrap(), ["{\"a\":\n 1}", "x"]);
        assert_eq!(
            decode(b"data: a\r\rdata: b\r\n\r\ndata\n\n", &[]).unwrap(),
            ["a", "b"]
        );
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        assert_eq!(decode(&[b'x'; 65], &[]), Err(NotAStream::TooLong(64)));
        let lines = b"data: 0123456789\n".repeat(7);
        assert_eq!(decode(&lines, &[]), Err(NotAStream::TooLong(64)));
        assert_eq!(decode(b"data: \xff\n\n", &[]), Err(NotAStream::NotText));
    }

    proptest! {
        #[test]
        fn where_it_is_split_makes_no_difference(
            lines in prop::collection::vec("(data: ?|:|id:)?[a-zä{}]{0,6}(\n|\r|\r\n)(\n|\r\n|\r)?", 0..9),
            parts in prop::collection::vec(0usize..5, 0..40),
        ) {
            let stream = lines.concat();
            prop_assert_eq!(decode(stream.as_bytes(), &parts), decode(stream.as_bytes(), &[]));
        }
    }
}

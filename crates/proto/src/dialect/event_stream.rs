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

/// When an `EventSource` whose stream ends now is to come back.
fn retry_after_ms(event: &Event<'_>) -> Option<u128> {
    match event {
        Event::Goodbye { retry_after, .. } => Some(retry_after.as_millis()),
        Event::Error { retry_after, .. } => Some((*retry_after)?.as_millis()),
        _ => None,
    }
}

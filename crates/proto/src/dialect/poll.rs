//! What `/poll` answers with: the events of `switchboard.v1.json`, each followed by a comma.
//!
//! What the answer says anyway is left out: that a channel is subscribed from where the peer said it was.

use super::{Command, Dialect, Event, Inbound, Rejected, json};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::ws::MessageKind;

/// See the module.
pub struct Poll;

impl Dialect for Poll {
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn decode(&self, _message: Inbound<'_>, _bound: Option<&ChannelName>) -> Result<Command, Rejected> {
        let words = "a poll takes nothing but its query";
        Err(Rejected::new(None, ErrorCode::BadRequest, words))
    }

    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind> {
        if let Event::Subscribed {
            recovered: Some(_), ..
        } = event
        {
            return None;
        }
        json::Json.encode(event, out)?;
        out.push(b',');
        Some(MessageKind::Text)
    }

    fn says_gaps(&self) -> bool {
        true
    }
}

//! The raw dialect: `/ws?channel=room:42` with no subprotocol. Every inbound frame is a publish to that channel, every
//! outbound frame is the bare data of a message. Any WebSocket program can speak it.
//!
//! It has no answers, positions or errors. What has to be said all the same is said by closing the connection with the
//! code of the catalogue, so nothing is lost silently here either.

use super::{Command, Dialect, Event, Inbound, Rejected};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::payload::{Payload, PayloadKind};
use crate::ws::MessageKind;

/// See the module.
pub struct Raw;

impl Dialect for Raw {
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn decode(&self, message: Inbound<'_>, bound: Option<&ChannelName>) -> Result<Command, Rejected> {
        let Some(channel) = bound else {
            return Err(Rejected {
                id: None,
                code: ErrorCode::BadChannel,
                detail: None,
            });
        };
        let payload = match message {
            Inbound::Text(text) => Payload::from_raw_text(text),
            Inbound::Binary(bytes) => Payload::bytes(bytes.to_vec()),
        };
        Ok(Command::Publish {
            id: None,
            channel: channel.clone(),
            payload,
            key: None,
            conflate: None,
        })
    }

    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind> {
        let Event::Message { entry, .. } = event else {
            return None;
        };
        out.extend_from_slice(entry.payload.as_bytes());
        Some(match entry.payload.kind() {
            PayloadKind::Json | PayloadKind::Text => MessageKind::Text,
            PayloadKind::Bytes => MessageKind::Binary,
        })
    }

    fn says_gaps(&self) -> bool {
        false
    }
}

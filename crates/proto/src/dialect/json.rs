//! `switchboard.v1.json`: text frames, each one JSON object.

use serde_json::value::RawValue;

use super::native::{self, Notation, WireCommand};
use super::{Command, Dialect, Event, Inbound, Rejected};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::json;
use crate::payload::{BadPayload, Payload, PayloadKind};
use crate::ws::MessageKind;

/// See the module.
pub struct Json;

impl Dialect for Json {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("switchboard.v1.json")
    }

    fn decode(&self, message: Inbound<'_>, _bound: Option<&ChannelName>) -> Result<Command, Rejected> {
        let Inbound::Text(text) = message else {
            return Err(Rejected::new(
                None,
                ErrorCode::BadRequest,
                "switchboard.v1.json speaks text frames",
            ));
        };
        let wire = wire_command(text).map_err(|rejected| rejected.of(id(text)))?;
        // A part of what was checked as a whole, and without blanks around it.
        wire.command(|data| Payload::of_checked(data.get()))
    }

    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind> {
        native::write_event(event, &mut Writer::new(out));
        Some(MessageKind::Text)
    }

    fn says_gaps(&self) -> bool {
        true
    }
}

fn wire_command(text: &str) -> Result<WireCommand<'_, &RawValue>, Rejected> {
    json::check(text.as_bytes()).map_err(|bad| match bad {
        BadPayload::TooComplex => Rejected::too_complex(),
        bad => Rejected::new(None, ErrorCode::BadRequest, bad),
    })?;
    // serde would read an array as the fields of the struct in their order.
    if !text.trim_start().starts_with('{') {
        return Err(Rejected::new(
            None,
            ErrorCode::BadRequest,
            "a command is a JSON object",
        ));
    }
    serde_json::from_str(text).map_err(|error| Rejected::new(None, ErrorCode::BadRequest, error))
}

/// The id in what is an object but no command: whoever waits for an answer to it gets one.
fn id(text: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    if !text.trim_start().starts_with('{') {
        return None;
    }
    // serde_json passes over what it need not look at without recursion, however deep it is.
    let OnlyId { id } = serde_json::from_str(text).ok()?;
    id?.get().parse().ok()
}

/// A `publish` that stands alone, as the body of an HTTP request: without `type`, and with the token of the session that says it.
pub fn decode_publish(text: &str) -> Result<(Command, Option<String>), Rejected> {
    let mut wire = wire_command(text)?;
    let resume = wire.take_resume();
    let command = wire.publish(|data| Payload::of_checked(data.get()))?;
    Ok((command, resume))
}

/// Appends the frame text of a command: the client's side.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) {
    native::write_command(command, &mut Writer::new(out));
}

/// Appends the body of an HTTP request that publishes, as the session that was given `resume`: the client's side of [`decode_publish`].
pub fn encode_publish(publish: &Command, resume: Option<&str>, out: &mut Vec<u8>) {
    encode_command(publish, out);
    if let Some(resume) = resume {
        // The end of the object comes behind one field more.
        out.pop();
        let mut writer = Writer { out, first: false };
        writer.text("resume", resume);
        writer.end_map();
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Writer<'_> {
    fn new(out: &mut Vec<u8>) -> Writer<'_> {
        Writer { out, first: true }
    }

    fn string(&mut self, text: &str) {
        /// From so many bytes on a look whether any of them is to be escaped is cheaper than looking at each.
        const LONG_BYTES: usize = 64;
        if text.len() >= LONG_BYTES && json::plain_bytes(text.as_bytes()) == text.len() {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
            return;
        }
        // Writing a string into a Vec cannot fail.
        let _infallible = serde_json::to_writer(&mut *self.out, text);
    }

    fn key(&mut self, key: &'static str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

impl Notation for Writer<'_> {
    fn map(&mut self, _fields: usize) {
        self.out.push(b'{');
        self.first = true;
    }

    fn end_map(&mut self) {
        self.out.push(b'}');
        self.first = false;
    }

    fn array(&mut self, key: &'static str, _items: usize) {
        self.key(key);
        self.out.push(b'[');
    }

    fn next_item(&mut self) {
        self.out.push(b',');
    }

    fn end_array(&mut self) {
        self.out.push(b']');
        self.first = false;
    }

    fn map_field(&mut self, key: &'static str, fields: usize) {
        self.key(key);
        self.map(fields);
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.string(value);
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        let _infallible = serde_json::to_writer(&mut *self.out, &value);
    }

    fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn json(&mut self, key: &'static str, json: &Payload) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    fn payload(&mut self, payload: &Payload) {
        match payload.kind() {
            PayloadKind::Json => self.json("data", payload),
            PayloadKind::Text => {
                self.key("data");
                self.string(payload.as_str().unwrap_or_default());
            }
            PayloadKind::Bytes => {
                use base64::Engine as _;
                self.key("data_base64");
                let text = base64::engine::general_purpose::STANDARD.encode(payload.as_bytes());
                self.string(&text);
            }
        }
    }
}

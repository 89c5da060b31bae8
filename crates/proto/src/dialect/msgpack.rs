//! `switchboard.v1.msgpack`: binary frames, each one MessagePack map with the fields of the JSON notation. Bytes travel
//! as they are, as `bin` in `data`.
//!
//! Inside `data` a structure must be what JSON can say, because JSON clients receive it too.

use std::alloc::Layout;
use std::fmt;
use std::io::{Cursor, ErrorKind};

use rmp::Marker;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::native::{self, Notation, WireCommand};
use super::{Command, Dialect, Event, Inbound, Rejected};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::limits::{JSON_DEPTH_MAX, JSON_KEYS_MAX};
use crate::payload::{BadPayload, Payload, PayloadKind};
use crate::ws::MessageKind;

/// See the module.
pub struct Msgpack;

impl Dialect for Msgpack {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("switchboard.v1.msgpack")
    }

    fn decode(&self, message: Inbound<'_>, _bound: Option<&ChannelName>) -> Result<Command, Rejected> {
        let reject = |detail: &str| Err(Rejected::new(None, ErrorCode::BadRequest, detail));
        let Inbound::Binary(bytes) = message else {
            return reject("switchboard.v1.msgpack speaks binary frames");
        };
        // serde would read an array as the fields of the struct in their order.
        if !matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
            return reject("a command is a MessagePack map");
        }
        let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
        deserializer.set_max_depth(2 * JSON_DEPTH_MAX);
        let wire = WireCommand::<'_, Data>::deserialize(&mut deserializer).map_err(|error| match error {
            // The sender is not to blame. Elsewhere the process ends where there is no memory, so here it does, too.
            rmp_serde::decode::Error::InvalidDataRead(error) if error.kind() == ErrorKind::OutOfMemory => {
                std::alloc::handle_alloc_error(Layout::for_value(bytes))
            }
            rmp_serde::decode::Error::DepthLimitExceeded => Rejected::too_complex().of(id(bytes)),
            error => Rejected::new(None, ErrorCode::BadRequest, error).of(id(bytes)),
        })?;
        if deserializer.position() != bytes.len() as u64 {
            return reject("something follows the map");
        }
        wire.command(|data| data.0)
    }

    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Option<MessageKind> {
        native::write_event(event, &mut Writer { out });
        Some(MessageKind::Binary)
    }

    fn says_gaps(&self) -> bool {
        true
    }
}

/// The id in what is a map but no command: whoever waits for an answer to it gets one.
fn id(mut bytes: &[u8]) -> Option<u64> {
    let fields = rmp::decode::read_map_len(&mut bytes).ok()?;
    let mut id = None;
    for _ in 0..fields {
        let (key, behind) = split_value(bytes)?;
        let (mut value, behind) = split_value(behind)?;
        bytes = behind;
        if matches!(rmp::decode::read_str_from_slice(key), Ok(("id", _))) {
            if id.is_some() {
                return None;
            }
            id = Some(rmp::decode::read_int(&mut value).ok()?);
        }
    }
    id.filter(|_| bytes.is_empty())
}

/// The value that stands first, and what is behind it. Counts values in place of going down into them, so it may be of any depth.
fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let mut values = 1_u64;
    while values > 0 {
        let marker = rmp::decode::read_marker(&mut rest).ok()?;
        let mut number = |bytes: usize| {
            let (number, behind) = rest.split_at_checked(bytes)?;
            rest = behind;
            Some(number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        // How many bytes and how many values are inside.
        let (length, inside) = match marker {
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(length) => (u64::from(length), 0),
            Marker::Str8 | Marker::Bin8 => (number(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (number(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (number(4)?, 0),
            // With a byte for its type.
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (1 + number(1)?, 0),
            Marker::Ext16 => (1 + number(2)?, 0),
            Marker::Ext32 => (1 + number(4)?, 0),
            Marker::FixArray(items) => (0, u64::from(items)),
            Marker::Array16 => (0, number(2)?),
            Marker::Array32 => (0, number(4)?),
            Marker::FixMap(fields) => (0, 2 * u64::from(fields)),
            Marker::Map16 => (0, 2 * number(2)?),
            Marker::Map32 => (0, 2 * number(4)?),
            Marker::Reserved => return None,
        };
        rest = rest.get(usize::try_from(length).ok()?..)?;
        values = (values - 1).checked_add(inside)?;
    }
    bytes.split_at_checked(bytes.len() - rest.len())
}

/// Appends the frame content of a command: the client's side.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) {
    native::write_command(command, &mut Writer { out });
}

/// `data`: a string is text, `bin` is bytes, all else becomes JSON text on the way in. What JSON cannot say is remembered
/// and skipped, so that the id of the command can still be told.
pub(super) struct Data(pub(super) Result<Payload, BadPayload>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        // The command's own map is the first level.
        let mut transcode = Transcode {
            json: Vec::new(),
            depth: 1,
            bad: None,
        };
        let whole = (&mut transcode).deserialize(deserializer)?;
        Ok(Data(match (transcode.bad, whole) {
            (Some(bad), _) => Err(bad),
            (None, Whole::Text(text)) => Ok(Payload::text(text)),
            (None, Whole::Bytes(bytes)) => Ok(Payload::bytes(bytes)),
            (None, Whole::Json) => Ok(Payload::checked_json(transcode.json)),
        }))
    }
}

/// What the value at the top turned out to be.
enum Whole {
    Text(String),
    Bytes(Vec<u8>),
    Json,
}

/// Writes JSON text for the values it visits.
struct Transcode {
    json: Vec<u8>,
    depth: usize,
    bad: Option<BadPayload>,
}

impl Transcode {
    fn at_the_top(&self) -> bool {
        self.depth == 1
    }

    fn refuse(&mut self, bad: BadPayload) -> Whole {
        self.bad.get_or_insert(bad);
        Whole::Json
    }

    fn write(&mut self, value: impl serde::Serialize) -> Whole {
        // Writing plain values into a Vec cannot fail.
        let _infallible = serde_json::to_writer(&mut self.json, &value);
        Whole::Json
    }

    /// Goes one level down, unless that is too deep.
    fn enter(&mut self) -> bool {
        if self.depth == JSON_DEPTH_MAX {
            self.refuse(BadPayload::TooComplex);
            return false;
        }
        self.depth += 1;
        true
    }
}

impl<'de> DeserializeSeed<'de> for &mut Transcode {
    type Value = Whole;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Whole, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Transcode {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Whole, E> {
        Ok(self.write(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Whole, E> {
        Ok(self.write(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Whole, E> {
        Ok(self.write(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Whole, E> {
        if value.is_finite() {
            return Ok(self.write(value));
        }
        Ok(self.refuse(BadPayload::NotJson("it has no NaN or infinity")))
    }

    fn visit_unit<E>(self) -> Result<Whole, E> {
        Ok(self.write(()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Whole, E> {
        if self.at_the_top() {
            return Ok(Whole::Text(text.to_owned()));
        }
        Ok(self.write(text))
    }

    /// Also a `str` that is not UTF-8: at the top it counts as bytes.
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Whole, E> {
        if self.at_the_top() {
            return Ok(Whole::Bytes(bytes.to_vec()));
        }
        Ok(self.refuse(BadPayload::NotJson("it has no bytes inside a structure")))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Whole, D::Error> {
        IgnoredAny::deserialize(extension)?;
        Ok(self.refuse(BadPayload::NotJson("it has no extension types")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Whole, A::Error> {
        if !self.enter() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Whole::Json);
        }
        self.json.push(b'[');
        let mut first = true;
        loop {
            let before = self.json.len();
            if !first {
                self.json.push(b',');
            }
            if items.next_element_seed(&mut *self)?.is_none() {
                self.json.truncate(before);
                break;
            }
            first = false;
        }
        self.json.push(b']');
        self.depth -= 1;
        Ok(Whole::Json)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Whole, A::Error> {
        if !self.enter() {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Whole::Json);
        }
        self.json.push(b'{');
        let mut keys = 0;
        while let Some(key) = fields.next_key::<MapKey>()? {
            keys += 1;
            if keys > 1 {
                self.json.push(b',');
            }
            match key {
                MapKey::Text(_) if keys > JSON_KEYS_MAX => {
                    self.refuse(BadPayload::TooComplex);
                }
                MapKey::Text(key) => {
                    self.write(key);
                }
                MapKey::Other => {
                    self.refuse(BadPayload::NotJson("keys are strings"));
                }
            }
            self.json.push(b':');
            fields.next_value_seed(&mut *self)?;
        }
        self.json.push(b'}');
        self.depth -= 1;
        Ok(Whole::Json)
    }
}

enum MapKey {
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for MapKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MapKey, D::Error> {
        let mut transcode = Transcode {
            json: Vec::new(),
            depth: 1,
            bad: None,
        };
        Ok(match (&mut transcode).deserialize(deserializer)? {
            Whole::Text(text) => MapKey::Text(text),
            Whole::Bytes(_) | Whole::Json => MapKey::Other,
        })
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

// Writing into a Vec cannot fail, so the results of `rmp::encode` below carry nothing.
impl Writer<'_> {
    fn key(&mut self, key: &'static str) {
        let _infallible = rmp::encode::write_str(self.out, key);
    }
}

impl Notation for Writer<'_> {
    fn map(&mut self, fields: usize) {
        let _infallible = rmp::encode::write_map_len(self.out, fields as u32);
    }

    fn end_map(&mut self) {}

    fn array(&mut self, key: &'static str, items: usize) {
        self.key(key);
        let _infallible = rmp::encode::write_array_len(self.out, items as u32);
    }

    fn next_item(&mut self) {}

    fn end_array(&mut self) {}

    fn map_field(&mut self, key: &'static str, fields: usize) {
        self.key(key);
        self.map(fields);
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        let _infallible = rmp::encode::write_str(self.out, value);
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        let _infallible = rmp::encode::write_uint(self.out, value);
    }

    fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        let _infallible = rmp::encode::write_bool(self.out, value);
    }

    fn json(&mut self, key: &'static str, json: &Payload) {
        self.key(key);
        let before = self.out.len();
        let mut json = serde_json::Deserializer::from_slice(json.as_bytes());
        // Payloads were checked when they were made, so this cannot fail; were it to, the frame stays whole.
        if Pack(self.out).deserialize(&mut json).is_err() {
            self.out.truncate(before);
            let _infallible = rmp::encode::write_nil(self.out);
        }
    }

    fn payload(&mut self, payload: &Payload) {
        match payload.kind() {
            PayloadKind::Text => {
                self.key("data");
                let _infallible = rmp::encode::write_str(self.out, payload.as_str().unwrap_or_default());
            }
            PayloadKind::Bytes => {
                self.key("data");
                let _infallible = rmp::encode::write_bin(self.out, payload.as_bytes());
            }
            PayloadKind::Json => self.json("data", payload),
        }
    }
}

/// Writes MessagePack for the JSON values it visits.
struct Pack<'a>(&'a mut Vec<u8>);

impl Pack<'_> {
    /// The length of a structure is known only at its end: makes room for its header then.
    fn header(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut header = Vec::with_capacity(5);
        write(&mut header);
        self.0.splice(at..at, header);
    }
}

impl<'de> DeserializeSeed<'de> for Pack<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pack<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        let _infallible = rmp::encode::write_bool(self.0, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        let _infallible = rmp::encode::write_sint(self.0, value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        let _infallible = rmp::encode::write_uint(self.0, value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let _infallible = rmp::encode::write_f64(self.0, value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        let _infallible = rmp::encode::write_nil(self.0);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let _infallible = rmp::encode::write_str(self.0, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let at = self.0.len();
        let mut length = 0;
        while items.next_element_seed(Pack(self.0))?.is_some() {
            length += 1;
        }
        self.header(at, |out| {
            let _infallible = rmp::encode::write_array_len(out, length);
        });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let at = self.0.len();
        let mut length = 0;
        while fields.next_key_seed(Pack(self.0))?.is_some() {
            fields.next_value_seed(Pack(self.0))?;
            length += 1;
        }
        self.header(at, |out| {
            let _infallible = rmp::encode::write_map_len(out, length);
        });
        Ok(())
    }
}

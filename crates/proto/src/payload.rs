//! The one payload model of all dialects: a message is JSON, text or bytes.

use std::fmt;

use bytes::Bytes;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Error as _};

use crate::json;

/// What kind of content a payload is. Decides how each dialect writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PayloadKind {
    /// A JSON value that is not a string: object, array, number, `true`, `false`, `null`.
    Json,
    /// Text. A JSON string is text.
    Text,
    /// Bytes without further meaning.
    Bytes,
}

/// The content of one message. Cheap to clone: the bytes are shared.
///
/// | kind  | JSON clients        | MessagePack clients  | raw clients          |
/// |-------|---------------------|----------------------|----------------------|
/// | JSON  | `data`: the value   | `data`: the value    | text: the JSON text  |
/// | text  | `data`: a string    | `data`: a string     | text: the characters |
/// | bytes | `data_base64`       | `data`: `bin`        | binary: the bytes    |
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    kind: PayloadKind,
    bytes: Bytes,
}

impl Payload {
    /// A payload from JSON text, which passes through as it is written. A JSON string becomes text.
    ///
    /// `text` must be one JSON value within the depth and key limits. Costs one pass; a copy if it is no string.
    pub fn json(text: &str) -> Result<Payload, BadPayload> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        json::check_payload(text.as_bytes())?;
        Payload::of_checked(text)
    }

    /// The same for text that was checked as a part of what it stands in.
    pub(crate) fn of_checked(text: &str) -> Result<Payload, BadPayload> {
        if let Some(inside) = text.strip_prefix('"') {
            let plain = json::plain_bytes(inside.as_bytes());
            if plain + 1 == inside.len() {
                return Ok(Payload::text(&inside[..plain]));
            }
            let characters: String = serde_json::from_str(text).map_err(|_| BadPayload::Json)?;
            return Ok(Payload::text(characters));
        }
        Ok(Payload {
            kind: PayloadKind::Json,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    /// A text payload.
    pub fn text(text: impl Into<String>) -> Payload {
        Payload {
            kind: PayloadKind::Text,
            bytes: Bytes::from(text.into()),
        }
    }

    /// A payload of bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Payload {
        Payload {
            kind: PayloadKind::Bytes,
            bytes: bytes.into(),
        }
    }

    /// What a raw text frame means: a JSON object or array if it is one within the limits, else text.
    pub fn from_raw_text(text: &str) -> Payload {
        let begins_as_structure = text
            .trim_start_matches([' ', '\t', '\r', '\n'])
            .starts_with(['{', '[']);
        if begins_as_structure && let Ok(payload) = Payload::json(text) {
            return payload;
        }
        Payload::text(text)
    }

    /// JSON text that the caller has already checked, and that is no string.
    pub(crate) fn checked_json(text: Vec<u8>) -> Payload {
        Payload {
            kind: PayloadKind::Json,
            bytes: text.into(),
        }
    }

    /// What kind of content it is.
    pub fn kind(&self) -> PayloadKind {
        self.kind
    }

    /// The JSON text, the characters as UTF-8, or the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON text or the characters; `None` for bytes.
    pub fn as_str(&self) -> Option<&str> {
        match self.kind {
            PayloadKind::Bytes => None,
            // Made from `str` in every constructor.
            PayloadKind::Json | PayloadKind::Text => {
                Some(std::str::from_utf8(&self.bytes).unwrap_or_default())
            }
        }
    }

    /// The content as a value of the application: what JSON clients see in `data`. Text is a string.
    ///
    /// # Errors
    /// Bytes, and what is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match (self.kind, self.as_str()) {
            (PayloadKind::Json, Some(text)) => serde_json::from_str(text),
            (_, Some(text)) => T::deserialize(StrDeserializer::new(text)),
            (_, None) => Err(serde_json::Error::custom("the payload is bytes, not JSON")),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => write!(f, "{:?}({text})", self.kind),
            None => write!(f, "Bytes({:?})", self.bytes),
        }
    }
}

/// Why something is not a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPayload {
    /// Not one JSON value.
    #[error("not valid JSON")]
    Json,
    /// Deeper or with more keys than [`crate::limits`] allows.
    #[error(
        "nested deeper than {} levels or more than {} keys in an object",
        crate::limits::JSON_DEPTH_MAX,
        crate::limits::JSON_KEYS_MAX
    )]
    TooComplex,
    /// A string with half of a surrogate pair, which is no text (RFC 8259 section 8.2).
    #[error("a string holds half of a surrogate pair, which is no character")]
    LoneSurrogate,
    /// A number that an IEEE 754 double cannot hold (RFC 8259 section 6).
    #[error("a number is too large for a double")]
    NumberTooLarge,
    /// Not base64 (RFC 4648 section 4, with padding).
    #[error("data_base64 is not base64")]
    Base64,
    /// A MessagePack value that JSON cannot say: bytes or an extension inside a structure, NaN, an infinite number, a
    /// key that is no string.
    #[error("MessagePack inside `data` must be what JSON can say: {0}")]
    NotJson(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: PayloadKind, content: &str) {
        let payload = Payload::from_raw_text(text);
        assert_eq!(
            (payload.kind(), payload.as_str()),
            (kind, Some(content)),
            "{text}"
        );
    }

    #[test]
    fn a_raw_text_frame_is_json_only_as_object_or_array() {
        check(r#"{"a":1}"#, PayloadKind::Json, r#"{"a":1}"#);
        check(" [1, 2]\n", PayloadKind::Json, "[1, 2]");
        check("17", PayloadKind::Text, "17");
        check("null", PayloadKind::Text, "null");
        check(r#""quoted""#, PayloadKind::Text, r#""quoted""#);
        check("{not json", PayloadKind::Text, "{not json");
        check("", PayloadKind::Text, "");
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        check(&deep, PayloadKind::Text, &deep);
    }

    #[test]
    fn a_payload_is_as_deep_as_fits_into_a_command_however_it_came() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Payload::json(&nested(31)).is_ok());
        assert_eq!(Payload::json(&nested(32)), Err(BadPayload::TooComplex));
        check(&nested(32), PayloadKind::Text, &nested(32));
    }

    #[test]
    fn the_content_as_a_value() {
        let json = Payload::json("[1, 2]").unwrap();
        assert_eq!(json.decode::<Vec<u8>>().unwrap(), [1, 2]);
        assert!(json.decode::<String>().is_err());
        assert_eq!(Payload::text("[1, 2]").decode::<String>().unwrap(), "[1, 2]");
        assert_eq!(Payload::text("x").decode::<serde_json::Value>().unwrap(), "x");
        assert!(Payload::bytes(vec![b'1']).decode::<u8>().is_err());
    }

    #[test]
    fn a_json_string_is_text() {
        let payload = Payload::json(r#""a\u00e9\n""#).unwrap();
        assert_eq!(
            (payload.kind(), payload.as_str()),
            (PayloadKind::Text, Some("aé\n"))
        );
        assert_eq!(Payload::json(r#""\ud800""#), Err(BadPayload::LoneSurrogate));
    }
}

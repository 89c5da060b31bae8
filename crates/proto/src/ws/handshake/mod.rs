//! The opening handshake over HTTP/1.1 ([RFC 6455, section 4]), both roles.
//!
//! What it is: decisions on requests and responses as the `http` crate has them, so that an HTTP library can
//! hand over what it parsed; and a [`HeadReader`] with encoders beside it for who has only bytes. What it is
//! not: routing, origin checks or authentication, which come before it, and frames, which come after.
//!
//! ```text
//!  ClientHandshake::new ── request ──► server::accept ─► Accepted { response 101, subprotocol, compression }
//!                                                    └─► Refused  { a status and its reason in a line }
//!  ClientHandshake::check ◄── response ──┘
//!     └─► Connected { subprotocol, compression } or Failed
//! ```
//!
//! The upgrade proper (method, `Upgrade`, key, version) and what is negotiated inside it (subprotocol,
//! extensions) are separate functions in both roles: an extended CONNECT (RFC 8441) shares only the second.
//!
//! Reading order: this file, `server`, `client`, `head`.
//!
//! [RFC 6455, section 4]: https://www.rfc-editor.org/rfc/rfc6455#section-4

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, general_purpose};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha1::{Digest, Sha1};

pub mod client;
pub mod head;
pub mod server;

pub use client::{ClientHandshake, ClientOptions, Connected, Failed, Unrequestable};
pub use head::{HeadError, HeadLimits, HeadReader, encode_request, encode_response};
pub use server::{Accepted, Refused, ServerOptions, accept};

/// What the accept value is hashed with ([RFC 6455, section
/// 1.3](https://www.rfc-editor.org/rfc/rfc6455#section-1.3)).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 that does not mind bits set in the unused part of the last character: some clients make a key of
/// random characters, and the server only hashes it.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    general_purpose::PAD.with_decode_allow_trailing_bits(true),
);

/// A `Sec-WebSocket-Key`: the base64 of 16 bytes, as text.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Key([u8; Key::LEN]);

impl Key {
    const LEN: usize = 24;

    /// "The value of this header field MUST be a nonce consisting of a randomly selected 16-byte value that
    /// has been base64-encoded" (RFC 6455, 4.1)
    fn new(nonce: [u8; 16]) -> Key {
        let mut text = [0; Key::LEN];
        let written = FORGIVING.encode_slice(nonce, &mut text);
        debug_assert_eq!(written, Ok(Key::LEN));
        Key(text)
    }

    /// "a base64-encoded (see Section 4 of \[RFC4648\]) value that, when decoded, is 16 bytes in length" (RFC
    /// 6455, 4.2.1)
    fn parse(value: &[u8]) -> Option<Key> {
        let text = value.try_into().ok()?;
        let decoded = FORGIVING.decode_slice(text, &mut [0; Key::LEN]);
        (decoded == Ok(16)).then_some(Key(text))
    }

    /// The `Sec-WebSocket-Accept` that answers this key.
    fn accept(&self) -> HeaderValue {
        let digest = Sha1::new().chain_update(self.0).chain_update(GUID).finalize();
        header_value(FORGIVING.encode(digest))
    }

    fn header_value(&self) -> HeaderValue {
        header_value(self.0)
    }
}

/// A header value of text that this module made or checked: tokens, base64, parameters.
fn header_value(text: impl AsRef<[u8]>) -> HeaderValue {
    HeaderValue::from_bytes(text.as_ref()).expect("tokens and base64 are visible ASCII")
}

/// The elements of a comma-separated header that may stand in several lines. Empty elements are left out, as
/// [RFC 9110, section 5.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1) has it.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether `token` is in the list, in any case.
fn lists_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of a header that may stand once only.
enum Single<'a> {
    Missing,
    Repeated,
    Value(&'a [u8]),
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Missing,
        (Some(value), None) => Single::Value(value.as_bytes().trim_ascii()),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 6455, 1.3
    #[test]
    fn rfc_6455_accept_value() {
        let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(key, Key::new(*b"the sample nonce"));
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn key_must_decode_to_16_bytes() {
        for (value, is_key) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            // bits set where nothing is encoded
            ("dGhlIHNhbXBsZSBub25jZR==", true),
            ("", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ= ", false),
            ("dGhlIHNhbXBsZSBub25jZQA=", false),
            ("dGhlIHNhbXBsZSBub25jZQAA", false),
            ("dGhlIHNhbXBsZSBub25j====", false),
            ("dGhlIHNhbXBsZSBub25jZQ--", false),
            ("dGhlIHNhbXBsZSBub25_ZQ==", false),
            ("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==", false),
        ] {
            assert_eq!(Key::parse(value.as_bytes()).is_some(), is_key, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn every_nonce_makes_a_key(nonce: [u8; 16]) {
            let key = Key::new(nonce);
            prop_assert_eq!(Key::parse(key.header_value().as_bytes()), Some(key));
        }

        #[test]
        fn random_bytes_never_panic(value in prop::collection::vec(any::<u8>(), 0..48)) {
            let _ = Key::parse(&value);
        }
    }
}

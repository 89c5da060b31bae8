//! How payloads of the checker travel: as JSON, as text, as bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use switchboard_check::payload::{Altered, Payload as Checked};
use switchboard_client::{Payload, PayloadKind};

use crate::random::Random;

/// Of a body, where none is large and where some are, or a few more.
pub const BODY_BYTES_MAX: [u64; 2] = [300, 30_000];

/// A body with its filling: short mostly, sometimes large enough to fill what waits for a socket.
pub fn body(random: &mut Random, large_percent: u64) -> String {
    let bytes = match random.percent(large_percent) {
        true => random.between(4_000, BODY_BYTES_MAX[1]),
        false => random.between(0, BODY_BYTES_MAX[0]),
    };
    // Not one letter: what can be compressed away fills nothing.
    (0..bytes.div_ceil(8))
        .map(|_| format!("{:08x}", random.number() as u32))
        .collect()
}

/// As it is said to the server.
pub fn carried(random: &mut Random, payload: &Checked) -> Payload {
    let json = payload.json();
    match random.between(0, 9) {
        0 => Payload::text(json),
        1 => Payload::bytes(json.into_bytes()),
        _ => Payload::json(&json).unwrap_or_else(|_| Payload::text(json)),
    }
}

/// What came.
pub fn read(payload: &Payload) -> Option<Checked> {
    let text = match payload.kind() {
        PayloadKind::Text | PayloadKind::Json => payload.as_str()?,
        PayloadKind::Bytes => std::str::from_utf8(payload.as_bytes()).ok()?,
    };
    parse(text).ok()
}

/// From its JSON, or from JSON that carries that as a string.
pub fn parse(text: &str) -> Result<Checked, Altered> {
    match serde_json::from_str::<String>(text) {
        Ok(carried) => Checked::parse(&carried),
        Err(_it_is_an_object) => Checked::parse(text),
    }
}

pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

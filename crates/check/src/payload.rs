//! What the clients of a run publish: enough to know every message again, and to see that it came as it was said.
//!
//! `{"p":"writer-2","n":17,"c":"room:1","b":"…","s":"9f1c02ab"}`: who, the how-manieth, to which channel, a body of any length, and CRC-32
//! (ISO-HDLC, in hexadecimal) of `p`, `n`, `c` and `b` with a line feed between them.

use serde::{Deserialize, Serialize};

/// One payload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Payload {
    /// Who said it.
    #[serde(rename = "p")]
    pub publisher: String,
    /// The how-manieth of this publisher, from 1.
    #[serde(rename = "n")]
    pub number: u64,
    /// To which channel.
    #[serde(rename = "c")]
    pub channel: String,
    /// Filling.
    #[serde(rename = "b")]
    pub body: String,
    /// The sum over all of it.
    #[serde(rename = "s")]
    sum: String,
}

/// Why something that came is not what somebody said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Altered {
    /// It is no such object.
    #[error("it is not a payload of this run")]
    Foreign,
    /// It is one, and its sum is wrong.
    #[error("its sum is wrong")]
    Sum,
}

impl Payload {
    /// With its sum.
    pub fn new(publisher: &str, number: u64, channel: &str, body: String) -> Payload {
        let mut payload = Payload {
            publisher: publisher.to_owned(),
            number,
            channel: channel.to_owned(),
            body,
            sum: String::new(),
        };
        payload.sum = payload.sum();
        payload
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What came.
    ///
    /// # Errors
    /// It is not what was said.
    pub fn parse(json: &str) -> Result<Payload, Altered> {
        let payload: Payload = serde_json::from_str(json).map_err(|_| Altered::Foreign)?;
        match payload.sum == payload.sum() {
            true => Ok(payload),
            false => Err(Altered::Sum),
        }
    }

    fn sum(&self) -> String {
        let Payload {
            publisher,
            number,
            channel,
            body,
            sum: _,
        } = self;
        let text = format!("{publisher}\n{number}\n{channel}\n{body}");
        format!("{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_who_how_many_and_where() {
        let payload = Payload::new("writer-2", 17, "room:1", "…".to_owned());
        assert_eq!(Payload::parse(&payload.json()), Ok(payload.clone()));
        let altered = payload.json().replace("17", "18");
        assert_eq!(Payload::parse(&altered), Err(Altered::Sum));
        assert_eq!(Payload::parse("\"hello\""), Err(Altered::Foreign));
    }
}

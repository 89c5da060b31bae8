//! What is published.

use serde::Serialize;
use switchboard_proto::entry::Key;
use switchboard_proto::limits::KEY_BYTES_MAX;
use switchboard_proto::payload::Payload;

use crate::error::PublishError;

/// A message to publish: a payload, with an idempotency key if it may have to be published again.
///
/// Text makes one, bytes make one, and so does a [`Payload`]:
///
/// ```
/// use switchboard_client::{Payload, Publication};
///
/// let text = Publication::from("hi");
/// let bytes = Publication::from(vec![0, 255]);
/// let json = Publication::from(Payload::json(r#"{"text":"hi"}"#)?);
/// let once = Publication::from("order 17").key("c1-17")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Publication {
    pub(crate) payload: Payload,
    pub(crate) key: Option<Key>,
    pub(crate) conflate: Option<Key>,
}

impl Publication {
    /// A message that is this value, as JSON.
    ///
    /// # Errors
    /// [`PublishError::Unwritable`], where serde cannot write it; [`PublishError::BadPayload`], where it is beyond the limits of depth
    /// and keys.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Publication, PublishError> {
        let text = serde_json::to_string(value)?;
        Ok(Publication::from(Payload::json(&text)?))
    }

    /// The same with an idempotency key of 1 to 128 bytes: what is published to the channel with the same key, within the
    /// server's window (5 min by default), is acknowledged as this message and not published again.
    ///
    /// # Errors
    /// The key is empty or too long.
    pub fn key(self, key: &str) -> Result<Publication, BadKey> {
        Ok(Publication {
            key: Some(Key::parse(key).ok_or(BadKey)?),
            ..self
        })
    }

    /// The same as the newest state of something that this conflation key of 1 to 128 bytes names: subscribers that conflate get it
    /// in place of older messages with this key.
    ///
    /// # Errors
    /// The key is empty or too long.
    pub fn conflate(self, key: &str) -> Result<Publication, BadKey> {
        Ok(Publication {
            conflate: Some(Key::parse(key).ok_or(BadKey)?),
            ..self
        })
    }
}

impl From<Payload> for Publication {
    fn from(payload: Payload) -> Publication {
        Publication {
            payload,
            key: None,
            conflate: None,
        }
    }
}

impl From<&str> for Publication {
    fn from(text: &str) -> Publication {
        Payload::text(text).into()
    }
}

impl From<String> for Publication {
    fn from(text: String) -> Publication {
        Payload::text(text).into()
    }
}

impl From<Vec<u8>> for Publication {
    fn from(bytes: Vec<u8>) -> Publication {
        Payload::bytes(bytes).into()
    }
}

/// A key is empty or too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a key has 1 to {KEY_BYTES_MAX} bytes")]
pub struct BadKey;

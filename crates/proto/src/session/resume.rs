//! What lets a client that has lost its connection be the same session of the same user on the next one.
//!
//! A server keeps nothing of a session that is gone. It hands every client a token that names the session and its user, signed
//! with a key of its own, and believes whoever shows it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::server::{Identity, SessionId};
use crate::entry::User;

/// Of the HMAC-SHA-256 (RFC 2104) that stands before what it signs, truncated as its section 5 allows.
const SIGNATURE_BYTES: usize = 16;
/// Of a session.
const SESSION_BYTES: usize = 8;

/// What a server signs with: 256 random bits that nobody else knows. Tokens are worth as much as the key lives.
#[derive(Clone)]
pub struct ResumeKey([u8; 32]);

impl ResumeKey {
    /// A key of these bits.
    pub fn new(bits: [u8; 32]) -> ResumeKey {
        ResumeKey(bits)
    }

    /// The token of a session: `r`, then base64 (RFC 4648 section 5, without padding) of signature, session and user.
    pub fn token(&self, identity: &Identity) -> String {
        let mut signed = identity.session.0.to_be_bytes().to_vec();
        signed.extend_from_slice(identity.user.as_str().as_bytes());
        let signature = self.mac(&signed).finalize().into_bytes();
        let mut bytes = signature[..SIGNATURE_BYTES].to_vec();
        bytes.extend_from_slice(&signed);
        let mut token = String::from("r");
        URL_SAFE_NO_PAD.encode_string(bytes, &mut token);
        token
    }

    /// Who a token is of; `None` if this key did not sign it. Takes as long whatever is wrong with the signature.
    pub fn identity(&self, token: &str) -> Option<Identity> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix('r')?).ok()?;
        let (signature, signed) = bytes.split_at_checked(SIGNATURE_BYTES)?;
        self.mac(signed).verify_truncated_left(signature).ok()?;
        let (session, user) = signed.split_first_chunk::<SESSION_BYTES>()?;
        Some(Identity {
            session: SessionId(u64::from_be_bytes(*session)),
            user: User::new(std::str::from_utf8(user).ok()?),
        })
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes a key of any length (RFC 2104 section 2)");
        };
        mac.update(signed);
        mac
    }
}

impl std::fmt::Debug for ResumeKey {
    /// Keys do not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            session: SessionId(0x8c2f_6f0a_51d3_e7b4),
            user: User::new("guest-4fd1a2"),
        }
    }

    #[test]
    fn a_token_names_its_session_and_user() {
        let key = ResumeKey::new([7; 32]);
        let read = key.identity(&key.token(&identity())).unwrap();
        assert_eq!((read.session, read.user), (identity().session, identity().user));
    }

    #[test]
    fn nothing_but_what_the_key_signed_is_a_token() {
        let key = ResumeKey::new([7; 32]);
        let token = key.token(&identity());
        assert!(ResumeKey::new([8; 32]).identity(&token).is_none());
        for at in 1..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(key.identity(&altered).is_none(), "{altered}");
            assert!(key.identity(&token[..at]).is_none(), "{at}");
        }
        assert!(key.identity("").is_none());
        assert!(key.identity(&"r".repeat(8_192)).is_none());
    }
}

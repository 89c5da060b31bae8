//! Proof of identity: a token, or where one comes from.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use switchboard_proto::error_code::ErrorCode;

use crate::error::{ConnectError, Refusal};

type Fetching = Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send>>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) enum Token {
    #[default]
    None,
    Fixed(String),
    Source(Arc<dyn Fn() -> Fetching + Send + Sync>),
}

impl Token {
    pub(crate) fn source<F, E>(source: impl Fn() -> F + Send + Sync + 'static) -> Token
    where
        F: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: Display,
    {
        Token::Source(Arc::new(move || {
            let fetching = source();
            Box::pin(async { fetching.await.map_err(|error| error.to_string()) })
        }))
    }

    /// Whether another one may come.
    pub(crate) fn is_source(&self) -> bool {
        matches!(self, Token::Source(_))
    }

    /// The token for a connection.
    pub(crate) async fn fetch(&self) -> Result<Option<String>, ConnectError> {
        match self {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone())),
            Token::Source(source) => match source().await {
                Ok(Some(token)) => Ok(Some(token)),
                Ok(None) => Err(ConnectError::Rejected(Refusal::certain(ErrorCode::Unauthorized))),
                Err(error) => Err(ConnectError::NoToken(error)),
            },
        }
    }
}

/// How long a JWT (RFC 7519 section 4.1.4) is still valid. Other tokens do not say it.
pub(crate) fn validity(token: &str) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = token.split('.').nth(1)?.trim_end_matches('=');
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::try_from_secs_f64(claims.exp).ok()?.saturating_sub(now))
}

/// After how long a token that is valid for so long is replaced; `None` where it has expired. As it was shown to a server that took it, the
/// clock here is wrong then, and the server will say when it takes it no longer.
pub(crate) fn renewal(valid: Duration) -> Option<Duration> {
    /// How long before it expires, if it lives that long.
    const BEFORE: Duration = Duration::from_secs(30);
    /// Nobody is kept busy by tokens that live for a moment.
    const MIN: Duration = Duration::from_secs(1);
    /// An `Instant` has an end.
    const MAX: Duration = Duration::from_secs(86_400 * 7);
    let wait = valid.saturating_sub(BEFORE).max(valid / 2);
    (!valid.is_zero()).then(|| wait.clamp(MIN, MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_before_it_expires_and_not_again_and_again() {
        let ms = Duration::from_millis;
        for (valid, expected) in [
            (3_600_000, Some(3_570_000)),
            (60_000, Some(30_000)),
            (30_000, Some(15_000)),
            (10_000, Some(5_000)),
            (500, Some(1_000)),
            (0, None),
        ] {
            assert_eq!(renewal(ms(valid)), expected.map(ms), "{valid}");
        }
        assert_eq!(renewal(Duration::MAX), Some(ms(7 * 86_400_000)));
    }

    #[test]
    fn only_a_jwt_says_how_long_it_is_valid() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let hour = format!(r#"{{"sub":"ana","exp":{}}}"#, now.as_secs() + 3_600);
        let valid = validity(&jwt(&hour)).unwrap().as_secs();
        assert!((3_590..=3_600).contains(&valid), "{valid}");
        assert_eq!(validity(&jwt(r#"{"exp":1}"#)), Some(Duration::ZERO));
        for other in [
            "",
            "secret",
            "a.b.c",
            &jwt("{}"),
            &jwt(r#"{"exp":-1}"#),
            &jwt(r#"{"exp":"x"}"#),
        ] {
            assert_eq!(validity(other), None, "{other}");
        }
    }
}

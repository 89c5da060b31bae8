//! Asking a channel's home from a request, and saying what did not work.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use switchboard_hub::home::Answer;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{DialectId, Event};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::session::server::Refusal;
use tokio::sync::oneshot;

use crate::shard::mail::{Mail, Origin, Post};
use crate::shard::turn::broker_error;

/// A broker that does not answer for this long is unavailable.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// When to try again after what may succeed later, where nobody has said it.
const RETRY: Duration = Duration::from_secs(1);

/// Sends `mail` to the home of `channel` and waits for the answer.
///
/// # Errors
/// The home or its broker did not do it.
pub async fn ask(
    post: &Post,
    channel: &ChannelName,
    mail: impl FnOnce(Origin) -> Mail,
) -> Result<Answer, Refusal> {
    let (sender, receiver) = oneshot::channel();
    let refused = |code: ErrorCode| refusal(code, code.text());
    post.send(post.home(channel), mail(Origin::Api(sender)))
        .map_err(|_| refused(ErrorCode::Overloaded))?;
    match tokio::time::timeout(ANSWER_DEADLINE, receiver).await {
        Ok(Ok(Answer::Refused(error))) => Err(refused(broker_error(error))),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(refused(ErrorCode::Unavailable)),
    }
}

/// An error, and when to try again if that may help.
pub fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal {
        code,
        message: message.to_owned(),
        retry_after: None,
    }
}

/// A home answered something else than it was asked.
pub fn unexpected(answer: &Answer) -> Refusal {
    tracing::error!(?answer, "a home answered something else than it was asked");
    refusal(ErrorCode::Internal, ErrorCode::Internal.text())
}

/// The same fields as the event has on the wire.
pub fn json(event: &Event<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let _text = DialectId::Json.dialect().encode(event, &mut body);
    body
}

/// An error of the catalogue as an HTTP answer: its status, headers and body.
pub fn refuse(refusal: &Refusal) -> (StatusCode, HeaderMap, Vec<u8>) {
    let Refusal {
        code,
        message,
        retry_after,
    } = refusal;
    let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 section 15.5.2: an answer with this status names a scheme.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        let seconds = retry_after.unwrap_or(RETRY).as_secs_f64().ceil();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
    }
    let body = json(&Event::Error {
        id: None,
        code: *code,
        message,
        retry_after: *retry_after,
    });
    (status, headers, body)
}

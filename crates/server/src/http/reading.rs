//! What the query of `/sse` and `/poll` asks for.
//!
//! | parameter | |
//! |---|---|
//! | `channel` | a channel to read; once for each |
//! | `since` | where to go on; of several channels, one token for all |
//! | `latest` | `true`: where messages cannot be had one by one, only the newest of each conflation key |
//! | `presence` | `true`, `member` or `watch`, as in `subscribe`: in each of the channels |
//! | `info` | what a member says of itself: a JSON object |
//! | `resume` | go on as the session that was given this |
//! | `wait` | of a poll: seconds for which it may be held |

use std::borrow::Cow;
use std::time::Duration;

use switchboard_proto::channel::ChannelName;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::limits::TOKEN_BYTES_MAX;
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::{Attendance, Role};
use switchboard_proto::session::places::{BadPlaces, Places};
use switchboard_proto::session::server::Refusal;

use super::ask::refusal;

/// See the module.
#[derive(Debug)]
pub struct Reading {
    /// The channels, each from where.
    pub places: Places,
    /// Conflate what cannot be had one by one.
    pub latest: bool,
    /// Be there, hear who is.
    pub presence: Option<Attendance>,
    /// Proof of being an earlier session.
    pub resume: Option<String>,
    /// For how long a poll may be held.
    pub wait: Duration,
}

impl Reading {
    /// Reads a query. What an `EventSource` says of where it is comes in a header, `last_event_id`, and is newer than its URL.
    ///
    /// # Errors
    /// What is wrong with it. Such an answer ends an `EventSource` for good.
    pub fn parse(
        query: &str,
        last_event_id: Option<&str>,
        channels_max: usize,
        wait_max: Duration,
    ) -> Result<Reading, Refusal> {
        let bad = |message: &str| refusal(ErrorCode::BadRequest, message);
        let mut channels = Vec::new();
        let (mut since, mut resume, mut presence, mut info) = (None, None, None, None);
        let (mut latest, mut wait) = (false, wait_max);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "channel" => {
                    let channel = ChannelName::parse(&value)
                        .map_err(|bad| refusal(ErrorCode::BadChannel, &bad.to_string()))?;
                    if channels.contains(&channel) {
                        return Err(refusal(
                            ErrorCode::AlreadySubscribed,
                            "`channel` is the same twice",
                        ));
                    }
                    if channels.len() >= channels_max {
                        let code = ErrorCode::TooManySubscriptions;
                        return Err(refusal(code, code.text()));
                    }
                    channels.push(channel);
                }
                "since" => since = Some(value),
                "resume" if value.len() > TOKEN_BYTES_MAX => {
                    return Err(bad("`resume` is longer than 8 KiB"));
                }
                "resume" => resume = Some(value.into_owned()),
                "latest" => latest = switch("latest", &value)?,
                "presence" => presence = Some(value),
                "info" => info = Some(value),
                "wait" => {
                    let seconds = value.parse().map_err(|_| bad("`wait` is a number of seconds"))?;
                    wait = wait_max.min(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
        if channels.is_empty() {
            return Err(bad("`channel` is missing"));
        }
        let since = last_event_id.map(Cow::Borrowed).or(since);
        // Whoever has no position yet may say so.
        let places = match since.filter(|since| !since.is_empty()) {
            None => Places::new(channels),
            Some(since) => Places::parse(channels, &since).map_err(|bad: BadPlaces| {
                let message = bad.to_string();
                refusal(ErrorCode::BadPosition, &message)
            })?,
        };
        Ok(Reading {
            places,
            latest,
            presence: attendance(presence.as_deref(), info.as_deref()).map_err(bad)?,
            resume,
            wait,
        })
    }
}

fn switch(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refusal(
            ErrorCode::BadRequest,
            &format!("`{name}` is true or false"),
        )),
    }
}

fn attendance(presence: Option<&str>, info: Option<&str>) -> Result<Option<Attendance>, &'static str> {
    let role = match presence {
        None | Some("false") => None,
        Some("true") => Some(Role::Participant),
        Some(Role::MEMBER) => Some(Role::Member),
        Some(Role::WATCH) => Some(Role::Watcher),
        Some(_) => return Err("`presence` is true, false, member or watch"),
    };
    Attendance::of(role, info.map(Payload::json))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Reading, Refusal> {
        Reading::parse(query, None, 3, Duration::from_secs(30))
    }

    fn code(query: &str) -> ErrorCode {
        parse(query).unwrap_err().code
    }

    #[test]
    fn everything_that_can_be_asked_for() {
        let reading = parse(
            "channel=a%3A1&channel=b&latest=true&presence=member&info=%7B%22n%22%3A1%7D&resume=rX&wait=7&_=1",
        )
        .unwrap();
        let channels: Vec<_> = reading
            .places
            .iter()
            .map(|place| place.channel.as_str())
            .collect();
        assert_eq!(channels, ["a:1", "b"]);
        assert!(reading.latest);
        let attendance = reading.presence.unwrap();
        assert_eq!(attendance.role, Role::Member);
        assert_eq!(attendance.info.unwrap().as_bytes(), br#"{"n":1}"#);
        assert_eq!(reading.resume.as_deref(), Some("rX"));
        assert_eq!(reading.wait, Duration::from_secs(7));
        assert_eq!(parse("channel=a&wait=99").unwrap().wait, Duration::from_secs(30));
        assert_eq!(parse("channel=a&wait=0&since=").unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn what_cannot_be_asked_for() {
        for (query, expected) in [
            ("", ErrorCode::BadRequest),
            ("channel=", ErrorCode::BadChannel),
            ("channel=$x", ErrorCode::BadChannel),
            ("channel=a&channel=a", ErrorCode::AlreadySubscribed),
            (
                "channel=a&channel=b&channel=c&channel=d",
                ErrorCode::TooManySubscriptions,
            ),
            ("channel=a&since=18", ErrorCode::BadPosition),
            ("channel=a&latest=1", ErrorCode::BadRequest),
            ("channel=a&presence=yes", ErrorCode::BadRequest),
            ("channel=a&presence=watch&info=%7B%7D", ErrorCode::BadRequest),
            ("channel=a&presence=true&info=7", ErrorCode::BadRequest),
            ("channel=a&wait=soon", ErrorCode::BadRequest),
            ("channel=a&wait=-1", ErrorCode::BadRequest),
        ] {
            assert_eq!(code(query), expected, "{query}");
        }
        let long = format!("channel=a&resume={}", "x".repeat(9_000));
        assert_eq!(code(&long), ErrorCode::BadRequest);
    }

    proptest! {
        #[test]
        fn any_query_gets_a_verdict(query: String, header: Option<String>) {
            let _verdict = Reading::parse(&query, header.as_deref(), 128, Duration::from_secs(30));
        }
    }
}

//! What the query of `/sse` and `/poll` asks for.
//!
//! | parameter | |
//! |---|---|
//! | `channel` | a channel to read; once for each |
//! | `since` | where to go on; of several channels, one token for all |
//! | `latest` | `true`: where messages cannot be had one by one, only the newest of each conflation key |
//! | `presence` | `true`, `member` or `watch`, as in `subscribe` |
//! | `info` | what a member says of itself: a JSON object |
//! | `resume` | go on as the session that was given this |
//! | `wait` | of a poll: seconds for which it may be held |
//!
//! `latest`, `presence` and `info` are of the channels that stand before them: `channel=a&channel=b&presence=true&channel=c`. A `channel`
//! behind one of them begins anew.

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
    /// What is wanted of each of them, in their order.
    pub wishes: Vec<Wish>,
    /// Proof of being an earlier session.
    pub resume: Option<String>,
    /// For how long a poll may be held.
    pub wait: Duration,
}

/// What is wanted of a channel.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wish {
    /// Where messages cannot be had one by one, only the newest of each conflation key.
    pub latest: bool,
    /// Be there, hear who is.
    pub presence: Option<Attendance>,
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
        let (mut since, mut resume, mut wait) = (None, None, wait_max);
        let (mut wishes, mut group) = (Vec::new(), Group::default());
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
                    if group.is_whole {
                        std::mem::take(&mut group).wish(&mut wishes).map_err(bad)?;
                    }
                    group.channels += 1;
                }
                "since" => since = Some(value),
                "resume" if value.len() > TOKEN_BYTES_MAX => {
                    return Err(bad("`resume` is longer than 8 KiB"));
                }
                "resume" => resume = Some(value.into_owned()),
                "latest" => group.put(|group| group.latest = Some(value)),
                "presence" => group.put(|group| group.presence = Some(value)),
                "info" => group.put(|group| group.info = Some(value)),
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
        group.wish(&mut wishes).map_err(bad)?;
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
            wishes,
            resume,
            wait,
        })
    }
}

/// Channels that stand together, and what is wanted of them.
#[derive(Default)]
struct Group<'a> {
    channels: usize,
    latest: Option<Cow<'a, str>>,
    presence: Option<Cow<'a, str>>,
    info: Option<Cow<'a, str>>,
    /// A further channel is not of it.
    is_whole: bool,
}

impl Group<'_> {
    fn put(&mut self, put: impl FnOnce(&mut Self)) {
        put(self);
        self.is_whole = self.channels > 0;
    }

    fn wish(self, wishes: &mut Vec<Wish>) -> Result<(), &'static str> {
        let latest = match self.latest.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err("`latest` is true or false"),
        };
        let role = match self.presence.as_deref() {
            None | Some("false") => None,
            Some("true") => Some(Role::Participant),
            Some(Role::MEMBER) => Some(Role::Member),
            Some(Role::WATCH) => Some(Role::Watcher),
            Some(_) => return Err("`presence` is true, false, member or watch"),
        };
        let presence = Attendance::of(role, self.info.as_deref().map(Payload::json))?;
        let wish = Wish { latest, presence };
        wishes.extend(std::iter::repeat_n(wish, self.channels));
        Ok(())
    }
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
        let [first, second] = &reading.wishes[..] else {
            panic!("{reading:?}");
        };
        assert_eq!(first, second);
        assert!(first.latest);
        let attendance = first.presence.as_ref().unwrap();
        assert_eq!(attendance.role, Role::Member);
        assert_eq!(attendance.info.as_ref().unwrap().as_bytes(), br#"{"n":1}"#);
        assert_eq!(reading.resume.as_deref(), Some("rX"));
        assert_eq!(reading.wait, Duration::from_secs(7));
        assert_eq!(parse("channel=a&wait=99").unwrap().wait, Duration::from_secs(30));
        assert_eq!(parse("channel=a&wait=0&since=").unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn each_channel_may_be_asked_for_otherwise() {
        for (query, expected) in [
            ("channel=a&channel=b&presence=true&channel=c", ["-p", "-p", "--"]),
            (
                "channel=a&presence=true&channel=b&latest=true&presence=true&channel=c",
                ["-p", "lp", "--"],
            ),
            (
                "channel=a&since=&channel=b&latest=true&wait=0&channel=c&latest=false",
                ["l-", "l-", "--"],
            ),
            (
                "latest=true&channel=a&channel=b&presence=true&channel=c",
                ["lp", "lp", "--"],
            ),
        ] {
            let wishes = parse(query).unwrap().wishes.into_iter();
            let said: Vec<String> = wishes
                .map(|wish| {
                    let (latest, presence) = (wish.latest, wish.presence.is_some());
                    [(latest, 'l'), (presence, 'p')]
                        .map(|(is, letter)| if is { letter } else { '-' })
                        .iter()
                        .collect()
                })
                .collect();
            assert_eq!(said, expected, "{query}");
        }
        assert_eq!(
            code("channel=a&presence=watch&info=%7B%7D&channel=b"),
            ErrorCode::BadRequest
        );
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

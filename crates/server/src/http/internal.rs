//! The internal listener: for the application backend and its operators. Nothing here asks who calls, so it belongs on an
//! address that only they reach.
//!
//! | | |
//! |---|---|
//! | `GET /healthz` | the process is alive |
//! | `GET /readyz` | it takes connections; 503 while it stops |
//! | `GET /metrics` | Prometheus text format |
//! | `POST /api/v1/publish?channel=NAME&key=KEY&conflate=KEY` | appends the body to the channel |
//! | `GET /api/v1/presence?channel=NAME&after=NEXT&sample=true&limit=N` | who is in the channel |
//! | `GET /api/v1/history?channel=NAME&since=POSITION&before=POSITION&latest=true&limit=N` | reads the channel's log |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use switchboard_hub::home::Answer;
use switchboard_hub::log::Draft;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::Event;
use switchboard_proto::entry::Key;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::presence::Which;
use switchboard_proto::session::server as session;

use super::ask;
use super::cors::{self, Cors};
use crate::broker::disk::writer::Shared;
use crate::config::Config;
use crate::shard::commands::{history_limit, members_limit};
use crate::shard::mail::{Mail, Origin, Post};
use crate::shard::turn::history;
use crate::stats::{AllStats, prometheus};

/// Largest body of a publish, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the handlers need.
#[derive(Clone)]
pub struct Internal {
    /// The shards' mailboxes.
    pub post: Post,
    /// The shards' counters.
    pub stats: AllStats,
    /// The server stops.
    pub stopping: Arc<AtomicBool>,
    /// Says which pages may ask.
    pub config: Arc<Config>,
    /// What is on the disk, where anything is.
    pub disk: Option<Arc<Shared>>,
}

/// The routes.
pub fn router(internal: Internal) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/publish", post(publish))
        .route("/api/v1/history", get(read_history))
        .route("/api/v1/presence", get(read_members))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(internal.clone(), refuse_foreign_pages))
        .with_state(internal)
}

/// Nothing here asks who calls, because only who reaches the address can. Any page in a browser of this machine reaches
/// it, and may POST without asking first; but the browser says where the page is from. Nothing here is to be embedded, not even
/// in pages of this machine.
async fn refuse_foreign_pages(
    State(internal): State<Internal>,
    request: Request,
    next: Next,
) -> Result<Response, (StatusCode, String)> {
    let headers = request.headers();
    let is_embedded = !headers.contains_key(header::ORIGIN) && cors::site(headers) == Some(b"same-site");
    let words = match Cors::of(headers, &internal.config, internal.config.listen.internal) {
        Ok(_) if is_embedded => cors::FOREIGN,
        Ok(_) => return Ok(next.run(request).await),
        Err(words) => words,
    };
    Err((StatusCode::FORBIDDEN, format!("{words}\n")))
}

async fn readyz(State(internal): State<Internal>) -> Response {
    if internal.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(internal): State<Internal>) -> Response {
    let mut text = prometheus(&internal.stats);
    if let Some(disk) = &internal.disk {
        text.push_str(&disk.prometheus());
    }
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

#[derive(serde::Deserialize)]
struct PublishQuery {
    channel: String,
    key: Option<String>,
    conflate: Option<String>,
}

async fn publish(
    State(internal): State<Internal>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let channel = channel(&query.channel)?;
    let key = |key: Option<&str>, detail| match key.map(Key::parse) {
        Some(None) => Err(Refusal::new(ErrorCode::BadRequest, detail)),
        Some(key) => Ok(key),
        None => Ok(None),
    };
    let draft = Draft {
        from: None,
        key: key(query.key.as_deref(), "`key` has 1 to 128 bytes")?,
        conflate: key(query.conflate.as_deref(), "`conflate` has 1 to 128 bytes")?,
        payload: payload(&headers, body)?,
    };
    let mail = |origin| Mail::Publish {
        channel: channel.clone(),
        draft,
        origin,
    };
    match internal.ask(&channel, mail).await? {
        Answer::Published(position) => Ok(json(&Event::Published { id: None, position })),
        answer => Err(Refusal::unexpected(&answer)),
    }
}

/// `application/json` is JSON or an error, `application/octet-stream` bytes, `text/plain` text; with any other type, so also
/// with curl's default, the body means what a raw frame means.
fn payload(headers: &HeaderMap, body: Bytes) -> Result<Payload, Refusal> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if media_type == "application/octet-stream" {
        return Ok(Payload::bytes(body));
    }
    let Ok(words) = std::str::from_utf8(&body) else {
        return match media_type.as_str() {
            "application/json" | "text/plain" => {
                Err(Refusal::new(ErrorCode::BadPayload, "the body is not UTF-8"))
            }
            _ => Ok(Payload::bytes(body)),
        };
    };
    match media_type.as_str() {
        "application/json" => {
            Payload::json(words).map_err(|bad| Refusal::new(ErrorCode::BadPayload, &bad.to_string()))
        }
        "text/plain" => Ok(Payload::text(words)),
        _ => Ok(Payload::from_raw_text(words)),
    }
}

#[derive(serde::Deserialize)]
struct HistoryQuery {
    channel: String,
    since: Option<String>,
    before: Option<String>,
    #[serde(default)]
    latest: bool,
    limit: Option<usize>,
}

async fn read_history(
    State(internal): State<Internal>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let channel = channel(&query.channel)?;
    let position = |token: Option<&str>| match token.map(Position::parse) {
        Some(Err(_)) => {
            let text = ErrorCode::BadPosition.text();
            Err(Refusal::new(ErrorCode::BadPosition, text))
        }
        Some(Ok(position)) if !position.epoch.is_of(&channel) => {
            let text = "This is a position of another channel.";
            Err(Refusal::new(ErrorCode::BadPosition, text))
        }
        Some(Ok(position)) => Ok(Some(position)),
        None => Ok(None),
    };
    let since = position(query.since.as_deref())?;
    let before = position(query.before.as_deref())?;
    let range = match (since, before, query.latest) {
        (after, None, true) => Range::Latest { after },
        (Some(after), None, false) => Range::After(after),
        (None, Some(before), false) => Range::Before(before),
        (None, None, false) => Range::Newest,
        (_, Some(_), _) => {
            let text = "`before` stands without `since` and `latest`.";
            return Err(Refusal::new(ErrorCode::BadRequest, text));
        }
    };
    let limit = history_limit(query.limit);
    let mail = |origin| Mail::History {
        channel: channel.clone(),
        range,
        limit,
        origin,
    };
    match internal.ask(&channel, mail).await? {
        Answer::History(page) => Ok(json(&Event::History {
            id: None,
            channel: &channel,
            page: history(&page),
        })),
        answer => Err(Refusal::unexpected(&answer)),
    }
}

#[derive(serde::Deserialize)]
struct MembersQuery {
    channel: String,
    after: Option<String>,
    #[serde(default)]
    sample: bool,
    limit: Option<usize>,
}

async fn read_members(
    State(internal): State<Internal>,
    query: Result<Query<MembersQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let channel = channel(&query.channel)?;
    let which = Which::parse(query.after.as_deref(), query.sample)
        .map_err(|text| Refusal::new(ErrorCode::BadRequest, text))?;
    let limit = members_limit(query.limit);
    let mail = |origin| Mail::Members {
        channel: channel.clone(),
        which,
        limit,
        origin,
    };
    match internal.ask(&channel, mail).await? {
        Answer::Members(members) => Ok(json(&Event::Members {
            id: None,
            channel: &channel,
            members: &members,
        })),
        answer => Err(Refusal::unexpected(&answer)),
    }
}

fn channel(name: &str) -> Result<ChannelName, Refusal> {
    ChannelName::parse(name).map_err(|bad| Refusal::new(ErrorCode::BadChannel, &bad.to_string()))
}

fn json(event: &Event<'_>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], ask::json(event)).into_response()
}

impl Internal {
    async fn ask(&self, channel: &ChannelName, mail: impl FnOnce(Origin) -> Mail) -> Result<Answer, Refusal> {
        Ok(ask::ask(&self.post, channel, mail).await?)
    }
}

/// An error of the catalogue as an HTTP answer.
struct Refusal(session::Refusal);

impl Refusal {
    fn new(code: ErrorCode, message: &str) -> Refusal {
        Refusal(ask::refusal(code, message))
    }

    fn unexpected(answer: &Answer) -> Refusal {
        Refusal(ask::unexpected(answer))
    }
}

impl From<session::Refusal> for Refusal {
    fn from(refusal: session::Refusal) -> Refusal {
        Refusal(refusal)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        use std::error::Error as _;
        // What is wrong, without who found it.
        let mut words = rejection.body_text();
        let mut source = rejection.source();
        while let Some(error) = source {
            words = error.to_string();
            source = error.source();
        }
        Refusal::new(ErrorCode::BadRequest, &words)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        ask::refuse(&self.0).into_response()
    }
}

//! What the public listener answers.
//!
//! | path | |
//! |---|---|
//! | `/ws` | WebSocket: the native dialect; with `?channel=NAME` and no subprotocol the raw one |
//! | `/echo` | WebSocket that returns what it gets; development mode |
//! | `/`, `/assets/…` | the playground; development mode |

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
};
use hyper::{Method, Request, Response, StatusCode};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::DialectId;
use switchboard_proto::session::server::Mode;
use switchboard_proto::ws::deflate::Agreed;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::server::{Accepted, ServerOptions, accept};

use super::assets;
use crate::config::Config;

/// A handshake that was accepted.
#[derive(Debug)]
pub struct Upgrade {
    /// How the session speaks.
    pub mode: Mode,
    /// Agreed compression.
    pub compression: Option<Agreed>,
}

/// What the listener offers.
pub struct Site {
    config: Config,
    native: ServerOptions,
    bare: ServerOptions,
}

type Answer = Response<Full<Bytes>>;

impl Site {
    /// As the settings say.
    pub fn new(config: &Config) -> Site {
        let compression = config.compression.enabled.then(DeflatePolicy::default);
        let spoken = DialectId::ALL.iter().filter_map(|id| id.dialect().subprotocol());
        Site {
            config: config.clone(),
            native: ServerOptions {
                subprotocols: spoken.map(str::to_owned).collect(),
                compression,
            },
            bare: ServerOptions {
                subprotocols: Vec::new(),
                compression,
            },
        }
    }

    /// The answer to a request, and what the connection becomes if that is a 101.
    pub fn answer<B>(&self, request: &Request<B>) -> (Answer, Option<Upgrade>) {
        match request.uri().path() {
            "/ws" => self.websocket(request),
            "/echo" if self.config.echo_enabled() => self.upgrade(request, &self.bare, Some(Mode::Echo)),
            path if self.config.playground_enabled() => (page(request.method(), path), None),
            _ => (
                text(
                    StatusCode::NOT_FOUND,
                    "Nothing is here. WebSocket clients connect to /ws.",
                ),
                None,
            ),
        }
    }

    fn websocket<B>(&self, request: &Request<B>) -> (Answer, Option<Upgrade>) {
        let query = request.uri().query().unwrap_or_default();
        let mut channels = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "channel")
            .map(|(_, channel)| channel);
        let Some(channel) = channels.next() else {
            return self.upgrade(request, &self.native, None);
        };
        if channels.next().is_some() {
            let words = "A raw connection is for one channel: give ?channel= once.";
            return (text(StatusCode::BAD_REQUEST, words), None);
        }
        if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
            let words = "?channel= is for raw connections, which have no subprotocol. Leave out one of both.";
            return (text(StatusCode::BAD_REQUEST, words), None);
        }
        if !self.config.anonymous_allowed() {
            let words = "This server wants to know who connects; a raw connection cannot say it.";
            return (text(StatusCode::UNAUTHORIZED, words), None);
        }
        match ChannelName::parse(&channel) {
            Ok(channel) => self.upgrade(request, &self.bare, Some(Mode::Raw(channel))),
            Err(bad) => (text(StatusCode::BAD_REQUEST, &format!("?channel=: {bad}.")), None),
        }
    }

    /// Answers a handshake. Without a `mode` the subprotocol decides, and JSON is spoken where none is offered.
    fn upgrade<B>(
        &self,
        request: &Request<B>,
        options: &ServerOptions,
        mode: Option<Mode>,
    ) -> (Answer, Option<Upgrade>) {
        if !self.origin_allowed(request.headers()) {
            let words =
                "Pages of this origin may not connect. The setting origins.allow lists those that may.";
            return (text(StatusCode::FORBIDDEN, words), None);
        }
        match accept(request, options) {
            Ok(Accepted {
                response,
                subprotocol,
                compression,
            }) => {
                let spoken = subprotocol.and_then(DialectId::by_subprotocol);
                let mode = mode.unwrap_or(Mode::Native(spoken.unwrap_or(DialectId::Json)));
                (
                    response.map(|()| Full::default()),
                    Some(Upgrade { mode, compression }),
                )
            }
            Err(refused) => (refused.response().map(|words| Full::new(words.into())), None),
        }
    }

    /// A page in a browser always sends its origin with a WebSocket handshake (RFC 6455 section 10.2); whoever sends none
    /// is no page.
    fn origin_allowed(&self, headers: &HeaderMap) -> bool {
        let allowed = |origin: &HeaderValue| {
            origin
                .to_str()
                .is_ok_and(|origin| self.config.origin_allowed(origin))
        };
        headers.get_all(ORIGIN).iter().all(allowed)
    }
}

fn page(method: &Method, path: &str) -> Answer {
    const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; \
                                           form-action 'none'; frame-ancestors 'none'";
    if method != Method::GET && method != Method::HEAD {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "This is a page: GET it.");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let name = match path {
        "/" => Some("index.html"),
        _ => path.strip_prefix("/assets/"),
    };
    let Some((bytes, media_type)) = name.and_then(assets::file) else {
        let words = "Nothing is here. The playground is at /, WebSocket clients connect to /ws.";
        return text(StatusCode::NOT_FOUND, words);
    };
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let mut answer = Response::new(Full::new(bytes));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A line of plain text.
fn text(status: StatusCode, words: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{words}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

//! What the public listener answers.
//!
//! | path | |
//! |---|---|
//! | `/ws` | WebSocket: the native dialect; with `?channel=NAME` and no subprotocol the raw one |
//! | `/sse` | Server-Sent Events of the channels that its query names |
//! | `/poll` | what these channels have, as soon as they have something |
//! | `/publish` | POST: appends a message |
//! | `/echo` | WebSocket that returns what it gets; development mode |
//! | `/`, `/assets/…` | the playground; development mode |

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::DialectId;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::session::server::{Mode, Refusal};
use switchboard_proto::ws::deflate::Agreed;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::server::{Accepted, ServerOptions, accept};

use super::cors::{self, Cors};
use super::reading::Reading;
use super::{ask, assets};
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

/// An answer that is there.
pub type Answer = Response<Full<Bytes>>;

/// What a request leads to.
pub enum Answered {
    /// This.
    Whole(Answer),
    /// A 101, behind which the connection is a WebSocket.
    WebSocket(Answer, Upgrade),
    /// An event stream: the rest of the connection.
    EventStream(Reading, Cors),
    /// What a poll comes to.
    Poll(Reading, Cors),
    /// What comes of the message in the body.
    Publish(Cors),
}

/// Whether this is for pages and programs that have no WebSocket.
pub fn is_for_pages(path: &str) -> bool {
    matches!(path, "/sse" | "/poll" | "/publish")
}

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

    /// What a request leads to.
    pub fn answer<B>(&self, request: &Request<B>) -> Answered {
        match request.uri().path() {
            // A handshake says in its own words what else is wrong with its `Host`.
            "/ws" if hosts(request).all(is_host) => self.websocket(request),
            "/ws" => Answered::Whole(text(StatusCode::BAD_REQUEST, NO_HOST)),
            // "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header field
            // and to any request message that contains more than one Host header field line or a Host header field with an invalid
            // field value." (RFC 9112 section 3.2)
            _ if !hosts(request).all(is_host) => Answered::Whole(refuse_as(StatusCode::BAD_REQUEST, NO_HOST)),
            _ if request.version() == Version::HTTP_11 && hosts(request).count() != 1 => {
                Answered::Whole(refuse_as(StatusCode::BAD_REQUEST, "a request has one `Host`"))
            }
            // Asks for nothing that is here: another host, or whether somebody answers.
            _ if *request.method() == Method::CONNECT => {
                let words = "This is no proxy.";
                Answered::Whole(with_methods(text(StatusCode::METHOD_NOT_ALLOWED, words)))
            }
            "*" if *request.method() == Method::OPTIONS => {
                let mut answer = with_methods(Answer::default());
                *answer.status_mut() = StatusCode::NO_CONTENT;
                Answered::Whole(answer)
            }
            path if is_for_pages(path) => self.for_pages(path, request),
            "/echo" if self.config.echo_enabled() => self.upgrade(request, &self.bare, Some(Mode::Echo)),
            path if self.config.playground_enabled() => Answered::Whole(page(request.method(), path)),
            _ => Answered::Whole(text(
                StatusCode::NOT_FOUND,
                "Nothing is here. Clients connect to /ws, /sse, /poll and /publish.",
            )),
        }
    }

    /// What pages of other origins may ask for, if these are allowed.
    fn for_pages<B>(&self, path: &str, request: &Request<B>) -> Answered {
        let cors = match Cors::of(request.headers(), &self.config, self.config.listen.public) {
            Ok(cors) => cors,
            Err(words) => return Answered::Whole(refuse_as(StatusCode::FORBIDDEN, words)),
        };
        let method = match path {
            "/publish" => Method::POST,
            _ => Method::GET,
        };
        if *request.method() == Method::OPTIONS {
            let mut answer = cors.on(Answer::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            cors::permit(answer.headers_mut(), &method);
            return Answered::Whole(answer);
        }
        if *request.method() != method {
            let words = format!("Nothing but {method} is taken here.");
            let mut answer = refuse_as(StatusCode::METHOD_NOT_ALLOWED, &words);
            cors::allow(answer.headers_mut(), &method);
            return Answered::Whole(cors.on(answer));
        }
        let read = match path {
            _ if !self.config.anonymous_allowed() => {
                let code = ErrorCode::Unauthorized;
                Err(ask::refusal(code, code.text()))
            }
            "/publish" if is_coded(request.headers()) => {
                let words = "`Content-Encoding` is not taken here: send the body as it is.";
                let mut answer = refuse_as(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
                // RFC 9110 section 15.5.16: what would be taken.
                let identity = HeaderValue::from_static("identity");
                answer.headers_mut().insert(ACCEPT_ENCODING, identity);
                return Answered::Whole(cors.on(answer));
            }
            "/publish" => return Answered::Publish(cors),
            _ => self.reading(request),
        };
        match read {
            Ok(reading) if path == "/sse" => Answered::EventStream(reading, cors),
            Ok(reading) => Answered::Poll(reading, cors),
            Err(refusal) => Answered::Whole(cors.on(refuse(&refusal))),
        }
    }

    /// What a request for `/sse` or `/poll` asks for.
    fn reading<B>(&self, request: &Request<B>) -> Result<Reading, Refusal> {
        let headers = request.headers();
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        if headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0") {
            return Err(ask::refusal(ErrorCode::BadRequest, "no body is taken here"));
        }
        let code = ErrorCode::BadPosition;
        let last_event_id = match headers.get("last-event-id").map(HeaderValue::to_str) {
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Err(ask::refusal(code, code.text())),
            None => None,
        };
        let limits = &self.config.limits;
        Reading::parse(
            request.uri().query().unwrap_or_default(),
            last_event_id,
            limits.session.subscriptions_max,
            limits.poll_wait_max,
        )
    }

    fn websocket<B>(&self, request: &Request<B>) -> Answered {
        let query = request.uri().query().unwrap_or_default();
        let mut channels = form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "channel")
            .map(|(_, channel)| channel);
        let Some(channel) = channels.next() else {
            return self.upgrade(request, &self.native, None);
        };
        if channels.next().is_some() {
            let words = "A raw connection is for one channel: give ?channel= once.";
            return Answered::Whole(text(StatusCode::BAD_REQUEST, words));
        }
        if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
            let words = "?channel= is for raw connections, which have no subprotocol. Leave out one of both.";
            return Answered::Whole(text(StatusCode::BAD_REQUEST, words));
        }
        if !self.config.anonymous_allowed() {
            let words = "This server wants to know who connects; a raw connection cannot say it.";
            return Answered::Whole(text(StatusCode::UNAUTHORIZED, words));
        }
        match ChannelName::parse(&channel) {
            Ok(channel) => self.upgrade(request, &self.bare, Some(Mode::Raw(channel))),
            Err(bad) => Answered::Whole(text(StatusCode::BAD_REQUEST, &format!("?channel=: {bad}."))),
        }
    }

    /// Answers a handshake. Without a `mode` the subprotocol decides, and JSON is spoken where none is offered.
    fn upgrade<B>(&self, request: &Request<B>, options: &ServerOptions, mode: Option<Mode>) -> Answered {
        if !self.origin_allowed(request.headers()) {
            return Answered::Whole(text(StatusCode::FORBIDDEN, cors::FOREIGN));
        }
        match accept(request, options) {
            Ok(Accepted {
                response,
                subprotocol,
                compression,
            }) => {
                let spoken = subprotocol.and_then(DialectId::by_subprotocol);
                let mode = mode.unwrap_or(Mode::Native(spoken.unwrap_or(DialectId::Json)));
                Answered::WebSocket(response.map(|()| Full::default()), Upgrade { mode, compression })
            }
            Err(refused) => Answered::Whole(refused.response().map(|words| Full::new(words.into()))),
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

fn hosts<B>(request: &Request<B>) -> impl Iterator<Item = &HeaderValue> {
    request.headers().get_all(HOST).iter()
}

/// Whether it has only characters of a host and a port (RFC 3986 section 3.2.2): nobody who stands in front takes it for more.
fn is_host(value: &HeaderValue) -> bool {
    let is_host_character = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    value.as_bytes().iter().all(is_host_character)
}

const NO_HOST: &str = "`Host` is not a host and a port";

/// Whether the body is not as it is meant.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// With all methods there are.
fn with_methods(mut answer: Answer) -> Answer {
    let methods = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

/// An error of the catalogue.
pub fn refuse(refusal: &Refusal) -> Answer {
    let (status, headers, body) = ask::refuse(refusal);
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// What is wrong with a request as such, for which HTTP has a status of its own.
pub fn refuse_as(status: StatusCode, words: &str) -> Answer {
    let mut answer = refuse(&ask::refusal(ErrorCode::BadRequest, words));
    *answer.status_mut() = status;
    answer
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
pub fn text(status: StatusCode, words: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{words}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

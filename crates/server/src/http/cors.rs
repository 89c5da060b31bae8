//! What pages of other origins may ask for ([Fetch, CORS protocol](https://fetch.spec.whatwg.org/#http-cors-protocol)), and what
//! every answer to a page says of being kept.
//!
//! The same pages may that may connect by WebSocket. A request of another origin is refused before anything is done: hiding only
//! the answer would leave the effect, and a POST of plain text needs no permission.

use std::net::SocketAddr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, HOST, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Response};

use crate::config::Config;

/// What pages of other origins are told.
pub const FOREIGN: &str =
    "Pages of this origin may not connect. The setting origins.allow lists those that may.";
const FOREIGN_HOST: &str = "This `Host` is not known. In development mode it is localhost, an address, or \
                            that of an origin in origins.allow.";

/// The origin of a page that may read the answer; none for whoever is no page, or one of this server.
#[derive(Clone, Debug)]
pub struct Cors(Option<HeaderValue>);

impl Cors {
    /// Looks at the headers of a request that came to `listener`.
    ///
    /// A browser sends no `Origin` where a page embeds something of another origin as an image or a script; but it says
    /// where that comes from (`Sec-Fetch-Site`). It says neither where a page of `http://` asks its own origin, and then all that
    /// is known of the page is the `Host`.
    ///
    /// # Errors
    /// What a page is told that may not ask.
    pub fn of(headers: &HeaderMap, config: &Config, listener: SocketAddr) -> Result<Cors, &'static str> {
        let mut origins = headers.get_all(ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let allowed = |origin: &str| config.origin_allowed(origin);
            let is_allowed = origins.next().is_none() && origin.to_str().is_ok_and(allowed);
            return match is_allowed {
                true => Ok(Cors(Some(origin.clone()))),
                false => Err(FOREIGN),
            };
        }
        if site(headers) == Some(b"cross-site") {
            return Err(FOREIGN);
        }
        let allowed = |host: &str| config.host_allowed(host, listener);
        match headers.get(HOST) {
            Some(host) if !host.to_str().is_ok_and(allowed) => Err(FOREIGN_HOST),
            _ => Ok(Cors(None)),
        }
    }

    /// Lets the page read this answer, and keeps it from everyone else who might keep it.
    pub fn on<B>(&self, mut answer: Response<B>) -> Response<B> {
        self.put(answer.headers_mut());
        answer
    }

    /// The same.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if let Some(origin) = &self.0 {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static("Retry-After");
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// What a browser says of the page that a request comes from.
pub fn site(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("sec-fetch-site").map(HeaderValue::as_bytes)
}

/// The answer to a question before a request with this method.
pub fn permit(headers: &mut HeaderMap, method: &Method) {
    allow(headers, method);
    if let Some(allowed) = headers.get(ALLOW).cloned() {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allowed);
    }
    let allowed = HeaderValue::from_static("Authorization, Content-Type, Cache-Control, Last-Event-ID");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// Which methods there are.
pub fn allow(headers: &mut HeaderMap, method: &Method) {
    let methods = match *method {
        Method::POST => "POST, OPTIONS",
        _ => "GET, OPTIONS",
    };
    headers.insert(ALLOW, HeaderValue::from_static(methods));
}

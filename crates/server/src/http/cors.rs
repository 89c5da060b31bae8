//! What pages of other origins may ask for ([Fetch, CORS protocol](https://fetch.spec.whatwg.org/#http-cors-protocol)), and what
//! every answer to a page says of being kept.
//!
//! The same pages may that may connect by WebSocket. A request of another origin is refused before anything is done: hiding only
//! the answer would leave the effect, and a POST of plain text needs no permission.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};
use hyper::{Method, Response};

/// The origin of a page that may read the answer; none for whoever is no page, or one of this server.
#[derive(Clone, Debug)]
pub struct Cors(Option<HeaderValue>);

impl Cors {
    /// Looks at the headers of a request. `None`: a page of an origin that is not `allowed`.
    ///
    /// A browser sends no `Origin` where a page embeds something of another origin as an image or a script; but it says
    /// where that comes from (`Sec-Fetch-Site`).
    pub fn of(headers: &HeaderMap, allowed: impl Fn(&str) -> bool) -> Option<Cors> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
            return (site != Some(b"cross-site")).then_some(Cors(None));
        };
        let is_allowed = origins.next().is_none() && origin.to_str().is_ok_and(allowed);
        is_allowed.then(|| Cors(Some(origin.clone())))
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

//! The client's side: the request of the opening handshake, and is this its answer?

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, Uri, Version};

use super::{
    HeadError, HeadLimits, HeadReader, Key, Single, encode_request, header_value, lists_token, single,
};
use crate::ws::deflate::Agreed;
use crate::ws::extension::{DeflatePolicy, ExtensionError, check_none, is_token};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `ws://` or `wss://` with a host; the port defaults to 80 or 443, the path to `/`. `http://` and
    /// `https://` mean the same.
    pub uri: Uri,
    /// Headers to add, such as `Origin` or `Authorization`. Default none. Those of the handshake itself and
    /// of message framing cannot be set.
    pub headers: HeaderMap,
    /// The subprotocols offered, the preferred first. Default none.
    pub subprotocols: Vec<String>,
    /// permessage-deflate to offer. Default none.
    pub compression: Option<DeflatePolicy>,
    /// The largest head of a response. Default 16 KiB and 64 headers.
    pub head: HeadLimits,
}

impl ClientOptions {
    /// The defaults, for this address.
    pub fn new(uri: Uri) -> ClientOptions {
        ClientOptions {
            uri,
            headers: HeaderMap::new(),
            subprotocols: Vec::new(),
            compression: None,
            head: HeadLimits::default(),
        }
    }
}

/// Why no request can be made of [`ClientOptions`]. All are the application's doing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unrequestable {
    /// Neither `ws` nor `wss`.
    #[error("the address must start with ws:// or wss://")]
    Scheme,
    /// No host in the address.
    #[error("the address has no host")]
    Host,
    /// A port that is no number up to 65,535.
    #[error("the address has an invalid port")]
    Port,
    /// A user name in the address: it would be sent nowhere, so it is not accepted.
    #[error("the address has a user name: pass an Authorization header in its place")]
    UserInfo,
    /// A header that the handshake sets or that would change where the request ends.
    #[error("the header {name} cannot be set")]
    Header {
        /// The header's name.
        name: HeaderName,
    },
    /// A subprotocol that is not a token of HTTP.
    #[error("the subprotocol {name:?} is not a token")]
    Subprotocol {
        /// The subprotocol.
        name: String,
    },
    /// A subprotocol twice.
    #[error("the subprotocol {name} is there twice")]
    SubprotocolRepeated {
        /// The subprotocol.
        name: String,
    },
}

/// A handshake that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connected {
    /// The subprotocol the server chose of those offered; None if it chose none.
    pub subprotocol: Option<String>,
    /// The agreed parameters of permessage-deflate; None if messages go uncompressed.
    pub compression: Option<Agreed>,
}

/// Why a response does not open the connection. All are the server's doing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failed {
    /// The response is not HTTP, or too large.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The server answered, but not with 101.
    #[error("the server answered {status}")]
    Status {
        /// What it answered.
        status: StatusCode,
        /// The seconds in `Retry-After`. The form with a date counts as none: there is no clock here.
        retry_after_s: Option<u64>,
    },
    /// 101 of another version than HTTP/1.1.
    #[error("the server switched protocols in another HTTP version than 1.1")]
    NotHttp11,
    /// No `Upgrade: websocket`, or more in it than that.
    #[error("the server did not switch to WebSocket")]
    Upgrade,
    /// No `Connection: Upgrade`.
    #[error("the server's Connection header does not name Upgrade")]
    Connection,
    /// No `Sec-WebSocket-Accept`, or several.
    #[error("the server's answer has no single Sec-WebSocket-Accept")]
    AcceptMissing,
    /// A `Sec-WebSocket-Accept` that does not follow from our key: a cached answer, or no WebSocket server.
    #[error("the server's Sec-WebSocket-Accept does not answer the key")]
    AcceptWrong,
    /// A subprotocol that was not offered.
    #[error("the server chose a subprotocol that was not offered")]
    SubprotocolNotOffered,
    /// More than one subprotocol header.
    #[error("the server chose more than one subprotocol")]
    SubprotocolRepeated,
    /// The extensions are not as offered.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
}

/// One opening handshake, from request to response
/// ([RFC 6455, section 4.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.1)).
///
/// **Send [`request`](ClientHandshake::request), then either give [`check`](ClientHandshake::check) the
/// response an HTTP library parsed, or [`read`](ClientHandshake::read) all bytes received so far each time
/// there are more.**
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    options: ClientOptions,
    host: HeaderValue,
    key: Key,
    reader: HeadReader,
    /// Bytes of informational responses before the one that counts.
    skipped: usize,
}

/// What [`ClientOptions::headers`] cannot hold.
const RESERVED: [HeaderName; 12] = [
    HOST,
    UPGRADE,
    CONNECTION,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_ACCEPT,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
];

impl ClientHandshake {
    /// A handshake whose key is made of `nonce`: 16 random bytes, new for each connection.
    ///
    /// # Errors
    /// See [`Unrequestable`].
    pub fn new(options: ClientOptions, nonce: [u8; 16]) -> Result<ClientHandshake, Unrequestable> {
        let host = host(&options.uri)?;
        if let Some(name) = RESERVED
            .into_iter()
            .find(|name| options.headers.contains_key(name))
        {
            return Err(Unrequestable::Header { name });
        }
        for (at, name) in options.subprotocols.iter().enumerate() {
            if !is_token(name.as_bytes()) {
                return Err(Unrequestable::Subprotocol { name: name.clone() });
            }
            if options.subprotocols[..at].contains(name) {
                return Err(Unrequestable::SubprotocolRepeated { name: name.clone() });
            }
        }
        let reader = HeadReader::new(options.head);
        Ok(ClientHandshake {
            options,
            host,
            key: Key::new(nonce),
            reader,
            skipped: 0,
        })
    }

    /// The request, with the path and query as its URI.
    pub fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = target(&self.options.uri);
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_KEY, self.key.header_value());
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        write_offers(&self.options, headers);
        for (name, value) in &self.options.headers {
            headers.append(name, value.clone());
        }
        request
    }

    /// Appends the bytes of [`request`](ClientHandshake::request).
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_request(&self.request(), out);
    }

    /// Looks for the response at the start of `bytes`. With the outcome comes the length of the response's
    /// head: what is behind are the first frames. None if the head is not complete. Informational responses
    /// before it are skipped.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Connected, usize)>, Failed> {
        loop {
            let rest = bytes.get(self.skipped..).unwrap_or(&[]);
            let Some((response, len)) = self.reader.response(rest)? else {
                return Ok(None);
            };
            let status = response.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some((self.check(&response)?, self.skipped + len)));
            }
            // "A client MUST be able to parse one or more 1xx responses received prior to a final response,
            // even if the client does not expect one." (RFC 9110, 15.2)
            self.skipped += len;
            if self.skipped > self.options.head.bytes_max {
                return Err(Failed::Head(HeadError::TooLarge));
            }
            self.reader = HeadReader::new(self.options.head);
        }
    }

    /// Checks a response to [`request`](ClientHandshake::request).
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn check<B>(&self, response: &Response<B>) -> Result<Connected, Failed> {
        self.check_upgrade(response)?;
        check_negotiated(&self.options, response.headers())
    }

    /// What is particular to the upgrade of HTTP/1.1.
    fn check_upgrade<B>(&self, response: &Response<B>) -> Result<(), Failed> {
        let headers = response.headers();
        // "If the status code received from the server is not 101, the client handles the response per HTTP
        // procedures."
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::Status {
                status,
                retry_after_s: retry_after_s(headers),
            });
        }
        if response.version() != Version::HTTP_11 {
            return Err(Failed::NotHttp11);
        }
        // "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value
        // that is not an ASCII case-insensitive match for the value "websocket", the client MUST _Fail the
        // WebSocket Connection_."
        match single(headers, &UPGRADE) {
            Single::Value(value) if value.eq_ignore_ascii_case(b"websocket") => {}
            _ => return Err(Failed::Upgrade),
        }
        // "If the response lacks a |Connection| header field or the |Connection| header field doesn't contain
        // a token that is an ASCII case-insensitive match for the value "Upgrade", the client MUST _Fail the
        // WebSocket Connection_."
        if !lists_token(headers, &CONNECTION, "upgrade") {
            return Err(Failed::Connection);
        }
        // "If the response lacks a |Sec-WebSocket-Accept| header field or [it] contains a value other than
        // the base64-encoded SHA-1 of [the key and the GUID] but ignoring any leading and trailing
        // whitespace, the client MUST _Fail the WebSocket Connection_."
        match single(headers, &SEC_WEBSOCKET_ACCEPT) {
            Single::Value(value) if value == self.key.accept().as_bytes() => Ok(()),
            Single::Value(_) => Err(Failed::AcceptWrong),
            Single::Missing | Single::Repeated => Err(Failed::AcceptMissing),
        }
    }
}

/// The value of `Host`, without the port where it is the scheme's own.
fn host(uri: &Uri) -> Result<HeaderValue, Unrequestable> {
    let default_port = match uri.scheme_str() {
        Some("ws" | "http") => 80,
        Some("wss" | "https") => 443,
        _ => return Err(Unrequestable::Scheme),
    };
    let authority = uri.authority().ok_or(Unrequestable::Host)?;
    if authority.as_str().contains('@') {
        return Err(Unrequestable::UserInfo);
    }
    let host = authority.host();
    let value = match (authority.port_u16(), authority.as_str().strip_prefix(host)) {
        _ if host.is_empty() => return Err(Unrequestable::Host),
        (Some(port), _) if port != default_port => format!("{host}:{port}"),
        (Some(_), _) | (None, Some("" | ":")) => host.to_owned(),
        (None, _) => return Err(Unrequestable::Port),
    };
    HeaderValue::from_str(&value).map_err(|_| Unrequestable::Host)
}

/// Path and query, which is what stands in the request line.
fn target(uri: &Uri) -> Uri {
    uri.path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// What is negotiated inside the handshake, whatever carries it: the offers.
fn write_offers(options: &ClientOptions, headers: &mut HeaderMap) {
    if !options.subprotocols.is_empty() {
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            header_value(options.subprotocols.join(", ")),
        );
    }
    if let Some(policy) = &options.compression {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, header_value(policy.offer()));
    }
}

/// What is negotiated inside the handshake, whatever carries it: the answers.
fn check_negotiated(options: &ClientOptions, headers: &HeaderMap) -> Result<Connected, Failed> {
    let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
    let compression = match &options.compression {
        Some(policy) => policy.check(extensions)?,
        None => {
            check_none(extensions)?;
            None
        }
    };
    // "If the response includes a |Sec-WebSocket-Protocol| header field and this header field indicates the
    // use of a subprotocol that was not present in the client's handshake [...], the client MUST _Fail the
    // WebSocket Connection_."
    let subprotocol = match single(headers, &SEC_WEBSOCKET_PROTOCOL) {
        Single::Missing => None,
        Single::Repeated => return Err(Failed::SubprotocolRepeated),
        Single::Value(value) => {
            let offered = options.subprotocols.iter().find(|name| name.as_bytes() == value);
            Some(offered.ok_or(Failed::SubprotocolNotOffered)?.clone())
        }
    };
    Ok(Connected {
        subprotocol,
        compression,
    })
}

fn retry_after_s(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim_ascii();
    // a number would also parse with a sign, a date never does
    value
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| value.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::handshake::{ServerOptions, accept, encode_response};
    use proptest::prelude::*;

    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\n\
                            Upgrade: websocket\n\
                            Connection: Upgrade\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n";

    fn options(uri: &str) -> ClientOptions {
        ClientOptions::new(uri.parse().unwrap())
    }

    fn handshake(options: ClientOptions) -> ClientHandshake {
        ClientHandshake::new(options, *b"the sample nonce").unwrap()
    }

    fn chat() -> ClientOptions {
        ClientOptions {
            subprotocols: vec!["chat".to_owned(), "superchat".to_owned()],
            compression: Some(DeflatePolicy::default()),
            ..options("ws://server.example.com/chat")
        }
    }

    fn read(options: ClientOptions, lines: &str) -> Result<Connected, Failed> {
        let bytes = lines.replace('\n', "\r\n") + "\r\n";
        let (connected, len) = handshake(options).read(bytes.as_bytes())?.unwrap();
        assert_eq!(len, bytes.len());
        Ok(connected)
    }

    /// The answer with one line in place of another ("" removes it).
    fn with(line: &str, replacement: &str) -> Result<Connected, Failed> {
        assert!(SWITCHED.contains(line), "{line}");
        let replacement = if replacement.is_empty() {
            String::new()
        } else {
            format!("{replacement}\n")
        };
        read(chat(), &SWITCHED.replace(&format!("{line}\n"), &replacement))
    }

    fn with_added(line: &str) -> Result<Connected, Failed> {
        read(chat(), &format!("{SWITCHED}{line}\n"))
    }

    // RFC 6455, 1.2 and 1.3
    #[test]
    fn rfc_6455_opening_handshake() {
        let mut options = chat();
        options
            .headers
            .insert("origin", HeaderValue::from_static("http://example.com"));
        let mut handshake = handshake(options);
        let mut out = Vec::new();
        handshake.encode(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /chat HTTP/1.1\r\n\
             host: server.example.com\r\n\
             upgrade: websocket\r\n\
             connection: Upgrade\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-version: 13\r\n\
             sec-websocket-protocol: chat, superchat\r\n\
             sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             client_max_window_bits\r\n\
             origin: http://example.com\r\n\
             \r\n"
        );

        let answer = b"HTTP/1.1 101 Switching Protocols\r\n\
                       Upgrade: websocket\r\n\
                       Connection: Upgrade\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                       Sec-WebSocket-Protocol: chat\r\n\
                       \r\n\x81\x05Hello";
        let (connected, len) = handshake.read(answer).unwrap().unwrap();
        assert_eq!(
            connected,
            Connected {
                subprotocol: Some("chat".to_owned()),
                compression: None
            }
        );
        assert_eq!(&answer[len..], b"\x81\x05Hello");
    }

    #[test]
    fn host_and_path_follow_from_the_address() {
        for (uri, host, path) in [
            ("ws://example.com", "example.com", "/"),
            ("ws://example.com:80/a/b?c=d", "example.com", "/a/b?c=d"),
            ("ws://example.com:443/", "example.com:443", "/"),
            ("wss://example.com:443/", "example.com", "/"),
            ("wss://example.com:80/", "example.com:80", "/"),
            ("http://[::1]:8000?x=1", "[::1]:8000", "/?x=1"),
            ("ws://example.com:?x", "example.com", "/?x"),
            ("https://EXAMPLE.com/#part", "EXAMPLE.com", "/"),
        ] {
            let request = handshake(options(uri)).request();
            assert_eq!(request.headers()[HOST], host, "{uri}");
            let mut out = Vec::new();
            encode_request(&request, &mut out);
            assert!(
                out.starts_with(format!("GET {path} HTTP/1.1\r\n").as_bytes()),
                "{uri}"
            );
        }
    }

    #[test]
    fn unusable_options_make_no_request() {
        use Unrequestable::*;
        let made = |options| ClientHandshake::new(options, [0; 16]).map(|_| ()).unwrap_err();
        assert_eq!(made(options("ftp://example.com")), Scheme);
        assert_eq!(made(options("/path")), Scheme);
        assert_eq!(made(options("ws://ana:secret@example.com/")), UserInfo);
        assert_eq!(made(options("ws://example.com:99999/")), Port);

        let subprotocols = |names: &[&str]| ClientOptions {
            subprotocols: names.iter().map(|name| name.to_string()).collect(),
            ..options("ws://example.com")
        };
        assert_eq!(made(subprotocols(&["a b"])), Subprotocol { name: "a b".into() });
        assert_eq!(made(subprotocols(&[""])), Subprotocol { name: "".into() });
        assert_eq!(
            made(subprotocols(&["a", "a"])),
            SubprotocolRepeated { name: "a".into() }
        );

        for name in RESERVED {
            let mut options = options("ws://example.com");
            options
                .headers
                .insert(name.clone(), HeaderValue::from_static("1"));
            assert_eq!(made(options), Header { name });
        }
    }

    #[test]
    fn answers_are_compared_case_insensitively() {
        assert!(with("Upgrade: websocket", "UPGRADE:  WebSocket ").is_ok());
        assert!(with("Connection: Upgrade", "connection: keep-alive, UPGRADE").is_ok());
    }

    #[test]
    fn each_misdeed_of_the_server_fails_the_connection() {
        assert_eq!(with("Upgrade: websocket", ""), Err(Failed::Upgrade));
        assert_eq!(with("Upgrade: websocket", "Upgrade: h2c"), Err(Failed::Upgrade));
        assert_eq!(
            with("Upgrade: websocket", "Upgrade: websocket, h2c"),
            Err(Failed::Upgrade)
        );
        assert_eq!(with("Connection: Upgrade", ""), Err(Failed::Connection));
        assert_eq!(
            with("Connection: Upgrade", "Connection: close"),
            Err(Failed::Connection)
        );
        assert_eq!(with(ACCEPT, ""), Err(Failed::AcceptMissing));
        assert_eq!(
            with(ACCEPT, &format!("{ACCEPT}\n{ACCEPT}")),
            Err(Failed::AcceptMissing)
        );
        assert_eq!(
            with(ACCEPT, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            Err(Failed::AcceptWrong)
        );
        let http_10 = with(
            "HTTP/1.1 101 Switching Protocols",
            "HTTP/1.0 101 Switching Protocols",
        );
        assert_eq!(http_10, Err(Failed::NotHttp11));
        assert_eq!(
            read(chat(), "HTTP/1.1 999999 \n"),
            Err(Failed::Head(HeadError::Malformed))
        );
    }

    #[test]
    fn subprotocol_must_be_one_of_the_offered() {
        assert_eq!(
            with_added("Sec-WebSocket-Protocol: superchat")
                .unwrap()
                .subprotocol
                .unwrap(),
            "superchat"
        );
        assert_eq!(with_added("X: y").unwrap().subprotocol, None);
        for other in ["Chat", "chat, superchat", "raw", ""] {
            let line = format!("Sec-WebSocket-Protocol: {other}");
            assert_eq!(with_added(&line), Err(Failed::SubprotocolNotOffered), "{other}");
        }
        let twice = "Sec-WebSocket-Protocol: chat\nSec-WebSocket-Protocol: chat";
        assert_eq!(with_added(twice), Err(Failed::SubprotocolRepeated));
    }

    #[test]
    fn extensions_must_be_as_offered() {
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
        assert!(
            with_added(deflate)
                .unwrap()
                .compression
                .unwrap()
                .server_no_context_takeover
        );
        assert_eq!(
            with_added("Sec-WebSocket-Extensions: mystery"),
            Err(Failed::Extension(ExtensionError::NotOffered {
                name: "mystery".into()
            }))
        );
        assert_eq!(
            with_added(&format!("{deflate}\n{deflate}")),
            Err(Failed::Extension(ExtensionError::Repeated))
        );
        assert_eq!(
            read(options("ws://example.com"), &format!("{SWITCHED}{deflate}\n")),
            Err(Failed::Extension(ExtensionError::NotOffered {
                name: "permessage-deflate".into()
            }))
        );
    }

    #[test]
    fn other_status_is_passed_on_with_retry_after() {
        for (lines, code, retry_after_s) in [
            ("HTTP/1.1 503 Service Unavailable\nRetry-After: 7\n", 503, Some(7)),
            ("HTTP/1.0 429 \nRetry-After: 0\n", 429, Some(0)),
            (
                "HTTP/1.1 503 Busy\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\n",
                503,
                None,
            ),
            ("HTTP/1.1 503 Busy\nRetry-After: -5\n", 503, None),
            (
                "HTTP/1.1 503 Busy\nRetry-After: 99999999999999999999999\n",
                503,
                None,
            ),
            ("HTTP/1.1 302 Found\nLocation: /elsewhere\n", 302, None),
            ("HTTP/1.1 200 OK\n", 200, None),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(
                read(chat(), lines),
                Err(Failed::Status {
                    status,
                    retry_after_s
                })
            );
        }
    }

    #[test]
    fn informational_responses_are_skipped() {
        let hints = "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 100 Continue\n\n";
        assert!(read(chat(), &format!("{hints}{SWITCHED}")).is_ok());

        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
        let mut handshake = handshake(chat());
        assert_eq!(
            handshake.read(endless.as_bytes()),
            Err(Failed::Head(HeadError::TooLarge))
        );
    }

    #[test]
    fn answer_is_the_same_one_byte_at_a_time() {
        let bytes = format!("HTTP/1.1 100 Continue\n\n{SWITCHED}\n")
            .replace('\n', "\r\n")
            .into_bytes();
        let mut handshake = handshake(chat());
        for len in 0..bytes.len() {
            assert_eq!(handshake.read(&bytes[..len]), Ok(None), "{len}");
        }
        assert_eq!(handshake.read(&bytes).unwrap().unwrap().1, bytes.len());
    }

    fn policies() -> impl Strategy<Value = Option<DeflatePolicy>> {
        prop::option::of(
            (any::<bool>(), any::<bool>(), 8u8..=15, 8u8..=15).prop_map(|policy| DeflatePolicy {
                server_takeover: policy.0,
                client_takeover: policy.1,
                server_max_window_bits: policy.2,
                client_max_window_bits: policy.3,
            }),
        )
    }

    proptest! {
        #[test]
        fn server_and_client_agree(
            nonce: [u8; 16],
            offered in prop::sample::subsequence(vec!["a", "b", "c"], 0..3),
            client in policies(),
            server in policies(),
        ) {
            let subprotocols = offered.iter().map(|name| name.to_string()).collect();
            let asked = ClientOptions { subprotocols, compression: client, ..options("ws://example.com/ws") };
            let mut handshake = ClientHandshake::new(asked, nonce).unwrap();
            let mut request = Vec::new();
            handshake.encode(&mut request);
            let (request, _) = HeadReader::new(HeadLimits::default()).request(&request).unwrap().unwrap();

            let subprotocols = vec!["c".into(), "b".into(), "a".into()];
            let known = ServerOptions { subprotocols, compression: server };
            let accepted = accept(&request, &known).unwrap();
            prop_assert_eq!(accepted.subprotocol, offered.first().copied());
            prop_assert_eq!(accepted.compression.is_some(), client.is_some() && server.is_some());

            let mut response = Vec::new();
            encode_response(&accepted.response.map(|()| ""), &mut response);
            let (connected, len) = handshake.read(&response).unwrap().unwrap();
            prop_assert_eq!(len, response.len());
            prop_assert_eq!(connected.subprotocol.as_deref(), accepted.subprotocol);
            prop_assert_eq!(connected.compression, accepted.compression);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = handshake(chat()).read(&bytes);
            let _ = handshake(chat()).read(&[b"HTTP/1.1 101 \r\n", &bytes[..], b"\r\n\r\n"].concat());
        }
    }
}

//! The server's side: is this request an opening handshake, and what is the answer?

use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};

use super::{HeadError, Key, Single, header_value, list, lists_token, single};
use crate::ws::deflate::Agreed;
use crate::ws::extension::{DeflatePolicy, is_token};

/// What a server speaks at one address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerOptions {
    /// The subprotocols the server knows. Default none; a client that asks for one is then refused.
    pub subprotocols: Vec<String>,
    /// permessage-deflate, if the client offers it. Default none: every offer is declined.
    pub compression: Option<DeflatePolicy>,
}

/// A handshake that succeeded.
#[derive(Debug)]
pub struct Accepted<'o> {
    /// The 101 to send. Frames follow it.
    pub response: Response<()>,
    /// The subprotocol both will speak; None if the client offered none.
    pub subprotocol: Option<&'o str>,
    /// The agreed parameters of permessage-deflate; None if messages go uncompressed.
    pub compression: Option<Agreed>,
}

/// Why a request is not an opening handshake that can be accepted. All are the client's doing.
///
/// The text of each is what the client is told, and is meant for its developer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// 405 with `Allow: GET`.
    #[error("A WebSocket handshake is a GET request.")]
    MethodNotGet,
    /// 505: HTTP/1.0, or a later version by another road than its own.
    #[error("A WebSocket handshake with Upgrade needs HTTP/1.1.")]
    NotHttp11,
    /// 400.
    #[error("The Host header is missing.")]
    HostMissing,
    /// 400.
    #[error("The Host header is there more than once.")]
    HostRepeated,
    /// 400: `Content-Length` above 0, or `Transfer-Encoding`. What follows the head are frames, not a body.
    #[error("A WebSocket handshake cannot have a body.")]
    Body,
    /// 426 with `Upgrade: websocket`: no WebSocket client at all, in most cases a browser's address bar.
    #[error(
        "This address speaks WebSocket: the request needs \"Upgrade: websocket\" and \"Connection: Upgrade\"."
    )]
    UpgradeMissing,
    /// 400. A proxy that does not forward it is the usual reason.
    #[error(
        "The header \"Connection: Upgrade\" is missing. Does a proxy in between forward Upgrade and Connection?"
    )]
    ConnectionMissing,
    /// 426 with `Sec-WebSocket-Version: 13`.
    #[error("This server speaks version 13 of WebSocket: the request needs \"Sec-WebSocket-Version: 13\".")]
    VersionNot13,
    /// 400.
    #[error("The Sec-WebSocket-Key header is missing.")]
    KeyMissing,
    /// 400.
    #[error("The Sec-WebSocket-Key header is there more than once.")]
    KeyRepeated,
    /// 400.
    #[error("Sec-WebSocket-Key must be the base64 of exactly 16 bytes.")]
    KeyInvalid,
    /// 400.
    #[error("Sec-WebSocket-Protocol must be a list of tokens.")]
    SubprotocolInvalid,
    /// 400.
    #[error("Sec-WebSocket-Protocol names a subprotocol twice.")]
    SubprotocolRepeated,
    /// 400: the client offered subprotocols, none of which the server knows.
    ///
    /// RFC 6455 lets a server accept without any. A browser then fails the connection by itself and says only
    /// that, so refusing loses nothing and leaves the developer a line to read; and a client that is not a
    /// browser would go on in a protocol that it did not ask for.
    #[error(
        "None of the subprotocols in Sec-WebSocket-Protocol is spoken here. Spoken here: {}.",
        spoken(known)
    )]
    SubprotocolUnknown {
        /// Those of [`ServerOptions::subprotocols`].
        known: Vec<String>,
    },
}

fn spoken(known: &[String]) -> String {
    if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    }
}

impl Refused {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Refused::MethodNotGet => StatusCode::METHOD_NOT_ALLOWED,
            Refused::NotHttp11 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Refused::UpgradeMissing | Refused::VersionNot13 => StatusCode::UPGRADE_REQUIRED,
            Refused::HostMissing
            | Refused::HostRepeated
            | Refused::Body
            | Refused::ConnectionMissing
            | Refused::KeyMissing
            | Refused::KeyRepeated
            | Refused::KeyInvalid
            | Refused::SubprotocolInvalid
            | Refused::SubprotocolRepeated
            | Refused::SubprotocolUnknown { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer, its reason as a line of plain text. The connection can be used for another request, except
    /// after [`Refused::Body`], where the answer says `Connection: close`.
    pub fn response(&self) -> Response<String> {
        let mut response = text_response(self.status(), self.to_string());
        let headers = response.headers_mut();
        match self {
            Refused::MethodNotGet => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Refused::Body => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Refused::UpgradeMissing => require_upgrade(headers),
            Refused::VersionNot13 => {
                require_upgrade(headers);
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}

/// "The server MUST send an Upgrade header field in a 426 response" (RFC 9110, 15.5.22), and "A sender of
/// Upgrade MUST also send an "Upgrade" connection option" (RFC 9110, 7.8).
fn require_upgrade(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
}

impl HeadError {
    /// The answer to a head that could not be read. The connection ends with it.
    pub fn response(self) -> Response<String> {
        let mut response = text_response(self.status(), format!("{self}."));
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn text_response(status: StatusCode, mut text: String) -> Response<String> {
    text.push('\n');
    let len = HeaderValue::from(text.len());
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.headers_mut().insert(CONTENT_LENGTH, len);
    response
}

/// Answers the opening handshake of a client
/// ([RFC 6455, section 4.2](https://www.rfc-editor.org/rfc/rfc6455#section-4.2)).
///
/// # Errors
/// See [`Refused`]; [`Refused::response`] is what to answer then.
pub fn accept<'o, B>(request: &Request<B>, options: &'o ServerOptions) -> Result<Accepted<'o>, Refused> {
    let key = check_upgrade(request)?;
    let negotiated = negotiate(request.headers(), options)?;

    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key.accept());
    negotiated.write(headers);
    Ok(Accepted {
        response,
        subprotocol: negotiated.subprotocol,
        compression: negotiated.compression.map(|(agreed, _)| agreed),
    })
}

/// What is particular to the upgrade of HTTP/1.1.
fn check_upgrade<B>(request: &Request<B>) -> Result<Key, Refused> {
    let headers = request.headers();
    // "An HTTP/1.1 or higher GET request" (RFC 6455, 4.2.1)
    if request.method() != Method::GET {
        return Err(Refused::MethodNotGet);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refused::NotHttp11);
    }
    // "A |Host| header field containing the server's authority."
    match single(headers, &HOST) {
        Single::Missing => return Err(Refused::HostMissing),
        Single::Repeated => return Err(Refused::HostRepeated),
        Single::Value(_) => {}
    }
    // A body would be read as frames, by us or by a proxy that disagrees with us on where it ends.
    if headers.contains_key(TRANSFER_ENCODING) || list(headers, &CONTENT_LENGTH).any(|len| len != b"0") {
        return Err(Refused::Body);
    }
    // "An |Upgrade| header field containing the value "websocket", treated as an ASCII case-insensitive
    // value."
    if !lists_token(headers, &UPGRADE, "websocket") {
        return Err(Refused::UpgradeMissing);
    }
    // "A |Connection| header field that includes the token "Upgrade", treated as an ASCII case-insensitive
    // value."
    if !lists_token(headers, &CONNECTION, "upgrade") {
        return Err(Refused::ConnectionMissing);
    }
    // "A |Sec-WebSocket-Version| header field, with a value of 13."
    if !matches!(single(headers, &SEC_WEBSOCKET_VERSION), Single::Value(b"13")) {
        return Err(Refused::VersionNot13);
    }
    // "A |Sec-WebSocket-Key| header field with a base64-encoded [...] value that, when decoded, is 16 bytes
    // in length."
    match single(headers, &SEC_WEBSOCKET_KEY) {
        Single::Missing => Err(Refused::KeyMissing),
        Single::Repeated => Err(Refused::KeyRepeated),
        Single::Value(value) => Key::parse(value).ok_or(Refused::KeyInvalid),
    }
}

/// What is negotiated inside the handshake, whatever carries it.
struct Negotiated<'o> {
    subprotocol: Option<&'o str>,
    compression: Option<(Agreed, String)>,
}

impl Negotiated<'_> {
    fn write(&self, headers: &mut HeaderMap) {
        if let Some(name) = self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, header_value(name));
        }
        if let Some((_, response)) = &self.compression {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, header_value(response));
        }
    }
}

fn negotiate<'o>(headers: &HeaderMap, options: &'o ServerOptions) -> Result<Negotiated<'o>, Refused> {
    let subprotocol = choose_subprotocol(headers, &options.subprotocols)?;
    let compression = options
        .compression
        .and_then(|policy| policy.negotiate(headers.get_all(SEC_WEBSOCKET_EXTENSIONS)));
    Ok(Negotiated {
        subprotocol,
        compression,
    })
}

/// The first of the client's list that the server knows.
fn choose_subprotocol<'o>(headers: &HeaderMap, known: &'o [String]) -> Result<Option<&'o str>, Refused> {
    let offered = || list(headers, &SEC_WEBSOCKET_PROTOCOL);
    let mut names: Vec<&[u8]> = offered().collect();
    // "The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to
    // U+007E not including separator characters [...] and MUST all be unique strings." (RFC 6455, 4.1)
    if !names.iter().all(|name| is_token(name)) {
        return Err(Refused::SubprotocolInvalid);
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Refused::SubprotocolRepeated);
    }
    let chosen = offered().find_map(|name| known.iter().find(|known| known.as_bytes() == name));
    match chosen {
        Some(name) => Ok(Some(name)),
        None if names.is_empty() => Ok(None),
        None => Err(Refused::SubprotocolUnknown {
            known: known.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::handshake::{HeadLimits, HeadReader, encode_response};
    use proptest::prelude::*;

    const HANDSHAKE: &str = "GET /chat HTTP/1.1\n\
                             Host: server.example.com\n\
                             Upgrade: websocket\n\
                             Connection: Upgrade\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\
                             Sec-WebSocket-Version: 13\n";

    fn options(subprotocols: &[&str]) -> ServerOptions {
        ServerOptions {
            subprotocols: subprotocols.iter().map(|name| name.to_string()).collect(),
            compression: Some(DeflatePolicy::default()),
        }
    }

    fn parse(lines: &str) -> Request<()> {
        let bytes = lines.replace('\n', "\r\n") + "\r\n";
        HeadReader::new(HeadLimits::default())
            .request(bytes.as_bytes())
            .unwrap()
            .unwrap()
            .0
    }

    /// The handshake with one line in place of another ("" removes it), answered by a server that knows
    /// `chat`.
    fn with(line: &str, replacement: &str) -> Result<(), Refused> {
        assert!(HANDSHAKE.contains(line), "{line}");
        let line = format!("{line}\n");
        let replacement = if replacement.is_empty() {
            String::new()
        } else {
            format!("{replacement}\n")
        };
        accept(
            &parse(&HANDSHAKE.replace(&line, &replacement)),
            &options(&["chat"]),
        )
        .map(|_| ())
    }

    fn with_added(lines: &str) -> Result<(), Refused> {
        accept(&parse(&format!("{HANDSHAKE}{lines}\n")), &options(&["chat"])).map(|_| ())
    }

    fn written<B: AsRef<[u8]>>(response: &Response<B>) -> String {
        let mut out = Vec::new();
        encode_response(response, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    // RFC 6455, 1.2 and 1.3
    #[test]
    fn rfc_6455_opening_handshake() {
        let request = parse(
            "GET /chat HTTP/1.1\n\
             Host: server.example.com\n\
             Upgrade: websocket\n\
             Connection: Upgrade\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\
             Origin: http://example.com\n\
             Sec-WebSocket-Protocol: chat, superchat\n\
             Sec-WebSocket-Version: 13\n",
        );
        let options = options(&["superchat", "chat"]);
        let accepted = accept(&request, &options).unwrap();
        assert_eq!(accepted.subprotocol, Some("chat"));
        assert_eq!(accepted.compression, None);
        assert_eq!(
            written(&accepted.response.map(|()| "")),
            "HTTP/1.1 101 Switching Protocols\n\
             upgrade: websocket\n\
             connection: Upgrade\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n\
             sec-websocket-protocol: chat\n\
             \n"
        );
    }

    #[test]
    fn header_tokens_are_compared_case_insensitively_in_comma_lists() {
        assert_eq!(with("Upgrade: websocket", "UPGRADE: h2c , WebSocket"), Ok(()));
        assert_eq!(
            with("Upgrade: websocket", "upgrade: h2c\nupgrade: WEBSOCKET"),
            Ok(())
        );
        assert_eq!(
            with("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
            Ok(())
        );
        assert_eq!(
            with(
                "Connection: Upgrade",
                "Connection: keep-alive,\nconnection: ,upgrade\t,"
            ),
            Ok(())
        );

        assert_eq!(
            with("Upgrade: websocket", "Upgrade: websockets"),
            Err(Refused::UpgradeMissing)
        );
        assert_eq!(
            with("Upgrade: websocket", "Upgrade: web socket"),
            Err(Refused::UpgradeMissing)
        );
        assert_eq!(
            with("Connection: Upgrade", "Connection: upgrade-later"),
            Err(Refused::ConnectionMissing)
        );
    }

    #[test]
    fn upgrade_and_connection_must_be_there() {
        assert_eq!(with("Upgrade: websocket", ""), Err(Refused::UpgradeMissing));
        assert_eq!(with("Connection: Upgrade", ""), Err(Refused::ConnectionMissing));
        assert_eq!(Refused::ConnectionMissing.status(), 400);
        assert_eq!(
            written(&Refused::UpgradeMissing.response()),
            "HTTP/1.1 426 Upgrade Required\n\
             content-type: text/plain; charset=utf-8\n\
             content-length: 97\n\
             upgrade: websocket\n\
             connection: Upgrade\n\
             \n\
             This address speaks WebSocket: the request needs \"Upgrade: websocket\" and \"Connection: Upgrade\".\n"
        );
    }

    #[test]
    fn key_must_be_there_once_and_decode_to_16_bytes() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(with(key, ""), Err(Refused::KeyMissing));
        assert_eq!(with(key, &format!("{key}\n{key}")), Err(Refused::KeyRepeated));
        assert_eq!(with(key, "Sec-WebSocket-Key:"), Err(Refused::KeyInvalid));
        assert_eq!(
            with(key, "Sec-WebSocket-Key: bm90IDE2IGJ5dGVz"),
            Err(Refused::KeyInvalid)
        );
        assert_eq!(
            with(key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh"),
            Err(Refused::KeyInvalid)
        );
        assert_eq!(
            with(key, "Sec-WebSocket-Key: not base64 but 24 chars!"),
            Err(Refused::KeyInvalid)
        );
        for refused in [Refused::KeyMissing, Refused::KeyRepeated, Refused::KeyInvalid] {
            assert_eq!(refused.status(), 400);
        }
    }

    #[test]
    fn other_versions_get_426_and_the_version_spoken() {
        let version = "Sec-WebSocket-Version: 13";
        for other in [
            "",
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Version: 013",
            "Sec-WebSocket-Version: 13, 8",
        ] {
            assert_eq!(with(version, other), Err(Refused::VersionNot13), "{other}");
        }
        assert_eq!(
            with(version, &format!("{version}\n{version}")),
            Err(Refused::VersionNot13)
        );

        let response = Refused::VersionNot13.response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[UPGRADE], "websocket");
    }

    #[test]
    fn upgrade_requests_with_a_body_are_refused() {
        assert_eq!(with_added("Content-Length: 0"), Ok(()));
        for body in [
            "Content-Length: 1",
            "Content-Length: 0\nContent-Length: 5",
            "Content-Length: 0, 5",
            "Content-Length: +0",
            "Content-Length: nonsense",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
        ] {
            assert_eq!(with_added(body), Err(Refused::Body), "{body}");
        }
        assert_eq!(Refused::Body.response().status(), 400);
        assert_eq!(Refused::Body.response().headers()[CONNECTION], "close");
    }

    #[test]
    fn other_methods_get_405_and_the_method_allowed() {
        for method in ["POST", "HEAD", "OPTIONS", "get", "CONNECT"] {
            assert_eq!(
                with("GET /chat HTTP/1.1", &format!("{method} /chat HTTP/1.1")),
                Err(Refused::MethodNotGet),
                "{method}"
            );
        }
        let response = Refused::MethodNotGet.response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET");
    }

    #[test]
    fn http_1_0_is_refused() {
        assert_eq!(
            with("GET /chat HTTP/1.1", "GET /chat HTTP/1.0"),
            Err(Refused::NotHttp11)
        );
        assert_eq!(Refused::NotHttp11.status(), 505);
    }

    #[test]
    fn host_must_be_there_once() {
        let host = "Host: server.example.com";
        assert_eq!(with(host, ""), Err(Refused::HostMissing));
        assert_eq!(with(host, &format!("{host}\n{host}")), Err(Refused::HostRepeated));
        assert_eq!(Refused::HostMissing.status(), 400);
    }

    fn chosen(offered: &str, known: &[&str]) -> Result<Option<String>, Refused> {
        let options = options(known);
        let accepted = accept(&parse(&format!("{HANDSHAKE}{offered}\n")), &options)?;
        assert_eq!(
            accepted
                .response
                .headers()
                .get(SEC_WEBSOCKET_PROTOCOL)
                .map(|value| value.to_str().unwrap()),
            accepted.subprotocol
        );
        Ok(accepted.subprotocol.map(str::to_owned))
    }

    #[test]
    fn first_subprotocol_of_the_client_that_the_server_knows_is_chosen() {
        let known = ["switchboard.v1.json", "switchboard.v1.msgpack"];
        for offered in [
            "Sec-WebSocket-Protocol: x, switchboard.v1.msgpack, switchboard.v1.json",
            "Sec-WebSocket-Protocol: x\nSec-WebSocket-Protocol: ,switchboard.v1.msgpack,, switchboard.v1.json",
        ] {
            assert_eq!(
                chosen(offered, &known),
                Ok(Some("switchboard.v1.msgpack".to_owned()))
            );
        }
        assert_eq!(chosen("X: y", &known), Ok(None));
        assert_eq!(chosen("Sec-WebSocket-Protocol:", &known), Ok(None));
    }

    #[test]
    fn subprotocols_must_be_tokens_and_different() {
        let known = ["chat"];
        for offered in ["chat, super chat", "chat, \"quoted\"", "chat, a/b", "chat;q=1"] {
            let line = format!("Sec-WebSocket-Protocol: {offered}");
            assert_eq!(
                chosen(&line, &known),
                Err(Refused::SubprotocolInvalid),
                "{offered}"
            );
        }
        assert_eq!(
            chosen("Sec-WebSocket-Protocol: chat, x, chat", &known),
            Err(Refused::SubprotocolRepeated)
        );
        assert_eq!(
            chosen("Sec-WebSocket-Protocol: x\nSec-WebSocket-Protocol: x", &known),
            Err(Refused::SubprotocolRepeated)
        );
    }

    #[test]
    fn unknown_subprotocols_are_answered_with_those_known() {
        let refused = chosen("Sec-WebSocket-Protocol: Chat, superchat", &["chat", "raw"]).unwrap_err();
        assert_eq!(refused.status(), 400);
        assert!(refused.response().body().contains("Spoken here: chat, raw."));
        let refused = chosen("Sec-WebSocket-Protocol: chat", &[]).unwrap_err();
        assert!(refused.response().body().contains("Spoken here: none."));
    }

    #[test]
    fn compression_is_answered_as_negotiated() {
        let request = parse(&format!(
            "{HANDSHAKE}Sec-WebSocket-Extensions: mystery\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n"
        ));
        let options = options(&[]);
        let accepted = accept(&request, &options).unwrap();
        assert!(accepted.compression.unwrap().client_no_context_takeover);
        assert_eq!(
            accepted.response.headers()[SEC_WEBSOCKET_EXTENSIONS],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        );
    }

    #[test]
    fn compression_is_declined_where_it_is_off() {
        let request = parse(&format!(
            "{HANDSHAKE}Sec-WebSocket-Extensions: permessage-deflate\n"
        ));
        let options = ServerOptions::default();
        let accepted = accept(&request, &options).unwrap();
        assert_eq!(accepted.compression, None);
        assert!(!accepted.response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
    }

    #[test]
    fn unacceptable_extension_offers_do_not_refuse_the_connection() {
        for offers in [
            "permessage-deflate; mystery",
            "permessage-deflate; server_max_window_bits=\"",
            ";;;",
            "\"",
        ] {
            assert_eq!(
                with_added(&format!("Sec-WebSocket-Extensions: {offers}")),
                Ok(()),
                "{offers}"
            );
        }
    }

    #[test]
    fn unreadable_head_is_answered() {
        let response = HeadError::TooLarge.response();
        assert_eq!(response.status(), 431);
        assert_eq!(response.headers()[CONNECTION], "close");
        assert_eq!(response.body(), "the HTTP head is too large.\n");
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(
            values in prop::collection::vec(("[ -~\u{80}-\u{ff}]{0,30}", 0usize..9), 0..9),
        ) {
            const NAMES: [&str; 9] = [
                "host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version",
                "content-length", "sec-websocket-protocol", "sec-websocket-extensions", "transfer-encoding",
            ];
            let mut request = parse(HANDSHAKE);
            for (value, name) in values {
                request.headers_mut().append(NAMES[name], HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            if let Err(refused) = accept(&request, &options(&["chat"])) {
                prop_assert!(refused.response().status().is_client_error());
            }
        }
    }
}

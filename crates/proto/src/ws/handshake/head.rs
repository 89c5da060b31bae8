//! Heads of HTTP/1.1 messages as bytes: for who has no HTTP library between the socket and the handshake.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};

/// How large a head may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes up to and including the empty line. Default 16 KiB.
    pub bytes_max: usize,
    /// Header lines. Default 64.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits {
            bytes_max: 16 * 1024,
            headers_max: 64,
        }
    }
}

/// Why a head cannot be read. All are the peer's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// More bytes than [`HeadLimits::bytes_max`].
    #[error("the HTTP head is too large")]
    TooLarge,
    /// More header lines than [`HeadLimits::headers_max`].
    #[error("the HTTP head has too many headers")]
    TooManyHeaders,
    /// Not a head as HTTP/1.1 or HTTP/1.0 defines it.
    #[error("the HTTP head is malformed")]
    Malformed,
}

impl HeadError {
    /// What a server answers: 431 or 400.
    pub fn status(self) -> StatusCode {
        match self {
            HeadError::TooLarge | HeadError::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

/// Finds and parses the head at the start of a stream.
///
/// **Call [`request`](HeadReader::request) or [`response`](HeadReader::response) with all bytes that have
/// arrived, from the first on, each time there are more.** A byte is looked for the end once and parsed once,
/// however slowly it comes. Bytes behind the head are not looked at: they are the first frames.
#[derive(Clone, Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    /// No head ends before here.
    searched: usize,
}

const HEAD_END: &[u8] = b"\r\n\r\n";

impl HeadReader {
    /// A reader at the start of a stream.
    pub fn new(limits: HeadLimits) -> HeadReader {
        HeadReader { limits, searched: 0 }
    }

    /// The request at the start of `bytes` and the length of its head; None if the head is not complete.
    ///
    /// # Errors
    /// See [`HeadError`]; the stream is then of no use.
    pub fn request(&mut self, bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
        let Some(len) = self.head_len(bytes)? else {
            return Ok(None);
        };
        let mut headers = vec![httparse::EMPTY_HEADER; self.limits.headers_max];
        let mut parsed = httparse::Request::new(&mut headers);
        is_whole(parsed.parse(&bytes[..len]), len)?;
        // httparse leaves none of these out of a complete head
        let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadError::Malformed);
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed)?;
        *request.uri_mut() = Uri::try_from(path).map_err(|_| HeadError::Malformed)?;
        *request.version_mut() = version(minor);
        *request.headers_mut() = header_map(parsed.headers)?;
        Ok(Some((request, len)))
    }

    /// The response at the start of `bytes` and the length of its head; None if the head is not complete.
    ///
    /// # Errors
    /// See [`HeadError`]; the stream is then of no use.
    pub fn response(&mut self, bytes: &[u8]) -> Result<Option<(Response<()>, usize)>, HeadError> {
        let Some(len) = self.head_len(bytes)? else {
            return Ok(None);
        };
        let mut headers = vec![httparse::EMPTY_HEADER; self.limits.headers_max];
        let mut parsed = httparse::Response::new(&mut headers);
        is_whole(parsed.parse(&bytes[..len]), len)?;
        // httparse leaves none of these out of a complete head
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(HeadError::Malformed);
        };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(code).map_err(|_| HeadError::Malformed)?;
        *response.version_mut() = version(minor);
        *response.headers_mut() = header_map(parsed.headers)?;
        Ok(Some((response, len)))
    }

    fn head_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let allowed = &bytes[..bytes.len().min(self.limits.bytes_max)];
        let from = self.searched.min(allowed.len());
        if let Some(at) = allowed[from..]
            .windows(HEAD_END.len())
            .position(|window| window == HEAD_END)
        {
            return Ok(Some(from + at + HEAD_END.len()));
        }
        if allowed.len() == self.limits.bytes_max {
            return Err(HeadError::TooLarge);
        }
        // the first bytes of the end may be there already
        self.searched = allowed.len().saturating_sub(HEAD_END.len() - 1);
        Ok(None)
    }
}

/// The parser must agree on where the head ends: it takes bare line feeds for line ends, which could hide a
/// second head.
fn is_whole(parsed: Result<httparse::Status<usize>, httparse::Error>, len: usize) -> Result<(), HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(end)) if end == len => Ok(()),
        Ok(_) => Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyHeaders),
        Err(_) => Err(HeadError::Malformed),
    }
}

fn version(minor: u8) -> Version {
    match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

fn header_map(parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| HeadError::Malformed)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| HeadError::Malformed)?;
        headers
            .try_append(name, value)
            .map_err(|_| HeadError::TooManyHeaders)?;
    }
    Ok(headers)
}

/// Appends the head of a request for the path and query of its URI, as HTTP/1.1.
pub fn encode_request<B>(request: &Request<B>, out: &mut Vec<u8>) {
    // displayed, a query straight behind the host gets the slash that a request line needs
    let path = request
        .uri()
        .path_and_query()
        .map_or("/".to_owned(), ToString::to_string);
    for part in [request.method().as_str(), " ", &path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    encode_headers(request.headers(), out);
}

/// Appends a response with its body, as HTTP/1.1. The headers are written as they are: no length is added.
pub fn encode_response<B: AsRef<[u8]>>(response: &Response<B>, out: &mut Vec<u8>) {
    let status = response.status();
    for part in [
        "HTTP/1.1 ",
        status.as_str(),
        " ",
        status.canonical_reason().unwrap_or(""),
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    encode_headers(response.headers(), out);
    out.extend_from_slice(response.body().as_ref());
}

fn encode_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
        HeadReader::new(HeadLimits::default()).request(bytes)
    }

    #[test]
    fn request_head_is_read() {
        let (request, len) = request(b"GET /ws?channel=a HTTP/1.1\r\nHost: here\r\nX: 1\r\nx:  2 \r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "/ws?channel=a");
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(
            request.headers().get_all("x").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert_eq!(len, 56);
    }

    #[test]
    fn response_head_is_read() {
        let bytes = b"HTTP/1.0 503 \r\nRetry-After: 3\r\n\r\nbusy";
        let (response, len) = HeadReader::new(HeadLimits::default())
            .response(bytes)
            .unwrap()
            .unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (503, Version::HTTP_10)
        );
        assert_eq!(response.headers()["retry-after"], "3");
        assert_eq!(&bytes[len..], b"busy");
    }

    #[test]
    fn bytes_pipelined_behind_the_handshake_are_kept() {
        let head = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        for behind in [
            &b""[..],
            b"\x81\x85\0\0\0\0hello",
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            &[0; 20_000],
        ] {
            let (_, len) = request(&[head, behind].concat()).unwrap().unwrap();
            assert_eq!(len, head.len());
        }
    }

    #[test]
    fn head_is_bounded_in_bytes() {
        let limits = HeadLimits {
            bytes_max: 100,
            headers_max: 64,
        };
        let head = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(len - 18)).into_bytes();
        let read = |bytes: &[u8]| HeadReader::new(limits).request(bytes);
        assert!(matches!(read(&head(100)), Ok(Some((_, 100)))));
        assert!(matches!(read(&head(101)), Err(HeadError::TooLarge)));
        // before the end is there, too
        assert!(matches!(read(&head(200)[..99]), Ok(None)));
        assert!(matches!(read(&head(200)[..100]), Err(HeadError::TooLarge)));
        assert_eq!(HeadError::TooLarge.status(), 431);
    }

    #[test]
    fn head_is_bounded_in_headers() {
        let head = |headers| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(headers)).into_bytes();
        assert_eq!(request(&head(64)).unwrap().unwrap().0.headers().len(), 64);
        assert!(matches!(request(&head(65)), Err(HeadError::TooManyHeaders)));
        assert_eq!(HeadError::TooManyHeaders.status(), 431);
    }

    #[test]
    fn malformed_head_is_refused() {
        for head in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "G@T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "GET /\u{7f} HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}\r\n\r\n",
        ] {
            assert!(
                matches!(request(head.as_bytes()), Err(HeadError::Malformed)),
                "{head:?}"
            );
        }
        assert_eq!(HeadError::Malformed.status(), 400);
    }

    #[test]
    fn bare_line_feeds_do_not_end_a_head_early() {
        assert!(matches!(request(b"GET / HTTP/1.1\nHost: a\n\n"), Ok(None)));
        let two = b"GET / HTTP/1.1\nHost: a\n\nGET /admin HTTP/1.1\r\n\r\n";
        assert!(matches!(request(two), Err(HeadError::Malformed)));
    }

    #[test]
    fn request_head_is_the_same_one_byte_at_a_time() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: here\r\nB: c\r\n\r\nframes";
        let mut reader = HeadReader::new(HeadLimits::default());
        for len in 0..bytes.len() - 6 {
            assert!(reader.request(&bytes[..len]).unwrap().is_none(), "{len}");
        }
        let (request, len) = reader.request(bytes).unwrap().unwrap();
        assert_eq!((request.uri().path(), len), ("/a", bytes.len() - 6));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = request(&[&bytes[..], b"\r\n\r\n"].concat());
            let _ = HeadReader::new(HeadLimits::default()).response(&[&bytes[..], b"\r\n\r\n"].concat());
        }

        #[test]
        fn almost_heads_never_panic(
            lines in prop::collection::vec("(GET|[ -~]{0,9})[: /]{0,2}[ -~\u{80}\t]{0,20}(\r\n|\n)", 0..6),
        ) {
            let head = lines.concat() + "\r\n\r\n";
            let _ = request(head.as_bytes());
            let _ = request(format!("GET / HTTP/1.1\r\n{head}").as_bytes());
            let response = format!("HTTP/1.1 101 \r\n{head}");
            let _ = HeadReader::new(HeadLimits::default()).response(response.as_bytes());
        }

        #[test]
        fn every_split_gives_the_same_head(
            headers in prop::collection::vec(("[a-z]{1,9}", "[!-~]{1,20}"), 0..9),
            splits in prop::collection::vec(0usize..400, 0..5),
        ) {
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let bytes = format!("GET / HTTP/1.1\r\n{lines}\r\nbehind").into_bytes();
            let (whole, whole_len) = request(&bytes).unwrap().unwrap();

            let mut reader = HeadReader::new(HeadLimits::default());
            let mut splits: Vec<usize> = splits.into_iter().map(|at| at.min(bytes.len())).collect();
            splits.sort_unstable();
            splits.push(bytes.len());
            let (split, split_len) =
                splits.iter().find_map(|at| reader.request(&bytes[..*at]).unwrap()).unwrap();
            prop_assert_eq!((split.headers(), split_len), (whole.headers(), whole_len));
        }
    }
}

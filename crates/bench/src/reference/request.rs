//! The request: its path, and nothing else of it.

use memchr::memmem;

/// The answer to every request that is accepted. The accept value is the one of the key
/// `dGhlIHNhbXBsZSBub25jZQ==` ([RFC 6455 section 1.3](https://www.rfc-editor.org/rfc/rfc6455#section-1.3)), which
/// the load generator always sends.
pub(super) const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    \r\n";

/// The answer to any other, after which the connection is closed.
pub(super) const REFUSED: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    Content-Length: 0\r\n\
    Connection: close\r\n\
    \r\n";

/// A longer head closes the connection.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Room numbers are smaller.
const ROOMS_MAX: u32 = 1_000_000;

/// The longest period of pings.
const PERIOD_SECONDS_MAX: u16 = 3600;

/// What the bytes of a connection that is new are so far.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Head {
    Complete {
        request: Request,
        /// Its length, the empty line included.
        head_bytes: usize,
    },
    Incomplete,
}

/// What a path asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// `/room/N`
    Room(u32),
    /// `/room/N/publish`
    Publish(u32),
    /// `/echo`
    Echo,
    /// `/ping/SECONDS`
    Ping(Period),
}

/// Seconds between two pings of a connection, from 1 to 3600.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Period(u16);

/// No head, or none of the paths.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unreadable;

/// Reads the head at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Head, Unreadable> {
    let Some(at) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() < HEAD_BYTES_MAX {
            Ok(Head::Incomplete)
        } else {
            Err(Unreadable)
        };
    };
    let target = bytes.strip_prefix(b"GET ").ok_or(Unreadable)?;
    let path = target.split(|&byte| byte == b' ').next().ok_or(Unreadable)?;
    let path = str::from_utf8(path).map_err(|_| Unreadable)?;
    Ok(Head::Complete {
        request: Request::from_path(path).ok_or(Unreadable)?,
        head_bytes: at + 4,
    })
}

impl Request {
    fn from_path(path: &str) -> Option<Self> {
        if path == "/echo" {
            return Some(Self::Echo);
        }
        if let Some(seconds) = path.strip_prefix("/ping/") {
            return Some(Self::Ping(Period::from_seconds(seconds.parse().ok()?)?));
        }
        let room = path.strip_prefix("/room/")?;
        let (room, request): (_, fn(u32) -> Self) = match room.strip_suffix("/publish") {
            Some(room) => (room, Self::Publish),
            None => (room, Self::Room),
        };
        let room = room.parse().ok()?;
        (room < ROOMS_MAX).then(|| request(room))
    }
}

impl Period {
    /// `None` unless it is from 1 to 3600.
    pub(super) fn from_seconds(seconds: u16) -> Option<Self> {
        (1..=PERIOD_SECONDS_MAX)
            .contains(&seconds)
            .then_some(Self(seconds))
    }

    pub(super) fn seconds(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<Request>) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let expected = expected.map(|request| Head::Complete {
            request,
            head_bytes: head.len(),
        });
        assert_eq!(read(head.as_bytes()).ok(), expected, "{path}");
    }

    #[test]
    fn paths() {
        check("/echo", Some(Request::Echo));
        check("/room/0", Some(Request::Room(0)));
        check("/room/999999", Some(Request::Room(999_999)));
        check("/room/7/publish", Some(Request::Publish(7)));
        check("/ping/25", Some(Request::Ping(Period(25))));
        check("/room/1000000", None);
        check("/room/99999999999", None);
        check("/room/", None);
        check("/room/x", None);
        check("/room/1/listen", None);
        check("/room//publish", None);
        check("/ping/0", None);
        check("/ping/3601", None);
        check("/", None);
        check("", None);
    }

    #[test]
    fn a_head_is_complete_with_its_empty_line() {
        let head = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..head.len() {
            assert_eq!(read(&head[..length]), Ok(Head::Incomplete), "{length} bytes");
        }
        let mut with_frame = head.to_vec();
        with_frame.extend(b"\x81\x84key!\r\n\r\n");
        let complete = Head::Complete {
            request: Request::Echo,
            head_bytes: head.len(),
        };
        assert_eq!(read(&with_frame), Ok(complete));
    }

    #[test]
    fn what_is_no_head_is_unreadable() {
        assert_eq!(read(&[b'x'; HEAD_BYTES_MAX]), Err(Unreadable));
        assert_eq!(read(b"POST /echo HTTP/1.1\r\n\r\n"), Err(Unreadable));
        assert_eq!(read(b"\r\n\r\n"), Err(Unreadable));
        assert_eq!(read(b"GET \xff\xff HTTP/1.1\r\n\r\n"), Err(Unreadable));
    }
}

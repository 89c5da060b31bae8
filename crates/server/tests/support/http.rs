//! Requests that are no WebSocket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::soon;

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers as they came, with a line break before each header.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Splits the bytes of one answer whose body goes on to the end.
    pub fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer {
            status,
            head,
            body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
        })
    }

    /// The value of a header, `""` where there is none.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
            .unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Sends one request and reads the answer to its end.
pub async fn request(to: SocketAddr, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let what = format!("the answer to {method} {target}");
    let bytes = soon(&what, async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    })
    .await;
    Answer::parse(&bytes).unwrap_or_else(|| panic!("not an answer: {:?}", String::from_utf8_lossy(&bytes)))
}

pub async fn get(to: SocketAddr, target: &str) -> Answer {
    request(to, "GET", target, &[], b"").await
}

pub async fn post(to: SocketAddr, target: &str, media_type: &str, body: impl AsRef<[u8]>) -> Answer {
    let header = format!("Content-Type: {media_type}");
    request(to, "POST", target, &[&header], body.as_ref()).await
}

//! The internal listener of a Switchboard: its counters, and messages whose publication it acknowledges.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time for an answer, or for a part of it.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// One connection to it, made when it is needed.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Api {
    /// Of the internal listener there.
    pub fn new(address: SocketAddr) -> Api {
        Api {
            address,
            stream: None,
        }
    }

    /// One of the numbers of `/metrics`, without `switchboard_` before and `_total` behind its name. Fails where there is no such
    /// number.
    pub fn counter(&mut self, name: &str) -> io::Result<u64> {
        let (_, text) = self.call("GET", "/metrics", "")?;
        let number = text.lines().find_map(|line| {
            let (known, value) = line.strip_prefix("switchboard_")?.split_once(' ')?;
            let known = known.strip_suffix("_total").unwrap_or(known);
            (known == name).then(|| value.parse().ok()).flatten()
        });
        number.ok_or_else(|| io::Error::other(format!("/metrics has no {name}")))
    }

    /// Publishes a text. `Ok` is the acknowledgement; after anything else it may be said again with the same key, of letters,
    /// digits and hyphens, and is published once.
    pub fn publish(&mut self, channel: &str, key: &str, text: &str) -> io::Result<()> {
        let path = format!("/api/v1/publish?channel={channel}&key={key}");
        match self.call("POST", &path, text)? {
            (200, _) => Ok(()),
            (status, body) => Err(io::Error::other(format!("{status}: {body}"))),
        }
    }

    /// The status and the body that answer a request. A connection on which that failed is not used again.
    fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, ANSWER_MAX)?;
                stream.set_nodelay(true)?;
                // Its port is free at once when it ends.
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                stream.set_read_timeout(Some(ANSWER_MAX))?;
                stream.set_write_timeout(Some(ANSWER_MAX))?;
                BufReader::new(stream)
            }
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// Status and body. What is sent in chunks is not understood: Switchboard knows the length of what it says.
fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, String)> {
    let wrong = || io::Error::other("the answer is no HTTP of a known length");
    let line = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        match stream.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line),
        }
    };
    let status = line(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(wrong)?;
    let mut length = None;
    loop {
        let header = line(stream)?;
        match header.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value
                    .trim()
                    .parse()
                    .ok()
                    .filter(|length| *length <= BODY_BYTES_MAX);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length.ok_or_else(wrong)?];
    stream.read_exact(&mut body)?;
    String::from_utf8(body)
        .map(|body| (status, body))
        .map_err(|_| wrong())
}

//! A WebSocket peer that writes its bytes by hand: transcripts read as what stands on the wire, and nothing keeps it from
//! being wrong.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::http::Answer;
use super::soon;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// The bit of the first byte that ends a message.
pub const FIN: u8 = 0x80;
/// The bit of the first byte that a compressed message begins with.
pub const RSV1: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame from the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.first, FIN | TEXT, "{self:?}");
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The code of a Close.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk()?;
        (self.opcode() == CLOSE).then_some(u16::from_be_bytes(*code))
    }

    /// Takes a frame off the front of what a server has sent.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        assert_eq!(second & 0x80, 0, "servers do not mask");
        let (length, header) = match second {
            126 => (u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(), 4),
            127 => {
                let length = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
                (usize::try_from(length).unwrap(), 10)
            }
            length => (length.into(), 2),
        };
        let payload = bytes.get(header..header + length)?.to_vec();
        bytes.drain(..header + length);
        Some(Frame { first, payload })
    }
}

/// A masked frame whose first byte is `first`.
pub fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The header of a masked frame that declares this length.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes
}

pub fn text(text: impl AsRef<str>) -> Vec<u8> {
    frame(FIN | TEXT, text.as_ref())
}

pub fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, code.to_be_bytes())
}

/// The head of an opening handshake, up to but without the empty line.
pub fn handshake(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
}

/// How the server's bytes ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// In good order.
    Eof,
    /// By a reset, which may have destroyed what was under way.
    Reset,
}

/// See the module.
pub struct Peer {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// A connection on which nothing was said.
    pub async fn connect(to: SocketAddr) -> Peer {
        Peer::connect_with(to, None, None).await.unwrap()
    }

    /// A connection from an address of this machine, with a receive buffer of its own size.
    pub async fn connect_with(
        to: SocketAddr,
        from: Option<IpAddr>,
        receive_bytes: Option<u32>,
    ) -> io::Result<Peer> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(from) = from {
            socket.bind((from, 0).into())?;
        }
        let stream = soon("connected", socket.connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Peer {
            stream,
            read: Vec::new(),
        })
    }

    /// A connection whose opening handshake has succeeded.
    pub async fn open(to: SocketAddr, target: &str) -> Peer {
        Peer::connect(to).await.opened(target).await
    }

    /// One that reads into a small buffer, so that the server soon has to wait for it.
    pub async fn open_small(to: SocketAddr, target: &str) -> Peer {
        let peer = Peer::connect_with(to, None, Some(4 * 1024)).await.unwrap();
        peer.opened(target).await
    }

    /// Says the opening handshake on a fresh connection.
    pub async fn opened(mut self, target: &str) -> Peer {
        self.send(format!("{}\r\n", handshake(target))).await;
        self.answer().await.expect(101);
        self
    }

    /// Says the opening handshake with more headers. Gives the answer.
    pub async fn upgrade(to: SocketAddr, target: &str, headers: &[&str]) -> (Peer, Answer) {
        let mut peer = Peer::connect(to).await;
        let mut head = handshake(target);
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        peer.send(head).await;
        let answer = peer.answer().await;
        (peer, answer)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to a server that may have gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        soon("the server reads", self.stream.write_all(bytes.as_ref())).await
    }

    /// Sends a text message.
    pub async fn say(&mut self, words: &str) {
        self.send(text(words)).await;
    }

    /// An HTTP answer, its body as far as `Content-Length` says.
    pub async fn answer(&mut self) -> Answer {
        match self.next_answer().await {
            Ok(answer) => answer,
            Err(ended) => {
                let read = String::from_utf8_lossy(&self.read);
                panic!("{ended:?} in place of an answer: {read:?}")
            }
        }
    }

    /// An HTTP answer, or how the server's bytes ended.
    pub async fn next_answer(&mut self) -> Result<Answer, Ended> {
        soon("an answer", async {
            loop {
                if let Some(mut answer) = Answer::parse(&self.read) {
                    let head = answer.head.len() + 4;
                    let body: usize = answer.header("content-length").parse().unwrap_or(0);
                    if self.read.len() >= head + body {
                        answer.body = String::from_utf8_lossy(&self.read[head..head + body]).into_owned();
                        self.read.drain(..head + body);
                        return Ok(answer);
                    }
                }
                if let Some(ended) = self.fill().await {
                    return Err(ended);
                }
            }
        })
        .await
    }

    /// The next frame, or how the server's bytes ended.
    pub async fn next(&mut self) -> Result<Frame, Ended> {
        soon("a frame", async {
            loop {
                if let Some(frame) = Frame::take(&mut self.read) {
                    return Ok(frame);
                }
                if let Some(ended) = self.fill().await {
                    return Err(ended);
                }
            }
        })
        .await
    }

    pub async fn frame(&mut self) -> Frame {
        match self.next().await {
            Ok(frame) => frame,
            Err(ended) => panic!("{ended:?} in place of a frame"),
        }
    }

    /// Expects a text message that matches `pattern`, in which `*` stands for anything. Gives it.
    pub async fn hear(&mut self, pattern: &str) -> String {
        let frame = self.frame().await;
        let words = frame.text();
        assert!(matches(pattern, words), "expected {pattern}\n   heard {words}");
        words.to_owned()
    }

    /// Says one thing, hears another.
    pub async fn ask(&mut self, words: &str, pattern: &str) -> String {
        self.say(words).await;
        self.hear(pattern).await
    }

    /// Nothing comes for a while.
    pub async fn hears_nothing(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(150), self.next()).await;
        assert!(next.is_err(), "expected nothing, heard {next:?}");
    }

    /// Passes over data until the Close, which has this code. Gives its reason.
    pub async fn hear_close(&mut self, code: u16) -> String {
        loop {
            let frame = match self.next().await {
                Ok(frame) => frame,
                Err(ended) => panic!("{ended:?} before a Close with {code}"),
            };
            if frame.opcode() == CLOSE {
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                assert_eq!(frame.close_code(), Some(code), "{reason}");
                return reason;
            }
        }
    }

    /// Nothing follows but the end.
    pub async fn hear_end(&mut self) {
        assert_eq!(self.next().await, Err(Ended::Eof));
    }

    /// Reads and forgets until the end, however it comes.
    pub async fn until_end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    /// What came and nobody has taken.
    pub fn take_read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    /// Reads once, or says how the server's bytes ended.
    pub async fn fill(&mut self) -> Option<Ended> {
        let mut buffer = vec![0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) => Some(Ended::Eof),
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                None
            }
            Err(_) => Some(Ended::Reset),
        }
    }
}

/// Whether `text` is `pattern`, where each `*` stands for any characters.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The string in the first field of this name.
pub fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let marker = format!("\"{name}\":\"");
    let begin = json
        .find(&marker)
        .unwrap_or_else(|| panic!("no {name} in {json}"))
        + marker.len();
    let length = json[begin..].find('"').unwrap();
    &json[begin..begin + length]
}

//! The server's internal listener: final histories, lists of members, metrics. A request a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use switchboard_check::place::Place;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::payloads;

/// For an answer, on a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(15);
/// Messages of one page.
const PAGE: u32 = 1_000;
/// Pages of one log: more than any log of a run holds.
const PAGES_MAX: u32 = 1_000;

/// Why the API said nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The connection or the answer failed.
    #[error("{path}: {error}")]
    Io {
        /// What was asked.
        path: String,
        /// What went wrong.
        error: io::Error,
    },
    /// It refused.
    #[error("{path}: {status}: {body}")]
    Status {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// It said something else than the documentation says.
    #[error("{path}: {what}: {body}")]
    Nonsense {
        /// What was asked.
        path: String,
        /// What is wrong.
        what: String,
        /// What it said.
        body: String,
    },
}

/// The internal listener of a server.
#[derive(Clone, Copy, Debug)]
pub struct Api(pub SocketAddr);

/// What a log holds.
#[derive(Debug)]
pub struct Log {
    /// Where it is.
    pub head: Place,
    /// The first offset that it holds.
    pub kept_from: u64,
    /// What it holds: who, the how-manieth, where.
    pub entries: Vec<(Place, String, u32)>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Entry<'a>>,
    position: String,
    more: bool,
    gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    position: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

#[derive(Deserialize)]
struct Gap {
    to: u64,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<Member>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    session: String,
}

impl Api {
    /// The body of an answer with status 200.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get(&self, path: &str) -> Result<String, ApiError> {
        let io = |error| ApiError::Io {
            path: path.to_owned(),
            error,
        };
        let answer = timeout(PATIENCE, self.exchange(path))
            .await
            .map_err(|_| io(io::ErrorKind::TimedOut.into()))?
            .map_err(io)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        match status {
            Some(200) => Ok(body.to_owned()),
            status => Err(ApiError::Status {
                path: path.to_owned(),
                status: status.unwrap_or(0),
                body: body.to_owned(),
            }),
        }
    }

    async fn exchange(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.0).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.0
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    /// Where a channel's log is, as the server writes it.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn head(&self, channel: &str) -> Result<String, ApiError> {
        let path = format!("/api/v1/history?channel={channel}&limit=0");
        let body = self.get(&path).await?;
        Ok(parse::<Page<'_>>(&path, &body)?.position)
    }

    /// All that a log holds, read forwards.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn log(&self, channel: &str) -> Result<Log, ApiError> {
        let position = self.head(channel).await?;
        let head = Place::parse(&position).ok_or_else(|| nonsense(channel, "no position", &position))?;
        let start = Place {
            offset: 0,
            tag: 0,
            ..head
        };
        let mut log = Log {
            head,
            kept_from: 1,
            entries: Vec::new(),
        };
        let mut since = start.position();
        for _ in 0..PAGES_MAX {
            let path = format!("/api/v1/history?channel={channel}&since={since}&limit={PAGE}");
            let body = self.get(&path).await?;
            let page: Page<'_> = parse(&path, &body)?;
            if let Some(gap) = page.gap {
                log.kept_from = gap.to + 1;
                log.entries.clear();
            }
            for entry in &page.messages {
                let place = Place::parse(&entry.position)
                    .ok_or_else(|| nonsense(channel, "no position", &entry.position))?;
                let text = text(entry).ok_or_else(|| nonsense(channel, "no payload of this run", &body))?;
                let payload =
                    payloads::parse(&text).map_err(|error| nonsense(channel, &error.to_string(), &text))?;
                log.entries
                    .push((place, payload.publisher, payload.number as u32));
            }
            since = page.position;
            if !page.more {
                return Ok(log);
            }
        }
        Err(nonsense(channel, "the log has no end", ""))
    }

    /// The sessions that are in a channel, in the order of their names.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn roster(&self, channel: &str) -> Result<Vec<String>, ApiError> {
        let mut sessions = Vec::new();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("/api/v1/presence?channel={channel}&limit={PAGE}{after}");
            let body = self.get(&path).await?;
            let page: Members = parse(&path, &body)?;
            sessions.extend(page.members.into_iter().map(|member| member.session));
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => {
                    sessions.sort_unstable();
                    return Ok(sessions);
                }
            }
        }
        Err(nonsense(channel, "the list of members has no end", ""))
    }

    /// One value of the metrics.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn metric(&self, name: &str) -> Result<u64, ApiError> {
        let text = self.get("/metrics").await?;
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .ok_or_else(|| nonsense("/metrics", "no such metric", name))
    }
}

/// The text of a payload, however it was carried.
fn text(entry: &Entry<'_>) -> Option<String> {
    match &entry.data_base64 {
        Some(base64) => String::from_utf8(payloads::from_base64(base64)?).ok(),
        None => Some(entry.data?.get().to_owned()),
    }
}

fn parse<'a, T: Deserialize<'a>>(path: &str, body: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(body).map_err(|error| nonsense(path, &error.to_string(), body))
}

fn nonsense(path: &str, what: &str, body: &str) -> ApiError {
    ApiError::Nonsense {
        path: path.to_owned(),
        what: what.to_owned(),
        body: body.to_owned(),
    }
}

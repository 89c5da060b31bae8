//! What reads: an event stream, or polls one after the other.

use std::time::Duration;

use http::Uri;
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use switchboard_proto::dialect::Inbound;
use switchboard_proto::dialect::event_stream::Decoder;
use switchboard_proto::dialect::notice::{self, Notice};
use tokio::sync::mpsc;

use super::Item;
use super::request::{Failure, Requests, within};

/// For how long a server may hold a poll; it is asked to, as its own maximum may be longer.
const HELD_MAX: Duration = Duration::from_secs(30);
/// When a poll that came too early is made again, if the server does not say.
const RETRY: Duration = Duration::from_secs(1);
/// Bounds of what the server says.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// One that reads. What it finds goes to the link, which knows it by the number of this `run`; while that takes nothing, it reads nothing.
pub(super) struct Reading {
    pub(super) requests: Requests,
    pub(super) run: u64,
    pub(super) heartbeat: Duration,
    pub(super) items: mpsc::Sender<Item>,
}

impl Reading {
    /// Reads an event stream to its end.
    pub(super) async fn stream(self, uri: Result<Uri, Failure>) {
        let failure = match uri {
            Ok(uri) => self.streamed(uri).await,
            Err(failure) => failure,
        };
        self.failed(failure).await;
    }

    async fn streamed(&self, uri: Uri) -> Failure {
        let patience = self.requests.patience;
        let mut body = match self.requests.get(uri, patience).await {
            Ok(body) => body,
            Err(failure) => return failure,
        };
        let mut decoder = Decoder::new(self.requests.event_bytes_max);
        // A box that keeps what it should pass on is found out by the first event.
        let (mut silence, mut heartbeat) = (patience, self.heartbeat);
        loop {
            let next = async { body.frame().await.transpose() };
            let frame = match within(silence, next).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Failure::Lost(std::io::ErrorKind::UnexpectedEof),
                Err(failure) => return failure,
            };
            let Some(mut input) = frame.data_ref().map(|data| &data[..]) else {
                continue;
            };
            let mut notices = Vec::new();
            loop {
                match decoder.poll_data(&mut input) {
                    Ok(None) => break,
                    Ok(Some(text)) => match notice::decode(Inbound::Text(&text)) {
                        Ok(notice) => notices.push(notice),
                        Err(error) => return Failure::Misbehaved(error.to_string()),
                    },
                    Err(error) => return Failure::Misbehaved(error.to_string()),
                }
            }
            for notice in &notices {
                if let Notice::Welcome { heartbeat: said, .. } = notice {
                    heartbeat = *said;
                }
            }
            silence = heartbeat + heartbeat / 2;
            if !notices.is_empty() && !self.tell(Item::Read(self.run, notices)).await {
                return Failure::Lost(std::io::ErrorKind::UnexpectedEof);
            }
        }
    }

    /// Polls for ever, first as the session that was given `resume`. `uri` makes the address of a poll of the session, of where the last
    /// one led to, and of the seconds for which it may be held.
    pub(super) async fn poll(
        self,
        resume: String,
        uri: impl Fn(&str, Option<&str>, u64) -> Result<Uri, Failure>,
    ) {
        let failure = self.polled(resume, uri).await;
        self.failed(failure).await;
    }

    async fn polled(
        &self,
        mut resume: String,
        uri: impl Fn(&str, Option<&str>, u64) -> Result<Uri, Failure>,
    ) -> Failure {
        let (mut since, mut more): (Option<String>, bool) = (None, true);
        loop {
            // The first one is not held: it says that all works. Nor is one that only goes on.
            let wait = if more { 0 } else { HELD_MAX.as_secs() };
            let uri = match uri(&resume, since.as_deref(), wait) {
                Ok(uri) => uri,
                Err(failure) => return failure,
            };
            let patience = Duration::from_secs(wait) + self.requests.patience;
            let answer = match self.requests.get(uri, patience).await {
                Ok(body) => {
                    if !self.tell(Item::Answering).await {
                        return Failure::Lost(std::io::ErrorKind::UnexpectedEof);
                    }
                    self.requests.whole(body).await
                }
                Err(failure) => match failure.too_early() {
                    Some(wait) => {
                        tokio::time::sleep(wait.unwrap_or(RETRY).clamp(RETRY_MIN, RETRY_MAX)).await;
                        continue;
                    }
                    None => return failure,
                },
            };
            let (position, notices, has_more) = match answer.map(|answer| parse(&answer)) {
                Ok(Ok(polled)) => polled,
                Ok(Err(why)) => return Failure::Misbehaved(why),
                Err(failure) => return failure,
            };
            (since, more) = (Some(position), has_more);
            // The next one is the same session, not another member.
            for notice in &notices {
                if let Notice::Welcome {
                    resume: Some(said), ..
                } = notice
                {
                    resume.clone_from(said);
                }
            }
            if !self.tell(Item::Polled(self.run, notices, more)).await {
                return Failure::Lost(std::io::ErrorKind::UnexpectedEof);
            }
        }
    }

    async fn failed(&self, failure: Failure) {
        self.tell(Item::Failed(self.run, failure)).await;
    }

    async fn tell(&self, item: Item) -> bool {
        self.items.send(item).await.is_ok()
    }
}

/// The answer to a poll: where the next one goes on, what happened, and whether there is more that it did not hold.
fn parse(answer: &[u8]) -> Result<(String, Vec<Notice>, bool), String> {
    #[derive(serde::Deserialize)]
    struct Polled<'a> {
        position: String,
        #[serde(borrow)]
        events: Vec<&'a RawValue>,
        #[serde(default)]
        more: bool,
    }
    let polled: Polled<'_> =
        serde_json::from_slice(answer).map_err(|error| format!("no answer to a poll: {error}"))?;
    let notices = polled
        .events
        .into_iter()
        .map(|event| notice::decode(Inbound::Text(event.get())).map_err(|error| error.to_string()));
    Ok((polled.position, notices.collect::<Result<_, _>>()?, polled.more))
}

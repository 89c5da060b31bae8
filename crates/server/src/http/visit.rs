//! Requests of one connection by hyper, until it ends or becomes something else.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use switchboard_hub::home::Answer as HomeAnswer;
use switchboard_hub::log::Draft;
use switchboard_proto::dialect::json::decode_publish;
use switchboard_proto::dialect::{Command, Event, Rejected};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::session::rate::Meter;
use switchboard_proto::session::server::{Refusal, Session};

use super::cors::Cors;
use super::reading::Reading;
use super::site::{Answer, Answered, Upgrade, is_for_pages, refuse, refuse_as};
use super::stall::Stalling;
use super::{Door, Slot, ask, drain, open, open_stream, refuse_slow_head};
use crate::net::Stream;
use crate::shard::mail::Mail;
use crate::shard::reader::{Answer as Polled, Wishes};

/// For so long a poll that is not to be held waits for what is there already.
const READING_MAX: Duration = Duration::from_secs(5);

/// For so long a poll of a peer that sends no more may still be answered with what is there.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// What a connection becomes.
enum Become {
    WebSocket(Upgrade),
    EventStream(Reading, Cors),
}

/// What the requests of one connection share.
struct Visit {
    door: Rc<Door>,
    becomes: Cell<Option<Become>>,
    /// The connection is to be an event stream.
    is_stream: Cell<bool>,
    answered: Cell<bool>,
    /// A poll is held, whose end is that of its connection.
    holds: Cell<bool>,
    meters: RefCell<(Meter, Meter)>,
}

/// Serves requests of a connection until it ends or becomes something else. Of the first head some bytes are `read`, and the
/// others have the time that is `left`.
pub(super) async fn serve(mut stream: Stream, (read, left): (Vec<u8>, Duration), door: Rc<Door>, slot: Slot) {
    let _in_progress = door.enter();
    let limits = &door.limits;
    let visit = Rc::new(Visit {
        door: door.clone(),
        becomes: Cell::new(None),
        is_stream: Cell::new(false),
        answered: Cell::new(false),
        holds: Cell::new(false),
        meters: RefCell::default(),
    });
    let Served { ended, read, stalled } = serve_requests(&stream, (read, left), &visit).await;
    match (ended, visit.becomes.take()) {
        (Ok(()), Some(Become::WebSocket(upgrade))) => {
            return open(stream, &door, upgrade, &read, slot);
        }
        (Ok(()), Some(Become::EventStream(reading, cors))) => {
            return open_stream(stream, &door, reading, &cors, slot).await;
        }
        (Err(None), _) => refuse_slow_head(&stream),
        (Err(Some(error)), _) if error.is_timeout() && !visit.answered.get() => refuse_slow_head(&stream),
        (Err(Some(error)), _) => tracing::debug!(%error, "connection ended"),
        (Ok(()), None) => {}
    }
    if !stalled {
        let _some_never_leave = tokio::time::timeout(limits.linger, drain(&mut stream)).await;
    }
}

/// How requests came to an end.
struct Served {
    /// `None`: the first head was too slow.
    ended: Result<(), Option<hyper::Error>>,
    /// What was read behind the last request.
    read: Bytes,
    /// The peer takes nothing any more.
    stalled: bool,
}

async fn serve_requests(stream: &Stream, (read, left): (Vec<u8>, Duration), visit: &Rc<Visit>) -> Served {
    let Door { limits, stop, .. } = &*visit.door;
    let service = hyper::service::service_fn(|request| {
        visit.answered.set(true);
        let visit = visit.clone();
        // hyper hands its connection back only where the answer can be moved.
        Box::pin(async move { Ok::<_, Infallible>(visit.answer(request).await) })
    });
    let stalling = Stalling::new(stream, read, limits.write_stall);
    let is_blocked = stalling.is_blocked();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Who has nothing more to ask wants its answer all the same.
        .half_close(true)
        .header_read_timeout(limits.head_deadline)
        .max_headers(limits.headers_max)
        .max_header_size(limits.head_bytes_max)
        // hyper panics below 8 KiB.
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .serve_connection(TokioIo::new(stalling), service);
    // hyper has one deadline for all heads, and begins to count the first one's only now.
    let mut first_head = std::pin::pin!(tokio::time::sleep(left));
    let mut stop = stop.clone();
    let mut stopped = std::pin::pin!(stop.wait_for(|stopped| *stopped));
    let mut stops = false;
    // A poll is not held for a peer that sends no more: most of them are gone.
    let mut left_by_peer = std::pin::pin!(async {
        stream.hung_up().await;
        tokio::time::sleep(LAST_ANSWER).await;
    });
    let ended = std::future::poll_fn(|cx| {
        if !stops && stopped.as_mut().poll(cx).is_ready() {
            stops = true;
            // After the answer that it is at.
            std::pin::Pin::new(&mut connection).graceful_shutdown();
        }
        match connection.poll_without_shutdown(cx) {
            // Answers to what was asked before are on their way.
            Poll::Pending if visit.is_stream.get() && !is_blocked.get() => Poll::Ready(Ok(())),
            Poll::Pending if visit.holds.get() => left_by_peer.as_mut().poll(cx).map(Ok),
            Poll::Pending if !visit.answered.get() => first_head.as_mut().poll(cx).map(|()| Err(None)),
            served => served.map_err(Some),
        }
    })
    .await;
    let parts = connection.into_parts();
    Served {
        ended,
        read: parts.read_buf,
        stalled: parts.io.into_inner().is_stalled(),
    }
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let counted = match is_for_pages(request.uri().path()) {
            true => self.count(),
            false => Ok(()),
        };
        match (self.door.site.answer(&request), counted) {
            // Its body is read first, so that the connection can go on.
            (Answered::Publish(cors), counted) => cors.on(self.publish(request.into_body(), counted).await),
            (Answered::Poll(_, cors) | Answered::EventStream(_, cors), Err(refusal)) => {
                cors.on(refuse(&refusal))
            }
            (Answered::Whole(answer), Err(refusal)) => instead_of(answer, refuse(&refusal)),
            (Answered::Whole(answer), Ok(())) => {
                if answer.status().is_client_error() && request.headers().contains_key("sec-websocket-key") {
                    self.door.shard.stats().handshakes_refused.add(1);
                }
                answer
            }
            (Answered::WebSocket(answer, upgrade), _) => {
                self.becomes.set(Some(Become::WebSocket(upgrade)));
                answer
            }
            (Answered::EventStream(reading, cors), Ok(())) => {
                self.becomes.set(Some(Become::EventStream(reading, cors)));
                self.is_stream.set(true);
                std::future::pending().await
            }
            (Answered::Poll(reading, cors), Ok(())) => {
                let polled = self.poll(reading).await;
                cors.on(polled.unwrap_or_else(|refusal| refuse(&refusal)))
            }
        }
    }

    /// Whether the connection may ask for something now.
    fn count(&self) -> Result<(), Refusal> {
        let rate = self.door.shard.settings().limits.commands;
        let commands = &mut self.meters.borrow_mut().0;
        commands.take(self.door.clock.now(), 1, rate).map_err(too_much)
    }

    /// Whether it may do so with so many bytes.
    fn weigh(&self, bytes: usize) -> Result<(), Refusal> {
        let rate = self.door.shard.settings().limits.inbound_bytes;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let inbound_bytes = &mut self.meters.borrow_mut().1;
        inbound_bytes
            .take(self.door.clock.now(), bytes, rate)
            .map_err(too_much)
    }

    async fn poll(&self, reading: Reading) -> Result<Answer, Refusal> {
        let Door { shard, clock, .. } = &*self.door;
        let Reading {
            places,
            wishes,
            wait,
            resume,
        } = reading;
        let (identity, _jitter, is_known) = shard.identity(resume.as_deref());
        // Whoever knows where it is knows who it is, or does not care; unless it thinks that it is somebody else.
        let is_new = places.iter().any(|place| place.position.is_none()) || resume.is_some();
        let now = clock.now();
        // What is there has to be read first.
        let until = now + if wait.is_zero() { READING_MAX } else { wait };
        let session = Session::poll(now, until, identity, places.clone(), &shard.settings());
        let wishes = Wishes {
            places,
            each: wishes,
            introduction: is_new && !is_known,
            holds: !wait.is_zero(),
        };
        self.holds.set(wishes.holds);
        let polled = shard.poll(session, wishes).await;
        self.holds.set(false);
        let Some(Polled { events, places, more }) = polled else {
            return Err(ask::refusal(ErrorCode::Internal, ErrorCode::Internal.text()));
        };
        let events = events?;
        let more = if more { r#","more":true"# } else { "" };
        let mut body = format!(r#"{{"position":"{places}"{more},"events":["#).into_bytes();
        body.extend_from_slice(events.strip_suffix(b",").unwrap_or(&events));
        body.extend_from_slice(b"]}");
        Ok(json(body))
    }

    async fn publish(&self, body: Incoming, counted: Result<(), Refusal>) -> Answer {
        let limits = &self.door.limits;
        let too_big = || {
            let code = ErrorCode::MessageTooBig;
            // What of it is still on its way is not read.
            closing(refuse(&ask::refusal(code, code.text())))
        };
        if body.size_hint().lower() > limits.body_bytes_max as u64 {
            return too_big();
        }
        let whole = Limited::new(body, limits.body_bytes_max).collect();
        let body = match tokio::time::timeout(limits.body_deadline, whole).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return too_big(),
            Ok(Err(_)) => {
                let words = "the body is cut off";
                return closing(refuse(&ask::refusal(ErrorCode::BadRequest, words)));
            }
            Err(_elapsed) => {
                let words = "The body took too long.";
                return closing(refuse_as(StatusCode::REQUEST_TIMEOUT, words));
            }
        };
        let published = match counted.and_then(|()| self.weigh(body.len())) {
            Ok(()) => self.publish_body(&body).await,
            Err(refusal) => Err(refusal),
        };
        published.unwrap_or_else(|refusal| refuse(&refusal))
    }

    async fn publish_body(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let shard = &self.door.shard;
        let words = std::str::from_utf8(body)
            .map_err(|_| ask::refusal(ErrorCode::BadRequest, "the body is not UTF-8"))?;
        let rejected = |Rejected { code, detail, .. }: Rejected| {
            ask::refusal(code, detail.as_deref().unwrap_or(code.text()))
        };
        let (command, resume) = decode_publish(words).map_err(rejected)?;
        let Command::Publish {
            channel,
            payload,
            key,
            conflate,
            ..
        } = command
        else {
            return Err(ask::refusal(ErrorCode::Internal, ErrorCode::Internal.text()));
        };
        // What comes by other ways is not larger, and subscribers have room for that.
        if payload.len() > shard.settings().limits.message_bytes_max {
            let code = ErrorCode::MessageTooBig;
            return Err(ask::refusal(code, code.text()));
        }
        let (identity, _jitter, _is_known) = shard.identity(resume.as_deref());
        let draft = Draft {
            from: Some(identity.user),
            payload,
            key,
            conflate,
        };
        shard.stats().publishes.add(1);
        let mail = |origin| Mail::Publish {
            channel: channel.clone(),
            draft,
            origin,
        };
        match ask::ask(&shard.post(), &channel, mail).await? {
            HomeAnswer::Published(position) => Ok(json(ask::json(&Event::Published { id: None, position }))),
            answer => Err(ask::unexpected(&answer)),
        }
    }
}

fn too_much(wait: Duration) -> Refusal {
    Refusal {
        retry_after: Some(wait),
        ..ask::refusal(ErrorCode::RateLimited, ErrorCode::RateLimited.text())
    }
}

/// Another answer to the same page.
fn instead_of(mut answer: Answer, other: Answer) -> Answer {
    let (head, body) = other.into_parts();
    *answer.status_mut() = head.status;
    answer.headers_mut().extend(head.headers);
    *answer.body_mut() = body;
    answer
}

fn json(body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    let media_type = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// The last answer of the connection.
fn closing(mut answer: Answer) -> Answer {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

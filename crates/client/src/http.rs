//! A connection by HTTP: requests that read, by event stream or by polls, and requests that publish, one after the other.
//!
//! ```text
//!  driver ── subscribe ──► Reader ── task ──► GET /sse, /poll ──┐
//!         ── publish ────► posts ─── task ──► POST /publish ────┤
//!         ◄── notices ── Http ◄── items (bounded) ──────────────┘
//! ```
//!
//! Up to 128 channels are read by one request, which is made anew when they change. While the driver takes no notices no item
//! is taken either, so the tasks wait and the server notices.

mod reading;
mod request;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::Uri;
use http::header::{AUTHORIZATION, HeaderValue};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::notice::{self, Notice};
use switchboard_proto::dialect::{Command, Inbound, json};
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::position::Position;
use switchboard_proto::presence::{Attendance, Role};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::builder::Builder;
use crate::channels::Say;
use crate::error::{ConnectError, ConnectStep, End, Refusal};
use crate::link::Link;
use crate::open::{Address, Deadline, Identity, Opened, Proof};
use crate::transport::Transport;
use reading::Reading;
use request::{Failure, Requests};

/// Items that wait for the driver. Beyond: the tasks wait.
const ITEMS_MAX: usize = 8;
/// Channels that the server reads for one request (spec/protocol.md section 18).
const CHANNELS_MAX: usize = 128;

/// See the module.
pub(crate) struct Http {
    transport: Transport,
    place: Place,
    requests: Requests,
    readers: Vec<Reader>,
    /// The number of the last task that reads.
    runs: u64,
    posts: VecDeque<Post>,
    is_posting: bool,
    heartbeat: Duration,
    resume: Option<String>,
    /// The server has shown that it is there.
    is_there: bool,
    /// An answer has begun to come.
    is_answering: bool,
    /// It has told who we are, so whoever asks again is nobody new.
    is_welcome: bool,
    /// The driver has said what it wants. Before that what is read was asked for by what it wanted when this was opened.
    is_claimed: bool,
    items: mpsc::Receiver<Item>,
    to_items: mpsc::Sender<Item>,
    /// Taken and not yet handled.
    item: Option<Item>,
    notices: VecDeque<Notice>,
    failed: Option<Failure>,
    end: Option<End>,
    /// They end with it.
    tasks: JoinSet<()>,
}

/// Where the server is.
struct Place {
    sse: Uri,
    poll: Uri,
    publish: Uri,
}

/// Channels that one request reads.
#[derive(Default)]
struct Reader {
    channels: BTreeMap<ChannelName, Wish>,
    task: Option<AbortHandle>,
    run: u64,
    is_changed: bool,
}

struct Wish {
    /// The request that is under way asked for it, as it is.
    is_asked: bool,
    /// Of the `subscribe` that is not answered.
    id: Option<u64>,
    /// Where it was to begin.
    asked: Option<Position>,
    latest: bool,
    attendance: Option<Attendance>,
    /// Where it is.
    since: Option<Position>,
    /// The driver was told that it has begun.
    has_begun: bool,
}

struct Post {
    id: Option<u64>,
    publish: Command,
    bytes: usize,
}

/// What a task has found out.
enum Item {
    /// Events of a stream.
    Read(u64, Vec<Notice>),
    /// The answer to a poll has begun to come.
    Answering,
    /// The answer to a poll, and whether there is more that it did not hold.
    Polled(u64, Vec<Notice>, bool),
    /// It reads no more.
    Failed(u64, Failure),
    /// What became of a publication.
    Posted(Result<Notice, Failure>),
    /// What became of a request without a channel.
    Greeted(Failure),
}

/// Begins to read, and shows who this is.
pub(crate) async fn open(
    builder: &Builder,
    address: &Address,
    transport: Transport,
    proof: Proof,
    wanted: &[Say],
    deadline: Deadline,
) -> Result<Opened, ConnectError> {
    let mut headers = builder.headers()?;
    if let Some(token) = &proof.token {
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|_| ConnectError::Header(AUTHORIZATION.to_string()))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    let patience = builder.connect_timeout;
    let event_bytes_max = builder.settings.message_bytes_max;
    let requests = Requests::new(builder.surroundings.clone(), headers, patience, event_bytes_max);
    let (to_items, items) = mpsc::channel(ITEMS_MAX);
    let mut link = Http {
        transport,
        place: Place {
            sse: address.http("sse"),
            poll: address.http("poll"),
            publish: address.http("publish"),
        },
        requests,
        readers: Vec::new(),
        runs: 0,
        posts: VecDeque::new(),
        is_posting: false,
        heartbeat: builder.settings.ping_interval,
        resume: proof.resume,
        is_there: false,
        is_answering: false,
        is_welcome: false,
        is_claimed: false,
        items,
        to_items,
        item: None,
        notices: VecDeque::new(),
        failed: None,
        end: None,
        tasks: JoinSet::new(),
    };
    for say in wanted {
        if let Say::Subscribe(channel, options) = say {
            let attendance = options.attendance.clone();
            link.subscribe(None, channel.clone(), options.since, options.latest, attendance);
        }
    }
    link.greet();
    link.flush();
    let welcomed = async {
        while !link.is_there {
            if let Some(failure) = link.failed.take() {
                return Err(failure.connect_error());
            }
            link.item = link.items.recv().await;
            link.take_item();
        }
        Ok(())
    };
    match deadline.within(ConnectStep::Welcome, welcomed).await {
        // A large answer takes its time over a slow network. The next attempt would begin with the same one.
        Err(ConnectError::Timeout { .. }) if link.is_answering => {}
        welcomed => welcomed?,
    }
    let mut identity = None;
    for notice in &link.notices {
        if let Notice::Welcome { session, user, .. } = notice {
            let (session, user) = (session.clone(), user.clone());
            identity = Some(Identity { session, user });
        }
    }
    Ok(Opened {
        identity,
        resume: link.resume.clone(),
        link: Link::Http(Box::new(link)),
        token: proof.token,
    })
}

impl Http {
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn command(&mut self, command: &Command) -> bool {
        if self.end.is_some() {
            return false;
        }
        match command {
            Command::Subscribe {
                id,
                channel,
                since,
                latest,
                presence,
            } => self.subscribe(*id, channel.clone(), *since, *latest, presence.clone()),
            Command::Unsubscribe { id, channel } => {
                for reader in &mut self.readers {
                    reader.is_changed |= reader.channels.remove(channel).is_some();
                }
                self.notices.push_back(Notice::Unsubscribed {
                    id: *id,
                    channel: channel.clone(),
                });
            }
            Command::Publish { id, .. } => {
                let mut publish = command.clone();
                if let Command::Publish { id, .. } = &mut publish {
                    *id = None;
                }
                let mut body = Vec::new();
                json::encode_publish(&publish, None, &mut body);
                self.posts.push_back(Post {
                    id: *id,
                    publish,
                    bytes: body.len(),
                });
            }
            Command::History { id, .. } | Command::Members { id, .. } | Command::Ping { id } => {
                let mut refusal = Refusal::certain(ErrorCode::Unsupported);
                refusal.message = format!("By {} this is not there.", self.transport);
                self.notices.push_back(refused(*id, refusal));
            }
            // A request shows who this is.
            Command::Connect { .. } => {}
        }
        true
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.posts.iter().map(|post| post.bytes).sum()
    }

    /// Cancel-safe: what is taken is kept.
    pub(crate) async fn ready(&mut self) {
        if self.item.is_none() && self.notices.is_empty() {
            self.item = self.items.recv().await;
        }
    }

    pub(crate) fn read(&mut self) -> bool {
        if !self.notices.is_empty() {
            return true;
        }
        if self.item.is_none() {
            self.item = self.items.try_recv().ok();
        }
        let is_read = self.item.is_some();
        self.take_item();
        is_read
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        if !std::mem::replace(&mut self.is_claimed, true) {
            self.leave_unclaimed();
        }
        let mut notice = self.notices.pop_front()?;
        if let Notice::Subscribed { id, channel, .. } = &mut notice
            && let Some(wish) = self.readers.iter_mut().find_map(|r| r.channels.get_mut(channel))
        {
            *id = wish.id.take();
        }
        Some(notice)
    }

    /// What nobody wants any more that was wanted when this was opened.
    fn leave_unclaimed(&mut self) {
        for reader in &mut self.readers {
            let before = reader.channels.len();
            reader.channels.retain(|_, wish| wish.id.is_some());
            reader.is_changed |= reader.channels.len() < before;
        }
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    pub(crate) fn close(&mut self) {
        self.end_with(End::Lost(std::io::ErrorKind::UnexpectedEof));
    }

    pub(crate) fn end_with(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.tasks.abort_all();
        self.posts.clear();
    }

    /// Makes the requests that are to be made.
    pub(crate) fn flush(&mut self) {
        if self.end.is_some() {
            return;
        }
        // Who asks again before it is known who this is would be somebody else, and the first one be left behind as a member.
        for reader in self.readers.iter_mut().filter(|_| self.is_welcome) {
            if reader.is_changed
                && let Some(task) = reader.task.take()
            {
                task.abort();
            }
        }
        self.readers
            .retain(|reader| reader.task.is_some() || !reader.channels.is_empty());
        let mut may_ask = self.is_welcome || self.readers.iter().all(|reader| reader.task.is_none());
        for place in 0..self.readers.len() {
            if self.readers[place].task.is_none() && may_ask {
                self.begin(place);
                may_ask = self.is_welcome;
            }
        }
        self.post();
    }

    /// Without channels there is nothing to read. Only a Switchboard says what is missing.
    fn greet(&mut self) {
        if !self.readers.is_empty() {
            return;
        }
        let (requests, items) = (self.requests.clone(), self.to_items.clone());
        let uri = self.read_at().clone();
        self.tasks.spawn(async move {
            let failure = match requests.get(uri, requests.patience).await {
                Ok(_body) => Failure::Misbehaved("this is no Switchboard server".to_owned()),
                Err(failure) => failure,
            };
            let _link_is_gone = items.send(Item::Greeted(failure)).await;
        });
    }

    fn read_at(&self) -> &Uri {
        match self.transport {
            Transport::EventStream => &self.place.sse,
            Transport::Poll | Transport::WebSocket => &self.place.poll,
        }
    }

    fn subscribe(
        &mut self,
        id: Option<u64>,
        channel: ChannelName,
        since: Option<Position>,
        latest: bool,
        attendance: Option<Attendance>,
    ) {
        for reader in &mut self.readers {
            let Some(wish) = reader.channels.get_mut(&channel) else {
                continue;
            };
            let is_same = (wish.latest, &wish.attendance) == (latest, &attendance);
            // It is being read already, since before we were welcome, and nothing of it was taken.
            if !self.is_claimed && is_same && wish.asked == since && wish.id.is_none() {
                wish.id = id;
                return;
            }
            reader.channels.remove(&channel);
            reader.is_changed = true;
            // What was read for it is not from where this one begins.
            self.notices
                .retain(|notice| self::channel(notice) != Some(&channel));
        }
        let has_room = |reader: &Reader| reader.channels.len() < CHANNELS_MAX;
        let place = self.readers.iter().position(has_room).unwrap_or_else(|| {
            self.readers.push(Reader::default());
            self.readers.len() - 1
        });
        let reader = &mut self.readers[place];
        let wish = Wish {
            is_asked: false,
            id,
            asked: since,
            latest,
            attendance,
            since,
            has_begun: false,
        };
        reader.channels.insert(channel, wish);
        reader.is_changed = true;
    }

    fn begin(&mut self, place: usize) {
        self.runs += 1;
        let reading = Reading {
            requests: self.requests.clone(),
            run: self.runs,
            heartbeat: self.heartbeat,
            items: self.to_items.clone(),
        };
        let uri = self.read_at().clone();
        let reader = &mut self.readers[place];
        (reader.run, reader.is_changed) = (self.runs, false);
        for wish in reader.channels.values_mut() {
            wish.is_asked = true;
        }
        let (query, since, resume) = (reader.query(), reader.since(), self.resume.clone());
        let task = match self.transport {
            Transport::EventStream => {
                let uri = at(&uri, &query, resume.as_deref(), &since, None);
                self.tasks.spawn(reading.stream(uri))
            }
            Transport::Poll | Transport::WebSocket => {
                let uri = move |resume: &str, token: Option<&str>, wait| {
                    at(&uri, &query, Some(resume), token.unwrap_or(&since), Some(wait))
                };
                // One that is of no use makes the server say who we are, also where all channels go on.
                self.tasks.spawn(reading.poll(resume.unwrap_or_default(), uri))
            }
        };
        reader.task = Some(task);
        // Those that are done are forgotten.
        while self.tasks.try_join_next().is_some() {}
    }

    fn post(&mut self) {
        if self.is_posting {
            return;
        }
        let Some(post) = self.posts.front() else { return };
        self.is_posting = true;
        let mut body = Vec::new();
        json::encode_publish(&post.publish, self.resume.as_deref(), &mut body);
        let (requests, items) = (self.requests.clone(), self.to_items.clone());
        let uri = self.place.publish.clone();
        self.tasks.spawn(async move {
            let posted = match requests.post(uri, Bytes::from(body)).await {
                Ok(body) => requests.whole(body).await.and_then(|answer| {
                    let text = String::from_utf8_lossy(&answer);
                    notice::decode(Inbound::Text(&text))
                        .map_err(|error| Failure::Misbehaved(error.to_string()))
                }),
                Err(failure) => Err(failure),
            };
            let _link_is_gone = items.send(Item::Posted(posted)).await;
        });
    }

    /// What has come since is handled, and makes further requests.
    fn take_item(&mut self) {
        let Some(item) = self.item.take() else { return };
        match item {
            Item::Read(run, notices) => {
                if let Some(place) = self.readers.iter().position(|reader| reader.run == run) {
                    self.handle_notices(place, notices);
                }
            }
            Item::Answering => self.is_answering = true,
            Item::Polled(run, notices, more) => {
                if let Some(place) = self.readers.iter().position(|reader| reader.run == run) {
                    (self.is_there, self.is_welcome) = (true, true);
                    self.say_begun(place, &notices, more);
                    self.handle_notices(place, notices);
                }
            }
            Item::Failed(run, failure) => {
                if let Some(place) = self.readers.iter().position(|reader| reader.run == run) {
                    match failure.is_final() {
                        true => self.refuse(place, failure),
                        false => self.fail(failure),
                    }
                }
            }
            Item::Posted(posted) => self.handle_posted(posted),
            Item::Greeted(failure) if failure.is_final() => self.is_there = true,
            Item::Greeted(failure) => self.fail(failure),
        }
        self.flush();
    }

    fn fail(&mut self, failure: Failure) {
        self.failed.get_or_insert(failure.clone());
        self.end_with(failure.end());
    }

    /// What goes on is not told so by a poll: what is missing, or nothing, tells. Where there is more, a channel of which nothing is said
    /// may not have been read.
    fn say_begun(&mut self, place: usize, notices: &[Notice], more: bool) {
        for (channel, wish) in &mut self.readers[place].channels {
            let is_anew =
                |notice: &Notice| matches!(notice, Notice::Subscribed { channel: of, .. } if of == channel);
            let Some(position) = wish.since else { continue };
            if !wish.is_asked || wish.has_begun || notices.iter().any(is_anew) {
                continue;
            }
            // What comes behind a message was missed by nobody who goes on here; a conflated gap is none either.
            let first = notices.iter().find_map(|notice| match notice {
                // Who is there is told when the channel has been read, behind what was missed.
                Notice::Message { channel: of, .. } | Notice::Presence { channel: of, .. }
                    if of == channel =>
                {
                    Some(false)
                }
                Notice::Gap {
                    channel: of,
                    conflated: false,
                    ..
                }
                | Notice::Reset { channel: of, .. }
                    if of == channel =>
                {
                    Some(true)
                }
                _ => None,
            });
            if more && first.is_none() {
                continue;
            }
            wish.has_begun = true;
            self.notices.push_back(Notice::Subscribed {
                id: None,
                channel: channel.clone(),
                position,
                recovered: Some(first != Some(true)),
            });
        }
    }

    fn handle_notices(&mut self, place: usize, notices: Vec<Notice>) {
        for notice in notices {
            // What the request that is under way did not ask for, or what nobody wants any more.
            if channel(&notice).is_some_and(|channel| !self.readers[place].asks_for(channel)) {
                continue;
            }
            match &notice {
                Notice::Welcome {
                    heartbeat, resume, ..
                } => {
                    (self.is_there, self.is_welcome) = (true, true);
                    self.heartbeat = *heartbeat;
                    self.resume = resume.clone().or(self.resume.take());
                }
                Notice::Subscribed {
                    channel,
                    position,
                    recovered,
                    ..
                } => {
                    if recovered.is_none() && self.was_elsewhere(place, channel) {
                        continue;
                    }
                    self.moved(place, channel, *position);
                }
                Notice::Message { channel, message } => self.moved(place, channel, message.position),
                Notice::Gap {
                    channel, position, ..
                }
                | Notice::Reset { channel, position } => {
                    self.moved(place, channel, *position);
                }
                // What fails in one channel ends the stream.
                Notice::Error {
                    code,
                    message,
                    retry_after,
                    ..
                } => {
                    let refusal = Refusal {
                        code: code.clone(),
                        message: message.clone(),
                        retry_after: *retry_after,
                    };
                    return self.end_with(End::ClosedByServer {
                        code: None,
                        reason: message.clone(),
                        error: refusal.is_retryable().then_some(refusal),
                        retry_after: *retry_after,
                    });
                }
                _ => {}
            }
            self.notices.push_back(notice);
        }
    }

    /// Of several channels the server passes over a position that is of none of them, and begins at the head.
    fn was_elsewhere(&mut self, place: usize, channel: &ChannelName) -> bool {
        let reader = &mut self.readers[place];
        let is_elsewhere = |wish: &mut Wish| wish.asked.is_some() && !wish.has_begun;
        if !reader.channels.get_mut(channel).is_some_and(is_elsewhere) {
            return false;
        }
        reader.is_changed = true;
        if let Some(id) = reader.channels.remove(channel).and_then(|wish| wish.id) {
            let refusal = Refusal::certain(ErrorCode::BadPosition);
            self.notices.push_back(refused(Some(id), refusal));
        }
        true
    }

    fn moved(&mut self, place: usize, channel: &ChannelName, position: Position) {
        if let Some(wish) = self.readers[place].channels.get_mut(channel) {
            wish.since = Some(position);
            wish.has_begun = true;
        }
    }

    /// Halves find out in which of the channels the mistake is.
    fn refuse(&mut self, place: usize, failure: Failure) {
        // A Switchboard is there.
        self.is_there = true;
        let reader = &mut self.readers[place];
        reader.task = None;
        if reader.is_changed {
            return;
        }
        let half = reader.channels.keys().nth(reader.channels.len() / 2).cloned();
        if let Some(half) = half
            && reader.channels.len() > 1
        {
            let channels = reader.channels.split_off(&half);
            self.readers.push(Reader {
                channels,
                ..Reader::default()
            });
            return;
        }
        let refusal = match failure {
            Failure::Refused {
                refusal: Some(refusal),
                ..
            } => refusal,
            _ => Refusal::certain(ErrorCode::BadRequest),
        };
        let channels = std::mem::take(&mut self.readers[place].channels);
        for wish in channels.into_values().filter(|wish| wish.id.is_some()) {
            self.notices.push_back(refused(wish.id, refusal.clone()));
        }
    }

    fn handle_posted(&mut self, posted: Result<Notice, Failure>) {
        self.is_posting = false;
        let Some(Post { id, .. }) = self.posts.pop_front() else {
            return;
        };
        let answer = match posted {
            Ok(Notice::Published { position, .. }) => Notice::Published { id, position },
            Ok(_) => {
                return self.fail(Failure::Misbehaved(
                    "an answer to nothing that was asked".to_owned(),
                ));
            }
            Err(Failure::Refused {
                status,
                refusal: Some(refusal),
                ..
            }) if status != 401 => refused(id, refusal),
            // A box between us and the server has no words of ours.
            Err(Failure::Refused { status, text, .. })
                if (300..500).contains(&status) && !matches!(status, 401 | 408 | 429) =>
            {
                let code = match status {
                    413 => ErrorCode::MessageTooBig,
                    _ => ErrorCode::BadRequest,
                };
                let mut refusal = Refusal::certain(code);
                refusal.message = format!("HTTP {status} {text}").trim_end().to_owned();
                refused(id, refusal)
            }
            Err(failure) => return self.fail(failure),
        };
        self.notices.push_back(answer);
    }
}

impl Reader {
    fn asks_for(&self, channel: &ChannelName) -> bool {
        self.channels.get(channel).is_some_and(|wish| wish.is_asked)
    }

    /// What it asks for, but for who it is and where.
    fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        // Wishes are of the channels before them, so those without any come last.
        let (plain, mut rest): (Vec<_>, Vec<_>) = self.channels.iter().partition(|(_, wish)| wish.is_plain());
        while let Some((_, first)) = rest.first().copied() {
            let (latest, attendance) = (first.latest, &first.attendance);
            let is_same = |wish: &Wish| (wish.latest, &wish.attendance) == (latest, attendance);
            for (channel, _) in rest.extract_if(.., |(_, wish)| is_same(wish)) {
                query.append_pair("channel", channel.as_str());
            }
            first.put(&mut query);
        }
        for (channel, _) in plain {
            query.append_pair("channel", channel.as_str());
        }
        query.finish()
    }

    /// Where it is, in all of its channels.
    fn since(&self) -> String {
        let positions = self.channels.values().filter_map(|wish| wish.since);
        let tokens: Vec<String> = positions.map(|at| at.token().as_str().to_owned()).collect();
        tokens.join(".")
    }
}

impl Wish {
    fn is_plain(&self) -> bool {
        !self.latest && self.attendance.is_none()
    }

    fn put(&self, query: &mut Serializer<'_, String>) {
        if self.latest {
            query.append_pair("latest", "true");
        }
        let Some(Attendance { role, info }) = &self.attendance else {
            return;
        };
        let role = match role {
            Role::Participant => "true",
            Role::Member => Role::MEMBER,
            Role::Watcher => Role::WATCH,
        };
        query.append_pair("presence", role);
        if let Some(info) = info.as_ref().and_then(|info| info.as_str()) {
            query.append_pair("info", info);
        }
    }
}

/// The address of a request that reads.
fn at(uri: &Uri, query: &str, resume: Option<&str>, since: &str, wait: Option<u64>) -> Result<Uri, Failure> {
    let mut rest = Serializer::new(query.to_owned());
    if let Some(resume) = resume {
        rest.append_pair("resume", resume);
    }
    if !since.is_empty() {
        rest.append_pair("since", since);
    }
    if let Some(seconds) = wait {
        rest.append_pair("wait", &seconds.to_string());
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(
        format!("{}?{}", uri.path(), rest.finish())
            .parse()
            .map_err(|_| Failure::too_long())?,
    );
    Uri::from_parts(parts).map_err(|_| Failure::too_long())
}

/// Of what a notice speaks.
fn channel(notice: &Notice) -> Option<&ChannelName> {
    match notice {
        Notice::Subscribed { channel, .. }
        | Notice::Message { channel, .. }
        | Notice::Gap { channel, .. }
        | Notice::Reset { channel, .. }
        | Notice::Presence { channel, .. } => Some(channel),
        _ => None,
    }
}

fn refused(id: Option<u64>, refusal: Refusal) -> Notice {
    Notice::Error {
        id,
        code: refusal.code,
        message: refusal.message,
        retry_after: refusal.retry_after,
    }
}

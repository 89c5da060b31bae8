//! What is written down while a history happens: the logs of all clients, and who is in the middle of a resume.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use switchboard_check::History;
use switchboard_check::event::{Client, Name, Stream, What};
use switchboard_check::history::Fault;
use switchboard_check::place::Place;
use switchboard_client::{Position, Transport};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::coverage::{Mark, Marks};
use crate::moving::own;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Book {
    inner: Arc<Mutex<Inner>>,
    start: Instant,
    /// Somebody has begun to resume.
    pub resumes: Arc<Notify>,
    /// What has been seen.
    pub marks: Marks,
}

struct Inner {
    history: History,
    devices: Vec<Device>,
    /// Where each log is, as far as anybody said.
    heads: BTreeMap<Name, Place>,
    /// A node that stops.
    draining: bool,
    /// A partition, or something like it.
    parted: bool,
    /// For whoever looks for a fault.
    notes: Option<Vec<(u64, String)>>,
    /// What is wrong, and in no log.
    troubles: Vec<String>,
}

/// What is known of a device and its client.
#[derive(Default)]
struct Device {
    client: Option<Client>,
    had_connection: bool,
    node: Option<usize>,
    transport: Option<Transport>,
    resuming: bool,
    has_slept: bool,
    /// As whom it is in the channels of its streams.
    members: BTreeMap<Stream, Name>,
    connected: bool,
    /// When it lost its last connection.
    lost_at: u64,
    streams: BTreeMap<Stream, Follower>,
}

/// A stream that is open.
struct Follower {
    channel: Name,
    place: Option<Place>,
    /// What it has to reach before the resume is over.
    target: Option<Place>,
    /// It got something since the resume began.
    is_catching_up: bool,
}

impl Follower {
    /// Whether it is still to reach what the log had when the resume began.
    fn is_behind(&self) -> bool {
        match (self.place, self.target) {
            (Some(place), Some(target)) => place.epoch == target.epoch && place.offset < target.offset,
            _ => false,
        }
    }
}

/// A position as the judge reads it.
pub fn place(position: &Position) -> Place {
    Place {
        epoch: position.epoch.0,
        offset: position.offset,
        tag: position.tag,
    }
}

impl Book {
    /// An empty one.
    pub fn new(title: &str, devices: usize) -> Book {
        let inner = Inner {
            history: History::new(title),
            devices: (0..devices).map(|_| Device::default()).collect(),
            heads: BTreeMap::new(),
            draining: false,
            parted: false,
            notes: None,
            troubles: Vec::new(),
        };
        Book {
            inner: Arc::new(Mutex::new(inner)),
            start: Instant::now(),
            resumes: Arc::default(),
            marks: Marks::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        own(&self.inner)
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// A moment in microseconds since the beginning.
    pub fn at(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Looks at the history, or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut History) -> T) -> T {
        act(&mut self.inner().history)
    }

    /// Whether notes are kept.
    pub fn take_notes(&self, wanted: bool) {
        self.inner().notes = wanted.then(Vec::new);
    }

    /// Notes something, where that is wanted.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(notes) = &mut self.inner().notes {
            notes.push((now, what()));
        }
    }

    /// The notes.
    pub fn notes(&self) -> Vec<(u64, String)> {
        self.inner().notes.take().unwrap_or_default()
    }

    /// Something is wrong that is in no log.
    pub fn trouble(&self, what: String) {
        self.inner().troubles.push(what);
    }

    /// All that was.
    pub fn troubles(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().troubles)
    }

    /// The number of a name.
    pub fn name(&self, name: &str) -> Name {
        self.inner().history.name(name)
    }

    /// The client of a device.
    pub fn client(&self, device: usize, name: &str) -> Client {
        let mut inner = self.inner();
        let client = inner.history.client(name);
        inner.devices[device].client = Some(client);
        client
    }

    /// A device writes something down.
    pub fn write(&self, device: usize, what: What) {
        let at = self.now();
        let mut inner = self.inner();
        if let Some(client) = inner.devices[device].client {
            inner.history.record(client, at, what);
        }
        inner.see(&self.marks, device, at, &what);
    }

    /// A fault happens, between these moments.
    pub fn fault(&self, what: String, until: Instant, loses: bool) {
        let fault = Fault {
            what,
            from: self.now(),
            until: self.at(until),
            loses,
        };
        self.inner().history.faults.push(fault);
    }

    /// What came late before now did not because something is wrong.
    pub fn calm(&self) {
        let now = self.now();
        self.inner().history.busy_until = now;
    }

    /// A device opens a connection to a node.
    pub fn handle_connecting(&self, device: usize, node: usize) {
        let mut inner = self.inner();
        let heads = inner.heads.clone();
        let draining = inner.draining;
        let device = &mut inner.devices[device];
        let other = device.node.replace(node).is_some_and(|before| before != node);
        if !std::mem::replace(&mut device.had_connection, true) || device.connected {
            return;
        }
        device.resuming = true;
        for follower in device.streams.values_mut() {
            follower.target = heads.get(&follower.channel).copied();
            follower.is_catching_up = false;
        }
        if other {
            self.marks.see(Mark::ResumeOnAnotherNode);
        }
        if draining {
            self.marks.see(Mark::ResumeDuringDrain);
        }
        drop(inner);
        self.resumes.notify_waiters();
    }

    /// A client has a connection, by this transport.
    pub fn handle_connected(&self, device: usize, transport: Transport, compressed: bool) {
        let mut inner = self.inner();
        let device = &mut inner.devices[device];
        let before = device.transport.replace(transport);
        let resumes = device.resuming;
        if before.is_some_and(|before| before != transport) {
            self.marks.see(Mark::FellBack);
        }
        if compressed && transport == Transport::WebSocket {
            self.marks.see(Mark::Compressed);
        }
        if resumes {
            self.marks.see(match transport {
                Transport::WebSocket => Mark::ResumeByWebSocket,
                Transport::EventStream => Mark::ResumeByEventStream,
                Transport::Poll => Mark::ResumeByPoll,
            });
            if std::mem::take(&mut device.has_slept) {
                self.marks.see(Mark::ResumeAfterSleep);
            }
        }
        device.settle();
    }

    /// A device has slept.
    pub fn handle_slept(&self, device: usize) {
        self.inner().devices[device].has_slept = true;
    }

    /// Whether a node stops.
    pub fn set_draining(&self, draining: bool) {
        self.inner().draining = draining;
    }

    /// Whether somebody is cut off.
    pub fn set_parted(&self, parted: bool) {
        self.inner().parted = parted;
    }

    /// Whether some client is in the middle of a resume: from when it opens another connection until it is where the log was then.
    pub fn is_resuming(&self) -> bool {
        self.inner().devices.iter().any(|device| device.resuming)
    }
}

impl Device {
    /// Whether a resume is over.
    fn settle(&mut self) {
        if self.resuming && self.connected && !self.streams.values().any(Follower::is_behind) {
            self.resuming = false;
        }
    }
}

impl Inner {
    fn see(&mut self, marks: &Marks, device: usize, at: u64, what: &What) {
        let (draining, parted) = (self.draining, self.parted);
        let grace = self.history.promises.grace.as_micros() as u64;
        // Nobody has ended its stay.
        let is_away = |member| {
            self.devices
                .iter()
                .any(|other| other.members.values().any(|known| *known == member))
        };
        let has_vanished = matches!(*what, What::Left { member, .. } if is_away(member));
        let this = &mut self.devices[device];
        let resuming = this.resuming;
        match *what {
            What::Connected => {
                this.connected = true;
                if !this.members.is_empty() && resuming && at - this.lost_at < grace {
                    marks.see(Mark::GraceKept);
                }
                this.settle();
            }
            What::Disconnected => (this.connected, this.lost_at) = (false, at),
            What::Stands { stream, member } => drop(this.members.insert(stream, member)),
            What::Subscribing {
                stream,
                channel,
                since,
                ..
            } => {
                let follower = Follower {
                    channel,
                    place: since,
                    target: None,
                    is_catching_up: false,
                };
                this.streams.insert(stream, follower);
            }
            What::Subscribed {
                stream,
                place,
                recovered,
            } => {
                match recovered {
                    Some(true) => marks.see(Mark::SinceRecovered),
                    Some(false) => marks.see(Mark::SinceNotRecovered),
                    None => {}
                }
                if recovered != Some(false) {
                    self.move_on(device, stream, place);
                }
            }
            What::Received { stream, place, .. } | What::Altered { stream, place } => {
                self.move_on(device, stream, place);
            }
            What::Gap {
                stream,
                place,
                conflated,
                ..
            } => {
                marks.see(match (conflated, resuming) {
                    (true, _) => Mark::ConflatedGap,
                    (false, true) => Mark::GapAtTrimEdge,
                    (false, false) => Mark::GapWhileReading,
                });
                self.move_on(device, stream, place);
            }
            What::Reset { stream, place } => {
                if resuming {
                    marks.see(Mark::ResumeWithReset);
                }
                if this
                    .streams
                    .get(&stream)
                    .is_some_and(|follower| follower.is_catching_up && follower.is_behind())
                {
                    marks.see(Mark::ResetWhileCatchingUp);
                }
                self.move_on(device, stream, place);
            }
            What::Unsubscribed { stream } | What::Closed { stream } => {
                this.streams.remove(&stream);
                this.members.remove(&stream);
                this.settle();
            }
            What::Acknowledged { .. } if draining => marks.see(Mark::PublishDuringDrain),
            What::Refused { .. } => marks.see(Mark::PublishRefused),
            What::Unknown { .. } => marks.see(Mark::PublishUnknown),
            What::Left { .. } if parted && has_vanished => marks.see(Mark::GraceExpiredInPartition),
            _ => {}
        }
    }

    fn move_on(&mut self, device: usize, stream: Stream, place: Place) {
        let this = &mut self.devices[device];
        if let Some(follower) = this.streams.get_mut(&stream) {
            follower.place = Some(place);
            follower.is_catching_up = true;
            let head = self.heads.entry(follower.channel).or_insert(place);
            if head.epoch != place.epoch || head.offset < place.offset {
                *head = place;
            }
        }
        this.settle();
    }
}

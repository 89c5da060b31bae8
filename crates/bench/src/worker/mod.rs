//! A worker: a process that holds connections, does as the coordinator says and counts what comes.
//!
//! One thread, one `epoll`. It is the load generator's cost that decides how much a machine can measure, so there is no
//! runtime, no task and no timer; what a frame says is looked for, not parsed.
//!
//! Reading order: this file (the loop), `connection`, `opening`, `load`, `returning`.

pub(crate) mod connection;
mod load;
mod opening;
mod poller;
mod returning;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write as _};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;
use slab::Slab;
use switchboard_proto::ws::deflate::Contexts;

use self::connection::{Connection, Lost};
use self::load::Load;
use self::opening::Opening;
use self::returning::{AWAY, Returning};
use crate::control::{Command, Open, Report};
use crate::target::Way;

/// Size of the buffer that all sockets are read into.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Readiness events taken at once.
const EVENTS_MAX: usize = 1_024;
/// The standard input among the events.
const COMMANDS: u64 = u64::MAX;
/// How often the coordinator hears how far things are, and deadlines are looked at.
const TELL_NS: u64 = 200_000_000;

/// Runs until the standard input ends.
pub fn run() -> io::Result<()> {
    crate::sources::raise_files_max();
    let mut worker = Worker::new()?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let timeout = worker.timeout();
        events.clear();
        match epoll::wait(
            &worker.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                COMMANDS => {
                    if !worker.read_commands()? {
                        return Ok(());
                    }
                }
                key => worker.handle_event(key as usize, event.flags, now_ns()),
            }
        }
        worker.advance(now_ns())?;
    }
}

/// Connections for one purpose.
struct Group {
    open: Open,
    /// Keys of the connections, by their order in this worker.
    members: Vec<usize>,
    /// The next sequence number of each, should it publish.
    sequences: Vec<u32>,
    /// How many were lost after they were ready, and what was said then.
    lost: u64,
    words: Option<String>,
    /// Of those that come back.
    returning: Option<Returning>,
}

struct Worker {
    epoll: OwnedFd,
    connections: Slab<Connection>,
    groups: HashMap<u32, Group>,
    opening: Option<Opening>,
    load: Load,
    contexts: Contexts,
    buffer: Vec<u8>,
    commands: Vec<u8>,
    told_ns: u64,
    /// Answered so far.
    heartbeats: u64,
    /// Who is to poll again, and when: the longest wait is everyone's.
    polls: VecDeque<(u64, usize)>,
    /// Requests and bytes of each group when the load began.
    traffic: HashMap<u32, (u64, u64)>,
}

impl Worker {
    fn new() -> io::Result<Worker> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stdin = io::stdin();
        rustix::io::ioctl_fionbio(&stdin, true)?;
        epoll::add(&epoll, &stdin, EventData::new_u64(COMMANDS), EventFlags::IN)?;
        Ok(Worker {
            epoll,
            connections: Slab::new(),
            groups: HashMap::new(),
            opening: None,
            load: Load::default(),
            contexts: Contexts::new(1),
            buffer: vec![0; READ_BUFFER_BYTES],
            commands: Vec::new(),
            told_ns: 0,
            heartbeats: 0,
            polls: VecDeque::new(),
            traffic: HashMap::new(),
        })
    }

    /// How long nothing need be done without an event.
    fn timeout(&self) -> Option<Timespec> {
        let due = self.load.due_ns().map(|due| due.saturating_sub(now_ns()));
        let returning = || self.groups.values().filter_map(|group| group.returning.as_ref());
        let due_back = returning().filter_map(Returning::due_ns).min();
        // A millisecond more or less: the wait is random anyway.
        let back = due_back.map(|due| due.saturating_sub(now_ns()).max(1_000_000) + 1_000_000);
        let polls = self.polls.front().map(|(due, _)| due.saturating_sub(now_ns()));
        let due = due.into_iter().chain(back).chain(polls).min();
        let is_busy = self.opening.is_some() || self.load.is_active() || returning().any(Returning::is_away);
        let wait = match (due, is_busy) {
            // epoll waits whole milliseconds; less is waited for without sleeping, or every message would leave late.
            (Some(due), _) if due < 1_000_000 => 0,
            (Some(due), _) => (due - 1_000_000).min(TELL_NS),
            (None, true) => TELL_NS,
            (None, false) => return None,
        };
        Some(Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait).unwrap_or(0),
        })
    }

    /// Reads what the coordinator says. `false`: it has gone.
    fn read_commands(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        loop {
            match rustix::io::read(io::stdin(), &mut piece) {
                Ok(0) => return Ok(false),
                Ok(length) => self.commands.extend_from_slice(&piece[..length]),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(end) = self.commands.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.commands.drain(..=end).collect();
            let command = serde_json::from_slice(&line)?;
            self.handle_command(command)?;
        }
        Ok(true)
    }

    fn handle_command(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Open(open) => self.begin_open(*open),
            Command::Close { group } => {
                let mut lost = 0;
                for key in self
                    .groups
                    .remove(&group)
                    .map(|group| group.members)
                    .unwrap_or_default()
                {
                    // Those that were lost are not there any more, and their keys may be others' by now.
                    if self
                        .connections
                        .get(key)
                        .is_some_and(|connection| connection.group == group)
                    {
                        self.connections.remove(key).reset();
                    } else {
                        lost += 1;
                    }
                }
                tell(&Report::Closed { lost })
            }
            Command::Prepare(drive) => {
                self.load = Load::new(drive, &self.groups);
                tell(&Report::Prepared)
            }
            Command::Begin => {
                self.traffic = self.traffic();
                self.load.begin(now_ns());
                self.pump_load(now_ns());
                Ok(())
            }
            Command::Delivered(counts) => {
                self.load.handle_remote(&counts, now_ns());
                Ok(())
            }
            Command::Expect { group, messages } => {
                if let Some(returning) = self.returning(group) {
                    returning.expect(messages);
                }
                self.tell_tally(group)
            }
            Command::Tally { group } => self.tell_tally(group),
            Command::Heartbeats => tell(&Report::Heartbeats {
                answered: self.heartbeats,
            }),
            Command::Collect { groups } => {
                let mut driven = self.load.collect(&mut self.groups);
                let traffic = self.traffic();
                for group in &groups {
                    let now = traffic.get(group).copied().unwrap_or_default();
                    let before = self.traffic.get(group).copied().unwrap_or_default();
                    driven.requests += now.0.saturating_sub(before.0);
                    driven.bytes += now.1.saturating_sub(before.1);
                }
                for group in groups.iter().filter_map(|group| self.groups.get(group)) {
                    driven.lost += group.lost;
                    driven.words = group.words.clone().or(driven.words);
                }
                self.load = Load::default();
                tell(&Report::Driven(Box::new(driven)))
            }
        }
    }

    /// Requests of all connections, and bytes both ways, by group.
    fn traffic(&self) -> HashMap<u32, (u64, u64)> {
        let mut groups = HashMap::new();
        for (_, connection) in &self.connections {
            let (requests, bytes) = groups.entry(connection.group).or_insert((0, 0));
            *requests += connection.requests();
            *bytes += connection.bytes;
        }
        groups
    }

    /// Polls of all those whose time has come.
    fn pump_polls(&mut self, now: u64) {
        while let Some((due, key)) = self.polls.front().copied()
            && due <= now
        {
            self.polls.pop_front();
            let polled = self.connections.get_mut(key).map_or(Ok(()), Connection::poll);
            if let Err(lost) = polled.and_then(|()| self.watch(key)) {
                self.lose(key, &lost, now);
            }
        }
    }

    fn returning(&mut self, group: u32) -> Option<&mut Returning> {
        self.groups.get_mut(&group)?.returning.as_mut()
    }

    fn tell_tally(&mut self, group: u32) -> io::Result<()> {
        let tally = self.returning(group).map(|returning| returning.tally());
        tell(&Report::Tally(tally.unwrap_or_default()))
    }

    fn handle_event(&mut self, key: usize, flags: EventFlags, now: u64) {
        if let Err(lost) = self.serve(key, flags, now) {
            self.lose(key, &lost, now);
        }
    }

    fn serve(&mut self, key: usize, flags: EventFlags, now: u64) -> Result<(), Lost> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let Some(group) = self.groups.get_mut(&connection.group) else {
            return Ok(());
        };
        let index = connection.number - group.open.first;
        let was_ready = connection.is_ready();
        let mut read = Ok(0);
        if flags.intersects(EventFlags::OUT) {
            connection.handle_writable()?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            let (load, number) = (&mut self.load, connection.number);
            let (id, returning) = (group.open.group, &mut group.returning);
            read = connection.handle_readable(
                &group.open,
                &mut self.buffer,
                &mut self.contexts,
                |seen, frame| match returning {
                    Some(returning) => returning.handle_frame(index, frame, now),
                    None => load.handle_frame(id, number, key, seen, frame, now),
                },
            );
        }
        if !was_ready && connection.is_ready() {
            let was_there = group
                .returning
                .as_ref()
                .is_some_and(|returning| returning.was_ready(index));
            if let Some(returning) = &mut group.returning {
                returning.handle_ready(index, now);
            }
            // Also of one that is ready and lost in the same reading: the opening waits for its answer.
            if let Some(opening) = self.opening.as_mut().filter(|_| !was_there) {
                opening.handle_ready(now);
            }
        }
        self.heartbeats += read?;
        if let (Way::Polls { interval_ns }, true) = (group.open.target.way, connection.take_answered()) {
            // Not all at the same moment for ever: the first wait is a part of the interval.
            let wait = match was_ready {
                true => interval_ns,
                false => interval_ns / u64::from(group.open.count.max(1)) * u64::from(index),
            };
            let due = now + wait;
            match self.polls.back() {
                Some((last, _)) if *last > due => {
                    let place = self.polls.partition_point(|(other, _)| *other <= due);
                    self.polls.insert(place, (due, key));
                }
                _ => self.polls.push_back((due, key)),
            }
        }
        self.watch(key)
    }

    /// Looks for room to write while something waits, and only then.
    fn watch(&mut self, key: usize) -> Result<(), Lost> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let wants = connection.wants_write();
        if wants != connection.polls_write {
            connection.polls_write = wants;
            let flags = match wants {
                true => EventFlags::IN | EventFlags::OUT,
                false => EventFlags::IN,
            };
            epoll::modify(
                &self.epoll,
                connection.stream(),
                EventData::new_u64(key as u64),
                flags,
            )
            .map_err(io::Error::from)?;
        }
        Ok(())
    }

    fn lose(&mut self, key: usize, lost: &Lost, now: u64) {
        let Some(connection) = self.connections.try_remove(key) else {
            return;
        };
        let was_ready = connection.is_ready();
        if let Some(group) = self.groups.get_mut(&connection.group)
            && let Some(returning) = &mut group.returning
        {
            let index = connection.number - group.open.first;
            if returning.was_ready(index) {
                group.members[index as usize] = AWAY;
                returning.handle_lost(index, lost, now);
                connection.reset();
                return;
            }
        }
        match &mut self.opening {
            Some(opening) if !was_ready && opening.group() == connection.group => opening.handle_failed(lost),
            _ => {
                if let Some(group) = self.groups.get_mut(&connection.group) {
                    group.lost += 1;
                    group.words = Some(lost.to_string());
                }
                self.load.handle_lost(connection.group, &self.groups);
            }
        }
        connection.reset();
    }

    /// Sends what is due, opens what may be opened, and tells the coordinator.
    fn advance(&mut self, now: u64) -> io::Result<()> {
        self.pump_load(now);
        self.pump_polls(now);
        self.pump_opening(now)?;
        self.pump_returning(now);
        let counts = self.load.take_remote();
        if !counts.is_empty() {
            tell(&Report::Delivered(counts))?;
        }
        if self.load.poll_finished(now) {
            tell(&Report::Finished)?;
        }
        if now >= self.told_ns + TELL_NS {
            self.told_ns = now;
            if let Some(opening) = &self.opening {
                tell(&Report::Opening {
                    ready: opening.ready(),
                })?;
            }
            if self.load.is_active() {
                tell(&Report::Driving {
                    received: self.load.received(),
                })?;
            }
        }
        Ok(())
    }
}

/// Waits for a new connection as for the others. Gives its key.
fn enroll(
    epoll: &OwnedFd,
    connections: &mut Slab<Connection>,
    connection: Connection,
) -> Result<usize, Lost> {
    let place = connections.vacant_entry();
    let key = place.key();
    let flags = EventFlags::IN | EventFlags::OUT;
    epoll::add(epoll, connection.stream(), EventData::new_u64(key as u64), flags).map_err(io::Error::from)?;
    place.insert(connection);
    Ok(key)
}

fn tell(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// The machine's monotonic clock, equal in all its processes.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

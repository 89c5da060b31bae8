//! The coordinator: it starts workers, tells them what to do, and adds up what they found.
//!
//! **Everything that waits here ends: when the workers have answered, when one is gone, or when somebody presses Ctrl-C,
//! which is [`Stopped::Interrupted`] from whatever was under way, and from everything after it.**

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ChildStdin;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::{Command, Count, Drive, Driven, Open, Publish, Report, Role, Rooms, Tally};
use crate::process::{Pipes, Process};
use crate::report::quantity::{counted, grouped, were};
use crate::sources;
use crate::target::Target;

/// Load processes at most.
const WORKERS_MAX: u64 = 64;

/// Why a run did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// It cannot be done here, or the server does not do it.
    #[error("{0}")]
    Failed(String),
    /// The system does not do it.
    #[error(transparent)]
    System(#[from] io::Error),
}

enum Event {
    Worker(usize, Report),
    /// The output of this one ended.
    Gone(usize),
    Interrupted,
}

/// How far something is, for a progress bar.
pub trait Progress {
    /// `done` of `total`, of what is going on.
    fn show(&mut self, doing: &str, done: u64, total: u64);
    /// A line that stays.
    fn say(&mut self, words: &str);
    /// Nothing goes on any longer.
    fn end(&mut self);
}

/// See the module.
pub struct Coordinator {
    core: Option<usize>,
    workers: Vec<Worker>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    groups: Vec<Group>,
    /// Loopback addresses given away.
    addresses: u32,
    /// Connections that one worker holds at most.
    connections_max: u32,
    interrupted: bool,
    /// A worker that has ended: its connections are lost, and it will not answer.
    gone: Option<usize>,
    progress: Box<dyn Progress>,
}

struct Worker {
    process: Process,
    stdin: ChildStdin,
    connections: u32,
}

/// Names connections that were opened together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupId(u32);

struct Group {
    open: bool,
    address: SocketAddr,
    /// First number and count, per worker.
    shares: Vec<(u32, u32)>,
}

impl Group {
    fn count(&self) -> u32 {
        self.shares.iter().map(|(_, count)| count).sum()
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where.
    pub target: Target,
    /// As what.
    pub role: Role,
    /// How many.
    pub count: u32,
    /// With which channels.
    pub rooms: Rooms,
    /// How many may be under way at once.
    pub in_flight: u32,
}

impl Coordinator {
    /// No workers yet. They will run on `core`. `connections_max`: per worker; `None`: what the open-file limit allows.
    pub fn new(
        core: Option<usize>,
        connections_max: Option<u32>,
        progress: Box<dyn Progress>,
    ) -> io::Result<Coordinator> {
        let (sender, events) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupts = sender.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if interrupts.send(Event::Interrupted).is_err() {
                    return;
                }
            }
        });
        let files = sources::raise_files_max();
        let Some(allowed) = files
            .checked_sub(sources::FILES_KEPT)
            .filter(|allowed| *allowed > 0)
        else {
            let words = format!(
                "the open-file limit (ulimit -n) is {files}; the load needs {} and one for each connection",
                sources::FILES_KEPT
            );
            return Err(io::Error::other(words));
        };
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        Ok(Coordinator {
            core,
            workers: Vec::new(),
            events,
            sender,
            groups: Vec::new(),
            addresses: 0,
            connections_max: connections_max.map_or(allowed, |asked| asked.min(allowed)).max(1),
            interrupted: false,
            gone: None,
            progress,
        })
    }

    /// How many processes hold connections.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The core of the load, where it has one.
    pub fn core(&self) -> Option<usize> {
        self.core
    }

    /// The progress shown.
    pub fn progress(&mut self) -> &mut dyn Progress {
        &mut *self.progress
    }

    /// Opens connections, in as many workers as the open-file limit asks for.
    pub fn open(&mut self, wanted: &Wanted) -> Result<GroupId, Stopped> {
        self.check()?;
        self.check_room(wanted.count)?;
        let id = self.groups.len() as u32;
        let mut shares = Vec::new();
        let mut left = wanted.count;
        let mut first = 0;
        for index in 0.. {
            if left == 0 {
                break;
            }
            if index == self.workers.len() {
                self.start_worker()?;
            }
            let share = left.min(self.connections_max - self.workers[index].connections);
            shares.push((first, share));
            first += share;
            left -= share;
        }
        self.groups.push(Group {
            open: true,
            address: wanted.target.address,
            shares: shares.clone(),
        });
        for (index, (first, count)) in shares.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
            let sources = self.sources(wanted, *count);
            self.workers[index].connections += count;
            let open = Open {
                group: id,
                target: wanted.target.clone(),
                role: wanted.role,
                first: *first,
                count: *count,
                rooms: wanted.rooms,
                in_flight: wanted.in_flight,
                sources,
            };
            self.tell(index, &Command::Open(Box::new(open)))?;
        }
        self.await_opened(&shares, wanted)?;
        Ok(GroupId(id))
    }

    fn check_room(&self, count: u32) -> Result<(), Stopped> {
        let held = self.workers.iter().map(|worker| u64::from(worker.connections));
        let all = held.sum::<u64>() + u64::from(count);
        let each = u64::from(self.connections_max);
        match all.div_ceil(each) {
            0..=WORKERS_MAX => Ok(()),
            needed => Err(Stopped::Failed(format!(
                "the load cannot hold them: {} connections would take {} load processes with {} each, and there may be {WORKERS_MAX}: the open-file limit \
                 (ulimit -n) or --connections-per-process is too low",
                grouped(all),
                grouped(needed),
                grouped(each)
            ))),
        }
    }

    fn sources(&mut self, wanted: &Wanted, count: u32) -> Vec<Ipv4Addr> {
        let sources = sources::sources(wanted.target.address, self.addresses, count);
        // 127.0.1.1 and the next thousands; a reset frees a port at once, so that using one again is no harm.
        self.addresses = (self.addresses + sources.len() as u32) % 60_000;
        sources
    }

    fn await_opened(&mut self, shares: &[(u32, u32)], wanted: &Wanted) -> Result<(), Stopped> {
        let mut ready = vec![0; shares.len()];
        let mut waiting = shares.iter().filter(|(_, count)| *count > 0).count();
        let mut failed = None;
        while waiting > 0 {
            match self.next_event()? {
                (index, Report::Opening { ready: now }) => ready[index] = now,
                (index, Report::Opened { ready: now, error }) => {
                    ready[index] = now;
                    waiting -= 1;
                    failed = failed.or(error);
                }
                _ => {}
            }
            let done = ready.iter().map(|ready| u64::from(*ready)).sum();
            self.progress.show("opening", done, u64::from(wanted.count));
        }
        match failed {
            Some(error) => Err(Stopped::Failed(format!(
                "{} of {} to {} opened, then: {error}",
                grouped(ready.iter().map(|ready| u64::from(*ready)).sum()),
                counted(wanted.count, "connection"),
                wanted.target.address
            ))),
            None => Ok(()),
        }
    }

    /// Closes connections. Fails if some of them were lost before. When interrupted it does nothing: the workers are about to
    /// end, and one that is busy would not hear it; nor when one has ended.
    pub fn close(&mut self, group: GroupId) -> Result<(), Stopped> {
        self.check()?;
        let held = &mut self.groups[group.0 as usize];
        if !std::mem::take(&mut held.open) {
            return Ok(());
        }
        let (shares, count) = (held.shares.clone(), held.count());
        let mut waiting = 0;
        for (index, (_, count)) in shares.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
            self.tell(index, &Command::Close { group: group.0 })?;
            self.workers[index].connections -= count;
            waiting += 1;
        }
        let mut gone = 0;
        while waiting > 0 {
            if let (_, Report::Closed { lost }) = self.next_event()? {
                waiting -= 1;
                gone += lost;
            }
        }
        match gone {
            0 => Ok(()),
            gone => Err(Stopped::Failed(format!(
                "{} of {} lost",
                grouped(gone.into()),
                were(count, "connection")
            ))),
        }
    }

    /// Closes what is still open, all of it, whatever becomes of one.
    pub fn close_all(&mut self) -> Result<(), Stopped> {
        let mut ended = Ok(());
        for group in 0..self.groups.len() as u32 {
            ended = ended.and(self.close(GroupId(group)));
        }
        ended
    }

    /// Publishes with the connections of a group, and counts what arrives anywhere. `expected` deliveries are shown as the
    /// whole.
    pub fn publish(&mut self, group: GroupId, publish: Publish, expected: u64) -> Result<Driven, Stopped> {
        let held = &self.groups[group.0 as usize];
        let count = held.count();
        let drives = (0..self.workers.len()).map(|index| {
            let (first, share) = held.shares.get(index).copied().unwrap_or_default();
            Drive::Publish(Publish {
                group: group.0,
                pace: publish.pace.part(first, share, count),
                ..publish.clone()
            })
        });
        let drives = drives.collect();
        self.drive(group, drives, expected)
    }

    /// Echoes over the connections of a group.
    pub fn echo(&mut self, group: GroupId, bytes: usize, echoes: u64) -> Result<Driven, Stopped> {
        let held = &self.groups[group.0 as usize];
        let count = u64::from(held.count()).max(1);
        let mut left = echoes;
        let drives = (0..self.workers.len()).map(|index| {
            let share = held.shares.get(index).map_or(0, |(_, count)| u64::from(*count));
            let share = (echoes * share).div_ceil(count).min(left);
            left -= share;
            Drive::Echo {
                group: group.0,
                bytes,
                echoes: share,
            }
        });
        let drives = drives.collect();
        self.drive(group, drives, echoes)
    }

    fn drive(&mut self, group: GroupId, drives: Vec<Drive>, expected: u64) -> Result<Driven, Stopped> {
        self.check()?;
        let shares = self.groups[group.0 as usize].shares.clone();
        let sends = |index: usize| shares.get(index).is_some_and(|(_, count)| *count > 0);
        for (index, drive) in drives.iter().enumerate() {
            self.tell(index, &Command::Prepare(drive.clone()))?;
        }
        // What came before a worker counts would be missing.
        let mut preparing = drives.len();
        while preparing > 0 {
            if let (_, Report::Prepared) = self.next_event()? {
                preparing -= 1;
            }
        }
        for index in 0..drives.len() {
            self.tell(index, &Command::Begin)?;
        }
        let mut waiting = (0..drives.len()).filter(|index| sends(*index)).count();
        let mut received = vec![0; drives.len()];
        while waiting > 0 {
            match self.next_event()? {
                // Who has nothing to send has at once done so.
                (index, Report::Finished) if sends(index) => waiting -= 1,
                (_, Report::Delivered(counts)) => self.forward(&shares, counts)?,
                (index, Report::Driving { received: now }) => {
                    received[index] = now;
                    self.progress.show("measuring", received.iter().sum(), expected);
                }
                _ => {}
            }
        }
        self.collect(self.groups[group.0 as usize].address)
    }

    /// Ends what is being driven at the server there, and adds it up.
    fn collect(&mut self, address: SocketAddr) -> Result<Driven, Stopped> {
        let groups = (0..).zip(&self.groups);
        let its = groups.filter(|(_, group)| group.open && group.address == address);
        let groups = its.map(|(id, _)| id).collect();
        let collect = Command::Collect { groups };
        for index in 0..self.workers.len() {
            self.tell(index, &collect)?;
        }
        let mut sum = Driven::default();
        let mut waiting = self.workers.len();
        while waiting > 0 {
            if let (_, Report::Driven(driven)) = self.next_event()? {
                sum.add(*driven);
                waiting -= 1;
            }
        }
        Ok(sum)
    }

    /// Tells each worker what others have seen of its messages.
    fn forward(&mut self, shares: &[(u32, u32)], counts: Vec<Count>) -> Result<(), Stopped> {
        for (index, (first, share)) in shares.iter().enumerate() {
            let is_its = |count: &&Count| (*first..*first + *share).contains(&count.publisher);
            let its: Vec<_> = counts.iter().filter(is_its).copied().collect();
            if !its.is_empty() {
                self.tell(index, &Command::Delivered(its))?;
            }
        }
        Ok(())
    }

    /// How many heartbeats of the server all connections have answered so far.
    pub fn heartbeats(&mut self) -> Result<u64, Stopped> {
        for index in 0..self.workers.len() {
            self.tell(index, &Command::Heartbeats)?;
        }
        let (mut sum, mut waiting) = (0, self.workers.len());
        while waiting > 0 {
            if let (_, Report::Heartbeats { answered }) = self.next_event()? {
                sum += answered;
                waiting -= 1;
            }
        }
        Ok(sum)
    }

    /// Tells connections of [`Role::Returning`] that they will be lost, and which messages they are to have in the end.
    pub fn expect(&mut self, group: GroupId, messages: u32) -> Result<Tally, Stopped> {
        self.tally_after(
            group,
            &Command::Expect {
                group: group.0,
                messages,
            },
        )
    }

    /// How far these are. Until all are, it is shown so.
    pub fn tally(&mut self, group: GroupId) -> Result<Tally, Stopped> {
        let tally = self.tally_after(group, &Command::Tally { group: group.0 })?;
        let count = self.groups[group.0 as usize].count();
        self.progress.show("coming back", tally.done.into(), count.into());
        Ok(tally)
    }

    fn tally_after(&mut self, group: GroupId, command: &Command) -> Result<Tally, Stopped> {
        self.check()?;
        let shares = self.groups[group.0 as usize].shares.clone();
        let mut waiting = 0;
        for (index, _) in shares.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
            self.tell(index, command)?;
            waiting += 1;
        }
        let mut sum = Tally::default();
        while waiting > 0 {
            if let (_, Report::Tally(tally)) = self.next_event()? {
                sum.add(tally);
                waiting -= 1;
            }
        }
        Ok(sum)
    }

    /// Waits, while the workers answer pings.
    pub fn wait(&mut self, doing: &str, time: Duration) -> Result<(), Stopped> {
        self.check()?;
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.progress
                .show(doing, begun.elapsed().as_millis() as u64, time.as_millis() as u64);
            let step = (time - begun.elapsed().min(time)).min(Duration::from_millis(200));
            self.event_within(Some(step))?;
        }
        Ok(())
    }

    /// Somebody has pressed Ctrl-C.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Whether there is any use in going on. What workers have said that nobody waited for is forgotten.
    fn check(&mut self) -> Result<(), Stopped> {
        while let Ok(event) = self.events.try_recv() {
            self.interrupted |= matches!(event, Event::Interrupted);
            if let Event::Gone(index) = event {
                self.gone = Some(index);
            }
        }
        match (self.interrupted, self.gone) {
            (true, _) => Err(Stopped::Interrupted),
            (false, Some(index)) => Err(self.gone(index)),
            (false, None) => Ok(()),
        }
    }

    /// What to say of a worker that has ended.
    fn gone(&mut self, index: usize) -> Stopped {
        let ending = self.workers[index].process.ending();
        let ending = ending.map(|ending| format!(" ({ending})"));
        Stopped::Failed(format!("a load process has ended{}", ending.unwrap_or_default()))
    }

    /// The next thing that a worker says.
    fn next_event(&mut self) -> Result<(usize, Report), Stopped> {
        loop {
            if let Some(event) = self.event_within(None)? {
                return Ok(event);
            }
        }
    }

    /// The next thing that a worker says, or `None` after `limit`.
    fn event_within(&mut self, limit: Option<Duration>) -> Result<Option<(usize, Report)>, Stopped> {
        let event = match limit {
            Some(limit) => self.events.recv_timeout(limit),
            None => self
                .events
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Worker(_, Report::Failed(words))) => Err(Stopped::Failed(words)),
            Ok(Event::Worker(index, report)) => Ok(Some((index, report))),
            Ok(Event::Gone(index)) => {
                self.gone = Some(index);
                Err(self.gone(index))
            }
            // Never: this end holds a sender, too.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(Stopped::Failed("no load process can be heard".to_owned()))
            }
            Ok(Event::Interrupted) => {
                self.interrupted = true;
                Err(Stopped::Interrupted)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    fn start_worker(&mut self) -> Result<(), Stopped> {
        let index = self.workers.len();
        let program = std::env::current_exe()?.into();
        let arguments = ["bench".into(), "worker".into()];
        let mut process = Process::start(self.core, &program, &arguments, &[], Pipes::Control)?;
        let (stdin, stdout) = (process.child().stdin.take(), process.child().stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(Stopped::Failed("a load process has no pipes".to_owned()));
        };
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let report = line.map(|line| serde_json::from_str(&line));
                let Ok(Ok(report)) = report else { break };
                if sender.send(Event::Worker(index, report)).is_err() {
                    return;
                }
            }
            // The coordinator may have gone.
            let _gone = sender.send(Event::Gone(index));
        });
        self.workers.push(Worker {
            process,
            stdin,
            connections: 0,
        });
        Ok(())
    }

    fn tell(&mut self, index: usize, command: &Command) -> Result<(), Stopped> {
        let mut line = serde_json::to_vec(command).map_err(io::Error::from)?;
        line.push(b'\n');
        let worker = &mut self.workers[index];
        match worker.stdin.write_all(&line) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone(index)),
        }
    }
}

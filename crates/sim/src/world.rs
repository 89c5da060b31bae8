//! A history happens.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use switchboard_check::event::{Message, Name};
use switchboard_check::history::{Final, Promises, Resource, Roster};
use switchboard_check::place::Place;
use switchboard_check::{History, Verdict, judge, payload};
use switchboard_client::{Client, Range, ReadError, Transport, Which};
use switchboard_server::broker::Factory;
use switchboard_server::broker::memory::Memory;
use switchboard_server::config::{Fsync, OnLag};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::application::{Application, Parts, Stage};
use crate::book::{Book, place};
use crate::broker::bugged;
use crate::broker::disk::{Disk, Ending};
use crate::broker::shared::Shared;
use crate::bug::{Bug, Seam};
use crate::chance::Chance;
use crate::coverage::{Mark, Marks};
use crate::device::Device;
use crate::net::{Harm, Host, Network};
use crate::node::{Running, Start};
use crate::plan::{Fault, FaultPlan, Keeper, Plan, When, purpose};
use crate::{panics, wall};

/// What a log counts for a message beside its filling, or a little more.
const MESSAGE_BYTES: usize = 1_024;
/// For reading all final histories, in virtual time.
const FINALS: Duration = Duration::from_secs(60);

/// What a history came to.
pub struct Outcome {
    /// What everyone wrote down.
    pub history: History,
    /// What the judge says.
    pub verdict: Verdict,
    /// What is wrong and in no log, in words: refusals for good, panics, final histories that could not be read.
    pub troubles: Vec<String>,
    /// Of everything that was written down.
    pub hash: String,
    /// What was seen.
    pub marks: Marks,
    /// The faults that happened, by kind, and whether each fell inside a resume.
    pub faults: Vec<(&'static str, bool)>,
    /// How long it took, in its own time.
    pub lasted: Duration,
    /// What clients went through, if that was wanted.
    pub notes: Vec<(u64, String)>,
}

impl Outcome {
    /// How much is wrong.
    pub fn wrong(&self) -> u64 {
        self.verdict.broken + self.troubles.len() as u64
    }
}

/// Lets a history happen, with a bug in it or without.
///
/// # Panics
/// The system gives no runtime, or the history itself ends in a panic. One of a server's or a client's tasks is told among the troubles.
pub fn run(plan: &Plan, bug: Option<Bug>) -> Outcome {
    run_noting(plan, bug, false)
}

/// The same, keeping notes of what clients went through.
///
/// # Panics
/// As [`run`].
pub fn run_noting(plan: &Plan, bug: Option<Bug>, notes: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("the system gives no runtime: {error}"),
    };
    let tasks = LocalSet::new();
    let outcome = runtime.block_on(tasks.run_until(async {
        wall::begin();
        panics::begin();
        let world = World::new(plan, bug);
        world.book.take_notes(notes);
        world.history().await
    }));
    drop(tasks);
    outcome
}

struct World {
    plan: Plan,
    bug: Option<Bug>,
    book: Book,
    network: Network,
    nodes: Vec<RefCell<Option<Rc<Running>>>>,
    devices: Vec<Device>,
    /// Of a node whose logs are on a disk.
    disk: Option<Disk>,
    shared: Option<Shared>,
    chance: RefCell<Chance>,
    /// The same for all nodes, and for all starts where something outlives them.
    resume_key: [u8; 32],
    faults: RefCell<Vec<(&'static str, bool)>>,
}

impl World {
    fn new(plan: &Plan, bug: Option<Bug>) -> Rc<World> {
        let seed = plan.seed;
        let book = Book::new(&format!("seed {seed}"), plan.clients.len() + 1);
        let network = Network::new(Chance::new(seed, purpose::NETWORK), plan.weather.clone());
        tokio::task::spawn_local(network.clone().run());
        let mut chance = Chance::new(seed, purpose::NODES);
        let broker_chance = Chance::new(seed, purpose::BROKER);
        let (mut disk, mut shared) = (None, None);
        match &plan.keeper {
            Keeper::Memory => {}
            Keeper::Disk { fsync, slow } => {
                let made = Disk::new(broker_chance, *fsync, *slow, book.marks.clone());
                tokio::task::spawn_local(made.clone().run());
                disk = Some(made);
            }
            Keeper::Shared(manners) => {
                let mut manners = manners.clone();
                manners.keeps_epoch = bug == Some(Bug::KeptEpoch);
                let namespaces = switchboard_server::node::namespaces(&plan.config);
                let made = Shared::new(broker_chance, manners, namespaces.into(), book.marks.clone());
                tokio::task::spawn_local(made.clone().run());
                shared = Some(made);
            }
        }
        let device = |number: usize| {
            let chance = Chance::new(seed, purpose::DEVICES + number as u64);
            Device::new(number, plan.nodes, network.clone(), book.clone(), chance)
        };
        let devices = (0..=plan.clients.len()).map(device).collect();
        book.with(|history| history.promises = promises(plan));
        let mut plan = plan.clone();
        if bug == Some(Bug::TagsDiffer) {
            // Every poll that comes to another node would bring a reset, and where the network takes no time that has no end.
            for client in &mut plan.clients {
                client.transports = vec![Transport::WebSocket];
            }
        }
        Rc::new(World {
            resume_key: chance.seed(),
            bug,
            book,
            network,
            nodes: (0..plan.nodes).map(|_| RefCell::new(None)).collect(),
            devices,
            plan,
            disk,
            shared,
            chance: RefCell::new(chance),
            faults: RefCell::default(),
        })
    }

    fn factory(&self, node: usize) -> Factory {
        let factory: Factory = match (&self.disk, &self.shared) {
            (Some(disk), _) => disk.start(),
            (None, Some(shared)) => shared.factory(node),
            (None, None) => std::sync::Arc::new(|seat| Box::new(Memory::new(&seat))),
        };
        match self.bug {
            Some(bug) if bug.seam() == Seam::Broker => bugged::plant(factory, bug, node),
            _ => factory,
        }
    }

    fn start(&self, node: usize) {
        let mut chance = self.chance.borrow_mut();
        let is_forgetful = self.disk.is_none() && self.shared.is_none();
        let resume_key = if is_forgetful {
            chance.seed()
        } else {
            self.resume_key
        };
        // What was open to a machine that lost its power is unknown to the one that comes back.
        self.network.harm(Host::Node(node), Harm::Reset);
        let start = Start {
            number: node,
            shards: self.plan.shards,
            config: &self.plan.config,
            resume_key,
            broker: self.factory(node),
            bug: self.bug,
        };
        let running = Running::start(start, &self.network, &mut chance, &self.book.marks);
        *self.nodes[node].borrow_mut() = Some(Rc::new(running));
    }

    /// Ends a node, if it runs.
    fn end(&self, node: usize, ending: Ending) {
        let Some(running) = self.nodes[node].borrow_mut().take() else {
            return;
        };
        running.kill(ending == Ending::PowerLost);
        drop(running);
        if let Some(disk) = &self.disk {
            disk.end(ending);
        }
        if let Some(shared) = &self.shared {
            shared.forget(node);
        }
        if self.disk.is_none() && self.shared.is_none() {
            self.book.marks.see(Mark::MemoryLost);
        }
    }

    /// Everything that happens, and what it comes to.
    async fn history(self: Rc<World>) -> Outcome {
        for node in 0..self.plan.nodes {
            self.start(node);
        }
        let channels: Rc<[(String, Name)]> = (0..self.plan.channels)
            .map(|channel| format!("room:{channel}"))
            .map(|name| (name.clone(), self.book.name(&name)))
            .collect();
        let (stage, staged) = watch::channel(Stage::Busy);
        let mut applications = tokio::task::JoinSet::new();
        for (number, plan) in self.plan.clients.iter().enumerate() {
            let chance = Chance::new(self.plan.seed, purpose::APPLICATIONS + number as u64);
            let (device, book) = (self.devices[number].clone(), self.book.clone());
            let (staged, channels) = (staged.clone(), channels.clone());
            let parts = Parts {
                device,
                book,
                bug: self.bug,
                drops: !self.book.with(|history| history.promises.resyncs),
                chance: RefCell::new(chance),
                stage: staged,
                channels,
            };
            let application = Application::new(number, plan.clone(), parts);
            applications.spawn_local(application.run());
        }
        let mut faults = tokio::task::JoinSet::new();
        for fault in self.plan.faults.clone() {
            faults.spawn_local(self.clone().suffer(fault));
        }
        tokio::time::sleep(self.plan.lasts).await;
        stage.send_replace(Stage::Calm);
        // Before that an application may read more slowly than is published, or a network be too slow for it.
        self.book.calm();
        while faults.join_next().await.is_some() {}
        tokio::time::sleep(self.plan.quiet).await;
        self.read_finals(&channels).await;
        stage.send_replace(Stage::Over);
        while applications.join_next().await.is_some() {}
        // Whoever has vanished is gone after the grace, and whoever answers nothing when that is known.
        tokio::time::sleep(Duration::from_secs(30)).await;
        self.measure();
        self.finish()
    }

    /// A fault happens when it is time.
    async fn suffer(self: Rc<World>, plan: FaultPlan) {
        match plan.when {
            When::At(at) => tokio::time::sleep(at).await,
            When::InResume { after, into } => {
                tokio::time::sleep(after).await;
                // Where nobody resumes, it happens all the same.
                let resume = self.book.resumes.notified();
                let _nobody = tokio::time::timeout(Duration::from_secs(6), resume).await;
                tokio::time::sleep(into).await;
            }
        }
        self.faults
            .borrow_mut()
            .push((plan.fault.kind(), self.book.is_resuming()));
        self.happen(plan.fault, plan.lasts).await;
    }

    fn tell(&self, fault: Fault, until: Instant, loses: bool) {
        self.book
            .fault(format!("{} ({fault:?})", fault.kind()), until, loses);
    }

    async fn happen(&self, fault: Fault, lasts: Duration) {
        let until = Instant::now() + lasts;
        let is_memory = self.disk.is_none() && self.shared.is_none();
        let network = &self.network;
        match fault {
            Fault::Kill(node) => {
                self.tell(fault, until, is_memory);
                self.end(node, Ending::Killed);
                tokio::time::sleep(lasts).await;
                self.start_again(node);
            }
            Fault::PowerLoss(node) => {
                let is_synced = matches!(
                    self.plan.keeper,
                    Keeper::Disk {
                        fsync: Fsync::Always,
                        ..
                    }
                );
                self.tell(fault, until, !is_synced);
                self.end(node, Ending::PowerLost);
                tokio::time::sleep(lasts).await;
                self.start_again(node);
            }
            Fault::Drain(node) => {
                // Not longer than the operator's patience, as one that stands still would take.
                let patience = self.plan.config.server.drain_deadline * 3;
                self.tell(fault, until + patience, is_memory);
                self.book.set_draining(true);
                let running = self.nodes[node].borrow().clone();
                if let Some(running) = &running {
                    let _killed = tokio::time::timeout(patience, running.drain()).await;
                }
                self.book.set_draining(false);
                let killed_meanwhile = match (&*self.nodes[node].borrow(), &running) {
                    (Some(now), Some(before)) => !Rc::ptr_eq(now, before),
                    _ => true,
                };
                drop(running);
                if killed_meanwhile {
                    return;
                }
                self.end(node, Ending::Stopped);
                tokio::time::sleep(lasts).await;
                self.start_again(node);
            }
            Fault::Freeze(node) => {
                self.tell(fault, until, false);
                if let Some(running) = &*self.nodes[node].borrow() {
                    self.book.marks.see(Mark::Frozen);
                    running.freeze(lasts);
                }
                tokio::time::sleep(lasts).await;
            }
            Fault::ResetNode(node) => {
                self.tell(fault, Instant::now(), false);
                network.harm(Host::Node(node), Harm::Reset);
            }
            Fault::ResetDevice(device) => {
                self.tell(fault, Instant::now(), false);
                network.harm(Host::Device(device), Harm::Reset);
            }
            Fault::Vanish(device) => {
                self.tell(fault, Instant::now(), false);
                network.harm(Host::Device(device), Harm::Vanish);
            }
            Fault::Mute(device) | Fault::Deafen(device) | Fault::Stall(device) => {
                self.tell(fault, until, false);
                self.book.set_parted(true);
                let harm = match fault {
                    Fault::Mute(_) => Harm::HoldUp(until),
                    Fault::Deafen(_) => Harm::HoldDown(until),
                    _ => Harm::Hold(until),
                };
                network.harm(Host::Device(device), harm);
                tokio::time::sleep(lasts).await;
                self.book.set_parted(false);
            }
            Fault::Part(device, node) => {
                self.tell(fault, until, false);
                self.book.set_parted(true);
                network.part(Host::Device(device), Host::Node(node), until);
                tokio::time::sleep(lasts).await;
                self.book.set_parted(false);
            }
            Fault::Sleep(device) => {
                self.tell(fault, until, false);
                self.devices[device].sleep(until).await;
            }
            Fault::StepClock(seconds) => {
                self.tell(fault, Instant::now(), false);
                self.book.marks.see(Mark::ClockStepped);
                wall::step(seconds * 1_000);
            }
            Fault::FillDisk => {
                self.tell(fault, until, false);
                if let Some(disk) = &self.disk {
                    disk.fill(until);
                }
                tokio::time::sleep(lasts).await;
            }
            Fault::CutBroker(node) => {
                self.tell(fault, until, false);
                if let Some(shared) = &self.shared {
                    shared.cut(node, until);
                }
                tokio::time::sleep(lasts).await;
            }
            Fault::FailOver(lost) => {
                self.tell(fault, Instant::now(), true);
                if let Some(shared) = &self.shared {
                    shared.fail_over(lost);
                }
            }
        }
    }

    /// Another fault may have started it meanwhile.
    fn start_again(&self, node: usize) {
        if self.nodes[node].borrow().is_none() {
            self.start(node);
        }
    }

    /// Reads what every log holds, and who is in every channel, as a client that came last.
    async fn read_finals(&self, channels: &[(String, Name)]) {
        let read = tokio::time::timeout(FINALS, self.read_all(channels)).await;
        let error = match read {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        };
        self.book
            .trouble(format!("the final histories could not be read: {error}"));
    }

    async fn read_all(&self, channels: &[(String, Name)]) -> Result<(), String> {
        let device = self.devices.last().cloned().ok_or("there is no device")?;
        let client = Client::builder("ws://localhost/ws")
            .transports([Transport::WebSocket])
            .surroundings(device)
            .persistent(true)
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        for (channel, name) in channels {
            let last = self.read_final(&client, channel, *name).await;
            let last = last.map_err(|error| error.to_string())?;
            self.book.with(|history| history.finals.push(last));
            if self.plan.nodes == 1 {
                let members = client.members(channel, Which::After(None), Some(1_000)).await;
                let members = members.map_err(|error| error.to_string())?;
                let names = members.members.iter().map(|member| {
                    let name = format!("{}/{}", member.key.user, member.key.session);
                    self.book.name(&name)
                });
                let roster = Roster {
                    channel: *name,
                    members: names.collect(),
                };
                self.book.with(|history| history.rosters.push(roster));
            }
        }
        client.close().await;
        Ok(())
    }

    async fn read_final(&self, client: &Client, channel: &str, name: Name) -> Result<Final, ReadError> {
        let mut entries: Vec<(Place, Message)> = Vec::new();
        let newest = client.history(channel, Range::Newest, Some(1_000)).await?;
        let head = place(&newest.position);
        // It says nothing of what is before it.
        let (mut messages, mut more) = (newest.messages, true);
        loop {
            let mut page = Vec::new();
            for message in &messages {
                let said = message
                    .payload
                    .as_str()
                    .and_then(|text| payload::Payload::parse(text).ok());
                let said = said.map_or((String::from("?"), 0), |said| (said.publisher, said.number));
                let publisher = self.book.name(&said.0);
                page.push((
                    place(&message.position),
                    Message {
                        publisher,
                        number: said.1 as u32,
                    },
                ));
            }
            entries.splice(0..0, page);
            let Some(first) = messages.first().filter(|_| more) else {
                break;
            };
            let before = client
                .history(channel, Range::Before(first.position), Some(1_000))
                .await?;
            (messages, more) = (before.messages, before.more);
        }
        Ok(Final {
            channel: name,
            head,
            kept_from: entries.first().map_or(head.offset + 1, |(place, _)| place.offset),
            entries,
        })
    }

    /// What is held for peers who have all gone.
    fn measure(&self) {
        let mut resources = vec![Resource {
            what: "connections".to_owned(),
            before: 0,
            after: self.network.connections() as u64,
            tolerance: 0,
        }];
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(running) = &*node.borrow() else { continue };
            for (what, after) in running.held() {
                resources.push(Resource {
                    what: format!("{what} of node {number}"),
                    before: 0,
                    after,
                    tolerance: 0,
                });
            }
        }
        self.book.with(|history| history.resources = resources);
    }

    fn finish(&self) -> Outcome {
        for node in &self.nodes {
            drop(node.borrow_mut().take());
        }
        let history = self.book.with(std::mem::take);
        let verdict = judge(&history);
        let mut troubles = self.book.troubles();
        troubles.extend(panics::take());
        let lasted = Duration::from_micros(self.book.now());
        Outcome {
            hash: hash(&history),
            verdict,
            troubles,
            history,
            marks: self.book.marks.clone(),
            faults: self.faults.take(),
            lasted,
            notes: self.book.notes(),
        }
    }
}

/// What this server promises with these settings.
fn promises(plan: &Plan) -> Promises {
    Promises {
        resyncs: matches!(plan.config.channels.on_lag, OnLag::Resync | OnLag::Auto),
        // A node may be behind the broker that it shares, and say what it knows.
        alone: plan.nodes == 1,
        log_messages_max: Some(plan.config.channels.log_messages_max as u64),
        log_messages_min: kept(plan),
        grace: plan.config.limits.presence_grace,
        noticed: noticed(plan),
        quiet: plan.quiet / 2,
        ..Promises::default()
    }
}

/// For so long a node does not know that somebody has vanished.
fn noticed(plan: &Plan) -> Duration {
    let limits = &plan.config.limits;
    let session = &limits.session;
    let polls = plan
        .clients
        .iter()
        .any(|client| client.transports.contains(&Transport::Poll));
    // Whoever polls is not asked before the poll ends.
    let held = if polls {
        limits.poll_wait_max
    } else {
        Duration::ZERO
    };
    session.ping_interval + session.pong_timeout + session.write_stall + held + Duration::from_secs(2)
}

/// So many messages a log keeps, whatever else bounds it.
fn kept(plan: &Plan) -> u64 {
    // A server that begins anew takes the age of what it finds from a clock that may have been set.
    let is_set = |fault: &FaultPlan| matches!(fault.fault, Fault::StepClock(_));
    if plan.faults.iter().any(is_set) {
        return 0;
    }
    let channels = &plan.config.channels;
    let filling = plan.clients.iter().map(|client| client.filling).max();
    let message_bytes = filling.unwrap_or(0) + MESSAGE_BYTES;
    channels
        .log_messages_max
        .min(channels.log_bytes_max / message_bytes) as u64
}

/// Of everything in a history, in hexadecimal.
fn hash(history: &History) -> String {
    let mut sum = Sha256::new();
    let mut line = String::new();
    for number in 0..history.names() {
        sum.update(history.text(Name(number as u32)));
        sum.update([0]);
    }
    for log in history.logs() {
        for event in &log.events {
            line.clear();
            // Writing into a string cannot fail.
            let _infallible = writeln!(line, "{event:?}");
            sum.update(&line);
        }
    }
    let History {
        faults,
        finals,
        rosters,
        resources,
        ..
    } = history;
    sum.update(format!("{faults:?} {finals:?} {rosters:?} {resources:?}"));
    sum.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

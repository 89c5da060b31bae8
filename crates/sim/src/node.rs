//! Servers: the real ones, each on its own part of this thread, so that it can stand still, be killed and start again.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use switchboard_hub::home::ShardId;
use switchboard_proto::session::resume::ResumeKey;
use switchboard_server::broker::Factory;
use switchboard_server::clock::Clock;
use switchboard_server::config::Config;
use switchboard_server::http::{self, Door};
use switchboard_server::net::Stream;
use switchboard_server::node::{Materials, Node};
use switchboard_server::shard::mail::{Mail, Post};
use switchboard_server::stats::ShardStats;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::bug::{Bug, Seam};
use crate::chance::Chance;
use crate::coverage::{Mark, Marks};
use crate::mail;
use crate::net::{End, Harm, Host, Network};
use crate::wall;

/// A server that runs, until it is dropped: then it was killed.
pub struct Running {
    number: usize,
    network: Network,
    marks: Marks,
    cage: Rc<Cage>,
    post: Post,
    stop: watch::Sender<bool>,
    node: Node,
    doors: Rc<RefCell<Vec<Rc<Door>>>>,
    /// It has stopped in good order.
    stopped: watch::Receiver<bool>,
}

/// Where its tasks are.
struct Cage {
    tasks: RefCell<Option<Pin<Box<LocalSet>>>>,
    frozen: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Polls the tasks of a cage.
struct Warden(Rc<Cage>);

impl Future for Warden {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let cage = &self.0;
        *cage.waker.borrow_mut() = Some(cx.waker().clone());
        if cage.frozen.get() {
            return Poll::Pending;
        }
        // Taken out, because a task may end the server that it belongs to.
        let Some(mut tasks) = cage.tasks.borrow_mut().take() else {
            return Poll::Ready(());
        };
        let polled = tasks.as_mut().poll(cx);
        *cage.tasks.borrow_mut() = Some(tasks);
        polled
    }
}

impl Cage {
    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// What a server is started with.
pub struct Start<'a> {
    /// Which one.
    pub number: usize,
    /// How many shards.
    pub shards: usize,
    /// Its settings.
    pub config: &'a Config,
    /// What sessions are resumed with.
    pub resume_key: [u8; 32],
    /// Makes the brokers of its homes.
    pub broker: Factory,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

impl Running {
    /// Starts one.
    pub fn start(start: Start<'_>, network: &Network, chance: &mut Chance, marks: &Marks) -> Running {
        let Start {
            number,
            shards,
            config,
            resume_key,
            broker,
            bug,
        } = start;
        let materials = Materials {
            open_files: 1_000,
            shards,
            clock: Clock::with_calendar(wall::unix_ms),
            resume_key: ResumeKey::new(resume_key),
            broker,
            seed: chance.number(),
        };
        let (node, mailboxes) = Node::new(config, materials);
        let (stop, stopping) = watch::channel(false);
        let (tell_stopped, stopped) = watch::channel(false);
        let doors: Rc<RefCell<Vec<Rc<Door>>>> = Rc::default();
        let seeds: Vec<[u8; 32]> = mailboxes.iter().map(|_| chance.seed()).collect();
        let tasks = LocalSet::new();
        let accepted = network.listen(number);
        let (server, opened) = (node.clone(), doors.clone());
        tasks.spawn_local(async move {
            for (id, (mailbox, seed)) in mailboxes.into_iter().zip(seeds).enumerate() {
                let mailbox = match bug {
                    Some(bug) if bug.seam() == Seam::Mail => mail::plant(mailbox, bug),
                    _ => mailbox,
                };
                let (door, mail) = server.open(ShardId(id as u16), mailbox, seed, stopping.clone());
                tokio::task::spawn_local(mail);
                opened.borrow_mut().push(door);
            }
            let doors = opened.borrow().clone();
            accept(&doors, accepted, bug, stopping).await;
            for door in &doors {
                door.drained(server.drain_deadline()).await;
            }
            tell_stopped.send_replace(true);
        });
        let cage = Rc::new(Cage {
            tasks: RefCell::new(Some(Box::pin(tasks))),
            frozen: Cell::new(false),
            waker: RefCell::default(),
        });
        tokio::task::spawn_local(Warden(cage.clone()));
        Running {
            number,
            network: network.clone(),
            marks: marks.clone(),
            cage,
            post: node.post(),
            stop,
            node,
            doors,
            stopped,
        }
    }

    /// Stands still until then.
    pub fn freeze(&self, lasts: Duration) {
        let cage = self.cage.clone();
        cage.frozen.set(true);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(lasts).await;
            cage.frozen.set(false);
            cage.wake();
        });
    }

    /// Stops in good order.
    pub async fn drain(&self) {
        self.network.close_listener(self.number);
        self.stop.send_replace(true);
        for shard in 0..self.post.shards() {
            self.post.send_waiting(ShardId(shard as u16), Mail::Stop).await;
        }
        let mut stopped = self.stopped.clone();
        // Where it is killed meanwhile, the sender is gone.
        if stopped.wait_for(|stopped| *stopped).await.is_ok() {
            self.marks.see(Mark::Drained);
        }
    }

    /// Ends at once. With `silent` nobody is told: the machine is gone.
    pub fn kill(&self, silent: bool) {
        // Its tasks find nobody when they are dropped.
        let Some(tasks) = self.cage.tasks.borrow_mut().take() else {
            return;
        };
        self.count();
        self.network.close_listener(self.number);
        let harm = if silent { Harm::Vanish } else { Harm::Reset };
        self.network.harm(Host::Node(self.number), harm);
        self.doors.borrow_mut().clear();
        drop(tasks);
        self.cage.wake();
    }

    /// What its counters say of what it went through.
    fn count(&self) {
        let of = |read: fn(&ShardStats) -> u64| self.node.stats().iter().map(|stats| read(stats)).sum();
        let seen: [(Mark, u64); 6] = [
            (
                Mark::LaggedAndResynced,
                of(|stats| stats.deliveries_refused.value()),
            ),
            (Mark::MailboxFull, of(|stats| stats.mailbox_refusals.value())),
            (Mark::Overloaded, of(|stats| stats.overloads.value())),
            (Mark::SilentPeer, of(|stats| stats.sessions_silent.value())),
            (Mark::StalledPeer, of(|stats| stats.sessions_stalled.value())),
            (Mark::PresenceResynced, of(|stats| stats.presence_resyncs.value())),
        ];
        for (mark, times) in seen {
            self.marks.see_times(mark, times);
        }
    }

    /// What it holds for its peers: sessions, requests, members.
    pub fn held(&self) -> [(&'static str, u64); 3] {
        let doors = self.doors.borrow();
        let links = doors.iter().map(|door| door.shard.links() as u64).sum();
        let visits = doors.iter().map(|door| door.visits.get() as u64).sum();
        let stats = self.node.stats();
        let members = stats.iter().map(|stats| stats.presence_members.value()).sum();
        [("sessions", links), ("requests", visits), ("members", members)]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill(false);
    }
}

async fn accept(
    doors: &[Rc<Door>],
    mut accepted: mpsc::UnboundedReceiver<End>,
    bug: Option<Bug>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut next = 0;
    loop {
        let end = tokio::select! {
            biased;
            _stopped = stopping.wait_for(|stopped| *stopped) => return,
            end = accepted.recv() => end,
        };
        let Some(end) = end else {
            // Others go on; this one only hears of its end.
            let _stopped = stopping.wait_for(|stopped| *stopped).await;
            return;
        };
        if bug == Some(Bug::ConnectionsKept) {
            end.keep();
        }
        let door = doors[next % doors.len()].clone();
        next += 1;
        let Some(slot) = door.slot() else { continue };
        tokio::task::spawn_local(http::serve(Stream::Other(Box::new(end)), door, slot));
    }
}

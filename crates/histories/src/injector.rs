//! Does the faults of a plan to a running history, and writes down what was done and when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, Signal};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clients::node::Node;
use crate::clock::RunClock;
use crate::fault::{Act, Fault, Kind, When};
use crate::machine::Machine;
use crate::proxy::Proxy;
use crate::server::{How, Server};
use crate::troubles::Troubles;

/// Whoever is cut off comes back within the cap of its backoff, 0.8 s, if there is a server and the machine is not too busy.
const COMES_BACK: Duration = Duration::from_secs(3);
/// Who was cut off so recently may be about to come back.
const RECENTLY: Duration = Duration::from_millis(300);
/// Connections that somebody opens who wants the server to run out of files.
const STRANGERS: usize = 40;
/// For a process to abort, on a machine that does many other things.
const ABORTS: Duration = Duration::from_secs(10);
/// Before it is asked whether it does.
const ABORTING: Duration = Duration::from_millis(100);

/// Something that was done.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Done {
    /// Of which kind.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// When it began, in microseconds of the run.
    pub from: u64,
    /// When it was over.
    pub until: u64,
    /// Logs may be lost by it, as the documentation says.
    pub loses: bool,
}

/// What faults are done to.
pub struct Injector {
    /// How the server is started again.
    pub how: How,
    /// The small disk, if there is one.
    pub disk: Option<PathBuf>,
    /// What can be done here.
    pub machine: Machine,
    /// Of the run.
    pub clock: RunClock,
    /// Before the server.
    pub proxy: Proxy,
    /// The process of the JavaScript clients.
    pub node: Option<Node>,
    /// Whether as much as possible is to be published.
    pub storm: watch::Sender<bool>,
    /// Nobody, only while it is started again and that fails.
    server: Mutex<Option<Server>>,
    /// What of a kind has to wait for one of the same kind to be over.
    going_on: RefCell<BTreeMap<Kind, Rc<Mutex<()>>>>,
    done: RefCell<Vec<Done>>,
    skipped: RefCell<Vec<Kind>>,
    /// What should not have happened.
    pub troubles: Troubles,
    lost_at: Cell<Option<Instant>>,
    refused: Cell<u64>,
}

/// What was done, and what came of it.
#[derive(Default, Debug)]
pub struct Outcome {
    /// In the order in which they began.
    pub done: Vec<Done>,
    /// What could not be done here.
    pub skipped: Vec<Kind>,
    /// What the server did that it should not: it ended by itself, or did not end.
    pub troubles: Vec<String>,
    /// Deliveries that did not fit into an outbox, as far as processes were asked before their end.
    pub refused: u64,
}

impl Injector {
    /// For a server that runs.
    #[expect(clippy::too_many_arguments)] // each is one thing that faults are done to
    pub fn new(
        server: Server,
        how: How,
        disk: Option<PathBuf>,
        machine: Machine,
        clock: RunClock,
        proxy: Proxy,
        node: Option<Node>,
        storm: watch::Sender<bool>,
        troubles: Troubles,
    ) -> Injector {
        Injector {
            how,
            disk,
            machine,
            clock,
            proxy,
            node,
            storm,
            server: Mutex::new(Some(server)),
            going_on: RefCell::default(),
            done: RefCell::default(),
            skipped: RefCell::default(),
            troubles,
            lost_at: Cell::new(None),
            refused: Cell::new(0),
        }
    }

    /// Does all of them, each when its time has come. When this returns, all are over.
    pub async fn run(self: &Rc<Injector>, faults: &[Fault]) {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for fault in faults.iter().copied() {
            let injector = self.clone();
            running.spawn_local(async move { injector.run_one(fault, began).await });
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                self.troubles.tell(format!("the harness failed: {error}"));
            }
        }
        self.proxy.change(|weather| *weather = Default::default());
        let mut slot = self.server.lock().await;
        self.look_after(&mut slot).await;
    }

    /// What was done so far.
    pub fn outcome(&self) -> Outcome {
        let mut done = self.done.borrow().clone();
        done.sort_by_key(|done| done.from);
        Outcome {
            done,
            skipped: self.skipped.borrow().clone(),
            troubles: self.troubles.told(),
            refused: self.refused.get(),
        }
    }

    /// Takes the server away, at the end.
    pub async fn server(&self) -> Option<Server> {
        self.server.lock().await.take()
    }

    /// Whether its logs outlive the process.
    fn with_data(&self) -> bool {
        self.how.data.is_some()
    }

    async fn run_one(&self, fault: Fault, began: Instant) {
        let kind = fault.act.kind(self.with_data());
        if !self.machine.has(kind) || (kind == Kind::StopClients && self.node.is_none()) {
            self.skipped.borrow_mut().push(kind);
            return;
        }
        match fault.when {
            When::At { ms } => sleep_until(began + Duration::from_millis(ms)).await,
            When::InResume { from_ms, after_us } => {
                sleep_until(began + Duration::from_millis(from_ms)).await;
                self.wait_for_resume().await;
                sleep(Duration::from_micros(after_us)).await;
            }
        }
        let duration = Duration::from_millis(fault.for_ms);
        if let Err(error) = self.act(fault.act, kind, duration).await {
            self.troubles.tell(format!("{}: {error}", kind.text()));
        }
    }

    /// Until a client makes a connection that had lost another one.
    async fn wait_for_resume(&self) {
        let mut opened = self.proxy.opened();
        let is_recent = self.lost_at.get().is_some_and(|at| at.elapsed() < RECENTLY);
        if is_recent && timeout(RECENTLY, opened.changed()).await.is_ok() {
            return;
        }
        opened.mark_unchanged();
        let from = self.clock.micros();
        let act = Act::Cut {
            percent: 50,
            reset: from.is_multiple_of(2),
        };
        self.cut(act);
        self.note(Kind::Cut, act, from, false);
        // Otherwise there is nobody, and the fault comes all the same.
        let _nobody = timeout(COMES_BACK, opened.changed()).await;
    }

    fn cut(&self, act: Act) {
        let Act::Cut { percent, reset } = act else { return };
        if self.proxy.cut(percent, reset) == 0 {
            self.proxy.cut(100, reset);
        }
        self.lost_at.set(Some(Instant::now()));
    }

    fn note(&self, kind: Kind, act: Act, from: u64, loses: bool) {
        self.done.borrow_mut().push(Done {
            kind,
            what: act.text(kind),
            from,
            until: self.clock.micros(),
            loses,
        });
    }

    async fn act(&self, act: Act, kind: Kind, duration: Duration) -> io::Result<()> {
        let mut server = match is_of_the_server(act) {
            true => Some(self.server.lock().await),
            false => None,
        };
        let going_on = self.going_on.borrow_mut().entry(kind).or_default().clone();
        let _alone = going_on.lock().await;
        let from = self.clock.micros();
        let mut loses = false;
        let done = match (act, server.as_deref_mut()) {
            (Act::Cut { .. }, _) => {
                self.cut(act);
                Ok(())
            }
            (Act::Delay { by_ms }, _) => {
                self.proxy
                    .change(|weather| weather.delay = Some(Duration::from_millis(by_ms)));
                sleep(duration).await;
                self.proxy.change(|weather| weather.delay = None);
                Ok(())
            }
            (Act::Stall { way, percent }, _) => {
                self.proxy.change(|weather| weather.stall = Some((way, percent)));
                sleep(duration).await;
                self.proxy.change(|weather| weather.stall = None);
                Ok(())
            }
            (Act::Split { bytes_max }, _) => {
                self.proxy.change(|weather| weather.split = Some(bytes_max));
                sleep(duration).await;
                self.proxy.change(|weather| weather.split = None);
                Ok(())
            }
            (Act::StopClients, _) => self.stop_clients(duration).await,
            (Act::DiskFull, _) => self.fill_disk(duration).await,
            (Act::WallClock { by_s }, _) => self.turn_clock(by_s, duration).await,
            (Act::Kill { down_ms }, Some(server)) => {
                loses = !self.with_data();
                self.kill(server, down_ms, None).await
            }
            (Act::MonotonicClock { ahead_s }, Some(server)) => {
                loses = !self.with_data();
                self.kill(server, 0, Some(ahead_s)).await
            }
            (Act::Drain { down_ms }, Some(server)) => {
                loses = !self.with_data();
                self.drain(server, down_ms).await
            }
            (Act::StopServer, Some(Some(server))) => stop_server(server, duration).await,
            (Act::Loss { percent }, Some(Some(server))) => self.lose(server, percent, duration).await,
            (Act::FileLimit { more }, Some(Some(server))) => self.take_files(server, more, duration).await,
            (Act::Memory { more_bytes }, Some(server)) => {
                let ended = self.press(server, more_bytes, duration).await;
                loses = *ended.as_ref().unwrap_or(&false) && !self.with_data();
                ended.map(|_| ())
            }
            // That it does not start again is told already.
            (_, Some(None) | None) => return Ok(()),
        };
        self.note(kind, act, from, loses);
        done
    }

    /// What ended by itself is told, and started again.
    async fn look_after(&self, slot: &mut Option<Server>) {
        if let Some(server) = slot
            && let Some(status) = server.ended()
        {
            self.troubles
                .tell(format!("the server ended by itself, with {status}"));
            self.restart(slot).await;
        }
    }

    async fn restart(&self, slot: &mut Option<Server>) {
        let Some(ports) = slot.take().map(|server| server.ports()) else {
            return;
        };
        if let Err(error) = self.begin_again(slot, ports, None).await {
            self.troubles.tell(error.to_string());
        }
    }

    async fn count_refused(&self, server: &Server) {
        let refused = server.api.metric("switchboard_deliveries_refused_total").await;
        let refused = refused.unwrap_or(0);
        self.refused.set(self.refused.get() + refused);
    }

    async fn kill(&self, slot: &mut Option<Server>, down_ms: u64, ahead_s: Option<u64>) -> io::Result<()> {
        self.look_after(slot).await;
        let Some(server) = slot.take() else {
            return Err(io::Error::other("there is no server"));
        };
        let ports = server.ports();
        server.kill().await;
        sleep(Duration::from_millis(down_ms)).await;
        self.begin_again(slot, ports, ahead_s).await
    }

    async fn drain(&self, slot: &mut Option<Server>, down_ms: u64) -> io::Result<()> {
        self.look_after(slot).await;
        let Some(server) = slot.take() else {
            return Err(io::Error::other("there is no server"));
        };
        self.count_refused(&server).await;
        let ports = server.ports();
        if let Err(trouble) = server.drain().await {
            self.troubles.tell(trouble);
        }
        sleep(Duration::from_millis(down_ms)).await;
        self.begin_again(slot, ports, None).await
    }

    async fn begin_again(
        &self,
        slot: &mut Option<Server>,
        ports: (std::net::SocketAddr, std::net::SocketAddr),
        ahead_s: Option<u64>,
    ) -> io::Result<()> {
        self.lost_at.set(Some(Instant::now()));
        let mut server = Server::start(&self.how, Some(ports), ahead_s).await;
        // On a full disk it says why it does not start; whoever runs it makes room, and starts it.
        let filling = self.going_on.borrow().get(&Kind::DiskFull).cloned();
        if let (Err(_), Some(filling)) = (&server, filling)
            && filling.try_lock().is_err()
        {
            drop(filling.lock().await);
            server = Server::start(&self.how, Some(ports), ahead_s).await;
        }
        let server = server.map_err(io::Error::other)?;
        self.proxy.turn_to(server.public);
        *slot = Some(server);
        self.lost_at.set(Some(Instant::now()));
        Ok(())
    }

    async fn stop_clients(&self, duration: Duration) -> io::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        node.signal(Signal::STOP)?;
        sleep(duration).await;
        node.signal(Signal::CONT)
    }

    /// A file takes what is left, and goes again.
    async fn fill_disk(&self, duration: Duration) -> io::Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let ballast = disk.join("ballast");
        let filled = fill(&ballast);
        sleep(duration).await;
        fs::remove_file(&ballast)?;
        filled
    }

    async fn turn_clock(&self, by_s: i64, duration: Duration) -> io::Result<()> {
        let Some((_, file)) = &self.how.wall_clock else {
            return Ok(());
        };
        fs::write(file, format!("{by_s:+}\n"))?;
        sleep(duration).await;
        fs::write(file, "+0\n")
    }

    /// The kernel drops packets to and from the server and the proxy, but not RST: nobody repeats that, and whoever waits for the
    /// answer to a poll finds out after 40 s only, which no history waits for. The simulator has such connections.
    async fn lose(&self, server: &Server, percent: u64, duration: Duration) -> io::Result<()> {
        let ports = format!("{{ {}, {} }}", server.public.port(), self.proxy.address.port());
        let chance = format!("numgen random mod 100 < {percent} drop");
        nft(&format!(
            "add table inet histories; \
             add chain inet histories input {{ type filter hook input priority 0; }}; \
             add rule inet histories input tcp flags & rst == rst accept; \
             add rule inet histories input tcp dport {ports} {chance}; \
             add rule inet histories input tcp sport {ports} {chance}"
        ))
        .await?;
        sleep(duration).await;
        nft("delete table inet histories").await
    }

    async fn take_files(&self, server: &Server, more: u64, duration: Duration) -> io::Result<()> {
        let used = server.usage()?.files;
        server.limit(Resource::Nofile, Some(used + more))?;
        let mut strangers = Vec::new();
        let over = Instant::now() + duration;
        while strangers.len() < STRANGERS {
            let stranger = timeout(Duration::from_millis(200), TcpStream::connect(server.public)).await;
            match stranger {
                Ok(Ok(stranger)) => strangers.push(stranger),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sleep_until(over).await;
        drop(strangers);
        server.limit(Resource::Nofile, None)
    }

    /// Hardly any memory is left while much is published. Whether the process ended of it; then it is started again.
    async fn press(
        &self,
        slot: &mut Option<Server>,
        more_bytes: u64,
        duration: Duration,
    ) -> io::Result<bool> {
        self.look_after(slot).await;
        let Some(server) = slot else { return Ok(false) };
        let used = server.usage()?.address_bytes;
        server.limit(Resource::As, Some(used + more_bytes))?;
        self.storm.send_replace(true);
        {
            let stalled = self.going_on.borrow_mut().entry(Kind::Stall).or_default().clone();
            let _alone = stalled.lock().await;
            self.proxy
                .change(|weather| weather.stall = Some((crate::fault::Way::Down, 50)));
            sleep(duration).await;
            self.proxy.change(|weather| weather.stall = None);
        }
        self.storm.send_replace(false);
        let limited = match server.ended() {
            None => {
                self.count_refused(server).await;
                server.limit(Resource::As, None)
            }
            Some(_) => Ok(()),
        };
        let Some(status) = outlived(server).await else {
            return limited.map(|()| false);
        };
        // Without memory Rust aborts a process, and nothing else ends one.
        if status.signal() != Some(Signal::ABORT.as_raw()) {
            self.troubles
                .tell(format!("without memory the server ended with {status}"));
        }
        self.restart(slot).await;
        Ok(true)
    }
}

/// How the process ended of what it did not get, if it did. One that aborts is there for a moment more, and answers nothing.
async fn outlived(server: &mut Server) -> Option<ExitStatus> {
    let over = Instant::now() + ABORTS;
    loop {
        sleep(ABORTING).await;
        let ended = server.ended();
        if ended.is_some() || server.api.get("/healthz").await.is_ok() || Instant::now() >= over {
            return ended.or_else(|| server.ended());
        }
    }
}

async fn stop_server(server: &Server, duration: Duration) -> io::Result<()> {
    server.signal(Signal::STOP)?;
    sleep(duration).await;
    server.signal(Signal::CONT)
}

fn is_of_the_server(act: Act) -> bool {
    matches!(
        act,
        Act::Kill { .. }
            | Act::MonotonicClock { .. }
            | Act::Drain { .. }
            | Act::StopServer
            | Act::Loss { .. }
            | Act::FileLimit { .. }
            | Act::Memory { .. }
    )
}

/// Writes until there is no room.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    for size in [64 * 1024, 4 * 1024, 1] {
        let block = vec![b'x'; size];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn nft(script: &str) -> io::Result<()> {
    let ran = Command::new("nft")
        .arg(script)
        .kill_on_drop(true)
        .output()
        .await?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&ran.stderr).into_owned(),
        )),
    }
}

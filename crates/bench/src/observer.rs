//! Observers: a few subscribers within the bench itself, apart from the load, so that what they see is theirs alone.
//!
//! ```text
//!   open ─► thread: publish what is due, read what came ◄──► stopped: not a byte is read
//!                                └──► Heard
//! ```

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use socket2::{Domain, Protocol, Socket, Type};
use switchboard_proto::ws::deflate::Contexts;

use crate::control::{Open, Role, Rooms};
use crate::coordinator::Stopped;
use crate::process;
use crate::report::quantity::{counted, grouped};
use crate::stamp::{Reader, Stamp};
use crate::target::{Envelope, Target};
use crate::worker::connection::{Connection, Lost};
use crate::worker::now_ns;

/// What a narrow socket keeps unread: the least that Linux takes seriously.
const NARROW_BYTES: usize = 4_096;
/// The segments of a narrow socket: those of an Ethernet. With the 64 KiB of the loopback interface the server's end of the
/// connection would keep megabytes.
const NARROW_SEGMENT_BYTES: u32 = 1_460;
/// Bytes read at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How soon the thread notices what it is told.
const NOTICE_MS: u64 = 10;
/// Time to connect and subscribe.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// Characters kept of what a server says that is no message.
const WORDS_MAX: usize = 200;

/// What is to be observed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where.
    pub target: Target,
    /// Number of the channel.
    pub room: u32,
    /// Subscribers of it.
    pub subscribers: u32,
    /// Their sockets keep next to nothing that is unread, and neither do the server's: who stops reading is noticed soon.
    pub narrow: bool,
    /// Publish there as well.
    pub publish: Option<Publish>,
    /// Core of the thread; `None`: anywhere.
    pub core: Option<usize>,
}

/// What an observer publishes, by the clock.
#[derive(Clone, Copy, Debug)]
pub struct Publish {
    /// Bytes of a message.
    pub bytes: usize,
    /// Nanoseconds between two.
    pub interval_ns: u64,
}

/// What was heard.
#[derive(Clone, Default, Debug)]
pub struct Heard {
    /// Messages, each counted once per subscriber.
    pub received: u64,
    /// Messages published.
    pub published: u64,
    /// Messages that did not follow the one before of the same publisher.
    pub disordered: u64,
    /// When a message was due, and how long after that it was heard; only where the observer publishes.
    pub latency: Vec<(u64, u64)>,
    /// The last thing that was no message.
    pub words: Option<String>,
    /// Why the connections are no more.
    pub lost: Option<String>,
}

#[derive(Default)]
struct Common {
    stopped: AtomicBool,
    ended: AtomicBool,
    heard: Mutex<Heard>,
}

impl Common {
    /// A thread that panicked has left what it had heard.
    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Its connections end with it.
pub struct Observer {
    common: Arc<Common>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Connects and subscribes. Fails if that takes longer than 15 s.
    pub fn open(wanted: &Wanted) -> Result<Observer, Stopped> {
        let common = Arc::new(Common::default());
        let mut work = Work::new(wanted, Arc::clone(&common))?;
        let begun = Instant::now();
        while !work.lines.iter().all(|line| line.connection.is_ready()) {
            if begun.elapsed() > OPEN_MAX {
                let words = format!("a subscriber got no further for {} s", OPEN_MAX.as_secs());
                return Err(Stopped::Failed(words));
            }
            work.turn().map_err(|lost| Stopped::Failed(lost.to_string()))?;
        }
        let core = wanted.core;
        let thread = std::thread::spawn(move || {
            // Where it is not to be had, the thread runs elsewhere.
            let _pinned = core.map(process::pin);
            work.run();
            work.lines.into_iter().for_each(|line| line.connection.reset());
        });
        Ok(Observer {
            common,
            thread: Some(thread),
        })
    }

    /// Nothing is read any more from soon on, and nothing published. The server hears a sign of life first, so that it does not
    /// ask for one meanwhile.
    pub fn stop(&self) {
        self.common.stopped.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(3 * NOTICE_MS));
    }

    /// What came meanwhile is read, and what comes.
    pub fn resume(&self) {
        self.common.stopped.store(false, Ordering::Relaxed);
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.common.heard().clone()
    }

    /// Waits until so many messages have come, each in its place and none twice.
    pub fn await_received(&self, expected: u64, patience: Duration) -> Result<(), Stopped> {
        let begun = Instant::now();
        loop {
            let Heard {
                received,
                disordered,
                words,
                lost,
                ..
            } = self.heard();
            let words = words.map(|words| format!(" (the server said: {words})"));
            let words = words.unwrap_or_default();
            let fault = if disordered > 0 {
                format!("{} did not follow the one before", counted(disordered, "message"))
            } else if received > expected {
                format!(
                    "{} more than were published",
                    counted(received - expected, "message")
                )
            } else if let Some(lost) = lost {
                lost
            } else if received == expected {
                return Ok(());
            } else if begun.elapsed() > patience {
                let missing = grouped(expected - received);
                format!("{missing} of {} did not arrive", counted(expected, "message"))
            } else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            return Err(Stopped::Failed(format!("the reader: {fault}{words}")));
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.common.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever ended it, it has ended.
            let _ended = thread.join();
        }
    }
}

/// What the thread has.
struct Work {
    /// The subscribers; behind them who publishes, if anybody does.
    lines: Vec<Line>,
    publisher: Option<Publisher>,
    contexts: Contexts,
    buffer: Vec<u8>,
    reader: Reader,
    common: Arc<Common>,
}

/// A connection.
struct Line {
    open: Open,
    connection: Connection,
    /// The last message of each publisher.
    seen: Vec<(u32, u32)>,
}

struct Publisher {
    envelope: Envelope,
    interval_ns: u64,
    due_ns: u64,
    sequence: u32,
}

impl Work {
    fn new(wanted: &Wanted, common: Arc<Common>) -> Result<Work, Stopped> {
        let open = |role| Open {
            group: 0,
            target: wanted.target.clone(),
            role,
            first: 0,
            count: wanted.subscribers,
            rooms: Rooms {
                members: u32::MAX,
                first: wanted.room,
                each: 1,
            },
            in_flight: 1,
            sources: Vec::new(),
        };
        let mut lines = Vec::new();
        let mut connect = |role, number, narrow| {
            let open = open(role);
            let stream = connect(open.target.address, narrow)?;
            let connection = Connection::over(stream, &open, number);
            let connection = connection.map_err(|lost| Stopped::Failed(lost.to_string()))?;
            lines.push(Line {
                open,
                connection,
                seen: Vec::new(),
            });
            Ok::<_, Stopped>(())
        };
        for number in 0..wanted.subscribers {
            connect(Role::Subscriber, number, wanted.narrow)?;
        }
        if wanted.publish.is_some() {
            connect(Role::Publisher, wanted.subscribers, false)?;
        }
        let publisher = wanted.publish.map(|Publish { bytes, interval_ns }| {
            let template = &wanted.target.publish;
            let template = wanted.target.fill(template, wanted.subscribers, wanted.room);
            Publisher {
                envelope: Envelope::new(&template, bytes),
                interval_ns,
                due_ns: 0,
                sequence: 0,
            }
        });
        Ok(Work {
            lines,
            publisher,
            contexts: Contexts::new(1),
            buffer: vec![0; READ_BUFFER_BYTES],
            reader: Reader::new(),
            common,
        })
    }

    fn run(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.due_ns = now_ns() + publisher.interval_ns;
        }
        let mut reads = true;
        let ended = loop {
            if self.common.ended.load(Ordering::Relaxed) {
                return;
            }
            let stopped = self.common.stopped.load(Ordering::Relaxed);
            let done = match (stopped, reads) {
                (true, true) => {
                    let mut lines = self.lines.iter_mut();
                    lines.try_for_each(|line| line.connection.say_alive())
                }
                (true, false) => {
                    std::thread::sleep(Duration::from_millis(NOTICE_MS));
                    Ok(())
                }
                (false, _) => self.publish().and_then(|()| self.turn()),
            };
            reads = !stopped;
            if let Err(lost) = done {
                break lost;
            }
        };
        self.common.heard().lost = Some(ended.to_string());
    }

    /// Publishes what is due.
    fn publish(&mut self) -> Result<(), Lost> {
        let (Some(publisher), Some(line)) = (&mut self.publisher, self.lines.last_mut()) else {
            return Ok(());
        };
        let now = now_ns();
        while publisher.due_ns <= now {
            let stamp = Stamp {
                publisher: 0,
                sequence: publisher.sequence,
                due_ns: publisher.due_ns,
            };
            let mut text = Vec::new();
            publisher.envelope.write(stamp, &mut text);
            line.connection.say(&text, &mut self.contexts);
            publisher.sequence = publisher.sequence.wrapping_add(1);
            publisher.due_ns += publisher.interval_ns;
            self.common.heard().published += 1;
        }
        line.connection.flush()
    }

    /// Waits for the sockets, and reads what came.
    fn turn(&mut self) -> Result<(), Lost> {
        let notice_ns = NOTICE_MS * 1_000_000;
        let wait_ns = match &self.publisher {
            Some(publisher) if publisher.due_ns > 0 => {
                publisher.due_ns.saturating_sub(now_ns()).min(notice_ns)
            }
            _ => notice_ns,
        };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait_ns).unwrap_or(0),
        };
        let flags = |connection: &Connection| match connection.wants_write() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let connections = self.lines.iter().map(|line| &line.connection);
        let polled = connections.map(|connection| PollFd::new(connection.stream(), flags(connection)));
        let mut polled: Vec<_> = polled.collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        let events: Vec<_> = polled.iter().map(PollFd::revents).collect();
        for (index, events) in events
            .into_iter()
            .enumerate()
            .filter(|(_, events)| !events.is_empty())
        {
            if events.intersects(PollFlags::OUT) {
                self.lines[index].connection.handle_writable()?;
            }
            if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.read(index)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Lost> {
        let Work {
            lines,
            contexts,
            buffer,
            reader,
            common,
            publisher,
        } = self;
        let Line {
            open,
            connection,
            seen,
        } = &mut lines[index];
        let mut heard = common.heard();
        connection.handle_readable(open, buffer, contexts, |_, frame| {
            let mut found = false;
            reader.read(frame, |stamp| {
                found = true;
                heard.received += 1;
                heard.disordered += u64::from(!follows(seen, stamp));
                if publisher.is_some() {
                    let took_ns = now_ns().saturating_sub(stamp.due_ns);
                    heard.latency.push((stamp.due_ns, took_ns));
                }
            });
            if !found {
                let words = String::from_utf8_lossy(frame).chars().take(WORDS_MAX).collect();
                heard.words = Some(words);
            }
        })?;
        Ok(())
    }
}

/// Notes a message. Says whether it is the first of its publisher, or the next.
fn follows(seen: &mut Vec<(u32, u32)>, stamp: Stamp) -> bool {
    match seen.iter_mut().find(|(known, _)| *known == stamp.publisher) {
        Some((_, last)) => {
            let follows = stamp.sequence == last.wrapping_add(1);
            *last = stamp.sequence;
            follows
        }
        None => {
            seen.push((stamp.publisher, stamp.sequence));
            true
        }
    }
}

fn connect(address: SocketAddr, narrow: bool) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if narrow {
        // Before the handshake, which tells both to the server.
        socket.set_recv_buffer_size(NARROW_BYTES)?;
        socket.set_tcp_mss(NARROW_SEGMENT_BYTES)?;
    }
    socket.connect_timeout(&address.into(), OPEN_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

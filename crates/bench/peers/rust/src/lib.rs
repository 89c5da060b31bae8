//! What both servers share, so that they differ in their library alone: the paths, the rooms, the loop that
//! accepts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Messages that wait for one member. One who is further behind leaves the room, and its connection ends.
const QUEUE_MESSAGES_MAX: usize = 16_384;

const BACKLOG_CONNECTIONS_MAX: u32 = 4096;

/// What a path asks for.
pub enum Target<M> {
    /// `/echo`
    Echo,
    /// `/room/N`
    Member(Arc<Room<M>>),
    /// `/room/N/publish`
    Publisher(Arc<Room<M>>),
}

/// Every room that was ever asked for, by name.
pub struct Rooms<M>(Mutex<HashMap<String, Arc<Room<M>>>>);

impl<M: Clone> Rooms<M> {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(HashMap::new())))
    }

    /// The target of a path, unless there is none.
    pub fn target(&self, path: &str) -> Option<Target<M>> {
        if path == "/echo" {
            return Some(Target::Echo);
        }
        let room = path.strip_prefix("/room/")?;
        match room.split_once('/') {
            None => Some(Target::Member(self.room(room))),
            Some((room, "publish")) => Some(Target::Publisher(self.room(room))),
            Some(_) => None,
        }
    }

    fn room(&self, name: &str) -> Arc<Room<M>> {
        let mut rooms = lock(&self.0);
        match rooms.get(name) {
            Some(room) => room.clone(),
            None => rooms.entry(name.to_owned()).or_insert(Room::new()).clone(),
        }
    }
}

/// A list of queues, one for each member.
pub struct Room<M>(Mutex<Members<M>>);

struct Members<M> {
    next: u64,
    queues: Vec<(u64, mpsc::Sender<M>)>,
}

impl<M: Clone> Room<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Members {
            next: 0,
            queues: Vec::new(),
        })))
    }

    /// Puts the message into the queue of every member.
    pub fn publish(&self, message: &M) {
        lock(&self.0)
            .queues
            .retain(|(_, queue)| queue.try_send(message.clone()).is_ok());
    }

    /// A new member and its queue. The queue ends when the member is dropped or too far behind.
    pub fn join(self: &Arc<Self>) -> (Member<M>, mpsc::Receiver<M>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let own = sender.downgrade();
        let mut members = lock(&self.0);
        let id = members.next;
        members.next += 1;
        members.queues.push((id, sender));
        (
            Member {
                room: self.clone(),
                id,
                own,
            },
            receiver,
        )
    }
}

/// A place in a room, given up when dropped.
pub struct Member<M> {
    room: Arc<Room<M>>,
    id: u64,
    own: mpsc::WeakSender<M>,
}

impl<M> Member<M> {
    /// The room.
    pub fn room(&self) -> &Room<M> {
        &self.room
    }

    /// Puts a message into this member's queue alone, if it still has one with space.
    pub fn send(&self, message: M) {
        if let Some(queue) = self.own.upgrade() {
            // A queue that is full ends at the next message to the room.
            let _ = queue.try_send(message);
        }
    }
}

impl<M> Drop for Member<M> {
    fn drop(&mut self) {
        lock(&self.room.0).queues.retain(|(id, _)| *id != self.id);
    }
}

/// Listens on the port that the command line names and spawns `handle` for each connection, all on one thread.
pub fn serve<F>(handle: impl Fn(TcpStream) -> F) -> io::Result<Infallible>
where
    F: Future<Output = ()> + Send + 'static,
{
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the argument is a port"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let listener = socket.listen(BACKLOG_CONNECTIONS_MAX)?;
        loop {
            // It fails for a connection that is already gone, or for want of descriptors.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            if stream.set_nodelay(true).is_ok() {
                tokio::spawn(handle(stream));
            }
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the process")
}

//! A box between a client and a server, as networks have them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Does {
    Pass,
    /// It passes everything on after this time, as a long way does.
    Delay(Duration),
    /// It answers in the server's place: 403.
    Refuse,
    /// It lets the head of the answer through, if it is one of WebSocket, and nothing else: what a stream says is kept until it ends.
    Swallow,
    /// It hands the request on, and hangs up in place of the answer.
    HangUp,
}

/// See the module.
pub(crate) struct Middlebox {
    pub(crate) address: SocketAddr,
    rules: Arc<Mutex<Vec<(&'static str, Does)>>>,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Middlebox {
    pub(crate) async fn before(server: SocketAddr) -> Middlebox {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let middlebox = Middlebox {
            address: listener.local_addr().unwrap(),
            rules: Arc::default(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (rules, seen) = (middlebox.rules.clone(), middlebox.seen.clone());
        let connections = middlebox.connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = tokio::spawn(pass(client, server, rules.clone(), seen.clone()));
                connections.lock().unwrap().push(connection.abort_handle());
            }
        });
        middlebox
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of requests for a path from now on, of new connections.
    pub(crate) fn rule(&self, path: &'static str, does: Does) {
        let mut rules = self.rules.lock().unwrap();
        rules.retain(|(known, _)| *known != path);
        rules.push((path, does));
    }

    /// The paths of the first request of each connection.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

async fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    rules: Arc<Mutex<Vec<(&'static str, Does)>>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let target = text.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let does = rules
        .lock()
        .unwrap()
        .iter()
        .find(|(rule, _)| *rule == path)
        .map_or(Does::Pass, |(_, does)| *does);
    seen.lock().unwrap().push(path);
    if does == Does::Refuse {
        let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        let _gone = client.write_all(answer).await;
        return;
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    server.write_all(&head).await.unwrap();
    match does {
        Does::Pass => drop(copy_bidirectional(&mut client, &mut server).await),
        Does::Delay(delay) => {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                late(from_client, to_server, delay),
                late(from_server, to_client, delay)
            );
        }
        Does::Swallow => {
            let mut answer = Vec::new();
            while server.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
                let is_upgrade = answer.starts_with(b"HTTP/1.1 101");
                let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
                if let Some(end) = end.filter(|_| is_upgrade) {
                    let _gone = client.write_all(&answer[..end + 4]).await;
                    answer.clear();
                }
            }
        }
        Does::HangUp => {
            let (mut from_server, mut to_server) = server.split();
            let (mut from_client, _) = client.split();
            let mut answer = Vec::new();
            tokio::select! {
                _ = from_server.read_buf(&mut answer) => {}
                // The body may come behind the head.
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            }
        }
        Does::Refuse => {}
    }
}

/// Hands on what comes, each part after the delay.
async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut parts) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let read = async move {
        let mut part = Vec::new();
        while from.read_buf(&mut part).await.unwrap_or(0) > 0 {
            let due = Instant::now() + delay;
            if sender.send((due, std::mem::take(&mut part))).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, part)) = parts.recv().await {
            sleep_until(due).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

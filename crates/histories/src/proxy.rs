//! A proxy between the clients and the server that delays, stalls, splits and cuts bytes. It knows nothing of what they mean.
//!
//! Clients keep its address while the server behind it ends and begins. Whoever connects while there is no server is refused by RST.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use crate::fault::Way;
use crate::random::Random;

/// What is read at once.
const CHUNK: usize = 16 * 1024;
/// Pieces of one chunk; the rest of it goes as it is. A large message in single bytes would be nothing but a slow network.
const PIECES_MAX: usize = 200;

/// How the network is now.
#[derive(Clone, Copy, Default, Debug)]
pub struct Weather {
    /// Every chunk is late by so much.
    pub delay: Option<Duration>,
    /// Nothing passes in this direction, of so many connections in a hundred.
    pub stall: Option<(Way, u64)>,
    /// Pieces have at most so many bytes.
    pub split: Option<usize>,
}

impl Weather {
    fn stalls(&self, way: Way, number: u64) -> bool {
        self.stall.is_some_and(|(stalled, percent)| {
            (stalled == Way::Both || stalled == way) && is_of(number, percent)
        })
    }
}

/// Whether a connection is one of so many in a hundred.
fn is_of(number: u64, percent: u64) -> bool {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (percent << 32) / 100
}

/// A running proxy. Its connections end with it.
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: Cell<SocketAddr>,
    weather: watch::Sender<Weather>,
    /// How many connections were made.
    opened: watch::Sender<u64>,
    /// Those that are there: what ends them, and whether by RST.
    cuts: RefCell<BTreeMap<u64, watch::Sender<Option<bool>>>>,
}

impl Proxy {
    /// Listens on a free port, before this server.
    ///
    /// # Errors
    /// Of the network.
    pub async fn start(upstream: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Rc::new(Shared {
            upstream: Cell::new(upstream),
            weather: watch::Sender::default(),
            opened: watch::Sender::new(0),
            cuts: RefCell::default(),
        });
        let task = spawn_local(accept(listener, shared.clone()));
        Ok(Proxy {
            address,
            shared,
            task,
        })
    }

    /// The server is there now.
    pub fn turn_to(&self, upstream: SocketAddr) {
        self.shared.upstream.set(upstream);
    }

    /// Changes the weather.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    /// Ends so many in a hundred of the connections. Returns how many.
    pub fn cut(&self, percent: u64, reset: bool) -> usize {
        let cuts = self.shared.cuts.borrow();
        let chosen = cuts.iter().filter(|(number, _)| is_of(**number, percent));
        let ended = chosen.map(|(_, cut)| cut.send_replace(Some(reset)));
        ended.count()
    }

    /// Connections made so far, and those to come.
    pub fn opened(&self) -> watch::Receiver<u64> {
        self.shared.opened.subscribe()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut(100, false);
    }
}

async fn accept(listener: TcpListener, shared: Rc<Shared>) {
    let mut number = 0;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of files, for example: those that are there go on.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        number += 1;
        spawn_local(serve(client, number, shared.clone()));
        shared.opened.send_replace(number);
    }
}

async fn serve(client: TcpStream, number: u64, shared: Rc<Shared>) {
    let (cut, mut cuts) = watch::channel(None);
    shared.cuts.borrow_mut().insert(number, cut);
    let server = tokio::select! {
        server = TcpStream::connect(shared.upstream.get()) => server,
        reset = told(&mut cuts) => {
            reset_if(&client, reset);
            shared.cuts.borrow_mut().remove(&number);
            return;
        }
    };
    match server {
        Ok(server) => pass(client, server, number, &shared, &mut cuts).await,
        Err(_nobody_listens) => reset_if(&client, true),
    }
    shared.cuts.borrow_mut().remove(&number);
}

/// Passes on until both sides have ended, or it is cut.
async fn pass(
    client: TcpStream,
    server: TcpStream,
    number: u64,
    shared: &Shared,
    cuts: &mut watch::Receiver<Option<bool>>,
) {
    for socket in [&client, &server] {
        // What is split must not be put together again. A socket that is gone already will tell when it is read.
        let _told_later = socket.set_nodelay(true);
    }
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let reset = {
        let up = pump(&mut client_in, &mut server_out, Way::Up, number, shared);
        let down = pump(&mut server_in, &mut client_out, Way::Down, number, shared);
        tokio::select! {
            passed = async { tokio::try_join!(up, down) } => passed.is_err(),
            reset = told(cuts) => reset,
        }
    };
    reset_if(client_in.as_ref(), reset);
    reset_if(server_in.as_ref(), reset);
    if reset {
        // Dropping them would say FIN before.
        client_out.forget();
        server_out.forget();
    }
}

/// Waits for a cut, and says whether by RST.
async fn told(cuts: &mut watch::Receiver<Option<bool>>) -> bool {
    match cuts.wait_for(Option::is_some).await {
        Ok(reset) => reset.unwrap_or(false),
        Err(_the_proxy_is_gone) => false,
    }
}

/// Whoever drops the socket now sends RST in place of FIN.
fn reset_if(socket: &TcpStream, reset: bool) {
    if reset {
        let _gone_already = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: Way,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut weather = shared.weather.subscribe();
    let mut random = Random::new(number * 2 + u64::from(way == Way::Up));
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        let now = match weather.wait_for(|weather| !weather.stalls(way, number)).await {
            Ok(now) => *now,
            Err(_the_proxy_is_gone) => return Ok(()),
        };
        if let Some(delay) = now.delay {
            tokio::time::sleep(delay).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..read];
        if let Some(bytes_max) = now.split {
            for _ in 0..PIECES_MAX {
                let length = random.between(1, bytes_max.max(1) as u64) as usize;
                let (piece, behind) = rest.split_at(length.min(rest.len()));
                to.write_all(piece).await?;
                tokio::task::yield_now().await;
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
        }
        to.write_all(rest).await?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test ends where it fails

    use tokio::task::LocalSet;

    use super::*;

    /// A proxy before somebody who sends back what comes.
    async fn before_an_echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn_local(async move {
                    let (mut from, mut to) = stream.split();
                    let _ended = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(address).await.unwrap()
    }

    fn on_a_local_set(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(test));
    }

    #[test]
    fn bytes_are_the_same_in_any_weather() {
        on_a_local_set(async {
            let proxy = before_an_echo().await;
            let said: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
            for weather in [
                Weather::default(),
                Weather {
                    split: Some(3),
                    ..Weather::default()
                },
                Weather {
                    delay: Some(Duration::from_millis(2)),
                    ..Weather::default()
                },
            ] {
                proxy.change(|now| *now = weather);
                let (mut from, mut to) = TcpStream::connect(proxy.address).await.unwrap().into_split();
                let mut heard = vec![0; said.len()];
                let (sent, read) = tokio::join!(to.write_all(&said), from.read_exact(&mut heard));
                assert!(sent.is_ok() && read.is_ok());
                assert_eq!(heard, said, "{weather:?}");
            }
        });
    }

    #[test]
    fn what_is_stalled_comes_when_the_stall_is_over() {
        on_a_local_set(async {
            let proxy = before_an_echo().await;
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            client.write_all(b"a").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'a');
            proxy.change(|weather| weather.stall = Some((Way::Down, 100)));
            client.write_all(b"b").await.unwrap();
            let waited = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
            assert!(waited.is_err());
            proxy.change(|weather| weather.stall = None);
            assert_eq!(client.read_u8().await.unwrap(), b'b');
        });
    }

    #[test]
    fn a_cut_is_fin_or_rst_and_the_next_connection_is_heard_of() {
        on_a_local_set(async {
            let proxy = before_an_echo().await;
            let mut opened = proxy.opened();
            for reset in [false, true] {
                let mut client = TcpStream::connect(proxy.address).await.unwrap();
                opened.changed().await.unwrap();
                client.write_all(b"a").await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'a');
                assert_eq!(proxy.cut(100, reset), 1);
                let end = client.read(&mut [0; 1]).await;
                match reset {
                    false => assert_eq!(end.unwrap(), 0),
                    true => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
                }
                // It is forgotten when its task has ended.
                while proxy.cut(100, false) > 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
}

//! A device: what a client runs on. It can sleep, and its network is the one that does not exist.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use switchboard_client::{Connecting, Duplex, Surroundings};
use tokio::time::Instant;

use crate::book::Book;
use crate::chance::Chance;
use crate::coverage::Mark;
use crate::moving::own;
use crate::net::Network;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Device {
    number: usize,
    network: Network,
    book: Book,
    /// Where its servers are.
    nodes: Arc<[usize]>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    chance: Chance,
    asleep_until: Option<Instant>,
    sleepers: Vec<Waker>,
}

impl Device {
    /// One that is awake.
    pub fn new(number: usize, nodes: usize, network: Network, book: Book, chance: Chance) -> Device {
        Device {
            number,
            network,
            book,
            nodes: (0..nodes).collect(),
            inner: Arc::new(Mutex::new(Inner {
                chance,
                asleep_until: None,
                sleepers: Vec::new(),
            })),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        own(&self.inner)
    }

    /// Sleeps until then, and wakes up.
    pub async fn sleep(&self, until: Instant) {
        self.inner().asleep_until = Some(until);
        self.book.handle_slept(self.number);
        tokio::time::sleep_until(until).await;
        let sleepers = {
            let mut inner = self.inner();
            if inner.asleep_until.is_some_and(|known| known <= until) {
                inner.asleep_until = None;
            }
            std::mem::take(&mut inner.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }
}

/// A task of a device: it stands still while that sleeps.
struct Task {
    device: Device,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut inner = self.device.inner();
            if inner.asleep_until.is_some() {
                inner.sleepers.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.task.as_mut().poll(cx)
    }
}

impl Surroundings for Device {
    fn connect(&self, _host: &str, _port: u16) -> Connecting {
        let device = self.clone();
        Box::pin(async move {
            let connected = device.network.connect(device.number, &device.nodes).await;
            match connected {
                Ok((end, node)) => {
                    device.book.handle_connecting(device.number, node);
                    Ok(Box::new(end) as Box<dyn Duplex>)
                }
                Err(error) => {
                    device.book.marks.see(Mark::ConnectionRefused);
                    Err(error)
                }
            }
        })
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let device = self.clone();
        tokio::spawn(Task { device, task });
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        self.inner().chance.fill(bytes);
        Ok(())
    }
}

//! A broker that takes its time and fails: nothing above it may lean on answers being immediate, or on there being any.
//!
//! The logs are those of the embedded broker, on a thread of their own. Every request waits there for a moment that is
//! different for every channel, so that channels overtake each other while each keeps its order. Some requests fail, an
//! append sometimes after it took effect; some entries are answered before they are told, some told before they are
//! answered; and now and then a watch is lost in the middle.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use switchboard_hub::broker::{BrokerError, Completion, Op, Request};
use switchboard_hub::logs::{Logs, LogsSettings};
use switchboard_hub::settings::Namespaces;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::time::Time;
use switchboard_server::broker::{Broker, Factory, Seat};

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// The longest time that a request waits.
    pub delay_max: Duration,
    /// One request in so many fails; 0: none.
    pub fails_one_in: u64,
    /// One live entry in so many is lost with its watch; 0: none.
    pub interrupts_one_in: u64,
}

impl Temper {
    pub const SLOW: Temper = Temper {
        delay_max: Duration::from_millis(3),
        fails_one_in: 0,
        interrupts_one_in: 0,
    };
    pub const FAILING: Temper = Temper {
        delay_max: Duration::from_millis(3),
        fails_one_in: 7,
        interrupts_one_in: 40,
    };
}

/// See the module.
pub struct Slow {
    requests: Sender<(u64, Request)>,
}

impl Slow {
    /// One that hands its completions to `complete`, on its own thread.
    pub fn new(
        temper: Temper,
        seeds: [u64; 2],
        namespaces: Arc<Namespaces>,
        complete: impl FnMut(Completion) + Send + 'static,
    ) -> Slow {
        let (requests, inbox) = channel();
        std::thread::spawn(move || {
            let [epoch_seed, hash_seed] = seeds;
            let logs = Logs::new(epoch_seed, hash_seed, LogsSettings::default(), namespaces);
            let worker = Worker {
                temper,
                started: Instant::now(),
                random: epoch_seed | 1,
                logs,
                due: BTreeMap::new(),
                latest: HashMap::new(),
                taken: 0,
                complete,
            };
            worker.work(&inbox);
        });
        Slow { requests }
    }

    /// For a server.
    pub fn factory(temper: Temper) -> Factory {
        Arc::new(move |seat: Seat| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (seeds, namespaces) = (seat.seeds, seat.namespaces.clone());
            let complete = move |completion| runtime.block_on(seat.complete(completion));
            Box::new(Slow::new(temper, seeds, namespaces, complete))
        })
    }
}

impl Broker for Slow {
    fn handle_request(
        &mut self,
        _now: Time,
        at_ms: u64,
        request: Request,
        _completions: &mut VecDeque<Completion>,
    ) {
        self.requests.send((at_ms, request)).unwrap();
    }
}

/// The thread behind it.
struct Worker<F> {
    temper: Temper,
    started: Instant,
    random: u64,
    logs: Logs,
    /// By the moment at which they take effect, and their number.
    due: BTreeMap<(Instant, u64), (u64, Request)>,
    /// When the last request of a channel takes effect.
    latest: HashMap<ChannelName, Instant>,
    taken: u64,
    complete: F,
}

impl<F: FnMut(Completion)> Worker<F> {
    /// Until the broker is gone.
    fn work(mut self, inbox: &Receiver<(u64, Request)>) {
        loop {
            let wait = self.due.first_key_value().map(|((due, _), _)| *due);
            let wait = wait.map_or(Duration::from_secs(3_600), |due| {
                due.saturating_duration_since(Instant::now())
            });
            match inbox.recv_timeout(wait) {
                Ok((at_ms, request)) => self.take(at_ms, request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(first) = self.due.first_entry()
                && first.key().0 <= Instant::now()
            {
                let (at_ms, request) = first.remove();
                self.carry_out(at_ms, request);
            }
        }
    }

    fn take(&mut self, at_ms: u64, request: Request) {
        let delay = self.temper.delay_max.as_micros() as u64;
        let moment = Instant::now() + Duration::from_micros(self.draw() % (delay + 1));
        let latest = self.latest.entry(request.channel.clone()).or_insert(moment);
        *latest = moment.max(*latest);
        self.taken += 1;
        self.due.insert((*latest, self.taken), (at_ms, request));
    }

    fn carry_out(&mut self, at_ms: u64, request: Request) {
        let fails = self.one_in(self.temper.fails_one_in);
        let took_effect = matches!(request.op, Op::Append(_)) && self.one_in(2);
        if fails && !took_effect && request.op != Op::Unwatch {
            return (self.complete)(failure(&request));
        }
        let mut completions = VecDeque::new();
        let now = Time::ZERO + self.started.elapsed();
        self.logs
            .handle_request(now, at_ms, request.clone(), &mut completions);
        if fails && request.op != Op::Unwatch {
            for completion in &mut completions {
                if let Completion::Appended { result, .. } = completion {
                    *result = Err(BrokerError::Unavailable);
                }
            }
        }
        // Whether the answer or the entry comes first is left open.
        if completions.len() == 2 && self.one_in(2) {
            completions.swap(0, 1);
        }
        for completion in completions {
            let completion = match completion {
                Completion::Live { ticket, channel, .. } if self.one_in(self.temper.interrupts_one_in) => {
                    self.lose(&request, ticket, channel.clone());
                    Completion::Interrupted { ticket, channel }
                }
                other => other,
            };
            (self.complete)(completion);
        }
    }

    /// Ends a watch without being asked.
    fn lose(&mut self, request: &Request, ticket: switchboard_hub::broker::Ticket, channel: ChannelName) {
        let unwatch = Request {
            ticket,
            channel,
            op: Op::Unwatch,
        };
        debug_assert_eq!(unwatch.channel, request.channel);
        let now = Time::ZERO + self.started.elapsed();
        self.logs.handle_request(now, 0, unwatch, &mut VecDeque::new());
    }

    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.draw().is_multiple_of(count)
    }

    /// The next of a sequence of numbers: xorshift64.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}

fn failure(request: &Request) -> Completion {
    let ticket = request.ticket;
    match request.op {
        Op::Append(_) | Op::Unwatch => Completion::Appended {
            ticket,
            result: Err(BrokerError::Unavailable),
        },
        Op::Read { .. } => Completion::Read {
            ticket,
            result: Err(BrokerError::Unavailable),
        },
        Op::Watch { .. } => Completion::Watching {
            ticket,
            result: Err(BrokerError::Unavailable),
        },
    }
}

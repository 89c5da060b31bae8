use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard_hub::broker::{BrokerError, Op, Request, Ticket};
use switchboard_hub::home::Answer;
use switchboard_hub::log::{Draft, Page, PageStart};
use switchboard_proto::dialect::DialectId;
use switchboard_proto::entry::Entry;
use switchboard_proto::limits::SessionLimits;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::session::server::{Mode, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::{oneshot, watch};

use super::link::LinkGuard;
use super::reader::{Held, Wishes};
use super::*;
use crate::broker::memory::Memory;
use crate::config::Config;
use crate::http::reading::Wish;
use crate::http::site::Site;
use crate::http::{self, Door, Limits, Slot};
use crate::net::Stream;
use switchboard_hub::presence::Listing;
use switchboard_proto::session::places::Places;
use switchboard_proto::session::resume::ResumeKey;

/// The only shard of a process.
fn parts(messages_max: usize) -> Parts {
    let (post, mut mailboxes) = Post::new(1, messages_max, 7);
    Parts {
        id: ShardId(0),
        clock: Clock::start(),
        mailbox: mailboxes.remove(0),
        post,
        settings: Arc::new(Settings {
            limits: SessionLimits::default(),
            anonymous: true,
            resume_key: ResumeKey::new([7; 32]),
            compress_bytes_min: 256,
            compression_level: 1,
        }),
        namespaces: Arc::default(),
        channels_max: 100,
        replays_max: 64,
        presence: PresenceSettings {
            grace: Duration::from_secs(10),
            listing: Listing {
                members_max: 1_000,
                bytes_max: 128 * 1024,
            },
        },
        broker: Arc::new(|seat| Box::new(Memory::new(&seat))),
        stats: Arc::default(),
        seed: [7; 32],
    }
}

fn parts_pinging_every(ping_interval: Duration) -> Parts {
    let parts = parts(64);
    let mut settings = Settings::clone(&parts.settings);
    settings.limits.ping_interval = ping_interval;
    Parts {
        settings: Arc::new(settings),
        ..parts
    }
}

/// As the thread of a shard does. What is waited for in vain is a failure.
fn run(scenario: impl Future<Output = ()>) {
    const SCENARIO: Duration = Duration::from_secs(60);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap()
        .block_on(async { tokio::time::timeout(SCENARIO, scenario).await })
        .unwrap();
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn publish(post: &Post, to: &str, words: &str) -> oneshot::Receiver<Answer> {
    let (sender, answer) = oneshot::channel();
    let publish = Mail::Publish {
        channel: channel(to),
        draft: Draft {
            from: None,
            payload: Payload::text(words),
            key: None,
            conflate: None,
        },
        origin: Origin::Api(sender),
    };
    post.send(ShardId(0), publish).unwrap();
    answer
}

#[test]
fn sockets_get_their_turn_between_two_turns_of_mail() {
    run(async {
        let parts = parts(10 * MAILS_PER_TURN);
        let post = parts.post.clone();
        let (_shard, mail) = Shard::new(parts);
        let mut answers = Vec::new();
        for _ in 0..5 * MAILS_PER_TURN {
            answers.push(publish(&post, "a", ""));
        }
        tokio::task::spawn_local(mail);
        // It waits for its turn as the task of a socket does.
        let socket = tokio::task::spawn_local(async move {
            let answered = answers
                .iter_mut()
                .map(|answer| usize::from(answer.try_recv().is_ok()))
                .sum::<usize>();
            (answered, answers.pop())
        });
        let (answered, last) = socket.await.unwrap();
        assert!(answered <= MAILS_PER_TURN, "{answered} mails in one turn");
        assert!(last.unwrap().await.is_ok(), "the others have theirs");
    });
}

#[test]
fn those_that_are_there_get_their_turn_between_those_that_come_and_these_need_not_wait_for_ever() {
    const COMING: usize = 64;
    /// As of a message to ten thousand.
    const TURN: Duration = Duration::from_millis(50);
    run(async {
        let (shard, _mail) = Shard::new(parts(64));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let coming: Vec<_> = (0..COMING)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let limits = Limits {
            head_bytes_max: 1_024,
            headers_max: 16,
            head_deadline: Duration::from_secs(5),
            body_bytes_max: 1_024,
            body_deadline: Duration::from_secs(5),
            write_stall: Duration::from_secs(5),
            linger: Duration::from_secs(5),
            connections_max: COMING,
        };
        let stats = shard.stats();
        let (_stop, stop) = watch::channel(false);
        let door = Rc::new(Door {
            shard,
            site: Site::new(&Config::default()),
            limits,
            clock: Clock::start(),
            stop,
            visits: Cell::default(),
            open: Arc::default(),
        });
        tokio::task::spawn_local(http::accept(listener, door));
        let mut turns = Vec::new();
        while stats.connections_accepted.value() < COMING as u64 {
            tokio::task::yield_now().await;
            turns.push(stats.connections_accepted.value());
            std::thread::sleep(TURN);
        }
        assert!(turns[0] <= 4, "{turns:?} when the others had their turn");
        // As many as fit into a quarter of a turn.
        assert!(turns.len() <= 3, "{turns:?} when the others had their turn");
        drop(coming);
    });
}

#[test]
fn no_two_of_many_guests_are_the_same_user() {
    let (shard, _mail) = Shard::new(parts(64));
    let guests: BTreeSet<_> = (0..20_000).map(|_| shard.anonymous().0.user).collect();
    assert_eq!(guests.len(), 20_000);
}

/// A session, as its client sees it.
async fn open(shard: &Rc<Shard>, mode: Mode) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (identity, jitter) = shard.anonymous();
    let now = shard.clock.now();
    let session = Session::new(now, mode, identity, None, jitter, &shard.settings());
    let slot = Slot::take(&Arc::default(), 1).unwrap();
    shard.open(Stream::Tcp(server), &[], session, slot);
    client
}

#[test]
fn a_panic_in_one_session_leaves_nothing_to_the_others() {
    run(async {
        let (shard, mail) = Shard::new(parts(64));
        tokio::task::spawn_local(mail);
        let mut other = open(&shard, Mode::Echo).await;
        // Reading for one session, with something said and not sent, and then no further.
        let panicking = shard.clone();
        let guard = LinkGuard {
            shard: shard.clone(),
            link: LinkRef {
                key: u32::MAX,
                generation: 0,
            },
        };
        let panicked = tokio::task::spawn_local(async move {
            let _guard = guard;
            let mut state = panicking.state.borrow_mut();
            state.read_buffer = Vec::new();
            state.shared.replies.extend_from_slice(b"a secret");
            panic!("as if a rule were wrong");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        other.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
        let mut heard = [0; 4];
        other.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x81\x02hi");
    });
}

#[test]
fn what_was_delivered_before_the_stop_comes_before_the_goodbye() {
    run(async {
        let parts = parts(64);
        let post = parts.post.clone();
        let (shard, mail) = Shard::new(parts);
        tokio::task::spawn_local(mail);
        let mut client = open(&shard, Mode::Raw(channel("a"))).await;
        // Two turns: the first one ends with the subscription.
        assert!(publish(&post, "b", "0").await.is_ok());
        let Ok(Answer::Published(head)) = publish(&post, "a", "1").await else {
            panic!("not published")
        };
        let mut heard = [0; 3];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x81\x011");
        // As from a home on another shard, whose publisher has its answer.
        let entry = Entry {
            conflate: None,
            position: Position {
                offset: head.offset + 1,
                ..head
            },
            previous: head.offset,
            at_ms: 0,
            from: None,
            payload: Payload::text("2"),
        };
        let deliver = Mail::Deliver {
            channel: channel("a"),
            after: head,
            entries: [Arc::new(entry)].into(),
        };
        post.send(ShardId(0), deliver).unwrap();
        post.send(ShardId(0), Mail::Stop).unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x81\x012");
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard[0], 0x88, "and then the Close");
    });
}

/// Lets everyone else run who can.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn of_a_wave_larger_than_a_turn_everyone_is_pinged() {
    run(async {
        let (shard, mail) = Shard::new(parts_pinging_every(Duration::from_millis(500)));
        tokio::task::spawn_local(mail);
        let mut quiet = Vec::new();
        for _ in 0..5 * DUE_PER_TURN {
            quiet.push(open(&shard, Mode::Echo).await);
        }
        for mut socket in quiet {
            let mut ping = [0; 2];
            socket.read_exact(&mut ping).await.unwrap();
            assert_eq!(ping, *b"\x89\x00");
        }
    });
}

#[test]
fn who_speaks_during_a_wave_is_answered_before_its_end() {
    run(async {
        let (shard, mail) = Shard::new(parts(64));
        tokio::task::spawn_local(mail);
        let mut busy = open(&shard, Mode::Echo).await;
        settle().await;
        // More turns than the runtime would run one after another without a look at its sockets.
        let gone = LinkRef {
            key: 99,
            generation: 0,
        };
        {
            let mut state = shard.state.borrow_mut();
            state.due = vec![gone; 200 * DUE_PER_TURN];
            state.wake();
        }
        // A text of one byte, masked with zeros.
        busy.write_all(b"\x81\x81\x00\x00\x00\x00!").await.unwrap();
        let mut answer = [0; 3];
        busy.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"\x81\x01!");
        assert!(!shard.state.borrow().due.is_empty(), "the wave was first");
    });
}

#[test]
fn a_shard_never_sleeps_past_a_deadline() {
    run(async {
        let (shard, mail) = Shard::new(parts_pinging_every(Duration::from_millis(10)));
        tokio::task::spawn_local(mail);
        // It sleeps for longer than until the deadline that comes then.
        let slept_until = loop {
            let slept_until = shard.state.borrow().sleeps_until;
            if slept_until > shard.clock.now() + TICK * 3 {
                break slept_until;
            }
            tokio::time::sleep(TICK / 4).await;
        };
        let _client = open(&shard, Mode::Echo).await;
        settle().await;
        let state = shard.state.borrow();
        assert!(state.sleeps_until < slept_until || state.now >= slept_until);
        assert!(state.sleeps_until <= state.wheel.alarm());
    });
}

#[test]
fn a_home_that_could_not_be_told_is_told_at_the_next_tick() {
    run(async {
        let (shard, mail) = Shard::new(parts(64));
        tokio::task::spawn_local(mail);
        settle().await;
        let mail_max = {
            let mut state = shard.state.borrow_mut();
            let mail_max = std::mem::replace(&mut state.mail_max, 0);
            state.leave(channel("left"));
            mail_max
        };
        settle().await;
        {
            let mut state = shard.state.borrow_mut();
            assert!(
                state.sleeps_until <= state.now + TICK,
                "it sleeps as if all was done"
            );
            assert!(!state.leaving.is_empty());
            state.mail_max = mail_max;
        }
        while !shard.state.borrow().leaving.is_empty() {
            tokio::time::sleep(TICK).await;
        }
    });
}

/// A broker that counts how often time is told to it.
struct Counting(Arc<AtomicUsize>);

impl Broker for Counting {
    fn handle_request(&mut self, _: Time, _: u64, _: Request, _: &mut VecDeque<Completion>) {}

    fn handle_timeout(&mut self, _: Time) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn housekeeping_is_not_missed_because_alarms_come_a_little_late() {
    let told = Arc::new(AtomicUsize::new(0));
    let counter = told.clone();
    let (shard, _mail) = Shard::new(Parts {
        broker: Arc::new(move |_| Box::new(Counting(counter.clone()))),
        ..parts(64)
    });
    let mut state = shard.state.borrow_mut();
    for late in [300, 200, 900, 100, 0, 700, 500, 400, 300, 200] {
        state.now = state.wheel.alarm() + Duration::from_micros(late);
        state.handle_tick();
    }
    assert_eq!(told.load(Ordering::Relaxed), 10);
}

/// A broker that refuses the first append it was asked for, when it is looked at again, and takes the others.
struct RefusingTheFirst(Arc<std::sync::Mutex<Vec<Ticket>>>);

impl Broker for RefusingTheFirst {
    fn handle_request(&mut self, _: Time, _: u64, request: Request, _: &mut VecDeque<Completion>) {
        self.0.lock().unwrap().push(request.ticket);
    }

    fn poll(&mut self, _: Time, _: &Clock, completions: &mut VecDeque<Completion>) {
        if let [first] = self.0.lock().unwrap()[..] {
            completions.push_back(Completion::Appended {
                ticket: first,
                result: Err(BrokerError::Unavailable),
            });
        }
    }
}

/// The refusal and what its publisher had said behind it came in one turn, and the second was taken first.
#[test]
fn what_is_said_behind_a_refusal_that_comes_in_the_same_turn_is_refused_too() {
    let asked = Arc::<std::sync::Mutex<Vec<Ticket>>>::default();
    let seen = asked.clone();
    let (shard, _mail) = Shard::new(Parts {
        broker: Arc::new(move |_| Box::new(RefusingTheFirst(seen.clone()))),
        ..parts(64)
    });
    let said = |hold| {
        let origin = Origin::Session {
            shard: ShardId(0),
            link: LinkRef {
                key: 1,
                generation: 1,
            },
            id: None,
            channel: channel("c"),
            asked: mail::Asked::Publish { hold },
        };
        let draft = Draft {
            from: None,
            payload: Payload::text("hi"),
            key: None,
            conflate: None,
        };
        let mail = vec![Mail::Publish {
            channel: channel("c"),
            draft,
            origin,
        }];
        let mut batch = Batch {
            mail,
            completions: Vec::new(),
        };
        shard.turn(Waker::noop(), &mut batch);
        asked.lock().unwrap().len()
    };
    assert_eq!(said(0), 1);
    assert_eq!(said(0), 1, "it would stand before the first, which is said again");
    assert_eq!(said(1), 2, "its publisher knows");
}

/// A broker whose log ends where a subscriber is, though it told of more. It counts how often it is read.
struct TellingTooMuch(Arc<AtomicUsize>);

impl TellingTooMuch {
    fn place(offset: u64) -> Position {
        Position {
            offset,
            ..Position::start(Epoch::of(&channel("a"), 1))
        }
    }
}

impl Broker for TellingTooMuch {
    fn handle_request(&mut self, _: Time, _: u64, request: Request, completions: &mut VecDeque<Completion>) {
        let ticket = request.ticket;
        completions.push_back(match request.op {
            Op::Read { .. } => {
                self.0.fetch_add(1, Ordering::Relaxed);
                let (begin, entries, conflated) = (TellingTooMuch::place(1), Vec::new(), Vec::new());
                let page = Page {
                    start: PageStart::Continues,
                    begin,
                    entries,
                    conflated,
                    position: begin,
                    head: begin,
                    more: false,
                };
                let result = Ok(Box::new(page));
                Completion::Read { ticket, result }
            }
            _ => {
                let result = Ok(TellingTooMuch::place(2));
                Completion::Watching { ticket, result }
            }
        });
    }
}

/// It was read again at once, for ever, and the core did nothing else.
#[test]
fn a_log_that_is_shorter_than_was_told_is_read_again_at_the_next_tick() {
    run(async {
        let began = std::time::Instant::now();
        let reads = Arc::new(AtomicUsize::new(0));
        let counter = reads.clone();
        let (shard, mail) = Shard::new(Parts {
            broker: Arc::new(move |_| Box::new(TellingTooMuch(counter.clone()))),
            ..parts(64)
        });
        tokio::task::spawn_local(mail);
        let mut client = open(&shard, Mode::Native(DialectId::Json)).await;
        let since = TellingTooMuch::place(1);
        let subscribe = format!(r#"{{"type":"subscribe","id":1,"channel":"a","since":"{since}"}}"#);
        let head = [0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0];
        client
            .write_all(&[&head, subscribe.as_bytes()].concat())
            .await
            .unwrap();
        while reads.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let ticks = began.elapsed().as_millis() as usize / TICK.as_millis() as usize;
        let reads = reads.load(Ordering::Relaxed);
        assert!(reads <= 2 + ticks, "{reads} reads in {ticks} ticks");
    });
}

/// A broker that answers what it is told to, when the shard looks at it again.
#[derive(Clone, Default)]
struct Scripted(Arc<std::sync::Mutex<(Vec<Request>, VecDeque<Completion>)>>);

impl Broker for Scripted {
    fn handle_request(&mut self, _: Time, _: u64, request: Request, _: &mut VecDeque<Completion>) {
        self.0.lock().unwrap().0.push(request);
    }

    fn poll(&mut self, _: Time, _: &Clock, completions: &mut VecDeque<Completion>) {
        completions.append(&mut self.0.lock().unwrap().1);
    }
}

impl Scripted {
    /// The next request of this kind.
    async fn asked(&self, is: fn(&Op) -> bool) -> Ticket {
        loop {
            let found = {
                let asked = &mut self.0.lock().unwrap().0;
                let found = asked.iter().position(|request| is(&request.op));
                found.map(|found| asked.remove(found).ticket)
            };
            match found {
                Some(ticket) => return ticket,
                None => tokio::task::yield_now().await,
            }
        }
    }

    async fn answer(&self, post: &Post, completion: Completion) {
        self.0.lock().unwrap().1.push_back(completion);
        // Any mail will do.
        let (channel, shard) = (channel("other"), ShardId(0));
        post.send(shard, Mail::Deaf { channel, shard }).unwrap();
        settle().await;
    }
}

/// The answer to a page that had been asked for before refused the subscription that was being asked for, and it stayed pending:
/// whoever asked again was told `already_subscribed`, for ever.
#[test]
fn a_page_that_is_refused_after_its_reader_left_refuses_nothing_else() {
    run(async {
        let broker = Scripted::default();
        let of_the_shard = broker.clone();
        let parts = Parts {
            broker: Arc::new(move |_| Box::new(of_the_shard.clone())),
            ..parts(64)
        };
        let post = parts.post.clone();
        let (shard, mail) = Shard::new(parts);
        tokio::task::spawn_local(mail);
        let mut client = open(&shard, Mode::Native(DialectId::Json)).await;
        let (since, head) = (TellingTooMuch::place(1), TellingTooMuch::place(2));
        let say = |words: String| {
            let head = [0x81, 0x80 | words.len() as u8, 0, 0, 0, 0];
            [&head, words.as_bytes()].concat()
        };
        let subscribe = |id: u32| {
            say(format!(
                r#"{{"type":"subscribe","id":{id},"channel":"a","since":"{since}"}}"#
            ))
        };
        let is_watch: fn(&Op) -> bool = |op| matches!(op, Op::Watch { .. });
        let is_read: fn(&Op) -> bool = |op| matches!(op, Op::Read { .. });
        let subscribe_first = say(r#"{"type":"subscribe","id":1,"channel":"a"}"#.to_owned());
        client.write_all(&subscribe_first).await.unwrap();
        let ticket = broker.asked(is_watch).await;
        let result = Ok(since);
        broker
            .answer(&post, Completion::Watching { ticket, result })
            .await;
        // It misses something, and is to read it.
        let interrupted = Completion::Interrupted {
            ticket,
            channel: channel("a"),
        };
        broker.answer(&post, interrupted).await;
        let ticket = broker.asked(is_watch).await;
        broker
            .answer(
                &post,
                Completion::Watching {
                    ticket,
                    result: Ok(head),
                },
            )
            .await;
        let first_page = broker.asked(is_read).await;
        let unsubscribe = say(r#"{"type":"unsubscribe","id":2,"channel":"a"}"#.to_owned());
        client.write_all(&unsubscribe).await.unwrap();
        broker.asked(|op| matches!(op, Op::Unwatch)).await;
        client.write_all(&subscribe(3)).await.unwrap();
        let ticket = broker.asked(is_watch).await;
        let refused = Completion::Read {
            ticket: first_page,
            result: Err(BrokerError::Unavailable),
        };
        broker.answer(&post, refused).await;
        broker
            .answer(
                &post,
                Completion::Watching {
                    ticket,
                    result: Ok(head),
                },
            )
            .await;
        let ticket = broker.asked(is_read).await;
        let entry = Entry {
            conflate: None,
            position: head,
            previous: since.offset,
            at_ms: 0,
            from: None,
            payload: Payload::text("it"),
        };
        let page = Page {
            start: PageStart::Continues,
            begin: since,
            entries: vec![Arc::new(entry)],
            conflated: Vec::new(),
            position: head,
            head,
            more: false,
        };
        let result = Ok(Box::new(page));
        broker.answer(&post, Completion::Read { ticket, result }).await;
        let mut heard = String::new();
        while !heard.contains("\"it\"") {
            let mut bytes = [0; 1024];
            let length = client.read(&mut bytes).await.unwrap();
            assert!(length > 0, "closed after {heard}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        assert!(heard.contains(r#""type":"subscribed","id":3"#), "{heard}");
        assert!(!heard.contains("unavailable"), "{heard}");
    });
}

/// Of three polls that were behind at once, where one page at a time is read, the first was given its page and then forgotten: it
/// was answered when its time was over, or when something else came.
#[test]
fn polls_that_have_to_wait_for_a_page_of_others_are_answered_all_the_same() {
    run(async {
        let parts = Parts {
            replays_max: 1,
            ..parts(64)
        };
        let post = parts.post.clone();
        let (shard, mail) = Shard::new(parts);
        tokio::task::spawn_local(mail);
        let names = ["a", "b", "c"];
        let mut places = Vec::new();
        for name in names {
            publish(&post, name, "it").await.unwrap();
            let Answer::Published(head) = publish(&post, name, "it").await.unwrap() else {
                panic!("not published");
            };
            let since = Position { offset: 1, ..head };
            places.push(Places::parse(vec![channel(name)], since.token().as_str()).unwrap());
        }
        let polls: Vec<_> = places.into_iter().map(|places| poll(&shard, places)).collect();
        for poll in polls {
            let events = poll.await.unwrap().events.unwrap();
            let events = String::from_utf8(events).unwrap();
            assert!(events.contains(r#""data":"it""#), "{events}");
        }
    });
}

/// There was room for more, but not for as much as came next: a poll was answered with what it had when its time was over.
#[test]
fn a_poll_for_which_more_comes_than_fits_is_answered_with_what_fits() {
    const OUTBOX_BYTES: usize = 64 * 1024;
    run(async {
        let mut parts = parts(64);
        let mut settings = Settings::clone(&parts.settings);
        settings.limits.outbox_bytes_max = OUTBOX_BYTES;
        parts.settings = Arc::new(settings);
        let post = parts.post.clone();
        let (shard, mail) = Shard::new(parts);
        tokio::task::spawn_local(mail);
        let (little, much) = ("a".repeat(OUTBOX_BYTES / 4), "b".repeat(OUTBOX_BYTES / 20 * 19));
        let channels = || vec![channel("a"), channel("b")];
        let mut begin = Vec::new();
        for name in ["a", "b"] {
            let Answer::Published(at) = publish(&post, name, "").await.unwrap() else {
                panic!("not published");
            };
            begin.push(at.token().as_str().to_owned());
        }
        let begin = Places::parse(channels(), &begin.join(".")).unwrap();
        let what_comes = async |held: Held| {
            let answer = held.await.unwrap();
            let events = String::from_utf8(answer.events.unwrap()).unwrap();
            let is_there = (events.contains(&little), events.contains(&much));
            assert!(is_there.0 != is_there.1, "{is_there:?} in {} bytes", events.len());
            (answer.places, answer.more)
        };
        // While it is held; in one turn, or the first alone would be an answer.
        let held = poll(&shard, begin.clone());
        settle().await;
        let published = (publish(&post, "a", &little), publish(&post, "b", &much));
        let (places, more) = what_comes(held).await;
        assert!(more);
        assert!(published.0.await.is_ok() && published.1.await.is_ok());
        let (_, more) = what_comes(poll(&shard, places)).await;
        assert!(!more);
        // And while it reads.
        let (places, more) = what_comes(poll(&shard, begin)).await;
        assert!(more);
        let (_, more) = what_comes(poll(&shard, places)).await;
        assert!(!more);
    });
}

/// Holds a poll, longer than a scenario may take.
fn poll(shard: &Rc<Shard>, places: Places) -> Held {
    let (identity, _jitter, _) = shard.identity(None);
    let now = shard.clock.now();
    let until = now + Duration::from_secs(600);
    let wishes = Wishes {
        each: places.iter().map(|_| Wish::default()).collect(),
        places: places.clone(),
        introduction: false,
        holds: true,
    };
    let session = Session::poll(now, until, identity, places, &shard.settings());
    shard.poll(session, wishes)
}

//! Who is in a channel: members come and go, others hear of it once and completely, and nobody stays who is gone.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;
use socket2::SockRef;
use support::client::{Client, How, channel};
use support::peer::{Peer, close, handshake, text};
use support::served::{Directory, Served};
use support::{Live, block_on, config, eventually, http, run, run_on_shards};
use switchboard_proto::dialect::notice::{Member, MemberKey, Notice, Who};
use switchboard_proto::dialect::{Command, DialectId};
use switchboard_proto::payload::Payload;
use switchboard_proto::presence::{Attendance, Counts, Role, Which};
use switchboard_server::config::Config;
use switchboard_server::open_files::OpenFiles;

/// Nobody who vanishes is forgotten while a test lasts.
fn patient(config: &mut Config) {
    config.limits.presence_grace = Duration::from_secs(3_600);
}

/// Whoever vanishes is forgotten at once.
fn hasty(config: &mut Config) {
    config.limits.presence_grace = Duration::from_millis(10);
}

/// A native session in JSON that has been welcomed: itself, its session, its user, and what resumes it.
async fn welcomed(live: &Live, connect: &str) -> (Peer, String, String, String) {
    let mut peer = Peer::open(live.public, "/ws").await;
    let welcome = peer.ask(connect, r#"{"type":"welcome",*}"#).await;
    let welcome: Value = serde_json::from_str(&welcome).unwrap();
    let field = |name: &str| welcome[name].as_str().unwrap().to_owned();
    (peer, field("session"), field("user"), field("resume"))
}

const CONNECT: &str = r#"{"type":"connect","id":1}"#;

#[test]
fn members_are_seen_by_those_who_ask_to_see_them() {
    run_on_shards(patient, async |live| {
        let (mut ana, ana_session, ana_user, _) = welcomed(live, CONNECT).await;
        let ana_seen =
            format!(r#"{{"user":"{ana_user}","session":"{ana_session}","info":{{"name":"Ana"}}}}"#);
        ana.ask(
            r#"{"type":"subscribe","id":2,"channel":"room:1","presence":true,"info":{"name":"Ana"}}"#,
            r#"{"type":"subscribed","id":2,"channel":"room:1","offset":0,"position":"*"}"#,
        )
        .await;
        ana.hear(&format!(
            r#"{{"type":"presence","channel":"room:1","members":[{ana_seen}],"count":1,"users":1}}"#
        ))
        .await;
        // The list knew already what is announced a moment later.
        ana.hear(&format!(
            r#"{{"type":"presence","channel":"room:1","joined":[{ana_seen}],"count":1,"users":1}}"#
        ))
        .await;

        // Who only hears is not seen, and sees who is there.
        let (mut ben, ..) = welcomed(live, CONNECT).await;
        ben.ask(
            r#"{"type":"subscribe","id":2,"channel":"room:1","presence":"watch"}"#,
            r#"{"type":"subscribed",*}"#,
        )
        .await;
        ben.hear(&format!(
            r#"{{"type":"presence","channel":"room:1","members":[{ana_seen}],"count":1,"users":1}}"#
        ))
        .await;
        ana.hears_nothing().await;

        // Who is only there hears nothing.
        let (mut eve, eve_session, eve_user, _) = welcomed(live, CONNECT).await;
        let eve_seen = format!(r#"{{"user":"{eve_user}","session":"{eve_session}"}}"#);
        eve.ask(
            r#"{"type":"subscribe","id":2,"channel":"room:1","presence":"member"}"#,
            r#"{"type":"subscribed",*}"#,
        )
        .await;
        let joined =
            format!(r#"{{"type":"presence","channel":"room:1","joined":[{eve_seen}],"count":2,"users":2}}"#);
        ana.hear(&joined).await;
        ben.hear(&joined).await;
        eve.hears_nothing().await;

        // Who subscribes without presence is not there.
        let (mut dan, ..) = welcomed(live, CONNECT).await;
        dan.ask(
            r#"{"type":"subscribe","id":2,"channel":"room:1"}"#,
            r#"{"type":"subscribed",*}"#,
        )
        .await;
        dan.ask(
            r#"{"type":"members","id":3,"channel":"room:1","limit":0}"#,
            r#"{"type":"members","id":3,"channel":"room:1","members":[],"count":2,"users":2}"#,
        )
        .await;

        eve.ask(
            r#"{"type":"unsubscribe","id":3,"channel":"room:1"}"#,
            r#"{"type":"unsubscribed",*}"#,
        )
        .await;
        let left =
            format!(r#"{{"type":"presence","channel":"room:1","left":[{eve_seen}],"count":1,"users":1}}"#);
        ana.hear(&left).await;
        ben.hear(&left).await;
        ben.ask(
            r#"{"type":"unsubscribe","id":3,"channel":"room:1"}"#,
            r#"{"type":"unsubscribed",*}"#,
        )
        .await;
        ana.ask(
            r#"{"type":"unsubscribe","id":3,"channel":"room:1"}"#,
            r#"{"type":"unsubscribed",*}"#,
        )
        .await;
        ben.hears_nothing().await;
    });
}

#[test]
fn who_says_goodbye_leaves_at_once_and_who_vanishes_after_the_grace_period() {
    let grace = |config: &mut Config| config.limits.presence_grace = Duration::from_millis(1_500);
    run_on_shards(grace, async |live| {
        let mut watcher = Client::connect(live).await;
        watcher.attend("a", Role::Watcher, None).await;
        let mut fold = Fold::default();
        for code in [1000, 1001] {
            let (mut peer, ..) = welcomed(live, CONNECT).await;
            peer.ask(
                r#"{"type":"subscribe","id":2,"channel":"a","presence":true}"#,
                r#"{"type":"subscribed",*}"#,
            )
            .await;
            fold.until(&mut watcher, 1).await;
            let began = std::time::Instant::now();
            peer.send(close(code)).await;
            peer.until_end().await;
            fold.until(&mut watcher, 0).await;
            // Not a bound on how long it takes: nothing is forgotten before its time.
            let is_early = began.elapsed() < Duration::from_millis(1_500);
            assert!(
                code == 1000 || !is_early,
                "{code} left before the grace period was over"
            );
        }
    });
}

#[test]
fn a_reconnect_is_not_seen() {
    run_on_shards(patient, async |live| {
        let mut watcher = Client::connect(live).await;
        watcher.attend("a", Role::Watcher, None).await;
        let (mut ana, session, user, resume) = welcomed(live, CONNECT).await;
        let subscribe = r#"{"type":"subscribe","id":2,"channel":"a","presence":true,"info":{"n":1}}"#;
        ana.ask(subscribe, r#"{"type":"subscribed",*}"#).await;
        let mut fold = Fold::default();
        fold.until(&mut watcher, 1).await;
        for _ in 0..3 {
            drop(ana);
            let connect = format!(r#"{{"type":"connect","id":1,"resume":"{resume}"}}"#);
            let (again, again_session, again_user, _) = welcomed(live, &connect).await;
            assert_eq!((&again_session, &again_user), (&session, &user));
            ana = again;
            ana.ask(subscribe, r#"{"type":"subscribed",*}"#).await;
            ana.hear(r#"{"type":"presence","channel":"a","members":[*],"count":1,"users":1}"#)
                .await;
        }
        // Both of its connections at once, and the older one goes.
        let connect = format!(r#"{{"type":"connect","id":1,"resume":"{resume}"}}"#);
        let (mut second, ..) = welcomed(live, &connect).await;
        second.ask(subscribe, r#"{"type":"subscribed",*}"#).await;
        ana.send(close(1000)).await;
        ana.until_end().await;
        second
            .ask(
                r#"{"type":"members","id":3,"channel":"a"}"#,
                // What the second hears of the beginning comes before.
                r#"{"type":"presence",*}"#,
            )
            .await;
        second
            .hear(&format!(
                r#"{{"type":"members","id":3,"channel":"a","members":[{{"user":"{user}","session":"{session}","info":{{"n":1}}}}],"count":1,"users":1}}"#
            ))
            .await;
        // A new info is news; all that came before was none.
        let third = r#"{"type":"subscribe","id":2,"channel":"a","presence":"member","info":{"n":2}}"#;
        let (mut third_peer, ..) = welcomed(live, &connect).await;
        third_peer.ask(third, r#"{"type":"subscribed",*}"#).await;
        match fold.next(&mut watcher).await {
            Who::Changed { joined, left } => {
                let infos: Vec<_> = joined.iter().map(|member| member.info.clone().unwrap()).collect();
                assert_eq!(infos, [Payload::json(r#"{"n":2}"#).unwrap()]);
                assert_eq!(left, []);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn nobody_is_left_whose_connection_is_gone() {
    const CLIENTS: usize = 120;
    run_on_shards(hasty, async |live| {
        let mut watcher = Client::connect(live).await;
        watcher.attend("crowd", Role::Watcher, None).await;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let mut client = Client::connect(live).await;
            client.attend("crowd", Role::Member, None).await;
            // Some are in a second channel, of another home perhaps.
            if number % 3 == 0 {
                client
                    .attend(&format!("corner:{}", number % 7), Role::Participant, None)
                    .await;
            }
            clients.push(client);
        }
        let mut fold = Fold::default();
        fold.until(&mut watcher, CLIENTS as u32).await;
        clients.truncate(CLIENTS / 2);
        fold.until(&mut watcher, CLIENTS as u32 / 2).await;
        assert_eq!(fold.members, everyone(live, "crowd").await);
        drop(clients);
        fold.until(&mut watcher, 0).await;
        for corner in 0..7 {
            eventually("a corner is empty", async || {
                everyone(live, &format!("corner:{corner}"))
                    .await
                    .is_empty()
                    .then_some(())
            })
            .await;
        }
        eventually("no member is counted", async || {
            (live.count(|shard| &shard.presence_members) == 0).then_some(())
        })
        .await;
    });
}

#[test]
fn beyond_the_bound_there_are_counts_and_pages() {
    let listed = |config: &mut Config| {
        patient(config);
        config.limits.presence_listed_max = 20;
    };
    run_on_shards(listed, async |live| {
        let mut watcher = Client::connect(live).await;
        watcher.attend("crowd", Role::Watcher, None).await;
        let mut fold = Fold::default();
        let mut clients = Vec::new();
        for _ in 0..50 {
            let mut client = Client::connect(live).await;
            client.attend("crowd", Role::Member, Some(r#"{"x":1}"#)).await;
            clients.push(client);
        }
        fold.until(&mut watcher, 50).await;
        assert!(fold.is_unlisted, "fifty are too many to be listed");
        let mut latecomer = Client::connect(live).await;
        latecomer.attend("crowd", Role::Watcher, None).await;
        let mut late = Fold::default();
        assert_eq!(late.next(&mut latecomer).await, Who::Unlisted);

        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = latecomer.members("crowd", Which::After(after), Some(20)).await;
            assert_eq!(
                page.counts,
                Counts {
                    members: 50,
                    users: 50
                }
            );
            seen.extend(page.members.into_iter().map(|member| member.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 50);
        assert!(seen.is_sorted_by(|one, other| one.user <= other.user));
        seen.dedup();
        assert_eq!(seen.len(), 50);
        let sample = latecomer.members("crowd", Which::Sample, Some(7)).await;
        let mut sampled: Vec<_> = sample.members.into_iter().map(|member| member.key).collect();
        sampled.sort();
        sampled.dedup();
        assert_eq!((sampled.len(), sample.next), (7, None));
        assert!(sampled.iter().all(|key| seen.contains(key)));

        // Few again: the list is back, whole.
        for client in &mut clients[5..] {
            leave(client, "crowd").await;
        }
        fold.until(&mut watcher, 5).await;
        assert!(!fold.is_unlisted);
        assert_eq!(fold.members, everyone(live, "crowd").await);
        late.until(&mut latecomer, 5).await;
        assert_eq!(late.members, fold.members);
    });
}

/// More than this process may have connections: they come in waves and vanish, and nobody is forgotten meanwhile.
#[test]
fn twenty_thousand_are_in_one_channel() {
    const MEMBERS: u32 = 20_000;
    const WAVE: u32 = 500;
    let mut config = config(2);
    patient(&mut config);
    OpenFiles::raise();
    run(&config, async |live| {
        let mut watcher = Client::connect(live).await;
        watcher.attend("crowd", Role::Watcher, None).await;
        let mut fold = Fold::default();
        let join = text(
            r#"{"type":"subscribe","id":1,"channel":"crowd","presence":"member","info":{"name":"somebody"}}"#,
        );
        let join = [format!("{}\r\n", handshake("/ws")).as_bytes(), &join].concat();
        for _ in 0..MEMBERS / WAVE {
            let mut peers = Vec::new();
            for _ in 0..WAVE {
                let mut peer = Peer::connect(live.public).await;
                peer.send(&join).await;
                // Gone without a word.
                let at_once = Some(Duration::ZERO);
                SockRef::from(&peer.stream).set_linger(at_once).unwrap();
                peers.push(peer);
            }
            for peer in &mut peers {
                peer.answer().await.expect(101);
                peer.hear(r#"{"type":"subscribed",*}"#).await;
            }
        }
        fold.until(&mut watcher, MEMBERS).await;
        eventually("all connections are gone", async || {
            (live.sessions() == 1).then_some(())
        })
        .await;
        let heard = live.count(|shard| &shard.presence_events);
        assert!(heard < u64::from(MEMBERS) / 50, "{heard} events for one watcher");

        let (mut seen, mut after) = (BTreeSet::new(), None);
        loop {
            let page = watcher.members("crowd", Which::After(after), Some(1_000)).await;
            assert_eq!(page.counts.members, MEMBERS);
            seen.extend(page.members.into_iter().map(|member| member.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len() as u32, MEMBERS);
        let sample = watcher.members("crowd", Which::Sample, Some(100)).await;
        let sample: BTreeSet<_> = sample.members.into_iter().map(|member| member.key).collect();
        assert_eq!(sample.len(), 100);
        assert!(sample.is_subset(&seen));
    });
}

#[test]
fn who_does_not_read_is_told_the_whole_list_later() {
    run_on_shards(patient, async |live| {
        let how = How {
            dialect: Some(DialectId::Msgpack),
            receive_bytes: Some(4 * 1024),
            ..How::default()
        };
        let mut slow = Client::connect_with(live, how).await;
        slow.attend("room", Role::Watcher, None).await;
        let mut clients = Vec::new();
        let mut publisher = Client::connect(live).await;
        let mut fold = Fold::default();
        fold.next(&mut slow).await;
        // Every buffer on the way is full.
        while live.count(|shard| &shard.deliveries_refused) == 0 {
            publisher.publish("room", Payload::text("x".repeat(30_000))).await;
        }
        // More of it than what is left of an outbox that took no more messages.
        for round in 0..100 {
            let mut client = Client::connect(live).await;
            let info = format!(r#"{{"about":"{}","n":{round}}}"#, "x".repeat(900));
            client.attend("room", Role::Member, Some(&info)).await;
            clients.push(client);
            if round % 4 == 3 {
                leave(&mut clients[round / 2], "room").await;
            }
            // Announcements are apart.
            if round % 25 == 0 {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        fold.settle(live, &mut slow, "room", 75).await;
        assert!(
            live.count(|shard| &shard.presence_resyncs) > 0,
            "it had missed something, or this shows nothing"
        );
    });
}

#[test]
fn whatever_members_do_everybody_who_hears_ends_with_the_same_list() {
    const STEPS: usize = 400;
    const CHANNELS: [&str; 3] = ["a", "b", "c"];
    for (shards, mailbox) in [(1, 4_096), (4, 4_096), (4, 8)] {
        let mut config = config(shards);
        hasty(&mut config);
        config.limits.presence_listed_max = 12;
        config.limits.mailbox_messages_max = mailbox;
        run(&config, async |live| {
            let mut random = ChaCha8Rng::seed_from_u64(shards as u64 + mailbox as u64);
            let mut watchers = Vec::new();
            for channel in CHANNELS.into_iter().cycle().take(12) {
                let mut watcher = Client::connect(live).await;
                insist_on_attending(&mut watcher, channel, Role::Watcher).await;
                watchers.push((channel, watcher, Fold::default()));
            }
            let mut clients: Vec<Option<(Client, Vec<&str>)>> = (0..24).map(|_| None).collect();
            for _ in 0..STEPS {
                let number = random.next_u32() as usize % clients.len();
                let channel = CHANNELS[random.next_u32() as usize % CHANNELS.len()];
                match &mut clients[number] {
                    None => clients[number] = Some((Client::connect(live).await, Vec::new())),
                    Some(_) if random.next_u32() % 8 == 0 => clients[number] = None,
                    Some((client, joined)) => match joined.iter().position(|known| *known == channel) {
                        Some(found) => {
                            joined.remove(found);
                            leave(client, channel).await;
                        }
                        None => {
                            joined.push(channel);
                            insist_on_attending(client, channel, Role::Member).await;
                        }
                    },
                }
            }
            for (name, watcher, fold) in &mut watchers {
                let expected = clients.iter().flatten();
                let expected = expected.filter(|(_, joined)| joined.contains(name)).count() as u32;
                fold.settle(live, watcher, name, expected).await;
                assert!(
                    !fold.is_unlisted || expected > 10,
                    "{name}: {expected} can be listed"
                );
            }
            for client in clients.iter_mut().flatten() {
                for channel in std::mem::take(&mut client.1) {
                    leave(&mut client.0, channel).await;
                }
            }
            for (_, watcher, fold) in &mut watchers {
                fold.until(watcher, 0).await;
            }
        });
    }
}

#[test]
fn who_is_not_let_in_is_not_there() {
    let full = |config: &mut Config| {
        patient(config);
        config.limits.channels_max = 1;
    };
    run_on_shards(full, async |live| {
        let mut refused = 0;
        let mut client = Client::connect(live).await;
        for number in 0..40 {
            let name = format!("c:{number}");
            let id = client.id();
            client.say(&[attend(id, &name, Role::Participant)]).await.unwrap();
            match client.answer(id).await {
                Notice::Subscribed { .. } => continue,
                Notice::Error { code, .. } => assert_eq!(code, "too_many_channels"),
                other => panic!("{other:?}"),
            }
            refused += 1;
            let members = client.members(&name, Which::After(None), None).await;
            assert_eq!(members.counts, Counts::default(), "{name}");
        }
        assert!(refused > 30, "{refused}");
        drop(client);
    });
}

#[test]
fn the_api_says_who_is_there() {
    run_on_shards(patient, async |live| {
        let (mut ana, session, user, _) = welcomed(live, CONNECT).await;
        ana.ask(
            r#"{"type":"subscribe","id":2,"channel":"room:1","presence":"member","info":{"n":1}}"#,
            r#"{"type":"subscribed",*}"#,
        )
        .await;
        let get = async |query: &str| http::get(live.internal, &format!("/api/v1/presence?{query}")).await;
        let answer = get("channel=room:1").await.expect(200);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.body,
            format!(
                r#"{{"type":"members","channel":"room:1","members":[{{"user":"{user}","session":"{session}","info":{{"n":1}}}}],"count":1,"users":1}}"#
            )
        );
        let counts = get("channel=room:1&limit=0").await.expect(200);
        assert!(
            counts.body.contains(r#""members":[],"count":1"#),
            "{}",
            counts.body
        );
        let sample = get("channel=room:1&sample=true").await.expect(200);
        assert!(sample.body.contains(&session), "{}", sample.body);
        let nobody = get("channel=nowhere").await.expect(200);
        assert!(
            nobody.body.contains(r#""members":[],"count":0,"users":0}"#),
            "{}",
            nobody.body
        );
        for query in [
            "",
            "channel=a::b",
            "channel=a&after=ana",
            "channel=a&limit=-1",
            "channel=a&after=mAAAAAAAAAAE&sample=true",
        ] {
            let refused = get(query).await.expect(400);
            assert!(
                refused.body.contains(r#""code":"bad_"#),
                "{query}: {}",
                refused.body
            );
        }
    });
}

#[test]
fn what_resumes_a_session_outlives_a_restart_with_a_data_directory() {
    let directory = Directory::new();
    block_on(async {
        let served = Served::start(&directory.0, &[]);
        let (_ana, session, user, resume) = welcomed(&served.live(), CONNECT).await;
        served.kill();
        let connect = format!(r#"{{"type":"connect","id":1,"resume":"{resume}"}}"#);
        let served = Served::start(&directory.0, &[]);
        let (_ana, again_session, again_user, _) = welcomed(&served.live(), &connect).await;
        assert_eq!((&again_session, &again_user), (&session, &user));
        served.kill();

        // Another server knows nothing of it.
        let elsewhere = Directory::new();
        let served = Served::start(&elsewhere.0, &[]);
        let (_new, new_session, new_user, _) = welcomed(&served.live(), &connect).await;
        assert!(new_session != session && new_user != user);
        served.kill();
    });
}

fn attend(id: u64, to: &str, role: Role) -> Command {
    Command::Subscribe {
        id: Some(id),
        channel: channel(to),
        since: None,
        latest: false,
        presence: Some(Attendance { role, info: None }),
    }
}

/// Again and again where a mailbox is full.
async fn insist_on_attending(client: &mut Client, to: &str, role: Role) {
    loop {
        let id = client.id();
        client.say(&[attend(id, to, role)]).await.unwrap();
        match client.answer(id).await {
            Notice::Subscribed { .. } => return,
            Notice::Error { code, .. } => assert_eq!(code, "overloaded"),
            other => panic!("{other:?}"),
        }
    }
}

async fn leave(client: &mut Client, from: &str) {
    let id = client.id();
    let command = Command::Unsubscribe {
        id: Some(id),
        channel: channel(from),
    };
    client.say(&[command]).await.unwrap();
    match client.answer(id).await {
        Notice::Unsubscribed { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// Who is there as the API says.
async fn everyone(live: &Live, channel: &str) -> BTreeMap<MemberKey, Option<Payload>> {
    let target = format!("/api/v1/presence?channel={channel}&limit=1000");
    let answer = http::get(live.internal, &target).await.expect(200);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    let members = answer["members"].as_array().unwrap().iter();
    members
        .map(|member| {
            let text = |key: &str| member[key].as_str().unwrap().to_owned();
            let key = MemberKey {
                user: text("user"),
                session: text("session"),
            };
            let info = member
                .get("info")
                .map(|info| Payload::json(&info.to_string()).unwrap());
            (key, info)
        })
        .collect()
}

/// What a client makes of the events of a channel.
#[derive(Default)]
struct Fold {
    members: BTreeMap<MemberKey, Option<Payload>>,
    is_unlisted: bool,
    counts: Option<Counts>,
}

impl Fold {
    /// The next event.
    async fn next(&mut self, client: &mut Client) -> Who {
        loop {
            let Notice::Presence { counts, who, .. } = client.hear().await else {
                continue;
            };
            let mut upsert = |members: &[Member]| {
                for member in members {
                    self.members.insert(member.key.clone(), member.info.clone());
                }
            };
            match &who {
                Who::Changed { joined, left } => {
                    assert!(!self.is_unlisted && self.counts.is_some(), "a change of no list");
                    upsert(joined);
                    for key in left {
                        // A list that was made meanwhile may know it.
                        self.members.remove(key);
                    }
                }
                Who::All(members) => {
                    self.members.clear();
                    for member in members {
                        self.members.insert(member.key.clone(), member.info.clone());
                    }
                }
                Who::Unlisted => self.members.clear(),
            }
            self.is_unlisted = who == Who::Unlisted;
            self.counts = Some(counts);
            if !self.is_unlisted {
                assert_eq!(counts.members as usize, self.members.len(), "after {who:?}");
            }
            return who;
        }
    }

    /// Reads until it is what the API says, when that says so many.
    async fn settle(&mut self, live: &Live, client: &mut Client, channel: &str, members: u32) {
        let everyone = eventually("who vanished is forgotten", async || {
            let everyone = everyone(live, channel).await;
            (everyone.len() as u32 == members).then_some(everyone)
        })
        .await;
        let is_there = |fold: &Fold| {
            fold.counts.is_some_and(|counts| counts.members == members)
                && (fold.is_unlisted || fold.members == everyone)
        };
        while !is_there(self) {
            self.next(client).await;
        }
    }

    /// Reads until there are so many.
    async fn until(&mut self, client: &mut Client, members: u32) {
        while self.counts.is_none_or(|counts| counts.members != members) {
            self.next(client).await;
        }
    }
}

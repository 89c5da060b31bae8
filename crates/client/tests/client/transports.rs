//! By event stream and by polls: the same as by WebSocket.

use std::time::Duration;

use switchboard_client::{
    Builder, Client, ConnectError, Event, Payload, Publication, ReadError, Role, State, SubscribeError,
    SubscribeOptions, Subscription, Transport, Who,
};
use switchboard_proto::limits::Rate;
use switchboard_server::config::OnLag;
use tokio::time::timeout;

use crate::middlebox::{Does, Middlebox};
use crate::real::{Real, message};

const BY_HTTP: [Transport; 2] = [Transport::EventStream, Transport::Poll];
const SOON: Duration = Duration::from_secs(20);

fn eager(url: &str) -> Builder {
    let (base, cap) = (Duration::from_millis(10), Duration::from_millis(50));
    Client::builder(url).backoff(base, cap)
}

async fn texts(room: &mut Subscription, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let message = timeout(SOON, message(room)).await.unwrap();
        texts.push(message.payload.as_str().unwrap().to_owned());
    }
    texts
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

async fn publish(client: &Client, channel: &str, range: std::ops::Range<u32>) {
    for number in range {
        client.publish(channel, number.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn a_conversation() {
    let server = Real::start();
    for transport in BY_HTTP {
        let url = server.at("/ws");
        let client = Client::builder(&url)
            .transports([transport])
            .connect()
            .await
            .unwrap();
        assert_eq!((client.transport(), &*client.session()), (transport, ""));
        let channel = format!("room:{transport}");
        let mut room = client.subscribe(&channel).await.unwrap();
        assert_ne!(&*client.session(), "");
        publish(&client, &channel, 0..5).await;
        assert_eq!(texts(&mut room, 5).await, numbers(0..5));
        // A second channel, which makes the first one's request anew.
        let mut other = client.subscribe("room:other").await.unwrap();
        publish(&client, &channel, 5..9).await;
        publish(&client, "room:other", 0..3).await;
        assert_eq!(texts(&mut other, 3).await, numbers(0..3));
        assert_eq!(texts(&mut room, 4).await, numbers(5..9));

        let bytes = client.publish(&channel, vec![0, 255]).await.unwrap();
        let json = Payload::json(r#"{"a": 1.50}"#).unwrap();
        let once = || Publication::from(json.clone()).key("k").unwrap();
        let first = client.publish(&channel, once()).await.unwrap();
        assert_eq!(client.publish(&channel, once()).await.unwrap(), first);
        let got = message(&mut room).await;
        assert_eq!((got.position, got.payload.as_bytes()), (bytes, &[0, 255][..]));
        let got = message(&mut room).await;
        assert_eq!((got.payload, got.from.as_deref()), (json, Some(&*client.user())));

        let refused =
            |error: &ReadError| matches!(error, ReadError::Refused(refusal) if refusal.code == "unsupported");
        let error = client
            .history(&channel, switchboard_client::Range::Newest, None)
            .await;
        assert!(refused(error.as_ref().unwrap_err()), "{error:?}");
        // What was left can be had again, from where it was.
        let left = room.position();
        drop(room);
        publish(&client, &channel, 9..11).await;
        let options = SubscribeOptions::new().since(left);
        let mut room = client.subscribe_with(&channel, options).await.unwrap();
        assert_eq!(room.recovered(), Some(true));
        assert_eq!(texts(&mut room, 2).await, numbers(9..11));
        client.close().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_goes_on_where_it_was() {
    let server = Real::start();
    for transport in BY_HTTP {
        let middlebox = Middlebox::before(server.address).await;
        let client = eager(&middlebox.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let channel = format!("room:{transport}");
        let mut room = client.subscribe(&channel).await.unwrap();
        let (session, publisher) = (client.session(), server.client().await);
        for round in 0..5 {
            publish(&publisher, &channel, round * 10..round * 10 + 5).await;
            middlebox.cut();
            publish(&publisher, &channel, round * 10 + 5..round * 10 + 10).await;
            assert_eq!(texts(&mut room, 10).await, numbers(round * 10..round * 10 + 10));
        }
        assert_eq!(client.session(), session);
        // What is said while there is nothing waits, in its order, and comes once.
        middlebox.rule("/publish", Does::HangUp);
        middlebox.cut();
        let receipts = [client.send(&channel, "a").await, client.send(&channel, "b").await];
        while middlebox.seen().iter().filter(|path| *path == "/publish").count() < 3 {
            tokio::task::yield_now().await;
        }
        middlebox.rule("/publish", Does::Pass);
        for receipt in receipts {
            timeout(SOON, receipt.unwrap()).await.unwrap().unwrap();
        }
        client.publish(&channel, "c").await.unwrap();
        assert_eq!(texts(&mut room, 3).await, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn where_websocket_is_blocked_the_next_transport_is_taken_and_left_again() {
    let server = Real::start();
    for (websocket, sse, works) in [
        (Does::Refuse, Does::Pass, Transport::EventStream),
        (Does::Swallow, Does::Pass, Transport::EventStream),
        (Does::Refuse, Does::Refuse, Transport::Poll),
        (Does::Swallow, Does::Swallow, Transport::Poll),
    ] {
        let middlebox = Middlebox::before(server.address).await;
        middlebox.rule("/ws", websocket);
        middlebox.rule("/sse", sse);
        let client = eager(&middlebox.url())
            .connect_timeout(Duration::from_millis(500))
            .upgrade_after(Duration::from_millis(300))
            .connect()
            .await
            .unwrap();
        let mut room = timeout(SOON, client.subscribe("room:1")).await.unwrap().unwrap();
        assert_eq!(client.transport(), works, "{:?}", middlebox.seen());
        client.publish("room:1", "before").await.unwrap();
        assert_eq!(texts(&mut room, 1).await, ["before"]);
        let session = client.session();

        middlebox.rule("/ws", Does::Pass);
        while client.transport() != Transport::WebSocket {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client.publish("room:1", "after").await.unwrap();
        assert_eq!(texts(&mut room, 1).await, ["after"]);
        assert_eq!((client.session(), client.state()), (session, State::Open));
        client.close().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_for_a_moment_is_no_reason_for_another_transport() {
    let server = Real::start();
    let middlebox = Middlebox::before(server.address).await;
    let client = eager(&middlebox.url()).connect().await.unwrap();
    let mut room = client.subscribe("room:1").await.unwrap();
    middlebox.rule("/ws", Does::Refuse);
    middlebox.cut();
    while middlebox.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    middlebox.rule("/ws", Does::Pass);
    client.publish("room:1", "x").await.unwrap();
    assert_eq!(texts(&mut room, 1).await, ["x"]);
    assert_eq!(client.transport(), Transport::WebSocket);
    assert!(
        middlebox.seen().iter().all(|path| path == "/ws"),
        "{:?}",
        middlebox.seen()
    );
}

#[tokio::test]
async fn what_is_wrong_in_one_channel_leaves_the_others_alone() {
    let server = Real::start();
    for transport in BY_HTTP {
        let client = Client::builder(&server.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let mut rooms = Vec::new();
        for number in 0..5 {
            rooms.push(client.subscribe(&format!("room:{number}")).await.unwrap());
        }
        // A position of another channel.
        let since = client.publish("room:0", "x").await.unwrap();
        let options = SubscribeOptions::new().since(since);
        let bad = timeout(SOON, client.subscribe_with("room:bad", options))
            .await
            .unwrap();
        let SubscribeError::Refused(refusal) = bad.unwrap_err() else {
            panic!("not refused");
        };
        assert_eq!(refusal.code, "bad_position");
        for (number, room) in rooms.iter_mut().enumerate() {
            let text = format!("to {number}");
            client
                .publish(&format!("room:{number}"), text.as_str())
                .await
                .unwrap();
            let mut got = texts(room, 1).await;
            if number == 0 {
                got = texts(room, 1).await;
            }
            assert_eq!(got, [text]);
        }
    }
}

#[tokio::test]
async fn one_request_reads_channels_with_different_wishes() {
    let server = Real::start();
    for transport in BY_HTTP {
        let middlebox = Middlebox::before(server.address).await;
        let client = Client::builder(&middlebox.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let name = |name: &str| format!("{transport}:{name}");
        let info = Payload::json(r#"{"name":"Ana & Bö"}"#).unwrap();
        let there = || {
            SubscribeOptions::new()
                .presence(Role::Participant)
                .info(info.clone())
                .unwrap()
        };
        let wishes = [
            ("plain", SubscribeOptions::new()),
            ("there", there()),
            ("ticker", SubscribeOptions::new().latest()),
            ("both", there().latest()),
            ("too", there()),
        ];
        let mut rooms = Vec::new();
        for (channel, options) in wishes {
            rooms.push(client.subscribe_with(&name(channel), options).await.unwrap());
        }
        let session = client.session();
        for room in &mut rooms {
            let channel = room.channel().as_str().to_owned();
            client.publish(&channel, channel.as_str()).await.unwrap();
            let mut members = Vec::new();
            loop {
                match timeout(SOON, room.next()).await.unwrap().unwrap().unwrap() {
                    Event::Message(message) => {
                        assert_eq!(message.payload.as_str(), Some(&*channel));
                        break;
                    }
                    Event::Presence {
                        who: Who::All(all), ..
                    } => members = all,
                    Event::Presence {
                        who: Who::Changed { joined, .. },
                        ..
                    } => members.extend(joined),
                    other => panic!("{other:?}"),
                }
            }
            // The list may come behind the message.
            let hears = ["there", "both", "too"]
                .iter()
                .any(|heard| channel == name(heard));
            while hears && members.iter().all(|member| member.key.session != *session) {
                let event = timeout(SOON, room.next()).await.unwrap().unwrap().unwrap();
                if let Event::Presence {
                    who: Who::All(all) | Who::Changed { joined: all, .. },
                    ..
                } = event
                {
                    members = all;
                }
            }
            assert!(hears || members.is_empty(), "{channel}: {members:?}");
            assert!(members.iter().all(|member| member.info.as_ref() == Some(&info)));
        }
    }
}

#[tokio::test]
async fn more_channels_than_one_request_reads() {
    let server = Real::start();
    for transport in BY_HTTP {
        let client = Client::builder(&server.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let names: Vec<String> = (0..130).map(|number| format!("{transport}:{number}")).collect();
        let subscribing: Vec<_> = names
            .iter()
            .map(|name| {
                let (client, name) = (client.clone(), name.clone());
                tokio::spawn(async move { client.subscribe(&name).await.unwrap() })
            })
            .collect();
        let mut rooms = Vec::new();
        for subscribing in subscribing {
            rooms.push(timeout(SOON, subscribing).await.unwrap().unwrap());
        }
        let publisher = server.client().await;
        for name in &names {
            publisher.publish(name, name.as_str()).await.unwrap();
        }
        for (name, room) in names.iter().zip(&mut rooms) {
            assert_eq!(texts(room, 1).await, [name.as_str()]);
        }
    }
}

#[tokio::test]
async fn members_are_seen_and_go_on_being_there() {
    let server = Real::start();
    for transport in BY_HTTP {
        let channel = format!("room:{transport}");
        let watcher = server.client().await;
        let watching = SubscribeOptions::new().presence(Role::Watcher);
        let mut watched = watcher.subscribe_with(&channel, watching).await.unwrap();
        let middlebox = Middlebox::before(server.address).await;
        let client = eager(&middlebox.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let info = Payload::json(r#"{"name":"Ana & Bö"}"#).unwrap();
        let there = SubscribeOptions::new()
            .presence(Role::Participant)
            .info(info.clone())
            .unwrap();
        let mut room = client.subscribe_with(&channel, there).await.unwrap();
        // Who is there, as both see it.
        let session = client.session();
        for room in [&mut room, &mut watched] {
            loop {
                let Some(Ok(Event::Presence { who, .. })) = timeout(SOON, room.next()).await.unwrap() else {
                    panic!("no presence");
                };
                let members = match who {
                    Who::All(members) => members,
                    Who::Changed { joined, .. } => joined,
                    Who::Unlisted => panic!("unlisted"),
                };
                if let Some(member) = members.iter().find(|member| member.key.session == *session) {
                    assert_eq!(member.info.as_ref(), Some(&info));
                    break;
                }
            }
        }
        // Cut off, it is there all the same: nothing is seen of it.
        middlebox.cut();
        client.publish(&channel, "x").await.unwrap();
        let next = timeout(SOON, watched.next()).await.unwrap();
        assert!(matches!(next, Some(Ok(Event::Message(_)))), "{next:?}");
        drop(room);
        client.close().await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_what_is_missing() {
    let server = Real::with(|config| {
        config.limits.session.outbox_bytes_max = 64 * 1024;
        config.limits.session.commands = Rate::UNLIMITED;
        config.limits.session.inbound_bytes = Rate::UNLIMITED;
        config.channels.on_lag = OnLag::Drop;
    });
    let client = Client::builder(&server.url())
        .transports([Transport::EventStream])
        .subscription_buffer(1)
        .connect()
        .await
        .unwrap();
    let mut room = client.subscribe("room:1").await.unwrap();
    let publisher = server.client().await;
    let text = "x".repeat(50_000);
    for _ in 0..200 {
        publisher.publish("room:1", text.as_str()).await.unwrap();
    }
    let (mut last, mut missing) = (0, 0);
    while last < 200 {
        match timeout(SOON, room.next()).await.unwrap() {
            Some(Ok(Event::Message(message))) => {
                assert_eq!(message.position.offset, last + 1);
                last += 1;
            }
            Some(Ok(Event::Gap { from, to, .. })) => {
                assert_eq!(from, last + 1);
                (last, missing) = (to, missing + to - last);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(missing > 0, "nothing was missing");
}

#[tokio::test]
async fn a_server_that_stops_is_found_again() {
    for transport in BY_HTTP {
        let server = Real::start();
        let client = eager(&server.url())
            .transports([transport])
            .connect()
            .await
            .unwrap();
        let _room = client.subscribe("room:1").await.unwrap();
        server.stop().await;
        let state = timeout(SOON, client.state_other_than(&State::Open))
            .await
            .unwrap();
        assert!(
            matches!(state, State::Waiting { .. } | State::Connecting { .. }),
            "{state:?}"
        );
        client.close().await;
    }
}

#[tokio::test]
async fn what_is_no_switchboard_is_recognised() {
    let port = crate::fake::Port::open().await;
    for transport in BY_HTTP {
        let builder = Client::builder(&port.url()).transports([transport]);
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
        let (_stream, error) = tokio::join!(port.answer(page), builder.connect());
        assert!(error.unwrap_err().to_string().contains("no Switchboard"));
        let page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
        let (_stream, error) = tokio::join!(port.answer(page), builder.connect());
        assert!(matches!(
            error.unwrap_err(),
            ConnectError::Refused { status: 404, .. }
        ));
    }
}

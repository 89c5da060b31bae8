//! A connection that is lost is made again, and everything goes on where it was.

use std::time::Duration;

use serde_json::Value;
use switchboard_client::{
    Client, End, Event, Position, Publication, PublishError, Range, State, SubscribeError, SubscribeOptions,
};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::position::Epoch;
use tokio::time::Instant;

use crate::fake::{Fake, Port};
use crate::real::{Real, message};

/// The place of this offset.
fn at(offset: u64) -> Position {
    Position {
        epoch: Epoch::of(&ChannelName::parse("room:1").unwrap(), 5),
        offset,
        tag: offset as u32,
    }
}

fn said(offset: u64, data: &str) -> String {
    let position = at(offset);
    format!(
        r#"{{"type":"message","channel":"room:1","offset":{offset},"position":"{position}","data":"{data}","at":1}}"#
    )
}

impl Fake {
    async fn subscribed_at(&mut self, subscribe: &Value, offset: u64, recovered: &str) {
        let position = at(offset);
        self.say(&format!(
            r#"{{"type":"subscribed","id":{},"channel":"room:1","offset":{offset},"position":"{position}"{recovered}}}"#,
            subscribe["id"]
        ))
        .await;
    }
}

async fn eager(port: &Port) -> (Fake, Client) {
    let builder = port.eager();
    let (fake, client) = tokio::join!(Fake::welcome(port), builder.connect());
    (fake, client.unwrap())
}

#[tokio::test]
async fn a_subscription_goes_on_where_it_was_on_the_next_connection() {
    let port = Port::open().await;
    let (mut fake, client) = eager(&port).await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), async {
        let subscribe = fake.hear_type("subscribe").await;
        assert!(subscribe.get("since").is_none());
        fake.subscribed_at(&subscribe, 3, "").await;
    });
    let mut room = room.unwrap();
    fake.say(&said(4, "four")).await;
    assert_eq!(message(&mut room).await.position, at(4));
    drop(fake);

    let mut fake = Fake::welcome(&port).await;
    let subscribe = fake.hear_type("subscribe").await;
    assert_eq!(subscribe["since"], at(4).to_string());
    fake.subscribed_at(&subscribe, 4, r#","recovered":true"#).await;
    // What it has got before is not shown again.
    for offset in [4, 5] {
        fake.say(&said(offset, "again")).await;
    }
    assert_eq!(message(&mut room).await.position, at(5));
    drop(fake);

    let mut fake = Fake::welcome(&port).await;
    let subscribe = fake.hear_type("subscribe").await;
    assert_eq!(subscribe["since"], at(5).to_string());
    fake.subscribed_at(&subscribe, 5, r#","recovered":false"#).await;
    fake.say(&format!(
        r#"{{"type":"gap","channel":"room:1","from":6,"to":9,"position":"{}"}}"#,
        at(9)
    ))
    .await;
    assert_eq!(
        room.next().await,
        Some(Ok(Event::Gap {
            from: 6,
            to: 9,
            position: at(9),
            conflated: false
        }))
    );
    assert_eq!(room.position(), at(9));
}

#[tokio::test]
async fn how_it_was_subscribed_to_is_remembered() {
    let port = Port::open().await;
    let (mut fake, client) = eager(&port).await;
    let options = SubscribeOptions::new().since(at(2)).latest();
    let (room, ()) = tokio::join!(client.subscribe_with("room:1", options.clone()), async {
        let subscribe = fake.hear_type("subscribe").await;
        assert_eq!(
            (&subscribe["since"], &subscribe["latest"]),
            (&Value::from(at(2).to_string()), &Value::from(true))
        );
        fake.subscribed_at(&subscribe, 2, r#","recovered":true"#).await;
    });
    assert_eq!(room.unwrap().recovered(), Some(true));
    let (room, ()) = tokio::join!(client.subscribe_with("room:2", options), async {
        // The end of the one and the beginning of the other, in whatever order.
        for _ in 0..2 {
            fake.hear().await;
        }
        drop(fake);
        let mut fake = Fake::welcome(&port).await;
        let subscribe = fake.hear_type("subscribe").await;
        assert_eq!(
            (&subscribe["channel"], &subscribe["latest"]),
            (&Value::from("room:2"), &Value::from(true)),
            "what was dropped is forgotten, what was asked is asked again"
        );
        fake.subscribed(&subscribe).await;
    });
    room.unwrap();
}

#[tokio::test]
async fn what_was_not_answered_is_said_again_in_its_order_and_with_its_key() {
    let port = Port::open().await;
    let (mut fake, client) = eager(&port).await;
    let first = client.send("room:1", "first").await.unwrap();
    let own = Publication::from("second").key("mine").unwrap();
    let second = client.send("room:1", own).await.unwrap();
    let mut before = Vec::new();
    for _ in 0..2 {
        before.push(fake.hear_type("publish").await);
    }
    assert!(before[0]["key"].is_string(), "it has got one");
    assert_eq!(before[1]["key"], "mine");
    drop(fake);

    // While there is no connection, what is asked waits.
    let State::Waiting { .. } = client.state_other_than(&State::Open).await else {
        panic!("{:?}", client.state());
    };
    let third = client.send("room:1", "third").await.unwrap();
    let history = tokio::spawn({
        let client = client.clone();
        async move { client.history("room:1", Range::Newest, None).await }
    });
    tokio::task::yield_now().await;
    let mut fake = Fake::welcome(&port).await;
    for (number, expected) in ["first", "second", "third"].into_iter().enumerate() {
        let publish = fake.hear_type("publish").await;
        assert_eq!(publish["data"], expected);
        if let Some(before) = before.get(number) {
            assert_eq!(publish["key"], before["key"]);
        }
        let (id, position) = (&publish["id"], at(number as u64 + 1));
        fake.say(&format!(
            r#"{{"type":"published","id":{id},"offset":{},"position":"{position}"}}"#,
            number + 1
        ))
        .await;
    }
    let asked = fake.hear_type("history").await;
    fake.say(&format!(
        r#"{{"type":"history","id":{},"channel":"room:1","messages":[],"position":"{}","more":false}}"#,
        asked["id"],
        at(3)
    ))
    .await;
    for (number, receipt) in [first, second, third].into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap(), at(number as u64 + 1));
    }
    assert_eq!(history.await.unwrap().unwrap().position, at(3));
}

#[tokio::test]
async fn without_a_key_a_publication_whose_answer_was_lost_is_not_said_again() {
    let port = Port::open().await;
    let builder = port.eager().idempotent(false);
    let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let (mut fake, client) = (fake, client.unwrap());
    let receipt = client.send("room:1", "x").await.unwrap();
    let publish = fake.hear_type("publish").await;
    assert!(publish.get("key").is_none());
    drop(fake);
    let lost = receipt.await;
    assert!(
        matches!(lost, Err(PublishError::Unanswered(End::Lost(_)))),
        "{lost:?}"
    );
    let mut fake = Fake::welcome(&port).await;
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        fake.answer_ping(&ping).await;
    });
    pinged.unwrap();
}

#[tokio::test]
async fn only_the_message_that_was_too_large_is_not_sent_again() {
    let server = Real::start();
    let soon = Duration::from_millis(5);
    let builder = Client::builder(&server.url()).compression(false);
    let client = builder.backoff(soon, soon).connect().await.unwrap();
    let texts = ["a".repeat(60 * 1024), "b".repeat(65 * 1024), "c".to_owned()];
    let mut receipts = Vec::new();
    for text in texts {
        receipts.push(client.send("room:1", text).await.unwrap());
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        match receipt.await {
            Ok(_) => assert_ne!(number, 1),
            Err(PublishError::Refused(refusal)) => {
                assert_eq!((number, &*refusal.code), (1, "message_too_big"));
            }
            other => panic!("{other:?}"),
        }
    }
    client.publish("room:1", "small").await.unwrap();
}

#[tokio::test]
async fn waits_grow_are_random_from_the_first_and_obey_the_server() {
    let port = Port::open().await;
    let (base, cap) = (Duration::from_millis(40), Duration::from_millis(80));
    let builder = port.builder().reconnect(true).backoff(base, cap);
    let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let client = client.unwrap();
    drop(fake);
    let mut known = State::Open;
    let mut waits = Vec::new();
    while waits.len() < 6 {
        let state = client.state_other_than(&known).await;
        if let State::Waiting { attempt, until, .. } = &state {
            let wait = until.saturating_duration_since(Instant::now());
            assert!(wait <= cap, "{wait:?}");
            assert!(*attempt > 1 || wait <= base, "{wait:?}");
            waits.push((*attempt, *until));
        }
        if let State::Connecting { .. } = &state {
            drop(port.accept().await);
        }
        known = state;
    }
    let attempts: Vec<_> = waits.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6]);
    client.close().await;

    // A server that says goodbye says when to come back, which takes the place of the first wait.
    let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let (mut fake, client) = (fake, client.unwrap());
    fake.say(r#"{"type":"goodbye","code":1001,"reason":"stopping","retry_after_ms":30000}"#)
        .await;
    fake.close(1001, "stopping").await;
    match client.state_other_than(&State::Open).await {
        State::Waiting { until, why, .. } => {
            assert!(until > Instant::now() + Duration::from_secs(20));
            assert!(why.contains("1001"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.close().await, End::ClosedHere, "while it waits");
}

#[tokio::test]
async fn who_may_not_enter_any_more_stops() {
    let port = Port::open().await;
    let (mut fake, client) = eager(&port).await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let receipt = client.send("room:1", "x").await.unwrap();
    fake.hear_type("publish").await;
    drop(fake);
    // Whatever stands before a server that is replaced answers anything.
    for answer in [
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nsoon",
    ] {
        port.answer(answer.as_bytes()).await;
    }
    port.answer(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let end = client.closed().await;
    assert!(matches!(end, End::Refused(..)), "{end:?}");
    assert!(end.to_string().contains("401"), "{end}");
    assert_eq!(room.unwrap().next().await, Some(Err(end.clone())));
    assert!(matches!(receipt.await, Err(PublishError::Unanswered(why)) if why == end));

    let (mut fake, client) = eager(&port).await;
    fake.say(r#"{"type":"error","code":"unauthorized","message":"Not you."}"#)
        .await;
    fake.close(4401, "unauthorized").await;
    assert_eq!(
        client.closed().await.to_string(),
        "closed by the server with code 4401: Not you."
    );
}

#[tokio::test]
async fn a_subscription_that_cannot_be_had_again_ends_with_the_reason_and_the_others_go_on() {
    let port = Port::open().await;
    let (mut fake, client) = eager(&port).await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let (other, ()) = tokio::join!(client.subscribe("room:2"), fake.answer_subscribe("room:2"));
    let (mut room, _other) = (room.unwrap(), other.unwrap());
    drop(fake);
    let mut fake = Fake::welcome(&port).await;
    for _ in 0..2 {
        let subscribe = fake.hear_type("subscribe").await;
        let id = &subscribe["id"];
        let code = match subscribe["channel"] == "room:1" {
            true => r#""code":"too_many_subscriptions","message":"Enough.""#,
            false => r#""code":"overloaded","message":"Later.","retry_after_ms":5"#,
        };
        fake.say(&format!(r#"{{"type":"error","id":{id},{code}}}"#)).await;
    }
    match room.next().await {
        Some(Err(End::Unsubscribed(refusal))) => assert_eq!(refusal.code, "too_many_subscriptions"),
        other => panic!("{other:?}"),
    }
    assert_eq!(room.next().await, None);
    let again = fake.hear_type("subscribe").await;
    assert_eq!(
        again["channel"], "room:2",
        "what may be had later is asked for again"
    );
}

#[tokio::test]
async fn closing_while_there_is_no_connection_answers_everyone() {
    let port = Port::open().await;
    let (fake, client) = eager(&port).await;
    drop((fake, port));
    client.state_other_than(&State::Open).await;
    let publishing = client.send("room:1", "x").await.unwrap();
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("room:1").await }
    });
    tokio::task::yield_now().await;
    assert_eq!(client.close().await, End::ClosedHere);
    assert!(matches!(
        publishing.await,
        Err(PublishError::NotSent(End::ClosedHere))
    ));
    assert_eq!(
        subscribing.await.unwrap().unwrap_err(),
        SubscribeError::Ended(End::ClosedHere)
    );

    // Nobody holds it any more: nothing is tried any longer.
    let port = Port::open().await;
    let (fake, client) = eager(&port).await;
    drop((fake, client));
    let waited = tokio::time::timeout(Duration::from_millis(300), port.accept()).await;
    assert!(waited.is_err(), "nobody connects");
}

/// One that takes its time loses nothing of what it had been given before the connection was lost.
#[tokio::test]
async fn a_full_buffer_outlives_the_connection() {
    let port = Port::open().await;
    let builder = port.eager().subscription_buffer(2);
    let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let (mut fake, client) = (fake, client.unwrap());
    let (room, ()) = tokio::join!(client.subscribe("room:1"), async {
        let subscribe = fake.hear_type("subscribe").await;
        fake.subscribed_at(&subscribe, 0, "").await;
    });
    let mut room = room.unwrap();
    for offset in 1..=4 {
        fake.say(&said(offset, "x")).await;
    }
    assert_eq!(message(&mut room).await.position, at(1));
    drop(fake);
    let mut got = Vec::new();
    let mut since = None;
    while got.len() < 4 {
        tokio::select! {
            next = room.next() => match next {
                Some(Ok(Event::Message(message))) => got.push(message.position.offset),
                other => panic!("{other:?}"),
            },
            mut fake = Fake::welcome(&port), if since.is_none() => {
                let subscribe = fake.hear_type("subscribe").await;
                let from: Position = Position::parse(subscribe["since"].as_str().unwrap()).unwrap();
                since = Some(from.offset);
                fake.subscribed_at(&subscribe, from.offset, r#","recovered":true"#).await;
                for offset in from.offset + 1..=5 {
                    fake.say(&said(offset, "x")).await;
                }
                std::mem::forget(fake);
            }
        }
    }
    assert_eq!(got, [2, 3, 4, 5]);
}

//! Consumers that do not keep up: nothing is lost, and nothing piles up here.

use switchboard_client::{Client, End, Event, Position, Subscription};
use tokio::io::AsyncWriteExt as _;

use crate::fake::{Fake, Port, START};
use crate::real::{Real, message};

#[tokio::test]
async fn a_slow_consumer_loses_nothing() {
    const MESSAGES: usize = 2_000;
    let server = Real::generous();
    let builder = Client::builder(&server.url()).subscription_buffer(4);
    let slow = builder.compression(false).connect().await.unwrap();
    let first = slow.subscribe("room:1").await.unwrap();
    let second = slow.subscribe("room:2").await.unwrap();
    let publisher = server.client().await;
    let padding = "x".repeat(2_000);
    let mut receipts = Vec::new();
    for number in 0..MESSAGES {
        for channel in ["room:1", "room:2"] {
            let text = format!("{number} {padding}");
            receipts.push(publisher.send(channel, text).await.unwrap());
        }
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    // Only now does anybody take anything: 8 MB of messages, 8 of which have room.
    let take_all = async |mut room: Subscription| {
        for number in 0..MESSAGES {
            let message = message(&mut room).await;
            let text = message.payload.as_str().unwrap();
            assert!(text.starts_with(&format!("{number} ")), "{number}: {text:.20}");
            assert_eq!(message.position.offset as usize, number + 1);
        }
    };
    tokio::join!(take_all(first), take_all(second));
    slow.ping().await.unwrap();
}

/// A client whose one subscription has room for one event, and a server that has filled everything up to the socket. Returns how
/// many messages that took.
async fn stuffed() -> (Fake, Client, Subscription, usize) {
    let port = Port::open().await;
    let builder = port.builder().subscription_buffer(1);
    let (mut fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let client = client.unwrap();
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let data = "x".repeat(60_000);
    let message = |offset| {
        let start = Position::parse(START).unwrap();
        let position = Position { offset, ..start };
        format!(
            r#"{{"type":"message","channel":"room:1","offset":{offset},"position":"{position}","data":"{data}","at":1}}"#
        )
    };
    let messages = fake.stuff(message).await;
    (fake, client, room.unwrap(), messages)
}

#[tokio::test]
async fn a_full_buffer_stops_the_reading_and_an_empty_one_lets_it_go_on() {
    let (mut fake, client, mut room, messages) = stuffed().await;
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        let saying = fake.answer_ping(&ping);
        let taking = async {
            for _ in 0..messages {
                assert_eq!(message(&mut room).await.payload.len(), 60_000);
            }
        };
        tokio::join!(saying, taking);
    });
    pinged.unwrap();
}

#[tokio::test]
async fn a_subscription_that_is_dropped_holds_nothing_up() {
    let (mut fake, client, room, _) = stuffed().await;
    drop(room);
    fake.hear_type("unsubscribe").await;
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        fake.answer_ping(&ping).await;
    });
    pinged.unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_a_consumer_that_takes_nothing() {
    let (mut fake, client, mut room, _) = stuffed().await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    assert_eq!(fake.hear().await, "close Some(1000)");
    fake.stream.shutdown().await.unwrap();
    assert_eq!(closing.await.unwrap(), End::ClosedHere);
    assert!(
        matches!(room.next().await, Some(Ok(Event::Message(_)))),
        "what had found room"
    );
    assert_eq!(room.next().await, Some(Err(End::ClosedHere)));
}

/// Whoever went on from the position of the last event had lost what was dropped before it.
#[tokio::test]
async fn behind_what_is_dropped_while_closing_nothing_comes() {
    let port = Port::open().await;
    let builder = port.builder().subscription_buffer(2);
    let (mut fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let client = client.unwrap();
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let mut room = room.unwrap();
    let said = |offset| {
        let start = Position::parse(START).unwrap();
        let position = Position { offset, ..start };
        format!(
            r#"{{"type":"message","channel":"room:1","offset":{offset},"position":"{position}","data":"hi","at":1}}"#
        )
    };
    // Two have room, the third waits for some.
    for offset in 1..=3 {
        fake.say(&said(offset)).await;
    }
    let receipt = client.send("room:1", "not answered yet").await.unwrap();
    let publish = fake.hear_type("publish").await;
    let closing = tokio::spawn(async move { client.close().await });
    // The answer is awaited, the reader is not: the third is dropped.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    for offset in 1..=2 {
        assert_eq!(message(&mut room).await.position.offset, offset);
    }
    fake.say(&said(4)).await;
    fake.say(&format!(
        r#"{{"type":"published","id":{},"offset":5,"position":"{START}"}}"#,
        publish["id"]
    ))
    .await;
    receipt.await.unwrap();
    fake.answer_close().await;
    fake.stream.shutdown().await.unwrap();
    assert!(matches!(room.next().await, Some(Err(End::ClosedHere))));
    assert_eq!(closing.await.unwrap(), End::ClosedHere);
}

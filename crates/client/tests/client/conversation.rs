//! Publishing, receiving, history: what the protocol says, in both notations.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use switchboard_client::{
    Client, Dialect, ErrorCode, Payload, PayloadKind, Position, Publication, PublishError, Range, ReadError,
    State, SubscribeError, SubscribeOptions, Which,
};
use switchboard_proto::limits::Rate;

use crate::real::{Real, message};

/// Both notations, with and without compression.
async fn each_way(server: &Real) -> Vec<Client> {
    let mut clients = Vec::new();
    for dialect in [Dialect::Json, Dialect::MessagePack] {
        for compression in [true, false] {
            let builder = Client::builder(&server.url());
            let builder = builder.dialect(dialect).compression(compression);
            clients.push(builder.connect().await.unwrap());
        }
    }
    clients
}

#[tokio::test]
async fn what_one_publishes_all_receive_in_order() {
    let server = Real::start();
    let clients = each_way(&server).await;
    let mut rooms = Vec::new();
    for client in &clients {
        rooms.push(client.subscribe("room:42").await.unwrap());
    }
    let mut published = Vec::new();
    for number in 0..20 {
        let publisher = &clients[number % clients.len()];
        let text = format!("message {number} {}", "with more to compress ".repeat(20));
        let position = publisher.publish("room:42", text.as_str()).await.unwrap();
        published.push((position, text, publisher.user().to_owned()));
    }
    for room in &mut rooms {
        for (position, text, user) in &published {
            let message = message(room).await;
            assert_eq!(
                (
                    message.position,
                    message.payload.as_str(),
                    message.from.as_deref()
                ),
                (*position, Some(text.as_str()), Some(&**user))
            );
            assert_eq!(room.position(), *position);
        }
    }
}

#[tokio::test]
async fn every_kind_of_payload_arrives_as_it_is() {
    let server = Real::start();
    let clients = each_way(&server).await;
    let payloads = [
        Payload::text(""),
        Payload::text("räume \"😀\"\n\u{0}"),
        Payload::json(r#"{"b":[1,2.5,null],"a":"x"}"#).unwrap(),
        Payload::json("null").unwrap(),
        Payload::json("17").unwrap(),
        Payload::bytes(vec![]),
        Payload::bytes((0..=255).collect::<Vec<u8>>()),
    ];
    for publisher in &clients {
        for subscriber in &clients {
            let mut room = subscriber.subscribe("room:1").await.unwrap();
            for payload in &payloads {
                publisher.publish("room:1", payload.clone()).await.unwrap();
                assert_eq!(&message(&mut room).await.payload, payload);
            }
        }
    }
}

#[tokio::test]
async fn values_go_as_json_and_come_back() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Chat {
        text: String,
        tags: Vec<u8>,
    }
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let chat = Chat {
        text: "hi".to_owned(),
        tags: vec![1, 2],
    };
    client.publish_json("room:1", &chat).await.unwrap();
    let received = message(&mut room).await.payload;
    assert_eq!(received.as_str(), Some(r#"{"text":"hi","tags":[1,2]}"#));
    assert_eq!(received.decode::<Chat>().unwrap(), chat);

    client.publish_json("room:1", "a string").await.unwrap();
    let received = message(&mut room).await.payload;
    assert_eq!(received.kind(), PayloadKind::Text);
    assert_eq!(received.decode::<String>().unwrap(), "a string");

    let unwritable = HashMap::from([(vec![1u8], 1)]);
    let error = client.publish_json("room:1", &unwritable).await.unwrap_err();
    assert!(matches!(error, PublishError::Unwritable(_)), "{error}");
}

#[tokio::test]
async fn a_payload_of_blanks_is_taken_although_it_could_be_compressed_a_thousand_times() {
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let blanks = " ".repeat(60_000);
    client.publish("room:1", blanks.as_str()).await.unwrap();
    assert_eq!(message(&mut room).await.payload.as_str(), Some(blanks.as_str()));
}

#[tokio::test]
async fn history_is_read_page_by_page() {
    let server = Real::start();
    let client = server.client().await;
    let start = client.subscribe("room:1").await.unwrap().position();
    let mut published = Vec::new();
    for number in 0..7 {
        published.push(client.publish("room:1", format!("{number}")).await.unwrap());
    }
    let newest = client.history("room:1", Range::Newest, Some(2)).await.unwrap();
    assert_eq!(positions(&newest.messages), published[5..]);
    assert!(!newest.more);

    let (mut since, mut read) = (start, Vec::new());
    loop {
        let page = client
            .history("room:1", Range::After(since), Some(3))
            .await
            .unwrap();
        assert_eq!((page.gap, page.reset), (None, false));
        read.extend(positions(&page.messages));
        since = page.position;
        if !page.more {
            break;
        }
    }
    assert_eq!(read, published);
}

fn positions(messages: &[switchboard_client::Message]) -> Vec<Position> {
    messages.iter().map(|message| message.position).collect()
}

#[tokio::test]
async fn history_says_what_the_log_no_longer_holds() {
    let server = Real::with(|config| config.channels.log_messages_max = 3);
    let client = server.client().await;
    let first = client.publish("room:1", "1").await.unwrap();
    for _ in 0..5 {
        client.publish("room:1", "more").await.unwrap();
    }
    let page = client.history("room:1", Range::After(first), None).await.unwrap();
    assert_eq!(page.gap, Some((2, 3)));
    assert_eq!(page.messages.len(), 3);

    let elsewhere = client.publish("room:2", "1").await.unwrap();
    let foreign = client.history("room:1", Range::After(elsewhere), None).await;
    let Err(ReadError::Refused(refusal)) = foreign else {
        panic!("{foreign:?}")
    };
    assert_eq!(refusal.error_code(), Some(ErrorCode::BadPosition));
}

#[tokio::test]
async fn a_key_makes_the_second_publication_the_first() {
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let once = Publication::from("once").key("c1-1").unwrap();
    let first = client.publish("room:1", once.clone()).await.unwrap();
    let again = client.publish("room:1", once).await.unwrap();
    assert_eq!(again, first);
    client.publish("room:1", "next").await.unwrap();
    assert_eq!(message(&mut room).await.position, first);
    assert_eq!(message(&mut room).await.payload.as_str(), Some("next"));
    assert!(Publication::from("x").key("").is_err());
    assert!(Publication::from("x").key(&"k".repeat(129)).is_err());
}

#[tokio::test]
async fn what_is_sent_without_waiting_arrives_in_order() {
    let server = Real::generous();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let sending = async {
        let mut receipts = Vec::new();
        for number in 0..3_000 {
            receipts.push(client.send("room:1", format!("{number}")).await.unwrap());
        }
        let mut offsets = Vec::new();
        for receipt in receipts {
            offsets.push(receipt.await.unwrap().offset);
        }
        offsets
    };
    let receiving = async {
        for number in 0..3_000 {
            let text = message(&mut room).await.payload;
            assert_eq!(text.as_str(), Some(format!("{number}").as_str()));
        }
    };
    let (offsets, ()) = tokio::join!(sending, receiving);
    assert_eq!(offsets, (1..=3_000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn clones_publish_at_once_from_many_tasks() {
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..20 {
                    let text = format!("{task} {number}");
                    client.publish("room:1", text).await.unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 8];
    for _ in 0..8 * 20 {
        let payload = message(&mut room).await.payload;
        let (task, number) = payload.as_str().unwrap().split_once(' ').unwrap();
        let task: usize = task.parse().unwrap();
        assert_eq!(number, format!("{}", next[task]), "each in its own order");
        next[task] += 1;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(next, [20; 8]);
}

#[tokio::test]
async fn who_we_are_and_how_far_away() {
    let server = Real::start();
    let patient = Client::builder(&server.url()).connect_timeout(std::time::Duration::MAX);
    let (ana, ben) = (patient.connect().await.unwrap(), server.client().await);
    assert!(ana.user().starts_with("guest-") && ana.session().starts_with("s_"));
    assert_ne!(ana.session(), ben.session());
    assert_eq!(ana.clone().session(), ana.session());
    ana.ping().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_the_connection_goes_on() {
    let server = Real::with(|config| config.limits.session.subscriptions_max = 1);
    let client = server.client().await;
    for channel in ["", "room:", "a b", "room:*", &"x".repeat(256)] {
        let subscribed = client.subscribe(channel).await;
        assert!(
            matches!(subscribed, Err(SubscribeError::BadChannel(_))),
            "{channel:?}"
        );
        let published = client.publish(channel, "x").await;
        assert!(
            matches!(published, Err(PublishError::BadChannel(_))),
            "{channel:?}"
        );
        let history = client.history(channel, Range::Newest, None).await;
        assert!(matches!(history, Err(ReadError::BadChannel(_))), "{channel:?}");
    }
    let _room = client.subscribe("room:1").await.unwrap();
    match client.subscribe("room:2").await {
        Err(SubscribeError::Refused(refusal)) => {
            assert_eq!(refusal.error_code(), Some(ErrorCode::TooManySubscriptions));
            assert!(!refusal.is_retryable());
        }
        other => panic!("{other:?}"),
    }
    client.publish("room:1", "still here").await.unwrap();
}

#[tokio::test]
async fn too_much_at_once_is_refused_with_when_to_try_again() {
    let server = Real::with(|config| {
        config.limits.session.commands = Rate {
            per_second: 10,
            burst: 5,
        };
    });
    // A client that connects again says it again by itself.
    let builder = Client::builder(&server.url()).reconnect(false);
    let client = builder.connect().await.unwrap();
    let mut receipts = Vec::new();
    for _ in 0..10 {
        receipts.push(client.send("room:1", "x").await.unwrap());
    }
    let mut refused = 0;
    for receipt in receipts {
        if let Err(error) = receipt.await {
            let PublishError::Refused(refusal) = error else {
                panic!("{error}");
            };
            assert_eq!(refusal.error_code(), Some(ErrorCode::RateLimited));
            assert!(refusal.is_retryable() && refusal.retry_after.is_some());
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// What is asked is the compiler, and a future that is not awaited does nothing.
#[tokio::test]
async fn any_task_may_call() {
    fn spawnable(_: impl Future<Output: Send> + Send) {}
    let server = Real::start();
    let client = &server.client().await;
    let room = &mut client.subscribe("room:1").await.unwrap();
    spawnable(Client::connect(""));
    spawnable(client.state_other_than(&State::Open));
    spawnable(client.subscribe(""));
    spawnable(client.subscribe_with("", SubscribeOptions::new()));
    spawnable(client.publish("", ""));
    spawnable(client.publish_json("", &1));
    spawnable(client.send("", ""));
    spawnable(client.history("", Range::Newest, None));
    spawnable(client.members("", Which::Sample, None));
    spawnable(client.ping());
    spawnable(client.close());
    spawnable(client.closed());
    spawnable(room.next());
}

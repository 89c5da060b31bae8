//! The life of a subscription: one for each channel, ended by dropping it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use switchboard_client::{Client, End, ErrorCode, SubscribeError, Subscription};

use crate::fake::Fake;
use crate::real::{Real, message};

#[tokio::test]
async fn a_channel_has_one_subscription_of_a_client() {
    let server = Real::start();
    let client = server.client().await;
    let mut first = client.subscribe("room:1").await.unwrap();
    match client.clone().subscribe("room:1").await {
        Err(SubscribeError::Refused(refusal)) => {
            assert_eq!(refusal.error_code(), Some(ErrorCode::AlreadySubscribed));
        }
        other => panic!("{other:?}"),
    }
    client.publish("room:1", "x").await.unwrap();
    message(&mut first).await;
}

#[tokio::test]
async fn a_dropped_subscription_can_be_had_again_at_once() {
    let server = Real::start();
    let client = server.client().await;
    for number in 0..20 {
        let mut room = client.subscribe("room:1").await.unwrap();
        assert_eq!(room.position().offset, number);
        client.publish("room:1", "x").await.unwrap();
        assert_eq!(message(&mut room).await.position.offset, number + 1);
    }
}

#[tokio::test]
async fn dropping_a_subscription_says_unsubscribe_and_spares_the_others() {
    let (fake, client) = Fake::with_client().await;
    let mut fake = fake;
    let (gone, mut stays) = (
        subscribe(&mut fake, &client, "room:1").await,
        subscribe(&mut fake, &client, "room:2").await,
    );
    drop(gone);
    let unsubscribe = fake.hear_type("unsubscribe").await;
    assert_eq!(unsubscribe["channel"], "room:1");
    fake.say(r#"{"type":"message","channel":"room:1","offset":1,"position":"pAQIDBAUGBwjerb7vEg","data":1,"at":1}"#)
        .await;
    fake.say(r#"{"type":"message","channel":"room:2","offset":1,"position":"pAQIDBAUGBwjerb7vEg","data":2,"at":1}"#)
        .await;
    assert_eq!(message(&mut stays).await.payload.as_str(), Some("2"));
}

/// A subscription to a channel of the fake server.
async fn subscribe(fake: &mut Fake, client: &Client, channel: &str) -> Subscription {
    let (subscription, ()) = tokio::join!(client.subscribe(channel), fake.answer_subscribe(channel));
    subscription.unwrap()
}

#[tokio::test]
async fn an_unsubscribe_that_was_refused_is_said_again() {
    let (mut fake, client) = Fake::with_client().await;
    drop(subscribe(&mut fake, &client, "room:1").await);
    let first = fake.hear_type("unsubscribe").await;
    fake.say(&format!(
        r#"{{"type":"error","id":{},"code":"rate_limited","message":"slowly","retry_after_ms":5}}"#,
        first["id"]
    ))
    .await;
    let (again, ()) = tokio::join!(client.subscribe("room:1"), async {
        let second = fake.hear_type("unsubscribe").await;
        assert_ne!(second["id"], first["id"]);
        fake.say(&format!(
            r#"{{"type":"unsubscribed","id":{},"channel":"room:1"}}"#,
            second["id"]
        ))
        .await;
        fake.answer_subscribe("room:1").await;
    });
    again.unwrap();
}

#[tokio::test]
async fn a_subscribe_that_nobody_awaits_any_more_is_handed_to_the_next_or_undone() {
    let (mut fake, client) = Fake::with_client().await;
    let given_up = |client: &Client| {
        let mut subscribing = Box::pin({
            let client = client.clone();
            async move { client.subscribe("room:1").await }
        });
        let poll = subscribing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
    };
    given_up(&client);
    let subscribe = fake.hear_type("subscribe").await;
    let (next, ()) = tokio::join!(client.subscribe("room:1"), async {
        // The second `subscribe` has been asked for when this is answered.
        tokio::task::yield_now().await;
        fake.subscribed(&subscribe).await;
    });
    drop(next.unwrap());
    let unsubscribe = fake.hear_type("unsubscribe").await;
    fake.say(&format!(
        r#"{{"type":"unsubscribed","id":{},"channel":"room:1"}}"#,
        unsubscribe["id"]
    ))
    .await;

    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        fake.answer_ping(&ping).await;
    });
    pinged.unwrap();

    given_up(&client);
    let subscribe = fake.hear_type("subscribe").await;
    fake.subscribed(&subscribe).await;
    fake.hear_type("unsubscribe").await;
}

#[tokio::test]
async fn a_publish_that_nobody_awaits_any_more_happens_and_breaks_nothing() {
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    let mut publishing = Box::pin(client.publish("room:1", "given up"));
    let poll = Future::poll(publishing.as_mut(), &mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    drop(publishing);
    client.publish("room:1", "second").await.unwrap();
    assert_eq!(message(&mut room).await.payload.as_str(), Some("given up"));
    assert_eq!(message(&mut room).await.payload.as_str(), Some("second"));
}

#[tokio::test]
async fn a_server_may_end_a_subscription_of_itself() {
    let (mut fake, client) = Fake::with_client().await;
    let mut room = subscribe(&mut fake, &client, "room:1").await;
    fake.say(r#"{"type":"unsubscribed","channel":"room:1"}"#).await;
    assert!(
        room.next().await.is_none(),
        "without an error: the connection lives"
    );
    let mut room = subscribe(&mut fake, &client, "room:1").await;
    client_closes(&mut fake, &client).await;
    assert_eq!(room.next().await, Some(Err(End::ClosedHere)));
    assert_eq!(room.next().await, None);
}

async fn client_closes(fake: &mut Fake, client: &Client) {
    let (end, ()) = tokio::join!(client.close(), fake.answer_close());
    assert_eq!(end, End::ClosedHere);
}

#[tokio::test]
async fn a_subscription_is_a_stream() {
    fn poll(stream: Pin<&mut impl futures_core::Stream>) -> bool {
        matches!(
            stream.poll_next(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(_)
        )
    }
    let server = Real::start();
    let client = server.client().await;
    let mut room = client.subscribe("room:1").await.unwrap();
    assert!(!poll(Pin::new(&mut room)));
}

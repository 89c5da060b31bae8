//! How connections end, and who is told what.

use std::io::ErrorKind;
use std::time::Duration;

use switchboard_client::{
    Client, End, Event, Fault, PingError, PublishError, Range, ReadError, SubscribeError,
};
use tokio::io::AsyncWriteExt as _;

use crate::fake::{Fake, POSITION, Port};
use crate::real::{Real, message};

#[tokio::test]
async fn a_server_that_stops_says_goodbye_to_everyone_who_waits() {
    let server = Real::start();
    let client = Client::builder(&server.url())
        .reconnect(false)
        .connect()
        .await
        .unwrap();
    let mut room = client.subscribe("room:1").await.unwrap();
    client.publish("room:1", "last").await.unwrap();
    let stopping = tokio::spawn(server.stop());
    let end = client.closed().await;
    let End::ClosedByServer {
        code: Some(1001),
        reason,
        retry_after: Some(retry_after),
        error: None,
    } = &end
    else {
        panic!("{end:?}");
    };
    assert_eq!(reason, "stopping");
    assert!(*retry_after < Duration::from_secs(8));
    assert_eq!(end.fault(), None);
    assert_eq!(
        message(&mut room).await.payload.as_str(),
        Some("last"),
        "what had come is still there"
    );
    assert_eq!(room.next().await, Some(Err(end.clone())));
    assert_eq!(room.next().await, None);
    let published = client.publish("room:1", "too late").await;
    assert!(matches!(published, Err(PublishError::NotSent(why)) if why == end));
    stopping.await.unwrap();
}

#[tokio::test]
async fn closing_waits_for_what_was_asked_before() {
    let server = Real::start();
    let client = server.client().await;
    let mut room = server.client().await.subscribe("room:1").await.unwrap();
    let mut receipts = Vec::new();
    for number in 0..50 {
        receipts.push(client.send("room:1", format!("{number}")).await.unwrap());
    }
    assert_eq!(client.close().await, End::ClosedHere);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    for number in 0..50 {
        assert_eq!(
            message(&mut room).await.payload.as_str(),
            Some(format!("{number}").as_str())
        );
    }
    assert_eq!(client.close().await, End::ClosedHere, "again");
    assert_eq!(
        client.subscribe("room:1").await.unwrap_err(),
        SubscribeError::Ended(End::ClosedHere)
    );
    assert_eq!(client.ping().await, Err(PingError::Ended(End::ClosedHere)));
    let history = client.history("room:1", Range::Newest, None).await;
    assert_eq!(history, Err(ReadError::Ended(End::ClosedHere)));
}

#[tokio::test]
async fn the_connection_lives_as_long_as_a_handle_and_closes_in_good_order() {
    let (mut fake, client) = Fake::with_client().await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let clone = client.clone();
    let receipt = client.send("room:1", "the last word").await.unwrap();
    drop((client, clone, receipt));
    assert_eq!(fake.hear_type("publish").await["data"], "the last word");
    fake.say(&format!(
        r#"{{"type":"published","id":3,"offset":19,"position":"{POSITION}"}}"#
    ))
    .await;
    fake.say(&format!(
        r#"{{"type":"message","channel":"room:1","offset":19,"position":"{POSITION}","data":"the last word","at":1}}"#
    ))
    .await;
    let mut room = room.unwrap();
    message(&mut room).await;
    drop(room);
    fake.hear_type("unsubscribe").await;
    fake.say(r#"{"type":"unsubscribed","id":4,"channel":"room:1"}"#)
        .await;
    fake.answer_close().await;
    fake.stream.shutdown().await.unwrap();
    assert_eq!(
        fake.hear().await,
        "end of file",
        "the client closes TCP behind the server"
    );
}

#[tokio::test]
async fn a_lost_connection_tells_what_is_unknown() {
    let (mut fake, client) = Fake::with_client().await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let (published, asked, pinged, ()) = tokio::join!(
        client.publish("room:1", "x"),
        client.history("room:1", Range::Newest, None),
        client.ping(),
        async {
            for _ in 0..3 {
                fake.hear().await;
            }
            drop(fake);
        }
    );
    let end = client.closed().await;
    assert!(matches!(end, End::Lost(_)), "{end:?}");
    assert_eq!(end.fault(), Some(Fault::Network));
    assert!(matches!(published, Err(PublishError::Unanswered(why)) if why == end));
    assert_eq!(asked, Err(ReadError::Ended(end.clone())));
    assert_eq!(pinged, Err(PingError::Ended(end.clone())));
    assert_eq!(room.unwrap().next().await, Some(Err(end)));
}

#[tokio::test]
async fn why_the_server_closed_is_told_in_its_words() {
    let (mut fake, client) = Fake::with_client().await;
    fake.say(r#"{"type":"error","code":"lagged","message":"You read too slowly."}"#)
        .await;
    fake.close(4008, "lagged").await;
    let end = client.closed().await;
    assert_eq!(
        end.to_string(),
        "closed by the server with code 4008: You read too slowly."
    );
    assert_eq!(end.fault(), Some(Fault::Network));
    assert_eq!(fake.hear().await, "close Some(4008)", "our answer");
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection_and_says_so() {
    let server = Real::start();
    let client = Client::builder(&server.url())
        .reconnect(false)
        .compression(false)
        .connect()
        .await
        .unwrap();
    let published = client.publish("room:1", "x".repeat(65 * 1024)).await;
    let Err(PublishError::Unanswered(End::ClosedByServer { code, .. })) = published else {
        panic!("{published:?}");
    };
    assert_eq!(code, Some(1009));
    assert_eq!(client.closed().await.fault(), Some(Fault::Application));
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_close_is_left() {
    let port = Port::open().await;
    let builder = port.builder().settings(switchboard_client::Settings {
        close_handshake: Duration::from_millis(20),
        ..Default::default()
    });
    let (fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
    let (mut fake, client) = (fake, client.unwrap());
    // An answer that never comes is not awaited for ever either.
    let receipt = client.send("room:1", "x").await.unwrap();
    assert_eq!(client.close().await, End::ClosedHere);
    assert!(matches!(
        receipt.await,
        Err(PublishError::Unanswered(End::ClosedHere))
    ));
    fake.hear_type("publish").await;
    assert_eq!(fake.hear().await, "close Some(1000)");
}

#[tokio::test]
async fn a_silent_server_is_asked_and_given_up() {
    let port = Port::open().await;
    let builder = port.builder().settings(switchboard_client::Settings {
        pong_timeout: Duration::from_millis(20),
        ..Default::default()
    });
    let connecting = tokio::join!(
        async {
            let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
            fake.hear_type("connect").await;
            fake.say(r#"{"type":"welcome","id":1,"session":"s_1","user":"ana","heartbeat_ms":20}"#)
                .await;
            fake
        },
        builder.connect()
    );
    let (mut fake, client) = (connecting.0, connecting.1.unwrap());
    assert_eq!(fake.hear().await, "ping");
    let end = client.closed().await;
    assert_eq!((end.fault(), end), (Some(Fault::Network), End::Silent));
}

#[test]
fn a_runtime_that_shuts_down_is_an_end_too() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let server = Real::start();
    let (client, mut room, receipt) = first.block_on(async {
        let client = server.client().await;
        let room = client.subscribe("room:1").await.unwrap();
        let receipt = client.send("room:1", "x").await.unwrap();
        (client, room, receipt)
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(client.closed().await, End::RuntimeStopped);
        assert_eq!(client.close().await, End::RuntimeStopped);
        assert_eq!(room.next().await, Some(Err(End::RuntimeStopped)));
        assert!(matches!(
            receipt.await,
            Err(PublishError::Unanswered(End::RuntimeStopped))
        ));
        let published = client.publish("room:1", "y").await;
        assert!(matches!(
            published,
            Err(PublishError::NotSent(End::RuntimeStopped))
        ));
    });
}

#[tokio::test]
async fn gaps_and_resets_come_in_their_place() {
    let (mut fake, client) = Fake::with_client().await;
    let (room, ()) = tokio::join!(client.subscribe("room:1"), fake.answer_subscribe("room:1"));
    let mut room = room.unwrap();
    fake.say(&format!(
        r#"{{"type":"gap","channel":"room:1","from":19,"to":21,"position":"{POSITION}"}}"#
    ))
    .await;
    fake.say(r#"{"type":"a later version says more"}"#).await;
    fake.say(&format!(
        r#"{{"type":"reset","channel":"room:1","position":"{POSITION}"}}"#
    ))
    .await;
    let gap = room.next().await;
    assert!(
        matches!(gap, Some(Ok(Event::Gap { from: 19, to: 21, .. }))),
        "{gap:?}"
    );
    let reset = room.next().await;
    assert!(matches!(reset, Some(Ok(Event::Reset { .. }))), "{reset:?}");
    drop(fake);
    let end = room.next().await;
    assert!(
        matches!(end, Some(Err(End::Lost(ErrorKind::UnexpectedEof)))),
        "{end:?}"
    );
}

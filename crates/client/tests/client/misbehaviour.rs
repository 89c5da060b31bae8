//! A server that breaks the protocol is left, and everyone who waits is told.

use switchboard_client::{Client, End, Fault, PingError};

use crate::fake::{Fake, POSITION};

/// The client leaves with this close code, and says this.
async fn expect(mut fake: Fake, client: &Client, code: u16, words: &str) {
    let end = client.closed().await;
    assert_eq!(end.fault(), Some(Fault::Server));
    let End::Misbehaved(said) = end else {
        panic!("{end:?}");
    };
    assert!(said.contains(words), "{said}");
    assert_eq!(fake.hear().await, format!("close Some({code})"));
}

#[tokio::test]
async fn frames_that_break_rfc_6455() {
    for (frame, code, words) in [
        (&b"\x81\x80\0\0\0\0"[..], 1002, "mask"),
        (b"\xc1\x00", 1002, "compressed"),
        (b"\x83\x00", 1002, "opcode"),
        (b"\x81\x01\xff", 1007, "UTF-8"),
        (b"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", 1009, "too long"),
        (b"\x88\x01\x03", 1002, ""),
    ] {
        let (mut fake, client) = Fake::with_client().await;
        fake.write(frame).await;
        expect(fake, &client, code, words).await;
    }
}

#[tokio::test]
async fn messages_that_are_no_events() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"message","channel":"room:1","data":1,"at":1}"#,
        r#"{"type":"message","channel":"a b","position":"pAQIDBAUGBwjerb7vEg","data":1,"at":1}"#,
        r#"{"type":"gap","channel":"room:1","from":"x","to":1,"position":"pAQIDBAUGBwjerb7vEg"}"#,
    ] {
        let (mut fake, client) = Fake::with_client().await;
        fake.say(text).await;
        expect(fake, &client, 1002, "not an event of switchboard.v1").await;
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_than_the_question() {
    let (mut fake, client) = Fake::with_client().await;
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        let id = &ping["id"];
        fake.say(&format!(
            r#"{{"type":"published","id":{id},"offset":1,"position":"{POSITION}"}}"#
        ))
        .await;
    });
    assert!(
        matches!(pinged, Err(PingError::Ended(End::Misbehaved(_)))),
        "{pinged:?}"
    );
    expect(fake, &client, 1002, "another kind than the question").await;

    let (mut fake, client) = Fake::with_client().await;
    let (subscribed, ()) = tokio::join!(client.subscribe("room:1"), async {
        let mut subscribe = fake.hear_type("subscribe").await;
        subscribe["channel"] = "room:2".into();
        fake.subscribed(&subscribe).await;
    });
    assert!(subscribed.is_err());
    expect(fake, &client, 1002, "another kind than the question").await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_left_alone() {
    let (mut fake, client) = Fake::with_client().await;
    for text in [
        r#"{"type":"pong"}"#,
        r#"{"type":"pong","id":99}"#,
        r#"{"type":"published","id":99,"offset":1,"position":"pAQIDBAUGBwjerb7vEg"}"#,
        r#"{"type":"subscribed","id":99,"channel":"room:1","offset":1,"position":"pAQIDBAUGBwjerb7vEg"}"#,
        r#"{"type":"unsubscribed","channel":"room:1"}"#,
        r#"{"type":"message","channel":"room:1","offset":1,"position":"pAQIDBAUGBwjerb7vEg","data":1,"at":1}"#,
        r#"{"type":"gap","channel":"room:1","from":1,"to":1,"position":"pAQIDBAUGBwjerb7vEg"}"#,
        r#"{"type":"error","code":"internal","message":"oh"}"#,
        r#"{"type":"welcome","id":1,"session":"s_2","user":"eve","heartbeat_ms":25000}"#,
        r#"{"type":"tomorrow"}"#,
    ] {
        fake.say(text).await;
    }
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        fake.answer_ping(&ping).await;
    });
    pinged.unwrap();
    assert_eq!(&*client.user(), "ana");
}

//! Who is in a channel, as an application sees it.

use serde_json::Value;
use switchboard_client::{
    BadInfo, Client, Counts, Event, MemberKey, Payload, ReadError, Role, SubscribeError, SubscribeOptions,
    Subscription, Which, Who,
};

use crate::fake::{Fake, Port};
use crate::real::Real;

fn key(client: &Client) -> MemberKey {
    MemberKey {
        user: client.user().to_string(),
        session: client.session().to_string(),
    }
}

async fn presence(subscription: &mut Subscription) -> (u32, Who) {
    match subscription.next().await {
        Some(Ok(Event::Presence { counts, who })) => (counts.members, who),
        other => panic!("{other:?}"),
    }
}

/// Who a list names.
fn keys(who: Who) -> Vec<MemberKey> {
    match who {
        Who::All(members) => members.into_iter().map(|member| member.key).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn members_are_seen_asked_for_and_gone_when_they_close() {
    let real = Real::start();
    let (ana, ben) = (real.client().await, real.client().await);
    let info = Payload::json(r#"{"name":"Ana"}"#).unwrap();
    let options = SubscribeOptions::new().info(info.clone()).unwrap();
    let _ana_room = ana.subscribe_with("room:1", options).await.unwrap();
    let watch = SubscribeOptions::new().presence(Role::Watcher);
    let mut room = ben.subscribe_with("room:1", watch).await.unwrap();
    let (count, who) = presence(&mut room).await;
    assert_eq!((count, keys(who)), (1, vec![key(&ana)]));

    let members = ben.members("room:1", Which::After(None), None).await.unwrap();
    assert_eq!(members.counts, Counts { members: 1, users: 1 });
    assert_eq!(members.members[0].info, Some(info));
    assert_eq!(members.next, None);
    let none = ben.members("room:2", Which::Sample, Some(3)).await.unwrap();
    assert_eq!(none.counts, Counts::default());
    let refused = ben.members("a::b", Which::Sample, None).await;
    assert!(matches!(refused, Err(ReadError::BadChannel(_))), "{refused:?}");

    ana.close().await;
    loop {
        let (count, who) = presence(&mut room).await;
        if count == 0 {
            assert!(matches!(who, Who::Changed { left, .. } if left == [key(&ana)]));
            break;
        }
    }
    ben.close().await;
    real.stop().await;
}

#[tokio::test]
async fn what_cannot_be_said_of_oneself_is_refused() {
    let real = Real::start();
    let client = real.client().await;
    for none in [
        Payload::text("ana"),
        Payload::json("[1]").unwrap(),
        Payload::bytes(vec![b'{']),
    ] {
        assert_eq!(SubscribeOptions::new().info(none), Err(BadInfo));
    }
    let info = Payload::json("{}").unwrap();
    let options = SubscribeOptions::new()
        .presence(Role::Watcher)
        .info(info)
        .unwrap();
    match client.subscribe_with("room:1", options).await {
        Err(SubscribeError::Refused(refusal)) => assert_eq!(refusal.code, "bad_request"),
        other => panic!("{other:?}"),
    }
    client.close().await;
    real.stop().await;
}

#[tokio::test]
async fn the_next_connection_is_the_same_session_and_says_the_same_of_itself() {
    let port = Port::open().await;
    let builder = port.eager();
    let welcome = |fake: &Value| {
        format!(
            r#"{{"type":"welcome","id":{},"session":"s_1","user":"ana","heartbeat_ms":25000,"resume":"r1"}}"#,
            fake["id"]
        )
    };
    let (fake, client) = tokio::join!(
        async {
            let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
            let connect = fake.hear_type("connect").await;
            assert!(connect.get("resume").is_none());
            fake.say(&welcome(&connect)).await;
            fake
        },
        builder.connect()
    );
    let (mut fake, client) = (fake, client.unwrap());
    let info = Payload::json(r#"{"n":1}"#).unwrap();
    let options = SubscribeOptions::new().presence(Role::Member).info(info).unwrap();
    let (room, ()) = tokio::join!(client.subscribe_with("room:1", options), async {
        let subscribe = fake.hear_type("subscribe").await;
        assert_eq!(subscribe["presence"], "member");
        assert_eq!(subscribe["info"]["n"], 1);
        fake.subscribed(&subscribe).await;
    });
    let _room = room.unwrap();
    drop(fake);
    let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
    let connect = fake.hear_type("connect").await;
    assert_eq!(connect["resume"], "r1");
    fake.say(&welcome(&connect)).await;
    let subscribe = fake.hear_type("subscribe").await;
    assert_eq!(
        (&subscribe["presence"], &subscribe["info"]["n"]),
        (&"member".into(), &1.into())
    );
}

//! Where a token comes from, and when another one is shown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use switchboard_client::{Builder, Client, ConnectError, ConnectStep, End, Fault, State, Transport};
use tokio::time::timeout;

use crate::fake::{Fake, Port};
use crate::middlebox::{Does, Middlebox};
use crate::real::Real;

const SOON: Duration = Duration::from_secs(20);

type Answers = Arc<Mutex<VecDeque<Result<Option<String>, &'static str>>>>;

/// A source that gives these, one for each connection.
fn source(builder: Builder, answers: Vec<Result<Option<String>, &'static str>>) -> (Builder, Answers) {
    let answers: Answers = Arc::new(Mutex::new(answers.into()));
    let left = answers.clone();
    let builder = builder.token_source(move || {
        let next = left.lock().unwrap().pop_front().unwrap();
        async move { next }
    });
    (builder, answers)
}

fn good(token: &str) -> Result<Option<String>, &'static str> {
    Ok(Some(token.to_owned()))
}

/// Takes a connection up to the welcome; the token that it showed.
async fn welcome(port: &Port) -> (Fake, Value) {
    let mut fake = Fake::shake_hands(port, &["switchboard.v1.json"]).await;
    let connect = fake.hear_type("connect").await;
    let id = &connect["id"];
    fake.say(&format!(
        r#"{{"type":"welcome","id":{id},"session":"s_1","user":"ana","heartbeat_ms":25000}}"#
    ))
    .await;
    (fake, connect["token"].clone())
}

#[tokio::test]
async fn each_connection_shows_another_token_and_one_that_cannot_be_had_is_no_refusal() {
    let port = Port::open().await;
    let answers = vec![good("one"), Err("offline"), Err("offline"), good("two"), Ok(None)];
    let (builder, left) = source(port.eager(), answers);
    let ((fake, token), client) = tokio::join!(welcome(&port), builder.connect());
    let client = client.unwrap();
    assert_eq!(token, "one");
    drop(fake);
    let (fake, token) = timeout(SOON, welcome(&port)).await.unwrap();
    assert_eq!((token, left.lock().unwrap().len()), ("two".into(), 1));
    // Nobody is signed in any more.
    drop(fake);
    let end = timeout(SOON, client.closed()).await.unwrap();
    assert!(matches!(end, End::Refused(Fault::Application, _)), "{end:?}");
    assert!(end.to_string().contains("unauthorized"), "{end}");
}

#[tokio::test]
async fn the_first_token_has_to_be_had() {
    let port = Port::open().await;
    let (builder, _) = source(port.eager(), vec![Err("the network is down"), Ok(None)]);
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "no token: the network is down");
    assert!(matches!(
        builder.connect().await.unwrap_err(),
        ConnectError::Rejected(_)
    ));
    let builder = port
        .eager()
        .connect_timeout(Duration::from_millis(50))
        .token_source(std::future::pending::<Result<Option<String>, String>>);
    let ConnectError::Timeout { step, .. } = builder.connect().await.unwrap_err() else {
        panic!("no timeout");
    };
    assert_eq!(step, ConnectStep::Token);
}

#[tokio::test]
async fn a_token_that_has_expired_on_the_way_is_replaced_once_and_one_that_is_refused_is_final() {
    let port = Port::open().await;
    let (builder, _) = source(port.eager(), vec![good("old"), good("new"), good("bad")]);
    let ((mut fake, _), client) = tokio::join!(welcome(&port), builder.connect());
    let client = client.unwrap();
    fake.close(4401, "unauthorized").await;
    let (mut fake, token) = timeout(SOON, welcome(&port)).await.unwrap();
    assert_eq!(token, "new");
    fake.close(4401, "unauthorized").await;
    let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
    fake.hear_type("connect").await;
    fake.close(4401, "unauthorized").await;
    let end = timeout(SOON, client.closed()).await.unwrap();
    assert!(matches!(end, End::Refused(Fault::Application, _)), "{end:?}");
}

/// One that expires after so many seconds.
fn jwt(valid: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = format!(r#"{{"exp":{}}}"#, now.as_secs() as i64 + valid);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// A clock that is ahead made a new connection every second, for ever.
#[tokio::test]
async fn a_token_that_the_server_takes_has_not_expired_whatever_our_clock_says() {
    let port = Port::open().await;
    let (builder, left) = source(port.eager(), vec![good(&jwt(-60)), good("new")]);
    let ((mut fake, _), client) = tokio::join!(welcome(&port), builder.connect());
    let client = client.unwrap();
    let another = timeout(Duration::from_millis(1_500), port.accept()).await;
    assert!(another.is_err(), "nobody connects");
    assert_eq!((left.lock().unwrap().len(), client.state()), (1, State::Open));
    // When it is over, the server says so.
    fake.close(4401, "unauthorized").await;
    let (_fake, token) = timeout(SOON, welcome(&port)).await.unwrap();
    assert_eq!(token, "new");
}

#[tokio::test]
async fn before_a_token_expires_another_connection_takes_the_place_of_this_one() {
    let port = Port::open().await;
    // The next one is fetched when half of that is over, and once more as it fails.
    let jwt = jwt(3);
    let (builder, _) = source(port.eager(), vec![good(&jwt), Err("offline"), good("next")]);
    let ((mut old, token), client) = tokio::join!(welcome(&port), builder.connect());
    let client = client.unwrap();
    assert_eq!(token, jwt.as_str());
    let (room, ()) = tokio::join!(client.subscribe("room:1"), old.answer_subscribe("room:1"));
    let receipt = client.send("room:1", "x").await.unwrap();
    let key = old.hear_type("publish").await["key"].clone();

    let (mut new, token) = timeout(SOON, welcome(&port)).await.unwrap();
    assert_eq!((token, client.state()), ("next".into(), State::Open));
    // Nothing is lost with the old one.
    let publish = new.hear_type("publish").await;
    assert_eq!(publish["key"], key);
    let subscribe = new.hear_type("subscribe").await;
    assert_eq!(subscribe["since"], crate::fake::START);
    new.say(&format!(
        r#"{{"type":"published","id":{},"offset":18,"position":"{}"}}"#,
        publish["id"],
        crate::fake::POSITION
    ))
    .await;
    assert_eq!(receipt.await.unwrap().offset, 18);
    assert_eq!(old.hear().await, "end of file");
    assert_eq!(client.state(), State::Open);
    drop(room);
}

/// Each failed attempt at a better transport was followed by a new connection by the one that works.
#[tokio::test]
async fn a_better_transport_that_does_not_work_is_no_reason_for_another_token() {
    let server = Real::start();
    let middlebox = Middlebox::before(server.address).await;
    middlebox.rule("/ws", Does::Refuse);
    let builder = Client::builder(&middlebox.url())
        .transports([Transport::WebSocket, Transport::EventStream])
        .upgrade_after(Duration::from_millis(50))
        .token_source(|| async { Ok::<_, String>(Some("opaque".to_owned())) });
    let client = builder.connect().await.unwrap();
    let room = client.subscribe("room:1").await.unwrap();
    let seen = |path: &str| middlebox.seen().iter().filter(|seen| *seen == path).count();
    let streams = seen("/sse");
    while seen("/ws") < 7 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen("/sse"), streams);
    drop(room);
}

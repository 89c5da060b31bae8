//! What the server refuses for now is published all the same: later, once, and in its order.

use std::time::Duration;

use switchboard_client::{Builder, Client, End, PublishError, Receipt, State, Transport};
use tokio::time::timeout;

use crate::fake::{Fake, POSITION, Port};
use crate::middlebox::{Does, Middlebox};
use crate::real::{Real, message};

/// The server takes 200 at once, then 100 in a second.
const MANY: u32 = 600;
const SOON: Duration = Duration::from_secs(60);

fn eager(url: &str) -> Builder {
    let (base, cap) = (Duration::from_millis(10), Duration::from_millis(50));
    Client::builder(url).backoff(base, cap)
}

async fn send(client: &Client) -> Vec<Receipt> {
    send_every(client, Duration::ZERO).await
}

async fn send_every(client: &Client, pause: Duration) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for number in 0..MANY {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        receipts.push(client.send("room:1", number.to_string()).await.unwrap());
    }
    receipts
}

/// All arrive, each once, in the order in which they were sent.
async fn check(server: &Real, sending: impl Future<Output = Vec<Receipt>>) {
    let observer = server.client().await;
    let mut room = observer.subscribe("room:1").await.unwrap();
    let receipts = sending.await;
    for number in 0..MANY {
        let got = timeout(SOON, message(&mut room)).await.unwrap();
        assert_eq!(got.payload.as_str(), Some(&*number.to_string()));
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    // Nothing comes behind them.
    observer.publish("room:1", "end").await.unwrap();
    assert_eq!(message(&mut room).await.payload.as_str(), Some("end"));
}

#[tokio::test]
async fn more_than_the_server_takes_at_once() {
    let server = Real::start();
    let client = server.client().await;
    check(&server, send(&client)).await;
}

#[tokio::test]
async fn more_than_the_server_takes_at_once_over_a_long_way() {
    let server = Real::start();
    let middlebox = Middlebox::before(server.address).await;
    middlebox.rule("/ws", Does::Delay(Duration::from_millis(40)));
    let builder = Client::builder(&middlebox.url()).transports([Transport::WebSocket]);
    let client = builder.connect().await.unwrap();
    // Some are always behind the one that is refused, and some not said yet.
    check(&server, send_every(&client, Duration::from_millis(3))).await;
}

#[tokio::test]
async fn more_than_the_server_takes_at_once_by_http() {
    let server = Real::start();
    let builder = Client::builder(&server.url()).transports([Transport::EventStream]);
    let client = builder.connect().await.unwrap();
    check(&server, send(&client)).await;
}

#[tokio::test]
async fn what_was_published_while_there_was_no_connection() {
    let server = Real::start();
    let middlebox = Middlebox::before(server.address).await;
    let builder = eager(&middlebox.url()).transports([Transport::WebSocket]);
    let client = builder.connect().await.unwrap();
    let sending = async {
        middlebox.rule("/ws", Does::Refuse);
        middlebox.cut();
        client.state_other_than(&State::Open).await;
        let receipts = send(&client).await;
        middlebox.rule("/ws", Does::Delay(Duration::from_millis(5)));
        receipts
    };
    check(&server, sending).await;
}

/// The connection is cut while some are on their way, some refused and some never said.
#[tokio::test]
async fn what_was_refused_is_said_again_on_the_next_connection() {
    let server = Real::start();
    let middlebox = Middlebox::before(server.address).await;
    let builder = eager(&middlebox.url()).transports([Transport::WebSocket]);
    let client = builder.connect().await.unwrap();
    let sending = async {
        let mut receipts = send(&client).await;
        for place in [150, 210, 250] {
            let known = client.state();
            (&mut receipts[place]).await.unwrap();
            middlebox.cut();
            client.state_other_than(&known).await;
        }
        for place in [250, 210, 150] {
            drop(receipts.remove(place));
        }
        receipts
    };
    check(&server, sending).await;
}

async fn eager_fake(builder: Builder, port: &Port) -> (Fake, Client) {
    let (fake, client) = tokio::join!(Fake::welcome(port), builder.connect());
    (fake, client.unwrap())
}

impl Fake {
    /// The next command, which has to publish this; its id.
    async fn hear_publish(&mut self, data: &str) -> u64 {
        let publish = self.hear_type("publish").await;
        assert_eq!(publish["data"], data);
        publish["id"].as_u64().unwrap()
    }

    async fn refuse(&mut self, id: u64, rest: &str) {
        self.say(&format!(r#"{{"type":"error","id":{id},"message":"No.",{rest}}}"#))
            .await;
    }

    async fn take(&mut self, id: u64) {
        self.say(&format!(
            r#"{{"type":"published","id":{id},"offset":18,"position":"{POSITION}"}}"#
        ))
        .await;
    }

    /// Nothing was said before this.
    async fn is_quiet(&mut self, client: &Client) {
        let (pinged, ()) = tokio::join!(client.ping(), async {
            let ping = self.hear_type("ping").await;
            self.answer_ping(&ping).await;
        });
        pinged.unwrap();
    }
}

const LATER: &str = r#""code":"rate_limited","retry_after_ms":5"#;

#[tokio::test]
async fn nothing_is_said_before_all_that_is_on_its_way_is_answered() {
    let port = Port::open().await;
    let (mut fake, client) = eager_fake(port.eager(), &port).await;
    let mut receipts = Vec::new();
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        receipts.push(client.send("room:1", text).await.unwrap());
        ids.push(fake.hear_publish(text).await);
    }
    fake.refuse(ids[0], LATER).await;
    fake.is_quiet(&client).await;
    receipts.push(client.send("room:1", "d").await.unwrap());
    fake.is_quiet(&client).await;
    fake.refuse(ids[1], r#""code":"overloaded""#).await;
    fake.is_quiet(&client).await;
    // What is refused for good is the publisher's.
    fake.refuse(ids[2], r#""code":"unauthorized""#).await;
    for text in ["a", "b", "d"] {
        let id = fake.hear_publish(text).await;
        fake.take(id).await;
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        match receipt.await {
            Ok(position) => assert_eq!(position.offset, 18),
            Err(PublishError::Refused(refusal)) => {
                assert_eq!((number, &*refusal.code), (2, "unauthorized"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_more_than_64_are_on_their_way() {
    let port = Port::open().await;
    let (mut fake, client) = eager_fake(port.eager(), &port).await;
    let mut receipts = Vec::new();
    for _ in 0..66 {
        receipts.push(client.send("room:1", "x").await.unwrap());
    }
    let mut first = 0;
    for _ in 0..64 {
        let id = fake.hear_publish("x").await;
        first = if first == 0 { id } else { first };
    }
    fake.is_quiet(&client).await;
    fake.take(first).await;
    fake.hear_publish("x").await;
    fake.is_quiet(&client).await;
}

#[tokio::test]
async fn what_has_no_key_is_refused_as_the_server_says() {
    let port = Port::open().await;
    for builder in [port.eager().idempotent(false), port.eager().reconnect(false)] {
        let (mut fake, client) = eager_fake(builder, &port).await;
        let receipt = client.send("room:1", "x").await.unwrap();
        let id = fake.hear_publish("x").await;
        fake.refuse(id, LATER).await;
        let refused = receipt.await;
        assert!(
            matches!(&refused, Err(PublishError::Refused(refusal)) if refusal.code == "rate_limited"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn who_closes_learns_what_was_not_published() {
    let port = Port::open().await;
    let settings = switchboard_client::Settings {
        close_handshake: Duration::from_millis(50),
        ..Default::default()
    };
    let (mut fake, client) = eager_fake(port.eager().settings(settings), &port).await;
    let mut receipts = Vec::new();
    let codes = [("refused", "rate_limited"), ("unknown", "unavailable")];
    let mut ids = Vec::new();
    for (text, _) in codes {
        receipts.push(client.send("room:1", text).await.unwrap());
        ids.push(fake.hear_publish(text).await);
    }
    for (id, (_, code)) in ids.into_iter().zip(codes) {
        let rest = format!(r#""code":"{code}","retry_after_ms":30000"#);
        fake.refuse(id, &rest).await;
    }
    fake.is_quiet(&client).await;
    receipts.push(client.send("room:1", "never said").await.unwrap());
    let (end, ()) = tokio::join!(client.close(), fake.answer_close());
    assert_eq!(end, End::ClosedHere);
    let mut errors = Vec::new();
    for receipt in receipts {
        errors.push(match receipt.await {
            Err(PublishError::NotSent(End::ClosedHere)) => "not sent",
            Err(PublishError::Unanswered(End::ClosedHere)) => "unanswered",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(errors, ["not sent", "unanswered", "not sent"]);
}

#[tokio::test]
async fn a_channel_that_there_is_no_room_for_keeps_back_no_other() {
    let server = Real::with(|config| {
        config.server.shards = switchboard_server::config::Auto::Fixed(1);
        config.limits.channels_max = 1;
    });
    for transport in [Transport::WebSocket, Transport::EventStream, Transport::Poll] {
        let builder = eager(&server.url()).transports([transport]);
        let client = builder.connect().await.unwrap();
        client.publish("room:1", "there is room").await.unwrap();
        let refused = timeout(SOON, client.publish("room:2", "there is none"))
            .await
            .unwrap();
        assert!(
            matches!(&refused, Err(PublishError::Refused(refusal)) if refusal.is_retryable()),
            "{refused:?}"
        );
        timeout(SOON, client.publish("room:1", "there still is"))
            .await
            .unwrap()
            .unwrap();
    }
}

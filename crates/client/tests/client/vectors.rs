//! `spec/vectors/client.json`: what every client does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use switchboard_client::{Client, End, Event, Publication, PublishError, Subscription};
use switchboard_proto::session::backoff::Backoff;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fake::{Fake, Port};

const SOON: Duration = Duration::from_secs(20);

fn list(key: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/client.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    vectors[key].as_array().unwrap().clone()
}

fn milliseconds(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().unwrap())
}

#[test]
fn waits() {
    for vector in list("waits") {
        let (base, cap) = (milliseconds(&vector["base_ms"]), milliseconds(&vector["cap_ms"]));
        let backoff = || {
            let mut backoff = Backoff::default();
            (backoff.base, backoff.cap) = (base, cap);
            backoff
        };
        let (mut longest, mut shortest) = (backoff(), backoff());
        for wait in vector["longest_ms"].as_array().unwrap() {
            assert_eq!(
                longest.next_wait(u32::MAX),
                milliseconds(wait),
                "{}",
                vector["name"]
            );
            assert_eq!(shortest.next_wait(0), Duration::ZERO);
        }
    }
}

#[tokio::test]
async fn ends() {
    for vector in list("ends") {
        let port = Port::open().await;
        let builder = port.eager();
        let (mut fake, client) = tokio::join!(Fake::welcome(&port), builder.connect());
        let client = client.unwrap();
        let code = vector["code"].as_u64().unwrap() as u16;
        fake.close(code, "").await;
        if vector["final"] == true {
            let end = timeout(SOON, client.closed()).await.unwrap();
            assert!(matches!(end, End::ClosedByServer { .. }), "{code}: {end:?}");
        } else {
            timeout(SOON, Fake::welcome(&port)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn transcripts() {
    for vector in list("transcripts") {
        let name = vector["name"].as_str().unwrap();
        let mut transcript = Transcript::new(Port::open().await);
        for step in vector["steps"].as_array().unwrap() {
            let step = step.as_object().unwrap();
            let done = timeout(SOON, transcript.take(step)).await;
            assert!(done.is_ok(), "{name}: waited in vain at {step:?}");
        }
    }
}

struct Transcript {
    port: Port,
    client: Option<Client>,
    fake: Option<Fake>,
    heard: Value,
    subscribing: Option<JoinHandle<Subscription>>,
    subscription: Option<Subscription>,
    delivered: Vec<Value>,
    publishing: BTreeMap<String, JoinHandle<Value>>,
}

impl Transcript {
    fn new(port: Port) -> Transcript {
        Transcript {
            port,
            client: None,
            fake: None,
            heard: Value::Null,
            subscribing: None,
            subscription: None,
            delivered: Vec::new(),
            publishing: BTreeMap::new(),
        }
    }

    fn fake(&mut self) -> &mut Fake {
        self.fake.as_mut().unwrap()
    }

    async fn take(&mut self, step: &Map<String, Value>) {
        let (kind, value) = step.iter().next().unwrap();
        match kind.as_str() {
            "accept" => self.accept(value).await,
            "subscribe" => {
                let (client, channel) = (self.client(), value.as_str().unwrap().to_owned());
                self.subscribing = Some(tokio::spawn(
                    async move { client.subscribe(&channel).await.unwrap() },
                ));
            }
            "publish" => self.publish(value).await,
            "hear" => {
                self.heard = self.fake().hear().await;
                assert_has(&self.heard, value);
            }
            "say" => {
                let mut event = value.clone();
                if event["id"] == "the last" {
                    event["id"] = self.heard["id"].clone();
                }
                self.fake().say(&event.to_string()).await;
            }
            "cut" => self.fake = None,
            "close" => self.fake().close(value.as_u64().unwrap() as u16, "").await,
            "deliver" => self.deliver(value).await,
            "settle" => {
                let mut results = Map::new();
                for (name, publishing) in std::mem::take(&mut self.publishing) {
                    results.insert(name, publishing.await.unwrap());
                }
                assert_eq!(&Value::Object(results), value);
            }
            _ => panic!("no step {kind}"),
        }
    }

    fn client(&self) -> Client {
        self.client.clone().unwrap()
    }

    async fn accept(&mut self, fields: &Value) {
        let builder = self.port.eager();
        let is_first = self.client.is_none();
        let connecting = is_first.then(|| tokio::spawn(async move { builder.connect().await }));
        let mut fake = Fake::shake_hands(&self.port, &["switchboard.v1.json"]).await;
        let connect = fake.hear_type("connect").await;
        assert_has(&connect, fields);
        let welcome = json!({
            "type": "welcome", "id": connect["id"], "session": "s_1", "user": "ana", "heartbeat_ms": 25_000, "resume": "r1",
        });
        fake.say(&welcome.to_string()).await;
        self.fake = Some(fake);
        if let Some(connecting) = connecting {
            self.client = Some(connecting.await.unwrap().unwrap());
        }
    }

    async fn publish(&mut self, value: &Value) {
        let word = |name: &str| value[name].as_str().unwrap().to_owned();
        let (client, channel) = (self.client(), word("channel"));
        let publication = Publication::from(word("data").as_str())
            .key(&word("key"))
            .unwrap();
        // In the order in which they are asked for.
        let receipt = client.send(&channel, publication).await.unwrap();
        let published = tokio::spawn(async move {
            match receipt.await {
                Ok(position) => json!({"offset": position.offset}),
                Err(PublishError::Refused(refusal)) => json!({"error": refusal.code}),
                Err(other) => panic!("{other:?}"),
            }
        });
        self.publishing.insert(word("as"), published);
    }

    async fn deliver(&mut self, value: &Value) {
        if let Some(subscribing) = self.subscribing.take() {
            self.subscription = Some(subscribing.await.unwrap());
        }
        let all = value["all"].as_array().unwrap();
        while self.delivered.len() < all.len() {
            let event = self.subscription.as_mut().unwrap().next().await.unwrap().unwrap();
            self.delivered.push(match event {
                Event::Message(message) => json!({"message": message.payload.as_str().unwrap()}),
                Event::Gap { from, to, .. } => json!({"gap": [from, to]}),
                Event::Reset { .. } => json!({"reset": true}),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(&self.delivered, all);
    }
}

/// Has what was said the fields that were expected? `null` is what must not be there.
fn assert_has(heard: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        match value {
            Value::Null => assert!(heard.get(name).is_none(), "{name} in {heard}"),
            value => assert_eq!(&heard[name], value, "{name} of {heard}"),
        }
    }
}

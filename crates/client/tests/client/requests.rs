//! By event stream and by polls: which requests are made, as whom, and what their answers may be.

use std::time::Duration;

use switchboard_client::{
    Client, Counts, End, Payload, Position, Role, State, SubscribeOptions, Subscription, Transport, Which,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fake::{POSITION, Port, START, read_request};
use crate::real::{Real, message};

const BY_HTTP: [Transport; 2] = [Transport::EventStream, Transport::Poll];
const SOON: Duration = Duration::from_secs(20);

async fn client(server: &Real, transport: Transport) -> Client {
    let builder = Client::builder(&server.url()).transports([transport]);
    builder.connect().await.unwrap()
}

fn there() -> SubscribeOptions {
    let info = Payload::json(r#"{"name":"Ana"}"#).unwrap();
    let options = SubscribeOptions::new().presence(Role::Participant);
    options.info(info).unwrap()
}

async fn members(observer: &Client, channel: &str) -> Counts {
    let members = observer.members(channel, Which::After(None), None).await;
    members.unwrap().counts
}

const ONE: Counts = Counts { members: 1, users: 1 };

/// Publishes from elsewhere, and waits for it here: by poll each is an answer.
async fn converse(server: &Real, room: &mut Subscription, messages: u32) {
    let channel = room.channel().to_string();
    for number in 0..messages {
        let text = number.to_string();
        server.publish(&channel, &text).await;
        let next = async {
            loop {
                let event = room.next().await.unwrap().unwrap();
                if let switchboard_client::Event::Message(message) = event {
                    return message;
                }
            }
        };
        let got = timeout(SOON, next).await.unwrap();
        assert_eq!(got.payload.as_str(), Some(&*text));
    }
}

#[tokio::test]
async fn a_client_by_poll_is_one_member_over_all_its_polls() {
    let server = Real::start();
    let observer = server.client().await;
    let client = client(&server, Transport::Poll).await;
    let mut room = client.subscribe_with("room:1", there()).await.unwrap();
    converse(&server, &mut room, 5).await;
    assert_eq!(members(&observer, "room:1").await, ONE);
}

/// A server tells nobody who he is who knows where he was, unless he says that he was somebody.
#[tokio::test]
async fn a_client_that_begins_at_a_position_is_one_member_too() {
    let server = Real::start();
    let observer = server.client().await;
    for transport in BY_HTTP {
        let channel = format!("room:{transport}");
        let since = observer.publish(&channel, "before").await.unwrap();
        let client = client(&server, transport).await;
        let options = there().since(since);
        let mut room = client.subscribe_with(&channel, options).await.unwrap();
        converse(&server, &mut room, 5).await;
        assert_eq!(members(&observer, &channel).await, ONE);
    }
}

#[tokio::test]
async fn channels_that_are_subscribed_to_at_once_have_one_member_each() {
    let server = Real::start();
    let observer = server.client().await;
    for transport in BY_HTTP {
        let client = client(&server, transport).await;
        let names: Vec<String> = (0..5).map(|number| format!("{transport}:{number}")).collect();
        let mut subscribing = Vec::new();
        for name in &names {
            let (client, name) = (client.clone(), name.clone());
            subscribing.push(tokio::spawn(async move {
                client.subscribe_with(&name, there()).await.unwrap()
            }));
            // Some ask while a request of the first is under way.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut rooms = Vec::new();
        for subscribing in subscribing {
            rooms.push(timeout(SOON, subscribing).await.unwrap().unwrap());
        }
        for room in &mut rooms {
            converse(&server, room, 2).await;
        }
        for name in &names {
            assert_eq!(members(&observer, name).await, ONE, "{name}");
        }
    }
}

/// What was asked for and left before the server has said who this is.
#[tokio::test]
async fn a_channel_that_is_left_at_once_leaves_nobody_behind() {
    let server = Real::start();
    let observer = server.client().await;
    for transport in BY_HTTP {
        let client = client(&server, transport).await;
        let names = ["left", "kept"].map(|name| format!("{transport}:{name}"));
        let [left, kept] = &names;
        tokio::select! {
            biased;
            room = client.subscribe_with(left, there()) => panic!("{room:?}"),
            () = std::future::ready(()) => {}
        }
        let mut room = client.subscribe_with(kept, there()).await.unwrap();
        converse(&server, &mut room, 2).await;
        assert_eq!(members(&observer, kept).await, ONE);
        // A session that has left may be seen for another moment.
        assert!(members(&observer, left).await.members <= 1);
    }
}

#[tokio::test]
async fn a_message_of_the_largest_size_arrives_by_every_transport() {
    let server = Real::with(|config| config.channels.log_bytes_max = 16 * 1024 * 1024);
    // Six bytes each in JSON.
    let text = "\u{1}".repeat(1024 * 1024);
    for transport in Transport::ALL {
        let client = client(&server, transport).await;
        let channel = format!("room:{transport}");
        let mut room = client.subscribe(&channel).await.unwrap();
        server.publish(&channel, &text).await;
        server.publish(&channel, "small").await;
        let got = timeout(SOON, message(&mut room)).await.unwrap();
        assert!(got.payload.as_str() == Some(&*text), "by {transport}");
        let got = timeout(SOON, message(&mut room)).await.unwrap();
        assert_eq!(got.payload.as_str(), Some("small"));
    }
}

/// Takes a request and answers it; what was asked for.
async fn answer(port: &Port, status: &str, body: &str) -> String {
    let mut stream = port.accept().await;
    let (request, _) = read_request(&mut stream).await;
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // A client that has read enough may be gone.
    let _gone = stream.write_all(body.as_bytes()).await;
    drain(stream).await;
    request.uri().to_string()
}

async fn drain(mut stream: TcpStream) {
    let _shut = stream.shutdown().await;
    let mut rest = Vec::new();
    let _gone = stream.read_to_end(&mut rest).await;
}

/// The answer to a poll that has this message.
fn said(data: &str) -> String {
    format!(
        r#"{{"position":"{POSITION}","events":[{{"type":"message","channel":"room:1","offset":18,"position":"{POSITION}","data":"{data}","at":1}}]}}"#
    )
}

/// A client by poll that has subscribed to `room:1`.
async fn polling(port: &Port, patience: Duration) -> (Client, Subscription) {
    let builder = port.builder().transports([Transport::Poll]);
    let builder = builder.connect_timeout(patience);
    let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
    let (_, client) = tokio::join!(answer(port, "400 Bad Request", error), builder.connect());
    let client = client.unwrap();
    let first = format!(
        r#"{{"position":"{START}","events":[{},{}]}}"#,
        r#"{"type":"welcome","session":"s_1","user":"ana","heartbeat_ms":25000,"resume":"r1"}"#,
        format_args!(r#"{{"type":"subscribed","channel":"room:1","offset":0,"position":"{START}"}}"#)
    );
    let (asked, room) = tokio::join!(answer(port, "200 OK", &first), client.subscribe("room:1"));
    assert!(asked.ends_with("&resume=&wait=0"), "{asked}");
    (client, room.unwrap())
}

#[tokio::test]
async fn a_poll_is_held_as_long_as_the_client_waits_and_one_that_is_too_early_is_made_again() {
    let port = Port::open().await;
    let (client, mut room) = polling(&port, SOON).await;
    let error = r#"{"type":"error","code":"rate_limited","message":"Slowly.","retry_after_ms":20}"#;
    let early = answer(&port, "429 Too Many Requests", error).await;
    let again = answer(&port, "200 OK", &said("hi")).await;
    assert_eq!(again, early);
    let expected = format!("/poll?channel=room%3A1&resume=r1&since={START}&wait=30");
    assert_eq!(again, expected);
    assert_eq!(message(&mut room).await.payload.as_str(), Some("hi"));
    assert_eq!(client.state(), State::Open);
}

/// Each attempt was given up before all of the answer was there, and the next one began with it again.
#[tokio::test]
async fn an_answer_that_takes_longer_than_a_connection_may_is_waited_for_as_long_as_it_comes() {
    let patience = Duration::from_secs(2);
    let port = Port::open().await;
    let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
    let builder = port
        .eager()
        .transports([Transport::Poll])
        .connect_timeout(patience);
    let (_, client) = tokio::join!(answer(&port, "400 Bad Request", error), builder.connect());
    let client = client.unwrap();
    let since = SubscribeOptions::new().since(Position::parse(START).unwrap());
    let nothing = format!(r#"{{"position":"{START}","events":[]}}"#);
    let (_, room) = tokio::join!(
        answer(&port, "200 OK", &nothing),
        client.subscribe_with("room:1", since)
    );
    let mut room = room.unwrap();
    drop(port.accept().await);
    let body = said("hi");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut again = port.answer(head.as_bytes()).await;
    let pieces = body.as_bytes().chunks(body.len().div_ceil(15));
    for piece in pieces {
        tokio::time::sleep(patience / 10).await;
        again.write_all(piece).await.unwrap();
    }
    let got = timeout(SOON, message(&mut room)).await.unwrap();
    assert_eq!(got.payload.as_str(), Some("hi"));
}

/// What had come meanwhile for the subscription of before was passed over, and nobody was told.
#[tokio::test]
async fn a_subscription_that_begins_where_one_was_dropped_while_connecting_misses_nothing() {
    let port = Port::open().await;
    let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
    let builder = port.eager().transports([Transport::Poll]);
    let (_, client) = tokio::join!(answer(&port, "400 Bad Request", error), builder.connect());
    let client = client.unwrap();
    let since = || SubscribeOptions::new().since(Position::parse(START).unwrap());
    let nothing = format!(r#"{{"position":"{START}","events":[]}}"#);
    let (_, room) = tokio::join!(
        answer(&port, "200 OK", &nothing),
        client.subscribe_with("room:1", since())
    );
    // The connection is lost, and dropped is what the next one begins with.
    drop(port.accept().await);
    let mut again = port.accept().await;
    drop(room);
    let mut request = [0; 4096];
    let _request = again.read(&mut request).await.unwrap();
    let body = said("hi");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    again.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    drain(again).await;
    while client.state() != State::Open {
        client.state_other_than(&client.state()).await;
    }
    // Its next poll may be under way, for nobody.
    let nothing_more = format!(r#"{{"position":"{POSITION}","events":[]}}"#);
    let from_the_start = async {
        loop {
            let mut stream = port.accept().await;
            let length = stream.read(&mut request).await.unwrap();
            let since = format!("since={START}&");
            let is_it = String::from_utf8_lossy(&request[..length]).contains(&since);
            let body = if is_it { &body } else { &nothing_more };
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // It may be gone already.
            let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
            drain(stream).await;
            if is_it {
                return;
            }
        }
    };
    let (_, room) = timeout(SOON, async {
        tokio::join!(from_the_start, client.subscribe_with("room:1", since()))
    })
    .await
    .unwrap();
    let mut room = room.unwrap();
    assert_eq!(room.recovered(), Some(true));
    assert_eq!(message(&mut room).await.payload.as_str(), Some("hi"));
}

/// It was answered by what had been read from where the subscription of before was, and what lay between was lost.
#[tokio::test]
async fn a_subscription_that_begins_before_the_one_that_was_dropped_while_connecting_misses_nothing() {
    let port = Port::open().await;
    let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
    let builder = port.eager().transports([Transport::Poll]);
    let (_, client) = tokio::join!(answer(&port, "400 Bad Request", error), builder.connect());
    let client = client.unwrap();
    let body = said("hi");
    let since = || SubscribeOptions::new().since(Position::parse(START).unwrap());
    let (_, room) = tokio::join!(
        answer(&port, "200 OK", &body),
        client.subscribe_with("room:1", since())
    );
    // The connection is lost. The next one begins behind what the application has not taken.
    drop(port.accept().await);
    let mut again = port.accept().await;
    let mut request = [0; 4096];
    let length = again.read(&mut request).await.unwrap();
    let asks_since = |request: &[u8], place: &str| {
        let wanted = format!("since={place}&");
        String::from_utf8_lossy(request).contains(&wanted)
    };
    assert!(asks_since(&request[..length], POSITION));
    drop(room);
    let mut room = std::pin::pin!(client.subscribe_with("room:1", since()));
    // It has been asked for when another one is refused.
    tokio::select! {
        biased;
        _ = &mut room => panic!("without a connection"),
        other = client.subscribe("room:1") => assert!(other.is_err()),
    }
    let respond = async |mut stream: TcpStream, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        // It may be gone already.
        let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
        drain(stream).await;
    };
    let nothing_more = format!(r#"{{"position":"{POSITION}","events":[]}}"#);
    respond(again, &nothing_more).await;
    let from_the_start = async {
        loop {
            let mut stream = port.accept().await;
            let length = stream.read(&mut request).await.unwrap();
            let is_it = asks_since(&request[..length], START);
            respond(stream, if is_it { &body } else { &nothing_more }).await;
            if is_it {
                return;
            }
        }
    };
    let (_, room) = timeout(SOON, async { tokio::join!(from_the_start, room) })
        .await
        .unwrap();
    let mut room = room.unwrap();
    assert_eq!(room.recovered(), Some(true));
    assert_eq!(message(&mut room).await.payload.as_str(), Some("hi"));
}

/// It was told that something is missing, and got the message behind the position.
#[tokio::test]
async fn what_a_poll_is_told_behind_a_message_is_no_hole_where_it_goes_on() {
    let gap = |conflated| {
        let conflated = if conflated { r#","conflated":true"# } else { "" };
        format!(r#"{{"type":"gap","channel":"room:1","from":19,"to":20,"position":"{POSITION}"{conflated}}}"#)
    };
    let message = format!(
        r#"{{"type":"message","channel":"room:1","offset":18,"position":"{POSITION}","data":"hi","at":1}}"#
    );
    let cases = [
        (vec![message.clone(), gap(false)], true),
        (vec![gap(true), message.clone()], true),
        (vec![gap(false), message.clone()], false),
        (vec![], true),
    ];
    for (events, recovered) in cases {
        let port = Port::open().await;
        let builder = port.builder().transports([Transport::Poll]);
        let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
        let (_, client) = tokio::join!(answer(&port, "400 Bad Request", error), builder.connect());
        let client = client.unwrap();
        let since = SubscribeOptions::new().since(Position::parse(START).unwrap());
        let said = format!(r#"{{"position":"{POSITION}","events":[{}]}}"#, events.join(","));
        let (_, room) = tokio::join!(
            answer(&port, "200 OK", &said),
            client.subscribe_with("room:1", since)
        );
        assert_eq!(room.unwrap().recovered(), Some(recovered), "{said}");
    }
}

/// The list came with the answer to a poll that said nothing else of its channel and had more of others. It was thrown away, for the
/// subscription had not begun; and the server, which knew that it had been told, did not say it again.
#[tokio::test]
async fn who_is_there_also_says_that_a_channel_goes_on() {
    let port = Port::open().await;
    let builder = port.builder().transports([Transport::Poll]);
    let error = r#"{"type":"error","code":"bad_request","message":"Which channel?"}"#;
    let (_, client) = tokio::join!(answer(&port, "400 Bad Request", error), builder.connect());
    let client = client.unwrap();
    let options = SubscribeOptions::new()
        .since(Position::parse(START).unwrap())
        .presence(Role::Watcher);
    let list = r#"{"type":"presence","channel":"room:1","count":0,"users":0,"members":[]}"#;
    let said = format!(r#"{{"position":"{POSITION}","more":true,"events":[{list}]}}"#);
    let answered = answer(&port, "200 OK", &said);
    let subscribed = timeout(SOON, client.subscribe_with("room:1", options));
    let (_, room) = tokio::join!(answered, subscribed);
    let mut room = room.unwrap().unwrap();
    assert_eq!(room.recovered(), Some(true));
    let event = timeout(SOON, room.next()).await.unwrap();
    assert!(
        matches!(event, Some(Ok(switchboard_client::Event::Presence { .. }))),
        "{event:?}"
    );
}

/// It was lost 10 s after it had begun, and so was each that followed it.
#[tokio::test]
async fn an_answer_that_comes_slowly_is_awaited_as_long_as_it_goes_on() {
    let port = Port::open().await;
    let patience = Duration::from_secs(1);
    let (client, mut room) = polling(&port, patience).await;
    let body = said("hi");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = port.answer(head.as_bytes()).await;
    // Longer than the patience, and never silent for as long.
    for part in body.as_bytes().chunks(body.len().div_ceil(6)) {
        tokio::time::sleep(patience / 4).await;
        stream.write_all(part).await.unwrap();
    }
    assert_eq!(message(&mut room).await.payload.as_str(), Some("hi"));
    assert_eq!(client.state(), State::Open);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_called_so() {
    let port = Port::open().await;
    let (client, _room) = polling(&port, SOON).await;
    let long = " ".repeat(17 * 1024 * 1024);
    let (_, end) = tokio::join!(answer(&port, "200 OK", &long), client.closed());
    let End::Misbehaved(why) = end else {
        panic!("{end:?}");
    };
    assert_eq!(why, "an answer of more than 16777216 bytes");
}

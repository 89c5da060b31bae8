//! From an address to a welcome, or why not.

use std::time::Duration;

use switchboard_client::{Client, ConnectError, ConnectStep, Dialect, End, ErrorCode, Fault, Transport};
use tokio::io::AsyncWriteExt as _;

use crate::fake::{Fake, Port};
use crate::real::Real;

async fn refused(url: &str) -> ConnectError {
    let by_websocket = Client::builder(url).transports([Transport::WebSocket]);
    by_websocket.connect().await.unwrap_err()
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    let error = refused("localhost:8000").await;
    assert!(matches!(error, ConnectError::Url { .. }), "{error}");
    let error = refused("wss://127.0.0.1:1/ws").await;
    assert!(matches!(error, ConnectError::TlsUnsupported), "{error}");
    assert_eq!(error.fault(), Fault::Application);
    let builder = Client::builder("ws://127.0.0.1:1/ws");
    for (name, value) in [("x y", "1"), ("x", "1\n2")] {
        let error = builder.clone().header(name, value).connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Header(_)), "{error}");
    }
    let error = builder
        .header("Sec-WebSocket-Key", "x")
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Request(_)), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = Port::open().await.url();
    let error = refused(&port).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Network);
}

#[tokio::test]
async fn a_refused_handshake_says_what_the_server_said() {
    let server = Real::start();
    let error = Client::builder(&server.url())
        .header("Origin", "https://evil.example")
        .connect()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 403 Forbidden: Pages of this origin may not connect. The setting origins.allow lists those that may."
    );
    let error = refused(&server.at("/elsewhere")).await;
    let ConnectError::Refused {
        status: 404, body, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(body.starts_with("Nothing is here."), "{body}");
    assert_eq!(error.fault(), Fault::Application);
    let error = refused(&server.at("/ws?channel=room:1")).await;
    assert!(
        matches!(error, ConnectError::Refused { status: 400, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_handshake_says_when_to_try_again() {
    let port = Port::open().await;
    let endless = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n{}",
        "busy\u{1b}[31m\n".repeat(1_000)
    );
    let url = port.url();
    let (_stream, error) = tokio::join!(port.answer(endless.as_bytes()), refused(&url));
    let ConnectError::Refused {
        status: 503, body, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(
        body.starts_with("busy[31m\nbusy") && body.len() <= 2_048,
        "{body}"
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(error.fault(), Fault::Server);

    let chunked = b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n";
    let (_stream, error) = tokio::join!(port.answer(chunked), refused(&url));
    assert_eq!(error.to_string(), "the server answered 502 Bad Gateway");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let port = Port::open().await;
    let builder = port.builder().connect_timeout(Duration::from_millis(500));
    let error = builder.connect().await.unwrap_err();
    let ConnectError::Timeout { step, after } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (step, after),
        (ConnectStep::Handshake, Duration::from_millis(500))
    );
    let _silent = port.accept().await;

    let (error, _fake) = tokio::join!(
        builder.connect(),
        Fake::shake_hands(&port, &["switchboard.v1.json"])
    );
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "no welcome within 0.5 s");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_told_by_how_far_it_got() {
    let port = Port::open().await;
    let url = port.url();
    let (error, ()) = tokio::join!(refused(&url), async { drop(port.accept().await) });
    let ConnectError::Lost { step, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(step, ConnectStep::Handshake);

    let (error, ()) = tokio::join!(refused(&url), async {
        let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
        fake.hear_type("connect").await;
        fake.stream.shutdown().await.unwrap();
    });
    let ConnectError::Lost { step, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(step, ConnectStep::Welcome);
}

#[tokio::test]
async fn a_server_of_something_else_is_recognised() {
    let port = Port::open().await;
    let url = port.url();
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let (_stream, error) = tokio::join!(port.answer(page), refused(&url));
    assert_eq!(error.to_string(), "the server answered 200 OK");
    let (_stream, error) = tokio::join!(port.answer(b"SSH-2.0-OpenSSH\r\n\r\n"), refused(&url));
    assert!(matches!(error, ConnectError::NotWebSocket(_)), "{error}");
    let wrong = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let (_stream, error) = tokio::join!(port.answer(wrong), refused(&url));
    assert!(matches!(error, ConnectError::NotWebSocket(_)), "{error}");
    assert_eq!(error.fault(), Fault::Server);
}

#[tokio::test]
async fn a_websocket_server_that_does_not_speak_our_protocol_is_recognised() {
    let port = Port::open().await;
    let url = port.url();
    // RFC 6455 lets a server choose none of the subprotocols.
    let (error, ()) = tokio::join!(refused(&url), async {
        let mut stream = port.accept().await;
        let (request, _) = crate::fake::read_request(&mut stream).await;
        let mut bare = request;
        bare.headers_mut().remove("sec-websocket-protocol");
        let options = switchboard_proto::ws::handshake::ServerOptions::default();
        let accepted = switchboard_proto::ws::handshake::accept(&bare, &options).unwrap();
        let mut answer = Vec::new();
        let response = accepted.response.map(|()| "");
        switchboard_proto::ws::handshake::encode_response(&response, &mut answer);
        stream.write_all(&answer).await.unwrap();
    });
    assert_eq!(
        error.to_string(),
        "this is no Switchboard server: it did not choose the subprotocol switchboard.v1.json"
    );
}

#[tokio::test]
async fn the_token_goes_into_connect_and_a_refusal_comes_back() {
    let port = Port::open().await;
    let builder = port.builder().token("secret");
    assert!(!format!("{builder:?}").contains("secret"));
    let (error, ()) = tokio::join!(builder.connect(), async {
        let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
        let connect = fake.hear_type("connect").await;
        assert_eq!(connect["token"], "secret");
        fake.say(r#"{"type":"error","id":1,"code":"unauthorized","message":"The token is out of date."}"#)
            .await;
        fake.close(4401, "unauthorized").await;
    });
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "not welcome: The token is out of date. (unauthorized)"
    );
    let ConnectError::Rejected(refusal) = error else {
        panic!("{error}");
    };
    assert_eq!(refusal.error_code(), Some(ErrorCode::Unauthorized));
    assert_eq!(refusal.fault(), Fault::Application);
}

#[tokio::test]
async fn a_server_that_is_stopping_says_when_to_come_back() {
    let port = Port::open().await;
    let builder = port.builder();
    let (error, ()) = tokio::join!(builder.connect(), async {
        let mut fake = Fake::shake_hands(&port, &["switchboard.v1.json"]).await;
        fake.say(r#"{"type":"goodbye","code":1001,"reason":"stopping","retry_after_ms":1200}"#)
            .await;
        fake.close(1001, "stopping").await;
    });
    let error = error.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1_200)));
    let ConnectError::Ended(End::ClosedByServer { code, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(code, Some(1001));
}

#[tokio::test]
async fn the_dialect_is_offered_as_a_subprotocol() {
    let port = Port::open().await;
    for (dialect, name) in [
        (Dialect::Json, "switchboard.v1.json"),
        (Dialect::MessagePack, "switchboard.v1.msgpack"),
    ] {
        let builder = port.builder().dialect(dialect).compression(false);
        let connecting = tokio::spawn(async move { builder.connect().await.map(drop) });
        let mut stream = port.accept().await;
        let (request, _) = crate::fake::read_request(&mut stream).await;
        assert_eq!(request.headers()["sec-websocket-protocol"], name);
        assert!(!request.headers().contains_key("sec-websocket-extensions"));
        connecting.abort();
    }
}

#[tokio::test]
async fn who_is_persistent_connects_as_soon_as_there_is_a_server() {
    let port = Port::open().await;
    let has_token = std::sync::atomic::AtomicBool::new(false);
    let builder = port.eager().persistent(true).token_source(move || {
        let has_token = has_token.swap(true, std::sync::atomic::Ordering::Relaxed);
        async move { has_token.then(|| Some("t".to_owned())).ok_or("offline") }
    });
    let (mut fake, client) = tokio::join!(
        async {
            drop(port.accept().await);
            for answer in [
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            ] {
                port.answer(answer.as_bytes()).await;
            }
            Fake::welcome(&port).await
        },
        builder.connect()
    );
    let client = client.unwrap();
    let (pinged, ()) = tokio::join!(client.ping(), async {
        let ping = fake.hear_type("ping").await;
        fake.answer_ping(&ping).await;
    });
    pinged.unwrap();

    // What no other attempt mends is told at once.
    let no = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let (_stream, refused) = tokio::join!(port.answer(no), builder.connect());
    let error = refused.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let secure = Client::builder("wss://127.0.0.1/ws").persistent(true);
    let error = secure.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::TlsUnsupported), "{error}");
}

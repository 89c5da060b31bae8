//! What pages and programs may ask by HTTP beside reading: publishing, from where, and how much.

#![allow(clippy::unwrap_used)] // a test ends where it fails

mod support;

use std::time::Duration;

use support::client::Client;
use support::door::{Stream, publish};
use support::http::{self, Answer};
use support::peer::Peer;
use support::{Live, run, run_on_shards};
use switchboard_proto::dialect::notice::Notice;
use switchboard_proto::limits::Rate;
use switchboard_server::config::{Auto, Origin};

async fn post(live: &Live, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
    http::request(live.public, "POST", "/publish", headers, body.as_ref()).await
}

#[test]
fn a_publish_and_its_answer() {
    run_on_shards(
        |_| {},
        async |live| {
            let mut subscriber = Client::connect(live).await;
            subscriber.subscribe("room:42").await;
            // Whatever the type of the body is said to be: a page need not ask beforehand.
            for media_type in [
                "Content-Type: application/json",
                "Content-Type: text/plain",
                "Content-Type: application/x-www-form-urlencoded",
                "X-No-Type: 1",
            ] {
                let body = r#"{"channel":"room:42","data":{"text":"yo"},"conflate":"k"}"#;
                let answer = post(live, &[media_type], body).await.expect(200);
                assert_eq!(answer.header("content-type"), "application/json");
                assert!(
                    answer.body.starts_with(r#"{"type":"published","offset":"#),
                    "{answer:?}"
                );
                let Notice::Message { message, .. } = subscriber.hear().await else {
                    panic!("a message was published");
                };
                assert_eq!(message.payload.as_bytes(), br#"{"text":"yo"}"#);
                assert!(message.from.unwrap().as_str().starts_with("guest-"));
            }
            let bytes = r#"{"channel":"room:42","data_base64":"AAEC"}"#;
            post(live, &[], bytes).await.expect(200);
            let Notice::Message { message, .. } = subscriber.hear().await else {
                panic!("bytes were published");
            };
            assert_eq!(message.payload.as_bytes(), [0, 1, 2]);
        },
    );
}

#[test]
fn what_is_no_publish_is_refused_with_its_word_and_the_connection_goes_on() {
    run_on_shards(
        |config| config.limits.session.message_bytes_max = 2_048,
        async |live| {
            let large = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(3_000));
            let deep = format!(
                r#"{{"channel":"a","data":{}1{}}}"#,
                "[".repeat(40),
                "]".repeat(40)
            );
            let mut peer = Peer::connect(live.public).await;
            for (body, status, code) in [
                (&b""[..], 400, "bad_request"),
                (b"null", 400, "bad_request"),
                (b"[]", 400, "bad_request"),
                (b"{", 400, "bad_request"),
                (b"\xff", 400, "bad_request"),
                (br#"{"data":1}"#, 400, "bad_request"),
                (br#"{"channel":"a"}"#, 400, "bad_request"),
                (
                    br#"{"channel":"a","data":1,"data_base64":"AA=="}"#,
                    400,
                    "bad_request",
                ),
                (br#"{"type":"subscribe","channel":"a"}"#, 400, "bad_request"),
                (br#"{"channel":"","data":1}"#, 400, "bad_channel"),
                (br#"{"channel":"a","data":"\ud800"}"#, 400, "bad_request"),
                (br#"{"channel":"a","data":1,"key":""}"#, 400, "bad_request"),
                (deep.as_bytes(), 400, "too_complex"),
                (large.as_bytes(), 413, "message_too_big"),
            ] {
                let head = format!(
                    "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                peer.send([head.as_bytes(), body].concat()).await;
                let answer = peer.answer().await;
                let words = String::from_utf8_lossy(body);
                assert_eq!(answer.status, status, "{words}: {answer:?}");
                let said = format!(r#""code":"{code}""#);
                let is_lone = words.contains("ud800") && answer.body.contains("bad_payload");
                assert!(answer.body.contains(&said) || is_lone, "{words}: {answer:?}");
            }
            assert_eq!(live.count(|shard| &shard.publishes), 0);
        },
    );
}

#[test]
fn a_body_has_a_size_and_a_time() {
    run_on_shards(
        |config| {
            config.limits.http_body_bytes_max = 4_096;
            config.limits.http_body_deadline = Duration::from_millis(200);
        },
        async |live| {
            // Said beforehand, and not read.
            let mut peer = Peer::connect(live.public).await;
            peer.send("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4097\r\n\r\n")
                .await;
            let answer = peer.answer().await.expect(413);
            assert_eq!(answer.header("connection"), "close");
            // Or found out.
            let mut peer = Peer::connect(live.public).await;
            peer.send("POST /publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            peer.send(&chunk).await;
            let _gone = peer.try_send(&chunk).await;
            peer.answer().await.expect(413);
            // A body that does not end.
            let mut peer = Peer::connect(live.public).await;
            peer.send("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
                .await;
            assert_refused(&peer.answer().await.expect(408));
            assert_eq!(live.count(|shard| &shard.publishes), 0);
        },
    );
}

#[test]
fn whoever_has_nothing_more_to_say_gets_its_answer() {
    run_on_shards(
        |_| {},
        async |live| {
            // Of every shard, so that some answers come from another thread.
            for number in 0..40 {
                let body = format!(r#"{{"channel":"half:{number}","data":1}}"#);
                let publish = format!(
                    "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let poll =
                    format!("GET /poll?channel=half:{number}&wait=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
                for request in [publish, poll] {
                    let mut peer = Peer::connect(live.public).await;
                    peer.send(request).await;
                    rustix::net::shutdown(&peer.stream, rustix::net::Shutdown::Write).unwrap();
                    peer.answer().await.expect(200);
                }
            }
        },
    );
}

#[test]
fn whoever_publishes_too_much_is_told_to_wait() {
    let mut config = support::config(2);
    config.limits.session.inbound_bytes = Rate {
        per_second: 10,
        burst: 100,
    };
    run(&config, async |live| {
        let mut peer = Peer::connect(live.public).await;
        let body = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(50));
        let request = format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        peer.send(&request).await;
        peer.answer().await.expect(200);
        peer.send(&request).await;
        let refused = peer.answer().await.expect(429);
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(refused.body.contains("retry_after_ms"), "{refused:?}");
        assert_eq!(live.count(|shard| &shard.publishes), 1);
    });
}

#[test]
fn methods_that_there_are_not() {
    run_on_shards(
        |_| {},
        async |live| {
            for (method, target, allowed) in [
                ("GET", "/publish", "POST, OPTIONS"),
                ("PUT", "/publish", "POST, OPTIONS"),
                ("POST", "/poll?channel=a", "GET, OPTIONS"),
                ("HEAD", "/poll?channel=a", "GET, OPTIONS"),
            ] {
                let answer = http::request(live.public, method, target, &[], b"")
                    .await
                    .expect(405);
                assert_eq!(answer.header("allow"), allowed, "{method} {target}");
                if method != "HEAD" {
                    assert_refused(&answer);
                }
            }
        },
    );
}

/// An error of the catalogue, whatever HTTP calls it.
fn assert_refused(answer: &Answer) {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&body["type"], &body["code"]),
        (&"error".into(), &"bad_request".into()),
        "{body}"
    );
    assert_eq!(answer.header("content-type"), "application/json");
}

#[test]
fn a_request_has_one_host() {
    run_on_shards(
        |_| {},
        async |live| {
            for head in ["", "Host: a\r\nHost: b\r\n"] {
                for target in ["/", "/sse?channel=a", "/poll?channel=a", "/elsewhere"] {
                    let mut peer = Peer::connect(live.public).await;
                    peer.send(&format!("GET {target} HTTP/1.1\r\n{head}\r\n")).await;
                    assert_refused(&peer.answer().await.expect(400));
                }
            }
            let mut peer = Peer::connect(live.public).await;
            peer.send("GET /poll?channel=a&wait=0 HTTP/1.0\r\n\r\n").await;
            peer.answer().await.expect(200);
        },
    );
}

#[test]
fn a_host_is_a_host() {
    run_on_shards(
        |_| {},
        async |live| {
            for host in [
                "a b",
                "ana@localhost",
                "localhost/x",
                "localhost?",
                "localhost\\",
                "localhost\u{e9}",
            ] {
                for target in ["/", "/sse?channel=a", "/poll?channel=a", "/ws", "/elsewhere"] {
                    let mut peer = Peer::connect(live.public).await;
                    peer.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                        .await;
                    let answer = peer.answer().await.expect(400);
                    if target != "/ws" {
                        assert_refused(&answer);
                    }
                }
            }
        },
    );
}

#[test]
fn what_asks_for_nothing_that_is_here_gets_an_answer_that_fits() {
    run_on_shards(
        |_| {},
        async |live| {
            for (line, status) in [("OPTIONS *", 204), ("CONNECT chat.example:443", 405)] {
                let mut peer = Peer::connect(live.public).await;
                peer.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                    .await;
                let answer = peer.answer().await.expect(status);
                assert_eq!(answer.header("allow"), "GET, HEAD, POST, OPTIONS", "{line}");
                assert!(!answer.body.contains("page"), "{answer:?}");
            }
        },
    );
}

#[test]
fn a_body_is_as_it_is_said_to_be() {
    run_on_shards(
        |_| {},
        async |live| {
            let body = br#"{"channel":"a","data":1}"#;
            let answer = post(live, &["Content-Encoding: gzip"], body).await.expect(415);
            assert_refused(&answer);
            assert!(answer.body.contains("Content-Encoding"), "{answer:?}");
            assert_eq!(answer.header("accept-encoding"), "identity");
            post(live, &["Content-Encoding: identity"], body)
                .await
                .expect(200);
            // Lengths that differ, of which the first is none.
            let mut peer = Peer::connect(live.public).await;
            let lengths = "Content-Length: 0\r\nContent-Length: 5\r\n";
            let head = format!("GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\nhello");
            peer.send(head).await;
            peer.answer().await.expect(400);
        },
    );
}

#[test]
fn what_is_refused_counts_too() {
    let mut config = support::config(2);
    config.limits.session.commands = Rate {
        per_second: 1,
        burst: 3,
    };
    run(&config, async |live| {
        let origin = "Origin: http://localhost:3000\r\n";
        for (line, status) in [
            ("GET /poll", 400),
            ("GET /sse?channel=", 400),
            ("PUT /publish", 405),
            ("OPTIONS /poll", 204),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n");
            let mut peer = Peer::connect(live.public).await;
            for _ in 0..3 {
                peer.send(&head).await;
                peer.answer().await.expect(status);
            }
            peer.send(&head).await;
            let refused = peer.answer().await.expect(429);
            assert!(refused.body.contains(r#""code":"rate_limited""#), "{refused:?}");
            assert_eq!(refused.header("retry-after"), "1");
            assert_eq!(
                refused.header("access-control-allow-origin"),
                "http://localhost:3000"
            );
        }
    });
}

const DOORS: [(&str, &str, &str); 3] = [
    ("GET", "/sse?channel=$x", ""),
    ("GET", "/poll?channel=a", ""),
    ("POST", "/publish", r#"{"channel":"a","data":1}"#),
];

#[test]
fn pages_of_other_origins_may_ask_if_they_are_listed() {
    run_on_shards(
        |config| config.origins.allow = vec![Origin::parse("https://app.example").unwrap()],
        async |live| {
            for (method, target, body) in DOORS {
                let method_header = format!("Access-Control-Request-Method: {method}");
                let path = target.split('?').next().unwrap();
                for origin in ["https://app.example", "http://localhost:5173"] {
                    let origin_header = format!("Origin: {origin}");
                    let headers = [&*origin_header, &*method_header];
                    let asked = http::request(live.public, "OPTIONS", path, &headers, b"")
                        .await
                        .expect(204);
                    assert_eq!(asked.header("access-control-allow-origin"), origin);
                    let methods = asked.header("access-control-allow-methods");
                    assert!(methods.contains(method), "{methods}");
                    assert!(
                        asked
                            .header("access-control-allow-headers")
                            .contains("Content-Type")
                    );
                    let answer =
                        http::request(live.public, method, target, &[&origin_header], body.as_bytes()).await;
                    assert_ne!(answer.status, 403);
                    assert_eq!(answer.header("access-control-allow-origin"), origin);
                    assert_eq!(answer.header("vary"), "Origin");
                    assert_eq!(answer.header("access-control-allow-credentials"), "");
                }
                for headers in [
                    &["Origin: https://evil.example"][..],
                    &["Origin: null"],
                    &["Origin: https://app.example", "Origin: https://evil.example"],
                    &["Sec-Fetch-Site: cross-site"],
                ] {
                    let answer = http::request(live.public, method, target, headers, body.as_bytes()).await;
                    let asked = http::request(live.public, "OPTIONS", path, headers, b"").await;
                    for refused in [answer, asked] {
                        let refused = refused.expect(403);
                        assert_refused(&refused);
                        assert_eq!(refused.header("access-control-allow-origin"), "");
                    }
                }
                http::request(
                    live.public,
                    method,
                    target,
                    &["Sec-Fetch-Site: same-origin"],
                    body.as_bytes(),
                )
                .await;
            }
            // Two of each allowed origin and one of the same; none of the others.
            assert_eq!(live.count(|shard| &shard.publishes), 3);
            let mut stream = Stream::open(live, "channel=a", "Origin: https://app.example\r\n", None).await;
            assert_eq!(
                stream.header("access-control-allow-origin"),
                "https://app.example"
            );
            publish(live, r#"{"channel":"a","data":1}"#).await.unwrap();
            assert!(stream.next().await.is_ok());
        },
    );
}

/// A browser says nothing but the `Host` where a page of `http://evil.example:8000` asks its own origin, and that name may lead here.
#[test]
fn a_page_whose_name_leads_to_this_machine_may_not_ask() {
    run_on_shards(
        |config| config.origins.allow = vec![Origin::parse("https://app.example").unwrap()],
        async |live| {
            let (public, internal) = (live.public.port(), live.internal.port());
            for (to, targets) in [
                (
                    live.public,
                    &["/sse?channel=$x", "/poll?channel=a", "/publish"][..],
                ),
                (
                    live.internal,
                    &[
                        "/api/v1/history?channel=a",
                        "/api/v1/presence?channel=a",
                        "/metrics",
                    ],
                ),
            ] {
                let ask = async |target: &str, headers: &str| {
                    let mut peer = Peer::connect(to).await;
                    peer.send(format!("GET {target} HTTP/1.1\r\n{headers}\r\n")).await;
                    peer.answer().await
                };
                for target in targets {
                    for host in [
                        "evil.example",
                        &format!("evil.example:{public}"),
                        "localhost.evil.example",
                    ] {
                        for site in ["", "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n"] {
                            ask(target, &format!("Host: {host}\r\n{site}")).await.expect(403);
                        }
                    }
                    for host in [
                        "localhost",
                        &format!("localhost:{internal}"),
                        "127.0.0.1",
                        &format!("127.0.0.1:{public}"),
                        &format!("[::1]:{public}"),
                        "app.example",
                    ] {
                        let answer = ask(target, &format!("Host: {host}\r\n")).await;
                        assert_ne!(answer.status, 403, "{host} {target}");
                    }
                }
            }
            // Other pages of this machine may ask as themselves, and embed nothing.
            for (site, status) in [
                ("same-origin", 200),
                ("none", 200),
                ("same-site", 403),
                ("cross-site", 403),
            ] {
                let site = format!("Sec-Fetch-Site: {site}");
                http::request(live.internal, "GET", "/metrics", &[&site], b"")
                    .await
                    .expect(status);
            }
            let headers = ["Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"];
            http::request(live.internal, "GET", "/metrics", &headers, b"")
                .await
                .expect(200);
        },
    );
}

#[test]
fn a_server_that_wants_to_know_who_asks_lets_nobody_in() {
    run_on_shards(
        |config| config.auth.anonymous = Auto::Fixed(false),
        async |live| {
            for (method, target, body) in DOORS {
                let answer = http::request(live.public, method, target, &[], body.as_bytes())
                    .await
                    .expect(401);
                assert_eq!(answer.header("www-authenticate"), "Bearer", "{target}");
                assert!(answer.body.contains(r#""code":"unauthorized""#), "{answer:?}");
            }
            assert_eq!(live.count(|shard| &shard.publishes), 0);
        },
    );
}

#[test]
fn a_head_has_a_size() {
    run_on_shards(
        |config| config.limits.http_head_bytes_max = 8 * 1024,
        async |live| {
            for (method, target, body) in DOORS {
                let many = format!("X-Large: {}", "x".repeat(9_000));
                let answer = http::request(live.public, method, target, &[&many], body.as_bytes()).await;
                assert_eq!(answer.status, 431, "{target}");
            }
        },
    );
}

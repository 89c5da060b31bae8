//! Another server's protocol, said by templates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::call::{bench, bench_with, only};
use crate::scripted::{self, Event};

/// A server with a text protocol of its own:
///
/// ```text
///   ──► INFO                                        ◄── CONNECT <n>           ──► OK
///   ◄── SUB <channel>                               ──► OK <channel>
///   ◄── PUB <channel> <length> <payload>            ──► OK        and MSG <channel> <payload> to its subscribers
/// ```
///
/// It keeps what is wrong with what it hears.
fn server(wrong: Arc<Mutex<Vec<String>>>) -> String {
    #[derive(Default)]
    struct Client {
        path: String,
        is_connected: bool,
        channels: Vec<String>,
    }
    let mut known: HashMap<u64, Client> = HashMap::new();
    let address = scripted::serve(move |clients, client, event| {
        let (text, state) = match event {
            Event::Came { path } => {
                let state = Client {
                    path,
                    ..Client::default()
                };
                known.insert(client, state);
                return clients.say(client, &["INFO"]);
            }
            Event::Went => return drop(known.remove(&client)),
            Event::Said { text, .. } => (text, known.get_mut(&client).unwrap()),
        };
        let words: Vec<_> = text.split(' ').collect();
        match (state.path.as_str(), state.is_connected, &words[..]) {
            ("/in?v=1" | "/out", false, ["CONNECT", number]) if number.parse::<u32>().is_ok() => {
                state.is_connected = true;
                clients.say(client, &["OK"]);
            }
            ("/in?v=1", true, ["SUB", channel]) if channel.starts_with("chat/") => {
                state.channels.push((*channel).to_owned());
                clients.say(client, &[format!("OK {channel}")]);
            }
            ("/out", true, ["PUB", channel, length, payload]) if *length == payload.len().to_string() => {
                clients.say(client, &["OK"]);
                for (subscriber, state) in &known {
                    if state.channels.iter().any(|subscribed| subscribed == channel) {
                        clients.say(*subscriber, &[format!("MSG {channel} {payload}")]);
                    }
                }
            }
            (path, ..) => {
                clients.say(client, &["ERR what?"]);
                wrong.lock().unwrap().push(format!("{path}: {text}"));
            }
        }
    });
    format!("--url ws://{address}/in?v=1 --publish-url ws://{address}/out")
}

const TEMPLATES: &[&str] = &[
    "--subprotocol",
    "chat.v1",
    "--greeting",
    "1",
    "--hello",
    "CONNECT {n}",
    "--channel",
    "chat/{room}",
    "--subscribe",
    "SUB {channel}",
    "--publish",
    "PUB {channel} {length} {payload}",
];

#[test]
fn a_protocol_of_its_own() {
    let wrong = Arc::default();
    let server = server(Arc::clone(&wrong));
    for (words, figure) in [
        (
            "fanout --subscribers 20 --bytes 100 --messages 40 --burst 5",
            "CPU per delivery",
        ),
        (
            "publish --rooms 12 --rooms-each 5 --members 2 --publishers 3 --messages 60",
            "CPU per publish",
        ),
        ("accept --connections 20", "CPU per connection"),
    ] {
        let ended = bench_with(&format!("{words} {server} --rounds 2 --json"), TEMPLATES).expect(0);
        let report = ended.report();
        // The server is this process, and is found by its address.
        let cost = only(&report).figure(figure).unwrap();
        assert_eq!(cost.samples.len(), 2, "{ended}");
        assert!(cost.ratio.is_some(), "{ended}");
        assert!(
            report.command.contains("'PUB {channel} {length} {payload}'"),
            "{ended}"
        );
    }
    assert_eq!(*wrong.lock().unwrap(), [""; 0]);
}

/// What the server says in place of a message is the best explanation there is.
#[test]
fn what_the_server_says_instead_is_told() {
    let server = server(Arc::default());
    let templates = [&TEMPLATES[..10], &["--publish", "SAY {channel} {payload}"]].concat();
    let ended = bench_with(
        &format!("fanout {server} --subscribers 2 --messages 4 --rounds 1"),
        &templates,
    );
    ended
        .expect(1)
        .says("2 of 2 deliveries did not arrive (the server said: ERR what?)");
}

/// Everyone hears everything, those who publish as well: nothing tells them apart.
#[test]
fn a_server_with_one_kind_of_client() {
    let mut everyone = Vec::new();
    let address = scripted::serve(move |clients, client, event| match event {
        Event::Came { .. } => everyone.push(client),
        Event::Went => everyone.retain(|one| *one != client),
        Event::Said { text, .. } => {
            for one in &everyone {
                clients.say(*one, &[&text]);
            }
        }
    });
    for words in [
        "fanout --subscribers 3 --messages 40",
        "latency --subscribers 3 --rate 60 --seconds 1",
    ] {
        bench(&format!("{words} --url ws://{address}/ --rounds 2")).expect(0);
    }
}

//! WebSocket servers of a test: what they do is a closure.
//!
//! ```text
//!   connection ── a thread that reads ──► one queue ──► the script, on one thread ──► any connection
//! ```

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::frame::{Opcode, encode};
use switchboard_proto::ws::handshake::{HeadLimits, HeadReader, ServerOptions, accept, encode_response};
use switchboard_proto::ws::{CloseCode, Connection, Limits, Received};

/// What happens on a connection.
pub enum Event {
    /// It is open, and asked for this path.
    Came { path: String },
    /// It has sent a text.
    Said { text: String, at: Instant },
    /// It has gone.
    Went,
}

/// Everyone who is connected.
#[derive(Default)]
pub struct Clients(HashMap<u64, TcpStream>);

impl Clients {
    /// Sends texts, all of them at once.
    pub fn say<T: AsRef<str>>(&mut self, client: u64, texts: &[T]) {
        let mut out = Vec::new();
        for text in texts {
            encode(Opcode::Text, false, text.as_ref().as_bytes(), None, &mut out);
        }
        self.write(client, &out);
    }

    /// Hangs up, with a word.
    pub fn close(&mut self, client: u64, code: u16, reason: &str) {
        let code = CloseCode::new(code).unwrap().value().to_be_bytes();
        let mut out = Vec::new();
        encode(
            Opcode::Close,
            false,
            &[&code, reason.as_bytes()].concat(),
            None,
            &mut out,
        );
        self.write(client, &out);
    }

    /// For who wants to send something by himself.
    pub fn stream(&self, client: u64) -> TcpStream {
        self.0[&client].try_clone().unwrap()
    }

    fn write(&mut self, client: u64, bytes: &[u8]) {
        // One who has gone is told of by an event.
        if let Some(mut stream) = self.0.get(&client) {
            let _gone = stream.write_all(bytes);
        }
    }
}

enum Step {
    /// With the answer to its handshake.
    Came(TcpStream, String, Vec<u8>),
    Said(String, Instant),
    Went,
}

/// A server that does as `script` says, until the tests end. One event after the other; `u64` is the connection.
pub fn serve(mut script: impl FnMut(&mut Clients, u64, Event) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, steps) = mpsc::channel();
    thread::spawn(move || {
        for (client, stream) in (0..).zip(listener.incoming()) {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || {
                let step = |step| sender.send((client, step)).is_ok();
                // However it ends, it has gone.
                let _ended = converse(stream, &step);
                step(Step::Went);
            });
        }
    });
    thread::spawn(move || {
        let mut clients = Clients::default();
        for (client, step) in steps {
            let event = match step {
                Step::Came(stream, path, answer) => {
                    clients.0.insert(client, stream);
                    clients.write(client, &answer);
                    Event::Came { path }
                }
                Step::Said(text, at) => Event::Said { text, at },
                Step::Went => {
                    clients.0.remove(&client);
                    Event::Went
                }
            };
            script(&mut clients, client, event);
        }
    });
    address
}

/// Takes the handshake and reads texts. `None` when the connection ends.
fn converse(mut stream: TcpStream, step: &impl Fn(Step) -> bool) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut head = HeadReader::new(HeadLimits::default());
    let mut bytes = Vec::new();
    let (request, used) = loop {
        read(&mut stream, &mut bytes)?;
        if let Some(found) = head.request(&bytes).unwrap() {
            break found;
        }
    };
    bytes.drain(..used);
    let asked = request.headers().get("sec-websocket-protocol");
    let options = ServerOptions {
        subprotocols: asked
            .iter()
            .map(|name| name.to_str().unwrap().to_owned())
            .collect(),
        ..ServerOptions::default()
    };
    let accepted = accept(&request, &options).unwrap();
    let mut answer = Vec::new();
    encode_response(&accepted.response.map(|()| [0; 0]), &mut answer);
    step(Step::Came(
        stream.try_clone().unwrap(),
        request.uri().to_string(),
        answer,
    ));

    let mut connection = Connection::server(Limits::default(), None);
    let mut contexts = Contexts::new(1);
    loop {
        let at = Instant::now();
        let mut input = bytes.as_mut_slice();
        while let Some(received) = connection.receive(&mut input, &mut contexts).unwrap() {
            match received {
                Received::Text(text) => step(Step::Said(text.as_str().to_owned(), at)),
                Received::Close(_) => return None,
                other => panic!("the load sends {other:?}"),
            };
        }
        bytes.clear();
        read(&mut stream, &mut bytes)?;
    }
}

fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            bytes.extend_from_slice(&piece[..length]);
            Some(())
        }
    }
}

/// A message on its way through a [`relay`].
pub struct Message {
    /// Which one, from 1, since the server began.
    pub number: u64,
    pub text: String,
    /// When it came.
    pub at: Instant,
}

/// A server with one channel: who asks for `/publish` publishes, all others are subscribers, and each of these gets what
/// `relay` makes of a message.
pub fn relay(mut relay: impl FnMut(Message) -> Vec<String> + Send + 'static) -> String {
    channel(move |clients, subscribers, message| {
        let texts = relay(message);
        for subscriber in subscribers {
            clients.say(*subscriber, &texts);
        }
    })
}

/// The same where the script does the sending. The answer is how the bench is told of it.
pub fn channel(mut script: impl FnMut(&mut Clients, &[u64], Message) + Send + 'static) -> String {
    let mut subscribers = Vec::new();
    let mut number = 0;
    let address = serve(move |clients, client, event| match event {
        Event::Came { path } if path == "/publish" => {}
        Event::Came { .. } => subscribers.push(client),
        Event::Said { text, at } => {
            number += 1;
            script(clients, &subscribers, Message { number, text, at });
        }
        Event::Went => subscribers.retain(|subscriber| *subscriber != client),
    });
    format!("--url ws://{address}/ --publish-url ws://{address}/publish")
}

//! A chat in the terminal: lines that are typed are published, what is said in the channel is printed.
//!
//! `cargo run --release --package switchboard-client --example terminal-chat -- room:lobby Ana [ws://127.0.0.1:8000/ws]`
//!
//! It speaks as the page `examples/chat` does, so both meet in `room:lobby`. It ends with its input (Ctrl+D).

use std::error::Error;
use std::io::BufRead as _;

use serde_json::{Value, json};
use switchboard_client::{Client, Event, Message, Payload, Role, State, SubscribeOptions};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(channel), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: terminal-chat CHANNEL NAME [URL]".into());
    };
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:8000/ws".to_owned());

    let client = Client::connect(&url).await?;
    let info = Payload::json(&json!({ "name": name }).to_string())?;
    let options = SubscribeOptions::new().presence(Role::Participant).info(info)?;
    let mut room = client.subscribe_with(&channel, options).await?;
    println!("-- in {channel} as {name}, by {}", client.transport());

    // Whoever awaits a publication in the loop that takes the events may wait for ever, so another task publishes.
    let mut publisher = tokio::spawn(publish(client.clone(), channel, name, lines()));
    let mut state = client.state();
    let mut here = None;
    loop {
        tokio::select! {
            event = room.next() => match event {
                Some(event) => show(event?, &mut here),
                None => return Err("the server ended the subscription".into()),
            },
            changed = client.state_other_than(&state) => {
                state = changed;
                match &state {
                    State::Open => println!("-- connected by {}", client.transport()),
                    State::Waiting { attempt, why, .. } => println!("-- waiting for attempt {attempt}: {why}"),
                    State::Connecting { .. } => println!("-- connecting"),
                    State::Closed(end) => return Err(end.to_string().into()),
                }
            }
            _ = &mut publisher => break,
        }
    }
    client.close().await;
    Ok(())
}

/// The lines of the standard input. A thread reads them, because nothing can wait for a terminal without one.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Publishes one line after the other. Without a connection it waits for the next one.
async fn publish(client: Client, channel: String, name: String, mut lines: mpsc::Receiver<String>) {
    while let Some(text) = lines.recv().await {
        if text.trim().is_empty() {
            continue;
        }
        if let Err(error) = client
            .publish_json(&channel, &json!({ "name": name, "text": text }))
            .await
        {
            println!("-- not published: {error}");
        }
    }
}

/// `here` is how many were there when it was last told.
fn show(event: Event, here: &mut Option<u32>) {
    match event {
        Event::Message(message) => println!("{}", line(&message)),
        Event::Gap { from, to, .. } => println!("-- messages {from} to {to} are missing"),
        Event::Reset { .. } => println!("-- the server has begun a new log"),
        // A list, or one who comes as another leaves, leaves the number as it is.
        Event::Presence { counts, .. } => {
            if here.replace(counts.members) != Some(counts.members) {
                println!("-- here: {}", counts.members);
            }
        }
    }
}

/// Whoever publishes may say what it likes: `{"name": …, "text": …}`, as this program does, or plain text.
fn line(message: &Message) -> String {
    let said: Value = message.payload.decode().unwrap_or_default();
    let from = said["name"].as_str().or(message.from.as_deref());
    let text = said["text"].as_str().or(message.payload.as_str());
    // Nobody's words may move the cursor, or colour the terminal.
    let plain = |words: &str| words.replace(char::is_control, " ");
    format!(
        "{}: {}",
        plain(from.unwrap_or("the server")),
        plain(text.unwrap_or("(bytes)"))
    )
}

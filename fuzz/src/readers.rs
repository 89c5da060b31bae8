//! What peers that only read ask for, and what they are told: `server::http::reading`, `proto::session::places`,
//! `proto::dialect::event_stream`.

use std::time::Duration;

use serde_json::Value;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{DialectId, Event, Gap};
use switchboard_proto::position::{Epoch, Position};
use switchboard_proto::session::places::Places;
use switchboard_server::http::reading::Reading;

use crate::script::Script;
use crate::vocabulary;

/// Channels that one request may name.
const CHANNELS_MAX: usize = 4;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Queries of `/sse` and `/poll`, and the stream that follows.
///
/// - Any query is read or refused; what is read is within its bounds.
/// - Where a reader is comes back from its token as it was.
/// - A reader that takes a stream as HTML says, cut off anywhere, has the data of every whole event, and its last id is where it is
///   then in all channels.
pub fn readers(data: &[u8]) {
    let query = String::from_utf8_lossy(data);
    let (query, header) = match query.split_once('\n') {
        Some((query, header)) => (query, Some(header)),
        None => (&*query, None),
    };
    if let Ok(reading) = Reading::parse(query, header, CHANNELS_MAX, WAIT_MAX) {
        let channels: Vec<_> = reading.places.iter().map(|place| place.channel.clone()).collect();
        assert_eq!(reading.wishes.len(), channels.len());
        assert!((1..=CHANNELS_MAX).contains(&channels.len()) && reading.wait <= WAIT_MAX);
        check_token(&reading.places, channels);
    }
    stream(&mut Script::new(data));
}

fn check_token(places: &Places, channels: Vec<ChannelName>) {
    let token = places.to_string();
    match Places::parse(channels, &token) {
        // Of channels with the same fingerprint the first takes it.
        Ok(again) => assert_eq!(again.to_string().len(), token.len()),
        Err(_) => assert_eq!(token, ""),
    }
}

fn stream(script: &mut Script<'_>) {
    let names: Vec<_> = (0..1 + script.choose(CHANNELS_MAX))
        .map(|number| format!("room:{number}"))
        .collect();
    let channels: Vec<_> = names
        .iter()
        .map(|name| ChannelName::parse(name).expect("a valid name"))
        .collect();
    let mut places = Places::new(channels.clone());
    // What was said: where in the stream the event ends, its JSON, and where the reader is behind it.
    let mut said: Vec<(usize, Value, String)> = Vec::new();
    let mut at: Vec<Option<Position>> = vec![None; channels.len()];
    let mut sent = Vec::new();
    for _ in 0..script.choose(12) {
        let index = script.choose(channels.len());
        let channel = &channels[index];
        let mut chunk = Vec::new();
        let mut events = Vec::new();
        for _ in 0..1 + script.choose(3) {
            let json = say(script, channel, &mut at[index], &mut chunk);
            let token = at.iter().flatten().map(Position::to_string);
            events.push((json, token.collect::<Vec<_>>().join(".")));
        }
        sent.extend_from_slice(&places.localize(channel, &chunk));
        // Where each event ends only the reader finds out; of the last one it is known.
        let count = events.len();
        for (number, (json, token)) in events.into_iter().enumerate() {
            let end = if number + 1 == count { sent.len() } else { 0 };
            said.push((end, json, token));
        }
    }
    check_token(&places, channels);

    let cut = script.choose(sent.len() + 1);
    let heard = hear(&sent[..cut]);
    for ((_, json, token), (data, id)) in said.iter().zip(&heard) {
        let value: Value = serde_json::from_str(data).expect("data is JSON");
        assert_eq!((&value, token), (json, id));
    }
    let whole = said.iter().rposition(|(end, _, _)| *end > 0 && *end <= cut);
    assert!(heard.len() >= whole.map_or(0, |last| last + 1) && heard.len() <= said.len());
}

/// Appends an event that takes the reader somewhere. Gives its JSON.
fn say(
    script: &mut Script<'_>,
    channel: &ChannelName,
    at: &mut Option<Position>,
    chunk: &mut Vec<u8>,
) -> Value {
    let position = Position {
        epoch: Epoch::of(channel, script.long()),
        ..vocabulary::position(script)
    };
    *at = Some(position);
    let entry = vocabulary::entry(script);
    let mut entry = (*entry).clone();
    entry.position = position;
    let event = match script.choose(4) {
        0 => Event::Subscribed {
            id: None,
            channel,
            position,
            recovered: Some(true),
        },
        1 => Event::Reset { channel, position },
        2 => Event::Gap {
            channel,
            gap: Gap {
                from: 1,
                to: position.offset,
                position,
            },
            conflated: false,
        },
        _ => Event::Message {
            channel,
            entry: &entry,
        },
    };
    let _text = DialectId::EventStream.dialect().encode(&event, chunk);
    let mut json = Vec::new();
    let _text = DialectId::Json.dialect().encode(&event, &mut json);
    serde_json::from_slice(&json).expect("an event is JSON")
}

/// What a program dispatches, and its last event id then (HTML, sections 9.2.5 and 9.2.6).
fn hear(stream: &[u8]) -> Vec<(String, String)> {
    let stream = String::from_utf8_lossy(stream)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let (mut dispatched, mut data, mut last_id) = (Vec::new(), String::new(), String::new());
    let mut lines: Vec<_> = stream.split('\n').collect();
    // "Once the end of the file is reached, any pending data must be discarded."
    lines.pop();
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                dispatched.push((std::mem::take(&mut data), last_id.clone()));
            }
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" => last_id = value.to_owned(),
            _ => {}
        }
    }
    dispatched
}

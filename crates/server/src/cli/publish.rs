//! `switchboard publish`: one message, or each line of standard input.

mod pipeline;

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use switchboard_client::Position;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::limits::KEY_BYTES_MAX;
use switchboard_proto::payload::{BadPayload, Payload, PayloadKind};
use tokio::sync::mpsc;

use self::pipeline::Pipeline;
use super::connection::{self, CLOSE_PATIENCE};
use super::listen::channel;
use super::terminal::plural;
use super::{Failure, URL, exit};

const EXAMPLES: &str = "\
Examples:
  switchboard publish room:lobby '{\"text\":\"hello\"}'    JSON, because it reads as JSON
  switchboard publish room:lobby hello                  text, because it does not
  switchboard publish room:lobby --text 42              text in any case
  tail -f app.log | switchboard publish logs -          each line a message
  switchboard publish jobs --key job-17 '{\"id\":17}'     the same key again publishes nothing

Each message that the server has taken is a line of output: channel, offset, position.
Lines of standard input keep their order, at the pace that the server allows.
Exit codes: 0 every message was acknowledged; 1 one was not; 2 wrong usage.";

/// Longest line of standard input, in bytes. A server takes far less unless it is told otherwise.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What `publish` may be told.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    /// The channel.
    #[arg(value_name = "CHANNEL", value_parser = channel)]
    pub channel: ChannelName,
    /// The message: JSON if it reads as JSON, else text; `-` publishes each line of standard input.
    #[arg(value_name = "DATA", allow_hyphen_values = true)]
    pub data: String,
    #[command(flatten)]
    kind: KindArgs,
    /// The server.
    #[arg(long, value_name = "URL", default_value = URL)]
    pub url: String,
    /// Idempotency key: a second publication with it, within minutes, is answered and not repeated. Lines of standard
    /// input get KEY-1, KEY-2 and so on.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
struct KindArgs {
    /// It is text, even if it reads as JSON.
    #[arg(long)]
    text: bool,
    /// It is JSON; anything else is an error.
    #[arg(long)]
    json: bool,
    /// It is bytes, written in base64.
    #[arg(long)]
    base64: bool,
}

/// What kind of content DATA is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// JSON if it reads as JSON, else text.
    Guess,
    /// Text.
    Text,
    /// JSON.
    Json,
    /// Bytes in base64.
    Base64,
}

impl Kind {
    fn of(args: KindArgs) -> Kind {
        match args {
            KindArgs { text: true, .. } => Kind::Text,
            KindArgs { json: true, .. } => Kind::Json,
            KindArgs { base64: true, .. } => Kind::Base64,
            KindArgs { .. } => Kind::Guess,
        }
    }

    /// The message that `data` is.
    pub fn payload(self, data: &str) -> Result<Payload, BadPayload> {
        match self {
            Kind::Guess => Ok(Payload::json(data).unwrap_or_else(|_| Payload::text(data))),
            Kind::Text => Ok(Payload::text(data)),
            Kind::Json => Payload::json(data),
            Kind::Base64 => match STANDARD.decode(data.trim()) {
                Ok(bytes) => Ok(Payload::bytes(bytes)),
                Err(_) => Err(BadPayload::Base64),
            },
        }
    }
}

/// Whether a person probably meant JSON, and the shell took the quotes.
fn is_nearly_json(data: &str, payload: &Payload) -> bool {
    payload.kind() == PayloadKind::Text && data.trim_start().starts_with(['{', '['])
}

/// Where the server put a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type", rename = "published")]
pub struct Published {
    /// Its channel.
    pub channel: String,
    /// Its place.
    pub offset: u64,
    /// Its place, as a token.
    pub position: String,
}

impl Published {
    fn new(channel: &ChannelName, position: &Position) -> Published {
        Published {
            channel: channel.to_string(),
            offset: position.offset,
            position: position.to_string(),
        }
    }

    /// The line about it, without its newline: aligned for a terminal, JSON for anything else.
    pub fn line(&self, terminal: bool) -> String {
        match terminal {
            true => format!("{}  #{}  {}", self.channel, self.offset, self.position),
            // Strings and numbers always serialize.
            false => serde_json::to_string(self).unwrap_or_default(),
        }
    }
}

/// One message to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Publication {
    payload: Payload,
    key: Option<String>,
}

pub(super) fn run(args: &PublishArgs) -> Result<u8, Failure> {
    let kind = Kind::of(args.kind);
    check_key(args)?;
    let lines = args.data == "-";
    let (sender, publications) = mpsc::channel(1);
    if lines {
        let key = args.key.clone();
        // It may be in the middle of a line that never ends when the command is done, so nobody waits for it.
        std::thread::spawn(move || read_input(&sender, kind, key.as_deref()));
    } else {
        let payload = kind
            .payload(&args.data)
            .map_err(|error| Failure::Usage(format!("DATA: {error}")))?;
        if kind == Kind::Guess && is_nearly_json(&args.data, &payload) {
            let _ = writeln!(
                io::stderr(),
                "note: DATA begins like JSON but is not, and goes out as text"
            );
        }
        let key = args.key.clone();
        // It has room for one.
        let _taken = sender.try_send(Ok(Publication { payload, key }));
        drop(sender);
    }
    let terminal = io::stdout().is_terminal();
    let published = connection::runtime()?.block_on(publish(args, lines, publications, terminal))?;
    if lines && terminal {
        let _ = writeln!(io::stderr(), "{} published", plural(published, "message"));
    }
    Ok(exit::DONE)
}

/// Publishes what comes and writes a line about each.
async fn publish(
    args: &PublishArgs,
    lines: bool,
    publications: mpsc::Receiver<Result<Publication, Failure>>,
    terminal: bool,
) -> Result<u64, Failure> {
    let client = connection::connect_once(&args.url).await?;
    let mut out = io::stdout();
    let done = |position: &Position| {
        let published = Published::new(&args.channel, position);
        writeln!(out, "{}", published.line(terminal))?;
        out.flush()
    };
    let pipeline = Pipeline::new(client.clone(), args.channel.clone(), lines, done);
    let published = pipeline.run(publications).await;
    let _slow_servers_go_without = tokio::time::timeout(CLOSE_PATIENCE, client.close()).await;
    published
}

/// Hands over the lines of standard input, and at last why there are no more, unless it ended.
fn read_input(publications: &mpsc::Sender<Result<Publication, Failure>>, kind: Kind, key: Option<&str>) {
    let read = each_line(&mut io::stdin().lock(), kind, key, |publication| {
        let gone = |_| Failure::Failed("publishing has ended".to_owned());
        publications.blocking_send(Ok(publication)).map_err(gone)
    });
    if let Err(failure) = read {
        let _gone = publications.blocking_send(Err(failure));
    }
}

fn check_key(args: &PublishArgs) -> Result<(), Failure> {
    // Room for the number of a line.
    let number = if args.data == "-" {
        1 + u64::MAX.to_string().len()
    } else {
        0
    };
    match &args.key {
        Some(key) if key.is_empty() => Err(Failure::Usage("--key: a key is not empty".to_owned())),
        Some(key) if key.len() + number > KEY_BYTES_MAX => {
            let most = KEY_BYTES_MAX - number;
            Err(Failure::Usage(format!(
                "--key: a key has at most {most} bytes here"
            )))
        }
        _ => Ok(()),
    }
}

/// Hands over each line, without its line break, and returns how many there were. Stops at the first that fails.
fn each_line(
    input: &mut impl BufRead,
    kind: Kind,
    key: Option<&str>,
    mut publish: impl FnMut(Publication) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut number = 0;
    while let Some(line) = read_line(input)? {
        number += 1;
        let bad = |reason: String| Failure::Failed(format!("line {number} of standard input: {reason}"));
        let line = line.map_err(|reason| bad(reason.to_owned()))?;
        let payload = kind.payload(&line).map_err(|error| bad(error.to_string()))?;
        let key = key.map(|key| format!("{key}-{number}"));
        publish(Publication { payload, key })?;
    }
    Ok(number)
}

/// The next line, or why it is none; `None` at the end.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<String, &'static str>>> {
    let mut line = Vec::new();
    // One byte more than allowed shows that there is more, besides the line break.
    let mut bounded = input.take(LINE_BYTES_MAX as u64 + 3);
    if bounded.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() > LINE_BYTES_MAX {
        return Ok(Some(Err("longer than 64 MiB")));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| "not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, data: &str, expected: Result<(PayloadKind, &[u8]), BadPayload>) {
        let payload = kind.payload(data);
        let seen = payload
            .as_ref()
            .map(|payload| (payload.kind(), payload.as_bytes()));
        assert_eq!(seen, expected.as_ref().map(|e| *e), "{data}");
    }

    #[test]
    fn what_reads_as_json_is_json() {
        let json = |data: &'static str| check(Kind::Guess, data, Ok((PayloadKind::Json, data.as_bytes())));
        for data in [r#"{"text":"hi"}"#, "[1, 2]", "42", "-1.5e3", "true", "null"] {
            json(data);
        }
        check(Kind::Guess, r#""quoted""#, Ok((PayloadKind::Text, b"quoted")));
    }

    #[test]
    fn what_does_not_read_as_json_is_text() {
        for data in ["hello", "{not json", "True", "", "1 2", "\"open"] {
            check(Kind::Guess, data, Ok((PayloadKind::Text, data.as_bytes())));
        }
    }

    #[test]
    fn quotes_that_the_shell_took_are_noticed() {
        let nearly = |data: &str| is_nearly_json(data, &Kind::Guess.payload(data).unwrap());
        assert!(nearly("{text:hello}"));
        assert!(!nearly("{\"text\":1}"));
        assert!(!nearly("hello"));
    }

    #[test]
    fn what_is_said_to_be_something_is_that_or_an_error() {
        check(Kind::Text, "42", Ok((PayloadKind::Text, b"42")));
        check(Kind::Json, "42", Ok((PayloadKind::Json, b"42")));
        check(Kind::Json, "hello", Err(BadPayload::Json));
        check(Kind::Base64, "AAEC\n", Ok((PayloadKind::Bytes, &[0, 1, 2])));
        check(Kind::Base64, "AAE", Err(BadPayload::Base64));
    }

    fn lines(input: &[u8], kind: Kind, key: Option<&str>) -> (Vec<Publication>, Result<u64, String>) {
        let mut sent = Vec::new();
        let result = each_line(&mut &input[..], kind, key, |publication| {
            sent.push(publication);
            Ok(())
        });
        (sent, result.map_err(|failure| failure.to_string()))
    }

    #[test]
    fn each_line_is_a_message() {
        let (sent, result) = lines(b"one\r\n{\"n\":2}\n\nlast", Kind::Guess, Some("k"));
        assert_eq!(result, Ok(4));
        let seen: Vec<_> = sent
            .iter()
            .map(|sent| (sent.payload.as_str().unwrap(), sent.key.as_deref().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [("one", "k-1"), ("{\"n\":2}", "k-2"), ("", "k-3"), ("last", "k-4")]
        );
    }

    #[test]
    fn a_line_that_is_no_message_ends_it_and_is_named() {
        let (sent, result) = lines(b"1\nx\n2\n", Kind::Json, None);
        assert_eq!(sent.len(), 1);
        assert_eq!(result, Err("line 2 of standard input: not valid JSON".to_owned()));
        let (_, result) = lines(b"\xff\n", Kind::Guess, None);
        assert_eq!(result, Err("line 1 of standard input: not UTF-8".to_owned()));
    }

    #[test]
    fn a_line_without_an_end_is_not_read_into_memory() {
        let endless = io::repeat(b'x');
        let mut input = io::BufReader::new(endless);
        let line = read_line(&mut input).unwrap();
        assert_eq!(line, Some(Err("longer than 64 MiB")));
    }

    #[test]
    fn where_it_was_put() {
        let published = Published {
            channel: "room:1".to_owned(),
            offset: 19,
            position: "pAQI".to_owned(),
        };
        assert_eq!(published.line(true), "room:1  #19  pAQI");
        assert_eq!(
            published.line(false),
            r#"{"type":"published","channel":"room:1","offset":19,"position":"pAQI"}"#
        );
    }
}

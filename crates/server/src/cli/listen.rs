//! `switchboard listen`: the messages of channels, as they come.
//!
//! ```text
//!  thread of the connection: follow ── events (bounded) ──► this thread: Printer ──► standard output
//! ```
//!
//! Whoever reads the output may take his time: the connection lives on meanwhile.

mod follow;

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use switchboard_client::{Counts, Member, MemberKey, Who};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::payload::{Payload, PayloadKind};

use super::terminal::{harmless, plural, time_of_day};
use super::{Failure, URL, exit};

const EXAMPLES: &str = "\
Examples:
  switchboard listen room:lobby                       aligned lines on a terminal
  switchboard listen room:1 room:2 | jq .data         JSON objects in a pipe, one a line
  switchboard listen --data --count 1 jobs > job.txt  wait for one message, keep its content

A pipe gets what the protocol says: {\"type\":\"message\",\"channel\":…,\"offset\":…,\"position\":…,\"at\":…,\"from\":…,\"data\":…},
\"data_base64\" in place of \"data\" for bytes, and \"gap\" and \"reset\" where messages are missing; with --presence also
{\"type\":\"presence\",\"channel\":…,\"joined\":[…],\"left\":[…],\"count\":…,\"users\":…}, with \"members\" for the whole list.
A lost connection is made again, and what was published meanwhile comes from the log.
Exit codes: 0 --count messages came, Ctrl-C or SIGTERM, or the reader has gone; 1 failed; 2 wrong usage.";

/// What `listen` may be told.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ListenArgs {
    /// Channels to subscribe to.
    #[arg(value_name = "CHANNEL", required = true, value_parser = channel)]
    pub channels: Vec<ChannelName>,
    /// The server.
    #[arg(long, value_name = "URL", default_value = URL)]
    pub url: String,
    /// One JSON object a line, on a terminal too.
    #[arg(long, conflicts_with = "data")]
    pub json: bool,
    /// The content of messages alone, each with a newline behind it; bytes as they are.
    #[arg(long)]
    pub data: bool,
    /// Who is there, comes and goes, too. Listening itself is not seen.
    #[arg(long)]
    pub presence: bool,
    /// End after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Reads a channel's name for a command line.
pub(super) fn channel(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).map_err(|error| error.to_string())
}

/// What comes from the server.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages that are missing, both ends included.
    Gap {
        /// Its channel.
        channel: String,
        /// Offset of the first missing one.
        from: u64,
        /// Offset of the last missing one.
        to: u64,
        /// Where the log goes on, as a token.
        position: String,
        /// Newer messages of the same conflation keys follow in their place.
        conflated: bool,
    },
    /// Positions start anew: what came before has no connection with what comes now.
    Reset {
        /// Its channel.
        channel: String,
        /// Offset at which the log goes on.
        offset: u64,
        /// The same place, as a token.
        position: String,
    },
    /// Who is there.
    Presence {
        /// Its channel.
        channel: String,
        /// How many there are.
        counts: Counts,
        /// Who.
        who: Who,
    },
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its channel.
    pub channel: String,
    /// Its place.
    pub offset: u64,
    /// Its place, as a token.
    pub position: String,
    /// When it was published, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who published it.
    pub from: Option<String>,
    /// Its conflation key.
    pub conflate: Option<String>,
    /// The content.
    pub payload: Payload,
}

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// An aligned line to read. Channels fill `channel_width` columns.
    Line {
        /// Characters of the longest channel name.
        channel_width: usize,
    },
    /// A JSON object.
    Json,
    /// The content alone; made harmless if a terminal gets it.
    Data {
        /// Whether a terminal gets it.
        terminal: bool,
    },
}

impl Format {
    /// What was asked for, or what suits the reader.
    pub fn choose(args: &ListenArgs, terminal: bool) -> Format {
        let widths = args
            .channels
            .iter()
            .map(|channel| channel.as_str().chars().count());
        match (args.json, args.data, terminal) {
            (true, _, _) => Format::Json,
            (_, true, terminal) => Format::Data { terminal },
            (_, _, true) => Format::Line {
                channel_width: widths.max().unwrap_or(0),
            },
            (_, _, false) => Format::Json,
        }
    }

    /// The bytes of one event, newline included; nothing where the format has no words for it.
    pub fn write(&self, event: &Event) -> Vec<u8> {
        let mut out = match self {
            Format::Line { channel_width } => line(event, *channel_width).into_bytes(),
            Format::Json => json(event),
            Format::Data { terminal } => match event {
                Event::Message(message) => data(&message.payload, *terminal),
                Event::Gap { .. } | Event::Reset { .. } | Event::Presence { .. } => return Vec::new(),
            },
        };
        out.push(b'\n');
        out
    }
}

const TIME: Style = Style::new().dimmed();
const CHANNEL: Style = AnsiColor::Cyan.on_default();
const OFFSET: Style = Style::new().dimmed();
const FROM: Style = AnsiColor::Green.on_default();
const MISSING: Style = AnsiColor::Yellow.on_default().bold();

/// Columns of an offset with its `#`, and of a user's name; longer ones push what follows to the right.
const OFFSET_WIDTH: usize = 7;
const FROM_WIDTH: usize = 12;

fn line(event: &Event, channel_width: usize) -> String {
    match event {
        Event::Message(message) => {
            let time = time_of_day(message.at_ms);
            let channel = harmless(&message.channel);
            let offset = format!("#{}", message.offset);
            let from = harmless(message.from.as_deref().unwrap_or("-"));
            let data = shown(&message.payload);
            format!(
                "{TIME}{time}{TIME:#}  {CHANNEL}{channel:<channel_width$}{CHANNEL:#}  {OFFSET}{offset:>OFFSET_WIDTH$}{OFFSET:#}  \
                 {FROM}{from:<FROM_WIDTH$}{FROM:#}  {data}"
            )
        }
        Event::Gap { channel, .. } | Event::Reset { channel, .. } | Event::Presence { channel, .. } => {
            let channel = harmless(channel);
            let style = match event {
                Event::Presence { .. } => FROM,
                _ => MISSING,
            };
            let note = note(event).unwrap_or_default();
            format!(
                "{:12}  {CHANNEL}{channel:<channel_width$}{CHANNEL:#}  {style}{note}{style:#}",
                ""
            )
        }
    }
}

/// What an event that is no message says to a person.
pub fn note(event: &Event) -> Option<String> {
    match event {
        Event::Message(_) => None,
        Event::Gap {
            from, to, conflated, ..
        } => {
            let count = to.saturating_sub(*from).saturating_add(1);
            let what = if *conflated {
                "replaced by newer ones"
            } else {
                "missing"
            };
            Some(format!("{} {what}: #{from} to #{to}", plural(count, "message")))
        }
        Event::Reset { .. } => Some("the log began anew: what is missing is not known".to_owned()),
        Event::Presence { counts, who, .. } => {
            let there = format!("{} there", plural(counts.members.into(), "member"));
            Some(match who {
                Who::Changed { joined, left } => {
                    let joined = joined.iter().map(|member| format!("+{}", member.key.user));
                    let left = left.iter().map(|key| format!("-{}", key.user));
                    let changes: Vec<_> = joined.chain(left).collect();
                    format!("{there}: {}", harmless(&changes.join(" ")))
                }
                Who::All(members) if members.is_empty() => there,
                Who::All(members) => {
                    let users: Vec<_> = members.iter().map(|member| member.key.user.as_str()).collect();
                    format!("{there}: {}", harmless(&users.join(" ")))
                }
                Who::Unlisted => there,
            })
        }
    }
}

/// The content for a person: in one line, harmless.
fn shown(payload: &Payload) -> String {
    match (payload.kind(), payload.as_str()) {
        // Outside of strings, where JSON has no control characters, a line break is a blank.
        (PayloadKind::Json, Some(text)) => harmless(&text.replace(['\r', '\n', '\t'], " ")).into_owned(),
        (_, Some(text)) => harmless(text).into_owned(),
        (_, None) => {
            let size = plural(payload.len() as u64, "byte");
            format!("{size}, base64 {}", STANDARD.encode(payload.as_bytes()))
        }
    }
}

fn data(payload: &Payload, terminal: bool) -> Vec<u8> {
    match (terminal, payload.as_str()) {
        (false, _) => payload.as_bytes().to_vec(),
        (true, Some(text)) => harmless(text).into_owned().into_bytes(),
        (true, None) => STANDARD.encode(payload.as_bytes()).into_bytes(),
    }
}

/// An event as the protocol writes it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum JsonEvent<'a> {
    Message {
        channel: &'a str,
        offset: u64,
        position: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        conflate: Option<&'a str>,
        at: u64,
    },
    Gap {
        channel: &'a str,
        from: u64,
        to: u64,
        position: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        conflated: bool,
    },
    Reset {
        channel: &'a str,
        offset: u64,
        position: &'a str,
    },
    Presence {
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<Vec<JsonMember<'a>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        joined: Option<Vec<JsonMember<'a>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<Vec<JsonMember<'a>>>,
        count: u32,
        users: u32,
    },
}

#[derive(Serialize)]
struct JsonMember<'a> {
    user: &'a str,
    session: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
}

impl<'a> JsonMember<'a> {
    fn of(key: &'a MemberKey, info: Option<&Payload>) -> JsonMember<'a> {
        JsonMember {
            user: &key.user,
            session: &key.session,
            info: info.and_then(json_data),
        }
    }

    fn list(members: &'a [Member]) -> Option<Vec<JsonMember<'a>>> {
        let members = members.iter();
        Some(
            members
                .map(|member| JsonMember::of(&member.key, member.info.as_ref()))
                .collect(),
        )
    }
}

fn json(event: &Event) -> Vec<u8> {
    let event = match event {
        Event::Message(message) => JsonEvent::Message {
            channel: &message.channel,
            offset: message.offset,
            position: &message.position,
            data: json_data(&message.payload),
            data_base64: match message.payload.kind() {
                PayloadKind::Bytes => Some(STANDARD.encode(message.payload.as_bytes())),
                PayloadKind::Json | PayloadKind::Text => None,
            },
            from: message.from.as_deref(),
            conflate: message.conflate.as_deref(),
            at: message.at_ms,
        },
        Event::Gap {
            channel,
            from,
            to,
            position,
            conflated,
        } => JsonEvent::Gap {
            channel,
            from: *from,
            to: *to,
            position,
            conflated: *conflated,
        },
        Event::Reset {
            channel,
            offset,
            position,
        } => JsonEvent::Reset {
            channel,
            offset: *offset,
            position,
        },
        Event::Presence { channel, counts, who } => {
            let (members, joined, left) = match who {
                Who::All(members) => (JsonMember::list(members), None, None),
                Who::Changed { joined, left } => {
                    let left: Vec<_> = left.iter().map(|key| JsonMember::of(key, None)).collect();
                    (None, JsonMember::list(joined), Some(left))
                }
                Who::Unlisted => (None, None, None),
            };
            JsonEvent::Presence {
                channel,
                members,
                joined: joined.filter(|list| !list.is_empty()),
                left: left.filter(|list| !list.is_empty()),
                count: counts.members,
                users: counts.users,
            }
        }
    };
    // Strings, numbers and checked JSON always serialize.
    serde_json::to_vec(&event).unwrap_or_default()
}

/// The content as a JSON value in one line; nothing for bytes.
fn json_data(payload: &Payload) -> Option<Box<RawValue>> {
    let text = payload.as_str()?;
    let json = match payload.kind() {
        // Line breaks in JSON stand between tokens only, never in a string.
        PayloadKind::Json => text.replace(['\r', '\n'], " "),
        PayloadKind::Text | PayloadKind::Bytes => serde_json::to_string(text).ok()?,
    };
    RawValue::from_string(json).ok()
}

/// Writes events until it has written enough of them.
struct Printer<W> {
    out: W,
    format: Format,
    /// Messages still to come; without, there is no end.
    left: Option<u64>,
}

impl<W: Write> Printer<W> {
    /// Writes `event`, and says whether more are wanted. What a format has no words for goes to `notes`.
    fn print(&mut self, event: &Event, notes: &mut impl Write) -> io::Result<bool> {
        self.out.write_all(&self.format.write(event))?;
        self.out.flush()?;
        match (event, note(event)) {
            (Event::Message(_), _) => self.left = self.left.map(|left| left.saturating_sub(1)),
            (_, Some(note)) if matches!(self.format, Format::Data { .. }) => writeln!(notes, "{note}")?,
            _ => {}
        }
        Ok(self.left != Some(0))
    }
}

pub(super) fn run(args: &ListenArgs) -> Result<u8, Failure> {
    let format = Format::choose(args, io::stdout().is_terminal());
    // Only lines have colours that are ours to strip; content is nobody's to change.
    let out: Box<dyn Write> = match format {
        Format::Line { .. } => Box::new(anstream::stdout()),
        Format::Json | Format::Data { .. } => Box::new(io::stdout()),
    };
    let mut printer = Printer {
        out,
        format,
        left: args.count,
    };
    let mut notes = anstream::stderr();
    follow::follow(args, |event| printer.print(event, &mut notes))?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN_JSON: &str = "[1,\n 2]";

    fn message(payload: Payload, from: Option<&str>) -> Event {
        Event::Message(Message {
            channel: "room:1".to_owned(),
            offset: 18,
            position: "pAQI".to_owned(),
            at_ms: 1_732_170_000_123,
            from: from.map(str::to_owned),
            conflate: None,
            payload,
        })
    }

    fn written(format: Format, event: &Event) -> String {
        let bytes = format.write(event);
        anstream::adapter::strip_str(std::str::from_utf8(&bytes).unwrap()).to_string()
    }

    const LINE: Format = Format::Line { channel_width: 8 };

    #[test]
    fn a_person_sees_aligned_lines() {
        let json = message(Payload::json(r#"{"text":"hi"}"#).unwrap(), Some("ben"));
        assert_eq!(
            written(LINE, &json),
            "06:20:00.123  room:1        #18  ben           {\"text\":\"hi\"}\n"
        );
        let text = message(Payload::text("hello"), None);
        assert_eq!(
            written(LINE, &text),
            "06:20:00.123  room:1        #18  -             hello\n"
        );
        let bytes = message(Payload::bytes(vec![0, 1, 2]), None);
        assert!(written(LINE, &bytes).ends_with("  3 bytes, base64 AAEC\n"));
    }

    #[test]
    fn a_message_is_one_harmless_line_for_a_person() {
        let event = message(Payload::text("a\n\u{1b}[31mb"), Some("\u{9b}2J"));
        let bytes = Format::Line { channel_width: 0 }.write(&event);
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.ends_with("a\\n\\u{1b}[31mb\n"), "{text:?}");
        assert!(!text.contains('\u{9b}'), "{text:?}");
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let json = message(Payload::json(BROKEN_JSON).unwrap(), None);
        assert!(written(LINE, &json).ends_with("  [1,  2]\n"));
    }

    #[test]
    fn a_pipe_gets_what_the_protocol_says() {
        let check =
            |event: &Event, expected: &str| assert_eq!(written(Format::Json, event), format!("{expected}\n"));
        check(
            &message(Payload::json(BROKEN_JSON).unwrap(), Some("ben")),
            r#"{"type":"message","channel":"room:1","offset":18,"position":"pAQI","data":[1,  2],"from":"ben","at":1732170000123}"#,
        );
        check(
            &message(Payload::text("a\n\"b\""), None),
            r#"{"type":"message","channel":"room:1","offset":18,"position":"pAQI","data":"a\n\"b\"","at":1732170000123}"#,
        );
        check(
            &message(Payload::bytes(vec![255]), None),
            r#"{"type":"message","channel":"room:1","offset":18,"position":"pAQI","data_base64":"/w==","at":1732170000123}"#,
        );
        let (channel, position) = ("room:1".to_owned(), "pAQI".to_owned());
        check(
            &Event::Gap {
                channel: channel.clone(),
                from: 12,
                to: 15,
                position: position.clone(),
                conflated: false,
            },
            r#"{"type":"gap","channel":"room:1","from":12,"to":15,"position":"pAQI"}"#,
        );
        check(
            &Event::Reset {
                channel,
                offset: 0,
                position,
            },
            r#"{"type":"reset","channel":"room:1","offset":0,"position":"pAQI"}"#,
        );
    }

    #[test]
    fn who_is_there_is_said_in_every_format() {
        let key = |user: &str| MemberKey {
            user: user.to_owned(),
            session: "s_1".to_owned(),
        };
        let ana = Member {
            key: key("ana"),
            info: Some(Payload::json(r#"{"n":1}"#).unwrap()),
        };
        let presence = |who| Event::Presence {
            channel: "room:1".to_owned(),
            counts: Counts { members: 2, users: 1 },
            who,
        };
        let changed = presence(Who::Changed {
            joined: vec![ana.clone()],
            left: vec![key("be\u{1b}n")],
        });
        let check = |event: &Event, words: &str, json: &str| {
            assert_eq!(written(LINE, event), format!("              room:1    {words}\n"));
            assert_eq!(written(Format::Json, event), format!("{json}\n"));
            let data = Format::Data { terminal: false };
            assert!(data.write(event).is_empty());
            assert_eq!(note(event).as_deref(), Some(words));
        };
        check(
            &changed,
            "2 members there: +ana -be\\u{1b}n",
            r#"{"type":"presence","channel":"room:1","joined":[{"user":"ana","session":"s_1","info":{"n":1}}],"left":[{"user":"be\u001bn","session":"s_1"}],"count":2,"users":1}"#,
        );
        check(
            &presence(Who::All(vec![ana])),
            "2 members there: ana",
            r#"{"type":"presence","channel":"room:1","members":[{"user":"ana","session":"s_1","info":{"n":1}}],"count":2,"users":1}"#,
        );
        check(
            &presence(Who::Unlisted),
            "2 members there",
            r#"{"type":"presence","channel":"room:1","count":2,"users":1}"#,
        );
    }

    #[test]
    fn data_is_the_content_and_nothing_else() {
        let pipe = Format::Data { terminal: false };
        assert_eq!(
            pipe.write(&message(Payload::bytes(vec![27, 255]), None)),
            [27, 255, 10]
        );
        assert_eq!(
            pipe.write(&message(Payload::text("a\u{1b}[m"), None)),
            b"a\x1b[m\n"
        );
        let terminal = Format::Data { terminal: true };
        assert_eq!(
            terminal.write(&message(Payload::text("a\u{1b}[m"), None)),
            b"a\\u{1b}[m\n"
        );
    }

    #[test]
    fn what_is_missing_is_said_in_every_format() {
        let gap = Event::Gap {
            channel: "room:1".to_owned(),
            from: 12,
            to: 15,
            conflated: false,
            position: "p".to_owned(),
        };
        assert_eq!(
            written(LINE, &gap),
            "              room:1    4 messages missing: #12 to #15\n"
        );
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer {
            out: &mut out,
            format: Format::Data { terminal: false },
            left: None,
        };
        assert!(printer.print(&gap, &mut notes).unwrap());
        assert_eq!(
            (out, notes),
            (Vec::new(), b"4 messages missing: #12 to #15\n".to_vec())
        );
    }

    #[test]
    fn count_counts_messages_alone() {
        let reset = Event::Reset {
            channel: "room:1".to_owned(),
            offset: 0,
            position: "p".to_owned(),
        };
        let text = message(Payload::text("x"), None);
        let mut printer = Printer {
            out: Vec::new(),
            format: Format::Json,
            left: Some(2),
        };
        let more: Vec<bool> = [&text, &reset, &text]
            .map(|event| printer.print(event, &mut Vec::new()).unwrap())
            .to_vec();
        assert_eq!(more, [true, true, false]);
    }
}

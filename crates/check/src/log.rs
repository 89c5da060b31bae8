//! Logs as files.
//!
//! A run is a directory: `run.json` (title, promises, faults, final histories, last lists of members, what was used) and `NAME.log` for
//! each client, a JSON object a line, appended as things happen ([`Line`]). A client may be killed at any moment: a last line without a line
//! feed does not count.

use std::borrow::Cow;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Client, Event, Message, Stream, What};
use crate::history::{Fault, Final, History, Promises, Resource, Revocation, Roster};
use crate::place::Place;

/// The longest line, in bytes. Names are bounded, and nothing else in a line grows.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Why the logs of a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Of the file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A line is no event.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// The how-manieth line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// `run.json` is none.
    #[error("{path}: {what}")]
    Run {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// One line of a client's log. Which fields an event has is said at [`What`], where they have the same names; a `message` is `publisher` and `n`, a
/// `place` is `position` as the server says it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    /// Microseconds since the run began.
    pub at: u64,
    /// `invoked`, `acknowledged`, …: the names of [`What`] in small letters.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Of which subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    /// A channel.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Cow<'a, str>>,
    /// Who published.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Cow<'a, str>>,
    /// The how-manieth of this publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// A position.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Cow<'a, str>>,
    /// A position, of `subscribing`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Cow<'a, str>>,
    /// An offset, of `gap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Of `subscribed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// Of `gap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflated: Option<bool>,
    /// Of `subscribing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflates: Option<bool>,
    /// Of `invoked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyed: Option<bool>,
    /// A conflation key, of `invoked`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub conflate: Option<Cow<'a, str>>,
    /// A member.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Cow<'a, str>>,
    /// Of `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Of `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

impl Line<'_> {
    fn read(&self, history: &mut History) -> Result<What, &'static str> {
        let stream = || self.stream.map(Stream).ok_or("`stream` is missing");
        let position = |text: &Option<Cow<'_, str>>| {
            let text = text.as_ref().ok_or("`position` is missing")?;
            Place::parse(text).ok_or("this is no position")
        };
        let place = || position(&self.position);
        let mut name = |text: &Option<Cow<'_, str>>, missing| {
            text.as_ref().map(|text| history.name(text)).ok_or(missing)
        };
        let mut channel = || name(&self.channel, "`channel` is missing");
        Ok(match &*self.event {
            "invoked" => What::Invoked {
                channel: channel()?,
                message: self.message(history)?,
                keyed: self.keyed.unwrap_or(false),
                conflate: self.conflate.as_ref().map(|key| history.name(key)),
            },
            "acknowledged" => What::Acknowledged {
                message: self.message(history)?,
                place: place()?,
            },
            "refused" => What::Refused {
                message: self.message(history)?,
            },
            "unknown" => What::Unknown {
                message: self.message(history)?,
            },
            "subscribing" => What::Subscribing {
                stream: stream()?,
                channel: channel()?,
                since: self.since.is_some().then(|| position(&self.since)).transpose()?,
                conflates: self.conflates.unwrap_or(false),
            },
            "hears" => What::Hears { stream: stream()? },
            "asked" => What::Asked { stream: stream()? },
            "subscribed" => What::Subscribed {
                stream: stream()?,
                place: place()?,
                recovered: self.recovered,
            },
            "received" => What::Received {
                stream: stream()?,
                place: place()?,
                channel: channel()?,
                message: self.message(history)?,
            },
            "altered" => What::Altered {
                stream: stream()?,
                place: place()?,
            },
            "gap" => What::Gap {
                stream: stream()?,
                from: self.from.ok_or("`from` is missing")?,
                place: place()?,
                conflated: self.conflated.unwrap_or(false),
            },
            "reset" => What::Reset {
                stream: stream()?,
                place: place()?,
            },
            "unsubscribed" => What::Unsubscribed { stream: stream()? },
            "closed" => What::Closed { stream: stream()? },
            "stands" => What::Stands {
                stream: stream()?,
                member: name(&self.member, "`member` is missing")?,
            },
            "members" => What::Members {
                stream: stream()?,
                count: self.count.ok_or("`count` is missing")?,
                complete: self.complete.unwrap_or(false),
            },
            "member" => What::Member {
                stream: stream()?,
                member: name(&self.member, "`member` is missing")?,
            },
            "joined" => What::Joined {
                stream: stream()?,
                member: name(&self.member, "`member` is missing")?,
            },
            "left" => What::Left {
                stream: stream()?,
                member: name(&self.member, "`member` is missing")?,
            },
            "connected" => What::Connected,
            "disconnected" => What::Disconnected,
            "ended" => What::Ended,
            _ => return Err("there is no such event"),
        })
    }

    fn message(&self, history: &mut History) -> Result<Message, &'static str> {
        let publisher = self.publisher.as_ref().ok_or("`publisher` is missing")?;
        Ok(Message {
            publisher: history.name(publisher),
            number: self.n.ok_or("`n` is missing")?,
        })
    }

    /// An event as a line.
    pub fn of<'h>(history: &'h History, event: &Event) -> Line<'h> {
        let text = |name| Some(Cow::Borrowed(history.text(name)));
        let position = |place: Place| Some(Cow::Owned(place.position()));
        let blank = Line {
            at: event.at,
            ..Line::default()
        };
        let plain = |name: &'static str| Line {
            event: Cow::Borrowed(name),
            ..blank.clone()
        };
        let of_message = |name, message: Message| Line {
            publisher: text(message.publisher),
            n: Some(message.number),
            ..plain(name)
        };
        let of_stream = |name, stream: Stream| Line {
            stream: Some(stream.0),
            ..plain(name)
        };
        let of_member = |name, stream, member| Line {
            member: text(member),
            ..of_stream(name, stream)
        };
        match event.what {
            What::Invoked {
                message,
                channel,
                keyed,
                conflate,
            } => Line {
                channel: text(channel),
                keyed: keyed.then_some(true),
                conflate: conflate.and_then(text),
                ..of_message("invoked", message)
            },
            What::Acknowledged { message, place } => Line {
                position: position(place),
                ..of_message("acknowledged", message)
            },
            What::Refused { message } => of_message("refused", message),
            What::Unknown { message } => of_message("unknown", message),
            What::Subscribing {
                stream,
                channel,
                since,
                conflates,
            } => Line {
                channel: text(channel),
                since: since.and_then(position),
                conflates: conflates.then_some(true),
                ..of_stream("subscribing", stream)
            },
            What::Subscribed {
                stream,
                place,
                recovered,
            } => Line {
                position: position(place),
                recovered,
                ..of_stream("subscribed", stream)
            },
            What::Received {
                stream,
                place,
                message,
                channel,
            } => Line {
                stream: Some(stream.0),
                position: position(place),
                channel: text(channel),
                ..of_message("received", message)
            },
            What::Altered { stream, place } => Line {
                position: position(place),
                ..of_stream("altered", stream)
            },
            What::Gap {
                stream,
                from,
                place,
                conflated,
            } => Line {
                from: Some(from),
                position: position(place),
                conflated: conflated.then_some(true),
                ..of_stream("gap", stream)
            },
            What::Reset { stream, place } => Line {
                position: position(place),
                ..of_stream("reset", stream)
            },
            What::Hears { stream } => of_stream("hears", stream),
            What::Asked { stream } => of_stream("asked", stream),
            What::Unsubscribed { stream } => of_stream("unsubscribed", stream),
            What::Closed { stream } => of_stream("closed", stream),
            What::Stands { stream, member } => of_member("stands", stream, member),
            What::Members {
                stream,
                count,
                complete,
            } => Line {
                count: Some(count),
                complete: complete.then_some(true),
                ..of_stream("members", stream)
            },
            What::Member { stream, member } => of_member("member", stream, member),
            What::Joined { stream, member } => of_member("joined", stream, member),
            What::Left { stream, member } => of_member("left", stream, member),
            What::Connected => plain("connected"),
            What::Disconnected => plain("disconnected"),
            What::Ended => plain("ended"),
        }
    }
}

/// `run.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    title: String,
    promises: Promised,
    faults: Vec<Done>,
    #[serde(default)]
    busy_until: u64,
    /// Whose logs have to be there.
    #[serde(default)]
    clients: Vec<String>,
    finals: Vec<Last>,
    rosters: Vec<Members>,
    revocations: Vec<Revoked>,
    resources: Vec<Used>,
}

fn noticed() -> u64 {
    Promises::default().noticed.as_millis() as u64
}

fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promised {
    dense: bool,
    ordered: bool,
    #[serde(default = "yes")]
    alone: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_messages_max: Option<u64>,
    #[serde(default)]
    log_messages_min: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listed_max: Option<u64>,
    resyncs: bool,
    quiet_ms: u64,
    revocation_ms: u64,
    grace_ms: u64,
    #[serde(default = "noticed")]
    noticed_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    what: String,
    from: u64,
    until: u64,
    loses: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    channel: String,
    head: String,
    kept_from: u64,
    /// Position, publisher, number.
    entries: Vec<(String, String, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    channel: String,
    members: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    client: String,
    channel: String,
    at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    what: String,
    before: u64,
    after: u64,
    tolerance: u64,
}

impl Run {
    fn of(history: &History) -> Run {
        let text = |name| history.text(name).to_owned();
        let ms = |duration: Duration| duration.as_millis() as u64;
        let promises = &history.promises;
        let last = |last: &Final| Last {
            channel: text(last.channel),
            head: last.head.position(),
            kept_from: last.kept_from,
            entries: last
                .entries
                .iter()
                .map(|(place, message)| (place.position(), text(message.publisher), message.number))
                .collect(),
        };
        Run {
            title: history.title.clone(),
            promises: Promised {
                dense: promises.dense,
                ordered: promises.ordered,
                alone: promises.alone,
                log_messages_max: promises.log_messages_max,
                log_messages_min: promises.log_messages_min,
                listed_max: promises.listed_max,
                resyncs: promises.resyncs,
                quiet_ms: ms(promises.quiet),
                revocation_ms: ms(promises.revocation),
                grace_ms: ms(promises.grace),
                noticed_ms: ms(promises.noticed),
            },
            faults: history
                .faults
                .iter()
                .map(|fault| Done {
                    what: fault.what.clone(),
                    from: fault.from,
                    until: fault.until,
                    loses: fault.loses,
                })
                .collect(),
            busy_until: history.busy_until,
            clients: history.expected.iter().map(|client| text(*client)).collect(),
            finals: history.finals.iter().map(last).collect(),
            rosters: history
                .rosters
                .iter()
                .map(|roster| Members {
                    channel: text(roster.channel),
                    members: roster.members.iter().map(|member| text(*member)).collect(),
                })
                .collect(),
            revocations: history
                .revocations
                .iter()
                .map(|revocation| Revoked {
                    client: history.client_name(revocation.client).to_owned(),
                    channel: text(revocation.channel),
                    at: revocation.at,
                })
                .collect(),
            resources: history
                .resources
                .iter()
                .map(|resource| Used {
                    what: resource.what.clone(),
                    before: resource.before,
                    after: resource.after,
                    tolerance: resource.tolerance,
                })
                .collect(),
        }
    }

    fn read(self) -> Result<History, &'static str> {
        const NO_POSITION: &str = "this is no position";
        let mut history = History::new(&self.title);
        history.promises = Promises {
            dense: self.promises.dense,
            ordered: self.promises.ordered,
            alone: self.promises.alone,
            log_messages_max: self.promises.log_messages_max,
            log_messages_min: self.promises.log_messages_min,
            listed_max: self.promises.listed_max,
            resyncs: self.promises.resyncs,
            quiet: Duration::from_millis(self.promises.quiet_ms),
            revocation: Duration::from_millis(self.promises.revocation_ms),
            grace: Duration::from_millis(self.promises.grace_ms),
            noticed: Duration::from_millis(self.promises.noticed_ms),
        };
        for Done {
            what,
            from,
            until,
            loses,
        } in self.faults
        {
            history.faults.push(Fault {
                what,
                from,
                until,
                loses,
            });
        }
        history.busy_until = self.busy_until;
        for client in &self.clients {
            let client = history.name(client);
            history.expected.push(client);
        }
        for last in self.finals {
            let mut entries = Vec::with_capacity(last.entries.len());
            for (position, publisher, number) in &last.entries {
                let message = Message {
                    publisher: history.name(publisher),
                    number: *number,
                };
                entries.push((Place::parse(position).ok_or(NO_POSITION)?, message));
            }
            let last = Final {
                channel: history.name(&last.channel),
                head: Place::parse(&last.head).ok_or(NO_POSITION)?,
                kept_from: last.kept_from,
                entries,
            };
            history.finals.push(last);
        }
        for Members { channel, members } in self.rosters {
            let roster = Roster {
                channel: history.name(&channel),
                members: members.iter().map(|member| history.name(member)).collect(),
            };
            history.rosters.push(roster);
        }
        for Revoked { client, channel, at } in self.revocations {
            let revocation = Revocation {
                client: history.client(&client),
                channel: history.name(&channel),
                at,
            };
            history.revocations.push(revocation);
        }
        for Used {
            what,
            before,
            after,
            tolerance,
        } in self.resources
        {
            history.resources.push(Resource {
                what,
                before,
                after,
                tolerance,
            });
        }
        Ok(history)
    }
}

impl History {
    /// Reads the directory of a run.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn read(directory: &Path) -> Result<History, ReadError> {
        let path = directory.join("run.json");
        let text = fs::read(&path).map_err(|error| ReadError::Io {
            path: path.clone(),
            error,
        })?;
        let wrong = |what: String| ReadError::Run {
            path: path.clone(),
            what,
        };
        let run: Run = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let mut history = run.read().map_err(|what| wrong(what.to_owned()))?;
        for path in logs(directory)? {
            history.read_log(&path)?;
        }
        Ok(history)
    }

    /// Reads one client's log. Its name is the file's.
    ///
    /// # Errors
    /// It cannot be read, a line is no event, or is of a time before that of the line above it.
    pub fn read_log(&mut self, path: &Path) -> Result<Client, ReadError> {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let client = self.client(&name);
        let io = |error| ReadError::Io {
            path: path.to_owned(),
            error,
        };
        let mut file = BufReader::with_capacity(1 << 20, fs::File::open(path).map_err(io)?);
        let mut bytes = Vec::new();
        let mut last_at = 0;
        for number in 1.. {
            bytes.clear();
            io::Read::take(&mut file, LINE_BYTES_MAX)
                .read_until(b'\n', &mut bytes)
                .map_err(io)?;
            if bytes.last() != Some(&b'\n') && (bytes.len() as u64) < LINE_BYTES_MAX {
                break;
            }
            let wrong = |what: String| ReadError::Line {
                path: path.to_owned(),
                line: number,
                what,
            };
            let line: Line<'_> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            let what = line.read(self).map_err(|what| wrong(what.to_owned()))?;
            // Whatever judges by times would judge wrongly.
            if line.at < last_at {
                return Err(wrong(format!(
                    "it is at {}, and the line before it at {last_at}",
                    line.at
                )));
            }
            last_at = line.at;
            self.record(client, line.at, what);
        }
        Ok(client)
    }

    /// Writes the directory of a run, which it makes.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        self.write_run(directory)?;
        for log in self.logs() {
            let name = self.text(log.name);
            let mut writer = Writer::create(directory, name)?;
            for event in &log.events {
                writer.write(&Line::of(self, event))?;
            }
            writer.flush()?;
        }
        Ok(())
    }

    /// Writes everything but the logs of the clients.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write_run(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join("run.json"), serde_json::to_vec(&Run::of(self))?)
    }
}

/// The logs of a directory, in the order of their names.
fn logs(directory: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let io = |error| ReadError::Io {
        path: directory.to_owned(),
        error,
    };
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
    logs.sort();
    Ok(logs)
}

/// Writes one client's log, a line at a time.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<fs::File>,
}

impl Writer {
    /// A new log of this client in the directory of a run.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(directory: &Path, client: &str) -> io::Result<Writer> {
        Ok(Writer {
            file: BufWriter::new(fs::File::create(directory.join(format!("{client}.log")))?),
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, line)?;
        self.file.write_all(b"\n")
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Of the file system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

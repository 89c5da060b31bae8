//! A run: what everyone wrote down, what was done to the server meanwhile, and how it looked at the end.

use std::time::Duration;

use hashbrown::HashMap;

use crate::event::{Client, Event, Message, Name, What};
use crate::place::Place;

/// A run.
#[derive(Debug)]
pub struct History {
    /// What it is called, and how to have it again: a seed, a command.
    pub title: String,
    /// What the server promises of its channels.
    pub promises: Promises,
    /// What was done to it.
    pub faults: Vec<Fault>,
    /// Before this moment, in microseconds, so much was going on that something may come late without a fault.
    pub busy_until: u64,
    /// Whose logs have to be there, to their ends.
    pub expected: Vec<Name>,
    /// What each channel's log held at the end, read after everything was quiet.
    pub finals: Vec<Final>,
    /// Who was in each channel at the end, as the server says.
    pub rosters: Vec<Roster>,
    /// Whose right to hear of a channel was taken away.
    pub revocations: Vec<Revocation>,
    /// What the server used before and after.
    pub resources: Vec<Resource>,
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, Name, foldhash::fast::FixedState>,
    logs: Vec<Log>,
}

/// One client's log.
#[derive(Debug)]
pub struct Log {
    /// The client's name.
    pub name: Name,
    /// In the order in which they happened.
    pub events: Vec<Event>,
}

/// What the server promises, apart from what it always does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promises {
    /// Offsets of a log have no holes.
    pub dense: bool,
    /// What one publisher says in one channel keeps its order.
    pub ordered: bool,
    /// The server knows at once what its logs hold, because no other shares them.
    pub alone: bool,
    /// The only bound of a log that matters in this run: it keeps so many messages.
    pub log_messages_max: Option<u64>,
    /// Whatever the bound: it keeps at least its newest so many messages.
    pub log_messages_min: u64,
    /// Of so many members and fewer a channel always has a list, and not their number alone. (A server lists again what was too many for it
    /// only at nine tenths of its limit.)
    pub listed_max: Option<u64>,
    /// Who reads too slowly gets it from the log. Otherwise a gap may stand for what the log still holds.
    pub resyncs: bool,
    /// For so long after the last fault, and after it was published, a message may be on its way.
    pub quiet: Duration,
    /// For so long after it was taken away a right may still be used.
    pub revocation: Duration,
    /// Who vanishes and is back sooner has not left.
    pub grace: Duration,
    /// For so long nobody may notice that somebody has vanished.
    pub noticed: Duration,
}

impl Default for Promises {
    fn default() -> Promises {
        Promises {
            dense: true,
            ordered: true,
            alone: true,
            log_messages_max: None,
            log_messages_min: 0,
            listed_max: None,
            resyncs: true,
            quiet: Duration::from_secs(10),
            revocation: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            noticed: Duration::from_secs(40),
        }
    }
}

/// Something that was done to the server or its network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// In words: `kill -9 and restart of node 2`.
    pub what: String,
    /// When it began, in microseconds.
    pub from: u64,
    /// When it ended.
    pub until: u64,
    /// Logs, or their ends, may be lost by it, as is written down for this broker.
    pub loses: bool,
}

/// What a channel's log held at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Final {
    /// Which channel.
    pub channel: Name,
    /// Where the log was.
    pub head: Place,
    /// The first offset that it still held. One behind the head: nothing.
    pub kept_from: u64,
    /// What it held.
    pub entries: Vec<(Place, Message)>,
}

/// Who was in a channel at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roster {
    /// Which channel.
    pub channel: Name,
    /// Who.
    pub members: Vec<Name>,
}

/// A right that was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// Whose.
    pub client: Client,
    /// To hear of this channel.
    pub channel: Name,
    /// When.
    pub at: u64,
}

/// Something that the server uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// `memory of node 1`, `files of node 1`, `tasks`.
    pub what: String,
    /// Before the load.
    pub before: u64,
    /// When all had gone.
    pub after: u64,
    /// How much more may be left.
    pub tolerance: u64,
}

impl Default for History {
    fn default() -> History {
        History::new("")
    }
}

impl History {
    /// An empty one.
    pub fn new(title: &str) -> History {
        History {
            title: title.to_owned(),
            promises: Promises::default(),
            faults: Vec::new(),
            busy_until: 0,
            expected: Vec::new(),
            finals: Vec::new(),
            rosters: Vec::new(),
            revocations: Vec::new(),
            resources: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::default(),
            logs: Vec::new(),
        }
    }

    /// The number of a name.
    pub fn name(&mut self, name: &str) -> Name {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = Name(self.names.len() as u32);
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    /// The name of a number.
    pub fn text(&self, name: Name) -> &str {
        self.names.get(name.0 as usize).map_or("?", |name| name)
    }

    /// How many names there are: their numbers are below.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// A client that writes a log.
    pub fn client(&mut self, name: &str) -> Client {
        let name = self.name(name);
        if let Some(known) = self.logs.iter().position(|log| log.name == name) {
            return Client(known as u32);
        }
        self.logs.push(Log {
            name,
            events: Vec::new(),
        });
        Client((self.logs.len() - 1) as u32)
    }

    /// A client writes something down.
    ///
    /// # Panics
    /// It is no client of this history.
    pub fn record(&mut self, client: Client, at: u64, what: What) {
        self.logs[client.0 as usize].events.push(Event { at, what });
    }

    /// All logs, in the order of [`Client`].
    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// All logs, to be changed.
    pub fn logs_mut(&mut self) -> &mut [Log] {
        &mut self.logs
    }

    /// A client's name.
    pub fn client_name(&self, client: Client) -> &str {
        self.logs
            .get(client.0 as usize)
            .map_or("?", |log| self.text(log.name))
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.logs.iter().map(|log| log.events.len()).sum()
    }

    /// When the last fault had ended, and all that was going on, in microseconds.
    pub fn calm_since(&self) -> u64 {
        let faults = self.faults.iter().map(|fault| fault.until);
        faults.chain([self.busy_until]).max().unwrap_or(0)
    }

    /// Whether a log that was seen at `from` may have been lost before `until`.
    pub fn may_have_lost(&self, from: u64, until: u64) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| fault.loses && fault.from <= until && fault.until >= from)
    }
}

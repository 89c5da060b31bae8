//! What is said of a history, in words.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The eleven rules.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// 1: nothing is delivered that was not published, nor altered, nor to a channel that it was not for.
    Genuine,
    /// 2: (channel, epoch, offset) names one message everywhere.
    OneName,
    /// 3: per subscriber, offsets strictly increase; no message twice.
    Increasing,
    /// 4: between two deliveries every message was delivered, unless a gap covers exactly the hole or a reset precedes.
    Complete,
    /// 5: every acknowledged message is in the final history, while kept, and reached every subscriber whose interval covers it.
    Kept,
    /// 6: acknowledged before sent implies a smaller offset; a publisher's own messages stay in order.
    Ordered,
    /// 7: an unknown publication appears 0 or 1 times, a refused one never, one idempotency key once.
    Once,
    /// 8: nothing after unsubscribe or revocation; nothing of an old epoch after a reset.
    Ended,
    /// 9: the fold of presence events equals the snapshot.
    Present,
    /// 10: some time after the last fault every subscriber is at the head and every publication has an answer.
    Live,
    /// 11: memory, files and tasks return to their baseline.
    Freed,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 11] = [
        Rule::Genuine,
        Rule::OneName,
        Rule::Increasing,
        Rule::Complete,
        Rule::Kept,
        Rule::Ordered,
        Rule::Once,
        Rule::Ended,
        Rule::Present,
        Rule::Live,
        Rule::Freed,
    ];

    /// 1 to 11.
    pub fn number(self) -> u8 {
        Rule::ALL
            .iter()
            .position(|rule| *rule == self)
            .map_or(0, |at| at as u8 + 1)
    }

    /// In a few words.
    pub fn text(self) -> &'static str {
        match self {
            Rule::Genuine => "only what was published is delivered, as it was published",
            Rule::OneName => "a place in a log names one message everywhere",
            Rule::Increasing => "offsets increase for every subscriber, and nothing comes twice",
            Rule::Complete => {
                "nothing is missing between two deliveries unless a gap or a reset says so, truly"
            }
            Rule::Kept => "what was acknowledged is kept and reaches everyone",
            Rule::Ordered => "messages are in the order in which they were published",
            Rule::Once => "what was refused never appears, everything else at most once",
            Rule::Ended => "nothing comes after the end of a subscription, a right or a log",
            Rule::Present => "presence is true",
            Rule::Live => "when the faults are over, everyone is at the head and everything is answered",
            Rule::Freed => "what was used is given back",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.number(), self.text())
    }
}

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// What happened, in words, with the numbers.
    pub what: String,
    /// In which channel.
    pub channel: Option<String>,
    /// To whom: the client, and the number of its subscription.
    pub subscriber: Option<String>,
    /// When, in microseconds.
    pub at: Option<u64>,
    /// What this client wrote down around it, a line each.
    pub around: Vec<String>,
    /// What had been done to the server shortly before.
    pub fault: Option<String>,
}

/// What a history comes to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// Of which history.
    pub title: String,
    /// What was looked at.
    pub counts: Counts,
    /// The rules that were broken, at most [`Verdict::VIOLATIONS_MAX`].
    pub violations: Vec<Violation>,
    /// How often one was broken, also where it is not told.
    pub broken: u64,
}

/// What was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Counts {
    /// Events in all logs.
    pub events: u64,
    /// Messages that were published, as far as anyone asked to.
    pub publications: u64,
    /// … and acknowledged.
    pub acknowledged: u64,
    /// Messages that were delivered.
    pub deliveries: u64,
    /// Subscriptions.
    pub streams: u64,
    /// … that began again after a connection was lost.
    pub resumes: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Resets that were told.
    pub resets: u64,
    /// Entries of final histories.
    pub kept: u64,
    /// Faults.
    pub faults: u64,
    /// Clients that wrote a log.
    #[serde(default)]
    pub logs: u64,
    /// … and wrote it to its end. Of the others nobody can say what is missing behind it.
    #[serde(default)]
    pub ended: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts {
            events,
            publications,
            acknowledged,
            deliveries,
            streams,
            resumes,
            gaps,
            resets,
            kept,
            faults,
            logs,
            ended,
        } = other;
        self.events += events;
        self.publications += publications;
        self.acknowledged += acknowledged;
        self.deliveries += deliveries;
        self.streams += streams;
        self.resumes += resumes;
        self.gaps += gaps;
        self.resets += resets;
        self.kept += kept;
        self.faults += faults;
        self.logs += logs;
        self.ended += ended;
    }
}

impl Verdict {
    /// Violations that are told in words.
    pub const VIOLATIONS_MAX: usize = 100;

    /// Whether no rule was broken.
    pub fn is_clean(&self) -> bool {
        self.broken == 0
    }

    /// The rules that were broken.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// Microseconds as seconds.
pub(crate) struct At(pub u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.rule, self.what)?;
        if let Some(channel) = &self.channel {
            write!(f, "\n  channel: {channel}")?;
        }
        if let Some(subscriber) = &self.subscriber {
            write!(f, "\n  subscriber: {subscriber}")?;
        }
        if let Some(at) = self.at {
            write!(f, "\n  at: {}", At(at))?;
        }
        if let Some(fault) = &self.fault {
            write!(f, "\n  fault: {fault}")?;
        }
        if !self.around.is_empty() {
            write!(f, "\n  around it:")?;
        }
        for line in &self.around {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            events,
            publications,
            acknowledged,
            deliveries,
            streams,
            resumes,
            gaps,
            resets,
            kept,
            faults,
            logs,
            ended,
        } = self.counts;
        writeln!(
            f,
            "{}: {logs} logs ({ended} to their end), {events} events, {publications} publications ({acknowledged} acknowledged), {deliveries} deliveries to {streams} \
             subscriptions, {resumes} resumes, {gaps} gaps, {resets} resets, {kept} messages in final histories, {faults} faults",
            self.title
        )?;
        if self.is_clean() {
            return write!(f, "no rule was broken");
        }
        for violation in &self.violations {
            writeln!(f, "\n{violation}")?;
        }
        write!(f, "\n{} violations, of {}", self.broken, self.title)?;
        let told = self.violations.len() as u64;
        match self.broken > told {
            true => write!(f, "; the first of each rule are told, {told} in all"),
            false => Ok(()),
        }
    }
}

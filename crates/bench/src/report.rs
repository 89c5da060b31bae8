//! What a run found: figures, each beside its reference, for people and for programs.
//!
//! A scenario fills in the samples, [`Report::settle`] the ratios; then the report is written down:
//!
//! ```text
//!  samples ──settle──► Report ─┬─ serde ──────► JSON       one run, for programs; the other forms can be made from it later
//!                              ├─ table() ────► terminal   one run
//!                              ├─ markdown() ─► documents  several runs
//!                              └─ chart() ────► SVG        one figure of several runs
//! ```

use serde::{Deserialize, Serialize};

mod chart;
mod machine;
mod markdown;
pub(crate) mod quantity;
mod table;

pub use chart::chart;
pub use machine::Machine;
pub use markdown::markdown;
pub use table::table;

/// One call of `switchboard bench`.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Report {
    /// Which scenario: `fanout`, `idle`, …
    pub bench: String,
    /// Version of the program.
    pub version: String,
    /// The command that reproduces it, from `switchboard` on.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for, in words: `5,000 subscribers, 64 bytes`.
    pub parameters: String,
    /// Everyone who was measured, the reference last.
    pub series: Vec<Series>,
    /// What could not be done, or not as asked.
    pub notes: Vec<String>,
    /// It was interrupted: the samples are fewer than asked for.
    pub interrupted: bool,
}

impl Report {
    /// Fills in the ratio of every figure, from the samples alone: calling it again changes nothing.
    ///
    /// A series is compared with the reference of its own variant; where that was not measured, with the first reference
    /// there is. A figure that its reference lacks, or where the median of the reference is 0, has no ratio.
    pub fn settle(&mut self) {
        let ratios: Vec<Option<f64>> = self
            .series
            .iter()
            .flat_map(|series| {
                let reference = self.reference_of(series);
                series
                    .figures
                    .iter()
                    .map(move |figure| figure.beside(reference?.figure(&figure.what)?))
            })
            .collect();
        let figures = self.series.iter_mut().flat_map(|series| &mut series.figures);
        for (figure, ratio) in figures.zip(ratios) {
            figure.ratio = figure.ratio.or(ratio);
        }
    }

    fn reference_of(&self, series: &Series) -> Option<&Series> {
        let mut references = self.series.iter().filter(|other| other.is_reference);
        let first = references.clone().next();
        references
            .find(|reference| reference.variant == series.variant)
            .or(first)
    }
}

/// One server in one set-up.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Series {
    /// Who: `switchboard`, `nats`, `reference`, a URL.
    pub name: String,
    /// Version of it, where known.
    pub version: Option<String>,
    /// Which set-up, where there are several: `bursts of 10`; otherwise empty.
    pub variant: String,
    /// It is the bare server that the ratios are taken from.
    pub is_reference: bool,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Messages that did not arrive, or arrived wrong. Anything but `None` makes the call fail.
    pub fault: Option<String>,
}

impl Series {
    /// The figure of this name.
    #[must_use]
    pub fn figure(&self, what: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.what == what)
    }

    /// The ratio of one of its figures, in writing. That of a reference to itself is 1 by definition, hence without decimals.
    fn ratio(&self, figure: &Figure) -> Option<String> {
        match figure.ratio? {
            1.0 if self.is_reference => Some("1 ×".to_owned()),
            ratio => Some(quantity::ratio(ratio)),
        }
    }

    /// Name and variant: `switchboard, bursts of 10`.
    pub(crate) fn who(&self) -> String {
        joined(&self.name, &self.variant)
    }

    /// The same with the version, where known: `switchboard 0.1.0, bursts of 10`.
    fn who_exactly(&self) -> String {
        match &self.version {
            Some(version) => joined(&format!("{} {version}", self.name), &self.variant),
            None => self.who(),
        }
    }
}

fn joined(name: &str, variant: &str) -> String {
    if variant.is_empty() {
        name.to_owned()
    } else {
        format!("{name}, {variant}")
    }
}

/// One measured quantity.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Figure {
    /// What: `CPU per delivery`.
    pub what: String,
    /// In which unit the samples are.
    pub unit: Unit,
    /// One per round, in the order of measuring. All finite: JSON has no way to say anything else.
    pub samples: Vec<f64>,
    /// Median divided by the median of the same figure of the reference; `None` where there is none.
    pub ratio: Option<f64>,
}

impl Figure {
    /// The least sample; `None` without samples.
    #[must_use]
    pub fn minimum(&self) -> Option<f64> {
        self.samples.iter().copied().min_by(f64::total_cmp)
    }

    /// The sample in the middle, or halfway between the two there; `None` without samples. Sorts a copy.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut samples = self.samples.clone();
        samples.sort_by(f64::total_cmp);
        let upper = samples.len() / 2;
        let lower = samples.len().checked_sub(1)? / 2;
        Some(f64::midpoint(*samples.get(lower)?, *samples.get(upper)?))
    }

    /// The greatest sample; `None` without samples.
    #[must_use]
    pub fn maximum(&self) -> Option<f64> {
        self.samples.iter().copied().max_by(f64::total_cmp)
    }

    /// Median in medians of `reference`.
    fn beside(&self, reference: &Figure) -> Option<f64> {
        let ratio = self.median()? / reference.median()?;
        // A reference of 0 gives infinity, or for 0 of 0 not a number.
        ratio.is_finite().then_some(ratio)
    }
}

/// Units of figures.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds: of CPU, or of latency.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Per second.
    PerSecond,
    /// Hundredths of one core.
    PercentOfCore,
    /// A plain number.
    Count,
}

/// What is said of an interrupted run, in every form.
const INTERRUPTED: &str = "Interrupted: fewer rounds than asked for. The figures stand on what was finished.";

/// Everything that was measured, in the order in which it first occurs.
fn whats<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Vec<&'a str> {
    let mut whats = Vec::new();
    for figure in reports
        .into_iter()
        .flat_map(|report| &report.series)
        .flat_map(|series| &series.figures)
    {
        if !whats.contains(&figure.what.as_str()) {
            whats.push(&figure.what);
        }
    }
    whats
}

/// `text` with at most `characters_max` characters, on one line: what is cut off leaves an ellipsis, and a control character a
/// space. Names can be URLs, and faults can quote a peer.
fn shortened(text: &str, characters_max: usize) -> String {
    let mut plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if let Some((end, _)) = plain.char_indices().nth(characters_max) {
        plain.truncate(end);
        plain.pop();
        plain.push('…');
    }
    plain
}

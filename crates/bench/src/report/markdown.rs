//! Several runs as a document: a table for each scenario and set of parameters.

use super::quantity::Quantity;
use super::{Figure, INTERRUPTED, Machine, Report, Series, whats};

/// The reports as Markdown with tables, as GitHub and mdBook read it: a heading for each bench, below it for each set of
/// parameters one table; below that the faults and notes, the commands, the machine and the date.
///
/// Reports with the same bench, parameters and machine share a table; each keeps the ratios to its own reference, which stands
/// below its rows. Everything keeps the order in which it comes first. Ends with a line break, unless there is no report.
#[must_use]
pub fn markdown(reports: &[Report]) -> String {
    let mut sections = Vec::new();
    for bench in groups(reports.iter().collect(), |report| &report.bench) {
        sections.push(format!("## {}\n", escaped(&bench[0].bench)));
        for runs in groups(bench, |report| (&report.parameters, report.machine.to_string())) {
            sections.extend(section(&runs));
        }
    }
    sections.join("\n")
}

/// Reports with the same key together, in the order of their first. No group is empty.
fn groups<'a, K: PartialEq>(reports: Vec<&'a Report>, key: impl Fn(&'a Report) -> K) -> Vec<Vec<&'a Report>> {
    let mut groups: Vec<Vec<&Report>> = Vec::new();
    for report in reports {
        match groups.iter_mut().find(|group| key(group[0]) == key(report)) {
            Some(group) => group.push(report),
            None => groups.push(vec![report]),
        }
    }
    groups
}

/// The blocks about runs that share a table; a blank line belongs between them.
fn section(runs: &[&Report]) -> Vec<String> {
    let mut blocks = Vec::new();
    let parameters = &runs[0].parameters;
    if !parameters.is_empty() {
        blocks.push(format!("### {}\n", escaped(parameters)));
    }
    blocks.push(rows(runs));
    blocks.extend(remarks(runs));
    for run in runs {
        blocks.push(code_block(&run.command));
        let Machine { date, .. } = &run.machine;
        blocks.push(format!(
            "{}. Version {}, {}.\n",
            escaped(&run.machine.to_string()),
            escaped(&run.version),
            escaped(date)
        ));
    }
    blocks
}

fn rows(runs: &[&Report]) -> String {
    let whats = whats(runs.iter().copied());
    let mut head = "| server |".to_owned();
    let mut rule = "|---|".to_owned();
    for what in &whats {
        head.push_str(&format!(" {} | ratio |", escaped(what)));
        rule.push_str("---:|---:|");
    }
    let mut out = format!("{head}\n{rule}\n");
    for series in runs.iter().flat_map(|run| &run.series) {
        out.push_str(&format!("| {} |", escaped(&series.who_exactly())));
        for what in &whats {
            let [measured, ratio] = cells(series, series.figure(what));
            out.push_str(&format!(" {measured} | {ratio} |"));
        }
        out.push('\n');
    }
    out
}

/// Median with minimum and maximum, if these differ, and the ratio; empty where there is none.
fn cells(series: &Series, figure: Option<&Figure>) -> [String; 2] {
    let measured = |figure: &Figure| {
        let median = Quantity::of(figure.median()?, figure.unit);
        let (minimum, maximum) = (figure.minimum()?, figure.maximum()?);
        if minimum == maximum {
            return Some(median.to_string());
        }
        let range = Quantity::range(minimum, maximum, figure.unit);
        Some(format!("{median} ({range})"))
    };
    let ratio = figure.and_then(|figure| series.ratio(figure));
    [
        figure.and_then(measured).unwrap_or_default(),
        ratio.unwrap_or_default(),
    ]
}

/// Faults, interruptions and notes as a list, if there are any.
fn remarks(runs: &[&Report]) -> Option<String> {
    let mut out = String::new();
    let mut remark = |text: String| out.push_str(&format!("- {text}\n"));
    for run in runs {
        for series in &run.series {
            if let Some(fault) = &series.fault {
                remark(format!("**{}: {}**", escaped(&series.who()), escaped(fault)));
            }
        }
        if run.interrupted {
            remark(INTERRUPTED.to_owned());
        }
        run.notes.iter().for_each(|note| remark(escaped(note)));
    }
    (!out.is_empty()).then_some(out)
}

/// The fence is longer than any row of backticks in `text`.
fn code_block(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}sh\n{}\n{fence}\n", text.trim_end())
}

/// `text` as it stands, on one line, for the middle of a line: nothing in it is markup, neither of Markdown nor of HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

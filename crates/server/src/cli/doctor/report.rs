//! Findings as a table for people and as JSON for machines.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::checks::{Finding, Status};

const DIM: Style = Style::new().dimmed();
const COMMAND: Style = AnsiColor::Cyan.on_default();

fn look(status: Status) -> (&'static str, Style) {
    match status {
        Status::Ok => ("ok", AnsiColor::Green.on_default()),
        Status::Warn => ("warn", AnsiColor::Yellow.on_default().bold()),
        Status::Bad => ("bad", AnsiColor::Red.on_default().bold()),
        Status::Unknown => ("unknown", Style::new().dimmed()),
    }
}

fn count(findings: &[Finding], status: Status) -> usize {
    findings.iter().filter(|finding| finding.status == status).count()
}

/// A line per check; below those that are not ok, why that matters and what to type.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    for finding in findings {
        let (word, style) = look(finding.status);
        let _ = writeln!(
            out,
            "{style}{word:<7}{style:#}  {:<width$}  {}",
            finding.check, finding.found
        );
        if finding.status == Status::Ok {
            continue;
        }
        let indent = 7 + 2 + width + 2;
        for line in wrap(finding.why, 96_usize.saturating_sub(indent)) {
            let _ = writeln!(out, "{:indent$}{DIM}{line}{DIM:#}", "");
        }
        for change in &finding.change {
            let _ = writeln!(out, "{:indent$}{COMMAND}{change}{COMMAND:#}", "");
        }
    }
    let counts: Vec<String> = [Status::Ok, Status::Warn, Status::Bad, Status::Unknown]
        .into_iter()
        .map(|status| (count(findings, status), look(status).0))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let _ = writeln!(out, "\n{} checks: {}", findings.len(), counts.join(", "));
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The report as one JSON object.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    findings: &'a [Finding],
    ok: usize,
    warn: usize,
    bad: usize,
    unknown: usize,
}

/// One JSON object: `findings` with check, status, found, why and change, and how many there are of each status.
pub fn json(findings: &[Finding]) -> String {
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        findings,
        ok: count(findings, Status::Ok),
        warn: count(findings, Status::Warn),
        bad: count(findings, Status::Bad),
        unknown: count(findings, Status::Unknown),
    };
    // Strings and numbers always serialize.
    serde_json::to_string(&report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding {
                check: "shards",
                status: Status::Ok,
                found: "2 shards on 2 cores".to_owned(),
                why: "It matters.",
                change: Vec::new(),
            },
            Finding {
                check: "somaxconn",
                status: Status::Warn,
                found: "net.core.somaxconn is 128".to_owned(),
                why: "It bounds how many new connections wait to be accepted; beyond, clients that come back are dropped.",
                change: vec!["sudo sysctl -w net.core.somaxconn=4096".to_owned()],
            },
        ]
    }

    #[test]
    fn a_person_reads_what_to_do_below_what_is_wrong() {
        let expected = "\
ok       shards     2 shards on 2 cores
warn     somaxconn  net.core.somaxconn is 128
                    It bounds how many new connections wait to be accepted; beyond, clients that
                    come back are dropped.
                    sudo sysctl -w net.core.somaxconn=4096

2 checks: 1 ok, 1 warn
";
        assert_eq!(
            anstream::adapter::strip_str(&text(&findings())).to_string(),
            expected
        );
    }

    #[test]
    fn a_machine_reads_the_same() {
        let report: serde_json::Value = serde_json::from_str(&json(&findings())).unwrap();
        assert_eq!(report["warn"], 1);
        assert_eq!(report["findings"][1]["check"], "somaxconn");
        assert_eq!(report["findings"][1]["status"], "warn");
        assert_eq!(
            report["findings"][1]["change"][0],
            "sudo sysctl -w net.core.somaxconn=4096"
        );
    }
}

//! What is wrong with the settings, where it stands, and what to write instead.

use std::fmt;
use std::ops::Range;

use anstyle::{AnsiColor, Style};

use super::check::Refusal;
use super::field::BadValue;

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nowhere: it is the default.
    Default,
    /// In a file.
    File(FilePlace),
    /// In this environment variable.
    Variable(String),
    /// By this flag.
    Flag(&'static str),
}

/// A place in a file, with what stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePlace {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The text of the line, or what fits of it.
    excerpt: String,
    /// How many characters stand in the excerpt before those that are meant.
    before: usize,
    /// How many characters are meant; at least 1.
    width: usize,
}

/// Longest excerpt of a line that is shown, and how far into it what is meant may begin.
const EXCERPT_CHARACTERS_MAX: usize = 160;
const EXCERPT_BEFORE_MAX: usize = 80;

impl FilePlace {
    /// The place of `span` (bytes) in `text`, the content of `file`.
    pub(super) fn new(file: &str, text: &str, span: Range<usize>) -> FilePlace {
        let start = floor_to_character(text, span.start);
        let end = floor_to_character(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let before = text[line_start..start].chars().count();
        let skipped = before.saturating_sub(EXCERPT_BEFORE_MAX);
        let width = text[start..end.min(line_end)].chars().count().max(1);
        let excerpt = text[line_start..line_end]
            .chars()
            .skip(skipped)
            .take(EXCERPT_CHARACTERS_MAX)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>();
        FilePlace {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: before + 1,
            before: before - skipped,
            width: width.min(EXCERPT_CHARACTERS_MAX - EXCERPT_BEFORE_MAX),
            excerpt: excerpt.trim_end().to_owned(),
        }
    }
}

fn floor_to_character(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

impl Place {
    /// Places in the order in which a person looks at them: the file from its beginning, then variables, then flags.
    pub(super) fn order(&self) -> (u8, usize, usize) {
        match self {
            Place::File(place) => (0, place.line, place.column),
            Place::Variable(_) => (1, 0, 0),
            Place::Flag(_) => (2, 0, 0),
            Place::Default => (3, 0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("the default"),
            Place::File(FilePlace {
                file, line, column, ..
            }) => write!(f, "{file}:{line}:{column}"),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// What is wrong, all of it the operator's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misdeed {
    /// The file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Unreadable {
        /// The file, as it was named.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// A section that does not exist.
    #[error("there is no section [{name}]")]
    UnknownSection {
        /// Its name.
        name: String,
        /// The one that may have been meant.
        nearest: Option<String>,
    },
    /// A key outside of every section.
    #[error("`{key}` stands outside of every section")]
    OutsideSection {
        /// The key.
        key: String,
        /// `[section] key` that may have been meant.
        nearest: Option<String>,
    },
    /// A section's name with a value of its own.
    #[error("`{0}` is a section, not a setting")]
    NotASetting(String),
    /// A key that its section does not have.
    #[error("there is no setting `{key}` in [{section}]")]
    UnknownKey {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The one that may have been meant.
        nearest: Option<String>,
        /// All keys of the section.
        known: Vec<&'static str>,
    },
    /// A variable with our prefix that sets nothing.
    #[error("{name} names no setting")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one that may have been meant.
        nearest: Option<String>,
    },
    /// What stands behind `namespaces.` is no name.
    #[error("`{name}` is not the name of a namespace: {reason}")]
    BadNamespace {
        /// The name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The value of a variable is not UTF-8.
    #[error("the value is not UTF-8")]
    NotUtf8,
    /// A value that its setting does not take.
    #[error("{setting}: {shown} {problem}")]
    Value {
        /// `section.key`.
        setting: String,
        /// The value as it was written, or nothing where the problem names it.
        shown: String,
        /// What is wrong with it.
        problem: BadValue,
        /// What is allowed.
        allowed: String,
        /// What to write instead.
        advice: Option<String>,
    },
    /// Values that are fine alone and not together.
    #[error("{0}")]
    Refused(Refusal),
}

impl Misdeed {
    /// Lines below the message: their label and their text.
    fn notes(&self) -> Vec<(&'static str, String)> {
        let did_you_mean =
            |nearest: &Option<String>| nearest.iter().map(|n| format!("did you mean `{n}`?")).collect();
        let help = |texts: Vec<String>| texts.into_iter().map(|text| ("help", text)).collect();
        match self {
            Misdeed::Unreadable { .. } | Misdeed::Syntax(_) | Misdeed::NotUtf8 => Vec::new(),
            Misdeed::BadNamespace { .. } => Vec::new(),
            Misdeed::UnknownSection { nearest, .. } | Misdeed::OutsideSection { nearest, .. } => {
                help(did_you_mean(nearest))
            }
            Misdeed::UnknownVariable { nearest, .. } => {
                let mut texts: Vec<String> = did_you_mean(nearest);
                texts.push("`switchboard config env` lists the variables".to_owned());
                help(texts)
            }
            Misdeed::NotASetting(name) => help(vec![format!(
                "write [{name}] on a line of its own, its keys below it"
            )]),
            Misdeed::UnknownKey { nearest, known, .. } => {
                let mut texts: Vec<String> = did_you_mean(nearest);
                if texts.is_empty() {
                    texts.push(format!("it has {}", known.join(", ")));
                }
                help(texts)
            }
            Misdeed::Value { allowed, advice, .. } => {
                let mut notes = vec![("allowed", allowed.clone())];
                notes.extend(advice.iter().map(|advice| ("help", advice.clone())));
                notes
            }
            Misdeed::Refused(refusal) => help(refusal.ways_out()),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub misdeed: Misdeed,
}

/// Everything that is wrong with the settings. Never empty.
///
/// Its `Display` is what a person reads: message, place, the line of the file, what to do. It has colours, which whoever
/// prints it strips where they are not wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// In the order file, variables, flags, then contradictions.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const FRAME: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().bold();

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ERROR}error{ERROR:#}{BOLD}: {}{BOLD:#}", self.misdeed)?;
        let gutter = match &self.place {
            Place::File(place) => place.line.to_string().len().max(2),
            _ => 2,
        };
        let pad = " ".repeat(gutter);
        match &self.place {
            Place::Default => {}
            place => writeln!(f, "{pad}{FRAME}--> {place}{FRAME:#}")?,
        }
        if let Place::File(FilePlace {
            line,
            excerpt,
            before,
            width,
            ..
        }) = &self.place
        {
            writeln!(f, "{pad} {FRAME}|{FRAME:#}")?;
            writeln!(f, "{FRAME}{line:>gutter$} |{FRAME:#} {excerpt}")?;
            let before = " ".repeat(*before);
            let marks = "^".repeat(*width);
            writeln!(f, "{pad} {FRAME}|{FRAME:#} {before}{ERROR}{marks}{ERROR:#}")?;
        }
        for (label, text) in self.misdeed.notes() {
            writeln!(f, "{pad} {FRAME}={FRAME:#} {BOLD}{label}{BOLD:#}: {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, span: Range<usize>, expected: &str) {
        let problem = Problem {
            place: Place::File(FilePlace::new("a.toml", text, span)),
            misdeed: Misdeed::Syntax("no".to_owned()),
        };
        let shown = anstream::adapter::strip_str(&problem.to_string()).to_string();
        assert_eq!(shown, format!("error: not valid TOML: no\n{expected}"));
    }

    #[test]
    fn the_place_is_underlined() {
        check(
            "[limits]\nping = 25 # grüße\n",
            16..18,
            "  --> a.toml:2:8\n   |\n 2 | ping = 25 # grüße\n   |        ^^\n",
        );
    }

    #[test]
    fn any_span_of_any_text_has_a_place() {
        check("", 0..0, "  --> a.toml:1:1\n   |\n 1 | \n   | ^\n");
        check("ü", 1..9, "  --> a.toml:1:1\n   |\n 1 | ü\n   | ^\n");
        check("a\n", 7..9, "  --> a.toml:2:1\n   |\n 2 | \n   | ^\n");
        let long = "x".repeat(10_000);
        let shown = format!(
            "  --> a.toml:1:5001\n   |\n 1 | {}\n   | {}{}\n",
            "x".repeat(160),
            " ".repeat(80),
            "^".repeat(80)
        );
        check(&long, 5_000..9_000, &shown);
        check("a\tb\r\nc", 2..6, "  --> a.toml:1:3\n   |\n 1 | a b\n   |   ^^\n");
    }
}

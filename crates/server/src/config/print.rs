//! The settings as text: the default file, the variables, what is in force.

use std::fmt::Write as _;

use super::load::Loaded;
use super::problem::Place;
use super::table::{CHANNEL_SETTINGS, NAMESPACES, SECTIONS, SETTINGS, Setting};
use super::{ChannelSettings, Config};

/// Columns of a comment.
const WIDTH: usize = 100;

/// A file with every setting at its default, every value behind a `#`.
pub fn default_file() -> String {
    let mut out = String::from(
        "# Settings of switchboard, each with its default. Remove the # before a line to change it.\n\
         # Stronger than this file are environment variables (SWITCHBOARD_SECTION__KEY), and flags.\n",
    );
    let mut config = Config::default();
    for section in SECTIONS {
        let _ = writeln!(out);
        comment(&mut out, section.about);
        let _ = writeln!(out, "[{}]", section.name);
        for setting in SETTINGS.iter().filter(|s| s.section == section.name) {
            describe(&mut out, setting);
            let _ = writeln!(out, "#{} = {}", setting.key, setting.field.write(&mut config));
        }
        for setting in CHANNEL_SETTINGS.iter().filter(|s| s.section == section.name) {
            describe(&mut out, setting);
            let value = setting.field.write(&mut config.channels);
            let _ = writeln!(out, "#{} = {value}", setting.key);
        }
    }
    out
}

/// Every variable with its default, behind a `#`, as a file of variables has them.
pub fn variables() -> String {
    let mut out = String::from(
        "# Variables of switchboard, each with its default; stronger than the file, weaker than flags.\n\
         # Of one namespace's channels: SWITCHBOARD_NAMESPACES__name__KEY. Lists have commas between.\n",
    );
    let mut one = |about: &str, variable: String, default: &str| {
        out.push('\n');
        comment(&mut out, about);
        let _ = writeln!(out, "#{variable}={default}");
    };
    for section in SECTIONS {
        for setting in SETTINGS.iter().filter(|s| s.section == section.name) {
            one(setting.about, setting.variable(), setting.default);
        }
        for setting in CHANNEL_SETTINGS.iter().filter(|s| s.section == section.name) {
            one(setting.about, setting.variable(), setting.default);
        }
    }
    out
}

/// What is in force, as a file, and where each value that is no default is from.
pub fn in_force(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut config = loaded.config.clone();
    for section in SECTIONS {
        header(&mut out, section.name);
        for setting in SETTINGS.iter().filter(|s| s.section == section.name) {
            let value = setting.field.write(&mut config);
            value_line(&mut out, setting.key, &value, loaded.place(&setting.path()));
        }
        for setting in CHANNEL_SETTINGS.iter().filter(|s| s.section == section.name) {
            let value = setting.field.write(&mut config.channels);
            value_line(&mut out, setting.key, &value, loaded.place(&setting.path()));
        }
    }
    for (name, channels) in &mut config.namespaces {
        namespace(&mut out, loaded, name, channels);
    }
    out
}

fn namespace(out: &mut String, loaded: &Loaded, name: &str, channels: &mut ChannelSettings) {
    let is_bare = name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    match is_bare {
        true => header(out, &format!("{NAMESPACES}.{name}")),
        false => header(
            out,
            &format!("{NAMESPACES}.{}", toml::Value::String(name.to_owned())),
        ),
    }
    for setting in CHANNEL_SETTINGS {
        let value = setting.field.write(channels);
        let place = loaded.place(&format!("{NAMESPACES}.{name}.{}", setting.key));
        value_line(out, setting.key, &value, place);
    }
}

fn header(out: &mut String, section: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}[{section}]");
}

fn value_line(out: &mut String, key: &str, value: &str, place: &Place) {
    let line = format!("{key} = {value}");
    let _ = match place {
        Place::Default => writeln!(out, "{line}"),
        place => writeln!(out, "{line:<40} # {place}"),
    };
}

fn describe<T>(out: &mut String, setting: &Setting<T>) {
    out.push('\n');
    comment(out, setting.about);
    comment(out, &format!("Allowed: {}.", setting.field.allowed()));
    if let Some(flag) = setting.flag {
        comment(out, &format!("Flag: {flag}."));
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn load(text: String) -> Loaded {
        let sources = Sources {
            file: Some(("test.toml".to_owned(), text)),
            ..Sources::default()
        };
        sources.load().unwrap()
    }

    #[test]
    fn the_default_file_says_the_defaults_with_and_without_its_marks() {
        let file = default_file();
        assert_eq!(load(file.clone()).config, Config::default());
        let is_value = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        let bare: Vec<&str> = file
            .lines()
            .map(|line| if is_value(line) { &line[1..] } else { line })
            .collect();
        let settings = SETTINGS.len() + CHANNEL_SETTINGS.len();
        assert_eq!(file.lines().filter(|line| is_value(line)).count(), settings);
        assert_eq!(load(bare.join("\n")).config, Config::default());
    }

    #[test]
    fn the_variables_say_the_defaults() {
        let variables = variables();
        let given: Vec<(std::ffi::OsString, std::ffi::OsString)> = variables
            .lines()
            .filter_map(|line| line.strip_prefix("#SWITCHBOARD_")?.split_once('='))
            .map(|(name, value)| (format!("SWITCHBOARD_{name}").into(), value.into()))
            .collect();
        assert_eq!(given.len(), SETTINGS.len() + CHANNEL_SETTINGS.len());
        let sources = Sources {
            variables: given,
            ..Sources::default()
        };
        assert_eq!(sources.load().unwrap().config, Config::default());
    }

    #[test]
    fn what_is_in_force_reads_back_as_itself() {
        let text = "[limits]\nsubscribes_per_s = \"unlimited\"\n[namespaces.\"räume\"]\nlog_messages_max = \"none\"\n";
        let loaded = load(text.to_owned());
        let shown = in_force(&loaded);
        assert!(
            shown.contains("subscribes_per_s = \"unlimited\"           # test.toml:2:20\n"),
            "{shown}"
        );
        assert_eq!(load(shown).config, loaded.config);
    }
}

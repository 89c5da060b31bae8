//! All settings together: defaults, then the file, then the environment, then flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use switchboard_proto::channel::ChannelName;
use toml::de::{DeTable, DeValue};

use super::field::Written;
use super::problem::{ConfigError, FilePlace, Misdeed, Place, Problem};
use super::suggest::nearest;
use super::table::{self, NAMESPACES, SECTIONS, Setting, VARIABLE_PREFIX};
use super::{ChannelSettings, Config};

/// Largest file of settings. A file beyond is not one.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was given, besides the defaults.
#[derive(Default)]
pub struct Sources {
    /// Name and content of the file.
    pub file: Option<(String, String)>,
    /// Environment variables; those without [`VARIABLE_PREFIX`] are passed over.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags by the name that the table gives them.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Reads the file, if one is named, and the environment of this process.
    pub fn of_process(
        file: Option<&Path>,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Sources, ConfigError> {
        let file = match file {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let text = read_file(path).map_err(|reason| ConfigError {
                    problems: vec![Problem {
                        place: Place::Default,
                        misdeed: Misdeed::Unreadable {
                            file: name.clone(),
                            reason,
                        },
                    }],
                })?;
                Some((name, text))
            }
        };
        Ok(Sources {
            file,
            variables: std::env::vars_os().collect(),
            flags,
        })
    }

    /// Puts everything together, or says everything that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut reading = Reading::default();
        if let Some((name, text)) = &self.file {
            reading.read_file(name, text);
        }
        for (name, value) in &self.variables {
            reading.read_variable(name, value);
        }
        for (flag, value) in &self.flags {
            reading.read_flag(flag, value);
        }
        reading.finish()
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// The settings, and where each was given.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// `section.key` of what was given, with the place that counted.
    places: BTreeMap<String, Place>,
}

impl Loaded {
    /// Where the value of `section.key` is from.
    pub fn place(&self, path: &str) -> &Place {
        self.places.get(path).unwrap_or(&Place::Default)
    }
}

/// What a given value is for.
enum Target {
    Server(&'static Setting<Config>),
    Channels(&'static Setting<ChannelSettings>),
    Namespace(String, &'static Setting<ChannelSettings>),
}

impl Target {
    /// `section.key`.
    fn path(&self) -> String {
        match self {
            Target::Server(setting) => setting.path(),
            Target::Channels(setting) => setting.path(),
            Target::Namespace(name, setting) => format!("{NAMESPACES}.{name}.{}", setting.key),
        }
    }
}

/// A value that was given for a setting that exists.
struct Given {
    target: Target,
    written: Written,
    /// As an error shows it.
    shown: String,
    place: Place,
}

/// What was found so far.
#[derive(Default)]
struct Reading {
    given: Vec<Given>,
    problems: Vec<Problem>,
}

impl Reading {
    fn read_file(&mut self, file: &str, text: &str) {
        let at = |span| Place::File(FilePlace::new(file, text, span));
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let place = at(error.span().unwrap_or(0..0));
                self.problem(place, Misdeed::Syntax(error.message().to_owned()));
                return;
            }
        };
        for (section, value) in table.get_ref() {
            let name = section.get_ref().as_ref();
            let known = name == NAMESPACES || SECTIONS.iter().any(|known| known.name == name);
            match value.get_ref() {
                DeValue::Table(_) if !known => self.problem(at(section.span()), unknown_section(name)),
                DeValue::Table(names) if name == NAMESPACES => self.read_namespaces(file, text, names),
                DeValue::Table(keys) => self.read_keys(file, text, name, None, keys),
                _ if known => self.problem(at(section.span()), Misdeed::NotASetting(name.to_owned())),
                _ => self.problem(at(section.span()), outside_section(name)),
            }
        }
    }

    fn read_namespaces(&mut self, file: &str, text: &str, names: &DeTable<'_>) {
        for (name, value) in names {
            let place = Place::File(FilePlace::new(file, text, name.span()));
            let name = name.get_ref().as_ref();
            match (bad_namespace(name), value.get_ref()) {
                (Some(misdeed), _) => self.problem(place, misdeed),
                (None, DeValue::Table(keys)) => self.read_keys(file, text, NAMESPACES, Some(name), keys),
                (None, _) => self.problem(place, Misdeed::NotASetting(format!("{NAMESPACES}.{name}"))),
            }
        }
    }

    fn read_keys(
        &mut self,
        file: &str,
        text: &str,
        section: &str,
        namespace: Option<&str>,
        keys: &DeTable<'_>,
    ) {
        for (key, value) in keys {
            let name = key.get_ref().as_ref();
            match find_target(section, namespace, name) {
                Some(target) => self.given.push(Given {
                    target,
                    written: written(value.get_ref()),
                    shown: text.get(value.span()).unwrap_or_default().to_owned(),
                    place: Place::File(FilePlace::new(file, text, value.span())),
                }),
                None => {
                    let place = Place::File(FilePlace::new(file, text, key.span()));
                    self.problem(place, unknown_key(section, namespace, name));
                }
            }
        }
    }

    fn read_variable(&mut self, name: &OsString, value: &OsString) {
        let Some(name) = name.to_str() else { return };
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
            return;
        };
        let place = Place::Variable(name.to_owned());
        let Some(value) = value.to_str() else {
            return self.problem(place, Misdeed::NotUtf8);
        };
        if is_kubernetes_link(rest, value) {
            return;
        }
        let (section, namespace, key) = match split_variable(rest) {
            Some(parts) => parts,
            None => return self.problem(place, unknown_variable(name)),
        };
        if let Some(misdeed) = namespace.and_then(bad_namespace) {
            return self.problem(place, misdeed);
        }
        match find_target(&section, namespace, &key) {
            Some(target) => self.given.push(Given {
                target,
                written: Written::Plain(value.to_owned()),
                shown: format!("`{value}`"),
                place,
            }),
            None => self.problem(place, unknown_variable(name)),
        }
    }

    fn read_flag(&mut self, flag: &'static str, value: &str) {
        let setting = table::SETTINGS.iter().find(|setting| setting.flag == Some(flag));
        debug_assert!(setting.is_some(), "{flag} is not in the table");
        self.given.extend(setting.map(|setting| Given {
            target: Target::Server(setting),
            written: Written::Plain(value.to_owned()),
            shown: format!("`{value}`"),
            place: Place::Flag(flag),
        }));
    }

    /// Applies what was given in its order, but namespaces last: what they leave open is what `[channels]` says in the end.
    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let mut config = Config::default();
        let mut places = BTreeMap::new();
        let (namespaces, others): (Vec<Given>, Vec<Given>) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|given| matches!(given.target, Target::Namespace(..)));
        for given in others.into_iter().chain(namespaces) {
            let path = given.target.path();
            let (read, allowed) = match &given.target {
                Target::Server(setting) => (
                    setting.field.read(&mut config, &given.written),
                    setting.field.allowed(),
                ),
                Target::Channels(setting) => (
                    setting.field.read(&mut config.channels, &given.written),
                    setting.field.allowed(),
                ),
                Target::Namespace(name, setting) => {
                    let channels = config.channels.clone();
                    let channels = config.namespaces.entry(name.clone()).or_insert(channels);
                    (
                        setting.field.read(channels, &given.written),
                        setting.field.allowed(),
                    )
                }
            };
            match read {
                Ok(()) => {
                    places.insert(path, given.place);
                }
                Err(problem) => {
                    let misdeed = Misdeed::Value {
                        setting: path,
                        advice: problem.advice(&given.written),
                        problem,
                        shown: given.shown,
                        allowed,
                    };
                    self.problem(given.place, misdeed);
                }
            }
        }
        if self.problems.is_empty() {
            for refusal in config.refusals() {
                let given = refusal.settings().into_iter().find_map(|path| places.get(&path));
                let place = given.cloned().unwrap_or(Place::Default);
                self.problem(place, Misdeed::Refused(refusal));
            }
        }
        self.problems.sort_by_key(|problem| problem.place.order());
        match self.problems.is_empty() {
            true => Ok(Loaded { config, places }),
            false => Err(ConfigError {
                problems: self.problems,
            }),
        }
    }

    fn problem(&mut self, place: Place, misdeed: Misdeed) {
        self.problems.push(Problem { place, misdeed });
    }
}

/// The value that TOML says.
pub(super) fn written(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Text(text.clone().into_owned()),
        DeValue::Boolean(value) => Written::Boolean(*value),
        // A number that fits nowhere is out of every range, as the largest one is.
        DeValue::Integer(number) => {
            Written::Integer(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        DeValue::Float(_) => Written::Other("a number with a fraction"),
        DeValue::Datetime(_) => Written::Other("a date"),
        DeValue::Table(_) => Written::Other("a table"),
        DeValue::Array(items) => {
            let texts = items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().map_or(
                Written::Other("a list of other things than strings"),
                Written::List,
            )
        }
    }
}

fn find_target(section: &str, namespace: Option<&str>, key: &str) -> Option<Target> {
    match (section, namespace) {
        (_, Some(name)) => {
            table::find_channel(key).map(|setting| Target::Namespace(name.to_owned(), setting))
        }
        ("channels", None) => table::find_channel(key).map(Target::Channels),
        (_, None) => table::find(section, key).map(Target::Server),
    }
}

/// Why `name` names no namespace. A namespace is the first segment of a channel's name.
fn bad_namespace(name: &str) -> Option<Misdeed> {
    let reason = match ChannelName::parse(name) {
        Ok(_) if name.contains(':') => "it is what stands before the first ':'".to_owned(),
        Ok(_) => return None,
        Err(reason) => reason.to_string(),
    };
    Some(Misdeed::BadNamespace {
        name: name.to_owned(),
        reason,
    })
}

/// Section, namespace and key of `SECTION__KEY` or `NAMESPACES__name__KEY`. Names of namespaces are as they are written,
/// all else in any case.
fn split_variable(rest: &str) -> Option<(String, Option<&str>, String)> {
    let (section, key) = rest.split_once("__")?;
    let section = section.to_ascii_lowercase();
    if section != NAMESPACES {
        return Some((section, None, key.to_ascii_lowercase()));
    }
    let (name, key) = key.rsplit_once("__")?;
    Some((section, Some(name), key.to_ascii_lowercase()))
}

/// Whether Kubernetes set it: a pod beside a Service called `switchboard` finds `SWITCHBOARD_SERVICE_HOST`,
/// `SWITCHBOARD_PORT=tcp://…`, `SWITCHBOARD_PORT_8000_TCP_ADDR` and more
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_kubernetes_link(rest: &str, value: &str) -> bool {
    let has = |part: &str| rest.starts_with(part) || rest.contains(&format!("_{part}"));
    let is_port = |rest: &str| {
        let number = rest.split("PORT_").last().unwrap_or_default();
        number.starts_with(|c: char| c.is_ascii_digit())
            && ["_TCP", "_UDP", "_SCTP"].iter().any(|name| number.contains(name))
    };
    !rest.contains("__")
        && (has("SERVICE_HOST")
            || has("SERVICE_PORT")
            || rest.ends_with("PORT") && value.contains("://")
            || is_port(rest))
}

fn unknown_section(name: &str) -> Misdeed {
    let known = SECTIONS.iter().map(|section| section.name).chain([NAMESPACES]);
    Misdeed::UnknownSection {
        name: name.to_owned(),
        nearest: nearest(name, known).map(|name| format!("[{name}]")),
    }
}

fn outside_section(key: &str) -> Misdeed {
    let keys = || SECTIONS.iter().flat_map(|section| table::keys_of(section.name));
    let found = nearest(key, keys());
    let section = found.and_then(|found| {
        SECTIONS
            .iter()
            .find(|section| table::keys_of(section.name).contains(&found))
    });
    let nearest = found
        .zip(section)
        .map(|(key, section)| format!("[{}] {key}", section.name));
    Misdeed::OutsideSection {
        key: key.to_owned(),
        nearest,
    }
}

fn unknown_key(section: &str, namespace: Option<&str>, key: &str) -> Misdeed {
    let known = table::keys_of(section);
    let here = nearest(key, known.iter().copied()).map(str::to_owned);
    // The right key in the wrong section.
    let elsewhere = SECTIONS
        .iter()
        .find(|other| table::keys_of(other.name).contains(&key))
        .map(|other| format!("[{}] {key}", other.name));
    Misdeed::UnknownKey {
        section: match namespace {
            Some(name) => format!("{section}.{name}"),
            None => section.to_owned(),
        },
        key: key.to_owned(),
        nearest: elsewhere.or(here),
        known,
    }
}

fn unknown_variable(name: &str) -> Misdeed {
    let variables: Vec<String> = table::SETTINGS
        .iter()
        .map(Setting::variable)
        .chain(table::CHANNEL_SETTINGS.iter().map(Setting::variable))
        .collect();
    // The prefix is the same in all of them and would make all of them alike.
    let bare = |name: &'_ str| name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name).to_owned();
    let bare_variables: Vec<String> = variables.iter().map(|variable| bare(variable)).collect();
    let found = nearest(&bare(name), bare_variables.iter().map(String::as_str));
    Misdeed::UnknownVariable {
        name: name.to_owned(),
        nearest: found.map(|found| format!("{VARIABLE_PREFIX}{found}")),
    }
}

#[cfg(test)]
mod tests;

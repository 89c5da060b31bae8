//! One value: what may be written for it, how it is read, how it is written back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::units::{read_bytes, read_count, read_duration, read_rate, write_bytes, write_duration};
use super::{Auto, BadOrigin, Fsync, LogFormat, LogLevel, OnLag, Origin, UNLIMITED};

/// A value as somebody wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// In a variable, a flag or the table of defaults, which know no types. A list has commas.
    Plain(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Something else of TOML, which no setting takes.
    Other(&'static str),
}

/// From which to which number a value goes, and the words that stand for numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    min: u64,
    max: u64,
    /// `"unlimited"` is allowed.
    unlimited: bool,
    /// `"none"` is allowed and means 0.
    none: bool,
}

impl Bounds {
    /// From `min` to `max`, both allowed. In milliseconds for a duration.
    pub const fn new(min: u64, max: u64) -> Bounds {
        Bounds {
            min,
            max,
            unlimited: false,
            none: false,
        }
    }

    /// Allows `"unlimited"` too.
    pub const fn or_unlimited(self) -> Bounds {
        Bounds {
            unlimited: true,
            ..self
        }
    }

    /// Allows `"none"` too, for 0.
    pub const fn or_none(self) -> Bounds {
        Bounds { none: true, ..self }
    }

    /// The number that a word stands for.
    fn word(&self, text: &str) -> Result<Option<u64>, BadValue> {
        match text {
            "unlimited" if self.unlimited => Ok(Some(u64::MAX)),
            "unlimited" => Err(BadValue::Unlimited),
            "none" if self.none => Ok(Some(0)),
            _ => Ok(None),
        }
    }

    fn check(&self, number: u64) -> Result<u64, BadValue> {
        match number {
            0 if self.min > 0 => Err(BadValue::Zero),
            _ if number < self.min || number > self.max => Err(BadValue::OutOfRange),
            _ => Ok(number),
        }
    }

    fn describe(&self, what: &str, write: impl Fn(u64) -> String) -> String {
        let mut text = format!("{what}, from {} to {}", write(self.min), write(self.max));
        if self.none {
            text.push_str(", or \"none\"");
        }
        if self.unlimited {
            text.push_str(", or \"unlimited\"");
        }
        text
    }
}

/// What kind of value a setting has, and where it stands in `T`.
pub enum Field<T> {
    /// `true` or `false`.
    Switch(fn(&mut T) -> &mut bool),
    /// `true`, `false` or `"auto"`.
    SwitchOrAuto(fn(&mut T) -> &mut Auto<bool>),
    /// An IP address and a port.
    Address(fn(&mut T) -> &mut SocketAddr),
    /// A number of something.
    Count(fn(&mut T) -> &mut usize, Bounds),
    /// A number of something, or `"auto"`.
    CountOrAuto(fn(&mut T) -> &mut Auto<usize>, Bounds),
    /// A number of bytes.
    Bytes(fn(&mut T) -> &mut usize, Bounds),
    /// A duration; unlimited is [`Duration::MAX`].
    Duration(fn(&mut T) -> &mut Duration, Bounds),
    /// Something per second; unlimited is 0.
    Rate(fn(&mut T) -> &mut u32),
    /// Bytes per second; unlimited is 0.
    ByteRate(fn(&mut T) -> &mut u32),
    /// How many may come at once.
    Burst(fn(&mut T) -> &mut u32),
    /// How many bytes may come at once.
    ByteBurst(fn(&mut T) -> &mut u32),
    /// A list of origins.
    Origins(fn(&mut T) -> &mut Vec<Origin>),
    /// A word.
    OnLag(fn(&mut T) -> &mut OnLag),
    /// A word.
    Fsync(fn(&mut T) -> &mut Fsync),
    /// A directory, or none.
    Directory(fn(&mut T) -> &mut Option<PathBuf>),
    /// A word.
    LogFormat(fn(&mut T) -> &mut LogFormat),
    /// A word.
    LogLevel(fn(&mut T) -> &mut LogLevel),
}

/// What rates and bursts may be: everything that fits, but not 0.
const U32_BOUNDS: Bounds = Bounds::new(1, u32::MAX as u64);
const RATE_BOUNDS: Bounds = U32_BOUNDS.or_unlimited();

impl<T> Field<T> {
    /// Reads `written` into its place in `target`, which stays as it is if that fails.
    pub fn read(&self, target: &mut T, written: &Written) -> Result<(), BadValue> {
        match self {
            Field::Switch(at) => *at(target) = read_switch(written)?,
            Field::SwitchOrAuto(at) => *at(target) = read_or_auto(written, read_switch)?,
            Field::Address(at) => *at(target) = read_address(text_of(written)?)?,
            Field::Count(at, bounds) => *at(target) = read_size(written, bounds, read_count, false)?,
            Field::CountOrAuto(at, bounds) => {
                *at(target) = read_or_auto(written, |written| read_size(written, bounds, read_count, false))?;
            }
            Field::Bytes(at, bounds) => *at(target) = read_size(written, bounds, read_bytes, true)?,
            Field::Duration(at, bounds) => *at(target) = read_bounded_duration(written, bounds)?,
            Field::Rate(at) => *at(target) = read_bounded_rate(written, false)?,
            Field::ByteRate(at) => *at(target) = read_bounded_rate(written, true)?,
            // The bounds are those of the type.
            Field::Burst(at) => *at(target) = read_size(written, &U32_BOUNDS, read_count, false)? as u32,
            Field::ByteBurst(at) => *at(target) = read_size(written, &U32_BOUNDS, read_bytes, true)? as u32,
            Field::Origins(at) => *at(target) = read_origins(written)?,
            Field::OnLag(at) => *at(target) = read_word(written)?,
            Field::Fsync(at) => *at(target) = read_word(written)?,
            Field::Directory(at) => {
                *at(target) = match text_of(written)? {
                    "" => return Err(BadValue::Empty),
                    "none" => None,
                    path => Some(PathBuf::from(path)),
                };
            }
            Field::LogFormat(at) => *at(target) = read_word(written)?,
            Field::LogLevel(at) => *at(target) = read_word(written)?,
        }
        Ok(())
    }

    /// The value in `target`, as TOML.
    pub fn write(&self, target: &mut T) -> String {
        match self {
            Field::Switch(at) => at(target).to_string(),
            Field::SwitchOrAuto(at) => match at(target) {
                Auto::Auto => quoted("auto"),
                Auto::Fixed(value) => value.to_string(),
            },
            Field::Address(at) => quoted(&at(target).to_string()),
            Field::Count(at, bounds) => write_size(*at(target), bounds, |count| count.to_string()),
            Field::CountOrAuto(at, bounds) => match at(target) {
                Auto::Auto => quoted("auto"),
                Auto::Fixed(value) => write_size(*value, bounds, |count| count.to_string()),
            },
            Field::Bytes(at, bounds) => write_size(*at(target), bounds, |bytes| quoted(&write_bytes(bytes))),
            Field::Duration(at, _) if *at(target) == Duration::MAX => quoted("unlimited"),
            Field::Duration(at, _) => quoted(&write_duration(*at(target))),
            Field::Rate(at) | Field::ByteRate(at) if *at(target) == 0 => quoted("unlimited"),
            Field::Rate(at) => quoted(&format!("{}/s", at(target))),
            Field::ByteRate(at) => quoted(&format!("{}/s", write_bytes((*at(target)).into()))),
            Field::Burst(at) => at(target).to_string(),
            Field::ByteBurst(at) => quoted(&write_bytes((*at(target)).into())),
            Field::Origins(at) => {
                let origins: Vec<String> = at(target).iter().map(|o| quoted(&o.to_string())).collect();
                format!("[{}]", origins.join(", "))
            }
            Field::OnLag(at) => write_word(*at(target)),
            Field::Fsync(at) => write_word(*at(target)),
            Field::Directory(at) => match at(target) {
                Some(path) => quoted(&path.to_string_lossy()),
                None => quoted("none"),
            },
            Field::LogFormat(at) => write_word(*at(target)),
            Field::LogLevel(at) => write_word(*at(target)),
        }
    }

    /// What may be written, in words.
    pub fn allowed(&self) -> String {
        let count = |n: u64| n.to_string();
        let size = |n: u64| format!("\"{}\"", write_bytes(n));
        let duration = |n: u64| format!("\"{}\"", write_duration(Duration::from_millis(n)));
        match self {
            Field::Switch(_) => "true or false".to_owned(),
            Field::SwitchOrAuto(_) => "true, false or \"auto\"".to_owned(),
            Field::Address(_) => {
                "an IP address and a port, such as \"127.0.0.1:8000\" or \"[::1]:8000\"".to_owned()
            }
            Field::Count(_, bounds) => bounds.describe("a whole number", count),
            Field::CountOrAuto(_, bounds) => {
                format!("{}, or \"auto\"", bounds.describe("a whole number", count))
            }
            Field::Bytes(_, bounds) => {
                bounds.describe("bytes, as a whole number or with B, KiB, MiB or GiB", size)
            }
            Field::Duration(_, bounds) => {
                bounds.describe("a whole number with ms, s, m, h or d behind it", duration)
            }
            Field::Rate(_) => "a number per second, such as \"100/s\", or \"unlimited\"".to_owned(),
            Field::ByteRate(_) => "bytes per second, such as \"256KiB/s\", or \"unlimited\"".to_owned(),
            Field::Burst(_) => U32_BOUNDS.describe("a whole number", count),
            Field::ByteBurst(_) => {
                "bytes, as a whole number or with B, KiB or MiB, from \"1B\" to below \"4GiB\"".to_owned()
            }
            Field::Origins(_) => "a list of origins, such as [\"https://chat.example\"]".to_owned(),
            Field::OnLag(_) => words_of::<OnLag>(),
            Field::Fsync(_) => words_of::<Fsync>(),
            Field::Directory(_) => "the path of a directory, or \"none\"".to_owned(),
            Field::LogFormat(_) => words_of::<LogFormat>(),
            Field::LogLevel(_) => words_of::<LogLevel>(),
        }
    }
}

/// An enum whose variants settings name by words.
trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Word for OnLag {
    const WORDS: &'static [(&'static str, OnLag)] = &[
        ("auto", OnLag::Auto),
        ("resync", OnLag::Resync),
        ("latest", OnLag::Latest),
        ("drop", OnLag::Drop),
        ("disconnect", OnLag::Disconnect),
    ];
}

impl Word for Fsync {
    const WORDS: &'static [(&'static str, Fsync)] = &[
        ("always", Fsync::Always),
        ("interval", Fsync::Interval),
        ("never", Fsync::Never),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] = &[
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, LogLevel)] = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
}

fn read_word<W: Word>(written: &Written) -> Result<W, BadValue> {
    let text = text_of(written)?;
    let known = W::WORDS.iter().find(|(word, _)| *word == text);
    known
        .map(|(_, value)| *value)
        .ok_or_else(|| BadValue::UnknownWord {
            nearest: super::suggest::nearest(text, W::WORDS.iter().map(|(word, _)| *word)),
        })
}

fn write_word<W: Word>(value: W) -> String {
    let known = W::WORDS.iter().find(|(_, candidate)| *candidate == value);
    quoted(known.map_or("", |(word, _)| word))
}

fn words_of<W: Word>() -> String {
    let words: Vec<String> = W::WORDS.iter().map(|(word, _)| quoted(word)).collect();
    match words.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn text_of(written: &Written) -> Result<&str, BadValue> {
    match written {
        Written::Plain(text) | Written::Text(text) => Ok(text.trim()),
        other => Err(other.wrong_type()),
    }
}

fn read_switch(written: &Written) -> Result<bool, BadValue> {
    match written {
        Written::Boolean(value) => Ok(*value),
        Written::Plain(text) => match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(BadValue::NotUnderstood),
        },
        Written::Text(text) if text == "true" || text == "false" => Err(BadValue::Quoted),
        Written::Text(_) => Err(BadValue::NotUnderstood),
        other => Err(other.wrong_type()),
    }
}

fn read_or_auto<V>(
    written: &Written,
    read: impl Fn(&Written) -> Result<V, BadValue>,
) -> Result<Auto<V>, BadValue> {
    match written {
        Written::Plain(text) | Written::Text(text) if text.trim() == "auto" => Ok(Auto::Auto),
        _ => read(written).map(Auto::Fixed),
    }
}

/// A count, or a size where `text_allowed`: in TOML a number is a number, but a number with a unit is a string.
fn read_size(
    written: &Written,
    bounds: &Bounds,
    read: fn(&str) -> Result<u64, BadValue>,
    text_allowed: bool,
) -> Result<usize, BadValue> {
    let number = match written {
        Written::Integer(number) => u64::try_from(*number).map_err(|_| BadValue::OutOfRange)?,
        _ => {
            let text = text_of(written)?;
            match bounds.word(text)? {
                Some(u64::MAX) => return Ok(UNLIMITED),
                Some(number) => return usize::try_from(number).map_err(|_| BadValue::OutOfRange),
                None => {}
            }
            let number = read(text)?;
            if matches!(written, Written::Text(_)) && !text_allowed {
                return Err(BadValue::Quoted);
            }
            number
        }
    };
    usize::try_from(bounds.check(number)?).map_err(|_| BadValue::OutOfRange)
}

fn write_size(number: usize, bounds: &Bounds, write: impl Fn(u64) -> String) -> String {
    match number {
        UNLIMITED => quoted("unlimited"),
        0 if bounds.none => quoted("none"),
        _ => write(number as u64),
    }
}

fn read_bounded_duration(written: &Written, bounds: &Bounds) -> Result<Duration, BadValue> {
    let text = match written {
        Written::Integer(0) => return Err(BadValue::Zero),
        Written::Integer(_) => return Err(BadValue::UnitMissing),
        _ => text_of(written)?,
    };
    match bounds.word(text)? {
        Some(u64::MAX) => return Ok(Duration::MAX),
        Some(number) => return Ok(Duration::from_millis(number)),
        None => {}
    }
    let duration = read_duration(text)?;
    let milliseconds = u64::try_from(duration.as_millis()).map_err(|_| BadValue::OutOfRange)?;
    bounds.check(milliseconds).map(Duration::from_millis)
}

fn read_bounded_rate(written: &Written, of_bytes: bool) -> Result<u32, BadValue> {
    let text = match written {
        Written::Integer(0) => return Err(BadValue::Zero),
        Written::Integer(_) => return Err(BadValue::UnitMissing),
        _ => text_of(written)?,
    };
    if RATE_BOUNDS.word(text)?.is_some() {
        return Ok(0);
    }
    let rate = RATE_BOUNDS.check(read_rate(text, of_bytes)?)?;
    u32::try_from(rate).map_err(|_| BadValue::OutOfRange)
}

fn read_address(text: &str) -> Result<SocketAddr, BadValue> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(BadValue::PortMissing);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match (host, port.parse::<u16>()) {
        // The one name whose address is known without asking anybody.
        ("localhost", Ok(port)) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        ("", Ok(port)) => Err(BadValue::HostMissing(port)),
        _ => Err(BadValue::NotAnAddress),
    }
}

fn read_origins(written: &Written) -> Result<Vec<Origin>, BadValue> {
    let items: Vec<&str> = match written {
        Written::List(items) => items.iter().map(String::as_str).collect(),
        Written::Plain(text) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect(),
        other => return Err(other.wrong_type()),
    };
    let origin = |item: &str| {
        Origin::parse(item).map_err(|reason| BadValue::NotAnOrigin {
            item: item.to_owned(),
            reason,
        })
    };
    items.into_iter().map(origin).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

impl Written {
    fn wrong_type(&self) -> BadValue {
        BadValue::WrongType(match self {
            Written::Plain(_) | Written::Text(_) => "a string",
            Written::Integer(_) => "a number",
            Written::Boolean(_) => "a boolean",
            Written::List(_) => "a list",
            Written::Other(kind) => kind,
        })
    }
}

/// What is wrong with a value. All of them are the operator's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadValue {
    /// A type that this setting never has.
    #[error("is {0}")]
    WrongType(&'static str),
    /// A number or a boolean in quotes.
    #[error("stands in quotes, so it is a string")]
    Quoted,
    /// 0, which some read as "nothing" and some as "no limit".
    #[error("is refused, because it could mean \"nothing\" as well as \"no limit\"")]
    Zero,
    /// Nothing, where a variable was not set perhaps.
    #[error("is empty")]
    Empty,
    /// Below or above what is allowed.
    #[error("is out of range")]
    OutOfRange,
    /// A number without its unit.
    #[error("has no unit")]
    UnitMissing,
    /// A number with a unit that is not known.
    #[error("has the unknown unit `{0}`")]
    UnitUnknown(String),
    /// A number with a fraction.
    #[error("is not a whole number")]
    NotWhole,
    /// `"unlimited"` for what is always limited.
    #[error("cannot be unlimited")]
    Unlimited,
    /// Not one of the known words.
    #[error("is not one of the known words")]
    UnknownWord {
        /// The one that may have been meant.
        nearest: Option<&'static str>,
    },
    /// Neither an address nor nearly one. Names are not looked up.
    #[error("is not an IP address and a port")]
    NotAnAddress,
    /// An address without a port.
    #[error("has no port")]
    PortMissing,
    /// A port without an address.
    #[error("has no address before the port")]
    HostMissing(u16),
    /// A list with something that is no origin.
    #[error("holds `{item}`, which {reason}")]
    NotAnOrigin {
        /// What it holds.
        item: String,
        /// Why that is no origin.
        reason: BadOrigin,
    },
    /// Nothing of the above.
    #[error("is not understood")]
    NotUnderstood,
}

impl BadValue {
    /// What to write instead, if that can be guessed from `written`.
    pub fn advice(&self, written: &Written) -> Option<String> {
        match (self, written) {
            (BadValue::Quoted, Written::Text(text)) => Some(format!("write {text} without quotes")),
            (BadValue::HostMissing(port), _) => Some(format!(
                "write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" for every network"
            )),
            (BadValue::UnitUnknown(unit), _) => {
                let meant = match unit.to_ascii_lowercase().as_str() {
                    "k" | "kb" | "kib" => "KiB (1024 bytes)",
                    "m" | "mb" | "mib" => "MiB (1024 KiB)",
                    "g" | "gb" | "gib" => "GiB (1024 MiB)",
                    "b" | "byte" | "bytes" => "B",
                    "sec" | "secs" | "second" | "seconds" => "s",
                    "min" | "mins" | "minute" | "minutes" => "m",
                    "hour" | "hours" => "h",
                    "day" | "days" => "d",
                    "msec" | "millis" | "milliseconds" => "ms",
                    "/m" | "/min" | "/h" => "/s: rates are per second",
                    _ => return None,
                };
                Some(format!("did you mean {meant}?"))
            }
            (BadValue::UnknownWord { nearest: Some(word) }, _) => Some(format!("did you mean \"{word}\"?")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Target {
        size: usize,
        duration: Duration,
        rate: u32,
    }

    fn target() -> Target {
        Target {
            size: 7,
            duration: Duration::from_secs(7),
            rate: 7,
        }
    }

    /// Reads TOML `text` and gives what is written back.
    fn check(field: Field<Target>, toml: &str, expected: Result<&str, BadValue>) {
        let mut target = target();
        let parsed = toml::de::DeValue::parse(toml).unwrap();
        let written = super::super::load::written(parsed.get_ref());
        let result = field
            .read(&mut target, &written)
            .map(|()| field.write(&mut target));
        assert_eq!(result, expected.map(str::to_owned), "{toml}");
    }

    #[test]
    fn sizes_are_numbers_or_have_units_or_are_unlimited() {
        let size = || Field::Bytes(|t: &mut Target| &mut t.size, Bounds::new(1, 1 << 20));
        check(size(), "65536", Ok("\"64KiB\""));
        check(size(), "\"64KiB\"", Ok("\"64KiB\""));
        check(size(), "\"65536\"", Ok("\"64KiB\""));
        check(size(), "0", Err(BadValue::Zero));
        check(size(), "\"0KiB\"", Err(BadValue::Zero));
        check(size(), "-1", Err(BadValue::OutOfRange));
        check(size(), "\"2MiB\"", Err(BadValue::OutOfRange));
        check(size(), "\"unlimited\"", Err(BadValue::Unlimited));
        check(size(), "true", Err(BadValue::WrongType("a boolean")));
        check(
            size(),
            "1.5",
            Err(BadValue::WrongType("a number with a fraction")),
        );
        check(size(), "99999999999999999999", Err(BadValue::OutOfRange));
    }

    #[test]
    fn counts_are_numbers() {
        let count = || {
            let bounds = Bounds::new(1, 100).or_unlimited().or_none();
            Field::Count(|t: &mut Target| &mut t.size, bounds)
        };
        check(count(), "12", Ok("12"));
        check(count(), "\"unlimited\"", Ok("\"unlimited\""));
        check(count(), "\"none\"", Ok("\"none\""));
        check(count(), "0", Err(BadValue::Zero));
        check(count(), "101", Err(BadValue::OutOfRange));
        check(count(), "\"12\"", Err(BadValue::Quoted));
        check(count(), "\"many\"", Err(BadValue::NotUnderstood));
    }

    #[test]
    fn durations_and_rates_have_units() {
        let duration = || Field::Duration(|t: &mut Target| &mut t.duration, Bounds::new(1, 60_000));
        check(duration(), "\"25s\"", Ok("\"25s\""));
        check(duration(), "25", Err(BadValue::UnitMissing));
        check(duration(), "0", Err(BadValue::Zero));
        check(duration(), "\"0s\"", Err(BadValue::Zero));
        check(duration(), "\"2m\"", Err(BadValue::OutOfRange));
        check(duration(), "\"unlimited\"", Err(BadValue::Unlimited));

        let rate = || Field::Rate(|t: &mut Target| &mut t.rate);
        check(rate(), "\"100/s\"", Ok("\"100/s\""));
        check(rate(), "\"unlimited\"", Ok("\"unlimited\""));
        check(rate(), "\"0/s\"", Err(BadValue::Zero));
        check(rate(), "0", Err(BadValue::Zero));
        check(rate(), "100", Err(BadValue::UnitMissing));
        check(rate(), "\"9999999999/s\"", Err(BadValue::OutOfRange));
    }

    #[test]
    fn addresses_are_never_looked_up() {
        let check = |text: &str, expected: Result<&str, BadValue>| {
            let address = read_address(text).map(|address| address.to_string());
            assert_eq!(address, expected.map(str::to_owned), "{text}");
        };
        check("127.0.0.1:8000", Ok("127.0.0.1:8000"));
        check("[::1]:8000", Ok("[::1]:8000"));
        check("localhost:8000", Ok("127.0.0.1:8000"));
        check("127.0.0.1:0", Ok("127.0.0.1:0"));
        check("127.0.0.1", Err(BadValue::PortMissing));
        check("::1", Err(BadValue::PortMissing));
        check("8000", Err(BadValue::HostMissing(8000)));
        check(":8000", Err(BadValue::HostMissing(8000)));
        check("chat.example:8000", Err(BadValue::NotAnAddress));
        check("127.0.0.1:70000", Err(BadValue::NotAnAddress));
        check("", Err(BadValue::NotAnAddress));
    }
}

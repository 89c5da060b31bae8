//! Numbers with their units: `"25s"`, `"64KiB"`, `"100/s"`. A number without its unit is refused, because whoever reads
//! it guesses one.

use std::time::Duration;

use super::field::BadValue;

const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZES: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a whole number; `_` may separate digits.
pub(super) fn read_count(text: &str) -> Result<u64, BadValue> {
    if !text.starts_with(|c: char| c.is_ascii_digit())
        || !text.bytes().all(|c| c.is_ascii_digit() || c == b'_')
    {
        return Err(BadValue::NotUnderstood);
    }
    text.replace('_', "").parse().map_err(|_| BadValue::OutOfRange)
}

/// Reads a duration, in whole milliseconds at the finest.
pub(super) fn read_duration(text: &str) -> Result<Duration, BadValue> {
    read_with_unit(text, DURATIONS, None).map(Duration::from_millis)
}

/// Reads a number of bytes. Without a unit they are bytes, which is what the names of these settings say.
pub(super) fn read_bytes(text: &str) -> Result<u64, BadValue> {
    read_with_unit(text, SIZES, Some(1))
}

/// Reads a rate: a count or a size, `/s` behind it.
pub(super) fn read_rate(text: &str, of_bytes: bool) -> Result<u64, BadValue> {
    let Some((amount, per)) = text.split_once('/') else {
        return Err(BadValue::UnitMissing);
    };
    if per.trim() != "s" {
        return Err(BadValue::UnitUnknown(format!("/{}", per.trim())));
    }
    match of_bytes {
        true => read_bytes(amount.trim()),
        false => read_count(amount.trim()),
    }
}

fn read_with_unit(text: &str, units: &[(&str, u64)], without: Option<u64>) -> Result<u64, BadValue> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = read_count(number)?;
    let unit = unit.trim_start();
    let factor = match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => without.ok_or(BadValue::UnitMissing)?,
        None if unit.starts_with(['.', ',']) => return Err(BadValue::NotWhole),
        None => return Err(BadValue::UnitUnknown(unit.to_owned())),
    };
    number.checked_mul(factor).ok_or(BadValue::OutOfRange)
}

/// Writes a duration in its largest whole unit.
pub(super) fn write_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    write_with_unit(milliseconds, DURATIONS)
}

/// Writes a number of bytes in its largest whole unit.
pub(super) fn write_bytes(bytes: u64) -> String {
    write_with_unit(bytes, SIZES)
}

fn write_with_unit(number: u64, units: &[(&str, u64)]) -> String {
    let largest = units
        .iter()
        .rev()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    // 0 is the only number without a largest unit; the first one does.
    let (unit, factor) = largest.copied().unwrap_or(units[0]);
    format!("{}{unit}", number / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Result<u64, BadValue>| {
            assert_eq!(read_duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("25s", Ok(25_000));
        check("500ms", Ok(500));
        check("5 m", Ok(300_000));
        check("1d", Ok(86_400_000));
        check("25", Err(BadValue::UnitMissing));
        check("25sec", Err(BadValue::UnitUnknown("sec".to_owned())));
        check("1.5s", Err(BadValue::NotWhole));
        check("-1s", Err(BadValue::NotUnderstood));
        check("s", Err(BadValue::NotUnderstood));
        check("", Err(BadValue::NotUnderstood));
        check("99999999999999999999s", Err(BadValue::OutOfRange));
        check("9999999999999999d", Err(BadValue::OutOfRange));
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(read_bytes("64KiB"), Ok(65_536));
        assert_eq!(read_bytes("65_536"), Ok(65_536));
        assert_eq!(read_bytes("64KB"), Err(BadValue::UnitUnknown("KB".to_owned())));
        assert_eq!(read_rate("100/s", false), Ok(100));
        assert_eq!(read_rate("256KiB/s", true), Ok(262_144));
        assert_eq!(read_rate("100", false), Err(BadValue::UnitMissing));
        assert_eq!(
            read_rate("100/m", false),
            Err(BadValue::UnitUnknown("/m".to_owned()))
        );
        assert_eq!(read_rate("1KiB/s", false), Err(BadValue::NotUnderstood));
    }

    #[test]
    fn what_is_written_is_the_largest_whole_unit() {
        assert_eq!(write_duration(Duration::from_secs(300)), "5m");
        assert_eq!(write_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(write_bytes(65_536), "64KiB");
        assert_eq!(write_bytes(1_000), "1000B");
        assert_eq!(write_bytes(0), "0B");
    }
}

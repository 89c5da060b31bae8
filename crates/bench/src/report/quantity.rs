//! How quantities are written for people: three digits, a unit that fits, commas between thousands.

use std::fmt;

use super::Unit;

/// A quantity in writing: `5.21 µs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Quantity {
    digits: String,
    /// With the space before it, if there is to be one.
    unit: &'static str,
}

impl Quantity {
    /// Puts `value`, which is in `unit`, into the largest unit in which it is at least 1.
    pub(crate) fn of(value: f64, unit: Unit) -> Self {
        let (step, units): (f64, &[&'static str]) = match unit {
            Unit::Nanoseconds => (1_000.0, &[" ns", " µs", " ms", " s"]),
            Unit::Bytes => (1_024.0, &[" B", " KiB", " MiB", " GiB", " TiB"]),
            Unit::PerSecond => (1.0, &["/s"]),
            Unit::PercentOfCore => (1.0, &[" %"]),
            Unit::Count => {
                let digits = if value.fract() == 0.0 {
                    commas(&format!("{value:.0}"))
                } else {
                    three_digits(value)
                };
                return Self { digits, unit: "" };
            }
        };
        let (mut value, mut index) = (value, 0);
        // Half below the step: 999.7 ns are written as 1.00 µs, not as 1,000 ns.
        while value.abs() >= step - 0.5 && index + 1 < units.len() {
            value /= step;
            index += 1;
        }
        Self {
            digits: three_digits(value),
            unit: units[index],
        }
    }

    /// `2.31–2.41 µs`, `780 ns–1.20 µs`.
    pub(crate) fn range(from: f64, to: f64, unit: Unit) -> String {
        let (from, to) = (Self::of(from, unit), Self::of(to, unit));
        if from.unit == to.unit {
            format!("{}–{to}", from.digits)
        } else {
            format!("{from}–{to}")
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.digits, self.unit)
    }
}

/// `1.11 ×`. Two decimals, also where they are 0: ratios stand below each other. Fewer from 10 on, more below 0.1.
pub(crate) fn ratio(ratio: f64) -> String {
    let decimals = match ratio.abs() {
        from_100 if from_100 >= 99.95 => 0,
        from_10 if from_10 >= 9.995 => 1,
        from_a_tenth if from_a_tenth >= 0.0995 || from_a_tenth == 0.0 => 2,
        _ => 3,
    };
    format!("{} ×", commas(&format!("{ratio:.decimals$}")))
}

/// Three significant digits, also where the last are 0: quantities stand below each other. From 0.1 down two, and no more than
/// four decimals.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        let unit = 10_f64.powf(magnitude.log10().floor() - 2.0);
        return commas(&format!("{:.0}", (value / unit).round() * unit));
    }
    // The bounds are where rounding gives one digit more: 9.996 is written as 10.0.
    let decimals = match magnitude {
        from_100 if from_100 >= 99.95 => 0,
        from_10 if from_10 >= 9.995 => 1,
        from_a_tenth if from_a_tenth >= 0.0995 => 2,
        from_a_hundredth if from_a_hundredth >= 0.00995 => 3,
        seen if seen >= 0.000_05 => 4,
        // Whatever rounds to nothing has no decimals and no sign.
        _ => return "0".to_owned(),
    };
    commas(&format!("{value:.decimals$}"))
}

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    commas(&number.to_string())
}

/// `1 message`, `1,234 messages`.
pub(crate) fn counted(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{} {}", grouped(number), plural(what)),
    }
}

/// `messages`, `deliveries`, `echoes`: of the nouns that are counted here.
pub(crate) fn plural(what: &str) -> String {
    match (what.strip_suffix('y'), what.ends_with('o')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{what}es"),
        (None, false) => format!("{what}s"),
    }
}

/// `1 message was`, `1,234 messages were`.
pub(crate) fn were(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    let were = if number == 1 { "was" } else { "were" };
    format!("{} {were}", counted(number, what))
}

/// `-1234567.5` → `-1,234,567.5`.
pub(crate) fn commas(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let whole = number.find('.').unwrap_or(number.len());
    let mut written = sign.to_owned();
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && index < whole && (whole - index) % 3 == 0 {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, unit: Unit, expected: &str) {
        assert_eq!(
            Quantity::of(value, unit).to_string(),
            expected,
            "{value} {unit:?}"
        );
    }

    #[test]
    fn a_quantity_has_three_digits_and_a_unit_that_fits() {
        check(5_214.0, Unit::Nanoseconds, "5.21 µs");
        check(780.2, Unit::Nanoseconds, "780 ns");
        check(1_200_000.0, Unit::Nanoseconds, "1.20 ms");
        check(17_000_000_000.0, Unit::Nanoseconds, "17.0 s");
        check(2_345_000_000_000.0, Unit::Nanoseconds, "2,350 s");
        check(0.42, Unit::Nanoseconds, "0.42 ns");
        check(0.0, Unit::Nanoseconds, "0 ns");
        check(9_996.0, Unit::Nanoseconds, "10.0 µs");
        check(980.0, Unit::Bytes, "980 B");
        check(2_365.0, Unit::Bytes, "2.31 KiB");
        check(1_258_291.0, Unit::Bytes, "1.20 MiB");
        check(190_960.0, Unit::PerSecond, "191,000/s");
        check(1_234_567.0, Unit::PerSecond, "1,230,000/s");
        check(0.42, Unit::PercentOfCore, "0.42 %");
        check(0.0123, Unit::PercentOfCore, "0.012 %");
        check(187.0, Unit::PercentOfCore, "187 %");
        check(19_001.0, Unit::Count, "19,001");
        check(2.5, Unit::Count, "2.50");
    }

    #[test]
    fn what_rounds_up_to_the_next_unit_is_written_in_it() {
        check(999.4, Unit::Nanoseconds, "999 ns");
        check(999.7, Unit::Nanoseconds, "1.00 µs");
        check(1_023.4, Unit::Bytes, "1,020 B");
        check(1_023.9, Unit::Bytes, "1.00 KiB");
    }

    /// Memory per connection is a difference; it can come out below nothing.
    #[test]
    fn negative_quantities_keep_their_sign() {
        check(-2_365.0, Unit::Bytes, "-2.31 KiB");
        check(-123_456.0, Unit::Count, "-123,456");
        check(-0.000_01, Unit::PercentOfCore, "0 %");
    }

    #[test]
    fn nothing_that_a_float_can_be_panics() {
        for unit in [
            Unit::Nanoseconds,
            Unit::Bytes,
            Unit::PerSecond,
            Unit::PercentOfCore,
            Unit::Count,
        ] {
            for value in [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE,
                f64::MAX,
                f64::MIN,
            ] {
                let _ = Quantity::of(value, unit).to_string();
                let _ = ratio(value);
            }
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1_u32, "message"), "1 message");
        assert_eq!(counted(0_u32, "message"), "0 messages");
        assert_eq!(counted(1_234_u32, "message"), "1,234 messages");
        assert_eq!(counted(2_u32, "delivery"), "2 deliveries");
        assert_eq!(counted(2_u32, "echo"), "2 echoes");
        assert_eq!(were(1_u32, "message"), "1 message was");
        assert_eq!(were(2_u32, "message"), "2 messages were");
    }

    #[test]
    fn a_range_says_a_shared_unit_once() {
        assert_eq!(
            Quantity::range(2_310.0, 2_410.0, Unit::Nanoseconds),
            "2.31–2.41 µs"
        );
        assert_eq!(
            Quantity::range(780.0, 1_200.0, Unit::Nanoseconds),
            "780 ns–1.20 µs"
        );
        assert_eq!(Quantity::range(0.4, 0.45, Unit::PercentOfCore), "0.40–0.45 %");
    }

    #[test]
    fn ratios_have_two_decimals_where_they_are_compared() {
        let check = |value, expected| assert_eq!(ratio(value), expected);
        check(1.111, "1.11 ×");
        check(1.0, "1.00 ×");
        check(0.15, "0.15 ×");
        check(0.0149, "0.015 ×");
        check(0.0, "0.00 ×");
        check(9.999, "10.0 ×");
        check(12.34, "12.3 ×");
        check(1_234.5, "1,234 ×");
    }
}

//! What is written to a person's terminal.

use std::borrow::Cow;

/// Text of somebody else, made harmless for a terminal: what could move the cursor, change colours or turn the direction
/// of the text is written as an escape.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_harmful(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// C0 and C1 controls (U+009B alone begins an escape sequence), and what changes the direction of text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The time of day of a moment, in UTC: `12:04:05.123`.
pub(super) fn time_of_day(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1_000, unix_ms % 1_000);
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hours, minute) = (minutes / 60, minutes % 60);
    format!("{:02}:{minute:02}:{second:02}.{ms:03}", hours % 24)
}

/// Groups of three digits: `18,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `word` or its plural.
pub(super) fn plural(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_text_cannot_steer_the_terminal() {
        assert_eq!(harmless("räume 😀"), "räume 😀");
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(harmless("\u{9b}31m\r\n\u{202E}x"), "\\u{9b}31m\\r\\n\\u{202e}x");
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(18_000), "18,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(plural(1, "shard"), "1 shard");
        assert_eq!(plural(2, "shard"), "2 shards");
        assert_eq!(time_of_day(1_732_170_000_123), "06:20:00.123");
        assert_eq!(time_of_day(u64::MAX).len(), 12);
    }
}

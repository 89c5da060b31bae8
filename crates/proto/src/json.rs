//! A check of JSON text that costs one pass and no memory: syntax (RFC 8259), depth, keys per object, whole surrogate
//! pairs. Payloads pass through the server as they are written, so this is where the server makes sure that whatever it
//! hands on can be read by every client.

use crate::limits::{JSON_DEPTH_MAX, JSON_KEYS_MAX};
use crate::payload::BadPayload;

/// Checks that `text` is exactly one JSON value within the limits of a whole command. `text` must be UTF-8; only its structure
/// is looked at.
pub fn check(text: &[u8]) -> Result<(), BadPayload> {
    scan(text, JSON_DEPTH_MAX)
}

/// The same for a payload by itself, which is one level less deep: inside a command it stands in an object.
pub fn check_payload(text: &[u8]) -> Result<(), BadPayload> {
    scan(text, JSON_DEPTH_MAX - 1)
}

fn scan(text: &[u8], depth_max: usize) -> Result<(), BadPayload> {
    let mut scan = Scan {
        depth_max,
        text,
        at: 0,
        open: [Open::Array; JSON_DEPTH_MAX],
        depth: 0,
    };
    scan.blanks();
    loop {
        let opened = scan.value()?;
        if !opened && !scan.after_value()? {
            scan.blanks();
            return if scan.at == text.len() {
                Ok(())
            } else {
                Err(BadPayload::Json)
            };
        }
    }
}

/// How many bytes from the beginning on stand in a JSON string as they are: no quote, no backslash, no control character.
pub(crate) fn plain_bytes(text: &[u8]) -> usize {
    let is_control = |byte: &u8| *byte < 0x20;
    let end = memchr::memchr2(b'"', b'\\', text).unwrap_or(text.len());
    let run = &text[..end];
    // Without a way out of the loop, so that the compiler makes vector instructions of it.
    match run.iter().fold(false, |any, byte| any | is_control(byte)) {
        true => run.iter().position(is_control).unwrap_or(end),
        false => end,
    }
}

#[derive(Clone, Copy)]
enum Open {
    Array,
    Object { keys: usize },
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    open: [Open; JSON_DEPTH_MAX],
    depth: usize,
    depth_max: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadPayload> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(BadPayload::Json)
        }
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// One value; `true` if it opened a structure whose first value comes next.
    fn value(&mut self) -> Result<bool, BadPayload> {
        self.blanks();
        match self.peek().ok_or(BadPayload::Json)? {
            b'{' => self.open(Open::Object { keys: 0 }),
            b'[' => self.open(Open::Array),
            b'"' => self.string().map(|()| false),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn open(&mut self, kind: Open) -> Result<bool, BadPayload> {
        if self.depth == self.depth_max {
            return Err(BadPayload::TooComplex);
        }
        self.at += 1;
        self.open[self.depth] = kind;
        self.depth += 1;
        self.blanks();
        let close = if matches!(kind, Open::Array) { b']' } else { b'}' };
        if self.take(close) {
            self.depth -= 1;
            return Ok(false);
        }
        if matches!(kind, Open::Object { .. }) {
            self.key()?;
        }
        Ok(true)
    }

    /// What follows a finished value: closes what ends here; `true` if another value comes next.
    fn after_value(&mut self) -> Result<bool, BadPayload> {
        while self.depth > 0 {
            self.blanks();
            let inside = self.open[self.depth - 1];
            if self.take(b',') {
                if matches!(inside, Open::Object { .. }) {
                    self.blanks();
                    self.key()?;
                }
                return Ok(true);
            }
            self.expect(if matches!(inside, Open::Array) { b']' } else { b'}' })?;
            self.depth -= 1;
        }
        Ok(false)
    }

    fn key(&mut self) -> Result<(), BadPayload> {
        if let Open::Object { keys } = &mut self.open[self.depth - 1] {
            *keys += 1;
            if *keys > JSON_KEYS_MAX {
                return Err(BadPayload::TooComplex);
            }
        }
        self.string()?;
        self.blanks();
        self.expect(b':')
    }

    fn string(&mut self) -> Result<(), BadPayload> {
        self.expect(b'"')?;
        loop {
            self.at += plain_bytes(&self.text[self.at..]);
            let byte = self.peek().ok_or(BadPayload::Json)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                _ => return Err(BadPayload::Json),
            }
        }
    }

    fn escape(&mut self) -> Result<(), BadPayload> {
        let byte = self.peek().ok_or(BadPayload::Json)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                0xD800..0xDC00 if self.take(b'\\') && self.take(b'u') => match self.hex4()? {
                    0xDC00..0xE000 => Ok(()),
                    _ => Err(BadPayload::LoneSurrogate),
                },
                0xD800..0xE000 => Err(BadPayload::LoneSurrogate),
                _ => Ok(()),
            },
            _ => Err(BadPayload::Json),
        }
    }

    fn hex4(&mut self) -> Result<u32, BadPayload> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(BadPayload::Json)?;
        self.at += 4;
        digits.iter().try_fold(0, |number, digit| {
            let value = (*digit as char).to_digit(16).ok_or(BadPayload::Json)?;
            Ok(number << 4 | value)
        })
    }

    fn word(&mut self, word: &[u8]) -> Result<bool, BadPayload> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(false);
        }
        Err(BadPayload::Json)
    }

    fn digits(&mut self) -> Result<(), BadPayload> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(BadPayload::Json)
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<bool, BadPayload> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        self.magnitude(start)
    }

    /// RFC 8259 section 6: software generally holds numbers as IEEE 754 doubles; what overflows one, most parsers refuse.
    fn magnitude(&self, start: usize) -> Result<bool, BadPayload> {
        /// The shortest number that can overflow: `1e309`.
        const OVERFLOWING_BYTES_MIN: usize = 5;
        let digits = &self.text[start..self.at];
        let suspicious = digits.len() > 300 || digits.iter().any(|byte| matches!(byte, b'e' | b'E'));
        if digits.len() >= OVERFLOWING_BYTES_MIN && suspicious {
            let number = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<f64>().ok());
            if !number.is_some_and(f64::is_finite) {
                return Err(BadPayload::NumberTooLarge);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_and_keys_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(
            check(nested(JSON_DEPTH_MAX + 1).as_bytes()),
            Err(BadPayload::TooComplex)
        );
        assert_eq!(
            check("[".repeat(1_000_000).as_bytes()),
            Err(BadPayload::TooComplex)
        );
        let keys = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|key| format!("\"{key}\":0")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        assert_eq!(check(keys(JSON_KEYS_MAX).as_bytes()), Ok(()));
        assert_eq!(
            check(keys(JSON_KEYS_MAX + 1).as_bytes()),
            Err(BadPayload::TooComplex)
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_wherever_it_stands() {
        assert_eq!(check(br#"{"a":["\ud83d\ude00"]}"#), Ok(()));
        for text in [
            r#"["\ud83d"]"#,
            r#"{"\ude00":1}"#,
            r#""\ud83dA""#,
            r#""\ud83d\n""#,
        ] {
            assert_eq!(check(text.as_bytes()), Err(BadPayload::LoneSurrogate), "{text}");
        }
        // An escape that breaks off is a syntax error before it is half a pair.
        assert_eq!(check(br#""\ud83d\u12"#), Err(BadPayload::Json));
    }

    #[test]
    fn a_number_beyond_a_double_is_refused() {
        assert_eq!(
            check(b"[1.7976931348623157e308, 1e-999, 12345678901234567890123]"),
            Ok(())
        );
        assert_eq!(check(b"1e309"), Err(BadPayload::NumberTooLarge));
        assert_eq!(check("9".repeat(400).as_bytes()), Err(BadPayload::NumberTooLarge));
    }

    /// Accepts exactly what serde_json accepts, but for the limits and the surrogates.
    fn agrees_with_serde_json(text: &str) {
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
        match check(text.as_bytes()) {
            Ok(()) => assert!(theirs, "{text}"),
            Err(BadPayload::Json) => assert!(!theirs, "{text}"),
            Err(_) => {}
        }
    }

    #[test]
    fn syntax() {
        for text in [
            "",
            " ",
            "1",
            "-",
            "-0",
            "01",
            "1.",
            "1.5e+3",
            "1e",
            ".5",
            "nul",
            "nulll",
            "true false",
            "[1,]",
            "[,1]",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1}",
            "{\"a\":1]",
            "\"\t\"",
            "\"\\x\"",
            "\"\\u12G4\"",
            "[[],{}]",
            "\"",
            "[",
            "{",
            "]",
            "1 ",
            " [ 1 , { \"a\" : [ ] } ] ",
            "\u{FEFF}1",
            "NaN",
            "Infinity",
            "'a'",
            "[1]x",
        ] {
            agrees_with_serde_json(text);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_json_like_text(text in r#"[\[\]{}:,"\\ntrue0-9.eE+ua\-]{0,40}"#) {
            agrees_with_serde_json(&text);
        }

        #[test]
        fn any_bytes_end_in_a_verdict(bytes: Vec<u8>) {
            let _verdict = check(&bytes);
        }
    }
}

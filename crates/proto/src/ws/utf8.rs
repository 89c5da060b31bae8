//! UTF-8 validation of a text that arrives in pieces.

use simdutf8::{basic, compat};

/// Validates a text piece by piece, in any pieces, and fails at the first byte that no valid text can have there.
///
/// Between two pieces it remembers the beginning of an unfinished character, at most three bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Utf8Progress {
    carry: [u8; 3],
    carried: u8,
}

/// The text is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUtf8;

impl Utf8Progress {
    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let piece = self.complete_carried(piece)?;
        match compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            // A length means that the bytes there are wrong whatever follows; none, that the piece ends too early.
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Err(error) => {
                self.keep(&piece[error.valid_up_to()..]);
                Ok(())
            }
        }
    }

    /// Ends the text: an error if its last character is unfinished.
    pub fn finish(self) -> Result<(), NotUtf8> {
        if self.carried == 0 { Ok(()) } else { Err(NotUtf8) }
    }

    /// Spends the front of `piece` on the unfinished character; what it returns starts at a character, or is empty.
    fn complete_carried<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        while self.carried > 0 {
            let [next, rest @ ..] = piece else { break };
            let held = usize::from(self.carried);
            let mut character = [0; 4];
            character[..held].copy_from_slice(&self.carry[..held]);
            character[held] = *next;
            piece = rest;
            match std::str::from_utf8(&character[..=held]) {
                Ok(_) => self.carried = 0,
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => self.keep(&character[..=held]),
            }
        }
        Ok(piece)
    }

    /// Remembers the beginning of a character. A valid beginning has at most three bytes: four are a whole one.
    fn keep(&mut self, beginning: &[u8]) {
        self.carry[..beginning.len()].copy_from_slice(beginning);
        self.carried = beginning.len() as u8;
    }
}

/// The content of a text message, which is valid UTF-8.
///
/// Who only wants the bytes of a text does not pay for a look at all of them: most texts are ASCII, and were seen to be when
/// they were unmasked.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(Known<'a>);

#[derive(Debug, Clone, Copy)]
enum Known<'a> {
    Ascii(&'a [u8]),
    Utf8(&'a str),
}

impl<'a> Text<'a> {
    /// `bytes` as a text. Without a look at them if they are known to be ASCII.
    pub(super) fn judge(bytes: &'a [u8], is_ascii: bool) -> Result<Self, NotUtf8> {
        if is_ascii {
            return Ok(Self(Known::Ascii(bytes)));
        }
        match basic::from_utf8(bytes) {
            Ok(text) => Ok(Self(Known::Utf8(text))),
            Err(_) => Err(NotUtf8),
        }
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        match self.0 {
            Known::Ascii(bytes) => bytes,
            Known::Utf8(text) => text.as_bytes(),
        }
    }

    /// The string.
    pub fn as_str(self) -> &'a str {
        match self.0 {
            // ASCII is always UTF-8.
            Known::Ascii(bytes) => basic::from_utf8(bytes).unwrap_or_default(),
            Known::Utf8(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Number of bytes that a byte-by-byte reader accepts before it fails, or `None` if it never does.
    fn fails_at(text: &[u8]) -> Option<usize> {
        let mut progress = Utf8Progress::default();
        text.iter()
            .position(|byte| progress.feed(std::slice::from_ref(byte)).is_err())
    }

    #[test]
    fn fails_at_the_first_bad_byte() {
        let cases: [(&[u8], Option<usize>); 12] = [
            ("κόσμε".as_bytes(), None),
            (
                b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
                Some(12),
            ), // above U+10FFFF
            (b"\xed\xa0\x80", Some(1)),     // a surrogate
            (b"\xe0\x80\x80", Some(1)),     // overlong
            (b"\xf0\x80\x80\x80", Some(1)), // overlong
            (b"\xc0", Some(0)),
            (b"\xc1", Some(0)),
            (b"\xf5", Some(0)),
            (b"\x80", Some(0)),
            (b"ab\xff", Some(2)),
            (b"\xf4\x8f\xbf\xbf", None), // U+10FFFF
            (b"\xe2\x82x", Some(2)),
        ];
        for (text, at) in cases {
            assert_eq!(fails_at(text), at, "{text:x?}");
        }
    }

    #[test]
    fn an_unfinished_character_is_an_error_only_at_the_end() {
        for beginning in ["é", "€", "🦀"] {
            let mut progress = Utf8Progress::default();
            assert_eq!(
                progress.feed(&beginning.as_bytes()[..beginning.len() - 1]),
                Ok(())
            );
            assert_eq!(progress.finish(), Err(NotUtf8));
            assert_eq!(
                progress.feed(&beginning.as_bytes()[beginning.len() - 1..]),
                Ok(())
            );
            assert_eq!(progress.finish(), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(
            text in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..40),
                (any::<String>(), any::<u8>(), any::<String>())
                    .prop_map(|(a, byte, b)| [a.as_bytes(), &[byte], b.as_bytes()].concat()),
            ],
            piece_bytes in 1..9_usize,
        ) {
            let mut progress = Utf8Progress::default();
            let verdict = text
                .chunks(piece_bytes)
                .try_for_each(|piece| progress.feed(piece))
                .and_then(|()| progress.finish());
            prop_assert_eq!(verdict.is_ok(), std::str::from_utf8(&text).is_ok());
        }
    }
}

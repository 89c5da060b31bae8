//! The grammar of `Sec-WebSocket-Extensions`: elements, their names and parameters (RFC 6455, section 9.1). What they mean is
//! not known here.

use super::ExtensionError;

/// Whether `bytes` is a token of HTTP ([RFC 9110, section
/// 5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
pub(in crate::ws) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// The elements of one header value: what stands between commas that are not inside a quoted string, without
/// the space around. Empty ones are left out, as HTTP lists allow. A string whose quote never closes reaches
/// to the end.
pub(super) fn elements(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = move |byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    };
    header
        .split(is_separator)
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// One parameter of an element, its value without quotes and escapes.
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<Vec<u8>>,
}

/// Reads one element from left to right.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The next `; name` or `; name=value`, or None at the end.
    ///
    /// "extension-param = token [ "=" (token | quoted-string) ]" (RFC 6455, 9.1)
    pub(super) fn parameter(&mut self) -> Result<Option<Parameter<'a>>, ExtensionError> {
        if self.rest.trim_ascii_start().is_empty() {
            return Ok(None);
        }
        if !self.separator(b';') {
            return Err(ExtensionError::Malformed);
        }
        let name = self.token().ok_or(ExtensionError::Malformed)?;
        if !self.separator(b'=') {
            return Ok(Some(Parameter { name, value: None }));
        }
        let value = match self.rest {
            [b'"', ..] => self.quoted(),
            _ => self.token().map(|token| token.as_bytes().to_vec()),
        };
        let value = Some(value.ok_or(ExtensionError::Malformed)?);
        Ok(Some(Parameter { name, value }))
    }

    /// Steps over `separator` and the space around it, if it comes next.
    fn separator(&mut self, separator: u8) -> bool {
        match self.rest.trim_ascii_start() {
            [first, rest @ ..] if *first == separator => {
                self.rest = rest.trim_ascii_start();
                true
            }
            _ => false,
        }
    }

    pub(super) fn token(&mut self) -> Option<&'a str> {
        let len = self.rest.iter().take_while(|byte| is_token_byte(byte)).count();
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        std::str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// A quoted string without quotes and escapes.
    ///
    /// "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to
    /// the 'token' ABNF." (RFC 6455, 9.1)
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut bytes = self.rest.strip_prefix(b"\"")?.iter();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => value.push(*bytes.next()?),
                byte => value.push(*byte),
            }
        }
        self.rest = bytes.as_slice();
        is_token(&value).then_some(value)
    }
}

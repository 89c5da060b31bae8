//! The parameters of one permessage-deflate element, read and written (RFC 7692, section 7.1). What is made of them is
//! not known here.

use std::fmt::Write;

use super::ExtensionError;
use super::header::Cursor;

pub(super) const PERMESSAGE_DEFLATE: &str = "permessage-deflate";
pub(super) const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
pub(super) const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
pub(super) const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
pub(super) const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The parameters of one permessage-deflate element, as they stand in a header. The outer `Option` of the
/// window sizes is whether the parameter is there, the inner whether it has a value.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    pub(super) server_max_window_bits: Option<Option<u8>>,
    pub(super) client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// None if the element is another extension, well-formed or not.
    pub(super) fn parse(element: &[u8]) -> Result<Option<Parameters>, ExtensionError> {
        let mut cursor = Cursor { rest: element };
        if cursor.token().ok_or(ExtensionError::Malformed)? != PERMESSAGE_DEFLATE {
            return Ok(None);
        }
        let mut parameters = Parameters::default();
        while let Some(parameter) = cursor.parameter()? {
            parameters.set(parameter.name, parameter.value.as_deref())?;
        }
        Ok(Some(parameters))
    }

    fn set(&mut self, name: &str, value: Option<&[u8]>) -> Result<(), ExtensionError> {
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => set_flag(
                &mut self.server_no_context_takeover,
                SERVER_NO_CONTEXT_TAKEOVER,
                value,
            ),
            CLIENT_NO_CONTEXT_TAKEOVER => set_flag(
                &mut self.client_no_context_takeover,
                CLIENT_NO_CONTEXT_TAKEOVER,
                value,
            ),
            SERVER_MAX_WINDOW_BITS => {
                set_bits(&mut self.server_max_window_bits, SERVER_MAX_WINDOW_BITS, value)
            }
            CLIENT_MAX_WINDOW_BITS => {
                set_bits(&mut self.client_max_window_bits, CLIENT_MAX_WINDOW_BITS, value)
            }
            _ => Err(ExtensionError::UnknownParameter {
                name: name.to_owned(),
            }),
        }
    }

    pub(super) fn header_value(&self) -> String {
        let mut text = PERMESSAGE_DEFLATE.to_owned();
        let flags = [
            (SERVER_NO_CONTEXT_TAKEOVER, self.server_no_context_takeover),
            (CLIENT_NO_CONTEXT_TAKEOVER, self.client_no_context_takeover),
        ];
        for (name, _) in flags.into_iter().filter(|flag| flag.1) {
            text.push_str("; ");
            text.push_str(name);
        }
        let sizes = [
            (SERVER_MAX_WINDOW_BITS, self.server_max_window_bits),
            (CLIENT_MAX_WINDOW_BITS, self.client_max_window_bits),
        ];
        for (name, bits) in sizes {
            let written = match bits {
                Some(Some(bits)) => write!(text, "; {name}={bits}"),
                Some(None) => write!(text, "; {name}"),
                None => Ok(()),
            };
            written.expect("a String takes all that is written to it");
        }
        text
    }
}

fn set_flag(flag: &mut bool, name: &'static str, value: Option<&[u8]>) -> Result<(), ExtensionError> {
    if value.is_some() {
        return Err(ExtensionError::InvalidValue { name });
    }
    if std::mem::replace(flag, true) {
        return Err(ExtensionError::RepeatedParameter { name });
    }
    Ok(())
}

fn set_bits(
    bits: &mut Option<Option<u8>>,
    name: &'static str,
    value: Option<&[u8]>,
) -> Result<(), ExtensionError> {
    // "a decimal integer value without leading zeroes between 8 to 15, inclusive" (RFC 7692, 7.1.2)
    let number = match value {
        None => None,
        Some([digit @ b'8'..=b'9']) => Some(digit - b'0'),
        Some([b'1', digit @ b'0'..=b'5']) => Some(10 + digit - b'0'),
        Some(_) => return Err(ExtensionError::InvalidValue { name }),
    };
    match bits.replace(number) {
        None => Ok(()),
        Some(_) => Err(ExtensionError::RepeatedParameter { name }),
    }
}

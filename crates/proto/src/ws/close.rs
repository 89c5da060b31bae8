//! The Close frame: its code, its reason, and which codes may travel.

use std::fmt;
use std::num::NonZeroU16;

use super::error::PeerMisbehaved;

/// Longest reason of a Close frame, in bytes: a control frame holds 125, two of them are the code.
pub const REASON_BYTES_MAX: usize = super::frame::CONTROL_BYTES_MAX - 2;

/// A close code that may be sent in a Close frame ([RFC 6455 section
/// 7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)); others cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(NonZeroU16);

/// The codes of the IANA registry that may be sent.
impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self::registered(1000);
    /// 1001: a server going down, or a page being left.
    pub const GOING_AWAY: Self = Self::registered(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self::registered(1002);
    /// 1003: a kind of message that is not accepted here.
    pub const UNSUPPORTED_DATA: Self = Self::registered(1003);
    /// 1007: the bytes of a message do not fit its kind, such as a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self::registered(1007);
    /// 1008: a rule of ours was broken and no other code fits.
    pub const POLICY_VIOLATION: Self = Self::registered(1008);
    /// 1009: a message too large to be handled.
    pub const MESSAGE_TOO_BIG: Self = Self::registered(1009);
    /// 1010: a client misses an extension in the server's handshake.
    pub const MANDATORY_EXTENSION: Self = Self::registered(1010);
    /// 1011: a server met something unexpected.
    pub const INTERNAL_ERROR: Self = Self::registered(1011);
    /// 1012: the service restarts; come back after a random delay.
    pub const SERVICE_RESTART: Self = Self::registered(1012);
    /// 1013: overloaded; come back later.
    pub const TRY_AGAIN_LATER: Self = Self::registered(1013);
    /// 1014: a gateway got an invalid answer from behind.
    pub const BAD_GATEWAY: Self = Self::registered(1014);

    const fn registered(code: u16) -> Self {
        Self::new(code).expect("a constant of this table is allowed by `new`, or the build stops here")
    }

    /// `code` as a close code, if it may be sent.
    ///
    /// | codes | may be sent |
    /// |---|---|
    /// | 0–999 | no: "are not used" |
    /// | 1000–1003, 1007–1014 | yes: RFC 6455 and the IANA registry |
    /// | 1004 | no: reserved, has no meaning yet |
    /// | 1005, 1006, 1015 | no: "MUST NOT be set as a status code in a Close control frame" |
    /// | 1016–2999 | no: reserved for later revisions and extensions |
    /// | 3000–3999 | yes: libraries and frameworks |
    /// | 4000–4999 | yes: private use |
    /// | 5000–65535 | no: outside every range that the RFC defines |
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => match NonZeroU16::new(code) {
                Some(code) => Some(Self(code)),
                None => None,
            },
            _ => None,
        }
    }

    /// The code as a number, 1000–4999.
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

/// The body of a Close frame that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the connection ends, for programs.
    pub code: CloseCode,
    /// Why the connection ends, for people; at most [`REASON_BYTES_MAX`] bytes, often empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the body of a Close frame; `None` if it is empty, which is allowed and means "no status received".
    pub fn parse(body: &'a [u8]) -> Result<Option<Self>, PeerMisbehaved> {
        match *body {
            [] => Ok(None),
            // RFC 6455 section 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
            // integer".
            [_] => Err(PeerMisbehaved::CloseBodyTooShort),
            [high, low, ref reason @ ..] => {
                let code = read_code(high, low)?;
                // RFC 6455 section 5.5.1: "Following the 2-byte integer, the body MAY contain UTF-8-encoded data".
                let reason = std::str::from_utf8(reason).map_err(|_| PeerMisbehaved::CloseReasonNotUtf8)?;
                Ok(Some(Self { code, reason }))
            }
        }
    }

    /// Appends the body of a Close frame. A reason longer than [`REASON_BYTES_MAX`] is cut between two characters.
    pub fn encode_body(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.value().to_be_bytes());
        out.extend_from_slice(cut(self.reason).as_bytes());
    }
}

/// Checks the part of a Close frame's body that has arrived, so that a misdeed is answered before the frame ends.
pub(super) fn check_beginning(body: &[u8]) -> Result<(), PeerMisbehaved> {
    let [high, low, ref reason @ ..] = *body else {
        return Ok(());
    };
    read_code(high, low)?;
    match std::str::from_utf8(reason) {
        Err(error) if error.error_len().is_some() => Err(PeerMisbehaved::CloseReasonNotUtf8),
        _ => Ok(()),
    }
}

fn read_code(high: u8, low: u8) -> Result<CloseCode, PeerMisbehaved> {
    let code = u16::from_be_bytes([high, low]);
    CloseCode::new(code).ok_or(PeerMisbehaved::CloseCodeForbidden(code))
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_can_be_made() {
        let allowed: Vec<u16> = (0..=u16::MAX)
            .filter(|code| CloseCode::new(*code).is_some())
            .collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn a_body_is_read_back_as_written() {
        let frame = CloseFrame {
            code: CloseCode::GOING_AWAY,
            reason: "bis später",
        };
        let mut body = Vec::new();
        frame.encode_body(&mut body);
        assert_eq!(body, b"\x03\xe9bis sp\xc3\xa4ter");
        assert_eq!(CloseFrame::parse(&body), Ok(Some(frame)));
    }

    #[test]
    fn an_empty_body_is_no_status() {
        assert_eq!(CloseFrame::parse(b""), Ok(None));
    }

    #[test]
    fn bodies_that_break_the_rules() {
        let cases: [(&[u8], PeerMisbehaved); 5] = [
            (b"\x03", PeerMisbehaved::CloseBodyTooShort),
            (b"\x03\xec", PeerMisbehaved::CloseCodeForbidden(1004)),
            (b"\x00\x00", PeerMisbehaved::CloseCodeForbidden(0)),
            (b"\x03\xe8\xff", PeerMisbehaved::CloseReasonNotUtf8),
            (b"\x03\xe8caf\xc3", PeerMisbehaved::CloseReasonNotUtf8),
        ];
        for (body, misdeed) in cases {
            assert_eq!(CloseFrame::parse(body), Err(misdeed), "{body:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_good_body_is_good() {
        let mut body = Vec::new();
        CloseFrame {
            code: CloseCode::NORMAL,
            reason: "κόσμε 🦀",
        }
        .encode_body(&mut body);
        for end in 0..=body.len() {
            assert_eq!(check_beginning(&body[..end]), Ok(()));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = format!("{}€ and more", "x".repeat(REASON_BYTES_MAX - 2));
        let mut body = Vec::new();
        CloseFrame {
            code: CloseCode::NORMAL,
            reason: &reason,
        }
        .encode_body(&mut body);
        let expected = "x".repeat(REASON_BYTES_MAX - 2);
        assert_eq!(CloseFrame::parse(&body).unwrap().unwrap().reason, expected);
    }
}

//! RFC 6455 and RFC 7692 by the letter, for a stream that is there as a whole: a second opinion on what it says.

use switchboard_proto::ws::deflate::{Agreed, Contexts, Decompressor, InflateError, InflateLimits};
use switchboard_proto::ws::{Limits, Role};

use crate::wire::{self, Event};

/// How a stream ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With a frame, or a Close somewhere.
    Whole,
    /// Within a frame. What is there of it may be a misdeed already.
    Cut,
    /// With a misdeed that is answered by this close code.
    Misdeed(u16),
}

pub(crate) struct Naive {
    role: Role,
    agreed: Option<Agreed>,
    limits: Limits,
    contexts: Contexts,
    /// Present if the peer's messages refer to earlier ones.
    decompressor: Option<Decompressor>,
    message: Option<Message>,
    events: Vec<Event>,
}

struct Message {
    is_text: bool,
    compressed: bool,
    payload: Vec<u8>,
}

struct Frame<'a> {
    fin: bool,
    rsv: u8,
    opcode: u8,
    payload: Vec<u8>,
    rest: &'a [u8],
}

impl Naive {
    pub(crate) fn new(role: Role, agreed: Option<Agreed>, limits: Limits) -> Naive {
        let keeps = agreed.and_then(|agreed| match role {
            Role::Server => (!agreed.client_no_context_takeover).then_some(agreed.client_max_window_bits),
            Role::Client => (!agreed.server_no_context_takeover).then_some(agreed.server_max_window_bits),
        });
        Naive {
            role,
            agreed,
            limits,
            contexts: Contexts::new(6),
            decompressor: keeps.map(Decompressor::new),
            message: None,
            events: Vec::new(),
        }
    }

    pub(crate) fn read(mut self, stream: &[u8]) -> (Vec<Event>, Ending) {
        let mut rest = stream;
        while !rest.is_empty() {
            let frame = match self.frame(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (self.events, Ending::Cut),
                Err(code) => return (self.events, Ending::Misdeed(code)),
            };
            rest = frame.rest;
            if let Err(code) = self.take(frame) {
                return (self.events, Ending::Misdeed(code));
            }
            if matches!(self.events.last(), Some(Event::Close(_))) {
                break;
            }
        }
        (self.events, Ending::Whole)
    }

    /// The next frame; `None` if it goes on behind the end, a close code if its header breaks a rule.
    fn frame<'a>(&self, bytes: &'a [u8]) -> Result<Option<Frame<'a>>, u16> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, rsv, opcode) = (first >> 7 == 1, first >> 4 & 7, first & 15);
        let is_masked = second >> 7 == 1;
        let (length, rest) = match (second & 127, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (126 | 127, _) => return Ok(None),
            (length, rest) => (u64::from(length), rest),
        };
        let (key, rest) = match rest {
            _ if !is_masked => ([0; 4], rest),
            [a, b, c, d, rest @ ..] => ([*a, *b, *c, *d], rest),
            _ => return Ok(None),
        };
        let is_control = opcode >= 8;
        let is_minimal = match second & 127 {
            126 => length > 125,
            127 => length > 65_535,
            _ => true,
        };
        let keeps_the_rules = matches!(opcode, 0..=2 | 8..=10)
            && rsv & 3 == 0
            && (rsv == 0 || self.agreed.is_some() && matches!(opcode, 1 | 2))
            && is_masked == (self.role == Role::Server)
            && (!is_control || fin && length <= 125)
            && is_minimal
            && length >> 63 == 0
            && (is_control || self.message.is_some() == (opcode == wire::CONTINUATION));
        if !keeps_the_rules {
            return Err(1002);
        }
        let held = self
            .message
            .as_ref()
            .map_or(0, |message| message.payload.len() as u64);
        if !is_control && held + length > self.limits.message_bytes_max as u64 {
            return Err(1009);
        }
        if (rest.len() as u64) < length {
            return Ok(None);
        }
        let (payload, rest) = rest.split_at(length as usize);
        let payload = payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        Ok(Some(Frame {
            fin,
            rsv,
            opcode,
            payload,
            rest,
        }))
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<(), u16> {
        match frame.opcode {
            wire::PING => self.events.push(Event::Ping(frame.payload)),
            wire::PONG => self.events.push(Event::Pong(frame.payload)),
            wire::CLOSE => self.events.push(Event::Close(close(&frame.payload)?)),
            opcode => {
                let message = self.message.get_or_insert_with(|| Message {
                    is_text: opcode == wire::TEXT,
                    compressed: frame.rsv == 4,
                    payload: Vec::new(),
                });
                message.payload.extend_from_slice(&frame.payload);
                if message.is_text && !message.compressed && !begins_a_text(&message.payload) {
                    return Err(1007);
                }
                if frame.fin
                    && let Some(message) = self.message.take()
                {
                    self.finish(message)?;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, message: Message) -> Result<(), u16> {
        let payload = if message.compressed {
            self.inflate(&message.payload)?
        } else {
            message.payload
        };
        self.events.push(if message.is_text {
            Event::Text(String::from_utf8(payload).map_err(|_| 1007_u16)?)
        } else {
            Event::Binary(payload)
        });
        Ok(())
    }

    fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, u16> {
        let limits = InflateLimits {
            bytes_max: self.limits.message_bytes_max,
            ratio_max: self.limits.inflate_ratio_max,
        };
        let mut message = Vec::new();
        let inflated = match &mut self.decompressor {
            Some(decompressor) => decompressor.decompress(&mut self.contexts, payload, limits, &mut message),
            None => self.contexts.decompress(payload, limits, &mut message),
        };
        match inflated {
            Ok(()) => Ok(message),
            Err(InflateError::Corrupt) => Err(1007),
            Err(InflateError::TooLarge | InflateError::RatioExceeded) => Err(1009),
        }
    }
}

fn close(body: &[u8]) -> Result<Option<(u16, String)>, u16> {
    match body {
        [] => Ok(None),
        [_] => Err(1002),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(1002);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| 1007_u16)?;
            Ok(Some((code, reason.to_owned())))
        }
    }
}

/// Whether these bytes are a text, or may become one.
fn begins_a_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

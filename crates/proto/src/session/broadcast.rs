//! One delivery, encoded once for all subscribers that look alike.
//!
//! Nothing in a message depends on who receives it, so all sessions of one [`Form`] get the same bytes: frame header,
//! dialect, compression and all. Consecutive messages of a channel are one chunk, so that a burst costs each subscriber one
//! write.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::channel::ChannelName;
use crate::dialect::{DialectId, Event};
use crate::entry::Entry;
use crate::ws::deflate::Contexts;
use crate::ws::frame::HEADER_BYTES_MAX;
use crate::ws::{MessageKind, encode_shared};

/// What decides how the bytes of a message look to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// How the message is said.
    pub dialect: DialectId,
    /// What is put around it.
    pub framing: Framing,
}

/// What is put around a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A WebSocket frame.
    WebSocket {
        /// The LZ77 window of permessage-deflate without context takeover, in bits (8 to 15); `None` without compression.
        ///
        /// A session that agreed on context takeover gets broadcasts uncompressed, which RFC 7692 section 6 leaves to the
        /// sender for every message: its window would make the bytes its own.
        window_bits: Option<u8>,
    },
    /// Nothing: the dialect itself says where a message ends.
    Bare,
}

impl Framing {
    /// Appends a message, compressed if that is agreed and it has at least `compress_bytes_min`.
    #[inline]
    fn put(
        self,
        kind: MessageKind,
        message: &[u8],
        contexts: &mut Contexts,
        compress_bytes_min: usize,
        out: &mut Vec<u8>,
    ) {
        match self {
            Framing::WebSocket { window_bits } => {
                let window_bits = window_bits.filter(|_| message.len() >= compress_bytes_min);
                encode_shared(kind, message, window_bits, contexts, out);
            }
            Framing::Bare => out.extend_from_slice(message),
        }
    }

    fn compresses(self) -> bool {
        matches!(self, Framing::WebSocket { window_bits: Some(_) })
    }
}

/// See the module.
pub struct Broadcast<'a> {
    channel: &'a ChannelName,
    entries: &'a [Arc<Entry>],
    chunks: SmallVec<[(Form, Bytes); 2]>,
}

impl<'a> Broadcast<'a> {
    /// A delivery of these messages of one channel, oldest first.
    pub fn new(channel: &'a ChannelName, entries: &'a [Arc<Entry>]) -> Broadcast<'a> {
        Broadcast {
            channel,
            entries,
            chunks: SmallVec::new(),
        }
    }

    /// How many messages each subscriber gets.
    pub fn messages(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The frames for sessions of this form. The first call for a form encodes (and compresses payloads of at least
    /// `compress_bytes_min`), later ones share.
    pub fn chunk(&mut self, form: Form, contexts: &mut Contexts, compress_bytes_min: usize) -> &Bytes {
        let index = match self.chunks.iter().position(|(known, _)| *known == form) {
            Some(index) => index,
            None => {
                let chunk = self.encode(form, contexts, compress_bytes_min);
                self.chunks.push((form, chunk));
                self.chunks.len() - 1
            }
        };
        &self.chunks[index].1
    }

    fn encode(&self, form: Form, contexts: &mut Contexts, compress_bytes_min: usize) -> Bytes {
        /// What stands around a payload, seldom more; the buffer grows where it is.
        const AROUND_BYTES: usize = 256;
        let dialect = form.dialect.dialect();
        let lengths = || self.entries.iter().map(|entry| entry.payload.len());
        let mut message = Vec::with_capacity(lengths().max().unwrap_or(0) + AROUND_BYTES);
        let mut out = Vec::new();
        for entry in self.entries {
            message.clear();
            let event = Event::Message {
                channel: self.channel,
                entry,
            };
            // Every dialect can say a message.
            if let Some(kind) = dialect.encode(&event, &mut message) {
                if out.is_empty() && !form.framing.compresses() {
                    // What stands around the first payload stands around the others. What is escaped in it does not.
                    let around = message
                        .len()
                        .saturating_sub(entry.payload.len())
                        .min(AROUND_BYTES);
                    out.reserve(lengths().sum::<usize>() + (around + HEADER_BYTES_MAX) * self.entries.len());
                }
                form.framing
                    .put(kind, &message, contexts, compress_bytes_min, &mut out);
            }
        }
        out.into()
    }
}

/// The frames of events that are the same for all sessions of this form. `None` where its dialect has no words for one of them.
pub fn encode<'a>(
    events: impl IntoIterator<Item = Event<'a>>,
    form: Form,
    contexts: &mut Contexts,
    compress_bytes_min: usize,
) -> Option<Bytes> {
    let mut message = Vec::new();
    let mut out = Vec::new();
    for event in events {
        message.clear();
        let kind = form.dialect.dialect().encode(&event, &mut message)?;
        form.framing
            .put(kind, &message, contexts, compress_bytes_min, &mut out);
    }
    Some(out.into())
}

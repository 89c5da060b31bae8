//! `proto::ws::deflate`: the payload transformation of permessage-deflate.

use switchboard_proto::ws::deflate::{Compressor, Contexts, Decompressor, InflateError, InflateLimits};

use crate::script::Script;

/// Output that is not measured against the ratio.
const RATIO_FREE_BYTES: usize = 16 * 1024;
/// Most messages of one run.
const MESSAGES_MAX: usize = 32;
/// Longest message of one run, in bytes.
const MESSAGE_BYTES_MAX: usize = 100_000;

/// Compressed payloads of any bytes, and messages that are compressed and come back.
///
/// - Nothing is inflated beyond the limits, and what is not inflated leaves the output as it was.
/// - The limits are exact: what inflates within them does so with its own length as the limit, and not with one less.
/// - Machines that others used before give the same result as new ones.
/// - Every message comes back, whatever the level and the window, with its context or without.
pub fn deflate(data: &[u8]) {
    let mut script = Script::new(data);
    if script.one_in(2) {
        inflate(&mut script);
    } else {
        there_and_back(&mut script);
    }
}

fn inflate(script: &mut Script<'_>) {
    let limits = InflateLimits {
        bytes_max: script.pick(&[65_536, 1_000_000, 16_384, 1_000, 1, 0]),
        ratio_max: script.pick(&[100, 2_000, 10, 1, 0]),
    };
    let history_bits = 8 + script.byte() % 8;
    let history = script.some();
    let payload = script.rest();
    let mut contexts = Contexts::new(6);
    let result = inflate_alone(&mut contexts, payload, limits);
    check_limits(&mut contexts, payload, limits, &result);
    assert_eq!(
        inflate_alone(&mut contexts, payload, limits),
        result,
        "with used machines"
    );

    // The same with a history, which the first message becomes.
    let mut decompressor = Decompressor::new(history_bits);
    let mut first = Vec::new();
    contexts.compress(history_bits, history, &mut first);
    let wide = InflateLimits {
        bytes_max: usize::MAX,
        ratio_max: usize::MAX,
    };
    let mut out = Vec::new();
    assert_eq!(
        decompressor.decompress(&mut contexts, &first, wide, &mut out),
        Ok(())
    );
    assert_eq!(out, history);
    let inflated = decompressor.decompress(&mut contexts, payload, limits, &mut out);
    assert!(out.starts_with(history));
    match inflated {
        Ok(()) => assert!(out.len() - history.len() <= limits.bytes_max),
        Err(_) => assert_eq!(out, history),
    }
    // What needs no history means the same behind one.
    if result.is_ok() {
        assert_eq!(
            (inflated, &out[history.len()..]),
            (Ok(()), result.unwrap_or_default().as_slice())
        );
    }
}

fn inflate_alone(
    contexts: &mut Contexts,
    payload: &[u8],
    limits: InflateLimits,
) -> Result<Vec<u8>, InflateError> {
    const BEFORE: &[u8] = b"what was there before";
    let mut out = BEFORE.to_vec();
    let inflated = contexts.decompress(payload, limits, &mut out);
    assert!(out.starts_with(BEFORE));
    let message = out.split_off(BEFORE.len());
    assert!(out.capacity() <= 4 * limits.bytes_max.saturating_add(RATIO_FREE_BYTES));
    inflated
        .inspect_err(|_| assert!(message.is_empty()))
        .map(|()| message)
}

fn check_limits(
    contexts: &mut Contexts,
    payload: &[u8],
    limits: InflateLimits,
    result: &Result<Vec<u8>, InflateError>,
) {
    let Ok(message) = result else { return };
    let length = message.len();
    assert!(length <= limits.bytes_max);
    assert!(length <= RATIO_FREE_BYTES || length <= payload.len() * limits.ratio_max);
    let mut with = |bytes_max| {
        let exact = InflateLimits { bytes_max, ..limits };
        inflate_alone(contexts, payload, exact)
    };
    assert_eq!(with(length).as_ref(), Ok(message));
    if length > 0 {
        assert_eq!(with(length - 1), Err(InflateError::TooLarge));
    }
}

fn there_and_back(script: &mut Script<'_>) {
    let mut contexts = Contexts::new(script.choose(11) as u8);
    let window_bits = script.choose(17) as u8;
    // A receiver may have agreed to a larger window than the sender uses.
    let receiver_bits = window_bits.max(script.choose(17) as u8);
    let keeps = script.one_in(2);
    let mut compressor = Compressor::new(window_bits);
    let mut decompressor = Decompressor::new(receiver_bits);
    let limits = InflateLimits {
        bytes_max: MESSAGE_BYTES_MAX,
        ratio_max: usize::MAX,
    };
    let mut messages: Vec<Vec<u8>> = Vec::new();
    while !script.is_over() && messages.len() < MESSAGES_MAX {
        let message = match messages.get(script.choose(8)) {
            Some(earlier) => [earlier, script.some()].concat(),
            None => script.some().to_vec(),
        };
        let mut message = message.repeat(script.pick(&[1, 1, 2, 20, 1_000]));
        message.truncate(MESSAGE_BYTES_MAX);
        let (mut compressed, mut out) = (Vec::new(), Vec::new());
        let inflated = if keeps {
            compressor.compress(&mut contexts, &message, &mut compressed);
            decompressor.decompress(&mut contexts, &compressed, limits, &mut out)
        } else {
            contexts.compress(window_bits, &message, &mut compressed);
            contexts.decompress(&compressed, limits, &mut out)
        };
        assert_eq!(inflated, Ok(()), "message {}", messages.len());
        assert_eq!(out, message, "message {}", messages.len());
        // Incompressible data grows by the headers of stored blocks.
        assert!(compressed.len() <= message.len() + message.len() / 1_000 + 64);
        messages.push(message);
    }
}

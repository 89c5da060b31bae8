//! The server's own log, on standard error: text for a terminal, one JSON object a line for anything else.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, LogLevel, LogSettings};

/// Whether lines are JSON.
pub(super) fn is_json(settings: &LogSettings) -> bool {
    match settings.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// Writes events to standard error from now on. A second call changes nothing.
pub(super) fn start(settings: &LogSettings) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        // It would report a closed standard error on standard error, and panic.
        .log_internal_errors(false);
    // Both fail only where a subscriber is set already.
    let _ = match is_json(settings) {
        true => {
            let json = builder.json().flatten_event(true);
            let json = json.with_current_span(false).with_span_list(false).finish();
            tracing::subscriber::set_global_default(json)
        }
        false => {
            let colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
            let text = builder.with_ansi(colours).with_target(false).finish();
            tracing::subscriber::set_global_default(text)
        }
    };
}

//! The clock on the wall: what day it is, which may be wrong and may jump.

use std::cell::Cell;

use tokio::time::Instant;

/// The day on which every run begins: 2026-01-01T00:00:00Z, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_767_225_600_000;

thread_local! {
    /// When the run of this thread began, and by how much its clock is ahead.
    static NOW: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

/// A run begins on this thread.
pub fn begin() {
    NOW.set(Some((Instant::now(), 0)));
}

/// Sets the clock forward or back.
pub fn step(by_ms: i64) {
    NOW.set(NOW.get().map(|(begin, ahead)| (begin, ahead + by_ms)));
}

/// Milliseconds since 1970-01-01T00:00:00Z, by this clock.
pub fn unix_ms() -> u64 {
    let Some((begin, ahead)) = NOW.get() else {
        return BEGIN_MS;
    };
    (BEGIN_MS + begin.elapsed().as_millis() as u64).saturating_add_signed(ahead)
}

//! What all parts of a world that move by themselves share: one thread, and time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// What is behind a lock that nobody else ever holds: there is one thread, and the lock is for the types.
pub fn own<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the run.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets something `step` whenever it is due or has `changed`, for ever. A step does what is due and says when the next is.
pub async fn keep_moving(changed: &Notify, mut step: impl FnMut(Instant) -> Option<Instant>) {
    loop {
        let next = step(Instant::now());
        let changed = changed.notified();
        match next {
            Some(at) => {
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                }
            }
            None => changed.await,
        }
    }
}

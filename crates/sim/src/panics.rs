//! Panics of the tasks of a history: whoever waits for a task that ended in one may not look.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on those of this thread are kept.
pub fn begin() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A thread that ends has none any more.
            let _ended = PANICS.try_with(|panics| panics.borrow_mut().push(panic.to_string()));
            tell(panic);
        }));
    });
    drop(take());
}

/// Those since then.
pub fn take() -> Vec<String> {
    PANICS.take()
}

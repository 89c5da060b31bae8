//! What should not have happened, and is not in the logs: the server ended by itself, said nonsense, refused what it must take.

use std::cell::RefCell;
use std::rc::Rc;

/// What was told, by all that watch. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct Troubles(Rc<RefCell<Vec<String>>>);

impl Troubles {
    /// One more.
    pub fn tell(&self, what: String) {
        self.0.borrow_mut().push(what);
    }

    /// All so far.
    pub fn told(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

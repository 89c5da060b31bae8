//! Queues between threads of loom, which has none that end, and none that are bounded.

/// A stand-in for `std::sync::mpsc`.
pub mod unbounded {
    use std::collections::VecDeque;
    use std::sync::mpsc::{RecvError, SendError, TryRecvError};

    use loom::sync::{Arc, Condvar, Mutex};

    struct Queue<T> {
        messages: VecDeque<T>,
        senders: usize,
        has_receiver: bool,
    }

    struct Shared<T> {
        queue: Mutex<Queue<T>>,
        changed: Condvar,
    }

    pub struct Sender<T>(Arc<Shared<T>>);

    pub struct Receiver<T>(Arc<Shared<T>>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let queue = Queue {
            messages: VecDeque::new(),
            senders: 1,
            has_receiver: true,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
        });
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub fn send(&self, message: T) -> Result<(), SendError<T>> {
            let mut queue = self.0.queue.lock().unwrap();
            if !queue.has_receiver {
                return Err(SendError(message));
            }
            queue.messages.push_back(message);
            self.0.changed.notify_one();
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.queue.lock().unwrap().senders -= 1;
            self.0.changed.notify_one();
        }
    }

    impl<T> Receiver<T> {
        pub fn recv(&self) -> Result<T, RecvError> {
            let mut queue = self.0.queue.lock().unwrap();
            loop {
                if let Some(message) = queue.messages.pop_front() {
                    return Ok(message);
                }
                if queue.senders == 0 {
                    return Err(RecvError);
                }
                queue = self.0.changed.wait(queue).unwrap();
            }
        }

        pub fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut queue = self.0.queue.lock().unwrap();
            match queue.messages.pop_front() {
                Some(message) => Ok(message),
                None if queue.senders == 0 => Err(TryRecvError::Disconnected),
                None => Err(TryRecvError::Empty),
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.queue.lock().unwrap().has_receiver = false;
        }
    }
}

/// A stand-in for `tokio::sync::mpsc`: as there, a send takes one of so many slots or fails, and a slot is free again when its message
/// was taken out. Unlike there who waits for a slot may be overtaken.
pub mod bounded {
    use std::collections::VecDeque;

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Arc, Mutex};
    pub use tokio::sync::mpsc::error;
    use tokio::sync::mpsc::error::{SendError, TryRecvError, TrySendError};

    /// Beside the number of free slots, which is in the bits above.
    const CLOSED: usize = 1;
    const SLOT: usize = 2;

    struct Shared<T> {
        slots: AtomicUsize,
        slots_max: usize,
        messages: Mutex<VecDeque<T>>,
    }

    pub struct Sender<T>(Arc<Shared<T>>);

    pub struct Receiver<T>(Arc<Shared<T>>);

    pub fn channel<T>(slots_max: usize) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            slots: AtomicUsize::new(slots_max * SLOT),
            slots_max,
            messages: Mutex::default(),
        });
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub fn max_capacity(&self) -> usize {
            self.0.slots_max
        }

        pub fn capacity(&self) -> usize {
            self.0.slots.load(Ordering::Acquire) / SLOT
        }

        pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            let mut slots = self.0.slots.load(Ordering::Acquire);
            loop {
                if slots & CLOSED != 0 {
                    return Err(TrySendError::Closed(message));
                }
                if slots < SLOT {
                    return Err(TrySendError::Full(message));
                }
                let order = (Ordering::AcqRel, Ordering::Acquire);
                match self
                    .0
                    .slots
                    .compare_exchange(slots, slots - SLOT, order.0, order.1)
                {
                    Ok(_) => break,
                    Err(changed) => slots = changed,
                }
            }
            self.0.messages.lock().unwrap().push_back(message);
            Ok(())
        }

        pub async fn send(&self, mut message: T) -> Result<(), SendError<T>> {
            loop {
                match self.try_send(message) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Closed(message)) => return Err(SendError(message)),
                    Err(TrySendError::Full(refused)) => message = refused,
                }
                loom::thread::yield_now();
            }
        }
    }

    impl<T> Receiver<T> {
        pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
            let message = self.0.messages.lock().unwrap().pop_front();
            let message = message.ok_or(TryRecvError::Empty)?;
            self.0.slots.fetch_add(SLOT, Ordering::AcqRel);
            Ok(message)
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.slots.fetch_or(CLOSED, Ordering::AcqRel);
        }
    }
}

mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::bounded;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Send,
        Receive,
        Close,
    }

    proptest! {
        #[test]
        fn what_stands_in_for_a_mailbox_takes_and_refuses_what_one_of_tokio_does(
            slots in 1..5_usize,
            steps in prop::collection::vec(prop_oneof![
                10 => Just(Step::Send),
                8 => Just(Step::Receive),
                1 => Just(Step::Close),
            ], 0..40),
        ) {
            loom::model(move || {
                let (model, receiver) = bounded::channel(slots);
                let (real, real_receiver) = mpsc::channel(slots);
                let mut receivers = Some((receiver, real_receiver));
                assert_eq!(model.max_capacity(), real.max_capacity());
                for (number, step) in steps.iter().enumerate() {
                    match (step, &mut receivers) {
                        (Step::Send, _) => assert_eq!(model.try_send(number), real.try_send(number)),
                        (Step::Receive, Some((receiver, real))) => {
                            assert_eq!(receiver.try_recv(), real.try_recv());
                        }
                        (Step::Receive, None) => {}
                        (Step::Close, _) => receivers = None,
                    }
                    // What is left in a mailbox that was closed nobody asks for.
                    if receivers.is_some() {
                        assert_eq!(model.capacity(), real.capacity());
                    }
                }
            });
        }
    }
}

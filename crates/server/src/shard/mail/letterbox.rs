//! The sending end of one mailbox. Its capacity has three parts:
//!
//! ```text
//!   │ messages_max           │ answers_max │ senders                                             │
//!     requests, deliveries     answers       what others have sent since one looked; and the stop
//! ```
//!
//! Of the threads that find the last slot of the first part free at the same time, all but one send too much. That leaves one slot of
//! the last part, for who waits.
//!
//! `tests/interleavings` takes this file with something else for `mpsc` and goes through every order of its steps.

use super::mpsc::{self, Receiver, Sender, error::TrySendError};

/// See the module.
pub struct Letterbox<T> {
    slots: Sender<T>,
    reserve: usize,
}

/// The mailbox was full; the message is gone.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl<T> Letterbox<T> {
    /// A mailbox, and its receiving end. At most `answers_max` answers may be due at a time, and `senders` threads may send at a time.
    pub fn new(messages_max: usize, answers_max: usize, senders: usize) -> (Letterbox<T>, Receiver<T>) {
        let reserve = answers_max + senders;
        let (slots, receiver) = mpsc::channel(messages_max + reserve);
        (Letterbox { slots, reserve }, receiver)
    }

    /// Requests and deliveries that fit.
    pub fn messages_max(&self) -> usize {
        self.slots.max_capacity() - self.reserve
    }

    /// Sends a request or a delivery, if the part of the mailbox for these has room.
    pub fn send(&self, message: T) -> Result<(), Full> {
        // Other senders may take a slot between the look and the send: the reserve has one for each of them.
        if self.slots.capacity() <= self.reserve {
            return Err(Full);
        }
        // Nobody will answer where a shard has stopped.
        self.slots.try_send(message).map_err(|_| Full)
    }

    /// Sends an answer, for which there is always room.
    pub fn send_reserved(&self, message: T) -> Result<(), Full> {
        match self.slots.try_send(message) {
            Err(TrySendError::Full(_)) => Err(Full),
            // A closed mailbox is a shard that has stopped: nobody is left to tell.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Waits for room. Once: more would take the room of answers.
    pub async fn send_waiting(&self, message: T) {
        // A closed mailbox is a shard that has stopped: nobody is left to tell.
        let _stopped = self.slots.send(message).await;
    }
}

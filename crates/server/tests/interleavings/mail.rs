//! The mailboxes of shards.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use loom::sync::Arc;
use loom::thread;

use crate::in_every_order;
use crate::queues::bounded as mpsc;

#[path = "../../src/shard/mail/letterbox.rs"]
mod letterbox;

use letterbox::Letterbox;

/// What is sent here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Message {
    Request,
    Answer,
    Stop,
}

/// The stand-in waits by itself.
fn block_on<T>(waiting: impl Future<Output = T>) -> T {
    match pin!(waiting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// As many as fit, or this many.
fn requests(letterbox: &Letterbox<Message>, at_most: usize) -> usize {
    (0..at_most)
        .filter(|_| letterbox.send(Message::Request).is_ok())
        .count()
}

#[test]
fn an_answer_has_room_and_a_stop_too_whatever_others_send_at_the_same_time() {
    in_every_order(|| {
        let (messages_max, answers_max, senders) = (1, 1, 2);
        let (letterbox, mut mailbox) = Letterbox::new(messages_max, answers_max, senders);
        assert_eq!(letterbox.messages_max(), messages_max);
        let letterbox = Arc::new(letterbox);
        let shard = thread::spawn({
            let letterbox = letterbox.clone();
            move || {
                let accepted = requests(&letterbox, 2);
                assert!(
                    letterbox.send_reserved(Message::Answer).is_ok(),
                    "a promised answer"
                );
                accepted
            }
        });
        let api = thread::spawn({
            let letterbox = letterbox.clone();
            move || requests(&letterbox, 2)
        });
        // Nobody takes anything out meanwhile.
        block_on(letterbox.send_waiting(Message::Stop));
        let accepted = shard.join().unwrap() + api.join().unwrap();

        let received: Vec<_> = std::iter::from_fn(|| mailbox.try_recv().ok()).collect();
        let count = |of| received.iter().filter(|message| **message == of).count();
        assert_eq!(count(Message::Request), accepted);
        assert!(accepted < messages_max + senders, "{accepted} requests");
        assert_eq!(count(Message::Answer), 1);
        assert_eq!(count(Message::Stop), 1);
    });
}

#[test]
fn answers_take_no_room_that_requests_had_before() {
    in_every_order(|| {
        let (letterbox, _mailbox) = Letterbox::new(1, 1, 1);
        assert!(letterbox.send(Message::Request).is_ok());
        assert!(letterbox.send(Message::Request).is_err());
        assert!(letterbox.send_reserved(Message::Answer).is_ok());
        assert!(letterbox.send(Message::Request).is_err());
    });
}

#[test]
fn a_request_has_room_again_when_one_was_taken_out() {
    in_every_order(|| {
        let (letterbox, mut mailbox) = Letterbox::new(1, 1, 1);
        assert!(letterbox.send(Message::Request).is_ok());
        let shard = thread::spawn(move || {
            assert_eq!(mailbox.try_recv(), Ok(Message::Request));
            mailbox
        });
        let at_once = letterbox.send(Message::Request).is_ok();
        let mut mailbox = shard.join().unwrap();
        assert_eq!(letterbox.send(Message::Request).is_ok(), !at_once);
        assert_eq!(mailbox.try_recv(), Ok(Message::Request));
        assert!(mailbox.try_recv().is_err());
    });
}

#[test]
fn a_stop_finds_its_way_into_a_mailbox_that_is_full_to_the_last_slot() {
    in_every_order(|| {
        let (letterbox, mut mailbox) = Letterbox::new(1, 1, 0);
        assert!(letterbox.send(Message::Request).is_ok());
        assert!(letterbox.send_reserved(Message::Answer).is_ok());
        let stopping = thread::spawn(move || {
            block_on(letterbox.send_waiting(Message::Stop));
            letterbox
        });
        let mut received = Vec::new();
        while received.last() != Some(&Message::Stop) {
            match mailbox.try_recv() {
                Ok(message) => received.push(message),
                Err(_) => thread::yield_now(),
            }
        }
        assert_eq!(received, [Message::Request, Message::Answer, Message::Stop]);
        stopping.join().unwrap();
    });
}

#[test]
fn a_shard_that_stops_refuses_requests_and_keeps_nobody_waiting() {
    in_every_order(|| {
        let (letterbox, mailbox) = Letterbox::new(1, 1, 0);
        let letterbox = Arc::new(letterbox);
        let shard = thread::spawn(move || drop(mailbox));
        let sender = thread::spawn({
            let letterbox = letterbox.clone();
            move || {
                let _while_it_was_there = letterbox.send(Message::Request);
                assert!(
                    letterbox.send_reserved(Message::Answer).is_ok(),
                    "nobody is left to tell"
                );
            }
        });
        sender.join().unwrap();
        // Full or closed: the shard, which ends, takes nothing out any more.
        block_on(letterbox.send_waiting(Message::Stop));
        shard.join().unwrap();
        assert!(letterbox.send(Message::Request).is_err());
        assert!(letterbox.send_reserved(Message::Answer).is_ok());
    });
}

use switchboard_hub::log::Draft;
use switchboard_proto::limits::SessionLimits;
use switchboard_proto::payload::Payload;
use tokio::sync::oneshot;

use super::*;
use crate::broker::memory::Memory;

/// The only shard of a process.
fn parts(messages_max: usize) -> Parts {
    let (post, mut mailboxes) = Post::new(1, messages_max, 7);
    Parts {
        id: ShardId(0),
        clock: Clock::start(),
        mailbox: mailboxes.remove(0),
        post,
        settings: Arc::new(Settings {
            limits: SessionLimits::default(),
            anonymous: true,
            compress_bytes_min: 256,
            compression_level: 1,
        }),
        namespaces: Arc::default(),
        channels_max: 100,
        broker: Arc::new(|seat| Box::new(Memory::new(&seat))),
        stats: Arc::default(),
        seed: [7; 32],
    }
}

#[test]
fn sockets_get_their_turn_between_two_turns_of_mail() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let parts = parts(10 * MAILS_PER_TURN);
        let post = parts.post.clone();
        let (_shard, mail) = Shard::new(parts);
        let mut answers = Vec::new();
        for _ in 0..5 * MAILS_PER_TURN {
            let (sender, answer) = oneshot::channel();
            let publish = Mail::Publish {
                channel: ChannelName::parse("a").unwrap(),
                draft: Draft {
                    from: None,
                    payload: Payload::text(""),
                    key: None,
                },
                origin: Origin::Api(sender),
            };
            post.send(ShardId(0), publish).unwrap();
            answers.push(answer);
        }
        tokio::task::spawn_local(mail);
        // It waits for its turn as the task of a socket does.
        let socket = tokio::task::spawn_local(async move {
            let answered = answers
                .iter_mut()
                .map(|answer| usize::from(answer.try_recv().is_ok()))
                .sum::<usize>();
            (answered, answers.pop())
        });
        let (answered, last) = socket.await.unwrap();
        assert!(answered <= MAILS_PER_TURN, "{answered} mails in one turn");
        assert!(last.unwrap().await.is_ok(), "the others have theirs");
    });
}

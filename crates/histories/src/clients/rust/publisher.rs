//! What a Rust client publishes, and what it is answered.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use switchboard_check::log::Line;
use switchboard_check::payload::Payload;
use switchboard_client::{Client, Position, Publication, PublishError, Receipt, State};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Actor, token};
use crate::clients::Phase;
use crate::payloads;
use crate::plan::Publishes;
use crate::random::Random;

/// Publications without an answer. Beyond, it waits for one.
const OUTSTANDING_MAX: usize = 200;
/// Between publications when as much as possible is to be published.
const STORM: Duration = Duration::from_millis(2);

/// Somebody whose publications have an order: one client over all its connections.
pub(super) struct Publisher {
    actor: Rc<Actor>,
    client: Client,
    random: Random,
    name: String,
    number: u32,
}

/// What became of a publication.
#[derive(PartialEq, Eq)]
enum Answer {
    Known,
    Unknown,
}

impl Publisher {
    /// Publishes as long as there is load and a client; ends when everything is answered.
    pub(super) async fn run(actor: Rc<Actor>, client: Client, incarnation: u32, seed: u64) {
        let Some(publishes) = actor.plan.publishes.clone() else {
            return;
        };
        let mut publisher = Publisher {
            name: format!("{}/{incarnation}", actor.plan.name),
            actor,
            client,
            random: Random::new(seed),
            number: 0,
        };
        let mut answers = JoinSet::new();
        let mut renamed = 0;
        while publisher.pause(&publishes).await {
            let Some(answer) = publisher.publish(&publishes).await else {
                continue;
            };
            if publishes.keyed {
                answers.spawn_local(answer);
                while answers.try_join_next().is_some() {}
                if answers.len() >= OUTSTANDING_MAX {
                    answers.join_next().await;
                }
            } else if answer.await == Answer::Unknown {
                // It may still be on its way by the connection that is lost, and come behind what is said now.
                renamed += 1;
                publisher.name = format!("{}/{incarnation}.{renamed}", publisher.actor.plan.name);
                publisher.number = 0;
            }
        }
        while answers.join_next().await.is_some() {}
    }

    /// Waits for the next one; whether there is one.
    async fn pause(&mut self, publishes: &Publishes) -> bool {
        let between = self.random.between(1, publishes.every_ms * 2);
        let mut storm = self.actor.world.storm.clone();
        let mut phase = self.actor.world.phase.clone();
        let rest = async {
            if !*storm.borrow() {
                // What a watch gives is a lock: it must not be held over a wait.
                let stormy = async { drop(storm.wait_for(|storm| *storm).await) };
                tokio::select! {
                    () = sleep(Duration::from_millis(between)) => return,
                    () = stormy => {}
                }
            }
            sleep(STORM).await;
        };
        tokio::select! {
            () = rest => {}
            _ = phase.wait_for(|phase| *phase != Phase::Load) => {}
            _ = self.client.closed() => {}
        }
        let is_closed = matches!(self.client.state(), State::Closed(_));
        !is_closed && *phase.borrow() == Phase::Load
    }

    async fn publish(&mut self, publishes: &Publishes) -> Option<impl Future<Output = Answer> + use<>> {
        let is_storm = *self.actor.world.storm.borrow();
        let random = &mut self.random;
        let at = random.between(0, publishes.channels.len() as u64 - 1) as usize;
        let channel = &publishes.channels[at];
        self.number += 1;
        let large_percent = if is_storm { 50 } else { publishes.large_percent };
        let body = payloads::body(random, large_percent);
        let payload = Payload::new(&self.name, self.number.into(), channel, body);
        let mut publication = Publication::from(payloads::carried(random, &payload));
        let key = format!("{}-{}", self.name, self.number);
        // Otherwise the client makes one.
        if publishes.keyed && random.percent(50) {
            publication = publication.key(&key).ok()?;
        }
        let conflate = random
            .percent(publishes.conflate_percent)
            .then(|| format!("state-{}", random.between(1, 3)));
        if let Some(conflate) = &conflate {
            publication = publication.conflate(conflate).ok()?;
        }
        let actor = self.actor.clone();
        let name = self.name.clone();
        let number = self.number;
        actor.journal.write(
            "invoked",
            Line {
                publisher: Some(Cow::Borrowed(&name)),
                n: Some(number),
                channel: Some(Cow::Borrowed(channel)),
                keyed: publishes.keyed.then_some(true),
                conflate: conflate.map(Cow::Owned),
                ..Line::default()
            },
        );
        actor.outstanding.set(actor.outstanding.get() + 1);
        let sent: Result<Receipt, PublishError> = self.client.send(channel, publication).await;
        Some(async move {
            let answer = match sent {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            actor.outstanding.set(actor.outstanding.get() - 1);
            actor.note_answer(&name, number, answer)
        })
    }
}

impl Actor {
    fn note_answer(&self, publisher: &str, number: u32, answer: Result<Position, PublishError>) -> Answer {
        let line = Line {
            publisher: Some(Cow::Borrowed(publisher)),
            n: Some(number),
            ..Line::default()
        };
        let (event, known) = match &answer {
            Ok(_) => ("acknowledged", Answer::Known),
            Err(PublishError::Unanswered(_)) => ("unknown", Answer::Unknown),
            Err(PublishError::Refused(refusal)) if refusal.code == "unavailable" => {
                ("unknown", Answer::Unknown)
            }
            Err(_) => ("refused", Answer::Known),
        };
        match &answer {
            Ok(_) => {}
            Err(PublishError::Refused(refusal)) => self.mind(refusal),
            Err(PublishError::NotSent(end) | PublishError::Unanswered(end)) => self.mind_end(end),
            Err(error) => self.trouble(error),
        }
        let position = answer.ok().map(token);
        self.journal.write(event, Line { position, ..line });
        known
    }
}

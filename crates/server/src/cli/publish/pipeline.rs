//! Publishes one message after another, several on their way at once, their order kept.
//!
//! The server may refuse a message because too many came in too short a time, and take the next one a moment later: what was
//! behind has then overtaken what was before. So several are on their way only as long as the server cannot have a reason to refuse
//! one, which is as long as its default limits are far from being reached. Beyond that each waits for the acknowledgement of the one
//! before it; one that is refused is repeated, when the server wants it, until it is taken.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use switchboard_client::{Client, ErrorCode, Position, PublishError, Receipt, Refusal};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::limits::{Rate, SessionLimits};
use switchboard_proto::payload::{Payload, PayloadKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Publication;
use crate::cli::{Failure, connection};

/// Messages on their way at once.
const IN_FLIGHT_MAX: usize = 32;
/// When a refused message is repeated, if the server does not say.
const RETRY: Duration = Duration::from_millis(500);
/// What a command has besides its payload: names of fields, the channel, a key.
const COMMAND_BYTES_MAX: usize = 2 * 1_024;

/// See the module.
pub(super) struct Pipeline<D> {
    client: Client,
    channel: ChannelName,
    /// Whether messages are lines of standard input, and named so.
    lines: bool,
    commands: Credit,
    bytes: Credit,
    message_bytes_max: usize,
    /// The server's limits are closer than its defaults.
    one_at_a_time: bool,
    in_flight: VecDeque<Sent>,
    taken: u64,
    /// Called for each message that was taken, in order.
    done: D,
}

/// A message on its way.
struct Sent {
    number: u64,
    publication: Publication,
    receipt: Receipt,
}

impl<D: FnMut(&Position) -> io::Result<()>> Pipeline<D> {
    pub(super) fn new(client: Client, channel: ChannelName, lines: bool, done: D) -> Pipeline<D> {
        let limits = SessionLimits::default();
        let now = Instant::now();
        Pipeline {
            client,
            channel,
            lines,
            commands: Credit::new(limits.commands, now),
            bytes: Credit::new(limits.inbound_bytes, now),
            message_bytes_max: limits.message_bytes_max,
            one_at_a_time: false,
            in_flight: VecDeque::new(),
            taken: 0,
            done,
        }
    }

    /// Publishes what comes, and returns how many messages were taken. Ends at the first that fails, after those before it are
    /// settled.
    pub(super) async fn run(
        mut self,
        mut publications: mpsc::Receiver<Result<Publication, Failure>>,
    ) -> Result<u64, Failure> {
        let (mut number, mut more) = (0, true);
        while more || !self.in_flight.is_empty() {
            let takes_more = more && self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                answer = first_answer(&mut self.in_flight) => self.handle_first_answer(answer).await?,
                publication = publications.recv(), if takes_more => match publication {
                    Some(Ok(publication)) => {
                        number += 1;
                        self.publish(number, publication).await?;
                    }
                    Some(Err(failure)) => {
                        self.settle().await?;
                        return Err(failure);
                    }
                    None => more = false,
                },
                end = self.client.closed(), if self.in_flight.is_empty() => {
                    return Err(Failure::Failed(connection::said(&end)));
                }
            }
        }
        Ok(self.taken)
    }

    async fn publish(&mut self, number: u64, publication: Publication) -> Result<(), Failure> {
        let now = Instant::now();
        let bytes = command_bytes(&publication.payload);
        // The connection may end with it, and with the connection the answers to those before it.
        let is_large = bytes > self.message_bytes_max;
        let covers = self.commands.covers(1.0, now) & self.bytes.covers(bytes as f64, now) && !is_large;
        if self.one_at_a_time || !covers {
            self.settle().await?;
        }
        self.commands.charge(1.0);
        self.bytes.charge(bytes as f64);
        let receipt = self.send(number, &publication).await?;
        self.in_flight.push_back(Sent {
            number,
            publication,
            receipt,
        });
        if is_large { self.settle().await } else { Ok(()) }
    }

    async fn send(&self, number: u64, publication: &Publication) -> Result<Receipt, Failure> {
        let mut message = switchboard_client::Publication::from(publication.payload.clone());
        if let Some(key) = &publication.key {
            message = message
                .key(key)
                .map_err(|error| Failure::Usage(format!("--key: {error}")))?;
        }
        let sent = self.client.send(self.channel.as_str(), message).await;
        sent.map_err(|error| self.failed(number, &error))
    }

    /// Waits until nothing is on its way.
    async fn settle(&mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            let answer = first_answer(&mut self.in_flight).await;
            self.handle_first_answer(answer).await?;
        }
        Ok(())
    }

    async fn handle_first_answer(&mut self, answer: Answer) -> Result<(), Failure> {
        let Some(first) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match answer {
            Ok(position) => self.handle_taken(&position),
            Err(error) => match wait_for(&error) {
                Some(wait) => self.repeat(first, wait).await,
                None => Err(self.failed(first.number, &error)),
            },
        }
    }

    fn handle_taken(&mut self, position: &Position) -> Result<(), Failure> {
        self.taken += 1;
        Ok((self.done)(position)?)
    }

    /// Repeats a message that was refused, and those that were behind it and refused like it.
    async fn repeat(&mut self, first: Sent, mut wait: Duration) -> Result<(), Failure> {
        self.one_at_a_time |= !self.in_flight.is_empty();
        let mut refused = vec![(first.number, first.publication)];
        while let Some(sent) = self.in_flight.pop_front() {
            let error = match sent.receipt.await {
                Ok(position) => {
                    self.handle_taken(&position)?;
                    return Err(self.overtaken(first.number, sent.number));
                }
                Err(error) => error,
            };
            let Some(longer) = wait_for(&error) else {
                return Err(self.failed(sent.number, &error));
            };
            wait = wait.max(longer);
            refused.push((sent.number, sent.publication));
        }
        for (number, publication) in refused {
            loop {
                tokio::time::sleep(wait).await;
                wait = Duration::ZERO;
                match self.send(number, &publication).await?.await {
                    Ok(position) => break self.handle_taken(&position)?,
                    Err(error) => match wait_for(&error) {
                        Some(again) => wait = again,
                        None => return Err(self.failed(number, &error)),
                    },
                }
            }
        }
        Ok(())
    }

    fn named(&self, number: u64, what: &str) -> Failure {
        Failure::Failed(match self.lines {
            true => format!("line {number} of standard input: {what}"),
            false => what.to_owned(),
        })
    }

    fn failed(&self, number: u64, error: &PublishError) -> Failure {
        self.named(number, &connection::said(error))
    }

    fn overtaken(&self, number: u64, by: u64) -> Failure {
        let what = format!(
            "refused, while line {by} was taken: this server allows less at once than is usual, and the order is lost"
        );
        self.named(number, &what)
    }
}

type Answer = Result<Position, PublishError>;

/// The answer to the oldest message on its way; never, if there is none. Cancel-safe.
async fn first_answer(in_flight: &mut VecDeque<Sent>) -> Answer {
    match in_flight.front_mut() {
        Some(first) => (&mut first.receipt).await,
        None => std::future::pending().await,
    }
}

/// How long to wait before the same message may be taken; `None` where repeating it is no use, or could publish it twice.
fn wait_for(error: &PublishError) -> Option<Duration> {
    match error {
        PublishError::Refused(refusal) => match refusal.error_code() {
            Some(ErrorCode::RateLimited | ErrorCode::Overloaded) => Some(retry(refusal)),
            _ => None,
        },
        _ => None,
    }
}

fn retry(refusal: &Refusal) -> Duration {
    refusal.retry_after.unwrap_or(RETRY)
}

/// At least as many bytes as the command has on the wire.
fn command_bytes(payload: &Payload) -> usize {
    let payload_bytes = match payload.kind() {
        PayloadKind::Json => payload.len(),
        // Written as \u001b at worst.
        PayloadKind::Text => {
            let escaped = |byte: &&u8| **byte < 0x20 || matches!(**byte, b'"' | b'\\');
            payload.len() + 5 * payload.as_bytes().iter().filter(escaped).count()
        }
        PayloadKind::Bytes => payload.len().div_ceil(3) * 4,
    };
    COMMAND_BYTES_MAX + payload_bytes
}

/// What the server's limit leaves us, seen from here: half of its burst less than it is there, because what was sent at different
/// times may arrive at the same time.
struct Credit {
    left: f64,
    /// It is between minus and plus this.
    half: f64,
    per_second: f64,
    at: Instant,
}

impl Credit {
    fn new(rate: Rate, at: Instant) -> Credit {
        let half = f64::from(rate.burst) / 2.0;
        Credit {
            left: half,
            half,
            per_second: f64::from(rate.per_second),
            at,
        }
    }

    fn covers(&mut self, units: f64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + since * self.per_second).min(self.half);
        self.left >= units
    }

    fn charge(&mut self, units: f64) {
        self.left = (self.left - units).max(-self.half);
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::dialect::{Command, json};
    use switchboard_proto::session::rate::Meter;
    use switchboard_proto::time::Time;

    use super::*;

    const RATE: Rate = Rate {
        per_second: 100,
        burst: 200,
    };

    #[test]
    fn what_the_credit_covers_the_server_takes() {
        let start = Instant::now();
        let (mut credit, mut meter) = (Credit::new(RATE, start), Meter::default());
        let mut covered = 0;
        // Sent as fast as the credit lets it, and now and then without asking it, when the server may refuse.
        for step in 0..20_000_u64 {
            let after = Duration::from_micros(step * 700);
            let covers = credit.covers(1.0, start + after);
            if !covers && !step.is_multiple_of(7) {
                continue;
            }
            credit.charge(1.0);
            // Up to half a second late.
            let late = Duration::from_millis(step * 7_919 % 500);
            let taken = meter.take(Time::ZERO + after + late, 1, RATE).is_ok();
            assert!(taken || !covers, "step {step}");
            covered += u32::from(covers);
        }
        assert!(covered > 100, "{covered}");
    }

    #[test]
    fn a_command_is_never_longer_than_estimated() {
        let channel = ChannelName::parse(&"\"".repeat(255)).unwrap();
        for payload in [
            Payload::text("\u{1}\"\\\n".repeat(500)),
            Payload::text("é".repeat(500)),
            Payload::bytes(vec![0; 1_000]),
            Payload::bytes(vec![0; 1]),
            Payload::json("[1, 2]").unwrap(),
        ] {
            let estimated = command_bytes(&payload);
            let mut encoded = Vec::new();
            let command = Command::Publish {
                conflate: None,
                id: Some(u64::MAX),
                channel: channel.clone(),
                payload,
                key: switchboard_proto::entry::Key::parse(&"\u{1}".repeat(128)),
            };
            json::encode_command(&command, &mut encoded);
            assert!(encoded.len() <= estimated, "{} > {estimated}", encoded.len());
        }
    }
}

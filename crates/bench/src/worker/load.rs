//! What is done with open connections, and what comes of it.
//!
//! ```text
//!   Closed: burst ─► everywhere arrived ─► next publisher's burst …      Rate: by the clock      Echo: back and forth
//! ```
//!
//! The finder of stamps and the counters are one struct; what differs is who sends when.

use std::collections::{HashMap, VecDeque};

use hdrhistogram::Histogram;

use super::connection::Seen;
use super::{Group, Worker};
use crate::control::{Count, Drive, Driven, Pace, Publish};
use crate::stamp::{Reader, Stamp};
use crate::target::Envelope;

/// When nothing has come for so long, nothing more is hoped for.
const QUIET_NS: u64 = 5_000_000_000;
/// The same where connections were lost: what was for them does not come.
const QUIET_AFTER_LOSS_NS: u64 = 500_000_000;
/// Bursts sent before the sockets are looked at again: a rate that cannot be held keeps nobody from anything else.
const BURSTS_PER_PASS: usize = 1_024;
/// What may wait for the socket of one publisher, where its bursts are not larger.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Characters kept of what a server says.
const WORDS_MAX: usize = 200;

/// See the module.
#[derive(Default)]
pub(super) struct Load {
    work: Work,
    reader: Reader,
    driven: Driven,
    latency: Option<Histogram<u64>>,
    /// When sending began; 0: it has not.
    begun_ns: u64,
    last_ns: u64,
    /// A connection to the server that is driven was lost meanwhile.
    has_lost: bool,
    finished: bool,
}

#[derive(Default)]
enum Work {
    #[default]
    None,
    Publish(Publishing),
    Echo(Echoing),
}

struct Publishing {
    publish: Publish,
    publishers: Vec<Publisher>,
    /// Number of the first one.
    first: u32,
    /// Closed: who has no burst under way, the longest idle first. Bursts that are left, and that may begin now.
    idle: VecDeque<usize>,
    bursts_left: u64,
    ready: u64,
    /// Rate: who is due, the earliest first.
    due: VecDeque<(u64, usize)>,
    /// Deliveries of this worker's messages that have not come yet.
    outstanding: u64,
    /// Deliveries of other workers' messages, to be told.
    remote: HashMap<u32, u64>,
}

struct Publisher {
    key: usize,
    sequence: u32,
    envelope: Envelope,
    /// Deliveries of its burst that have not come yet.
    outstanding: u64,
    bursts_left: u64,
}

struct Echoing {
    group: u32,
    envelope: Envelope,
    echoes: u64,
    begun: u64,
    /// Who sends next.
    due: Vec<(usize, u32)>,
    sequence: u32,
}

impl Load {
    /// Something to do once it is told to [`Load::begin`]. What comes is counted from now on.
    pub(super) fn new(drive: Drive, groups: &HashMap<u32, Group>) -> Load {
        let (work, latency) = match drive {
            Drive::Publish(publish) => {
                let latency = publish.latency;
                (Work::Publish(Publishing::new(publish, groups)), latency)
            }
            Drive::Echo { group, bytes, echoes } => {
                let template = groups.get(&group).map(|group| group.open.target.echo.as_str());
                let members = groups
                    .get(&group)
                    .map(|group| group.members.as_slice())
                    .unwrap_or_default();
                let echoing = Echoing {
                    group,
                    envelope: Envelope::new(template.unwrap_or("{payload}"), bytes),
                    echoes,
                    begun: 0,
                    due: members.iter().map(|key| (*key, 0)).collect(),
                    sequence: 0,
                };
                (Work::Echo(echoing), true)
            }
        };
        Load {
            work,
            latency: latency.then(histogram).flatten(),
            ..Load::default()
        }
    }

    /// Everyone counts: what is due may be sent.
    pub(super) fn begin(&mut self, now: u64) {
        self.begun_ns = now;
        self.last_ns = now;
        if let Work::Publish(publishing) = &mut self.work {
            publishing.due.iter_mut().for_each(|(due, _)| *due += now);
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// A connection of the group `lost` is gone.
    pub(super) fn handle_lost(&mut self, lost: u32, groups: &HashMap<u32, Group>) {
        let driven = match &self.work {
            Work::None => None,
            Work::Publish(publishing) => Some(publishing.publish.group),
            Work::Echo(echoing) => Some(echoing.group),
        };
        let server = |group: u32| groups.get(&group).map(|group| group.open.target.address);
        self.has_lost |= driven.is_some_and(|driven| server(driven) == server(lost));
    }

    pub(super) fn received(&self) -> u64 {
        self.driven.received
    }

    /// When something is to be sent without a reason from outside.
    pub(super) fn due_ns(&self) -> Option<u64> {
        match &self.work {
            // More of them than go in one pass.
            Work::Publish(publishing) if self.begun_ns > 0 && publishing.may_begin() => Some(0),
            Work::Publish(publishing) if self.begun_ns > 0 => publishing.due.front().map(|(due, _)| *due),
            Work::Publish(_) | Work::Echo(_) | Work::None => None,
        }
    }

    /// A data frame.
    pub(super) fn handle_frame(
        &mut self,
        group: u32,
        number: u32,
        key: usize,
        seen: &mut Seen<'_>,
        frame: &[u8],
        now: u64,
    ) {
        let Load {
            work,
            reader,
            driven,
            latency,
            last_ns,
            ..
        } = self;
        let mut found = false;
        reader.read(frame, |stamp| {
            found = true;
            driven.received += 1;
            driven.digest = driven.digest.wrapping_add(stamp.digest());
            *last_ns = now;
            if let Some(latency) = latency {
                // The range grows as needed, so nothing is refused.
                let _recorded = latency.record(now.saturating_sub(stamp.due_ns).max(1));
            }
            match work {
                Work::Publish(publishing) => {
                    if !seen.note(stamp.publisher, stamp.sequence) {
                        driven.disordered += 1;
                    }
                    publishing.handle_delivery(stamp.publisher, 1);
                }
                Work::Echo(echoing) if echoing.group == group => echoing.due.push((key, number)),
                Work::Echo(_) | Work::None => {}
            }
        });
        if !found && driven.words.is_none() {
            let words: String = String::from_utf8_lossy(frame).chars().take(WORDS_MAX).collect();
            driven.words = Some(words);
        }
    }

    /// Deliveries that other workers have seen.
    pub(super) fn handle_remote(&mut self, counts: &[Count], now: u64) {
        self.last_ns = now;
        if let Work::Publish(publishing) = &mut self.work {
            for count in counts {
                publishing.handle_delivery(count.publisher, count.deliveries);
            }
        }
    }

    /// Deliveries to tell the other workers.
    pub(super) fn take_remote(&mut self) -> Vec<Count> {
        let Work::Publish(publishing) = &mut self.work else {
            return Vec::new();
        };
        let counts = publishing.remote.drain();
        counts
            .map(|(publisher, deliveries)| Count {
                publisher,
                deliveries,
            })
            .collect()
    }

    /// Whether there is an end, for the first time.
    pub(super) fn poll_finished(&mut self, now: u64) -> bool {
        let done = match &self.work {
            _ if self.begun_ns == 0 => return false,
            Work::None => return false,
            // A worker that only listens ends when it is told to.
            Work::Publish(publishing) if publishing.publishers.is_empty() => return false,
            Work::Publish(publishing) => publishing.is_done(),
            Work::Echo(echoing) => self.driven.received >= echoing.echoes,
        };
        let waits_for_the_clock = self.due_ns().is_some_and(|due| due > now);
        let quiet = if self.has_lost {
            QUIET_AFTER_LOSS_NS
        } else {
            QUIET_NS
        };
        let over = done || (!waits_for_the_clock && now > self.last_ns + quiet);
        let first = over && !self.finished;
        self.finished |= over;
        first
    }

    /// What came of it.
    pub(super) fn collect(&mut self, groups: &mut HashMap<u32, Group>) -> Driven {
        if let Work::Publish(publishing) = &self.work
            && let Some(group) = groups.get_mut(&publishing.publish.group)
        {
            for (sequence, publisher) in group.sequences.iter_mut().zip(&publishing.publishers) {
                *sequence = publisher.sequence;
            }
        }
        let mut driven = std::mem::take(&mut self.driven);
        driven.elapsed_ns = self.last_ns - self.begun_ns;
        if let Some(latency) = &self.latency {
            let recorded = latency.iter_recorded();
            driven.latency = recorded
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect();
        }
        driven
    }
}

impl Publishing {
    fn new(publish: Publish, groups: &HashMap<u32, Group>) -> Publishing {
        let mut publishers = Vec::new();
        let mut first = 0;
        let bursts_each = match publish.pace {
            Pace::Closed { .. } => u64::MAX,
            Pace::Rate { bursts, .. } => bursts,
        };
        if let Some(group) = groups.get(&publish.group) {
            let open = &group.open;
            first = open.first;
            for (index, key) in group.members.iter().enumerate() {
                let number = first + index as u32;
                let template = open
                    .target
                    .fill(&open.target.publish, number, open.rooms.of(number).start);
                publishers.push(Publisher {
                    key: *key,
                    sequence: group.sequences[index],
                    envelope: Envelope::new(&template, publish.bytes),
                    outstanding: 0,
                    bursts_left: bursts_each,
                });
            }
        }
        let count = publishers.len() as u64;
        let (due, bursts_left, ready) = match publish.pace {
            Pace::Closed { at_once, bursts } => (VecDeque::new(), bursts, u64::from(at_once).min(count)),
            Pace::Rate { interval_ns, .. } => {
                // From the beginning on, and spread over the interval: or all would publish in the same moment for ever.
                let phase = |index: u64| interval_ns + interval_ns * index / count.max(1);
                (
                    (0..count).map(|index| (phase(index), index as usize)).collect(),
                    0,
                    0,
                )
            }
        };
        Publishing {
            publish,
            idle: (0..publishers.len()).collect(),
            publishers,
            first,
            bursts_left,
            ready,
            due,
            outstanding: 0,
            remote: HashMap::new(),
        }
    }

    fn handle_delivery(&mut self, publisher: u32, deliveries: u64) {
        let index = publisher.wrapping_sub(self.first) as usize;
        let Some(publisher_here) = self.publishers.get_mut(index) else {
            *self.remote.entry(publisher).or_default() += deliveries;
            return;
        };
        self.outstanding = self.outstanding.saturating_sub(deliveries);
        let before = publisher_here.outstanding;
        publisher_here.outstanding = before.saturating_sub(deliveries);
        if before > 0 && publisher_here.outstanding == 0 {
            self.ready += 1;
            self.idle.push_back(index);
        }
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0 && self.due.is_empty() && (self.bursts_left == 0 || self.publishers.is_empty())
    }

    /// Closed: whether a burst may leave.
    fn may_begin(&self) -> bool {
        self.ready > 0 && self.bursts_left > 0 && !self.idle.is_empty()
    }

    /// Who sends a burst at `now`, and when that was due.
    fn poll_due(&mut self, now: u64) -> Option<(usize, u64)> {
        match self.publish.pace {
            Pace::Closed { .. } => {
                if !self.may_begin() {
                    return None;
                }
                let index = self.idle.pop_front()?;
                self.ready -= 1;
                self.bursts_left -= 1;
                Some((index, now))
            }
            Pace::Rate { interval_ns, .. } => {
                let (due, index) = *self.due.front().filter(|(due, _)| *due <= now)?;
                self.due.pop_front();
                let publisher = &mut self.publishers[index];
                publisher.bursts_left = publisher.bursts_left.saturating_sub(1);
                if publisher.bursts_left > 0 {
                    // All have the same interval, so the order of the queue stays.
                    self.due.push_back((due + interval_ns, index));
                }
                Some((index, due))
            }
        }
    }
}

impl Worker {
    /// Sends what is due.
    pub(super) fn pump_load(&mut self, now: u64) {
        match &mut self.load.work {
            _ if self.load.begun_ns == 0 => {}
            Work::None => {}
            Work::Publish(_) => self.pump_publish(now),
            Work::Echo(_) => self.pump_echo(now),
        }
    }

    fn pump_publish(&mut self, now: u64) {
        let mut text = Vec::new();
        let mut stalled = None;
        let mut touched = Vec::new();
        let Work::Publish(publishing) = &mut self.load.work else {
            return;
        };
        for _ in 0..BURSTS_PER_PASS {
            let Some((index, due_ns)) = publishing.poll_due(now) else {
                break;
            };
            let subscribers = u64::from(publishing.publish.subscribers);
            let burst = publishing.publish.burst;
            let number = publishing.first + index as u32;
            let publisher = &mut publishing.publishers[index];
            let Some(connection) = self.connections.get_mut(publisher.key) else {
                continue;
            };
            for _ in 0..burst {
                let stamp = Stamp {
                    publisher: number,
                    sequence: publisher.sequence,
                    due_ns,
                };
                publisher.sequence = publisher.sequence.wrapping_add(1);
                text.clear();
                publisher.envelope.write(stamp, &mut text);
                connection.say(&text, &mut self.contexts);
                self.load.driven.published += 1;
                self.load.driven.expected += subscribers;
                let digest = stamp.digest().wrapping_mul(subscribers);
                self.load.driven.expected_digest = self.load.driven.expected_digest.wrapping_add(digest);
            }
            publisher.outstanding += subscribers * u64::from(burst);
            publishing.outstanding += subscribers * u64::from(burst);
            // Of several bursts in one pass none was offered to the socket yet. Who goes by the clock may have several, who waits
            // for the one before has no others.
            let is_late = matches!(publishing.publish.pace, Pace::Rate { .. });
            if is_late && connection.unsent_bytes() > UNSENT_BYTES_MAX {
                // Should the connection be lost, sending what is left says so.
                let _lost = connection.flush();
                if connection.unsent_bytes() > UNSENT_BYTES_MAX {
                    stalled = Some(number);
                    touched.push(publisher.key);
                    break;
                }
            }
            touched.push(publisher.key);
        }
        if let Some(number) = stalled {
            // What is not sent any more does not arrive either.
            let bursts = publishing
                .publishers
                .iter()
                .map(|publisher| publisher.bursts_left);
            let unsent = bursts.sum::<u64>() * u64::from(publishing.publish.burst);
            self.load.driven.expected += unsent * u64::from(publishing.publish.subscribers);
            publishing.due.clear();
            self.load.driven.stalled = Some(number);
        }
        for key in touched {
            self.send(key);
        }
    }

    fn pump_echo(&mut self, now: u64) {
        let mut text = Vec::new();
        let Work::Echo(echoing) = &mut self.load.work else {
            return;
        };
        let due = std::mem::take(&mut echoing.due);
        for (key, _) in &due {
            let Some(connection) = self
                .connections
                .get_mut(*key)
                .filter(|_| echoing.begun < echoing.echoes)
            else {
                continue;
            };
            echoing.begun += 1;
            echoing.sequence = echoing.sequence.wrapping_add(1);
            text.clear();
            let stamp = Stamp {
                publisher: 0,
                sequence: echoing.sequence,
                due_ns: now,
            };
            echoing.envelope.write(stamp, &mut text);
            connection.say(&text, &mut self.contexts);
            self.load.driven.published += 1;
            self.load.driven.expected += 1;
            self.load.driven.expected_digest = self.load.driven.expected_digest.wrapping_add(stamp.digest());
        }
        for (key, _) in due {
            self.send(key);
        }
    }

    /// Writes what a connection has to say.
    fn send(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Err(lost) = connection.flush().and_then(|()| self.watch(key)) {
            self.lose(key, &lost, super::now_ns());
        }
    }
}

/// 3 significant digits; the range grows as needed. `None` never happens: 3 is a valid precision.
fn histogram() -> Option<Histogram<u64>> {
    let mut histogram = Histogram::new(3).ok()?;
    histogram.auto(true);
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_burst_under_way_begins_no_other() {
        let publisher = |key| Publisher {
            key,
            sequence: 0,
            envelope: Envelope::new("{payload}", 64),
            outstanding: 0,
            bursts_left: u64::MAX,
        };
        let pace = Pace::Closed {
            at_once: 3,
            bursts: 100,
        };
        let mut publishing = Publishing {
            publish: Publish {
                group: 0,
                bytes: 64,
                burst: 1,
                subscribers: 2,
                pace,
                latency: false,
            },
            publishers: (0..3).map(publisher).collect(),
            first: 10,
            idle: (0..3).collect(),
            bursts_left: 100,
            ready: 3,
            due: VecDeque::new(),
            outstanding: 0,
            remote: HashMap::new(),
        };
        let mut begin = || {
            let begun = publishing.poll_due(0).map(|(index, _)| index);
            if let Some(index) = begun {
                publishing.publishers[index].outstanding = 2;
                publishing.outstanding += 2;
            }
            begun
        };
        assert_eq!(
            [begin(), begin(), begin(), begin()],
            [Some(0), Some(1), Some(2), None]
        );
        publishing.handle_delivery(12, 1);
        assert!(!publishing.may_begin());
        publishing.handle_delivery(12, 1);
        assert_eq!(publishing.poll_due(0), Some((2, 0)));
        assert_eq!(publishing.poll_due(0), None);
    }
}

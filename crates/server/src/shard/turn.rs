//! One round of mail: the home decides, the fan-out delivers.
//!
//! A turn takes all mail at hand before it writes, so that messages which came together leave together: a burst costs each
//! subscriber one write. A delivery that came alone is written straight through.

use std::sync::Arc;
use std::time::Duration;

use switchboard_hub::audience::{Break, ChannelIndex, Delivery, Missed, SubscriberId};
use switchboard_hub::broker::BrokerError;
use switchboard_hub::home::{Answer, Output};
use switchboard_hub::log::{Page, PageStart, ReadLimit};
use switchboard_hub::settings::OnLag;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{Event, Gap, HistoryPage, HistoryStart};
use switchboard_proto::entry::Entry;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::limits::HISTORY_BYTES_MAX;
use switchboard_proto::position::Position;
use switchboard_proto::session::broadcast::Broadcast;
use switchboard_proto::session::outbox::Queued;

use super::State;
use super::mail::{Asked, Mail, Origin};
use super::wheel::LinkRef;
use crate::clock::Clock;

/// What `unavailable` and `overloaded` tell a client to wait.
const RETRY: Duration = Duration::from_millis(500);

/// Something for the sessions of this shard, in the order in which it came: from a home, in the order in which that decided
/// it.
pub(super) enum Arrival {
    Deliver {
        channel: ChannelName,
        after: Position,
        entries: Arc<[Arc<Entry>]>,
    },
    Head {
        channel: ChannelName,
        position: Position,
    },
    Reply {
        origin: Origin,
        answer: Answer,
    },
    /// From the process. What came before it is delivered before the goodbye.
    Stop,
}

/// The audience knows a link by its slab key.
pub(super) fn subscriber(link: LinkRef) -> SubscriberId {
    SubscriberId(link.key)
}

impl State {
    pub(super) fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Subscribe { channel, origin } => {
                let shard = match &origin {
                    Origin::Session { shard, .. } => *shard,
                    Origin::Api(_) => return,
                };
                self.home.handle_subscribe(channel, shard, origin);
            }
            Mail::Leave { channel, shard } => self.home.handle_leave(&channel, shard),
            Mail::Publish {
                channel,
                draft,
                origin,
            } => self.home.handle_publish(channel, draft, origin),
            Mail::History {
                channel,
                since,
                limit,
                origin,
            } => {
                let limit = ReadLimit {
                    messages: limit,
                    bytes: HISTORY_BYTES_MAX,
                };
                self.home.handle_history(channel, since, limit, origin);
            }
            Mail::Deliver {
                channel,
                after,
                entries,
            } => {
                self.arrivals.push_back(Arrival::Deliver {
                    channel,
                    after,
                    entries,
                });
            }
            Mail::Head { channel, position } => self.arrivals.push_back(Arrival::Head { channel, position }),
            Mail::Reply { origin, answer } => self.arrivals.push_back(Arrival::Reply { origin, answer }),
            Mail::Stop => self.arrivals.push_back(Arrival::Stop),
        }
    }

    /// Works until nothing is left that this shard can do by itself.
    pub(super) fn settle(&mut self, clock: &Clock) {
        loop {
            while let Some(mail) = self.local.pop_front() {
                self.handle_mail(mail);
            }
            self.drain_home(clock);
            if self.arrivals.is_empty() {
                if self.local.is_empty() && self.completions.is_empty() {
                    break;
                }
                continue;
            }
            self.handle_arrivals();
        }
        self.flush_touched();
    }

    /// Carries out what the home decided, and hands it what its broker completed at once.
    ///
    /// A message is on its way to its subscribers before its publisher hears that it is published: whoever has the
    /// acknowledgement and then stops the server, or asks anything else of anyone, comes after the message.
    fn drain_home(&mut self, clock: &Clock) {
        let mut published = Vec::new();
        loop {
            while let Some(output) = self.home.poll_output() {
                match output {
                    Output::Reply {
                        answer: Answer::Published(_),
                        ..
                    } => published.push(output),
                    output => self.handle_output(output, clock),
                }
            }
            if self.completions.is_empty() {
                break;
            }
            while let Some(completion) = self.completions.pop_front() {
                self.home.handle_completion(completion);
            }
        }
        for output in published {
            self.handle_output(output, clock);
        }
    }

    fn handle_output(&mut self, output: Output<Origin>, clock: &Clock) {
        match output {
            Output::Broker(request) => {
                self.broker
                    .handle_request(self.now, clock.unix_ms(), request, &mut self.completions);
            }
            Output::Deliver {
                channel,
                shard,
                after,
                entries,
            } if shard == self.id => {
                self.arrivals.push_back(Arrival::Deliver {
                    channel,
                    after,
                    entries,
                });
            }
            Output::Deliver {
                channel,
                shard,
                after,
                entries,
            } => {
                let name = channel.clone();
                if self
                    .post
                    .send(
                        shard,
                        Mail::Deliver {
                            channel,
                            after,
                            entries,
                        },
                    )
                    .is_err()
                {
                    self.stats.mailbox_refusals.add(1);
                    self.home.handle_delivery_refused(&name, shard);
                }
            }
            Output::Head {
                channel,
                shard,
                position,
            } if shard == self.id => {
                self.arrivals.push_back(Arrival::Head { channel, position });
            }
            Output::Head {
                channel,
                shard,
                position,
            } => {
                let name = channel.clone();
                if self.post.send(shard, Mail::Head { channel, position }).is_err() {
                    self.home.handle_delivery_refused(&name, shard);
                }
            }
            Output::Reply {
                who: Origin::Api(reply),
                answer,
            } => {
                // The asker may have gone.
                let _gone = reply.send(answer);
            }
            Output::Reply {
                who: origin @ Origin::Session { shard, .. },
                answer,
            } => {
                if shard == self.id {
                    self.arrivals.push_back(Arrival::Reply { origin, answer });
                } else if self
                    .post
                    .send_reserved(shard, Mail::Reply { origin, answer })
                    .is_err()
                {
                    tracing::error!(shard = shard.0, "an answer found no room in a mailbox");
                }
            }
        }
    }

    fn handle_arrivals(&mut self) {
        // Alone, a delivery is written straight through; among others it waits for the flush at the end of the turn.
        let deliveries = self
            .arrivals
            .iter()
            .filter(|arrival| matches!(arrival, Arrival::Deliver { .. }));
        let alone = deliveries.take(2).count() < 2 && self.touched.is_empty();
        while let Some(arrival) = self.arrivals.pop_front() {
            match arrival {
                Arrival::Deliver {
                    channel,
                    after,
                    entries,
                } => {
                    let delivery = self.audience.deliver(&channel, after, &entries);
                    self.handle_delivery(&channel, delivery, &entries, alone);
                }
                Arrival::Head { channel, position } => {
                    let delivery = self.audience.head(&channel, position);
                    self.handle_delivery(&channel, delivery, &[], alone);
                }
                Arrival::Reply { origin, answer } => self.handle_answer(origin, answer),
                Arrival::Stop => self.stop(),
            }
        }
    }

    fn handle_delivery(
        &mut self,
        channel: &ChannelName,
        delivery: Delivery,
        entries: &[Arc<Entry>],
        alone: bool,
    ) {
        match delivery {
            Delivery::Fresh {
                channel: index,
                broken,
                fresh,
            } => {
                if let Some(broken) = broken {
                    self.tell_break(channel, index, broken, None);
                }
                if !fresh.is_empty() {
                    self.fan_out(channel, index, &entries[fresh], alone);
                }
            }
            Delivery::Nobody { leave: true } => self.leave(channel.clone()),
            Delivery::Nobody { leave: false } => {}
        }
    }

    /// Gives new entries to every subscriber, encoded once for all that look alike.
    fn fan_out(&mut self, channel: &ChannelName, index: ChannelIndex, fresh: &[Arc<Entry>], alone: bool) {
        let mut broadcast = Broadcast::new(channel, fresh);
        let messages = broadcast.messages();
        let compress_bytes_min = self.shared.settings.compress_bytes_min;
        let (mut delivered, mut sent) = (0, 0);
        let mut refused = Vec::new();
        for subscriber in self.audience.subscribers(index) {
            let Some(link) = self.links.get_mut(subscriber.0 as usize) else {
                continue;
            };
            if !link.session.is_open() {
                continue;
            }
            if link.lagging {
                refused.push(*subscriber);
                continue;
            }
            let chunk = broadcast.chunk(link.session.form(), &mut self.shared.contexts, compress_bytes_min);
            delivered += u64::from(messages);
            if alone && link.session.outbox().is_empty() {
                sent += link.write_through(self.now, chunk, messages);
                continue;
            }
            match link
                .session
                .handle_delivery(chunk.clone(), messages, &self.shared.settings)
            {
                Queued::Queued if link.touched => {}
                Queued::Queued => {
                    link.touched = true;
                    self.touched.push(LinkRef {
                        key: subscriber.0,
                        generation: link.generation,
                    });
                }
                Queued::Refused => {
                    delivered -= u64::from(messages);
                    refused.push(*subscriber);
                }
            }
        }
        self.stats.deliveries.add(delivered);
        self.stats.sent_bytes.add(sent);
        let missed = Missed::Entries {
            from: fresh[0].previous + 1,
        };
        for subscriber in refused {
            self.stats.deliveries_refused.add(u64::from(messages));
            self.handle_lag(channel, index, subscriber, missed);
        }
    }

    /// A subscriber's outbox is full.
    fn handle_lag(
        &mut self,
        channel: &ChannelName,
        index: ChannelIndex,
        subscriber: SubscriberId,
        missed: Missed,
    ) {
        let on_lag = self.namespaces.settings(channel).on_lag;
        let Some(link) = self.links.get_mut(subscriber.0 as usize) else {
            return;
        };
        let at = LinkRef {
            key: subscriber.0,
            generation: link.generation,
        };
        let says_gaps = link.session.form().dialect.dialect().says_gaps();
        match on_lag {
            OnLag::Drop if says_gaps => {
                link.lagging = true;
                self.audience.lag(index, subscriber, missed);
            }
            // A dialect that cannot say `gap` would lose messages silently.
            OnLag::Drop | OnLag::Disconnect => {
                self.refuse(at, None, ErrorCode::Lagged, None);
                self.send_replies(at);
            }
        }
    }

    /// The outbox of a lagging session has drained: says what is missing, and deliveries go on.
    pub(super) fn catch_up(&mut self, at: LinkRef) {
        let limits = &self.shared.settings.limits;
        let (bytes, messages) = (limits.outbox_bytes_max / 2, limits.outbox_messages_max / 2);
        let Some(link) = self.link(at) else { return };
        let outbox = link.session.outbox();
        if !link.lagging || outbox.bytes() > bytes || outbox.messages() > messages {
            return;
        }
        link.lagging = false;
        for (channel, broken) in self.audience.recover(subscriber(at)) {
            self.say_break(at, &channel, broken);
        }
        self.send_replies(at);
    }

    fn say_break(&mut self, at: LinkRef, channel: &ChannelName, broken: Break) {
        self.stats.gaps.add(1);
        match broken {
            Break::Gap { from, to, position } => {
                self.say(
                    at,
                    &Event::Gap {
                        channel,
                        gap: Gap { from, to, position },
                    },
                );
            }
            Break::Reset { position } => self.say(at, &Event::Reset { channel, position }),
        }
    }

    /// The whole shard has missed something of a channel: says so to all its subscribers but one.
    fn tell_break(
        &mut self,
        channel: &ChannelName,
        index: ChannelIndex,
        broken: Break,
        but: Option<SubscriberId>,
    ) {
        let subscribers: Vec<_> = self.audience.subscribers(index).to_vec();
        for subscriber in subscribers
            .into_iter()
            .filter(|subscriber| but != Some(*subscriber))
        {
            let Some(link) = self.links.get_mut(subscriber.0 as usize) else {
                continue;
            };
            let at = LinkRef {
                key: subscriber.0,
                generation: link.generation,
            };
            if link.lagging || !link.session.form().dialect.dialect().says_gaps() {
                self.handle_lag(channel, index, subscriber, broken.into());
                continue;
            }
            self.say_break(at, channel, broken);
            self.send_replies(at);
        }
    }

    fn handle_answer(&mut self, origin: Origin, answer: Answer) {
        let Origin::Session {
            link: at,
            id,
            channel,
            asked,
            ..
        } = origin
        else {
            return;
        };
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.link(at).is_none() {
            return;
        }
        if asked == Asked::History
            && let Some(link) = self.link(at)
        {
            link.session.handle_history_answered();
        }
        match answer {
            Answer::Published(position) => {
                if id.is_some() {
                    self.say(at, &Event::Published { id, position });
                }
            }
            Answer::Subscribed(position) => {
                let Some(attached) = self.audience.attach(&channel, subscriber(at), position) else {
                    return;
                };
                if let Some(broken) = attached.broken {
                    self.tell_break(&channel, attached.channel, broken, Some(subscriber(at)));
                }
                let position = attached.position;
                self.say(
                    at,
                    &Event::Subscribed {
                        id,
                        channel: &channel,
                        position,
                    },
                );
            }
            Answer::History(page) => {
                let page = history(&page);
                self.say(
                    at,
                    &Event::History {
                        id,
                        channel: &channel,
                        page,
                    },
                );
            }
            Answer::Refused(error) => {
                if asked == Asked::Subscribe && self.audience.abort(&channel, subscriber(at)) {
                    self.leave(channel);
                }
                self.refuse(at, id, broker_error(error), Some(RETRY));
            }
        }
        self.send_replies(at);
    }

    fn flush_touched(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for at in &touched {
            let now = self.now;
            let Some(link) = self.link(*at) else { continue };
            link.touched = false;
            let written = link.flush(now);
            self.stats.sent_bytes.add(written);
            self.catch_up(*at);
            self.arm(*at);
        }
        self.touched = touched;
        self.touched.clear();
    }

    fn stop(&mut self) {
        self.stopping = true;
        let links: Vec<_> = self
            .links
            .iter()
            .map(|(key, link)| LinkRef {
                key: key as u32,
                generation: link.generation,
            })
            .collect();
        for at in links {
            self.stop_link(at);
        }
    }
}

/// The word of the catalogue for what a broker did not do.
pub fn broker_error(error: BrokerError) -> ErrorCode {
    match error {
        BrokerError::Unavailable => ErrorCode::Unavailable,
        BrokerError::Overloaded => ErrorCode::Overloaded,
        BrokerError::TooManyChannels => ErrorCode::TooManyChannels,
    }
}

/// A page of the hub as the dialects say it.
pub fn history(page: &Page) -> HistoryPage<'_> {
    HistoryPage {
        start: match page.start {
            PageStart::Continues => HistoryStart::Continues,
            PageStart::Gap { from, to } => HistoryStart::Gap { from, to },
            PageStart::Reset => HistoryStart::Reset,
        },
        entries: &page.entries,
        position: page.position,
        more: page.more,
    }
}

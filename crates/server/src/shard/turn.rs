//! One round of mail: the home decides, the fan-out delivers.
//!
//! A turn takes all mail at hand before it writes, so that messages which came together leave together: a burst costs each
//! subscriber one write. A delivery that came alone is written straight through.

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::rand_core::Rng as _;
use switchboard_hub::audience::{Break, ChannelIndex, Delivery, Missed, SubscriberId};
use switchboard_hub::broker::BrokerError;
use switchboard_hub::home::{Answer, Output};
use switchboard_hub::log::{Page, PageStart};
use switchboard_hub::settings::OnLag;
use switchboard_proto::channel::ChannelName;
use switchboard_proto::dialect::{DialectId, Event, HistoryPage, HistoryStart};
use switchboard_proto::entry::Entry;
use switchboard_proto::error_code::ErrorCode;
use switchboard_proto::position::Position;
use switchboard_proto::presence::Announcement;
use switchboard_proto::session::broadcast::Broadcast;
use switchboard_proto::session::outbox::Queued;

use super::mail::{Asked, Depart, Mail, Origin};
use super::replay::break_event;
use super::wheel::LinkRef;
use super::{REFUSED_MAX, State};
use crate::clock::Clock;

/// What `unavailable` and `overloaded` tell a client to wait.
pub(super) const RETRY: Duration = Duration::from_millis(500);

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
    Presence {
        channel: ChannelName,
        announcement: Arc<Announcement>,
        is_answer: bool,
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
            Mail::Subscribe {
                channel,
                join,
                origin,
            } => {
                let shard = match &origin {
                    Origin::Session { shard, .. } => *shard,
                    Origin::Api(_) | Origin::Replay { .. } => return,
                };
                if let Some(join) = join {
                    self.presence.join(self.now, &channel, join.member, join.stay);
                }
                self.home.handle_subscribe(channel, shard, origin);
            }
            Mail::Leave { channel, shard } => {
                self.home.handle_leave(&channel, shard);
                self.handle_deaf(&channel, shard);
            }
            Mail::Depart(depart) => {
                let Depart {
                    channel,
                    key,
                    stay,
                    has_left,
                } = *depart;
                match has_left {
                    true => self.presence.leave(self.now, &channel, &key, stay),
                    false => self.presence.vanish(self.now, &channel, key, stay),
                }
            }
            Mail::Hear { channel, shard } => self.handle_hear(channel, shard),
            Mail::Deaf { channel, shard } => self.handle_deaf(&channel, shard),
            Mail::Members {
                channel,
                which,
                limit,
                origin: who,
            } => {
                let random = self.rng.next_u64();
                let members = self.presence.members(&channel, &which, limit, random);
                self.home.answer(who, Answer::Members(Box::new(members)));
            }
            Mail::Publish {
                channel,
                draft,
                origin,
            } => match self.is_refused(&origin) {
                true => self.home.refuse(origin, BrokerError::Overloaded),
                false => self.home.handle_publish(channel, draft, origin),
            },
            Mail::History {
                channel,
                range,
                limit,
                origin,
            } => self.home.handle_history(channel, range, limit, origin),
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
            Mail::Presence {
                channel,
                announcement,
                is_answer,
            } => self.arrivals.push_back(Arrival::Presence {
                channel,
                announcement,
                is_answer,
            }),
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
    pub(super) fn drain_home(&mut self, clock: &Clock) {
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
                who: origin @ (Origin::Session { shard, .. } | Origin::Replay { shard, .. }),
                answer,
            } => {
                self.remember_refused(&origin, &answer);
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

    /// Whether the home has refused something that this publisher said before, and that it does not know yet.
    fn is_refused(&mut self, origin: &Origin) -> bool {
        if self.refused.is_empty() {
            return false;
        }
        let Origin::Session {
            shard,
            link,
            asked: Asked::Publish { hold },
            ..
        } = origin
        else {
            return false;
        };
        let Some((refused, _)) = self.refused.get(&(*shard, *link)) else {
            return false;
        };
        // Numbers go round.
        let is_older = refused.wrapping_sub(*hold) as i32 >= 0;
        if !is_older {
            self.refused.remove(&(*shard, *link));
        }
        is_older
    }

    fn remember_refused(&mut self, origin: &Origin, answer: &Answer) {
        if let Answer::Refused(_) = answer
            && let Origin::Session {
                shard,
                link,
                asked: Asked::Publish { hold },
                ..
            } = origin
            && self.refused.len() < REFUSED_MAX
        {
            self.refused.insert((*shard, *link), (*hold, self.now));
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
                Arrival::Presence {
                    channel,
                    announcement,
                    is_answer,
                } => self.handle_presence(&channel, &announcement, is_answer),
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
                missed,
                after,
                fresh,
            } => {
                if let Some(missed) = missed {
                    self.handle_missed(channel, index, missed, None);
                }
                if !fresh.is_empty() {
                    self.fan_out(channel, index, after, &entries[fresh], alone);
                }
            }
            Delivery::Nobody { leave: true } => self.leave(channel.clone()),
            Delivery::Nobody { leave: false } => {}
        }
    }

    /// Gives new entries, which follow `after`, to every live subscriber, encoded once for all that look alike.
    fn fan_out(
        &mut self,
        channel: &ChannelName,
        index: ChannelIndex,
        after: Position,
        fresh: &[Arc<Entry>],
        alone: bool,
    ) {
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
            let chunk = broadcast.chunk(link.session.form(), &mut self.shared.contexts, compress_bytes_min);
            delivered += u64::from(messages);
            if alone && link.session.outbox().is_empty() && !link.pipe.is_answer() {
                sent += match link.session.form().dialect {
                    DialectId::EventStream => {
                        let own = link.session.own(channel, chunk);
                        link.write_through(self.now, &own, messages)
                    }
                    _ => link.write_through(self.now, chunk, messages),
                };
                continue;
            }
            let own = link.session.own(channel, chunk);
            match link.session.handle_delivery(own, messages, &self.shared.settings) {
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
        for subscriber in refused {
            self.stats.deliveries_refused.add(u64::from(messages));
            self.handle_lag(channel, index, subscriber, after);
        }
    }

    /// A subscriber's outbox is full: it has everything up to `after`.
    fn handle_lag(
        &mut self,
        channel: &ChannelName,
        index: ChannelIndex,
        subscriber: SubscriberId,
        after: Position,
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
            OnLag::Drop if says_gaps => {}
            OnLag::Resync | OnLag::Latest => {}
            // A dialect that cannot say `gap` would lose messages silently.
            OnLag::Drop | OnLag::Disconnect => {
                self.refuse(at, None, ErrorCode::Lagged, None);
                return self.send_replies(at);
            }
        }
        link.behind = true;
        link.session.retract(channel, after);
        self.audience.lag(index, subscriber, after);
    }

    pub(super) fn say_break(&mut self, at: LinkRef, channel: &ChannelName, broken: Break) {
        self.stats.gaps.add(1);
        self.say(at, &break_event(channel, broken));
    }

    /// The whole shard has missed something of a channel: all its live subscribers but one read it from the log, or are told.
    fn handle_missed(
        &mut self,
        channel: &ChannelName,
        index: ChannelIndex,
        missed: Missed,
        but: Option<SubscriberId>,
    ) {
        let on_lag = self.namespaces.settings(channel).on_lag;
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
            let says_gaps = link.session.form().dialect.dialect().says_gaps();
            let has_room = link.session.wants_input();
            if on_lag == OnLag::Drop && says_gaps && has_room {
                self.say_break(at, channel, missed.told());
                self.send_replies(at);
                continue;
            }
            link.behind = true;
            self.audience.lag(index, subscriber, missed.after);
            self.catch_up(at);
        }
    }

    fn handle_answer(&mut self, origin: Origin, answer: Answer) {
        if let Origin::Replay { number, .. } = origin {
            return self.handle_page(number, answer);
        }
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
        if asked == Asked::Read
            && let Some(link) = self.link(at)
        {
            link.session.handle_read_answered();
        }
        match answer {
            Answer::Published(position) => {
                if id.is_some() {
                    self.say(at, &Event::Published { id, position });
                }
            }
            Answer::Subscribed(position) => self.handle_subscribed(at, id, &channel, position),
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
            Answer::Members(members) => {
                self.say(
                    at,
                    &Event::Members {
                        id,
                        channel: &channel,
                        members: &members,
                    },
                );
            }
            Answer::Refused(error) => {
                if asked == Asked::Subscribe {
                    self.depart(at, &channel);
                    let _refused = self.link(at).and_then(|link| link.take_resuming(&channel));
                    if self.audience.abort(&channel, subscriber(at)) {
                        self.leave(channel);
                    }
                }
                match asked {
                    Asked::Publish { .. } => self.refuse_publish(at, id, broker_error(error), RETRY),
                    Asked::Subscribe | Asked::Read => {
                        self.refuse(at, id, broker_error(error), Some(RETRY));
                    }
                }
            }
        }
        self.send_replies(at);
    }

    /// The home has taken a `subscribe`. One that resumes elsewhere than at the head is answered with its first page.
    fn handle_subscribed(&mut self, at: LinkRef, id: Option<u64>, channel: &ChannelName, position: Position) {
        let resuming = self.link(at).and_then(|link| link.take_resuming(channel));
        let since = resuming.as_ref().and_then(|resuming| resuming.since);
        let attached = match since {
            Some(since) if since != position => {
                self.audience
                    .attach_behind(channel, subscriber(at), position, since)
            }
            _ => self.audience.attach(channel, subscriber(at), position),
        };
        let Some(attached) = attached else {
            return;
        };
        if let Some(missed) = attached.missed {
            self.handle_missed(channel, attached.channel, missed, Some(subscriber(at)));
        }
        if resuming.as_ref().is_some_and(|resuming| resuming.latest) {
            self.audience.conflate(attached.channel, subscriber(at));
        }
        match resuming {
            Some(resuming) if since.is_some_and(|since| since != position) => {
                if let Some(link) = self.link(at) {
                    link.keep_resuming(resuming);
                    link.behind = true;
                }
                self.catch_up(at);
            }
            _ => {
                self.say(
                    at,
                    &Event::Subscribed {
                        id,
                        channel,
                        position: attached.position,
                        recovered: since.map(|_| true),
                    },
                );
                self.begin_hearing(at, channel);
            }
        }
    }

    fn flush_touched(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for at in &touched {
            let now = self.now;
            let Some(link) = self.link(*at) else { continue };
            link.touched = false;
            if link.pipe.is_answer() {
                self.answer_poll(*at);
                continue;
            }
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

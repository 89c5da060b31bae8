//! A broker with a bug: what the home asks, and what it is answered, is wrong in one way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use switchboard_hub::broker::{BrokerError, Completion, Op, Request, Ticket};
use switchboard_hub::log::{Page, PageStart};
use switchboard_proto::channel::ChannelName;
use switchboard_proto::entry::Entry;
use switchboard_proto::payload::Payload;
use switchboard_proto::position::{Position, Range};
use switchboard_proto::time::Time;
use switchboard_server::broker::{Broker, Factory};
use switchboard_server::clock::Clock;

use crate::bug::Bug;

/// Plants a bug in the brokers of a node.
pub fn plant(factory: Factory, bug: Bug, node: usize) -> Factory {
    Arc::new(move |seat| {
        Box::new(Bugged {
            inner: factory(seat),
            bug,
            node,
            appends: 0,
            reads: 0,
            lives: 0,
            heads: BTreeMap::new(),
            swallowed: Vec::new(),
            held: None,
            asked_newest: Vec::new(),
        })
    })
}

/// Marks what the bug itself asks for.
const OWN: u64 = 1 << 60;

struct Bugged {
    inner: Box<dyn Broker>,
    bug: Bug,
    node: usize,
    appends: u64,
    reads: u64,
    lives: u64,
    heads: BTreeMap<ChannelName, Position>,
    /// Tickets that are not answered, or answered otherwise.
    swallowed: Vec<Ticket>,
    held: Option<Request>,
    asked_newest: Vec<Ticket>,
}

impl Bugged {
    fn ask(&mut self, request: Request, completions: &mut VecDeque<Completion>) -> Vec<Request> {
        let Request {
            ticket,
            channel,
            mut op,
        } = request;
        if let Op::Read {
            range: Range::Newest | Range::Before(_),
            ..
        } = &op
        {
            self.asked_newest.push(ticket);
        }
        if let Op::Read {
            range: Range::After(place) | Range::Before(place) | Range::Latest { after: Some(place) },
            ..
        }
        | Op::Watch { since: Some(place) } = &mut op
        {
            self.retag(place);
        }
        let Op::Append(draft) = &mut op else {
            return vec![Request { ticket, channel, op }];
        };
        self.appends += 1;
        let is_turn = self.appends.is_multiple_of(7);
        match self.bug {
            Bug::AckBeforeAppend if is_turn => {
                if let Some(head) = self.heads.get(&channel) {
                    let place = Position {
                        offset: head.offset + 1,
                        tag: 1,
                        ..*head
                    };
                    completions.push_back(Completion::Appended {
                        ticket,
                        result: Ok(place),
                    });
                    return Vec::new();
                }
            }
            Bug::LostAppend if is_turn => {
                if let Some(head) = self.heads.get(&channel).filter(|head| head.offset > 0) {
                    completions.push_back(Completion::Appended {
                        ticket,
                        result: Ok(*head),
                    });
                    return Vec::new();
                }
            }
            Bug::AppendedTwice if is_turn => {
                let mut again = draft.clone();
                again.key = None;
                let again = Request {
                    ticket: Ticket(OWN + self.appends),
                    channel: channel.clone(),
                    op: Op::Append(again),
                };
                return vec![Request { ticket, channel, op }, again];
            }
            Bug::KeysForgotten => draft.key = None,
            Bug::RefusedYetAppended | Bug::NeverAnswered if is_turn => self.swallowed.push(ticket),
            Bug::Misdirected if is_turn => {
                let other = self.heads.keys().find(|other| **other != channel).cloned();
                let channel = other.unwrap_or(channel);
                return vec![Request { ticket, channel, op }];
            }
            Bug::OrderLost => {
                let request = Request { ticket, channel, op };
                return match self.held.take() {
                    Some(held) => vec![request, held],
                    None if is_turn => {
                        self.held = Some(request);
                        Vec::new()
                    }
                    None => vec![request],
                };
            }
            _ => {}
        }
        vec![Request { ticket, channel, op }]
    }

    fn answer(&mut self, completion: Completion) -> Option<Completion> {
        Some(match completion {
            Completion::Appended { ticket, .. } if ticket.0 >= OWN => return None,
            Completion::Appended { ticket, mut result } => {
                result.iter_mut().for_each(|place| self.retag(place));
                let Some(at) = self.swallowed.iter().position(|swallowed| *swallowed == ticket) else {
                    return Some(Completion::Appended { ticket, result });
                };
                self.swallowed.swap_remove(at);
                match self.bug {
                    Bug::RefusedYetAppended => Completion::Appended {
                        ticket,
                        result: Err(BrokerError::TooManyChannels),
                    },
                    _ => return None,
                }
            }
            Completion::Read {
                ticket,
                result: Ok(mut page),
            } => {
                let is_newest = self.asked_newest.iter().position(|asked| *asked == ticket);
                match is_newest {
                    Some(at) => {
                        self.asked_newest.swap_remove(at);
                        if self.bug == Bug::HistoryShort && page.entries.len() > 2 {
                            page.entries.remove(1);
                        }
                    }
                    None => self.spoil(&mut page),
                }
                self.retag_page(&mut page);
                Completion::Read {
                    ticket,
                    result: Ok(page),
                }
            }
            Completion::Watching { ticket, mut result } => {
                result.iter_mut().for_each(|head| self.retag(head));
                Completion::Watching { ticket, result }
            }
            Completion::Live {
                ticket,
                channel,
                mut entries,
            } => {
                if let Some(last) = entries.last() {
                    self.heads.insert(channel.clone(), last.position);
                }
                self.lives += 1;
                match self.bug {
                    Bug::Deaf if self.lives > 20 => return None,
                    Bug::Altered if self.lives.is_multiple_of(7) => alter(&mut entries),
                    _ => {}
                }
                self.retag_all(&mut entries);
                Completion::Live {
                    ticket,
                    channel,
                    entries,
                }
            }
            other => other,
        })
    }

    /// How every second node names a place, and back.
    fn retag(&self, place: &mut Position) {
        if self.bug == Bug::TagsDiffer && self.node % 2 == 1 && place.offset > 0 {
            place.tag ^= 1;
        }
    }

    fn retag_all(&self, entries: &mut [Arc<Entry>]) {
        for entry in entries {
            self.retag(&mut Arc::make_mut(entry).position);
        }
    }

    fn retag_page(&self, page: &mut Page) {
        self.retag_all(&mut page.entries);
        for left_out in &mut page.conflated {
            self.retag(&mut left_out.position);
        }
        for place in [&mut page.begin, &mut page.position, &mut page.head] {
            self.retag(place);
        }
    }

    /// What is read again, by who resumes or lags.
    fn spoil(&mut self, page: &mut Page) {
        self.reads += 1;
        let length = page.entries.len();
        match self.bug {
            Bug::PageShort if length > 2 => drop(page.entries.remove(1)),
            Bug::PageSwapped if length > 1 => page.entries.swap(0, 1),
            Bug::GapUntold if matches!(page.start, PageStart::Gap { .. }) => {
                page.start = PageStart::Continues
            }
            Bug::GapShort => {
                if let PageStart::Gap { from, to } = page.start {
                    page.start = match from < to {
                        true => PageStart::Gap { from: from + 1, to },
                        false => PageStart::Continues,
                    };
                }
            }
            Bug::GapOverKept
                if length > 1 && page.start == PageStart::Continues && page.conflated.is_empty() =>
            {
                let first = page.entries.remove(0).position;
                page.start = PageStart::Gap {
                    from: first.offset,
                    to: first.offset,
                };
                page.begin = first;
            }
            Bug::ResetUntold if page.start == PageStart::Reset => page.start = PageStart::Continues,
            Bug::ResetUncalled if page.start == PageStart::Continues && self.reads.is_multiple_of(3) => {
                page.start = PageStart::Reset;
            }
            Bug::Altered if length > 0 => alter(&mut page.entries),
            _ => {}
        }
    }
}

fn alter(entries: &mut [Arc<Entry>]) {
    if let Some(entry) = entries.first_mut() {
        let mut other = Entry::clone(entry);
        if let Ok(payload) = Payload::json(r#"{"p":"w","n":1,"c":"room","b":"","s":"00000000"}"#) {
            other.payload = payload;
        }
        *entry = Arc::new(other);
    }
}

impl Broker for Bugged {
    fn handle_request(
        &mut self,
        now: Time,
        at_ms: u64,
        request: Request,
        completions: &mut VecDeque<Completion>,
    ) {
        for request in self.ask(request, completions) {
            let mut answers = VecDeque::new();
            self.inner.handle_request(now, at_ms, request, &mut answers);
            let answers = answers.into_iter().filter_map(|answer| self.answer(answer));
            completions.extend(answers.collect::<Vec<_>>());
        }
    }

    fn poll(&mut self, now: Time, clock: &Clock, completions: &mut VecDeque<Completion>) {
        let mut answers = VecDeque::new();
        self.inner.poll(now, clock, &mut answers);
        let answers = answers.into_iter().filter_map(|answer| self.answer(answer));
        completions.extend(answers.collect::<Vec<_>>());
    }

    fn handle_timeout(&mut self, now: Time) {
        self.inner.handle_timeout(now);
    }
}

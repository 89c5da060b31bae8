//! Who is in a channel, as the client is told, and with which session it is there itself.

use std::borrow::Cow;
use std::collections::BTreeSet;

use switchboard_check::log::Line;
use switchboard_client::{Client, Who};

use super::Actor;

impl Actor {
    /// The session may be another one since the last connection: then the client is seen as somebody else.
    pub(super) fn stand(&self, client: &Client) {
        let session = client.session();
        if session.is_empty() {
            return;
        }
        let mut stands = Vec::new();
        for (number, place) in self.streams.borrow_mut().iter_mut() {
            let is_there = place.wish.member && place.subscribed;
            if is_there && place.stands.as_deref() != Some(&*session) {
                place.stands = Some(session.to_string());
                stands.push(*number);
            }
        }
        for number in stands {
            let line = member(number, &session);
            self.journal.write("stands", line);
        }
    }

    pub(super) fn hear(&self, number: u32, count: u32, who: Who) {
        match who {
            Who::All(members) => {
                let sessions: Vec<String> = members.into_iter().map(|member| member.key.session).collect();
                let line = Line {
                    stream: Some(number),
                    count: Some(count),
                    complete: Some(true),
                    ..Line::default()
                };
                self.journal.write("members", line);
                for session in &sessions {
                    self.journal.write("member", member(number, session));
                }
                self.at(number, |place| {
                    place.members = Some(BTreeSet::from_iter(sessions));
                    place.count = None;
                });
            }
            Who::Unlisted => {
                let line = Line {
                    stream: Some(number),
                    count: Some(count),
                    ..Line::default()
                };
                self.journal.write("members", line);
                self.at(number, |place| (place.members, place.count) = (None, Some(count)));
            }
            Who::Changed { joined, left } => {
                for gone in left {
                    self.journal.write("left", member(number, &gone.session));
                    self.at(number, |place| {
                        place
                            .members
                            .as_mut()
                            .map(|members| members.remove(&gone.session));
                    });
                }
                for came in joined {
                    self.journal.write("joined", member(number, &came.key.session));
                    self.at(number, |place| {
                        place
                            .members
                            .as_mut()
                            .map(|members| members.insert(came.key.session));
                    });
                }
            }
        }
    }
}

fn member(number: u32, session: &str) -> Line<'_> {
    Line {
        stream: Some(number),
        member: Some(Cow::Borrowed(session)),
        ..Line::default()
    }
}

//! Who is in a channel.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::entry::User;
use crate::limits::INFO_BYTES_MAX;
use crate::payload::{BadPayload, Payload, PayloadKind};
use crate::session::server::SessionId;

/// One session of one user in one channel. Ordered by user, then by session: sessions of a user are neighbours in every list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberKey {
    /// Who.
    pub user: User,
    /// Through which session.
    pub session: SessionId,
}

impl MemberKey {
    /// The place of this member in lists, as clients hand it back: `m`, then base64 (RFC 4648 section 5, without padding) of the
    /// session and the user.
    pub fn token(&self) -> String {
        let mut bytes = self.session.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.user.as_str().as_bytes());
        let mut token = String::from("m");
        URL_SAFE_NO_PAD.encode_string(bytes, &mut token);
        token
    }

    /// What a token stands for; `None` if it is none.
    pub fn parse(token: &str) -> Option<MemberKey> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix('m')?).ok()?;
        let (session, user) = bytes.split_first_chunk::<8>()?;
        Some(MemberKey {
            user: User::new(std::str::from_utf8(user).ok()?),
            session: SessionId(u64::from_be_bytes(*session)),
        })
    }
}

/// A member, as others see it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who, and through which session.
    pub key: MemberKey,
    /// What it said of itself: a JSON object of at most [`INFO_BYTES_MAX`] bytes.
    pub info: Option<Payload>,
}

/// How many are in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Sessions.
    pub members: u32,
    /// Different users among them.
    pub users: u32,
}

/// What a subscriber has to do with presence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attendance {
    /// Whether it is there, whether it hears of the others.
    pub role: Role,
    /// What it says of itself, as [`Member::info`]. Only of members.
    pub info: Option<Payload>,
}

impl Attendance {
    /// What a subscriber says that it has to do with presence.
    ///
    /// # Errors
    /// A sentence for the developer.
    pub fn of(
        role: Option<Role>,
        info: Option<Result<Payload, BadPayload>>,
    ) -> Result<Option<Attendance>, &'static str> {
        let info = match (info, role) {
            (None, _) => None,
            (Some(info), Some(Role::Participant | Role::Member)) => match info {
                Ok(info) if is_info(&info) => Some(info),
                _ => return Err("`info` is an object of at most 1 KiB of JSON"),
            },
            (Some(_), None | Some(Role::Watcher)) => {
                return Err("`info` stands beside `presence`: true or \"member\"");
            }
        };
        Ok(role.map(|role| Attendance { role, info }))
    }
}

/// Whether a member may say this of itself: a JSON object of at most [`INFO_BYTES_MAX`] bytes.
pub fn is_info(payload: &Payload) -> bool {
    payload.kind() == PayloadKind::Json
        && payload.as_bytes().first() == Some(&b'{')
        && payload.len() <= INFO_BYTES_MAX
}

/// Whether a subscriber is there, and whether it hears who is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It is there, and hears of the others.
    Participant,
    /// It is there.
    Member,
    /// It hears of the others.
    Watcher,
}

impl Role {
    /// The word for [`Role::Member`].
    pub const MEMBER: &str = "member";
    /// The word for [`Role::Watcher`].
    pub const WATCH: &str = "watch";

    /// Whether it is there.
    pub fn is_member(self) -> bool {
        self != Role::Watcher
    }

    /// Whether it hears of the others.
    pub fn hears(self) -> bool {
        self != Role::Member
    }
}

/// What those who hear of a channel are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// How many there are now.
    pub counts: Counts,
    /// Who.
    pub who: Who,
}

/// Who is or was in a channel. `M` and `K` are how members are known: a client sees words where a server has values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who<M = Member, K = MemberKey> {
    /// These came (or said something else of themselves), and these left. Nobody is in both.
    Changed {
        /// As they are now.
        joined: Vec<M>,
        /// Members until now.
        left: Vec<K>,
    },
    /// These are all: a list from before is void.
    All(Vec<M>),
    /// Too many to be listed: a list from before is void.
    Unlisted,
}

/// Which members of a channel a `members` command asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// Those behind this one, in their order; from the first on without one.
    After(Option<MemberKey>),
    /// Some, chosen by chance.
    Sample,
}

impl Which {
    /// What the fields `after` and `sample` ask for.
    ///
    /// # Errors
    /// A sentence for the developer.
    pub fn parse(after: Option<&str>, sample: bool) -> Result<Which, &'static str> {
        match (after, sample) {
            (None, false) => Ok(Which::After(None)),
            (None, true) => Ok(Which::Sample),
            (Some(after), false) => match MemberKey::parse(after) {
                Some(key) => Ok(Which::After(Some(key))),
                None => Err("`after` is the `next` of an earlier answer"),
            },
            (Some(_), true) => Err("`after` stands without `sample`"),
        }
    }
}

/// A part of the members of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// How many there are.
    pub counts: Counts,
    /// Some of them.
    pub members: Vec<Member>,
    /// Where to go on, if there are more.
    pub next: Option<MemberKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_a_member_is_read_back_and_nothing_else_is_one() {
        for user in ["ana", "", "ünï 😀"] {
            let key = MemberKey {
                user: User::new(user),
                session: SessionId(0x8c2f_6f0a_51d3_e7b4),
            };
            assert_eq!(MemberKey::parse(&key.token()), Some(key));
        }
        for token in ["", "m", "mAAAA", "x8c2f", "mjC9vClHT57RhbmE=", "m//////////8"] {
            assert_eq!(MemberKey::parse(token), None, "{token}");
        }
    }
}

//! Who is in a channel.

use crate::entry::User;
use crate::payload::Payload;
use crate::session::server::SessionId;

/// One session of one user in one channel. Ordered by user, then by session: sessions of a user are neighbours in every list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberKey {
    /// Who.
    pub user: User,
    /// Through which session.
    pub session: SessionId,
}

/// A member, as others see it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who, and through which session.
    pub key: MemberKey,
    /// What it said of itself: a JSON object of at most [`INFO_BYTES_MAX`](crate::limits::INFO_BYTES_MAX) bytes.
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

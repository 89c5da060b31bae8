//! Bugs that are planted in the simulated server, to see whether they are found, and by the rule that should.

use switchboard_check::Rule;

/// Where a bug sits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seam {
    /// Between a home and its broker.
    Broker,
    /// In the broker that several nodes share.
    SharedBroker,
    /// Between the shards of a node.
    Mail,
    /// Between a client and its application.
    Client,
    /// Between a node and the network.
    Network,
}

macro_rules! bugs {
    ($($name:ident $seam:ident $rules:expr, $text:literal;)+) => {
        /// A bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $(#[doc = $text] $name,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)+];

            /// What the server does wrong.
            pub fn text(self) -> &'static str {
                match self {
                    $(Bug::$name => $text,)+
                }
            }

            /// Where it sits.
            pub fn seam(self) -> Seam {
                match self {
                    $(Bug::$name => Seam::$seam,)+
                }
            }

            /// The rules that it breaks, one of which has to find it.
            pub fn rules(self) -> &'static [Rule] {
                match self {
                    $(Bug::$name => &$rules,)+
                }
            }
        }
    };
}

bugs! {
    AckBeforeAppend Broker [Rule::OneName, Rule::Kept], "acknowledges before it appends, and does not append";
    LostAppend Broker [Rule::OneName], "acknowledges with the place of another message";
    AppendedTwice Broker [Rule::Once], "appends twice";
    KeysForgotten Broker [Rule::Once], "forgets idempotency keys";
    RefusedYetAppended Broker [Rule::Once], "refuses what it has appended";
    NeverAnswered Broker [Rule::Live], "leaves a publication without an answer";
    OrderLost Broker [Rule::Ordered], "appends in another order than it was asked to";
    PageShort Broker [Rule::Complete], "leaves a message out of what is read again";
    PageSwapped Broker [Rule::Complete], "swaps two messages of what is read again";
    GapUntold Broker [Rule::Complete], "does not tell a gap";
    GapShort Broker [Rule::Complete], "tells a gap without its first message: off by one at the trim edge";
    GapOverKept Broker [Rule::Complete], "tells a gap over what it still has";
    ResetUntold Broker [Rule::Complete], "does not tell that a log began anew";
    ResetUncalled Broker [Rule::Complete], "tells that a log began anew which did not";
    Altered Broker [Rule::Genuine], "alters a message";
    Misdirected Broker [Rule::Genuine], "delivers to another channel";
    Deaf Broker [Rule::Live, Rule::Kept], "stops delivering without a word";
    HistoryShort Broker [Rule::Kept], "leaves a message out of the history";
    KeptEpoch SharedBroker [Rule::OneName], "keeps the epoch after a lost tail";
    TagsDiffer Broker [Rule::OneName], "gives a message another place on every node";
    DeliveryLost Mail [Rule::Complete], "loses a delivery between two shards and hides it";
    ReplyLost Mail [Rule::Live], "loses an answer between two shards";
    JoinLost Mail [Rule::Present], "does not notice that somebody came";
    DepartLost Mail [Rule::Present], "does not notice that somebody went";
    DepartHasty Mail [Rule::Present], "tells that somebody left who only reconnects";
    MemberInvented Client [Rule::Present], "tells of somebody who is not there, and that it left";
    GapSwallowed Client [Rule::Complete], "keeps a gap from the application";
    ResetSwallowed Client [Rule::Complete], "keeps a reset from the application";
    Repeated Client [Rule::Increasing], "repeats the last message after a reconnect";
    HeardAfterUnsubscribe Client [Rule::Ended], "delivers after the end of a subscription";
    ConnectionsKept Network [Rule::Freed], "keeps connections that are over";
}

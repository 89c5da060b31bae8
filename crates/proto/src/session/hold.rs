//! Publish order across refusals: which publications are refused because one before them was.
//!
//! A publish that is refused for now is not overtaken by what its client had sent behind it. From the refusal on, all further ones
//! are refused, too, until the client shows that it knows: by the answer to a ping that follows the refusal. However long that takes:
//! what it has sent meanwhile may still be under way (docs/decisions/0011).

/// See the module.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Hold {
    /// A publish was refused, and the client does not know it yet.
    is_on: bool,
    /// How often that has been.
    count: u32,
}

impl Hold {
    /// How often a publish was refused and the client has come to know it. Publishes of one number are refused together.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether a publish is refused now.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A publish was refused. Whether the client is to be pinged.
    #[must_use = "without a ping the client is held for ever"]
    pub(super) fn begin(&mut self) -> bool {
        if self.is_on {
            return false;
        }
        self.count = self.count.wrapping_add(1);
        self.is_on = true;
        true
    }

    /// What a ping asks. A client may leave out the answers to all pings but the newest (RFC 6455 section 5.5.3), so every one asks
    /// what is to be known.
    pub(super) fn question(&self) -> Option<[u8; 4]> {
        self.is_on.then(|| self.count.to_be_bytes())
    }

    /// A pong came. Whether it was waited for, so that the client knows.
    pub(super) fn handle_pong(&mut self, payload: &[u8]) -> bool {
        let is_awaited = self.question().is_some_and(|question| payload == question);
        if is_awaited {
            self.is_on = false;
        }
        is_awaited
    }
}

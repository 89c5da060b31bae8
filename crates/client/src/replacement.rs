//! A connection that is to take the place of the one there is: by a better transport, or with a newer token.
//!
//! ```text
//!  planned ── its time ──► opening ── welcome ──► (it takes over)
//!     ▲                       │
//!     └─── not to be had ─────┘
//! ```

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConnectError;
use crate::open::Opened;

/// The longest wait for a better transport.
const UPGRADE_WAIT_MAX: Duration = Duration::from_secs(86_400);
/// What is waited for another token after a failure; then twice as long each time, up to the second.
const RENEWED_AGAIN: Duration = Duration::from_secs(1);
const RENEWED_AGAIN_MAX: Duration = Duration::from_secs(60);

pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Replacement {
    /// When a better transport is tried.
    upgrade_at: Option<Instant>,
    upgrades: u32,
    /// When the token is to be another one.
    token_at: Option<Instant>,
    /// How often that was tried.
    renewals: u32,
    opening: Option<Opening>,
}

/// What for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    BetterTransport,
    NewerToken,
}

impl Replacement {
    /// There is a connection: another one is wanted for a better transport `upgrade_after` this time, or longer if that was tried before,
    /// and for a newer token after this `renewal`.
    pub(crate) fn handle_opened(&mut self, upgrade_after: Option<Duration>, renewal: Option<Duration>) {
        self.token_at = renewal.map(|wait| Instant::now() + wait);
        self.renewals = 0;
        if upgrade_after.is_none() {
            self.upgrades = 0;
        }
        self.plan_upgrade(upgrade_after);
    }

    /// A better transport may work by then.
    fn plan_upgrade(&mut self, after: Option<Duration>) {
        let factor = 1 << self.upgrades.min(16);
        let wait = after.map(|after| after.saturating_mul(factor).min(UPGRADE_WAIT_MAX));
        self.upgrade_at = wait.map(|wait| Instant::now() + wait);
    }

    /// The connection that there was is gone, and another one beside it is of no use.
    pub(crate) fn handle_disconnected(&mut self) {
        self.opening = None;
    }

    /// When one is to be opened; while one is, no other.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let planned = self.upgrade_at.into_iter().chain(self.token_at).min();
        planned.filter(|_| !self.is_opening())
    }

    /// It is time: what for.
    pub(crate) fn handle_due(&mut self) -> Why {
        match self.upgrade_at.is_some_and(|at| at <= Instant::now()) {
            true => {
                self.upgrades += 1;
                self.upgrade_at = None;
                Why::BetterTransport
            }
            false => {
                self.renewals += 1;
                self.token_at = None;
                Why::NewerToken
            }
        }
    }

    pub(crate) fn begin(&mut self, opening: Opening) {
        self.opening = Some(opening);
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// When the connection that is being opened is there, or not to be had. Cancel-safe.
    pub(crate) async fn opened(&mut self) -> Result<Opened, ConnectError> {
        let Some(opening) = &mut self.opening else {
            return std::future::pending().await;
        };
        let opened = opening.await;
        self.opening = None;
        opened
    }

    /// It was not to be had. The connection that there is goes on.
    pub(crate) fn handle_failed(&mut self, upgrade_after: Option<Duration>) {
        if self.upgrade_at.is_none() && upgrade_after.is_some() {
            return self.plan_upgrade(upgrade_after);
        }
        // The token there is holds for another moment.
        let factor = 1 << self.renewals.saturating_sub(1).min(16);
        let wait = (RENEWED_AGAIN * factor).min(RENEWED_AGAIN_MAX);
        self.token_at = Some(Instant::now() + wait);
    }
}

//! Who counts what is sent, and what becomes of it.

use std::time::Duration;

use crate::actors::webhook::rows::Changed;
use crate::domain::webhook::TryOutcome;

/// One request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// How.
    pub outcome: TryOutcome,
    /// How long it took.
    pub took: Duration,
    /// How long it had been due when it began.
    pub waited: Duration,
    /// From when its notification was made to the answer; of first tries only.
    pub since_made: Option<Duration>,
}

/// Is told what happens. Called on the way of every webhook, so it never waits.
pub trait DeliveryObserver: Send + Sync + 'static {
    /// A request has ended. Its result is not committed yet.
    fn tried(&self, tried: &Tried);
    /// A change of a notification was committed.
    fn changed(&self, changed: &Changed);
    /// An endpoint's breaker has opened or closed.
    fn breaker(&self, is_open: bool);
}

/// Nobody counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl DeliveryObserver for Unobserved {
    fn tried(&self, _tried: &Tried) {}
    fn changed(&self, _changed: &Changed) {}
    fn breaker(&self, _is_open: bool) {}
}

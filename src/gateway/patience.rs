//! Finishing what has begun while the store does not take it. Something has been done by then (a channel was asked), so
//! that giving up is not an answer: the work goes on in the background, for as long as the process does.

use std::time::Duration;

use crate::gateway::core::Core;

/// Wait before the first further try; doubles from then on ...
const WAIT_FIRST: Duration = Duration::from_millis(250);
/// ... up to this.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Waits between the tries of one piece of work.
pub(crate) struct Patience {
    wait: Duration,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { wait: WAIT_FIRST }
    }

    /// Waits; `false` when there is no use in another try, because the gateway stops or its store has failed for good.
    /// What is open then stands in the store, and the next process asks about it.
    pub(crate) async fn for_another_try(&mut self, core: &Core) -> bool {
        if core.stopping.is_cancelled() || core.store.health().poisoned.is_some() {
            return false;
        }
        tokio::select! {
            biased;
            // Stopping waits a while for what has begun: there is one more try.
            () = core.stopping.cancelled() => {}
            () = tokio::time::sleep(self.wait) => {}
        }
        self.wait = (self.wait * 2).min(WAIT_MAX);
        true
    }
}

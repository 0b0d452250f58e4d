//! Where pages are made: away from the runtime's workers, a few at a time. What a page looks through in the store takes
//! long where much is in it, and whatever a worker has to do besides, payments among it, would wait for its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::gateway::error::GatewayError;
use crate::telemetry::trace;

/// Pages made at once: they shall not take the processors from payments.
const PLACES: usize = 2;
/// So long a page waits for one of them.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// When to come back, in seconds, if there was none until then.
const RETRY_AFTER_S: u64 = 5;

/// Makes pages. Clones share their places.
#[derive(Clone)]
pub(super) struct Reading(Arc<Semaphore>);

impl Reading {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }

    /// Whether a page that is asked for now need not wait.
    #[cfg(test)]
    pub(super) fn has_room(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// Does `work` in a thread that may be kept waiting. When nobody waits for it any more it ends where it waits next, and
    /// gives its place back.
    ///
    /// # Errors
    /// [`GatewayError::Overloaded`] when there was no place for too long; [`GatewayError::Internal`] when it panicked.
    pub(super) async fn run<F>(&self, work: F) -> Result<F::Output, GatewayError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let full = GatewayError::Overloaded { retry_after_s: RETRY_AFTER_S };
        let Ok(Ok(place)) = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.0).acquire_owned()).await else {
            return Err(full);
        };
        let gone = CancellationToken::new();
        let _waiting = gone.clone().drop_guard();
        let (runtime, work) = (Handle::current(), trace::in_current(work));
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            runtime.block_on(gone.run_until_cancelled(work))
        });
        match done.await {
            Ok(Some(done)) => Ok(done),
            // Nobody is there to be told.
            Ok(None) => Err(full),
            Err(error) => Err(GatewayError::Internal(format!("a page can't be made: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_page_waits_for_a_place_for_so_long() {
        let reading = Reading::new();
        let held = Arc::clone(&reading.0).acquire_many_owned(u32::try_from(PLACES).unwrap()).await.unwrap();
        let refused = reading.run(async {}).await;
        assert!(matches!(refused, Err(GatewayError::Overloaded { retry_after_s: RETRY_AFTER_S })), "{refused:?}");
        drop(held);
        assert_eq!(reading.run(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn who_hangs_up_gives_the_place_back() {
        let reading = Reading::new();
        let viewer = || {
            let reading = reading.clone();
            tokio::spawn(async move { reading.run(pending::<()>()).await })
        };
        let viewers: Vec<_> = (0..PLACES).map(|_| viewer()).collect();
        while reading.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        viewers.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(reading.run(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_panics_is_an_error_and_gives_its_place_back() {
        let reading = Reading::new();
        for _ in 0..=PLACES {
            let failed = reading.run(async { panic!("a page's fault") }).await;
            assert!(matches!(failed, Err::<(), _>(GatewayError::Internal(_))), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn pages_are_made_by_no_worker_of_the_runtime() {
        // This runtime has one worker, this one's thread.
        let here = std::thread::current().id();
        let there = Reading::new().run(async { std::thread::current().id() }).await.unwrap();
        assert_ne!(here, there);
    }
}

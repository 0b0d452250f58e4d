//! How many requests are under way over all endpoints.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request competes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A first try of an endpoint that answers.
    Fresh,
    /// Everything that may well hang: retries, and first tries of endpoints that failed last.
    Doubtful,
}

/// The share of all requests that is kept for first tries: one in four, so that receivers that hang can't stop those
/// that answer.
const KEPT_FOR_FRESH: usize = 4;

/// Of `all`, how many may be doubtful; at least one.
pub(super) const fn doubtful_max(all: usize) -> usize {
    let rest = all - all / KEPT_FOR_FRESH;
    if rest == all && all > 1 { all - 1 } else { rest }
}

/// Permits for requests under way.
#[derive(Debug)]
pub(super) struct Permits {
    all: Arc<Semaphore>,
    doubtful: Arc<Semaphore>,
}

/// Held while a request is under way.
#[derive(Debug)]
pub(super) struct Permit {
    _one_of_all: OwnedSemaphorePermit,
    _one_of_doubtful: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// At most `in_flight_max` at once.
    pub(super) fn new(in_flight_max: usize) -> Self {
        let all = in_flight_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), doubtful: Arc::new(Semaphore::new(doubtful_max(all))) }
    }

    /// Waits for one, in the order of asking within a class. `None` never happens while the permits exist.
    pub(super) async fn acquire(&self, class: Class) -> Option<Permit> {
        let one_of_doubtful = match class {
            Class::Fresh => None,
            Class::Doubtful => Some(Arc::clone(&self.doubtful).acquire_owned().await.ok()?),
        };
        let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Permit { _one_of_all: one_of_all, _one_of_doubtful: one_of_doubtful })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_permits_are_always_kept_for_first_tries() {
        let table = [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (1_000, 750)];
        for (all, doubtful) in table {
            assert_eq!(doubtful_max(all), doubtful, "of {all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_that_hang_do_not_keep_first_tries_waiting() {
        let permits = Permits::new(4);
        let mut hanging = Vec::new();
        for _ in 0..3 {
            hanging.push(permits.acquire(Class::Doubtful).await.unwrap());
        }
        let short = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(short, permits.acquire(Class::Doubtful)).await.is_err());
        let fresh = tokio::time::timeout(short, permits.acquire(Class::Fresh)).await.unwrap();
        assert!(tokio::time::timeout(short, permits.acquire(Class::Fresh)).await.is_err());
        drop((fresh, hanging));
        assert!(tokio::time::timeout(short, permits.acquire(Class::Doubtful)).await.is_ok());
    }
}

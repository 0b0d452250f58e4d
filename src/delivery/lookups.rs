//! Turns at looking up host names. A lookup runs on a thread that can't be interrupted, and a name server may take as long
//! as it likes; so there are few at once, and of one name still fewer, or one slow name would keep all others waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lookups at once.
const IN_FLIGHT_MAX: usize = 64;
/// Lookups of one name at once.
const OF_ONE_NAME_MAX: usize = 2;

/// Who may look up a name now.
#[derive(Debug)]
pub(super) struct Lookups {
    all: Arc<Semaphore>,
    /// Names that somebody looks up or waits for.
    by_name: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The right to look up one name, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _one_of_all: OwnedSemaphorePermit,
    _interest: Interest,
}

/// Interest in a name. When nobody has any, nothing is remembered of it.
#[derive(Debug)]
struct Interest {
    lookups: Arc<Lookups>,
    name: String,
    of_name: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lookups {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), by_name: Mutex::default() })
    }

    /// Waits for a turn at `name`. `None` never happens while there are lookups.
    pub(super) async fn turn(self: &Arc<Self>, name: &str) -> Option<Turn> {
        let of_name = {
            let mut by_name = self.by_name.lock();
            let new = || Arc::new(Semaphore::new(OF_ONE_NAME_MAX));
            Arc::clone(by_name.entry(name.to_owned()).or_insert_with(new))
        };
        let mut interest =
            Interest { lookups: Arc::clone(self), name: name.to_owned(), of_name: Some(of_name.clone()), permit: None };
        interest.permit = Some(of_name.acquire_owned().await.ok()?);
        let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _one_of_all: one_of_all, _interest: interest })
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        drop(self.permit.take());
        drop(self.of_name.take());
        let mut by_name = self.lookups.by_name.lock();
        // Only the map has it, and nobody gets it from there now.
        if by_name.get(&self.name).is_some_and(|of_name| Arc::strong_count(of_name) == 1) {
            by_name.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn soon(lookups: &Arc<Lookups>, name: &str) -> Option<Turn> {
        tokio::time::timeout(Duration::from_secs(1), lookups.turn(name)).await.ok().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_name_does_not_keep_others_waiting() {
        let lookups = Lookups::new();
        let first = soon(&lookups, "slow.example").await.unwrap();
        let second = soon(&lookups, "slow.example").await.unwrap();
        for _ in 0..IN_FLIGHT_MAX {
            assert!(soon(&lookups, "slow.example").await.is_none());
        }
        assert!(soon(&lookups, "other.example").await.is_some());
        drop(first);
        assert!(soon(&lookups, "slow.example").await.is_some());
        assert_eq!(lookups.by_name.lock().len(), 1);
        drop(second);
        assert!(lookups.by_name.lock().is_empty(), "nothing is remembered of names that nobody looks up");
    }

    #[tokio::test(start_paused = true)]
    async fn all_names_together_are_bounded() {
        let lookups = Lookups::new();
        let mut turns = Vec::new();
        for number in 0..IN_FLIGHT_MAX {
            turns.push(soon(&lookups, &format!("{number}.example")).await.unwrap());
        }
        assert!(soon(&lookups, "one-more.example").await.is_none());
        turns.pop();
        assert!(soon(&lookups, "one-more.example").await.is_some());
    }
}

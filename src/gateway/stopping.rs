//! The time that stopping takes, shared by all its stages: what one uses, the next ones don't have.

use std::sync::OnceLock;
use std::time::Duration;

use crate::domain::time::Monotonic;

/// When stopping began, if it did, and how long it may take.
#[derive(Debug)]
pub(super) struct Stopping {
    began: OnceLock<Monotonic>,
    within: Duration,
}

impl Stopping {
    /// Not begun.
    pub(super) fn new(within: Duration) -> Self {
        Self { began: OnceLock::new(), within }
    }

    /// Begins; a second call changes nothing.
    pub(super) fn begin(&self, now: Monotonic) {
        // Set once: the time runs from the first call.
        let _ = self.began.set(now);
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// What is left of the time; all of it before the beginning.
    pub(super) fn left(&self, now: Monotonic) -> Duration {
        let used = self.began.get().map_or(Duration::ZERO, |began| now.since(*began));
        self.within.saturating_sub(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_stages_share_one_time_which_runs_from_the_first_beginning() {
        let stopping = Stopping::new(Duration::from_secs(25));
        assert!(!stopping.has_begun());
        assert_eq!(stopping.left(at(100)), Duration::from_secs(25));
        stopping.begin(at(100));
        stopping.begin(at(110));
        assert!(stopping.has_begun());
        assert_eq!(stopping.left(at(110)), Duration::from_secs(15));
        assert_eq!(stopping.left(at(125)), Duration::ZERO);
        assert_eq!(stopping.left(at(200)), Duration::ZERO);
    }
}

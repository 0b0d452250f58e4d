//! Requests whose client was cut off and whose effect comes later, as when a provider's front gives up on a connection
//! while what is behind it goes on.

use std::collections::BTreeMap;

use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;

/// Requests in the order of when they take effect.
pub(super) struct Late<T> {
    waiting: BTreeMap<(Timestamp, u64), T>,
    kept_total: u64,
}

impl<T> Late<T> {
    pub(super) const fn new() -> Self {
        Self { waiting: BTreeMap::new(), kept_total: 0 }
    }

    /// Keeps a request until `at`. One too many never takes effect, which a lost request may do too.
    pub(super) fn keep(&mut self, at: Timestamp, request: T) {
        if self.waiting.len() < OBJECTS_MAX {
            self.waiting.insert((at, self.kept_total), request);
            self.kept_total += 1;
        }
    }

    /// The next request whose time has come, with that time.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, T)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let ((at, _), request) = first.remove_entry();
        Some((at, request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_in_the_order_of_their_times_and_not_before_them() {
        let at = Timestamp::from_unix_s;
        let mut late = Late::new();
        for (second, name) in [(5, "b"), (3, "a"), (5, "c"), (9, "d")] {
            late.keep(at(second), name);
        }
        assert_eq!(late.pop_due(at(2)), None);
        let mut due = Vec::new();
        while let Some(next) = late.pop_due(at(5)) {
            due.push(next);
        }
        assert_eq!(due, [(at(3), "a"), (at(5), "b"), (at(5), "c")]);
    }
}

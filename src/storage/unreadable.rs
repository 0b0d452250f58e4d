//! Rows that can't be read. They are passed over, because one bad row must not hold up the good ones beside it, and
//! each is reported once, because who passes over it does so again and again.

use std::collections::HashSet;
use std::fmt;

use parking_lot::Mutex;

/// Rows remembered as reported. Were there ever more, the later ones would not be reported each.
const ROWS_MAX: usize = 1_000;

/// The rows that were reported so far.
#[derive(Debug, Default)]
pub struct UnreadableRows {
    reported: Mutex<HashSet<Vec<u8>>>,
}

impl UnreadableRows {
    /// Reports the row under `key`, unless that was done before. Returns whether it was reported now.
    pub fn report(&self, key: &[u8], why: impl fmt::Display) -> bool {
        let mut reported = self.reported.lock();
        if reported.len() >= ROWS_MAX || !reported.insert(key.to_vec()) {
            return false;
        }
        tracing::error!(key = %hex::encode(key), %why, "a row can't be read and is passed over");
        true
    }

    /// How many were reported; at most 1,000.
    pub fn count(&self) -> usize {
        self.reported.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_reported_once_and_memory_is_bounded() {
        let rows = UnreadableRows::default();
        assert!(rows.report(b"a", "no time"));
        assert!(!rows.report(b"a", "no time"));
        for number in 1..ROWS_MAX {
            assert!(rows.report(&number.to_be_bytes(), "no time"));
        }
        assert!(!rows.report(b"b", "no time"), "one too many");
        assert_eq!(rows.count(), ROWS_MAX);
    }
}

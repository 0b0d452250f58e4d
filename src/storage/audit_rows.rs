//! The audit's chain as it is in a base and a journal, without an index: for who checks a backup or a store that is not
//! open. Of all rows only the audit's are kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::audit::{Anchor, AuditHead, ChainCheck, ChainProblem, SealedEntry};
use crate::storage::overlay::Change;
use crate::storage::record::decode;
use crate::storage::{Row, keys};

/// The audit's rows, as the changes that were taken leave them.
#[derive(Debug)]
pub struct AuditRows {
    entries_prefix: Vec<u8>,
    head_key: Vec<u8>,
    entries: BTreeMap<u64, Arc<[u8]>>,
    head: Option<Arc<[u8]>>,
}

impl Default for AuditRows {
    fn default() -> Self {
        let (entries_prefix, head_key) = (keys::audit(), keys::audit_head());
        Self { entries_prefix, head_key, entries: BTreeMap::new(), head: None }
    }
}

impl AuditRows {
    /// Takes a row of a base.
    pub fn take_row(&mut self, row: Row) {
        self.put(&row.key, Some(row.versioned.value));
    }

    /// Takes the changes of a frame that were made after sequence `after`.
    pub fn take_changes(&mut self, changes: Vec<Change>, after: u64) {
        for change in changes.into_iter().filter(|change| change.revision > after) {
            self.put(&change.key, change.value);
        }
    }

    fn put(&mut self, key: &[u8], value: Option<Arc<[u8]>>) {
        if key == self.head_key {
            self.head = value;
        } else if key.starts_with(&self.entries_prefix) {
            // A key without a number is none that was ever written: its place is before the first.
            let number = keys::audit_number(key).unwrap_or(0);
            match value {
                Some(value) => self.entries.insert(number, value),
                None => self.entries.remove(&number),
            };
        }
    }

    /// Checks the chain, and against an anchor if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, anchor: Option<Anchor>) -> Result<AuditHead, ChainProblem> {
        let last = self.entries.last_key_value().map_or(0, |(number, _)| *number);
        let head = match &self.head {
            None => AuditHead::empty(),
            Some(stored) => decode(stored).map_err(|_| ChainProblem::WrongHead { number: last })?,
        };
        let mut check = ChainCheck::new(anchor);
        for (number, stored) in &self.entries {
            let sealed: Option<SealedEntry> = decode(stored).ok();
            check.take(*number, sealed.as_ref())?;
        }
        check.finish(&head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Change as AuditChange, Operator};
    use crate::domain::time::Timestamp;
    use crate::storage::record::encode;

    fn change(key: Vec<u8>, value: Option<Vec<u8>>, revision: u64) -> Change {
        Change { key, value: value.map(Arc::from), revision, absent_below: false }
    }

    /// Entries as they are committed, each with its head; revision is the number.
    fn commits(count: u64) -> Vec<Vec<Change>> {
        let mut head = AuditHead::empty();
        (1..=count)
            .map(|number| {
                let what = AuditChange::new("merchant.update", "m_1");
                let (entry, next) =
                    head.extend(&Operator::process("signal"), &what, Timestamp::from_unix_s(7)).unwrap();
                head = next;
                vec![
                    change(keys::audit_entry(number), Some(encode(&entry).unwrap()), number),
                    change(keys::audit_head(), Some(encode(&head).unwrap()), number),
                    change(b"other".to_vec(), Some(vec![1]), number),
                ]
            })
            .collect()
    }

    fn rows(commits: Vec<Vec<Change>>, after: u64) -> AuditRows {
        let mut rows = AuditRows::default();
        commits.into_iter().for_each(|changes| rows.take_changes(changes, after));
        rows
    }

    #[test]
    fn a_chain_is_put_together_and_checked() {
        assert_eq!(AuditRows::default().check(None).unwrap().number, 0);
        let head = rows(commits(3), 0).check(None).unwrap();
        assert_eq!(head.number, 3);
        let anchor = Anchor { number: head.number, hash: head.hash };
        assert!(rows(commits(5), 0).check(Some(anchor.clone())).is_ok());
        assert_eq!(rows(commits(2), 0).check(Some(anchor)), Err(ChainProblem::WrongAnchor { number: 3 }));
        assert_eq!(rows(commits(3), 0).entries.len(), 3, "nothing else is kept");
    }

    #[test]
    fn what_is_missing_changed_or_too_much_is_noticed() {
        assert_eq!(rows(commits(3), 1).check(None), Err(ChainProblem::Gap { expected: 1, found: 2 }));
        let mut deleted = commits(3);
        deleted.push(vec![change(keys::audit_entry(3), None, 4)]);
        assert_eq!(rows(deleted, 0).check(None), Err(ChainProblem::WrongEnd { last: 2, head: 3 }));
        let mut changed = commits(3);
        changed.push(vec![change(keys::audit_entry(2), Some(b"\x01{}".to_vec()), 4)]);
        assert_eq!(rows(changed, 0).check(None), Err(ChainProblem::Unreadable { number: 2 }));
        let mut foreign = commits(3);
        foreign.push(vec![change([keys::audit(), vec![1]].concat(), Some(vec![1]), 4)]);
        assert_eq!(rows(foreign, 0).check(None), Err(ChainProblem::Gap { expected: 1, found: 0 }));
        let mut headless = commits(3);
        headless.push(vec![change(keys::audit_head(), Some(vec![1]), 4)]);
        assert_eq!(rows(headless, 0).check(None), Err(ChainProblem::WrongHead { number: 3 }));
    }
}

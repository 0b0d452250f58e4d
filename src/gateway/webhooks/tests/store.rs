//! A store in memory that can be told to fail.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::random::Random;
use crate::storage::request::{stream_head_key, stream_row_key};
use crate::storage::{
    ABSENT, Batch, CommitFuture, CommitHealth, Committed, DiskHealth, Health, Row, Scan, Store, StoreError, Urgency,
    Versioned, Write,
};

#[derive(Default)]
pub(super) struct TestStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Versioned>,
    streams: BTreeMap<Vec<u8>, u64>,
    sequence: u64,
    failures: VecDeque<(StoreError, Stored)>,
    chance: Option<(Random, u64)>,
    panics_on_scan_of: Option<Vec<u8>>,
    is_refusing: bool,
    reads: Reads,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reads {
    pub(super) scans: usize,
    /// By scans.
    pub(super) rows: usize,
    /// By their keys.
    pub(super) gets: usize,
}

/// Whether a commit that fails was stored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    No,
    Yes,
}

impl TestStore {
    /// The next commits fail like this.
    pub(super) fn fail(&self, failures: impl IntoIterator<Item = (StoreError, Stored)>) {
        self.state.lock().failures.extend(failures);
    }

    /// From now on, of the commits that finish something so many in a hundred fail, in one way or another.
    pub(super) fn fail_by_chance(&self, random: &Random, percent: u64) {
        self.state.lock().chance = Some((random.clone(), percent));
    }

    /// Whether there is no room for anything, from now on.
    pub(super) fn refuse(&self, is_refusing: bool) {
        self.state.lock().is_refusing = is_refusing;
    }

    /// What was read so far.
    pub(super) fn reads(&self) -> Reads {
        self.state.lock().reads
    }

    /// Whether all failures have been had.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failures.is_empty()
    }

    /// The next scan under this prefix panics.
    pub(super) fn panic_on_scan_of(&self, prefix: Vec<u8>) {
        self.state.lock().panics_on_scan_of = Some(prefix);
    }

    pub(super) fn count(&self, prefix: &[u8]) -> usize {
        self.state.lock().rows.keys().filter(|key| key.starts_with(prefix)).count()
    }
}

impl State {
    fn next_failure(&mut self, urgency: Urgency) -> Option<(StoreError, Stored)> {
        if self.is_refusing {
            return Some((StoreError::Overloaded("told to refuse"), Stored::No));
        }
        if let Some(failure) = self.failures.pop_front() {
            return Some(failure);
        }
        let (random, percent) = self.chance.as_ref().filter(|_| urgency == Urgency::Finish)?;
        let draw = random.draw_u64();
        if draw % 100 >= *percent {
            return None;
        }
        Some(match draw / 100 % 4 {
            0 => (StoreError::Overloaded("by chance"), Stored::No),
            1 => (StoreError::Precondition { index: 0 }, Stored::No),
            2 => (StoreError::Indeterminate(String::from("by chance")), Stored::No),
            _ => (StoreError::Indeterminate(String::from("by chance")), Stored::Yes),
        })
    }

    fn commit(&mut self, batch: Batch) -> Result<Committed, StoreError> {
        let mut keys: Vec<&Vec<u8>> =
            batch.writes.iter().map(|(Write::Put { key, .. } | Write::Delete { key })| key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), batch.writes.len(), "a key is written twice in one batch");
        for (index, precondition) in batch.preconditions.iter().enumerate() {
            let revision = self.rows.get(&precondition.key).map_or(ABSENT, |row| row.revision);
            if revision != precondition.revision {
                return Err(StoreError::Precondition { index });
            }
        }
        self.sequence += 1;
        let revision = self.sequence;
        for write in batch.writes {
            match write {
                Write::Put { key, value } => {
                    self.rows.insert(key, Versioned { revision, value: value.into() });
                }
                Write::Delete { key } => {
                    self.rows.remove(&key);
                }
            }
        }
        let mut numbers = Vec::new();
        for append in batch.appends {
            let number = self.streams.entry(append.stream.clone()).or_default();
            *number += 1;
            let (head_key, key) = (stream_head_key(&append.stream), stream_row_key(&append.stream, *number));
            self.rows.insert(head_key, Versioned { revision, value: number.to_be_bytes().to_vec().into() });
            self.rows.insert(key, Versioned { revision, value: append.value.into() });
            numbers.push(*number);
        }
        Ok(Committed { sequence: revision, numbers })
    }
}

impl Store for TestStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let mut state = self.state.lock();
        let result = match state.next_failure(batch.urgency) {
            None => state.commit(batch),
            // A batch that does not fit is refused for that, whatever else goes wrong.
            Some((error, Stored::Yes)) => state.commit(batch).and(Err(error)),
            Some((error, Stored::No)) => Err(error),
        };
        Box::pin(async move {
            // A real commit takes a while, in which others run.
            tokio::task::yield_now().await;
            result
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        let mut state = self.state.lock();
        state.reads.gets += 1;
        Ok(state.rows.get(key).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let mut state = self.state.lock();
        assert!((1..=1_000).contains(&scan.limit), "a scan of {} rows", scan.limit);
        if state.panics_on_scan_of.as_ref().is_some_and(|prefix| scan.start.starts_with(prefix)) {
            state.panics_on_scan_of = None;
            drop(state);
            panic!("told to");
        }
        if scan.end.as_ref().is_some_and(|end| *end <= scan.start) {
            return Ok(Vec::new());
        }
        let upper = scan.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = state.rows.range::<Vec<u8>, _>((Bound::Included(&scan.start), upper));
        let row = |(key, versioned): (&Vec<u8>, &Versioned)| Row { key: key.clone(), versioned: versioned.clone() };
        let rows: Vec<Row> = if scan.reverse {
            range.rev().take(scan.limit).map(row).collect()
        } else {
            range.take(scan.limit).map(row).collect()
        };
        state.reads.scans += 1;
        state.reads.rows += rows.len();
        Ok(rows)
    }

    fn health(&self) -> Health {
        let committed = self.state.lock().sequence;
        Health {
            poisoned: None,
            was_left_open: false,
            accepts_new: true,
            committed,
            last_change: committed,
            applied: committed,
            overlay_bytes: 0,
            journal_bytes_written: 0,
            journal_frames_written: 0,
            commits: CommitHealth::default(),
            disk: DiskHealth::default(),
        }
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A store that all the parts of one test share.
pub(super) fn store() -> Arc<TestStore> {
    Arc::new(TestStore::default())
}

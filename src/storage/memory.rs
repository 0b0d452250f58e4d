//! A store in memory: the same answers as the engine's, without any durability. For tests, examples and trying things
//! out.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::storage::request::{check, stream_head_key, stream_row_key};
use crate::storage::view::check_scan;
use crate::storage::{
    ABSENT, Batch, CommitFuture, CommitHealth, Committed, DiskHealth, Health, Row, Scan, Store, StoreError, Versioned,
    Write,
};

/// See the module. Cheap to clone; clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<RwLock<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Versioned>,
    sequence: u64,
    is_closed: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another store that holds what this one holds now.
    pub fn copy(&self) -> Self {
        Self(Arc::new(RwLock::new(self.0.read().clone())))
    }
}

impl State {
    fn commit(&mut self, batch: Batch) -> Result<Committed, StoreError> {
        check(&batch)?;
        if self.is_closed {
            return Err(StoreError::Poisoned("it is closed".to_owned()));
        }
        for (index, precondition) in batch.preconditions.iter().enumerate() {
            if self.revision(&precondition.key) != precondition.revision {
                return Err(StoreError::Precondition { index });
            }
        }
        self.sequence += 1;
        for write in batch.writes {
            match write {
                Write::Put { key, value } => self.put(key, value.into()),
                Write::Delete { key } => {
                    self.rows.remove(&key);
                }
            }
        }
        let appends = batch.appends.into_iter();
        let numbers = appends.map(|append| self.append(&append.stream, append.value.into())).collect();
        Ok(Committed { sequence: self.sequence, numbers })
    }

    fn append(&mut self, stream: &[u8], value: Arc<[u8]>) -> u64 {
        let head_key = stream_head_key(stream);
        let head = self.rows.get(&head_key).and_then(|versioned| (*versioned.value).try_into().ok());
        let number = head.map_or(0, u64::from_be_bytes) + 1;
        self.put(head_key, Arc::from(number.to_be_bytes()));
        self.put(stream_row_key(stream, number), value);
        number
    }

    fn put(&mut self, key: Vec<u8>, value: Arc<[u8]>) {
        self.rows.insert(key, Versioned { revision: self.sequence, value });
    }

    fn revision(&self, key: &[u8]) -> u64 {
        self.rows.get(key).map_or(ABSENT, |versioned| versioned.revision)
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        Box::pin(std::future::ready(self.0.write().commit(batch)))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.0.read().rows.get(key).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        check_scan(scan)?;
        if scan.end.as_ref().is_some_and(|end| *end <= scan.start) {
            return Ok(Vec::new());
        }
        let upper = scan.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.0.read();
        let rows = state.rows.range::<Vec<u8>, _>((Bound::Included(&scan.start), upper));
        let row = |(key, versioned): (&Vec<u8>, &Versioned)| Row { key: key.clone(), versioned: versioned.clone() };
        Ok(if scan.reverse {
            rows.rev().take(scan.limit).map(row).collect()
        } else {
            rows.take(scan.limit).map(row).collect()
        })
    }

    fn health(&self) -> Health {
        let state = self.0.read();
        Health {
            poisoned: None,
            was_left_open: false,
            accepts_new: !state.is_closed,
            committed: state.sequence,
            last_change: state.sequence,
            applied: state.sequence,
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
        self.0.write().is_closed = true;
        Ok(())
    }
}

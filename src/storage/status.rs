//! What the engine's threads tell each other and everybody else about how it goes.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::storage::journal::{Journal, JournalEnd};
use crate::storage::spread::{GROUP_BOUNDS, Spread, SpreadReading, TIME_BOUNDS_US};
use crate::storage::{BaseHealth, StoreError};

/// Shared by all threads of an engine.
#[derive(Debug)]
pub struct Status {
    /// Whether the process before did not close the store.
    was_left_open: bool,
    committed: AtomicU64,
    last_change: AtomicU64,
    journal_bytes_written: AtomicU64,
    journal_frames_written: AtomicU64,
    /// Bytes and number of the journal's files.
    journal_on_disk: Mutex<(u64, u64)>,
    base: Mutex<Option<BaseHealth>>,
    groups: Spread,
    syncs: Spread,
    failure: watch::Sender<Option<String>>,
}

impl Status {
    /// Everything up to the journal's end is durable.
    pub fn new(end: &JournalEnd) -> Self {
        // The mark of a stop in order is the last thing that was written, and is no change.
        let last_change = end.last_sequence.saturating_sub(u64::from(end.sealed));
        Self {
            was_left_open: end.last_sequence > 0 && !end.sealed,
            committed: AtomicU64::new(end.last_sequence),
            last_change: AtomicU64::new(last_change),
            journal_bytes_written: AtomicU64::new(0),
            journal_frames_written: AtomicU64::new(0),
            journal_on_disk: Mutex::new((0, 0)),
            base: Mutex::new(None),
            groups: Spread::new(&GROUP_BOUNDS),
            syncs: Spread::new(&TIME_BOUNDS_US),
            failure: watch::Sender::new(None),
        }
    }

    /// Whether the process before did not close the store in good order.
    pub fn was_left_open(&self) -> bool {
        self.was_left_open
    }

    /// Notes what was made durable.
    pub fn advance(&self, journal: &Journal) {
        self.last_change.store(journal.end().last_sequence, Ordering::Release);
        self.committed.store(journal.end().last_sequence, Ordering::Release);
        self.journal_bytes_written.store(journal.written_bytes(), Ordering::Release);
        self.journal_frames_written.store(journal.written_frames(), Ordering::Release);
    }

    /// Notes that a frame of so many batches was written and synced, and how long that took.
    pub fn note_frame(&self, batches: u32, took: Duration) {
        self.groups.note(u64::from(batches));
        self.syncs.note_time(took);
    }

    /// How many batches each frame had.
    pub fn groups(&self) -> SpreadReading {
        self.groups.read()
    }

    /// How long writing and syncing each frame took, in microseconds.
    pub fn syncs(&self) -> SpreadReading {
        self.syncs.read()
    }

    /// Sequence of the last commit that is durable.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Sequence of the last commit that changed something.
    pub fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    /// Bytes written to the journal since opening.
    pub fn journal_bytes_written(&self) -> u64 {
        self.journal_bytes_written.load(Ordering::Acquire)
    }

    /// Frames written to the journal since opening.
    pub fn journal_frames_written(&self) -> u64 {
        self.journal_frames_written.load(Ordering::Acquire)
    }

    /// Notes what the journal takes of the disk: bytes, and number of files.
    pub fn set_journal_on_disk(&self, bytes: u64, segments: u64) {
        *self.journal_on_disk.lock() = (bytes, segments);
    }

    /// What the journal takes of the disk: bytes, and number of files.
    pub fn journal_on_disk(&self) -> (u64, u64) {
        *self.journal_on_disk.lock()
    }

    /// Notes which base counts.
    pub fn set_base(&self, base: Option<BaseHealth>) {
        *self.base.lock() = base;
    }

    /// The base that counts.
    pub fn base(&self) -> Option<BaseHealth> {
        *self.base.lock()
    }

    /// From now on nothing more is acknowledged. Only the first reason counts.
    pub fn poison(&self, reason: &str) {
        let is_first = self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| reason.to_owned());
            is_first
        });
        if is_first {
            tracing::error!(reason, "the store has failed and takes no more changes");
        }
    }

    /// Why nothing more is acknowledged, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// An error once the store is poisoned.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    pub fn check(&self) -> Result<(), StoreError> {
        match &*self.failure.borrow() {
            None => Ok(()),
            Some(reason) => Err(StoreError::Poisoned(reason.clone())),
        }
    }

    /// Ready with the reason once the store is poisoned.
    pub fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        let mut failure = self.failure.subscribe();
        Box::pin(async move {
            let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                // The engine is gone without having failed.
                None => std::future::pending().await,
            }
        })
    }
}

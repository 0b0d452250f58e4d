//! Keeps segments and bases where they are while somebody reads them.

use std::sync::Arc;

use parking_lot::Mutex;

/// Keeps segments and bases where they are, as long as it is held.
pub struct JournalHold(Arc<Mutex<usize>>);

impl Drop for JournalHold {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

/// Counts those who need the journal as it is.
#[derive(Clone, Debug, Default)]
pub struct JournalHolds(Arc<Mutex<usize>>);

impl JournalHolds {
    /// Until it is dropped no segment leaves the journal, and no base goes. Waits while a file is being removed, which is a
    /// matter of the data directory's disk alone.
    pub fn hold(&self) -> JournalHold {
        *self.0.lock() += 1;
        JournalHold(Arc::clone(&self.0))
    }

    /// Whether there is a hold now.
    pub fn is_held(&self) -> bool {
        *self.0.lock() > 0
    }

    /// Removes something, unless there is a hold; then `None`. Nobody gets one meanwhile, so `work` must be short.
    pub fn unless_held<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let count = self.0.lock();
        (*count == 0).then(work)
    }
}

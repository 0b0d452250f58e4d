//! Where committed changes rest after the overlay: the embedded index, behind a trait.
//!
//! An index is never the only place of anything: what it loses is read from the journal again. All it has to do is to
//! notice that it lost something.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::random::Random;
use crate::storage::files::Shortage;
use crate::storage::overlay::Entry;
use crate::storage::{Row, StoreError, Versioned};

/// Why an index did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// There is not enough of something. It may work again after [`Index::reopen`], when there is.
    #[error("{0}")]
    Short(Shortage),
    /// Somebody else has it open.
    #[error("the index is in use by another process")]
    Busy,
    /// What it holds is damaged.
    #[error("the index is damaged: {0}")]
    Corrupt(String),
    /// Reading or writing failed.
    #[error("the index failed: {0}")]
    Failed(String),
}

impl IndexError {
    /// Classifies what the operating system said.
    pub fn from_io(error: &io::Error) -> Self {
        Shortage::of(error).map_or_else(|| Self::Failed(error.to_string()), Self::Short)
    }

    /// Whether it may pass without a restart.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Short(_) | Self::Busy)
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Corrupt(_) => Self::Corrupt(format!(
                "{error}. Nothing is lost: the journal has everything, and the index is rebuilt from it at the next start"
            )),
            IndexError::Short(_) | IndexError::Busy | IndexError::Failed(_) => {
                Self::Io { context: "the index".to_owned(), message: error.to_string() }
            }
        }
    }
}

/// Part of the key space, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// First key.
    pub start: &'a [u8],
    /// First key after the range; `None` for no end.
    pub end: Option<&'a [u8]>,
    /// From the end to the start.
    pub reverse: bool,
    /// Most rows.
    pub rows_max: usize,
}

/// Changes in the order of their keys, as they come out of the overlay.
pub type Changes<'a> = [(&'a Vec<u8>, &'a Entry)];

/// An ordered map on disk.
pub trait Index: Send + Sync {
    /// What a key holds.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, IndexError>;

    /// The rows of a range in the order asked for.
    ///
    /// # Errors
    /// When they can't be read or are damaged.
    fn range(&self, range: Range<'_>) -> Result<Vec<Row>, IndexError>;

    /// Makes changes at once, and with the last of a pass says up to which sequence the index now has everything.
    ///
    /// # Errors
    /// When it can't be written; whether the changes were made is not known then.
    fn apply(&self, changes: &Changes<'_>, applied: Option<u64>) -> Result<(), IndexError>;

    /// Sequence up to which the index has everything.
    fn applied(&self) -> u64;

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// When that failed; whether it is durable is not known then.
    fn sync(&self) -> Result<(), IndexError>;

    /// Closes the index and opens it again: after a shortage, or to bound how long the next opening takes. Readers wait.
    /// What was not synced before may be lost; [`Index::applied`] then says less than before.
    ///
    /// # Errors
    /// When it does not open again. Until that is tried again with success, every use is an error.
    fn reopen(&self) -> Result<(), IndexError>;

    /// Closes the index; every use after that is an error.
    fn close(&self);
}

/// Where an index lives: opens it, and puts it out of the way when it is of no use.
pub trait IndexHome: Send + Sync {
    /// Opens the index, making an empty one if there is none.
    ///
    /// # Errors
    /// When it does not open.
    fn open(&self) -> Result<Arc<dyn Index>, IndexError>;

    /// Opens an empty index beside the one that is there, which stays as it is. One that was begun before is removed.
    ///
    /// # Errors
    /// When it does not open.
    fn open_new(&self) -> Result<Arc<dyn Index>, IndexError>;

    /// Puts the index of [`IndexHome::open_new`], which must be complete, synced and closed, in the place of the one that
    /// is there. That one is moved aside.
    ///
    /// # Errors
    /// When it can't be moved; then the old one may have been moved aside already.
    fn adopt_new(&self) -> Result<(), IndexError>;
}

/// An index in memory, for tests and simulation. Like a disk it has a durable state beside the one that is seen, and
/// a clone is the same disk.
#[derive(Clone, Default)]
pub struct MemoryIndex(Arc<MemoryState>);

#[derive(Default)]
struct MemoryState {
    seen: RwLock<Rows>,
    durable: Mutex<Rows>,
    /// What was applied since the last sync.
    since: Mutex<Vec<Applied>>,
    /// What the next use of the disk ends with.
    fault: Mutex<Option<IndexError>>,
    full: AtomicBool,
    /// Whether it can't be read any more, once it was to be written while it was full, until it was reopened.
    unreadable_when_full: AtomicBool,
    unreadable: AtomicBool,
    /// Whether the last reopening failed.
    closed: AtomicBool,
    panics: AtomicBool,
    /// What [`IndexHome::open_new`] has made.
    beside: Mutex<Option<MemoryIndex>>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Versioned>,
    applied: u64,
}

struct Applied {
    changes: Vec<(Vec<u8>, Option<Versioned>)>,
    applied: Option<u64>,
}

impl Rows {
    fn apply(&mut self, step: &Applied) {
        for (key, versioned) in &step.changes {
            match versioned {
                Some(versioned) => self.rows.insert(key.clone(), versioned.clone()),
                None => self.rows.remove(key),
            };
        }
        self.applied = step.applied.unwrap_or(self.applied);
    }
}

impl MemoryIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes back to the last sync, or to a state between it and now, as chance says.
    pub fn crash(&self, random: &Random) {
        let since = std::mem::take(&mut *self.0.since.lock());
        let survivors = usize::try_from(random.draw_u64() % (since.len() as u64 + 1)).unwrap_or(0);
        let mut durable = self.0.durable.lock();
        since[..survivors].iter().for_each(|step| durable.apply(step));
        self.0.seen.write().clone_from(&durable);
        *self.0.fault.lock() = None;
        self.0.unreadable.store(false, Ordering::Release);
        self.0.closed.store(false, Ordering::Release);
    }

    /// Loses everything, like a disk on which the index is gone.
    pub fn clear(&self) {
        *self.0.seen.write() = Rows::default();
        *self.0.durable.lock() = Rows::default();
        self.0.since.lock().clear();
    }

    /// Lets the next apply or sync end with this error.
    pub fn fail_next(&self, error: IndexError) {
        *self.0.fault.lock() = Some(error);
    }

    /// Lets every apply, sync and reopening end with a full disk until it is called again.
    pub fn set_full(&self, full: bool) {
        self.0.full.store(full, Ordering::Release);
    }

    /// Lets a full disk take reading away as well, as sled's does from the first write that failed until it is reopened.
    pub fn set_unreadable_when_full(&self, unreadable: bool) {
        self.0.unreadable_when_full.store(unreadable, Ordering::Release);
    }

    /// Lets the next reading panic.
    pub fn panic_next(&self) {
        self.0.panics.store(true, Ordering::Release);
    }

    /// Keys in it.
    pub fn rows(&self) -> usize {
        self.0.seen.read().rows.len()
    }

    fn check_fault(&self) -> Result<(), IndexError> {
        if self.0.full.load(Ordering::Acquire) {
            let unreadable = self.0.unreadable_when_full.load(Ordering::Acquire);
            self.0.unreadable.fetch_or(unreadable, Ordering::AcqRel);
            return Err(IndexError::Short(Shortage::Space));
        }
        self.0.fault.lock().take().map_or(Ok(()), Err)
    }

    fn check_readable(&self) -> Result<(), IndexError> {
        if self.0.unreadable.load(Ordering::Acquire) {
            return Err(IndexError::Short(Shortage::Space));
        }
        self.check_open()
    }

    fn check_open(&self) -> Result<(), IndexError> {
        if self.0.closed.load(Ordering::Acquire) {
            // Until there is room to open it again.
            return Err(IndexError::Short(Shortage::Space));
        }
        Ok(())
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, IndexError> {
        if self.0.panics.swap(false, Ordering::AcqRel) {
            std::panic::resume_unwind(Box::new("told to panic"));
        }
        self.check_readable()?;
        Ok(self.0.seen.read().rows.get(key).cloned())
    }

    fn range(&self, range: Range<'_>) -> Result<Vec<Row>, IndexError> {
        self.check_readable()?;
        if range.end.is_some_and(|end| end <= range.start) {
            return Ok(Vec::new());
        }
        let upper = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.0.seen.read();
        let rows = state.rows.range::<[u8], _>((Bound::Included(range.start), upper));
        let row = |(key, versioned): (&Vec<u8>, &Versioned)| Row { key: key.clone(), versioned: versioned.clone() };
        Ok(if range.reverse {
            rows.rev().take(range.rows_max).map(row).collect()
        } else {
            rows.take(range.rows_max).map(row).collect()
        })
    }

    fn apply(&self, changes: &Changes<'_>, applied: Option<u64>) -> Result<(), IndexError> {
        self.check_open()?;
        self.check_fault()?;
        let changes = changes.iter().map(|(key, entry)| ((*key).clone(), entry.versioned())).collect();
        let step = Applied { changes, applied };
        self.0.seen.write().apply(&step);
        self.0.since.lock().push(step);
        Ok(())
    }

    fn applied(&self) -> u64 {
        self.0.seen.read().applied
    }

    fn sync(&self) -> Result<(), IndexError> {
        self.check_open()?;
        self.check_fault()?;
        let seen = self.0.seen.read();
        self.0.durable.lock().clone_from(&seen);
        self.0.since.lock().clear();
        Ok(())
    }

    /// Goes back to the last sync: what was applied since then was only in the memory of what is closed here.
    fn reopen(&self) -> Result<(), IndexError> {
        if self.0.full.load(Ordering::Acquire) {
            self.0.closed.store(true, Ordering::Release);
            return Err(IndexError::Short(Shortage::Space));
        }
        self.0.since.lock().clear();
        self.0.seen.write().clone_from(&self.0.durable.lock());
        self.0.unreadable.store(false, Ordering::Release);
        self.0.closed.store(false, Ordering::Release);
        Ok(())
    }

    fn close(&self) {}
}

impl IndexHome for MemoryIndex {
    fn open(&self) -> Result<Arc<dyn Index>, IndexError> {
        self.0.closed.store(false, Ordering::Release);
        Ok(Arc::new(self.clone()))
    }

    fn open_new(&self) -> Result<Arc<dyn Index>, IndexError> {
        let new = Self::new();
        *self.0.beside.lock() = Some(new.clone());
        Ok(Arc::new(new))
    }

    fn adopt_new(&self) -> Result<(), IndexError> {
        let new = self.0.beside.lock().take();
        let new = new.ok_or_else(|| IndexError::Failed("there is no new index".to_owned()))?;
        self.0.since.lock().clear();
        self.0.durable.lock().clone_from(&new.0.durable.lock());
        self.0.seen.write().clone_from(&self.0.durable.lock());
        Ok(())
    }
}

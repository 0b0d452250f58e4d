//! How state becomes durable. The [`Store`] trait is what an engine must offer and no more; [`engine`] is the one the
//! product runs on (a journal with an embedded index behind it), [`memory`] one without any durability.
//!
//! A commit returns only when it is on disk. Reads see only what is on disk.

pub mod applier;
pub mod archive;
pub mod audit_rows;
pub mod backup;
mod backup_room;
pub mod base;
pub mod checkpoint;
pub mod committer;
pub mod dump;
pub mod engine;
pub mod export;
pub mod export_file;
pub mod files;
pub mod format;
pub mod frame;
pub mod held;
pub mod holds;
pub mod import;
pub mod index;
pub mod index_rows;
pub mod inventory;
pub mod journal;
pub mod keeper;
mod keeper_threads;
pub mod key_file;
pub mod keys;
mod manifest;
pub mod memory;
mod new_directory;
pub mod overlay;
pub mod places;
pub mod queue;
pub mod reached;
pub mod record;
pub mod recovery;
pub mod replay;
pub mod request;
pub mod reread;
pub mod restore;
pub mod retirement;
pub mod segment_reader;
pub mod segments;
pub mod sim_files;
pub mod sled_index;
pub mod space;
pub mod spread;
pub mod status;
pub mod unreadable;
pub mod vault;
pub mod verify;
pub mod view;
mod walk;
pub mod whole_file;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::storage::spread::SpreadReading;

/// Why new work is refused while the disk has little room left; see [`StoreError::Overloaded`].
pub const DISK_SPACE_IS_LOW: &str = "the disk has little room left";

/// The revision of a key that is not there.
pub const ABSENT: u64 = 0;

/// What a key holds: bytes, and the sequence of the commit that wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Sequence of the commit that wrote this value, from 1. A key that is not there has revision [`ABSENT`].
    pub revision: u64,
    /// The bytes as they were put.
    pub value: Arc<[u8]>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the key, whatever it held.
    Put {
        /// The key, 1 to 1,024 bytes.
        key: Vec<u8>,
        /// What it holds from now on, at most 1 MiB.
        value: Vec<u8>,
    },
    /// Removes the key, if it is there.
    Delete {
        /// The key, 1 to 1,024 bytes.
        key: Vec<u8>,
    },
}

/// A value that gets the next number of its stream when it is committed. Numbers start at 1 and have no gaps. It is
/// stored, and found by `scan`, under `stream` followed by the number as 8 big-endian bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Key prefix of the stream.
    pub stream: Vec<u8>,
    /// The bytes to store.
    pub value: Vec<u8>,
}

/// What must hold for a batch to be committed: the key's revision is this one ([`ABSENT`]: the key is not there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The key looked at.
    pub key: Vec<u8>,
    /// The revision it must have.
    pub revision: u64,
}

/// Whether a batch begins something or finishes what has begun. Room runs out for the first kind earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Begins something new: refused with [`StoreError::Overloaded`] when queue, overlay or disk is nearly full.
    #[default]
    New,
    /// Finishes something that has begun: refused only when it really can't be taken.
    Finish,
}

/// Changes that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// All must hold, against everything committed before this batch.
    pub preconditions: Vec<Precondition>,
    /// Puts and deletes, in order; a key at most once.
    pub writes: Vec<Write>,
    /// Numbered appends, in order.
    pub appends: Vec<Append>,
    /// What is refused first when room is short.
    pub urgency: Urgency,
}

impl Batch {
    /// An empty batch that begins something new.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that finishes what has begun.
    pub fn finishing() -> Self {
        Self { urgency: Urgency::Finish, ..Self::default() }
    }

    /// Adds a put.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put { key, value });
    }

    /// Adds a put of a key that must not be there yet.
    pub fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.expect(key.clone(), ABSENT);
        self.put(key, value);
    }

    /// Adds a put of a key that must have the revision that was read.
    pub fn replace(&mut self, key: Vec<u8>, revision: u64, value: Vec<u8>) {
        self.expect(key.clone(), revision);
        self.put(key, value);
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push(Write::Delete { key });
    }

    /// Adds a precondition.
    pub fn expect(&mut self, key: Vec<u8>, revision: u64) {
        self.preconditions.push(Precondition { key, revision });
    }

    /// Adds an append to a numbered stream.
    pub fn append(&mut self, stream: Vec<u8>, value: Vec<u8>) {
        self.appends.push(Append { stream, value });
    }
}

/// A batch is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The batch's place in the order of all commits, from 1; also the revision of all that it wrote.
    pub sequence: u64,
    /// The numbers its appends got, in their order.
    pub numbers: Vec<u64>,
}

/// Which rows a scan returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key after the range; `None` for no end.
    pub end: Option<Vec<u8>>,
    /// Most rows to return, at least 1.
    pub limit: usize,
    /// From the end of the range to its start.
    pub reverse: bool,
}

impl Scan {
    /// The first `limit` rows whose keys start with `prefix`.
    pub fn prefix(prefix: &[u8], limit: usize) -> Self {
        Self { start: prefix.to_vec(), end: prefix_end(prefix), limit, reverse: false }
    }

    /// The last `limit` rows whose keys start with `prefix`, last first.
    pub fn prefix_reverse(prefix: &[u8], limit: usize) -> Self {
        Self { reverse: true, ..Self::prefix(prefix, limit) }
    }
}

/// The first key after all that start with `prefix`; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last_below_max = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last_below_max].to_vec();
    end[last_below_max] += 1;
    Some(end)
}

/// A row as a scan returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Vec<u8>,
    /// What it holds.
    pub versioned: Versioned,
}

/// The base that an index would be rebuilt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseHealth {
    /// Sequence up to which everything is in it.
    pub from: u64,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Bytes of its file.
    pub bytes: u64,
}

/// What a store takes of its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskHealth {
    /// Bytes that were left when it was last looked; `None` when that is not known.
    pub free_bytes: Option<u64>,
    /// Whether that is so little that new work is refused.
    pub is_low: bool,
    /// Whether something did not fit any more, so that the ballast was given up or is not there yet.
    pub is_full: bool,
    /// Bytes of the journal's files when it was last looked, which is every ten seconds.
    pub journal_bytes: u64,
    /// How many files that are.
    pub journal_segments: u64,
    /// The base that the journal before it is not needed for any more.
    pub base: Option<BaseHealth>,
}

/// How a store is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing more is acknowledged, if so.
    pub poisoned: Option<String>,
    /// Whether the process before this one left without closing the store: its store had failed, or it was killed. What a
    /// store that fails can't write down, the next process finds missing.
    pub was_left_open: bool,
    /// Whether batches that begin something new are taken now.
    pub accepts_new: bool,
    /// Sequence of the last commit that is on disk.
    pub committed: u64,
    /// Sequence of the last one that changed something: the mark that a stop in order leaves has a sequence, too. The same
    /// at a stop and at the start after it, unless something was lost or came between.
    pub last_change: u64,
    /// Sequence up to which the index holds everything.
    pub applied: u64,
    /// Bytes held in memory that the index does not have yet.
    pub overlay_bytes: u64,
    /// Bytes written to the journal since opening.
    pub journal_bytes_written: u64,
    /// Frames written to the journal since opening, each with one sync for all commits in it.
    pub journal_frames_written: u64,
    /// Commits on their way to the disk.
    pub commits: CommitHealth,
    /// Room on the disk.
    pub disk: DiskHealth,
}

/// How commits get to the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitHealth {
    /// Batches that wait for the frame after the one that is being written.
    pub waiting: u64,
    /// Their bytes, with those of the frame that is being written.
    pub waiting_bytes: u64,
    /// How many batches each frame had.
    pub groups: SpreadReading,
    /// How long writing and syncing each frame took, in microseconds.
    pub syncs: SpreadReading,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing was changed. What it was found against is durable.
    #[error("the record was changed by someone else")]
    Precondition {
        /// Index into [`Batch::preconditions`] of the first that did not hold.
        index: usize,
    },
    /// There is no room now; nothing was changed and nothing will be. Try again later.
    #[error("the store has no room for more work at the moment: {0}")]
    Overloaded(&'static str),
    /// Whether the batch is durable is not known. Read again before going on.
    #[error("it is not known whether the change was stored: {0}")]
    Indeterminate(String),
    /// The store has failed and takes nothing more; the process has to be started again.
    #[error("the store has failed and takes no more changes: {0}")]
    Poisoned(String),
    /// The batch or scan breaks a rule of this interface (a key twice, a value too large).
    #[error("the store can't take this: {0}")]
    Invalid(String),
    /// What is on disk is damaged and can't be repaired by itself.
    #[error("{0}")]
    Corrupt(String),
    /// A file could not be read or written while opening, exporting or importing.
    #[error("{context}: {message}")]
    Io {
        /// What was being done, with the file's name.
        context: String,
        /// What the operating system said.
        message: String,
    },
}

/// A commit under way.
pub type CommitFuture = Pin<Box<dyn Future<Output = Result<Committed, StoreError>> + Send>>;

/// What an engine must offer. Bytes only; keys are made in [`keys`].
pub trait Store: Send + Sync + 'static {
    /// Commits a batch; it is durable when the future is ready with `Ok`. The batch is queued by the call itself, so
    /// that dropping the future does not take it back.
    fn commit(&self, batch: Batch) -> CommitFuture;

    /// What a key holds, if anything.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] or [`StoreError::Corrupt`] when it can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError>;

    /// A page of rows in the order of their keys. Keys are unique and sorted; rows changed while it runs may show
    /// either state.
    ///
    /// # Errors
    /// As for [`Store::get`].
    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError>;

    /// How the store is doing.
    fn health(&self) -> Health;

    /// Ready with the reason once the store is poisoned; never ready otherwise.
    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>>;

    /// Takes no more commits, makes everything durable and indexed, and writes the mark of a clean stop. Blocks.
    ///
    /// # Errors
    /// The first failure on the way; what was acknowledged before is safe all the same.
    fn close(&self) -> Result<(), StoreError>;
}

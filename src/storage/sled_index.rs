//! The index on disk: sled 0.34.7, used so that what is known to go wrong with it does no harm.
//!
//! - Nothing is flushed in the background, only by [`Index::sync`], with the blocking `flush`.
//! - `flush` does not reach the disk's own cache on Linux, so a second handle on the file is synced after it.
//! - A process killed while opening leaves a torn `snap.*.generating`, which every later opening takes for the newest
//!   snapshot: it is deleted first.
//! - A damaged file makes it panic or lose records without a word: panics are caught, each record has a checksum, and
//!   `applied`, written together with the changes, shows what is missing.
//! - Garbage of a batch is collected only when later operations begin: batches are small (`applier`), or memory grows by
//!   gigabytes.
//! - It writes a snapshot only while opening, and replays everything since then at the next opening: it is reopened
//!   now and then.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::storage::files::Shortage;
use crate::storage::files::{create_private_directory, sync_directory_at, sync_parent_of};
use crate::storage::index::{Changes, Index, IndexError, IndexHome, Range};
use crate::storage::index_rows::{
    APPLIED_KEY, HEAD_PREFIX, assemble, decode_applied, decode_head, encode_applied, encode_head, encode_part,
    head_key, part_key, parts_of,
};
use crate::storage::{Row, Versioned};

/// Ending of the directory in which a new index is made.
const NEW: &str = "new";
/// Broken indexes kept for looking into.
const ASIDE_MAX: usize = 2;
/// Rows read before writers get a turn.
const ROWS_AT_ONCE: usize = 256;
/// The file's lock is let go by a thread of sled's own some time after the last handle is dropped.
const LOCK_TRIES_MAX: u32 = 250;
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How long a reader that is a task waits for a batch of changes before it makes room for other tasks: reopening takes
/// a hundred times as long.
const WAIT_ON_WORKER: Duration = Duration::from_millis(2);
/// Files that opening needs beside what closing frees.
const OPENING_HANDLES: usize = 4;

/// A directory that holds, or will hold, an index.
#[derive(Clone, Debug)]
pub struct SledHome {
    directory: PathBuf,
    cache_bytes: u64,
}

impl SledHome {
    /// The index in `directory`, with a page cache of about `cache_bytes`.
    pub fn new(directory: PathBuf, cache_bytes: u64) -> Self {
        Self { directory, cache_bytes }
    }

    /// The directories of indexes moved aside, with their numbers, oldest first.
    fn aside(&self) -> Vec<(u32, PathBuf)> {
        let Some((parent, prefix)) = self.directory.parent().zip(self.aside_prefix()) else { return Vec::new() };
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let mut aside: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
                Some((number, entry.path()))
            })
            .collect();
        aside.sort_unstable();
        aside
    }

    fn swap(&self) -> std::io::Result<()> {
        if let Some(prefix) = self.aside_prefix().filter(|_| self.directory.exists()) {
            let number = self.aside().last().map_or(1, |(number, _)| number + 1);
            let target = self.directory.with_file_name(format!("{prefix}{number}"));
            fs::rename(&self.directory, &target)?;
            tracing::warn!(aside = %target.display(), "the old index is moved aside");
        }
        fs::rename(self.directory.with_extension(NEW), &self.directory)?;
        sync_parent_of(&self.directory)
    }

    fn aside_prefix(&self) -> Option<String> {
        Some(format!("{}.broken-", self.directory.file_name()?.to_str()?))
    }
}

impl IndexHome for SledHome {
    fn open(&self) -> Result<Arc<dyn Index>, IndexError> {
        let opened = Opened::open(&self.directory, self.cache_bytes)?;
        let applied = AtomicU64::new(opened.read_applied()?);
        Ok(Arc::new(SledIndex { home: self.clone(), opened: RwLock::new(Some(opened)), applied }))
    }

    fn open_new(&self) -> Result<Arc<dyn Index>, IndexError> {
        let directory = self.directory.with_extension(NEW);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(IndexError::from_io(&error)),
            _ => Self { directory, cache_bytes: self.cache_bytes }.open(),
        }
    }

    fn adopt_new(&self) -> Result<(), IndexError> {
        self.swap().map_err(|error| IndexError::from_io(&error))?;
        // Only now: had anything failed before, an old one would have been better than none.
        for (_, path) in self.aside().iter().rev().skip(ASIDE_MAX) {
            if let Err(error) = fs::remove_dir_all(path) {
                tracing::warn!(path = %path.display(), %error, "an index that was moved aside can't be removed");
            }
        }
        Ok(())
    }
}

struct SledIndex {
    home: SledHome,
    /// Held for writing while rows of several parts are changed, so that a reader never sees half of one.
    opened: RwLock<Option<Opened>>,
    applied: AtomicU64,
}

struct Opened {
    tree: sled::Db,
    /// For syncing; the lock that sled holds belongs to its own handle.
    file: File,
}

impl Opened {
    fn open(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        prepare_directory(directory).map_err(|error| IndexError::from_io(&error))?;
        let config = sled::Config::new().path(directory).flush_every_ms(None).cache_capacity(cache_bytes);
        let mut tries = 0;
        let tree = loop {
            match guarded(|| config.open().map_err(classify)) {
                Err(IndexError::Busy) if tries < LOCK_TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(LOCK_RETRY);
                }
                opened => break opened?,
            }
        };
        let synced = File::open(directory.join("db")).and_then(|file| {
            file.sync_data()?;
            sync_directory_at(directory)?;
            sync_parent_of(directory)?;
            Ok(file)
        });
        let file = synced.map_err(|error| IndexError::from_io(&error))?;
        Ok(Self { tree, file })
    }

    fn read_applied(&self) -> Result<u64, IndexError> {
        guarded(|| match self.tree.get(APPLIED_KEY).map_err(classify)? {
            Some(stored) => decode_applied(&stored),
            // Before anything else is in it: then a crash never leaves rows and no word of what they are.
            None if self.tree.is_empty() => {
                self.tree.insert(APPLIED_KEY, &encode_applied(0)).map_err(classify)?;
                Ok(0)
            }
            None => Err(IndexError::Corrupt("it does not say up to where it was written".to_owned())),
        })
    }

    fn row(&self, key: &[u8], stored: &[u8]) -> Result<Versioned, IndexError> {
        let head = decode_head(key, stored)?;
        assemble(key, head, |part| self.tree.get(part_key(key, part)).map_err(classify))
    }

    fn rows(&self, range: Range<'_>) -> Result<Vec<Row>, IndexError> {
        let start = head_key(range.start);
        let end = range.end.map_or_else(|| vec![HEAD_PREFIX + 1], head_key);
        if end <= start {
            return Ok(Vec::new());
        }
        let mut entries = self.tree.range(start..end);
        let mut rows = Vec::new();
        while rows.len() < range.rows_max {
            let Some(entry) = (if range.reverse { entries.next_back() } else { entries.next() }) else { break };
            let (stored_key, stored) = entry.map_err(classify)?;
            let key = stored_key[1..].to_vec();
            let versioned = self.row(&key, &stored)?;
            rows.push(Row { key, versioned });
        }
        Ok(rows)
    }

    /// Makes the changes that readers may see one by one, nearly all of them, and returns the others as a batch. sled
    /// keeps every reader waiting while it applies a batch, and the committer reads.
    fn change(&self, changes: &Changes<'_>, applied: Option<u64>) -> Result<Option<sled::Batch>, IndexError> {
        let mut batch = sled::Batch::default();
        let mut is_needed = applied.is_some();
        for (key, entry) in changes {
            let stored_key = head_key(key);
            let parts_after = entry.value.as_ref().map_or(0, |value| parts_of(value.len()));
            let stored_before = match &entry.value {
                None => self.tree.remove(stored_key).map_err(classify)?,
                Some(value) if parts_after == 0 => {
                    self.tree.insert(stored_key, encode_head(key, entry.revision, value)).map_err(classify)?
                }
                Some(value) => {
                    let stored_before = self.tree.get(&stored_key).map_err(classify)?;
                    batch.insert(stored_key, encode_head(key, entry.revision, value));
                    stored_before
                }
            };
            let parts_before = stored_before.map_or(Ok(0), |stored| Ok(decode_head(key, &stored)?.parts()))?;
            is_needed |= parts_after.max(parts_before) > 0;
            for part in 1..=parts_after.max(parts_before) {
                match &entry.value {
                    Some(value) if part <= parts_after => {
                        batch.insert(part_key(key, part), encode_part(key, entry.revision, value, part));
                    }
                    _ => batch.remove(part_key(key, part)),
                }
            }
        }
        if let Some(applied) = applied {
            batch.insert(APPLIED_KEY, &encode_applied(applied));
        }
        Ok(is_needed.then_some(batch))
    }
}

impl SledIndex {
    fn read<T>(&self, work: impl FnOnce(&Opened) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let opened = read_waiting(&self.opened);
        let opened = opened.as_ref().ok_or_else(closed)?;
        guarded(|| work(opened))
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, IndexError> {
        self.read(|opened| {
            let stored = opened.tree.get(head_key(key)).map_err(classify)?;
            stored.map(|stored| opened.row(key, &stored)).transpose()
        })
    }

    fn range(&self, range: Range<'_>) -> Result<Vec<Row>, IndexError> {
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let rows_max = ROWS_AT_ONCE.min(range.rows_max - rows.len());
            let last_key = rows.last().map(|row| row.key.clone());
            let mut next_start = last_key.clone();
            if let Some(start) = &mut next_start {
                start.push(0);
            }
            let rest = match (&last_key, &next_start) {
                (Some(last), _) if range.reverse => Range { end: Some(last), rows_max, ..range },
                (_, Some(next)) => Range { start: next, rows_max, ..range },
                _ => Range { rows_max, ..range },
            };
            let page = self.read(|opened| opened.rows(rest))?;
            let is_end = page.len() < rows_max;
            rows.extend(page);
            if is_end || rows.len() >= range.rows_max {
                return Ok(rows);
            }
        }
    }

    fn apply(&self, changes: &Changes<'_>, applied: Option<u64>) -> Result<(), IndexError> {
        // Only the applier writes, so that what the batch was made from does not change before it is made.
        let Some(batch) = self.read(|opened| opened.change(changes, applied))? else { return Ok(()) };
        let opened = self.opened.write();
        let opened = opened.as_ref().ok_or_else(closed)?;
        guarded(|| opened.tree.apply_batch(batch).map_err(classify))?;
        if let Some(applied) = applied {
            self.applied.store(applied, Ordering::Release);
        }
        Ok(())
    }

    fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    fn sync(&self) -> Result<(), IndexError> {
        self.read(|opened| {
            opened.tree.flush().map_err(classify)?;
            opened.file.sync_data().map_err(|error| IndexError::from_io(&error))
        })
    }

    fn reopen(&self) -> Result<(), IndexError> {
        // Are there enough handles? As long as it is not closed, it can be read.
        let handles: Result<Vec<File>, _> =
            (0..OPENING_HANDLES).map(|_| File::open(self.home.directory.join("db"))).collect();
        drop(handles.map_err(|error| IndexError::from_io(&error))?);
        let mut opened = self.opened.write();
        guarded(|| {
            drop(opened.take());
            Ok(())
        })?;
        let again = Opened::open(&self.home.directory, self.home.cache_bytes)?;
        self.applied.store(again.read_applied()?, Ordering::Release);
        *opened = Some(again);
        Ok(())
    }

    fn close(&self) {
        let opened = self.opened.write().take();
        let _ = guarded(|| {
            drop(opened);
            Ok(())
        });
    }
}

/// Takes the lock for reading. A wait of any length makes room for the runtime's other tasks, if it is one with several
/// threads: on a single one nothing else could run in any case.
pub(super) fn read_waiting<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    if let Some(guard) = lock.try_read_for(WAIT_ON_WORKER) {
        return guard;
    }
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| lock.read()),
        _ => lock.read(),
    }
}

fn prepare_directory(directory: &Path) -> std::io::Result<()> {
    create_private_directory(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs something of sled's, which panics on damaged files, and makes an error of a panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(IndexError::Corrupt(format!("sled panicked: {}", text.unwrap_or_default())))
    })
}

fn classify(error: sled::Error) -> IndexError {
    match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => IndexError::Busy,
        sled::Error::Io(error) if is_damage(&error) => IndexError::Corrupt(error.to_string()),
        sled::Error::Io(error) => IndexError::from_io(&error),
        sled::Error::Corruption { .. } => IndexError::Corrupt(error.to_string()),
        other => IndexError::Failed(other.to_string()),
    }
}

/// Whether the file is shorter than it was, or the disk can't read it any more: trying again does not help, a new index
/// does.
fn is_damage(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::UnexpectedEof
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO)
}

/// It is closed only while it has no room to be opened again, which passes.
fn closed() -> IndexError {
    IndexError::Short(Shortage::Space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::overlay::{Change, Overlay};

    fn apply(index: &dyn Index, sequence: u64, changes: &[(&str, Option<usize>)]) {
        let overlay = Overlay::new(sequence - 1);
        let change = |(key, bytes): &(&str, Option<usize>)| Change {
            key: key.as_bytes().to_vec(),
            value: bytes.map(|bytes| Arc::from(vec![u8::try_from(sequence).unwrap(); bytes])),
            revision: sequence,
            absent_below: false,
        };
        overlay.add(changes.iter().map(change), sequence);
        let (sealed, _) = overlay.seal(sequence - 1).unwrap();
        index.apply(&sealed.iter().collect::<Vec<_>>(), Some(sequence)).unwrap();
    }

    #[test]
    fn rows_grow_shrink_and_go_and_leave_no_part_behind() {
        let directory = tempfile::tempdir().unwrap();
        let home = SledHome::new(directory.path().join("index"), 1 << 20);
        let index = home.open().unwrap();
        let sizes = [("short", Some(10)), ("shrinks", Some(20_000)), ("grows", Some(10)), ("goes", Some(20_000))];
        apply(&*index, 1, &sizes);
        apply(&*index, 2, &[("shrinks", Some(10)), ("grows", Some(20_000)), ("goes", None), ("never", None)]);
        let found = |key: &str| index.get(key.as_bytes()).unwrap().map(|row| (row.revision, row.value.to_vec()));
        assert_eq!(found("short"), Some((1, vec![1; 10])));
        assert_eq!(found("shrinks"), Some((2, vec![2; 10])));
        assert_eq!(found("grows"), Some((2, vec![2; 20_000])));
        assert_eq!((found("goes"), found("never")), (None, None));
        apply(&*index, 3, &[("grows", None), ("short", None), ("shrinks", None)]);
        assert_eq!(index.applied(), 3);
        index.close();
        let opened = Opened::open(&home.directory, 1 << 20).unwrap();
        assert_eq!(opened.tree.len(), 1, "only how far the index was written is left");
    }
}

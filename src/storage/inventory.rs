//! What a store takes of its disk, file by file, for the operator. Changes nothing.

use std::io;
use std::path::Path;

use crate::storage::StoreError;
use crate::storage::checkpoint::{self, Checkpoint};
use crate::storage::files::DiskFiles;
use crate::storage::format;
use crate::storage::segments;
use crate::storage::view::INDEX_DAMAGED;

/// What is in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The store's format.
    pub format: u32,
    /// Up to where the index is known to be durable.
    pub checkpoint: Checkpoint,
    /// Where the journal begins; `None` without a segment.
    pub journal_first: Option<u64>,
    /// Segments of the journal.
    pub segments: u64,
    /// Bytes of the journal's files, the one that is prepared ahead included.
    pub journal_bytes: u64,
    /// Bytes of the index's files.
    pub index_bytes: u64,
    /// Whether the index was found damaged while it was in use.
    pub is_index_damaged: bool,
}

/// Looks through a data directory, which may be in use.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is of a newer format, [`StoreError::Io`].
pub fn take(directory: &Path, index: &str) -> Result<Inventory, StoreError> {
    let files = DiskFiles::read_only(directory);
    let format = format::look(&files)?.unwrap_or(1);
    let read = || -> io::Result<Inventory> {
        let all = segments::list(&files)?;
        Ok(Inventory {
            format,
            checkpoint: checkpoint::read(&files)?,
            journal_first: all.first().copied(),
            segments: all.len() as u64,
            journal_bytes: bytes_below(&directory.join(segments::DIRECTORY))?,
            index_bytes: bytes_below(&directory.join(index))?,
            is_index_damaged: directory.join(INDEX_DAMAGED).exists(),
        })
    };
    read().map_err(|error| StoreError::Io {
        context: format!("looking through {}", directory.display()),
        message: error.to_string(),
    })
}

/// Bytes of the index's files; `None` when they can't be looked at.
pub fn index_bytes(directory: &Path, index: &str) -> Option<u64> {
    bytes_below(&directory.join(index)).ok()
}

/// Bytes of all files below a directory. What goes away meanwhile, or is not there, takes none.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
            Ok(metadata) if metadata.is_dir() => bytes += bytes_below(&entry.path())?,
            Ok(metadata) => bytes += metadata.len(),
        }
    }
    Ok(bytes)
}

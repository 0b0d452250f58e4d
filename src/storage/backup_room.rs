//! Room for a backup. Beside the store that it is of it must leave the room that the store needs to go on, and what could
//! not be finished is removed again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::storage::StoreError;
use crate::storage::manifest::{MANIFEST, MANIFEST_TEMPORARY};
use crate::storage::{base, segments};

/// Bytes copied between two looks.
const LOOK_BYTES: u64 = 16 << 20;

/// Watches that a backup leaves enough of the disk.
pub(super) struct Room<'a> {
    destination: PathBuf,
    /// `None` when nothing else depends on the disk.
    kept_free_bytes: Option<u64>,
    free_bytes: &'a dyn Fn() -> io::Result<u64>,
    /// With so many bytes copied it is looked again.
    next_look_bytes: u64,
}

impl<'a> Room<'a> {
    pub(super) fn new(
        destination: &Path,
        kept_free_bytes: Option<u64>,
        free_bytes: &'a dyn Fn() -> io::Result<u64>,
    ) -> Self {
        Self { destination: destination.to_owned(), kept_free_bytes, free_bytes, next_look_bytes: 0 }
    }

    /// Refuses what would take more than there is to spare.
    pub(super) fn expect(&self, bytes_total: u64) -> Result<(), StoreError> {
        self.check(bytes_total)
    }

    /// Refuses to go on when others have taken the room meanwhile.
    pub(super) fn look(&mut self, bytes_copied: u64) -> Result<(), StoreError> {
        if bytes_copied < self.next_look_bytes {
            return Ok(());
        }
        self.next_look_bytes = bytes_copied.saturating_add(LOOK_BYTES);
        self.check(0)
    }

    fn check(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(kept_free_bytes) = self.kept_free_bytes else { return Ok(()) };
        // Where that can't be told, writing fails in the end.
        let Ok(free_bytes) = (self.free_bytes)() else { return Ok(()) };
        let needed_bytes = bytes.saturating_add(kept_free_bytes);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(StoreError::Io {
            context: self.destination.display().to_string(),
            message: format!(
                "it is on the disk of the data directory, which has {} MiB free; the backup and what must stay free for \
                 the gateway take {} MiB. Write it to another disk",
                free_bytes >> 20,
                (needed_bytes >> 20) + 1
            ),
        })
    }
}

/// Whether what is written to `destination`, which need not be there, takes room from `directory`. So it is thought to be
/// when that can't be told.
pub(super) fn shares_disk(directory: &Path, destination: &Path) -> bool {
    let device_of = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let destination = destination.ancestors().find_map(device_of);
    destination.or_else(|| device_of(Path::new("."))).is_none_or(|device| device_of(directory) == Some(device))
}

/// Removes what was written of a backup. What fails here stays, and is no backup without its list.
pub(super) fn remove_half(destination: &Path, was_there: bool) {
    for name in [MANIFEST, MANIFEST_TEMPORARY] {
        let _ = std::fs::remove_file(destination.join(name));
    }
    for name in [base::DIRECTORY, segments::DIRECTORY] {
        let _ = std::fs::remove_dir_all(destination.join(name));
    }
    if !was_there {
        let _ = std::fs::remove_dir(destination);
    }
}
